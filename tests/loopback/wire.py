"""Alpaca's shapes: how numbers, instants, ids, accounts, positions, assets, orders and activities look on the wire.

Two dialects share a host. Trading speaks numbers as strings without trailing zeros and keeps every key, null where it
has nothing to say; market data speaks JSON numbers under one-letter keys. Instants are RFC 3339 in UTC with up to
nine decimals, trailing zeros trimmed; the clock alone has New York offsets.

The venue's instants are whole seconds, real ones are not. So the stamps of an order carry nanoseconds below the
microsecond, hashed from its id: a reader that drops what it cannot hold gets the venue's instant exactly.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from brokers.simulated.world import NEW_YORK
from state.records import ZERO, BrokerOrder, BrokerOrderStatus, OrderType, Security, Side

Json = dict[str, object]

_NAMESPACE = uuid.UUID("6a1f6f6e-6f6f-5062-8a63-6b616c706163")
_SIX_DECIMALS = Decimal("0.000001")
_EXCHANGES = ("NASDAQ", "NYSE", "ARCA", "BATS")

STATUS_WORDS = {
    BrokerOrderStatus.WORKING: "new",
    BrokerOrderStatus.PARTLY_FILLED: "partially_filled",
    BrokerOrderStatus.FILLED: "filled",
    BrokerOrderStatus.CANCELLED: "canceled",
    BrokerOrderStatus.EXPIRED: "expired",
    BrokerOrderStatus.REJECTED: "rejected",
}


# ------------------------------------------------------------------ numbers, instants, ids


def number(value: Decimal) -> str:
    """A decimal as the trading API writes it: a string without exponent and without trailing zeros."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def rounded(value: Decimal) -> str:
    """A derived figure (average price, gain), rounded to six decimals as Alpaca does."""
    return number(value.quantize(_SIX_DECIMALS, ROUND_HALF_UP))


def stamp(instant: datetime, *, of: str | None = None) -> str:
    """RFC 3339 in UTC, trailing zeros trimmed; with `of` (an id), nanoseconds hashed from it below the microsecond."""
    utc = instant.astimezone(UTC)
    below = int(hashlib.sha256(of.encode()).hexdigest(), 16) % 1000 if of else 0
    fraction = f"{utc.microsecond:06d}{below:03d}".rstrip("0")
    return f"{utc:%Y-%m-%dT%H:%M:%S}{'.' + fraction if fraction else ''}Z"


def new_york(instant: datetime) -> str:
    """RFC 3339 with the New York offset, as the clock tells it."""
    return instant.astimezone(NEW_YORK).isoformat()


@cache
def midnight(day: date) -> datetime:
    """Midnight in New York: when a daily bar begins."""
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)


@cache
def day_stamp(day: date) -> str:
    """The stamp of a daily bar."""
    return stamp(midnight(day))


def wire_id(*parts: str) -> str:
    """A uuid hashed from the venue's own ids: the same after a restart."""
    return str(uuid.uuid5(_NAMESPACE, "|".join(parts)))


def asset_id(symbol: str) -> str:
    """The uuid of a security."""
    return wire_id("asset", symbol)


def order_id(account_number: str, broker_order_id: str) -> str:
    """The uuid of an order."""
    return wire_id("order", account_number, broker_order_id)


def exchange(symbol: str) -> str:
    """Where a security is listed; the venue does not know, so the symbol's hash decides."""
    return _EXCHANGES[uuid.UUID(asset_id(symbol)).int % len(_EXCHANGES)]


# ------------------------------------------------------------------ assets


def asset(security: Security) -> Json:
    """A row of /v2/assets."""
    attributes = ["has_options", "overnight_tradable"]
    if security.fractionable:
        attributes.insert(0, "fractional_eh_enabled")
    row: Json = {
        "id": asset_id(security.symbol),
        "class": "us_equity",
        "exchange": exchange(security.symbol),
        "symbol": security.symbol,
        "name": security.name or security.symbol,
        "status": "active",
        "tradable": security.tradable,
        "marginable": True,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "shortable": True,
        "easy_to_borrow": True,
        "borrow_status": "easy_to_borrow",
        "fractionable": security.fractionable,
        "attributes": attributes,
    }
    if security.cusip is not None:
        row["cusip"] = security.cusip
    return row


# ------------------------------------------------------------------ positions


@dataclass(frozen=True)
class Holding:
    """What a position is made of: shares, what is free to sell, cost in USD, and prices in USD a share."""

    symbol: str
    quantity: Decimal
    available: Decimal
    cost: Decimal
    price: Decimal
    lastday_price: Decimal


