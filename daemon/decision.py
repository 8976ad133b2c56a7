"""Decide on a plan, put the decision on disk, and carry plans on from where they stand.

    new plan                 the second a session -> none: one decision is taken in a session
                             forbidden           -> blocked, with the reasons
                             above a threshold   -> awaiting_approval, until it expires
                             otherwise           -> executing: its intents are recorded with it
    awaiting_approval        approve             -> approved          reject -> rejected        time -> expired
    approved, market open    priced afresh: forbidden -> blocked, changed -> awaiting_approval again, same -> executing

What is decided, the intents it leads to, the alerts and "done for this session" are one database transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import structlog

from daemon.agenda import Task
from daemon.alerts import raise_alert, recover
from daemon.approvals import changed_materially, needs_approval, repriced
from daemon.checks import check_plan
from daemon.crash_points import CrashPoint, passing
from daemon.facts import is_ready, today_of
from daemon.gate import DaemonState
from daemon.house import House
from daemon.planning import Proposed
from daemon.slices import cut
from daemon.sync import Snapshot
from daemon.triggers import REBALANCE
from state.reasons import Reason, ReasonCode, because
from state.records import AlertLevel, Intent, IntentState, Plan, PlanState
from state.store import Approval, Command
from strategy.types import Opportunity

log = structlog.get_logger("decision")


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan with its new state and why."""

    plan: Plan
    state: PlanState
    reasons: tuple[Reason, ...]


def decide(house: House, snapshot: Snapshot, proposed: Proposed | None, verdict: tuple[Reason, ...]) -> Decision | None:
    """Execute, ask for approval, or refuse. None when there is no plan, or while the state allows no order."""
    if snapshot.state is not DaemonState.OPEN:
        return None
    today, account_id = today_of(house, snapshot), snapshot.account.account_id
    if Task.DECIDE.value in house.store.agenda.done(today, account_id):
        reason = because(ReasonCode.PLAN_DUPLICATE, session=today)
        log.warning("no second plan", account=account_id, reason=str(reason))
        return None
    if proposed is None:
        return None
    plan = proposed.plan
    if verdict:
        return Decision(plan, PlanState.BLOCKED, verdict)
    if not plan.trades:
        return Decision(plan, PlanState.BLOCKED, proposed.proposal.reasons)
    reasons = needs_approval(plan, house.settings)
    if house.desk(plan.account_id) is None:  # nobody is asked about what cannot be sent
        return Decision(plan, PlanState.EXECUTING, (*reasons, because(ReasonCode.MODE_OBSERVES)))
    return Decision(plan, PlanState.AWAITING_APPROVAL if reasons else PlanState.EXECUTING, reasons)


def record(
    house: House,
    snapshot: Snapshot,
    opportunities: tuple[Opportunity, ...],
    proposed: Proposed | None,
    decision: Decision | None,
) -> Plan | None:
    """Write the decision, its intents and alerts, and that this session's decision is taken: all or nothing."""
    now = snapshot.now
    with house.store.transaction():
        plan = None
        if decision is not None:
            plan = _write(house, decision, now)
        for item in opportunities:
            _tell_left_alone(house, snapshot, item)
        _tell_undecided(house, snapshot)
        if snapshot.session is not None and snapshot.state is DaemonState.OPEN:
            day, account_id = snapshot.session.session, snapshot.account.account_id
            if proposed is not None and proposed.is_rebalance:
                house.store.agenda.mark(day, REBALANCE, account_id, now)
            house.store.agenda.mark(day, Task.DECIDE.value, account_id, now)
        passing(CrashPoint.PLAN_WRITTEN)
    passing(CrashPoint.PLAN_RECORDED)
    return plan


def _tell_left_alone(house: House, snapshot: Snapshot, item: Opportunity) -> None:
    """A loss worth taking that the household's own purchase forbids: told once a window."""
    if item.verdict.code is ReasonCode.WASH_PURCHASE_IN_WINDOW:
        details = dict(item.verdict.details)
        key = f"left_alone:{snapshot.account.account_id}:{item.symbol}:{details.get('until')}"
        text = (
            f"{item.symbol}: a loss of {item.gross_loss_usd:,.0f} USD is left alone until {details.get('until')}, "
            f"selling it would be a wash sale: {details.get('why')}"
        )
        raise_alert(house.store, key, AlertLevel.INFO, text, snapshot.now)


