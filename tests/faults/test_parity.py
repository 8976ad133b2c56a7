"""Demo, observe, paper and live take the same path up to the single call that sends.

Nothing on that path looks at the mode: it is looked at where the broker, its address and its keys are chosen, and where
a person is told. And the same eve of a harvest, lived on with a desk, with a desk that only notes what it was handed,
and without any: plans, verdicts, intents, the gate's answers and the first request are the same.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from small_house import Stage, make_stage, taken_up

from brokers.errors import NotSent
from daemon import gate
from daemon.crash_points import CrashPoint, watched
from daemon.opening import ReadOnlyBroker
from daemon.settings import Mode
from state.reasons import Reason, ReasonCode
from state.records import BrokerOrder, Intent, IntentState, OrderRequest, Plan, PlanState, Side

ROOT = Path(__file__).parents[2]
CHOOSES = {  # the broker, its address, its keys; whether an account may be traded for real
    "daemon/household.py",
    "daemon/go_live.py",
}
TELLS = {  # in which mode harvestd runs: a person, or the log
    "daemon/service.py",
    "daemon/onboarding.py",
    "daemon/cli/views/facts.py",
    "daemon/cli/views/status.py",
}
SETTINGS = "daemon/settings/"  # where it is read and checked

EVE, TODAY = 24, 25
FALL = [("BBB", EVE, "0.8")]


# ------------------------------------------------------------------ by reading the code


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def looks_at_mode(tree: ast.Module) -> bool:
    """True where the enum is used, or an attribute of that name of the settings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "Mode":
            return True
        if isinstance(node, ast.Attribute) and node.attr == "mode" and "settings" in ast.unparse(node.value):
            return True
    return False


def test_the_mode_is_looked_at_only_where_the_broker_is_chosen_and_where_it_is_told() -> None:
    looking = {name for name, tree in modules("daemon") if looks_at_mode(tree) and not name.startswith(SETTINGS)}
    assert looking <= CHOOSES | TELLS
    assert looking >= CHOOSES
    for package in ("strategy", "brokers", "state"):
        assert [name for name, tree in modules(package) if looks_at_mode(tree)] == []


def test_those_that_only_tell_it_decide_nothing_by_it() -> None:
    """No condition in them has the mode in it."""
    for name, tree in modules("daemon"):
        if name in TELLS:
            tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp | ast.While)]
            assert not [ast.unparse(test) for test in tests if "settings.mode" in ast.unparse(test)], name


def calls(tree: ast.Module, name: str) -> list[str]:
    """The functions in which a method of that name is called."""
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                    found.append(function.name)
    return found


def test_one_call_sends() -> None:
    sending = {name: found for name, tree in modules("daemon") if (found := calls(tree, "submit"))}
    assert sending == {"daemon/execution.py": ["_submitted"]}


def test_each_adapter_has_one_method_that_sends() -> None:
    defined = [
        f"{name}:{one.name}"
        for name, tree in modules("brokers")
        for one in ast.walk(tree)
        if isinstance(one, ast.ClassDef)
        for method in one.body
        if isinstance(method, ast.FunctionDef) and method.name == "submit"
    ]
    assert defined == [
        "brokers/alpaca/desk.py:AlpacaBroker",
        "brokers/protocol.py:OrderDesk",
        "brokers/simulated/adapter.py:SimulatedBroker",
        "brokers/simulated/venue.py:SimulatedVenue",
    ]


@pytest.mark.parametrize("mode", Mode)
def test_settings_of_another_mode_differ_in_the_mode_alone(mode: Mode, eve: Path, tmp_path: Path) -> None:
    stage = lived_on(eve, tmp_path / "copy")
    usual = stage.house.settings.model_dump()
    other = type(stage.house.settings).model_validate({**usual, "mode": mode.value})
    assert other.model_dump() == {**usual, "mode": mode}
    stage.close()


# ------------------------------------------------------------------ by living the same day


@dataclass
class Seen:
    """What a day came to, as far as the first order."""

    requests: list[OrderRequest] = field(default_factory=list)
    answers: list[tuple[str, object, ReasonCode | None]] = field(default_factory=list)  # of the gate
    written: list[tuple[object, ...]] = field(default_factory=list)  # plan and intents when they were recorded

    @property
    def to_the_first_order(self) -> list[tuple[str, object, ReasonCode | None]]:
        """The gate's answers up to the first yes."""
        first = next(place for place, (_, _, code) in enumerate(self.answers) if code is None)
        return self.answers[: first + 1]


