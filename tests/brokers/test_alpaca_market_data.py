"""Quotes and daily closes: feeds, chunks, pages, and closes that cannot be read yet."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from stub_alpaca import OPEN_CLOCK, Asked, Said, StubAlpaca, stubbed_reader

from brokers.alpaca import AlpacaReader
from brokers.errors import BrokerUnavailable
from state.records import DailyBar, Quote

D = Decimal
QUOTE = {"t": "2026-10-08T15:10:10.123456789Z", "bp": 86.87, "bs": 1, "ap": 86.89, "as": 2}
SNAPSHOT = {
    "latestQuote": QUOTE,
    "latestTrade": {"t": "2026-10-08T15:10:09Z", "p": 86.88},
    "dailyBar": {"c": 86.5},
    "prevDailyBar": {"c": 85.82},
}
CALENDAR = [
    {"date": "2026-10-06", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-07"},
    {"date": "2026-10-07", "open": "09:30", "close": "13:00", "settlement_date": "2026-10-08"},
    {"date": "2026-10-08", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-09"},
    {"date": "2026-11-02", "open": "09:30", "close": "16:00", "settlement_date": "2026-11-03"},
]
TUESDAY, WEDNESDAY, THURSDAY = date(2026, 10, 6), date(2026, 10, 7), date(2026, 10, 8)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        made.says("/v2/calendar", CALENDAR)
        yield made


@pytest.fixture
def reader(stub: StubAlpaca) -> Iterator[AlpacaReader]:
    with stubbed_reader(stub) as made:
        yield made


def it_is(stub: StubAlpaca, at: str) -> None:
    """The broker's clock says this; the flags do not matter here."""
    stub.says("/v2/clock", {**OPEN_CLOCK, "timestamp": at})


