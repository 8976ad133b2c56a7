"""From recorded intents to broker orders and back: a story for each row of the table in daemon/execution.py.

Whatever the broker does, at most one of its orders belongs to an intent, and what is unknown is not failed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import Stage

from brokers.errors import BrokerUnavailable, NotAuthorized, UnknownOrder
from daemon.execution import settle
from daemon.halt import halt, halt_reason, is_halted
from state.records import (
    AlertLevel,
    BrokerOrder,
    BrokerOrderStatus,
    BrokerPosition,
    IntentState,
    OrderRequest,
    OrderType,
    PlanState,
    Side,
)

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 0: all is read, nothing is held, 100,000 USD are there."""
    made = staged()
    made.tick(made.before_open(0))
    made.venue.advance_to(made.at(0, 10))
    return made


def order_of(stage: Stage, symbol: str) -> BrokerOrder:
    """The one order in a symbol that the venue has ever had."""
    (order,) = (one for one in stage.venue.orders() if one.symbol == symbol)
    return order


def broker_has(stage: Stage, symbol: str) -> int:
    return sum(1 for one in stage.venue.orders() if one.symbol == symbol)


# ------------------------------------------------------------------ RECORDED


def test_released_and_past_the_gate_it_is_on_disk_as_submitting_before_it_leaves(stage: Stage) -> None:
    seen: list[tuple[IntentState, Decimal]] = []
    broker = stage.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        found = stage.house.store.orders.get(request.client_order_id)
        assert found is not None
        seen.append((found.state, found.submitted_quantity))
        assert not stage.house.store.database._connection.connection.driver_connection.in_transaction  # committed
        return broker.submit(request)

    stage.alter(submit=submit)
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    assert seen == [(IntentState.SUBMITTING, D(10))]
    assert stage.only("AAA").state is IntentState.WORKING
    stage.tick(stage.at(0, 12))
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.house.ledger.position("main", "AAA") == 10
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE]


def test_refused_at_the_gate_it_never_leaves_and_says_why_once(staged: Staged) -> None:
    stage = staged(execution={"restricted_symbols": ["AAA"]})
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 10))
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    for minute in (10, 12, 14):
        stage.tick(stage.at(0, minute))
    refused = stage.only("AAA")
    assert (refused.state, refused.reason) == (IntentState.REFUSED, "LIMIT_RESTRICTED: symbol=AAA")
    assert broker_has(stage, "AAA") == 0
    assert stage.only("BBB").state is IntentState.FILLED, "the rest of the plan goes on"
    assert stage.alerts("refused:") == ["raised"]
    assert [plan.state for plan in stage.plans()] == [PlanState.PARTLY_DONE]


def test_halted_nothing_leaves_not_even_after_a_restart_until_a_person_resumes(stage: Stage) -> None:
    """F42."""
    stage.execute((BUY, "AAA", 10))
    halt(stage.path, "by hand", stage.venue.now)
    stage.tick(stage.at(0, 10))
    stage.restart()
    stage.tick(stage.at(0, 12))
    assert stage.sent() == ()
    assert stage.only("AAA").state is IntentState.RECORDED
    assert stage.only("AAA").reason.startswith("STATE_HALTED")
    assert "Resumed. It was halted" in harvestd("resume", "--db", stage.path).out
    stage.tick(stage.at(0, 14))
    stage.tick(stage.at(0, 16))
    assert stage.only("AAA").state is IntentState.FILLED


