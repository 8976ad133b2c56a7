"""Opening lots and other accounts' trades from a CSV file, all of it or none of it (docs/IMPORT.md has the layouts).

The problem: shares moved in from another broker come without basis, and a spouse's or an IRA's purchases decide which
losses count. Only a person has these facts, in a file typed or exported by hand, and every mistake in it becomes a
wrong tax figure: a lot counted twice, a basis in a wrong column, a file half read.

So everything is checked first, and all problems are told at once, each with its line, what was expected and what was
seen: cells, then rows against each other and against the journal, then the whole household's ledger replayed with the
rows. Nothing is written unless all of it stands.

Worked example, twice the same file. A row with a reference is `import:ira:2026-017`, one without is named by a hash of
its content. The file comes again: the ids are known with the same content, and nothing is written. It comes with
another quantity under reference 2026-017: refused, for that would be a second history of one trade; a row that corrects
the first names it in the column `supersedes`, and both stay in the journal.

Worked example, a lot twice. The broker's history tells a purchase of 10 XYZ on 3 March. A file has a lot of 10 XYZ
acquired on 3 March: most likely the same shares, and refused. A lot acquired before the history's first trade of the
symbol is not in doubt, nor is one that came by a line of shares that came in, or as of a day the file names.

Worked example, a line twice. A lot of 40 XOM was imported with an unknown basis; a later file has it with the basis
from the statement found since. Its content is another, so is its id, and taken as it is it would be 40 shares more. A
new line is refused where a row that counts has the same account, symbol, day and quantity; what is meant must be said:
that it corrects the row (`supersedes`), or that it is another lot (a file with both lines, or a reference and
`further`).

The day from which a lot is held decides which sales can take it, and in the shares of which day its quantity counts (a
split later multiplies it). It is the one in column `as_of`; else the day on which the broker says that shares came in;
else the first day the journal knows of the symbol in that account; else today.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, Decimal, localcontext
from pathlib import Path
from typing import Any

from daemon.bookkeeping import take_in
from daemon.clock import NEW_YORK
from daemon.lot_file import Cells, ImportRefused, Problem, table_of
from state.lots import Ledger, LedgerError, OversoldError, in_effect
from state.lots.journal import ACQUISITIONS, IMPORTED
from state.lots.money import CONTEXT
from state.records import ZERO, Account, Lot, Transaction, TransactionKind
from state.store import Store
from state.store.types import decimal_text

UNKNOWN = "unknown"  # written in the place of a basis nobody knows
_FINEST_PRICE = Decimal("1E-9")

_TRADED = (TransactionKind.BUY, TransactionKind.SELL, TransactionKind.DRIP)
_GIVEN = (
    TransactionKind.AWARD, TransactionKind.INHERIT, TransactionKind.GIFT_IN, TransactionKind.GIFT_OUT,
    TransactionKind.TRANSFER,
)  # fmt: skip
KINDS = {kind.value: kind for kind in (*_TRADED, *_GIVEN, TransactionKind.SPLIT)}
_PRICED = frozenset({*_TRADED, TransactionKind.AWARD, TransactionKind.INHERIT, TransactionKind.GIFT_IN})
# What a broker's own history does not tell, and so may be told of an account that harvestd trades.
_TOLD_BY_NO_BROKER = frozenset(_GIVEN)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """How a symbol would stand against the broker's last known position. `broker` is None where there is none."""

    account_id: str
    symbol: str
    lots: Decimal
    broker: Decimal | None

    @property
    def agrees(self) -> bool | None:
        """None where there is nothing to compare with."""
        return None if self.broker is None else self.broker == self.lots


@dataclass(frozen=True, slots=True)
class Import:
    """A file that can be taken in whole: its new rows, and what would come of them."""

    path: Path
    rows: tuple[Transaction, ...]
    known: int  # rows of the file that the journal has already
    lots: tuple[Lot, ...]  # open lots afterwards, of the accounts and symbols that the new rows are about
    reconciled: tuple[Reconciled, ...]


# ------------------------------------------------------------------ reading and checking


