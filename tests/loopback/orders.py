"""Orders in: Alpaca's form, read, refused in Alpaca's words, or handed to the venue.

Refusals come in this order: the account may not trade; the id was used before; the form; an open order on the other
side (FINRA 5210); then whatever the venue itself refuses, whose reason code becomes the status and body Alpaca has
for it. What Alpaca would do and the venue cannot (other times in force, stops, brackets, notional orders) is refused
as invalid, never quietly done otherwise. One difference remains: Alpaca keeps an order sent after the close for the
next day, the venue refuses it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from brokers.errors import DuplicateClientOrderId, NotAuthorized, OrderRefused, OutcomeUnknown
from brokers.simulated import SimulatedVenue, switches
from loopback import errors
from loopback.errors import NoAnswer, WireError
from loopback.wire import Json, number, order_id
from state.reasons import ReasonCode
from state.records import QUANTUM, ZERO, BrokerOrder, OrderRequest, OrderType, Side

LONGEST_ID = 128
_TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
_TIMES_IN_FORCE = ("day", "gtc", "opg", "cls", "ioc", "fok")
_CENT, _HUNDREDTH = Decimal("0.01"), Decimal("0.0001")


def submit(venue: SimulatedVenue, body: Json, *, suspended: bool, may_short: bool) -> BrokerOrder:
    """Take an order. Raises WireError as Alpaca refuses it, NoAnswer when its answer is to be lost."""
    if switches.BLOCKED in venue.book.switches:
        raise errors.account_blocked()
    if suspended:
        raise errors.suspended_by_user()
    client_order_id = _client_order_id(venue, body)
    if client_order_id in venue.book.order_ids:
        if switches.LOSE_ANSWER not in venue.book.switches:
            raise errors.duplicate_client_order_id()
    else:
        _check_wash_trade(venue, body)
    request = _read(venue, body, client_order_id)
    try:
        return venue.submit(request)
    except OutcomeUnknown as lost:
        raise NoAnswer from lost
    except NotAuthorized as blocked:
        raise errors.account_blocked() from blocked
    except DuplicateClientOrderId as duplicate:
        raise errors.duplicate_client_order_id() from duplicate
    except OrderRefused as refusal:
        raise _as_alpaca_says(venue, request, refusal, may_short=may_short) from refusal


# ------------------------------------------------------------------ the form


def _client_order_id(venue: SimulatedVenue, body: Json) -> str:
    """The client's id; without one Alpaca makes one up, so that an order sent twice becomes two."""
    given = body.get("client_order_id")
    if given is None or given == "":
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{venue.book.account_number}|{len(venue.book.orders)}"))
    if not isinstance(given, str) or len(given) > LONGEST_ID:
        raise errors.invalid(f"client_order_id must be no more than {LONGEST_ID} characters")
    return given


def _read(venue: SimulatedVenue, body: Json, client_order_id: str) -> OrderRequest:
    symbol = body.get("symbol")
    if not isinstance(symbol, str) or not symbol:
        raise errors.invalid("symbol is required")
    side = _word(body, "side", ("buy", "sell"))
    kind = _word(body, "type", _TYPES)
    in_force = _word(body, "time_in_force", _TIMES_IN_FORCE)
    quantity = _quantity(body)
    _check_notional(body, quantity)
    if quantity is None:
        raise errors.invalid("qty or notional is required")
    if quantity % 1:
        _check_fraction(body, kind, in_force)
    if body.get("extended_hours"):
        raise errors.unprocessable("extended hours order must be DAY or GTC limit orders")
    if body.get("order_class") not in (None, "", "simple"):
        raise _cannot("order_class", body["order_class"])
    if kind not in ("market", "limit"):
        raise _cannot("type", kind)
    limit_price = _limit_price(body, kind)
    if in_force not in ("day", "cls") or (in_force == "cls" and kind == "limit"):
        raise _cannot("time_in_force", in_force if kind == "market" else f"{in_force} with type {kind}")
    order_type = {"market": OrderType.MARKET, "limit": OrderType.LIMIT}[kind]
    if in_force == "cls":
        order_type = OrderType.MARKET_ON_CLOSE
    return OrderRequest(client_order_id, symbol, Side(side), quantity, order_type, limit_price)


def _cannot(field: str, value: object) -> WireError:
    """Own words: Alpaca takes it, the venue has no such thing."""
    return errors.invalid(f"{field} {value} is not simulated here")


def _word(body: Json, field: str, allowed: tuple[str, ...]) -> str:
    value = body.get(field)
    if value is None:
        raise errors.invalid(f"{field} is required")
    if value not in allowed:
        raise errors.invalid(f"invalid {field} {value}" if field == "side" else f"invalid {field.replace('_', ' ')}")
    return str(value)


def _decimal(body: Json, field: str) -> Decimal | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise errors.invalid(f"invalid {field}")
    try:
        parsed = Decimal(value)
    except InvalidOperation as error:
        raise errors.invalid(f"invalid {field}") from error
    if not parsed.is_finite():
        raise errors.invalid(f"invalid {field}")
    return parsed


def _quantity(body: Json) -> Decimal | None:
    quantity = _decimal(body, "qty")
    if quantity is not None and quantity <= 0:
        raise errors.invalid("qty must be > 0")
    if quantity is not None and quantity % QUANTUM:
        raise errors.invalid("qty must be limited to 9 decimal places")
    return quantity


