"""Everything about a program that does not change between the convex problems solved for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from strategy.optimizer.disposal import DUST, Branches, Queue, branches, disposal_queue, walk
from strategy.optimizer.program import LotProgram
from strategy.types import FloatArray, IntArray

TIE = 1e-9  # cost per unit of weight and place in the queue: equal lots go in lot order on every platform
RISK_SCALE_MIN, RISK_SCALE_MAX = 1e-3, 1.0  # annual; the unit of tracking error inside the solver
HYGIENE_SHORT_RATE, HYGIENE_LONG_RATE, HYGIENE_SHARE = 0.408, 0.238, 0.4  # docs/METHODS.md


@dataclass(frozen=True)
class Model:
    """A validated program with its branches, and the algebra both the builder and the search need."""

    program: LotProgram
    queue: Queue
    branches: Branches
    held_active: FloatArray  # (n,) a = weights held - benchmark
    cap: FloatArray  # (n,) max(name cap, held - sellable)
    buy_cost: FloatArray  # (n,) half spread, and lot-age hygiene where relief is ordered
    root: FloatArray  # (k, k) R with R'R = factor covariance
    deviation: FloatArray  # (n,) sqrt of the specific variance
    unit: float  # the tracking error that is 1 inside the solver
    scale: float  # the objective that is 1 inside the solver
    sector: IntArray  # (n,) 0 .. sectors - 1

    @property
    def flat_tax(self) -> bool:
        """One tax piece: tax is a price per lot and needs no variables."""
        return len(self.program.tax_pieces) == 1

    @cached_property
    def group_cost(self) -> FloatArray:
        """(G,) objective per unit of weight sold, without tax when that has pieces."""
        queue, short, long = self.queue, *self.program.tax_pieces[0, :2]
        cost = self.program.half_spread[queue.name] + TIE * self._place
        if self.flat_tax:
            cost = cost + self.program.limits.tax_weight * np.where(queue.long_term, long, short) * queue.gain
        return cost

    @cached_property
    def front_cost(self) -> FloatArray:
        """(B,) objective of selling everything in front of the branch's run, without tax when that has pieces."""
        b, short, long = self.branches, *self.program.tax_pieces[0, :2]
        cost = self.program.half_spread[b.name] * b.front
        if self.flat_tax:
            cost = cost + self.program.limits.tax_weight * (short * b.front_short + long * b.front_long)
        return cost

    @property
    def _place(self) -> IntArray:
        queue = self.queue
        return np.arange(len(queue.name)) - np.searchsorted(queue.name, queue.name)

    # -------------------------------------------------------------- what trades are worth

    def lots_for(self, sold: FloatArray, by_group: FloatArray, dust: float) -> FloatArray:
        """(L,) the lots really disposed of when (n,) `sold` is sold; (G,) `by_group` is the solver's own choice.

        Ordered relief walks the queue. Free relief keeps each name's short-term and long-term totals and fills them
        lowest gain first, which never costs more.
        """
        queue = self.queue
        if self.program.relief == "ordered":
            return walk(self.program, queue, np.clip(sold[queue.name] - queue.front, 0.0, queue.weight), dust)
        cell = queue.name * 2 + queue.long_term  # one cell for each name and term; groups are sorted by it, then gain
        total = np.bincount(cell, by_group, 2 * len(sold) + 2)
        ahead = np.concatenate(([0.0], np.cumsum(queue.weight)))[:-1]
        front = ahead - ahead[np.searchsorted(cell, cell)] if len(cell) else ahead[:0]
        return walk(self.program, queue, np.clip(total[cell] - front, 0.0, queue.weight), dust)

    def variance(self, active: FloatArray) -> float:
        """Annual variance of active weights x (n,): y' Omega y + sum D x^2 with y = F' x."""
        y = self.program.factor_loadings.T @ active
        common = self.root @ y
        return float(common @ common + self.program.specific_variance @ (active * active))

    def active(self, sell: FloatArray, buy: FloatArray) -> FloatArray:
        """(n,) active weights after the trades."""
        return self.held_active - np.bincount(self.program.lot_name, sell, len(buy)) + buy

    def objective(self, sell: FloatArray, buy: FloatArray) -> float:
        """The true objective of the trades, tax by the pieces on the lots themselves."""
        program, limits = self.program, self.program.limits
        sold = np.bincount(program.lot_name, sell, len(buy))
        risk = limits.risk_aversion * self.variance(self.held_active - sold + buy)
        cost = program.half_spread @ sold + self.buy_cost @ buy
        return risk + limits.tax_weight * tax(program, sell) + float(cost)

    def tracking_error(self, sell: FloatArray, buy: FloatArray) -> float:
        """Annual, after the trades."""
        return math.sqrt(max(self.variance(self.active(sell, buy)), 0.0))


