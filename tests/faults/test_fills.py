"""Fills told late, twice, out of order, in part or not at all, taken back and corrected; lists that are short; cancels
that are not heeded. What is booked is what happened, once.

The whole daemon and its venue in one process. Each story goes on to the evening and ends as holding.py says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from invariants import check_invariants, check_reconciling_twice, everything
from small_house import NAMES, Stage
from told_history import History

from brokers.errors import BrokerUnavailable, OutcomeUnknown, UnknownOrder
from brokers.protocol import ActivityPage, OrderEvents
from daemon.adoption import adopt, adoption
from daemon.crash_points import CrashPoint
from daemon.cycle import work_cycle
from daemon.day import start
from daemon.halt import is_halted
from daemon.link import Link
from daemon.lots_check import compare
from daemon.outcomes import take_update
from faults.conftest import Staged
from faults.holding import Door, holds, killed_at, minutes, opened
from state.records import (
    BrokerAccount,
    BrokerOrder,
    BrokerOrderStatus,
    BrokerPosition,
    IntentState,
    PlanState,
    Side,
    TransactionKind,
)

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 0: nothing is held, 100,000 USD are there, nothing is decided today."""
    return opened(staged())


@pytest.fixture
def invested(staged: Staged) -> Stage:
    """Ten minutes after the open of session 1: ten names are held since yesterday, nothing is decided today."""
    made = staged()
    made.invest(0, 9_000)
    return opened(made, 1)


def held(stage: Stage, symbol: str = "AAA") -> Decimal:
    return stage.house.ledger.position("main", symbol)


def at_venue(stage: Stage, symbol: str = "AAA") -> BrokerOrder:
    """Our one order in the symbol."""
    [order] = [one for one in stage.venue.orders() if one.symbol == symbol and one.client_order_id.startswith("hv-")]
    return order


def executions(stage: Stage) -> list[tuple[str, Decimal, Any]]:
    """What is booked, in the journal's order: id, quantity and the broker's time."""
    rows = stage.house.store.journal.all()
    trades = (row for row in rows if row.kind in (TransactionKind.BUY, TransactionKind.SELL))
    return [(row.transaction_id, row.quantity, row.executed_at) for row in trades]


def as_they_happened(stage: Stage) -> list[tuple[str, Decimal, Any]]:
    return [(fill.activity_id, fill.quantity, fill.occurred_at) for fill in stage.venue.fills()]


def messages(stage: Stage, prefix: str) -> list[str]:
    found = stage.house.store.alerts.list(most=10_000)
    return [one.message for one in found if one.key.startswith(prefix) and not one.recovered]


# ------------------------------------------------------------------ F13: filled in part, then over


