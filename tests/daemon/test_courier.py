"""Alerts reach a person without trading ever waiting for it: slow, dead and failing notifiers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from conftest import Staged
from small_house import Stage

from daemon.alerts import drain, raise_alert
from daemon.clock import WallClock
from daemon.courier import Courier
from daemon.crash_points import CrashPoint, watched
from state.records import Alert, AlertLevel
from state.store import Store


class Told:
    """A notifier that remembers, and hangs or fails when asked to."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.failing, self.hanging = False, threading.Event()
        self.begun, self.released = threading.Event(), threading.Event()

    def send(self, alert: Alert) -> None:
        self.begun.set()
        if self.hanging.is_set():
            self.released.wait(30)
        if self.failing:
            raise ConnectionError("https://chat.example/token-canary-77 refused")
        self.keys.append(alert.key)


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.released.set()


@pytest.fixture
def stage(staged: Staged) -> Stage:
    return staged()


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """True as soon as it is so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.005)
    return False


def incident(stage: Stage, key: str) -> None:
    raise_alert(stage.house.store, key, AlertLevel.WARNING, f"{key} happened", WallClock().now())


def unsent(path: Path) -> list[str]:
    store = Store.open(path, read_only=True)
    try:
        return [alert.key for _, alert in store.alerts.unsent()]
    finally:
        store.close()


def test_what_waits_is_told_once_and_in_its_order(stage: Stage, told: Told) -> None:
    courier = Courier(stage.path, told, WallClock())
    incident(stage, "a")
    courier.start()
    assert soon(lambda: told.keys == ["a"])
    incident(stage, "b")
    incident(stage, "c")
    courier.wake()
    assert soon(lambda: told.keys == ["a", "b", "c"])
    courier.wake()
    assert courier.stop()
    assert told.keys == ["a", "b", "c"]
    assert unsent(stage.path) == []


@pytest.mark.fault("F44")
def test_a_notifier_that_hangs_holds_up_neither_a_look_nor_the_end(stage: Stage, told: Told) -> None:
    told.hanging.set()
    courier = Courier(stage.path, told, WallClock())
    stage.house.notifier = courier
    incident(stage, "a")
    courier.start()
    assert told.begun.wait(5)
    began = time.monotonic()
    stage.tick(stage.evening(0))
    incident(stage, "b")
    courier.wake()
    assert not courier.stop(0.05)
    assert time.monotonic() - began < 3
    assert set(unsent(stage.path)) >= {"a", "b"}, "nothing that was not told counts as told"


@pytest.mark.fault("F44")
def test_a_notifier_that_fails_is_one_line_of_the_log_and_is_tried_again(stage: Stage, told: Told) -> None:
    told.failing = True
    incident(stage, "a")
    courier = Courier(stage.path, told, WallClock(), again_s=0.01)
    with structlog.testing.capture_logs() as lines:
        courier.start()
        assert told.begun.wait(5)
        time.sleep(0.1)
        told.failing = False
        assert soon(lambda: told.keys == ["a"])
        courier.stop()
    assert [line["event"] for line in lines] == [
        "notifier failed; alerts wait in the outbox",
        "alerts are delivered again",
    ]
    assert "canary" not in str(lines), "what a notifier raises may hold its address"


@pytest.mark.fault("F37")
def test_a_database_that_is_busy_is_waited_for(stage: Stage, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    real, left = Store.open, iter([1, 1])

    def opened(path: Path, **named: bool) -> Store:
        if next(left, None) is not None:
            raise OperationalError("BEGIN", None, Exception("database is locked"))
        return real(path, **named)

    monkeypatch.setattr("daemon.courier.Store.open", opened)
    incident(stage, "a")
    courier = Courier(stage.path, told, WallClock(), again_s=0.01)
    courier.start()
    assert soon(lambda: told.keys == ["a"])
    assert courier.stop()


@pytest.mark.fault("F39")
def test_killed_between_telling_and_writing_it_down_it_is_told_again_never_lost(stage: Stage, told: Told) -> None:
    class Dies(BaseException):
        pass

    def dies(point: CrashPoint) -> None:
        if point is CrashPoint.ALERT_SENT:
            raise Dies

    incident(stage, "a")
    courier = Courier(stage.path, told, WallClock())
    with watched(dies), pytest.raises(Dies):
        courier._deliver()
    assert told.keys == ["a"]
    assert unsent(stage.path) == ["a"]
    again = Courier(stage.path, told, WallClock())
    again.start()
    assert again.stop()
    assert told.keys == ["a", "a"]
    assert unsent(stage.path) == []


def test_the_cycle_leaves_the_outbox_to_the_courier_and_only_wakes_it(stage: Stage, told: Told) -> None:
    courier = Courier(stage.path, told, WallClock())
    courier.start()
    incident(stage, "a")
    drain(stage.house.store, courier, WallClock().now())
    assert soon(lambda: told.keys == ["a"])
    assert courier.stop()


@pytest.mark.fault("F38")
def test_what_the_outbox_cannot_take_is_told_past_it_and_again_until_it_got_through(stage: Stage, told: Told) -> None:
    told.failing = True
    courier = Courier(stage.path.with_name("not-there.db"), told, WallClock(), again_s=0.01)
    courier.start()
    courier.send(Alert("storage", AlertLevel.HALT, "the disk is full", WallClock().now()))
    assert told.begun.wait(5)
    told.failing = False
    assert soon(lambda: told.keys == ["storage"])
    assert courier.stop()
    assert told.keys == ["storage"]


class Particular(Told):
    """A notifier that takes all but one alert."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused, self.tries = refused, 0

    def send(self, alert: Alert) -> None:
        if alert.key == self.refused:
            self.tries += 1
            raise ValueError("too long")
        super().send(alert)


