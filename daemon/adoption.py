"""A person's word that the broker is right and the lots are not.

The problem: some differences are never explained. Until somebody decides, the symbol stays locked; and what is decided
must not pass for more than it is, for lots are what taxes are counted from.

    the broker has more       a lot of unknown basis: never sold for its loss, and a sale of it counts as one
    the broker has less       the shares leave the books, the earliest first, without gain or loss (kind `removed`)
    the history sells more    a lot of unknown basis from before its first row, of just the shares that are missing
      than it has
    lines that are gone       taken back, each by a row of its own
    open questions            settled; lots and basis stay as they are

Each row's id is made of account, symbol, day and quantities, so that doing it twice changes nothing. Before anything is
written, a replay with the rows must give just the broker's shares.

What is adopted must be so, and stay so: a trade that is in the positions and not yet in the history looks like shares
that nobody explains, and adopted it would be counted twice when its line comes. So nothing is adopted while an order is
working in the symbol or a fill of ours is on its way; and between what was shown and what is written, history and
positions are read once more, some time later, and must say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext

from daemon.activities import CASH, newest_version, standing_version, taken_back
from daemon.clock import NEW_YORK
from daemon.errors import HarvestdError
from daemon.house import House
from daemon.questions import VANISHED, Question, open_questions, settle, split_on_one_side
from daemon.reconcile import Cause, differences
from daemon.sync import sync
from state.lots import Ledger, LedgerError
from state.lots.journal import ACQUISITIONS, DISPOSALS, SplitReports, as_split, first_report, in_order
from state.lots.money import CONTEXT
from state.records import QUANTUM, ZERO, Account, BrokerPosition, CorporateAction, Transaction, TransactionKind
from state.store.types import decimal_text as _shares

ADOPTED = "adopt"  # source of the rows that a person's word makes
LOOKS_APART = timedelta(seconds=20)  # brokers tell a fill in positions and history within seconds of each other
_SIGNS = {**dict.fromkeys(ACQUISITIONS, 1), **dict.fromkeys(DISPOSALS, -1)}


class CannotAdopt(HarvestdError):  # noqa: N818
    """Adopting would not make the lots agree, or nothing is there to adopt; the command ends, nothing changes."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a person's word would write, and what it means. Made by `adoption`, done by `adopt`."""

    account_id: str
    symbol: str
    ours: Decimal | None  # shares of our lots before; None where their history cannot be read
    theirs: Decimal
    rows: tuple[Transaction, ...]
    settles: tuple[Question, ...]
    lines: tuple[str, ...]  # what it writes, in sentences
    means: tuple[str, ...]  # what that means for taxes, in sentences
    acquired: date | None  # as a person said
    seen_at: datetime = field(compare=False)


def adoption(
    house: House,
    account: Account,
    symbol: str,
    positions: Iterable[BrokerPosition],
    acquired: date | None = None,
) -> Adoption:
    """What it takes for the lots of `symbol` to be the broker's shares. Writes nothing.

    First, lines that the broker no longer tells are taken back. Then shares that are missing become a lot of unknown
    basis, acquired on `acquired` (by default the day they came, where a line tells it, else today), and shares that
    are too many are taken off the books. `symbol` "cash" takes back lines of cash.

    Raises CannotAdopt, BrokerUnavailable.
    """
    positions = tuple(positions)
    now = house.clock.now()
    today = now.astimezone(NEW_YORK).date()
    if acquired is not None and acquired > today:
        raise CannotAdopt(f"acquired: expected a day up to {today}, was {acquired}")
    asked = tuple(each for each in open_questions(house.store, account.account_id) if (each.symbol or CASH) == symbol)
    gone = _taken_back(house, [each.question_id.removeprefix(VANISHED) for each in asked if _is_of_gone(each)])
    theirs = sum((one.quantity for one in positions if one.symbol == symbol), ZERO)
    before = house.ledger.extended(gone, impossible="set_aside") if gone else house.ledger
    ours = before.position(account.account_id, symbol) if before.why_unreadable(symbol) is None else None
    if ours is None:
        rows = [_opening_before_everything(house, before, account, symbol, theirs, today, acquired)]
    elif ours == theirs:
        rows = []
    else:
        _refuse_a_split(house, account, symbol, ours, theirs)
        rows = [_row(house, account, symbol, ours, theirs, today, acquired)]
    if not rows and not asked:
        raise CannotAdopt(f"{symbol} in {account.account_id}: {_nothing(symbol, theirs)}")
    cause = _quiet_cause(house, account, symbol, positions)
    _check(before, account, symbol, rows, theirs)
    return Adoption(
        account_id=account.account_id,
        symbol=symbol,
        ours=ours,
        theirs=theirs,
        rows=(*gone, *rows),
        settles=asked,
        lines=(*map(_taken_line, gone), *map(_written_line, rows), *map(_settled_line, asked)),
        means=tuple(_meaning(rows, asked, cause)),
        acquired=acquired,
        seen_at=now,
    )


