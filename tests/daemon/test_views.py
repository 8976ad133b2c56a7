"""What the commands that only look show of a small household. `views_household.py` tells its story."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner
from views_household import ABOVE, AS_OF, CLOSES, HARVEST, LOCK, NOW, STUCK, WAITING, household

from daemon import figures
from daemon.cli import views
from daemon.errors import HarvestdError, NotFound
from daemon.halt import halt, halt_file
from state.records import Transaction, TransactionKind
from state.store import NotADatabase, Store
from strategy.scan import blocked_losses

Run = Callable[..., str]

READERS = (
    ("status",),
    ("positions",),
    ("lots",),
    ("orders",),
    ("plans",),
    ("plans", "show", HARVEST),
    ("wash-calendar",),
    ("alerts",),
    ("report", "performance"),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return household(tmp_path_factory.mktemp("house") / "h.db")


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    views.register(made)
    return made


@pytest.fixture
def run(app: typer.Typer, database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command on the household's database; raises what it raises. Far from any config.yaml."""
    monkeypatch.chdir(tmp_path)

    def go(*words: str, db: Path = database) -> str:
        result = CliRunner().invoke(app, [*words, "--db", str(db)])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return go


@pytest.fixture
def read(run: Run) -> Callable[..., Any]:
    return lambda *words, **where: json.loads(run(*words, "--json", **where))


def line(text: str, start: str) -> str:
    """The first line that begins with `start`."""
    return next(one.strip() for one in text.splitlines() if one.strip().startswith(start))


def cells(text: str, start: str) -> list[str]:
    return line(text, start).split()


# ------------------------------------------------------------------ every one of them


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_every_view_says_as_of_when_and_writes_nothing(
    words: tuple[str, ...], run: Run, read: Any, database: Path
) -> None:
    before = database.read_bytes()
    assert run(*words)
    found = read(*words)
    assert "plan" in found if words[:2] == ("plans", "show") else found["as_of"] == "2026-06-30"
    assert database.read_bytes() == before


def test_a_database_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotADatabase, match=r"none\.db"):
        run("status", db=tmp_path / "none.db")


def test_text_from_outside_is_never_read_as_markup(run: Run) -> None:
    assert "[at a loss]" in run("alerts")
    assert "stands in [for] PEP" in " ".join(run("plans", "show", HARVEST).split())


def test_a_narrow_terminal_never_cuts_a_figure_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setattr("daemon.cli.common.console", lambda: Console(width=50, highlight=False))
    text = run("lots", "--account", "main") + run("plans", "show", HARVEST) + run("report", "performance")
    assert "…" not in text
    for figure in ("2025-06-02", "6,000.00", "-3,000.00", "100.00 %", "25,000"):
        assert figure in text


# ------------------------------------------------------------------ status


def test_status_says_where_things_stand(run: Run) -> None:
    text = run("status")
    assert "as of the close of 2026-06-30" in text
    assert line(text, "mode").endswith("demo")
    assert "55,000.00 USD, of it 1,234.50 in cash" in text
    assert "26,000.00 USD with the same deposits" in text
    assert "183 bp a year expected, limit 400" in text
    assert line(text, "open orders").endswith("1, 1 of them of unknown fate")
    assert line(text, "next session").endswith("2026-07-01, the next weekday, unless the exchange has a holiday")


def test_status_reports_the_loss_that_wash_sales_leave(run: Run, read: Any) -> None:
    """3,000 realized; 40 of the 100 shares came back in the IRA: 1,200 gone for good, 1,800 not yet certain."""
    text = run("status")
    assert line(text, "realized").endswith("3,000.00 USD")
    assert "1,200.00 USD by wash sales, of it 1,200.00 for good" in text
    assert ["net", "1,800.00", "USD"] in [one.split() for one in text.splitlines()]
    assert "1,800.00 USD of the net; a purchase until 2026-07-10 can still disallow it" in text
    assert "over accounts main, ira, spouse; history complete since 2025-01-02" in text
    losses = read("status")["losses"]
    assert (losses["net_losses_usd"], losses["provisional_until"]) == ("1800", "2026-07-10")
    assert losses["all_clear"] is True


