"""The first load of prices: how fast it is stored, what it takes, and that a killed one goes on where it was.

500 names, ten years of daily bars, from a broker in memory that answers at once: measured is harvestd's own part,
judging and storing. Each name pays a dividend a quarter and splits once in five years, which the broker's adjusted
prices know of. Then an evening is taken in, and the whole history read as the daemon reads it at its start. At last a
process of its own is killed with SIGKILL in the middle of a load, and another one goes on.

    python benchmarks/market_data.py [--names 500] [--years 10] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zlib import crc32

import numpy as np

from daemon.market_calendar import MarketCalendar
from daemon.market_data import Feed, Progress, load_history, update_daily
from state.records import CorporateAction, CorporateActionKind, CorporateNotice, DailyBar
from state.store import Store
from strategy.history import history_from_bars

LAST = date(2026, 11, 20)  # a Friday
TARGETS = {"load_seconds": 60.0, "evening_seconds": 5.0, "idle_memory_mb": 250.0}
QUARTER, FIVE_YEARS = 63, 1260  # sessions
DIVIDEND = 0.005  # of the close
VOLATILITY = 0.015  # a session


@dataclass
class Clock:
    """An evening, of whatever day it is said to be."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None: ...


@dataclass
class MemoryBroker:
    """Prices made up as they are asked for, the same in every process."""

    calendar: MarketCalendar
    clock: Clock
    calls: int = 0
    seconds: float = 0.0  # spent here
    told: bool = False  # whether to print what is asked
    notices: dict[str, list[CorporateNotice]] = field(default_factory=dict)

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        began = time.perf_counter()
        names = list(symbols)
        self.calls += 1
        if self.told:
            print(" ".join(names), flush=True)
        bars = [bar for name in names for bar in self._bars(name, start, end)]
        self.seconds += time.perf_counter() - began
        return tuple(bars)

    def corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        began = time.perf_counter()
        found = tuple(
            one for name in symbols for one in self._events(name) if start <= one.ex_date <= min(end, self._today())
        )
        self.seconds += time.perf_counter() - began
        return found

    def _today(self) -> date:
        newest = self.calendar.last_closed(self.clock.now())
        assert newest is not None
        return newest.session

    def _days(self) -> list[date]:
        return [item.session for item in self.calendar.between(self.calendar.sessions[0].session, self._today())]

    def _bars(self, name: str, start: date, end: date) -> list[DailyBar]:
        days = self._days()
        total, raw = self._prices(name, len(days))
        adjusted = raw * (total / total[-1]) / (raw / raw[-1])
        wanted = range(len(days))
        return [
            DailyBar(name, days[place], _usd(raw[place]), _usd(adjusted[place]), Decimal(1_000_000))
            for place in wanted
            if start <= days[place] <= end
        ]

    def _prices(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Total-return level and close as traded, of the first `count` sessions."""
        rng = np.random.default_rng(crc32(name.encode()))
        steps = VOLATILITY * np.clip(rng.standard_normal(count), -5, 5) + 0.0003
        total = 100 * np.exp(np.cumsum(steps))
        places = np.arange(count)
        paid = (1 - DIVIDEND) ** (places // QUARTER)
        return total, total * paid * 0.5 ** (places // FIVE_YEARS)

    def _events(self, name: str) -> list[CorporateNotice]:
        if name not in self.notices:
            days = self._days()
            _, raw = self._prices(name, len(days))
            found = []
            for place in range(QUARTER, len(days), QUARTER):
                key = f"{name}-{days[place]}"
                if place % FIVE_YEARS == 0:
                    action = CorporateAction(f"split-{key}", CorporateActionKind.SPLIT, name, days[place], Decimal(2))
                    found.append(CorporateNotice(action.action_id, "forward_split", name, days[place], action))
                shares = 2 if place % FIVE_YEARS == 0 else 1
                cash = _usd(raw[place - 1] * DIVIDEND / shares)
                found.append(CorporateNotice(f"cash-{key}", "cash_dividend", name, days[place], per_share=cash))
            self.notices[name] = found
        return self.notices[name]


def _usd(value: float) -> Decimal:
    return Decimal(f"{value:.4f}")


def feed_for(database: Path, years: int) -> Feed:
    """A feed from the broker in memory into a database, on the evening before the last session."""
    calendar = MarketCalendar.new_york(
        LAST.replace(year=LAST.year - years - 1, month=1, day=1), LAST + timedelta(days=90)
    )
    clock = Clock(datetime.combine(LAST, datetime.min.time(), UTC) + timedelta(hours=1))
    store = Store.open(database, create=True)
    return Feed(store, MemoryBroker(calendar, clock), calendar, clock)  # type: ignore[arg-type]


def names_of(count: int) -> list[str]:
    return [f"N{number:04d}" for number in range(count)]


def start_of(years: int) -> date:
    return LAST.replace(year=LAST.year - years)


def memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ------------------------------------------------------------------ measuring


def measured(names: int, years: int, folder: Path) -> dict[str, float]:
    feed = feed_for(folder / "load.db", years)
    broker = feed.broker
    assert isinstance(broker, MemoryBroker)
    symbols, figures = names_of(names), {}
    before = memory_mb()
    began = time.perf_counter()
    loaded = load_history(feed, symbols, start_of(years), watcher=_progress)
    figures["load_seconds"] = time.perf_counter() - began
    figures["load_seconds_without_broker"] = figures["load_seconds"] - broker.seconds
    figures["bars"] = loaded.bars
    figures["bars_a_second"] = loaded.bars / figures["load_seconds_without_broker"]
    figures["calls"] = broker.calls
    figures["findings"] = len(feed.store.market.findings())
    figures["load_memory_mb"] = memory_mb() - before

    assert isinstance(feed.clock, Clock)
    feed.clock.at += timedelta(days=1)
    began, spent, calls = time.perf_counter(), broker.seconds, broker.calls
    update = update_daily(feed, symbols)
    figures["evening_seconds"] = time.perf_counter() - began - (broker.seconds - spent)
    figures["evening_bars"], figures["evening_calls"] = len(update.bars), broker.calls - calls

    began = time.perf_counter()
    history = history_from_bars(feed.store.market.bars(), symbols)
    figures["read_seconds"] = time.perf_counter() - began
    figures["sessions_read"] = len(history.sessions)
    figures["database_mb"] = (folder / "load.db").stat().st_size / 1e6
    feed.store.close()
    return figures


def _progress(now: Progress) -> None:
    if now.names_done % 100 < 3:
        left = f"{now.seconds_left:.0f} s left"
        print(f"  {now.names_done} of {now.names_total} names, {now.bars:,} bars, {left}", file=sys.stderr)


def killed(names: int, years: int, folder: Path) -> dict[str, float]:
    """A load killed with SIGKILL after half of its calls, and the one that goes on: names asked for by both."""
    command = [
        sys.executable,
        __file__,
        "--names",
        str(names),
        "--years",
        str(years),
        "--child",
        str(folder / "kill.db"),
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    asked: list[str] = []
    while len(asked) < names // 2:
        asked += first.stdout.readline().split()
    os.kill(first.pid, signal.SIGKILL)
    asked += first.stdout.read().split()
    first.wait()
    store = Store.open(folder / "kill.db", read_only=True)
    kept = len(store.market.coverage())
    store.close()
    began = time.perf_counter()
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    again = second.stdout.split()
    return {
        "killed_after_names": kept,
        "resumed_names": len(again),
        "names_asked_for_twice": len(set(asked[:kept]) & set(again)),
        "resume_seconds": time.perf_counter() - began,
    }


def child(database: Path, names: int, years: int) -> None:
    """A load that says what it asks for."""
    feed = feed_for(database, years)
    assert isinstance(feed.broker, MemoryBroker)
    feed.broker.told = True
    load_history(feed, names_of(names), start_of(years))
    feed.store.close()


def idle(database: Path, names: int, years: int) -> dict[str, float]:
    """Memory of a process that has read the whole history, as the daemon has when it waits."""
    words = ["--names", str(names), "--years", str(years), "--idle", str(database)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
    return {"idle_memory_mb": float(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--idle", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.names, options.years)
        return
    if options.idle is not None:
        store = Store.open(options.idle, read_only=True)
        history = history_from_bars(store.market.bars(), names_of(options.names))
        assert history.sessions
        print(memory_mb())
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        figures = measured(options.names, options.years, folder)
        figures |= idle(folder / "load.db", options.names, options.years)
        figures |= killed(options.names, options.years, folder)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        target = f"   target {TARGETS[name]:g}" if name in TARGETS else ""
        print(f"{name:>30} {value:>14,.3f}{target}")


if __name__ == "__main__":
    main()
