"""The loopback Alpaca's trading API, as the real alpaca-py sees it: account, orders, refusals, history."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import GetOrdersRequest, LimitOrderRequest, MarketOrderRequest
from loopback import LoopbackAlpaca
from loopback.clients import KEY_ID, serving, trading_client
from worlds import BEFORE, DAYS, SECURITIES, D, at, prices, venue

ORDER_KEYS = {
    "asset_class", "asset_id", "canceled_at", "client_order_id", "created_at", "expired_at", "expires_at",
    "extended_hours", "failed_at", "filled_at", "filled_avg_price", "filled_qty", "hwm", "id", "legs", "limit_price",
    "notional", "order_class", "order_type", "position_intent", "qty", "replaced_at", "replaced_by", "replaces", "side",
    "source", "status", "stop_price", "submitted_at", "subtag", "symbol", "time_in_force", "trail_percent",
    "trail_price", "type", "updated_at",
}  # fmt: skip
FILL_KEYS = {
    "activity_type", "cum_qty", "id", "leaves_qty", "order_id", "order_status", "price", "qty", "side", "symbol",
    "transaction_time", "type",
}  # fmt: skip
POSITION_KEYS = {
    "asset_class", "asset_id", "asset_marginable", "avg_entry_price", "change_today", "cost_basis", "current_price",
    "exchange", "lastday_price", "market_value", "qty", "qty_available", "side", "symbol", "unrealized_intraday_pl",
    "unrealized_intraday_plpc", "unrealized_pl", "unrealized_plpc",
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    with serving(venue(tmp_path, half_spread_bps=D(5), fractional=True)) as running:
        yield running


@pytest.fixture
def client(server: LoopbackAlpaca) -> TradingClient:
    return trading_client(server)


def body(client_order_id: str, symbol: str = "AAA", side: str = "buy", qty: object = "10", **more: object) -> dict:
    """A day order at the market, unless told otherwise."""
    made = {"symbol": symbol, "side": side, "qty": qty, "type": "market", "time_in_force": "day"}
    return {**made, "client_order_id": client_order_id, **more}


def refusal(client: TradingClient, order: dict) -> tuple[int, dict]:
    """Status and body with which the order is refused, as it must be."""
    with pytest.raises(APIError) as raised:
        client.post("/orders", order)
    assert raised.value.status_code is not None
    return raised.value.status_code, json.loads(str(raised.value))


# ------------------------------------------------------------------ account


def test_the_models_of_alpaca_py_take_every_answer(server: LoopbackAlpaca) -> None:
    """Model mode is strict: an enum member or a missing field it does not know raises."""
    client = trading_client(server, raw=False)
    request = MarketOrderRequest(symbol="AAA", qty=10, side=OrderSide.BUY, time_in_force=TimeInForce.DAY)
    assert client.submit_order(request).status is OrderStatus.PENDING_NEW
    server.advance(60)
    [filled] = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED))
    assert (filled.status, filled.filled_qty) == (OrderStatus.FILLED, "10")
    assert client.get_account().account_number == "SIM-1"
    assert [position.symbol for position in client.get_all_positions()] == ["AAA"]
    assert client.get_open_position("AAA").qty == "10"
    assert {asset.symbol for asset in client.get_all_assets()} == {"AAA", "BBB", "FRC", "OFF"}
    assert client.get_asset("FRC").fractionable
    assert client.get_clock().is_open
    assert [day.date for day in client.get_calendar()] == list(DAYS)
    assert client.get_account_configurations().max_margin_multiplier == "4"


def test_an_account_tells_its_cash_in_strings_and_no_day_trader_fields(
    server: LoopbackAlpaca, client: TradingClient
) -> None:
    client.post("/orders", body("a-1"))
    server.advance(60)
    account = client.get_account()
    cash = 100_000 - D("101.06") * 10  # a cent and more above the close: half the spread, rounded against us
    assert account["cash"] == f"{cash:f}".rstrip("0")
    assert account["long_market_value"] == "1000"
    assert account["equity"] == f"{cash + 1000:f}".rstrip("0")
    assert account["multiplier"] == "4"
    assert D(account["buying_power"]) > D(account["cash"])
    assert not {key for key in account if "day" in key and "trad" in key} - {"intraday_adjustments"}
    assert account["created_at"].endswith("Z")


def test_the_equity_of_the_last_close_is_kept_through_the_day(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1"))
    server.advance_to(at(2, 15, 0))
    account = client.get_account()
    assert D(account["last_equity"]) == D(account["cash"]) + 10 * 101
    assert account["balance_asof"] == DAYS[1].isoformat()


def test_wrong_keys_are_turned_away(server: LoopbackAlpaca) -> None:
    client = TradingClient(KEY_ID, "wrong", url_override=server.url, raw_data=True)
    with pytest.raises(APIError) as raised:
        client.get_account()
    assert raised.value.status_code == 401
    assert json.loads(str(raised.value)) == {"message": "unauthorized."}


def test_configurations_are_the_users_and_are_kept(server: LoopbackAlpaca, client: TradingClient) -> None:
    assert client.patch("/account/configurations", {"max_margin_multiplier": "1", "no_shorting": True})["no_shorting"]
    account = client.get_account()
    assert (account["multiplier"], account["shorting_enabled"]) == ("1", False)
    assert account["buying_power"] == account["cash"]
    client.patch("/account/configurations", {"suspend_trade": True})
    assert refusal(client, body("a-1")) == (
        403,
        {"code": 40310000, "message": "new orders are rejected by user request"},
    )


def test_a_position_is_told_as_alpaca_tells_it(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1", "FRC", qty="1.5"))
    server.advance(60)
    client.post("/orders", body("a-2", "FRC", "sell", "0.25", type="limit", limit_price="99"))
    [position] = client.get_all_positions()
    assert set(position) == POSITION_KEYS
    assert (position["qty"], position["qty_available"]) == ("1.5", "1.25")
    assert (position["current_price"], position["lastday_price"], position["change_today"]) == ("10", "10", "0")
    assert position["cost_basis"] == f"{D('11.01') * D('1.5') + D('0.005'):.2f}"
    assert position == client.get_open_position(UUID(position["asset_id"]))
    server.advance_to(at(1, 22, 0))
    after = client.get_open_position("FRC")
    assert (after["current_price"], after["lastday_price"], after["change_today"]) == ("11", "10", "0.1")


def test_a_position_there_is_not(client: TradingClient) -> None:
    with pytest.raises(APIError) as raised:
        client.get_open_position("AAA")
    assert raised.value.status_code == 404
    assert (raised.value.code, raised.value.message) == (40410000, "position does not exist")


def test_assets_name_a_cusip_only_where_it_is_known(tmp_path: Path) -> None:
    known = replace(prices(), securities={**SECURITIES, "AAA": replace(SECURITIES["AAA"], cusip="037833100")})
    with serving(venue(tmp_path, world=known)) as server:
        rows = {row["symbol"]: row for row in trading_client(server).get("/assets", {"status": "active"})}
    assert rows["AAA"]["cusip"] == "037833100"
    assert "cusip" not in rows["BBB"]
    assert not rows["FRC"]["fractionable"]  # the venue takes whole shares
    assert (rows["OFF"]["tradable"], rows["OFF"]["status"]) == (False, "active")


def test_an_asset_there_is_not(client: TradingClient) -> None:
    with pytest.raises(APIError) as raised:
        client.get_asset("NOSUCH")
    assert (raised.value.status_code, raised.value.message) == (404, "asset not found for NOSUCH")


def test_the_clock_has_new_york_offsets_and_moves_only_when_told(server: LoopbackAlpaca, client: TradingClient) -> None:
    clock = client.get_clock()
    assert clock == {
        "timestamp": "2024-01-09T10:00:00-05:00",
        "is_open": True,
        "next_open": "2024-01-10T09:30:00-05:00",
        "next_close": "2024-01-09T16:00:00-05:00",
    }
    assert client.get_clock() == clock
    server.advance(30)
    assert client.get_clock()["timestamp"] == "2024-01-09T10:00:30-05:00"


def test_the_calendar_tells_the_settlement_of_each_session(client: TradingClient) -> None:
    assert client.get("/calendar", {"start": "2024-01-11", "end": "2024-01-31"}) == [
        {
            "date": day,
            "open": "09:30",
            "close": "16:00",
            "session_open": "0400",
            "session_close": "2000",
            "settlement_date": settles,
        }
        for day, settles in (("2024-01-11", "2024-01-12"), ("2024-01-12", "2024-01-15"))
    ]


# ------------------------------------------------------------------ the life of an order


def test_an_order_from_pending_to_filled(server: LoopbackAlpaca, client: TradingClient) -> None:
    sent = client.post("/orders", body("a-1", qty="10"))
    assert set(sent) == ORDER_KEYS
    assert (sent["status"], sent["filled_qty"], sent["filled_avg_price"]) == ("pending_new", "0", None)
    assert (sent["qty"], sent["order_class"], sent["legs"], sent["notional"]) == ("10", "", None, None)
    assert sent["submitted_at"].startswith("2024-01-09T15:00:00")
    assert sent["expires_at"] == "2024-01-09T21:00:00Z"
    assert client.get_order_by_id(sent["id"])["status"] == "new"
    server.advance(60)
    filled = client.get_order_by_client_id("a-1")
    assert (filled["id"], filled["status"], filled["filled_qty"]) == (sent["id"], "filled", "10")
    assert filled["filled_avg_price"] == "101.06"
    assert filled["filled_at"].startswith("2024-01-09T15:01:00")


def test_stamps_have_nanoseconds_that_stand_for_nothing(client: TradingClient) -> None:
    stamps = {client.post("/orders", body(f"a-{n}", qty=1))["submitted_at"] for n in range(5)}
    assert len(stamps) > 1
    assert {stamp[:26] for stamp in stamps if "." in stamp} == {"2024-01-09T15:00:00.000000"}
    assert not {stamp for stamp in stamps if stamp.endswith("0Z") and "." in stamp}


def test_a_part_of_an_order_fills_and_the_rest_expires(server: LoopbackAlpaca, client: TradingClient) -> None:
    with server.lock:
        server.venue.fill_next("a-1", D("0.4"), hold_rest=True)
    client.post("/orders", body("a-1"))
    server.advance(60)
    part = client.get_order_by_client_id("a-1")
    assert (part["status"], part["filled_qty"], part["expired_at"]) == ("partially_filled", "4", None)
    server.advance_to(at(1, 21, 5))
    ended = client.get_order_by_client_id("a-1")
    assert (ended["status"], ended["filled_qty"]) == ("expired", "4")
    assert ended["expired_at"].startswith("2024-01-09T21:00:00")
    [row] = client.get("/account/activities/FILL")
    assert (row["type"], row["cum_qty"], row["leaves_qty"]) == ("partial_fill", "4", "6")
    assert row["order_status"] == "partially_filled"


def test_an_order_rejected_after_acceptance(tmp_path: Path) -> None:
    with serving(venue(tmp_path, rejection_probability=1.0)) as server:
        client = trading_client(server)
        names = [f"a-{number}" for number in range(20)]
        for name in names:
            with suppress(APIError):
                client.post("/orders", body(name, qty=1))
        assert {request.status for request in server.requests} == {200, 422}
        server.advance(60)
        orders = client.get("/orders", {"status": "closed"})
    assert {order["status"] for order in orders} == {"rejected"}
    assert 0 < len(orders) < len(names)
    assert all(order["failed_at"].startswith("2024-01-09T15:01:00") for order in orders)


def test_cancelling(server: LoopbackAlpaca, client: TradingClient) -> None:
    sent = client.post("/orders", body("a-1", type="limit", limit_price="1"))
    server.advance(90)
    assert client.delete(f"/orders/{sent['id']}") is None
    cancelled = client.get_order_by_client_id("a-1")
    assert cancelled["status"] == "canceled"
    assert cancelled["canceled_at"].startswith("2024-01-09T15:01:30")
    assert server.requests[-2].status == 204
    for name, status, code in ((sent["id"], 422, 42210000), (str(UUID(int=7)), 404, 40410000)):
        with pytest.raises(APIError) as raised:
            client.cancel_order_by_id(name)
        assert (raised.value.status_code, raised.value.code) == (status, code)


def test_cancelling_everything(server: LoopbackAlpaca, client: TradingClient) -> None:
    sent = [client.post("/orders", body(f"a-{n}", type="limit", limit_price="1")) for n in range(3)]
    assert client.cancel_orders() == [{"id": order["id"], "status": 200} for order in sent]
    assert server.requests[-1].status == 207
    assert client.get("/orders") == []


def test_orders_are_listed_by_state_time_and_symbol(server: LoopbackAlpaca, client: TradingClient) -> None:
    for name, symbol in (("a-1", "AAA"), ("a-2", "BBB"), ("a-3", "AAA")):
        client.post("/orders", body(name, symbol, type="limit", limit_price="1"))
        server.advance(30)
    first, second, third = (client.get_order_by_client_id(name) for name in ("a-1", "a-2", "a-3"))
    client.delete(f"/orders/{second['id']}")

    def names(**asked: object) -> list[str]:
        return [order["client_order_id"] for order in client.get("/orders", asked)]

    assert names() == ["a-3", "a-1"]
    assert names(status="closed") == ["a-2"]
    assert names(status="all", direction="asc") == ["a-1", "a-2", "a-3"]
    assert names(status="all", symbols="BBB") == ["a-2"]
    assert names(status="all", side="sell") == []
    assert names(status="all", limit=1) == ["a-3"]
    assert names(status="all", after="2024-01-09T15:00:00Z", direction="asc") == ["a-2", "a-3"]
    assert names(status="all", until="2024-01-09T15:01:00Z", direction="asc") == ["a-1", "a-2"]
    assert names(status="all", after_order_id=first["id"], direction="asc") == ["a-2", "a-3"]
    assert names(status="all", before_order_id=third["id"], direction="asc") == ["a-1", "a-2"]


@pytest.mark.parametrize("asked", [{"limit": "501"}, {"status": "some"}, {"after": "yesterday"}])
def test_a_list_of_orders_that_cannot_be_had(client: TradingClient, asked: dict) -> None:
    with pytest.raises(APIError) as raised:
        client.get("/orders", asked)
    assert (raised.value.status_code, raised.value.code) == (422, 40010001)


def test_an_order_at_the_close(server: LoopbackAlpaca, client: TradingClient) -> None:
    sent = client.post("/orders", body("a-1", time_in_force="cls"))
    assert (sent["type"], sent["time_in_force"]) == ("market", "cls")
    server.advance_to(at(1, 20, 59))
    assert client.get_order_by_client_id("a-1")["status"] == "new"
    server.advance_to(at(1, 21, 0))
    filled = client.get_order_by_client_id("a-1")
    assert filled["status"] == "filled"
    assert filled["filled_at"].startswith("2024-01-09T21:00:00")


def test_numbers_may_be_sent_as_json_numbers(client: TradingClient) -> None:
    """alpaca-py's own requests send floats."""
    request = LimitOrderRequest(
        symbol="FRC", qty=0.1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=10.05
    )
    sent = client.submit_order(request)
    assert (sent["qty"], sent["limit_price"], sent["type"]) == ("0.1", "10.05", "limit")


