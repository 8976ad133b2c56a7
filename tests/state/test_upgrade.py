"""An older harvestd's database under this one, this one's under an older, and upgrades that do not come to an end."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import DBAPIError
from storage import code_of, contents, die, disk_full_beyond, in_child, made_older, was_killed

from state.records import (
    Account,
    AccountType,
    Alert,
    AlertLevel,
    Intent,
    IntentState,
    OrderType,
    Plan,
    PlannedTrade,
    PlanState,
    Side,
    TradeReason,
    Transaction,
    TransactionKind,
)
from state.store import SchemaMismatch, Store, revisions, schema
from state.store.database import revision_of, upgrade
from state.store.errors import SchemaOutdated, StorageFault, storage_fault

D = Decimal
NOW = datetime(2024, 3, 4, 20, 41, tzinfo=UTC)
DAY = date(2024, 3, 4)
OLDER = ("0001", "0002", "0003")
PLAN = "main-20240304-1"


def a_trade(number: int) -> Transaction:
    return Transaction(
        transaction_id=f"buy-{number}",
        account_id="main",
        kind=TransactionKind.BUY,
        trade_date=DAY,
        source="test",
        symbol=f"N{number:03}",
        quantity=D(number + 1),
        price=D("10.01"),
        amount=-D("10.01") * (number + 1),
    )


def a_plan() -> Plan:
    trade = PlannedTrade(1, "N001", Side.BUY, D(10), D("10.01"), TradeReason.REBALANCE, "by hand")
    return Plan(PLAN, "main", DAY, 1, NOW, PlanState.EXECUTING, (trade,), ("by hand",), D(100_000))


def an_intent() -> Intent:
    return Intent(
        client_order_id="hv-main-20240304-1-1-0",
        plan_id=PLAN,
        account_id="main",
        leg=1,
        slice_number=0,
        symbol="N001",
        side=Side.BUY,
        quantity=D(10),
        state=IntentState.UNKNOWN,
        session=DAY,
        order_type=OrderType.MARKET,
        reference_price=D("10.01"),
    )


@pytest.fixture(scope="module")
def households(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One household, by the revision it is written in: an account, a journal, a plan with an order of unknown fate."""
    folder = tmp_path_factory.mktemp("households")
    newest = folder / "newest.db"
    store = Store.open(newest, create=True)
    with store.transaction():
        store.meta.put("kind", "household")
        store.household.put_accounts([Account("main", AccountType.TAXABLE)])
        store.journal.append([a_trade(number) for number in range(200)], NOW)
        store.plans.record(a_plan(), NOW)
        store.orders.record([an_intent()])
        store.alerts.put(Alert("locked:N001", AlertLevel.WARNING, "N001 is locked", NOW))
    store.close()
    made = {revision: made_older(newest, folder / f"{revision}.db", revision) for revision in OLDER}
    return made | {revisions.HEAD_REVISION: newest}


@pytest.fixture
def old(households: dict[str, Path], tmp_path: Path) -> Path:
    """A database of the revision before the newest."""
    return Path(shutil.copy(households[OLDER[-1]], tmp_path / "house.db"))


@pytest.fixture
def new(households: dict[str, Path], tmp_path: Path) -> Path:
    """A database of the newest revision."""
    return Path(shutil.copy(households[revisions.HEAD_REVISION], tmp_path / "house.db"))


def digests(path: Path) -> dict[str, str]:
    """Of the file and everything beside it."""
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in path.parent.glob(f"{path.name}*")}


def kept_rows(before: Path, after: Path) -> Iterator[str]:
    """The tables whose rows are, in the columns both have, the same."""
    ours = contents(after)
    for table, (columns, rows) in contents(before).items():
        names, others = ours[table]
        places = [names.index(column) for column in columns]
        if rows == [tuple(row[place] for place in places) for row in others]:
            yield table


# ------------------------------------------------------------------ an older one