@pytest.mark.fault("F44")
def test_an_alert_that_the_notifier_refuses_holds_up_no_other(stage: Stage) -> None:
    for key in ("too long", "halt:main"):
        incident(stage, key)
    told, at = Particular("too long"), [0.0]
    courier = Courier(stage.path, told, WallClock(), again_s=60, monotonic=lambda: at[0])
    for at[0] in range(0, 601, 20):
        courier._deliver()
    assert told.keys == ["halt:main"]
    assert unsent(stage.path) == ["too long"]
    assert told.tries == 4, "at 0, 60, 180 and 420 s: ever more seldom"
    told.refused = ""
    courier.start()
    assert courier.stop()
    assert told.keys == ["halt:main", "too long"], "the last round tries all of them"


def test_a_recovery_is_not_told_before_what_it_recovers_from(stage: Stage) -> None:
    from daemon.alerts import recover

    incident(stage, "broker:main")
    incident(stage, "other")
    recover(stage.house.store, "broker:main", "again there", WallClock().now())
    told, at = Particular("broker:main"), [0.0]
    courier = Courier(stage.path, told, WallClock(), again_s=60, monotonic=lambda: at[0])
    courier._deliver()
    told.refused, at[0] = "", 30.0
    courier._deliver()
    assert told.keys == ["other"]
    at[0] = 60.0
    courier._deliver()
    assert told.keys == ["other", "broker:main", "broker:main"]


@pytest.mark.fault("F38")
def test_what_was_told_is_not_told_again_while_it_cannot_be_written_down(
    stage: Stage, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Store.open

    def cannot_be_written(path: Path, **named: bool) -> Store:
        store = real(path, **named)
        store.database.connection.exec_driver_sql("PRAGMA query_only=ON")
        return store

    incident(stage, "a")
    courier = Courier(stage.path, told, WallClock())
    with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
        patched.setattr("daemon.courier.Store.open", cannot_be_written)
        for _ in range(3):
            courier._deliver()
    assert told.keys == ["a"]
    assert [line["event"] for line in lines] == ["the outbox cannot be read or written; alerts wait"]
    assert unsent(stage.path) == ["a"]
    courier._deliver()
    assert (told.keys, unsent(stage.path)) == (["a"], [])
