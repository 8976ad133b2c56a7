"""The stream of order updates falls silent, breaks off or talks nonsense: what it did not tell is asked for.

The real client over real sockets, day after day on one account (at_alpaca.py). What goes wrong goes wrong when the
day's first order arrives, so that orders are on their way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from loopback import Fault
from loopback.requests import Request
from loopback.transport import Reply

from daemon.gate import DaemonState
from faults.at_alpaca import Account, account
from state.records import IntentState
from state.store import schema

pytestmark = pytest.mark.slow

DEPOSIT = 60_000  # USD: a few orders
STREAM = "/stream"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account that is invested since yesterday."""
    with account(tmp_path_factory.mktemp("stream")) as made:
        made.live()
        yield made


@contextmanager
def once_an_order_came(at: Account, *faults: Fault) -> Iterator[None]:
    """The faults begin to wait when the first order has been answered."""
    server, waiting = at.person.server, list(faults)
    answer = server.reply

    def reply(request: Request) -> Reply:
        found = answer(request)
        if (request.method, request.path) == ("POST", "/v2/orders") and waiting:
            server.script(*waiting)
            waiting.clear()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "reply", reply)
        yield
    assert not waiting, "an order came"


def told(at: Account, stream_event: str) -> int:
    """How many updates of this kind were stored so far."""
    return sum(f'"event": "{stream_event}"' in body or f'"event":"{stream_event}"' in body for body in stored(at))


def stored(at: Account, *, faulty: bool = False) -> list[str]:
    """Raw events in the database, or those that could not be read."""
    with at.store() as store:
        return [row["body"] for row in store.database.read(schema.broker_events) if row["fault"] or not faulty]


def each_is_one_order(at: Account) -> None:
    intents = at.intents()
    assert len(intents) >= 2
    assert {one.state for one in intents} <= {IntentState.FILLED, IntentState.CANCELLED}
    assert all(one.filled_quantity > 0 for one in intents)
    assert set(Counter(name for name, _ in at.posts()).values()) == {1}


@pytest.mark.fault("F17")
def test_fills_that_the_stream_never_tells_are_found_and_nothing_is_ordered_again(at: Account) -> None:
    before, alerts = told(at, "fill"), len(at.alerts("updates:"))
    with once_an_order_came(at, Fault("missing", path=STREAM, times=0)):
        at.live(deposit=DEPOSIT)
    assert told(at, "fill") == before, "not one was told"
    each_is_one_order(at)
    at.adds_up()
    assert at.alerts("updates:")[alerts:], "it was noticed"
    assert at.alerts("updates:")[-1].recovered


@pytest.mark.fault("F18")
def test_a_stream_that_is_connected_and_mute_is_left_for_another(at: Account) -> None:
    alerts = len(at.alerts("updates:"))
    with once_an_order_came(at, Fault("mute", path=STREAM)):
        at.live(deposit=DEPOSIT)
    each_is_one_order(at)
    assert at.alerts("updates:")[alerts:], "it was noticed"
    at.adds_up()


@pytest.mark.fault("F18")
def test_while_the_stream_cannot_be_heard_no_order_leaves(at: Account) -> None:
    at.live(Fault("status", path=STREAM, status=503, times=0), deposit=DEPOSIT)
    assert at.posts() == []
    with at.store() as store:
        states = [row.state for row in store.states.list("main")]
    assert states[-1] != DaemonState.OPEN.value
    assert DaemonState.RECONCILING.value in states[-4:]
    at.live()
    assert at.posts(), "the next day it is heard"
    each_is_one_order(at)
    at.adds_up()


@pytest.mark.fault("F19")
@pytest.mark.parametrize("code", [1006, 1011])
def test_a_connection_that_breaks_off_among_orders_loses_no_fill(at: Account, code: int) -> None:
    """It stays away for a while, in which fills happen; what is left to send waits until it was caught up with."""
    gone = Fault("close", path=STREAM, code=code)
    away = Fault("status", path=STREAM, status=503, times=2)
    with once_an_order_came(at, away, gone):
        at.live(deposit=DEPOSIT)
    intents = at.intents()
    assert [one for one in intents if one.filled_quantity]
    assert set(Counter(name for name, _ in at.posts()).values()) == {1}
    at.adds_up()


UNREADABLE = (
    Fault("garbage", path=STREAM),
    Fault("spoil", path=STREAM, nth=2, fields={"filled_qty": "ten"}),
    Fault("spoil", path=STREAM, nth=3, fields={"filled_qty": "NaN", "side": None}),
    Fault("spoil", path=STREAM, nth=4, fields={"id": {"v": 2}}),
)


@pytest.mark.fault("F20")
def test_messages_that_cannot_be_read_are_set_aside_and_told_and_the_others_are_heard(at: Account) -> None:
    """No message at all, a number that is none, no side, a field that changed its type."""
    faulty, all_of = len(stored(at, faulty=True)), len(stored(at))
    alerts = len(at.alerts("update:"))
    with once_an_order_came(at, *UNREADABLE):
        at.live(deposit=DEPOSIT)
    assert at.person.server.faults == (), "all struck"
    assert len(stored(at, faulty=True)) == faulty + len(UNREADABLE)
    assert len(at.alerts("update:")) == alerts + len(UNREADABLE)
    assert len(stored(at)) > all_of + len(UNREADABLE), "the stream went on"
    each_is_one_order(at)
    at.adds_up()


@pytest.mark.fault("F20")
def test_words_nobody_knows_yet_disturb_nothing(at: Account) -> None:
    faulty = len(stored(at, faulty=True))
    unknown = (
        Fault("unknown_event", path=STREAM),
        Fault("unknown_status", path=STREAM, nth=2),
        Fault("spoil", path=STREAM, nth=3, fields={"quantum": {"spin": [1]}}),
    )
    with once_an_order_came(at, *unknown):
        at.live(deposit=DEPOSIT)
    assert at.person.server.faults == (), "all struck"
    assert len(stored(at, faulty=True)) == faulty
    each_is_one_order(at)
    at.adds_up()


DISORDER = {
    "each three times": [Fault("duplicate", path=STREAM, times=0), Fault("duplicate", path=STREAM, times=0)],
    "in another order": [Fault("reorder", path=STREAM, times=0)],
    "less filled than before": [
        Fault("spoil", path=STREAM, nth=4, times=0, fields={"filled_qty": "0", "status": "new"})
    ],
}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("each three times", marks=pytest.mark.fault("F15")),
        pytest.param("in another order", marks=pytest.mark.fault("F16")),
        pytest.param("less filled than before", marks=pytest.mark.fault("F16")),
    ],
)
def test_messages_that_repeat_overtake_or_take_back_one_another_count_once(at: Account, words: str) -> None:
    with once_an_order_came(at, *DISORDER[words]):
        at.live(deposit=DEPOSIT)
    each_is_one_order(at)
    at.adds_up()
