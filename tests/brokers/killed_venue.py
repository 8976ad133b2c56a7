"""A program that trades at a venue and may be killed in the middle of a write: `killed_venue.py DIRECTORY N`.

At the N-th row written it kills itself with SIGKILL; N = 0 lets it live. Started again it goes on where the file
says it was, sending again only orders the venue does not know, as a careful client does.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from worlds import BEFORE, DAYS, D, at, buy, prices, sell, settings

from brokers.errors import OrderRefused
from brokers.simulated import SimulatedVenue
from brokers.simulated.storage import VenueFile


def die_at_row(count: int) -> None:
    """Let the process be killed just after it has written `count` rows."""
    written = 0

    def counting(name: str) -> None:
        original = getattr(VenueFile, name)

        def write(self: VenueFile, *arguments: object) -> None:
            nonlocal written
            original(self, *arguments)
            written += 1
            if written == count:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(VenueFile, name, write)

    for name in ("insert", "replace", "delete", "commit"):
        counting(name)


def run(directory: Path) -> SimulatedVenue:
    """Trade through the week, a few orders at each half hour, and return the venue."""
    world = prices(dividends={("AAA", DAYS[2]): D("0.25")}, splits={("BBB", DAYS[3]): (D(2), D(1))})
    chances = settings(partial_fill_probability=0.6, rejection_probability=0.2, half_spread_bps=D(3))
    venue = SimulatedVenue(directory / "venue.db", world, chances, start=BEFORE)
    venue.deposit(D(20_000), reference="opening")
    for session in range(1, len(DAYS)):
        for half_hour in range(14):
            instant = at(session, 14, 30) + timedelta(minutes=30 * half_hour)
            if venue.now > instant:
                continue
            venue.advance_to(instant)
            for number, symbol in enumerate(("AAA", "BBB", "FRC")):
                name = f"{session}-{half_hour}-{symbol}"
                order = buy(name, symbol, 7) if (half_hour + number) % 3 else sell(name, symbol, 4)
                if venue.broker().order_by_client_id(name) is None:
                    with suppress(OrderRefused):
                        venue.broker().submit(order)
    venue.advance_to(at(4, 23, 0))
    return venue


if __name__ == "__main__":
    die_at_row(int(sys.argv[2]))
    run(Path(sys.argv[1]))
