"""From the relaxation to a plan: price branches, round, solve once more, and branch where that is not enough.

The relaxation over every branch bounds what any plan can reach. Its largest share of each name picks a branch; with
one branch a name the program is convex and its solution is a plan (docs/METHODS.md). If
there is no such plan, or it is further than `ENOUGH` from the bound, names are branched on, best bound first.

With many runs most are never worth a look: the relaxation starts with few, prices all the others in closed form at its
own duals, and adds those that would improve it (docs/METHODS.md). The bound holds for any subset.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from strategy.optimizer.conic import Ask, Outcome, Problem
from strategy.optimizer.model import Model
from strategy.optimizer.violations import violations
from strategy.types import BoolArray, FloatArray, IntArray

ENOUGH = 1e-5  # objective, 0.1 bp: plans this near the bound end the search
ENOUGH_LARGE = 3e-5  # 0.3 bp, where a node takes long
LARGE = 100  # names
KEPT = 1e-6  # a limit exceeded by no more than this is kept: the solver's precision after dust
DUST = 1e-7  # weight; smaller trades are not made
SAFETY = 1e-8  # objective; the solver's own tolerance, taken off every bound
FEW_BRANCHES = 400  # below this all branches enter at once
PRICING_ROUNDS = 6
WORTH_ADDING = 5e-7  # objective; improvements promised by pricing below this are left


@dataclass(frozen=True)
class Plan:
    """Trades that keep every limit."""

    sell: FloatArray
    buy: FloatArray
    objective: float
    exact: bool  # the solver's full accuracy
    outcome: Outcome


@dataclass(frozen=True)
class Relaxation:
    """A solved relaxation over the `active` branches, with a bound that holds for all `allowed` ones."""

    outcome: Outcome
    bound: float
    active: BoolArray
    allowed: BoolArray


@dataclass
class Search:
    """One search: its settings, its best plan so far and its bound."""

    model: Model
    max_nodes: int
    deadline: float = math.inf
    loosen: float = 0.0
    best: Plan | None = None
    bound: float = -math.inf
    nodes: int = 0
    root: Outcome | None = None
    exhausted: bool = False  # every branch was looked at: no plan means there is none
    complaints: list[str] = field(default_factory=list)  # why candidate plans were not accepted

    @property
    def enough(self) -> float:
        """How near the bound a plan must be."""
        return ENOUGH if len(self.model.held_active) <= LARGE else ENOUGH_LARGE

    @property
    def gap(self) -> float:
        """Objective units between the best plan and the bound; infinity without a plan."""
        return math.inf if self.best is None else max(self.best.objective - self.bound, 0.0)

    def run(self) -> None:
        """Fill `best` and `bound`."""
        everything = np.ones(len(self.model.branches.name), dtype=bool)
        root = self._relax(everything, seed_branches(self.model))
        self.root = root.outcome
        if not root.outcome.solved:
            self.exhausted = root.outcome.infeasible
            return
        self.bound = root.bound
        self._finish(root)
        if self.gap > self.enough:
            self._branch(root)

    # -------------------------------------------------------------- the relaxation

    def _ask(self, careful: bool = False) -> Ask:
        return Ask(loosen=self.loosen, careful=careful, time_limit_s=self.deadline - time.perf_counter())

    def _solve(self, active: BoolArray) -> Outcome:
        outcome = Problem(self.model, active, self._ask()).solve()
        if outcome.status == "Solved" or outcome.infeasible or self._late:
            return outcome
        again = Problem(self.model, active, self._ask(careful=True)).solve()
        return again if again.solved or not outcome.solved else outcome

    @property
    def _late(self) -> bool:
        return time.perf_counter() >= self.deadline

    def _relax(self, allowed: BoolArray, active: BoolArray) -> Relaxation:
        """Solve over `active`, adding allowed branches while pricing finds better ones."""
        model, bound = self.model, -math.inf
        missing = np.bincount(model.branches.name, active, len(model.held_active)) == 0
        active = active | (allowed & missing[model.branches.name])
        for _ in range(PRICING_ROUNDS):
            outcome = self._solve(active)
            if not outcome.solved:
                if (active == allowed).all() or self._late:
                    break
                active = allowed.copy()  # infeasible with these branches says nothing about the others
                continue
            if (active == allowed).all():
                bound = max(bound, outcome.dual - SAFETY * self.model.scale)
                break
            best, current = price(model, outcome, active)
            best = np.where(allowed, best, np.inf)
            least = np.full(len(current), np.inf)
            np.minimum.at(least, model.branches.name, best)
            promised = np.minimum(least - current, 0.0)
            bound = max(bound, outcome.dual + float(promised.sum()) - SAFETY * self.model.scale)
            better = (best < current[model.branches.name] - 1e-12) & ~active
            if -promised.sum() < WORTH_ADDING or not better.any():
                break
            active = active | better
        return Relaxation(outcome, bound, active, allowed)

    # -------------------------------------------------------------- plans

    def _finish(self, relaxed: Relaxation) -> None:
        """Round the relaxation to one branch a name, solve, and keep the plan if it is the best."""
        chosen = largest_shares(self.model, np.where(relaxed.active, relaxed.outcome.share, -1.0))
        outcome = self._solve(chosen)
        if not outcome.solved:
            return
        plan = self._plan(outcome)
        if plan is None and not self._late:
            outcome = Problem(self.model, chosen, self._ask(careful=True)).solve()
            plan = self._plan(outcome) if outcome.solved else None
        if plan is not None and (self.best is None or plan.objective < self.best.objective - 1e-10):
            self.best = plan

    @cached_property
    def _idle_objective(self) -> float:
        """Objective of not trading; infinity where that breaks a limit."""
        model = self.model
        sell, buy = np.zeros(len(model.program.lot_name)), np.zeros(len(model.held_active))
        kept = max(violations(model.program, sell, buy).values()) <= KEPT
        return model.objective(sell, buy) if kept else math.inf

    def _plan(self, outcome: Outcome) -> Plan | None:
        """The outcome's trades, if an independent check finds every limit kept."""
        model = self.model
        for dust in (DUST, 0.0):
            sell, buy = trades(model, outcome, dust)
            broken = {k: v for k, v in violations(model.program, sell, buy).items() if v > KEPT + self.loosen}
            if not broken:
                objective = model.objective(sell, buy)
                exact = outcome.status == "Solved"
                if self._idle_objective <= objective + SAFETY * model.scale:  # the solver's noise is not worth trading
                    return Plan(np.zeros_like(sell), np.zeros_like(buy), self._idle_objective, exact, outcome)
                return Plan(sell, buy, objective, exact, outcome)
        self.complaints = [f"{limit} exceeded by {excess:.2g}" for limit, excess in broken.items()]
        return None

    # -------------------------------------------------------------- branch and bound

    def _branch(self, root: Relaxation) -> None:
        """Best bound first, at most `max_nodes` relaxations; the bound stays valid whenever it stops."""
        heap = [(root.bound, 0, root)]
        closed, made = math.inf, 0
        while heap and self.nodes < self.max_nodes and not self._late:
            bound, _, node = heap[0]
            if self.best is not None and bound > self.best.objective - self.enough:
                break
            heapq.heappop(heap)
            name = _largest_stake(self.model, node)
            if name < 0:  # one branch a name already: rounding it was exact
                closed = min(closed, bound)
                continue
            for allowed in _split(self.model, node, name):
                child = self._relax(allowed, node.active & allowed)
                self.nodes += 1
                if not child.outcome.solved:
                    if not child.outcome.infeasible:
                        closed = min(closed, bound)  # the solver gave up: only the parent's bound is known
                    continue
                self._finish(child)
                made += 1
                heapq.heappush(heap, (max(child.bound, bound), made, child))
        open_bounds = [bound for bound, _, _ in heap]
        reached = min([*open_bounds, closed, self.best.objective if self.best else math.inf])
        self.exhausted = not heap and closed == math.inf
        if np.isfinite(reached):
            self.bound = max(self.bound, reached)


