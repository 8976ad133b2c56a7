"""Account history: every activity type Alpaca documents, and a cursor that misses nothing booked late."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from stub_alpaca import OPEN_CLOCK, Asked, StubAlpaca, stubbed_reader

from brokers.alpaca import AlpacaReader, activities
from brokers.alpaca.activities import PAGE
from brokers.errors import BrokerUnavailable
from state.records import Activity, ActivityKind, Side

D = Decimal
K = ActivityKind
TRADING_API = Path(__file__).parents[1] / "loopback" / "openapi" / "trading.json"
CALENDAR = [
    {"date": "2026-10-07", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-08"},
    {"date": "2026-10-08", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-09"},
    {"date": "2026-10-09", "open": "09:30", "close": "16:00", "settlement_date": ""},
    {"date": "2026-10-12", "open": "09:30", "close": "13:00", "settlement_date": "2026-10-13"},
]
FILL = {  # as recorded on 8 October 2026: the id begins with New York's time, not UTC's
    "activity_type": "FILL",
    "cum_qty": "0.5",
    "id": "20261008111019730::f16616ea-a1dc-4ea6-b96e-b9b4b270d50d",
    "leaves_qty": "0",
    "order_id": "4825c6d6-47e6-4095-ac04-d233b5d5904b",
    "order_status": "filled",
    "price": "86.872",
    "qty": "0.5",
    "side": "sell",
    "symbol": "KO",
    "transaction_time": "2026-10-08T15:10:19.730663Z",
    "type": "fill",
}
CASH = {"net_amount": "-1.25", "date": "2026-10-07", "created_at": "2026-10-08T06:00:00.5Z", "status": "executed"}


class BookkeepingAlpaca(StubAlpaca):
    """A stub that filters and pages its activities as Alpaca does."""

    def __init__(self) -> None:
        super().__init__()
        self.fills: list[dict[str, object]] = []
        self.booked: list[dict[str, object]] = []
        self.says("/v2/account/activities", lambda asked: self.page(asked))

    def page(self, asked: Asked) -> list[dict[str, object]]:
        is_trade = asked.query["category"] == "trade_activity"
        at = "transaction_time" if is_trade else "created_at"
        rows = sorted(self.fills if is_trade else self.booked, key=lambda row: str(row[at]))
        after = asked.query.get("after")
        rows = [row for row in rows if after is None or moment(row[at]) > moment(after)]
        token = asked.query.get("page_token")
        if token is not None:
            rows = rows[[row["id"] for row in rows].index(token) + 1 :]
        return rows[: int(asked.query["page_size"])]


def moment(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


@pytest.fixture
def stub() -> Iterator[BookkeepingAlpaca]:
    with BookkeepingAlpaca() as made:
        made.says("/v2/calendar", CALENDAR)
        made.says("/v1/corporate-actions", {"corporate_actions": {}, "next_page_token": None})
        yield made


@pytest.fixture
def reader(stub: StubAlpaca) -> Iterator[AlpacaReader]:
    with stubbed_reader(stub) as made:
        yield made


def booked(number: object, kind: str, **fields: object) -> dict[str, object]:
    """A row that is not a trade, as the specification shows them."""
    return {**CASH, "id": f"20261007000000000::{number}", "activity_type": kind, **fields}


def fill(number: int, at: str, **fields: object) -> dict[str, object]:
    return {**FILL, "id": f"2026::{number}", "transaction_time": at, **fields}


def only(reader: AlpacaReader) -> Activity:
    [activity] = reader.activities().activities
    return activity


class TestFills:
    def test_a_fill_as_recorded(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [FILL]
        assert only(reader) == Activity(
            activity_id=str(FILL["id"]),
            kind=K.FILL,
            occurred_at=datetime(2026, 10, 8, 15, 10, 19, 730663, tzinfo=UTC),
            trade_date=date(2026, 10, 8),
            symbol="KO",
            side=Side.SELL,
            quantity=D("0.5"),
            price=D("86.872"),
            amount=D("43.44"),  # 43.436
            broker_order_id="4825c6d6-47e6-4095-ac04-d233b5d5904b",
            settle_date=date(2026, 10, 9),
            note="FILL",
        )

    @pytest.mark.parametrize(
        ("quantity", "price", "amount"),
        [("1", "0.985", "-0.99"), ("0.057436865", "86.878", "-4.99"), ("3", "0.335", "-1.01"), ("1", "1.004", "-1.00")],
    )
    def test_cash_is_rounded_half_up_to_the_cent(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, quantity: str, price: str, amount: str
    ) -> None:
        stub.fills = [{**FILL, "side": "buy", "qty": quantity, "price": price}]
        assert only(reader).amount == D(amount)

    def test_the_trade_date_is_new_yorks(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        """Eight in the evening in New York is past midnight in UTC."""
        stub.fills = [{**FILL, "transaction_time": "2026-10-09T00:05:00Z"}]
        assert only(reader).trade_date == date(2026, 10, 8)

    def test_without_a_settlement_date_it_is_the_next_session(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.fills = [{**FILL, "transaction_time": "2026-10-09T15:00:00Z"}]
        assert only(reader).settle_date == date(2026, 10, 12)

    def test_a_partial_fill_is_a_fill(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [{**FILL, "type": "partial_fill", "leaves_qty": "3"}]
        assert only(reader).kind is K.FILL

    @pytest.mark.parametrize(
        ("fields", "note"),
        [
            ({"type": "trade_bust"}, "FILL/trade_bust"),
            ({"symbol": "AAPL261218C00150000"}, "FILL/fill"),
        ],
    )
    def test_what_is_no_plain_fill_is_no_fill(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, fields: dict[str, str], note: str
    ) -> None:
        stub.fills = [{**FILL, **fields}]
        told = only(reader)
        assert (told.kind, told.amount, told.symbol, told.note) == (K.OTHER, 0, fields.get("symbol", "KO"), note)

    def test_a_short_sale_is_a_sale_and_said_to_be_short(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [{**FILL, "side": "sell_short"}]
        assert (only(reader).side, only(reader).note) == (Side.SELL, "FILL/sell_short")

    @pytest.mark.parametrize("missing", ["transaction_time", "qty", "price", "side", "symbol"])
    def test_a_fill_without_what_it_needs_is_not_guessed_at_and_keeps_no_other_out(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, missing: str
    ) -> None:
        row = {name: value for name, value in FILL.items() if name != missing}
        rows = [row, fill(2, "2026-10-08T15:15:00Z")]
        stub.says("/v2/account/activities", lambda asked: rows if asked.query["category"] == "trade_activity" else [])
        page = reader.activities()
        bad, good = sorted(page.activities, key=lambda each: each.kind is K.FILL)
        assert (bad.kind, bad.unreadable, bad.quantity, bad.amount) == (K.OTHER, True, 0, 0)
        assert (bad.activity_id, bad.trade_date) == (FILL["id"], date(2026, 10, 8))
        assert bad.symbol == (None if missing == "symbol" else "KO")
        assert f"row 1, {missing}: expected" in bad.note
        assert "4825c6d6-47e6-4095-ac04-d233b5d5904b" in bad.note, "the row as it was sent"
        assert (good.kind, good.activity_id) == (K.FILL, "2026::2")
        assert reader.activities(page.cursor).activities == (), "once"

    def test_a_fill_of_an_unknown_side_is_neither(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [{**FILL, "side": "exchange"}]
        assert (only(reader).kind, only(reader).unreadable) == (K.OTHER, True)

    def test_a_fill_without_its_order_is_a_fill(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [{**FILL, "order_id": None}]
        told = only(reader)
        assert (told.kind, told.quantity, told.broker_order_id) == (K.FILL, D("0.5"), None)

    def test_a_row_without_an_id_is_known_by_what_it_says(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [{name: value for name, value in FILL.items() if name != "id"}]
        page = reader.activities()
        [told] = page.activities
        assert (told.kind, told.activity_id[:8]) == (K.FILL, "unnamed-")
        assert reader.activities(page.cursor).activities == ()


SHARES = {"symbol": "KO", "qty": "4", "net_amount": "0"}


class TestKinds:
    TABLE = (
        ("DIV", {"activity_sub_type": "CDIV", "net_amount": "1.02"}, K.CASH_DIVIDEND),
        ("DIV", {"activity_sub_type": "SPD", "net_amount": "1.02"}, K.CASH_DIVIDEND),
        ("DIV", {"activity_sub_type": "SDIV", "net_amount": "1.02"}, K.CASH_DIVIDEND),
        ("DIV", {"activity_sub_type": "SDIV", **SHARES}, K.SPLIT),
        ("DIVCGL", {}, K.CASH_DIVIDEND),
        ("DIVCGS", {}, K.CASH_DIVIDEND),
        ("DIVTXEX", {}, K.CASH_DIVIDEND),
        ("CGD", {}, K.CASH_DIVIDEND),
        ("DIVROC", {}, K.RETURN_OF_CAPITAL),
        ("DIVNRA", {}, K.FEE),
        ("DIVFT", {}, K.FEE),
        ("DIVTW", {}, K.FEE),
        ("DIVFEE", {}, K.FEE),
        ("INT", {"activity_sub_type": "MGN"}, K.INTEREST),
        ("INTNRA", {}, K.FEE),
        ("INTTW", {}, K.FEE),
        ("FEE", {"activity_sub_type": "TAF"}, K.FEE),
        ("CFEE", {}, K.FEE),
        ("PTC", {}, K.FEE),
        ("PTR", {"net_amount": "0.2"}, K.FEE),
        ("CSD", {"net_amount": "500"}, K.DEPOSIT),
        ("CSW", {"net_amount": "-500"}, K.WITHDRAWAL),
        ("CSR", {"net_amount": "-500"}, K.WITHDRAWAL),
        ("TRANS", {"net_amount": "5"}, K.DEPOSIT),
        ("JNLC", {"net_amount": "5"}, K.DEPOSIT),
        ("JNLC", {"net_amount": "-5"}, K.WITHDRAWAL),
        ("ACATC", {"net_amount": "5"}, K.DEPOSIT),
        ("JNL", {"net_amount": "-5"}, K.WITHDRAWAL),
        ("JNL", SHARES, K.SHARES_IN),
        ("JNLS", SHARES, K.SHARES_IN),
        ("JNLS", {**SHARES, "qty": "-4"}, K.SHARES_OUT),
        ("ACATS", SHARES, K.SHARES_IN),
        ("ACATS", {**SHARES, "qty": "-4"}, K.SHARES_OUT),
        ("FOPT", SHARES, K.SHARES_IN),
        ("SPLIT", {"activity_sub_type": "FSPLIT", **SHARES}, K.SPLIT),
        ("NC", {"activity_sub_type": "SNC", **SHARES}, K.SYMBOL_CHANGE),
        ("NC", {"activity_sub_type": "CNC", **SHARES}, K.OTHER),
        ("MA", {"activity_sub_type": "CMA", "symbol": "KO", "qty": "-4", "net_amount": "21.48"}, K.REORGANIZATION),
        ("SPIN", SHARES, K.REORGANIZATION),
        ("REORG", {"activity_sub_type": "WRM", **SHARES}, K.REORGANIZATION),
        ("VOF", {"activity_sub_type": "VTND", **SHARES}, K.REORGANIZATION),
        ("CIL", {"symbol": "KO", "net_amount": "3"}, K.REORGANIZATION),
        ("WH", {"activity_sub_type": "FWH"}, K.FEE),
        ("OPASN", SHARES, K.OTHER),
        ("OPCA", SHARES, K.OTHER),
        ("OPCSH", {}, K.OTHER),
        ("OPEXC", SHARES, K.OTHER),
        ("OPEXP", SHARES, K.OTHER),
        ("OPTRD", SHARES, K.OTHER),
        ("MISC", {}, K.OTHER),
        ("A_TYPE_OF_TOMORROW", {"net_amount": None}, K.OTHER),
    )

    @pytest.mark.parametrize(("word", "fields", "kind"), TABLE)
    def test_what_each_type_is(
        self,
        stub: BookkeepingAlpaca,
        reader: AlpacaReader,
        word: str,
        fields: dict[str, object],
        kind: ActivityKind,
    ) -> None:
        stub.booked = [booked(1, word, **fields)]
        told = only(reader)
        assert told.kind is kind
        assert told.amount == D(str({**CASH, **fields}["net_amount"] or 0))
        assert told.quantity == abs(D(str(fields.get("qty", 0))))
        assert told.note == "/".join(filter(None, (word, str(fields.get("activity_sub_type", "")))))
        assert (told.trade_date, told.occurred_at) == (
            date(2026, 10, 7),
            datetime(2026, 10, 8, 6, 0, 0, 500000, tzinfo=UTC),
        )

    def test_every_documented_type_is_in_this_table_and_in_the_modules(self) -> None:
        documented = json.loads(TRADING_API.read_text())["components"]["schemas"]["ActivityType"]["enum"]
        assert set(documented) - {"FILL"} <= {word for word, _, _ in self.TABLE}
        table = inspect.getdoc(activities) or ""
        for word in documented:
            assert re.search(rf"\b{word}\b", table), f"{word} is not in the table of brokers/alpaca/activities.py"

    def test_a_dividend_says_on_how_many_shares_and_how_much_a_share(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        fields = {"symbol": "T", "qty": "2", "per_share_amount": "0.51", "net_amount": "1.02"}
        stub.booked = [booked(1, "DIV", **fields)]
        told = only(reader)
        assert (told.symbol, told.quantity, told.price, told.amount) == ("T", 2, D("0.51"), D("1.02"))

    def test_a_line_taken_back_never_happened(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "DIV", status="canceled"), booked(2, "DIV", status="correct")]
        first, second = reader.activities().activities
        assert (first.cancelled, second.cancelled, second.note) == (True, False, "DIV/correct")

    def test_cash_that_is_not_told_is_not_zero(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "DIV", net_amount=None, symbol="KO")]
        told = only(reader)
        assert (told.kind, told.unreadable, told.symbol, told.amount) == (K.OTHER, True, "KO", 0)
        assert "net_amount: expected a number, was None" in told.note

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            ("FEE", {"net_amount": None}),
            ("JNL", {"net_amount": ""}),
            ("ACATC", {"net_amount": "12,5"}),
            ("ACATS", {"symbol": "KO", "qty": None}),
            ("NEWX", {"date": None}),
            ("SPLIT", {"symbol": "KO", "new_rate": "two"}),
            ("MISC", {"symbol": 5}),
            (7, {}),
        ],
    )
    def test_one_bad_row_never_keeps_the_rest_of_a_history_out(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, kind: str, fields: dict[str, object]
    ) -> None:
        stub.booked = [booked(1, kind, **fields), booked(2, "INT", net_amount="0.5")]
        page = reader.activities()
        bad, good = page.activities
        assert (bad.kind, bad.unreadable, bad.amount, bad.quantity) == (K.OTHER, True, 0, 0)
        assert bad.trade_date in (date(2026, 10, 7), date(2026, 10, 8))
        assert (good.kind, good.amount) == (K.INTEREST, D("0.5"))
        assert reader.activities(page.cursor).activities == ()
        assert bad in reader.activities_since(date(2026, 10, 7)), "the same when it is read again"

    def test_a_bad_leg_does_not_take_the_other_with_it(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        new = booked(1, "SPLIT", symbol="KO", qty="6", net_amount="0", new_rate="3", old_rate="1")
        stub.booked = [new, booked(2, "SPLIT", symbol="KO", qty="-2", net_amount="0", date=None)]
        good, bad = reader.activities().activities
        assert (good.kind, good.ratio_new, bad.kind, bad.unreadable) == (K.SPLIT, 3, K.OTHER, True)

    def test_an_announcement_that_cannot_be_asked_for_is_no_bad_row(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.says("/v1/corporate-actions", {"corporate_actions": None})
        stub.booked = [booked(1, "SPLIT", symbol="KO", qty="4")]
        with pytest.raises(BrokerUnavailable):
            reader.activities()

    def test_other_currencies_are_not_dollars(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "DIV", currency="EUR", symbol="SAP")]
        told = only(reader)
        assert (told.kind, told.amount, told.note) == (K.OTHER, 0, "DIV in EUR")

    @pytest.mark.parametrize("day", ["2026-10-07", "2026-10-07T00:00:00Z", "2026-10-07T00:00:00-04:00"])
    def test_a_date_is_the_date_that_is_written(self, stub: BookkeepingAlpaca, reader: AlpacaReader, day: str) -> None:
        stub.booked = [booked(1, "DIV", date=day)]
        assert only(reader).trade_date == date(2026, 10, 7)


class TestSplitsAndChangesOfSymbol:
    def announce(self, stub: StubAlpaca, **by_type: list[dict[str, object]]) -> None:
        stub.says("/v1/corporate-actions", {"corporate_actions": by_type, "next_page_token": None})

    def split(self, day: str, new: float, old: float = 1) -> dict[str, object]:
        return {"id": f"s{day}{new}", "symbol": "KO", "ex_date": day, "new_rate": new, "old_rate": old}

    @pytest.mark.parametrize("day", ["2026-10-07", "2026-10-06", "2026-10-09"])
    def test_the_ratio_is_found_in_the_announcements(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, day: str
    ) -> None:
        self.announce(stub, forward_splits=[self.split(day, 1.5)])
        stub.booked = [booked(1, "SPLIT", symbol="KO", qty="5", net_amount="0")]
        told = only(reader)
        assert (told.ratio_new, told.ratio_old) == (D("1.5"), 1)

    def test_a_stock_dividend_is_a_split(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        self.announce(stub, stock_dividends=[{"id": "x", "symbol": "KO", "ex_date": "2026-10-07", "rate": 0.05}])
        stub.booked = [booked(1, "DIV", activity_sub_type="SDIV", symbol="KO", qty="5", net_amount="0")]
        assert (only(reader).ratio_new, only(reader).ratio_old) == (D("1.05"), 1)

    @pytest.mark.parametrize("announced", [[], [("2026-10-06", 2), ("2026-10-08", 3)], [("2026-10-20", 2)]])
    def test_a_ratio_that_is_not_clear_is_not_told(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, announced: list[tuple[str, float]]
    ) -> None:
        self.announce(stub, forward_splits=[self.split(*each) for each in announced])
        stub.booked = [booked(1, "SPLIT", symbol="KO", qty="5", net_amount="0")]
        told = only(reader)
        assert (told.kind, told.ratio_new, told.ratio_old) == (K.SPLIT, None, None)

    def test_a_ratio_in_the_row_itself_comes_first(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "SPLIT", symbol="KO", qty="-90", new_rate="1", old_rate="10", net_amount="0")]
        assert (only(reader).ratio_new, only(reader).ratio_old) == (1, 10)

    def test_a_split_booked_as_shares_out_and_shares_in_is_one_split(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        self.announce(stub, reverse_splits=[self.split("2026-10-07", 1, 10)])
        legs = {"group_id": "g", "net_amount": "0", "symbol": "KO"}
        stub.booked = [booked(1, "SPLIT", qty="-100", **legs), booked(2, "SPLIT", qty="10", **legs)]
        out, into = reader.activities().activities
        assert (out.kind, out.symbol, out.amount) == (K.OTHER, None, 0)
        assert (into.kind, into.symbol, into.ratio_new, into.ratio_old) == (K.SPLIT, "KO", 1, 10)

    def test_a_change_of_symbol_names_both(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "NC", old_symbol="FB", new_symbol="META", symbol="META", qty="5", net_amount="0")]
        assert (only(reader).symbol, only(reader).to_symbol) == ("FB", "META")

    @pytest.mark.parametrize("told_of", ["FB", "META"])
    def test_a_change_of_symbol_is_found_in_the_announcements(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader, told_of: str
    ) -> None:
        change = {"id": "n", "old_symbol": "FB", "new_symbol": "META", "process_date": "2026-10-08"}
        self.announce(stub, name_changes=[change])
        stub.booked = [booked(1, "NC", symbol=told_of, qty="5", net_amount="0")]
        assert (only(reader).symbol, only(reader).to_symbol) == ("FB", "META")

    def test_a_change_of_symbol_in_two_legs_is_one_change(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        legs = {"group_id": "g", "net_amount": "0"}
        stub.booked = [
            booked(1, "NC", qty="-5", symbol="FB", **legs),
            booked(2, "NC", qty="5", symbol="META", **legs),
        ]
        out, into = reader.activities().activities
        assert (out.kind, out.symbol) == (K.OTHER, None)
        assert (into.kind, into.symbol, into.to_symbol) == (K.SYMBOL_CHANGE, "FB", "META")

    def test_a_new_symbol_that_is_not_told_is_not_guessed(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.booked = [booked(1, "NC", symbol="FB", qty="5", net_amount="0")]
        assert (only(reader).kind, only(reader).symbol, only(reader).to_symbol) == (K.SYMBOL_CHANGE, "FB", None)


class TestTheCursor:
    def ids(self, reader: AlpacaReader, cursor: str | None) -> tuple[list[str], str | None]:
        page = reader.activities(cursor)
        return [each.activity_id.rpartition(":")[2] for each in page.activities], page.cursor

    def test_a_dividend_booked_late_under_an_earlier_date_is_not_missed(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.fills = [fill(1, "2026-10-08T14:00:00Z")]
        stub.booked = [booked("b1", "CSD", net_amount="5")]
        _, cursor = self.ids(reader, None)
        late = {"created_at": "2026-10-08T15:30:00Z", "date": "2026-09-30"}
        stub.booked.append({**booked("b2", "DIV", **late), "id": "20260930000000000::b2"})
        found, cursor = self.ids(reader, cursor)
        assert found == ["b2"]
        assert self.ids(reader, cursor)[0] == []

    def test_a_fill_executed_long_before_it_was_listed_is_given_once(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        """Listed by when it was recorded, stamped with when it was executed."""
        stub.fills = [fill(2, "2026-10-08T14:00:00Z")]
        _, cursor = self.ids(reader, None)
        rows = [fill(1, "2026-10-08T10:00:00Z"), fill(2, "2026-10-08T14:00:00Z")]
        stub.says("/v2/account/activities", lambda asked: rows if asked.query["category"] == "trade_activity" else [])
        found, cursor = self.ids(reader, cursor)
        assert found == ["1"]
        assert self.ids(reader, cursor)[0] == []

    def test_a_line_that_shows_up_days_after_it_was_booked_is_not_missed(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        _, cursor = self.ids(reader, None)
        stub.booked.append(booked("b1", "DIV", created_at="2026-10-06T00:00:00Z"))
        found, cursor = self.ids(reader, cursor)
        assert found == ["b1"]
        assert self.ids(reader, cursor)[0] == []

    def test_a_fill_that_is_listed_minutes_late_is_not_missed(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.fills = [fill(1, "2026-10-08T14:00:00Z"), fill(3, "2026-10-08T14:20:00.7Z")]
        first, cursor = self.ids(reader, None)
        stub.fills.append(fill(2, "2026-10-08T14:10:00.3Z"))
        second, cursor = self.ids(reader, cursor)
        assert (first, second) == (["1", "3"], ["2"])
        assert self.ids(reader, cursor)[0] == []

    def test_nothing_is_given_twice_at_the_edges_of_a_second(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.fills = [fill(1, "2026-10-08T14:05:00.3Z"), fill(2, "2026-10-08T14:05:00.9Z")]
        stub.fills += [fill(3, "2026-10-08T14:20:00.7Z")]
        everything, cursor = self.ids(reader, None)
        assert everything == ["1", "2", "3"]
        assert self.ids(reader, cursor)[0] == []

    def test_when_nothing_happened_it_costs_two_calls(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [fill(number, f"2026-10-08T14:00:{number:02d}Z") for number in range(30)]
        stub.booked = [booked("s", "SPLIT", symbol="KO", qty="5", net_amount="0")]
        _, cursor = self.ids(reader, None)
        stub.asked.clear()
        assert self.ids(reader, cursor)[0] == []
        assert [each.path for each in stub.asked] == ["/v2/account/activities"] * 2

    def test_a_cursor_survives_a_restart(self, stub: BookkeepingAlpaca) -> None:
        stub.fills = [fill(1, "2026-10-08T14:00:00Z")]
        stub.booked = [booked("b1", "CSD", net_amount="5")]
        with stubbed_reader(stub) as reader:
            _, cursor = self.ids(reader, None)
        stub.fills.append(fill(2, "2026-10-08T15:00:00Z"))
        with stubbed_reader(stub) as reader:
            assert self.ids(reader, cursor)[0] == ["2"]

    def test_a_cursor_remembers_the_last_days_and_not_the_years(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.booked = [
            booked(number, "DIV", created_at=f"2025-{1 + number % 12:02d}-08T00:00:00Z") for number in range(90)
        ]
        _, cursor = self.ids(reader, None)
        assert len(cursor or "") < 200

    def test_lines_that_do_not_say_when_they_were_booked_are_given_once(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        row = {name: value for name, value in booked("b1", "DIV").items() if name != "created_at"}
        stub.says("/v2/account/activities", lambda asked: [] if asked.query["category"] == "trade_activity" else [row])
        told = only(reader)
        assert told.occurred_at == datetime(2026, 10, 7, 4, tzinfo=UTC)
        assert reader.activities(reader.activities().cursor).activities == ()

    def test_years_of_history_are_read_page_by_page(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [
            fill(number, f"2026-10-08T{14 + number // 3600}:{number // 60 % 60:02d}:{number % 60:02d}Z")
            for number in range(2 * PAGE)
        ]
        found, _ = self.ids(reader, None)
        assert found == [str(number) for number in range(2 * PAGE)]
        pages = [each for each in stub.queries("/v2/account/activities") if each["category"] == "trade_activity"]
        assert [each.get("page_token") for each in pages] == [None, "2026::99", "2026::199"]
        assert all((each["direction"], each["page_size"]) == ("asc", "100") for each in pages)

    def test_the_same_page_again_and_again_is_an_error(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        page = [fill(number, "2026-10-08T14:00:00Z") for number in range(PAGE)]
        stub.says("/v2/account/activities", page)
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            reader.activities()

    def test_an_empty_page_that_should_not_be_empty_loses_nothing(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.fills, stub.booked = [fill(1, "2026-10-08T14:00:00Z")], [booked("b1", "CSD")]
        _, cursor = self.ids(reader, None)
        stub.fills.append(fill(2, "2026-10-08T14:30:00Z"))
        stub.booked.append(booked("b2", "DIV", created_at="2026-10-08T14:30:00Z"))
        stub.says("/v2/account/activities", [])
        found, cursor = self.ids(reader, cursor)
        assert found == []
        stub.says("/v2/account/activities", lambda asked: stub.page(asked))
        assert self.ids(reader, cursor)[0] == ["b2", "2"]

    @pytest.mark.parametrize("cursor", ["", "activity-3", "[]", '{"filled": "soon", "fills": {}, "booked": {}}', "{}"])
    def test_a_cursor_from_elsewhere_is_refused(self, reader: AlpacaReader, cursor: str) -> None:
        with pytest.raises(ValueError, match="cursor of Alpaca's activities"):
            reader.activities(cursor)


class TestReadAgainByDay:
    def test_what_was_corrected_since_comes_as_it_is_now(self, stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
        stub.fills = [fill(1, "2026-10-07T14:00:00Z"), fill(2, "2026-10-08T14:00:00Z")]
        stub.booked = [booked("old", "DIV", date="2026-10-06"), booked("b1", "DIV")]
        first = reader.activities_since(date(2026, 10, 7))
        assert [each.activity_id for each in first] == ["2026::1", "20261007000000000::b1", "2026::2"]
        stub.booked[1]["status"] = "canceled"
        again = reader.activities_since(date(2026, 10, 7))
        assert [each.cancelled for each in again] == [False, True, False]

    def test_a_line_dated_after_it_was_booked_is_found_by_its_date(
        self, stub: BookkeepingAlpaca, reader: AlpacaReader
    ) -> None:
        stub.booked = [booked("b1", "DIV", created_at="2026-10-02T00:00:00Z", date="2026-10-08")]
        [told] = reader.activities_since(date(2026, 10, 8))
        assert told.activity_id.endswith("b1")


def test_the_clock_is_asked_once_for_a_history(stub: BookkeepingAlpaca, reader: AlpacaReader) -> None:
    stub.says("/v2/clock", OPEN_CLOCK)
    reader.activities(reader.activities().cursor)
    assert stub.count("/v2/clock") == 1
