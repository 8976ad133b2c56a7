"""Orders on their way out, and everything that can happen to one: it is one order at the venue, or none, and known.

The whole daemon and its venue in one process, told hour by hour; test_submission_alpaca.py tells the same with the real
client over sockets. Each story goes on to the evening and ends as holding.py says.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from command_line import harvestd
from small_house import FIRST, Stage
from structlog.testing import capture_logs

from brokers.errors import (
    BrokerUnavailable,
    DuplicateClientOrderId,
    NotAuthorized,
    OutcomeUnknown,
)
from daemon.crash_points import CrashPoint
from daemon.cycle import run_cycle
from daemon.errors import LeaseHeld
from daemon.facts import locked_symbols
from daemon.halt import halt, halt_reason, is_halted
from daemon.opening import lease
from faults.conftest import Staged
from faults.holding import Door, cost, holds, killed_at, later, minutes, opened, slow_lookups
from state.records import AlertLevel, BrokerOrder, BrokerOrderStatus, IntentState, OrderType, PlanState, Side

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 0: nothing is held, 100,000 USD are there, nothing is decided today."""
    return opened(staged())


def at_venue(stage: Stage, symbol: str = "AAA") -> list[BrokerOrder]:
    return [order for order in stage.venue.orders() if order.symbol == symbol]


def filled_once(stage: Stage, symbol: str = "AAA", quantity: int = 10) -> None:
    """The one intent of the symbol is one order, filled, in the lots; its plan is done."""
    intent = stage.only(symbol)
    assert (intent.state, intent.filled_quantity) == (IntentState.FILLED, quantity)
    [order] = at_venue(stage, symbol)
    assert order.client_order_id == intent.client_order_id
    assert stage.house.ledger.position("main", symbol) == quantity


# ------------------------------------------------------------------ F01, F02: the process dies around the request


@pytest.mark.fault("F01")
def test_killed_before_the_request_it_is_looked_for_and_sent_under_its_id(stage: Stage) -> None:
    """Three looks in vain, spaced; then the same order goes out, once."""
    stage.execute((BUY, "AAA", 10))
    name = stage.only("AAA").client_order_id
    with killed_at(CrashPoint.INTENT_SUBMITTING):
        minutes(stage, 10)
    assert at_venue(stage) == []
    stage.restart()
    assert stage.only("AAA").state is IntentState.SUBMITTING, "it was on disk before anything could leave"
    door = Door(stage)
    slow_lookups(stage, submit=door.submit)
    minutes(stage, 12)
    later(stage, 5)  # a look too soon after the one before is none
    assert (stage.only("AAA").state, stage.only("AAA").lookups) == (IntentState.UNKNOWN, 1)
    minutes(stage, 14)
    assert door.names == []
    minutes(stage, 16, 18)
    assert door.names == [name]
    filled_once(stage)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F01")
