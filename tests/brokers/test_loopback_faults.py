"""What goes wrong on the way to the loopback Alpaca, and what the real alpaca-py makes of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from loopback import Fault, FaultKind, LoopbackAlpaca
from loopback.clients import data_client, serving, trading_client
from pydantic import ValidationError
from worlds import D, at, venue

ORDER = {"symbol": "AAA", "side": "buy", "qty": "10", "type": "market", "time_in_force": "day"}
SENDING = {"method": "POST", "path": "/v2/orders"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    with serving(venue(tmp_path)) as running:
        yield running


@pytest.fixture
def client(server: LoopbackAlpaca) -> TradingClient:
    return trading_client(server)


def quotes(server: LoopbackAlpaca, *symbols: str) -> dict[str, dict]:
    """Latest quotes of the symbols."""
    return data_client(server).get("/stocks/quotes/latest", {"symbols": ",".join(symbols)})["quotes"]


# ------------------------------------------------------------------ instead of an answer


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(("when", "arrived"), [("before", False), ("after", True)])
def test_a_bad_status_before_or_after_the_order_was_taken(
    server: LoopbackAlpaca, client: TradingClient, status: int, when: Any, arrived: bool
) -> None:
    server.script(Fault("status", status=status, when=when, **SENDING))
    with pytest.raises(APIError) as raised:
        client.post("/orders", {**ORDER, "client_order_id": "a-1"})
    assert raised.value.status_code == status
    assert ("a-1" in server.venue.book.order_ids) is arrived
    assert server.requests[-1].status == status
    assert client.get_account()["status"] == "ACTIVE"


def test_alpaca_py_left_alone_sends_an_order_again_after_a_504(server: LoopbackAlpaca) -> None:
    """Why its retries must be off: an order with an id of the client's seems refused, one without is doubled."""
    client = TradingClient("PKTEST", "test-secret", url_override=server.url, raw_data=True)
    client._retry_wait = 0
    server.script(Fault("status", status=504, when="after", **SENDING))
    with pytest.raises(APIError) as raised:
        client.post("/orders", {**ORDER, "client_order_id": "a-1"})
    assert (raised.value.status_code, raised.value.message) == (422, "client_order_id must be unique")
    server.script(Fault("status", status=504, when="after", **SENDING))
    client.post("/orders", ORDER)
    assert [request.status for request in server.requests] == [504, 422, 504, 200]
    assert len(server.venue.orders()) == 3


def test_the_two_apis_say_429_differently_and_both_say_when_to_come_again(
    server: LoopbackAlpaca, client: TradingClient
) -> None:
    server.script(Fault("status", status=429, times=2))
    with pytest.raises(APIError) as trading:
        client.get_account()
    with pytest.raises(APIError) as data:
        quotes(server, "AAA")
    assert json.loads(str(trading.value)) == {"code": 42910000, "message": "rate limit exceeded"}
    assert json.loads(str(data.value)) == {"message": "too many requests."}
    headers = trading.value.response.headers  # type: ignore[union-attr]
    assert headers["X-RateLimit-Remaining"] == "0"
    assert 0 <= int(headers["X-RateLimit-Reset"]) - server.venue.now.timestamp() <= 60


def test_a_429_can_say_how_long_it_lasts(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("status", status=429, seconds=7))
    with pytest.raises(APIError) as raised:
        client.get_account()
    headers = raised.value.response.headers  # type: ignore[union-attr]
    assert int(headers["X-RateLimit-Reset"]) == server.venue.now.timestamp() + 7


def test_a_status_with_a_body_of_ones_own(server: LoopbackAlpaca, client: TradingClient) -> None:
    told = {"code": 40310000, "message": "account is restricted to liquidation only"}
    server.script(Fault("status", status=403, body=told, **SENDING))
    with pytest.raises(APIError) as raised:
        client.post("/orders", ORDER)
    assert json.loads(str(raised.value)) == told


@pytest.mark.parametrize(("when", "arrived"), [("before", False), ("after", True)])
def test_a_connection_that_closes_without_an_answer(
    server: LoopbackAlpaca, client: TradingClient, when: Any, arrived: bool
) -> None:
    server.script(Fault("drop", when=when, **SENDING))
    with pytest.raises(requests.ConnectionError):
        client.post("/orders", ORDER)
    assert bool(server.venue.orders()) is arrived
    assert server.requests[-1].status is None


def test_an_answer_that_comes_late(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("delay", path="/v2/clock", seconds=0.1))
    began = time.monotonic()
    assert client.get_clock()["is_open"]
    assert time.monotonic() - began >= 0.1
    assert client.get_clock()["is_open"]


def test_an_answer_that_never_comes(server: LoopbackAlpaca, client: TradingClient) -> None:
    """alpaca-py has no time-out of its own: it waits until the connection ends."""
    server.script(Fault("hang", when="after", **SENDING))
    outcome: list[Exception] = []

    def send() -> None:
        try:
            client.post("/orders", ORDER)
        except requests.ConnectionError as error:
            outcome.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(timeout=0.1)
    assert sender.is_alive()
    assert len(server.venue.orders()) == 1
    server.clear_faults()
    sender.join(timeout=5)
    assert len(outcome) == 1


