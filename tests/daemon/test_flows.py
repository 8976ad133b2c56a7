"""What counts as money from outside: deposits and shares that came, corrections of them once, and a past not twice."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from conftest import Staged
from small_house import D, Stage

from brokers.simulated import SimulatedVenue
from daemon.cycle import observed
from state.records import BrokerPosition, Side, Transaction, TransactionKind
from state.store import PerformanceRow

CENT = D("0.01")


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """A hundred thousand dollars since the evening before, and one session lived through."""
    made = staged(approvals={"order_usd": "1"})  # nothing trades by itself
    made.live(0)
    return made


def last(stage: Stage) -> PerformanceRow:
    found = stage.house.store.performance.last("main")
    assert found is not None
    return found


def journaled(stage: Stage, kind: TransactionKind, name: str, **fields: object) -> None:
    """A row of the broker's history, learned in the next minute."""
    stage.venue.advance_to(stage.venue.now + timedelta(minutes=1))
    day = stage.house.calendar.upcoming(stage.venue.now).session
    stage.house.learn([Transaction(name, "main", kind, day, "simulated", **fields)])  # type: ignore[arg-type]


def test_an_account_with_a_past_begins_with_what_it_is_worth(stage: Stage) -> None:
    first = last(stage)
    assert (first.nav, first.external_flow, first.benchmark_nav) == (D(100_000), D(100_000), D(100_000))
    assert (first.bought, first.sold) == (0, 0)


def test_a_past_of_deposits_withdrawals_and_trades_is_not_added_up_again(staged: Staged) -> None:
    stage = staged(cash=100_000)
    stage.venue.withdraw(D(40_000), reference="long ago")
    stage.venue.advance_to(stage.session(0).opens_at + timedelta(minutes=1))
    stage.outside(Side.BUY, "AAA", 100)
    stage.venue.advance_to(stage.before_open(1))
    stage.tick(stage.evening(1))
    row = last(stage)
    assert row.external_flow == row.nav == row.benchmark_nav
    assert (row.bought, row.sold) == (0, 0)


def test_a_corrected_deposit_counts_for_what_the_correction_changes(stage: Stage) -> None:
    journaled(stage, TransactionKind.DEPOSIT, "d1", amount=D(1_000))
    stage.tick(stage.evening(1))
    assert last(stage).external_flow == 1_000
    journaled(stage, TransactionKind.DEPOSIT, "d1~2", amount=D(900), supersedes="d1")
    stage.tick(stage.evening(2))
    assert last(stage).external_flow == -100


def test_a_deposit_and_its_correction_on_one_day_are_one_deposit(stage: Stage) -> None:
    journaled(stage, TransactionKind.DEPOSIT, "d1", amount=D(1_000))
    journaled(stage, TransactionKind.DEPOSIT, "d1~2", amount=D(900), supersedes="d1")
    stage.tick(stage.evening(1))
    assert last(stage).external_flow == 900


def test_shares_that_came_are_money_that_came(stage: Stage) -> None:
    journaled(stage, TransactionKind.SHARES_IN, "in", symbol="AAA", quantity=D(10))
    stage.tick(stage.evening(1))
    assert last(stage).external_flow == (10 * observed(stage.house, stage.account).prices["AAA"]).quantize(CENT)
    journaled(stage, TransactionKind.SHARES_OUT, "out", symbol="AAA", quantity=D(4))
    stage.tick(stage.evening(2))
    assert last(stage).external_flow == -(4 * observed(stage.house, stage.account).prices["AAA"]).quantize(CENT)


# ------------------------------------------------------------------ a fill between two questions


def held(venue: SimulatedVenue, symbol: str, more: int) -> tuple[BrokerPosition, ...]:
    """The venue's positions, with shares that its history does not tell yet."""
    found = {one.symbol: one for one in venue.broker().positions()}
    quantity = found[symbol].quantity if symbol in found else Decimal(0)
    found[symbol] = BrokerPosition(symbol, quantity + more)
    return tuple(found[name] for name in sorted(found))


def test_a_fill_that_the_history_has_yet_to_tell_locks_and_alarms_nobody(staged: Staged) -> None:
    """The history is asked first, then the positions; what fills in between is on one side only."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 10))
    stage.execute((Side.BUY, "AAA", 10))
    stage.tick(stage.at(0, 10))
    before = stage.venue.broker().activities()
    stage.venue.advance_to(stage.at(0, 12))
    stage.alter(activities=lambda after=None: type(before)((), after or before.cursor))
    assert "AAA" in observed(stage.house, stage.account).locks
    assert stage.house.store.alerts.open_keys("reconcile:") == ()
    stage.venue.advance_to(stage.at(0, 18))
    observed(stage.house, stage.account)
    assert stage.house.store.alerts.open_keys("reconcile:main:") == ("reconcile:main:AAA", "reconcile:main:cash")
    stage.alter()
    assert observed(stage.house, stage.account).locks == {}
    assert stage.house.store.alerts.open_keys("reconcile:") == ()


def test_a_difference_that_nothing_explains_is_told_at_once(staged: Staged) -> None:
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.alter(positions=lambda: held(stage.venue, "AAA", 3))
    observed(stage.house, stage.account)
    assert stage.house.store.alerts.open_keys("reconcile:main:") == ("reconcile:main:AAA",)
