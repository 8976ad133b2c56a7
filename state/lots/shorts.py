"""Short sales: enough of them to replay a journal that has some; harvestd itself never sells short.

The problem: a short sale is a sale first and a purchase later, so the wash-sale rule runs backwards. A loss on closing
one is disallowed if within thirty days of the closing another short sale is entered (IRC §1091(e)), and there is no
purchase whose basis could take the loss.

Worked example 1. Sold short at 50, covered at 60: a loss of 1,000 on 100 shares. A week later the same is sold short at
58. The 1,000 is disallowed and lowers the new short's proceeds to 4,800 (convention); covered at 55 it loses 700.

Worked example 2. Shares bought in June are delivered in November against a short sale of October (Pub. 550 p. 88).
Owned when the short was entered, they count as sold then: a purchase of the day after the short sale replaces them.
Their term is also that of October (IRC §1233(b), (d)).

The algorithm: open short sales are parcels whose `basis` holds their proceeds; closing losses are open losses with a
list of their own. Earliest short first, unless the row names one. Refused, because the law needs more than is here: a
sale of identical stock near a loss on a short, identical stock held while a short is bought back at a loss, mergers
and distributions on a stock sold short, short sales in an IRA.
"""

from __future__ import annotations

from decimal import Decimal

from state.lots.book import Book, OpenLoss, Origin, Parcel
from state.lots.errors import OversoldError, UnsupportedTransactionError
from state.lots.money import apportion, plain, scaled
from state.lots.wash import WINDOW, amend
from state.records import ZERO, CorporateAction, CorporateActionKind, RealizedRow, Term, Transaction, WashMatch


def enter(book: Book, row: Transaction) -> None:
    """Opens a short position; losses on shorts closed in the last thirty days have the first claim on it."""
    if not book.rules.taxable[row.account_id]:
        raise _unsupported(row, "a taxable account: retirement accounts cannot sell short")
    book.sequence += 1
    symbol = row.symbol or ""
    origin = Origin(row.transaction_id, row.trade_date, book.sequence, symbol, False, False, True, row.source)
    proceeds = row.quantity * row.price - row.fees
    parcel = Parcel(origin, row.account_id, symbol, row.quantity, proceeds, row.trade_date)
    for loss in book.short_losses:
        if not loss.quantity or row.trade_date - loss.sold > WINDOW or not _identical(book, symbol, loss.symbol):
            continue
        shares = min(loss.quantity, parcel.quantity)
        part = parcel if shares == parcel.quantity else parcel.take(shares)
        amend(book, loss, _rewash(part, loss, shares))
        book.shorts.append(part)
        if part is parcel:
            return
    book.shorts.append(parcel)


def cover(book: Book, row: Transaction) -> None:
    """Closes a short position by purchase: short-term, gain or loss against the proceeds of the short sale."""
    cost_left, quantity_left = row.quantity * row.price + row.fees, row.quantity
    for piece in closed_by(book, row):
        cost = apportion(cost_left, piece.quantity, quantity_left)
        cost_left -= cost
        quantity_left -= piece.quantity
        gain = piece.basis - cost
        loss = OpenLoss(
            len(book.rows), row.trade_date, piece.symbol, piece.origin.lot_id, row.trade_date, piece.quantity, -gain
        )
        matches = _match_open_shorts(book, row, loss) if gain < 0 else []
        still_open = gain < 0 and bool(loss.quantity)
        if gain < 0:
            book.short_losses.append(loss)
        book.rows.append(
            RealizedRow(
                sale_id=row.transaction_id,
                account_id=row.account_id,
                symbol=piece.symbol,
                lot_id=row.transaction_id,
                acquired=row.trade_date,
                adjusted_acquired=row.trade_date,
                disposed=row.trade_date,
                quantity=piece.quantity,
                proceeds=piece.basis,
                basis=cost,
                gain_loss=gain,
                disallowed=sum([match.disallowed for match in matches], ZERO),
                permanently_disallowed=ZERO,
                term=Term.SHORT,
                provisional_until=row.trade_date + WINDOW if still_open else None,
                matches=tuple(matches),
            )
        )


def closed_by(book: Book, row: Transaction) -> list[Parcel]:
    """The short positions `row` closes, taken out of the book: the one it names, else the earliest first."""
    named = {selection.lot_id for selection in row.lots}
    mine = [
        short
        for short in book.shorts
        if (short.account_id, short.symbol) == (row.account_id, row.symbol)
        and (not named or row.kind.value == "deliver_to_cover" or short.origin.lot_id in named)
    ]
    open_quantity = sum([short.quantity for short in mine], ZERO)
    if open_quantity < row.quantity:
        raise OversoldError(
            f"Transaction {row.transaction_id} closes {plain(row.quantity)} {row.symbol} sold short in account "
            f"{row.account_id}. Expected at least that many open, was {plain(open_quantity)}. Import the short sale.",
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol,
        )
    pieces: list[Parcel] = []
    left = row.quantity
    for short in mine:
        if not left:
            break
        piece = short if short.quantity <= left else short.take(left)
        left -= piece.quantity
        if piece is short:
            book.shorts.remove(short)
        pieces.append(piece)
    return pieces


