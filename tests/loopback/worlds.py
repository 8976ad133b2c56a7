"""Worlds to run the server on: the demo's twenty names, and a synthetic market of any size for measurements."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy

from brokers.simulated import SimulatedVenue, VenuePrices, VenueSession, VenueSettings
from state.records import OrderRequest, Security, Side

BEFORE_OPEN = timedelta(minutes=30)  # when a world begins, on the morning of its first day
_SECTORS = ("Energy", "Financials", "Health Care", "Industrials", "Information Technology", "Materials", "Utilities")
_LOWEST_CENTS, _HIGHEST_CENTS = 1_000, 50_000
_DAILY_VOLATILITY = 0.015


def demo_prices() -> VenuePrices:
    """Real closes of twenty S&P 500 names, December 2016 to December 2022, as in `harvestd demo`."""
    from daemon.demo import prices

    return prices.demo_prices(prices.demo_calendar())


def synthetic_prices(names: int = 500, sessions: int = 2520, *, last: date = date(2025, 12, 31)) -> VenuePrices:
    """Random walks in whole cents over the last `sessions` sessions of the NYSE up to `last`, always the same.

    Symbols are S001, S002 ...; every name is fractionable and in one of seven sectors; no corporate actions.
    """
    from daemon.market_calendar import MarketCalendar

    first = last - timedelta(days=round(sessions * 1.5) + 30)
    calendar = MarketCalendar.new_york(first, last).sessions[-sessions:]
    random = numpy.random.default_rng(2026)
    steps = random.normal(0.0002, _DAILY_VOLATILITY, (names, len(calendar)))
    starts = random.uniform(2_000, 30_000, (names, 1))
    cents = numpy.clip(starts * numpy.exp(steps.cumsum(axis=1)), _LOWEST_CENTS, _HIGHEST_CENTS).astype(int)
    in_dollars = [Decimal(amount).scaleb(-2) for amount in range(_HIGHEST_CENTS + 1)]
    symbols = tuple(f"S{place:03d}" for place in range(1, names + 1))
    return VenuePrices(
        sessions=tuple(VenueSession(each.session, each.opens_at, each.closes_at) for each in calendar),
        symbols=symbols,
        closes={
            symbol: tuple(in_dollars[amount] for amount in row) for symbol, row in zip(symbols, cents, strict=True)
        },
        securities={
            symbol: Security(symbol, f"Synthetic {symbol}", sector=_SECTORS[place % 7], fractionable=True)
            for place, symbol in enumerate(symbols)
        },
    )


def open_venue(
    path: Path | str,
    prices: VenuePrices,
    *,
    start: date | None = None,
    cash: Decimal = Decimal(100_000),
    account_number: str = "PA3LOOPBACK1",
    settings: VenueSettings | None = None,
) -> SimulatedVenue:
    """A venue in a file, half an hour before the open of `start` with `cash` USD.

    Without `start` it begins on the second session, the first that has a price to quote.
    A file that is there already is continued: `start` and `cash` then count for nothing.
    """
    venue = SimulatedVenue(
        path,
        prices,
        settings or VenueSettings(seed="loopback", half_spread_bps=Decimal(2)),
        account_number=account_number,
        start=first_morning(prices, start),
    )
    if cash and not venue.book.activities:
        venue.deposit(cash, reference="opening")
    return venue


def first_morning(prices: VenuePrices, start: date | None) -> datetime:
    """Half an hour before the open of the first session on or after `start`. Raises ValueError when there is none."""
    for session in prices.sessions[1:]:
        if start is None or session.session >= start:
            return session.opens_at - BEFORE_OPEN
    raise ValueError(f"Expected a start up to {prices.sessions[-1].session}, was {start}")


def buy_lots(venue: SimulatedVenue, lots: int, quantity: Decimal = Decimal(1)) -> None:
    """Buy `quantity` shares of every name in each of the next `lots` sessions: that many lots of each, filled."""
    for number in range(lots):
        clock = venue.schedule.clock(venue.now)
        venue.advance_to(clock.at if clock.is_open else clock.next_open)
        for symbol in venue.market.quotes(sorted(venue.market._symbols), venue.now):
            venue.submit(OrderRequest(f"lot-{number}-{symbol}", symbol, Side.BUY, quantity))
        venue.advance_to(venue.schedule.clock(venue.now).next_close)