@pytest.mark.fault("F13")
@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_of_an_order_filled_in_part_only_that_part_is_held_and_the_rest_is_planned_anew(
    staged: Staged, end: str
) -> None:
    """Harvestd's own first plan. Of AAA six tenths fill; the rest is cancelled, or the broker lets it expire."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.tick(stage.decision(0))
    first = stage.only("AAA")
    stage.venue.fill_next(first.client_order_id, D("0.6"), hold_rest=True)
    if end == "expired":
        stage.alter(cancel=lambda _: None)
    for after in range(2, 20, 2):
        stage.tick(stage.decision(0, after))
    stage.tick(stage.evening(0))
    [ended] = stage.intents("AAA")
    assert ended.state is IntentState(end)
    assert 0 < ended.filled_quantity < ended.submitted_quantity
    assert held(stage) == ended.filled_quantity == at_venue(stage).filled_quantity
    assert [plan.state for plan in stage.plans()] == [PlanState.PARTLY_DONE]
    [told] = messages(stage, "plan:")
    assert "planned anew, never resent" in told
    holds(stage)
    stage.live(1)
    again = [one for one in stage.intents("AAA") if one.client_order_id != first.client_order_id]
    assert {one.plan_id for one in again} == {stage.plans()[1].plan_id}
    assert len(stage.sent()) == len(set(stage.sent()))
    assert held(stage) == sum((one.filled_quantity for one in stage.intents("AAA")), D(0)) > ended.filled_quantity
    holds(stage)


# ------------------------------------------------------------------ F14: the rest fills while nobody is there


@pytest.mark.fault("F14")
@pytest.mark.parametrize(
    "point",
    [CrashPoint.ORDERS_SETTLED, CrashPoint.HISTORY_READ, CrashPoint.HISTORY_TAKEN],
    ids=lambda point: point.value,
)
def test_what_fills_while_no_process_lives_is_booked_once_in_order_at_the_brokers_time(
    stage: Stage, point: CrashPoint
) -> None:
    """Half fills, the process dies; the rest fills; the next process dies taking that in; the third has it all."""
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 7))
    for symbol in ("AAA", "BBB"):
        stage.venue.fill_next(stage.only(symbol).client_order_id, D("0.5"))
    minutes(stage, 10)
    with killed_at(point):
        minutes(stage, 11)
    stage.restart()
    stage.venue.advance_to(stage.at(0, 30))
    with killed_at(CrashPoint.HISTORY_READ):
        stage.look()
    stage.restart()
    minutes(stage, 32)
    assert {one.state for one in stage.intents()} == {IntentState.FILLED}
    assert (held(stage, "AAA"), held(stage, "BBB")) == (10, 7)
    assert executions(stage) == as_they_happened(stage)
    assert len(executions(stage)) == 4
    stage.finish(0)
    holds(stage)
    assert executions(stage) == as_they_happened(stage)


# ------------------------------------------------------------------ F15, F16: told again, told in another order


@pytest.mark.fault("F15")
def test_an_execution_told_three_times_again_after_a_restart_and_from_the_beginning_is_booked_once(
    invested: Stage,
) -> None:
    stage = invested

    def forgetful() -> None:
        history = stage.venue.broker().activities

        def thrice(_: str | None = None) -> ActivityPage:
            page = history(None)
            return ActivityPage(page.activities * 3, page.cursor)

        stage.alter(activities=thrice)

    forgetful()
    stage.execute((SELL, "AAA", 20), (BUY, "BBB", 10))
    minutes(stage, 12, 14, 16, number=1)
    assert executions(stage) == as_they_happened(stage)
    before, digest = everything(stage.house.store), stage.house.ledger.digest()
    for _ in range(3):
        stage.look()
    assert everything(stage.house.store) == before
    stage.restart()
    forgetful()
    stage.look()
    assert everything(stage.house.store) == before
    assert stage.house.ledger.digest() == digest
    stage.finish(1)
    holds(stage, again=forgetful)
    assert executions(stage) == as_they_happened(stage)


def told(stage: Stage, symbol: str, status: BrokerOrderStatus, filled: int) -> None:
    """The stream tells of our order in a symbol."""
    order = replace(at_venue(stage, symbol), status=status, filled_quantity=D(filled))
    take_update(stage.house, stage.account, order)


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
def test_the_streams_words_in_any_order_and_any_number_end_where_the_order_ended(stage: Stage) -> None:
    """Backwards and three times over, while the order is working, and when it is over."""
    stage.execute((BUY, "AAA", 10))
    name = stage.only("AAA").client_order_id
    stage.venue.fill_next(name, D("0.4"))
    minutes(stage, 10)
    words = [(BrokerOrderStatus.WORKING, 0), (BrokerOrderStatus.PARTLY_FILLED, 4), (BrokerOrderStatus.FILLED, 10)]
    seen = D(0)
    for status, filled in words[1::-1] * 3:
        told(stage, "AAA", status, filled)
        assert stage.only("AAA").filled_quantity >= seen
        seen = stage.only("AAA").filled_quantity
    assert (stage.only("AAA").state, seen) == (IntentState.PARTLY_FILLED, 4)
    minutes(stage, 12, 14)
    for status, filled in words[::-1] * 3:
        told(stage, "AAA", status, filled)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.FILLED, 10)
    stage.finish(0)
    holds(stage)
    assert held(stage) == 10


@pytest.mark.fault("F16")
def test_a_fill_told_before_the_order_was_acknowledged_is_taken(stage: Stage) -> None:
    """The answer to the request is lost; the stream is the first to tell of the order, and it is filled already."""
    stage.venue.lose_next_answer("after")
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    assert stage.only("AAA").state is IntentState.UNKNOWN
    stage.venue.advance_to(stage.at(0, 12))
    told(stage, "AAA", BrokerOrderStatus.FILLED, 10)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.FILLED, 10)
    minutes(stage, 14)
    assert held(stage) == 10
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE]
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F16")
def test_a_fill_in_the_history_before_its_order_is_found_becomes_that_orders_fill(stage: Stage) -> None:
    """The answer is lost, the look-up lags, and the account's history is the first to tell of the execution."""
    door = Door(stage, lambda _, nth: OutcomeUnknown("no answer") if nth == 1 else None, after=True)
    stage.alter(submit=door.submit, order_by_client_id=lambda _: None)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10, 12)
    assert held(stage) == 10
    stage.alter()
    minutes(stage, 14)
    assert stage.only("AAA").filled_quantity == 10
    [fill] = stage.house.store.orders.fills()
    assert fill.client_order_id == stage.only("AAA").client_order_id


