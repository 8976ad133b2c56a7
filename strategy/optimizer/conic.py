"""The convex problem over a choice of branches, as sparse data for Clarabel (docs/METHODS.md).

Names with one branch in play are *plain*; the others enter by the convex hull of their branches, with `z_b` the share
of branch b and `v_b` its specific risk in units of `T^2` (T: `Model.unit`):

    minimise    lambda (y' Om y + sum over plain names of D x^2 + T^2 sum v)
                + cost' s + front_cost' z + buy_cost' b + tax
    subject to  x_i = sum over branches of (a_i - front_b) z_b - s + b          y = F' x            sum_b z_b = 1
                0 <= s <= q z,  0 <= b <= room z                                 (sqrt(D) x_b / T)^2 <= v_b z_b
                turnover, net gain, cash, sectors, factors, name caps
                |(R y ; sqrt(D) x)|^2 / T^2 <= (TE_max / T)^2 - sum v

With a single branch for every name it is the plain program and its solution is a plan; with more it is a relaxation
and its dual objective a bound. Limits may be given slack ("elastic"), which then is all that is minimised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import clarabel
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from strategy.optimizer.model import Model
from strategy.types import BoolArray, FloatArray, IntArray

MAX_ITERATIONS = 120
TOLERANCE = 1e-8
PLAN_GAP = 1e-10  # objective; wider, a trade of a hundred-thousandth of NAV may be noise
EQUAL = 1e-9  # two sides of a limit closer than this are one equality
SLACK_WEIGHTS: Mapping[str, float] = {  # how dear each kind of slack is beside one of weight
    "tracking_error": 1e-2,  # per T^2: doubling the limit costs as much as 3 % of weight
    "turnover": 1.0,
    "net_gain": 1.0,
    "cash": 1.0,
    "sector": 1.0,
    "factor": 1.0,
}


@dataclass(frozen=True)
class Ask:
    """Which convex problem: the true objective, or the slack of the elastic limits alone."""

    elastic: frozenset[str] = frozenset()  # keys of SLACK_WEIGHTS; not empty: slack is what is minimised
    loosen: float = 0.0  # weight by which every limit gives way: for the slightly infeasible
    careful: bool = False  # full refinement, for problems the fast settings fail on
    time_limit_s: float = np.inf


@dataclass(frozen=True)
class Outcome:
    """What the solver said; the arrays mean something only when `solved`."""

    status: str  # Clarabel's
    primal: float
    dual: float
    sold: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n,)
    by_group: FloatArray = field(default_factory=lambda: np.zeros(0))  # (G,) within the run; without what is in front
    bought: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n,)
    share: FloatArray = field(default_factory=lambda: np.zeros(0))  # (B,) z
    duals: Mapping[str, FloatArray] = field(default_factory=dict)  # by row block
    slack: Mapping[str, FloatArray] = field(default_factory=dict)  # by elastic family

    @property
    def solved(self) -> bool:
        """True when the arrays may be looked at."""
        return self.status in ("Solved", "AlmostSolved")

    @property
    def infeasible(self) -> bool:
        """True when the solver proved that there is no solution."""
        return self.status in ("PrimalInfeasible", "AlmostPrimalInfeasible")


class _Rows:
    """Triplets of the constraint matrix, block by named block."""

    def __init__(self) -> None:
        self.count = 0
        self.start: dict[str, tuple[int, int]] = {}
        self._rows: list[IntArray] = []
        self._columns: list[IntArray] = []
        self._values: list[FloatArray] = []
        self._rhs: list[FloatArray] = []

    def block(self, key: str, rhs: ArrayLike, *entries: tuple[ArrayLike, ArrayLike, ArrayLike]) -> None:
        """Rows with right-hand side `rhs`; entries are (row in the block, column, value)."""
        bounds = np.atleast_1d(np.asarray(rhs, dtype=np.float64))
        if not len(bounds):
            return
        for row, column, value in entries:
            columns = np.atleast_1d(np.asarray(column, dtype=np.int64))
            self._columns.append(columns)
            self._rows.append(np.broadcast_to(np.asarray(row, dtype=np.int64) + self.count, columns.shape))
            self._values.append(np.broadcast_to(np.asarray(value, dtype=np.float64), columns.shape))
        self._rhs.append(bounds)
        self.start[key] = (self.count, self.count + len(bounds))
        self.count += len(bounds)

    def matrix(self, columns: int) -> tuple[sp.csc_matrix, FloatArray]:
        """Constraint matrix in canonical form, and right-hand side."""
        rows, cols, values = (np.concatenate(part) for part in (self._rows, self._columns, self._values))
        keep = values != 0
        matrix = sp.csc_matrix((values[keep], (rows[keep], cols[keep])), shape=(self.count, columns))
        return matrix, np.concatenate(self._rhs)


class Problem:
    """One convex problem: the columns of `active` branches under `ask`."""

    def __init__(self, model: Model, active: BoolArray, ask: Ask) -> None:
        self.model, self.ask = model, ask
        branches, n, k = model.branches, len(model.held_active), len(model.root)
        in_play = np.flatnonzero(active)
        crowd = np.bincount(branches.name[in_play], minlength=n)
        self.hull = in_play[crowd[branches.name[in_play]] > 1]  # (m,) branches that carry a z
        self.single = in_play[crowd[branches.name[in_play]] == 1]
        m = len(self.hull)
        self.plain = crowd <= 1
        self.z_of = np.full(len(branches.name), -1, dtype=np.int64)
        self.z_of[self.hull] = np.arange(m)
        holder = branches.of_group
        self.groups = np.flatnonzero((holder >= 0) & active[holder]) if len(holder) else np.zeros(0, dtype=np.int64)
        self.buying = in_play[branches.room[in_play] > 0]
        self.risky = np.isfinite(model.program.limits.tracking_error_max) or (
            model.program.limits.risk_aversion > 0 and not ask.elastic
        )
        sizes = {
            "s": len(self.groups),
            "b": len(self.buying),
            "x": n,
            "y": k,
            "z": m,
            "v": m if self.risky else 0,
            "tax": 0 if model.flat_tax or ask.elastic else 3,  # net short, net long, tax
        }
        self.at: dict[str, IntArray] = {}
        self.columns = 0
        for variable, size in sizes.items():
            self.at[variable] = np.arange(self.columns, self.columns + size)
            self.columns += size
        self.slack: dict[str, list[IntArray]] = {}
        self.slack_cost: list[FloatArray] = []
        self.between = self._two_sided()
        self.kept: dict[str, IntArray] = {}  # the rows each block of a two-sided limit holds
        self.rows = _Rows()
        self.cones: list[object] = []
        self._equalities()
        self._limits()
        self._bounds()
        self._cones()

    # -------------------------------------------------------------- rows

    def _equalities(self) -> None:
        model, at, branches, rows = self.model, self.at, self.model.branches, self.rows
        n, k = len(at["x"]), len(at["y"])
        groups, hull = self.groups, self.hull
        start = np.where(self.plain, model.held_active, 0.0)
        start[branches.name[self.single]] -= branches.front[self.single]
        rows.block(
            "weight",
            start,
            (np.arange(n), at["x"], 1.0),
            (model.queue.name[groups], at["s"], 1.0),
            (branches.name[self.buying], at["b"], -1.0),
            (branches.name[hull], at["z"], branches.front[hull] - model.held_active[branches.name[hull]]),
        )
        loadings = model.program.factor_loadings
        name, factor = np.nonzero(loadings)
        rows.block(
            "exposure", np.zeros(k), (np.arange(k), at["y"], 1.0), (factor, at["x"][name], -loadings[name, factor])
        )
        hulled = np.unique(branches.name[hull])
        rows.block("choice", np.ones(len(hulled)), (np.searchsorted(hulled, branches.name[hull]), at["z"], 1.0))
        if len(at["tax"]):
            for place, (key, long) in enumerate((("net_short", False), ("net_long", True))):
                front = branches.front_long if long else branches.front_short
                of_term = model.queue.long_term[groups] == long
                rows.block(
                    key,
                    front[self.single].sum(),
                    (0, at["tax"][place], 1.0),
                    (0, at["s"], -np.where(of_term, model.queue.gain[groups], 0.0)),
                    (0, at["z"], -front[hull]),
                )
        for key, (_, low, high, row, column) in self.between.items():
            closed = ~self._open(key)
            index = np.cumsum(closed) - 1
            here = np.flatnonzero(closed[row])
            rows.block(key, (low[closed] + high[closed]) / 2, (index[row[here]], column[here], 1.0))
            self.kept[key] = np.flatnonzero(closed)
        self._cone(clarabel.ZeroConeT, 0)

    def _open(self, key: str) -> BoolArray:
        """(rows) True where the two sides of a limit leave room between them; slack needs both sides apart."""
        family, low, high, _, _ = self.between[key]
        return np.asarray((high - low > EQUAL) | (family in self.ask.elastic) | (self.ask.loosen > 0))

    def _two_sided(self) -> dict[str, tuple[str, FloatArray, FloatArray, IntArray, IntArray]]:
        """Limits `low <= sum of the columns of a row <= high`: family, low, high, and the (row, column) pairs."""
        model, at, limits = self.model, self.at, self.model.program.limits
        x, y, benchmark = at["x"], at["y"], float(model.program.benchmark_weights.sum())
        deviation = np.full(int(model.sector.max()) + 1 if len(model.sector) else 0, limits.sector_deviation_max)
        invested = np.array([1.0 - benchmark - limits.cash_max]), np.array([1.0 - benchmark - limits.cash_min])
        return {
            "invested": ("cash", *invested, np.zeros(len(x), dtype=np.int64), x),
            "sector": ("sector", -deviation, deviation, model.sector, x),
            "factor": ("factor", limits.factor_exposure_min, limits.factor_exposure_max, np.arange(len(y)), y),
        }

    def _limits(self) -> None:
        model, at, branches, limits = self.model, self.at, self.model.branches, self.model.program.limits
        x = at["x"]
        self._first_limit = self.rows.count
        traded = ((0, at["s"], 1.0), (0, at["b"], 1.0), (0, at["z"], branches.front[self.hull]))
        self._limit("turnover", "turnover", limits.turnover_max - branches.front[self.single].sum(), *traded)
        gain = branches.front_short + branches.front_long
        realized = ((0, at["s"], model.queue.gain[self.groups]), (0, at["z"], gain[self.hull]))
        self._limit("net_gain", "net_gain", limits.net_gain_max - gain[self.single].sum(), *realized)
        for key, (family, low, high, row, column) in self.between.items():
            for side, sign, bound in (("_max", 1.0, high), ("_min", -1.0, -low)):
                kept = self._open(key) & np.isfinite(bound)
                place = np.cumsum(kept) - 1
                here = np.flatnonzero(kept[row])
                self._limit(key + side, family, bound[kept], (place[row[here]], column[here], sign))
                self.kept[key + side] = np.flatnonzero(kept)
        over = np.flatnonzero(model.program.weights_held > model.cap)  # elsewhere the room to buy keeps the cap
        cap = model.cap[over] - model.program.benchmark_weights[over]
        self.rows.block("name_cap", cap + self.ask.loosen, (np.arange(len(over)), x[over], 1.0))
        if len(at["tax"]):
            short, long, constant = model.program.tax_pieces.T
            r = np.arange(len(short))
            t_short, t_long, t = (np.full(len(r), column) for column in at["tax"])
            self.rows.block("pieces", -constant, (r, t_short, short), (r, t_long, long), (r, t, -1.0))

    def _limit(self, key: str, family: str, bound: ArrayLike, *entries: tuple[ArrayLike, ArrayLike, ArrayLike]) -> None:
        """A limit from above, left out where it is infinite, given slack where it is elastic."""
        bounds = np.atleast_1d(np.asarray(bound, dtype=np.float64))
        if not len(bounds) or not np.isfinite(bounds).all():
            return
        extra = (self._new_slack(family, len(bounds)),) if family in self.ask.elastic else ()
        slack = [(np.arange(len(bounds)), columns, -1.0) for columns in extra]
        self.rows.block(key, bounds + self.ask.loosen, *entries, *slack)

    def _new_slack(self, family: str, size: int) -> IntArray:
        columns = np.arange(self.columns, self.columns + size)
        self.columns += size
        self.slack.setdefault(family, []).append(columns)
        self.slack_cost.append(np.full(size, SLACK_WEIGHTS[family]))
        return columns

    def _bounds(self) -> None:
        model, at, rows, branches = self.model, self.at, self.rows, self.model.branches
        s, b, groups, buying = at["s"], at["b"], self.groups, self.buying
        rows.block("sell_from", np.zeros(len(s)), (np.arange(len(s)), s, -1.0))
        rows.block("buy_from", np.zeros(len(b)), (np.arange(len(b)), b, -1.0))
        rows.block("share_from", np.zeros(len(at["z"])), (np.arange(len(at["z"])), at["z"], -1.0))
        z = self.z_of[branches.of_group[groups]] if len(groups) else groups
        hulled = np.flatnonzero(z >= 0)
        weight = model.queue.weight[groups]
        gate = (hulled, at["z"][z[hulled]], -weight[hulled])
        rows.block("sell_to", np.where(z >= 0, 0.0, weight), (np.arange(len(s)), s, 1.0), gate)
        room = branches.room[buying]
        z = self.z_of[buying]
        bounded = np.flatnonzero(np.isfinite(room))
        hulled = np.flatnonzero(z[bounded] >= 0)
        gate = (hulled, at["z"][z[bounded[hulled]]], -room[bounded[hulled]])
        limit = np.where(z[bounded] >= 0, 0.0, room[bounded])
        rows.block("buy_to", limit, (np.arange(len(bounded)), b[bounded], 1.0), gate)
        self.tracking_slack = np.zeros(0, dtype=np.int64)
        if "tracking_error" in self.ask.elastic and np.isfinite(model.program.limits.tracking_error_max):
            self.tracking_slack = self._new_slack("tracking_error", 1)
        slack = np.concatenate([column for part in self.slack.values() for column in part] or [s[:0]])
        rows.block("slack_from", np.zeros(len(slack)), (np.arange(len(slack)), slack, -1.0))
        self._cone(clarabel.NonnegativeConeT, self._first_limit)

    def _cones(self) -> None:
        model, at, rows, branches, unit = self.model, self.at, self.rows, self.model.branches, self.model.unit
        if not self.risky:
            return
        limit = model.program.limits.tracking_error_max
        if np.isfinite(limit):
            first = rows.count
            top = ((limit + self.ask.loosen) / unit) ** 2
            level = ((0, at["v"], 1.0), (0, self.tracking_slack, -1.0))
            rows.block("te_top", top + 1.0, *level)
            factor, exposure = np.nonzero(model.root)
            scaled = -2.0 / unit * model.root[factor, exposure]
            rows.block("te_factors", np.zeros(len(model.root)), (factor, at["y"][exposure], scaled))
            plain = np.flatnonzero(self.plain)
            entry = (np.arange(len(plain)), at["x"][plain], -2.0 / unit * model.deviation[plain])
            rows.block("te_names", np.zeros(len(plain)), entry)
            rows.block("te_bottom", top - 1.0, *level)
            self._cone(clarabel.SecondOrderConeT, first)
        m = len(self.hull)
        if not m:
            return
        # (sqrt(D) x_b / T)^2 <= v_b z_b as |(2 sqrt(D) x_b / T ; v - z)| <= v + z
        name, row = branches.name[self.hull], 3 * np.arange(m)
        scale = -2.0 / unit * model.deviation
        z = self.z_of[branches.of_group[self.groups]] if len(self.groups) else self.groups
        hulled = np.flatnonzero(z >= 0)
        buys = np.flatnonzero(self.z_of[self.buying] >= 0)
        rows.block(
            "perspective",
            np.zeros(3 * m),
            (row, at["v"], -1.0),
            (row, at["z"], -1.0),
            (row + 1, at["z"], scale[name] * (model.held_active[name] - branches.front[self.hull])),
            (3 * z[hulled] + 1, at["s"][hulled], -scale[model.queue.name[self.groups[hulled]]]),
            (
                3 * self.z_of[self.buying[buys]] + 1,
                at["b"][buys],
                scale[branches.name[self.buying[buys]]],
            ),
            (row + 2, at["v"], -1.0),
            (row + 2, at["z"], 1.0),
        )
        self.cones.extend(clarabel.SecondOrderConeT(3) for _ in range(m))

    def _cone(self, kind: type, first: int) -> None:
        if self.rows.count > first:
            self.cones.append(kind(self.rows.count - first))

    # -------------------------------------------------------------- objective and solution

    def _objective(self) -> tuple[sp.csc_matrix, FloatArray, float]:
        """Quadratic term (upper triangle), linear term, constant."""
        model, at, limits, branches = self.model, self.at, self.model.program.limits, self.model.branches
        linear = np.zeros(self.columns)
        if self.ask.elastic:
            if self.slack_cost:
                linear[self.columns - sum(len(c) for c in self.slack_cost) :] = np.concatenate(self.slack_cost)
            return sp.csc_matrix((self.columns, self.columns)), linear, 0.0
        linear[at["s"]] = model.group_cost[self.groups]
        linear[at["b"]] = model.buy_cost[branches.name[self.buying]]
        linear[at["z"]] = model.front_cost[self.hull]
        linear[at["v"]] = limits.risk_aversion * model.unit**2
        linear[at["tax"][2:]] = limits.tax_weight
        constant = float(model.front_cost[self.single].sum())
        if model.flat_tax:
            constant += limits.tax_weight * float(model.program.tax_pieces[0, 2])
        plain = np.flatnonzero(self.plain)
        row, column = np.triu_indices(len(at["y"]))
        covariance = model.program.factor_covariance[row, column]
        values = np.concatenate((model.program.specific_variance[plain], covariance)) * (2.0 * limits.risk_aversion)
        rows = np.concatenate((at["x"][plain], at["y"][row]))
        columns = np.concatenate((at["x"][plain], at["y"][column]))
        quadratic = sp.csc_matrix((values, (rows, columns)), shape=(self.columns, self.columns))
        return quadratic, linear, constant

    def solve(self) -> Outcome:
        """Clarabel on this problem; deterministic unless a time limit is given."""
        quadratic, linear, constant = self._objective()
        scale = 1.0 if self.ask.elastic else self.model.scale
        quadratic, linear = quadratic / scale, linear / scale
        matrix, rhs = self.rows.matrix(self.columns)
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_iter = MAX_ITERATIONS
        settings.tol_feas = TOLERANCE
        settings.tol_gap_abs = settings.tol_gap_rel = TOLERANCE if len(self.hull) else PLAN_GAP
        if not self.ask.careful:  # a fifth faster at the same objective (docs/METHODS.md)
            settings.iterative_refinement_reltol = 1e-8
            settings.iterative_refinement_abstol = 1e-9
            settings.iterative_refinement_max_iter = 3
        if np.isfinite(self.ask.time_limit_s):
            settings.time_limit = max(self.ask.time_limit_s, 1e-3)
        answer = clarabel.DefaultSolver(quadratic, linear, matrix, rhs, self.cones, settings).solve()
        status = str(answer.status)
        if status not in ("Solved", "AlmostSolved"):
            return Outcome(status=status, primal=np.inf, dual=-np.inf)
        x, z = np.asarray(answer.x), np.asarray(answer.z) * scale
        if not (np.isfinite(x).all() and np.isfinite(z).all()):
            return Outcome(status="NumericalError", primal=np.inf, dual=-np.inf)
        return self._read(status, x, z, answer.obj_val * scale + constant, answer.obj_val_dual * scale + constant)

    def _read(self, status: str, x: FloatArray, z: FloatArray, primal: float, dual: float) -> Outcome:
        model, at, branches, n = self.model, self.at, self.model.branches, len(self.model.held_active)
        share = np.zeros(len(branches.name))
        share[self.single] = 1.0
        share[self.hull] = x[at["z"]]
        by_group = np.zeros(len(model.queue.name))
        by_group[self.groups] = np.maximum(x[at["s"]], 0.0)
        front = np.bincount(branches.name, branches.front * share, n)
        sold = np.clip(np.bincount(model.queue.name, by_group, n) + front, 0.0, model.queue.sellable)
        bought = np.bincount(branches.name[self.buying], np.maximum(x[at["b"]], 0.0), n).astype(np.float64)
        duals = {key: z[start:stop] for key, (start, stop) in self.rows.start.items()}
        duals.update(self._two_sided_duals(duals))
        slack = {family: np.maximum(x[np.concatenate(parts)], 0.0) for family, parts in self.slack.items()}
        return Outcome(status, primal, dual, sold, by_group, bought, share, duals, slack)

    def _two_sided_duals(self, duals: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Duals of both sides of two-sided limits, 0 where a side is not there; an equality's sign says its side."""
        sides = {}
        for key, (_, low, _, _, _) in self.between.items():
            for side, sign in (("_max", 1.0), ("_min", -1.0)):
                values = np.zeros(len(low))
                if key + side in duals:
                    values[self.kept[key + side]] = duals[key + side]
                if key in duals:
                    values[self.kept[key]] = np.maximum(sign * duals[key], 0.0)
                sides[key + side] = values
        return sides
