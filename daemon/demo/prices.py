"""The demo's price history: 20 S&P 500 stocks that ship with skfolio, 1990-01-02 to 2022-12-28.

Real closes, adjusted for dividends and splits, of companies that were still in the index in 2022. So: no dividends
are paid in the demo (they are inside the prices), and the names are survivors; a harvest of a company that later
failed is missing. The figures of the demo show what the daemon does, not what anyone would have earned.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
from datetime import date
from decimal import Decimal
from pathlib import Path

from brokers.simulated import VenuePrices, VenueSession
from daemon.errors import HarvestdError
from daemon.market_calendar import MarketCalendar
from state.records import Security

HISTORY_STARTS = date(2016, 12, 1)  # two years of prices before the first plan, for the risk model
LAST_DAY = date(2022, 12, 28)

# GICS sectors of the names, as S&P publishes them.
SECTORS = {
    "AAPL": "Information Technology",
    "AMD": "Information Technology",
    "MSFT": "Information Technology",
    "BAC": "Financials",
    "JPM": "Financials",
    "BBY": "Consumer Discretionary",
    "HD": "Consumer Discretionary",
    "CVX": "Energy",
    "RRC": "Energy",
    "XOM": "Energy",
    "GE": "Industrials",
    "JNJ": "Health Care",
    "LLY": "Health Care",
    "MRK": "Health Care",
    "PFE": "Health Care",
    "UNH": "Health Care",
    "KO": "Consumer Staples",
    "PEP": "Consumer Staples",
    "PG": "Consumer Staples",
    "WMT": "Consumer Staples",
}

WHAT_THESE_PRICES_ARE = (
    "Prices: real daily closes of 20 S&P 500 companies (shipped with skfolio), adjusted for dividends and splits. "
    "All 20 still existed in 2022 (survivors), and dividends are inside the prices, so none is paid or taxed here. "
    "Orders fill at the session's close, half a spread away. The figures show what the daemon does; they are not a "
    "track record, and not what you would have earned."
)


def demo_calendar() -> MarketCalendar:
    """NYSE sessions of the demo's history, and a few after it, so that the last plan has a next session."""
    return MarketCalendar.new_york(HISTORY_STARTS, date(2023, 1, 31))


def demo_prices(calendar: MarketCalendar) -> VenuePrices:
    """The history as the simulated venue takes it. Raises HarvestdError when skfolio's file is not there."""
    header, rows = _read()
    sessions = calendar.between(HISTORY_STARTS, LAST_DAY)
    missing = [item.session for item in sessions if item.session not in rows]
    if missing or len(rows) < len(sessions):
        raise HarvestdError(f"skfolio's price file: expected a row for every NYSE session, missing {missing[:5]}")
    closes = {
        symbol: tuple(Decimal(rows[item.session][place]) for item in sessions) for place, symbol in enumerate(header)
    }
    return VenuePrices(
        sessions=tuple(VenueSession(item.session, item.opens_at, item.closes_at) for item in sessions),
        symbols=tuple(header),
        closes=closes,
        adjusted=None,
        dividends={},
        splits={},
        securities={symbol: Security(symbol, sector=SECTORS.get(symbol), fractionable=True) for symbol in header},
    )


def _read() -> tuple[list[str], dict[date, list[str]]]:
    """Header and rows from HISTORY_STARTS on, read without importing skfolio (which takes seconds)."""
    found = importlib.util.find_spec("skfolio")
    if found is None or not found.submodule_search_locations:
        raise HarvestdError("Expected the package skfolio, which ships the demo's prices: pip install skfolio")
    path = Path(next(iter(found.submodule_search_locations))) / "datasets" / "data" / "sp500_dataset.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as text:
        lines = csv.reader(text)
        header = next(lines)[1:]
        start = HISTORY_STARTS.isoformat()
        return header, {date.fromisoformat(line[0]): line[1:] for line in lines if line[0] >= start}