def test_an_order_without_an_id_of_the_clients_can_be_doubled(client: TradingClient) -> None:
    twice = [{key: value for key, value in body("").items() if key != "client_order_id"} for _ in range(2)]
    first, second = (client.post("/orders", order) for order in twice)
    assert first["client_order_id"] != second["client_order_id"]


# ------------------------------------------------------------------ refusals


def test_an_id_is_taken_for_good(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1"))
    told = (422, {"code": 40010001, "message": "client_order_id must be unique"})
    assert refusal(client, body("a-1")) == told
    server.advance_to(at(3, 15, 0))
    assert refusal(client, body("a-1", "BBB")) == told


def test_more_than_can_be_paid(client: TradingClient) -> None:
    status, told = refusal(client, body("a-1", qty="2000"))
    assert (status, told["code"], told["message"]) == (403, 40310000, "insufficient buying power")
    assert (told["buying_power"], told["cost_basis"]) == ("100000", "200100")


def test_more_shares_than_are_free(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1"))
    server.advance(60)
    client.post("/orders", body("a-2", "AAA", "sell", "7", type="limit", limit_price="999"))
    assert refusal(client, body("a-3", "AAA", "sell", "4")) == (
        403,
        {
            "available": "3",
            "code": 40310000,
            "existing_qty": "10",
            "held_for_orders": "7",
            "message": "insufficient qty available for order (requested: 4, available: 3)",
            "symbol": "AAA",
        },
    )


def test_shares_there_are_none_of(client: TradingClient) -> None:
    sell = body("a-1", "FRC", "sell", "1")
    assert refusal(client, sell) == (422, {"code": 42210000, "message": 'asset "FRC" cannot be sold short'})
    fraction = {"code": 42210000, "message": "fractional orders cannot be sold short"}
    assert refusal(client, {**sell, "qty": "0.5"}) == (422, fraction)
    client.patch("/account/configurations", {"no_shorting": True})
    assert refusal(client, sell) == (403, {"code": 40310000, "message": "account is not allowed to short"})


def test_the_other_side_of_an_open_order(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1"))
    server.advance(60)
    buy = client.post("/orders", body("a-2", type="limit", limit_price="90"))
    sell_at = {"type": "limit", "limit_price": "91"}
    client.post("/orders", body("a-3", side="sell", qty="1", **sell_at))  # above the bid: they cannot meet
    expected = {
        "code": 40310000,
        "existing_order_id": buy["id"],
        "message": "potential wash trade detected. use complex orders",
        "reject_reason": "opposite side limit order exists",
    }
    assert refusal(client, body("a-4", side="sell", qty="1")) == (403, expected)
    assert refusal(client, body("a-5", side="sell", qty="1", **{**sell_at, "limit_price": "90"})) == (403, expected)
    client.cancel_orders()
    client.post("/orders", body("a-6", side="sell", qty="1"))
    status, told = refusal(client, body("a-7", type="limit", limit_price="1"))
    assert (status, told["reject_reason"]) == (403, "opposite side market/stop order exists")


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"symbol": "NOSUCH"}, 422, 42210000, 'asset "NOSUCH" not found'),
        ({"symbol": "OFF"}, 422, 42210000, 'asset "OFF" is not tradable'),
        ({"qty": "0.5"}, 403, 40310000, 'asset "AAA" is not fractionable'),
        (
            {"symbol": "FRC", "qty": "0.5", "time_in_force": "gtc"},
            422,
            42210000,
            "fractional orders must be DAY orders",
        ),
        (
            {"symbol": "FRC", "qty": "0.5", "order_class": "bracket"},
            422,
            42210000,
            "fractional orders must be simple orders",
        ),
        (
            {"symbol": "FRC", "qty": "0.5", "type": "trailing_stop"},
            422,
            42210000,
            "fractional orders must be market, limit, stop, or stop_limit orders",
        ),
        (
            {"type": "limit", "limit_price": "100.005"},
            422,
            42210000,
            "invalid limit_price 100.005. sub-penny increment does not fulfill minimum pricing criteria",
        ),
        ({"type": "limit"}, 422, 40010001, "limit orders require a limit_price > 0"),
        ({"limit_price": "9"}, 422, 40010001, "market orders require no limit_price"),
        ({"qty": None}, 422, 40010001, "qty or notional is required"),
        ({"qty": "0"}, 422, 40010001, "qty must be > 0"),
        ({"qty": "-1"}, 422, 40010001, "qty must be > 0"),
        ({"qty": "1.0000000001"}, 422, 40010001, "qty must be limited to 9 decimal places"),
        ({"qty": "many"}, 422, 40010001, "invalid qty"),
        ({"qty": None, "notional": "0.99"}, 422, 42210000, "notional must be >= 1.00"),
        ({"notional": "5"}, 422, 40010001, "only one of qty or notional is accepted"),
        ({"qty": None, "notional": "5"}, 422, 40010001, "notional 5 is not simulated here"),
        ({"type": "stop"}, 422, 40010001, "type stop is not simulated here"),
        ({"time_in_force": "gtc"}, 422, 40010001, "time_in_force gtc is not simulated here"),
        ({"time_in_force": "soon"}, 422, 40010001, "invalid time in force"),
        ({"side": None}, 422, 40010001, "side is required"),
        ({"symbol": None}, 422, 40010001, "symbol is required"),
        ({"extended_hours": True}, 422, 42210000, "extended hours order must be DAY or GTC limit orders"),
        ({"client_order_id": "x" * 129}, 422, 40010001, "client_order_id must be no more than 128 characters"),
    ],
)
def test_a_form_that_is_refused(
    server: LoopbackAlpaca, client: TradingClient, changes: dict, status: int, code: int, message: str
) -> None:
    assert refusal(client, {**body("a-1"), **changes}) == (status, {"code": code, "message": message})
    assert server.venue.orders() == ()


