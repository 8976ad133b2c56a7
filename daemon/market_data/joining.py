"""One total-return series out of answers given on different days.

A source adjusts backwards: what it answers today is adjusted for everything that has happened until today, so that
after a dividend the whole past is told a little lower than it was yesterday. Answers of two days do not fit together;
their returns do. So a series is stored once and never changed, and what is newer is scaled to fit at a session that
both have:

    answer of Monday    Fri 100.00   Mon 101.00
    answer of Tuesday                Mon 100.00   Tue 102.00      (1.00 paid on Tuesday)
    stored              Fri 100.00   Mon 101.00   Tue 103.02      101.00 x 102.00 / 100.00

Older sessions are joined in the same way, at the oldest one stored. The stored figures are prices of no day; only
their ratios mean something, and those are the source's own. Twelve significant digits are kept: a series joined every
evening for ten years drifts by less than a millionth of a basis point.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Context, Decimal

from state.records import DailyBar

KEPT = Context(prec=12)
EXACT = Context(prec=40)


def joined(stored: DailyBar, told: DailyBar, bars: Iterable[DailyBar]) -> tuple[DailyBar, ...]:
    """`bars` scaled so that the answer they came in fits the stored series; `told` is that answer's bar of the
    session of `stored`."""
    return scaled(bars, stored.adjusted, told.adjusted)


def scaled(bars: Iterable[DailyBar], to: Decimal, of: Decimal) -> tuple[DailyBar, ...]:
    """Bars whose total-return prices are multiplied by `to` / `of`."""
    if to == of:
        return tuple(bars)
    return tuple(replace(bar, adjusted=_rounded(bar.adjusted, to, of)) for bar in bars)


def _rounded(adjusted: Decimal, to: Decimal, of: Decimal) -> Decimal:
    return KEPT.plus(EXACT.divide(EXACT.multiply(adjusted, to), of))
