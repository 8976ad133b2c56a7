"""From recorded intents to broker orders, and back: the outcome table, and the code that is that table.

An intent is on disk, as SUBMITTING, before its request leaves. Whatever happens after that - an answer, a lost
answer, a killed process - the next look at it goes through this table:

    intent              the broker says             next              why
    ------------------  --------------------------  ----------------  -----------------------------------------
    RECORDED            -                           SUBMITTING        released (daemon/release.py) and past the gate
    RECORDED            -                           REFUSED           the gate refused for good; the reason is kept
    RECORDED            -                           RECORDED          the gate refused for now: asked again next step
    RECORDED            -                           EXPIRED           its deadline passed; it never left
    SUBMITTING          accepted                    WORKING, FILLED   the answer arrived
    SUBMITTING          refused                     REFUSED           the broker said no before accepting
    SUBMITTING          duplicate client id         look up, adopt    we sent it before; never a second order
    SUBMITTING          never left this machine     RECORDED          no call left in the rate budget: sent later
    SUBMITTING          no usable answer            UNKNOWN           unknown is not failed (I9)
    SUBMITTING, UNKNOWN has it                      adopt its state   the broker's record is the truth
    SUBMITTING, UNKNOWN has it, other terms         halt              the id is ours, the order is not
    SUBMITTING, UNKNOWN knows of none, n-th time    UNKNOWN           it may still be on its way
    SUBMITTING, UNKNOWN knows of none, often enough RECORDED/EXPIRED  it never arrived: the same order again, or late
    RECORDED again      -                           EXPIRED           it could not be the same order any more: less cash
    WORKING, PARTLY     any state                   that state        fills only ever grow
    WORKING, PARTLY     knows of none               UNKNOWN           it knew it before: never assume it is gone

"Often enough" is the adapter's `lookups_before_resend`, some seconds apart. An UNKNOWN intent holds its tie, its symbol
and its cash. An order that was sent once goes again under its id with the same terms, or not at all: the first one may
yet turn up. After an answer that leaves a fate open, nothing more leaves in that pass.

Orders at the broker that this database never recorded: one that bears an id like ours means another harvestd, or
another database, on the same account, and halts; anybody else's lock their symbols, and the cash their buys may take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal

import structlog

from brokers.errors import (
    DuplicateClientOrderId,
    NotAuthorized,
    NotSent,
    OrderRefused,
    OutcomeUnknown,
    UnknownOrder,
)
from brokers.protocol import BrokerReader, OrderDesk
from daemon import gate
from daemon.alerts import raise_alert, recover
from daemon.errors import MustHalt
from daemon.house import House
from daemon.rehearsal import conflicts_in_flight
from daemon.release import next_release
from daemon.settings import REDACTOR
from daemon.sync import Snapshot
from state.reasons import Reason, ReasonCode, because
from state.records import (
    ZERO,
    Account,
    AlertLevel,
    BrokerOrder,
    BrokerOrderStatus,
    Intent,
    IntentState,
    OrderRequest,
    OrderType,
    Plan,
    PlanState,
    Side,
)

log = structlog.get_logger("execution")

AT_BROKER = (IntentState.WORKING, IntentState.PARTLY_FILLED)

# Refusals that may pass before the deadline: the intent stays recorded, and is asked about again at the next step.
PASSING = frozenset(
    {
        ReasonCode.STATE_HALTED,
        ReasonCode.STATE_NOT_OPEN,
        ReasonCode.SYMBOL_LOCKED,
        ReasonCode.QUOTE_MISSING,
        ReasonCode.QUOTE_STALE,
        ReasonCode.QUOTE_WIDE,
    }
)
BETWEEN_LOOKUPS = timedelta(seconds=15)  # two looks sooner after each other are one
OUR_ID = "hv-"  # every client order id of harvestd's begins so
SELL_PATIENCE = timedelta(minutes=6)  # before the last order may leave: time to buy back what was sold

STATE_OF = {
    BrokerOrderStatus.WORKING: IntentState.WORKING,
    BrokerOrderStatus.PARTLY_FILLED: IntentState.PARTLY_FILLED,
    BrokerOrderStatus.FILLED: IntentState.FILLED,
    BrokerOrderStatus.CANCELLED: IntentState.CANCELLED,
    BrokerOrderStatus.EXPIRED: IntentState.EXPIRED,
    BrokerOrderStatus.REJECTED: IntentState.REFUSED,
}


# ------------------------------------------------------------------ what the broker's records say


def settle(house: House, account: Account) -> frozenset[str]:
    """Bring every open intent of the account that has left, or may have, up to the broker's records.

    Returns the client order ids of those whose state is another now.
    """
    broker = house.brokers[account.account_id]
    open_ones = house.store.orders.list(account_id=account.account_id, only_open=True)
    left = [intent for intent in open_ones if intent.state is not IntentState.RECORDED]
    if not left:
        return frozenset()
    changed = set()
    known = broker.orders(intent.client_order_id for intent in left)
    for intent in left:
        order = known.get(intent.client_order_id)
        found = _adopted(intent, order) if order else _not_found(house, broker, intent)
        if found != intent:
            _save(house, found)
        if found.state is not intent.state:
            changed.add(intent.client_order_id)
    return frozenset(changed)


def take_update(house: House, account: Account, order: BrokerOrder) -> None:
    """What the stream said of one order. Orders that are not ours, and news older than what we know, change nothing."""
    intent = house.store.orders.get(order.client_order_id)
    if intent is None or intent.account_id != account.account_id or intent.state.is_final:
        return
    if intent.state is not IntentState.RECORDED and order.filled_quantity >= intent.filled_quantity:
        _save(house, _adopted(intent, order))


def _adopted(intent: Intent, order: BrokerOrder) -> Intent:
    """The intent as the broker's order says. Raises MustHalt when the order is not what we sent."""
    meant = (intent.symbol, intent.side, intent.submitted_quantity)
    if (order.symbol, order.side, order.quantity) != meant:
        raise MustHalt(
            f"Order {intent.client_order_id}: expected {intent.side} {intent.submitted_quantity} {intent.symbol}, "
            f"the broker has {order.side} {order.quantity} {order.symbol} under that id"
        )
    if order.filled_quantity < intent.filled_quantity:
        log.warning("the broker's filled quantity went back; asked again next time", order=intent.client_order_id)
        return intent
    return replace(
        intent,
        state=STATE_OF[order.status],
        broker_order_id=order.broker_order_id,
        filled_quantity=order.filled_quantity,
        submitted_at=intent.submitted_at or order.submitted_at,
        lookups=0,
        reason=order.reason or intent.reason,
    )


