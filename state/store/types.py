"""Column types that never pass through float, and never lose a time zone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator


def decimal_text(value: Decimal) -> str:
    """Canonical text of an exact decimal: plain notation, no exponent, no superfluous zeros."""
    text = str(value)
    if "E" in text or "N" in text or "n" in text:  # an exponent, NaN, Infinity
        if not value.is_finite():
            raise ValueError(f"Expected a finite amount, was {value}")
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


class ExactDecimal(TypeDecorator[Decimal]):
    """Decimal as text. SQLAlchemy's Numeric goes through float on SQLite; this refuses float."""

    impl = Text
    cache_ok = True

    @staticmethod
    def encode(value: Decimal | None) -> str | None:
        """Text of a Decimal; raises TypeError for anything else."""
        if value is None:
            return None
        if not isinstance(value, Decimal):
            raise TypeError(f"Expected a Decimal, was {type(value).__name__}: {value!r}")
        return decimal_text(value)

    decode = Decimal

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return self.encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        return None if value is None else Decimal(value)


class UtcInstant(TypeDecorator[datetime]):
    """An instant as ISO text in UTC with microseconds, so that text order is time order."""

    impl = Text
    cache_ok = True

    @staticmethod
    def encode(value: datetime | None) -> str | None:
        """Text of an instant; raises TypeError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError(f"Expected an instant with a time zone, was the naive {value.isoformat()}")
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"

    decode = datetime.fromisoformat

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return self.encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromisoformat(value)


def _encode(value: object) -> object:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in fields(value)}
    raise TypeError(f"Expected text, numbers, decimals or dates in a JSON column, was {type(value).__name__}")


class Json(TypeDecorator[Any]):
    """JSON text with sorted keys; decimals are written as strings."""

    impl = Text
    cache_ok = True

    @staticmethod
    def encode(value: Any) -> str | None:
        """JSON text; raises TypeError for what JSON cannot say."""
        if value is None:
            return None
        if not value and isinstance(value, (list, tuple)):
            return "[]"
        plain = dict(value) if isinstance(value, Mapping) else value
        return json.dumps(plain, default=_encode, sort_keys=True, separators=(",", ":"))

    decode = staticmethod(json.loads)

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        return self.encode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else json.loads(value)
