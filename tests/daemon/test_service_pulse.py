"""When the daemon looks: a clock that jumps, a machine that slept, a halt from outside, a start that fails."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from conftest import Staged
from small_house import Stage

from daemon import pulse as pulse_module
from daemon.agenda import Task, due
from daemon.halt import halt, halt_file
from daemon.house import House
from daemon.pulse import LONGEST_WAIT, Pulse

HOUR = timedelta(hours=1)


class Jumping:
    """A wall clock that can be set and a monotonic one that cannot; the machine can sleep."""

    def __init__(self, instant: datetime) -> None:
        self.wall, self.seconds = instant, 5000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.pass_by(timedelta(seconds=seconds))

    def pass_by(self, time: timedelta) -> None:
        self.wall += time
        self.seconds += time.total_seconds()

    def set_by(self, time: timedelta) -> None:
        self.wall += time

    asleep_for = set_by  # CLOCK_MONOTONIC stands still meanwhile


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done: a start or a tick; both succeed at once."""
    done: list[str] = []

    def start(house: House) -> bool:
        done.append("start")
        return True

    def tick(house: House) -> tuple[Task, ...]:
        done.append("tick")
        now = house.clock.now()
        session = house.calendar.current(now)
        for task in due(session, now, frozenset(), house.timetable, work_waiting=False):
            assert session is not None
            house.store.agenda.mark(session.session, task.value, "main", now)
        return ()

    monkeypatch.setattr(pulse_module, "start", start)
    monkeypatch.setattr(pulse_module, "tick", tick)
    return done


def at(stage: Stage, instant: datetime) -> tuple[Jumping, Pulse]:
    """A pulse that has just looked at `instant`."""
    clock = Jumping(instant)
    stage.house.clock = clock
    pulse = Pulse(stage.house)
    assert pulse.is_due()
    pulse.look()
    assert not pulse.is_due()
    return clock, pulse


@pytest.mark.fault("F34")
def test_a_wall_clock_set_back_by_an_hour_delays_no_look(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at - timedelta(minutes=40))
    due_in = pulse.next_at - clock.now()
    assert due_in == timedelta(minutes=10), "thirty minutes before the open"
    clock.set_by(-HOUR)
    clock.pass_by(due_in - timedelta(seconds=1))
    assert not pulse.is_due()
    clock.pass_by(timedelta(seconds=1))
    assert pulse.is_due()


@pytest.mark.fault("F34")
@pytest.mark.parametrize("jump", [HOUR, timedelta(days=1)])
def test_a_wall_clock_set_ahead_makes_it_look_at_once(staged: Staged, looks: list[str], jump: timedelta) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at - timedelta(minutes=40))
    clock.set_by(jump)
    assert pulse.is_due()


@pytest.mark.fault("F36")
def test_a_machine_that_slept_through_the_time_looks_as_soon_as_it_wakes(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at - timedelta(minutes=40))
    clock.asleep_for(timedelta(hours=9))
    assert pulse.is_due()
    pulse.look()
    assert looks.count("tick") == 2, "one look makes up for all that was slept through"
    assert pulse.next_at > clock.now()


def test_in_a_session_it_looks_at_least_every_quarter_of_an_hour(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at + HOUR)
    assert pulse.next_at == clock.now() + LONGEST_WAIT
    clock.set_by(-24 * HOUR)
    clock.pass_by(LONGEST_WAIT)
    assert pulse.is_due()


def test_at_night_it_waits_for_the_morning(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).closes_at + 4 * HOUR)
    assert pulse.next_at - clock.now() > LONGEST_WAIT


def test_a_halt_and_its_end_are_looked_at_at_once(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at + HOUR)
    looks.clear()
    halt(stage.house.store.path, "by hand", clock.now())
    assert pulse.is_due()
    pulse.look()
    assert looks == ["start", "tick"], "every account is looked at, whatever is due"
    assert not pulse.is_due()
    halt_file(stage.house.store.path).unlink()
    assert pulse.is_due()
    pulse.look()
    assert not pulse.is_due()


def test_a_start_that_did_not_succeed_is_tried_again_later_and_later(
    staged: Staged, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = staged()
    outcomes = iter([False, False, False, False, False, False, True])
    monkeypatch.setattr(pulse_module, "start", lambda _: next(outcomes))
    clock = Jumping(stage.session(0).closes_at + 4 * HOUR)
    stage.house.clock = clock
    pulse = Pulse(stage.house)
    waits = []
    while not pulse.is_reconciled:
        pulse.look()
        waits.append(round((pulse.next_at - clock.now()).total_seconds() / 60))
        clock.pass_by(pulse.next_at - clock.now())
    assert waits[:-1] == [1, 2, 4, 8, 15, 15]
    assert waits[-1] > 60, "then it waits for the morning"


def test_a_start_that_succeeded_is_not_done_again(staged: Staged, looks: list[str]) -> None:
    stage = staged()
    clock, pulse = at(stage, stage.session(0).opens_at + HOUR)
    clock.pass_by(LONGEST_WAIT)
    pulse.look()
    assert looks == ["start", "tick", "tick"]
