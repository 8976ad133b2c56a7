"""The benchmark of the cycle, on a household small enough for a test: it runs, its figures hold together, nothing in
it goes wrong. How fast it is, is not a test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {
    "settle",
    "sync",
    "advance",
    "triggers",
    "scan",
    "propose",
    "check",
    "decide",
    "record",
    "work",
    "evening",
    "agenda",
    "approvals",
    "imports",
    "venue",
    "store writes",
    "other",
}
COUNTS = ("transactions", "plans", "orders", "fills", "harvests", "solves", "relaxations")


def measured(*words: str) -> dict[str, Any]:
    """What `benchmarks/cycle.py --json` prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / "cycle.py"), "--json", "--prices", "synthetic", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return measured("--names", "12", "--sessions", "15")


def test_it_measured_what_was_asked_for(figures: dict[str, Any]) -> None:
    assert (figures["names"], figures["sessions"], figures["prices"]) == (12, 15, "synthetic")
    assert figures["seconds"] > 0
    assert figures["seeding_seconds"] > 0
    assert figures["peak_memory_mb"] > 0


def test_the_household_is_alive(figures: dict[str, Any]) -> None:
    """About 21 lots a name to begin with, a deposit, harvests, an IRA; otherwise its speed would say nothing."""
    assert 12 * 20 <= figures["open_lots"]["start"] <= 12 * 40
    assert figures["open_lots"]["end"] > 0
    assert all(figures[name] > 0 for name in COUNTS), {name: figures[name] for name in COUNTS}
    assert figures["plans_by_state"].get("done", 0) > 0


def test_nothing_goes_wrong(figures: dict[str, Any]) -> None:
    assert figures["wash_sale_conflicts"] == 0
    assert figures["reconciliation_breaks"] == 0
    assert figures["errors"] == 0


def test_every_second_belongs_to_one_stage(figures: dict[str, Any]) -> None:
    stages = figures["stages"]
    assert set(stages) == STAGES
    assert sum(row["seconds"] for row in stages.values()) == pytest.approx(figures["seconds"], abs=0.05, rel=0.02)
    assert sum(row["share"] for row in stages.values()) == pytest.approx(1, abs=0.01)
    for row in stages.values():
        if "parts" in row:
            assert sum(part["seconds"] for part in row["parts"].values()) == pytest.approx(row["seconds"], abs=0.02)
    assert {"masks", "rehearsal", "solver", "program"} <= set(stages["propose"]["parts"])


def test_the_same_command_gives_the_same_lots(figures: dict[str, Any]) -> None:
    again = measured("--names", "12", "--sessions", "15")
    assert again["ledger_digest"] == figures["ledger_digest"]


def test_a_table_for_people_and_refusals_in_words() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "cycle.py"), "--prices", "synthetic"]
    shown = subprocess.run([*command, "--names", "6", "--sessions", "1"], capture_output=True, text=True, check=True)
    assert "the targets" in shown.stdout
    refused = subprocess.run([*command, "--names", "2"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "expected 6 names" in refused.stderr