def test_a_body_that_is_no_json_object(server: LoopbackAlpaca, client: TradingClient) -> None:
    status, told = refusal(client, ["not", "an", "order"])  # type: ignore[arg-type]
    assert (status, told["code"]) == (422, 40010001)


def test_after_the_close_the_venue_keeps_no_order(server: LoopbackAlpaca, client: TradingClient) -> None:
    """Alpaca would queue it for the next session: the one refusal that is not Alpaca's."""
    server.advance_to(at(1, 20, 51))
    status, told = refusal(client, body("a-1", time_in_force="cls"))
    assert (status, told["code"]) == (422, 42210000)
    server.advance_to(at(1, 21, 5))
    status, told = refusal(client, body("a-1"))
    assert (status, told["message"]) == (422, "market is closed: the venue keeps no order for the next session")


def test_a_blocked_account(server: LoopbackAlpaca, client: TradingClient) -> None:
    with server.lock:
        server.venue.block_account()
    assert client.get_account()["trading_blocked"]
    told = {"code": 40310000, "message": "account is not authorized to trade"}
    assert refusal(client, body("a-1")) == (403, told)


def test_an_order_refused_for_no_reason_given(server: LoopbackAlpaca, client: TradingClient) -> None:
    with server.lock:
        server.venue.reject_next("AAA")
    assert refusal(client, body("a-1")) == (422, {"code": 42210000, "message": "unable to process order"})
    assert client.post("/orders", body("a-2"))["status"] == "pending_new"


