"""The optimizer against closed forms, an independent statement, and everything tried by hand."""

from __future__ import annotations

from dataclasses import replace

import independent
import numpy as np
import pytest
from books import SHORT, flat, limits, pieces, random_book

from strategy.optimizer import LotProgram, Solution, optimize, search, violations

BP = 1e4
TIGHT = 2e-3  # bp of NAV: what two solvers may differ by


def checked(program: LotProgram, **how: int) -> Solution:
    """The solution, every limit of which an independent check has found kept."""
    solution = optimize(program, **how)
    if solution.has_plan:
        broken = {limit: v for limit, v in violations(program, solution.sell, solution.buy).items() if v > 1e-6}
        assert not broken
    return solution


def two_names(**changed: object) -> LotProgram:
    """Half in each name, one lot each with no gain, no factors: every optimum is a line of algebra."""
    fields: dict[str, object] = {
        "weights_held": np.array([0.5, 0.5]),
        "benchmark_weights": np.array([0.5, 0.5]),
        "lot_name": np.array([0, 1]),
        "lot_weight": np.array([0.5, 0.5]),
        "lot_gain": np.zeros(2),
        "lot_long_term": np.array([False, False]),
        "lot_order": np.zeros(2, dtype=int),
        "relief": "free",
        "tax_pieces": flat(),
        "half_spread": np.zeros(2),
        "factor_loadings": np.zeros((2, 0)),
        "factor_covariance": np.zeros((0, 0)),
        "specific_variance": np.array([0.04, 0.04]),
        "sector": np.array([0, 1]),
        "may_buy": np.array([True, True]),
        "may_sell": np.array([True, True]),
        "limits": limits(2, 0, cash_max=0.0),
    }
    return LotProgram(**{**fields, **changed})  # type: ignore[arg-type]


# ------------------------------------------------------------------ by hand


def test_a_loss_is_sold_until_risk_costs_what_tax_saves() -> None:
    """Sell u of name 0, buy u of name 1: minimise -t g u + 2 lambda D u^2, so u = t g / (4 lambda D)."""
    program = two_names(lot_gain=np.array([-0.1, 0.0]))
    expected = SHORT * 0.1 / (4 * 10 * 0.04)
    solution = checked(program)
    assert solution.status == "optimal"
    assert solution.sell[0] == pytest.approx(expected, abs=1e-6)
    assert solution.buy[1] == pytest.approx(expected, abs=1e-6)
    assert solution.objective == pytest.approx(-SHORT * 0.1 * expected / 2, abs=1e-8)
    assert solution.tracking_error == pytest.approx(np.sqrt(2 * 0.04) * expected, rel=1e-4)


def test_the_tracking_error_limit_is_met_exactly_and_said_to_bind() -> None:
    program = two_names(lot_gain=np.array([-0.1, 0.0]), limits=limits(2, 0, cash_max=0.0, tracking_error_max=0.005))
    solution = checked(program)
    assert solution.sell[0] == pytest.approx(0.005 / np.sqrt(0.08), rel=1e-5)
    worth = (SHORT * 0.1 - 4 * 10 * 0.04 * solution.sell[0]) * 1e-4 / np.sqrt(0.08) * BP
    expected = f"tracking-error limit 0.5 % binds: 0.01 % more of it would be worth {worth:.3g} bp of NAV"
    assert expected in solution.binding


def test_spread_wider_than_the_saving_stops_the_trade() -> None:
    program = two_names(lot_gain=np.array([-0.1, 0.0]), half_spread=np.full(2, SHORT * 0.1 / 2 + 1e-4))
    solution = checked(program)
    assert not solution.sell.any()
    assert not solution.buy.any()


def test_a_book_on_its_benchmark_without_losses_stays() -> None:
    solution = checked(two_names(lot_gain=np.array([0.2, 0.3])))
    assert solution.status == "optimal"
    assert not solution.sell.any()
    assert not solution.buy.any()


def test_the_cheapest_lots_go_first() -> None:
    program = two_names(
        benchmark_weights=np.array([0.3, 0.7]),
        lot_name=np.array([0, 0, 0, 1]),
        lot_weight=np.array([0.2, 0.2, 0.1, 0.5]),
        lot_gain=np.array([0.3, 0.05, 0.1, 0.0]),
        lot_long_term=np.zeros(4, dtype=bool),
        lot_order=np.arange(4),
        may_sell=np.ones(4, dtype=bool),
        limits=limits(2, 0, cash_max=0.0, risk_aversion=1e3),
    )
    sell = checked(program).sell
    assert sell[0] == 0.0
    assert sell[1] == pytest.approx(0.2, abs=2e-3)


