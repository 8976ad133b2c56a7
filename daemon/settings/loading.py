"""From `config.yaml` and the environment to `Settings`, or to everything that is wrong with them at once.

Nothing is created, opened for writing or connected to here: a wrong file starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.settings.choices import BrokerName, Mode
from daemon.settings.diagnosis import diagnose, misplaced_secrets
from daemon.settings.document import LARGEST_FILE_BYTES, Document, parse
from daemon.settings.environment import CONFIG_VARIABLE, apply_environment
from daemon.settings.models import Settings
from daemon.settings.problems import ConfigurationError, Problem
from state.records import ReliefMethod

DEFAULT_NAME = "config.yaml"
HOW_TO_START = "`harvestd init` writes one; --config or HARVESTD_CONFIG names another."


def config_path(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Which file to read: the option, else $HARVESTD_CONFIG, else ./config.yaml."""
    return option or Path(environ.get(CONFIG_VARIABLE) or DEFAULT_NAME)


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of a file with the environment's overrides. Raises ConfigurationError with every problem."""
    settings, problems = check(path, environ)
    if settings is None:
        raise ConfigurationError(problems)
    return settings


def check(path: Path, environ: Mapping[str, str]) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings, or None and every problem in the order of the file. Paths become absolute: relative ones are
    relative to the folder of the file."""
    read = _read(path)
    if isinstance(read, Problem):
        return None, (read,)
    return check_text(read, path, environ)


def check_text(text: str, path: Path, environ: Mapping[str, str]) -> tuple[Settings | None, tuple[Problem, ...]]:
    """As `check`, for the text that `path` holds or is about to hold."""
    document = parse(text, str(path))
    unreadable = bool(document.problems) and not document.values
    if unreadable:
        return None, tuple(document.problems)
    secrets = list(misplaced_secrets(document))
    apply_environment(document, environ)
    settings, wrong = diagnose(document)
    problems = [*document.problems, *secrets]
    told = {(each.line, each.key) for each in problems}
    problems += (each for each in wrong if (each.line, each.key) not in told)
    folder = path.absolute().parent
    problems += [*_forbidden_modes(document), *_missing_paths(document, folder)]
    if settings is not None:
        settings = _with_absolute_paths(settings, folder)
    problems.sort(key=lambda each: (each.line is None, each.line or 0))
    return (None if problems else settings), tuple(problems)


def unsupported(settings: Settings) -> list[Problem]:
    """What the settings ask for, rightly, and this version cannot do yet. The daemon says so at start."""
    found = []
    for index, account in enumerate(settings.household.accounts):
        key = f"household.accounts[{index}]"
        if account.broker is BrokerName.SIMULATED:
            hint = (
                "The built-in venue lives in `harvestd demo`, which needs no file. The setting is right and can stay."
            )
            found.append(Problem("settings", None, f"{key}.broker", '"simulated"', "alpaca or import for now", hint))
        if account.is_managed and not account.type.is_taxable:
            hint = "Losses in it are worth nothing to harvest: declare it with broker: import, so that it is known."
            allowed = "a taxable account to be managed, for now"
            found.append(Problem("settings", None, f"{key}.type", f'"{account.type.value}"', allowed, hint))
        if account.is_managed and account.relief_method is not ReliefMethod.FIFO:
            hint = "Plans for other relief methods come with a later version; a plan must never promise other lots."
            seen = f'"{account.relief_method.value}"'
            allowed = "fifo for a managed account, for now"
            found.append(Problem("settings", None, f"{key}.relief_method", seen, allowed, hint))
    at_alpaca = [index for index, one in enumerate(settings.household.accounts) if one.broker is BrokerName.ALPACA]
    for index in at_alpaca[1:]:
        hint = "One pair of keys opens one account. Declare the others with broker: import, so that they are known."
        key = f"household.accounts[{index}].broker"
        found.append(Problem("settings", None, key, '"alpaca" again', "one account at Alpaca, for now", hint))
    return found


def _read(path: Path) -> str | Problem:
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        return Problem(name, None, "", "missing", "a file", HOW_TO_START)
    except IsADirectoryError:
        return Problem(name, None, "", "a folder", "a file", HOW_TO_START)
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        return Problem(name, None, "", reason, "a file that harvestd may read", f"Look at it with `ls -l {name}`.")
    if len(raw) > LARGEST_FILE_BYTES:
        allowed = f"a file of at most {LARGEST_FILE_BYTES} bytes"
        return Problem(name, None, "", "a larger one", allowed, "Is it the right file?")
    text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    if "\ufffd" in text:
        line = text.count("\n", 0, text.index("\ufffd")) + 1
        return Problem(name, line, "", "bytes that are not", "text in UTF-8", "Save it as UTF-8 in your editor.")
    return text


def _absolute(path: Path, folder: Path) -> Path:
    return Path(os.path.normpath(folder / os.path.expanduser(path)))


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    file, directory = settings.benchmark.constituents_file, settings.credentials.directory
    calendar, tables = settings.wash_sales.calendar_file, settings.tax_profile.tables_file
    database = _absolute(settings.database.path, folder)
    backups = _absolute(settings.database.backup_directory, database.parent)
    changed = {
        "database": settings.database.model_copy(update={"path": database, "backup_directory": backups}),
        "benchmark": settings.benchmark.model_copy(update={"constituents_file": file and _absolute(file, folder)}),
        "wash_sales": settings.wash_sales.model_copy(
            update={"calendar_file": calendar and _absolute(calendar, folder)}
        ),
        "tax_profile": settings.tax_profile.model_copy(update={"tables_file": tables and _absolute(tables, folder)}),
        "credentials": settings.credentials.model_copy(
            update={"directory": directory and _absolute(directory, folder)}
        ),
    }
    return settings.model_copy(update=changed)


def _forbidden_modes(document: Document) -> Iterator[Problem]:
    """Looked up as written, so that they are told even where the rest is not valid."""
    mode, allowed = document.value(("mode",)), "one of observe, paper"
    if mode == Mode.DEMO.value:
        yield document.problem(("mode",), '"demo"', allowed, "`harvestd demo` sets demo by itself and needs no file.")
    if mode == Mode.LIVE.value:
        hint = (
            "Live trading needs the record that `harvestd go-live` writes, and this version does not trade live yet: "
            "it has not been through months at Alpaca's own paper account. Use mode: paper, or mode: observe."
        )
        yield document.problem(("mode",), '"live"', allowed, hint)


def _missing_paths(document: Document, folder: Path) -> Iterator[Problem]:
    """Paths that lead nowhere, as written, relative to the folder of the file."""

    def written(*key: str) -> Path | None:
        value = document.value(key)
        return (
            _absolute(Path(value), folder) if isinstance(value, str) and value.strip() and "\0" not in value else None
        )

    database = written("database", "path")
    if database is not None and os.path.isdir(database):
        yield document.problem(("database", "path"), "a folder", "a file", f"Add a name: {database / 'harvestd.db'}")
    elif database is not None and not os.path.isdir(database.parent):
        hint = f"Create it with `mkdir -p {database.parent}`, or choose another path."
        yield document.problem(("database", "path"), "in a missing one", "a path in a folder that exists", hint)
    for key in (("benchmark", "constituents_file"), ("tax_profile", "tables_file")):
        file = written(*key)
        if file is not None and not os.path.isfile(file):
            hint = f"Looked for {file}; a relative path starts at the folder of the settings file."
            yield document.problem(key, "missing", "a file that exists", hint)
    directory = written("credentials", "directory")
    if directory is not None and not os.path.isdir(directory):
        hint = f"Create it with `mkdir -m 0700 {directory}`, or write null."
        yield document.problem(("credentials", "directory"), "missing", "a folder that exists, or null", hint)
