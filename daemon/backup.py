"""Backups of a household's database: made while it is in use, verified by restoring them, and only then counted.

What is made:

    harvestd-20261121T223000Z.db               verified: sound, of the same rows, its journal replays to its lots
    harvestd-20261121T223000Z-before-0005.db   the same, made by an upgrade before it changed anything
    harvestd-20261121T223000Z.unverified.db    a true copy of a database whose lots are not what its journal says

The name begins with the database's own, then the instant in UTC. Each is one file that only its owner can read, with
everything in it: restoring is putting it in the database's place (docs/OPERATIONS.md). Only a verified backup lets
older ones go, those made by upgrades apart from the others. A copy that is not sound is no backup and is not kept.

Households may share a folder, and their databases a name. So each database bears a mark of its own, drawn once and
copied with it, and only files of these names that bear the same mark are ever removed.

No broker is asked, and no lease is needed: the daemon goes on meanwhile, halted or not.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from daemon.errors import BackupFailed, ConfigurationRefused
from daemon.lots_check import compare
from daemon.opening import one_name
from daemon.ownership import give_like, make_folder, owner_of
from daemon.settings import Settings
from state.lots import LedgerError
from state.store import NotADatabase, SchemaMismatch, Store, StoreError
from state.store.backup import aside, check_copy, copy_online, fact_in, synced
from state.store.errors import storage_fault

FOLDER = "backups"  # beside the database, unless config.yaml says otherwise
KEEP_BEFORE_UPGRADES = 3
LAST = "last_backup"  # in the store's meta: when the last verified one was made
MARK = "backup_mark"  # in the store's meta: what tells this household's backups from another's
OVERDUE = timedelta(days=3)
TIMER = Path("/etc/systemd/system/timers.target.wants/harvestd-backup.timer")  # there while the timer is enabled
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
    troubles: tuple[str, ...] = ()  # what went wrong once it was there

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
    SchemaMismatch for the database of a newer version, ConfigurationRefused for a demo's. Whatever fails once the
    backup is there is one of its `troubles`.
    """
    database = one_name(database)
    if not database.exists():
        raise NotADatabase(f"No database at {database} yet: nothing to back up. `harvestd run` makes one.")
    _require_household(database)
    made_at = now.astimezone(UTC).replace(microsecond=0)
    try:
        with _alone_in(folder, database), aside(folder / f"{database.stem}.making") as passing:
            _require_room(database, folder)
            mark = _mark(database)
            contents = copy_online(database, passing)
            check_copy(passing, contents)
            found = _restored(passing, settings)
            place = folder / _name(database, made_at, before, verified=not found.differences)
            if place.exists():
                raise BackupFailed(f"{place}: a backup of this second is there already. Nothing was made.")
            size = passing.stat().st_size
            give_like(passing, database)
            passing.rename(place)
            after = _settled(place, _Kind(database.stem, before, not found.differences, mark), keep)
    except SchemaMismatch:
        raise
    except StoreError as error:
        raise BackupFailed(f"No backup was made, older ones are as they were. {error}") from error
    except (sqlite3.Error, DBAPIError, OSError) as error:
        raise BackupFailed(
            f"No backup was made in {folder}, and nothing is left of it; older ones are as they were. Expected to copy "
            f"{database}, the system says: {getattr(error, 'orig', error)}. {_remedy(error, database, folder)}"
        ) from error
    not_noted = "" if found.differences or not after.is_on_disk else _note(database, made_at)
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
        after.removed,
        after.kept,
        not_noted,
        after.troubles,
    )


def backup_overdue(store: Store, now: datetime, timer: Path = TIMER) -> str | None:
    """What to tell a person when the last verified backup is older than OVERDUE; None while all is well.

    Where none was ever made, the timer counts: somebody who enabled it longer ago relies on backups there are none of.
    Who has neither timer nor backup makes them in another way, or none. A demo has none.
    """
    if store.meta.get("kind") == "demo":
        return None
    last = store.meta.get(LAST)
    since = datetime.fromisoformat(last) if last else _enabled_at(timer)
    if since is None or now - since <= OVERDUE:
        return None
    seen = f"the last one is of {since:%Y-%m-%d %H:%M} UTC" if last else "none was made since the timer was enabled"
    return (
        f"Expected a verified backup within {OVERDUE.days} days, {seen}. `harvestd backup` says what keeps it from "
        "being made; under systemd, `systemctl status harvestd-backup`."
    )


