"""Federal tax by rates: ordinary income, long-term gains and qualified dividends on top of it, the surtax.

The problem: gains are taxed at 0, 15 and 20 percent, but which of them depends on the income they stand on, so neither
can be told without the other. And the two schedules do not meet: between the end of the 0 percent rate and that of the
12 percent bracket (49,450 and 50,400 for a single filer in 2026) a gain would cost more than wages.

Worked example 1, gains fill what ordinary income leaves of the 0 percent rate. Single, 2025: ordinary taxable income
40,000, gains 20,000. The 0 percent rate reaches to 48,350: 8,350 at 0, 11,650 at 15 percent, 1,747.50.

Worked example 2, deductions exceed ordinary income. Ordinary taxable income -10,000, gains 60,000: taxable income is
50,000, all of it gains; 48,350 at 0, 1,650 at 15 percent. The 10,000 are not lost.

Worked example 3, the cap. Single, 2026: ordinary taxable income 49,450, gains 100. At 15 percent they cost 15.00, as
ordinary income 12.00: the law takes the smaller (IRC §1(h)(1): "shall not exceed"; last line of the Qualified
Dividends and Capital Gain Tax Worksheet).

The tax is that of the rate schedules, exact; below 100,000 of taxable income the IRS's printed Tax Table rounds income
to the middle of a 50-dollar step and differs by a few dollars. Out of scope: collectibles and unrecaptured §1250 gain
(28 and 25 percent), the alternative minimum tax, credits, states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from state.records import ZERO
from strategy.taxes.errors import TaxInputError
from strategy.taxes.filing import FilingStatus
from strategy.taxes.tables import TaxYear

ONE_DOLLAR = Decimal(1)


@dataclass(frozen=True, slots=True)
class Income:
    """What a return's tax depends on. US dollars."""

    ordinary_taxable: Decimal  # taxable income without `ltcg_qd`; negative where deductions exceed it
    ltcg_qd: Decimal  # net capital gain (IRC §1222(11)) and qualified dividends; never negative
    magi: Decimal  # modified adjusted gross income (IRC §1411(d))
    nii: Decimal  # net investment income (IRC §1411(c)); may be negative


@dataclass(frozen=True, slots=True)
class MarginalRates:
    """What one more dollar of gain costs, as fractions."""

    short_term: Decimal
    long_term: Decimal


def ordinary_tax(year: TaxYear, status: FilingStatus, ordinary_taxable: Decimal) -> Decimal:
    """Tax on ordinary taxable income, US dollars (IRC §1(a)-(d), (j)). Zero where that is negative."""
    return year.ordinary[status.rate_status].between(ZERO, max(ZERO, ordinary_taxable))


def preferential_tax(year: TaxYear, status: FilingStatus, ordinary_taxable: Decimal, ltcg_qd: Decimal) -> Decimal:
    """Tax on net capital gain and qualified dividends, stacked on ordinary taxable income, US dollars (IRC §1(h)).

    What `ordinary_taxable` is below zero comes off the gains. Never more than the ordinary rates would take.
    Raises TaxInputError when `ltcg_qd` is negative: a net loss is netted first.
    """
    if ltcg_qd < 0:
        raise TaxInputError(
            f"ltcg_qd: expected net capital gain and qualified dividends of 0 or more, was {ltcg_qd}. "
            "Net losses first (Schedule D)."
        )
    bottom = max(ZERO, ordinary_taxable)
    top = max(bottom, ordinary_taxable + ltcg_qd)
    by_status = status.rate_status
    return min(year.preferential[by_status].between(bottom, top), year.ordinary[by_status].between(bottom, top))


def net_investment_income_tax(
    year: TaxYear, status: FilingStatus, magi: Decimal, nii: Decimal, capital_loss_deducted: Decimal = ZERO
) -> Decimal:
    """The surtax on the lesser of net investment income and income above the threshold, US dollars (IRC §1411(a)(1)).

    `nii` may be negative: no tax. `capital_loss_deducted` is the part of a net capital loss that the return deducts
    (`ScheduleD.deduct`, at most 3,000), where `nii` counts gains less losses as zero: it reduces net investment income
    too (Reg. §1.1411-4(f)(4)). Leave it zero where `nii` has it already.
    Raises TaxInputError when `capital_loss_deducted` is negative.
    """
    if capital_loss_deducted < 0:
        raise TaxInputError(f"capital_loss_deducted: expected a positive amount, was {capital_loss_deducted}.")
    above = magi - year.niit_thresholds[status.rate_status]
    return year.niit_rate * max(ZERO, min(nii - capital_loss_deducted, above))


def federal_tax(year: TaxYear, status: FilingStatus, income: Income) -> Decimal:
    """All three together, US dollars. Raises TaxInputError as they do."""
    return (
        ordinary_tax(year, status, income.ordinary_taxable)
        + preferential_tax(year, status, income.ordinary_taxable, income.ltcg_qd)
        + net_investment_income_tax(year, status, income.magi, income.nii)
    )


def marginal_rates(year: TaxYear, status: FilingStatus, income: Income, step: Decimal = ONE_DOLLAR) -> MarginalRates:
    """What one more dollar of short-term or of long-term gain costs, all effects counted, as fractions.

    The difference that `step` US dollars make to `federal_tax`, per dollar. It can exceed the bracket's rate: one more
    dollar of wages or short-term gain may also push a dollar of long-term gain from 0 to 15 percent. A negative `step`
    gives what a dollar of loss saves while there are gains of its term to offset. Raises TaxInputError for a step of
    zero, or one below zero that `ltcg_qd` does not cover.
    """
    if step == 0:
        raise TaxInputError("step: expected an amount other than 0, was 0.")
    now = federal_tax(year, status, income)
    gain = replace(income, magi=income.magi + step, nii=income.nii + step)
    short = federal_tax(year, status, replace(gain, ordinary_taxable=income.ordinary_taxable + step))
    long = federal_tax(year, status, replace(gain, ltcg_qd=income.ltcg_qd + step))
    return MarginalRates(short_term=(short - now) / step, long_term=(long - now) / step)
