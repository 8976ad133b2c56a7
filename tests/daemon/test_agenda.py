"""What is due, and until when: every window has two edges, and a day without a session has none."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from daemon.agenda import Task, Timetable, due, next_look
from daemon.market_calendar import MarketCalendar, SessionTimes

TABLE = Timetable(
    preopen=timedelta(minutes=30),
    decide_before_close=timedelta(minutes=20),
    stop_before_close=timedelta(minutes=2),
    evening_after_close=timedelta(minutes=10),
)
SESSION = SessionTimes(
    date(2024, 3, 4), datetime(2024, 3, 4, 14, 30, tzinfo=UTC), datetime(2024, 3, 4, 21, 0, tzinfo=UTC)
)
NONE_DONE: frozenset[str] = frozenset()
TICK = timedelta(microseconds=1)


def at(clock: str) -> datetime:
    return datetime.combine(SESSION.session, time.fromisoformat(clock), UTC)


def names(now: datetime, done: frozenset[str] = NONE_DONE, *, waiting: bool = False, on: SessionTimes = SESSION) -> str:
    return " ".join(task.value for task in due(on, now, done, TABLE, work_waiting=waiting))


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("13:59:59.999999", ""),
        ("14:00", "preopen"),
        ("14:30", "preopen"),  # late is better than never: nothing may be sent before it is reconciled
        ("20:39:59.999999", "preopen"),
        ("20:40", "preopen decide work"),
        ("20:57:59.999999", "preopen decide work"),
        ("20:58", "preopen"),  # too late to execute what would be decided
        ("20:59:59.999999", "preopen"),
        ("21:00", ""),
        ("21:09:59.999999", ""),
        ("21:10", "evening"),
        ("23:59:59.999999", "evening"),
    ],
)
def test_each_task_has_its_window_of_the_day(clock: str, expected: str) -> None:
    assert names(at(clock)) == expected


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("14:29:59.999999", ""),
        ("14:30", "work"),
        ("20:40", "decide work"),
        ("20:59:59.999999", "work"),  # to the last moment: cancels are still allowed
        ("21:00", ""),
        ("21:10", "evening"),
    ],
)
def test_open_orders_and_plans_are_worked_while_the_market_is_open_and_never_outside(clock: str, expected: str) -> None:
    assert names(at(clock), frozenset({"preopen"}), waiting=True) == expected


def test_a_task_that_is_done_is_not_done_again() -> None:
    done = frozenset({"preopen", "decide", "evening"})
    for minute in range(24 * 60):
        assert names(at("00:00") + timedelta(minutes=minute), done) == ""


def test_a_decision_is_followed_by_work_in_the_same_tick() -> None:
    assert due(SESSION, at("20:40"), NONE_DONE, TABLE, work_waiting=False)[-2:] == (Task.DECIDE, Task.WORK)


def test_a_missed_decision_is_not_made_up_for() -> None:
    """The host slept from 20:30 to 20:58: today's decision is skipped; the evening is still done."""
    assert "decide" not in names(at("20:58"))
    assert names(at("21:30"), frozenset({"preopen"})) == "evening"


def test_nothing_is_due_on_a_day_without_a_session() -> None:
    for hour in range(24):
        assert due(None, at(f"{hour:02}:00"), NONE_DONE, TABLE, work_waiting=True) == ()


# ------------------------------------------------------------------ the real calendar: early closes and clock changes


@pytest.fixture(scope="module")
def nyse() -> MarketCalendar:
    return MarketCalendar.new_york(date(2024, 1, 2), date(2024, 12, 31))


def decision_window(calendar: MarketCalendar, day: date) -> tuple[str, str]:
    """New York times between which a decision is due on `day`, found by asking at every minute of the day."""
    session = calendar.on(day)
    assert session is not None
    new_york = ZoneInfo("America/New_York")
    midnight = datetime.combine(day, time(0), new_york).astimezone(UTC)
    asked = (midnight + timedelta(minutes=minute) for minute in range(24 * 60))
    found = [now for now in asked if "decide" in names(now, frozenset({"preopen"}), on=session)]
    last = found[-1] + timedelta(minutes=1)
    return (f"{found[0].astimezone(new_york):%H:%M}", f"{last.astimezone(new_york):%H:%M}")


@pytest.mark.parametrize(
    ("day", "window"),
    [
        (date(2024, 3, 8), ("15:40", "15:58")),  # the Friday before clocks go forward
        (date(2024, 3, 11), ("15:40", "15:58")),  # and the Monday after
        (date(2024, 11, 1), ("15:40", "15:58")),  # the Friday before they go back
        (date(2024, 11, 4), ("15:40", "15:58")),
        (date(2024, 7, 3), ("12:40", "12:58")),  # early close
        (date(2024, 11, 29), ("12:40", "12:58")),
    ],
)
def test_the_decision_keeps_its_distance_from_the_close(
    nyse: MarketCalendar, day: date, window: tuple[str, str]
) -> None:
    assert decision_window(nyse, day) == window


