"""The venue's own file: SQLite in WAL mode, money and quantities as exact decimal text.

The book keeps everything in memory and writes through here; nothing is read back except when a venue is opened
again. Each transaction raises a revision number it expects to find unchanged, so that a second process writing
the same file is noticed before it does harm.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from brokers.simulated.errors import VenueError
from state.records import (
    Activity,
    ActivityKind,
    LotSelection,
    Side,
)

_SCHEMA = """
CREATE TABLE venue (
    account_number TEXT NOT NULL, settings TEXT NOT NULL, prices TEXT NOT NULL,
    now TEXT NOT NULL, cash TEXT NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE orders (
    sequence INTEGER PRIMARY KEY, broker_order_id TEXT NOT NULL UNIQUE, client_order_id TEXT NOT NULL UNIQUE,
    symbol TEXT NOT NULL, side TEXT NOT NULL, quantity TEXT NOT NULL, order_type TEXT NOT NULL, limit_price TEXT,
    lots TEXT NOT NULL, submitted_at TEXT NOT NULL, reserve_price TEXT NOT NULL,
    status TEXT NOT NULL, filled_quantity TEXT NOT NULL, filled_value TEXT NOT NULL, rounds INTEGER NOT NULL,
    first_filled_at TEXT, rest_held INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE order_events (
    sequence INTEGER PRIMARY KEY, broker_order_id TEXT NOT NULL, status TEXT NOT NULL,
    filled_quantity TEXT NOT NULL, filled_value TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE activities (
    sequence INTEGER PRIMARY KEY, activity_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, occurred_at TEXT NOT NULL,
    trade_date TEXT NOT NULL, symbol TEXT, side TEXT, quantity TEXT NOT NULL, price TEXT NOT NULL,
    amount TEXT NOT NULL, broker_order_id TEXT, settle_date TEXT, ratio_new TEXT, ratio_old TEXT, lots TEXT NOT NULL);
CREATE TABLE lots (
    sequence INTEGER PRIMARY KEY, broker_order_id TEXT NOT NULL UNIQUE, symbol TEXT NOT NULL, fill_ids TEXT NOT NULL,
    acquired_at TEXT NOT NULL, acquired TEXT NOT NULL, quantity TEXT NOT NULL, cost TEXT NOT NULL);
CREATE TABLE disposals (
    sequence INTEGER PRIMARY KEY, sale_fill_id TEXT NOT NULL, sale_order_id TEXT NOT NULL, symbol TEXT NOT NULL,
    purchase_order_id TEXT NOT NULL, purchase_fill_ids TEXT NOT NULL, acquired TEXT NOT NULL, disposed TEXT NOT NULL,
    quantity TEXT NOT NULL, cost TEXT NOT NULL, proceeds TEXT NOT NULL);
CREATE TABLE cash_movements (reference TEXT PRIMARY KEY, amount TEXT NOT NULL);
CREATE TABLE command_splits (
    sequence INTEGER PRIMARY KEY, symbol TEXT NOT NULL, session INTEGER NOT NULL, ratio_new TEXT NOT NULL,
    ratio_old TEXT NOT NULL);
CREATE TABLE switches (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

Row = tuple[object, ...]
Value = str | int | None


@dataclass(frozen=True)
class Header:
    """The venue's one-row table: who it is, its clock and its cash."""

    account_number: str
    settings: str
    prices: str
    now: datetime
    cash: Decimal
    revision: int


class VenueFile:
    """One SQLite connection and the statements the book needs."""

    def __init__(self, path: Path | str) -> None:
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close the connection; the file is complete."""
        self._connection.close()

    def header(self) -> Header | None:
        """The venue in this file, or None when the file is new."""
        found = self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'venue'").fetchone()
        if found is None:
            return None
        account_number, settings, prices, now, cash, revision = self._connection.execute(
            "SELECT account_number, settings, prices, now, cash, revision FROM venue"
        ).fetchone()
        return Header(account_number, settings, prices, datetime.fromisoformat(now), Decimal(cash), revision)

    def create(self, header: Header) -> None:
        """Lay out the tables of a new venue, all or nothing."""
        self.begin()
        for statement in _SCHEMA.split(";\n"):
            if statement.strip():
                self._connection.execute(statement)
        self.insert(
            "venue",
            (
                header.account_number,
                header.settings,
                header.prices,
                header.now.isoformat(),
                str(header.cash),
                header.revision,
            ),
        )
        self._connection.execute("COMMIT")

    def begin(self) -> None:
        """Start a write transaction. Raises VenueError when another process holds the file."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise VenueError(f"The venue's file is in use by another process: {error}") from error

    def commit(self, now: datetime, cash: Decimal, revision: int) -> None:
        """Write clock and cash and make the transaction durable. Raises VenueError if `revision` is not the file's."""
        changed = self._connection.execute(
            "UPDATE venue SET now = ?, cash = ?, revision = revision + 1 WHERE revision = ?",
            (now.isoformat(), str(cash), revision),
        )
        if changed.rowcount != 1:
            raise VenueError("Another process has changed the venue's file since it was opened; reopen it")
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction in progress, if there is one."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def rows(self, table: str) -> Iterator[tuple[str, ...]]:
        """All rows of a table in the order they were first written."""
        return self._connection.execute(f"SELECT * FROM {table} ORDER BY rowid")

    def insert(self, table: str, row: Row) -> None:
        """Append one row."""
        self._connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def replace(self, table: str, row: Row) -> None:
        """Write one row over the one with the same primary key."""
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)

    def delete(self, table: str, column: str, value: Value) -> None:
        """Remove the rows whose `column` has this value."""
        self._connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (value,))


def text(value: object) -> str | None:
    """A value as stored text: decimals and dates exactly, None as NULL."""
    if value is None:
        return None
    return value.isoformat() if isinstance(value, date) else str(value)


def optional_decimal(value: str | None) -> Decimal | None:
    """The decimal of a nullable column."""
    return None if value is None else Decimal(value)


def lots_to_text(lots: Iterable[LotSelection]) -> str:
    """Named lots as JSON."""
    return json.dumps([[lot.lot_id, str(lot.quantity)] for lot in lots])


def lots_from_text(stored: str) -> tuple[LotSelection, ...]:
    """Named lots from JSON."""
    return tuple(LotSelection(lot_id, Decimal(quantity)) for lot_id, quantity in json.loads(stored))


def activity_to_row(sequence: int, activity: Activity) -> Row:
    """An activity as a row of its table."""
    return (
        sequence,
        activity.activity_id,
        activity.kind.value,
        text(activity.occurred_at),
        text(activity.trade_date),
        activity.symbol,
        text(activity.side),
        text(activity.quantity),
        text(activity.price),
        text(activity.amount),
        activity.broker_order_id,
        text(activity.settle_date),
        text(activity.ratio_new),
        text(activity.ratio_old),
        lots_to_text(activity.lots),
    )


def activity_from_row(row: tuple[str, ...]) -> Activity:
    """An activity from a row of its table, equal to the one written."""
    _, activity_id, kind, occurred, day, symbol, side, quantity, price, amount, order_id, settle, new, old, lots = row
    return Activity(
        activity_id=activity_id,
        kind=ActivityKind(kind),
        occurred_at=datetime.fromisoformat(occurred),
        trade_date=date.fromisoformat(day),
        symbol=symbol,
        side=None if side is None else Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        amount=Decimal(amount),
        broker_order_id=order_id,
        settle_date=None if settle is None else date.fromisoformat(settle),
        ratio_new=optional_decimal(new),
        ratio_old=optional_decimal(old),
        lots=lots_from_text(lots),
    )