def read(
    path: Path,
    store: Store,
    ledger: Ledger,
    now: datetime,
    *,
    account_id: str | None = None,
    further: bool = False,
) -> Import:
    """Check a file against the household; writes nothing. `account_id` is the account of a file without that column.
    `further` is a person's word that lines like rows of the journal, with a reference of their own, are others.

    `ledger` is the replay of the journal as it is. Raises ImportRefused with everything that is wrong, OSError.
    """
    content = path.read_bytes()
    today = now.astimezone(NEW_YORK).date()
    problems: list[Problem] = []
    table = table_of(content, problems)
    household = _Household(store, ledger, today, account_id)
    rows: list[tuple[int, Transaction]] = []
    if table is not None:
        make = _lot_row if table.has_lots else _trade_row
        for line, cells in table.rows:
            row = make(Cells(line, cells, problems), household)
            if row is not None:
                rows.append((line, row))
    new = _check_together(rows, store, problems)
    of_file = {each for _, row in rows for each in (row.transaction_id, row.supersedes)}
    for line, row in new:
        undated = row.kind is TransactionKind.OPENING_LOT and row.transaction_id not in household.dated
        if undated and not _is_held_from_a_day(line, row, household, problems):
            continue
        if row.supersedes is None and not (further and row.transaction_id in household.referred):
            _check_not_again(line, row, household, of_file, problems)
    if problems:
        raise ImportRefused(path, problems)
    after = _replayed(store, ledger, new, path, today)
    return _import(path, store, after, [row for _, row in new], len(rows) - len(new))


def take(found: Import, store: Store, ledger: Ledger, now: datetime) -> Ledger:
    """Write a file that was read; returns the ledger with it. Raises state.store.JournalConflict, LedgerError."""
    return take_in(store, ledger, found.rows, now).ledger


@dataclass
class _Household:
    """What rows are checked against."""

    store: Store
    ledger: Ledger
    today: date
    account_id: str | None  # of lines without one
    dated: set[str] = field(default_factory=set)  # ids of lots whose line says since when they are held
    referred: set[str] = field(default_factory=set)  # ids of rows that are named by a reference
    _rows: dict[tuple[str, str], tuple[Transaction, ...]] = field(default_factory=dict)
    _days: dict[tuple[str, str], _Days] = field(default_factory=dict)

    def account(self, cells: Cells, name: str = "account") -> Account | None:
        """The account a cell names."""
        given = cells.text(name) or (self.account_id if name == "account" else "") or ""
        found = self.ledger.accounts.get(given)
        if found is None:
            known = ", ".join(sorted(self.ledger.accounts))
            cells.refuse(f"{name}: one of {known}", repr(given) if given else "an empty cell, and no --account")
        elif name == "account" and self.account_id and given != self.account_id:
            cells.refuse(f"{name} {self.account_id}, the one of --account", repr(given))
        return found

    def rows(self, account_id: str, symbol: str) -> tuple[Transaction, ...]:
        """The journal's rows about a symbol in an account that count."""
        key = account_id, symbol
        if key not in self._rows:
            about = self.store.journal.about(account_id, symbol)
            self._rows[key] = tuple(row for row in about if row.transaction_id not in self.ledger.superseded)
        return self._rows[key]

    def named(self, cells: Cells, row: Transaction, as_of: str = "") -> Transaction:
        """The row with its id."""
        named = _named(cells, row, as_of)
        if cells.text("reference"):
            self.referred.add(named.transaction_id)
        return named

    def days(self, account_id: str, symbol: str) -> _Days:
        """What the journal's own rows about a symbol in an account say of days; opening lots are left out."""
        key = account_id, symbol
        if key not in self._days:
            rows = [row for row in self.rows(account_id, symbol) if row.kind is not TransactionKind.OPENING_LOT]
            came = {row.trade_date for row in rows if row.kind is TransactionKind.SHARES_IN}
            self._days[key] = _Days(min((row.trade_date for row in rows), default=None), tuple(sorted(came)))
        return self._days[key]


@dataclass(frozen=True, slots=True)
class _Days:
    first: date | None  # of any row
    came: tuple[date, ...]  # on which shares came in without basis


# ------------------------------------------------------------------ opening lots


