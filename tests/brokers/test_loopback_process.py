"""The loopback Alpaca as a process of its own: its state in a file, killed at any moment, commanded over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from alpaca.trading.client import TradingClient
from loopback import LoopbackAlpaca
from loopback.__main__ import KEY_ID, SECRET_KEY, WORLDS, parsed
from loopback.clients import serving, trading_client
from loopback.worlds import buy_lots, demo_prices, first_morning, open_venue, synthetic_prices
from worlds import DAYS, D, at, prices, settings, venue

from brokers.simulated import SimulatedVenue

TESTS = Path(__file__).parents[1]
ORDER = {"symbol": "S001", "side": "buy", "qty": "3", "type": "market", "time_in_force": "day"}


@contextmanager
def process(database: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server in a process, on the small world, and its address."""
    words = [sys.executable, "-m", "loopback", "--db", str(database), "--world", "small", "--cash", "5000"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        said = running.stdout.readline().split()
        assert said[:2] == ["listening", "on"], said
        try:
            yield running, said[2]
        finally:
            running.kill()


def told(url: str, control_path: str, /, **asked: Any) -> dict:
    """Answer to a control path: a POST where something is asked, else a GET."""
    where = url + control_path
    answer = requests.post(where, json=asked, timeout=10) if asked else requests.get(where, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def client_of(url: str) -> TradingClient:
    """TradingClient with the process's own keys."""
    return TradingClient(KEY_ID, SECRET_KEY, url_override=url, raw_data=True)


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    with process(tmp_path / "venue.db") as (running, url):
        opening = told(url, "/loopback/time")["now"]
        told(url, "/loopback/advance", seconds=3600)
        client = client_of(url)
        filled = client.post("/orders", {**ORDER, "client_order_id": "a-1"})
        told(url, "/loopback/advance", seconds=60)
        cancelled = client.post("/orders", {**ORDER, "client_order_id": "a-2", "type": "limit", "limit_price": "1"})
        client.delete(f"/orders/{cancelled['id']}")
        before = [client.get(path) for path in ("/orders?status=all", "/account/activities", "/positions", "/account")]
        audit = told(url, "/loopback/audit")
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=10)
    with process(tmp_path / "venue.db") as (running, url):
        client = client_of(url)
        after = [client.get(path) for path in ("/orders?status=all", "/account/activities", "/positions", "/account")]
        assert after == before
        assert told(url, "/loopback/audit") == audit
        assert {order["id"] for order in after[0]} == {filled["id"], cancelled["id"]}
        assert told(url, "/loopback/time")["now"] > opening
        assert len([row for row in after[1] if row["activity_type"] == "CSD"]) == 1  # the deposit is made once
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=10) == 0


def test_the_command_line_asks_for_a_file_and_offers_the_worlds() -> None:
    given = parsed(["--db", "venue.db", "--start", "2020-01-02", "--cash", "250000"])
    assert (given.world, given.start, given.cash, given.port) == ("demo", date(2020, 1, 2), D(250_000), 0)
    assert set(WORLDS) == {"demo", "synthetic", "small"}
    with pytest.raises(SystemExit):
        parsed([])


# ------------------------------------------------------------------ control over HTTP


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    with serving(venue(tmp_path)) as running:
        yield running


def test_time_moves_by_seconds_or_to_an_instant(server: LoopbackAlpaca) -> None:
    assert told(server.url, "/loopback/time") == {"now": "2024-01-09T15:00:00+00:00"}
    assert told(server.url, "/loopback/advance", seconds=90) == {"now": "2024-01-09T15:01:30+00:00"}
    assert told(server.url, "/loopback/advance", to="2024-01-09T16:00:00-05:00") == {"now": "2024-01-09T21:00:00+00:00"}


