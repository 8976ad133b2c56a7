"""The simulated venue's prices, its chance, and its file."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from worlds import BEFORE, CLOSES, DAYS, D, at, buy, prices, refusal, sell, settings, status_of, told, venue

from brokers.errors import OrderRefused, OutcomeUnknown
from brokers.simulated import SimulatedVenue, VenueError, VenueMismatch, VenuePrices
from brokers.simulated.fate import fate_of
from state.reasons import ReasonCode
from state.records import (
    BrokerOrder,
    BrokerOrderStatus,
    OrderRequest,
    OrderType,
    Side,
)

# ------------------------------------------------------------------ prices


class TestPrices:
    def test_quotes_are_yesterdays_close_until_the_close(self, tmp_path: Path) -> None:
        made = venue(tmp_path, half_spread_bps=D(10))
        shown = made.broker().quotes(["AAA"])["AAA"]
        assert (shown.bid, shown.ask, shown.last, shown.at) == (D("99.90"), D("100.10"), D("100.00"), made.now)
        made.advance_to(at(1, 20, 59, 59))
        assert made.broker().quotes(["AAA"])["AAA"].last == 100
        made.advance_to(at(1, 21, 0))
        assert made.broker().quotes(["AAA"])["AAA"].last == 101

    def test_a_trade_is_at_its_own_sessions_close_half_a_spread_against_us(self, tmp_path: Path) -> None:
        made = venue(tmp_path, half_spread_bps=D(10))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(1, 15, 1))
        made.broker().submit(sell("s", "AAA", 4))
        made.advance_to(at(1, 15, 2))
        # the close of 101.00 is 100.899 at the bid, 101.101 at the ask: rounded to the cent against us
        assert [fill.price for fill in made.fills()] == [D("101.11"), D("100.89")]

    def test_a_close_with_more_decimals_keeps_four(self, tmp_path: Path) -> None:
        closes = {"AAA": ("7.123456",) * 5}
        made = venue(tmp_path, world=prices(closes), half_spread_bps=D(1))
        shown = made.broker().quotes(["AAA"])["AAA"]
        assert (shown.bid, shown.ask) == (D("7.1227"), D("7.1242"))

    def test_orders_fill_at_the_next_match_tick_and_not_before(self, tmp_path: Path) -> None:
        made = venue(tmp_path, now=at(1, 15, 0, 10))
        made.broker().submit(buy("b", "AAA", 1))
        made.advance_to(at(1, 15, 0, 59))
        assert made.fills() == ()
        made.advance_to(at(1, 15, 30))
        assert [fill.occurred_at for fill in made.fills()] == [at(1, 15, 1)]

    def test_a_sell_filled_at_1546_funds_a_buy_sent_at_1547(self, tmp_path: Path) -> None:
        """New York 15:45 is 20:45 UTC in January."""
        made = venue(tmp_path, cash="1010.00", now=at(1, 20, 30))
        made.broker().submit(buy("first", "AAA", 10))
        made.advance_to(at(1, 20, 45))
        assert made.cash == 0
        made.broker().submit(sell("sell", "AAA", 10))
        assert refusal(made, buy("early", "BBB", 20)) == ReasonCode.ORDER_INSUFFICIENT_CASH
        made.advance_to(at(1, 20, 46, 30))
        made.broker().submit(buy("funded", "BBB", 20))
        made.advance_to(at(1, 20, 47))
        assert status_of(made, "funded") == (BrokerOrderStatus.FILLED, 20)
        assert made.cash == 1010 - 20 * 40

    def test_an_order_of_the_last_minute_fills_at_the_close(self, tmp_path: Path) -> None:
        made = venue(tmp_path, now=at(1, 20, 59, 30))
        made.broker().submit(buy("b", "AAA", 1))
        made.advance_to(at(1, 21, 30))
        assert [fill.occurred_at for fill in made.fills()] == [at(1, 21, 0)]

    def test_market_on_close_waits_for_the_close_and_has_a_deadline(self, tmp_path: Path) -> None:
        def on_close(client_order_id: str) -> OrderRequest:
            return OrderRequest(client_order_id, "AAA", Side.BUY, D(1), OrderType.MARKET_ON_CLOSE)

        made = venue(tmp_path, now=at(1, 20, 50))
        made.broker().submit(on_close("in time"))
        made.advance_to(at(1, 20, 50, 1))
        assert refusal(made, on_close("late")) == ReasonCode.MARKET_CLOSED
        made.advance_to(at(1, 20, 59, 59))
        assert made.fills() == ()
        made.advance_to(at(1, 21, 0))
        assert [(fill.occurred_at, fill.price) for fill in made.fills()] == [(at(1, 21, 0), D("101.00"))]

    def test_a_limit_fills_only_where_the_sessions_price_meets_it(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.broker().submit(buy("meets", "BBB", 1, limit="40.00"))  # the session closes at 40, the quote is 50
        made.broker().submit(buy("misses", "BBB", 1, limit="39.99"))
        made.advance_to(at(1, 15, 1))
        assert status_of(made, "meets") == (BrokerOrderStatus.FILLED, 1)
        made.advance_to(at(1, 21, 0))
        assert status_of(made, "misses") == (BrokerOrderStatus.EXPIRED, 0)

    def test_bars_are_as_traded_with_the_total_return_beside(self, tmp_path: Path) -> None:
        adjusted = {**CLOSES, "AAA": ("90", "91", "92", "93", "94"), "OFF": ("1",) * 5}
        made = venue(tmp_path, world=prices(adjusted=adjusted), now=at(2, 15, 0))
        bars = made.broker().daily_bars(["BBB", "AAA"], DAYS[1], DAYS[4])
        assert [(bar.session, bar.symbol, bar.close, bar.adjusted) for bar in bars] == [
            (DAYS[1], "AAA", 101, 91),
            (DAYS[1], "BBB", 40, 40),
        ]

    def test_a_symbol_without_a_close_has_no_quote_bar_or_trade(self, tmp_path: Path) -> None:
        closes = {
            **{symbol: tuple(map(D, series)) for symbol, series in CLOSES.items()},
            "GAP": (D(5), None) + (D(6),) * 3,
        }
        world = VenuePrices(prices().sessions, tuple(closes), closes)
        made = venue(tmp_path, world=world)
        made.broker().submit(buy("waits", "GAP", 1))
        made.advance_to(at(1, 22, 0))
        assert status_of(made, "waits") == (BrokerOrderStatus.EXPIRED, 0)
        assert made.broker().quotes(["GAP"]) == {}
        assert made.broker().daily_bars(["GAP"], DAYS[1], DAYS[1]) == ()
        made.advance_to(at(2, 15, 0))
        assert refusal(made, buy("blind", "GAP", 1)) == ReasonCode.QUOTE_MISSING

    def test_past_the_history_the_clock_names_the_next_weekday(self, tmp_path: Path) -> None:
        made = venue(tmp_path, now=at(4, 22, 0))  # a Friday
        clock = made.broker().clock()
        assert not clock.is_open
        assert clock.next_open == datetime(2024, 1, 15, 14, 30, tzinfo=UTC)
        assert clock.next_close == datetime(2024, 1, 15, 21, 0, tzinfo=UTC)


def observed(made: SimulatedVenue, orders: bool) -> list[object]:
    """Everything a client can see from Tuesday's open to a second before its close, with orders that wait."""
    broker = made.broker()
    seen: list[object] = []
    if orders:
        for symbol in ("AAA", "BBB"):
            made.halt(symbol)
        seen.append(broker.submit(buy("b", "AAA", 900)))
        seen.append(refusal(made, buy("too much", "BBB", 250)))
        seen.append(broker.submit(buy("l", "BBB", 100, limit="45.00")))
    for minutes in (0, 30, 200, 359):
        made.advance_to(at(1, 15, 0) + timedelta(minutes=minutes))
        seen += [broker.clock(), broker.account(), broker.positions(), broker.open_orders(), broker.order_events()]
        seen += [
            broker.activities(),
            broker.quotes(["AAA", "BBB"]),
            broker.daily_bars(["AAA", "BBB"], DAYS[0], DAYS[4]),
        ]
    made.advance_to(at(1, 20, 59, 59))
    return [*seen, broker.quotes(["AAA", "BBB"]), broker.daily_bars(["AAA", "BBB"], DAYS[0], DAYS[4])]


