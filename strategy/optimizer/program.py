"""What the optimizer is asked and what it answers.

Axes: n names, L lots, k factors, p tax pieces. Arrays are float64 unless said. Weights, lots, gains and trades are
fractions of net asset value (NAV); variances and tracking error are annual; half spreads are costs per unit of weight
traded; cash is `1 - sum(weights)`, before trading costs. A limit is switched off by infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from strategy.types import BoolArray, FloatArray, IntArray

Relief = Literal["free", "ordered"]
Status = Literal["optimal", "near_optimal", "infeasible", "stopped", "failed"]

LOTS_OVER_WEIGHT = 1e-6  # how far a name's lots may add up to more than its weight: float noise, not shares
ASYMMETRY = 1e-8  # relative; a covariance further from symmetric than this is a mistake, not rounding
INDEFINITE = 1e-8  # relative to the largest eigenvalue


@dataclass(frozen=True, eq=False)
class Limits:
    """What the plan is judged by and must keep. Infinity switches a limit off.

    `risk_aversion` and `tax_weight` weigh annual active variance and tax in the objective; both are finite.
    """

    risk_aversion: float
    tax_weight: float
    tracking_error_max: float  # annual, fraction
    name_weight_max: FloatArray  # (n,); a name that cannot be sold below it may stay where it is
    sector_deviation_max: float  # of a sector's active weight, either way
    factor_exposure_min: FloatArray  # (k,) of the active exposure
    factor_exposure_max: FloatArray  # (k,)
    turnover_max: float  # sum of sells plus sum of buys
    net_gain_max: float  # realized short plus long, net
    cash_min: float
    cash_max: float
    lot_age_hygiene: float = 0.0  # h of docs/METHODS.md: the price of burying a new lot behind old gains; 0 is off


@dataclass(frozen=True, eq=False)
class LotProgram:
    """One account at one instant, as the optimizer sees it."""

    weights_held: FloatArray  # (n,)
    benchmark_weights: FloatArray  # (n,)
    lot_name: IntArray  # (L,) index of the lot's name
    lot_weight: FloatArray  # (L,)
    lot_gain: FloatArray  # (L,) gain per unit of weight sold, 1 - basis/price; negative for a loss
    lot_long_term: BoolArray  # (L,)
    lot_order: IntArray  # (L,) order of disposal within the name, lowest first; ties go by position in the array
    relief: Relief  # "free": the sale names its lots; "ordered": the broker takes them in lot_order
    tax_pieces: FloatArray  # (p, 3): tax = max over rows of a * net_short + b * net_long + c
    half_spread: FloatArray  # (n,)
    factor_loadings: FloatArray  # (n, k)
    factor_covariance: FloatArray  # (k, k)
    specific_variance: FloatArray  # (n,)
    sector: IntArray  # (n,) any labels
    may_buy: BoolArray  # (n,)
    may_sell: BoolArray  # (L,)
    limits: Limits
    labels: tuple[str, ...] = ()  # (n,) what sentences call the names; their index where empty

    def label(self, name: int) -> str:
        """What a sentence calls a name."""
        return self.labels[name] if self.labels else str(name)


@dataclass(frozen=True, eq=False)
class Solution:
    """The plan, what it costs and how good it is. `sell` and `buy` are zero unless `status` carries trades."""

    sell: FloatArray  # (L,)
    buy: FloatArray  # (n,)
    status: Status
    objective: float  # of the trades; infinity without a plan
    certified_gap_bp: float  # at most this far from the best plan, in basis points of NAV; infinity without a plan
    tracking_error: float  # annual, after the trades
    binding: tuple[str, ...]  # limits that bind, and what relaxing each would be worth
    reasons: tuple[str, ...]  # why there is no plan, or what is less than perfect about it
    seconds: float

    @property
    def has_plan(self) -> bool:
        """True when the trades may be used."""
        return self.status in ("optimal", "near_optimal")


def validated(program: LotProgram) -> LotProgram:
    """The same program with canonical dtypes; ValueError naming field, expected and seen where it makes no sense."""
    n = _length("weights_held", program.weights_held)
    L = _length("lot_name", program.lot_name)
    k = np.asarray(program.factor_covariance).shape[0] if np.ndim(program.factor_covariance) == 2 else 0
    held = _weights("weights_held", program.weights_held, n)
    lot_name = _integers("lot_name", program.lot_name, L)
    lot_weight = _weights("lot_weight", program.lot_weight, L)
    if L and (lot_name.min() < 0 or lot_name.max() >= n):
        raise ValueError(f"lot_name: Expected indices from 0 to {n - 1}, was {lot_name.min()} to {lot_name.max()}")
    excess = np.bincount(lot_name, lot_weight, n) - held
    if n and excess.max() > LOTS_OVER_WEIGHT:
        worst = int(excess.argmax())
        raise ValueError(
            f"lot_weight: Expected the lots of name {worst} to add up to at most its weight {held[worst]:.9f}, "
            f"was {held[worst] + excess[worst]:.9f}"
        )
    if program.relief not in ("free", "ordered"):
        raise ValueError(f"relief: Expected 'free' or 'ordered', was {program.relief!r}")
    return LotProgram(
        weights_held=held,
        benchmark_weights=_weights("benchmark_weights", program.benchmark_weights, n),
        lot_name=lot_name,
        lot_weight=lot_weight,
        lot_gain=_floats("lot_gain", program.lot_gain, (L,)),
        lot_long_term=_flags("lot_long_term", program.lot_long_term, L),
        lot_order=_integers("lot_order", program.lot_order, L),
        relief=program.relief,
        tax_pieces=_tax_pieces(program.tax_pieces),
        half_spread=_weights("half_spread", program.half_spread, n),
        factor_loadings=_floats("factor_loadings", program.factor_loadings, (n, k)),
        factor_covariance=_covariance(program.factor_covariance, k),
        specific_variance=_weights("specific_variance", program.specific_variance, n),
        sector=_integers("sector", program.sector, n),
        may_buy=_flags("may_buy", program.may_buy, n),
        may_sell=_flags("may_sell", program.may_sell, L),
        limits=_limits(program.limits, n, k),
        labels=program.labels,
    )


# ------------------------------------------------------------------ one field at a time


def _length(field: str, value: ArrayLike) -> int:
    if np.ndim(value) != 1:
        raise ValueError(f"{field}: Expected one axis, was shape {np.shape(value)}")
    return len(np.asarray(value))


def _shaped(field: str, value: ArrayLike, shape: tuple[int, ...]) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{field}: Expected shape {shape}, was {np.shape(value)}")


def _floats(field: str, value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    _shaped(field, value, shape)
    array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{field}: Expected finite numbers, was {array[tuple(where)]} at {where.tolist()}")
    return array


def _weights(field: str, value: ArrayLike, length: int) -> FloatArray:
    array = _floats(field, value, (length,))
    if length and array.min() < 0:
        raise ValueError(f"{field}: Expected numbers from 0, was {array.min()} at [{int(array.argmin())}]")
    return array


def _integers(field: str, value: ArrayLike, length: int) -> IntArray:
    _shaped(field, value, (length,))
    array = np.asarray(value)
    if length and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{field}: Expected integers, was {array.dtype}")
    return array.astype(np.int64)


def _flags(field: str, value: ArrayLike, length: int) -> BoolArray:
    _shaped(field, value, (length,))
    array = np.asarray(value)
    if length and array.dtype != np.bool_:
        raise ValueError(f"{field}: Expected booleans, was {array.dtype}")
    return array.astype(np.bool_)


def _tax_pieces(value: ArrayLike) -> FloatArray:
    if np.ndim(value) != 2 or np.shape(value)[0] < 1 or np.shape(value)[1] != 3:
        raise ValueError(f"tax_pieces: Expected shape (p, 3) with at least one row, was {np.shape(value)}")
    pieces = _floats("tax_pieces", value, np.shape(value))
    if pieces[:, :2].min() < 0:
        raise ValueError(f"tax_pieces: Expected rates from 0, was {pieces[:, :2].min()}")
    return pieces


def _covariance(value: ArrayLike, k: int) -> FloatArray:
    covariance = _floats("factor_covariance", value, (k, k))
    if not k:
        return covariance
    scale = max(float(np.abs(covariance).max()), 1e-300)
    if np.abs(covariance - covariance.T).max() > ASYMMETRY * scale:
        raise ValueError("factor_covariance: Expected a symmetric matrix, was not")
    lowest = float(np.linalg.eigvalsh(covariance)[0])
    if lowest < -INDEFINITE * scale * k:
        raise ValueError(f"factor_covariance: Expected no negative eigenvalue, was {lowest:.3g}")
    return (covariance + covariance.T) / 2


def _scalar(field: str, value: float, *, low: float = -np.inf, finite: bool = False) -> float:
    number = float(value)
    if np.isnan(number) or number < low or (finite and np.isinf(number)):
        kind = "a finite number" if finite else "a number"
        raise ValueError(f"limits.{field}: Expected {kind}{'' if np.isinf(low) else f' from {low:g}'}, was {value}")
    return number


def _bounds(field: str, value: ArrayLike, length: int) -> FloatArray:
    _shaped(f"limits.{field}", value, (length,))
    array = np.asarray(value, dtype=np.float64)
    if np.isnan(array).any():
        raise ValueError(f"limits.{field}: Expected numbers, was nan at [{int(np.isnan(array).argmax())}]")
    return array


def _limits(limits: Limits, n: int, k: int) -> Limits:
    cap = _bounds("name_weight_max", limits.name_weight_max, n)
    if n and cap.min() < 0:
        raise ValueError(f"limits.name_weight_max: Expected numbers from 0, was {cap.min()} at [{int(cap.argmin())}]")
    low = _bounds("factor_exposure_min", limits.factor_exposure_min, k)
    high = _bounds("factor_exposure_max", limits.factor_exposure_max, k)
    if (low > high).any():
        j = int((low > high).argmax())
        raise ValueError(f"limits.factor_exposure_min: Expected at most the maximum {high[j]} of [{j}], was {low[j]}")
    cash_min, cash_max = _scalar("cash_min", limits.cash_min), _scalar("cash_max", limits.cash_max)
    if cash_min > cash_max:
        raise ValueError(f"limits.cash_min: Expected at most cash_max {cash_max}, was {cash_min}")
    hygiene = _scalar("lot_age_hygiene", limits.lot_age_hygiene, low=0)
    return Limits(
        risk_aversion=_scalar("risk_aversion", limits.risk_aversion, low=0, finite=True),
        tax_weight=_scalar("tax_weight", limits.tax_weight, low=0, finite=True),
        tracking_error_max=_scalar("tracking_error_max", limits.tracking_error_max, low=0),
        name_weight_max=cap,
        sector_deviation_max=_scalar("sector_deviation_max", limits.sector_deviation_max, low=0),
        factor_exposure_min=low,
        factor_exposure_max=high,
        turnover_max=_scalar("turnover_max", limits.turnover_max, low=0),
        net_gain_max=_scalar("net_gain_max", limits.net_gain_max),
        cash_min=cash_min,
        cash_max=cash_max,
        lot_age_hygiene=0.0 if np.isinf(hygiene) else hygiene,
    )
