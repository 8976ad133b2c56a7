"""Which intent may leave next: never more dollars out of the market than allowed, never more bought than was sold."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from test_slices import leg, plans

from daemon.release import Release, next_release, unhedged
from daemon.slices import cut
from state.records import Intent, IntentState, OrderType, PlannedTrade, Side

D = Decimal
DAY = date(2024, 3, 4)


def intents_of(trades: list[PlannedTrade], most: Decimal) -> list[Intent]:
    """The intents of a plan as they are recorded, nothing sent."""
    return [
        Intent(
            client_order_id=f"{piece.trade.leg}-{piece.slice_number}",
            plan_id="plan",
            account_id="main",
            leg=piece.trade.leg,
            slice_number=piece.slice_number,
            symbol=piece.trade.symbol,
            side=piece.trade.side,
            quantity=piece.quantity,
            state=IntentState.RECORDED,
            session=DAY,
            order_type=OrderType.MARKET,
            reference_price=piece.trade.price,
            tie=piece.tie,
        )
        for piece in cut(trades, most)
    ]


class Book:
    """The intents of one plan, a purse, and a broker that does what the test says. Fills are at reference prices."""

    def __init__(self, trades: list[PlannedTrade], most: object, cash: object = 0) -> None:
        self.most = D(str(most))
        self.cash = D(str(cash))
        self.intents = intents_of(trades, self.most)
        self.asks = {trade.symbol: trade.price for trade in trades}

    def next(self) -> Release | None:
        return next_release(self.intents, cash=self.cash, ask_prices=self.asks, unhedged_max=self.most)

    def put(self, client_order_id: str, **changes: object) -> Intent:
        place = next(i for i, one in enumerate(self.intents) if one.client_order_id == client_order_id)
        self.intents[place] = replace(self.intents[place], **changes)  # type: ignore[arg-type]
        return self.intents[place]

    def send(self, release: Release, state: IntentState = IntentState.WORKING) -> Intent:
        return self.put(release.intent.client_order_id, state=state, submitted_quantity=release.quantity)

    def fill(self, intent: Intent, quantity: Decimal, state: IntentState) -> None:
        moved = (quantity - intent.filled_quantity) * intent.reference_price
        self.cash -= intent.side.sign * moved
        self.put(intent.client_order_id, state=state, filled_quantity=quantity)

    def step(self, state: IntentState = IntentState.FILLED) -> str:
        """Send the next release and end it at once; returns what happened in a word."""
        release = self.next()
        if release is None:
            return "waits"
        sent = self.send(release)
        self.fill(sent, release.quantity if state is IntentState.FILLED else D(0), state)
        return f"{release.intent.side.value} {release.quantity} {release.intent.symbol}"


SWAP = [leg(1, Side.SELL, "XOM", 300, 200), leg(2, Side.BUY, "CVX", 400, 100), leg(3, Side.BUY, "COP", 200, 100)]


def test_a_swap_is_worked_tie_by_tie() -> None:
    book = Book(SWAP, 35_000)
    steps = [book.step() for _ in range(6)]
    assert steps == ["sell 150 XOM", "buy 300 CVX", "sell 150 XOM", "buy 100 CVX", "buy 200 COP", "waits"]
    assert book.cash == 0


def test_the_next_tie_waits_while_the_first_is_not_back_in_the_market() -> None:
    book = Book(SWAP, 35_000)
    sold = book.send(book.next())  # type: ignore[arg-type]
    assert book.next() is None, "a working sale holds back its own buys and the next sale"
    book.fill(sold, D(150), IntentState.FILLED)
    bought = book.send(book.next())  # type: ignore[arg-type]
    assert (bought.symbol, bought.quantity) == ("CVX", D(300))
    assert book.next() is None, "bought is bought when it is filled, not when it is sent"


def test_a_sale_that_was_half_filled_funds_half_of_what_was_to_be_bought() -> None:
    book = Book(SWAP, 70_000)
    sold = book.send(book.next())  # type: ignore[arg-type]
    book.fill(sold, D(150), IntentState.CANCELLED)
    assert [book.step() for _ in range(3)] == ["buy 200 CVX", "buy 100 COP", "waits"]


def test_a_refused_sale_buys_nothing_and_its_buys_end_unsent() -> None:
    book = Book(SWAP, 70_000, cash=100_000)
    refused = book.next()
    assert refused is not None
    book.put(refused.intent.client_order_id, state=IntentState.REFUSED)
    release = book.next()
    assert release is not None
    assert (release.intent.symbol, release.quantity) == ("CVX", 0), "zero says: nothing funds it, it ends"


def test_after_a_refused_replacement_nothing_more_is_sold() -> None:
    """F32: the sale is filled, the purchase refused. The gap stays open and visible; it is not made larger."""
    book = Book(SWAP, 35_000)
    assert book.step() == "sell 150 XOM"
    assert book.step(IntentState.REFUSED) == "buy 300 CVX"
    assert book.step() == "waits"
    assert unhedged(book.intents) == 30_000


def test_a_sale_of_unknown_fate_counts_as_sold_and_holds_its_buys_back() -> None:
    book = Book(SWAP, 35_000, cash=1_000_000)
    unknown = book.send(book.next(), IntentState.UNKNOWN)  # type: ignore[arg-type]
    assert book.next() is None
    assert unhedged(book.intents) == 30_000
    book.put(unknown.client_order_id, state=IntentState.RECORDED, submitted_quantity=D(0))  # it never arrived
    again = book.next()
    assert again is not None
    assert again.intent.client_order_id == unknown.client_order_id, "the same id is sent again, no other"


def test_a_buy_of_unknown_fate_keeps_its_cash() -> None:
    book = Book([leg(1, Side.BUY, "CVX", 60, 100), leg(2, Side.BUY, "COP", 60, 100)], 1_000, cash=10_000)
    book.send(book.next(), IntentState.UNKNOWN)  # type: ignore[arg-type]
    second = book.next()
    assert second is not None
    assert (second.intent.symbol, second.quantity) == ("COP", 40), "6,000 of the 10,000 may be spent already"


def test_a_symbol_with_an_order_of_unknown_fate_is_left_alone() -> None:
    """I9: one leg is bought partly with cash and partly with proceeds. While the fate of the first part is unknown,
    the other part waits, although its sale is filled and there is cash."""
    trades = [leg(1, Side.SELL, "XOM", 100, 100), leg(2, Side.BUY, "CVX", 200, 100)]
    book = Book(trades, 50_000, cash=30_000)
    first = book.send(book.next(), IntentState.UNKNOWN)  # type: ignore[arg-type]
    assert (first.symbol, first.tie) == ("CVX", 0)
    assert book.step() == "sell 100 XOM"
    assert book.step() == "waits"
    book.fill(first, D(100), IntentState.FILLED)
    assert book.step() == "buy 100 CVX"


def test_a_buy_without_a_quote_waits_and_lets_others_pass() -> None:
    book = Book([leg(1, Side.BUY, "CVX", 10, 100), leg(2, Side.BUY, "COP", 10, 100)], 1_000, cash=10_000)
    del book.asks["CVX"]
    assert [book.step(), book.step()] == ["buy 10 COP", "waits"]


def test_a_dearer_price_shrinks_a_buy_to_the_cash_that_is_there() -> None:
    book = Book([leg(1, Side.BUY, "CVX", 100, 100)], 1_000, cash=10_000)
    book.asks["CVX"] = D("103.10")
    release = book.next()
    assert release is not None
    assert release.quantity == 96


def test_without_the_price_of_a_share_nothing_is_sent_yet() -> None:
    book = Book([leg(1, Side.BUY, "CVX", 10, 100)], 1_000, cash="99.99")
    assert book.next() is None
    book.cash = D(100)
    assert book.step() == "buy 1 CVX"


FATES = ("fill", "partial", "cancel part", "refuse", "unknown", "never arrived", "found")


@given(plans(), st.integers(0, 2**32), st.sampled_from(["0", "100", "1000000"]))
def test_whatever_the_broker_does_the_bounds_hold(
    plan: tuple[list[PlannedTrade], Decimal], seed: int, cash: str
) -> None:
    """Hundreds of plans, each worked to its end through fills, partial fills, refusals and lost answers.

    At every moment: the dollars sold, or perhaps sold, and not bought back stay within the bound and one share; a
    leg never sends more than it planned; what a tie buys is at most the part of it that its sales brought in; and
    the purse is never overdrawn, even if every order of unknown fate turns out to be filled.
    """
    trades, most = plan
    book = Book(trades, most, cash)
    chance = random.Random(seed)
    dearest = max(trade.price for trade in trades)
    legs = {trade.leg: trade.quantity for trade in trades}
    for _ in range(400):
        release = book.next()
        if release is not None:
            _check_funded(book, release)
            if release.quantity == 0:
                book.put(release.intent.client_order_id, state=IntentState.EXPIRED)
            else:
                book.send(release)
        at_broker = [one for one in book.intents if one.state.value in ("working", "partly_filled", "unknown")]
        if release is None and not at_broker:
            break
        if at_broker and (release is None or chance.random() < 0.5):
            _happens(book, chance.choice(at_broker), chance.choice(FATES))
        _check_bounds(book, legs, dearest)
    else:
        raise AssertionError("the plan did not come to an end")


def _happens(book: Book, intent: Intent, fate: str) -> None:
    left = intent.submitted_quantity - intent.filled_quantity
    part = (left / 2).quantize(D(1) if intent.quantity % 1 == 0 else D("0.000000001"))
    if fate == "fill" or (fate == "found" and intent.state is IntentState.UNKNOWN):
        book.fill(intent, intent.submitted_quantity, IntentState.FILLED)
    elif fate == "partial" and part < left:
        book.fill(intent, intent.filled_quantity + part, IntentState.PARTLY_FILLED)
    elif fate == "cancel part":
        book.fill(intent, intent.filled_quantity + min(part, left), IntentState.CANCELLED)
    elif fate == "refuse" and intent.filled_quantity == 0:
        book.put(intent.client_order_id, state=IntentState.REFUSED, submitted_quantity=D(0))
    elif fate == "unknown":
        book.put(intent.client_order_id, state=IntentState.UNKNOWN)
    elif fate == "never arrived" and intent.state is IntentState.UNKNOWN and intent.filled_quantity == 0:
        book.put(intent.client_order_id, state=IntentState.RECORDED, submitted_quantity=D(0))


def _check_funded(book: Book, release: Release) -> None:
    """A buy of a tie is at most the part of it that the tie's sales, all of them over, brought in."""
    intent = release.intent
    assert release.quantity <= intent.quantity
    if intent.side is Side.SELL:
        return
    assert release.quantity * book.asks[intent.symbol] <= book.cash
    sells = [one for one in book.intents if one.side is Side.SELL and one.tie == intent.tie]
    if intent.tie and sells:
        assert all(one.state.is_final for one in sells)
        planned = sum(one.quantity * one.reference_price for one in sells)
        brought = sum(one.filled_quantity * one.reference_price for one in sells)
        assert release.quantity * planned <= intent.quantity * brought


