"""Relief: which lots a sale disposes of.

The problem: the law charges a sale to the earliest lot unless the lots were identified in time, by naming them or by a
standing order (Reg. §1.1012-1(c)); the account's relief method says which. It works inside the account that sells.

Worked example 1. Lots of 50 shares at 20, 40 and 30, bought in that order; 60 are sold. First in first out takes all
of the first and 10 of the second; highest cost first takes all of the second and 10 of the third; last in first out
all of the third and 10 of the second.

Worked example 2. A lot of 100 has 50 shares that replaced a loss (older start) and 50 that did not. First in, first
out sells the replacing shares first (convention `sublot_order`), whatever the method says between lots.

The algorithm: the queue of the account is already in first-in-first-out order; the other methods sort it. Lots that
the sale names are taken as named, under every method: the journal records what was sold. Under `specific` without
names, first in first out governs, as the law says.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from state.lots.book import Book, Parcel
from state.lots.errors import AmbiguousLotError, OversoldError, UnknownLotError, UnsupportedTransactionError
from state.lots.journal import NOT_SOLD
from state.lots.money import apportion, plain
from state.records import ZERO, ReliefMethod, Transaction

TIE = Decimal("1E-9")  # dollars a share: prices that differ by less, through a rounded quotient, are the same price


def disposal_order(queue: Sequence[Parcel], method: ReliefMethod) -> Sequence[Parcel]:
    """The parcels in the order `method` disposes of them. Ties of price go to the earlier lot."""
    if method is ReliefMethod.LIFO:
        return sorted(queue, key=lambda parcel: (-parcel.origin.acquired.toordinal(), -parcel.origin.sequence))
    if method is ReliefMethod.HIFO:
        return sorted(queue, key=lambda parcel: -(parcel.basis / parcel.quantity).quantize(TIE))
    return queue


def pool(book: Book, account_id: str, symbol: str) -> None:
    """Average basis: every share of the queue gets the same basis; dates stay (Reg. §1.1012-1(e))."""
    queue = [parcel for parcel in book.queue(account_id, symbol) if parcel.sale is None]
    for parcel in queue:
        if parcel.loss_basis is not None or not parcel.origin.basis_known:
            raise UnsupportedTransactionError(
                f"Lot {parcel.origin.lot_id} of {symbol} in account {account_id}: expected one known basis a lot "
                "among shares of averaged basis, was a gift worth less than the donor's basis, or a lot of unknown "
                "basis. The ledger does not know the tax treatment; import the basis, or do not average.",
                transaction_id=parcel.origin.lot_id,
                account_id=account_id,
                symbol=symbol,
            )
    quantity = sum([parcel.quantity for parcel in queue], ZERO)
    basis = sum([parcel.basis for parcel in queue], ZERO)
    wash = sum([parcel.wash for parcel in queue], ZERO)
    for parcel in queue:
        parcel.basis = apportion(basis, parcel.quantity, quantity)
        parcel.wash = apportion(wash, parcel.quantity, quantity)
        quantity -= parcel.quantity
        basis -= parcel.basis
        wash -= parcel.wash


def carve(book: Book, row: Transaction, quantity: Decimal) -> list[Parcel]:
    """Parcels of exactly `quantity` shares that `row` disposes of, split from the rest and still in their queue.

    Raises OversoldError, UnknownLotError, AmbiguousLotError.
    """
    symbol = row.symbol or ""
    queue = book.queue(row.account_id, symbol)
    if book.selling:  # another sale of the same instant has already chosen its parcels
        queue = [parcel for parcel in queue if parcel.sale is None]
    if symbol in book.rules.policy.average_basis:
        pool(book, row.account_id, symbol)
    held = sum([parcel.quantity for parcel in queue], ZERO)
    if held < quantity:
        raise OversoldError(
            f"Transaction {row.transaction_id} ({row.kind.value}) takes {plain(quantity)} {symbol} out of account "
            f"{row.account_id} on {row.trade_date}. Expected at least that many held, was {plain(held)}. "
            "Import the missing purchases or opening lots, or correct the row.",
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            symbol=symbol,
        )
    if row.lots:
        return _carve_named(book, row, queue, quantity)
    sold = row.kind not in NOT_SOLD  # a standing order is one for sales; gifts are first in, first out
    method = book.rules.relief(row.account_id) if sold else ReliefMethod.FIFO
    return _carve_from(book, disposal_order(queue, method), quantity)


def _carve_from(book: Book, parcels: Sequence[Parcel], quantity: Decimal) -> list[Parcel]:
    """`quantity` shares from the front of `parcels`."""
    taken = []
    left = quantity
    for parcel in list(parcels):
        if not left:
            break
        part = parcel if parcel.quantity <= left else book.split(parcel, left)
        left -= part.quantity
        taken.append(part)
    return taken


def _carve_named(book: Book, row: Transaction, queue: Sequence[Parcel], quantity: Decimal) -> list[Parcel]:
    """The lots the row names, each in its own order of parcels."""
    named = sum((each.quantity for each in row.lots), ZERO)
    if named != quantity:
        raise AmbiguousLotError(
            f"Transaction {row.transaction_id} sells {plain(quantity)} {row.symbol} and names lots of {plain(named)}. "
            "Expected the named lots to add up to the shares sold. Correct the lots of the row.",
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol,
        )
    taken: list[Parcel] = []
    for selection in row.lots:
        named_id = book.successors.get(selection.lot_id, selection.lot_id)
        purchase_id = book.purchase_of_fill.get(named_id, named_id)
        purchased = [each for each in queue if each.origin.purchase_id == purchase_id and each not in taken]
        others = [each for each in queue if each.origin.lot_id == purchase_id and each not in taken]
        parcels = [*purchased, *(each for each in others if each not in purchased)]
        held = sum((each.quantity for each in parcels), ZERO)
        if held < selection.quantity:
            raise UnknownLotError(
                f"Transaction {row.transaction_id} sells {plain(selection.quantity)} {row.symbol} of lot "
                f"{selection.lot_id} in account {row.account_id}. Expected at least that many held in the lot, was "
                f"{plain(held)}. Correct the lot, or import its purchase.",
                transaction_id=row.transaction_id,
                account_id=row.account_id,
                symbol=row.symbol,
            )
        taken += _carve_from(book, parcels, selection.quantity)
    return taken
