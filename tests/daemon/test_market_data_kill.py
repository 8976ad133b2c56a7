"""A load that is killed goes on where it was: nothing stored by half, nothing asked for twice."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

from killed_load import NAMES

from state.store import Store

SCRIPT = Path(__file__).with_name("killed_load.py")


def load(database: Path, killed_at: int) -> tuple[int, list[str]]:
    """Exit code, and the names that each call asked for."""
    command = [sys.executable, str(SCRIPT), str(database), str(killed_at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def test_killed_while_writing_it_goes_on_with_the_names_it_was_writing(tmp_path: Path, empty_database: Path) -> None:
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        shutil.copyfile(empty_database, tmp_path / name / "house.db")
    database = tmp_path / "killed" / "house.db"
    code, asked = load(database, 3)
    assert code == -signal.SIGKILL
    assert asked == ["NA NB", "NC ND", "NE NF"]
    store = Store.open(database)
    assert sorted(store.market.coverage()) == ["NA", "NB", "NC", "ND"]
    assert sorted(store.market.extents()) == ["NA", "NB", "NC", "ND"], "no bar without its coverage"
    store.close()
    assert load(database, 0) == (0, ["NE NF", "NG NH", "NI NJ"])
    assert load(tmp_path / "whole" / "house.db", 0)[0] == 0
    stores = [Store.open(tmp_path / name / "house.db") for name in ("killed", "whole")]
    killed, whole = (tuple(store.market.bars()) for store in stores)
    assert killed == whole
    assert len(whole) == 201 * len(NAMES)
    for store in stores:
        store.close()
