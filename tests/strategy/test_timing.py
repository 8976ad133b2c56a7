"""When a loss is deep enough: the figures of docs/METHODS.md."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategy.timing import LotRole, base_trigger, harvest_trigger
from strategy.types import HarvestPolicy, TaxProfile

HIGH = TaxProfile(short_term_rate=0.408, long_term_rate=0.238)
ONE_RATE = TaxProfile(short_term_rate=0.408, long_term_rate=0.238, has_short_term_gains=False)


def trigger(
    sigma: float = 0.016,
    age: int = 0,
    long_term: bool = False,
    role: LotRole = LotRole.OWN,
    profile: TaxProfile = HIGH,
    policy: HarvestPolicy = HarvestPolicy(),  # noqa: B008  a frozen value
) -> float:
    return harvest_trigger(
        sigma_daily=sigma, age_days=age, long_term=long_term, role=role, profile=profile, policy=policy
    )


def test_a_typical_stock_is_harvested_at_about_seven_percent() -> None:
    assert trigger() == pytest.approx(0.95 * 0.016 * math.sqrt(21))
    assert trigger() == pytest.approx(0.07, abs=0.0005)


@pytest.mark.parametrize(
    ("sigma", "cost_bps", "expected"),
    [
        (0.016, 10.0, 0.06966),  # the reference
        (0.032, 10.0, 0.12128),  # twice the volatility: 2^0.8 as deep
        (0.008, 10.0, 0.04001),
        (0.016, 20.0, 0.08001),  # twice the cost: 2^0.2 as deep
        (0.016, 0.0, 0.04395),  # no cost counts as 1 bp
    ],
)
def test_depth_by_volatility_and_cost(sigma: float, cost_bps: float, expected: float) -> None:
    assert base_trigger(sigma, cost_bps) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("age", "factor"), [(0, 1.0), (182, 0.9686), (300, 0.7373), (350, 0.3930), (365, 0.0)])
def test_the_boundary_falls_to_nothing_at_one_year(age: int, factor: float) -> None:
    assert trigger(age=age) / trigger() == pytest.approx(factor, abs=1e-4)


def test_on_the_day_after_a_leap_year_a_lot_can_be_366_days_old_and_still_short_term() -> None:
    assert trigger(age=366) == 0.0


@pytest.mark.parametrize("role", [LotRole.OWN, LotRole.REPLACEMENT_HOME_FREE, LotRole.REPLACEMENT_HOME_LOCKED])
def test_a_long_term_lot_is_taken_at_0_6_percent(role: LotRole) -> None:
    assert trigger(age=800, long_term=True, role=role) == 0.006


def test_a_replacement_goes_home_at_0_6_percent_and_waits_a_little_longer_when_home_is_locked() -> None:
    assert trigger(role=LotRole.REPLACEMENT_HOME_FREE) == 0.006
    locked = trigger(sigma=0.012, age=100, role=LotRole.REPLACEMENT_HOME_LOCKED)
    assert locked == pytest.approx(1.09 * trigger(sigma=0.012, age=100))


def test_without_short_term_gains_there_is_one_boundary_of_about_ten_percent_and_no_step() -> None:
    for age, long_term in ((0, False), (200, False), (364, False), (366, True), (3000, True)):
        assert trigger(age=age, long_term=long_term, profile=ONE_RATE) == pytest.approx(0.10)
    assert trigger(sigma=0.032, profile=ONE_RATE) == pytest.approx(0.10 * 2**0.8)
    assert trigger(role=LotRole.REPLACEMENT_HOME_FREE, profile=ONE_RATE) == 0.006


def test_the_multiplier_scales_every_trigger() -> None:
    deeper = HarvestPolicy(multiplier=1.5)
    assert trigger(policy=deeper) == pytest.approx(1.5 * trigger())
    assert trigger(long_term=True, policy=deeper) == pytest.approx(0.009)
    assert trigger(profile=ONE_RATE, policy=deeper) == pytest.approx(0.15)


@pytest.mark.parametrize("sigma", [math.nan, 0.0, -0.01, math.inf])
def test_a_volatility_that_is_not_one_is_refused_only_where_it_matters(sigma: float) -> None:
    with pytest.raises(ValueError, match="positive daily volatility"):
        trigger(sigma=sigma)
    assert trigger(sigma=sigma, long_term=True) == 0.006


@given(sigma=st.floats(0.001, 0.1), age=st.integers(0, 364), role=st.sampled_from(LotRole), short_gains=st.booleans())
def test_no_trigger_rises_with_age(sigma: float, age: int, role: LotRole, short_gains: bool) -> None:
    profile = HIGH if short_gains else ONE_RATE
    assert trigger(sigma, age + 1, role=role, profile=profile) <= trigger(sigma, age, role=role, profile=profile)
