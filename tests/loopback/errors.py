"""Alpaca's refusals: status, body and words. The same code stands for many things; the words tell them apart.

Bodies marked "own words" are ours: no public record shows what Alpaca says there.
"""

from __future__ import annotations

from decimal import Decimal

from loopback.wire import Json, number


class WireError(Exception):
    """A request is answered with this status and body instead."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class NoAnswer(Exception):  # noqa: N818
    """The connection closes without an answer."""


def refused(status: int, code: int, message: str, **more: object) -> WireError:
    """An error of the trading API: a code, a message, and for some refusals figures beside them."""
    return WireError(status, {"code": code, "message": message, **more})


def unauthorized() -> WireError:
    """Keys missing or wrong."""
    return WireError(401, {"message": "unauthorized."})


def not_found(message: str) -> WireError:
    """A thing the trading API does not know."""
    return refused(404, 40410000, message)


def invalid(message: str) -> WireError:
    """A request the trading API cannot read."""
    return refused(422, 40010001, message)


def unprocessable(message: str) -> WireError:
    """A request the trading API can read and will not do."""
    return refused(422, 42210000, message)


def bad_data_request(message: str) -> WireError:
    """A request the data API cannot read."""
    return WireError(400, {"message": message})


def rate_limited(*, trading: bool) -> WireError:
    """Too many requests in a minute; the two APIs say it differently."""
    if trading:
        return refused(429, 42910000, "rate limit exceeded")
    return WireError(429, {"message": "too many requests."})


def recent_sip() -> WireError:
    """The free plan asks for consolidated data of the last quarter of an hour."""
    return refused(403, 42210000, "subscription does not permit querying recent SIP data")


def account_blocked() -> WireError:
    """The account may not trade."""
    return refused(403, 40310000, "account is not authorized to trade")


def suspended_by_user() -> WireError:
    """The user has switched trading off in the account's configuration."""
    return refused(403, 40310000, "new orders are rejected by user request")


def duplicate_client_order_id() -> WireError:
    """The id was used before, however long ago."""
    return invalid("client_order_id must be unique")


def insufficient_shares(symbol: str, requested: Decimal, held: Decimal, promised: Decimal) -> WireError:
    """More is to be sold than is held and not promised to other orders."""
    available = number(held - promised)
    return refused(
        403,
        40310000,
        f"insufficient qty available for order (requested: {number(requested)}, available: {available})",
        available=available,
        existing_qty=number(held),
        held_for_orders=number(promised),
        symbol=symbol,
    )


def short_sale(symbol: str, quantity: Decimal, *, account_may_short: bool) -> WireError:
    """Shares are to be sold of which there are none. The venue sells nothing short."""
    if quantity % 1:
        return unprocessable("fractional orders cannot be sold short")
    if not account_may_short:
        return refused(403, 40310000, "account is not allowed to short")
    return unprocessable(f'asset "{symbol}" cannot be sold short')


def insufficient_buying_power(buying_power: Decimal, cost: Decimal) -> WireError:
    """An order costs more than the account can pay."""
    figures = {"buying_power": number(buying_power), "cost_basis": number(cost)}
    return refused(403, 40310000, "insufficient buying power", **figures)


def not_fractionable(symbol: str) -> WireError:
    """A fraction of a security that trades in whole shares."""
    return refused(403, 40310000, f'asset "{symbol}" is not fractionable')


def wash_trade(existing_order_id: str, kind: str) -> WireError:
    """An open order of the account stands on the other side. This is FINRA 5210, not the tax rule."""
    reason = f"opposite side {kind} order exists"
    return refused(
        403,
        40310000,
        "potential wash trade detected. use complex orders",
        existing_order_id=existing_order_id,
        reject_reason=reason,
    )


def sub_penny(price: str) -> WireError:
    """A limit price finer than a cent (a hundredth of a cent below one dollar)."""
    return unprocessable(f"invalid limit_price {price}. sub-penny increment does not fulfill minimum pricing criteria")


def market_closed(detail: str) -> WireError:
    """Own words: the real Alpaca queues a day order for the next session; the venue refuses it."""
    return unprocessable(f"market is closed: {detail}")


def turned_down() -> WireError:
    """Own words: an order refused for no reason anyone is told."""
    return unprocessable("unable to process order")