def trades(model: Model, outcome: Outcome, dust: float) -> tuple[FloatArray, FloatArray]:
    """(L,) sells and (n,) buys of an outcome: what relief really disposes of, without dust, sales and buys netted."""
    sold, buy, by_group = outcome.sold.copy(), np.where(outcome.bought < dust, 0.0, outcome.bought), outcome.by_group
    both = np.flatnonzero((sold > 0) & (buy > 0))
    if len(both):  # only gains are ever sold beside a purchase: doing less of each is better
        by_group = by_group.copy()
        for name in both:
            netted = min(sold[name], buy[name])
            sold[name] -= netted
            buy[name] -= netted
            for group in np.flatnonzero(model.queue.name == name)[::-1]:
                taken = min(netted, by_group[group])
                by_group[group] -= taken
                netted -= taken
        buy = np.where(buy < dust, 0.0, buy)
    sell = model.lots_for(sold, by_group, dust)
    beside = buy[model.program.lot_name] > 0
    return np.where(beside & (sell < DUST), 0.0, sell), buy


def price(model: Model, outcome: Outcome, active: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Best response of every branch (B,) at the outcome's duals, and the present level of every name (n,).

    `min over u, b of cost(u) + hs b + zt (u + b) + pi x + kappa D x^2` (docs/METHODS.md), closed form for each
    group because the cost is linear along it.
    """
    branches, queue, a = model.branches, model.queue, model.held_active
    dual = outcome.duals
    turnover = _one(dual.get("turnover"))
    gain = _one(dual.get("net_gain"))
    short, long = gain - _one(dual.get("net_short")), gain - _one(dual.get("net_long"))
    cone = max(_one(dual.get("te_top")) + _one(dual.get("te_bottom")), 0.0)
    kappa = model.program.limits.risk_aversion + cone / model.unit**2
    curvature = np.maximum(kappa * model.program.specific_variance, 1e-14)
    in_play = np.bincount(branches.name, active, len(a))
    x = a - outcome.sold + outcome.bought
    slope = -dual["weight"] - np.where(in_play == 1, 2.0 * curvature * x, 0.0)

    def worth(i: IntArray, active_weight: FloatArray) -> FloatArray:
        return slope[i] * active_weight + curvature[i] * active_weight**2

    best = np.full(len(branches.name), np.inf)
    i = queue.name
    per_unit = model.group_cost + turnover + np.where(queue.long_term, long, short) * queue.gain
    front = model.front_cost + turnover * branches.front + short * branches.front_short + long * branches.front_long
    held = np.flatnonzero(branches.of_group >= 0)
    run = branches.of_group[held]
    i, per_unit, weight = i[held], per_unit[held], queue.weight[held]
    ahead = np.concatenate(([0.0], np.cumsum(weight * per_unit)))[:-1]
    into = np.flatnonzero(np.append(True, run[1:] != run[:-1])) if len(run) else run
    ahead -= np.repeat(ahead[into], np.diff(np.append(into, len(run))))
    sold = np.clip(a[i] - (per_unit - slope[i]) / (2.0 * curvature[i]), queue.front[held], queue.front[held] + weight)
    response = front[run] + ahead + per_unit * (sold - queue.front[held]) + worth(i, a[i] - sold)
    np.minimum.at(best, run, response)
    idle = np.flatnonzero((branches.room > 0) | (branches.last <= branches.first))
    i = branches.name[idle]
    unit = model.buy_cost[i] + turnover
    bought = np.clip(-(unit + slope[i]) / (2.0 * curvature[i]) - a[i], 0.0, branches.room[idle])
    best[idle] = np.minimum(best[idle], unit * bought + worth(i, a[i] + bought))
    level = np.full(len(a), np.inf)
    np.minimum.at(level, branches.name[active], best[active])
    hulled = np.flatnonzero(in_play > 1)
    if len(hulled):
        level[hulled] = -dual["choice"]
    return best, level


def _one(value: FloatArray | None) -> float:
    return 0.0 if value is None else float(value[0])


def seed_branches(model: Model) -> BoolArray:
    """Branches to begin with: the first of every name, and the one that ends cheapest (docs/METHODS.md)."""
    branches, queue = model.branches, model.queue
    if len(branches.name) <= max(FEW_BRANCHES, len(model.held_active)):
        return np.ones(len(branches.name), dtype=bool)
    cheapest = model.front_cost.copy()
    held = np.flatnonzero(branches.of_group >= 0)
    spent = np.concatenate(([0.0], np.cumsum(queue.weight * model.group_cost)))
    run = branches.of_group[held]
    end = model.front_cost[run] + spent[held + 1] - spent[branches.first[run]]
    np.minimum.at(cheapest, run, end)
    first = np.append(True, branches.name[1:] != branches.name[:-1])
    crowd = np.bincount(branches.name, minlength=len(model.held_active))
    return np.asarray(first | largest_shares(model, -cheapest) | (crowd[branches.name] <= 2))


def largest_shares(model: Model, score: FloatArray) -> BoolArray:
    """(B,) True at each name's branch of largest score; ties go to the first branch."""
    name = model.branches.name
    order = np.lexsort((-np.arange(len(name)), score, name))
    last = np.append(name[order][1:] != name[order][:-1], True)[: len(name)]
    chosen = np.zeros(len(name), dtype=bool)
    chosen[order[last]] = True
    return chosen


def _largest_stake(model: Model, node: Relaxation) -> int:
    """The undecided name where a wrong branch matters most, (1 - max z) sqrt(D) (spread of its weight); -1: none."""
    branches = model.branches
    share = np.where(node.active, node.outcome.share, 0.0)
    most = np.zeros(len(model.held_active))
    np.maximum.at(most, branches.name, share)
    reach = np.concatenate(([0.0], np.cumsum(model.queue.weight)))
    length = np.where(branches.last > branches.first, reach[branches.last] - reach[branches.first], 0.0)
    played = np.flatnonzero(share > 1e-6)
    low, high = np.full(len(most), np.inf), np.full(len(most), -np.inf)
    np.minimum.at(low, branches.name[played], (branches.front - branches.room)[played])
    np.maximum.at(high, branches.name[played], (branches.front + length)[played])
    several = most < 1.0 - 1e-5
    stake = np.where(several, (1.0 - most) * (model.deviation + 1e-6) * np.maximum(high - low, 1e-9), 0.0)
    return int(stake.argmax()) if len(stake) and stake.max() > 0 else -1


def _split(model: Model, node: Relaxation, name: int) -> tuple[BoolArray, BoolArray]:
    """Allowed branches with the name's most played branch alone, and without it."""
    of_name = model.branches.name == name
    most = int(np.argmax(np.where(of_name & node.active, node.outcome.share, -1.0)))
    alone = node.allowed & ~of_name
    alone[most] = True
    without = node.allowed.copy()
    without[most] = False
    return alone, without
