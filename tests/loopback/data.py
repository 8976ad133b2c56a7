"""The data API: daily bars, latest quotes and trades, snapshots, corporate actions.

Bars are of finished sessions only: the venue knows a session's close before it happens, and shows it to no one. They
open at the close before, because the venue has nothing but closes. Adjusted bars are scaled back from today, so that
the newest price is as traded and history moves under it whenever something happens, as at Alpaca.

Pages are counted in rows over all symbols, sorted by symbol and then time; a token names the next row.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

from brokers.simulated import SimulatedVenue
from loopback import errors, wire
from loopback.errors import bad_data_request
from loopback.requests import Parameters, Request
from loopback.routing import Answer, Route
from loopback.wire import Json
from state.records import CorporateNotice, DailyBar, Quote

_MOST_POINTS, _DEFAULT_POINTS = 10_000, 1_000
_MOST_ACTIONS, _DEFAULT_ACTIONS = 1_000, 100
_QUARTER_HOUR = timedelta(minutes=15)
_ADJUSTMENTS = frozenset({"raw", "split", "dividend", "spin-off", "all"})
_FEEDS = frozenset({"sip", "iex", "boats", "otc", "delayed_sip", "overnight"})
_SYMBOL = re.compile(r"[A-Z][A-Z0-9./]*")
_SIX_DECIMALS = Decimal("0.000001")
_ACTION_GROUPS = {
    "cash_dividend": "cash_dividends",
    "forward_split": "forward_splits",
    "reverse_split": "reverse_splits",
}
_ACTION_TYPES = frozenset(
    {
        *_ACTION_GROUPS,
        "unit_split",
        "stock_dividend",
        "spin_off",
        "cash_merger",
        "stock_merger",
        "stock_and_cash_merger",
        "redemption",
        "name_change",
        "worthless_removal",
        "rights_distribution",
        "partial_call",
        "reorganization",
    }
)


class DataApi:
    """Answers /v2/stocks/... and /v1/corporate-actions. Called with the venue locked.

    `real_time_sip`: the account pays for the consolidated feed. Without it (the free plan) recent consolidated data
    is refused.
    """

    def __init__(self, venue: SimulatedVenue, symbols: Iterable[str], *, real_time_sip: bool) -> None:
        self._venue = venue
        self._symbols = tuple(symbols)
        self._real_time_sip = real_time_sip

    def routes(self) -> tuple[Route, ...]:
        """The paths answered here."""
        return (
            Route("GET", "/v2/stocks/bars", self.bars),
            Route("GET", "/v2/stocks/quotes/latest", self.latest_quotes),
            Route("GET", "/v2/stocks/trades/latest", self.latest_trades),
            Route("GET", "/v2/stocks/bars/latest", self.latest_bars),
            Route("GET", "/v2/stocks/snapshots", self.snapshots),
            Route("GET", "/v1/corporate-actions", self.corporate_actions),
        )

    # -------------------------------------------------------------- bars

    def bars(self, request: Request) -> Answer:
        """GET /v2/stocks/bars, daily ones."""
        query = Parameters(request.query, bad_data_request)
        if query.text("timeframe") not in ("1Day", "1D"):
            raise bad_data_request("invalid timeframe: the venue has daily bars only")
        symbols = sorted(set(self._required_symbols(query)))
        adjustments = query.words("adjustment") or ("raw",)
        if not _ADJUSTMENTS.issuperset(adjustments):
            raise bad_data_request(f"invalid adjustment: {','.join(adjustments)}")
        limit = query.whole("limit", _DEFAULT_POINTS, 1, _MOST_POINTS)
        start, end = self._interval(query)
        first_symbol, first_at = _read_token(query.text("page_token"))
        bars: dict[str, list[Json]] = {}
        room = limit
        for symbol in symbols:
            if symbol < first_symbol:
                continue
            rows = self._bars_of(symbol, start, end, adjustments)
            if symbol == first_symbol:
                rows = [row for row in rows if str(row["t"]) >= first_at]
            if rows and not room:
                return Answer(200, {"bars": bars, "next_page_token": _token(symbol, str(rows[0]["t"]))})
            if rows:
                bars[symbol] = rows[:room]
            if len(rows) > room:
                return Answer(200, {"bars": bars, "next_page_token": _token(symbol, str(rows[room]["t"]))})
            room -= len(rows)
        return Answer(200, {"bars": bars, "next_page_token": None})

    def _interval(self, query: Parameters) -> tuple[datetime, datetime]:
        """Start and end of the bars asked for. Raises WireError for recent consolidated data on the free plan."""
        now = self._venue.now
        free = not self._real_time_sip and self._feed(query, "sip") == "sip"
        newest = now - _QUARTER_HOUR if free else now
        given_end = query.instant("end", end_of_day=True)
        if free and given_end is not None and given_end > newest:
            raise errors.recent_sip()
        end = newest if given_end is None else given_end
        start = query.instant("start")
        return wire.midnight(self._venue.schedule.trade_date(now)) if start is None else start, end

    def _feed(self, query: Parameters, default: str) -> str:
        feed = query.text("feed") or default
        if feed not in _FEEDS:
            raise bad_data_request(f"invalid feed: {feed}")
        return feed

    def _bars_of(self, symbol: str, start: datetime, end: datetime, adjustments: tuple[str, ...]) -> list[Json]:
        """Daily bars of a symbol stamped in [start, end], oldest first."""
        first, last = (self._venue.schedule.trade_date(instant) for instant in (start, end))
        if adjustments == ("raw",):  # the day before the first gives its open
            history = self._history(symbol, first - timedelta(days=10), last)
            closes = [bar.close for bar in history]
        else:
            history = self._history(symbol, date.min, date.max)
            closes = self._adjusted(symbol, history, adjustments)
        prices = [float(close) for close in closes]
        return [
            wire.bar(wire.day_stamp(bar.session), price, before)
            for bar, price, before in zip(history, prices, (*prices[:1], *prices), strict=False)
            if start <= wire.midnight(bar.session) <= end
        ]

    def _history(self, symbol: str, first: date, last: date) -> tuple[DailyBar, ...]:
        return self._venue.market.daily_bars((symbol,), first, last, self._venue.now)

    def _adjusted(self, symbol: str, history: tuple[DailyBar, ...], adjustments: tuple[str, ...]) -> list[Decimal]:
        """Closes scaled so that the newest is as quoted now.

        For all adjustments the venue's total-return series has the shape, where it has one; else splits and dividends
        of its history are taken back one by one.
        """
        if not history:
            return []
        total_return = any(bar.adjusted != bar.close for bar in history)
        if total_return and "all" in adjustments:
            quotes = self._venue.market.quotes((symbol,), self._venue.now)
            newest = quotes[symbol].last if symbol in quotes else history[-1].close
            return [_six(bar.adjusted * newest / history[-1].adjusted) for bar in history]
        return self._taken_back(symbol, history, adjustments)

    def _taken_back(self, symbol: str, history: tuple[DailyBar, ...], adjustments: tuple[str, ...]) -> list[Decimal]:
        notices = list(self._venue.notices((symbol,), date.min, date.max))
        factor = Decimal(1)
        closes: list[Decimal] = []
        for bar in reversed(history):
            while notices and notices[-1].ex_date > bar.session:
                factor *= _factor(notices.pop(), bar.close, adjustments)
            closes.append(_six(bar.close * factor))
        return closes[::-1]

    # -------------------------------------------------------------- the latest

    def latest_quotes(self, request: Request) -> Answer:
        """GET /v2/stocks/quotes/latest."""
        at = wire.stamp(self._venue.now)
        quotes = {symbol: wire.quote(each.bid, each.ask, at) for symbol, each in self._quotes(request)}
        return Answer(200, {"quotes": quotes})

    def latest_trades(self, request: Request) -> Answer:
        """GET /v2/stocks/trades/latest."""
        at = wire.stamp(self._venue.now)
        return Answer(200, {"trades": {symbol: wire.trade(each.last, at) for symbol, each in self._quotes(request)}})

    def latest_bars(self, request: Request) -> Answer:
        """GET /v2/stocks/bars/latest: the last minute, in which nothing moved."""
        return Answer(200, {"bars": {symbol: self._minute_bar(each) for symbol, each in self._quotes(request)}})

    def snapshots(self, request: Request) -> Answer:
        """GET /v2/stocks/snapshots, keyed by symbol at the top. The daily bars are of finished sessions."""
        at = wire.stamp(self._venue.now)
        found: Json = {}
        today = self._venue.schedule.trade_date(self._venue.now)
        for symbol, each in self._quotes(request):
            days = self._bars_of(symbol, wire.midnight(today - timedelta(days=14)), self._venue.now, ("raw",))
            snapshot: Json = {
                "latestTrade": wire.trade(each.last, at),
                "latestQuote": wire.quote(each.bid, each.ask, at),
                "minuteBar": self._minute_bar(each),
            }
            for name, back in (("dailyBar", 1), ("prevDailyBar", 2)):
                if len(days) >= back:
                    snapshot[name] = days[-back]
            found[symbol] = snapshot
        return Answer(200, found)

    def _minute_bar(self, quote: Quote) -> Json:
        minute = self._venue.now.replace(second=0, microsecond=0)
        return wire.bar(wire.stamp(minute), float(quote.last), float(quote.last))

    def _quotes(self, request: Request) -> Iterator[tuple[str, Quote]]:
        query = Parameters(request.query, bad_data_request)
        symbols = self._required_symbols(query)
        if self._feed(query, "sip" if self._real_time_sip else "iex") == "sip" and not self._real_time_sip:
            raise errors.recent_sip()
        yield from sorted(self._venue.market.quotes(symbols, self._venue.now).items())

    def _required_symbols(self, query: Parameters) -> tuple[str, ...]:
        symbols = query.words("symbols")
        if not symbols:
            raise bad_data_request("symbols is required")
        for symbol in symbols:
            if not _SYMBOL.fullmatch(symbol):
                raise bad_data_request(f"invalid symbol: {symbol}")
        return symbols

    # -------------------------------------------------------------- corporate actions

    def corporate_actions(self, request: Request) -> Answer:
        """GET /v1/corporate-actions, by process date, which here is the ex-date: the venue pays at once."""
        query = Parameters(request.query, bad_data_request)
        today = self._venue.schedule.trade_date(self._venue.now)
        types = query.words("types")
        if not _ACTION_TYPES.issuperset(types):
            raise bad_data_request(f"invalid types: {','.join(types)}")
        limit = query.whole("limit", _DEFAULT_ACTIONS, 1, _MOST_ACTIONS)
        ids = query.words("ids")
        if ids and any(query.text(name) for name in ("symbols", "types", "start", "end")):
            raise bad_data_request("ids is mutually exclusive with the other filters")
        start = date.min if ids else query.day("start", today)
        end = date.max if ids else query.day("end", today)
        notices = [
            each
            for each in self._venue.notices(query.words("symbols") or self._symbols, start, end)
            if (not types or each.kind in types) and (not ids or _action_id(each) in ids)
        ]
        if query.choice("sort", "asc", ("asc", "desc")) == "desc":
            notices.reverse()
        first, _ = _read_token(query.text("page_token"))
        begin = int(first) if first.isdecimal() else 0
        groups: dict[str, list[Json]] = {}
        for notice in notices[begin : begin + limit]:
            groups.setdefault(_ACTION_GROUPS[notice.kind], []).append(self._action(notice))
        following = begin + limit
        token = _token(str(following), "") if following < len(notices) else None
        return Answer(200, {"corporate_actions": groups, "next_page_token": token})

    def _action(self, notice: CorporateNotice) -> Json:
        security = self._venue.market.security(notice.symbol)
        cusip = (security.cusip if security is not None else None) or ""
        day = notice.ex_date.isoformat()
        row: Json = {"id": _action_id(notice), "symbol": notice.symbol, "ex_date": day, "process_date": day}
        row |= {"record_date": day, "payable_date": day}
        if notice.action is None:
            return {**row, "cusip": cusip, "rate": float(notice.per_share), "special": False, "foreign": False}
        rates = {"new_rate": float(notice.action.ratio_new), "old_rate": float(notice.action.ratio_old)}
        if notice.kind == "forward_split":
            return {**row, "cusip": cusip, **rates}
        return {**row, "old_cusip": cusip, "new_cusip": cusip, **rates}


def _action_id(notice: CorporateNotice) -> str:
    return wire.wire_id("corporate-action", notice.action_id)


def _factor(notice: CorporateNotice, close: Decimal, adjustments: tuple[str, ...]) -> Decimal:
    """What an action multiplies the prices before it by; `close` is the last of them as traded, in USD."""
    if notice.action is not None and {"split", "all"}.intersection(adjustments):
        return notice.action.ratio_old / notice.action.ratio_new
    if notice.action is None and {"dividend", "all"}.intersection(adjustments):
        return 1 - notice.per_share / close
    return Decimal(1)


def _six(price: Decimal) -> Decimal:
    return price.quantize(_SIX_DECIMALS)


def _token(symbol: str, at: str) -> str:
    return base64.b64encode(f"{symbol}|D|{at}".encode()).decode()


def _read_token(token: str | None) -> tuple[str, str]:
    """Symbol and stamp of the next row; empty from the beginning. Raises WireError."""
    if token is None:
        return "", ""
    try:
        symbol, _, at = base64.b64decode(token, validate=True).decode().split("|")
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise bad_data_request(f"invalid page_token: {token}") from error
    return symbol, at
