"""What every broker adapter must do, as tests any adapter can be run through.

An adapter's test module subclasses `BrokerContract` and provides two fixtures: `broker`, the adapter on a fresh
account with 100,000 USD and no shares, in an open market; and `venue_command`, which makes things happen at the
venue behind it. Nothing here knows which venue that is.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Literal, Protocol

import pytest

from brokers.errors import (
    BrokerUnavailable,
    DuplicateClientOrderId,
    NotAuthorized,
    OrderRefused,
    OutcomeUnknown,
    UnknownOrder,
)
from brokers.protocol import Broker
from state.reasons import ReasonCode
from state.records import (
    Activity,
    ActivityKind,
    BrokerOrder,
    BrokerOrderStatus,
    CorporateActionKind,
    OrderRequest,
    OrderType,
    Side,
)

CASH = Decimal(100_000)


class VenueCommand(Protocol):
    """How a test commands the venue. `symbol` and `other` trade in whole shares below 1,000 USD."""

    symbol: str
    other: str

    def advance(self, seconds: int) -> None:
        """Let time pass at the venue; two minutes are enough for a market order to fill."""

    def close_market(self) -> None:
        """Let the session end."""

    def open_next_session(self) -> None:
        """Let the next session begin."""

    def halt(self, symbol: str) -> None:
        """Halt trading in the symbol."""

    def unhalt(self, symbol: str) -> None:
        """Resume trading in the symbol."""

    def fill_part(self, client_order_id: str, fraction: Decimal) -> None:
        """Let only this fraction of the order ever fill."""

    def refuse_next(self, symbol: str) -> None:
        """Refuse the next order in the symbol with ORDER_REJECTED."""

    def pay_dividend(self, symbol: str, per_share: Decimal) -> None:
        """Pay a dividend now."""

    def split(self, symbol: str, new: Decimal, old: Decimal) -> None:
        """Split the shares now."""

    def lose_next_answer(self, when: Literal["before", "after"]) -> None:
        """Lose the answer to the next submit, before or after the order is accepted."""

    def set_unavailable(self, unavailable: bool) -> None:
        """Take the venue off the net, or back on it."""

    def block_account(self) -> None:
        """Forbid trading in the account."""


def order(
    client_order_id: str, symbol: str, side: Side = Side.BUY, quantity: str = "10", **fields: object
) -> OrderRequest:
    """A market order for ten shares, unless told otherwise."""
    return OrderRequest(client_order_id, symbol, side, Decimal(quantity), **fields)  # type: ignore[arg-type]


def held(broker: Broker, symbol: str) -> Decimal:
    """Shares of the symbol at the broker."""
    return {position.symbol: position.quantity for position in broker.positions()}.get(symbol, Decimal(0))


def fills(broker: Broker) -> tuple[Activity, ...]:
    """All executions the broker reports."""
    return tuple(each for each in broker.activities().activities if each.kind is ActivityKind.FILL)


def found(broker: Broker, client_order_id: str) -> BrokerOrder:
    """The order with this client order id, which must exist."""
    order = broker.order_by_client_id(client_order_id)
    assert order is not None
    return order


class TradingContract:
    """Orders from submission to their end."""

    def test_a_market_order_is_accepted_then_filled(self, broker: Broker, venue_command: VenueCommand) -> None:
        accepted = broker.submit(order("a-1", venue_command.symbol))
        assert accepted.client_order_id == "a-1"
        assert accepted.status in (BrokerOrderStatus.WORKING, BrokerOrderStatus.FILLED)
        venue_command.advance(120)
        filled = found(broker, "a-1")
        assert filled.broker_order_id == accepted.broker_order_id
        assert filled.status is BrokerOrderStatus.FILLED
        assert filled.filled_quantity == 10
        assert held(broker, venue_command.symbol) == 10
        assert broker.open_orders() == ()

    def test_a_fill_says_all_the_journal_needs(self, broker: Broker, venue_command: VenueCommand) -> None:
        accepted = broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        [fill] = fills(broker)
        assert fill.broker_order_id == accepted.broker_order_id
        assert (fill.symbol, fill.side, fill.quantity) == (venue_command.symbol, Side.BUY, 10)
        assert fill.occurred_at.tzinfo is UTC
        assert fill.settle_date is not None
        assert fill.settle_date > fill.trade_date
        assert fill.amount == -(fill.quantity * fill.price).quantize(Decimal("0.01"))
        assert broker.account().cash == CASH + fill.amount
        assert found(broker, "a-1").average_price == fill.price

    def test_a_client_order_id_is_taken_for_good(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        with pytest.raises(DuplicateClientOrderId):
            broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        with pytest.raises(DuplicateClientOrderId):
            broker.submit(order("a-1", venue_command.other))
        assert held(broker, venue_command.symbol) == 10

    def test_an_answer_lost_after_acceptance_is_found_by_its_id(
        self, broker: Broker, venue_command: VenueCommand
    ) -> None:
        venue_command.lose_next_answer("after")
        with pytest.raises(OutcomeUnknown):
            broker.submit(order("a-1", venue_command.symbol))
        assert found(broker, "a-1").quantity == 10
        with pytest.raises(DuplicateClientOrderId):
            broker.submit(order("a-1", venue_command.symbol))

    def test_an_order_lost_on_the_way_is_not_found_and_may_be_sent(
        self, broker: Broker, venue_command: VenueCommand
    ) -> None:
        venue_command.lose_next_answer("before")
        with pytest.raises(OutcomeUnknown):
            broker.submit(order("a-1", venue_command.symbol))
        assert broker.order_by_client_id("a-1") is None
        assert broker.submit(order("a-1", venue_command.symbol)).client_order_id == "a-1"

    def test_part_filled_then_expired_at_the_close(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.fill_part("a-1", Decimal("0.5"))
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        part = found(broker, "a-1")
        assert (part.status, part.filled_quantity) == (BrokerOrderStatus.PARTLY_FILLED, 5)
        assert [each.client_order_id for each in broker.open_orders()] == ["a-1"]
        venue_command.close_market()
        ended = found(broker, "a-1")
        assert (ended.status, ended.filled_quantity) == (BrokerOrderStatus.EXPIRED, 5)
        assert held(broker, venue_command.symbol) == 5

    def test_a_cancel_keeps_what_was_filled(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.fill_part("a-1", Decimal("0.5"))
        accepted = broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        broker.cancel(accepted.broker_order_id)
        venue_command.advance(120)
        ended = found(broker, "a-1")
        assert (ended.status, ended.filled_quantity) == (BrokerOrderStatus.CANCELLED, 5)
        broker.cancel(accepted.broker_order_id)
        assert found(broker, "a-1") == ended

    def test_cancelling_an_unknown_order_says_so(self, broker: Broker, venue_command: VenueCommand) -> None:
        with pytest.raises(UnknownOrder):
            broker.cancel("no-such-order")

    def test_a_halted_symbol_waits(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.halt(venue_command.symbol)
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(300)
        assert found(broker, "a-1").status is BrokerOrderStatus.WORKING
        venue_command.unhalt(venue_command.symbol)
        venue_command.advance(120)
        assert found(broker, "a-1").status is BrokerOrderStatus.FILLED

    def test_a_limit_out_of_reach_never_fills(self, broker: Broker, venue_command: VenueCommand) -> None:
        far = order("a-1", venue_command.symbol, order_type=OrderType.LIMIT, limit_price=Decimal("0.01"))
        broker.submit(far)
        venue_command.close_market()
        ended = found(broker, "a-1")
        assert (ended.status, ended.filled_quantity) == (BrokerOrderStatus.EXPIRED, 0)
        assert broker.account().cash == CASH

    def test_sale_proceeds_are_cash_at_once_and_settled_later(
        self, broker: Broker, venue_command: VenueCommand
    ) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        broker.submit(order("a-2", venue_command.symbol, Side.SELL, "4"))
        before = broker.account().cash
        venue_command.advance(120)
        sale = fills(broker)[-1]
        assert sale.amount > 0
        account = broker.account()
        assert account.cash == before + sale.amount
        assert account.settled_cash == before
        venue_command.open_next_session()
        assert broker.account().settled_cash == account.cash

    def test_many_orders_are_looked_up_together(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        broker.submit(order("a-2", venue_command.other))
        venue_command.advance(120)
        looked_up = broker.orders(["a-1", "a-2", "never-sent"])
        assert dict(looked_up) == {"a-1": found(broker, "a-1"), "a-2": found(broker, "a-2")}


class RefusalContract:
    """What is refused, and with which reason code."""

    def refused(self, broker: Broker, request: OrderRequest) -> str:
        with pytest.raises(OrderRefused) as refusal:
            broker.submit(request)
        assert broker.order_by_client_id(request.client_order_id) is None
        return refusal.value.reason

    def test_more_than_the_cash(self, broker: Broker, venue_command: VenueCommand) -> None:
        reason = self.refused(broker, order("a-1", venue_command.symbol, quantity="1000000"))
        assert reason == ReasonCode.ORDER_INSUFFICIENT_CASH

    def test_more_than_the_shares(self, broker: Broker, venue_command: VenueCommand) -> None:
        reason = self.refused(broker, order("a-1", venue_command.symbol, Side.SELL, "1"))
        assert reason == ReasonCode.ORDER_INSUFFICIENT_SHARES

    def test_shares_promised_to_another_order(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        venue_command.halt(venue_command.symbol)
        broker.submit(order("a-2", venue_command.symbol, Side.SELL, "7"))
        reason = self.refused(broker, order("a-3", venue_command.symbol, Side.SELL, "4"))
        assert reason == ReasonCode.ORDER_INSUFFICIENT_SHARES

    def test_an_unknown_symbol(self, broker: Broker, venue_command: VenueCommand) -> None:
        assert self.refused(broker, order("a-1", "NOSUCH")) == ReasonCode.SYMBOL_NOT_TRADABLE

    @pytest.mark.parametrize("quantity", ["0", "-1", "1.0000000001"])
    def test_a_quantity_that_is_none(self, broker: Broker, venue_command: VenueCommand, quantity: str) -> None:
        assert self.refused(broker, order("a-1", venue_command.symbol, quantity=quantity)) == ReasonCode.ORDER_INVALID

    def test_a_fraction_of_a_whole_share_symbol(self, broker: Broker, venue_command: VenueCommand) -> None:
        reason = self.refused(broker, order("a-1", venue_command.symbol, quantity="0.5"))
        assert reason == ReasonCode.SYMBOL_NOT_FRACTIONABLE

    def test_a_limit_order_without_a_limit(self, broker: Broker, venue_command: VenueCommand) -> None:
        reason = self.refused(broker, order("a-1", venue_command.symbol, order_type=OrderType.LIMIT))
        assert reason == ReasonCode.ORDER_INVALID

    def test_what_the_venue_turns_down(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.refuse_next(venue_command.symbol)
        assert self.refused(broker, order("a-1", venue_command.symbol)) == ReasonCode.ORDER_REJECTED
        assert broker.submit(order("a-2", venue_command.symbol)).status is BrokerOrderStatus.WORKING

    def test_an_order_after_the_close(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.close_market()
        assert self.refused(broker, order("a-1", venue_command.symbol)) == ReasonCode.MARKET_CLOSED

    def test_any_order_in_a_blocked_account(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.block_account()
        assert broker.account().trading_blocked
        with pytest.raises(NotAuthorized):
            broker.submit(order("a-1", venue_command.symbol))
        assert broker.order_by_client_id("a-1") is None


class ReadingContract:
    """History, cursors, market data, and what a broker does when it cannot answer."""

    def test_activities_are_read_once_and_completely(self, broker: Broker, venue_command: VenueCommand) -> None:
        opening = broker.activities()
        assert sum(each.amount for each in opening.activities) == CASH
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        later = broker.activities(opening.cursor)
        assert [each.kind for each in later.activities] == [ActivityKind.FILL]
        assert broker.activities(later.cursor).activities == ()
        assert broker.activities().activities == opening.activities + later.activities
        assert broker.activities() == broker.activities()

    def test_activity_ids_are_unique_and_amounts_are_the_cash(
        self, broker: Broker, venue_command: VenueCommand
    ) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        broker.submit(order("a-2", venue_command.other))
        venue_command.advance(180)
        venue_command.pay_dividend(venue_command.symbol, Decimal("0.33"))
        venue_command.pay_dividend(venue_command.symbol, Decimal("0.33"))
        history = broker.activities().activities
        assert len({each.activity_id for each in history}) == len(history) == 5
        assert sum(each.amount for each in history) == broker.account().cash
        assert [each.occurred_at for each in history] == sorted(each.occurred_at for each in history)

    def test_a_dividend_is_cash_on_the_shares_held(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        before = broker.account().cash
        venue_command.pay_dividend(venue_command.symbol, Decimal("0.25"))
        paid = broker.activities().activities[-1]
        assert (paid.kind, paid.symbol, paid.amount) == (ActivityKind.CASH_DIVIDEND, venue_command.symbol, 2.5)
        assert broker.account().cash == before + paid.amount

    def test_a_split_multiplies_the_shares(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        before = broker.account().cash
        venue_command.split(venue_command.symbol, Decimal(3), Decimal(2))
        split = broker.activities().activities[-1]
        assert (split.kind, split.ratio_new, split.ratio_old, split.amount) == (ActivityKind.SPLIT, 3, 2, 0)
        assert held(broker, venue_command.symbol) == 15
        assert broker.account().cash == before

    def test_history_is_read_again_by_day(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        history = broker.activities().activities
        fill = history[-1]
        assert fill in broker.activities_since(fill.trade_date)
        assert broker.activities_since(min(each.trade_date for each in history)) == history
        assert broker.activities_since(fill.trade_date + timedelta(days=1)) == ()

    def test_a_split_is_announced_with_its_ratio(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.symbol))
        venue_command.advance(120)
        venue_command.split(venue_command.symbol, Decimal(3), Decimal(2))
        day = broker.activities().activities[-1].trade_date
        month = timedelta(days=30)
        [notice] = broker.corporate_actions([venue_command.symbol, venue_command.other], day - month, day + month)
        assert (notice.symbol, notice.kind, notice.ex_date) == (venue_command.symbol, "forward_split", day)
        assert notice.action is not None
        assert notice.action.kind is CorporateActionKind.SPLIT
        assert (notice.action.ratio_new, notice.action.ratio_old) == (3, 2)
        assert broker.corporate_actions([venue_command.other], day - month, day + month) == ()

    def test_order_events_tell_every_change_once(self, broker: Broker, venue_command: VenueCommand) -> None:
        venue_command.fill_part("a-1", Decimal("0.5"))
        broker.submit(order("a-1", venue_command.symbol))
        first = broker.order_events()
        assert first.orders[-1].status is BrokerOrderStatus.WORKING
        venue_command.advance(120)
        second = broker.order_events(first.cursor)
        assert [each.status for each in second.orders] == [BrokerOrderStatus.PARTLY_FILLED]
        venue_command.close_market()
        third = broker.order_events(second.cursor)
        assert [each.status for each in third.orders] == [BrokerOrderStatus.EXPIRED]
        assert broker.order_events(third.cursor).orders == ()
        assert broker.order_events(first.cursor).orders == second.orders + third.orders

    def test_the_clock_and_the_session_agree(self, broker: Broker, venue_command: VenueCommand) -> None:
        clock = broker.clock()
        assert clock.is_open
        assert clock.at < clock.next_close < clock.next_open
        venue_command.close_market()
        clock = broker.clock()
        assert not clock.is_open
        assert clock.at < clock.next_open < clock.next_close

    def test_quotes_are_fresh_and_absent_for_the_unknown(self, broker: Broker, venue_command: VenueCommand) -> None:
        quotes = broker.quotes([venue_command.symbol, "NOSUCH"])
        assert set(quotes) == {venue_command.symbol}
        quote = quotes[venue_command.symbol]
        assert 0 < quote.bid <= quote.ask
        assert quote.at == broker.clock().at
        assert set(broker.assets([venue_command.symbol, "NOSUCH"])) == {venue_command.symbol}

    def test_bars_are_of_finished_sessions(self, broker: Broker, venue_command: VenueCommand) -> None:
        now = broker.clock().at
        month = timedelta(days=30)

        def bars() -> tuple[object, ...]:
            return broker.daily_bars([venue_command.symbol], (now - month).date(), (now + month).date())

        before = bars()
        assert before
        assert all(bar.session < now.date() for bar in before)  # type: ignore[attr-defined]
        venue_command.close_market()
        assert bars()[:-1] == before
        assert bars()[-1].session == now.date()  # type: ignore[attr-defined]

    def test_an_unavailable_broker_raises_and_never_guesses(self, broker: Broker, venue_command: VenueCommand) -> None:
        accepted = broker.submit(order("a-1", venue_command.symbol))
        venue_command.set_unavailable(True)
        day = accepted.submitted_at.date()
        for read in (
            broker.clock,
            broker.account,
            broker.positions,
            broker.activities,
            broker.open_orders,
            broker.order_events,
            lambda: broker.order_by_client_id("a-1"),
            lambda: broker.orders(["a-1"]),
            lambda: broker.activities_since(day),
            lambda: broker.corporate_actions([venue_command.symbol], day, day),
            lambda: broker.quotes([venue_command.symbol]),
            lambda: broker.assets([venue_command.symbol]),
            lambda: broker.daily_bars([venue_command.symbol], day, day),
        ):
            with pytest.raises(BrokerUnavailable):
                read()
        with pytest.raises(OutcomeUnknown):
            broker.submit(order("a-2", venue_command.symbol))
        venue_command.set_unavailable(False)
        assert found(broker, "a-1") == accepted
        assert broker.order_by_client_id("a-2") is None

    def test_positions_are_sorted_and_never_zero(self, broker: Broker, venue_command: VenueCommand) -> None:
        broker.submit(order("a-1", venue_command.other))
        broker.submit(order("a-2", venue_command.symbol))
        venue_command.advance(120)
        symbols = [position.symbol for position in broker.positions()]
        assert symbols == sorted({venue_command.symbol, venue_command.other})
        broker.submit(order("a-3", venue_command.other, Side.SELL))
        venue_command.advance(120)
        assert [position.symbol for position in broker.positions()] == [venue_command.symbol]


class BrokerContract(TradingContract, RefusalContract, ReadingContract):
    """Everything above."""
