"""What the simulated market shows and what it trades at.

Shown at any instant: the close of the last finished session, half a spread either side, scaled by splits that
have taken effect since. Traded at during a session: that session's own close, half a spread against us. Nothing
here shows a close before `closes_at`; only a fill can tell it, and the fill is the trade.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from brokers.simulated.book import Book
from brokers.simulated.world import Schedule, VenuePrices, VenueSettings
from state.records import DailyBar, Quote, Security, Side

_FINEST, _COARSEST = 4, 2  # decimals of a price
_BASIS_POINT = Decimal("0.0001")


class Market:
    """Quotes, execution prices and bars."""

    def __init__(self, prices: VenuePrices, settings: VenueSettings, schedule: Schedule, book: Book) -> None:
        self._prices = prices
        self._half_spread = settings.half_spread_bps * _BASIS_POINT
        self._fractional = settings.fractional
        self._schedule = schedule
        self._book = book
        self._symbols = frozenset(prices.symbols)
        self._shown_key: tuple[int, bool, int] | None = None
        self._shown: dict[str, tuple[Decimal, Decimal, Decimal] | None] = {}

    def security(self, symbol: str) -> Security | None:
        """The security, fractionable only where the venue takes fractions; None when the symbol is unknown."""
        if symbol not in self._symbols:
            return None
        known = self._prices.securities.get(symbol, Security(symbol))
        if known.fractionable and not self._fractional:
            return Security(known.symbol, known.name, known.cusip, known.sector, known.index_name, known.tradable)
        return known

    def quotes(self, symbols: Iterable[str], now: datetime) -> dict[str, Quote]:
        """Quotes made at `now`; a symbol unknown or without a close in the last finished session is absent."""
        shown = self._shown_at(now)
        found: dict[str, Quote] = {}
        for symbol in symbols:
            if symbol not in shown:
                shown[symbol] = self._show(symbol, now)
            prices = shown[symbol]
            if prices is not None:
                found[symbol] = Quote(symbol, *prices, now)
        return found

    def execution_price(self, symbol: str, session: int, side: Side) -> Decimal | None:
        """USD per share for a trade in this session: its close half a spread against us; None without a close."""
        close = self._close(symbol, session)
        if close is None:
            return None
        bid, ask = self._around(close)
        return ask if side is Side.BUY else bid

    def daily_bars(self, symbols: Iterable[str], start: date, end: date, now: datetime) -> tuple[DailyBar, ...]:
        """Closes of the sessions dated in [start, end] that have finished, by session then symbol."""
        wanted = sorted(self._symbols.intersection(symbols))
        adjusted = self._prices.adjusted or self._prices.closes
        bars: list[DailyBar] = []
        for index in self._schedule.session_range(start, end, now):
            day = self._schedule.sessions[index].session
            for symbol in wanted:
                close = self._close(symbol, index)
                total_return = adjusted[symbol][index]
                if close is not None and total_return is not None:
                    bars.append(DailyBar(symbol, day, close, total_return))
        return tuple(bars)

    def _close(self, symbol: str, session: int) -> Decimal | None:
        """The session's close, scaled by commanded splits, of which the history knows nothing."""
        close = self._prices.closes[symbol][session]
        if close is not None and self._book.command_splits:
            for split in self._book.command_splits:
                if split.symbol == symbol and split.session <= session:
                    close = _divided(close, split.ratio_new, split.ratio_old)
        return close

    def _shown_at(self, now: datetime) -> dict[str, tuple[Decimal, Decimal, Decimal] | None]:
        upcoming = self._schedule.upcoming(now)
        acted = upcoming < len(self._schedule.sessions) and self._schedule.actions_at(upcoming) <= now
        key = (upcoming, acted, len(self._book.command_splits))
        if key != self._shown_key:
            self._shown_key, self._shown = key, {}
        return self._shown

    def _show(self, symbol: str, now: datetime) -> tuple[Decimal, Decimal, Decimal] | None:
        upcoming = self._schedule.upcoming(now)
        if symbol not in self._symbols or upcoming == 0:
            return None
        last = self._close(symbol, upcoming - 1)
        if last is None:
            return None
        for split in self._book.command_splits:
            if split.symbol == symbol and split.session == upcoming:
                last = _divided(last, split.ratio_new, split.ratio_old)
        if upcoming < len(self._schedule.sessions) and self._schedule.actions_at(upcoming) <= now:
            for name, (new, old) in self._schedule.splits.get(upcoming, ()):
                if name == symbol:
                    last = _divided(last, new, old)
        bid, ask = self._around(last)
        return bid, ask, last

    def _around(self, price: Decimal) -> tuple[Decimal, Decimal]:
        """Bid and ask half a spread around a price, rounded outwards to its own 2 to 4 decimals."""
        decimals = -int(price.normalize().as_tuple().exponent)
        step = Decimal(1).scaleb(-max(_COARSEST, min(_FINEST, decimals)))
        bid = (price * (1 - self._half_spread)).quantize(step, ROUND_FLOOR)
        ask = (price * (1 + self._half_spread)).quantize(step, ROUND_CEILING)
        return max(bid, step), max(ask, step)


def _divided(price: Decimal, new: Decimal, old: Decimal) -> Decimal:
    """A price per share after a split, in USD to four decimals."""
    return (price * old / new).quantize(Decimal(1).scaleb(-_FINEST), ROUND_HALF_UP)
