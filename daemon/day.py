"""One tick of the daemon: whatever is due now, and the figures of a session's end."""

from __future__ import annotations

import bisect
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import structlog

from brokers.errors import BrokerError, BrokerUnavailable, NotAuthorized
from daemon import execution, outcomes
from daemon.agenda import Task, due
from daemon.alerts import drain, raise_alert, recover
from daemon.backup import backup_overdue
from daemon.clock import NEW_YORK
from daemon.crash_points import CrashPoint, passing
from daemon.cycle import observed, run_cycle, work_cycle
from daemon.errors import MustHalt
from daemon.facts import active_weights, today_of
from daemon.foreign import foreign_orders, read_changed_orders
from daemon.gate import DaemonState
from daemon.halt import is_halted
from daemon.house import House
from daemon.market_data import before_open, data_locks, take_session
from daemon.market_data import tell as tell_of_prices
from daemon.readiness import enter_state
from daemon.rereading import look_for_vanished, reread
from daemon.storage import STORAGE_ERRORS, halt_key, halt_trading, keep_halt, storage_failed, storage_works
from daemon.sync import Snapshot
from daemon.wash_calendar_file import keep_current
from state.lots import LedgerError
from state.reasons import ReasonCode, because
from state.records import ZERO, Account, AlertLevel, Plan, PlanState, Side, TransactionKind
from state.store import JournalConflict, PerformanceRow

log = structlog.get_logger("day")

CENT = Decimal("0.01")
KEPT_EVENTS = timedelta(days=60)  # of the stream's events that were taken


def tick(house: House) -> tuple[Task, ...]:
    """Do what is due for every managed account; returns the tasks done. A fault ends in no order, and an alert."""
    try:
        done = _done_now(house)
        drain(house.store, house.notifier, house.clock.now())
    except STORAGE_ERRORS as fault:
        storage_failed(house, fault)
        return ()
    return done


def _done_now(house: House) -> tuple[Task, ...]:
    done: list[Task] = []
    keep_halt(house)
    for account in house.managed:
        now = house.clock.now()
        session = house.calendar.current(now)
        finished = house.store.agenda.done(session.session, account.account_id) if session else frozenset[str]()
        for task in due(session, now, finished, house.timetable, work_waiting=work_waiting(house, account)):
            if _attempt(house, account, task):
                done.append(task)
    return tuple(done)


def start(house: House) -> bool:
    """The first look of a process: what happened while none was there is taken in before anything is due.

    True when every managed account was looked at and reconciled. Doing it again changes nothing.
    """
    try:
        if not house.has_begun:
            for account in house.managed:
                enter_state(house, account, DaemonState.STARTING, None, house.clock.now())
        house.has_begun = True
    except STORAGE_ERRORS as fault:
        storage_failed(house, fault)
        return False
    reconciled = [_attempt(house, account, Task.START) for account in house.managed]
    drain(house.store, house.notifier, house.clock.now())
    return all(reconciled)


def work_waiting(house: House, account: Account) -> bool:
    """True while a plan, an intent or a command is open."""
    return house.store.is_work_waiting(account.account_id)


def _attempt(house: House, account: Account, task: Task) -> bool:
    try:
        return _attempted(house, account, task)
    except STORAGE_ERRORS as fault:
        storage_failed(house, fault)
        return False


def _attempted(house: House, account: Account, task: Task) -> bool:
    now = house.clock.now()
    # A broker that cannot be read is one incident, whichever tasks meet it, and over when any task is done again.
    of_broker, of_task = f"broker:{account.account_id}", f"task:{account.account_id}:{task.value}"
    of_halt = halt_key(account)
    try:
        _do(house, account, task)
    except (MustHalt, NotAuthorized) as contradiction:
        house.forget()
        halt_trading(house, account, str(contradiction))
        return False
    except (BrokerError, JournalConflict, LedgerError) as fault:
        house.forget()
        text = f"{task.value} of {account.account_id} could not be done and is tried again: {fault}"
        key = of_task if isinstance(fault, LedgerError) else of_broker
        raise_alert(house.store, key, AlertLevel.ERROR, text, now)
        return False
    recover(house.store, of_task, f"{task.value} of {account.account_id} works again", now)
    recover(house.store, of_broker, f"{account.account_id}: the broker's records can be read again", now)
    storage_works(house)
    if not is_halted(house.store.path):
        recover(house.store, of_halt, f"{account.account_id}: trading was resumed", now)
    return True


