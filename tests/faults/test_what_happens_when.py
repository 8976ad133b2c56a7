"""docs/WHAT-HAPPENS-WHEN.md tells every fault once, in words the program really says; and every fault has a test."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from daemon.gate import DaemonState
from state.reasons import ReasonCode

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "WHAT-HAPPENS-WHEN.md"
FAULTS = [f"F{number:02}" for number in range(1, 45)]
MOST_SKIPPED = 3
UPPER = re.compile(r"`([A-Z][A-Z_]+[A-Z])`")


@cache
def rows() -> dict[str, list[list[str]]]:
    """Each fault's rows: the cells after its number."""
    found: dict[str, list[list[str]]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| F\d", line):
            number, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(number, []).append(cells)
    return found


@cache
def marks() -> dict[str, list[bool]]:
    """Each fault's marks in the tests, by number: for each whether the test that bears it is skipped.

    A mark that a test computes is not seen; one that is written on a test, a row of its cases or a module is.
    """
    found: dict[str, list[bool]] = {}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        skipped: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_skipped(node):
                skipped |= {
                    ast.dump(call, include_attributes=True) for each in node.decorator_list for call in _marks(each)
                }
        for call in _marks(tree):
            for each in call.args:
                if isinstance(each, ast.Constant):
                    is_skipped = ast.dump(call, include_attributes=True) in skipped
                    found.setdefault(str(each.value), []).append(is_skipped)
    return found


def _marks(tree: ast.AST) -> list[ast.Call]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in calls if ast.unparse(call.func) == "pytest.mark.fault"]


def _is_skipped(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any("pytest.mark.skip" in ast.unparse(each) for each in node.decorator_list)


@cache
def said() -> str:
    """Every text in the program, line by line."""
    texts = []
    for package in ("daemon", "state", "brokers"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def test_every_fault_has_one_row() -> None:
    assert list(rows()) == FAULTS
    assert {number: len(found) for number, found in rows().items()} == dict.fromkeys(FAULTS, 1)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_says_what_happened_what_follows_what_is_seen_and_what_to_do(fault: str) -> None:
    [cells] = rows()[fault]
    assert len(cells) == 4
    assert all(cell.endswith(".") for cell in cells), cells


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_a_test(fault: str) -> None:
    assert marks().get(fault)


def test_no_mark_is_of_a_fault_that_is_not_told() -> None:
    assert set(marks()) <= set(FAULTS)


def test_codes_and_states_on_the_page_exist() -> None:
    named = set(UPPER.findall(PAGE.read_text(encoding="utf-8")))
    known = {code.value for code in ReasonCode} | {state.value for state in DaemonState}
    assert named <= known, named - known
    assert {state.value for state in DaemonState} <= named


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_in_quotation_marks_is_what_the_program_says(fault: str) -> None:
    [cells] = rows()[fault]
    for words in re.findall(r'"([^"]+)"', " ".join(cells)):
        assert words in said(), words


def test_commands_on_the_page_exist() -> None:
    commands = (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8")
    for words in re.findall(r"`harvestd ([a-z -]+?)(?: --| [A-Z]|`)", PAGE.read_text(encoding="utf-8")):
        assert f"`harvestd {words}`" in commands, words


def test_at_most_three_faults_are_skipped() -> None:
    """Those whose every test is skipped cannot be built here."""
    skipped = [fault for fault, found in marks().items() if all(found)]
    assert len(skipped) <= MOST_SKIPPED, skipped
