"""The broker's records lag, contradict each other, or come back: what is believed, what halts, and that it ends again.

Each of these was a way to send an order twice, to lose one, or to leave an account without trading for good.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from small_house import Altered, Stage

from brokers.errors import OrderRefused, OutcomeUnknown
from daemon import outcomes, scorecard
from daemon.crash_points import CrashPoint
from daemon.day import start, tick
from daemon.halt import halt_file, is_halted
from daemon.link import Link
from daemon.opening import ReadOnlyBroker
from faults.conftest import Staged
from faults.holding import Door, holds, killed_at, minutes, opened, slow_lookups
from state.reasons import ReasonCode
from state.records import BrokerOrder, BrokerOrderStatus, IntentState, OrderRequest, PlanState, Quote, Side

BUY, SELL = Side.BUY, Side.SELL
D = Decimal


def blind(stage: Stage, door: Door) -> None:
    """From now on look-ups find nothing, though the broker has the order."""
    slow_lookups(stage, submit=door.submit, order_by_client_id=lambda _: None)


# ------------------------------------------------------------------ an order that was there


@pytest.mark.fault("F04")
def test_an_order_that_was_there_is_never_sent_again_however_long_it_is_not_found(staged: Staged) -> None:
    """It was acknowledged, look-ups lose it, and the history tells its fill."""
    stage = opened(staged())
    door = Door(stage)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    blind(stage, door)
    minutes(stage, *range(11, 40))
    assert len(door.names) == 1
    assert stage.only("AAA").state is IntentState.UNKNOWN
    stage.alter()
    stage.finish(0)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.FILLED, 10)
    holds(stage)


@pytest.mark.fault("F17")
def test_an_order_that_was_there_and_is_not_found_after_the_close_is_what_the_history_says(staged: Staged) -> None:
    stage = opened(staged())
    door = Door(stage)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    blind(stage, door)
    stage.finish(0)
    for number in (1, 2):
        stage.tick(stage.before_open(number))
        minutes(stage, 1, 3, 5, number=number)
    ended = stage.intents("AAA")[0]
    assert (ended.state, ended.submitted_quantity, ended.filled_quantity) == (IntentState.FILLED, 10, 10)
    assert not is_halted(stage.path)
    stage.alter()
    stage.finish(2)
    holds(stage)


@pytest.mark.fault("F04")
@pytest.mark.parametrize("code", [ReasonCode.ORDER_INSUFFICIENT_SHARES, ReasonCode.ORDER_INSUFFICIENT_CASH])
def test_a_refusal_of_the_second_sending_is_no_end_of_the_first(staged: Staged, code: ReasonCode) -> None:
    """The first request arrives late, and holds the very shares or dollars that the second is refused for."""
    stage = staged()
    stage.invest(0)
    opened(stage, 1)
    requests: list[OrderRequest] = []

    def submit(request: OrderRequest) -> BrokerOrder:
        requests.append(request)
        if len(requests) == 1:
            raise OutcomeUnknown("time-out")
        stage.venue.broker().submit(requests[0])
        raise OrderRefused(code.value, "insufficient")

    def lookup(name: str) -> BrokerOrder | None:
        return stage.venue.broker().order_by_client_id(name) if len(requests) > 1 else None

    slow_lookups(stage, submit=submit, order_by_client_id=lookup)
    side = SELL if code is ReasonCode.ORDER_INSUFFICIENT_SHARES else BUY
    stage.execute((side, "AAA", 5))
    minutes(stage, *range(10, 20), number=1)
    assert (len(requests), requests[0]) == (2, requests[1])
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.FILLED, 5)
    stage.alter()
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F04")
def test_a_fill_nobody_claimed_is_given_to_its_order_by_the_brokers_list_of_changes(staged: Staged) -> None:
    stage = opened(staged())
    door = Door(stage, lambda _, nth: OutcomeUnknown("time-out") if nth == 1 else None, after=True)
    blind(stage, door)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10, 11, 12, 14, 20)
    assert (stage.only("AAA").state, len(door.names)) == (IntentState.UNKNOWN, 1)
    stage.finish(0)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.FILLED, 10)
    assert [fill.client_order_id for fill in stage.house.store.orders.fills()] == door.names
    assert not is_halted(stage.path)
    holds(stage)


# ------------------------------------------------------------------ contradictions


def otherwise(stage: Stage) -> object:
    """The broker's record of AAA's order has other terms; BBB's is right."""

    def lookup(name: str) -> BrokerOrder | None:
        order = stage.venue.broker().order_by_client_id(name)
        return replace(order, quantity=order.quantity + 1) if order and order.symbol == "AAA" else order

    return lookup


