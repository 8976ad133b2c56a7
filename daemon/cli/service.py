"""`harvestd doctor` and `harvestd go-live`: what can be checked before anything runs, each line with what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, emit, table

if TYPE_CHECKING:
    from daemon.broker_check import Finding


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("doctor")(doctor)
    app.command("go-live")(go_live)


def doctor(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Configuration, credentials, calendar, disk, database, lots, broker: exits 1 on any fault."""
    from daemon.doctor import examine

    findings: tuple[Finding, ...] = examine(db, config, os.environ)
    if as_json:
        emit(findings)
    else:
        _show("Doctor", findings)
    if not all(one.ok for one in findings):
        raise typer.Exit(1)


def go_live(config: ConfigOption = None) -> None:
    """Checklist and typed account number for trading real money. Trades nothing, changes no setting."""
    import getpass

    from daemon.clock import WallClock
    from daemon.go_live import candidate, record
    from daemon.settings import config_path, load_settings

    settings = load_settings(config_path(config, os.environ), os.environ)
    found = candidate(settings, config, os.environ)
    _show("Before real money", found.findings)
    if not found.may:
        console().print("Not yet: every line above that is a FAULT has to be put right first. Nothing was changed.")
        raise typer.Exit(1)
    limits, execution = settings.approvals, settings.execution
    console().print(
        f"With this, harvestd may trade account {found.number} without asking, up to {limits.order_usd:,} USD an "
        f"order, {limits.plan_pct_nav} % of value a plan, {execution.daily_notional_max_usd:,} USD a day."
    )
    typed = typer.prompt("Type the account number to go on; anything else ends here", default="", show_default=False)
    if typed.strip() != found.number:
        console().print("That is not the account number. Nothing was changed.")
        raise typer.Exit(1)
    record(settings.database.path, found.number, getpass.getuser(), WallClock().now())
    console().print(
        "Recorded. This version does not trade live yet, whatever is recorded: `mode: live` is refused until its "
        "execution has been through every fault it will meet. Nothing trades."
    )


def _show(title: str, findings: tuple[Finding, ...]) -> None:
    rows = table(title, "", "what", "seen", "what to do")
    for one in findings:
        rows.add_row(one.mark, one.what, one.seen, one.remedy if one.note or not one.ok else "")
    console().print(rows)
