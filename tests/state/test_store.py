"""The store: exact money, a journal that only grows, all or nothing, and files that are not ours."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from state.records import (
    Account,
    AccountType,
    Alert,
    AlertLevel,
    DailyBar,
    Intent,
    IntentState,
    Lot,
    OrderType,
    Plan,
    PlannedLot,
    PlannedTrade,
    PlanState,
    RealizedRow,
    Side,
    Term,
    TradeReason,
    Transaction,
    TransactionKind,
    WashMatch,
)
from state.store import (
    Approval,
    Command,
    FillRow,
    JournalConflict,
    NotADatabase,
    PerformanceRow,
    PositionRow,
    SchemaMismatch,
    Store,
    schema,
)
from state.store.revisions import HEAD_REVISION, MIGRATIONS
from state.store.types import decimal_text

D = Decimal
DAY = date(2024, 3, 4)
NOW = datetime(2024, 3, 4, 20, 41, 7, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    Store.open(path, create=True).close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, empty: bytes) -> Path:
    """A new database's path."""
    made = tmp_path / "house.db"
    made.write_bytes(empty)
    return made


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store.open(path)
    with opened.transaction():
        opened.household.put_accounts([Account("main", AccountType.TAXABLE), Account("ira", AccountType.IRA)])
    yield opened
    opened.close()


def bought(number: int = 1, **changed: Any) -> Transaction:
    row = Transaction(f"fill-{number}", "main", TransactionKind.BUY, DAY, "simulated", "AAA", D("10.5"), D("99.99"))
    return replace(row, **{"amount": D("-1049.90"), "executed_at": NOW, "order_id": "order-1", **changed})


# ------------------------------------------------------------------ exact money


@pytest.mark.parametrize("wrong", [1.5, 0.1, 10, "10", float("nan")])
def test_money_that_is_not_a_decimal_is_refused(store: Store, wrong: Any) -> None:
    with pytest.raises(TypeError, match="Expected a Decimal, was"):
        store.journal.append([bought(price=wrong)], NOW)
    assert store.journal.all() == ()


@pytest.mark.parametrize("wrong", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_money_that_is_no_number_is_refused(store: Store, wrong: str) -> None:
    with pytest.raises(ValueError, match="Expected a finite amount"):
        store.journal.append([bought(price=D(wrong))], NOW)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
def test_a_decimal_comes_back_as_it_was(value: Decimal) -> None:
    written = decimal_text(value)
    assert "E" not in written.upper()
    assert D(written) == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1E+3", "1000"),
        ("0.10", "0.1"),
        ("-0", "0"),
        ("0.000000001", "0.000000001"),
        ("123456789012345678.123456789", None),
    ],
)
def test_decimals_are_written_plainly(store: Store, value: str, written: str | None) -> None:
    store.journal.append([bought(price=D(value))], NOW)
    (row,) = store.database.execute(text("SELECT price, typeof(price) FROM transactions"))
    assert tuple(row) == (written or value, "text"), "never through a float"
    assert store.journal.all()[0].price == D(value)


def test_a_sum_of_cents_is_exact(store: Store) -> None:
    """Ten times ten cents are a dollar; as floats they are not."""
    store.journal.append([bought(number, amount=D("0.10")) for number in range(10)], NOW)
    assert store.journal.cash("main") == D("1.00")
    assert store.journal.cash("ira") == 0


def test_an_instant_needs_a_time_zone_and_is_kept_to_the_microsecond(store: Store) -> None:
    with pytest.raises(TypeError, match="Expected an instant with a time zone"):
        store.journal.append([bought(executed_at=NOW.replace(tzinfo=None))], NOW)
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    store.journal.append([bought(executed_at=tokyo)], NOW)
    assert store.journal.all()[0].executed_at == NOW


# ------------------------------------------------------------------ the journal


def test_the_journal_keeps_rows_as_they_came_and_when_they_were_learned(store: Store) -> None:
    rows = [bought(2), bought(1), bought(3, symbol="BBB", trade_date=DAY - timedelta(days=9))]
    added = store.journal.append(rows, NOW)
    assert added == store.journal.all() == tuple(replace(row, recorded_at=NOW) for row in rows)


