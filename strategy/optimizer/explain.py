"""Why there is no plan, and what the limits cost where there is one, in sentences with numbers.

An infeasible program is solved again with slack: each kind of limit alone ("would relaxing this one be enough, and by
how much?"), then all together. The least relaxation is confirmed on one branch a name, so it is one a plan can reach.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from strategy.optimizer.conic import SLACK_WEIGHTS, Ask, Outcome, Problem
from strategy.optimizer.model import Model, build_model
from strategy.optimizer.search import largest_shares, seed_branches
from strategy.types import BoolArray, FloatArray

SLIGHT = 5e-7  # weight: limits in conflict by less are met by letting all of them give way that much
MANY_BRANCHES = 4000  # above this the explanation looks at the seed branches only
CONTRIBUTORS = 5
NOTICEABLE_BP = 1e-3  # of NAV: binding limits worth less are not mentioned
MENTIONED = 12  # binding limits

FAMILY_WORDS = {
    "tracking_error": "tracking-error limit",
    "turnover": "turnover limit",
    "net_gain": "net-gain limit",
    "cash": "cash limits",
    "sector": "sector limit",
    "factor": "factor limits",
}


@dataclass(frozen=True)
class Conflict:
    """What an infeasible program needs: `slack` is the most any limit must give way (in its own unit)."""

    slack: float
    reasons: tuple[str, ...]


def percent(fraction: float, up: bool = False) -> str:
    """A fraction for people: `0.2516 %`; `up` never rounds below the true value."""
    scaled = fraction * 100
    shown = math.ceil(scaled * 1e4 - 1e-6) / 1e4 if up else round(scaled, 4)
    return f"{shown:.4f}".rstrip("0").rstrip(".") + " %"


# ------------------------------------------------------------------ why there is no plan


def lifted_caps(model: Model) -> tuple[str, ...]:
    """Names that stay above their cap because they cannot be sold below it."""
    cap, held = model.program.limits.name_weight_max, model.program.weights_held
    lifted = np.flatnonzero(model.cap > cap + 1e-12)
    return tuple(
        f"name {model.program.label(int(i))} is held at {percent(held[i])}, above its limit of {percent(cap[i])}, and "
        f"can be sold down to {percent(model.cap[i])} only: its limit counts as that"
        for i in lifted[:MENTIONED]
    )


def out_of_reach(model: Model) -> tuple[str, ...]:
    """Limits that no trade could meet, found name by name without solving anything."""
    limits, held = model.program.limits, model.program.weights_held
    reasons = []
    most_cash = 1.0 - float((held - model.queue.sellable).sum())
    if most_cash < limits.cash_min - SLIGHT:
        reasons.append(
            f"the cash minimum of {percent(limits.cash_min)} cannot be met: selling everything that may be sold "
            f"leaves {percent(most_cash)}"
        )
    room = np.zeros(len(held))
    np.maximum.at(room, model.branches.name, model.branches.room)
    least_cash = 1.0 - float((held + room).sum())
    if least_cash > limits.cash_max + SLIGHT:
        reasons.append(
            f"the cash maximum of {percent(limits.cash_max)} cannot be met: buying all that may be bought leaves "
            f"{percent(least_cash)}"
        )
    forced = np.maximum(held - model.cap, 0.0)
    if forced.sum() > limits.turnover_max + SLIGHT:
        largest = ", ".join(
            model.program.label(int(i)) for i in np.argsort(-forced, kind="stable")[:CONTRIBUTORS] if forced[i] > 0
        )
        reasons.append(
            f"the turnover limit of {percent(limits.turnover_max)} cannot be met: bringing names above their weight "
            f"limit down to it takes {percent(float(forced.sum()))} (names {largest})"
        )
    return tuple(reasons)


def conflict(model: Model, deadline: float, *, explain: bool = True) -> Conflict:
    """Which limits are in conflict, and the least relaxation that would work; without `explain` only how much."""
    model = build_model(model.program, room_by_cap_alone=True)
    together = _elastic(model, frozenset(SLACK_WEIGHTS), deadline)
    if together is None:
        return Conflict(math.inf, ("the limits are in conflict, and the solver could not tell which",))
    slack = _slack(model, together)
    worst = max(slack.values(), default=0.0)
    if worst <= SLIGHT:
        return Conflict(worst, ())
    if not explain:
        return Conflict(worst, ("the limits are in conflict",))
    alone = []
    for family in SLACK_WEIGHTS:
        outcome = _elastic(model, frozenset({family}), deadline)
        if outcome is not None and family in outcome.slack:
            alone.append(_sentence(model, family, outcome))
    if len(alone) > 1:
        alone.append("any one of these would be enough")
    if alone:
        return Conflict(worst, tuple(alone))
    needed = [_sentence(model, family, together) for family, amount in slack.items() if amount > SLIGHT]
    return Conflict(worst, ("no single limit is to blame; relaxing these together would work", *needed))


def _elastic(model: Model, families: frozenset[str], deadline: float) -> Outcome | None:
    """Least slack of `families`, confirmed on one branch a name; None where that is not enough (or unknown)."""
    every = np.ones(len(model.branches.name), dtype=bool)
    active = every if len(every) <= MANY_BRANCHES else seed_branches(model)
    relaxed = _slackest(model, active, families, deadline)
    if relaxed is None:
        return None
    chosen = largest_shares(model, np.where(active, relaxed.share, -1.0))
    return _slackest(model, chosen, families, deadline) or relaxed


def _slackest(model: Model, active: BoolArray, families: frozenset[str], deadline: float) -> Outcome | None:
    for careful in (False, True):
        left = deadline - time.perf_counter()
        outcome = Problem(model, active, Ask(elastic=families, careful=careful, time_limit_s=left)).solve()
        if outcome.solved:
            return outcome
        if outcome.infeasible:
            return None
    return None


def _slack(model: Model, outcome: Outcome) -> dict[str, float]:
    """The largest slack of each family, in the limit's own unit."""
    limit = model.program.limits.tracking_error_max
    slack = {family: float(values.max()) for family, values in outcome.slack.items() if len(values)}
    if "tracking_error" in slack:
        slack["tracking_error"] = math.sqrt(limit**2 + slack["tracking_error"] * model.unit**2) - limit
    return slack


