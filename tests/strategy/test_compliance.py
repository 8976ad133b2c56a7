"""One clean plan, and each rule broken once. The clean plan harvests 100 XYZ at 90 into 90 PEER at 100."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal as D  # noqa: N817
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.reasons import Reason, ReasonCode
from state.records import Lot, PlannedLot, PlannedTrade, ReliefMethod, Side, Term, TradeReason
from strategy import compliance
from strategy.compliance import RULES, ComplianceFacts, check
from strategy.types import WashMasks

BOUGHT = date(2026, 5, 4)


def lot(lot_id: str, quantity: str, price: str, symbol: str = "XYZ", known: bool = True) -> Lot:
    return Lot(lot_id, "acct", symbol, BOUGHT, BOUGHT, D(quantity), D(quantity) * D(price), basis_known=known)


def row(lot_id: str, quantity: str, gain_loss: str, disallowed: str = "0") -> PlannedLot:
    return PlannedLot(lot_id, BOUGHT, D(quantity), D(0), Term.SHORT, D(gain_loss), D(disallowed))


def sell(*rows: PlannedLot, leg: int = 1, symbol: str = "XYZ", price: str = "90", **changes: Any) -> PlannedTrade:
    quantity = sum((each.quantity for each in rows), D(0))
    trade = PlannedTrade(leg, symbol, Side.SELL, quantity, D(price), TradeReason.HARVEST, "", lots=rows)
    return replace(trade, **changes)


def buy(quantity: str = "90", leg: int = 2, symbol: str = "PEER", price: str = "100", **changes: Any) -> PlannedTrade:
    trade = PlannedTrade(leg, symbol, Side.BUY, D(quantity), D(price), TradeReason.REPLACEMENT, "")
    return replace(trade, **changes)


HARVEST = sell(row("A", "100", "-1000"))
CLEAN = (HARVEST, buy())

FACTS = ComplianceFacts(
    relief_method=ReliefMethod.FIFO,
    positions={"XYZ": D(300)},
    queues={"XYZ": (lot("A", "100", "100"), lot("B", "150", "80"), lot("C", "50", "120"))},
    previous_closes={"XYZ": D(91), "PEER": D(100), "TWIN": D(50)},
    masks=WashMasks(),
    disallowed_by_leg={1: D(0)},
    newly_disallowed={},
    cash_usd=D(100),
    cash_reserve_usd=D(50),
    order_max_usd=D(20_000),
    daily_max_usd=D(50_000),
    price_collar=D("0.10"),
    minimum_buy_usd=D(1),
)


def codes(*trades: PlannedTrade, **changes: Any) -> list[ReasonCode]:
    return [reason.code for reason in reasons(*trades, **changes)]


def reasons(*trades: PlannedTrade, **changes: Any) -> tuple[Reason, ...]:
    return check(trades, replace(FACTS, **changes))


def test_a_clean_plan_and_an_empty_one_pass() -> None:
    assert codes(*CLEAN) == []
    assert codes() == []


def test_every_rule_is_listed_and_documented() -> None:
    public = {
        name
        for name, each in vars(compliance).items()
        if callable(each) and getattr(each, "__module__", "") == compliance.__name__ and name[0].islower()
    }
    assert public - {"check"} == {rule.__name__ for rule in RULES}
    assert all(rule.__doc__ and rule.__doc__.split(":")[0].isupper() for rule in RULES)


# ------------------------------------------------------------------ well formed


@pytest.mark.parametrize("quantity", ["0", "-5", "NaN", "Infinity"])
def test_a_quantity_that_is_not_one_is_refused_before_anything_else(quantity: str) -> None:
    assert codes(HARVEST, buy(quantity, symbol="STRANGER")) == [ReasonCode.ORDER_INVALID]


@pytest.mark.parametrize("price", ["0", "-5", "NaN", "Infinity"])
def test_a_price_that_is_not_one_is_refused(price: str) -> None:
    assert codes(HARVEST, buy(price=price)) == [ReasonCode.ORDER_INVALID]


def test_a_lot_amount_that_is_not_a_number_is_refused() -> None:
    assert codes(sell(row("A", "100", "NaN"))) == [ReasonCode.ORDER_INVALID]


def test_two_legs_of_one_number_are_refused() -> None:
    assert codes(HARVEST, buy(leg=1)) == [ReasonCode.ORDER_INVALID] * 2


@pytest.mark.parametrize("limit", ["order_max_usd", "daily_max_usd", "price_collar", "cash_reserve_usd"])
@pytest.mark.parametrize("value", ["NaN", "-1", "Infinity"])
def test_a_limit_that_would_refuse_nothing_is_itself_refused(limit: str, value: str) -> None:
    with pytest.raises(ValueError, match=limit):
        replace(FACTS, **{limit: D(value)})


def test_cash_may_be_negative_but_not_unknown() -> None:
    assert codes(HARVEST, cash_usd=D(-100)) == []
    with pytest.raises(ValueError, match="cash_usd"):
        replace(FACTS, cash_usd=D("NaN"))


# ------------------------------------------------------------------ symbols


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ("restricted", ReasonCode.LIMIT_RESTRICTED),
        ("locked", ReasonCode.SYMBOL_LOCKED),
        ("untradable", ReasonCode.SYMBOL_NOT_TRADABLE),
    ],
)
@pytest.mark.parametrize("symbol", ["XYZ", "PEER"])
def test_a_symbol_on_a_list_is_neither_sold_nor_bought(which: str, code: ReasonCode, symbol: str) -> None:
    (reason,) = reasons(*CLEAN, **{which: frozenset([symbol])})
    assert reason.code is code
    assert dict(reason.details)["symbol"] == symbol


def test_fractions_only_where_the_broker_takes_them() -> None:
    assert codes(HARVEST, buy("89.5")) == [ReasonCode.SYMBOL_NOT_FRACTIONABLE]
    assert codes(HARVEST, buy("89.5"), fractionable=frozenset(["PEER"])) == []
    assert codes(HARVEST, buy("89.000000001"), fractionable=frozenset(["PEER"])) == []
    assert codes(HARVEST, buy("89.0000000001"), fractionable=frozenset(["PEER"])) == [ReasonCode.ORDER_INVALID]
    half = sell(row("A", "0.5", "-5"))
    assert codes(half) == [ReasonCode.SYMBOL_NOT_FRACTIONABLE]


def test_a_buy_below_the_brokers_minimum_is_refused_and_a_small_sell_is_not() -> None:
    fractionable = frozenset(["PEER", "XYZ"])
    assert codes(buy("0.009"), fractionable=fractionable) == [ReasonCode.ORDER_INVALID]
    assert codes(buy("0.01"), fractionable=fractionable) == []
    assert codes(sell(row("A", "0.001", "-0.01")), fractionable=fractionable) == []


# ------------------------------------------------------------------ shares and lots


def test_no_more_is_sold_than_is_held_even_by_two_legs_or_after_a_buy() -> None:
    first, second = sell(row("A", "100", "-1000")), sell(row("B", "150", "1500"), leg=3)
    facts = {"disallowed_by_leg": {1: D(0), 3: D(0)}}
    assert codes(first, second, **facts) == []
    assert codes(first, second, positions={"XYZ": D(249)}, **facts) == [ReasonCode.LIMIT_LONG_ONLY]
    assert ReasonCode.LIMIT_LONG_ONLY in codes(first, positions={})


def test_the_lots_are_those_the_broker_would_sell() -> None:
    assert codes(sell(row("A", "60", "-600"))) == []
    assert codes(sell(row("A", "100", "-1000"), row("B", "20", "200"))) == []
    for wrong in (
        (row("B", "100", "1000"),),  # not the head
        (row("B", "20", "200"), row("A", "100", "-1000")),  # not in order
        (row("A", "50", "-500"), row("B", "50", "500")),  # passes over shares of the first
        (row("C", "50", "-1500"),),
        (row("UNKNOWN", "100", "0"),),
    ):
        assert codes(sell(*wrong)) == [ReasonCode.LIMIT_RELIEF_ORDER]


def test_the_refusal_says_what_the_broker_would_sell() -> None:
    (reason,) = reasons(sell(row("C", "50", "-1500")))
    assert str(reason) == "LIMIT_RELIEF_ORDER: leg=1 symbol=XYZ planned=C:50 broker_sells=A:50"


def test_lots_add_up_to_the_order() -> None:
    assert codes(sell(row("A", "100", "-1000"), quantity=D(90))) == [ReasonCode.LIMIT_RELIEF_ORDER]
    assert codes(sell(row("A", "100", "-1000"), lots=())) == [ReasonCode.LIMIT_RELIEF_ORDER]


def test_two_sells_of_one_name_take_from_the_queue_one_after_the_other() -> None:
    facts = {"disallowed_by_leg": {1: D(0), 3: D(0)}}
    first = sell(row("A", "60", "-600"))
    assert codes(first, sell(row("A", "40", "-400"), row("B", "10", "100"), leg=3), **facts) == []
    assert codes(first, sell(row("A", "60", "-600"), leg=3), **facts) == [ReasonCode.LIMIT_RELIEF_ORDER]


def test_an_account_that_names_its_lots_may_sell_any_it_holds() -> None:
    specific = {"relief_method": ReliefMethod.SPECIFIC}
    assert codes(sell(row("C", "50", "-1500")), **specific) == []
    assert codes(sell(row("C", "51", "-1530")), **specific) == [ReasonCode.LIMIT_RELIEF_ORDER]
    assert codes(sell(row("C", "50", "-1500"), quantity=D(40)), **specific) == [ReasonCode.LIMIT_RELIEF_ORDER]
    assert codes(sell(row("UNKNOWN", "5", "-1")), **specific) == [ReasonCode.LIMIT_RELIEF_ORDER]
    facts = {"disallowed_by_leg": {1: D(0), 3: D(0)}, **specific}
    twice = (sell(row("C", "30", "-900")), sell(row("C", "30", "-900"), leg=3))
    assert codes(*twice, **facts) == [ReasonCode.LIMIT_RELIEF_ORDER]


@given(quantities=st.lists(st.integers(1, 50), min_size=1, max_size=6), sold=st.integers(1, 300))
def test_exactly_one_plan_of_lots_passes_for_each_quantity(quantities: list[int], sold: int) -> None:
    queue = tuple(lot(f"L{place}", str(quantity), "100") for place, quantity in enumerate(quantities))
    sold = min(sold, sum(quantities))
    rows, left = [], sold
    for each in queue:
        piece = min(left, int(each.quantity))
        left -= piece
        if piece:
            rows.append(row(each.lot_id, str(piece), "-1"))
    facts = {"queues": {"XYZ": queue}, "positions": {"XYZ": D(sum(quantities))}, "order_max_usd": D(50_000)}
    assert codes(sell(*rows), **facts) == []
    if len(rows) > 1:
        assert codes(sell(*reversed(rows)), **facts) == [ReasonCode.LIMIT_RELIEF_ORDER]


# ------------------------------------------------------------------ wash sales


def test_nothing_is_bought_inside_its_window() -> None:
    masks = WashMasks(no_buy={"PEER": (date(2026, 12, 1), "sold at a loss in ira")})
    (reason,) = reasons(*CLEAN, masks=masks)
    assert str(reason) == ("WASH_LOSS_SALE_IN_WINDOW: leg=2 symbol=PEER until=2026-12-01 why=sold at a loss in ira")


def test_nothing_is_sold_at_a_loss_inside_its_window_and_a_gain_may_be() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 1), "bought")})
    assert codes(HARVEST, masks=masks) == [ReasonCode.WASH_PURCHASE_IN_WINDOW]
    gain = {"queues": {"XYZ": (lot("B", "150", "80"),)}, "masks": masks}
    assert codes(sell(row("B", "50", "500")), **gain) == []


def test_a_net_gain_does_not_hide_a_loss_row() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 1), "bought")})
    mixed = sell(row("A", "100", "-1000"), row("B", "150", "1500"))
    assert codes(mixed, order_max_usd=D(50_000), masks=masks) == [ReasonCode.WASH_PURCHASE_IN_WINDOW]


def test_a_plan_that_calls_a_loss_a_gain_is_not_believed() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 1), "bought")})
    assert codes(sell(row("A", "100", "1000")), masks=masks) == [ReasonCode.WASH_PURCHASE_IN_WINDOW]


def test_unknown_basis_counts_as_a_loss() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 1), "bought")})
    queues = {"XYZ": (lot("A", "100", "0", known=False),)}
    assert codes(sell(row("A", "100", "0")), masks=masks, queues=queues) == [ReasonCode.WASH_PURCHASE_IN_WINDOW]


def test_cash_a_person_asked_for_may_be_raised_at_a_declared_disallowance() -> None:
    masks = WashMasks(no_loss_sale={"XYZ": (date(2026, 12, 1), "bought")})
    declared = sell(row("A", "100", "-1000", "200"), reason=TradeReason.RAISE_CASH)
    assert codes(declared, masks=masks, disallowed_by_leg={1: D(200)}) == []
    assert codes(declared, masks=masks, disallowed_by_leg={1: D(300)}) == [ReasonCode.WASH_WHAT_IF_DISALLOWS]
    silent = sell(row("A", "100", "-1000"), reason=TradeReason.RAISE_CASH)
    assert codes(silent, masks=masks) == [ReasonCode.WASH_PURCHASE_IN_WINDOW]


def test_a_loss_is_not_swapped_into_an_identical_security() -> None:
    groups = {"XYZ": "index:500", "TWIN": "index:500"}
    into_twin = (HARVEST, buy("180", symbol="TWIN", price="50"))
    assert codes(*into_twin) == []
    (reason,) = reasons(*into_twin, identical_group=groups)
    assert str(reason) == "WASH_LOSS_SALE_IN_WINDOW: leg=2 symbol=TWIN sold_in_this_plan=XYZ"
    assert codes(HARVEST, buy("90", symbol="XYZ", price="90")) == [ReasonCode.WASH_LOSS_SALE_IN_WINDOW]


def test_a_disallowance_the_plan_did_not_declare_is_refused() -> None:
    assert codes(HARVEST, disallowed_by_leg={1: D("0.01")}) == [ReasonCode.WASH_WHAT_IF_DISALLOWS]
    assert codes(HARVEST, disallowed_by_leg={1: D("0.009")}) == []  # less than a cent
    assert codes(HARVEST, disallowed_by_leg={1: D("NaN")}) == [ReasonCode.WASH_WHAT_IF_DISALLOWS]


def test_no_answer_is_not_an_all_clear() -> None:
    (reason,) = reasons(HARVEST, disallowed_by_leg={})
    assert str(reason) == "WASH_WHAT_IF_DISALLOWS: leg=1 symbol=XYZ declared=0 what_if=unknown"


def test_a_buy_that_washes_an_earlier_loss_is_refused() -> None:
    (reason,) = reasons(HARVEST, buy(), newly_disallowed={"sale-7": D("12.50"), "sale-8": D(0)})
    assert str(reason) == "WASH_WHAT_IF_DISALLOWS: earlier_sale=sale-7 what_if=12.50"


# ------------------------------------------------------------------ money


def test_buys_are_paid_from_cash_and_sells_and_leave_the_reserve() -> None:
    assert codes(HARVEST, buy(price="100.55"), cash_usd=D(100)) == []  # 9,049.50 of 9,050
    assert codes(HARVEST, buy(price="100.56"), cash_usd=D(100)) == [ReasonCode.LIMIT_CASH]
    assert codes(buy("1"), cash_usd=D(150)) == []
    assert codes(buy("1"), cash_usd=D("149.99")) == [ReasonCode.LIMIT_CASH]


def test_the_largest_order_is_a_limit_on_each_leg() -> None:
    assert codes(*CLEAN, order_max_usd=D(9000)) == []
    assert codes(*CLEAN, order_max_usd=D("8999.99")) == [ReasonCode.LIMIT_ORDER_SIZE] * 2


def test_the_day_is_limited_with_what_was_sent_before() -> None:
    assert codes(*CLEAN, daily_max_usd=D(20_000), submitted_today_usd=D(2000)) == []
    assert codes(*CLEAN, daily_max_usd=D(20_000), submitted_today_usd=D("2000.01")) == [ReasonCode.LIMIT_DAILY_NOTIONAL]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("100", []),
        ("81.9", []),
        ("81.89", [ReasonCode.LIMIT_PRICE_COLLAR]),
        ("100.11", [ReasonCode.LIMIT_PRICE_COLLAR]),
    ],
)
def test_a_price_far_from_the_previous_close_is_refused_on_both_sides(price: str, expected: list[ReasonCode]) -> None:
    assert codes(sell(row("A", "100", "-1"), price=price)) == expected


@pytest.mark.parametrize("close", [None, "0", "NaN"])
def test_without_a_previous_close_there_is_no_collar_and_no_order(close: str | None) -> None:
    closes = {"PEER": D(100)} | ({} if close is None else {"XYZ": D(close)})
    assert codes(*CLEAN, previous_closes=closes) == [ReasonCode.QUOTE_MISSING]


def test_every_fault_is_named_at_once() -> None:
    found = codes(HARVEST, buy("500"), order_max_usd=D(1000), disallowed_by_leg={})
    assert found == [
        ReasonCode.WASH_WHAT_IF_DISALLOWS,
        ReasonCode.LIMIT_CASH,
        ReasonCode.LIMIT_ORDER_SIZE,
        ReasonCode.LIMIT_ORDER_SIZE,
        ReasonCode.LIMIT_DAILY_NOTIONAL,
    ]
