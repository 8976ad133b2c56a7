"""The broker's clock between two questions, and its calendar.

An order that reaches Alpaca outside the session is not refused: it is queued, and fills the next morning. So no order
may leave unless the session is open by the broker's own clock, and asking for the time before each order would cost a
call each. Instead every answer of /v2/clock is an anchor: the broker's instant, and a reading of our monotonic clock
taken before the question left. From then on

    the broker's time = its instant + monotonic seconds since the question left        (never behind the truth)

and the same answer says until when the session lasts. The cycle asks for the time at each look anyway, so an order
costs nothing extra; an anchor older than a minute is thrown again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from brokers.alpaca.answer import NEW_YORK, Answer, answer, rows
from brokers.alpaca.transport import Wire
from brokers.errors import BrokerUnavailable
from state.records import BrokerClock

_ANCHOR_HOLDS_S = 60.0
_SETTLED_AFTER = timedelta(days=10)  # T+1 over the longest closing of the exchange
_AHEAD = timedelta(days=30)  # read along with a day that is asked for: settlement dates, and the days to come


class BrokerTime:
    """The broker's clock. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire, monotonic: Callable[[], float]) -> None:
        self._wire, self._monotonic = wire, monotonic
        self._anchor: tuple[float, BrokerClock] | None = None

    def read(self) -> BrokerClock:
        """Ask for the time: one call."""
        said = answer(self._wire.read("/clock"), "clock")
        clock = BrokerClock(
            at=said.instant("timestamp"),
            is_open=said.flag("is_open"),
            next_open=said.instant("next_open"),
            next_close=said.instant("next_close"),
        )
        self._anchor = self._wire.asked_at, clock
        return clock

    def now(self) -> datetime:
        """The broker's time by the last anchor, however old; asks only when there is none."""
        asked_at, clock = self._anchored()
        return clock.at + timedelta(seconds=self._monotonic() - asked_at)

    def today(self) -> date:
        """The date in New York."""
        return self.now().astimezone(NEW_YORK).date()

    def closes_at(self) -> datetime | None:
        """When the session that is open now will close; None when none is open. Asks when the anchor is too old."""
        asked_at, _ = self._anchored()
        if self._monotonic() - asked_at > _ANCHOR_HOLDS_S:
            self.read()
        _, clock = self._anchored()
        now = self.now()
        is_open = now < clock.next_close and (clock.is_open or now >= clock.next_open)
        return clock.next_close if is_open else None

    def _anchored(self) -> tuple[float, BrokerClock]:
        if self._anchor is None:
            self.read()
        assert self._anchor is not None
        return self._anchor


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session: its New York date, open and close in UTC, and when its trades settle, where told."""

    session: date
    opens_at: datetime
    closes_at: datetime
    settles: date | None


class Calendar:
    """The broker's calendar, read once for the days that are needed. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._sessions: dict[date, Session] = {}
        self._read: tuple[date, date] | None = None

    def load(self, first: date, last: date) -> None:
        """Have the days in [first, last], and a month more: one call when any of them is missing."""
        start, end = self._read or (first, first - timedelta(days=1))
        if start <= first and last <= end:
            return
        start, end = min(start, first), max(end, last) + _AHEAD
        asked = {"start": start.isoformat(), "end": end.isoformat()}
        found = (_session(row) for row in rows(self._wire.read("/calendar", asked), "calendar"))
        self._sessions = {each.session: each for each in found}
        self._read = start, end

    def on(self, day: date) -> Session | None:
        """The session of a New York date, or None on a day without one."""
        self.load(day, day)
        return self._sessions.get(day)

    def settles(self, traded: date) -> date:
        """When a trade of this date settles: the date the calendar gives, else the session after (T+1)."""
        self.load(traded, traded + _AHEAD)
        session = self._first_from(traded)
        return session.settles or self._first_from(session.session + timedelta(days=1)).session

    def unsettled_from(self, today: date) -> date:
        """The earliest trade date that has not settled on `today`; `today` where all have."""
        self.load(today - _SETTLED_AFTER, today)
        days = (today - timedelta(days=back) for back in range(_SETTLED_AFTER.days, 0, -1))
        return next((day for day in days if day in self._sessions and self.settles(day) > today), today)

    def _first_from(self, day: date) -> Session:
        """The session of a day, or the next one."""
        for later in range(_AHEAD.days):
            session = self._sessions.get(day + timedelta(days=later))
            if session is not None:
                return session
        raise BrokerUnavailable(f"Alpaca's calendar: expected a session within {_AHEAD.days} days of {day}, was none")


def _session(row: Answer) -> Session:
    day = row.day("date")
    settles = row.day("settlement_date") if row.has("settlement_date") else None
    return Session(day, _at(row, day, "open"), _at(row, day, "close"), settles)


def _at(row: Answer, day: date, name: str) -> datetime:
    said = row.text(name)
    try:
        wall = time.fromisoformat(said)
    except ValueError:
        raise BrokerUnavailable(f"Alpaca's {row.where}, {name}: expected HH:MM, was {said!r}") from None
    return datetime.combine(day, wall, NEW_YORK).astimezone(UTC)
