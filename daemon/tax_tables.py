"""The tax tables in use: those that harvestd ships, with the years of a user's file added or in their place.

`strategy` does no I/O, so its data file is read here and handed to its validating constructor. Files are read like
`config.yaml`: numbers as they were written, never through float, a key written twice refused, every fault with its
line. A bad file stops what asked for it with exit code 78; nothing is computed from half a file.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from daemon.settings import ConfigurationError, Problem
from daemon.settings.document import Document, parse
from strategy.taxes import TaxTableError, TaxTables, read_tables

SHIPPED = "harvestd"  # the origin of the figures that come with the program
LOOK_AT = "`harvestd` ships strategy/taxes/federal.yaml as an example; docs/METHODS.md has the form."


def shipped_tables() -> TaxTables:
    """The figures that come with harvestd."""
    data = files("strategy.taxes") / "federal.yaml"
    return _read(data.read_text(encoding="utf-8"), "strategy/taxes/federal.yaml", SHIPPED)


def tax_tables(file: Path | None = None) -> TaxTables:
    """The shipped tables, extended with a user's file. Raises ConfigurationError when the file cannot be used."""
    shipped = shipped_tables()
    if file is None:
        return shipped
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        seen = (error.strerror or "unreadable").lower()
        raise ConfigurationError([Problem(str(file), None, "", seen, "a file of tax tables", LOOK_AT)]) from error
    except UnicodeDecodeError as error:
        hint = "Save it as UTF-8 in your editor."
        raise ConfigurationError([Problem(str(file), None, "", "other bytes", "text in UTF-8", hint)]) from error
    return shipped.extended(_read(text, str(file), str(file)))


def _read(text: str, name: str, origin: str) -> TaxTables:
    document = parse(text, name)
    if document.problems:
        raise ConfigurationError(
            each if each.key else replace(each, allowed="YAML with the key years", hint=LOOK_AT)
            for each in document.problems
        )
    try:
        return read_tables(document.values, origin)
    except TaxTableError as error:
        raise ConfigurationError([_problem(document, error)]) from error


def _problem(document: Document, error: TaxTableError) -> Problem:
    """The fault with the line it stands on."""
    return document.problem(error.path, error.seen, error.expected, error.hint)
