"""The risk model: which names move together, estimated from past prices alone.

Form (the one the optimizer wants): returns = B f + e, so that

    covariance = B Omega B' + diag(D)        B (n, k) loadings, Omega (k, k) diagonal, D (n,) specific variance

Estimated by principal components of the exponentially weighted correlation matrix, in five steps, each against one
way in which the plain sample covariance misleads an optimizer (504 sessions, 500 names: 125,000 numbers from noise):

1. Weights halve every `half_life_sessions`; volatility today resembles last month's more than last year's.
2. A missing split or a bad print would be the largest risk of the book: daily returns are clipped at ten robust
   standard deviations of their own name.
3. Only eigenvalues above the largest that pure noise would reach become factors (Marchenko and Pastur, 1967; Laloux
   et al., PRL 83, 1999). With T equal weights that edge is (1 + sqrt(n / T))^2; exponential weights raise it.
4. Sample eigenvalues above the edge are too large; they are mapped back by the inverse of the spiked-model bias
   (Baik and Silverstein, 2006; Donoho, Gavish and Johnstone, Ann. Stat. 46, 2018). Each name keeps its own
   variance: what the factors do not explain is specific.
5. Specific variances are shrunk towards their mean by the share of their spread that is estimation error (the
   intensity of Ledoit and Wolf, 2003, for a diagonal target).

Names with little history: on a session where a name has no return, the mean standardized return of the others
stands in for it (its own volatility is still measured on its own sessions). A name with fewer than 59 returns gets
the others' mean loadings and a specific variance that brings its total variance to their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from strategy.types import BoolArray, FloatArray, PriceHistory

SESSIONS_A_YEAR = 252
MIN_SESSIONS = 60  # closes; below that there is no model
MIN_RETURNS_FOR_VOLATILITY = 20
OUTLIER_SIGMAS = 10.0
MAD_TO_SIGMA = 1.4826  # median absolute deviation of a normal variable to its standard deviation
MOST_FACTORS = 70  # docs/METHODS.md: 20/40/50/70 factors for 100/500/1000/3000 names
LEAST_SPECIFIC_SHARE = 0.01  # of a name's variance
LEAST_SPECIFIC_VARIANCE = 1e-8  # per day (1 bp a day), for a name that never moved: the optimizer divides by D


class HistoryTooShortError(ValueError):
    """There are too few prices for a risk model (DATA_HISTORY_SHORT): no plan until there are more."""


@dataclass(frozen=True, eq=False)
class RiskModel:
    """Factor model of annualised covariance of simple returns, in `names` order. Equal to itself alone.

    `loadings` (n, k); `factor_covariance` (k, k), diagonal, per year; `specific_variance` (n,), per year.
    `sessions_used` is the number of daily returns in the window, `as_of` the last of their sessions.
    """

    names: tuple[str, ...]
    loadings: FloatArray
    factor_covariance: FloatArray
    specific_variance: FloatArray
    as_of: date
    sessions_used: int

    def covariance(self) -> FloatArray:
        """B Omega B' + diag(D), shape (n, n), per year."""
        return self.loadings @ self.factor_covariance @ self.loadings.T + np.diag(self.specific_variance)

    def variances(self) -> FloatArray:
        """Each name's total variance, shape (n,), per year."""
        factor_part: FloatArray = np.einsum("ik,kl,il->i", self.loadings, self.factor_covariance, self.loadings)
        return factor_part + self.specific_variance

    def active_variance(self, x: FloatArray) -> float:
        """x' covariance x for active weights `x` of shape (n,), fractions of net asset value; per year."""
        exposure = self.loadings.T @ x
        return float(exposure @ self.factor_covariance @ exposure + self.specific_variance @ (x * x))

    def tracking_error(self, x: FloatArray) -> float:
        """Expected annual standard deviation of the active return of `x`, a fraction (0.01 is 1 %)."""
        return float(np.sqrt(max(0.0, self.active_variance(x))))

    def correlation(self) -> FloatArray:
        """Correlations, shape (n, n); ones on the diagonal, zero with a name that never moved."""
        deviation = np.sqrt(self.variances())
        inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        correlation: FloatArray = self.covariance() * np.outer(inverse, inverse)
        np.fill_diagonal(correlation, 1.0)
        return correlation


def daily_returns(closes: FloatArray) -> FloatArray:
    """Simple returns, shape (T - 1, n) from closes (T, n); NaN where either close is missing or not positive."""
    known = np.where(np.isfinite(closes) & (closes > 0), closes, np.nan)
    returns: FloatArray = known[1:] / known[:-1] - 1.0
    return returns


