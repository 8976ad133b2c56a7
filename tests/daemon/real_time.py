"""A person's paper account in real time: the loopback Alpaca on synthetic prices, its clock kept at this machine's.

As in `practice.py`, `harvestd` runs in processes of its own. Here time passes by itself, as under systemd, and nothing
of it can be skipped: keep stories short.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from loopback import LoopbackAlpaca
from loopback.worlds import synthetic_prices
from practice import KEY_ID, NUMBER, SECRET, Practice

from brokers.simulated import SimulatedVenue, VenueSettings
from daemon.clock import WallClock

NAMES, SESSIONS = 6, 900  # more than the two years of prices that are loaded
AHEAD = timedelta(days=40)
TICK_S = 0.2


@contextmanager
def in_real_time(folder: Path, **sections: Any) -> Iterator[Practice]:
    """An account that was opened three days ago, and a configuration; `sections` change it."""
    now = WallClock().now()
    prices = synthetic_prices(NAMES, SESSIONS, last=now.date() + AHEAD)
    venue = SimulatedVenue(
        folder / "venue.db", prices, VenueSettings(seed="now"), account_number=NUMBER, start=now - timedelta(days=3)
    )
    venue.deposit(Decimal(100_000), reference="opening")
    server = LoopbackAlpaca(venue, key_id=KEY_ID, secret_key=SECRET, account_number=NUMBER, loopback_clock=False)
    home = folder / "home"
    home.mkdir()
    over = threading.Event()

    def keep_time() -> None:
        while not over.is_set():
            server.advance_to(max(WallClock().now(), venue.now))
            over.wait(TICK_S)

    clock = threading.Thread(target=keep_time, name="time at the broker")
    with server:
        clock.start()
        try:
            person = Practice(home, server)
            person.harvestd("init", "--yes")
            person.keys()
            person.configure(
                alpaca={"loopback_url": server.url, "requests_per_minute": 10_000},
                credentials={"directory": "keys"},
                history={"load_years": 2},
                benchmark={"symbols": sorted(prices.symbols)},
                risk={"factors": 3, "window_sessions": 252},
                optimizer={"name_weight_max_pct": 40},
                **sections,
            )
            yield person
        finally:
            over.set()
            clock.join()
    venue.close()
