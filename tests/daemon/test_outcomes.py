"""The outcome table, row by row, through the code that reads it; and what holds whatever is heard in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from conftest import Staged
from hypothesis import given, settings
from hypothesis import strategies as st
from small_house import Stage

from brokers.errors import DuplicateClientOrderId, NotAuthorized, NotSent, OrderRefused, OutcomeUnknown
from daemon.cli.docs import DOCS, outcomes_page
from daemon.errors import MustHalt
from daemon.halt import is_halted
from daemon.outcomes import ANSWERED, OUTCOMES, RECORDS, STATE_OF, Heard, adopted, after, heard_of, settle, take_update
from state.records import (
    BrokerOrder,
    BrokerOrderStatus,
    Intent,
    IntentState,
    OrderRequest,
    OrderType,
    Side,
)

D = Decimal
BUY = Side.BUY
NOON = datetime(2024, 3, 4, 17, tzinfo=UTC)
ROWS = [(state, heard) for state, row in OUTCOMES.items() for heard in row]
OPEN = [state for state in IntentState if not state.is_final]
LEFT = [IntentState.SUBMITTING, IntentState.UNKNOWN, IntentState.WORKING, IntentState.PARTLY_FILLED]
OF_RECORD = {heard: BrokerOrderStatus(heard.name.lower()) for heard in RECORDS}
SOME = {Heard.PARTLY_FILLED: 6, Heard.FILLED: 10}  # of ten shares

NONE = frozenset({Heard.NONE_YET, Heard.NONE_IN_TIME, Heard.NONE_LATE, Heard.NONE_AFTER_CLOSE, Heard.NONE_ANY_MORE})
SAID = frozenset(RECORDS) | {Heard.OTHER_TERMS, Heard.LESS_FILLED}


def intent_in(state: IntentState, **others: Any) -> Intent:
    """Ten shares of AAA that have left."""
    fields = {
        "client_order_id": "hv-main-20240304-1-1-0", "plan_id": "main-20240304-1", "account_id": "main", "leg": 1,
        "slice_number": 0, "symbol": "AAA", "side": BUY, "quantity": D(10), "session": date(2024, 3, 4),
        "order_type": OrderType.MARKET, "reference_price": D(40), "submitted_quantity": D(10), "submitted_at": NOON,
    }  # fmt: skip
    return Intent(state=state, **{**fields, **others})


def order_of(intent: Intent, status: BrokerOrderStatus, filled: int, **others: Any) -> BrokerOrder:
    """The broker's record of an intent."""
    made = BrokerOrder(
        "broker-1", intent.client_order_id, intent.symbol, intent.side, intent.submitted_quantity, D(filled), status,
        intent.order_type, NOON,
    )  # fmt: skip
    return replace(made, **others)


def ids(row: tuple[IntentState, Heard]) -> str:
    return f"{row[0].value}, {row[1].name}"


# ------------------------------------------------------------------ the table


def test_every_state_has_a_row_for_everything_that_can_be_heard_in_it() -> None:
    """The broker's records can speak at any time. That it knows of none is only asked of what is not over, and a
    request is only answered while it is on its way."""
    for state in IntentState:
        expected = SAID if state.is_final else SAID | NONE
        if state is IntentState.SUBMITTING:
            expected |= ANSWERED.keys()
        assert OUTCOMES[state].keys() == expected, state


def test_no_row_ends_an_order_that_may_have_left_without_the_brokers_word() -> None:
    """Refused by it, recorded by it as over, or unknown to it after the close of an order for the day."""
    final_words = {Heard.FILLED, Heard.CANCELLED, Heard.EXPIRED, Heard.REJECTED, Heard.REFUSED, Heard.NONE_AFTER_CLOSE}
    final_words |= {Heard.NONE_ANY_MORE}
    ending = {heard for state in OPEN for heard, one in OUTCOMES[state].items() if one.next and one.next.is_final}
    assert ending == final_words


def test_no_row_opens_what_is_over() -> None:
    for state in set(IntentState) - set(OPEN):
        for outcome in OUTCOMES[state].values():
            assert outcome.next is None or outcome.next.is_final


