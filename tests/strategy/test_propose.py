"""From a situation to trades: what may be sold and bought for each reason, in whose lots, for what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from state.reasons import ReasonCode, because
from state.records import Lot, PlannedTrade, Side, Term, TradeReason
from strategy.propose import PlanPolicy, Proposal, Situation, pair, planned_lots, propose
from strategy.risk import RiskModel
from strategy.types import Opportunity, TaxProfile, WashMasks

D = Decimal
TODAY = date(2024, 3, 4)
NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE")
BUY, SELL = Side.BUY, Side.SELL


def lot(name: str, quantity: object, per_share: object, *, days: int = 100, number: int = 0) -> Lot:
    acquired = TODAY - timedelta(days=days)
    shares = D(str(quantity))
    return Lot(f"{name}-{number}", "main", name, acquired, acquired, shares, shares * D(str(per_share)))


def risk() -> RiskModel:
    """One market factor; every name at 16 % a year for the market and 16 % of its own."""
    n = len(NAMES)
    return RiskModel(NAMES, np.ones((n, 1)), np.array([[0.0256]]), np.full(n, 0.0256), TODAY, 500)


POLICY = PlanPolicy(
    tracking_error_max=0.10,
    tracking_error_room=0.0,
    risk_aversion=10.0,
    name_weight_max=0.5,
    sector_deviation_max=math.inf,
    turnover_max=2.0,
    cash_min=0.001,
    cash_max=0.02,
    minimum_trade_usd=D(100),
    whole_shares=True,
    ordered_relief=True,
)


def situation(queues: Mapping[str, tuple[Lot, ...]] | None = None, cash: object = 1_000, **changed: Any) -> Situation:
    """Five names at 100 USD a share, 200 shares of each bought at 100, and 1,000 USD of cash; but for what is changed.
    Nothing is asked for: no rebalance, no harvest, no deposit."""
    held = {name: (lot(name, 200, 100),) for name in NAMES} if queues is None else queues
    prices = changed.pop("prices", dict.fromkeys(NAMES, D(100)))
    nav = D(str(cash)) + sum((one.quantity * prices[name] for name in held for one in held[name]), D(0))
    known: dict[str, Any] = {
        "today": TODAY,
        "names": NAMES,
        "nav": nav,
        "cash": D(str(cash)),
        "prices": prices,
        "half_spreads": dict.fromkeys(NAMES, 0.0002),
        "queues": held,
        "benchmark_weights": np.full(len(NAMES), 1 / len(NAMES)),
        "risk": risk(),
        "sectors": {},
        "masks": WashMasks(),
        "locked": frozenset(),
        "opportunities": (),
        "deposit_names": (),
        "rebalance": False,
        "at_stake": frozenset(),
        "minimum_loss_usd": D(100),
        "breach": False,
        "gain_max": 0.02,
        "profile": TaxProfile(0.408, 0.238),
        "policy": POLICY,
    }
    return Situation(**{**known, **changed})


def opportunity(name: str, lots: tuple[Lot, ...], *replacements: str, price: object = 100) -> Opportunity:
    """A loss that the scan took."""
    paid, worth = sum(one.basis for one in lots), sum(one.quantity for one in lots) * D(str(price))
    loss = D(paid - worth)
    return Opportunity(
        symbol=name,
        lots=lots,
        price=D(str(price)),
        loss_usd=loss,
        gross_loss_usd=loss,
        loss_fraction=float(loss / D(paid)),
        trigger_fraction=0.1,
        tax_value_usd=float(loss) * 0.408,  # type: ignore[arg-type]
        days_held=100,
        taken=True,
        verdict=because(ReasonCode.HARVEST_TAKEN, symbol=name),
        replacements=replacements,
    )


def legs(proposal: Proposal, side: Side) -> dict[str, PlannedTrade]:
    return {trade.symbol: trade for trade in proposal.trades if trade.side is side}


# ------------------------------------------------------------------ what may be traded, and why


def test_new_cash_goes_to_the_deposit_names_and_nothing_is_sold() -> None:
    proposal = propose(situation(cash=11_000, deposit_names=("BBB", "DDD")))
    assert set(legs(proposal, BUY)) == {"BBB", "DDD"}
    assert legs(proposal, SELL) == {}
    assert {trade.reason for trade in proposal.trades} == {TradeReason.DEPOSIT}
    assert 8_000 < sum(trade.notional for trade in proposal.trades) < 11_000


def fallen() -> Situation:
    """AAA was bought at 130; it is to be harvested, BBB or CCC to be held instead."""
    queues = {name: (lot(name, 200, 130 if name == "AAA" else 100),) for name in NAMES}
    return situation(queues, opportunities=(opportunity("AAA", queues["AAA"], "BBB", "CCC"),))


def test_a_harvest_sells_its_lots_and_buys_its_replacements_only() -> None:
    proposal = propose(fallen())
    sale = legs(proposal, SELL)["AAA"]
    assert set(legs(proposal, SELL)) == {"AAA"}
    assert set(legs(proposal, BUY)) <= {"BBB", "CCC"}
    assert (sale.reason, sale.gain_loss) == (TradeReason.HARVEST, sale.quantity * -30)
    assert set(sale.replacement) == set(legs(proposal, BUY)) != set()
    assert all(
        one.reason is TradeReason.REPLACEMENT and one.replacement == ("AAA",) for one in legs(proposal, BUY).values()
    )
    assert "23.1% below basis, trigger 10.0%; saves about" in sale.explanation
    assert sale.days_held == 100


def test_only_the_prefix_that_the_scan_took_is_sold() -> None:
    """The second lot stands at a gain; it is not part of what was taken."""
    queue = (lot("AAA", 120, 130), lot("AAA", 80, 60, number=1))
    queues = {name: (lot(name, 200, 100),) for name in NAMES} | {"AAA": queue}
    proposal = propose(situation(queues, opportunities=(opportunity("AAA", queue[:1], "BBB", "CCC"),)))
    sale = legs(proposal, SELL)["AAA"]
    assert sale.quantity <= 120
    assert [one.lot_id for one in sale.lots] == ["AAA-0"]


@pytest.mark.parametrize("rebalance", [False, True])
def test_a_name_that_is_harvested_is_not_bought_in_the_same_plan(rebalance: bool) -> None:
    """A tenth of AAA is left to sell and it is far below its weight."""
    queues = {name: (lot(name, 200, 100),) for name in NAMES} | {"AAA": (lot("AAA", 20, 130),)}
    harvest = opportunity("AAA", queues["AAA"], "BBB", "CCC")
    proposal = propose(
        situation(queues, 18_000, opportunities=(harvest,), rebalance=rebalance, deposit_names=("AAA", "BBB"))
    )
    assert proposal.trades
    assert "AAA" not in legs(proposal, BUY)


@pytest.mark.parametrize(
    "closed",
    [
        {"masks": WashMasks(no_buy={"BBB": (TODAY, "sold at a loss")})},
        {"locked": frozenset({"BBB"})},
        {"at_stake": frozenset({"BBB"})},
    ],
    ids=["window", "locked", "its own loss waits"],
)
@pytest.mark.parametrize("rebalance", [False, True])
def test_a_closed_name_is_not_bought_for_any_reason(closed: dict[str, Any], rebalance: bool) -> None:
    queues = {name: (lot(name, 200, 100),) for name in NAMES if name != "BBB"}
    proposal = propose(situation(queues, 21_000, deposit_names=("BBB", "CCC"), rebalance=rebalance, **closed))
    assert "BBB" not in legs(proposal, BUY)
    free = propose(situation(queues, 21_000, deposit_names=("BBB", "CCC"), rebalance=rebalance))
    assert "BBB" in legs(free, BUY)


def heavy(per_share: object, **changed: Any) -> Proposal:
    """A rebalance with AAA at half of the account, bought at `per_share`."""
    queues = {name: (lot(name, 100, 100),) for name in NAMES} | {"AAA": (lot("AAA", 500, per_share),)}
    return propose(situation(queues, rebalance=True, **changed))


def test_a_rebalance_sells_what_is_too_heavy() -> None:
    sale = legs(heavy(100), SELL)["AAA"]
    assert sale.quantity > 100
    assert sale.reason is TradeReason.REBALANCE


def test_but_no_gain_beyond_what_a_rebalance_may_realize() -> None:
    """2 % of the value: bought at 98 it may be sold, at 97 not - unless tracking error is above its limit."""
    assert "AAA" in legs(heavy("98.01"), SELL)
    assert legs(heavy(97), SELL) == {}
    assert "AAA" in legs(heavy(97, breach=True, gain_max=math.inf), SELL)


@pytest.mark.parametrize(("basis", "sold"), [(94, True), (96, False), (104, False)])
def test_nor_in_a_window_what_may_be_a_loss_by_the_time_it_fills(basis: int, sold: bool) -> None:
    """The household bought AAA lately; 5 % is the fall to allow for."""
    masks = WashMasks(no_loss_sale={"AAA": (TODAY, "bought in the IRA")})
    proposal = heavy(basis, masks=masks, adverse_moves={"AAA": 0.05}, gain_max=math.inf)
    assert ("AAA" in legs(proposal, SELL)) is sold


def test_nor_a_lot_of_unknown_basis_in_a_window() -> None:
    masks = WashMasks(no_loss_sale={"AAA": (TODAY, "bought in the IRA")})
    unknown = replace(lot("AAA", 500, 1), basis_known=False)
    queues = {name: (lot(name, 100, 100),) for name in NAMES} | {"AAA": (unknown,)}
    assert legs(propose(situation(queues, rebalance=True, masks=masks, gain_max=math.inf)), SELL) == {}


def test_a_blocked_lot_keeps_those_behind_it_in_place() -> None:
    """FIFO: the first lot may not be sold, so the second cannot be reached."""
    masks = WashMasks(no_loss_sale={"AAA": (TODAY, "bought in the IRA")})
    queue = (lot("AAA", 100, 120), lot("AAA", 400, 90, number=1))
    queues = {name: (lot(name, 100, 100),) for name in NAMES} | {"AAA": queue}
    proposal = propose(situation(queues, rebalance=True, masks=masks, gain_max=math.inf))
    assert "AAA" not in legs(proposal, SELL)


def test_a_locked_name_is_not_sold() -> None:
    assert "AAA" not in legs(heavy(100, locked=frozenset({"AAA"})), SELL)


# ------------------------------------------------------------------ when there is no plan


def test_nothing_to_do_says_so() -> None:
    proposal = propose(situation(cash=200))
    assert proposal.trades == ()
    assert [one.code for one in proposal.reasons] == [ReasonCode.PLAN_NOTHING_TO_DO]


def test_limits_that_conflict_give_no_trades_and_are_named() -> None:
    """At most 10 % of each of five names, and at most 2 % of cash."""
    policy = replace(POLICY, name_weight_max=0.1)
    queues = {"AAA": (lot("AAA", 100, 100),)}
    benchmark = np.full(5, 0.05)
    proposal = propose(situation(queues, 10_000, rebalance=True, policy=policy, benchmark_weights=benchmark))
    assert proposal.trades == ()
    (reason,) = proposal.reasons
    assert reason.code is ReasonCode.PLAN_INFEASIBLE
    assert "cash" in dict(reason.details)["why"] or "limit" in dict(reason.details)["why"]


def test_what_was_taken_by_the_scan_and_not_by_the_plan_is_told_so() -> None:
    """A loss too small to be worth an order once the plan is rounded is left out."""
    small = replace(fallen(), minimum_loss_usd=D(100_000))
    proposal = propose(small)
    assert legs(proposal, SELL) == {}
    (item,) = proposal.opportunities
    assert (item.taken, item.verdict.code) == (False, ReasonCode.HARVEST_NOT_SELECTED)


def test_a_tracking_error_limit_out_of_reach_is_told_and_the_best_is_done() -> None:
    policy = replace(POLICY, tracking_error_max=0.005)
    queues = {name: (lot(name, 100, 100),) for name in NAMES} | {"AAA": (lot("AAA", 500, 100),)}
    proposal = propose(
        situation(queues, rebalance=True, breach=True, policy=policy, locked=frozenset({"AAA"}), gain_max=math.inf)
    )
    assert any("50 bp tracking-error limit cannot be met" in note and "AAA" in note for note in proposal.notes)
    assert proposal.tracking_error_after <= proposal.tracking_error_before


# ------------------------------------------------------------------ shares and figures


def test_whole_shares_and_figures_that_belong_to_them() -> None:
    proposal = propose(fallen())
    assert all(trade.quantity % 1 == 0 for trade in proposal.trades)
    assert [trade.leg for trade in proposal.trades] == list(range(1, len(proposal.trades) + 1))
    assert [trade.side for trade in proposal.trades] == sorted(
        (t.side for t in proposal.trades), key=lambda s: s is BUY
    )
    for trade in proposal.trades:
        assert trade.cost == (trade.notional * D("0.0002")).quantize(D("0.01"))
        assert trade.tracking_error_effect_bps is not None
    held = {name: D(200) for name in NAMES}
    for trade in proposal.trades:
        held[trade.symbol] += trade.side.sign * trade.quantity
    nav = fallen().nav
    assert proposal.weights_planned == {
        name: (shares * 100 / nav).quantize(D("0.000001")) for name, shares in held.items() if shares
    }
    active = np.array([float(held[name] * 100 / nav) - 0.2 for name in NAMES])
    assert proposal.tracking_error_after == pytest.approx(risk().tracking_error(active))


def test_the_effect_of_a_leg_is_what_leaving_it_out_would_change() -> None:
    proposal = propose(fallen())
    shares = dict.fromkeys(NAMES, 200.0)
    for trade in proposal.trades:
        shares[trade.symbol] += trade.side.sign * float(trade.quantity)
    for left_out in proposal.trades:
        other = dict(shares)
        other[left_out.symbol] -= left_out.side.sign * float(left_out.quantity)
        active = np.array([other[name] * 100 / float(fallen().nav) - 0.2 for name in NAMES])
        expected = (proposal.tracking_error_after - risk().tracking_error(active)) * 1e4
        assert left_out.tracking_error_effect_bps == pytest.approx(expected, abs=1e-6)


def test_a_fractional_position_is_sold_to_its_last_nine_decimals() -> None:
    queues = {name: (lot(name, "200.123456789", 130 if name == "AAA" else 100),) for name in NAMES}
    made = situation(
        queues,
        opportunities=(opportunity("AAA", queues["AAA"], "BBB", "CCC"),),
        policy=replace(POLICY, whole_shares=False, risk_aversion=0.0, tracking_error_max=1.0),
    )
    assert legs(propose(made), SELL)["AAA"].quantity == D("200.123456789")


# ------------------------------------------------------------------ the lots of a sale


def test_a_sale_names_its_lots_in_the_brokers_order() -> None:
    """70 shares: all 50 of the oldest lot, which is long-term, and 20 of the next."""
    queue = (lot("AAA", 50, 120, days=400), lot("AAA", 60, 90, days=300, number=1), lot("AAA", 9, 1, number=2))
    first, second = planned_lots(queue, D(70), D(100), TODAY)
    assert (first.lot_id, first.quantity, first.basis, first.gain_loss) == ("AAA-0", D(50), D(6000), D(-1000))
    assert (second.lot_id, second.quantity, second.basis, second.gain_loss) == ("AAA-1", D(20), D(1800), D(200))
    assert (first.term, second.term) == (Term.LONG, Term.SHORT)


@pytest.mark.parametrize(("days", "expected"), [(366, Term.SHORT), (367, Term.LONG)])
def test_held_for_more_than_a_year_is_long_term(days: int, expected: Term) -> None:
    """Bought on 4 March 2023 and sold on 4 March 2024, 366 days later, is one year and not more."""
    assert planned_lots((lot("AAA", 1, 1, days=days),), D(1), D(1), TODAY)[0].term is expected


def test_tacked_days_count() -> None:
    washed = replace(lot("AAA", 1, 1, days=10), adjusted_acquired=TODAY - timedelta(days=500))
    assert planned_lots((washed,), D(1), D(1), TODAY)[0].term is Term.LONG


def test_a_sale_of_more_than_there_is_cannot_be_planned() -> None:
    with pytest.raises(ValueError, match="the queue is 1 short"):
        planned_lots((lot("AAA", 5, 1),), D(6), D(1), TODAY)


# ------------------------------------------------------------------ which purchase replaces which sale


def trade(leg: int, side: Side, name: str, dollars: int, reason: TradeReason) -> PlannedTrade:
    return PlannedTrade(leg, name, side, D(dollars), D(1), reason, "")


def test_a_harvest_is_replaced_dollar_by_dollar_by_its_own_candidates_first() -> None:
    """AAA sold for 100 wants CCC, then DDD; BBB sold for 50 wants CCC. CCC is bought for 60, DDD for 30, EEE for 70."""
    sells = [trade(0, SELL, "AAA", 100, TradeReason.HARVEST), trade(0, SELL, "BBB", 50, TradeReason.HARVEST)]
    buys = [trade(0, BUY, name, usd, TradeReason.DEPOSIT) for name, usd in (("CCC", 60), ("DDD", 30), ("EEE", 70))]
    taken = {
        "AAA": opportunity("AAA", (lot("AAA", 1, 1),), "CCC", "DDD"),
        "BBB": opportunity("BBB", (lot("BBB", 1, 1),), "CCC"),
    }
    paired_sells, paired_buys = pair(sells, buys, taken)
    assert {one.symbol: one.replacement for one in paired_sells} == {"AAA": ("CCC", "DDD", "EEE"), "BBB": ("EEE",)}
    assert {one.symbol: one.replacement for one in paired_buys} == {
        "CCC": ("AAA",),
        "DDD": ("AAA",),
        "EEE": ("AAA", "BBB"),
    }
    assert all(one.reason is TradeReason.REPLACEMENT for one in paired_buys)


def test_a_purchase_that_replaces_nothing_keeps_its_reason() -> None:
    sells = [trade(0, SELL, "AAA", 100, TradeReason.HARVEST), trade(0, SELL, "BBB", 10, TradeReason.REBALANCE)]
    buys = [trade(0, BUY, "DDD", 90, TradeReason.REBALANCE), trade(0, BUY, "CCC", 100, TradeReason.REBALANCE)]
    taken = {"AAA": opportunity("AAA", (lot("AAA", 1, 1),), "CCC")}
    paired_sells, paired_buys = pair(sells, buys, taken)
    assert [one.replacement for one in paired_sells] == [("CCC",), ()]
    assert [(one.symbol, one.reason) for one in paired_buys] == [
        ("CCC", TradeReason.REPLACEMENT),
        ("DDD", TradeReason.REBALANCE),
    ]
