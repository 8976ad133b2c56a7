"""One SQLite database: opening, upgrading, transactions.

WAL mode. `synchronous=FULL` where an intent must survive a power cut; NORMAL in simulation, where surviving a
killed process is enough. Transactions are explicit `BEGIN IMMEDIATE`, re-entrant, and end in COMMIT or ROLLBACK:
what a step of the cycle decides is on disk whole or not at all. So does an upgrade: every statement of every
migration is one transaction, and until its COMMIT the file is the old one to everybody.

Readers never hold a lock that a writer waits for: they read the snapshot of their first look (WAL), from a connection
that cannot write.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import Column, CursorResult, Date, Executable, Table, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from state.store import revisions
from state.store.errors import NotADatabase, SchemaMismatch, storage_fault

WAIT_S = 10.0  # for another process's write lock
_Codec = Callable[[Any], Any] | None
_DIALECT = sqlite.dialect()


class Database:
    """A connection with explicit transactions.

    Raises NotADatabase when the file is missing (and `create` is not asked for) or is not harvestd's, SchemaOutdated
    when an older version wrote it, SchemaMismatch when a newer or unknown one did. `read_only` reads an older one all
    the same: as a copy in memory, brought up there.
    """

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False, durable: bool = True) -> None:
        self.path = path
        if create and not path.exists():
            _create(path)
        exists = path.exists() and path.stat().st_size > 0
        if not exists:
            raise NotADatabase(
                f"Expected a harvestd database at {path}, found none. `harvestd demo` makes one to look around in."
            )
        revision = revision_of(path)
        if not (read_only and revisions.is_older(revision)):
            revisions.require_newest(path, revision)
        self._attach(_for_reading(path) if read_only else _for_work(path, durable=durable))

    def _attach(self, raw: sqlite3.Connection) -> None:
        self._raw = raw
        self._engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._depth = 0
        self.rollbacks = 0  # how often what was written was taken back: what is remembered of a table ends with one

    @classmethod
    def private_copy(cls, path: Path) -> Database:
        """An in-memory copy: what is done to it stays in this process, and the file is not touched."""
        source = Database(path, read_only=True)
        raw = _in_memory(source._raw)
        source.close()
        copy = cls.__new__(cls)
        copy.path = path
        raw.execute("PRAGMA foreign_keys=ON")
        copy._attach(raw)
        return copy

    @property
    def connection(self) -> Any:
        """The SQLAlchemy connection, for Alembic."""
        return self._connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are committed together, or none. Nested calls join the outermost.

        A commit that fails takes everything back and raises: nothing of it happened, and the next transaction begins
        anew.
        """
        if self._depth == 0:
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self._connection.exec_driver_sql("COMMIT")
        except BaseException:
            if self._depth == 1:
                self._take_back()
            raise
        finally:
            self._depth -= 1

    def _take_back(self) -> None:
        self.rollbacks += 1
        if self._raw.in_transaction:  # a full or failing disk makes SQLite take it back by itself
            self._connection.exec_driver_sql("ROLLBACK")

    def execute(
        self, statement: Executable, rows: Sequence[dict[str, Any]] | dict[str, Any] | None = None
    ) -> CursorResult[Any]:
        """Run one statement; with a list of rows, once for each."""
        return self._connection.execute(statement, rows)

    def insert(self, table: Table, row: Mapping[str, Any]) -> None:
        """Insert one row, straight through the driver; a row whose key exists raises sqlite3.IntegrityError."""
        names = tuple(row)
        statement, encoders = _insertion(table, names, "")
        self._raw.execute(statement, _encoded(row, names, encoders))

    def insert_records(
        self,
        table: Table,
        records: Iterable[Any],
        values: Iterable[Any] = (),
        *,
        beside: str | None = None,
        known: Literal["fail", "keep"] = "fail",
    ) -> int:
        """Insert records whose fields are columns of their own names: ten times as fast as a statement each.

        Values pass through the columns' own types. A row whose key exists raises sqlite3.IntegrityError, or is left
        as it is. All of them or none: joins a transaction that is open. Returns the number of rows inserted. With
        `beside`, the column of that name gets one of `values` for each record.
        """
        others = iter(records)
        first = next(others, None)
        if first is None:
            return 0
        names = tuple(first.__dataclass_fields__)
        on_conflict = " ON CONFLICT DO NOTHING" if known == "keep" else ""
        statement, encoders = _insertion(table, names if beside is None else (*names, beside), on_conflict)
        of_record = attrgetter(*names)
        rows: Iterable[tuple[Any, ...]] = map(of_record, chain((first,), others))
        if beside is not None:
            rows = ((*row, value) for row, value in zip(rows, values, strict=True))
        before = self._raw.total_changes
        with self.transaction():
            self._raw.executemany(
                statement,
                (
                    [encode(value) if encode else value for value, encode in zip(row, encoders, strict=True)]
                    for row in rows
                ),
            )
        return self._raw.total_changes - before

    def update(self, table: Table, key: str, value: Any, row: Mapping[str, Any]) -> None:
        """Write the columns of `row` where the column `key` has that value, straight through the driver."""
        names = tuple(row)
        columns = ", ".join(f'"{name}" = ?' for name in names)
        values = _encoded(row, names, _encoders(table, names))
        self._raw.execute(f'UPDATE "{table.name}" SET {columns} WHERE "{key}" = ?', (*values, value))

    def delete(self, table: Table, columns: Sequence[str], keys: Iterable[Sequence[Any]]) -> None:
        """Delete the rows whose `columns` have the values of one of `keys`."""
        where = " AND ".join(f'"{name}" = ?' for name in columns)
        self._raw.executemany(f'DELETE FROM "{table.name}" WHERE {where}', [tuple(key) for key in keys])

    def delete_where(self, table: Table, where: str, parameters: Sequence[Any]) -> int:
        """Delete the rows that meet a condition; returns how many."""
        return self._raw.execute(f'DELETE FROM "{table.name}" WHERE {where}', parameters).rowcount

    def read(self, table: Table, rest: str = "", parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Rows of a whole table as its columns' types, straight through the driver; `rest` follows the FROM clause."""
        names, decoders = _columns(table)
        columns = ", ".join(f'"{name}"' for name in names)
        for row in self._raw.execute(f'SELECT {columns} FROM "{table.name}" {rest}', parameters):
            yield {
                name: decode(value) if decode and value is not None else value
                for name, decode, value in zip(names, decoders, row, strict=True)
            }

    def select(self, table: Table, names: Sequence[str], rest: str = "") -> Iterator[tuple[Any, ...]]:
        """Some columns of a table as tuples, values as their columns' types; equal days are one object."""
        decoders = [
            _remembering(decode) if decode == date.fromisoformat else decode for decode in _decoders(table, names)
        ]
        columns = ", ".join(f'"{name}"' for name in names)
        for row in self._raw.execute(f'SELECT {columns} FROM "{table.name}" {rest}'):
            yield tuple([decode(value) if decode else value for decode, value in zip(decoders, row, strict=True)])

    def exists(self, table: Table, where: str, parameters: Sequence[Any] = ()) -> bool:
        """True when a row of the table meets the condition."""
        found = self._raw.execute(f'SELECT 1 FROM "{table.name}" WHERE {where} LIMIT 1', parameters)
        return found.fetchone() is not None

    def close(self) -> None:
        """Release the file."""
        self._connection.close()
        self._engine.dispose()
        self._raw.close()


@cache
def _insertion(table: Table, names: tuple[str, ...], on_conflict: str) -> tuple[str, tuple[_Codec, ...]]:
    """The statement and one encoder a column."""
    columns = ", ".join(f'"{name}"' for name in names)
    places = ", ".join("?" * len(names))
    return f'INSERT INTO "{table.name}" ({columns}) VALUES ({places}){on_conflict}', _encoders(table, names)


def _encoded(row: Mapping[str, Any], names: Sequence[str], encoders: Sequence[_Codec]) -> tuple[Any, ...]:
    """The values of a row as SQLite keeps them."""
    return tuple([encode(row[name]) if encode else row[name] for name, encode in zip(names, encoders, strict=True)])


def _date_text(value: date | None) -> str | None:
    return None if value is None else value.isoformat()


@cache
def _encoders(table: Table, names: tuple[str, ...]) -> tuple[_Codec, ...]:
    return tuple(_codec(table.c[name], "encode") for name in names)


@cache
def _columns(table: Table) -> tuple[tuple[str, ...], tuple[_Codec, ...]]:
    """The columns' names and one decoder each."""
    return tuple(table.columns.keys()), tuple(_codec(column, "decode") for column in table.columns)


def _decoders(table: Table, names: Sequence[str]) -> tuple[_Codec, ...]:
    return tuple(_codec(table.c[name], "decode") for name in names)


def _remembering(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The decoder, for columns of few values that come again and again."""
    known: dict[Any, Any] = {}

    def remembered(value: Any) -> Any:
        found = known.get(value)
        if found is None:
            found = known[value] = decode(value)
        return found

    return remembered


def _codec(column: Column[Any], which: Literal["encode", "decode"]) -> _Codec:
    """How a column's values become SQLite's, or are read from them: our own types say so, SQLAlchemy for the rest."""
    own = getattr(column.type, which, None)
    if own is not None:
        return cast(_Codec, own)
    if isinstance(column.type, Date):
        return _date_text if which == "encode" else date.fromisoformat
    kind = column.type.dialect_impl(_DIALECT)
    if which == "encode":
        return kind.bind_processor(_DIALECT)
    return kind.result_processor(_DIALECT, None)


def _create(path: Path) -> None:
    """A new database, migrated and marked as ours: made beside its place and moved there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f"{path.name}.new-{os.getpid()}")
    raw = sqlite3.connect(making, isolation_level=None)
    making.chmod(0o600)
    try:
        with _bare(raw, making) as fresh:
            _migrate(fresh)
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    return sqlite3.connect(place, uri=True, isolation_level=None, timeout=WAIT_S, check_same_thread=False)


def _for_work(path: Path, *, durable: bool) -> sqlite3.Connection:
    """A connection that writes."""
    raw = _open(path, read_only=False)
    try:
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        raw.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        raw.close()
        raise
    return raw


def _for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write to the file; to a copy in memory, where the file is of an older revision."""
    raw = _open(path, read_only=True)
    try:
        if not revisions.is_older(revisions.identified(raw, path)):
            return raw
        copy = _in_memory(raw)
    except BaseException:
        raw.close()
        raise
    raw.close()
    with _bare(copy, path) as old:
        _migrate(old)
        newest = _in_memory(copy)
    newest.execute("PRAGMA query_only=ON")
    return newest


def _in_memory(source: sqlite3.Connection) -> sqlite3.Connection:
    """Everything of a database in memory."""
    raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    source.backup(raw)
    return raw


@contextmanager
def _bare(raw: sqlite3.Connection, path: Path) -> Iterator[Database]:
    """A database of whatever revision, to be migrated; closed afterwards."""
    bare = Database.__new__(Database)
    bare.path = path
    bare._attach(raw)
    try:
        yield bare
    finally:
        bare.close()


# ------------------------------------------------------------------ revisions


def revision_of(path: Path) -> str | None:
    """The schema revision of a database file, whichever it is; changes nothing. Raises NotADatabase."""
    raw = _open(path, read_only=True)
    try:
        return revisions.identified(raw, path)
    finally:
        raw.close()


def upgrade(path: Path) -> None:
    """Bring a database of an older revision to the newest, whole or not at all. The caller holds it alone.

    Raises SchemaMismatch when it cannot be done from what is there, SQLAlchemy's or sqlite3's error when the disk
    fails; the file is the old one then.
    """
    revision = revision_of(path)
    if not revisions.is_older(revision):
        revisions.require_newest(path, revision)
        return
    with _bare(_for_work(path, durable=True), path) as old:
        _migrate(old)


def _migrate(database: Database) -> None:
    """Bring an empty database, or one of an older revision, to the newest, through Alembic, in one transaction.

    References are not enforced meanwhile: a migration that copies a table drops the old one, and what refers to it
    would go, or stand in the way (SQLite, "Making Other Kinds Of Table Schema Changes"). They are checked before the
    commit instead.
    """
    from alembic import command
    from alembic.config import Config

    raw = database._raw
    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS))
    config.attributes["connection"] = database.connection
    raw.execute("PRAGMA foreign_keys=OFF")  # heeded only outside a transaction
    try:
        with database.transaction():
            command.upgrade(config, revisions.HEAD_REVISION)
            dangling = raw.execute("PRAGMA foreign_key_check").fetchall()
            if dangling:
                raise SchemaMismatch(
                    f"{database.path}: expected every row of {dangling[0][0]} to refer to one of {dangling[0][2]} "
                    f"after the upgrade to revision {revisions.HEAD_REVISION}, {len(dangling)} do not. Restore a "
                    "backup. Nothing was changed."
                )
            raw.execute(f"PRAGMA application_id={revisions.APPLICATION_ID}")
    except SQLAlchemyError as error:
        if storage_fault(error) is not None:
            raise
        raise SchemaMismatch(
            f"{database.path}: could not be brought to schema revision {revisions.HEAD_REVISION} from what is in it: "
            f"{getattr(error, 'orig', error)}. Restore a backup. Nothing was changed."
        ) from error
    finally:
        raw.execute("PRAGMA foreign_keys=ON")
