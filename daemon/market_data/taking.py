"""Answers into the store: joined to what is there, judged, and what is there left as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal

from daemon.market_data.asking import Answer, stored_bars
from daemon.market_data.feed import Feed
from daemon.market_data.joining import joined, scaled
from daemon.market_data.quarantine import Judged, corrections, gaps, is_cash, moves, sifted
from state.records import CorporateNotice, DailyBar
from state.store import FindingKind, MarketFinding
from state.store.market import EVERY_SYMBOL, SPOILING


@dataclass
class Taken:
    """What became of answers."""

    bars: list[DailyBar]
    findings: list[MarketFinding]
    rewritten: bool = False


def take_in(feed: Feed, answers: Iterable[Answer], excused: Collection[date] = ()) -> Taken:
    """Join, judge and store what was answered; in the caller's transaction. `excused` sessions are no gaps."""
    taken = Taken([], [])
    recent_from, now = feed.recent_from(), feed.clock.now()
    for answer in answers:
        sessions = feed.sessions(answer.start, answer.end)
        judged = sifted(answer.bars, frozenset(sessions), now)
        stored = stored_bars(feed, answer.symbols, answer.start, answer.end)
        notices = notices_of(feed, answer.symbols, answer.start - timedelta(days=14), answer.end)
        known: dict[str, list[MarketFinding]] = {}
        for one in feed.store.market.findings(symbols={*answer.symbols, EVERY_SYMBOL}):
            if one.is_open or one.is_accepted:
                known.setdefault(one.symbol, []).append(one)
        lacking = frozenset({*excused, *(one.session for one in known.get(EVERY_SYMBOL, ()))})
        for symbol in answer.symbols:
            name = _Name(
                feed=feed,
                symbol=symbol,
                sessions=sessions,
                stored=stored.get(symbol, {}),
                notices=notices.get(symbol, ()),
                found_before=known.get(symbol, ()),
                recent_from=recent_from,
                excused=lacking,
            )
            name.take(judged.get(symbol, Judged((), ())), taken)
    feed.store.market.add(taken.bars)
    return taken


def notices_of(feed: Feed, symbols: Sequence[str], start: date, end: date) -> dict[str, list[CorporateNotice]]:
    """Corporate actions of names with an ex-date in [start, end], each once however often it was told: cash of one day
    and one amount is one payment."""
    told = feed.store.actions.notices(symbols, start, end)
    actions = feed.store.actions.once([one.action for one in told if one.action is not None])
    once = {action.action_id for action in actions}
    found: dict[str, list[CorporateNotice]] = {}
    paid: set[tuple[str, date, Decimal]] = set()
    for notice in told:
        if notice.action is not None and notice.action_id not in once:
            continue
        cash = notice.symbol, notice.ex_date, notice.per_share
        if is_cash(notice) and cash in paid:
            continue
        paid.add(cash)
        found.setdefault(notice.symbol, []).append(notice)
    return found


