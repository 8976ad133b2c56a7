"""The benchmark of the first load, small enough for a test: it runs, and a killed load goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_measures_what_it_says() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "market_data.py"), "--json", "--names", "200", "--years", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["bars"] == 200 * figures["sessions_read"] - figures["evening_bars"]
    assert (figures["evening_bars"], figures["evening_calls"]) == (200, 1)
    assert figures["findings"] == 0, "every dividend and split is known to the source"
    assert figures["names_asked_for_twice"] == 0
    assert figures["killed_after_names"] + figures["resumed_names"] == 200
    assert 0 < figures["killed_after_names"] < 200
