"""The stream of order updates: stored first, taken once, never trusted to have told everything."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest
from conftest import Staged
from small_house import D, Stage

from daemon.cycle import observed, work_cycle
from daemon.gate import DaemonState
from daemon.halt import halt_reason
from daemon.link import Link
from state.records import BrokerOrder, BrokerOrderStatus, IntentState, OrderType, Side

BUY = Side.BUY


class Stream:
    """A stream of order updates in the hands of the test."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.connection = 1
        self.is_listening = True
        self.fault = ""
        self.suspected = 0

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def suspect(self) -> None:
        self.suspected += 1
        self.connection += 1


@pytest.fixture
def stage(staged: Staged) -> Stage:
    return staged()


@pytest.fixture
def stream(stage: Stage) -> Stream:
    made = Stream()
    stage.house.links = {"main": Link(made, read)}
    return made


def read(body: str) -> BrokerOrder | None:
    """The test's own wire format: client order id, status, quantity filled."""
    if body == "nothing about an order":
        return None
    client_order_id, status, filled, symbol, quantity, side = json.loads(body)
    return BrokerOrder(
        broker_order_id=f"broker-{client_order_id}",
        client_order_id=client_order_id,
        symbol=symbol,
        side=Side(side),
        quantity=D(quantity),
        filled_quantity=D(filled),
        status=BrokerOrderStatus(status),
        order_type=OrderType.MARKET,
        submitted_at=datetime(2024, 3, 4, tzinfo=UTC),
    )


def tell(stage: Stage, *event: object) -> None:
    """The stream's thread appends an event."""
    body = event[0] if isinstance(event[0], str) and len(event) == 1 else json.dumps(event)
    stage.house.store.events.append("main", "trade_updates", stage.venue.now, str(body))


def sent(stage: Stage, quantity: int = 10) -> str:
    """An order of ours at the broker, not filled; its client order id."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", quantity))
    stage.venue.advance_to(stage.at(0, 10))
    work_cycle(stage.house, stage.house.managed[0])
    assert stage.only("AAA").state is IntentState.WORKING
    return stage.only("AAA").client_order_id


def look(stage: Stage) -> DaemonState:
    """One look at the broker; the state it leaves."""
    return observed(stage.house, stage.house.managed[0]).state


def test_an_event_moves_the_intent_on_without_asking(stage: Stage, stream: Stream) -> None:
    name = sent(stage)
    tell(stage, name, "partly_filled", "4", "AAA", "10", "buy")
    stage.alter(orders=lambda _: {name: read(json.dumps([name, "partly_filled", "4", "AAA", "10", "buy"]))})
    look(stage)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.PARTLY_FILLED, 4)
    assert stage.house.store.events.waiting("main") == ()


def test_an_event_that_comes_twice_or_late_changes_nothing(stage: Stage, stream: Stream) -> None:
    name = sent(stage)
    stage.venue.unhalt("AAA")
    stage.venue.advance_to(stage.at(0, 13))
    look(stage)
    filled = stage.only("AAA")
    assert filled.state is IntentState.FILLED
    for event in (("working", "0"), ("partly_filled", "4"), ("filled", "10"), ("filled", "10")):
        tell(stage, name, event[0], event[1], "AAA", "10", "buy")
    look(stage)
    assert stage.only("AAA") == filled


def test_what_cannot_be_read_is_set_aside_and_told_once(stage: Stage, stream: Stream) -> None:
    name = sent(stage)
    tell(stage, "{ half a messa")
    tell(stage, "nothing about an order")
    tell(stage, name, "partly_filled", "3", "AAA", "10", "buy")
    stage.alter(orders=lambda _: {name: read(json.dumps([name, "partly_filled", "3", "AAA", "10", "buy"]))})
    look(stage)
    look(stage)
    [aside] = stage.house.store.events.set_aside()
    assert aside.body == "{ half a messa"
    assert stage.only("AAA").filled_quantity == 3
    told = [alert for alert in stage.house.store.alerts.list() if alert.key.startswith("update:")]
    assert len(told) == 1
    assert "set aside" in told[0].message


def test_an_order_of_ours_with_other_terms_halts(stage: Stage, stream: Stream) -> None:
    name = sent(stage)
    tell(stage, name, "working", "0", "BBB", "10", "buy")
    look(stage)
    assert "expected buy 10 AAA, the broker has buy 10 BBB" in halt_reason(stage.path)
    assert stage.house.store.events.waiting("main") == (), "told once; the halt is on disk"


def test_somebody_elses_order_is_none_of_our_business_here(stage: Stage, stream: Stream) -> None:
    sent(stage)
    before = stage.only("AAA")
    tell(stage, "by-hand-1", "filled", "10", "AAA", "10", "buy")
    look(stage)
    assert stage.only("AAA") == before


def test_orders_leave_only_when_the_stream_has_been_caught_up_with(stage: Stage, stream: Stream) -> None:
    """It comes back while we look: what it missed in between is not known until the next look."""
    stage.venue.advance_to(stage.at(0, 10))
    stream.is_listening = False
    assert look(stage) is DaemonState.RECONCILING
    stream.is_listening = True
    assert look(stage) is DaemonState.OPEN

    def reconnects_meanwhile() -> object:
        stream.connection += 1
        return stage.venue.broker().positions()

    stage.alter(positions=reconnects_meanwhile)
    assert look(stage) is DaemonState.RECONCILING
    stage.alter()
    assert look(stage) is DaemonState.OPEN


def test_nothing_is_sent_while_the_stream_is_away(stage: Stage, stream: Stream) -> None:
    stream.is_listening = False
    stage.execute((BUY, "AAA", 10))
    stage.venue.advance_to(stage.at(0, 10))
    work_cycle(stage.house, stage.house.managed[0])
    assert stage.only("AAA").state is IntentState.RECORDED
    assert stage.venue.orders() == ()
    stream.is_listening = True
    work_cycle(stage.house, stage.house.managed[0])
    assert len(stage.venue.orders()) == 1


def test_a_mute_stream_is_found_out_by_what_it_did_not_tell(stage: Stage, stream: Stream) -> None:
    """A fill is learned by asking. The stream gets until the next look; then it is made to connect again, once told."""
    name = sent(stage)
    stage.venue.unhalt("AAA")
    stage.venue.advance_to(stage.at(0, 13))
    look(stage)
    assert stage.only("AAA").state is IntentState.FILLED
    assert stream.suspected == 0
    look(stage)
    assert stream.suspected == 1
    [alert] = [alert for alert in stage.house.store.alerts.list() if alert.key == "updates:main"]
    assert name in alert.message
    look(stage)
    look(stage)
    assert stream.suspected == 1
    assert [alert.recovered for alert in stage.house.store.alerts.list() if alert.key == "updates:main"] == [
        False,
        True,
    ]


def test_a_stream_that_is_only_late_is_left_alone(stage: Stage, stream: Stream) -> None:
    name = sent(stage)
    stage.venue.unhalt("AAA")
    stage.venue.advance_to(stage.at(0, 13))
    look(stage)
    tell(stage, name, "filled", "10", "AAA", "10", "buy")
    look(stage)
    assert stream.suspected == 0


def test_events_long_taken_are_forgotten_and_those_set_aside_kept(stage: Stage, stream: Stream) -> None:
    tell(stage, "nothing about an order")
    tell(stage, "garbage")
    look(stage)
    assert stage.house.store.events.forget_before(stage.venue.now) == 0
    stage.venue.advance_to(stage.at(1, 10))
    assert stage.house.store.events.forget_before(stage.venue.now) == 1
    assert [event.body for event in stage.house.store.events.set_aside()] == ["garbage"]
