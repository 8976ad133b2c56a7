"""The simulated venue: a broker that answers from past prices, with a book of its own.

The problem. The demo, the backtest and the fault tests need a broker, and a broker that merely echoed the
daemon's own ledger would agree with every mistake in it. So this one is a venue in its own right: its own
SQLite file, its own order book-keeping, its own cash, lots and disposals, its own history with stable ids. It
imports records and reason codes and nothing else of harvestd; when ledger and venue agree, two programs do.

The world has only closing prices, and no decision may see the price it fills at:

    before the close of session S   quotes are the close of S-1 half a spread either side, scaled for a split
                                    that took effect in between; bars end at S-1
    orders accepted during S        execute at the close of S, half a spread against us: market and marketable
                                    limit orders at the first match tick after acceptance (opens_at + k *
                                    match_interval_s), market-on-close at closes_at, which is the last tick
    from closes_at on               quotes and bars show the close of S

A sell filled at 15:46 is cash for a buy sent at 15:47. Prices are rounded against us to the precision of the
close, never coarser than a cent nor finer than 1/100 of one (2 to 4 decimals); amounts to the cent, half up.

The order of things at one instant, and what each instant does:

    closes_at - 10 min   last moment for market-on-close orders
    closes_at            last matching round, then whatever is left expires (all orders are for the day)
    opens_at - 2 h       corporate actions of the session: dividends on the shares held since the last close,
                         then splits. Fractions are kept to 9 decimals of the position, also in an account of
                         whole shares; such a fraction leaves when the whole position is sold, in that one order
    midnight, New York   sale proceeds due that day (T+1) become settled cash

Chance (partial fills, rejections) is hashed from the seed and the client order id, never drawn from a sequence:
an order's fate does not depend on what else was sent, nor on a restart in between. Activity and order ids are
hashed from content and account number, so the same commands give the same history byte for byte.

Every event is one transaction; a process killed at any moment leaves the venue as of its last whole event, and
`advance_to` goes on from there. One process at a time: a second writer is detected and refused.
"""

from brokers.simulated.adapter import SimulatedBroker
from brokers.simulated.book import Disposal, VenueLot
from brokers.simulated.errors import VenueError, VenueMismatch
from brokers.simulated.venue import SimulatedVenue
from brokers.simulated.world import VenuePrices, VenueSession, VenueSettings

__all__ = [
    "Disposal",
    "SimulatedBroker",
    "SimulatedVenue",
    "VenueError",
    "VenueLot",
    "VenueMismatch",
    "VenuePrices",
    "VenueSession",
    "VenueSettings",
]
