"""The README's page for a paper trader, tried as a new user would: from `init` to the first harvest.

Every command of the page is run as it is printed, in its order, in a new folder, against the loopback Alpaca. What the
test adds is what a person adds: answers, keys, a plan's id, the patience to wait for another day.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from practice import COMMAND, KEY_ID, ROOT, SECRET, Practice, practice

FIRST = date(2020, 2, 3)
HEADING = "## With a paper account of your own"
MOST_STEPS = 6

pytestmark = pytest.mark.slow


def commands() -> list[str]:
    """The commands of the page, without their comments."""
    page = (ROOT / "README.md").read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


class NewUser:
    """Somebody with a shell."""

    def __init__(self, home: Path, person: Practice) -> None:
        self.home, self.person = home, person
        self.folder = home
        binaries = home / "bin"
        binaries.mkdir()
        script = binaries / "harvestd"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{COMMAND}" "$@"\n')
        script.chmod(0o755)
        environment = person.environment()
        self.environment = {
            **environment,
            "HOME": str(home),
            "PATH": f"{binaries}:{environment['PATH']}",
            "HARVESTD_ALPACA__LOOPBACK_URL": person.server.url,  # instead of Alpaca: the one thing a user has not
        }
        self.said = ""

    def types(self, line: str, typed: str = "", code: int = 0) -> str:
        """One line at the prompt, and what it printed."""
        where = self.home / "where"
        done = subprocess.run(
            ["bash", "-c", f'{line}\ncode=$?; pwd > "{where}"; exit $code'],
            cwd=self.folder,
            env=self.environment,
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
        )
        self.said += done.stdout
        assert done.returncode == code, f"{line}\n{done.stdout}"
        self.folder = Path(where.read_text().strip())
        return done.stdout

    def approves_what_waits(self) -> int:
        """Yes to every open plan."""
        waiting = json.loads(self.types("harvestd plans --open --json"))["plans"]
        for plan in waiting:
            if plan["state"] == "awaiting_approval":
                self.types(f"harvestd plans approve {plan['plan_id']}")
        return len(waiting)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[NewUser]:
    with practice(tmp_path, FIRST, cash=100_000, partial_fill_probability=0.0) as person:
        home = tmp_path / "a new user"
        home.mkdir()
        yield NewUser(home, person)


def test_from_the_first_command_to_the_first_harvest(user: NewUser) -> None:
    page = commands()
    assert [line.split()[1] for line in page if line.startswith("harvestd")][:4] == ["init", "keys", "doctor", "run"]
    for line in page[: page.index("harvestd run")]:
        answers = {"harvestd init": "\n" * 6, "harvestd keys": f"{KEY_ID}\n{SECRET}\n"}.get(line, "")
        user.types(line, answers)
    assert "FAULT" not in user.types("harvestd doctor")

    user.types("harvestd run --sessions 1")
    waiting = json.loads(user.types("harvestd plans --open --json"))["plans"]
    assert len(waiting) == 1, "the first plan invests the whole account and so waits"
    for line in page[page.index("harvestd run") + 1 :]:
        if line.startswith(("harvestd plans", "harvestd status")):
            user.types(line.replace("PLAN_ID", waiting[0]["plan_id"]))

    config = user.folder / "config.yaml"
    config.write_text(config.read_text().replace("preapproved: []", "preapproved: [{kind: harvest, below_usd: 10000}]"))
    for _ in range(MOST_STEPS):
        user.types("harvestd run --sessions 4")
        if "after disallowance so far" in user.types("harvestd alerts"):
            break
        user.approves_what_waits()
    alerts = " ".join(user.types("harvestd alerts").split())
    assert re.search(r"sold \d+ shares, loss [\d,.]+ USD after disallowance so far", alerts), alerts
    assert "why" in user.types("harvestd opportunities")
    assert user.types("harvestd report performance")
    assert SECRET not in user.said
    assert KEY_ID not in user.said
    assert user.person.server.violations == []


def test_stopping_everything_and_going_on(user: NewUser) -> None:
    for line, answers in (("harvestd init --yes", ""), ("harvestd keys", f"{KEY_ID}\n{SECRET}\n")):
        user.types(line, answers)
    user.types("harvestd run --sessions 1")
    user.types('harvestd halt "why"')
    [waiting] = json.loads(user.types("harvestd plans --open --json"))["plans"]
    user.types(f"harvestd plans approve {waiting['plan_id']}")
    user.types("harvestd run --sessions 1")
    assert user.person.venue.orders() == ()
    user.types("harvestd resume")
