"""A first load, killed in the middle: `killed_load.py DATABASE N`.

In the transaction of the N-th call, when its bars are written and its coverage is not, the process kills itself with
SIGKILL; N = 0 lets it live. It prints the names of each call as they are asked for.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from price_source import DAYS, Source, open_shop

from daemon.market_data import load_history, loading
from state.store.market import MarketData

NAMES = tuple(f"N{letter}" for letter in "ABCDEFGHIJ")


class Telling(Source):
    """Prints what it is asked."""

    def daily_bars(self, symbols: Iterable[str], start: Any, end: Any) -> Any:
        names = tuple(symbols)
        print(" ".join(names), flush=True)
        return super().daily_bars(names, start, end)


def die_in_transaction(number: int) -> None:
    """Let the process be killed when it is about to write coverage for the `number`-th time."""
    seen, cover = 0, MarketData.cover

    def counting(market: MarketData, *arguments: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        cover(market, *arguments)

    MarketData.cover = counting  # type: ignore[method-assign]


if __name__ == "__main__":
    database, number = Path(sys.argv[1]), int(sys.argv[2])
    die_in_transaction(number)
    loading.BARS_A_CALL = 500  # two names a call
    shop = open_shop(database.parent, database, NAMES, DAYS[200])
    shop.source.__class__ = Telling
    load_history(shop.feed, NAMES, DAYS[0])