def cancelled_before_its_fill_was_told(stage: Stage) -> None:
    """The broker says cancelled, nothing filled; the fill was faster, and neither history nor account shows it yet."""
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    own, find = stage.venue.broker(), stage.venue.broker().order_by_client_id
    account, positions, page = own.account(), own.positions(), own.activities(None)

    def cancelled(name: str) -> BrokerOrder | None:
        found = find(name)
        return found and replace(found, status=BrokerOrderStatus.CANCELLED, filled_quantity=D(0))

    stage.venue.advance_to(stage.at(0, 12))
    stage.alter(
        order_by_client_id=cancelled,
        open_orders=lambda: (),
        account=lambda: account,
        positions=lambda: positions,
        activities=lambda _: page,
    )
    minutes(stage, 12)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.CANCELLED, 0)
    stage.alter()


@pytest.mark.fault("F16")
@pytest.mark.parametrize("parts", [(10,), (4, 10)], ids=["at once", "in parts"])
def test_a_fill_told_by_the_stream_after_the_cancel_still_counts(stage: Stage, parts: tuple[int, ...]) -> None:
    cancelled_before_its_fill_was_told(stage)
    for filled in parts:
        state = IntentState.FILLED if filled == 10 else IntentState.CANCELLED
        told(stage, "AAA", BrokerOrderStatus(("partly_" if filled < 10 else "") + "filled"), filled)
        assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (state, filled)
    stage.finish(0)
    assert held(stage) == 10
    assert stage.alerts("reconcile:") == []
    assert len(stage.sent()) == 1, "nothing is sent in its place"
    holds(stage)


@pytest.mark.fault("F16")
def test_a_fill_told_by_the_history_alone_after_the_cancel_is_held(stage: Stage) -> None:
    """There is no stream to tell of it. The shares are there, and nothing is sent in their place."""
    cancelled_before_its_fill_was_told(stage)
    stage.finish(0)
    assert held(stage) == 10
    [fill] = stage.house.store.orders.fills()
    assert fill.client_order_id == stage.only("AAA").client_order_id
    assert len(stage.sent()) == 1
    holds(stage, settled=False)


@pytest.mark.fault("F16")
def test_a_fill_told_by_the_history_alone_after_the_cancel_is_that_orders(stage: Stage) -> None:
    cancelled_before_its_fill_was_told(stage)
    stage.finish(0)
    assert stage.only("AAA").filled_quantity == 10


@pytest.mark.fault("F16")
def test_when_the_filled_quantity_goes_back_it_is_asked_again_and_nothing_is_subtracted(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    stage.venue.fill_next(stage.only("AAA").client_order_id, D("0.6"), hold_rest=True)
    minutes(stage, 10, 12)
    find, asked = stage.venue.broker().order_by_client_id, []

    def went_back(name: str) -> BrokerOrder | None:
        asked.append(name)
        found = find(name)
        return found and replace(found, filled_quantity=D(2))

    stage.alter(order_by_client_id=went_back)
    minutes(stage, 14, 16)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.PARTLY_FILLED, 6)
    assert (held(stage), len(asked)) == (6, 2)
    stage.alter()
    stage.finish(0)
    assert (stage.only("AAA").state, stage.only("AAA").filled_quantity) == (IntentState.CANCELLED, 6)
    holds(stage)


