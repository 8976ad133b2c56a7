"""What is wrong with prices, found without knowing the right ones.

    seen                                              becomes                what is done with the bars
    close or total return zero, negative, no number   ZERO                   not stored
    two closes of one session; a close on a holiday   DISORDER               not stored
    a session without a bar                           GAP                    nothing is put in its place
    one-session total return beyond 40 %              JUMP                   not used from there on
    the same before the last 504 sessions             PAST_JUMP              used from there on
    total and price return apart by 1.25 or more      SPLIT                  used; the name is not traded
    a close that is now told otherwise, by over 1 %   CORRECTED              the stored one is kept, not used
    the same, by less                                 CORRECTED, resolved    the stored one is kept and used

A move is explained by what the issuer did between the two closes (`CorporateNotice`). Splits and cash ought to be in
the total return already: where the source has not adjusted for them yet, the return is made from the closes,

    total return = S x close / (previous close - S x D)      S shares for one, D dollars on each of them

which is the convention of back-adjusted prices, and what is left is judged. So a split known to the source of actions
and not yet to the source of prices is no jump, and a dividend is not lost because the prices learn of it a day late.
Where that would itself be a jump, the notice is not believed: the prices stay, and the two that differ are a SPLIT. So
are two amounts of cash for one day, of which one may be the other corrected, until the prices have them. A
spin-off or merger, or anything else that only a person can book, explains a move as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter

from daemon.market_data.feed import QuarantinePolicy
from daemon.market_data.joining import scaled
from state.records import ZERO, CorporateActionKind, CorporateNotice, DailyBar
from state.store import FindingKind, MarketFinding

ONE = Decimal(1)
PER_CENT = Decimal(100)
ONE_SESSION = "no bar in this session"
TAKEN_UP = Decimal("0.25")  # less than this part of an adjustment in the source's prices: it has not made it yet
ENDING = (CorporateActionKind.STOCK_MERGER, CorporateActionKind.CASH_MERGER)


@dataclass(frozen=True, slots=True)
class Judged:
    """Bars fit to be stored, by session, and what was found wrong."""

    bars: tuple[DailyBar, ...]
    findings: tuple[MarketFinding, ...]


# ------------------------------------------------------------------ single bars


def sifted(bars: Iterable[DailyBar], sessions: Collection[date], at: datetime) -> dict[str, Judged]:
    """The bars of each name that are possible at all, by session; `sessions` are the exchange's."""
    told: dict[str, dict[date, list[DailyBar]]] = {}
    for bar in bars:
        same = told.setdefault(bar.symbol, {}).setdefault(bar.session, [])
        if bar not in same:
            same.append(bar)
    found = {}
    for symbol, by_session in told.items():
        kept, findings = [], []
        for session, same in sorted(by_session.items()):
            fault = _impossible(session, same, sessions)
            if fault is None:
                kept.append(same[0])
            else:
                findings.append(MarketFinding(symbol, session, *fault, at))
        found[symbol] = Judged(tuple(kept), tuple(findings))
    return found


def _impossible(session: date, same: Sequence[DailyBar], sessions: Collection[date]) -> tuple[FindingKind, str] | None:
    if session not in sessions:
        return FindingKind.DISORDER, f"the source tells a close, {same[0].close}, on a day without a session"
    if len(same) > 1:
        closes = " and ".join(str(bar.close) for bar in same)
        return FindingKind.DISORDER, f"the source tells several bars of one session, with closes {closes}"
    bar = same[0]
    if not (is_price(bar.close) and is_price(bar.adjusted)):
        return FindingKind.ZERO, f"expected a positive price, the source tells {bar.close}, adjusted {bar.adjusted}"
    return None


def is_price(value: Decimal) -> bool:
    """True for a number above zero."""
    return value.is_finite() and value > 0


# ------------------------------------------------------------------ from one bar to the next


