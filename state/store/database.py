"""One SQLite database: opening, migrations, transactions.

WAL mode. `synchronous=FULL` where an intent must survive a power cut; NORMAL in simulation, where surviving a
killed process is enough. Transactions are explicit `BEGIN IMMEDIATE`, re-entrant, and end in COMMIT or ROLLBACK:
what a step of the cycle decides is on disk whole or not at all.
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
from sqlalchemy.pool import StaticPool

from state.store.errors import NotADatabase, SchemaMismatch

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD_REVISION = "0003"  # the newest revision this code knows; a test holds it to the migrations folder
_Codec = Callable[[Any], Any] | None
_DIALECT = sqlite.dialect()
APPLICATION_ID = 0x48525653  # "HRVS": marks the file as ours (PRAGMA application_id)


class Database:
    """A connection with explicit transactions.

    Raises NotADatabase when the file is missing (and `create` is not asked for) or is not harvestd's, and
    SchemaMismatch when it was written by another version.
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
        raw = _open(path, read_only=read_only)
        try:
            _check_identity(raw, path)
            if not read_only:
                raw.execute("PRAGMA journal_mode=WAL")
                raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            raw.execute("PRAGMA foreign_keys=ON")
        except BaseException:
            raw.close()
            raise
        self._attach(raw)
        self._check_revision()

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
        raw = sqlite3.connect(":memory:", isolation_level=None)
        source._raw.backup(raw)
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
        """All writes inside are committed together, or none. Nested calls join the outermost."""
        if self._depth == 0:
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._connection.exec_driver_sql("ROLLBACK")
                self.rollbacks += 1
            raise
        self._depth -= 1
        if self._depth == 0:
            self._connection.exec_driver_sql("COMMIT")

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

    def _check_revision(self) -> None:
        found = self._raw.execute("SELECT version_num FROM alembic_version").fetchone()
        if found is None or found[0] != HEAD_REVISION:
            seen = found[0] if found else "none"
            raise SchemaMismatch(
                f"{self.path}: expected schema revision {HEAD_REVISION}, was {seen}. "
                "Run the version of harvestd that wrote it, or restore a backup made with this one; `harvestd demo` "
                "makes a demo's database anew."
            )

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
    fresh = Database.__new__(Database)
    fresh.path = making
    fresh._attach(raw)
    try:
        migrate(fresh)
        fresh.close()
        making.replace(path)
    finally:
        making.unlink(missing_ok=True)


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if read_only:
        return sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=10, check_same_thread=False
        )
    return sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)


def _check_identity(raw: sqlite3.Connection, path: Path) -> None:
    try:
        found = raw.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise NotADatabase(f"{path}: expected a harvestd database, was not an SQLite file ({error}).") from error
    if found != APPLICATION_ID:
        raise NotADatabase(f"{path}: expected a harvestd database, was another program's SQLite file.")


def migrate(database: Database) -> None:
    """Bring an empty database to the newest revision, through Alembic."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = database.connection
    with database.transaction():
        command.upgrade(config, HEAD_REVISION)
        database.connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