def test_it_goes_out_again_only_when_it_is_known_not_to_be_there() -> None:
    again = {heard for state in LEFT for heard, one in OUTCOMES[state].items() if one.next is IntentState.RECORDED}
    assert again == {Heard.NONE_IN_TIME, Heard.REFUSED_FOR_NOW, Heard.NOT_SENT}
    for state in (IntentState.WORKING, IntentState.PARTLY_FILLED):  # never straight from what the broker has had
        assert IntentState.RECORDED not in {one.next for one in OUTCOMES[state].values()}


def test_the_page_of_the_table_is_the_table() -> None:
    assert (DOCS / "OUTCOMES.md").read_text(encoding="utf-8") == outcomes_page(), "run: python -m daemon.cli.docs"
    rows = [line for line in outcomes_page().splitlines() if line.startswith("| ") and "| why |" not in line]
    assert len(rows) == len(ROWS)
    assert sum("trading halts" in row for row in rows) == sum(OUTCOMES[state][heard].halts for state, heard in ROWS)


# ------------------------------------------------------------------ after, adopted


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_after_does_what_the_row_says(row: tuple[IntentState, Heard]) -> None:
    state, heard = row
    outcome, intent = OUTCOMES[state][heard], intent_in(state, reason="as before")
    if outcome.halts:
        with pytest.raises(MustHalt, match=f"{intent.client_order_id}, {state.value}: {heard.value}"):
            after(intent, heard)
        return
    moved = after(intent, heard, "new words")
    if outcome.next is None:
        assert moved == intent
    else:
        assert moved == replace(intent, state=outcome.next, reason="new words")
        assert after(intent, heard).reason == "as before"


@pytest.mark.parametrize("state", list(IntentState), ids=lambda state: state.value)
@pytest.mark.parametrize("heard", RECORDS, ids=lambda heard: heard.name)
def test_a_record_of_the_brokers_is_adopted_as_the_row_says(state: IntentState, heard: Heard) -> None:
    intent = intent_in(state, lookups=2)
    order = order_of(intent, OF_RECORD[heard], SOME.get(heard, 0))
    assert heard_of(intent, order) is heard
    if state is IntentState.REFUSED and order.filled_quantity:
        with pytest.raises(MustHalt, match="more of it has filled"):
            adopted(intent, order)
        return
    if state is IntentState.REFUSED:
        assert adopted(intent, order) == intent, "told again"
        return
    found = adopted(intent, order)
    assert found.state is (OUTCOMES[state][heard].next or state)
    assert found.filled_quantity == order.filled_quantity
    if not state.is_final:
        assert (found.broker_order_id, found.lookups) == ("broker-1", 0)
        assert found.state is STATE_OF[heard]


@pytest.mark.parametrize("state", list(IntentState), ids=lambda state: state.value)
@pytest.mark.parametrize("other", [{"symbol": "BBB"}, {"side": Side.SELL}, {"quantity": D(11)}], ids=repr)
def test_an_order_of_other_terms_halts_in_every_state(state: IntentState, other: dict[str, Any]) -> None:
    intent = intent_in(state)
    order = order_of(intent, BrokerOrderStatus.WORKING, 0, **other)
    with pytest.raises(MustHalt, match="expected buy 10 AAA, the broker has"):
        adopted(intent, order)


@pytest.mark.parametrize("state", list(IntentState), ids=lambda state: state.value)
@pytest.mark.parametrize("status", list(BrokerOrderStatus), ids=lambda status: status.value)
def test_what_says_less_is_filled_than_before_changes_nothing(state: IntentState, status: BrokerOrderStatus) -> None:
    intent = intent_in(state, filled_quantity=D(6))
    assert adopted(intent, order_of(intent, status, 5)) == intent


