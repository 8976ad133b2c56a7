"""The benchmark's names and weights: from the settings, or from a file, such as an ETF provider's list as downloaded.

A file is a CSV. Its columns are found by their names, in a header within the first 30 lines (providers write the
fund's name and date above it); the table ends with the first line that has neither symbol nor weight.

    layout         symbol           weight         told apart by                  what is no share
    own            symbol           weight         symbol, weight                 nothing: every line is a share
    iShares        Ticker           Weight (%)     Asset Class                    by Asset Class
    State Street   Ticker           Weight         Identifier                     by its ticker
    Vanguard       Ticker           % of fund(s)   % of fund(s)                   by its ticker
    Invesco        Holding Ticker   Weight         Fund Ticker, Holding Ticker    by Class of Shares

Cash, futures and whatever else is no share is left out, and told. A share without a ticker is left out where it weighs
next to nothing (unlisted rests of old mergers), and refused where it does not. All weights of the file, what is left
out included, must sum to 98 to 102 %, or as fractions to 0.98 to 1.02, nine tenths of it in shares: a list that was cut
off, or of another kind of fund, is refused. The weights of the shares are then scaled to sum to 1.

Classes of shares are written with a dot: BRK/B, BRK B and BRK-B become BRK.B. Without a separator (BRKB) that is done
for the names of `CLASS_SHARES`, and where a list of known symbols is given, for any that it knows only with the dot;
GOOGL and RUSHB are names of their own, and stay.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

from daemon.errors import ConfigurationRefused
from daemon.settings import Settings
from state.records import ZERO

HEADER_WITHIN = 30  # lines
LEAST_NAMES = 3
LEAST_SUM, MOST_SUM = Decimal("0.98"), Decimal("1.02")  # of all weights, 1 being the fund
LEAST_SHARES = Decimal("0.9")  # of that sum
MOST_UNLISTED = Decimal("0.0005")  # weight of a share without a ticker that may be left out
HUNDRED = Decimal(100)

SYMBOL = re.compile(r"[A-Z][A-Z0-9]{0,5}([.\-][A-Z0-9]{1,3})?")
NO_TICKER = frozenset({"", "-", "--", "---", "\u2014", "\u2013", "N/A", "NA"})
CURRENCIES = frozenset({"CASH", "USD", "US DOLLAR", "CASH_USD", "MARGIN_USD"})
NO_SECTOR = frozenset({"", "-", "--", "\u2014", "unassigned", "n/a", "unknown", "cash and/or derivatives"})
SHARES = re.compile(r"equit|stock|share|receipt|\badr\b|\breit\b|real estate investment|partnership|\bunits?\b", re.I)
NOT_SHARES = re.compile(r"future|option|swap|right|warrant|preferred|fund|cash|currenc|money market", re.I)

# Root and classes listed in New York with a dot between them; providers write them together.
CLASS_SHARES = (
    ("AGM", "A"), ("AKO", "AB"), ("BF", "AB"), ("BIO", "B"), ("BRK", "AB"), ("CRD", "AB"), ("CWEN", "A"), ("GEF", "B"),
    ("GTN", "A"), ("HEI", "A"), ("LEN", "B"), ("LGF", "AB"), ("MKC", "V"), ("MOG", "AB"), ("STZ", "B"), ("TAP", "A"),
    ("UHAL", "B"), ("WSO", "B"),
)  # fmt: skip
_TOGETHER = {root + letter: f"{root}.{letter}" for root, letters in CLASS_SHARES for letter in letters}

_NUMBER = re.compile(r"-?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATES = (
    re.compile(r"\b(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})\b"),
    re.compile(r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4})\b"),
    re.compile(r"\b(?P<day>\d{1,2})[- ](?P<name>[A-Za-z]{3,9})[- ](?P<year>\d{4})\b"),
    re.compile(r"\b(?P<name>[A-Za-z]{3,9})\.? (?P<day>\d{1,2}),? *(?P<year>\d{4})\b"),
)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A line of a constituents file that is not part of the benchmark. `weight` is a fraction of the fund."""

    line: int
    symbol: str
    name: str
    why: str
    weight: Decimal


