"""The figures of a span, each computed from the store and saying what it is.

Losses are of managed taxable accounts, positive amounts. "Disallowed" is what wash sales take of them, over every
account of the household; "net" is after it. Tax values use the flat marginal rates of the tax profile. Returns are
time-weighted: money from outside counts from the close of the day it came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import pairwise

from daemon.house import House
from state.lots import lot_term
from state.records import ZERO, Account, Intent, IntentState, RealizedRow, Term, Transaction, TransactionKind
from state.store import PerformanceRow
from strategy.types import TaxProfile

CENT = Decimal("0.01")
SESSIONS_A_YEAR = 252
LEAST_DAYS = 20  # fewer are not made into an annual figure


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses realized, disallowed and net in one year or span, and the gains realized beside them, in USD."""

    realized: Decimal
    disallowed: Decimal
    lost_for_good: Decimal
    gains: Decimal

    @property
    def net(self) -> Decimal:
        """Losses realized less disallowed; gains are not netted."""
        return self.realized - self.disallowed


def losses(rows: Iterable[RealizedRow]) -> Losses:
    """Sum of realized rows. A gain row is never disallowed."""
    found = list(rows)
    return Losses(
        realized=-sum((row.gain_loss for row in found if row.gain_loss < 0), ZERO),
        disallowed=sum((row.disallowed for row in found), ZERO),
        lost_for_good=sum((row.permanently_disallowed for row in found), ZERO),
        gains=sum((row.gain_loss for row in found if row.gain_loss > 0), ZERO),
    )


def losses_by_year(rows: Sequence[RealizedRow]) -> dict[int, Losses]:
    """Losses of each calendar year of disposal."""
    years = sorted({row.disposed.year for row in rows})
    return {year: losses(row for row in rows if row.disposed.year == year) for year in years}


def rates_of(profile: TaxProfile) -> dict[Term, Decimal]:
    """Marginal rates by term, as fractions."""
    long_rate = Decimal(repr(profile.long_term_rate))
    short_rate = Decimal(repr(profile.short_term_rate)) if profile.has_short_term_gains else long_rate
    return {Term.SHORT: short_rate, Term.LONG: long_rate}


def loss_value(rows: Iterable[RealizedRow], profile: TaxProfile) -> Decimal:
    """Tax that the recognized losses save, each at its own rate, in USD."""
    rates = rates_of(profile)
    return sum((-row.recognized * rates[row.term] for row in rows if row.recognized < 0), ZERO)


def gains_tax(rows: Iterable[RealizedRow], profile: TaxProfile) -> Decimal:
    """Tax on the realized gains, each at its own rate, in USD."""
    rates = rates_of(profile)
    return sum((row.recognized * rates[row.term] for row in rows if row.recognized > 0), ZERO)


def liquidation_tax(house: House, account: Account, prices: Mapping[str, Decimal], on: date) -> Decimal:
    """Tax if every open lot were sold at `prices` on `on`; losses offset gains at their own rate, in USD."""
    rates = rates_of(house.tax_profile)
    owed = ZERO
    for lot in house.ledger.open_lots(account.account_id):
        price = prices[lot.symbol]
        owed += (lot.quantity * price - lot.basis_at(price)) * rates[lot_term(lot, on)]
    return owed


def tracking_error_realized_bps(rows: Sequence[PerformanceRow]) -> float | None:
    """Annualised standard deviation of daily active return, in bp; None for fewer than 20 days."""
    active = []
    for before, after in pairwise(rows):
        ours = (after.nav - after.external_flow) / before.nav - 1
        theirs = (after.benchmark_nav - after.external_flow) / before.benchmark_nav - 1
        active.append(float(ours - theirs))
    if len(active) < LEAST_DAYS:
        return None
    mean = sum(active) / len(active)
    variance = sum((value - mean) ** 2 for value in active) / (len(active) - 1)
    return math.sqrt(variance * SESSIONS_A_YEAR) * 1e4