@pytest.mark.fault("F06")
def test_a_contradiction_halts_once_and_keeps_nothing_else_from_being_done(staged: Staged) -> None:
    stage = opened(staged())
    stage.venue.halt("BBB")
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 5))
    minutes(stage, 10)
    cancelled: list[str] = []

    def cancel(broker_order_id: str) -> None:
        cancelled.append(broker_order_id)
        stage.venue.broker().cancel(broker_order_id)

    stage.alter(order_by_client_id=otherwise(stage), cancel=cancel)
    minutes(stage, 12, 14)
    assert is_halted(stage.path)
    assert cancelled == [stage.only("BBB").broker_order_id]
    assert stage.only("AAA").reason.startswith("ORDER_CONTRADICTED")
    stage.finish(0)
    assert len(stage.house.store.orders.fills()) == 1, "the history is taken in all the same"
    last = stage.house.store.performance.last("main")
    assert last is not None
    assert last.session == stage.session(0).session
    assert stage.alerts("halt:") == ["raised"]
    halt_file(stage.path).unlink()
    stage.tick(stage.before_open(1))
    assert not is_halted(stage.path), "it is over, and no reason any more"
    stage.alter()
    stage.live(1)
    assert not is_halted(stage.path), "a person has looked, and it is over"
    assert stage.alerts("halt:") == ["raised", "recovered"]
    assert all(plan.state.is_final for plan in stage.plans())


@pytest.mark.fault("F20")
def test_an_event_that_contradicts_halts_once_and_not_again_after_a_person_resumed(staged: Staged) -> None:
    stage = opened(staged())
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    order = stage.venue.broker().order_by_client_id(stage.only("AAA").client_order_id)
    assert order is not None
    listening = SimpleNamespace(wake=threading.Event(), connection=1, is_listening=True, fault="", suspect=lambda: None)
    stage.house.links = {"main": Link(listening, lambda _: replace(order, quantity=D(11)))}  # type: ignore[arg-type]
    stage.house.store.events.append("main", "trade_updates", stage.venue.now, "{}")
    minutes(stage, 12)
    assert is_halted(stage.path)
    halt_file(stage.path).unlink()
    minutes(stage, 14, 16)
    assert not is_halted(stage.path)


@pytest.mark.fault("F16")
def test_a_list_that_lags_behind_the_stream_is_no_reason_to_halt(staged: Staged) -> None:
    stage = opened(staged())
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    minutes(stage, 10)
    before = {one.client_order_id: one for one in stage.venue.broker().open_orders()}
    stage.venue.advance_to(stage.at(0, 12))
    filled = stage.venue.broker().order_by_client_id(stage.only("AAA").client_order_id)
    assert filled is not None
    outcomes.take_update(stage.house, stage.account, filled)
    stage.alter(open_orders=lambda: tuple(before.values()), order_by_client_id=before.get)
    tick(stage.house)
    assert not is_halted(stage.path)
    stage.alter()
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F12")
def test_an_order_of_ours_that_is_over_here_and_stays_open_there_halts(staged: Staged) -> None:
    stage = opened(staged())
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    minutes(stage, 10)
    stage.house.store.orders.save(replace(stage.only("AAA"), state=IntentState.CANCELLED, reason="ORDER_CANCELLED"))
    stage.venue.halt("BBB")
    minutes(stage, 10.2)
    assert not is_halted(stage.path)
    minutes(stage, 12, 14)
    assert is_halted(stage.path)


@pytest.mark.fault("F21")
def test_an_order_that_ends_with_less_than_it_had_filled_ends(staged: Staged) -> None:
    """Five were filled, then one was taken back and the rest cancelled: the record ends with four."""
    stage = opened(staged())
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    order = stage.venue.broker().order_by_client_id(stage.only("AAA").client_order_id)
    assert order is not None
    part = replace(order, filled_quantity=D(5), status=BrokerOrderStatus.PARTLY_FILLED)
    stage.alter(order_by_client_id=lambda _: part)
    minutes(stage, 12)
    busted = replace(order, filled_quantity=D(4), status=BrokerOrderStatus.CANCELLED)
    stage.alter(order_by_client_id=lambda _: busted)
    stage.finish(0)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.EXPIRED, 5)
    assert [plan.state.is_final for plan in stage.plans()] == [True]