def test_halted_until_the_deadline_it_expires_and_says_what_it_waited_for(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    halt(stage.path, "by hand", stage.venue.now)
    stage.tick(stage.at(0, 10))
    stage.tick(stage.decision(0, 18))
    assert stage.only("AAA").state is IntentState.EXPIRED
    assert "waited_for=STATE_HALTED" in stage.only("AAA").reason
    assert stage.sent() == ()


def test_halted_in_the_middle_of_a_batch(stage: Stage) -> None:
    """F42: the halt comes while the second of three orders is on its way; the third never leaves."""
    broker = stage.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        if request.symbol == "BBB":
            halt(stage.path, "by hand", stage.venue.now)
        return broker.submit(request)

    stage.alter(submit=submit)
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10), (BUY, "CCC", 10))
    for minute in (10, 12, 14):
        stage.tick(stage.at(0, minute))
    assert [one.symbol for one in stage.venue.orders()] == ["AAA", "BBB"]
    assert stage.only("BBB").state is IntentState.FILLED, "what was sent is still followed to its end"


def test_a_locked_symbol_waits_and_leaves_when_it_is_free_again(stage: Stage) -> None:
    broker = stage.venue.broker()
    stage.alter(positions=lambda: (*broker.positions(), BrokerPosition("AAA", D(5))))
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    stage.tick(stage.at(0, 10))
    assert [one.symbol for one in stage.venue.orders()] == ["BBB"]
    stage.alter()
    stage.tick(stage.at(0, 12))
    assert [one.symbol for one in stage.venue.orders()] == ["BBB", "AAA"]
    assert stage.alerts("refused:") == []


def test_what_never_left_by_the_deadline_expires(stage: Stage) -> None:
    """The sale cannot fill, trading in it is halted, and is given up in time; its purchase is never sent."""
    stage.outside(BUY, "AAA", 100)
    stage.venue.advance_to(stage.at(0, 12))
    stage.tick(stage.at(0, 12))
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 70))
    stage.tick(stage.at(0, 14))
    stage.tick(stage.decision(0, 10))
    assert (stage.only("AAA").state, stage.only("BBB").state) == (IntentState.WORKING, IntentState.RECORDED)
    stage.tick(stage.decision(0, 12))  # six minutes before the last order may leave
    stage.tick(stage.decision(0, 18))
    assert (stage.only("AAA").state, stage.only("BBB").state) == (IntentState.CANCELLED, IntentState.EXPIRED)
    assert stage.only("BBB").reason.startswith("ORDER_UNFUNDED")
    assert stage.venue.broker().open_orders() == (), "nothing rests into tomorrow"
    assert [plan.state for plan in stage.plans()] == [PlanState.FAILED]
    assert stage.alerts("plan:main-20240304-1:failed") == ["raised"]


# ------------------------------------------------------------------ SUBMITTING


def test_the_broker_says_no_before_accepting(stage: Stage) -> None:
    stage.venue.reject_next("AAA")
    stage.execute((BUY, "AAA", 10))
    for minute in (10, 12, 14):
        stage.tick(stage.at(0, minute))
    refused = stage.only("AAA")
    assert refused.state is IntentState.REFUSED
    assert refused.reason.startswith("ORDER_REJECTED")
    assert refused.submitted_quantity == 0
    assert broker_has(stage, "AAA") == 0, "and is not asked again"


def test_a_client_order_id_the_broker_knows_is_looked_up_and_adopted(stage: Stage) -> None:
    """F06, F40: our record says it was never sent, the broker has it: never a second order."""
    stage.execute((BUY, "AAA", 10))
    stage.venue.submit(OrderRequest(stage.only("AAA").client_order_id, "AAA", BUY, D(10)))
    stage.tick(stage.at(0, 10))
    adopted = stage.only("AAA")
    assert adopted.broker_order_id == order_of(stage, "AAA").broker_order_id
    stage.tick(stage.at(0, 12))
    assert stage.only("AAA").state is IntentState.FILLED
    assert broker_has(stage, "AAA") == 1
    assert not is_halted(stage.path)


