"""`harvestd doctor` on a household at its broker: each line says what was seen, and what to do when it is a fault."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import harvestd
from loopback import Fault, FaultKind
from practice import KEY_ID, NUMBER, SECRET, Practice, practice

from daemon.opening import lease

FIRST = date(2020, 2, 18)
Ask = Callable[..., dict[str, tuple[str, str]]]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Practice]:
    """Somebody who has done `init` and put the keys in place, before the first run, in an open market."""
    with practice(tmp_path, FIRST) as made:
        made.server.advance_to(
            made.venue.schedule.opens[made.venue.schedule.upcoming(made.venue.now)] + timedelta(hours=1)
        )
        yield made


@pytest.fixture
def lines(person: Practice) -> Ask:
    """What doctor says, by what it looked at: (mark, seen)."""

    def ask(code: int = 0) -> dict[str, tuple[str, str]]:
        outcome = harvestd("doctor", "--config", person.config, "--json")
        assert "Traceback" not in outcome.err
        assert SECRET not in outcome.out + outcome.err
        assert KEY_ID not in outcome.out + outcome.err
        found = {
            one["what"]: ("FAULT" if not one["ok"] else "note" if one["note"] else "ok", one["seen"])
            for one in json.loads(outcome.out)
        }
        assert outcome.code == code, found
        return found

    return ask


def test_everything_in_order_before_the_first_run(lines: Ask) -> None:
    found = lines()
    assert {mark for mark, _ in found.values()} <= {"ok", "note"}
    assert found["database"][0] == "note"
    assert "is not there yet" in found["database"][1]
    assert NUMBER in found["main: account number"][1]
    assert found["main: borrowing"][0] == "note"
    assert "could borrow up to 4 times" in found["main: borrowing"][1]
    assert found["main: relief method"][0] == "note"
    assert "not confirmed by you" in found["main: relief method"][1]
    assert found["main: clocks"][0] == "ok"
    assert found["main: sessions"][1].startswith("agree; the market is open")
    assert "feed iex: 5 of 5" in found["main: quotes"][1]
    assert found["main: names"] == ("ok", "all 20 are traded")
    assert found["credential alpaca_paper_key_id"][1].endswith("alpaca_paper_key_id")


def test_another_account_than_the_configured_one(person: Practice, lines: Ask) -> None:
    values = person.config.read_text().replace("account_number: ''", "account_number: PA-ANOTHER")
    person.config.write_text(values)
    mark, seen = lines(1)["main: account number"]
    assert (mark, seen) == ("FAULT", f"expected PA-ANOTHER (the configuration), the broker says {NUMBER}")


def test_wrong_keys(person: Practice, lines: Ask) -> None:
    person.keys(secret="not the secret")
    found = lines(1)
    assert found["main: account number"][0] == found["main: account status"][0] == "FAULT"
    assert "not the secret" not in json.dumps(found)


def test_no_keys(person: Practice, lines: Ask) -> None:
    for file in (person.folder / "keys").iterdir():
        file.unlink()
    found = lines(1)
    assert found["credential alpaca_paper_key_id"][0] == "FAULT"
    assert found["broker"][0] == "FAULT"


def test_a_blocked_account(person: Practice, lines: Ask) -> None:
    with person.server.lock:
        person.venue.block_account()
    assert lines(1)["main: account status"][0] == "FAULT"


def test_clocks_that_disagree(person: Practice, lines: Ask) -> None:
    person.server.script(Fault(FaultKind.SKEWED_CLOCK, seconds=42, times=0))
    mark, seen = lines(1)["main: clocks"]
    assert mark == "FAULT"
    assert "+42" in seen


def test_a_broker_that_does_not_answer(person: Practice, lines: Ask) -> None:
    with person.server.lock:
        person.venue.set_unavailable(True)
    found = lines(1)
    assert all(found[f"main: {what}"][0] == "FAULT" for what in ("account number", "clocks", "sessions", "quotes"))


def test_a_name_that_is_not_traded_is_a_note(person: Practice, lines: Ask) -> None:
    person.configure(benchmark={"symbols": ["AAPL", "KO", "PG", "JNJ", "XOM", "WMT", "HD", "JPM", "BAC", "ZZZZ"]})
    mark, seen = lines()["main: names"]
    assert (mark, seen) == ("note", "not known: ZZZZ")


def test_cash_below_zero_is_a_fault(person: Practice, lines: Ask) -> None:
    with person.server.lock:
        person.venue.book.cash = Decimal("-12.34")
    mark, seen = lines(1)["main: borrowing"]
    assert (mark, seen) == ("FAULT", "cash is -12.34 USD: the account borrows")


def of(person: Practice, old: str, new: str) -> None:
    text = person.config.read_text()
    assert old in text
    person.config.write_text(text.replace(old, new))


def test_the_address_of_the_sign_of_life_is_looked_for_before_anything_starts(person: Practice, lines: Ask) -> None:
    of(person, "  heartbeat_url_name: null", "  heartbeat_url_name: heartbeat_url")
    mark, seen = lines(1)["credential heartbeat_url"]
    assert mark == "FAULT"
    assert "No secret named heartbeat_url" in seen
    place = person.folder / "keys" / "heartbeat_url"
    place.write_text("hc.example/canary-99aa77bb")
    place.chmod(0o400)
    mark, seen = lines(1)["credential heartbeat_url"]
    assert mark == "FAULT"
    assert "canary" not in seen
    place.unlink()
    place.write_text("https://hc.example/canary-99aa77bb")
    place.chmod(0o400)
    assert lines()["credential heartbeat_url"] == ("ok", str(place))


def test_a_port_that_another_program_has_is_a_fault_and_one_that_harvestd_has_is_none(
    person: Practice, lines: Ask
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        of(person, "  port: null", f"  port: {port}")
        assert lines(1)[f"metrics.port {port}"] == ("FAULT", "another program listens there")
        with lease(person.folder / "harvestd.db"):
            assert lines()[f"metrics.port {port}"] == ("ok", "in use while harvestd runs")
    assert lines()[f"metrics.port {port}"] == ("ok", "free")
