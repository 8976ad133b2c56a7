"""The optimizer on programs that are infeasible, degenerate or wrong: a plan, a reason or a ValueError, never less."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from books import pieces, random_book

from strategy.optimizer import LotProgram, optimize, violations


def assert_sound(program: LotProgram) -> str:
    """A plan that keeps every limit, or no trades and a reason; never a NaN."""
    solution = optimize(program)
    numbers = [*solution.sell, *solution.buy, solution.objective, solution.certified_gap_bp, solution.tracking_error]
    assert not np.isnan(numbers).any()
    if solution.has_plan:
        assert max(violations(program, solution.sell, solution.buy).values()) <= 1e-6
        assert solution.certified_gap_bp >= 0
    else:
        assert solution.reasons
        assert not solution.sell.any()
        assert not solution.buy.any()
        assert solution.objective == math.inf
    return solution.status


# ------------------------------------------------------------------ explained


def test_an_unattainable_tracking_error_names_what_would_work_and_who_is_to_blame() -> None:
    program = random_book(20, 1, tracking_error=0.001, masks=0.0)
    blocked = np.arange(4)
    program = replace(
        program,
        may_buy=~np.isin(np.arange(20), blocked),
        may_sell=~np.isin(program.lot_name, blocked),
    )
    solution = optimize(program)
    assert solution.status == "infeasible"
    words = next(reason for reason in solution.reasons if "tracking-error limit of 0.1 % cannot be met" in reason)
    assert "the 4 names that may not be traded alone cost" in words
    least = float(words.split("the least that works is ")[1].split(" %")[0]) / 100
    assert optimize(with_te(program, least + 1e-6)).has_plan
    assert optimize(with_te(program, least * 0.98)).status == "infeasible"


def with_te(program: LotProgram, limit: float) -> LotProgram:
    return replace(program, limits=replace(program.limits, tracking_error_max=limit))


def test_too_small_a_turnover_limit_says_how_much_is_needed() -> None:
    program = random_book(20, 5, masks=0.0, turnover_max=0.01, tracking_error=0.03)
    solution = optimize(program)
    assert solution.status == "infeasible"
    words = next(reason for reason in solution.reasons if "turnover limit of 1 % cannot be met" in reason)
    least = float(words.split("the least that works is ")[1].split(" %")[0]) / 100
    assert optimize(replace(program, limits=replace(program.limits, turnover_max=least + 1e-5))).has_plan


@pytest.mark.parametrize("seed", range(6))
def test_without_an_explanation_the_answer_is_the_same(seed: int) -> None:
    program = random_book(20, seed, masks=0.5, tracking_error=(0.001, 0.004, 0.03)[seed % 3])
    told, untold = optimize(program), optimize(program, explain=False)
    assert untold.status == told.status
    assert np.array_equal(untold.sell, told.sell)
    assert np.array_equal(untold.buy, told.buy)
    if told.status == "infeasible":
        assert untold.reasons[0] == "the limits are in conflict"


def test_cash_that_cannot_be_raised_is_found_without_solving() -> None:
    program = random_book(10, 2, cash_min=0.5, cash_max=0.6)
    solution = optimize(replace(program, may_sell=np.zeros(len(program.lot_name), dtype=bool)))
    assert solution.status == "infeasible"
    assert solution.reasons[0].startswith("the cash minimum of 50 % cannot be met: selling everything")


def test_a_name_that_cannot_be_sold_below_its_cap_stays_and_is_mentioned() -> None:
    program = random_book(10, 3, masks=0.0, tracking_error=math.inf, cash_max=1.0)
    heavy = int(program.weights_held.argmax())
    cap = program.limits.name_weight_max.copy()
    cap[heavy] = program.weights_held[heavy] / 2
    stuck = replace(program, may_sell=program.lot_name != heavy, limits=replace(program.limits, name_weight_max=cap))
    solution = optimize(stuck)
    assert solution.has_plan
    assert solution.buy[heavy] == 0
    assert any(f"name {heavy} is held at" in reason for reason in solution.reasons)


def test_binding_limits_are_told_with_their_worth() -> None:
    """Relaxing the dearest limit by the step named gains about what was said."""
    program = random_book(40, 11, lots=(2, 6), masks=0.0, tracking_error=0.03, turnover_max=0.3)
    solution = optimize(program)
    words = next(reason for reason in solution.binding if reason.startswith("turnover limit 30 % binds"))
    worth = float(words.split("worth ")[1].split(" bp")[0])
    more = optimize(replace(program, limits=replace(program.limits, turnover_max=0.301)))
    assert (solution.objective - more.objective) * 1e4 * 10 == pytest.approx(worth, rel=0.25)


# ------------------------------------------------------------------ degenerate and slightly infeasible


def degenerate(seed: int) -> LotProgram:
    """A random program with one thing odd about it."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    program = random_book(
        n,
        seed,
        relief=("free", "ordered")[seed % 2],  # type: ignore[arg-type]
        lots=(1, int(rng.integers(1, 9))),
        tracking_error=float(rng.choice([0.0, 0.005, 0.05, 0.1, 0.3, np.inf])),
        masks=float(rng.choice([0.0, 0.1, 0.5, 1.0])),
        tax_pieces=pieces() if rng.random() < 0.3 else None,
        turnover_max=float(rng.choice([0.0, 0.1, 0.5, np.inf])),
        net_gain_max=float(rng.choice([-0.01, 0.0, np.inf, np.inf])),
        sector_deviation_max=float(rng.choice([0.05, 0.2, np.inf])),
        risk_aversion=float(rng.choice([0.0, 1.0, 10.0, 1e4])),
        tax_weight=float(rng.choice([0.0, 1.0, 3.0])),
        factor_exposure_min=np.full(4, -0.6),
        factor_exposure_max=np.full(4, 0.6),
        cash_max=float(rng.choice([0.02, 1.0])),
        lot_age_hygiene=float(rng.choice([0.0, 0.1])),
    )
    return _odd(program, seed // 2 % 13, rng)


def _odd(program: LotProgram, kind: int, rng: np.random.Generator) -> LotProgram:
    caps, lots = program.limits, len(program.lot_name)
    nothing_sellable = np.zeros(lots, dtype=bool)
    slight = 10.0 ** rng.uniform(-9, -3)
    match kind:
        case 0:  # dust lots
            dust = np.where(rng.random(lots) < 0.5, 1.0, 1e-9)
            return replace(program, lot_weight=program.lot_weight * dust)
        case 1:  # all cash
            return replace(program, weights_held=program.weights_held * 0, lot_weight=program.lot_weight * 0)
        case 2:  # nothing held that the benchmark holds
            return replace(program, benchmark_weights=program.benchmark_weights * (program.weights_held == 0))
        case 3:  # no specific risk, hardly any, far too much
            return replace(program, specific_variance=program.specific_variance * rng.choice([0, 1e-8, 1e4]))
        case 4:
            return replace(program, factor_covariance=program.factor_covariance * 0)
        case 5:  # held slightly above a cap that cannot be reached
            cap = np.maximum(program.weights_held - slight, 0)
            return replace(program, may_sell=nothing_sellable, limits=replace(caps, name_weight_max=cap))
        case 6:  # slightly too little cash, and no way to raise it
            cash = 1 - program.weights_held.sum() + slight
            return replace(program, may_sell=nothing_sellable, limits=replace(caps, cash_min=cash, cash_max=1.0))
        case 7:  # every lot twice
            twice = np.repeat(np.arange(lots), 2)
            fields = ("lot_name", "lot_gain", "lot_long_term", "lot_order", "may_sell")
            doubled = {field: getattr(program, field)[twice] for field in fields}
            return replace(program, lot_weight=program.lot_weight[twice] / 2, **doubled)
        case 8:  # gains of hundreds, spreads of percents
            return replace(program, lot_gain=program.lot_gain * 1000, half_spread=program.half_spread * 100)
        case 9:  # bought on margin
            more = 1.05
            return replace(program, weights_held=program.weights_held * more, lot_weight=program.lot_weight * more)
        case 10:  # ties everywhere
            return replace(program, half_spread=program.half_spread * 0, lot_gain=np.round(program.lot_gain, 1))
        case 11:  # no lots known: nothing can be sold
            empty = np.zeros(0, dtype=int)
            none: dict[str, object] = dict.fromkeys(("lot_name", "lot_order"), empty)
            none |= {field: np.zeros(0) for field in ("lot_weight", "lot_gain")}
            none |= {field: np.zeros(0, dtype=bool) for field in ("lot_long_term", "may_sell")}
            return replace(program, **none)  # type: ignore[arg-type]
        case _:  # a tracking-error limit at, just below or just above what nothing can change
            frozen = replace(program, may_sell=nothing_sellable, may_buy=np.zeros_like(program.may_buy))
            held = optimize(replace(frozen, limits=replace(caps, tracking_error_max=np.inf))).tracking_error
            return with_te(frozen, max(held + rng.choice([-1, 0, 1]) * slight, 0.0))


@pytest.mark.parametrize("chunk", range(10))
def test_every_odd_program_ends_in_a_plan_or_a_reason(chunk: int) -> None:
    statuses = [assert_sound(degenerate(seed)) for seed in range(chunk * 30, chunk * 30 + 30)]
    assert set(statuses) <= {"optimal", "near_optimal", "infeasible"}
    assert "infeasible" in statuses
    assert "optimal" in statuses


def test_an_empty_book_is_within_its_limits_or_says_why_not() -> None:
    program = random_book(1, 0, cash_max=1.0)
    empty = LotProgram(
        weights_held=np.zeros(0),
        benchmark_weights=np.zeros(0),
        lot_name=np.zeros(0, dtype=int),
        lot_weight=np.zeros(0),
        lot_gain=np.zeros(0),
        lot_long_term=np.zeros(0, dtype=bool),
        lot_order=np.zeros(0, dtype=int),
        relief="free",
        tax_pieces=program.tax_pieces,
        half_spread=np.zeros(0),
        factor_loadings=np.zeros((0, 4)),
        factor_covariance=program.factor_covariance,
        specific_variance=np.zeros(0),
        sector=np.zeros(0, dtype=int),
        may_buy=np.zeros(0, dtype=bool),
        may_sell=np.zeros(0, dtype=bool),
        limits=replace(program.limits, name_weight_max=np.zeros(0)),
    )
    assert optimize(empty).status == "optimal"
    invested = replace(empty, limits=replace(empty.limits, cash_max=0.02))
    assert optimize(invested).status == "infeasible"
    assert "cash_max" in optimize(invested).reasons[0]


def test_no_time_means_no_trades() -> None:
    solution = optimize(random_book(30, 1), time_limit_s=0.0)
    assert solution.status == "stopped"
    assert not solution.sell.any()
    assert "time limit" in solution.reasons[0]


# ------------------------------------------------------------------ wrong


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("weights_held", np.array([np.nan] * 5), "weights_held: Expected finite numbers, was nan at [0]"),
        ("benchmark_weights", np.full(5, -0.1), "benchmark_weights: Expected numbers from 0, was -0.1"),
        ("lot_gain", np.zeros(1), "lot_gain: Expected shape"),
        ("lot_name", np.array([0.5]), "lot_name: Expected integers"),
        ("half_spread", np.full(5, np.inf), "half_spread: Expected finite numbers, was inf"),
        ("factor_loadings", np.zeros((4, 4)), "factor_loadings: Expected shape (5, 4), was (4, 4)"),
        ("factor_covariance", -np.eye(4), "factor_covariance: Expected no negative eigenvalue"),
        ("tax_pieces", np.zeros((0, 3)), "tax_pieces: Expected shape (p, 3) with at least one row"),
        ("may_buy", np.ones(5), "may_buy: Expected booleans"),
        ("relief", "fifo", "relief: Expected 'free' or 'ordered', was 'fifo'"),
    ],
)
def test_a_program_that_makes_no_sense_names_the_field(field: str, value: object, words: str) -> None:
    program = replace(random_book(5, 1), **{field: value})
    with pytest.raises(ValueError, match=r"Expected") as refused:
        optimize(program)
    assert words in str(refused.value)


def test_lots_heavier_than_their_name_are_refused() -> None:
    program = random_book(5, 1)
    with pytest.raises(ValueError, match=r"lot_weight: Expected the lots of name \d to add up to at most its weight"):
        optimize(replace(program, lot_weight=program.lot_weight * 1.01))


def test_limits_that_contradict_themselves_are_refused() -> None:
    program = random_book(5, 1)
    with pytest.raises(ValueError, match=r"limits\.cash_min: Expected at most cash_max"):
        optimize(replace(program, limits=replace(program.limits, cash_min=0.5)))
    with pytest.raises(ValueError, match=r"limits\.risk_aversion: Expected a finite number from 0, was inf"):
        optimize(replace(program, limits=replace(program.limits, risk_aversion=math.inf)))
