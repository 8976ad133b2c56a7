"""Where new money goes: every purchase closes its name to loss sales for 30 days, so it goes where none is near.

What a purchase today puts at risk in a name is the harvest it might have offered before the window closes again:

    at risk = E[V(lowest price of the next 22 sessions)] x share

    lowest   = price x exp(-sigma sqrt(22) |Z|), Z standard normal, so that a barrier b is touched with probability
               2 Phi(-ln(price / b) / (sigma sqrt(22))): the reflection principle for a driftless Brownian motion of
               the log price (Karatzas and Shreve, 2.6; docs/METHODS.md finds no skill in any forecast of the drift)
    V(p)     = value after cost of the best reachable prefix at the price p (strategy.appraisal): 0 until a lot
               touches its trigger, and while gains in front cost more than the losses save. The trigger is the lower
               of today's and that of 31 days on, as it falls with age
    share    = days this purchase adds to a window that is open anyway, of 31

Where V jumps to about v at a single barrier this is the chance of touching it times v. Names are taken by least value
at risk, to the cent, then by largest underweight, then by name. A name without lots has nothing at risk.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from statistics import NormalDist

import numpy as np

from state.lots import WINDOW_DAYS
from state.records import Lot
from strategy.appraisal import NEVER, AppraisedLot, appraise, reachable, require_price
from strategy.types import FloatArray, HarvestPolicy, TaxProfile, WashMasks

CLOSED_DAYS = WINDOW_DAYS + 1  # the day of purchase and the 30 after it
WINDOW_SESSIONS = 22
CLASSES = 40  # of the lowest price
HALF_NORMAL = np.array([NormalDist().inv_cdf(0.5 + (place + 0.5) / CLASSES / 2.0) for place in range(CLASSES)])
UNKNOWN_SIGMA = 0.05  # a day; a name of unknown volatility counts as a very volatile one


def deposit_names(
    *,
    today: date,
    names: Iterable[str],
    queues: Mapping[str, Sequence[Lot]],
    prices: Mapping[str, Decimal],
    volatility: Mapping[str, float],
    masks: WashMasks,
    profile: TaxProfile,
    policy: HarvestPolicy,
    underweight: Mapping[str, float],
    most: int,
    homes: Mapping[str, str] | None = None,
    ordered: bool = True,
) -> tuple[str, ...]:
    """At most `most` of `names` to buy, those first that put the least tax value at risk.

    Only names that are underweight (`underweight` > 0, fraction of net asset value below target), may be bought
    (not in `masks.no_buy`) and have a price (USD). `queues`, `volatility`, `homes` and `ordered` are as in `scan`.
    A name of unknown volatility counts as very volatile, and any loss of it as worth taking.

    Raises ValueError for a price that is not finite and positive, or a negative `most`.
    """
    if most < 0:
        raise ValueError(f"Expected 0 names or more, was {most}")
    candidates = [
        name for name in names if underweight.get(name, 0.0) > 0 and name not in masks.no_buy and name in prices
    ]

    def at_risk(name: str) -> float:
        require_price(prices[name])
        added = _share_added(name, today, masks)
        if not added or not queues.get(name):
            return 0.0
        sigma = volatility.get(name, math.nan)
        moves = sigma if math.isfinite(sigma) and sigma > 0 else UNKNOWN_SIGMA
        now, later = (
            appraise(
                queues[name],
                today=day,
                price=prices[name],
                sigma_daily=sigma,
                homes=homes or {},
                unbuyable=masks.no_buy.keys(),
                profile=profile,
                policy=policy,
            )
            for day in (today, today + timedelta(days=CLOSED_DAYS))
        )
        return value_at_risk(now, later, moves, policy, ordered=ordered) * added

    order = {name: (round(at_risk(name), 2), -underweight[name], name) for name in candidates}
    return tuple(sorted(order, key=order.__getitem__)[:most])


def lowest_prices(price: float, sigma_daily: float) -> FloatArray:
    """Lowest price of the next 22 sessions at the midpoints of 40 equally likely classes, shape (40,), falling."""
    lowest: FloatArray = price * np.exp(-sigma_daily * math.sqrt(WINDOW_SESSIONS) * HALF_NORMAL)
    return lowest


def value_at_risk(
    now: Sequence[AppraisedLot],
    later: Sequence[AppraisedLot],
    sigma_daily: float,
    policy: HarvestPolicy,
    *,
    ordered: bool = True,
) -> float:
    """USD of expected tax value that a window opened today would forbid, before any window already open.

    `now` and `later` are the same queue appraised today and when the window closes.
    """
    pairs = [(a, b) for a, b in zip(now, later, strict=True) if a.lot.basis_known]
    pairs = pairs[: len(reachable(now))] if ordered else pairs
    if not pairs:
        return 0.0
    quantity = np.array([float(each.lot.quantity) for each, _ in pairs])
    basis = np.array([float(each.lot.basis_per_share) for each, _ in pairs])
    rate = np.array([float(each.rate) for each, _ in pairs])
    trigger = np.array([min(a.trigger, b.trigger) for a, b in pairs])
    barrier = basis * (1.0 - np.where(trigger < NEVER, trigger, 0.0))

    lowest = lowest_prices(float(pairs[0][0].price), sigma_daily)[:, None]  # (40, 1) against (L,)
    gain = quantity * (lowest - basis)
    counted = (gain < 0) & (lowest <= barrier)
    cost = quantity * lowest * policy.round_trip_cost_bps / 10_000
    if ordered:
        prefix = np.cumsum(np.where(counted | (gain > 0), -gain * rate, 0.0) - cost, axis=1)
        value = np.where(counted, prefix, 0.0).max(axis=1)
    else:
        value = np.where(counted, -gain * rate - cost, 0.0).clip(0.0).sum(axis=1)
    return float(value.clip(0.0).mean())


def _share_added(name: str, today: date, masks: WashMasks) -> float:
    """Days without loss sales that a purchase today adds to those already forbidden, as a fraction of 31."""
    closes = today + timedelta(days=WINDOW_DAYS)
    already_until = masks.no_loss_sale[name][0] if name in masks.no_loss_sale else today - timedelta(days=1)
    return min(1.0, max(0, (closes - already_until).days) / CLOSED_DAYS)
