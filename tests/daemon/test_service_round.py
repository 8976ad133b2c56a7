"""One beat of the daemon in real time: who is told what, and that nobody is told that all is well when it is not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import Staged
from pydantic import SecretStr
from service_manager import ServiceManager
from small_house import Stage

from daemon.alerts import raise_alert
from daemon.dead_man import DeadMan
from daemon.halt import halt, is_halted
from daemon.metrics import Board
from daemon.service import Company, Round, _tick
from daemon.storage import storage_failed
from daemon.supervision import Supervisor
from state.records import AlertLevel
from state.store import Store


class ByHand:
    """A pulse that is due when the test says so."""

    def __init__(self, instant: datetime) -> None:
        self.next_at, self.due, self.is_reconciled, self.looks = instant, True, True, 0

    def is_due(self) -> bool:
        return self.due

    def look(self) -> bool:
        self.looks += 1
        self.due = False
        return True


class Clock:
    def __init__(self, instant: datetime) -> None:
        self.wall, self.seconds = instant, 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Beaten:
    """A round with everything it tells."""

    def __init__(self, stage: Stage, manager: ServiceManager) -> None:
        self.stage, self.manager = stage, manager
        self.clock = Clock(stage.house.clock.now())
        stage.house.clock = self.clock
        stage.house.store.database._raw.execute("PRAGMA busy_timeout=10")
        self.pulse: Any = ByHand(self.clock.now())
        self.board = Board(self.clock.monotonic)
        self.dead_man = DeadMan(SecretStr("http://127.0.0.1:9/x"), 60, self.clock.monotonic)
        self.supervisor = Supervisor.of(manager.environment(90), self.clock.monotonic)
        self.round = Round(stage.house, self.pulse, self.supervisor, Company(self.board, self.dead_man))

    def beat(self, seconds: float = 0.0) -> list[str]:
        """What systemd hears of a beat, so many seconds after the one before."""
        self.clock.sleep(seconds)
        self.round()
        return self.manager.hear()


@pytest.fixture
def beaten(staged: Staged) -> Iterator[Beaten]:
    with ServiceManager() as manager:
        yield Beaten(staged(), manager)


def test_ready_comes_with_the_first_look_that_reconciled_everything(beaten: Beaten) -> None:
    beaten.pulse.is_reconciled = False
    heard = beaten.beat()
    assert "READY=1" not in heard
    assert "EXTEND_TIMEOUT_USEC=300000000" in heard
    beaten.pulse.is_reconciled = beaten.pulse.due = True
    heard = beaten.beat(60)
    assert heard[0] == "READY=1"
    assert heard[1].startswith("STATUS=main STARTING; next look ")
    assert heard[1].endswith(" New York")
    assert heard[2:] == ["WATCHDOG=1"]


def test_beats_without_a_look_are_life_every_third_of_the_time(beaten: Beaten) -> None:
    beaten.beat()
    assert [beaten.beat(1) for _ in range(29)] == [[]] * 29
    assert beaten.beat(1) == ["WATCHDOG=1"]
    assert beaten.pulse.looks == 1


@pytest.mark.fault("F37")
def test_a_database_that_takes_no_writes_ends_the_pings_until_it_does_again(beaten: Beaten) -> None:
    """Another process holds the write lock; reading goes on working."""
    beaten.beat()
    other = sqlite3.connect(beaten.stage.house.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(4):
        assert "WATCHDOG=1" not in beaten.beat(40)
    _, told = beaten.board.health()
    assert told["seconds_since_beat"] == 160
    assert not beaten.dead_man.is_due()
    other.execute("ROLLBACK")
    other.close()
    assert beaten.beat(1) == ["WATCHDOG=1"]
    assert beaten.dead_man.is_due()


@pytest.mark.fault("F38")
def test_a_disk_that_cannot_be_read_at_all_halts_and_ends_no_beat(
    beaten: Beaten, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next beat tries again; systemd hears nothing until one gets through."""
    beaten.beat()

    def broken(*_: object) -> bool:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(beaten.pulse, "is_due", broken)
        patch.setattr(beaten.stage.house.store.meta, "put", broken)
        heard = beaten.beat(40)
        assert "WATCHDOG=1" not in heard
        assert any(one.startswith("STATUS=main HALTED") for one in heard)
    assert is_halted(beaten.stage.house.store.path)
    assert "WATCHDOG=1" in beaten.beat(40)


