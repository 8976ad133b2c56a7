"""Stages for the daemon's stories (`small_house.py` says what a stage is), and one run of the demo for all who look."""

from __future__ import annotations

import fcntl
import os
import shutil
from datetime import date
from pathlib import Path

import pytest
from command_line import harvestd
from staging import Staged, empty_database, staged

__all__ = ["Staged", "empty_database", "staged"]  # fixtures, and their type

FROM, TO = date(2020, 2, 3), date(2020, 3, 20)  # the crash of 2020, from its eve to its worst week


def span(database: Path, start: date = FROM, end: date = TO) -> list[str]:
    """The words of a demo command."""
    return ["demo", "--from", str(start), "--to", str(end), "--db", str(database)]


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the one run, demo.db and what it printed. Do nothing to it: take a copy.

    Under pytest-xdist the workers share it; whoever comes first runs it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "demo-run"
    folder.mkdir(exist_ok=True)
    with (folder / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "printed.json").exists():
            outcome = harvestd(*span(folder / "demo.db"), "--json")
            assert outcome.code == 0, outcome.err
            (folder / "printed.json").write_text(outcome.out, encoding="utf-8")
    return folder


def copy_of(folder: Path, into: Path) -> Path:
    """A copy of a demo's two databases, to do things to. Returns the daemon's."""
    into.mkdir(exist_ok=True)
    for path in sorted(folder.glob("demo.db*")):
        shutil.copyfile(path, into / path.name)
    return into / "demo.db"


@pytest.fixture
def demo_copy(demo_run: Path, tmp_path: Path) -> Path:
    """A copy of the demo's database, this test's own."""
    return copy_of(demo_run, tmp_path / "copy")
