"""Fixtures that make stages (`small_house.py` says what a stage is), for every folder of tests that tells stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_house import Stage, make_stage

from state.store import Store

Staged = Callable[..., Stage]


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
