"""Settings that are right: defaults, the annotated example, overrides, paths, into the database and back."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from daemon.house import ledger_policy
from daemon.settings import EXAMPLE, ConfigurationError, Mode, Settings, check, load_settings, unsupported
from daemon.settings.document import parse
from daemon.settings.environment import variable
from daemon.settings.loading import check_text
from daemon.settings.models import AccountSettings, Conventions, Preapproval
from daemon.settings.values import UNITS
from daemon.settings.wording import Key, allowed, choices, fields, leaves, model_fields
from state.lots import LedgerPolicy, conventions
from state.records import AccountType, OrderType, ReliefMethod

HOUSEHOLD = {"accounts": [{"id": "main", "type": "taxable", "broker": "simulated"}]}
BENCHMARK = {"symbols": ["AAPL", "AMD", "BAC", "BBY", "CVX", "GE", "HD", "JNJ", "JPM", "KO"]}
AT_ALPACA = {"household": {"accounts": [{"id": "a", "type": "taxable", "broker": "alpaca"}]}, "benchmark": BENCHMARK}
LEAST: dict[str, Any] = {"household": HOUSEHOLD, "benchmark": BENCHMARK}


def write(folder: Path, text: str) -> Path:
    """config.yaml in the folder."""
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def example_with(**environ: str) -> Settings:
    """The example with overrides."""
    return load_settings(EXAMPLE, environ)


# ------------------------------------------------------------------ the model


def test_defaults_are_those_of_the_design() -> None:
    settings = Settings.model_validate(LEAST)
    assert settings.mode is Mode.PAPER
    assert settings.approvals.order_usd == Decimal(10_000)
    assert settings.approvals.plan_pct_nav == Decimal(5)
    assert settings.optimizer.tracking_error_max_bps == 400
    assert settings.harvest.long_term_trigger_pct == 0.6
    assert settings.household.accounts[0].relief_method is ReliefMethod.FIFO
    assert settings.approvals.preapproved == ()


def test_settings_are_frozen() -> None:
    settings = Settings.model_validate(LEAST)
    with pytest.raises(ValidationError):
        settings.mode = Mode.LIVE
    with pytest.raises(ValidationError):
        settings.optimizer.cash_max_pct = 50.0


def test_values_in_code_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARVESTD_MODE", "observe")
    monkeypatch.setenv("MODE", "observe")
    assert Settings.from_mapping(LEAST).mode is Mode.PAPER


def test_into_the_database_and_back() -> None:
    settings = Settings.from_mapping(LEAST | {"mode": "demo", "approvals": {"order_usd": Decimal("10000.10")}})
    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_as_yaml_loads_to_the_same(tmp_path: Path) -> None:
    settings = Settings.from_mapping(
        LEAST | {"database": {"path": str(tmp_path / "h.db"), "backup_directory": str(tmp_path)}}
    )
    assert load_settings(write(tmp_path, settings.as_yaml()), {}) == settings


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", True, "5 %", -1])
@pytest.mark.parametrize(
    ("section", "key"),
    [("optimizer", "tracking_error_max_bps"), ("execution", "order_max_usd"), ("risk", "factors")],
)
def test_no_limit_is_not_a_number(section: str, key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Settings.from_mapping(LEAST | {section: {key: value}})


def test_errors_do_not_show_values() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.from_mapping(LEAST | {"mode": "canary-7Q2X"})
    assert "canary-7Q2X" not in str(caught.value)


def test_numbers_have_their_unit_in_the_name() -> None:
    unitless = {"trigger_multiplier", "ewma_lambda", "replacements_per_name", "factors", "risk_aversion"}
    unitless |= {"deposit_names_max", "repeats_max"}
    for path in leaves():
        if "number" in allowed(path)[:16]:
            name = str(path[-1])
            assert name in unitless or name.endswith(tuple(UNITS)), f"{path}: which unit?"


def test_every_bound_refuses_one_step_outside() -> None:
    """Ranges in words are the ranges enforced: each bound passes or refuses as its words say."""
    for path in leaves():
        words = allowed(path).split()
        if "number" not in words[:3]:
            continue
        section, key = str(path[0]), str(path[1])
        high = float(words[words.index("to") + 1])
        with pytest.raises(ValidationError, match=key):
            Settings.from_mapping(LEAST | {section: {key: high + 1}})
        word = "from" if "from" in words else "above"
        low = float(words[words.index(word) + 1])
        with pytest.raises(ValidationError, match=key):
            Settings.from_mapping(LEAST | {section: {key: low - 1 if word == "from" else low}})


def test_each_convention_of_the_ledger_is_a_setting_with_its_values_and_default() -> None:
    """`conventions()` is the ledger's own list. One that has a single value is no choice."""
    ledger = {name: values for name, values in conventions().items() if len(values) > 1}
    section: Key = ("wash_sales", "conventions")
    assert {name: choices((*section, name)) for name in Conventions.model_fields} == ledger
    assert ledger_policy(Settings.model_validate(LEAST), {}) == LedgerPolicy()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in conventions().items() if len(values) > 1 for value in values]
)
def test_a_convention_reaches_the_ledger(name: str, value: str) -> None:
    settings = Settings.from_mapping(LEAST | {"wash_sales": {"conventions": {name: value}}})
    assert ledger_policy(settings, {}) == replace(LedgerPolicy(), **{name: value})
    variable = f"HARVESTD_WASH_SALES__CONVENTIONS__{name.upper()}"
    assert example_with(**{variable: value}).wash_sales == settings.wash_sales


