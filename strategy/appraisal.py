"""What each lot of one name is worth sold now, and which lots can be sold together.

A broker that relieves in order sells only prefixes of a name's queue, so the unit of decision is the prefix, not the
lot. Two lots of one name at a price of 90, rates 40.8 % short and 23.8 % long, trigger 7 %:

    queue (first sold first)        alone                     as prefix
    A  bought at  70, long-term     gain 20, costs 4.76       nothing ends at A: it is no loss
    B  bought at 115, short-term    loss 25, saves 10.20      [A, B] is worth 5.44 less the round trip of both

Value of a prefix: tax saved by the loss lots that have reached their trigger, less tax on the gain lots. A loss lot
below its trigger counts zero: selling it saves tax now and gives up as much by not waiting (that is what the trigger
means). A candidate prefix ends at a lot past its trigger; the best has the highest value after the round trip of
everything in it, the gain lots too. Where the account names its lots each lot stands for itself.

A lot whose basis is not known is never sold here, so an ordered queue ends in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from state.lots import lot_term
from state.records import ZERO, Lot, Term
from strategy.timing import LotRole, base_trigger, fixed_trigger, needs_volatility, trigger_of_age
from strategy.types import HarvestPolicy, TaxProfile

BASIS_POINT = Decimal("0.0001")
NEVER = 1.0  # a trigger of the whole basis: no loss reaches it


# ------------------------------------------------------------------ one lot


class AppraisedLot(NamedTuple):
    """A lot at today's price. `gain_usd` is positive for a gain; `rate` the profile's for its term.

    `trigger` is the loss fraction at which it is taken, `NEVER` where it depends on an unknown volatility.
    """

    lot: Lot
    price: Decimal
    gain_usd: Decimal
    rate: Decimal
    role: LotRole
    trigger: float

    @property
    def value_usd(self) -> Decimal:
        """Market value."""
        return self.lot.quantity * self.price

    @property
    def is_loss(self) -> bool:
        """True for a known loss. An unknown basis is a loss to the wash-sale rule, but not one to take."""
        return self.lot.basis_known and self.gain_usd < 0

    @property
    def loss_fraction(self) -> float:
        """Loss as a fraction of basis; 0 for a gain."""
        return float(-self.gain_usd / self.lot.basis) if self.is_loss else 0.0

    @property
    def is_triggered(self) -> bool:
        """True for a loss deep enough for its age and role."""
        return self.is_loss and self.loss_fraction >= self.trigger

    @property
    def goes_home(self) -> bool:
        """True when its proceeds go back to the name it was parked for, and need no replacement."""
        return self.role is LotRole.REPLACEMENT_HOME_FREE


def require_price(price: Decimal) -> None:
    """Raises ValueError unless `price` (USD) is finite and positive."""
    if not (price.is_finite() and price > 0):
        raise ValueError(f"Expected a positive price, was {price}")


def tax_rate(profile: TaxProfile, lot_term: Term) -> Decimal:
    """What a dollar of gain costs and a dollar of loss saves, as a fraction.

    Without short-term gains there is one rate, the long-term one: inside a net loss a short-term gain only uses up
    loss that would have met long-term gains.
    """
    short = lot_term is Term.SHORT and profile.has_short_term_gains
    return Decimal(repr(profile.short_term_rate if short else profile.long_term_rate))


def appraise(
    queue: Sequence[Lot],
    *,
    today: date,
    price: Decimal,
    sigma_daily: float | None,
    homes: Mapping[str, str],
    unbuyable: AbstractSet[str],
    profile: TaxProfile,
    policy: HarvestPolicy,
) -> tuple[AppraisedLot, ...]:
    """Each lot of one name's queue at `price` (USD a share), with its role, rate and trigger, in the order given.

    `homes` maps the id of a parked replacement lot to the name it was bought for; a home in `unbuyable` is locked.
    Raises ValueError unless the price is finite and positive.
    """
    require_price(price)
    known = sigma_daily is not None and math.isfinite(sigma_daily) and sigma_daily > 0
    t0 = base_trigger(sigma_daily, policy.round_trip_cost_bps) if known and sigma_daily is not None else None
    rates = {one: tax_rate(profile, one) for one in Term}

    def appraised(lot: Lot) -> AppraisedLot:
        home = homes.get(lot.lot_id, lot.symbol)
        if home == lot.symbol:
            role = LotRole.OWN
        else:
            role = LotRole.REPLACEMENT_HOME_LOCKED if home in unbuyable else LotRole.REPLACEMENT_HOME_FREE
        if_sold = lot_term(lot, today)
        if not needs_volatility(long_term=if_sold is Term.LONG, role=role, profile=profile):
            trigger = fixed_trigger(policy)
        elif t0 is None:
            trigger = NEVER
        else:
            trigger = trigger_of_age(t0, (today - lot.adjusted_acquired).days, role, profile, policy)
        gain = lot.quantity * price - lot.basis_at(price) if lot.basis_known else ZERO
        return AppraisedLot(lot, price, gain, rates[if_sold], role, trigger)

    return tuple(appraised(lot) for lot in queue)


# ------------------------------------------------------------------ sets of lots


@dataclass(frozen=True)
class Candidate:
    """Lots that could be sold together, in disposal order. `counted` are those whose saving counts."""

    lots: tuple[AppraisedLot, ...]
    counted: tuple[AppraisedLot, ...]
    tax_value_usd: Decimal  # tax saved by the counted losses less tax on the gains, before cost
    cost_usd: Decimal  # round trip of everything sold
    net_loss_usd: Decimal  # losses less gains of everything sold; positive for a loss

    @property
    def net_value_usd(self) -> Decimal:
        """Tax value after the round trip."""
        return self.tax_value_usd - self.cost_usd

    def is_worth_it(self, policy: HarvestPolicy) -> bool:
        """True when it earns more than it costs and is large enough for an order."""
        return _is_worth_it(self.net_value_usd, self.net_loss_usd, policy)


def _is_worth_it(net_value_usd: Decimal, net_loss_usd: Decimal, policy: HarvestPolicy) -> bool:
    return net_value_usd > 0 and net_loss_usd >= policy.minimum_loss_usd


def reachable(lots: Sequence[AppraisedLot]) -> tuple[AppraisedLot, ...]:
    """The part of an ordered queue in front of the first lot whose basis is not known."""
    for place, each in enumerate(lots):
        if not each.lot.basis_known:
            return tuple(lots[:place])
    return tuple(lots)


def best_prefix(
    lots: Sequence[AppraisedLot], takeable: Sequence[AppraisedLot], policy: HarvestPolicy
) -> Candidate | None:
    """The worthwhile reachable prefix of highest value after cost, else the best that falls short.

    Equals go to the shortest. None when no takeable lot can be reached.
    """
    if not takeable:
        return None
    in_front = reachable(lots)
    best = max(_prefixes(in_front, takeable, policy), key=lambda each: each.rank(policy), default=None)
    return None if best is None else _candidate(in_front, takeable, best)


def longest_prefix(
    lots: Sequence[AppraisedLot], counted: Sequence[AppraisedLot], policy: HarvestPolicy
) -> Candidate | None:
    """Everything up to the last of `counted`; None when there are none."""
    *_, last = None, *_prefixes(lots, counted, policy)
    return None if last is None else _candidate(lots, counted, last)


def free_choice(takeable: Sequence[AppraisedLot], policy: HarvestPolicy) -> Candidate | None:
    """The takeable lots that each earn their own round trip, as one sale; all of them where none does."""
    paying = [each for each in takeable for alone in _prefixes([each], [each], policy) if alone.net_value_usd > 0]
    together = paying or takeable
    return longest_prefix(together, together, policy)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What the first `length` lots of a queue are worth together; the figures are those of `Candidate`."""

    length: int
    tax_value_usd: Decimal
    cost_usd: Decimal
    net_loss_usd: Decimal

    @property
    def net_value_usd(self) -> Decimal:
        return self.tax_value_usd - self.cost_usd

    def rank(self, policy: HarvestPolicy) -> tuple[bool, Decimal]:
        """What pays for itself and is large enough before what does not; then by value after cost."""
        net = self.net_value_usd
        return _is_worth_it(net, self.net_loss_usd, policy), net


