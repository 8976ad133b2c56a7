"""Daily bars as arrays, and the benchmark that is made of them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pytest

from state.records import DailyBar
from strategy.history import benchmark_path, extended, history_from_bars, period_of, weights_today
from strategy.types import PriceHistory

D = Decimal
EQUAL = np.array([1.0, 1.0])


def bars(day: date, **prices: object) -> list[DailyBar]:
    return [DailyBar(name, day, D(1), D(str(price))) for name, price in prices.items()]


MARCH = [date(2024, 3, 27), date(2024, 3, 28)]
APRIL = [date(2024, 4, 1), date(2024, 4, 2)]


def test_the_total_return_series_is_taken_session_by_session_in_the_order_of_names() -> None:
    history = history_from_bars([*bars(MARCH[1], A=3, B=4), *bars(MARCH[0], B=2, A=1)], ("B", "A"))
    assert history.sessions == tuple(MARCH)
    assert history.closes.tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_a_name_without_a_price_is_nan_and_a_stranger_is_ignored() -> None:
    history = history_from_bars([*bars(MARCH[0], A=1, X=9), *bars(MARCH[1], X=9)], ("A", "B"))
    assert history.sessions == (MARCH[0],)
    assert history.closes[0, 0] == 1.0
    assert np.isnan(history.closes[0, 1])


def test_no_bars_no_sessions() -> None:
    history = history_from_bars([], ("A", "B"))
    assert history.sessions == ()
    assert history.closes.shape == (0, 2)


def test_extending_adds_newer_sessions_and_never_rewrites_older_ones() -> None:
    start = history_from_bars(bars(MARCH[1], A=1, B=2), ("A", "B"))
    same = extended(start, [*bars(MARCH[0], A=7, B=7), *bars(MARCH[1], A=8, B=8)])
    assert same is start
    longer = extended(start, [*bars(MARCH[1], A=8, B=8), *bars(APRIL[0], A=3, B=4)])
    assert longer.sessions == (MARCH[1], APRIL[0])
    assert longer.closes.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert extended(history_from_bars([], ("A", "B")), bars(MARCH[0], A=1, B=2)).sessions == (MARCH[0],)


def quarter() -> list[DailyBar]:
    """A doubles on 28 March; then A falls to half and B doubles on 1 April; then nothing moves."""
    days = (*MARCH, *APRIL)
    prices = ((1, 1), (2, 1), (1, 2), (1, 2))
    return [bar for day, (a, b) in zip(days, prices, strict=True) for bar in bars(day, A=a, B=b)]


def test_weights_drift_with_prices_and_return_at_the_last_close_of_the_quarter() -> None:
    """After 28 March A weighs two thirds, until the first session of April shows that the quarter is over: the
    benchmark was rebalanced at that close, and 1 April is earned half in each."""
    history = history_from_bars(quarter(), ("A", "B"))
    path = benchmark_path(history, EQUAL, "quarterly")
    assert path.weights.tolist() == [[0.5, 0.5], [0.5, 0.5], [0.2, 0.8], [0.2, 0.8]]
    assert path.level.tolist() == [1.0, 1.5, 1.875, 1.875]


def test_never_rebalanced_it_is_bought_and_held() -> None:
    path = benchmark_path(history_from_bars(quarter(), ("A", "B")), EQUAL, "none")
    np.testing.assert_allclose(path.level, [1, 1.5, 1.5, 1.5])
    np.testing.assert_allclose(path.weights[1], [2 / 3, 1 / 3])
    np.testing.assert_allclose(path.weights[2], [1 / 3, 2 / 3])


def test_a_name_without_a_price_keeps_its_value_until_its_next_one() -> None:
    """B has no close on 28 March; on 1 April it shows what it earned in both sessions."""
    days = [*bars(MARCH[0], A=1, B=1), *bars(MARCH[1], A=2), *bars(APRIL[0], A=2, B=5), *bars(APRIL[1], A=2, B=5)]
    path = benchmark_path(history_from_bars(days, ("A", "B")), EQUAL, "none")
    np.testing.assert_allclose(path.level, [1, 1.5, 3.5, 3.5])
    np.testing.assert_allclose(path.weights[2], [2 / 7, 5 / 7])


def test_a_name_that_begins_later_earns_nothing_before_its_first_price() -> None:
    days = [*bars(MARCH[0], A=1), *bars(MARCH[1], A=1, B=7), *bars(APRIL[0], A=1, B=14)]
    path = benchmark_path(history_from_bars(days, ("A", "B")), EQUAL, "none")
    np.testing.assert_allclose(path.level, [1, 1, 1.5])


@pytest.mark.parametrize("known", [1, 2, 3])
def test_a_gap_is_bridged_whether_it_is_seen_day_by_day_or_at_once(known: int) -> None:
    days = [*bars(MARCH[0], A=1, B=1), *bars(MARCH[1], A=2), *bars(APRIL[0], A=3), *bars(APRIL[1], A=3, B=4)]
    whole = history_from_bars(days, ("A", "B"))
    part = PriceHistory(whole.names, whole.sessions[:known], whole.closes[:known])
    path = benchmark_path(whole, EQUAL, "monthly", benchmark_path(part, EQUAL, "monthly"))
    np.testing.assert_array_equal(path.level, benchmark_path(whole, EQUAL, "monthly").level)


@pytest.mark.parametrize("known", [1, 2, 3, 4])
@pytest.mark.parametrize("rebalance", ["quarterly", "monthly", "none"])
def test_day_by_day_it_is_the_same_as_at_once(rebalance: str, known: int) -> None:
    """The daemon adds a session every evening; a restart computes everything anew. Both are the same benchmark."""
    everything = quarter()
    whole = history_from_bars(everything, ("A", "B"))
    path = None
    for count in range(known, 5):
        path = benchmark_path(history_from_bars(everything[: 2 * count], ("A", "B")), EQUAL, rebalance, path)
    assert path is not None
    at_once = benchmark_path(whole, EQUAL, rebalance)
    np.testing.assert_array_equal(path.weights, at_once.weights)
    np.testing.assert_array_equal(path.level, at_once.level)


def test_on_the_first_day_of_a_quarter_the_weights_are_the_base_again() -> None:
    """Known before it opens, from the calendar alone."""
    history = history_from_bars(quarter()[:4], ("A", "B"))
    path = benchmark_path(history, EQUAL, "quarterly")
    last = history.sessions[-1]
    np.testing.assert_allclose(weights_today(path, EQUAL, last, date(2024, 4, 1), "quarterly"), [0.5, 0.5])
    np.testing.assert_allclose(weights_today(path, EQUAL, last, date(2024, 3, 29), "quarterly"), [2 / 3, 1 / 3])
    np.testing.assert_allclose(weights_today(path, EQUAL, last, date(2024, 4, 1), "none"), [2 / 3, 1 / 3])


def test_base_weights_are_scaled_to_sum_to_one() -> None:
    path = benchmark_path(history_from_bars(quarter(), ("A", "B")), np.array([3.0, 1.0]), "quarterly")
    assert path.weights[0].tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("one", "other", "rebalance", "same"),
    [
        (date(2024, 3, 28), date(2024, 4, 1), "quarterly", False),
        (date(2024, 1, 2), date(2024, 3, 28), "quarterly", True),
        (date(2023, 12, 29), date(2024, 1, 2), "quarterly", False),
        (date(2023, 3, 1), date(2024, 3, 1), "quarterly", False),
        (date(2024, 2, 29), date(2024, 3, 1), "monthly", False),
        (date(2024, 3, 1), date(2024, 3, 28), "monthly", True),
        (date(2023, 3, 1), date(2024, 3, 1), "monthly", False),
        (date(2019, 1, 2), date(2024, 3, 1), "none", True),
    ],
)
def test_periods(one: date, other: date, rebalance: str, same: bool) -> None:
    assert (period_of(one, rebalance) == period_of(other, rebalance)) is same