@dataclass(frozen=True, slots=True)
class Constituents:
    """Names, base weights summing to 1, and sectors where known; all in the order of `symbols`."""

    symbols: tuple[str, ...]
    weights: tuple[Decimal, ...]
    sectors: dict[str, str]
    as_of: date | None = None  # the day the file is about, where it says so
    source_layout: str = "settings"
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file is recognised, and what its columns are called: small letters, single spaces, no asterisks."""

    name: str
    marks: tuple[tuple[str, ...], ...]  # of each of these, one must be there
    symbol: tuple[str, ...]
    weight: tuple[str, ...]
    title: tuple[str, ...] = ("name",)
    sector: tuple[str, ...] = ("sector",)
    kind: tuple[str, ...] = ()
    identity: tuple[str, ...] = ("cusip", "isin", "sedol")
    day: tuple[str, ...] = ()


_PERCENT_OF_FUND = ("% of fund", "% of funds", "% of net assets")
_LAYOUTS = (
    _Layout(
        "iShares", (("ticker",), ("name",), ("asset class",), ("weight (%)",)),
        ("ticker",), ("weight (%)",), kind=("asset class",),
    ),
    _Layout(
        "Invesco", (("fund ticker",), ("holding ticker",), ("weight",)), ("holding ticker",), ("weight",),
        kind=("class of shares",), identity=("security identifier",), day=("date",),
    ),
    _Layout(
        "State Street", (("name",), ("ticker",), ("identifier",), ("weight",)), ("ticker",), ("weight",),
        identity=("identifier", "sedol"),
    ),
    _Layout(
        "Vanguard", (("ticker",), _PERCENT_OF_FUND), ("ticker",), _PERCENT_OF_FUND,
        title=("holdings", "holding name", "security name", "name"),
    ),
    _Layout("own", (("symbol",), ("weight",)), ("symbol",), ("weight",)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table, as text."""

    line: int
    symbol: str
    weight: str
    title: str
    sector: str
    kind: str
    identity: str
    day: str


@dataclass(slots=True)
class _Share:
    """One name, from one line or from several about the same security."""

    row: _Row
    weight: Decimal
    lines: list[int] = field(default_factory=list)


def constituents(settings: Settings, folder: Path) -> Constituents:
    """What the settings ask for; a file's path is relative to `folder`. Raises ConfigurationRefused."""
    if settings.benchmark.constituents_file is not None:
        return read_constituents(folder / settings.benchmark.constituents_file)
    symbols = settings.benchmark.symbols
    return Constituents(symbols, (Decimal(1) / len(symbols),) * len(symbols), {})


def read_constituents(path: Path, known: Collection[str] | None = None) -> Constituents:
    """The names and weights of a constituents file; `known` symbols settle how classes of shares are written.

    Raises ConfigurationRefused for a file of no known layout, and for a line that cannot be what it should be: with
    the line, what was expected and what was seen. Nothing of such a file is used.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    try:
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ConfigurationRefused(f"{path} line {reader.line_num}: expected a line of a CSV file: {error}") from error
    place, layout, columns = _header(path, rows)
    table = list(_table(path, rows[place + 1 :], layout, columns))
    return _made(path, layout, table, _day_above(rows[:place]), known)


def other_spellings(symbol: str) -> tuple[str, ...]:
    """How else a symbol that the broker does not know may be written: BRKB as BRK.B."""
    dotted = re.sub(r"[-/ ]", ".", symbol)
    if dotted != symbol:
        return (dotted,)
    return (f"{symbol[:-1]}.{symbol[-1]}",) if symbol.isalpha() and len(symbol) > 1 else ()


# ------------------------------------------------------------------ the file


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationRefused(f"{path}: expected a readable CSV file of constituents: {error}") from error
    for start, what in ((b"PK\x03\x04", "an Excel workbook"), (b"\xd0\xcf\x11\xe0", "an old Excel workbook")):
        if content.startswith(start):
            raise ConfigurationRefused(f"{path}: expected a CSV file, was {what}. Open it, save the sheet as CSV.")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|script)", content, re.I):
        raise ConfigurationRefused(
            f"{path}: expected a CSV file, was a web page. Download the list of holdings itself."
        )
    is_wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if is_wide else ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ConfigurationRefused(f"{path}: expected text in UTF-8 or Windows-1252, was something else")


_Lines = Sequence[tuple[int, list[str]]]


def _column(cell: str) -> str:
    return " ".join(cell.replace("*", " ").lower().split())


def _recognised(cells: Iterable[str]) -> _Layout | None:
    named = {_column(cell) for cell in cells}
    return next((one for one in _LAYOUTS if all(named.intersection(mark) for mark in one.marks)), None)


def _header(path: Path, rows: _Lines) -> tuple[int, _Layout, dict[str, int]]:
    """The header's place, the layout, and the column of each of its names."""
    above = [(line, cells) for line, cells in rows if line <= HEADER_WITHIN]
    for place, (_, cells) in enumerate(above):
        layout = _recognised(cells)
        if layout is not None:
            return place, layout, {_column(cell): number for number, cell in reversed(list(enumerate(cells)))}
    widest = max(above, key=lambda row: sum(1 for cell in row[1] if cell), default=(0, []))
    seen = ", ".join(cell for cell in widest[1] if cell) or "nothing"
    wanted = "; ".join(f"{one.name}: {', '.join('/'.join(mark) for mark in one.marks)}" for one in _LAYOUTS)
    raise ConfigurationRefused(
        f"{path}: expected a header with the columns of one of these layouts within the first {HEADER_WITHIN} lines: "
        f"{wanted}. Line {widest[0]} has {seen}. A file of your own needs the columns symbol and weight, and may have "
        "sector."
    )


