"""Random books for the optimizer's tests: a factor model, lots with a history of their own, masks and limits."""

from __future__ import annotations

import numpy as np

from strategy.optimizer import Limits, LotProgram, Relief

SHORT, LONG = 0.408, 0.238


def limits(n: int, k: int, **changed: object) -> Limits:
    """Every limit off, but for what is given."""
    fields: dict[str, object] = {
        "risk_aversion": 10.0,
        "tax_weight": 1.0,
        "tracking_error_max": np.inf,
        "name_weight_max": np.full(n, np.inf),
        "sector_deviation_max": np.inf,
        "factor_exposure_min": np.full(k, -np.inf),
        "factor_exposure_max": np.full(k, np.inf),
        "turnover_max": np.inf,
        "net_gain_max": np.inf,
        "cash_min": 0.0,
        "cash_max": 1.0,
        "lot_age_hygiene": 0.0,
    }
    return Limits(**{**fields, **changed})  # type: ignore[arg-type]


def flat(short: float = SHORT, long: float = LONG) -> np.ndarray:
    """One tax piece."""
    return np.array([[short, long, 0.0]])


def pieces() -> np.ndarray:
    """Net short and net long taxed apart or netted against each other, and losses beyond a cap worth less."""
    return np.array([[SHORT, LONG, 0.0], [LONG, LONG, 0.0], [0.05, 0.05, -0.001]])


def random_book(
    n: int,
    seed: int,
    *,
    relief: Relief = "free",
    lots: tuple[int, int] = (1, 6),
    k: int = 4,
    tracking_error: float = 0.02,
    masks: float = 0.1,
    tax_pieces: np.ndarray | None = None,
    **changed: object,
) -> LotProgram:
    """A drifted index book with lots bought along a random path; feasible for moderate limits."""
    rng = np.random.default_rng(seed)
    sectors, F, Omega, D = _risk(n, k, rng)
    size = rng.pareto(1.2, n) + 0.1
    benchmark = size / size.sum()
    held = benchmark * np.exp(0.3 * rng.standard_normal(n)) * (rng.random(n) > 0.1)
    if not held.any():
        held[0] = 1.0
    held *= 0.99 / held.sum()
    count = np.where(held > 0, rng.integers(lots[0], lots[1] + 1, n), 0)
    name = np.repeat(np.arange(n), count)
    L = len(name)
    share = rng.exponential(1, L) + 0.05
    weight = held[name] * share / np.bincount(name, share, n)[name]
    order = np.concatenate([rng.permutation(c) for c in count]) if L else np.zeros(0, dtype=int)
    gain = 1 - np.exp(-(0.25 * rng.standard_normal(L) + 0.05))
    cap = np.maximum(np.maximum(0.06, benchmark + 0.03), held)
    base: dict[str, object] = {
        "tracking_error_max": tracking_error,
        "name_weight_max": cap,
        "sector_deviation_max": 0.06,
        "factor_exposure_min": np.full(k, -0.15),
        "factor_exposure_max": np.full(k, 0.15),
        "turnover_max": 0.5,
        "cash_min": 0.002,
        "cash_max": 0.02,
    }
    return LotProgram(
        weights_held=held,
        benchmark_weights=benchmark,
        lot_name=name,
        lot_weight=weight,
        lot_gain=gain,
        lot_long_term=rng.random(L) < 0.5,
        lot_order=order,
        relief=relief,
        tax_pieces=flat() if tax_pieces is None else tax_pieces,
        half_spread=(1 + 4 * rng.random(n)) * 1e-4,
        factor_loadings=F,
        factor_covariance=Omega,
        specific_variance=D,
        sector=sectors,
        may_buy=rng.random(n) >= masks,
        may_sell=~((gain < 0) & (rng.random(n) < masks)[name]),
        limits=limits(n, k, **{**base, **changed}),
    )


def _risk(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sectors (n,), loadings (n, k), factor covariance (k, k) and specific variances (n,): a market, small factors."""
    sectors = rng.integers(0, max(2, n // 5), n)
    F = np.column_stack([1 + 0.25 * rng.standard_normal(n), rng.standard_normal((n, k - 1))])
    A = 0.2 * rng.standard_normal((k, k))
    volatility = np.concatenate(([0.16], np.full(k - 1, 0.03)))
    Omega = (np.eye(k) + A @ A.T) * np.outer(volatility, volatility)
    D = (0.14 + 0.2 * rng.random(n)) ** 2
    return sectors, F, Omega, D
