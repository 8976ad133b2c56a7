"""The one clock. Real time is read here and nowhere else; simulation puts another one in its place."""

from __future__ import annotations

import time
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
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Simulated time passes only when the world is advanced."""
