"""Calls a minute, and the part of them that is kept for cancels and look-ups."""

from __future__ import annotations

import pytest
from stub_alpaca import Time

from brokers.alpaca.budget import RateBudget
from brokers.errors import BrokerUnavailable


@pytest.fixture
def clock() -> Time:
    return Time()


def budget(clock: Time, per_minute: int = 200) -> RateBudget:
    return RateBudget(per_minute, sleep=clock.sleep, monotonic=clock.monotonic, name="trading", lot=lambda: 0.0)


def drawn(from_budget: RateBudget, *, reserved: bool = False) -> int:
    """How many calls can be drawn without waiting."""
    count = 0
    while from_budget.take_now(reserved=reserved):
        count += 1
    return count


def test_a_tenth_of_the_minute_is_kept_for_cancels(clock: Time) -> None:
    calls = budget(clock)
    assert drawn(calls) == 180
    assert drawn(calls, reserved=True) == 20
    assert not calls.take_now(reserved=True)


def test_calls_come_back_steadily(clock: Time) -> None:
    calls = budget(clock)
    drawn(calls, reserved=True)
    clock.seconds += 30
    assert drawn(calls, reserved=True) == 100
    clock.seconds += 3600
    assert drawn(calls, reserved=True) == 200


def test_a_read_waits_until_there_is_a_call_beside_the_reserve(clock: Time) -> None:
    calls = budget(clock)
    drawn(calls)
    calls.take(patience_s=20)
    assert sum(clock.slept) == pytest.approx(0.3, abs=0.05)  # 200 a minute: one each 0.3 s


def test_a_read_does_not_wait_longer_than_it_may(clock: Time) -> None:
    calls = budget(clock)
    drawn(calls, reserved=True)
    with pytest.raises(BrokerUnavailable, match="trading calls"):
        calls.take(patience_s=5)
    assert sum(clock.slept) <= 5


def test_what_the_server_counts_is_believed_both_ways(clock: Time) -> None:
    calls = budget(clock)
    calls.hear(200, 25, None)  # another program uses the same keys
    assert drawn(calls) == 5
    calls.hear(200, 150, None)
    assert drawn(calls) == 130


def test_where_the_server_counts_by_the_minute_calls_come_back_with_its_next_minute(clock: Time) -> None:
    calls = budget(clock)
    calls.hear(200, 20, 45)
    clock.seconds += 30
    assert not calls.take_now()
    calls.take(patience_s=20)
    assert sum(clock.slept) == pytest.approx(15, abs=0.1)
    assert drawn(calls) == 179


def test_a_limit_of_ones_own_is_counted_here(clock: Time) -> None:
    calls = budget(clock, 60)
    drawn(calls)
    calls.hear(200, 199, 60)
    assert drawn(calls) == 0
    clock.seconds += 1
    assert drawn(calls) == 1


def test_a_server_that_allows_less_than_was_set_is_believed(clock: Time) -> None:
    calls = budget(clock, 10_000)
    calls.hear(200, 200, 60)
    assert drawn(calls) == 180


def test_nobody_draws_until_the_server_takes_calls_again(clock: Time) -> None:
    calls = budget(clock)
    calls.close(12)
    assert not calls.take_now(reserved=True)
    calls.take(patience_s=20, reserved=True)
    assert sum(clock.slept) == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize(("said", "pause"), [(-100, 1), (0, 1), (1e9, 60)])
def test_a_time_that_cannot_be_meant_is_held_within_a_minute(clock: Time, said: float, pause: float) -> None:
    calls = budget(clock)
    calls.close(said)
    calls.take(patience_s=120)
    assert sum(clock.slept) == pytest.approx(pause, abs=0.1)


def test_a_server_that_says_enough_again_and_again_is_asked_less_and_less(clock: Time) -> None:
    """Its reset is always said to be over already: without a pause of our own every order left would be posted."""
    calls = budget(clock)
    for pause in (1, 2, 4, 8):
        before = sum(clock.slept)
        calls.close(0)
        assert not calls.take_now()
        calls.take(patience_s=60)
        assert sum(clock.slept) - before == pytest.approx(pause, abs=0.1)
