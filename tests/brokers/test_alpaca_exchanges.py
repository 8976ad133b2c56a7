"""Who watches the daemon hears of each exchange with Alpaca: one question can be many, each of them slow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
import stamina
from stub_alpaca import HANGS, StubAlpaca, stubbed_broker, stubbed_reader

from brokers.errors import BrokerUnavailable, OutcomeUnknown
from state.records import OrderRequest, Side

pytestmark = pytest.mark.fault("F08")

DAY = date(2026, 10, 6)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


def test_each_page_of_one_question_is_an_exchange(stub: StubAlpaca) -> None:
    pages = {None: "two", "two": "three", "three": None}
    stub.says("/v2/stocks/bars", lambda asked: {"bars": {}, "next_page_token": pages[asked.query.get("page_token")]})
    session = {"date": "2026-10-06", "open": "09:30", "close": "16:00", "settlement_date": "2026-10-07"}
    stub.says("/v2/calendar", [session])
    heard: list[int] = []
    with stubbed_reader(stub) as reader:
        reader.on_exchange = lambda: heard.append(stub.count("/v2/stocks/bars"))
        assert list(reader.raw_bars(["KO"], DAY, DAY, adjustment="raw")) == []
    assert [count for count in heard if count] == [1, 2, 3]


def test_one_that_fails_in_time_is_an_exchange_too(stub: StubAlpaca) -> None:
    stub.says("/v2/positions", HANGS)
    heard: list[int] = []
    with stubbed_reader(stub, timeouts=(1.0, 0.05)) as reader:
        reader.on_exchange = lambda: heard.append(1)
        with pytest.raises(BrokerUnavailable):
            reader.positions()
    assert len(heard) == stub.count("/v2/positions") == 3


def test_so_is_an_order_and_nobody_has_to_listen(stub: StubAlpaca) -> None:
    stub.says("/v2/orders", HANGS, method="POST")
    heard: list[int] = []
    with stubbed_broker(stub, timeouts=(1.0, 0.05)) as broker:
        broker.clock()
        broker.on_exchange = lambda: heard.append(stub.count("/v2/orders", "POST"))
        with pytest.raises(OutcomeUnknown):
            broker.submit(OrderRequest("a-1", "KO", Side.BUY, Decimal(1)))
    assert heard == [1]
