"""`harvestd data`: what a person sees of prices, and how they answer what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Staged
from price_source import DAYS, Shop, calendar_of, open_shop, weekdays
from small_house import HISTORY, NAMES
from typer.testing import CliRunner

from daemon.cli import data
from daemon.errors import ConfigurationRefused, NotFound
from daemon.market_data import load_history
from state.records import DailyBar
from state.store import FindingKind, MarketFinding

NOW = datetime(2024, 10, 8, 22, tzinfo=UTC)


def command(*words: object) -> Any:
    """The result of `harvestd data WORDS`."""
    app = typer.Typer()
    data.register(app)
    return CliRunner().invoke(app, ["data", *map(str, words)])


@pytest.fixture
def shop(tmp_path: Path, empty_database: Path) -> Iterator[Shop]:
    """Three names loaded; BBB fell by half in session 190, and AAA has no bar in session 50."""
    made = open_shop(tmp_path, empty_database, ("AAA", "BBB", "CCC"), DAYS[200])
    closes = made.source.closes["BBB"]
    made.source.closes["BBB"] = {day: close / 2 if day >= DAYS[190] else close for day, close in closes.items()}
    made.source.told["AAA", DAYS[50]] = None
    load_history(made.feed, ("AAA", "BBB", "CCC"), DAYS[0])
    yield made
    made.store.close()


def test_status_shows_how_far_prices_reach(shop: Shop) -> None:
    shown = json.loads(command("status", "--db", shop.store.path, "--json").stdout)
    assert shown["newest_session"] == str(DAYS[200])
    assert shown["names"][0] == {
        "symbol": "AAA",
        "first_session": str(DAYS[0]),
        "last_session": str(DAYS[200]),
        "sessions": 200,
        "asked_from": str(DAYS[0]),
        "asked_to": str(DAYS[200]),
        "open_findings": 1,
        "not_traded": "",
    }
    assert shown["names"][1]["not_traded"].startswith("DATA_QUARANTINED: symbol=BBB session=")
    assert shown["names"][2]["open_findings"] == 0
    table = command("status", "--db", shop.store.path).stdout
    assert f"Prices up to {DAYS[200]}" in table
    assert "DATA_QUARANTINED" in table


def test_findings_say_what_is_wrong_and_what_to_do(shop: Shop) -> None:
    shown = json.loads(command("findings", "--db", shop.store.path, "--json").stdout)
    assert [(one["symbol"], one["kind"], one["locks"], one["spoils"]) for one in shown] == [
        ("AAA", "gap", False, False),
        ("BBB", "jump", True, True),
    ]
    table = command("findings", "--db", shop.store.path).stdout
    assert "no bar in this session" in table
    assert "harvestd data accept NAME SESSION --reason TEXT" in table


def test_a_person_takes_a_move_for_right(shop: Shop) -> None:
    answer = command("accept", "bbb", DAYS[190], "--reason", "profit warning", "--db", shop.store.path)
    assert f"BBB {DAYS[190]}: jump ended." in answer.stdout
    [ended] = shop.store.market.findings({FindingKind.JUMP})
    assert ended.resolution.startswith("accepted by ")
    assert ended.resolution.endswith(": profit warning")
    assert max(bar.session for bar in shop.store.market.series("BBB")) == DAYS[200]
    every = command("findings", "--all", "--db", shop.store.path).stdout
    assert "profit warning" in every
    assert "BBB" not in command("findings", "--db", shop.store.path).stdout


def test_accepting_what_is_not_there_says_what_is(shop: Shop) -> None:
    answer = command("accept", "BBB", DAYS[189], "--reason", "x", "--db", shop.store.path)
    assert isinstance(answer.exception, NotFound)
    assert str(answer.exception).endswith(f"was none. Open ones of BBB: {DAYS[190]}.")
    answer = command("accept", "BBB", DAYS[190], "--reason", " ", "--db", shop.store.path)
    assert isinstance(answer.exception, ConfigurationRefused)
    assert shop.open(FindingKind.JUMP), "nothing was ended"


def test_where_nothing_is_wrong_it_says_so(shop: Shop) -> None:
    shop.store.market.resolve(shop.store.market.findings(), "fine", NOW)
    assert command("findings", "--db", shop.store.path).stdout == "No open findings.\n"


def test_without_prices_it_says_how_to_get_them(empty_database: Path) -> None:
    assert command("status", "--db", empty_database).stdout.startswith("No prices yet. `harvestd data load`")
    assert command("findings", "--all", "--db", empty_database).stdout.startswith("Nothing is wrong")


class Quietly:
    """A watcher nobody looks at."""

    def step(self, text: str) -> None: ...

    def progress(self, done: int, total: int, text: str) -> None: ...


def test_a_load_brings_what_is_missing_and_takes_names_anew(staged: Staged) -> None:
    stage = staged(history={"load_years": 3})
    house = stage.house
    house.calendar = calendar_of(weekdays(NOW.date().replace(year=2020, month=1, day=1), 1400))
    market, day = house.store.market, house.history.sessions[40]
    market.remove("AAA", day)
    market.add([DailyBar("AAA", day, stage.close_of("AAA", 0) * 3, stage.close_of("AAA", 0) * 3)])
    market.put_findings([MarketFinding("AAA", day, FindingKind.JUMP, "wrong", NOW)])
    found = data.loaded_for(house, None, ("aaa",), Quietly())
    assert found.bars >= HISTORY
    assert len(market.series("AAA")) == HISTORY
    assert market.findings({FindingKind.JUMP}, only_open=True) == ()
    assert data.loaded_for(house, None, (), Quietly()).bars == 0
    with pytest.raises(NotFound, match="was XYZ"):
        data.loaded_for(house, None, ("XYZ",), Quietly())
    with pytest.raises(ConfigurationRefused, match=r"history\.load_years"):
        data.loaded_for(house, NOW.date().replace(year=2010), (), Quietly())


def test_what_a_constituents_file_is_read_as(tmp_path: Path) -> None:
    path = tmp_path / "etf.csv"
    path.write_text(
        "Fund Holdings as of,2026-11-20\n"
        "Ticker,Name,Asset Class,Weight (%)\n"
        + "".join(f"{name},{name} Inc.,Equity,9.9\n" for name in NAMES)
        + "USD,Dollars,Cash,1.0\n"
    )
    shown = command("constituents", path).stdout.replace("\n", " ")
    assert "layout iShares, as of 2026-11-20, 10 names, 0 with a sector." in shown
    assert "Left out: 1 lines, 1.000 %: Cash" in shown
    found = json.loads(command("constituents", path, "--json").stdout)
    assert found["source_layout"] == "iShares"
    assert found["weights"][:2] == ["0.1", "0.1"]
    assert found["left_out"] == [{"line": 13, "symbol": "USD", "name": "Dollars", "why": "Cash", "weight": "0.01"}]
