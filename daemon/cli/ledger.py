"""`harvestd ledger`: verify the stored lots, make them again, import a file, replay one of worked cases."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, database_path, emit, table
from daemon.errors import HarvestdError, NotFound

if TYPE_CHECKING:
    from rich.table import Table

    from daemon.casefiles import Replayed
    from daemon.lot_import import Import
    from state.store import Store
    from strategy.taxes import TaxTables, TaxYear


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    group = typer.Typer(help="The tax-lot ledger.", no_args_is_help=True)
    group.command("verify")(verify)
    group.command("rebuild")(rebuild)
    group.command("import")(import_)
    group.command("replay")(replay)
    app.add_typer(group, name="ledger")


def verify(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Prove that the stored lots and realized rows equal a full replay of the journal. Exits 1 if not."""
    from rich.text import Text

    from daemon.cli.views.facts import settings_of
    from daemon.lots_check import compare
    from state.store import Store

    store = Store.open(database_path(db, config), read_only=True)
    try:
        found = compare(store, settings_of(store, config))
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
        for line in found.unreadable:
            out.print(visible(line), markup=False, soft_wrap=True)
        for line in found.differences:
            out.print(Text.assemble(("differs", "red"), " ", visible(line)))
        out.print(
            "The stored lots equal the replay."
            if not found.differences
            else "`harvestd ledger rebuild` makes them again."
        )
    if found.differences:
        raise typer.Exit(1)


def rebuild(db: DbOption = None, config: ConfigOption = None) -> None:
    """Make the stored lots and realized rows again from the journal."""
    from daemon.cli.views.facts import settings_of
    from daemon.clock import WallClock
    from daemon.lots_check import rebuild as make_again
    from daemon.opening import lease
    from state.store import Store

    path = database_path(db, config)
    if not path.exists():
        raise NotFound(f"No database at {path}.")
    with lease(path):
        store = Store.open(path)
        try:
            count, restated = make_again(store, settings_of(store, config), WallClock().now())
        finally:
            store.close()
    told = f" {len(restated)} sales told before are restated: `harvestd alerts`." if restated else ""
    console().print(f"Rebuilt from {count} journal rows.{told}")


def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV of opening lots or of transactions; docs/IMPORT.md has the layouts.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come of it; write nothing.")] = False,
    account: Annotated[
        str | None, typer.Option("--account", help="The account of a file without the column account.")
    ] = None,
    further: Annotated[
        bool,
        typer.Option(
            "--further", help="Lines that look like rows of the journal and have a reference of their own are others."
        ),
    ] = False,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in opening lots, or transactions of accounts that harvestd does not trade: all of the file or, with every
    reason why, nothing. The same file again changes nothing. The daemon must be stopped."""
    from contextlib import nullcontext

    from daemon.cli.views.facts import settings_of
    from daemon.lot_import import read, take
    from daemon.lots_check import full_replay
    from daemon.opening import lease
    from state.store import Store

    path = database_path(db, config)
    if not path.exists():
        raise NotFound(f"No database at {path}. `harvestd once` makes it.")
    with nullcontext() if dry_run else lease(path):
        store = Store.private_copy(path) if dry_run else Store.open(path)
        try:
            settings, now = settings_of(store, config), _now(store)
            if settings is not None:  # an account that was added since the daemon ran
                store.household.put_accounts(item.as_account() for item in settings.household.accounts)
            ledger = full_replay(store, settings)
            found = read(file, store, ledger, now, account_id=account, further=further)
            if not dry_run:
                take(found, store, ledger, now)
        finally:
            store.close()
    if as_json:
        emit({**_import_json(found), "dry_run": dry_run})
    else:
        _print_import(found, dry_run=dry_run)


def _now(store: Store) -> datetime:
    """The instant of a command: a demo's database lives in its own time."""
    from daemon.cli.views.facts import as_of
    from daemon.clock import WallClock

    day = as_of(store) if store.meta.get("kind") == "demo" else None
    return datetime.combine(day, time(21), UTC) if day else WallClock().now()


def _import_json(found: Import) -> dict[str, Any]:
    return {
        "file": found.path,
        "new": len(found.rows),
        "known": found.known,
        "transactions": found.rows,
        "open_lots": found.lots,
        "positions": [
            {
                "account_id": one.account_id,
                "symbol": one.symbol,
                "lots": one.lots,
                "broker": one.broker,
                "agrees": one.agrees,
            }
            for one in found.reconciled
        ],
    }


def _print_import(found: Import, *, dry_run: bool) -> None:
    from daemon.cli.common import shares, usd

    out = console()
    would = "would be imported; nothing was written" if dry_run else "imported"
    told = f"{found.path}: {len(found.rows)} rows {would}. Already known: {found.known}."
    out.print(visible(told), markup=False, soft_wrap=True)
    if not found.rows:
        return
    lots = _titled("Open lots of these accounts and symbols", *IMPORTED_COLUMNS)
    for lot in found.lots:
        basis = usd(lot.basis) if lot.basis_known else "unknown"
        dates = (lot.acquired.isoformat(), lot.adjusted_acquired.isoformat())
        _add(lots, lot.account_id, lot.symbol, *dates, shares(lot.quantity), basis, lot.lot_id)
    out.print(lots)
    rows = _titled("Beside the broker's last known positions", "account", "symbol", ">lots", ">broker", "")
    for one in found.reconciled:
        said = {None: "not traded here", True: "agrees", False: "differs: the symbol is locked until it agrees"}
        theirs = shares(one.broker) if one.broker is not None else ""
        _add(rows, one.account_id, one.symbol, shares(one.lots), theirs, said[one.agrees])
    out.print(rows)


