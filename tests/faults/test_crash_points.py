"""F39: killed at every named crash point, twice in a row, in separate processes on one database: nothing is lost.

The venue lives on in this process behind the loopback server; harvestd runs in processes of its own, with the real
client, sockets and streams (crashing.py), and kills itself. The first process dies when it passes the point. The second
dies there again, or, when it does not come past it so soon, after some points more. The third ends the story. Then the
books agree in every way, and orders, lots and plans are those of a run that nobody disturbed.

    story       what happens in it                                                      points
    ----------  ----------------------------------------------------------------------  -------------------------------
    beginning   the first start: the account is bound, prices are loaded, a plan is      ACCOUNT_BOUND, PRICES_READY
                made that waits for a person
    days        that plan was approved; it is executed, but trading in one name is       all others
                halted, so its order is cancelled in the end; more days follow
    halt        the same, but the broker refuses the key in the middle of the orders     HALT_WRITTEN
"""

from __future__ import annotations

import ast
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from invariants import check_invariants
from loopback import Fault, FaultKind, LoopbackAlpaca
from practice import KEY_ID, NUMBER, SECRET, Practice, practice

from brokers.simulated import SimulatedVenue, VenueSettings
from daemon.bookkeeping import replayed
from daemon.crash_points import CrashPoint
from daemon.demo.prices import demo_calendar, demo_prices
from daemon.halt import is_halted
from faults.crashing import LOOK_TWICE, ROOT, Ended, Launcher
from state.lots import LedgerPolicy
from state.records import ReliefMethod
from state.store import Store

FIRST = date(2020, 2, 18)  # the weeks in which prices fell
DAYS = 2  # that the story goes on after the first
SOON = 30  # points after which the second process dies wherever it is
STUCK = "KO"  # trading in it is halted
LATE = timedelta(minutes=25)  # before the close of the second day, the plan is approved
BEGINNING = (CrashPoint.ACCOUNT_BOUND, CrashPoint.PRICES_READY)

pytestmark = [pytest.mark.slow, pytest.mark.fault("F39")]


# ------------------------------------------------------------------ the world, and copies of it


@dataclass(frozen=True)
class Outcome:
    """What a story leaves behind up to the end of a day, but for the instants at which it was written."""

    orders: tuple[tuple[object, ...], ...]
    plans: tuple[tuple[object, ...], ...]
    lots: tuple[tuple[object, ...], ...]
    realized: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Templates:
    """Folders to copy: an account before its first start, and one whose first plan has been approved."""

    new: Path
    approved: Path
    undisturbed: dict[date, Outcome]


def settings() -> VenueSettings:
    """Those of `practice`, but that all that is tradable fills."""
    return VenueSettings(
        seed="practice",
        half_spread_bps=Decimal(2),
        partial_fill_probability=0.0,
        relief_method=ReliefMethod.FIFO,
        fractional=True,
    )


@contextmanager
def lived_on(template: Path, folder: Path) -> Iterator[Practice]:
    """A copy of a template, served: a person whose account and folder are as they were left there."""
    shutil.copytree(template, folder)
    calendar = demo_calendar()
    [session] = calendar.between(FIRST, FIRST)
    venue = SimulatedVenue(
        folder / "venue.db", demo_prices(calendar), settings(), account_number=NUMBER, start=session.opens_at
    )
    server = LoopbackAlpaca(venue, key_id=KEY_ID, secret_key=SECRET, account_number=NUMBER)
    with closing(venue), server:
        person = Practice(folder / "home", server)
        person.configure(alpaca={"loopback_url": server.url})
        yield person


