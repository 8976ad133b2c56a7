"""From what is known to a plan's trades: build the lot-level program, solve it, round it, name the lots.

What may be traded depends on why we trade:

    harvest      sells: the prefixes that the scan took           buys: their replacements, and the deposit names
    cash         sells: none                                      buys: the deposit names
    rebalance    sells: those prefixes, and the other names' queues up to the first loss lot that a wash-sale
                 window blocks, or the first lot with more gain than a rebalance may realize (any, when it
                 mends a breach of the tracking-error limit)      buys: every name outside every window

A name whose harvest was taken is never bought in the same plan. Losses below their trigger are sold only by a
rebalance that needs the name smaller anyway. When the tracking-error limit cannot be met the program is solved
again for the least tracking error that can be reached, and the plan says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cached_property
from itertools import groupby
from operator import itemgetter

import numpy as np

from state.lots import lot_term
from state.reasons import Reason, ReasonCode, because
from state.records import QUANTUM, ZERO, Lot, PlannedLot, PlannedTrade, Side, Term, TradeReason
from strategy.optimizer import Limits, LotProgram, Solution
from strategy.risk import RiskModel
from strategy.rounding import RoundedTrades, optimize_rounded
from strategy.types import BoolArray, FloatArray, IntArray, Opportunity, TaxProfile, WashMasks

MOST_SOLVES = 6
LEAST_TIME_S = 0.01  # what is left of a time limit is never none: the solver says that it was stopped
SPARE_CASH = 0.005  # of NAV: above the maximum, where whole shares cannot meet it; the next deposit plan invests it


@dataclass(frozen=True)
class PlanPolicy:
    """Limits of a plan. Fractions of net asset value unless the name says otherwise."""

    tracking_error_max: float
    tracking_error_room: float  # fraction of the limit that a plan leaves unused, for what prices do afterwards
    risk_aversion: float
    name_weight_max: float
    sector_deviation_max: float
    turnover_max: float
    cash_min: float
    cash_max: float
    minimum_trade_usd: Decimal
    whole_shares: bool
    ordered_relief: bool
    time_limit_s: float = math.inf  # wall clock, for the whole proposal: a guard, far beyond what it takes


@dataclass(frozen=True)
class Situation:
    """What is known of one account when a plan is made. Axes follow `names`."""

    today: date
    names: tuple[str, ...]
    nav: Decimal
    cash: Decimal
    prices: Mapping[str, Decimal]
    half_spreads: Mapping[str, float]  # fraction of price
    queues: Mapping[str, Sequence[Lot]]  # open lots in the order the broker would dispose of them
    benchmark_weights: FloatArray
    risk: RiskModel
    sectors: Mapping[str, str]
    masks: WashMasks
    locked: frozenset[str]
    opportunities: tuple[Opportunity, ...]
    deposit_names: tuple[str, ...]
    rebalance: bool
    at_stake: frozenset[str]  # names not to buy, because their own loss waits to be harvested
    minimum_loss_usd: Decimal  # a harvest of less is none
    breach: bool  # tracking error is above its limit before the plan
    gain_max: float  # a rebalance sells no lot with a larger gain, as a fraction of its value
    profile: TaxProfile
    policy: PlanPolicy
    solve_until: float = field(default=math.inf, kw_only=True)  # perf_counter seconds
    adverse_moves: Mapping[str, float] = field(default_factory=dict)  # fall to allow for before a sale fills
    outside_weight: float = 0.0  # of positions that are not in `names`

    @cached_property
    def shares_held(self) -> Mapping[str, Decimal]:
        """Shares of every name before the plan."""
        return {name: sum((lot.quantity for lot in self.queues.get(name, ())), ZERO) for name in self.names}


@dataclass(frozen=True)
class Proposal:
    """The trades of a plan and what the program says of them. No trades: `reasons` says why."""

    trades: tuple[PlannedTrade, ...]
    reasons: tuple[Reason, ...]
    tracking_error_before: float
    tracking_error_after: float
    certified_gap_bp: float | None
    opportunities: tuple[Opportunity, ...]
    weights_planned: Mapping[str, Decimal] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def propose(situation: Situation) -> Proposal:
    """Solve for the trades that keep tracking and take the losses worth taking.

    Returns a Proposal; infeasible or failed programs give one without trades and with the reasons (I10).
    """
    holdings = _holdings(situation)
    situation = replace(situation, solve_until=time.perf_counter() + situation.policy.time_limit_s)
    for _ in range(MOST_SOLVES):
        solution, rounded, notes, before = _solved(situation, holdings)
        if not solution.has_plan or rounded is None:
            code = ReasonCode.PLAN_INFEASIBLE if solution.status == "infeasible" else ReasonCode.PLAN_SOLVER_FAILED
            reason = because(code, status=solution.status, why="; ".join(solution.reasons) or "none given")
            return Proposal((), (reason,), before, before, None, _not_selected(situation.opportunities, ()))
        trades = _trades(situation, rounded)
        scraps = {trade.symbol for trade in trades if _is_scrap(trade, situation.minimum_loss_usd)}
        if not scraps:
            break
        situation = replace(situation, opportunities=_without(situation.opportunities, scraps))
    else:
        trades = ()
    if not trades:
        nothing = because(ReasonCode.PLAN_NOTHING_TO_DO)
        left_out = _not_selected(situation.opportunities, ())
        return Proposal((), (nothing,), before, before, solution.certified_gap_bp, left_out, notes=notes)
    shares = planned_shares(situation, trades)
    weights = {name: shares[name] * situation.prices[name] / situation.nav for name in situation.names}
    after = situation.risk.tracking_error(_floats(weights, situation.names) - situation.benchmark_weights)
    return Proposal(
        trades=_with_effects(situation, trades, after),
        reasons=(),
        tracking_error_before=before,
        tracking_error_after=after,
        certified_gap_bp=solution.certified_gap_bp,
        opportunities=_not_selected(situation.opportunities, trades),
        weights_planned={name: weight.quantize(Decimal("0.000001")) for name, weight in weights.items() if weight},
        notes=notes,
    )


def _limit(situation: Situation) -> float:
    return situation.policy.tracking_error_max * (1 + 1e-6)


def _solved(situation: Situation, holdings: _Holdings) -> tuple[Solution, RoundedTrades | None, tuple[str, ...], float]:
    """The solution, its whole shares, notes, and tracking error before (a fraction)."""
    program = build_program(situation, holdings)
    before = situation.risk.tracking_error(program.weights_held - program.benchmark_weights)
    solution, rounded, notes = _solve(situation, program)
    if situation.breach and situation.at_stake and not (rounded and solution.tracking_error <= _limit(situation)):
        # Mending the breach needs names whose own losses wait: the limit comes first.
        anything = replace(situation, at_stake=frozenset())
        solution, rounded, notes = _solve(situation, build_program(anything, holdings))
    return solution, rounded, notes, before


def _is_scrap(trade: PlannedTrade, minimum_loss_usd: Decimal) -> bool:
    """A part of a harvest that is none: the gains in front of its losses, or less loss than is worth an order."""
    return trade.reason.is_harvest and -trade.gain_loss < minimum_loss_usd


def _without(opportunities: tuple[Opportunity, ...], symbols: AbstractSet[str]) -> tuple[Opportunity, ...]:
    return tuple(
        replace(item, taken=False, verdict=because(ReasonCode.HARVEST_NOT_SELECTED, symbol=item.symbol))
        if item.symbol in symbols
        else item
        for item in opportunities
    )


def _taken(situation: Situation) -> dict[str, Opportunity]:
    return {item.symbol: item for item in situation.opportunities if item.taken}


@dataclass(frozen=True, eq=False)
class _Holdings:
    """The lots as the optimizer sees them: what no choice of names to trade changes. Axes as in `LotProgram`."""

    lots: tuple[tuple[int, Lot], ...]  # (L,) with the index of each one's name
    weights_held: FloatArray
    lot_name: IntArray
    lot_weight: FloatArray
    lot_gain: FloatArray
    lot_long_term: BoolArray
    lot_order: IntArray


def _holdings(situation: Situation) -> _Holdings:
    names, nav, today = situation.names, float(situation.nav), situation.today
    lots = tuple((place, lot) for place, name in enumerate(names) for lot in situation.queues.get(name, ()))
    price = [float(situation.prices[name]) for name in names]
    lot_name = np.array([place for place, _ in lots], dtype=np.int64)
    lot_weight = np.array([float(lot.quantity) * price[place] / nav for place, lot in lots], dtype=np.float64)
    return _Holdings(
        lots=lots,
        weights_held=np.bincount(lot_name, lot_weight, len(names)).astype(np.float64),
        lot_name=lot_name,
        lot_weight=lot_weight,
        lot_gain=np.array([1.0 - float(lot.basis_per_share) / price[place] for place, lot in lots], dtype=np.float64),
        lot_long_term=np.array([lot_term(lot, today) is Term.LONG for _, lot in lots], dtype=bool),
        lot_order=np.arange(len(lots)) - np.searchsorted(lot_name, lot_name),  # the place in its own queue
    )


def build_program(situation: Situation, holdings: _Holdings) -> LotProgram:
    """The lot-level program of one situation, everything in fractions of net asset value."""
    taken = _taken(situation)
    names, policy = situation.names, situation.policy
    nav = float(situation.nav)
    profile, infinity = situation.profile, math.inf
    cash, may_buy = float(situation.cash) / nav, _may_buy(situation, taken)
    k = situation.risk.loadings.shape[1]
    sectors = sorted({situation.sectors.get(name, "") for name in names})
    return LotProgram(
        weights_held=holdings.weights_held,
        benchmark_weights=situation.benchmark_weights,
        lot_name=holdings.lot_name,
        lot_weight=holdings.lot_weight,
        lot_gain=holdings.lot_gain,
        lot_long_term=holdings.lot_long_term,
        lot_order=holdings.lot_order,
        relief="ordered" if policy.ordered_relief else "free",
        tax_pieces=np.array([[profile.short_term_rate, profile.long_term_rate, 0.0]]),
        half_spread=np.array([situation.half_spreads.get(name, 0.0) for name in names]),
        factor_loadings=situation.risk.loadings,
        factor_covariance=situation.risk.factor_covariance,
        specific_variance=situation.risk.specific_variance,
        sector=np.array([sectors.index(situation.sectors.get(name, "")) for name in names], dtype=np.int64),
        may_buy=may_buy,
        may_sell=_may_sell(situation, taken, holdings.lots),
        limits=Limits(
            risk_aversion=policy.risk_aversion,
            tax_weight=1.0,
            tracking_error_max=policy.tracking_error_max,
            name_weight_max=np.maximum(np.full(len(names), policy.name_weight_max), situation.benchmark_weights + 0.02),
            sector_deviation_max=policy.sector_deviation_max,
            factor_exposure_min=np.full(k, -infinity),
            factor_exposure_max=np.full(k, infinity),
            turnover_max=policy.turnover_max,
            net_gain_max=infinity,
            cash_min=min(policy.cash_min, max(cash, 0.0)) + situation.outside_weight,
            cash_max=max(policy.cash_max, 0.0 if may_buy.any() else cash + 1e-6) + situation.outside_weight,
            lot_age_hygiene=0.0,
        ),
        labels=names,
    )


def _may_buy(situation: Situation, taken: Mapping[str, Opportunity]) -> BoolArray:
    if situation.rebalance:
        wanted = set(situation.names)
    else:
        wanted = set(situation.deposit_names)
        for item in taken.values():
            wanted.update(item.replacements)
    closed = set(situation.masks.no_buy) | set(taken) | situation.locked | situation.at_stake
    return np.array([name in wanted and name not in closed for name in situation.names], dtype=bool)


def _may_sell(situation: Situation, taken: Mapping[str, Opportunity], lots: Sequence[tuple[int, Lot]]) -> BoolArray:
    """A harvest offers its prefix; a rebalance offers other queues up to the first loss lot a window blocks."""
    prefix = {name: {lot.lot_id + str(lot.adjusted_acquired) for lot in item.lots} for name, item in taken.items()}
    allowed: list[bool] = []
    for place, queue in groupby(lots, key=itemgetter(0)):
        name = situation.names[place]
        if name in prefix:
            is_free = name not in situation.locked
            allowed.extend(is_free and lot.lot_id + str(lot.adjusted_acquired) in prefix[name] for _, lot in queue)
        else:
            allowed.extend(_up_to_a_block(situation, name, [lot for _, lot in queue]))
    return np.array(allowed, dtype=bool)


def _up_to_a_block(situation: Situation, name: str, queue: Sequence[Lot]) -> list[bool]:
    """What a rebalance may sell of a name whose harvest was not taken: the lots in front of the first one blocked."""
    if not situation.rebalance or name in situation.locked:
        return [False] * len(queue)
    price = situation.prices[name]
    washes = name in situation.masks.no_loss_sale
    worst = price * (1 - Decimal(repr(situation.adverse_moves.get(name, 0.0))))
    for place, lot in enumerate(queue):
        is_loss = not lot.basis_known or lot.basis_at(worst) > lot.quantity * worst
        if (washes and is_loss) or 1 - float(lot.basis_per_share / price) > situation.gain_max:
            return [True] * place + [False] * (len(queue) - place)
    return [True] * len(queue)


def _solve(situation: Situation, program: LotProgram) -> tuple[Solution, RoundedTrades | None, tuple[str, ...]]:
    """Solve within the tracking-error limit, or without adding to what is already above it; then whole shares.

    Below the limit a plan leaves room for what prices do afterwards, but never has to trade to make that room.
    """
    limit = situation.policy.tracking_error_max
    before = situation.risk.tracking_error(program.weights_held - program.benchmark_weights)
    no_worse = before * (1 + 1e-6) + 1e-9
    roomy = limit * (1 - situation.policy.tracking_error_room)
    caps = [max(roomy, min(no_worse, limit)), limit]
    if before > limit:
        steps = (limit + (before - limit) * part for part in (0.0, 0.25, 0.5, 0.75))
        caps = [*steps, no_worse] if situation.breach else [no_worse]
    cap, roomier = caps[0], program
    solution, rounded = _attempt(situation, program, cap, explain=situation.breach)
    why = solution.reasons
    # Whole shares may leave a little more cash than its maximum: that must not cost the plan.
    for cap, more_cash in [*((cap, 0.0) for cap in caps[1:]), (caps[-1], SPARE_CASH)]:
        if solution.status != "infeasible":
            break
        roomier = replace(program, limits=replace(program.limits, cash_max=program.limits.cash_max + more_cash))
        solution, rounded = _attempt(situation, roomier, cap, explain=False)
    if not solution.has_plan:
        return *_attempt(situation, roomier, cap, explain=True), ()
    if before <= limit or solution.tracking_error <= limit:
        return solution, rounded, ()
    least = f" ({'; '.join(why)})" if situation.breach and why else " without realizing gains that were not asked for"
    left = f"the plan leaves {solution.tracking_error * 1e4:.0f} bp"
    return solution, rounded, (f"The {limit * 1e4:.0f} bp tracking-error limit cannot be met{least}; {left}.",)


def _attempt(
    situation: Situation, program: LotProgram, cap: float, *, explain: bool
) -> tuple[Solution, RoundedTrades | None]:
    nav = float(situation.nav)
    return optimize_rounded(
        replace(program, limits=replace(program.limits, tracking_error_max=cap)),
        price_weight=np.array([float(situation.prices[name]) / nav for name in situation.names]),
        whole_shares=situation.policy.whole_shares,
        minimum_trade=float(situation.policy.minimum_trade_usd) / nav,
        time_limit_s=max(situation.solve_until - time.perf_counter(), LEAST_TIME_S),
        explain=explain,
    )


def _trades(situation: Situation, rounded: RoundedTrades) -> tuple[PlannedTrade, ...]:
    """Legs: sells before buys, each in the order of names; buys follow the harvests they replace."""
    taken = _taken(situation)
    sells, buys = [], []
    for place, name in enumerate(situation.names):
        sold = _quantity(rounded.sell_shares[place], situation.policy.whole_shares, situation.shares_held[name])
        bought = _quantity(rounded.buy_shares[place], situation.policy.whole_shares, None)
        if sold > 0:
            sells.append(_sell(situation, name, sold, taken.get(name)))
        elif bought > 0:
            buys.append(_buy(situation, name, bought))
    paired_sells, paired_buys = pair(sells, buys, taken)
    legs = [*paired_sells, *paired_buys]
    return tuple(replace(trade, leg=number) for number, trade in enumerate(legs, start=1))


def _quantity(shares: float, whole: bool, most: Decimal | None) -> Decimal:
    """Floats leave the numerics here: whole shares rounded down, or nine decimals. A sale of all takes all exactly,
    the fraction that a split may have left included."""
    if most is not None and shares > 0 and float(most) - shares < (1e-6 if whole else 1e-5):
        return most
    return Decimal(math.floor(shares + 1e-6)) if whole else Decimal(repr(float(shares))).quantize(QUANTUM)


def _sell(situation: Situation, name: str, quantity: Decimal, item: Opportunity | None) -> PlannedTrade:
    price = situation.prices[name]
    lots = planned_lots(situation.queues[name], quantity, price, situation.today)
    gain = sum((lot.gain_loss for lot in lots), ZERO)
    if item is not None:
        reason, days, why = item.reason, *_harvest_words(situation, lots, item)
    else:
        why = "brings the weight back towards the benchmark" + (f", realizing {gain:,.0f} USD" if gain else "")
        reason, days = TradeReason.REBALANCE, (situation.today - lots[0].acquired).days
    cost = (quantity * price * Decimal(repr(situation.half_spreads.get(name, 0.0)))).quantize(Decimal("0.01"))
    return PlannedTrade(0, name, Side.SELL, quantity, price, reason, why, lots=lots, days_held=days, cost=cost)


def _harvest_words(situation: Situation, lots: Sequence[PlannedLot], item: Opportunity) -> tuple[int, str]:
    """Days the oldest loss lot was held, and why this sale is worth it: figures of the lots sold, at plan prices."""
    losses = [lot for lot in lots if lot.gain_loss < 0] or list(lots)
    depth = -sum((lot.gain_loss for lot in losses), ZERO) / sum((lot.basis for lot in losses), ZERO)
    profile = situation.profile
    rates = {Term.SHORT: profile.short_term_rate, Term.LONG: profile.long_term_rate}
    worth = -sum(float(lot.gain_loss) * rates[lot.term] for lot in lots)
    days = max((situation.today - lot.acquired).days for lot in losses)
    text = (
        f"loss lots {depth:.1%} below basis, trigger {item.trigger_fraction:.1%}; saves about {worth:,.0f} USD of tax"
    )
    return days, f"{text} at the stated rates, before cost"


def planned_lots(queue: Sequence[Lot], quantity: Decimal, price: Decimal, today: date) -> tuple[PlannedLot, ...]:
    """The lots a sale of `quantity` disposes of, in the broker's order, with gain or loss at `price` (USD)."""
    planned, left = [], quantity
    for lot in queue:
        if left <= 0:
            break
        part = min(left, lot.quantity)
        whole = lot.basis_at(price)
        basis = whole if part == lot.quantity else (whole * part / lot.quantity).quantize(Decimal("0.000001"))
        planned.append(
            PlannedLot(
                lot_id=lot.lot_id,
                acquired=lot.acquired,
                quantity=part,
                basis=basis,
                term=lot_term(lot, today),
                gain_loss=(part * price - basis).quantize(Decimal("0.01")),
                disallowed=ZERO,
            )
        )
        left -= part
    if left > 0:
        raise ValueError(f"Expected lots for a sale of {quantity}, the queue is {left} short")
    return tuple(planned)