def _not_found(house: House, broker: BrokerReader, intent: Intent) -> Intent:
    if intent.state in AT_BROKER:
        reason = str(because(ReasonCode.ORDER_OUTCOME_UNKNOWN, was=intent.state.value))
        return replace(intent, state=IntentState.UNKNOWN, lookups=0, reason=reason)
    asked = intent.updated_at
    too_soon = intent.lookups > 0 and asked is not None and house.clock.now() - asked < BETWEEN_LOOKUPS
    if too_soon or intent.filled_quantity:  # of an order that filled in part, only the broker's records tell the rest
        return intent
    lookups = intent.lookups + 1
    if lookups < broker.capabilities.lookups_before_resend:
        return replace(intent, state=IntentState.UNKNOWN, lookups=lookups)
    if _in_time(house, intent):  # what was sent stays written down: nothing else may go under its id
        return replace(intent, state=IntentState.RECORDED, lookups=0)
    reason = str(because(ReasonCode.ORDER_DEADLINE, arrived="never"))
    return replace(intent, state=IntentState.EXPIRED, lookups=lookups, submitted_quantity=ZERO, reason=reason)


def _in_time(house: House, intent: Intent) -> bool:
    now = house.clock.now()
    session = house.calendar.on(intent.session)
    return session is not None and session.opens_at <= now < session.closes_at - house.timetable.stop_before_close


def _save(house: House, intent: Intent) -> Intent:
    """Write an intent; returns it as written."""
    written = replace(intent, updated_at=house.clock.now())
    house.store.orders.save(written)
    return written


# ------------------------------------------------------------------ one pass of work


def work(house: House, snapshot: Snapshot) -> None:
    """Send what may leave now, end what is out of time, close plans that are over. Never waits.

    Without a way to send nothing is done: what is left of an earlier run's plans is ended by one that has one.
    """
    account = snapshot.account
    for plan in house.store.plans.list(account_id=account.account_id, only_open=True):
        if plan.state is PlanState.EXECUTING:
            if house.desk(account.account_id) is None:
                _leave_unsent(house, plan)
            else:
                _work_plan(house, snapshot, plan)
            _close_if_over(house, snapshot, plan)


