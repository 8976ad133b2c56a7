"""Rates: the given cases, the amounts printed in the revenue procedures, the IRS's worksheet line by line."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daemon.tax_tables import shipped_tables
from strategy.taxes import (
    FilingStatus,
    Income,
    TaxInputError,
    federal_tax,
    marginal_rates,
    net_investment_income_tax,
    ordinary_tax,
    preferential_tax,
)

TABLES = shipped_tables()
CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "tax_cases.yaml").read_text())["rate_cases"]
SINGLE, MFJ, MFS, HOH, QSS = FilingStatus
CENT = Decimal("0.01")

years = st.sampled_from([2025, 2026])
statuses = st.sampled_from(FilingStatus)
incomes = st.one_of(
    st.decimals(-50_000, 1_000_000, places=2),
    st.sampled_from([48_350, 48_475, 49_450, 50_400, 96_700, 98_900, 300_000, 533_400, 545_500]).map(Decimal),
)
gains = st.one_of(st.decimals(0, 1_000_000, places=2), st.decimals(0, 2_000, places=2))


def usd(value: object) -> Decimal:
    return Decimal(str(value))


def income(ordinary: int, gain: int, magi: int = 0, nii: int = 0) -> Income:
    return Income(usd(ordinary), usd(gain), usd(magi), usd(nii))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_given_case_comes_out_as_stated(case: Mapping[str, Any]) -> None:
    year, status = TABLES.of(case["year"]), FilingStatus.parse(case["filing_status"])
    compared = 0
    if "ordinary_tax" in case:
        assert ordinary_tax(year, status, usd(case["ordinary_taxable"])) == usd(case["ordinary_tax"])
        compared += 1
    if "preferential_tax" in case:
        tax = preferential_tax(year, status, usd(case["ordinary_taxable"]), usd(case["ltcg_qd"]))
        assert tax == usd(case["preferential_tax"])
        compared += 1
    if "niit" in case:
        assert net_investment_income_tax(year, status, usd(case["magi"]), usd(case["nii"])) == usd(case["niit"])
        compared += 1
    assert compared


def test_there_are_given_cases() -> None:
    assert len(CASES) == 6


# ------------------------------------------------------------------ ordinary income

# Upper end of each bracket and the tax on it, as the tables of Rev. Proc. 2024-40 and 2025-32 print them ("over 48,475:
# 5,578.50 plus 22 % of the excess"). Each amount holds all the bracket ends below it, so a wrong figure cannot hide.
PRINTED = {
    (2025, SINGLE): "11925 1192.50 48475 5578.50 103350 17651 197300 40199 250525 57231 626350 188769.75",
    (2025, MFJ): "23850 2385 96950 11157 206700 35302 394600 80398 501050 114462 751600 202154.50",
    (2025, MFS): "11925 1192.50 48475 5578.50 103350 17651 197300 40199 250525 57231 375800 101077.25",
    (2025, HOH): "17000 1700 64850 7442 103350 15912 197300 38460 250500 55484 626350 187031.50",
    (2026, SINGLE): "12400 1240 50400 5800 105700 17966 201775 41024 256225 58448 640600 192979.25",
    (2026, MFJ): "24800 2480 100800 11600 211400 35932 403550 82048 512450 116896 768700 206583.50",
    (2026, MFS): "12400 1240 50400 5800 105700 17966 201775 41024 256225 58448 384350 103291.75",
    (2026, HOH): "17700 1770 67450 7740 105700 16155 201750 39207 256200 56631 640600 191171",
}
ABOVE = [Decimal(rate) for rate in ("0.12", "0.22", "0.24", "0.32", "0.35", "0.37")]


def printed(year: int, status: FilingStatus) -> list[tuple[Decimal, Decimal]]:
    numbers = [Decimal(text) for text in PRINTED[year, status.rate_status].split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize(("year", "status"), [(year, status) for year in (2025, 2026) for status in FilingStatus])
def test_tax_at_the_exact_edge_of_each_bracket_and_a_dollar_above(year: int, status: FilingStatus) -> None:
    rows = printed(year, status)
    assert len(rows) == 6
    for (top, tax), rate in zip(rows, ABOVE, strict=True):
        assert ordinary_tax(TABLES.of(year), status, top) == tax
        assert ordinary_tax(TABLES.of(year), status, top + 1) == tax + rate


@pytest.mark.parametrize("status", FilingStatus)
def test_no_tax_on_nothing_and_less(status: FilingStatus) -> None:
    assert ordinary_tax(TABLES.of(2025), status, usd(0)) == 0
    assert ordinary_tax(TABLES.of(2025), status, usd(-12_345)) == 0


@given(years, statuses, incomes, st.decimals("0.01", 100, places=2))
def test_tax_rises_and_never_jumps(year: int, status: FilingStatus, ordinary: Decimal, more: Decimal) -> None:
    rise = ordinary_tax(TABLES.of(year), status, ordinary + more) - ordinary_tax(TABLES.of(year), status, ordinary)
    assert 0 <= rise <= more * Decimal("0.37")
    if ordinary >= 0:
        assert rise >= more * Decimal("0.10")


# ------------------------------------------------------------------ gains and qualified dividends


@pytest.mark.parametrize(
    ("year", "status", "ordinary", "gain", "tax"),
    [
        (2025, SINGLE, 40_000, 0, "0"),
        (2025, SINGLE, 0, 48_350, "0"),  # exactly the 0 percent rate
        (2025, SINGLE, 0, 48_360, "1.50"),
        (2025, SINGLE, 0, 533_400, "72757.50"),  # 15 percent of 485,050
        (2025, SINGLE, 0, 533_410, "72759.50"),
        (2025, SINGLE, -10_000, 60_000, "247.50"),  # what deductions leave over comes off the gains
        (2025, SINGLE, -10_000, 5_000, "0"),
        (2025, MFJ, 96_700, 100_000, "15000"),
        (2025, QSS, 96_700, 100_000, "15000"),  # a surviving spouse: a joint filer's breakpoints
        (2025, HOH, 64_750, 10_000, "1500"),
        (2026, SINGLE, 49_450, 10_000, "1500"),
        (2026, MFS, 306_850, 1_000, "200"),
        (2026, MFJ, 613_600, 200, "35"),  # 100 at 15 percent, 100 at 20
        (2026, HOH, 579_600, 100, "20"),
        # between the end of the 0 percent rate and that of the 12 percent bracket, the ordinary rates are the less
        (2026, SINGLE, 49_450, 100, "12"),
        (2026, SINGLE, 49_450, 1_357, "203.54"),  # 950 at 12 percent and 407 at 22; at 15 percent 203.55
        (2026, SINGLE, 49_450, 1_358, "203.70"),  # at 15 percent; at the ordinary rates 203.76
    ],
)
def test_gains_by_hand(year: int, status: FilingStatus, ordinary: int, gain: int, tax: str) -> None:
    assert preferential_tax(TABLES.of(year), status, usd(ordinary), usd(gain)) == Decimal(tax)


def test_a_net_loss_is_no_gain_to_tax() -> None:
    with pytest.raises(TaxInputError, match=r"ltcg_qd: expected .* was -1\. Net losses first"):
        preferential_tax(TABLES.of(2025), SINGLE, usd(0), usd(-1))


BREAKPOINTS = {  # Schedule D instructions (2025) p. 15; Rev. Proc. 2025-32
    (2025, SINGLE): (48_350, 533_400),
    (2025, MFJ): (96_700, 600_050),
    (2025, MFS): (48_350, 300_000),
    (2025, HOH): (64_750, 566_700),
    (2026, SINGLE): (49_450, 545_500),
    (2026, MFJ): (98_900, 613_700),
    (2026, MFS): (49_450, 306_850),
    (2026, HOH): (66_200, 579_600),
}


def by_printed_tables(year: int, status: FilingStatus, amount: Decimal) -> Decimal:
    """The tax on `amount` as a person reads it off the printed schedule: the row it is in, plus rate times excess."""
    tax = amount * Decimal("0.10")
    for (top, base), rate in zip(printed(year, status), ABOVE, strict=True):
        if amount > top:
            tax = base + (amount - top) * rate
    return tax


def worksheet(year: int, status: FilingStatus, ordinary: Decimal, gain: Decimal) -> Decimal:
    """The Qualified Dividends and Capital Gain Tax Worksheet (Form 1040 instructions), line by line."""
    zero_top, fifteen_top = map(Decimal, BREAKPOINTS[year, status.rate_status])
    line1 = max(Decimal(0), ordinary + gain)
    line4 = gain
    line5 = max(Decimal(0), line1 - line4)
    line7 = min(line1, zero_top)
    line8 = min(line5, line7)
    line9 = line7 - line8
    line10 = min(line1, line4)
    line12 = line10 - line9
    line14 = min(line1, fifteen_top)
    line16 = max(Decimal(0), line14 - (line5 + line9))
    line17 = min(line12, line16)
    line18 = line17 * Decimal("0.15")
    line20 = line10 - (line9 + line17)
    line21 = line20 * Decimal("0.20")
    line23 = line18 + line21 + by_printed_tables(year, status, line5)
    return min(line23, by_printed_tables(year, status, line1))


@given(years, statuses, incomes, gains)
def test_ordinary_and_preferential_tax_together_are_the_worksheet(
    year: int, status: FilingStatus, ordinary: Decimal, gain: Decimal
) -> None:
    figures = TABLES.of(year)
    total = ordinary_tax(figures, status, ordinary) + preferential_tax(figures, status, ordinary, gain)
    assert total == worksheet(year, status, ordinary, gain)


@given(years, statuses, incomes, gains, st.decimals("0.01", 100, places=2))
def test_gains_never_cost_more_than_other_income_and_never_jump(
    year: int, status: FilingStatus, ordinary: Decimal, gain: Decimal, more: Decimal
) -> None:
    figures = TABLES.of(year)
    tax = preferential_tax(figures, status, ordinary, gain)
    as_ordinary = ordinary_tax(figures, status, ordinary + gain) - ordinary_tax(figures, status, ordinary)
    assert 0 <= tax <= as_ordinary
    rise = preferential_tax(figures, status, ordinary, gain + more) - tax
    assert 0 <= rise <= more * Decimal("0.22")  # where the cap ends, the dollar that crosses costs up to 22 percent


# ------------------------------------------------------------------ net investment income


@pytest.mark.parametrize(
    ("status", "magi", "nii", "tax"),
    [
        (SINGLE, 200_000, 50_000, "0"),  # exactly the threshold
        (SINGLE, 200_001, 50_000, "0.038"),
        (SINGLE, 300_000, 50_000, "1900"),
        (SINGLE, 250_000, 50_000, "1900"),
        (SINGLE, 300_000, -5_000, "0"),
        (SINGLE, -300_000, 50_000, "0"),
        (MFJ, 260_000, 50_000, "380"),
        (QSS, 260_000, 50_000, "380"),
        (MFS, 135_000, 50_000, "380"),
        (HOH, 210_000, 50_000, "380"),
    ],
)
@pytest.mark.parametrize("year", [2025, 2026])
def test_surtax_by_hand(year: int, status: FilingStatus, magi: int, nii: int, tax: str) -> None:
    assert net_investment_income_tax(TABLES.of(year), status, usd(magi), usd(nii)) == Decimal(tax)


def test_a_deducted_capital_loss_reduces_net_investment_income() -> None:
    """Reg. §1.1411-4(f)(4): dividends 10,000, a net capital loss of which 3,000 are deducted: 7,000 at 3.8 percent."""
    figures = TABLES.of(2025)
    tax = net_investment_income_tax(figures, SINGLE, usd(400_000), usd(10_000), capital_loss_deducted=usd(3_000))
    assert tax == 266
    assert net_investment_income_tax(figures, SINGLE, usd(400_000), usd(2_000), usd(3_000)) == 0
    with pytest.raises(TaxInputError, match="capital_loss_deducted: expected a positive amount, was -3000"):
        net_investment_income_tax(figures, SINGLE, usd(400_000), usd(10_000), usd(-3_000))


# ------------------------------------------------------------------ the next dollar


@pytest.mark.parametrize(
    ("status", "given_income", "short", "long"),
    [
        (SINGLE, income(1_000_000, 1_000, 1_001_000, 1_000), "0.408", "0.238"),  # the defaults of config.yaml
        (SINGLE, income(60_000, 10_000), "0.22", "0.15"),
        (SINGLE, income(10_000, 5_000), "0.10", "0"),
        (SINGLE, income(30_000, 30_000), "0.27", "0.15"),  # 12 percent, and it pushes a dollar of gain from 0 to 15
        (SINGLE, income(-500, 0), "0", "0"),
        (MFJ, income(150_000, 100_000, 250_000, 100_000), "0.258", "0.188"),  # the next dollar is above the threshold
        (MFJ, income(150_000, 100_000, 249_999, 100_000), "0.22", "0.15"),
        (MFS, income(300_000, 10_000, 310_000, 10_000), "0.388", "0.238"),  # 35 + 3.8, 20 + 3.8
    ],
)
def test_what_one_more_dollar_of_gain_costs(status: FilingStatus, given_income: Income, short: str, long: str) -> None:
    rates = marginal_rates(TABLES.of(2025), status, given_income)
    assert (rates.short_term, rates.long_term) == (Decimal(short), Decimal(long))


def test_a_dollar_of_loss_saves_what_the_last_dollar_of_gain_cost() -> None:
    """At the edge of a bracket the two differ: 48,475 is the last dollar at 12 percent."""
    at_the_edge = income(48_475, 5_000)
    assert marginal_rates(TABLES.of(2025), SINGLE, at_the_edge).short_term == Decimal("0.22")
    assert marginal_rates(TABLES.of(2025), SINGLE, at_the_edge, step=Decimal(-1)).short_term == Decimal("0.12")


@pytest.mark.parametrize(("step", "said"), [("0", "step: expected an amount other than 0"), ("-1", "ltcg_qd: ")])
def test_a_step_that_cannot_be_taken_is_refused(step: str, said: str) -> None:
    with pytest.raises(TaxInputError, match=said):
        marginal_rates(TABLES.of(2025), SINGLE, income(50_000, 0), step=Decimal(step))


@given(years, statuses, incomes, gains)
def test_the_next_dollar_is_taxed_at_rates_that_exist(
    year: int, status: FilingStatus, ordinary: Decimal, gain: Decimal
) -> None:
    """Never below zero; at most 35, the 5 between 15 and 20 that it pushes a gain over, and 3.8."""
    here = Income(ordinary, gain, ordinary + gain, gain)
    rates = marginal_rates(TABLES.of(year), status, here)
    assert 0 <= rates.long_term <= Decimal("0.258")
    assert 0 <= rates.short_term <= Decimal("0.438")
    more = federal_tax(TABLES.of(year), status, Income(ordinary, gain + 1, ordinary + gain + 1, gain + 1))
    assert more - federal_tax(TABLES.of(year), status, here) == rates.long_term
