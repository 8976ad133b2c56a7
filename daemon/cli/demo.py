"""`harvestd demo`: the whole daemon on real past prices, from the first dollar to the closing page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from daemon.cli.common import emit
from daemon.demo import DEMO_DATABASE

FIRST, LAST = "2019-01-02", "2022-12-28"


def register(app: typer.Typer) -> None:
    """Mount the command on the main command line."""
    app.command("demo")(demo)


def demo(
    start: Annotated[datetime, typer.Option("--from", help="First day.", formats=["%Y-%m-%d"])] = FIRST,  # type: ignore[assignment]
    end: Annotated[datetime, typer.Option("--to", help="Last day.", formats=["%Y-%m-%d"])] = LAST,  # type: ignore[assignment]
    speed: Annotated[float, typer.Option("--speed", help="Sessions a second; 0 is as fast as it goes.", min=0)] = 0,
    db: Annotated[Path, typer.Option("--db", help="Where to leave the database.")] = DEMO_DATABASE,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a demo that was stopped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of the screen.")] = False,
) -> None:
    """Watch a direct-indexed account being looked after from 2019 to 2022. No account, no key, no network."""
    from daemon.demo.run import DemoOptions, run_demo
    from daemon.demo.screen import Screen
    from daemon.logs import configure

    configure(level="error")  # the screen tells the rest
    options = DemoOptions(start.date(), end.date(), speed, db, resume)
    with Screen(quiet=as_json) as screen:
        result = run_demo(options, screen)
    if as_json:
        emit(result.figures)
    else:
        screen.closing_page(result, db)
