"""The figures of each tax year: brackets, breakpoints, thresholds, each with its source and its day.

The problem: figures change every year and some are published late. A program that fills a gap with last year's table
gives a wrong number that looks right. So the tables are data with sources; a year is complete or it is refused, one
that is not there is refused by name, and a user's file can add a year or take the place of a shipped one, whole: the
figures of one year never come from two files.

Worked example. `federal.yaml` has 2025 and 2026. Asked about 2027, `TaxTables.of` raises MissingTaxYearError, which
names 2027, the years there are and what to do. A user's file with 2026 and 2027 adds 2027; 2026 is then the user's,
and says so: `origin` is the user's file, `replaces` the shipped one.

The form of a file, every year with the same keys:

    years:
      2027:
        ordinary:                                   # also preferential, with its own rates
          source: Rev. Proc. ...                    # what the figures were taken from, in words
          as_of: 2026-11-20                         # when
          evidence: primary                         # primary, secondary, or stated (the default)
          rates_pct: [10, 12, 22, 24, 32, 35, 37]
          up_to:                                    # upper ends of all brackets but the last, US dollars
            single: [...]                           # also MFJ, MFS, HOH
        niit:
          source: ...
          as_of: 2026-11-20
          rate_pct: 3.8
          above: {single: 200000, ...}              # thresholds of modified adjusted gross income, US dollars

Nothing is read here: `read_tables` takes the parsed file. Numbers arrive as text, integers or decimals, never floats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import pairwise
from typing import Any

from state.records import ZERO
from strategy.taxes.errors import MissingTaxYearError, TaxInputError, TaxTableError
from strategy.taxes.filing import RATE_STATUSES, FilingStatus

HOW_TO_EXTEND = (
    "No other year's figures are used in its place. Write the year's figures in a file of your own (its form: "
    "docs/METHODS.md) and name it with --tax-tables FILE or as tax_profile.tables_file in config.yaml."
)
LARGEST_USD = Decimal(10) ** 12  # beyond any bracket; a slip of the keyboard

Path = tuple[str | int, ...]
Rates = Mapping[FilingStatus, "Schedule"]


class Evidence(StrEnum):
    """How well a figure is known."""

    PRIMARY = "primary"  # the text that sets it, or the form's own instructions, was read
    SECONDARY = "secondary"  # several sources that cite that text agree
    STATED = "stated"  # whoever wrote the file says so


@dataclass(frozen=True, slots=True)
class Source:
    """Where figures come from."""

    text: str
    as_of: date
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates that rise with income: `rates[i]` (a fraction) up to `tops[i]` US dollars, the last rate above."""

    tops: tuple[Decimal, ...]
    rates: tuple[Decimal, ...]

    def between(self, low: Decimal, high: Decimal) -> Decimal:
        """Tax on the dollars from `low` to `high`, both at least zero. Exact; zero when `high` is not above `low`."""
        tax, bottom = ZERO, ZERO
        for top, rate in zip((*self.tops, high), self.rates, strict=True):
            tax += rate * max(ZERO, min(high, top) - max(low, bottom))
            bottom = top
        return tax


@dataclass(frozen=True, slots=True)
class TaxYear:
    """The federal figures of one year. Rates are fractions, amounts US dollars."""

    year: int
    ordinary: Rates
    preferential: Rates  # on net capital gain and qualified dividends
    niit_rate: Decimal
    niit_thresholds: Mapping[FilingStatus, Decimal]
    sources: Mapping[str, Source]  # by part: ordinary, preferential, niit
    origin: str  # the file it stands in
    replaces: str = ""  # the file whose figures of this year are not used because of it


@dataclass(frozen=True, slots=True)
class TaxTables:
    """Every year there are figures for."""

    years: Mapping[int, TaxYear]

    def of(self, year: int) -> TaxYear:
        """The figures of `year`. Raises MissingTaxYearError naming it and the years there are."""
        if year not in self.years:
            known = tuple(sorted(self.years))
            there_are = ", ".join(map(str, known)) or "none"
            raise MissingTaxYearError(
                f"year: expected one with tax tables ({there_are}), was {year}. {HOW_TO_EXTEND}", year=year, known=known
            )
        return self.years[year]

    def extended(self, other: TaxTables) -> TaxTables:
        """These tables with the years of `other` added; a year that both have is the other's, and says so."""
        theirs = {
            year: replace(figures, replaces=self.years[year].origin) if year in self.years else figures
            for year, figures in other.years.items()
        }
        return TaxTables({**self.years, **theirs})


def read_tables(document: Mapping[str, Any], origin: str) -> TaxTables:
    """The tables of a parsed file; `origin` names the file in answers. Raises TaxTableError for the first fault."""
    years = _mapping(document, (), ("years",))["years"]
    if not isinstance(years, Mapping) or not years:
        raise TaxTableError(("years",), "a mapping of years to their figures", _seen(years))
    found = {}
    for key, figures in years.items():
        path: Path = ("years", str(key))
        if not re.fullmatch(r"(19|20|21)\d\d", str(key)):
            raise TaxTableError(path, "a year of four digits", repr(str(key)))
        found[int(key)] = _tax_year(int(key), figures, path, origin)
    return TaxTables(found)