def _do(house: House, account: Account, task: Task) -> None:
    if task is Task.DECIDE:
        if not house.ending:
            run_cycle(house, account)
    elif task is Task.WORK:
        work_cycle(house, account)
    elif task is Task.START:
        enter_state(house, account, DaemonState.RECONCILING, None, house.clock.now())
        _before_looking(house, account)
        snapshot = observed(house, account)
        if house.desk(account.account_id) is not None:
            foreign_orders(house, account)
            read_changed_orders(house, account)
        _tell_missed_sessions(house, account)
        log.info(
            "reconciled",
            account=account.account_id,
            state=snapshot.state.value,
            positions=len(snapshot.positions),
            locked=sorted(snapshot.locks),
        )
    elif task is Task.PREOPEN:
        _before_looking(house, account)
        _ask_what_is_traded(house)
        snapshot = observed(house, account)
        _tell_missed_sessions(house, account)
        execution.work(house, snapshot)  # what the broker keeps of an earlier session is cancelled before the open
        if not _clocks_disagree(snapshot):
            _mark(house, snapshot, task)
    else:
        evening(house, account)


def _before_looking(house: House, account: Account) -> None:
    """What issuers announced, and lines of the history that were gone last evening."""
    before_open(house)
    if house.brokers[account.account_id].capabilities.amends_history:
        look_for_vanished(house, account)


def _ask_what_is_traded(house: House) -> None:
    """Which symbols the broker trades today. Where it does not say, yesterday's answer stands."""
    try:
        house.take_securities()
    except BrokerError as fault:
        log.warning("it could not be asked which symbols are traded", fault=str(fault))


def _clocks_disagree(snapshot: Snapshot) -> bool:
    """True when this machine may take today for another day."""
    reason = snapshot.state_reason
    return reason is not None and reason.code is ReasonCode.MARKET_CLOCKS_DISAGREE


def _mark(house: House, snapshot: Snapshot, task: Task) -> None:
    if snapshot.session is not None:
        house.store.agenda.mark(snapshot.session.session, task.value, snapshot.account.account_id, snapshot.now)


# ------------------------------------------------------------------ the evening


def evening(house: House, account: Account) -> None:
    """Take in the day's fills and closes, end what did not end, tell of harvests, write the day's figures."""
    if house.brokers[account.account_id].capabilities.amends_history:
        outcomes.settle(house, account)  # not a look of its own: what the stream told is taken by the one below
        reread(house, account)
    snapshot = observed(house, account)
    session = snapshot.session
    if session is None:
        return
    _take_prices(house, account)
    passing(CrashPoint.PRICES_TAKEN)
    snapshot = _at_closes(house, snapshot)
    _judge_history(house, account)
    execution.work(house, snapshot)
    if house.desk(account.account_id) is not None:
        read_changed_orders(house, account)
    _tell_missed_decision(house, snapshot)
    _tell_old_backup(house)
    keep_current(house, session.session)
    house.store.events.forget_before(snapshot.now - KEPT_EVENTS)
    with house.store.transaction():
        key = f"value:{account.account_id}"
        if snapshot.unpriced:
            text = f"No value today: no price at all for {', '.join(snapshot.unpriced)}. No weights, no performance."
            raise_alert(house.store, key, AlertLevel.ERROR, text, snapshot.now)
        else:
            recover(house.store, key, f"{account.account_id} has a value again", snapshot.now)
            _finish_plans(house, snapshot)
            _write_performance(house, snapshot)
        _mark(house, snapshot, Task.EVENING)
        passing(CrashPoint.EVENING_WRITTEN)
    passing(CrashPoint.EVENING_DONE)


def _tell_old_backup(house: House) -> None:
    """Backups that fail in the night would be missed on the day that one is needed."""
    now = house.clock.now()
    why = backup_overdue(house.store, now)
    if why is None:
        recover(house.store, "backup", "there is a verified backup again", now)
    else:
        raise_alert(house.store, "backup", AlertLevel.WARNING, why, now)


def _at_closes(house: House, snapshot: Snapshot) -> Snapshot:
    """The account at the closes that have just been taken; where there is none, at what was known before."""
    return replace(snapshot, quotes={}, last_known={**snapshot.prices, **house.last_closes()})


