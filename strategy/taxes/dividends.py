"""Qualified dividends: was the share held long enough around its ex-date to be taxed like a long-term gain?

The problem: a dividend is qualified only on shares held more than 60 days of the 121 that begin 60 days before the
ex-date. Selling a lot at a loss inside those days turns the dividend into ordinary income, which can cost more than
the loss saves.

Worked example 1. Ex-date 14 Jul 2025: the window is 15 May to 12 Sep. Bought 11 Jul, sold 12 Sep: the day of purchase
does not count, the day of sale does, so 12 Jul to 12 Sep, 63 days, qualified. Sold 9 Sep: 60 days, not *more* than 60.

Worked example 2, only days inside the window count. Held since March, sold on 13 Jul, the day before the ex-date:
15 May to 13 Jul, 60 days. Sold on the ex-date itself, when the seller still gets the dividend: 61, qualified.

The algorithm is one subtraction of dates. Nothing asks whether the share was held on the record date, because the
count answers it: bought on the ex-date or later, or sold before it, at most 60 of the days are left.

Preferred stock, for dividends of periods that add up to more than 366 days: more than 90 days of the 181 that begin
90 days before (IRC §§1(h)(11)(B)(iii), 246(c)(1)-(3); Pub. 550 (2025) pp. 28-29, whose printed day counts are wrong
by statute: docs/METHODS.md). Funds and the kind of company that pays are not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from strategy.taxes.errors import TaxInputError

DAYS_BEFORE = 60  # IRC §246(c)(1) as changed by §1(h)(11)(B)(iii): a 121-day period begins so long before the ex-date
DAYS_BEFORE_PREFERRED = 90  # IRC §246(c)(2): a 181-day period
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DividendHolding:
    """The test of one lot and one ex-date."""

    window: tuple[date, date]  # first and last day that can count
    days_in_window: int  # days held inside it
    qualified: bool


def dividend_holding(
    acquired: date,
    ex_date: date,
    sold: date | None = None,
    *,
    preferred: bool = False,
    diminished_risk_days: int = 0,
) -> DividendHolding:
    """The holding test of a dividend (IRC §§1(h)(11)(B)(iii), 246(c)).

    `acquired` and `sold` are trade dates; `sold` None is a lot still held, counted to the end of the window as if it
    is held through it. `preferred`: dividends of preferred stock for periods of more than 366 days in all.
    `diminished_risk_days`: how many of the days counted do not, because puts, short sales or the like diminished the
    risk of loss (IRC §246(c)(4)).

    Raises TaxInputError when the sale is before the purchase, or more days are taken off than were counted.
    """
    if sold is not None and sold < acquired:
        raise TaxInputError(f"sold: expected a day on or after the purchase on {acquired}, was {sold}.")
    before = DAYS_BEFORE_PREFERRED if preferred else DAYS_BEFORE
    first, last = ex_date - timedelta(days=before), ex_date + timedelta(days=before)
    counted_from = max(first, acquired + _DAY)
    counted_to = last if sold is None else min(last, sold)
    held = max(0, (counted_to - counted_from).days + 1)
    if not 0 <= diminished_risk_days <= held:
        raise TaxInputError(
            f"diminished_risk_days: expected from 0 to the {held} days held inside the window, "
            f"was {diminished_risk_days}."
        )
    days = held - diminished_risk_days
    return DividendHolding(window=(first, last), days_in_window=days, qualified=days > before)
