"""Triggers, scan, proposal and check of one account: the strategy asked with what is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import numpy as np

from daemon.house import House
from daemon.sync import Snapshot
from state.lots import Ledger, WashCalendar, WhatIf, wash_calendar, what_if
from state.reasons import Reason, ReasonCode, because
from state.records import (
    ZERO,
    Account,
    Intent,
    IntentState,
    Lot,
    Plan,
    PlannedTrade,
    PlanState,
    Side,
    Transaction,
    TransactionKind,
)
from strategy.compliance import ComplianceFacts
from strategy.compliance import check as comply
from strategy.deposits import deposit_names
from strategy.propose import PlanPolicy, Proposal, Situation
from strategy.propose import propose as solve
from strategy.replacements import choose_replacements
from strategy.risk import ewma_volatility
from strategy.scan import blocked_losses
from strategy.scan import scan as scan_losses
from strategy.types import BlockedLoss, Opportunity, WashMasks

MOST_RETRIES = 6
PLANNED = "planned-"  # ids of transactions that have not happened
REBALANCE = "rebalance considered"  # an agenda row: the last session in which one was looked into
RECONSIDER_AFTER_SESSIONS = 10
# Between the decision and the fill a price may fall. A sale inside a wash-sale window must stay a gain after a fall
# of so many daily standard deviations, and of at least this fraction.
ADVERSE_DEVIATIONS = Decimal(4)
ADVERSE_LEAST = Decimal("0.05")
HEAVY_LOSS = Decimal("0.0025")  # of net asset value


# ------------------------------------------------------------------ what the strategy is told


def today_of(house: House, snapshot: Snapshot) -> date:
    """The New York date the plan would trade on: this session's, or the next one's when it is over."""
    return house.calendar.upcoming(snapshot.now).session


def queues_of(snapshot: Snapshot) -> dict[str, tuple[Lot, ...]]:
    """Open lots of the account by name, in the order the broker would dispose of them."""
    account_id = snapshot.account.account_id
    held = snapshot.ledger.positions(account_id)
    return {symbol: snapshot.ledger.disposal_queue(account_id, symbol) for symbol in sorted(held)}


def wash_masks(calendar: WashCalendar) -> WashMasks:
    """The household's calendar by symbol: the furthest forbidden date of each, with its reason."""
    masks = WashMasks()
    for entries, mask in (
        (calendar.do_not_buy, masks.no_buy),
        (calendar.do_not_sell_at_a_loss, masks.no_loss_sale),
    ):
        for entry in entries:
            for symbol in entry.symbols:
                if symbol not in mask or mask[symbol][0] < entry.until:
                    mask[symbol] = (entry.until, entry.reason)
    return masks


def pending(house: House, ledger: Ledger, on: date, *, without: str | None = None) -> tuple[Transaction, ...]:
    """What working intents and approved plans of every account will do, as transactions that have not happened."""
    rows: list[Transaction] = []
    for plan in house.store.plans.list(only_open=True):
        if plan.plan_id == without:
            continue
        if plan.state is PlanState.APPROVED:
            rows.extend(
                trade_transaction(plan.account_id, trade, on, f"{plan.plan_id}-{trade.leg}") for trade in plan.trades
            )
        elif plan.state is PlanState.EXECUTING:
            for intent in house.store.orders.list(plan_id=plan.plan_id, only_open=True):
                left = (intent.submitted_quantity or intent.quantity) - intent.filled_quantity
                if left > 0:
                    rows.append(
                        Transaction(
                            transaction_id=f"pending-{intent.client_order_id}",
                            account_id=intent.account_id,
                            kind=_kind(intent.side),
                            trade_date=on,
                            source="pending",
                            symbol=intent.symbol,
                            quantity=left,
                            price=intent.reference_price,
                            order_id=intent.broker_order_id or f"pending-{intent.client_order_id}",
                        )
                    )
    return _coverable(ledger, rows)


def _coverable(ledger: Ledger, rows: Iterable[Transaction]) -> tuple[Transaction, ...]:
    """Leave out what can no longer happen: pending sales of shares that are not there."""
    left: dict[tuple[str, str], Decimal] = {}
    kept = []
    for row in sorted(rows, key=lambda row: row.kind is TransactionKind.SELL):
        key = (row.account_id, row.symbol or "")
        have = left.setdefault(key, ledger.position(*key))
        if row.kind is TransactionKind.SELL and row.quantity > have:
            continue
        left[key] = have - row.quantity if row.kind is TransactionKind.SELL else have + row.quantity
        kept.append(row)
    return tuple(kept)


