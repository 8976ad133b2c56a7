"""Every evening: the close of the session that is over, its corporate actions, and what is found wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from daemon.market_data.announcements import Told, announced, changes_lots, keep
from daemon.market_data.asking import Answer, ask, asked, overlap, until
from daemon.market_data.feed import Feed
from daemon.market_data.loading import adopt, load_history
from daemon.market_data.review import review, thin_finding, thin_sessions
from daemon.market_data.taking import mend, take_in
from state.records import CorporateNotice, DailyBar
from state.store import Coverage, FindingKind, MarketFinding
from state.store.market import SPOILING

MOST_BEHIND = 60  # sessions; a name further behind is loaded, not updated
UPDATED = "prices updated"  # in the store's meta
NOBODY: Mapping[str, date] = {}


@dataclass(frozen=True, slots=True)
class Update:
    """What an evening brought."""

    session: date  # the newest that is over
    bars: tuple[DailyBar, ...]  # new ones that may be used, by session then symbol
    news: tuple[MarketFinding, ...]
    notices: tuple[CorporateNotice, ...]  # corporate actions not known before
    rewritten: bool  # the past is another, too: what was made of stored bars must be made again
    incomplete: str = ""  # why `session` is not stored yet

    @property
    def is_complete(self) -> bool:
        """True when the newest session is stored."""
        return not self.incomplete


@dataclass(frozen=True, slots=True)
class _Evening:
    """What the broker said this evening, before any of it is written."""

    told: Told
    answers: tuple[Answer, ...]
    anew: tuple[tuple[MarketFinding, DailyBar, Answer], ...]  # open jumps, the bar before each, all since


def update_daily(
    feed: Feed, symbols: Iterable[str], start: date | None = None, beside: Mapping[str, date] = NOBODY
) -> Update:
    """Bring `symbols` up to the newest session that is over: its closes, corporate actions, and what is found wrong.

    Names not stored yet are loaded back to `start` (None: as far as the others). While most names have no close in the
    newest session it is not stored, and the answer says so. Of `beside`, symbols without prices by the first day the
    household had them, only corporate actions are asked for. Doing it twice changes nothing.

    Raises BrokerUnavailable; nothing of the evening is stored then.
    """
    session, names = feed.last_closed(), sorted(set(symbols))
    adopt(feed, names)
    covered = feed.store.market.coverage()
    begin = start or min((one.first_session for one in covered.values()), default=session)
    behind = _behind(feed, names, covered, begin, session)
    current = [covered[name] for name in names if name not in behind]
    evening = _ask_evening(feed, current, session, beside)
    with feed.store.transaction():
        update = _write_evening(feed, [one.symbol for one in current], evening, session)
    if not behind:
        return update
    loaded = load_history(feed, behind, begin, session if update.is_complete else None)
    return replace(update, news=(*update.news, *loaded.news), rewritten=update.rewritten or loaded.bars > 0)


def _behind(
    feed: Feed, names: Iterable[str], covered: Mapping[str, Coverage], begin: date, session: date
) -> frozenset[str]:
    """Names that want a load: never asked for, not back to `begin`, or left alone for months."""
    first, oldest = feed.sessions(begin, session)[0], feed.back(session, MOST_BEHIND)
    reach = {name: covered[name] for name in names if name in covered}
    return frozenset(
        name
        for name in names
        if name not in reach or reach[name].first_session > first or reach[name].last_session < oldest
    )


def _ask_evening(feed: Feed, current: Sequence[Coverage], session: date, beside: Mapping[str, date]) -> _Evening:
    store, names = feed.store, [one.symbol for one in current]
    if not names:
        return _Evening(Told(), (), ())
    told = announced(feed, names, beside)
    spans: dict[date, list[str]] = {}
    for one in current:
        spans.setdefault(overlap(feed, min(one.last_session, session)), []).append(one.symbol)
    answers = tuple(answer for first, some in spans.items() for answer in ask(feed, some, first, session))
    anew = []
    for jump in _first_jumps(feed, names):
        good = store.market.last_before(jump.symbol, jump.session)
        if good is not None:
            anew.append((jump, good, asked(feed, (jump.symbol,), good.session, session)))
    return _Evening(told, answers, tuple(anew))


def take_notices(feed: Feed, symbols: Iterable[str], beside: Mapping[str, date] = NOBODY) -> Update:
    """Corporate actions of `symbols`, and of those `beside` them as above, from a month before they were last asked for
    to a month ahead; the answer has no bars. Findings that they explain end, and names that they end are found. Raises
    BrokerUnavailable."""
    names = sorted(set(symbols))
    told = announced(feed, names, beside)
    with feed.store.transaction():
        new = keep(feed, told)
        news = review(feed, names, ())
    return Update(feed.last_closed(), (), news, new, changes_lots(told))


def _first_jumps(feed: Feed, names: Sequence[str]) -> tuple[MarketFinding, ...]:
    """The oldest open jump of each name."""
    found = feed.store.market.findings({FindingKind.JUMP}, symbols=frozenset(names), only_open=True)
    return tuple({one.symbol: one for one in reversed(found)}.values())


def _write_evening(feed: Feed, names: Sequence[str], evening: _Evening, session: date) -> Update:
    """Everything the evening brought, in the caller's transaction."""
    store, now = feed.store, feed.clock.now()
    notices = keep(feed, evening.told)
    rewritten, newest = _was_resolved(feed) or changes_lots(evening.told), store.market.last_session() or date.min
    answers, end = evening.answers, session
    thin = thin_sessions(feed, answers)
    held = thin.get(session, "")
    if held:
        end = feed.back(session, 1)
        answers = tuple(until(answer, end) for answer in answers)
    mended = [mend(feed, jump, good, until(answer, end)) for jump, good, answer in evening.anew]
    taken = take_in(feed, answers, excused=thin)
    for answer in answers:
        store.market.cover(answer.symbols, min(answer.start, end), end, now)
    findings = [*taken.findings, *(finding for one in mended for finding in one.findings)]
    findings += [thin_finding(one, words, now) for one, words in thin.items() if one <= end]
    news = [*store.market.put_findings(findings), *review(feed, names, answers)]
    if not held:
        store.meta.put(UPDATED, now.isoformat())
    rewritten = rewritten or taken.rewritten or any(one.rewritten for one in mended)
    rewritten = rewritten or any(one.kind in SPOILING and one.session <= newest for one in news)
    rewritten = rewritten or any(bar.session <= newest for bar in taken.bars)
    bars = sorted(store.market.usable(taken.bars), key=lambda bar: (bar.session, bar.symbol))
    return Update(session, tuple(bars), tuple(news), notices, rewritten, held)


def _was_resolved(feed: Feed) -> bool:
    """True when somebody ended a finding since the last evening."""
    updated = feed.store.meta.get(UPDATED)
    return updated is not None and feed.store.market.resolved_since(datetime.fromisoformat(updated))
