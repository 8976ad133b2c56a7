"""The store: one SQLite database behind named rooms. The only part of `state` with I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from sqlalchemy import func, select

from state.records import Side, TradeReason
from state.store import schema
from state.store.actions import CorporateActions
from state.store.database import Database
from state.store.errors import (
    JournalConflict,
    NotADatabase,
    SchemaMismatch,
    StorageFault,
    StoreError,
    storage_fault,
)
from state.store.events import BrokerEvents, RawEvent
from state.store.journal import MOST_PARAMETERS, DerivedLots, Household, Journal, Meta
from state.store.market import Coverage, Extent, FindingKind, MarketData, MarketFinding
from state.store.operations import (
    Agenda,
    Alerts,
    Command,
    Commands,
    Performance,
    PerformanceRow,
    PositionRow,
    Positions,
)
from state.store.states import DaemonStates, StateRow
from state.store.trading import Approval, FillRow, Orders, Plans

__all__ = [
    "Approval",
    "Command",
    "Coverage",
    "Extent",
    "FillRow",
    "FindingKind",
    "JournalConflict",
    "MarketFinding",
    "NotADatabase",
    "PerformanceRow",
    "PositionRow",
    "RawEvent",
    "SchemaMismatch",
    "StateRow",
    "StorageFault",
    "Store",
    "StoreError",
    "storage_fault",
]


class Store:
    """Everything the daemon knows, on disk. Raises NotADatabase and SchemaMismatch on opening."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.meta = Meta(database)
        self.household = Household(database)
        self.journal = Journal(database)
        self.lots = DerivedLots(database)
        self.plans = Plans(database)
        self.orders = Orders(database)
        self.agenda = Agenda(database)
        self.positions = Positions(database)
        self.alerts = Alerts(database)
        self.commands = Commands(database)
        self.events = BrokerEvents(database)
        self.market = MarketData(database)
        self.actions = CorporateActions(database)
        self.performance = Performance(database)
        self.states = DaemonStates(database)

    @classmethod
    def open(cls, path: Path, *, create: bool = False, read_only: bool = False, durable: bool = True) -> Store:
        """Open a database file; `durable` waits for the disk at each commit."""
        return cls(Database(path, create=create, read_only=read_only, durable=durable))

    @classmethod
    def private_copy(cls, path: Path) -> Store:
        """A copy in memory, for asking what would happen."""
        return cls(Database.private_copy(path))

    @property
    def path(self) -> Path:
        """The database file."""
        return self.database.path

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside reach the disk together, or none."""
        with self.database.transaction():
            yield

    def replaced_by(self, execution_ids: Iterable[str]) -> dict[str, str]:
        """Of the executions that bought a replacement: the name that each of them stands in for."""
        wanted, found = list(execution_ids), {}
        orders, trades, fills = schema.orders, schema.rebalancing_trades, schema.fills
        statement = (
            select(fills.c.execution_id, trades.c.replacement)
            .join(orders, orders.c.client_order_id == fills.c.client_order_id)
            .join(trades, (trades.c.plan_id == orders.c.plan_id) & (trades.c.leg == orders.c.leg))
            .where(trades.c.reason == TradeReason.REPLACEMENT.value)
        )
        for start in range(0, len(wanted), MOST_PARAMETERS):
            part = statement.where(fills.c.execution_id.in_(wanted[start : start + MOST_PARAMETERS]))
            found.update(
                {row.execution_id: row.replacement[0] for row in self.database.execute(part) if row.replacement}
            )
        return found

    def is_work_waiting(self, account_id: str) -> bool:
        """True while a plan, an intent or a command is open."""
        return (
            self.plans.is_any_open(account_id) or self.orders.is_any_open(account_id) or self.commands.is_any_waiting()
        )

    def harvested(self) -> tuple[tuple[date, str], ...]:
        """Session and symbol of every leg that sold at a loss on purpose and was filled, oldest first."""
        orders, trades, fills = schema.orders, schema.rebalancing_trades, schema.fills
        reasons = [reason.value for reason in TradeReason if reason.is_harvest]
        statement = (
            select(orders.c.session, orders.c.symbol, func.min(fills.c.executed_at))
            .join(trades, (trades.c.plan_id == orders.c.plan_id) & (trades.c.leg == orders.c.leg))
            .join(fills, fills.c.client_order_id == orders.c.client_order_id)
            .where(trades.c.side == Side.SELL.value, trades.c.reason.in_(reasons))
            .group_by(orders.c.plan_id, orders.c.leg)
            .order_by(func.min(fills.c.executed_at), orders.c.symbol)
        )
        return tuple((row.session, row.symbol) for row in self.database.execute(statement))

    def close(self) -> None:
        """Release the file."""
        self.database.close()
