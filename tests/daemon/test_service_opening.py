"""What keeps a household from being opened, and how the service waits for it: never by ending again and again."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Staged
from service_manager import ServiceManager
from small_house import Stage
from test_service_sign_of_life import soon

from brokers.errors import BrokerUnavailable, NotAuthorized
from daemon import opening, service
from daemon.errors import ConfigurationRefused
from daemon.house import House
from daemon.household import Silent
from daemon.opening import Target
from daemon.service import OPENING, run_household, serve_household


def locked() -> Exception:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def broken() -> Exception:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def refused() -> Exception:
    return NotAuthorized("Alpaca refused /account: 401. Check the API key and its secret.")


def unreachable() -> Exception:
    return BrokerUnavailable("Alpaca did not answer /account: no answer in time")


class Door:
    """Opens the stage's household after the faults it was given, and remembers how often it was asked to."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch, *faults: Exception) -> None:
        self.stage, self.faults, self.asked, self.served = stage, list(faults), 0, 0
        self.watched: Callable[[Any], None] = lambda _: None
        self.target = Target(stage.house.store.path, stage.house.settings)
        monkeypatch.setattr(opening, "working_house", self._working_house)
        monkeypatch.setattr(service, "serve_household", self._serve)
        monkeypatch.setattr(service, "WATCH_S", 0.01)

    @contextmanager
    def _working_house(self, target: Target, environ: object, watcher: Any) -> Iterator[House]:
        self.asked += 1
        self.watched(watcher)
        if self.faults:
            raise self.faults.pop(0)
        yield self.stage.house

    def _serve(self, house: House, **_: object) -> None:
        self.served += 1


@pytest.fixture
def manager() -> Iterator[ServiceManager]:
    with ServiceManager() as made:
        yield made


@pytest.fixture
def stage(staged: Staged) -> Stage:
    return staged()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(
            unreachable, "the broker cannot be reached; tried again every minute", marks=pytest.mark.fault("F08")
        ),
        pytest.param(
            refused,
            "the broker refuses the key, or has blocked the account; asked again every 5 minutes. Settle it with the "
            "broker, or put new keys where config.yaml says and restart harvestd",
            marks=pytest.mark.fault("F10"),
        ),
        pytest.param(
            locked,
            "another process keeps the database locked; tried again every minute",
            marks=pytest.mark.fault("F37"),
        ),
    ],
    ids=["unreachable", "refused", "locked"],
)
def test_under_systemd_what_may_pass_is_waited_for(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception], status: str
) -> None:
    """Five ends within an hour are the last that systemd allows: a key that is refused for a night would be the end."""
    for name in ("REOPEN_S", "REFUSED_S"):
        monkeypatch.setattr(service, name, 0.02)
    door = Door(stage, monkeypatch, *(fault() for _ in range(6)))
    run_household(door.target, manager.environment(90), Silent())
    assert (door.asked, door.served) == (7, 1)
    heard = manager.hear()
    assert f"STATUS=waiting: {status}" in heard
    assert "EXTEND_TIMEOUT_USEC=300000000" in heard


@pytest.mark.fault("F10")
@pytest.mark.parametrize("fault", [refused, unreachable])
def test_a_person_is_told_once_and_once_more_when_it_is_over(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]
) -> None:
    for name in ("REOPEN_S", "REFUSED_S"):
        monkeypatch.setattr(service, name, 0.02)
    open_while_waiting: list[bool] = []
    door = Door(stage, monkeypatch, fault(), fault(), fault())
    door.watched = lambda _: open_while_waiting.append(OPENING in stage.house.store.alerts.open_keys(OPENING))
    run_household(door.target, manager.environment(90), Silent())
    assert open_while_waiting == [False, True, True, True]
    assert not stage.house.store.alerts.open_keys(OPENING)
    told = [one for one in stage.house.store.alerts.list() if one.key == OPENING]
    assert [one.recovered for one in told] == [False, True]
    assert str(fault()) in told[0].message


