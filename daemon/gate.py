"""The last door before the broker. Every submit passes here; what cannot be checked does not pass.

| what is looked at                                            | else                                                |
|--------------------------------------------------------------|-----------------------------------------------------|
| the halt: its file, or memory where none could be written    | STATE_HALTED                                        |
| the state, the clock since it was found, the session         | STATE_NOT_OPEN, CLOCK_JUMPED, MARKET_CLOSED         |
| the account: its number, what the broker has blocked         | ACCOUNT_MISMATCH, ACCOUNT_RESTRICTED                |
| the symbol: locks, your lists, what the broker trades        | SYMBOL_LOCKED, LIMIT_RESTRICTED, LIMIT_NOT_ALLOWED, |
|                                                              | SYMBOL_NOT_TRADABLE                                 |
| conservation: no more than the slice and its leg             | LIMIT_CONSERVATION                                  |
| the quote: there, fresh, narrow, near the previous close     | QUOTE_MISSING, QUOTE_STALE, QUOTE_WIDE,             |
|                                                              | LIMIT_PRICE_COLLAR                                  |
| nothing borrowed: cash for a buy, settled shares for a sale  | LIMIT_CASH, LIMIT_LONG_ONLY, LIMIT_GOOD_FAITH       |
| the size, the day, the minute, repeats, the symbol's volume  | LIMIT_ORDER_SIZE, LIMIT_DAILY_NOTIONAL,             |
|                                                              | LIMIT_REPEATS, LIMIT_ORDER_RATE, LIMIT_PACE         |
| a check that cannot be made                                  | LIMIT_CHECK_FAILED                                  |

The fraction of symbols whose quotes are bad is part of the state (readiness.py): above its limit it is STALE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from daemon.halt import halt_reason, is_halted
from daemon.market_calendar import SessionTimes
from daemon.settings import Settings
from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, BrokerAccount, BrokerClock, Intent, PlannedTrade, Quote, Side

SKEW_S = 5.0  # between our clock and the broker's, or between the wall clock and the monotonic one
MINUTE = timedelta(minutes=1)


class DaemonState(StrEnum):
    """Where the daemon stands; orders leave only in OPEN."""

    STARTING = "STARTING"  # nothing has been read yet
    RECONCILING = "RECONCILING"  # comparing ours with the broker's records
    OPEN = "OPEN"  # orders may be sent
    STALE = "STALE"  # data too old, or the clocks disagree
    CLOSED = "CLOSED"  # the market is closed
    HALTED = "HALTED"  # a person, or a contradiction, stopped trading


def market_state(session: SessionTimes | None, clock: BrokerClock, now: datetime) -> tuple[DaemonState, Reason | None]:
    """OPEN only when the exchange calendar and the broker's clock both say so, and mean the same close."""
    ours = session is not None and session.opens_at <= now < session.closes_at
    if ours != clock.is_open:
        return DaemonState.STALE, because(
            ReasonCode.MARKET_CLOCKS_DISAGREE,
            calendar="open" if ours else "closed",
            broker="open" if clock.is_open else "closed",
        )
    if abs((clock.at - now).total_seconds()) > SKEW_S:
        return DaemonState.STALE, because(
            ReasonCode.MARKET_CLOCKS_DISAGREE, ours=now.isoformat(), broker=clock.at.isoformat()
        )
    if session is None or not ours:
        return DaemonState.CLOSED, because(ReasonCode.MARKET_CLOSED, at=now.isoformat())
    if clock.next_close != session.closes_at:
        return DaemonState.STALE, because(
            ReasonCode.MARKET_CLOCKS_DISAGREE,
            calendar_close=session.closes_at.isoformat(),
            broker_close=clock.next_close.isoformat(),
        )
    return DaemonState.OPEN, None


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the gate looks at for one order. Amounts in USD, quantities in shares."""

    database_path: Path
    stopped: str  # why nothing may leave although no halt could be written; empty: nothing of the kind
    state: DaemonState
    session: SessionTimes | None
    now: datetime
    clock_drift_s: float  # of the wall clock against the monotonic one since the state was found
    account: BrokerAccount
    account_number: str  # the one expected; empty while none is known
    quote: Quote | None
    previous_close: Decimal | None
    locked: frozenset[str]
    untradable: frozenset[str]
    known: frozenset[str]  # the benchmark's names, and what is held
    sent_today: Sequence[Intent]  # every intent of this account and session that was ever sent
    leg: PlannedTrade
    cash: Decimal  # not promised to any open buy
    shares: Decimal  # of the symbol, not promised to any open sale
    bought_today: Decimal  # shares of the symbol
    slice_max: Decimal | None  # the largest order that its volume allows; None where no volume is known


Check = Callable[[Intent, Decimal, GateFacts, Settings], Reason | None]


def refuse(intent: Intent, quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    """The reason why this order must not leave, or None. Fails closed: a missing fact is a refusal."""
    for check in CHECKS:
        try:
            reason = check(intent, quantity, facts, settings)
        except Exception as fault:  # a check that cannot be made is no check passed
            name = check.__name__.strip("_")
            return because(ReasonCode.LIMIT_CHECK_FAILED, check=name, fault=f"{type(fault).__name__}: {fault}")
        if reason is not None:
            return reason
    return None


def _state(_intent: Intent, _quantity: Decimal, facts: GateFacts, _settings: Settings) -> Reason | None:
    if facts.stopped:
        return because(ReasonCode.STATE_HALTED, since=facts.stopped)
    if is_halted(facts.database_path):
        return because(ReasonCode.STATE_HALTED, since=halt_reason(facts.database_path))
    if facts.state is not DaemonState.OPEN:
        return because(ReasonCode.STATE_NOT_OPEN, state=facts.state.value)
    if not abs(facts.clock_drift_s) <= SKEW_S:
        return because(ReasonCode.CLOCK_JUMPED, seconds=f"{facts.clock_drift_s:+.1f}")
    if facts.session is None or not facts.session.opens_at <= facts.now < facts.session.closes_at:
        return because(ReasonCode.MARKET_CLOSED, at=facts.now.isoformat())
    return None


def _account(_intent: Intent, _quantity: Decimal, facts: GateFacts, _settings: Settings) -> Reason | None:
    if facts.account_number and facts.account.account_number != facts.account_number:
        return because(ReasonCode.ACCOUNT_MISMATCH, expected=facts.account_number, broker=facts.account.account_number)
    if facts.account.trading_blocked:
        why = "; ".join(facts.account.restrictions) or "blocked by the broker"
        return because(ReasonCode.ACCOUNT_RESTRICTED, account=why)
    return None


def _symbol(intent: Intent, _quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    symbol, allowed = intent.symbol, settings.execution.allowed_symbols
    if symbol in facts.locked:
        return because(ReasonCode.SYMBOL_LOCKED, symbol=symbol)
    if symbol in settings.execution.restricted_symbols:
        return because(ReasonCode.LIMIT_RESTRICTED, symbol=symbol)
    if symbol not in facts.known or (allowed and symbol not in allowed):
        return because(ReasonCode.LIMIT_NOT_ALLOWED, symbol=symbol)
    if symbol in facts.untradable:
        return because(ReasonCode.SYMBOL_NOT_TRADABLE, symbol=symbol)
    return None


def _conservation(intent: Intent, quantity: Decimal, facts: GateFacts, _settings: Settings) -> Reason | None:
    """I7: the slices of a leg together never exceed the leg."""
    mine = (sent for sent in facts.sent_today if (sent.plan_id, sent.leg) == (intent.plan_id, intent.leg))
    sent = sum((one.submitted_quantity for one in mine if one.client_order_id != intent.client_order_id), ZERO)
    is_leg = (facts.leg.symbol, facts.leg.side) == (intent.symbol, intent.side)
    is_within = quantity.is_finite() and 0 < quantity <= intent.quantity and sent + quantity <= facts.leg.quantity
    if not (is_leg and is_within):
        return because(
            ReasonCode.LIMIT_CONSERVATION,
            planned=f"{facts.leg.side.value} {facts.leg.quantity} {facts.leg.symbol}",
            already_sent=sent,
            now=quantity,
            slice=intent.quantity,
        )
    return None


def _nothing_borrowed(intent: Intent, quantity: Decimal, facts: GateFacts, _settings: Settings) -> Reason | None:
    if intent.side is Side.BUY:
        price = intent.limit_price or (facts.quote.ask if facts.quote is not None else intent.reference_price)
        cost = quantity * price
        if not cost <= facts.cash:
            return because(ReasonCode.LIMIT_CASH, cost_usd=round(cost, 2), free_usd=round(facts.cash, 2))
        return None
    if not quantity <= facts.shares:
        return because(ReasonCode.LIMIT_LONG_ONLY, symbol=intent.symbol, sell=quantity, free=facts.shares)
    # Reg T: in a cash account a purchase paid with the proceeds of a sale may not be sold before that sale has settled
    # (T+1). What was bought today may have been paid so.
    if facts.account.multiplier <= 1 and quantity > facts.shares - facts.bought_today:
        return because(
            ReasonCode.LIMIT_GOOD_FAITH, symbol=intent.symbol, sell=quantity, bought_today=facts.bought_today
        )
    return None


def _price(intent: Intent, _quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    quote, limits = facts.quote, settings.execution
    if quote is None or not quote.is_usable:
        return because(ReasonCode.QUOTE_MISSING, symbol=intent.symbol)
    age = (facts.now - quote.at).total_seconds()
    if age > limits.quote_age_max_s or age < -SKEW_S:
        return because(ReasonCode.QUOTE_STALE, symbol=intent.symbol, age_s=int(age), most_s=limits.quote_age_max_s)
    spread_bps = (quote.ask - quote.bid) / quote.mid * 10_000
    if quote.ask < quote.bid or spread_bps > limits.spread_max_bps:
        return because(
            ReasonCode.QUOTE_WIDE, symbol=intent.symbol, spread_bps=round(spread_bps, 1), most_bps=limits.spread_max_bps
        )
    return beyond_collar(intent.symbol, quote.mid, facts.previous_close, limits.price_collar_pct)


def beyond_collar(symbol: str, price: Decimal, close: Decimal | None, most_pct: Decimal) -> Reason | None:
    """Why a price is too far from the previous close, or None. Without a close any price is."""
    if close is None or not close.is_finite() or close <= 0:
        return because(ReasonCode.LIMIT_PRICE_COLLAR, symbol=symbol, previous_close="unknown")
    move_pct = abs(price / close - 1) * 100
    if not move_pct <= most_pct:
        return because(ReasonCode.LIMIT_PRICE_COLLAR, symbol=symbol, move_pct=round(move_pct, 1), most_pct=most_pct)
    return None


def _size(intent: Intent, quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    limits = settings.execution
    value = quantity * intent.reference_price
    if not value <= limits.order_max_usd:
        return because(ReasonCode.LIMIT_ORDER_SIZE, value_usd=round(value, 2), most_usd=limits.order_max_usd)
    today = sum((sent.submitted_quantity * sent.reference_price for sent in facts.sent_today), ZERO)
    if not today + value <= limits.daily_notional_max_usd:
        return because(
            ReasonCode.LIMIT_DAILY_NOTIONAL,
            sent_usd=round(today, 2),
            this_usd=round(value, 2),
            most_usd=limits.daily_notional_max_usd,
        )
    return None


def _rate(intent: Intent, _quantity: Decimal, facts: GateFacts, settings: Settings) -> Reason | None:
    limits = settings.execution
    alike = [one for one in facts.sent_today if (one.symbol, one.side) == (intent.symbol, intent.side)]
    if len(alike) >= limits.repeats_max:
        return because(ReasonCode.LIMIT_REPEATS, symbol=intent.symbol, side=intent.side.value, most=limits.repeats_max)
    within_a_minute = sum(1 for one in facts.sent_today if _left_since(one, facts.now - MINUTE))
    if within_a_minute >= limits.orders_max_per_minute:
        return because(ReasonCode.LIMIT_ORDER_RATE, sent=within_a_minute, most=limits.orders_max_per_minute)
    if facts.slice_max is not None and facts.leg.quantity > facts.slice_max:
        pause = timedelta(seconds=limits.slice_every_s)
        if any(_left_since(one, facts.now - pause) for one in alike):
            return because(ReasonCode.LIMIT_PACE, symbol=intent.symbol, every_s=limits.slice_every_s)
    return None


def _left_since(intent: Intent, instant: datetime) -> bool:
    return intent.submitted_at is not None and intent.submitted_at > instant


CHECKS: tuple[Check, ...] = (_state, _account, _symbol, _conservation, _price, _nothing_borrowed, _size, _rate)
