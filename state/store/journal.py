"""The journal, the lots and realized rows derived from it, and the household they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import Account, Lot, RealizedRow, Restatement, Security, Transaction
from state.store import schema
from state.store.database import Database
from state.store.errors import JournalConflict
from state.store.rows import (
    account_from,
    lot_from,
    realized_from,
    restatement_from,
    row_of,
    security_from,
    transaction_from,
)
from state.store.types import UtcInstant

MOST_PARAMETERS = 500  # in one statement; SQLite's own limit was once 999


class Household:
    """Accounts and securities."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put_accounts(self, accounts: Iterable[Account]) -> None:
        """Insert or update accounts."""
        for account in accounts:
            row = row_of(account)
            statement = upsert(schema.accounts).values(row)
            self._db.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=row))

    def accounts(self) -> tuple[Account, ...]:
        """Every account of the household, by id."""
        rows = self._db.execute(select(schema.accounts).order_by(schema.accounts.c.account_id)).mappings()
        return tuple(account_from(row) for row in rows)

    def put_securities(self, securities: Iterable[Security]) -> None:
        """Insert or update securities."""
        for security in securities:
            row = row_of(security)
            statement = upsert(schema.securities).values(row)
            self._db.execute(statement.on_conflict_do_update(index_elements=["symbol"], set_=row))

    def securities(self) -> dict[str, Security]:
        """Every security known, by symbol."""
        rows = self._db.execute(select(schema.securities).order_by(schema.securities.c.symbol)).mappings()
        return {row["symbol"]: security_from(row) for row in rows}


class Journal:
    """The append-only record of what happened."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def append(self, transactions: Iterable[Transaction], recorded_at: datetime) -> tuple[Transaction, ...]:
        """Add rows not seen before and return them; a row seen before with the same content is left alone.

        Raises JournalConflict when an id comes back with another content: nothing of the batch is then written.
        """
        rows = list(transactions)
        with self._db.transaction():
            known = self._find(row.transaction_id for row in rows)
            added: list[Transaction] = []
            for transaction in rows:
                stamped = replace(transaction, recorded_at=recorded_at)
                seen = known.get(transaction.transaction_id)
                if seen is None:
                    known[transaction.transaction_id] = stamped
                    added.append(stamped)
                elif replace(seen, recorded_at=recorded_at) != stamped:
                    raise JournalConflict(
                        f"Transaction {transaction.transaction_id} of account {transaction.account_id} came again "
                        f"with another content. Expected {seen}, was {transaction}."
                    )
            self._db.insert_records(schema.transactions, added)
        return tuple(added)

    def _find(self, transaction_ids: Iterable[str]) -> dict[str, Transaction]:
        """The rows already there, by id."""
        wanted = list(transaction_ids)
        found = {}
        for start in range(0, len(wanted), MOST_PARAMETERS):
            part = wanted[start : start + MOST_PARAMETERS]
            rest = f"WHERE transaction_id IN ({', '.join('?' * len(part))})"
            for row in self._db.read(schema.transactions, rest, part):
                transaction = transaction_from(row)
                found[transaction.transaction_id] = transaction
        return found

    def all(self) -> tuple[Transaction, ...]:
        """The whole journal in the order it was learned."""
        return tuple(map(transaction_from, self._db.read(schema.transactions, "ORDER BY journal_sequence")))

    def since(self, account_id: str, instant: datetime | None) -> tuple[Transaction, ...]:
        """Rows of one account learned after `instant` (None: all), in the order they were learned."""
        after = " AND recorded_at > ?" if instant is not None else ""
        values = (account_id,) if instant is None else (account_id, UtcInstant.encode(instant))
        rest = f"WHERE account_id = ?{after} ORDER BY journal_sequence"
        return tuple(map(transaction_from, self._db.read(schema.transactions, rest, values)))

    def versions(self, transaction_ids: Iterable[str]) -> dict[str, list[Transaction]]:
        """Of each id that is known: its row, and all rows that correct it, one another's corrections included, in the
        order they were learned."""
        found = {transaction_id: [row] for transaction_id, row in self._find(transaction_ids).items()}
        first_of = {transaction_id: transaction_id for transaction_id in found}
        wanted = list(found)
        while wanted:
            part, wanted = wanted[:MOST_PARAMETERS], wanted[MOST_PARAMETERS:]
            rest = f"WHERE supersedes IN ({', '.join('?' * len(part))}) ORDER BY journal_sequence"
            for row in map(transaction_from, self._db.read(schema.transactions, rest, part)):
                if row.supersedes is not None and row.transaction_id not in first_of:
                    first = first_of[row.transaction_id] = first_of[row.supersedes]
                    found[first].append(row)
                    wanted.append(row.transaction_id)
        return found

    def told_by(self, account_id: str, source: str, start: date) -> tuple[Transaction, ...]:
        """Rows that one source told of one account, traded on `start` or later, in the order they were learned."""
        rest = "WHERE account_id = ? AND source = ? AND trade_date >= ? ORDER BY journal_sequence"
        values = (account_id, source, start.isoformat())
        return tuple(map(transaction_from, self._db.read(schema.transactions, rest, values)))

    def about(self, account_id: str, symbol: str) -> tuple[Transaction, ...]:
        """Rows of one symbol in one account, by trade date."""
        rest = "WHERE symbol = ? AND account_id = ? ORDER BY trade_date, journal_sequence"
        return tuple(map(transaction_from, self._db.read(schema.transactions, rest, (symbol, account_id))))

    def splits_after(self, day: date) -> dict[str, tuple[Decimal, Decimal]]:
        """New and old shares of the splits that accounts' histories tell of after `day`, by symbol."""
        rows = self._db.read(schema.transactions, "WHERE kind = 'split' AND trade_date > ?", (day.isoformat(),))
        return {
            row["symbol"]: (row["ratio_new"], row["ratio_old"]) for row in rows if row["ratio_new"] and row["ratio_old"]
        }

    def cash(self, account_id: str) -> Decimal:
        """Cash of one account as the journal has it, in USD: the exact sum of the amounts no other row corrects."""
        table = schema.transactions
        corrected = select(table.c.supersedes).where(table.c.supersedes.is_not(None))
        rows = self._db.execute(
            select(table.c.amount).where(table.c.account_id == account_id, table.c.transaction_id.not_in(corrected))
        ).scalars()
        return sum(rows, Decimal(0))

    def learned_since(self, instant: datetime, account_id: str) -> bool:
        """True when something other than executions of our own orders in `account_id` was learned after `instant`."""
        table = schema.transactions
        statement = select(table.c.journal_sequence).where(
            table.c.recorded_at > instant, or_(table.c.account_id != account_id, table.c.client_order_id.is_(None))
        )
        return self._db.execute(statement.limit(1)).first() is not None

    def first_day(self, account_id: str) -> date | None:
        """The earliest trade date of an account's rows; None when it has none."""
        table = schema.transactions
        found: date | None = self._db.execute(
            select(func.min(table.c.trade_date)).where(table.c.account_id == account_id)
        ).scalar()
        return found

    def count(self) -> int:
        """Number of journal rows."""
        return int(self._db.execute(select(func.count()).select_from(schema.transactions)).scalar_one())


