"""How fast, how much and with whose money orders leave, through the whole path: decision, slices, gate, venue.

What is large for a symbol's volume takes its time; no minute and no symbol sees more orders than allowed; what is sold
is bought back before more is sold; and in a cash account nothing is sold that was paid with money that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from small_house import NAMES, Stage

from daemon.release import unhedged
from faults.conftest import Staged
from faults.holding import holds, opened
from state.records import BrokerOrder, DailyBar, IntentState, OrderRequest, PlanState, Side

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
VOLUME = D(1_000)  # shares a day, of every symbol; one per cent of it is ten shares


def with_volumes(stage: Stage) -> Callable[[Iterable[str], date, date], tuple[DailyBar, ...]]:
    """The venue's closes, with a volume."""
    broker = stage.venue.broker()
    return lambda names, start, end: tuple(replace(bar, volume=VOLUME) for bar in broker.daily_bars(names, start, end))


def invested(staged: Staged, dollars: int = 8_000, **execution: object) -> Stage:
    """Session 1, ten minutes after the open; ten names bought the day before, whose volumes are known since then."""
    stage = staged(optimizer={"cash_max_pct": 30}, execution=execution)
    stage.alter(daily_bars=with_volumes(stage))
    stage.invest(0, dollars)
    stage.alter()
    return opened(stage, 1)


def of(stage: Stage, symbol: str, side: Side = BUY) -> list[BrokerOrder]:
    """harvestd's own orders of a symbol and side at the venue, oldest first."""
    ours = (one for one in stage.venue.orders() if one.client_order_id.startswith("hv-"))
    return [one for one in ours if (one.symbol, one.side) == (symbol, side)]


def times(stage: Stage) -> list[datetime]:
    """When harvestd's orders left, in order."""
    return sorted(one.submitted_at for one in stage.venue.orders() if one.client_order_id.startswith("hv-"))


def every(stage: Stage, seconds: int, number: int, minutes: int = 20) -> None:
    """Ticks at that pace from ten minutes after the open on."""
    for second in range(0, 60 * minutes, seconds):
        stage.tick(stage.at(number, 10) + timedelta(seconds=second))


# ------------------------------------------------------------------ volume


def test_an_order_large_for_its_volume_leaves_slice_by_slice(staged: Staged) -> None:
    """35 shares of a symbol of which ten at a time may be traded, however often the daemon looks."""
    stage = invested(staged)
    stage.execute((BUY, "AAA", 35), (BUY, "BBB", 5))
    every(stage, 20, 1)
    orders = of(stage, "AAA")
    assert [one.quantity for one in orders] == [10, 10, 10, 5]
    gaps = [later.submitted_at - earlier.submitted_at for earlier, later in pairwise(orders)]
    assert all(timedelta(seconds=120) <= gap <= timedelta(seconds=140) for gap in gaps)
    assert [one.quantity for one in of(stage, "BBB")] == [5], "what is small leaves at once"
    assert of(stage, "BBB")[0].submitted_at <= orders[0].submitted_at
    assert {one.state for one in stage.intents()} == {IntentState.FILLED}
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE]
    assert stage.alerts("refused:") == []
    stage.finish(1)
    holds(stage)


def test_the_sale_of_a_swap_is_sliced_too_and_its_purchase_follows(staged: Staged) -> None:
    stage = invested(staged)
    stage.execute((SELL, "AAA", 30), (BUY, "JJJ", 8))
    every(stage, 30, 1)
    sales = of(stage, "AAA", SELL)
    assert [one.quantity for one in sales] == [10, 10, 10]
    assert all(
        later.submitted_at - earlier.submitted_at >= timedelta(seconds=120) for earlier, later in pairwise(sales)
    )
    assert [one.quantity for one in of(stage, "JJJ")] == [8]
    assert of(stage, "JJJ")[0].submitted_at > sales[-1].submitted_at, "one tie: bought when all of it was sold"
    stage.finish(1)
    holds(stage)


def test_slices_that_find_no_time_expire_and_are_told(staged: Staged) -> None:
    stage = invested(staged)
    stage.venue.advance_to(stage.decision(1, 12))
    stage.execute((BUY, "AAA", 60))
    for minute in range(12, 20):
        stage.tick(stage.decision(1, minute))
    stage.tick(stage.evening(1))
    sent = of(stage, "AAA")
    assert 3 <= len(sent) < 6
    expired = [one for one in stage.intents("AAA") if one.state is IntentState.EXPIRED]
    assert len(sent) + len(expired) == 6
    assert {one.reason.partition(":")[0] for one in expired} == {"ORDER_DEADLINE"}
    assert "waited_for=LIMIT_PACE" in expired[0].reason
    [plan] = stage.plans()
    assert plan.state is PlanState.PARTLY_DONE
    assert stage.alerts(f"plan:{plan.plan_id}") == ["raised"]
    holds(stage)


