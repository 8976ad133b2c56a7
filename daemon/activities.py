"""The broker's account history as journal rows, and what becomes of a line that it tells differently later.

The problem: brokers correct their history. A trade is busted, a price put right, a dividend taken back, a line of last
week appears today. The journal is append-only, so each line is one row under the broker's own id, and each later
version of it a row that supersedes the one before, under an id derived from the broker's:

    told                      known                   becomes
    ------------------------  ----------------------  -------------------------------------------------------------
    a line                    nothing                 row ID
    a line taken back         nothing                 nothing: it never was
    the same line             ID, as it is            nothing
    another content           ID, and nothing later   row ID~2, which supersedes ID; then ID~3, ...
    a line taken back         ID                      row ID~2 without shares and cash, which supersedes ID
    told again                ID~2, taken back        row ID~3 with the content, which supersedes ID
    nothing                   ID                      an alert and a lock: nothing leaves the journal by silence

History is read onwards from a cursor (`take_activities`), where a line that comes again with another content is not
believed, and in the evening once more as it is now (rereading.py), where it is taken for the correction it is.

A line that makes no sense (no amount, shares less than none, a ratio of nought) keeps nothing else out: its cash, where
it tells any, is booked as OTHER_CASH, and a person is asked what it is.

What a line does to cash is in its row. What it does to lots is in its row only for trades and splits; what else issuers
do reaches the lots as corporate actions, of which a broker's line is one more report (state/store/actions.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from daemon.house import House
from daemon.questions import (
    REORGANIZATION,
    SPLIT,
    VANISHED,
    WHAT_TO_DO,
    Question,
    ask,
    ask_of_splits,
    booked_id,
    is_answered,
    open_questions,
    settle,
)
from state.lots import InvalidTransactionError
from state.lots.journal import check
from state.records import (
    QUANTUM,
    ZERO,
    Account,
    Activity,
    ActivityKind,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Side,
    Transaction,
    TransactionKind,
)
from state.store import FillRow, JournalConflict
from state.store.actions import PAID_WITHIN_DAYS, derived_id

CASH = "cash"  # stands for lines without a symbol

_KINDS = {
    ActivityKind.CASH_DIVIDEND: TransactionKind.CASH_DIVIDEND,
    ActivityKind.RETURN_OF_CAPITAL: TransactionKind.RETURN_OF_CAPITAL,
    ActivityKind.SPLIT: TransactionKind.SPLIT,
    ActivityKind.SYMBOL_CHANGE: TransactionKind.ISSUER_ACTION,
    ActivityKind.REORGANIZATION: TransactionKind.ISSUER_ACTION,
    ActivityKind.SHARES_IN: TransactionKind.SHARES_IN,
    ActivityKind.SHARES_OUT: TransactionKind.SHARES_OUT,
    ActivityKind.DEPOSIT: TransactionKind.DEPOSIT,
    ActivityKind.WITHDRAWAL: TransactionKind.WITHDRAWAL,
    ActivityKind.INTEREST: TransactionKind.INTEREST,
    ActivityKind.FEE: TransactionKind.FEE,
    ActivityKind.OTHER: TransactionKind.OTHER_CASH,
}


# ------------------------------------------------------------------ one line, one row


def transaction_of(activity: Activity, account: Account) -> Transaction:
    """The journal row of one broker activity, under the broker's own id; which order of ours it filled is not in it."""
    if activity.kind is ActivityKind.FILL:
        kind = TransactionKind.BUY if activity.side is Side.BUY else TransactionKind.SELL
    else:
        kind = _KINDS[activity.kind]
    if kind is TransactionKind.SPLIT and (activity.ratio_new is None or activity.ratio_old is None):
        kind = TransactionKind.ISSUER_ACTION
    return Transaction(
        transaction_id=activity.activity_id,
        account_id=account.account_id,
        kind=kind,
        trade_date=activity.trade_date,
        source=account.broker,
        symbol=activity.symbol,
        quantity=activity.quantity if kind is not TransactionKind.SPLIT else ZERO,
        price=activity.price,
        fees=_beside_price(activity),
        amount=activity.amount,
        executed_at=activity.occurred_at,
        settle_date=activity.settle_date,
        order_id=activity.broker_order_id,
        lots=activity.lots,
        ratio_new=activity.ratio_new,
        ratio_old=activity.ratio_old,
        note=_note(activity),
    )