@pytest.mark.parametrize(("when", "arrived"), [("before", False), ("after", True)])
def test_a_lost_answer_is_a_closed_connection(
    server: LoopbackAlpaca, client: TradingClient, when: str, arrived: bool
) -> None:
    with server.lock:
        server.venue.lose_next_answer(when)  # type: ignore[arg-type]
    with pytest.raises(requests.ConnectionError):
        client.post("/orders", body("a-1"))
    assert [order["client_order_id"] for order in client.get("/orders")] == ["a-1"] * arrived


def test_an_unavailable_venue_answers_nothing_but_its_owner(server: LoopbackAlpaca, client: TradingClient) -> None:
    with server.lock:
        server.venue.set_unavailable(True)
    for read in (client.get_account, client.get_clock, client.get_all_positions):
        with pytest.raises(requests.ConnectionError):
            read()
    with server.lock:
        server.venue.set_unavailable(False)
    assert client.get_account()["status"] == "ACTIVE"


# ------------------------------------------------------------------ activities


def test_an_execution_is_told_with_exactly_alpacas_keys(server: LoopbackAlpaca, client: TradingClient) -> None:
    sent = client.post("/orders", body("a-1", "FRC", qty="0.057436865"))
    server.advance(60)
    [row] = client.get("/account/activities", {"activity_types": "FILL"})
    assert set(row) == FILL_KEYS
    assert (row["order_id"], row["qty"], row["cum_qty"], row["leaves_qty"]) == (
        sent["id"],
        "0.057436865",
        "0.057436865",
        "0",
    )
    assert row["transaction_time"] == "2024-01-09T15:01:00Z"
    prefix, _, name = row["id"].partition("::")
    assert prefix == "20240109100100000"  # New York's time, not the row's
    assert UUID(name)


