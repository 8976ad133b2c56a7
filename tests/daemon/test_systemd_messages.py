"""What systemd is told, and when: ready after the first reconciliation, alive only while the cycle thread gets on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from service_manager import ServiceManager

from daemon.errors import ConfigurationRefused
from daemon.household import Listener
from daemon.supervision import LONGEST_LOOK_S, Announced, EndAsked, Supervisor


class Seconds:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def step(self, text: str) -> None:
        self.texts.append(text)

    def progress(self, done: int, total: int, text: str) -> None:
        self.texts.append(text)


def told_by(what: Callable[[Supervisor], None], watchdog_s: float | None = 90) -> list[str]:
    """What a new supervisor says when this is done to it."""
    with ServiceManager() as manager:
        what(Supervisor.of(manager.environment(watchdog_s)))
        return manager.hear()


# ------------------------------------------------------------------ words


def test_where_nobody_listens_nothing_is_said_and_nothing_fails() -> None:
    nobody = Supervisor.of({})
    assert not nobody.is_there
    nobody.ready()
    nobody.status("x")
    nobody.alive()
    nobody.stopping()


def test_a_socket_with_a_path_and_one_with_a_name_are_both_heard(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("s") / "n")
    for manager in (ServiceManager(path), ServiceManager()):
        with manager:
            Supervisor.of(manager.environment()).ready()
            assert manager.hear() == ["READY=1"]


def test_ready_and_stopping_are_said_once() -> None:
    def twice(supervisor: Supervisor) -> None:
        for _ in range(2):
            supervisor.ready()
        for _ in range(2):
            supervisor.stopping()

    heard = told_by(twice)
    assert heard.count("READY=1") == heard.count("STOPPING=1") == 1


def test_a_status_is_one_line_whatever_is_in_it() -> None:
    """A line break would begin another word of the protocol."""
    assert told_by(lambda one: one.status("halted\nREADY=1")) == ["STATUS=halted READY=1"]


def test_a_service_manager_that_went_away_keeps_nothing_from_being_done() -> None:
    with ServiceManager() as manager:
        supervisor = Supervisor.of(manager.environment(90))
    supervisor.ready()
    supervisor.alive()
    supervisor.status("still here")


def test_a_service_manager_that_does_not_read_holds_nothing_up() -> None:
    """Its queue is full after some hundred messages; the rest is dropped, not waited for."""
    with ServiceManager() as manager:
        supervisor = Supervisor.of(manager.environment())
        for _ in range(2000):
            supervisor.status("x" * 100)


@pytest.mark.parametrize(
    "environ",
    [
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "0"},
    ],
)
def test_what_cannot_be_read_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationRefused, match="expected"):
        Supervisor.of(environ)


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    ours = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "90000000"}
    assert Supervisor.of(ours | {"WATCHDOG_PID": str(os.getpid())}).ping_every_s == 30
    assert Supervisor.of(ours | {"WATCHDOG_PID": str(os.getpid() + 1)}).ping_every_s is None


def test_a_start_that_takes_long_asks_for_time_as_it_gets_on_and_no_more_once_it_is_ready() -> None:
    def load(supervisor: Supervisor) -> None:
        watcher = Announced(seen, supervisor)
        watcher.step("loading prices")
        watcher.progress(20, 500, "prices")
        supervisor.ready()
        watcher.progress(500, 500, "too late")

    seen = Seen()
    assert told_by(load) == [
        "EXTEND_TIMEOUT_USEC=300000000",
        "STATUS=starting: loading prices",
        "EXTEND_TIMEOUT_USEC=300000000",
        "STATUS=starting: prices, 20 of 500",
        "READY=1",
    ]
    assert seen.texts == ["loading prices", "prices", "too late"]


@pytest.mark.fault("F08")
def test_every_exchange_of_the_first_load_is_getting_on_and_is_told_now_and_then() -> None:
    """One step can be many pages; a third of a second apart, or a minute."""
    seconds = Seconds()
    with ServiceManager() as manager:
        announced = Announced(Seen(), Supervisor.of(manager.environment(90), seconds))
        assert isinstance(announced, Listener), "a household tells it of its brokers' answers"
        for wait in (0.3, 0.3, 0.3, 60, 60):
            seconds.at += wait
            announced.answered()
        assert manager.hear() == ["EXTEND_TIMEOUT_USEC=300000000"] * 3


def test_an_end_that_is_asked_for_in_the_first_load_comes_at_its_next_step() -> None:
    asked = [False]
    seen = Seen()
    announced = Announced(seen, Supervisor(None, None), lambda: asked[0])
    announced.step("one")
    asked[0] = True
    with pytest.raises(EndAsked):
        announced.progress(1, 500, "two")
    with pytest.raises(EndAsked):
        announced.step("three")
    assert seen.texts == ["one"]


# ------------------------------------------------------------------ within a look


def looking(answers: list[float], *, watchdog_s: float = 90, ready: bool = True, stopping: bool = False) -> list[str]:
    """What is said during a look in which the broker answers at these seconds after its beginning."""
    seconds = Seconds()
    with ServiceManager() as manager:
        supervisor = Supervisor.of(manager.environment(watchdog_s), seconds)
        if ready:
            supervisor.ready()
        if stopping:
            supervisor.stopping()
        supervisor.alive()
        manager.hear()
        began = seconds.at
        with supervisor.look():
            for at in answers:
                seconds.at = began + at
                supervisor.answered()
        return manager.hear()


@pytest.mark.fault("F08")
def test_a_long_look_is_alive_while_the_broker_answers() -> None:
    """A hundred requests at the pace that is allowed; a ping every five seconds at most."""
    heard = looking([0.3 * number for number in range(1, 101)])
    assert heard == ["WATCHDOG=1"] * 6


@pytest.mark.fault("F08")
def test_no_silence_is_longer_than_the_slowest_exchange_and_a_little() -> None:
    """The evening's prices: page after page, each as slow as is allowed; systemd's patience is 90 seconds."""
    for gap in (4.9, 19.0, 29.9, 75.0):
        heard = looking([gap, gap + 75.0])
        assert heard == (["WATCHDOG=1"] * 2), gap


@pytest.mark.fault("F08")
def test_a_broker_that_never_answers_feeds_nothing() -> None:
    """The call's own time limit ends it, after less than the watchdog's time; until then there is no ping."""
    assert looking([]) == []


def test_a_look_without_end_is_no_life() -> None:
    heard = looking([LONGEST_LOOK_S - 1, LONGEST_LOOK_S + 1, LONGEST_LOOK_S + 100, LONGEST_LOOK_S * 3])
    assert heard == ["WATCHDOG=1"]


def test_outside_a_look_an_answer_is_nobodys_life() -> None:
    def answered(supervisor: Supervisor) -> None:
        supervisor.ready()
        supervisor.answered()

    assert told_by(answered) == ["READY=1"]


def test_while_it_starts_and_while_it_stops_a_look_that_gets_on_is_given_time() -> None:
    assert looking([1], ready=False) == ["EXTEND_TIMEOUT_USEC=300000000"]
    assert looking([1], stopping=True) == ["EXTEND_TIMEOUT_USEC=300000000"]