def test_killed_before_the_request_near_the_close_it_is_never_sent_and_ends(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    stage.venue.advance_to(stage.decision(0, 16))
    with killed_at(CrashPoint.INTENT_SUBMITTING):
        stage.tick(stage.venue.now)
    stage.restart()
    stage.tick(stage.decision(0, 18))
    assert stage.only("AAA").state is IntentState.UNKNOWN, "until the close it may turn up"
    stage.tick(stage.evening(0))
    assert stage.only("AAA").state is IntentState.EXPIRED
    assert stage.only("AAA").reason == "ORDER_DEADLINE: arrived=never"
    assert stage.sent() == ()
    holds(stage)
    assert stage.sent() == ()


@pytest.mark.fault("F01")
def test_killed_before_the_request_and_halted_since_it_is_not_sent(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    with killed_at(CrashPoint.INTENT_SUBMITTING):
        minutes(stage, 10)
    halt(stage.path, "by hand", stage.venue.now)
    stage.restart()
    minutes(stage, 12, 14)
    stage.finish(0)
    assert stage.sent() == ()
    holds(stage)
    assert stage.only("AAA").state is IntentState.EXPIRED


@pytest.mark.fault("F02")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("point", [CrashPoint.ORDER_ANSWERED, CrashPoint.ORDER_RECORDED], ids=lambda point: point.value)
def test_killed_after_the_broker_accepted_the_order_is_found_and_adopted(
    stage: Stage, point: CrashPoint, times: int
) -> None:
    """One order after the other: each death comes after the next of them was accepted."""
    symbols = ("AAA", "BBB", "CCC")
    stage.execute(*((BUY, symbol, 10) for symbol in symbols))
    for nth in range(times):
        with killed_at(point):
            minutes(stage, 10 + nth)
        stage.restart()
        assert [len(at_venue(stage, symbol)) for symbol in symbols] == [1] * (nth + 1) + [0] * (2 - nth)
    minutes(stage, 20, 22)
    for symbol in symbols:
        filled_once(stage, symbol)
    stage.finish(0)
    holds(stage)


# ------------------------------------------------------------------ F03, F07: taken, and the answer lost or senseless

LOST = "no answer within 10 s"
SENSELESS = (
    "502 with a page, sha256 8b1f",
    "200 without a body, sha256 e3b0",
    "200 with JSON that breaks off, sha256 77aa",
)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(LOST, marks=pytest.mark.fault("F03")),
        *(pytest.param(words, marks=pytest.mark.fault("F07")) for words in SENSELESS),
    ],
)
def test_an_order_that_was_taken_without_our_knowing_is_unknown_until_it_is_found(stage: Stage, words: str) -> None:
    door = Door(stage, lambda _, nth: OutcomeUnknown(words) if nth == 1 else None, after=True)
    stage.alter(submit=door.submit)
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    minutes(stage, 10)
    lost = stage.only("AAA")
    assert (lost.state, lost.submitted_quantity) == (IntentState.UNKNOWN, 10)
    assert lost.reason.startswith("ORDER_OUTCOME_UNKNOWN")
    assert words in lost.reason
    assert stage.only("BBB").state is IntentState.RECORDED, "nothing more leaves in that pass"
    minutes(stage, 12, 14)
    assert len(door.names) == len(set(door.names)) == 2
    filled_once(stage, "AAA")
    filled_once(stage, "BBB")
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F07")
def test_a_senseless_answer_to_an_order_that_never_arrived_is_no_refusal(stage: Stage) -> None:
    door = Door(stage, lambda _, nth: OutcomeUnknown(SENSELESS[0]) if nth == 1 else None)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    assert stage.only("AAA").state is IntentState.UNKNOWN
    minutes(stage, 12, 14, 16, 18)
    assert door.names == [stage.only("AAA").client_order_id] * 2
    filled_once(stage)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F03")
def test_while_its_fate_is_unknown_its_symbol_and_its_cash_are_kept(stage: Stage) -> None:
    """The venue has the order and does not show it; its cash is still there, and is not spent a second time."""
    stage.venue.halt("AAA")
    door = Door(stage, lambda _, nth: OutcomeUnknown(LOST) if nth == 1 else None, after=True)
    find = stage.venue.broker().order_by_client_id
    hidden = {"order_by_client_id": lambda name: None if name == door.names[0] else find(name)}
    slow_lookups(stage, submit=door.submit, open_orders=lambda: (), **hidden)
    stage.execute((BUY, "AAA", 1000), (BUY, "BBB", 1800))
    minutes(stage, 10, 12)
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert stage.venue.cash == 100_000, "nothing of it is spent"
    assert 0 < cost(stage, "BBB") <= 100_000 - cost(stage, "AAA")
    assert stage.only("BBB").submitted_quantity < 1800
    snapshot = stage.look()
    assert "AAA" in locked_symbols(stage.house, snapshot)
    stage.alter()
    stage.venue.unhalt("AAA")
    minutes(stage, 14, 16)
    filled_once(stage, "AAA", 1000)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F03")
def test_no_timer_ends_it_while_the_broker_cannot_be_asked(stage: Stage) -> None:
    """For five hours every look-up fails. It was taken, and has filled; that is what it is in the end."""

    def away(_: str) -> BrokerOrder | None:
        raise BrokerUnavailable("no answer")

    stage.venue.lose_next_answer("after")
    stage.alter(order_by_client_id=away)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, *range(10, 310, 20))
    assert stage.only("AAA").state is IntentState.UNKNOWN
    assert stage.alerts("broker:") == ["raised"]
    stage.alter()
    minutes(stage, 310)
    filled_once(stage)
    assert stage.alerts("broker:") == ["raised", "recovered"]
    stage.finish(0)
    holds(stage)


# ------------------------------------------------------------------ F04: never arrived


