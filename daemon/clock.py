"""The one clock. Real time is read here and nowhere else; simulation puts another one in its place."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")


class Clock(Protocol):
    """Instants for what is true, monotonic seconds for durations."""

    def now(self) -> datetime:
        """The instant, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class WallClock:
    """Real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class WorldClock:
    """Simulated time: whatever the world (the venue's durable clock) says it is."""

    def __init__(self, world_now: Callable[[], datetime]) -> None:
        self._world_now = world_now

    def now(self) -> datetime:
        return self._world_now()

    def monotonic(self) -> float:
        """The world's own seconds, which never jump."""
        return self._world_now().timestamp()

    def sleep(self, seconds: float) -> None:
        """Simulated time passes only when the world is advanced."""


class ServerClock:
    """Simulated time of a stand-in for a broker on this machine: whoever sleeps lets it pass, for everybody."""

    FRESH_S = 0.02  # between two questions within this, no time has passed

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._seen: tuple[float, datetime] | None = None

    @classmethod
    def at(cls, url: str) -> ServerClock | None:
        """The clock of the server at `url`; None when it lives in real time."""
        clock = cls(url)
        try:
            clock.now()
        except urllib.error.HTTPError:
            return None
        return clock

    def now(self) -> datetime:
        """The server's instant. Raises OSError when it does not answer."""
        at = time.monotonic()
        if self._seen is None or at - self._seen[0] > self.FRESH_S:
            with self._opener.open(f"{self._url}/loopback/time", timeout=10) as answer:
                self._seen = at, datetime.fromisoformat(json.load(answer)["now"]).astimezone(UTC)
        return self._seen[1]

    def monotonic(self) -> float:
        """The server's own seconds, which never jump."""
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        """Let the server's time pass; returns when everything due in it has happened."""
        body = json.dumps({"seconds": seconds}).encode()
        request = urllib.request.Request(
            f"{self._url}/loopback/advance", body, {"Content-Type": "application/json"}, method="POST"
        )
        with self._opener.open(request, timeout=600):
            self._seen = None