# ------------------------------------------------------------------ F17: the stream never tells


class Stream:
    """A stream that is connected, and says nothing."""

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


def nothing(_: str) -> BrokerOrder | None:
    return None


@pytest.mark.fault("F17")
def test_a_fill_that_the_stream_never_tells_is_found_at_the_next_look_and_sold_once(invested: Stage) -> None:
    stage, stream = invested, Stream()

    def listening() -> None:
        stage.house.links = {"main": Link(stream, nothing)}

    listening()
    before = held(stage)
    stage.execute((SELL, "AAA", 50))
    minutes(stage, 12, number=1)
    assert stage.only("AAA").state is IntentState.WORKING
    minutes(stage, 14, number=1)
    assert (stage.only("AAA").state, held(stage)) == (IntentState.FILLED, before - 50)
    minutes(stage, 16, number=1)
    stage.look()
    assert stream.suspected == 1
    assert stage.alerts("updates:") == ["raised"]
    stage.look()
    assert stage.alerts("updates:") == ["raised", "recovered"]
    stage.finish(1)
    sales = [order for order in stage.venue.orders() if order.side is SELL]
    assert [order.filled_quantity for order in sales] == [50], "sold once, never again"
    holds(stage, again=listening)


# ------------------------------------------------------------------ F21: the broker takes back, corrects, is late


def correcting(stage: Stage) -> tuple[History, Callable[[], None]]:
    """A broker whose history may change, and how to put it in place again after a restart."""
    history = History(stage)

    def attach() -> None:
        history.attach()
        broker: Any = stage.house.brokers["main"]
        broker.capabilities = replace(stage.venue.broker().capabilities, amends_history=True)

    attach()
    stage.look()
    return history, attach


def taken_back(history: History, side: Side, quantity: int) -> set[str]:
    """The newest execution in AAA never happened; the shares are moved back at the venue by a trade nobody is told of.

    Returns the venue's ids of both. The broker's account changes at once, its history only with `rewrite`.
    """
    stage, line = history.stage, history.last_fill()
    stage.outside(SELL if side is BUY else BUY, "AAA", quantity)
    stage.venue.advance_to(stage.venue.now + timedelta(minutes=2))
    hidden = history.last_fill()
    history.drop(hidden.activity_id)
    history.cash -= line.amount + hidden.amount
    return {line.activity_id, hidden.activity_id}


@pytest.mark.fault("F21")
def test_a_trade_that_is_busted_leaves_the_lots_and_locks_its_symbol_until_the_history_says_so(invested: Stage) -> None:
    stage, before = invested, held(invested)
    history, attach = correcting(stage)
    stage.execute((BUY, "AAA", 50))
    minutes(stage, 12, 14, number=1)
    assert held(stage) == before + 50
    line = history.last_fill()
    ids = taken_back(history, BUY, 50)
    stage.execute((BUY, "AAA", 5), (BUY, "BBB", 5))
    minutes(stage, 20, 22, number=1)
    assert stage.look().locks.keys() == {"AAA"}
    waits = stage.intents("AAA")[-1]
    assert waits.reason.startswith("SYMBOL_LOCKED")
    assert stage.only("BBB").state is IntentState.FILLED
    assert held(stage) == before + 50, "nothing is made up to fit"
    history.rewrite(line.activity_id, cancelled=True)
    stage.finish(1)
    assert held(stage) == before
    assert stage.look().locks == {}
    assert [waits.client_order_id in stage.sent(), stage.intents("AAA")[-1].state] == [False, IntentState.EXPIRED]
    assert stage.alerts("reconcile:main:AAA") == ["raised", "recovered"]
    assert stage.alerts("reconcile:main:cash") in ([], ["raised", "recovered"])
    rows = [row for row in stage.house.store.journal.all() if row.supersedes]
    assert [row.supersedes for row in rows] == [line.activity_id], "a row that corrects; the row it corrects stays"
    holds(stage, told_otherwise=ids, again=attach)


