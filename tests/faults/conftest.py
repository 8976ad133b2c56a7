"""The stages of tests/daemon, for stories in which something goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "daemon"))  # small_house, practice, command_line

from small_house import make_stage

from state.store import Store

if TYPE_CHECKING:
    from small_house import Stage

settings.register_profile("usual", max_examples=50, stateful_step_count=60, derandomize=True, database=None)
settings.register_profile("long", max_examples=2000, stateful_step_count=120)

Staged = Callable[..., "Stage"]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with nothing in it."""
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    Store.open(path, create=True).close()
    return path


@pytest.fixture
def staged(tmp_path: Path, empty_database: Path) -> Iterator[Staged]:
    """Makes stages, each in a folder of its own; closes them afterwards."""
    made: list[Stage] = []

    def make(**story: object) -> Stage:
        folder = tmp_path / f"stage-{len(made)}"
        folder.mkdir()
        made.append(make_stage(folder, empty_database, **story))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for stage in made:
        stage.close()
