"""Whole shares and minimum trades: the second step after the optimizer (docs/METHODS.md).

The optimizer's weights become shares by rounding to the nearest, and then single shares move, best move first, until
no move makes the plan better. What is judged is the optimizer's own objective, tax by the pieces on the lots the sale
would really take, plus a steep price on every limit that is exceeded: so cash and tracking error are repaired first,
by the share that costs least.

What a move may never do: buy a name that was sold or sell one that was bought, reach a lot the solution did not sell
(one share into a loss lot makes a name unbuyable), trade less than the minimum, or break up a sale of a whole
position, which takes its fraction of a share along. The result is checked by code the solver has no part in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from strategy.optimizer import LotProgram, Solution, optimize, tracking_error, violations
from strategy.optimizer.disposal import disposal_queue
from strategy.types import BoolArray, FloatArray, IntArray

PENALTY = 1e2  # objective per unit of weight (or tracking error) beyond a limit: dearer than any tax
KEPT = 1e-6  # a limit exceeded by no more than this is kept
WHOLE = 1e-6  # a position sold to within this share of itself is sold whole
NEARLY = 1e-6  # shares; this near a whole number is that number
MINIMUM_TRADE_ROUNDS = 6
ATTEMPTS = 4  # solves with limits backed off
BACK_OFF = 1.5  # times the excess that rounding left


@dataclass(frozen=True, eq=False)
class RoundedTrades:
    """Trades in shares. All zero when a limit could not be kept: `broken` then says which, and by how much."""

    sell_shares: FloatArray  # (n,)
    buy_shares: FloatArray  # (n,)
    lot_shares: FloatArray  # (L,) shares sold of each lot
    tracking_error: float  # annual, after these trades
    cash: float  # fraction of NAV, after these trades
    reasons: tuple[str, ...]
    broken: Mapping[str, float] = field(default_factory=dict)


def round_plan(
    program: LotProgram,
    solution: Solution,
    *,
    price_weight: FloatArray,
    shares_held: FloatArray | None = None,
    whole_shares: bool,
    minimum_trade: float = 0.0,
) -> RoundedTrades:
    """The solution in shares, within the program's limits.

    `price_weight` (n,) is price / NAV, the weight of one share; `shares_held` (L,) the shares of each lot, by default
    its weight at that price; `minimum_trade` a weight: smaller trades are dropped, unless they close a position.
    Without `whole_shares`, shares stay fractions, and the caller rounds them to its broker's decimals.
    """
    shares = _shares(program, price_weight, shares_held)
    if not solution.has_plan:
        return _no_trades(program, {}, ("there is no plan to round",))
    trades = _Trades(program, solution, price_weight, shares, minimum_trade)
    if whole_shares:
        trades.round()
        trades.move()
    lot_shares, buy_shares = trades.by_lot(), trades.bought
    whole = lot_shares >= shares
    sell = np.where(whole, program.lot_weight, lot_shares * price_weight[program.lot_name])
    sell, buy = np.minimum(sell, program.lot_weight), buy_shares * price_weight
    broken = {limit: excess for limit, excess in violations(program, sell, buy).items() if excess > KEPT}
    if broken:
        kind = "whole shares" if whole_shares else "trades above the minimum"
        why = tuple(f"{limit} is exceeded by {excess:.3g} with {kind}" for limit, excess in broken.items())
        return _no_trades(program, broken, why)
    return RoundedTrades(
        sell_shares=_by_name(program, lot_shares),
        buy_shares=buy_shares,
        lot_shares=lot_shares,
        tracking_error=tracking_error(program, sell, buy),
        cash=1.0 - float(program.weights_held.sum() - sell.sum() + buy.sum()),
        reasons=trades.notes,
    )


def optimize_rounded(
    program: LotProgram,
    *,
    price_weight: FloatArray,
    shares_held: FloatArray | None = None,
    whole_shares: bool,
    minimum_trade: float = 0.0,
    max_nodes: int = 16,
    time_limit_s: float = math.inf,
    explain: bool = True,
) -> tuple[Solution, RoundedTrades | None]:
    """Optimize, drop trades below the minimum and solve again, round; where rounding breaks a limit, back it off.

    The solution's certificate is for the program it was solved with: without the dropped trades, limits backed off.
    Returns no trades, and a solution of status "infeasible", where no attempt keeps every limit in shares. `explain`
    as in `optimize`.
    """
    deadline = time.perf_counter() + time_limit_s
    tightened, rounded = program, None
    solution = _without_small_trades(tightened, minimum_trade, max_nodes, deadline, explain=explain)
    if not solution.has_plan:
        return solution, None
    for _ in range(ATTEMPTS):
        rounded = round_plan(
            program,
            solution,
            price_weight=price_weight,
            shares_held=shares_held,
            whole_shares=whole_shares,
            minimum_trade=minimum_trade,
        )
        if not rounded.broken:
            return solution, rounded
        tightened = _backed_off(tightened, rounded.broken, price_weight, solution)
        again = _without_small_trades(tightened, minimum_trade, max_nodes, deadline, explain=False)
        if not again.has_plan:
            break
        solution = again
    assert rounded is not None
    nothing = _no_trades(program, {}, ())
    return replace(
        solution,
        sell=np.zeros(len(program.lot_name)),
        buy=np.zeros(len(program.weights_held)),
        status="infeasible",
        objective=math.inf,
        certified_gap_bp=math.inf,
        tracking_error=nothing.tracking_error,
        binding=(),
        reasons=(*solution.reasons, *rounded.reasons),
    ), None


def _without_small_trades(
    program: LotProgram, minimum: float, max_nodes: int, deadline: float, *, explain: bool
) -> Solution:
    """Solve; forbid trades below the minimum; solve again, while that helps and at most six rounds."""
    solution = None
    for _ in range(MINIMUM_TRADE_ROUNDS + 1):
        left = deadline - time.perf_counter()
        first = solution is None
        found = optimize(program, max_nodes=max_nodes, time_limit_s=max(left, 0.0), explain=explain and first)
        if not found.has_plan:
            if solution is None:
                return found
            note = f"trades below the minimum of {minimum:.2g} of NAV could not all be left out"
            return replace(solution, reasons=(*solution.reasons, note))
        solution = found
        small_sale, small_buy = _small(program, solution, minimum)
        if not (small_sale.any() or small_buy.any()):
            break
        program = replace(
            program,
            may_buy=program.may_buy & ~small_buy,
            may_sell=program.may_sell & ~small_sale[program.lot_name],
        )
    assert solution is not None
    return solution


def _small(program: LotProgram, solution: Solution, minimum: float) -> tuple[BoolArray, BoolArray]:
    """(n,) names sold, and names bought, for less than the minimum.

    Closing a whole position is never small, nor is bringing a name down to its weight limit.
    """
    sold = _by_name(program, solution.sell)
    small_sale = (sold > 0) & (sold < minimum) & ~_closes(program, sold) & ~_over_cap(program)
    return np.asarray(small_sale), np.asarray((solution.buy > 0) & (solution.buy < minimum))


def _by_name(program: LotProgram, lots: FloatArray) -> FloatArray:
    """(n,) totals of an amount (L,) by lot."""
    return np.bincount(program.lot_name, lots, len(program.weights_held)).astype(np.float64)


def _closes(program: LotProgram, sold: FloatArray) -> BoolArray:
    """(n,) names of which everything is sold."""
    held = _by_name(program, program.lot_weight)
    return np.asarray((sold > 0) & (sold >= held * (1 - WHOLE)))


def _over_cap(program: LotProgram) -> BoolArray:
    return np.asarray(program.weights_held > program.limits.name_weight_max)


def _backed_off(
    program: LotProgram, broken: Mapping[str, float], price_weight: FloatArray, solution: Solution
) -> LotProgram:
    """Limits drawn in by what rounding overshot; tracking error by what it predictably costs.

    `TE_rounded^2 ~ TE^2 + sum over traded names of (price/NAV)^2 / 12 * total variance` (docs/METHODS.md).
    """
    limits = program.limits
    slack = {limit: excess * BACK_OFF for limit, excess in broken.items()}
    te = limits.tracking_error_max
    if "tracking_error_max" in slack:
        loadings = program.factor_loadings
        total = np.einsum("ij,jk,ik->i", loadings, program.factor_covariance, loadings) + program.specific_variance
        traded = _by_name(program, solution.sell) + solution.buy > 0
        damage = float((price_weight**2 / 12 * total)[traded].sum())
        te = max(min(math.sqrt(max(te**2 - damage, 0.0)), te - slack["tracking_error_max"]), te / 2)
    cash_min = limits.cash_min + slack.get("cash_min", 0.0)
    return replace(
        program,
        limits=replace(
            limits,
            tracking_error_max=te,
            turnover_max=max(limits.turnover_max - slack.get("turnover_max", 0.0), 0.0),
            net_gain_max=limits.net_gain_max - slack.get("net_gain_max", 0.0),
            sector_deviation_max=max(limits.sector_deviation_max - slack.get("sector_deviation_max", 0.0), 0.0),
            cash_min=min(cash_min, limits.cash_max),
            cash_max=max(limits.cash_max - slack.get("cash_max", 0.0), min(cash_min, limits.cash_max)),
        ),
    )


def _shares(program: LotProgram, price_weight: FloatArray, shares_held: FloatArray | None) -> FloatArray:
    """(L,) shares of each lot; ValueError where they or the prices make no sense."""
    n, L = len(program.weights_held), len(program.lot_name)
    if np.shape(price_weight) != (n,) or not np.isfinite(price_weight).all() or (np.asarray(price_weight) <= 0).any():
        raise ValueError(f"price_weight: Expected {n} positive numbers, was {price_weight!r}")
    if shares_held is None:
        shares = program.lot_weight / price_weight[program.lot_name]
    else:
        shares = np.asarray(shares_held, dtype=np.float64)
        if shares.shape != (L,) or not np.isfinite(shares).all() or (shares < 0).any():
            raise ValueError(f"shares_held: Expected {L} numbers from 0, was {shares_held!r}")
    near = np.rint(shares)
    return np.where(np.abs(shares - near) <= NEARLY, near, shares)


def _no_trades(program: LotProgram, broken: Mapping[str, float], reasons: tuple[str, ...]) -> RoundedTrades:
    n, L = len(program.weights_held), len(program.lot_name)
    return RoundedTrades(
        sell_shares=np.zeros(n),
        buy_shares=np.zeros(n),
        lot_shares=np.zeros(L),
        tracking_error=tracking_error(program, np.zeros(L), np.zeros(n)),
        cash=1.0 - float(program.weights_held.sum()),
        reasons=reasons,
        broken=broken,
    )


class _Trades:
    """Trades in shares, and what each single-share move would do to the objective and the limits."""

    def __init__(
        self, program: LotProgram, solution: Solution, price_weight: FloatArray, shares: FloatArray, minimum: float
    ) -> None:
        self.program, self.shares, self.minimum = program, shares, minimum
        self.price = np.asarray(price_weight, dtype=np.float64)
        n = len(self.price)
        self.closes = _closes(program, _by_name(program, solution.sell))
        self.path = _paths(program, solution, self.closes)
        lot_price = self.price[program.lot_name]
        taken = np.where(solution.sell >= program.lot_weight, shares, np.minimum(solution.sell / lot_price, shares))
        self.sold = _by_name(program, taken)
        self.reach = np.zeros(n)  # the most that may be sold without touching another lot
        for name, lots in self.path.items():
            self.reach[name] = shares[lots].sum()
        self.sold = np.where(self.closes, self.reach, self.sold)
        self.bought = solution.buy / self.price
        self.exempt = self.closes | _over_cap(program)  # from the minimum
        small = (self.sold * self.price < minimum) & ~self.exempt
        self.notes = tuple(
            f"the sale of {self.sold[name] * self.price[name]:.2g} of NAV in name {name} is below the minimum trade"
            for name in np.flatnonzero(small & (self.sold > 0))
        ) + tuple(
            f"the purchase of {solution.buy[name]:.2g} of NAV in name {name} is below the minimum trade"
            for name in np.flatnonzero((solution.buy > 0) & (solution.buy < minimum))
        )
        self.sold[small] = 0.0
        self.bought[solution.buy < minimum] = 0.0
        self.gains = np.zeros((n, 2))  # net short, net long realized by each name's sale
        for name in self.path:
            self.gains[name] = self._gains(name, self.sold[name])
        self.room = _most_bought(program) / self.price
        least = program.weights_held - disposal_queue(program).sellable
        self.cap = np.maximum(program.limits.name_weight_max, least)

    # -------------------------------------------------------------- lots

    def by_lot(self) -> FloatArray:
        """(L,) shares sold of each lot: along the path, only the last in part."""
        out = np.zeros(len(self.shares))
        for name, lots in self.path.items():
            ahead = np.concatenate(([0.0], np.cumsum(self.shares[lots])))[:-1]
            out[lots] = np.clip(self.sold[name] - ahead, 0.0, self.shares[lots])
        return out

    def _gains(self, name: int, sold: float) -> FloatArray:
        """Net short-term and long-term gain, fractions of NAV, of selling `sold` shares along the path."""
        lots = self.path[name]
        ahead = np.concatenate(([0.0], np.cumsum(self.shares[lots])))[:-1]
        realized = np.clip(sold - ahead, 0.0, self.shares[lots]) * self.price[name] * self.program.lot_gain[lots]
        long = float(realized[self.program.lot_long_term[lots]].sum())
        return np.array([float(realized.sum()) - long, long])

    # -------------------------------------------------------------- rounding and moving

    def round(self) -> None:
        """Nearest whole shares, within reach and room and not below the minimum."""
        whole = np.where(self.closes, self.sold, np.minimum(np.rint(self.sold), np.floor(self.reach + NEARLY)))
        self.sold = np.where((whole * self.price < self.minimum) & ~self.exempt, 0.0, whole)
        whole = np.minimum(np.rint(self.bought), np.floor(self.room + NEARLY))
        self.bought = np.where(whole * self.price < self.minimum, 0.0, np.maximum(whole, 0.0))
        for name in self.path:
            self.gains[name] = self._gains(name, self.sold[name])

    def move(self) -> None:
        """Move one share at a time while the best move makes the plan better."""
        sells = np.array([name for name in self.path if not self.closes[name]], dtype=np.int64)
        buys = np.flatnonzero((self.bought > 0) & self.program.may_buy)
        names = np.concatenate((sells, sells, buys, buys))
        side = np.repeat([-1.0, -1.0, 1.0, 1.0], [len(sells), len(sells), len(buys), len(buys)])
        step = np.repeat([1.0, -1.0, 1.0, -1.0], [len(sells), len(sells), len(buys), len(buys)])  # of the trade's size
        if not len(names):
            return
        after = np.array([self._step_gains(i, s, d) for i, s, d in zip(names, side, step, strict=True)])
        for _ in range(4 * len(self.price) + 100):
            change = self._change(names, side, step, after)
            best = int(change.argmin())
            if not change[best] < -1e-12:
                return
            name = names[best]
            (self.sold if side[best] < 0 else self.bought)[name] += step[best]
            if side[best] < 0:
                self.gains[name] = after[best]
                for row in np.flatnonzero((names == name) & (side < 0)):
                    after[row] = self._step_gains(name, -1.0, step[row])

    def _step_gains(self, name: int, side: float, step: float) -> FloatArray:
        return self._gains(name, max(self.sold[name] + step, 0.0)) if side < 0 else self.gains[name]

    def _change(self, names: IntArray, side: FloatArray, step: FloatArray, after: FloatArray) -> FloatArray:
        """(C,) what each candidate move would add to objective plus penalty; infinity where it may not be made."""
        program, limits, price = self.program, self.program.limits, self.price
        weight = program.weights_held - self.sold * price + self.bought * price
        x = weight - program.benchmark_weights
        F, e = program.factor_loadings[names], side * step * price[names]
        y = program.factor_loadings.T @ x
        common = program.factor_covariance @ y
        variance = float(y @ common + program.specific_variance @ x**2)
        own = np.einsum("ij,jk,ik->i", F, program.factor_covariance, F) + program.specific_variance[names]
        moved = np.maximum(
            variance + 2 * e * (F @ common + program.specific_variance[names] * x[names]) + e * e * own, 0
        )
        gains = self.gains.sum(axis=0)
        shifted = gains + after - self.gains[names]
        tax = (program.tax_pieces[:, :2] @ shifted.T + program.tax_pieces[:, 2:]).max(axis=0)
        objective = (
            limits.risk_aversion * moved + limits.tax_weight * tax + program.half_spread[names] * step * price[names]
        )
        now = limits.risk_aversion * variance + limits.tax_weight * float(
            (program.tax_pieces[:, :2] @ gains + program.tax_pieces[:, 2]).max()
        )
        excess = self._excess(names, e, step, weight, y, np.sqrt(moved), shifted.sum(axis=1))
        none = np.zeros(1)
        still = self._excess(names[:1], none, none, weight, y, np.sqrt([variance]), gains.sum(keepdims=True))
        change = objective - now + PENALTY * (excess - still[0])
        size = np.where(side < 0, self.sold[names], self.bought[names]) + step
        most = np.where(side < 0, self.reach[names], self.room[names])
        large = (size == 0) | (size * price[names] >= self.minimum) | ((side < 0) & self.exempt[names])
        allowed = (size >= 0) & (size <= most + NEARLY) & large
        return np.where(allowed, change, np.inf)

    def _excess(
        self,
        names: IntArray,
        e: FloatArray,
        step: FloatArray,
        weight: FloatArray,
        y: FloatArray,
        te: FloatArray,
        gain: FloatArray,
    ) -> FloatArray:
        """(C,) total excess over all limits after adding weight e to a name, in the limits' own units."""
        program, limits, price = self.program, self.program.limits, self.price

        def over(amount: FloatArray) -> FloatArray:
            return np.maximum(amount, 0.0)

        cash = 1.0 - weight.sum() - e
        turnover = float(((self.sold + self.bought) * price).sum()) + step * price[names]
        total = over(limits.cash_min - cash) + over(cash - limits.cash_max) + over(turnover - limits.turnover_max)
        total = total + over(te - limits.tracking_error_max) + over(gain - limits.net_gain_max)
        above = over(weight - self.cap)
        total = total + above.sum() - above[names] + over(weight[names] + e - self.cap[names])
        exposure = y + e[:, None] * program.factor_loadings[names]
        total = total + over(exposure - limits.factor_exposure_max).sum(axis=1)
        total = total + over(limits.factor_exposure_min - exposure).sum(axis=1)
        _, sector = np.unique(program.sector, return_inverse=True)
        deviation = np.bincount(sector, weight - program.benchmark_weights)
        before = over(np.abs(deviation) - limits.sector_deviation_max)
        moved = over(np.abs(deviation[sector[names]] + e) - limits.sector_deviation_max)
        return np.asarray(total + before.sum() - before[sector[names]] + moved)


def _paths(program: LotProgram, solution: Solution, closes: BoolArray) -> dict[int, IntArray]:
    """For each sold name the lots the solution sells, in the order a smaller sale would keep them.

    Ordered relief: the queue. Free relief: lots sold whole first, then lowest gain first.
    """
    lots = np.flatnonzero(
        (solution.sell > 0) | (closes[program.lot_name] & program.may_sell)
    )  # closing takes the dust lots along
    name = program.lot_name[lots]
    if program.relief == "ordered":
        order = np.lexsort((lots, program.lot_order[lots], name))
    else:
        partial = solution.sell[lots] < program.lot_weight[lots] * (1 - WHOLE)
        order = np.lexsort((lots, program.lot_gain[lots], partial, name))
    lots = lots[order]
    names, start = np.unique(program.lot_name[lots], return_index=True)
    parts = np.split(lots, start[1:]) if len(names) else []
    return {int(name): part for name, part in zip(names, parts, strict=True)}


def _most_bought(program: LotProgram) -> FloatArray:
    """(n,) weight that may be bought before the name's limit binds."""
    room = np.maximum(program.limits.name_weight_max - program.weights_held, 0.0)
    return np.where(program.may_buy, np.minimum(room, 10.0), 0.0)
