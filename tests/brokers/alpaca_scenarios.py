"""What the recorded contract consists of: conversations with Alpaca, each with what the adapter must make of them.

They are run three times: against the stand-in or a paper account to record a cassette (`record_cassettes.py`), and
against the cassette in every test run. So they assert only what holds for both accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest

from brokers.alpaca.desk import AlpacaBroker
from brokers.errors import DuplicateClientOrderId, OrderRefused, UnknownOrder
from state.reasons import ReasonCode
from state.records import ActivityKind, BrokerOrder, BrokerOrderStatus, OrderRequest, OrderType, Side

NO_SUCH_ORDER = "00000000-0000-4000-8000-000000000000"
LOOKS_AT_MOST = 20


@dataclass(frozen=True)
class Stage:
    """A broker to talk to. `pause` lets a while pass; `run` makes the client order ids of one recording its own.

    `symbol` and `other` can be bought; the account holds neither, and neither costs more than a thousand dollars.
    """

    broker: AlpacaBroker
    pause: Callable[[], None]
    run: str
    symbol: str
    other: str

    def order(self, number: int, side: Side, quantity: str = "1", **fields: object) -> OrderRequest:
        """An order in `symbol`."""
        return OrderRequest(self.id(number), self.symbol, side, Decimal(quantity), **fields)  # type: ignore[arg-type]

    def id(self, number: int) -> str:
        """The client order id of one order of this recording."""
        return f"{self.run}-{number}"

    def ended(self, number: int) -> BrokerOrder:
        """The order when it has ended."""
        for order in self._looks(number):
            if order.status.is_final:
                return order
        raise AssertionError(f"{self.id(number)} has not ended")

    def _looks(self, number: int) -> Iterator[BrokerOrder]:
        for _ in range(LOOKS_AT_MOST):
            order = self.broker.order_by_client_id(self.id(number))
            assert order is not None
            yield order
            self.pause()


def account(stage: Stage) -> None:
    """Time, cash, settings, positions."""
    clock = stage.broker.clock()
    assert clock.at.utcoffset() == timedelta(0)
    assert clock.is_open == (clock.next_close < clock.next_open)
    told = stage.broker.account()
    assert told.account_number
    assert told.cash.is_finite()
    assert told.settled_cash <= max(told.cash, Decimal(0))
    assert not told.trading_blocked
    assert "no_shorting" in stage.broker.configurations()
    assert all(position.quantity for position in stage.broker.positions())


def market_data(stage: Stage) -> None:
    """Assets, quotes, closes, announcements."""
    symbols = [stage.symbol, stage.other]
    assets = stage.broker.assets([*symbols, "NOSUCHSYMBOL"])
    assert set(assets) == set(symbols)
    assert all(asset.tradable for asset in assets.values())
    quotes = stage.broker.quotes([*symbols, "NOSUCHSYMBOL"])
    assert set(quotes) == set(symbols)
    now = stage.broker.clock().at
    assert all(quote.at <= now + timedelta(minutes=1) for quote in quotes.values())
    yesterday = (now - timedelta(days=1)).date()
    bars = stage.broker.daily_bars(symbols, yesterday - timedelta(days=7), yesterday)
    assert [(bar.session, bar.symbol) for bar in bars] == sorted((bar.session, bar.symbol) for bar in bars)
    assert {bar.symbol for bar in bars} == set(symbols)
    for notice in stage.broker.corporate_actions(symbols, yesterday - timedelta(days=30), yesterday):
        assert notice.symbol in symbols


def orders(stage: Stage) -> None:
    """A purchase, its fill, a sale of what was bought, a limit order that rests until it is cancelled."""
    broker, today = stage.broker, stage.broker.clock().at.date()
    accepted = broker.submit(stage.order(1, Side.BUY))
    assert accepted.status in (BrokerOrderStatus.WORKING, BrokerOrderStatus.FILLED)
    bought = stage.ended(1)
    assert (bought.status, bought.filled_quantity) == (BrokerOrderStatus.FILLED, 1)
    assert bought.broker_order_id == accepted.broker_order_id
    assert {each.symbol: each.quantity for each in broker.positions()}[stage.symbol] == 1
    [fill] = [each for each in broker.activities_since(today) if each.broker_order_id == bought.broker_order_id]
    assert (fill.kind, fill.side, fill.quantity, fill.price) == (ActivityKind.FILL, Side.BUY, 1, bought.average_price)
    assert fill.settle_date is not None
    assert fill.settle_date > fill.trade_date
    with pytest.raises(OrderRefused) as refused:
        broker.submit(stage.order(2, Side.SELL, "2"))
    assert refused.value.reason == ReasonCode.ORDER_INSUFFICIENT_SHARES
    broker.submit(stage.order(3, Side.SELL))
    assert stage.ended(3).status is BrokerOrderStatus.FILLED
    far = stage.order(4, Side.BUY, order_type=OrderType.LIMIT, limit_price=Decimal("1.05"))
    resting = broker.submit(far)
    assert stage.id(4) in [each.client_order_id for each in broker.open_orders()]
    broker.cancel(resting.broker_order_id)
    assert stage.ended(4).status is BrokerOrderStatus.CANCELLED
    broker.cancel(resting.broker_order_id)
    found = broker.orders([stage.id(number) for number in range(1, 5)])
    assert sorted(found) == [stage.id(1), stage.id(3), stage.id(4)]


def refusals(stage: Stage) -> None:
    """What is refused, in Alpaca's own words."""
    broker = stage.broker
    far = {"order_type": OrderType.LIMIT, "limit_price": Decimal("1.05")}
    resting = broker.submit(stage.order(11, Side.BUY, **far))
    with pytest.raises(DuplicateClientOrderId):
        broker.submit(stage.order(11, Side.BUY, **far))
    broker.cancel(resting.broker_order_id)
    assert stage.ended(11).status is BrokerOrderStatus.CANCELLED
    expected = {
        stage.order(12, Side.BUY, "900000000"): ReasonCode.ORDER_INSUFFICIENT_CASH,
        stage.order(13, Side.SELL): ReasonCode.ORDER_INSUFFICIENT_SHARES,
        OrderRequest(stage.id(14), "NOSUCHSYMBOL", Side.BUY, Decimal(1)): ReasonCode.SYMBOL_NOT_TRADABLE,
    }
    for order, reason in expected.items():
        with pytest.raises(OrderRefused) as refused:
            broker.submit(order)
        assert refused.value.reason == reason
        assert broker.order_by_client_id(order.client_order_id) is None
    with pytest.raises(UnknownOrder):
        broker.cancel(NO_SUCH_ORDER)


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "account": account,
    "market_data": market_data,
    "orders": orders,
    "refusals": refusals,
}
