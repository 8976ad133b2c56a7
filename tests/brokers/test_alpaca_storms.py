"""429 after 429, with whatever the server says of its next minute: waits are short, cancels leave, orders wait."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
import stamina
from stub_alpaca import OPEN_CLOCK, OURS, TAKEN, Said, StubAlpaca, Time, stubbed_broker, stubbed_reader

from brokers.alpaca.budget import RateBudget
from brokers.alpaca.reader import WITHIN_S
from brokers.errors import BrokerUnavailable, NotSent, OutcomeUnknown
from state.records import OrderRequest, Side

pytestmark = pytest.mark.fault("F09")

BUY = OrderRequest("a-1", "KO", Side.BUY, Decimal(10))
NOW = "Thu, 08 Oct 2026 15:10:20 GMT"
AT = 1791472220  # the same, as an epoch second
RESETS: dict[str, dict[str, str]] = {
    "absent": {},
    "absent, with a date": {"Date": NOW},
    "in twelve seconds": {"Date": NOW, "X-Ratelimit-Reset": str(AT + 12)},
    "over": {"Date": NOW, "X-Ratelimit-Reset": str(AT - 600)},
    "in a year": {"Date": NOW, "X-Ratelimit-Reset": str(AT + 31_536_000)},
    "in milliseconds": {"Date": NOW, "X-Ratelimit-Reset": f"{AT + 12}000"},
    "no number": {"Date": NOW, "X-Ratelimit-Reset": "soon"},
    "without a date": {"X-Ratelimit-Reset": str(AT + 12)},
    "in words": {"Retry-After": NOW},
    "in a year, by Retry-After": {"Retry-After": "31536000"},
    "not yet allowed and none left": {"Date": NOW, "X-Ratelimit-Limit": "200", "X-Ratelimit-Remaining": "0"},
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


def limited(reset: str) -> Said:
    return Said({"code": 42910000, "message": "rate limit exceeded"}, 429, RESETS[reset])


@pytest.mark.parametrize("reset", RESETS)
def test_a_read_in_a_storm_is_given_up_soon_and_asked_few_times(stub: StubAlpaca, reset: str) -> None:
    clock = Time()
    with stubbed_reader(stub, sleep=clock.sleep, monotonic=clock.monotonic) as reader:
        stub.says("/v2/positions", limited(reset))
        with pytest.raises(BrokerUnavailable):
            reader.positions()
    assert stub.count("/v2/positions") <= 3
    assert sum(clock.slept) <= WITHIN_S


@pytest.mark.parametrize("reset", RESETS)
def test_within_a_minute_of_the_storm_everything_leaves_again(stub: StubAlpaca, reset: str) -> None:
    """The first order met the limit: nobody knows its fate. The next one stays here, and leaves when it is over."""
    clock = Time()
    stub.says(f"/v2/orders/{OURS}", Said(b"", 204), method="DELETE")
    stub.says("/v2/orders", limited(reset), TAKEN, method="POST")
    with stubbed_broker(stub, sleep=clock.sleep, monotonic=clock.monotonic) as broker:
        broker.clock()
        with pytest.raises(OutcomeUnknown):
            broker.submit(BUY)
        with pytest.raises(NotSent):
            broker.submit(BUY)
        assert stub.count("/v2/orders", "POST") == 1
        clock.seconds += 62
        broker.cancel(OURS)
        assert broker.submit(BUY).client_order_id == "a-1"


@pytest.mark.parametrize("reset", ["absent", "over", "in twelve seconds", "no number"])
def test_a_cancel_waits_for_the_end_of_the_storm_and_leaves(stub: StubAlpaca, reset: str) -> None:
    clock = Time()
    stub.says("/v2/positions", limited(reset))
    stub.says(f"/v2/orders/{OURS}", Said(b"", 204), method="DELETE")
    with stubbed_broker(stub, sleep=clock.sleep, monotonic=clock.monotonic) as broker:
        with pytest.raises(BrokerUnavailable):
            broker.positions()
        broker.cancel(OURS)
    assert stub.count(f"/v2/orders/{OURS}", "DELETE") == 1


def test_reads_and_orders_leave_a_part_of_the_minute_to_cancels(stub: StubAlpaca) -> None:
    """The server counts, and says that few calls are left: not one of those goes to anything but cancels."""
    clock = Time()
    counted = {
        "Date": NOW,
        "X-Ratelimit-Limit": "200",
        "X-Ratelimit-Remaining": "19",
        "X-Ratelimit-Reset": str(AT + 50),
    }
    stub.says(f"/v2/orders/{OURS}", Said(b"", 204), method="DELETE")
    with stubbed_broker(stub, sleep=clock.sleep, monotonic=clock.monotonic) as broker:
        stub.says("/v2/clock", Said(OPEN_CLOCK, headers=counted))
        broker.clock()
        with pytest.raises(NotSent, match="kept for cancels"):
            broker.submit(BUY)
        with pytest.raises(BrokerUnavailable, match="Asked again later"):
            broker.positions()
        for _ in range(19):
            broker.cancel(OURS)
    assert clock.slept == []
    assert stub.count("/v2/positions") == 0


def test_programs_that_wait_for_the_same_minute_do_not_all_come_at_once() -> None:
    waits = []
    for lot in (0.0, 0.5, 0.999):
        clock = Time()
        calls = RateBudget(200, sleep=clock.sleep, monotonic=clock.monotonic, name="trading", lot=lambda lot=lot: lot)  # type: ignore[misc]
        calls.close(10)
        calls.take(patience_s=20)
        waits.append(sum(clock.slept))
    assert waits == pytest.approx([10, 10.5, 10.999])