def _tell_undecided(house: House, snapshot: Snapshot) -> None:
    """One alert while prices or history are missing and so nothing can be decided, and one when they are back."""
    key = f"undecided:{snapshot.account.account_id}"
    if is_ready(house, snapshot):
        recover(house.store, key, "prices and history are complete again", snapshot.now)
        return
    missing = [name for name in house.names if name not in snapshot.prices]
    text = f"Nothing was decided: no price for {', '.join(missing) or 'a position'}, or no history, or no value."
    raise_alert(house.store, key, AlertLevel.ERROR, text, snapshot.now)


def _write(house: House, decision: Decision, now: datetime) -> Plan | None:
    """Record the plan unless it says nothing new. Raises sqlite3.IntegrityError when its id exists."""
    only_nothing = all(reason.code is ReasonCode.PLAN_NOTHING_TO_DO for reason in decision.reasons)
    nothing = decision.state is PlanState.BLOCKED and bool(decision.reasons) and only_nothing
    if nothing and not decision.plan.notes:
        return None
    expires = now + timedelta(hours=house.settings.approvals.expires_after_hours)
    reasons = (*(str(reason) for reason in decision.reasons), *decision.plan.reasons)
    plan = replace(decision.plan, state=decision.state, reasons=tuple(dict.fromkeys(reasons)), expires_at=expires)
    house.store.plans.record(plan, now)
    if decision.state is PlanState.EXECUTING:
        record_intents(house, plan, plan.session)
    elif decision.state is PlanState.AWAITING_APPROVAL:
        ask(house, plan, decision.reasons, now)
    elif not nothing:
        text = f"Plan {plan.plan_id} is blocked. " + "; ".join(
            f"{one.code.meaning} ({one})" for one in decision.reasons
        )
        raise_alert(house.store, f"plan:{plan.plan_id}:blocked", AlertLevel.WARNING, text, now)
    return plan


def record_intents(house: House, plan: Plan, session: date) -> None:
    """One intent a slice, to be sent in `session`. Ids derive from plan, leg and slice: a plan never makes others."""
    unhedged_max = house.settings.execution.unhedged_max_pct_nav / 100 * plan.nav
    house.store.orders.record(
        Intent(
            client_order_id=f"hv-{plan.plan_id}-{piece.trade.leg}-{piece.slice_number}",
            plan_id=plan.plan_id,
            account_id=plan.account_id,
            leg=piece.trade.leg,
            slice_number=piece.slice_number,
            symbol=piece.trade.symbol,
            side=piece.trade.side,
            quantity=piece.quantity,
            state=IntentState.RECORDED,
            session=session,
            order_type=house.settings.execution.order_type,
            reference_price=piece.trade.price,
            tie=piece.tie,
        )
        for piece in cut(plan.trades, unhedged_max, _slice_max(house, plan))
    )


def _slice_max(house: House, plan: Plan) -> dict[str, Decimal]:
    largest = {trade.symbol: house.slice_max(trade.symbol) for trade in plan.trades}
    return {symbol: most for symbol, most in largest.items() if most is not None}


def ask(house: House, plan: Plan, reasons: tuple[Reason, ...], now: datetime) -> None:
    """Put the question to a person, and tell them."""
    expires = plan.expires_at or now
    house.store.plans.put_approval(
        Approval(
            plan_id=plan.plan_id,
            revision=plan.revision,
            requested_at=now,
            expires_at=expires,
            reasons=tuple(str(reason) for reason in reasons),
            weights_before=plan.weights_before,
        )
    )
    text = (
        f"Plan {plan.plan_id} ({len(plan.trades)} orders, {plan.gross_value:,.0f} USD) waits for approval until "
        f"{expires:%Y-%m-%d %H:%M} UTC: harvestd plans show {plan.plan_id}"
    )
    raise_alert(house.store, f"approval:{plan.plan_id}:{plan.revision}", AlertLevel.WARNING, text, now)


# ------------------------------------------------------------------ plans on their way