def _tell_missed_decision(house: House, snapshot: Snapshot) -> None:
    """A session in which nothing was decided is told, where the daemon was there the day before or this morning."""
    account_id, session = snapshot.account.account_id, snapshot.session
    if session is None:
        return
    done = house.store.agenda.done(session.session, account_id)
    is_first_day = house.store.agenda.last_session(Task.EVENING.value, account_id) is None
    if (Task.PREOPEN.value in done or not is_first_day) and Task.DECIDE.value not in done:
        table = house.timetable
        reason = because(
            ReasonCode.SCHEDULE_MISSED,
            session=session.session,
            began=(session.closes_at - table.decide_before_close).isoformat(),
            ended=(session.closes_at - table.stop_before_close).isoformat(),
        )
        text = f"{account_id}: {reason.code.meaning} {reason}. Nothing is made up for."
        key = f"missed:{account_id}:{session.session}"
        raise_alert(house.store, key, AlertLevel.WARNING, text, snapshot.now)


def _tell_missed_sessions(house: House, account: Account) -> None:
    """Sessions that went by while no daemon was there, since the last evening that one saw."""
    last, now = house.store.agenda.last_session(Task.EVENING.value, account.account_id), house.clock.now()
    today = now.astimezone(NEW_YORK).date()
    if last is None or last >= today:
        return
    between = (one.session for one in house.calendar.between(last, today) if last < one.session < today)
    missed = [session for session in between if not house.store.agenda.done(session, account.account_id)]
    if missed:
        reason = because(ReasonCode.SCHEDULE_MISSED, sessions=len(missed), first=missed[0], last=missed[-1])
        text = f"{account.account_id}: no daemon was running in {len(missed)} sessions. {reason}"
        raise_alert(house.store, f"missed:{account.account_id}:{missed[0]}", AlertLevel.WARNING, text, now)


def _take_prices(house: House, account: Account) -> None:
    """The session's closes and what issuers did. While most closes are not there yet the evening is not over."""
    update = take_session(house)
    house.know_prices(update.bars, rewritten=update.rewritten)
    tell_of_prices(house.store, data_locks(house), house.clock.now())
    if not update.is_complete or house.store.market.last_session() != update.session:
        raise BrokerUnavailable(
            f"closes of {update.session} for {account.account_id}: {update.incomplete or 'none yet'}"
        )


def _judge_history(house: House, account: Account) -> None:
    key, now = f"history:{account.account_id}", house.clock.now()
    if house.knows_risk():
        recover(house.store, key, "there is price history enough for a risk model", now)
    else:
        reason = because(ReasonCode.DATA_HISTORY_SHORT, sessions=len(house.history.sessions))
        raise_alert(house.store, key, AlertLevel.WARNING, f"No plan is made. {reason.code.meaning} {reason}", now)


def _finish_plans(house: House, snapshot: Snapshot) -> None:
    """Weights after, and one line for each harvest, for plans that ended this session."""
    for plan in house.store.plans.ended_today(snapshot.account.account_id):
        house.store.plans.update(plan.plan_id, snapshot.now, weights_after=snapshot.weights)
        for question in house.store.plans.approvals(plan.plan_id):
            if question.decision == "approved":
                house.store.plans.put_approval(replace(question, weights_after=snapshot.weights))
        _tell_harvests(house, snapshot, plan)


def _tell_harvests(house: House, snapshot: Snapshot, plan: Plan) -> None:
    for trade in plan.trades:
        if trade.side is Side.SELL and trade.reason.is_harvest:
            rows = house.harvest_rows(plan, trade)
            if rows:
                loss = -sum((row.recognized for row in rows), ZERO)
                sold = sum((row.quantity for row in rows), ZERO)
                instead = ", ".join(trade.replacement) or "cash"
                outcome = f"loss {loss:,.2f} USD after disallowance so far"
                if loss < 0:
                    outcome = f"gain {-loss:,.2f} USD, because the price moved before it filled"
                text = (
                    f"{trade.symbol}: sold {sold.normalize():f} shares, {outcome}, "
                    f"held {trade.days_held} days, replaced by {instead}. {trade.explanation}"
                )
                raise_alert(house.store, f"harvest:{plan.plan_id}:{trade.leg}", AlertLevel.INFO, text, snapshot.now)