def _lot_row(cells: Cells, household: _Household) -> Transaction | None:
    """The journal row of one opening lot."""
    account, symbol = household.account(cells), cells.symbol()
    acquired, quantity = cells.day("acquired", household.today), cells.quantity("quantity")
    cells.required("acquired", acquired)
    cells.required("quantity", quantity)
    as_of = cells.day("as_of", household.today)
    cost = _cost(cells, quantity)
    if account is None or symbol is None or acquired is None or quantity is None or not cells.is_good:
        return None
    if as_of is not None and acquired > as_of:
        cells.refuse(f"acquired up to as_of, {as_of}", str(acquired))
        return None
    days = household.days(account.account_id, symbol)
    held_from = as_of or (days.came[-1] if days.came else days.first or household.today)
    price, fees = cost
    row = Transaction(
        transaction_id="",
        account_id=account.account_id,
        kind=TransactionKind.OPENING_LOT,
        trade_date=held_from,
        source=IMPORTED,
        symbol=symbol,
        quantity=quantity,
        price=price,
        fees=fees,
        acquired=acquired,
        supersedes=cells.text("supersedes") or None,
        note=cells.text("note"),
    )
    # Where no day is named, since when a lot is held follows from the journal, and may be another day when the file
    # comes again: it is no part of what the row is known by.
    named = household.named(cells, row, as_of.isoformat() if as_of else "")
    if as_of is not None:
        household.dated.add(named.transaction_id)
    return named


def _cost(cells: Cells, quantity: Decimal | None) -> tuple[Decimal, Decimal]:
    """Price a share, and what the whole cost beside it, so that the two make the basis to the last digit. No price
    says that the basis is unknown."""
    name = "price" if cells.text("price") else "basis"
    if quantity is not None and not quantity:  # it only takes another line back
        return ZERO, ZERO
    if cells.text(name).casefold() == UNKNOWN:
        return ZERO, ZERO
    if not cells.text(name):
        cells.refuse(f"basis or price in USD, or the word {UNKNOWN}", "an empty cell")
        return ZERO, ZERO
    amount = cells.amount(name, positive=False)
    if amount is not None and not amount:
        cells.refuse(f"{name} of more than 0 (write 0.01 for nothing), or the word {UNKNOWN}", "0")
    if not amount or not quantity:
        return ZERO, ZERO
    if name == "price":
        return amount, ZERO
    with localcontext(CONTEXT):
        price = (amount / quantity).quantize(_FINEST_PRICE, rounding=ROUND_DOWN)
        if not price:
            cells.refuse("a basis of at least a billionth of a dollar a share", decimal_text(amount))
        return price, amount - price * quantity


def _is_held_from_a_day(line: int, row: Transaction, household: _Household, problems: list[Problem]) -> bool:
    """A lot whose line does not say since when it is held: that must follow from the journal, without a doubt that it
    is one of the journal's own purchases."""
    before = len(problems)
    days = household.days(row.account_id, row.symbol or "")
    if len(days.came) > 1:
        told = ", ".join(map(str, days.came))
        problems.append(Problem(line, f"the day the lot came in column as_of: {row.symbol} came in on {told}", "none"))
    elif row.acquired is not None and (row.acquired > row.trade_date or _is_of_first_day(row, days)):
        expected = (
            f"a lot acquired before {row.trade_date}, where the journal's own rows of {row.symbol} in {row.account_id} "
            "begin, for it may be one of them; or the day it came from elsewhere in column as_of"
        )
        problems.append(Problem(line, expected, f"acquired {row.acquired}"))
    return len(problems) == before


def _is_of_first_day(row: Transaction, days: _Days) -> bool:
    """True for a lot of the very day on which the journal's own rows begin, where no shares came from elsewhere."""
    return not days.came and row.acquired == days.first


def _check_not_again(
    line: int, row: Transaction, household: _Household, of_file: set[str | None], problems: list[Problem]
) -> None:
    """A row that the journal seems to have already, though not as a line of this file: most likely the same shares."""
    rows = [each for each in household.rows(row.account_id, row.symbol or "") if each.transaction_id not in of_file]
    alike = [each for each in rows if _is_alike(each, row)]
    together = [each for each in rows if each.kind in ACQUISITIONS and _acquired_on(each) == row.acquired]
    if not alike and row.kind is TransactionKind.OPENING_LOT and len(together) > 1:
        alike = together if sum((each.quantity for each in together), ZERO) == row.quantity else []
    if alike:
        names = " and ".join(each.transaction_id for each in alike)
        what = "" if row.kind is TransactionKind.SPLIT else f" of {decimal_text(row.quantity)} {row.symbol}"
        expected = (
            f"nothing that the journal has: {names} is a row of the kind {alike[0].kind.value}{what} in "
            f"{row.account_id}, of the same day, and counts. If this line corrects it, write {alike[0].transaction_id} "
            "into the column supersedes; if it is another one, give it a reference of its own and import with --further"
        )
        problems.append(Problem(line, expected, "the same again"))


