"""`harvestd ledger replay`, all four sections: what is answered, what is refused by name, whose figures are used."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Outcome, harvestd
from test_views_formats import broken

from daemon.cli.docs import DOCS
from daemon.settings import EXAMPLE
from daemon.tax_tables import shipped_tables, tax_tables
from strategy.taxes import Evidence, FilingStatus

CASES = Path(__file__).parents[1] / "cases" / "tax_cases.yaml"
FEDERAL = Path(__file__).parents[2] / "strategy" / "taxes" / "federal.yaml"
GIVEN = yaml.safe_load(CASES.read_text(encoding="utf-8"))
SECTIONS = ("cases", "netting_cases", "rate_cases", "qualified_dividend_cases")

NET = "{id: n, filing_status: single, taxable_income: 50000, short: -5000, long: 0}"
RATE = "{id: r, year: 2025, filing_status: single, ordinary_taxable: 10000, ltcg_qd: 0}"
LATER = "{id: later, year: 2031, filing_status: single, ordinary_taxable: 10000, ltcg_qd: 0}"
QD = "{id: q, acquired: 2025-03-03, ex_date: 2025-07-14, sold: 2025-07-14}"


HUGE = "0x" + "f" * 4000  # YAML reads it; Python writes no number of more than 4300 digits
ROW = "id: t, date: 2024-03-04, account: A, side: buy, symbol: X, quantity: 1, price: 1"
LAST = ROW.replace("2024-03-04", "9999-12-31")
FAR = "{" + LAST + "}, {" + LAST.replace("id: t", "id: u").replace("buy", "sell") + "}"
HALF = "{" + ROW.replace("id: t", r'id: "\ud800"') + "}"
MUCH = "{" + ROW.replace("quantity: 1", f"quantity: {HUGE}") + "}"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, without a config.yaml."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def replay(folder: Path, text: str, *words: object) -> Outcome:
    file = folder / "cases.yaml"
    file.write_text(text, encoding="utf-8")
    return harvestd("ledger", "replay", file, *words)


def answered(folder: Path, section: str, case: str) -> dict[str, Any]:
    """The one answer to one case."""
    outcome = replay(folder, f"{section}: [{case}]", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    (answer,) = json.loads(outcome.out)[section]
    assert isinstance(answer, dict)
    return answer


def refused(folder: Path, section: str, case: str) -> str:
    """The reason why one case is refused."""
    outcome = replay(folder, f"{section}: [{case}]", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out) == {section: []}
    line = outcome.err.removesuffix("\n")
    assert line.startswith(f"harvestd: {folder / 'cases.yaml'}: {section} ")
    assert "\n" not in line
    return line


# ------------------------------------------------------------------ answers


def test_every_given_case_is_answered_as_stated_in_the_promised_form() -> None:
    """Every figure that a given netting, rate or dividend case states; `cases` are compared in tests/state."""
    outcome = harvestd("ledger", "replay", CASES, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    answers = json.loads(outcome.out)
    assert list(answers) == list(SECTIONS)
    assert broken(answers, "replay") == []
    money = {"deduct", "st_carry_out", "lt_carry_out", "ordinary_tax", "preferential_tax", "niit"}
    compared = 0
    for section in SECTIONS:
        assert [answer["id"] for answer in answers[section]] == [case["id"] for case in GIVEN[section]]
        for answer, case in zip(answers[section], GIVEN[section], strict=True):
            for name in money & case.keys():
                assert Decimal(answer[name]) == Decimal(str(case[name])), (case["id"], name)
                compared += 1
            for name in {"days_in_window", "qualified"} & case.keys():
                assert answer[name] == case[name], (case["id"], name)
                compared += 1
    assert compared == 8 * 3 + 6 + 4 * 2


def test_the_tables_for_people_show_every_section_and_whose_figures_they_are() -> None:
    outcome = harvestd("ledger", "replay", CASES)
    assert (outcome.code, outcome.err) == (0, "")
    shown = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "NET-BIG-BOTH 3000.00 12000.00 20000.00" in shown
    assert "RATE-ORD-2026-SINGLE 16712.00 0.00" in shown
    assert "NIIT-1 1140.00" in shown
    assert "QD-PUB550-EX2 63 yes" in shown
    assert "Figures of 2025: those of harvestd" in shown
    assert any(line.startswith("preferential: Schedule D instructions (2025)") for line in shown)


@pytest.mark.parametrize(
    ("section", "case", "answer"),
    [
        (
            "netting_cases",
            "{id: 7, filing_status: Married filing separately, taxable_income: '90000.5', short: -2000.555, long: 0.0}",
            {"id": "7", "deduct": "1500.00", "st_carry_out": "500.56", "lt_carry_out": "0.00"},  # half up
        ),
        (
            "netting_cases",
            "{id: a, filing_status: HOH, taxable_income: 1e5, short: 0, long: 0, st_carry_in: 4000, lt_carry_in: null}",
            {"id": "a", "deduct": "3000.00", "st_carry_out": "1000.00", "lt_carry_out": "0.00"},
        ),
        (
            "rate_cases",
            "{id: a, year: '2026', filing_status: qss, ordinary_taxable: -5, magi: 300000, nii: 1000.13}",
            {"id": "a", "ordinary_tax": "0.00", "niit": "38.00"},  # 38.00494
        ),
        (
            "rate_cases",
            "{id: a, year: 2025, filing_status: mfj, ordinary_taxable: 0, ltcg_qd: 0, magi: 1, nii: -1}",
            {"id": "a", "ordinary_tax": "0.00", "preferential_tax": "0.00", "niit": "0.00"},
        ),
        (
            "rate_cases",
            "{id: a, year: 2025, filing_status: single, magi: 250000, nii: 100, ltcg_qd: 100}",
            {"id": "a", "niit": "3.80"},  # gains on unknown income have no rate
        ),
        ("qualified_dividend_cases", QD, {"id": "q", "days_in_window": 61, "qualified": True}),
        (
            "qualified_dividend_cases",
            "{id: a, acquired: '2025-07-11', ex_date: '2025-07-14'}",
            {"id": "a", "days_in_window": 63, "qualified": True},
        ),
        (
            "qualified_dividend_cases",
            "{id: a, acquired: 2025-07-11, ex_date: 2025-07-14, sold: null, preferred: true}",
            {"id": "a", "days_in_window": 93, "qualified": True},
        ),
        (
            "qualified_dividend_cases",
            "{id: a, acquired: 2025-07-11, ex_date: 2025-07-14, diminished_risk_days: 3}",
            {"id": "a", "days_in_window": 60, "qualified": False},
        ),
    ],
)
def test_a_case_however_it_is_written(tmp_path: Path, section: str, case: str, answer: dict[str, Any]) -> None:
    assert answered(tmp_path, section, case) == answer


def test_only_the_sections_given_are_answered_and_an_empty_one_is(tmp_path: Path) -> None:
    outcome = replay(tmp_path, f"netting_cases:\nrate_cases: []\nqualified_dividend_cases: [{QD}]", "--json")
    assert outcome.code == 0
    answers = json.loads(outcome.out)
    assert answers["netting_cases"] == answers["rate_cases"] == []
    assert "cases" not in answers
    assert len(answers["qualified_dividend_cases"]) == 1


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("section", "case", "said"),
    [
        (
            "netting_cases",
            NET.replace("long: 0", "long: many"),
            "n: long: expected an amount in US dollars, was 'many'",
        ),
        ("netting_cases", NET.replace("long: 0", "long: true"), "long: expected an amount in US dollars, was True"),
        ("netting_cases", NET.replace("long: 0", "long: .nan"), "long: expected an amount in US dollars, was nan"),
        ("netting_cases", NET.replace("long: 0", "long: 1e400"), "long: expected an amount in US dollars, was"),
        ("netting_cases", NET.replace(", long: 0", ""), "n: long: expected a value, was missing"),
        ("netting_cases", NET.replace("single", "engaged"), "filing_status: expected one of single, MFJ"),
        (
            "netting_cases",
            NET.replace("}", ", lt_carry_in: -1}"),
            "lt_carry_in: expected a loss carried in as a positive",
        ),
        ("netting_cases", "{short: 0}", "netting_cases number 1: id: expected a value, was missing"),
        ("netting_cases", "just words", "number 1: expected a mapping with the key id, was str"),
        ("rate_cases", LATER, "later: year: expected one with tax tables (2025, 2026), was 2031. No other year's"),
        ("rate_cases", RATE.replace("2025", "2025.5"), "year: expected a whole number, was 2025.5"),
        ("rate_cases", RATE.replace("year: 2025, ", ""), "year: expected a value, was missing"),
        ("rate_cases", RATE.replace("ltcg_qd: 0", "ltcg_qd: -1"), "ltcg_qd: expected net capital gain"),
        (
            "rate_cases",
            "{id: r, year: 2025, filing_status: single, nii: 5}",
            "or magi and nii: nothing else gives a tax",
        ),
        ("qualified_dividend_cases", QD.replace("2025-03-03", "'soon'"), "acquired: expected a day written YYYY-MM-DD"),
        ("qualified_dividend_cases", QD.replace("2025-03-03", "0001-01-01"), "acquired: expected a day written"),
        ("qualified_dividend_cases", QD.replace("sold: 2025", "sold: 2024"), "on or after the purchase on 2025-03-03"),
        ("qualified_dividend_cases", QD.replace("}", ", preferred: maybe}"), "preferred: expected true or false"),
        ("qualified_dividend_cases", QD.replace("}", ", diminished_risk_days: 99}"), "from 0 to the 61 days held"),
        (
            "cases",
            "{id: swap, transactions: [{id: s, side: swap, account: A}]}",
            "cases swap: transaction s: side swap",
        ),
        ("cases", "{id: bare, transactions: [{id: s, side: buy}]}", "cases bare: Expected the key 'account'"),
        ("cases", "{transactions: []}", "cases number 1: id: expected a value, was missing"),
        ("cases", "{id: null, transactions: []}", "cases number 1: id: expected a value, was null"),
        ("cases", "[1, 2]", "cases number 1: expected a mapping with the key id, was list"),
        ("cases", "{id: odd, transactions: [5]}", "cases odd: Expected a case"),
        (
            "cases",
            r'{id: "\ud800", transactions: []}',
            r"cases \ud800: id: expected text that can be written, was '\ud800'",
        ),
        ("cases", f"{{id: {HUGE}, transactions: []}}", "cases number 1: id: expected text that can be written, was a"),
        ("cases", f"{{id: far, transactions: [{FAR}]}}", "cases far: Expected a case"),
        ("cases", f"{{id: half, transactions: [{HALF}]}}", "cases half: id: expected text that can be written, was"),
        ("cases", f"{{id: much, transactions: [{MUCH}]}}", "cases much: "),
        ("netting_cases", NET.replace("id: n", f"id: {HUGE}"), "netting_cases number 1: id: expected text that can"),
        ("netting_cases", NET.replace("-5000", HUGE), "n: short: expected an amount in US dollars, was a whole number"),
        ("netting_cases", NET.replace("single", HUGE), "n: expected a case in the format of tests/cases, was another"),
        (
            "netting_cases",
            NET.replace("id: n", r'id: "a\nb"').replace("long: 0", "long: x"),
            r"netting_cases a\nb: long",
        ),
        ("rate_cases", RATE.replace("2025", HUGE), "r: year: expected a whole number, was a whole number of"),
        ("rate_cases", RATE.replace("2025", "1e15"), "r: year: expected one with tax tables"),
        ("qualified_dividend_cases", QD.replace("2025", "9999"), "q: acquired: expected a day written YYYY-MM-DD, of"),
        ("qualified_dividend_cases", QD.replace("}", f", preferred: {HUGE}}}"), "q: preferred: expected true or false"),
    ],
)
def test_a_case_that_cannot_be_answered_is_refused_by_name_with_the_reason(
    tmp_path: Path, section: str, case: str, said: str
) -> None:
    assert said in refused(tmp_path, section, case)


TRADE = "id: t, date: 2024-03-04, account: A, symbol: X, quantity: 1, price: 1"
MIXED = f"""
cases:
- {{id: oversold, transactions: [{{side: sell, {TRADE}}}]}}
- {{id: bought, transactions: [{{side: buy, {TRADE}}}]}}
- {{id: barter, transactions: [{{side: swap, {TRADE}}}]}}
netting_cases: [{NET.replace("short: -5000", "short: low")}, {NET.replace("id: n", "id: n2")}]
rate_cases: [{LATER}, {RATE}]
qualified_dividend_cases: [{QD}]
"""


def test_what_cannot_be_answered_does_not_hide_what_can(tmp_path: Path) -> None:
    outcome = replay(tmp_path, MIXED, "--json")
    assert outcome.code == 1
    answers = json.loads(outcome.out)
    assert broken(answers, "replay") == []
    ids = {section: [answer["id"] for answer in answers[section]] for section in answers}
    assert ids == dict(zip(SECTIONS, (["bought"], ["n2"], ["r"], ["q"]), strict=True))
    refusals = [line.split(": ")[2] for line in outcome.err.splitlines()]
    assert refusals == ["cases oversold", "cases barter", "netting_cases n", "rate_cases later"]


def test_people_see_the_answers_and_the_refusals_too(tmp_path: Path) -> None:
    outcome = replay(tmp_path, MIXED)
    assert outcome.code == 1
    assert "bought" in outcome.out
    assert "oversold" not in outcome.out
    assert len(outcome.err.splitlines()) == 4


ODD_IDS = """
cases:
- id: "[/red]"
  transactions:
  - {id: "[/b]", date: 2024-01-02, account: "[i]A", side: buy, symbol: "[X]", quantity: 10, price: 5}
  - {id: 2, date: 2024-02-02, account: "[i]A", side: sell, symbol: "[X]", quantity: 5, price: 4}
