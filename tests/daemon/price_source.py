"""A source of prices to tell stories about: closes as traded, splits and dividends, and what it says of them on a day.

It adjusts backwards as brokers do: what it answers on a day is adjusted for what has gone ex by then, so that answers
of two days do not fit together. `told` replaces or withholds single bars, `late` makes it learn of a split or dividend
days after it happened, and `asked` remembers every question.

Names wander quietly around 50, 60, ... USD, the same in every run. Sessions are weekdays from Monday 2024-01-01 on,
open from 14:30 to 21:00 UTC; it is seven in the evening in New York, so that the day's session is over.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from brokers.errors import BrokerUnavailable
from daemon.market_calendar import MarketCalendar, SessionTimes
from daemon.market_data import Feed, QuarantinePolicy
from state.records import CorporateAction, CorporateActionKind, CorporateNotice, DailyBar, Security
from state.store import FindingKind, Store

D = Decimal
FIRST = date(2024, 1, 1)
SESSIONS = 300
ONE_DAY = timedelta(days=1)


def weekdays(first: date = FIRST, count: int = SESSIONS) -> tuple[date, ...]:
    """So many weekdays from `first` on."""
    days = (first + timedelta(days=number) for number in range(2 * count))
    return tuple(day for day in days if day.weekday() < 5)[:count]


DAYS = weekdays()


def calendar_of(days: Iterable[date]) -> MarketCalendar:
    """The exchange open on those days."""
    return MarketCalendar(
        tuple(
            SessionTimes(day, datetime.combine(day, time(14, 30), UTC), datetime.combine(day, time(21), UTC))
            for day in days
        )
    )


def quiet(names: Iterable[str], days: tuple[date, ...] = DAYS) -> dict[str, dict[date, Decimal]]:
    """Closes that move by about one per cent a session."""
    rng = np.random.default_rng(20240101)
    found = {}
    for place, name in enumerate(names):
        path = (50 + 10 * place) * np.exp(np.cumsum(0.01 * rng.standard_normal(len(days))))
        found[name] = {day: D(str(round(float(price), 2))) for day, price in zip(days, path, strict=True)}
    return found


@dataclass
class EveningClock:
    """Seven in the evening in New York, of whatever day it is said to be."""

    day: date
    ticks: float = 0.0

    def now(self) -> datetime:
        return datetime.combine(self.day + ONE_DAY, time(0), UTC)

    def monotonic(self) -> float:
        self.ticks += 1.0
        return self.ticks

    def sleep(self, seconds: float) -> None: ...


@dataclass
class Source:
    """A broker, as far as prices go."""

    clock: EveningClock
    closes: dict[str, dict[date, Decimal]]
    splits: dict[tuple[str, date], tuple[int, int]] = field(default_factory=dict)  # new for old, on the ex-date
    dividends: dict[tuple[str, date], Decimal] = field(default_factory=dict)  # USD on each share after a split
    told: dict[tuple[str, date], DailyBar | None] = field(default_factory=dict)
    twice: list[DailyBar] = field(default_factory=list)  # bars told beside the right ones
    late: dict[tuple[str, date], date] = field(default_factory=dict)  # from when on its prices know of an event
    others: list[CorporateNotice] = field(default_factory=list)
    untold: set[tuple[str, date]] = field(default_factory=set)  # events that its corporate actions leave out
    unknown: set[str] = field(default_factory=set)
    untradable: set[str] = field(default_factory=set)
    fails_after: int | None = None  # questions for bars
    asked: list[tuple[tuple[str, ...], date, date]] = field(default_factory=list)

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        names = tuple(symbols)
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise BrokerUnavailable("no answer in 30 s")
        self.asked.append((names, start, end))
        bars = [bar for name in names for bar in self._series(name) if start <= bar.session <= end]
        bars += [bar for bar in self.twice if bar.symbol in names and start <= bar.session <= end]
        return tuple(sorted(bars, key=lambda bar: (bar.session, bar.symbol)))

    def _series(self, name: str) -> list[DailyBar]:
        """The name's bars until today, adjusted from the newest one backwards."""
        days = sorted(day for day in self.closes.get(name, {}) if day <= self.clock.day)
        factor, found = D(1), []
        for place in range(len(days) - 1, -1, -1):
            day, close = days[place], self.closes[name][days[place]]
            bar = self.told.get((name, day), DailyBar(name, day, close, close * factor))
            if bar is not None:
                found.append(bar)
            if place > 0 and self.late.get((name, day), day) <= self.clock.day:
                factor *= self._factor(name, day, self.closes[name][days[place - 1]])
        return found[::-1]

    def _factor(self, name: str, day: date, before: Decimal) -> Decimal:
        """What closes before `day` are multiplied with."""
        new, old = self.splits.get((name, day), (1, 1))
        cash = self.dividends.get((name, day), D(0))
        return (before - cash * new / old) / before * old / new

    def corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        found = [split_notice(name, day, *ratio) for (name, day), ratio in self.splits.items()]
        found += [dividend_notice(name, day, cash) for (name, day), cash in self.dividends.items()]
        found = [one for one in found if (one.symbol, one.ex_date) not in self.untold] + self.others
        wanted = set(symbols)
        return tuple(one for one in found if one.symbol in wanted and start <= one.ex_date <= end)

    def assets(self, symbols: Iterable[str]) -> Mapping[str, Security]:
        return {
            name: Security(name, f"{name} Inc.", cusip=f"{name}000", tradable=name not in self.untradable)
            for name in symbols
            if name in self.closes and name not in self.unknown
        }


