"""Pages of docs/ that are made from the code: `python -m daemon.cli.docs` writes them, tests hold them to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from state.reasons import ReasonCode

DOCS = Path(__file__).parents[2] / "docs"


def reasons_page() -> str:
    """docs/REASONS.md: every reason code, with the sentence a user reads."""
    lines = [
        "# Reason codes",
        "",
        "Why something was refused, blocked, skipped or done: `CODE: key=value key=value`.",
        "Made from `state/reasons.py` by `python -m daemon.cli.docs`.",
        "",
        "| code | meaning |",
        "|---|---|",
    ]
    lines += [f"| `{code.value}` | {code.meaning} |" for code in ReasonCode]
    return "\n".join(lines) + "\n"


def commands_page(app: typer.Typer) -> str:
    """docs/COMMANDS.md: every command with its arguments and options."""
    lines = [
        "# Commands",
        "",
        "`harvestd COMMAND --help` says the same. Exit codes: 0 done, 1 failed, 2 usage, 78 configuration.",
        "Made from the command line itself by `python -m daemon.cli.docs`.",
        "",
        "| command | what it does | arguments and options |",
        "|---|---|---|",
    ]
    for name, command in commands(app):
        shown = (one for one in command.params if isinstance(one, TyperOption | TyperArgument))
        parameters = "<br>".join(_parameter(one) for one in shown)
        lines.append(f"| `harvestd {name}` | {_cell(command.help)} | {parameters or 'none'} |")
    return "\n".join(lines) + "\n"


def commands(app: typer.Typer) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    """Every command by its full name; a group that does something by itself is one too."""
    yield from _below(typer.main.get_command(app), "")


def _below(command: object, name: str) -> Iterator[tuple[str, TyperCommand | TyperGroup]]:
    if isinstance(command, TyperCommand):
        yield name, command
    if not isinstance(command, TyperGroup):
        return
    if name and command.invoke_without_command:
        yield name, command
    for part, child in command.commands.items():
        yield from _below(child, f"{name} {part}".strip())


def _parameter(parameter: TyperOption | TyperArgument) -> str:
    if isinstance(parameter, TyperArgument):
        return f"`{(parameter.name or '').upper()}` {_cell(getattr(parameter, 'help', None))}".strip()
    named = ", ".join(f"`{option}`" for option in parameter.opts)
    return f"{named} {_cell(parameter.help)}".strip()


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> None:
    """Write both pages."""
    from daemon.cli.main import app

    (DOCS / "REASONS.md").write_text(reasons_page(), encoding="utf-8")
    (DOCS / "COMMANDS.md").write_text(commands_page(app), encoding="utf-8")


if __name__ == "__main__":
    main()
