"""Daily bars to arrays: the one place where prices become floats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np

from state.records import DailyBar
from strategy.types import FloatArray, PriceHistory


def history_from_bars(bars: Iterable[DailyBar], names: Sequence[str]) -> PriceHistory:
    """Total-return closes of `names`, shape (T, n), one row for each session with a bar of any of them."""
    return history_from_closes(((bar.session, bar.symbol, bar.adjusted) for bar in bars), names)


def history_from_closes(closes_of: Iterable[tuple[date, str, Decimal]], names: Sequence[str]) -> PriceHistory:
    """The same from session, name and total-return close of each bar."""
    column = {name: place for place, name in enumerate(names)}
    rows: dict[date, FloatArray] = {}
    for session, symbol, adjusted in closes_of:
        place = column.get(symbol)
        if place is not None:
            row = rows.get(session)
            if row is None:
                row = rows[session] = np.full(len(names), np.nan)
            row[place] = float(adjusted)
    sessions = tuple(sorted(rows))
    closes = np.array([rows[session] for session in sessions]) if sessions else np.empty((0, len(names)))
    return PriceHistory(tuple(names), sessions, closes)


def extended(history: PriceHistory, bars: Iterable[DailyBar]) -> PriceHistory:
    """The history with newer sessions added; bars of sessions already there are ignored."""
    last = history.sessions[-1] if history.sessions else date.min
    more = history_from_bars((bar for bar in bars if bar.session > last), history.names)
    if not more.sessions:
        return history
    return PriceHistory(history.names, history.sessions + more.sessions, np.vstack([history.closes, more.closes]))


@dataclass(frozen=True)
class BenchmarkPath:
    """A benchmark over a history. `weights` (T, n): after the close of each session, summing to 1; `level` (T,):
    total-return index, 1 at the first session."""

    weights: FloatArray
    level: FloatArray


def benchmark_path(
    history: PriceHistory, base_weights: FloatArray, rebalance: str, known: BenchmarkPath | None = None
) -> BenchmarkPath:
    """Weights drift with prices and return to `base_weights` (n,) at the last close of each period.

    `rebalance` is "quarterly", "monthly" or "none". A name without a price keeps its value until its next one, which
    tells what it earned since its last. `known` is the path of an earlier part of the same history; only what comes
    after is computed. A period's end is known from the first session of the next one, so the last close of a history
    has drifted weights until then.
    """
    sessions, base = history.sessions, base_weights / base_weights.sum()
    start = len(known.level) if known is not None else 0
    weights = np.empty_like(history.closes)
    level = np.empty(len(sessions))
    if known is not None:
        weights[:start], level[:start] = known.weights, known.level
    last = _last_prices(history.closes[:start])
    for place in range(start, len(sessions)):
        if place == 0:
            weights[0], level[0] = base, 1.0
            last = history.closes[0]
            continue
        if period_of(sessions[place], rebalance) != period_of(sessions[place - 1], rebalance):
            weights[place - 1] = base
        growth = history.closes[place] / last
        last = np.where(np.isfinite(history.closes[place]), history.closes[place], last)
        grown = weights[place - 1] * np.where(np.isfinite(growth), growth, 1.0)
        level[place] = level[place - 1] * float(grown.sum())
        weights[place] = grown / grown.sum()
    return BenchmarkPath(weights, level)


def _last_prices(closes: FloatArray) -> FloatArray:
    """Each name's newest price, shape (n,), of closes (T, n); NaN where it has none."""
    if not len(closes):
        return np.full(closes.shape[1], np.nan)
    rows = np.where(np.isfinite(closes), np.arange(len(closes))[:, None], 0).max(axis=0)
    prices: FloatArray = closes[rows, np.arange(closes.shape[1])]
    return prices


def weights_today(path: BenchmarkPath, base_weights: FloatArray, last: date, today: date, rebalance: str) -> FloatArray:
    """Benchmark weights (n,) that hold in `today`'s session: the base again when it opens a new period."""
    if period_of(today, rebalance) != period_of(last, rebalance):
        return np.asarray(base_weights / base_weights.sum())
    return np.asarray(path.weights[-1])


def period_of(day: date, rebalance: str) -> tuple[int, int]:
    """The period that a day belongs to: "quarterly", "monthly", or for any other word one that never ends."""
    if rebalance == "quarterly":
        return day.year, (day.month - 1) // 3
    if rebalance == "monthly":
        return day.year, day.month
    return 0, 0
