"""Fills: what happens to working orders at a match tick.

Orders are matched in the order of acceptance. A buy that has become dearer than the cash left fills what the cash
affords, and the rest is cancelled with the reason; so is a sale whose named lots have run short. A halted symbol,
a limit not met, a symbol without a close in the session: the order waits.
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from brokers.simulated import switches
from brokers.simulated.book import Book, VenueLot, VenueOrder, cents, plain
from brokers.simulated.fate import fate_of
from brokers.simulated.market import Market
from brokers.simulated.relief import choose_lots, dispose
from brokers.simulated.world import Schedule, VenueSettings
from state.reasons import ReasonCode, because
from state.records import (
    QUANTUM,
    ZERO,
    Activity,
    ActivityKind,
    BrokerOrderStatus,
    LotSelection,
    OrderType,
    Side,
)


class Matcher:
    """Matches the working orders of one session against its price."""

    def __init__(self, book: Book, market: Market, schedule: Schedule, settings: VenueSettings) -> None:
        self._book = book
        self._market = market
        self._schedule = schedule
        self._settings = settings

    def has_work(self, session: int) -> bool:
        """True when a working order would trade at the next tick."""
        return any(self._price(order, session, closing=False) is not None for order in self._book.working.values())

    def match(self, session: int, at: datetime, *, closing: bool) -> None:
        """Fill what can be filled now; at the close also market-on-close orders, and expire whatever is left."""
        for order in tuple(self._book.working.values()):
            price = self._price(order, session, closing=closing)
            if price is not None:
                self._match_one(order, session, at, price)
        if closing:
            for order in tuple(self._book.working.values()):
                self._book.finish(order, BrokerOrderStatus.EXPIRED)

    def _price(self, order: VenueOrder, session: int, *, closing: bool) -> Decimal | None:
        """USD per share at which the order would trade now, or None when it has to wait."""
        request = order.request
        if (
            order.rest_held
            or switches.halted(request.symbol) in self._book.switches
            or (request.order_type is OrderType.MARKET_ON_CLOSE and not closing)
        ):
            return None
        price = self._market.execution_price(request.symbol, session, request.side)
        if price is None or request.limit_price is None:
            return price
        return price if request.side.sign * (request.limit_price - price) >= 0 else None

    def _match_one(self, order: VenueOrder, session: int, at: datetime, price: Decimal) -> None:
        commanded = switches.next_fill(order.request.client_order_id) in self._book.switches
        fate = fate_of(order.request.client_order_id, self._settings)
        if order.rounds == 0 and fate.rejected and not commanded:
            self._book.finish(order, BrokerOrderStatus.REJECTED, str(because(ReasonCode.ORDER_REJECTED)))
            return
        quantity = self._share_now(order)
        if not quantity:
            return
        if order.request.side is Side.BUY:
            self._buy(order, session, at, quantity, price)
        else:
            self._sell(order, session, at, quantity, price)

    def _share_now(self, order: VenueOrder) -> Decimal:
        """Shares to fill in this round: commanded, hashed, or all that is left."""
        switch = switches.next_fill(order.request.client_order_id)
        commanded = self._book.switches.get(switch)
        if commanded is not None:
            self._book.set_switch(switch, None)
            fraction, rest = commanded.split()
            order.rest_held = rest == "hold"
            share = self._whole(order.request.symbol, order.remaining * Decimal(fraction))
            if not share:
                self._book.keep(order)
            return order.remaining if Decimal(fraction) == 1 else share
        fate = fate_of(order.request.client_order_id, self._settings)
        at_close = order.request.order_type is OrderType.MARKET_ON_CLOSE
        if order.rounds or fate.first_fill is None or (at_close and not fate.rest_never_fills):
            return order.remaining
        share = self._whole(order.request.symbol, order.remaining * fate.first_fill)
        if not share:
            return order.remaining
        order.rest_held = fate.rest_never_fills
        return share

    def _whole(self, symbol: str, quantity: Decimal) -> Decimal:
        """The quantity rounded down to what can be traded: nine decimals, or whole shares."""
        security = self._market.security(symbol)
        unit = QUANTUM if security is not None and security.fractionable else Decimal(1)
        return plain(quantity.quantize(unit, ROUND_FLOOR))

    def _buy(self, order: VenueOrder, session: int, at: datetime, wanted: Decimal, price: Decimal) -> None:
        quantity = wanted
        if cents(quantity * price) > self._book.cash:
            quantity = self._whole(order.request.symbol, self._book.cash / price)
        if quantity:
            fill = self._fill(order, session, at, quantity, price)
            lot = self._book.lots.get(fill.symbol or "", {}).get(order.broker_order_id)
            self._book.put_lot(
                VenueLot(
                    broker_order_id=order.broker_order_id,
                    symbol=order.request.symbol,
                    fill_ids=tuple(self._fill_id(order, session, number) for number in range(order.rounds)),
                    acquired_at=order.first_filled_at or at,
                    acquired=fill.trade_date,
                    quantity=(lot.quantity if lot else ZERO) + quantity,
                    cost=(lot.cost if lot else ZERO) - fill.amount,
                )
            )
        self._conclude(order, quantity < wanted, ReasonCode.ORDER_INSUFFICIENT_CASH)

    def _sell(self, order: VenueOrder, session: int, at: datetime, wanted: Decimal, price: Decimal) -> None:
        chosen = choose_lots(self._book, order, wanted, self._settings.relief_method)
        quantity = sum((shares for _, shares in chosen), ZERO)
        if quantity:
            named = tuple(LotSelection(lot.lot_id, shares) for lot, shares in chosen)
            told = named if self._settings.lot_selection else ()
            dispose(self._book, self._fill(order, session, at, quantity, price, told), chosen)
        self._conclude(order, quantity < wanted, ReasonCode.ORDER_INSUFFICIENT_SHARES)

    def _fill(
        self,
        order: VenueOrder,
        session: int,
        at: datetime,
        quantity: Decimal,
        price: Decimal,
        lots: tuple[LotSelection, ...] = (),
    ) -> Activity:
        """Book one execution: the activity, its cash, and the order's progress."""
        request = order.request
        fill = Activity(
            activity_id=self._fill_id(order, session, order.rounds),
            kind=ActivityKind.FILL,
            occurred_at=at,
            trade_date=self._schedule.sessions[session].session,
            symbol=request.symbol,
            side=request.side,
            quantity=quantity,
            price=price,
            amount=-request.side.sign * cents(quantity * price),
            broker_order_id=order.broker_order_id,
            settle_date=self._schedule.settle_date(session),
            lots=lots,
        )
        self._book.add_activity(fill)
        order.rounds += 1
        order.first_filled_at = order.first_filled_at or at
        order.filled_quantity += quantity
        order.filled_value += quantity * price
        return fill

    def _fill_id(self, order: VenueOrder, session: int, number: int) -> str:
        day = self._schedule.sessions[session].session
        return self._book.identify(day, ActivityKind.FILL.value, order.request.client_order_id, number)

    def _conclude(self, order: VenueOrder, ran_short: bool, shortage: ReasonCode) -> None:
        """Report the order after a round: filled, partly filled, or its rest cancelled for want of cash or shares."""
        if ran_short:
            self._book.finish(order, BrokerOrderStatus.CANCELLED, str(because(shortage, unfilled=order.remaining)))
        elif not order.remaining:
            self._book.finish(order, BrokerOrderStatus.FILLED)
        else:
            order.status = BrokerOrderStatus.PARTLY_FILLED
            self._book.report(order)