def test_cash_dividends_and_splits_have_rows_of_their_own(tmp_path: Path) -> None:
    world = prices(dividends={("AAA", DAYS[2]): D("0.25")}, splits={("AAA", DAYS[3]): (D(3), D(2))})
    with serving(venue(tmp_path, world=world)) as server:
        client = trading_client(server)
        client.post("/orders", body("a-1"))
        server.advance_to(at(4, 15, 0))
        with server.lock:
            server.venue.withdraw(D("12.50"), reference="out")
        rows = client.get("/account/activities", {"category": "non_trade_activity", "direction": "asc"})
    for row in rows:
        assert UUID(row.pop("group_id"))
        assert row.pop("id").startswith(row["date"].replace("-", "") + "000000000::")
    shared = {"status": "executed", "currency": "USD"}
    opening = BEFORE.strftime("%Y-%m-%dT%H:%M:%SZ")
    out = {"activity_type": "CSW", "date": "2024-01-12", "created_at": "2024-01-12T15:00:00Z", "net_amount": "-12.5"}
    assert rows == [
        {"activity_type": "CSD", "date": "2024-01-08", "created_at": opening, "net_amount": "100000", **shared},
        {
            "activity_type": "DIV",
            "activity_sub_type": "CDIV",
            "date": "2024-01-10",
            "created_at": "2024-01-10T12:30:00Z",
            "net_amount": "2.5",
            "symbol": "AAA",
            "qty": "10",
            "per_share_amount": "0.25",
            **shared,
        },
        {
            "activity_type": "SPLIT",
            "activity_sub_type": "FSPLIT",
            "date": "2024-01-11",
            "created_at": "2024-01-11T12:30:00Z",
            "net_amount": "0",
            "symbol": "AAA",
            "qty": "5",
            **shared,
        },
        {**out, **shared},
    ]