@pytest.mark.parametrize("state", [IntentState.CANCELLED, IntentState.EXPIRED], ids=lambda state: state.value)
def test_a_fill_told_after_the_end_still_counts(state: IntentState) -> None:
    """F16: part of it, then all of it."""
    intent = intent_in(state, filled_quantity=D(2))
    part = adopted(intent, order_of(intent, BrokerOrderStatus.PARTLY_FILLED, 6))
    assert (part.state, part.filled_quantity) == (state, 6)
    whole = adopted(part, order_of(intent, BrokerOrderStatus.FILLED, 10))
    assert (whole.state, whole.filled_quantity) == (IntentState.FILLED, 10)


@pytest.mark.parametrize(
    ("heard", "code"),
    [
        (Heard.CANCELLED, "ORDER_CANCELLED"),
        (Heard.EXPIRED, "ORDER_EXPIRED"),
        (Heard.REJECTED, "ORDER_REJECTED"),
        (Heard.WORKING, "ours"),
    ],
    ids=lambda each: each.name if isinstance(each, Heard) else "",
)
def test_an_end_has_the_brokers_reason_or_else_a_code_of_its_own(heard: Heard, code: str) -> None:
    intent = intent_in(IntentState.WORKING, reason="ours")
    order = order_of(intent, OF_RECORD[heard], 0)
    assert adopted(intent, order).reason == code
    assert adopted(intent, replace(order, reason="ORDER_REJECTED: the broker's words")).reason.endswith(
        "broker's words"
    )


# ------------------------------------------------------------------ whatever is heard, in whatever order

RECORDED_AGAIN = "sent again"
HEARD = st.one_of(
    st.tuples(st.sampled_from(list(BrokerOrderStatus)), st.integers(0, 10)),
    st.sampled_from(sorted(NONE)),
    st.sampled_from(sorted(ANSWERED.keys() - {Heard.NOT_AUTHORIZED})),
    st.just(RECORDED_AGAIN),
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(HEARD, max_size=25))
def test_fills_never_shrink_and_what_is_over_stays_over(story: list[Any]) -> None:
    intent = intent_in(IntentState.SUBMITTING)
    for heard in story:
        before = intent
        if isinstance(heard, tuple):
            status, filled = heard
            if intent.state is IntentState.REFUSED and filled > intent.filled_quantity:
                with pytest.raises(MustHalt):
                    adopted(intent, order_of(intent, status, filled))
                return
            intent = adopted(intent, order_of(intent, status, filled))
        elif heard == RECORDED_AGAIN:
            if intent.state is IntentState.RECORDED:
                intent = replace(intent, state=IntentState.SUBMITTING)
        elif heard in OUTCOMES[intent.state]:
            intent = after(intent, heard)
        assert intent.filled_quantity >= before.filled_quantity
        assert not before.state.is_final or intent.state.is_final
        assert intent.broker_order_id in (before.broker_order_id, "broker-1")
        assert (intent.submitted_quantity, intent.client_order_id) == (10, before.client_order_id)
        if intent.state is IntentState.FILLED and before.state is not IntentState.FILLED:
            assert heard == (BrokerOrderStatus.FILLED, int(intent.filled_quantity))