def _buy(situation: Situation, name: str, quantity: Decimal) -> PlannedTrade:
    price = situation.prices[name]
    cost = (quantity * price * Decimal(repr(situation.half_spreads.get(name, 0.0)))).quantize(Decimal("0.01"))
    reason = TradeReason.DEPOSIT if not situation.rebalance else TradeReason.REBALANCE
    why = (
        "invests new cash in a name unlikely to be harvested soon"
        if not situation.rebalance
        else ("brings the weight back towards the benchmark")
    )
    return PlannedTrade(0, name, Side.BUY, quantity, price, reason, why, cost=cost)


def pair(
    sells: Sequence[PlannedTrade], buys: Sequence[PlannedTrade], taken: Mapping[str, Opportunity]
) -> tuple[list[PlannedTrade], list[PlannedTrade]]:
    """Join harvests with what replaces them, dollar by dollar: first its own candidates, then any other buy.

    Returns sells with `replacement` set, and buys ordered as the sells they replace, with reason REPLACEMENT and
    `replacement` naming the harvested names.
    """
    left = {trade.symbol: trade.notional for trade in buys}
    homes: dict[str, list[str]] = {trade.symbol: [] for trade in buys}
    paired: list[PlannedTrade] = []
    for sell in sells:
        if not sell.reason.is_harvest:
            paired.append(sell)
            continue
        own = [name for name in taken[sell.symbol].replacements if name in left]
        others = sorted((name for name in left if name not in own), key=lambda name: (-left[name], name))
        need, used = sell.notional, []
        for name in (*own, *others):
            if need <= 0 or left[name] <= 0:
                continue
            part = min(need, left[name])
            left[name] -= part
            need -= part
            used.append(name)
            homes[name].append(sell.symbol)
        paired.append(replace(sell, replacement=tuple(used)))
    order = list(dict.fromkeys(name for sell in paired for name in sell.replacement))
    rank = {name: place for place, name in enumerate(order)}
    ordered = sorted(buys, key=lambda trade: (rank.get(trade.symbol, len(rank)), trade.symbol))
    return paired, [_as_replacement(trade, tuple(homes[trade.symbol])) for trade in ordered]