@pytest.mark.parametrize(
    ("symbol", "side", "quantity"), [("AAA", BUY, 11), ("BBB", BUY, 10)], ids=["quantity", "symbol"]
)
def test_our_id_on_another_order_halts_trading(stage: Stage, symbol: str, side: Side, quantity: int) -> None:
    stage.execute((BUY, "AAA", 10), (BUY, "CCC", 10))
    first = stage.only("AAA").client_order_id
    stage.venue.submit(OrderRequest(first, symbol, side, D(quantity)))
    for minute in (10, 12, 14):
        stage.tick(stage.at(0, minute))
    assert is_halted(stage.path)
    assert f"Order {first}, submitting: it has an order of other terms" in halt_reason(stage.path)
    assert "expected buy 10 AAA" in halt_reason(stage.path)
    assert stage.alerts("halt:") == ["raised"], "told once, however often it is met again"
    assert stage.alerts("task:") == stage.alerts("broker:") == []
    assert broker_has(stage, "CCC") == 0
    assert len(stage.sent()) == 1


def test_an_answer_lost_after_acceptance_is_found_and_adopted(stage: Stage) -> None:
    """F03."""
    stage.venue.lose_next_answer("after")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert stage.only("AAA").reason.startswith("ORDER_OUTCOME_UNKNOWN: why=")
    stage.tick(stage.at(0, 12))
    assert stage.only("AAA").state is IntentState.FILLED
    assert broker_has(stage, "AAA") == 1


def test_an_order_that_never_arrived_is_sent_again_under_the_same_id(stage: Stage) -> None:
    """F04."""
    stage.venue.lose_next_answer("before")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert broker_has(stage, "AAA") == 0
    stage.tick(stage.at(0, 12))
    stage.tick(stage.at(0, 14))
    assert order_of(stage, "AAA").client_order_id == stage.only("AAA").client_order_id
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.house.ledger.position("main", "AAA") == 10


def test_it_counts_as_never_arrived_only_after_so_many_lookups(stage: Stage) -> None:
    """An adapter whose records lag asks for three lookups that all miss."""
    lag = replace(stage.venue.broker().capabilities, lookups_before_resend=3)
    stage.alter(capabilities=lag)
    stage.venue.lose_next_answer("before")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    for minute, lookups in ((12, 1), (14, 2)):
        stage.tick(stage.at(0, minute))
        assert (stage.only("AAA").state, stage.only("AAA").lookups) == (IntentState.UNKNOWN, lookups)
        assert broker_has(stage, "AAA") == 0
    stage.tick(stage.at(0, 16))
    assert broker_has(stage, "AAA") == 1


def test_never_arrived_and_too_late_it_expires(stage: Stage) -> None:
    stage.venue.lose_next_answer("before")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.decision(0, 16))
    stage.tick(stage.decision(0, 18))
    assert (stage.only("AAA").state, stage.only("AAA").submitted_quantity) == (IntentState.UNKNOWN, D(10))
    stage.tick(stage.evening(0))
    stage.tick(stage.before_open(1))
    expired = stage.only("AAA")
    assert (expired.state, expired.submitted_quantity) == (IntentState.EXPIRED, D(0))
    assert expired.reason == "ORDER_DEADLINE: arrived=never"
    assert broker_has(stage, "AAA") == 0


@pytest.mark.parametrize("arrived", [True, False])
def test_killed_between_the_record_and_the_answer(stage: Stage, arrived: bool) -> None:
    """F01, F02: the process dies with the intent SUBMITTING. The next one finds the order or sends it, by its id."""
    stage.execute((BUY, "AAA", 10))
    intent = stage.only("AAA")
    stage.house.store.orders.save(replace(intent, state=IntentState.SUBMITTING, submitted_quantity=D(10)))
    if arrived:
        stage.venue.submit(OrderRequest(intent.client_order_id, "AAA", BUY, D(10)))
    stage.restart()
    for minute in (12, 14, 16):
        stage.tick(stage.at(0, minute))
    assert stage.only("AAA").state is IntentState.FILLED
    assert order_of(stage, "AAA").client_order_id == intent.client_order_id
    assert stage.house.ledger.position("main", "AAA") == 10


