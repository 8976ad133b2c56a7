"""The market and what is told of it: bad quotes, impossible prices, issuers' actions, halts, closed doors, refusals.

Whatever is told, an order leaves only at a price that can be trusted, in a symbol that trades, while both clocks say
that the market is open; what does not leave says why, and the money it was for is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from small_house import DAYS, HISTORY, NAMES, Stage

from brokers.errors import OrderRefused
from brokers.protocol import OrderEvents
from daemon.gate import DaemonState
from daemon.halt import is_halted
from faults.conftest import Staged
from faults.holding import holds
from state.reasons import ReasonCode
from state.records import (
    BrokerClock,
    BrokerOrder,
    BrokerOrderStatus,
    IntentState,
    OrderRequest,
    PlanState,
    Quote,
    Security,
    Side,
)

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
Change = Callable[[Quote], Quote | None]


@pytest.fixture
def fallen(staged: Staged) -> Stage:
    """The morning of session 2: AAA closed a fifth lower the day before, and is there to be harvested."""
    made = staged(changes=(("AAA", 1, "0.80"),))
    made.invest(0)
    made.live(1)
    assert made.plans() == ()
    return made


def sold(stage: Stage, symbol: str) -> Decimal:
    """Shares of a symbol that harvestd sold at the venue."""
    ours = (one for one in stage.venue.orders() if one.client_order_id.startswith("hv-"))
    return sum((one.filled_quantity for one in ours if (one.symbol, one.side) == (symbol, SELL)), D(0))


def of(stage: Stage, symbol: str) -> list[BrokerOrder]:
    """harvestd's own orders of a symbol at the venue."""
    return [one for one in stage.venue.orders() if one.symbol == symbol and one.client_order_id.startswith("hv-")]


def state(stage: Stage) -> tuple[str, str]:
    """The state last written, and the code of its reason."""
    [*_, last] = stage.house.store.states.list("main")
    return last.state, last.reason.partition(":")[0]


# ------------------------------------------------------------------ F26: quotes


def told_otherwise(stage: Stage, changes: Mapping[str, Change]) -> Callable[[Iterable[str]], dict[str, Quote]]:
    """The venue's quotes, some of them changed or gone."""
    broker = stage.venue.broker()

    def quotes(symbols: Iterable[str]) -> dict[str, Quote]:
        found = dict(broker.quotes(symbols))
        for symbol, change in changes.items():
            if symbol in found:
                changed = change(found.pop(symbol))
                if changed is not None:
                    found[symbol] = changed
        return found

    return quotes


BAD: dict[str, tuple[Change, str]] = {
    "missing": (lambda _: None, "SYMBOL_LOCKED"),
    "bid zero": (lambda quote: replace(quote, bid=D(0)), "SYMBOL_LOCKED"),
    "ask zero": (lambda quote: replace(quote, ask=D(0)), "SYMBOL_LOCKED"),
    "not a number": (lambda quote: replace(quote, bid=D("NaN")), "SYMBOL_LOCKED"),
    "infinite": (lambda quote: replace(quote, ask=D("Infinity")), "SYMBOL_LOCKED"),
    "in another currency's units": (
        lambda quote: replace(quote, bid=quote.bid * 100, ask=quote.ask * 100),
        "SYMBOL_LOCKED",
    ),
    "crossed": (lambda quote: replace(quote, bid=quote.ask + 1, ask=quote.bid), "QUOTE_WIDE"),
    "wide": (lambda quote: replace(quote, ask=quote.ask * D("1.05")), "QUOTE_WIDE"),
    "old": (lambda quote: replace(quote, at=quote.at - timedelta(minutes=16)), "QUOTE_STALE"),
    "of tomorrow": (lambda quote: replace(quote, at=quote.at + timedelta(hours=1)), "QUOTE_STALE"),
}


