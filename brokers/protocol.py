"""The one seam to the outside world: what harvestd needs of a broker.

Every adapter passes the same contract suite (`tests/brokers/contract.py`). Adapters translate; they decide
nothing, and they never turn an exception into a plausible value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol, runtime_checkable

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
    Security,
)


@dataclass(frozen=True, slots=True)
class ActivityPage:
    """Activities after a cursor, oldest first, and the cursor to ask with next time."""

    activities: tuple[Activity, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class OrderEvents:
    """Orders changed since a cursor, in the order of change, and the cursor to ask with next time."""

    orders: tuple[BrokerOrder, ...]
    cursor: str | None


class BrokerReader(Protocol):
    """One brokerage account to look at: it has no way to send. Reads raise BrokerUnavailable or NotAuthorized, never
    return a guess."""

    @property
    def capabilities(self) -> BrokerCapabilities:
        """What this adapter can do."""
        ...

    def clock(self) -> BrokerClock:
        """The broker's own time and market state."""
        ...

    def account(self) -> BrokerAccount:
        """Cash and restrictions, in USD."""
        ...

    def positions(self) -> tuple[BrokerPosition, ...]:
        """All positions with a non-zero quantity, sorted by symbol."""
        ...

    def activities(self, after: str | None = None) -> ActivityPage:
        """Everything that happened in the account after `after` (None: from the beginning), oldest first, complete."""
        ...

    def activities_since(self, day: date) -> tuple[Activity, ...]:
        """Everything with a trade date of `day` or later, oldest first, as the broker's records are now.

        A line told before may come with another content, or as cancelled: brokers correct their history.
        """
        ...

    def assets(self, symbols: Iterable[str]) -> Mapping[str, Security]:
        """What the broker knows of the symbols; symbols it does not know are absent."""
        ...

    def quotes(self, symbols: Iterable[str]) -> Mapping[str, Quote]:
        """Latest quotes; symbols without one are absent."""
        ...

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        """Closing prices of finished sessions in [start, end], by session then symbol."""
        ...

    def corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        """What issuers did with an ex-date in [start, end], as far as it is announced, by ex-date then symbol."""
        ...

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """The order with this client order id, or None when the broker knows of none."""
        ...

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Orders that can still fill, oldest first."""
        ...

    def orders(self, client_order_ids: Iterable[str]) -> Mapping[str, BrokerOrder]:
        """The orders with these client order ids, in as few requests as it takes; ids the broker has no order for are
        absent, each looked up by its id."""
        ...

    def order_events(self, after: str | None = None) -> OrderEvents:
        """Orders whose state changed after `after` (None: from the beginning), in the order of change."""
        ...


@runtime_checkable
class OrderDesk(Protocol):
    """The way to send. A process that may not trade (observe mode, commands that look) has none."""

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send one order, once, without retry.

        Raises OrderRefused, DuplicateClientOrderId, NotSent, OutcomeUnknown or NotAuthorized.
        """
        ...

    def cancel(self, broker_order_id: str) -> None:
        """Ask for a cancel. Raises UnknownOrder. A final order is left as it is."""
        ...


class Broker(BrokerReader, OrderDesk, Protocol):
    """One brokerage account, to look at and to trade."""
