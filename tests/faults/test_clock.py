"""Clocks that jump, nights in which an hour comes twice or not at all, and machines that sleep through their time.

Nothing leaves while this machine's clock and the broker's differ; what a session did not do in its own time is said,
and is not made up for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pytest
from small_house import Stage

from daemon.agenda import Task, Timetable, due, next_look
from daemon.clock import NEW_YORK
from daemon.day import start
from daemon.market_calendar import MarketCalendar
from faults.conftest import Staged
from faults.holding import holds
from state.records import BrokerOrder, IntentState, OrderRequest, PlanState, Quote, Side

BUY, SELL = Side.BUY, Side.SELL
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class WallAhead:
    """This machine's wall clock, wrong by so much; its seconds pass as the world's do."""

    stage: Stage
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.stage.venue.now + self.ahead

    def monotonic(self) -> float:
        return self.stage.venue.now.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def wrong_by(stage: Stage, ahead: timedelta = timedelta(0)) -> WallAhead:
    clock = WallAhead(stage, ahead)
    stage.house.clock = clock
    return clock


def of(stage: Stage, symbol: str) -> list[BrokerOrder]:
    """harvestd's own orders of a symbol at the venue."""
    return [one for one in stage.venue.orders() if one.symbol == symbol and one.client_order_id.startswith("hv-")]


def state(stage: Stage) -> tuple[str, str]:
    """The state last written, and the code of its reason."""
    [*_, last] = stage.house.store.states.list("main")
    return last.state, last.reason.partition(":")[0]


# ------------------------------------------------------------------ F34: the wall clock jumps


@pytest.mark.fault("F34")
@pytest.mark.parametrize("seconds", [6, -6])
def test_some_seconds_off_the_brokers_clock_nothing_leaves_until_they_agree(stage: Stage, seconds: int) -> None:
    stage.execute((BUY, "AAA", 10))
    clock = wrong_by(stage, timedelta(seconds=seconds))
    for minute in (10, 12, 14):
        stage.tick(stage.at(1, minute))
    assert state(stage) == ("STALE", "MARKET_CLOCKS_DISAGREE")
    assert stage.sent() == ()
    assert stage.only("AAA").reason.startswith("STATE_NOT_OPEN")
    assert stage.alerts("state:main") == ["raised"]
    clock.ahead = timedelta(0)
    stage.tick(stage.at(1, 16))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.alerts("state:main") == ["raised", "recovered"]
    holds(stage, settled=True)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("seconds", [4, -4])
def test_a_few_seconds_are_no_difference(stage: Stage, seconds: int) -> None:
    wrong_by(stage, timedelta(seconds=seconds))
    stage.look()
    stage.venue.advance_to(stage.at(1, 12))
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 12))
    assert len(of(stage, "AAA")) == 1
    assert stage.alerts("state:main") == []
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED
    holds(stage, settled=True)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["an hour ahead", "an hour back"])
def test_a_clock_that_jumps_between_two_looks_stops_trading_and_a_clock_set_right_resumes_it(
    stage: Stage, jump: timedelta
) -> None:
    stage.venue.advance_to(stage.at(1, 90))
    stage.execute((BUY, "AAA", 10))
    clock = wrong_by(stage, jump)
    for minute in (90, 92, 94):
        stage.tick(stage.at(1, minute))
    assert state(stage) == ("STALE", "MARKET_CLOCKS_DISAGREE")
    assert stage.sent() == ()
    assert stage.alerts("state:main") == ["raised"]
    clock.ahead = timedelta(0)
    stage.tick(stage.at(1, 160))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED
    assert len(of(stage, "AAA")) == 1
    assert stage.alerts("state:main") == ["raised", "recovered"]
    holds(stage, settled=True)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("jump", [HOUR, -HOUR, DAY], ids=["an hour ahead", "an hour back", "a day ahead"])