@pytest.mark.fault("F26")
@pytest.mark.parametrize("side", [SELL, BUY])
@pytest.mark.parametrize(("change", "code"), BAD.values(), ids=BAD)
def test_a_symbol_without_a_quote_to_trust_is_not_traded_and_the_others_are(
    stage: Stage, change: Change, code: str, side: Side
) -> None:
    stage.execute((side, "AAA", 10), (BUY, "BBB", 10))
    stage.alter(quotes=told_otherwise(stage, {"AAA": change}))
    for minute in range(12, 20, 2):
        stage.tick(stage.at(1, minute))
    assert of(stage, "AAA") == []
    assert state(stage) == ("OPEN", "")
    told = ["raised"] if code == "SYMBOL_LOCKED" else []
    assert stage.alerts("quote:main:AAA") == told, "once, however often it is looked at"
    if side is SELL:
        assert stage.only("AAA").reason.startswith(code)
    else:
        assert len(of(stage, "BBB")) == 1
    for minute in range(0, 20, 2):
        stage.tick(stage.decision(1, minute))
    stage.tick(stage.evening(1))
    assert of(stage, "AAA") == []
    intent = stage.only("AAA")
    assert (intent.state, intent.reason.partition(":")[0]) == (IntentState.EXPIRED, "ORDER_DEADLINE")
    if side is SELL:
        assert f"waited_for={code}" in intent.reason
    [ended] = stage.plans()
    assert ended.state is PlanState.PARTLY_DONE
    assert stage.alerts(f"plan:{ended.plan_id}") == ["raised"]
    stage.alter()
    stage.look()
    assert stage.alerts("quote:main:AAA") == (["raised", "recovered"] if code == "SYMBOL_LOCKED" else [])
    holds(stage, settled=True)


@pytest.mark.fault("F26")
@pytest.mark.parametrize("change", [BAD["missing"][0], BAD["not a number"][0]], ids=["missing", "not a number"])
def test_quotes_that_are_gone_are_told_once_and_when_they_are_back_the_order_leaves(
    stage: Stage, change: Change
) -> None:
    stage.execute((BUY, "AAA", 10))
    stage.alter(quotes=told_otherwise(stage, {"AAA": change}))
    for minute in (12, 14, 16):
        stage.tick(stage.at(1, minute))
    assert stage.alerts("quote:main:AAA") == ["raised"]
    stage.alter()
    stage.tick(stage.at(1, 18))
    stage.finish(1)
    assert stage.alerts("quote:main:AAA") == ["raised", "recovered"]
    assert stage.only("AAA").state is IntentState.FILLED
    holds(stage, settled=True)


WORTHLESS: dict[str, Change] = {
    "missing": BAD["missing"][0],
    "not a number": BAD["not a number"][0],
    "old": BAD["old"][0],
    "crossed": BAD["crossed"][0],
    "ten times": lambda quote: replace(quote, bid=quote.bid * 10, ask=quote.ask * 10),
}


@pytest.mark.fault("F26")
@pytest.mark.parametrize("change", WORTHLESS.values(), ids=WORTHLESS)
def test_with_more_than_a_fifth_of_the_symbols_affected_nothing_is_traded_at_all(stage: Stage, change: Change) -> None:
    stage.execute((BUY, "JJJ", 10))
    stage.alter(quotes=told_otherwise(stage, dict.fromkeys(NAMES[:3], change)))
    for minute in (12, 14, 16):
        stage.tick(stage.at(1, minute))
    assert state(stage) == ("STALE", "DATA_BAD_QUOTES")
    assert stage.sent() == ()
    assert stage.only("JJJ").reason.startswith("STATE_NOT_OPEN")
    assert stage.alerts("state:main") == ["raised"]
    stage.alter()
    stage.finish(1)
    assert stage.only("JJJ").state is IntentState.FILLED
    assert stage.alerts("state:main") == ["raised", "recovered"]
    holds(stage, settled=True)


