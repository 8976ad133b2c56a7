"""What a refused order means.

Alpaca uses one number for many things: 40310000 is too few shares, too little money, no fractions, an order of our own
on the other side, a blocked account. 40010001 and 42210000 change places between the same words. So the words decide,
by the table below, in this order; the number is only repeated.

| said with 4xx, as a JSON object with a message                  | here                                             |
|-----------------------------------------------------------------|--------------------------------------------------|
| client_order_id must be unique, already exists                  | DuplicateClientOrderId: look it up, never resend |
| insufficient qty available; cannot be sold short; account is    | ORDER_INSUFFICIENT_SHARES: we sell only what is  |
| not allowed to short; position intent mismatch                  | held, so a short sale is a sale of too many      |
| insufficient buying power, insufficient balance                 | ORDER_INSUFFICIENT_CASH                          |
| is not fractionable                                             | SYMBOL_NOT_FRACTIONABLE                          |
| potential wash trade; opposite side ... order exists            | ORDER_SELF_TRADE: FINRA 5210, not the tax rule   |
| account ... restricted, blocked, closed, not authorized;        | NotAuthorized: a person must act                 |
| liquidation only; rejected by user request; request is not      |                                                  |
| authorized; forbidden                                           |                                                  |
| asset ... not found, not tradable, not active                   | SYMBOL_NOT_TRADABLE                              |
| market is closed, outside ... hours                             | MARKET_CLOSED                                    |
| sub-penny; fractional orders must be; must be; is required;     | ORDER_INVALID                                    |
| invalid; minimal amount                                         |                                                  |
| any other words                                                 | ORDER_REJECTED                                   |

401 is a refused key whatever it says. Everything else leaves open whether the order was taken, so it is OutcomeUnknown:
429 and 5xx (a 504 is often sent for an order that was accepted), a redirect, a timed-out or broken connection, and any
answer without a JSON object, for it came from something in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from brokers.alpaca.transport import Refusal
from brokers.errors import BrokerError, DuplicateClientOrderId, NotAuthorized, OrderRefused, OutcomeUnknown
from state.reasons import ReasonCode


@dataclass(frozen=True, slots=True)
class Rule:
    """Words of a refusal, and the reason they stand for; None: the account or its key is refused."""

    words: re.Pattern[str]
    reason: ReasonCode | None


def _rule(reason: ReasonCode | None, *words: str) -> Rule:
    return Rule(re.compile("|".join(words), re.IGNORECASE), reason)


RULES = (
    _rule(ReasonCode.ORDER_DUPLICATE_ID, "client_order_id must be unique", "client_order_id already exists"),
    _rule(
        ReasonCode.ORDER_INSUFFICIENT_SHARES,
        "insufficient qty",
        "sold short",
        "not allowed to short",
        "position intent mismatch",
    ),
    _rule(ReasonCode.ORDER_INSUFFICIENT_CASH, "insufficient .*buying power", "insufficient balance"),
    _rule(ReasonCode.SYMBOL_NOT_FRACTIONABLE, "not fractionable"),
    _rule(ReasonCode.ORDER_SELF_TRADE, "wash trade", "opposite side", "while a .* order is open"),
    _rule(
        None,
        "account.* (restricted|blocked|closed|suspended|not authorized|not active|not eligible)",
        "liquidation only",
        "rejected by user request",
        "not authorized",
        "^forbidden",
        "^unauthorized",
    ),
    _rule(ReasonCode.SYMBOL_NOT_TRADABLE, "asset .*not found", "could not find asset", "not tradable", "not active"),
    _rule(ReasonCode.MARKET_CLOSED, "market is closed", "outside .*hours"),
    _rule(
        ReasonCode.ORDER_INVALID,
        "sub-penny",
        "must be",
        "is required",
        "invalid",
        "minimal amount",
        "not allowed for",
    ),
)


def meaning(refusal: Refusal, client_order_id: str) -> BrokerError:
    """The exception a refused POST of an order becomes."""
    said = f"{client_order_id}: Alpaca answered {refusal}"
    if refusal.status == 401:
        return NotAuthorized(f"{said}. Check the API key and its secret.")
    if not 400 <= refusal.status < 500 or refusal.status in (408, 429) or not refusal.message:
        return OutcomeUnknown(f"{said}. The order may have been taken.")
    reason = next((rule.reason for rule in RULES if rule.words.search(refusal.message)), ReasonCode.ORDER_REJECTED)
    if reason is None:
        return NotAuthorized(said)
    if reason is ReasonCode.ORDER_DUPLICATE_ID:
        return DuplicateClientOrderId(reason.value, said)
    return OrderRefused(reason.value, f"{said}{_figures(refusal)}")


def _figures(refusal: Refusal) -> str:
    """What the body says beside its words: how many shares there are, what the order would cost."""
    told = {name: value for name, value in (refusal.body or {}).items() if name not in ("message", "code", "symbol")}
    return "".join(f", {name} {value}" for name, value in sorted(told.items()) if isinstance(value, str))
