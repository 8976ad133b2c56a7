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

from state.lots import lot_term
from state.records import ZERO, Lot, Term
from strategy.timing import LotRole, harvest_trigger, needs_volatility
from strategy.types import HarvestPolicy, TaxProfile

BASIS_POINT = Decimal("0.0001")
NEVER = 1.0  # a trigger of the whole basis: no loss reaches it


# ------------------------------------------------------------------ one lot


@dataclass(frozen=True)
class AppraisedLot:
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
    known_sigma = sigma_daily if sigma_daily is not None and math.isfinite(sigma_daily) and sigma_daily > 0 else None

    def appraised(lot: Lot) -> AppraisedLot:
        home = homes.get(lot.lot_id, lot.symbol)
        if home == lot.symbol:
            role = LotRole.OWN
        else:
            role = LotRole.REPLACEMENT_HOME_LOCKED if home in unbuyable else LotRole.REPLACEMENT_HOME_FREE
        if_sold = lot_term(lot, today)
        long_term = if_sold is Term.LONG
        if known_sigma is None and needs_volatility(long_term=long_term, role=role, profile=profile):
            trigger = NEVER
        else:
            trigger = harvest_trigger(
                sigma_daily=known_sigma or math.nan,
                age_days=(today - lot.adjusted_acquired).days,
                long_term=long_term,
                role=role,
                profile=profile,
                policy=policy,
            )
        gain = lot.quantity * price - lot.basis if lot.basis_known else ZERO
        return AppraisedLot(lot, price, gain, tax_rate(profile, if_sold), role, trigger)

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
        return self.net_value_usd > 0 and self.net_loss_usd >= policy.minimum_loss_usd


def reachable(lots: Sequence[AppraisedLot]) -> tuple[AppraisedLot, ...]:
    """The part of an ordered queue in front of the first lot whose basis is not known."""
    for place, each in enumerate(lots):
        if not each.lot.basis_known:
            return tuple(lots[:place])
    return tuple(lots)


def prefixes(
    lots: Sequence[AppraisedLot], counted: Iterable[AppraisedLot], policy: HarvestPolicy
) -> Iterator[Candidate]:
    """Every prefix of `lots` that ends at one of `counted`, shortest first."""
    ids = {each.lot.lot_id for each in counted}
    cost_rate = Decimal(repr(policy.round_trip_cost_bps)) * BASIS_POINT
    so_far: list[AppraisedLot] = []
    tax_value = cost = net_loss = ZERO
    for place, each in enumerate(lots):
        counts = each.lot.lot_id in ids
        cost += each.value_usd * cost_rate
        net_loss -= each.gain_usd
        if counts or each.gain_usd > 0:
            tax_value -= each.gain_usd * each.rate
        if counts:
            so_far.append(each)
            yield Candidate(tuple(lots[: place + 1]), tuple(so_far), tax_value, cost, net_loss)


def together(lots: Sequence[AppraisedLot], policy: HarvestPolicy) -> Candidate | None:
    """All of `lots` and nothing else; None when there are none."""
    return max(prefixes(lots, lots, policy), key=lambda each: len(each.lots), default=None)


def best_prefix(
    lots: Sequence[AppraisedLot], takeable: Sequence[AppraisedLot], policy: HarvestPolicy
) -> Candidate | None:
    """The worthwhile reachable prefix of highest value after cost, else the best that falls short.

    Equals go to the shortest. None when no takeable lot can be reached.
    """
    return max(
        prefixes(reachable(lots), takeable, policy),
        key=lambda each: (each.is_worth_it(policy), each.net_value_usd),
        default=None,
    )


def free_choice(takeable: Sequence[AppraisedLot], policy: HarvestPolicy) -> Candidate | None:
    """The takeable lots that each earn their own round trip, as one sale; all of them where none does."""
    paying = [each for each in takeable for alone in prefixes([each], [each], policy) if alone.net_value_usd > 0]
    return together(paying or takeable, policy)