def many_fills(server: LoopbackAlpaca, client: TradingClient, count: int) -> list[str]:
    """Fill that many orders of one share in one tick; their execution order."""
    for number in range(count):
        client.post("/orders", body(f"m-{number}", "FRC", qty=1))
    server.advance(60)
    names = {order.broker_order_id: order.client_order_id for order in server.venue.orders()}
    return [names[fill.broker_order_id] for fill in server.venue.fills()]  # type: ignore[index]


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_pages_put_together_are_the_whole_history(
    server: LoopbackAlpaca, client: TradingClient, direction: str, size: int
) -> None:
    executed = many_fills(server, client, 23)
    rows: list[dict] = []
    asked = {"direction": direction, "page_size": size}
    while page := client.get("/account/activities", {**asked, **({"page_token": rows[-1]["id"]} if rows else {})}):
        assert len(page) <= size
        rows += page
    assert len({row["id"] for row in rows}) == len(rows) == 24
    in_order = rows if direction == "asc" else rows[::-1]
    ids = {order["id"]: order["client_order_id"] for order in client.get("/orders", {"status": "all"})}
    assert [ids[row["order_id"]] for row in in_order[1:]] == executed


def test_executions_of_one_tick_are_a_microsecond_apart(server: LoopbackAlpaca, client: TradingClient) -> None:
    many_fills(server, client, 3)
    rows = client.get("/account/activities/FILL", {"direction": "asc"})
    assert [row["transaction_time"] for row in rows] == [
        "2024-01-09T15:00:59.999998Z",
        "2024-01-09T15:00:59.999999Z",
        "2024-01-09T15:01:00Z",
    ]


