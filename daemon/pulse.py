"""When to look at a household: when something is due, and when something happened that nobody waited for.

A look is taken when the wall clock says that its time has come, or when as many seconds have passed as were to pass,
whichever is first. The wall clock alone would sleep an hour longer when it is set back by an hour, and the seconds
alone do not pass while the machine is asleep.

| what happened                                              | a look                                        |
|------------------------------------------------------------|-----------------------------------------------|
| the time of a task has come                                | at once                                       |
| the stream of order updates heard something                | at once                                       |
| a person asked for something                               | at once                                       |
| the halt file appeared or went                             | at once, at every account                     |
| nothing, while a session or an order is open               | after LONGEST_WAIT                            |
| the first look did not succeed                             | again after 1, 2, 4 ... minutes, at most 15   |
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from daemon.agenda import Task, due, next_look
from daemon.clock import NEW_YORK
from daemon.day import start, tick, work_waiting
from daemon.halt import is_halted
from daemon.house import House
from daemon.household import calendar_of
from state.records import Account

log = structlog.get_logger("service")

LONGEST_WAIT = timedelta(minutes=15)
FIRST_RETRY = timedelta(minutes=1)
LEAST_CALENDAR = timedelta(days=30)  # the calendar is made anew when it reaches no further ahead


class Pulse:
    """Looks when a look is due, or when something woke it. `sessions` are how many to live, 0 for all there are."""

    def __init__(self, house: House, sessions: int = 0) -> None:
        self._house = house
        self._sessions = sessions
        self._lived: set[object] = set()
        self._was_halted = is_halted(house.store.path)
        self._retry = FIRST_RETRY
        self._start_at: datetime | None = house.clock.now()  # None once every account was reconciled
        self.is_reconciled = False  # whether every managed account was, since the process began
        self._wait_until(house.clock.now())

    def is_due(self) -> bool:
        """True when a look is due; see the module's table."""
        house = self._house
        woken = any(link.updates.wake.is_set() for link in house.links.values())
        return (
            woken
            or house.clock.now() >= self.next_at
            or house.clock.monotonic() >= self._next_monotonic
            or is_halted(house.store.path) != self._was_halted
            or house.store.commands.is_any_waiting()
        )

    def look(self) -> bool:
        """Do what is due, and work out when to look again. False when as many sessions are over as were asked for."""
        house = self._house
        for link in house.links.values():
            link.updates.wake.clear()
        self._look_at_every_account()
        done = tick(house)
        now = house.clock.now()
        if Task.EVENING in done:
            day = now.astimezone(NEW_YORK).date()
            self._lived.add(day)
            log.info("session over", session=day.isoformat())
        if house.calendar.sessions[-1].closes_at - now < LEAST_CALENDAR:
            house.calendar = calendar_of(house.settings, house.clock)
        self._wait_until(min(self._next(account, now) for account in house.managed))
        return not self._sessions or len(self._lived) < self._sessions

    def _look_at_every_account(self) -> None:
        """The first look, until it succeeds; and again when somebody halted or resumed."""
        halted, now = is_halted(self._house.store.path), self._house.clock.now()
        changed, self._was_halted = halted != self._was_halted, halted
        if not changed and (self._start_at is None or now < self._start_at):
            return
        if start(self._house):
            self.is_reconciled, self._start_at = True, None
        elif not self.is_reconciled:
            self._start_at = now + self._retry
            self._retry = min(2 * self._retry, LONGEST_WAIT)

    def _wait_until(self, instant: datetime) -> None:
        clock = self._house.clock
        self.next_at = instant
        self._next_monotonic = clock.monotonic() + (instant - clock.now()).total_seconds()

    def _next(self, account: Account, now: datetime) -> datetime:
        house = self._house
        session = house.calendar.current(now)
        waiting = work_waiting(house, account)
        finished = house.store.agenda.done(session.session, account.account_id) if session else frozenset[str]()
        still = due(session, now, finished, house.timetable, work_waiting=waiting)
        undone = tuple(task for task in still if task is not Task.WORK)
        following = house.calendar.upcoming(now)
        if session is not None and following.session == session.session:
            following = house.calendar.upcoming(session.closes_at)
        every = timedelta(seconds=house.settings.schedule.work_every_s)
        open_orders = house.store.orders.is_any_open(account.account_id)
        moving = open_orders or house.store.plans.is_any_moving(account.account_id)
        upcoming = next_look(session, following, now, undone, house.timetable, every, work_waiting=moving)
        in_session = session is not None and session.opens_at <= now < session.closes_at
        longest = [now + LONGEST_WAIT] if in_session or open_orders else []
        return min([upcoming, *longest, *([self._start_at] if self._start_at else [])])
