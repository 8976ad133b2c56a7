"""Small price worlds for the tests of the simulated venue: five sessions of January 2024, three symbols."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from brokers.errors import OrderRefused
from brokers.simulated import SimulatedVenue, VenuePrices, VenueSession, VenueSettings
from state.records import Activity, BrokerOrderStatus, OrderRequest, OrderType, Security, Side

D = Decimal
DAYS = (date(2024, 1, 8), date(2024, 1, 9), date(2024, 1, 10), date(2024, 1, 11), date(2024, 1, 12))
CLOSES = {
    "AAA": ("100.00", "101.00", "99.00", "98.00", "102.00"),
    "BBB": ("50.00", "40.00", "60.00", "55.00", "45.00"),
    "FRC": ("10.00", "11.00", "12.00", "11.50", "10.50"),
}
SECURITIES = {
    "AAA": Security("AAA", "Alpha", sector="Energy"),
    "BBB": Security("BBB", "Beta"),
    "FRC": Security("FRC", "Fractions", fractionable=True),
    "OFF": Security("OFF", "Off the list", tradable=False),
}


def at(session: int, hour: int, minute: int, second: int = 0) -> datetime:
    """An instant of one of the sessions, in UTC: the market is open from 14:30 to 21:00."""
    day = DAYS[session]
    return datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)


SESSIONS = tuple(VenueSession(day, at(i, 14, 30), at(i, 21, 0)) for i, day in enumerate(DAYS))
BEFORE = at(0, 21, 0) - timedelta(hours=12)  # on the morning of the first session


def prices(
    closes: Mapping[str, tuple[str, ...]] | None = None,
    *,
    adjusted: Mapping[str, tuple[str, ...]] | None = None,
    dividends: Mapping[tuple[str, date], Decimal] | None = None,
    splits: Mapping[tuple[str, date], tuple[Decimal, Decimal]] | None = None,
) -> VenuePrices:
    """A price history over `DAYS`; by default `CLOSES`, without corporate actions."""
    shown = {symbol: tuple(D(price) for price in series) for symbol, series in (closes or CLOSES).items()}
    shown.setdefault("OFF", (D(1),) * len(DAYS))
    total = {symbol: tuple(D(price) for price in series) for symbol, series in (adjusted or {}).items()} or None
    return VenuePrices(SESSIONS, tuple(shown), shown, total, dividends or {}, splits or {}, SECURITIES)


def settings(**changed: object) -> VenueSettings:
    """Settings without spread and without chance, unless changed."""
    return VenueSettings(**{"seed": "test", "half_spread_bps": D(0), **changed})  # type: ignore[arg-type]


def venue(
    path: Path,
    *,
    world: VenuePrices | None = None,
    cash: str = "100000.00",
    now: datetime | None = None,
    **changed: object,
) -> SimulatedVenue:
    """A venue in a new file under `path` (a directory), funded, by default at 15:00 UTC of the second session."""
    made = SimulatedVenue(path / "venue.db", world or prices(), settings(**changed), start=BEFORE)
    if D(cash):
        made.deposit(D(cash), reference="opening")
    made.advance_to(now or at(1, 15, 0))
    return made


def buy(client_order_id: str, symbol: str, quantity: object, limit: object = None) -> OrderRequest:
    """A market order, or a limit order where a limit is given."""
    return _order(client_order_id, symbol, Side.BUY, quantity, limit)


def sell(client_order_id: str, symbol: str, quantity: object, limit: object = None) -> OrderRequest:
    """A market order, or a limit order where a limit is given."""
    return _order(client_order_id, symbol, Side.SELL, quantity, limit)


def _order(client_order_id: str, symbol: str, side: Side, quantity: object, limit: object) -> OrderRequest:
    if limit is None:
        return OrderRequest(client_order_id, symbol, side, D(str(quantity)))
    return OrderRequest(client_order_id, symbol, side, D(str(quantity)), OrderType.LIMIT, D(str(limit)))


def told(activities: tuple[Activity, ...]) -> str:
    """Activities as text, for comparing them byte for byte."""
    return "\n".join(map(repr, activities))


def status_of(made: SimulatedVenue, client_order_id: str) -> tuple[BrokerOrderStatus, Decimal]:
    """Status and filled quantity of an order that must exist."""
    order = made.broker().order_by_client_id(client_order_id)
    assert order is not None
    return order.status, order.filled_quantity


def refusal(made: SimulatedVenue, request: OrderRequest) -> str:
    """The reason code with which the order is refused, as it must be."""
    with pytest.raises(OrderRefused) as raised:
        made.broker().submit(request)
    return raised.value.reason
