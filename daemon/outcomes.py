"""What becomes of an intent: the outcome table, and the code that is that table.

An intent is on disk, as SUBMITTING, before its request leaves. Whatever happens after that - an answer, a lost answer,
a killed process, an event of the stream - is one of the things in `Heard`, and `OUTCOMES` says for each state what it
makes of the intent, and why. docs/OUTCOMES.md is printed from it. Three things hold in every row:

- unknown is not failed: only the broker's own records end an order that may have left (I9);
- what the broker has filled only ever grows;
- an id is used for one order: it goes out again with the same terms, or not at all.

"Often enough" is the adapter's `lookups_before_resend`, some seconds of monotonic time apart, with nothing in the
account's history that could be this order's fill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

import structlog

from brokers.protocol import BrokerReader
from daemon.errors import MustHalt
from daemon.house import House
from daemon.storage import halt_trading
from state.reasons import ReasonCode, because
from state.records import ZERO, Account, Activity, ActivityKind, BrokerOrder, Intent, IntentState

log = structlog.get_logger("execution")

BETWEEN_LOOKUPS = timedelta(seconds=15)  # two looks sooner after each other are one


class Heard(StrEnum):
    """What the broker said of an order, or did not say."""

    WORKING = "it has the order"
    PARTLY_FILLED = "it has the order, filled in part"
    FILLED = "it has the order, filled"
    CANCELLED = "it has the order, cancelled"
    EXPIRED = "it has the order, expired"
    REJECTED = "it has the order, rejected after it was taken"
    OTHER_TERMS = "it has an order of other terms under the id"
    LESS_FILLED = "less of it is filled than it said before"
    NONE_YET = "it knows of none, so far"
    NONE_IN_TIME = "it knows of none, often enough, and there is time"
    NONE_LATE = "it knows of none, often enough, too near the close to send"
    NONE_AFTER_CLOSE = "it knows of none, often enough, after the close"
    NONE_ANY_MORE = "it had the order, and knows of none, after the close"
    REFUSED = "it refused the request"
    REFUSED_AGAIN = "it refused the request, which had left once before"
    REFUSED_FOR_NOW = "it refused the request for a reason that may pass"
    NOT_SENT = "the request never left this machine"
    NO_ANSWER = "no answer, or none that can be read"
    NOT_AUTHORIZED = "it does not let us in any more"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The next state, None where it stays as it is, and why; `halts` when a person has to look first."""

    next: IntentState | None
    why: str
    halts: bool = False


_Row = Mapping[Heard, Outcome]

