"""Tax tables: a year is complete or refused, no year stands in for another, and who the figures are from is kept."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from strategy.taxes import (
    Evidence,
    FilingStatus,
    MissingTaxYearError,
    TaxInputError,
    TaxTableError,
    ordinary_tax,
    read_tables,
)

SINGLE, MFJ, MFS, HOH, QSS = FilingStatus


def flat(rate: str, top: str) -> dict[str, Any]:
    """Two rates for everybody: `rate` percent up to `top`, 50 above."""
    return {
        "source": "somebody's word",
        "as_of": "2027-12-01",
        "rates_pct": [rate, "50"],
        "up_to": {status: [top] for status in ("single", "MFJ", "MFS", "HOH")},
    }


def document(*years: str) -> dict[str, Any]:
    """A file with these years, all with the same invented figures."""
    niit = {"source": "IRC §1411", "as_of": "2027-12-01", "evidence": "primary", "rate_pct": "3.8"}
    niit["above"] = {"single": "200000", "MFJ": "250000", "MFS": "125000", "HOH": "200000"}  # type: ignore[assignment]
    year = {"ordinary": flat("20", "1000"), "preferential": flat("10", "1000"), "niit": niit}
    return {"years": {name: deepcopy(year) for name in years}}


def test_a_complete_year_is_read_exactly() -> None:
    year = read_tables(document("2027"), "mine.yaml").of(2027)
    assert ordinary_tax(year, SINGLE, Decimal(1001)) == Decimal("200.5")
    assert year.niit_rate == Decimal("0.038")
    assert year.niit_thresholds[MFS] == 125_000
    assert (year.origin, year.replaces) == ("mine.yaml", "")
    assert year.sources["niit"].evidence is Evidence.PRIMARY
    assert year.sources["ordinary"].evidence is Evidence.STATED
    assert (year.sources["ordinary"].text, year.sources["ordinary"].as_of) == ("somebody's word", date(2027, 12, 1))


@pytest.mark.parametrize("asked", [2024, 2026, 2028, 0])
def test_a_year_without_figures_is_refused_by_name_and_never_replaced_by_another(asked: int) -> None:
    tables = read_tables(document("2025", "2027"), "mine.yaml")
    with pytest.raises(MissingTaxYearError, match=rf"\(2025, 2027\), was {asked}\..*--tax-tables FILE") as refusal:
        tables.of(asked)
    assert (refusal.value.year, refusal.value.known) == (asked, (2025, 2027))


def test_a_file_adds_years_and_takes_the_place_of_others_saying_so() -> None:
    shipped, mine = read_tables(document("2025", "2026"), "shipped"), read_tables(document("2026", "2027"), "mine")
    both = shipped.extended(mine)
    assert sorted(both.years) == [2025, 2026, 2027]
    assert [(both.of(year).origin, both.of(year).replaces) for year in (2025, 2026, 2027)] == [
        ("shipped", ""),
        ("mine", "shipped"),
        ("mine", ""),
    ]
    assert shipped.of(2026).origin == "shipped"


def change(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Puts a value somewhere into the year 2027."""

    def apply(whole: dict[str, Any]) -> None:
        place: Any = whole["years"]["2027"]
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = to

    return apply


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    """Takes a key out of the year 2027."""

    def apply(whole: dict[str, Any]) -> None:
        place: Any = whole["years"]["2027"]
        for part in path[:-1]:
            place = place[part]
        del place[path[-1]]

    return apply


