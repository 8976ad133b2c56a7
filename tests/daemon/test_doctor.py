"""`harvestd doctor`: every fault is a line with what to do; a check that cannot be made is a fault."""

from __future__ import annotations

import json
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest
from command_line import harvestd


def faults(*words: object) -> tuple[int, dict[str, str]]:
    """Exit code, and what was seen by what was looked at, of the faults."""
    outcome = harvestd("doctor", "--json", *words)
    assert "Traceback" not in outcome.err
    found = json.loads(outcome.out)
    assert found
    assert all(one["remedy"] for one in found)
    return outcome.code, {one["what"]: one["seen"] for one in found if not one["ok"]}


def test_a_household_in_order(demo_copy: Path) -> None:
    assert faults("--db", demo_copy) == (0, {})
    text = harvestd("doctor", "--db", demo_copy).out
    assert "FAULT" not in text
    for what in ("exchange calendar", "disk", "database", "lots equal a replay of the journal", "halt", "broker"):
        assert what in text


def test_halted(demo_copy: Path) -> None:
    harvestd("halt", "the news", "--db", demo_copy)
    code, found = faults("--db", demo_copy)
    assert (code, list(found)) == (1, ["halt"])
    assert "the news" in found["halt"]
    assert "harvestd resume" in " ".join(harvestd("doctor", "--db", demo_copy).out.split())


def test_lots_that_are_not_what_the_journal_says(demo_copy: Path) -> None:
    with sqlite3.connect(demo_copy) as raw:
        raw.execute("UPDATE tax_lots SET basis = '1' WHERE rowid = (SELECT min(rowid) FROM tax_lots)")
    raw.close()
    code, found = faults("--db", demo_copy)
    assert (code, list(found)) == (1, ["lots equal a replay of the journal"])
    assert found["lots equal a replay of the journal"].startswith("2 differences, first: lot expected, not stored")


def test_a_position_the_broker_does_not_have(demo_copy: Path) -> None:
    """One purchase more in the journal than at the broker."""
    with sqlite3.connect(demo_copy) as raw:
        row = raw.execute("SELECT * FROM transactions WHERE kind = 'buy' AND account_id = 'main' LIMIT 1")
        names = [column[0] for column in row.description]
        values = dict(zip(names, row.fetchone(), strict=True))
        values |= {"transaction_id": "invented", "order_id": "invented", "journal_sequence": None}
        raw.execute(
            f"INSERT INTO transactions ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            list(values.values()),
        )
    raw.close()
    harvestd("ledger", "rebuild", "--db", demo_copy)
    code, found = faults("--db", demo_copy)
    assert (code, list(found)) == (1, ["broker and reconciliation"])
    assert "SYMBOL_LOCKED: symbol=" in found["broker and reconciliation"]


def test_no_venue_beside_the_database(demo_copy: Path) -> None:
    """Its figures cannot be compared with anything."""
    for file in demo_copy.parent.glob("demo.db.venue*"):
        file.unlink()
    code, found = faults("--db", demo_copy)
    assert code == 1
    assert "broker and reconciliation" in found


def test_a_database_of_another_version(demo_copy: Path) -> None:
    with sqlite3.connect(demo_copy) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    code, found = faults("--db", demo_copy)
    assert (code, list(found)) == (1, ["database"])
    assert "was 9999" in found["database"]


def test_no_database(tmp_path: Path) -> None:
    code, found = faults("--db", tmp_path / "gone.db")
    assert code == 1
    assert "found none" in found["database"]
    assert not (tmp_path / "gone.db").exists()


def test_a_full_disk(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 10**12 - 10**8, 10**8))
    code, found = faults("--db", demo_copy)
    assert (code, found) == (1, {"disk": "100 MB free"})


def test_an_exchange_calendar_that_cannot_be_read(demo_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import daemon.doctor

    class Broken:
        @staticmethod
        def new_york(*_: object) -> None:
            raise ValueError("no schedule for 2031")

    monkeypatch.setattr(daemon.doctor, "MarketCalendar", Broken)
    code, found = faults("--db", demo_copy)
    assert (code, found) == (1, {"exchange calendar": "no schedule for 2031"})


def test_a_configuration_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("mode: yolo\n", encoding="utf-8")
    code, found = faults()
    assert code == 1
    assert "yolo" in found["configuration"]
