"""What the simulated venue does to shares and cash: disposal, corporate actions, settlement."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from worlds import BEFORE, DAYS, D, at, buy, prices, refusal, sell, settings, status_of, venue

from brokers.simulated import SimulatedVenue, VenueError, VenuePrices, VenueSession
from state.reasons import ReasonCode
from state.records import (
    ActivityKind,
    BrokerOrderStatus,
    LotSelection,
    OrderRequest,
    ReliefMethod,
    Side,
)

# ------------------------------------------------------------------ lots


class TestDisposal:
    def three_lots(self, path: Path, **changed: Any) -> SimulatedVenue:
        """Ten BBB bought at 40, 60 and 55 on three days; the last session closes at 45."""
        made = venue(path, **changed)
        for session in (1, 2, 3):
            made.advance_to(at(session, 15, 0))
            made.broker().submit(buy(f"b{session}", "BBB", 10))
            made.advance_to(at(session, 15, 1))
        made.advance_to(at(4, 15, 0))
        return made

    @pytest.mark.parametrize(
        ("method", "costs"),
        [
            (ReliefMethod.FIFO, [(10, 400), (5, 300)]),
            (ReliefMethod.LIFO, [(10, 550), (5, 300)]),
            (ReliefMethod.HIFO, [(10, 600), (5, 275)]),
        ],
    )
    def test_standing_orders(self, tmp_path: Path, method: ReliefMethod, costs: list[tuple[int, int]]) -> None:
        made = self.three_lots(tmp_path, relief_method=method)
        made.broker().submit(sell("s", "BBB", 15))
        made.advance_to(at(4, 15, 1))
        assert [(each.quantity, each.cost) for each in made.disposals()] == costs
        assert [each.proceeds for each in made.disposals()] == [450, 225]
        assert sum(lot.quantity for lot in made.lots()) == 15
        assert sum(lot.cost for lot in made.lots()) == 1550 - sum(cost for _, cost in costs)
        assert made.fills()[-1].lots == ()  # a broker of standing orders does not say which lots it sold

    def test_named_lots_are_sold_whatever_their_age(self, tmp_path: Path) -> None:
        made = self.three_lots(tmp_path, relief_method=ReliefMethod.SPECIFIC, lot_selection=True)
        bought = made.fills()
        order = made.broker().order_by_client_id("b2")
        assert order is not None
        named = (LotSelection(bought[2].activity_id, D(6)), LotSelection(order.broker_order_id, D(3)))
        made.fill_next("s", D("0.8"))  # in two fills: 7 shares, then 2
        made.broker().submit(OrderRequest("s", "BBB", Side.SELL, D(9), lots=named))
        made.advance_to(at(4, 15, 5))
        assert [(each.purchase_order_id, each.quantity, each.cost) for each in made.disposals()] == [
            (bought[2].broker_order_id, 6, 330),
            (order.broker_order_id, 1, 60),
            (order.broker_order_id, 2, 120),
        ]
        told_lots = [(lot.lot_id, lot.quantity) for fill in made.fills()[3:] for lot in fill.lots]
        assert told_lots == [(bought[2].activity_id, 6), (bought[1].activity_id, 1), (bought[1].activity_id, 2)]
        assert [lot.quantity for lot in made.lots()] == [10, 7, 4]

    def test_naming_lots_has_its_refusals(self, tmp_path: Path) -> None:
        made = self.three_lots(tmp_path, lot_selection=True)
        lot = made.lots()[0].lot_id

        def naming(name: str, quantity: int, *lots: tuple[str, int]) -> OrderRequest:
            named = tuple(LotSelection(lot_id, D(shares)) for lot_id, shares in lots)
            return OrderRequest(name, "BBB", Side.SELL, D(quantity), lots=named)

        assert refusal(made, naming("sum", 5, (lot, 4))) == ReasonCode.ORDER_INVALID
        assert refusal(made, naming("more", 11, (lot, 11))) == ReasonCode.ORDER_INSUFFICIENT_SHARES
        assert refusal(made, naming("unknown", 5, ("?", 5))) == ReasonCode.ORDER_INSUFFICIENT_SHARES
        made.broker().submit(naming("first", 6, (lot, 6)))
        assert refusal(made, naming("taken", 5, (lot, 5))) == ReasonCode.ORDER_INSUFFICIENT_SHARES

    def test_a_fifo_account_takes_no_lots(self, tmp_path: Path) -> None:
        made = self.three_lots(tmp_path)
        assert not made.broker().capabilities.lot_selection
        lots = (LotSelection(made.lots()[0].lot_id, D(1)),)
        assert refusal(made, OrderRequest("s", "BBB", Side.SELL, D(1), lots=lots)) == ReasonCode.ORDER_INVALID

    def test_fills_of_one_order_are_one_lot(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.fill_next("b", D("0.5"))
        made.broker().submit(buy("b", "AAA", 10))
        made.broker().submit(buy("c", "AAA", 1))
        made.advance_to(at(1, 15, 5))
        first, second = made.lots()
        assert (first.quantity, first.cost, len(first.fill_ids)) == (10, 1010, 2)
        assert first.lot_id == made.fills()[0].activity_id
        assert second.quantity == 1

    def test_lots_are_in_order_of_their_first_fill_not_of_acceptance(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.fill_next("first accepted", D(0))
        made.broker().submit(buy("first accepted", "AAA", 1))
        made.broker().submit(buy("first filled", "AAA", 2))
        made.advance_to(at(1, 15, 5))
        made.broker().submit(sell("s", "AAA", 2))
        made.advance_to(at(1, 15, 6))
        assert [lot.quantity for lot in made.lots()] == [1]

    def test_a_lot_sold_out_between_its_fills_keeps_its_place(self, tmp_path: Path) -> None:
        """Half of b fills and is sold, c is bought, then the rest of b fills: b was still acquired first."""
        made = venue(tmp_path)
        made.fill_next("b", D("0.5"))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(1, 15, 1))
        made.fill_next("b", D(0))
        made.broker().submit(sell("s", "AAA", 5))
        made.broker().submit(buy("c", "AAA", 3))
        made.advance_to(at(1, 15, 2))
        assert [lot.quantity for lot in made.lots()] == [3]
        made.advance_to(at(1, 15, 3))
        assert [lot.quantity for lot in made.lots()] == [5, 3]
        before = made.lots()
        made.close()
        assert SimulatedVenue(tmp_path / "venue.db", prices(), settings(), start=BEFORE).lots() == before


# ------------------------------------------------------------------ corporate actions


class TestCorporateActions:
    def test_a_dividend_pays_on_the_ex_date_to_who_held_at_the_close(self, tmp_path: Path) -> None:
        world = prices(dividends={("AAA", DAYS[2]): D("0.333"), ("BBB", DAYS[2]): D(1)})
        made = venue(tmp_path, world=world)
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(2, 12, 29))
        cash = made.cash
        made.advance_to(at(2, 12, 30))
        assert made.cash == cash + D("3.33")
        paid = made.broker().activities().activities[-1]
        assert (paid.kind, paid.trade_date, paid.quantity, paid.price) == (
            ActivityKind.CASH_DIVIDEND, DAYS[2], 10, D("0.333"),
        )  # fmt: skip
        made.advance_to(at(2, 15, 0))
        assert made.cash == cash + D("3.33")

    def test_a_split_multiplies_lots_and_scales_the_quote_before_the_open(self, tmp_path: Path) -> None:
        world = prices(splits={("AAA", DAYS[2]): (D(3), D(2))})
        made = venue(tmp_path, world=world)
        made.broker().submit(buy("b", "AAA", 5))
        made.advance_to(at(2, 12, 0))
        assert made.broker().quotes(["AAA"])["AAA"].last == 101
        made.advance_to(at(2, 13, 0))
        assert made.broker().quotes(["AAA"])["AAA"].last == D("67.3333")
        [lot] = made.lots()
        assert (lot.quantity, lot.cost, lot.acquired) == (D("7.5"), 505, DAYS[1])
        split = made.broker().activities().activities[-1]
        assert (split.kind, split.ratio_new, split.ratio_old, split.quantity) == (ActivityKind.SPLIT, 3, 2, D("7.5"))
        assert made.broker().daily_bars(["AAA"], DAYS[1], DAYS[1])[0].close == 101  # as traded
        made.advance_to(at(3, 15, 0))
        assert made.broker().quotes(["AAA"])["AAA"].last == 99

    def test_the_fraction_a_split_left_goes_with_the_whole_position(self, tmp_path: Path) -> None:
        made = venue(tmp_path, world=prices(splits={("AAA", DAYS[2]): (D(3), D(2))}))
        made.broker().submit(buy("b", "AAA", 5))
        made.advance_to(at(2, 15, 0))
        assert refusal(made, sell("part", "AAA", "0.5")) == ReasonCode.SYMBOL_NOT_FRACTIONABLE
        made.broker().submit(sell("all", "AAA", "7.5"))
        made.advance_to(at(2, 15, 1))
        assert made.broker().positions() == ()

    def test_a_commanded_split_cancels_orders_and_divides_later_prices(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(1, 15, 1))
        made.broker().submit(sell("waits", "AAA", 10))
        made.split("AAA", D(2), D(1))
        assert status_of(made, "waits")[0] is BrokerOrderStatus.CANCELLED
        assert made.broker().quotes(["AAA"])["AAA"].last == 50
        made.broker().submit(sell("s", "AAA", 20))
        made.advance_to(at(1, 21, 0))
        assert made.fills()[-1].price == D("50.50")
        assert made.broker().daily_bars(["AAA"], DAYS[0], DAYS[4])[-1].close == D("50.50")
        made.advance_to(at(2, 22, 0))
        assert made.broker().quotes(["AAA"])["AAA"].last == D("49.50")

    def test_a_reverse_split_keeps_nine_decimals(self, tmp_path: Path) -> None:
        made = venue(tmp_path, world=prices(splits={("AAA", DAYS[2]): (D(1), D(3))}))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(2, 15, 0))
        assert made.broker().positions()[0].quantity == D("3.333333333")
        assert made.broker().positions()[0].cost_basis == 1010

    def test_a_split_of_several_lots_rounds_the_position_once(self, tmp_path: Path) -> None:
        """Each lot of 10 would be 1.428571429 shares; the position is 30 / 7 = 4.285714286, not three times that."""
        made = venue(tmp_path, world=prices(splits={("AAA", DAYS[2]): (D(1), D(7))}))
        for number in range(3):
            made.broker().submit(buy(f"b{number}", "AAA", 10))
        made.advance_to(at(2, 15, 0))
        assert made.broker().positions()[0].quantity == D("4.285714286")
        assert [lot.quantity for lot in made.lots()] == [D("1.428571429"), D("1.428571428"), D("1.428571429")]

    def test_an_action_on_a_day_without_a_session_counts_for_the_next(self, tmp_path: Path) -> None:
        friday_on = (VenueSession(date(2024, 1, 15), at(4, 14, 30) + timedelta(3), at(4, 21, 0) + timedelta(3)),)
        base = prices()
        closes = {symbol: (*series, series[-1]) for symbol, series in base.closes.items()}
        world = VenuePrices(base.sessions + friday_on, base.symbols, closes, None, {("AAA", date(2024, 1, 13)): D(1)})
        made = venue(tmp_path, world=world, now=at(4, 15, 0))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(4, 23, 0))
        cash = made.cash
        made.advance_to(friday_on[0].opens_at)
        assert made.cash == cash + 10


# ------------------------------------------------------------------ cash


class TestCash:
    def test_a_buy_that_became_too_dear_fills_what_cash_affords(self, tmp_path: Path) -> None:
        """Sized at Tuesday's 40.00, BBB costs 60.00 on Wednesday: 600 USD buy ten, not thirteen."""
        made = venue(tmp_path, cash="600.00", now=at(2, 15, 0))
        made.broker().submit(buy("b", "BBB", 13))
        made.advance_to(at(2, 15, 1))
        order = made.broker().order_by_client_id("b")
        assert order is not None
        assert (order.status, order.filled_quantity) == (BrokerOrderStatus.CANCELLED, 10)
        assert order.reason == "ORDER_INSUFFICIENT_CASH: unfilled=3"
        assert made.cash == 0

    def test_cash_of_working_buys_is_set_aside(self, tmp_path: Path) -> None:
        made = venue(tmp_path, cash="1000.00")
        made.halt("AAA")
        made.broker().submit(buy("b", "AAA", 6))
        assert refusal(made, buy("c", "AAA", 5)) == ReasonCode.ORDER_INSUFFICIENT_CASH
        made.broker().submit(buy("d", "AAA", 4))
        with pytest.raises(VenueError):
            made.withdraw(D(1), reference="w")

    def test_fractions_trade_where_venue_and_security_take_them(self, tmp_path: Path) -> None:
        made = venue(tmp_path, fractional=True)
        made.broker().submit(buy("b", "FRC", "1.123456789"))
        assert refusal(made, buy("c", "AAA", "1.5")) == ReasonCode.SYMBOL_NOT_FRACTIONABLE
        made.advance_to(at(1, 15, 1))
        [fill] = made.fills()
        assert fill.amount == D("-12.36")  # 1.123456789 at 11.00 is 12.358...
        assert made.broker().positions()[0].quantity == D("1.123456789")

    def test_an_inactive_security_does_not_trade(self, tmp_path: Path) -> None:
        made = venue(tmp_path)
        assert not made.broker().assets(["OFF"])["OFF"].tradable
        assert refusal(made, buy("b", "OFF", 1)) == ReasonCode.SYMBOL_NOT_TRADABLE

    def test_proceeds_settle_the_next_session_also_past_the_history(self, tmp_path: Path) -> None:
        made = venue(tmp_path, cash="1000.00", now=at(3, 15, 0))
        made.broker().submit(buy("b", "AAA", 10))
        made.advance_to(at(4, 15, 0))
        assert (made.cash, made.settled_cash) == (20, 20)
        made.broker().submit(sell("s", "AAA", 10))
        made.advance_to(at(4, 15, 1))
        assert (made.cash, made.settled_cash) == (1040, 20)
        assert made.fills()[-1].settle_date == date(2024, 1, 15)
        with pytest.raises(VenueError):
            made.withdraw(D(21), reference="too early")
        made.advance_to(datetime(2024, 1, 15, 4, 59, tzinfo=UTC))
        assert made.settled_cash == 20
        made.advance_to(datetime(2024, 1, 15, 5, 0, tzinfo=UTC))
        assert made.settled_cash == 1040
        made.withdraw(D(1040), reference="out")
        assert made.cash == 0

    def test_a_deposit_counts_once_per_reference(self, tmp_path: Path) -> None:
        made = venue(tmp_path, cash="0")
        for _ in range(2):
            made.deposit(D(100), reference="monthly-1")
        assert made.cash == 100
        made.deposit(D(100), reference="monthly-2")
        assert made.cash == 200
        with pytest.raises(ValueError, match="monthly-1"):
            made.deposit(D(99), reference="monthly-1")
        with pytest.raises(ValueError, match="whole cents"):
            made.deposit(D("0.001"), reference="dust")
        kinds = [each.kind for each in made.broker().activities().activities]
        assert kinds == [ActivityKind.DEPOSIT] * 2
