"""Faults between the adapter and a venue that goes on by itself: what is lost on the way, and what is found again."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import stamina
from loopback import Fault, LoopbackAlpaca
from worlds import venue

from brokers.alpaca import Endpoints, Keys
from brokers.alpaca.desk import AlpacaBroker
from brokers.errors import BrokerError, BrokerUnavailable, DuplicateClientOrderId, OutcomeUnknown
from state.records import ActivityKind, BrokerOrderStatus, OrderRequest, Side

KEYS = Keys("PKFAULTS", "faults-secret")
BUY = OrderRequest("a-1", "AAA", Side.BUY, Decimal(10))
SUBMIT = {"method": "POST", "path": "/v2/orders$"}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackAlpaca]:
    world = venue(tmp_path)
    with LoopbackAlpaca(world, key_id=KEYS.key_id, secret_key=KEYS.secret_key) as made:
        yield made
    world.close()


@pytest.fixture
def broker(server: LoopbackAlpaca) -> Iterator[AlpacaBroker]:
    made = AlpacaBroker(
        KEYS,
        Endpoints.loopback(server.url),
        timeouts=(1.0, 0.15),
        monotonic=lambda: server.venue.now.timestamp(),
        sleep=lambda seconds: server.advance(seconds),
    )
    yield made
    made.close()


AFTER = [
    Fault("status", status=504, when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("status", status=429, when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("html", when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("drop", when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("hang", when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("redirect", when="after", **SUBMIT),  # type: ignore[arg-type]
    Fault("truncated", **SUBMIT),  # type: ignore[arg-type]
    Fault("wrong_type", **SUBMIT),  # type: ignore[arg-type]
    Fault("omit", fields=("status",), **SUBMIT),  # type: ignore[arg-type]
    Fault("set", fields={"qty": "1000"}, **SUBMIT),  # type: ignore[arg-type]
    Fault("set", fields={"symbol": "BBB"}, **SUBMIT),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("fault", AFTER, ids=[f"{each.kind}{each.status or ''}" for each in AFTER])
def test_an_order_that_was_taken_and_not_told_of_is_found_and_there_is_only_one(
    server: LoopbackAlpaca, broker: AlpacaBroker, fault: Fault
) -> None:
    server.script(fault)
    with pytest.raises(OutcomeUnknown):
        broker.submit(BUY)
    server.clear_faults()
    server.advance(60)
    order = broker.order_by_client_id("a-1")
    assert order is not None
    assert (order.status, order.filled_quantity) == (BrokerOrderStatus.FILLED, 10)
    with pytest.raises(DuplicateClientOrderId):
        broker.submit(BUY)
    assert len(server.venue.orders()) == 1


@pytest.mark.parametrize("kind", ["drop", "hang", "html", "status"])
def test_an_order_that_never_arrived_is_looked_for_and_can_be_sent_again(
    server: LoopbackAlpaca, broker: AlpacaBroker, kind: str
) -> None:
    server.script(Fault(kind, status=502, **SUBMIT))  # type: ignore[arg-type]
    with pytest.raises(OutcomeUnknown):
        broker.submit(BUY)
    server.clear_faults()
    assert broker.order_by_client_id("a-1") is None
    assert broker.submit(BUY).client_order_id == "a-1"


def test_a_word_of_tomorrow_does_not_cost_the_list(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    server.script(Fault("set", path="/v2/orders$", fields={"status": "enchanted", "asset_class": "moon_rock"}))
    assert [each.reason for each in broker.open_orders()] == ["Alpaca says 'enchanted'"]


def test_one_passing_fault_in_a_read_is_not_even_noticed(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    server.script(
        Fault("drop", path="/v2/clock"), Fault("status", path="/v2/account$", status=500), Fault("html", path="/v1/")
    )
    assert broker.clock().is_open
    assert broker.account().cash == 100_000
    day = server.venue.now.date()
    assert broker.corporate_actions(["AAA"], day, day) == ()


def test_a_history_told_in_part_is_completed_later(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    cursor = broker.activities().cursor
    broker.submit(BUY)
    server.advance(120)
    server.script(Fault("empty_page", path="/v2/account/activities", times=2))
    page = broker.activities(cursor)
    assert page.activities == ()
    [fill] = broker.activities(page.cursor).activities
    assert fill.kind is ActivityKind.FILL


def test_a_line_taken_back_is_told_when_its_day_is_read_again(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    broker.submit(BUY)
    server.advance(120)
    with server.lock:
        server.venue.pay_dividend("AAA", Decimal("0.25"))
    page = broker.activities()
    paid = page.activities[-1]
    server.amend_activity(paid.activity_id, status="canceled")
    assert broker.activities(page.cursor).activities == ()
    [cancelled] = [each for each in broker.activities_since(paid.trade_date) if each.cancelled]
    assert cancelled.activity_id == paid.activity_id


def test_a_skewed_clock_is_told_as_it_is(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    truth = broker.clock().at
    server.script(Fault("skewed_clock", path="/v2/clock", seconds=90))
    assert (broker.clock().at - truth).total_seconds() == 90


def test_quotes_without_a_price_are_passed_on_as_unusable(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    server.script(Fault("zero_quotes", path="/v2/stocks/snapshots", symbols=("AAA",)))
    quotes = broker.quotes(["AAA", "BBB"])
    assert (quotes["AAA"].is_usable, quotes["BBB"].is_usable) == (False, True)


def test_the_servers_limit_is_kept_to(tmp_path: Path) -> None:
    """Twenty calls a minute, and more of them wanted: the adapter waits or gives up, and is never refused."""
    world = venue(tmp_path)
    with LoopbackAlpaca(
        world,
        key_id=KEYS.key_id,
        secret_key=KEYS.secret_key,
        rate_limit=20,
        enforce_rate_limit=True,
        rate_clock=lambda: world.now.timestamp(),
    ) as server:
        broker = AlpacaBroker(
            KEYS,
            Endpoints.loopback(server.url),
            monotonic=lambda: world.now.timestamp(),
            sleep=lambda seconds: server.advance(seconds),
        )
        given_up = 0
        while len(server.requests) < 50:
            try:
                broker.positions()
            except BrokerUnavailable:
                given_up += 1
                server.advance(15)
        statuses = {each.status for each in server.requests}
        broker.close()
    world.close()
    assert statuses == {200}
    assert given_up < 10


def test_with_the_net_down_nothing_is_guessed(server: LoopbackAlpaca, broker: AlpacaBroker) -> None:
    broker.clock()
    server.venue.set_unavailable(True)
    for read in (broker.positions, broker.account, broker.activities):
        with pytest.raises(BrokerUnavailable):
            read()
    with pytest.raises(BrokerError):
        broker.cancel_all()
