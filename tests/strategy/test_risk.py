"""The risk model against returns whose covariance is known, and against real prices it has not seen."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategy.risk import (
    HistoryTooShortError,
    RiskModel,
    _noise_edge,
    _population_excess,
    daily_returns,
    estimate_risk_model,
    ewma_volatility,
)
from strategy.types import FloatArray, PriceHistory

START = date(2020, 1, 1)


def history(returns: FloatArray) -> PriceHistory:
    """Prices that start at 100 and have these returns (T, n); NaN returns leave NaN prices only where given."""
    closes = 100.0 * np.vstack([np.ones(returns.shape[1]), np.cumprod(1.0 + returns, axis=0)])
    sessions = tuple(START + timedelta(days=place) for place in range(len(closes)))
    return PriceHistory(tuple(f"N{i:03d}" for i in range(returns.shape[1])), sessions, closes)


def factor_world(n: int, k: int, seed: int = 1) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    """Loadings (n, k) scaled by factor volatility and specific variances (n,), per day."""
    rng = np.random.default_rng(seed)
    volatility = np.array([0.010] + [0.004] * (k - 1))
    loadings = rng.normal(0, 1, (n, k))
    loadings[:, 0] = rng.normal(1, 0.3, n)
    return loadings * volatility, rng.uniform(0.008, 0.020, n) ** 2, rng


def drawn(loadings: FloatArray, specific: FloatArray, sessions: int, rng: np.random.Generator) -> FloatArray:
    n, k = loadings.shape
    return rng.normal(size=(sessions, k)) @ loadings.T + rng.normal(size=(sessions, n)) * np.sqrt(specific)


@pytest.mark.parametrize(("n", "k"), [(20, 2), (60, 3), (150, 5)])
def test_a_known_covariance_is_recovered(n: int, k: int) -> None:
    loadings, specific, rng = factor_world(n, k)
    true = 252 * (loadings @ loadings.T + np.diag(specific))
    model = estimate_risk_model(history(drawn(loadings, specific, 504, rng)))
    assert np.linalg.norm(model.covariance() - true) / np.linalg.norm(true) < 0.25
    assert model.specific_variance.mean() == pytest.approx(252 * specific.mean(), rel=0.05)
    assert np.corrcoef(model.specific_variance, specific)[0, 1] > 0.9
    assert k <= model.loadings.shape[1] <= k + 4
    assert model.sessions_used == 504


@pytest.mark.parametrize("optimized", [False, True])
def test_tracking_error_is_unbiased_even_for_portfolios_chosen_by_the_model(optimized: bool) -> None:
    """Bias statistic: true over expected standard deviation. Choosing by the sample covariance would give 1.2."""
    loadings, specific, rng = factor_world(120, 5)
    true = 252 * (loadings @ loadings.T + np.diag(specific))
    model = estimate_risk_model(history(drawn(loadings, specific, 504, rng)))
    bias = []
    for _ in range(200):
        x = rng.normal(size=120)
        x = np.linalg.solve(model.covariance(), x) if optimized else x
        bias.append(np.sqrt(x @ true @ x) / model.tracking_error(x))
    assert np.mean(bias) == pytest.approx(1.0, abs=0.05)


def test_bias_statistic_on_real_prices_out_of_sample() -> None:
    """20 S&P 500 stocks 1990-2022 (skfolio): next month's active return over its expected deviation has spread 1."""
    from skfolio.datasets import load_sp500_dataset

    frame = load_sp500_dataset()
    sessions = tuple(stamp.date() for stamp in frame.index)
    closes = frame.to_numpy(dtype=np.float64)
    rng = np.random.default_rng(0)
    standardized = []
    for end in range(600, len(closes) - 21, 126):
        model = estimate_risk_model(PriceHistory(tuple(frame.columns), sessions[:end], closes[:end]))
        future = daily_returns(closes[end - 1 : end + 21])
        for _ in range(10):
            x = rng.normal(size=20)
            x -= x.mean()
            standardized.append(future @ x / (model.tracking_error(x) / np.sqrt(252)))
    assert np.sqrt(np.mean(np.square(standardized))) == pytest.approx(1.0, abs=0.15)