def _table(path: Path, rows: _Lines, layout: _Layout, columns: Mapping[str, int]) -> Iterator[_Row]:
    """The lines of the table. Raises ConfigurationRefused when it goes on after it seemed to have ended."""

    def cell(cells: Sequence[str], names: Iterable[str]) -> str:
        place = next((columns[name] for name in names if name in columns), None)
        return cells[place] if place is not None and place < len(cells) else ""

    ended = None
    for line, cells in rows:
        row = _Row(
            line=line,
            symbol=" ".join(cell(cells, layout.symbol).upper().split()),
            weight=cell(cells, layout.weight),
            title=cell(cells, layout.title),
            sector=cell(cells, layout.sector),
            kind=cell(cells, layout.kind),
            identity=next((one for one in (cell(cells, (name,)) for name in layout.identity) if _is_told(one)), ""),
            day=cell(cells, layout.day),
        )
        if ended is None:
            if _is_end(row, cells):
                ended = line
            else:
                yield row
        elif _recognised(cells) or "as of" in " ".join(cells).lower():
            return  # another table: short-term reserves, what an underlying fund holds
        elif SYMBOL.fullmatch(row.symbol) and row.weight and _number(row.weight) is not None:
            raise ConfigurationRefused(
                f"{path} line {line}: expected nothing after the end of the table in line {ended}, "
                f"was {row.symbol} with a weight of {row.weight}. Is a line missing or broken?"
            )


def _is_told(cell: str) -> bool:
    return cell.upper() not in NO_TICKER


def _is_end(row: _Row, cells: Sequence[str]) -> bool:
    if not row.symbol and not row.weight:
        return True
    return any(cell.lower().rstrip(":") in ("total", "totals", "fund holdings as of") for cell in cells)


def _number(text: str) -> Decimal | None:
    """A number with or without thousands separators, a per cent sign, or parentheses for less than zero; else None."""
    plain = text.replace("\u00a0", "").replace("%", "").replace(" ", "")
    if plain.startswith("(") and plain.endswith(")"):
        plain = f"-{plain[1:-1]}"
    if not any(sign.isdigit() for sign in plain) or not _NUMBER.fullmatch(plain):
        return None
    return Decimal(plain.replace(",", ""))


def _day_above(rows: _Lines) -> date | None:
    """The day a file is about, from the lines above its table."""
    for _, cells in rows:
        text = " ".join(cell for cell in cells if cell)
        if "as of" in text.lower() or text.lower().startswith("date"):
            found = _day(text)
            if found is not None:
                return found
    return None


def _day(text: str) -> date | None:
    for pattern in _DATES:
        match = pattern.search(text)
        if match is not None:
            told = match.groupdict()
            month = told.get("month") or str(_MONTHS.index(told["name"][:3].lower()) + 1) if _is_month(told) else "0"
            try:
                return date(int(told["year"]), int(month), int(told["day"]))
            except ValueError:
                return None
    return None


def _is_month(told: Mapping[str, str | None]) -> bool:
    return bool(told.get("month")) or (told.get("name") or "")[:3].lower() in _MONTHS


# ------------------------------------------------------------------ from lines to a benchmark


def _made(
    path: Path, layout: _Layout, table: Sequence[_Row], above: date | None, known: Collection[str] | None
) -> Constituents:
    unit = _unit(path, table)
    shares: dict[str, _Share] = {}
    left_out: list[LeftOut] = []
    for row in table:
        why = _why_not(path, row, layout, unit)
        weight = (_number(row.weight) or ZERO) / unit
        if why is not None:
            left_out.append(LeftOut(row.line, row.symbol, row.title, why, weight))
        else:
            _add(path, shares, _symbol(row.symbol, known), row, weight)
    held = sum((share.weight for share in shares.values()), ZERO)
    if len(shares) < LEAST_NAMES:
        raise ConfigurationRefused(f"{path}: expected at least {LEAST_NAMES} constituents, were {len(shares)}")
    if held < LEAST_SHARES:
        raise ConfigurationRefused(
            f"{path}: expected a list of shares, at least {LEAST_SHARES:.0%} of it; {held:.1%} are. Left out: "
            + ", ".join(sorted({one.why for one in left_out}))
        )
    days = (_day(row.day) for row in table if row.day)
    return Constituents(
        symbols=tuple(shares),
        weights=tuple(share.weight / held for share in shares.values()),
        sectors={symbol: share.row.sector for symbol, share in shares.items() if _is_sector(share.row.sector)},
        as_of=above or next(days, None),
        source_layout=layout.name,
        left_out=tuple(left_out),
    )