def test_account_as_the_other_packages_know_it() -> None:
    account = AccountSettings(id="roth", type="roth_ira", broker="import", name="Roth").as_account()
    assert (account.account_id, account.account_type) == ("roth", AccountType.ROTH_IRA)
    assert not account.is_managed
    settings = Settings.from_mapping(LEAST)
    assert settings.account("main").is_managed
    assert [each.id for each in settings.household.managed] == ["main"]


def test_what_this_version_cannot_do_is_told() -> None:
    accounts = [
        {"id": "a", "type": "taxable", "broker": "alpaca"},
        {"id": "b", "type": "ira", "broker": "simulated"},
        {"id": "c", "type": "taxable", "broker": "alpaca"},
    ]
    notes = unsupported(Settings.from_mapping({"household": {"accounts": accounts}, "benchmark": BENCHMARK}))
    assert [note.key for note in notes] == [
        "household.accounts[1].broker",
        "household.accounts[1].type",
        "household.accounts[2].broker",
    ]
    assert unsupported(Settings.from_mapping(AT_ALPACA)) == []


# ------------------------------------------------------------------ the annotated example


def commented_keys() -> dict[Key, str]:
    """Each key of the example with the comment above it, as one line."""
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = {}
    for path, place in parse(text, "config.yaml").places.items():
        if isinstance(path[-1], int):
            continue
        above = (place.line or 1) - 1
        comment: list[str] = []
        while above and lines[above - 1].lstrip().startswith("#"):
            comment.insert(0, lines[above - 1].strip(" #"))
            above -= 1
        found[path] = " ".join(comment)
    return found


def test_the_example_at_the_root_is_the_packaged_one() -> None:
    root = Path(__file__).parents[2] / "config.yaml"
    assert root.read_bytes() == EXAMPLE.read_bytes()


def test_every_setting_is_in_the_example_with_a_comment() -> None:
    comments = commented_keys()
    account: Key = ("household", "accounts", 0)
    expected = [path for path, _ in fields()] + [(*account, key) for key in AccountSettings.model_fields]
    assert sorted(map(str, comments)) == sorted(map(str, expected))
    for path, comment in comments.items():
        assert comment, f"{path} has no comment"


def test_comments_say_what_is_allowed_and_the_default() -> None:
    comments = commented_keys()
    described = [(path, field) for path, field in fields() if not model_fields(field.annotation)]
    described += [(("household", "accounts", 0, key), field) for key, field in AccountSettings.model_fields.items()]
    for path, field in described:
        if path == ("household", "accounts"):
            continue
        words = allowed(path)
        assert words[0].upper() + words[1:] in comments[path], f"{path}: expected {words!r} in its comment"
        assert ("Required." if field.is_required() else "Default ") in comments[path], path


def test_the_example_is_the_defaults() -> None:
    settings = example_with()
    given = parse(EXAMPLE.read_text(encoding="utf-8"), "config.yaml").values
    defaults = Settings.from_mapping({key: given[key] for key in ("household", "benchmark")})
    beside = {name: EXAMPLE.parent / getattr(defaults.database, name) for name in ("path", "backup_directory")}
    assert settings == defaults.model_copy(update={"database": defaults.database.model_copy(update=beside)})
    assert settings.household.accounts[0] == AccountSettings(id="main", type="taxable", broker="alpaca")


def test_defaults_in_comments_are_the_defaults() -> None:
    comments = commented_keys()
    for path, field in fields():
        if model_fields(field.annotation) or field.is_required() or isinstance(field.default, tuple):
            continue
        default = field.default.value if hasattr(field.default, "value") else field.default
        said = comments[path].rsplit("Default ", 1)[1].rstrip(".")
        written = {True: "true", False: "false"}[default] if isinstance(default, bool) else default
        if isinstance(default, float | int | Decimal) and not isinstance(default, bool):
            assert float(said) == float(default), path
        else:
            assert said == ("null" if written is None else str(written)), path


