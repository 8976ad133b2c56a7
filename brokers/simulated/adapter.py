"""The simulated venue behind the broker protocol. It translates; the venue decides.

Cursors are opaque to the caller; here they count what has been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING

from brokers.protocol import ActivityPage, OrderEvents
from brokers.simulated import switches
from state.records import (
    Activity,
    BrokerAccount,
    BrokerCapabilities,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    CorporateNotice,
    DailyBar,
    OrderRequest,
    Quote,
    ReliefMethod,
    Security,
)

if TYPE_CHECKING:
    from brokers.simulated.venue import SimulatedVenue

_ACTIVITY, _EVENT = "activity", "event"


class SimulatedBroker:
    """The account of a SimulatedVenue, as a `brokers.protocol.Broker`. Safe to call from several threads."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue = venue
        self._book = venue.book
        methods = {venue.settings.relief_method}
        if venue.settings.lot_selection:
            methods.add(ReliefMethod.SPECIFIC)
        self._capabilities = BrokerCapabilities(
            relief_methods=frozenset(methods),
            fractional=venue.settings.fractional,
            lot_selection=venue.settings.lot_selection,
            market_on_close=True,
            amends_history=False,
            lookups_before_resend=1,  # what it has accepted, its records show at once
        )

    @property
    def capabilities(self) -> BrokerCapabilities:
        """What this venue's settings allow."""
        return self._capabilities

    def clock(self) -> BrokerClock:
        """The venue's time and market state. Raises BrokerUnavailable, as every read here."""
        with self._book.lock:
            self._venue.check_available()
            return self._venue.schedule.clock(self._book.now)

    def account(self) -> BrokerAccount:
        """Cash and settled cash in USD."""
        with self._book.lock:
            self._venue.check_available()
            blocked = switches.BLOCKED in self._book.switches
            return BrokerAccount(self._book.account_number, self._book.cash, self._book.settled_cash(), blocked)

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Holdings sorted by symbol; `cost_basis` is the cost of the venue's own lots."""
        with self._book.lock:
            self._venue.check_available()
            return self._book.positions()

    def activities(self, after: str | None = None) -> ActivityPage:
        """All activities after the cursor. Raises ValueError on a cursor that is not from here."""
        with self._book.lock:
            self._venue.check_available()
            history = self._book.activities
            start = _read_cursor(_ACTIVITY, after, len(history))
            return ActivityPage(tuple(history[start:]), _cursor(_ACTIVITY, len(history)))

    def activities_since(self, day: date) -> tuple[Activity, ...]:
        """Activities with a trade date of `day` or later; this venue never changes its history."""
        with self._book.lock:
            self._venue.check_available()
            return tuple(each for each in self._book.activities if each.trade_date >= day)

    def assets(self, symbols: Iterable[str]) -> Mapping[str, Security]:
        """The securities of the price history."""
        with self._book.lock:
            self._venue.check_available()
            found = {symbol: self._venue.market.security(symbol) for symbol in symbols}
            return {symbol: security for symbol, security in found.items() if security is not None}

    def quotes(self, symbols: Iterable[str]) -> Mapping[str, Quote]:
        """The last finished session's closes, half a spread either side, made now."""
        with self._book.lock:
            self._venue.check_available()
            return self._venue.market.quotes(symbols, self._book.now)

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        """Closes of finished sessions in [start, end], as traded, by session then symbol."""
        with self._book.lock:
            self._venue.check_available()
            return self._venue.market.daily_bars(symbols, start, end, self._book.now)

    def corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        """Splits and dividends of the price history, and those commanded, up to the venue's own day."""
        with self._book.lock:
            self._venue.check_available()
            return self._venue.notices(symbols, start, end)

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send one order. Raises OrderRefused, DuplicateClientOrderId, OutcomeUnknown or NotAuthorized."""
        return self._venue.submit(order)

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order with this client order id, however old, or None."""
        with self._book.lock:
            self._venue.check_available()
            order_id = self._book.order_ids.get(client_order_id)
            return None if order_id is None else self._book.reported[order_id]

    def orders(self, client_order_ids: Iterable[str]) -> Mapping[str, BrokerOrder]:
        """The orders with these client order ids, however old."""
        found = {each: self.order_by_client_id(each) for each in client_order_ids}
        return {client_order_id: order for client_order_id, order in found.items() if order is not None}

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Orders that can still fill, oldest first."""
        with self._book.lock:
            self._venue.check_available()
            return self._book.open_orders()

    def cancel(self, broker_order_id: str) -> None:
        """Cancel at once. Raises UnknownOrder, BrokerUnavailable."""
        self._venue.cancel(broker_order_id)

    def order_events(self, after: str | None = None) -> OrderEvents:
        """Every report of an order after the cursor, each as it was then."""
        with self._book.lock:
            self._venue.check_available()
            events = self._book.events
            start = _read_cursor(_EVENT, after, len(events))
            return OrderEvents(tuple(events[start:]), _cursor(_EVENT, len(events)))


def _cursor(kind: str, count: int) -> str | None:
    return f"{kind}-{count}" if count else None


def _read_cursor(kind: str, cursor: str | None, count: int) -> int:
    if cursor is None:
        return 0
    prefix, _, number = cursor.rpartition("-")
    if prefix != kind or not number.isdecimal() or int(number) > count:
        raise ValueError(f"Expected a cursor of this venue's {kind} history, was {cursor!r}")
    return int(number)