def test_more_losses_than_a_cap_makes_useful_are_not_taken() -> None:
    """Losses beyond 1 % of NAV save nothing, so the harvest stops there: the kink of the tax pieces."""
    useful = np.array([[SHORT, SHORT, 0.0], [0.0, 0.0, -SHORT * 0.01]])
    program = two_names(lot_gain=np.array([-0.5, 0.0]), tax_pieces=useful)
    assert checked(program).sell[0] == pytest.approx(0.02, abs=1e-6)
    assert checked(replace(program, tax_pieces=flat())).sell[0] > 0.1


def test_under_ordered_relief_a_loss_behind_a_gain_is_sold_with_it_or_not_at_all() -> None:
    """A small gain in front is worth passing; a large one is not; and only the last lot is sold in part."""

    def program(gain_in_front: float) -> LotProgram:
        return two_names(
            lot_name=np.array([0, 0, 1]),
            lot_weight=np.array([0.1, 0.4, 0.5]),
            lot_gain=np.array([gain_in_front, -0.3, 0.0]),
            lot_long_term=np.zeros(3, dtype=bool),
            lot_order=np.array([0, 1, 0]),
            may_sell=np.ones(3, dtype=bool),
            relief="ordered",
            limits=limits(2, 0, cash_max=0.0, risk_aversion=1.0),
        )

    passed = checked(program(0.02))
    assert passed.sell[0] == 0.1
    assert 0.0 < passed.sell[1] < 0.4 + 1e-12
    assert not checked(program(0.9)).sell.any()
    named = checked(replace(program(0.9), relief="free"))
    assert named.sell[0] == 0.0
    assert named.sell[1] > 0.1


def test_a_blocked_lot_blocks_everything_behind_it_under_ordered_relief() -> None:
    program = two_names(
        lot_name=np.array([0, 0, 1]),
        lot_weight=np.array([0.1, 0.4, 0.5]),
        lot_gain=np.array([-0.1, -0.3, 0.0]),
        lot_long_term=np.zeros(3, dtype=bool),
        lot_order=np.array([0, 1, 0]),
        may_sell=np.array([False, True, True]),
        relief="ordered",
    )
    assert not checked(program).sell.any()
    assert checked(replace(program, relief="free")).sell[1] > 0.05


def test_old_gains_make_a_purchase_dearer_under_ordered_relief() -> None:
    program = two_names(
        benchmark_weights=np.array([0.55, 0.45]),
        lot_gain=np.array([0.5, 0.0]),
        relief="ordered",
        limits=limits(2, 0, cash_max=0.0),
    )
    aware = replace(program, limits=replace(program.limits, lot_age_hygiene=0.1))
    assert checked(aware).buy[0] < checked(program).buy[0] - 1e-3


# ------------------------------------------------------------------ against the independent statement


@pytest.mark.parametrize("seed", range(24))
def test_free_relief_agrees_with_the_statement_once_sides_are_chosen(seed: int) -> None:
    n = (5, 12, 25, 60)[seed % 4]
    program = random_book(n, seed, tracking_error=0.04, tax_pieces=pieces() if seed % 3 == 0 else None)
    solution = checked(program)
    if solution.status == "infeasible":
        assert not np.isfinite(independent.relaxed(program)) or n > 12
        return
    same_sides = independent.with_sides_of(program, solution.sell, solution.buy)
    assert solution.objective * BP == pytest.approx(same_sides * BP, abs=TIGHT)
    bound = solution.objective * BP - solution.certified_gap_bp
    assert independent.relaxed(program) * BP <= bound + 0.05 + TIGHT


CASES = [{}, {"net_gain_max": 0.0}, {"tracking_error": 0.03, "turnover_max": 0.2}, {"masks": 0.4}]