def time_weighted_return(rows: Sequence[PerformanceRow], what: str) -> float | None:
    """Growth over the rows, as a fraction; `what` is "nav" or "benchmark_nav". None for fewer than two rows."""
    if len(rows) < 2:
        return None
    growth = 1.0
    for before, after in pairwise(rows):
        growth *= float((getattr(after, what) - after.external_flow) / getattr(before, what))
    return growth - 1.0


def turnover_pct_per_year(rows: Sequence[PerformanceRow]) -> float | None:
    """One-sided: the smaller of buys and sells over mean net asset value, a year. The first day is left out."""
    later = rows[1:]
    if len(later) < LEAST_DAYS:
        return None
    traded = min(sum((row.bought for row in later), ZERO), sum((row.sold for row in later), ZERO))
    mean = sum((row.nav for row in later), ZERO) / len(later)
    return float(traded / mean) * SESSIONS_A_YEAR / len(later) * 100


@dataclass(frozen=True, slots=True)
class Disallowance:
    """A disallowed part of a loss of the household, and the purchase that explains it."""

    sale_id: str
    account_id: str
    symbol: str
    sold: date
    replacement_id: str
    replacement_account_id: str
    bought: date
    disallowed: Decimal
    permanent: bool
    is_conflict: bool  # ours, sent although the other trade was known and the loss was there at the plan's price
    turned_by_fill: bool  # ours, the other trade was known, but it was a gain at the plan's price and not at the fill


def disallowances(house: House) -> tuple[Disallowance, ...]:
    """Every disallowed dollar of the household, with the named purchase, and whether a trade of ours made it knowingly.

    The later of the two trades made the wash sale. If it was ours, and the earlier one was known when our order left -
    in the journal, or an order of our own already sent - it is a conflict, unless the sale was still a gain at the
    price the plan was made with.
    """
    journal = {row.transaction_id: row for row in house.store.journal.all()}
    sent = {one.client_order_id: one for one in house.store.orders.list()}
    found = []
    for row in house.ledger.realized():
        for match in row.matches:
            sale, purchase = journal[row.sale_id], journal[match.replacement_id]
            later, earlier = sorted((sale, purchase), key=_when, reverse=True)
            order = sent.get(later.client_order_id or "")
            known = order is not None and _known(earlier, order, sent)
            was_gain = later is sale and order is not None and order.reference_price * row.quantity >= row.basis
            found.append(
                Disallowance(
                    sale_id=row.sale_id,
                    account_id=row.account_id,
                    symbol=row.symbol,
                    sold=row.disposed,
                    replacement_id=match.replacement_id,
                    replacement_account_id=match.replacement_account_id,
                    bought=match.replacement_date,
                    disallowed=match.disallowed,
                    permanent=match.permanent,
                    is_conflict=known and not was_gain,
                    turned_by_fill=known and was_gain,
                )
            )
    return tuple(found)


def _when(row: Transaction) -> tuple[date, datetime]:
    """Trade date, then instant; a row without an instant counts as the end of its day."""
    return row.trade_date, row.executed_at or datetime.combine(row.trade_date, time.max, UTC)


def _known(earlier: Transaction, order: Intent, sent: Mapping[str, Intent]) -> bool:
    """True when `earlier` was in the journal, or an order of ours already sent, when `order` left."""
    if order.submitted_at is None:
        return False
    ours = sent.get(earlier.client_order_id or "")
    if ours is not None and ours.submitted_at is not None and ours.submitted_at <= order.submitted_at:
        return True
    return earlier.recorded_at is not None and earlier.recorded_at < order.submitted_at


def order_counts(house: House, account: Account) -> dict[str, int]:
    """Orders sent, refused by the broker or the gate, and executions."""
    intents = house.store.orders.list(account_id=account.account_id)
    return {
        "orders": sum(1 for one in intents if one.submitted_at is not None),
        "rejects": sum(1 for one in intents if one.state is IntentState.REFUSED),
        "fills": len(house.store.orders.fills()),
    }


def deposits(house: House, account: Account) -> Decimal:
    """Money put in less taken out, in USD."""
    kinds = (TransactionKind.DEPOSIT, TransactionKind.WITHDRAWAL)
    rows = house.store.journal.since(account.account_id, None)
    return sum((row.amount for row in rows if row.kind in kinds), ZERO)
