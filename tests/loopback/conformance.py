"""Answers against Alpaca's OpenAPI documents, of which `openapi/` holds the parts for the paths served here.

OpenAPI 3.0 is not quite JSON Schema: `nullable` becomes a type here. Two liberties are taken where the documents'
own examples contradict them: the date of a non-trade activity is a date although declared a date-time, and a row of
one activity type may fit both the trade's schema and the other's (neither requires a key), so `oneOf` is `anyOf`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker

from loopback.requests import read_instant
from loopback.wire import Json

_DOCUMENTS = Path(__file__).with_name("openapi")
_FILES = ("trading.json", "market-data.json")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")

_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    if isinstance(value, str):
        if _DATE.fullmatch(value):
            date.fromisoformat(value)
        else:
            read_instant(value)
    return True


@_formats.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or (_DATE.fullmatch(value) is not None and bool(date.fromisoformat(value)))


@_formats.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or bool(UUID(value))


class Conformance:
    """The schemas of the answers, by method, path and status."""

    def __init__(self) -> None:
        self._validators: dict[tuple[str, str, str], Draft202012Validator] = {}
        for name in _FILES:
            document = cast(Json, _as_json_schema(json.loads((_DOCUMENTS / name).read_text())))
            for key, schema in _responses(document):
                whole = {"components": document["components"], **schema}
                self._validators[key] = Draft202012Validator(whole, format_checker=_formats)

    def check(self, method: str, path: str, status: int, body: object) -> list[str]:
        """What is wrong with an answer: nothing, or sentences that say where."""
        if not 200 <= status < 300 or status == 204:
            return []
        validator = self._validators.get((method, path, str(status)))
        if validator is None:
            return [f"{method} {path}: expected a schema for {status} in the OpenAPI documents, was none"]
        return [f"{method} {path}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(body)]


def _responses(document: Json) -> Iterator[tuple[tuple[str, str, str], Json]]:
    for path, methods in cast(dict[str, Json], document["paths"]).items():
        for method, responses in methods.items():
            for status, schema in cast(dict[str, Json], responses).items():
                yield (method.upper(), path, status), schema


def _as_json_schema(schema: object) -> object:
    """The same schema in JSON Schema's words."""
    if isinstance(schema, list):
        return [_as_json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    words = {"oneOf": "anyOf"}
    plain = {words.get(key, key): _as_json_schema(value) for key, value in schema.items() if key != "nullable"}
    if schema.get("nullable") is True and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
    return plain
