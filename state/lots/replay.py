"""The replay: events in their order, one book out.

    for each event in order:
        corporate action    every lot of the symbol, in every account
        acquisition         one lot (an order filled in parts is one); open losses have the first claim on it
        sales               those whose order nobody can tell are one trade: relief chooses the parcels of each,
                            then all parcels in order of original acquisition (Reg. §1.1091-1(b))
        short sales         see shorts.py
        gift, transfer      parcels leave, or move with their dates and basis; nothing is realized

Sales whose order cannot be determined are consecutive sales of one day without an instant, or of the same instant.
Accounts that are not taxable are replayed alike, but realize nothing: only what they hold matters (IRC §408(e)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from state.lots.actions import apply_action
from state.lots.book import ONE, Book, Origin, Parcel, Sale
from state.lots.errors import UnsupportedTransactionError
from state.lots.journal import (
    ACQUISITIONS,
    PURCHASES,
    SHORTS,
    Event,
    day_of,
    fills_of_orders,
    first_report,
    in_order,
    instant,
    rank,
)
from state.lots.money import apportion
from state.lots.relief import carve, pool
from state.lots.shorts import apply_to_shorts, cover, delivered_against, enter, refuse_sale_near_a_short_loss
from state.lots.wash import realize, receive
from state.records import ZERO, CorporateAction, CorporateActionKind, Transaction, TransactionKind


def run(book: Book, events: Sequence[Event], at_new_day: Callable[[date, int], None] | None = None) -> None:
    """Replays `events`, in any order, on a book whose own events are all earlier. Call it inside money.CONTEXT.

    `at_new_day(day, position)` is called before the first event of each later day, with the number of events done.
    """
    ordered = in_order(events)
    fills = fills_of_orders(ordered)
    joined = {part.transaction_id for parts in fills.values() for part in parts[1:]}
    position, count = 0, len(ordered)
    while position < count:
        given = ordered[position]
        if at_new_day is not None and position and day_of(given) > book.last_date:
            at_new_day(day_of(given), position)
        _mark(book, given)
        event = first_report(given, book.splits)
        position += 1
        if event is None:
            continue
        if isinstance(event, CorporateAction):
            _corporate_action(book, event)
        elif event.kind in ACQUISITIONS:
            if event.transaction_id not in joined:
                _acquire(book, fills.get(event.transaction_id, [event]))
        elif event.kind is TransactionKind.SELL:
            trade = [event]
            book.last_trade = event
            while position < count and same_trade(event, ordered[position]):
                sale = ordered[position]
                assert isinstance(sale, Transaction)
                trade.append(sale)
                _mark(book, sale)
                book.last_trade = event
                position += 1
            _sell(book, trade)
        elif event.kind in SHORTS:
            _short(book, event)
        else:
            _hand_over(book, event)


def _mark(book: Book, event: Event) -> None:
    """Notes how far the book has come, for `continues`."""
    day = day_of(event)
    if day != book.last_date:
        book.last_date, book.last_at = day, None
    book.last_trade = None
    at = instant(event)
    if at is not None and (book.last_at is None or at > book.last_at):
        book.last_at = at
    book.last_event = event


def same_trade(first: Transaction, other: Event) -> bool:
    """True when nobody can tell which of two consecutive sales came first."""
    return (
        isinstance(other, Transaction)
        and other.kind is TransactionKind.SELL
        and other.trade_date == first.trade_date
        and (first.executed_at is None or other.executed_at is None or other.executed_at == first.executed_at)
    )


def continues(book: Book, events: Sequence[Event]) -> bool:
    """True when replaying `events` on a copy of `book` gives what replaying everything would.

    They must come after all of the book's events, leave its last trade as it is, join no fills of a day already in the
    book, and not reach back (opening lots, splits that another account may have reported). Corrections are the
    caller's to see: they always replay.
    """
    first = in_order(events)[0]
    for event in events:
        if isinstance(event, CorporateAction) or event.kind in (TransactionKind.SPLIT, TransactionKind.OPENING_LOT):
            return False
        order = book.orders.get((event.account_id, event.symbol or "", event.order_id or ""))
        if order is not None and event.kind in PURCHASES and event.trade_date <= order[1]:
            return False
    last = book.last_event
    if last is None or day_of(first) != book.last_date:
        return day_of(first) >= book.last_date
    if rank(first) < rank(last):
        return False
    if book.last_trade is not None and same_trade(book.last_trade, first):
        return False
    instants = [instant(event) for event in events if day_of(event) == book.last_date]
    return book.last_at is None or all(at is None or at > book.last_at for at in instants)


# ------------------------------------------------------------------ events


def _corporate_action(book: Book, action: CorporateAction) -> None:
    apply_to_shorts(book, action)
    if action.kind is not CorporateActionKind.CASH_MERGER:
        apply_action(book, action)
        return
    sales = []
    for queue in book.held(action.symbol):
        parcels = list(queue)
        sale = _sale(action.action_id, parcels, action)
        sales.append((sale, parcels))
    _dispose(book, sales)


def _acquire(book: Book, parts: Sequence[Transaction]) -> None:
    """Shares from one purchase, or from all of a day's fills of an order.

    The fills of an order are one lot, whatever the day; each day's have a basis and dates of their own.
    """
    row = parts[0]
    lot_id = purchase_id = row.transaction_id
    if row.order_id is not None and row.kind in PURCHASES:
        order = row.account_id, row.symbol or "", row.order_id
        lot_id, _ = book.orders.get(order, (lot_id, row.trade_date))
        book.orders[order] = lot_id, row.trade_date
    for part in parts[1:]:
        book.purchase_of_fill[part.transaction_id] = purchase_id
    opening = row.kind is TransactionKind.OPENING_LOT
    dated = opening or row.kind is TransactionKind.GIFT_IN
    acquired = row.acquired if dated and row.acquired is not None else row.trade_date
    book.sequence += 1
    origin = Origin(
        lot_id=lot_id,
        acquired=acquired,
        sequence=book.sequence,
        symbol=row.symbol or "",
        is_purchase=opening or row.kind in PURCHASES,
        inherited=row.kind is TransactionKind.INHERIT,
        basis_known=not opening or bool(row.price),
        source=row.source,
        received=row.trade_date if row.kind is TransactionKind.GIFT_IN else None,
        purchase_id=purchase_id,
    )
    quantity = sum([part.quantity for part in parts], ZERO)
    basis = sum([part.quantity * part.price + part.fees for part in parts], ZERO)
    parcel = Parcel(origin, row.account_id, row.symbol or "", quantity, basis, acquired)
    if row.kind is TransactionKind.GIFT_IN and row.fair_value is not None and row.fair_value < row.price:
        parcel.loss_basis = quantity * row.fair_value
    receive(book, parcel)
    if row.symbol in book.rules.policy.average_basis:
        pool(book, row.account_id, row.symbol)


def _sell(book: Book, trade: Sequence[Transaction]) -> None:
    """Sales that count as one trade. Parcels are chosen in the order given, then disposed of by age."""
    sales = []
    for row in trade:
        refuse_sale_near_a_short_loss(book, row)
        parcels = carve(book, row, row.quantity)
        sale = Sale(
            sale_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol or "",
            disposed=row.trade_date,
            price=row.price,
            fees=row.fees,
            quantity=row.quantity,
            proceeds_left=row.quantity * row.price - row.fees,
            quantity_left=row.quantity,
        )
        sales.append((sale, parcels))
        if len(trade) > 1:  # the next sale of the trade must not choose them again
            _assign(book, sale, parcels)
    _dispose(book, sales)
    for account_id, symbol in list(book.queues):  # a loss that went into the basis of shares held is averaged too
        if symbol in book.rules.policy.average_basis:
            pool(book, account_id, symbol)


def _sale(sale_id: str, parcels: Sequence[Parcel], action: CorporateAction) -> Sale:
    """The sale of a whole position in a cash merger (IRC §1001)."""
    quantity = sum([parcel.quantity for parcel in parcels], ZERO)
    return Sale(
        sale_id=sale_id,
        account_id=parcels[0].account_id,
        symbol=action.symbol,
        disposed=action.ex_date,
        price=action.per_share,
        fees=ZERO,
        quantity=quantity,
        proceeds_left=quantity * action.per_share,
        quantity_left=quantity,
    )


def _assign(book: Book, sale: Sale, parcels: Sequence[Parcel]) -> None:
    """Marks parcels as being sold."""
    for parcel in parcels:
        if parcel.sale is None:
            parcel.sale = sale
            book.selling.append(parcel)


def _dispose(book: Book, sales: Sequence[tuple[Sale, list[Parcel]]]) -> None:
    """Realizes the parcels of a trade in order of original acquisition; a match may split those still to come."""
    for sale, parcels in sales:
        _assign(book, sale, parcels)
    book.selling.sort(key=book.order_key)
    while book.selling:
        parcel = book.selling.pop(0)
        assert parcel.sale is not None
        if book.rules.taxable[parcel.account_id]:
            realize(book, parcel, parcel.sale)
        else:
            book.remove(parcel)


def _short(book: Book, row: Transaction) -> None:
    """Short sales, and purchases or deliveries that close them (shorts.py)."""
    if row.kind is TransactionKind.SELL_SHORT:
        enter(book, row)
    elif row.kind is TransactionKind.BUY_TO_COVER:
        cover(book, row)
    else:
        short, proceeds = delivered_against(book, row)
        parcels = carve(book, row, row.quantity)
        sale = Sale(
            sale_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol or "",
            disposed=row.trade_date,
            price=apportion(proceeds, ONE, row.quantity),
            fees=ZERO,
            quantity=row.quantity,
            proceeds_left=proceeds,
            quantity_left=row.quantity,
            entered=short.origin.acquired,
        )
        _dispose(book, [(sale, parcels)])


def _hand_over(book: Book, row: Transaction) -> None:
    """A gift leaves (Pub. 550 p. 62); a transfer moves with its dates and basis, and is no purchase."""
    target = row.to_account_id if row.kind is TransactionKind.TRANSFER else None
    if target is not None and book.rules.taxable[target] != book.rules.taxable[row.account_id]:
        raise UnsupportedTransactionError(
            f"Transaction {row.transaction_id} moves {row.symbol} from account {row.account_id} to {target}. Expected "
            "both taxable or both retirement accounts, was one of each: that is a contribution or a distribution. "
            "Record it as a sale and a purchase, or as an opening lot.",
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol,
        )
    for parcel in carve(book, row, row.quantity):
        book.remove(parcel)
        if target is not None:
            parcel.account_id = target
            book.insert(parcel)
