"""Which plans wait for a person, and what happens when the person answers.

A plan waits when one of its orders is worth more than `approvals.order_usd`, when its gross value exceeds
`approvals.plan_pct_nav` of the account, or when it realizes more gain than `approvals.gain_usd`. Trades of a kind
the user has pre-approved, below its size, do not count towards the order threshold. An approved plan is priced and
checked afresh before it executes; when it has changed materially it asks again, as the next revision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

from daemon.settings import Settings
from state.lots import Ledger
from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, Plan, PlannedTrade, Side, TradeReason
from strategy.propose import planned_lots

CENT = Decimal("0.01")


def needs_approval(plan: Plan, settings: Settings) -> tuple[Reason, ...]:
    """Why the plan must wait; empty when it may execute at once."""
    limits = settings.approvals
    preapproved = {rule.kind.value: rule.below_usd for rule in limits.preapproved}
    reasons: list[Reason] = []
    counted = ZERO
    for trade in plan.trades:
        of_a_swap = trade.reason.is_harvest or trade.reason is TradeReason.REPLACEMENT
        kind = "harvest" if of_a_swap else trade.reason.value
        if trade.notional < preapproved.get(kind, ZERO):
            continue
        counted += trade.notional
        if trade.notional > limits.order_usd:
            value = trade.notional.quantize(CENT)
            reasons.append(
                because(
                    ReasonCode.APPROVAL_ORDER_VALUE,
                    leg=trade.leg,
                    symbol=trade.symbol,
                    usd=value,
                    above=limits.order_usd,
                )
            )
    allowed = limits.plan_pct_nav / 100 * plan.nav
    if counted > allowed:
        reasons.append(
            because(ReasonCode.APPROVAL_PLAN_VALUE, usd=counted.quantize(CENT), above=allowed.quantize(CENT))
        )
    gain = realized_gain(plan.trades)
    if gain > limits.gain_usd:
        reasons.append(because(ReasonCode.APPROVAL_GAIN, usd=gain.quantize(CENT), above=limits.gain_usd))
    return tuple(reasons)


def realized_gain(trades: Sequence[PlannedTrade]) -> Decimal:
    """Gains the trades would realize, losses not netted against them, in USD."""
    return sum((lot.gain_loss for trade in trades for lot in trade.lots if lot.gain_loss > 0), ZERO)


def repriced(plan: Plan, prices: Mapping[str, Decimal], ledger: Ledger, now: datetime, today: date) -> Plan | None:
    """The plan at fresh prices, its lots taken anew from the ledger. None when it can no longer be done as it is:
    a price is missing, or the shares are not there any more."""
    trades = []
    for trade in plan.trades:
        price = prices.get(trade.symbol)
        if price is None:
            return None
        lots = trade.lots
        if trade.side is Side.SELL:
            queue = ledger.disposal_queue(plan.account_id, trade.symbol)
            if sum((lot.quantity for lot in queue), ZERO) < trade.quantity:
                return None
            lots = planned_lots(queue, trade.quantity, price, today)
        trades.append(replace(trade, price=price, lots=lots))
    return replace(plan, trades=tuple(trades), created_at=now)


def changed_materially(old: Plan, new: Plan, tolerance_pct: Decimal) -> Reason | None:
    """Why the repriced plan is another plan than the one approved, or None.

    Compared are the value of each leg and the gain or loss it realizes. It is another plan when its legs moved by more
    than the tolerance on average, weighted by value, or when one leg moved by more than twice as much and that alone
    is a tenth of the tolerance on the whole plan. (Of five hundred names some move by 4 % on any day.)
    """
    gross = old.gross_value
    moved = realized = ZERO
    for before, after in zip(old.trades, new.trades, strict=True):
        value, gain = abs(after.notional - before.notional), abs(after.gain_loss - before.gain_loss)
        moved, realized = moved + value, realized + gain
        part, whole = max(value, gain) / before.notional * 100, max(value, gain) / gross * 100
        if part > 2 * tolerance_pct and whole > tolerance_pct / 10:
            return because(
                ReasonCode.APPROVAL_CHANGED,
                symbol=after.symbol,
                value_change_pct=round(value / before.notional * 100, 2),
                gain_change_pct=round(gain / before.notional * 100, 2),
                most_pct=2 * tolerance_pct,
            )
    if max(moved, realized) / gross * 100 > tolerance_pct:
        return because(
            ReasonCode.APPROVAL_CHANGED,
            legs=len(old.trades),
            value_change_pct=round(moved / gross * 100, 2),
            gain_change_pct=round(realized / gross * 100, 2),
            most_pct=tolerance_pct,
        )
    return None