@dataclass(frozen=True, slots=True)
class _Name:
    """One name of an answer, and what is stored of it in the sessions that were asked for."""

    feed: Feed
    symbol: str
    sessions: tuple[date, ...]
    stored: Mapping[date, DailyBar]
    notices: Sequence[CorporateNotice]
    found_before: Sequence[MarketFinding]  # open, or accepted by a person
    recent_from: date
    excused: frozenset[date]

    def take(self, judged: Judged, taken: Taken) -> None:
        """Add the bars to store and what was found to `taken`."""
        market, now = self.feed.store.market, self.feed.clock.now()
        told = {bar.session: bar for bar in judged.bars}
        is_whole = self.sessions[0] in self.stored  # what was stored before it changes nothing then
        earlier = None if is_whole else market.last_before(self.symbol, self.sessions[0])
        known = bool(self.stored) or earlier is not None
        common = sorted(self.stored.keys() & told.keys())
        new = [bar for session, bar in told.items() if session not in self.stored]
        if known and new and not common:
            taken.findings.append(self._unjoined(new, earlier))
            return
        bars = self._joined(told, new, common, earlier, taken)
        findings = [*judged.findings, *corrections(self.stored, told, self.feed.policy, now)]
        present = self.stored.keys() | {bar.session for bar in bars}
        findings += self._gaps(present, earlier, {one.session for one in judged.findings})
        taken.bars.extend(bars)
        taken.findings.extend(findings)
        self._settle(present, {one.session for one in findings}, common, told, taken)

    def _joined(
        self,
        told: Mapping[date, DailyBar],
        new: Sequence[DailyBar],
        common: Sequence[date],
        earlier: DailyBar | None,
        taken: Taken,
    ) -> list[DailyBar]:
        """The new bars, scaled to what is stored and judged: newer ones, older ones, and those that came late."""
        if not common:
            judged = self._moves(None, new)
            taken.findings.extend(judged.findings)
            return list(judged.bars)
        first, last = min(self.stored), max(self.stored)
        anchor = common[-1]
        fitted = joined(self.stored[anchor], told[anchor], new)
        newer = self._moves(self.stored[last], [bar for bar in fitted if bar.session > last])
        older_ones = [bar for bar in fitted if bar.session < first] if earlier is None else []
        older = self._before(older_ones, self.stored[first])
        taken.findings.extend((*newer.findings, *older.findings))
        late = [bar for bar in fitted if bar.session < last and bar not in older_ones]
        return [*newer.bars, *older.bars, *(bar for bar in late if self._fits(bar, earlier, taken))]

    def _moves(self, before: DailyBar | None, bars: Sequence[DailyBar]) -> Judged:
        return moves(before, bars, self.notices, self.feed.policy, self.recent_from, self.feed.clock.now())

    def _before(self, bars: Sequence[DailyBar], first: DailyBar) -> Judged:
        """Bars older than the first one stored, judged up to it; it is what stays as it is."""
        if not bars:
            return Judged((), ())
        judged = self._moves(None, [*bars, first])
        return Judged(scaled(judged.bars[:-1], first.adjusted, judged.bars[-1].adjusted), judged.findings)

    def _fits(self, bar: DailyBar, earlier: DailyBar | None, taken: Taken) -> bool:
        """True for a bar that came late and is no jump from the one before it."""
        before = [one for session, one in self.stored.items() if session < bar.session]
        last = max(before, key=lambda one: one.session) if before else earlier
        jumps = [one for one in self._moves(last, [bar]).findings if one.kind is not FindingKind.SPLIT]
        for one in jumps:
            detail = f"a close of {bar.close} was told late, and does not fit those around it: {one.detail}"
            taken.findings.append(replace(one, kind=FindingKind.DISORDER, detail=detail))
        return not jumps

    def _gaps(
        self, present: Collection[date], earlier: DailyBar | None, unfit: Collection[date]
    ) -> list[MarketFinding]:
        """Sessions without a bar, from the beginning of the name's life or of what was asked for."""
        if len(present) == len(self.sessions):
            return []
        if earlier is not None:
            life = self.feed.sessions(earlier.session + timedelta(days=1), self.sessions[-1])
        else:
            asked = self.feed.store.market.coverage([self.symbol]) if not present else {}
            first = asked[self.symbol].first_session if asked else self.sessions[0]
            life = self.feed.sessions(min(present, default=min(first, self.sessions[0])), self.sessions[-1])
        no_bars = (FindingKind.ZERO, FindingKind.DISORDER)
        excused = {*self.excused, *unfit, *(one.session for one in self.found_before if one.kind in no_bars)}
        found = gaps(self.symbol, life, present, excused, self.feed.clock.now(), is_known=earlier is not None)
        return list(found)

    def _unjoined(self, new: Sequence[DailyBar], earlier: DailyBar | None) -> MarketFinding:
        known = max((*self.stored, *((earlier.session,) if earlier is not None else ())))
        detail = (
            f"bars from {new[0].session} on share no session with those stored, which end {known}: they cannot be "
            "joined, and are not stored"
        )
        return MarketFinding(self.symbol, known, FindingKind.UNJOINED, detail, self.feed.clock.now())

    def _settle(
        self,
        present: Collection[date],
        wrong: Collection[date],
        common: Sequence[date],
        told: Mapping[date, DailyBar],
        taken: Taken,
    ) -> None:
        """End the findings that this answer has put right."""
        market, now = self.feed.store.market, self.feed.clock.now()
        same = {session for session in common if told[session].close == self.stored[session].close}
        missing = {FindingKind.GAP, FindingKind.ZERO, FindingKind.DISORDER}
        for one in self.found_before:
            if one.kind in missing and one.session in present and one.session not in wrong:
                market.resolve([one], "the source told the bar later", now)
            elif one.kind is FindingKind.CORRECTED and one.session in same:
                market.resolve([one], "the source tells the stored close again", now)
                taken.rewritten = True
            elif one.kind is FindingKind.UNJOINED and common:
                market.resolve([one], "the source told bars that could be joined", now)


def mend(feed: Feed, jump: MarketFinding, good: DailyBar, answer: Answer) -> Taken:
    """Put in the place of the bars from an open jump on what the source tells now, if the jump is gone from it."""
    store, now = feed.store, feed.clock.now()
    sessions = frozenset(feed.sessions(answer.start, answer.end))
    told = sifted(answer.bars, sessions, now).get(jump.symbol, Judged((), ()))
    anchor = next((bar for bar in told.bars if bar.session == good.session), None)
    if anchor is None:
        return Taken([], [])
    tail = joined(good, anchor, [bar for bar in told.bars if bar.session > good.session])
    notices = notices_of(feed, [jump.symbol], good.session, answer.end).get(jump.symbol, [])
    judged = moves(good, tail, notices, feed.policy, feed.recent_from(), now)
    if any(one.session == jump.session and one.kind in SPOILING for one in judged.findings):
        return Taken([], [])
    if not any(bar.session >= jump.session for bar in judged.bars):
        return Taken([], [])
    store.market.remove(jump.symbol, good.session + timedelta(days=1))
    store.market.add(judged.bars)
    found = {(one.session, one.kind) for one in judged.findings}
    past = store.market.findings(SPOILING, symbols={jump.symbol}, only_open=True)
    over = [one for one in past if one.session >= jump.session and (one.session, one.kind) not in found]
    store.market.resolve(over, "told anew: with what the source says now, nothing is left of it", now)
    return Taken(list(judged.bars), list(judged.findings), rewritten=True)
