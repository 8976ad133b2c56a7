"""`harvestd backup` and `harvestd upgrade`: copies that are verified before they count, and newer schemas."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, database_path, emit
from daemon.errors import NotFound

if TYPE_CHECKING:
    from daemon.backup import Backup
    from daemon.settings import Settings


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("backup")(backup)
    app.command("upgrade")(upgrade)


def backup(
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder. Default: database.backup_directory of config.yaml.")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many stay; older ones are removed.")] = 30,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the database into one file, verify it by restoring it, remove the oldest. The daemon may be running. Exits 1
    if no verified backup came about."""
    from daemon.backup import back_up, folder_of
    from daemon.clock import WallClock

    path = database_path(db, config)
    settings = _settings(path, config)
    made = back_up(path, to or folder_of(settings, path), WallClock().now(), settings, keep=keep)
    if as_json:
        emit(_json(made))
    else:
        _show(made)
    if not made.is_verified:
        raise typer.Exit(1)


def upgrade(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Bring the database of an older version to this one, after a verified backup. `harvestd run` does it too. The
    daemon must be stopped."""
    from daemon.clock import WallClock
    from daemon.opening import lease
    from daemon.upgrade import upgrade_if_older
    from state.store.revisions import HEAD_REVISION

    path = database_path(db, config)
    settings = _settings(path, config)
    with lease(path):
        done = upgrade_if_older(path, settings, WallClock().now())
    if as_json:
        emit({"from": done.before, "to": done.after, "backup": _json(done.backup)} if done else {"to": HEAD_REVISION})
    elif done is None:
        console().print(
            f"{path} is of schema revision {HEAD_REVISION}, this version's. Nothing was done.", soft_wrap=True
        )
    else:
        _show(done.backup)
        console().print(f"Upgraded from schema revision {done.before} to {done.after}.")


def _settings(path: Path, config: Path | None) -> Settings | None:
    """The settings that a database is worked with."""
    from daemon.cli.views.facts import settings_of
    from state.store import Store

    if not path.exists():
        raise NotFound(f"No database at {path} yet. `harvestd run` makes it.")
    store = Store.open(path, read_only=True)
    try:
        return settings_of(store, config)
    finally:
        store.close()


def _json(made: Backup) -> dict[str, object]:
    return {**{name: getattr(made, name) for name in made.__dataclass_fields__}, "verified": made.is_verified}


def _show(made: Backup) -> None:
    out = console()
    out.print(f"{made.file} ({made.size_bytes:,} bytes, schema revision {made.schema_revision})", soft_wrap=True)
    if made.is_verified:
        out.print(
            f"Verified by restoring it: {made.transactions} journal rows replay to its {made.lots} lots and "
            f"{made.realized_rows} realized rows.",
            soft_wrap=True,
        )
    else:
        out.print(
            "NOT verified, and not counted: a true copy of a database whose stored lots are not what its journal says, "
            f"in {len(made.differences)} places. `harvestd ledger verify` lists them.",
            soft_wrap=True,
        )
    removed = f", {len(made.removed)} removed" if made.removed else ""
    out.print(f"{made.kept} of this kind are kept{removed}.")
    if made.not_noted:
        out.print(f"The database does not know of it: {made.not_noted}. The backup is none the worse.", soft_wrap=True)
    for trouble in made.troubles:
        out.print(f"The backup is there, but {trouble}.", soft_wrap=True)
