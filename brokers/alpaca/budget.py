"""Calls a minute, with a part kept back.

Alpaca allows an account 200 trading calls a minute, whoever makes them, and says in each answer how many are left.
Spending them all on orders would leave none to cancel one. So calls are drawn from a bucket that refills steadily:

| who asks                                    | may draw            | finds too few left         |
|---------------------------------------------|---------------------|----------------------------|
| reads                                       | down to the reserve | wait, for a bounded time   |
| a new order                                 | down to the reserve | it does not leave          |
| cancels, look-ups of orders of unknown fate | everything          | wait, for a bounded time   |

Where the server tells its count, and when the next minute begins, that is so: other programs may use the same keys. A
limit set lower than the server's is counted here. After a 429 nobody draws until the time the server named, nor in the
fraction of a second after it that is drawn by lot: others who wait for the same minute would all come at once. A time
that is missing, over, or further away than the minute that limits are counted by, is not believed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from brokers.errors import BrokerUnavailable

_RESERVED_PART = 0.1  # of a minute's calls
_SHORTEST_WAIT_S = 0.01
_SHORTEST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0  # limits are by the minute
_JITTER_S = 1.0


class RateBudget:
    """`per_minute` calls, of which a tenth is the reserve. Seconds throughout; `lot` draws from [0, 1). One thread."""

    def __init__(
        self,
        per_minute: int,
        *,
        sleep: Callable[[float], None],
        monotonic: Callable[[], float],
        name: str,
        lot: Callable[[], float] = random.random,
    ) -> None:
        self._set = float(per_minute)
        self._per_minute = self._left = self._set
        self._sleep, self._monotonic, self._name, self._lot = sleep, monotonic, name, lot
        self._counted_at = self._closed_until = monotonic()
        self._least_pause = _SHORTEST_PAUSE_S
        self._begins_at: float | None = None  # the server's next minute, where it counts

    def take_now(self, *, reserved: bool = False) -> bool:
        """Draw one call if there is one; with `reserved`, also from the reserve."""
        if self._wait(reserved=reserved) > 0:
            return False
        self._left -= 1
        return True

    def take(self, *, patience_s: float, reserved: bool = False) -> None:
        """Draw one call, waiting for it no longer than `patience_s`. Raises BrokerUnavailable."""
        waited = 0.0
        while not self.take_now(reserved=reserved):
            wait = max(self._wait(reserved=reserved), _SHORTEST_WAIT_S)
            if waited + wait > patience_s:
                raise BrokerUnavailable(
                    f"Alpaca's limit of {self._name} calls: expected a call within {patience_s:.0f} s, the next is "
                    f"{waited + wait:.0f} s away. Asked again later."
                )
            self._sleep(wait)
            waited += wait

    def hear(self, per_minute: int | None, left: int | None, begins_in_s: float | None) -> None:
        """The server says how many calls it allows a minute, how many are left, and when the next minute begins."""
        self._refill()
        if per_minute:
            self._per_minute = min(self._set, float(per_minute))
        if left is None:
            return
        if per_minute is None or self._set < per_minute:
            self._left = min(self._left, float(left))
            return
        self._left = float(left)
        if begins_in_s is not None:
            self._begins_at = self._counted_at + min(max(begins_in_s, 0.0), _LONGEST_PAUSE_S)

    def close(self, seconds: float) -> None:
        """The server takes no more calls for so long; then a new minute begins. Where it asks again and again, each
        pause is at least twice the one before: a reset that is said to be over already is no reason to go on."""
        self._refill()
        if self._counted_at - self._closed_until > _LONGEST_PAUSE_S:
            self._least_pause = _SHORTEST_PAUSE_S
        self._left = self._per_minute
        pause = min(max(seconds, self._least_pause), _LONGEST_PAUSE_S) + _JITTER_S * self._lot()
        self._least_pause = min(2 * self._least_pause, _LONGEST_PAUSE_S)
        self._closed_until = max(self._closed_until, self._counted_at + pause)

    def _wait(self, *, reserved: bool) -> float:
        """Seconds until a call can be drawn; 0 when one can be drawn now."""
        self._refill()
        missing = (1.0 if reserved else 1.0 + self._per_minute * _RESERVED_PART) - self._left
        refilled_at = self._counted_at + missing * 60 / self._per_minute
        if missing > 0 and self._begins_at is not None:
            refilled_at = self._begins_at
        return max(refilled_at - self._counted_at, self._closed_until - self._counted_at, 0.0)

    def _refill(self) -> None:
        """Calls come back steadily; where the server counts, all at once when its minute is over."""
        now = self._monotonic()
        if self._begins_at is None:
            back = max(0.0, now - self._counted_at) * self._per_minute / 60
            self._left = min(self._per_minute, self._left + back)
        elif now >= self._begins_at:
            self._left, self._begins_at = self._per_minute, None
        self._counted_at = now