def tax(program: LotProgram, sell: FloatArray) -> float:
    """max over the pieces of a * net_short + b * net_long + c, in fractions of NAV (docs of `LotProgram`)."""
    realized = program.lot_gain * sell
    long = float(realized[program.lot_long_term].sum())
    short = float(realized.sum()) - long
    return float((program.tax_pieces @ np.array([short, long, 1.0])).max())


def build_model(program: LotProgram, *, room_by_cap_alone: bool = False) -> Model:
    """Queue, branches and constants of a validated program.

    With `room_by_cap_alone` what may be bought of a name is bounded by its weight limit only, so that relaxing turnover
    or cash can be studied.
    """
    limits, held = program.limits, program.weights_held
    queue = disposal_queue(program)
    cap = np.maximum(limits.name_weight_max, held - queue.sellable)
    room = cap - held
    if not room_by_cap_alone:
        room = np.minimum(np.minimum(cap, 1.0 - limits.cash_min) - held, limits.turnover_max)
    room = np.where(program.may_buy & (room > DUST), room, 0.0)
    root = _root(program.factor_covariance)
    held_active = held - program.benchmark_weights
    te = limits.tracking_error_max
    y = root @ (program.factor_loadings.T @ held_active)
    variance = float(y @ y + program.specific_variance @ held_active**2)
    if not RISK_SCALE_MIN <= te <= RISK_SCALE_MAX:
        te = math.sqrt(variance)
    return Model(
        program=program,
        queue=queue,
        branches=branches(program, queue, room, cap),
        held_active=held_active,
        cap=cap,
        buy_cost=program.half_spread + _hygiene(program),
        root=root,
        deviation=np.sqrt(program.specific_variance),
        unit=min(max(te, RISK_SCALE_MIN), RISK_SCALE_MAX),
        scale=max(1.0, limits.risk_aversion * variance),
        sector=np.unique(program.sector, return_inverse=True)[1].astype(np.int64),
    )


def _root(covariance: FloatArray) -> FloatArray:
    """R with R'R = covariance: the Cholesky factor, or the eigenvectors' where it is singular."""
    try:
        return np.asarray(np.linalg.cholesky(covariance).T)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)


def _hygiene(program: LotProgram) -> FloatArray:
    """(n,) what a purchase costs by burying its lot: h * 0.408 * 0.4 * sigma * (1 - exp(-g / sigma))."""
    n = len(program.weights_held)
    if not program.limits.lot_age_hygiene or program.relief == "free":
        return np.zeros(n)
    short, long, _ = program.tax_pieces[np.argmax(program.tax_pieces[:, 2])]
    price = np.where(program.lot_long_term, long, short) * program.lot_gain * program.lot_weight
    held = np.bincount(program.lot_name, program.lot_weight, n)
    buried = np.maximum(np.bincount(program.lot_name, price, n), 0.0) / np.maximum(HYGIENE_LONG_RATE * held, DUST)
    loadings = program.factor_loadings
    common = np.einsum("ij,jk,ik->i", loadings, program.factor_covariance, loadings, optimize=True)
    sigma = np.sqrt(np.maximum(common + program.specific_variance, 1e-12))
    steepness = program.limits.lot_age_hygiene * HYGIENE_SHORT_RATE * HYGIENE_SHARE
    return np.asarray(steepness * sigma * (1.0 - np.exp(-buried / sigma)))