def corrected(stage: Stage) -> tuple[str, Callable[[], None]]:
    """A purchase of fifty shares whose price the broker corrects by a dollar, as it is after the evening."""
    history, attach = correcting(stage)
    stage.execute((BUY, "AAA", 50))
    minutes(stage, 12, 14, number=1)
    line = history.last_fill()
    history.rewrite(line.activity_id, price=line.price + 1, amount=line.amount - 50)
    history.cash -= 50
    stage.look()
    stage.finish(1)
    return line.activity_id, attach


@pytest.mark.fault("F21")
def test_a_corrected_price_moves_basis_and_cash_in_the_evening(invested: Stage) -> None:
    stage = invested
    execution, attach = corrected(stage)
    [fill] = [one for one in stage.venue.fills() if one.activity_id == execution]
    [lot] = [one for one in stage.house.ledger.open_lots("main", "AAA") if one.quantity == 50]
    assert lot.basis == -fill.amount + 50
    assert stage.alerts("reconcile:main:cash") == ["raised", "recovered"]
    assert stage.house.journal_cash("main") == stage.look().cash
    holds(stage, told_otherwise={execution}, again=attach)


@pytest.mark.fault("F21")
def test_when_the_purchase_that_disallowed_a_loss_is_busted_the_loss_counts_again(staged: Staged) -> None:
    stage = staged(changes=[("AAA", 1, "0.8")])
    stage.invest(0, 9_000)
    opened(stage, 2)
    history, attach = correcting(stage)
    stage.outside(SELL, "AAA", 100)
    stage.venue.advance_to(stage.at(2, 12))
    stage.look()
    [whole] = stage.house.store.lots.realized("main")
    assert whole.recognized < 0 == whole.disallowed
    stage.outside(BUY, "AAA", 100)
    stage.venue.advance_to(stage.at(2, 16))
    stage.look()
    assert sum((row.disallowed for row in stage.house.store.lots.realized("main")), D(0)) == -whole.gain_loss
    line = history.last_fill()
    ids = taken_back(history, BUY, 100)
    history.rewrite(line.activity_id, cancelled=True)
    stage.finish(2)
    [again] = stage.house.store.lots.realized("main")
    assert (again.recognized, again.disallowed) == (whole.recognized, 0)
    assert stage.look().locks == {}
    holds(stage, told_otherwise=ids, again=attach)


@pytest.mark.fault("F21")
def test_a_dividend_booked_days_late_is_found_in_an_evening_and_told_as_a_difference_until_then(
    invested: Stage,
) -> None:
    stage = invested
    history, attach = correcting(stage)
    stage.venue.pay_dividend("BBB", D("0.50"))
    line = history._all()[-1]
    assert line is not None
    late = history.drop(line.activity_id)
    stage.finish(1)
    stage.live(2)
    assert stage.alerts("reconcile:main:cash") == ["raised"]
    history.lines.update(late)
    stage.live(3)
    assert stage.alerts("reconcile:main:cash") == ["raised", "recovered"]
    rows = [row for row in stage.house.store.journal.all() if row.transaction_id == line.activity_id]
    assert [row.trade_date for row in rows] == [stage.session(1).session], "on its own day"
    holds(stage, again=attach)


# ------------------------------------------------------------------ F22, F23: what is there when a process starts


def five_more(stage: Stage) -> Callable[[], None]:
    """The broker has five shares of AAA of which its history says nothing."""

    def alter() -> None:
        own = stage.venue.broker().positions

        def positions() -> tuple[BrokerPosition, ...]:
            return tuple(replace(one, quantity=one.quantity + 5 * (one.symbol == "AAA")) for one in own())

        stage.alter(positions=positions)

    return alter