def _beside_price(activity: Activity) -> Decimal:
    """What a fill's cash differs from price times quantity: fees, and the broker's rounding to the cent. Basis and
    proceeds are what was paid and received."""
    if activity.kind is not ActivityKind.FILL or not activity.amount:
        return ZERO
    value = activity.quantity * activity.price
    return -activity.amount - value if activity.side is Side.BUY else value - activity.amount


def _note(activity: Activity) -> str:
    """The broker's words, and the symbol a line leads to."""
    led = f"becomes {activity.to_symbol}" if activity.to_symbol else ""
    return "; ".join(part for part in (activity.note, led) if part)


def taken_back(row: Transaction, version: str) -> Transaction:
    """The row that takes another back: without shares and cash, in its place."""
    kind = TransactionKind.ISSUER_ACTION if row.kind is TransactionKind.SPLIT else row.kind
    return replace(
        row,
        transaction_id=version,
        kind=kind,
        quantity=ZERO,
        price=ZERO,
        fees=ZERO,
        amount=ZERO,
        lots=(),
        ratio_new=None,
        ratio_old=None,
        supersedes=row.transaction_id,
        recorded_at=None,
        note="taken back",
    )


# ------------------------------------------------------------------ what is known of a line


@dataclass(frozen=True, slots=True)
class Line:
    """One line as the broker tells it, and as the journal has it."""

    activity: Activity
    row: Transaction  # as it would be journaled for the first time
    latest: Transaction | None = None  # the newest version of the broker's own that is journaled
    standing: Transaction | None = None  # what a later version supersedes, a person's correction perhaps
    number: int = 1  # of the latest version

    @property
    def is_new(self) -> bool:
        """True for a line to journal for the first time."""
        return self.latest is None and not self.activity.cancelled

    @property
    def is_changed(self) -> bool:
        """True where the journal has another content than the broker tells."""
        if self.latest is None:
            return False
        if self.activity.cancelled or is_taken_back(self.latest):
            return self.activity.cancelled is not is_taken_back(self.latest)
        return _content(self.latest) != _content(self.row)

    def correction(self) -> Transaction:
        """The row of a changed line."""
        assert self.latest is not None
        assert self.standing is not None
        version = f"{self.row.transaction_id}~{self.number + 1}"
        if self.activity.cancelled:
            return taken_back(self.standing, version)
        return replace(self.row, transaction_id=version, supersedes=self.standing.transaction_id)


def is_taken_back(row: Transaction) -> bool:
    """True for a row that takes another back."""
    return row.supersedes is not None and not row.quantity and not row.amount and row.note == "taken back"


def _content(row: Transaction) -> tuple[object, ...]:
    """What of a row the figures depend on. Our own order's id, the settlement day and the broker's words may be told
    later or in another way."""
    return (
        row.kind,
        row.trade_date,
        row.symbol,
        row.quantity,
        row.price,
        row.fees,
        row.amount,
        row.executed_at,
        row.order_id,
        row.lots,
        row.ratio_new,
        row.ratio_old,
    )


def lines_of(house: House, account: Account, activities: Iterable[Activity]) -> list[Line]:
    """The lines told, each once, beside what the journal has of them."""
    told = {activity.activity_id: activity for activity in activities}
    versions = house.store.journal.versions(told)
    return [
        _line(activity, _replayable(house, transaction_of(activity, account)), versions.get(activity_id, []))
        for activity_id, activity in told.items()
    ]


def _replayable(house: House, row: Transaction) -> Transaction:
    """The row; of one that no ledger can replay, what the broker says it did to the cash. The cash of a trade is price
    times shares, and as senseless as they are."""
    try:
        check(row, house.ledger.accounts)
    except InvalidTransactionError:
        cash = row.amount if row.kind is TransactionKind.SPLIT else ZERO
        return replace(row, kind=TransactionKind.OTHER_CASH, fees=ZERO, amount=cash)
    return row


def _line(activity: Activity, row: Transaction, known: Sequence[Transaction]) -> Line:
    if not known:
        return Line(activity, row)
    latest, number = newest_version(row.transaction_id, known)
    return Line(activity, row, latest, standing_version(known), number)


def newest_version(activity_id: str, known: Sequence[Transaction]) -> tuple[Transaction, int]:
    """Of a line's row and all that correct it: the broker's newest version, and its number."""
    by_id = {row.transaction_id: row for row in known}
    latest, number = by_id[activity_id], 1
    while f"{activity_id}~{number + 1}" in by_id:
        number += 1
        latest = by_id[f"{activity_id}~{number}"]
    return latest, number


