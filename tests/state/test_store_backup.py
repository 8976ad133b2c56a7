"""Copies of a database in use, disks that fail, write locks that others hold, and readers that must hold none."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from storage import contents, die, disk_full_beyond, in_child

from state.records import Account, AccountType, Alert, AlertLevel
from state.store import Store, StoreError
from state.store.backup import aside, check_copy, copy_online
from state.store.errors import CopyBroken, StorageFault, storage_fault

NOW = datetime(2024, 3, 4, 20, 41, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A household's database."""
    made = tmp_path / "house.db"
    store = Store.open(made, create=True)
    with store.transaction():
        store.household.put_accounts([Account("main", AccountType.TAXABLE)])
        for number in range(2000):
            store.meta.put(f"fact {number}", "so it is " * 20)
    store.close()
    return made


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """It, opened for work, and soon tired of waiting."""
    opened = Store.open(path)
    opened.database.execute(text("PRAGMA busy_timeout=20"))
    yield opened
    opened.close()


@contextmanager
def process(do: Callable[[Callable[[str], None]], None]) -> Iterator[Callable[[], str]]:
    """Another process, as long as the block lasts; it says words, and the block waits for the next one."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            do(lambda word: os.write(writing, word.encode()) and None)
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        yield lambda: os.read(reading, 100).decode()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(reading)


# ------------------------------------------------------------------ copies


def test_a_copy_is_one_file_of_the_owners_with_everything_in_it(path: Path, store: Store, tmp_path: Path) -> None:
    store.meta.put("committed", "and still in the WAL")
    copy = tmp_path / "copy.db"
    found = copy_online(path, copy)
    check_copy(copy, found)
    assert [each.name for each in tmp_path.glob("copy.db*")] == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert contents(copy) == contents(path)
    assert (found.revision, found.rows["meta"], found.rows["accounts"]) == ("0004", 2001, 1)
    assert copy.read_bytes()[18:20] == b"\x01\x01", "no reader expects a WAL beside it"


def test_a_copy_does_not_hold_up_who_writes_and_is_of_one_instant(path: Path, tmp_path: Path) -> None:
    """Another process writes two facts that belong together, over and over, and waits for nobody."""

    def writes(say: Callable[[str], None]) -> None:
        store = Store.open(path, durable=False)
        store.database.execute(text("PRAGMA busy_timeout=0"))
        for number in range(1_000_000):
            with store.transaction():
                store.meta.put("left", str(number))
                store.meta.put("right", str(number))
            if number in (0, 200):
                say(f"{number} ")

    with process(writes) as heard:
        assert heard() == "0 "
        for number in range(10):
            copy = tmp_path / f"copy-{number}.db"
            check_copy(copy, copy_online(path, copy))
            with closing(Store.open(copy, read_only=True)) as found:
                assert found.meta.get("left") == found.meta.get("right") is not None
        assert heard() == "200 ", "it went on writing, and never met a lock"


def test_a_copy_takes_no_name_that_is_taken(path: Path, tmp_path: Path) -> None:
    taken = tmp_path / "mine.db"
    taken.write_text("mine")
    with pytest.raises(FileExistsError):
        copy_online(path, taken)
    assert taken.read_text() == "mine"


def flipped(copy: Path) -> None:
    with copy.open("r+b") as file:
        for place in range(4096 * 4, copy.stat().st_size, 4096):
            file.seek(place)
            file.write(b"\xff" * 64)


def cut(copy: Path) -> None:
    os.truncate(copy, copy.stat().st_size // 2)


def emptied(copy: Path) -> None:
    os.truncate(copy, 0)


def without_a_row(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as raw, raw:
        raw.execute("DELETE FROM meta WHERE key = 'fact 7'")


def of_another_revision(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '0003'")


def without_its_account(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as raw, raw:
        raw.execute("INSERT INTO positions VALUES ('nobody', 'AAA', '1', '2024-03-04T00:00:00+00:00', NULL)")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (flipped, "sound copy"),
        (cut, "sound copy"),
        (emptied, "expected a harvestd database"),
        (without_a_row, "meta has 1999 rows instead of 2000"),
        (of_another_revision, "schema revision 0003 instead of 0004"),
        (without_its_account, "a row of positions refers to none of accounts"),
    ],
)
def test_a_copy_that_is_not_the_database_is_found_out(
    path: Path, tmp_path: Path, harm: Callable[[Path], None], said: str
) -> None:
    copy = tmp_path / "copy.db"
    found = copy_online(path, copy)
    harm(copy)
    with pytest.raises(StoreError, match=said):
        check_copy(copy, found)


def test_a_damaged_database_is_not_copied_in_silence(path: Path, tmp_path: Path) -> None:
    flipped(path)
    copy = tmp_path / "copy.db"
    with pytest.raises((sqlite3.DatabaseError, CopyBroken)):
        check_copy(copy, copy_online(path, copy))


def test_what_a_killed_process_left_is_taken_away(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "house.making"

    def killed() -> None:
        with aside(place) as passing:
            copy_online(path, passing)
            die()

    in_child(killed)
    place.with_name("house.making-journal").write_text("left")
    assert place.exists()
    with aside(place) as passing:
        check_copy(passing, copy_online(path, passing))
        passing.rename(tmp_path / "kept.db")
    assert not list(tmp_path.glob("house.making*"))
    assert (tmp_path / "kept.db").exists()


@pytest.mark.fault("F38")
def test_on_a_full_disk_there_is_no_copy_and_nothing_is_left_of_it(path: Path, tmp_path: Path) -> None:
    before = contents(path)

    def on_a_full_disk() -> None:
        disk_full_beyond(16 * 4096)
        with pytest.raises((sqlite3.Error, OSError)) as told, aside(tmp_path / "house.making") as passing:
            copy_online(path, passing)
        assert storage_fault(told.value) is StorageFault.UNWRITABLE

    assert in_child(on_a_full_disk) == 0
    assert not list(tmp_path.glob("house.making*"))
    assert contents(path) == before


# ------------------------------------------------------------------ what a fault is


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), StorageFault.BUSY),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), StorageFault.BUSY),
        (sqlite_error(sqlite3.SQLITE_FULL), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_NOTADB), StorageFault.UNWRITABLE),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY), None),
        (sqlite_error(sqlite3.SQLITE_ERROR), None),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), None),
        (OSError(errno.ENOSPC, "No space left on device"), StorageFault.UNWRITABLE),
        (OSError(errno.EROFS, "Read-only file system"), StorageFault.UNWRITABLE),
        (OSError(errno.EIO, "Input/output error"), StorageFault.UNWRITABLE),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), None),
        (ValueError("no number"), None),
    ],
)
def test_a_fault_is_told_by_its_number(error: Exception, fault: StorageFault | None) -> None:
    assert storage_fault(error) is fault
    wrapped = DBAPIError.instance("INSERT", {}, error, sqlite3.Error)
    assert storage_fault(wrapped) is fault


@pytest.mark.fault("F37")
def test_who_finds_the_write_lock_taken_has_written_nothing_and_can_try_again(path: Path, store: Store) -> None:
    def holds(say: Callable[[str], None]) -> None:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        say("held")

    with process(holds) as heard:
        assert heard() == "held"
        with pytest.raises(DBAPIError) as told, store.transaction():
            pytest.fail("nothing is done inside")
        assert storage_fault(told.value) is StorageFault.BUSY
        with pytest.raises(DBAPIError):
            store.meta.put("alone", "x")
    assert store.database.rollbacks == 0, "nothing was taken back: nothing had begun"
    with store.transaction():
        store.meta.put("together", "x")
    assert (store.meta.get("alone"), store.meta.get("together")) == (None, "x")


@pytest.mark.fault("F37")
def test_a_commit_that_fails_takes_everything_back_and_the_next_one_works(path: Path, store: Store) -> None:
    """Without a WAL a commit waits for readers: a real way to have it refused."""
    store.database.execute(text("PRAGMA journal_mode=DELETE"))
    with closing(sqlite3.connect(path)) as reader:
        rows = reader.execute("SELECT * FROM meta")
        rows.fetchone()
        with pytest.raises(DBAPIError) as told, store.transaction(), store.transaction():
            store.meta.put("refused", "x")
        assert storage_fault(told.value) is StorageFault.BUSY
        rows.close()
    assert store.database.rollbacks == 1
    assert store.meta.get("refused") is None
    with store.transaction():
        store.meta.put("taken", "x")
    with closing(Store.open(path, read_only=True)) as other:
        assert (other.meta.get("refused"), other.meta.get("taken")) == (None, "x")


def put_all(store: Store, fact: str, alerts: list[Alert]) -> None:
    """One transaction."""
    with store.transaction():
        store.meta.put(fact, "x")
        for alert in alerts:
            store.alerts.put(alert)


@pytest.mark.fault("F38")
def test_a_full_disk_takes_everything_back_and_with_room_again_it_goes_on(path: Path, store: Store) -> None:
    pages = store.database.execute(text("PRAGMA page_count")).scalar_one()
    store.database.execute(text(f"PRAGMA max_page_count={pages}"))
    alerts = [Alert(f"key {number}", AlertLevel.WARNING, "so it is " * 100, NOW) for number in range(1000)]
    with pytest.raises((DBAPIError, sqlite3.Error)) as told:
        put_all(store, "first", alerts)
    assert storage_fault(told.value) is StorageFault.UNWRITABLE
    assert store.database.rollbacks == 1
    assert store.meta.get("first") is None
    store.database.execute(text("PRAGMA max_page_count=1000000"))
    with store.transaction():
        store.meta.put("second", "x")
    with closing(Store.open(path, read_only=True)) as other:
        assert (other.meta.get("first"), other.meta.get("second")) == (None, "x")


@pytest.mark.fault("F38")
def test_a_commit_that_no_longer_fits_on_the_disk_is_as_if_it_had_not_been(path: Path) -> None:
    def on_a_full_disk() -> None:
        store = Store.open(path)
        disk_full_beyond(8 * 4096)
        alerts = [Alert(f"key {number}", AlertLevel.WARNING, "so it is " * 20, NOW) for number in range(200)]
        with pytest.raises((DBAPIError, sqlite3.Error)) as told:
            put_all(store, "first", alerts)
        assert storage_fault(told.value) is StorageFault.UNWRITABLE
        assert store.database.rollbacks == 1
        assert store.meta.get("first") is None
        with store.transaction():
            store.meta.put("little", "x")

    assert in_child(on_a_full_disk) == 0
    with closing(Store.open(path, read_only=True)) as other:
        assert (other.meta.get("first"), other.meta.get("little")) == (None, "x")
        assert not other.alerts.list(most=10)


@pytest.mark.fault("F38")
def test_a_disk_that_became_read_only_is_unwritable_not_busy(path: Path) -> None:
    with closing(Store.open(path, read_only=True)) as store:
        with pytest.raises(DBAPIError) as told, store.transaction():
            store.meta.put("x", "x")
        assert storage_fault(told.value) is StorageFault.UNWRITABLE
        assert store.meta.get("x") is None


# ------------------------------------------------------------------ who looks


@pytest.mark.fault("F37")
def test_who_looks_never_holds_up_who_writes(path: Path, store: Store) -> None:
    """The reader is in the midst of a table, and stays there; the writer does not wait at all."""
    store.database.execute(text("PRAGMA busy_timeout=0"))

    def looks(say: Callable[[str], None]) -> None:
        looking = Store.open(path, read_only=True)
        copied = Store.private_copy(path)
        rows = looking.database.execute(text("SELECT * FROM meta"))
        rows.fetchone()
        with copied.transaction():
            copied.meta.put("what if", "in memory only")
            say("looking")
            time.sleep(60)

    with process(looks) as heard:
        assert heard() == "looking"
        for number in range(50):
            with store.transaction():
                store.meta.put("written", str(number))
    assert store.meta.get("written") == "49"
    assert store.meta.get("what if") is None


@pytest.mark.fault("F37")
def test_who_looks_does_not_wait_for_who_writes(path: Path, store: Store) -> None:
    with store.transaction():
        store.meta.put("half", "done")
        looked = []

        def looks() -> None:
            for opened in (Store.open(path, read_only=True), Store.private_copy(path)):
                opened.database.execute(text("PRAGMA busy_timeout=0"))
                looked.append(opened.meta.get("half"))
            assert looked == [None, None]

        assert in_child(looks) == 0