def _is_alike(known: Transaction, row: Transaction) -> bool:
    """True when a row of the journal may well be what a new one tells, whatever it cost and whatever its name."""
    if known.quantity != row.quantity:
        return False
    if TransactionKind.OPENING_LOT in (known.kind, row.kind):
        return {known.kind, row.kind} <= ACQUISITIONS and _acquired_on(known) == _acquired_on(row)
    return (known.kind, known.trade_date) == (row.kind, row.trade_date)


def _acquired_on(row: Transaction) -> date:
    return row.acquired or row.trade_date


# ------------------------------------------------------------------ transactions


def _trade_row(cells: Cells, household: _Household) -> Transaction | None:
    """The journal row of one transaction."""
    account, symbol = household.account(cells), cells.symbol()
    kind = KINDS.get(cells.text("kind").casefold())
    if kind is None:
        cells.refuse(f"kind: one of {', '.join(KINDS)}", repr(cells.text("kind")))
    day = cells.day("date", household.today)
    cells.required("date", day)
    is_split = kind is TransactionKind.SPLIT
    quantity = ZERO if is_split else cells.quantity("quantity")
    if not is_split:
        cells.required("quantity", quantity)
    price = cells.amount("price", positive=False)
    if kind in _PRICED and quantity != ZERO:
        cells.required("price", price)
    fees = cells.amount("fees", positive=False) or ZERO
    others = _others(cells, household, kind, day)
    if account is None or symbol is None or kind is None or day is None or quantity is None or not cells.is_good:
        return None
    supersedes = cells.text("supersedes") or None
    if account.is_managed and kind not in _TOLD_BY_NO_BROKER and supersedes is None:
        cells.refuse(
            f"in {account.account_id}, of which the broker tells the trades: only "
            f"{', '.join(sorted(each.value for each in _TOLD_BY_NO_BROKER))}, or a correction with `supersedes`",
            kind.value,
        )
        return None
    row = Transaction(
        transaction_id="",
        account_id=account.account_id,
        kind=kind,
        trade_date=day,
        source=IMPORTED,
        symbol=symbol,
        quantity=quantity,
        price=price or ZERO,
        fees=fees,
        supersedes=supersedes,
        note=cells.text("note"),
    )
    return household.named(cells, replace(row, **others))


def _others(cells: Cells, household: _Household, kind: TransactionKind | None, day: date | None) -> dict[str, Any]:
    """The columns that some kinds need."""
    found: dict[str, Any] = {}
    if kind is TransactionKind.GIFT_IN:
        found["acquired"] = cells.day("acquired", day or household.today)
        found["fair_value"] = cells.amount("fair_value", positive=False)
    elif kind is TransactionKind.SPLIT:
        found["ratio_new"], found["ratio_old"] = cells.amount("ratio_new"), cells.amount("ratio_old")
    for name, value in found.items():
        cells.required(name, value)
    if kind is TransactionKind.TRANSFER:
        target = household.account(cells, "to_account")
        found["to_account_id"] = target.account_id if target else None
    clock = cells.text("time")
    if clock and day is not None:
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}")
        except ValueError:
            cells.refuse("time in New York as HH:MM or HH:MM:SS", repr(clock))
        else:
            found["executed_at"] = moment.replace(tzinfo=NEW_YORK).astimezone(UTC)
    return found


# ------------------------------------------------------------------ rows together


def _named(cells: Cells, row: Transaction, as_of: str = "") -> Transaction:
    """The row with its id: the file's reference, else a hash of what it says."""
    reference = cells.text("reference")
    if not reference:
        day = row.trade_date if row.kind is not TransactionKind.OPENING_LOT else as_of
        amounts = map(decimal_text, (row.quantity, row.price, row.fees))
        others = (row.acquired, row.executed_at, row.fair_value, row.ratio_new, row.ratio_old)
        words = [row.kind.value, day, row.symbol, *amounts, *others, row.to_account_id, row.supersedes]
        reference = hashlib.sha256("|".join(map(str, words)).encode()).hexdigest()[:20]
    return replace(row, transaction_id=f"import:{row.account_id}:{reference}")