def test_a_stopped_server_lets_go_of_what_hangs(tmp_path: Path) -> None:
    with serving(venue(tmp_path)) as server:
        server.script(Fault("hang"))
        client = trading_client(server)

        def ask() -> None:
            with suppress(requests.ConnectionError):
                client.get_clock()

        waiting = threading.Thread(target=ask)
        waiting.start()
        while server.faults:
            time.sleep(0.001)
    waiting.join(timeout=5)
    assert not waiting.is_alive()


@pytest.mark.parametrize("status", [0, 503, 504])
def test_a_gateways_html_page(server: LoopbackAlpaca, client: TradingClient, status: int) -> None:
    """alpaca-py's own `code` and `message` raise on it: the status comes first."""
    server.script(Fault("html", status=status))
    with pytest.raises(APIError) as raised:
        client.get_account()
    assert raised.value.status_code == (status or 502)
    assert str(raised.value).startswith("<html>")
    with pytest.raises(ValueError, match="Expecting value"):
        _ = raised.value.code


def test_an_html_page_with_a_good_status_is_no_json(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("html", status=200))
    with pytest.raises(requests.JSONDecodeError):
        client.get_account()


def test_a_redirect_is_followed_by_no_one(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("redirect"))
    assert client.get_account() is None  # alpaca-py takes an empty 3xx for an empty answer
    assert server.requests[-1].status == 302


def test_an_answer_that_breaks_off(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("truncated", **SENDING))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.post("/orders", ORDER)
    assert len(server.venue.orders()) == 1


# ------------------------------------------------------------------ answers that are not as they should be


def test_an_answer_of_another_type(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("wrong_type", times=2), Fault("wrong_type", path="/v2/clock", nth=2, body="soon"))
    assert client.get_account() == []
    assert client.get_clock() == []
    assert client.get_clock() == "soon"


def test_an_empty_page_with_the_same_token(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("empty_page", times=2))
    assert client.get("/account/activities") == []
    asked = {"symbols": "AAA,BBB", "timeframe": "1Day", "start": "2024-01-01", "limit": 1, "feed": "iex"}
    empty = data_client(server).get("/stocks/bars", asked)
    assert empty["bars"] == {}
    assert empty == {**data_client(server).get("/stocks/bars", asked), "bars": {}}


