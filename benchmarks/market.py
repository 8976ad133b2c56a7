"""The market of the large benchmark: the sessions it needs, and prices for every name in each of them.

    2006-01-03    two years of prices, for the risk model
    2008-01       three years of monthly deposits
    2011-01       the measured sessions, as many as asked for

The sessions are those of the New York Stock Exchange. Prices are synthetic, and the same in every run, unless the
real ones of `../shared/data` are there (real_prices.py): then they serve for as many names as they are fit for, and
synthetic names fill up the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from brokers.simulated import VenuePrices, VenueSession
from daemon.market_calendar import MarketCalendar, SessionTimes
from state.records import Security

HISTORY_FROM = date(2006, 1, 3)
DEPOSITS_FROM = date(2008, 1, 1)
MEASURED_FROM = date(2011, 1, 1)
SESSIONS_A_YEAR = 252
SECTORS = (
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Real Estate",
    "Utilities",
)
LEAST_VOLATILITY, MOST_VOLATILITY = 0.15, 0.60  # annual, of single names
MARKET_VOLATILITY, SECTOR_VOLATILITY = 0.13, 0.08
BULL, AFTERWARDS = 0.15, 0.05  # a year, of every log price: while the household saves, and in the measured sessions
BEAR = (0.20, 0.60)  # of the measured sessions: from here to there the market falls
FALL = -0.40  # of its log, over a hundred sessions
SEED = 20110103


@dataclass(frozen=True)
class Listing:
    """One name's prices, aligned with the sessions: closes as traded, total-return closes, and what happened to it."""

    symbol: str
    sector: str
    closes: tuple[Decimal, ...]
    adjusted: tuple[Decimal, ...]
    dividends: Mapping[date, Decimal] = field(default_factory=dict)
    splits: Mapping[date, tuple[Decimal, Decimal]] = field(default_factory=dict)


@dataclass(frozen=True)
class Market:
    """Sessions and prices. `deposit_days` are those of the three years, one a month; `measured` what is timed."""

    calendar: MarketCalendar
    prices: VenuePrices
    deposit_days: tuple[SessionTimes, ...]
    measured: tuple[SessionTimes, ...]
    real_names: int

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every name."""
        return self.prices.symbols


def market_sessions(measured: int) -> tuple[MarketCalendar, tuple[SessionTimes, ...]]:
    """The exchange's calendar, and its sessions from HISTORY_FROM to the last of `measured` ones."""
    years = measured // SESSIONS_A_YEAR + 2
    calendar = MarketCalendar.new_york(HISTORY_FROM, date(MEASURED_FROM.year + years, 1, 31))
    before = calendar.between(HISTORY_FROM, MEASURED_FROM - timedelta(days=1))
    return calendar, calendar.sessions[: len(before) + measured]


def make_market(names: int, measured: int, real: Sequence[Listing] = ()) -> Market:
    """A market of so many names: the `real` listings first (they must be aligned with `market_sessions(measured)`)."""
    calendar, sessions = market_sessions(measured)
    kept = list(real[:names])
    listings = sorted([*kept, *synthetic(names - len(kept), sessions, measured)], key=lambda one: one.symbol)
    prices = VenuePrices(
        sessions=tuple(VenueSession(item.session, item.opens_at, item.closes_at) for item in sessions),
        symbols=tuple(one.symbol for one in listings),
        closes={one.symbol: one.closes for one in listings},
        adjusted={one.symbol: one.adjusted for one in listings} if kept else None,
        dividends={(one.symbol, day): paid for one in listings for day, paid in one.dividends.items()},
        splits={(one.symbol, day): ratio for one in listings for day, ratio in one.splits.items()},
        securities={one.symbol: Security(one.symbol, sector=one.sector, fractionable=True) for one in listings},
    )
    seeding = [item for item in sessions if DEPOSITS_FROM <= item.session < MEASURED_FROM]
    first_of_month = {(item.session.year, item.session.month): item for item in reversed(seeding)}
    return Market(
        calendar=calendar,
        prices=prices,
        deposit_days=tuple(sorted(first_of_month.values(), key=lambda item: item.session)),
        measured=sessions[len(sessions) - measured :],
        real_names=len(kept),
    )


def synthetic(names: int, sessions: Sequence[SessionTimes], measured: int) -> list[Listing]:
    """Prices of a market, eleven sectors and what is each name's own, the same in every run.

    Volatilities are spread evenly (in logs) from 15 to 60 % a year. Prices rise while the household saves, so that most
    lots are gains and there are still about 10,000 of them after the first harvests; in the middle of the measured
    sessions the market falls by a third, so that harvesting has work to do. No dividends and no splits.
    """
    if names <= 0:
        return []
    rng = np.random.default_rng(SEED)
    daily = 1 / np.sqrt(SESSIONS_A_YEAR)
    count = len(sessions)
    volatility = np.exp(rng.uniform(np.log(LEAST_VOLATILITY), np.log(MOST_VOLATILITY), names))
    beta = np.clip(0.35 + volatility * 2.0 + 0.15 * rng.standard_normal(names), 0.3, 1.8)
    sector = np.arange(names) % len(SECTORS)
    common = (beta * MARKET_VOLATILITY) ** 2 + SECTOR_VOLATILITY**2
    specific = np.sqrt(np.maximum(volatility**2 - common, (0.5 * volatility) ** 2))
    market = MARKET_VOLATILITY * daily * rng.standard_normal(count)
    start = count - measured
    drift = np.where(np.arange(count) < start, BULL, AFTERWARDS) / SESSIONS_A_YEAR
    market[start + int(BEAR[0] * measured) : start + int(BEAR[1] * measured)] += FALL / 100
    by_sector = SECTOR_VOLATILITY * daily * rng.standard_normal((count, len(SECTORS)))
    own = specific * daily * rng.standard_normal((count, names))
    growth = drift[:, None] + market[:, None] * beta + by_sector[:, sector] + own
    growth[0] = np.log(rng.uniform(15, 150, names))
    cents: NDArray[np.int64] = np.maximum(np.rint(np.exp(growth.cumsum(axis=0)) * 100), 100).astype(np.int64)
    letters = ("".join(three) for three in product(ascii_uppercase, repeat=3))
    listings = []
    for place, tail in zip(range(names), letters, strict=False):
        closes = tuple(Decimal(int(one)).scaleb(-2) for one in cents[:, place])
        listings.append(Listing(f"SY{tail}", SECTORS[sector[place]], closes, closes))
    return listings