def standing_version(known: Sequence[Transaction]) -> Transaction:
    """The row that stands for a line now, or stood until it was taken back."""
    standing = known[0]
    later = {row.supersedes: row for row in known if row.supersedes is not None and not is_taken_back(row)}
    while standing.transaction_id in later:
        standing = later[standing.transaction_id]
    return standing


def _our_order(house: House, activity: Activity) -> str | None:
    """The client order id, where the order is ours."""
    intent = house.store.orders.by_broker_id(activity.broker_order_id) if activity.broker_order_id else None
    return intent.client_order_id if intent else None


# ------------------------------------------------------------------ onwards from a cursor


def take_activities(house: House, account: Account, activities: Iterable[Activity]) -> None:
    """Journal what is new. Joins the caller's transaction.

    Raises JournalConflict when a line that is known comes again with another content: nothing of it is then written.
    """
    lines = lines_of(house, account, activities)
    for line in lines:
        if line.is_changed and not line.activity.cancelled:
            raise JournalConflict(
                f"Transaction {line.row.transaction_id} of account {account.account_id} came again with another "
                f"content. Expected {line.latest}, was {line.row}. If it stays so, it is a correction this evening."
            )
    take(house, account, lines)


def take(house: House, account: Account, lines: Sequence[Line]) -> tuple[Transaction, ...]:
    """Journal new and changed lines with all that belongs to them; returns the rows. Joins the caller's transaction."""
    rows = []
    for line in lines:
        if not line.is_new and not line.is_changed:
            continue
        row = line.row if line.is_new else line.correction()
        row = replace(row, client_order_id=_our_order(house, line.activity))
        rows.append(row)
        _keep_fill(house, line, row)
        _keep_action(house, account, line)
        _keep_question(house, account, line)
    house.learn(rows, impossible="set_aside")
    ask_of_splits(house, account, rows)
    return tuple(rows)


def _keep_fill(house: House, line: Line, row: Transaction) -> None:
    """The execution, by its row's id: a busted one leaves the fills, and the order keeps what the broker says of it."""
    activity, traded = line.activity, (TransactionKind.BUY, TransactionKind.SELL)
    if line.latest is not None and line.latest.kind in traded and row.kind not in traded:
        house.store.orders.replace_fill(line.latest.transaction_id, None)
    if row.kind not in traded or not (activity.side and activity.symbol and activity.broker_order_id):
        return
    fill = FillRow(
        execution_id=row.transaction_id,
        account_id=row.account_id,
        client_order_id=row.client_order_id,
        broker_order_id=activity.broker_order_id,
        symbol=activity.symbol,
        side=activity.side,
        quantity=activity.quantity,
        price=activity.price,
        executed_at=activity.occurred_at,
    )
    if line.latest is None:
        house.store.orders.add_fill(fill)
    else:
        house.store.orders.replace_fill(line.latest.transaction_id, None if activity.cancelled else fill)


def _keep_action(house: House, account: Account, line: Line) -> None:
    """What a line does to lots, as an action that applies unless it is announced by the issuer."""
    action = _action_of(house, account, line.activity)
    if action is None:
        return
    words = line.activity.note or line.activity.kind.value
    taken = line.activity.cancelled
    notice = CorporateNotice(
        action_id=action.action_id,
        kind=line.activity.kind.value,
        symbol=action.symbol,
        ex_date=action.ex_date,
        action=None if taken else action,
        per_share=action.per_share,
        note=f"{'taken back: ' if taken else ''}{words}, as the broker booked it in {account.account_id}",
    )
    house.store.actions.put([notice], house.clock.now())


def _action_of(house: House, account: Account, activity: Activity) -> CorporateAction | None:
    """The corporate action that a line of the broker's tells in full, if it tells one."""
    symbol, action_id = activity.symbol, derived_id(account.account_id, activity.activity_id)
    if symbol is None:
        return None
    if activity.kind is ActivityKind.SYMBOL_CHANGE and activity.to_symbol not in (None, symbol):
        return CorporateAction(
            action_id=action_id,
            kind=CorporateActionKind.SYMBOL_CHANGE,
            symbol=symbol,
            ex_date=activity.trade_date,
            to_symbol=activity.to_symbol,
        )
    if activity.kind is ActivityKind.RETURN_OF_CAPITAL:
        per_share = _per_share(activity)
        if per_share is not None:
            return CorporateAction(
                action_id=action_id,
                kind=CorporateActionKind.RETURN_OF_CAPITAL,
                symbol=symbol,
                ex_date=_ex_date(house, symbol, per_share, activity.trade_date),
                per_share=per_share,
            )
    return None


