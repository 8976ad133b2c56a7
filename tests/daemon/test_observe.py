"""Observe mode: the same path, up to the call that sends, which is not there. And what the plans would have come to."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import Stage

from brokers.protocol import OrderDesk
from daemon.errors import MustHalt
from daemon.execution import _submitted, work
from daemon.house import tax_profile_of
from daemon.opening import ReadOnlyBroker
from daemon.scorecard import Score, scores
from state.records import IntentState, PlanState, Side
from state.store import schema

FALLS = (("AAA", 3, "0.80"),)  # AAA loses a fifth in session 3


@pytest.fixture
def watched(staged: Staged) -> Stage:
    """An account somebody else invested, that harvestd from now on only looks at."""
    stage = staged(changes=FALLS)
    stage.invest(0)
    stage.house.brokers = {"main": ReadOnlyBroker(stage.venue.broker())}
    return stage


def observed_plans(stage: Stage) -> list[str]:
    return [plan.plan_id for plan in stage.house.store.plans.list() if plan.state is PlanState.BLOCKED and plan.trades]


def test_a_broker_that_is_only_read_is_no_order_desk(watched: Stage) -> None:
    assert isinstance(watched.venue.broker(), OrderDesk)
    assert not isinstance(watched.house.brokers["main"], OrderDesk)
    assert watched.house.desk("main") is None


def test_the_plan_is_made_and_written_down_and_nothing_is_sent(watched: Stage) -> None:
    before = len(watched.venue.orders())
    watched.live(1, 4)
    plans = [plan for plan in watched.house.store.plans.list() if plan.trades]
    assert plans
    sold = [trade for plan in plans for trade in plan.trades if trade.symbol == "AAA" and trade.side is Side.SELL]
    assert sold, "the loss of session 3 is in a plan"
    assert {plan.state for plan in plans} == {PlanState.BLOCKED}
    assert all(any(reason.startswith("MODE_OBSERVES") for reason in plan.reasons) for plan in plans)
    intents = watched.house.store.orders.list()
    assert {one.state for one in intents} <= {IntentState.REFUSED, IntentState.EXPIRED}
    assert {one.reason.split(":")[0] for one in intents} <= {"MODE_OBSERVES", "ORDER_UNFUNDED"}
    assert all(one.submitted_quantity == one.filled_quantity == 0 for one in intents)
    assert "MODE_OBSERVES" in {one.reason for one in intents}, "the same path, up to the call that sends"
    assert len(watched.venue.orders()) == before
    assert watched.house.store.plans.approvals() == ()


def test_what_an_earlier_run_left_to_be_sent_ends_unsent_and_plans_go_on(staged: Staged) -> None:
    """The mode was paper and is observe from this start on, with a plan half way."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 10))
    stage.execute((Side.BUY, "AAA", 10))
    stage.house.brokers = {"main": ReadOnlyBroker(stage.venue.broker())}
    stage.finish(0)
    assert (stage.only("AAA").state, stage.only("AAA").reason) == (IntentState.REFUSED, "MODE_OBSERVES")
    assert stage.house.store.plans.list(only_open=True) == ()
    assert [plan.session for plan in stage.house.store.plans.list()][-1] == stage.session(0).session
    assert stage.venue.orders() == ()


def test_a_plan_approved_before_is_not_carried_out(staged: Staged) -> None:
    stage = staged(approvals={"order_usd": "1"})
    stage.live(0)
    [plan] = stage.house.store.plans.list(only_open=True)
    harvestd("plans", "approve", plan.plan_id, "--db", stage.path)
    stage.house.brokers = {"main": ReadOnlyBroker(stage.venue.broker())}
    stage.tick(stage.before_open(1))
    stage.tick(stage.at(1, 2))
    ended = stage.house.store.plans.get(plan.plan_id)
    assert ended is not None
    assert ended.state is PlanState.BLOCKED
    assert ended.reasons[-1] == "MODE_OBSERVES"
    assert {one.reason for one in stage.house.store.orders.list()} == {"MODE_OBSERVES"}
    assert stage.venue.orders() == ()


