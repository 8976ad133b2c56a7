"""Which schema a database has, which one this code knows, and the way from one to the other.

| found in the file            | opened to work                                   | opened to look                 |
|------------------------------|--------------------------------------------------|--------------------------------|
| the newest this code knows   | opened                                           | opened                         |
| an older one                 | SchemaOutdated; an upgrade has to be asked for   | a copy in memory, brought up   |
| a newer one, or none it knows | SchemaMismatch, and nothing is touched          | the same                       |

Revisions are numbered in four digits, one file each in `migrations/versions`, so that older and newer are told by
comparing them.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from state.store.errors import NotADatabase, SchemaMismatch, SchemaOutdated

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD_REVISION = "0004"  # the newest revision this code knows; a test holds it to the migrations folder
APPLICATION_ID = 0x48525653  # "HRVS": marks the file as ours (PRAGMA application_id)
_NUMBERED = re.compile(r"\d{4}")


def identified(raw: sqlite3.Connection, path: Path) -> str | None:
    """The schema revision of a database of ours; None when it says none. Raises NotADatabase for any other file, and
    sqlite3's errors for one that cannot be read just now: that says nothing about whose it is."""
    try:
        found = raw.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise NotADatabase(f"{path}: expected a harvestd database, was not an SQLite file ({error}).") from error
    if found != APPLICATION_ID:
        raise NotADatabase(f"{path}: expected a harvestd database, was another program's SQLite file.")
    row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])


def is_older(revision: str | None) -> bool:
    """True for a revision that this code knows the way from."""
    if revision is None or revision >= HEAD_REVISION:
        return False
    return any((MIGRATIONS / "versions").glob(f"{revision}_*.py"))


def require_newest(path: Path, revision: str | None) -> None:
    """Raises SchemaOutdated for an older revision, SchemaMismatch for any other that is not the newest."""
    if revision == HEAD_REVISION:
        return
    seen = f"{path}: expected schema revision {HEAD_REVISION}, was {revision or 'none'}"
    if is_older(revision):
        raise SchemaOutdated(
            f"{seen}: an older harvestd wrote it. `harvestd upgrade` brings it up, after a backup, and so does "
            "`harvestd run`; `harvestd demo` makes a demo's database anew. Nothing was changed."
        )
    if revision is not None and _NUMBERED.fullmatch(revision) and revision > HEAD_REVISION:
        raise SchemaMismatch(
            f"{seen}: a newer harvestd wrote it. Install that version again, or restore the backup that it made before "
            "the upgrade (docs/OPERATIONS.md). Nothing was changed."
        )
    raise SchemaMismatch(
        f"{seen}: no harvestd that this one knows of wrote it. Restore a backup (docs/OPERATIONS.md); `harvestd demo` "
        "makes a demo's database anew. Nothing was changed."
    )