def test_activities_are_chosen_by_kind_and_by_when_they_were_booked(
    server: LoopbackAlpaca, client: TradingClient
) -> None:
    many_fills(server, client, 2)
    server.advance_to(at(2, 15, 0))
    with server.lock:
        server.venue.pay_dividend("FRC", D("1"))

    def kinds(**asked: object) -> list[str]:
        return [row["activity_type"] for row in client.get("/account/activities", {"direction": "asc", **asked})]

    assert kinds() == ["CSD", "FILL", "FILL", "DIV"]
    assert kinds(activity_types="DIV,CSD") == ["CSD", "DIV"]
    assert kinds(category="trade_activity") == ["FILL", "FILL"]
    assert kinds(after="2024-01-09T15:01:00Z") == ["DIV"]
    assert kinds(until="2024-01-09T15:01:00Z") == ["CSD", "FILL"]
    assert kinds(after="2024-01-10", until="2024-01-11") == ["DIV"]
    assert kinds(date="2024-01-09") == ["FILL", "FILL"]


@pytest.mark.parametrize(
    "asked",
    [
        {"page_size": "101"},
        {"page_size": "0"},
        {"category": "trade_activity", "activity_types": "FILL"},
        {"page_token": "20240101000000000::00000000-0000-0000-0000-000000000000"},
        {"direction": "up"},
    ],
)
def test_a_history_that_cannot_be_had(client: TradingClient, asked: dict) -> None:
    with pytest.raises(APIError) as raised:
        client.get("/account/activities", asked)
    assert (raised.value.status_code, raised.value.code) == (422, 40010001)


