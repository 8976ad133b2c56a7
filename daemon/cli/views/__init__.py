"""Commands that only look: what is held, what was done and why, what is closed to trades, how it went.

Every one opens the store read-only, prints a table for people or with `--json` one document for programs, and says of
each figure what it is: which accounts, before or after disallowance, as of which session.
"""

from __future__ import annotations

import typer

from daemon.cli.views.holdings import lots, positions
from daemon.cli.views.performance import performance
from daemon.cli.views.plans import plans_app
from daemon.cli.views.schema import schema
from daemon.cli.views.scorecard import scorecard
from daemon.cli.views.status import status
from daemon.cli.views.trades import orders
from daemon.cli.views.watch import alerts, wash_calendar_command

__all__ = ["plans_app", "register", "report_app"]

report_app = typer.Typer(help="Figures over time.", no_args_is_help=True)
report_app.command("performance")(performance)
report_app.command("scorecard")(scorecard)


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("status")(status)
    app.command("positions")(positions)
    app.command("lots")(lots)
    app.command("orders")(orders)
    app.add_typer(plans_app, name="plans")
    app.command("wash-calendar")(wash_calendar_command)
    app.command("alerts")(alerts)
    app.add_typer(report_app, name="report")
    app.command("schema")(schema)
