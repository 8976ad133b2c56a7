"""Simulated time of a stand-in broker: it passes when somebody sleeps, and never by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from daemon.clock import ServerClock

START = datetime(2024, 3, 4, 14, 30, tzinfo=UTC)


class _Time(BaseHTTPRequestHandler):
    now = START

    def do_GET(self) -> None:
        found = self.path == "/loopback/time"
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"now": _Time.now.isoformat()}).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _Time.now += timedelta(seconds=asked["seconds"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    _Time.now = START
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Time)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_time_passes_only_by_sleeping(url: str) -> None:
    clock = ServerClock.at(url)
    assert clock is not None
    assert (clock.now(), clock.now()) == (START, START)
    clock.sleep(90.5)
    assert clock.now() == START + timedelta(seconds=90.5)


def test_two_clocks_of_one_server_agree(url: str) -> None:
    one, other = ServerClock(url), ServerClock(url)
    one.sleep(60)
    assert other.now() == one.now() == START + timedelta(minutes=1)


def test_a_server_without_a_time_of_its_own_has_no_clock(url: str) -> None:
    assert ServerClock.at(f"{url}/elsewhere") is None


def test_a_server_that_is_gone_is_not_guessed_at() -> None:
    with pytest.raises(OSError):  # noqa: PT011  (whatever the system says of a refused connection)
        ServerClock.at("http://127.0.0.1:9")


def test_the_proxies_of_the_environment_are_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert ServerClock(url).now() == START
