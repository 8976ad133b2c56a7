"""Order updates from the stand-in for Alpaca, through alpaca-py's own TradingStream, and everything that goes wrong."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from loopback import Fault, LoopbackAlpaca
from worlds import buy, venue

from brokers.alpaca import Endpoints, Keys, TradeUpdates, order_of_event
from brokers.simulated import SimulatedVenue
from state.records import BrokerOrderStatus

KEYS = Keys("PKSTREAM", "stream-secret")
STALE_S = 0.4


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SimulatedVenue]:
    made = venue(tmp_path)
    yield made
    made.close()


@pytest.fixture
def server(world: SimulatedVenue) -> Iterator[LoopbackAlpaca]:
    with LoopbackAlpaca(world, key_id=KEYS.key_id, secret_key=KEYS.secret_key) as made:
        yield made


class Inbox:
    """What was stored; `fails` lets the next attempts to store fail."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.fails = 0

    def __call__(self, body: str) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("the disk is full")
        self.bodies.append(body)

    def events(self) -> list[str]:
        return [json.loads(body)["data"]["event"] for body in self.bodies]


@contextmanager
def listening(
    server: LoopbackAlpaca, inbox: Inbox, *, keys: Keys = KEYS, wait: bool = True, stale_after_s: float = STALE_S
) -> Iterator[TradeUpdates]:
    """A stream that listens, with little patience."""
    updates = TradeUpdates(
        keys, Endpoints.loopback(server.url), inbox, stale_after_s=stale_after_s, backoff_s=(0.02, 0.05)
    )
    updates.start()
    try:
        if wait:
            until(lambda: updates.is_listening)
        yield updates
    finally:
        updates.stop()


def until(holds: Callable[[], object], within_s: float = 5.0) -> None:
    """Wait for another thread."""
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.005)


def trade(server: LoopbackAlpaca, client_order_id: str = "a-1") -> None:
    """Ten shares are bought and filled."""
    with server.lock:
        server.venue.submit(buy(client_order_id, "AAA", 10))
    server.advance(120)


class TestWhatIsTold:
    def test_each_message_is_stored_as_it_came_and_can_be_read(self, server: LoopbackAlpaca) -> None:
        inbox = Inbox()
        with listening(server, inbox):
            trade(server)
            until(lambda: len(inbox.bodies) == 2)
        assert inbox.events() == ["new", "fill"]
        orders = [order_of_event(body) for body in inbox.bodies]
        assert [each and (each.client_order_id, each.status, each.filled_quantity) for each in orders] == [
            ("a-1", BrokerOrderStatus.WORKING, 0),
            ("a-1", BrokerOrderStatus.FILLED, 10),
        ]

    def test_it_is_stored_before_anybody_is_woken(self, server: LoopbackAlpaca) -> None:
        stored_at_wake: list[int] = []
        inbox = Inbox()
        with listening(server, inbox) as updates:
            updates.wake.clear()
            trade(server)
            assert updates.wake.wait(5)
            stored_at_wake.append(len(inbox.bodies))
        assert stored_at_wake[0] >= 1

    def test_listening_counts_from_alpacas_confirmation_on(self, server: LoopbackAlpaca) -> None:
        updates = TradeUpdates(KEYS, Endpoints.loopback(server.url), Inbox(), backoff_s=(0.02, 0.05))
        assert (updates.connection, updates.is_listening, updates.fault) == (0, False, "")
        updates.start()
        updates.start()
        until(lambda: updates.is_listening)
        assert (updates.connection, updates.wake.is_set(), updates.fault) == (1, True, "")
        updates.stop()
        assert not updates.is_listening

    def test_a_frame_that_is_no_message_is_stored_too_and_the_next_one_is_heard(self, server: LoopbackAlpaca) -> None:
        inbox = Inbox()
        with listening(server, inbox) as updates:
            server.script(Fault("garbage", path="/stream"))
            trade(server)
            until(lambda: len(inbox.bodies) == 3)
            assert updates.connection == 1
        with pytest.raises(ValueError, match=r"."):
            order_of_event(inbox.bodies[0])
        assert order_of_event(inbox.bodies[1]) is not None

    @pytest.mark.parametrize(
        ("kind", "text", "expected"),
        [
            ("duplicate", "", ["new", "new", "fill"]),
            ("missing", "", ["fill"]),
            ("reorder", "", ["fill", "new"]),
            ("unknown_event", "enchanted", ["enchanted", "fill"]),
            ("unknown_status", "enchanted", ["new", "fill"]),
        ],
    )
    def test_whatever_is_told_is_stored(
        self, server: LoopbackAlpaca, kind: str, text: str, expected: list[str]
    ) -> None:
        inbox = Inbox()
        with listening(server, inbox):
            server.script(Fault(kind, path="/stream", text=text))
            trade(server)
            until(lambda: len(inbox.bodies) == len(expected))
        assert inbox.events() == expected
        assert all(order_of_event(body) is not None for body in inbox.bodies)

    def test_silence_is_no_fault_while_pings_are_answered(self, server: LoopbackAlpaca) -> None:
        inbox = Inbox()
        with listening(server, inbox, stale_after_s=0.1) as updates:
            began = updates.last_heard
            until(lambda: updates.last_heard > began + 0.25)
            assert (updates.connection, updates.is_listening) == (1, True)
            trade(server)
            until(lambda: len(inbox.bodies) == 2)


