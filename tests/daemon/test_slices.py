"""Cutting the legs of a plan into ties: few dollars are ever out of the market, and no share is lost or invented."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.slices import cut
from state.records import PlannedTrade, Side, TradeReason

D = Decimal


def leg(number: int, side: Side, symbol: str, quantity: object, price: object) -> PlannedTrade:
    return PlannedTrade(number, symbol, side, D(str(quantity)), D(str(price)), TradeReason.REBALANCE, "")


def told(trades: list[PlannedTrade], most: object) -> list[tuple[int, str, str, Decimal]]:
    return [(one.tie, one.trade.side.value, one.trade.symbol, one.quantity) for one in cut(trades, D(str(most)))]


def test_sixty_thousand_dollars_are_swapped_in_two_ties_of_thirty() -> None:
    """The docstring's swap: 300 XOM at 200 for 400 CVX and 200 COP at 100, 35,000 USD unhedged at most."""
    trades = [leg(1, Side.SELL, "XOM", 300, 200), leg(2, Side.BUY, "CVX", 400, 100), leg(3, Side.BUY, "COP", 200, 100)]
    assert told(trades, 35_000) == [
        (1, "sell", "XOM", D(150)),
        (1, "buy", "CVX", D(300)),
        (2, "sell", "XOM", D(150)),
        (2, "buy", "CVX", D(100)),
        (2, "buy", "COP", D(200)),
    ]


@pytest.mark.parametrize(("most", "ties"), [(60_000, 1), (59_999, 2), (30_000, 2), (29_999, 3), (20_000, 3)])
def test_there_are_as_many_ties_as_the_bound_needs_and_no_more(most: int, ties: int) -> None:
    trades = [leg(1, Side.SELL, "XOM", 300, 200), leg(2, Side.BUY, "CVX", 600, 100)]
    assert max(one.tie for one in cut(trades, D(most))) == ties


def test_what_cash_pays_for_comes_first_and_waits_for_no_sale() -> None:
    """10,000 of sales and 25,000 of purchases: the first 15,000 are bought with cash that is there."""
    trades = [leg(1, Side.SELL, "XOM", 100, 100), leg(2, Side.BUY, "CVX", 200, 100), leg(3, Side.BUY, "COP", 50, 100)]
    assert told(trades, 50_000) == [
        (0, "buy", "CVX", D(150)),
        (1, "sell", "XOM", D(100)),
        (1, "buy", "CVX", D(50)),
        (1, "buy", "COP", D(50)),
    ]


def test_a_deposit_alone_is_one_tie_of_buys() -> None:
    assert told([leg(1, Side.BUY, "CVX", 30, 100), leg(2, Side.BUY, "COP", 20, 100)], 500) == [
        (0, "buy", "CVX", D(30)),
        (0, "buy", "COP", D(20)),
    ]


def test_sales_that_raise_cash_are_cut_too() -> None:
    assert told([leg(1, Side.SELL, "XOM", 100, 100)], 5_000) == [(1, "sell", "XOM", D(50)), (2, "sell", "XOM", D(50))]


def test_a_fractional_leg_is_cut_exactly_and_a_whole_one_on_whole_shares() -> None:
    trades = [leg(1, Side.SELL, "XOM", "10.5", 100), leg(2, Side.BUY, "CVX", 7, 150)]
    pieces = cut(trades, D(400))
    sold = [one.quantity for one in pieces if one.trade.side is Side.SELL]
    assert sold == [D("3.5")] * 3
    assert all(one.quantity % 1 == 0 for one in pieces if one.trade.side is Side.BUY)


def test_nothing_to_cut() -> None:
    assert cut([], D(1_000)) == ()


prices = st.integers(100, 100_000).map(lambda cents: D(cents) / 100)
quantities = st.one_of(
    st.integers(1, 2_000).map(D), st.integers(1, 2_000_000_000_000).map(lambda units: D(units) / 10**9)
)


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[PlannedTrade], Decimal]:
    """One to four sells and up to four buys of about the same worth, and a bound."""
    sells = draw(st.lists(st.tuples(prices, quantities), min_size=1, max_size=4))
    worth = sum((price * quantity for price, quantity in sells), D(0))
    part = draw(st.sampled_from(["0", "0.5", "0.98", "1", "1.3"]))
    shares = draw(st.lists(st.tuples(prices, st.integers(1, 10)), max_size=4)) if part != "0" else []
    total = sum(weight for _, weight in shares)
    trades = [
        leg(number, Side.SELL, f"S{number}", quantity, price) for number, (price, quantity) in enumerate(sells, 1)
    ]
    for number, (price, weight) in enumerate(shares, len(trades) + 1):
        quantity = (worth * D(part) * weight / total / price).to_integral_value()
        if quantity > 0:
            trades.append(leg(number, Side.BUY, f"B{number}", quantity, price))
    bound = worth / draw(st.integers(1, 12)) * draw(st.sampled_from([D("0.7"), D(1), D("1.4")]))
    return trades, bound.quantize(D("0.01")) + 1


@given(plans())
def test_slices_sum_to_their_legs_exactly_and_none_is_empty(plan: tuple[list[PlannedTrade], Decimal]) -> None:
    trades, most = plan
    total: dict[int, Decimal] = defaultdict(Decimal)
    numbers: dict[int, list[int]] = defaultdict(list)
    for piece in cut(trades, most):
        assert piece.quantity > 0
        total[piece.trade.leg] += piece.quantity
        numbers[piece.trade.leg].append(piece.slice_number)
    assert dict(total) == {trade.leg: trade.quantity for trade in trades}
    assert all(found == list(range(len(found))) for found in numbers.values())


@given(plans())
def test_no_tie_sells_more_than_the_bound_and_one_share(plan: tuple[list[PlannedTrade], Decimal]) -> None:
    trades, most = plan
    dearest = max(trade.price for trade in trades)
    sold: dict[int, Decimal] = defaultdict(Decimal)
    for piece in cut(trades, most):
        if piece.trade.side is Side.SELL:
            assert piece.tie >= 1
            sold[piece.tie] += piece.quantity * piece.trade.price
    assert all(dollars <= most + dearest for dollars in sold.values())
