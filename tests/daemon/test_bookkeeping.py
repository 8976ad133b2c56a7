"""What is stored while a history cannot be read, what is told when it can again, and issuers' actions that are learned
late, on their day, or between two lives of the process."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon.bookkeeping import replayed, take_in
from daemon.lots_check import compare, rebuild
from state.lots import Impossible, LedgerPolicy, OversoldError
from state.records import (
    Account,
    AccountType,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Transaction,
    TransactionKind,
)
from state.store import Store

D = Decimal
ACCOUNTS = (Account("main", AccountType.TAXABLE, broker="alpaca"), Account("spouse", AccountType.SPOUSE_TAXABLE))


class Books:
    """A store, its ledger, and days on which something becomes known."""

    def __init__(self, folder: Path, empty_database: Path) -> None:
        self.path = folder / "books.db"
        self.path.write_bytes(empty_database.read_bytes())
        self.store = Store.open(self.path, durable=False)
        self.store.household.put_accounts(ACCOUNTS)
        self.ledger = replayed(self.store, ACCOUNTS, LedgerPolicy())

    def learn(self, day: str, *rows: Transaction, impossible: Impossible = "set_aside") -> None:
        at = datetime.fromisoformat(f"{day}T22:00:00+00:00")
        self.ledger = take_in(self.store, self.ledger, rows, at, impossible=impossible).ledger

    def announce(self, *notices: CorporateNotice) -> None:
        self.store.actions.put(notices, datetime(2026, 1, 5, tzinfo=UTC))

    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.path, durable=False)
        self.ledger = replayed(self.store, ACCOUNTS, LedgerPolicy())

    def gains(self) -> dict[str, tuple[Decimal, Decimal]]:
        """Sale -> recognized and disallowed, as stored."""
        found: dict[str, tuple[Decimal, Decimal]] = {}
        for row in self.store.lots.realized():
            recognized, disallowed = found.get(row.sale_id, (D(0), D(0)))
            found[row.sale_id] = recognized + row.recognized, disallowed + row.disallowed
        return found

    def lots(self) -> dict[tuple[str, str], Decimal]:
        """(account, symbol) -> shares, as stored."""
        found: dict[tuple[str, str], Decimal] = {}
        for lot in self.store.lots.lots():
            key = lot.account_id, lot.symbol
            found[key] = found.get(key, D(0)) + lot.quantity
        return found

    def told(self) -> list[tuple[str, bool]]:
        """Incidents as raised, or recovered (True)."""
        return [(one.key, one.recovered) for one in self.store.alerts.list(1000)]


@pytest.fixture
def books(tmp_path: Path, empty_database: Path) -> Any:
    made = Books(tmp_path, empty_database)
    yield made
    made.store.close()


def row(name: str, kind: str, day: str, quantity: str = "0", price: str = "0", **others: Any) -> Transaction:
    filled = {"account_id": "main", "source": "alpaca", "symbol": "XYZ", **others}
    return Transaction(
        name,
        kind=TransactionKind(kind),
        trade_date=date.fromisoformat(day),
        quantity=D(quantity),
        price=D(price),
        **filled,
    )


def split(day: str, new: int, old: int, symbol: str = "XYZ", name: str = "") -> CorporateNotice:
    ex_date = date.fromisoformat(day)
    action = CorporateAction(name or f"split-{day}", CorporateActionKind.SPLIT, symbol, ex_date, D(new), D(old))
    return CorporateNotice(action.action_id, "forward_split", symbol, ex_date, action)


BOUGHT = row("b", "buy", "2026-01-06", "100", "50")
SOLD = row("s", "sell", "2026-01-20", "60", "40")
OTHER = row("o", "buy", "2026-01-06", "5", "10", symbol="OTH")
BUST = row("b~2", "buy", "2026-01-06", supersedes="b")


# ------------------------------------------------------------------ a history that cannot have happened


def test_what_was_told_stands_while_it_cannot_be_read_and_is_restated_once_it_can(books: Books) -> None:
    """The purchase is busted on Friday and booked again, dearer, on Monday. The loss told on Tuesday before was 600."""
    books.learn("2026-01-20", BOUGHT, SOLD, OTHER)
    assert books.gains() == {"s": (D(-600), D(0))}
    books.learn("2026-01-23", BUST)
    assert books.ledger.position("main", "XYZ") == 0
    assert books.gains() == {"s": (D(-600), D(0))}, "nobody knows a better figure"
    assert books.lots() == {("main", "XYZ"): D(40), ("main", "OTH"): D(5)}
    assert books.store.lots.restatements() == (), "unknown is not zero"
    assert books.told() == [("unreadable:XYZ", False)]
    books.learn("2026-01-26", row("b~3", "buy", "2026-01-06", "100", "52", supersedes="b"))
    assert books.gains() == {"s": (D(-720), D(0))}
    (restated,) = books.store.lots.restatements()
    assert (restated.before.recognized, restated.after.recognized) == (D(-600), D(-720))
    assert restated.causes == ("b~3",)
    assert books.told()[-1] == ("unreadable:XYZ", True)
    assert compare(books.store).differences == ()


def test_a_sale_corrected_while_its_symbol_was_set_aside_is_told_as_corrected(books: Books) -> None:
    """Bust purchase, corrected sale, purchase again: what was told of `s` is now what `s~2` tells, and no zero."""
    books.learn("2026-01-20", BOUGHT, SOLD)
    books.learn("2026-01-23", BUST, row("s~2", "sell", "2026-01-20", "60", "41", supersedes="s"))
    books.learn("2026-01-26", row("b~3", "buy", "2026-01-06", "100", "50", supersedes="b"))
    assert books.gains() == {"s~2": (D(-540), D(0))}
    (restated,) = books.store.lots.restatements()
    assert (restated.sale_id, restated.before.recognized, restated.after.recognized) == ("s", D(-600), D(-540))
    assert compare(books.store).differences == ()


def test_a_corrected_sale_is_told_with_both_prices(books: Books) -> None:
    books.learn("2026-01-20", BOUGHT, SOLD)
    books.learn("2026-01-21", row("s~2", "sell", "2026-01-20", "60", "40.10", supersedes="s"))
    (alert,) = books.store.alerts.list(1000)
    assert "was -600.00 USD, is now -594.00; proceeds were 2,400.00 USD, is now 2,406.00" in alert.message


def test_the_alert_says_what_is_wrong_and_what_to_do(books: Books) -> None:
    books.learn("2026-01-20", SOLD)
    (alert,) = books.store.alerts.list()
    assert "Expected at least that many held, was 0" in alert.message
    assert "harvestd ledger import" in alert.message
    assert "harvestd reconcile adopt XYZ" in alert.message


def test_a_process_that_starts_in_the_middle_of_it_goes_on_the_same(books: Books) -> None:
    books.learn("2026-01-20", BOUGHT, SOLD, OTHER)
    books.learn("2026-01-23", BUST)
    digest = books.ledger.digest()
    books.restart()
    assert books.ledger.digest() == digest
    found = compare(books.store)
    assert found.differences == ()
    assert len(found.unreadable) == 1
    rebuild(books.store, None, datetime(2026, 1, 24, tzinfo=UTC))
    assert books.gains() == {"s": (D(-600), D(0))}, "a rebuild keeps what was told last"
    books.learn("2026-01-26", row("b~3", "buy", "2026-01-06", "100", "52", supersedes="b"))
    assert [each.after.recognized for each in books.store.lots.restatements()] == [D(-720)]


def test_the_others_go_on_meanwhile(books: Books) -> None:
    books.learn("2026-01-20", SOLD, OTHER)
    books.learn("2026-01-21", row("t", "sell", "2026-01-21", "5", "12", symbol="OTH"))
    assert books.gains() == {"t": (D(10), D(0))}


def test_a_sale_that_the_broker_takes_back_while_it_cannot_be_read_is_told_as_gone(books: Books) -> None:
    books.learn("2026-01-20", BOUGHT, SOLD)
    books.learn("2026-01-23", BUST)
    books.learn("2026-01-26", row("s~2", "sell", "2026-01-20", supersedes="s"))
    assert books.gains() == {}
    assert books.lots() == {}
    (restated,) = books.store.lots.restatements()
    assert (restated.before.recognized, restated.after.recognized) == (D(-600), D(0))


def test_a_person_s_rows_are_refused_instead_and_nothing_of_them_is_kept(books: Books) -> None:
    books.learn("2026-01-20", OTHER)
    with pytest.raises(OversoldError):
        books.learn("2026-01-21", row("n", "buy", "2026-01-21", "1", "9", symbol="OTH"), SOLD, impossible="refuse")
    assert books.store.journal.count() == 1
    assert books.lots() == {("main", "OTH"): D(5)}


# ------------------------------------------------------------------ issuers' actions


def test_a_split_announced_ahead_takes_effect_on_its_day_in_new_york(books: Books) -> None:
    books.learn("2026-01-20", BOUGHT)
    books.announce(split("2026-02-02", 2, 1))
    for instant, shares in (("2026-02-01T22:00", 100), ("2026-02-02T04:59", 100), ("2026-02-02T05:00", 200)):
        at = datetime.fromisoformat(f"{instant}:00+00:00")
        books.ledger = take_in(books.store, books.ledger, (), at).ledger
        assert books.lots() == {("main", "XYZ"): D(shares)}, instant
    assert compare(books.store).differences == ()


def test_one_announced_late_restates_what_was_sold_since(books: Books) -> None:
    """100 at 50; on 2 February 2:1; 60 sold at 20 on 3 February were told as a loss of 1,800, and were of 300."""
    sold = row("s", "sell", "2026-02-03", "60", "20")
    books.learn("2026-02-03", BOUGHT, sold)
    assert books.gains() == {"s": (D(-1800), D(0))}
    books.announce(split("2026-02-02", 2, 1))
    books.learn("2026-02-04")
    assert books.gains() == {"s": (D(-300), D(0))}
    assert books.lots() == {("main", "XYZ"): D(140)}
    (restated,) = books.store.lots.restatements()
    assert restated.causes == ("split-2026-02-02",)
    assert compare(books.store).differences == ()


def test_one_that_is_corrected_to_another_ratio_is_applied_anew(books: Books) -> None:
    books.learn("2026-01-20", BOUGHT)
    books.announce(split("2026-02-02", 2, 1, name="one"))
    books.learn("2026-02-02")
    books.announce(split("2026-02-02", 3, 1, name="one"))
    books.learn("2026-02-03")
    assert books.lots() == {("main", "XYZ"): D(300)}
    moved = split("2026-02-09", 3, 1, name="one")
    books.announce(moved)
    books.learn("2026-02-04")
    assert books.lots() == {("main", "XYZ"): D(100)}, "its day has not come"


def test_a_process_that_ends_between_the_announcement_and_the_replay_does_not_miss_it(books: Books) -> None:
    sold = row("s", "sell", "2026-02-03", "60", "20")
    books.learn("2026-02-03", BOUGHT, sold)
    books.announce(split("2026-02-02", 2, 1))
    books.restart()
    assert books.ledger.position("main", "XYZ") == 40, "as it was stored"
    books.learn("2026-02-04")
    assert [each.after.recognized for each in books.store.lots.restatements()] == [D(-300)]


def test_a_purchase_imported_from_before_a_split_makes_the_split_count(books: Books) -> None:
    books.announce(split("2026-02-02", 2, 1))
    books.learn("2026-02-10", OTHER)
    assert books.store.actions.applied() == ()
    spouse = replace(BOUGHT, account_id="spouse", transaction_id="late")
    books.learn("2026-02-11", spouse, impossible="refuse")
    assert books.lots()["spouse", "XYZ"] == 200


def test_looking_again_writes_nothing(books: Books) -> None:
    books.announce(split("2026-01-15", 2, 1))
    books.learn("2026-01-20", BOUGHT, SOLD)
    before = _dump(books.path)
    for day in ("2026-01-20", "2026-01-21", "2026-03-01"):
        books.learn(day)
        books.learn(day, BOUGHT)
    assert _dump(books.path) == before


def test_a_rename_moves_lots_and_loss_and_the_store_follows(books: Books) -> None:
    """XYZ, sold at a loss, becomes NEW; NEW bought within thirty days disallows the loss."""
    books.learn("2026-01-20", BOUGHT, SOLD)
    rename = CorporateAction("nc", CorporateActionKind.SYMBOL_CHANGE, "XYZ", date(2026, 2, 2), to_symbol="NEW")
    books.announce(CorporateNotice("nc", "name_change", "XYZ", rename.ex_date, rename))
    books.learn("2026-02-02")
    assert books.lots() == {("main", "NEW"): D(40)}
    books.learn("2026-02-03", row("n", "buy", "2026-02-03", "60", "41", symbol="NEW", account_id="spouse"))
    assert books.gains() == {"s": (D(0), D(600))}
    assert compare(books.store).differences == ()


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        return list(raw.iterdump())