def test_a_row_that_comes_again_changes_nothing(store: Store) -> None:
    store.journal.append([bought()], NOW)
    again = store.journal.append([bought(), bought(2)], NOW + timedelta(hours=1))
    assert [row.transaction_id for row in again] == ["fill-2"]
    assert store.journal.all()[0].recorded_at == NOW, "what was known when is not rewritten"
    assert store.journal.count() == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"price": D("99.98")},
        {"quantity": D(11)},
        {"symbol": "BBB"},
        {"account_id": "ira"},
        {"trade_date": DAY + timedelta(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_id_with_two_contents_is_a_conflict_and_nothing_of_the_batch_is_kept(
    store: Store, changed: dict[str, Any]
) -> None:
    store.journal.append([bought()], NOW)
    with pytest.raises(JournalConflict, match="came again with another content"):
        store.journal.append([bought(2), bought(**changed), bought(3)], NOW)
    assert [row.transaction_id for row in store.journal.all()] == ["fill-1"]


def test_the_journal_has_no_way_to_change_or_remove_a_row(store: Store) -> None:
    writers = {name for name in dir(store.journal) if not name.startswith("_")}
    reads = {"about", "all", "cash", "count", "first_day", "learned_since", "since", "splits_after"}
    reads |= {"told_by", "versions"}
    assert writers == {"append", *reads}


def test_rows_since_a_day_are_those_learned_by_another_cut(store: Store) -> None:
    store.journal.append([bought(1), bought(2, account_id="ira")], NOW)
    later = NOW + timedelta(minutes=1)
    assert not store.journal.learned_since(later, "main")
    assert store.journal.learned_since(NOW - timedelta(seconds=1), "main")


def test_what_others_did_is_news_and_our_own_executions_are_not(store: Store) -> None:
    store.journal.append([bought(1, client_order_id="hv-main-1-0")], NOW)
    before = NOW - timedelta(seconds=1)
    assert not store.journal.learned_since(before, "main")
    store.journal.append([bought(2, client_order_id=None)], NOW)
    assert store.journal.learned_since(before, "main")


# ------------------------------------------------------------------ all or nothing


def test_a_transaction_that_fails_leaves_nothing(store: Store, path: Path) -> None:
    def fails() -> None:
        with store.transaction():
            store.journal.append([bought()], NOW)
            store.meta.put("kind", "demo")
            with store.transaction():
                store.alerts.put(Alert("key", AlertLevel.INFO, "text", NOW))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert (store.journal.all(), store.meta.get("kind"), store.alerts.list()) == ((), None, ())


def test_a_failure_inside_undoes_the_outside_too(store: Store) -> None:
    def fails() -> None:
        with store.transaction():
            store.journal.append([bought()], NOW)
            store.journal.append([bought(price=D(1))], NOW)

    with pytest.raises(JournalConflict):
        fails()
    assert store.journal.all() == ()
    store.journal.append([bought()], NOW)
    assert store.journal.count() == 1, "and the next transaction is a new one"


def test_nobody_sees_half_of_a_transaction(store: Store, path: Path) -> None:
    other = Store.open(path, read_only=True)
    with store.transaction():
        store.journal.append([bought()], NOW)
        assert other.journal.count() == 0
    assert other.journal.count() == 1
    other.close()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from state.store import Store
store = Store.open(Path(sys.argv[1]))
store.meta.put("whole", "yes")
with store.transaction():
    store.meta.put("half", "yes")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_in_a_transaction_what_was_committed_is_there_and_the_rest_is_not(path: Path) -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=root, check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    store = Store.open(path)
    assert (store.meta.get("whole"), store.meta.get("half")) == ("yes", None)
    store.close()


# ------------------------------------------------------------------ the file


def test_a_fresh_migration_makes_exactly_the_tables_of_the_code(store: Store) -> None:
    context = MigrationContext.configure(store.database.connection, opts={"compare_type": True})
    assert compare_metadata(context, schema.metadata) == []


def test_the_newest_migration_is_the_one_the_code_asks_for() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD_REVISION]


def test_the_designs_tables_are_there(store: Store) -> None:
    names = {row.name for row in store.database.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    assert names >= {
        "accounts", "securities", "benchmarks", "benchmark_constituents", "positions", "tax_lots", "transactions",
        "market_data", "rebalancing_events", "rebalancing_trades", "orders", "fills", "approvals", "alerts",
        "tax_profiles", "corporate_actions", "commands",
    }  # fmt: skip


@pytest.mark.parametrize("found", ["0000", "9999", None])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_of_another_version_is_refused_and_left_as_it_is(
    path: Path, found: str | None, read_only: bool
) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute(
            "DELETE FROM alembic_version" if found is None else f"UPDATE alembic_version SET version_num='{found}'"
        )
    raw.close()
    before = digest(path)
    with pytest.raises(SchemaMismatch, match=f"expected schema revision {HEAD_REVISION}, was {found or 'none'}"):
        Store.open(path, read_only=read_only)
    assert digest(path) == before


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_programs_files_are_refused_and_left_as_they_are(tmp_path: Path) -> None:
    text_file = tmp_path / "letter.txt"
    text_file.write_text("Dear aunt\n" * 500, encoding="utf-8")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE recipes (name)")
    raw.close()
    for path in (text_file, other):
        before = digest(path)
        for create in (False, True):
            with pytest.raises(NotADatabase, match="expected a harvestd database"):
                Store.open(path, create=create)
        assert digest(path) == before


def test_a_database_that_is_not_there_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase, match="found none"):
        Store.open(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    Store.open(tmp_path / "deep" / "new.db", create=True).close()
    assert (tmp_path / "deep" / "new.db").stat().st_mode & 0o077 == 0, "nobody else may read it"


def test_a_store_opened_to_read_cannot_write(store: Store, path: Path) -> None:
    reader = Store.open(path, read_only=True)
    with pytest.raises(Exception, match="readonly database"):
        reader.meta.put("kind", "demo")
    reader.close()


def test_what_is_done_to_a_private_copy_does_not_touch_the_file(store: Store, path: Path) -> None:
    store.journal.append([bought()], NOW)
    store.close()
    before = digest(path)
    copy = Store.private_copy(path)
    assert copy.path == path
    assert copy.journal.count() == 1
    with copy.transaction():
        copy.journal.append([bought(2)], NOW)
        copy.meta.put("kind", "copy")
    assert copy.journal.count() == 2
    copy.close()
    assert digest(path) == before
    again = Store.open(path)
    assert (again.journal.count(), again.meta.get("kind")) == (1, None)
    again.close()


def test_durable_means_that_a_commit_waits_for_the_disk(path: Path) -> None:
    for durable, level in ((True, 2), (False, 1)):
        store = Store.open(path, durable=durable)
        assert store.database.execute(text("PRAGMA synchronous")).scalar() == level
        assert store.database.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        store.close()


# ------------------------------------------------------------------ records come back as they went


PLANNED = PlannedTrade(
    1, "AAA", Side.SELL, D(10), D("99.99"), TradeReason.HARVEST, "why", tie=1,
    lots=(PlannedLot("fill-1", DAY, D(10), D(1200), Term.SHORT, D("-200.10"), D("0.5")),),
    replacement=("BBB", "CCC"), days_held=40, cost=D("0.20"), tracking_error_effect_bps=1.25,
)  # fmt: skip
PLAN = Plan(
    "main-20240304-1", "main", DAY, 1, NOW, PlanState.AWAITING_APPROVAL, (PLANNED,), ("TRIGGER_HARVEST",), D("100.01"),
    1.5, 2.5, {"AAA": D("0.1")}, {"BBB": D("0.100001")}, reasons=("APPROVAL_ORDER_VALUE",), notes=("a sentence",),
    certified_gap_bp=0.1, expires_at=NOW + timedelta(hours=20),
)  # fmt: skip
INTENT = Intent(
    "hv-main-20240304-1-1-0", "main-20240304-1", "main", 1, 0, "AAA", Side.SELL, D(10), IntentState.RECORDED, DAY,
    OrderType.LIMIT, D("99.99"), tie=1,
)  # fmt: skip


def test_plans_intents_and_fills(store: Store) -> None:
    store.plans.record(PLAN, NOW)
    store.orders.record([INTENT])
    assert store.plans.get(PLAN.plan_id) == PLAN
    assert store.plans.list(only_open=True) == (PLAN,)
    assert store.orders.list(plan_id=PLAN.plan_id) == (INTENT,)
    sent = replace(INTENT, state=IntentState.FILLED, broker_order_id="b-1", submitted_quantity=D(10), submitted_at=NOW)
    store.orders.save(sent)
    assert store.orders.get(INTENT.client_order_id) == store.orders.by_broker_id("b-1") == sent
    assert store.orders.list(only_open=True) == ()
    fill = FillRow("x-1", "main", sent.client_order_id, "b-1", "AAA", Side.SELL, D(10), D("99.98"), NOW)
    assert store.orders.add_fill(fill)
    assert not store.orders.add_fill(fill)
    assert store.orders.fills() == (fill,)
    assert store.replaced_by(["x-1", "unknown"]) == {}, "a sale stands in for nothing"
    assert store.harvested() == ((DAY, "AAA"),)


def test_a_replacement_knows_the_name_it_stands_in_for(store: Store) -> None:
    trade = replace(PLANNED, side=Side.BUY, symbol="BBB", reason=TradeReason.REPLACEMENT, replacement=("AAA",))
    store.plans.record(replace(PLAN, trades=(trade,)), NOW)
    store.orders.record([replace(INTENT, symbol="BBB", side=Side.BUY)])
    for name in ("x-1", "x-2"):
        store.orders.add_fill(FillRow(name, "main", INTENT.client_order_id, "b-1", "BBB", Side.BUY, D(5), D(99), NOW))
    many = [f"other-{number}" for number in range(1_200)]
    assert store.replaced_by([*many, "x-1", "x-2"]) == {"x-1": "AAA", "x-2": "AAA"}


def test_the_legs_of_a_plan_are_those_on_disk_also_after_a_write_that_failed(store: Store) -> None:
    store.plans.record(PLAN, NOW)
    dearer = replace(PLAN, trades=(replace(PLANNED, price=D("123.45")),))
    assert store.plans.get(PLAN.plan_id) == PLAN

    def fails() -> None:
        with store.transaction():
            store.plans.reprice(dearer, NOW)
            assert store.plans.list()[0].trades[0].price == D("123.45")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert store.plans.get(PLAN.plan_id) == PLAN
    store.plans.reprice(dearer, NOW)
    assert store.plans.list()[0].trades[0].price == D("123.45")


def test_a_plan_and_an_intent_are_recorded_once(store: Store) -> None:
    """F11, I1: the same plan started twice, the same order made twice."""
    store.plans.record(PLAN, NOW)
    with pytest.raises(sqlite3.IntegrityError):
        store.plans.record(PLAN, NOW)
    with pytest.raises(sqlite3.IntegrityError):
        store.plans.record(replace(PLAN, plan_id="another"), NOW)  # the session's first plan exists
    store.orders.record([INTENT])
    with pytest.raises(sqlite3.IntegrityError):
        store.orders.record([INTENT])
    assert store.plans.next_sequence("main", DAY) == 2


def test_a_repriced_plan_keeps_what_it_was_asked_with(store: Store) -> None:
    store.plans.record(PLAN, NOW)
    fresh = replace(PLAN, revision=1, trades=(replace(PLANNED, price=D("101")),), reasons=("APPROVAL_CHANGED",))
    store.plans.reprice(fresh, NOW)
    assert store.plans.get(PLAN.plan_id) == fresh


def test_questions_by_plan_and_revision(store: Store) -> None:
    store.plans.record(PLAN, NOW)
    asked = Approval(PLAN.plan_id, 0, NOW, NOW + timedelta(hours=20), ("why",), weights_before={"AAA": D("0.1")})
    store.plans.put_approval(asked)
    (found,) = store.plans.approvals(PLAN.plan_id)
    assert found == replace(asked, weights_after={})
    store.plans.put_approval(replace(asked, decision="approved", decided_at=NOW, decided_by="me"))
    store.plans.put_approval(replace(asked, revision=1))
    assert [(one.revision, one.decision) for one in store.plans.approvals()] == [(0, "approved"), (1, None)]


def test_lots_are_replaced_queue_by_queue_and_realized_rows_sale_by_sale(store: Store) -> None:
    def lot(name: str, number: int) -> Lot:
        return Lot(f"{name}-{number}", "main", name, DAY, DAY, D("10.5"), D("1049.895"), D("1.25"))

    match = WashMatch("ira-1", "ira", DAY, D(1), D("3.14"), True)
    row = RealizedRow(
        "sale-1", "main", "AAA", "AAA-0", DAY, DAY, DAY, D(1), D(90), D(100), D(-10), D("3.14"), D("3.14"), Term.SHORT,
        DAY + timedelta(days=30), (match,),
    )  # fmt: skip
    other = replace(row, sale_id="sale-2", symbol="BBB", lot_id="BBB-0", matches=())
    queues = {("main", "AAA"): (lot("AAA", 1), lot("AAA", 0)), ("main", "BBB"): (lot("BBB", 0),)}
    store.lots.replace(queues, {"sale-1": (row,), "sale-2": (other,)})
    assert [one.lot_id for one in store.lots.lots("main", "AAA")] == ["AAA-1", "AAA-0"], "in the order of disposal"
    assert store.lots.lots("main", "BBB") == (lot("BBB", 0),)
    assert store.lots.realized("main") == (row, other)
    store.lots.replace({("main", "AAA"): (lot("AAA", 2),)}, {"sale-1": (), "sale-2": (other, other)})
    assert [one.lot_id for one in store.lots.lots()] == ["AAA-2", "BBB-0"]
    assert store.lots.realized() == (other, other)
    store.lots.replace({("main", "AAA"): ()}, {})
    assert [one.lot_id for one in store.lots.lots()] == ["BBB-0"]
    store.lots.replace_all({}, {"sale-3": (replace(row, sale_id="sale-3"),)})
    assert (store.lots.lots(), [each.sale_id for each in store.lots.realized()]) == ((), ["sale-3"])


def test_prices_and_figures(store: Store) -> None:
    bars = [DailyBar("AAA", DAY, D("10.01"), D("9.99")), DailyBar("BBB", DAY, D("20"), D("20"))]
    store.market.add(bars)
    store.market.add([replace(bars[0], close=D(11))])
    assert tuple(store.market.bars()) == tuple(bars), "a known close is not rewritten"
    assert store.market.last_closes() == {"AAA": D("10.01"), "BBB": D("20")}
    row = PerformanceRow("main", DAY, D("1.01"), D(1), D(0), D(2), 12.5, "", D(0), D(0))
    store.performance.put(row)
    assert store.performance.rows("main") == (row,) == (store.performance.last("main"),)


def test_tasks_cursors_positions_and_commands(store: Store) -> None:
    store.agenda.mark(DAY, "decide", "main", NOW)
    store.agenda.mark(DAY, "decide", "main", NOW + timedelta(hours=1))
    assert store.agenda.done(DAY, "main") == {"decide"}
    assert store.agenda.done(DAY, "ira") == store.agenda.done(DAY + timedelta(days=1), "main") == frozenset()
    store.agenda.set_cursor("main", "activities", "activity-7")
    assert (store.agenda.cursor("main", "activities"), store.agenda.cursor("ira", "activities")) == ("activity-7", None)
    store.positions.replace(
        "main", [PositionRow("main", "AAA", D(5), NOW, "locked"), PositionRow("main", "BBB", D(1), NOW)]
    )
    store.positions.replace("main", [PositionRow("main", "BBB", D(2), NOW)])
    assert store.positions.list() == (PositionRow("main", "BBB", D(2), NOW),)
    command = Command("approve-x-0", "approve", "x", NOW, "me")
    assert store.commands.put(command)
    assert not store.commands.put(replace(command, created_by="another"))
    assert store.commands.waiting() == (command,)
    store.commands.take(command.command_id, NOW, "done")
    assert store.commands.waiting() == ()


# ------------------------------------------------------------------ the outbox (I6)


def alert(key: str, *, recovered: bool = False) -> Alert:
    return Alert(key, AlertLevel.ERROR, "text", NOW, recovered=recovered)


def test_an_incident_is_one_alert_and_one_recovery(store: Store) -> None:
    put = store.alerts.put
    assert not put(alert("a", recovered=True)), "nothing to recover from"
    assert [put(alert("a")), put(alert("a")), put(alert("b"))] == [True, False, True]
    assert store.alerts.open_keys("") == ("a", "b")
    assert [put(alert("a", recovered=True)), put(alert("a", recovered=True))] == [True, False]
    assert store.alerts.open_keys("") == ("b",)
    assert put(alert("a")), "and it may happen again"
    assert store.alerts.count("a") == 2


def test_alerts_wait_until_the_notifier_took_them(store: Store) -> None:
    store.alerts.put(alert("a"))
    store.alerts.put(alert("b"))
    (first, _), (second, told) = store.alerts.unsent()
    store.alerts.mark_sent(first, NOW)
    assert [one for one, _ in store.alerts.unsent()] == [second]
    assert told.key == "b"


def test_an_account_whose_name_looks_like_a_pattern_is_only_itself(store: Store) -> None:
    """`joint_1` and `joint-1` are two accounts: the incident of one is not the other's."""
    store.alerts.put(alert("reconcile:joint-1:AAA"))
    store.alerts.put(alert("reconcile:joint_1:BBB"))
    assert store.alerts.open_keys("reconcile:joint_1:") == ("reconcile:joint_1:BBB",)
    assert [one.key for one in store.alerts.open_incidents("reconcile:joint_1:")] == ["reconcile:joint_1:BBB"]
    assert store.alerts.count("reconcile:joint_1:") == 1
