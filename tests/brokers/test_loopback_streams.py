"""The loopback Alpaca's streams, as the real alpaca-py and a bare websocket see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
from loopback import Fault, FaultKind, LoopbackAlpaca
from loopback.clients import KEY_ID, SECRET_KEY, data_listener, serving, trade_listener, trading_client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from worlds import D, at, venue

AUTHENTICATE = {"action": "authenticate", "data": {"key_id": KEY_ID, "secret_key": SECRET_KEY}}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates"]}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    with serving(venue(tmp_path)) as running:
        yield running


def buy(server: LoopbackAlpaca, client_order_id: str, **more: object) -> dict:
    """Send an order for ten shares of AAA."""
    made = {"symbol": "AAA", "side": "buy", "qty": "10", "type": "market", "time_in_force": "day"}
    return trading_client(server).post("/orders", {**made, "client_order_id": client_order_id, **more})


def ask(connection: ClientConnection, message: object) -> Any:
    """Send a message to the trade stream and return what it answers."""
    connection.send(json.dumps(message))
    return json.loads(connection.recv(timeout=5))


def listening(server: LoopbackAlpaca) -> ClientConnection:
    """A bare websocket that listens to trade updates."""
    connection = connect(server.stream_url)
    assert ask(connection, AUTHENTICATE)["data"]["status"] == "authorized"
    ask(connection, LISTEN)
    return connection


def told(connection: ClientConnection) -> tuple[str, str]:
    """Event and client order id of the next message."""
    data = json.loads(connection.recv(timeout=5))["data"]
    return data["event"], data["order"]["client_order_id"]


# ------------------------------------------------------------------ trade updates


def test_alpaca_py_hears_an_order_from_new_to_filled(server: LoopbackAlpaca) -> None:
    with trade_listener(server) as listener:
        server.wait_for_listeners()
        buy(server, "a-1")
        server.advance(60)
        new, fill = listener.wait(lambda heard: len(heard) == 2)
    assert (new["stream"], new["data"]["event"], new["data"]["order"]["status"]) == ("trade_updates", "new", "new")
    data = fill["data"]
    assert set(data) == {"event", "timestamp", "at", "order", "price", "qty", "position_qty", "execution_id"}
    assert (data["event"], data["price"], data["qty"], data["position_qty"]) == ("fill", "101", "10", "10")
    assert data["timestamp"].startswith("2024-01-09T15:01:00")
    [row] = trading_client(server).get("/account/activities/FILL")
    assert row["id"].endswith(data["execution_id"])
    assert data["order"] == trading_client(server).get_order_by_client_id("a-1")


def test_the_models_of_alpaca_py_take_every_event(server: LoopbackAlpaca) -> None:
    with trade_listener(server, raw=False) as listener:
        server.wait_for_listeners()
        with server.lock:
            server.venue.fill_next("a-1", D("0.5"), hold_rest=True)
        buy(server, "a-1")
        server.advance_to(at(1, 21, 5))
        updates = listener.wait(lambda heard: len(heard) == 3)
    assert [(update.event, update.order.filled_qty) for update in updates] == [
        ("new", "0"),
        ("partial_fill", "5"),
        ("expired", "5"),
    ]
    assert [update.timestamp for update in updates[1:]] == [at(1, 15, 1), at(1, 21, 0)]


def test_frames_are_binary_and_hold_json(server: LoopbackAlpaca) -> None:
    with connect(server.stream_url) as connection:
        connection.send(json.dumps(AUTHENTICATE))
        answer = connection.recv(timeout=5)
        assert isinstance(answer, bytes)
        assert json.loads(answer) == {
            "stream": "authorization",
            "data": {"status": "authorized", "action": "authenticate"},
        }
        assert ask(connection, LISTEN) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}


def test_a_cancel_is_heard_before_the_answer_to_it_ends(server: LoopbackAlpaca) -> None:
    with listening(server) as connection:
        sent = buy(server, "a-1", type="limit", limit_price="1")
        trading_client(server).delete(f"/orders/{sent['id']}")
        assert [told(connection), told(connection)] == [("new", "a-1"), ("canceled", "a-1")]


def test_an_order_that_runs_out_of_cash_is_filled_in_part_and_then_cancelled(server: LoopbackAlpaca) -> None:
    """At 50 USD it seemed to fit; at 60, the close of its session, only 1,666 shares did."""
    with listening(server) as connection:
        server.advance_to(at(2, 15, 0))
        buy(server, "a-1", symbol="BBB", qty="2400")
        server.advance(60)
        messages = [json.loads(connection.recv(timeout=5))["data"] for _ in range(3)]
    assert [(each["event"], each["order"]["status"], each["order"]["filled_qty"]) for each in messages] == [
        ("new", "new", "0"),
        ("partial_fill", "partially_filled", "1666"),
        ("canceled", "canceled", "1666"),
    ]


def test_events_come_in_the_order_and_with_the_positions_of_the_venue(server: LoopbackAlpaca) -> None:
    with listening(server) as connection:
        for name in ("a-1", "a-2", "a-3"):
            buy(server, name)
        server.advance(60)
        messages = [json.loads(connection.recv(timeout=5))["data"] for _ in range(6)]
    fills = [each for each in messages if each["event"] == "fill"]
    assert [each["order"]["client_order_id"] for each in fills] == ["a-1", "a-2", "a-3"]
    assert [each["position_qty"] for each in fills] == ["10", "20", "30"]
    assert [each["at"][:26] for each in fills] == [
        "2024-01-09T15:00:59.999998",
        "2024-01-09T15:00:59.999999",
        "2024-01-09T15:01:00.000000",
    ]


def test_what_is_missed_in_a_gap_is_not_repeated(server: LoopbackAlpaca) -> None:
    with listening(server):
        buy(server, "a-1")
    server.wait_for_listeners(0)
    server.advance(60)
    with listening(server) as connection:
        buy(server, "a-2")
        assert told(connection) == ("new", "a-2")


def test_wrong_keys_hear_nothing(server: LoopbackAlpaca) -> None:
    with connect(server.stream_url) as connection:
        wrong = {"action": "authenticate", "data": {"key_id": KEY_ID, "secret_key": "wrong"}}
        assert ask(connection, wrong)["data"] == {"status": "unauthorized", "action": "authenticate"}
        connection.send(json.dumps(LISTEN))
        buy(server, "a-1")
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.05)


def test_a_second_connection_is_closed_until_the_first_has_gone(server: LoopbackAlpaca) -> None:
    with listening(server) as first:
        with connect(server.stream_url) as second:
            second.send(json.dumps(AUTHENTICATE))
            with pytest.raises(ConnectionClosed) as closed:
                second.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        buy(server, "a-1")
        assert told(first) == ("new", "a-1")
    server.wait_for_listeners(0)
    listening(server).close()


def test_what_is_no_message_ends_the_connection(server: LoopbackAlpaca) -> None:
    with connect(server.stream_url) as connection:
        connection.send(b"\xff\x00")
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


def test_an_unavailable_venue_cuts_its_streams(server: LoopbackAlpaca) -> None:
    connection = listening(server)
    buy(server, "a-1")
    assert told(connection) == ("new", "a-1")
    with server.lock:
        server.venue.set_unavailable(True)
    server.advance(60)
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=5)
    assert closed.value.rcvd is None
    with server.lock:
        server.venue.set_unavailable(False)
    assert trading_client(server).get_order_by_client_id("a-1")["status"] == "filled"


# ------------------------------------------------------------------ faults of the streams


def heard(server: LoopbackAlpaca, *faults: Fault, orders: int = 3) -> list[Any]:
    """What a listener hears of that many new orders when the faults strike its stream; bytes that are no JSON stay."""
    found: list[Any] = []
    with listening(server) as connection:
        server.script(*faults)
        for number in range(orders):
            buy(server, f"a-{number}", qty=1)
        server.clear_faults()
        buy(server, "last", qty=1)
        while not (found and found[-1] == ("new", "last")):
            frame = connection.recv(timeout=5)
            try:
                data = json.loads(frame)["data"]
            except ValueError:
                found.append(frame)
            else:
                found.append((data["event"], data["order"]["client_order_id"]))
    return found[:-1]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("duplicate"), ["a-0", "a-0", "a-1", "a-2"]),
        (Fault("missing", nth=2), ["a-0", "a-2"]),
        (Fault("missing", times=2), ["a-2"]),
        (Fault("missing", times=0), []),
        (Fault("reorder"), ["a-1", "a-0", "a-2"]),
        (Fault("reorder", nth=3), ["a-0", "a-1"]),  # what would follow it never comes before the end
        (Fault("missing", path="/v2/iex"), ["a-0", "a-1", "a-2"]),
    ],
)
def test_messages_that_are_doubled_lost_or_late(server: LoopbackAlpaca, fault: Fault, expected: list[str]) -> None:
    assert [name for _, name in heard(server, fault)] == expected


def test_a_frame_that_is_no_message(server: LoopbackAlpaca) -> None:
    first, *rest = heard(server, Fault("garbage"), orders=1)
    assert isinstance(first, bytes)
    assert rest == [("new", "a-0")]


def test_an_event_nobody_knows(server: LoopbackAlpaca) -> None:
    events = [event for event, _ in heard(server, Fault("unknown_event"), Fault("unknown_event", text="trade_bust"))]
    assert events == ["trade_bust", "new", "new"]


def test_alpaca_pys_models_lose_a_message_with_an_unknown_status(server: LoopbackAlpaca) -> None:
    """The reason to read the stream raw: the client logs the error and goes on without the message."""
    with trade_listener(server, raw=False) as strict:
        server.wait_for_listeners()
        server.script(Fault("unknown_status", text="held_for_review"))
        buy(server, "a-1")
        buy(server, "a-2")
        assert [each.order.client_order_id for each in strict.wait(lambda got: bool(got))] == ["a-2"]


def test_a_mute_connection_answers_pings_and_says_nothing(server: LoopbackAlpaca) -> None:
    with listening(server) as connection:
        server.script(Fault("mute"))
        buy(server, "a-1")
        assert connection.ping().wait(timeout=5)
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.05)


def test_a_deaf_connection_answers_no_pings(server: LoopbackAlpaca) -> None:
    """alpaca-py gives up on it when its own pings go unanswered, and connects again."""
    with trade_listener(server, ping_interval=0.05, ping_timeout=0.1, close_timeout=0.05) as listener:
        listener.stream._reconnect_min_backoff = listener.stream._reconnect_max_backoff = 0.2
        server.wait_for_listeners()
        server.script(Fault("deaf"))
        server.wait_for_listeners(0)
        server.wait_for_listeners(1)
        buy(server, "a-1")
        assert listener.wait(lambda heard: bool(heard))[0]["data"]["event"] == "new"


@pytest.mark.parametrize("code", [1001, 1006, 1011, 4406])
def test_a_connection_closed_with_a_code_is_made_again(server: LoopbackAlpaca, code: int) -> None:
    with trade_listener(server) as listener:
        server.wait_for_listeners()
        server.script(Fault("close", code=code))
        server.wait_for_listeners(1)
        buy(server, "a-1")
        assert listener.wait(lambda heard: bool(heard))[0]["data"]["order"]["client_order_id"] == "a-1"


@pytest.mark.parametrize("code", [1001, 1006, 1011, 4406])
def test_close_codes_arrive_as_scripted(server: LoopbackAlpaca, code: int) -> None:
    with listening(server) as connection:
        server.script(Fault("close", code=code, text="going"))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=5)
        received = closed.value.rcvd
        assert (received.code, received.reason) == (code, "going") if received else code == 1006


def test_a_handshake_can_be_refused(server: LoopbackAlpaca) -> None:
    """As Alpaca does while it has not noticed that the connection before is gone."""
    server.script(Fault("status", path="/stream", status=429, times=2))
    with pytest.raises(InvalidStatus) as refused:
        connect(server.stream_url)
    assert refused.value.response.status_code == 429
    with trade_listener(server) as listener:
        server.wait_for_listeners()
        buy(server, "a-1")
        assert listener.wait(lambda heard: bool(heard))[0]["data"]["event"] == "new"


def test_a_fault_for_any_request_spares_the_handshakes(server: LoopbackAlpaca) -> None:
    server.script(Fault("status", status=500))
    listening(server).close()
    assert len(server.faults) == 1


def test_there_is_no_stream_at_another_path(server: LoopbackAlpaca) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{server.stream_url}/other")
    assert refused.value.response.status_code == 404


def test_a_fault_for_connections_waits_for_one(server: LoopbackAlpaca) -> None:
    server.script(Fault(FaultKind.MUTE, path="/stream"))
    assert len(server.faults) == 1
    with connect(server.stream_url) as connection:
        connection.send(json.dumps(AUTHENTICATE))
        assert json.loads(connection.recv(timeout=5))["data"]["status"] == "authorized"
        connection.send(json.dumps(LISTEN))
        with pytest.raises(TimeoutError):
            connection.recv(timeout=0.05)
    assert server.faults == ()


# ------------------------------------------------------------------ market data


def test_alpaca_py_hears_quotes_bars_and_halts(server: LoopbackAlpaca) -> None:
    with data_listener(server, "AAA", "BBB") as listener:
        server.wait_for_listeners(path="/v2/iex")
        with server.lock:
            server.venue.halt("AAA")
        server.advance_to(at(1, 21, 0))
        with server.lock:
            server.venue.unhalt("AAA")
        server.settle()
        got = listener.wait(lambda heard: [each["T"] for each in heard].count("s") == 2)
    quotes = [each for each in got if each["T"] == "q" and each["S"] == "AAA"]
    assert [each["bp"] for each in quotes] == [101.0]
    assert quotes[0]["t"].to_datetime() == at(1, 21, 0)
    [bar] = [each for each in got if each["T"] == "d" and each["S"] == "AAA"]
    assert (bar["c"], bar["t"].to_datetime()) == (101.0, datetime(2024, 1, 9, 5, tzinfo=UTC))
    assert [(each["S"], each["sc"]) for each in got if each["T"] == "s"] == [("AAA", "H"), ("AAA", "T")]


def test_alpaca_pys_models_take_market_data(server: LoopbackAlpaca) -> None:
    with data_listener(server, "AAA", raw=False) as listener:
        server.wait_for_listeners(path="/v2/iex")
        server.advance(60)
        [quote] = listener.wait(lambda heard: bool(heard))
    assert (quote.symbol, quote.ask_price, quote.timestamp) == ("AAA", 100.0, at(1, 15, 1))


def said(connection: ClientConnection, message: object = None) -> dict:
    """What the data stream says next, or in answer to a message."""
    if message is not None:
        connection.send(msgpack.packb(message))
    [answer] = msgpack.unpackb(connection.recv(timeout=5))
    return answer


def test_the_data_stream_speaks_messagepack_and_first(server: LoopbackAlpaca) -> None:
    keys = {"action": "auth", "key": KEY_ID, "secret": SECRET_KEY}
    with connect(server.data_stream_url) as connection:
        assert said(connection) == {"T": "success", "msg": "connected"}
        assert said(connection, {"action": "subscribe", "quotes": ["AAA"]})["code"] == 401
        assert said(connection, {**keys, "secret": "wrong"})["code"] == 402
        assert said(connection, keys) == {"T": "success", "msg": "authenticated"}
        assert said(connection, keys)["code"] == 403
        assert said(connection, {"action": "dance"})["code"] == 400
        many = [f"S{number}" for number in range(31)]
        assert said(connection, {"action": "subscribe", "quotes": many})["msg"] == "symbol limit exceeded"
        subscribed = said(connection, {"action": "subscribe", "quotes": many[:30], "dailyBars": ["AAA"]})
        assert (subscribed["T"], subscribed["quotes"], subscribed["dailyBars"]) == ("subscription", many[:30], ["AAA"])
        left = said(connection, {"action": "unsubscribe", "quotes": many[1:30]})
        assert left["quotes"] == ["S0"]
        with connect(server.data_stream_url) as second:
            said(second)
            assert said(second, keys)["code"] == 406


def test_the_consolidated_stream_is_for_those_who_pay(server: LoopbackAlpaca, tmp_path: Path) -> None:
    keys = {"action": "auth", "key": KEY_ID, "secret": SECRET_KEY}
    with connect(server.data_stream_url.replace("iex", "sip")) as connection:
        said(connection)
        assert said(connection, keys)["code"] == 409
    (tmp_path / "paid").mkdir()
    with (
        serving(venue(tmp_path / "paid"), real_time_sip=True) as paid,
        connect(paid.data_stream_url.replace("iex", "sip")) as connection,
    ):
        said(connection)
        assert said(connection, keys)["msg"] == "authenticated"
