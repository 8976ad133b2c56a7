"""HTTP: sockets, keep-alive, one thread a connection, and the handover to a websocket.

The standard library reads the requests; answers are written here in one piece, because every header a client sees,
`Date` among them, is the venue's and not this machine's.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal, Protocol
from urllib.parse import parse_qsl, urlsplit

from loopback.requests import Request


@dataclass(frozen=True)
class Reply:
    """Bytes to answer with; without a status the connection closes in silence. `cut_at` breaks the body off there and
    closes the connection. With `drip_s`, bytes leave one by one, so many seconds apart, from `drip_from` on: of the
    body, or of the headers before it."""

    status: int | None
    body: bytes = b""
    content_type: str = "application/json; charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    drip_s: float = 0.0
    drip_from: Literal["headers", "body"] = "body"


SILENCE = Reply(None)


class Service(Protocol):
    """Whoever answers."""

    def reply(self, request: Request) -> Reply:
        """The answer."""

    def handshake(self, request: Request) -> Reply | None:
        """What answers the beginning of a websocket instead of one; None where it may begin."""

    def serve_stream(self, request: Request, connection: socket.socket, raw_request: bytes) -> None:
        """Stay with a websocket until it ends."""


class HttpServer(http.server.ThreadingHTTPServer):
    """The listening socket and the connections there are."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), Handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Remember the connection, so that stopping the server ends it."""
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Forget a connection that has ended."""
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """End all connections."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no news; anything else is a fault of this server."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: requests one after the other, or one that becomes a websocket."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, format: str, *args: object) -> None:
        """The server records requests itself."""

    def do_GET(self) -> None:
        """A read, or the beginning of a websocket."""
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._upgrade()
        else:
            self._answer(self.server.service.reply(self._request()))

    def do_POST(self) -> None:
        """A command."""
        self._answer(self.server.service.reply(self._request()))

    do_PATCH = do_DELETE = do_PUT = do_POST  # noqa: N815

    def _request(self) -> Request:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        return Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length) if length else b"",
        )

    def _answer(self, reply: Reply) -> None:
        if reply.status is None:
            self.close_connection = True
            return
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.status != HTTPStatus.NO_CONTENT:
            lines += [f"Content-Type: {reply.content_type}", f"Content-Length: {len(reply.body)}"]
        body = b"" if reply.status == HTTPStatus.NO_CONTENT else reply.body[: reply.cut_at]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        at_once = 0 if reply.drip_from == "headers" else len(head)
        if reply.drip_s:
            self._drip(head + body, at_once, reply.drip_s)
        else:
            self.wfile.write(head + body)
        if reply.cut_at is not None:
            self.close_connection = True

    def _drip(self, answer: bytes, at_once: int, seconds: float) -> None:
        """Until it is all told, or the client has gone: then writing raises."""
        self.wfile.write(answer[:at_once])
        for place in range(at_once, len(answer)):
            time.sleep(seconds)
            self.wfile.write(answer[place : place + 1])

    def _upgrade(self) -> None:
        self.close_connection = True
        request = self._request()
        refusal = self.server.service.handshake(request)
        if refusal is not None:
            self._answer(refusal)
            return
        raw = f"{self.requestline}\r\n".encode("latin-1")
        raw += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()).encode("latin-1") + b"\r\n"
        self.server.service.serve_stream(request, self.connection, raw)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
