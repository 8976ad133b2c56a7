"""Whether orders may leave: every reason that keeps them from it is told once, and once when it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import Staged
from small_house import D, Stage

from brokers.errors import BrokerUnavailable
from daemon.alerts import raise_alert
from daemon.cycle import observed
from daemon.gate import DaemonState
from daemon.halt import halt_reason, is_halted
from daemon.readiness import bound_to
from daemon.settings import REDACTOR
from state.records import AlertLevel, Side


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 1, shares held since the day before."""
    made = staged()
    made.invest(0)
    made.tick(made.before_open(1))
    made.venue.advance_to(made.at(1, 10))
    return made


def told(stage: Stage, key: str) -> list[bool]:
    """Alerts of an incident, oldest first: False when it began, True when it was over."""
    return [alert.recovered for alert in stage.house.store.alerts.list(500) if alert.key == key]


def test_clocks_that_disagree_are_told_once_and_once_more_when_they_agree(stage: Stage) -> None:
    said = stage.venue.broker().clock
    stage.alter(clock=lambda: replace(said(), at=said().at + timedelta(seconds=30)))
    for _ in range(3):
        assert observed(stage.house, stage.account).state is DaemonState.STALE
    assert told(stage, "state:main") == [False]
    stage.alter()
    assert observed(stage.house, stage.account).state is DaemonState.OPEN
    assert told(stage, "state:main") == [False, True]


def test_a_blocked_account_is_told(stage: Stage) -> None:
    stage.venue.block_account()
    assert observed(stage.house, stage.account).state is DaemonState.STALE
    [alert] = [alert for alert in stage.house.store.alerts.list() if alert.key == "state:main"]
    assert "blocked" in alert.message


def test_the_close_of_the_market_is_no_incident(stage: Stage) -> None:
    stage.finish(1)
    assert told(stage, "state:main") == []


def test_another_account_under_the_same_keys_halts_and_leaves_no_row(stage: Stage) -> None:
    stage.house.store.meta.put(bound_to(stage.account), "SIM-1")
    rows = stage.house.store.journal.count()
    other = replace(stage.venue.broker().account(), account_number="SOMEBODY-ELSES")
    stage.outside(Side.BUY, "AAA", 1)
    stage.venue.advance_to(stage.at(1, 12))
    stage.alter(account=lambda: other)
    stage.tick(stage.decision(1))
    assert is_halted(stage.path)
    assert "SOMEBODY-ELSES" in halt_reason(stage.path)
    assert stage.house.store.journal.count() == rows


def test_an_empty_list_of_positions_is_not_an_empty_account(stage: Stage) -> None:
    """The broker's own figure of what the account is worth says so: nothing is concluded, and no value written."""
    whole = stage.venue.broker().account()
    stage.alter(positions=lambda: (), account=lambda: replace(whole, equity=D(100_000)))
    with pytest.raises(BrokerUnavailable, match="lists no positions"):
        observed(stage.house, stage.account)
    stage.venue.advance_to(stage.evening(1))
    stage.tick(stage.evening(1))
    newest = stage.house.store.performance.last("main")
    assert newest is not None
    assert newest.session == stage.session(0).session
    assert stage.house.store.alerts.open_keys("reconcile:") == ()


def test_an_account_that_was_sold_empty_is_believed(stage: Stage) -> None:
    cash = stage.venue.broker().account()
    stage.alter(positions=lambda: (), account=lambda: replace(cash, equity=cash.cash))
    assert observed(stage.house, stage.account).locks


def test_a_secret_that_a_broker_repeats_does_not_get_into_the_database(stage: Stage) -> None:
    REDACTOR.register("canary-secret-in-an-answer")
    raise_alert(stage.house.store, "k", AlertLevel.ERROR, "cash: canary-secret-in-an-answer", stage.venue.now)
    [alert] = [alert for alert in stage.house.store.alerts.list() if alert.key == "k"]
    assert "canary" not in alert.message


def test_an_evening_without_closes_is_not_over(stage: Stage) -> None:
    stage.alter(daily_bars=lambda *_: ())
    stage.venue.advance_to(stage.evening(1))
    stage.tick(stage.evening(1))
    assert "evening" not in stage.house.store.agenda.done(stage.session(1).session, "main")
    stage.alter()
    stage.tick(stage.evening(1) + timedelta(minutes=1))
    assert "evening" in stage.house.store.agenda.done(stage.session(1).session, "main")