def _as_replacement(trade: PlannedTrade, homes: tuple[str, ...]) -> PlannedTrade:
    if not homes:
        return trade
    why = f"keeps the exposure of {', '.join(homes)}"
    return replace(trade, reason=TradeReason.REPLACEMENT, replacement=homes, explanation=why)


def planned_shares(situation: Situation, trades: Sequence[PlannedTrade]) -> dict[str, Decimal]:
    """Shares of every name if all trades fill."""
    shares = dict(situation.shares_held)
    for trade in trades:
        shares[trade.symbol] += trade.side.sign * trade.quantity
    return shares


def _floats(values: Mapping[str, Decimal], names: Sequence[str]) -> FloatArray:
    return np.array([float(values[name]) for name in names])


def _with_effects(situation: Situation, trades: tuple[PlannedTrade, ...], after: float) -> tuple[PlannedTrade, ...]:
    """Each leg's effect on tracking error: the plan's, less the plan's without that leg, in bp."""
    shares = planned_shares(situation, trades)
    nav = float(situation.nav)
    active = np.array([float(shares[name] * situation.prices[name]) / nav for name in situation.names])
    active -= situation.benchmark_weights
    effects = []
    for trade in trades:
        without = active.copy()
        without[situation.names.index(trade.symbol)] -= trade.side.sign * float(trade.notional) / nav
        effects.append(replace(trade, tracking_error_effect_bps=(after - situation.risk.tracking_error(without)) * 1e4))
    return tuple(effects)


def _not_selected(opportunities: tuple[Opportunity, ...], trades: Sequence[PlannedTrade]) -> tuple[Opportunity, ...]:
    sold = {trade.symbol for trade in trades if trade.side is Side.SELL}
    return tuple(
        replace(item, taken=False, verdict=because(ReasonCode.HARVEST_NOT_SELECTED, symbol=item.symbol))
        if item.taken and item.symbol not in sold
        else item
        for item in opportunities
    )
