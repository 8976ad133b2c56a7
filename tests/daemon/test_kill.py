"""Killed at any statement of a day with a harvest, and started again: the day ends as it would have (F39).

The process dies at the n-th statement to the database or request to the broker, before it or after it, for many n;
what was not committed is gone. A new one goes on, dies as many statements later again, and a third ends the day.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Staged
from small_house import Stage, make_stage, taken_up

from state.records import OrderRequest, PlanState
from state.store.database import Database

EVE, TODAY = 24, 25
FALL = [("BBB", EVE, "0.8")]


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class Fuse:
    """Burns down statement by statement; at zero the process dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.burnt = 0
        original = Database.execute

        def execute(database: Database, *arguments: Any) -> Any:
            return self.step(lambda: original(database, *arguments))

        monkeypatch.setattr(Database, "execute", execute)

    def step(self, do: Callable[[], Any]) -> Any:
        self.burnt += 1
        self.left -= 1
        if self.left == 0 and self.burnt % 2:
            raise Killed
        answer = do()
        if self.left == 0:
            raise Killed
        return answer

    def lit(self, stage: Stage, statements: int) -> None:
        """Let the process that works on `stage` die at its next so-many-th statement or request."""
        self.left = statements
        broker = stage.venue.broker()
        stage.alter(submit=lambda request: self.submit(broker, request))

    def submit(self, broker: Any, request: OrderRequest) -> Any:
        return self.step(lambda: broker.submit(request))


def outcome(stage: Stage) -> tuple[object, ...]:
    """What a day leaves behind, but for the instants at which it was written."""
    store = stage.house.store
    return (
        stage.house.ledger.digest(),
        stage.venue.broker().activities(),
        [one.client_order_id for one in stage.venue.orders()],
        [(one.client_order_id, one.state, one.filled_quantity) for one in store.orders.list()],
        [(plan.plan_id, plan.state, plan.trades) for plan in store.plans.list()],
        store.performance.rows("main"),
        sorted(one.key for one in store.alerts.list(most=1000)),
        sorted(store.agenda.done(stage.session(TODAY).session, "main")),
    )


@pytest.fixture(scope="module")
def eve(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The folder of a household on the eve: BBB has fallen, tomorrow it is harvested in two ties."""
    folder = tmp_path_factory.mktemp("eve")
    stage = make_stage(folder, empty_database, changes=FALL)
    stage.invest(0)
    stage.live(EVE)
    stage.close()
    return folder


def tomorrow(eve: Path, folder: Path) -> Stage:
    shutil.copytree(eve, folder)
    return taken_up(folder, changes=FALL)


def live_on(stage: Stage, fuse: Fuse, statements: int) -> int:
    """The day from wherever the clock stands, killed every so many statements at most twice; returns the kills."""
    killed = 0
    fuse.lit(stage, statements)
    instants = [stage.before_open(TODAY), *(stage.decision(TODAY, minutes) for minutes in range(0, 20, 2))]
    for instant in [*instants, stage.evening(TODAY)]:
        while True:
            try:
                stage.tick(instant)
                break
            except Killed:
                killed += 1
                fuse.left = -1
                stage.restart()
                if killed < 2:
                    fuse.lit(stage, statements)
    fuse.left = -1
    return killed


def test_a_day_survives_a_kill_at_any_statement(eve: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse = Fuse(monkeypatch)
    whole = tomorrow(eve, tmp_path / "whole")
    fuse.burnt = 0
    assert live_on(whole, fuse, 10**9) == 0
    statements, expected = fuse.burnt, outcome(whole)
    assert [plan.state for plan in whole.plans()] == [PlanState.DONE]
    assert len(whole.intents("BBB")) == 2
    whole.close()
    killed = 0
    for number in range(1, statements, max(1, statements // 30)):
        stage = tomorrow(eve, tmp_path / f"killed-{number}")
        killed += live_on(stage, fuse, number)
        assert outcome(stage) == expected, f"killed at statement {number} of {statements}"
        stage.close()
    assert killed > 30


def test_nothing_the_dead_process_had_not_committed_is_there(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan's row is written, its intents are not yet: after the kill there is neither."""
    stage = staged()
    stage.tick(stage.before_open(0))

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(stage.house.store.orders, "record", die)
        with pytest.raises(Killed):
            stage.tick(stage.decision(0))
    stage.restart()
    assert stage.plans() == ()
    assert stage.intents() == ()
    stage.tick(stage.decision(0, 2))
    assert len(stage.intents()) == 10