def ewma_volatility(history: PriceHistory, decay: float = 0.97) -> FloatArray:
    """Daily volatility of each name, shape (n,), a fraction: sqrt(sum decay^a r^2 / sum decay^a).

    `a` is the age of a return in sessions, over the sessions where the name has one (RiskMetrics, 1996; no mean is
    subtracted). NaN where a name has fewer than 20 returns. Raises ValueError unless 0 < decay <= 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"Expected a decay above 0 and at most 1, was {decay}")
    returns = daily_returns(history.closes)
    if len(returns) == 0:
        return np.full(len(history.names), np.nan)
    weights = decay ** np.arange(len(returns) - 1, -1, -1, dtype=np.float64)
    seen = np.isfinite(returns)
    squares = np.where(seen, returns, 0.0) ** 2
    mass = weights @ seen
    variance = np.divide(weights @ squares, mass, out=np.full(len(mass), np.nan), where=mass > 0)
    volatility: FloatArray = np.where(seen.sum(axis=0) >= MIN_RETURNS_FOR_VOLATILITY, np.sqrt(variance), np.nan)
    return volatility


def estimate_risk_model(
    history: PriceHistory,
    *,
    factors: int | None = None,
    window_sessions: int = 504,
    half_life_sessions: int = 126,
) -> RiskModel:
    """Risk model from the last `window_sessions` returns of `history`; the method is described above.

    `factors` fixes k; by default it is the number of eigenvalues above the noise edge, between 1 and 70.
    Deterministic: the loading of largest magnitude in each factor is positive.

    Raises HistoryTooShortError with fewer than 60 sessions in the window, or when no name has 59 returns in it.
    """
    closes = history.closes[-(window_sessions + 1) :]
    if len(closes) < MIN_SESSIONS:
        raise HistoryTooShortError(f"DATA_HISTORY_SHORT: Expected {MIN_SESSIONS} sessions or more, was {len(closes)}")
    returns = daily_returns(closes)
    enough = np.isfinite(returns).sum(axis=0) >= MIN_SESSIONS - 1
    if not enough.any():
        raise HistoryTooShortError(f"DATA_HISTORY_SHORT: no name has {MIN_SESSIONS - 1} returns in the window")
    weights = 0.5 ** (np.arange(len(returns) - 1, -1, -1) / half_life_sessions)
    weights /= weights.sum()

    standardized, deviation = _standardize(_without_outliers(returns[:, enough]), weights)
    vectors, values = _principal_components(standardized, weights, factors)
    loadings = deviation[:, None] * vectors
    residual = standardized - (standardized @ vectors) @ vectors.T
    unexplained = np.clip(1.0 - (vectors**2) @ values, LEAST_SPECIFIC_SHARE, 1.0)
    specific = _shrink(deviation**2 * unexplained, residual * deviation, weights)

    loadings, specific = _with_newcomers(loadings, values, specific, enough)
    return RiskModel(
        names=history.names,
        loadings=loadings,
        factor_covariance=np.diag(values * SESSIONS_A_YEAR),
        specific_variance=specific * SESSIONS_A_YEAR,
        as_of=history.sessions[-1],
        sessions_used=len(returns),
    )


def _without_outliers(returns: FloatArray) -> FloatArray:
    """Returns (T, n) clipped at ten robust standard deviations around each name's median; NaN stays NaN."""
    median = np.nanmedian(returns, axis=0)
    spread = OUTLIER_SIGMAS * MAD_TO_SIGMA * np.nanmedian(np.abs(returns - median), axis=0)
    reach = np.where(spread > 0, spread, np.inf)
    clipped: FloatArray = np.clip(returns, median - reach, median + reach)
    return clipped