def _leave_unsent(house: House, plan: Plan) -> None:
    """What an earlier run recorded and never sent ends; what it sent is for the day, and is followed to its end."""
    for intent in house.store.orders.list(plan_id=plan.plan_id, only_open=True):
        if intent.state is IntentState.RECORDED:
            reason = str(because(ReasonCode.MODE_OBSERVES))
            _save(house, replace(intent, state=IntentState.EXPIRED, submitted_quantity=ZERO, reason=reason))


def foreign_orders(house: House, account: Account) -> tuple[BrokerOrder, ...]:
    """Open orders at the broker that this database never recorded; one alert while there are any.

    Raises MustHalt when one of them bears an id like ours.
    """
    open_ones = house.brokers[account.account_id].open_orders()
    strangers = tuple(one for one in open_ones if house.store.orders.get(one.client_order_id) is None)
    like_ours = [one.client_order_id for one in strangers if one.client_order_id.startswith(OUR_ID)]
    if like_ours:
        raise MustHalt(
            f"The broker has open orders of a harvestd that this database knows nothing of, {like_ours[0]} and "
            f"{len(like_ours) - 1} more. Another one works on the same account, or the database was replaced. Stop the "
            "other, let the orders end or cancel them at the broker, then `harvestd resume`."
        )
    key, now = f"foreign:{account.account_id}", house.clock.now()
    if strangers:
        names = ", ".join(sorted({f"{one.side} {one.quantity.normalize():f} {one.symbol}" for one in strangers}))
        text = f"Open orders at the broker that are not harvestd's: {names}. Their symbols and cash are left alone."
        raise_alert(house.store, key, AlertLevel.WARNING, text, now)
    else:
        recover(house.store, key, "no open orders but harvestd's own", now)
    return strangers


def _promised(orders: Iterable[BrokerOrder], snapshot: Snapshot) -> Decimal:
    """Cash in USD that other people's open buys may yet take. Raises KeyError where nobody knows their price."""
    total = ZERO
    for order in orders:
        if order.side is Side.BUY:
            price = order.limit_price or snapshot.prices[order.symbol]
            total += (order.quantity - order.filled_quantity) * price
    return total


def _work_plan(house: House, snapshot: Snapshot, plan: Plan) -> None:
    intents = house.store.orders.list(plan_id=plan.plan_id)
    stop = _stop(house, intents)
    if stop is None or snapshot.now >= stop:
        _end_of_time(house, plan)
        return
    _refuse_in_flight(house, snapshot, plan, intents)
    collar = _collar(house)
    asks = {symbol: quote.ask * (1 + collar) for symbol, quote in snapshot.quotes.items() if quote.is_usable}
    unhedged_max = house.settings.execution.unhedged_max_pct_nav / 100 * plan.nav
    if snapshot.now >= stop - SELL_PATIENCE:
        _give_up_sells(house, plan)
    others = foreign_orders(house, snapshot.account)
    try:
        promised = _promised(others, snapshot)
    except KeyError as symbol:
        log.warning("somebody's order has no price; nothing leaves while it is open", symbol=str(symbol))
        return
    not_ours = frozenset(order.symbol for order in others)
    cash = house.brokers[plan.account_id].account().cash - promised
    todays = {
        one.client_order_id: one
        for one in house.store.orders.list(account_id=plan.account_id, session=intents[0].session)
    }
    waiting: set[str] = set()  # symbols that may not leave now, and may in a moment
    while True:
        release = next_release(
            [one for one in todays.values() if one.plan_id == plan.plan_id],
            cash=cash,
            ask_prices=asks,
            unhedged_max=unhedged_max,
            not_now=frozenset(waiting),
        )
        if release is None:
            return
        intent = release.intent
        quantity = intent.submitted_quantity or release.quantity  # sent before: the same order, or none
        if release.quantity <= 0 or release.quantity < quantity:
            reason = str(because(ReasonCode.ORDER_UNFUNDED, tie=intent.tie))
            ended = replace(intent, state=IntentState.EXPIRED, submitted_quantity=ZERO, reason=reason)
            todays[intent.client_order_id] = _save(house, ended)
            continue
        refusal = _gate(house, snapshot, plan, intent, quantity, todays.values(), not_ours)
        if refusal is None:
            intent = _send(house, snapshot, intent, quantity)
            if intent.state in (IntentState.RECORDED, IntentState.UNKNOWN):
                return  # it never left, or nobody knows: nothing more leaves in this pass
            if intent.filled_quantity:  # at once: what it moved is in the broker's cash, no longer in our reckoning
                cash = house.brokers[plan.account_id].account().cash - promised
        elif refusal.code in PASSING:
            waiting.add(intent.symbol)
            intent = _save(house, replace(intent, reason=str(refusal)))
        else:
            intent = _refuse(house, snapshot, intent, refusal)
        todays[intent.client_order_id] = intent