RECORDS = (Heard.WORKING, Heard.PARTLY_FILLED, Heard.FILLED, Heard.CANCELLED, Heard.EXPIRED, Heard.REJECTED)
STATE_OF = {
    Heard.WORKING: IntentState.WORKING,
    Heard.PARTLY_FILLED: IntentState.PARTLY_FILLED,
    Heard.FILLED: IntentState.FILLED,
    Heard.CANCELLED: IntentState.CANCELLED,
    Heard.EXPIRED: IntentState.EXPIRED,
    Heard.REJECTED: IntentState.REFUSED,
}
ADOPTED: _Row = {heard: Outcome(STATE_OF[heard], "the broker's record is the truth") for heard in RECORDS}
CONTRADICTED: _Row = {
    Heard.OTHER_TERMS: Outcome(None, "the id is ours, the order is not", halts=True),
    Heard.LESS_FILLED: Outcome(None, "fills only grow: asked again at the next look, never subtracted"),
}
LOCKED: _Row = {
    **CONTRADICTED,
    Heard.OTHER_TERMS: Outcome(IntentState.UNKNOWN, "its symbol stays locked until its session is over", halts=True),
}
NOT_THERE: _Row = {
    Heard.NONE_YET: Outcome(IntentState.UNKNOWN, "it may still be on its way"),
    Heard.NONE_IN_TIME: Outcome(IntentState.RECORDED, "it never arrived: the same order goes out again"),
    Heard.NONE_LATE: Outcome(IntentState.UNKNOWN, "too late to send; until the close it may yet turn up"),
    Heard.NONE_AFTER_CLOSE: Outcome(IntentState.EXPIRED, "an order for the day cannot turn up after its close"),
    Heard.NONE_ANY_MORE: Outcome(IntentState.EXPIRED, "an order for the day is over; the history says what has filled"),
}
NO_LONGER_THERE: _Row = {
    heard: Outcome(IntentState.UNKNOWN, "it was there before: never assume that it is gone") for heard in NOT_THERE
}
ANSWERED: _Row = {
    Heard.REFUSED: Outcome(IntentState.REFUSED, "the broker said no before accepting"),
    Heard.REFUSED_AGAIN: Outcome(IntentState.UNKNOWN, "the first one may be there, and be the very reason"),
    Heard.REFUSED_FOR_NOW: Outcome(IntentState.RECORDED, "the same order again at the next step, a few times at most"),
    Heard.NOT_SENT: Outcome(IntentState.RECORDED, "nothing has left; sent at the next step"),
    Heard.NO_ANSWER: Outcome(IntentState.UNKNOWN, "unknown is not failed"),
    Heard.NOT_AUTHORIZED: Outcome(IntentState.UNKNOWN, "a revoked key or a blocked account stops everything", True),
}
STAYS: _Row = {heard: Outcome(None, "its turn comes at the next step") for heard in NOT_THERE}
LATE_FILLS: _Row = {
    **{heard: Outcome(None, "it is over; a fill told after its end still counts") for heard in RECORDS},
    Heard.FILLED: Outcome(IntentState.FILLED, "the fill was faster than the cancel"),
}
OVER: _Row = {heard: Outcome(None, "it is over") for heard in RECORDS}

FILLED_ALL_THE_SAME: _Row = {
    heard: Outcome(None, "it was refused, and more of it has filled", halts=True) for heard in RECORDS
}

OUTCOMES: Mapping[IntentState, _Row] = {
    IntentState.RECORDED: {**ADOPTED, **LOCKED, **STAYS},
    IntentState.SUBMITTING: {**ADOPTED, **LOCKED, **NOT_THERE, **ANSWERED},
    IntentState.UNKNOWN: {**ADOPTED, **LOCKED, **NOT_THERE},
    IntentState.WORKING: {**ADOPTED, **LOCKED, **NO_LONGER_THERE},
    IntentState.PARTLY_FILLED: {**ADOPTED, **LOCKED, **NO_LONGER_THERE},
    IntentState.FILLED: {**OVER, **CONTRADICTED},
    IntentState.CANCELLED: {**LATE_FILLS, **CONTRADICTED},
    IntentState.EXPIRED: {**LATE_FILLS, **CONTRADICTED},
    IntentState.REFUSED: {**FILLED_ALL_THE_SAME, **CONTRADICTED},
}


def heard_of(intent: Intent, order: BrokerOrder) -> Heard:
    """What a record of the broker's says of an intent."""
    meant = (intent.symbol, intent.side, intent.submitted_quantity)
    if (order.symbol, order.side, order.quantity) != meant:
        return Heard.OTHER_TERMS
    return Heard.LESS_FILLED if order.filled_quantity < intent.filled_quantity else Heard[order.status.name]


def after(intent: Intent, heard: Heard, reason: str = "") -> Intent:
    """The intent as the table says; `reason` is kept where the state changes. Raises MustHalt."""
    outcome = OUTCOMES[intent.state][heard]
    if outcome.halts:
        raise MustHalt(f"Order {intent.client_order_id}, {intent.state.value}: {heard.value}; {reason or outcome.why}")
    if outcome.next is None:
        return intent
    return replace(intent, state=outcome.next, reason=reason or intent.reason)