def test_a_clock_that_jumps_in_the_middle_of_a_pass_lets_nothing_more_leave(stage: Stage, jump: timedelta) -> None:
    clock = wrong_by(stage)
    broker = stage.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        clock.ahead = jump
        return broker.submit(request)

    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    stage.alter(submit=submit)
    stage.tick(stage.at(1, 10))
    assert len(of(stage, "AAA")) == 1
    assert of(stage, "BBB") == []
    assert stage.only("BBB").reason.startswith("CLOCK_JUMPED")
    clock.ahead = timedelta(0)
    stage.alter()
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    assert [stage.only(name).state for name in ("AAA", "BBB")] == [IntentState.FILLED] * 2
    assert (len(of(stage, "AAA")), len(of(stage, "BBB"))) == (1, 1)
    holds(stage, settled=True)


@pytest.mark.fault("F34")
def test_a_clock_a_day_ahead_decides_nothing_and_does_not_use_up_the_day(fallen: Stage) -> None:
    """For some hours it is tomorrow here. When the clock is right again, today is still to be decided, and tomorrow."""
    clock = wrong_by(fallen, DAY)
    for minute in range(0, 300, 15):
        fallen.tick(fallen.at(2, minute))
    assert fallen.plans() == ()
    assert fallen.sent() == ()
    clock.ahead = timedelta(0)
    fallen.finish(2)
    [plan] = fallen.plans()
    assert plan.session == fallen.session(2).session
    assert plan.state is PlanState.DONE
    fallen.live(3)
    for number in (2, 3):
        done = fallen.house.store.agenda.done(fallen.session(number).session, "main")
        assert {"preopen", "decide", "evening"} <= done
    holds(fallen, settled=True)


@pytest.mark.fault("F34")
def test_a_clock_a_day_ahead_does_not_do_tomorrows_morning(fallen: Stage) -> None:
    """What issuers announce over night is asked for tomorrow morning, whatever day this machine took today for."""
    clock = wrong_by(fallen, DAY)
    fallen.tick(fallen.at(2, 15))
    clock.ahead = timedelta(0)
    fallen.finish(2)
    tomorrow = fallen.session(3).session
    assert "preopen" not in fallen.house.store.agenda.done(tomorrow, "main")
    holds(fallen)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("jump", [HOUR, DAY], ids=["an hour ahead", "a day ahead"])
def test_a_clock_that_says_evening_while_the_market_is_open_does_not_end_the_day(
    fallen: Stage, jump: timedelta
) -> None:
    clock = wrong_by(fallen, jump)
    for minute in range(0, 20, 2):
        fallen.tick(fallen.decision(2, minute))
    assert fallen.sent() == ()
    assert fallen.plans() == ()
    assert "evening" not in fallen.house.store.agenda.done(fallen.session(2).session, "main")
    clock.ahead = timedelta(0)
    fallen.tick(fallen.evening(2))
    assert "evening" in fallen.house.store.agenda.done(fallen.session(2).session, "main")
    assert fallen.alerts("missed:") == ["raised"]
    assert fallen.alerts("broker:") in ([], ["raised", "recovered"])
    holds(fallen, settled=True)


@pytest.mark.fault("F34")
def test_looks_for_an_order_of_unknown_fate_are_spaced_by_seconds_that_passed(stage: Stage) -> None:
    """Its answer is lost and it never arrived. A clock that jumps between two looks makes no time pass."""
    clock = wrong_by(stage)
    broker = stage.venue.broker()
    looks: list[str] = []

    class Slower:
        """A broker whose records may be three looks late."""

        def __getattr__(self, name: str) -> object:
            return getattr(broker.capabilities, name)

        lookups_before_resend = 3

    def nowhere(client_order_id: str) -> BrokerOrder | None:
        looks.append(client_order_id)
        return broker.order_by_client_id(client_order_id)

    stage.venue.lose_next_answer("before")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 10))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    stage.alter(capabilities=Slower(), order_by_client_id=nowhere)
    for second in range(1, 6):
        clock.ahead = HOUR if second % 2 else timedelta(0)
        stage.tick(stage.at(1, 10) + timedelta(seconds=second))
    assert len(looks) >= 5
    assert stage.only("AAA").lookups <= 1
    assert of(stage, "AAA") == []
    clock.ahead = timedelta(0)
    stage.alter()
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED
    assert len(of(stage, "AAA")) == 1
    holds(stage, settled=True)


# ------------------------------------------------------------------ F35: clock changes

