"""Corporate actions: what an issuer does to every lot of a security, in every account (TAX_RULES section 5).

The problem: none of them is a purchase (Reg. §1.1091-1(f)), yet they change quantity, basis or name of lots in the
middle of a wash-sale window, and losses still open must be counted in the shares of today.

Worked example 1, a split in the window. 100 shares are sold at a loss of 2,000; the stock splits 2:1; 200 are bought.
The open loss of 100 shares becomes one of 200, and the purchase replaces all of it.

Worked example 2, a spin-off. 100 shares of basis 5,000 receive 25 of a child that is worth a tenth of the whole. The
parent lot keeps 4,500, the child lot gets 500, the id and both dates of the parent's (IRC §§358, 1223(1)(B)).

The algorithm: lot by lot, in queue order. Quantities are rounded on the running total of the account, so that the lots
sum to what a broker rounds once; basis is untouched by a split and divided by subtraction in a spin-off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal

from state.lots.book import Book, Parcel, Queue
from state.lots.errors import UnsupportedTransactionError
from state.lots.holding import long_term_from
from state.lots.money import GRID, scaled
from state.records import ZERO, CorporateAction, CorporateActionKind, RealizedRow, Term


def in_effect(
    actions: Iterable[CorporateAction], first_days: Mapping[str, date], today: date
) -> tuple[CorporateAction, ...]:
    """The actions that change something by `today`, by ex-date and id: their day has come, and the household had traded
    the security, or one that became it. `first_days` are the earliest trade dates by symbol (`Ledger.first_days`).

    Those of other securities would join symbols that have nothing to do with each other: a symbol may be used again by
    another company after a change of name.
    """
    known = dict(first_days)
    found = []
    for action in sorted(actions, key=lambda each: (each.ex_date, each.action_id)):
        if action.ex_date > today:
            break
        if known.get(action.symbol, date.max) <= action.ex_date:
            found.append(action)
            if action.to_symbol is not None:
                known[action.to_symbol] = min(known.get(action.to_symbol, date.max), action.ex_date)
    return tuple(found)


def apply_action(book: Book, action: CorporateAction) -> None:
    """Applies any corporate action but a cash merger, which is a sale (replay.py)."""
    if action.kind is CorporateActionKind.SPLIT:
        _split(book, action)
    elif action.kind in (CorporateActionKind.SYMBOL_CHANGE, CorporateActionKind.STOCK_MERGER):
        _rename(book, action)
    elif action.kind is CorporateActionKind.SPINOFF:
        _spin_off(book, action)
    elif action.kind is CorporateActionKind.RETURN_OF_CAPITAL:
        _return_capital(book, action)
    else:
        raise UnsupportedTransactionError(
            f"Corporate action {action.action_id}: expected a kind the ledger knows, was {action.kind.value}.",
            transaction_id=action.action_id,
            symbol=action.symbol,
        )


def _quantities(queue: Queue, action: CorporateAction) -> list[Decimal]:
    """New quantity of each parcel; they sum to the account's total times the ratio, rounded once."""
    new, old = action.ratio_new, action.ratio_old
    before = after = ZERO
    result = []
    for parcel in queue:
        before += parcel.quantity
        total = scaled(before, new, old)
        result.append(total - after)
        after = total
    return result


def _split(book: Book, action: CorporateAction) -> None:
    """Quantity times ratio, basis and dates unchanged (Pub. 550 p. 63); open losses are counted in new shares."""
    for queue in book.held(action.symbol):
        for parcel, quantity in zip(queue, _quantities(queue, action), strict=True):
            parcel.quantity = quantity
    for loss in book.losses:
        if loss.symbol == action.symbol and loss.quantity:
            loss.quantity = scaled(loss.quantity, action.ratio_new, action.ratio_old)


def _rename(book: Book, action: CorporateAction) -> None:
    """Lots become lots of another security; basis and dates carry over (IRC §§354, 358, 1223(1))."""
    successor = _successor(action)
    for queue in list(book.held(action.symbol)):
        quantities = _quantities(queue, action)
        moved = list(queue)
        queue.clear()
        for parcel, quantity in zip(moved, quantities, strict=True):
            parcel.symbol, parcel.quantity = successor, quantity
            book.insert(parcel)
    if action.kind is CorporateActionKind.SYMBOL_CHANGE:
        for loss in book.losses:
            if loss.symbol == action.symbol:
                loss.symbol = successor


def _spin_off(book: Book, action: CorporateAction) -> None:
    """Each lot gets a child lot with its part of the basis and its dates (IRC §§355, 358; Reg. §1.358-2)."""
    child_symbol = _successor(action)
    for queue in list(book.held(action.symbol)):
        for parcel, quantity in zip(list(queue), _quantities(queue, action), strict=True):
            basis = (parcel.basis * action.basis_fraction).quantize(GRID)
            wash = (parcel.wash * action.basis_fraction).quantize(GRID)
            parcel.basis -= basis
            parcel.wash -= wash
            child = Parcel(parcel.origin, parcel.account_id, child_symbol, quantity, basis, parcel.adjusted, wash)
            if parcel.loss_basis is not None:
                child.loss_basis = (parcel.loss_basis * action.basis_fraction).quantize(GRID)
                parcel.loss_basis -= child.loss_basis
            book.insert(child)


def _return_capital(book: Book, action: CorporateAction) -> None:
    """Lowers basis share by share; below zero the excess is gain (IRC §301(c); Form 8949 instructions)."""
    for queue in book.held(action.symbol):
        for parcel in queue:
            if not book.rules.taxable[parcel.account_id]:
                continue
            returned = parcel.quantity * action.per_share
            excess = max(returned - parcel.basis, ZERO)
            parcel.basis -= returned - excess
            parcel.wash = min(parcel.wash, parcel.basis)
            if parcel.loss_basis is not None:
                parcel.loss_basis = max(parcel.loss_basis - returned, ZERO)
            if excess:
                book.rows.append(_excess_row(parcel, action, excess))


def _excess_row(parcel: Parcel, action: CorporateAction, excess: Decimal) -> RealizedRow:
    """The gain of a distribution that exceeds the basis; no shares leave."""
    long = parcel.origin.inherited or action.ex_date >= long_term_from(parcel.adjusted)
    return RealizedRow(
        sale_id=action.action_id,
        account_id=parcel.account_id,
        symbol=parcel.symbol,
        lot_id=parcel.origin.lot_id,
        acquired=parcel.origin.acquired,
        adjusted_acquired=parcel.adjusted,
        disposed=action.ex_date,
        quantity=parcel.quantity,
        proceeds=excess,
        basis=ZERO,
        gain_loss=excess,
        disallowed=ZERO,
        permanently_disallowed=ZERO,
        term=Term.LONG if long else Term.SHORT,
        provisional_until=None,
    )


def _successor(action: CorporateAction) -> str:
    """The symbol an action leads to. Raises UnsupportedTransactionError when it names none."""
    if action.to_symbol is None:
        raise UnsupportedTransactionError(
            f"Corporate action {action.action_id} ({action.kind.value} of {action.symbol}): expected to_symbol, "
            "was none. Say which security the shares become.",
            transaction_id=action.action_id,
            symbol=action.symbol,
        )
    return action.to_symbol
