"""Orders whose answers are lost, wrong, late or refused on the way from Alpaca: each is one order, or none, and known.

The real client over real sockets, day after day on one account; at_alpaca.py says what of it is not as installed. After
each fault the books are laid side by side, and again after a restart and another day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest
from loopback import Fault

from daemon.halt import halt_reason, is_halted
from faults.at_alpaca import SUBMIT, Account, account
from state.records import AlertLevel, IntentState

pytestmark = pytest.mark.slow

DEPOSIT = 60_000  # USD: a few orders
UNIQUE = {"code": 40010001, "message": "client_order_id must be unique"}
APART = timedelta(seconds=15)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account that is invested since yesterday."""
    with account(tmp_path_factory.mktemp("submission")) as made:
        made.live()
        yield made


def fault(kind: str, nth: int = 1, **more: object) -> Fault:
    """At the n-th order."""
    return Fault(kind, nth=nth, **SUBMIT, **more)  # type: ignore[arg-type]


def names(at: Account) -> list[str]:
    """Client order ids as they reached the server, in order."""
    return [name for name, _ in at.posts()]


def each_is_one_order(at: Account) -> None:
    """Each intent of the day is one order at the broker, which was filled; the rest of a large one was cancelled."""
    intents = at.intents()
    assert len(intents) >= 2
    assert {one.state for one in intents} <= {IntentState.FILLED, IntentState.CANCELLED}
    assert all(one.filled_quantity > 0 for one in intents)
    there = Counter(order.client_order_id for order in at.orders())
    assert [there[one.client_order_id] for one in intents] == [1] * len(intents)


# ------------------------------------------------------------------ taken, and not told


TAKEN = {
    "F03": (fault("hang", when="after"), fault("drop", 2, when="after")),
    "F06": (fault("status", status=422, body=UNIQUE, when="after"), fault("wrong_type", 2)),
    "F07": (fault("html", when="after"), fault("truncated", 2)),
    "F07 with 2xx": (fault("html", status=200, when="after"), fault("status", 2, status=204, when="after")),
    "F08": (fault("drip", seconds=0.02, text="headers"), fault("drip", 2, seconds=0.02)),
}


@pytest.mark.parametrize("words", [pytest.param(each, marks=pytest.mark.fault(each[:3])) for each in TAKEN])
def test_orders_that_were_taken_without_our_knowing_are_found_and_never_sent_again(at: Account, words: str) -> None:
    at.live(*TAKEN[words], deposit=DEPOSIT)
    assert at.person.server.faults == (), "both struck"
    assert set(Counter(names(at)).values()) == {1}
    each_is_one_order(at)
    at.adds_up()


@pytest.mark.fault("F05")
def test_two_answers_of_504_to_orders_that_were_taken_make_no_third_order(at: Account) -> None:
    at.live(fault("status", status=504, when="after", times=2), deposit=DEPOSIT)
    assert [status for _, status in at.posts()][:2] == [504, 504]
    assert set(Counter(names(at)).values()) == {1}
    each_is_one_order(at)
    at.adds_up()


# ------------------------------------------------------------------ never arrived


NEVER = {
    "no answer in time": (fault("hang"), "F08"),
    "the connection closes": (fault("drop"), "F04"),
    "504": (fault("status", status=504), "F05"),
}


@pytest.mark.parametrize("words", [pytest.param(each, marks=pytest.mark.fault(NEVER[each][1])) for each in NEVER])
def test_an_order_that_never_arrived_is_looked_for_and_sent_once_more_under_its_id(at: Account, words: str) -> None:
    """Not before it was looked up three times in vain, some seconds apart."""
    at.live(NEVER[words][0], deposit=DEPOSIT)
    looks = [one for one in at.person.server.requests if "by_client_order_id" in one.path and one.status == 404]
    [lost] = {one.query["client_order_id"] for one in looks}
    assert len(looks) == 3
    assert looks[-1].instant - looks[0].instant >= 2 * APART
    posts = [one for one in at.person.server.requests if one.method == "POST"]
    again = [one for one in posts if isinstance(one.body, dict) and one.body["client_order_id"] == lost][-1]
    assert (again.status, again.instant >= looks[-1].instant) == (200, True)
    assert max(Counter(names(at)).values()) <= 2
    each_is_one_order(at)
    at.adds_up()


# ------------------------------------------------------------------ too many calls


