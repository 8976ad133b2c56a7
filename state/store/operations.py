"""What keeps the daemon going: agenda, cursors, positions and locks, alerts, commands, performance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import Alert
from state.store import schema
from state.store.database import Database
from state.store.rows import alert_from, row_of


@dataclass(frozen=True, slots=True)
class PositionRow:
    """What the broker last said we hold, since when it is so, and why the symbol is locked, if it is."""

    account_id: str
    symbol: str
    quantity: Decimal
    as_of: datetime
    lock_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A request to the cycle thread, from the command line."""

    command_id: str
    command: str
    argument: str
    created_at: datetime
    created_by: str
    taken_at: datetime | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """One account at one close. `external_flow` is deposits less withdrawals since the previous close."""

    account_id: str
    session: date
    nav: Decimal
    cash: Decimal
    external_flow: Decimal
    benchmark_nav: Decimal
    tracking_error_bps: float | None
    tracking_error_note: str
    bought: Decimal
    sold: Decimal


class Agenda:
    """Which task is done for which session, and how far each broker stream was read."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def done(self, session: date, account_id: str) -> frozenset[str]:
        """Tasks done for a session."""
        table = schema.agenda_done
        statement = select(table.c.task).where(table.c.session == session, table.c.account_id == account_id)
        return frozenset(self._db.execute(statement).scalars())

    def done_at(self, session: date, task: str, account_id: str) -> datetime | None:
        """When a task of a session was done."""
        table = schema.agenda_done
        statement = select(table.c.done_at).where(
            table.c.session == session, table.c.task == task, table.c.account_id == account_id
        )
        return self._db.execute(statement).scalar_one_or_none()

    def mark(self, session: date, task: str, account_id: str, at: datetime) -> None:
        """Note a task as done; doing so twice changes nothing."""
        row = {"session": session, "task": task, "account_id": account_id, "done_at": at}
        self._db.execute(upsert(schema.agenda_done).values(row).on_conflict_do_nothing())

    def last_session(self, task: str, account_id: str) -> date | None:
        """The newest session for which a task is done."""
        table = schema.agenda_done
        statement = select(func.max(table.c.session)).where(table.c.task == task, table.c.account_id == account_id)
        return self._db.execute(statement).scalar()

    def count(self, task: str, account_id: str) -> int:
        """For how many sessions a task is done."""
        table = schema.agenda_done
        statement = select(func.count()).where(table.c.task == task, table.c.account_id == account_id)
        return int(self._db.execute(statement).scalar_one())

    def cursor(self, account_id: str, stream: str) -> str | None:
        """How far a broker stream was read."""
        table = schema.broker_cursors
        statement = select(table.c.cursor).where(table.c.account_id == account_id, table.c.stream == stream)
        return self._db.execute(statement).scalar_one_or_none()

    def set_cursor(self, account_id: str, stream: str, cursor: str) -> None:
        """Remember how far a broker stream was read."""
        row = {"account_id": account_id, "stream": stream, "cursor": cursor}
        statement = upsert(schema.broker_cursors).values(row)
        self._db.execute(
            statement.on_conflict_do_update(index_elements=["account_id", "stream"], set_={"cursor": cursor})
        )


class Positions:
    """The broker's positions as last read."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def replace(self, account_id: str, rows: Iterable[PositionRow]) -> None:
        """Make these the positions of one account; what did not change keeps the time it was first seen so."""
        known = {row.symbol: row for row in self.list(account_id)}
        new = {row.symbol: row for row in rows}
        changed = [row for symbol, row in new.items() if symbol not in known or _differs(row, known[symbol])]
        gone = [(account_id, symbol) for symbol in known if symbol not in new]
        with self._db.transaction():
            keys = [*gone, *((account_id, row.symbol) for row in changed)]
            self._db.delete(schema.positions, ("account_id", "symbol"), keys)
            self._db.insert_records(schema.positions, changed)

    def list(self, account_id: str | None = None) -> tuple[PositionRow, ...]:
        """Positions by account and symbol."""
        where = "WHERE account_id = ? " if account_id else ""
        rows = self._db.read(
            schema.positions, f"{where}ORDER BY account_id, symbol", (account_id,) if account_id else ()
        )
        return tuple(PositionRow(**row) for row in rows)


def _differs(one: PositionRow, other: PositionRow) -> bool:
    return (one.quantity, one.lock_reason) != (other.quantity, other.lock_reason)