@pytest.fixture(scope="module")
def eve(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The folder of a household on the eve: BBB has fallen, tomorrow it is harvested; CCC may not be traded."""
    folder = tmp_path_factory.mktemp("eve")
    stage = make_stage(folder, empty_database, changes=FALL, execution={"restricted_symbols": ["CCC"]})
    stage.invest(0)
    stage.live(EVE)
    stage.close()
    return folder


def lived_on(eve: Path, folder: Path) -> Stage:
    shutil.copytree(eve, folder)
    return taken_up(folder, changes=FALL)


def the_day(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The decision of TODAY and the first pass of work, watched."""
    seen = Seen()
    real = gate.refuse

    def refuse(intent: Intent, quantity: Any, *others: Any) -> Reason | None:
        answer = real(intent, quantity, *others)
        seen.answers.append((intent.client_order_id, quantity, answer.code if answer else None))
        return answer

    def at(point: CrashPoint) -> None:
        if point is CrashPoint.PLAN_RECORDED:
            seen.written.append((stage.plans()[-1], stage.intents()))

    with monkeypatch.context() as patched, watched(at):
        patched.setattr(gate, "refuse", refuse)
        stage.tick(stage.before_open(TODAY))
        stage.tick(stage.decision(TODAY))
    return seen


def with_a_desk(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Seen:
    broker, handed = stage.venue.broker(), []

    def submit(request: OrderRequest) -> BrokerOrder:
        handed.append(request)
        return broker.submit(request)

    stage.alter(submit=submit)
    seen = the_day(stage, monkeypatch)
    seen.requests = handed
    return seen


def with_a_desk_that_only_notes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Seen:
    handed = []

    def submit(request: OrderRequest) -> BrokerOrder:
        handed.append(request)
        raise NotSent("noted, and not sent")

    stage.alter(submit=submit)
    seen = the_day(stage, monkeypatch)
    seen.requests = handed
    return seen


def test_a_desk_that_only_notes_is_handed_the_same(eve: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = lived_on(eve, tmp_path / "one"), lived_on(eve, tmp_path / "other")
    live, noted = with_a_desk(one, monkeypatch), with_a_desk_that_only_notes(other, monkeypatch)
    assert live.written == noted.written
    assert [plan.state for plan, _ in live.written] == [PlanState.EXECUTING]  # type: ignore[attr-defined]
    assert live.to_the_first_order == noted.to_the_first_order
    assert live.requests[0] == noted.requests[0]
    assert live.requests[0].side is Side.SELL
    one.close()
    other.close()


def _without_mode(written: tuple[object, ...]) -> tuple[object, ...]:
    """A plan and its intents, without the word that the plan cannot be sent."""
    plan, intents = written
    assert isinstance(plan, Plan)
    return replace(plan, reasons=tuple(one for one in plan.reasons if one != "MODE_OBSERVES")), intents


def test_without_a_desk_everything_is_the_same_but_for_the_call(
    eve: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = lived_on(eve, tmp_path / "one"), lived_on(eve, tmp_path / "other")
    other.house.brokers = {"main": ReadOnlyBroker(other.venue.broker())}
    before = len(other.venue.orders())
    live, observing = with_a_desk(one, monkeypatch), the_day(other, monkeypatch)
    assert [_without_mode(each) for each in observing.written] == list(live.written)
    assert live.to_the_first_order == observing.to_the_first_order
    first = live.requests[0].client_order_id
    assert observing.to_the_first_order[-1][0] == first
    ended = other.house.store.orders.get(first)
    assert ended is not None
    assert (ended.state, ended.reason) == (IntentState.REFUSED, "MODE_OBSERVES")
    assert len(other.venue.orders()) == before
    other.finish(TODAY)
    assert other.plans()[-1].state is PlanState.BLOCKED
    assert len(other.venue.orders()) == before
    one.close()
    other.close()


def test_what_the_gate_refuses_it_refuses_in_every_mode(
    eve: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbol that may not be traded, in a plan made by hand: the same code, whether or not there is a desk."""
    codes = []
    for name, broker in (("one", None), ("other", ReadOnlyBroker)):
        stage = lived_on(eve, tmp_path / name)
        if broker is not None:
            stage.house.brokers = {"main": broker(stage.venue.broker())}
        stage.tick(stage.before_open(TODAY))
        stage.venue.advance_to(stage.at(TODAY, 10))
        stage.execute((Side.SELL, "CCC", 5))
        stage.tick(stage.at(TODAY, 10))
        codes.append((stage.intents("CCC")[-1].state, stage.intents("CCC")[-1].reason))
        stage.close()
    assert codes[0] == codes[1] == (IntentState.REFUSED, "LIMIT_RESTRICTED: symbol=CCC")
