"""Cash, restrictions, positions and assets, as Alpaca words them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from stub_alpaca import OPEN_CLOCK, Said, StubAlpaca, stubbed_reader

from brokers.alpaca import AlpacaReader
from brokers.errors import BrokerUnavailable
from state.records import ReliefMethod, Security

D = Decimal
ACCOUNT = {  # as recorded of a paper account in October 2026, less what nobody asks for
    "account_number": "PA3RECORDED",
    "status": "ACTIVE",
    "cash": "100005.83",
    "buying_power": "400023.32",
    "equity": "100005.83",
    "multiplier": "4",
    "shorting_enabled": True,
    "account_blocked": False,
    "trading_blocked": False,
    "transfers_blocked": False,
    "trade_suspended_by_user": False,
    "user_configurations": None,
}
CALENDAR = [
    {"date": "2026-10-07", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-08"},
    {"date": "2026-10-08", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-09"},
    {"date": "2026-10-09", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-13"},
    {"date": "2026-10-13", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-14"},
]


def fill(identity: str, at: str, side: str, qty: str, price: str) -> dict[str, str]:
    """A FILL row as Alpaca lists it."""
    return {
        "activity_type": "FILL",
        "id": f"2026{identity}::id-{identity}",
        "transaction_time": at,
        "side": side,
        "qty": qty,
        "price": price,
        "symbol": "KO",
        "order_id": "order",
        "type": "fill",
    }


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        made.says("/v2/account", ACCOUNT)
        made.says("/v2/account/activities", [])
        made.says("/v2/calendar", CALENDAR)
        yield made


@pytest.fixture
def reader(stub: StubAlpaca) -> Iterator[AlpacaReader]:
    with stubbed_reader(stub) as made:
        yield made


class TestAccount:
    def test_cash_is_cash_and_never_buying_power(self, reader: AlpacaReader) -> None:
        account = reader.account()
        assert (account.cash, account.settled_cash, account.equity) == (D("100005.83"),) * 3
        assert (account.account_number, account.multiplier, account.shorting_enabled) == ("PA3RECORDED", 4, True)
        assert not account.trading_blocked
        assert account.restrictions == ()

    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("account_blocked", True, "the account is blocked"),
            ("trading_blocked", True, "trading is blocked"),
            ("trade_suspended_by_user", True, "switched off"),
            ("status", "ACCOUNT_UPDATED", "status is ACCOUNT_UPDATED"),
            ("status", "A_WORD_OF_TOMORROW", "status is A_WORD_OF_TOMORROW"),
        ],
    )
    def test_what_blocks_trading(
        self, stub: StubAlpaca, reader: AlpacaReader, field: str, value: object, words: str
    ) -> None:
        stub.says("/v2/account", {**ACCOUNT, field: value})
        account = reader.account()
        assert account.trading_blocked
        assert words in account.restrictions[0]

    def test_a_blocked_transfer_is_told_and_does_not_stop_trading(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/account", {**ACCOUNT, "transfers_blocked": True})
        account = reader.account()
        assert (account.trading_blocked, account.restrictions) == (False, ("transfers are blocked",))

    def test_a_debt_to_the_broker_is_told(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/account", {**ACCOUNT, "cash": "-23140.2"})
        account = reader.account()
        assert (account.cash, account.settled_cash) == (D("-23140.2"), 0)
        assert account.restrictions == ("the account owes the broker 23140.2 USD on margin",)

    @pytest.mark.parametrize("missing", ["account_number", "cash", "status"])
    def test_without_what_must_be_there_nothing_is_told(
        self, stub: StubAlpaca, reader: AlpacaReader, missing: str
    ) -> None:
        stub.says("/v2/account", {name: value for name, value in ACCOUNT.items() if name != missing})
        with pytest.raises(BrokerUnavailable, match=f"account, {missing}: expected .* was absent"):
            reader.account()

    def test_what_may_be_missing_is_not_missed(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/account", {"account_number": "A", "cash": "5", "status": "ACTIVE", "a_field_of_tomorrow": [1]})
        account = reader.account()
        assert (account.cash, account.multiplier, account.equity, account.shorting_enabled) == (5, 1, None, False)

    @pytest.mark.parametrize("cash", ["abc", "NaN", "Infinity", True, [], {}, "1e", " "])
    def test_cash_that_is_no_number_is_no_cash(self, stub: StubAlpaca, reader: AlpacaReader, cash: object) -> None:
        stub.says("/v2/account", {**ACCOUNT, "cash": cash})
        with pytest.raises(BrokerUnavailable, match="cash: expected a number"):
            reader.account()

    def test_capabilities_promise_only_what_alpaca_does(self, reader: AlpacaReader) -> None:
        told = reader.capabilities
        assert told.relief_methods == {ReliefMethod.FIFO}
        assert (told.fractional, told.lot_selection, told.market_on_close) == (True, False, True)
        assert told.lookups_before_resend == 3
        assert "As far as is known" in reader.relief_note


class TestSettledCash:
    def test_proceeds_are_settled_on_the_day_the_calendar_says(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        """On Thursday: sold on Wednesday for 100, today for 43.436, bought for 900."""
        stub.says(
            "/v2/account/activities",
            [
                fill("1", "2026-10-07T18:00:00Z", "sell", "1", "100"),
                fill("2", "2026-10-08T15:10:00.5Z", "sell", "0.5", "86.872"),
                fill("3", "2026-10-08T15:10:01Z", "buy", "9", "100"),
            ],
        )
        account = reader.account()
        assert account.settled_cash == account.cash - D("43.44")

    def test_on_the_day_before_a_holiday_trades_settle_after_it(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        monday = {**OPEN_CLOCK, "timestamp": "2026-10-12T11:00:00-04:00"}  # Columbus Day: no settlement
        stub.says("/v2/clock", monday)
        stub.says("/v2/account/activities", [fill("1", "2026-10-09T18:00:00Z", "sell", "1", "100")])
        account = reader.account()
        assert account.settled_cash == account.cash - 100

    def test_only_what_is_new_is_read_again(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says(
            "/v2/account/activities",
            [fill("1", "2026-10-08T15:00:00Z", "sell", "1", "100")],
            [
                fill("1", "2026-10-08T15:00:00Z", "sell", "1", "100"),
                fill("2", "2026-10-08T15:01:00Z", "sell", "1", "7"),
            ],
        )
        reader.account()
        account = reader.account()
        first, second = stub.queries("/v2/account/activities")
        assert (first["after"], second["after"]) == ("2026-10-08T03:59:59Z", "2026-10-08T14:45:00Z")
        assert account.settled_cash == account.cash - 107

    def test_a_lower_figure_of_the_brokers_own_is_believed(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/account", {**ACCOUNT, "cash_withdrawable": "12.5"})
        assert reader.account().settled_cash == D("12.5")


class TestPositions:
    def test_positions_are_sorted_and_shorts_are_negative(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        row = {"side": "long", "asset_class": "a class of tomorrow", "exchange": "ASCX"}
        stub.says(
            "/v2/positions",
            [
                {**row, "symbol": "KO", "qty": "0.557436865", "cost_basis": "48.430054"},
                {**row, "symbol": "BAC", "qty": "-3", "side": "short"},
                {**row, "symbol": "AMD", "qty": "4", "side": "short", "cost_basis": None},
                {**row, "symbol": "ZERO", "qty": "0"},
            ],
        )
        assert [(each.symbol, each.quantity, each.cost_basis) for each in reader.positions()] == [
            ("AMD", -4, None),
            ("BAC", -3, None),
            ("KO", D("0.557436865"), D("48.430054")),
        ]

    def test_a_position_without_a_quantity_is_no_position(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/positions", [{"symbol": "KO", "qty": "1"}, {"symbol": "PEP", "qty": None}])
        with pytest.raises(BrokerUnavailable, match="positions row 2, qty"):
            reader.positions()


KO = {"symbol": "KO", "name": "Coca-Cola Company", "class": "us_equity", "status": "active", "tradable": True}


class TestAssets:
    def test_a_few_are_looked_up_and_the_unknown_are_absent(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/assets/KO", {**KO, "fractionable": True, "cusip": "191216100"})
        stub.says("/v2/assets/GONE", {**KO, "symbol": "GONE", "status": "inactive", "cusip": None})
        stub.says("/v2/assets/BTCUSD", {**KO, "symbol": "BTCUSD", "class": "crypto"})
        assert reader.assets(["KO", "GONE", "BTCUSD", "NOSUCH"]) == {
            "KO": Security("KO", "Coca-Cola Company", "191216100", fractionable=True),
            "GONE": Security("GONE", "Coca-Cola Company", tradable=False),
        }

    def test_many_are_taken_from_the_list_which_is_read_once_a_day(
        self, stub: StubAlpaca, reader: AlpacaReader
    ) -> None:
        symbols = [f"S{number}" for number in range(8)]
        stub.says("/v2/assets", [{**KO, "symbol": symbol} for symbol in symbols])
        assert set(reader.assets([*symbols, "NOSUCH"])) == set(symbols)
        reader.assets(symbols)
        assert stub.queries("/v2/assets") == [{"status": "active", "asset_class": "us_equity"}]
        stub.says("/v2/clock", {**OPEN_CLOCK, "timestamp": "2026-10-09T11:10:15-04:00"})
        reader.clock()
        reader.assets(symbols)
        assert stub.count("/v2/assets") == 2

    def test_what_a_row_does_not_say_is_not_assumed(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/assets/KO", {"symbol": "KO"})
        assert reader.assets(["KO"])["KO"] == Security("KO", tradable=False, fractionable=False)

    def test_a_symbol_is_part_of_an_address_and_nothing_more(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/assets/..%2Forders", Said({"message": "asset not found for ../orders"}, 404))
        assert reader.assets(["../orders"]) == {}
        assert [each.path for each in stub.asked] == ["/v2/assets/..%2Forders"]
