"""The scan and the proposal of one account: the strategy asked with what is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import structlog

from daemon.facts import active_weights, is_ready, locked_symbols, sectors_of, today_of
from daemon.house import House
from daemon.rehearsal import adverse_moves, masks_for, rehearse, wash_conflicts
from daemon.sync import Snapshot
from daemon.triggers import rejected_lately
from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, Account, Lot, Plan, PlanState
from strategy.compliance import well_formed
from strategy.deposits import deposit_names
from strategy.propose import PlanPolicy, Proposal, Situation
from strategy.propose import propose as solve
from strategy.replacements import choose_replacements
from strategy.scan import scan as scan_losses
from strategy.types import Opportunity, WashMasks

log = structlog.get_logger("planning")

MOST_RETRIES = 6
SOLVE_WITHIN_S = 12.0  # of 0.2 that 500 names take; with all retries less than the watchdog's patience
HEAVY_LOSS = Decimal("0.0025")  # of net asset value


def scan(house: House, snapshot: Snapshot) -> tuple[Opportunity, ...]:
    """One opportunity a name with a loss, taken or not, each with its reason.

    Names whose own loss waits replace nothing, and which those are only a first look can say. In the second look a
    name's answer changes where the first left it something to buy instead and this one does not.
    """
    if not house.settings.harvest.enabled or not is_ready(house, snapshot):
        return ()
    today = today_of(house, snapshot)
    masks = masks_for(house, snapshot, today)
    locked = locked_symbols(house, snapshot)
    closed = frozenset(masks.no_buy) | locked
    free = _replacements(house, snapshot.queues, closed)
    first_look = _scan(house, snapshot, masks, locked, free, snapshot.queues)
    left = _replacements(house, [item.symbol for item in first_look], closed | at_stake(first_look))
    changed = {name: snapshot.queues[name] for name, some in left.items() if bool(some) != bool(free[name])}
    again = {item.symbol: item for item in _scan(house, snapshot, masks, locked, left, changed)}
    return tuple(again.get(item.symbol) or item.with_replacements(left[item.symbol]) for item in first_look)


def at_stake(opportunities: Iterable[Opportunity]) -> frozenset[str]:
    """Names whose own loss is past its trigger: bought now, they could not be harvested for another 30 days."""
    waiting = (ReasonCode.HARVEST_TAKEN, ReasonCode.WASH_PURCHASE_IN_WINDOW, ReasonCode.REPLACEMENT_NONE_FREE)
    return frozenset(item.symbol for item in opportunities if item.verdict.code in waiting)


def _heavy(waiting: frozenset[str], opportunities: Iterable[Opportunity], nav: Decimal) -> frozenset[str]:
    """Those whose waiting loss is too large to be locked up for the sake of a weight."""
    least = HEAVY_LOSS * nav
    return frozenset(item.symbol for item in opportunities if item.symbol in waiting and item.gross_loss_usd > least)


def _replacements(house: House, names: Iterable[str], excluded: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
    groups = {name: house.ledger.group_of(name) for name in house.names}
    return choose_replacements(
        names=names,
        model=house.risk(),
        sectors=sectors_of(house),
        excluded=excluded,
        identical=lambda one, other: other in groups[one],
        count=house.settings.harvest.replacements_per_name,
    )


def _scan(
    house: House,
    snapshot: Snapshot,
    masks: WashMasks,
    locked: frozenset[str],
    replacements: Mapping[str, tuple[str, ...]],
    queues: Mapping[str, tuple[Lot, ...]],
) -> tuple[Opportunity, ...]:
    return scan_losses(
        today=today_of(house, snapshot),
        queues=queues,
        prices=snapshot.prices,
        volatility=house.volatility(),
        masks=masks,
        replacements=replacements,
        homes=house.homes(snapshot.account.account_id),
        locked=locked,
        profile=house.tax_profile,
        policy=house.harvest_policy,
        ordered=snapshot.account.relief_method.is_ordered,
    )


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
    if not is_ready(house, snapshot) or not (triggers or taken):
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
        proposal = _answered(situation)
        rehearsal = rehearse(house, snapshot, proposal.trades, today)
        conflicts = wash_conflicts(snapshot.ledger, proposal.trades, rehearsal)
        if not conflicts:
            break
        masks, opportunities = _closed(masks, opportunities, conflicts, today)
    else:
        proposal = replace(proposal, trades=(), reasons=tuple(conflicts.values()))
    return Proposed(_plan(house, snapshot, proposal, reasons), proposal, tuple(reasons))


def _answered(situation: Situation) -> Proposal:
    """What the strategy proposes; without trades where it fails, or answers with what is no plan (I10)."""
    try:
        proposal = solve(situation)
    except Exception as fault:  # whatever it stumbles over: no plan means no trades, and the next session plans anew
        log.exception("the optimizer failed")
        return _no_plan(situation, type(fault).__name__, str(fault))
    figures = (proposal.tracking_error_before, proposal.tracking_error_after, proposal.certified_gap_bp or 0.0)
    if not all(map(math.isfinite, figures)):
        return _no_plan(situation, "no numbers", f"tracking error {figures[0]} before and {figures[1]} after")
    malformed = well_formed(proposal.trades)
    return replace(proposal, trades=(), reasons=malformed) if malformed else proposal


def _no_plan(situation: Situation, status: str, why: str) -> Proposal:
    reason = because(ReasonCode.PLAN_SOLVER_FAILED, status=status, why=why or "no words")
    return Proposal((), (reason,), 0.0, 0.0, None, situation.opportunities)


def _closed(
    masks: WashMasks, opportunities: tuple[Opportunity, ...], conflicts: Mapping[str, Reason], today: date
) -> tuple[WashMasks, tuple[Opportunity, ...]]:
    closed = {symbol: (today, str(reason)) for symbol, reason in conflicts.items()}
    kept = tuple(
        replace(item, taken=False, verdict=conflicts[item.symbol]) if item.taken and item.symbol in conflicts else item
        for item in opportunities
    )
    return WashMasks({**masks.no_buy, **closed}, {**masks.no_loss_sale, **closed}), kept


def situation_of(
    house: House,
    snapshot: Snapshot,
    triggers: tuple[Reason, ...],
    opportunities: tuple[Opportunity, ...],
    masks: WashMasks,
) -> Situation:
    """What the optimizer is told."""
    settings = house.settings.optimizer
    names = frozenset(house.names)
    # A position outside the benchmark is known, watched and reported, but not in the program.
    queues = {symbol: queue for symbol, queue in snapshot.queues.items() if symbol in names}
    rebalance = any(reason.code is not ReasonCode.TRIGGER_CASH for reason in triggers) or not queues
    breach = any(reason.code is ReasonCode.TRIGGER_TRACKING_ERROR for reason in triggers)
    breach = breach and not rejected_lately(house, snapshot)
    locked = locked_symbols(house, snapshot)
    today = today_of(house, snapshot)
    waiting = at_stake(opportunities)
    quotes = snapshot.quotes
    return Situation(
        today=today,
        names=house.names,
        nav=snapshot.nav,
        cash=snapshot.cash,
        prices=snapshot.prices,
        half_spreads={
            name: float((quote.ask - quote.bid) / 2 / quote.mid) for name, quote in quotes.items() if quote.is_usable
        },
        queues=queues,
        benchmark_weights=house.benchmark_weights(today),
        risk=house.risk(),
        sectors=sectors_of(house),
        masks=masks,
        locked=locked,
        opportunities=opportunities,
        outside_weight=float(sum((snapshot.weights[name] for name in snapshot.positions if name not in names), ZERO)),
        adverse_moves={name: float(fall) for name, fall in adverse_moves(house).items()},
        deposit_names=() if rebalance else _deposit_names(house, snapshot, masks, locked | waiting),
        rebalance=rebalance,
        at_stake=waiting if not rebalance else _heavy(waiting, opportunities, snapshot.nav),
        minimum_loss_usd=house.harvest_policy.minimum_loss_usd,
        breach=breach,
        gain_max=math.inf if breach else settings.rebalance_gain_max_pct / 100,
        profile=house.tax_profile,
        policy=plan_policy(house, snapshot.account),
    )


def _deposit_names(house: House, snapshot: Snapshot, masks: WashMasks, left_alone: frozenset[str]) -> tuple[str, ...]:
    """Where new cash goes; a rebalance may buy every name and needs none."""
    active = active_weights(house, snapshot)
    return deposit_names(
        today=today_of(house, snapshot),
        names=house.names,
        queues=snapshot.queues,
        prices=snapshot.prices,
        volatility=house.volatility(),
        masks=masks,
        profile=house.tax_profile,
        policy=house.harvest_policy,
        underweight={
            name: -float(weight)
            for name, weight in zip(house.names, active, strict=True)
            if name not in masks.no_buy and name not in left_alone
        },
        most=house.settings.optimizer.deposit_names_max,
        homes=house.homes(snapshot.account.account_id),
        ordered=snapshot.account.relief_method.is_ordered,
    )


def plan_policy(house: House, account: Account) -> PlanPolicy:
    """The settings' limits of a plan, as fractions."""
    settings = house.settings.optimizer
    return PlanPolicy(
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
        ordered_relief=account.relief_method.is_ordered,
        time_limit_s=SOLVE_WITHIN_S,
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
        reasons=tuple(str(reason) for reason in proposal.reasons),
        notes=proposal.notes,
        certified_gap_bp=proposal.certified_gap_bp,
    )