def moves(
    before: DailyBar | None,
    bars: Iterable[DailyBar],
    notices: Sequence[CorporateNotice],
    policy: QuarantinePolicy,
    recent_from: date,
    at: datetime,
) -> Judged:
    """The bars of one name after `before`, with adjustments that the source has not made yet, and the moves between
    them that nothing explains. `notices` are all known of the name."""
    most, least = ONE + policy.jump, ONE - policy.jump
    apart, together = policy.adjustment, ONE / policy.adjustment
    kept: list[DailyBar] = []
    findings: list[MarketFinding] = []
    to, of = ONE, ONE  # by how much later bars are lifted for adjustments that were made here
    last = before
    coming = deque(sorted(notices, key=attrgetter("ex_date")))
    for raw in bars:
        bar = raw if to == of else scaled([raw], to, of)[0]
        between = []
        while coming and coming[0].ex_date <= bar.session:
            between.append(coming.popleft())
        if last is not None:
            between = [one for one in between if one.ex_date > last.session]
            expected = _expected_adjustment(last, between) if between else ONE
            own = None if expected == ONE else _own_adjusted(last, bar, expected)
            doubt = _amounts_in_doubt(between) if own is not None else ""
            if doubt and bar.session >= recent_from:
                findings.append(MarketFinding(bar.symbol, bar.session, FindingKind.SPLIT, doubt, at))
            elif own is not None and least * last.adjusted <= own <= most * last.adjusted:
                to, of = own, raw.adjusted
                bar = scaled([raw], to, of)[0]
            total = bar.adjusted * last.close
            price = last.adjusted * bar.close * expected
            if bar.adjusted > most * last.adjusted or bar.adjusted < least * last.adjusted:
                findings.extend(_jump(last, bar, between, recent_from, at))
            elif (total > apart * price or total < together * price) and bar.session >= recent_from:
                findings.extend(_split(last, bar, between, expected, at))
        kept.append(bar)
        last = bar
    return Judged(tuple(kept), tuple(findings))


def _expected_adjustment(last: DailyBar, between: Sequence[CorporateNotice]) -> Decimal:
    """Total return over price return that splits and cash after `last` make; 1 where there are none, or more cash than
    there was price."""
    shares, cash = ONE, ZERO
    for one in between:
        if one.action is not None and one.action.kind is CorporateActionKind.SPLIT:
            shares *= one.action.ratio_new / one.action.ratio_old
        elif is_cash(one):
            cash += one.per_share
    left = last.close - shares * cash
    return shares * last.close / left if left > 0 else ONE


def _own_adjusted(last: DailyBar, bar: DailyBar, expected: Decimal) -> Decimal | None:
    """The adjusted price that follows from the closes, where the source has not adjusted for what is `expected`."""
    seen = bar.adjusted * last.close / (last.adjusted * bar.close)
    if abs(seen - ONE) >= TAKEN_UP * abs(expected - ONE):
        return None
    return last.adjusted * expected * bar.close / last.close


def _amounts_in_doubt(between: Sequence[CorporateNotice]) -> str:
    """What contradicts itself in the cash of a day: one payment told with two amounts, as when a source corrects it
    under another id. Payments that the source calls by different names, such as a special dividend, are two."""
    told: dict[tuple[date, str], CorporateNotice] = {}
    for one in between:
        if is_cash(one) and one.action is None:
            other = told.setdefault((one.ex_date, one.note), one)
            if other.per_share != one.per_share:
                amounts = f"{_said(other)} and {_said(one)}"
                return f"for {one.ex_date} both {amounts} are announced, and the source's prices have neither yet"
    return ""


def is_cash(notice: CorporateNotice) -> bool:
    """True for what is paid out without anything else happening to the shares."""
    return (
        not notice.needs_person
        and notice.per_share > 0
        and (notice.action is None or notice.action.kind is CorporateActionKind.RETURN_OF_CAPITAL)
    )


def _others(between: Sequence[CorporateNotice]) -> list[CorporateNotice]:
    """Notices of something other than a split or cash: they explain a move as it is."""
    return [
        one
        for one in between
        if not is_cash(one) and (one.action is None or one.action.kind is not CorporateActionKind.SPLIT)
    ]


def _jump(
    last: DailyBar, bar: DailyBar, between: Sequence[CorporateNotice], recent_from: date, at: datetime
) -> Iterator[MarketFinding]:
    if _others(between):
        return
    total, price = bar.adjusted / last.adjusted - ONE, bar.close / last.close - ONE
    known = f"; known of that day: {', '.join(_said(one) for one in between)}" if between else ""
    detail = (
        f"a total return of {_percent(total)} from {last.session} (close {last.close} to {bar.close}, "
        f"{_percent(price)}) that no corporate action explains{known}"
    )
    kind = FindingKind.JUMP if bar.session >= recent_from else FindingKind.PAST_JUMP
    yield MarketFinding(bar.symbol, bar.session, kind, detail, at)


