"""Commands that come before the first run: `init` writes config.yaml, `keys` keeps keys, `config check` checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("init")(init)
    app.command("keys")(keys)
    group = typer.Typer(help="Look after config.yaml.", no_args_is_help=True)
    group.command("check")(config_check)
    app.add_typer(group, name="config")


def init(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; write the defaults.")] = False,
    path: Annotated[Path, typer.Option("--path", help="Where to write it.")] = Path("config.yaml"),
) -> None:
    """Write a commented config.yaml in paper mode. Never overwrites a file."""
    from daemon import onboarding

    onboarding.init(yes=yes, path=path)


def keys(
    config: Annotated[Path | None, typer.Option("--config", help="The file; else $HARVESTD_CONFIG, else here.")] = None,
) -> None:
    """Ask for the broker's keys, unseen, and keep them in files that only you can read."""
    from daemon import onboarding

    onboarding.keys(config)


def config_check(
    config: Annotated[Path | None, typer.Option("--config", help="The file; else $HARVESTD_CONFIG, else here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Check config.yaml and the HARVESTD_* variables. Reports everything that is wrong at once; starts nothing."""
    from daemon import onboarding

    onboarding.config_check(config, as_json=as_json)