def _check_notional(body: Json, quantity: Decimal | None) -> None:
    notional = _decimal(body, "notional")
    if notional is None:
        return
    if quantity is not None:
        raise errors.invalid("only one of qty or notional is accepted")
    if body.get("side") == "buy" and notional < 1:
        raise errors.unprocessable("notional must be >= 1.00")
    raise _cannot("notional", number(notional))


def _check_fraction(body: Json, kind: str, in_force: str) -> None:
    if in_force != "day":
        raise errors.unprocessable("fractional orders must be DAY orders")
    if body.get("order_class") not in (None, "", "simple"):
        raise errors.unprocessable("fractional orders must be simple orders")
    if kind == "trailing_stop":
        raise errors.unprocessable("fractional orders must be market, limit, stop, or stop_limit orders")


def _limit_price(body: Json, kind: str) -> Decimal | None:
    price = _decimal(body, "limit_price")
    if kind == "market":
        if price is not None:
            raise errors.invalid("market orders require no limit_price")
        return None
    if price is None or price <= 0:
        raise errors.invalid("limit orders require a limit_price > 0")
    if price % (_CENT if price >= 1 else _HUNDREDTH):
        raise errors.sub_penny(number(price))
    return price


# ------------------------------------------------------------------ self-trade prevention


def _check_wash_trade(venue: SimulatedVenue, body: Json) -> None:
    """Refuse an order that could trade with an open one of the same account (FINRA 5210)."""
    price = _decimal(body, "limit_price")
    for working in venue.book.working.values():
        open_order = working.request
        if open_order.symbol != body.get("symbol") or open_order.side.value == body.get("side"):
            continue
        name = order_id(venue.book.account_number, working.broker_order_id)
        if open_order.limit_price is None:
            raise errors.wash_trade(name, "market/stop")
        open_price = open_order.limit_price
        bid, ask = (price, open_price) if open_order.side is Side.SELL else (open_price, price)
        if bid is None or ask is None or bid >= ask:
            raise errors.wash_trade(name, "limit")


# ------------------------------------------------------------------ the venue's refusals


def _as_alpaca_says(
    venue: SimulatedVenue, request: OrderRequest, refusal: OrderRefused, *, may_short: bool
) -> WireError:
    says = _REFUSALS.get(refusal.reason)
    if says is not None:
        return says(venue, request)
    if refusal.reason == ReasonCode.ORDER_INSUFFICIENT_SHARES:
        return _short_of_shares(venue, request, may_short=may_short)
    return errors.turned_down()


def _not_tradable(venue: SimulatedVenue, request: OrderRequest) -> WireError:
    if venue.market.security(request.symbol) is None:
        return errors.unprocessable(f'asset "{request.symbol}" not found')
    return errors.unprocessable(f'asset "{request.symbol}" is not tradable')


def _short_of_cash(venue: SimulatedVenue, request: OrderRequest) -> WireError:
    quote = venue.market.quotes((request.symbol,), venue.now)[request.symbol]
    cost = request.quantity * (request.limit_price or quote.ask)
    return errors.insufficient_buying_power(venue.cash - promised_cash(venue), cost)


def _short_of_shares(venue: SimulatedVenue, request: OrderRequest, *, may_short: bool) -> WireError:
    held = venue.book.held.get(request.symbol, ZERO)
    if not held:
        return errors.short_sale(request.symbol, request.quantity, account_may_short=may_short)
    promised = promised_shares(venue).get(request.symbol, ZERO)
    return errors.insufficient_shares(request.symbol, request.quantity, held, promised)


def _closed(venue: SimulatedVenue, request: OrderRequest) -> WireError:
    if request.order_type is OrderType.MARKET_ON_CLOSE:
        return errors.market_closed("cls orders are taken until ten minutes before the close")
    return errors.market_closed("the venue keeps no order for the next session")


_REFUSALS: dict[str, Callable[[SimulatedVenue, OrderRequest], WireError]] = {
    ReasonCode.MARKET_CLOSED: _closed,
    ReasonCode.SYMBOL_NOT_TRADABLE: _not_tradable,
    ReasonCode.SYMBOL_NOT_FRACTIONABLE: lambda _, request: errors.not_fractionable(request.symbol),
    ReasonCode.ORDER_INSUFFICIENT_CASH: _short_of_cash,
    ReasonCode.QUOTE_MISSING: lambda _, request: errors.unprocessable(f'asset "{request.symbol}" is not active'),
    ReasonCode.ORDER_INVALID: lambda _, request: errors.invalid(f"invalid order for {request.symbol}"),
}


def promised_cash(venue: SimulatedVenue) -> Decimal:
    """USD set aside for open buys."""
    return sum((each.remaining * each.reserve_price for each in venue.book.working.values()), ZERO)


def promised_shares(venue: SimulatedVenue) -> dict[str, Decimal]:
    """Shares of open sells, by symbol."""
    promised: dict[str, Decimal] = {}
    for each in venue.book.working.values():
        if each.request.side is Side.SELL:
            promised[each.request.symbol] = promised.get(each.request.symbol, ZERO) + each.remaining
    return promised
