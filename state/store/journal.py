"""The journal, the lots and realized rows derived from it, and the household they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import Account, Lot, RealizedRow, Security, Transaction
from state.store import schema
from state.store.database import Database
from state.store.errors import JournalConflict
from state.store.rows import account_from, lot_from, realized_from, row_of, security_from, transaction_from


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
        added: list[Transaction] = []
        with self._db.transaction():
            for transaction in transactions:
                known = self._find(transaction.transaction_id)
                stamped = replace(transaction, recorded_at=recorded_at)
                if known is None:
                    self._db.execute(insert(schema.transactions).values(row_of(stamped)))
                    added.append(stamped)
                elif replace(known, recorded_at=recorded_at) != stamped:
                    raise JournalConflict(
                        f"Transaction {transaction.transaction_id} of account {transaction.account_id} came again "
                        f"with another content. Expected {known}, was {transaction}."
                    )
        return tuple(added)

    def _find(self, transaction_id: str) -> Transaction | None:
        table = schema.transactions
        row = self._db.execute(select(table).where(table.c.transaction_id == transaction_id)).mappings().first()
        return transaction_from(row) if row else None

    def all(self) -> tuple[Transaction, ...]:
        """The whole journal in the order it was learned."""
        table = schema.transactions
        rows = self._db.execute(select(table).order_by(table.c.journal_sequence)).mappings()
        return tuple(transaction_from(row) for row in rows)

    def since(self, account_id: str, instant: datetime | None) -> tuple[Transaction, ...]:
        """Rows of one account learned after `instant` (None: all), in the order they were learned."""
        table = schema.transactions
        statement = select(table).where(table.c.account_id == account_id).order_by(table.c.journal_sequence)
        if instant is not None:
            statement = statement.where(table.c.recorded_at > instant)
        return tuple(transaction_from(row) for row in self._db.execute(statement).mappings())

    def cash(self, account_id: str) -> Decimal:
        """Cash of one account as the journal has it: the exact sum of all amounts, in USD."""
        table = schema.transactions
        rows = self._db.execute(select(table.c.amount).where(table.c.account_id == account_id)).scalars()
        return sum(rows, Decimal(0))

    def learned_since(self, instant: datetime, account_id: str) -> bool:
        """True when something other than executions of our own orders in `account_id` was learned after `instant`."""
        table = schema.transactions
        statement = select(table.c.journal_sequence).where(
            table.c.recorded_at > instant, or_(table.c.account_id != account_id, table.c.client_order_id.is_(None))
        )
        return self._db.execute(statement.limit(1)).first() is not None

    def count(self) -> int:
        """Number of journal rows."""
        return int(self._db.execute(select(func.count()).select_from(schema.transactions)).scalar_one())


class DerivedLots:
    """Open lots and realized rows as the last replay derived them. Never edited: replaced, symbol by symbol."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def replace_symbols(
        self,
        symbols: Iterable[str],
        queues: Iterable[tuple[Lot, ...]],
        realized: Iterable[RealizedRow],
    ) -> None:
        """Replace everything stored for `symbols` by the given disposal queues and realized rows."""
        touched = sorted(symbols)
        lots = [row_of(lot, queue_position=place) for queue in queues for place, lot in enumerate(queue)]
        rows = [row_of(row) for row in realized]
        with self._db.transaction():
            self._db.execute(delete(schema.tax_lots).where(schema.tax_lots.c.symbol.in_(touched)))
            self._db.execute(delete(schema.realized_gains).where(schema.realized_gains.c.symbol.in_(touched)))
            if lots:
                self._db.execute(insert(schema.tax_lots), lots)
            if rows:
                self._db.execute(insert(schema.realized_gains), rows)

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
        self, account_id: str | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[RealizedRow, ...]:
        """Realized rows disposed of in [start, end], by date."""
        table = schema.realized_gains
        statement = select(table).order_by(table.c.disposed, table.c.account_id, table.c.symbol, table.c.row_id)
        if account_id:
            statement = statement.where(table.c.account_id == account_id)
        if start:
            statement = statement.where(table.c.disposed >= start)
        if end:
            statement = statement.where(table.c.disposed <= end)
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
