"""The disk fails, the database is locked, or it is last week's: nothing is lost, doubled, or sent unwritten.

Session 1: two orders are to leave, a sale and a buy. The fault comes before they do, or between the broker's answer
and the writing of it. Session 2 is a quiet one, by which everything must have come right.
"""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from command_line import harvestd
from conftest import Staged
from invariants import broken_invariants, check_invariants, check_reconciling_twice
from small_house import Stage
from sqlalchemy import text

from daemon.backup import back_up
from daemon.day import start
from daemon.halt import halt_file, halt_reason, is_halted
from state.records import AlertLevel, IntentState, OrderRequest, Side
from state.store.database import Database

NOW = datetime(2020, 11, 21, 22, 30, tzinfo=UTC)


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """A household that holds ten names, on the morning of session 1, with a plan of two legs decided."""
    made = staged()
    made.invest(0)
    made.tick(made.before_open(1))
    made.venue.advance_to(made.at(1, 5))
    made.execute((Side.SELL, "AAA", 40), (Side.BUY, "BBB", 20))
    made.house.store.database.execute(text("PRAGMA busy_timeout=10"))
    return made


@contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Another process keeps the write lock."""
    with closing(sqlite3.connect(stage.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def read_only(stage: Stage) -> Iterator[None]:
    """The file system was made read-only: what SQLite says of it is SQLITE_READONLY."""
    database = stage.house.store.database
    database.execute(text("PRAGMA query_only=ON"))
    yield
    database.execute(text("PRAGMA query_only=OFF"))


@contextmanager
def failing(code: int, words: str) -> Iterator[None]:
    """Every write of an order fails as SQLite tells it."""

    def fails(*_arguments: Any) -> None:
        error = sqlite3.OperationalError(words)
        error.sqlite_errorcode = code
        raise error

    with patch.object(Database, "update", fails):
        yield


Fault = Callable[[Stage], Any]
FAULTS: dict[str, Fault] = {
    "read-only": read_only,
    "full": lambda _stage: failing(sqlite3.SQLITE_FULL, "database or disk is full"),
    "fsync": lambda _stage: failing(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"),
}


def ends_well(stage: Stage) -> None:
    """The rest of session 1 and all of session 2, and another start: every share and every dollar is accounted for."""
    stage.finish(1)
    stage.live(2)
    check_invariants(stage.path, stage.venue, settled=True)
    stage.restart()
    assert start(stage.house)
    check_reconciling_twice(stage.house)
    check_invariants(stage.path, stage.venue, settled=True)


def filled(stage: Stage) -> dict[str, IntentState]:
    return {one.symbol: one.state for one in stage.intents()}


def storage_alerts(stage: Stage) -> list[tuple[AlertLevel, bool]]:
    """What was told of the disk, past the outbox."""
    return [(one.level, one.recovered) for one in stage.told if one.key == "storage"]


BOTH_FILLED = {"AAA": IntentState.FILLED, "BBB": IntentState.FILLED}


# ------------------------------------------------------------------ locked


@pytest.mark.fault("F37")
def test_while_the_database_is_locked_nothing_leaves_and_then_everything_does(stage: Stage) -> None:
    with locked(stage):
        for minutes in (10, 12, 14):
            stage.tick(stage.at(1, minutes))
            assert stage.sent() == ()
    assert not is_halted(stage.path), "it passes by itself"
    stage.tick(stage.at(1, 16))
    assert len(stage.sent()) == 1, "the sale before the buy it funds"
    ends_well(stage)
    assert filled(stage) == BOTH_FILLED
    assert storage_alerts(stage) == [(AlertLevel.ERROR, False), (AlertLevel.INFO, True)]


@pytest.mark.fault("F37")
def test_locked_between_the_brokers_answer_and_the_writing_of_it_there_is_still_one_order(stage: Stage) -> None:
    broker, other = stage.venue.broker(), sqlite3.connect(stage.path, isolation_level=None)

    def accepted_and_locked(request: OrderRequest) -> Any:
        answer = broker.submit(request)
        other.execute("BEGIN EXCLUSIVE")
        return answer

    stage.alter(submit=accepted_and_locked)
    stage.tick(stage.at(1, 10))
    assert [one.submitted_quantity for one in stage.intents("AAA")] == [40], "it was on disk before it left"
    stage.alter()
    stage.tick(stage.at(1, 12))
    assert len(stage.sent()) == 1
    other.close()
    ends_well(stage)
    assert len(stage.sent()) == 2
    assert filled(stage) == BOTH_FILLED


@pytest.mark.fault("F37")
def test_a_command_that_meets_the_lock_says_so_and_not_what_it_was_about_to_write(stage: Stage) -> None:
    with patch("state.store.database.WAIT_S", 0.02), locked(stage):
        outcome = harvestd("ledger", "rebuild", "--db", stage.path)
        looked = harvestd("status", "--db", stage.path)
    assert (outcome.code, outcome.out, looked.code) == (1, "", 0)
    assert outcome.err == (
        "harvestd: the database cannot be used: database is locked. Is it a file, readable and not busy?\n"
    )


@pytest.mark.fault("F37")
def test_a_process_that_ends_while_it_is_locked_leaves_the_same(stage: Stage) -> None:
    with locked(stage):
        stage.tick(stage.at(1, 10))
    stage.restart()
    start(stage.house)
    ends_well(stage)
    assert filled(stage) == BOTH_FILLED


# ------------------------------------------------------------------ unwritable


@pytest.mark.fault("F38")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_written_down_does_not_leave_and_trading_halts(stage: Stage, fault: str) -> None:
    with FAULTS[fault](stage):
        for minutes in (10, 12):
            stage.tick(stage.at(1, minutes))
            assert stage.sent() == ()
    assert is_halted(stage.path)
    assert "STORAGE_FAILED" in halt_reason(stage.path)
    assert storage_alerts(stage)[:1] == [(AlertLevel.HALT, False)], "told by a way that needs no disk"
    stage.tick(stage.at(1, 14))
    stage.restart()
    start(stage.house)
    stage.tick(stage.at(1, 16))
    assert stage.sent() == (), "room alone does not lift it, nor does another start"
    halt_file(stage.path).unlink()  # what `harvestd resume` does
    ends_well(stage)
    assert filled(stage) == BOTH_FILLED


@pytest.mark.fault("F38")
@pytest.mark.parametrize("fault", FAULTS)
def test_when_the_answer_cannot_be_written_down_it_is_asked_for_again_and_never_doubled(
    stage: Stage, fault: str
) -> None:
    broker, lasting = stage.venue.broker(), FAULTS[fault](stage)

    def accepted_and_lost(request: OrderRequest) -> Any:
        answer = broker.submit(request)
        lasting.__enter__()
        return answer

    stage.alter(submit=accepted_and_lost)
    stage.tick(stage.at(1, 10))
    assert len(stage.sent()) == 1
    assert is_halted(stage.path)
    stage.alter()
    stage.tick(stage.at(1, 12))
    lasting.__exit__(None, None, None)
    stage.restart()
    start(stage.house)
    stage.tick(stage.at(1, 14))
    assert len(stage.sent()) == 1, "found by its id, and nothing new leaves while halted"
    halt_file(stage.path).unlink()
    ends_well(stage)
    sent = stage.sent()
    assert len(sent) == len(set(sent))
    assert IntentState.UNKNOWN not in filled(stage).values()


@pytest.mark.fault("F38")
def test_a_halt_that_cannot_be_written_holds_in_memory_until_it_can(stage: Stage) -> None:
    no_room = OSError(errno.ENOSPC, "No space left on device")
    with patch("daemon.storage.halt", side_effect=no_room):
        with read_only(stage):
            stage.tick(stage.at(1, 10))
        assert not halt_file(stage.path).exists()
        stage.tick(stage.at(1, 12))
        assert stage.sent() == (), "the disk is right again, and nobody has resumed"
    stage.tick(stage.at(1, 14))
    assert is_halted(stage.path), "written as soon as it can be"
    assert stage.sent() == ()
    halt_file(stage.path).unlink()
    ends_well(stage)
    assert filled(stage) == BOTH_FILLED


# ------------------------------------------------------------------ last week's


def restored(stage: Stage, backup: Path) -> None:
    """The process ends, the backup is put in the database's place, and another process starts."""
    stage.house.store.close()
    for suffix in ("", "-wal", "-shm"):
        stage.path.with_name(stage.path.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(backup, stage.path)
    stage.restart()


@pytest.mark.fault("F40")
def test_a_database_of_last_week_books_the_week_and_halts_on_the_orders_it_does_not_know(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    start(stage.house)
    backup = back_up(stage.path, stage.path.parent / "backups", NOW, keep=1).file
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.at(1, 5))
    stage.execute((Side.SELL, "AAA", 40), (Side.BUY, "BBB", 20))
    stage.finish(1)
    stage.live(2)
    week = stage.sent()
    assert len(week) == 2

    restored(stage, backup)
    start(stage.house)
    assert is_halted(stage.path)
    assert "restored from a backup" in halt_reason(stage.path)
    stage.look()
    of_orders = re.compile(r"I1|I4|I2: execution \S+: expected it under hv-\S+, was None")
    others = [one for one in broken_invariants(stage.path, stage.venue) if not of_orders.match(one)]
    assert others == [], "shares and cash are all booked; only the orders are nobody's"
    stage.live(3)
    assert stage.sent() == week, "halted"
    stage.restart()
    start(stage.house)
    assert is_halted(stage.path), "and another start changes nothing about it"

    halt_file(stage.path).unlink()
    stage.tick(stage.before_open(4))
    stage.venue.advance_to(stage.at(4, 5))
    stage.execute((Side.BUY, "CCC", 10))
    stage.finish(4)
    assert not is_halted(stage.path), "a person has looked; it is not found out again and again"
    assert stage.only("CCC").state is IntentState.FILLED
    new = [one for one in stage.sent() if one not in week]
    assert len(new) == 1
    check_reconciling_twice(stage.house)