def adopt(house: House, adoption: Adoption) -> tuple[Transaction, ...]:
    """Write what was shown, if it is so still; returns the rows that were new. Doing it twice changes nothing.

    Raises CannotAdopt when the broker's records say something else by now, or the history still cannot be read with
    the rows, and BrokerUnavailable; nothing is then written.
    """
    if _is_done(house, adoption):
        return ()
    _look_again(house, adoption)
    now = house.clock.now()
    try:
        with house.store.transaction():
            added = house.learn(adoption.rows)
            for question in adoption.settles:
                settle(house.store, question, "a person has looked at it", now)
    except LedgerError as error:
        house.forget()
        raise CannotAdopt(f"{adoption.symbol}: {error}") from error
    return added


def _refuse_a_split(house: House, account: Account, symbol: str, ours: Decimal, theirs: Decimal) -> None:
    """Raises CannotAdopt where an announced split explains the difference: shares added or taken off would be of lots
    that a split leaves as they are, and the basis wrong for good."""
    split = split_on_one_side(house, symbol, ours, theirs)
    if split is not None:
        ratio = f"{_shares(split.ratio_new)}:{_shares(split.ratio_old)}"
        raise CannotAdopt(
            f"{symbol} in {account.account_id}: the lots have {_shares(ours)} shares and the broker {_shares(theirs)}, "
            f"which is the split {ratio} with ex-date {split.ex_date}, on one side only. Adopting would make the basis "
            "wrong. It agrees when both have booked it. If that split does not happen, or another one announced does: "
            f"`harvestd reconcile withdraw {split.action_id}`."
        )


def _is_done(house: House, adoption: Adoption) -> bool:
    """True when all of it was written before."""
    known = house.store.journal.versions(row.transaction_id for row in adoption.rows)
    still = set(open_questions(house.store, adoption.account_id)) & set(adoption.settles)
    return len(known) == len(adoption.rows) and not still


def _look_again(house: House, shown: Adoption) -> None:
    """Raises CannotAdopt unless history and positions, read anew, ask for just what was shown."""
    since = house.clock.now() - shown.seen_at
    if since < LOOKS_APART:
        house.clock.sleep((LOOKS_APART - since).total_seconds())
    account = next(each for each in house.managed if each.account_id == shown.account_id)
    sync(house, account)
    positions = house.brokers[account.account_id].positions()
    changed = f"{shown.symbol} in {shown.account_id}: the broker's records are not what was shown any more"
    try:
        now = adoption(house, account, shown.symbol, positions, shown.acquired)
    except CannotAdopt as error:
        raise CannotAdopt(f"{changed}. Nothing was written. {error}") from error
    if now != shown:
        raise CannotAdopt(
            f"{changed}: expected {_shares(shown.theirs)} shares there and {_told(shown.ours)} here, are "
            f"{_shares(now.theirs)} and {_told(now.ours)}. Nothing was written. Look again: `harvestd reconcile`."
        )


def _told(ours: Decimal | None) -> str:
    return "none that can be read" if ours is None else _shares(ours)


