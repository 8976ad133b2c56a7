"""Schedule D: a year's gains and losses netted, what is deducted from other income, what is carried to next year.

The problem: losses offset gains of their own term first, then of the other; at most 3,000 dollars of what is left is
deducted from other income; the rest is carried on, keeping its term. How much of the carryover a deduction uses up is
a figure of its own: in a year of too little income the deduction is on the return and yet uses up less than it shows.

Worked example 1, both terms lose. Short -1,000, long -6,000, taxable income 50,000. Deducted 3,000, short-term first:
the 1,000 and 2,000 of the 6,000. Carried to next year: 4,000 long-term.

Worked example 2, no income. Short -5,000, taxable income -2,000 after the deduction of 3,000. Without the deduction
there would have been 1,000 of income, so it absorbed 1,000 only: 4,000 are carried on (Pub. 550 p. 102).

The algorithm is the form: Schedule D lines 7, 15, 16 and 21, then the Capital Loss Carryover Worksheet, lines 3 to 13
(Schedule D instructions 2025 p. 10), which is IRC §1212(b)(1) and (2). Line numbers stand beside the code.

Out of scope: §1256 carrybacks, collectibles and §1250 gain, which are netted in groups of their own (IRC §1(h)(4)-(6)).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from state.records import ZERO
from strategy.taxes.errors import TaxInputError
from strategy.taxes.filing import FilingStatus

LOSS_LIMIT = Decimal(3_000)  # IRC §1211(b)(1), US dollars a year; not indexed
LOSS_LIMIT_MFS = Decimal(1_500)  # the same, married filing separately


@dataclass(frozen=True, slots=True)
class ScheduleD:
    """A year's netting. US dollars; nets are signed, the other amounts are never negative."""

    net_short: Decimal  # line 7: short-term, carryover included
    net_long: Decimal  # line 15: long-term, carryover included
    deduct: Decimal  # line 21: the net loss that other income is reduced by
    absorbed: Decimal  # worksheet line 4: how much of the loss that deduction uses up; at most `deduct`
    st_carry_out: Decimal  # worksheet line 8: short-term loss of next year
    lt_carry_out: Decimal  # worksheet line 13: long-term loss of next year

    @property
    def net(self) -> Decimal:
        """Line 16: all of it; negative for a loss."""
        return self.net_short + self.net_long

    @property
    def net_capital_gain(self) -> Decimal:
        """What is taxed at the preferential rates: net long-term gain over net short-term loss (IRC §1222(11))."""
        return max(ZERO, self.net_long + min(ZERO, self.net_short))

    @property
    def ordinary_gain(self) -> Decimal:
        """What is taxed like other income: net short-term gain over net long-term loss."""
        return max(ZERO, self.net_short + min(ZERO, self.net_long))


def loss_limit(status: FilingStatus) -> Decimal:
    """The most that a net capital loss may reduce other income by in a year, US dollars (IRC §1211(b)(1))."""
    return LOSS_LIMIT_MFS if status is FilingStatus.MFS else LOSS_LIMIT


def net_capital_gains(
    *,
    short: Decimal,
    long: Decimal,
    st_carry_in: Decimal,
    lt_carry_in: Decimal,
    status: FilingStatus,
    taxable_income: Decimal,
) -> ScheduleD:
    """Schedule D of one year (IRC §§1211(b), 1212(b), 1222).

    `short` and `long` are the year's own nets of recognized gains and losses, carryovers left out: losses negative.
    The carry-ins are losses of earlier years, given as positive amounts. `taxable_income` is that of the return, after
    the deduction of the loss, and negative where deductions exceed income (worksheet line 1). All in US dollars.

    Raises TaxInputError for a negative carry-in: it could be a loss with its sign or a gain, and there is no carryover
    of gains.
    """
    for name, amount in (("st_carry_in", st_carry_in), ("lt_carry_in", lt_carry_in)):
        if amount < 0:
            raise TaxInputError(f"{name}: expected a loss carried in as a positive amount, was {amount}.")
    net_short, net_long = short - st_carry_in, long - lt_carry_in  # lines 7 and 15
    net = net_short + net_long  # line 16
    deduct = min(loss_limit(status), -net) if net < 0 else ZERO  # line 21
    absorbed = min(deduct, max(ZERO, taxable_income + deduct))  # worksheet lines 1 to 4
    short_loss, short_gain = max(ZERO, -net_short), max(ZERO, net_short)  # worksheet lines 5 and 10
    long_loss, long_gain = max(ZERO, -net_long), max(ZERO, net_long)  # worksheet lines 9 and 6
    left_for_long = max(ZERO, absorbed - short_loss)  # worksheet line 11: the deduction uses short-term loss first
    return ScheduleD(
        net_short=net_short,
        net_long=net_long,
        deduct=deduct,
        absorbed=absorbed,
        st_carry_out=max(ZERO, short_loss - (absorbed + long_gain)),  # worksheet lines 7 and 8
        lt_carry_out=max(ZERO, long_loss - (short_gain + left_for_long)),  # worksheet lines 12 and 13
    )
