"""The stages of tests/daemon, for stories in which something goes wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "daemon"))  # small_house, practice, command_line

from small_house import Stage
from staging import Staged, empty_database, staged

__all__ = ["Staged", "empty_database", "fallen", "stage", "staged"]

settings.register_profile("usual", max_examples=56, stateful_step_count=60, derandomize=True, database=None)
settings.register_profile("long", max_examples=2000, stateful_step_count=120)


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 1; ten names bought by hand the day before, a fifth of the money left."""
    made = staged(optimizer={"cash_max_pct": 30})
    made.invest(0, 8_000)
    made.tick(made.before_open(1))
    made.venue.advance_to(made.at(1, 10))
    return made


@pytest.fixture
def fallen(staged: Staged) -> Stage:
    """The morning of session 2: AAA closed a fifth lower the day before, and is there to be harvested."""
    made = staged(changes=(("AAA", 1, "0.80"),))
    made.invest(0)
    made.live(1)
    made.tick(made.before_open(2))
    return made