@pytest.mark.fault("F26")
def test_with_a_fifth_of_the_symbols_affected_the_others_are_traded(stage: Stage) -> None:
    stage.execute((BUY, "JJJ", 10))
    stage.alter(quotes=told_otherwise(stage, dict.fromkeys(NAMES[:2], BAD["missing"][0])))
    stage.tick(stage.at(1, 12))
    assert state(stage) == ("OPEN", "")
    assert len(of(stage, "JJJ")) == 1
    stage.alter()
    stage.finish(1)
    holds(stage, settled=True)


@pytest.mark.fault("F26")
def test_a_session_of_bad_quotes_has_no_plan_and_says_so_once(fallen: Stage) -> None:
    fallen.tick(fallen.before_open(2))
    fallen.alter(quotes=told_otherwise(fallen, dict.fromkeys(NAMES[:3], BAD["missing"][0])))
    for minute in range(0, 20, 2):
        fallen.tick(fallen.decision(2, minute))
    fallen.alter()
    fallen.tick(fallen.evening(2))
    assert fallen.plans() == ()
    assert fallen.sent() == ()
    assert fallen.alerts("state:main") == ["raised", "recovered"]
    assert fallen.alerts(f"missed:main:{fallen.session(2).session}") == ["raised"]
    holds(fallen, settled=True)
    fallen.live(3)
    assert sold(fallen, "AAA") > 0, "the next session is a day like any other"
    holds(fallen, settled=True)


# ------------------------------------------------------------------ F27: prices nobody can explain


@pytest.mark.fault("F27")
@pytest.mark.parametrize("factor", ["10", "0.1"])
def test_a_price_that_nothing_explains_is_neither_traded_nor_believed(fallen: Stage, factor: str) -> None:
    """Ten times, or a tenth of, the previous close: the day's plan is made without it, and with the others."""

    def changed(quote: Quote) -> Quote:
        return replace(quote, bid=quote.bid * D(factor), ask=quote.ask * D(factor))

    fallen.tick(fallen.before_open(2))
    fallen.alter(quotes=told_otherwise(fallen, {"BBB": changed}))
    fallen.tick(fallen.decision(2))
    snapshot = fallen.look()
    assert snapshot.locks["BBB"].startswith("LIMIT_PRICE_COLLAR")
    assert snapshot.prices["BBB"] == fallen.close_of("BBB", 1), "valued at the last close"
    [plan] = fallen.plans()
    assert "AAA" in {trade.symbol for trade in plan.trades}
    assert "BBB" not in {trade.symbol for trade in plan.trades}
    for minute in range(2, 20, 2):
        fallen.tick(fallen.decision(2, minute))
    fallen.tick(fallen.evening(2))
    assert of(fallen, "BBB") == []
    assert sold(fallen, "AAA") > 0
    assert fallen.alerts("quote:main:BBB") == ["raised"]
    fallen.alter()
    fallen.look()
    assert fallen.alerts("quote:main:BBB") == ["raised", "recovered"]
    holds(fallen, settled=True)


@pytest.mark.fault("F27")
@pytest.mark.parametrize("factor", ["10", "0.1"])
def test_a_price_that_goes_wrong_after_the_decision_stops_what_has_not_left(stage: Stage, factor: str) -> None:
    stage.execute((BUY, "AAA", 10))

    def changed(quote: Quote) -> Quote:
        return replace(quote, bid=quote.bid * D(factor), ask=quote.ask * D(factor))

    stage.alter(quotes=told_otherwise(stage, {"AAA": changed}))
    stage.tick(stage.at(1, 12))
    assert of(stage, "AAA") == []
    assert stage.look().locks["AAA"].startswith("LIMIT_PRICE_COLLAR")
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.EXPIRED
    assert of(stage, "AAA") == []
    holds(stage, settled=True)


@pytest.mark.fault("F27")
def test_a_price_that_nothing_explains_is_in_no_figure_of_the_evening(stage: Stage) -> None:
    stage.alter(
        quotes=told_otherwise(stage, {"AAA": lambda quote: replace(quote, bid=quote.bid * 10, ask=quote.ask * 10)})
    )
    stage.finish(1)
    written = stage.house.store.performance.last("main")
    assert written is not None
    assert abs(written.nav - 100_000) < 5_000
    stage.alter()
    holds(stage, settled=True)


