"""Exact arithmetic for the replay: one decimal context and one way of splitting an amount.

The problem: a lot of 3 shares that cost 100.00 is sold one share at a time. A third of 100 has no decimal; if each
part is rounded on its own, the parts sum to 99.99 or 100.01, and the books no longer balance.

Worked example: `apportion(100, 1, 3)` is 33.333333333333, on a grid of a trillionth of a dollar. The remainder
66.666666666667 is found by subtraction, which is exact on the grid. The next share takes 33.333333333334 (half of
66.666666666667, half-even), the last takes what is left, and the parts sum to 100 exactly, always.

The algorithm: every quotient is rounded to GRID once, when it is made; everything else is addition, subtraction
and multiplication of short decimals, exact within CONTEXT's fifty digits. Fractions would be exact without the
grid, but their denominators grow with every split and a hundred thousand transactions would take minutes.
"""

from __future__ import annotations

from decimal import (
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    InvalidOperation,
    Overflow,
)

from state.records import CENT, QUANTUM

GRID = Decimal("1E-12")  # dollars: a hundred-millionth of the tolerance anyone compares with
CONTEXT = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow, FloatOperation])


def apportion(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """`total * part / whole` on the grid. The caller keeps the rest by subtraction; call it inside CONTEXT."""
    return (total * part / whole).quantize(GRID)


def scaled(quantity: Decimal, new: Decimal, old: Decimal) -> Decimal:
    """Shares after a split of `new` for `old`, rounded to the finest quantity a venue keeps."""
    return (quantity * new / old).quantize(QUANTUM)


def cents(amount: Decimal) -> Decimal:
    """`amount` rounded half-up to cents: for output only, never inside the replay."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def plain(number: Decimal) -> str:
    """The one canonical text of a number: no exponent, no trailing zeros, no negative zero."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