def test_the_figures_of_a_model_are_those_of_its_covariance() -> None:
    model = RiskModel(
        names=("A", "B"),
        loadings=np.array([[1.0], [2.0]]),
        factor_covariance=np.array([[0.04]]),
        specific_variance=np.array([0.01, 0.09]),
        as_of=START,
        sessions_used=504,
    )
    assert model.covariance() == pytest.approx(np.array([[0.05, 0.08], [0.08, 0.25]]))
    assert model.active_variance(np.array([0.1, -0.1])) == pytest.approx(0.0014)
    assert model.tracking_error(np.array([0.1, -0.1])) == pytest.approx(np.sqrt(0.0014))
    assert model.correlation()[0, 1] == pytest.approx(0.08 / np.sqrt(0.05 * 0.25))
    assert np.diag(model.correlation()) == pytest.approx([1.0, 1.0])


def test_names_of_one_block_move_together_and_blocks_do_not() -> None:
    rng = np.random.default_rng(3)
    block = np.repeat(rng.normal(0, 0.01, (504, 2)), 10, axis=1)  # correlation 0.5 inside a block, 0 across
    correlation = estimate_risk_model(history(block + rng.normal(0, 0.01, (504, 20)))).correlation()
    inside = correlation[:10, :10][np.triu_indices(10, 1)]
    assert inside.mean() == pytest.approx(0.5, abs=0.05)
    assert abs(correlation[:10, 10:].mean()) < 0.05
    assert inside.min() > correlation[:10, 10:].max()


@given(seed=st.integers(0, 1000), n=st.integers(1, 12), sessions=st.integers(60, 90), gaps=st.floats(0, 0.3))
@settings(max_examples=40, deadline=None)
def test_every_covariance_is_positive_definite(seed: int, n: int, sessions: int, gaps: float) -> None:
    rng = np.random.default_rng(seed)
    prices = history(rng.standard_t(3, (sessions, n)) * 0.01)
    closes = prices.closes.copy()
    closes[:, 1:][rng.random(closes[:, 1:].shape) < gaps] = np.nan
    model = estimate_risk_model(PriceHistory(prices.names, prices.sessions, closes))
    assert np.isfinite(model.covariance()).all()
    assert np.linalg.eigvalsh(model.covariance())[0] > 0
    assert (model.specific_variance > 0).all()


def test_the_same_prices_give_the_same_model_and_signs_are_fixed() -> None:
    loadings, specific, rng = factor_world(30, 3)
    prices = history(drawn(loadings, specific, 300, rng))
    first, second = estimate_risk_model(prices), estimate_risk_model(prices)
    assert np.array_equal(first.loadings, second.loadings)
    deviation = np.sqrt(first.variances())
    unit = first.loadings / deviation[:, None]
    assert (unit[np.abs(unit).argmax(axis=0), np.arange(unit.shape[1])] > 0).all()


def test_only_the_window_counts_and_the_last_session_is_named() -> None:
    rng = np.random.default_rng(5)
    wild, calm = rng.normal(0, 0.05, (200, 5)), rng.normal(0, 0.01, (200, 5))
    prices = history(np.vstack([wild, calm]))
    model = estimate_risk_model(prices, window_sessions=200)
    assert model.as_of == prices.sessions[-1]
    assert model.sessions_used == 200
    assert np.sqrt(model.variances() / 252) == pytest.approx([0.01] * 5, rel=0.2)


def test_recent_sessions_weigh_more() -> None:
    rng = np.random.default_rng(6)
    returns = np.vstack([rng.normal(0, 0.01, (252, 5)), rng.normal(0, 0.02, (126, 5))])
    model = estimate_risk_model(history(returns))
    # half the weight or a little more lies in the last half-life: 0.571 x 4 + 0.429 x 1 of the calm variance
    assert np.sqrt(model.variances().mean() / 252) == pytest.approx(0.01 * np.sqrt(0.571 * 4 + 0.429), rel=0.05)


def test_a_missing_split_does_not_become_the_largest_risk() -> None:
    rng = np.random.default_rng(7)
    returns = rng.normal(0, 0.01, (300, 6))
    split = returns.copy()
    split[200, 2] = -0.667
    clean, dirty = estimate_risk_model(history(returns)), estimate_risk_model(history(split))
    assert dirty.variances()[2] == pytest.approx(clean.variances()[2], rel=0.6)


