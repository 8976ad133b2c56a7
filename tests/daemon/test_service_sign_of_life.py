"""The sign of life for somebody outside: given while looks succeed, its address told to nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import structlog
from pydantic import SecretStr

from daemon.dead_man import DeadMan
from daemon.errors import ConfigurationRefused
from daemon.settings.redaction import REDACTOR

CANARY = "ping-canary-5d1f0a7e"


class Monitor(ThreadingHTTPServer):
    """The service that waits for the sign."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status, self.hangs = 200, threading.Event()
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{CANARY}"


class _Handler(BaseHTTPRequestHandler):
    server: Monitor

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.hangs.is_set():
            self.server.released.wait(30)
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def monitored() -> Iterator[Monitor]:
    """A monitor at this machine."""
    made = Monitor()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield made
    finally:
        made.released.set()
        made.shutdown()
        made.server_close()


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with monitored() as made:
        yield made


def soon(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.005)
    return False


def test_it_is_given_while_the_daemon_lives_and_no_longer(monitor: Monitor) -> None:
    sign = DeadMan(SecretStr(monitor.url), 0.05)
    sign.start()
    assert monitor.asked == [], "nothing is given before the first look succeeded"
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        sign.alive()
        time.sleep(0.01)
    assert len(monitor.asked) >= 3
    assert set(monitor.asked) == {f"/{CANARY}"}
    assert soon(lambda: not sign.is_due())
    time.sleep(0.06)
    count = len(monitor.asked)
    time.sleep(0.2)
    assert len(monitor.asked) == count, "the cycle thread said nothing since"
    sign.stop()


def test_a_failure_is_one_line_and_the_address_is_in_none(monitor: Monitor) -> None:
    monitor.status = 500
    sign = DeadMan(SecretStr(monitor.url), 0.02)
    with structlog.testing.capture_logs() as lines:
        sign.start()
        until = time.monotonic() + 5
        while len(monitor.asked) < 3 and time.monotonic() < until:
            sign.alive()
            time.sleep(0.01)
        monitor.status = 204
        while len(lines) < 2 and time.monotonic() < until:
            sign.alive()
            time.sleep(0.01)
        sign.stop()
    assert [line["event"] for line in lines] == [
        "the sign of life did not get through; it is tried again",
        "the sign of life gets through again",
    ]
    assert lines[0]["fault"] == "status 500"
    assert CANARY not in str(lines)


def test_nobody_there_is_a_failure_in_words_without_the_address(monitor: Monitor) -> None:
    sign = DeadMan(SecretStr("http://127.0.0.1:9/" + CANARY), 60)
    assert sign._ask() == "NewConnectionError"


def test_it_is_not_led_elsewhere(monitor: Monitor) -> None:
    monitor.status = 302
    sign = DeadMan(SecretStr(monitor.url), 60)
    assert sign._ask() == "status 302"
    assert monitor.asked == [f"/{CANARY}"]


@pytest.mark.fault("F44")
def test_a_monitor_that_never_answers_holds_up_nobody(monitor: Monitor) -> None:
    monitor.hangs.set()
    sign = DeadMan(SecretStr(monitor.url), 60)
    sign.start()
    sign.alive()
    assert soon(lambda: bool(monitor.asked))
    began = time.monotonic()
    sign.alive()
    sign.stop(0.05)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hc.example/ping-canary-5d1f0a7e",
        "ftp://hc.example/ping-canary-5d1f0a7e",
        "hc.example/ping-canary-5d1f0a7e",
        "https:///ping-canary-5d1f0a7e",
        "https://user:ping-canary-5d1f0a7e@hc.example/",
        "https://hc.example:port/ping-canary-5d1f0a7e",
    ],
)
def test_an_address_without_tls_or_sense_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationRefused, match="begins with https") as refused:
        DeadMan(SecretStr(url), 60)
    assert "canary" not in str(refused.value)


def test_the_part_of_the_address_that_is_the_secret_is_masked_wherever_it_turns_up() -> None:
    DeadMan(SecretStr("https://hc.example/ping-canary-99aa77bb?token=query-canary-1234"), 60)
    assert REDACTOR.redact("GET /ping-canary-99aa77bb?token=query-canary-1234") == "GET /***?token=***"
    assert REDACTOR.redact("hc.example") == "hc.example"