def _give_up_sells(house: House, plan: Plan) -> None:
    """Near the end, sells that have not filled are cancelled, and those the gate held back are given up, so that what
    the others did fill can be bought back."""
    desk = _desk(house, plan.account_id)
    for intent in house.store.orders.list(plan_id=plan.plan_id, only_open=True):
        if intent.side is Side.SELL and intent.state is IntentState.RECORDED and intent.reason:
            _save(house, replace(intent, state=IntentState.EXPIRED, reason=_too_late(intent)))
        at_broker = intent.state in AT_BROKER and intent.broker_order_id
        if intent.side is Side.SELL and at_broker and intent.order_type is not OrderType.MARKET_ON_CLOSE:
            with suppress(UnknownOrder):  # its fate is looked up at the next step
                desk.cancel(intent.broker_order_id or "")
    settle(house, next(one for one in house.accounts if one.account_id == plan.account_id))


def _refuse_in_flight(house: House, snapshot: Snapshot, plan: Plan, intents: Sequence[Intent]) -> None:
    conflicts = conflicts_in_flight(house, snapshot, plan, intents)
    for intent in intents:
        if intent.symbol in conflicts and intent.state is IntentState.RECORDED:
            _refuse(house, snapshot, intent, conflicts[intent.symbol])


def _refuse(house: House, snapshot: Snapshot, intent: Intent, reason: Reason) -> Intent:
    text = f"{intent.side} {intent.quantity} {intent.symbol} was not sent. {reason.code.meaning} {reason}"
    with house.store.transaction():
        refused = _save(house, replace(intent, state=IntentState.REFUSED, reason=str(reason)))
        raise_alert(house.store, f"refused:{intent.client_order_id}", AlertLevel.WARNING, text, snapshot.now)
    return refused


def _stop(house: House, intents: Sequence[Intent]) -> datetime | None:
    """When the last order of a plan may leave: near the close of the session its intents are for."""
    session = house.calendar.on(intents[0].session) if intents else None
    return session.closes_at - house.timetable.stop_before_close if session else None


def _collar(house: House) -> Decimal:
    execution = house.settings.execution
    return execution.limit_collar_bps / 10_000 if execution.order_type is OrderType.LIMIT else ZERO


def _limit_price(house: House, snapshot: Snapshot, intent: Intent) -> Decimal | None:
    quote = snapshot.quotes.get(intent.symbol)
    if intent.order_type is not OrderType.LIMIT or quote is None:
        return None
    cent = Decimal("0.01")
    if intent.side is Side.BUY:
        return (quote.ask * (1 + _collar(house))).quantize(cent, rounding=ROUND_DOWN)
    return (quote.bid * (1 - _collar(house))).quantize(cent, rounding=ROUND_UP)


def _send(house: House, snapshot: Snapshot, intent: Intent, quantity: Decimal) -> Intent:
    leaving = replace(
        intent,
        state=IntentState.SUBMITTING,
        submitted_quantity=quantity,
        reason="",  # what held it back has passed
        limit_price=_limit_price(house, snapshot, intent),
        submitted_at=snapshot.now,
    )
    _save(house, leaving)  # on disk before it leaves
    answered = _submitted(house, leaving)
    if answered.state is IntentState.RECORDED:  # it never left; what left before it, if anything did, still counts
        answered = replace(answered, submitted_quantity=intent.submitted_quantity)
    return _save(house, answered)


def _desk(house: House, account_id: str) -> OrderDesk:
    desk = house.desk(account_id)
    if desk is None:  # `work` came past this already
        raise MustHalt(f"{account_id}: an order was to be sent or cancelled by a process that only looks")
    return desk