class TestQuotes:
    def test_a_quote_has_its_own_time_to_the_microsecond(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/snapshots", {"KO": SNAPSHOT})
        at = datetime(2026, 10, 8, 15, 10, 10, 123456, tzinfo=UTC)
        assert reader.quotes(["KO"]) == {"KO": Quote("KO", D("86.87"), D("86.89"), D("86.88"), at)}
        assert stub.queries("/v2/stocks/snapshots") == [{"symbols": "KO", "feed": "iex"}]

    @pytest.mark.parametrize(("missing", "last"), [(("latestTrade",), "86.5"), (("latestTrade", "dailyBar"), "85.82")])
    def test_without_a_trade_the_last_price_is_a_close(
        self, stub: StubAlpaca, reader: AlpacaReader, missing: tuple[str, ...], last: str
    ) -> None:
        stub.says("/v2/stocks/snapshots", {"KO": {**SNAPSHOT, **dict.fromkeys(missing)}})
        assert reader.quotes(["KO"])["KO"].last == D(last)

    def test_a_side_without_a_price_is_passed_on_and_not_usable(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/snapshots", {"KO": {**SNAPSHOT, "latestQuote": {**QUOTE, "bp": 0}}})
        quote = reader.quotes(["KO"])["KO"]
        assert (quote.bid, quote.is_usable) == (0, False)

    @pytest.mark.parametrize(
        "snapshot",
        [
            None,
            {},
            {**SNAPSHOT, "latestQuote": None},
            {**SNAPSHOT, "latestQuote": {"t": QUOTE["t"], "bp": 1}},
            {"latestQuote": QUOTE},
        ],
    )
    def test_without_a_quote_or_any_price_a_symbol_is_absent(
        self, stub: StubAlpaca, reader: AlpacaReader, snapshot: object
    ) -> None:
        stub.says("/v2/stocks/snapshots", {"PEP": SNAPSHOT, "KO": snapshot})
        assert set(reader.quotes(["KO", "PEP", "NOSUCH"])) == {"PEP"}

    def test_many_symbols_are_asked_about_in_chunks(self, stub: StubAlpaca) -> None:
        stub.says("/v2/stocks/snapshots", lambda asked: dict.fromkeys(asked.query["symbols"].split(","), SNAPSHOT))
        symbols = [f"S{number}" for number in range(7)]
        with stubbed_reader(stub, snapshot_chunk=3, feed="sip") as reader:
            assert list(reader.quotes([*symbols, "S0"])) == symbols
        asked = stub.queries("/v2/stocks/snapshots")
        assert [each["symbols"] for each in asked] == ["S0,S1,S2", "S3,S4,S5", "S6"]
        assert {each["feed"] for each in asked} == {"sip"}

    def test_one_malformed_symbol_does_not_cost_the_others(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        def answer(asked: Asked) -> object:
            return {"KO": SNAPSHOT}

        stub.says("/v2/stocks/snapshots", Said({"message": "invalid symbol: BRK-B"}, 400), answer)
        assert set(reader.quotes(["KO", "BRK-B"])) == {"KO"}
        assert [each["symbols"] for each in stub.queries("/v2/stocks/snapshots")] == ["KO,BRK-B", "KO"]

    def test_a_refusal_that_names_no_symbol_of_ours_is_a_refusal(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/snapshots", Said({"message": "invalid symbol: ELSE"}, 400))
        with pytest.raises(BrokerUnavailable, match="invalid symbol: ELSE"):
            reader.quotes(["KO"])

    def test_of_malformed_symbols_only_nothing_is_known(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/snapshots", Said({"message": "invalid symbol: BRK-B"}, 400))
        assert reader.quotes(["BRK-B"]) == {}


def bar(day: str, close: float, volume: int | None = 100) -> dict[str, object]:
    """A daily bar: stamped with midnight in New York."""
    return {"t": f"{day}T04:00:00Z", "o": close, "h": close, "l": close, "c": close, "v": volume, "n": 1, "vw": close}


RAW = {"KO": [bar("2026-10-06", 85.82), bar("2026-10-07", 86.1, 5)], "PEP": [bar("2026-10-06", 150)]}
ALL = {"KO": [bar("2026-10-06", 85.02), bar("2026-10-07", 86.1)], "PEP": [bar("2026-10-06", 149.5)]}


class TestDailyBars:
    def tell(self, stub: StubAlpaca, *more: dict[str, object]) -> None:
        """Answer with RAW or ALL, and more bars of KO."""

        def answer(asked: Asked) -> object:
            told = RAW if asked.query["adjustment"] == "raw" else ALL
            return {"bars": {**told, "KO": [*told["KO"], *more]}, "next_page_token": None}

        stub.says("/v2/stocks/bars", answer)

    def test_closes_as_traded_and_adjusted_by_session_then_symbol(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        self.tell(stub)
        assert reader.daily_bars(["PEP", "KO"], TUESDAY, WEDNESDAY) == (
            DailyBar("KO", TUESDAY, D("85.82"), D("85.02"), D(100)),
            DailyBar("PEP", TUESDAY, D("150"), D("149.5"), D(100)),
            DailyBar("KO", WEDNESDAY, D("86.1"), D("86.1"), D(5)),
        )

    def test_closes_are_those_of_the_consolidated_tape(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        self.tell(stub)
        reader.daily_bars(["KO"], TUESDAY, WEDNESDAY)
        for asked in stub.queries("/v2/stocks/bars"):
            assert asked["feed"] == "sip"
            assert (asked["timeframe"], asked["limit"], asked["sort"]) == ("1Day", "10000", "asc")
            assert (asked["start"], asked["end"]) == ("2026-10-06T04:00:00Z", "2026-10-08T03:59:59Z")
        assert [each["adjustment"] for each in stub.queries("/v2/stocks/bars")] == ["all", "raw"]

    def test_a_session_in_progress_is_left_out(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        self.tell(stub, bar("2026-10-08", 99))
        assert max(each.session for each in reader.daily_bars(["KO"], TUESDAY, date(2026, 12, 31))) == WEDNESDAY

    @pytest.mark.parametrize("at", ["2026-10-08T16:00:00-04:00", "2026-10-08T16:15:59-04:00"])
    def test_a_close_that_is_not_shown_yet_is_waited_for(self, stub: StubAlpaca, reader: AlpacaReader, at: str) -> None:
        it_is(stub, at)
        with pytest.raises(BrokerUnavailable, match="closes of 2026-10-08 from 20:16 UTC on"):
            reader.daily_bars(["KO"], TUESDAY, THURSDAY)

    def test_from_sixteen_minutes_past_the_close_it_is_read_up_to_a_quarter_of_an_hour_ago(
        self, stub: StubAlpaca, reader: AlpacaReader
    ) -> None:
        self.tell(stub)
        it_is(stub, "2026-10-08T16:16:00-04:00")
        reader.daily_bars(["KO"], TUESDAY, THURSDAY)
        assert stub.queries("/v2/stocks/bars")[0]["end"] == "2026-10-08T20:00:00Z"

    def test_with_a_subscription_the_close_is_there_at_once(self, stub: StubAlpaca) -> None:
        self.tell(stub)
        with stubbed_reader(stub, feed="sip") as reader:
            it_is(stub, "2026-10-08T16:00:00-04:00")
            reader.daily_bars(["KO"], TUESDAY, THURSDAY)
        assert stub.queries("/v2/stocks/bars")[0]["end"] == "2026-10-08T20:00:00Z"

    def test_an_early_close_finishes_a_session_early(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        self.tell(stub)
        it_is(stub, "2026-10-07T13:20:00-04:00")
        assert reader.daily_bars(["KO"], WEDNESDAY, WEDNESDAY)[-1].session == WEDNESDAY

    def test_in_winter_days_begin_an_hour_later(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        it_is(stub, "2026-11-03T12:00:00-05:00")
        day = date(2026, 11, 2)
        winter = {**bar("2026-11-02", 80), "t": "2026-11-02T05:00:00Z"}
        stub.says("/v2/stocks/bars", {"bars": {"KO": [winter]}, "next_page_token": None})
        assert [each.session for each in reader.daily_bars(["KO"], day, day)] == [day]
        assert stub.queries("/v2/stocks/bars")[0]["start"] == "2026-11-02T05:00:00Z"

    def test_a_session_without_both_closes_is_absent(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        def answer(asked: Asked) -> object:
            rows = RAW["KO"] if asked.query["adjustment"] == "raw" else ALL["KO"][:1]
            return {"bars": {"KO": rows}, "next_page_token": None}

        stub.says("/v2/stocks/bars", answer)
        assert [each.session for each in reader.daily_bars(["KO"], TUESDAY, WEDNESDAY)] == [TUESDAY]

    @pytest.mark.parametrize(("start", "end"), [(WEDNESDAY, TUESDAY), (date(2026, 10, 3), date(2026, 10, 4))])
    def test_where_there_is_no_session_nothing_is_asked(
        self, stub: StubAlpaca, reader: AlpacaReader, start: date, end: date
    ) -> None:
        assert reader.daily_bars(["KO"], start, end) == ()
        assert stub.count("/v2/stocks/bars") == 0

    def test_a_close_that_is_no_price_is_not_a_bar(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        broken = {**bar("2026-10-06", 1), "c": "n/a"}
        stub.says("/v2/stocks/bars", {"bars": {"KO": [broken]}, "next_page_token": None})
        with pytest.raises(BrokerUnavailable, match="KO row 1, c: expected a number"):
            reader.daily_bars(["KO"], TUESDAY, TUESDAY)


class TestBarsForALoader:
    def test_history_is_loaded_without_asking_for_the_time_again(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/bars", {"bars": RAW, "next_page_token": None})
        for _ in range(5):
            reader.daily_bars(["KO"], TUESDAY, WEDNESDAY)
        assert (stub.count("/v2/clock"), stub.count("/v2/calendar"), stub.count("/v2/stocks/bars")) == (1, 1, 10)

    def test_pages_are_fetched_as_the_iteration_comes_to_them(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        pages = {
            None: {"bars": {"KO": [bar("2026-10-06", 85.82)]}, "next_page_token": "two"},
            "two": {"bars": {}, "next_page_token": "three"},
            "three": {"bars": {"KO": [bar("2026-10-07", 86.1)], "PEP": [bar("2026-10-06", 150, None)]}},
        }
        stub.says("/v2/stocks/bars", lambda asked: pages[asked.query.get("page_token")])
        rows = reader.raw_bars(["KO", "PEP"], TUESDAY, WEDNESDAY, adjustment="split")
        assert next(rows) == ("KO", TUESDAY, D("85.82"), D(100))
        assert stub.count("/v2/stocks/bars") == 1
        assert list(rows) == [("KO", WEDNESDAY, D("86.1"), D(100)), ("PEP", TUESDAY, D(150), None)]
        assert {each["adjustment"] for each in stub.queries("/v2/stocks/bars")} == {"split"}

    def test_a_page_that_leads_to_itself_is_an_error(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/stocks/bars", {"bars": {}, "next_page_token": "again"})
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            list(reader.raw_bars(["KO"], TUESDAY, WEDNESDAY, adjustment="raw"))

    def test_a_close_that_is_not_shown_yet_is_left_for_later(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        it_is(stub, "2026-10-08T16:05:00-04:00")
        stub.says("/v2/stocks/bars", {"bars": {"KO": [bar("2026-10-07", 86.1)]}, "next_page_token": None})
        rows = list(reader.raw_bars(["KO"], TUESDAY, THURSDAY, adjustment="raw"))
        assert [day for _, day, _, _ in rows] == [WEDNESDAY]
        assert stub.queries("/v2/stocks/bars")[0]["end"] == "2026-10-08T03:59:59Z"
