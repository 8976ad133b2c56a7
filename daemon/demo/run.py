"""Running the demo: fresh or resumed, with its database marked as the demo's own."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from daemon.demo.prices import HISTORY_STARTS, LAST_DAY, demo_calendar, demo_prices
from daemon.demo.report import DemoResult, demo_result
from daemon.demo.settings import demo_settings
from daemon.demo.world import World, demo_house, open_venue, venue_path
from daemon.errors import HarvestdError
from daemon.market_calendar import SessionTimes
from daemon.opening import lease
from state.records import Alert
from state.store import NotADatabase, Store
from state.store.database import revision_of
from state.store.revisions import HEAD_REVISION


class UsageError(HarvestdError):
    """The command cannot be done as asked; ends with 2, changes nothing."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for."""

    start: date
    end: date
    speed: float
    database: Path
    resume: bool


class Watcher(Protocol):
    """Who is shown the demo as it goes."""

    def begins(self, sessions: int) -> None:
        """The span is known."""
        ...

    def alert(self, session: date, alert: Alert) -> None:
        """Something worth a line happened."""
        ...

    def session_over(self, session: SessionTimes) -> None:
        """One more session is done."""
        ...


def run_demo(options: DemoOptions, watcher: Watcher) -> DemoResult:
    """Run from the first session to the last, or go on from where a killed run stopped.

    Raises UsageError for a span outside the prices or a database that is not a demo's.
    """
    started = time.monotonic()
    first_plan = date(2018, 1, 2)  # a year of prices before it, for the risk model
    if not first_plan <= options.start <= options.end <= LAST_DAY:
        raise UsageError(f"Expected {first_plan} <= --from <= --to <= {LAST_DAY}, was {options.start} to {options.end}")
    with lease(options.database):
        world = _world(options)
        teller = _Teller(watcher)
        try:
            _prepare(world)
            world.house.notifier = teller
            watcher.begins(len(world.sessions))
            for session, is_over in world.beats():
                if is_over:
                    watcher.session_over(session)
                    if options.speed > 0:
                        time.sleep(1 / options.speed)
            result = demo_result(world, time.monotonic() - started)
            world.house.store.meta.put("result", json.dumps(result.figures))
        finally:
            world.close()
    return result


class _Teller:
    """The demo's notifier: alerts become lines on the screen."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def send(self, alert: Alert) -> None:
        self._watcher.alert(alert.raised_at.date(), alert)


def _world(options: DemoOptions) -> World:
    calendar = demo_calendar()
    prices = demo_prices(calendar)
    sessions = calendar.between(options.start, options.end)
    if not sessions:
        raise UsageError(f"Expected a trading session between {options.start} and {options.end}, there is none")
    store = _store(options)
    venue = open_venue(options.database, prices, sessions[0].opens_at.replace(hour=1))
    return World(demo_house(store, venue, calendar), venue, prices, sessions[0].session, sessions)


def _store(options: DemoOptions) -> Store:
    """A new database, or with --resume the one that is there. Only a demo's own files are ever replaced."""
    path = options.database
    asked = json.dumps({"from": options.start.isoformat(), "to": options.end.isoformat()})
    if path.exists():
        _require_demo(path, resume=options.resume)
        if options.resume:
            return _resumed(path, asked)
    for file in (path, venue_path(path)):  # a venue's file without the database would bring another world's past
        for suffix in ("", "-wal", "-shm", "-journal", ".halt"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    for left in path.parent.glob(f"{path.name}.making*"):  # of a run killed while making its database
        left.unlink(missing_ok=True)
    making = path.with_name(f"{path.name}.making")
    store = Store.open(making, create=True, durable=False)
    with store.transaction():
        store.meta.put("kind", "demo")
        store.meta.put("span", asked)
        store.meta.put("settings", demo_settings(path, options.start).model_dump_json())
    store.close()
    making.replace(path)  # whole and marked as the demo's, or not there at all
    return Store.open(path, durable=False)


def _resumed(path: Path, asked: str) -> Store:
    store = Store.open(path, durable=False)
    made, prepared = store.meta.get("span"), store.meta.get("prepared")
    if made == asked and (venue_path(path).exists() or not prepared):
        return store
    store.close()
    if made != asked:
        raise UsageError(f"{path} was made for {made}; resume it with the same --from and --to")
    raise UsageError(f"{path}: expected the venue's file {venue_path(path)} beside it; start anew without --resume")


def _require_demo(path: Path, *, resume: bool) -> None:
    """Raises UsageError for anything but a demo's database; to be resumed, it must be of this version too."""
    alone = "Choose another --db; the demo replaces only its own database."
    try:
        another_version = _is_of_another_version(path)
        kind = _kind(path)
    except NotADatabase as error:
        raise UsageError(f"{error} {alone}") from error
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"{path}: expected a demo's database, was one that cannot be read ({error}). {alone}"
        ) from error
    if kind != "demo":
        raise UsageError(f"{path} is a real household's database; the demo leaves it alone. Choose another --db.")
    if resume and another_version:
        raise UsageError(f"{path} is the demo of another version of harvestd; start anew without --resume")


def _is_of_another_version(path: Path) -> bool:
    """Raises NotADatabase for a file that is not ours."""
    return revision_of(path) != HEAD_REVISION


def _kind(path: Path) -> str | None:
    """What a database of ours, of whatever schema revision, says it is."""
    raw = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        found = raw.execute("SELECT value FROM meta WHERE key = 'kind'").fetchone()
    finally:
        raw.close()
    return found[0] if found else None


def _prepare(world: World) -> None:
    """Accounts, securities, benchmark, tax profile and two years of prices; doing it twice changes nothing."""
    house, store = world.house, world.house.store
    if store.meta.get("prepared"):
        return
    before = world.sessions[0].session
    with store.transaction():
        store.household.put_accounts(house.accounts)
        house.take_securities()
        pairs = zip(house.constituents.symbols, house.constituents.weights, strict=True)
        benchmark = house.settings.benchmark
        sectors = {symbol: item.sector or "" for symbol, item in house.securities().items()}
        store.market.put_benchmark("benchmark", benchmark.kind.value, benchmark.rebalance.value, dict(pairs), sectors)
        bars = house.brokers[house.managed[0].account_id].daily_bars(house.names, HISTORY_STARTS, before)
        store.market.add(bar for bar in bars if bar.session < before)
        store.meta.put("prepared", "yes")
