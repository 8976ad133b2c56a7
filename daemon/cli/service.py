"""`harvestd doctor`: what can be checked before anything runs, each line with what to do about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, emit, table

if TYPE_CHECKING:
    from daemon.broker_check import Finding


def register(app: typer.Typer) -> None:
    """Mount the command on the main command line."""
    app.command("doctor")(doctor)


def doctor(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Configuration, credentials, calendar, disk, database, lots, broker: exits 1 on any fault."""
    from daemon.doctor import examine

    findings: tuple[Finding, ...] = examine(db, config, os.environ)
    if as_json:
        emit(findings)
    else:
        rows = table("Doctor", "", "what", "seen", "what to do")
        for one in findings:
            rows.add_row(one.mark, one.what, one.seen, one.remedy if one.note or not one.ok else "")
        console().print(rows)
    if not all(one.ok for one in findings):
        raise typer.Exit(1)
