"""`harvestd go-live`: every line of the checklist can stand in the way, and only the typed number opens the door."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from practice import NUMBER, Practice, practice

from daemon.go_live import LEAST_SESSIONS, RECORD
from state.store import Store

FIRST = date(2020, 2, 18)

# The live account, in the hands of the test: the loopback server stands where Alpaca's live host would.
AT_THE_LIVE_HOST = """
import sys
from brokers.alpaca import Endpoints
url = sys.argv.pop(1)
Endpoints.live = classmethod(lambda cls: cls.loopback(url))
import daemon.household as household
from daemon.clock import ServerClock
wall = household.WallClock
household.WallClock = lambda: ServerClock(url)
from daemon.cli.main import main
sys.argv[0] = "harvestd"
main()
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """A live account that has been observed for as long as the checklist wants."""
    with practice(tmp_path_factory.mktemp("live"), FIRST) as person:
        person.configure(mode="observe", alpaca={"loopback_url": None, "observe_account": "live"})
        live(person, "run", "--sessions", LEAST_SESSIONS)
        configured(person, account_number=NUMBER, relief_confirmed=True)
        yield person


def live(person: Practice, *words: object, typed: str = "", code: int = 0) -> str:
    """A command whose live host is the loopback server."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_LIVE_HOST, person.server.url, *map(str, words)],
        cwd=person.folder,
        env=person.environment(),
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def configured(person: Practice, **of_account: Any) -> None:
    """Change keys of the managed account."""
    import yaml

    values = yaml.safe_load(person.config.read_text())
    values["household"]["accounts"][0] |= of_account
    person.config.write_text(yaml.safe_dump(values))


def recorded(person: Practice) -> dict[str, Any] | None:
    store = Store.open(person.database, read_only=True)
    try:
        found = store.meta.get(f"{RECORD}{NUMBER}")
        return json.loads(found) if found else None
    finally:
        store.close()


def test_only_the_number_typed_out_opens_the_door(watched: Practice) -> None:
    for typed in ("\n", "yes\n", f"{NUMBER[:-1]}\n"):
        out = live(watched, "go-live", typed=typed, code=1)
        assert "Nothing was changed" in out
        assert recorded(watched) is None
    out = live(watched, "go-live", typed=f"{NUMBER}\n")
    assert "FAULT" not in out
    assert "may trade account" in out
    found = recorded(watched)
    assert found is not None
    assert set(found) == {"at", "by"}


def test_the_record_alone_starts_nothing(watched: Practice) -> None:
    """This version does not trade live, whatever is recorded."""
    before = watched.config.read_text()
    watched.config.write_text(before.replace("mode: observe", "mode: live"))
    try:
        out = live(watched, "run", code=78)
        assert "does not trade live yet" in out
    finally:
        watched.config.write_text(before)
    assert {request.method for request in watched.server.requests} == {"GET"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"relief_confirmed": False}, "relief method"),
        ({"account_number": ""}, "account number"),
    ],
)
def test_each_line_stands_in_the_way(watched: Practice, change: dict[str, Any], says: str) -> None:
    before = watched.config.read_text()
    configured(watched, **change)
    try:
        out = live(watched, "go-live", typed=f"{NUMBER}\n", code=1)
        assert "Not yet" in out
        assert says in out
    finally:
        watched.config.write_text(before)


def test_a_paper_account_is_not_asked(tmp_path: Path) -> None:
    with practice(tmp_path, FIRST) as person:
        assert "Expected mode: observe with alpaca.observe_account: live" in person.harvestd("go-live", code=78)
        person.configure(mode="observe", alpaca={"observe_account": "live"})
        assert "No database" in person.harvestd("go-live", code=78)
        person.harvestd("run", "--sessions", 1)
        out = person.harvestd("go-live", code=1, typed=f"{NUMBER}\n")
        assert "a stand-in on this machine" in out
        assert "1 sessions to their end" in out
