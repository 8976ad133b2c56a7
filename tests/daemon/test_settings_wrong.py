"""Ways to get config.yaml wrong. Each ends in exit code 78, names the line and the key, and starts nothing.

The cases are rows of wrong_settings.yaml.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from daemon.cli.setup import register

RIGHT = """\
mode: paper
household:
  accounts:
    - id: main
      type: taxable
      broker: alpaca
benchmark:
  symbols: [AAPL, AMD, BAC, BBY, CVX, GE, HD, JNJ, JPM, KO, LLY, MRK]
optimizer:
  cash_min_pct: 0.2
  cash_max_pct: 2
"""
CANARY = "PK7Q2XJ0S3CR9FAAB31XZ"


@dataclass(frozen=True)
class Wrong:
    """One row of wrong_settings.yaml."""

    wrong: str
    new: str
    key: str
    says: str
    old: str = ""

    @property
    def text(self) -> str:
        """The whole wrong file."""
        assert self.old in RIGHT
        changed = RIGHT.replace(self.old, self.new, 1) if self.old else RIGHT + self.new
        return changed.replace("CANARY", CANARY)


CASES = [Wrong(**row) for row in yaml.safe_load(Path(__file__).with_name("wrong_settings.yaml").read_text())]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HARVESTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["config", "check", *arguments])
    return result.exit_code, result.output


def check_as_json(text: str | bytes) -> tuple[int, list[dict[str, object]], str]:
    """Exit code, problems and output of `config check --json`; fails when a file or database appeared."""
    Path("config.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    code, output = run("--json")
    assert os.listdir() == ["config.yaml"]
    return code, json.loads(output)["problems"], output


def test_the_right_file_is_right() -> None:
    code, problems, _ = check_as_json(RIGHT)
    assert (code, problems) == (0, [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.wrong)
def test_wrong(case: Wrong) -> None:
    marked = [number for number, line in enumerate(case.text.splitlines(), 1) if "<-" in line]
    code, problems, output = check_as_json(case.text)
    assert code == 78
    here = [problem for problem in problems if problem["key"] == case.key]
    assert here, f"expected a problem at {case.key!r}, was {problems}"
    if marked:
        assert [problem["line"] for problem in here] == marked[:1]
    assert case.says in f"Expected {here[0]['allowed']}, was {here[0]['seen']}. {here[0]['hint']}"
    assert CANARY not in output

    code, output = run()
    assert code == 78
    place = f"config.yaml:{marked[0]}" if marked else "config.yaml"
    assert place in output
    assert case.key in output
    assert case.says in output
    assert CANARY not in output
    assert "Nothing was started" in output
    assert os.listdir() == ["config.yaml"]


def test_there_are_enough_ways() -> None:
    assert len(CASES) >= 60


# ------------------------------------------------------------------ the file as a whole


def test_no_file() -> None:
    code, output = run("--config", "elsewhere.yaml")
    assert code == 78
    assert "elsewhere.yaml" in output
    assert "harvestd init" in output
    assert os.listdir() == []


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_empty_file(text: str) -> None:
    code, problems, _ = check_as_json(text)
    assert code == 78
    assert "harvestd init" in str(problems)


@pytest.mark.parametrize("text", ["- mode: paper\n", "paper\n", "[]\n"])
def test_not_a_mapping(text: str) -> None:
    code, problems, _ = check_as_json(text)
    assert (code, problems[0]["allowed"]) == (78, "a mapping of keys to values")


def test_not_utf8() -> None:
    code, problems, _ = check_as_json(RIGHT.encode() + b"log:\n  level: \xff\n")
    assert (code, problems[0]["line"]) == (78, 13)
    assert "UTF-8" in str(problems)


def test_control_character() -> None:
    code, problems, _ = check_as_json(RIGHT + "log: \x07\n")
    assert (code, problems[0]["line"]) == (78, 12)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    code, output = run("--config", str(tmp_path))
    assert code == 78
    assert "a folder" in output


def test_a_huge_file() -> None:
    code, problems, _ = check_as_json("# " + "x" * 1_100_000)
    assert code == 78
    assert "at most 1000000 bytes" in str(problems)


def test_endless_alias() -> None:
    code, problems, _ = check_as_json("mode: &a [*a]\n")
    assert code == 78
    assert "alias" in str(problems)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file() -> None:
    Path("config.yaml").write_text(RIGHT)
    Path("config.yaml").chmod(0)
    code, output = run()
    assert code == 78
    assert "may read" in output


# ------------------------------------------------------------------ all at once, and the environment


def test_everything_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    text = RIGHT.replace("mode: paper", "mode: live").replace("cash_min_pct: 0.2", "cash_min_pct: 3")
    text += "  turnover_max_pct: x\n  cash: 1\nlog: {level: loud}\nschedule: {decide_before_close_minutes: 1}\n"
    code, problems, _ = check_as_json(text)
    assert code == 78
    assert [(problem["line"], problem["key"]) for problem in problems] == [
        (1, "mode"),
        (10, "optimizer.cash_min_pct"),
        (12, "optimizer.turnover_max_pct"),
        (13, "optimizer.cash"),
        (14, "log.level"),
        (15, "schedule.decide_before_close_minutes"),
    ]


def test_a_wrong_value_does_not_blame_its_neighbours() -> None:
    _, problems, _ = check_as_json(RIGHT.replace("cash_max_pct: 2", "cash_max_pct: two"))
    assert [problem["key"] for problem in problems] == ["optimizer.cash_max_pct"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX_BPS", "5%", "basis points"),
        ("HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX", "300", "Did you mean HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX_BPS?"),
        ("HARVESTD_OPTIMISER__WHOLE_SHARES", "true", "Did you mean HARVESTD_OPTIMIZER__WHOLE_SHARES?"),
        ("HARVESTD_optimizer__whole_shares", "true", "Did you mean HARVESTD_OPTIMIZER__WHOLE_SHARES?"),
        ("HARVESTD_OPTIMIZER", "{}", "key by key"),
        ("HARVESTD_CONFG", "x", "Did you mean HARVESTD_CONFIG?"),
        ("HARVESTD_MODE", "live", "does not trade live yet"),
        ("HARVESTD_MODE", "", "Unset it"),
        ("HARVESTD_BENCHMARK__SYMBOLS", "[AAPL, KO", "Write a list as"),
        ("HARVESTD_OPTIMIZER__CASH_MIN_PCT", "9", "less than optimizer.cash_max_pct (2)"),
        ("HARVESTD_RISK__FACTORS", "nan", "finite"),
        ("HARVESTD_ALPACA_API_KEY", CANARY, "HARVESTD_SECRET_NAME"),
        ("HARVESTD_LOG__LEVEL", CANARY, '"seen": "***"'),
    ],
)
def test_wrong_variable(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    code, problems, output = check_as_json(RIGHT)
    assert code == 78
    assert [(problem["file"], problem["line"]) for problem in problems] == [(f"environment variable {name}", None)]
    assert says in output
    assert CANARY not in output
