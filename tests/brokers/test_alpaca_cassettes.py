"""The recorded contract: the adapter asks what it asked when the cassettes were recorded, and reads the same out of the
answers. Each cassette says in its first lines whether Alpaca or the stand-in for it was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina
import yaml
from alpaca_scenarios import SCENARIOS, Stage
from record_cassettes import (
    ACCOUNT_FIELDS,
    CASSETTES,
    LOOPBACK,
    LOOPBACK_KEYS,
    NOBODY,
    PAPER,
    loopback_stage,
    record,
    recorder,
    stage_broker,
    told_by,
    without_account,
)

from brokers.alpaca import Endpoints, Keys

FILES = sorted(CASSETTES.glob("*.yaml"))
NOBODYS_KEYS = Keys("PKNOBODY", "nobodys-secret")
SECRETS = (
    re.compile(r"(?i)apca-api|secret|authorization|cookie|bearer"),
    re.compile(r"\b[PAC]K[A-Z0-9]{16,24}\b"),  # what Alpaca's key ids look like
    re.compile(r"\bPA[0-9][A-Z0-9]{8,10}\b"),  # and the numbers of its paper accounts
    re.compile(r"\bSIM-\d"),  # the stand-in's account
    re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}"),
)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=1)
    yield
    stamina.set_testing(False)


def test_there_is_a_cassette_for_every_conversation() -> None:
    assert [path.stem for path in FILES] == sorted(SCENARIOS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_conversation_is_the_recorded_one(path: Path) -> None:
    told = told_by(path)
    symbol, other = told["symbols"].split()
    endpoints = Endpoints.paper() if told["source"] == PAPER else Endpoints.loopback(NOBODY)
    broker = stage_broker(NOBODYS_KEYS, endpoints)
    with recorder().use_cassette(path, record_mode="none") as cassette:
        SCENARIOS[path.stem](Stage(broker, lambda: None, told["run"], symbol, other))
        assert cassette.all_played
    broker.close()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_says_what_was_recorded(path: Path) -> None:
    told = told_by(path)
    assert told["source"] in (PAPER, LOOPBACK)
    assert told["again"].startswith("python tests/brokers/record_cassettes.py")
    assert told["again"].endswith("--paper") == (told["source"] == PAPER)
    hosts = {str(each["request"]["uri"]).split("/v")[0] for each in _interactions(path)}
    known = {NOBODY} if told["source"] == LOOPBACK else {Endpoints.paper().trading, Endpoints.paper().data}
    assert hosts <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_secret_is_in_a_cassette(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for pattern in SECRETS:
        assert not pattern.search(text), pattern.pattern
    for key in (LOOPBACK_KEYS.key_id, LOOPBACK_KEYS.secret_key):
        assert key not in text
    for each in _interactions(path):
        assert set(each["request"]["headers"]) <= {"Content-Type"}
        for number in re.findall(r'"account_number": "([^"]*)"', each["response"]["body"]["string"]):
            assert number == ACCOUNT_FIELDS["account_number"]


def test_the_search_for_secrets_finds_them() -> None:
    canaries = "PK0123456789ABCDEFGH PA3ABCDEFGHI APCA-API-KEY-ID Set-Cookie someone@example.com SIM-1"
    assert all(pattern.search(canaries) for pattern in SECRETS)


def test_an_answer_is_kept_without_what_tells_whose_account_it_is() -> None:
    body = b'{"id": "e6fe16f3", "account_number": "PA3ABCDEFGHI", "cash": "1.00"}'
    headers = {"Set-Cookie": ["x"], "Content-Type": ["application/json"], "X-Ratelimit-Limit": ["200"]}
    answer = {"status": {"code": 200}, "headers": headers, "body": {"string": body}}
    kept = without_account(answer)
    assert b"PA3" not in kept["body"]["string"]
    assert b"e6fe16f3" not in kept["body"]["string"]
    assert b'"cash": "1.00"' in kept["body"]["string"]
    assert sorted(kept["headers"]) == ["Content-Type", "X-Ratelimit-Limit"]
    assert answer["body"] == {"string": body}  # what the client gets is untouched


def test_recording_the_stand_in_again_changes_nothing(tmp_path: Path) -> None:
    record(loopback_stage, LOOPBACK, tmp_path)
    for path in FILES:
        if told_by(path)["source"] == LOOPBACK:
            assert (tmp_path / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), (
                "run: python tests/brokers/record_cassettes.py"
            )


def _interactions(path: Path) -> list[dict[str, dict[str, dict[str, str]]]]:
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"])
