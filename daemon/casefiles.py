"""A file of worked cases, every section of it: trades and lots, netting, rates, qualified dividends.

The problem: such a file is how anybody checks our tax figures against the law, and it outgrows any one version. One
case that cannot be answered must not hide the answers to the others, and must never be answered with a guess.

Worked example. A file with three `rate_cases`, of 2025, 2026 and 2031, is answered for the first two; the third is
refused: `rate_cases X: year: expected one with tax tables (2025, 2026), was 2031. ...`. A section that is no list is a
fault of the whole file. Whatever else a case holds (a day in the year 9999, a number of five thousand digits, half a
character), the worst that comes of it is that this case is refused.

What a rate case's fields determine is answered, the rest left out: `ordinary_taxable` gives `ordinary_tax`, with
`ltcg_qd` also `preferential_tax`; `magi` and `nii` give `niit`. Fields that no figure depends on (source, note, what is
expected) are not looked at. Where the format is silent: a carry-in that is left out is none, and one below zero is
refused; a dividend's `sold` left out or null is a lot still held; `preferred` and `diminished_risk_days` may be given.

Amounts are read by their text (16.35 is 16.35) and written as decimal strings, rounded half-up to cents, here only.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from state.lots import LedgerError, LedgerPolicy
from state.lots.casefile import case_name, policy_of, replay_one
from state.lots.money import cents
from state.records import ZERO
from strategy.taxes import (
    FilingStatus,
    TaxError,
    TaxInputError,
    TaxTables,
    TaxYear,
    dividend_holding,
    net_capital_gains,
    net_investment_income_tax,
    ordinary_tax,
    preferential_tax,
)

SECTIONS = ("cases", "netting_cases", "rate_cases", "qualified_dividend_cases")
LARGEST_USD = Decimal(10) ** 15
LONGEST_NUMBER = 1000  # bits; Python writes no whole number of more than 4300 digits
YEARS = range(1900, 9999)  # of a day; the windows around it stay inside the calendar
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A case that is not answered, and why."""

    section: str
    name: str  # its id
    reason: str


@dataclass
class Replayed:
    """What came of a file."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)  # by section, those the file has
    refusals: list[Refusal] = field(default_factory=list)
    years: dict[int, TaxYear] = field(default_factory=dict)  # whose figures the answers rest on


def replay_file(
    document: Mapping[str, Any], conventions: Mapping[str, str], tables: Callable[[], TaxTables]
) -> Replayed:
    """Answers what can be answered of a parsed file; the answers are the promised JSON of `harvestd ledger replay`.

    `conventions` switches named conventions of the ledger; `tables` is called only for a file with rate cases.
    Raises TaxInputError when a section is no list, UnknownConventionError, and what `tables` raises.
    """
    policy = policy_of(conventions)  # refused for the whole file, whatever its sections
    given = {section: _list(document, section) for section in SECTIONS if section in document}
    result = Replayed()
    if "cases" in given:
        _answer(result, "cases", given["cases"], lambda case: _lots(case, policy))
    if "netting_cases" in given:
        _answer(result, "netting_cases", given["netting_cases"], _netting)
    if "rate_cases" in given:
        known = tables()
        _answer(result, "rate_cases", given["rate_cases"], lambda case: _rates(case, known, result.years))
    if "qualified_dividend_cases" in given:
        _answer(result, "qualified_dividend_cases", given["qualified_dividend_cases"], _dividend)
    return result


def _list(document: Mapping[str, Any], section: str) -> Sequence[Any]:
    cases = document[section]
    if cases is not None and not isinstance(cases, list):
        raise TaxInputError(f"section {section}: expected a list of cases, was {type(cases).__name__}.")
    return cases or ()


def _answer(
    result: Replayed, section: str, cases: Sequence[Any], answer: Callable[[Mapping[str, Any]], Answer]
) -> None:
    """Adds one section: the answer of each case with its id, or the reason why there is none."""
    answers = result.answers.setdefault(section, [])
    for place, case in enumerate(cases):
        try:
            if not isinstance(case, Mapping):
                raise TaxInputError(f"expected a mapping with the key id, was {type(case).__name__}.")
            answers.append({"id": _writable(_required(case, "id")), **answer(case)})
        except (TaxError, LedgerError) as error:
            result.refusals.append(Refusal(section, _name(case, place), str(error)))
        except UNREADABLE as error:  # what a malformed case trips over
            reason = f"expected a case in the format of tests/cases, was another: {error}."
            result.refusals.append(Refusal(section, _name(case, place), reason))


def _name(case: object, place: int) -> str:
    """The id of a case, or its place in its section where it has none that could be written."""
    try:
        return case_name(case, place)
    except UNREADABLE:
        return f"number {place + 1}"


# ------------------------------------------------------------------ the sections


def _lots(case: Mapping[str, Any], policy: LedgerPolicy) -> Answer:
    answer: Answer = _all_text(replay_one(case, policy))
    return answer


def _all_text(value: Any) -> Any:
    """The ledger's answer with every figure and id as text: an id that YAML read as a number, too."""
    if isinstance(value, Mapping):
        return {key: _all_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_all_text(item) for item in value]
    return _writable(value)


