"""New money goes where no harvest is near. Prices are 100, sigma 1.6 % a day: 22 sessions move 7.5 %."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal as D  # noqa: N817

import numpy as np
import pytest

from state.records import Lot
from strategy.appraisal import AppraisedLot, appraise
from strategy.deposits import deposit_names, lowest_prices, value_at_risk
from strategy.types import HarvestPolicy, TaxProfile, WashMasks

TODAY = date(2026, 11, 20)
PROFILE = TaxProfile(short_term_rate=0.408, long_term_rate=0.238)


def lot(symbol: str, price: str, *, days: int = 60, quantity: str = "100", known: bool = True) -> Lot:
    acquired = TODAY - timedelta(days=days)
    name = f"{symbol}-{price}-{days}"
    return Lot(name, "acct", symbol, acquired, acquired, D(quantity), D(quantity) * D(price), basis_known=known)


def appraised(*queue: Lot, today: date = TODAY) -> tuple[AppraisedLot, ...]:
    return appraise(
        queue,
        today=today,
        price=D(100),
        sigma_daily=0.016,
        homes={},
        unbuyable=frozenset(),
        profile=PROFILE,
        policy=HarvestPolicy(),
    )


def bought(
    queues: Mapping[str, Sequence[Lot]],
    *,
    most: int = 10,
    sigma: Mapping[str, float] | None = None,
    masks: WashMasks = WashMasks(),  # noqa: B008  frozen
    underweight: Mapping[str, float] | None = None,
    homes: Mapping[str, str] | None = None,
    ordered: bool = True,
) -> tuple[str, ...]:
    return deposit_names(
        today=TODAY,
        names=queues,
        queues=queues,
        prices=dict.fromkeys(queues, D(100)),
        volatility=dict.fromkeys(queues, 0.016) if sigma is None else sigma,
        masks=masks,
        profile=PROFILE,
        policy=HarvestPolicy(),
        underweight=dict.fromkeys(queues, 0.01) if underweight is None else underweight,
        most=most,
        homes=homes,
        ordered=ordered,
    )


@pytest.mark.parametrize(("sigmas", "expected"), [(0.0, 1.0), (0.5, 0.617), (1.0, 0.317), (2.0, 0.046)])
def test_the_chance_of_touching_a_barrier(sigmas: float, expected: float) -> None:
    """2 Phi(-1) = 31.7 % at one standard deviation: twice the chance of ending below it (reflection)."""
    barrier = 100 * math.exp(-sigmas * 0.016 * math.sqrt(22))
    assert (lowest_prices(100.0, 0.016) <= barrier).mean() == pytest.approx(expected, abs=0.015)


def test_the_lowest_price_agrees_with_simulated_paths() -> None:
    rng = np.random.default_rng(0)
    steps = 400  # a fine walk, as the formula is of continuous time
    lowest = 100 * np.exp(rng.normal(0, 0.016 * math.sqrt(22 / steps), (4000, steps)).cumsum(axis=1).min(axis=1))
    assert np.median(lowest_prices(100.0, 0.016)) == pytest.approx(float(np.median(lowest)), abs=0.5)


def test_the_value_at_risk_of_one_lot_is_its_chance_times_its_value() -> None:
    """1,000 shares at their basis of 100: the 7 % are touched a third of the time, and save 40.8 % from there on."""
    now = appraised(lot("A", "100", quantity="1000"))
    found = value_at_risk(now, now, 0.016, HarvestPolicy())
    lowest = lowest_prices(100.0, 0.016)
    beyond = lowest[lowest <= 100 * (1 - now[0].trigger)]
    assert len(beyond) / 40 == pytest.approx(0.34, abs=0.03)
    assert found == pytest.approx(((100 - beyond) * 1000 * 0.408 - beyond).sum() / 40)


def test_a_name_far_above_its_basis_comes_before_one_near_its_trigger() -> None:
    queues = {"NEAR": [lot("NEAR", "104")], "FAR": [lot("FAR", "60")], "LEVEL": [lot("LEVEL", "100")]}
    assert bought(queues) == ("FAR", "LEVEL", "NEAR")


def test_money_goes_to_few_names_and_only_to_those_below_their_weight() -> None:
    queues = {"A": [lot("A", "60")], "B": [lot("B", "100")], "C": [lot("C", "104")]}
    assert bought(queues, most=1) == ("A",)
    assert bought(queues, most=0) == ()
    assert bought(queues, underweight={"A": -0.01, "B": 0.0, "C": 0.002}) == ("C",)


def test_a_new_name_has_nothing_at_risk() -> None:
    assert bought({"OLD": [lot("OLD", "100")], "NEW": []}) == ("NEW", "OLD")


def test_what_is_at_stake_weighs_as_well_as_the_chance() -> None:
    queues = {"LARGE": [lot("LARGE", "100", quantity="1000")], "SMALL": [lot("SMALL", "103", quantity="10")]}
    assert bought(queues) == ("SMALL", "LARGE")


def test_a_loss_behind_gains_is_not_at_risk_unless_lots_may_be_named() -> None:
    queues = {"BEHIND": [lot("BEHIND", "40", days=900), lot("BEHIND", "104")], "OPEN": [lot("OPEN", "102")]}
    assert bought(queues) == ("BEHIND", "OPEN")
    assert bought(queues, ordered=False) == ("OPEN", "BEHIND")


def test_a_lot_about_to_reach_one_year_is_about_to_be_harvested() -> None:
    queues = {"AGING": [lot("AGING", "103", days=340)], "YOUNG": [lot("YOUNG", "103", days=10)]}
    assert bought(queues) == ("YOUNG", "AGING")


def test_a_trigger_that_falls_during_the_window_counts() -> None:
    """320 days old and 2 % down: the trigger is 4.4 % today and 2.7 % on day 351."""
    old = lot("A", "102", days=320)
    now, later = appraised(old), appraised(old, today=TODAY + timedelta(days=31))
    policy = HarvestPolicy()
    assert value_at_risk(now, later, 0.016, policy) > 1.1 * value_at_risk(now, now, 0.016, policy)


def test_a_parked_replacement_near_home_is_about_to_be_harvested() -> None:
    parked = lot("PARKED", "101")
    queues = {"PARKED": [parked], "OWN": [lot("OWN", "101")]}
    assert bought(queues, homes={parked.lot_id: "HOME"}) == ("OWN", "PARKED")


def test_equals_go_by_underweight_and_then_by_name() -> None:
    queues: dict[str, list[Lot]] = {"C": [], "A": [], "B": []}
    assert bought(queues, underweight={"A": 0.01, "B": 0.02, "C": 0.01}) == ("B", "A", "C")


def test_names_that_may_not_be_bought_are_left_out() -> None:
    masks = WashMasks(no_buy={"A": (date(2026, 12, 1), "sold at a loss")})
    assert bought({"A": [], "B": []}, masks=masks) == ("B",)


def test_a_window_that_is_open_anyway_is_preferred() -> None:
    queues = {"A": [lot("A", "100")], "B": [lot("B", "100")]}
    masks = WashMasks(no_loss_sale={"B": (TODAY + timedelta(days=28), "bought two days ago")})
    assert bought(queues, masks=masks) == ("B", "A")


def test_unknown_volatility_counts_as_certain_and_unknown_basis_as_unreachable() -> None:
    queues = {"DARK": [lot("DARK", "101")], "KNOWN": [lot("KNOWN", "101")]}
    assert bought(queues, sigma={"KNOWN": 0.016}) == ("KNOWN", "DARK")
    queues = {"MISSING": [lot("MISSING", "0", known=False), lot("MISSING", "104")], "KNOWN": [lot("KNOWN", "104")]}
    assert bought(queues) == ("MISSING", "KNOWN")


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="0 names or more"):
        bought({"A": []}, most=-1)
