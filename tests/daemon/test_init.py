"""`harvestd init`: a commented file in paper mode that is valid, private, and never written over another."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from daemon.cli.setup import register
from daemon.onboarding import replaced
from daemon.settings import EXAMPLE, Mode, load_settings, read_secret
from daemon.settings.document import parse
from state.records import AccountType, ReliefMethod


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HARVESTD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, answers: str | None = None) -> Result:
    """Run one of the commands."""
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(arguments), input=answers)


def test_yes_writes_the_example() -> None:
    result = run("init", "--yes")
    assert result.exit_code == 0
    path = Path("config.yaml")
    assert path.read_bytes() == EXAMPLE.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_settings(path, {}).mode is Mode.PAPER
    assert "harvestd doctor" in result.output
    assert os.listdir() == ["config.yaml"]


def test_what_was_written_passes_the_check() -> None:
    run("init", "--yes", "--path", "mine.yaml")
    result = run("config", "check", "--config", "mine.yaml")
    assert result.exit_code == 0
    assert "mine.yaml is valid" in result.output
    assert "main (alpaca)" in result.output
    assert "Not in this version" not in result.output


def test_enter_keeps_every_default() -> None:
    result = run("init", answers="\n" * 6)
    assert result.exit_code == 0
    assert load_settings(Path("config.yaml"), {}) == load_settings(EXAMPLE, {}).model_copy(
        update={"database": load_settings(Path("config.yaml"), {}).database}
    )


def test_answers_are_written_and_comments_stay() -> None:
    symbols = "aapl, msft ko BRK.B jnj PG xom cvx WMT"
    result = run("init", answers=f"observe\nspouse_taxable\ntrue\n35.5\n15\n{symbols}\n")
    assert result.exit_code == 0, result.output
    settings = load_settings(Path("config.yaml"), {})
    account = settings.household.accounts[0]
    assert account.type is AccountType.SPOUSE_TAXABLE
    assert (settings.mode, account.broker) == (Mode.OBSERVE, "alpaca")
    assert (account.relief_method, account.relief_confirmed) == (ReliefMethod.FIFO, True)
    assert (settings.tax_profile.short_term_rate_pct, settings.tax_profile.long_term_rate_pct) == (35.5, 15)
    assert settings.benchmark.symbols[3] == "BRK.B"
    assert settings.approvals.order_usd == Decimal(10_000)
    comments = [line for line in EXAMPLE.read_text().splitlines() if line.lstrip().startswith("#")]
    assert [line for line in Path("config.yaml").read_text().splitlines() if line.lstrip().startswith("#")] == comments


def test_a_wrong_answer_is_asked_again() -> None:
    result = run("init", answers="live\npaper\nira\ntaxable\nfifo\ntrue\n40%\n140\n40\n20\nAAPL\n\n")
    assert result.exit_code == 0, result.output
    assert 'Expected one of taxable, spouse_taxable, was "ira"' in result.output
    assert 'Expected one of observe, paper, was "live"' in result.output
    assert 'Expected one of true, false, was "fifo"' in result.output
    assert "Write the number alone" in result.output
    assert "Expected a number from 0 to 75 (percent)" in result.output
    assert "at least 3 symbols" in result.output
    assert load_settings(Path("config.yaml"), {}).tax_profile.short_term_rate_pct == 40


def test_the_relief_method_is_not_taken_for_granted() -> None:
    result = run("init", answers="\n\n\n\n\n\n")
    assert "Nothing in its interface shows it" in result.output
    account = load_settings(Path("config.yaml"), {}).household.accounts[0]
    assert (account.relief_method, account.relief_confirmed) == (ReliefMethod.FIFO, False)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_never_overwrites(kind: str) -> None:
    path = Path("config.yaml")
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    result = run("init", "--yes")
    assert result.exit_code == 2
    assert "--path" in result.output
    assert os.listdir() == ["config.yaml"]
    if kind == "file":
        assert path.read_text() == "mine"


def test_a_folder_that_is_not_there() -> None:
    result = run("init", "--yes", "--path", "nowhere/config.yaml")
    assert result.exit_code == 2
    assert "mkdir -p" in result.output
    assert os.listdir() == []


def test_leaving_halfway_writes_nothing() -> None:
    result = run("init", answers="taxable\n")
    assert result.exit_code == 1
    assert os.listdir() == []


def test_replacing_a_value_touches_nothing_else() -> None:
    text = EXAMPLE.read_text()
    changed = replaced(text, ("benchmark", "symbols"), ["AAPL", "BRK.B"])
    before, after = parse(text, "x"), parse(changed, "x")
    assert after.values["benchmark"].pop("symbols") == ["AAPL", "BRK.B"]
    before.values["benchmark"].pop("symbols")
    assert before.values == after.values


def test_the_check_does_not_load_what_it_does_not_need() -> None:
    code = (
        "import sys, daemon.onboarding\n"
        "slow = {'keyring', 'rich', 'pandas', 'numpy', 'sqlalchemy', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


# ------------------------------------------------------------------ keys


def test_keys_are_kept_where_only_their_owner_reads_them_and_never_shown() -> None:
    run("init", "--yes")
    result = run("keys", answers="PK-CANARY-ID\ncanary-secret-1\n")
    assert result.exit_code == 0, result.output
    assert "CANARY" not in result.output
    assert "canary" not in result.output
    settings = load_settings(Path("config.yaml"), {})
    assert settings.credentials.directory == Path("keys").absolute()
    assert stat.S_IMODE(Path("keys").stat().st_mode) == 0o700
    for name, secret in (("alpaca_paper_key_id", "PK-CANARY-ID"), ("alpaca_paper_secret_key", "canary-secret-1")):
        assert stat.S_IMODE((Path("keys") / name).stat().st_mode) == 0o400
        assert read_secret(name, {}, settings.credentials).get_secret_value() == secret
    comments = [line for line in EXAMPLE.read_text().splitlines() if line.lstrip().startswith("#")]
    assert [line for line in Path("config.yaml").read_text().splitlines() if line.lstrip().startswith("#")] == comments


def test_new_keys_replace_old_ones() -> None:
    run("init", "--yes")
    run("keys", answers="old-id\nold-secret\n")
    assert run("keys", answers="new-id\nnew-secret\n").exit_code == 0
    credentials = load_settings(Path("config.yaml"), {}).credentials
    assert read_secret("alpaca_paper_key_id", {}, credentials).get_secret_value() == "new-id"
    assert sorted(os.listdir("keys")) == ["alpaca_paper_key_id", "alpaca_paper_secret_key"]


def test_keys_want_a_configuration_first() -> None:
    result = run("keys", answers="a\nb\n")
    assert result.exit_code == 78
    assert os.listdir() == []