@pytest.mark.fault("F22")
def test_a_position_that_differs_at_the_start_is_refused_shown_and_adopted_only_at_a_persons_word(
    invested: Stage,
) -> None:
    stage, before = invested, held(invested)
    differs = five_more(stage)
    stage.restart()
    differs()
    assert start(stage.house)
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    minutes(stage, 12, 14, number=1)
    assert stage.only("AAA").state is IntentState.RECORDED
    assert stage.only("AAA").reason.startswith("SYMBOL_LOCKED")
    assert stage.only("BBB").state is IntentState.FILLED
    [shown] = messages(stage, "reconcile:main:AAA")
    assert str(before) in shown
    assert str(before + 5) in shown
    assert "harvestd reconcile adopt AAA" in shown
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.EXPIRED
    holds(stage, again=differs)
    assert stage.alerts("reconcile:main:AAA") == ["raised"]
    assert held(stage) == before, "nothing is adopted by itself"
    assert (
        len(adopt(stage.house, adoption(stage.house, stage.account, "AAA", stage.house.brokers["main"].positions())))
        == 1
    )
    assert (held(stage), stage.look().locks) == (before + 5, {})
    assert stage.alerts("reconcile:main:AAA") == ["raised", "recovered"]
    check_reconciling_twice(stage.house)
    assert compare(stage.house.store, stage.house.settings).differences == ()


@pytest.mark.fault("F22")
def test_a_trade_by_hand_and_a_split_while_nobody_was_there_are_taken_in_from_the_history(invested: Stage) -> None:
    stage, before = invested, held(invested)
    stage.house.store.close()
    stage.outside(SELL, "AAA", 30)
    stage.venue.advance_to(stage.at(1, 30))
    stage.venue.split("BBB", D(2), D(1))
    stage.restart()
    shares = held(stage, "BBB")
    assert start(stage.house)
    assert (held(stage), held(stage, "BBB")) == (before - 30, shares * 2)
    assert stage.look().locks == {}
    assert stage.alerts("reconcile:") == []
    stage.finish(1)
    holds(stage)


@pytest.mark.fault("F23")
def test_a_warm_restart_with_positions_and_an_open_order_trades_and_books_nothing(invested: Stage) -> None:
    stage = invested
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 50), (BUY, "BBB", 30))
    minutes(stage, 12, number=1)
    books = (executions(stage), stage.house.ledger.digest(), stage.sent())
    orders = stage.intents()
    for _ in range(3):
        stage.restart()
        assert start(stage.house)
        check_reconciling_twice(stage.house)
        check_invariants(stage.path, stage.venue)
        assert (executions(stage), stage.house.ledger.digest(), stage.sent()) == books
        assert stage.intents() == orders
    stage.venue.unhalt("AAA")
    stage.finish(1)
    assert len(stage.sent()) == 2
    holds(stage)


# ------------------------------------------------------------------ F24: lists that are empty or short


def with_equity(stage: Stage) -> Callable[[], BrokerAccount]:
    """The account's figures as a broker tells them: with what all of it is worth."""
    own = stage.venue.broker()

    def account() -> BrokerAccount:
        figures = own.account()
        quotes = own.quotes(NAMES)
        worth = sum((one.quantity * quotes[one.symbol].mid for one in own.positions()), D(0))
        return replace(figures, equity=figures.cash + worth)

    return account


@pytest.mark.fault("F24")
@pytest.mark.parametrize("kept", [0, 5], ids=["empty", "half of it"])
def test_a_list_of_positions_that_cannot_be_whole_is_not_believed_and_nothing_is_sent(
    staged: Staged, kept: int
) -> None:
    """There is new money, so harvestd would trade. While the list is short it does not, and books nothing."""
    stage = staged()
    stage.invest(0)
    stage.tick(stage.before_open(1))
    stage.venue.deposit(D(30_000), reference="more")
    own = stage.venue.broker().positions
    stage.alter(positions=lambda: own()[:kept], account=with_equity(stage))
    before = stage.house.store.journal.all()
    for after in (0, 2, 4):
        stage.tick(stage.decision(1, after))
    assert stage.plans() == ()
    assert stage.sent() == ()
    assert stage.house.store.journal.all() == before
    assert stage.alerts("broker:") == ["raised"]
    assert stage.alerts("reconcile:") == [], "no difference is concluded from it"
    [said] = messages(stage, "broker:")
    assert "Nothing is concluded from that list" in said
    stage.alter(account=with_equity(stage))
    for after in range(6, 20, 2):
        stage.tick(stage.decision(1, after))
    stage.tick(stage.evening(1))
    assert stage.alerts("broker:") == ["raised", "recovered"]
    assert stage.sent() != (), "the window was still open"
    holds(stage)


