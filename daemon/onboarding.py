"""Commands that come before the first run: `init` writes config.yaml, `config check` says what is wrong with it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer

from daemon.settings import EXAMPLE, Problem, Settings, check, config_path, unsupported
from daemon.settings.document import parse
from daemon.settings.loading import check_text
from daemon.settings.wording import Key, choices

USAGE = 2  # exit codes
CONFIGURATION = 78
KEYS_FOLDER = "keys"  # beside config.yaml

_ACCOUNT: Key = ("household", "accounts", 0)


@dataclass(frozen=True, slots=True)
class Question:
    """One thing `init` asks. `only` narrows the closed list of the key."""

    key: Key
    text: str
    only: tuple[str, ...] = ()
    is_list: bool = False


QUESTIONS = (
    Question(("mode",), "How far may harvestd go", only=("observe", "paper")),
    Question((*_ACCOUNT, "type"), "Whose account will harvestd manage", only=("taxable", "spouse_taxable")),
    Question(
        (*_ACCOUNT, "relief_confirmed"),
        "Alpaca is understood to sell the oldest shares first (first in, first out), and every plan relies on it.\n"
        "Nothing in its interface shows it. Have you made sure that your account does",
        only=("true", "false"),
    ),
    Question(("tax_profile", "short_term_rate_pct"), "Your marginal tax rate on short-term gains, in percent"),
    Question(("tax_profile", "long_term_rate_pct"), "Your marginal tax rate on long-term gains, in percent"),
    Question(("benchmark", "symbols"), "Symbols of the benchmark, equally weighted, with spaces between", is_list=True),
)


# ------------------------------------------------------------------ init


def init(*, yes: bool, path: Path) -> None:
    """Write a commented config.yaml in paper mode. Never overwrites a file."""
    if os.path.lexists(path):
        _stop(f"{path} exists already and stays as it is. Edit it, move it away, or choose another with --path.", USAGE)
    if not path.absolute().parent.is_dir():
        folder = path.absolute().parent
        _stop(f"The folder {folder} does not exist. Create it with `mkdir -p {folder}`, or choose --path.", USAGE)
    text = EXAMPLE.read_text(encoding="utf-8")
    if not yes:
        typer.echo("Enter keeps the value in brackets. Everything can be changed later in the file.\n")
        text = _ask_all(text, path)
    _write_new(path, text)
    typer.echo(
        f"\nWrote {path}: paper mode, readable by you alone.\n"
        "Next:\n"
        "  1. Read it once. Add the accounts of your household that harvestd may not trade, IRAs included.\n"
        f"  2. harvestd keys --config {path}      # asks for the paper keys, and keeps them where only you can read\n"
        f"  3. harvestd doctor --config {path}    # every line that is a fault says what to do\n"
        f"  4. harvestd run --config {path}       # loads prices the first time, then looks after the account"
    )


def _ask_all(text: str, path: Path) -> str:
    for question in QUESTIONS:
        text = _ask(text, question, path)
    return text


def _ask(text: str, question: Question, path: Path) -> str:
    """The text with the answer in it. Asks again until the answer is one that the check accepts."""
    now = parse(text, str(path)).value(question.key)
    default = " ".join(now) if question.is_list else str(now).lower() if isinstance(now, bool) else str(now)
    words = question.only or choices(question.key)
    prompt = f"{question.text} ({', '.join(words)})" if words else question.text
    while True:
        answer = typer.prompt(prompt, default=default).strip()
        if words and answer not in words:
            typer.echo(f"  Expected one of {', '.join(words)}, was {json.dumps(answer)}.")
            continue
        value: Any = answer.replace(",", " ").upper().split() if question.is_list else answer
        changed = replaced(text, question.key, value)
        _, problems = check_text(changed, path, {})
        if not problems:
            return changed
        for problem in problems:
            typer.echo(f"  Expected {problem.allowed}, was {problem.seen}. {problem.hint}")


def replaced(text: str, key: Key, value: str | list[str]) -> str:
    """The YAML text with another value at `key`; comments and everything else stay. Raises KeyError."""
    place = parse(text, "config.yaml").places[key]
    if isinstance(value, list):
        quoted = ", ".join(json.dumps(item) if not item.isalnum() else item for item in value)
        return f"{text[: place.start]}[{quoted}]{text[place.end :]}"
    plain = value.replace(".", "").replace("_", "").isalnum()
    return f"{text[: place.start]}{value if plain else json.dumps(value)}{text[place.end :]}"


def _write_new(path: Path, text: str) -> None:
    """Create the file with mode 0600, or stop: O_EXCL never writes over one that appeared meanwhile."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        _stop(f"{path} exists already and stays as it is. Choose another with --path.", USAGE)
    except OSError as error:
        _stop(f"{path} cannot be written: {error.strerror}. Choose another with --path.", USAGE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _stop(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


# ------------------------------------------------------------------ keys


def keys(config: Path | None) -> None:
    """Ask for the keys, unseen, and keep each in a file of mode 0400 in credentials.directory, which init named."""
    path = config_path(config, os.environ)
    settings, problems = check(path, os.environ)
    if settings is None:
        _print_problems(path, problems)
        raise typer.Exit(CONFIGURATION)
    names = settings.credentials
    folder = names.directory
    if folder is None:
        folder = path.absolute().parent / KEYS_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        path.write_text(replaced(text, ("credentials", "directory"), KEYS_FOLDER), encoding="utf-8")
        typer.echo(f"{path}: credentials.directory is {KEYS_FOLDER} now.")
    typer.echo("Paste each key and press Enter; what you paste is not shown.")
    for name, what in ((names.alpaca_key_id_name, "key id"), (names.alpaca_secret_key_name, "secret key")):
        secret = typer.prompt(f"Alpaca {what}", hide_input=True).strip()
        _keep(folder / name, secret)
        typer.echo(f"  kept in {folder / name}, readable by you alone")
    typer.echo("Next: harvestd doctor")


def _keep(place: Path, secret: str) -> None:
    """Write a secret into a file of its own, moved into place whole; one that was there before is replaced."""
    making = place.with_name(f".{place.name}.new")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
    making.replace(place)


# ------------------------------------------------------------------ config check


def config_check(config: Path | None, *, as_json: bool) -> None:
    """Check config.yaml and the HARVESTD_* variables. Reports everything that is wrong at once; starts nothing."""
    path = config_path(config, os.environ)
    settings, problems = check(path, os.environ)
    notes = unsupported(settings) if settings else []
    if as_json:
        answer = {
            "valid": settings is not None,
            "file": str(path),
            "problems": [problem.as_json() for problem in problems],
            "not_yet_supported": [note.as_json() for note in notes],
        }
        typer.echo(json.dumps(answer, indent=2))
    elif settings is None:
        _print_problems(path, problems)
    else:
        _print_summary(path, settings, notes)
    if settings is None:
        raise typer.Exit(CONFIGURATION)


def _print_problems(path: Path, problems: tuple[Problem, ...]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    console.print(Text(f"{path}: {count}. Nothing was started.", style="bold red"))
    for problem in problems:
        console.print()
        console.print(Text.assemble((problem.place, "bold"), ("  " + problem.key if problem.key else "", "cyan")))
        console.print(Text(f"    Expected {problem.allowed}, was {problem.seen}."))
        if problem.hint:
            console.print(Text(f"    {problem.hint}", style="green"))


def _print_summary(path: Path, settings: Settings, notes: list[Problem]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"{path} is valid.", style="bold green"))
    managed = ", ".join(f"{account.id} ({account.broker.value})" for account in settings.household.managed)
    known = ", ".join(account.id for account in settings.household.accounts if not account.is_managed) or "none"
    names = len(settings.benchmark.symbols)
    benchmark = f"{names} names, equally weighted" if names else str(settings.benchmark.constituents_file)
    limits = settings.approvals
    rows = {
        "mode": settings.mode.value,
        "managed": managed,
        "known by import": known,
        "benchmark": benchmark,
        "tracking error": f"at most {settings.optimizer.tracking_error_max_bps:g} basis points",
        "waits for you": f"an order above {limits.order_usd:,} USD, a plan above {limits.plan_pct_nav} % of value",
        "database": str(settings.database.path),
    }
    for name, value in rows.items():
        console.print(Text(f"  {name:<16} {value}"))
    for note in notes:
        console.print(Text(f"Not in this version: {note.key} {note.seen}. {note.hint}", style="yellow"))