def _kind(side: Side) -> TransactionKind:
    return TransactionKind.BUY if side is Side.BUY else TransactionKind.SELL


def trade_transaction(account_id: str, trade: PlannedTrade, on: date, reference: str) -> Transaction:
    """A planned trade as the transaction it would become."""
    return Transaction(
        transaction_id=f"{PLANNED}{reference}",
        account_id=account_id,
        kind=_kind(trade.side),
        trade_date=on,
        source="planned",
        symbol=trade.symbol,
        quantity=trade.quantity,
        price=trade.price,
        order_id=f"{PLANNED}{reference}",
    )


# ------------------------------------------------------------------ why trade at all


def find_triggers(house: House, snapshot: Snapshot) -> tuple[Reason, ...]:
    """Cash, drift, tracking error and the calendar. Empty while nothing is known to trade on."""
    if not _ready(house, snapshot):
        return ()
    optimizer, nav = house.settings.optimizer, snapshot.nav
    reasons: list[Reason] = []
    cash_pct = snapshot.cash / nav * 100
    if cash_pct > Decimal(repr(optimizer.cash_max_pct)):
        reasons.append(because(ReasonCode.TRIGGER_CASH, cash_pct=round(cash_pct, 2), most_pct=optimizer.cash_max_pct))
    active = active_weights(house, snapshot)
    largest = int(np.argmax(np.abs(active)))
    if abs(active[largest]) * 100 > optimizer.drift_max_pct and not _considered_lately(house, snapshot):
        details = {
            "symbol": house.names[largest],
            "active_pct": round(float(active[largest]) * 100, 2),
            "most_pct": optimizer.drift_max_pct,
        }
        reasons.append(because(ReasonCode.TRIGGER_DRIFT, **details))
    error_bps = house.risk().tracking_error(active) * 1e4
    if error_bps > optimizer.tracking_error_max_bps:
        reasons.append(
            because(
                ReasonCode.TRIGGER_TRACKING_ERROR, bps=round(error_bps, 1), most_bps=optimizer.tracking_error_max_bps
            )
        )
    if _rebalance_due(house, snapshot):
        reasons.append(because(ReasonCode.TRIGGER_SCHEDULE, every=optimizer.rebalance_at.value))
    return tuple(reasons)


def _considered_lately(house: House, snapshot: Snapshot) -> bool:
    """True for some sessions after a rebalance was last looked into: drift that was not worth mending, or that a
    person would not have mended, is not asked about again every day."""
    last = house.store.agenda.last_session(REBALANCE, snapshot.account.account_id)
    return last is not None and last in house.history.sessions[-RECONSIDER_AFTER_SESSIONS:]


def _rejected_lately(house: House, snapshot: Snapshot) -> bool:
    """True for some sessions after a person rejected a plan: the same gains are not asked for again every day."""
    last = house.store.plans.last_session(snapshot.account.account_id, PlanState.REJECTED)
    return last is not None and last in house.history.sessions[-RECONSIDER_AFTER_SESSIONS:]


def _ready(house: House, snapshot: Snapshot) -> bool:
    prices = snapshot.prices
    return (
        bool(house.history.sessions)
        and all(name in prices for name in (*house.names, *snapshot.positions))
        and snapshot.nav > 0
    )


def active_weights(house: House, snapshot: Snapshot) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Held less benchmark weights, shape (n,), at the snapshot's quotes."""
    weights = snapshot.weights
    held = np.array([float(weights.get(name, ZERO)) for name in house.names])
    return held - house.benchmark_weights(today_of(house, snapshot))


