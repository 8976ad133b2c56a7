"""What every view needs to say what it shows: as of when, over which accounts, and how much of their history is known.

The day of a view is the day of the data, never the wall clock: a demo of 2022 shows 2022, and a daemon that has been
stopped for a week shows last week's figures and says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.coverage import household, names
from daemon.errors import NotFound
from state.records import ZERO, Account, RealizedRow

if TYPE_CHECKING:
    from rich.table import Table

    from daemon.settings import Settings
    from state.store import Store

DAY = timedelta(days=1)
SATURDAY = 5
WIDEST = 1000  # characters; only a bound for measuring
LEAST_TEXT = 28  # a last column of text is not squeezed below this


@dataclass(frozen=True, slots=True)
class ModeAndLimit:
    """The two settings that `status` shows; None where nothing is configured."""

    mode: str | None
    tracking_error_max_bps: float | None


def mode_and_limit(store: Store, config: Path | None) -> ModeAndLimit:
    """As `settings_of`, but a demo's stored settings are read without the settings' whole machinery: it is slow."""
    text = store.meta.get("settings")
    if text is not None:
        stored = json.loads(text)
        return ModeAndLimit(stored["mode"], stored["optimizer"]["tracking_error_max_bps"])
    settings = settings_of(store, config)
    if settings is None:
        return ModeAndLimit(None, None)
    return ModeAndLimit(settings.mode.value, settings.optimizer.tracking_error_max_bps)


def settings_of(store: Store, config: Path | None) -> Settings | None:
    """The settings a database was made with (a demo's), else those of config.yaml, else None.

    Raises daemon.settings.ConfigurationError for a bad configuration.
    """
    from daemon.settings import Settings, config_path, load_settings

    text = store.meta.get("settings")
    if text:
        return Settings.model_validate_json(text)
    path = config_path(config, os.environ)
    if path.exists() or config is not None:
        return load_settings(path, os.environ)
    return None


def is_demo(store: Store) -> bool:
    """True for a database that `harvestd demo` left behind."""
    return store.meta.get("kind") == "demo"


def as_of(store: Store) -> date:
    """The last session whose figures are written; without any, the last with prices; without any, today."""
    rows = (store.performance.last(account.account_id) for account in managed(store.household.accounts()))
    sessions = [row.session for row in rows if row is not None]
    found = max(sessions) if sessions else store.market.last_session()
    return found or today()


def today() -> date:
    """The New York date of the wall clock."""
    from daemon.clock import NEW_YORK, WallClock

    return WallClock().now().astimezone(NEW_YORK).date()


def next_weekday(day: date) -> date:
    """The first weekday after `day`. Holidays of the exchange are not looked up: its calendar is slow to load."""
    found = day + DAY
    while found.weekday() >= SATURDAY:
        found += DAY
    return found


# ------------------------------------------------------------------ accounts


def managed(accounts: Iterable[Account]) -> tuple[Account, ...]:
    """The accounts that harvestd trades."""
    return tuple(account for account in accounts if account.is_managed)


def chosen(store: Store, account_id: str | None) -> tuple[Account, ...]:
    """All accounts, or the one named. Raises NotFound, naming those there are."""
    accounts = household(store)
    if account_id is None:
        return accounts
    found = tuple(account for account in accounts if account.account_id == account_id)
    if not found:
        raise NotFound(f"No account {account_id}. Known: {names(accounts) or 'none'}.")
    return found


def described(account: Account) -> str:
    """An account's id with what it is."""
    kind = account.account_type.value.replace("_", " ")
    how = f"{account.relief_method.value.upper()} at {account.broker}" if account.is_managed else "known by import"
    return f"{account.account_id} ({kind}, {how})"


# ------------------------------------------------------------------ what can still change


@dataclass(frozen=True, slots=True)
class Provisional:
    """Losses after disallowance that a purchase can still disallow, in USD, and the last day on which one can."""

    losses: Decimal
    until: date | None


def provisional(rows: Iterable[RealizedRow], day: date) -> Provisional:
    """What a purchase after `day` can still disallow (IRC §1091(a): thirty days after the sale)."""
    until, losses = None, ZERO
    for row in rows:
        if row.recognized < 0 and row.provisional_until is not None and row.provisional_until > day:
            until = max(until or row.provisional_until, row.provisional_until)
            losses -= row.recognized
    return Provisional(losses, until)


# ------------------------------------------------------------------ printing


def add(rows: Table, *cells: str, style: str | None = None) -> None:
    """A row of plain text: what came from outside is never read as markup."""
    from rich.text import Text

    rows.add_row(*(Text(cell) for cell in cells), style=style)


def say(line: str = "", style: str = "") -> None:
    """A line of plain text on standard output."""
    from rich.text import Text

    from daemon.cli.common import console

    console().print(Text(line, style=style))


def grid(*columns: str) -> Table:
    """A table without a title; a column whose name starts with ">" is aligned right. Only the last column wraps."""
    from daemon.cli.common import table

    made = table("", *columns)
    made.title, made.collapse_padding = None, True
    for column in made.columns[:-1]:
        column.no_wrap = True
    return made


def show(rows: Table, title: str = "") -> None:
    """A table on standard output, under its title. Wider than the terminal rather than with a figure cut off."""
    from rich.cells import cell_len
    from rich.measure import Measurement

    from daemon.cli.common import console

    if title:
        say()
        say(title, style="bold")
    screen = console()
    natural = Measurement.get(screen, screen.options.update(max_width=WIDEST), rows).maximum
    lines = (line for cell in rows.columns[-1].cells for line in str(cell).splitlines())
    text = max((cell_len(line) for line in lines), default=0)
    screen.width = max(screen.width, natural - max(0, text - LEAST_TEXT))
    screen.print(rows)


def where(db: Path | None, config: Path | None) -> str:
    """The options that lead a next command to the same database, with a leading space, or nothing."""
    return (f" --db {db}" if db else "") + (f" --config {config}" if config else "")


def percent(value: float | None, places: int = 2) -> str:
    """A percentage, or a dash."""
    return "-" if value is None else f"{value:.{places}f} %"


def how_many(found: Sequence[object], every: Sequence[object], which: str) -> str:
    """Whether a list shows all there is, in words."""
    if len(found) < len(every):
        return f"the newest {len(found)} of {len(every)} {which}; --most 0 shows all"
    return f"{len(every)} {which}"