def test_the_venue_is_commanded_over_http(server: LoopbackAlpaca) -> None:
    client = trading_client(server)
    order = {**ORDER, "symbol": "AAA", "qty": "10"}

    def command(name: str, **arguments: object) -> None:
        told(server.url, f"/loopback/venue/{name}", **arguments)

    command("fill_next", client_order_id="a-1", fraction="0.5", hold_rest=True)
    client.post("/orders", {**order, "client_order_id": "a-1"})
    told(server.url, "/loopback/advance", seconds=60)
    assert client.get_open_position("AAA")["qty"] == "5"
    command("halt", symbol="AAA")
    command("pay_dividend", symbol="AAA", per_share="0.10")
    command("split", symbol="AAA", new="2", old="1")
    command("unhalt", symbol="AAA")
    assert client.get_open_position("AAA")["qty"] == "10"
    command("deposit", amount="1000.50", reference="more")
    command("withdraw", amount="0.50", reference="back")
    assert client.get_account()["cash"] == "100495.5"
    command("reject_next", symbol="AAA")
    command("lose_next_answer", when="after")
    with pytest.raises(requests.ConnectionError):
        client.post("/orders", {**order, "client_order_id": "a-2"})
    command("block_account", blocked=True)
    assert client.get_account()["trading_blocked"]
    command("set_unavailable", unavailable=True)
    with pytest.raises(requests.ConnectionError):
        client.get_account()
    command("set_unavailable", unavailable=False)
    types = {row["activity_type"] for row in client.get("/account/activities")}
    assert types == {"FILL", "DIV", "SPLIT", "CSD", "CSW"}


def test_faults_are_scripted_over_http(server: LoopbackAlpaca) -> None:
    client = trading_client(server)
    told(server.url, "/loopback/fault", kind="wrong_type", path="/v2/clock")
    assert client.get_clock() == []
    told(server.url, "/loopback/fault", kind="wrong_type", times=0)
    assert requests.delete(f"{server.url}/loopback/fault", timeout=10).status_code == 200
    assert client.get_clock()["is_open"]


def test_the_audit_is_the_venues_own_books(server: LoopbackAlpaca) -> None:
    client = trading_client(server)
    client.post("/orders", {**ORDER, "symbol": "AAA", "qty": "10", "client_order_id": "a-1"})
    server.advance(60)
    client.post("/orders", {**ORDER, "symbol": "AAA", "qty": "4", "side": "sell", "client_order_id": "a-2"})
    server.advance(60)
    audit = told(server.url, "/loopback/audit")
    [lot], [disposal] = audit["lots"], audit["disposals"]
    assert (lot["symbol"], lot["quantity"], lot["cost"], lot["acquired"]) == ("AAA", "6", "606.00", "2024-01-09")
    assert lot["lot_id"] == lot["fill_ids"][0] == audit["fills"][0]["activity_id"]
    assert (disposal["quantity"], disposal["cost"], disposal["proceeds"]) == ("4", "404.00", "404.00")
    assert D(audit["cash"]) == server.venue.cash
    assert [order["status"] for order in audit["orders"]] == ["filled", "filled"]
    assert [each["kind"] for each in audit["other_activities"]] == ["deposit"]


@pytest.mark.parametrize(
    ("path", "asked", "complaint"),
    [
        ("/loopback/advance", {"minutes": 5}, "Expected either seconds or to"),
        ("/loopback/advance", {"to": "tomorrow"}, "Invalid isoformat"),
        ("/loopback/advance", {"to": "2024-01-09T15:00:00"}, "with an offset"),
        ("/loopback/fault", {"kind": "earthquake"}, "earthquake"),
        ("/loopback/venue/explode", {"x": 1}, "Expected a command among"),
        ("/loopback/venue/halt", {"name": "AAA"}, "Expected the arguments symbol"),
        ("/loopback/venue/split", {"symbol": "AAA", "new": "0", "old": "1"}, "Expected a positive ratio"),
        ("/loopback/venue/deposit", {"amount": "1.001", "reference": "x"}, "whole cents"),
        ("/loopback/venue/withdraw", {"amount": "999999", "reference": "x"}, "Expected at most"),
    ],
)
def test_a_command_that_makes_no_sense_says_why(server: LoopbackAlpaca, path: str, asked: dict, complaint: str) -> None:
    answer = requests.post(server.url + path, json=asked, timeout=10)
    assert answer.status_code == 400
    assert complaint in answer.json()["message"]