def _sentence(model: Model, family: str, outcome: Outcome) -> str:
    limits = model.program.limits
    slack = _slack(model, outcome)[family]
    active = model.held_active - outcome.sold + outcome.bought
    if family == "tracking_error":
        return _tracking_error_sentence(model, active, slack)
    if family == "turnover":
        return (
            f"the turnover limit of {percent(limits.turnover_max)} cannot be met: "
            f"the least that works is {percent(limits.turnover_max + slack, up=True)}"
        )
    if family == "net_gain":
        return (
            f"the net-gain limit of {percent(limits.net_gain_max)} cannot be met: "
            f"the least that works is {percent(limits.net_gain_max + slack, up=True)}"
        )
    if family == "cash":
        cash = 1.0 - float((active + model.program.benchmark_weights).sum())
        side = "minimum" if cash < limits.cash_min else "maximum"
        bound = limits.cash_min if side == "minimum" else limits.cash_max
        word = "most" if side == "minimum" else "least"
        return f"the cash {side} of {percent(bound)} cannot be met: the {word} that works is {percent(cash)}"
    if family == "sector":
        deviation = np.bincount(model.sector, active)
        worst = int(np.abs(deviation).argmax())
        label = int(np.unique(model.program.sector)[worst])
        return (
            f"the sector limit of {percent(limits.sector_deviation_max)} cannot be met: sector {label} is at "
            f"{percent(deviation[worst])}; the least limit that works is "
            f"{percent(limits.sector_deviation_max + slack, up=True)}{_blocked(model, model.sector == worst)}"
        )
    exposure = model.program.factor_loadings.T @ active
    excess = np.maximum(exposure - limits.factor_exposure_max, limits.factor_exposure_min - exposure)
    worst = int(excess.argmax())
    return (
        f"the exposure bounds of factor {worst}, {limits.factor_exposure_min[worst]:.4g} to "
        f"{limits.factor_exposure_max[worst]:.4g}, cannot be met: the nearest that works is {exposure[worst]:.4g}"
    )


def _tracking_error_sentence(model: Model, active: FloatArray, slack: float) -> str:
    limits, program = model.program.limits, model.program
    marginal = program.factor_loadings @ (program.factor_covariance @ (program.factor_loadings.T @ active))
    contribution = active * (marginal + program.specific_variance * active)
    stuck = _stuck(model)
    share = np.where(stuck, contribution, -np.inf) if stuck.any() else contribution
    order = [int(i) for i in np.argsort(-share, kind="stable")[:CONTRIBUTORS] if share[i] > 0]
    largest = ", ".join(f"{program.label(i)} at {percent(active[i])}" for i in order)
    who = "largest contributors that may not be traded" if stuck.any() else "largest contributors"
    blocked = np.where(stuck, active, 0.0)
    alone = math.sqrt(max(model.variance(blocked), 0.0))
    cost = f": the {int(stuck.sum())} names that may not be traded alone cost {percent(alone)}" if stuck.any() else ""
    return (
        f"the tracking-error limit of {percent(limits.tracking_error_max)} cannot be met{cost}; the least that works "
        f"is {percent(limits.tracking_error_max + slack, up=True)}" + (f" ({who}: {largest})" if largest else "")
    )