TABLE = Timetable(timedelta(minutes=30), timedelta(minutes=20), timedelta(minutes=2), timedelta(minutes=20))
CHANGES = [date(2025, 3, 9), date(2025, 11, 2), date(2026, 3, 8), date(2026, 11, 1)]  # Sundays
WORK_EVERY = timedelta(minutes=2)


@pytest.fixture(scope="module")
def nyse() -> MarketCalendar:
    return MarketCalendar.new_york(date(2025, 1, 2), date(2026, 12, 31))


def minutes_of(day: date, first: time, last: time) -> Iterable[datetime]:
    """Every instant of a New York day, by the minute, at which a clock on the wall there shows a time in [first, last).

    In the night in which the clocks go back, some times are shown twice.
    """
    begin = datetime.combine(day, time(0), NEW_YORK).astimezone(UTC)
    for minute in range(25 * 60):
        now = begin + timedelta(minutes=minute)
        if now.astimezone(NEW_YORK).date() == day and first <= now.astimezone(NEW_YORK).time() < last:
            yield now


@pytest.mark.fault("F35")
@pytest.mark.parametrize("sunday", CHANGES)
def test_nothing_is_due_between_one_and_three_in_the_nights_around_a_clock_change(
    nyse: MarketCalendar, sunday: date
) -> None:
    asked = 0
    for day in (sunday - DAY, sunday, sunday + DAY):
        for now in minutes_of(day, time(1), time(3)):
            asked += 1
            assert due(nyse.current(now), now, frozenset(), TABLE, work_waiting=True) == ()
    assert asked in (2 * 120 + 60, 2 * 120 + 180), "an hour less, or an hour more, than three nights have"


@pytest.mark.fault("F35")
@pytest.mark.parametrize("sunday", CHANGES)
def test_over_a_clock_change_each_session_has_each_task_once_at_its_distance_from_the_bell(
    nyse: MarketCalendar, sunday: date
) -> None:
    """From Friday's midnight to Monday's: looks only when told to, and never between one and three in the night."""
    now = datetime.combine(sunday - 2 * DAY, time(0), NEW_YORK).astimezone(UTC)
    end = datetime.combine(sunday + 2 * DAY, time(0), NEW_YORK).astimezone(UTC)
    done: dict[date, set[str]] = {}
    log: list[tuple[date, str, str]] = []
    while now < end:
        session = nyse.current(now)
        finished = done.setdefault(session.session, set()) if session else set()
        for task in due(session, now, frozenset(finished), TABLE, work_waiting=False):
            assert session is not None
            if task is not Task.WORK:
                finished.add(task.value)
                log.append((session.session, task.value, f"{now.astimezone(NEW_YORK):%H:%M}"))
        following = nyse.upcoming(now)
        if session is not None and following.session == session.session:
            following = nyse.upcoming(session.closes_at)
        now = next_look(session, following, now, (), TABLE, WORK_EVERY, work_waiting=False)
        assert not time(1) <= now.astimezone(NEW_YORK).time() < time(3)
    times = [("preopen", "09:00"), ("decide", "15:40"), ("evening", "16:20")]
    friday, monday = sunday - 2 * DAY, sunday + DAY
    assert log == [(day, *each) for day in (friday, monday) for each in times]


@pytest.mark.fault("F35")
def test_a_plan_belongs_to_its_session_and_not_to_an_hour(staged: Staged) -> None:
    """Over the weekend of 10 March 2024, in which New York changes its clocks: one decision on each side of it."""
    stage = staged(changes=(("AAA", 3, "0.80"), ("CCC", 4, "0.80")))
    stage.invest(0)
    stage.live(1, 3)
    for number in (4, 5):
        stage.tick(stage.before_open(number))
        for minute in range(0, 20, 2):
            stage.tick(stage.decision(number, minute))
            stage.restart()
        stage.tick(stage.evening(number))
    assert [plan.session for plan in stage.plans()] == [date(2024, 3, 8), date(2024, 3, 11)]
    assert [plan.plan_id for plan in stage.plans()] == ["main-20240308-1", "main-20240311-1"]
    written = stage.house.store.performance.last("main")
    assert written is not None
    assert written.session == date(2024, 3, 11)
    holds(stage, settled=True)


# ------------------------------------------------------------------ F36: late, or not at all