def advance(house: House, snapshot: Snapshot) -> None:
    """Answers from the inbox, expiry, and approved plans at fresh prices."""
    with house.store.transaction():
        # Of two answers that wait together the no counts, whichever came first.
        for command in sorted(house.store.commands.waiting(), key=lambda one: one.command != "reject"):
            house.store.commands.take(command.command_id, snapshot.now, _answer(house, command, snapshot.now))
            passing(CrashPoint.ANSWER_TAKEN)
        for plan in house.store.plans.list(account_id=snapshot.account.account_id, only_open=True):
            expired = plan.expires_at is not None and snapshot.now >= plan.expires_at
            if plan.state is PlanState.AWAITING_APPROVAL and expired:
                _close_question(house, plan, "expired", "time", snapshot.now)
            elif plan.state is PlanState.APPROVED:
                _carry_on(house, snapshot, plan, expired=expired)


def _answer(house: House, command: Command, now: datetime) -> str:
    plan = house.store.plans.get(command.argument)
    if plan is None:
        return f"refused: no plan {command.argument}"
    if plan.state is not PlanState.AWAITING_APPROVAL:
        return f"refused: plan {plan.plan_id} is {plan.state.value}, not awaiting_approval"
    if plan.expires_at is not None and now >= plan.expires_at:
        _close_question(house, plan, "expired", "time", now)
        return f"refused: plan {plan.plan_id} expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC"
    _close_question(house, plan, "approved" if command.command == "approve" else "rejected", command.created_by, now)
    return "done"


def _close_question(house: House, plan: Plan, decision: str, by: str, now: datetime) -> None:
    ended = decision != "approved"
    for question in house.store.plans.approvals(plan.plan_id):
        if question.revision == plan.revision and question.decision is None:  # a person's answer is kept
            question = replace(question, decision=decision, decided_at=now, decided_by=by)
        house.store.plans.put_approval(replace(question, weights_after=plan.weights_before if ended else None))
    code = {"rejected": ReasonCode.APPROVAL_REJECTED, "expired": ReasonCode.APPROVAL_EXPIRED}.get(decision)
    reasons = (*plan.reasons, str(because(code, by=by))) if code else plan.reasons
    changes = {"weights_after": dict(plan.weights_before)} if ended else {}
    house.store.plans.update(plan.plan_id, now, state=PlanState(decision), reasons=reasons, **changes)


def _carry_on(house: House, snapshot: Snapshot, plan: Plan, *, expired: bool) -> None:
    """An approved plan, at fresh prices: execute it, ask again, or end it."""
    now = snapshot.now
    if expired:
        _close_question(house, plan, "expired", "time", now)
        return
    session = snapshot.session
    if session is None or snapshot.state is not DaemonState.OPEN:
        return
    if now >= session.closes_at - house.timetable.stop_before_close:
        return
    fresh = repriced(plan, snapshot.prices, snapshot.ledger, now, today_of(house, snapshot))
    if fresh is None:
        _block(
            house,
            plan,
            (because(ReasonCode.APPROVAL_CHANGED, plan=plan.plan_id, why="shares or prices are missing"),),
            now,
        )
        return
    verdict = check_plan(house, snapshot, fresh)
    if verdict:
        _block(house, plan, verdict, now)
        return
    change = changed_materially(plan, fresh, house.settings.approvals.reprice_tolerance_pct)
    if change is not None:
        again = replace(
            fresh,
            state=PlanState.AWAITING_APPROVAL,
            revision=plan.revision + 1,
            expires_at=now + timedelta(hours=house.settings.approvals.expires_after_hours),
            reasons=(*plan.reasons, str(change)),
        )
        house.store.plans.reprice(again, now)
        ask(house, again, (change,), now)
        return
    ready = replace(fresh, state=PlanState.EXECUTING)
    house.store.plans.reprice(ready, now)
    record_intents(house, ready, session.session)


def _block(house: House, plan: Plan, reasons: tuple[Reason, ...], now: datetime) -> None:
    texts = (*plan.reasons, *(str(reason) for reason in reasons))
    weights = dict(plan.weights_before)
    house.store.plans.update(plan.plan_id, now, state=PlanState.BLOCKED, reasons=texts, weights_after=weights)
    for question in house.store.plans.approvals(plan.plan_id):
        house.store.plans.put_approval(replace(question, weights_after=weights))
    text = f"Plan {plan.plan_id} was approved, but is blocked now. " + "; ".join(str(reason) for reason in reasons)
    raise_alert(house.store, f"plan:{plan.plan_id}:blocked", AlertLevel.WARNING, text, now)
