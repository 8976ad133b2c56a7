"""Schedule D: the given cases, the form line by line against the statute, and what no netting may create or lose."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from strategy.taxes import FilingStatus, ScheduleD, TaxInputError, net_capital_gains

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "tax_cases.yaml").read_text())["netting_cases"]
RICH = "1000000"

signed = st.decimals(-100_000, 100_000, places=2)
carried = st.decimals(0, 100_000, places=2)
statuses = st.sampled_from(FilingStatus)


def netted(
    short: object,
    long: object,
    *,
    st_in: object = 0,
    lt_in: object = 0,
    status: FilingStatus = FilingStatus.SINGLE,
    income: object = RICH,
) -> ScheduleD:
    return net_capital_gains(
        short=Decimal(str(short)),
        long=Decimal(str(long)),
        st_carry_in=Decimal(str(st_in)),
        lt_carry_in=Decimal(str(lt_in)),
        status=status,
        taxable_income=Decimal(str(income)),
    )


def of_case(case: Mapping[str, Any]) -> ScheduleD:
    return netted(
        case["short"],
        case["long"],
        st_in=case["st_carry_in"],
        lt_in=case["lt_carry_in"],
        status=FilingStatus.parse(case["filing_status"]),
        income=case["taxable_income"],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_given_case_comes_out_as_stated(case: Mapping[str, Any]) -> None:
    answer = of_case(case)
    for name in ("deduct", "st_carry_out", "lt_carry_out", "net_short", "net_long"):
        if name in case:
            assert getattr(answer, name) == Decimal(str(case[name])), name


def test_there_are_given_cases() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize(
    ("answer", "deduct", "st_out", "lt_out"),
    [
        # the limit is reached to the cent, and by a cent
        (netted(-3000, 0), "3000", "0", "0"),
        (netted("-3000.01", 0), "3000", "0.01", "0"),
        (netted(0, "-3000.01"), "3000", "0", "0.01"),
        # married filing separately: 1,500; a surviving spouse has a joint filer's 3,000
        (netted(-1000, -6000, status=FilingStatus.MFS), "1500", "0", "5500"),
        (netted(-4000, 0, status=FilingStatus.MFS), "1500", "2500", "0"),
        (netted(-4000, 0, status=FilingStatus.QSS), "3000", "1000", "0"),
        (netted(-4000, 0, status=FilingStatus.HOH), "3000", "1000", "0"),
        # carryovers of both terms beside gains: 2,000 - 5,000 short, 1,000 - 4,000 long
        (netted(2000, 1000, st_in=5000, lt_in=4000), "3000", "0", "3000"),
        # a carryover is used up by gains of its own term first
        (netted(500, 10000, lt_in=4000), "0", "0", "0"),
        # taxable income after the deduction: -3,000 leaves nothing to absorb, -2,999 one dollar, 0 all of it
        (netted(-5000, 0, income=-3000), "3000", "5000", "0"),
        (netted(-5000, 0, income=-50000), "3000", "5000", "0"),
        (netted(-5000, 0, income=-2999), "3000", "4999", "0"),
        (netted(-5000, 0, income=0), "3000", "2000", "0"),
        (netted(-1000, -6000, income=-1500), "3000", "0", "5500"),  # 1,500 absorbed: 1,000 short, 500 long
        (netted(0, 0), "0", "0", "0"),
        (netted(5000, -5000, income=-9000), "0", "0", "0"),
    ],
)
def test_by_hand(answer: ScheduleD, deduct: str, st_out: str, lt_out: str) -> None:
    assert (answer.deduct, answer.st_carry_out, answer.lt_carry_out) == tuple(map(Decimal, (deduct, st_out, lt_out)))


def test_what_is_left_is_taxed_by_its_term() -> None:
    """10,000 long over 4,000 of short loss carried in: 6,000 at the preferential rates (IRC §1222(11))."""
    answer = netted(0, 10000, st_in=4000)
    assert (answer.net_capital_gain, answer.ordinary_gain) == (6000, 0)
    answer = netted(9000, -2000)
    assert (answer.net_capital_gain, answer.ordinary_gain) == (0, 7000)
    answer = netted(9000, 2000)
    assert (answer.net_capital_gain, answer.ordinary_gain) == (2000, 9000)


def test_a_large_loss_is_deducted_year_after_year() -> None:
    """10,000 short-term, no gains: 3,000, 3,000, 3,000 and 1,000."""
    carry, deducted = Decimal(10_000), []
    while carry:
        answer = netted(0, 0, st_in=carry)
        deducted.append(answer.deduct)
        assert answer.lt_carry_out == 0
        carry = answer.st_carry_out
    assert deducted == [3000, 3000, 3000, 1000]


@pytest.mark.parametrize("which", ["st_in", "lt_in"])
def test_a_negative_carry_in_is_refused(which: str) -> None:
    with pytest.raises(TaxInputError, match=r"carry_in: expected a loss carried in as a positive amount, was -1"):
        netted(0, 0, **{which: -1})


@given(signed, signed, carried, carried, statuses, signed)
def test_the_worksheet_is_the_statute(
    short: Decimal, long: Decimal, st_in: Decimal, lt_in: Decimal, status: FilingStatus, income: Decimal
) -> None:
    """IRC §1212(b)(2)(A): treat the lesser of the amount allowed and adjusted taxable income as a short-term gain; then
    (b)(1): each term's net loss over the other's net gain is carried on."""
    answer = netted(short, long, st_in=st_in, lt_in=lt_in, status=status, income=income)
    net_short, net_long = short - st_in, long - lt_in
    allowed = min(Decimal(1500 if status is FilingStatus.MFS else 3000), max(Decimal(0), -(net_short + net_long)))
    as_short_gain = min(allowed, max(Decimal(0), income + allowed))
    raised = net_short + as_short_gain
    assert answer.deduct == allowed
    assert answer.st_carry_out == max(Decimal(0), -raised - max(Decimal(0), net_long))
    assert answer.lt_carry_out == max(Decimal(0), -net_long - max(Decimal(0), raised))


@given(signed, signed, carried, carried, statuses, signed)
def test_nothing_is_created_or_lost(
    short: Decimal, long: Decimal, st_in: Decimal, lt_in: Decimal, status: FilingStatus, income: Decimal
) -> None:
    """The year's net less what was carried in is: gains taxed, less the loss used up, less the loss carried on."""
    answer = netted(short, long, st_in=st_in, lt_in=lt_in, status=status, income=income)
    taxed = answer.net_capital_gain + answer.ordinary_gain
    assert short + long - st_in - lt_in == taxed - answer.absorbed - answer.st_carry_out - answer.lt_carry_out
    assert answer.net == taxed or taxed == 0
    assert 0 <= answer.absorbed <= answer.deduct <= (1500 if status is FilingStatus.MFS else 3000)


@given(signed, signed, carried, carried, statuses, signed, st.decimals("0.01", 10_000, places=2))
def test_one_more_dollar_of_loss_never_leaves_less_to_carry(
    short: Decimal, long: Decimal, st_in: Decimal, lt_in: Decimal, status: FilingStatus, income: Decimal, more: Decimal
) -> None:
    less = netted(short, long, st_in=st_in, lt_in=lt_in, status=status, income=income)
    lost = netted(short - more, long, st_in=st_in, lt_in=lt_in, status=status, income=income)
    grown = lost.st_carry_out + lost.lt_carry_out - less.st_carry_out - less.lt_carry_out
    assert 0 <= grown <= more
    assert lost.net_capital_gain + lost.ordinary_gain <= less.net_capital_gain + less.ordinary_gain
