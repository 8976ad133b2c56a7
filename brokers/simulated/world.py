"""The world the venue runs on: sessions, price history, settings, and what their contents hash to.

Everything here is immutable and checked once. Lookups are by session index: `Schedule.upcoming(now)` is the index
of the session whose close comes next, which is also the number of finished sessions.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo

from state.records import BrokerClock, ReliefMethod, Security

V = TypeVar("V")

NEW_YORK = ZoneInfo("America/New_York")
PRE_OPEN = timedelta(hours=2)  # corporate actions are booked this long before the open
AFTER_HISTORY_OPEN = time(14, 30, tzinfo=UTC)  # what the clock announces once the history has run out
AFTER_HISTORY_CLOSE = time(21, 0, tzinfo=UTC)


def as_utc(instant: datetime) -> datetime:
    """The instant in UTC. Raises ValueError when it carries no time zone."""
    if instant.tzinfo is None:
        raise ValueError(f"Expected a timezone-aware instant, was {instant.isoformat()}")
    return instant.astimezone(UTC)


@dataclass(frozen=True)
class VenueSession:
    """One trading session: the market is open in [opens_at, closes_at), both UTC."""

    session: date
    opens_at: datetime
    closes_at: datetime


@dataclass(frozen=True)
class VenuePrices:
    """The price history, aligned with `sessions`.

    `closes[symbol][i]` is the close of session i in USD as traded, None where the symbol did not trade.
    `adjusted` is the total-return series (None: the closes themselves). `dividends` are USD per share on the
    ex-date, `splits` are (new, old) effective before the open of that date; a date that is no session counts for
    the next one. A symbol without an entry in `securities` is known by its symbol alone, and takes whole shares.
    """

    sessions: tuple[VenueSession, ...]
    symbols: tuple[str, ...]
    closes: Mapping[str, tuple[Decimal | None, ...]]
    adjusted: Mapping[str, tuple[Decimal | None, ...]] | None = None
    dividends: Mapping[tuple[str, date], Decimal] = field(default_factory=dict)
    splits: Mapping[tuple[str, date], tuple[Decimal, Decimal]] = field(default_factory=dict)
    securities: Mapping[str, Security] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_sessions(self.sessions)
        for name, series_of in (("closes", self.closes), ("adjusted", self.adjusted or {})):
            for symbol, series in series_of.items():
                if len(series) != len(self.sessions):
                    raise ValueError(f"Expected {len(self.sessions)} {name} of {symbol}, was {len(series)}")
        for symbol in self.symbols:
            closes = self.closes[symbol]
            if any(close is not None and close <= 0 for close in closes):
                raise ValueError(f"Expected positive closes of {symbol}")
            if self.adjusted is not None and any(
                close is not None and adjusted is None
                for close, adjusted in zip(closes, self.adjusted[symbol], strict=True)
            ):
                raise ValueError(f"Expected an adjusted price of {symbol} wherever there is a close")

    def fingerprint(self) -> str:
        """SHA-256 over everything in it, in hexadecimal."""
        digest = hashlib.sha256()
        for session in self.sessions:
            digest.update(f"{session.session}|{session.opens_at}|{session.closes_at}\n".encode())
        for series_of in (self.closes, self.adjusted or {}):
            for symbol in self.symbols:
                digest.update(f"{symbol}|{'|'.join(map(str, series_of.get(symbol, ())))}\n".encode())
        for key, dividend in sorted(self.dividends.items()):
            digest.update(f"dividend|{key}|{dividend}\n".encode())
        for key, ratio in sorted(self.splits.items()):
            digest.update(f"split|{key}|{ratio}\n".encode())
        for symbol, security in sorted(self.securities.items()):
            digest.update(f"{symbol}|{security}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class VenueSettings:
    """How the venue behaves.

    `half_spread_bps` is half the bid-ask spread in basis points of the price. `partial_fill_probability`: an order
    fills a fraction first and the rest one tick later; of these, one in four never fills its rest and expires.
    `rejection_probability`: the order is turned down, half of the time on arrival, half after acceptance.
    `fractional` allows fractions of the securities that are fractionable; `lot_selection` lets a sell name lots.
    """

    seed: str
    half_spread_bps: Decimal = Decimal(1)
    partial_fill_probability: float = 0.0
    rejection_probability: float = 0.0
    relief_method: ReliefMethod = ReliefMethod.FIFO
    fractional: bool = False
    lot_selection: bool = False
    settlement_days: int = 1
    match_interval_s: int = 60
    market_on_close_cutoff_s: int = 600

    def __post_init__(self) -> None:
        for name in ("partial_fill_probability", "rejection_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected {name} in [0, 1], was {getattr(self, name)}")
        if not 0 <= self.half_spread_bps < 10_000:
            raise ValueError(f"Expected half_spread_bps in [0, 10000), was {self.half_spread_bps}")
        if self.match_interval_s <= 0 or self.settlement_days < 0:
            raise ValueError("Expected match_interval_s > 0 and settlement_days >= 0")
        if self.relief_method is ReliefMethod.SPECIFIC and not self.lot_selection:
            raise ValueError("Expected lot_selection with the relief method specific: such sales name their lots")

    def fingerprint(self) -> str:
        """Every setting by name, as text."""
        return " ".join(f"{item.name}={getattr(self, item.name)}" for item in fields(self))


def _check_sessions(sessions: tuple[VenueSession, ...]) -> None:
    previous: VenueSession | None = None
    for session in sessions:
        if as_utc(session.opens_at) >= as_utc(session.closes_at):
            raise ValueError(f"Expected session {session.session} to open before it closes")
        if previous is not None and (
            previous.session >= session.session or previous.closes_at > session.opens_at - PRE_OPEN
        ):
            raise ValueError(f"Expected session {session.session} to begin {PRE_OPEN} or more after the one before")
        previous = session
    if not sessions:
        raise ValueError("Expected at least one session, was none")


class Schedule:
    """When things happen: sessions by instant, match ticks, corporate actions, settlement dates."""

    def __init__(self, prices: VenuePrices, settings: VenueSettings) -> None:
        self.sessions = prices.sessions
        self._interval = timedelta(seconds=settings.match_interval_s)
        self._settlement_days = settings.settlement_days
        self._dates = [session.session for session in self.sessions]
        self.opens = [as_utc(session.opens_at) for session in self.sessions]
        self.closes = [as_utc(session.closes_at) for session in self.sessions]
        self.dividends = self._by_session(prices.dividends)
        self.splits = self._by_session(prices.splits)
        self._action_sessions = sorted({*self.dividends, *self.splits})
        self._action_instants = [self.actions_at(index) for index in self._action_sessions]

    def _by_session(self, events: Mapping[tuple[str, date], V]) -> dict[int, list[tuple[str, V]]]:
        found: defaultdict[int, list[tuple[str, V]]] = defaultdict(list)
        for (symbol, day), value in sorted(events.items(), key=lambda item: (item[0][1], item[0][0])):
            index = bisect_left(self._dates, day)
            if index < len(self._dates):
                found[index].append((symbol, value))
        return dict(found)

    def upcoming(self, now: datetime) -> int:
        """Index of the first session that has not closed; the number of sessions once all have."""
        return bisect_right(self.closes, now)

    def open_session(self, now: datetime) -> int | None:
        """Index of the session in progress, or None when the market is closed."""
        index = self.upcoming(now)
        return index if index < len(self.opens) and self.opens[index] <= now else None

    def next_tick(self, index: int, now: datetime) -> datetime:
        """The first match tick of session `index` after `now`; the close is the last."""
        elapsed = (now - self.opens[index]) // self._interval
        return min(self.opens[index] + max(0, elapsed + 1) * self._interval, self.closes[index])

    def actions_at(self, index: int) -> datetime:
        """When the corporate actions of session `index` are booked."""
        return self.opens[index] - PRE_OPEN

    def next_actions(self, now: datetime) -> tuple[datetime, int] | None:
        """The next booking of corporate actions after `now`, with its session's index, or None."""
        position = bisect_right(self._action_instants, now)
        if position == len(self._action_instants):
            return None
        return self._action_instants[position], self._action_sessions[position]

    def trade_date(self, now: datetime) -> date:
        """The New York date of an instant."""
        return now.astimezone(NEW_YORK).date()

    def session_range(self, start: date, end: date, now: datetime) -> range:
        """Indices of the finished sessions dated in [start, end]."""
        return range(bisect_left(self._dates, start), min(bisect_right(self._dates, end), self.upcoming(now)))

    def settle_date(self, index: int) -> date:
        """Settlement date of a fill in session `index`; past the history, weekdays are counted."""
        due = index + self._settlement_days
        if due < len(self._dates):
            return self._dates[due]
        day = self._dates[-1]
        for _ in range(due - len(self._dates) + 1):
            day = _weekday_after(day)
        return day

    def clock(self, now: datetime) -> BrokerClock:
        """The market as announced at `now`. Past the history: closed until 14:30 UTC on the next weekday."""
        index = self.upcoming(now)
        is_open = index < len(self.opens) and self.opens[index] <= now
        following = index + 1 if is_open else index
        if following < len(self.opens):
            next_open, next_close = self.opens[following], self.closes[following]
        else:
            day = _weekday_after(now.date())
            next_open = datetime.combine(day, AFTER_HISTORY_OPEN)
            next_close = datetime.combine(day, AFTER_HISTORY_CLOSE)
        return BrokerClock(now, is_open, next_open, self.closes[index] if is_open else next_close)


def _weekday_after(day: date) -> date:
    day += timedelta(days=1)
    while day.weekday() >= 5:
        day += timedelta(days=1)
    return day
