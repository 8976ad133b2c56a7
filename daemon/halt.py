"""Halt: a file beside the database, so that it works with the database locked and the network down.

Only `harvestd resume` removes it. Read at the gate before every submit.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from daemon.ownership import give_like


def halt_file(database_path: Path) -> Path:
    """Where the halt of a database lies: beside the file itself, by whatever link it is called."""
    path = database_path.resolve()
    return path.with_name(path.name + ".halt")


def is_halted(database_path: Path) -> bool:
    """True when halted, and also when that cannot be found out."""
    try:
        halt_file(database_path).lstat()
    except FileNotFoundError:
        return False
    except Exception:  # whatever keeps it from being found out
        return True
    return True


def halt(database_path: Path, reason: str, now: datetime) -> None:
    """Stop all submits, durably. Doing so twice keeps the first reason. Raises OSError where no file can be made.

    The file itself is the halt: once it is there, a disk that takes none of its words is no failure.
    """
    path = halt_file(database_path)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        with suppress(OSError):
            give_like(handle, database_path)
        with suppress(OSError):
            os.write(handle, f"{now.isoformat()} {reason}\n".encode())
            os.fsync(handle)
    finally:
        with suppress(OSError):
            os.close(handle)
    with suppress(OSError):
        _keep_name(path)


def _keep_name(path: Path) -> None:
    """Have the folder on disk, so that the file is there after a power cut."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def halt_reason(database_path: Path) -> str:
    """When and why trading was halted."""
    try:
        return halt_file(database_path).read_text(encoding="utf-8").strip() or "no reason readable"
    except (OSError, UnicodeDecodeError):
        return "no reason readable"