def _quiet_cause(house: House, account: Account, symbol: str, positions: Iterable[BrokerPosition]) -> Cause | None:
    """Why the symbol differs, None where it does not. Raises CannotAdopt while a trade in it may be under way."""
    working = [each for each in house.brokers[account.account_id].open_orders() if each.symbol == symbol]
    open_ids = {each.client_order_id or each.broker_order_id for each in working}
    sent = house.store.orders.list(account_id=account.account_id, only_open=True)
    open_ids |= {each.client_order_id for each in sent if each.symbol == symbol and each.submitted_at is not None}
    if open_ids:
        raise CannotAdopt(
            f"{symbol} in {account.account_id}: expected no order working, was {', '.join(sorted(open_ids))}. Adopt "
            "when it has ended and the broker's history tells what it did."
        )
    found = {each.symbol: each for each in differences(house, account, positions)}.get(symbol)
    if found is not None and found.cause is Cause.FILL_ON_ITS_WAY:
        raise CannotAdopt(f"{symbol} in {account.account_id}: {found.evidence} {found.advice}")
    return found.cause if found is not None else None


def _nothing(symbol: str, theirs: Decimal) -> str:
    """Why there is nothing to adopt."""
    if symbol != CASH:
        return f"nothing to adopt, lots and position are {_shares(theirs)}"
    return (
        "nothing to adopt: no line of cash is gone, and a person's word writes no cash. While it differs the broker's "
        "history is read further back each evening; what it does not tell, its statement may"
    )


def _is_of_gone(question: Question) -> bool:
    return question.question_id.startswith(VANISHED)


def _taken_back(house: House, activity_ids: Sequence[str]) -> list[Transaction]:
    """The rows that take back lines the broker no longer tells."""
    rows = []
    for activity_id, known in house.store.journal.versions(activity_ids).items():
        _, number = newest_version(activity_id, known)
        row = taken_back(standing_version(known), f"{activity_id}~{number + 1}")
        rows.append(row)
    return rows


def _row(
    house: House, account: Account, symbol: str, ours: Decimal, theirs: Decimal, today: date, acquired: date | None
) -> Transaction:
    """The one row that makes our shares the broker's."""
    many = theirs > ours
    name = f"{ADOPTED}:{account.account_id}:{symbol}:{today}:{_shares(ours)}->{_shares(theirs)}"
    return Transaction(
        transaction_id=_unused(house, name),
        account_id=account.account_id,
        kind=TransactionKind.OPENING_LOT if many else TransactionKind.REMOVED,
        trade_date=today,
        source=ADOPTED,
        symbol=symbol,
        quantity=abs(theirs - ours),
        acquired=(acquired or _came_on(house, account, symbol, theirs - ours) or today) if many else None,
        note=f"adopted: the lots had {_shares(ours)}, the broker {_shares(theirs)}",
    )


def _unused(house: House, name: str) -> str:
    """The name, or with a number where the same step was made before, there and back again on one day."""
    number, candidate = 1, name
    while house.store.journal.versions([candidate]):
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def _came_on(house: House, account: Account, symbol: str, missing: Decimal) -> date | None:
    """The day of the line by which just the missing shares came, where there is one."""
    rows = house.store.journal.about(account.account_id, symbol)
    days = [row.trade_date for row in rows if row.kind is TransactionKind.SHARES_IN and row.quantity == missing]
    return max(days, default=None)


def _opening_before_everything(
    house: House,
    ledger: Ledger,
    account: Account,
    symbol: str,
    theirs: Decimal,
    today: date,
    acquired: date | None,
) -> Transaction:
    """For a history that sells more than it has: the lot that must have been there before its first row."""
    rows = [row for row in house.store.journal.about(account.account_id, symbol) if _moves(ledger, row)]
    if not rows:
        error = ledger.why_unreadable(symbol)
        raise CannotAdopt(f"{symbol} in {account.account_id}: the fault lies in another account or symbol. {error}")
    first = rows[0].trade_date
    quantity = _shares_before(rows, _splits(ledger, symbol), theirs)
    if quantity <= 0 or quantity != quantity.quantize(QUANTUM):
        raise CannotAdopt(
            f"{symbol} in {account.account_id}: no lot of unknown basis before {first} explains the broker's "
            f"{_shares(theirs)} shares. Import the rows that are missing. {ledger.why_unreadable(symbol)}"
        )
    return Transaction(
        transaction_id=f"{ADOPTED}:{account.account_id}:{symbol}:{today}:before-{first}:{_shares(quantity)}",
        account_id=account.account_id,
        kind=TransactionKind.OPENING_LOT,
        trade_date=first,
        source=ADOPTED,
        symbol=symbol,
        quantity=quantity,
        acquired=min(acquired or first, first),
        note=f"adopted: the history sells more than it has; the broker has {_shares(theirs)}",
    )