def _stuck(model: Model) -> BoolArray:
    """(n,) names that can be neither sold nor bought."""
    room = np.zeros(len(model.held_active))
    np.maximum.at(room, model.branches.name, model.branches.room)
    return np.asarray((model.queue.sellable <= 0) & (room <= 0))


def _blocked(model: Model, among: BoolArray) -> str:
    stuck = np.flatnonzero(_stuck(model) & among)
    if not len(stuck):
        return ""
    order = stuck[np.argsort(-np.abs(model.held_active[stuck]), kind="stable")][:CONTRIBUTORS]
    return " (largest that may not be traded: " + ", ".join(model.program.label(int(i)) for i in order) + ")"


# ------------------------------------------------------------------ what the limits cost


def binding(model: Model, outcome: Outcome, buy: FloatArray) -> tuple[str, ...]:
    """Limits that bind at the plan and what relaxing each a little would be worth, dearest first."""
    limits, dual = model.program.limits, outcome.duals
    found: list[tuple[float, str]] = []

    def note(value_per_unit: float, step: float, words: str) -> None:
        worth = value_per_unit * step * 1e4
        if worth > NOTICEABLE_BP:
            found.append((worth, f"{words} would be worth {worth:.3g} bp of NAV"))

    if "te_top" in dual:
        level = max(float(dual["te_top"][0] + dual["te_bottom"][0]), 0.0)
        limit = limits.tracking_error_max
        note(level * 2 * limit / model.unit**2, 1e-4, f"tracking-error limit {percent(limit)} binds: 0.01 % more of it")
    rows = (
        ("turnover", limits.turnover_max, 1e-2, "turnover limit {} binds: 1 % more of it"),
        ("net_gain", limits.net_gain_max, 1e-3, "net-gain limit {} binds: 0.1 % more of it"),
        ("invested_max", limits.cash_min, 1e-3, "cash minimum {} binds: 0.1 % less of it"),
        ("invested_min", limits.cash_max, 1e-3, "cash maximum {} binds: 0.1 % more of it"),
    )
    for key, bound, step, words in rows:
        if key in dual:
            note(float(dual[key][0]), step, words.format(percent(bound)))
    labels = np.unique(model.program.sector)
    for key, side in (("sector_max", "above"), ("sector_min", "below")):
        for r, value in enumerate(dual.get(key, ())):
            words = f"sector limit {percent(limits.sector_deviation_max)} binds {side} for sector {labels[r]}"
            note(float(value), 1e-3, f"{words}: 0.1 % more of it")
    for key, side, bounds in (
        ("factor_max", "maximum", limits.factor_exposure_max),
        ("factor_min", "minimum", limits.factor_exposure_min),
    ):
        for j, value in enumerate(dual.get(key, ())):
            note(float(value), 1e-2, f"factor {j} exposure {side} {bounds[j]:.4g} binds: 0.01 more room")
    over = np.flatnonzero(model.program.weights_held > model.cap)
    for r, value in enumerate(dual.get("name_cap", ())):
        note(float(value), 1e-3, _name_words(model, int(over[r])))
    for name, value in _at_room(model, outcome, buy):
        note(value, 1e-3, _name_words(model, name))
    return tuple(words for _, words in sorted(found, key=lambda entry: -entry[0])[:MENTIONED])


def _name_words(model: Model, name: int) -> str:
    return f"weight limit {percent(model.cap[name])} of name {model.program.label(name)} binds: 0.1 % more of it"


def _at_room(model: Model, outcome: Outcome, buy: FloatArray) -> list[tuple[int, float]]:
    """Names bought up to their weight limit, with the dual of that bound."""
    at_cap = np.flatnonzero((buy > 0) & (model.held_active + model.program.benchmark_weights + buy >= model.cap - 1e-7))
    if not len(at_cap) or "buy_to" not in outcome.duals:
        return []
    played = np.flatnonzero((outcome.share > 0) & (model.branches.room > 0))
    bounded = played[np.isfinite(model.branches.room[played])]
    values = dict(zip(model.branches.name[bounded].tolist(), outcome.duals["buy_to"].tolist(), strict=True))
    return [(int(i), float(values.get(int(i), 0.0))) for i in at_cap]