def test_status_sums_losses_as_the_figures_do(read: Any, database: Path) -> None:
    store = Store.open(database, read_only=True)
    expected = figures.losses(store.lots.realized("main", date(2026, 1, 1), AS_OF))
    store.close()
    losses = read("status")["losses"]
    assert Decimal(losses["losses_realized_usd"]) == expected.realized
    assert Decimal(losses["disallowed_usd"]) == expected.disallowed
    assert Decimal(losses["net_losses_usd"]) == expected.net


def test_an_unknown_history_is_never_an_all_clear(run: Run, read: Any, tmp_path: Path) -> None:
    other = household(tmp_path / "unknown.db", ira_since=None)
    for words in (("status",), ("wash-calendar",), ("report", "performance")):
        text = " ".join(run(*words, db=other).split())
        assert "no all-clear: the history of ira is not known to be complete" in text
    assert read("status", db=other)["losses"]["all_clear"] is False
    assert read("wash-calendar", db=other)["all_clear"] is False


def test_a_history_that_begins_inside_the_window_is_not_complete_either(run: Run, tmp_path: Path) -> None:
    """The loss of 10 June reaches back to 11 May; the IRA is known from 1 June."""
    text = run("status", db=household(tmp_path / "late.db", ira_since=date(2026, 6, 1)))
    assert "the history of ira is known only since 2026-06-01, and this needs it from 2026-05-11" in text


def test_status_names_what_waits_what_is_locked_and_what_is_wrong(run: Run, read: Any, database: Path) -> None:
    text = run("status")
    assert f"harvestd plans approve {WAITING} --db {database}" in line(text, "waits for you")
    assert f"PEP in main: {LOCK}" in text
    assert f"KO in main: the fate of order hv-{STUCK}-1-0 is unknown" in text
    found = read("status")
    assert [alert["key"] for alert in found["alerts_open"]] == ["reconcile:main:PEP"]  # harvests and recoveries are not


def test_status_says_when_trading_is_halted(run: Run, read: Any, database: Path) -> None:
    halt(database, "a test", NOW)
    try:
        assert "HALTED: 2026-06-30T20:10:00+00:00 a test" in run("status")
        assert read("status")["halted"] is True
    finally:
        halt_file(database).unlink()
    assert read("status")["halted"] is False


def test_status_loads_nothing_heavy(database: Path) -> None:
    """0.7 s leave no room for numerics, tables, the exchange calendar or a replay of the ledger."""
    heavy = ("numpy", "pandas", "scipy", "exchange_calendars", "state.lots", "strategy", "rich", "alembic", "keyring")
    program = (
        "import sys\nfrom daemon.cli.main import app\n"
        f"app(['status', '--db', {str(database)!r}], standalone_mode=False)\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert line(found.stdout, "loaded:") == "loaded: []"


# ------------------------------------------------------------------ positions and lots


def test_positions_stand_beside_the_benchmark_with_their_lock(run: Run, read: Any) -> None:
    text = run("positions")
    assert LOCK in " ".join(text.split())
    found = {one["account_id"]: one for one in read("positions")["accounts"]}
    coke = found["main"]["positions"][0]
    assert (coke["symbol"], coke["quantity"], coke["value_usd"], coke["unrealized_usd"]) == (
        "KO",
        "150",
        "10500",
        "500",
    )
    assert coke["benchmark_weight_pct"] == 25.0
    weights = sum(one["weight_pct"] for one in found["main"]["positions"])
    cash = Decimal(found["main"]["cash_usd"]) / Decimal(found["main"]["value_usd"]) * 100
    assert weights + float(cash) == pytest.approx(100, abs=0.02)
    assert found["ira"]["quantities_from"] == "lots"
    assert found["ira"]["positions"][0]["quantity"] == "40"


def test_lots_come_in_disposal_order_and_mark_the_loss_behind_a_gain(run: Run, read: Any) -> None:
    text = run("lots", "--account", "main", "--symbol", "ko")
    assert cells(text, "KO") == ["KO", "1", "2025-06-02", "393", "LT", "100", "60.00", "6,000.00", "70.00", "1,000.00"]
    assert cells(text, "2 ") == ["2", "2026-03-02", "120", "ST", "50", "80.00", "4,000.00", "70.00", "-500.00", "*"]
    assert "losses 500.00 USD, of them out of reach behind gains 500.00" in text
    totals = read("lots", "--account", "main")["totals"]
    assert (totals["lots"], totals["losses_behind_gains_usd"]) == (3, "500")


def test_losses_out_of_reach_are_those_the_scan_sees(read: Any, database: Path) -> None:
    store = Store.open(database, read_only=True)
    queues = {name: store.lots.lots("main", name) for name in CLOSES}
    store.close()
    blocked = sum(item.loss_usd for item in blocked_losses(queues, CLOSES))
    assert Decimal(read("lots", "--account", "main")["totals"]["losses_behind_gains_usd"]) == blocked


def test_lots_of_an_ira_have_no_term(run: Run, read: Any) -> None:
    assert "not taxed" in run("lots", "--account", "ira")
    assert read("lots", "--account", "ira")["queues"][0]["lots"][0]["term_if_sold_next"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lots", "--symbol", "XYZ"), "No open lot of XYZ in main, ira, spouse. Held: KO, MRK, PEP."),
        (("lots", "--account", "mine"), "No account mine. Known: main, ira, spouse."),
        (("plans", "show", "p9"), "No plan p9."),
    ],
)
def test_what_does_not_exist_is_said_with_what_does(run: Run, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotFound, match=said):
        run(*words)


