"""Whole shares and minimum trades: what rounding may and may not do to a plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from books import random_book

from strategy.optimizer import LotProgram, Solution, optimize, violations
from strategy.rounding import RoundedTrades, optimize_rounded, round_plan


def in_shares(n: int, seed: int, nav: float, **changed: object) -> tuple[LotProgram, np.ndarray, np.ndarray]:
    """A random book of whole shares at prices around 100: program, price / NAV, shares of each lot."""
    program = random_book(n, seed, **changed)  # type: ignore[arg-type]
    price = np.exp(np.random.default_rng(seed).normal(4.6, 0.7, n)) / nav
    shares = np.rint(program.lot_weight / price[program.lot_name])
    weight = shares * price[program.lot_name]
    held = np.bincount(program.lot_name, weight, n)
    limits = replace(program.limits, cash_max=max(0.03, 1.01 - held.sum()))
    limits = replace(limits, name_weight_max=np.maximum(limits.name_weight_max, held))
    return replace(program, lot_weight=weight, weights_held=held, limits=limits), price, shares


def weights(program: LotProgram, rounded: RoundedTrades, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sells by lot and buys by name as weights."""
    return rounded.lot_shares * price[program.lot_name], rounded.buy_shares * price


@pytest.mark.parametrize("relief", ["free", "ordered"])
@pytest.mark.parametrize("nav", [1e5, 1e6])
def test_whole_shares_keep_every_limit(relief: str, nav: float) -> None:
    plans = 0
    for seed in range(8):
        program, price, shares = in_shares(30, seed, nav, relief=relief, tracking_error=0.025)
        solution, rounded = optimize_rounded(
            program, price_weight=price, shares_held=shares, whole_shares=True, minimum_trade=100 / nav
        )
        if rounded is None:
            assert solution.reasons
            continue
        plans += 1
        sell, buy = weights(program, rounded, price)
        assert (rounded.sell_shares == np.rint(rounded.sell_shares)).all()
        assert (rounded.buy_shares == np.rint(rounded.buy_shares)).all()
        assert max(violations(program, sell, buy).values()) <= 1e-6
        assert rounded.cash >= program.limits.cash_min - 1e-6
        assert rounded.tracking_error <= program.limits.tracking_error_max + 1e-6
        traded = np.concatenate((buy, rounded.sell_shares * price))
        closes = np.concatenate((np.zeros(30, dtype=bool), rounded.sell_shares * price >= program.weights_held - 1e-9))
        assert (traded[(traded > 0) & ~closes] >= 100 / nav - 1e-12).all()
    assert plans >= 5


def test_whole_shares_cost_little_in_a_large_account() -> None:
    for seed in range(4):
        program, price, shares = in_shares(30, seed, 1e7)
        solution = optimize(program)
        if not solution.has_plan:
            continue
        rounded = round_plan(program, solution, price_weight=price, shares_held=shares, whole_shares=True)
        assert not rounded.broken
        assert rounded.tracking_error == pytest.approx(solution.tracking_error, abs=1e-4)
        assert rounded.sell_shares @ price == pytest.approx(solution.sell.sum(), abs=1e-3)


def test_sides_and_lots_stay_those_of_the_plan() -> None:
    """No sold name becomes a bought one, and no lot is touched that the plan did not sell."""
    for relief in ("free", "ordered"):
        for seed in range(6):
            program, price, shares = in_shares(25, seed, 5e4, relief=relief)
            solution = optimize(program)
            if not solution.has_plan:
                continue
            rounded = round_plan(program, solution, price_weight=price, shares_held=shares, whole_shares=True)
            sold = np.bincount(program.lot_name, solution.sell, 25) > 0
            assert not rounded.buy_shares[sold].any()
            assert not rounded.sell_shares[solution.buy > 0].any()
            assert not rounded.lot_shares[solution.sell == 0].any()


