"""The wash-sale calendar: which symbols not to buy, and not to sell at a loss, until when.

The problem: the scan, the optimizer and the user need dated lists before any trade is proposed. The what-if says what a
given trade does; the calendar says where trades would hurt at all.

Worked example 1, do not buy. 100 X were sold at a loss on 3 March, and 40 bought on 10 March replaced a part. Until
2 April, the thirtieth day, buying X in any account of the household disallows the loss on the other 60.

Worked example 2, do not sell at a loss. 50 X were bought on 10 March and are still held. Until 9 April, selling older X
at a loss is washed by them, in any taxable account. If these 50 are all the household's taxable X, selling them is not
washed (Rev. Rul. 56-602: a lot does not replace itself), and nothing is listed.

The lists follow the ledger's own state, open losses and unused purchases, so a fully matched loss blocks nothing more.
A sale whose basis is not known counts as a loss. `block_rebuy_after="any_sale"` lists gains too. No day is known to be
free of symbols whose history cannot be replayed: they are in both lists, for thirty days from `as_of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from typing import Literal

from state.lots.book import OpenLoss, Parcel
from state.lots.ledger import Ledger
from state.lots.money import CONTEXT, cents, plain
from state.lots.unit import Unit
from state.lots.wash import WINDOW
from state.records import ZERO, RealizedRow

BlockRebuyAfter = Literal["loss_sale", "any_sale"]


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """One reason not to trade, and its last day."""

    symbols: frozenset[str]  # all that are substantially identical
    until: date  # last forbidden day, inclusive
    account_id: str  # where the cause lies
    cause_id: str  # transaction id of the sale or purchase; "unreadable:" and a symbol where there is no single one
    cause_date: date
    reason: str
    quantity: Decimal  # shares that a trade could still affect


@dataclass(frozen=True, slots=True)
class WashCalendar:
    """Both lists, each in order of its last day."""

    do_not_buy: tuple[CalendarEntry, ...]
    do_not_sell_at_a_loss: tuple[CalendarEntry, ...]


def wash_calendar(ledger: Ledger, as_of: date, *, block_rebuy_after: BlockRebuyAfter = "loss_sale") -> WashCalendar:
    """The lists as they stand on `as_of`. A planned trade of the next thirty days that the ledger knows counts too."""
    with localcontext(CONTEXT):
        no_buy = list(_open_losses(ledger, as_of))
        if block_rebuy_after == "any_sale":
            no_buy += _other_sales(ledger, as_of, {entry.cause_id for entry in no_buy})
        no_loss_sale = [entry for unit in ledger.units() for entry in _recent_purchases(ledger, unit, as_of)]
        unknown = list(_unreadable(ledger, as_of))

    def last_day(entry: CalendarEntry) -> tuple[date, str, str]:
        return entry.until, min(entry.symbols), entry.cause_id

    return WashCalendar(
        tuple(sorted([*no_buy, *unknown], key=last_day)), tuple(sorted([*no_loss_sale, *unknown], key=last_day))
    )


def _unreadable(ledger: Ledger, as_of: date) -> Iterator[CalendarEntry]:
    """One entry for each group of symbols in a unit whose history cannot be replayed."""
    for aside in ledger.unreadable.values():
        for symbols in sorted({ledger.group_of(symbol) for symbol in aside.symbols}, key=min):
            where = f" in account {aside.error.account_id}" if aside.error.account_id else ""
            yield CalendarEntry(
                symbols=symbols,
                until=as_of + WINDOW,
                account_id=aside.error.account_id,
                cause_id=f"unreadable:{min(symbols)}",
                cause_date=as_of,
                reason=f"The history of {_named(symbols)}{where} cannot be replayed; no day is known to be free until "
                "it is put right.",
                quantity=ZERO,
            )


def _open_losses(ledger: Ledger, as_of: date) -> Iterator[CalendarEntry]:
    """One entry for each sale with shares whose loss a purchase could still disallow."""
    sales: dict[tuple[str, date], list[tuple[RealizedRow, OpenLoss]]] = {}
    for row, loss in ledger.open_losses():
        if abs(loss.sold - as_of) <= WINDOW:
            sales.setdefault((row.sale_id, loss.sold), []).append((row, loss))
    for (sale_id, sold), lots in sales.items():
        row = lots[0][0]
        symbols = ledger.group_of(lots[0][1].symbol)
        quantity = sum([loss.quantity for _, loss in lots], ZERO)
        yield CalendarEntry(
            symbols=symbols,
            until=sold + WINDOW,
            account_id=row.account_id,
            cause_id=sale_id,
            cause_date=sold,
            reason=f"{_sold(row, quantity)} at a loss ({_amount(lots)}); {_buying(symbols)} until {sold + WINDOW} "
            "would disallow it.",
            quantity=quantity,
        )


def _amount(lots: Sequence[tuple[RealizedRow, OpenLoss]]) -> str:
    """How much of a sale's loss is still open, in words."""
    known = sum([loss.loss for _, loss in lots if loss.amount_known], ZERO)
    told = [f"a loss of ${cents(known)} still open"] if known else []
    if any(not loss.amount_known for _, loss in lots):
        told.append("a loss unless its basis is found")
    return ", and ".join(told)