# ------------------------------------------------------------------ orders and plans


def test_orders_show_planned_sent_filled_and_the_average_price(run: Run, read: Any) -> None:
    """40 shares at 119 and 60 at 121 average 120.20."""
    text = run("orders")
    assert "100 100 100 120.2000" in " ".join(text.split())
    assert "101 101 100 ORDER_DEADLINE: session=2026-06-10" in " ".join(text.split())
    assert [one["state"] for one in read("orders")["orders"]] == ["filled", "cancelled", "unknown"]


def test_orders_can_be_narrowed(run: Run, read: Any) -> None:
    assert [one["state"] for one in read("orders", "--open")["orders"]] == ["unknown"]
    assert len(read("orders", "--session", "2026-06-10")["orders"]) == 2
    assert "the newest 1 of 3 orders; --most 0 shows all" in run("orders", "--most", "1")
    assert "No orders of session 2020-01-02" in run("orders", "--session", "2020-01-02")


def test_plans_are_listed_with_what_waits(run: Run, read: Any, database: Path) -> None:
    text = run("plans")
    assert cells(text, HARVEST) == f"{HARVEST} done 2 23,918 -3,000 140 183 harvest PEP".split()
    assert f"{WAITING} waits for you: harvestd plans approve {WAITING} --db {database}" in text
    assert [plan["plan_id"] for plan in read("plans", "--open")["plans"]] == [STUCK, WAITING]


def test_a_plan_is_shown_lot_by_lot_with_its_history(run: Run, read: Any) -> None:
    text = " ".join(run("plans", "show", HARVEST).split())
    assert f"Plan {HARVEST} is done" in text
    assert "sell PEP 100 100 120.00 12,000 -3,000.00 0.00 1.20 +38.5 harvest -> MRK: loss 20 % of basis" in text
    assert "2026-01-15 100 ST -3,000.00 0.00" in text
    assert "0 2026-06-10 19:40 approved 2026-06-10 19:42 ann" in text
    assert "MRK 0.00 21.60 +21.60 21.40" in text
    assert "KO 25.00" not in text  # its weight does not change
    found = read("plans", "show", HARVEST)
    assert (found["gain_loss_usd"], found["filled"]) == ("-3000", {"1": "100", "2": "100"})


def test_a_waiting_plan_says_how_to_answer(run: Run, database: Path) -> None:
    text = run("plans", "show", WAITING)
    assert f"harvestd plans approve {WAITING} --db {database}" in text
    assert f"harvestd plans reject {WAITING} --db {database}" in text


