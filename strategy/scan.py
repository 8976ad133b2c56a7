"""Which losses are worth taking now, and why the others are not: one answer for each name with a loss.

The gates, in the order in which they answer (strategy.appraisal says what a prefix is worth):

    our lots cannot be trusted                         SYMBOL_LOCKED
    no known loss, or none that can be reached         HARVEST_BASIS_UNKNOWN
    no lot has reached its trigger                     HARVEST_BELOW_TRIGGER, or DATA_HISTORY_SHORT without volatility
    a purchase within 30 days would disallow the loss  WASH_PURCHASE_IN_WINDOW
    nothing may be bought instead                      REPLACEMENT_NONE_FREE
    worth it alone, but not with the gains in front    RELIEF_BEHIND_GAINS
    worth less than the round trip or an order         HARVEST_TOO_SMALL
    otherwise                                          HARVEST_TAKEN

A parked replacement whose home may be bought again goes home: it needs no replacement of its own, and a sale whose
counted lots all go home is a HOMECOMING.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from state.reasons import Reason, ReasonCode, because
from state.records import ZERO, Lot, TradeReason
from strategy.appraisal import (
    NEVER,
    AppraisedLot,
    Candidate,
    appraise,
    best_prefix,
    free_choice,
    longest_prefix,
    reachable,
    require_price,
)
from strategy.types import BlockedLoss, HarvestPolicy, Opportunity, TaxProfile, WashMasks


def scan(
    *,
    today: date,
    queues: Mapping[str, Sequence[Lot]],
    prices: Mapping[str, Decimal],
    volatility: Mapping[str, float],
    masks: WashMasks,
    replacements: Mapping[str, tuple[str, ...]],
    homes: Mapping[str, str],
    locked: frozenset[str],
    profile: TaxProfile,
    policy: HarvestPolicy,
    ordered: bool = True,
) -> tuple[Opportunity, ...]:
    """Exactly one Opportunity, taken or not, for each name that holds a loss lot, by name.

    `queues`: the lots of one account in the order its broker disposes of them; `prices` in USD a share; `volatility`
    EWMA standard deviation of daily returns, fractions (NaN or absent where unknown); `replacements` what may be
    bought instead of each name; `homes` lot id -> the name that a parked replacement lot stands in for; `locked`
    names whose lots are not trusted. `ordered` is False where the account may sell any set of lots.

    A lot of unknown basis counts as a loss. Names without a price are left out.
    Raises ValueError for a price that is not finite and positive.
    """
    unbuyable = locked | masks.no_buy.keys()
    found = []
    for symbol, queue in sorted(queues.items()):
        price = prices.get(symbol)
        if price is None:
            continue
        require_price(price)
        if not any(_may_be_loss(lot, price) for lot in queue):
            continue
        lots = appraise(
            queue,
            today=today,
            price=price,
            sigma_daily=volatility.get(symbol),
            homes=homes,
            unbuyable=unbuyable,
            profile=profile,
            policy=policy,
        )
        gates = _Gates(symbol in locked, masks.no_loss_sale.get(symbol), replacements.get(symbol, ()))
        found.append(_opportunity(symbol, lots, gates, today=today, homes=homes, policy=policy, ordered=ordered))
    return tuple(found)


def blocked_losses(queues: Mapping[str, Sequence[Lot]], prices: Mapping[str, Decimal]) -> tuple[BlockedLoss, ...]:
    """Losses behind a gain lot in each ordered queue, by name; names without any, or without a price, are left out.

    `gains_in_front_usd` is what selling up to the last of those losses would realize in gains. Lots of unknown basis
    have no known loss and are passed over.
    """
    found = []
    for symbol, queue in sorted(queues.items()):
        price = prices.get(symbol)
        if price is None:
            continue
        require_price(price)
        blocked = gains = gains_in_front = ZERO
        for lot in queue:
            gain = lot.quantity * price - lot.basis_at(price) if lot.basis_known else ZERO
            if gain > 0:
                gains += gain
            elif gain < 0 and gains > 0:
                blocked -= gain
                gains_in_front = gains
        if blocked > 0:
            found.append(BlockedLoss(symbol, blocked, gains_in_front))
    return tuple(found)


def _may_be_loss(lot: Lot, price: Decimal) -> bool:
    return not lot.basis_known or lot.quantity * price < lot.basis_at(price)


@dataclass(frozen=True)
class _Gates:
    """What can forbid a sale that would be worth it, for one name."""

    is_locked: bool
    window: tuple[date, str] | None
    replacements: tuple[str, ...]


def _opportunity(
    symbol: str,
    lots: Sequence[AppraisedLot],
    gates: _Gates,
    *,
    today: date,
    homes: Mapping[str, str],
    policy: HarvestPolicy,
    ordered: bool,
) -> Opportunity:
    """One name's answer. Where nothing is past its trigger it shows the lots up to the one nearest to it."""
    losses = [each for each in lots if each.is_loss]
    triggered = [each for each in losses if each.is_triggered]
    takeable = [each for each in triggered if each.goes_home or gates.replacements]

    def choose(among: Sequence[AppraisedLot]) -> Candidate | None:
        return best_prefix(lots, among, policy) if ordered else free_choice(among, policy)

    best = choose(takeable)
    shown = best or choose(triggered)
    nearest = None if shown else max(losses, key=_nearness, default=None)
    verdict = _forbidden(nearest, triggered, takeable, gates) or _worth(lots, takeable, best, ordered, policy)
    if shown is None:
        shown = _up_to(nearest, losses, lots, policy, ordered)
    homecoming = bool(shown.counted) and all(each.goes_home for each in shown.counted)
    destinations = gates.replacements
    if homecoming:
        destinations = tuple(dict.fromkeys(homes[each.lot.lot_id] for each in reversed(shown.counted)))
    lost = [each for each in shown.lots if each.is_loss]
    basis = sum((each.lot.basis for each in shown.lots if each.lot.basis_known), ZERO)
    return Opportunity(
        symbol=symbol,
        lots=tuple(each.lot for each in shown.lots),
        price=lots[0].price,
        loss_usd=shown.net_loss_usd,
        gross_loss_usd=-sum((each.gain_usd for each in lost), ZERO),
        loss_fraction=float(shown.net_loss_usd / basis) if basis > 0 else 0.0,
        trigger_fraction=_mean_trigger(shown.counted),
        tax_value_usd=shown.tax_value_usd,
        days_held=max(((today - each.lot.acquired).days for each in lost), default=0),
        taken=verdict.code is ReasonCode.HARVEST_TAKEN,
        verdict=verdict,
        replacements=destinations,
        reason=TradeReason.HOMECOMING if homecoming else TradeReason.HARVEST,
    )