def _check_bounds(book: Book, legs: dict[int, Decimal], dearest: Decimal) -> None:
    sent: dict[int, Decimal] = dict.fromkeys(legs, D(0))
    out = committed = D(0)
    for tie in {one.tie for one in book.intents if one.tie}:
        group = [one for one in book.intents if one.tie == tie]
        buys = [one for one in group if one.side is Side.BUY]
        to_buy = sum((one.quantity * one.reference_price for one in buys), D(0))
        bought = sum((one.filled_quantity * one.reference_price for one in buys), D(0))
        sold = perhaps = planned = D(0)
        for one in group:
            if one.side is Side.SELL:
                planned += one.quantity * one.reference_price
                sold += one.filled_quantity * one.reference_price
                gone = one.filled_quantity if one.state.is_final else one.submitted_quantity
                perhaps += gone * one.reference_price
        out += max(D(0), min(perhaps, to_buy * perhaps / planned if planned else D(0)) - bought)
    for one in book.intents:
        sent[one.leg] += one.filled_quantity if one.state.is_final else one.submitted_quantity
        if one.side is Side.BUY and not one.state.is_final:
            committed += (one.submitted_quantity - one.filled_quantity) * one.reference_price
    assert out <= book.most + dearest, f"{out} USD out of the market, {book.most} allowed"
    assert all(sent[number] <= quantity for number, quantity in legs.items())
    assert committed <= book.cash