# ------------------------------------------------------------------ calendar, alerts, performance


def test_the_wash_calendar_lists_both_sides_with_date_and_cause(run: Run, read: Any) -> None:
    """60 PEP of the harvest are still open: no PEP until 10 July. MRK has no other lot, so it may be sold."""
    found = read("wash-calendar")
    buy = found["do_not_buy"]
    assert [(one["symbols"], one["free_from"], one["account_id"]) for one in buy] == [(["PEP"], "2026-07-11", "main")]
    assert found["do_not_sell_at_a_loss"] == []
    text = run("wash-calendar")
    assert "PEP 2026-07-10 main 60 PEP sold on 2026-06-10 in account main at a loss" in " ".join(text.split())
    assert "1 open orders are not in it until they fill" in text
    assert "wash_sales.conventions" not in text
    assert found["conventions"] == {}


def test_the_wash_calendar_is_read_from_the_top_group_by_group(run: Run, tmp_path: Path) -> None:
    """The spouse takes losses too: KO on 25 June, through 25 July, and PEP on 29 June, through 29 July.

    KO is free first and comes first. Beside PEP stands 29 July, though one of its causes ends on 10 July.
    """
    path = household(tmp_path / "more.db")
    _add(path, ("o1", "buy", "2025-03-03", "PEP", "20", "150"), ("o2", "sell", "2026-06-29", "PEP", "3", "120"))
    _add(path, ("o3", "sell", "2026-06-25", "KO", "5", "60"))
    text = run("wash-calendar", db=path)
    rows = [one.split() for one in text[text.index("Do not buy") :].splitlines() if "2026-" in one]
    assert [one[:4] for one in rows] == [
        ["KO", "2026-07-25", "spouse", "5"],
        ["PEP", "2026-07-29", "spouse", "3"],
        ["2026-07-10", "main", "60", "PEP"],
    ]


def _add(path: Path, *trades: tuple[str, str, str, str, str, str]) -> None:
    """More trades of the spouse: id, kind, day, symbol, quantity, price."""
    store = Store.open(path)
    rows = [
        Transaction(
            transaction_id=name,
            account_id="spouse",
            kind=TransactionKind(kind),
            trade_date=date.fromisoformat(day),
            source="test",
            symbol=symbol,
            quantity=Decimal(quantity),
            price=Decimal(price),
        )
        for name, kind, day, symbol, quantity, price in trades
    ]
    store.journal.append(rows, NOW)
    store.close()


def test_the_wash_calendar_names_conventions_that_are_not_the_default(run: Run, read: Any, tmp_path: Path) -> None:
    path = household(tmp_path / "other.db")
    store = Store.open(path)
    stored = json.loads(store.meta.get("settings") or "")
    stored["wash_sales"]["conventions"]["tacking"] = "additive"
    store.meta.put("settings", json.dumps(stored))
    store.close()
    assert "Counted with wash_sales.conventions.tacking: additive." in run("wash-calendar", db=path)
    assert read("wash-calendar", db=path)["conventions"] == {"tacking": "additive"}


def exported(app: typer.Typer, database: Path) -> str:
    """What `--ics -` prints, its line ends as they are."""
    result = CliRunner().invoke(app, ["wash-calendar", "--db", str(database), "--ics", "-"])
    assert result.exit_code == 0
    return result.stdout_bytes.decode()


def test_the_wash_calendar_is_an_icalendar_file_too(app: typer.Typer, database: Path, run: Run, tmp_path: Path) -> None:
    """`test_wash_calendar_file.py` reads such a file line by line; here: that the command gives the household's."""
    printed = exported(app, database)
    assert printed.startswith("BEGIN:VCALENDAR\r\n")
    assert "SUMMARY:Do not buy PEP (wash sale)\r\nDESCRIPTION:60 PEP sold" in printed
    assert "DTSTART;VALUE=DATE:20260610\r\nDTEND;VALUE=DATE:20260711\r\n" in printed
    path = tmp_path / "wash.ics"
    told = run("wash-calendar", "--ics", str(path))
    assert " ".join(told.split()).startswith(f"Wrote {path}: 1 entries as of 2026-06-30, over accounts main, ira")
    stamp = re.compile(r"DTSTAMP:.*")
    assert stamp.sub("", path.read_bytes().decode()) == stamp.sub("", printed)


