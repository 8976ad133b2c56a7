"""The daemon in the foreground: something ticks, nothing else. SIGTERM and Ctrl-C end it between two ticks.

| household                       | what ticks                                                                  |
|---------------------------------|-----------------------------------------------------------------------------|
| at its broker, in real time     | APScheduler, once a second: a look when one is due or order updates came in |
| at a stand-in with its own time | one look after the other; between them the stand-in's time passes           |
| in the demo's world             | APScheduler; each beat moves the world to its next instant                  |
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from daemon.agenda import Task, due, next_look
from daemon.clock import NEW_YORK, ServerClock
from daemon.day import start, tick, work_waiting
from daemon.house import House
from daemon.household import calendar_of
from state.records import Account

if TYPE_CHECKING:
    from daemon.demo.world import World

log = structlog.get_logger("service")

BEATS_A_SESSION = 3  # when nothing waits: before the open, at the decision, in the evening
PULSE_S = 1.0
WATCH_S = 0.2  # how soon a signal is heeded when nothing is being done
LEAST_CALENDAR = timedelta(days=30)  # the calendar is made anew when it reaches no further ahead


# ------------------------------------------------------------------ a household at its broker


class Pulse:
    """Looks when a look is due, or when something woke it."""

    def __init__(self, house: House, sessions: int = 0) -> None:
        self._house = house
        self._sessions = sessions
        self._lived: set[object] = set()
        self.next_at = house.clock.now()

    def is_due(self) -> bool:
        """True when it is time, the stream of order updates heard something, or a person asked for something."""
        woken = [link.updates.wake.is_set() for link in self._house.links.values()]
        return any(woken) or self._house.clock.now() >= self.next_at or self._house.store.commands.is_any_waiting()

    def look(self) -> bool:
        """Do what is due, and work out when to look again. False when as many sessions are over as were asked for."""
        for link in self._house.links.values():
            link.updates.wake.clear()
        done = tick(self._house)
        now = self._house.clock.now()
        if Task.EVENING in done:
            day = now.astimezone(NEW_YORK).date()
            self._lived.add(day)
            log.info("session over", session=day.isoformat())
        if self._house.calendar.sessions[-1].closes_at - now < LEAST_CALENDAR:
            self._house.calendar = calendar_of(self._house.settings, self._house.clock)
        self.next_at = min(self._next(account, now) for account in self._house.managed)
        return not self._sessions or len(self._lived) < self._sessions

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
        moving = house.store.plans.is_any_moving(account.account_id) or house.store.orders.is_any_open(
            account.account_id
        )
        return next_look(session, following, now, undone, house.timetable, every, work_waiting=moving)


def serve_household(house: House, *, sessions: int = 0) -> None:
    """Look after the household until stopped, or until so many sessions are over (0: never)."""
    _say_what_runs(house)
    start(house)
    pulse = Pulse(house, sessions)
    if isinstance(house.clock, ServerClock):
        _step(house, pulse)
    else:
        _tick_in_real_time(pulse)


def _say_what_runs(house: House) -> None:
    """Mode, limits and rules in words: what a person should know is running."""
    settings, limits = house.settings, house.settings.approvals
    sends = {one.account_id: house.desk(one.account_id) is not None for one in house.managed}
    meaning = "it can send orders" if any(sends.values()) else "it only looks: this process has no way to send"
    log.info(
        f"harvestd runs in mode {settings.mode.value}: {meaning}",
        accounts=[one.account_id for one in house.managed],
        known_by_import=[one.account_id for one in house.accounts if not one.is_managed],
        names=len(house.names),
    )
    log.info(
        f"waits for you: an order above {limits.order_usd:,} USD, a plan above {limits.plan_pct_nav} % of value or "
        f"realizing more than {limits.gain_usd:,} USD of gain",
        order_max_usd=str(settings.execution.order_max_usd),
        daily_notional_max_usd=str(settings.execution.daily_notional_max_usd),
    )


class _Ending:
    """Whether to end. Signals set it, and do nothing else: whatever they interrupted may hold any lock there is."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._signal: int | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for the end, as long as the block lasts."""

        def told(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            self.asked.set()

        before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._signal is not None:
                log.info("stopped between two steps", signal=signal.Signals(self._signal).name)


def _step(house: House, pulse: Pulse) -> None:
    """Simulated time: it passes only between two looks."""
    ending = _Ending()
    with ending.on_signals():
        while pulse.look() and not ending.asked.is_set():
            ahead = (pulse.next_at - house.clock.now()).total_seconds()
            house.clock.sleep(max(0.0, ahead))


def _tick_in_real_time(pulse: Pulse) -> None:
    _tick(lambda: not pulse.is_due() or pulse.look(), PULSE_S)


def _tick(beat: Callable[[], bool], seconds: float) -> None:
    """Beat every so many seconds until a beat says False, raises, or a signal comes; never end within a beat."""
    from apscheduler.schedulers.blocking import BlockingScheduler

    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a beat longer than its interval is no news
    scheduler = BlockingScheduler(timezone="UTC")
    ending, beating = _Ending(), threading.Lock()
    fault: BaseException | None = None

    def once() -> None:
        nonlocal fault
        with beating:
            if ending.asked.is_set():
                return
            try:
                going = beat()
            except BaseException as error:
                fault = error  # the scheduler would log it and go on; a daemon that does not know why must stop
                going = False
            if not going:
                ending.asked.set()

    def watch() -> None:
        if ending.asked.is_set() and beating.acquire(blocking=False):  # and never released: no beat begins any more
            scheduler.shutdown(wait=False)

    for job, every in ((once, seconds), (watch, WATCH_S)):
        scheduler.add_job(job, "interval", seconds=every, max_instances=1, coalesce=True, misfire_grace_time=None)
    with ending.on_signals():
        scheduler.start()
    if fault is not None:
        raise fault


# ------------------------------------------------------------------ the demo's world


def serve(world: World, *, speed: float, sessions: int) -> None:
    """Run until stopped, for so many sessions, or (sessions=0) until the prices end. `speed` in sessions a second."""
    beats = world.beats()
    lived, started_at = 0, world.venue.now

    def beat() -> bool:
        nonlocal lived
        found = next(beats, None)
        if found is None:
            log.info("the simulated prices end here")
            return False
        session, is_over = found
        if is_over and session.closes_at > started_at:
            lived += 1
            log.info("session over", session=session.session.isoformat())
        return not sessions or lived < sessions

    accounts = [one.account_id for one in world.house.managed]
    log.info("harvestd runs", mode=world.house.settings.mode.value, accounts=accounts, venue="simulated")
    _tick(beat, max(0.001, 1 / (speed * BEATS_A_SESSION)))
