"""The optimizer's problem stated in CVXPY, for tests: reads like the mathematics, shares no code with the solver.

`Statement` is the convex problem once every name's side is fixed; `exact` finds the true optimum of small programs by
trying every side, or under ordered relief every prefix of every queue.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cvxpy as cp
import numpy as np

from strategy.optimizer import LotProgram


class Statement:
    """min lambda x' (F Om F' + D) x + tax_weight * max(pieces) + hs' (sells + buys) within the limits.

    Sides enter as bounds: `low <= s <= high` by lot and `b <= most` by name.
    """

    def __init__(self, program: LotProgram) -> None:
        self.program = program
        n, L, limits = len(program.weights_held), len(program.lot_name), program.limits
        self.low, self.high = cp.Parameter(L, nonneg=True), cp.Parameter(L, nonneg=True)
        self.most = cp.Parameter(n, nonneg=True)
        s, b = cp.Variable(L), cp.Variable(n)
        S = np.zeros((n, L))
        S[program.lot_name, np.arange(L)] = 1.0
        w = program.weights_held - S @ s + b
        x = w - program.benchmark_weights
        y = program.factor_loadings.T @ x
        values, vectors = np.linalg.eigh(program.factor_covariance)
        root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        risk = cp.hstack([root @ y, cp.multiply(np.sqrt(program.specific_variance), x)])
        realized = cp.multiply(program.lot_gain, s)
        long, short = program.lot_long_term.astype(float), (~program.lot_long_term).astype(float)
        tax = (
            cp.maximum(*(a * (short @ realized) + c * (long @ realized) + d for a, c, d in program.tax_pieces))
            if (len(program.tax_pieces) > 1)
            else (program.tax_pieces[0, 0] * (short @ realized) + program.tax_pieces[0, 1] * (long @ realized))
            + (program.tax_pieces[0, 2])
        )
        cost = program.half_spread @ (S @ s + b)
        sellable = np.array([self._sellable(i) for i in range(n)])
        cap = np.maximum(limits.name_weight_max, program.weights_held - sellable)
        keep = [s >= self.low, s <= self.high, b >= 0, b <= self.most, w >= 0]
        capped = np.isfinite(cap)
        keep += [w[capped] <= cap[capped]] if capped.any() else []
        keep += [cp.norm(risk) <= limits.tracking_error_max] if np.isfinite(limits.tracking_error_max) else []
        keep += [cp.sum(s) + cp.sum(b) <= limits.turnover_max] if np.isfinite(limits.turnover_max) else []
        keep += [cp.sum(realized) <= limits.net_gain_max] if np.isfinite(limits.net_gain_max) else []
        keep += [1 - cp.sum(w) >= limits.cash_min] if np.isfinite(limits.cash_min) else []
        keep += [1 - cp.sum(w) <= limits.cash_max] if np.isfinite(limits.cash_max) else []
        if np.isfinite(limits.sector_deviation_max):
            for label in np.unique(program.sector):
                keep.append(cp.abs(cp.sum(x[program.sector == label])) <= limits.sector_deviation_max)
        for bound, sign in ((limits.factor_exposure_max, 1), (-limits.factor_exposure_min, -1)):
            finite = np.isfinite(bound)
            keep += [sign * y[finite] <= bound[finite]] if finite.any() else []
        objective = limits.risk_aversion * cp.sum_squares(risk) + limits.tax_weight * tax + cost
        self.problem = cp.Problem(cp.Minimize(objective), keep)

    def _sellable(self, name: int) -> float:
        total = 0.0
        for lot in self.queue(name):
            if self.program.may_sell[lot]:
                total += self.program.lot_weight[lot]
            elif self.program.relief == "ordered":
                break
        return total

    def queue(self, name: int) -> list[int]:
        """The name's lots in disposal order."""
        lots = [int(lot) for lot in np.flatnonzero(self.program.lot_name == name)]
        return sorted(lots, key=lambda lot: (self.program.lot_order[lot], lot))

    def optimum(self, low: np.ndarray, high: np.ndarray, most: np.ndarray) -> float:
        """The optimal value with these bounds; infinity where there is none."""
        self.low.value, self.high.value, self.most.value = low, high, most
        try:
            self.problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9, warm_start=False)
        except cp.SolverError:
            return np.inf
        return float(self.problem.value) if self.problem.status in ("optimal", "optimal_inaccurate") else np.inf

    def open_bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bounds of the program without wash-sale rule and disposal order."""
        program = self.program
        return (
            np.zeros(len(program.lot_name)),
            np.where(program.may_sell, program.lot_weight, 0.0),
            np.where(program.may_buy, 10.0, 0.0),
        )


def relaxed(program: LotProgram) -> float:
    """A lower bound: any lot may be sold, and bought back."""
    statement = Statement(program)
    return statement.optimum(*statement.open_bounds())


def with_sides_of(program: LotProgram, sell: np.ndarray, buy: np.ndarray) -> float:
    """Free relief: the optimum where each name keeps to the side (buying, or selling losses) of these trades."""
    statement = Statement(program)
    low, high, most = statement.open_bounds()
    losses_sold = np.bincount(program.lot_name, np.where(program.lot_gain < 0, sell, 0.0), len(buy)) > 0
    most[losses_sold] = 0.0
    high[(program.lot_gain < 0) & (buy > 0)[program.lot_name]] = 0.0
    high[(program.lot_gain < 0) & ~losses_sold[program.lot_name] & (most > 0)[program.lot_name]] = 0.0
    return statement.optimum(low, high, most)


def exact(program: LotProgram) -> float:
    """The true optimum by trying everything: sides under free relief, prefixes under ordered relief."""
    statement = Statement(program)
    options = _prefixes if program.relief == "ordered" else _sides
    base = statement.open_bounds()
    best = np.inf
    for choice in itertools.product(*(list(options(statement, name, base)) for name in range(len(base[2])))):
        low, high, most = (part.copy() for part in base)
        for name, (lots, least, largest, buys) in enumerate(choice):
            low[lots], high[lots] = least, largest
            most[name] = most[name] if buys else 0.0
        best = min(best, statement.optimum(low, high, most))
    return best


Option = tuple[list[int], np.ndarray, np.ndarray, bool]


def _sides(statement: Statement, name: int, base: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterator[Option]:
    lots, (_, high, most) = statement.queue(name), base
    loss = statement.program.lot_gain[lots] < 0
    if not (most[name] > 0 and (loss & (high[lots] > 0)).any()):
        yield lots, np.zeros(len(lots)), high[lots], True
        return
    yield lots, np.zeros(len(lots)), high[lots], False
    yield lots, np.zeros(len(lots)), np.where(loss, 0.0, high[lots]), True


def _prefixes(statement: Statement, name: int, base: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterator[Option]:
    """The last lot touched is each of the queue in turn; buying only beside a prefix without a loss."""
    lots, (_, high, most) = statement.queue(name), base
    yield lots, np.zeros(len(lots)), np.zeros(len(lots)), bool(most[name] > 0)
    for last in range(len(lots)):
        if high[lots[last]] <= 0:
            return
        front = np.arange(len(lots)) < last
        touched = np.arange(len(lots)) <= last
        clean = not (statement.program.lot_gain[lots][touched] < 0).any()
        weight = high[lots]
        yield lots, np.where(front, weight, 0.0), np.where(touched, weight, 0.0), clean and bool(most[name] > 0)
