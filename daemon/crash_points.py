"""Places where a process may die, by name: between a thing that has been done and the next.

Nothing happens at them. A test that wants to know what a death at one of them leaves behind has itself called there,
in its own process, and kills it; no setting and no variable can do that to a daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class CrashPoint(StrEnum):
    """What has just been done when the process dies."""

    ACCOUNT_BOUND = "account_bound"  # the account's number is written down, nothing else of it is
    PRICES_READY = "prices_ready"  # the first load is stored, nothing has been looked at
    UPDATE_READ = "update_read"  # an order update moved its intent on, not committed
    ORDERS_SETTLED = "orders_settled"  # open intents are as the broker says, its history is not asked for yet
    HISTORY_READ = "history_read"  # the broker's history is in the journal, not committed
    HISTORY_TAKEN = "history_taken"  # committed, with how far it was read
    ANSWER_TAKEN = "answer_taken"  # a person's answer is taken, what follows from it is not done
    PLAN_WRITTEN = "plan_written"  # a plan and its intents are written, not committed
    PLAN_RECORDED = "plan_recorded"  # committed, nothing sent
    INTENT_SUBMITTING = "intent_submitting"  # an intent is on disk as about to leave, and has not
    ORDER_ANSWERED = "order_answered"  # the broker answered, and nobody has written it down
    ORDER_RECORDED = "order_recorded"  # the answer is on disk, the next order has not left
    CANCEL_ASKED = "cancel_asked"  # a cancel was asked for, and nobody has looked what came of it
    PLAN_ENDED = "plan_ended"  # the last intent of a plan is over, and so is the plan
    PRICES_TAKEN = "prices_taken"  # the session's closes are stored, its figures are not
    EVENING_WRITTEN = "evening_written"  # the session's figures are written, not committed
    EVENING_DONE = "evening_done"  # committed, nobody has been told
    ALERT_SENT = "alert_sent"  # a person was told, and nobody has written that down
    HALT_WRITTEN = "halt_written"  # the halt is on disk, its alert is not


_watcher: Callable[[CrashPoint], None] | None = None


def passing(point: CrashPoint) -> None:
    """The process is at `point`."""
    if _watcher is not None:
        _watcher(point)


@contextmanager
def watched(watcher: Callable[[CrashPoint], None]) -> Iterator[None]:
    """Call `watcher` at each point, as long as the block lasts. For tests."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before
