"""What is due, as a pure function. The scheduler only ticks it; the demo and the backtest step it.

"Done for session S" is a row in our database, written in the same transaction as what the task decided, so a
task is done once whatever happens to the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.market_calendar import SessionTimes


class Task(StrEnum):
    """What a session asks of the daemon, in this order."""

    START = "start"  # the first look of a process; due when it begins, never by the session
    PREOPEN = "preopen"  # take in what happened overnight: splits, dividends, deposits
    DECIDE = "decide"  # one cycle: sync, scan, plan, check, decide, record
    WORK = "work"  # settle and send recorded intents, answer approvals; never marked done
    EVENING = "evening"  # take in the day's fills and closes, reconcile, write the day's figures


@dataclass(frozen=True, slots=True)
class Timetable:
    """Minutes relative to a session's open and close."""

    preopen: timedelta
    decide_before_close: timedelta
    stop_before_close: timedelta
    evening_after_close: timedelta


def due(
    session: SessionTimes | None, now: datetime, done: frozenset[str], timetable: Timetable, *, work_waiting: bool
) -> tuple[Task, ...]:
    """Tasks to do at `now`, in order; none on a day without a session.

    A task whose window has passed is skipped, not made up for: a decision is only taken with time left to
    execute it. EVENING stays due until the session's day ends in New York.
    """
    if session is None:
        return ()
    tasks: list[Task] = []
    if session.opens_at - timetable.preopen <= now < session.closes_at and Task.PREOPEN not in done:
        tasks.append(Task.PREOPEN)
    stop = session.closes_at - timetable.stop_before_close
    if session.closes_at - timetable.decide_before_close <= now < stop and Task.DECIDE not in done:
        tasks.append(Task.DECIDE)
    if session.opens_at <= now < session.closes_at and (work_waiting or Task.DECIDE in tasks):
        tasks.append(Task.WORK)
    if now >= session.closes_at + timetable.evening_after_close and Task.EVENING not in done:
        tasks.append(Task.EVENING)
    return tuple(tasks)


RETRY = timedelta(minutes=1)


def next_look(
    session: SessionTimes | None,
    following: SessionTimes,
    now: datetime,
    still_due: tuple[Task, ...],
    timetable: Timetable,
    work_every: timedelta,
    *,
    work_waiting: bool,
) -> datetime:
    """When something can be due again after a look at `now` that left `still_due` undone.

    `session` is today's, `following` the first one of a later day. What could not be done is tried again in a minute.
    """
    instants = [following.opens_at - timetable.preopen]
    if session is not None:
        instants += [
            session.opens_at - timetable.preopen,
            session.opens_at,
            session.closes_at - timetable.decide_before_close,
            session.closes_at - timetable.stop_before_close,
            session.closes_at + timetable.evening_after_close,
        ]
        if work_waiting and session.opens_at <= now < session.closes_at:
            instants.append(now + work_every)
    if still_due:
        instants.append(now + RETRY)
    return min(instant for instant in instants if instant > now)
