"""What can be checked before, or beside, a running daemon. Reads only."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from daemon.backup import LAST, backup_overdue, folder_of
from daemon.broker_check import AtBroker, Finding, tried
from daemon.cli.common import database_path
from daemon.clock import WallClock
from daemon.errors import HarvestdError
from daemon.halt import halt_reason, is_halted
from daemon.lots_check import compare
from daemon.market_calendar import MarketCalendar
from daemon.opening import Target, is_held, looking_house
from daemon.ownership import Reader, owner_of
from daemon.readiness import BOUND_TO
from daemon.settings import (
    BrokerName,
    Credentials,
    Problem,
    Settings,
    check,
    config_path,
    read_secret,
    secret_source,
    unsupported,
)
from state.store import Store

LEAST_FREE_MB = 200
RECONCILE = "See the locked symbols in `harvestd positions`, and `harvestd reconcile`."


def examine(db: Path | None, config: Path | None, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Every finding; a check that cannot be made is a fault, never a pass."""
    return tuple(_findings(db, config, environ))


def _findings(db: Path | None, config: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    path = config_path(config, environ)
    settings = None
    if db is None and (path.exists() or config is not None):
        settings, problems = check(path, environ)
        yield from _configuration(path, settings, problems, environ)
        if settings is None:
            return
    try:
        database = settings.database.path if settings is not None else database_path(db, config)
    except HarvestdError as error:
        yield Finding("database", False, str(error).splitlines()[0], "`harvestd config check`, or --db")
        return
    yield from _installation(database, config, settings)
    if settings is not None and not unsupported(settings):
        yield from _household(database, settings, environ)


def _configuration(
    path: Path, settings: Settings | None, problems: tuple[Problem, ...], environ: Mapping[str, str]
) -> Iterator[Finding]:
    seen = "; ".join(str(problem) for problem in problems) or f"{path} is valid"
    yield Finding("configuration", not problems, seen, "`harvestd config check` lists every problem.")
    if settings is None:
        return
    for note in unsupported(settings):
        yield Finding("this version", False, f"{note.key}: {note.seen}", note.hint)
    if any(one.broker is BrokerName.ALPACA for one in settings.household.accounts):
        for name in (settings.credentials.alpaca_key_id_name, settings.credentials.alpaca_secret_key_name):
            yield _credential(name, environ, settings.credentials)
    heartbeat = settings.notifications.heartbeat_url_name
    if heartbeat is not None:
        look = partial(_sign_of_life, heartbeat, environ, settings.credentials)
        yield tried(f"credential {heartbeat}", look, "Put the address that your monitoring service shows there.")
    port = settings.metrics.port
    if port is not None:
        remedy = "Choose another one in config.yaml, or end what uses it."
        yield tried(f"metrics.port {port}", partial(_port, port, settings.database.path), remedy)


def _credential(name: str, environ: Mapping[str, str], credentials: Credentials) -> Finding:
    look = partial(secret_source, name, environ, credentials)
    return tried(f"credential {name}", look, "Put it where the section `credentials` of the configuration says.")


def _sign_of_life(name: str, environ: Mapping[str, str], credentials: Credentials) -> str:
    """Where the address is kept. Raises ConfigurationRefused when it is missing, or no address that may be used."""
    from daemon.dead_man import DeadMan

    DeadMan(read_secret(name, environ, credentials), every_s=60.0)
    return secret_source(name, environ, credentials)


def _port(port: int, database: Path) -> str:
    """That the daemon can listen there, or does. Raises ValueError when somebody else does, OSError when nobody may."""
    with socket.socket() as tried_out:
        tried_out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried_out.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not is_held(database):
                raise ValueError("another program listens there") from error
            return "in use while harvestd runs"
    return "free"


def _installation(database: Path, config: Path | None, settings: Settings | None) -> Iterator[Finding]:
    yield tried("exchange calendar", _calendar, "Update exchange_calendars; without it nothing is traded.")
    folder = database.parent if str(database.parent) else Path()
    free = shutil.disk_usage(folder).free // 1_000_000
    yield Finding(
        "disk", free >= LEAST_FREE_MB, f"{free:,} MB free", f"Free some space; at least {LEAST_FREE_MB} MB are needed."
    )
    if settings is not None and not database.exists():
        seen = f"{database} is not there yet"
        yield Finding("database", True, seen, "`harvestd run` makes it, and loads prices.", note=True)
        return
    opened = tried("database", lambda: _database(database), "See the message; `harvestd demo` makes a database to try.")
    yield opened
    if not opened.ok:
        return
    yield tried("lots equal a replay of the journal", lambda: _lots(database, config), "harvestd ledger rebuild")
    halted = is_halted(database)
    seen = halt_reason(database) if halted else "not halted"
    yield Finding("halt", not halted, seen, "`harvestd resume` when the reason is gone.")
    if settings is not None:
        yield tried("backups", partial(_backups, database, settings), "`harvestd backup`; see docs/OPERATIONS.md.")
    if settings is None:
        yield tried("broker and reconciliation", lambda: _reconciled(Target(database), {}), RECONCILE)


def _household(database: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The accounts at their broker, then what the database holds of them."""
    from brokers.alpaca import AlpacaReader
    from daemon.household import calendar_of, connection_of

    remedy = "Put the keys where the section `credentials` of the configuration says."
    try:
        connection = connection_of(settings, environ)
        calendar = calendar_of(settings, connection.clock)
    except (HarvestdError, OSError, ValueError) as error:
        yield Finding("broker", False, str(error), remedy)
        return
    for account in settings.household.managed:
        feed, calls = settings.alpaca.feed.value, settings.alpaca.requests_per_minute
        reader = AlpacaReader(connection.keys, connection.endpoints, feed=feed, requests_per_minute=calls)
        try:
            bound = _bound(database, account.id)
            yield from AtBroker(account, settings, reader, connection.clock, calendar, bound).findings()
        finally:
            reader.close()
    if database.exists():
        target = Target(database, settings)
        yield tried("reconciliation", lambda: _reconciled(target, environ), RECONCILE)
        yield tried("prices", lambda: _prices(target, environ), "`harvestd data status` and `harvestd data findings`.")


def _bound(database: Path, account_id: str) -> str | None:
    """The account number that the database was made with."""
    if not database.exists():
        return None
    store = Store.open(database, read_only=True)
    try:
        return store.meta.get(f"{BOUND_TO}{account_id}")
    finally:
        store.close()


def _calendar() -> str:
    today = WallClock().now().date()
    calendar = MarketCalendar.new_york(today - timedelta(days=10), today + timedelta(days=30))
    upcoming = calendar.upcoming(WallClock().now())
    return f"next session {upcoming.session}, closes {upcoming.closes_at:%H:%M} UTC"


def _database(database: Path) -> str:
    store = Store.open(database, read_only=True)
    try:
        return f"{database}: {store.journal.count()} journal rows, kind {store.meta.get('kind') or 'household'}"
    finally:
        store.close()


def _backups(database: Path, settings: Settings) -> Finding:
    """That the database's owner can write to the folder, and how old the last verified one is. Raises ValueError."""
    folder = folder_of(settings, database)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not Reader.owning(database).may_write_in(there):
        raise ValueError(f"{there} belongs to {owner_of(there)}, and {owner_of(database)} cannot write to it")
    store = Store.open(database, read_only=True)
    try:
        last, overdue = store.meta.get(LAST), backup_overdue(store, WallClock().now())
    finally:
        store.close()
    if overdue is not None:
        raise ValueError(overdue)
    seen = f"the last verified one is of {last}, in {folder}" if last else f"none verified yet, in {folder}"
    return Finding("backups", True, seen, "`harvestd backup` makes one; its timer does so daily.", note=last is None)


def _lots(database: Path, config: Path | None) -> str:
    from daemon.cli.views.facts import settings_of

    store = Store.open(database, read_only=True)
    try:
        found = compare(store, settings_of(store, config))
    finally:
        store.close()
    if found.differences:
        raise ValueError(f"{len(found.differences)} differences, first: {found.differences[0]}")
    return f"{found.lots} lots, {found.realized} realized rows"


def _reconciled(target: Target, environ: Mapping[str, str]) -> str:
    """Every position against the lots, on a copy. Raises ValueError with what is locked, and why."""
    from daemon.cycle import observed

    with looking_house(target, environ) as house:
        lines = []
        for account in house.managed:
            snapshot = observed(house, account)
            said = house.brokers[account.account_id].account()
            if account.account_number and said.account_number != account.account_number:
                raise ValueError(
                    f"expected account number {account.account_number}, the broker says {said.account_number}"
                )
            if snapshot.locks:
                raise ValueError("; ".join(snapshot.locks.values()))
            lines.append(f"{account.account_id}: {len(snapshot.positions)} positions agree, cash {snapshot.cash} USD")
    return "; ".join(lines)


def _prices(target: Target, environ: Mapping[str, str]) -> str:
    """How far the stored prices reach, and what is wrong with them."""
    with looking_house(target, environ) as house:
        covered, needed = house.store.market.coverage(), house.settings.risk.window_sessions
        missing = [name for name in house.names if name not in covered]
        if missing:
            raise ValueError(f"no prices of {len(missing)} of {len(house.names)} names yet: {', '.join(missing[:10])}")
        if not house.knows_risk():
            raise ValueError(f"{len(house.history.sessions)} sessions, too few for a risk model over {needed}")
        last = house.store.market.last_session()
        return f"{len(house.names)} names, {len(house.history.sessions)} sessions to {last}"