def delivered_against(book: Book, row: Transaction) -> tuple[Parcel, Decimal]:
    """The one short sale that `row` closes by delivery, and the proceeds it hands to the shares delivered."""
    pieces = closed_by(book, row)
    if len({piece.origin.lot_id for piece in pieces}) > 1:
        raise _unsupported(row, "shares delivered against one short sale")
    return pieces[0], sum([piece.basis for piece in pieces], ZERO)


def refuse_sale_near_a_short_loss(book: Book, row: Transaction) -> None:
    """IRC §1091(e)(1): selling identical stock disallows a loss on a short sale; where it goes is not settled."""
    if not book.rules.taxable[row.account_id]:
        return
    for loss in book.short_losses:
        if (
            loss.quantity
            and abs(row.trade_date - loss.sold) <= WINDOW
            and _identical(book, row.symbol or "", loss.symbol)
        ):
            raise _unsupported(row, f"no sale of {row.symbol} within thirty days of a loss on its short sale")


def apply_to_shorts(book: Book, action: CorporateAction) -> None:
    """A split or symbol change of a stock sold short; other actions are refused while a short sale of it is open."""
    renames = action.kind is CorporateActionKind.SYMBOL_CHANGE and action.to_symbol is not None
    affected: list[Parcel | OpenLoss] = [*book.shorts, *book.short_losses]
    for short in affected:
        if short.symbol != action.symbol:
            continue
        if action.kind is CorporateActionKind.SPLIT:
            short.quantity = scaled(short.quantity, action.ratio_new, action.ratio_old)
        elif renames:
            short.symbol = action.to_symbol or short.symbol
        elif isinstance(short, Parcel):
            raise UnsupportedTransactionError(
                f"Corporate action {action.action_id} ({action.kind.value} of {action.symbol}): expected no open short "
                f"sale of it, was {short.origin.lot_id}. The ledger does not know the tax treatment.",
                transaction_id=action.action_id,
                account_id=short.account_id,
                symbol=action.symbol,
            )


def _match_open_shorts(book: Book, row: Transaction, loss: OpenLoss) -> list[WashMatch]:
    """Short sales entered in the thirty days before the closing, and still open, take its loss."""
    symbol = row.symbol or ""
    if any(
        queue and book.rules.taxable[owner] and _identical(book, held, symbol)
        for (owner, held), queue in book.queues.items()
    ):
        raise _unsupported(row, "no identical stock held while a short sale is bought back at a loss (IRC §1233)")
    if any(
        sold.lot_id != sold.sale_id  # not itself the closing of a short sale
        and abs(sold.disposed - row.trade_date) <= WINDOW
        and _identical(book, sold.symbol, symbol)
        for sold in book.rows
    ):
        raise _unsupported(row, "no sale of stock held within thirty days of a loss on a short sale (IRC §1091(e))")
    matches = []
    for short in list(book.shorts):
        if not loss.quantity:
            break
        near = row.trade_date - short.origin.acquired <= WINDOW and _identical(book, short.symbol, loss.symbol)
        if not near or short.replaces or short.origin.lot_id == loss.lot_id:
            continue
        shares = min(loss.quantity, short.quantity)
        part = short if shares == short.quantity else short.take(shares)
        if part is not short:
            book.shorts.insert(book.shorts.index(short), part)
        matches.append(_rewash(part, loss, shares))
    return matches


def _rewash(part: Parcel, loss: OpenLoss, shares: Decimal) -> WashMatch:
    """A disallowed loss lowers the proceeds of the new short sale, share for share."""
    amount = loss.loss if shares == loss.quantity else apportion(loss.loss, shares, loss.quantity)
    loss.quantity -= shares
    loss.loss -= amount
    part.basis -= amount
    part.replaces = True
    return WashMatch(part.origin.lot_id, part.account_id, part.origin.acquired, shares, amount, False)


def _identical(book: Book, one: str, other: str) -> bool:
    return book.rules.identity.of(one) == book.rules.identity.of(other)


def _unsupported(row: Transaction, expected: str) -> UnsupportedTransactionError:
    return UnsupportedTransactionError(
        f"Transaction {row.transaction_id} ({row.kind.value} of {row.symbol} on {row.trade_date}): "
        f"expected {expected}. The ledger does not know the tax treatment and will not guess it.",
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        symbol=row.symbol,
    )