def test_a_newcomer_is_an_average_name() -> None:
    loadings, specific, rng = factor_world(30, 2)
    prices = history(drawn(loadings, specific, 300, rng))
    closes = prices.closes.copy()
    closes[:-20, 4] = np.nan
    model = estimate_risk_model(PriceHistory(prices.names, prices.sessions, closes))
    others = np.delete(np.arange(30), 4)
    assert model.loadings[4] == pytest.approx(model.loadings[others].mean(axis=0))
    assert model.variances()[4] == pytest.approx(model.variances()[others].mean())


def test_a_name_with_a_gap_keeps_its_own_volatility_and_its_company() -> None:
    loadings, specific, rng = factor_world(40, 2)
    prices = history(drawn(loadings, specific, 400, rng))
    closes = prices.closes.copy()
    closes[100:140, 7] = np.nan
    whole = estimate_risk_model(prices, factors=2)
    gap = estimate_risk_model(PriceHistory(prices.names, prices.sessions, closes), factors=2)
    assert gap.variances()[7] == pytest.approx(whole.variances()[7], rel=0.15)
    assert gap.correlation()[7] == pytest.approx(whole.correlation()[7], abs=0.1)


@pytest.mark.parametrize("sessions", [0, 1, 59])
def test_fewer_than_sixty_sessions_are_refused_by_name(sessions: int) -> None:
    rng = np.random.default_rng(8)
    prices = history(rng.normal(0, 0.01, (59, 3)))  # 60 closes
    estimate_risk_model(prices)
    short = PriceHistory(prices.names, prices.sessions[:sessions], prices.closes[:sessions])
    with pytest.raises(HistoryTooShortError, match="DATA_HISTORY_SHORT"):
        estimate_risk_model(short)


def test_a_universe_of_newcomers_is_refused() -> None:
    rng = np.random.default_rng(9)
    prices = history(rng.normal(0, 0.01, (100, 3)))
    closes = prices.closes.copy()
    closes[:60] = np.nan
    with pytest.raises(HistoryTooShortError, match="no name has 59 returns"):
        estimate_risk_model(PriceHistory(prices.names, prices.sessions, closes))


def test_the_noise_edge_and_the_spike_are_the_textbook_ones_for_equal_weights() -> None:
    n, sessions = 100, 400
    weights = np.full(sessions, 1 / sessions)
    g = n / sessions
    u_edge, edge = _noise_edge(weights, n)
    assert edge == pytest.approx((1 + np.sqrt(g)) ** 2, rel=1e-5)
    population = np.array([3.0, 10.0, 50.0])
    sample = population + g * population / (population - 1)
    assert _population_excess(sample, weights, n, u_edge) + 1 == pytest.approx(population, rel=1e-6)


def test_pure_noise_stays_below_the_edge_of_exponential_weights() -> None:
    rng = np.random.default_rng(10)
    weights = 0.5 ** (np.arange(503, -1, -1) / 126)
    weights /= weights.sum()
    noise = rng.normal(size=(504, 200))
    largest = np.linalg.eigvalsh((noise * weights[:, None]).T @ noise)[-1]
    assert largest == pytest.approx(_noise_edge(weights, 200)[1], rel=0.06)


# ------------------------------------------------------------------ volatility


def test_ewma_volatility_by_hand() -> None:
    returns = np.zeros((21, 1))
    returns[-1], returns[-2] = 0.02, -0.01
    weights = 0.97 ** np.arange(21)
    expected = np.sqrt((0.02**2 + 0.97 * 0.01**2) / weights.sum())
    assert ewma_volatility(history(returns)) == pytest.approx([expected])


def test_volatility_needs_twenty_returns_and_ignores_gaps() -> None:
    rng = np.random.default_rng(11)
    prices = history(rng.normal(0, 0.01, (40, 3)))
    closes = prices.closes.copy()
    closes[:20, 1] = np.nan  # 20 returns left
    closes[:21, 2] = np.nan  # 19
    volatility = ewma_volatility(PriceHistory(prices.names, prices.sessions, closes))
    assert volatility[:2] == pytest.approx([0.01, 0.01], rel=0.5)
    assert np.isnan(volatility[2])


def test_volatility_of_no_history_is_unknown() -> None:
    assert np.isnan(ewma_volatility(PriceHistory(("A", "B"), (), np.empty((0, 2))))).all()


def test_a_price_of_zero_is_a_missing_price() -> None:
    assert np.isnan(daily_returns(np.array([[1.0], [0.0], [1.0]]))).all()
