"""From pydantic's errors to problems a person can act on.

pydantic's own `.errors()` repeats its input, secrets included, so only its type and location are used; the value shown
is the one in the document, and only where it cannot be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from daemon.settings.document import Document
from daemon.settings.models import Settings
from daemon.settings.problems import Problem
from daemon.settings.redaction import MASK, REDACTOR, looks_like_a_secret, names_a_secret
from daemon.settings.rules import Breach, RuleBroken
from daemon.settings.values import unit_of
from daemon.settings.wording import Key, allowed, choices, key_meant, meant, model_fields, type_at

WHERE_SECRETS_GO = (
    "Take it out of here and make a new one if others could read this. Secrets go into systemd credentials "
    "(LoadCredential=), a 0400 file in credentials.directory, or the keyring; see the credentials section."
)
_PRIVATE = frozenset(("account_number",))  # not secret, but nobody wants it in a terminal log
_LONGEST_SHOWN = 40


def shown(path: Key, value: Any) -> str:
    """A value as a person may see it: short, and masked where it could be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = str(value)
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if name in _PRIVATE or names_a_secret(name) or looks_like_a_secret(text):
        return MASK
    text = "".join(letter if letter.isprintable() else "?" for letter in REDACTOR.redact(text))
    return f'"{text[:_LONGEST_SHOWN]}..."' if len(text) > _LONGEST_SHOWN else f'"{text}"'


def misplaced_secrets(document: Document) -> Iterator[Problem]:
    """Keys that hold secrets and have no business in the settings, at any depth."""

    def walk(value: Any, path: Key) -> Iterator[Problem]:
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(item, (*path, index))
        elif isinstance(value, dict):
            for key, item in value.items():
                here = (*path, key)
                is_secret = names_a_secret(key) or key.lower() == "key"
                if is_secret and type_at(here) is None and not isinstance(item, dict | list):
                    yield document.problem(here, MASK, "no secret in the settings", WHERE_SECRETS_GO)
                else:
                    yield from walk(item, here)

    yield from walk(document.values, ())


def diagnose(document: Document) -> tuple[Settings | None, list[Problem]]:
    """Validate a document: the settings, or everything that is wrong with them at once.

    A value that is wrong hides the rules it takes part in. So wrong values are put aside and the rest is validated
    again; broken rules that touch a value put aside are not reported, since its default is not what the user wrote.
    """
    problems: list[Problem] = []
    blamed: set[Key] = set()
    values: Any = document.values
    while True:
        try:
            settings = Settings.model_validate(values)
        except ValidationError as error:
            found = list(_new_problems(document, error, blamed))
        else:
            return (None if problems else settings), problems
        if not found:
            return None, problems
        problems += [problem for _, problem in found]
        blamed.update(_outside_lists(path) for paths, _ in found for path in paths)
        values = _without(values, {_outside_lists(paths[0]) for paths, _ in found})


def _new_problems(document: Document, error: ValidationError, blamed: set[Key]) -> Iterator[tuple[list[Key], Problem]]:
    for detail in error.errors(include_url=False, include_input=False):
        path: Key = tuple(detail["loc"])
        broken = detail.get("ctx", {}).get("error")
        if isinstance(broken, RuleBroken):
            for breach in broken.breaches:
                keys = [_under(path, key) for key in breach.keys]
                if not any(_touches(key, blamed) for key in keys):
                    yield keys, _breach_problem(document, keys, breach)
        elif not _touches(path, blamed):
            yield [path], _value_problem(document, path, detail)


def _under(path: Key, key: str) -> Key:
    return (*path, *(int(part) if part.isdecimal() else part for part in key.split(".")))


def _touches(key: Key, blamed: set[Key]) -> bool:
    return any(key[: len(other)] == other or other[: len(key)] == key for other in blamed)


def _outside_lists(path: Key) -> Key:
    """The path up to the first list in it: lists are put aside whole, or their positions would shift."""
    return path[: next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))]


def _without(value: Any, paths: set[Key], here: Key = ()) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without(item, paths, (*here, key)) for key, item in value.items() if (*here, key) not in paths}


def _breach_problem(document: Document, keys: list[Key], breach: Breach) -> Problem:
    """Told at the first of its keys that is written somewhere, with the value that stands there."""
    written = next((key for key in keys if key in document.places), keys[0])
    value = document.value(keys[0])
    seen = shown(keys[0], value) if breach.seen is None or isinstance(value, str) else breach.seen
    problem = document.problem(keys[0], seen, breach.allowed, breach.hint)
    place = document.place(written)
    return replace(problem, file=place.file, line=place.line)


def _value_problem(document: Document, path: Key, detail: ErrorDetails) -> Problem:
    value = document.value(path)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(document, path)
    if detail["type"] == "missing":
        hint = "`harvestd init --path NEW_FILE` writes a complete file to compare with." if len(path) == 1 else ""
        return document.problem(path, "missing", allowed(path), hint)
    return document.problem(path, shown(path, value), allowed(path), _hint(path, value))


def _unknown_key(document: Document, path: Key) -> Problem:
    suggestion = key_meant(path)
    if suggestion:
        hint = f"Did you mean {suggestion}?"
    else:
        found = type_at(path[:-1])
        keys = model_fields(found[1]) if found else {}
        hint = f"The keys here are {', '.join(keys)}." if keys else ""
    return document.problem(path, "an unknown key", "a key that harvestd knows", hint)


def _hint(path: Key, value: Any) -> str:
    """What to do about a wrong value, where its text gives it away."""
    words = choices(path)
    if words and isinstance(value, str):
        close = meant(value, words)
        return f"Did you mean {close}?" if close else ""
    found = type_at(path)
    name = found[0] if found else ""
    if isinstance(value, str):
        if found and allowed(path).startswith("a symbol"):
            return f"Did you mean {value.strip().upper()}?" if not looks_like_a_secret(value) else ""
        if found and "number" in allowed(path)[:16]:
            return _number_hint(name, value)
        if found and allowed(path).startswith("a list"):
            return f"Write [{value}] or one item a line after `- `." if shown(path, value) != MASK else "Write a list."
    if isinstance(value, dict) and allowed(path).startswith("a list"):
        return "Start each item on a line of its own with `- `."
    if isinstance(value, list) and allowed(path).startswith("a mapping"):
        return "Leave out the `- ` before the keys."
    if value is None:
        return "Give it a value, or remove the line to use the default."
    return ""


def _number_hint(name: str, text: str) -> str:
    unit = unit_of(name)
    if re.fullmatch(r"[+-]?\.?(nan|inf|infinity)", text.strip(), re.IGNORECASE):
        return "A limit must be a finite number: every comparison with NaN is false, so it would limit nothing."
    if re.search(r"[,_]", text) and re.fullmatch(r"[+-]?[\d,_. ]+", text):
        return "Write digits alone, with a point for decimals and nothing between thousands."
    if re.match(r"[+$-]?\s*[\d.]", text) and unit:
        percent = " 1 percent is 100 basis points." if "%" in text and unit == "basis points" else ""
        return f"Write the number alone: it is in {unit}, as the end of the key says.{percent}"
    return ""