def test_while_its_fate_is_unknown_the_symbol_is_not_planned_with(stage: Stage) -> None:
    from daemon.planning import scan

    stage.invest(0)
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.at(1, 10))
    stage.venue.lose_next_answer("after")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 10))
    snapshot = stage.look()  # finds it; so look at what was known before
    assert stage.only("AAA").state is IntentState.WORKING
    stage.house.store.orders.save(replace(stage.only("AAA"), state=IntentState.UNKNOWN))
    for item in scan(stage.house, snapshot):
        if item.symbol == "AAA":
            assert str(item.verdict).startswith("SYMBOL_LOCKED")


# ------------------------------------------------------------------ WORKING and PARTLY_FILLED


def test_fills_only_ever_grow(stage: Stage) -> None:
    """F16: the broker's filled quantity goes back for a moment; it is asked again, nothing is subtracted."""
    stage.execute((BUY, "AAA", 10))
    stage.venue.fill_next(stage.only("AAA").client_order_id, D("0.6"), hold_rest=True)
    stage.tick(stage.at(0, 10))
    stage.tick(stage.at(0, 12))
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.PARTLY_FILLED, D(6))
    broker = stage.venue.broker()

    def older(client_order_id: str) -> BrokerOrder | None:
        found = broker.order_by_client_id(client_order_id)
        return replace(found, filled_quantity=D(2)) if found else None

    stage.alter(order_by_client_id=older)
    stage.tick(stage.at(0, 14))
    assert stage.only("AAA").filled_quantity == 6
    stage.alter()
    stage.tick(stage.at(0, 16))
    assert stage.only("AAA").filled_quantity == 6
    assert stage.house.ledger.position("main", "AAA") == 6


def test_a_partly_filled_order_is_cancelled_at_the_deadline_and_keeps_what_it_has(stage: Stage) -> None:
    """F13: lots for the filled part only; the rest is planned anew, not resent."""
    stage.execute((BUY, "AAA", 10))
    stage.venue.fill_next(stage.only("AAA").client_order_id, D("0.6"), hold_rest=True)
    stage.tick(stage.at(0, 10))
    stage.tick(stage.decision(0, 18))
    ended = stage.only("AAA")
    assert (ended.state, ended.filled_quantity) == (IntentState.CANCELLED, D(6))
    assert order_of(stage, "AAA").status is BrokerOrderStatus.CANCELLED
    assert stage.house.ledger.position("main", "AAA") == 6
    assert [plan.state for plan in stage.plans()] == [PlanState.PARTLY_DONE]
    assert stage.alerts("plan:main-20240304-1:partly_done") == ["raised"]


def test_filled_while_the_daemon_was_down(stage: Stage) -> None:
    """F14: half is filled, the process dies, the rest fills; the next process books everything once."""
    stage.execute((BUY, "AAA", 10))
    stage.venue.fill_next(stage.only("AAA").client_order_id, D("0.5"))
    stage.tick(stage.at(0, 10))
    stage.venue.advance_to(stage.at(0, 11))
    stage.tick(stage.at(0, 11))
    assert stage.house.ledger.position("main", "AAA") == 5
    stage.house.store.close()
    stage.venue.advance_to(stage.at(0, 30))
    stage.restart()
    stage.tick(stage.at(0, 30))
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.house.ledger.position("main", "AAA") == 10
    executions = [fill.execution_id for fill in stage.house.store.orders.fills()]
    assert executions == [fill.activity_id for fill in stage.venue.fills()]


