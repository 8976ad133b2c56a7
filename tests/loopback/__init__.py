"""A loopback Alpaca: the real alpaca-py runs against it, over real sockets, on a simulated clock.

The problem. What an adapter believes of Alpaca can only be proved against something that answers as Alpaca answers:
numbers as strings, nanoseconds, the same error code for five different things, a stream of binary JSON, another of
MessagePack; and that goes wrong as it goes wrong: a 504 for an order it took, a socket that stays open and says
nothing. Recordings can show the first but not the second, and a mock shows only what its author believed.

So this is a server, with a venue behind it that keeps books of its own (`brokers.simulated`). It translates the
venue's state into Alpaca's wire format and a request into the venue's commands; it decides nothing. Time is the
venue's: nothing here reads the wall clock for anything a client sees.

    wire.py         the shapes: numbers, instants, ids, accounts, positions, assets, orders, bars, quotes
    errors.py       the refusals: status, body, words
    history.py      the venue's log as Alpaca's events and activities, each with its time
    orders.py       orders in: form, self-trade prevention, the venue's refusals in Alpaca's words
    trading.py      /v2/... of the trading API
    data.py         /v2/stocks/..., /v1/corporate-actions
    streams.py      trade updates and market data
    faults.py       what can go wrong, as a script
    control.py      /loopback/...: time, faults and commands for other processes
    limits.py       the rate limit and its headers
    conformance.py  answers against Alpaca's OpenAPI documents
    server.py       all of it together: LoopbackAlpaca
    transport.py    HTTP; websocket.py: one websocket
    requests.py     what arrives; routing.py: who answers; replies.py: what leaves
    clients.py      the real alpaca-py, set up for tests
    worlds.py       worlds to run it on; __main__.py: as a process of its own

What is different from Alpaca is listed in README.md.
"""

from loopback.faults import Fault, FaultKind
from loopback.requests import RecordedRequest
from loopback.server import LoopbackAlpaca

__all__ = ["Fault", "FaultKind", "LoopbackAlpaca", "RecordedRequest"]
