"""Every answer of Alpaca that harvestd knows the meaning of, as it is on the wire.

Sources: recorded paper-trading answers of October 2026, Alpaca's documents, and what users of its interface quote. The
documentation, docs/BROKER-ANSWERS.md, has a row for each; the tests hold both to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stub_alpaca import HANGS, Said

from brokers.errors import (
    BrokerError,
    BrokerUnavailable,
    DuplicateClientOrderId,
    NotAuthorized,
    NotSent,
    OrderRefused,
    OutcomeUnknown,
    UnknownOrder,
)
from state.reasons import ReasonCode

HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center>nginx</center></body>\r\n</html>"
R = ReasonCode


@dataclass(frozen=True)
class Known:
    """An answer, by the words the documentation has for it, and what it becomes; `then` says more where it needs to."""

    words: str
    said: Said
    becomes: type[BrokerError] | None
    reason: ReasonCode | None = None
    then: str = ""

    @property
    def meaning(self) -> str:
        """As the documentation writes it."""
        return f"{self.becomes.__name__ if self.becomes else self.then}{f' {self.reason.value}' if self.reason else ''}"


def said(status: int, code: int | None, message: str, **more: object) -> Said:
    """A body of the trading API."""
    return Said({**({} if code is None else {"code": code}), "message": message, **more}, status)


def refused(status: int, code: int, message: str, reason: ReasonCode, **more: object) -> Known:
    """An order that Alpaca says no to before taking it."""
    return Known(f"{status} `{message}`", said(status, code, message, **more), OrderRefused, reason)


ORDERS = (
    refused(
        403,
        40310000,
        "insufficient qty available for order (requested: 1.057436865, available: 0.557436865)",
        R.ORDER_INSUFFICIENT_SHARES,
        available="0.557436865",
        existing_qty="0.557436865",
        held_for_orders="0",
        symbol="KO",
    ),
    refused(403, 40310000, "account is not allowed to short", R.ORDER_INSUFFICIENT_SHARES),
    refused(422, 42210000, 'asset "TXN" cannot be sold short', R.ORDER_INSUFFICIENT_SHARES),
    refused(422, 42210000, "fractional orders cannot be sold short", R.ORDER_INSUFFICIENT_SHARES),
    refused(
        422,
        42210000,
        "position intent mismatch, inferred: sell_to_open, specified: sell_to_close",
        R.ORDER_INSUFFICIENT_SHARES,
    ),
    refused(
        403,
        40310000,
        "insufficient buying power",
        R.ORDER_INSUFFICIENT_CASH,
        buying_power="558660.03",
        cost_basis="680930026.5",
    ),
    refused(403, 40310000, 'asset "OCGN" is not fractionable', R.SYMBOL_NOT_FRACTIONABLE),
    refused(
        403,
        40310000,
        "potential wash trade detected. use complex orders",
        R.ORDER_SELF_TRADE,
        existing_order_id="cc1b5e3b-9d2a-4c3a-8a52-6ba2d3cc4c0d",
        reject_reason="opposite side market/stop order exists",
    ),
    refused(422, 42210000, 'asset "ZZZZ" not found', R.SYMBOL_NOT_TRADABLE),
    refused(422, 40010001, 'could not find asset "ZZZZ"', R.SYMBOL_NOT_TRADABLE),
    refused(422, 42210000, 'asset "RGC" is not tradable', R.SYMBOL_NOT_TRADABLE),
    refused(422, 40010001, "asset RGC is not active", R.SYMBOL_NOT_TRADABLE),
    refused(403, 40310000, "market is closed", R.MARKET_CLOSED),
    refused(
        422,
        42210000,
        "invalid limit_price 10.001. sub-penny increment does not fulfill minimum pricing criteria",
        R.ORDER_INVALID,
    ),
    refused(422, 42210000, "fractional orders must be DAY orders", R.ORDER_INVALID),
    refused(422, 42210000, "fractional orders must be simple orders", R.ORDER_INVALID),
    refused(
        422,
        42210000,
        "fractional orders must be market, limit, stop, or stop_limit orders",
        R.ORDER_INVALID,
    ),
    refused(422, 42210000, "notional must be >= 1.00", R.ORDER_INVALID),
    refused(403, 40310000, "cost basis must be >= minimal amount of order 1", R.ORDER_INVALID),
    refused(422, 40010001, "qty or notional is required", R.ORDER_INVALID),
    refused(422, 40010001, "invalid time_in_force", R.ORDER_INVALID),
    refused(422, 40010001, "client_order_id must be no more than 128 characters", R.ORDER_INVALID),
    refused(403, 40310100, "trade denied due to pattern day trading protection", R.ORDER_REJECTED),
    refused(422, 42210000, "unable to process order", R.ORDER_REJECTED),
    Known(
        "422 `client_order_id must be unique`",
        said(422, 40010001, "client_order_id must be unique"),
        DuplicateClientOrderId,
        R.ORDER_DUPLICATE_ID,
    ),
    Known("401 `unauthorized.`", said(401, None, "unauthorized."), NotAuthorized),
    Known("403 `forbidden.`", said(403, None, "forbidden."), NotAuthorized),
    Known("403 `request is not authorized`", said(403, 40310000, "request is not authorized"), NotAuthorized),
    Known(
        "403 `account is not authorized to trade`",
        said(403, 40310000, "account is not authorized to trade"),
        NotAuthorized,
    ),
    Known(
        "403 `account is restricted to liquidation only`",
        said(403, 40310000, "account is restricted to liquidation only"),
        NotAuthorized,
    ),
    Known(
        "403 `new orders are rejected by user request`",
        said(403, 40310000, "new orders are rejected by user request"),
        NotAuthorized,
    ),
    Known("429 `rate limit exceeded`", said(429, 42910000, "rate limit exceeded"), OutcomeUnknown),
    Known(
        "500 `internal server error occurred`", said(500, 50010000, "internal server error occurred"), OutcomeUnknown
    ),
    Known("502 with a gateway's page", Said(HTML, 502, {"Content-Type": "text/html"}), OutcomeUnknown),
    Known("503", said(503, None, "service unavailable"), OutcomeUnknown),
    Known("504, often for an order that was taken", said(504, None, "gateway timeout"), OutcomeUnknown),
    Known("403 with a gateway's page", Said(HTML, 403, {"Content-Type": "text/html"}), OutcomeUnknown),
    Known("a redirect", Said({}, 307, {"Location": "https://api.alpaca.markets/v2/orders"}), OutcomeUnknown),
    Known("200 with a page instead of JSON", Said(HTML), OutcomeUnknown),
    Known("200 with nothing", Said(b""), OutcomeUnknown),
    Known("200 with something that is no order", Said({"message": "ok"}), OutcomeUnknown),
    Known("200 with JSON that breaks off", Said(b'{"id": "ad78', headers={"Content-Length": "900"}), OutcomeUnknown),
    Known("no answer within the time-out", HANGS, OutcomeUnknown),
)

READS = (
    Known("401 `unauthorized.`", said(401, None, "unauthorized."), NotAuthorized),
    Known("403 `forbidden.`", said(403, None, "forbidden."), NotAuthorized),
    Known(
        "403 `subscription does not permit querying recent SIP data`",
        said(403, 42210000, "subscription does not permit querying recent SIP data"),
        BrokerUnavailable,
    ),
    Known("403 with a gateway's page", Said(HTML, 403), BrokerUnavailable),
    Known("404 with a gateway's page", Said(HTML, 404), BrokerUnavailable),
    Known("422 `invalid page_token`", said(422, 40010001, "invalid page_token"), BrokerUnavailable),
    Known("429 `rate limit exceeded`", said(429, 42910000, "rate limit exceeded"), BrokerUnavailable),
    Known("429 `too many requests.`", said(429, None, "too many requests."), BrokerUnavailable),
    Known(
        "500 `internal server error occurred`", said(500, 50010000, "internal server error occurred"), BrokerUnavailable
    ),
    Known("502 with a gateway's page", Said(HTML, 502), BrokerUnavailable),
    Known("503", said(503, None, "service unavailable"), BrokerUnavailable),
    Known("504", said(504, None, "gateway timeout"), BrokerUnavailable),
    Known("a redirect", Said({}, 302, {"Location": "https://evil.test/"}), BrokerUnavailable),
    Known("200 with a page instead of JSON", Said(HTML), BrokerUnavailable),
    Known("200 with JSON that breaks off", Said(b'[{"id":', headers={"Content-Length": "900"}), BrokerUnavailable),
    Known("200 with a list for an object, or the other way round", Said({}), BrokerUnavailable),
    Known("no answer within the time-out", HANGS, BrokerUnavailable),
)

ABSENCES = (
    Known(
        "404 `order not found for a-1`, asked by our id",
        said(404, 40410000, "order not found for a-1"),
        None,
        then="there is no such order",
    ),
    Known("404 `asset not found for NOSUCH`", said(404, 40410000, "asset not found for NOSUCH"), None, then="absent"),
    Known("400 `invalid symbol: BRK-B`", said(400, None, "invalid symbol: BRK-B"), None, then="absent"),
)

CANCELS = (
    Known("204", Said(b"", 204), None, then="asked"),
    Known("404 `order not found`", said(404, 40410000, "order not found"), UnknownOrder),
    Known("422 `order is not cancelable`", said(422, 42210000, "order is not cancelable"), None, then="it has ended"),
    Known("429 `rate limit exceeded`", said(429, 42910000, "rate limit exceeded"), BrokerUnavailable),
    Known("504", said(504, None, "gateway timeout"), BrokerUnavailable),
    Known("401 `unauthorized.`", said(401, None, "unauthorized."), NotAuthorized),
)

# What never reaches Alpaca, or nobody answered.
BEFORE_LEAVING = (
    ("the order is not one Alpaca could carry out", OrderRefused, R.ORDER_INVALID),
    ("no session is open by Alpaca's clock", OrderRefused, R.MARKET_CLOSED),
    ("no call is left in the minute's budget", NotSent, None),
    ("no connection can be made", NotSent, None),
)