class DerivedLots:
    """Open lots and realized rows as the last replay derived them. Never edited: replaced, symbol by symbol."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def replace(
        self, queues: Mapping[tuple[str, str], Sequence[Lot]], sales: Mapping[str, Sequence[RealizedRow]]
    ) -> None:
        """Replace disposal queues by (account, symbol), and realized rows by sale id; an empty one is removed."""
        with self._db.transaction():
            self._db.delete(schema.tax_lots, ("account_id", "symbol"), queues)
            lots = [lot for queue in queues.values() for lot in queue]
            places = [place for queue in queues.values() for place in range(len(queue))]
            self._db.insert_records(schema.tax_lots, lots, places, beside="queue_position")
            self._db.delete(schema.realized_gains, ("sale_id",), [(sale_id,) for sale_id in sales])
            self._db.insert_records(schema.realized_gains, (row for rows in sales.values() for row in rows))

    def replace_all(
        self, queues: Mapping[tuple[str, str], Sequence[Lot]], sales: Mapping[str, Sequence[RealizedRow]]
    ) -> None:
        """Replace everything that is stored."""
        with self._db.transaction():
            self._db.execute(delete(schema.tax_lots))
            self._db.execute(delete(schema.realized_gains))
            self.replace(queues, sales)

    def put_restatements(self, restatements: Iterable[Restatement]) -> None:
        """Add restatements. Append-only: what was told is not untold."""
        self._db.insert_records(schema.restatements, restatements)

    def times_restated(self, sale_id: str) -> int:
        """How often a sale's figures were restated."""
        table = schema.restatements
        return int(self._db.execute(select(func.count()).where(table.c.sale_id == sale_id)).scalar_one())

    def restatements(self, since: date | None = None) -> tuple[Restatement, ...]:
        """Restatements in the order they were learned, of sales disposed of from `since` on."""
        table = schema.restatements
        statement = select(table).order_by(table.c.restatement_id)
        if since:
            statement = statement.where(table.c.disposed >= since)
        return tuple(restatement_from(row) for row in self._db.execute(statement).mappings())

    def lots(self, account_id: str | None = None, symbol: str | None = None) -> tuple[Lot, ...]:
        """Open lots by account, symbol and order of disposal."""
        table = schema.tax_lots
        statement = select(table).order_by(table.c.account_id, table.c.symbol, table.c.queue_position)
        if account_id:
            statement = statement.where(table.c.account_id == account_id)
        if symbol:
            statement = statement.where(table.c.symbol == symbol)
        return tuple(lot_from(row) for row in self._db.execute(statement).mappings())

    def realized(
        self,
        account_id: str | None = None,
        start: date | None = None,
        end: date | None = None,
        symbol: str | None = None,
    ) -> tuple[RealizedRow, ...]:
        """Realized rows disposed of in [start, end], by date, account, symbol and sale."""
        table = schema.realized_gains
        statement = select(table).order_by(
            table.c.disposed, table.c.account_id, table.c.symbol, table.c.sale_id, table.c.row_id
        )
        if account_id:
            statement = statement.where(table.c.account_id == account_id)
        if start:
            statement = statement.where(table.c.disposed >= start)
        if end:
            statement = statement.where(table.c.disposed <= end)
        if symbol:
            statement = statement.where(table.c.symbol == symbol)
        return tuple(realized_from(row) for row in self._db.execute(statement).mappings())


class Meta:
    """Named facts about the database itself: what it was made for and with which settings."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, key: str) -> str | None:
        """The fact's text, or None."""
        return self._db.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar_one_or_none()

    def put(self, key: str, value: str) -> None:
        """Set a fact."""
        statement = upsert(schema.meta).values(key=key, value=value)
        self._db.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))

    def starting(self, prefix: str) -> dict[str, str]:
        """The facts whose keys start with `prefix`, by key."""
        table = schema.meta
        statement = select(table).where(table.c.key >= prefix, table.c.key < prefix + "\uffff").order_by(table.c.key)
        return {row.key: row.value for row in self._db.execute(statement)}
