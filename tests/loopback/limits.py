"""Alpaca's rate limit: so many requests a minute, trading and data apart, told in headers with every answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

_MINUTE_S = 60.0


@dataclass
class RateLimit:
    """Requests left of one API's minute. `enforced=False` counts nothing and always has some left.

    `clock` gives seconds from any beginning. The headers tell the end of the minute in the venue's time: as far ahead
    of its now as the minute still lasts.
    """

    per_minute: int
    enforced: bool
    clock: Callable[[], float]
    _began: float = field(default=-math.inf, init=False)
    _used: int = field(default=0, init=False)

    def take(self) -> bool:
        """Count one request; False when the minute has none left."""
        self._begin_minute()
        if not self.enforced:
            return True
        self._used += 1
        return self._used <= self.per_minute

    def headers(self, venue_now: datetime) -> dict[str, str]:
        """X-Ratelimit-Limit, -Remaining and -Reset (seconds since 1970)."""
        self._begin_minute()
        left = max(0, self.per_minute - self._used)
        return _told(self.per_minute, left, venue_now, self._began + _MINUTE_S - self.clock())

    def exhausted(self, venue_now: datetime, seconds: float) -> dict[str, str]:
        """The headers that come with a refusal, the next minute `seconds` away (0: when this one ends)."""
        return _told(self.per_minute, 0, venue_now, seconds or self._began + _MINUTE_S - self.clock())

    def _begin_minute(self) -> None:
        now = self.clock()
        if now - self._began >= _MINUTE_S:
            self._began, self._used = now, 0


def _told(per_minute: int, left: int, venue_now: datetime, ends_in: float) -> dict[str, str]:
    return {
        "X-Ratelimit-Limit": str(per_minute),
        "X-Ratelimit-Remaining": str(left),
        "X-Ratelimit-Reset": str(math.ceil(venue_now.timestamp() + ends_in)),
    }
