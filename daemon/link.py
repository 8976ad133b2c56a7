"""The stream of order updates of one account, as the cycle thread sees it.

The stream's own thread does one thing: it appends what it hears to the store, as it came. What follows from it is
done by the cycle thread (updates.py), which then asks the broker for the rest. A stream tells nothing twice, so a look
at the broker has caught up with it when the stream was listening before the look began, and has not come back since.

A socket can be open and mute. Of an order that REST told something new about, the stream must have told by the next
look; if it has not, it is made to connect again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from state.records import BrokerOrder


class Updates(Protocol):
    """A stream of order updates in a thread of its own."""

    @property
    def wake(self) -> threading.Event:
        """Set whenever something was heard, or the stream connected."""
        ...

    @property
    def connection(self) -> int:
        """How often it has connected so far; 0 before the first time."""
        ...

    @property
    def is_listening(self) -> bool:
        """True while it is connected and subscribed."""
        ...

    @property
    def fault(self) -> str:
        """The last error in words; empty while there is none."""
        ...

    def start(self) -> None:
        """Begin to listen."""
        ...

    def stop(self) -> None:
        """End, and wait for the thread to end."""
        ...

    def suspect(self) -> None:
        """Connect again: something happened that it did not tell."""
        ...


class Link:
    """One account's stream, and how far the cycle thread is with it."""

    def __init__(self, updates: Updates, read: Callable[[str], BrokerOrder | None]) -> None:
        self.updates = updates
        self._read = read
        self._began = -1
        self._before = -1  # the connection of the look before
        self._heard: set[str] = set()  # client order ids, in this look
        self._untold: frozenset[str] = frozenset()  # of which REST told something new in the look before

    @property
    def state(self) -> str:
        """In words."""
        if not self.updates.is_listening:
            return self.updates.fault or "not connected"
        return "caught up" if self.has_caught_up() else "catching up"

    def begin(self) -> None:
        """A look at the broker begins."""
        self._began = self.updates.connection if self.updates.is_listening else -1
        self._heard = set()

    def has_caught_up(self) -> bool:
        """True when everything the stream may have missed has been asked for since."""
        return self.updates.is_listening and self._began == self.updates.connection

    def read(self, body: str) -> BrokerOrder | None:
        """The order that an event is about, None when it is about none. Raises ValueError when it cannot be read."""
        order = self._read(body)
        if order is not None:
            self._heard.add(order.client_order_id)
        return order

    def missed(self, told_by_rest: frozenset[str]) -> frozenset[str]:
        """Orders that REST told something new about in the look before, and the stream never has.

        `told_by_rest` are those of this look. When there are any missed, the stream is made to connect again.
        """
        is_same = self._began == self.updates.connection
        missed = self._untold - self._heard if is_same else frozenset()
        # What happened before it connected it cannot tell: only between two looks of one connection is it held to it.
        self._untold = told_by_rest - self._heard if is_same and self._began == self._before else frozenset()
        self._before = self._began
        if missed:
            self.updates.suspect()
        return missed
