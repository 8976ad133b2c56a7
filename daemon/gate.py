"""The last door before the broker. Every submit passes here; what cannot be checked does not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from daemon.halt import halt_reason, is_halted
from daemon.market_calendar import SessionTimes
from daemon.settings import Settings
from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, BrokerClock, Intent, PlannedTrade, Quote


class DaemonState(StrEnum):
    """Where the daemon stands; orders leave only in OPEN."""

    STARTING = "STARTING"  # nothing has been read yet
    RECONCILING = "RECONCILING"  # comparing ours with the broker's records
    OPEN = "OPEN"  # orders may be sent
    STALE = "STALE"  # data too old, or the clocks disagree
    CLOSED = "CLOSED"  # the market is closed
    HALTED = "HALTED"  # a person, or a contradiction, stopped trading


def market_state(session: SessionTimes | None, clock: BrokerClock, now: datetime) -> tuple[DaemonState, Reason | None]:
    """OPEN only when the exchange calendar and the broker's clock both say so."""
    ours = session is not None and session.opens_at <= now < session.closes_at
    if ours != clock.is_open:
        return DaemonState.STALE, because(
            ReasonCode.MARKET_CLOCKS_DISAGREE,
            calendar="open" if ours else "closed",
            broker="open" if clock.is_open else "closed",
        )
    if abs((clock.at - now).total_seconds()) > 5:
        return DaemonState.STALE, because(
            ReasonCode.MARKET_CLOCKS_DISAGREE, ours=now.isoformat(), broker=clock.at.isoformat()
        )
    if not ours:
        return DaemonState.CLOSED, because(ReasonCode.MARKET_CLOSED, at=now.isoformat())
    return DaemonState.OPEN, None


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the gate looks at for one order."""

    database_path: Path
    state: DaemonState
    session: SessionTimes | None
    now: datetime
    quote: Quote | None
    previous_close: Decimal | None
    locked: frozenset[str]
    sent_today: Sequence[Intent]  # every intent of this account and session that was ever sent
    leg: PlannedTrade


def refuse(intent: Intent, quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    """The reason why this order must not leave, or None. Fails closed: a missing fact is a refusal."""
    if is_halted(facts.database_path):
        return because(ReasonCode.STATE_HALTED, since=halt_reason(facts.database_path))
    if facts.state is not DaemonState.OPEN:
        return because(ReasonCode.STATE_NOT_OPEN, state=facts.state.value)
    if facts.session is None or not facts.session.opens_at <= facts.now < facts.session.closes_at:
        return because(ReasonCode.MARKET_CLOSED, at=facts.now.isoformat())
    if intent.symbol in facts.locked:
        return because(ReasonCode.SYMBOL_LOCKED, symbol=intent.symbol)
    if intent.symbol in settings.execution.restricted_symbols:
        return because(ReasonCode.LIMIT_RESTRICTED, symbol=intent.symbol)
    return (
        _conservation(intent, quantity, facts)
        or _price(intent, facts, settings)
        or _size(intent, quantity, facts, settings)
    )


def _conservation(intent: Intent, quantity: Decimal, facts: GateFacts) -> Reason | None:
    """I7: the slices of a leg together never exceed the leg."""
    mine = (sent for sent in facts.sent_today if (sent.plan_id, sent.leg) == (intent.plan_id, intent.leg))
    sent = sum((one.submitted_quantity for one in mine if one.client_order_id != intent.client_order_id), ZERO)
    if quantity <= 0 or quantity > intent.quantity or sent + quantity > facts.leg.quantity:
        return because(
            ReasonCode.LIMIT_CONSERVATION,
            planned=facts.leg.quantity,
            already_sent=sent,
            now=quantity,
            slice=intent.quantity,
        )
    return None


def _price(intent: Intent, facts: GateFacts, settings: Settings) -> Reason | None:
    quote, close = facts.quote, facts.previous_close
    limits = settings.execution
    if quote is None or not quote.is_usable:
        return because(ReasonCode.QUOTE_MISSING, symbol=intent.symbol)
    age = (facts.now - quote.at).total_seconds()
    if age > limits.quote_age_max_s or age < -5:
        return because(ReasonCode.QUOTE_STALE, symbol=intent.symbol, age_s=int(age), most_s=limits.quote_age_max_s)
    spread_bps = (quote.ask - quote.bid) / quote.mid * 10_000
    if quote.ask < quote.bid or spread_bps > limits.spread_max_bps:
        return because(
            ReasonCode.QUOTE_WIDE, symbol=intent.symbol, spread_bps=round(spread_bps, 1), most_bps=limits.spread_max_bps
        )
    if close is None or not close.is_finite() or close <= 0:
        return because(ReasonCode.LIMIT_PRICE_COLLAR, symbol=intent.symbol, previous_close="unknown")
    move_pct = abs(quote.mid / close - 1) * 100
    if move_pct > limits.price_collar_pct:
        return because(
            ReasonCode.LIMIT_PRICE_COLLAR,
            symbol=intent.symbol,
            move_pct=round(move_pct, 1),
            most_pct=limits.price_collar_pct,
        )
    return None


def _size(intent: Intent, quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    limits = settings.execution
    value = quantity * intent.reference_price
    if value > limits.order_max_usd:
        return because(ReasonCode.LIMIT_ORDER_SIZE, value_usd=round(value, 2), most_usd=limits.order_max_usd)
    today = sum((sent.submitted_quantity * sent.reference_price for sent in facts.sent_today), ZERO)
    if today + value > limits.daily_notional_max_usd:
        return because(
            ReasonCode.LIMIT_DAILY_NOTIONAL,
            sent_usd=round(today, 2),
            this_usd=round(value, 2),
            most_usd=limits.daily_notional_max_usd,
        )
    return None