def _write_performance(house: House, snapshot: Snapshot) -> None:
    account_id = snapshot.account.account_id
    session = snapshot.session
    if session is None:
        return
    previous = house.store.performance.last(account_id)
    if previous is not None and previous.session == session.session:
        return
    flow, bought, sold = _flows(house, snapshot, previous)
    level = house.benchmark.level
    grown = ZERO
    if previous is not None and len(level) > 1:
        place = bisect.bisect_right(house.history.sessions, previous.session) - 1  # its own close, or the last before
        growth = Decimal(repr(float(level[-1] / level[max(place, 0)])))
        grown = (previous.benchmark_nav * growth).quantize(CENT)
    error_bps, note = _tracking(house, snapshot)
    house.store.performance.put(
        PerformanceRow(
            account_id=account_id,
            session=session.session,
            nav=snapshot.nav.quantize(CENT),
            cash=snapshot.cash,
            external_flow=flow,
            benchmark_nav=grown + flow,
            tracking_error_bps=error_bps,
            tracking_error_note=note,
            bought=bought,
            sold=sold,
        )
    )


def _flows(house: House, snapshot: Snapshot, previous: PerformanceRow | None) -> tuple[Decimal, Decimal, Decimal]:
    """Money and shares from outside less what went out, purchases and sales since the previous row, in USD.

    Shares from outside count at today's price. A row that corrects another counts for what it changes. An account that
    has a past when it is first looked after begins with what it is worth.
    """
    account_id, session = snapshot.account.account_id, snapshot.session
    since = house.store.agenda.done_at(previous.session, Task.EVENING.value, account_id) if previous else None
    rows = house.store.journal.since(account_id, since)
    if previous is None and session is not None and any(row.trade_date < session.session for row in rows):
        return snapshot.nav.quantize(CENT), ZERO, ZERO
    corrected = house.store.journal.versions(row.supersedes for row in rows if row.supersedes is not None)
    counted = [(row, 1) for row in rows] + [(versions[0], -1) for versions in corrected.values()]
    flow = bought = sold = ZERO
    for row, sign in counted:
        if row.kind in (TransactionKind.DEPOSIT, TransactionKind.WITHDRAWAL):
            flow += sign * row.amount
        elif row.kind in (TransactionKind.SHARES_IN, TransactionKind.SHARES_OUT):
            came = sign if row.kind is TransactionKind.SHARES_IN else -sign
            flow += came * row.quantity * snapshot.prices.get(row.symbol or "", ZERO)
        elif row.kind is TransactionKind.BUY:
            bought += sign * row.quantity * row.price
        elif row.kind is TransactionKind.SELL:
            sold += sign * row.quantity * row.price
    return flow.quantize(CENT), bought.quantize(CENT), sold.quantize(CENT)


def _tracking(house: House, snapshot: Snapshot) -> tuple[float | None, str]:
    """Ex-ante tracking error at the close, in bp, and why it is above its limit, if it is."""
    if not snapshot.positions or not house.knows_risk():
        return None, ""
    error = house.risk().tracking_error(active_weights(house, snapshot)) * 1e4
    limit = house.settings.optimizer.tracking_error_max_bps
    key = f"tracking_error:{snapshot.account.account_id}"
    if error <= limit:
        recover(
            house.store, key, f"expected tracking error {error:.0f} bp is within {limit:.0f} bp again", snapshot.now
        )
        return error, ""
    note = str(
        because(ReasonCode.TRIGGER_TRACKING_ERROR, bps=round(error, 1), most_bps=limit, why=_why(house, snapshot))
    )
    raise_alert(house.store, key, AlertLevel.WARNING, note, snapshot.now)
    return error, note


def _why(house: House, snapshot: Snapshot) -> str:
    """What the day's plan said, or that prices moved after it."""
    day = snapshot.now.astimezone(NEW_YORK).date()
    plans = house.store.plans.list(account_id=snapshot.account.account_id, session=day)
    limit = house.settings.optimizer.tracking_error_max_bps
    for plan in reversed(plans):
        left_above = plan.tracking_error_after_bps is None or plan.tracking_error_after_bps > limit + 1
        notes = [note for note in (*plan.notes, *plan.reasons) if "tracking-error" in note]
        if notes and left_above:
            return notes[-1]
    if house.benchmark_changes(today_of(house, snapshot)):
        return "the benchmark rebalanced at this close; the next plan follows it"
    unfilled = [plan for plan in plans if plan.state in (PlanState.PARTLY_DONE, PlanState.FAILED)]
    if unfilled:
        return f"plan {unfilled[-1].plan_id} did not fill whole ({unfilled[-1].state.value}), and prices moved"
    states = ", ".join(f"{plan.plan_id} {plan.state.value}" for plan in plans)
    return f"prices moved after the decision; plans today: {states or 'none'}"
