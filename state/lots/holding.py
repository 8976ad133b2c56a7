"""Holding periods: when a lot becomes long-term, and how a wash sale moves its start.

The problem: "more than one year" is counted in calendar months from the day after acquisition, with the day of
disposal included (Form 8949 instructions p. 2; IRC §1222), and a replacement lot takes over the time the sold lot
was held (IRC §1223(3)). Day arithmetic gets both wrong.

Worked example 1, the year. Bought 1 Mar 2023: counting starts 2 Mar 2023, a year is complete with 1 Mar 2024, so a
sale on 1 Mar 2024 is short (366 days later!) and on 2 Mar long. Bought 28 Feb 2023: counting starts 1 Mar 2023, so
29 Feb 2024 is still short and 1 Mar long. One formula gives all of it: long from `acquired + 1 day + 1 year`,
with 29 Feb + 1 year = 1 Mar (Rev. Rul. 66-7; TAX_RULES 1.4).

Worked example 2, tacking. A lot held from 1 Mar to 10 Dec 2024 is sold at a loss; the replacement was bought on
20 Nov 2024, before the sale. Both were held from 20 Nov to 10 Dec; counting those 20 days twice would start the
replacement on 10 Feb, before the sold lot existed. The union of the two holdings starts 1 Mar. A replacement bought
after the sale (8 Jan 2025) takes all 284 days and starts 30 Mar 2024: the gap is never counted.

The algorithm, convention `tacking`:
- union (default): bought on or after the sale: its date less the days the sold lot was held; bought before: the
  start of the sold lot if that is older, else its own.
- additive: its date less all days held, overlap counted twice (several brokers).
- holding_date: the sold lot's start, gap counted too.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

from state.records import Lot, Term

Tacking = Literal["union", "additive", "holding_date"]

WINDOW_DAYS = 30  # IRC §1091(a): thirty days before and after, sixty-one with the sale's own
_DAY = timedelta(days=1)


def long_term_from(adjusted_acquired: date) -> date:
    """First trade date on which a sale is long-term (IRC §1222; Rev. Rul. 66-7)."""
    start = adjusted_acquired + _DAY
    if start.month == 2 and start.day == 29:
        return date(start.year + 1, 3, 1)
    return start.replace(year=start.year + 1)


@lru_cache(maxsize=1 << 16)  # a scan asks it of every lot, day after day
def term(adjusted_acquired: date, disposed: date) -> Term:
    """Term of a sale on trade date `disposed` of a lot whose holding period starts at `adjusted_acquired`."""
    if disposed.year - adjusted_acquired.year > 1:
        return Term.LONG
    return Term.LONG if disposed >= long_term_from(adjusted_acquired) else Term.SHORT


def lot_term(lot: Lot, disposed: date) -> Term:
    """Term of a sale on trade date `disposed` of an open lot; what was inherited is always long (IRC §1223(9))."""
    return Term.LONG if lot.always_long else term(lot.adjusted_acquired, disposed)


def tacked(replacement: date, sold_start: date, sold: date, tacking: Tacking) -> date:
    """Adjusted acquisition date of a replacement (IRC §1223(3); convention `tacking`).

    `replacement` is its own acquisition date, `sold_start` the adjusted acquisition date of the lot sold, `sold`
    the trade date of the loss sale.
    """
    if tacking == "holding_date" or (tacking == "union" and replacement < sold):
        return min(replacement, sold_start)
    return replacement - (sold - sold_start)