@pytest.mark.fault("F40")
def test_a_halt_for_unknown_orders_is_on_disk_before_they_count_as_read(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    opened(stage, 1)
    assert start(stage.house)
    stage.venue.broker().submit(OrderRequest("hv-main-20240301-9-1-0", "AAA", BUY, D(1)))
    stage.venue.advance_to(stage.at(1, 14))
    with killed_at(CrashPoint.HALT_WRITTEN):
        start(stage.house)
    stage.restart()
    start(stage.house)
    assert is_halted(stage.path)
    assert stage.alerts("halt:") == ["raised"]


# ------------------------------------------------------------------ plans that nobody was asked about


def wide(stage: Stage) -> object:
    """Quotes too wide to trade on."""

    def quotes(symbols: object) -> dict[str, Quote]:
        found = stage.venue.broker().quotes(symbols)  # type: ignore[arg-type]
        return {name: replace(quote, ask=(quote.bid * D("1.03")).quantize(D("0.01"))) for name, quote in found.items()}

    return quotes


@pytest.mark.fault("F43")
def test_a_plan_that_was_made_while_observing_is_not_sent_when_the_mode_changes(staged: Staged) -> None:
    stage = staged(approvals={"order_usd": "100", "plan_pct_nav": "1", "gain_usd": "100"})
    stage.tick(stage.before_open(0))
    stage.house.brokers = {"main": ReadOnlyBroker(Altered(stage.venue.broker(), quotes=wide(stage)))}  # type: ignore[arg-type]
    stage.tick(stage.decision(0))
    assert [plan.state for plan in stage.plans()] == [PlanState.EXECUTING], "held back by its quotes"
    stage.restart()
    assert start(stage.house)
    stage.tick(stage.decision(0, 4))
    assert stage.sent() == ()
    assert [plan.state for plan in stage.plans()] == [PlanState.BLOCKED]
    stage.finish(0)
    holds(stage)


def test_what_the_gate_held_back_is_no_plan_that_observing_kept_from_being_sent(staged: Staged) -> None:
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.house.brokers = {"main": ReadOnlyBroker(Altered(stage.venue.broker(), quotes=wide(stage)))}  # type: ignore[arg-type]
    stage.finish(0)
    assert [plan.state for plan in stage.plans()] == [PlanState.BLOCKED]
    assert "MODE_OBSERVES" not in stage.plans()[0].reasons
    assert scorecard.scores(stage.house.store, stage.house.tax_profile) == ()


# ------------------------------------------------------------------ what the day leaves behind


@pytest.mark.fault("F22")
def test_a_sale_by_hand_stops_its_own_leg_alone(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    opened(stage, 1)
    stage.execute((SELL, "BBB", 60), (SELL, "AAA", 240), (BUY, "CCC", 150))
    minutes(stage, 10, number=1)
    stage.outside(SELL, "AAA", 200)
    minutes(stage, 12, 14, 16, 18, number=1)
    stage.finish(1)
    assert sum(one.filled_quantity for one in stage.intents("CCC")) > 0, "what BBB brought in is bought back"
    assert stage.alerts("task:") == []
    holds(stage)


@pytest.mark.fault("F32")
def test_nothing_is_sold_so_late_that_it_could_not_be_bought_back(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    opened(stage, 1)
    stop = stage.session(1).closes_at - stage.house.timetable.stop_before_close
    stage.venue.advance_to(stop - timedelta(seconds=50))
    stage.execute((SELL, "AAA", 40), (BUY, "BBB", 30))
    stage.tick(stop - timedelta(seconds=40))
    stage.tick(stop + timedelta(seconds=80))
    stage.tick(stage.evening(1))
    assert stage.sent() == ()
    assert {one.state for one in stage.intents()} == {IntentState.EXPIRED}
    holds(stage)


@pytest.mark.fault("F29")
def test_what_the_broker_trades_is_asked_every_morning(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    broker = stage.venue.broker()
    stage.alter(
        assets=lambda names: {
            name: replace(item, tradable=name != "AAA") for name, item in broker.assets(names).items()
        }
    )
    stage.live(1)
    assert not stage.house.securities()["AAA"].tradable


@pytest.mark.fault("F26")
def test_the_evening_is_valued_at_its_closes_whatever_is_quoted_after_hours(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    stage.live(1)
    stage.tick(stage.before_open(2))
    for after in range(0, 20, 2):
        stage.tick(stage.decision(2, after))

    def thin(symbols: object) -> dict[str, Quote]:
        found = stage.venue.broker().quotes(symbols)  # type: ignore[arg-type]
        return {
            name: replace(quote, bid=quote.bid * D("0.65"), ask=quote.ask * D("1.02")) for name, quote in found.items()
        }

    stage.alter(quotes=thin)
    stage.tick(stage.evening(2))
    held = {one.symbol: one.quantity for one in stage.venue.broker().positions()}
    worth = stage.venue.cash + sum(quantity * stage.close_of(name, 2) for name, quantity in held.items())
    last = stage.house.store.performance.last("main")
    assert last is not None
    assert last.nav == worth.quantize(D("0.01"))


@pytest.mark.fault("F36")
def test_sessions_slept_through_by_a_process_that_goes_on_are_told(staged: Staged) -> None:
    stage = staged()
    stage.live(0)
    stage.live(4)
    assert stage.alerts("missed:") == ["raised"]
    [told] = [one.message for one in stage.told if one.key.startswith("missed:")]
    assert "no daemon was running in 3 sessions" in told


@pytest.mark.fault("F36")
def test_a_session_whose_evening_was_not_done_is_none_that_was_slept_through(staged: Staged) -> None:
    stage = staged()
    stage.live(0)
    stage.alter(daily_bars=lambda *_: ())
    stage.live(1)
    stage.restart()
    stage.venue.advance_to(stage.before_open(2))
    start(stage.house)
    tick(stage.house)
    assert stage.alerts("missed:") == []


@pytest.mark.fault("F26")
def test_an_outage_of_all_quotes_is_one_incident(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    stage.tick(stage.before_open(1))
    stage.tick(stage.at(1, 30))
    before = len(stage.told)
    stage.alter(quotes=lambda _: {})
    stage.tick(stage.decision(1))
    assert [one.key for one in stage.told[before:]] == ["state:main"]
    stage.alter()
    stage.finish(1)
    holds(stage)