def hand_made(whole: bool, sell: list[float], buy: list[float]) -> tuple[RoundedTrades, LotProgram]:
    """A plan given by hand for two names: 10.5 shares in two lots, and 20 in one; a share weighs 2 %."""
    program = replace(
        random_book(2, 0, tracking_error=np.inf, cash_max=1.0, turnover_max=np.inf, masks=0.0, k=1),
        weights_held=np.array([0.21, 0.4]),
        lot_name=np.array([0, 0, 1]),
        lot_weight=np.array([0.11, 0.1, 0.4]),
        lot_gain=np.array([0.1, -0.2, 0.0]),
        lot_long_term=np.zeros(3, dtype=bool),
        lot_order=np.array([0, 1, 0]),
        may_sell=np.ones(3, dtype=bool),
        may_buy=np.ones(2, dtype=bool),
        relief="ordered",
    )
    off = np.full(1, np.inf)
    loose = replace(
        program.limits,
        name_weight_max=np.ones(2),
        sector_deviation_max=np.inf,
        factor_exposure_min=-off,
        factor_exposure_max=off,
    )
    program = replace(program, limits=loose)
    solution = Solution(np.array(sell), np.array(buy), "optimal", 0.0, 0.0, 0.0, (), (), 0.0)
    return round_plan(program, solution, price_weight=np.full(2, 0.02), whole_shares=whole), program


def test_a_whole_position_is_sold_with_its_fraction_of_a_share() -> None:
    rounded, _ = hand_made(True, [0.11, 0.1, 0.0], [0.0, 0.1])
    assert rounded.sell_shares[0] == 10.5
    assert rounded.lot_shares.tolist() == pytest.approx([5.5, 5.0, 0.0])


def test_a_gain_lot_is_never_rounded_up_into_the_loss_lot_behind_it() -> None:
    rounded, _ = hand_made(True, [0.109, 0.0, 0.0], [0.0, 0.0])
    assert rounded.sell_shares[0] <= 5
    assert rounded.lot_shares[1] == 0


def test_fractions_pass_through() -> None:
    rounded, _ = hand_made(False, [0.05, 0.0, 0.0], [0.0, 0.0251])
    assert rounded.sell_shares[0] == pytest.approx(2.5)
    assert rounded.buy_shares[1] == pytest.approx(1.255)


def test_a_plan_that_whole_shares_cannot_keep_is_no_plan() -> None:
    """Several percent of NAV a share: a limit the weights just keep, and no whole shares do. Said, nothing traded."""
    program, price, shares = in_shares(8, 4, 2e3, masks=0.0, tracking_error=np.inf, sector_deviation_max=np.inf)
    nearest = replace(program.limits, risk_aversion=1e4, tax_weight=0.0)
    least = optimize(replace(program, limits=nearest)).tracking_error
    program = replace(program, limits=replace(program.limits, tracking_error_max=least * 1.01))
    assert optimize(program).has_plan
    solution, rounded = optimize_rounded(program, price_weight=price, shares_held=shares, whole_shares=True)
    assert rounded is None
    assert solution.status == "infeasible"
    assert any("tracking_error_max is exceeded by" in reason for reason in solution.reasons)
    assert not solution.sell.any()


def test_trades_below_the_minimum_are_left_out_and_the_rest_makes_up_for_them() -> None:
    for seed in range(6):
        program, price, _ = in_shares(40, seed, 1e5, tracking_error=0.05)
        solution, rounded = optimize_rounded(program, price_weight=price, whole_shares=False, minimum_trade=0.004)
        if rounded is None:
            assert not solution.has_plan
            continue
        assert not rounded.broken
        bought = rounded.buy_shares * price
        assert not ((bought > 0) & (bought < 0.004)).any()
        sold = rounded.sell_shares * price
        assert not ((sold > 0) & (sold < 0.004) & (sold < program.weights_held * (1 - 1e-6))).any()


def test_prices_and_shares_that_make_no_sense_are_refused() -> None:
    program, price, shares = in_shares(5, 1, 1e5)
    with pytest.raises(ValueError, match=r"price_weight: Expected 5 positive numbers"):
        optimize_rounded(program, price_weight=price * 0, whole_shares=True)
    with pytest.raises(ValueError, match=r"shares_held: Expected \d+ numbers from 0"):
        optimize_rounded(program, price_weight=price, shares_held=-shares - 1, whole_shares=True)
