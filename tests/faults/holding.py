"""What every story of a fault ends with: the books agree, again after a restart, and looking twice changes nothing.

The stories are told on the stage of tests/daemon/small_house.py, the whole daemon and a venue in one process. A death
is an exception that nothing in the daemon catches, raised at a crash point; what it leaves is what is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from invariants import check_invariants, check_reconciling_twice
from small_house import Stage

from brokers.errors import BrokerError
from daemon.agenda import Task
from daemon.crash_points import CrashPoint, watched
from daemon.day import start, tick
from state.records import BrokerOrder, OrderRequest

D = Decimal


class Killed(BaseException):
    """The process died here."""


@contextmanager
def killed_at(point: CrashPoint, nth: int = 1) -> Iterator[None]:
    """The daemon dies when it passes the point for the n-th time, within the block."""
    passed = 0

    def watcher(at: CrashPoint) -> None:
        nonlocal passed
        passed += at is point
        if passed == nth:
            raise Killed(point)

    with watched(watcher), pytest.raises(Killed):
        yield


def holds(
    stage: Stage,
    *,
    settled: bool = True,
    told_otherwise: Collection[str] = (),
    again: Callable[[], object] = lambda: None,
) -> None:
    """Every invariant, now; in another process after its first look; and after it has looked twice more.

    `again` makes the broker of the new process as it was altered before, where the fault goes on. `settled` and
    `told_otherwise` as for the invariants. Raises AssertionError.
    """

    def check() -> None:
        check_invariants(stage.path, stage.venue, settled=settled, told_otherwise=told_otherwise)

    check()
    stage.restart()
    again()
    assert start(stage.house), "the first look of the new process"
    tick(stage.house)
    check()
    check_reconciling_twice(stage.house)
    check()


def opened(stage: Stage, number: int = 0) -> Stage:
    """Ten minutes after a session's open, all read; harvestd decides nothing of its own in this session."""
    stage.tick(stage.before_open(number))
    session = stage.session(number).session
    stage.house.store.agenda.mark(session, Task.DECIDE.value, "main", stage.house.clock.now())
    stage.venue.advance_to(stage.at(number, 10))
    return stage


def minutes(stage: Stage, *after_open: float, number: int = 0) -> None:
    """Ticks so many minutes after the open."""
    for each in after_open:
        stage.tick(stage.at(number, each))


def slow_lookups(stage: Stage, **answers: Any) -> None:
    """The broker's records may lag: only three look-ups in vain mean that it has no order. Other `answers` too."""
    three = replace(stage.venue.broker().capabilities, lookups_before_resend=3)
    stage.alter(capabilities=three, **answers)


@dataclass
class Door:
    """The way to the venue, with every request counted, and the answers of some replaced."""

    stage: Stage
    answers: Callable[[OrderRequest, int], BrokerError | None] = lambda _request, _nth: None
    after: bool = False  # the venue takes the order before the answer goes wrong

    def __post_init__(self) -> None:
        self.requests: list[OrderRequest] = []

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """To be given to `Stage.alter`."""
        self.requests.append(request)
        error = self.answers(request, len(self.requests))
        if error is None:
            return self.stage.venue.broker().submit(request)
        if self.after:
            self.stage.venue.broker().submit(request)
        raise error

    @property
    def names(self) -> list[str]:
        """Client order ids as they came."""
        return [request.client_order_id for request in self.requests]


def cost(stage: Stage, symbol: str) -> Decimal:
    """USD that the one intent of a symbol may take at the plan's price."""
    intent = stage.only(symbol)
    return intent.submitted_quantity * intent.reference_price


def later(stage: Stage, seconds: float) -> None:
    """Time passes, and the daemon does what is due."""
    stage.tick(stage.venue.now + timedelta(seconds=seconds))