class TestConnectingAgain:
    @pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1011, 1012, 4000])
    def test_after_any_close_it_listens_again(self, server: LoopbackAlpaca, code: int) -> None:
        inbox = Inbox()
        with listening(server, inbox) as updates:
            server.script(Fault("close", path="/stream", code=code))
            until(lambda: updates.connection == 2)
            server.wait_for_listeners()
            trade(server)
            until(lambda: len(inbox.bodies) == 2)
            assert (updates.is_listening, updates.fault) == (True, "")

    def test_what_could_not_be_stored_drops_the_connection(self, server: LoopbackAlpaca) -> None:
        """So that whoever waits for the new connection asks for everything by REST."""
        inbox = Inbox()
        with listening(server, inbox) as updates:
            inbox.fails = 1
            seen: list[tuple[bool, str]] = []
            threading.Thread(target=lambda: trade(server)).start()
            until(lambda: seen.append((updates.is_listening, updates.fault)) or updates.connection == 2)
            assert any(not is_listening and "the disk is full" in fault for is_listening, fault in seen)
            server.wait_for_listeners()
            trade(server, "a-2")
            until(lambda: "fill" in inbox.events())

    def test_a_connection_that_answers_no_ping_is_dropped(self, server: LoopbackAlpaca) -> None:
        with listening(server, Inbox()) as updates:
            server.script(Fault("deaf", path="/stream"))
            until(lambda: updates.connection == 2)

    def test_a_subscription_that_is_not_confirmed_is_dropped(self, server: LoopbackAlpaca) -> None:
        server.script(Fault("mute", path="/stream"))
        with listening(server, Inbox(), wait=False) as updates:
            until(lambda: "not confirmed" in updates.fault)
            until(lambda: updates.is_listening)
            assert updates.connection == 1

    def test_a_connection_that_is_mute_is_left_when_somebody_suspects_it(self, server: LoopbackAlpaca) -> None:
        inbox = Inbox()
        with listening(server, inbox) as updates:
            server.script(Fault("mute", path="/stream"))
            trade(server)
            updates.suspect()
            assert not updates.is_listening
            assert "did not tell" in updates.fault
            until(lambda: updates.connection == 2)
            server.wait_for_listeners()
            trade(server, "a-2")
            until(lambda: len(inbox.bodies) == 2)
        assert [json.loads(body)["data"]["order"]["client_order_id"] for body in inbox.bodies] == ["a-2", "a-2"]

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (Fault("status", path="/stream", status=429), "429"),
            (Fault("html", path="/stream", status=502), "502"),
            (Fault("drop", path="/stream"), "subscribed"),
            (Fault("hang", path="/stream"), "no answer in time"),
        ],
        ids=["429", "502", "drop", "hang"],
    )
    def test_a_handshake_that_fails_is_tried_again(self, server: LoopbackAlpaca, fault: Fault, words: str) -> None:
        server.script(fault)
        with listening(server, Inbox(), wait=False) as updates:
            until(lambda: words in updates.fault)
            until(lambda: updates.is_listening)
            assert (updates.connection, updates.fault) == (1, "")

    def test_a_key_that_is_refused_never_listens_and_is_not_told(self, server: LoopbackAlpaca) -> None:
        wrong = Keys(KEYS.key_id, "wrong-canary-secret")
        with listening(server, Inbox(), keys=wrong, wait=False) as updates:
            until(lambda: "failed to authenticate" in updates.fault)
            assert (updates.is_listening, updates.connection) == (False, 0)
            assert "canary" not in updates.fault

    def test_a_server_that_is_gone_is_tried_until_it_is_back(self, world: SimulatedVenue, tmp_path: Path) -> None:
        first = LoopbackAlpaca(world, key_id=KEYS.key_id, secret_key=KEYS.secret_key)
        with first, listening(first, Inbox()) as updates:
            port = first.port
            first.stop()
            until(lambda: not updates.is_listening)
            assert updates.fault
            with LoopbackAlpaca(world, key_id=KEYS.key_id, secret_key=KEYS.secret_key, port=port):
                until(lambda: updates.connection == 2)


