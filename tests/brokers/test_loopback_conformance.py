"""The loopback Alpaca's answers against Alpaca's OpenAPI documents, and the checker itself against wrong answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback.clients import actions_client, data_client, serving, trading_client
from loopback.conformance import Conformance
from worlds import DAYS, D, at, prices, venue

CALENDAR_DAY = {
    "date": "2024-01-09",
    "open": "09:30",
    "close": "16:00",
    "session_open": "0400",
    "session_close": "2000",
    "settlement_date": "2024-01-10",
}


def test_every_answer_of_a_busy_week_conforms(tmp_path: Path) -> None:
    world = prices(dividends={("AAA", DAYS[2]): D("0.25")}, splits={("BBB", DAYS[3]): (D(1), D(2))})
    chances = {"partial_fill_probability": 0.5, "rejection_probability": 0.3, "fractional": True}
    with serving(venue(tmp_path, world=world, half_spread_bps=D(3), **chances)) as server:
        client, data, actions = trading_client(server), data_client(server), actions_client(server)
        session = client._session
        for day in range(1, 5):
            server.advance_to(at(day, 15, 0))
            for number, symbol in enumerate(("AAA", "BBB", "FRC")):
                order = {"symbol": symbol, "side": "buy", "qty": "7", "type": "market", "time_in_force": "day"}
                order["client_order_id"] = f"{day}-{number}"
                session.post(f"{server.url}/v2/orders", json=order, headers=client._get_auth_headers())
            limit = {"symbol": "AAA", "side": "buy", "qty": "1", "type": "limit", "limit_price": "1"}
            client.post("/orders", {**limit, "time_in_force": "day"}) if day == 4 else None
            client.delete("/orders")
            server.advance_to(at(day, 21, 5))
            for path in (
                "/account",
                "/account/configurations",
                "/account/activities",
                "/account/activities/FILL",
                "/account/activities/DIV",
                "/positions",
                "/assets",
                "/assets/AAA",
                "/clock",
                "/calendar",
                "/orders?status=all",
            ):
                client.get(path)
            held = {row["symbol"] for row in client.get_all_positions()}
            for symbol in sorted(held):
                client.get_open_position(symbol)
            for order in client.get("/orders", {"status": "all"}):
                client.get_order_by_id(order["id"])
                client.get_order_by_client_id(order["client_order_id"])
            client.patch("/account/configurations", {"no_shorting": day % 2 == 0})
            for path in ("bars/latest", "quotes/latest", "trades/latest", "snapshots"):
                data.get(f"/stocks/{path}", {"symbols": "AAA,BBB"})
            data.get("/stocks/bars", {"symbols": "AAA,BBB", "timeframe": "1Day", "start": "2024-01-01", "limit": 3})
            actions.get("/corporate-actions", {"start": "2024-01-01", "end": "2024-01-31"})
        answered = {request.status for request in server.requests}
    assert answered == {200, 207, 422}
    assert server.violations == []


@pytest.mark.parametrize(
    ("path", "changes", "complaint"),
    [
        ("/v2/calendar", {"settlement_date": "soon"}, "settlement_date: 'soon' is not a 'date'"),
        ("/v2/calendar", {"open": 930}, "open: 930 is not of type 'string'"),
        ("/v2/calendar", {"close": None}, "close: None is not of type 'string'"),
    ],
)
def test_a_wrong_answer_is_found(path: str, changes: dict, complaint: str) -> None:
    checker = Conformance()
    assert checker.check("GET", path, 200, [CALENDAR_DAY]) == []
    [found] = checker.check("GET", path, 200, [CALENDAR_DAY, {**CALENDAR_DAY, **changes}])
    assert found == f"GET {path}: $[1].{complaint}"


def test_numbers_where_alpaca_has_strings_are_found(tmp_path: Path) -> None:
    with serving(venue(tmp_path)) as server:
        account = trading_client(server).get_account()
    checker = Conformance()
    assert checker.check("GET", "/v2/account", 200, account) == []
    [number] = checker.check("GET", "/v2/account", 200, {**account, "cash": 100_000})
    assert "$.cash: 100000 is not of type 'string'" in number
    [status] = checker.check("GET", "/v2/account", 200, {**account, "status": "QUANTUM"})
    assert "$.status: 'QUANTUM' is not one of" in status
    [name] = checker.check("GET", "/v2/account", 200, {**account, "id": "1"})
    assert "$.id: '1' is not a 'uuid'" in name


def test_null_is_taken_only_where_alpaca_has_it() -> None:
    checker = Conformance()
    order = {"notional": None, "type": "market", "time_in_force": "day"}
    assert checker.check("POST", "/v2/orders", 200, order) == []
    assert checker.check("POST", "/v2/orders", 200, {**order, "type": None}) != []
    assert checker.check("POST", "/v2/orders", 200, {"type": "market", "time_in_force": "day"}) != []
    assert checker.check("POST", "/v2/orders", 200, {**order, "submitted_at": "2024-01-09T15:00:00.123456789Z"}) == []
    assert checker.check("POST", "/v2/orders", 200, {**order, "submitted_at": "2024-01-09T15:00:00"}) != []


def test_an_answer_without_a_schema_is_told_and_errors_have_none() -> None:
    checker = Conformance()
    [missing] = checker.check("GET", "/v2/watchlists", 200, [])
    assert missing == "GET /v2/watchlists: expected a schema for 200 in the OpenAPI documents, was none"
    assert checker.check("GET", "/v2/account", 500, "anything") == []
    assert checker.check("DELETE", "/v2/orders/{order_id}", 204, None) == []


def test_the_parts_of_the_documents_say_where_they_are_from() -> None:
    folder = Path(__file__).parents[1] / "loopback" / "openapi"
    said = (folder / "README.md").read_text()
    for file in sorted(folder.glob("*.json")):
        assert file.name in said
        info = json.loads(file.read_text())["info"]
        assert f"*{info['title']}* {info['version']}" in said
    assert "MIT" in said
    assert "CC-BY-SA-4.0" in said