@pytest.mark.fault("F24")
def test_a_few_shares_less_are_a_difference_that_locks_their_symbol(invested: Stage) -> None:
    stage = invested

    def fewer() -> None:
        own = stage.venue.broker().positions
        stage.alter(
            positions=lambda: tuple(replace(one, quantity=one.quantity - 3 * (one.symbol == "AAA")) for one in own()),
            account=with_equity(stage),
        )

    fewer()
    stage.execute((SELL, "AAA", 10))
    stage.execute((BUY, "BBB", 10))
    minutes(stage, 12, 14, number=1)
    assert stage.look().locks.keys() == {"AAA"}
    assert stage.only("BBB").state is IntentState.FILLED
    assert stage.alerts("broker:") == []
    assert stage.alerts("reconcile:") == ["raised"]
    stage.finish(1)
    holds(stage, again=fewer)
    assert stage.alerts("reconcile:") == ["raised"]
    stage.alter()
    stage.look()
    assert stage.alerts("reconcile:") == ["raised", "recovered"]


@pytest.mark.fault("F24")
def test_an_empty_list_of_open_orders_ends_no_order(invested: Stage) -> None:
    stage = invested
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 50), (BUY, "BBB", 30))
    minutes(stage, 12, number=1)
    stage.alter(open_orders=lambda: ())
    minutes(stage, 14, 16, number=1)
    assert stage.only("AAA").state is IntentState.WORKING
    assert stage.sent().count(stage.only("AAA").client_order_id) == 1
    stage.alter()
    stage.venue.unhalt("AAA")
    stage.finish(1)
    assert {one.state for one in stage.intents()} == {IntentState.FILLED}
    holds(stage)


@pytest.mark.fault("F24")
@pytest.mark.parametrize("lasting", [False, True], ids=["for a moment", "for ten minutes"])
def test_a_history_that_is_short_locks_what_filled_and_is_read_on_when_it_is_whole(
    invested: Stage, lasting: bool
) -> None:
    """The position shows the fill, the history does not yet. That is no difference to be told, unless it lasts."""
    stage, before = invested, held(invested)
    page = stage.venue.broker().activities(None)
    stage.alter(activities=lambda _: ActivityPage((), page.cursor))
    stage.execute((SELL, "AAA", 50))
    minutes(stage, 12, 14, number=1)
    assert stage.only("AAA").state is IntentState.FILLED
    assert (held(stage), stage.look().locks.keys()) == (before, {"AAA"})
    assert stage.alerts("reconcile:") == []
    if lasting:
        for after in (18, 22, 24):
            stage.venue.advance_to(stage.at(1, after))
            stage.look()
        assert stage.alerts("reconcile:main:AAA") == ["raised"]
    stage.alter()
    snapshot = stage.look()
    assert (held(stage), snapshot.locks) == (before - 50, {})
    assert stage.alerts("reconcile:main:AAA") == (["raised", "recovered"] if lasting else [])
    stage.finish(1)
    holds(stage)
    assert executions(stage) == as_they_happened(stage)


# ------------------------------------------------------------------ F25: a cancel that is not heeded


def deaf(stage: Stage, *symbols: str) -> None:
    """The broker says yes to every cancel, carries none out, and goes on showing the orders, after the close too."""
    find = stage.venue.broker().order_by_client_id

    def as_before(name: str) -> BrokerOrder | None:
        found = find(name)
        is_stuck = found is not None and found.symbol in symbols
        return replace(found, status=BrokerOrderStatus.WORKING, reason="") if found and is_stuck else found

    asked: list[str] = []
    stage.alter(
        cancel=asked.append, order_by_client_id=as_before, order_events=lambda cursor=None: OrderEvents((), cursor)
    )


