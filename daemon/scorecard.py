"""What plans that nobody carried out would have come to: the answer to "should I let it trade?".

In observe mode a plan is made, written down, and never sent. Later the stored closes say how it would have gone:

    value effect    what was to be bought has moved since the plan's prices, dividends inside, less the same of what
                    was to be sold, less the estimated cost of trading
    loss, tax       the losses it would have taken after the disallowance it foresaw, and what those and the gains
                    beside them are worth at the flat rates of the tax profile

Each plan is judged as if it alone had been done on that day: the account was not traded, so the next day's plan asks
for much the same again, and the rows must not be added up. Nothing here was earned. Where a price is missing, or is
under an open finding, the effect is not known and is shown so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache

from daemon.figures import rates_of
from state.reasons import ReasonCode
from state.records import CENT, ZERO, DailyBar, Plan, PlannedTrade, PlanState, Side
from state.store import Store
from strategy.types import TaxProfile

NOT_SENT = ReasonCode.MODE_OBSERVES.value


@dataclass(frozen=True, slots=True)
class Score:
    """One plan that was not carried out. Amounts in USD, estimated; gains positive, losses where named positive."""

    plan_id: str
    account_id: str
    session: date
    trades: int
    gross_usd: Decimal
    loss_usd: Decimal  # net losses it would have realized, after the disallowance it foresaw
    gain_usd: Decimal
    tax_saved_usd: Decimal  # on the losses, less the tax on the gains, at the stated flat rates
    cost_usd: Decimal
    tracking_error_before_bps: float | None
    tracking_error_after_bps: float | None
    until: date | None  # the last close it is judged at; None while there is none after its session
    sessions: int  # closes since
    value_effect_usd: Decimal | None  # after cost, before tax; None where a price is missing
    missing: tuple[str, ...]  # names without a usable price


def scores(store: Store, profile: TaxProfile, *, after_sessions: int | None = None) -> tuple[Score, ...]:
    """Every plan that observing kept from being sent, oldest first.

    Judged at the newest close, or `after_sessions` closes after its own session where there are as many.
    """

    @cache
    def series(symbol: str, start: date) -> tuple[DailyBar, ...]:
        return store.market.series(symbol, start)

    found = []
    for plan in store.plans.list():
        if plan.state is PlanState.BLOCKED and plan.trades and any(one.startswith(NOT_SENT) for one in plan.reasons):
            bars = {trade.symbol: series(trade.symbol, plan.session) for trade in plan.trades}
            found.append(_score(plan, bars, profile, after_sessions))
    return tuple(found)


def _score(
    plan: Plan, bars: Mapping[str, tuple[DailyBar, ...]], profile: TaxProfile, after_sessions: int | None
) -> Score:
    days = sorted({bar.session for each in bars.values() for bar in each})
    later = [day for day in days if day > plan.session]
    if after_sessions is not None:
        later = later[:after_sessions]
    until = later[-1] if later else None
    worth = {symbol: _worth(each, plan.session, until) for symbol, each in bars.items()} if until else {}
    missing = tuple(sorted(symbol for symbol, value in worth.items() if value is None))
    cost = sum((trade.cost for trade in plan.trades), ZERO)
    effect = None
    if until is not None and not missing:
        effect = sum((_effect(trade, worth[trade.symbol] or ZERO) for trade in plan.trades), -cost).quantize(CENT)
    rates = rates_of(profile)
    realized = [(lot.term, lot.gain_loss + lot.disallowed) for trade in plan.trades for lot in trade.lots]
    return Score(
        plan_id=plan.plan_id,
        account_id=plan.account_id,
        session=plan.session,
        trades=len(plan.trades),
        gross_usd=plan.gross_value.quantize(CENT),
        loss_usd=-sum((amount for _, amount in realized if amount < 0), ZERO).quantize(CENT),
        gain_usd=sum((amount for _, amount in realized if amount > 0), ZERO).quantize(CENT),
        tax_saved_usd=-sum((amount * rates[term] for term, amount in realized), ZERO).quantize(CENT),
        cost_usd=cost.quantize(CENT),
        tracking_error_before_bps=plan.tracking_error_before_bps,
        tracking_error_after_bps=plan.tracking_error_after_bps,
        until=until,
        sessions=len(later),
        value_effect_usd=effect,
        missing=missing,
    )


def _worth(bars: tuple[DailyBar, ...], start: date, until: date) -> Decimal | None:
    """What a share of `start` is worth at the close of `until`, with what was paid on it and split since, in USD."""
    by_day = {bar.session: bar for bar in bars}
    first, last = by_day.get(start), by_day.get(until)
    if first is None or last is None:
        return None
    return first.close * last.adjusted / first.adjusted


def _effect(trade: PlannedTrade, worth: Decimal) -> Decimal:
    """What the leg's shares are worth now beyond what they were at the plan's price; with its sign."""
    change = trade.quantity * (worth - trade.price)
    return change if trade.side is Side.BUY else -change