@pytest.mark.fault("F04")
def test_never_arrived_it_is_sent_once_more_after_spaced_look_ups_in_vain(stage: Stage) -> None:
    door = Door(stage, lambda _, nth: OutcomeUnknown(LOST) if nth == 1 else None)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    for seconds in (20, 1, 1, 20):
        later(stage, seconds)
        assert (stage.only("AAA").state, len(door.names)) == (IntentState.UNKNOWN, 1)
    assert stage.only("AAA").lookups == 2
    later(stage, 20)
    assert door.names == [stage.only("AAA").client_order_id] * 2
    minutes(stage, 14)
    filled_once(stage)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F04")
def test_lost_again_and_again_it_is_never_two_orders(stage: Stage) -> None:
    """Each time it goes out the answer is lost; the third request is the one that arrives."""
    door = Door(stage, lambda _, nth: OutcomeUnknown(LOST) if nth < 3 else None)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, *range(10, 40, 2))
    assert door.names == [stage.only("AAA").client_order_id] * 3
    assert {request.quantity for request in door.requests} == {10}
    filled_once(stage)
    stage.finish(0)
    holds(stage)


def in_doubt(stage: Stage) -> Door:
    """An order that never arrived, and somebody's purchase of the same shares that may be its fill."""
    door = Door(stage, lambda _, nth: OutcomeUnknown(LOST) if nth == 1 else None)
    slow_lookups(stage, submit=door.submit)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    stage.outside(BUY, "AAA", 10)
    minutes(stage, *range(12, 40, 4))
    stage.finish(0)
    return door


@pytest.mark.fault("F04")
def test_a_fill_that_may_be_its_own_keeps_it_from_being_sent_again(stage: Stage) -> None:
    """The history tells of shares bought by an order nobody knows. It may be this one: it is not sent again. After the
    close, when the broker still knows of none, it never arrived."""
    door = in_doubt(stage)
    assert door.names == [stage.only("AAA").client_order_id]
    assert (stage.only("AAA").state, stage.only("AAA").submitted_quantity) == (IntentState.EXPIRED, 0)
    assert stage.only("AAA").reason == "ORDER_DEADLINE: arrived=never"
    holds(stage, settled=False, again=lambda: slow_lookups(stage, submit=door.submit))
    assert len(door.names) == 1
    assert stage.house.ledger.position("main", "AAA") == 10


@pytest.mark.fault("F04")
def test_somebody_elses_fill_does_not_keep_the_account_from_trading(stage: Stage) -> None:
    in_doubt(stage)
    stage.alter()
    stage.live(1, 3)
    assert stage.intents("AAA")[0].state is IntentState.EXPIRED
    assert len(stage.plans()) > 1, "there are 99,000 USD to invest"


# ------------------------------------------------------------------ F06: the id is taken


@pytest.mark.fault("F06")
@pytest.mark.parametrize("lag", [0, 2], ids=["shown at once", "shown later"])
def test_an_id_the_broker_knows_is_looked_up_and_adopted(stage: Stage, lag: int) -> None:
    duplicate = DuplicateClientOrderId("ORDER_DUPLICATE", "client_order_id must be unique")
    door = Door(stage, lambda _, nth: duplicate if nth == 1 else None, after=True)
    find, looks = stage.venue.broker().order_by_client_id, [0]

    def shown_late(name: str) -> BrokerOrder | None:
        looks[0] += 1
        return None if looks[0] <= lag else find(name)

    slow_lookups(stage, submit=door.submit, order_by_client_id=shown_late)
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    assert stage.only("AAA").state is (IntentState.UNKNOWN if lag else IntentState.WORKING)
    minutes(stage, 12, 14)
    stage.venue.unhalt("AAA")
    minutes(stage, 16, 18)
    assert len(door.names) == 1
    filled_once(stage)
    assert not is_halted(stage.path)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F06")
@pytest.mark.parametrize(
    "other", [{"quantity": D(777)}, {"symbol": "BBB"}, {"side": SELL}], ids=["quantity", "symbol", "side"]
)
def test_an_order_of_other_terms_under_our_id_halts(stage: Stage, other: dict[str, Any]) -> None:
    """The broker's record is wrong; as long as it is, nothing leaves and nobody decides what is true."""
    duplicate = DuplicateClientOrderId("ORDER_DUPLICATE", "client_order_id must be unique")
    door = Door(stage, lambda _, nth: duplicate if nth == 1 else None, after=True)
    find = stage.venue.broker().order_by_client_id

    def otherwise(name: str) -> BrokerOrder | None:
        found = find(name)
        return found and replace(found, **other)

    stage.alter(submit=door.submit, order_by_client_id=otherwise)
    stage.execute((BUY, "AAA", 10), (BUY, "CCC", 10))
    minutes(stage, 10, 12, 14)
    assert is_halted(stage.path)
    assert "the broker has" in halt_reason(stage.path)
    assert door.names == [stage.only("AAA").client_order_id]
    assert stage.alerts("halt:") == ["raised"], "told once"
    stage.alter()
    assert "Resumed" in harvestd("resume", "--db", stage.path).out
    minutes(stage, 16, 18, 20)
    assert stage.alerts("halt:") == ["raised", "recovered"]
    filled_once(stage, "AAA")
    filled_once(stage, "CCC")
    stage.finish(0)
    holds(stage)


