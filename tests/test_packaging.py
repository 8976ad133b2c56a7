"""What a stranger's first minutes rest on: the lock files, the README's commands, the licence, the console script."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from daemon.cli.docs import commands
from daemon.cli.main import app

ROOT = Path(__file__).parents[1]
PACKAGES = ("brokers", "daemon", "state", "strategy")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOCKS = ("requirements.lock", "requirements-dev.lock")

PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ ;]+)(?: ; .+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")

WITHOUT_IMPORT = {"skfolio", "tzdata"}  # the demo's prices; time zones where the machine has none
WITH_ANOTHER = {"pydantic-core": "pydantic"}  # one release of the second fixes the first


def pins(lock: str) -> dict[str, str]:
    """Package to version."""
    found = (PIN.match(line) for line in (ROOT / lock).read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] for match in found if match}


def asked_for(requirements: list[str]) -> list[Requirement]:
    return [Requirement(one) for one in requirements]


def setup_commands() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("python3.11 -m venv .venv && ")]


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


# ------------------------------------------------------------------ the lock files


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_nothing_else(lock: str) -> None:
    """No index, no other place to look, no host and no path: nothing but what the hashes decide."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert not line or line.lstrip().startswith("#") or PIN.match(line) or HASH.match(line), line
        assert not re.search(r"http|/|index|find-links|\.com|\.org|file:", line), line
    for line, following in pairwise(lines):
        assert not PIN.match(line) or HASH.match(following), f"{line} has no hash"
        assert not line.endswith("\\") or HASH.match(following), f"expected another hash after {line}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_and_the_build_backend_are_pinned_within_their_range(lock: str) -> None:
    pinned = pins(lock)
    asked = asked_for(PROJECT["dependencies"] + PYPROJECT["build-system"]["requires"])
    if lock == "requirements-dev.lock":
        asked += asked_for(PROJECT["optional-dependencies"]["dev"])
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not in {lock}; run .ci/lock"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} does not allow {pinned[name]}"


def test_what_is_tested_is_what_runs() -> None:
    run, develop = (pins(lock) for lock in LOCKS)
    assert run.items() <= develop.items()
    assert not {"pytest", "mypy", "ruff", "cvxpy"} & run.keys()


def test_the_packages_import_what_is_declared_and_declare_what_they_import() -> None:
    owners = packages_distributions()
    imported = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES)
                for top in tops:
                    assert top in owners, f"{path.relative_to(ROOT)} imports {top}, which nothing installed provides"
                    imported |= {canonicalize_name(one) for one in owners[top]}
    imported = {WITH_ANOTHER.get(name, name) for name in imported}
    declared = {canonicalize_name(one.name) for one in asked_for(PROJECT["dependencies"])}
    assert declared == imported | WITHOUT_IMPORT


# ------------------------------------------------------------------ the README


def test_the_readme_has_two_commands_that_differ_only_in_what_they_are_for() -> None:
    demo, test = setup_commands()
    assert demo.endswith(" && .venv/bin/harvestd demo")
    assert test.endswith(" && .venv/bin/python -m pytest -n 2")
    assert demo.split(" && ")[2:-1] == test.split(" && ")[2:-1]
    for command, lock in ((demo, "requirements.lock"), (test, "requirements-dev.lock")):
        assert f" install -q -r {lock} && " in command
        assert (ROOT / lock).is_file()


def test_every_command_in_the_readme_exists() -> None:
    """`harvestd NAME ...` in a shell block names a command, and every option it shows is one of that command's."""
    known = {name: {option for one in command.params for option in one.opts} for name, command in commands(app)}
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.S))
    shown = re.findall(r"^(?:.* && \S*)?harvestd ([^#\n]+)", blocks, re.M)
    assert len(shown) > 10
    for line in shown:
        name = max((one for one in known if f"{line.strip()} ".startswith(f"{one} ")), key=len, default=None)
        assert name is not None, f"README.md shows `harvestd {line}`; there is no such command"
        for option in re.findall(r"(?<= )--[a-z-]+", line):
            assert option in known[name], f"README.md shows `harvestd {line}`; `{name}` has no {option}"


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_every_link_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_architecture_names_every_module_and_no_other() -> None:
    """Every module, or the package it is in, stands in docs/ARCHITECTURE.md; every module named there exists."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    for path in modules:
        inside = path.relative_to(ROOT).parts[1:]
        assert path.name in page or (len(inside) > 1 and f"`{inside[0]}/" in page.replace("**", "")), path
    for name in re.findall(r"\b([a-z_]+\.py)\b", page):
        assert any(path.name == name for path in [*modules, *(ROOT / "tests").rglob("*.py")]), name


def test_every_command_that_a_message_names_exists() -> None:
    """`harvestd X Y` in backticks, wherever a person reads it: messages, remedies, documents."""
    known = {name for name, _ in commands(app)}
    places = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")] + list(documents())
    found = 0
    for place in places:
        for words in re.findall(r"`harvestd ([a-z][a-z -]*[a-z])", place.read_text(encoding="utf-8")):
            found += 1
            whole = f"{words} "  # a command with what it is given, or a group of commands
            assert any(whole.startswith(f"{one} ") or f"{one} ".startswith(whole) for one in known), f"{place}: {words}"
    assert found > 60


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_a_document_knows_no_machine(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|work|opt|tmp|Users)/|https?://|localhost", text)


# ------------------------------------------------------------------ the distribution


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert PROJECT["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_console_script_leads_to_a_function() -> None:
    assert PROJECT["scripts"].keys() == {"harvestd"}
    module, _, name = PROJECT["scripts"]["harvestd"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_the_version_stands_in_one_place() -> None:
    assert version("harvestd") == PROJECT["version"]
    quoted = re.compile(rf"__version__|[\"']{re.escape(PROJECT['version'])}[\"']")
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not quoted.search(path.read_text(encoding="utf-8")), path


def test_the_example_configuration_is_the_one_that_is_shipped() -> None:
    assert (ROOT / "config.yaml").read_bytes() == (ROOT / "daemon" / "config.yaml").read_bytes()


def test_ci_runs_what_the_readme_prints() -> None:
    """It extracts both commands from README.md; it must not have words of its own for setting up."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    text = script.read_text(encoding="utf-8")
    ends = re.findall(r"readme_command '([^']+)'", text)
    assert len(ends) == 2
    assert all(sum(command.endswith(end) for command in setup_commands()) == 1 for end in ends)
    assert "--no-deps -e" not in text
