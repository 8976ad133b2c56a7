"""The kinds of value a setting can have, and what people are told about them.

Each kind reads both the text of `config.yaml` (scalars reach the models as they were written, so that 40.80 is a
`Decimal` and never passed through a float) and Python values given in code. What pydantic would let through is
refused here: true as the number 1, a day given as seconds since 1970, `1_000`, NaN.

The unit of a number is the end of its key: `_usd`, `_pct`, `_bps`, `_s`, `_minutes`, `_hours`, `_sessions`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

# What each ending of a key means, longest first: `_pct_nav` before `_pct`.
UNITS: dict[str, str] = {
    "_pct_nav": "percent of net asset value",
    "_sessions": "trading sessions",
    "_per_minute": "a minute",
    "_minutes": "minutes",
    "_hours": "hours",
    "_years": "years",
    "_usd": "US dollars",
    "_pct": "percent",
    "_bps": "basis points",
    "_s": "seconds",
}

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_NOT_FINITE = re.compile(r"[+-]?\.?(nan|inf|infinity)", re.IGNORECASE)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SWITCH = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


def unit_of(key: str) -> str:
    """The unit that the end of `key` stands for, or "" for a plain number."""
    return next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")


def _refuse_unless_number(value: Any, written_as: re.Pattern[str]) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_wanted", "a number, not true or false")
    if isinstance(value, str):
        text = value.strip()
        if _NOT_FINITE.fullmatch(text):
            raise PydanticCustomError("finite_wanted", "a finite number")
        if not written_as.fullmatch(text):
            raise PydanticCustomError("number_wanted", "a number written with digits alone")
        return text
    return value


def _count(value: Any) -> Any:
    return _refuse_unless_number(value, _INTEGER)


def _number(value: Any) -> Any:
    return _refuse_unless_number(value, _NUMBER)


def _switch(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _SWITCH:
        return _SWITCH[value.lower()]
    raise PydanticCustomError("switch_wanted", "true or false")


def _day(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("day_wanted", "a day of the calendar") from None
    raise PydanticCustomError("day_wanted", "a day written YYYY-MM-DD")


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or "\0" in value):
        raise PydanticCustomError("path_wanted", "a path")
    return value


Count = Annotated[int, BeforeValidator(_count)]  # a whole number
Number = Annotated[float, BeforeValidator(_number)]  # for the strategy's numerics; never money
Exact = Annotated[Decimal, BeforeValidator(_number)]  # money, and what is multiplied with money
Switch = Annotated[bool, BeforeValidator(_switch)]  # true or false
Day = Annotated[date, BeforeValidator(_day)]  # YYYY-MM-DD
FilePath = Annotated[Path, BeforeValidator(_path)]  # relative to the folder of config.yaml


@dataclass(frozen=True, slots=True)
class Words:
    """What a person is told is allowed, where the type and range alone would not say it."""

    text: str


Symbol = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z][A-Z0-9]{0,5}([.\-][A-Z0-9]{1,3})?$"),
    Words("a symbol in capitals such as AAPL or BRK.B"),
]
AccountId = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9_-]{1,20}$"),
    Words("1 to 20 small letters, digits, - or _"),
]
AccountNumber = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9-]{0,40}$"),
    Words("up to 40 letters, digits or -"),
]
LoopbackUrl = Annotated[
    str,
    StringConstraints(pattern=r"^http://(127\.0\.0\.1|localhost|\[::1\]):[0-9]{1,5}$"),
    Words("a server on this machine, http://127.0.0.1:PORT"),
]
Label = Annotated[str, StringConstraints(max_length=60), Words("up to 60 characters")]
KeyringService = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,40}$"),
    Words("a name of small letters, digits, - or _"),
]
Port = Annotated[
    int,
    BeforeValidator(_count),
    Field(ge=1024, le=65_535),
    Words("a TCP port from 1024 to 65535"),
]
SecretName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,40}$"),
    Words("the name of a secret: small letters, digits or _"),
]