def test_an_icalendar_file_is_never_a_false_all_clear(app: typer.Typer, tmp_path: Path) -> None:
    printed = exported(app, household(tmp_path / "unknown.db", ira_since=None)).replace("\r\n ", "")
    assert "SUMMARY:Wash sales: no all-clear" in printed
    assert printed.count("the history of ira is not known to be complete") == 4  # calendar twice, note, entry


def test_a_calendar_is_printed_one_way_and_replaces_nothing_else(
    app: typer.Typer, database: Path, tmp_path: Path
) -> None:
    both = CliRunner().invoke(app, ["wash-calendar", "--db", str(database), "--ics", "-", "--json"])
    assert both.exit_code == 2
    before = database.read_bytes()
    over = CliRunner().invoke(app, ["wash-calendar", "--db", str(database), "--ics", str(database)])
    assert isinstance(over.exception, HarvestdError)
    assert "expected an iCalendar file to replace" in str(over.exception)
    assert database.read_bytes() == before


def test_the_wash_calendar_of_an_earlier_day_knows_nothing_later(read: Any) -> None:
    found = read("wash-calendar", "--as-of", "2026-03-10")
    assert found["do_not_buy"] == []
    assert [one["symbols"] for one in found["do_not_sell_at_a_loss"]] == [["KO"]]


def test_the_wash_calendar_follows_the_users_own_idea_of_identical(read: Any, tmp_path: Path) -> None:
    found = read("wash-calendar", db=household(tmp_path / "groups.db", groups=(("KO", "PEP"),)))
    assert [one["symbols"] for one in found["do_not_buy"]] == [["KO", "PEP"]]


def test_alerts_are_the_newest_and_say_what_recovered(run: Run, read: Any) -> None:
    assert "recovered" in line(run("alerts", "--most", "2"), "2026-06-30")
    assert [one["key"] for one in read("alerts", "--most", "1")["alerts"]] == ["reconcile:main:PEP"]


def test_performance_by_year_starts_from_the_close_before(read: Any) -> None:
    """2025 doubles; 2026 gains 10 % on the close of 31 December, the benchmark 4 %."""
    account = read("report", "performance")["accounts"][0]
    years = {one["period"]: one for one in account["periods"]}
    assert list(years) == ["2025", "2026", "all"]
    shown = ("return_pct", "benchmark_return_pct", "active_return_pct")
    assert [years["2025"][key] for key in shown] == [100.0, 0.0, 100.0]
    assert [years["2026"][key] for key in shown] == [10.0, 4.0, 6.0]
    assert [years["all"][key] for key in shown] == [120.0, 4.0, 116.0]
    assert years["all"]["deposits_usd"] == "25000"
    assert (years["2026"]["losses_realized_usd"], years["2026"]["net_losses_usd"]) == ("3000", "1800")
    assert account["days_above_limit"] == [{"session": "2026-06-29", "tracking_error_bps": 412.0, "reason": ABOVE}]


def test_performance_draws_each_quarter_and_explains_days_above_the_limit(run: Run) -> None:
    text = run("report", "performance")
    assert line(text, "2025 Q4").endswith("│" + "█" * 24)
    assert line(text, "2026 Q1").count("█") == 1  # 6 % beside 100 %
    assert "2026-06-29 412 prices moved after the decision" in " ".join(text.split())
    assert "Losses of main, USD before tax" in text
    assert "Disallowed: by wash sales over accounts main, ira, spouse" in text


def test_a_bar_points_left_for_a_loss() -> None:
    from daemon.cli.views.performance import bar

    assert bar(-1.0, 2.0) == " " * 12 + "█" * 12 + "│"
    assert bar(0.5, 1.0) == " " * 24 + "│" + "█" * 12