def adopted(intent: Intent, order: BrokerOrder) -> Intent:
    """The intent as the broker's order says. Raises MustHalt when that is not the order we sent."""
    heard = heard_of(intent, order)
    if heard is Heard.OTHER_TERMS:
        after(
            intent,
            heard,
            f"expected {intent.side} {intent.submitted_quantity} {intent.symbol}, the broker has {order.side} "
            f"{order.quantity} {order.symbol} under that id.",
        )
    if heard is Heard.LESS_FILLED:
        log.warning("the broker's filled quantity went back; asked again next time", order=intent.client_order_id)
        return after(intent, heard)
    if intent.state.is_final and order.filled_quantity == intent.filled_quantity:
        return intent  # told again
    moved = after(intent, heard, order.reason or _ended_by(heard))
    return replace(
        moved,
        broker_order_id=order.broker_order_id,
        filled_quantity=order.filled_quantity,
        reason="" if moved.state is IntentState.FILLED and intent.state.is_final else moved.reason,
        submitted_at=intent.submitted_at or order.submitted_at,
        lookups=0,
    )


def _ended_by(heard: Heard) -> str:
    """The reason of an end that the broker gives none for; empty for everything else."""
    codes = {
        Heard.CANCELLED: ReasonCode.ORDER_CANCELLED,
        Heard.EXPIRED: ReasonCode.ORDER_EXPIRED,
        Heard.REJECTED: ReasonCode.ORDER_REJECTED,
    }
    return str(because(codes[heard])) if heard in codes else ""


# ------------------------------------------------------------------ what the broker's records say


def settle(house: House, account: Account) -> frozenset[str]:
    """Bring every intent of the account that has left, or may have, and is not over up to the broker's records.

    Returns the client order ids of those that the broker told something new of. A contradiction halts trading, locks
    its symbol, and keeps none of the others from being settled.
    """
    broker = house.brokers[account.account_id]
    open_ones = house.store.orders.list(account_id=account.account_id, only_open=True)
    left = [one for one in open_ones if one.state is not IntentState.RECORDED or one.submitted_quantity]
    if not left:
        return frozenset()
    changed = set()
    known = broker.orders(intent.client_order_id for intent in left)
    for intent in left:
        order = known.get(intent.client_order_id)
        found = _as_recorded(house, account, intent, order) if order else _not_found(house, broker, intent)
        if found != intent:
            save(house, found)
        if order is not None and found.state is not intent.state:
            changed.add(intent.client_order_id)
    return frozenset(changed)


def _as_recorded(house: House, account: Account, intent: Intent, order: BrokerOrder) -> Intent:
    """The intent as the broker's record says; where the two contradict each other, trading halts."""
    is_over = _is_session_over(house, intent)
    try:
        found = adopted(intent, order)
    except MustHalt as contradiction:
        return _contradicted(house, account, intent, str(contradiction), is_over=is_over)
    if is_over and order.status.is_final and heard_of(intent, order) is Heard.LESS_FILLED:
        reason = str(because(ReasonCode.ORDER_EXPIRED, filled=intent.filled_quantity, broker=order.filled_quantity))
        return replace(intent, state=IntentState.EXPIRED, reason=reason)  # a trade taken back is told by the history
    return found


def _contradicted(house: House, account: Account, intent: Intent, why: str, *, is_over: bool) -> Intent:
    """Halts once. The intent keeps its symbol locked until its session is over; what is true the history tells."""
    marked = intent.reason.startswith(ReasonCode.ORDER_CONTRADICTED.value)
    reason = intent.reason if marked else str(because(ReasonCode.ORDER_CONTRADICTED, order=intent.client_order_id))
    if not marked:
        halt_trading(house, account, why)
    state = IntentState.EXPIRED if is_over else OUTCOMES[intent.state][Heard.OTHER_TERMS].next or intent.state
    return replace(intent, state=state, lookups=0, reason=reason)


def _is_session_over(house: House, intent: Intent) -> bool:
    session = house.calendar.on(intent.session)
    return session is None or house.clock.now() >= session.closes_at


