"""A request as it arrived, its parameters read with Alpaca's refusals, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import cast

from brokers.simulated.world import NEW_YORK
from loopback.errors import WireError, invalid
from loopback.wire import Json

_SECRET_HEADERS = frozenset({"apca-api-secret-key", "apca-api-key-id", "authorization", "cookie"})


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names are lower case, `query` holds the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    def json(self) -> Json:
        """The body as a JSON object; numbers with a fraction are decimals. Raises WireError (422) on anything else."""
        try:
            parsed = json.loads(self.body or b"null", parse_float=Decimal)
        except ValueError as error:
            raise invalid("request body format is invalid") from error
        if not isinstance(parsed, dict):
            raise invalid("request body format is invalid")
        return cast(Json, parsed)


@dataclass(frozen=True)
class RecordedRequest:
    """A request the server has seen, without its keys, and how it was answered (None: not at all)."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object
    headers: Mapping[str, str]
    status: int | None
    instant: datetime

    @classmethod
    def of(cls, request: Request, status: int | None, instant: datetime) -> RecordedRequest:
        """What is kept of a request."""
        try:
            body = json.loads(request.body) if request.body else None
        except ValueError:
            body = request.body.decode(errors="replace")
        headers = {name: value for name, value in request.headers.items() if name not in _SECRET_HEADERS}
        return cls(request.method, request.path, request.query, body, headers, status, instant)


@dataclass(frozen=True)
class Parameters:
    """Query parameters; `refuse` makes the error of the API they belong to."""

    values: Mapping[str, str]
    refuse: Callable[[str], WireError] = invalid

    def text(self, name: str) -> str | None:
        """The value, None when it is absent or empty."""
        return self.values.get(name) or None

    def words(self, name: str) -> tuple[str, ...]:
        """The values of a comma-separated list."""
        return tuple(word for word in (self.text(name) or "").split(",") if word)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of the words allowed. Raises WireError."""
        value = self.text(name) or default
        if value not in allowed:
            raise self.refuse(f"invalid {name}: {value}")
        return value

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds. Raises WireError."""
        value = self.text(name)
        if value is None:
            return default
        if not value.isdecimal() or not least <= int(value) <= most:
            raise self.refuse(f"invalid {name}: {value}, must be between {least} and {most}")
        return int(value)

    def day(self, name: str, default: date) -> date:
        """A date, also of an instant. Raises WireError."""
        value = self.text(name)
        try:
            return default if value is None else date.fromisoformat(value[:10])
        except ValueError as error:
            raise self.refuse(f"invalid {name}: {value}") from error

    def instant(self, name: str, *, end_of_day: bool = False) -> datetime | None:
        """An instant in UTC; a date alone is its first moment in New York, or with `end_of_day` its last."""
        value = self.text(name)
        if value is None:
            return None
        try:
            if len(value) == len("2024-01-09"):
                day = datetime.fromisoformat(value).replace(tzinfo=NEW_YORK)
                last = datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, tzinfo=NEW_YORK)
                return (last if end_of_day else day).astimezone(UTC)
            return read_instant(value)
        except ValueError as error:
            raise self.refuse(f"invalid {name}: {value}") from error


def read_instant(text: str) -> datetime:
    """RFC 3339 with up to nine decimals, cut to microseconds. Raises ValueError, also without an offset."""
    whole, dot, rest = text.partition(".")
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{whole}.{digits[:6]:0<6}{rest[len(digits) :]}"
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if parsed.tzinfo is None:
        raise ValueError(f"Expected an instant with an offset, was {text}")
    return parsed.astimezone(UTC)
