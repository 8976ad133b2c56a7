"""`harvestd ledger`, and the exit codes of every command: 0 done, 1 failed, 2 usage, 78 configuration."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from command_line import harvestd
from conftest import FROM, span

from state.store import Store

CASES = Path(__file__).parents[1] / "cases" / "tax_cases.yaml"

WASH = """
x: &x {account: A, account_type: taxable, symbol: X, fees: 0}
cases:
- id: bought-back
  lot_method: FIFO
  transactions:
  - {id: b1, date: 2024-01-08, side: buy, quantity: 10, price: 100, <<: *x}
  - {id: s1, date: 2024-03-04, side: sell, quantity: 10, price: 80, <<: *x}
  - {id: b2, date: 2024-03-14, side: buy, quantity: 10, price: 82, <<: *x}
"""
SOLD = "{id: s1, date: 2024-03-04, account: A, account_type: taxable, symbol: X, side: sell, quantity: 1, price: 1}"


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in: no config.yaml, no demo."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------ verify and rebuild


def test_verify_proves_the_stored_lots(demo_copy: Path) -> None:
    outcome = harvestd("ledger", "verify", "--db", demo_copy)
    assert (outcome.code, outcome.err) == (0, "")
    assert "The stored lots equal the replay." in outcome.out
    told = json.loads(harvestd("ledger", "verify", "--db", demo_copy, "--json").out)
    assert told["differences"] == []
    assert told["lots"] > 0
    assert told["transactions"] > told["realized"] > 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE tax_lots SET basis = '1' WHERE rowid = (SELECT min(rowid) FROM tax_lots)", "lot expected, not stored"),
        ("DELETE FROM tax_lots WHERE rowid = (SELECT min(rowid) FROM tax_lots)", "lot expected, not stored"),
        (
            "UPDATE realized_gains SET disallowed = '7' WHERE row_id = (SELECT min(row_id) FROM realized_gains)",
            "realized row",
        ),
        ("UPDATE tax_lots SET adjusted_acquired = '2001-01-01'", "adjusted_acquired=2001-01-01"),
        ("UPDATE tax_lots SET queue_position = 1000 - queue_position", "order of disposal of"),
        (
            "UPDATE tax_lots SET lot_id = '[/b]' WHERE rowid = (SELECT min(rowid) FROM tax_lots)",
            "lot stored, not expected: lot_id=[/b]",
        ),
    ],
    ids=["basis", "lost lot", "disallowed", "holding period", "order", "id like markup"],
)
def test_verify_finds_what_was_changed_and_rebuild_mends_it(demo_copy: Path, damage: str, said: str) -> None:
    before = _lots(demo_copy)
    with sqlite3.connect(demo_copy) as raw:
        assert raw.execute(damage).rowcount > 0
    raw.close()
    found = harvestd("ledger", "verify", "--db", demo_copy)
    assert found.code == 1
    assert said in " ".join(found.out.split())
    assert "`harvestd ledger rebuild` makes them again." in found.out
    assert harvestd("ledger", "rebuild", "--db", demo_copy).code == 0
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0
    assert _lots(demo_copy) == before


def test_verify_names_the_queue_whose_order_is_wrong_and_nothing_else(demo_copy: Path) -> None:
    store = Store.open(demo_copy, read_only=True)
    queues: dict[str, list[str]] = {}
    for lot in store.lots.lots("main"):
        queues.setdefault(lot.symbol, []).append(lot.lot_id)
    store.close()
    symbol, (first, second, *_) = next((symbol, ids) for symbol, ids in queues.items() if len(ids) > 1)
    with sqlite3.connect(demo_copy) as raw:
        for old, new in ((0, -1), (1, 0), (-1, 1)):
            change = "UPDATE tax_lots SET queue_position = ? WHERE account_id = 'main' AND symbol = ?"
            assert raw.execute(f"{change} AND queue_position = ?", (new, symbol, old)).rowcount == 1
    raw.close()
    outcome = harvestd("ledger", "verify", "--db", demo_copy, "--json")
    assert outcome.code == 1
    (said,) = json.loads(outcome.out)["differences"]
    assert said.startswith(f"order of disposal of {symbol} in main: expected {first} (")
    assert f", was {second} (" in said


def test_verify_finds_a_lot_that_is_stored_twice(demo_copy: Path) -> None:
    with sqlite3.connect(demo_copy) as raw:
        raw.executescript(
            "CREATE TABLE twice AS SELECT * FROM tax_lots LIMIT 1; UPDATE twice SET queue_position = 1000;"
            "INSERT INTO tax_lots SELECT * FROM twice; DROP TABLE twice;"
        )
    raw.close()
    outcome = harvestd("ledger", "verify", "--db", demo_copy, "--json")
    assert outcome.code == 1
    (said,) = json.loads(outcome.out)["differences"]
    assert said.startswith("lot stored, not expected: lot_id=")


def _lots(database: Path) -> object:
    store = Store.open(database, read_only=True)
    try:
        return store.lots.lots(), store.lots.realized()
    finally:
        store.close()


# ------------------------------------------------------------------ replay


def test_replay_prints_lots_and_disallowed_losses(tmp_path: Path) -> None:
    """Two hundred dollars lost, bought back ten days later: all of it is disallowed and moves into the new lot."""
    file = tmp_path / "wash.yaml"
    file.write_text(WASH, encoding="utf-8")
    (case,) = json.loads(harvestd("ledger", "replay", file, "--json").out)["cases"]
    (sold,) = case["sales"][0]["lots"]
    assert (sold["gain_loss"], sold["disallowed"], sold["term"]) == ("-200.00", "200.00", "ST")
    (kept,) = case["open_lots"]
    assert (kept["basis"], kept["acquired"], kept["adjusted_acquired"]) == ("1020.00", "2024-03-14", "2024-01-18")
    assert "bought-back" in harvestd("ledger", "replay", file).out


def test_the_worked_cases_replay_from_the_command_line() -> None:
    outcome = harvestd("ledger", "replay", CASES, "--json")
    assert outcome.code == 0
    assert len(json.loads(outcome.out)["cases"]) > 20


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("cases: [", 1, "expected YAML, was not"),
        ("- 1", 1, "expected a mapping with the key cases, was list"),
        (f"cases:\n- {{id: oversold, lot_method: FIFO, transactions: [{SOLD}]}}", 1, "s1"),
    ],
)
def test_replay_of_a_file_that_is_no_case(tmp_path: Path, content: str, code: int, said: str) -> None:
    file = tmp_path / "cases.yaml"
    file.write_text(content, encoding="utf-8")
    outcome = harvestd("ledger", "replay", file)
    assert outcome.code == code
    assert outcome.err.startswith(f"harvestd: {file}: ")
    assert said in outcome.err


def test_replay_of_nothing(tmp_path: Path) -> None:
    outcome = harvestd("ledger", "replay", tmp_path / "gone.yaml")
    assert (outcome.code, outcome.err) == (1, f"harvestd: {tmp_path / 'gone.yaml'}: No such file or directory\n")


# ------------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    "words",
    [
        ("fly",),
        ("plan", "--fast"),
        ("plans", "approve"),
        ("demo", "--from", "yesterday"),
        ("demo", "--speed", "-1"),
        ("demo", "--from", "1989-01-03"),
        ("run", "--sessions", "-1"),
        ("ledger", "replay", str(CASES), "--convention", "tacking"),
    ],
    ids=" ".join,
)
def test_words_it_does_not_understand_end_in_2_and_do_nothing(nowhere: Path, words: tuple[str, ...]) -> None:
    outcome = harvestd(*words)
    assert outcome.code == 2
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in nowhere.iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("plan",),
        ("once",),
        ("run",),
        ("lots",),
        ("halt",),
        ("plans", "approve", "x"),
        ("ledger", "verify"),
    ],
    ids=" ".join,
)
def test_without_any_household_it_says_where_to_begin_and_fails(nowhere: Path, words: tuple[str, ...]) -> None:
    outcome = harvestd(*words)
    assert outcome.code == 1
    assert "harvestd demo" in outcome.err
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize("words", [("status",), ("plan",), ("once",), ("run",), ("halt",)], ids=" ".join)
def test_a_configuration_that_is_wrong_ends_in_78_and_starts_nothing(nowhere: Path, words: tuple[str, ...]) -> None:
    (nowhere / "config.yaml").write_text("mode: yolo\n", encoding="utf-8")
    outcome = harvestd(*words)
    assert outcome.code == 78
    assert "mode" in outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in nowhere.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    "words", [("status",), ("plan",), ("once",), ("ledger", "verify"), ("ledger", "rebuild")], ids=" ".join
)
def test_a_database_of_another_version_ends_in_78(demo_copy: Path, words: tuple[str, ...]) -> None:
    with sqlite3.connect(demo_copy) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    outcome = harvestd(*words, "--db", demo_copy)
    assert outcome.code == 78
    assert "was 9999: a newer harvestd wrote it. Install that version again, or restore the backup" in outcome.err


@pytest.mark.parametrize("words", [("status",), ("once",), ("plan",), ("ledger", "verify")], ids=" ".join)
def test_a_file_that_is_no_database_ends_in_1(tmp_path: Path, words: tuple[str, ...]) -> None:
    letter = tmp_path / "letter.db"
    letter.write_text("Dear aunt\n" * 500, encoding="utf-8")
    outcome = harvestd(*words, "--db", letter)
    assert outcome.code == 1
    assert "expected a harvestd database" in outcome.err
    assert letter.read_text(encoding="utf-8") == "Dear aunt\n" * 500


# ------------------------------------------------------------------ once and run go on where the demo stopped


def test_once_lives_one_cycle_and_says_what_came_of_it(demo_copy: Path) -> None:
    outcome = harvestd("once", "--db", demo_copy)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "main: nothing to do, or the market is closed\n"


def test_run_lives_so_many_sessions_and_stops(demo_copy: Path) -> None:
    store = Store.open(demo_copy, read_only=True)
    before = store.performance.last("main")
    store.close()
    assert before is not None
    outcome = harvestd("run", "--sessions", "2", "--speed", "1000", "--db", demo_copy)
    assert outcome.code == 0
    store = Store.open(demo_copy, read_only=True)
    days = [row.session for row in store.performance.rows("main") if row.session > before.session]
    store.close()
    assert [day.isoformat() for day in days] in (["2020-03-23", "2020-03-24"], ["2020-03-23"])
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0


def test_a_halt_outlives_everything_until_resume(demo_copy: Path) -> None:
    assert "Halted:" in harvestd("halt", "the news", "--db", demo_copy).out
    assert "the news" in harvestd("status", "--db", demo_copy).out
    assert harvestd("run", "--sessions", "2", "--speed", "1000", "--db", demo_copy).code == 0
    store = Store.open(demo_copy, read_only=True)
    assert [plan for plan in store.plans.list() if plan.session.isoformat() > "2020-03-20"] == []
    store.close()
    assert "It was halted:" in harvestd("resume", "--db", demo_copy).out
    assert harvestd("resume", "--db", demo_copy).out == "Not halted.\n"


def test_a_demo_begun_again_begins_with_nothing_of_the_old_one(demo_copy: Path) -> None:
    """Not halted either."""
    harvestd("halt", "--db", demo_copy)
    outcome = harvestd(*span(demo_copy, end=FROM), "--json")
    assert outcome.code == 0
    figures = json.loads(outcome.out)
    assert (figures["sessions"], figures["reconciliation_breaks"]) == (1, 0)
    assert figures["orders"] == 20
    assert harvestd("resume", "--db", demo_copy).out == "Not halted.\n"
