"""`harvestd report performance`: how close the account stayed to its benchmark, and what was harvested beside it.

Returns are time-weighted and before tax: money from outside counts from the close of the day it came. The benchmark
had the same deposits and pays no spreads. A year starts from the close before it.

Figures told before that are now others are listed once, for the household: a spouse's loss can be washed by a purchase
of ours, and her account is none that the report has a page of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, usd
from daemon.cli.views.facts import (
    add,
    as_of,
    described,
    grid,
    managed,
    percent,
    provisional,
    say,
    settings_of,
    show,
)
from daemon.coverage import WINDOW, coverage, household, incomplete
from state.records import ZERO, Account, RealizedRow, Restatement

if TYPE_CHECKING:
    from daemon.settings import Settings
    from state.store import PerformanceRow, Store

BAR_WIDTH = 24
MOST_NAMED = 3  # journal rows that a restatement was learned from; --json names the others


@dataclass(frozen=True, slots=True)
class Period:
    """Figures of one year or of all. Losses: positive amounts of this account, before tax, gains not netted."""

    period: str  # "2020", or "all"
    first_session: date
    last_session: date
    return_pct: float | None  # time-weighted, before tax
    benchmark_return_pct: float | None
    active_return_pct: float | None  # account less benchmark
    tracking_error_realized_bps: float | None  # annualised; None for fewer than 20 days
    turnover_pct_per_year: float | None  # one-sided
    deposits_usd: Decimal  # less withdrawals
    losses_realized_usd: Decimal  # before disallowance
    disallowed_usd: Decimal  # by wash sales, over every account of the household
    disallowed_for_good_usd: Decimal
    net_losses_usd: Decimal  # after disallowance
    provisional_losses_usd: Decimal  # the part of the net that a purchase after the report's day can still disallow
    provisional_until: date | None  # the last day on which one can
    gains_realized_usd: Decimal
    sessions: int
    sessions_above_limit: int


@dataclass(frozen=True, slots=True)
class Quarter:
    """Active return of one quarter: account less benchmark, time-weighted, in per cent."""

    quarter: str  # "2020 Q1"
    active_return_pct: float | None


@dataclass(frozen=True, slots=True)
class DayAbove:
    """A close at which expected tracking error was above its limit, and why."""

    session: date
    tracking_error_bps: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Restated:
    """A sale of any account whose figures were told and are now others. Gains less losses are after disallowance."""

    learned: date
    account_id: str
    sale_id: str
    symbol: str
    disposed: date
    told_usd: Decimal  # of both terms
    now_usd: Decimal
    short_term_told_usd: Decimal
    short_term_now_usd: Decimal
    long_term_told_usd: Decimal
    long_term_now_usd: Decimal
    disallowed_told_usd: Decimal
    disallowed_now_usd: Decimal
    explanation: str  # every figure that is another, and the purchases that now disallow more
    causes: tuple[str, ...]  # ids of the journal rows it was learned from


@dataclass(frozen=True, slots=True)
class AccountPerformance:
    """One managed account since its first session."""

    account_id: str
    description: str
    periods: tuple[Period, ...]  # years, then "all"
    quarters: tuple[Quarter, ...]
    tracking_error_limit_bps: float | None
    days_above_limit: tuple[DayAbove, ...]
    losses_all_clear: bool  # False: some account's history is not known to be complete
    losses_coverage: str


def performance(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Return beside the benchmark, tracking error, turnover, deposits and harvested losses, by year and in all."""
    with reading(db, config) as store:
        day, accounts = as_of(store), household(store)
        settings = settings_of(store, config)
        found = tuple(performance_of(store, account, accounts, settings, day) for account in managed(accounts))
        restated = tuple(map(_restated, store.lots.restatements()))  # in the order they were learned
    if as_json:
        emit({"as_of": day, "accounts": found, "restated": restated})
        return
    say(f"Performance to the close of {day}", style="bold")
    for one in found:
        _print(one)
    _print_restated(restated)


# ------------------------------------------------------------------ computing


