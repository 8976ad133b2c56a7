"""A solver that fails, raises, hangs or answers nonsense: no plan means no trades, and tomorrow is another day."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from small_house import Stage

from daemon import planning
from faults.conftest import Staged
from faults.holding import holds
from state.reasons import ReasonCode, because
from state.records import PlannedTrade, PlanState, Side
from strategy import propose as strategy_propose
from strategy import rounding
from strategy.propose import Proposal, Situation

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
Garbled = Callable[[PlannedTrade], PlannedTrade]


@pytest.fixture
def fallen(staged: Staged) -> Stage:
    """The morning of session 2: AAA closed a fifth lower the day before, and is there to be harvested."""
    made = staged(changes=(("AAA", 1, "0.80"),))
    made.invest(0)
    made.live(1)
    made.tick(made.before_open(2))
    return made


def answers(monkeypatch: pytest.MonkeyPatch, change: Callable[[Proposal], Proposal]) -> None:
    """The strategy's answer, changed before the daemon has it."""
    real = planning.solve
    monkeypatch.setattr(planning, "solve", lambda situation: change(real(situation)))


def each_leg(change: Garbled, side: Side) -> Callable[[Proposal], Proposal]:
    def changed(proposal: Proposal) -> Proposal:
        trades = tuple(change(trade) if trade.side is side else trade for trade in proposal.trades)
        return replace(proposal, trades=trades)

    return changed


def told(stage: Stage) -> list[str]:
    """Incidents of the day that a person was told of, by key, without those of every day."""
    usual = ("harvest:", "broker:", "left_alone:")
    return [alert.key for alert in stage.told if not alert.key.startswith(usual) and not alert.recovered]