def _submitted(house: House, intent: Intent) -> Intent:
    broker, desk = house.brokers[intent.account_id], _desk(house, intent.account_id)
    request = OrderRequest(
        client_order_id=intent.client_order_id,
        symbol=intent.symbol,
        side=intent.side,
        quantity=intent.submitted_quantity,
        order_type=intent.order_type,
        limit_price=intent.limit_price,
        lots=intent.lots if broker.capabilities.lot_selection else (),
    )
    try:
        return _adopted(intent, desk.submit(request))
    except DuplicateClientOrderId:
        order = broker.order_by_client_id(intent.client_order_id)
        return _adopted(intent, order) if order else replace(intent, state=IntentState.UNKNOWN)
    except OrderRefused as refusal:
        reason = REDACTOR.redact(str(refusal))  # the broker's own words
        return replace(intent, state=IntentState.REFUSED, submitted_quantity=ZERO, reason=reason)
    except NotAuthorized as refusal:
        _save(house, replace(intent, state=IntentState.UNKNOWN, reason="the broker does not let us in"))
        raise MustHalt(f"The broker refuses our key or has blocked the account: {refusal}") from refusal
    except NotSent as reason:
        return replace(intent, state=IntentState.RECORDED, submitted_quantity=ZERO, reason=str(reason))
    except OutcomeUnknown:
        return replace(intent, state=IntentState.UNKNOWN, reason=ReasonCode.ORDER_OUTCOME_UNKNOWN.value)


def _gate(
    house: House,
    snapshot: Snapshot,
    plan: Plan,
    intent: Intent,
    quantity: Decimal,
    todays: Iterable[Intent],
    not_ours: frozenset[str],
) -> Reason | None:
    """What forbids an order. `todays` are all intents of the account for the intent's session, as they are now;
    `not_ours` the symbols in which somebody else has an order open."""
    closes = house.last_closes()
    leg = next(trade for trade in plan.trades if trade.leg == intent.leg)
    facts = gate.GateFacts(
        database_path=house.store.path,
        state=snapshot.state,
        session=snapshot.session,
        now=house.clock.now(),
        quote=snapshot.quotes.get(intent.symbol),
        previous_close=closes.get(intent.symbol),
        locked=frozenset(snapshot.locks) | not_ours,
        sent_today=[
            other
            for other in todays
            if other.submitted_quantity > 0 and other.client_order_id != intent.client_order_id
        ],
        leg=leg,
    )
    return gate.refuse(intent, quantity, facts, house.settings)


def _too_late(intent: Intent) -> str:
    waited = {"waited_for": intent.reason} if intent.reason else {}
    return str(because(ReasonCode.ORDER_DEADLINE, session=intent.session, **waited))


def _end_of_time(house: House, plan: Plan) -> None:
    """Cancel what still works at the broker; what never left expires. Nothing rests into tomorrow."""
    desk = _desk(house, plan.account_id)
    for intent in house.store.orders.list(plan_id=plan.plan_id, only_open=True):
        session = house.calendar.on(intent.session)
        if intent.state is IntentState.RECORDED:
            _save(house, replace(intent, state=IntentState.EXPIRED, reason=_too_late(intent)))
        elif intent.state in AT_BROKER and intent.broker_order_id:
            still_open = session is not None and house.clock.now() < session.closes_at
            if still_open and intent.order_type is not OrderType.MARKET_ON_CLOSE:
                with suppress(UnknownOrder):  # its fate is looked up below
                    desk.cancel(intent.broker_order_id)
    settle(house, next(account for account in house.accounts if account.account_id == plan.account_id))


# ------------------------------------------------------------------ plans that are over


def _close_if_over(house: House, snapshot: Snapshot, plan: Plan) -> None:
    intents = house.store.orders.list(plan_id=plan.plan_id)
    if any(not intent.state.is_final for intent in intents):
        return
    filled = sum((intent.filled_quantity for intent in intents), ZERO)
    planned = sum((trade.quantity for trade in plan.trades), ZERO)
    state = PlanState.DONE if filled == planned else PlanState.PARTLY_DONE if filled > 0 else PlanState.FAILED
    with house.store.transaction():
        house.store.plans.update(plan.plan_id, snapshot.now, state=state)
        if state is not PlanState.DONE:
            key = f"plan:{plan.plan_id}:{state.value}"
            ended = "; ".join(
                f"{one.symbol}: {one.filled_quantity.normalize():f} of {one.quantity.normalize():f}, "
                f"{one.reason or ('funded for no more' if one.state is IntentState.FILLED else one.state.value)}"
                for one in intents
                if one.filled_quantity < one.quantity
            )
            text = f"Plan {plan.plan_id} ended {state.value}. What did not fill is planned anew, never resent. {ended}"
            raise_alert(house.store, key, AlertLevel.WARNING, text, snapshot.now)