class TestStopping:
    def ends_quickly(self, updates: TradeUpdates) -> None:
        thread = updates._thread
        assert thread is not None
        began = time.monotonic()
        updates.stop()
        assert time.monotonic() - began < 3
        assert not thread.is_alive()

    def test_it_ends_while_it_listens(self, server: LoopbackAlpaca) -> None:
        with listening(server, Inbox()) as updates:
            self.ends_quickly(updates)

    def test_it_ends_while_it_connects(self, server: LoopbackAlpaca) -> None:
        server.script(Fault("hang", path="/stream", times=0))
        with listening(server, Inbox(), wait=False, stale_after_s=60) as updates:
            time.sleep(0.1)
            self.ends_quickly(updates)

    def test_it_ends_between_two_attempts(self, server: LoopbackAlpaca) -> None:
        server.script(Fault("status", path="/stream", status=503, times=0))
        updates = TradeUpdates(KEYS, Endpoints.loopback(server.url), Inbox(), backoff_s=(60.0, 60.0))
        updates.start()
        until(lambda: "503" in updates.fault)
        self.ends_quickly(updates)

    def test_it_ends_before_it_has_begun(self, server: LoopbackAlpaca) -> None:
        updates = TradeUpdates(KEYS, Endpoints.loopback(server.url), Inbox())
        updates.stop()
        updates.start()
        self.ends_quickly(updates)
        updates.stop()

    def test_it_can_begin_again(self, server: LoopbackAlpaca) -> None:
        inbox = Inbox()
        with listening(server, inbox) as updates:
            updates.stop()
            updates.start()
            until(lambda: updates.is_listening)
            server.wait_for_listeners()
            trade(server)
            until(lambda: len(inbox.bodies) == 2)


def test_keys_are_in_no_log_however_much_is_logged(server: LoopbackAlpaca, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(server, Inbox()) as updates:
        server.script(Fault("close", path="/stream", code=1011))
        until(lambda: updates.connection == 2)
        trade(server)
    said = "\n".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert "selector" in said  # something was logged
    assert KEYS.secret_key not in said
    assert KEYS.key_id not in said


def test_a_thousand_updates_are_all_stored(server: LoopbackAlpaca) -> None:
    inbox = Inbox()
    with listening(server, inbox):
        for number in range(500):
            with server.lock:
                server.venue.submit(buy(f"a-{number}", "AAA", Decimal(1)))
        server.advance(120)
        until(lambda: len(inbox.bodies) == 1000, within_s=20)
