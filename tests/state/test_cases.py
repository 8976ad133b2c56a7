"""The worked tax cases: trades in, the exact tax result out (tests/cases/tax_cases.yaml, and more_tax_cases.yaml).

Every case runs under the default conventions and again under each alternative it states. Money within 0.01, as the
file says; quantities exactly; an expected field that is absent, or "unspecified", is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from state.lots import UnsupportedTransactionError, replay_cases

FOLDER = Path(__file__).parent.parent / "cases"
DOCUMENT = yaml.safe_load((FOLDER / "tax_cases.yaml").read_text())
MORE = yaml.safe_load((FOLDER / "more_tax_cases.yaml").read_text())  # edges of the rules, reasoned from them by hand
CASES = {case["id"]: case for case in [*DOCUMENT["cases"], *MORE["cases"]]}

MONEY = {"proceeds", "basis", "gain_loss", "disallowed", "permanently_disallowed"}


def variants() -> Iterator[Any]:
    """Each supported case with its default result, then with each alternative convention."""
    for case_id, case in CASES.items():
        yield pytest.param(case, {}, case, id=case_id)
        for alternative in case.get("alt_expected", ()):
            yield pytest.param(case, alternative["options"], alternative, id=f"{case_id}[{alternative['convention']}]")


@pytest.mark.parametrize(("case", "conventions", "expected"), list(variants()))
def test_a_worked_case_comes_out_as_stated(
    case: Mapping[str, Any], conventions: Mapping[str, str], expected: Mapping[str, Any]
) -> None:
    answer = replay_cases({"cases": [case]}, conventions)["cases"][0]
    assert answer["id"] == case["id"]
    sales = {sale["sale_id"]: sale["lots"] for sale in answer["sales"]}
    assert sorted(sales) == sorted(sale["sale_id"] for sale in expected["expected"])
    for sale in expected["expected"]:
        assert_same(sales[sale["sale_id"]], sale["lots"])
    assert_same(answer["open_lots"], expected["expected_open_lots"])


def assert_same(answer: Sequence[Mapping[str, str]], expected: Sequence[Mapping[str, Any]]) -> None:
    """Row by row; parts of one lot are told apart by their start and quantity."""
    assert len(answer) == len(expected)
    for ours, theirs in zip(sorted(answer, key=part), sorted(expected, key=part), strict=True):
        for name, value in theirs.items():
            if value == "unspecified":
                continue
            if name in MONEY:
                assert abs(Decimal(ours[name]) - Decimal(str(value))) <= Decimal("0.01"), (name, ours, theirs)
            elif name == "quantity":
                assert Decimal(ours[name]) == Decimal(str(value)), (ours, theirs)
            else:
                assert ours[name] == str(value), (name, ours, theirs)


def part(row: Mapping[str, Any]) -> tuple[str, str, str, Decimal]:
    start = str(row["adjusted_acquired"]) if len(str(row["adjusted_acquired"])) == 10 else ""
    return str(row["lot"]), str(row.get("symbol", "")), start, Decimal(str(row["quantity"]))


def test_every_case_is_run() -> None:
    assert (len(DOCUMENT["cases"]), len(MORE["cases"])) == (82, 117)
    assert len(CASES) == 82 + 117, "no id twice"


def test_the_whole_file_is_answered_in_its_order() -> None:
    answer = replay_cases(DOCUMENT)
    assert [case["id"] for case in answer["cases"]] == [case["id"] for case in DOCUMENT["cases"]]


def test_one_refusal_names_every_case_that_needs_more_and_what() -> None:
    common = {"id": "p", "date": "2025-03-03", "account": "A", "symbol": "X", "quantity": 1, "price": 5}
    unknown = [
        {"id": "PUT", "transactions": [{**common, "side": "buy", "instrument": "put"}]},
        {"id": "SWAP", "transactions": [{**common, "side": "swap"}]},
        {"id": "MINTAX", "lot_method": "MINTAX", "transactions": [{**common, "side": "buy"}]},
        {"id": "RIGHTS", "corporate_actions": [{"type": "rights_issue", "symbol": "X", "date": "2025-03-03"}]},
    ]
    with pytest.raises(UnsupportedTransactionError) as refusal:
        replay_cases({"cases": [*unknown, CASES["FEES"]]})
    missing = {"PUT": "put", "SWAP": "swap", "MINTAX": "MINTAX", "RIGHTS": "rights_issue"}
    for case_id, what in missing.items():
        (line,) = [line for line in str(refusal.value).splitlines() if line.strip().startswith(f"{case_id}:")]
        assert what in line
    assert "FEES" not in str(refusal.value)
