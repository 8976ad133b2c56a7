"""HTTP exchanges that are over in time, whatever the other side does.

The problem. A socket's time-out bounds the wait for the next bytes. A server that sends one byte every few seconds
never meets it, and holds its caller for as long as it likes, in the headers as in the body. So here the seconds left of
the exchange are worked out anew before each read of the socket. urllib3 takes what connecting cost off the whole and
sets the rest on the socket just before the answer is read; the count begins there.

| part of the exchange         | bounded by                                                         |
|------------------------------|--------------------------------------------------------------------|
| connecting, TLS handshake    | the connect time-out, for each address that the host's name has    |
| sending                      | the whole, for each of headers and body; requests are small        |
| headers and body             | what is left of the whole                                          |

Looking up the host's name is the system's affair, and so are its time-outs.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection, BaseHTTPSConnection


class _Until(io.RawIOBase):
    """What a socket receives within so many seconds; then TimeoutError, however much is still coming."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket, self._seconds, self._until = connected, seconds, monotonic() + seconds
        self._received = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Wait for bytes no longer than the time that is left. Raises TimeoutError."""
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._socket.settimeout(left)
        return self._received.readinto(buffer)

    def fileno(self) -> int:
        """The socket's."""
        return self._received.fileno()

    def close(self) -> None:
        """Let go of the socket, which may be used again: with its time-out as it was."""
        with suppress(OSError):  # closed
            self._socket.settimeout(self._seconds)
        self._received.close()
        super().close()


class _TimedResponse(HTTPResponse):
    """An answer that is read, headers and body, within the time-out its socket has when it is begun."""

    def __init__(self, sock: socket.socket, *options: Any, **named: Any) -> None:
        super().__init__(sock, *options, **named)
        seconds = sock.gettimeout()
        assert seconds is not None  # the door sets one on every request
        self.fp.close()
        self.fp = io.BufferedReader(_Until(sock, seconds))


class _Pool(HTTPConnectionPool):
    """Connections of which each answer is timed."""

    def _new_conn(self) -> BaseHTTPConnection:
        return _timed(super()._new_conn())


class _SecurePool(HTTPSConnectionPool):
    """As above."""

    def _new_conn(self) -> BaseHTTPSConnection:
        return _timed(super()._new_conn())


C = TypeVar("C")


def _timed(connection: C) -> C:
    connection.response_class = _TimedResponse  # type: ignore[attr-defined]
    return connection


POOLS: Mapping[str, type[HTTPConnectionPool]] = {"http": _Pool, "https": _SecurePool}