def test_even_the_function_that_sends_finds_nothing_to_send_with(staged: Staged) -> None:
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 10))
    stage.execute((Side.BUY, "AAA", 10))
    stage.house.brokers = {"main": ReadOnlyBroker(stage.venue.broker())}
    with pytest.raises(MustHalt, match="by a process that only looks"):
        _submitted(stage.house, stage.only("AAA"))
    assert stage.venue.orders() == ()


# ------------------------------------------------------------------ the scorecard


def scored(stage: Stage, after: int | None = None) -> tuple[Score, ...]:
    return scores(stage.house.store, tax_profile_of(stage.house.settings), after_sessions=after)


def test_the_scorecard_by_hand(watched: Stage) -> None:
    """One plan, reckoned again from the plan's own legs and the venue's closes."""
    watched.live(1, 6)
    first = scored(watched)[0]
    plan = watched.house.store.plans.get(first.plan_id)
    assert plan is not None
    assert (first.until, first.trades) == (watched.session(6).session, len(plan.trades))
    assert first.sessions == 6 - next(n for n in range(7) if watched.session(n).session == plan.session)

    def close(symbol: str) -> Decimal:
        return watched.close_of(symbol, 6)

    effect = sum(
        (1 if leg.side is Side.BUY else -1) * leg.quantity * (close(leg.symbol) - leg.price) - leg.cost
        for leg in plan.trades
    )
    assert first.value_effect_usd == effect.quantize(Decimal("0.01"))
    lots = [lot for leg in plan.trades for lot in leg.lots]
    losses = -sum(lot.gain_loss + lot.disallowed for lot in lots if lot.gain_loss + lot.disallowed < 0)
    gains = sum(lot.gain_loss + lot.disallowed for lot in lots if lot.gain_loss + lot.disallowed > 0)
    assert (first.loss_usd, first.gain_usd) == (round(losses, 2), round(gains, 2))
    assert first.tax_saved_usd == round((losses - gains) * Decimal("0.408"), 2)  # all held for days: short-term


def test_a_plan_is_judged_only_by_closes_after_it(watched: Stage) -> None:
    watched.live(1, 4)
    [*_, newest] = scored(watched)
    assert newest.session == watched.session(4).session
    assert (newest.until, newest.sessions, newest.value_effect_usd) == (None, 0, None)
    watched.live(5, 7)
    by_id = {one.plan_id: one for one in scored(watched, after=2)}
    assert by_id[newest.plan_id].sessions == 2
    assert all(one.until is None or one.until > one.session for one in by_id.values())


def test_a_missing_price_is_said_and_never_filled_in(watched: Stage) -> None:
    watched.live(1, 5)
    first = scored(watched)[0]
    gone = watched.house.store.plans.get(first.plan_id)
    assert gone is not None
    symbol = gone.trades[0].symbol
    watched.house.store.database.delete_where(
        schema.market_data,
        "symbol = ? AND session = ?",
        (symbol, first.until.isoformat() if first.until else ""),
    )
    again = next(one for one in scored(watched) if one.plan_id == first.plan_id)
    assert symbol in again.missing
    assert again.value_effect_usd is None


def test_plans_that_were_traded_are_not_in_it(staged: Staged) -> None:
    stage = staged()
    stage.live(0, 1)
    assert stage.house.store.plans.list()
    assert scored(stage) == ()


def test_the_page_says_what_it_is(watched: Stage) -> None:
    watched.live(1, 4)
    watched.house.store.close()
    text = " ".join(harvestd("report", "scorecard", "--db", watched.path).out.split())
    assert "None of this was traded, and none of it was earned" in text
    assert "must not be added up" in text
    assert "Rates: 40.8 % short-term, 23.8 % long-term." in text
    document = json.loads(harvestd("report", "scorecard", "--db", watched.path, "--json").out)
    assert document["rates"] == {"short_term_rate_pct": 40.8, "long_term_rate_pct": 23.8}
    assert {date.fromisoformat(one["session"]) for one in document["plans"]}


def test_working_in_a_house_that_only_looks_does_nothing(watched: Stage) -> None:
    from daemon.cycle import observed

    watched.venue.advance_to(watched.at(1, 10))
    snapshot = observed(watched.house, watched.house.managed[0])
    work(watched.house, snapshot)
    assert watched.house.store.orders.list() == ()