def _prefixes(
    lots: Sequence[AppraisedLot], counted: Iterable[AppraisedLot], policy: HarvestPolicy
) -> Iterator[_Prefix]:
    """Every prefix of `lots` that ends at one of `counted`, shortest first."""
    ids = {each.lot.lot_id for each in counted}
    cost_rate = Decimal(repr(policy.round_trip_cost_bps)) * BASIS_POINT
    tax_value = cost = net_loss = ZERO
    for length, each in enumerate(lots, start=1):
        counts = each.lot.lot_id in ids
        cost += each.value_usd * cost_rate
        net_loss -= each.gain_usd
        if counts or each.gain_usd > 0:
            tax_value -= each.gain_usd * each.rate
        if counts:
            yield _Prefix(length, tax_value, cost, net_loss)


def _candidate(lots: Sequence[AppraisedLot], counted: Iterable[AppraisedLot], prefix: _Prefix) -> Candidate:
    ids = {each.lot.lot_id for each in counted}
    sold = tuple(lots[: prefix.length])
    return Candidate(
        lots=sold,
        counted=tuple(each for each in sold if each.lot.lot_id in ids),
        tax_value_usd=prefix.tax_value_usd,
        cost_usd=prefix.cost_usd,
        net_loss_usd=prefix.net_loss_usd,
    )
