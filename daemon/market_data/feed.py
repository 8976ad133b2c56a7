"""Where prices come from and where they are kept, and what counts as wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from brokers.protocol import BrokerReader
from daemon.clock import NEW_YORK, Clock
from daemon.market_calendar import MarketCalendar
from state.store import Store


@dataclass(frozen=True, slots=True)
class QuarantinePolicy:
    """From when on something is wrong. Fractions; sessions are counted back from the newest one."""

    jump: Decimal = Decimal("0.40")  # a one-session total return beyond this, either way, wants an explanation
    adjustment: Decimal = Decimal("1.25")  # so does a difference of total and price return by this factor
    correction: Decimal = Decimal("0.01")  # a close told anew that differs by more than this is not used
    recent_sessions: int = 504  # the risk model's window: what was wrong before it spoils only what was before it
    overlap_sessions: int = 3  # sessions asked for again at each update, to join on and to see corrections


@dataclass(frozen=True, slots=True)
class Feed:
    """One source of prices and the store they go to."""

    store: Store
    broker: BrokerReader
    calendar: MarketCalendar
    clock: Clock
    policy: QuarantinePolicy = QuarantinePolicy()

    @property
    def today(self) -> date:
        """The New York date."""
        return self.clock.now().astimezone(NEW_YORK).date()

    def last_closed(self) -> date:
        """The newest session that is over. Raises ValueError when the calendar has none."""
        found = self.calendar.last_closed(self.clock.now())
        if found is None:
            raise ValueError(f"Expected a session before {self.clock.now().isoformat()}, the calendar has none")
        return found.session

    def sessions(self, start: date, end: date) -> tuple[date, ...]:
        """Sessions in [start, end], oldest first. Raises ValueError where the calendar begins too late to know."""
        first = self.calendar.sessions[0].session
        if start.year < first.year:
            raise ValueError(f"Expected a calendar that begins before {start}, it begins {first}")
        return tuple(item.session for item in self.calendar.between(start, end))

    def back(self, session: date, count: int) -> date:
        """The session `count` sessions before `session`, or the calendar's first."""
        past = self.calendar.between(self.calendar.sessions[0].session, session)
        return past[max(0, len(past) - 1 - count)].session

    def recent_from(self) -> date:
        """The first of the recent sessions."""
        return self.back(self.last_closed(), self.policy.recent_sessions - 1)
