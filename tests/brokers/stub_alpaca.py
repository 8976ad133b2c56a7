"""A server that answers what a test tells it to, and remembers what it was asked. For bodies that the loopback venue
would never produce; whatever it can produce is tested against it instead."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from brokers.alpaca import AlpacaReader, Endpoints, Keys
from brokers.alpaca.desk import AlpacaBroker

KEYS = Keys("PKSTUB", "stub-secret")
OPEN_CLOCK = {
    "timestamp": "2026-10-08T11:10:15.123456789-04:00",
    "is_open": True,
    "next_open": "2026-10-09T09:30:00-04:00",
    "next_close": "2026-10-08T16:00:00-04:00",
}

OURS = "ad78ddf9-eadd-49e7-b451-eebfcf25ff04"
TAKEN = {
    "id": OURS,
    "client_order_id": "a-1",
    "created_at": "2026-10-08T15:10:21.371060727Z",
    "symbol": "KO",
    "side": "buy",
    "qty": "10",
    "filled_qty": "0",
    "type": "market",
    "time_in_force": "day",
    "status": "pending_new",
}


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: object


@dataclass(frozen=True)
class Said:
    """One answer. `body` is JSON, bytes to be sent as they are, or a function from what was asked to JSON."""

    body: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class StubAlpaca:
    """Answers by method and path, each path's answers in turn, the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], deque[Said]] = defaultdict(deque)
        self.let_go = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16

            def do_GET(self) -> None:
                stub._answer(self)

            do_POST = do_DELETE = do_PATCH = do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Stop listening."""
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()

    def says(self, path: str, *bodies: object, method: str = "GET") -> None:
        """Answer `path` with these bodies (or Said) in turn."""
        self.answers[method, path] = deque(body if isinstance(body, Said) else Said(body) for body in bodies)

    def count(self, path: str, method: str = "GET") -> int:
        """How often it was asked."""
        return sum((each.method, each.path) == (method, path) for each in self.asked)

    def queries(self, path: str) -> list[dict[str, str]]:
        """The queries it was asked with, in order."""
        return [each.query for each in self.asked if each.path == path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.asked.append(Asked(handler.command, parts.path, dict(parse_qsl(parts.query)), body))
        waiting = self.answers[handler.command, parts.path]
        if not waiting:
            waiting.append(Said({"code": 40410000, "message": f"nothing is said at {parts.path}"}, 404))
        said = waiting.popleft() if len(waiting) > 1 else waiting[0]
        if said.status == 0:  # hang until the test is over
            self.let_go.wait(10)
            handler.close_connection = True
            return
        content = said.body(self.asked[-1]) if callable(said.body) else said.body
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response_only(said.status)
        for name, value in {"Content-Type": "application/json", **said.headers}.items():
            handler.send_header(name, value)
        if said.status != 204:
            handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        if said.status != 204:
            handler.wfile.write(raw)


HANGS = Said(None, 0)


class Time:
    """Seconds that pass when a test says so, or when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@contextmanager
def stubbed_reader(stub: StubAlpaca, **options: object) -> Iterator[AlpacaReader]:
    """A reader connected to the stub, whose market is open."""
    stub.says("/v2/clock", OPEN_CLOCK)
    made = AlpacaReader(KEYS, Endpoints.loopback(stub.url), **options)  # type: ignore[arg-type]
    yield made
    made.close()


@contextmanager
def stubbed_broker(stub: StubAlpaca, **options: object) -> Iterator[AlpacaBroker]:
    """A broker connected to the stub, whose market is open."""
    stub.says("/v2/clock", OPEN_CLOCK)
    made = AlpacaBroker(KEYS, Endpoints.loopback(stub.url), **options)  # type: ignore[arg-type]
    yield made
    made.close()