def _tax_year(year: int, figures: Any, path: Path, origin: str) -> TaxYear:
    parts = _mapping(figures, path, ("ordinary", "preferential", "niit"))
    niit = _mapping(parts["niit"], (*path, "niit"), ("source", "as_of", "rate_pct", "above"), ("evidence",))
    above = _by_status(niit["above"], (*path, "niit", "above"))
    return TaxYear(
        year=year,
        ordinary=_rates(parts["ordinary"], (*path, "ordinary")),
        preferential=_rates(parts["preferential"], (*path, "preferential")),
        niit_rate=_percent(niit["rate_pct"], (*path, "niit", "rate_pct")) / 100,
        niit_thresholds={status: _usd(value, (*path, "niit", "above", status)) for status, value in above.items()},
        sources={name: _source(part, (*path, name)) for name, part in parts.items()},
        origin=origin,
    )


def _rates(part: Any, path: Path) -> Rates:
    keys = _mapping(part, path, ("source", "as_of", "rates_pct", "up_to"), ("evidence",))
    listed = _list(keys["rates_pct"], (*path, "rates_pct"))
    percents = [_percent(value, (*path, "rates_pct", place)) for place, value in enumerate(listed)]
    _ascending(percents, (*path, "rates_pct"), "rates")
    rates = tuple(percent / 100 for percent in percents)
    schedules = {}
    for status, values in _by_status(keys["up_to"], (*path, "up_to")).items():
        here = (*path, "up_to", status)
        tops = [_usd(value, (*here, place)) for place, value in enumerate(_list(values, here))]
        if len(tops) != len(rates) - 1:
            expected = f"{len(rates) - 1} upper ends for {len(rates)} rates"
            raise TaxTableError(here, expected, f"{len(tops)} of them", "The last rate has no upper end.")
        _ascending([ZERO, *tops], here, "upper ends above zero")
        schedules[status] = Schedule(tuple(tops), rates)
    return schedules


def _source(part: Mapping[str, Any], path: Path) -> Source:
    text, evidence = part["source"], part.get("evidence", Evidence.STATED.value)
    if not isinstance(text, str) or not text.strip():
        raise TaxTableError((*path, "source"), "words that say where the figures are from", _seen(text))
    if evidence not in list(Evidence):
        raise TaxTableError((*path, "evidence"), f"one of {', '.join(Evidence)}", _seen(evidence))
    try:
        as_of = part["as_of"] if isinstance(part["as_of"], date) else date.fromisoformat(part["as_of"])
    except (TypeError, ValueError):
        raise TaxTableError((*path, "as_of"), "a day written YYYY-MM-DD", _seen(part["as_of"])) from None
    return Source(text.strip(), as_of, Evidence(evidence))


def _by_status(value: Any, path: Path) -> dict[FilingStatus, Any]:
    """Each of the four statuses once, however spelled."""
    if not isinstance(value, Mapping):
        raise TaxTableError(path, f"a mapping with the keys {', '.join(RATE_STATUSES)}", _seen(value))
    found: dict[FilingStatus, Any] = {}
    for key, item in value.items():
        try:
            status = FilingStatus.parse(str(key))
        except TaxInputError:
            raise TaxTableError((*path, str(key)), f"one of {', '.join(RATE_STATUSES)}", "another key") from None
        if status is not status.rate_status:
            hint = "A surviving spouse uses the figures of MFJ (IRC §1(a)(2)): remove the key."
            raise TaxTableError((*path, str(key)), f"one of {', '.join(RATE_STATUSES)}", "a status of its own", hint)
        if status in found:
            raise TaxTableError((*path, str(key)), "each status once", f"{status} again")
        found[status] = item
    missing = [status for status in RATE_STATUSES if status not in found]
    if missing:
        raise TaxTableError(path, f"the keys {', '.join(RATE_STATUSES)}", f"without {', '.join(missing)}")
    return found


def _mapping(value: Any, path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """A mapping with these keys and no others."""
    if not isinstance(value, Mapping):
        raise TaxTableError(path, f"a mapping with the keys {', '.join(required)}", _seen(value))
    for key in value:
        if key not in (*required, *optional):
            raise TaxTableError((*path, str(key)), f"one of {', '.join((*required, *optional))}", "an unknown key")
    missing = [key for key in required if key not in value]
    if missing:
        hint = "A year is complete or is not used: figures of different files are never mixed in one year."
        raise TaxTableError(path, f"the keys {', '.join(required)}", f"without {', '.join(missing)}", hint)
    return value


def _list(value: Any, path: Path) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise TaxTableError(path, "a list of numbers", _seen(value), "Write [1, 2, 3].")
    return value


def _percent(value: Any, path: Path) -> Decimal:
    percent = _number(value, path, "a rate from 0 to 100 (percent)")
    if not 0 <= percent <= 100:
        raise TaxTableError(path, "a rate from 0 to 100 (percent)", str(percent))
    return percent


def _usd(value: Any, path: Path) -> Decimal:
    amount = _number(value, path, "an amount in US dollars")
    if not 0 <= amount <= LARGEST_USD:
        raise TaxTableError(path, f"an amount from 0 to {LARGEST_USD} (US dollars)", str(amount))
    return amount


def _number(value: Any, path: Path, expected: str) -> Decimal:
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    hint = "Write digits alone, without thousands separators or units."
    raise TaxTableError(path, expected, _seen(value), hint)


def _ascending(values: Sequence[Decimal], path: Path, what: str) -> None:
    for one, following in pairwise(values):
        if following <= one:
            raise TaxTableError(path, f"{what}, each larger than the one before", f"{following} after {one}")


def _seen(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
