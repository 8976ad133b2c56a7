"""`harvestd doctor`, `go-live` and `install-service`: what comes between a configuration and a daemon left alone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, emit, table

if TYPE_CHECKING:
    from daemon.broker_check import Finding
    from daemon.install_service import Installation


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("doctor")(doctor)
    app.command("go-live")(go_live)
    app.command("install-service")(install_service)


def doctor(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Configuration, credentials, calendar, disk, database, lots, broker: exits 1 on any fault."""
    from daemon.doctor import examine
    from daemon.logs import configure

    configure(level="error")  # the screen tells the rest
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
        "Recorded. This version does not trade live yet, whatever is recorded: `mode: live` is refused until it has "
        "been through months at Alpaca's own paper account. Nothing trades."
    )


def _show(title: str, findings: tuple[Finding, ...]) -> None:
    rows = table(title, "", "what", "seen", "what to do")
    for one in findings:
        rows.add_row(one.mark, one.what, one.seen, one.remedy if one.note or not one.ok else "")
    console().print(rows)


def install_service(
    config: ConfigOption = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Who it runs as. Default: whoever owns the configuration.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder of the units. Default: systemd's, /etc/systemd/system.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the units; write nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put them in the place of another household's.")] = False,
) -> None:
    """Write systemd units for this installation: the daemon, and a daily backup. Checks them; starts nothing."""
    from daemon.install_service import NAMES, SYSTEM_UNITS, install, installation

    made, folder = installation(config, user, dict(os.environ)), to or SYSTEM_UNITS
    if dry_run:
        for name in NAMES:
            print(f"# {folder / name}\n{made.unit(name)}")
    _judge(made)
    out = console()
    if not dry_run:
        written = install(made, folder, replace=replace)
        for name in NAMES:
            out.print(f"{'wrote' if folder / name in written else 'as it was:'} {folder / name}", soft_wrap=True)
    for caution in made.cautions:
        out.print(f"To do first: {caution}", soft_wrap=True)
    out.print(
        "Nothing was started. Next:\n"
        "  systemctl daemon-reload\n"
        "  systemctl --no-block enable --now harvestd.service harvestd-backup.timer\n"
        "  systemctl status harvestd        # its state, and when it looks next\n"
        "  journalctl -u harvestd -f        # what it does"
    )


def _judge(made: Installation) -> None:
    """Have systemd check the units before they are installed. Raises UnitsRefused."""
    from daemon.install_service import NAMES, UnitsRefused, judge

    out = console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            (Path(folder) / name).write_text(made.unit(name), encoding="utf-8")
        found = judge(Path(folder))
    if found is None:
        out.print("systemd-analyze is not on this machine: the units were not checked.")
        return
    if found.complaints:
        raise UnitsRefused("Nothing was installed. systemd says:\n" + "\n".join(found.complaints))
    for line in found.exposure:
        out.print(line, soft_wrap=True)