@pytest.mark.parametrize("changed", CASES)
@pytest.mark.parametrize("taxes", ["flat", "pieces"])
@pytest.mark.parametrize(("relief", "n", "lots"), [("free", 7, (1, 4)), ("ordered", 4, (2, 4))])
def test_no_plan_is_better_and_no_certificate_is_violated(
    relief: str, n: int, lots: tuple[int, int], taxes: str, changed: dict[str, float]
) -> None:
    """Every choice of sides (free) or prefixes (ordered) tried by an independent model."""
    for seed in range(4):
        program = random_book(
            n,
            100 + seed,
            relief=relief,  # type: ignore[arg-type]
            lots=lots,
            tax_pieces=pieces() if taxes == "pieces" else None,
            **{"tracking_error": 0.05, **changed},  # type: ignore[arg-type]
        )
        solution, best = checked(program), independent.exact(program)
        if not solution.has_plan:
            assert solution.status == "infeasible"
            assert not np.isfinite(best)
            continue
        gap = (solution.objective - best) * BP
        assert -TIGHT <= gap <= solution.certified_gap_bp + TIGHT
        assert gap <= 0.1 + TIGHT


@pytest.mark.parametrize("taxes", ["flat", "pieces"])
def test_pricing_branches_one_by_one_bounds_as_well_as_looking_at_all(
    taxes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of the priced relaxation is never above, and hardly below, that of the full one."""
    for seed in range(4):
        program = random_book(
            40,
            seed,
            relief="ordered",
            lots=(4, 12),
            masks=0.05,
            tracking_error=0.03,
            tax_pieces=pieces() if taxes == "pieces" else None,
        )
        monkeypatch.setattr(search, "FEW_BRANCHES", 10**6)
        full = optimize(program, max_nodes=0)
        monkeypatch.setattr(search, "FEW_BRANCHES", 0)
        priced = optimize(program, max_nodes=0)
        if not full.has_plan:
            assert not priced.has_plan
            continue
        bounds = [one.objective * BP - one.certified_gap_bp for one in (full, priced)]
        assert bounds[0] - 0.02 <= bounds[1] <= bounds[0] + TIGHT


@pytest.mark.parametrize("relief", ["free", "ordered"])
def test_small_losses_everywhere_never_meet_a_purchase(relief: str) -> None:
    """Many candidates, tight tracking: where the plain relaxation would sell and buy back a third of the names."""
    for seed in range(3):
        program = random_book(40, seed, relief=relief, lots=(2, 8), tracking_error=0.012, masks=0.0)  # type: ignore[arg-type]
        program = replace(program, lot_gain=program.lot_gain - 0.1)
        solution = checked(program)
        if solution.has_plan:
            sold = np.bincount(program.lot_name, solution.sell, 40)
            assert not ((sold > 0) & (solution.buy > 0)).any()
            assert solution.certified_gap_bp < 1.0


def test_a_new_run_is_reached_only_past_everything_in_front() -> None:
    """Ordered relief sells whole lots in order and only the last in part, in every name, with several tax pieces."""
    for seed in range(6):
        program = random_book(
            30, seed, relief="ordered", lots=(2, 8), masks=0.0, tracking_error=0.05, tax_pieces=pieces()
        )
        sell = checked(program).sell
        for name in np.unique(program.lot_name):
            queue = np.flatnonzero(program.lot_name == name)
            queue = queue[np.argsort(program.lot_order[queue])]
            left = program.lot_weight[queue] - sell[queue]
            touched = np.flatnonzero(sell[queue] > 0)
            if len(touched):
                assert (left[: touched[-1]] == 0).all()


def test_the_same_program_gives_the_same_trades() -> None:
    for relief in ("free", "ordered"):
        program = random_book(40, 3, relief=relief, lots=(2, 6))  # type: ignore[arg-type]
        first, second = optimize(program), optimize(program)
        assert (first.sell == second.sell).all()
        assert (first.buy == second.buy).all()


def test_equal_lots_are_sold_in_lot_order() -> None:
    program = two_names(
        benchmark_weights=np.array([0.3, 0.7]),
        lot_name=np.array([0, 0, 0, 0, 1]),
        lot_weight=np.array([0.125, 0.125, 0.125, 0.125, 0.5]),
        lot_gain=np.zeros(5),
        lot_long_term=np.zeros(5, dtype=bool),
        lot_order=np.array([3, 1, 0, 2, 0]),
        may_sell=np.ones(5, dtype=bool),
    )
    sell = checked(program).sell
    assert sell[2] == 0.125
    assert sell[1] == pytest.approx(0.075, abs=1e-6)
    assert sell[0] == sell[3] == 0.0
