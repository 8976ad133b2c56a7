"""Alpaca behind the broker protocol, over alpaca-py.

The problem. alpaca-py sends an order again after a 504 without being asked, waits for ever on a server that hangs,
turns money into floats, loses a whole list to one unknown word, and has no method for account activities. Alpaca
itself shows no tax lots, overloads its error codes, queues an order that comes too late for the next day, and tells a
stream's news once. This package keeps of alpaca-py what it is good for - addresses, authentication, the stream's
handshake and reconnects - and does the rest here:

| module                 | what it answers                                                                           |
|------------------------|-------------------------------------------------------------------------------------------|
| `endpoints.py`         | where requests may go, and the keys that open it                                          |
| `transport.py`         | one alpaca-py client made safe, and what a failed request becomes                         |
| `door.py`              | what may leave, how long is waited, how answers are read: the last code before the socket |
| `deadline.py`          | exchanges that are over in time, however slowly the other side answers                    |
| `budget.py`            | calls a minute, with a part kept back for cancels and look-ups                            |
| `answer.py`            | one JSON object, read field by field; what is missing or mistyped is named                |
| `sessions.py`          | the broker's clock between two questions, and its calendar                                |
| `account.py`           | cash, what of it is settled, restrictions, positions                                      |
| `orders.py`            | orders: Alpaca's many words for six states, lists, changes                                |
| `activities.py`        | account history: the table of activity types, and a cursor that misses nothing booked     |
|                        | late                                                                                      |
| `market_data.py`       | quotes and daily closes                                                                   |
| `corporate_actions.py` | what issuers did, as announced                                                            |
| `securities.py`        | what may be traded                                                                        |
| `reader.py`            | all of that as a `BrokerReader`; it cannot send                                           |
| `refusals.py`          | what a refused order means, by status and words                                           |
| `desk.py`              | the reader with submit and cancel. Whoever only looks never imports it                    |
| `stream.py`            | order updates, stored raw before anything else is done with them                          |
| `listener.py`          | the thread behind them: alpaca-py's TradingStream, made to notice                         |

Sources: Alpaca's OpenAPI documents of June 2026, recorded paper-trading answers of October 2026, alpaca-py 0.44.
alpaca-py brings pandas along, so it is imported when the first request is made, not before.
"""

from brokers.alpaca.endpoints import Endpoints, Keys
from brokers.alpaca.orders import order_of_event
from brokers.alpaca.reader import AlpacaReader
from brokers.alpaca.stream import TradeUpdates

__all__ = ["AlpacaReader", "Endpoints", "Keys", "TradeUpdates", "order_of_event"]
