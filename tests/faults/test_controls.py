"""Halts, and what must hold when limits, keys, accounts, versions or the planner itself are wrong.

A halt works whatever else does not, and only a person's word ends it. A limit that is no limit starts nothing, and a
planner gone wild meets limits that know nothing of plans.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import harvestd
from pydantic import SecretStr
from small_house import NAMES, Stage

from daemon import gate
from daemon import household as household_module
from daemon.cycle import run_cycle, work_cycle
from daemon.gate import DaemonState
from daemon.halt import halt, halt_file, halt_reason, is_halted
from daemon.household import connection_of
from daemon.settings import Settings
from daemon.settings.loading import check_text
from faults.conftest import Staged
from faults.holding import holds
from state.records import BrokerAccount, BrokerOrder, IntentState, OrderRequest, PlanState, Side

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


def of(stage: Stage, symbol: str) -> list[BrokerOrder]:
    """harvestd's own orders of a symbol at the venue."""
    return [one for one in stage.venue.orders() if one.symbol == symbol and one.client_order_id.startswith("hv-")]


def state(stage: Stage) -> tuple[str, str]:
    """The state last written, and the code of its reason."""
    [*_, last] = stage.house.store.states.list("main")
    return last.state, last.reason.partition(":")[0]


# ------------------------------------------------------------------ F42: halts


@pytest.mark.fault("F42")
def test_a_halt_in_the_middle_of_a_batch_lets_nothing_more_leave_and_cancels_what_works(stage: Stage) -> None:
    """The word comes while the third of six orders is on its way."""
    broker = stage.venue.broker()
    asked: list[str] = []

    def submit(request: OrderRequest) -> BrokerOrder:
        asked.append(request.symbol)
        if len(asked) == 3:
            halt(stage.path, "by hand", stage.venue.now)
        return broker.submit(request)

    for name in NAMES[:6]:
        stage.venue.halt(name)  # they wait at the broker
    stage.alter(submit=submit)
    stage.execute(*((BUY, name, 1) for name in NAMES[:6]))
    stage.tick(stage.at(1, 12))
    assert asked == list(NAMES[:3])
    for minute in (14, 16, 18):
        stage.tick(stage.at(1, minute))
    assert asked == list(NAMES[:3])
    assert stage.venue.broker().open_orders() == ()
    assert [stage.only(name).state for name in NAMES[:3]] == [IntentState.CANCELLED] * 3
    assert state(stage) == ("HALTED", "STATE_HALTED")
    stage.finish(1)
    assert {stage.only(name).state for name in NAMES[3:6]} == {IntentState.EXPIRED}
    assert all("waited_for=STATE_HALTED" in stage.only(name).reason for name in NAMES[3:6])
    assert is_halted(stage.path)
    holds(stage)
    assert is_halted(stage.path), "a restart does not lift it"


@pytest.mark.fault("F42")
def test_a_halt_outlives_restarts_and_sessions_until_a_person_resumes(fallen: Stage) -> None:
    halt(fallen.path, "by hand", fallen.venue.now)
    for number in (2, 3):
        for minute in (0, 4, 8, 18):
            fallen.tick(fallen.decision(number, minute))
            fallen.restart()
        fallen.tick(fallen.evening(number))
    assert fallen.sent() == ()
    assert fallen.plans() == ()
    holds(fallen)
    answer = harvestd("resume", "--db", fallen.path)
    assert answer.code == 0
    assert "by hand" in answer.out
    fallen.live(4)
    assert of(fallen, "AAA")
    holds(fallen)


@pytest.mark.fault("F42")
def test_a_halt_is_written_while_another_process_holds_the_database(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 1))
    other = sqlite3.connect(stage.path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        answer = harvestd("halt", "something is wrong", "--db", stage.path)
    finally:
        other.close()
    assert answer.code == 0, answer.err
    assert "Halted" in answer.out
    assert "something is wrong" in halt_reason(stage.path)
    stage.tick(stage.at(1, 12))
    assert stage.sent() == ()
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F42")
def test_a_halt_is_written_with_the_broker_away(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 1))
    stage.venue.set_unavailable(True)
    assert harvestd("halt", "--db", stage.path).code == 0
    stage.tick(stage.at(1, 12))
    stage.venue.set_unavailable(False)
    stage.tick(stage.at(1, 14))
    assert stage.sent() == ()
    assert state(stage) == ("HALTED", "STATE_HALTED")
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F42")
@pytest.mark.parametrize("text", ["mode: [", "no_such_section: 1\n", ""], ids=["no YAML", "an unknown key", "empty"])
def test_a_halt_is_written_with_a_broken_configuration_beside_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    answer = harvestd("halt", "--db", stage.path)
    assert answer.code == 0, answer.err
    assert is_halted(stage.path)
    stage.execute((BUY, "AAA", 1))
    stage.tick(stage.at(1, 12))
    assert stage.sent() == ()
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F42")
def test_a_halt_that_does_not_know_its_database_says_that_nothing_is_halted_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("mode: [")
    answer = harvestd("halt")
    assert answer.code != 0
    assert "--db" in answer.out + answer.err