def test_a_restart_in_mid_slicing_does_not_hurry(staged: Staged) -> None:
    stage = invested(staged)
    stage.execute((BUY, "AAA", 30))
    for second in range(0, 600, 30):
        stage.tick(stage.at(1, 10) + timedelta(seconds=second))
        stage.restart()
    orders = of(stage, "AAA")
    assert [one.quantity for one in orders] == [10, 10, 10]
    assert all(
        later.submitted_at - earlier.submitted_at >= timedelta(seconds=120) for earlier, later in pairwise(orders)
    )
    stage.finish(1)
    holds(stage)


def test_a_symbol_whose_volume_nobody_knows_is_not_sliced(staged: Staged) -> None:
    stage = staged(optimizer={"cash_max_pct": 30})
    stage.invest(0, 8_000)
    opened(stage, 1)
    stage.execute((BUY, "AAA", 35))
    stage.tick(stage.at(1, 10))
    assert [one.quantity for one in of(stage, "AAA")] == [35]
    stage.finish(1)
    holds(stage)


# ------------------------------------------------------------------ a minute, a symbol


def test_no_minute_of_a_real_plan_sees_more_orders_than_allowed(staged: Staged) -> None:
    """New money into ten names, three orders a minute."""
    stage = staged(execution={"orders_max_per_minute": 3})
    stage.tick(stage.before_open(0))
    for second in range(0, 600, 15):
        stage.tick(stage.decision(0) + timedelta(seconds=second))
    left = times(stage)
    assert len(left) >= 5
    assert all(later - first >= timedelta(minutes=1) for first, later in zip(left, left[3:], strict=False))
    assert [plan.state for plan in stage.plans()] == [PlanState.DONE]
    assert stage.alerts("refused:") == []
    stage.tick(stage.evening(0))
    holds(stage)


def test_after_as_many_orders_of_a_symbol_and_side_as_allowed_the_rest_is_refused(staged: Staged) -> None:
    stage = invested(staged, repeats_max=2)
    stage.execute((BUY, "AAA", 40), (BUY, "BBB", 5))
    every(stage, 60, 1)
    assert [one.quantity for one in of(stage, "AAA")] == [10, 10]
    assert [one.quantity for one in of(stage, "BBB")] == [5]
    refused = [one for one in stage.intents("AAA") if one.state is IntentState.REFUSED]
    assert [one.reason.partition(":")[0] for one in refused] == ["LIMIT_REPEATS"] * 2
    assert all(stage.alerts(f"refused:{one.plan_id}:LIMIT_REPEATS") == ["raised"] for one in refused)
    stage.finish(1)
    holds(stage)


def test_the_count_of_a_session_ends_with_it(staged: Staged) -> None:
    stage = invested(staged, repeats_max=1)
    stage.execute((BUY, "AAA", 5))
    every(stage, 120, 1, minutes=6)
    stage.finish(1)
    opened(stage, 2)
    stage.execute((BUY, "AAA", 5))
    every(stage, 120, 2, minutes=6)
    assert [one.quantity for one in of(stage, "AAA")] == [5, 5]
    assert stage.alerts("refused:") == []
    stage.finish(2)
    holds(stage)


# ------------------------------------------------------------------ unhedged


@pytest.mark.parametrize("bound_pct", ["1", "3", "10"])
def test_what_is_sold_and_not_yet_bought_back_stays_within_its_bound(staged: Staged, bound_pct: str) -> None:
    """A real plan of three harvests, asked at each order and at each step."""
    stage = staged(
        changes=tuple((name, 1, "0.80") for name in ("AAA", "BBB", "CCC")),
        execution={"unhedged_max_pct_nav": bound_pct},
        optimizer={"tracking_error_max_bps": 1000},
    )
    stage.invest(0)
    stage.live(1)
    broker = stage.venue.broker()
    most: list[Decimal] = []

    def measured() -> None:
        for plan in stage.plans():
            most.append(unhedged(stage.house.store.orders.list(plan_id=plan.plan_id)))

    def submit(request: OrderRequest) -> BrokerOrder:
        measured()  # the intent is on disk as leaving
        return broker.submit(request)

    stage.tick(stage.before_open(2))
    stage.alter(submit=submit)
    for second in range(0, 1080, 30):
        stage.tick(stage.decision(2) + timedelta(seconds=second))
        measured()
    stage.alter()
    stage.tick(stage.evening(2))
    [plan] = stage.plans()
    sold = sum((trade.notional for trade in plan.trades if trade.side is SELL), D(0))
    bound = D(bound_pct) / 100 * plan.nav
    assert sold > 15_000
    assert 0 < max(most) <= bound + max(trade.price for trade in plan.trades)
    assert {one.side for one in stage.venue.orders() if one.client_order_id.startswith("hv-")} == {BUY, SELL}
    holds(stage)


