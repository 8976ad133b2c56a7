"""Halt: a file beside the database, so that it works with the database locked and the network down.

Only `harvestd resume` removes it. Read at the gate before every submit.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


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
    except OSError:
        return True
    return True


def halt(database_path: Path, reason: str, now: datetime) -> None:
    """Stop all submits, durably. Doing so twice keeps the first reason."""
    path = halt_file(database_path)
    if not path.exists():
        path.write_text(f"{now.isoformat()} {reason}\n", encoding="utf-8")


def halt_reason(database_path: Path) -> str:
    """When and why trading was halted."""
    try:
        return halt_file(database_path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return "no reason readable"