def _split(
    last: DailyBar, bar: DailyBar, between: Sequence[CorporateNotice], expected: Decimal, at: datetime
) -> Iterator[MarketFinding]:
    if _others(between):
        return
    seen = bar.adjusted * last.close / (last.adjusted * bar.close)
    said = f"corporate actions say {_figure(expected)}" if between else "no corporate action says so"
    detail = (
        f"the close went from {last.close} on {last.session} to {bar.close}, and the source's total-return prices "
        f"count {_figure(seen)} shares for one, but {said}"
    )
    yield MarketFinding(bar.symbol, bar.session, FindingKind.SPLIT, detail, at)


def _figure(value: Decimal) -> str:
    return f"{value.quantize(Decimal('0.0001')).normalize():f}"


def _said(notice: CorporateNotice) -> str:
    if notice.action is not None and notice.action.kind is CorporateActionKind.SPLIT:
        return f"{notice.kind} {notice.action.ratio_new.normalize():f} for {notice.action.ratio_old.normalize():f}"
    return f"{notice.kind} {notice.per_share.normalize():f} USD" if notice.per_share else notice.kind


def _percent(fraction: Decimal) -> str:
    return f"{fraction * PER_CENT:+.1f} %"


# ------------------------------------------------------------------ against what is stored


def corrections(
    stored: Mapping[date, DailyBar], told: Mapping[date, DailyBar], policy: QuarantinePolicy, at: datetime
) -> Iterator[MarketFinding]:
    """Closes that the source now tells otherwise. A difference too small to matter is written down, and resolved."""
    for session in sorted(stored.keys() & told.keys()):
        kept, now = stored[session], told[session]
        if now.close == kept.close:
            continue
        detail = f"the close of {kept.close} is now told as {now.close}; the stored one is kept"
        finding = MarketFinding(kept.symbol, session, FindingKind.CORRECTED, detail, at)
        if abs(now.close / kept.close - ONE) <= policy.correction:
            less = f"differs by less than {_percent(policy.correction).lstrip('+')}: the stored close is used"
            finding = replace(finding, resolved_at=at, resolution=less)
        yield finding


def gaps(
    symbol: str,
    sessions: Sequence[date],
    present: Collection[date],
    excused: Collection[date],
    at: datetime,
    *,
    is_known: bool,
) -> Iterator[MarketFinding]:
    """Runs of `sessions` without a bar, one finding a run, by its first session.

    `sessions` begin within the name's life, or with the first session asked for, where it has no bar at all and is not
    known. A session that is `excused` (its bar was told, and not fit to be stored; or most names lack it) is no gap by
    itself.
    """
    run: list[date] = []
    for session in sessions:
        if session not in present:
            if run or session not in excused:
                run.append(session)
            continue
        if run:
            yield MarketFinding(symbol, run[0], FindingKind.GAP, _between(run), at)
        run = []
    if run:
        words = f"no bar since {run[0]}" if is_known or present else f"no bar at all since {run[0]}"
        yield MarketFinding(symbol, run[0], FindingKind.GAP, words, at)


def _between(run: Sequence[date]) -> str:
    if len(run) == 1:
        return ONE_SESSION
    return f"no bar from {run[0]} to {run[-1]}, {len(run)} sessions"


# ------------------------------------------------------------------ names that end


def endings(
    notices: Iterable[CorporateNotice], last_bars: Mapping[str, date], session: date, at: datetime
) -> Iterator[MarketFinding]:
    """Names that live on under another symbol, or not at all, by `session`, and have no bar since.

    A cash merger takes effect after the close of its day, anything else before the open.
    """
    for one in notices:
        if one.action is None or one.ex_date > session:
            continue
        last = last_bars.get(one.symbol, date.min)
        if last > one.ex_date or (last == one.ex_date and one.action.kind is not CorporateActionKind.CASH_MERGER):
            continue
        if one.action.kind is CorporateActionKind.SYMBOL_CHANGE:
            detail = f"is {one.action.to_symbol} since {one.ex_date}; the list of constituents should say so"
            yield MarketFinding(one.symbol, one.ex_date, FindingKind.RENAMED, detail, at)
        elif one.action.kind in ENDING:
            into = f" into {one.action.to_symbol}" if one.action.to_symbol else ""
            detail = f"was merged{into} on {one.ex_date}; the list of constituents should go on without it"
            yield MarketFinding(one.symbol, one.ex_date, FindingKind.GONE, detail, at)
