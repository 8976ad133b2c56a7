"""Canary keys, seeded where a person keeps keys, and looked for everywhere else, on good days and on bad ones."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from loopback import Fault, FaultKind
from practice import KEY_ID, SECRET, Practice, practice

FIRST = date(2020, 2, 18)
CANARIES = (KEY_ID, SECRET)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Practice]:
    with practice(tmp_path, FIRST) as made:
        made.configure(log={"level": "debug", "format": "json"}, history={"load_years": 2})
        yield made


def nothing_is_told(person: Practice) -> None:
    """Output, files (the database among them), and requests hold no canary; the places meant for them do."""
    for secret in CANARIES:
        assert not [text for text in person.printed if secret in text]
        for file in person.folder.rglob("*"):
            if file.is_file() and file.parent.name != "keys":
                assert secret.encode() not in file.read_bytes(), file
        for request in person.server.requests:
            assert secret not in f"{request.path} {request.query} {request.body} {request.headers}", request
    if person.database.exists():
        with sqlite3.connect(person.database) as raw:
            dump = "\n".join(raw.iterdump())
        raw.close()
        assert not [secret for secret in CANARIES if secret in dump]


def test_a_day_like_any_other(person: Practice) -> None:
    person.configure(approvals={"plan_pct_nav": 200, "order_usd": 1_000_000})
    person.harvestd("run", "--sessions", 2)
    for words in (("doctor",), ("status",), ("alerts",), ("orders",), ("plan",), ("config", "check"), ("reconcile",)):
        person.harvestd(*words)
    assert person.venue.orders()
    nothing_is_told(person)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(
            FaultKind.STATUS, path="/v2/account", status=401, body={"message": f"unauthorized key {KEY_ID} {SECRET}"}
        ),
        Fault(FaultKind.HTML, path="/v2/account", status=502, text=f"<html>{SECRET} {KEY_ID}</html>", times=9),
        Fault(FaultKind.REDIRECT, path="/v2/account", text=f"http://127.0.0.1:9/{SECRET}", times=9),
        Fault(FaultKind.TRUNCATED, path="/v2/account", times=9),
        Fault(FaultKind.WRONG_TYPE, path="/v2/positions", times=9),
        Fault(FaultKind.DROP, path="/v2/clock", times=9),
    ],
    ids=lambda fault: str(fault.kind),
)
def test_bad_answers_even_those_that_echo_the_keys(person: Practice, fault: Fault) -> None:
    """Whatever the command ends with, it ends without them."""
    person.server.script(fault)
    done = subprocess.run(
        person.command("run", "--sessions", "1"),
        cwd=person.folder,
        env=person.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    person.printed.append(done.stdout)
    nothing_is_told(person)


def test_a_field_that_holds_a_key_is_masked_before_it_is_cut(person: Practice) -> None:
    """Messages show the beginning of what could not be read; half a key is a key too."""
    person.server.script(Fault(FaultKind.SET, path="/v2/account", fields={"cash": f"no number: {SECRET}"}, times=0))
    said = person.harvestd("run", code=1)
    assert "no number: ***" in said
    assert SECRET[:12] not in said
    nothing_is_told(person)


def test_a_crash_with_the_keys_at_hand(person: Practice) -> None:
    """An exception nobody expected, raised where the keys are in reach; its traceback goes the way of all logs."""
    code = f"""
import sys
import brokers.alpaca.reader as reader
def account(self):
    raise RuntimeError(f"the secret is {SECRET} and the key {KEY_ID}")
reader.AlpacaReader.account = account
from daemon.cli.main import main
sys.argv = ["harvestd", "run"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=person.folder,
        env=person.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "RuntimeError" in done.stdout
    person.printed.append(done.stdout)
    nothing_is_told(person)
