"""From recorded intents to broker orders: one pass of work, and the end of a plan.

What may leave is asked of `release.py` (ties: sells before the buys they fund) and of `gate.py`, the last door. What
becomes of an order once it has left, or may have, is `outcomes.py`. Whatever cannot be done in this pass is done in the
next; nothing here waits.

| when                                       | what is done                                                          |
|--------------------------------------------|-----------------------------------------------------------------------|
| halted                                     | what works at the broker is cancelled; the gate lets nothing leave    |
| a conflict of the household became known   | intents that have not left are refused (wash sales in flight)         |
| the market is open                         | what may leave, leaves, until an answer leaves a fate open            |
| six minutes before the last moment to send | sells still open are cancelled, so that the others can be bought back |
| three minutes before it                    | no sale leaves any more whose proceeds are to buy something           |
| from that moment on                        | everything still open is cancelled, what never left expires           |
| a cancel is not heeded                     | asked for again, and after five minutes a person is told              |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal

import structlog

from brokers.errors import (
    BrokerUnavailable,
    DuplicateClientOrderId,
    NotAuthorized,
    NotSent,
    OrderRefused,
    OutcomeUnknown,
    UnknownOrder,
)
from brokers.protocol import OrderDesk
from daemon import gate
from daemon.alerts import raise_alert, recover
from daemon.crash_points import CrashPoint, passing
from daemon.errors import MustHalt
from daemon.facts import untradable
from daemon.foreign import foreign_orders, promised
from daemon.gate import DaemonState
from daemon.house import House
from daemon.outcomes import Heard, adopted, after, save, settle
from daemon.readiness import expected_number
from daemon.rehearsal import conflicts_in_flight
from daemon.release import next_release
from daemon.settings import REDACTOR
from daemon.sync import Snapshot
from state.reasons import Reason, ReasonCode, because
from state.records import (
    ZERO,
    AlertLevel,
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
        ReasonCode.CLOCK_JUMPED,
        ReasonCode.SYMBOL_LOCKED,
        ReasonCode.QUOTE_MISSING,
        ReasonCode.QUOTE_STALE,
        ReasonCode.QUOTE_WIDE,
        ReasonCode.LIMIT_ORDER_RATE,
        ReasonCode.LIMIT_PACE,
        ReasonCode.LIMIT_CASH,
        ReasonCode.LIMIT_LONG_ONLY,
        ReasonCode.ACCOUNT_RESTRICTED,
    }
)
# Refusals that every order of a plan meets alike: one incident of the plan, not one of each.
OF_THE_PLAN = frozenset(
    {
        ReasonCode.LIMIT_DAILY_NOTIONAL,
        ReasonCode.LIMIT_CHECK_FAILED,
        ReasonCode.LIMIT_REPEATS,
        ReasonCode.ACCOUNT_MISMATCH,
    }
)
# What a broker refuses for a reason that may be over at the next step: proceeds it has not counted yet, an order of
# somebody else's on the other side.
MAY_PASS = frozenset({ReasonCode.ORDER_INSUFFICIENT_CASH.value, ReasonCode.ORDER_SELF_TRADE.value})
MOST_REFUSALS = 3  # of one intent by the broker
SELL_PATIENCE = timedelta(minutes=6)  # before the last order may leave: sells still open then are given up
LAST_SELL = timedelta(minutes=3)  # before that moment: what is sold later could not be bought back any more
CANCEL_PATIENCE = timedelta(minutes=5)  # after the last moment to send: an order still open then is told


# ------------------------------------------------------------------ one pass of work


def work(house: House, snapshot: Snapshot) -> None:
    """Send what may leave now, end what is out of time, close plans that are over. Never waits."""
    account = snapshot.account
    for plan in house.store.plans.list(account_id=account.account_id, only_open=True):
        if plan.state is PlanState.EXECUTING:
            _work_plan(house, snapshot, plan)
            _close_if_over(house, snapshot, plan)


def _work_plan(house: House, snapshot: Snapshot, plan: Plan) -> None:
    intents = house.store.orders.list(plan_id=plan.plan_id)
    if _is_observed(plan) and house.desk(plan.account_id) is not None:
        _leave_unsent(house, intents)  # nobody was asked about it
        return
    stop = _stop(house, intents)
    if stop is None or snapshot.now >= stop:
        _end_of_time(house, snapshot, plan, stop)
        return
    if snapshot.state is DaemonState.HALTED:
        _cancel_working(house, plan, intents)
    _refuse_in_flight(house, snapshot, plan, intents)
    if snapshot.now >= stop - SELL_PATIENCE:
        _give_up_sells(house, plan, is_last=snapshot.now >= stop - LAST_SELL)
    _Pass(house, snapshot, plan, intents[0].session).run()


def _is_observed(plan: Plan) -> bool:
    """True for a plan that was made by a process that had no way to send."""
    return ReasonCode.MODE_OBSERVES.value in plan.reasons


def _leave_unsent(house: House, intents: Iterable[Intent]) -> None:
    for intent in intents:
        if intent.state is IntentState.RECORDED:
            save(house, replace(intent, state=IntentState.REFUSED, reason=ReasonCode.MODE_OBSERVES.value))


class _Pass:
    """One pass over one plan: what may leave, leaves."""

    def __init__(self, house: House, snapshot: Snapshot, plan: Plan, session: date) -> None:
        self.house, self.snapshot, self.plan = house, snapshot, plan
        self.others = foreign_orders(house, snapshot.account) if house.desk(plan.account_id) else ()
        self.account_number = expected_number(house, snapshot.account)
        self.locked = frozenset({*snapshot.locks, *(order.symbol for order in self.others)})
        self.untradable, self.known = untradable(house), frozenset({*house.names, *snapshot.positions})
        todays = house.store.orders.list(account_id=plan.account_id, session=session)
        self.todays = {one.client_order_id: one for one in todays}
        self.waiting: set[str] = set()  # symbols that may not leave now, and may in a moment
        self.is_over = False  # an order never left: nothing more leaves in this pass
        self.sold: dict[str, Decimal] = {}  # shares by symbol, filled at once in this pass

    def run(self) -> None:
        """Until nothing may leave, or an answer leaves a fate open: then nothing more leaves in this pass."""
        try:
            self.promised = promised(self.others, self.snapshot.prices)
        except KeyError as symbol:
            log.warning("somebody's order has no price; nothing leaves while it is open", symbol=str(symbol))
            return
        self._ask_for_figures()
        collar = _collar(self.house)
        asks = {symbol: quote.ask * (1 + collar) for symbol, quote in self.snapshot.quotes.items() if quote.is_usable}
        unhedged_max = self.house.settings.execution.unhedged_max_pct_nav / 100 * self.plan.nav
        while True:
            release = next_release(
                [one for one in self.todays.values() if one.plan_id == self.plan.plan_id],
                cash=self.cash,
                ask_prices=asks,
                unhedged_max=unhedged_max,
                not_now=frozenset(self.waiting),
            )
            if release is None:
                return
            moved = self._tried(release.intent, release.quantity)
            self.todays[moved.client_order_id] = moved
            if self.is_over or moved.state is IntentState.UNKNOWN:
                return

    def _ask_for_figures(self) -> None:
        self.figures = self.house.brokers[self.plan.account_id].account()
        self.cash = self.figures.cash - self.promised

    def _tried(self, intent: Intent, allowed: Decimal) -> Intent:
        """The intent after one try to send it, for at most the quantity that is allowed."""
        quantity = intent.submitted_quantity or allowed  # sent before: the same order, or none
        if allowed <= 0 or allowed < quantity:
            return self._unfunded(intent)
        priced = replace(intent, limit_price=_limit_price(self.house, self.snapshot, intent))
        refusal = gate.refuse(priced, quantity, self._facts(intent), self.house.settings)
        if refusal is None and self.house.desk(self.plan.account_id) is None:
            refusal = because(ReasonCode.MODE_OBSERVES)  # the one step that is not taken
        if refusal is None:
            sent = _send(self.house, priced, quantity)
            if sent.state is IntentState.RECORDED and not sent.refusals > intent.refusals:
                self.is_over = True
            elif sent.state is IntentState.RECORDED:
                self.waiting.add(sent.symbol)
            if sent.filled_quantity and sent.side is Side.SELL:
                self.sold[sent.symbol] = self.sold.get(sent.symbol, ZERO) + sent.filled_quantity
            if sent.filled_quantity:  # at once: what it moved is in the broker's cash, no longer in our reckoning
                self._ask_for_figures()
            return sent
        if refusal.code in PASSING:
            self.waiting.add(intent.symbol)
            return save(self.house, replace(intent, reason=str(refusal)))
        return _refuse(self.house, self.snapshot, intent, refusal)

    def _unfunded(self, intent: Intent) -> Intent:
        reason = str(because(ReasonCode.ORDER_UNFUNDED, tie=intent.tie))
        return save(self.house, _never_to_leave(intent, reason))

    def _facts(self, intent: Intent) -> gate.GateFacts:
        """What the gate looks at: the intents of the account's session as they are now, and the account's figures."""
        house, snapshot, symbol = self.house, self.snapshot, intent.symbol
        sent = [
            one
            for one in self.todays.values()
            if one.submitted_quantity > 0 and one.client_order_id != intent.client_order_id
        ]
        now, monotonic = house.clock.now(), house.clock.monotonic()
        drift = (now - snapshot.now).total_seconds() - (monotonic - snapshot.began)
        return gate.GateFacts(
            database_path=house.store.path,
            stopped=house.stopped or ("harvestd is ending" if house.ending else ""),
            state=snapshot.state,
            session=snapshot.session,
            now=now,
            clock_drift_s=drift,
            account=self.figures,
            account_number=self.account_number,
            quote=snapshot.quotes.get(symbol),
            previous_close=house.last_closes().get(symbol),
            locked=self.locked,
            untradable=self.untradable,
            known=self.known,
            sent_today=sent,
            leg=next(trade for trade in self.plan.trades if trade.leg == intent.leg),
            cash=self.cash - sum((_open_cost(one) for one in sent), ZERO),
            shares=self._held(symbol) - sum((_open_sale(one) for one in sent if one.symbol == symbol), ZERO),
            bought_today=sum(
                (one.filled_quantity for one in sent if one.symbol == symbol and one.side is Side.BUY), ZERO
            ),
            slice_max=house.slice_max(symbol),
        )

    def _held(self, symbol: str) -> Decimal:
        """Shares at the look, less what was sold since: what was bought since is not sold in this pass."""
        return self.snapshot.positions.get(symbol, ZERO) - self.sold.get(symbol, ZERO)


def _open_cost(intent: Intent) -> Decimal:
    """Cash in USD that a buy at the broker, or perhaps there, may yet take."""
    if intent.side is Side.SELL or intent.state.is_final:
        return ZERO
    return (intent.submitted_quantity - intent.filled_quantity) * (intent.limit_price or intent.reference_price)


def _open_sale(intent: Intent) -> Decimal:
    """Shares that a sale at the broker, or perhaps there, may yet take."""
    if intent.side is Side.BUY or intent.state.is_final:
        return ZERO
    return intent.submitted_quantity - intent.filled_quantity


# ------------------------------------------------------------------ one order


def _send(house: House, intent: Intent, quantity: Decimal) -> Intent:
    leaving = replace(
        intent,
        state=IntentState.SUBMITTING,
        submitted_quantity=quantity,
        reason="",  # what held it back has passed
        submitted_at=house.clock.now(),
    )
    leaving = save(house, leaving)  # on disk before it leaves
    passing(CrashPoint.INTENT_SUBMITTING)
    answered = _submitted(house, leaving, left_before=bool(intent.submitted_quantity))
    passing(CrashPoint.ORDER_ANSWERED)
    if answered.state is IntentState.RECORDED and answered.refusals == intent.refusals:
        # It never left; what left before it, if anything did, still counts.
        answered = replace(answered, submitted_quantity=intent.submitted_quantity, submitted_at=intent.submitted_at)
    written = save(house, answered)
    passing(CrashPoint.ORDER_RECORDED)
    return written


def _desk(house: House, account_id: str) -> OrderDesk:
    desk = house.desk(account_id)
    if desk is None:  # nothing that only looks gets here
        raise MustHalt(f"{account_id}: an order was to be sent or cancelled by a process that only looks")
    return desk


def _submitted(house: House, intent: Intent, *, left_before: bool = False) -> Intent:
    """The intent after its request: the only place that sends. Raises MustHalt."""
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
        return adopted(intent, desk.submit(request))
    except DuplicateClientOrderId:  # we sent it before: never a second order
        order = broker.order_by_client_id(intent.client_order_id)
        return adopted(intent, order) if order else after(intent, Heard.NONE_YET)
    except OrderRefused as refusal:
        if left_before:
            return after(intent, Heard.REFUSED_AGAIN, REDACTOR.redact(str(refusal)))
        return _refused_by_broker(intent, refusal)
    except NotAuthorized as refusal:
        words = f"The broker refuses our key or has blocked the account: {refusal}"
        save(house, replace(intent, state=IntentState.UNKNOWN, reason="the broker does not let us in"))
        return after(intent, Heard.NOT_AUTHORIZED, words)  # which halts
    except NotSent as fault:
        return replace(after(intent, Heard.NOT_SENT, str(fault)), submitted_quantity=ZERO)
    except OutcomeUnknown as fault:
        reason = because(ReasonCode.ORDER_OUTCOME_UNKNOWN, why=REDACTOR.redact(str(fault)))
        return after(intent, Heard.NO_ANSWER, str(reason))


def _refused_by_broker(intent: Intent, refusal: OrderRefused) -> Intent:
    """For good, or for now: a buy may be asked about again while the broker has not counted the proceeds yet."""
    may_pass = refusal.reason in MAY_PASS and intent.refusals + 1 < MOST_REFUSALS
    heard = Heard.REFUSED_FOR_NOW if may_pass else Heard.REFUSED
    answered = after(intent, heard, REDACTOR.redact(str(refusal)))  # the broker's own words
    return replace(answered, submitted_quantity=ZERO, refusals=intent.refusals + 1)


def _collar(house: House) -> Decimal:
    execution = house.settings.execution
    return execution.limit_collar_bps / 10_000 if execution.order_type is OrderType.LIMIT else ZERO


def _limit_price(house: House, snapshot: Snapshot, intent: Intent) -> Decimal | None:
    quote = snapshot.quotes.get(intent.symbol)
    if intent.submitted_quantity:  # it may be there already: the same order, or none
        return intent.limit_price
    if intent.order_type is not OrderType.LIMIT or quote is None:
        return None
    cent = Decimal("0.01")
    if intent.side is Side.BUY:
        return (quote.ask * (1 + _collar(house))).quantize(cent, rounding=ROUND_DOWN)
    return (quote.bid * (1 - _collar(house))).quantize(cent, rounding=ROUND_UP)


def _refuse_in_flight(house: House, snapshot: Snapshot, plan: Plan, intents: Sequence[Intent]) -> None:
    conflicts = conflicts_in_flight(house, snapshot, plan, intents)
    for intent in intents:
        if intent.symbol in conflicts and intent.state is IntentState.RECORDED and not intent.submitted_quantity:
            _refuse(house, snapshot, intent, conflicts[intent.symbol])


def _refuse(house: House, snapshot: Snapshot, intent: Intent, reason: Reason) -> Intent:
    if intent.submitted_quantity:  # it left once; only the broker's records end it
        return save(house, _never_to_leave(intent, str(reason)))
    with house.store.transaction():
        refused = save(house, replace(intent, state=IntentState.REFUSED, reason=str(reason)))
        if reason.code is not ReasonCode.MODE_OBSERVES:
            text = f"{intent.side} {intent.quantity} {intent.symbol} was not sent. {reason.code.meaning} {reason}"
            common = reason.code in OF_THE_PLAN
            key = f"refused:{intent.plan_id}:{reason.code.value}" if common else f"refused:{intent.client_order_id}"
            raise_alert(house.store, key, AlertLevel.WARNING, text, snapshot.now)
    return refused


# ------------------------------------------------------------------ the end of the time


def _never_to_leave(intent: Intent, reason: str) -> Intent:
    """An intent that is not sent any more: over, unless it was sent once. Then it is looked for until the close."""
    if intent.submitted_quantity:
        return replace(intent, state=IntentState.UNKNOWN, lookups=0, reason=reason)
    return replace(intent, state=IntentState.EXPIRED, reason=reason)


def _cancel_working(house: House, plan: Plan, intents: Iterable[Intent]) -> None:
    """Ask for a cancel of what works at the broker, and look what came of it. Orders for the close stay.

    A cancel that cannot be asked for is asked for at the next step, and keeps none of the others from being asked for.
    """
    desk = house.desk(plan.account_id)
    working = [one for one in intents if one.state in AT_BROKER and one.order_type is not OrderType.MARKET_ON_CLOSE]
    if desk is None or not working:
        return
    for intent in working:
        try:
            desk.cancel(intent.broker_order_id or "")
        except UnknownOrder:
            pass  # its fate is looked up below
        except BrokerUnavailable as fault:
            log.warning("a cancel could not be asked for", order=intent.client_order_id, fault=str(fault))
        passing(CrashPoint.CANCEL_ASKED)
    settle(house, next(account for account in house.accounts if account.account_id == plan.account_id))


def _give_up_sells(house: House, plan: Plan, *, is_last: bool) -> None:
    """Near the end, sells that have not filled are cancelled, and those the gate held back are given up, so that what
    the others did fill can be bought back."""
    intents = house.store.orders.list(plan_id=plan.plan_id)
    to_buy_back = {one.tie for one in intents if one.side is Side.BUY}
    sells = [one for one in intents if one.side is Side.SELL and not one.state.is_final]
    for intent in sells:
        if intent.state is IntentState.RECORDED and (intent.reason or (is_last and intent.tie in to_buy_back)):
            save(house, _never_to_leave(intent, _too_late(intent)))
    _cancel_working(house, plan, sells)


def _end_of_time(house: House, snapshot: Snapshot, plan: Plan, stop: datetime | None) -> None:
    """Cancel what still works at the broker; what never left expires. Nothing rests into tomorrow."""
    intents = house.store.orders.list(plan_id=plan.plan_id, only_open=True)
    for intent in intents:
        if intent.state is IntentState.RECORDED:
            save(house, _never_to_leave(intent, _too_late(intent)))
    _cancel_working(house, plan, intents)
    for intent in house.store.orders.list(plan_id=plan.plan_id):
        key = f"stuck:{intent.client_order_id}"
        if not intent.state.is_final and stop is not None and snapshot.now >= stop + CANCEL_PATIENCE:
            reason = because(ReasonCode.ORDER_STUCK, order=intent.client_order_id, state=intent.state.value)
            text = f"{intent.side} {intent.quantity} {intent.symbol}: {reason.code.meaning} {reason}"
            raise_alert(house.store, key, AlertLevel.ERROR, text, snapshot.now)


def _too_late(intent: Intent) -> str:
    waited = {"waited_for": intent.reason} if intent.reason else {}
    return str(because(ReasonCode.ORDER_DEADLINE, session=intent.session, **waited))


def _stop(house: House, intents: Sequence[Intent]) -> datetime | None:
    """When the last order of a plan may leave: near the close of the session its intents are for."""
    session = house.calendar.on(intents[0].session) if intents else None
    return session.closes_at - house.timetable.stop_before_close if session else None


# ------------------------------------------------------------------ plans that are over


def close_ended(house: House, snapshot: Snapshot) -> None:
    """End the plans whose last intent a look has found to be over."""
    for plan in house.store.plans.list(account_id=snapshot.account.account_id, only_open=True):
        if plan.state is PlanState.EXECUTING:
            _close_if_over(house, snapshot, plan)


def _close_if_over(house: House, snapshot: Snapshot, plan: Plan) -> None:
    intents = house.store.orders.list(plan_id=plan.plan_id)
    if any(not intent.state.is_final for intent in intents):
        return
    for key in house.store.alerts.open_keys(f"stuck:hv-{plan.plan_id}-"):
        recover(house.store, key, f"plan {plan.plan_id} has no order open any more", snapshot.now)
    filled = sum((intent.filled_quantity for intent in intents), ZERO)
    planned = sum((trade.quantity for trade in plan.trades), ZERO)
    state = PlanState.DONE if filled == planned else PlanState.PARTLY_DONE if filled > 0 else PlanState.FAILED
    with house.store.transaction():
        if not filled and (_is_observed(plan) or house.desk(plan.account_id) is None):
            _close_observed(house, snapshot, plan, intents)
            return
        house.store.plans.update(plan.plan_id, snapshot.now, state=state)
        if state is not PlanState.DONE:
            text = f"Plan {plan.plan_id} ended {state.value}. {_what_is_left(plan, intents)}"
            key = f"plan:{plan.plan_id}:{state.value}"
            raise_alert(house.store, key, AlertLevel.WARNING, text, snapshot.now)
    passing(CrashPoint.PLAN_ENDED)


def _close_observed(house: House, snapshot: Snapshot, plan: Plan, intents: Sequence[Intent]) -> None:
    """Blocked by observing alone, where an order came as far as the call that sends; else by what held them back."""
    observes = ReasonCode.MODE_OBSERVES.value
    others = [one for one in plan.reasons if one != observes]
    held_back = {one.reason for one in intents if one.reason and not one.reason.startswith("ORDER_UNFUNDED")}
    why = [observes] if observes in held_back else sorted(held_back)
    reasons = tuple(dict.fromkeys((*others, *why)))
    house.store.plans.update(plan.plan_id, snapshot.now, state=PlanState.BLOCKED, reasons=reasons)


def _what_is_left(plan: Plan, intents: Sequence[Intent]) -> str:
    ended = "; ".join(
        f"{one.symbol}: {one.filled_quantity.normalize():f} of {one.quantity.normalize():f}, "
        f"{one.reason or ('funded for no more' if one.state is IntentState.FILLED else one.state.value)}"
        for one in intents
        if one.filled_quantity < one.quantity
    )
    planned = sum((trade.side.sign * trade.notional for trade in plan.trades), ZERO)
    bought = sum((one.side.sign * one.filled_quantity * one.reference_price for one in intents), ZERO)
    gap = planned - bought
    words = ""
    if gap > 0 and any(one.side is Side.SELL and one.filled_quantity for one in intents):
        words = f" About {gap:,.0f} USD more than planned stay in cash until then."
    return f"What did not fill is planned anew, never resent.{words} {ended}"
