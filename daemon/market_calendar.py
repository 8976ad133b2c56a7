"""Sessions of the New York Stock Exchange, from exchange_calendars, with early closes."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from datetime import UTC, date, datetime

from daemon.clock import NEW_YORK


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """One trading session: New York date, open and close in UTC."""

    session: date
    opens_at: datetime
    closes_at: datetime


class MarketCalendar:
    """Sessions in [start, end]. Asking outside raises ValueError rather than guessing."""

    def __init__(self, sessions: tuple[SessionTimes, ...]) -> None:
        self.sessions = sessions
        self._days = [item.session for item in sessions]

    @classmethod
    def new_york(cls, start: date, end: date) -> MarketCalendar:
        """The NYSE's own sessions."""
        import exchange_calendars

        calendar = exchange_calendars.get_calendar("XNYS", start=start.isoformat(), end=end.isoformat())
        schedule = calendar.schedule
        rows = zip(schedule.index, schedule["open"], schedule["close"], strict=True)
        return cls(
            tuple(
                SessionTimes(day.date(), opens.to_pydatetime().astimezone(UTC), closes.to_pydatetime().astimezone(UTC))
                for day, opens, closes in rows
            )
        )

    def on(self, day: date) -> SessionTimes | None:
        """The session of a New York date, or None on a day without one."""
        self._require(day)
        place = bisect.bisect_left(self._days, day)
        return self.sessions[place] if place < len(self._days) and self._days[place] == day else None

    def current(self, now: datetime) -> SessionTimes | None:
        """The session of the New York date of `now`."""
        return self.on(now.astimezone(NEW_YORK).date())

    def upcoming(self, now: datetime) -> SessionTimes:
        """The session of today if it has not closed yet, else the next one."""
        day = now.astimezone(NEW_YORK).date()
        self._require(day)
        place = bisect.bisect_left(self._days, day)
        while place < len(self.sessions) and self.sessions[place].closes_at <= now:
            place += 1
        if place == len(self.sessions):
            raise ValueError(f"Expected a session after {now.isoformat()}, the calendar ends {self._days[-1]}")
        return self.sessions[place]

    def last_closed(self, now: datetime) -> SessionTimes | None:
        """The newest session that had closed by `now`."""
        place = bisect.bisect_right(self._days, now.astimezone(NEW_YORK).date())
        while place > 0 and self.sessions[place - 1].closes_at > now:
            place -= 1
        return self.sessions[place - 1] if place > 0 else None

    def between(self, start: date, end: date) -> tuple[SessionTimes, ...]:
        """Sessions in [start, end]."""
        return self.sessions[bisect.bisect_left(self._days, start) : bisect.bisect_right(self._days, end)]

    def _require(self, day: date) -> None:
        if not self._days or day > self._days[-1] or day.year < self._days[0].year:
            first, last = (self._days[0], self._days[-1]) if self._days else ("none", "none")
            raise ValueError(f"Expected a day between {first} and {last} (the calendar's range), was {day}")
