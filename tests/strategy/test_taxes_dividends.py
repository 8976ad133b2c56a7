"""The holding test of a dividend: the given cases, the edges of the window, and a count of the days one by one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from strategy.taxes import TaxInputError, dividend_holding

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "tax_cases.yaml").read_text())["qualified_dividend_cases"]
EX = date(2025, 7, 14)


def after(days: int) -> date:
    """So many days after the ex-date."""
    return EX + timedelta(days=days)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_given_case_comes_out_as_stated(case: Mapping[str, Any]) -> None:
    answer = dividend_holding(case["acquired"], case["ex_date"], case["sold"])
    assert (answer.days_in_window, answer.qualified) == (case["days_in_window"], case["qualified"])


def test_there_are_given_cases() -> None:
    assert len(CASES) == 4


def test_the_window_is_that_of_the_statute() -> None:
    """121 days that begin 60 before the ex-date; Pub. 550's "May 13-September 11" is wrong (TAX_RULES section 4)."""
    assert dividend_holding(EX, EX).window == (date(2025, 5, 15), date(2025, 9, 12))
    assert dividend_holding(EX, EX, preferred=True).window == (date(2025, 4, 15), date(2025, 10, 12))


@pytest.mark.parametrize(
    ("acquired", "sold", "days", "qualified"),
    [
        (after(-1), after(59), 60, False),  # the ex-date to the 59th day after
        (after(-1), after(60), 61, True),
        (after(-1), None, 61, True),  # still held: to the end of the window
        (after(-1), after(400), 61, True),  # later days do not count
        (after(0), after(400), 60, False),  # bought on the ex-date: no dividend, and at most 60 days
        (after(-400), after(-1), 60, False),  # sold the day before: no dividend, and at most 60 days
        (after(-400), after(0), 61, True),  # sold on the ex-date: the seller has the dividend
        (after(-400), None, 121, True),
        (after(-400), after(-61), 0, False),
        (after(-400), after(-60), 1, False),
        (after(61), after(90), 0, False),
        (after(-3), after(-3), 0, False),  # bought and sold on one day
    ],
)
def test_the_edges_of_the_window(acquired: date, sold: date | None, days: int, qualified: bool) -> None:
    answer = dividend_holding(acquired, EX, sold)
    assert (answer.days_in_window, answer.qualified) == (days, qualified)


@pytest.mark.parametrize(
    ("acquired", "sold", "days", "qualified"),
    [
        (after(-1), after(89), 90, False),
        (after(-1), after(90), 91, True),
        (after(-400), after(0), 91, True),
        (after(-400), after(-1), 90, False),
        (after(-400), None, 181, True),
    ],
)
def test_preferred_stock_needs_91_days_of_181(acquired: date, sold: date | None, days: int, qualified: bool) -> None:
    answer = dividend_holding(acquired, EX, sold, preferred=True)
    assert (answer.days_in_window, answer.qualified) == (days, qualified)


def test_days_of_diminished_risk_do_not_count() -> None:
    assert dividend_holding(after(-1), EX, diminished_risk_days=0).qualified
    answer = dividend_holding(after(-1), EX, diminished_risk_days=1)
    assert (answer.days_in_window, answer.qualified) == (60, False)
    for days in (62, -1):
        with pytest.raises(TaxInputError, match=rf"from 0 to the 61 days held .*, was {days}"):
            dividend_holding(after(-1), EX, diminished_risk_days=days)


def test_a_sale_before_the_purchase_is_refused() -> None:
    with pytest.raises(TaxInputError, match="on or after the purchase on 2025-07-14, was 2025-07-13"):
        dividend_holding(after(0), EX, after(-1))


@given(
    st.dates(date(2019, 6, 1), date(2021, 6, 1)),  # a leap day inside
    st.integers(-250, 250),
    st.none() | st.integers(0, 400),
    st.booleans(),
)
def test_it_is_a_count_of_days(ex_date: date, bought: int, held: int | None, preferred: bool) -> None:
    """Each day of the window on which the share was owned, the day of purchase left out and the day of sale not."""
    half = 90 if preferred else 60
    acquired = ex_date + timedelta(days=bought)
    sold = None if held is None else acquired + timedelta(days=held)
    counted = [
        day
        for day in (ex_date + timedelta(days=away) for away in range(-half, half + 1))
        if day > acquired and (sold is None or day <= sold)
    ]
    answer = dividend_holding(acquired, ex_date, sold, preferred=preferred)
    assert answer.days_in_window == len(counted)
    assert answer.qualified == (len(counted) > half)
    if acquired >= ex_date or (sold is not None and sold < ex_date):
        assert not answer.qualified, "without the dividend itself there is nothing to qualify"