def take_update(house: House, account: Account, order: BrokerOrder) -> None:
    """What the stream said of one order. Orders that are not ours, and news older than what we know, change nothing."""
    intent = house.store.orders.get(order.client_order_id)
    if intent is None or intent.account_id != account.account_id or not intent.submitted_quantity:
        return
    if order.filled_quantity >= intent.filled_quantity:
        try:
            found = adopted(intent, order)
        except MustHalt as contradiction:
            if intent.state.is_final:
                halt_trading(house, account, str(contradiction))
                return
            found = _contradicted(house, account, intent, str(contradiction), is_over=False)
        if found != intent:
            save(house, found)


def take_late_fills(house: House, account: Account, activities: Iterable[Activity]) -> None:
    """Executions that the history tells of orders that are over: the order has filled for more than it said. Joins the
    caller's transaction."""
    orders = {one.broker_order_id for one in activities if one.kind is ActivityKind.FILL and one.broker_order_id}
    for broker_order_id in sorted(orders):
        intent = house.store.orders.by_broker_id(broker_order_id)
        if intent is None or intent.account_id != account.account_id or not intent.state.is_final:
            continue
        told = house.store.orders.told_filled(intent.client_order_id)
        if told > intent.filled_quantity:
            state = IntentState.FILLED if told == intent.submitted_quantity else intent.state
            reason = "" if state is IntentState.FILLED else intent.reason
            save(house, replace(intent, state=state, filled_quantity=told, reason=reason))


def _not_found(house: House, broker: BrokerReader, intent: Intent) -> Intent:
    if intent.state in (IntentState.WORKING, IntentState.PARTLY_FILLED):
        was = str(because(ReasonCode.ORDER_OUTCOME_UNKNOWN, was=intent.state.value))
        return replace(after(intent, Heard.NONE_YET, was), lookups=0)
    last = intent.updated_at if intent.lookups else None
    if not house.may_look_again(intent.client_order_id, last, BETWEEN_LOOKUPS):
        return intent
    lookups = intent.lookups + 1
    if lookups < broker.capabilities.lookups_before_resend:
        return replace(after(intent, Heard.NONE_YET), lookups=lookups)
    told = max(house.store.orders.told_filled(intent.client_order_id), intent.filled_quantity)
    was_there = intent.broker_order_id is not None or told > 0  # never assume that it is gone, and never send it again
    if _is_session_over(house, intent):
        return _over(intent, told, lookups, was_there=was_there)
    session = house.calendar.on(intent.session)
    if session is not None and house.clock.now() >= session.closes_at - house.timetable.stop_before_close:
        return replace(after(intent, Heard.NONE_LATE), lookups=lookups)
    if was_there or house.store.orders.is_fill_unclaimed(intent):  # somebody's, or its own: not while that is open
        return replace(after(intent, Heard.NONE_YET), lookups=lookups)
    return replace(after(intent, Heard.NONE_IN_TIME), lookups=0)  # what was sent stays written down


def _over(intent: Intent, told: Decimal, lookups: int, *, was_there: bool) -> Intent:
    """An intent whose session is over and of which the broker knows nothing."""
    if not was_there:
        reason = str(because(ReasonCode.ORDER_DEADLINE, arrived="never"))
        return replace(after(intent, Heard.NONE_AFTER_CLOSE, reason), lookups=lookups, submitted_quantity=ZERO)
    ended = replace(after(intent, Heard.NONE_ANY_MORE, _ended_by(Heard.EXPIRED)), lookups=lookups, filled_quantity=told)
    if told == intent.submitted_quantity:
        return replace(ended, state=IntentState.FILLED, reason="")
    return ended


def save(house: House, intent: Intent) -> Intent:
    """Write an intent; returns it as written."""
    written = replace(intent, updated_at=house.clock.now())
    with house.store.transaction():
        house.store.orders.save(written)
        if written.broker_order_id is not None:
            house.store.orders.claim_fills(written)
    return written
