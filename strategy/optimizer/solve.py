"""The public call: a lot program in, a plan with a certificate or an explanation out.

What becomes of a solver status (docs/METHODS.md): `Solved` is a plan once every limit has been checked without the
solver; `AlmostSolved` likewise, and is never called optimal; anything else is explained with slack, and no number of
it is ever read.
"""

from __future__ import annotations

import math
import time

import numpy as np

from strategy.optimizer.explain import SLIGHT, binding, conflict, lifted_caps, out_of_reach, percent
from strategy.optimizer.model import Model, build_model, tax
from strategy.optimizer.program import LotProgram, Solution, Status, validated
from strategy.optimizer.search import Plan, Search
from strategy.optimizer.violations import tracking_error, violations

OPTIMAL_BP = 1.0  # a plan certified within this of the best is called optimal
BP = 1e4
GIVE_WAY = 1e-7  # weight; what limits give way by, beyond the conflict, when the conflict is smaller than SLIGHT


def optimize(
    program: LotProgram, *, max_nodes: int = 16, time_limit_s: float = math.inf, explain: bool = True
) -> Solution:
    """The trades that minimise `risk_aversion * variance + tax_weight * tax + half_spread * trades` within the limits.

    With ordered relief `lot_age_hygiene` adds to what a purchase costs, in the reported objective too.
    Never sells a loss and buys the same name; sells only what `relief` disposes of. `max_nodes` bounds the
    relaxations solved after the first; `time_limit_s` (wall clock, a guard) makes the result depend on the machine.
    Without `explain` an infeasible program is not asked which limit is to blame, which takes longer than the rest.
    The certificate compares with every plan that keeps the limits, wash-sale rule and disposal order included.
    Raises ValueError, naming field, expected and seen, where the program makes no sense.
    """
    began = time.perf_counter()
    program = validated(program)
    if not len(program.weights_held):
        return _nothing_to_trade(program, began)
    model = build_model(program)
    impossible = out_of_reach(model)
    if impossible:
        return _no_plan(model, "infeasible", impossible, began)
    deadline = began + time_limit_s
    search = Search(model, max_nodes, deadline)
    search.run()
    if search.best is not None:
        return _planned(model, search, search.best, began)
    return _explained(model, search, deadline, began, explain=explain)


def _planned(model: Model, search: Search, plan: Plan, began: float) -> Solution:
    gap = (plan.objective - search.bound) * BP
    gap = max(gap, 0.0) if math.isfinite(gap) else math.inf
    exact = plan.exact and gap <= OPTIMAL_BP
    notes = list(lifted_caps(model))
    if not plan.exact:
        notes.append("the solver stopped short of full accuracy; every limit was checked independently")
    if gap > OPTIMAL_BP:
        notes.append(f"a plan up to {gap:.2f} bp of NAV better may exist: the search ended after {search.nodes} nodes")
    if search.loosen:
        notes.append(f"the limits conflict by less than {SLIGHT:.0e} of NAV and were met to within that")
    return Solution(
        sell=plan.sell,
        buy=plan.buy,
        status="optimal" if exact else "near_optimal",
        objective=plan.objective,
        certified_gap_bp=gap,
        tracking_error=model.tracking_error(plan.sell, plan.buy),
        binding=binding(model, plan.outcome, plan.buy),
        reasons=tuple(notes),
        seconds=time.perf_counter() - began,
    )


def _explained(model: Model, search: Search, deadline: float, began: float, *, explain: bool) -> Solution:
    """The search found no plan: why, and where the conflict is below any share's worth, a plan after all."""
    if time.perf_counter() >= deadline:
        return _no_plan(model, "stopped", ("the time limit passed before a plan was found",), began)
    found = conflict(model, deadline, explain=explain)
    root_solved = search.root is not None and search.root.solved
    if found.slack <= SLIGHT and not root_solved:
        again = Search(model, search.max_nodes, deadline, loosen=found.slack + GIVE_WAY)
        again.run()
        if again.best is not None:
            return _planned(model, again, again.best, began)
        if again.root is None or not again.root.solved:
            status = again.root.status if again.root is not None else "not started"
            return _no_plan(model, "failed", (f"the solver gave no usable answer: {status}",), began)
        search = again
    if time.perf_counter() >= deadline:
        return _no_plan(model, "stopped", ("the time limit passed before a plan was found",), began)
    if found.reasons and (search.exhausted or not root_solved):
        return _no_plan(model, "infeasible", found.reasons, began)
    tried = f"no plan found in {search.nodes} nodes that keeps wash-sale rule, disposal order and every limit"
    why = (tried, *found.reasons, *search.complaints)
    return _no_plan(model, "infeasible" if search.exhausted else "stopped", why, began)


def _no_plan(model: Model, status: Status, reasons: tuple[str, ...], began: float) -> Solution:
    sell, buy = np.zeros(len(model.program.lot_name)), np.zeros(len(model.held_active))
    return Solution(
        sell=sell,
        buy=buy,
        status=status,
        objective=math.inf,
        certified_gap_bp=math.inf,
        tracking_error=model.tracking_error(sell, buy),
        binding=(),
        reasons=(*reasons, *lifted_caps(model)),
        seconds=time.perf_counter() - began,
    )


def _nothing_to_trade(program: LotProgram, began: float) -> Solution:
    """A book without names: everything is cash, and either that is within the limits or nothing is."""
    nothing = np.zeros(0)
    broken = {limit: excess for limit, excess in violations(program, nothing, nothing).items() if excess > SLIGHT}
    reasons = tuple(f"there are no names, and {limit} is exceeded by {percent(v)}" for limit, v in broken.items())
    return Solution(
        sell=nothing,
        buy=nothing,
        status="infeasible" if broken else "optimal",
        objective=math.inf if broken else program.limits.tax_weight * tax(program, nothing),
        certified_gap_bp=math.inf if broken else 0.0,
        tracking_error=tracking_error(program, nothing, nothing),
        binding=(),
        reasons=reasons,
        seconds=time.perf_counter() - began,
    )