# ------------------------------------------------------------------ F28: issuers' actions overnight


@pytest.mark.fault("F28")
@pytest.mark.parametrize(("new", "old"), [("4", "1"), ("1", "2")], ids=["split", "reverse split"])
def test_a_split_overnight_multiplies_the_lots_and_the_stray_order_is_gone(stage: Stage, new: str, old: str) -> None:
    """Somebody's order in the symbol is open when it splits; the venue cancels it, and the lots follow the record."""
    held = stage.house.ledger.position("main", "AAA")
    stage.finish(1)
    stage.tick(stage.before_open(2))
    stage.venue.advance_to(stage.at(2, 1))
    stage.venue.halt("AAA")
    stage.outside(SELL, "AAA", 10)
    stage.venue.split("AAA", D(new), D(old))
    stage.venue.unhalt("AAA")
    stage.tick(stage.decision(2))
    stage.finish(2)
    assert stage.house.ledger.position("main", "AAA") == held * D(new) / D(old)
    assert stage.venue.broker().open_orders() == ()
    assert stage.look().locks == {}
    assert stage.alerts("reconcile:") == []
    assert stage.alerts("quote:") == [], "a split explains the price"
    holds(stage, settled=True)


@pytest.mark.fault("F28")
def test_an_order_of_harvestds_open_while_its_symbol_splits_is_over_and_is_not_resent(stage: Stage) -> None:
    stage.venue.halt("AAA")
    held = stage.house.ledger.position("main", "AAA")
    stage.execute((SELL, "AAA", 10), (BUY, "BBB", 5))
    stage.tick(stage.at(1, 12))
    assert stage.only("AAA").state is IntentState.WORKING
    stage.venue.split("AAA", D(2), D(1))
    stage.venue.unhalt("AAA")
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.CANCELLED
    assert len(of(stage, "AAA")) == 1
    assert of(stage, "BBB") == [], "what it was to fund is not bought"
    assert stage.house.ledger.position("main", "AAA") == 2 * held
    holds(stage, settled=True)


@pytest.mark.fault("F28")
def test_a_name_that_became_another_overnight_is_locked_until_a_person_has_looked(fallen: Stage) -> None:
    """The broker lists the shares under a new symbol and knows of no trade: both names are locked, none is sold."""
    broker = fallen.venue.broker()

    def positions() -> tuple[object, ...]:
        return tuple(replace(one, symbol="AAAX") if one.symbol == "AAA" else one for one in broker.positions())

    fallen.tick(fallen.before_open(2))
    fallen.alter(positions=positions)
    for minute in range(0, 20, 2):
        fallen.tick(fallen.decision(2, minute))
    locks = fallen.look().locks
    assert {"AAA", "AAAX"} <= set(locks)
    assert of(fallen, "AAA") == []
    assert fallen.alerts("reconcile:main:AAA") == ["raised", "raised"], "the old name, and the new one"
    fallen.alter()
    fallen.tick(fallen.evening(2))
    assert fallen.look().locks == {}
    holds(fallen, settled=True)


# ------------------------------------------------------------------ F29: halts


@pytest.mark.fault("F29")
def test_a_sale_halted_in_mid_plan_is_cancelled_at_its_deadline_and_its_purchase_dropped(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60))
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.CANCELLED
    bought = stage.only("BBB")
    assert (bought.state, bought.reason.partition(":")[0]) == (IntentState.EXPIRED, "ORDER_UNFUNDED")
    assert len(of(stage, "AAA")) == 1, "asked once, not in a loop"
    assert of(stage, "BBB") == []
    [plan] = stage.plans()
    assert plan.state is PlanState.FAILED
    assert stage.alerts(f"plan:{plan.plan_id}") == ["raised"]
    holds(stage, settled=True)


