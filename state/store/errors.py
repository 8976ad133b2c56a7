"""Store exceptions, named by what the daemon does about them, and what a failing disk or a busy database looks like.

SQLite says what went wrong by a number, SQLAlchemy wraps it, and the system has numbers of its own: `storage_fault`
reads all three, so that the daemon has two things to tell apart. Either somebody else is writing (it passes, and the
step is done again), or what happens next could not be written down (nothing may be sent any more).
"""

from __future__ import annotations

import errno
import sqlite3
from enum import StrEnum


class StoreError(Exception):
    """Root of everything the store raises on purpose."""


class SchemaMismatch(StoreError):  # noqa: N818
    """The database belongs to another version of harvestd; ends the process with 78, changes nothing."""


class SchemaOutdated(SchemaMismatch):
    """An older version wrote the database and this one could bring it up; to work on it as it is ends with 78."""


class JournalConflict(StoreError):  # noqa: N818
    """One source id, two contents: the source rewrote history; locks the symbol until a person looks."""


class NotADatabase(StoreError):  # noqa: N818
    """The file is missing or not ours; ends the command with 1, touches nothing."""


class CopyBroken(StoreError):  # noqa: N818
    """A copy of the database is not what it was made from, or the database itself is damaged; the copy is no backup."""


class StorageFault(StrEnum):
    """Why the database could not be read or written."""

    BUSY = "busy"  # another process held the write lock for longer than the time-out; tried again
    UNWRITABLE = "unwritable"  # full, read-only, failing, gone or damaged: what is decided cannot be kept; halts


# The primary code is the low byte of an extended one (SQLite, "Result and Error Codes").
_SQLITE = {
    sqlite3.SQLITE_BUSY: StorageFault.BUSY,
    sqlite3.SQLITE_LOCKED: StorageFault.BUSY,
    sqlite3.SQLITE_PROTOCOL: StorageFault.BUSY,  # lost the race for the WAL's locks too often
    sqlite3.SQLITE_PERM: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_READONLY: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_IOERR: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_CORRUPT: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_FULL: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_NOLFS: StorageFault.UNWRITABLE,
    sqlite3.SQLITE_NOTADB: StorageFault.UNWRITABLE,
}
_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


def storage_fault(error: BaseException) -> StorageFault | None:
    """What kind of storage fault an exception is, through SQLAlchemy's wrapper too; None for every other exception."""
    found = getattr(error, "orig", None) or error
    if isinstance(found, sqlite3.Error):
        code = getattr(found, "sqlite_errorcode", None)  # the driver's own complaints have none
        return None if code is None else _SQLITE.get(code & 0xFF)
    if isinstance(found, OSError) and found.errno in _SYSTEM:
        return StorageFault.UNWRITABLE
    return None