@pytest.mark.fault("F25")
def test_an_order_that_does_not_end_is_followed_told_once_and_never_replaced(invested: Stage) -> None:
    """A sale that is cancelled in vain: its purchase never leaves; next morning the broker's records end it."""
    stage = invested
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 50), (BUY, "BBB", 35))
    minutes(stage, 12, number=1)
    deaf(stage, "AAA")
    for after in (10, 12, 14, 16, 18):
        stage.tick(stage.decision(1, after))
        assert stage.only("AAA").state is IntentState.WORKING
    assert stage.alerts("stuck:") == [], "not before five minutes after the last moment to send"
    stage.tick(stage.evening(1))
    assert stage.alerts("stuck:") == ["raised"]
    [said] = messages(stage, "stuck:")
    assert "ORDER_STUCK" in said
    assert "AAA" in said
    stage.restart()
    deaf(stage, "AAA")
    assert start(stage.house)
    stage.tick(stage.before_open(2))
    assert stage.only("AAA").state is IntentState.WORKING
    assert stage.alerts("stuck:") == ["raised"], "told once, in whichever process"
    assert stage.sent() == (stage.only("AAA").client_order_id,), "nothing leaves in its place"
    stage.alter()
    stage.venue.unhalt("AAA")
    stage.live(2)
    assert stage.intents("AAA")[0].state is IntentState.EXPIRED
    assert stage.alerts("stuck:") == ["raised", "recovered"]
    assert not is_halted(stage.path)
    holds(stage)


@pytest.mark.fault("F25")
def test_while_an_order_does_not_end_nothing_is_planned_in_its_account(invested: Stage) -> None:
    """New money comes the next day. The plan of the stuck order is still open, so there is no other."""
    stage = invested
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 50))
    minutes(stage, 12, number=1)
    deaf(stage, "AAA")
    stage.finish(1)
    stage.tick(stage.before_open(2))
    stage.venue.deposit(D(30_000), reference="more")
    stage.finish(2)
    assert len(stage.plans()) == len(stage.sent()) == 1
    stage.alter()
    stage.venue.unhalt("AAA")
    stage.tick(stage.before_open(3))
    minutes(stage, 2, number=3)
    assert stage.intents("AAA")[0].state is IntentState.EXPIRED
    stage.finish(3)
    assert [plan.state for plan in stage.plans()] == [PlanState.FAILED, PlanState.DONE]
    holds(stage)


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(UnknownOrder("no such order"), id="404"),
        pytest.param(
            BrokerUnavailable("500"),
            id="500",
        ),
    ],
)
def test_when_one_cancel_fails_the_others_are_asked_for_all_the_same(stage: Stage, error: Exception) -> None:
    for symbol in ("AAA", "BBB", "CCC"):
        stage.venue.halt(symbol)
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10), (BUY, "CCC", 10))
    minutes(stage, 10)
    fails, cancel = at_venue(stage, "BBB").broker_order_id, stage.venue.broker().cancel

    def partly(broker_order_id: str) -> None:
        if broker_order_id == fails:
            raise error
        cancel(broker_order_id)

    stage.alter(cancel=partly)
    stage.tick(stage.decision(0, 18))
    stage.tick(stage.decision(0, 19))
    states = {order.symbol: order.status for order in stage.venue.orders()}
    assert states == {
        "AAA": BrokerOrderStatus.CANCELLED,
        "BBB": BrokerOrderStatus.WORKING,
        "CCC": BrokerOrderStatus.CANCELLED,
    }
    stage.alter()
    stage.tick(stage.decision(0, 19.5))
    stage.tick(stage.evening(0))
    assert {one.state for one in stage.intents()} == {IntentState.CANCELLED}
    holds(stage)


@pytest.mark.fault("F25")
def test_no_pass_of_work_waits_for_a_cancel(invested: Stage) -> None:
    """While one sale hangs, what was decided beside it goes on."""
    stage = invested
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 50))
    stage.execute((BUY, "CCC", 20))
    minutes(stage, 12, number=1)
    deaf(stage, "AAA")
    work_cycle(stage.house, stage.account)
    minutes(stage, 14, number=1)
    assert stage.only("CCC").state is IntentState.FILLED
    assert stage.only("AAA").state is IntentState.WORKING
    stage.alter()
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.CANCELLED
    holds(stage)