def _enabled_at(timer: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(timer.lstat().st_mtime, UTC)
    except OSError:
        return None


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
def _alone_in(folder: Path, database: Path) -> Iterator[None]:
    """One backup at a time in a folder, which is made when it is not there. Raises BackupFailed, OSError."""
    make_folder(folder, database)
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


def _mark(database: Path) -> str | None:
    """The database's own mark, drawn where it has none; None where it has none and takes none now."""
    with closing(Store.open(database, read_only=True)) as store:
        found = store.meta.get(MARK)
    if found is None:
        _put(database, MARK, secrets.token_hex(4))
        with closing(Store.open(database, read_only=True)) as store:
            found = store.meta.get(MARK)
    return found


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


@dataclass(frozen=True, slots=True)
class _Kind:
    """Which files are of one kind: those of the same purpose, of the database with this mark."""

    stem: str
    before: str | None
    is_verified: bool
    mark: str | None

    def has(self, path: Path) -> bool:
        """True for a file of this kind. Of a database without a mark there is none."""
        upgrade = r"-before-\w+" if self.before else ""
        ending = "" if self.is_verified else "[.]unverified"
        pattern = rf"{re.escape(self.stem)}-\d{{8}}T\d{{6}}Z{upgrade}{ending}\.db"
        is_named = re.fullmatch(pattern, path.name) is not None
        return is_named and path.is_file() and self.mark is not None and fact_in(path, MARK) == self.mark


@dataclass(frozen=True, slots=True)
class _After:
    """What became of the folder once the backup had its name."""

    is_on_disk: bool
    removed: tuple[Path, ...]
    kept: int
    troubles: tuple[str, ...]


def _settled(place: Path, kind: _Kind, keep: int) -> _After:
    """The new name reaches the disk, and then older ones go. Raises nothing: the backup is there."""
    try:
        synced(place.parent)
    except OSError as error:
        words = f"the disk did not confirm its name ({error}); older ones all stay, and it is not counted"
        return _After(False, (), 1, (words,))
    others, troubles = [], []
    try:
        others = sorted((path for path in place.parent.iterdir() if path != place and kind.has(path)), key=_by_name)
    except OSError as error:
        troubles.append(f"older ones could not be looked through ({error}); they all stay")
    gone = []
    for path in others[: max(0, len(others) + 1 - (keep if kind.is_verified else 1))]:
        try:
            path.unlink()
            gone.append(path)
        except OSError as error:
            troubles.append(f"{path} could not be removed ({error.strerror})")
    return _After(True, tuple(gone), len(others) + 1 - len(gone), tuple(troubles))


def _by_name(path: Path) -> str:
    return path.name


def _note(database: Path, made_at: datetime) -> str:
    """Write down in the database that it was backed up; why not, where it cannot be done now."""
    return _put(database, LAST, made_at.isoformat())


def _put(database: Path, key: str, value: str) -> str:
    """Set a fact of the database without waiting long for it; why not, where it cannot be done now."""
    try:
        with closing(Store.open(database)) as store:
            store.database.execute(text(f"PRAGMA busy_timeout={NOTE_WAIT_MS}"))
            store.meta.put(key, value)
    except SchemaMismatch:
        return "it is of an older version, which stays as it is"
    except (DBAPIError, sqlite3.Error) as error:
        return f"it could not be written to just now ({getattr(error, 'orig', error)})"
    return ""


def _remedy(error: BaseException, database: Path, folder: Path) -> str:
    if isinstance(error, PermissionError) and folder.exists():
        return (
            f"{folder} belongs to {owner_of(folder)}, the database to {owner_of(database)}; as its owner, or with the "
            f"folder given to it (sudo chown -R --reference={database} {folder}), it can be made."
        )
    if storage_fault(error) is None:
        return "Look at the folder and who may write to it, or give another one with --to."
    return "Is the disk full, read-only or failing? `df -h` and `dmesg` tell; --to names another folder."
