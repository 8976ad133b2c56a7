"""`harvestd data`: what prices there are, what is wrong with them, and a person's answer to it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, database_path, emit, reading, table, target
from daemon.errors import ConfigurationRefused, HarvestdError, NotFound

if TYPE_CHECKING:
    from daemon.constituents import Constituents
    from daemon.house import House
    from daemon.household import Watcher
    from daemon.market_data import Loaded
    from state.store import MarketFinding, Store

LARGEST = 10
DAY = ["%Y-%m-%d"]

FromOption = Annotated[
    datetime | None,
    typer.Option(
        "--from", help="How far back. Default: history.load_years of config.yaml.", formats=DAY, metavar="YYYY-MM-DD"
    ),
]
AgainOption = Annotated[
    list[str] | None,
    typer.Option(
        "--again", help="Load this name anew, and take what the source says now. Repeatable.", metavar="SYMBOL"
    ),
]
AllOption = Annotated[bool, typer.Option("--all", help="Those that ended, too.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    group = typer.Typer(help="Prices and constituents: what there is, and what is wrong with it.", no_args_is_help=True)
    group.command("status")(status)
    group.command("findings")(findings)
    group.command("accept")(accept)
    group.command("load")(load)
    group.command("constituents")(show_constituents)
    app.add_typer(group, name="data")


# ------------------------------------------------------------------ what there is


@dataclass(frozen=True, slots=True)
class NameCovered:
    """What is stored of one name. `asked_from` and `asked_to` are the sessions its source was asked for."""

    symbol: str
    first_session: date | None
    last_session: date | None
    sessions: int
    asked_from: date | None
    asked_to: date | None
    open_findings: int
    not_traded: str  # why, or empty


def status(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """How far the prices of each name reach, and which of them keep their name from being traded."""
    with reading(db, config) as store:
        names, newest = coverage_of(store), store.market.last_session()
    if as_json:
        emit({"newest_session": newest, "names": names})
        return
    if not names:
        console().print("No prices yet. `harvestd data load` loads them; so does the first `harvestd run`.")
        return
    rows = table(
        f"Prices up to {newest}", "name", "first", "last", ">sessions", "asked from", "to", ">findings", "not traded"
    )
    for one in names:
        spans = (one.first_session, one.last_session), (one.asked_from, one.asked_to)
        (first, last), (asked, until) = ([str(day or "") for day in span] for span in spans)
        rows.add_row(
            one.symbol, first, last, f"{one.sessions:,}", asked, until, str(one.open_findings or ""), one.not_traded
        )
    console().print(rows)


def coverage_of(store: Store) -> tuple[NameCovered, ...]:
    """What is stored of each name, by name."""
    from daemon.market_data import open_findings, without_newest_close

    extents, covered = store.market.extents(), store.market.coverage()
    counts: dict[str, int] = {}
    for finding in store.market.findings(only_open=True):
        counts[finding.symbol] = counts.get(finding.symbol, 0) + 1
    names = sorted({*extents, *covered})
    locked = {**without_newest_close(names, store.market.last_closes()), **open_findings(store)}
    found = []
    for name in names:
        extent, asked = extents.get(name), covered.get(name)
        found.append(
            NameCovered(
                symbol=name,
                first_session=extent.first if extent else None,
                last_session=extent.last if extent else None,
                sessions=extent.count if extent else 0,
                asked_from=asked.first_session if asked else None,
                asked_to=asked.last_session if asked else None,
                open_findings=counts.get(name, 0),
                not_traded=locked.get(name, ""),
            )
        )
    return tuple(found)


# ------------------------------------------------------------------ what is wrong


def findings(
    db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False, every: AllOption = False
) -> None:
    """What is wrong with prices, and what is not used because of it."""
    from daemon.market_data.locks import LOCKING
    from state.store.market import SPOILING

    with reading(db, config) as store:
        found = store.market.findings(only_open=not every)
    if as_json:
        emit([{**_fields(one), "locks": _is_open(one, LOCKING), "spoils": _is_open(one, SPOILING)} for one in found])
        return
    if not found:
        console().print("Nothing is wrong with the prices stored." if every else "No open findings.")
        return
    rows = table("Findings", "name", "session", "kind", "not traded", "what is wrong", *(("ended",) if every else ()))
    for one in found:
        ended = (f"{one.resolved_at:%Y-%m-%d} {one.resolution}" if one.resolved_at else "",) if every else ()
        rows.add_row(
            one.symbol, str(one.session), one.kind.value, "yes" if _is_open(one, LOCKING) else "", one.detail, *ended
        )
    console().print(rows)
    console().print(
        "`harvestd data accept NAME SESSION --reason TEXT` takes a move, or the stored price, as right; "
        "`harvestd data load --again NAME` takes what the source says now."
    )


def _is_open(finding: MarketFinding, kinds: Iterable[object]) -> bool:
    return finding.is_open and finding.kind in kinds


def _fields(finding: MarketFinding) -> dict[str, object]:
    return {name: getattr(finding, name) for name in finding.__dataclass_fields__}


def accept(
    symbol: Annotated[str, typer.Argument(help="The name, or * for a session that most names lack.")],
    session: Annotated[datetime, typer.Argument(help="The session of the finding.", formats=DAY, metavar="YYYY-MM-DD")],
    reason: ReasonOption,
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """End a finding by hand: what is stored counts as right, and is used."""
    from daemon.clock import WallClock
    from state.store import Store

    if not reason.strip():
        raise ConfigurationRefused("--reason: expected why it is right, was nothing")
    with closing(Store.open(database_path(db, config))) as store:
        ended = accepted(store, symbol.upper(), session.date(), reason.strip(), getpass.getuser(), WallClock().now())
    kinds = ", ".join(one.kind.value for one in ended)
    console().print(
        f"{symbol.upper()} {session:%Y-%m-%d}: {kinds} ended. The daemon takes it in with its next evening, or when it "
        "starts again."
    )


def accepted(
    store: Store, symbol: str, session: date, reason: str, who: str, now: datetime
) -> tuple[MarketFinding, ...]:
    """End the open findings of a name and session, and return them. Raises NotFound when there are none."""
    of_name = store.market.findings(symbols={symbol}, only_open=True)
    found = tuple(one for one in of_name if one.session == session)
    if not found:
        others = ", ".join(str(one.session) for one in of_name) or "it has none"
        raise NotFound(f"Expected an open finding of {symbol} in {session}, was none. Open ones of {symbol}: {others}.")
    with store.transaction():
        store.market.accept(found, who, reason, now)
    return found


# ------------------------------------------------------------------ loading


def load(db: DbOption = None, config: ConfigOption = None, start: FromOption = None, again: AgainOption = None) -> None:
    """Load the prices that are missing. Stopped or killed, it goes on where it was."""
    from brokers.errors import BrokerError
    from daemon.cli.progress import ConsoleWatcher
    from daemon.opening import working_house

    watcher = ConsoleWatcher()
    try:
        with working_house(target(db, config), os.environ, watcher) as house:
            loaded = loaded_for(house, start.date() if start else None, tuple(again or ()), watcher)
    except BrokerError as error:
        raise HarvestdError(str(error)) from error
    console().print(f"{loaded.names} names, {loaded.bars:,} bars, {len(loaded.news)} new findings.")
    if loaded.news:
        console().print("`harvestd data findings` lists them.")


def loaded_for(house: House, start: date | None, again: tuple[str, ...], watcher: Watcher) -> Loaded:
    """Load what a household's prices lack, back to `start`; the names of `again` from their beginning, anew.

    Raises BrokerUnavailable, NotFound for a name that is not tracked, ConfigurationRefused for a start too long ago.
    """
    from daemon.market_data import Loaded, feed_of, load_history, tracked
    from daemon.market_data.prices import history_start, shown

    feed, names = feed_of(house), tracked(house)
    begin = start or history_start(house)
    strangers = [name for name in again if name.upper() not in names]
    if strangers:
        raise NotFound(f"Expected names of the benchmark or held, was {', '.join(strangers)}.")
    first = house.calendar.sessions[0].session
    if begin.year < first.year:
        raise ConfigurationRefused(f"--from {begin}: expected {first} or later; history.load_years says how far back.")
    found = [load_history(feed, names, begin, watcher=lambda now: watcher.progress(*shown(now)))]
    covered = house.store.market.coverage()
    for name in again:
        since = min(begin, covered[name.upper()].first_session) if name.upper() in covered else begin
        found.append(load_history(feed, [name.upper()], since, again=True))
    news = tuple(finding for one in found for finding in one.news)
    return Loaded(sum(one.names for one in found), sum(one.bars for one in found), news)


# ------------------------------------------------------------------ constituents


def show_constituents(
    file: Annotated[Path, typer.Argument(help="A list of the benchmark's names, such as an ETF's, as downloaded.")],
    as_json: JsonOption = False,
) -> None:
    """What a constituents file is read as. Changes nothing."""
    from daemon.constituents import read_constituents

    found = read_constituents(file)
    if as_json:
        emit(found)
        return
    _print_constituents(file, found)


def _print_constituents(file: Path, found: Constituents) -> None:
    out = console()
    ranked = sorted(zip(found.weights, found.symbols, strict=True), key=lambda pair: (-pair[0], pair[1]))
    out.print(
        f"{file}: layout {found.source_layout}, as of {found.as_of or 'no day told'}, {len(found.symbols)} names, "
        f"{len(found.sectors)} with a sector.",
        soft_wrap=True,
    )
    rows = table(f"The largest {min(LARGEST, len(ranked))}", "name", ">weight", "sector")
    for weight, symbol in ranked[:LARGEST]:
        rows.add_row(symbol, f"{weight * 100:.3f} %", found.sectors.get(symbol, ""))
    out.print(rows)
    by_reason: dict[str, list[Decimal]] = {}
    for one in found.left_out:
        by_reason.setdefault(one.why, []).append(one.weight)
    for why, weights in sorted(by_reason.items()):
        out.print(f"Left out: {len(weights)} lines, {sum(weights) * 100:.3f} %: {why}")