@pytest.mark.fault("F10")
def test_a_broker_that_refuses_the_key_is_asked_seldom_and_systemd_is_asked_for_time_meanwhile(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REOPEN_S", 0.06)
    monkeypatch.setattr(service, "REFUSED_S", 0.3)
    door = Door(stage, monkeypatch, refused())
    run_household(door.target, manager.environment(90), Silent())
    assert door.asked == 2
    waiting = [one for one in manager.hear() if one.startswith("STATUS=waiting")]
    assert 3 <= len(waiting) <= 6


@pytest.mark.parametrize("fault", [unreachable, refused, locked])
def test_by_hand_it_ends_the_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]
) -> None:
    door = Door(stage, monkeypatch, fault())
    with pytest.raises((BrokerUnavailable, NotAuthorized, sqlite3.OperationalError)):
        run_household(door.target, {}, Silent())
    assert door.asked == 1


@pytest.mark.parametrize("fault", [broken, lambda: ConfigurationRefused("another account")])
def test_what_does_not_pass_by_itself_ends_it_under_systemd_too(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception]
) -> None:
    door = Door(stage, monkeypatch, fault())
    with pytest.raises((ConfigurationRefused, sqlite3.OperationalError)):
        run_household(door.target, manager.environment(90), Silent())
    assert door.asked == 1


# ------------------------------------------------------------------ the end, while it is not open yet


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_that_is_asked_for_while_it_waits_comes_at_once(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    door = Door(stage, monkeypatch, refused())
    told_to_wait = service._told_to_wait

    def then_end(*given: Any) -> None:
        told_to_wait(*given)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(service, "_told_to_wait", then_end)
    run_household(door.target, manager.environment(90), Silent())
    assert (door.asked, door.served) == (1, 0)
    assert manager.hear()[-2] == "STOPPING=1"
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_one_in_the_middle_of_the_first_load_comes_at_its_next_step(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(stage, monkeypatch)

    def load(watcher: Any) -> None:
        watcher.step("loading prices")
        os.kill(os.getpid(), signal.SIGTERM)
        for number in range(500):
            watcher.progress(number, 500, "prices")

    door.watched = load
    run_household(door.target, manager.environment(90), Silent())
    assert door.served == 0
    assert manager.hear()[-2:-1] == ["STOPPING=1"]


@pytest.mark.fault("F42")
def test_the_household_knows_that_it_is_ending_while_the_look_in_flight_goes_on(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate and the decision ask it: an end that was told to systemd is followed by no new order."""
    looks: list[bool] = []

    class Look:
        next_at, is_reconciled = stage.house.clock.now(), True

        def __init__(self, *_: object) -> None:
            pass

        def is_due(self) -> bool:
            return True

        def look(self) -> bool:
            looks.append(stage.house.ending)
            os.kill(os.getpid(), signal.SIGTERM)
            assert soon(lambda: stage.house.ending)
            return True

    monkeypatch.setattr(service, "Pulse", Look)
    serve_household(stage.house)
    assert looks == [False], "known before the look was over, and no other began"


# ------------------------------------------------------------------ before anything is opened


def test_a_sign_of_life_without_its_secret_is_refused_before_anything_is_loaded(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stage.house.settings
    notices = settings.notifications.model_copy(update={"heartbeat_url_name": "no_such_sign"})
    door = Door(stage, monkeypatch)
    door.target = Target(stage.house.store.path, settings.model_copy(update={"notifications": notices}))
    with pytest.raises(ConfigurationRefused, match="no_such_sign"):
        run_household(door.target, manager.environment(90), Silent())
    assert door.asked == 0


def test_an_older_database_is_given_an_hour_for_its_upgrade(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is copied, verified and migrated without a step in between that could be told."""
    monkeypatch.setattr(service, "revision_of", lambda _: "0003")
    door = Door(stage, monkeypatch)
    run_household(door.target, manager.environment(90), Silent())
    assert manager.hear()[:2] == [
        "EXTEND_TIMEOUT_USEC=3600000000",
        "STATUS=starting: the database is of an older version; it is copied, verified and upgraded",
    ]


def test_a_database_that_is_new_or_of_this_version_is_given_no_hour(
    stage: Stage, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    door = Door(stage, monkeypatch)
    run_household(door.target, manager.environment(90), Silent())
    run_household(Target(tmp_path / "none.db", stage.house.settings), manager.environment(90), Silent())
    assert manager.hear() == []
