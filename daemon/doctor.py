"""What can be checked before, or beside, a running daemon. Reads only."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from daemon.cli.common import database_path
from daemon.clock import WallClock
from daemon.errors import HarvestdError
from daemon.halt import halt_reason, is_halted
from daemon.lots_check import compare
from daemon.market_calendar import MarketCalendar
from daemon.opening import looking_house
from daemon.settings import BrokerName, Credentials, check, config_path, secret_source, unsupported
from state.store import Store, StoreError

LEAST_FREE_MB = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was seen, and what to do when it is a fault."""

    what: str
    ok: bool
    seen: str
    remedy: str


def examine(db: Path | None, config: Path | None, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Every finding; a check that cannot be made is a fault, never a pass."""
    return tuple(_findings(db, config, environ))


def _findings(db: Path | None, config: Path | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    path = config_path(config, environ)
    if db is None and (path.exists() or config is not None):
        yield from _configuration(path, environ)
    try:
        database = database_path(db, config)
    except HarvestdError as error:
        yield Finding("database", False, str(error).splitlines()[0], "`harvestd config check`, or --db")
        return
    yield from _installation(database, config)


def _configuration(path: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    settings, problems = check(path, environ)
    seen = "; ".join(str(problem) for problem in problems) or f"{path} is valid"
    yield Finding("configuration", not problems, seen, "`harvestd config check` lists every problem.")
    if settings is None:
        return
    for note in unsupported(settings):
        yield Finding("this version", False, f"{note.key}: {note.seen}", note.hint)
    if any(one.broker is BrokerName.ALPACA for one in settings.household.accounts):
        for name in (settings.credentials.alpaca_key_id_name, settings.credentials.alpaca_secret_key_name):
            yield _credential(name, environ, settings.credentials)


def _credential(name: str, environ: Mapping[str, str], credentials: Credentials) -> Finding:
    look = partial(secret_source, name, environ, credentials)
    return _tried(f"credential {name}", look, "Put it where the section `credentials` of the configuration says.")


def _installation(database: Path, config: Path | None) -> Iterator[Finding]:
    yield _tried("exchange calendar", _calendar, "Update exchange_calendars; without it nothing is traded.")
    free = shutil.disk_usage(database.parent if str(database.parent) else ".").free // 1_000_000
    yield Finding(
        "disk", free >= LEAST_FREE_MB, f"{free:,} MB free", f"Free some space; at least {LEAST_FREE_MB} MB are needed."
    )
    opened = _tried(
        "database", lambda: _database(database), "See the message; `harvestd demo` makes a database to try."
    )
    yield opened
    if not opened.ok:
        return
    yield _tried("lots equal a replay of the journal", lambda: _lots(database, config), "harvestd ledger rebuild")
    halted = is_halted(database)
    seen = halt_reason(database) if halted else "not halted"
    yield Finding("halt", not halted, seen, "`harvestd resume` when the reason is gone.")
    yield _tried(
        "broker and reconciliation", lambda: _broker(database), "See the locked symbols in `harvestd positions`."
    )


def _tried(what: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(what, True, look(), remedy)
    except (HarvestdError, StoreError, OSError, ValueError) as error:
        return Finding(what, False, str(error), remedy)


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


def _broker(database: Path) -> str:
    from daemon.cycle import observed

    with looking_house(database) as house:
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
