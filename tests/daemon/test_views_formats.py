"""The promised formats against real output, and the pages of docs/ against the code they are made from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner
from views_household import settings

from daemon.cli import views
from daemon.cli.docs import DOCS, commands, reasons_page
from daemon.cli.main import app as harvestd
from daemon.cli.views.schema import schema_of
from daemon.settings import EXAMPLE
from state.lots import replay_cases
from state.reasons import ReasonCode

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list | tuple),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}


def faults(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """Where a value breaks the part of JSON Schema that ours use."""
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, at)
    if "anyOf" in schema and all(list(faults(value, one, root, at)) for one in schema["anyOf"]):
        yield f"{at}: {value!r} is none of {schema['anyOf']}"
    if "type" in schema and not TYPES[schema["type"]](value):
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not in {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        yield f"{at}: {value!r} is below {schema['minimum']}"
    if isinstance(value, Mapping):
        yield from _object_faults(value, schema, root, at)
    if isinstance(value, list | tuple) and "items" in schema:
        for place, item in enumerate(value):
            yield from faults(item, schema["items"], root, f"{at}[{place}]")


def _object_faults(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], at: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}: {name} is missing"
    for name, item in value.items():
        if name in properties:
            yield from faults(item, properties[name], root, f"{at}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}: {name} is not in the schema"
        elif isinstance(schema.get("additionalProperties"), Mapping):
            yield from faults(item, schema["additionalProperties"], root, f"{at}.{name}")


def broken(value: Any, name: str) -> list[str]:
    schema = schema_of(name)
    return list(faults(value, schema, schema))


# ------------------------------------------------------------------ formats


@pytest.fixture(scope="module")
def viewer() -> typer.Typer:
    made = typer.Typer()
    views.register(made)
    return made


@pytest.fixture(scope="module")
def little_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Four weeks of the real demo: the database and what it printed."""
    from daemon.demo.run import DemoOptions, run_demo
    from daemon.demo.screen import Screen

    path = tmp_path_factory.mktemp("demo") / "demo.db"
    with Screen(quiet=True) as screen:
        result = run_demo(DemoOptions(date(2019, 1, 2), date(2019, 1, 30), 0, path, resume=False), screen)
    return path, json.loads(json.dumps(result.figures))


def test_the_demo_keeps_its_promise(little_demo: tuple[Path, dict[str, Any]]) -> None:
    assert broken(little_demo[1], "demo") == []


def test_a_plan_keeps_its_promise(little_demo: tuple[Path, dict[str, Any]]) -> None:
    result = CliRunner().invoke(harvestd, ["plan", "--db", str(little_demo[0]), "--json"])
    assert result.exception is None
    assert broken(json.loads(result.stdout), "plan") == []


def test_a_plan_of_the_history_has_the_same_form(little_demo: tuple[Path, dict[str, Any]], viewer: typer.Typer) -> None:
    """Every plan of the demo, harvests with their lots among them."""
    result = CliRunner().invoke(viewer, ["plans", "--most", "0", "--db", str(little_demo[0]), "--json"])
    plans = json.loads(result.stdout)["plans"]
    assert any(trade["lots"] for plan in plans for trade in plan["trades"])
    whole = {"as_of": "2019-01-30T21:10:00+00:00", "places_orders": False}
    for plan in plans:
        answer = {**whole, "plan": plan, "needs_approval": [], "blocked_by": [], "opportunities": []}
        assert broken(answer, "plan") == []


CASE = """
cases:
- id: one
  lot_method: FIFO
  transactions:
  - {id: b, date: 2024-01-02, account: A, symbol: X, side: buy, quantity: 1, price: 100}
  - {id: s, date: 2024-02-01, account: A, symbol: X, side: sell, quantity: 1, price: 80}
  - {id: r, date: 2024-02-15, account: A, symbol: X, side: buy, quantity: 1, price: 90}
"""


def test_a_replay_keeps_its_promise() -> None:
    """A loss of 20 that a purchase a fortnight later disallows."""
    answer = replay_cases(yaml.safe_load(CASE))
    assert answer["cases"][0]["sales"][0]["lots"][0]["disallowed"] in ("20", "20.00")
    assert broken(answer, "replay") == []


def test_the_annotated_example_fits_the_schema_of_the_configuration() -> None:
    assert broken(yaml.safe_load(EXAMPLE.read_text()), "config") == []
    assert broken(json.loads(settings().model_dump_json()), "config") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("demo", {"from": "2019-01-02"}),
        ("plan", {"as_of": "today", "places_orders": True, "plan": None}),
        ("replay", {"cases": [{"id": "x", "sales": [], "open_lots": [], "more": 1}]}),
        ("config", {"mode": "casino"}),
    ],
)
def test_what_breaks_a_format_is_found(name: str, value: Any) -> None:
    """The little checker of this file is not blind."""
    assert broken(value, name)


def test_the_schema_command_prints_each_and_refuses_the_others(viewer: typer.Typer) -> None:
    runner = CliRunner()
    for name in ("config", "demo", "plan", "replay"):
        assert json.loads(runner.invoke(viewer, ["schema", name]).stdout) == schema_of(name)
    refused = runner.invoke(viewer, ["schema", "snapshot"])
    assert refused.exit_code == 2
    assert "config, demo, plan, replay" in " ".join(refused.output.replace("│", " ").split())


# ------------------------------------------------------------------ docs


def test_the_page_of_reason_codes_is_the_enum() -> None:
    assert (DOCS / "REASONS.md").read_text(encoding="utf-8") == reasons_page(), "run: python -m daemon.cli.docs"
    assert all(f"| `{code.value}` |" in reasons_page() for code in ReasonCode)


def test_every_command_and_option_is_on_the_page_of_commands() -> None:
    page = (DOCS / "COMMANDS.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line for line in page if line.startswith("| `harvestd ")}
    registered = dict(commands(harvestd))
    assert {f"harvestd {name}" for name in registered} == set(rows), "run: python -m daemon.cli.docs"
    for name, command in registered.items():
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
            assert f"`{shown}`" in rows[f"harvestd {name}"], f"{name} {shown}; run: python -m daemon.cli.docs"