@pytest.mark.fault("F09")
@pytest.mark.parametrize("seconds", [20, -600, 10**8], ids=["in twenty seconds", "over", "in years"])
def test_a_storm_of_429_holds_orders_back_and_they_leave_when_it_is_over(at: Account, seconds: int) -> None:
    at.live(fault("status", status=429, seconds=seconds, times=2), deposit=DEPOSIT)
    statuses = [status for _, status in at.posts()]
    assert statuses.count(429) == 2
    assert all(count <= 3 for count in Counter(names(at)).values())
    intents = at.intents()
    assert {one.state for one in intents} <= {IntentState.FILLED, IntentState.CANCELLED, IntentState.EXPIRED}
    assert all(one.reason for one in intents if one.state is IntentState.EXPIRED), "what could not wait says why"
    assert any(one.filled_quantity for one in intents)
    at.adds_up()


@pytest.mark.fault("F09")
def test_a_storm_that_does_not_end_before_the_close_ends_the_orders_visibly(at: Account) -> None:
    at.live(fault("status", status=429, times=0), deposit=DEPOSIT)
    day = at.intents()[0].session
    assert {one.state for one in at.intents()} <= {IntentState.EXPIRED, IntentState.UNKNOWN}
    assert len(at.posts()) <= 20, "it is asked less and less"
    at.adds_up(settled=False)
    at.live()
    intents = at.intents(day)
    assert {one.state for one in intents} == {IntentState.EXPIRED}
    assert all(one.reason for one in intents)
    assert at.alerts(f"plan:{intents[0].plan_id}")


# ------------------------------------------------------------------ the key, the account


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    ("status", "message"), [(401, "unauthorized."), (403, "account is restricted to liquidation only")]
)
def test_a_key_or_an_account_that_is_refused_in_the_middle_of_a_plan_halts(
    at: Account, status: int, message: str
) -> None:
    before = len(at.alerts("halt:"))
    at.live(fault("status", 2, status=status, body={"message": message}, times=0), deposit=DEPOSIT)
    assert is_halted(at.person.database)
    assert message in halt_reason(at.person.database)
    assert len(at.posts()) == 2, "the one that was taken, and the one that was refused"
    told = at.alerts("halt:")[before:]
    assert [(one.level, one.recovered) for one in told] == [(AlertLevel.HALT, False)]
    at.look()
    assert len(at.posts()) == 2, "nothing leaves, in no process, until a person says so"
    assert len(at.alerts("halt:")) == before + 1
    at.resume()
    at.live()
    assert [one.recovered for one in at.alerts("halt:")[before:]] == [False, True]
    assert not [one for one in at.intents() if one.state is IntentState.UNKNOWN]
    at.adds_up()


@pytest.mark.fault("F06")
def test_an_order_of_other_terms_under_our_id_halts(at: Account) -> None:
    at.live(
        fault("status", status=422, body=UNIQUE, when="after"),
        Fault("set", path="by_client_order_id", fields={"qty": "7777"}, times=0),
        Fault("set", method="GET", path="/v2/orders$", fields={"qty": "7777"}, times=0),
        deposit=DEPOSIT,
    )
    assert is_halted(at.person.database)
    assert "7777" in halt_reason(at.person.database)
    assert len(at.posts()) == 1
    at.resume()
    at.adds_up(settled=False)


# ------------------------------------------------------------------ cancels that are not heeded


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    "deaf", [{"kind": "status", "status": 204}, {"kind": "status", "status": 500}], ids=["says yes", "says 500"]
)
def test_an_order_that_is_not_cancelled_when_asked_is_asked_again_and_followed_to_its_end(
    at: Account, deaf: dict[str, object]
) -> None:
    """Trading in what is bought is halted, so nothing fills; the broker does not carry out one cancel."""
    with at.person.server.lock:
        halted = sorted(at.venue.market._symbols)
        for symbol in halted:
            at.venue.halt(symbol)
    at.live(Fault(method="DELETE", path="/v2/orders/", times=0, **deaf), deposit=DEPOSIT)  # type: ignore[arg-type]
    asked = [one.path for one in at.person.server.requests if one.method == "DELETE"]
    intents = at.intents()
    assert intents
    assert max(Counter(asked).values()) >= 2, "asked for more than once"
    assert {one.state for one in intents} <= {IntentState.EXPIRED, IntentState.CANCELLED}
    assert set(Counter(names(at)).values()) == {1}, "nothing is sent in its place"
    with at.person.server.lock:
        for symbol in halted:
            at.venue.unhalt(symbol)
    at.adds_up()
