"""Quotes and daily closes.

Quotes come from snapshots, many symbols a request, always from the feed that was chosen: left to itself Alpaca takes
the consolidated tape for one account and a single exchange for another. A side without a price is sent as 0 and passed
on as 0 (`Quote.is_usable` then says no); a symbol without a quote, or without any price before it, is absent.

Closes come from the consolidated tape (SIP), whichever feed the quotes are from: one exchange's last trade is not the
close. Without a subscription the last quarter of an hour of that tape is closed, so a session counts as finished from
sixteen minutes after its close; until then a question about it raises BrokerUnavailable, for a day left out would look
like a day without trading. With `feed` sip it counts from its close.

Bars are asked for twice, as traded and adjusted for everything; a session without both is absent. One malformed symbol
makes Alpaca refuse the whole list and name it, so it is left out and the rest is asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from brokers.alpaca.answer import NEW_YORK, Answer, answer
from brokers.alpaca.sessions import BrokerTime, Calendar, Session
from brokers.alpaca.transport import BadRequest, Wire
from brokers.errors import BrokerUnavailable
from state.records import DailyBar, Quote

RawBar = tuple[str, date, Decimal, Decimal | None]  # symbol, session, close in USD, volume in shares

PAGE = 10_000  # the most bars Alpaca lists at once, over all symbols
_DELAY = timedelta(minutes=16)  # of the consolidated tape without a subscription: 15, and one to be sure
_INVALID = re.compile(r"invalid symbol:?\s*(\S+)", re.IGNORECASE)


class MarketData:
    """Prices. `chunk` symbols a request. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire, clock: BrokerTime, calendar: Calendar, *, feed: str, chunk: int) -> None:
        self._wire, self._clock, self._calendar = wire, clock, calendar
        self._feed, self._chunk = feed, chunk
        self._delay = timedelta(0) if feed == "sip" else _DELAY

    # -------------------------------------------------------------- quotes

    def quotes(self, symbols: Iterable[str]) -> Mapping[str, Quote]:
        """Latest quotes by symbol."""
        found = {}
        for chunk in self._chunks(symbols):
            for snapshots in self._pages("/stocks/snapshots", chunk, {"feed": self._feed}):
                for symbol in chunk:
                    snapshot = snapshots.inner_or_none(symbol)
                    quote = _quote(symbol, snapshot) if snapshot is not None else None
                    if quote is not None:
                        found[symbol] = quote
        return found

    # -------------------------------------------------------------- daily closes

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        """Closes of finished sessions dated in [start, end], by session then symbol.

        Raises BrokerUnavailable while the close of a session that is over cannot be read yet.
        """
        wanted, now = tuple(symbols), self._now(end)
        for session in self._sessions(start, end):
            if session.closes_at <= now < session.closes_at + self._delay:
                raise BrokerUnavailable(
                    f"Alpaca shows the closes of {session.session} from {session.closes_at + self._delay:%H:%M} UTC on "
                    "to an account without a subscription to the consolidated tape. Asked again later."
                )
        adjusted = {(symbol, day): close for symbol, day, close, _ in self._bars(wanted, start, end, "all", now)}
        found = [
            DailyBar(symbol, day, close, adjusted[symbol, day], volume)
            for symbol, day, close, volume in self._bars(wanted, start, end, "raw", now)
            if (symbol, day) in adjusted
        ]
        return tuple(sorted(found, key=lambda each: (each.session, each.symbol)))

    def bars(self, symbols: Iterable[str], start: date, end: date, *, adjustment: str) -> Iterator[RawBar]:
        """Closes of the sessions in [start, end] that can be read, by chunk of symbols, then symbol, then session.

        A call is made for each chunk and each 10,000 bars, when the iteration comes to it.
        """
        yield from self._bars(symbols, start, end, adjustment, self._now(end))

    def _now(self, end: date) -> datetime:
        """The broker's time; not asked for where it is past `end` already, for it only ever grows."""
        now = self._clock.now()
        return now if now.astimezone(NEW_YORK).date() > end else self._clock.read().at

    def _bars(self, symbols: Iterable[str], start: date, end: date, adjustment: str, now: datetime) -> Iterator[RawBar]:
        readable = now - self._delay
        sessions = {each.session for each in self._sessions(start, end) if each.closes_at <= readable}
        if not sessions:
            return
        last_moment = min(_midnight(max(sessions) + timedelta(days=1)) - timedelta(seconds=1), readable)
        asked = {
            "timeframe": "1Day",
            "start": _stamp(_midnight(min(sessions))),
            "end": _stamp(last_moment),
            "limit": str(PAGE),
            "adjustment": adjustment,
            "feed": "sip",
            "sort": "asc",
        }
        for chunk in self._chunks(symbols):
            for page in self._pages("/stocks/bars", chunk, asked):
                by_symbol = page.inner_or_none("bars") or Answer("bars", {})
                for symbol, _ in by_symbol.items():
                    for row in by_symbol.rows(symbol):
                        day = row.instant("t").astimezone(NEW_YORK).date()
                        if day in sessions:
                            yield symbol, day, row.decimal("c"), row.decimal_or_none("v")

    def _sessions(self, start: date, end: date) -> tuple[Session, ...]:
        days = (start + timedelta(days=number) for number in range((end - start).days + 1))
        if start <= end:
            self._calendar.load(start, end)
        return tuple(session for session in map(self._calendar.on, days) if session is not None)

    # -------------------------------------------------------------- chunks and pages

    def _chunks(self, symbols: Iterable[str]) -> Iterator[tuple[str, ...]]:
        wanted = tuple(dict.fromkeys(symbols))
        return (wanted[first : first + self._chunk] for first in range(0, len(wanted), self._chunk))

    def _pages(self, path: str, symbols: tuple[str, ...], params: Mapping[str, str]) -> Iterator[Answer]:
        """Answers about some symbols, page by page."""
        asked, tokens = {**params, "symbols": ",".join(symbols)}, set[str]()
        while symbols:
            try:
                page = answer(self._wire.read(path, asked), path)
            except BadRequest as refusal:
                symbols = _without_malformed(symbols, refusal)
                asked["symbols"] = ",".join(symbols)
                continue
            yield page
            token = page.text_or("next_page_token")
            if not token:
                return
            if token in tokens:
                raise BrokerUnavailable(f"Alpaca's {path}: expected a new page, was one from before")
            tokens.add(token)
            asked["page_token"] = token


def _without_malformed(symbols: tuple[str, ...], refusal: BadRequest) -> tuple[str, ...]:
    """The symbols without the one that Alpaca calls invalid. Raises the refusal when it names none of them."""
    named = _INVALID.search(str(refusal))
    malformed = named.group(1).strip("\"'.,") if named else None
    if malformed not in symbols:
        raise refusal
    return tuple(symbol for symbol in symbols if symbol != malformed)


def _quote(symbol: str, snapshot: Answer) -> Quote | None:
    """The quote of a snapshot; `last` is the latest trade, else the day's close so far, else the day before's."""
    quote = snapshot.inner_or_none("latestQuote")
    if quote is None or not (quote.has("bp") and quote.has("ap")):
        return None
    for name, price in (("latestTrade", "p"), ("dailyBar", "c"), ("prevDailyBar", "c")):
        last = snapshot.inner_or_none(name)
        if last is not None and last.has(price):
            return Quote(symbol, quote.decimal("bp"), quote.decimal("ap"), last.decimal(price), quote.instant("t"))
    return None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)


def _stamp(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