class Alerts:
    """The outbox: one alert an incident, one "recovered"."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, alert: Alert) -> bool:
        """Add an alert unless its incident is already open; a recovery only when it is. True when added."""
        newest = self._newest(alert.key)
        is_open = newest is not None and not newest.recovered
        if is_open != alert.recovered:
            return False
        self._db.insert_records(schema.alerts, [alert])
        return True

    def reword(self, key: str, message: str) -> None:
        """What an open incident says from now on; it is not handed on again."""
        newest = self._newest(key)
        if newest is not None and not newest.recovered and newest.message != message:
            table = schema.alerts
            last = select(func.max(table.c.alert_id)).where(table.c.key == key).scalar_subquery()
            self._db.execute(update(table).where(table.c.alert_id == last).values(message=message))

    def _newest(self, key: str) -> Alert | None:
        rows = self._db.read(schema.alerts, "WHERE key = ? ORDER BY alert_id DESC LIMIT 1", (key,))
        return next(map(alert_from, rows), None)

    def unsent(self) -> tuple[tuple[int, Alert], ...]:
        """Alerts not yet handed to the notifier, oldest first, with their row ids."""
        rows = self._db.read(schema.alerts, "WHERE sent_at IS NULL ORDER BY alert_id")
        return tuple((row["alert_id"], alert_from(row)) for row in rows)

    def mark_sent(self, alert_id: int, at: datetime) -> None:
        """Note that the notifier took it."""
        table = schema.alerts
        self._db.execute(update(table).where(table.c.alert_id == alert_id).values(sent_at=at))

    def list(self, most: int = 50) -> tuple[Alert, ...]:
        """The newest alerts, oldest first."""
        table = schema.alerts
        rows = list(self._db.execute(select(table).order_by(table.c.alert_id.desc()).limit(most)).mappings())
        return tuple(alert_from(row) for row in reversed(rows))

    def count(self, prefix: str) -> int:
        """Incidents ever opened whose key starts with `prefix`."""
        table = schema.alerts
        statement = select(func.count()).where(
            table.c.key.startswith(prefix, autoescape=True), table.c.recovered.is_(False)
        )
        return int(self._db.execute(statement).scalar_one())

    def open_keys(self, prefix: str) -> tuple[str, ...]:
        """Keys of incidents that have not recovered, starting with `prefix`."""
        table = schema.alerts
        newest = (
            select(func.max(table.c.alert_id))
            .where(table.c.key.startswith(prefix, autoescape=True))
            .group_by(table.c.key)
        )
        statement = select(table.c.key).where(table.c.alert_id.in_(newest), table.c.recovered.is_(False))
        return tuple(self._db.execute(statement.order_by(table.c.key)).scalars())

    def open_incidents(self, prefix: str) -> tuple[Alert, ...]:
        """Incidents that have not recovered, whose key starts with `prefix`, by key."""
        table = schema.alerts
        newest = (
            select(func.max(table.c.alert_id))
            .where(table.c.key.startswith(prefix, autoescape=True))
            .group_by(table.c.key)
        )
        statement = select(table).where(table.c.alert_id.in_(newest), table.c.recovered.is_(False))
        return tuple(alert_from(row) for row in self._db.execute(statement.order_by(table.c.key)).mappings())


class Commands:
    """The inbox: what the command line asks of the cycle thread."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, command: Command) -> bool:
        """Add a command once; False when its id was known."""
        statement = upsert(schema.commands).values(row_of(command)).on_conflict_do_nothing()
        return self._db.execute(statement).rowcount == 1

    def waiting(self) -> tuple[Command, ...]:
        """Commands nobody has taken, oldest first."""
        table = schema.commands
        statement = select(table).where(table.c.taken_at.is_(None)).order_by(table.c.created_at, table.c.command_id)
        return tuple(Command(**row) for row in self._db.execute(statement).mappings())

    def is_any_waiting(self) -> bool:
        """True while a command has not been taken."""
        return self._db.exists(schema.commands, "taken_at IS NULL")

    def take(self, command_id: str, at: datetime, outcome: str) -> None:
        """Note what became of a command."""
        table = schema.commands
        self._db.execute(update(table).where(table.c.command_id == command_id).values(taken_at=at, outcome=outcome))


class Performance:
    """One row a session and account."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, row: PerformanceRow) -> None:
        """Insert or replace a session's row."""
        values = row_of(row)
        statement = upsert(schema.daily_performance).values(values)
        self._db.execute(statement.on_conflict_do_update(index_elements=["account_id", "session"], set_=values))

    def rows(self, account_id: str) -> tuple[PerformanceRow, ...]:
        """Rows of one account by session."""
        table = schema.daily_performance
        statement = select(table).where(table.c.account_id == account_id).order_by(table.c.session)
        return tuple(PerformanceRow(**row) for row in self._db.execute(statement).mappings())

    def last(self, account_id: str) -> PerformanceRow | None:
        """The newest row of one account."""
        table = schema.daily_performance
        statement = select(table).where(table.c.account_id == account_id).order_by(table.c.session.desc()).limit(1)
        row = self._db.execute(statement).mappings().first()
        return PerformanceRow(**row) if row else None
