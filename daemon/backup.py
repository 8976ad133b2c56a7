"""Backups of a household's database: made while it is in use, verified by restoring them, and only then counted.

What is made:

    harvestd-20261121T223000Z.db               verified: sound, of the same rows, its journal replays to its lots
    harvestd-20261121T223000Z-before-0005.db   the same, made by an upgrade before it changed anything
    harvestd-20261121T223000Z.unverified.db    a true copy of a database whose lots are not what its journal says

The name begins with the database's own, then the instant in UTC. Each is one file that only its owner can read, with
everything in it: restoring is putting it in the database's place (docs/OPERATIONS.md). Only a verified backup lets
older ones go, those made by upgrades apart from the others, and nothing but files of these names is ever removed. A
copy that is not sound is no backup and is not kept.

No broker is asked, and no lease is needed: the daemon goes on meanwhile, halted or not.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from daemon.errors import BackupFailed, ConfigurationRefused
from daemon.lots_check import compare
from daemon.opening import one_name
from daemon.settings import Settings
from state.lots import LedgerError
from state.store import NotADatabase, SchemaMismatch, Store, StoreError
from state.store.backup import aside, check_copy, copy_online, synced
from state.store.errors import storage_fault

FOLDER = "backups"  # beside the database, unless config.yaml says otherwise
KEEP_BEFORE_UPGRADES = 3
LAST = "last_backup"  # in the store's meta: when the last verified one was made
LEFT_FREE = 64 * 1024 * 1024  # bytes of the disk that a backup leaves to the daemon
NOTE_WAIT_MS = 2_000  # for the database's write lock
INSTANT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy that was made. `differences` are what keeps it from being verified, empty when it is."""

    file: Path
    made_at: datetime
    size_bytes: int
    schema_revision: str
    transactions: int
    lots: int
    realized_rows: int
    rows: Mapping[str, int]  # of every table
    differences: tuple[str, ...]
    removed: tuple[Path, ...]  # older ones that it lets go
    kept: int  # backups of its kind that are there now, this one included
    not_noted: str = ""  # why the database does not know of it

    @property
    def is_verified(self) -> bool:
        """True when restoring it gives the lots that its journal says."""
        return not self.differences


def folder_of(settings: Settings | None, database: Path) -> Path:
    """Where the backups of a database lie."""
    return database.parent / (settings.database.backup_directory if settings is not None else FOLDER)


def back_up(
    database: Path,
    folder: Path,
    now: datetime,
    settings: Settings | None = None,
    *,
    keep: int,
    before: str | None = None,
) -> Backup:
    """Make a backup, verify it, and let older ones go: `keep` stay. `before` is the revision an upgrade is going to.

    Raises BackupFailed when none came about (nothing is left of it then, older ones stay), NotADatabase,
    SchemaMismatch for the database of a newer version, ConfigurationRefused for a demo's.
    """
    database = one_name(database)
    if not database.exists():
        raise NotADatabase(f"No database at {database} yet: nothing to back up. `harvestd run` makes one.")
    _require_household(database)
    made_at = now.astimezone(UTC).replace(microsecond=0)
    try:
        with _alone_in(folder), aside(folder / f"{database.stem}.making") as passing:
            _require_room(database, folder)
            contents = copy_online(database, passing)
            check_copy(passing, contents)
            found = _restored(passing, settings)
            place = folder / _name(database, made_at, before, verified=not found.differences)
            if place.exists():
                raise BackupFailed(f"{place}: a backup of this second is there already. Nothing was made.")
            size = passing.stat().st_size
            passing.rename(place)
            synced(folder)
            removed, kept = _let_go(place, database.stem, before, keep, verified=not found.differences)
    except SchemaMismatch:
        raise
    except StoreError as error:
        raise BackupFailed(f"No backup was made, older ones are as they were. {error}") from error
    except (sqlite3.Error, DBAPIError, OSError) as error:
        raise BackupFailed(
            f"No backup was made in {folder}, and nothing is left of it; older ones are as they were. Expected to copy "
            f"{database}, the system says: {getattr(error, 'orig', error)}. {_remedy(error)}"
        ) from error
    not_noted = "" if found.differences else _note(database, made_at)
    return Backup(
        place,
        made_at,
        size,
        str(contents.revision),
        found.transactions,
        found.lots,
        found.realized,
        contents.rows,
        found.differences,
        removed,
        kept,
        not_noted,
    )