def test_a_purchase_that_waits_holds_the_next_sales_back(staged: Staged) -> None:
    """The purchases of the first tie find no market: what they were for is not sold twice over."""
    stage = invested(staged, unhedged_max_pct_nav="1")
    stage.venue.halt("JJJ")
    stage.execute((SELL, "AAA", 100), (BUY, "JJJ", 30))
    every(stage, 60, 1)
    sold = sum((one.filled_quantity for one in of(stage, "AAA", SELL)), D(0))
    price = stage.plans()[0].trades[0].price
    assert sold * price <= D(1_000) + price
    stage.finish(1)
    assert sum((one.filled_quantity for one in of(stage, "AAA", SELL)), D(0)) == sold
    [plan] = stage.plans()
    [alert] = [one for one in stage.told if one.key.startswith(f"plan:{plan.plan_id}")]
    assert "stay in cash" in alert.message
    stage.venue.unhalt("JJJ")
    holds(stage)


# ------------------------------------------------------------------ whose money


def test_purchases_are_sized_on_what_the_sales_brought(staged: Staged) -> None:
    """AAA falls by a tenth between the decision and the fill: less is bought, and nothing is owed."""
    stage = staged(changes=(("AAA", 1, "0.90"),))
    stage.invest(0)
    opened(stage, 1)
    before = stage.venue.cash
    plan = stage.execute((SELL, "AAA", 100), (BUY, "BBB", 80))
    every(stage, 60, 1)
    brought = 100 * stage.close_of("AAA", 1)
    bought = sum((one.filled_quantity for one in of(stage, "BBB")), D(0))
    planned = next(trade.quantity for trade in plan.trades if trade.side is BUY)
    assert 0 < bought < planned
    assert bought * stage.close_of("BBB", 1) <= before + brought
    assert stage.venue.cash >= 0
    stage.finish(1)
    holds(stage)


def test_in_a_cash_account_what_was_bought_today_is_not_sold_today(staged: Staged) -> None:
    """The purchase may have been paid with proceeds that settle tomorrow; then it may be sold (Reg T, T+1)."""
    stage = invested(staged, volume_max_pct=100)
    held = int(stage.house.ledger.position("main", "AAA"))
    stage.execute((SELL, "BBB", 10), (BUY, "AAA", 5))
    every(stage, 120, 1, minutes=8)
    assert stage.only("AAA").state is IntentState.FILLED
    stage.venue.advance_to(stage.at(1, 30))
    stage.execute((SELL, "AAA", held + 5))
    for minute in (30, 32, 34):
        stage.tick(stage.at(1, minute))
    refused = [one for one in stage.intents("AAA") if one.side is SELL and one.state is IntentState.REFUSED]
    assert {one.reason.partition(":")[0] for one in refused} == {"LIMIT_GOOD_FAITH"}
    sold = sum((one.filled_quantity for one in of(stage, "AAA", SELL)), D(0))
    assert sold <= held
    stage.finish(1)
    opened(stage, 2)
    left = int(stage.house.ledger.position("main", "AAA"))
    stage.execute((SELL, "AAA", min(left, 10)))
    every(stage, 120, 2, minutes=6)
    assert sum((one.filled_quantity for one in of(stage, "AAA", SELL)), D(0)) == sold + min(left, 10)
    stage.finish(2)
    holds(stage)


def test_in_a_cash_account_what_was_there_before_may_be_sold_although_more_was_bought_today(staged: Staged) -> None:
    stage = invested(staged)
    held = int(stage.house.ledger.position("main", "AAA"))
    stage.execute((BUY, "AAA", 5))
    every(stage, 120, 1, minutes=4)
    stage.venue.advance_to(stage.at(1, 30))
    sale = min(held, 10)
    stage.execute((SELL, "AAA", sale))
    for minute in (30, 32, 34):
        stage.tick(stage.at(1, minute))
    assert sum((one.filled_quantity for one in of(stage, "AAA", SELL)), D(0)) == sale
    stage.finish(1)
    holds(stage)


def test_nothing_is_bought_with_money_that_is_not_there(staged: Staged) -> None:
    """Ten purchases that together cost twice the cash: those leave that can be paid, and the venue never lends."""
    stage = invested(staged, unhedged_max_pct_nav="100")
    cash = stage.venue.cash
    stage.execute(*((BUY, name, int(2 * cash / 10 / stage.close_of(name, 0))) for name in NAMES))
    lowest = [cash]
    for second in range(0, 1200, 30):
        stage.tick(stage.at(1, 10) + timedelta(seconds=second))
        lowest.append(stage.venue.cash)
    stage.finish(1)
    assert min(lowest) >= 0
    assert stage.venue.cash < cash / 10, "what was there was used"
    [plan] = stage.plans()
    assert plan.state is PlanState.PARTLY_DONE
    assert stage.alerts(f"plan:{plan.plan_id}") == ["raised"]
    holds(stage)
