"""The household's wash sales asked before anything is done: the calendar, and trades replayed on a copy of the ledger.

Working intents and approved plans of every account are part of what is asked about. There is no second rule: what
is planned, what is checked and what is stopped in flight are all this replay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import lru_cache

from daemon.facts import today_of
from daemon.house import House
from daemon.sync import Snapshot
from state.lots import CalendarEntry, Ledger, WashCalendar, WhatIf, wash_calendar, what_if
from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, Intent, IntentState, Plan, PlannedTrade, PlanState, Side, Transaction, TransactionKind
from strategy.types import WashMasks

PLANNED = "planned-"  # ids of transactions that have not happened
# Between the decision and the fill a price may fall. A sale inside a wash-sale window must stay a gain after a fall
# of so many daily standard deviations, and of at least this fraction.
ADVERSE_DEVIATIONS = Decimal(4)
ADVERSE_LEAST = Decimal("0.05")


def masks_for(house: House, snapshot: Snapshot, today: date, *, without: str | None = None) -> WashMasks:
    """The household's wash-sale calendar, working intents and approved plans (but `without`) counted in."""
    waiting = pending(house, snapshot.ledger, today, without=without)
    return _masks(snapshot.ledger, waiting, today, house.settings.wash_sales.block_rebuy_after.value == "any_sale")


# Scan, proposal and check of one cycle ask the same question of the same ledger. A ledger is never changed and equals
# itself alone, so an answer is kept for exactly as long as nothing was learned and the same things are pending.
@lru_cache(maxsize=1)
def _masks(ledger: Ledger, waiting: tuple[Transaction, ...], today: date, after_any_sale: bool) -> WashMasks:
    if waiting:
        ledger = what_if(ledger, waiting).ledger
    return wash_masks(wash_calendar(ledger, today, block_rebuy_after="any_sale" if after_any_sale else "loss_sale"))


@lru_cache(maxsize=1)
def _replayed(ledger: Ledger, rows: tuple[Transaction, ...]) -> WhatIf:
    return what_if(ledger, rows)


def wash_masks(calendar: WashCalendar) -> WashMasks:
    """The household's calendar by symbol: the furthest forbidden date of each, with its reason."""
    return WashMasks(_furthest(calendar.do_not_buy), _furthest(calendar.do_not_sell_at_a_loss))


def _furthest(entries: Iterable[CalendarEntry]) -> dict[str, tuple[date, str]]:
    mask: dict[str, tuple[date, str]] = {}
    for entry in entries:
        for symbol in entry.symbols:
            if symbol not in mask or mask[symbol][0] < entry.until:
                mask[symbol] = (entry.until, entry.reason)
    return mask


def pending(house: House, ledger: Ledger, on: date, *, without: str | None = None) -> tuple[Transaction, ...]:
    """What working intents and approved plans of every account will do, as transactions that have not happened."""
    rows: list[Transaction] = []
    for plan in house.store.plans.list(only_open=True):
        if plan.plan_id == without:
            continue
        if plan.state is PlanState.APPROVED:
            rows.extend(
                trade_transaction(plan.account_id, trade, on, f"{plan.plan_id}-{trade.leg}") for trade in plan.trades
            )
        elif plan.state is PlanState.EXECUTING:
            for intent in house.store.orders.list(plan_id=plan.plan_id, only_open=True):
                left = (intent.submitted_quantity or intent.quantity) - intent.filled_quantity
                if left > 0:
                    rows.append(
                        Transaction(
                            transaction_id=f"pending-{intent.client_order_id}",
                            account_id=intent.account_id,
                            kind=_kind(intent.side),
                            trade_date=on,
                            source="pending",
                            symbol=intent.symbol,
                            quantity=left,
                            price=intent.reference_price,
                            order_id=intent.broker_order_id or f"pending-{intent.client_order_id}",
                        )
                    )
    return _coverable(ledger, rows)


def _coverable(ledger: Ledger, rows: Iterable[Transaction]) -> tuple[Transaction, ...]:
    """Leave out what can no longer happen: pending sales of shares that are not there, and symbols set aside."""
    left: dict[tuple[str, str], Decimal] = {}
    kept = []
    known = (row for row in rows if ledger.why_unreadable(row.symbol or "") is None)
    for row in sorted(known, key=lambda row: row.kind is TransactionKind.SELL):
        key = (row.account_id, row.symbol or "")
        have = left.setdefault(key, ledger.position(*key))
        if row.kind is TransactionKind.SELL and row.quantity > have:
            continue
        left[key] = have - row.quantity if row.kind is TransactionKind.SELL else have + row.quantity
        kept.append(row)
    return tuple(kept)


def _kind(side: Side) -> TransactionKind:
    return TransactionKind.BUY if side is Side.BUY else TransactionKind.SELL