def _other_sales(ledger: Ledger, as_of: date, listed: set[str]) -> Iterator[CalendarEntry]:
    """Every other sale of the window, where the user wants no name bought back after any sale."""
    entries: dict[str, CalendarEntry] = {}
    for row in ledger.realized():
        if row.sale_id in listed or abs(row.disposed - as_of) > WINDOW:
            continue
        earlier = entries.get(row.sale_id)
        quantity = row.quantity + (earlier.quantity if earlier else ZERO)
        entries[row.sale_id] = CalendarEntry(
            symbols=ledger.group_of(row.symbol),
            until=row.disposed + WINDOW,
            account_id=row.account_id,
            cause_id=row.sale_id,
            cause_date=row.disposed,
            reason=f"{_sold(row, quantity)}; wash_sales.block_rebuy_after is any_sale, so nothing identical is bought "
            f"back until {row.disposed + WINDOW}.",
            quantity=quantity,
        )
    yield from entries.values()


def _recent_purchases(ledger: Ledger, unit: Unit, as_of: date) -> Iterator[CalendarEntry]:
    """Purchases of the window, held and not used as replacement, that another lot's loss would meet."""
    recent: dict[tuple[str, str], list[Parcel]] = {}  # by purchase and account
    for (account_id, _), queue in unit.book.queues.items():
        for parcel in queue:
            origin = parcel.origin
            if origin.is_purchase and not parcel.replaces and abs(origin.acquired - as_of) <= WINDOW:
                recent.setdefault((origin.purchase_id, account_id), []).append(parcel)
    for (purchase_id, account_id), parcels in recent.items():
        bought = parcels[0]
        symbols = _sellable_at_a_loss(ledger, unit, bought)
        if not symbols:
            continue
        until = bought.origin.acquired + WINDOW
        quantity = sum([parcel.quantity for parcel in parcels], ZERO)
        yield CalendarEntry(
            symbols=symbols,
            until=until,
            account_id=account_id,
            cause_id=purchase_id,
            cause_date=bought.origin.acquired,
            reason=f"{plain(quantity)} {bought.symbol} bought on {bought.origin.acquired} in account {account_id} are "
            f"held; a loss on another lot of {_named(symbols)} sold until {until} would be disallowed.",
            quantity=quantity,
        )


def _sellable_at_a_loss(ledger: Ledger, unit: Unit, bought: Parcel) -> frozenset[str]:
    """Symbols whose losses `bought` would replace, where the household holds another taxable lot of them."""
    rules = ledger.rules
    for (account_id, symbol), queue in unit.book.queues.items():
        if not rules.taxable[account_id] or rules.shares_replaced(bought.origin.symbol, symbol) is None:
            continue
        if any(parcel.origin.lot_id != bought.origin.lot_id for parcel in queue):
            return ledger.group_of(symbol)
    return frozenset()


def _sold(row: RealizedRow, quantity: Decimal) -> str:
    return f"{plain(quantity)} {row.symbol} sold on {row.disposed} in account {row.account_id}"


def _buying(symbols: frozenset[str]) -> str:
    return f"buying {_named(symbols)} in any account of the household"


def _named(symbols: frozenset[str]) -> str:
    return " or ".join(sorted(symbols))
