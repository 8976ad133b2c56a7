"""Pages of docs/, and systemd/, made from the code: `python -m daemon.cli.docs` writes them, tests hold them to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from daemon.outcomes import OUTCOMES
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


def outcomes_page() -> str:
    """docs/OUTCOMES.md: what becomes of an order, by the state we have it in and what the broker says of it."""
    lines = [
        "# What becomes of an order",
        "",
        "Each order that harvestd means to place is an intent: it is written down before its request leaves. What the",
        "broker then says of it, or does not say, decides what the intent becomes. Made from the table in",
        "`daemon/outcomes.py` by `python -m daemon.cli.docs`.",
        "",
        "- An order that may have left is ended by the broker's own records alone: unknown is not failed.",
        "- What is filled only ever grows.",
        "- An id is used for one order: it goes out again with the same terms, or not at all.",
        "",
        "What is not in the table does not happen. In bold: trading halts until a person has looked and typed",
        "`harvestd resume`.",
    ]
    for state, row in OUTCOMES.items():
        lines += ["", f"## {state.value}", "", "| the broker says | the intent becomes | why |", "|---|---|---|"]
        for heard, outcome in row.items():
            becomes = outcome.next.value if outcome.next else f"stays {state.value}"
            if outcome.halts:
                becomes += " **and trading halts**"
            lines.append(f"| {heard.value} | {becomes} | {outcome.why} |")
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
    """Write the pages, and the units of a machine-wide installation."""
    from daemon.cli.main import app
    from daemon.install_service import NAMES, machine_wide

    (DOCS / "REASONS.md").write_text(reasons_page(), encoding="utf-8")
    (DOCS / "OUTCOMES.md").write_text(outcomes_page(), encoding="utf-8")
    (DOCS / "COMMANDS.md").write_text(commands_page(app), encoding="utf-8")
    for name in NAMES:
        (DOCS.parent / "systemd" / name).write_text(machine_wide().unit(name), encoding="utf-8")


if __name__ == "__main__":
    main()
