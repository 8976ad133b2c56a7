"""What waits for a person, and what becomes of it: approve, reject, expire, change. Every story ends in the history.

Session 0 asks to invest 100,000 USD in ten names, about 10,000 each. Decided at 15:40 New York, a question expires
20 hours later: it can still be answered after the next open, when prices are those of another close.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import DAYS, HISTORY, NAMES, Stage, stage_settings
from sqlalchemy import text

from daemon.approvals import changed_materially, needs_approval
from daemon.cycle import run_cycle
from state.records import (
    IntentState,
    Plan,
    PlannedLot,
    PlannedTrade,
    PlanState,
    Side,
    Term,
    TradeReason,
)
from state.store import Approval, Command, Store

D = Decimal
ASKING = {"order_usd": "9000", "plan_pct_nav": "200"}  # an order of 10,000 waits
PLAN = "main-20240304-1"


def next_morning(stage: Stage, number: int = 1) -> None:
    """The next session: two minutes after its open the answer is taken, then the orders are worked."""
    stage.tick(stage.before_open(number))
    for minutes in (2, 4, 6):
        stage.tick(stage.at(number, minutes))


def one_plan(stage: Stage) -> Plan:
    (plan,) = stage.plans()
    return plan


def questions(stage: Stage) -> list[Approval]:
    return list(stage.house.store.plans.approvals())


def answer(stage: Stage, word: str, plan_id: str = PLAN) -> str:
    """A person types `harvestd plans approve|reject`; returns what they are told, one line."""
    outcome = harvestd("plans", word, plan_id, "--db", stage.path)
    return " ".join((outcome.out + outcome.err).split())


def outcomes(stage: Stage) -> list[str]:
    """What became of the commands of the inbox."""
    rows = stage.house.store.database.execute(text("SELECT outcome FROM commands ORDER BY taken_at, command_id"))
    return [row.outcome for row in rows]


@pytest.fixture
def asking(staged: Staged) -> Stage:
    """The evening of session 0: the opening plan waits for an answer."""
    stage = staged(approvals=ASKING)
    stage.live(0)
    assert one_plan(stage).state is PlanState.AWAITING_APPROVAL
    return stage


# ------------------------------------------------------------------ what waits


def test_an_order_above_order_usd_waits_and_nothing_is_sent(asking: Stage) -> None:
    plan = one_plan(asking)
    assert asking.sent() == asking.intents() == ()
    above = [one for one in plan.reasons if one.startswith("APPROVAL_ORDER_VALUE")]
    assert len(above) == sum(trade.notional > 9000 for trade in plan.trades) == 10
    assert "above=9000" in above[0]
    (question,) = questions(asking)
    assert (question.plan_id, question.revision, question.decision) == (PLAN, 0, None)
    assert question.expires_at - question.requested_at == timedelta(hours=20)
    (alert,) = (one for one in asking.told if one.key == f"approval:{PLAN}:0")
    assert f"harvestd plans show {PLAN}" in alert.message


def test_at_the_threshold_it_does_not_wait(staged: Staged) -> None:
    stage = staged(approvals={"order_usd": "11000", "plan_pct_nav": "200"})
    stage.live(0)
    assert one_plan(stage).state is PlanState.DONE
    assert questions(stage) == []


def test_a_plan_above_plan_pct_nav_waits(staged: Staged) -> None:
    stage = staged(approvals={"plan_pct_nav": "50"})
    stage.live(0)
    plan = one_plan(stage)
    assert plan.state is PlanState.AWAITING_APPROVAL
    (reason,) = (one for one in plan.reasons if one.startswith("APPROVAL"))
    assert reason == f"APPROVAL_PLAN_VALUE: usd={plan.gross_value:.2f} above=50000.00"


def plan_of(*trades: PlannedTrade, nav: int = 100_000) -> Plan:
    day = date(2024, 3, 4)
    from small_house import TIMES

    now = TIMES[HISTORY].closes_at
    return Plan(PLAN, "main", day, 1, now, PlanState.PROPOSED, trades, (), D(nav))


def trade(
    leg: int, symbol: str, usd: int, reason: TradeReason, side: Side = Side.BUY, gains: tuple[int, ...] = ()
) -> PlannedTrade:
    lots = tuple(
        PlannedLot(f"lot-{number}", date(2023, 1, 2), D(1), D(0), Term.LONG, D(gain), D(0))
        for number, gain in enumerate(gains)
    )
    return PlannedTrade(leg, symbol, side, D(usd) / 10, D(10), reason, "", lots=lots)


def codes(plan: Plan, **approvals: Any) -> list[str]:
    from pathlib import Path

    return [reason.code.value for reason in needs_approval(plan, stage_settings(Path("x.db"), approvals=approvals))]


def test_the_thresholds_themselves_do_not_ask() -> None:
    bought = plan_of(trade(1, "AAA", 1000, TradeReason.REBALANCE))
    assert codes(bought, order_usd="1000") == []
    assert codes(bought, order_usd="999.99") == ["APPROVAL_ORDER_VALUE"]
    assert codes(bought, plan_pct_nav="1") == []
    assert codes(bought, plan_pct_nav="0.99") == ["APPROVAL_PLAN_VALUE"]


def test_gains_are_counted_without_the_losses_beside_them() -> None:
    """300 and 200 of gains and 5,000 of losses: 500 of gain."""
    sold = plan_of(trade(1, "AAA", 1000, TradeReason.REBALANCE, Side.SELL, gains=(300, -5000, 200)))
    assert codes(sold, gain_usd="500") == []
    assert codes(sold, gain_usd="499.99") == ["APPROVAL_GAIN"]


def test_what_is_preapproved_counts_towards_neither_order_nor_plan() -> None:
    rules = [{"kind": "harvest", "below_usd": "8000"}]
    swap = plan_of(
        trade(1, "AAA", 7999, TradeReason.HARVEST, Side.SELL),
        trade(2, "BBB", 7999, TradeReason.REPLACEMENT),
    )
    asking = {"order_usd": "1000", "plan_pct_nav": "5"}
    assert codes(swap, **asking) == ["APPROVAL_ORDER_VALUE", "APPROVAL_ORDER_VALUE", "APPROVAL_PLAN_VALUE"]
    assert codes(swap, **asking, preapproved=rules) == []
    larger = plan_of(trade(1, "AAA", 8000, TradeReason.HARVEST, Side.SELL))
    assert codes(larger, **asking, preapproved=rules) == ["APPROVAL_ORDER_VALUE", "APPROVAL_PLAN_VALUE"]
    other = plan_of(trade(1, "AAA", 7999, TradeReason.REBALANCE))
    assert codes(other, **asking, preapproved=rules) == ["APPROVAL_ORDER_VALUE", "APPROVAL_PLAN_VALUE"]


@pytest.mark.parametrize("preapproved", [True, False])
def test_a_preapproved_harvest_is_executed_the_same_day(staged: Staged, preapproved: bool) -> None:
    rules = [{"kind": "harvest", "below_usd": "9000"}, {"kind": "deposit", "below_usd": "9000"}]
    approvals: dict[str, Any] = {"order_usd": "1000", "preapproved": rules if preapproved else []}
    stage = staged(changes=[("BBB", 1, "0.8")], approvals=approvals)
    stage.invest(0)
    stage.live(1, 2)
    plan = one_plan(stage)
    assert any(one.reason is TradeReason.HARVEST and one.symbol == "BBB" for one in plan.trades)
    assert plan.state is (PlanState.DONE if preapproved else PlanState.AWAITING_APPROVAL)
    assert bool(stage.sent()) is preapproved


# ------------------------------------------------------------------ yes


def test_approved_it_is_executed_at_fresh_prices(asking: Stage) -> None:
    asked = one_plan(asking)
    assert "approve main-20240304-1 (revision 0). It is taken at the daemon's next step." in answer(asking, "approve")
    next_morning(asking)
    done = one_plan(asking)
    assert done.state is PlanState.DONE
    fresh = {name: asking.close_of(name, 0) for name in NAMES}
    for before, after in zip(asked.trades, done.trades, strict=True):
        assert (before.symbol, before.quantity) == (after.symbol, after.quantity)
        assert after.price != before.price
        assert abs(after.price / fresh[after.symbol] - 1) < D("0.0001"), "the close after the question was put"
    assert {one.session for one in asking.intents()} == {asking.session(1).session}
    assert {one.state for one in asking.intents()} == {IntentState.FILLED}


def test_it_leaves_a_history_row_with_weights_before_and_after(asking: Stage) -> None:
    answer(asking, "approve")
    next_morning(asking)
    asking.tick(asking.evening(1))
    (question,) = questions(asking)
    assert (question.decision, question.decided_at is not None, bool(question.decided_by)) == ("approved", True, True)
    assert question.weights_before == {}
    assert question.weights_after is not None
    assert set(question.weights_after) == set(NAMES)
    assert all(abs(weight - D("0.1")) < D("0.01") for weight in question.weights_after.values())
    assert asking.house.store.plans.weights_after(PLAN) == question.weights_after


def test_while_a_plan_waits_no_other_is_made(asking: Stage) -> None:
    asking.tick(asking.before_open(1))
    asking.tick(asking.at(1, 60))  # still within the 20 hours
    snapshot = asking.look()
    run_cycle(asking.house, asking.account)
    assert snapshot.cash == 100_000
    assert len(asking.plans()) == 1


# ------------------------------------------------------------------ the prices have moved


@pytest.fixture
def moved(staged: Staged) -> Stage:
    """CCC closes 5 % higher after the question was put; 2 % is the tolerance. The answer was yes."""
    stage = staged(changes=[("CCC", 0, "1.05")], approvals=ASKING)
    stage.live(0)
    answer(stage, "approve")
    stage.tick(stage.before_open(1))
    stage.tick(stage.at(1, 2))
    return stage


def test_moved_beyond_the_tolerance_it_asks_again(moved: Stage) -> None:
    plan = one_plan(moved)
    assert (plan.state, plan.revision) == (PlanState.AWAITING_APPROVAL, 1)
    assert moved.sent() == ()
    first, second = questions(moved)
    assert (first.decision, second.decision, second.revision) == ("approved", None, 1)
    assert second.reasons[0].startswith("APPROVAL_CHANGED: symbol=CCC value_change_pct=")
    assert second.expires_at == moved.at(1, 2) + timedelta(hours=20)
    assert [one.key for one in moved.told if one.key.startswith("approval:")] == [
        f"approval:{PLAN}:0",
        f"approval:{PLAN}:1",
    ]


def test_the_old_yes_does_not_count_for_the_new_question(moved: Stage) -> None:
    for minutes in (4, 6, 8):
        moved.tick(moved.at(1, minutes))
    assert one_plan(moved).state is PlanState.AWAITING_APPROVAL
    assert moved.sent() == ()


def test_a_second_yes_executes_the_plan_as_it_is_now(moved: Stage) -> None:
    assert "(revision 1)" in answer(moved, "approve")
    moved.tick(moved.at(1, 4))
    moved.finish(1)
    plan = next(plan for plan in moved.plans() if plan.plan_id == PLAN)
    assert plan.state is PlanState.DONE
    ccc = next(one for one in plan.trades if one.symbol == "CCC")
    assert abs(ccc.price / moved.close_of("CCC", 0) - 1) < D("0.0001")
    assert [(one.revision, one.decision) for one in questions(moved)] == [(0, "approved"), (1, "approved")]
    assert all(set(one.weights_after or {}) == set(NAMES) for one in questions(moved))


@pytest.mark.parametrize(("price", "asks"), [("10.2", False), ("10.21", True), ("9.8", False), ("9.79", True)])
def test_two_per_cent_of_a_leg_is_not_a_material_change_and_more_is(price: str, asks: bool) -> None:
    old = plan_of(trade(1, "AAA", 1000, TradeReason.REBALANCE))
    new = replace(old, trades=(replace(old.trades[0], price=D(price)),))
    assert (changed_materially(old, new, D(2)) is not None) is asks


def priced(prices: list[str]) -> Plan:
    """A plan of one leg of 1,000 USD a name, at these prices instead of 10 USD."""
    legs = [trade(number, f"N{number}", 1000, TradeReason.REBALANCE) for number in range(1, len(prices) + 1)]
    legs = [replace(leg, price=D(price)) for leg, price in zip(legs, prices, strict=True)]
    return plan_of(*legs)


@pytest.mark.parametrize(
    ("what", "prices", "asks"),
    [
        ("a calm night", ["10.1", "9.9"] * 10, False),
        ("a night on which everything moves", ["10.21", "9.79"] * 10, True),
        ("one of twenty by 3.9 %", ["10.39"] + ["10"] * 19, False),
        ("one of twenty by 4.1 %", ["10.41"] + ["10"] * 19, True),
        ("one of five hundred by 9 %", ["10.9"] + ["10.05"] * 499, False),
        ("one of five hundred to nothing", ["0.01"] + ["10"] * 499, False),
        ("one of forty to half", ["5"] + ["10"] * 39, True),
    ],
)
def test_a_large_plan_is_judged_as_a_whole_and_by_legs_that_matter(what: str, prices: list[str], asks: bool) -> None:
    old = priced(["10"] * len(prices))
    assert (changed_materially(old, priced(prices), D(2)) is not None) is asks


def test_a_gain_where_there_was_a_loss_is_a_material_change() -> None:
    """The price is the same; meanwhile older lots came to stand at the head of the queue."""
    old = plan_of(trade(1, "AAA", 1000, TradeReason.HARVEST, Side.SELL, gains=(-100,)))
    new = plan_of(trade(1, "AAA", 1000, TradeReason.HARVEST, Side.SELL, gains=(50,)))
    reason = changed_materially(old, new, D(2))
    assert reason is not None
    assert dict(reason.details)["gain_change_pct"] == "15.00"


# ------------------------------------------------------------------ no, and no answer


def test_rejected_when_asked_again_both_questions_have_an_end(moved: Stage) -> None:
    answer(moved, "reject")
    moved.tick(moved.at(1, 4))
    assert one_plan(moved).state is PlanState.REJECTED
    rows = moved.house.store.database.execute(text("SELECT decision, weights_after FROM approvals ORDER BY revision"))
    assert [tuple(row) for row in rows] == [("approved", "{}"), ("rejected", "{}")]
    assert moved.sent() == ()


def test_rejected_it_ends_and_the_weights_stay_as_they_were(asking: Stage) -> None:
    answer(asking, "reject")
    asking.tick(asking.before_open(1))
    asking.tick(asking.at(1, 2))
    plan = one_plan(asking)
    assert plan.state is PlanState.REJECTED
    assert plan.reasons[-1].startswith("APPROVAL_REJECTED: by=")
    (question,) = questions(asking)
    assert question.decision == "rejected"
    assert question.weights_after == question.weights_before == {}
    assert asking.sent() == ()


def test_unanswered_it_expires(staged: Staged) -> None:
    """With shares in the account, so that there are weights to keep: a drop asks for a harvest, nobody answers."""
    stage = staged(changes=[("BBB", 1, "0.8")], approvals={"order_usd": "1000"})
    stage.invest(0)
    stage.live(1, 2)
    asked = one_plan(stage)
    assert asked.state is PlanState.AWAITING_APPROVAL
    assert asked.expires_at is not None
    stage.tick(stage.before_open(3))
    stage.tick(asked.expires_at - timedelta(seconds=1))
    assert one_plan(stage).state is PlanState.AWAITING_APPROVAL
    stage.tick(asked.expires_at)
    ended = next(plan for plan in stage.plans() if plan.plan_id == asked.plan_id)
    assert ended.state is PlanState.EXPIRED
    assert ended.reasons[-1] == "APPROVAL_EXPIRED: by=time"
    (question,) = (one for one in questions(stage) if one.plan_id == asked.plan_id)
    assert (question.decision, question.decided_by) == ("expired", "time")
    assert question.weights_before == question.weights_after
    assert set(question.weights_before or {}) == set(NAMES)
    assert stage.house.store.plans.weights_after(asked.plan_id) == question.weights_before
    assert stage.sent() == ()


def test_a_yes_that_comes_too_late_is_told_so(asking: Stage) -> None:
    expires = one_plan(asking).expires_at
    assert expires is not None
    asking.tick(asking.before_open(1))
    asking.venue.advance_to(expires - timedelta(minutes=1))
    answer(asking, "approve")
    asking.tick(expires)
    assert outcomes(asking) == ["refused: plan main-20240304-1 expired at 2024-03-05 16:40 UTC"]
    assert one_plan(asking).state is PlanState.EXPIRED
    assert asking.sent() == ()


# ------------------------------------------------------------------ clumsy answers


def test_answering_twice_is_told_and_changes_nothing(asking: Stage) -> None:
    answer(asking, "approve")
    assert "That answer was already given." in answer(asking, "approve")
    asking.tick(asking.before_open(1))
    asking.tick(asking.at(1, 2))
    assert outcomes(asking) == ["done"]
    executing = answer(asking, "approve")
    assert executing == f"harvestd: Plan {PLAN} is executing; only a plan awaiting_approval can be answered."
    assert len(asking.sent()) == 10


@pytest.mark.parametrize("words", [("approve", "reject"), ("reject", "approve")])
def test_yes_and_no_before_the_daemon_looks_the_no_counts(asking: Stage, words: tuple[str, str]) -> None:
    for word in words:
        answer(asking, word)
    asking.tick(asking.before_open(1))
    asking.tick(asking.at(1, 2))
    assert sorted(outcomes(asking)) == ["done", f"refused: plan {PLAN} is rejected, not awaiting_approval"]
    assert one_plan(asking).state is PlanState.REJECTED


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_a_plan_that_does_not_exist(asking: Stage, word: str) -> None:
    outcome = harvestd("plans", word, "main-20240304-7", "--db", asking.path)
    assert (outcome.code, outcome.err) == (1, "harvestd: No plan main-20240304-7. `harvestd plans` lists them.\n")


def test_a_command_for_a_plan_that_does_not_exist_is_refused_by_the_daemon_too(asking: Stage) -> None:
    """A command can come from elsewhere than the command line."""
    asking.house.store.commands.put(Command("approve-x", "approve", "x", asking.venue.now, "someone"))
    asking.tick(asking.before_open(1))
    asking.tick(asking.at(1, 2))
    assert outcomes(asking) == ["refused: no plan x"]


# ------------------------------------------------------------------ approved, and yet


def test_approved_but_no_longer_clean_it_is_blocked(staged: Staged) -> None:
    """The spouse bought the name that is to be harvested, before the answer came. Nothing is sold."""
    stage = staged(changes=[("BBB", 1, "0.8")], approvals={"order_usd": "1000"})
    stage.invest(0)
    stage.live(1, 2)
    asked = one_plan(stage)
    assert {one.symbol for one in asked.trades if one.side is Side.SELL} == {"BBB"}
    stage.imported("spouse", Side.BUY, "BBB", 50, DAYS[HISTORY + 2])
    answer(stage, "approve", asked.plan_id)
    stage.tick(stage.before_open(3))
    stage.tick(stage.at(3, 2))
    plan = next(plan for plan in stage.plans() if plan.plan_id == asked.plan_id)
    assert plan.state is PlanState.BLOCKED
    assert any(one.startswith("WASH_WHAT_IF_DISALLOWS: symbol=BBB") and "spouse" in one for one in plan.reasons)
    assert stage.sent() == ()
    assert stage.alerts(f"plan:{plan.plan_id}:blocked") == ["raised"]
    (question,) = (one for one in questions(stage) if one.plan_id == plan.plan_id)
    assert question.weights_after == question.weights_before, "the history says that nothing changed"


def test_approved_but_the_shares_are_gone_it_is_blocked(staged: Staged) -> None:
    stage = staged(changes=[("BBB", 1, "0.8")], approvals={"order_usd": "1000"})
    stage.invest(0)
    stage.live(1, 2)
    asked = one_plan(stage)
    stage.tick(stage.before_open(3))
    stage.venue.advance_to(stage.at(3, 1))
    stage.outside(Side.SELL, "BBB", stage.venue.broker().positions()[1].quantity)
    stage.venue.advance_to(stage.at(3, 3))
    answer(stage, "approve", asked.plan_id)
    stage.tick(stage.at(3, 4))
    plan = next(plan for plan in stage.plans() if plan.plan_id == asked.plan_id)
    assert plan.state is PlanState.BLOCKED
    assert "shares or prices are missing" in plan.reasons[-1]
    assert stage.sent() == ()


def test_approved_after_the_last_minute_it_waits_for_the_next_session(asking: Stage) -> None:
    """16 hours are left: the yes comes two minutes before the close, too late to trade today."""
    store, plan = asking.house.store, one_plan(asking)
    late = asking.decision(1, 18)
    store.plans.update(PLAN, asking.venue.now, expires_at=late + timedelta(hours=24))
    asking.tick(asking.before_open(1))
    asking.venue.advance_to(late)
    answer(asking, "approve")
    asking.tick(late)
    assert (one_plan(asking).state, asking.sent()) == (PlanState.APPROVED, ())
    asking.tick(asking.before_open(2))
    asking.tick(asking.at(2, 2))
    assert one_plan(asking).state is PlanState.EXECUTING
    assert {one.session for one in asking.intents()} == {asking.session(2).session}
    assert plan.plan_id == PLAN


# ------------------------------------------------------------------ all on disk, or nothing


def test_a_decision_is_written_whole_or_not_at_all(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up while the intents are written: there is no plan, and the session's decision is not taken."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.decision(0))

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(stage.house.store.orders, "record", full)
        with pytest.raises(OSError, match="No space left"):
            run_cycle(stage.house, stage.account)
    with_it = Store.open(stage.path, read_only=True)
    assert with_it.plans.list() == ()
    assert "decide" not in with_it.agenda.done(stage.session(0).session, "main")
    with_it.close()
    stage.tick(stage.decision(0, 2))
    assert one_plan(stage).state is PlanState.EXECUTING


def test_one_decision_a_session_whatever_happens_to_the_process(staged: Staged) -> None:
    """F11: restarted within the window, the daemon does not decide again; a second `once` makes no second plan."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.tick(stage.decision(0))
    stage.restart()
    stage.tick(stage.decision(0, 2))
    assert run_cycle(stage.house, stage.account) is None
    stage.finish(0)
    assert len(stage.plans()) == 1
    assert len(set(stage.sent())) == len(stage.sent()) == 10


def test_when_there_is_nothing_worth_trading_nothing_is_recorded(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    stage.live(1)
    assert stage.plans() == ()
    assert "decide" in stage.house.store.agenda.done(stage.session(1).session, "main")
    assert [one.key for one in stage.told] == []


@pytest.mark.parametrize("state", ["halted", "blocked", "closed"])
def test_no_plan_is_made_while_the_state_allows_no_order(staged: Staged, state: str) -> None:
    from daemon.halt import halt

    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.decision(0) if state != "closed" else stage.evening(0))
    if state == "halted":
        halt(stage.path, "by hand", stage.venue.now)
    elif state == "blocked":
        stage.venue.block_account()
    assert run_cycle(stage.house, stage.account) is None
    assert stage.plans() == ()
    assert "decide" not in stage.house.store.agenda.done(stage.session(0).session, "main")
