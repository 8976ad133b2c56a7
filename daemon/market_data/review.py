"""What only shows over all names, or in the light of what else is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

from daemon.market_data.asking import Answer
from daemon.market_data.feed import Feed
from daemon.market_data.quarantine import ONE_SESSION, endings, is_price, moves
from daemon.market_data.taking import notices_of
from state.store import FindingKind, MarketFinding
from state.store.market import EVERY_SYMBOL

FEW, PART = 2, 5  # a session is thin when more than 2 names and more than one in 5 lack it, or all of them


def thin_sessions(feed: Feed, answers: Sequence[Answer]) -> dict[date, str]:
    """Sessions in which most names have no bar, with what was seen. Names count that had one in the last full one.

    A session that only a few of the names were asked about tells nothing.
    """
    told: dict[date, set[str]] = {}
    asked: Counter[date] = Counter()
    everyone = sum(len(answer.symbols) for answer in answers)
    for answer in answers:
        asked.update(dict.fromkeys(feed.sessions(answer.start, answer.end), len(answer.symbols)))
        for bar in answer.bars:
            if is_price(bar.close):
                told.setdefault(bar.session, set()).add(bar.symbol)
    thin: dict[date, str] = {}
    alive: set[str] = set()
    for session in sorted(session for session, names in asked.items() if 2 * names >= everyone):
        present = told.get(session, set())
        if alive and _is_thin(len(alive & present), len(alive)):
            thin[session] = f"{len(alive & present)} of {len(alive)} names have a close in the session of {session}"
        elif present:
            alive = present
    return thin


def lift_common_gaps(feed: Feed, sessions: Sequence[date]) -> None:
    """After a load, name by name: a session that most names lack is one finding, not a gap of each."""
    market, now = feed.store.market, feed.clock.now()
    gaps_of: Counter[date] = Counter()
    singles = [one for one in market.findings({FindingKind.GAP}, only_open=True) if one.detail == ONE_SESSION]
    gaps_of.update(one.session for one in singles)
    suspected = [session for session in sessions if gaps_of[session] > FEW]
    present = market.counts(suspected)
    for session in suspected:
        have, alive = present.get(session, 0), present.get(session, 0) + gaps_of[session]
        if _is_thin(have, alive):
            words = f"{have} of {alive} names have a close in the session of {session}"
            market.put_findings([thin_finding(session, words, now)])
            common = [one for one in singles if one.session == session]
            market.resolve(common, "most names have no bar in this session", now)


def _is_thin(present: int, alive: int) -> bool:
    return present == 0 or alive - present > max(FEW, alive // PART)


def thin_finding(session: date, words: str, now: datetime) -> MarketFinding:
    """The finding about a whole session."""
    why = "the exchange may have been closed, or the source has lost it"
    return MarketFinding(EVERY_SYMBOL, session, FindingKind.SESSION, f"only {words}: {why}", now)


def review(feed: Feed, names: Iterable[str], answers: Sequence[Answer]) -> tuple[MarketFinding, ...]:
    """Findings that end or begin with what else is known: splits that are told by now, sessions that are full by now,
    names that have no bar any more; in the caller's transaction. Returns what is new."""
    market, now, session = feed.store.market, feed.clock.now(), feed.last_closed()
    wanted = frozenset(names)
    _explain(feed, wanted)
    told = {bar.session for answer in answers for bar in answer.bars}
    thin = thin_sessions(feed, answers)
    for one in market.findings({FindingKind.SESSION}, only_open=True):
        if one.session in told and one.session not in thin:
            market.resolve([one], "the source told the session later", now)
    ended = market.findings({FindingKind.RENAMED, FindingKind.GONE}, symbols=wanted, only_open=True)
    quiet = wanted - market.symbols_in(session)
    notices = [*feed.store.actions.notices(quiet, None, session)] if quiet else []
    if session < feed.today:  # what happens before the next open has no bar to show for it yet
        notices += feed.store.actions.notices(wanted, session + timedelta(days=1), feed.today)
    last_bars = {}
    for symbol in {one.symbol for one in ended} | {one.symbol for one in notices}:
        bar = market.last_before(symbol)
        if bar is not None:
            last_bars[symbol] = bar.session
    again = [one for one in ended if last_bars.get(one.symbol, date.min) > one.session]
    market.resolve(again, "there are prices again", now)
    return market.put_findings(endings(notices, last_bars, feed.today, now))


def _explain(feed: Feed, names: Collection[str]) -> None:
    """End the findings about moves that a corporate action explains by now."""
    market, now = feed.store.market, feed.clock.now()
    kinds = {FindingKind.SPLIT, FindingKind.JUMP, FindingKind.PAST_JUMP}
    for one in market.findings(kinds, symbols=names, only_open=True):
        before, bars = market.last_before(one.symbol, one.session), market.series(one.symbol, one.session, every=True)
        if before is None or not bars:
            continue
        notices = notices_of(feed, [one.symbol], before.session, bars[0].session).get(one.symbol, [])
        judged = moves(before, bars[:1], notices, feed.policy, feed.recent_from(), now)
        if not judged.findings and judged.bars == bars[:1]:
            said = ", ".join(notice.kind for notice in notices) or "nothing"
            market.resolve([one], f"explained by corporate actions: {said}", now)
