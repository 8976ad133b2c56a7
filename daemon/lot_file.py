"""A CSV file of one of two layouts, and its cells: read strictly, with every problem noted by its line.

The problem: spreadsheets write what they like. `1,234.56` is a number to a person and two cells to a program,
`03/04/25` is one of two days, a column too many shifts the rest. A reader that guesses turns each of them into a
plausible figure.

So a cell is read in one way only, and what does not fit becomes a problem with its line, what was expected and what was
seen. The two layouts are told apart by their header: one with a column `kind` is of transactions, the other of lots.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from daemon.errors import HarvestdError
from state.records import QUANTUM

MOST_BYTES = 20_000_000
LONGEST_SYMBOL = 12
MOST_DIGITS = 18  # of a number, the point included
LOT_COLUMNS = ("account", "symbol", "acquired", "quantity")
LOT_OPTIONAL = ("basis", "price", "as_of", "reference", "supersedes", "note")
TRADE_COLUMNS = ("account", "kind", "date", "symbol", "quantity")
TRADE_OPTIONAL = (
    "price", "fees", "time", "reference", "supersedes", "note", "acquired", "fair_value", "to_account",
    "ratio_new", "ratio_old",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one line. `line` counts from 1, the header's; 0 is the whole file."""

    line: int
    expected: str
    seen: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}expected {self.expected}, was {self.seen}"


class ImportRefused(HarvestdError):  # noqa: N818
    """The file is not taken in, for all of these reasons; nothing was written."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        ordered = sorted(problems, key=lambda each: each.line)
        lines = "\n".join(f"  {each}" for each in ordered)
        super().__init__(f"{path}: nothing was imported, for {len(ordered)} reasons:\n{lines}")
        self.problems = tuple(ordered)


# ------------------------------------------------------------------ the file


@dataclass(frozen=True, slots=True)
class Table:
    has_lots: bool
    rows: tuple[tuple[int, dict[str, str]], ...]  # line number, cells by column


def table_of(content: bytes, problems: list[Problem]) -> Table | None:
    """The cells of a file, by its header; None where it has no layout of ours."""
    if len(content) > MOST_BYTES:
        problems.append(Problem(0, f"a file of at most {MOST_BYTES:,} bytes", f"{len(content):,} bytes"))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(Problem(0, "text in UTF-8", f"byte {content[error.start]:#04x} at {error.start}"))
        return None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    rows = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped) or stripped[0].startswith("#"):
                continue
            if header is None:
                header = [name.casefold() for name in stripped]
                if not _is_layout(header, reader.line_num, problems):
                    return None
            elif len(stripped) != len(header):
                problems.append(Problem(reader.line_num, f"{len(header)} cells as in the header", f"{len(stripped)}"))
            else:
                rows.append((reader.line_num, dict(zip(header, stripped, strict=True))))
    except csv.Error as error:
        problems.append(Problem(reader.line_num, "comma-separated values", f"{error}"))
        return None
    if header is None:
        problems.append(Problem(0, f"a header: {_layouts()}", "an empty file"))
        return None
    return Table("kind" not in header, tuple(rows))


def _is_layout(header: Sequence[str], line: int, problems: list[Problem]) -> bool:
    """True when the header is one of the two layouts; otherwise says what it lacks or has too much."""
    required, optional = (TRADE_COLUMNS, TRADE_OPTIONAL) if "kind" in header else (LOT_COLUMNS, LOT_OPTIONAL)
    missing = [name for name in required if name not in header and name != "account"]
    unknown = [name for name in header if name not in (*required, *optional)]
    twice = sorted({name for name in header if header.count(name) > 1})
    before = len(problems)
    if missing:
        problems.append(Problem(line, f"a header: {_layouts()}", f"no column {', '.join(missing)}"))
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        problems.append(Problem(line, f"only the columns {', '.join((*required, *optional))}", f"also {names}"))
    if twice:
        problems.append(Problem(line, "each column once", f"{', '.join(twice)} more than once"))
    if "kind" not in header and not missing and ("basis" in header) == ("price" in header):
        seen = "both" if "basis" in header else "neither"
        problems.append(Problem(line, "one of the columns basis (of the whole lot) and price (a share)", seen))
    return len(problems) == before


def _layouts() -> str:
    lots, trades = ", ".join(LOT_COLUMNS), ", ".join(TRADE_COLUMNS)
    return f"{lots} and basis or price, for opening lots; or {trades}, for transactions"


class Cells:
    """One line's cells; what cannot be read becomes a problem, and its row is not made."""

    def __init__(self, line: int, cells: Mapping[str, str], problems: list[Problem]) -> None:
        self.line, self._cells, self._problems = line, cells, problems
        self.is_good = True

    def refuse(self, expected: str, seen: str) -> None:
        self._problems.append(Problem(self.line, expected, seen))
        self.is_good = False

    def text(self, name: str) -> str:
        return self._cells.get(name, "")

    def day(self, name: str, latest: date) -> date | None:
        """A date up to `latest`; None where the cell is empty or wrong."""
        text = self.text(name)
        if not text:
            return None
        try:
            found = date.fromisoformat(text) if len(text) == 10 and text.replace("-", "").isdecimal() else None
        except ValueError:
            found = None
        if found is None:
            self.refuse(f"{name} as YYYY-MM-DD", repr(text))
        elif found > latest:
            self.refuse(f"{name} up to {latest}", text)
            found = None
        return found

    def amount(self, name: str, *, positive: bool = True) -> Decimal | None:
        """A plain decimal of 0 or more, or more than 0; None where the cell is empty or wrong."""
        text = self.text(name)
        if not text:
            return None
        try:
            found = Decimal(text) if text.isascii() and text.replace(".", "", 1).isdecimal() else None
        except InvalidOperation:
            found = None
        if found is not None and len(text) > MOST_DIGITS:
            found = None
        least = "more than 0" if positive else "0 or more"
        if found is None or (positive and not found):
            self.refuse(f"{name} as a number of {least}, such as 1234.56, without separators or signs", repr(text))
            return None
        return found

    def quantity(self, name: str) -> Decimal | None:
        """Shares, at most nine decimals: more than 0, but for a line that takes back another."""
        found = self.amount(name, positive=not self.text("supersedes"))
        if found is not None and found != found.quantize(QUANTUM):
            self.refuse(f"{name} with at most nine decimals", repr(self.text(name)))
            return None
        return found

    def required(self, name: str, found: object) -> None:
        """Refuses an empty cell that is needed."""
        if found is None and not self.text(name):
            self.refuse(f"{name}", "an empty cell")

    def symbol(self) -> str | None:
        """The security, as the broker writes it; None where the cell is wrong."""
        text = self.text("symbol")
        letters = text.replace(".", "").replace("-", "")
        if letters.isalnum() and text.isascii() and text == text.upper() and len(text) <= LONGEST_SYMBOL:
            return text
        self.refuse("symbol as the broker writes it, such as AAPL or BRK.B", repr(text) if text else "an empty cell")
        return None