# ------------------------------------------------------------------ settle: what the broker's records say


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 0, an intent of ten shares recorded."""
    made = staged()
    made.tick(made.before_open(0))
    made.venue.advance_to(made.at(0, 10))
    made.execute((BUY, "AAA", 10))
    return made


def put(stage: Stage, state: IntentState, **others: Any) -> Intent:
    """The intent as it was left in some state."""
    fields = {"submitted_quantity": D(10), "submitted_at": stage.venue.now, **others}
    intent = replace(stage.only("AAA"), state=state, updated_at=stage.venue.now, **fields)
    stage.house.store.orders.save(intent)
    return intent


def answer(stage: Stage, *orders: BrokerOrder) -> None:
    """What the broker says of the orders it is asked for."""
    known = {order.client_order_id: order for order in orders}
    three = replace(stage.venue.broker().capabilities, lookups_before_resend=3)
    stage.alter(orders=lambda _: known, capabilities=three)


@pytest.mark.parametrize("state", [IntentState.RECORDED, *LEFT], ids=lambda state: state.value)
@pytest.mark.parametrize("heard", RECORDS, ids=lambda heard: heard.name)
def test_settling_writes_what_the_record_makes_of_it(stage: Stage, state: IntentState, heard: Heard) -> None:
    """RECORDED as well, when it had left before: it may have been there all the time."""
    intent = put(stage, state)
    answer(stage, order_of(intent, OF_RECORD[heard], SOME.get(heard, 0)))
    changed = settle(stage.house, stage.account)
    found = stage.only("AAA")
    assert (found.state, found.filled_quantity) == (STATE_OF[heard], SOME.get(heard, 0))
    assert changed == (frozenset() if found.state is state else {intent.client_order_id})


@pytest.mark.parametrize("state", LEFT, ids=lambda state: state.value)
def test_settling_halts_at_an_order_of_other_terms_and_keeps_its_symbol_locked(
    stage: Stage, state: IntentState
) -> None:
    intent = put(stage, state)
    answer(stage, order_of(intent, BrokerOrderStatus.FILLED, 11, quantity=D(11)))
    settle(stage.house, stage.account)
    assert is_halted(stage.path)
    found = stage.only("AAA")
    assert (found.state, found.filled_quantity, found.submitted_quantity) == (IntentState.UNKNOWN, 0, 10)
    assert found.reason.startswith("ORDER_CONTRADICTED")


def test_what_never_left_is_not_asked_for(stage: Stage) -> None:
    def asked(_: object) -> Any:
        raise AssertionError("the broker was asked for an order that never left")

    stage.alter(orders=asked)
    assert settle(stage.house, stage.account) == frozenset()


@pytest.mark.parametrize("state", [IntentState.SUBMITTING, IntentState.UNKNOWN], ids=lambda state: state.value)
@pytest.mark.parametrize(
    ("heard", "lookups", "when"),
    [
        (Heard.NONE_YET, 1, lambda stage: stage.at(0, 11)),
        (Heard.NONE_IN_TIME, 2, lambda stage: stage.at(0, 11)),
        (Heard.NONE_LATE, 2, lambda stage: stage.decision(0, 18)),
        (Heard.NONE_AFTER_CLOSE, 2, lambda stage: stage.evening(0)),
    ],
    ids=lambda each: each.name if isinstance(each, Heard) else "",
)
def test_settling_what_the_broker_does_not_know(
    stage: Stage, state: IntentState, heard: Heard, lookups: int, when: Callable[[Stage], datetime]
) -> None:
    put(stage, state, lookups=lookups)
    answer(stage)
    stage.venue.advance_to(when(stage))
    settle(stage.house, stage.account)
    found = stage.only("AAA")
    assert found.state is OUTCOMES[state][heard].next
    assert found.submitted_quantity == (0 if heard is Heard.NONE_AFTER_CLOSE else 10)
    assert found.reason == ("ORDER_DEADLINE: arrived=never" if heard is Heard.NONE_AFTER_CLOSE else "")


@pytest.mark.parametrize("state", [IntentState.WORKING, IntentState.PARTLY_FILLED], ids=lambda state: state.value)
def test_settling_what_the_broker_knows_no_longer(stage: Stage, state: IntentState) -> None:
    """It was there: it is not sent again. After the close it is over, with what was filled of it."""
    put(stage, state, lookups=9, filled_quantity=D(4), broker_order_id="broker-1")
    answer(stage)
    for _ in range(6):
        settle(stage.house, stage.account)
        stage.venue.advance_to(stage.venue.now + timedelta(minutes=1))
    found = stage.only("AAA")
    assert (found.state, found.filled_quantity) == (IntentState.UNKNOWN, 4)
    assert found.reason == f"ORDER_OUTCOME_UNKNOWN: was={state.value}"
    stage.venue.advance_to(stage.evening(0))
    settle(stage.house, stage.account)
    found = stage.only("AAA")
    assert (found.state, found.filled_quantity, found.submitted_quantity) == (IntentState.EXPIRED, 4, 10)
    assert found.reason == "ORDER_EXPIRED"


# ------------------------------------------------------------------ the answer to a request


def answered(stage: Stage, submit: Callable[[OrderRequest], BrokerOrder]) -> Intent:
    """The intent after one pass of work in which the request was answered so."""
    stage.alter(submit=submit)
    stage.tick(stage.at(0, 10))
    return stage.only("AAA")


def raising(error: Exception) -> Callable[[OrderRequest], BrokerOrder]:
    def submit(_: OrderRequest) -> BrokerOrder:
        raise error

    return submit


@pytest.mark.parametrize("heard", RECORDS, ids=lambda heard: heard.name)
def test_an_answer_that_is_an_order_is_adopted(stage: Stage, heard: Heard) -> None:
    def submit(_: OrderRequest) -> BrokerOrder:
        return order_of(stage.only("AAA"), OF_RECORD[heard], SOME.get(heard, 0), quantity=D(10))

    found = answered(stage, submit)
    assert (found.state, found.filled_quantity) == (STATE_OF[heard], SOME.get(heard, 0))
    assert found.broker_order_id == "broker-1"


@pytest.mark.parametrize(
    ("error", "heard", "submitted", "refusals"),
    [
        (OrderRefused("ORDER_REJECTED", "no"), Heard.REFUSED, 0, 1),
        (OrderRefused("ORDER_INSUFFICIENT_CASH", "not yet"), Heard.REFUSED_FOR_NOW, 0, 1),
        (OrderRefused("ORDER_SELF_TRADE", "not now"), Heard.REFUSED_FOR_NOW, 0, 1),
        (NotSent("no call left this minute"), Heard.NOT_SENT, 0, 0),
        (OutcomeUnknown("504"), Heard.NO_ANSWER, 10, 0),
        (DuplicateClientOrderId("ORDER_DUPLICATE", "must be unique"), Heard.NONE_YET, 10, 0),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_an_answer_that_is_none(stage: Stage, error: Exception, heard: Heard, submitted: int, refusals: int) -> None:
    found = answered(stage, raising(error))
    assert found.state is OUTCOMES[IntentState.SUBMITTING][heard].next
    assert (found.submitted_quantity, found.refusals) == (submitted, refusals)
    assert not is_halted(stage.path)


def test_an_answer_that_lets_us_in_no_more_halts_and_the_fate_is_open(stage: Stage) -> None:
    found = answered(stage, raising(NotAuthorized("unauthorized.")))
    assert found.state is OUTCOMES[IntentState.SUBMITTING][Heard.NOT_AUTHORIZED].next is IntentState.UNKNOWN
    assert is_halted(stage.path)


def test_what_was_refused_for_now_is_asked_about_three_times_at_most(stage: Stage) -> None:
    asked: list[str] = []

    def submit(request: OrderRequest) -> BrokerOrder:
        asked.append(request.client_order_id)
        raise OrderRefused("ORDER_INSUFFICIENT_CASH", "not yet")

    answered(stage, submit)
    for minutes in (12, 14, 16, 18):
        stage.tick(stage.at(0, minutes))
    assert asked == [stage.only("AAA").client_order_id] * 3
    assert stage.only("AAA").state is IntentState.REFUSED
    assert stage.only("AAA").reason.startswith("ORDER_INSUFFICIENT_CASH")


# ------------------------------------------------------------------ what the stream says


@pytest.mark.parametrize("state", list(IntentState), ids=lambda state: state.value)
def test_news_of_the_stream_that_is_older_than_what_is_known_changes_nothing(stage: Stage, state: IntentState) -> None:
    intent = put(stage, state, filled_quantity=D(6))
    take_update(stage.house, stage.account, order_of(intent, BrokerOrderStatus.WORKING, 0))
    assert stage.only("AAA") == intent


def test_an_update_of_an_intent_that_never_left_or_of_somebody_elses_order_changes_nothing(stage: Stage) -> None:
    intent = stage.only("AAA")
    order = order_of(intent, BrokerOrderStatus.FILLED, 10, quantity=D(10))
    take_update(stage.house, stage.account, order)
    take_update(stage.house, stage.account, replace(order, client_order_id="by-hand"))
    assert stage.intents() == (intent,)