def _standardize(returns: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns (T, n) in units of each name's weighted standard deviation (n,), with gaps filled by the others' mean."""
    seen: BoolArray = np.isfinite(returns)
    held = weights[:, None] * seen
    mass = held.sum(axis=0)
    filled = np.where(seen, returns, 0.0)
    centred = np.where(seen, returns - (held * filled).sum(axis=0) / mass, 0.0)
    deviation: FloatArray = np.sqrt((held * centred**2).sum(axis=0) / mass)
    unit = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    counted = seen.sum(axis=1)
    others = np.divide(unit.sum(axis=1), counted, out=np.zeros(len(unit)), where=counted > 0)
    return np.where(seen, unit, others[:, None]), deviation


def _principal_components(
    standardized: FloatArray, weights: FloatArray, factors: int | None
) -> tuple[FloatArray, FloatArray]:
    """Leading eigenvectors (n, k), signs fixed, and debiased eigenvalues (k,) of the weighted correlation matrix."""
    n = standardized.shape[1]
    _, singular, rows = np.linalg.svd(np.sqrt(weights)[:, None] * standardized, full_matrices=False)
    values = singular**2
    u_edge, edge = _noise_edge(weights, n)
    k = _number_of_factors(values, n, edge) if factors is None else min(max(1, factors), len(values))
    vectors = rows[:k].T
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(k)] < 0, -1.0, 1.0)
    noise = float(values[k:].sum()) / max(1, n - k)
    if noise <= 0:
        return vectors, values[:k]
    excess = values[:k] / noise
    above = excess > edge
    # Below the edge, where only an explicit `factors` leads, what exceeds the noise counts in full.
    debiased = np.where(above, _population_excess(excess, weights, n, u_edge), np.maximum(excess - 1.0, 1e-12))
    return vectors, noise * debiased


def _number_of_factors(values: FloatArray, n: int, edge: float) -> int:
    """How many eigenvalues exceed `edge` times the noise, the noise being the mean of those below; 1 to 70."""
    most = max(1, min(MOST_FACTORS, n // 2, len(values) - 1))
    k = 1
    while k < most and values[k] > edge * float(values[k:].sum()) / (n - k):
        k += 1
    return k


def _sample_eigenvalue(u: FloatArray, weights: FloatArray, n: int) -> tuple[FloatArray, FloatArray]:
    """y(u) = 1/u + a(u) and a(u) = sum_t w_t / (1 - n w_t u), for u of shape (m,) between 0 and 1 / (n max w).

    The Marchenko-Pastur equation of unit noise in n names whose sessions carry the weights w, solved for the place y
    where the resolvent's normalised trace is -u. A population eigenvalue l shows up in the sample at the y(u) whose u
    solves l - 1 = 1 / (u a(u)). With equal weights these are the textbook (1 + sqrt g)^2 and l + g l / (l - 1).
    """
    a: FloatArray = (weights / (1.0 - n * weights * u[:, None])).sum(axis=1)
    return 1.0 / u + a, a


def _noise_edge(weights: FloatArray, n: int) -> tuple[float, float]:
    """The u at which y(u) is least, and that least y: the largest eigenvalue of pure unit noise."""
    pole = 1.0 / (n * float(weights.max()))
    u = pole * np.linspace(0.0005, 0.9995, 2000)
    y, _ = _sample_eigenvalue(u, weights, n)
    least = int(y.argmin())
    return float(u[least]), float(y[least])


def _population_excess(y: FloatArray, weights: FloatArray, n: int, u_edge: float) -> FloatArray:
    """l - 1 for sample eigenvalues `y` (k,) above the edge, in units of the noise; bisection, as y(u) falls there."""
    low, high = np.zeros_like(y), np.full_like(y, u_edge)
    for _ in range(60):
        middle = (low + high) / 2
        too_far = _sample_eigenvalue(middle, weights, n)[0] < y
        low, high = np.where(too_far, low, middle), np.where(too_far, middle, high)
    u = (low + high) / 2
    excess: FloatArray = 1.0 / (u * _sample_eigenvalue(u, weights, n)[1])
    return excess


def _shrink(specific: FloatArray, residual: FloatArray, weights: FloatArray) -> FloatArray:
    """Specific variances (n,) moved towards their mean by error / spread, an intensity between 0 and 1.

    `residual` (T, n) gives the estimation error: sum w^2 (e^2 - mean e^2)^2 is the variance of a weighted mean of e^2.
    """
    squares = residual**2
    error = float((weights[:, None] ** 2 * (squares - weights @ squares) ** 2).sum())
    spread = float(((specific - specific.mean()) ** 2).sum())
    intensity = min(1.0, error / spread) if spread > 0 else 0.0
    shrunk = (1.0 - intensity) * specific + intensity * specific.mean()
    floored: FloatArray = np.maximum(shrunk, LEAST_SPECIFIC_VARIANCE)
    return floored


def _with_newcomers(
    loadings: FloatArray, values: FloatArray, specific: FloatArray, enough: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Loadings (n, k) and specific variances (n,) of all names from those of the names with `enough` history."""
    mean_loading = loadings.mean(axis=0)
    mean_variance = float(((loadings**2) @ values + specific).mean())
    all_loadings = np.tile(mean_loading, (len(enough), 1))
    all_specific = np.full(len(enough), mean_variance - float((mean_loading**2) @ values))
    all_loadings[enough] = loadings
    all_specific[enough] = specific
    return all_loadings, all_specific