def performance_of(
    store: Store, account: Account, accounts: Sequence[Account], settings: Settings | None, day: date
) -> AccountPerformance:
    """Everything the report shows of one account, as of the close of `day`."""
    rows = store.performance.rows(account.account_id)
    realized = store.lots.realized(account.account_id)
    years = sorted({row.session.year for row in rows})
    by_year = {year: [row for row in realized if row.disposed.year == year] for year in years}
    periods = [_period(str(year), _within(rows, year), by_year[year], day) for year in years]
    if rows:
        periods.append(_period("all", (None, rows), realized, day))
    sold = [row.disposed for row in realized if row.gain_loss < 0]
    since = min(sold, default=rows[-1].session if rows else date.max) - WINDOW
    return AccountPerformance(
        account_id=account.account_id,
        description=described(account),
        periods=tuple(periods),
        quarters=_quarters(rows),
        tracking_error_limit_bps=settings.optimizer.tracking_error_max_bps if settings else None,
        days_above_limit=tuple(
            DayAbove(row.session, _rounded(row.tracking_error_bps, 1), row.tracking_error_note)
            for row in rows
            if row.tracking_error_note
        ),
        losses_all_clear=not incomplete(accounts, since),
        losses_coverage=coverage(accounts, since),
    )


def _restated(one: Restatement) -> Restated:
    from daemon.bookkeeping import told
    from daemon.clock import NEW_YORK

    assert one.learned_at is not None
    return Restated(
        learned=one.learned_at.astimezone(NEW_YORK).date(),
        account_id=one.account_id,
        sale_id=one.sale_id,
        symbol=one.symbol,
        disposed=one.disposed,
        told_usd=one.before.recognized,
        now_usd=one.after.recognized,
        short_term_told_usd=one.before.short_term,
        short_term_now_usd=one.after.short_term,
        long_term_told_usd=one.before.long_term,
        long_term_now_usd=one.after.long_term,
        disallowed_told_usd=one.before.disallowed,
        disallowed_now_usd=one.after.disallowed,
        explanation=told(one),
        causes=one.causes,
    )


Span = tuple["PerformanceRow | None", "Sequence[PerformanceRow]"]  # the close before, and the closes of the span


def _within(rows: Sequence[PerformanceRow], year: int) -> Span:
    before = [row for row in rows if row.session.year < year]
    return (before[-1] if before else None), [row for row in rows if row.session.year == year]


def _period(name: str, span: Span, realized: Sequence[RealizedRow], day: date) -> Period:
    from daemon import figures

    start, rows = span
    based = [start, *rows] if start else list(rows)
    lost = figures.losses(realized)
    still = provisional(realized, day)
    ours = figures.time_weighted_return(based, "nav")
    theirs = figures.time_weighted_return(based, "benchmark_nav")
    active = ours - theirs if ours is not None and theirs is not None else None
    return Period(
        period=name,
        first_session=rows[0].session,
        last_session=rows[-1].session,
        return_pct=_pct(ours),
        benchmark_return_pct=_pct(theirs),
        active_return_pct=_pct(active),
        tracking_error_realized_bps=_rounded(figures.tracking_error_realized_bps(based), 1),
        turnover_pct_per_year=_rounded(figures.turnover_pct_per_year(based), 1),
        deposits_usd=sum((row.external_flow for row in rows), ZERO),
        losses_realized_usd=lost.realized,
        disallowed_usd=lost.disallowed,
        disallowed_for_good_usd=lost.lost_for_good,
        net_losses_usd=lost.net,
        provisional_losses_usd=still.losses,
        provisional_until=still.until,
        gains_realized_usd=lost.gains,
        sessions=len(rows),
        sessions_above_limit=sum(1 for row in rows if row.tracking_error_note),
    )


def _quarters(rows: Sequence[PerformanceRow]) -> tuple[Quarter, ...]:
    """Active return by quarter, each from the close before it."""
    from daemon import figures

    found: list[Quarter] = []
    names = list(dict.fromkeys(_quarter(row.session) for row in rows))
    for name in names:
        places = [place for place, row in enumerate(rows) if _quarter(row.session) == name]
        based = rows[max(0, places[0] - 1) : places[-1] + 1]
        ours = figures.time_weighted_return(based, "nav")
        theirs = figures.time_weighted_return(based, "benchmark_nav")
        found.append(Quarter(name, _pct(ours - theirs) if ours is not None and theirs is not None else None))
    return tuple(found)


def _quarter(day: date) -> str:
    return f"{day.year} Q{(day.month + 2) // 3}"


def _pct(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction * 100, 3)


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)


# ------------------------------------------------------------------ the page


