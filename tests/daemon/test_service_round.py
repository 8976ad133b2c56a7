"""One beat of the daemon in real time: who is told what, and that nobody is told that all is well when it is not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
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
from daemon.supervision import Supervisor
from state.records import AlertLevel


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
        assert beaten.beat(40) == []
    assert is_halted(beaten.stage.house.store.path)
    assert "WATCHDOG=1" in beaten.beat(40)


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