# ------------------------------------------------------------------ F10: the key is revoked, the account blocked


@pytest.mark.fault("F10")
@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken all the same"])
def test_a_key_that_is_refused_in_the_middle_of_a_plan_halts_once_and_for_all(stage: Stage, taken: bool) -> None:
    door = Door(stage, lambda _, nth: NotAuthorized("the key was revoked") if nth == 2 else None, after=taken)
    stage.alter(submit=door.submit)
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10), (BUY, "CCC", 10))
    minutes(stage, 10, 12)
    assert is_halted(stage.path)
    assert "the key was revoked" in halt_reason(stage.path)
    assert len(door.names) == 2
    stage.restart()
    stage.alter(submit=door.submit)
    minutes(stage, 14, 16)
    assert len(door.names) == 2, "not in another process either"
    assert stage.alerts("halt:") == ["raised"]
    [told] = [alert for alert in stage.told if alert.level is AlertLevel.HALT]
    assert "the key was revoked" in told.message
    harvestd("resume", "--db", stage.path)
    minutes(stage, 18, 20, 22)
    for symbol in ("AAA", "BBB", "CCC"):
        filled_once(stage, symbol)
    assert stage.alerts("halt:") == ["raised", "recovered"]
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F10")
def test_with_a_revoked_key_nothing_can_be_read_and_the_daemon_lives_on(stage: Stage) -> None:
    def refused(*_: object) -> Any:
        raise NotAuthorized("the key was revoked")

    shut = dict.fromkeys(("account", "positions", "activities", "order_by_client_id", "open_orders", "submit"), refused)
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10)
    stage.alter(**shut)
    minutes(stage, 12, 14, 16)
    stage.finish(0)
    assert stage.alerts("halt:") == ["raised"]
    assert stage.alerts("broker:") == []
    stage.alter()
    stage.tick(stage.before_open(1))
    filled_once(stage)
    holds(stage)
    assert is_halted(stage.path), "only a person lifts it"


# ------------------------------------------------------------------ F11: the same plan started twice


def told_of_no_second_plan(stage: Stage) -> list[str]:
    """Reasons that a second decision of the session gives for doing nothing."""
    with capture_logs() as logs:
        assert run_cycle(stage.house, stage.account) is None
    return [str(one["reason"]) for one in logs if one["event"] == "no second plan"]


def decided(staged: Staged) -> Stage:
    """The moment after the session's decision: a plan is recorded, nothing has left."""
    stage = staged()
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.decision(0))
    assert run_cycle(stage.house, stage.account) is not None
    return stage


@pytest.mark.fault("F11")
@pytest.mark.parametrize("restarted", [False, True])
def test_a_session_has_one_decision_however_often_it_is_begun(staged: Staged, restarted: bool) -> None:
    """Begun again while the plan works, and once it is done and new money asks for another. Nothing is sent twice."""
    stage = decided(staged)
    if restarted:
        stage.restart()
    assert run_cycle(stage.house, stage.account) is None
    stage.finish(0)
    [plan] = stage.plans()
    assert plan.state is PlanState.DONE
    holds(stage)
    assert len(stage.sent()) == len(set(stage.sent())) == len(stage.intents())


@pytest.mark.fault("F11")
def test_begun_again_after_its_plan_is_done_it_says_why_it_does_nothing(staged: Staged) -> None:
    stage = decided(staged)
    for after in range(0, 8, 2):
        stage.tick(stage.decision(0, after))
    stage.venue.deposit(D(30_000), reference="more")
    sent = stage.sent()
    assert told_of_no_second_plan(stage) == [f"PLAN_DUPLICATE: session={FIRST}"]
    for after in range(8, 20, 2):
        stage.tick(stage.decision(0, after))
    stage.tick(stage.evening(0))
    assert stage.sent() == sent
    assert len(stage.plans()) == 1
    holds(stage)


