"""By how much a set of trades breaks each limit. Shares no code with the solver: it is what the solver is checked by.

Written from the definitions, with plain loops where a loop is the definition, so that a mistake in the optimizer's
algebra cannot hide here as well.
"""

from __future__ import annotations

import math

import numpy as np

from strategy.optimizer.program import LotProgram
from strategy.types import FloatArray

DUST = 1e-9  # sold or bought less than this is not a trade


def violations(program: LotProgram, sell: FloatArray, buy: FloatArray) -> dict[str, float]:
    """Excess over each limit, 0 where it is kept. `sell` is (L,), `buy` is (n,), fractions of NAV.

    The unit is the limit's own: weight, except `tracking_error_max` (annual) and the factor bounds (exposure).
    `wash_sale` is the largest weight of a loss sale and a purchase of one name; `relief_order` the largest weight
    sold from a lot although a lot in front of it is not sold out.
    """
    limits = program.limits
    sold = np.zeros(len(program.weights_held))
    np.add.at(sold, program.lot_name, sell)
    weight = program.weights_held - sold + buy
    active = weight - program.benchmark_weights
    exposure = program.factor_loadings.T @ active
    cash = 1.0 - weight.sum()
    found = {
        "not_finite": 0.0 if np.isfinite(sell).all() and np.isfinite(buy).all() else math.inf,
        "negative": max(_top(-sell), _top(-buy)),
        "lot_weight": _top(sell - program.lot_weight),
        "may_sell": _top(sell[~program.may_sell]),
        "may_buy": _top(buy[~program.may_buy]),
        "long_only": _top(-weight),
        "name_weight_max": _top(weight - _lifted_cap(program)),
        "sector_deviation_max": max(
            (abs(float(active[program.sector == label].sum())) for label in np.unique(program.sector)), default=0.0
        )
        - limits.sector_deviation_max,
        "factor_exposure_min": _top(limits.factor_exposure_min - exposure),
        "factor_exposure_max": _top(exposure - limits.factor_exposure_max),
        "turnover_max": float(sell.sum() + buy.sum()) - limits.turnover_max,
        "net_gain_max": float(program.lot_gain @ sell) - limits.net_gain_max,
        "cash_min": limits.cash_min - cash,
        "cash_max": cash - limits.cash_max,
        "tracking_error_max": tracking_error(program, sell, buy) - limits.tracking_error_max,
        "wash_sale": _wash(program, sell, buy),
        "relief_order": _out_of_order(program, sell) if program.relief == "ordered" else 0.0,
    }
    return {limit: max(0.0, float(excess)) for limit, excess in found.items()}


def tracking_error(program: LotProgram, sell: FloatArray, buy: FloatArray) -> float:
    """Annual, after the trades: sqrt(x' (F Omega F' + D) x) with x the active weights."""
    active = program.weights_held + buy - program.benchmark_weights
    np.subtract.at(active, program.lot_name, sell)
    exposure = active @ program.factor_loadings
    common = float(exposure @ program.factor_covariance @ exposure)
    return math.sqrt(max(common + float((program.specific_variance * active**2).sum()), 0.0))


def _top(excess: FloatArray) -> float:
    return float(excess.max()) if excess.size else 0.0


def _queue(program: LotProgram, name: int) -> list[int]:
    """The name's lots in disposal order."""
    lots = np.flatnonzero(program.lot_name == name)
    return sorted((int(lot) for lot in lots), key=lambda lot: (program.lot_order[lot], lot))


def _lifted_cap(program: LotProgram) -> FloatArray:
    """max(cap, held - sellable): a name that may not be sold does not break its cap by staying."""
    cap = program.limits.name_weight_max.copy()
    for name in np.flatnonzero(program.weights_held > cap):
        sellable = 0.0
        for lot in _queue(program, int(name)):
            if program.may_sell[lot]:
                sellable += program.lot_weight[lot]
            elif program.relief == "ordered" and program.lot_weight[lot] > 0:
                break
        cap[name] = max(cap[name], program.weights_held[name] - sellable)
    return cap


def _wash(program: LotProgram, sell: FloatArray, buy: FloatArray) -> float:
    worst = 0.0
    for lot in np.flatnonzero((program.lot_gain < 0) & (sell > DUST)):
        bought = float(buy[program.lot_name[lot]])
        if bought > DUST:
            worst = max(worst, min(float(sell[lot]), bought))
    return worst


def _out_of_order(program: LotProgram, sell: FloatArray) -> float:
    worst = 0.0
    for name in np.unique(program.lot_name[sell > DUST]):
        left_in_front = 0.0
        for lot in _queue(program, int(name)):
            if left_in_front > DUST:
                worst = max(worst, float(sell[lot]))
            left_in_front += float(program.lot_weight[lot] - sell[lot])
    return worst