def _netting(case: Mapping[str, Any]) -> Answer:
    netted = net_capital_gains(
        short=_usd(case, "short"),
        long=_usd(case, "long"),
        st_carry_in=_optional_usd(case, "st_carry_in") or ZERO,
        lt_carry_in=_optional_usd(case, "lt_carry_in") or ZERO,
        status=_status(case),
        taxable_income=_usd(case, "taxable_income"),
    )
    return {
        "deduct": _text(netted.deduct),
        "st_carry_out": _text(netted.st_carry_out),
        "lt_carry_out": _text(netted.lt_carry_out),
    }


def _rates(case: Mapping[str, Any], tables: TaxTables, used: dict[int, TaxYear]) -> Answer:
    year, status = tables.of(_whole(case, "year")), _status(case)
    ordinary, gains = _optional_usd(case, "ordinary_taxable"), _optional_usd(case, "ltcg_qd")
    magi, nii = _optional_usd(case, "magi"), _optional_usd(case, "nii")
    answer: Answer = {}
    if ordinary is not None:
        answer["ordinary_tax"] = _text(ordinary_tax(year, status, ordinary))
        if gains is not None:
            answer["preferential_tax"] = _text(preferential_tax(year, status, ordinary, gains))
    if magi is not None and nii is not None:
        answer["niit"] = _text(net_investment_income_tax(year, status, magi, nii))
    if not answer:
        raise TaxInputError("expected ordinary_taxable (and ltcg_qd), or magi and nii: nothing else gives a tax.")
    used[year.year] = year
    return answer


def _dividend(case: Mapping[str, Any]) -> Answer:
    tested = dividend_holding(
        _day(case, "acquired"),
        _day(case, "ex_date"),
        _day(case, "sold") if case.get("sold") is not None else None,
        preferred=_switch(case, "preferred"),
        diminished_risk_days=_whole(case, "diminished_risk_days") if "diminished_risk_days" in case else 0,
    )
    return {"days_in_window": tested.days_in_window, "qualified": tested.qualified}


# ------------------------------------------------------------------ fields


def _required(case: Mapping[str, Any], key: str) -> Any:
    if case.get(key) is None:
        raise TaxInputError(f"{key}: expected a value, was {'null' if key in case else 'missing'}.")
    return case[key]


def _usd(case: Mapping[str, Any], key: str) -> Decimal:
    return _number(_required(case, key), key, "an amount in US dollars")


def _optional_usd(case: Mapping[str, Any], key: str) -> Decimal | None:
    return _usd(case, key) if case.get(key) is not None else None


def _whole(case: Mapping[str, Any], key: str) -> int:
    number = _number(_required(case, key), key, "a whole number")
    if number != number.to_integral_value():
        raise TaxInputError(f"{key}: expected a whole number, was {number}.")
    return int(number)


def _number(value: object, key: str, expected: str) -> Decimal:
    """A number by its text: YAML's 16.35 is a float that prints as 16.35."""
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # ValueError: too long to be written
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) > LARGEST_USD:
        raise TaxInputError(f"{key}: expected {expected}, was {_seen(value)}.")
    return number


def _status(case: Mapping[str, Any]) -> FilingStatus:
    return FilingStatus.parse(_required(case, "filing_status"))


def _day(case: Mapping[str, Any], key: str) -> date:
    value = _required(case, key)
    try:
        day = date.fromisoformat(str(value))
    except ValueError:
        day = date.min
    if day.year not in YEARS:
        years = f"{YEARS[0]} to {YEARS[-1]}"
        raise TaxInputError(f"{key}: expected a day written YYYY-MM-DD, of the years {years}, was {_seen(str(value))}.")
    return day


def _switch(case: Mapping[str, Any], key: str) -> bool:
    value = case.get(key, False)
    if not isinstance(value, bool):
        raise TaxInputError(f"{key}: expected true or false, was {_seen(value)}.")
    return value


def _seen(value: object) -> str:
    """A value as a refusal shows it: in short, whatever the file holds."""
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER:
        return f"a whole number of {value.bit_length()} bits"
    return reprlib.repr(value)


def _writable(value: object) -> str:
    """An id or a figure as text. Raises TaxInputError for an id that cannot be: YAML's "\\ud800" is half a character,
    and Python writes no number of five thousand digits."""
    try:
        text = str(value)
        text.encode()
    except ValueError:
        raise TaxInputError(f"id: expected text that can be written, was {_seen(value)}.") from None
    return text


def _text(amount: Decimal) -> str:
    return str(cents(amount))