def _check_together(
    rows: Sequence[tuple[int, Transaction]], store: Store, problems: list[Problem]
) -> list[tuple[int, Transaction]]:
    """Rows against each other and against the journal: ids, references, what they supersede. Returns the new ones."""
    lines: dict[str, tuple[int, Transaction]] = {}
    for line, row in rows:
        before = lines.setdefault(row.transaction_id, (line, row))
        if before[0] != line:
            same = "the same content as" if before[1] == row else "the reference of"
            expected = "a reference of its own in each line (column reference), two equal trades among them"
            problems.append(Problem(line, expected, f"{same} line {before[0]}"))
    known = store.journal.versions([*lines, *(row.supersedes for _, row in rows if row.supersedes)])
    for transaction_id, (line, row) in lines.items():
        if transaction_id in known and not _is_same(known[transaction_id][0], row):
            _refuse_changed(line, known[transaction_id][0], row, problems)
        if row.supersedes and row.supersedes not in known and row.supersedes not in lines:
            expected = "supersedes: the id of a journal row, such as import:ACCOUNT:REFERENCE"
            problems.append(Problem(line, expected, repr(row.supersedes)))
    return [each for transaction_id, each in lines.items() if transaction_id not in known]


def _is_same(known: Transaction, row: Transaction) -> bool:
    """True when a row says what the journal has. A lot's day of entry may have been another then."""
    if row.kind is TransactionKind.OPENING_LOT:
        known = replace(known, trade_date=row.trade_date)
    return replace(known, recorded_at=None, note="") == replace(row, note="")


def _refuse_changed(line: int, known: Transaction, row: Transaction, problems: list[Problem]) -> None:
    named = ("kind", "trade_date", "symbol", "quantity", "price", "fees", "acquired", "supersedes", "executed_at")
    changed = [name for name in named if getattr(known, name) != getattr(row, name)]
    was = ", ".join(f"{name} {_word(getattr(known, name))}" for name in changed) or "other content"
    now = ", ".join(f"{name} {_word(getattr(row, name))}" for name in changed) or "another"
    problems.append(
        Problem(
            line,
            f"what was imported before under {row.transaction_id} ({was}); to correct it, give the line another "
            f"reference and write {row.transaction_id} into the column supersedes",
            now,
        )
    )


def _word(value: object) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


# ------------------------------------------------------------------ the household with them


def _replayed(store: Store, ledger: Ledger, rows: Sequence[tuple[int, Transaction]], path: Path, today: date) -> Ledger:
    """The ledger with the rows, under the issuers' actions that are then in effect. Raises ImportRefused with every
    symbol whose history could not have happened."""
    lines = {row.transaction_id: line for line, row in rows}
    try:
        after = ledger.extended([row for _, row in rows], impossible="set_aside")
        actions = in_effect(store.actions.actions(), after.first_days, today)
        if actions != after.corporate_actions:
            after = after.acting(actions, impossible="set_aside")
    except LedgerError as error:  # the rows contradict each other or the journal
        problem = Problem(lines.get(error.transaction_id, 0), "rows that can be replayed", str(error))
        raise ImportRefused(path, [problem]) from error
    about = {row.symbol for _, row in rows}
    problems = [
        Problem(
            lines.get(aside.error.transaction_id, 0),
            f"a history of {' and '.join(sorted(aside.symbols))} that can have happened",
            f"this: {aside.error}{_held_too_late(after, aside.error)}",
        )
        for aside in after.unreadable.values()
        if aside.symbols & about
    ]
    if problems:
        raise ImportRefused(path, problems)
    return after


def _held_too_late(ledger: Ledger, error: LedgerError) -> str:
    """A hint, where a sale takes shares of a lot that is held only later."""
    if not isinstance(error, OversoldError):
        return ""
    rows = [row for row in ledger.transactions if (row.account_id, row.symbol) == (error.account_id, error.symbol)]
    day = next((row.trade_date for row in rows if row.transaction_id == error.transaction_id), date.max)
    late = [row.trade_date for row in rows if row.kind is TransactionKind.OPENING_LOT and row.trade_date > day]
    return f" (An opening lot of it is held only from {min(late)} on: column as_of says since when.)" if late else ""


def _import(path: Path, store: Store, after: Ledger, rows: Sequence[Transaction], known: int) -> Import:
    about = sorted({(row.account_id, row.symbol or "") for row in rows})
    positions = {(one.account_id, one.symbol): one.quantity for one in store.positions.list()}
    lots = [lot for account_id, symbol in about for lot in after.open_lots(account_id, symbol)]
    reconciled = [
        Reconciled(
            account_id,
            symbol,
            after.position(account_id, symbol),
            positions.get((account_id, symbol), ZERO) if after.accounts[account_id].is_managed else None,
        )
        for account_id, symbol in about
    ]
    return Import(path, tuple(rows), known, tuple(lots), tuple(reconciled))
