"""The soak in its short form: six sessions of thirty names with random faults, then two quiet ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# It ends when it is told to. Started while the broker does not answer, it says so and leaves it to who started it.
EXPECTED = {"SIGKILL", "SIGTERM", "by itself, exit code 1"}


@pytest.mark.slow
def test_sessions_full_of_faults_lose_nothing_and_double_nothing() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--short", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=400)
    assert done.stdout, done.stderr
    figures = json.loads(done.stdout)
    assert figures["broken"] == []
    assert done.returncode == 0
    assert figures["tracebacks"] == []
    assert figures["faults"] > 20, "much went wrong"
    assert figures["orders"] > 30, "and much was done"
    assert figures["fills"] >= figures["orders_by_status"]["filled"] > 0
    assert set(figures["ends"]) <= EXPECTED