def _moves(ledger: Ledger, row: Transaction) -> bool:
    return row.transaction_id not in ledger.superseded and row.kind in _SIGNS and bool(row.quantity)


def _splits(ledger: Ledger, symbol: str) -> list[CorporateAction]:
    """The splits of a symbol, each once, as the replay takes them."""
    seen: SplitReports = {}
    told = [action for action in ledger.corporate_actions if action.symbol == symbol]
    rows = [row for row in ledger.transactions if row.symbol == symbol and row.transaction_id not in ledger.superseded]
    found = (first_report(event, seen) for event in in_order([*told, *rows]) if as_split(event) is not None)
    return [each for each in found if isinstance(each, CorporateAction)]


def _shares_before(rows: Sequence[Transaction], splits: Sequence[CorporateAction], theirs: Decimal) -> Decimal:
    """How many shares there must have been before `rows`, in the shares of that time, for `theirs` to be left."""
    with localcontext(CONTEXT):
        left = theirs
        for event in reversed(in_order([*splits, *rows])):
            if isinstance(event, CorporateAction):
                if event.ex_date >= rows[0].trade_date:
                    left = left * event.ratio_old / event.ratio_new
            else:
                left -= _SIGNS[event.kind] * event.quantity
        return left


def _check(ledger: Ledger, account: Account, symbol: str, rows: Sequence[Transaction], theirs: Decimal) -> None:
    """Raises CannotAdopt unless the rows make the lots the broker's shares."""
    try:
        after = ledger.extended(rows)
    except LedgerError as error:
        raise CannotAdopt(f"{symbol} in {account.account_id}: still cannot be replayed. {error}") from error
    left = after.position(account.account_id, symbol)
    if left != theirs:
        raise CannotAdopt(
            f"{symbol} in {account.account_id}: expected {_shares(theirs)} shares afterwards, would be "
            f"{_shares(left)}. Import the rows that are missing."
        )


def _taken_line(row: Transaction) -> str:
    return f"takes back {row.supersedes}, which the broker no longer tells"


def _written_line(row: Transaction) -> str:
    if row.kind is TransactionKind.REMOVED:
        return f"takes {_shares(row.quantity)} {row.symbol} off the books, the earliest first, without gain or loss"
    return (
        f"writes a lot of {_shares(row.quantity)} {row.symbol}, held from {row.trade_date} on, acquired "
        f"{row.acquired}, basis unknown"
    )


def _settled_line(question: Question) -> str:
    return f"settles: {question.text}"


def _meaning(rows: Sequence[Transaction], settles: Sequence[Question], cause: Cause | None) -> list[str]:
    said = []
    if rows and cause is Cause.SPLIT:
        said.append(
            "CAREFUL: the shares differ as by a split. A split changes every lot; this changes some of them whole, and "
            "their basis with them. It is the wrong way to book a split, or to take one back."
        )
    for row in rows:
        if row.kind is TransactionKind.REMOVED:
            said.append(
                "If they were sold, the sale is not in harvestd's figures: its gain or loss is the one on the broker's "
                "1099-B, and a purchase within 30 days of it may disallow that loss without harvestd knowing. Import "
                "the sale instead where you can. Cash in lieu of a fraction is such a sale, too: its cash is booked, "
                "its gain or loss is not."
            )
        else:
            said.append(
                "While the basis is unknown harvestd never sells the lot for its loss, and a sale counts as a loss for "
                f"wash sales. It counts as bought on {row.acquired}: a loss on {row.symbol} taken within 30 days of "
                "that day is disallowed (--acquired DATE, if you know it). When you know the lots, import them, the "
                f"first one with `supersedes` {row.transaction_id}."
            )
    if any(not _is_of_gone(each) for each in settles):
        said.append(
            "Lots that are settled stay as they are, with their basis: a loss counted from a basis that is too high is "
            "one you do not have. If it changed, import the corrected lots first."
        )
    return said