# ------------------------------------------------------------------ before


def _require_household(database: Path) -> None:
    """Raises NotADatabase, SchemaMismatch, and ConfigurationRefused for a demo's database."""
    store = Store.open(database, read_only=True)
    try:
        kind = store.meta.get("kind")
    finally:
        store.close()
    if kind == "demo":
        raise ConfigurationRefused(
            f"{database}: expected a household's database, was a demo's, whose venue has a file of its own that would "
            "be missing. Copy both while no demo runs, or make it anew with `harvestd demo`. Nothing was copied."
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One backup at a time in a folder, which is made when it is not there. Raises BackupFailed, OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BackupFailed(f"{folder}: another process is making a backup here. Nothing was made.") from error
        yield
    finally:
        os.close(handle)


def _require_room(database: Path, folder: Path) -> None:
    """A backup must not fill the disk that the daemon writes its intents to."""
    beside = (database, database.with_name(f"{database.name}-wal"))
    needed = sum(path.stat().st_size for path in beside if path.exists()) + LEFT_FREE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BackupFailed(
            f"{folder}: expected {_mb(needed)} free, {_mb(LEFT_FREE)} of which are left to the daemon, were "
            f"{_mb(free)}. Make room, or give another folder with --to. No backup was made; older ones are as they "
            "were."
        )


def _mb(size: int) -> str:
    return f"{size / 1_000_000:,.0f} MB"


# ------------------------------------------------------------------ after


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of restoring a copy."""

    transactions: int
    lots: int
    realized: int
    differences: tuple[str, ...]


def _restored(copy: Path, settings: Settings | None) -> _Found:
    """Restore a copy into memory, brought to this version, and replay its journal."""
    store = Store.private_copy(copy)
    try:
        found = compare(store, settings)
    except (LedgerError, ValueError, ArithmeticError) as error:  # a row that does not fit the others, or no number
        return _Found(store.journal.count(), 0, 0, (f"the journal cannot be replayed: {error}",))
    finally:
        store.close()
    return _Found(found.transactions, found.lots, found.realized, found.differences)


def _name(database: Path, made_at: datetime, before: str | None, *, verified: bool) -> str:
    upgrade = f"-before-{before}" if before else ""
    return f"{database.stem}-{made_at.strftime(INSTANT)}{upgrade}{'' if verified else '.unverified'}.db"


def _let_go(place: Path, stem: str, before: str | None, keep: int, *, verified: bool) -> tuple[tuple[Path, ...], int]:
    """Remove the oldest files of the new one's kind until `keep` stay, the new one always; of unverified ones, one."""
    upgrade = r"-before-\w+" if before else ""
    pattern = re.compile(rf"{re.escape(stem)}-\d{{8}}T\d{{6}}Z{upgrade}{'' if verified else '[.]unverified'}\.db")
    others = sorted(
        (path for path in place.parent.iterdir() if pattern.fullmatch(path.name) and path != place),
        key=lambda path: path.name,
    )
    spare = len(others) + 1 - (keep if verified else 1)
    gone = tuple(others[: max(0, spare)])
    for path in gone:
        path.unlink()
    return gone, len(others) + 1 - len(gone)


def _note(database: Path, made_at: datetime) -> str:
    """Write down in the database that it was backed up; why not, where it cannot be done now."""
    try:
        store = Store.open(database)
        try:
            store.database.execute(text(f"PRAGMA busy_timeout={NOTE_WAIT_MS}"))
            store.meta.put(LAST, made_at.isoformat())
        finally:
            store.close()
    except SchemaMismatch:
        return "it is of an older version, which stays as it is"
    except (DBAPIError, sqlite3.Error) as error:
        return f"it could not be written to just now ({getattr(error, 'orig', error)})"
    return ""


def _remedy(error: BaseException) -> str:
    if storage_fault(error) is None:
        return "Look at the folder and who may write to it, or give another one with --to."
    return "Is the disk full, read-only or failing? `df -h` and `dmesg` tell; --to names another folder."