def test_every_section_says_what_it_is_for() -> None:
    def walk(model: type[BaseModel]) -> None:
        for field in model.model_fields.values():
            assert field.description
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                assert field.annotation.__doc__
                walk(field.annotation)

    walk(Settings)
    walk(AccountSettings)
    walk(Preapproval)


# ------------------------------------------------------------------ reading


def test_numbers_never_pass_through_float() -> None:
    text = EXAMPLE.read_text().replace("order_usd: 10000", "order_usd: 10000.10000000000000000001")
    settings, _ = check_text(text, EXAMPLE, {})
    assert settings is not None
    assert settings.approvals.order_usd == Decimal("10000.10000000000000000001")


def test_text_stays_text() -> None:
    """ON is ON Semiconductor, not true; an account number keeps its leading zeros."""
    text = EXAMPLE.read_text().replace("AAPL, AMD", "ON, NO").replace('account_number: ""', "account_number: 00123")
    settings, _ = check_text(text, EXAMPLE, {})
    assert settings is not None
    assert settings.benchmark.symbols[:2] == ("ON", "NO")
    assert settings.household.accounts[0].account_number == "00123"


@pytest.mark.parametrize("word", ["true", "True", "yes", "on"])
def test_words_for_true(word: str) -> None:
    assert example_with(HARVESTD_OPTIMIZER__WHOLE_SHARES=word).optimizer.whole_shares is True


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.read_bytes().replace(b"\n", b"\r\n"))
    assert load_settings(path, {}).mode is Mode.PAPER


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "spx.csv").write_text("")
    (tmp_path / "keys").mkdir()
    text = "household: {accounts: [{id: a, type: taxable, broker: simulated}]}\n"
    text += "benchmark: {kind: constituents_file, constituents_file: spx.csv}\n"
    text += "credentials: {directory: ./keys}\ndatabase: {path: sub/../h.db}\nwash_sales: {calendar_file: wash.ics}\n"
    settings = load_settings(write(tmp_path, text), {})
    assert settings.benchmark.constituents_file == tmp_path / "spx.csv"
    assert settings.credentials.directory == tmp_path / "keys"
    assert settings.database.path == tmp_path / "h.db"
    assert settings.wash_sales.calendar_file == tmp_path / "wash.ics"


def test_the_environment_overrides_the_file() -> None:
    settings = example_with(
        HARVESTD_MODE="observe",
        HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX_BPS="300",
        HARVESTD_EXECUTION__ORDER_TYPE="market_on_close",
        HARVESTD_WASH_SALES__GROUPS="[[GOOG, GOOGL]]",
        HARVESTD_CREDENTIALS__DIRECTORY="null",
        HARVESTD_CONFIG="/somewhere/else.yaml",
        HARVESTD_SECRET_ALPACA_PAPER_KEY_ID="x",
        PATH="/bin",
    )
    assert settings.mode is Mode.OBSERVE
    assert settings.optimizer.tracking_error_max_bps == 300
    assert settings.execution.order_type is OrderType.MARKET_ON_CLOSE
    assert settings.wash_sales.groups == (("GOOG", "GOOGL"),)


def test_the_environment_can_put_a_wrong_file_right(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE.read_text().replace("mode: paper", "mode: live"))
    assert load_settings(path, {"HARVESTD_MODE": "paper"}).mode is Mode.PAPER


def test_the_environment_can_fill_a_section_that_the_file_has_not(tmp_path: Path) -> None:
    text = "household: {accounts: [{id: a, type: taxable, broker: simulated}]}\n"
    path = write(tmp_path, text)
    assert load_settings(path, {"HARVESTD_BENCHMARK__SYMBOLS": str(BENCHMARK["symbols"])}).benchmark.symbols[9] == "KO"


def test_each_key_has_its_variable() -> None:
    names = [variable(path) for path in leaves()]
    assert len(names) == len(set(names))
    assert "HARVESTD_OPTIMIZER__TRACKING_ERROR_MAX_BPS" in names


def test_the_error_lists_every_problem(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE.read_text().replace("mode: paper", "mode: x").replace("level: info", "level: x"))
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, {})
    assert caught.value.exit_code == 78
    assert [problem.key for problem in caught.value.problems] == ["mode", "log.level"]
    line = path.read_text().splitlines().index("mode: x") + 1
    assert str(caught.value).startswith(f'{path}:{line}: mode: expected one of observe, paper, live, was "x".')
    assert check(path, {}) == (None, caught.value.problems)


def test_a_variable_may_keep_it_from_trading_and_never_let_it(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(EXAMPLE.read_text().replace("mode: paper", "mode: observe"))
    with pytest.raises(ConfigurationError, match="never let it"):
        load_settings(path, {"HARVESTD_MODE": "paper"})
    path.write_text(EXAMPLE.read_text())
    assert load_settings(path, {"HARVESTD_MODE": "observe"}).mode is Mode.OBSERVE
