"""From journal rows to the order of events: what is valid, what counts, and what happened first.

The problem: rows arrive in any order, twice, or corrected later, and the result may not depend on that. Yet the order
of events decides which lot a sale takes and which loss a purchase replaces.

Worked example 1, a day. A buy at 14:00, a sale without a time, a buy at 09:35 and a split are reported in this order.
The split comes first: it takes effect before the open. The timed rows are put in order of time; the sale without a
time stays where it was given, second among the trades: buy 09:35, sale, buy 14:00.

Worked example 2, an order. Fills of 60 at 10.00 and 40 at 10.10 carry one order id. They are one lot of 100 shares
and basis 1,004, named by the first fill (convention `lot`: one order is one lot). 20 more filled the next day belong to
that lot, so they never replace the hundred, but they have a basis and a holding period of their own.

The total order of events:
1. trade date;
2. opening lots, then corporate actions, then opening lots from a person's file, whose shares are counted as that day's
   statement has them (all hold from before the open), then everything else, then cash mergers;
3. instant of execution where known, sales before purchases of the same instant (a plan sells to pay for what it buys),
   then transaction id. Rows without an instant keep the place, among the day's rows, at which they were given.

So arrival order matters only between rows of one day of which at least one has no instant. Rows that another row
supersedes do not count, and the correction takes their place; a row that repeats a known id with the same content is
the same row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from state.lots.errors import ConflictingTransactionError, InvalidTransactionError, UnknownAccountError
from state.records import Account, CorporateAction, CorporateActionKind, Transaction, TransactionKind

Event = Transaction | CorporateAction

PURCHASES = frozenset({TransactionKind.BUY, TransactionKind.DRIP, TransactionKind.AWARD})
ACQUISITIONS = PURCHASES | {TransactionKind.INHERIT, TransactionKind.OPENING_LOT, TransactionKind.GIFT_IN}
NOT_SOLD = frozenset({TransactionKind.GIFT_OUT, TransactionKind.REMOVED})
DISPOSALS = NOT_SOLD | {TransactionKind.SELL, TransactionKind.TRANSFER}
SHORTS = frozenset({TransactionKind.SELL_SHORT, TransactionKind.BUY_TO_COVER, TransactionKind.DELIVER_TO_COVER})
SECURITY_KINDS = ACQUISITIONS | DISPOSALS | SHORTS | {TransactionKind.SPLIT}

_OPENING, _BEFORE_OPEN, _COUNTED, _TRADE, _AFTER_CLOSE = range(5)
IMPORTED = "import"  # source of rows from a person's file
_SAME_ACTION_DAYS = 7  # brokers book one corporate action on different days of a week
_BOOKED_LATE_DAYS = 60  # a row booked so late is still of the split that was announced


# ------------------------------------------------------------------ what is valid and what counts


def check(row: Transaction, accounts: Mapping[str, Account]) -> None:
    """Raises InvalidTransactionError or UnknownAccountError when the row cannot be replayed."""
    if row.account_id not in accounts:
        raise UnknownAccountError(
            f"Transaction {row.transaction_id}, account: expected one of {', '.join(sorted(accounts)) or '(none)'}, "
            f"was {row.account_id}. Add the account to the household.",
            transaction_id=row.transaction_id,
            account_id=row.account_id,
            symbol=row.symbol,
        )
    if row.kind not in SECURITY_KINDS:
        return
    for name in ("quantity", "price", "fees"):
        value = getattr(row, name)
        if type(value) is not Decimal or not value.is_finite():
            _refuse(row, name, "a finite Decimal", value)
    if not row.symbol:
        _refuse(row, "symbol", "a symbol", row.symbol)
    if type(row.trade_date) is not date:
        _refuse(row, "trade_date", "a date", row.trade_date)
    if row.executed_at is not None and row.executed_at.tzinfo is None:
        _refuse(row, "executed_at", "an instant with its time zone", row.executed_at)
    if row.kind is TransactionKind.SPLIT:
        for name in ("ratio_new", "ratio_old"):
            ratio = getattr(row, name)
            if type(ratio) is not Decimal or not ratio.is_finite() or ratio <= 0:
                _refuse(row, name, "a positive Decimal", ratio)
    elif row.quantity < 0 or (row.quantity == 0 and row.supersedes is None):
        _refuse(row, "quantity", "a positive quantity (0 only in a row that cancels another)", row.quantity)
    elif row.price < 0:
        _refuse(row, "price", "a price of 0 or more", row.price)
    _check_kind(row, accounts)


def _check_kind(row: Transaction, accounts: Mapping[str, Account]) -> None:
    """What single kinds need besides."""
    dated = row.kind in (TransactionKind.OPENING_LOT, TransactionKind.GIFT_IN)
    if dated and (row.acquired is None or row.acquired > row.trade_date):
        _refuse(row, "acquired", "the lot's own date or the donor's, not after trade_date", row.acquired)
    if row.kind is TransactionKind.GIFT_IN:
        value = row.fair_value
        if type(value) is not Decimal or not value.is_finite() or value < 0:
            _refuse(row, "fair_value", "the market price a share on the day of the gift, a Decimal of 0 or more", value)
    if row.kind is TransactionKind.TRANSFER and row.to_account_id not in accounts:
        _refuse(row, "to_account_id", f"one of {', '.join(sorted(accounts))}", row.to_account_id)


def _refuse(row: Transaction, name: str, expected: str, seen: object) -> None:
    raise InvalidTransactionError(
        f"Transaction {row.transaction_id} ({row.kind.value}), field {name}: expected {expected}, was {seen!r}. "
        "Correct the row at its source and import it again.",
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        symbol=row.symbol,
    )


def admit(
    known: MutableMapping[str, Transaction], rows: Iterable[Transaction], accounts: Mapping[str, Account]
) -> list[Transaction]:
    """The rows not yet in `known`, in the order given; adds them to `known`.

    Raises InvalidTransactionError, UnknownAccountError, ConflictingTransactionError.
    """
    fresh = []
    for row in rows:
        seen = known.get(row.transaction_id)
        if seen is None:
            check(row, accounts)
            known[row.transaction_id] = row
            fresh.append(row)
        elif seen is not row and replace(seen, recorded_at=None) != replace(row, recorded_at=None):
            raise ConflictingTransactionError(
                f"Transaction {row.transaction_id} is already known with another content. Expected {seen}, was {row}. "
                "Import a correction as a new row whose `supersedes` names this one.",
                transaction_id=row.transaction_id,
                account_id=row.account_id,
                symbol=row.symbol,
            )
    return fresh


def counts(event: Event, superseded: frozenset[str]) -> bool:
    """False for rows that were corrected, move no security, or only cancel another row."""
    if isinstance(event, CorporateAction):
        return True
    if event.transaction_id in superseded or event.kind not in SECURITY_KINDS:
        return False
    return bool(event.quantity) or event.kind is TransactionKind.SPLIT


def corrected_in_place(rows: Iterable[Event], superseded: frozenset[str]) -> list[Event]:
    """The events that count, in the order given; a correction stands where the row that it corrects stood.

    So a purchase without an instant, corrected a week later, still comes before that day's sale. A row that only
    cancels leaves no place, and the first of several corrections takes it.
    """
    result: list[Event | None] = []
    place_of: dict[str, int] = {}
    for row in rows:
        place = len(result)
        if isinstance(row, Transaction) and row.quantity:
            place = place_of.pop(row.supersedes, place) if row.supersedes is not None else place
            place_of[row.transaction_id] = place
        if place == len(result):
            result.append(None)
        if counts(row, superseded):
            result[place] = row
    return [row for row in result if row is not None]


def check_corrections(
    fresh: Iterable[Transaction],
    known: Mapping[str, Transaction],
    journal: Iterable[Transaction],
    superseded: frozenset[str],
) -> None:
    """Raises InvalidTransactionError for rows that correct each other in a circle, and ConflictingTransactionError
    where two rows correct one and both would count. `known` is the journal by id, `fresh` the rows just learned."""
    corrections = [row for row in fresh if row.supersedes is not None]
    if not corrections:
        return
    for row in corrections:
        chain, older = [row.transaction_id], row.supersedes
        while older is not None:
            if older in chain:
                _refuse(row, "supersedes", "a row that does not lead back to this one", " -> ".join([*chain, older]))
            chain.append(older)
            before = known.get(older)
            older = before.supersedes if before is not None else None
    wanted = {row.supersedes for row in corrections}
    first: dict[str, Transaction] = {}
    for row in journal:
        if row.supersedes in wanted and row.transaction_id not in superseded and (row.quantity or row.amount):
            other = first.setdefault(row.supersedes or "", row)
            if other is not row:
                raise ConflictingTransactionError(
                    f"Transactions {other.transaction_id} and {row.transaction_id} both correct {row.supersedes}, and "
                    "both would count. Expected one correction of a row, and a later one to supersede the earlier.",
                    transaction_id=row.transaction_id,
                    account_id=row.account_id,
                    symbol=row.symbol,
                )


def successors(rows: Iterable[Event]) -> dict[str, str]:
    """Id of each row that was corrected -> id of the row that stands for it now, where one does."""
    later = {
        row.supersedes: row.transaction_id
        for row in rows
        if isinstance(row, Transaction) and row.supersedes is not None and row.quantity
    }
    found = {}
    for old, new in later.items():
        while new in later:
            new = later[new]
        found[old] = new
    return found


# ------------------------------------------------------------------ what happened first


def rank(event: Event) -> int:
    """Place of an event within its day: before the open, in trading, after the close."""
    if isinstance(event, CorporateAction):
        return _AFTER_CLOSE if event.kind is CorporateActionKind.CASH_MERGER else _BEFORE_OPEN
    if event.kind is TransactionKind.OPENING_LOT:
        return _COUNTED if event.source == IMPORTED else _OPENING
    return _BEFORE_OPEN if event.kind is TransactionKind.SPLIT else _TRADE


def day_of(event: Event) -> date:
    """The day on which an event takes effect."""
    return event.trade_date if isinstance(event, Transaction) else event.ex_date


def in_order(events: Iterable[Event]) -> list[Event]:
    """The events in their total order (see the module's opening)."""
    ranked = sorted(events, key=lambda event: (day_of(event), rank(event)))
    start, count = 0, len(ranked)
    while start < count:
        first = ranked[start]
        day, place, stop = day_of(first), rank(first), start + 1
        while stop < count and day_of(ranked[stop]) == day and rank(ranked[stop]) == place:
            stop += 1
        if stop - start > 1:
            ranked[start:stop] = _timed(ranked[start:stop])
        start = stop
    return ranked


def _timed(events: list[Event]) -> list[Event]:
    """Events of one day and rank: those with an instant sorted among the places they hold, the others left alone."""
    places = [place for place, event in enumerate(events) if instant(event) is not None]
    for place, event in zip(places, sorted((events[each] for each in places), key=_instant_key), strict=True):
        events[place] = event
    return events


def instant(event: Event) -> datetime | None:
    """When the event was executed, where known."""
    return event.executed_at if isinstance(event, Transaction) else None


def _instant_key(event: Event) -> tuple[datetime, bool, str]:
    assert isinstance(event, Transaction)
    assert event.executed_at is not None
    return event.executed_at, event.kind in ACQUISITIONS, event.transaction_id


SplitReports = dict[tuple[str, Decimal], tuple[tuple[date, frozenset[str]], ...]]  # (symbol, ratio) -> (day, by whom)
_ANNOUNCED = ""  # who reports a split that is no account's row


def first_report(event: Event, seen: SplitReports) -> Event | None:
    """The event; a split as the corporate action it is, or None when it has been reported already.

    A split happens to a security, not to an account. Rows of different accounts with the same symbol and ratio within
    a week are one split, effective on the earliest of their dates; so is a corporate action of the issuer's own record,
    which besides answers for one row of each account that is booked up to sixty days after it. `seen` holds the reports
    so far and takes in this one.
    """
    action = as_split(event)
    if action is None:
        return event
    source = event.account_id if isinstance(event, Transaction) else _ANNOUNCED
    key = action.symbol, action.ratio_new / action.ratio_old
    reports = seen.get(key, ())
    for place in reversed(range(len(reports))):
        day, sources = reports[place]
        if _is_reported((action.ex_date - day).days, source, sources):
            seen[key] = (*reports[:place], (day, sources | {source}), *reports[place + 1 :])
            return None
    seen[key] = (*reports, (action.ex_date, frozenset({source})))
    return action


def _is_reported(days: int, source: str, sources: frozenset[str]) -> bool:
    """True when a split that `sources` reported is the one that `source` reports so many days later."""
    if source not in sources:
        return days <= (_BOOKED_LATE_DAYS if _ANNOUNCED in sources else _SAME_ACTION_DAYS)
    return source != _ANNOUNCED and _ANNOUNCED in sources and days <= _SAME_ACTION_DAYS


def as_split(event: Event) -> CorporateAction | None:
    """The split that an event reports, None when it reports none."""
    if isinstance(event, CorporateAction):
        return event if event.kind is CorporateActionKind.SPLIT else None
    if event.kind is not TransactionKind.SPLIT:
        return None
    assert event.ratio_new is not None
    assert event.ratio_old is not None
    return CorporateAction(
        action_id=event.transaction_id,
        kind=CorporateActionKind.SPLIT,
        symbol=event.symbol or "",
        ex_date=event.trade_date,
        ratio_new=event.ratio_new,
        ratio_old=event.ratio_old,
    )


def fills_of_orders(rows: Sequence[Event]) -> dict[str, list[Transaction]]:
    """For orders filled in parts on one day: all their purchases of the day in order, by the id of the first."""
    orders: dict[tuple[str, str | None, str, date], list[Transaction]] = {}
    for row in rows:
        if isinstance(row, Transaction) and row.order_id is not None and row.kind in PURCHASES:
            orders.setdefault((row.account_id, row.symbol, row.order_id, row.trade_date), []).append(row)
    return {fills[0].transaction_id: fills for fills in orders.values() if len(fills) > 1}