@pytest.mark.fault("F11")
def test_begun_again_while_its_plan_is_open_it_says_why_it_does_nothing(staged: Staged) -> None:
    assert told_of_no_second_plan(decided(staged)) == [f"PLAN_DUPLICATE: session={FIRST}"]


@pytest.mark.fault("F11")
def test_a_plan_is_recorded_whole_or_not_at_all_and_never_a_second_time(staged: Staged) -> None:
    """Killed after it is written and before it is committed; after the commit; each time the next process decides."""
    stage = staged()
    stage.tick(stage.before_open(0))
    for point, plans in ((CrashPoint.PLAN_WRITTEN, 0), (CrashPoint.PLAN_RECORDED, 1)):
        with killed_at(point):
            stage.tick(stage.decision(0))
        stage.restart()
        assert len(stage.plans()) == plans
        assert bool(stage.intents()) is bool(plans)
    stage.finish(0)
    assert len(stage.plans()) == 1
    assert len(stage.sent()) == len(stage.intents())
    holds(stage)


# ------------------------------------------------------------------ F12: two daemons


@pytest.mark.fault("F12")
def test_on_one_machine_a_second_process_has_no_way_into_the_household(stage: Stage) -> None:
    stage.execute((BUY, "AAA", 10))
    hold = (
        "import sys; from pathlib import Path; from daemon.opening import lease\n"
        "with lease(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(stage.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeld, match=f"process {other.pid}"), lease(stage.path):
            raise AssertionError("two processes held one household")
        other.communicate()
    with lease(stage.path):
        minutes(stage, 10, 12)
    filled_once(stage)
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F12")
@pytest.mark.parametrize("when", ["at the start", "in the middle of a plan"])
def test_an_open_order_of_a_harvestd_elsewhere_halts(stage: Stage, when: str) -> None:
    """Another machine, another database, the same account."""
    theirs = BrokerOrder(
        "broker-9", "hv-main-20240304-7-1-0", "BBB", BUY, D(5), D(0), BrokerOrderStatus.WORKING, OrderType.MARKET,
        stage.venue.now,
    )  # fmt: skip
    own = stage.venue.broker().open_orders

    def beside() -> tuple[BrokerOrder, ...]:
        return (*own(), theirs)

    stage.execute((BUY, "AAA", 10), (BUY, "CCC", 10))
    if when == "at the start":
        stage.alter(open_orders=beside)
    else:
        stage.venue.halt("AAA")
        door = Door(stage, lambda _, nth: OutcomeUnknown(LOST) if nth == 1 else None, after=True)
        stage.alter(submit=door.submit)
        minutes(stage, 10)
        stage.alter(open_orders=beside)
        stage.venue.unhalt("AAA")
    before = stage.sent()
    minutes(stage, 12, 14)
    assert is_halted(stage.path)
    assert theirs.client_order_id in halt_reason(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    assert stage.sent() == before
    stage.restart()
    minutes(stage, 16)
    assert stage.sent() == before, "though theirs is gone: only a person lifts a halt"
    harvestd("resume", "--db", stage.path)
    minutes(stage, 18, 20)
    assert stage.alerts("halt:") == ["raised", "recovered"]
    filled_once(stage, "AAA")
    filled_once(stage, "CCC")
    stage.finish(0)
    holds(stage)


@pytest.mark.fault("F12")
def test_an_order_of_a_harvestd_elsewhere_that_is_over_already_halts_too(stage: Stage) -> None:
    """Found in the broker's list of changed orders, in the evening; told once, for that list is read on from there."""
    stage.execute((BUY, "AAA", 10))
    minutes(stage, 10, 12)
    stage.finish(0)
    opened(stage, 1)
    events = stage.venue.broker().order_events
    theirs = BrokerOrder(
        "broker-9", "hv-main-20240304-7-1-0", "BBB", BUY, D(5), D(0), BrokerOrderStatus.EXPIRED, OrderType.MARKET,
        stage.venue.now,
    )  # fmt: skip

    def beside(after: str | None = None) -> Any:
        page = events(after)
        return replace(page, orders=(*page.orders, theirs))

    stage.alter(order_events=beside)
    stage.finish(1)
    assert is_halted(stage.path)
    assert theirs.client_order_id in halt_reason(stage.path)
    assert stage.alerts("halt:") == ["raised"]
    stage.alter()
    holds(stage)