@pytest.mark.fault("F29")
def test_a_purchase_halted_in_mid_plan_leaves_cash_and_says_how_much(stage: Stage) -> None:
    stage.venue.halt("BBB")
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60))
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    assert stage.only("AAA").state is IntentState.FILLED
    assert stage.only("BBB").state is IntentState.CANCELLED
    assert (len(of(stage, "AAA")), len(of(stage, "BBB"))) == (1, 1)
    [plan] = stage.plans()
    [alert] = [one for one in stage.told if one.key.startswith(f"plan:{plan.plan_id}")]
    assert "stay in cash" in alert.message
    holds(stage, settled=True)


@pytest.mark.fault("F29")
def test_a_symbol_the_broker_stops_trading_in_mid_plan_is_not_sent(stage: Stage) -> None:
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60), (BUY, "CCC", 10))
    broker = stage.venue.broker()

    def assets(symbols: Iterable[str]) -> dict[str, Security]:
        return {
            name: replace(item, tradable=name != "AAA" and item.tradable)
            for name, item in broker.assets(symbols).items()
        }

    stage.alter(assets=assets)
    stage.house.take_securities()
    stage.tick(stage.at(1, 12))
    stage.finish(1)
    refused = stage.only("AAA")
    assert (refused.state, refused.reason.partition(":")[0]) == (IntentState.REFUSED, "SYMBOL_NOT_TRADABLE")
    assert stage.alerts(f"refused:{refused.client_order_id}") == ["raised"]
    assert of(stage, "AAA") == []
    assert stage.only("BBB").reason.startswith("ORDER_UNFUNDED")
    holds(stage, settled=True)


# ------------------------------------------------------------------ F30: is the market open?


def clock_that_says(stage: Stage, change: Callable[[BrokerClock], BrokerClock]) -> Callable[[], BrokerClock]:
    broker = stage.venue.broker()
    return lambda: change(broker.clock())


CLOCKS: dict[str, Callable[[BrokerClock], BrokerClock]] = {
    "an unscheduled closure": lambda clock: replace(clock, is_open=False),
    "an early close our calendar does not have": lambda clock: replace(
        clock, next_close=clock.next_close - timedelta(hours=3)
    ),
    "a later close than our calendar's": lambda clock: replace(clock, next_close=clock.next_close + timedelta(hours=1)),
}


@pytest.mark.fault("F30")
@pytest.mark.parametrize("change", CLOCKS.values(), ids=CLOCKS)
def test_when_calendar_and_broker_disagree_about_the_session_nothing_is_planned_and_nothing_leaves(
    fallen: Stage, change: Callable[[BrokerClock], BrokerClock]
) -> None:
    fallen.tick(fallen.before_open(2))
    fallen.venue.advance_to(fallen.at(2, 10))
    fallen.execute((BUY, "CCC", 1))
    fallen.alter(clock=clock_that_says(fallen, change))
    fallen.tick(fallen.at(2, 12))
    assert state(fallen) == ("STALE", "MARKET_CLOCKS_DISAGREE")
    for minute in range(0, 20, 2):
        fallen.tick(fallen.decision(2, minute))
    fallen.alter()
    fallen.tick(fallen.evening(2))
    assert fallen.sent() == ()
    assert len(fallen.plans()) == 1, "none but the one by hand"
    assert fallen.only("CCC").state is IntentState.EXPIRED
    assert "waited_for=STATE_NOT_OPEN" in fallen.only("CCC").reason
    assert fallen.alerts("state:main") == ["raised", "recovered"]
    assert fallen.alerts("missed:") == ["raised"]
    holds(fallen, settled=True)


@pytest.mark.fault("F30")
def test_a_broker_that_says_open_on_a_day_without_a_session_opens_nothing(stage: Stage) -> None:
    """Saturday after session 4: our calendar has no session, the broker's clock has one. A yes of one is none."""
    for number in range(2, 5):
        stage.live(number)
    saturday = stage.session(4).closes_at + timedelta(hours=18)
    stage.venue.advance_to(saturday)
    stage.execute((BUY, "AAA", 1))
    stage.alter(
        clock=clock_that_says(
            stage, lambda clock: replace(clock, is_open=True, next_close=saturday + timedelta(hours=3))
        )
    )
    stage.tick(saturday)
    assert stage.look().state is DaemonState.STALE
    assert [one for one in stage.sent() if stage.only("AAA").client_order_id == one] == []
    stage.alter()
    holds(stage)


