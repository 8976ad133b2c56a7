"""A loopback Alpaca in a process of its own: `python -m loopback --db FILE --port N --world demo`.

Everything it knows is in FILE, so it can be killed at any moment and started again with the same arguments. Time
stands still until someone posts to /loopback/advance.
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from brokers.simulated import VenuePrices, VenueSettings
from loopback.server import LoopbackAlpaca
from loopback.worlds import demo_prices, open_venue, synthetic_prices

KEY_ID, SECRET_KEY = "PKLOOPBACK", "loopback-secret"
WORLDS: dict[str, Callable[[], VenuePrices]] = {
    "demo": demo_prices,
    "synthetic": synthetic_prices,
    "small": lambda: synthetic_prices(names=5, sessions=60),
}


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loopback", description="Alpaca on 127.0.0.1, for tests.")
    parser.add_argument("--db", required=True, type=Path, help="the venue's file, made or continued")
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0 takes any")
    parser.add_argument("--world", choices=sorted(WORLDS), default="demo", help="the prices it lives on")
    parser.add_argument("--start", type=date.fromisoformat, help="its first day, YYYY-MM-DD (a new file only)")
    parser.add_argument("--cash", type=Decimal, default=Decimal(100_000), help="the opening deposit in USD")
    parser.add_argument("--account-number", default="PA3LOOPBACK1")
    parser.add_argument("--key-id", default=KEY_ID)
    parser.add_argument("--secret-key", default=SECRET_KEY)
    parser.add_argument("--whole-shares", action="store_true", help="take no fractions of shares")
    parser.add_argument("--partial-fills", type=float, default=0.0, help="share of the orders that fill in parts")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    given = parsed(arguments)
    settings = VenueSettings(
        seed="loopback",
        half_spread_bps=Decimal(2),
        partial_fill_probability=given.partial_fills,
        fractional=not given.whole_shares,
    )
    venue = open_venue(
        given.db,
        WORLDS[given.world](),
        start=given.start,
        cash=given.cash,
        account_number=given.account_number,
        settings=settings,
    )
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with LoopbackAlpaca(venue, key_id=given.key_id, secret_key=given.secret_key, port=given.port) as server:
        print(f"listening on {server.url}", flush=True)
        done.wait()
    venue.close()


if __name__ == "__main__":
    main()