def trade_transaction(account_id: str, trade: PlannedTrade, on: date, reference: str) -> Transaction:
    """A planned trade as the transaction it would become."""
    return Transaction(
        transaction_id=f"{PLANNED}{reference}",
        account_id=account_id,
        kind=_kind(trade.side),
        trade_date=on,
        source="planned",
        symbol=trade.symbol,
        quantity=trade.quantity,
        price=trade.price,
        order_id=f"{PLANNED}{reference}",
    )


def rehearse(
    house: House, snapshot: Snapshot, trades: Sequence[PlannedTrade], today: date, *, without: str | None = None
) -> WhatIf:
    """The trades replayed on the household's ledger, with all that is pending (but plan `without`) counted in.

    Sales are replayed at an adverse price, so that a lot near its basis cannot turn into a washed loss on the way.
    Trades in symbols whose history cannot be read are left out: they are locked, and nothing is sent in them.
    """
    waiting = pending(house, snapshot.ledger, today, without=without)
    volatility = house.volatility()
    rows = [
        trade_transaction(snapshot.account.account_id, _at_adverse_price(trade, volatility), today, str(trade.leg))
        for trade in trades
        if snapshot.ledger.why_unreadable(trade.symbol) is None
    ]
    return _replayed(snapshot.ledger, (*waiting, *rows))


def _at_adverse_price(trade: PlannedTrade, volatility: Mapping[str, float]) -> PlannedTrade:
    if trade.side is Side.BUY:
        return trade
    fall = _adverse_move(volatility[trade.symbol]) if trade.symbol in volatility else ADVERSE_LEAST
    return replace(trade, price=(trade.price * (1 - fall)).quantize(Decimal("0.0001")))


def adverse_moves(house: House) -> dict[str, Decimal]:
    """How far each price may fall before its order fills, as a fraction: a bound for checks, not a forecast."""
    return {name: _adverse_move(sigma) for name, sigma in house.volatility().items()}


def _adverse_move(sigma_daily: float) -> Decimal:
    known = Decimal(repr(round(sigma_daily, 6))) if math.isfinite(sigma_daily) else Decimal("0.1")
    return min(max(ADVERSE_DEVIATIONS * known, ADVERSE_LEAST), Decimal("0.9"))


def wash_conflicts(ledger: Ledger, trades: Sequence[PlannedTrade], rehearsal: WhatIf) -> dict[str, Reason]:
    """Symbols whose planned trades would disallow a loss, each with the trade of the household that is in the way."""
    conflicts: dict[str, Reason] = {}
    for row in rehearsal.realized:
        if row.disallowed > 0:
            cause = row.matches[0]
            conflicts[row.symbol] = because(
                ReasonCode.WASH_WHAT_IF_DISALLOWS,
                symbol=row.symbol,
                disallowed_usd=round(row.disallowed, 2),
                purchase=cause.replacement_date,
                account=cause.replacement_account_id,
            )
    for change in rehearsal.changed:
        if change.after.disallowed > change.before.disallowed:
            for symbol in sorted({trade.symbol for trade in trades} & ledger.group_of(change.after.symbol)):
                conflicts[symbol] = because(
                    ReasonCode.WASH_LOSS_SALE_IN_WINDOW,
                    symbol=symbol,
                    sold=change.after.disposed,
                    account=change.after.account_id,
                )
    return conflicts


def conflicts_in_flight(house: House, snapshot: Snapshot, plan: Plan, intents: Sequence[Intent]) -> dict[str, Reason]:
    """Conflicts of what has not been sent yet with trades of the household learned after the plan was made (F33)."""
    if not house.store.journal.learned_since(plan.created_at, plan.account_id):
        return {}
    waiting = [one for one in intents if one.state is IntentState.RECORDED]
    legs = {trade.leg: trade for trade in plan.trades}
    trades = _held(
        snapshot, [replace(legs[one.leg], quantity=one.quantity, leg=place) for place, one in enumerate(waiting)]
    )
    rehearsal = rehearse(house, snapshot, trades, today_of(house, snapshot), without=plan.plan_id)
    found = wash_conflicts(snapshot.ledger, trades, rehearsal)
    return {symbol: because(ReasonCode.WASH_IN_FLIGHT, **dict(reason.details)) for symbol, reason in found.items()}


def _held(snapshot: Snapshot, trades: Iterable[PlannedTrade]) -> list[PlannedTrade]:
    """Without sales of more than is left: the gate refuses them, and they tell nothing of the others."""
    kept, left = [], dict(snapshot.positions)
    for trade in trades:
        if trade.side is Side.SELL:
            if trade.quantity > left.get(trade.symbol, ZERO):
                continue
            left[trade.symbol] -= trade.quantity
        kept.append(trade)
    return kept