@pytest.mark.parametrize("day", [date(2024, 3, 10), date(2024, 11, 3), date(2024, 7, 4), date(2024, 11, 30)])
def test_no_session_on_the_sundays_of_the_clock_change_nor_on_holidays(nyse: MarketCalendar, day: date) -> None:
    assert nyse.on(day) is None
    for hour in range(24):
        now = datetime.combine(day, time(hour, 30), ZoneInfo("America/New_York")).astimezone(UTC)
        assert nyse.current(now) is None


def test_the_session_of_an_instant_is_that_of_its_new_york_date(nyse: MarketCalendar) -> None:
    """23:30 in New York on a Monday is Tuesday in UTC, and still Monday's session."""
    now = datetime(2024, 3, 12, 3, 30, tzinfo=UTC)
    session = nyse.current(now)
    assert session is not None
    assert session.session == date(2024, 3, 11)
    assert names(now, on=session) == "evening"


def test_outside_its_range_the_calendar_refuses_to_guess(nyse: MarketCalendar) -> None:
    with pytest.raises(ValueError, match="the calendar's range"):
        nyse.current(datetime(2025, 1, 2, 15, 0, tzinfo=UTC))
    with pytest.raises(ValueError, match="the calendar's range"):
        nyse.current(datetime(2023, 12, 29, 15, 0, tzinfo=UTC))


def test_the_next_session_is_todays_until_it_has_closed(nyse: MarketCalendar) -> None:
    assert nyse.upcoming(datetime(2024, 3, 8, 20, 59, 59, tzinfo=UTC)).session == date(2024, 3, 8)
    assert nyse.upcoming(datetime(2024, 3, 8, 21, 0, tzinfo=UTC)).session == date(2024, 3, 11)
    closed = nyse.last_closed(datetime(2024, 3, 11, 19, 59, 59, tzinfo=UTC))
    assert closed is not None
    assert closed.session == date(2024, 3, 8)


# ------------------------------------------------------------------ when to look again


FOLLOWING = SessionTimes(
    date(2024, 3, 5), datetime(2024, 3, 5, 14, 30, tzinfo=UTC), datetime(2024, 3, 5, 21, 0, tzinfo=UTC)
)
EVERY = timedelta(minutes=2)


def looks_again(
    now: datetime, *, waiting: bool = False, undone: tuple[Task, ...] = (), on: SessionTimes | None = SESSION
) -> str:
    found = next_look(on, FOLLOWING, now, undone, TABLE, EVERY, work_waiting=waiting)
    return f"{found:%d %H:%M}"


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("03:00", "04 14:00"),
        ("14:00", "04 14:30"),
        ("14:30", "04 20:40"),
        ("20:40", "04 20:58"),
        ("20:58", "04 21:10"),
        ("21:10", "05 14:00"),
    ],
)
def test_nothing_waits_and_the_next_edge_is_what_wakes(clock: str, expected: str) -> None:
    assert looks_again(at(clock)) == expected


def test_work_that_waits_is_looked_at_often_and_only_while_the_market_is_open() -> None:
    assert looks_again(at("15:00"), waiting=True) == "04 15:02"
    assert looks_again(at("20:39"), waiting=True) == "04 20:40"
    assert looks_again(at("21:00"), waiting=True) == "04 21:10"
    assert looks_again(at("09:00"), waiting=True) == "04 14:00"


def test_what_failed_is_tried_again_in_a_minute() -> None:
    assert looks_again(at("21:30"), undone=(Task.EVENING,)) == "04 21:31"
    assert looks_again(at("14:10"), undone=(Task.PREOPEN,)) == "04 14:11"


def test_on_a_day_without_a_session_the_next_one_is_waited_for() -> None:
    assert looks_again(at("12:00"), on=None) == "05 14:00"


@pytest.mark.parametrize("waiting", [True, False])
def test_stepping_from_look_to_look_misses_no_task(waiting: bool) -> None:
    """Every task that `due` asks for in the session is met in its window, by looking only when told to."""
    now, done, met = at("00:00"), set(NONE_DONE), set()
    while now < FOLLOWING.opens_at - TABLE.preopen:
        for task in due(SESSION, now, frozenset(done), TABLE, work_waiting=waiting):
            met.add(task)
            if task is not Task.WORK:
                done.add(task.value)
        following = next_look(SESSION, FOLLOWING, now, (), TABLE, EVERY, work_waiting=waiting)
        assert following > now
        now = following
    assert met == {Task.PREOPEN, Task.DECIDE, Task.WORK, Task.EVENING}