def _is_sector(text: str) -> bool:
    return text.lower() not in NO_SECTOR


def _unit(path: Path, table: Sequence[_Row]) -> Decimal:
    """What the whole is in the file's weights, 100 or 1, by their sum."""
    _refuse_mixed_units(path, table)
    total = sum((_number(row.weight) or ZERO for row in table), ZERO)
    for unit in (HUNDRED, Decimal(1)):
        if LEAST_SUM * unit <= total <= MOST_SUM * unit and (
            unit == HUNDRED or not any("%" in row.weight for row in table)
        ):
            return unit
    for row in table:  # a weight that cannot be read is the likelier cause, and a better answer
        _weight(path, row)
    raise ConfigurationRefused(
        f"{path}: expected weights that sum to {LEAST_SUM:.0%} to {MOST_SUM:.0%}, in per cent or as fractions; "
        f"those of its {len(table)} lines sum to {total.normalize():f}. Is the list whole?"
    )


def _refuse_mixed_units(path: Path, table: Sequence[_Row]) -> None:
    """Raises ConfigurationRefused where some weights have a per cent sign and others have none: 50 % and 0.3."""
    told = [row for row in table if _number(row.weight)]
    signed = [row for row in told if "%" in row.weight]
    bare = [row for row in told if "%" not in row.weight]
    if signed and bare:
        raise ConfigurationRefused(
            f"{path} line {bare[0].line}: expected weights in one unit, was {bare[0].weight!r} here and "
            f"{signed[0].weight!r} in line {signed[0].line}"
        )


def _weight(path: Path, row: _Row) -> Decimal:
    found = _number(row.weight.removeprefix("<"))
    if found is None:
        raise ConfigurationRefused(
            f"{path} line {row.line}: expected a weight of {row.symbol or row.title}, was {row.weight!r}"
        )
    return found


def _why_not(path: Path, row: _Row, layout: _Layout, unit: Decimal) -> str | None:
    """Why a line is no share of the benchmark, or None for one that is. Raises ConfigurationRefused for neither."""
    if layout.kind and not (SHARES.search(row.kind) and not NOT_SHARES.search(row.kind)):
        return row.kind or "no asset class"
    is_symbol = SYMBOL.fullmatch(_dotted(row.symbol)) is not None
    if layout.name == "own":
        if not is_symbol:
            raise ConfigurationRefused(
                f"{path} line {row.line}: expected a symbol such as AAPL or BRK.B, was {row.symbol or 'nothing'!r}"
            )
    elif not layout.kind:
        if row.symbol in NO_TICKER or (row.symbol in CURRENCIES and not _is_sector(row.sector)):
            return "cash or other without a ticker"
        if not is_symbol or any(sign.isdigit() for sign in row.symbol):
            return "no ticker of a share"
    weight = _weight(path, row)
    if row.weight.startswith("<") or weight == 0:
        return "weighs next to nothing"
    if weight < 0:
        raise ConfigurationRefused(
            f"{path} line {row.line}: expected a positive weight of {row.symbol}, was {row.weight!r}"
        )
    if layout.name != "own" and (not is_symbol or any(sign.isdigit() for sign in row.symbol)):
        if weight / unit <= MOST_UNLISTED:
            return "a share without a ticker"
        raise ConfigurationRefused(
            f"{path} line {row.line}: expected the ticker of {row.title or 'a share'}, which weighs {row.weight}, "
            f"was {row.symbol or 'nothing'!r}"
        )
    return None


def _dotted(symbol: str) -> str:
    """BRK/B, BRK B and BRK-B as BRK.B."""
    return re.sub(r"[/ \-]([A-Z])$", r".\1", symbol)


def _symbol(text: str, known: Collection[str] | None) -> str:
    dotted = _dotted(text)
    if known is None:
        return _TOGETHER.get(dotted, dotted)
    if dotted in known:
        return dotted
    together = [one for one in (_TOGETHER.get(dotted, ""), *other_spellings(dotted)) if one in known]
    return together[0] if together else _TOGETHER.get(dotted, dotted)


def _add(path: Path, shares: dict[str, _Share], symbol: str, row: _Row, weight: Decimal) -> None:
    """Take in one share; two lines of one symbol are summed where they are the same security."""
    before = shares.setdefault(symbol, _Share(row, ZERO))
    if before.lines and not _is_same(before.row, row):
        raise ConfigurationRefused(
            f"{path} line {row.line}: expected {symbol} once, was in line {before.lines[0]} too, as "
            f"{before.row.identity or before.row.title or 'the same symbol'!r}, and here as "
            f"{row.identity or row.title or 'the same symbol'!r}"
        )
    before.weight += weight
    before.lines.append(row.line)


def _is_same(one: _Row, other: _Row) -> bool:
    if one.identity or other.identity:
        return one.identity == other.identity
    return bool(one.title) and one.title == other.title