def test_history_can_be_told_otherwise(server: LoopbackAlpaca, client: TradingClient) -> None:
    """Alpaca corrects and cancels rows, and books what this venue knows nothing of."""
    merger = {
        "activity_type": "MA",
        "activity_sub_type": "SMA",
        "id": "20240109000000000::7b0d4f0e-8c5a-4a0c-9f57-0c2f9f1f8d11",
        "date": "2024-01-09",
        "created_at": "2024-01-09T14:00:00Z",
        "net_amount": "0",
        "symbol": "AAA",
        "qty": "-10",
        "status": "executed",
    }
    server.add_activity(merger)
    assert client.get("/account/activities/MA") == [merger]
    server.amend_activity(merger["id"], status="canceled")
    assert [row["status"] for row in client.get("/account/activities/MA")] == ["canceled"]
    assert [row["activity_type"] for row in server.activities()] == ["CSD", "MA"]


# ------------------------------------------------------------------ what is recorded


def test_requests_are_recorded_without_keys(server: LoopbackAlpaca, client: TradingClient) -> None:
    client.post("/orders", body("a-1"))
    client.get("/orders", {"status": "all"})
    sent, listed = server.requests
    assert (sent.method, sent.path, sent.status) == ("POST", "/v2/orders", 200)
    assert sent.body == body("a-1")
    assert listed.query == {"status": "all"}
    assert listed.instant == server.venue.now
    assert listed.headers["user-agent"].startswith("APCA-PY/")
    assert not [request for request in server.requests if "test-secret" in repr(request) or KEY_ID in repr(request)]
    server.clear_requests()
    assert server.requests == []


def test_the_rate_limit_is_told_and_kept_if_asked(tmp_path: Path) -> None:
    seconds = [0.0]
    options = {"rate_limit": 3, "enforce_rate_limit": True, "rate_clock": lambda: seconds[0]}
    with serving(venue(tmp_path), **options) as server:
        client = trading_client(server)
        session = client._session
        headers = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": "test-secret"}

        def ask(path: str = "/v2/clock") -> tuple[int, str, int]:
            answer = session.get(server.url + path, headers=headers)
            reset = int(answer.headers["X-RateLimit-Reset"]) - round(server.venue.now.timestamp())
            return answer.status_code, answer.headers["X-RateLimit-Remaining"], reset

        assert [ask()[:2] for _ in range(4)] == [(200, "2"), (200, "1"), (200, "0"), (429, "0")]
        with pytest.raises(APIError) as raised:
            client.get_clock()
        assert json.loads(str(raised.value)) == {"code": 42910000, "message": "rate limit exceeded"}
        seconds[0] = 45.0
        assert ask() == (429, "0", 15)
        assert ask("/v2/stocks/snapshots?symbols=AAA&feed=iex")[0] == 200  # market data has a limit of its own
        seconds[0] = 60.0
        assert ask() == (200, "2", 60)


def test_connections_are_kept_and_dates_are_the_venues(server: LoopbackAlpaca, client: TradingClient) -> None:
    session = client._session
    headers = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": "test-secret"}
    answers = [session.get(f"{server.url}/v2/clock", headers=headers) for _ in range(3)]
    assert {answer.headers["Date"] for answer in answers} == {"Tue, 09 Jan 2024 15:00:00 GMT"}
    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 3
    assert (
        session.adapters["http://"]
        .poolmanager.pools.get(  # type: ignore[attr-defined]
            next(iter(session.adapters["http://"].poolmanager.pools.keys()))  # type: ignore[attr-defined]
        )
        .num_connections
        == 1
    )


def test_the_books_of_wire_and_venue_are_one(server: LoopbackAlpaca, client: TradingClient) -> None:
    many_fills(server, client, 5)
    client.post("/orders", body("s-1", "FRC", "sell", "2.5"))
    server.advance_to(at(1, 21, 5))
    rows = client.get("/account/activities/FILL")
    sums = sum((D(row["qty"]) * (1 if row["side"] == "buy" else -1) for row in rows), Decimal(0))
    assert sums == D(client.get_open_position("FRC")["qty"]) == D("2.5")
    paid = sum((D(row["qty"]) * D(row["price"]) * (-1 if row["side"] == "buy" else 1) for row in rows), Decimal(0))
    assert abs(100_000 + paid - D(client.get_account()["cash"])) < D("0.01") * len(rows)
    assert date.fromisoformat(rows[0]["transaction_time"][:10]) == DAYS[1]
    assert server.venue.now - at(1, 21, 5) == timedelta(0)