def _forbidden(
    nearest: AppraisedLot | None, triggered: Sequence[AppraisedLot], takeable: Sequence[AppraisedLot], gates: _Gates
) -> Reason | None:
    """The first of the gates that has nothing to do with what the sale would be worth; None when all are open.

    `nearest` is the loss lot nearest its trigger: asked about where none has reached it, None where there is no loss.
    """
    if gates.is_locked:
        return because(ReasonCode.SYMBOL_LOCKED)
    if not triggered:
        if nearest is None:
            return because(ReasonCode.HARVEST_BASIS_UNKNOWN)
        if nearest.trigger >= NEVER:
            return because(ReasonCode.DATA_HISTORY_SHORT)
        depth, trigger = f"{nearest.loss_fraction:.4f}", f"{nearest.trigger:.4f}"
        return because(ReasonCode.HARVEST_BELOW_TRIGGER, loss=depth, trigger=trigger)
    if gates.window is not None:
        until, why = gates.window
        return because(ReasonCode.WASH_PURCHASE_IN_WINDOW, until=until, why=why)
    if not takeable:
        return because(ReasonCode.REPLACEMENT_NONE_FREE)
    return None


def _worth(
    lots: Sequence[AppraisedLot],
    takeable: Sequence[AppraisedLot],
    best: Candidate | None,
    ordered: bool,
    policy: HarvestPolicy,
) -> Reason:
    """Whether the best sale of takeable lots earns its cost, and if not, whether the queue is to blame."""
    if best is None:
        return because(ReasonCode.HARVEST_BASIS_UNKNOWN)
    if best.is_worth_it(policy):
        return because(ReasonCode.HARVEST_TAKEN)
    alone = free_choice(takeable, policy)
    whole = longest_prefix(reachable(lots), takeable, policy) if ordered else None
    if whole is not None and alone is not None and alone.is_worth_it(policy):
        gains = sum((each.gain_usd for each in whole.lots if each.gain_usd > 0), ZERO)
        if gains > 0:
            loss = sum((-each.gain_usd for each in whole.lots if each.is_loss), ZERO)
            return because(ReasonCode.RELIEF_BEHIND_GAINS, gains_in_front=f"{gains:.2f}", loss=f"{loss:.2f}")
    small = alone if alone is not None and best.net_loss_usd < 0 else best  # the loss itself, not gains in front
    return because(
        ReasonCode.HARVEST_TOO_SMALL,
        loss=f"{small.net_loss_usd:.2f}",
        minimum=policy.minimum_loss_usd,
        value=f"{small.tax_value_usd:.2f}",
        cost=f"{small.cost_usd:.2f}",
    )


def _up_to(
    nearest: AppraisedLot | None,
    losses: Sequence[AppraisedLot],
    lots: Sequence[AppraisedLot],
    policy: HarvestPolicy,
    ordered: bool,
) -> Candidate:
    """What would be sold if the loss lot nearest its trigger were sold today: shown, never proposed."""
    if nearest is None:
        return Candidate((), (), ZERO, ZERO, ZERO)
    if ordered:
        until = next(place for place, each in enumerate(lots, start=1) if each is nearest)
        found = longest_prefix(lots[:until], losses, policy)
    else:
        found = longest_prefix([nearest], [nearest], policy)
    assert found is not None  # it ends at `nearest`
    return found


def _nearness(each: AppraisedLot) -> float:
    """Loss in units of the trigger; 1 or more is triggered."""
    return each.loss_fraction / each.trigger if each.trigger > 0 else float("inf")


def _mean_trigger(lots: Sequence[AppraisedLot]) -> float:
    """The lots' triggers weighted by basis: the loss fraction at which they would be taken together; 0 for none."""
    basis = sum((each.lot.basis for each in lots), ZERO)
    return sum(each.trigger * float(each.lot.basis / basis) for each in lots) if basis > 0 else 0.0