def test_an_order_the_broker_knew_before_is_unknown_never_gone(stage: Stage) -> None:
    """The broker's list misses a working order for a while. It is not sent again as another order."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    assert stage.only("AAA").state is IntentState.WORKING
    stage.alter(order_by_client_id=lambda _: None)
    stage.tick(stage.at(0, 12))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert stage.only("AAA").reason == "ORDER_OUTCOME_UNKNOWN: was=working"
    stage.alter()
    stage.tick(stage.at(0, 14))
    assert stage.only("AAA").state is IntentState.WORKING
    assert broker_has(stage, "AAA") == 1


def test_what_the_broker_had_is_not_sent_again_however_often_it_is_missed(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    stage.alter(order_by_client_id=lambda _: None)
    for minute in range(12, 30, 2):
        stage.tick(stage.at(0, minute))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert len(stage.sent()) == 1
    stage.alter()
    stage.tick(stage.at(0, 32))
    assert stage.only("AAA").state is IntentState.WORKING
    assert not is_halted(stage.path)


def test_refused_by_the_broker_after_it_was_accepted(stage: Stage) -> None:
    """Split of the symbol while the order works: the broker cancels it, and says so."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    stage.venue.split("AAA", D(2), D(1))
    stage.tick(stage.at(0, 12))
    ended = stage.only("AAA")
    assert ended.state is IntentState.CANCELLED
    assert "split=2:1" in ended.reason
    assert [plan.state for plan in stage.plans()] == [PlanState.FAILED]


def test_an_order_gone_at_the_moment_it_is_cancelled_does_not_stop_the_daemon(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))

    def gone(broker_order_id: str) -> None:
        raise UnknownOrder(broker_order_id)

    stage.alter(cancel=gone)
    stage.tick(stage.decision(0, 18))
    assert stage.only("AAA").state is IntentState.WORKING, "it is still what the broker's records say"
    stage.alter()
    stage.tick(stage.evening(0))
    assert stage.only("AAA").state is IntentState.EXPIRED


# ------------------------------------------------------------------ the broker is away, or lets us in no more


def test_a_broker_that_does_not_answer_costs_one_alert_and_no_order(stage: Stage) -> None:
    """From before the decision until after it: nothing is decided, nothing sent; one incident, one recovery."""
    stage.venue.set_unavailable(True)
    for minutes in (-4, -2, 0, 2, 4):
        assert stage.tick(stage.decision(0, minutes)) == ()
    assert stage.plans() == ()
    assert [alert.recovered for alert in stage.told] == [False]
    assert "the simulated venue is unavailable" in stage.told[0].message
    stage.venue.set_unavailable(False)
    stage.finish(0)
    assert [alert.recovered for alert in stage.told] == [False, True]
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE], "the window was still open"


