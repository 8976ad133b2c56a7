"""The daemon in the foreground: something ticks, nothing else. SIGTERM and Ctrl-C end it between two ticks.

| household                       | what ticks                                                                  |
|---------------------------------|-----------------------------------------------------------------------------|
| at its broker, in real time     | APScheduler, once a second: a look when one is due (pulse.py)               |
| at a stand-in with its own time | one look after the other; between them the stand-in's time passes           |
| in the demo's world             | APScheduler; each beat moves the world to its next instant                  |
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from brokers.errors import BrokerUnavailable
from daemon.clock import ServerClock
from daemon.courier import Courier
from daemon.dead_man import DeadMan
from daemon.house import House
from daemon.household import Watcher
from daemon.metrics import Board
from daemon.pulse import Pulse
from daemon.settings import read_secret
from daemon.settings.redaction import REDACTOR
from daemon.storage import STORAGE_ERRORS, storage_failed
from daemon.supervision import Announced, Supervisor, attended
from daemon.vitals import Vitals, prove, take_vitals

if TYPE_CHECKING:
    from daemon.demo.world import World
    from daemon.opening import Target

log = structlog.get_logger("service")

BEATS_A_SESSION = 3  # when nothing waits: before the open, at the decision, in the evening
PULSE_S = 1.0
WATCH_S = 0.2  # how soon a signal is heeded when nothing is being done
PROOF_S = 30.0  # between two proofs that the database answers, at most; a third of the watchdog's time if that is less
REOPEN_S = 60.0  # under a service manager, until a broker that could not be reached is asked again


# ------------------------------------------------------------------ a household at its broker


def run_household(target: Target, environ: Mapping[str, str], watcher: Watcher, *, sessions: int = 0) -> None:
    """Open the household and look after it until stopped, or until so many sessions are over (0: never).

    Under a service manager a broker that cannot be reached yet is waited for; by hand it ends the command. Raises
    what `working_house` raises.
    """
    from daemon.opening import working_house

    supervisor = Supervisor.of(environ)
    while True:
        with ExitStack() as stack:
            try:
                house = stack.enter_context(working_house(target, environ, Announced(watcher, supervisor)))
            except BrokerUnavailable as fault:
                if not supervisor.is_there:
                    raise
                log.error(f"the broker cannot be reached; tried again in {REOPEN_S:.0f} s", fault=str(fault))
            else:
                serve_household(house, sessions=sessions, environ=environ, supervisor=supervisor)
                return
        supervisor.starting("waiting: the broker cannot be reached; tried again every minute")
        time.sleep(REOPEN_S)


def serve_household(
    house: House,
    *,
    sessions: int = 0,
    environ: Mapping[str, str] | None = None,
    supervisor: Supervisor | None = None,
) -> None:
    """Look after an open household until stopped, or until so many sessions are over (0: never).

    Raises ConfigurationRefused when the secret of the sign of life is missing or no address.
    """
    _say_what_runs(house)
    pulse = Pulse(house, sessions)
    if isinstance(house.clock, ServerClock):
        _step(house, pulse)
        return
    supervisor = supervisor or Supervisor(None, None)
    house.brokers = {name: attended(broker, supervisor) for name, broker in house.brokers.items()}
    with _company(house, environ or {}) as company:
        _tick(Round(house, pulse, supervisor, company), PULSE_S, supervisor.stopping)


@dataclass(frozen=True, slots=True)
class Company:
    """Who is told of each look, beside the supervisor. Each has threads of its own, and none can hold a look up."""

    board: Board
    dead_man: DeadMan | None


@contextmanager
def _company(house: House, environ: Mapping[str, str]) -> Iterator[Company]:
    """Everybody at work, and sent home at the end. The courier takes over the house's notifier meanwhile."""
    notices, port = house.settings.notifications, house.settings.metrics.port
    dead_man = None
    if notices.heartbeat_url_name is not None:
        url = read_secret(notices.heartbeat_url_name, environ, house.settings.credentials)
        dead_man = DeadMan(url, 60.0 * notices.heartbeat_every_minutes)
    board, notifier = Board(), house.notifier
    courier = Courier(house.store.path, notifier, house.clock)
    with ExitStack() as stack:
        if port is not None:
            _show_health(stack, port, board)
        if dead_man is not None:
            dead_man.start()
            stack.callback(dead_man.stop)
        courier.start()
        stack.callback(courier.stop)
        house.notifier = courier
        try:
            yield Company(board, dead_man)
        finally:
            house.notifier = notifier


def _show_health(stack: ExitStack, port: int, board: Board) -> None:
    from daemon.health_page import HealthPage

    try:
        page = HealthPage(port, board)
    except OSError as error:
        log.error("metrics.port: the port cannot be used, so there is no metrics page", port=port, error=error.strerror)
        return
    page.start()
    stack.callback(page.stop)


class Round:
    """One beat of the cycle thread: a look if one is due, and the proof that the database answers, now and then."""

    def __init__(self, house: House, pulse: Pulse, supervisor: Supervisor, company: Company) -> None:
        self._house, self._pulse, self._supervisor, self._company = house, pulse, supervisor, company
        self._proof_every_s = min(PROOF_S, supervisor.ping_every_s or PROOF_S)
        self._proved_at: float | None = None
        self._vitals: Vitals | None = None
        self._storage_fails = False

    def __call__(self) -> bool:
        going = True
        try:
            if self._pulse.is_due():
                with self._supervisor.look():
                    going = self._pulse.look()
                self._tell()
        except STORAGE_ERRORS as fault:
            storage_failed(self._house, fault)
        self._prove()
        return going

    def _tell(self) -> None:
        """What the look left, to everybody. Before the first one that succeeded: that the start goes on."""
        with self._storage_watched():
            self._vitals = take_vitals(self._house, self._pulse.next_at)
            self._company.board.take(self._vitals)
            if self._pulse.is_reconciled:
                self._supervisor.ready()
                self._supervisor.status(self._vitals.line)
            self._proved_at = None

    def _prove(self) -> None:
        """Write to the database, read from it, and only then say that all is well."""
        now = self._house.clock.monotonic()
        if self._proved_at is not None and now - self._proved_at < self._proof_every_s:
            return
        with self._storage_watched():
            prove(self._house.store, self._house.clock.now())
            self._proved_at = now
            self._supervisor.alive()
            self._company.board.beaten()
            if not self._pulse.is_reconciled:
                self._supervisor.starting("waiting: not every account could be reconciled yet; see `harvestd alerts`")
            if self._company.dead_man is not None and self._vitals is not None and self._vitals.looks_succeed:
                self._company.dead_man.alive()

    @contextmanager
    def _storage_watched(self) -> Iterator[None]:
        """A database that does not answer is logged once. Nobody is told that all is well meanwhile."""
        try:
            yield
        except STORAGE_ERRORS as error:
            if not self._storage_fails:
                log.error("the database does not answer", error=REDACTOR.redact(str(error).splitlines()[0]))
            self._storage_fails = True
        else:
            if self._storage_fails:
                log.info("the database answers again")
            self._storage_fails = False


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


def _tick(beat: Callable[[], bool], seconds: float, on_ending: Callable[[], None] = lambda: None) -> None:
    """Beat every so many seconds until a beat says False, raises, or a signal comes; never end within a beat.

    `on_ending` is called, by another thread than the one that beats, as soon as the end is asked for, and again.
    """
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
        if not ending.asked.is_set():
            return
        on_ending()
        if beating.acquire(blocking=False):  # and never released: no beat begins any more
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