@pytest.mark.fault("F42")
@pytest.mark.parametrize(
    "fault", [OSError(5, "Input/output error"), RuntimeError("a mistake"), ValueError("a null byte")]
)
def test_a_halt_that_cannot_be_looked_for_is_a_halt(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """The code that looks for the halt raises: that counts as halted, and not as the end of the daemon."""

    def broken(_: Path) -> bool:
        raise fault

    stage.execute((BUY, "AAA", 1))
    with monkeypatch.context() as patched:
        patched.setattr(gate, "is_halted", broken)
        stage.tick(stage.at(1, 12))
    assert stage.sent() == ()
    refused = stage.only("AAA")
    assert refused.reason.partition(":")[0] in ("STATE_HALTED", "LIMIT_CHECK_FAILED")
    stage.finish(1)
    assert refused.state.is_final
    holds(stage)


@pytest.mark.fault("F42")
def test_the_file_system_that_hides_the_halt_is_a_halt(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.execute((BUY, "AAA", 1))

    def denied(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.lstat", denied)
        assert stage.look().state is DaemonState.HALTED
        stage.tick(stage.at(1, 12))
    assert stage.sent() == ()
    stage.tick(stage.at(1, 14))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED, "nobody had halted it"
    holds(stage)


@pytest.mark.fault("F42")
def test_nothing_the_daemon_does_lifts_a_halt(stage: Stage) -> None:
    """A contradiction halted it once. When the contradiction is gone the halt is not."""
    known = stage.venue.broker().account()
    stage.alter(account=lambda: replace(known, account_number="SOMEBODY-ELSES"))
    stage.tick(stage.decision(1))
    assert is_halted(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    stage.alter()
    stage.finish(1)
    stage.live(2)
    assert is_halted(stage.path)
    assert halt_file(stage.path).exists()
    assert stage.alerts("halt:") == ["raised"]
    harvestd("resume", "--db", stage.path)
    stage.live(3)
    assert stage.alerts("halt:") == ["raised", "recovered"]
    holds(stage)


# ------------------------------------------------------------------ F43: limits that are none


CONFIG = """\
mode: paper
household:
  accounts:
    - id: main
      type: taxable
      broker: alpaca
benchmark:
  symbols: [AAPL, AMD, BAC, BBY, CVX, GE, HD, JNJ, JPM, KO, LLY, MRK]
execution:
"""
LIMITS = (
    "order_max_usd",
    "daily_notional_max_usd",
    "price_collar_pct",
    "orders_max_per_minute",
    "repeats_max",
    "bad_quotes_max_pct",
    "volume_max_pct",
    "quote_age_max_s",
    "spread_max_bps",
    "unhedged_max_pct_nav",
    "slice_every_s",
)


@pytest.mark.fault("F43")
@pytest.mark.parametrize("value", [".nan", "NaN", "-5", ".inf", "-.inf", "a lot", "[]", "true", "'1e400'"])
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_limits_nothing_starts_nothing(tmp_path: Path, name: str, value: str) -> None:
    settings, problems = check_text(f"{CONFIG}  {name}: {value}\n", tmp_path / "config.yaml", {})
    assert settings is None
    assert [problem.key for problem in problems] == [f"execution.{name}"]


@pytest.mark.parametrize("name", LIMITS)
def test_every_one_of_these_limits_is_a_limit(tmp_path: Path, name: str) -> None:
    values = {"order_max_usd": 10, name: 10}
    text = CONFIG + "".join(f"  {key}: {value}\n" for key, value in values.items())
    settings, problems = check_text(text, tmp_path / "config.yaml", {})
    assert settings is not None, problems


@pytest.mark.fault("F43")
@pytest.mark.parametrize(
    "line",
    ["  order_max_usdd: 1000", "  daily_notional_max: 1000", "limits:\n  order_max_usd: 1000", "execution_v2:\n  a: 1"],
    ids=["a typing error", "half a name", "a section of a later version", "another one"],
)
def test_a_key_that_this_version_does_not_know_starts_nothing(tmp_path: Path, line: str) -> None:
    """An old harvestd with the configuration of a new one: what it does not know might have been a limit."""
    text = CONFIG + "  repeats_max: 5\n" + line + "\n"
    settings, problems = check_text(text, tmp_path / "config.yaml", {})
    assert settings is None
    assert problems


@pytest.mark.fault("F43")
def test_a_configuration_of_a_later_version_ends_the_command_with_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG + "  of_a_later_version: 5\n")
    answer = harvestd("run")
    assert answer.code == 78
    assert "of_a_later_version" in answer.out + answer.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml"], "nothing was started"


# ------------------------------------------------------------------ F43: the wrong keys, the wrong account


def paper_settings(tmp_path: Path, text: str = CONFIG + "  repeats_max: 5\n") -> Settings:
    settings, problems = check_text(text, tmp_path / "config.yaml", {})
    assert settings is not None, problems
    return settings


@pytest.mark.fault("F43")
def test_keys_of_a_live_account_are_only_ever_shown_to_the_paper_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the keys are, in mode: paper no address but the practice one is known to the process that sends."""
    monkeypatch.setattr(household_module, "read_secret", lambda name, *_: SecretStr(f"AK{name.upper()}"))
    connection = connection_of(paper_settings(tmp_path), {})
    assert "paper" in connection.endpoints.trading
    assert not any("//api.alpaca" in str(value) for value in vars_of(connection.endpoints))


def vars_of(endpoints: object) -> list[object]:
    return [getattr(endpoints, name) for name in getattr(endpoints, "__dataclass_fields__", {})]


@pytest.mark.fault("F43")
def test_another_account_behind_the_keys_halts_before_anything_of_it_is_read(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 1))
    rows = stage.house.store.journal.count()
    known = stage.venue.broker().account()
    stage.alter(account=lambda: replace(known, account_number="SOMEBODY-ELSES"))
    for minute in (12, 14, 16):
        stage.tick(stage.at(1, minute))
    assert stage.sent() == ()
    assert stage.house.store.journal.count() == rows
    assert "ACCOUNT_MISMATCH" in halt_reason(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    stage.alter()
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F43")
def test_another_account_that_appears_between_the_look_and_the_order_is_refused_at_the_gate(stage: Stage) -> None:
    known = stage.venue.broker().account()
    answers = iter([known])

    def account() -> BrokerAccount:
        return next(answers, replace(known, account_number="SOMEBODY-ELSES"))

    stage.execute((BUY, "AAA", 1))
    stage.alter(account=account)
    stage.tick(stage.at(1, 12))
    assert stage.sent() == ()
    refused = stage.only("AAA")
    assert (refused.state, refused.reason.partition(":")[0]) == (IntentState.REFUSED, "ACCOUNT_MISMATCH")
    assert stage.alerts(f"refused:{refused.plan_id}:ACCOUNT_MISMATCH") == ["raised"]
    stage.alter()
    stage.finish(1)
    holds(stage)


# ------------------------------------------------------------------ F43: a planner gone wild


@pytest.mark.fault("F43")
def test_a_planner_that_loops_makes_one_plan_a_session(fallen: Stage) -> None:
    fallen.venue.advance_to(fallen.decision(2))
    for _ in range(20):
        run_cycle(fallen.house, fallen.account)
    assert len(fallen.plans()) == 1
    for minute in range(0, 20, 2):
        fallen.tick(fallen.decision(2, minute))
        run_cycle(fallen.house, fallen.account)
        work_cycle(fallen.house, fallen.account)
    [plan] = fallen.plans()
    for trade in plan.trades:
        sent = sum((one.quantity for one in of(fallen, trade.symbol) if one.side is trade.side), D(0))
        assert sent <= trade.quantity
    fallen.tick(fallen.evening(2))
    holds(fallen)


def many_plans(stage: Stage, leg: Callable[[int], tuple[Side, str, int]], count: int = 100) -> None:
    for number in range(count):
        stage.execute(leg(number))


def limited(staged: Staged, **limits: object) -> Stage:
    stage = staged(optimizer={"cash_max_pct": 30}, execution=limits)
    stage.invest(0, 8_000)
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.at(1, 10))
    return stage


@pytest.mark.fault("F43")
@pytest.mark.parametrize("side", [BUY, SELL])
def test_of_a_hundred_plans_of_one_share_as_many_leave_as_repeats_are_allowed(staged: Staged, side: Side) -> None:
    stage = limited(staged, repeats_max=5)
    many_plans(stage, lambda _: (side, "AAA", 1))
    for minute in range(10, 30, 2):
        stage.tick(stage.at(1, minute))
    stage.finish(1)
    assert len(of(stage, "AAA")) == 5
    ended = Counter((one.state, one.reason.partition(":")[0]) for one in stage.intents("AAA"))
    assert ended == {(IntentState.FILLED, ""): 5, (IntentState.REFUSED, "LIMIT_REPEATS"): 95}
    for intent in stage.intents("AAA"):
        told = ["raised"] if intent.state is IntentState.REFUSED else []
        assert stage.alerts(f"refused:{intent.plan_id}:LIMIT_REPEATS") == told
    holds(stage)


@pytest.mark.fault("F43")
def test_of_thirty_plans_no_more_leave_in_a_minute_than_allowed(staged: Staged) -> None:
    stage = limited(staged, orders_max_per_minute=7, repeats_max=1000)
    many_plans(stage, lambda number: (BUY, NAMES[number % 10], 1), count=30)
    stage.tick(stage.at(1, 10))
    assert len(stage.sent()) == 7
    held_back = [one for one in stage.intents() if one.reason]
    assert {one.reason.partition(":")[0] for one in held_back} == {"LIMIT_ORDER_RATE"}
    stage.tick(stage.at(1, 10) + timedelta(seconds=30))
    assert len(stage.sent()) == 7
    stage.tick(stage.at(1, 11) + timedelta(seconds=1))
    assert len(stage.sent()) == 14
    times = sorted(one.submitted_at for one in stage.venue.orders() if one.client_order_id.startswith("hv-"))
    assert all(later - first >= timedelta(minutes=1) for first, later in zip(times, times[7:], strict=False))
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F43")
def test_of_a_hundred_plans_no_more_dollars_leave_in_a_day_than_allowed(staged: Staged) -> None:
    stage = limited(staged, daily_notional_max_usd="500", order_max_usd="400", repeats_max=1000)
    many_plans(stage, lambda number: (SELL if number % 2 else BUY, NAMES[number % 10], 1))
    for minute in range(10, 20, 2):
        stage.tick(stage.at(1, minute))
    stage.finish(1)
    sent = [stage.house.store.orders.get(each) for each in stage.sent()]
    dollars = sum((one.submitted_quantity * one.reference_price for one in sent if one is not None), D(0))
    assert 300 < dollars <= 500
    refused = [one for one in stage.intents() if one.state is IntentState.REFUSED]
    assert {one.reason.partition(":")[0] for one in refused} == {"LIMIT_DAILY_NOTIONAL"}
    assert all(stage.alerts(f"refused:{one.plan_id}:LIMIT_DAILY_NOTIONAL") == ["raised"] for one in refused)
    holds(stage)


@pytest.mark.fault("F43")
def test_an_order_larger_than_the_largest_never_leaves(staged: Staged) -> None:
    stage = limited(staged, order_max_usd="400", unhedged_max_pct_nav="100")
    plan = stage.execute((BUY, "AAA", 50))
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    assert stage.sent() == ()
    refused = stage.only("AAA")
    assert (refused.state, refused.reason.partition(":")[0]) == (IntentState.REFUSED, "LIMIT_ORDER_SIZE")
    assert stage.alerts(f"refused:{refused.client_order_id}") == ["raised"]
    found = stage.house.store.plans.get(plan.plan_id)
    assert found is not None
    assert found.state is PlanState.FAILED
    holds(stage)


@pytest.mark.fault("F43")
def test_more_intents_than_a_leg_has_shares_leave_for_no_more_than_the_leg(stage: Stage) -> None:
    """Something wrote the slices of a leg twice over: what left is never more than was planned."""
    stage.execute((BUY, "AAA", 10))
    again = [
        replace(stage.only("AAA"), client_order_id=f"hv-main-20240305-1-1-{number}", slice_number=number)
        for number in range(1, 8)
    ]
    with stage.house.store.transaction():
        stage.house.store.orders.record(again)
    for minute in range(10, 20, 2):
        stage.tick(stage.at(1, minute))
    stage.finish(1)
    assert sum((one.filled_quantity for one in of(stage, "AAA")), D(0)) == 10
    refused = [one for one in stage.intents("AAA") if one.state is IntentState.REFUSED]
    assert {one.reason.partition(":")[0] for one in refused} == {"LIMIT_CONSERVATION"}
    assert len(refused) == 7
    holds(stage)


@pytest.mark.fault("F42")
def test_asked_to_end_it_decides_and_sends_nothing_more_and_the_next_process_does(staged: Staged) -> None:
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.house.ending = True
    stage.tick(stage.decision(0))
    assert stage.plans() == ()
    stage.restart()
    stage.tick(stage.decision(0, 2))
    stage.execute((BUY, "AAA", 1))
    stage.house.ending = True
    sent = len(stage.sent())
    stage.tick(stage.decision(0, 4))
    assert len(stage.sent()) == sent
    stage.restart()
    stage.finish(0)
    assert len(stage.sent()) > sent
    holds(stage)
