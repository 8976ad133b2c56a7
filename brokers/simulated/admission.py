"""What the venue checks before it accepts an order.

In this order: the client order id is new (for good: an id outlives its order), the market takes such orders now,
the symbol trades, the order is well formed, chance does not refuse it, and cash or shares suffice beside the
orders already working. Sale proceeds count once filled; there is no margin and nothing
is sold short.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from typing import NoReturn

from brokers.errors import DuplicateClientOrderId, OrderRefused
from brokers.simulated.book import Book, cents
from brokers.simulated.fate import fate_of
from brokers.simulated.market import Market
from brokers.simulated.relief import lot_named, unsold_naming
from brokers.simulated.world import Schedule, VenueSettings
from state.reasons import ReasonCode
from state.records import CENT, QUANTUM, ZERO, OrderRequest, OrderType, Security, Side

LARGEST_QUANTITY = 10**12  # shares
LONGEST_ID = 128  # characters of a client order id, as at Alpaca


def refuse(code: ReasonCode, message: str) -> NoReturn:
    """Raise OrderRefused with a reason code."""
    raise OrderRefused(code.value, message)


def check_order(
    request: OrderRequest, book: Book, market: Market, schedule: Schedule, settings: VenueSettings
) -> Decimal:
    """USD per share to set aside for the order (0 for a sell). Raises OrderRefused, DuplicateClientOrderId."""
    if request.client_order_id in book.order_ids:
        raise DuplicateClientOrderId(ReasonCode.ORDER_DUPLICATE_ID.value, f"{request.client_order_id} was used before")
    _check_time(request, book, schedule, settings)
    security = market.security(request.symbol)
    if security is None or not security.tradable:
        refuse(ReasonCode.SYMBOL_NOT_TRADABLE, f"{request.symbol} does not trade here")
    _check_form(request, security, book)
    if fate_of(request.client_order_id, settings).refused:
        refuse(ReasonCode.ORDER_REJECTED, "turned down on arrival")
    if request.side is Side.BUY:
        return _check_cash(request, book, market)
    _check_shares(request, book, settings)
    return ZERO


def _check_time(request: OrderRequest, book: Book, schedule: Schedule, settings: VenueSettings) -> None:
    session = schedule.open_session(book.now)
    if session is None:
        refuse(ReasonCode.MARKET_CLOSED, "the market is closed")
    last_moment = schedule.closes[session] - timedelta(seconds=settings.market_on_close_cutoff_s)
    if request.order_type is OrderType.MARKET_ON_CLOSE and book.now > last_moment:
        refuse(ReasonCode.MARKET_CLOSED, f"market-on-close orders were taken until {last_moment.isoformat()}")


def _check_form(request: OrderRequest, security: Security, book: Book) -> None:
    if not 0 < len(request.client_order_id) <= LONGEST_ID:
        refuse(ReasonCode.ORDER_INVALID, f"expected a client order id of 1 to {LONGEST_ID} characters")
    quantity = request.quantity
    if not quantity.is_finite() or not 0 < quantity < LARGEST_QUANTITY or quantity % QUANTUM:
        refuse(ReasonCode.ORDER_INVALID, f"expected a positive quantity of at most 9 decimals, was {quantity}")
    limit = request.limit_price
    if request.order_type is OrderType.LIMIT and (limit is None or not limit.is_finite() or limit <= 0):
        refuse(ReasonCode.ORDER_INVALID, f"expected a limit order to have a positive limit price, was {limit}")
    if request.order_type is not OrderType.LIMIT and limit is not None:
        refuse(ReasonCode.ORDER_INVALID, f"expected no limit price on a {request.order_type.value} order")
    liquidates = request.side is Side.SELL and quantity == book.held.get(request.symbol, ZERO)
    if quantity % 1 and not security.fractionable and not liquidates:
        refuse(ReasonCode.SYMBOL_NOT_FRACTIONABLE, f"expected whole shares of {request.symbol}, was {quantity}")


def _check_cash(request: OrderRequest, book: Book, market: Market) -> Decimal:
    if request.lots:
        refuse(ReasonCode.ORDER_INVALID, "a buy names no lots")
    quote = market.quotes((request.symbol,), book.now).get(request.symbol)
    if quote is None:
        refuse(ReasonCode.QUOTE_MISSING, f"there is no quote for {request.symbol}")
    price = quote.ask if request.limit_price is None else min(quote.ask, request.limit_price)
    reserved = sum((order.remaining * order.reserve_price for order in book.working.values()), ZERO)
    needed = (request.quantity * price + reserved).quantize(CENT, ROUND_CEILING)
    if needed > book.cash:
        refuse(
            ReasonCode.ORDER_INSUFFICIENT_CASH,
            f"expected at most {book.cash} USD, was {needed}, of which {cents(reserved)} for orders working",
        )
    return price


def _check_shares(request: OrderRequest, book: Book, settings: VenueSettings) -> None:
    sells = [
        order
        for order in book.working.values()
        if order.request.symbol == request.symbol and order.request.side is Side.SELL
    ]
    available = book.held.get(request.symbol, ZERO) - sum((order.remaining for order in sells), ZERO)
    if request.quantity > available:
        refuse(ReasonCode.ORDER_INSUFFICIENT_SHARES, f"expected at most {available} shares, was {request.quantity}")
    if not request.lots:
        return
    if not settings.lot_selection:
        refuse(ReasonCode.ORDER_INVALID, "this account cannot name the lots of a sale")
    if sum((named.quantity for named in request.lots), ZERO) != request.quantity:
        refuse(ReasonCode.ORDER_INVALID, "the named lots do not add up to the quantity")
    free = {lot.broker_order_id: lot.quantity for lot in book.lots.get(request.symbol, {}).values()}
    taken = [named for order in sells for named in unsold_naming(order)]
    for named in (*taken, *request.lots):
        lot = lot_named(book, request.symbol, named.lot_id)
        if named.quantity <= 0 or lot is None or named.quantity > free[lot.broker_order_id]:
            refuse(ReasonCode.ORDER_INSUFFICIENT_SHARES, f"lot {named.lot_id} has fewer than {named.quantity} shares")
        free[lot.broker_order_id] -= named.quantity
