"""One websocket connection: a TCP socket that an HTTP request has handed over, and the sans-IO protocol on it.

Frames are written by whoever has something to say, under a lock; they are read by the thread of the request, which
stays until the connection ends.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Upgrade
from websockets.server import ServerProtocol

_PATIENCE_S = 5.0  # how long a client may leave what is sent to it unread


class WebSocket:
    """A connection after its handshake. `mute` and `deaf` are faults: see `loopback.faults`."""

    def __init__(self, connection: socket.socket, raw_request: bytes, date: str) -> None:
        self._socket = connection
        self._socket.settimeout(_PATIENCE_S)
        self._lock = threading.Lock()
        self._protocol = ServerProtocol()
        self.mute = False
        self.deaf = False
        self.is_open = True
        self._shake_hands(raw_request, date)

    def _shake_hands(self, raw_request: bytes, date: str) -> None:
        self._protocol.receive_data(raw_request)
        upgrades = [event for event in self._protocol.events_received() if isinstance(event, Upgrade)]
        if not upgrades:
            self.cut()
            return
        response = self._protocol.accept(upgrades[0])
        del response.headers["Date"]
        response.headers["Date"] = date
        self._protocol.send_response(response)
        self.is_open = response.status_code == 101
        self._flush()

    # -------------------------------------------------------------- out

    def send(self, payload: bytes, *, text: bool = False) -> None:
        """Write one frame; a connection that is mute or gone swallows it."""
        with self._lock:
            if self.mute or self.deaf or not self.is_open:
                return
            with suppress(InvalidState):
                if text:
                    self._protocol.send_text(payload)
                else:
                    self._protocol.send_binary(payload)
                self._write()

    def close(self, code: int, reason: str = "") -> None:
        """Begin to close with a code; 1006, which no frame can carry, cuts the connection."""
        if code == 1006:
            self.cut()
            return
        with self._lock, suppress(InvalidState):
            self._protocol.send_close(code, reason)
            self._write()

    def cut(self) -> None:
        """End the connection without a word."""
        self.is_open = False
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        pending = self._protocol.data_to_send()
        if self.deaf:
            return
        try:
            for data in pending:
                if data:
                    self._socket.sendall(data)
                else:
                    self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut()

    # -------------------------------------------------------------- in

    def messages(self) -> Iterator[bytes]:
        """What the client sends, a message at a time, until the connection ends."""
        parts: list[bytes] = []
        while self.is_open:
            data = self._receive()
            if data is None:
                continue
            with self._lock:
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
                events = self._protocol.events_received()
                self._write()
            for frame in events:
                if isinstance(frame, Frame) and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    parts.append(bytes(frame.data))
                    if frame.fin:
                        yield b"".join(parts)
                        parts = []
            if not data or (self._protocol.close_expected() and not self.deaf):
                self.cut()

    def _receive(self) -> bytes | None:
        """Bytes from the client, empty at the end, None when there are none yet."""
        try:
            return self._socket.recv(65536)
        except TimeoutError:
            return None
        except OSError:
            return b""
