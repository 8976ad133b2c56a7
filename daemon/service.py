"""The daemon in the foreground: something ticks, nothing else. SIGTERM and Ctrl-C end it between two ticks.

| household                       | what ticks                                                                  |
|---------------------------------|-----------------------------------------------------------------------------|
| at its broker, in real time     | the cycle thread, once a second: a look when one is due (pulse.py)          |
| at a stand-in with its own time | one look after the other; between them the stand-in's time passes           |
| in the demo's world             | the cycle thread; each beat moves the world to its next instant             |

The cycle thread's seconds are monotonic ones, and sleeping is all it waits by: a scheduler that goes by the wall clock
stands still when that is set back, and so does a lock's time-out on some builds of Python.

What keeps a household from being opened, under a service manager (by hand each ends the command):

| what                                          | what follows                                                   |
|-----------------------------------------------|----------------------------------------------------------------|
| the broker cannot be reached                  | an alert; tried again every minute                             |
| another process keeps the database locked     | tried again every minute                                       |
| the broker refuses the key                    | an alert; asked again every five minutes                       |
| the configuration, the database's version ... | the command ends; systemd does not start it again after a 78   |
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from brokers.errors import BrokerUnavailable, NotAuthorized
from daemon.alerts import LogNotifier, drain, keep_alert, recover
from daemon.clock import ServerClock, WallClock
from daemon.courier import Courier
from daemon.dead_man import DeadMan
from daemon.house import House
from daemon.household import Watcher
from daemon.metrics import Board
from daemon.pulse import Pulse
from daemon.settings import Settings, read_secret
from daemon.settings.redaction import REDACTOR
from daemon.storage import STORAGE_ERRORS, storage_failed
from daemon.supervision import Announced, EndAsked, Supervisor
from daemon.vitals import DatabaseGone, Opened, Vitals, prove, take_vitals
from state.records import AlertLevel
from state.store import StorageFault, Store, StoreError, storage_fault
from state.store.database import revision_of
from state.store.revisions import is_older

if TYPE_CHECKING:
    from daemon.demo.world import World
    from daemon.opening import Target

log = structlog.get_logger("service")

BEATS_A_SESSION = 3  # when nothing waits: before the open, at the decision, in the evening
PULSE_S = 1.0
WATCH_S = 0.2  # how soon a signal is heeded when nothing is being done
PROOF_S = 30.0  # between two proofs that the database answers, at most; a third of the watchdog's time if that is less
REOPEN_S = 60.0  # under a service manager, until what may pass by itself is tried again
REFUSED_S = 300.0  # and until a broker that refused the key is asked again
UPGRADE_S = 3600.0  # an older database is copied, verified and migrated in less, on a slow disk too
OPENING = "opening"  # the incident of a household that cannot be opened


# ------------------------------------------------------------------ a household at its broker


def run_household(target: Target, environ: Mapping[str, str], watcher: Watcher, *, sessions: int = 0) -> None:
    """Open the household and look after it until stopped, or until so many sessions are over (0: never).

    Under a service manager what keeps it from being opened is waited for (see the module's table); by hand it ends the
    command. Raises what `working_house` raises, and ConfigurationRefused when the secret of the sign of life is missing
    or no address.
    """
    supervisor, dead_man = Supervisor.of(environ), _dead_man(target.settings, environ)
    if not supervisor.is_there:
        with _opened(target, environ, watcher, supervisor, _Ending()) as house:
            serve_household(house, sessions=sessions, supervisor=supervisor, dead_man=dead_man)
        return
    ending = _Ending()
    with ending.on_signals():
        while not ending.is_asked:
            try:
                with ExitStack() as stack:
                    house = _entered(stack, _opened(target, environ, watcher, supervisor, ending))
                    serve_household(house, sessions=sessions, supervisor=supervisor, dead_man=dead_man, ending=ending)
                    return
            except EndAsked:
                break
            except _Unopened as fault:
                _told_to_wait(target, fault)
                _wait(fault, supervisor, ending)
        supervisor.stopping()


class _Unopened(Exception):  # noqa: N818
    """The household could not be opened, for a reason that may pass: in words, and seconds until it is tried again."""

    def __init__(self, words: str, again_s: float, fault: Exception) -> None:
        super().__init__(words)
        self.words, self.again_s, self.fault = words, again_s, fault


def _entered(stack: ExitStack, opening: AbstractContextManager[House]) -> House:
    """The house that was opened. Raises _Unopened when what kept it from that may pass; whatever else there is."""
    try:
        house = stack.enter_context(opening)
        recover(house.store, OPENING, "the household could be opened", house.clock.now())
    except BrokerUnavailable as fault:
        words = "the broker cannot be reached; tried again every minute"
        raise _Unopened(words, REOPEN_S, fault) from fault
    except NotAuthorized as fault:
        words = (
            "the broker refuses the key, or has blocked the account; asked again every 5 minutes. Settle it with the "
            "broker, or put new keys where config.yaml says and restart harvestd"
        )
        raise _Unopened(words, REFUSED_S, fault) from fault
    except STORAGE_ERRORS as fault:
        if storage_fault(fault) is not StorageFault.BUSY:
            raise
        words = "another process keeps the database locked; tried again every minute"
        raise _Unopened(words, REOPEN_S, fault) from fault
    return house


def _told_to_wait(target: Target, unopened: _Unopened) -> None:
    """Tell a person: in the log each time, and by an alert once, where there is a database that can be written."""
    fault = unopened.fault
    log.error(unopened.words, fault=REDACTOR.redact(str(getattr(fault, "orig", None) or fault)))
    if storage_fault(fault) is not None or not target.database.exists():
        return
    with suppress(*STORAGE_ERRORS, StoreError):
        store, now = Store.open(target.database), WallClock().now()
        try:
            keep_alert(store, OPENING, AlertLevel.ERROR, f"Nothing runs yet: {unopened.words}. Seen: {fault}", now)
            drain(store, LogNotifier(), now)
        finally:
            store.close()


def _wait(unopened: _Unopened, supervisor: Supervisor, ending: _Ending) -> None:
    """Until it is to be tried again, or the end is asked for; the service manager is asked for time meanwhile."""
    until, told_at = time.monotonic() + unopened.again_s, -REOPEN_S
    while not ending.is_asked and (now := time.monotonic()) < until:
        if now - told_at >= REOPEN_S:
            told_at = now
            supervisor.starting(f"waiting: {unopened.words}")
        time.sleep(WATCH_S)


@contextmanager
def _opened(
    target: Target, environ: Mapping[str, str], watcher: Watcher, supervisor: Supervisor, ending: _Ending
) -> Iterator[House]:
    from daemon.opening import working_house

    if target.database.exists() and is_older(revision_of(target.database)):
        words = "starting: the database is of an older version; it is copied, verified and upgraded"
        supervisor.starting(words, UPGRADE_S)
    with working_house(target, environ, Announced(watcher, supervisor, lambda: ending.is_asked)) as house:
        yield house


def serve_household(
    house: House,
    *,
    sessions: int = 0,
    supervisor: Supervisor | None = None,
    dead_man: DeadMan | None = None,
    ending: _Ending | None = None,
) -> None:
    """Look after an open household until stopped, or until so many sessions are over (0: never)."""
    _say_what_runs(house)
    pulse = Pulse(house, sessions)
    if isinstance(house.clock, ServerClock):
        _step(house, pulse)
        return
    supervisor = supervisor or Supervisor(None, None)

    def end() -> None:
        house.ending = True
        supervisor.stopping()

    with _company(house, dead_man) as company:
        _tick(Round(house, pulse, supervisor, company), PULSE_S, end, ending)


@dataclass(frozen=True, slots=True)
class Company:
    """Who is told of each look, beside the supervisor. Each has threads of its own, and none can hold a look up."""

    board: Board
    dead_man: DeadMan | None


def _dead_man(settings: Settings | None, environ: Mapping[str, str]) -> DeadMan | None:
    """Whoever gives the sign of life, where one is to be given; its secret is read before anything is loaded."""
    if settings is None or settings.notifications.heartbeat_url_name is None:
        return None
    url = read_secret(settings.notifications.heartbeat_url_name, environ, settings.credentials)
    return DeadMan(url, 60.0 * settings.notifications.heartbeat_every_minutes)


@contextmanager
def _company(house: House, dead_man: DeadMan | None) -> Iterator[Company]:
    """Everybody at work, and sent home at the end. The courier takes over the house's notifier meanwhile."""
    port = house.settings.metrics.port
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
        self._storage_fails = self._owes_look = self._is_gone = False
        self._opened = Opened.at(house.store.path)
        supervisor.on_life = self._lives

    def __call__(self) -> bool:
        going = True
        try:
            self._opened.require()
            self._is_gone = False
            if self._owes_look or self._pulse.is_due():
                with self._supervisor.look():
                    going = self._pulse.look()
                self._owes_look = False
                self._tell()
        except STORAGE_ERRORS as fault:
            self._fails(fault)
        self._prove()
        return going

    def _fails(self, fault: BaseException) -> None:
        """The disk failed in the middle of a beat. A database that is not the one that was opened stops trading in
        memory too: a halt file beside another database could be taken away with it. That is done once."""
        if isinstance(fault, DatabaseGone):
            if self._is_gone:
                return
            self._is_gone, self._house.stopped = True, self._house.stopped or str(fault)
        storage_failed(self._house, fault)
        if not self._owes_look:
            self._owes_look = True
            self._tell()

    def _lives(self) -> None:
        """The cycle thread got on, and the outside may know."""
        company = self._company
        company.board.beaten()
        if company.dead_man is not None and self._vitals is not None and self._vitals.looks_succeed:
            company.dead_man.alive()

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
            self._opened.require()
            prove(self._house.store, self._house.clock.now())
            self._proved_at = now
            self._supervisor.alive()
            self._lives()
            if not self._pulse.is_reconciled:
                self._supervisor.starting("waiting: not every account could be reconciled yet; see `harvestd alerts`")

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
        self.is_asked = False
        self._signal: int | None = None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for the end, as long as the block lasts; also within another such block."""

        def told(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            self.is_asked = True

        before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._signal is not None:
                log.info("stopped between two steps", signal=signal.Signals(self._signal).name)
                self._signal = None


def _step(house: House, pulse: Pulse) -> None:
    """Simulated time: it passes only between two looks."""
    ending = _Ending()
    with ending.on_signals():
        while pulse.look() and not ending.is_asked:
            ahead = (pulse.next_at - house.clock.now()).total_seconds()
            house.clock.sleep(max(0.0, ahead))


def _tick(
    beat: Callable[[], bool],
    seconds: float,
    on_ending: Callable[[], None] = lambda: None,
    ending: _Ending | None = None,
) -> None:
    """Beat every so many seconds until a beat says False, raises, or a signal comes; never end within a beat.

    Beats have a thread of their own. `on_ending` is called by this one as soon as the end is asked for, and again.
    """
    ending = ending or _Ending()
    fault: BaseException | None = None

    def cycle() -> None:
        nonlocal fault
        due_at = time.monotonic()
        try:
            while not ending.is_asked and beat():
                due_at = max(due_at + seconds, time.monotonic())
                while not ending.is_asked and (ahead := due_at - time.monotonic()) > 0:
                    time.sleep(min(ahead, WATCH_S))
        except BaseException as error:
            fault = error  # raised where the daemon can end of it; a thread's own would be shown and forgotten

    thread = threading.Thread(target=cycle, name="cycle")
    with ending.on_signals():
        thread.start()
        while thread.is_alive():
            time.sleep(WATCH_S)
            if ending.is_asked:
                on_ending()
        on_ending()
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
