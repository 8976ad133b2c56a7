"""A stand-in for systemd: it listens where $NOTIFY_SOCKET says, and remembers what it is told."""

from __future__ import annotations

import itertools
import os
import socket
import time
from types import TracebackType
from typing import Self

_NUMBERS = itertools.count(1)


class ServiceManager:
    """Listens from its making until it is left. `address` is what $NOTIFY_SOCKET says."""

    def __init__(self, path: str | None = None) -> None:
        self.address = path or f"@harvestd-test-{os.getpid()}-{next(_NUMBERS)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if path is None else path)

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        """What a service finds in its environment."""
        watchdog = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": self.address, **watchdog}

    def hear(self, seconds: float = 0.0) -> list[str]:
        """Everything said until `seconds` have passed in which nothing came: "KEY=VALUE", in the order it was said."""
        self._socket.settimeout(max(seconds, 0.001))
        heard = []
        while True:
            try:
                message = self._socket.recv(65_536).decode()
            except TimeoutError:
                return heard
            heard += message.splitlines()

    def wait_for(self, word: str, seconds: float) -> list[str]:
        """Everything said up to the message that has "KEY=VALUE" in it. Raises AssertionError when it does not come."""
        until, heard = time.monotonic() + seconds, list[str]()
        while time.monotonic() < until:
            heard += self.hear(0.05)
            if word in heard:
                return heard
        raise AssertionError(f"expected {word} within {seconds} s, heard {heard}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