def test_away_while_an_order_works_nothing_is_assumed_about_it(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    stage.tick(stage.at(0, 10))
    stage.venue.set_unavailable(True)
    for minute in (12, 14, 16):
        stage.tick(stage.at(0, minute))
    assert {one.state for one in stage.intents()} == {IntentState.WORKING}
    stage.venue.set_unavailable(False)
    stage.tick(stage.at(0, 18))
    assert {one.state for one in stage.intents()} == {IntentState.FILLED}
    assert [alert.recovered for alert in stage.told] == [False, True]


def test_a_blocked_account_halts_trading_and_the_orders_fate_is_unknown(stage: Stage) -> None:
    """F10."""
    stage.venue.block_account()
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    stage.house.brokers = {"main": _without_blocked_flag(stage)}
    for minute in (10, 12, 14):
        stage.tick(stage.at(0, minute))
    assert is_halted(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    assert stage.sent() == ()


def _without_blocked_flag(stage: Stage) -> Any:
    """A broker whose account figures do not say that it is blocked; only the submit does."""
    from small_house import Altered

    broker = stage.venue.broker()
    return Altered(broker, account=lambda: replace(broker.account(), trading_blocked=False))


def test_a_key_that_is_no_longer_let_in_halts_trading(stage: Stage) -> None:
    """F10: reads are refused as well. Trading halts, one alert; the daemon lives on."""

    def refused() -> Any:
        raise NotAuthorized("the key was revoked")

    stage.execute((BUY, "AAA", 10))
    stage.alter(account=refused)
    for minute in (10, 12, 14):
        assert stage.tick(stage.at(0, minute)) == ()
    assert is_halted(stage.path)
    assert "the key was revoked" in halt_reason(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    assert stage.sent() == ()


def test_an_unreadable_broker_at_the_look_up_leaves_the_order_in_doubt(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    stage.venue.submit(OrderRequest(stage.only("AAA").client_order_id, "AAA", BUY, D(10)))

    def away(_: str) -> Any:
        raise BrokerUnavailable("no answer")

    stage.alter(order_by_client_id=away)
    stage.tick(stage.at(0, 10))
    assert stage.only("AAA").state is IntentState.SUBMITTING
    stage.alter()
    stage.tick(stage.at(0, 12))
    assert stage.only("AAA").state is IntentState.FILLED
    assert broker_has(stage, "AAA") == 1


# ------------------------------------------------------------------ prices and the swap


def test_limits_stand_the_collar_beyond_the_far_side_of_the_quote(staged: Staged) -> None:
    """Half a per cent by default, rounded so that it is never beyond."""
    stage = staged(execution={"order_type": "limit"})
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 5))
    stage.outside(BUY, "AAA", 100)
    stage.venue.advance_to(stage.at(0, 7))
    stage.tick(stage.at(0, 7))
    stage.execute((SELL, "AAA", 50), (BUY, "BBB", 40), (BUY, "CCC", 100))
    stage.tick(stage.at(0, 10))
    stage.tick(stage.at(0, 12))
    quotes = stage.house.brokers["main"].quotes(["AAA", "BBB"])
    for symbol, far, sign in (("AAA", quotes["AAA"].bid, -1), ("BBB", quotes["BBB"].ask, 1)):
        order = [one for one in stage.venue.orders() if one.symbol == symbol][-1]
        assert order.order_type is OrderType.LIMIT
        assert order.limit_price is not None
        beyond = sign * (order.limit_price / far - 1)
        assert D("0.0045") < beyond <= D("0.005")


def test_the_venue_never_sees_more_unhedged_than_the_bound(stage: Stage) -> None:
    """A swap of 12,000 USD with 5,000 allowed: three ties, each bought back before the next is sold."""
    stage.outside(BUY, "AAA", 300)
    stage.venue.advance_to(stage.at(0, 12))
    stage.tick(stage.at(0, 12))
    stage.execute((SELL, "AAA", 300), (BUY, "BBB", 120), (BUY, "CCC", 90))
    out = []
    for minute in range(14, 60, 2):
        stage.tick(stage.at(0, minute))
        price = {one.symbol: one.reference_price for one in stage.intents()}
        moved = {BUY: D(0), SELL: D(0)}
        for order in stage.venue.orders():
            if order.client_order_id.startswith("hv-"):
                gone = order.quantity if order.side is SELL else order.filled_quantity
                moved[order.side] += gone * price[order.symbol]
        out.append(moved[SELL] - moved[BUY])
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE]
    assert D(3_500) < max(out) <= 5_000 + 60
    assert len(stage.intents("AAA")) == 3


# ------------------------------------------------------------------ orders that this database never recorded


def test_an_open_order_of_another_harvestd_halts_before_anything_is_sent(stage: Stage) -> None:
    """A second folder, or a database put back from a backup: two of them would buy everything twice."""
    stage.venue.halt("BBB")
    stage.venue.broker().submit(OrderRequest("hv-mine-20240304-1-1-0", "BBB", BUY, D(5)))
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    assert is_halted(stage.path)
    assert broker_has(stage, "AAA") == 0
    [alert] = [alert for alert in stage.told if alert.level is AlertLevel.HALT]
    assert "hv-mine-20240304-1-1-0" in alert.message
    assert "harvestd resume" in alert.message


def test_somebody_elses_buy_keeps_its_cash_and_its_symbol(stage: Stage) -> None:
    """A resting order by hand may take 80,000 of the 100,000 USD at any moment; and nobody trades against it."""
    by_hand = OrderRequest("by-hand", "CCC", BUY, D(2000), OrderType.LIMIT, D(40))
    stage.venue.broker().submit(by_hand)
    stage.execute((BUY, "CCC", 10), (BUY, "AAA", 1000))
    stage.tick(stage.at(0, 10))
    sent = stage.only("AAA")
    assert 0 < sent.submitted_quantity * sent.reference_price < 20_000
    assert stage.only("CCC").state is IntentState.RECORDED
    assert stage.only("CCC").reason.startswith("SYMBOL_LOCKED")
    assert stage.house.store.alerts.open_keys("foreign:") == ("foreign:main",)
    stage.venue.cancel(order_of(stage, "CCC").broker_order_id)
    stage.tick(stage.at(0, 12))
    assert stage.house.store.alerts.open_keys("foreign:") == ()
    assert stage.only("CCC").submitted_quantity == 10


# ------------------------------------------------------------------ an order under its id is one order


def never_found(stage: Stage) -> None:
    """The broker took the order and lost the answer; its lists know of none for a while."""
    stage.venue.lose_next_answer("after")
    stage.alter(order_by_client_id=lambda _: None, open_orders=lambda: ())


def test_what_may_have_been_sent_is_sent_again_as_it_was_or_not_at_all(stage: Stage) -> None:
    """The first order is there after all and has spent the cash: a smaller one under its id would be another order."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 1000))
    never_found(stage)
    stage.tick(stage.at(0, 10))
    assert (stage.only("AAA").state, stage.only("AAA").submitted_quantity) == (IntentState.UNKNOWN, 1000)
    broke = replace(stage.venue.broker().account(), cash=D(500))
    stage.alter(order_by_client_id=lambda _: None, open_orders=lambda: (), account=lambda: broke)
    stage.tick(stage.at(0, 12))
    waits = stage.only("AAA")
    assert (waits.state, waits.submitted_quantity) == (IntentState.UNKNOWN, 1000)
    assert waits.reason.startswith("ORDER_UNFUNDED")
    assert broker_has(stage, "AAA") == 1
    stage.alter()
    stage.tick(stage.at(0, 14))
    assert stage.only("AAA").state is IntentState.WORKING, "it was there, and is ours"


def test_sent_again_it_is_the_same_order_and_found_to_be_there(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 1000))
    never_found(stage)
    stage.tick(stage.at(0, 10))
    stage.tick(stage.at(0, 12))
    stage.alter()
    stage.tick(stage.at(0, 14))
    assert (stage.only("AAA").state, stage.only("AAA").submitted_quantity) == (IntentState.WORKING, 1000)
    assert broker_has(stage, "AAA") == 1
    assert not is_halted(stage.path)


def test_two_looks_within_seconds_count_as_one(stage: Stage) -> None:
    """Three look-ups in vain mean something only when the broker had time to show the order."""
    stage.execute((BUY, "AAA", 10))
    slow = replace(stage.venue.broker().capabilities, lookups_before_resend=3)
    stage.venue.lose_next_answer("before")
    stage.alter(capabilities=slow)
    stage.tick(stage.at(0, 10))
    for _ in range(5):
        settle(stage.house, stage.account)
    assert (stage.only("AAA").state, stage.only("AAA").lookups) == (IntentState.UNKNOWN, 1)
    for seconds in (20, 40):
        stage.venue.advance_to(stage.at(0, 10) + timedelta(seconds=seconds))
        settle(stage.house, stage.account)
    assert stage.only("AAA").state is IntentState.RECORDED


def test_after_an_answer_that_says_nothing_the_pass_is_over(stage: Stage) -> None:
    stage.venue.lose_next_answer("after")
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10), (BUY, "CCC", 10))
    stage.tick(stage.at(0, 10))
    assert len(stage.venue.orders()) == 1
    stage.tick(stage.at(0, 12))
    assert len(stage.venue.orders()) == 3