def replay(
    file: Annotated[Path, typer.Argument(help="YAML in the format of tests/cases/.")],
    as_json: JsonOption = False,
    convention: Annotated[list[str] | None, typer.Option("--convention", help="NAME=VALUE, may be repeated.")] = None,
    tax_tables: Annotated[
        Path | None,
        typer.Option("--tax-tables", help="Tax tables of your own. Default: tax_profile.tables_file, if configured."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Replay a file of worked cases: lots, gains and disallowed losses, netting, rates, qualified dividends. Exits 1 if
    a case cannot be answered; the others are."""
    from daemon.casefiles import replay_file
    from state.lots import LedgerError
    from strategy.taxes import TaxInputError

    chosen: dict[str, str] = {}
    for item in convention or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected NAME=VALUE, was {item!r}", param_hint="--convention")
        chosen[name] = value
    document = _cases(file)
    try:
        result = replay_file(document, chosen, lambda: _tables(tax_tables, config))
    except (LedgerError, TaxInputError) as error:
        raise HarvestdError(f"{file}: {error}") from error
    if as_json:
        emit(result.answers)
        for year in result.years.values():
            if year.replaces:
                print(f"harvestd: {_whose(year)}", file=sys.stderr)
    else:
        _print(result)
    for refusal in result.refusals:
        why = visible(f"{refusal.section} {refusal.name}: {refusal.reason}")
        print(f"harvestd: {file}: {why}", file=sys.stderr)
    if result.refusals:
        raise typer.Exit(1)


def _cases(file: Path) -> dict[str, Any]:
    """The parsed file. Raises NotFound, or HarvestdError for anything but a mapping with a section of cases."""
    import yaml

    from daemon.casefiles import SECTIONS

    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"{file}: {error.strerror}") from error
    except RecursionError as error:
        raise HarvestdError(f"{file}: expected YAML, was nested too deeply to be read") from error
    # Besides YAMLError, PyYAML lets through what it trips over itself: ValueError for a day that is none, such as
    # 2025-02-30, or text that is not UTF-8; the others for a value that is not what its tag says, such as `!!int ""`.
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise HarvestdError(f"{file}: expected YAML, was not: {error}") from error
    if not isinstance(document, dict):
        raise HarvestdError(f"{file}: expected a mapping with the key cases, was {type(document).__name__}")
    if not document.keys() & set(SECTIONS):
        seen = ", ".join(key for key in document if isinstance(key, str)) or "none"
        raise HarvestdError(f"{file}: expected one of the sections {', '.join(SECTIONS)}, was {visible(seen)}")
    return document


def _tables(file: Path | None, config: Path | None) -> TaxTables:
    """The shipped tax tables, with those of --tax-tables or else of the configuration, where there is one."""
    from daemon.settings import config_path, load_settings
    from daemon.tax_tables import tax_tables

    path = config_path(config, os.environ)
    if file is None and (config is not None or path.exists()):
        file = load_settings(path, os.environ).tax_profile.tables_file
    return tax_tables(file)


# ------------------------------------------------------------------ tables for people

LOT_COLUMNS = (
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
IMPORTED_COLUMNS = ("account", "symbol", "acquired", "counts from", ">quantity", ">basis USD", "lot")
OPEN_LOT_COLUMNS = ("lot", "account", "symbol", "acquired", "adjusted_acquired", "quantity", "basis")


def visible(text: str) -> str:
    """Text from a file as one line that does nothing to a terminal: line ends and the like are written as escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _titled(title: str, *columns: str) -> Table:
    from rich.text import Text

    made = table("", *columns)
    made.title = Text(visible(title), style="bold")
    return made


def _add(rows: Table, *cells: str) -> None:
    """A row of plain text: what came from the file is never read as markup."""
    from daemon.cli.views.facts import add

    add(rows, *map(visible, cells))


def _print(result: Replayed) -> None:
    for case in result.answers.get("cases", []):
        _print_lots(case)
    out = console()
    headings = {
        "netting_cases": ("deduct", "st_carry_out", "lt_carry_out"),
        "rate_cases": ("ordinary_tax", "preferential_tax", "niit"),
        "qualified_dividend_cases": ("days_in_window", "qualified"),
    }
    for section, keys in headings.items():
        if section not in result.answers:
            continue
        rows = _titled(section.replace("_", " "), "case", *(f">{key.replace('_', ' ')}" for key in keys))
        for answer in result.answers[section]:
            _add(rows, answer["id"], *(_cell(answer.get(key)) for key in keys))
        out.print(rows)
    for number in sorted(result.years):
        _print_sources(result.years[number])


def _cell(value: object) -> str:
    """A figure as it is; a word for a switch; nothing for what the case does not determine."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _print_sources(year: TaxYear) -> None:
    """Where the figures behind the taxes of one year come from."""
    out = console()
    out.print(_whose(year), markup=False, soft_wrap=True)
    for part, source in year.sources.items():
        out.print(f"  {part}: {source.text} ({source.evidence}, {source.as_of})", markup=False, soft_wrap=True)


def _whose(year: TaxYear) -> str:
    instead = f", not those of {year.replaces}" if year.replaces else ""
    return f"Figures of {year.year}: those of {year.origin}{instead}"


def _print_lots(case: dict[str, Any]) -> None:
    out = console()
    rows = _titled(
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
            _add(rows, sale["sale_id"], *(lot[key] for key in LOT_COLUMNS))
    out.print(rows)
    open_lots = _titled("open lots", "lot", "account", "symbol", "acquired", "from", ">quantity", ">basis")
    for lot in case["open_lots"]:
        _add(open_lots, *(lot[key] for key in OPEN_LOT_COLUMNS))
    out.print(open_lots)
