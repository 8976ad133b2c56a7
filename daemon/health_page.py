"""`/metrics` and `/health` on 127.0.0.1, for a monitor on this machine.

A page of the web can make a browser on this machine ask for addresses here, and can give 127.0.0.1 a name of its own
(DNS rebinding). So only GET is answered, only to who calls this server by a name that stands for this machine and with
its port, and never to a request that a browser says comes from elsewhere. Nothing that is asked has an effect.

| asked                                                                  | answer |
|------------------------------------------------------------------------|--------|
| GET /metrics                                                           | 200    |
| GET /health                                                            | 200 while the daemon is well, else 503 |
| a Host header that is missing, double, or not this server's            | 421    |
| an Origin, or a Sec-Fetch-Site other than none and same-origin         | 403    |
| any other path                                                         | 404    |
| any other method                                                       | 405    |
| more than MOST_AT_ONCE at a time, a request not told within SLOWEST_REQUEST_S | hung up |
"""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

from daemon.metrics import Board

log = structlog.get_logger("health")

HOST = "127.0.0.1"
SLOWEST_REQUEST_S = 5.0
MOST_AT_ONCE = 8
POLL_S = 0.1  # how soon it notices that it is to end
_HERE = ("127.0.0.1", "localhost", "[::1]")
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class HealthPage:
    """The server, from `start` to `stop`. Raises OSError when the port is taken."""

    def __init__(self, port: int, board: Board) -> None:
        self._server = _Server(port, board)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info(f"metrics and health at {HOST}:{self.port}")

    def stop(self) -> None:
        """End; a request that is being answered is not waited for."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, board: Board) -> None:
        self.board = board
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((HOST, port), _Handler)
        self.hosts = frozenset(f"{name}:{self.server_address[1]}" for name in _HERE)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each request, as long as there are few."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One request, and its place is free again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request that breaks off is nobody's business but the client's."""


class _Told(io.RawIOBase):
    """What a client tells, as far as it comes before `ends_at`: a byte now and then does not keep it open."""

    def __init__(self, client: socket.socket, ends_at: float) -> None:
        self._client, self._ends_at = client, ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._client.settimeout(max(self._ends_at - time.monotonic(), 0.001))
        return self._client.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "harvestd", ""

    def setup(self) -> None:
        """Read within a time that counts for the whole request."""
        super().setup()
        self.rfile = io.BufferedReader(_Told(self.connection, time.monotonic() + SLOWEST_REQUEST_S))

    def do_GET(self) -> None:
        """Answer one question."""
        if not self._is_meant():
            self._answer(421, "this server has another name\n")
        elif self._comes_from_elsewhere():
            self._answer(403, "not for pages from elsewhere\n")
        elif self.path == "/metrics":
            self._answer(200, self.server.board.page())
        elif self.path == "/health":
            well, told = self.server.board.health()
            self._answer(200 if well else 503, json.dumps(told) + "\n", "application/json")
        else:
            self._answer(404, "there are /metrics and /health\n")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def _refuse_method(self) -> None:
        self._answer(405, "only GET\n")

    def _is_meant(self) -> bool:
        named = self.headers.get_all("Host") or []
        return len(named) == 1 and named[0].strip().lower() in self.server.hosts

    def _comes_from_elsewhere(self) -> bool:
        site = self.headers.get("Sec-Fetch-Site", "none").strip().lower()
        return self.headers.get("Origin") is not None or site not in ("none", "same-origin")

    def _answer(self, status: int, body: str | bytes, kind: str = _TEXT) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(raw))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        if status == 405:
            self.send_header("Allow", "GET")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who asks is no news, and what he asks could be anything."""