def split_notice(name: str, day: date, new: int, old: int) -> CorporateNotice:
    """A split, as a source announces it."""
    key = f"split-{name}-{day}"
    action = CorporateAction(key, CorporateActionKind.SPLIT, name, day, D(new), D(old))
    return CorporateNotice(key, "forward_split" if new > old else "reverse_split", name, day, action)


def dividend_notice(name: str, day: date, cash: Decimal) -> CorporateNotice:
    """A cash dividend, as a source announces it."""
    return CorporateNotice(f"dividend-{name}-{day}", "cash_dividend", name, day, per_share=cash)


def rename_notice(name: str, day: date, to: str) -> CorporateNotice:
    """A new symbol, as a source announces it."""
    key = f"rename-{name}-{day}"
    action = CorporateAction(key, CorporateActionKind.SYMBOL_CHANGE, name, day, to_symbol=to)
    return CorporateNotice(key, "name_change", name, day, action)


def spinoff_notice(name: str, day: date) -> CorporateNotice:
    """A spin-off that only a person can book."""
    return CorporateNotice(f"spinoff-{name}-{day}", "spin_off", name, day, needs_person=True)


@dataclass
class Shop:
    """A source, a store, and the day it is."""

    feed: Feed
    source: Source
    clock: EveningClock
    store: Store

    def on(self, session: int) -> Shop:
        """The evening of a session."""
        self.clock.day = DAYS[session]
        return self

    def series(self, name: str) -> dict[date, DailyBar]:
        """The bars of a name that may be used, by session."""
        return {bar.session: bar for bar in self.store.market.series(name)}

    def open(self, *kinds: FindingKind) -> list[tuple[str, date, FindingKind]]:
        """Open findings, of some kinds or all."""
        found = self.store.market.findings(kinds or None, only_open=True)
        return [(one.symbol, one.session, one.kind) for one in found]


def open_shop(folder: Path, empty: Path, names: Iterable[str], day: date, **policy: Any) -> Shop:
    """A shop with the quiet prices of `names`, nothing stored yet, in the evening of `day`."""
    path = folder / "house.db"
    if not path.exists():
        shutil.copyfile(empty, path)
    clock = EveningClock(day)
    source = Source(clock, quiet(names))
    store = Store.open(path, durable=False)
    feed = Feed(store, source, calendar_of(DAYS), clock, QuarantinePolicy(**policy))  # type: ignore[arg-type]
    return Shop(feed, source, clock, store)


@dataclass(frozen=True)
class Returns:
    """Total return of each session over the bar before. Equal where the sessions are the same and no return differs by
    more than 1e-11: twelve significant digits are stored."""

    of: Mapping[date, Decimal]

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Returns)
        return self.of.keys() == other.of.keys() and all(
            abs(self.of[day] - other.of[day]) <= D("1e-11") for day in self.of
        )


def returns(series: Mapping[date, DailyBar]) -> Returns:
    """The returns of a series, as ratios."""
    return Returns({day: series[day].adjusted / series[before].adjusted for before, day in pairwise(sorted(series))})
