"""Corporate actions and cash from outside, booked as activities.

A dividend pays on the shares held; the amount is rounded to the cent. A split first cancels orders working in the
symbol (their quantity no longer means what it did), then multiplies the position by new/old, rounded once to nine
decimals. Its lots share that out in order of acquisition, each the rounded total so far less what those before it
got; cost and dates stay. Its activity's `quantity` is the shares held afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from brokers.simulated.book import Book, cents, plain
from state.reasons import ReasonCode, because
from state.records import (
    QUANTUM,
    ZERO,
    Activity,
    ActivityKind,
    BrokerOrderStatus,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
)


def book_dividend(book: Book, symbol: str, per_share: Decimal, day: date, *identity: object) -> None:
    """Credit `per_share` USD on the shares held; nothing when there are none. `identity` makes the id unique."""
    held = book.held.get(symbol, ZERO)
    amount = cents(held * per_share)
    if amount:
        book.add_activity(
            Activity(
                activity_id=book.identify(day, ActivityKind.CASH_DIVIDEND.value, symbol, *identity),
                kind=ActivityKind.CASH_DIVIDEND,
                occurred_at=book.now,
                trade_date=day,
                symbol=symbol,
                quantity=held,
                price=per_share,
                amount=amount,
            )
        )


def book_split(book: Book, symbol: str, ratio_new: Decimal, ratio_old: Decimal, day: date, *identity: object) -> None:
    """Multiply the shares held by new/old; nothing but the cancels when there are none."""
    for order in tuple(book.working.values()):
        if order.request.symbol == symbol:
            reason = because(ReasonCode.ORDER_INVALID, split=f"{ratio_new}:{ratio_old}")
            book.finish(order, BrokerOrderStatus.CANCELLED, str(reason))
    lots = tuple(book.lots.get(symbol, {}).values())
    if not lots:
        return
    before = after = ZERO
    for lot in lots:
        before += lot.quantity
        total = (before * ratio_new / ratio_old).quantize(QUANTUM)
        book.put_lot(replace(lot, quantity=plain(total - after)))
        after = total
    book.add_activity(
        Activity(
            activity_id=book.identify(day, ActivityKind.SPLIT.value, symbol, *identity),
            kind=ActivityKind.SPLIT,
            occurred_at=book.now,
            trade_date=day,
            symbol=symbol,
            quantity=book.held.get(symbol, ZERO),
            ratio_new=ratio_new,
            ratio_old=ratio_old,
        )
    )


def book_cash(book: Book, kind: ActivityKind, amount: Decimal, reference: str, day: date) -> None:
    """Book a deposit (amount > 0) or withdrawal (amount < 0) in USD under its reference."""
    book.add_cash_movement(reference, amount)
    book.add_activity(
        Activity(
            activity_id=book.identify(day, kind.value, reference),
            kind=kind,
            occurred_at=book.now,
            trade_date=day,
            amount=amount,
        )
    )


def split_notice(action_id: str, symbol: str, day: date, ratio_new: Decimal, ratio_old: Decimal) -> CorporateNotice:
    """A split as an issuer announces it."""
    split = CorporateAction(action_id, CorporateActionKind.SPLIT, symbol, day, ratio_new, ratio_old)
    kind = "forward_split" if ratio_new >= ratio_old else "reverse_split"
    return CorporateNotice(action_id, kind, symbol, day, split)


def dividend_notice(action_id: str, symbol: str, day: date, per_share: Decimal) -> CorporateNotice:
    """A cash dividend as an issuer announces it; it does nothing to lots."""
    return CorporateNotice(action_id, "cash_dividend", symbol, day, per_share=per_share)