def test_control_paths_need_no_keys_are_not_recorded_and_can_be_taken_away(tmp_path: Path) -> None:
    with serving(venue(tmp_path), loopback_clock=False) as server:
        assert requests.get(f"{server.url}/loopback/time", timeout=10).status_code == 404
        assert requests.get(f"{server.url}/v2/clock", timeout=10).status_code == 401
        assert [request.path for request in server.requests] == ["/v2/clock"]


# ------------------------------------------------------------------ reopened


def test_a_reopened_venue_tells_the_same_history(tmp_path: Path) -> None:
    """Times the venue itself does not keep (of a cancel, of a rejection) are kept in its file."""
    world = prices(dividends={("AAA", DAYS[2]): D("0.25")})
    chances = settings(partial_fill_probability=0.5, rejection_probability=0.4)

    def reopened() -> SimulatedVenue:
        return SimulatedVenue(tmp_path / "venue.db", world, chances, start=at(0, 9, 0))

    first = reopened()
    first.deposit(D(100_000), reference="opening")
    first.advance_to(at(1, 15, 0))
    with serving(first) as server:
        client = trading_client(server)
        for number in range(24):
            with_limit = {"type": "limit", "limit_price": "1"} if number % 5 == 0 else {}
            order = {**ORDER, "symbol": "AAA", "client_order_id": f"a-{number}", **with_limit}
            if client._session.post(f"{server.url}/v2/orders", json=order, headers=client._get_auth_headers()).ok:
                server.advance(37)
        client.cancel_order_by_id(client.get("/orders")[0]["id"])
        server.advance_to(at(3, 15, 0))
        before = [client.get("/orders", {"status": "all", "limit": 500}), client.get("/account/activities")]
    with serving(reopened()) as server:
        client = trading_client(server)
        after = [client.get("/orders", {"status": "all", "limit": 500}), client.get("/account/activities")]
    assert after == before
    assert {order["status"] for order in before[0]} >= {"filled", "rejected", "canceled", "expired"}


# ------------------------------------------------------------------ worlds


def test_the_synthetic_world_is_always_the_same(tmp_path: Path) -> None:
    world = synthetic_prices(3, 40)
    assert world.fingerprint() == synthetic_prices(3, 40).fingerprint()
    assert (world.symbols, len(world.sessions)) == (("S001", "S002", "S003"), 40)
    assert world.sessions[-1].session == date(2025, 12, 31)
    closes = [close for series in world.closes.values() for close in series if close is not None]
    assert min(closes) >= 10
    assert len(set(closes)) > 50


def test_lots_of_every_name_are_bought_session_by_session(tmp_path: Path) -> None:
    made = open_venue(tmp_path / "venue.db", synthetic_prices(4, 40), cash=D(100_000))
    buy_lots(made, 3, D(2))
    assert sorted((lot.symbol, lot.quantity) for lot in made.lots()) == sorted(
        (symbol, D(2)) for symbol in ("S001", "S002", "S003", "S004") for _ in range(3)
    )
    assert len({lot.acquired for lot in made.lots()}) == 3
    made.close()


def test_a_world_begins_in_the_morning_with_a_price_to_quote(tmp_path: Path) -> None:
    made = open_venue(tmp_path / "venue.db", synthetic_prices(2, 40), start=date(2025, 12, 25))
    assert made.now == made.schedule.opens[-4] - timedelta(minutes=30)  # Christmas is no session
    assert set(made.broker().quotes(["S001", "S002"])) == {"S001", "S002"}
    made.close()
    with pytest.raises(ValueError, match="Expected a start up to 2025-12-31"):
        first_morning(synthetic_prices(2, 40), date(2026, 1, 1))


def test_the_demos_names_are_real_ones() -> None:
    assert {"AAPL", "KO", "XOM"} <= set(demo_prices().symbols)