def nothing_was_done(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """No order left and a person knows; the next session plans and trades as if nothing had happened."""
    stage.finish(2)
    assert stage.sent() == ()
    assert all(plan.state is PlanState.BLOCKED for plan in stage.plans())
    assert told(stage), "somebody has to know"
    assert len(told(stage)) == len(set(told(stage))), "once"
    holds(stage)
    monkeypatch.undo()
    stage.live(3)
    assert [plan.state for plan in stage.plans() if plan.session == stage.session(3).session] == [PlanState.DONE]
    holds(stage)


# ------------------------------------------------------------------ no answer

FAILURES: dict[str, Exception] = {
    "it raises": ValueError("the matrix is not positive definite"),
    "it divides by zero": ZeroDivisionError("float division"),
    "out of memory": MemoryError(),
    "it hangs, and is stopped": TimeoutError("no answer in 60 s"),
    "the numbers are no numbers": FloatingPointError("invalid value"),
}


@pytest.mark.fault("F41")
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_solver_that_raises_leaves_a_session_without_trades(
    fallen: Stage, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def raises(_: Situation) -> Proposal:
        raise failure

    monkeypatch.setattr(planning, "solve", raises)
    nothing_was_done(fallen, monkeypatch)


@pytest.mark.fault("F41")
@pytest.mark.parametrize("code", [ReasonCode.PLAN_INFEASIBLE, ReasonCode.PLAN_SOLVER_FAILED])
def test_no_set_of_trades_is_a_blocked_plan_that_says_why(
    fallen: Stage, monkeypatch: pytest.MonkeyPatch, code: ReasonCode
) -> None:
    why = because(code, status="infeasible", why="turnover and cash")
    answers(monkeypatch, lambda proposal: replace(proposal, trades=(), reasons=(why,)))
    fallen.tick(fallen.decision(2))
    [plan] = fallen.plans()
    assert plan.state is PlanState.BLOCKED
    assert str(why) in plan.reasons
    assert fallen.alerts(f"plan:{plan.plan_id}:blocked") == ["raised"]
    nothing_was_done(fallen, monkeypatch)


@pytest.mark.fault("F41")
@pytest.mark.parametrize("status", ["infeasible", "failed", "timeout"])
def test_the_programs_own_statuses_without_a_plan(fallen: Stage, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """The optimizer itself gives up; nothing between it and the daemon makes trades of that."""
    real = rounding.optimize

    def gives_up(*arguments: Any, **options: Any) -> Any:
        solution = real(*arguments, **options)
        nan = solution.buy * math.nan
        return replace(solution, status=status, buy=nan, sell=solution.sell * math.nan, reasons=("by hand",))

    monkeypatch.setattr(rounding, "optimize", gives_up)
    nothing_was_done(fallen, monkeypatch)


@pytest.mark.fault("F41")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e9, 1e-12])
def test_garbage_called_optimal_becomes_no_order(fallen: Stage, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """The optimizer says optimal and gives nonsense for every name and lot."""
    real = rounding.optimize

    def nonsense(*arguments: Any, **options: Any) -> Any:
        solution = real(*arguments, **options)
        return replace(solution, buy=solution.buy * 0 + value, sell=solution.sell * 0 + value)

    monkeypatch.setattr(rounding, "optimize", nonsense)
    fallen.finish(2)
    assert fallen.sent() == ()
    assert all(plan.state is PlanState.BLOCKED for plan in fallen.plans())
    holds(fallen)
    monkeypatch.undo()
    fallen.live(3)
    assert [plan.state for plan in fallen.plans() if plan.session == fallen.session(3).session] == [PlanState.DONE]
    holds(fallen)


@pytest.mark.fault("F41")
def test_the_solver_has_a_deadline(fallen: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """However hard the program, the daemon gets an answer, or none, in time to act on it."""
    limits: list[float] = []
    real = rounding.optimize

    def timed(*arguments: Any, **options: Any) -> Any:
        limits.append(options.get("time_limit_s", math.inf))
        return real(*arguments, **options)

    monkeypatch.setattr(rounding, "optimize", timed)
    fallen.finish(2)
    assert limits
    until_the_last_order = fallen.house.timetable.decide_before_close - fallen.house.timetable.stop_before_close
    assert max(limits) < until_the_last_order.total_seconds()
    holds(fallen)


# ------------------------------------------------------------------ an answer that makes no sense

NONSENSE: dict[str, tuple[Side, Garbled]] = {
    "a sale of no number of shares": (SELL, lambda trade: replace(trade, quantity=D("NaN"))),
    "a sale of infinitely many": (SELL, lambda trade: replace(trade, quantity=D("Infinity"))),
    "a sale of less than none": (SELL, lambda trade: replace(trade, quantity=-trade.quantity)),
    "a sale of none": (SELL, lambda trade: replace(trade, quantity=D(0))),
    "a sale of more than is held": (SELL, lambda trade: replace(trade, quantity=trade.quantity * 3)),
    "a sale of other lots": (SELL, lambda trade: replace(trade, lots=())),
    "a sale of something not held": (SELL, lambda trade: replace(trade, symbol="ZZZ")),
    "a purchase of no number of shares": (BUY, lambda trade: replace(trade, quantity=D("NaN"))),
    "a purchase of infinitely many": (BUY, lambda trade: replace(trade, quantity=D("Infinity"))),
    "a purchase of less than none": (BUY, lambda trade: replace(trade, quantity=-trade.quantity)),
    "a purchase at no price": (BUY, lambda trade: replace(trade, price=D("NaN"))),
    "a purchase at ten times the price": (BUY, lambda trade: replace(trade, price=trade.price * 10)),
    "a purchase for more than there is": (BUY, lambda trade: replace(trade, quantity=trade.quantity * 10)),
    "a crumb": (BUY, lambda trade: replace(trade, quantity=D("0.000000000001"))),
    "a crumb of a dollar": (BUY, lambda trade: replace(trade, quantity=D("0.001"))),
    "a purchase of something unknown": (BUY, lambda trade: replace(trade, symbol="ZZZ")),
    "legs numbered alike": (BUY, lambda trade: replace(trade, leg=1)),
}


@pytest.mark.fault("F41")
@pytest.mark.parametrize(("side", "change"), NONSENSE.values(), ids=NONSENSE)
def test_a_plan_that_makes_no_sense_is_blocked_before_any_intent_is_recorded(
    fallen: Stage, monkeypatch: pytest.MonkeyPatch, side: Side, change: Garbled
) -> None:
    answers(monkeypatch, each_leg(change, side))
    fallen.tick(fallen.decision(2))
    assert fallen.intents() == ()
    assert fallen.sent() == ()
    nothing_was_done(fallen, monkeypatch)


@pytest.mark.fault("F41")
def test_a_plan_that_turns_the_whole_account_over_is_blocked(fallen: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sale is of shares that are held, every purchase is paid for, and together they are no plan anyone meant."""
    sections = fallen.house.settings
    tight = sections.optimizer.model_copy(update={"turnover_max_pct": 5.0})
    fallen.house.settings = sections.model_copy(update={"optimizer": tight})
    real = planning.solve

    def everything(situation: Situation) -> Proposal:
        proposal = real(situation)
        [aaa] = [trade for trade in proposal.trades if trade.side is SELL]
        sales = [aaa]
        for leg, name in enumerate(("GGG", "HHH", "III"), start=100):
            held = situation.shares_held[name]
            price = situation.prices[name]
            lots = strategy_propose.planned_lots(situation.queues[name], held, price, situation.today)
            sales.append(replace(aaa, leg=leg, symbol=name, quantity=held, price=price, lots=lots))
        return replace(proposal, trades=(*sales, *(one for one in proposal.trades if one.side is BUY)))

    monkeypatch.setattr(planning, "solve", everything)
    fallen.tick(fallen.decision(2))
    assert fallen.intents() == ()
    nothing_was_done(fallen, monkeypatch)


@pytest.mark.fault("F41")
@pytest.mark.parametrize("name", ["tracking_error_before", "tracking_error_after"])
def test_figures_of_a_plan_that_are_no_numbers_block_it(
    fallen: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answers(monkeypatch, lambda proposal: replace(proposal, **{name: math.nan}))
    fallen.tick(fallen.decision(2))
    assert fallen.intents() == ()
    nothing_was_done(fallen, monkeypatch)
