"""From a plan's legs to intents: swaps are cut so that few dollars are ever left unhedged.

Selling 60,000 USD of one name before buying 60,000 of another leaves the account out of the market in between,
and for longer if the second leg fails. So the legs of a plan are cut into **ties**: each tie sells at most
`unhedged_max` dollars and buys what those dollars fund. A tie's buys wait for its own sells, and shrink with
them; the next tie's sells wait until the dollars of the earlier ones are back in the market.

Example, `unhedged_max` = 35,000: sell 300 XOM at 200 (60,000), buy 400 CVX at 100 and 200 COP at 100:

    tie 1   sell 175 XOM (35,000)   buy 350 CVX (35,000)
    tie 2   sell 125 XOM (25,000)   buy  50 CVX (5,000) and 200 COP (20,000)

Buys funded by cash that is already there come first, as tie 0. Quantities of a leg's slices sum to the leg
exactly; cuts fall on whole shares unless the leg itself is fractional.

Within its tie a piece is cut once more where it is large for the symbol's daily volume; the gate lets such slices leave
one by one (`execution.slice_every_s`), so that the market takes them over time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from state.records import QUANTUM, ZERO, PlannedTrade, Side


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of one leg, and the tie it belongs to. Tie 0 is funded by cash that is already there."""

    trade: PlannedTrade
    slice_number: int
    tie: int
    quantity: Decimal


def cut(
    trades: Sequence[PlannedTrade], unhedged_max: Decimal, slice_max: Mapping[str, Decimal] | None = None
) -> tuple[Slice, ...]:
    """Slices in the order they are to be worked. `unhedged_max` in USD, positive; `slice_max` by symbol the largest
    slice that its volume allows, in shares, for symbols whose volume is known."""
    sells = [trade for trade in trades if trade.side is Side.SELL]
    buys = [trade for trade in trades if trade.side is Side.BUY]
    sold = sum((trade.notional for trade in sells), ZERO)
    bought = sum((trade.notional for trade in buys), ZERO)
    # Decimal's // truncates towards zero, so -(-a // b) would round down.
    ties = int((sold / unhedged_max).to_integral_value(ROUND_CEILING)) if sells else 0
    bounds = [sold * number / ties for number in range(1, ties + 1)] if ties else []
    cash_funded = max(bought - sold, ZERO)
    pieces = [*_pieces(sells, bounds, first_tie=1)]
    # The dollars that cash already covers are tie 0; beyond them buys follow the sells dollar by dollar.
    buy_bounds = [cash_funded, *(cash_funded + bound for bound in bounds)] if sells else [bought]
    if bought < sold and sold > 0:
        buy_bounds = [ZERO, *(bought * number / ties for number in range(1, ties + 1))]
    pieces.extend(_pieces(buys, buy_bounds, first_tie=0))
    pieces = _no_larger(pieces, slice_max or {})
    return tuple(sorted(pieces, key=lambda piece: (piece.tie, piece.trade.side is Side.BUY, piece.trade.leg)))


def _no_larger(pieces: Iterable[Slice], slice_max: Mapping[str, Decimal]) -> list[Slice]:
    """The pieces, those larger than their symbol's volume allows cut again within their tie; numbered anew."""
    found: list[Slice] = []
    numbers: dict[int, int] = {}
    for piece in pieces:
        left, most = piece.quantity, slice_max.get(piece.trade.symbol, piece.quantity)
        step = max(_shares(most, piece.trade.quantity), _least(piece.trade.quantity))
        while left > 0:
            number = numbers.get(piece.trade.leg, 0)
            numbers[piece.trade.leg] = number + 1
            found.append(Slice(piece.trade, number, piece.tie, min(left, step)))
            left -= step
    return found


def _least(like: Decimal) -> Decimal:
    """The smallest quantity an order of such a leg can have."""
    return Decimal(1) if like == like.to_integral_value() else QUANTUM


def _pieces(trades: Iterable[PlannedTrade], bounds: Sequence[Decimal], *, first_tie: int) -> list[Slice]:
    """Cut a queue of legs at cumulative dollar bounds; the last bound takes whatever rounding leaves."""
    pieces: list[Slice] = []
    spent = ZERO
    place = 0
    for trade in trades:
        left, number = trade.quantity, 0
        while left > 0:
            while place < len(bounds) - 1 and bounds[place] - spent < trade.price / 2:
                place += 1
            room = bounds[place] - spent
            take = left if place == len(bounds) - 1 else min(left, _shares(room / trade.price, trade.quantity))
            take = take if take > 0 else left
            pieces.append(Slice(trade, number, first_tie + place, take))
            spent += take * trade.price
            left -= take
            number += 1
    return pieces


def _shares(quantity: Decimal, like: Decimal) -> Decimal:
    """Rounded to whole shares when the leg is whole, else to nine decimals."""
    whole = like == like.to_integral_value()
    return quantity.quantize(Decimal(1) if whole else Decimal("0.000000001"), rounding=ROUND_HALF_UP)
