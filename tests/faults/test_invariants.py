"""The checker of invariants can fail: each invariant is broken in a copy of two sound books, and it is named.

A household that harvested a loss is the sound pair. What breaks it is done to the daemon's file behind its back, or to
the venue's own memory.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from invariants import broken_invariants, check_invariants, check_reconciling_twice
from small_house import Stage, make_stage, taken_up

from brokers.simulated import SimulatedVenue
from daemon.day import tick
from state.records import Side

FALL = [("BBB", 3, "0.8")]
LAST = 5  # session


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """The folder of a household that bought, harvested, and had an order refused."""
    folder = tmp_path_factory.mktemp("sound")
    stage = make_stage(folder, empty_database, changes=FALL)
    stage.venue.reject_next("JJJ")
    stage.live(0, LAST)
    assert any(one.side is Side.SELL for one in stage.intents())
    stage.close()
    return folder


@pytest.fixture
def stage(sound: Path, tmp_path: Path) -> Iterator[Stage]:
    """A copy of it, opened."""
    folder = tmp_path / "copy"
    shutil.copytree(sound, folder)
    made = taken_up(folder, changes=FALL)
    yield made
    made.close()


def named(stage: Stage, *, settled: bool = True) -> list[str]:
    return broken_invariants(stage.path, stage.venue, settled=settled)


def test_sound_books_are_sound(stage: Stage) -> None:
    check_invariants(stage.path, stage.venue, settled=True)
    check_reconciling_twice(stage.house)
    check_invariants(stage.path, stage.venue, settled=True)


FILLED = "state = 'filled'"
ONE_INTENT = f"client_order_id = (SELECT min(client_order_id) FROM orders WHERE {FILLED})"
ONE_FILL = "execution_id = (SELECT min(execution_id) FROM fills)"
A_LEG = "(plan_id, leg) = (SELECT plan_id, leg FROM orders WHERE state = 'filled' LIMIT 1)"

IN_THE_DATABASE = {
    "an intent is lost": (f"DELETE FROM orders WHERE {ONE_INTENT}", "I1", "no intent of ours has its id"),
    "an intent says another quantity": (
        f"UPDATE orders SET submitted_quantity = '0.5' WHERE {ONE_INTENT}",
        "I1",
        "as submitted",
    ),
    "an intent says the other side": (f"UPDATE orders SET side = 'sell' WHERE {ONE_INTENT}", "I1", "as submitted"),
    "an intent ended as sent and never was": (
        "UPDATE orders SET submitted_quantity = quantity WHERE state = 'refused'",
        "I1",
        "the venue never had it",
    ),
    "a fate is open": (f"UPDATE orders SET state = 'unknown' WHERE {ONE_INTENT}", "I1", "is still unknown"),
    "a fill is lost": (f"DELETE FROM fills WHERE {ONE_FILL}", "I2", "and not in the other"),
    "a fill is invented": (
        f"UPDATE fills SET execution_id = 'nobody-knows' WHERE {ONE_FILL}",
        "I2",
        "the venue knows nothing of it",
    ),
    "a fill has another price": (f"UPDATE fills SET price = '1' WHERE {ONE_FILL}", "I2", "as at the venue"),
    "a fill is another order's": (
        f"UPDATE fills SET client_order_id = 'hv-other' WHERE {ONE_FILL}",
        "I2",
        "expected it under",
    ),
    "a fill is there twice under two names": (
        f"INSERT INTO fills SELECT 'x::' || execution_id, account_id, client_order_id, broker_order_id, symbol, side, "
        f"quantity, price, executed_at FROM fills WHERE {ONE_FILL}",
        "I2",
        "expected once in the fills, was 2 times",
    ),
    "lots are lost": ("DELETE FROM tax_lots WHERE symbol = 'AAA'", "I3", "AAA: expected lots of"),
    "the basis of a lot is another": (
        "UPDATE tax_lots SET basis = '1' WHERE symbol = 'AAA'",
        "I3",
        "not what the journal",
    ),
    "the state was never written": ("DELETE FROM daemon_states", "I4", "was never written"),
    "the state was another": ("UPDATE daemon_states SET state = 'HALTED'", "I4", "was HALTED"),
    "a refusal has no reason code": ("UPDATE orders SET reason = 'no' WHERE state = 'refused'", "I6", "a reason code"),
    "a blocked plan has no reason code": (
        "UPDATE rebalancing_events SET state = 'blocked', reasons = '[]'",
        "I6",
        "blocked: expected a reason code",
    ),
    "an incident is raised twice": (
        "INSERT INTO alerts (key, level, message, raised_at, recovered) SELECT 'twice', 'error', 'x', since, 0 "
        "FROM (SELECT since FROM daemon_states LIMIT 1), (SELECT 1 UNION ALL SELECT 2)",
        "I6",
        "raised, and was open already",
    ),
    "an incident recovers that was not open": (
        "INSERT INTO alerts (key, level, message, raised_at, recovered) "
        "SELECT 'never', 'info', 'x', since, 1 FROM daemon_states LIMIT 1",
        "I6",
        "recovered, and was not open",
    ),
    "an alert tells a secret": (
        "INSERT INTO alerts (key, level, message, raised_at, recovered) "
        "SELECT 'told', 'error', 'key PKCANARY1', since, 0 FROM daemon_states LIMIT 1",
        "I6",
        "tells a secret",
    ),
    "more was sent than planned": (
        f"UPDATE rebalancing_trades SET quantity = '0.1' WHERE {A_LEG}",
        "I7",
        "expected planned >= submitted >= filled",
    ),
    "more was filled than sent": (
        f"UPDATE orders SET filled_quantity = '99999' WHERE {ONE_INTENT}",
        "I7",
        "expected planned >= submitted >= filled",
    ),
    "a plan bought dearer than it said": (
        "UPDATE orders SET reference_price = '1000000' WHERE side = 'buy'",
        "I7",
        "USD at most",
    ),
    "a row points nowhere": (f"UPDATE orders SET plan_id = 'gone' WHERE {ONE_INTENT}", "database", "points nowhere"),
}


@pytest.mark.parametrize("story", IN_THE_DATABASE)
def test_what_the_daemon_lost_or_invented_is_named(stage: Stage, story: str) -> None:
    statement, invariant, words = IN_THE_DATABASE[story]
    with sqlite3.connect(stage.path) as raw:
        assert raw.execute(statement).rowcount > 0, "the story is about something"
    raw.close()
    found = named(stage)
    assert [one for one in found if one.startswith(invariant) and words in one], found


def order_lost(venue: SimulatedVenue) -> None:
    fills = {fill.broker_order_id for fill in venue.fills()}
    unfilled = next(name for name in venue.book.orders if name in fills)
    del venue.book.orders[unfilled]


def order_doubled(venue: SimulatedVenue) -> None:
    first, second, *_ = venue.book.orders
    venue.book.reported[second] = venue.book.reported[first]


def order_of_nobody(venue: SimulatedVenue) -> None:
    first = next(iter(venue.book.orders))
    venue.book.reported[first] = replace(venue.book.reported[first], client_order_id="hv-nobody-1")


def order_at_night(venue: SimulatedVenue) -> None:
    first = next(iter(venue.book.orders))
    told = venue.book.reported[first]
    venue.book.reported[first] = replace(told, submitted_at=told.submitted_at - timedelta(hours=12))


def filled_further(venue: SimulatedVenue) -> None:
    first = next(iter(venue.book.orders))
    told = venue.book.reported[first]
    venue.book.reported[first] = replace(told, filled_quantity=told.filled_quantity + 1)


def execution_in_between(venue: SimulatedVenue) -> None:
    place = next(number for number, each in enumerate(venue.book.activities) if each.side is not None)
    other = replace(venue.book.activities[place], activity_id="in-between")
    venue.book.activities.insert(place, other)


def cash_lost(venue: SimulatedVenue) -> None:
    venue.book.cash -= Decimal("0.01")


AT_THE_VENUE: dict[Callable[[SimulatedVenue], None], tuple[str, str]] = {
    order_lost: ("I1", "the venue never had it"),
    order_doubled: ("I1", "expected one order at the venue, was 2"),
    order_of_nobody: ("I1", "no intent of ours has its id"),
    order_at_night: ("I4", "no session's hour"),
    filled_further: ("I2", "filled as at the venue"),
    execution_in_between: ("I2", "is not in the journal"),
    cash_lost: ("I3", "cash: expected"),
}


@pytest.mark.parametrize("break_it", AT_THE_VENUE, ids=lambda one: one.__name__)
def test_what_the_venue_knows_otherwise_is_named(stage: Stage, break_it: Callable[[SimulatedVenue], None]) -> None:
    invariant, words = AT_THE_VENUE[break_it]
    break_it(stage.venue)
    found = named(stage)
    assert [one for one in found if one.startswith(invariant) and words in one], found


def test_a_hole_in_the_history_is_named_even_while_the_day_goes_on(stage: Stage) -> None:
    execution_in_between(stage.venue)
    assert [one for one in named(stage, settled=False) if "in-between" in one]


def test_what_happened_since_the_last_look_is_no_fault_until_the_day_is_over(stage: Stage) -> None:
    stage.tick(stage.before_open(LAST + 1))
    stage.venue.advance_to(stage.at(LAST + 1, 5))
    stage.outside(Side.BUY, "AAA", 3)
    stage.venue.pay_dividend("CCC", Decimal("0.10"))
    stage.venue.advance_to(stage.at(LAST + 1, 7))
    assert named(stage, settled=False) == []
    assert {one[:2] for one in named(stage)} == {"I2"}
    tick(stage.house)
    stage.look()
    assert named(stage) == []


def test_a_symbol_that_differs_is_sound_while_it_is_locked(stage: Stage) -> None:
    stage.venue.book.held["AAA"] += 1
    stage.venue.book._positions = None
    stage.venue.book._position_cache.pop("AAA", None)
    assert [one for one in named(stage) if one.startswith("I3: AAA")]
    with sqlite3.connect(stage.path) as raw:
        raw.execute("UPDATE positions SET lock_reason = 'SYMBOL_LOCKED' WHERE symbol = 'AAA'")
    raw.close()
    assert named(stage) == []


def test_a_secret_anywhere_in_the_file_is_named(stage: Stage) -> None:
    stage.house.store.meta.put("note", "loopback-Canary-secret")
    assert [one for one in named(stage) if one.startswith("I6: a secret is in house.db")]


def test_a_second_look_that_writes_is_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from daemon import sync

    real, looks = sync._reconcile, iter(range(10))

    def restless(*given: object) -> dict[str, str]:
        stage.house.store.meta.put("looked", str(next(looks)))
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sync, "_reconcile", restless)
    with pytest.raises(AssertionError, match="I5"):
        check_reconciling_twice(stage.house)