@pytest.mark.fault("F40")
@pytest.mark.parametrize("revision", OLDER)
def test_an_older_database_is_brought_up_with_every_row_it_has(
    households: dict[str, Path], tmp_path: Path, revision: str
) -> None:
    path = Path(shutil.copy(households[revision], tmp_path / "house.db"))
    upgrade(path)
    assert revision_of(path) == revisions.HEAD_REVISION
    before = contents(households[revision])
    assert set(kept_rows(households[revision], path)) == before.keys() - {"alembic_version"}
    assert len(before["transactions"][1]) == 200
    store = Store.open(path)
    try:
        context = MigrationContext.configure(store.database.connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert [one.state for one in store.orders.list()] == [IntentState.UNKNOWN]
        with pytest.raises(sqlite3.IntegrityError):  # references are held to again
            store.orders.record([an_intent()])
    finally:
        store.close()


@pytest.mark.fault("F40")
def test_nothing_works_on_an_older_one_until_it_is_upgraded(old: Path) -> None:
    before = digests(old)
    for create in (False, True):
        with pytest.raises(SchemaOutdated, match=r"older harvestd wrote it. `harvestd upgrade` brings it up"):
            Store.open(old, create=create)
    assert {name: digest for name, digest in digests(old).items() if name == old.name} == before
    upgrade(old)
    Store.open(old).close()


def test_an_older_one_can_be_looked_at_as_it_is(old: Path) -> None:
    before = digests(old)
    looking, copy = Store.open(old, read_only=True), Store.private_copy(old)
    for store in (looking, copy):
        assert store.journal.count() == 200
        assert store.states.list("main") == ()
        assert [one.refusals for one in store.orders.list()] == [0]
    with pytest.raises(DBAPIError, match="readonly"):
        looking.meta.put("kind", "another")
    copy.meta.put("kind", "another")
    for store in (looking, copy):
        store.close()
    assert digests(old)[old.name] == before[old.name]
    assert revision_of(old) == OLDER[-1]


def test_upgrading_twice_does_nothing_the_second_time(old: Path) -> None:
    upgrade(old)
    before = digests(old)
    upgrade(old)
    assert digests(old)[old.name] == before[old.name]


# ------------------------------------------------------------------ cut half-way


def die_at_statement(path: Path, number: int) -> None:
    """Upgrade, and be killed when SQLite is about to begin the `number`-th statement."""
    connect, left = sqlite3.connect, number

    def traced(_statement: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            die()

    def watched(*arguments: object, **options: object) -> sqlite3.Connection:
        raw = connect(*arguments, **options)  # type: ignore[call-overload]
        raw.set_trace_callback(traced)
        return raw  # type: ignore[no-any-return]

    with patch("state.store.database.sqlite3.connect", watched):
        upgrade(path)


@pytest.mark.fault("F40")
@pytest.mark.parametrize("revision", ["0001", "0003"])
def test_killed_at_any_statement_the_old_database_is_whole_and_the_next_start_upgrades_it(
    households: dict[str, Path], tmp_path: Path, revision: str
) -> None:
    number, before, killed = 0, contents(households[revision]), 0
    while True:
        number += 1
        path = Path(shutil.copy(households[revision], tmp_path / f"{number}.db"))
        status = in_child(lambda path=path, number=number: die_at_statement(path, number))
        if not was_killed(status):
            assert status == 0
            break
        killed += 1
        found = revision_of(path)
        assert found in (revision, revisions.HEAD_REVISION)
        if found == revision:
            assert contents(path) == before
            with code_of(revision):
                Store.open(path).close()  # the old code works with it
            upgrade(path)
        assert set(kept_rows(households[revision], path)) == before.keys() - {"alembic_version"}
        Store.open(path).close()
        for left in tmp_path.glob(f"{number}.db*"):
            left.unlink()
    assert killed > 15, "it died at each of many statements"


@pytest.mark.fault("F38")
@pytest.mark.fault("F40")
@pytest.mark.parametrize("pages", [0, 8, 12, 16])  # none for the index of the WAL, or some for the WAL itself
def test_on_a_full_disk_it_stays_the_old_one(households: dict[str, Path], tmp_path: Path, pages: int) -> None:
    old = Path(shutil.copy(households["0001"], tmp_path / "house.db"))
    before = contents(old)

    def on_a_full_disk() -> None:
        disk_full_beyond(pages * 4096)
        with pytest.raises((DBAPIError, sqlite3.Error)) as told:
            upgrade(old)
        assert storage_fault(told.value) is StorageFault.UNWRITABLE

    assert in_child(on_a_full_disk) == 0
    assert contents(old) == before
    with code_of("0001"):
        Store.open(old).close()
    upgrade(old)
    Store.open(old).close()


@pytest.mark.fault("F37")
def test_while_another_process_writes_it_stays_the_old_one(old: Path) -> None:
    with closing(sqlite3.connect(old, isolation_level=None)) as other, patch("state.store.database.WAIT_S", 0.05):
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DBAPIError) as told:
            upgrade(old)
        assert storage_fault(told.value) is StorageFault.BUSY
    assert revision_of(old) == OLDER[-1]
    upgrade(old)


# ------------------------------------------------------------------ the way back


@pytest.mark.fault("F40")
def test_older_code_refuses_a_newer_database_and_leaves_it_as_it_is(new: Path) -> None:
    def killed_while_working() -> None:
        store = Store.open(new)
        store.meta.put("left", "in the WAL")
        die()

    assert was_killed(in_child(killed_while_working))
    before = digests(new)
    assert before.keys() >= {new.name, f"{new.name}-wal"}
    with code_of(OLDER[-1]):
        for read_only in (False, True):
            with pytest.raises(SchemaMismatch, match="expected schema revision 0003, was 0004: a newer harvestd"):
                Store.open(new, read_only=read_only)
        with pytest.raises(SchemaMismatch, match="a newer harvestd wrote it"):
            upgrade(new)
    for name in (new.name, f"{new.name}-wal"):
        assert digests(new)[name] == before[name]


@pytest.mark.parametrize("revision", ["0000", "abcd", "99"])
def test_a_revision_that_is_none_of_ours_is_neither_older_nor_newer(new: Path, revision: str) -> None:
    with closing(sqlite3.connect(new)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(SchemaMismatch, match="no harvestd that this one knows of wrote it") as told:
        Store.open(new)
    assert not isinstance(told.value, SchemaOutdated)


# ------------------------------------------------------------------ migrations to come


FUTURE = """
revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

import sqlalchemy as sa
from alembic import op


def upgrade():
    with op.batch_alter_table("accounts", recreate="always") as batch_op:
        batch_op.add_column(sa.Column("colour", sa.Text(), server_default="blue", nullable=False))
    {then}
"""


@pytest.fixture
def with_future(tmp_path: Path) -> Iterator[Path]:
    """The code of revision 0005, whose migration copies the table that most others refer to."""
    folder = tmp_path / "migrations"
    shutil.copytree(revisions.MIGRATIONS, folder)
    with patch.object(revisions, "MIGRATIONS", folder), code_of("0005"):
        yield folder / "versions" / "0005_future.py"


def test_a_migration_may_copy_a_table_that_others_refer_to(new: Path, with_future: Path) -> None:
    with_future.write_text(FUTURE.format(then="pass"))
    before = contents(new)
    upgrade(new)
    after = contents(new)
    assert after["accounts"][1] == [(*row, "blue") for row in before["accounts"][1]]
    assert {name for name in before if before[name] != after[name]} == {"accounts", "alembic_version"}
    with closing(sqlite3.connect(new)) as raw:
        raw.execute("PRAGMA foreign_keys=ON")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            raw.execute("DELETE FROM accounts")


def test_one_that_leaves_rows_without_what_they_refer_to_is_taken_back(new: Path, with_future: Path) -> None:
    with_future.write_text(FUTURE.format(then='op.execute("DELETE FROM accounts")'))
    before = contents(new)
    with pytest.raises(SchemaMismatch, match=r"expected every row of .* to refer to one of accounts after the upgrade"):
        upgrade(new)
    assert contents(new) == before


def test_one_that_cannot_be_done_with_what_is_there_says_so(new: Path, with_future: Path) -> None:
    with_future.write_text(FUTURE.format(then='op.execute("DROP TABLE no_such_table")'))
    before = contents(new)
    with pytest.raises(SchemaMismatch, match=r"could not be brought to schema revision 0005 .* no such table"):
        upgrade(new)
    assert contents(new) == before