@pytest.mark.fault("F30")
def test_too_near_the_close_nothing_is_decided_and_nothing_leaves(fallen: Stage) -> None:
    fallen.tick(fallen.before_open(2))
    fallen.venue.advance_to(fallen.at(2, 10))
    fallen.execute((BUY, "CCC", 1))
    last = fallen.session(2).closes_at - fallen.house.timetable.stop_before_close
    fallen.tick(last)
    assert fallen.sent() == ()
    assert fallen.only("CCC").state is IntentState.EXPIRED
    assert len(fallen.plans()) == 1
    fallen.tick(fallen.evening(2))
    assert fallen.alerts("missed:") == ["raised"]
    holds(fallen, settled=True)


# ------------------------------------------------------------------ F31: the last second


@pytest.mark.fault("F31")
def test_a_pass_that_crosses_the_close_sends_nothing_after_it(staged: Staged) -> None:
    """The first order leaves in the last second; by the turn of the second one the market has closed."""
    stage = staged(execution={"stop_before_close_minutes": 0}, optimizer={"cash_max_pct": 30})
    stage.invest(0, 8_000)
    stage.tick(stage.before_open(1))
    close = stage.session(1).closes_at
    stage.venue.advance_to(close - timedelta(seconds=1))
    stage.execute((BUY, "AAA", 10), (BUY, "BBB", 10))
    broker = stage.venue.broker()

    def slow(request: OrderRequest) -> BrokerOrder:
        taken = broker.submit(request)
        stage.venue.advance_to(stage.venue.now + timedelta(seconds=3))
        return taken

    stage.alter(submit=slow)
    stage.tick(close - timedelta(seconds=1))
    assert len(of(stage, "AAA")) == 1
    assert of(stage, "BBB") == []
    assert stage.only("BBB").reason.startswith("MARKET_CLOSED")
    stage.alter()
    stage.tick(stage.evening(1))
    assert of(stage, "BBB") == []
    assert stage.only("BBB").state.is_final
    assert stage.venue.broker().open_orders() == ()
    holds(stage, settled=True)


