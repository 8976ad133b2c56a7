"""Which recorded intent may leave next: a pure function of what is on disk and the cash at the broker.

Asked again after every send, so that a process killed between two sends goes on exactly where it stopped.

    tie 0     buys funded by cash that is there: at once
              one for which too little is left while others are at the broker waits: they may take less
    tie k     sells: when the dollars still unhedged, with this sell's, stay within the bound
              buys: when every sell of the tie is over, and never more than the part of them that was filled

An intent of unknown fate counts as sold and as spent: it holds its tie back, and locks its symbol and its cash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from state.records import QUANTUM, ZERO, Intent, IntentState, Side

LEAST_USD = Decimal(1)  # Alpaca's least order; what is left of one that must be smaller is not sent
NEVER_LEFT = (IntentState.RECORDED, IntentState.REFUSED)
AT_BROKER = (IntentState.WORKING, IntentState.PARTLY_FILLED)
IN_DOUBT = (IntentState.SUBMITTING, IntentState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Release:
    """Send `quantity` of the intent now; zero means that nothing is left to fund it and it ends unsent."""

    intent: Intent
    quantity: Decimal


def next_release(
    intents: Sequence[Intent],
    *,
    cash: Decimal,
    ask_prices: Mapping[str, Decimal],
    unhedged_max: Decimal,
    not_now: Set[str] = frozenset(),
) -> Release | None:
    """The next intent of one plan to send, or None while nothing may leave. Amounts in USD.

    `intents` are all of the plan's, final ones included; `cash` is the broker's, before working buys; `not_now` names
    symbols that the gate holds back for the moment.
    """
    reserved = sum((_working_cost(intent, ask_prices) for intent in intents), ZERO)
    free = cash - reserved
    is_reserved = any(one.side is Side.BUY and one.state in AT_BROKER for one in intents)
    locked = not_now | {intent.symbol for intent in intents if intent.state in IN_DOUBT}
    for tie in sorted({intent.tie or 0 for intent in intents}):
        group = [intent for intent in intents if (intent.tie or 0) == tie]
        release = _sell(group, intents, unhedged_max, locked) or _buy(
            group, free, ask_prices, locked, is_reserved=is_reserved
        )
        if release is not None:
            return release
    return None


def _working_cost(intent: Intent, ask_prices: Mapping[str, Decimal]) -> Decimal:
    if intent.side is Side.SELL or intent.state in NEVER_LEFT or intent.state.is_final:
        return ZERO
    price = intent.limit_price or ask_prices.get(intent.symbol, intent.reference_price)
    return (intent.submitted_quantity - intent.filled_quantity) * price


def _sell(
    group: Sequence[Intent], intents: Sequence[Intent], unhedged_max: Decimal, locked: Set[str]
) -> Release | None:
    for intent in group:
        if intent.side is Side.SELL and intent.state is IntentState.RECORDED and intent.symbol not in locked:
            value = intent.quantity * intent.reference_price
            # A piece rounded up to a whole share may pass the bound by that share.
            if unhedged(intents) + value <= unhedged_max + intent.reference_price:
                return Release(intent, intent.quantity)
            return None
    return None


def unhedged(intents: Sequence[Intent]) -> Decimal:
    """Dollars sold, or about to be, whose planned buys have not been made: at reference prices, over all ties."""
    total = ZERO
    for tie in {intent.tie for intent in intents if intent.tie}:
        group = [intent for intent in intents if intent.tie == tie]
        planned = _value(group, Side.SELL, "planned")
        if planned == 0:
            continue
        due = _value(group, Side.BUY, "planned") * _value(group, Side.SELL, "sent") / planned
        total += max(due - _value(group, Side.BUY, "filled"), ZERO)
    return total


def _value(group: Sequence[Intent], side: Side, what: str) -> Decimal:
    total = ZERO
    for intent in group:
        if intent.side is side:
            gone = intent.filled_quantity if intent.state.is_final else intent.submitted_quantity
            sent = ZERO if intent.state in NEVER_LEFT else gone
            quantity = {"planned": intent.quantity, "sent": sent, "filled": intent.filled_quantity}[what]
            total += quantity * intent.reference_price
    return total


def _buy(
    group: Sequence[Intent],
    free: Decimal,
    ask_prices: Mapping[str, Decimal],
    locked: Set[str],
    *,
    is_reserved: bool,
) -> Release | None:
    sells = [intent for intent in group if intent.side is Side.SELL]
    if any(not intent.state.is_final for intent in sells):
        return None
    planned = _value(group, Side.SELL, "planned")
    funded = _value(group, Side.SELL, "filled") / planned if planned else Decimal(1)
    for intent in group:
        if intent.side is Side.BUY and intent.state is IntentState.RECORDED and intent.symbol not in locked:
            quantity = _shares(intent.quantity * funded, intent.quantity)
            price = intent.limit_price or ask_prices.get(intent.symbol)
            if price is None:
                continue
            affordable = _shares(max(free, ZERO) / price, intent.quantity)
            if quantity > affordable and is_reserved:
                continue  # what the others do not take in the end may be enough
            if 0 < affordable < quantity and affordable * price < LEAST_USD:
                affordable = ZERO
            if quantity <= 0 or affordable > 0:
                return Release(intent, min(quantity, affordable))
    return None


def _shares(quantity: Decimal, like: Decimal) -> Decimal:
    whole = like == like.to_integral_value()
    return quantity.quantize(Decimal(1) if whole else QUANTUM, rounding=ROUND_DOWN)
