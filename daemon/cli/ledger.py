"""`harvestd ledger`: verify the stored lots, make them again, replay a file of worked cases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, database_path, emit, table
from daemon.errors import HarvestdError, NotFound


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    group = typer.Typer(help="The tax-lot ledger.", no_args_is_help=True)
    group.command("verify")(verify)
    group.command("rebuild")(rebuild)
    group.command("replay")(replay)
    app.add_typer(group, name="ledger")


def verify(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove that the stored lots and realized rows equal a full replay of the journal. Exits 1 if not."""
    from daemon.lots_check import compare
    from state.store import Store

    store = Store.open(database_path(db, config), read_only=True)
    try:
        found = compare(store)
    finally:
        store.close()
    if as_json:
        emit(found)
    else:
        out = console()
        out.print(
            f"{found.transactions} journal rows replayed: {found.lots} open lots, {found.realized} realized rows. "
            f"Digest {found.digest}"
        )
        for line in found.differences:
            out.print(f"[red]differs[/red] {line}")
        out.print(
            "The stored lots equal the replay."
            if not found.differences
            else "`harvestd ledger rebuild` makes them again."
        )
    if found.differences:
        raise typer.Exit(1)


def rebuild(db: DbOption = None, config: ConfigOption = None) -> None:
    """Make the stored lots and realized rows again from the journal."""
    from daemon.lots_check import rebuild as make_again
    from daemon.opening import lease
    from state.store import Store

    path = database_path(db, config)
    if not path.exists():
        raise NotFound(f"No database at {path}.")
    with lease(path):
        store = Store.open(path)
        try:
            count = make_again(store)
        finally:
            store.close()
    console().print(f"Rebuilt from {count} journal rows.")


def replay(
    file: Annotated[Path, typer.Argument(help="YAML in the format of tests/cases/.")],
    as_json: JsonOption = False,
    convention: Annotated[list[str] | None, typer.Option("--convention", help="NAME=VALUE, may be repeated.")] = None,
) -> None:
    """Replay a file of trades and print lots, gains, disallowed losses and open lots."""
    import yaml

    from state.lots import LedgerError, replay_cases
    from state.lots.casefile import LATER_SECTIONS

    chosen: dict[str, str] = {}
    for item in convention or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected NAME=VALUE, was {item!r}", param_hint="--convention")
        chosen[name] = value
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HarvestdError(f"{file}: expected YAML, was not: {error}") from error
    if not isinstance(document, dict):
        raise HarvestdError(f"{file}: expected a mapping with the key cases, was {type(document).__name__}")
    if not {"cases", *LATER_SECTIONS} & document.keys():
        seen = ", ".join(map(str, document)) or "nothing"
        raise HarvestdError(f"{file}: expected the section cases, was {seen}")
    later = [name for name in LATER_SECTIONS if name in document]
    if later and "cases" in document:
        print(f"harvestd: {', '.join(later)}: not in this version, left out", file=sys.stderr)
        document = {name: section for name, section in document.items() if name not in later}
    try:
        result = replay_cases(document, chosen)
    except LedgerError as error:
        raise HarvestdError(f"{file}: {error}") from error
    if as_json:
        emit(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    out = console()
    for case in result.get("cases", []):
        rows = table(
            case["id"],
            "sale",
            "lot",
            "acquired",
            "from",
            ">quantity",
            ">proceeds",
            ">basis",
            ">gain/loss",
            ">disallowed",
            "term",
        )
        for sale in case["sales"]:
            for lot in sale["lots"]:
                rows.add_row(
                    sale["sale_id"],
                    *(
                        str(lot[key])
                        for key in (
                            "lot",
                            "acquired",
                            "adjusted_acquired",
                            "quantity",
                            "proceeds",
                            "basis",
                            "gain_loss",
                            "disallowed",
                            "term",
                        )
                    ),
                )
        out.print(rows)
        open_lots = table("open lots", "lot", "account", "symbol", "acquired", "from", ">quantity", ">basis")
        for lot in case["open_lots"]:
            open_lots.add_row(
                *(
                    str(lot[key])
                    for key in ("lot", "account", "symbol", "acquired", "adjusted_acquired", "quantity", "basis")
                )
            )
        out.print(open_lots)