@pytest.mark.fault("F38")
@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_database_that_is_not_the_one_that_was_opened_ends_looks_and_pings(
    beaten: Beaten, tmp_path: Path, replaced: bool
) -> None:
    """SQLite goes on writing to the file without a name: whatever it is told there is lost with the process."""
    house, path = beaten.stage.house, beaten.stage.house.store.path
    beaten.beat()
    beaten.stage.told.clear()
    set_aside = path.rename(tmp_path / "aside.db")
    if replaced:
        Store.open(path, create=True).close()
    looks = beaten.pulse.looks
    heard = []
    for _ in range(12):
        beaten.pulse.due = True
        heard += beaten.beat(40)
    assert beaten.pulse.looks == looks, "what a look decides could not be kept"
    assert "WATCHDOG=1" not in heard
    assert not beaten.dead_man.is_due()
    assert not beaten.board.health()[0]
    assert is_halted(path)
    assert "deleted, moved or replaced" in house.stopped, "whoever takes the halt file away does not resume"
    assert [alert.key for alert in beaten.stage.told] == ["storage"]
    set_aside.rename(path)
    assert "WATCHDOG=1" in beaten.beat(40)
    assert beaten.pulse.looks == looks + 1


@pytest.mark.fault("F37")
@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CORRUPT], ids=["busy", "corrupt"])
def test_looks_that_the_disk_made_fail_are_no_looks_that_succeed(beaten: Beaten, code: int) -> None:
    """The step was taken back (day.py); the proof of the beat, a single small write, may succeed all the same."""
    beaten.beat()
    assert beaten.dead_man.is_due()

    def look() -> bool:
        error = sqlite3.OperationalError("the disk said something")
        error.sqlite_errorcode = code
        storage_failed(beaten.stage.house, error)
        return True

    beaten.pulse.look = look
    beaten.pulse.due = True
    assert "WATCHDOG=1" in beaten.beat(120)
    assert not beaten.dead_man.is_due()
    assert not beaten.board.health()[0]


def test_a_look_that_the_disk_broke_off_is_made_up_for_at_the_next_beat(beaten: Beaten) -> None:
    beaten.beat()

    def broken() -> bool:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    whole, beaten.pulse.look, beaten.pulse.due = beaten.pulse.look, broken, True
    beaten.beat(120)
    assert not beaten.dead_man.is_due(), "no sign of life is given on the figures of an older look"
    beaten.pulse.look, beaten.pulse.due = whole, False
    looks = beaten.pulse.looks
    beaten.beat(1)
    beaten.beat(1)
    assert beaten.pulse.looks == looks + 1


@pytest.mark.fault("F08")
def test_a_look_of_many_minutes_is_life_to_everybody_while_the_broker_answers(beaten: Beaten) -> None:
    beaten.beat()
    seen = []

    def look() -> bool:
        for _ in range(20):
            beaten.clock.sleep(60)
            beaten.supervisor.answered()
            _, told = beaten.board.health()
            seen.append((told["seconds_since_beat"], beaten.dead_man.is_due(), beaten.manager.hear()))
        return True

    beaten.pulse.look, beaten.pulse.due = look, True
    beaten.beat()
    assert seen == [(0.0, True, ["WATCHDOG=1"])] * 20


def test_while_looks_fail_no_sign_of_life_leaves_the_house_but_systemd_lets_it_go_on(beaten: Beaten) -> None:
    """A restart would not bring the broker back; a person should hear of it from outside."""
    store, now = beaten.stage.house.store, beaten.clock.now()
    raise_alert(store, "broker:main", AlertLevel.ERROR, "no answer", now)
    heard = beaten.beat()
    assert "WATCHDOG=1" in heard
    assert any("the last look failed" in one for one in heard)
    assert not beaten.dead_man.is_due()
    assert not beaten.board.health()[0]


def test_a_halt_shows_at_once_in_the_status(beaten: Beaten) -> None:
    halt(beaten.stage.house.store.path, "by hand", beaten.clock.now())
    assert any(one.startswith("STATUS=main HALTED") for one in beaten.beat())
    assert not beaten.board.health()[0]


def test_the_end_is_told_as_soon_as_it_is_asked_for_though_a_look_goes_on() -> None:
    """SIGTERM in the middle of a look: systemd is told at once, and the look ends in its own time."""
    import os
    import signal

    told, order = threading.Event(), []

    def beat() -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(5), "the end was not told while the look went on"
        order.append("look ended")
        return True

    def ending() -> None:
        if not told.is_set():
            order.append("told")
        told.set()

    _tick(beat, 0.01, ending)
    assert order == ["told", "look ended"]
