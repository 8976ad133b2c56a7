"""For tests of the database as a file: older databases, processes of their own, disks that are full."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from state.store import Store, revisions


@contextmanager
def code_of(revision: str) -> Iterator[None]:
    """As if this were the code whose newest schema revision is `revision`."""
    with patch.object(revisions, "HEAD_REVISION", revision):
        yield


def contents(path: Path) -> dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Of every table its columns and its rows in order."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as raw:
        tables = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        found = {}
        for table in tables:
            cursor = raw.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
            found[table] = (tuple(item[0] for item in cursor.description), cursor.fetchall())
        return found


def made_older(newest: Path, older: Path, revision: str) -> Path:
    """The same household as the code of an older revision would have written it: its tables, its columns, our rows."""
    with code_of(revision):
        Store.open(older, create=True).close()
    with closing(sqlite3.connect(older, isolation_level=None)) as raw:
        raw.execute("ATTACH ? AS newest", (str(newest),))
        tables = [row[0] for row in raw.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        raw.execute("BEGIN")
        for table in tables:
            if table == "alembic_version" or table.startswith("sqlite_"):
                continue
            columns = ", ".join(f'"{row[1]}"' for row in raw.execute(f'PRAGMA main.table_info("{table}")'))
            raw.execute(f'INSERT INTO main."{table}" ({columns}) SELECT {columns} FROM newest."{table}"')
        raw.execute("COMMIT")
    return older


def in_child(do: Callable[[], object]) -> int:
    """Do something in a process of its own; its exit status as `os.waitpid` gives it, 0 when it came to its end."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    status = 1
    try:
        do()
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def die() -> None:
    """This process is killed, and can do nothing about it."""
    os.kill(os.getpid(), signal.SIGKILL)


def was_killed(status: int) -> bool:
    """True for the status of a process that `die` ended."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def disk_full_beyond(size: int) -> None:
    """From now on no file of this process can be written beyond `size` bytes; for a child."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
