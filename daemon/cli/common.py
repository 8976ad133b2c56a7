"""What every command shares: which database, tables for people, JSON for programs, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.demo import DEMO_DATABASE
from daemon.errors import ConfigurationRefused, NotFound

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from daemon.opening import Target
    from state.store import Store

DbOption = Annotated[
    Path | None, typer.Option("--db", help="The database. Default: the one in config.yaml, else the demo's.")
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration. Default: ./config.yaml")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs instead of tables for people.")]


def database_path(db: Path | None, config: Path | None) -> Path:
    """The database a command is about: --db, else the configuration's, else the demo's in this folder.

    Raises ConfigurationRefused for a bad configuration, NotFound when there is none of the three.
    """
    if db is not None:
        return db
    path = config or Path(os.environ.get("HARVESTD_CONFIG", "config.yaml"))
    if path.exists() or config is not None:
        configured = _configured(path)
        if configured.exists() or not DEMO_DATABASE.exists():
            return configured
    if DEMO_DATABASE.exists():
        print(f"(the demo's database, {DEMO_DATABASE})", file=sys.stderr)
        return DEMO_DATABASE
    raise NotFound("No database yet. `harvestd demo` makes one to look around in; `harvestd init` starts your own.")


def _configured(path: Path) -> Path:
    """The database that a configuration names. Raises ConfigurationRefused when anything in it is wrong."""
    from daemon.settings import load_settings

    return load_settings(path, os.environ).database.path


def target(db: Path | None, config: Path | None, *, looking: bool = False) -> Target:
    """What a command that needs a broker works on; see daemon.opening.target_of."""
    from daemon.opening import target_of

    return target_of(db, config, os.environ, looking=looking)


@contextmanager
def reading(db: Path | None, config: Path | None) -> Iterator[Store]:
    """The store of a command that only reads; closed afterwards."""
    from state.store import Store

    store = Store.open(database_path(db, config), read_only=True)
    try:
        yield store
    finally:
        store.close()


def plain(value: Any) -> Any:
    """Values as the JSON promises: money and quantities as decimal strings, dates ISO, enums by value."""
    if isinstance(value, Decimal):
        from state.store.types import decimal_text

        return decimal_text(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def emit(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(plain(value), indent=2))


def console(*, stderr: bool = False) -> Console:
    """Where tables go. Plain text when the output is not a terminal."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 140
    return Console(stderr=stderr, highlight=False, width=width)


def table(title: str, *columns: str) -> Table:
    """A table; a column whose name starts with ">" is aligned right."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return made


def usd(value: Decimal, places: int = 2) -> str:
    """Dollars with thousands separators."""
    return f"{value:,.{places}f}"


def shares(value: Decimal) -> str:
    """A quantity without superfluous zeros."""
    return f"{value.normalize():f}"


def refuse(message: str) -> ConfigurationRefused:
    """Exit code 78 with a message."""
    return ConfigurationRefused(message)
