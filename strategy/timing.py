"""When a loss is deep enough to take: the closed form of an optimal-stopping boundary.

A loss taken today saves tax today and gives up the right to take a deeper one tomorrow. A dynamic program over loss
depth, age up to the one-year step and lock state (docs/METHODS.md; validated 2014-2016, tested
2017-2026) finds the depth at which taking beats waiting; the closed form below is within about 3 bp a year of it.

    lot                                   harvest at a loss of at least
    ------------------------------------  --------------------------------------------
    the name itself, short-term           T0(sigma) sqrt(1 - (age / 365)^4)
    any lot, long-term                    0.6 %
    a replacement, its home buyable       0.6 %, and go back to the home
    a replacement, its home locked        1.09 T0(sigma of the replacement) x the same age factor

The boundary falls to nothing at one year because a short-term loss is worth more than a long-term one and lapses
there. Where the household has no short-term gains both are worth the same: nothing lapses, there is no step, and
the boundary is about 10 % at every age.
"""

from __future__ import annotations

import math
from enum import StrEnum

from strategy.types import HarvestPolicy, TaxProfile

# All from docs/METHODS.md.
DEPTH_IN_MONTHLY_SIGMAS = 0.95  # T0 in units of one month's standard deviation
SESSIONS_A_MONTH = 21
REFERENCE_SIGMA = 0.016  # a typical stock's daily volatility, as a fraction
REFERENCE_COST_BPS = 10.0
SIGMA_EXPONENT = -0.2  # volatile names are harvested at fewer sigmas
COST_EXPONENT = 0.2
LOCKED_REPLACEMENT_FACTOR = 1.09
AGE_POWER = 4  # the boundary stays high for most of the year and then drops
STEP_DAYS = 365
ONE_RATE_TRIGGER = 0.10  # without short-term gains, at the reference volatility and cost
LEAST_COST_BPS = 1.0  # our bound: the power law would send the trigger to zero with the cost


class LotRole(StrEnum):
    """What a lot is to the portfolio, as far as timing goes."""

    OWN = "own"  # the name itself
    REPLACEMENT_HOME_FREE = "replacement_home_free"  # parked for another name, which may be bought again
    REPLACEMENT_HOME_LOCKED = "replacement_home_locked"  # parked for another name, still inside its window


def base_trigger(sigma_daily: float, round_trip_cost_bps: float) -> float:
    """T0 = 0.95 sigma sqrt(21) (sigma / 0.016)^-0.2 (cost / 10 bp)^0.2, a fraction of basis (docs/METHODS.md).

    `sigma_daily` is the EWMA standard deviation of daily returns, a fraction; 0.016 gives about 0.07. Costs below
    1 bp count as 1 bp. Raises ValueError unless `sigma_daily` is finite and positive and the cost not negative.
    """
    if not (math.isfinite(sigma_daily) and sigma_daily > 0):
        raise ValueError(f"Expected a positive daily volatility, was {sigma_daily}")
    if not (math.isfinite(round_trip_cost_bps) and round_trip_cost_bps >= 0):
        raise ValueError(f"Expected a round-trip cost of 0 bp or more, was {round_trip_cost_bps}")
    cost_bps = max(round_trip_cost_bps, LEAST_COST_BPS)
    by_volatility = math.pow(sigma_daily / REFERENCE_SIGMA, SIGMA_EXPONENT)
    by_cost = math.pow(cost_bps / REFERENCE_COST_BPS, COST_EXPONENT)
    return DEPTH_IN_MONTHLY_SIGMAS * sigma_daily * math.sqrt(SESSIONS_A_MONTH) * by_volatility * by_cost


def age_factor(age_days: int) -> float:
    """sqrt(1 - (age / 365)^4): 1 for a new lot, 0.968 at half a year, 0 from day 365 on."""
    return math.sqrt(max(0.0, 1.0 - (age_days / STEP_DAYS) ** AGE_POWER))


def needs_volatility(*, long_term: bool, role: LotRole, profile: TaxProfile) -> bool:
    """True when the lot's trigger depends on volatility; the 0.6 % triggers do not."""
    if role is LotRole.REPLACEMENT_HOME_FREE:
        return False
    return not (long_term and profile.has_short_term_gains)


def harvest_trigger(
    *,
    sigma_daily: float,
    age_days: int,
    long_term: bool,
    role: LotRole,
    profile: TaxProfile,
    policy: HarvestPolicy,
) -> float:
    """The least loss, as a fraction of basis, at which this lot should be sold now.

    `sigma_daily` is that of the security held (a replacement's own, not its home's); `age_days` are calendar days
    since the tacked acquisition date. `policy.multiplier` scales every trigger, the 0.6 % ones too. A home that may
    be bought again is gone back to at 0.6 % under either tax profile: that rule is about the home, not about the year.

    Raises ValueError when the trigger depends on volatility and `sigma_daily` is not finite and positive.
    """
    if not needs_volatility(long_term=long_term, role=role, profile=profile):
        return fixed_trigger(policy)
    t0 = base_trigger(sigma_daily, policy.round_trip_cost_bps)
    return trigger_of_age(t0, age_days, role, profile, policy)


def fixed_trigger(policy: HarvestPolicy) -> float:
    """The 0.6 % trigger, of lots whose trigger does not depend on volatility."""
    return policy.multiplier * policy.long_term_trigger


def trigger_of_age(t0: float, age_days: int, role: LotRole, profile: TaxProfile, policy: HarvestPolicy) -> float:
    """The trigger that depends on volatility. `t0` is the `base_trigger` of the security held, one for all its lots."""
    role_factor = LOCKED_REPLACEMENT_FACTOR if role is LotRole.REPLACEMENT_HOME_LOCKED else 1.0
    if not profile.has_short_term_gains:
        return policy.multiplier * role_factor * TO_ONE_RATE * t0
    return policy.multiplier * role_factor * t0 * age_factor(age_days)


TO_ONE_RATE = ONE_RATE_TRIGGER / base_trigger(REFERENCE_SIGMA, REFERENCE_COST_BPS)