@pytest.mark.parametrize("orders", [False, True])
def test_no_answer_before_the_close_depends_on_the_close(tmp_path: Path, orders: bool) -> None:
    """Two worlds that differ from Tuesday's close on look the same until then, and differ at that instant."""
    other_closes = {symbol: (series[0], *("77.77",) * 4) for symbol, series in CLOSES.items()}
    (tmp_path / "other").mkdir()
    made, other = venue(tmp_path), venue(tmp_path / "other", world=prices(other_closes))
    assert observed(made, orders) == observed(other, orders)
    for each in (made, other):
        each.advance_to(at(1, 21, 0))
    assert made.broker().quotes(["AAA"]) != other.broker().quotes(["AAA"])


# ------------------------------------------------------------------ chance


class TestChance:
    def fates_seen(self, made: SimulatedVenue, sent: list[str]) -> dict[str, tuple[object, ...]]:
        for name in sent:
            with suppress(OrderRefused):
                made.broker().submit(buy(name, "AAA", 10))
        made.advance_to(at(1, 21, 0))
        orders = [made.broker().order_by_client_id(name) for name in sent]
        return {
            order.client_order_id: (
                order.status,
                [
                    (f.activity_id, f.quantity, f.occurred_at)
                    for f in made.fills()
                    if f.broker_order_id == order.broker_order_id
                ],
            )
            for order in orders
            if order is not None
        }

    def test_an_orders_fate_does_not_depend_on_the_others(self, tmp_path: Path) -> None:
        names = [f"order-{number}" for number in range(60)]
        results = []
        for number, sent in enumerate((names, names[::-1], names[:30:3])):
            (tmp_path / str(number)).mkdir()
            made = venue(tmp_path / str(number), partial_fill_probability=0.5, rejection_probability=0.2)
            results.append(self.fates_seen(made, sent))
        forward, backward, some = results
        assert forward == backward
        assert some == {name: forward[name] for name in some}
        endings = {status for status, _ in forward.values()}
        assert endings == {BrokerOrderStatus.FILLED, BrokerOrderStatus.EXPIRED, BrokerOrderStatus.REJECTED}
        assert len(forward) < len(names)  # some were turned down on arrival

    def test_fates_come_as_often_as_the_settings_say(self) -> None:
        chances = settings(partial_fill_probability=0.2, rejection_probability=0.1)
        fates = [fate_of(f"order-{number}", chances) for number in range(4000)]
        assert 0.17 < sum(fate.first_fill is not None for fate in fates) / 4000 < 0.23
        assert 0.035 < sum(fate.rest_never_fills for fate in fates) / 4000 < 0.065
        assert 0.035 < sum(fate.refused for fate in fates) / 4000 < 0.065
        assert 0.035 < sum(fate.rejected for fate in fates) / 4000 < 0.065
        assert all(fate.first_fill is not None for fate in fates if fate.rest_never_fills)
        assert fate_of("order-1", settings()) == fate_of("order-2", settings())

    def test_a_partial_fill_is_completed_one_tick_later_in_whole_shares(self, tmp_path: Path) -> None:
        made = venue(tmp_path, partial_fill_probability=1.0)
        name = next(f"o{n}" for n in range(99) if not fate_of(f"o{n}", made.settings).rest_never_fills)
        made.broker().submit(buy(name, "AAA", 7))
        made.advance_to(at(1, 15, 5))
        first, second = made.fills()
        assert (first.occurred_at, second.occurred_at) == (at(1, 15, 1), at(1, 15, 2))
        assert first.quantity + second.quantity == 7
        assert first.quantity % 1 == 0
        assert first.settle_date == DAYS[2]

    def test_a_rest_that_never_fills_expires(self, tmp_path: Path) -> None:
        made = venue(tmp_path, partial_fill_probability=1.0)
        name = next(f"o{n}" for n in range(99) if fate_of(f"o{n}", made.settings).rest_never_fills)
        made.broker().submit(buy(name, "AAA", 10))
        made.advance_to(at(1, 21, 0))
        status, filled = status_of(made, name)
        assert status is BrokerOrderStatus.EXPIRED
        assert 0 < filled < 10
        assert made.lots()[0].quantity == filled

    def test_market_on_close_fills_whole_or_is_never_completed(self, tmp_path: Path) -> None:
        made = venue(tmp_path, partial_fill_probability=1.0)
        names = [f"o{number}" for number in range(12)]
        for name in names:
            made.broker().submit(OrderRequest(name, "AAA", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE))
        made.advance_to(at(1, 21, 0))
        for name in names:
            stuck = fate_of(name, made.settings).rest_never_fills
            status, filled = status_of(made, name)
            assert status is (BrokerOrderStatus.EXPIRED if stuck else BrokerOrderStatus.FILLED)
            assert (filled < 10) is stuck

    def test_a_refusal_whose_answer_is_lost_is_unknown_too(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.lose_next_answer("after")
        with pytest.raises(OutcomeUnknown):
            made.broker().submit(sell("nothing held", "AAA", 1))
        assert made.broker().order_by_client_id("nothing held") is None

    def test_commanded_fills_come_before_chance(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.fill_next("b", D("0.25"))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(1, 15, 1))
        assert status_of(made, "b") == (BrokerOrderStatus.PARTLY_FILLED, 2)
        made.advance_to(at(1, 15, 2))
        assert status_of(made, "b") == (BrokerOrderStatus.FILLED, 10)
        made.fill_next("never", D(0), hold_rest=True)
        made.broker().submit(buy("never", "AAA", 10))
        made.advance_to(at(1, 21, 0))
        assert status_of(made, "never") == (BrokerOrderStatus.EXPIRED, 0)
        told_of = [order.status for order in made.broker().order_events().orders if order.client_order_id == "never"]
        assert told_of == [BrokerOrderStatus.WORKING, BrokerOrderStatus.EXPIRED]


# ------------------------------------------------------------------ the file


class TestFile:
    def test_one_leap_and_many_steps_give_the_same_history(self, tmp_path: Path) -> None:
        histories = []
        for name, step in (("leap", timedelta(hours=6)), ("steps", timedelta(seconds=17))):
            (tmp_path / name).mkdir()
            made = venue(tmp_path / name, partial_fill_probability=0.5)
            for number in range(12):
                made.broker().submit(buy(f"o{number}", "AAA", 10))
            while made.now < at(1, 21, 0):
                made.advance_to(min(made.now + step, at(1, 21, 0)))
            histories.append((told(made.broker().activities().activities), made.broker().order_events().orders))
        assert histories[0] == histories[1]

    def test_going_back_changes_nothing(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.advance_to(at(0, 15, 0))
        assert made.now == at(1, 15, 0)
        with pytest.raises(ValueError, match="timezone"):
            made.advance_to(datetime(2024, 1, 9, 16, 0))  # noqa: DTZ001

    def test_accounts_have_ids_of_their_own(self, tmp_path: Path) -> None:
        ids: list[set[str]] = []
        orders: list[BrokerOrder] = []
        for number in ("SIM-1", "SIM-2"):
            made = SimulatedVenue(
                tmp_path / f"{number}.db", prices(), settings(), account_number=number, start=at(1, 15, 0)
            )
            made.deposit(D(1000), reference="opening")
            orders.append(made.broker().submit(buy("b", "AAA", 1)))
            made.advance_to(at(1, 16, 0))
            ids.append({each.activity_id for each in made.broker().activities().activities})
        assert not ids[0] & ids[1]
        assert orders[0].broker_order_id != orders[1].broker_order_id

    def test_another_world_is_refused(self, tmp_path: Path) -> None:
        venue(tmp_path).close()
        path = tmp_path / "venue.db"
        for world, chosen, number in (
            (prices(), settings(seed="other"), "SIM-1"),
            (prices(), settings(fractional=True), "SIM-1"),
            (prices({**CLOSES, "AAA": ("1", "2", "3", "4", "5")}), settings(), "SIM-1"),
            (prices(dividends={("AAA", DAYS[1]): D(1)}), settings(), "SIM-1"),
            (prices(), settings(), "SIM-2"),
        ):
            with pytest.raises(VenueMismatch):
                SimulatedVenue(path, world, chosen, account_number=number, start=BEFORE)
        SimulatedVenue(path, prices(), settings(), start=at(4, 15, 0)).close()

    def test_a_second_writer_is_noticed(self, tmp_path: Path) -> None:
        first = venue(tmp_path)
        second = SimulatedVenue(tmp_path / "venue.db", prices(), settings(), start=BEFORE)
        second.advance_to(at(1, 16, 0))
        with pytest.raises(VenueError, match="reopen"):
            first.deposit(D(1), reference="late")
        assert first.now == second.now  # it has read the file again
        assert "late" not in first.book.cash_movements

    def test_money_and_quantities_are_text(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(1, 15, 1))
        made.broker().submit(sell("s", "AAA", 5))
        made.advance_to(at(1, 15, 2))
        connection = sqlite3.connect(tmp_path / "venue.db")
        for table, column in (
            ("venue", "cash"),
            ("activities", "amount"),
            ("activities", "quantity"),
            ("lots", "cost"),
            ("disposals", "proceeds"),
            ("orders", "filled_value"),
        ):
            kinds = connection.execute(f"SELECT DISTINCT typeof({column}) FROM {table}").fetchall()
            assert kinds == [("text",)], (table, column)
        connection.close()