def _rebalance_due(house: House, snapshot: Snapshot) -> bool:
    """First session of a new period, by the calendar alone."""
    every = house.settings.optimizer.rebalance_at.value
    if every == "never":
        return False
    today = today_of(house, snapshot)
    previous = house.history.sessions[-1]
    months = 3 if every == "quarterly" else 1
    return (today.year, (today.month - 1) // months) != (previous.year, (previous.month - 1) // months)


# ------------------------------------------------------------------ losses worth taking


def scan(house: House, snapshot: Snapshot, masks: WashMasks | None = None) -> tuple[Opportunity, ...]:
    """One opportunity a name with a loss, taken or not, each with its reason."""
    if not house.settings.harvest.enabled or not _ready(house, snapshot):
        return ()
    today = today_of(house, snapshot)
    masks = masks or masks_for(house, snapshot, today)
    locked = _locked(house, snapshot)
    closed = frozenset(masks.no_buy) | locked
    first_look = _scan(house, snapshot, masks, locked, _replacements(house, closed))
    return _scan(house, snapshot, masks, locked, _replacements(house, closed | at_stake(first_look)))


def at_stake(opportunities: Iterable[Opportunity]) -> frozenset[str]:
    """Names whose own loss is past its trigger: bought now, they could not be harvested for another 30 days."""
    waiting = (ReasonCode.HARVEST_TAKEN, ReasonCode.WASH_PURCHASE_IN_WINDOW, ReasonCode.REPLACEMENT_NONE_FREE)
    return frozenset(item.symbol for item in opportunities if item.verdict.code in waiting)


def _heavy(waiting: frozenset[str], opportunities: Iterable[Opportunity], nav: Decimal) -> frozenset[str]:
    """Those whose waiting loss is too large to be locked up for the sake of a weight."""
    least = HEAVY_LOSS * nav
    return frozenset(item.symbol for item in opportunities if item.symbol in waiting and item.gross_loss_usd > least)


def _replacements(house: House, excluded: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
    groups = house.ledger.group_of
    return choose_replacements(
        names=house.names,
        model=house.risk(),
        sectors=sectors_of(house),
        excluded=excluded,
        identical=lambda one, other: other in groups(one),
        count=house.settings.harvest.replacements_per_name,
    )


def _scan(
    house: House,
    snapshot: Snapshot,
    masks: WashMasks,
    locked: frozenset[str],
    replacements: Mapping[str, tuple[str, ...]],
) -> tuple[Opportunity, ...]:
    today = today_of(house, snapshot)
    return scan_losses(
        today=today,
        queues=queues_of(snapshot),
        prices=snapshot.prices,
        volatility=volatility_of(house),
        masks=masks,
        replacements=replacements,
        homes=homes_of(house, snapshot.account),
        locked=locked,
        profile=house.tax_profile,
        policy=house.harvest_policy,
        ordered=snapshot.account.relief_method.value != "specific",
    )


def masks_for(house: House, snapshot: Snapshot, today: date, *, without: str | None = None) -> WashMasks:
    """The household's wash-sale calendar, working intents and approved plans (but `without`) counted in."""
    ledger = snapshot.ledger
    waiting = pending(house, ledger, today, without=without)
    if waiting:
        ledger = what_if(ledger, waiting).ledger
    after = house.settings.wash_sales.block_rebuy_after.value
    return wash_masks(
        wash_calendar(ledger, today, block_rebuy_after="any_sale" if after == "any_sale" else "loss_sale")
    )


def sectors_of(house: House) -> dict[str, str]:
    """Sectors where known."""
    known = {symbol: item.sector for symbol, item in house.securities().items() if item.sector}
    return {**known, **house.constituents.sectors}


def volatility_of(house: House) -> dict[str, float]:
    """Daily EWMA volatility by name."""
    values = ewma_volatility(house.history, decay=house.settings.harvest.ewma_lambda)
    return dict(zip(house.names, (float(value) for value in values), strict=True))


def homes_of(house: House, account: Account) -> dict[str, str]:
    """Lots bought as a replacement, and the name each one stands in for."""
    return house.homes(account.account_id)


def _locked(house: House, snapshot: Snapshot) -> frozenset[str]:
    unknown = (
        intent.symbol
        for intent in house.store.orders.list(account_id=snapshot.account.account_id, only_open=True)
        if intent.state in (IntentState.UNKNOWN, IntentState.SUBMITTING)
    )
    restricted = house.settings.execution.restricted_symbols
    untradable = (symbol for symbol, item in house.securities().items() if not item.tradable)
    return frozenset({*snapshot.locks, *unknown, *restricted, *untradable})


def fifo_blocked(snapshot: Snapshot) -> tuple[BlockedLoss, ...]:
    """Losses that the account's relief method keeps behind gains."""
    return blocked_losses(queues_of(snapshot), snapshot.prices)


# ------------------------------------------------------------------ the plan


@dataclass(frozen=True)
class Proposed:
    """A plan not yet decided, with what it was made from."""

    plan: Plan
    proposal: Proposal
    triggers: tuple[Reason, ...]

    @property
    def is_rebalance(self) -> bool:
        """True when something other than a loss or new cash asked for it."""
        return any(reason.code not in (ReasonCode.TRIGGER_HARVEST, ReasonCode.TRIGGER_CASH) for reason in self.triggers)


def propose(
    house: House, snapshot: Snapshot, triggers: tuple[Reason, ...], opportunities: tuple[Opportunity, ...]
) -> Proposed | None:
    """The plan of this cycle, or None when neither a trigger nor an opportunity asks for one.

    The plan is replayed on the ledger before it is shown to anyone: a name whose trade would disallow a loss is
    closed and the program solved again, so that what remains is clean.
    """
    taken = tuple(item for item in opportunities if item.taken)
    if not _ready(house, snapshot) or not (triggers or taken):
        return None
    if house.store.plans.list(account_id=snapshot.account.account_id, only_open=True):
        return None  # one plan at a time: the open one must end first
    reasons = [*triggers]
    for item in taken:
        reasons.append(because(ReasonCode.TRIGGER_HARVEST, symbol=item.symbol, loss_usd=round(item.loss_usd, 2)))
    today = today_of(house, snapshot)
    masks = masks_for(house, snapshot, today)
    for _ in range(MOST_RETRIES):
        situation = situation_of(house, snapshot, triggers, opportunities, masks)
        proposal = solve(situation)
        rehearsal = rehearse(house, snapshot, proposal.trades, today)
        conflicts = wash_conflicts(snapshot.ledger, proposal.trades, rehearsal)
        if not conflicts:
            break
        masks, opportunities = _closed(masks, opportunities, conflicts, today)
    else:
        proposal = replace(proposal, trades=(), reasons=tuple(conflicts.values()))
    return Proposed(_plan(house, snapshot, proposal, reasons), proposal, tuple(reasons))


def _closed(
    masks: WashMasks, opportunities: tuple[Opportunity, ...], conflicts: Mapping[str, Reason], today: date
) -> tuple[WashMasks, tuple[Opportunity, ...]]:
    closed = {symbol: (today, str(reason)) for symbol, reason in conflicts.items()}
    kept = tuple(
        replace(item, taken=False, verdict=conflicts[item.symbol]) if item.taken and item.symbol in conflicts else item
        for item in opportunities
    )
    return WashMasks({**masks.no_buy, **closed}, {**masks.no_loss_sale, **closed}), kept


def conflicts_in_flight(house: House, snapshot: Snapshot, plan: Plan, intents: Sequence[Intent]) -> dict[str, Reason]:
    """Conflicts of what has not been sent yet with trades of the household learned after the plan was made (F33)."""
    if not house.store.journal.learned_since(plan.created_at, plan.account_id):
        return {}
    waiting = [one for one in intents if one.state is IntentState.RECORDED]
    legs = {trade.leg: trade for trade in plan.trades}
    trades = [replace(legs[one.leg], quantity=one.quantity, leg=place) for place, one in enumerate(waiting)]
    rehearsal = rehearse(house, snapshot, trades, today_of(house, snapshot), without=plan.plan_id)
    found = wash_conflicts(snapshot.ledger, trades, rehearsal)
    return {symbol: because(ReasonCode.WASH_IN_FLIGHT, **dict(reason.details)) for symbol, reason in found.items()}


def rehearse(
    house: House, snapshot: Snapshot, trades: Sequence[PlannedTrade], today: date, *, without: str | None = None
) -> WhatIf:
    """The trades replayed on the household's ledger, with all that is pending (but plan `without`) counted in.

    Sales are replayed at an adverse price, so that a lot near its basis cannot turn into a washed loss on the way.
    """
    waiting = pending(house, snapshot.ledger, today, without=without)
    falls = adverse_moves(house)
    rows = [
        trade_transaction(snapshot.account.account_id, _at_adverse_price(trade, falls), today, str(trade.leg))
        for trade in trades
    ]
    return what_if(snapshot.ledger, [*waiting, *rows])


def _at_adverse_price(trade: PlannedTrade, falls: Mapping[str, Decimal]) -> PlannedTrade:
    if trade.side is Side.BUY:
        return trade
    return replace(
        trade, price=(trade.price * (1 - falls.get(trade.symbol, ADVERSE_LEAST))).quantize(Decimal("0.0001"))
    )


def adverse_moves(house: House) -> dict[str, Decimal]:
    """How far each price may fall before its order fills, as a fraction: a bound for checks, not a forecast."""
    moves = {}
    for name, sigma in volatility_of(house).items():
        known = Decimal(repr(round(sigma, 6))) if math.isfinite(sigma) else Decimal("0.1")
        moves[name] = min(max(ADVERSE_DEVIATIONS * known, ADVERSE_LEAST), Decimal("0.9"))
    return moves


def wash_conflicts(ledger: Ledger, trades: Sequence[PlannedTrade], rehearsal: WhatIf) -> dict[str, Reason]:
    """Symbols whose planned trades would disallow a loss, each with the trade of the household that is in the way."""
    conflicts: dict[str, Reason] = {}
    for row in rehearsal.realized:
        if row.disallowed > 0:
            cause = row.matches[0]
            conflicts[row.symbol] = because(
                ReasonCode.WASH_WHAT_IF_DISALLOWS,
                symbol=row.symbol,
                disallowed_usd=round(row.disallowed, 2),
                purchase=cause.replacement_date,
                account=cause.replacement_account_id,
            )
    for change in rehearsal.changed:
        if change.after.disallowed > change.before.disallowed:
            for symbol in sorted({trade.symbol for trade in trades} & ledger.group_of(change.after.symbol)):
                conflicts[symbol] = because(
                    ReasonCode.WASH_LOSS_SALE_IN_WINDOW,
                    symbol=symbol,
                    sold=change.after.disposed,
                    account=change.after.account_id,
                )
    return conflicts


def situation_of(
    house: House,
    snapshot: Snapshot,
    triggers: tuple[Reason, ...],
    opportunities: tuple[Opportunity, ...],
    masks: WashMasks,
) -> Situation:
    """What the optimizer is told."""
    settings = house.settings.optimizer
    # A position outside the benchmark is known, watched and reported, but not in the program.
    queues = {symbol: queue for symbol, queue in queues_of(snapshot).items() if symbol in house.names}
    rebalance = any(reason.code is not ReasonCode.TRIGGER_CASH for reason in triggers) or not queues
    breach = any(reason.code is ReasonCode.TRIGGER_TRACKING_ERROR for reason in triggers)
    breach = breach and not _rejected_lately(house, snapshot)
    locked = _locked(house, snapshot)
    active = active_weights(house, snapshot)
    today = today_of(house, snapshot)
    waiting = at_stake(opportunities)
    underweight = {
        name: -float(weight)
        for name, weight in zip(house.names, active, strict=True)
        if name not in masks.no_buy and name not in locked and name not in waiting
    }
    quotes = snapshot.quotes
    return Situation(
        today=today,
        names=house.names,
        nav=snapshot.nav,
        cash=snapshot.cash,
        prices=snapshot.prices,
        half_spreads={
            name: float((quotes[name].ask - quotes[name].bid) / 2 / quotes[name].mid) for name in house.names
        },
        queues=queues,
        benchmark_weights=house.benchmark_weights(today),
        risk=house.risk(),
        sectors=sectors_of(house),
        masks=masks,
        locked=locked,
        opportunities=opportunities,
        outside_weight=float(
            sum((snapshot.weights[name] for name in snapshot.positions if name not in house.names), ZERO)
        ),
        adverse_moves={name: float(fall) for name, fall in adverse_moves(house).items()},
        deposit_names=deposit_names(
            today=today,
            names=house.names,
            queues=queues,
            prices=snapshot.prices,
            volatility=volatility_of(house),
            masks=masks,
            profile=house.tax_profile,
            policy=house.harvest_policy,
            underweight=underweight,
            most=settings.deposit_names_max,
            homes=homes_of(house, snapshot.account),
            ordered=snapshot.account.relief_method.value != "specific",
        ),
        rebalance=rebalance,
        at_stake=waiting if not rebalance else _heavy(waiting, opportunities, snapshot.nav),
        breach=breach,
        gain_max=math.inf if breach else settings.rebalance_gain_max_pct / 100,
        profile=house.tax_profile,
        policy=PlanPolicy(
            tracking_error_max=settings.tracking_error_max_bps / 1e4,
            tracking_error_room=settings.tracking_error_room_pct / 100,
            risk_aversion=settings.risk_aversion,
            name_weight_max=settings.name_weight_max_pct / 100,
            sector_deviation_max=settings.sector_deviation_max_pct / 100
            if settings.sector_deviation_max_pct < 100
            else float("inf"),
            turnover_max=settings.turnover_max_pct / 100,
            cash_min=settings.cash_min_pct / 100,
            cash_max=settings.cash_max_pct / 100,
            minimum_trade_usd=settings.minimum_trade_usd,
            whole_shares=settings.whole_shares,
            ordered_relief=snapshot.account.relief_method.value != "specific",
        ),
    )


def _plan(house: House, snapshot: Snapshot, proposal: Proposal, triggers: Sequence[Reason]) -> Plan:
    session = today_of(house, snapshot)
    account_id = snapshot.account.account_id
    sequence = house.store.plans.next_sequence(account_id, session)
    return Plan(
        plan_id=f"{account_id}-{session:%Y%m%d}-{sequence}",
        account_id=account_id,
        session=session,
        sequence=sequence,
        created_at=snapshot.now,
        state=PlanState.PROPOSED,
        trades=proposal.trades,
        triggers=tuple(str(reason) for reason in triggers),
        nav=snapshot.nav.quantize(Decimal("0.01")),
        tracking_error_before_bps=proposal.tracking_error_before * 1e4,
        tracking_error_after_bps=proposal.tracking_error_after * 1e4,
        weights_before=snapshot.weights,
        weights_planned=proposal.weights_planned,
        reasons=(*(str(reason) for reason in proposal.reasons), *proposal.notes),
        certified_gap_bp=proposal.certified_gap_bp,
    )


# ------------------------------------------------------------------ may it be done


def check(house: House, snapshot: Snapshot, proposed: Proposed | None) -> tuple[Reason, ...]:
    """Everything that forbids the plan; empty when it is clean."""
    if proposed is None:
        return ()
    return check_plan(house, snapshot, proposed.plan)


def check_plan(house: House, snapshot: Snapshot, plan: Plan) -> tuple[Reason, ...]:
    """Compliance and the replay on the ledger, for a new plan and again for an approved one at fresh prices."""
    if not plan.trades:
        return ()
    today = today_of(house, snapshot)
    rehearsal = rehearse(house, snapshot, plan.trades, today, without=plan.plan_id)
    conflicts = wash_conflicts(snapshot.ledger, plan.trades, rehearsal)
    return (*conflicts.values(), *comply(plan.trades, compliance_facts(house, snapshot, plan, rehearsal)))


def compliance_facts(house: House, snapshot: Snapshot, plan: Plan, rehearsal: WhatIf) -> ComplianceFacts:
    """What the rules look at."""
    today = today_of(house, snapshot)
    execution = house.settings.execution
    sent = house.store.orders.list(account_id=plan.account_id, session=today)
    ledger = snapshot.ledger
    return ComplianceFacts(
        relief_method=snapshot.account.relief_method,
        positions=snapshot.positions,
        queues=queues_of(snapshot),
        previous_closes=house.last_closes(),
        masks=masks_for(house, snapshot, today, without=plan.plan_id),
        disallowed_by_leg=_disallowed_by_leg(rehearsal),
        newly_disallowed={
            change.after.sale_id: change.after.disallowed - change.before.disallowed
            for change in rehearsal.changed
            if change.after.disallowed > change.before.disallowed
        },
        cash_usd=snapshot.cash,
        cash_reserve_usd=ZERO,
        order_max_usd=execution.order_max_usd,
        daily_max_usd=execution.daily_notional_max_usd,
        price_collar=execution.price_collar_pct / 100,
        submitted_today_usd=sum((one.submitted_quantity * one.reference_price for one in sent), ZERO),
        restricted=frozenset(execution.restricted_symbols),
        locked=_locked(house, snapshot),
        untradable=frozenset(symbol for symbol, item in house.securities().items() if not item.tradable),
        minimum_buy_usd=Decimal(1),
        fractionable=frozenset(symbol for symbol, item in house.securities().items() if item.fractionable),
        identical_group={name: min(ledger.group_of(name)) for name in (*house.names, *snapshot.positions)},
    )


def _disallowed_by_leg(rehearsal: WhatIf) -> dict[int, Decimal]:
    """Disallowed loss of each sell leg the rehearsal answers for; a leg that is absent is unknown."""
    found: dict[int, Decimal] = {}
    for row in rehearsal.realized:
        if row.sale_id.startswith(PLANNED):
            leg = int(row.sale_id.removeprefix(PLANNED))
            found[leg] = found.get(leg, ZERO) + row.disallowed
    return found