def position(held: Holding) -> Json:
    """A row of /v2/positions. Gains are measured from the venue's own cost, which is FIFO by purchase order."""
    value = held.quantity * held.price
    gain = value - held.cost
    day_gain = held.quantity * (held.price - held.lastday_price)
    return {
        "asset_id": asset_id(held.symbol),
        "symbol": held.symbol,
        "exchange": exchange(held.symbol),
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": number(held.quantity),
        "avg_entry_price": rounded(held.cost / held.quantity),
        "side": "long",
        "market_value": rounded(value),
        "cost_basis": rounded(held.cost),
        "unrealized_pl": rounded(gain),
        "unrealized_plpc": rounded(gain / held.cost if held.cost else ZERO),
        "unrealized_intraday_pl": rounded(day_gain),
        "unrealized_intraday_plpc": rounded(held.price / held.lastday_price - 1),
        "current_price": number(held.price),
        "lastday_price": number(held.lastday_price),
        "change_today": rounded(held.price / held.lastday_price - 1),
        "qty_available": number(held.available),
    }


# ------------------------------------------------------------------ orders


@dataclass(frozen=True)
class OrderTimes:
    """When things happened to an order; None for what has not."""

    submitted_at: datetime
    updated_at: datetime
    expires_at: datetime
    filled_at: datetime | None = None
    canceled_at: datetime | None = None
    expired_at: datetime | None = None
    failed_at: datetime | None = None


def order(account_number: str, told: BrokerOrder, times: OrderTimes, status: str | None = None) -> Json:
    """An order with every key; `status` in Alpaca's words where it is not simply the venue's."""
    name = order_id(account_number, told.broker_order_id)
    kind = "limit" if told.order_type is OrderType.LIMIT else "market"

    def at(instant: datetime | None) -> str | None:
        return None if instant is None else stamp(instant, of=name)

    return {
        "id": name,
        "client_order_id": told.client_order_id,
        "created_at": at(times.submitted_at),
        "updated_at": at(times.updated_at),
        "submitted_at": at(times.submitted_at),
        "filled_at": at(times.filled_at),
        "expired_at": at(times.expired_at),
        "canceled_at": at(times.canceled_at),
        "failed_at": at(times.failed_at),
        "replaced_at": None,
        "replaced_by": None,
        "replaces": None,
        "asset_id": asset_id(told.symbol),
        "symbol": told.symbol,
        "asset_class": "us_equity",
        "notional": None,
        "qty": number(told.quantity),
        "filled_qty": number(told.filled_quantity),
        "filled_avg_price": None if told.average_price is None else rounded(told.average_price),
        "order_class": "",
        "order_type": kind,
        "type": kind,
        "side": told.side.value,
        "position_intent": "buy_to_open" if told.side is Side.BUY else "sell_to_close",
        "time_in_force": "cls" if told.order_type is OrderType.MARKET_ON_CLOSE else "day",
        "limit_price": None if told.limit_price is None else number(told.limit_price),
        "stop_price": None,
        "status": status or STATUS_WORDS[told.status],
        "extended_hours": False,
        "legs": None,
        "trail_percent": None,
        "trail_price": None,
        "hwm": None,
        "subtag": None,
        "source": None,
        "expires_at": stamp(times.expires_at),
    }


# ------------------------------------------------------------------ market data


def bar(at: str, close: float, before: float) -> Json:
    """A bar that opens at the close before it; the venue has no volume, so it is the same everywhere."""
    return {
        "t": at,
        "o": before,
        "h": max(before, close),
        "l": min(before, close),
        "c": close,
        "v": 1_000_000,
        "n": 10_000,
        "vw": close,
    }


def quote(bid: Decimal, ask: Decimal, at: object) -> Json:
    """A quote; `at` is a stamp, or the data stream's own timestamp."""
    sides: Json = {"bp": float(bid), "bs": 1, "bx": "V", "ap": float(ask), "as": 1, "ax": "V"}
    return {"t": at, **sides, "c": ["R"], "z": "B"}


def trade(price: Decimal, at: object) -> Json:
    """A trade of a round lot; `at` as in `quote`."""
    return {"t": at, "x": "V", "p": float(price), "s": 100, "c": ["@"], "i": 1, "z": "B"}


# ------------------------------------------------------------------ the trade stream


def trade_update(event: str, payload: Mapping[str, object], at: datetime, fill: Mapping[str, object]) -> Json:
    """A message of the trade stream; `fill` has price, qty, position_qty and execution_id where there was one."""
    moment = stamp(at, of=str(payload["id"]))
    data: Json = {"event": event, "timestamp": moment, "at": moment, "order": dict(payload), **fill}
    return {"stream": "trade_updates", "data": data}