def made_templates(base: Path) -> None:
    """The first day, lived once; the plan it made is approved, and one name will not trade."""
    with practice(base / "new", FIRST, partial_fill_probability=0.0) as person:
        person.configure(
            approvals={
                "plan_pct_nav": 60,
                "order_usd": 60_000,
                "gain_usd": 20_000,
                "reprice_tolerance_pct": 20,
                "expires_after_hours": 48,
            },
            execution={"order_type": "market"},  # the venue quotes the close before: limits would not be met in 2020
            schedule={"work_every_s": 300},
        )
    with lived_on(base / "new", base / "approved") as person:
        person.harvestd("run", "--sessions", 1)
        with closing(Store.open(person.database)) as store:
            [waiting] = store.plans.list(only_open=True)
        person.venue.halt(STUCK)
        tomorrow = person.venue.schedule.upcoming(person.venue.now)
        person.server.advance_to(person.venue.schedule.closes[tomorrow] - LATE)
        person.harvestd("plans", "approve", waiting.plan_id)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Templates:
    """Made by whoever comes first; under pytest-xdist the workers share them."""
    base = tmp_path_factory.getbasetemp()
    base = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "crash-points"
    base.mkdir(exist_ok=True)
    with (base / "made.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "whole").exists():
            (base / "new").mkdir()
            made_templates(base)
            with lived_on(base / "approved", base / "whole") as person:
                ended = launcher.run(person.folder, "run", "--sessions", DAYS + 1)
                assert ended.code == 0, ended.printed
                check_invariants(person.database, person.venue, settled=True)
    with closing(Store.open(base / "whole" / "home" / "harvestd.db", read_only=True)) as store:
        days = evenings(store)
        undisturbed = {day: outcome(store, day) for day in days}
    assert len(undisturbed) == DAYS + 2
    return Templates(base / "new", base / "approved", undisturbed)


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with Launcher() as made:
        yield made


def evenings(store: Store) -> tuple[date, ...]:
    """Days that are over."""
    return tuple(row.session for row in store.performance.rows("main"))


def outcome(store: Store, day: date) -> Outcome:
    """What the days up to this one left behind."""
    intents = sorted(store.orders.list(), key=lambda one: one.client_order_id)
    plans = sorted(store.plans.list(), key=lambda one: one.plan_id)
    ledger = replayed(store, store.household.accounts(), LedgerPolicy(), day)
    return Outcome(
        tuple(
            (one.client_order_id, one.symbol, one.side, one.submitted_quantity, one.filled_quantity, one.state)
            for one in intents
            if one.session <= day
        ),
        tuple((one.plan_id, one.state, len(one.trades)) for one in plans if one.session <= day),
        tuple(sorted((one.symbol, one.acquired, one.quantity, one.basis) for one in ledger.open_lots())),
        tuple(sorted((one.symbol, one.disposed, one.quantity, one.gain_loss) for one in ledger.realized())),
    )


# ------------------------------------------------------------------ killed twice


def killed_twice(launcher: Launcher, person: Practice, point: CrashPoint) -> tuple[Ended, Ended]:
    """Two processes on one database, each dead by its own hand. The first one died at the point."""
    first = launcher.run(person.folder, "run", point=point.value)
    assert first.was_killed, first.printed
    assert first.passed[-1] == point.value, "it died where it was to die"
    check_invariants(person.database, person.venue)
    second = launcher.run(person.folder, "run", point=point.value, most=SOON)
    assert second.was_killed, second.printed
    assert second.passed[-1] == point.value or len(second.passed) == SOON
    check_invariants(person.database, person.venue)
    return first, second


def ended_well(launcher: Launcher, person: Practice, days: int) -> date:
    """The third process, to the evening of so many days in all (or one more, when those are over). Returns the day."""
    with closing(Store.open(person.database)) as store:
        left = max(1, days - len(evenings(store)))
    third = launcher.run(person.folder, "run", "--sessions", left)
    assert third.code == 0, third.printed
    twice = launcher.run(person.folder, LOOK_TWICE)
    assert twice.code == 0, twice.printed
    check_invariants(person.database, person.venue, settled=True)
    with closing(Store.open(person.database, read_only=True)) as store:
        return evenings(store)[-1]


@pytest.mark.parametrize("point", BEGINNING)
def test_killed_twice_in_the_first_minutes(
    launcher: Launcher, templates: Templates, tmp_path: Path, point: CrashPoint
) -> None:
    with lived_on(templates.new, tmp_path / "world") as person:
        first = launcher.run(person.folder, "run", point=point.value)
        second = launcher.run(person.folder, "run", point=point.value)
        assert (first.was_killed, second.was_killed) == (True, True), first.printed
        assert first.passed[-1] == second.passed[-1] == point.value
        day = ended_well(launcher, person, 1)
        with closing(Store.open(person.database, read_only=True)) as store:
            [plan] = store.plans.list()
            assert (day, plan.state.value) == (FIRST, "awaiting_approval")
            assert len(store.market.coverage()) == len(store.market.constituent_weights()) == 20


@pytest.mark.parametrize("point", [point for point in CrashPoint if point not in (*BEGINNING, CrashPoint.HALT_WRITTEN)])
def test_killed_twice_in_the_days_the_outcome_is_that_of_an_undisturbed_run(
    launcher: Launcher, templates: Templates, tmp_path: Path, point: CrashPoint
) -> None:
    with lived_on(templates.approved, tmp_path / "world") as person:
        killed_twice(launcher, person, point)
        day = ended_well(launcher, person, DAYS + 1)
        with closing(Store.open(person.database, read_only=True)) as store:
            assert outcome(store, day) == templates.undisturbed[day]
        assert len(person.venue.fills()) > 15
        assert not is_halted(person.database)


def test_killed_twice_around_a_halt_it_stays_halted_until_a_person_resumes(
    launcher: Launcher, templates: Templates, tmp_path: Path
) -> None:
    """The broker refuses the key at the fifth order; the halt is on disk before anything else is."""
    with lived_on(templates.approved, tmp_path / "world") as person:
        person.server.script(Fault(FaultKind.STATUS, method="POST", path="/v2/orders", status=403, body=REFUSED, nth=5))
        killed_twice(launcher, person, CrashPoint.HALT_WRITTEN)
        assert is_halted(person.database)
        halted = len(person.venue.orders())
        assert 4 <= halted < 20, "the fifth order and those after it did not leave"
        person.server.clear_faults()
        assert launcher.run(person.folder, "run", "--sessions", 1).code == 0
        assert is_halted(person.database)
        assert len(person.venue.orders()) == halted, "another start lifts no halt"
        assert "Resumed" in launcher.run(person.folder, "resume").printed
        with closing(Store.open(person.database, read_only=True)) as store:
            halted_on = evenings(store)[-1]
        ended_well(launcher, person, DAYS + 2)
        with closing(Store.open(person.database, read_only=True)) as store:
            assert store.plans.list()[-1].session > halted_on, "it plans again"


REFUSED: dict[str, Any] = {"message": "forbidden."}


# ------------------------------------------------------------------ no point is forgotten


def test_every_point_is_passed_somewhere_in_the_daemon_and_tried_here() -> None:
    passed = []
    for path in sorted((ROOT / "daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "passing":
                [point] = node.args
                assert isinstance(point, ast.Attribute), f"{path.name}: expected a member of CrashPoint"
                passed.append(CrashPoint[point.attr])
    assert set(passed) == set(CrashPoint)


def test_no_setting_and_no_variable_can_kill_a_daemon() -> None:
    """Whoever wants to watch has to call `watched` in the process itself; nothing in the daemon does."""
    for path in sorted((ROOT / "daemon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "daemon.crash_points":
                assert {alias.name for alias in node.names} <= {"CrashPoint", "passing"}, path.name
