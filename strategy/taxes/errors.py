"""What the tax figures refuse, named by what the daemon does about it. No figure is guessed."""

from __future__ import annotations


class TaxError(Exception):
    """Root: this figure is not computed; others are."""


class TaxInputError(TaxError):
    """Refused at the door: an amount, a day or a filing status that cannot be. Needs a person."""


class MissingTaxYearError(TaxError):
    """There are no tables for the year asked about, and no other year's are used. Needs a person: add the year."""

    def __init__(self, message: str, *, year: int, known: tuple[int, ...]) -> None:
        super().__init__(message)
        self.year = year
        self.known = known


class TaxTableError(TaxError):
    """A file of tax tables is malformed: none of it is used. Needs a person.

    `path` leads to the fault, as in ("years", "2027", "niit", "rate_pct"); `expected`, `seen` and `hint` are words.
    """

    def __init__(self, path: tuple[str | int, ...], expected: str, seen: str, hint: str = "") -> None:
        where = ".".join(map(str, path)) or "the file"
        super().__init__(f"{where}: expected {expected}, was {seen}.{' ' if hint else ''}{hint}")
        self.path = path
        self.expected = expected
        self.seen = seen
        self.hint = hint
