"""Bars from the broker into the store: the first load, names that join, and every evening's close.

A few names are asked for at a time, and written with their coverage in one transaction. So a load can be killed at any
instant and goes on with the first name that is not covered; nothing is fetched twice. What has been stored is not
changed again: newer and older answers are joined to it (`joining`), and what contradicts it becomes a finding
(`quarantine`).

    coverage of the name       asked for                              joined at
    none                       start to end                           nothing
    begins after start         start to its first bar                 its first bar
    ends before end            a few sessions back to end             the newest session that both have
    whole, an open jump        the bar before the jump to end         that bar: what comes after may be told anew

The newest session is held back while most names have no close in it: the source has not finished, and is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from brokers.errors import BrokerUnavailable
from daemon.market_data.announcements import ACTIONS_AROUND
from daemon.market_data.asking import ask, asked, overlap
from daemon.market_data.feed import Feed
from daemon.market_data.review import lift_common_gaps, review
from daemon.market_data.taking import Taken, take_in
from state.store import FindingKind, MarketFinding

BARS_A_CALL = 10_000  # a page of the market-data interfaces we know
SETTLES_AFTER = timedelta(hours=1)  # after the close the session's bars are complete


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is. `bars` are those of this run."""

    names_done: int
    names_total: int
    bars: int
    seconds_left: float


Watcher = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load brought."""

    names: int  # that were asked for; the others were covered
    bars: int
    news: tuple[MarketFinding, ...]


def load_history(
    feed: Feed,
    symbols: Iterable[str],
    start: date,
    end: date | None = None,
    watcher: Watcher | None = None,
    *,
    again: bool = False,
) -> Loaded:
    """Store the bars of `symbols` in [start, end] that are not covered yet, with their corporate actions.

    `end` is at most the newest session that is over; None: the newest whose bars are complete. `again` asks anew for
    all of them, and puts the answer in the place of what is stored; findings about their bars end, but for those that
    are found again. Otherwise doing it twice changes nothing.

    Raises BrokerUnavailable with the place where it stopped; what was stored until then is kept, and not asked for
    again.
    """
    sessions = feed.sessions(start, min(end, feed.last_closed()) if end else _settled(feed))
    parts = _parts(feed, symbols, sessions, again=again) if sessions else []
    total, done, bars = sum(len(names) for names, _, _ in parts), 0, 0
    news: list[MarketFinding] = []
    began = feed.clock.monotonic()
    for names, first, last in parts:
        try:
            taken = _load_part(feed, names, first, last, again=again)
        except BrokerUnavailable as error:
            raise BrokerUnavailable(
                f"prices: stopped after {done} of {total} names, at {names[0]}: {error}. "
                f"{bars:,} bars of this run are kept; the next run goes on from there"
            ) from error
        done, bars = done + len(names), bars + len(taken.bars)
        news.extend(taken.findings)
        if watcher is not None:
            spent = feed.clock.monotonic() - began
            watcher(Progress(done, total, bars, spent / done * (total - done)))
    if parts:
        with feed.store.transaction():
            lift_common_gaps(feed, sessions)
            news.extend(review(feed, symbols, ()))
    still = {(one.symbol, one.session, one.kind) for one in feed.store.market.findings(only_open=True)}
    return Loaded(total, bars, tuple(one for one in news if (one.symbol, one.session, one.kind) in still))


def _settled(feed: Feed) -> date:
    """The newest session whose bars are complete at the source."""
    found = feed.calendar.last_closed(feed.clock.now() - SETTLES_AFTER)
    return found.session if found is not None else feed.last_closed()


def _parts(
    feed: Feed, symbols: Iterable[str], sessions: Sequence[date], *, again: bool
) -> list[tuple[tuple[str, ...], date, date]]:
    """Names and the span to ask for, in calls of about `BARS_A_CALL` bars."""
    spans: dict[tuple[date, date], list[str]] = {}
    first, last = sessions[0], sessions[-1]
    if not again:
        adopt(feed, symbols)
    covered = {} if again else feed.store.market.coverage()
    for symbol in sorted(set(symbols)):
        known = covered.get(symbol)
        if known is None:
            spans.setdefault((first, last), []).append(symbol)
            continue
        if known.first_session > first:
            bar = feed.store.market.first_bar(symbol)
            spans.setdefault((first, bar.session if bar else known.first_session), []).append(symbol)
        if known.last_session < last:
            spans.setdefault((overlap(feed, known.last_session), last), []).append(symbol)
    parts = []
    for (begin, until), names in spans.items():
        at_once = max(1, BARS_A_CALL // max(1, len(feed.sessions(begin, until))))
        parts += [(part, begin, until) for part in _cut(names, at_once)]
    return parts


def _cut(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for place in range(0, len(names), size):
        yield tuple(names[place : place + size])


def _load_part(feed: Feed, names: tuple[str, ...], first: date, last: date, *, again: bool) -> Taken:
    store, now = feed.store, feed.clock.now()
    notices = feed.broker.corporate_actions(names, first, feed.today + ACTIONS_AROUND)
    answers = [asked(feed, names, first, last)] if again else list(ask(feed, names, first, last))
    with store.transaction():
        store.actions.put(notices, now)
        if again:
            for symbol in names:
                store.market.remove(symbol)
                store.market.uncover(symbol)
            store.market.resolve(_about_bars(feed, names), "loaded again", now)
        taken = take_in(feed, answers)
        store.market.cover(names, first, last, now)
        taken.findings = list(store.market.put_findings(taken.findings))
    return taken


def _about_bars(feed: Feed, names: Collection[str]) -> list[MarketFinding]:
    """Open findings of names that other bars may end."""
    found = feed.store.market.findings(symbols=names, only_open=True)
    return [one for one in found if one.kind not in (FindingKind.RENAMED, FindingKind.GONE)]


def adopt(feed: Feed, symbols: Iterable[str]) -> None:
    """Bars that were stored without coverage (the demo's) cover what they span."""
    market = feed.store.market
    missing = set(symbols) - market.coverage().keys()
    found = {symbol: extent for symbol, extent in (market.extents() if missing else {}).items() if symbol in missing}
    with feed.store.transaction():
        for symbol, extent in found.items():
            market.cover([symbol], extent.first, extent.last, feed.clock.now())