- {id: 7, transactions: []}
- {id: "bell \\e[2J", transactions: []}
qualified_dividend_cases: [{id: "[/q]", acquired: 2025-03-03, ex_date: 2025-07-14}]
"""


def test_ids_are_shown_as_they_are_written_and_never_read_as_markup_or_sent_to_the_terminal(tmp_path: Path) -> None:
    outcome = replay(tmp_path, ODD_IDS)
    assert (outcome.code, outcome.err) == (0, "")
    shown = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "[/red]" in shown
    assert "2 [/b] 2024-01-02 2024-01-02 5 20.00 25.00 -5.00 0.00 ST" in shown
    assert "[/b] [i]A [X] 2024-01-02 2024-01-02 5 25.00" in shown
    assert {"7", r"bell \x1b[2J", "[/q] 121 yes"} <= set(shown)
    assert "\x1b" not in outcome.out


def test_an_id_written_as_a_number_is_text_in_the_answer(tmp_path: Path) -> None:
    answers = json.loads(replay(tmp_path, ODD_IDS, "--json").out)
    assert broken(answers, "replay") == []
    assert answers["cases"][0]["sales"][0]["sale_id"] == "2"
    assert answers["cases"][1] == {"id": "7", "sales": [], "open_lots": []}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cases: " + "[" * 3000 + "]" * 3000, "expected YAML, was nested too deeply to be read"),
        ('cases: [!!int ""]', "expected YAML, was not: "),
        ("cases: [!!timestamp soon]", "expected YAML, was not: "),
        ("cases: [!!bool maybe]", "expected YAML, was not: "),
        ("cases: [" + "9" * 5000 + "]", "expected YAML, was not: "),
        (f"? {HUGE}\n: []", "expected one of the sections"),
        (r'"\ud800\n": []', r"was \ud800\n"),
        ("rate_cases: {id: r}", "section rate_cases: expected a list of cases, was dict"),
        ("cases: 3", "section cases: expected a list of cases, was int"),
        (
            "lots: []",
            "expected one of the sections cases, netting_cases, rate_cases, qualified_dividend_cases, was lots",
        ),
        ("qualified_dividend_cases: [{id: q, acquired: 2025-02-30}]", "expected YAML, was not: day is out of range"),
    ],
)
def test_a_fault_of_the_whole_file_answers_nothing(tmp_path: Path, text: str, said: str) -> None:
    outcome = replay(tmp_path, text, "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith(f"harvestd: {tmp_path / 'cases.yaml'}: ")
    assert said in outcome.err


def test_a_convention_nobody_knows_is_refused_whatever_the_sections(tmp_path: Path) -> None:
    outcome = replay(tmp_path, f"netting_cases: [{NET}]", "--convention", "tacking=sum")
    assert (outcome.code, outcome.out) == (1, "")
    assert "tacking: expected one of union, additive, holding_date" in outcome.err


# ------------------------------------------------------------------ whose figures


def test_the_shipped_years_say_how_well_each_figure_is_known() -> None:
    """2025's breakpoints were read in the form's instructions; all others agree between sources that cite the text."""
    tables = shipped_tables()
    known = {(year, part): source.evidence for year, of in tables.years.items() for part, source in of.sources.items()}
    assert {place for place, evidence in known.items() if evidence is Evidence.PRIMARY} == {(2025, "preferential")}
    assert set(known.values()) == {Evidence.PRIMARY, Evidence.SECONDARY}
    assert tables.of(2025).preferential[FilingStatus.MFS].tops[1] == 300_000  # not half of 600,050


def mine(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def shifted() -> str:
    """A file of 2026 and 2031: the shipped years with other names, the first bracket of 2026 taxed at 11 percent."""
    text = FEDERAL.read_text(encoding="utf-8").replace("  2026:", "  2031:").replace("  2025:", "  2026:")
    return text.replace("rates_pct: [10,", "rates_pct: [11,", 1)


IN_2026 = RATE.replace("2025", "2026").replace("id: r", "id: now")


def test_a_file_of_ones_own_adds_a_year_and_says_what_it_takes_the_place_of(tmp_path: Path) -> None:
    file = mine(tmp_path, shifted())
    cases = f"rate_cases: [{LATER}, {IN_2026}]"
    outcome = replay(tmp_path, cases, "--json", "--tax-tables", file)
    assert outcome.code == 0
    later, now = json.loads(outcome.out)["rate_cases"]
    assert (later["ordinary_tax"], now["ordinary_tax"]) == ("1000.00", "1100.00")
    assert outcome.err == f"harvestd: Figures of 2026: those of {file}, not those of harvestd\n"
    shown = replay(tmp_path, cases, "--tax-tables", file)
    assert (shown.code, shown.err) == (0, "")
    assert f"Figures of 2026: those of {file}, not those of harvestd\n" in shown.out
    assert f"Figures of 2031: those of {file}\n" in shown.out


def test_a_year_that_the_file_does_not_have_is_the_shipped_one(tmp_path: Path) -> None:
    outcome = replay(tmp_path, f"rate_cases: [{RATE}]", "--json", "--tax-tables", mine(tmp_path, shifted()))
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["rate_cases"][0]["ordinary_tax"] == "1000.00"


def test_the_configuration_can_name_the_file(tmp_path: Path, nowhere: Path) -> None:
    """Relative to the folder of config.yaml; --tax-tables goes before it; other sections do not ask for either."""
    configured = tmp_path / "house"
    configured.mkdir()
    mine(configured, shifted())
    text = EXAMPLE.read_text(encoding="utf-8").replace("tables_file: null", "tables_file: mine.yaml")
    config = mine(configured, text, "config.yaml")
    outcome = replay(tmp_path, f"rate_cases: [{LATER}]", "--config", config)
    assert outcome.code == 0
    assert f"Figures of 2031: those of {configured / 'mine.yaml'}\n" in outcome.out
    other = mine(tmp_path, shifted().replace("2031", "2032"), "other.yaml")
    assert replay(tmp_path, f"rate_cases: [{LATER}]", "--config", config, "--tax-tables", other).code == 1
    (configured / "mine.yaml").unlink()
    assert replay(tmp_path, f"rate_cases: [{LATER}]", "--config", config).code == 78
    assert replay(tmp_path, f"netting_cases: [{NET}]", "--config", config).code == 0
    mine(nowhere, text.replace("mine.yaml", str(other)), "config.yaml")
    assert replay(tmp_path, f"rate_cases: [{LATER.replace('2031', '2032')}]").code == 0


def test_the_example_in_the_docs_is_a_file_that_works(tmp_path: Path) -> None:
    """And its figures are those that are shipped."""
    (example,) = re.findall(r"```yaml\n(years:.*?)```", (DOCS / "METHODS.md").read_text(encoding="utf-8"), re.S)
    ours, shipped = tax_tables(mine(tmp_path, example)).of(2026), shipped_tables().of(2026)
    assert ours.origin != shipped.origin
    for figures in ("ordinary", "preferential", "niit_rate", "niit_thresholds"):
        assert getattr(ours, figures) == getattr(shipped, figures)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (shifted().replace("48475", "4847O"), ":16", "years.2026.ordinary.up_to.single[1]: expected an amount in US"),
        (shifted().replace("  2031:", "  2026:"), ":", "expected each key once"),
        (shifted().replace("evidence: primary", "evidence: certain"), ":", "preferential.evidence: expected one of"),
        ("", ":1", "expected YAML with the key years, was an empty file"),
        ("years: [", ":", "expected YAML with the key years, was "),
        ("- 1", ":1", "expected YAML with the key years, was a list"),
        ("years: {2027: {}}", ":1", "years.2027: expected the keys ordinary, preferential, niit"),
    ],
    ids=["number", "twice", "word", "empty", "no YAML", "a list", "a year in part"],
)
def test_a_bad_file_of_tables_ends_in_78_and_answers_nothing(tmp_path: Path, text: str, place: str, said: str) -> None:
    file = mine(tmp_path, text)
    outcome = replay(tmp_path, f"rate_cases: [{RATE}]", "--json", "--tax-tables", file)
    assert (outcome.code, outcome.out) == (78, "")
    assert outcome.err.startswith(f"harvestd: {file}{place}")
    assert said in outcome.err


def test_a_file_of_tables_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "gone.yaml"
    outcome = replay(tmp_path, f"rate_cases: [{RATE}]", "--tax-tables", file)
    assert (outcome.code, outcome.out) == (78, "")
    assert outcome.err.startswith(f"harvestd: {file}: expected a file of tax tables, was no such file or directory. ")
