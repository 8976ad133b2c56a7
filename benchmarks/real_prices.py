"""The real prices of `../shared/data`, where they are: daily closes of the S&P 500's members of April 2021.

They are known to be wrong here and there (see the README beside them), and wrong data must be survived. A name is
left out, rather than mended, unless over the whole span

    it has a close in every session,
    closes, dividends, splits and the total-return series agree with each other day by day, and
    no dividend is as large as a spin-off's.

Splits and dividends of the names that stay are booked by the venue: shares multiply, cash arrives, and the daemon has
to follow. pyarrow reads the file; it is no dependency of harvestd, so without it there are no real prices.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
from market import Listing
from numpy.typing import NDArray

from daemon.market_calendar import SessionTimes

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
PRICES = "sp500_daily_2006_2015.parquet"
EVENTS = "sp500_events_2006_2015.csv.gz"
SECTORS = "sp500_sectors.csv"
LAST_DAY = date(2015, 12, 31)
AGREE = 0.02  # a day's total return by the two ways may differ by so much
SPIN_OFF = 0.15  # a dividend above this part of the price is one
FOUR_PLACES = Decimal("0.0001")

Floats = NDArray[np.float64]


class NoRealPrices(Exception):  # noqa: N818
    """The data or pyarrow is not there, or ends before the span does."""


@dataclass(frozen=True)
class Event:
    """What one day did to a share: dividend in USD, and new shares for one old."""

    dividend: Decimal
    split: Fraction


def why_none(last: date) -> str | None:
    """Why there are no real prices up to `last`; None when there are."""
    missing = [name for name in (PRICES, EVENTS, SECTORS) if not (FOLDER / name).exists()]
    if missing:
        return f"{FOLDER} has no {missing[0]}"
    if importlib.util.find_spec("pyarrow") is None:
        return "pyarrow is not installed"
    return f"they end {LAST_DAY}, the measured sessions {last}" if last > LAST_DAY else None


def listings(sessions: Sequence[SessionTimes]) -> list[Listing]:
    """The names that are fit for these sessions, by symbol. Raises NoRealPrices."""
    reason = why_none(sessions[-1].session)
    if reason is not None:
        raise NoRealPrices(reason)
    days = [item.session for item in sessions]
    closes, adjusted = _tables(days)
    events, sectors = _events(days), _sectors()
    found = []
    for symbol in sorted(closes):
        happened = events.get(symbol, {})
        if symbol in sectors and _is_fit(days, closes[symbol], adjusted[symbol], happened):
            found.append(_listing(symbol, sectors[symbol], closes[symbol], adjusted[symbol], happened))
    return found


def _tables(days: Sequence[date]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Closes as traded and total-return closes by symbol, NaN where there is none."""
    parquet = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(FOLDER / PRICES, columns=["date", "ticker", "close", "adj_close"])
    day = table["date"].to_numpy().astype("datetime64[D]")
    wanted = np.array(days, dtype="datetime64[D]")
    row = np.minimum(np.searchsorted(wanted, day), len(wanted) - 1)
    known = wanted[row] == day
    symbols, column = np.unique(np.asarray(table["ticker"].to_pylist()), return_inverse=True)
    filled = []
    for name in ("close", "adj_close"):
        values = np.full((len(wanted), len(symbols)), np.nan)
        values[row[known], column[known]] = table[name].to_numpy()[known].astype(np.float64)
        filled.append(values)
    return tuple({str(one): values[:, place] for place, one in enumerate(symbols)} for values in filled)  # type: ignore[return-value]


def _events(days: Sequence[date]) -> dict[str, dict[date, Event]]:
    found: dict[str, dict[date, Event]] = {}
    with gzip.open(FOLDER / EVENTS, "rt", encoding="utf-8") as text:
        for row in csv.DictReader(text):
            day = date.fromisoformat(row["date"])
            if days[0] < day <= days[-1]:
                split = Fraction(float(row["split"]) or 1.0).limit_denominator(100)
                found.setdefault(row["ticker"], {})[day] = Event(Decimal(row["dividend"]), split)
    return found


def _sectors() -> dict[str, str]:
    with (FOLDER / SECTORS).open(encoding="utf-8") as text:
        return {row["ticker"]: row["sector"] for row in csv.DictReader(text)}


def _is_fit(days: Sequence[date], close: Floats, adjusted: Floats, events: Mapping[date, Event]) -> bool:
    if not (np.isfinite(close).all() and np.isfinite(adjusted).all() and close.min() > 1 and adjusted.min() > 0):
        return False
    if not set(events) <= set(days):
        return False
    dividend = np.array([float(events[day].dividend) if day in events else 0.0 for day in days])
    split = np.array([float(events[day].split) if day in events else 1.0 for day in days])
    if (dividend > SPIN_OFF * close).any():
        return False
    theirs = adjusted[1:] / adjusted[:-1]
    ours = (close[1:] + dividend[1:]) * split[1:] / close[:-1]
    return bool(np.abs(ours / theirs - 1).max() <= AGREE)


def _listing(symbol: str, sector: str, close: Floats, adjusted: Floats, events: Mapping[date, Event]) -> Listing:
    return Listing(
        symbol=symbol,
        sector=sector,
        closes=_decimals(close),
        adjusted=_decimals(adjusted),
        dividends={day: one.dividend for day, one in events.items() if one.dividend > 0},
        splits={
            day: (Decimal(one.split.numerator), Decimal(one.split.denominator))
            for day, one in events.items()
            if one.split != 1
        },
    )


def _decimals(values: Floats) -> tuple[Decimal, ...]:
    """Float32 prices, to four decimals."""
    return tuple(Decimal(repr(float(one))).quantize(FOUR_PLACES) for one in values)