@pytest.mark.parametrize(
    ("damage", "where", "said"),
    [
        (without("niit"), "", "without niit"),
        (without("ordinary", "source"), "ordinary", "without source"),
        (without("ordinary", "up_to", "HOH"), "ordinary.up_to", "without HOH"),
        (without("niit", "above", "MFS"), "niit.above", "without MFS"),
        (change("state", to={}), "state", "an unknown key"),
        (change("niit", "rate", to="3.8"), "niit.rate", "an unknown key"),
        (change("ordinary", "up_to", "kingdom", to=["1"]), "ordinary.up_to.kingdom", "another key"),
        (change("ordinary", "up_to", "QSS", to=["1000"]), "ordinary.up_to.QSS", "uses the figures of MFJ"),
        (change("ordinary", "up_to", "joint", to=["1000"]), "ordinary.up_to.joint", "MFJ again"),
        (change("ordinary", "up_to", "single", to=[]), "ordinary.up_to.single", "a list of 0"),
        (change("ordinary", "up_to", "single", to="1000"), "ordinary.up_to.single", "Write"),
        (change("ordinary", "up_to", "single", to=["1", "2"]), "ordinary.up_to.single", "1 upper ends for 2 rates"),
        (change("ordinary", "up_to", "single", to=["0"]), "ordinary.up_to.single", "0 after 0"),
        (change("ordinary", "up_to", "single", 0, to="48,475"), "ordinary.up_to.single.0", "'48,475'. Write digits"),
        (change("ordinary", "up_to", "single", 0, to="-1"), "ordinary.up_to.single.0", "was -1"),
        (change("ordinary", "up_to", "single", 0, to="NaN"), "ordinary.up_to.single.0", "'NaN'"),
        (change("ordinary", "up_to", "single", 0, to="1e15"), "ordinary.up_to.single.0", "was 1E+15"),
        (change("ordinary", "up_to", "single", 0, to=48475.5), "ordinary.up_to.single.0", "was 48475.5"),
        (change("ordinary", "up_to", "single", 0, to=True), "ordinary.up_to.single.0", "was True"),
        (change("ordinary", "rates_pct", to=["20", "10"]), "ordinary.rates_pct", "10 after 20"),
        (change("ordinary", "rates_pct", 1, to="120"), "ordinary.rates_pct.1", "was 120"),
        (change("niit", "rate_pct", to="3.8 %"), "niit.rate_pct", "a rate from 0 to 100 (percent)"),
        (change("niit", "above", to=200_000), "niit.above", "a mapping with the keys single, MFJ, MFS, HOH"),
        (change("niit", "source", to="  "), "niit.source", "where the figures are from"),
        (change("niit", "as_of", to="last week"), "niit.as_of", "YYYY-MM-DD, was 'last week'"),
        (change("niit", "as_of", to=None), "niit.as_of", "was nothing"),
        (change("niit", "evidence", to="sure"), "niit.evidence", "one of primary, secondary, stated"),
        (change("preferential", to=None), "preferential", "was nothing"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(
    damage: Callable[[dict[str, Any]], None], where: str, said: str
) -> None:
    whole = document("2027")
    damage(whole)
    with pytest.raises(TaxTableError) as refusal:
        read_tables(whole, "mine.yaml")
    assert ".".join(map(str, refusal.value.path)) == f"years.2027.{where}".rstrip(".")
    assert said in str(refusal.value)
    assert "expected" in str(refusal.value)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        ({}, "the file: expected the keys years"),
        ({"years": None}, "years: expected a mapping of years to their figures, was nothing"),
        ({"years": {}}, "years: expected a mapping of years"),
        ({"years": {"27": {}}}, "years.27: expected a year of four digits"),
        ({"year": {}}, "year: expected one of years, was an unknown key"),
    ],
)
def test_a_file_that_is_no_file_of_tables(whole: dict[str, Any], said: str) -> None:
    with pytest.raises(TaxTableError) as refusal:
        read_tables(whole, "mine.yaml")
    assert said in str(refusal.value)


# ------------------------------------------------------------------ filing statuses


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("single", SINGLE),
        ("Single", SINGLE),
        ("MFJ", MFJ),
        ("mfj", MFJ),
        ("married filing jointly", MFJ),
        ("married_filing_jointly", MFJ),
        ("Married, filing jointly", MFJ),
        ("joint", MFJ),
        ("MFS", MFS),
        ("Married-Filing-Separately", MFS),
        ("HOH", HOH),
        ("HoH", HOH),
        ("head_of_household", HOH),
        ("QSS", QSS),
        ("qualifying surviving spouse", QSS),
        ("Qualifying widow(er)", QSS),
    ],
)
def test_a_status_however_it_is_spelled(text: str, status: FilingStatus) -> None:
    assert FilingStatus.parse(text) is status


@pytest.mark.parametrize("text", ["", "married", "both", None, 1, ["single"]])
def test_a_status_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(TaxInputError, match="filing_status: expected one of single, MFJ, MFS, HOH, QSS, was"):
        FilingStatus.parse(text)
