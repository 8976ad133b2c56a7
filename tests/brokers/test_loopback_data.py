"""The loopback Alpaca's market data, as the real alpaca-py sees it: bars, quotes, snapshots, corporate actions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.enums import Adjustment, CorporateActionsType, DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import (
    CorporateActionsRequest,
    StockBarsRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame
from loopback import LoopbackAlpaca
from loopback.clients import actions_client, data_client, serving, trading_client
from loopback.worlds import open_venue, synthetic_prices
from worlds import CLOSES, DAYS, D, at, prices, venue

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
DIVIDENDS = {("AAA", DAYS[2]): D("1.01")}
SPLITS = {("BBB", DAYS[3]): (D(2), D(1))}
HALVED = {**CLOSES, "BBB": ("50.00", "40.00", "60.00", "27.50", "22.50")}  # as traded: split on the fourth day


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    world = prices(HALVED, dividends=DIVIDENDS, splits=SPLITS)
    with serving(venue(tmp_path, world=world, now=at(4, 22, 0))) as running:
        yield running


@pytest.fixture
def client(server: LoopbackAlpaca) -> StockHistoricalDataClient:
    return data_client(server)


def bars_request(*symbols: str, **more: Any) -> StockBarsRequest:
    """Daily IEX bars from the beginning."""
    asked = {"timeframe": TimeFrame.Day, "start": BEGINNING, "feed": DataFeed.IEX, **more}
    return StockBarsRequest(symbol_or_symbols=list(symbols), **asked)


def closes(client: StockHistoricalDataClient, symbol: str, **more: Any) -> list[float]:
    """Closing prices, oldest first."""
    return [bar["c"] for bar in client.get_stock_bars(bars_request(symbol, **more)).get(symbol, [])]


def refusal(client: StockHistoricalDataClient, path: str, asked: dict) -> tuple[int, dict]:
    """Status and body with which a read is refused, as it must be."""
    with pytest.raises(APIError) as raised:
        client.get(path, asked)
    assert raised.value.status_code is not None
    return raised.value.status_code, json.loads(str(raised.value))


# ------------------------------------------------------------------ bars


def test_daily_bars_are_closes_as_traded_stamped_at_midnight_in_new_york(client: StockHistoricalDataClient) -> None:
    bars = client.get_stock_bars(bars_request("AAA"))["AAA"]
    assert [(bar["t"], bar["c"]) for bar in bars] == [
        (f"{day.isoformat()}T05:00:00Z", float(close)) for day, close in zip(DAYS, CLOSES["AAA"], strict=True)
    ]
    assert bars[1] == {
        "t": "2024-01-09T05:00:00Z", "o": 100.0, "h": 101.0, "l": 100.0, "c": 101.0, "v": 1_000_000, "n": 10_000,
        "vw": 101.0,
    }  # fmt: skip


def test_summer_bars_begin_an_hour_earlier(tmp_path: Path) -> None:
    made = open_venue(tmp_path / "venue.db", synthetic_prices(1, 30, last=date(2025, 7, 31)), start=date(2025, 7, 30))
    with serving(made) as server:
        bars = data_client(server).get_stock_bars(bars_request("S001"))["S001"]
    assert {bar["t"][10:] for bar in bars} == {"T04:00:00Z"}


def test_a_close_is_not_shown_before_the_close(tmp_path: Path) -> None:
    with serving(venue(tmp_path, now=at(2, 20, 59))) as server:
        client = data_client(server)
        assert closes(client, "AAA") == [100.0, 101.0]
        server.advance(60)
        assert closes(client, "AAA") == [100.0, 101.0, 99.0]


def test_the_models_of_alpaca_py_take_every_answer(server: LoopbackAlpaca) -> None:
    client = data_client(server, raw=False)
    bars = client.get_stock_bars(bars_request("AAA", "BBB"))
    assert [bar.close for bar in bars["BBB"]] == [float(close) for close in HALVED["BBB"]]
    asked = {"symbol_or_symbols": ["AAA", "NOSUCH"], "feed": DataFeed.IEX}
    quotes = client.get_stock_latest_quote(StockLatestQuoteRequest(**asked))
    assert (quotes["AAA"].bid_price, quotes["AAA"].timestamp) == (102.0, server.venue.now)
    assert set(quotes) == {"AAA"}
    assert client.get_stock_latest_trade(StockLatestTradeRequest(**asked))["AAA"].price == 102.0
    assert client.get_stock_snapshot(StockSnapshotRequest(**asked))["AAA"].previous_daily_bar.close == 98.0


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 10_000])
def test_pages_put_together_are_every_bar_by_symbol_then_time(client: StockHistoricalDataClient, limit: int) -> None:
    """The limit counts rows over all symbols; a page may end, or begin, in the middle of one."""
    asked = {"symbols": "FRC,AAA,BBB,NOSUCH", "timeframe": "1Day", "start": "2024-01-01", "feed": "iex"}
    rows: list[tuple[str, str]] = []
    token = None
    while True:
        page = client.get("/stocks/bars", {**asked, "limit": limit, **({"page_token": token} if token else {})})
        found = [(symbol, bar["t"]) for symbol, bars in page["bars"].items() for bar in bars]
        assert 0 < len(found) <= limit
        rows += found
        token = page["next_page_token"]
        if token is None:
            break
    assert rows == sorted(rows)
    assert len(rows) == len(set(rows)) == 15


def test_alpaca_pys_own_paging_sees_every_bar(tmp_path: Path) -> None:
    made = open_venue(tmp_path / "venue.db", synthetic_prices(30, 400), start=date(2025, 12, 31))
    with serving(made) as server:
        symbols = [f"S{place:03d}" for place in range(1, 31)]
        found = data_client(server).get_stock_bars(bars_request(*symbols, start=datetime(2020, 1, 1, tzinfo=UTC)))
        asked = [request.query["limit"] for request in server.requests]
    assert {symbol: len(bars) for symbol, bars in found.items()} == dict.fromkeys(symbols, 399)
    assert asked == ["10000", "10000"]


def test_start_and_end_are_inclusive_and_a_date_is_the_whole_day(client: StockHistoricalDataClient) -> None:
    def days(**asked: str) -> list[str]:
        fixed = {"symbols": "AAA", "timeframe": "1Day", "feed": "iex"}
        return [bar["t"][8:10] for bar in client.get("/stocks/bars", {**fixed, **asked})["bars"].get("AAA", [])]

    assert days(start="2024-01-09", end="2024-01-10") == ["09", "10"]
    assert days(start="2024-01-09T05:00:00Z", end="2024-01-10T05:00:00Z") == ["09", "10"]
    assert days(start="2024-01-09T05:00:01Z", end="2024-01-10T04:59:59.999999999Z") == []
    assert days() == ["12"]  # the current day


def test_splits_are_taken_back_on_request(client: StockHistoricalDataClient) -> None:
    assert closes(client, "BBB", adjustment=Adjustment.RAW) == [50.0, 40.0, 60.0, 27.5, 22.5]
    assert closes(client, "BBB", adjustment=Adjustment.SPLIT) == [25.0, 20.0, 30.0, 27.5, 22.5]
    assert closes(client, "AAA", adjustment=Adjustment.SPLIT) == [100.0, 101.0, 99.0, 98.0, 102.0]


def test_dividends_are_taken_back_on_request(client: StockHistoricalDataClient) -> None:
    assert closes(client, "AAA", adjustment=Adjustment.DIVIDEND) == [99.0, 99.99, 99.0, 98.0, 102.0]
    assert closes(client, "AAA", adjustment=Adjustment.ALL) == [99.0, 99.99, 99.0, 98.0, 102.0]
    assert closes(client, "BBB", adjustment=Adjustment.ALL) == [25.0, 20.0, 30.0, 27.5, 22.5]


def test_history_moves_under_the_newest_price_when_something_happens(tmp_path: Path) -> None:
    """Adjusted history asked for before and after an ex-date differs: Alpaca scales back from today."""
    world = prices(HALVED, splits=SPLITS)
    with serving(venue(tmp_path, world=world, now=at(2, 22, 0))) as server:
        client = data_client(server)
        assert closes(client, "BBB", adjustment=Adjustment.ALL) == [50.0, 40.0, 60.0]
        server.advance_to(at(3, 14, 0))
        assert closes(client, "BBB", adjustment=Adjustment.ALL) == [25.0, 20.0, 30.0]
        assert closes(client, "BBB", adjustment=Adjustment.RAW) == [50.0, 40.0, 60.0]


def test_a_total_return_series_gives_adjusted_bars_their_shape(tmp_path: Path) -> None:
    shape = {**CLOSES, "AAA": ("10", "11", "12", "13", "14"), "OFF": ("1",) * 5}
    with serving(venue(tmp_path, world=prices(adjusted=shape), now=at(4, 22, 0))) as server:
        adjusted = closes(data_client(server), "AAA", adjustment=Adjustment.ALL)
        assert adjusted == [72.857143, 80.142857, 87.428571, 94.714286, 102.0]
        assert closes(data_client(server), "AAA", adjustment=Adjustment.SPLIT)[-1] == 102.0


def test_a_split_on_command_scales_what_comes_after(tmp_path: Path) -> None:
    with serving(venue(tmp_path, now=at(1, 15, 0))) as server:
        with server.lock:
            server.venue.split("AAA", D(2), D(1))
        server.advance_to(at(2, 22, 0))
        client = data_client(server)
        assert closes(client, "AAA") == [100.0, 50.5, 49.5]
        assert closes(client, "AAA", adjustment=Adjustment.SPLIT) == [50.0, 50.5, 49.5]


# ------------------------------------------------------------------ the latest


def test_quotes_are_the_last_close_half_a_spread_away_made_now(tmp_path: Path) -> None:
    with serving(venue(tmp_path, half_spread_bps=D(10))) as server:
        asked = {"symbols": "AAA,NOSUCH", "feed": "iex"}
        quotes = data_client(server).get("/stocks/quotes/latest", asked)["quotes"]
    assert quotes == {
        "AAA": {
            "t": "2024-01-09T15:00:00Z", "bp": 99.9, "bs": 1, "bx": "V", "ap": 100.1, "as": 1, "ax": "V", "c": ["R"],
            "z": "B",
        }
    }  # fmt: skip


def test_snapshots_are_keyed_by_symbol_at_the_top(server: LoopbackAlpaca, client: StockHistoricalDataClient) -> None:
    found = client.get("/stocks/snapshots", {"symbols": "AAA,BBB", "feed": "iex"})
    assert set(found) == {"AAA", "BBB"}
    assert set(found["AAA"]) == {"latestTrade", "latestQuote", "minuteBar", "dailyBar", "prevDailyBar"}
    assert (found["AAA"]["dailyBar"]["c"], found["AAA"]["prevDailyBar"]["c"]) == (102.0, 98.0)
    assert found["AAA"]["latestTrade"]["p"] == 102.0
    assert client.get("/stocks/trades/latest", {"symbols": "AAA", "feed": "iex"})["trades"]["AAA"]["p"] == 102.0
    assert client.get("/stocks/bars/latest", {"symbols": "AAA", "feed": "iex"})["bars"]["AAA"]["c"] == 102.0


def test_five_hundred_symbols_fit_in_one_request(tmp_path: Path) -> None:
    made = open_venue(tmp_path / "venue.db", synthetic_prices(500, 3))
    with serving(made) as server:
        symbols = [f"S{place:03d}" for place in range(1, 501)]
        asked = StockLatestQuoteRequest(symbol_or_symbols=symbols, feed=DataFeed.IEX)
        assert set(data_client(server).get_stock_latest_quote(asked)) == set(symbols)
        assert len(server.requests) == 1


# ------------------------------------------------------------------ the free plan, and requests that make no sense


def test_the_free_plan_has_no_recent_consolidated_data(
    server: LoopbackAlpaca, client: StockHistoricalDataClient
) -> None:
    told = (403, {"code": 42210000, "message": "subscription does not permit querying recent SIP data"})
    bars = {"symbols": "AAA", "timeframe": "1Day", "start": "2024-01-01"}
    recent = (server.venue.now - timedelta(minutes=14)).isoformat()
    assert refusal(client, "/stocks/bars", {**bars, "end": recent}) == told
    assert refusal(client, "/stocks/quotes/latest", {"symbols": "AAA", "feed": "sip"}) == told
    older = (server.venue.now - timedelta(minutes=15)).isoformat()
    assert len(client.get("/stocks/bars", {**bars, "end": older})["bars"]["AAA"]) == 5
    assert len(client.get("/stocks/bars", bars)["bars"]["AAA"]) == 5  # the end is then a quarter of an hour ago
    assert set(client.get("/stocks/quotes/latest", {"symbols": "AAA"})["quotes"]) == {"AAA"}  # iex by default


def test_a_paid_plan_has_it(tmp_path: Path) -> None:
    with serving(venue(tmp_path, now=at(4, 22, 0)), real_time_sip=True) as server:
        client = data_client(server)
        assert set(client.get("/stocks/quotes/latest", {"symbols": "AAA", "feed": "sip"})["quotes"]) == {"AAA"}
        bars = {"symbols": "AAA", "timeframe": "1Day", "start": "2024-01-01", "end": server.venue.now.isoformat()}
        assert len(client.get("/stocks/bars", bars)["bars"]["AAA"]) == 5


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("/stocks/bars", {"timeframe": "1Day"}, "symbols is required"),
        ("/stocks/bars", {"symbols": "AAA"}, "invalid timeframe: the venue has daily bars only"),
        ("/stocks/bars", {"symbols": "a$", "timeframe": "1Day"}, "invalid symbol: a$"),
        ("/stocks/bars", {"symbols": "AAA", "timeframe": "1Day", "adjustment": "some"}, "invalid adjustment: some"),
        ("/stocks/bars", {"symbols": "AAA", "timeframe": "1Day", "start": "soon"}, "invalid start: soon"),
        (
            "/stocks/bars",
            {"symbols": "AAA", "timeframe": "1Day", "limit": "10001"},
            "invalid limit: 10001, must be between 1 and 10000",
        ),
        ("/stocks/bars", {"symbols": "AAA", "timeframe": "1Day", "page_token": "?"}, "invalid page_token: ?"),
        ("/stocks/quotes/latest", {"symbols": "AAA", "feed": "tape"}, "invalid feed: tape"),
    ],
)
def test_a_read_that_is_refused(client: StockHistoricalDataClient, path: str, asked: dict, message: str) -> None:
    assert refusal(client, path, asked) == (400, {"message": message})


# ------------------------------------------------------------------ corporate actions


def actions_request(**more: Any) -> CorporateActionsRequest:
    """All of January."""
    return CorporateActionsRequest(**{"start": date(2024, 1, 1), "end": date(2024, 1, 31), **more})


def test_corporate_actions_are_grouped_by_type(server: LoopbackAlpaca) -> None:
    found = actions_client(server).get_corporate_actions(actions_request())
    days = {"ex_date": "2024-01-10", "process_date": "2024-01-10", "record_date": "2024-01-10"}
    [dividend] = found["cash_dividends"]
    assert dividend.pop("id")
    terms = {"rate": 1.01, "special": False, "foreign": False, "cusip": ""}
    assert dividend == {"symbol": "AAA", "payable_date": "2024-01-10", **days, **terms}
    [split] = found["forward_splits"]
    assert (split["symbol"], split["ex_date"], split["new_rate"], split["old_rate"]) == ("BBB", "2024-01-11", 2.0, 1.0)
    assert set(found) == {"cash_dividends", "forward_splits"}


def test_corporate_actions_are_known_from_the_morning_of_their_day(tmp_path: Path) -> None:
    world = prices(dividends=DIVIDENDS, splits=SPLITS)
    with serving(venue(tmp_path, world=world, now=at(1, 15, 0))) as server:
        client = actions_client(server)
        assert client.get_corporate_actions(actions_request()) == {}
        server.advance_to(at(2, 13, 0))
        assert set(client.get_corporate_actions(actions_request())) == {"cash_dividends"}
        with server.lock:
            server.venue.split("FRC", D(1), D(4))
        found = client.get_corporate_actions(actions_request())
    [split] = found["reverse_splits"]
    assert (split["symbol"], split["new_rate"], split["old_rate"], split["new_cusip"]) == ("FRC", 1.0, 4.0, "")


def test_corporate_actions_by_type_symbol_day_and_id(server: LoopbackAlpaca) -> None:
    client = actions_client(server)

    def found(request: CorporateActionsRequest) -> list[str]:
        rows = [row for group in client.get_corporate_actions(request).values() for row in group]
        return [row["symbol"] for row in rows]

    assert found(actions_request(types=[CorporateActionsType.FORWARD_SPLIT])) == ["BBB"]
    assert found(actions_request(symbols=["AAA", "FRC"])) == ["AAA"]
    assert found(actions_request(start=date(2024, 1, 11), end=date(2024, 1, 11))) == ["BBB"]
    assert found(CorporateActionsRequest()) == []  # today only
    name = client.get_corporate_actions(actions_request(symbols=["BBB"]))["forward_splits"][0]["id"]
    assert [row["id"] for row in client.get("/corporate-actions", {"ids": name})["corporate_actions"]["forward_splits"]]


def test_corporate_actions_come_in_pages(server: LoopbackAlpaca) -> None:
    client = actions_client(server)
    asked = {"start": "2024-01-01", "end": "2024-01-31", "limit": 1}
    first = client.get("/corporate-actions", asked)
    second = client.get("/corporate-actions", {**asked, "page_token": first["next_page_token"]})
    assert (list(first["corporate_actions"]), list(second["corporate_actions"])) == (
        ["cash_dividends"],
        ["forward_splits"],
    )
    assert second["next_page_token"] is None
    assert list(client.get("/corporate-actions", {**asked, "sort": "desc"})["corporate_actions"]) == ["forward_splits"]


def test_alpaca_pys_own_model_takes_them(server: LoopbackAlpaca) -> None:
    found = actions_client(server, raw=False).get_corporate_actions(actions_request()).data
    assert (found["cash_dividends"][0].rate, found["forward_splits"][0].new_rate) == (1.01, 2.0)


@pytest.mark.parametrize("asked", [{"types": "gift"}, {"ids": "1", "symbols": "AAA"}, {"limit": "1001"}])
def test_corporate_actions_that_cannot_be_had(server: LoopbackAlpaca, asked: dict) -> None:
    with pytest.raises(APIError) as raised:
        actions_client(server).get("/corporate-actions", asked)
    assert raised.value.status_code == 400


def test_trading_and_data_share_a_host_and_not_a_dialect(server: LoopbackAlpaca) -> None:
    """Numbers are strings in one and JSON numbers in the other; the data API's errors have no code."""
    assert isinstance(trading_client(server).get("/account")["cash"], str)
    quote = data_client(server).get("/stocks/quotes/latest", {"symbols": "AAA"})["quotes"]["AAA"]
    assert isinstance(quote["bp"], float)
    assert set(refusal(data_client(server), "/stocks/snapshots", {})[1]) == {"message"}
