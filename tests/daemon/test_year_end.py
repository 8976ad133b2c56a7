"""The story of a year's end: a loss taken in December, told as provisional; in January the IRA buys the same stock; the
December figure is corrected, and the user is told which, by how much and why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import harvestd

from daemon.bookkeeping import take_in
from state.lots import Ledger
from state.records import Account, AccountType, Transaction, TransactionKind
from state.store import PerformanceRow, Store

D = Decimal
ACCOUNTS = (
    Account("main", AccountType.TAXABLE, broker="simulated", history_complete_since=date(2025, 1, 2)),
    Account("ira", AccountType.IRA, history_complete_since=date(2025, 1, 2)),
    Account("spouse", AccountType.SPOUSE_TAXABLE, history_complete_since=date(2025, 1, 2)),
)


class Household:
    """A database on disk, and days on which something becomes known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store.open(path, create=True, durable=False)
        self.store.household.put_accounts(ACCOUNTS)
        self.ledger = Ledger.replay(ACCOUNTS, ())

    def learns(self, day: date, *rows: Transaction) -> None:
        """What happened, learned that evening; then the day's figures are written."""
        at = datetime(day.year, day.month, day.day, 22, tzinfo=UTC)
        self.ledger = take_in(self.store, self.ledger, rows, at).ledger
        row = PerformanceRow("main", day, D(9000), D(0), D(0), D(9000), 90.0, "", D(0), D(0))
        self.store.performance.put(row)

    def year(self, name: str) -> dict[str, object]:
        """That year of `report performance --json`."""
        outcome = harvestd("report", "performance", "--db", self.path, "--json")
        assert outcome.code == 0, outcome.err
        (account,) = json.loads(outcome.out)["accounts"]
        return next(one for one in account["periods"] if one["period"] == name)

    def restated(self) -> list[dict[str, Any]]:
        """The restatements of `report performance --json`."""
        report = json.loads(harvestd("report", "performance", "--db", self.path, "--json").out)
        assert all("restated" not in account for account in report["accounts"]), "they are the household's"
        found: list[dict[str, Any]] = report["restated"]
        return found

    def page(self) -> str:
        """What `report performance` prints, in one line."""
        return " ".join(harvestd("report", "performance", "--db", self.path).out.split())

    def alerts(self) -> list[str]:
        """Messages of `alerts --json`."""
        return [one["message"] for one in json.loads(harvestd("alerts", "--db", self.path, "--json").out)["alerts"]]


def trade(name: str, kind: TransactionKind, day: date, quantity: int, price: int, account: str = "main") -> Transaction:
    return Transaction(name, account, kind, day, "test", "XYZ", D(quantity), D(price))


@pytest.fixture
def household(tmp_path: Path) -> Household:
    """100 XYZ bought at 50 in May 2025 and sold at 40 on 15 December."""
    made = Household(tmp_path / "household.db")
    made.learns(date(2025, 5, 5), trade("bought", TransactionKind.BUY, date(2025, 5, 5), 100, 50))
    made.learns(date(2025, 12, 15), trade("sold", TransactionKind.SELL, date(2025, 12, 15), 100, 40))
    made.learns(date(2025, 12, 31))
    return made


def test_a_december_loss_is_provisional_then_corrected_and_the_user_is_told(household: Household) -> None:
    before = household.year("2025")
    assert (before["net_losses_usd"], before["disallowed_usd"]) == ("1000", "0")
    assert (before["provisional_losses_usd"], before["provisional_until"]) == ("1000", "2026-01-14")
    assert "a purchase in any account of the household until 2026-01-14 can still disallow it" in household.page()
    assert household.restated() == [] == household.alerts()

    bought = trade("ira-bought", TransactionKind.BUY, date(2026, 1, 9), 40, 41, account="ira")
    household.learns(date(2026, 1, 12), bought)

    after = household.year("2025")
    assert (after["net_losses_usd"], after["disallowed_usd"], after["disallowed_for_good_usd"]) == ("600", "400", "400")
    assert (after["provisional_losses_usd"], after["provisional_until"]) == ("600", "2026-01-14")
    (restated,) = household.restated()
    assert (restated["learned"], restated["disposed"], restated["symbol"]) == ("2026-01-12", "2025-12-15", "XYZ")
    assert (restated["told_usd"], restated["now_usd"]) == ("-1000", "-600")
    assert (restated["disallowed_told_usd"], restated["disallowed_now_usd"]) == ("0", "400")
    assert (restated["account_id"], restated["short_term_told_usd"], restated["short_term_now_usd"]) == (
        "main",
        "-1000",
        "-600",
    )
    assert restated["long_term_told_usd"] == restated["long_term_now_usd"] == "0"
    assert restated["causes"] == ["ira-bought"]
    (told,) = household.alerts()
    assert told == restated["explanation"]
    assert "XYZ sold 2025-12-15 in main" in told
    assert "was -1,000.00 USD, is now -600.00" in told
    assert "40 shares bought 2026-01-09 in ira (lost for good)" in told

    household.learns(date(2026, 1, 15))
    last = household.year("2025")
    assert (last["net_losses_usd"], last["provisional_losses_usd"], last["provisional_until"]) == ("600", "0", None)
    page = household.page()
    assert "Provisional:" not in page
    assert page.count("Restated, in any account of the household") == 1
    listed = page.partition("2026-01-12 XYZ sold 2025-12-15 in main: ")[2]
    assert "was -1,000.00 USD, is now -600.00" in listed
    assert "40 shares bought 2026-01-09 in ira (lost for good)" in listed
    assert harvestd("ledger", "verify", "--db", household.path).code == 0


