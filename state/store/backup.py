"""Copies of a database that others are using, each one file, whole or not there at all.

A database in WAL mode is up to three files, and a WAL that is left beside another database of the same name can be
replayed into it. So a backup is made by SQLite's own online copy, from one snapshot that the writer does not wait for,
and is a single file in rollback-journal mode. It is written beside its place under a passing name, made to reach the
disk, read back, and only then named.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from state.store.errors import CopyBroken
from state.store.revisions import identified

PAGES_A_STEP = 1_000  # of the online copy: 4 MB


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds, to compare a copy with what it was made from."""

    revision: str | None
    rows: Mapping[str, int]  # of every table


def copy_online(source: Path, target: Path) -> Contents:
    """Copy a database that may be in use to a new file that only its owner can read, and have it reach the disk.

    Raises NotADatabase, FileExistsError, sqlite3 or OS errors; the file is then the caller's to remove.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(_reading(source)) as live, closing(sqlite3.connect(target, isolation_level=None)) as copy:
        live.execute("BEGIN")  # one snapshot for counting and copying: what is written meanwhile does not begin it anew
        contents = _contents(live, source)
        live.backup(copy, pages=PAGES_A_STEP)
        live.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode=DELETE")
    synced(target)
    return contents


def check_copy(target: Path, expected: Contents) -> None:
    """Read a copy back: sound, whole and of the same contents. Raises CopyBroken with what is not."""
    with closing(_reading(target)) as copy:
        try:
            faults = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            faults += [
                f"a row of {row[0]} refers to none of {row[2]}" for row in copy.execute("PRAGMA foreign_key_check")
            ]
            found = _contents(copy, target)
        except sqlite3.DatabaseError as error:
            raise CopyBroken(f"{target}: expected a sound copy of the database, could not be read: {error}.") from error
    if found.revision != expected.revision:
        faults.append(f"schema revision {found.revision} instead of {expected.revision}")
    for table in sorted(expected.rows.keys() | found.rows.keys()):
        wanted, seen = expected.rows.get(table), found.rows.get(table)
        if wanted != seen:
            faults.append(f"{table} has {seen} rows instead of {wanted}")
    if faults:
        raise CopyBroken(f"{target}: expected a sound copy of the database, was: {'; '.join(faults)}.")


def fact_in(path: Path, key: str) -> str | None:
    """A fact that a copy holds in its `meta`; None when it holds none, or is no database that can be read."""
    try:
        with closing(_reading(path)) as copy:
            row = copy.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


@contextmanager
def aside(passing: Path) -> Iterator[Path]:
    """A passing name to write under; whatever is still called so afterwards, or was left by a killed process, goes."""
    remove(passing)
    try:
        yield passing
    finally:
        remove(passing)


def remove(path: Path) -> None:
    """Take a database file away, with what SQLite may have left beside it."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def synced(path: Path) -> None:
    """Have a file, or a folder's names, reach the disk. Raises OSError when the disk says no."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)


def _contents(raw: sqlite3.Connection, path: Path) -> Contents:
    revision = identified(raw, path)
    tables = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchall()
    return Contents(revision, {name: raw.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables})
