"""Orders out: what is posted, when nothing may leave, and how everything is cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
import stamina
from stub_alpaca import OPEN_CLOCK, OURS, TAKEN, Asked, Said, StubAlpaca, Time, stubbed_broker

from brokers.errors import BrokerUnavailable, NotAuthorized, NotSent, OrderRefused, OutcomeUnknown, UnknownOrder
from state.reasons import ReasonCode
from state.records import BrokerOrderStatus, OrderRequest, OrderType, Side

D = Decimal
BUY = OrderRequest("a-1", "KO", Side.BUY, D(10))
NEXT_MORNING = {"expires_at": "2026-10-09T20:00:00Z"}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        made.says("/v2/orders", taken, method="POST")
        yield made


def taken(asked: Asked) -> dict[str, object]:
    """Alpaca takes any order and repeats it."""
    assert isinstance(asked.body, dict)
    return {**TAKEN, **asked.body, "expires_at": "2026-10-08T20:00:00Z"}


def posted(stub: StubAlpaca, order: OrderRequest) -> object:
    with stubbed_broker(stub) as broker:
        broker.submit(order)
    return stub.asked[-1].body


class TestWhatIsPosted:
    def test_a_market_order_for_the_day(self, stub: StubAlpaca) -> None:
        assert posted(stub, BUY) == {
            "client_order_id": "a-1",
            "symbol": "KO",
            "side": "buy",
            "qty": "10",
            "type": "market",
            "time_in_force": "day",
        }

    def test_a_sale_only_ever_closes_a_position(self, stub: StubAlpaca) -> None:
        body = posted(stub, OrderRequest("a-1", "KO", Side.SELL, D("0.557436865")))
        assert isinstance(body, dict)
        assert (body["side"], body["position_intent"], body["qty"]) == ("sell", "sell_to_close", "0.557436865")

    @pytest.mark.parametrize(
        ("price", "written"), [("86.90", "86.9"), ("100", "100"), ("0.9858", "0.9858"), ("1E+1", "10")]
    )
    def test_a_limit_order(self, stub: StubAlpaca, price: str, written: str) -> None:
        body = posted(stub, OrderRequest("a-1", "KO", Side.BUY, D(10), OrderType.LIMIT, D(price)))
        assert isinstance(body, dict)
        assert (body["type"], body["limit_price"], body["time_in_force"]) == ("limit", written, "day")

    def test_an_order_for_the_closing_auction(self, stub: StubAlpaca) -> None:
        body = posted(stub, OrderRequest("a-1", "KO", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE))
        assert isinstance(body, dict)
        assert (body["type"], body["time_in_force"]) == ("market", "cls")

    @pytest.mark.parametrize(
        ("quantity", "written"), [("1E+1", "10"), ("1E-9", "0.000000001"), ("0.10", "0.1"), ("100", "100")]
    )
    def test_numbers_are_written_out(self, stub: StubAlpaca, quantity: str, written: str) -> None:
        body = posted(stub, OrderRequest("a-1", "KO", Side.BUY, D(quantity)))
        assert isinstance(body, dict)
        assert body["qty"] == written

    def test_the_answer_is_the_order(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            order = broker.submit(BUY)
        assert (order.broker_order_id, order.status, order.quantity) == (OURS, BrokerOrderStatus.WORKING, 10)


class TestTheSession:
    def test_many_orders_cost_one_question_about_the_time(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            for number in range(20):
                broker.submit(OrderRequest(f"a-{number}", "KO", Side.BUY, D(10)))
        assert (stub.count("/v2/clock"), stub.count("/v2/orders", "POST")) == (1, 20)

    def test_the_close_is_known_without_asking(self, stub: StubAlpaca) -> None:
        time = Time()
        stub_clock = {**OPEN_CLOCK, "timestamp": "2026-10-08T15:59:30-04:00"}
        with stubbed_broker(stub, monotonic=time.monotonic) as broker:
            stub.says("/v2/clock", stub_clock)
            broker.submit(BUY)
            time.seconds += 29
            broker.submit(OrderRequest("a-2", "KO", Side.BUY, D(10)))
            time.seconds += 1
            with pytest.raises(OrderRefused) as refused:
                broker.submit(OrderRequest("a-3", "KO", Side.BUY, D(10)))
        assert refused.value.reason == ReasonCode.MARKET_CLOSED
        assert (stub.count("/v2/clock"), stub.count("/v2/orders", "POST")) == (1, 2)

    def test_the_open_is_known_without_asking(self, stub: StubAlpaca) -> None:
        time = Time()
        early = {**OPEN_CLOCK, "is_open": False, "timestamp": "2026-10-08T09:29:50-04:00"}
        with stubbed_broker(stub, monotonic=time.monotonic) as broker:
            stub.says("/v2/clock", {**early, "next_open": "2026-10-08T09:30:00-04:00"})
            with pytest.raises(OrderRefused):
                broker.submit(BUY)
            time.seconds += 10
            broker.submit(BUY)
        assert stub.count("/v2/clock") == 1

    def test_time_on_the_way_counts_against_us(self, stub: StubAlpaca) -> None:
        """The answer took eight seconds: by then the market has closed."""
        time = Time()

        def slowly(_: Asked) -> object:
            time.seconds += 8
            return {**OPEN_CLOCK, "timestamp": "2026-10-08T15:59:55-04:00"}

        with stubbed_broker(stub, monotonic=time.monotonic) as broker:
            stub.says("/v2/clock", slowly)
            with pytest.raises(OrderRefused):
                broker.submit(BUY)

    def test_time_spent_before_the_question_left_does_not(self, stub: StubAlpaca) -> None:
        """The question had to wait for a place in the budget; the answer is fresh all the same."""
        time = Time()
        busy = Said({"message": "rate limit exceeded"}, 429, {"Retry-After": "15"})
        with stubbed_broker(stub, sleep=time.sleep, monotonic=time.monotonic) as broker:
            stub.says("/v2/clock", busy, {**OPEN_CLOCK, "timestamp": "2026-10-08T15:59:55-04:00"})
            broker.submit(BUY)
        assert sum(time.slept) >= 15

    def test_after_a_minute_the_time_is_asked_for_again(self, stub: StubAlpaca) -> None:
        time = Time()
        with stubbed_broker(stub, monotonic=time.monotonic) as broker:
            broker.submit(BUY)
            time.seconds += 61
            stub.says("/v2/clock", {**OPEN_CLOCK, "is_open": False, "next_open": "2026-10-09T09:30:00-04:00"})
            with pytest.raises(OrderRefused):  # halted for everybody: the exchange closed early
                broker.submit(OrderRequest("a-2", "KO", Side.BUY, D(10)))
        assert stub.count("/v2/clock") == 2

    @pytest.mark.parametrize(("at", "leaves"), [("15:49:59", True), ("15:50:00", False)])
    def test_the_closing_auction_takes_orders_until_ten_minutes_before(
        self, stub: StubAlpaca, at: str, leaves: bool
    ) -> None:
        order = OrderRequest("a-1", "KO", Side.BUY, D(10), OrderType.MARKET_ON_CLOSE)
        with stubbed_broker(stub, monotonic=Time().monotonic) as broker:
            stub.says("/v2/clock", {**OPEN_CLOCK, "timestamp": f"2026-10-08T{at}-04:00"})
            if leaves:
                broker.submit(order)
                return
            with pytest.raises(OrderRefused, match="until 19:50 UTC"):
                broker.submit(order)

    def test_an_order_that_was_queued_for_tomorrow_is_cancelled_at_once(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", {**TAKEN, **NEXT_MORNING}, method="POST")
        stub.says(f"/v2/orders/{OURS}", Said(b"", 204), method="DELETE")
        with stubbed_broker(stub) as broker:
            assert broker.submit(BUY).broker_order_id == OURS
        assert stub.count(f"/v2/orders/{OURS}", "DELETE") == 1

    def test_even_when_it_cannot_be_cancelled_it_is_known(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", {**TAKEN, **NEXT_MORNING}, method="POST")
        stub.says(f"/v2/orders/{OURS}", Said({"message": "later"}, 503), method="DELETE")
        with stubbed_broker(stub) as broker:
            assert broker.submit(BUY).broker_order_id == OURS


class TestTheReserve:
    def test_when_orders_have_used_the_minute_up_cancels_still_leave(self, stub: StubAlpaca) -> None:
        time = Time()
        stub.says(f"/v2/orders/{OURS}", Said(b"", 204), method="DELETE")
        stub.says("/v2/orders:by_client_order_id", TAKEN)
        with stubbed_broker(stub, requests_per_minute=40, sleep=time.sleep, monotonic=time.monotonic) as broker:
            for number in range(35):  # of forty, one for the time and four kept
                broker.submit(OrderRequest(f"a-{number}", "KO", Side.BUY, D(10)))
            with pytest.raises(NotSent, match="kept for cancels"):
                broker.submit(OrderRequest("a-35", "KO", Side.BUY, D(10)))
            broker.cancel(OURS)
            assert broker.order_by_client_id("a-1") is not None
            broker.cancel(OURS)
        assert time.slept == []

    def test_a_429_on_an_order_keeps_the_next_one_here(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", Said({"message": "rate limit exceeded"}, 429, {"Retry-After": "30"}), method="POST")
        with stubbed_broker(stub, monotonic=Time().monotonic) as broker:
            with pytest.raises(OutcomeUnknown):
                broker.submit(BUY)
            with pytest.raises(NotSent):
                broker.submit(OrderRequest("a-2", "KO", Side.BUY, D(10)))
        assert stub.count("/v2/orders", "POST") == 1


class TestCancels:
    def test_a_cancel_that_got_no_answer_is_asked_for_again(self, stub: StubAlpaca) -> None:
        stub.says(f"/v2/orders/{OURS}", Said(b"", 502), Said(b"", 204), method="DELETE")
        with stubbed_broker(stub) as broker:
            broker.cancel(OURS)
        assert stub.count(f"/v2/orders/{OURS}", "DELETE") == 2

    @pytest.mark.parametrize("name", ["", "..", "../positions", "a-1", f"{OURS}/../..", f"{{{OURS}}}", "orders"])
    def test_what_is_no_order_id_is_not_sent(self, stub: StubAlpaca, name: str) -> None:
        """DELETE without an id cancels every order."""
        with stubbed_broker(stub) as broker, pytest.raises(UnknownOrder):
            broker.cancel(name)
        assert stub.asked == []

    def test_everything_is_cancelled_with_one_call(self, stub: StubAlpaca) -> None:
        told = [{"id": "one", "status": 200}, {"id": "two", "status": 500, "body": {"message": "no"}}]
        stub.says("/v2/orders", Said(told, 207), method="DELETE")
        with stubbed_broker(stub) as broker:
            assert broker.cancel_all() == ("two",)
            stub.says("/v2/orders", Said([], 207), method="DELETE")
            assert broker.cancel_all() == ()

    def test_that_nothing_could_be_cancelled_is_not_kept_quiet(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            stub.says("/v2/orders", Said({"message": "no"}, 500), method="DELETE")
            with pytest.raises(BrokerUnavailable):
                broker.cancel_all()
            stub.says("/v2/orders", Said({"message": "unauthorized."}, 401), method="DELETE")
            with pytest.raises(NotAuthorized):
                broker.cancel_all()

    @pytest.mark.fault("F25")
    def test_an_order_that_cannot_be_cancelled_now_can_be_asked_for_again(self, stub: StubAlpaca) -> None:
        """Alpaca refuses a second cancel while the first is pending: the order is there, so nothing is wrong."""
        pending = Said({"code": 42210000, "message": "order is already in pending_cancel state"}, 422)
        stub.says(f"/v2/orders/{OURS}", pending, method="DELETE")
        stub.says(f"/v2/orders/{OURS}", {**TAKEN, "status": "pending_cancel"})
        with stubbed_broker(stub) as broker:
            broker.cancel(OURS)
            broker.cancel(OURS)
        assert stub.count(f"/v2/orders/{OURS}", "DELETE") == 2

    @pytest.mark.fault("F25")
    def test_an_answer_to_cancelling_everything_that_cannot_be_read_is_no_success(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            for body in ({}, b"", b"null", {"message": "ok"}, [{"id": "one"}], [{"status": 500}], [{"status": "fine"}]):
                stub.says("/v2/orders", Said(body, 207), method="DELETE")
                with pytest.raises(BrokerUnavailable):
                    broker.cancel_all()
