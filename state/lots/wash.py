"""Wash sales: which purchases disallow which losses, share by share (IRC §1091; Reg. §1.1091-1).

The problem: a loss does not count to the extent that the household bought substantially identical shares from thirty
days before to thirty days after the sale. The disallowed loss goes into the basis of the replacing shares, which also
take over the holding period; in an IRA it is lost (Rev. Rul. 2008-5). The replacing lot may be sold at a loss in turn,
so the rule feeds on its own results, and its look-ahead of thirty days seems to forbid going through the journal once.

Worked example 1, one purchase on each side. 100 bought at 50 in January; 30 bought at 42 on 20 May; all 100 old ones
sold at 40 on 1 June, a loss of 1,000; 50 bought at 41 on 20 June. Earliest acquisition first: the 30 of May disallow
300 at once and become 30 shares of basis 1,260 + 300. An open loss of 70 shares and 700 dollars is left. On 20 June
the 50 disallow 500 of it; 20 shares and 200 dollars stay deductible, for certain from 2 July.

Worked example 2, one trade of two lots. Both lots were bought within thirty days and are sold together at a loss of
200 and 100. The lots are processed in the order they were acquired; the second, not yet processed, still counts as
held and takes the first one's 200, and is then sold at a loss of 300, which nothing replaces. The total is the same;
had the second been kept in part, the kept shares would be matched before the sold ones (convention `within_lot`).

Two observations make one pass exact.
1. Candidates are taken in order of acquisition, so those bought before the sale always come before those bought
   after. The first can be matched when the sale is processed; the rest is an open loss.
2. Losses are served in order of disposition, and a purchase cannot serve a sale that has not happened. So when a
   purchase arrives, the open losses within thirty days, in their order, have the first claim on it, and what they leave
   is free for later sales. Nothing ever has to be taken back.

The algorithm:
  sale      parcels of the trade in order of original acquisition (Reg. §1.1091-1(b)); for each with a loss:
            held purchases of the window, earliest first, shares used once, never the lot itself (Rev. Rul. 56-602);
            what is left becomes an open loss.
  purchase  open losses within thirty days, in order of disposition; each takes shares until one side runs out.

Why not match at the end, with the whole year in view: basis and term of a later sale depend on earlier matches, so the
end of the window would have to be replayed once for every sale. That is how the published spreadsheets do it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from state.lots.book import ONE, Book, OpenLoss, Parcel, Sale
from state.lots.holding import WINDOW_DAYS, long_term_from, tacked
from state.lots.money import apportion
from state.records import ZERO, RealizedRow, Term, WashMatch

WINDOW = timedelta(days=WINDOW_DAYS)


def realize(book: Book, parcel: Parcel, sale: Sale) -> None:
    """Disposes of one parcel of a taxable sale: its row, the matches made by shares held, its open loss."""
    book.remove(parcel)
    origin = parcel.origin
    quantity = parcel.quantity
    proceeds = sale.proceeds_of(quantity)
    basis, start = parcel.measured(proceeds)
    gain = proceeds - basis
    sold = sale.counted_on(parcel)
    open_loss: OpenLoss | None = None
    matches: list[WashMatch] = []
    disallowed = permanent = ZERO
    if gain < 0 or not origin.basis_known:
        loss = -gain if origin.basis_known else ZERO
        open_loss = OpenLoss(
            len(book.rows), sold, parcel.symbol, origin.lot_id, start, quantity, loss,
            origin.basis_known,
        )  # fmt: skip
        if origin.basis_known:
            matches = _match_held(book, parcel, open_loss)
            disallowed = loss - open_loss.loss
            permanent = sum([match.disallowed for match in matches if match.permanent], ZERO)
        if open_loss.quantity:
            book.losses.append(open_loss)
        else:
            open_loss = None
    long = origin.inherited or sold >= long_term_from(start)
    book.rows.append(
        RealizedRow(
            sale_id=sale.sale_id,
            account_id=sale.account_id,
            symbol=parcel.symbol,
            lot_id=origin.lot_id,
            acquired=origin.acquired,
            adjusted_acquired=start,
            disposed=sale.disposed,
            quantity=quantity,
            proceeds=proceeds,
            basis=basis,
            gain_loss=gain,
            disallowed=disallowed,
            permanently_disallowed=permanent,
            term=Term.LONG if long else Term.SHORT,
            provisional_until=sold + WINDOW if open_loss is not None else None,
            matches=tuple(matches),
        )
    )


def _match_held(book: Book, sold: Parcel, loss: OpenLoss) -> list[WashMatch]:
    """Matches a loss with purchases of the window still held; takes what they replace off `loss`."""
    matches = []
    for candidate, worth in _candidates(book, sold, loss):
        shares = min(loss.quantity, candidate.quantity * worth)
        units = shares if worth is ONE else shares / worth
        part = candidate if units == candidate.quantity else book.split(candidate, units)
        matches.append(_replace(book, part, loss, shares, held=True))
        if not loss.quantity:
            break
    return matches


def _candidates(book: Book, sold: Parcel, loss: OpenLoss) -> list[tuple[Parcel, Decimal]]:
    """Held purchases that can replace `sold`, in order of acquisition, each with the shares one unit replaces."""
    earliest = loss.sold - WINDOW
    policy = book.rules.policy
    economic = policy.simultaneous == "economic"
    exclude_older = policy.older_lots == "exclude"
    sold_place = (sold.origin.acquired, sold.origin.sequence)
    found: list[tuple[Parcel, Decimal]] = []
    for (_, symbol), queue in book.queues.items():
        if not queue or queue[-1].origin.acquired < earliest:
            continue
        if book.rules.shares_replaced(symbol, sold.symbol) is None:
            continue
        for candidate in reversed(queue):
            origin = candidate.origin
            if origin.acquired < earliest:
                break
            if candidate.replaces or not origin.is_purchase or origin.lot_id == sold.origin.lot_id:
                continue
            if economic and candidate.sale is not None:
                continue
            if exclude_older and (origin.acquired, origin.sequence) < sold_place:
                continue
            worth = book.rules.shares_replaced(origin.symbol, sold.symbol)
            if worth is not None:
                found.append((candidate, worth))
    if len(found) > 1:
        kept_first = policy.within_lot == "kept_first"
        found.sort(key=lambda each: _place(each[0], kept_first))
    return found


def _place(candidate: Parcel, kept_first: bool) -> tuple[date, int, bool]:
    """Order of acquisition; inside a lot, the convention `within_lot`."""
    origin = candidate.origin
    return origin.acquired, origin.sequence, (candidate.sale is not None) is kept_first


def _replace(book: Book, part: Parcel, loss: OpenLoss, shares: Decimal, *, held: bool) -> WashMatch:
    """`part` replaces `shares` of `loss`: basis, holding period and flag of the parcel, remainder of the loss."""
    amount = loss.loss if shares == loss.quantity else apportion(loss.loss, shares, loss.quantity)
    loss.quantity -= shares
    loss.loss -= amount
    taxable = book.rules.taxable[part.account_id]
    origin = part.origin
    if held:
        book.remove(part)  # its place inside the lot changes with its adjusted date, and with being a replacement
    part.replaces = True
    if taxable:
        part.basis += amount
        part.wash += amount
        part.adjusted = tacked(origin.acquired, loss.start, loss.sold, book.rules.policy.tacking)
    if held:
        book.insert(part)
        if part.sale is not None:  # its turn in the trade now processed changes too
            book.selling.remove(part)
            insort(book.selling, part, key=book.order_key)
    return WashMatch(origin.lot_id, part.account_id, origin.acquired, shares, amount, not taxable)


def receive(book: Book, parcel: Parcel) -> None:
    """Puts newly acquired shares into the book, open losses having the first claim on them."""
    if parcel.origin.is_purchase and book.losses:
        for loss in _claims(book, parcel):
            worth = book.rules.shares_replaced(parcel.origin.symbol, loss.symbol)
            if worth is None:
                continue
            shares = min(loss.quantity, parcel.quantity * worth)
            units = shares if worth is ONE else shares / worth
            part = parcel if units == parcel.quantity else parcel.take(units)
            amend(book, loss, _replace(book, part, loss, shares, held=False))
            book.insert(part)
            if part is parcel:
                return
    book.insert(parcel)


def _claims(book: Book, parcel: Parcel) -> Iterator[OpenLoss]:
    """Open losses within thirty days of the acquisition, in order of disposition."""
    acquired = parcel.origin.acquired
    losses = book.losses
    earliest, latest = acquired - WINDOW, acquired + WINDOW
    start = book.first_loss
    if acquired < book.last_date:  # an opening lot, older than what was seen since
        start = 0
    else:
        while start < len(losses) and losses[start].sold < earliest:
            start += 1
        book.first_loss = start
    for loss in losses[start:]:
        if loss.quantity and loss.amount_known and earliest <= loss.sold <= latest:
            yield loss


def amend(book: Book, loss: OpenLoss, match: WashMatch) -> None:
    """Writes a later purchase's match into the row of the sale it disallows."""
    row = book.rows[loss.row]
    permanent = match.disallowed if match.permanent else ZERO
    book.rows[loss.row] = RealizedRow(
        sale_id=row.sale_id,
        account_id=row.account_id,
        symbol=row.symbol,
        lot_id=row.lot_id,
        acquired=row.acquired,
        adjusted_acquired=row.adjusted_acquired,
        disposed=row.disposed,
        quantity=row.quantity,
        proceeds=row.proceeds,
        basis=row.basis,
        gain_loss=row.gain_loss,
        disallowed=row.disallowed + match.disallowed,
        permanently_disallowed=row.permanently_disallowed + permanent,
        term=row.term,
        provisional_until=row.provisional_until if loss.quantity else None,
        matches=(*row.matches, match),
    )
