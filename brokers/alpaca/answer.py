"""One JSON object of an answer, read field by field.

Alpaca sends trading numbers as strings and market data as JSON numbers, leaves fields out, adds others, and stamps
instants with up to nine decimals of a second. Here a field is read as what it must be; what is missing or of another
type raises BrokerUnavailable and names the place, the field, and what was there. Fields nobody asks for are not looked
at, so a new one breaks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import NoReturn
from zoneinfo import ZoneInfo

from brokers.errors import BrokerUnavailable

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object and where it came from, such as "orders row 3"."""

    where: str
    fields: Mapping[str, object]

    def has(self, name: str) -> bool:
        """True when the field is there and says something: not null, not empty text."""
        return self.fields.get(name) not in (None, "")

    def text(self, name: str) -> str:
        """Text that is not empty."""
        value = self.fields.get(name)
        return value if isinstance(value, str) and value else self._wrong(name, "text")

    def text_or(self, name: str, default: str = "") -> str:
        """Text, or the default where there is none."""
        return self.text(name) if self.has(name) else default

    def decimal(self, name: str) -> Decimal:
        """A finite number, sent as a string or as a JSON number."""
        value = self.fields.get(name)
        try:
            if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
                number = Decimal(value)
                if number.is_finite():
                    return number
        except InvalidOperation:
            pass
        return self._wrong(name, "a number")

    def decimal_or_none(self, name: str) -> Decimal | None:
        """A finite number, or None where there is none."""
        return self.decimal(name) if self.has(name) else None

    def instant(self, name: str) -> datetime:
        """An instant with its time zone, in UTC; what is finer than a microsecond is dropped."""
        value = self.fields.get(name)
        try:
            if isinstance(value, str):
                found = datetime.fromisoformat(value)
                if found.tzinfo is not None:
                    return found.astimezone(UTC)
        except ValueError:
            pass
        return self._wrong(name, "an instant with its time zone")

    def day(self, name: str) -> date:
        """A date as written. Of a date with a time, the date: Alpaca means the day, whatever zone it writes."""
        value = self.fields.get(name)
        try:
            if isinstance(value, str):
                return date.fromisoformat(value[:10])
        except ValueError:
            pass
        return self._wrong(name, "a date")

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.fields.get(name)
        return value if isinstance(value, bool) else self._wrong(name, "true or false")

    def flag_or(self, name: str, default: bool) -> bool:
        """True or false, or the default where the field is absent."""
        return self.flag(name) if self.has(name) else default

    def inner(self, name: str) -> Answer:
        """An object inside this one."""
        return answer(self.fields.get(name), f"{self.where}, {name}")

    def inner_or_none(self, name: str) -> Answer | None:
        """An object inside this one, or None where there is none."""
        return self.inner(name) if self.has(name) else None

    def rows(self, name: str) -> tuple[Answer, ...]:
        """A list of objects inside this one."""
        return rows(self.fields.get(name), f"{self.where}, {name}")

    def items(self) -> Iterator[tuple[str, object]]:
        """The fields as they are, by name."""
        return iter(self.fields.items())

    def _wrong(self, name: str, expected: str) -> NoReturn:
        seen = repr(self.fields[name])[:80] if name in self.fields else "absent"
        raise BrokerUnavailable(f"Alpaca's {self.where}, {name}: expected {expected}, was {seen}")


def answer(value: object, where: str) -> Answer:
    """A JSON object. Raises BrokerUnavailable when it is anything else."""
    if not isinstance(value, dict):
        raise BrokerUnavailable(f"Alpaca's {where}: expected a JSON object, was {_kind(value)}")
    return Answer(where, value)


def rows(value: object, where: str) -> tuple[Answer, ...]:
    """A JSON list of objects. Raises BrokerUnavailable when it is anything else."""
    if not isinstance(value, list):
        raise BrokerUnavailable(f"Alpaca's {where}: expected a JSON list, was {_kind(value)}")
    return tuple(answer(row, f"{where} row {number}") for number, row in enumerate(value, 1))


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {repr(value)[:80]}"