@pytest.mark.fault("F31")
def test_every_order_is_for_the_day_and_none_is_open_after_it(stage: Stage) -> None:
    """An order that found no price all day is cancelled before the close, not left to queue for tomorrow."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 12))
    stop = stage.session(1).closes_at - stage.house.timetable.stop_before_close
    stage.tick(stop)
    assert stage.venue.broker().open_orders() == ()
    assert stage.only("AAA").state is IntentState.CANCELLED
    stage.tick(stage.evening(1))
    stage.venue.unhalt("AAA")
    stage.live(2)
    assert len(of(stage, "AAA")) == 1
    holds(stage, settled=True)


@pytest.mark.fault("F31")
def test_an_order_taken_for_tomorrow_is_cancelled_the_same_evening(stage: Stage) -> None:
    """It arrived in the last second, and the broker keeps it for the next session instead of ending it at the close."""
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 12))
    broker = stage.venue.broker()
    [queued] = stage.venue.broker().open_orders()
    cancelled: list[str] = []

    def kept(client_order_id: str) -> BrokerOrder | None:
        assert client_order_id == queued.client_order_id
        return replace(queued, status=BrokerOrderStatus.CANCELLED) if cancelled else queued

    stage.alter(
        order_by_client_id=kept,
        open_orders=lambda: () if cancelled else (queued,),
        cancel=cancelled.append,
        order_events=broker.order_events,
    )
    stage.tick(stage.evening(1))
    assert cancelled == [queued.broker_order_id]
    assert stage.only("AAA").state is IntentState.CANCELLED
    [plan] = stage.plans()
    assert plan.state is PlanState.FAILED
    assert stage.alerts(f"plan:{plan.plan_id}") == ["raised"]
    stage.alter()
    stage.venue.unhalt("AAA")
    holds(stage, settled=True)
    stage.live(2)
    assert len(of(stage, "AAA")) == 1, "and is not sent again the next day"


@pytest.mark.fault("F31")
def test_an_order_kept_for_tomorrow_whose_cancel_was_not_heeded_is_cancelled_before_the_open(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 12))
    [queued] = stage.venue.broker().open_orders()
    asked: list[datetime] = []
    stage.alter(
        order_by_client_id=lambda _: queued,
        open_orders=lambda: (queued,),
        cancel=lambda _: asked.append(stage.venue.now),
        order_events=lambda cursor=None: OrderEvents((), cursor),
    )
    stage.tick(stage.evening(1))
    assert stage.alerts("stuck:") == ["raised"]
    stage.tick(stage.before_open(2))
    assert asked[-1] >= stage.before_open(2)


@pytest.mark.fault("F31")
def test_an_order_the_broker_ended_at_the_close_while_nobody_looked_says_why_it_ended(stage: Stage) -> None:
    stage.venue.halt("AAA")
    stage.execute((BUY, "AAA", 10))
    stage.tick(stage.at(1, 12))
    stage.tick(stage.evening(1))
    assert stage.only("AAA").state is IntentState.EXPIRED
    assert stage.only("AAA").reason.startswith("ORDER_")
    holds(stage, settled=True)


# ------------------------------------------------------------------ F32: sold, and the purchase is refused


@pytest.mark.fault("F32")
@pytest.mark.parametrize("code", [ReasonCode.ORDER_INSUFFICIENT_CASH, ReasonCode.ORDER_SELF_TRADE])
def test_a_purchase_refused_after_its_sale_is_tried_three_times_and_the_dollars_are_told(
    stage: Stage, code: ReasonCode
) -> None:
    asked: list[datetime] = []
    broker = stage.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        if request.side is BUY:
            asked.append(stage.venue.now)
            raise OrderRefused(code.value, "the broker's own words")
        return broker.submit(request)

    stage.alter(submit=submit)
    plan = stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60))
    for minute in range(10, 40, 2):
        stage.tick(stage.at(1, minute))
    assert len(asked) == 3
    assert len(set(asked)) == 3, "at three different looks"
    assert [one.side for one in of(stage, "AAA")] == [SELL], "no second sale"
    bought = stage.only("BBB")
    assert (bought.state, bought.reason.partition(":")[0]) == (IntentState.REFUSED, code.value)
    stage.alter()
    stage.finish(1)
    [alert] = [one for one in stage.told if one.key.startswith(f"plan:{plan.plan_id}")]
    assert "USD more than planned stay in cash" in alert.message
    assert code.value in alert.message
    assert stage.plans()[0].state is PlanState.PARTLY_DONE
    holds(stage, settled=True)


@pytest.mark.fault("F32")
def test_a_purchase_refused_for_a_moment_is_made_in_the_same_session(stage: Stage) -> None:
    refusals = iter([ReasonCode.ORDER_INSUFFICIENT_CASH, ReasonCode.ORDER_SELF_TRADE])
    broker = stage.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        code = next(refusals, None) if request.side is BUY else None
        if code is not None:
            raise OrderRefused(code.value, "not counted yet")
        return broker.submit(request)

    stage.alter(submit=submit)
    stage.execute((SELL, "AAA", 100), (BUY, "BBB", 60))
    for minute in range(10, 24, 2):
        stage.tick(stage.at(1, minute))
    assert stage.only("BBB").state is IntentState.FILLED
    assert len(of(stage, "BBB")) == 1
    stage.alter()
    stage.finish(1)
    holds(stage, settled=True)


@pytest.mark.fault("F32")
def test_the_cash_of_a_refused_purchase_is_planned_anew_in_the_next_session(fallen: Stage) -> None:
    broker = fallen.venue.broker()

    def submit(request: OrderRequest) -> BrokerOrder:
        if request.side is BUY:
            raise OrderRefused(ReasonCode.ORDER_INSUFFICIENT_CASH.value, "not enough")
        return broker.submit(request)

    fallen.alter(submit=submit)
    fallen.live(2)
    assert sold(fallen, "AAA") > 0
    first = fallen.plans()[0]
    assert first.state is PlanState.PARTLY_DONE
    once = sold(fallen, "AAA")
    price = next(trade.price for trade in first.trades if trade.symbol == "AAA")
    unhedged = fallen.house.settings.execution.unhedged_max_pct_nav / 100 * first.nav
    assert once * price <= unhedged + price, "what was not bought back kept the rest from being sold"
    [alert] = [one for one in fallen.told if one.key.startswith(f"plan:{first.plan_id}")]
    assert "stay in cash" in alert.message
    fallen.alter()
    fallen.live(3)
    later = [plan for plan in fallen.plans() if plan.session == fallen.session(3).session]
    assert [plan.state for plan in later] == [PlanState.DONE]
    assert any(reason.startswith("TRIGGER_CASH") for reason in later[0].triggers)
    assert fallen.look().cash < fallen.look().nav / 50, "invested again"
    holds(fallen, settled=True)


# ------------------------------------------------------------------ F33: wash sales in flight


@pytest.mark.fault("F33")
def test_another_accounts_purchase_learned_before_the_sale_leaves_stops_it(fallen: Stage) -> None:
    fallen.tick(fallen.before_open(2))
    fallen.venue.advance_to(fallen.at(2, 10))
    held = int(fallen.house.ledger.position("main", "AAA"))
    plan = fallen.execute((SELL, "AAA", held), (BUY, "BBB", 10))
    fallen.venue.advance_to(fallen.at(2, 11))
    fallen.imported("ira", BUY, "AAA", 50, DAYS[HISTORY + 2])
    fallen.tick(fallen.at(2, 12))
    refused = fallen.intents("AAA")
    assert {one.state for one in refused} == {IntentState.REFUSED}
    assert all(one.reason.startswith("WASH_IN_FLIGHT") for one in refused)
    fallen.finish(2)
    assert sold(fallen, "AAA") == 0
    assert fallen.house.ledger.position("main", "AAA") == held
    assert fallen.alerts(f"plan:{plan.plan_id}") == ["raised"]
    holds(fallen, settled=True)


@pytest.mark.fault("F33")
@pytest.mark.parametrize("account", ["ira", "spouse"])
def test_another_accounts_purchase_learned_after_the_sale_disallows_the_loss_it_covers(
    fallen: Stage, account: str
) -> None:
    fallen.live(2)
    before = fallen.house.ledger.realized("main", "AAA")
    assert before
    assert sum((row.disallowed for row in before), D(0)) == 0
    loss = -sum((row.recognized for row in before), D(0))
    fallen.imported(account, BUY, "AAA", 50, DAYS[HISTORY + 2])
    fallen.live(3)
    after = fallen.house.ledger.realized("main", "AAA")
    disallowed = sum((row.disallowed for row in after), D(0))
    assert disallowed > 0
    assert -sum((row.recognized for row in after), D(0)) == loss - disallowed, "counted once, and less"
    holds(fallen, settled=True)


@pytest.mark.fault("F33")
def test_a_reinvested_dividend_learned_after_the_sale_disallows_the_loss_of_its_shares(fallen: Stage) -> None:
    """The broker buys a share with the dividend on the day after the loss was taken."""
    fallen.live(2)
    assert sold(fallen, "AAA") > 0
    fallen.tick(fallen.before_open(3))
    fallen.venue.advance_to(fallen.at(3, 1))
    fallen.outside(BUY, "AAA", 1)
    fallen.finish(3)
    rows = fallen.house.ledger.realized("main", "AAA")
    assert sum((row.disallowed for row in rows), D(0)) > 0
    assert not is_halted(fallen.path)
    holds(fallen, settled=True)
