"""The Alpaca account to trade: the reader, with submit and cancel.

What becomes of an order on its way out, each step before the next:

| step                                          | else                       | has it left |
|-----------------------------------------------|----------------------------|-------------|
| it is one Alpaca can carry out                | OrderRefused ORDER_INVALID | no          |
| the session is open, by the broker's clock    | OrderRefused MARKET_CLOSED | no          |
| there is a call for it in the minute's budget | NotSent                    | no          |
| a connection can be made                      | NotSent                    | no          |
| the answer arrives                            | OutcomeUnknown             | perhaps     |
| the answer is an order                        | by `refusals.py`           | see there   |
| it is the order that was meant                | OutcomeUnknown, in words   | yes         |

Alpaca would take an order after the close and fill it the next morning; `sessions.py` says how that is kept from
happening without a call for each order. Should one slip through all the same (a process stopped between the check and
the socket), its `expires_at` tells, and it is cancelled at once.

Quantities and prices go out as strings, written from Decimal. A sale is sent as sell_to_close, so that Alpaca refuses
it rather than sell shares that are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NoReturn, TypedDict, Unpack
from uuid import UUID

from brokers.alpaca.answer import answer, rows
from brokers.alpaca.endpoints import Endpoints, Keys
from brokers.alpaca.orders import order_from
from brokers.alpaca.reader import WITHIN_S, AlpacaReader
from brokers.alpaca.refusals import meaning
from brokers.alpaca.transport import NotFound, Unprocessable
from brokers.errors import BrokerError, BrokerUnavailable, NotSent, OrderRefused, OutcomeUnknown, UnknownOrder
from state.reasons import ReasonCode
from state.records import CENT, QUANTUM, BrokerOrder, OrderRequest, OrderType, Side

_LONGEST_ID = 128  # characters of a client order id
_LARGEST_QUANTITY = Decimal(10**9)  # shares; beyond any order that is meant
_DOLLAR, _BELOW_A_DOLLAR = Decimal(1), Decimal("0.0001")  # price steps: a cent from 1 USD on, else a hundredth of one
_CLOSING_AUCTION_ENTRY = timedelta(minutes=10)  # before the close: later orders for it are refused
_SAME_SESSION = timedelta(hours=12)  # an order that expires later than this after the close is for another day


class _Options(TypedDict, total=False):
    """As of AlpacaReader."""

    feed: str
    requests_per_minute: int
    data_requests_per_minute: int
    timeouts: tuple[float, float]
    snapshot_chunk: int
    sleep: Callable[[float], None]
    monotonic: Callable[[], float]


class AlpacaBroker(AlpacaReader):
    """One Alpaca account, as a `brokers.protocol.Broker`. For one thread.

    Raises ValueError for the live account unless `live` says that real orders are meant.
    """

    def __init__(self, keys: Keys, endpoints: Endpoints, *, live: bool = False, **options: Unpack[_Options]) -> None:
        if endpoints.is_live and not live:
            raise ValueError("Expected the paper account, was the live one: real orders are sent only when asked for")
        super().__init__(keys, endpoints, **options)
        sends = frozenset({"POST", "DELETE"})
        self._sending = self._wire(self._trading_client, endpoints.trading, self._budget, WITHIN_S, sends)
        self._wires.append(self._sending)

    # -------------------------------------------------------------- submit

    def submit(self, order: OrderRequest) -> BrokerOrder:
        """Send one order, once.

        Raises OrderRefused, DuplicateClientOrderId, NotSent, OutcomeUnknown or NotAuthorized.
        """
        fields = order_fields(order)
        closes_at = self._closes_at(order)
        if not self._budget.take_now():
            raise NotSent(f"{order.client_order_id}: no trading call left this minute beside those kept for cancels")
        said = self._posted(order, fields)
        try:
            row = answer(said, f"answer to order {order.client_order_id}")
            taken = order_from(row)
            expires_at = row.instant("expires_at") if row.has("expires_at") else closes_at
        except BrokerUnavailable as fault:
            read = f"the answer cannot be read ({self._sending.mark})"
            raise OutcomeUnknown(f"{order.client_order_id}: {read}: {fault}") from fault
        _require_meant(order, taken)
        if expires_at > closes_at + _SAME_SESSION:
            with suppress(BrokerError):  # its fate is looked up like any other order's
                self.cancel(taken.broker_order_id)
        return taken

    def _closes_at(self, order: OrderRequest) -> datetime:
        """When the session that is open now will close."""
        try:
            closes_at = self._time.closes_at()
        except BrokerUnavailable as fault:
            raise NotSent(f"{order.client_order_id}: it could not be asked if the market is open: {fault}") from fault
        if closes_at is None:
            _refuse(ReasonCode.MARKET_CLOSED, "by Alpaca's clock no session is open; the order would fill tomorrow")
        last_moment = closes_at - _CLOSING_AUCTION_ENTRY
        if order.order_type is OrderType.MARKET_ON_CLOSE and self._time.now() >= last_moment:
            _refuse(ReasonCode.MARKET_CLOSED, f"orders for the closing auction are taken until {last_moment:%H:%M} UTC")
        return closes_at

    def _posted(self, order: OrderRequest, fields: Mapping[str, str]) -> object:
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        from brokers.alpaca.door import ForbiddenRequestError

        try:
            return self._sending.post("/orders", fields)
        except APIError as fault:
            raise meaning(self._sending.refusal(fault), order.client_order_id) from None
        except RequestException as fault:
            if _never_left(fault):
                raise NotSent(f"{order.client_order_id}: Alpaca could not be reached") from None
            raise OutcomeUnknown(f"{order.client_order_id}: {self._sending.in_words(fault)}") from None
        except ForbiddenRequestError:
            raise
        except Exception as fault:  # whatever went wrong after the door, the order may be at the broker
            raise OutcomeUnknown(f"{order.client_order_id}: {type(fault).__name__} while it was sent") from None

    # -------------------------------------------------------------- cancel

    def cancel(self, broker_order_id: str) -> None:
        """Ask for a cancel; tried again when the question is lost. A final order is left as it is.

        Raises UnknownOrder, BrokerUnavailable, NotAuthorized.
        """
        if not _is_uuid(broker_order_id):  # an empty id would cancel every order
            raise UnknownOrder(f"Expected the id of an Alpaca order, was {broker_order_id!r}")
        try:
            self._sending.delete(f"/orders/{broker_order_id}")
        except NotFound as fault:
            raise UnknownOrder(str(fault)) from fault
        except Unprocessable as fault:  # it has ended, or there is no such order
            if not self._orders.exists(broker_order_id):
                raise UnknownOrder(str(fault)) from fault

    def cancel_all(self) -> tuple[str, ...]:
        """Ask for a cancel of every open order of the account, whoever placed it: one call.

        Returns the ids of those that Alpaca would not cancel. Raises BrokerUnavailable, NotAuthorized.
        """
        said = rows(self._sending.delete("/orders"), "answer to cancelling everything")
        return tuple(row.text("id") for row in said if not 200 <= row.decimal("status") < 300)


# ------------------------------------------------------------------ an order on the wire


def order_fields(order: OrderRequest) -> dict[str, str]:
    """The order as it is posted. Raises OrderRefused ORDER_INVALID when Alpaca could not carry it out."""
    _require(0 < len(order.client_order_id) <= _LONGEST_ID, f"a client order id of 1 to {_LONGEST_ID} characters")
    _require(not order.lots, "no lots named: Alpaca cannot choose them")
    quantity = order.quantity
    is_count = quantity.is_finite() and 0 < quantity < _LARGEST_QUANTITY and not quantity % QUANTUM
    _require(is_count, f"a positive quantity of at most 9 decimals, was {quantity}")
    at_close = order.order_type is OrderType.MARKET_ON_CLOSE
    _require(not (at_close and quantity % 1), f"whole shares in the closing auction, was {quantity}")
    fields = {
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "qty": _written(quantity),
        "type": "limit" if order.order_type is OrderType.LIMIT else "market",
        "time_in_force": "cls" if at_close else "day",
    }
    if order.side is Side.SELL:
        fields["position_intent"] = "sell_to_close"
    limit = order.limit_price
    if order.order_type is not OrderType.LIMIT:
        _require(limit is None, f"no limit price on a {order.order_type.value} order, was {limit}")
        return fields
    if limit is None or not limit.is_finite() or limit <= 0:
        _refuse(ReasonCode.ORDER_INVALID, f"expected a limit order to have a positive limit price, was {limit}")
    step = CENT if limit >= _DOLLAR else _BELOW_A_DOLLAR
    _require(not limit % step, f"a limit price in steps of {step} USD, was {limit}")
    return {**fields, "limit_price": _written(limit)}


def _require(holds: bool, expected: str) -> None:
    if not holds:
        _refuse(ReasonCode.ORDER_INVALID, f"expected {expected}")


def _refuse(code: ReasonCode, message: str) -> NoReturn:
    raise OrderRefused(code.value, message)


def _written(number: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _require_meant(meant: OrderRequest, taken: BrokerOrder) -> None:
    """The broker repeats the order it took: it must be the one that was meant."""
    expected = (meant.client_order_id, meant.symbol, meant.side, meant.quantity, meant.limit_price)
    was = (taken.client_order_id, taken.symbol, taken.side, taken.quantity, taken.limit_price)
    if expected != was:
        raise OutcomeUnknown(
            f"{meant.client_order_id}: expected Alpaca to take {_in_words(meant)}, it says it took {_in_words(taken)}"
        )


def _in_words(order: OrderRequest | BrokerOrder) -> str:
    limit = "" if order.limit_price is None else f" at {order.limit_price}"
    return f"{order.side.value} {order.quantity} {order.symbol}{limit} as {order.client_order_id}"


def _never_left(fault: Exception) -> bool:
    """True when no connection was made, so that nothing can have been sent."""
    from requests.exceptions import ConnectTimeout
    from urllib3.exceptions import NewConnectionError

    cause = fault.args[0] if fault.args else None
    return isinstance(fault, ConnectTimeout) or isinstance(getattr(cause, "reason", None), NewConnectionError)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
