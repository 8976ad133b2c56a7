"""Overrides by environment variable: HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX_BPS=300.

One variable for each key, `__` between section and key; lists are given whole, as `[AAPL, MSFT, KO]`. pydantic leaves
unknown variables alone, so a mistyped limit would be no limit: here every HARVESTD_* name must be one that exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon.settings.choices import Mode
from daemon.settings.diagnosis import WHERE_SECRETS_GO
from daemon.settings.document import Document, Place, parse
from daemon.settings.problems import Problem, dotted
from daemon.settings.redaction import MASK, looks_like_a_secret, names_a_secret
from daemon.settings.wording import Key, leaves, meant

PREFIX = "HARVESTD_"
SECRET_PREFIX = "HARVESTD_SECRET_"
CONFIG_VARIABLE = "HARVESTD_CONFIG"
MODE: Key = ("mode",)


def variable(path: Key) -> str:
    """The name of the variable that overrides a key."""
    return PREFIX + "__".join(str(part).upper() for part in path)


def place_of(name: str) -> str:
    """How a variable is named in messages."""
    return f"environment variable {name}"


def apply_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Write the overrides into the document, each with its variable as its place; problems are added to it."""
    known = {variable(path): path for path in leaves()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(SECRET_PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name not in known:
            document.problems.append(_unknown(name, known))
        else:
            _override(document, known[name], name, environ[name])


def _unknown(name: str, known: Mapping[str, Key]) -> Problem:
    if names_a_secret(name):
        hint = f"{WHERE_SECRETS_GO} As a last resort, the environment variable {SECRET_PREFIX}NAME."
        return Problem(place_of(name), None, "", MASK, "no secret in the settings", hint)
    section = next((other for other in known if other.startswith(f"{name}__")), "")
    close = meant(name, (*known, CONFIG_VARIABLE))
    if section:
        hint = f"A section is given key by key, as {section}."
    elif close:
        hint = f"Did you mean {close}?"
    else:
        hint = "It is written HARVESTD_SECTION__KEY, as HARVESTD_LOG__LEVEL."
    shown = f"{PREFIX}{MASK}" if looks_like_a_secret(name.removeprefix(PREFIX)) and "__" not in name else name
    return Problem(place_of(shown), None, "", "an unknown variable", "a key that harvestd knows", hint)


def _override(document: Document, path: Key, name: str, text: str) -> None:
    place = Place(place_of(name), None)
    value: Any = text.strip()
    if not value:
        hint = "Unset it to use the file's value."
        document.problems.append(Problem(place.file, None, dotted(path), "empty", "a value", hint))
        return
    if value[0] in "[{":
        inner = parse(f"value: {value}", place.file)
        if inner.problems:
            hint = "Write a list as [AAPL, MSFT, KO]."
            document.problems += [
                Problem(place.file, None, dotted(path), each.seen, each.allowed, hint) for each in inner.problems
            ]
            return
        value = inner.values["value"]
    elif value in ("null", "~"):
        value = None
    written_mode = document.value(MODE)
    if path == MODE and written_mode == Mode.OBSERVE.value and value != written_mode:
        hint = "A variable may keep harvestd from trading, never let it. Write the mode into the file."
        document.problems.append(Problem(place.file, None, "mode", f'"{value}"', "observe, as the file says", hint))
        return
    section = document.values
    for part in path[:-1]:
        section = section.setdefault(str(part), {})
        if not isinstance(section, dict):
            return  # the file has something else where this section belongs: that is reported
    section[str(path[-1])] = value
    for written in [key for key in document.places if key[: len(path)] == path]:
        del document.places[written]
    document.places[path] = place