@pytest.mark.fault("F36")
def test_asleep_through_the_window_no_decision_is_taken_and_that_is_said_once(fallen: Stage) -> None:
    fallen.tick(fallen.evening(2))
    fallen.tick(fallen.evening(2) + timedelta(minutes=30))
    assert fallen.plans() == ()
    assert fallen.sent() == ()
    [alert] = [one for one in fallen.told if one.key.startswith("missed:")]
    assert "SCHEDULE_MISSED" in alert.message
    assert "Nothing is made up for" in alert.message
    holds(fallen, settled=True)
    fallen.live(3)
    assert [plan.session for plan in fallen.plans()] == [fallen.session(3).session]
    assert fallen.alerts("missed:") == ["raised"]
    holds(fallen, settled=True)


@pytest.mark.fault("F36")
def test_awake_late_but_in_time_the_decision_is_taken_and_carried_out(fallen: Stage) -> None:
    for minute in (12, 14, 16):
        fallen.tick(fallen.decision(2, minute))
    fallen.tick(fallen.evening(2))
    [plan] = fallen.plans()
    assert plan.session == fallen.session(2).session
    assert of(fallen, "AAA")
    assert fallen.alerts("missed:") == []
    holds(fallen, settled=True)


@pytest.mark.fault("F36")
def test_a_minute_after_the_window_it_is_too_late(fallen: Stage) -> None:
    fallen.tick(fallen.decision(2, 18))
    fallen.tick(fallen.decision(2, 19))
    fallen.tick(fallen.evening(2))
    assert fallen.plans() == ()
    assert fallen.sent() == ()
    assert fallen.alerts("missed:") == ["raised"]
    holds(fallen, settled=True)


@pytest.mark.fault("F36")
def test_a_decision_that_took_until_after_the_last_minute_sends_nothing(fallen: Stage) -> None:
    """It began in time and ended too late: what it decided expires, and is said, and the next session plans anew."""
    broker = fallen.venue.broker()

    def slowly(symbols: Iterable[str]) -> dict[str, Quote]:
        found = dict(broker.quotes(symbols))
        fallen.venue.advance_to(fallen.session(2).closes_at - timedelta(minutes=1))
        return found

    fallen.alter(quotes=slowly)
    fallen.tick(fallen.decision(2, 10))
    fallen.alter()
    fallen.tick(fallen.evening(2))
    assert fallen.sent() == ()
    [plan] = fallen.plans()
    assert plan.state is PlanState.FAILED
    assert {one.reason.partition(":")[0] for one in fallen.intents()} == {"ORDER_DEADLINE"}
    assert fallen.alerts(f"plan:{plan.plan_id}") == ["raised"]
    holds(fallen, settled=True)
    fallen.live(3)
    assert of(fallen, "AAA")
    holds(fallen, settled=True)


@pytest.mark.fault("F36")
def test_days_in_which_nobody_was_there_are_told_once_and_their_plans_are_not_made(fallen: Stage) -> None:
    fallen.tick(fallen.evening(2))
    fallen.venue.advance_to(fallen.before_open(6))
    fallen.restart()
    start(fallen.house)
    start(fallen.house)
    missed = [one for one in fallen.told if one.key == f"missed:main:{fallen.session(3).session}"]
    assert len(missed) == 1
    assert "3 sessions" in missed[0].message
    fallen.tick(fallen.before_open(6))
    fallen.finish(6)
    assert [plan.session for plan in fallen.plans()] == [fallen.session(6).session]
    holds(fallen, settled=True)


@pytest.mark.fault("F36")
def test_asleep_with_an_order_at_the_broker_it_takes_in_what_happened_and_sends_nothing_more(stage: Stage) -> None:
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60))
    stage.tick(stage.at(1, 12))
    assert of(stage, "AAA")
    stage.tick(stage.evening(1))
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.only("BBB").state is IntentState.EXPIRED
    assert of(stage, "BBB") == []
    [plan] = stage.plans()
    [alert] = [one for one in stage.told if one.key.startswith(f"plan:{plan.plan_id}")]
    assert "USD more than planned stay in cash" in alert.message
    assert stage.house.store.journal.cash("main") == stage.venue.cash
    holds(stage, settled=True)