def test_a_purchase_taken_back_gives_the_loss_back_and_that_is_told_too(household: Household) -> None:
    bought = trade("ira-bought", TransactionKind.BUY, date(2026, 1, 9), 40, 41, account="ira")
    household.learns(date(2026, 1, 12), bought)
    bust = Transaction("ira-bust", "ira", TransactionKind.BUY, date(2026, 1, 9), "test", "XYZ", supersedes="ira-bought")
    household.learns(date(2026, 1, 13), bust)
    assert household.year("2025")["net_losses_usd"] == "1000"
    assert [(one["told_usd"], one["now_usd"]) for one in household.restated()] == [
        ("-1000", "-600"),
        ("-600", "-1000"),
    ]
    assert len(household.alerts()) == 2
    assert harvestd("ledger", "verify", "--db", household.path).code == 0


def test_what_was_known_when_it_was_told_is_no_correction(tmp_path: Path) -> None:
    """The purchase came first, and the loss was told as disallowed from the first day."""
    made = Household(tmp_path / "household.db")
    made.learns(date(2025, 5, 5), trade("bought", TransactionKind.BUY, date(2025, 5, 5), 100, 50))
    made.learns(date(2025, 12, 1), trade("ira-bought", TransactionKind.BUY, date(2025, 12, 1), 40, 41, account="ira"))
    made.learns(date(2025, 12, 15), trade("sold", TransactionKind.SELL, date(2025, 12, 15), 100, 40))
    assert made.year("2025")["net_losses_usd"] == "600"
    assert made.restated() == []


def test_a_holding_period_put_right_restates_the_term_although_the_loss_is_the_same(household: Household) -> None:
    """The hundred were bought a year earlier than the first import said."""
    earlier = trade("bought-earlier", TransactionKind.BUY, date(2024, 5, 5), 100, 50)
    household.learns(date(2026, 1, 20), replace(earlier, supersedes="bought"))
    (restated,) = household.restated()
    assert (restated["told_usd"], restated["now_usd"]) == ("-1000", "-1000")
    assert (restated["short_term_told_usd"], restated["short_term_now_usd"]) == ("-1000", "0")
    assert (restated["long_term_told_usd"], restated["long_term_now_usd"]) == ("0", "-1000")
    listed = household.page().partition("2026-01-20 XYZ sold 2025-12-15 in main: ")[2]
    assert "short-term gain or loss after disallowance was -1,000.00 USD, is now 0.00" in listed
    assert "long-term gain or loss after disallowance was 0.00 USD, is now -1,000.00" in listed
    assert "Learned from: bought-earlier." in listed


def test_what_is_restated_in_a_spouses_account_is_listed_too_however_many(household: Household) -> None:
    """Twenty-five of her losses are washed by purchases of ours; the alerts name twenty and send people here."""
    names = [f"N{number:02d}" for number in range(25)]
    told: dict[str, list[Transaction]] = {"bought": [], "sold": [], "ours": []}
    for name in names:
        for what, account, kind, day, price in (
            ("bought", "spouse", TransactionKind.BUY, date(2025, 5, 5), 50),
            ("sold", "spouse", TransactionKind.SELL, date(2025, 12, 15), 40),
            ("ours", "main", TransactionKind.BUY, date(2025, 12, 18), 41),
        ):
            told[what].append(Transaction(f"{what}-{name}", account, kind, day, "test", name, D(10), D(price)))
    household.learns(date(2026, 1, 5), *told["bought"], *told["sold"])
    household.learns(date(2026, 1, 6), *told["ours"])
    assert "`harvestd report performance` lists them" in household.alerts()[-1]
    restated = household.restated()
    assert {one["account_id"] for one in restated} == {"spouse"}
    assert [one["symbol"] for one in restated] == names
    page = household.page()
    assert all(f"2026-01-06 {name} sold 2025-12-15 in spouse: " in page for name in names)


def test_a_large_import_is_summed_up_not_told_a_hundred_times(tmp_path: Path) -> None:
    made = Household(tmp_path / "household.db")
    names = [f"N{number:02d}" for number in range(30)]
    for kind, day, price in (
        (TransactionKind.BUY, date(2025, 5, 5), 50),
        (TransactionKind.SELL, date(2025, 12, 15), 40),
    ):
        made.learns(
            day,
            *(Transaction(f"{kind.value}-{name}", "main", kind, day, "test", name, D(10), D(price)) for name in names),
        )
    late = date(2025, 12, 20)
    made.learns(
        date(2026, 1, 12),
        *(Transaction(f"ira-{name}", "ira", TransactionKind.BUY, late, "test", name, D(10), D(41)) for name in names),
    )
    assert len(made.restated()) == 30
    told = made.alerts()
    assert len(told) == 21
    assert "10 more sales" in told[-1]
    assert "change by +1,000.00 USD" in told[-1]
