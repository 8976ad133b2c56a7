"""Asking the broker, so that the answer can be joined to what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from daemon.market_data.feed import Feed
from state.records import DailyBar


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said of some names' sessions in [start, end]."""

    symbols: tuple[str, ...]
    start: date
    end: date
    bars: tuple[DailyBar, ...]


def overlap(feed: Feed, last: date) -> date:
    """Where to ask from, so that the answer shares sessions with what is stored up to `last`."""
    return feed.back(last, feed.policy.overlap_sessions - 1)


def asked(feed: Feed, symbols: Sequence[str], start: date, end: date) -> Answer:
    return Answer(tuple(symbols), start, end, tuple(feed.broker.daily_bars(symbols, start, end)))


def ask(feed: Feed, symbols: Sequence[str], start: date, end: date) -> Iterator[Answer]:
    """The answer for names over a span; a name whose newer bars share no session with what is stored of it is asked for
    once more from its last stored bar on."""
    answer = asked(feed, symbols, start, end)
    told: dict[str, set[date]] = {}
    for bar in answer.bars:
        told.setdefault(bar.symbol, set()).add(bar.session)
    stored = stored_bars(feed, symbols, start, end)
    apart = []
    for symbol in told:
        if not told[symbol] & stored.get(symbol, {}).keys():
            last = feed.store.market.last_before(symbol, start)
            if last is not None:
                apart.append((symbol, last.session))
    alone = {symbol for symbol, _ in apart}
    rest = tuple(symbol for symbol in answer.symbols if symbol not in alone)
    yield replace(answer, symbols=rest, bars=tuple(bar for bar in answer.bars if bar.symbol not in alone))
    for symbol, last_session in apart:
        yield asked(feed, (symbol,), last_session, end)


def stored_bars(feed: Feed, symbols: Sequence[str], start: date, end: date) -> dict[str, dict[date, DailyBar]]:
    """The stored bars of names in [start, end], used or not."""
    market = feed.store.market
    if len(feed.sessions(start, end)) < len(symbols):
        wanted, found = set(symbols), market.bars(start, every=True)
    else:
        wanted, found = set(), (bar for symbol in symbols for bar in market.series(symbol, start, every=True))
    by_name: dict[str, dict[date, DailyBar]] = {}
    for bar in found:
        if bar.session <= end and (not wanted or bar.symbol in wanted):
            by_name.setdefault(bar.symbol, {})[bar.session] = bar
    return by_name


def until(answer: Answer, end: date) -> Answer:
    return replace(answer, end=end, bars=tuple(bar for bar in answer.bars if bar.session <= end))