def _print(found: AccountPerformance) -> None:
    say(f"\n{found.description}", style="bold")
    if not found.periods:
        say("No close has been recorded yet.")
        return
    _print_returns(found)
    _print_losses(found)
    _print_quarters(found.quarters)
    _print_days_above(found)


def _print_returns(found: AccountPerformance) -> None:
    columns = ("", ">account", ">benchmark", ">active", ">TE realized bp", ">turnover a year", ">deposits USD")
    rows = grid(*columns, ">closes above TE limit")
    for one in found.periods:
        error = one.tracking_error_realized_bps
        add(
            rows,
            one.period,
            percent(one.return_pct),
            percent(one.benchmark_return_pct),
            percent(one.active_return_pct),
            f"{error:.0f}" if error is not None else "-",
            percent(one.turnover_pct_per_year, 0),
            usd(one.deposits_usd, 0),
            f"{one.sessions_above_limit} of {one.sessions}",
            style="bold" if one.period == "all" else None,
        )
    show(rows, "Time-weighted return before tax; the benchmark pays no spreads")
    say(
        "TE realized: annualised standard deviation of daily active return. Turnover: the smaller of buys and sells "
        "over mean value, opening day left out. Deposits: less withdrawals."
    )


def _print_losses(found: AccountPerformance) -> None:
    columns = ("", ">realized", ">disallowed", ">of it for good", ">net of disallowance", ">of it provisional")
    rows = grid(*columns, ">gains beside them")
    for one in found.periods:
        add(
            rows,
            one.period,
            usd(one.losses_realized_usd, 0),
            usd(one.disallowed_usd, 0),
            usd(one.disallowed_for_good_usd, 0),
            usd(one.net_losses_usd, 0),
            usd(one.provisional_losses_usd, 0),
            usd(one.gains_realized_usd, 0),
            style="bold" if one.period == "all" else None,
        )
    show(rows, f"Losses of {found.account_id}, USD before tax; gains are not netted against them")
    say(f"Disallowed: by wash sales {found.losses_coverage}.")
    until = found.periods[-1].provisional_until
    if until is not None:
        say(f"Provisional: a purchase in any account of the household until {until} can still disallow it.")


def _print_quarters(quarters: Sequence[Quarter]) -> None:
    known = [abs(one.active_return_pct) for one in quarters if one.active_return_pct is not None]
    widest = max(known, default=0.0)
    if not widest:
        return
    say("\nActive return by quarter (account less benchmark, before tax)", style="bold")
    for one in quarters:
        if one.active_return_pct is not None:
            say(f"{one.quarter}  {one.active_return_pct:+7.2f} %  {bar(one.active_return_pct, widest)}")


def bar(value: float, widest: float) -> str:
    """A bar to the right of a middle line for a gain, to the left for a loss; `widest` fills half the width."""
    length = round(abs(value) / widest * BAR_WIDTH)
    left, right = ("", "█" * length) if value >= 0 else ("█" * length, "")
    return f"{left:>{BAR_WIDTH}}│{right:<{BAR_WIDTH}}".rstrip()


def _print_days_above(found: AccountPerformance) -> None:
    limit = f" of {found.tracking_error_limit_bps:.0f} bp" if found.tracking_error_limit_bps is not None else ""
    if not found.days_above_limit:
        say(f"\nExpected tracking error was within its limit{limit} at every close.")
        return
    rows = grid("session", ">bp", "why")
    for day in found.days_above_limit:
        bps = f"{day.tracking_error_bps:.0f}" if day.tracking_error_bps is not None else "-"
        add(rows, day.session.isoformat(), bps, _cause(day.reason))
    show(rows, f"Closes with expected tracking error above its limit{limit}")


def _cause(note: str) -> str:
    """The cause alone: the figures before it stand in their own columns."""
    return note.partition(" why=")[2] or note


def _print_restated(restated: Sequence[Restated]) -> None:
    """As sentences: what changed is one figure of many, and a column for each would be empty but for a few."""
    if not restated:
        return
    rows = grid("learned", "figures told before that are now others, before tax")
    for one in restated:
        sentence = one.explanation.removeprefix("Restated: ")
        add(rows, one.learned.isoformat(), f"{sentence}. Learned from: {_listed(one.causes)}.")
    show(rows, "Restated, in any account of the household")


def _listed(names: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
