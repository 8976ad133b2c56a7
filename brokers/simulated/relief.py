"""Which of its own lots the venue sells, and what they cost: the check on the ledger, so nothing is shared with it.

A standing order (FIFO, LIFO, HIFO) takes whole lots in its order and part of the last. A sale that names lots
takes these, in the order named. An account of specific identification falls back to FIFO for a sale that names
none (Reg. §1.1012-1(c)(1)). Cost and proceeds are shared out by quantity and rounded to the cent; the last share
of a lot takes what is left, so nothing is lost to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from brokers.simulated.book import Book, Disposal, VenueLot, VenueOrder, cents
from state.records import Activity, LotSelection, ReliefMethod


def lot_named(book: Book, symbol: str, name: str) -> VenueLot | None:
    """The open lot a sale means: named by an activity id of its purchase, or by the purchase order's id."""
    for lot in book.lots.get(symbol, {}).values():
        if name == lot.broker_order_id or name in lot.fill_ids:
            return lot
    return None


def unsold_naming(order: VenueOrder) -> tuple[LotSelection, ...]:
    """What is left of an order's named lots after its fills so far."""
    left: list[LotSelection] = []
    filled = order.filled_quantity
    for named in order.request.lots:
        taken = min(filled, named.quantity)
        filled -= taken
        if taken < named.quantity:
            left.append(LotSelection(named.lot_id, named.quantity - taken))
    return tuple(left)


def choose_lots(
    book: Book, order: VenueOrder, quantity: Decimal, method: ReliefMethod
) -> tuple[tuple[VenueLot, Decimal], ...]:
    """The lots a sale of `quantity` shares takes, with the shares of each; fewer where a named lot has run short."""
    lots = tuple(book.lots.get(order.request.symbol, {}).values())
    if order.request.lots:
        offered: list[tuple[VenueLot, Decimal]] = []
        for named in unsold_naming(order):
            lot = lot_named(book, order.request.symbol, named.lot_id)
            if lot is not None:
                offered.append((lot, min(named.quantity, lot.quantity)))
    else:
        offered = [(lot, lot.quantity) for lot in _in_order(lots, method)]
    chosen: list[tuple[VenueLot, Decimal]] = []
    for lot, available in offered:
        taken = min(available, quantity)
        quantity -= taken
        if taken:
            chosen.append((lot, taken))
    return tuple(chosen)


def _in_order(lots: Sequence[VenueLot], method: ReliefMethod) -> Iterable[VenueLot]:
    """Lots, given in order of acquisition, in the order a standing order sells them."""
    if method is ReliefMethod.LIFO:
        return reversed(lots)
    if method is ReliefMethod.HIFO:
        return sorted(lots, key=lambda lot: -lot.cost / lot.quantity)
    return lots


def dispose(book: Book, sale: Activity, chosen: Iterable[tuple[VenueLot, Decimal]]) -> None:
    """Take the chosen shares out of the lots and record what left, at what cost and proceeds."""
    quantity_left, proceeds_left = sale.quantity, sale.amount
    for lot, quantity in chosen:
        cost = _share(lot.cost, quantity, lot.quantity)
        proceeds = _share(proceeds_left, quantity, quantity_left)
        quantity_left -= quantity
        proceeds_left -= proceeds
        book.put_lot(replace(lot, quantity=lot.quantity - quantity, cost=lot.cost - cost))
        book.add_disposal(
            Disposal(
                sale.activity_id,
                sale.broker_order_id or "",
                lot.symbol,
                lot.broker_order_id,
                lot.fill_ids,
                lot.acquired,
                sale.trade_date,
                quantity,
                cost,
                proceeds,
            )
        )


def _share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    return amount if part == whole else cents(amount * part / whole)
