"""The wash-sale calendar: what not to buy, what not to sell at a loss, until when, and why."""

from __future__ import annotations

from datetime import date

import pytest
from lots_household import replay, row, short

from state.lots import CalendarEntry, LedgerPolicy, wash_calendar, what_if
from state.records import Transaction

OLD = row("old", "buy", "2024-01-08", "100", "50")
LOSS = row("loss", "sell", "2025-06-02", "60", "40")
LATER = date(2025, 6, 16)


def no_buy(*rows: Transaction, on: date = LATER, **options: str) -> tuple[CalendarEntry, ...]:
    return wash_calendar(replay(*rows), on, **options).do_not_buy  # type: ignore[arg-type]


def no_loss_sale(*rows: Transaction, on: date = LATER) -> tuple[CalendarEntry, ...]:
    return wash_calendar(replay(*rows), on).do_not_sell_at_a_loss


def test_after_a_loss_the_symbol_is_not_bought_through_day_thirty() -> None:
    (entry,) = no_buy(OLD, LOSS)
    assert (entry.symbols, entry.until, short(entry.quantity)) == ({"X"}, date(2025, 7, 2), "60")
    assert (entry.account_id, entry.cause_id, entry.cause_date) == ("mine", "loss", date(2025, 6, 2))
    assert entry.reason == (
        "60 X sold on 2025-06-02 in account mine at a loss (a loss of $600.00 still open); buying X in any account of "
        "the household until 2025-07-02 would disallow it."
    )


@pytest.mark.parametrize(("day", "listed"), [("2025-07-02", 1), ("2025-07-03", 0)])
def test_the_last_day_is_inclusive(day: str, listed: int) -> None:
    assert len(no_buy(OLD, LOSS, on=date.fromisoformat(day))) == listed


def test_shares_already_replaced_block_nothing_more() -> None:
    assert short(no_buy(OLD, LOSS, row("b", "buy", "2025-06-05", "20", "41"))[0].quantity) == "40"
    assert no_buy(OLD, LOSS, row("b", "buy", "2025-06-05", "70", "41")) == ()


def test_gains_block_nothing_unless_the_user_wants_it() -> None:
    gain = row("gain", "sell", "2025-06-02", "60", "70")
    assert no_buy(OLD, gain) == ()
    (entry,) = no_buy(OLD, gain, block_rebuy_after="any_sale")
    assert (entry.until, short(entry.quantity)) == (date(2025, 7, 2), "60")
    assert len(no_buy(OLD, LOSS, block_rebuy_after="any_sale")) == 1, "a loss is listed once"


def test_a_sale_of_unknown_basis_counts_as_a_loss() -> None:
    unknown = row("o", "opening_lot", "2025-01-06", "60", "0", acquired=date(2020, 1, 6))
    (entry,) = no_buy(unknown, row("s", "sell", "2025-06-02", "60", "40"))
    assert entry.cause_id == "s"
    assert "unless its basis is found" in entry.reason


def test_sales_inside_an_ira_block_nothing() -> None:
    bought = row("i", "buy", "2024-01-08", "60", "50", account="ira")
    assert no_buy(bought, row("s", "sell", "2025-06-02", "60", "40", account="ira")) == ()


def test_everything_identical_is_listed_with_the_symbol() -> None:
    policy = LedgerPolicy(identical_groups=(frozenset({"X", "Y"}),))
    (entry,) = wash_calendar(replay(OLD, LOSS, policy=policy), LATER).do_not_buy
    assert entry.symbols == {"X", "Y"}
    assert "buying X or Y" in entry.reason


@pytest.mark.parametrize("account", ["mine", "spouse", "ira"])
def test_a_recent_purchase_anywhere_forbids_selling_older_lots_at_a_loss(account: str) -> None:
    (entry,) = no_loss_sale(OLD, row("b", "buy", "2025-06-10", "20", "45", account=account))
    assert (entry.symbols, entry.until, short(entry.quantity)) == ({"X"}, date(2025, 7, 10), "20")
    assert (entry.account_id, entry.cause_id) == (account, "b")
    assert "20 X bought on 2025-06-10 in account" in entry.reason


def test_a_lot_alone_may_be_sold_at_a_loss() -> None:
    """Rev. Rul. 56-602. The list agrees with the what-if: nothing would be disallowed."""
    alone = row("b", "buy", "2025-06-10", "20", "45")
    assert no_loss_sale(alone) == ()
    assert what_if(replay(alone), [row("s", "sell", "2025-06-16", "10", "30")]).disallowed == 0


def test_two_recent_lots_forbid_each_other() -> None:
    entries = no_loss_sale(row("b1", "buy", "2025-06-09", "20", "45"), row("b2", "buy", "2025-06-10", "20", "45"))
    assert [entry.cause_id for entry in entries] == ["b1", "b2"]


def test_shares_sold_again_or_used_as_replacement_forbid_nothing() -> None:
    bought = row("b", "buy", "2025-06-10", "20", "45")
    assert no_loss_sale(OLD, bought, row("s", "sell", "2025-06-12", "20", "50", lots=[("b", "20")])) == ()
    assert no_loss_sale(OLD, LOSS, bought) == ()


def test_inherited_shares_forbid_nothing() -> None:
    assert no_loss_sale(OLD, row("h", "inherit", "2025-06-10", "20", "45")) == ()


def test_a_planned_loss_sale_of_the_next_thirty_days_forbids_buying_before_it() -> None:
    """An approved plan is part of the ledger: what is bought today would wash the sale of 30 June."""
    (entry,) = no_buy(OLD, row("plan", "sell", "2025-06-30", "60", "40"))
    assert entry.until == date(2025, 7, 30)


def test_every_entry_is_what_the_what_if_says() -> None:
    rows = (
        OLD,
        LOSS,
        row("y", "buy", "2025-06-10", "10", "9", symbol="Y"),
        row("z", "buy", "2024-01-08", "5", "9", symbol="Y"),
    )
    ledger = replay(*rows)
    calendar = wash_calendar(ledger, LATER)
    forbidden = {symbol for entry in calendar.do_not_buy for symbol in entry.symbols}
    for symbol in ("X", "Y"):
        bought = what_if(ledger, [row("p", "buy", "2025-06-16", "5", "9", symbol=symbol)])
        assert (bought.disallowed > 0) is (symbol in forbidden)
    blocked = {symbol for entry in calendar.do_not_sell_at_a_loss for symbol in entry.symbols}
    for symbol in ("X", "Y"):
        sold = what_if(ledger, [row("p", "sell", "2025-06-16", "5", "1", symbol=symbol)])
        assert (sold.disallowed > 0) is (symbol in blocked)