def _per_share(activity: Activity) -> Decimal | None:
    """USD a share of a distribution; None where the line does not tell it."""
    if activity.price > 0:
        return activity.price
    if activity.quantity > 0 and activity.amount > 0:
        return (activity.amount / activity.quantity).quantize(QUANTUM)
    return None


def _ex_date(house: House, symbol: str, per_share: Decimal, paid: date) -> date:
    """The ex-date of a payment, where a distribution of that amount was announced for it; else the day it was paid."""
    around = house.store.actions.notices([symbol], paid - timedelta(days=PAID_WITHIN_DAYS), paid)
    days = [each.ex_date for each in around if each.per_share == per_share]
    return max(days, default=paid)


# ------------------------------------------------------------------ what a person has to look at


def _keep_question(house: House, account: Account, line: Line) -> None:
    """Ask what a line leaves open; settle what was asked of one that is taken back, or now says what it is."""
    question, now = _question_of(house, account, line), house.clock.now()
    asks = question is not None and not line.activity.cancelled
    for before in _asked_of(house, account, line) if line.latest is not None else ():
        if not asks or before != question:
            how = "the broker took the line back" if line.activity.cancelled else "the broker corrected the line"
            settle(house.store, before, how, now)
    if question is not None and asks:
        ask(house.store, question, now)


def _asked_of(house: House, account: Account, line: Line) -> list[Question]:
    """What is open about a line as it was told before."""
    activity_id = line.activity.activity_id
    asked = open_questions(house.store, account.account_id)
    of_line = (each for each in asked if not each.question_id.startswith(VANISHED))
    return [each for each in of_line if each.question_id == activity_id or each.question_id.endswith(f":{activity_id}")]


def _question_of(house: House, account: Account, line: Line) -> Question | None:
    """What a line leaves open about its symbol, or about cash where it has none."""
    activity = line.activity
    symbol, day = activity.symbol, activity.trade_date
    if activity.unreadable or (line.row.kind is TransactionKind.OTHER_CASH and activity.kind is not ActivityKind.OTHER):
        return _question_of_nonsense(account, line)
    if symbol is None:
        return None
    words = f" ({activity.note})" if activity.note else ""
    kind, question_id, text = activity.kind, activity.activity_id, ""
    if kind is ActivityKind.OTHER:
        text = f"{symbol}: the broker booked a line on {day} that harvestd has no rule for{words}. Look it up there."
    elif kind is ActivityKind.SPLIT and (activity.ratio_new is None or activity.ratio_old is None):
        question_id = booked_id(SPLIT, day, activity.note, activity.activity_id)
        text = f"{symbol}: the broker booked a split on {day} without its ratio{words}; it is settled when announced."
    elif kind is ActivityKind.REORGANIZATION:
        question_id = booked_id(REORGANIZATION, day, activity.note, activity.activity_id)
        text = (
            f"{symbol}: the broker booked a reorganization on {day}{words}; what it does to the lots is not announced."
        )
    elif kind is ActivityKind.RETURN_OF_CAPITAL and _per_share(activity) is None:
        text = f"{symbol}: capital was returned on {day} without an amount a share; the basis is not lowered."
    if not text or is_answered(house, symbol, question_id):
        return None
    return Question(account.account_id, symbol, question_id, f"{text} {WHAT_TO_DO.format(symbol=symbol)}")


def _question_of_nonsense(account: Account, line: Line) -> Question:
    """About a line that makes no sense: neither its shares nor, where it tells none, its cash are counted."""
    activity = line.activity
    symbol, words = activity.symbol or "", f" ({activity.note})" if activity.note else ""
    text = (
        f"{symbol or 'Cash'} in {account.account_id}: the broker booked a line on {activity.trade_date} that makes no "
        f"sense, {activity.activity_id}, of the kind {activity.kind.value}{words}. It moves no shares here, and of "
        f"cash {line.row.amount:,.2f} USD. Look it up at the broker; when it is corrected there, it is taken in."
    )
    if symbol:
        text = f"{text} {WHAT_TO_DO.format(symbol=symbol)}"
    else:
        text += f" Cash differs by what it moved; `harvestd reconcile adopt {CASH}` settles the question."
    return Question(account.account_id, symbol, activity.activity_id, text)