def test_values_nobody_knows_and_fields_that_are_missing(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(
        Fault("set", path="/v2/account$", fields={"status": "QUANTUM"}),
        Fault("omit", path="/v2/account$", fields=("multiplier", "crypto_status"), nth=2),
        Fault("set", path="/v2/assets", fields={"class": "crypto_perp", "exchange": "ASCX"}, where={"symbol": "BBB"}),
        Fault("omit", path="/v2/assets", fields=("easy_to_borrow",), where={"symbol": "AAA"}),
    )
    assert client.get_account()["status"] == "QUANTUM"
    assert not {"multiplier", "crypto_status"}.intersection(client.get_account())
    assets = {row["symbol"]: row for row in client.get_all_assets()}
    assert (assets["BBB"]["class"], assets["BBB"]["exchange"]) == ("crypto_perp", "ASCX")
    assert assets["AAA"]["class"] == "us_equity"
    assert {symbol for symbol, row in assets.items() if "easy_to_borrow" not in row} == {"AAA"}


def test_one_row_alpaca_pys_models_do_not_know_loses_them_the_whole_list(server: LoopbackAlpaca) -> None:
    strict = trading_client(server, raw=False)
    server.script(Fault("omit", path="/v2/assets", fields=("easy_to_borrow",), where={"symbol": "AAA"}))
    with pytest.raises(ValidationError):
        strict.get_all_assets()


def test_an_order_status_nobody_knows(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", {**ORDER, "client_order_id": "a-1"})
    server.script(Fault("set", path="by_client_order_id", fields={"status": "quantum"}))
    assert client.get_order_by_client_id("a-1")["status"] == "quantum"


def test_quotes_of_zero(server: LoopbackAlpaca) -> None:
    server.script(Fault("zero_quotes", path="/quotes/latest", symbols=("AAA",)))
    found = quotes(server, "AAA", "BBB")
    assert (found["AAA"]["bp"], found["AAA"]["ap"], found["AAA"]["as"]) == (0, 0, 0)
    assert found["BBB"]["bp"] == 50.0
    assert quotes(server, "AAA")["AAA"]["bp"] == 100.0


def test_quotes_that_are_old_also_inside_snapshots(server: LoopbackAlpaca) -> None:
    server.script(Fault("stale_quotes", seconds=900, times=0))
    assert quotes(server, "AAA")["AAA"]["t"] == "2024-01-09T14:45:00Z"
    snapshot = data_client(server).get("/stocks/snapshots", {"symbols": "AAA"})["AAA"]
    assert snapshot["latestQuote"]["t"] == snapshot["latestTrade"]["t"] == "2024-01-09T14:45:00Z"
    server.clear_faults()
    assert quotes(server, "AAA")["AAA"]["t"] == "2024-01-09T15:00:00Z"


def test_symbols_that_are_missing(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("missing_symbols", symbols=("AAA",), times=3))
    assert set(quotes(server, "AAA", "BBB")) == {"BBB"}
    asked = {"symbols": "AAA,BBB", "timeframe": "1Day", "start": "2024-01-01", "feed": "iex"}
    assert set(data_client(server).get("/stocks/bars", asked)["bars"]) == {"BBB"}
    assert "AAA" not in {row["symbol"] for row in client.get_all_assets()}


def test_a_clock_that_is_wrong(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("skewed_clock", seconds=-90, times=0))
    assert client.get_clock()["timestamp"] == "2024-01-09T09:58:30-05:00"
    assert client.get_clock()["next_close"] == "2024-01-09T16:00:00-05:00"
    assert server.venue.now == at(1, 15, 0)


def test_a_skew_of_other_times(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", {**ORDER, "client_order_id": "a-1"})
    server.script(
        Fault("skewed_clock", path="/v2/orders", seconds=60), Fault("skewed_clock", path="/quotes/", seconds=5)
    )
    skewed = client.get_order_by_client_id("a-1")
    assert (skewed["submitted_at"], skewed["expires_at"]) == ("2024-01-09T15:01:00Z", "2024-01-09T21:01:00Z")
    assert skewed["filled_at"] is None
    assert quotes(server, "AAA")["AAA"]["t"] == "2024-01-09T15:00:05Z"


def test_a_fault_leaves_an_empty_answer_empty(server: LoopbackAlpaca, client: TradingClient) -> None:
    """A body after a 204 would be read as the next answer."""
    limit = {**ORDER, "type": "limit", "limit_price": "1"}
    sent = [client.post("/orders", limit)["id"] for _ in range(2)]
    server.script(Fault("wrong_type", method="DELETE"), Fault("empty_page", method="DELETE", nth=2))
    assert [client.delete(f"/orders/{name}") for name in sent] == [None, None]
    assert client.get_clock()["is_open"]


# ------------------------------------------------------------------ which request is struck


def test_a_fault_strikes_the_nth_request_it_matches_and_as_many_as_it_says(
    server: LoopbackAlpaca, client: TradingClient
) -> None:
    server.script(Fault("status", status=500, path="/v2/clock", nth=2, times=2))
    statuses = []
    for _ in range(5):
        try:
            client.get_clock()
        except APIError as error:
            statuses.append(error.status_code)
        else:
            client.get_account()  # matches nothing, and is not counted
            statuses.append(200)
    assert statuses == [200, 500, 500, 200, 200]
    assert server.faults == ()


@pytest.mark.parametrize(
    ("match", "is_struck"),
    [
        ({}, True),
        ({"method": "GET"}, True),
        ({"method": "POST"}, False),
        ({"method": "GE"}, False),
        ({"path": "^/v2/account$"}, True),
        ({"path": "/v2/acc"}, True),
        ({"path": "/v2/orders"}, False),
    ],
)
def test_methods_are_matched_in_full_and_paths_anywhere(
    server: LoopbackAlpaca, client: TradingClient, match: dict, is_struck: bool
) -> None:
    server.script(Fault("wrong_type", **match))
    assert (client.get_account() == []) is is_struck


def test_several_faults_can_strike_one_request(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("delay", seconds=0.05), Fault("status", status=503))
    began = time.monotonic()
    with pytest.raises(APIError) as raised:
        client.get_account()
    assert raised.value.status_code == 503
    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "earthquake"}, "earthquake"),
        ({"kind": "status"}, "Expected a status"),
        ({"kind": "drop", "nth": 0}, "Expected nth >= 1"),
        ({"kind": "drop", "when": "during"}, "before or after"),
        ({"kind": "drop", "colour": "red"}, "Expected the keys"),
        ({"path": "/v2/clock"}, "with kind among them"),
        (["drop"], "as a JSON object"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(given: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault.from_json(given)


def test_a_fault_can_be_written_as_json() -> None:
    written = {"kind": "omit", "path": "/v2/assets", "fields": ["cusip"], "where": {"symbol": "AAA"}, "times": 0}
    assert Fault.from_json(json.loads(json.dumps(written))) == Fault(
        FaultKind.OMIT, path="/v2/assets", fields=("cusip",), where={"symbol": "AAA"}, times=0
    )


def test_the_table_of_kinds_names_every_kind() -> None:
    from loopback import faults

    assert faults.__doc__ is not None
    assert not [kind for kind in FaultKind if kind.value not in faults.__doc__]


def test_faults_do_nothing_to_the_venue(server: LoopbackAlpaca, client: TradingClient) -> None:
    server.script(Fault("zero_quotes", times=0), Fault("set", fields={"cash": "0"}, times=0))
    client.post("/orders", ORDER)
    assert client.get_account()["cash"] == "0"
    server.advance_to(server.venue.now + timedelta(seconds=60))
    assert server.venue.cash == 100_000 - D("101.00") * 10
