"""Scenarios of the ledger in the product's own words: household, relief, orders, corrections, corporate actions."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from lots_household import HOUSEHOLD, held, replay, row, short, told

from state.lots import (
    Ledger,
    LedgerPolicy,
    OversoldError,
    UnsupportedTransactionError,
    long_term_from,
    term,
    what_if,
)
from state.records import CorporateAction, CorporateActionKind, Term, Transaction

OLD = row("old", "buy", "2024-01-08", "100", "50")
LOSS = row("loss", "sell", "2025-06-02", "100", "40")

# ------------------------------------------------------------------ the household


def test_a_purchase_in_an_ira_loses_the_loss_for_good() -> None:
    """Sold at a loss of 1,000; the IRA buys 60 four days later: 600 never come back, 400 still count."""
    ledger = replay(OLD, LOSS, row("i", "buy", "2025-06-06", "60", "41", account="ira"))
    (sale,) = ledger.realized()
    assert (short(sale.disallowed), short(sale.permanently_disallowed), short(sale.recognized)) == (
        "600",
        "600",
        "-400",
    )
    (match,) = sale.matches
    assert (match.replacement_id, match.replacement_account_id, match.permanent) == ("i", "ira", True)
    assert held(ledger) == [("i", "2025-06-06", "60", "2460")]  # no basis moved


def test_an_ira_purchase_sold_again_before_the_loss_replaces_nothing() -> None:
    ledger = replay(
        OLD,
        row("i", "buy", "2025-05-20", "60", "41", account="ira"),
        row("j", "sell", "2025-05-28", "50", "41", account="ira"),
        LOSS,
    )
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "100")]  # only the 10 it still held
    assert ledger.position("ira", "X") == 10


def test_sales_inside_an_ira_are_nobodys_loss() -> None:
    ledger = replay(
        row("i", "buy", "2025-01-06", "100", "50", account="ira"),
        row("j", "sell", "2025-06-02", "100", "40", account="ira"),
        row("b", "buy", "2025-06-03", "100", "40"),
    )
    assert ledger.realized() == ()
    assert held(ledger) == [("b", "2025-06-03", "100", "4000")]


def test_the_spouses_purchase_defers_the_loss_into_the_spouses_lot() -> None:
    ledger = replay(OLD, LOSS, row("s", "buy", "2025-06-12", "100", "41", account="spouse"))
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "1000")]
    (lot,) = ledger.open_lots("spouse")
    assert (short(lot.basis), short(lot.wash_adjustment)) == ("5100", "1000")
    assert lot.adjusted_acquired == date(2025, 6, 12) - (date(2025, 6, 2) - date(2024, 1, 8))


def test_who_buys_first_decides_what_becomes_of_the_loss() -> None:
    """60 bought in the taxable account, then 60 in the IRA: 600 deferred, 400 lost, the other 20 of the IRA unused."""
    ledger = replay(
        OLD,
        LOSS,
        row("i", "buy", "2025-06-10", "60", "41", account="ira", at="15:00"),
        row("b", "buy", "2025-06-10", "60", "41", at="10:00"),
    )
    (sale,) = ledger.realized()
    assert [(m.replacement_id, short(m.disallowed), m.permanent) for m in sale.matches] == [
        ("b", "600", False),
        ("i", "400", True),
    ]
    assert sale.provisional_until is None


def test_the_shares_nobody_replaced_stay_provisional_for_thirty_days() -> None:
    ledger = replay(OLD, LOSS, row("b", "buy", "2025-06-10", "30", "41"))
    (sale,) = ledger.realized()
    assert (short(sale.disallowed), sale.provisional_until) == ("300", date(2025, 7, 2))
    assert held(ledger) == [("b", "2024-01-16", "30", "1530")]


@pytest.mark.parametrize(("day", "disallowed"), [("2025-07-02", "1000"), ("2025-07-03", "0")])
def test_the_window_ends_with_the_thirtieth_day(day: str, disallowed: str) -> None:
    ledger = replay(OLD, LOSS, row("b", "buy", day, "100", "41"))
    assert short(ledger.realized()[0].disallowed) == disallowed


@pytest.mark.parametrize(("day", "disallowed"), [("2025-05-03", "1000"), ("2025-05-02", "0")])
def test_the_window_begins_thirty_days_before(day: str, disallowed: str) -> None:
    ledger = replay(OLD, row("b", "buy", day, "100", "41"), LOSS)
    assert short(ledger.realized()[0].disallowed) == disallowed


def test_identical_groups_that_overlap_are_one_group() -> None:
    policy = LedgerPolicy(identical_groups=(frozenset({"X", "Y"}), frozenset({"Y", "Z"})))
    ledger = replay(OLD, LOSS, row("z", "buy", "2025-06-05", "100", "9", symbol="Z"), policy=policy)
    assert short(ledger.realized()[0].disallowed) == "1000"
    assert ledger.group_of("X") == {"X", "Y", "Z"}
    assert ledger.group_of("W") == {"W"}


# ------------------------------------------------------------------ relief

THREE = (("1", "2024-01-08", "20"), ("2", "2024-07-01", "40"), ("3", "2025-01-06", "30"))


@pytest.mark.parametrize(
    ("account", "order"), [("mine", "123"), ("lifo", "321"), ("hifo", "231"), ("specific", "123"), ("ira", "123")]
)
def test_each_method_has_its_queue_and_sells_from_its_front(account: str, order: str) -> None:
    ledger = replay(*(row(lot, "buy", day, "50", price, account=account) for lot, day, price in THREE))
    assert "".join(lot.lot_id for lot in ledger.disposal_queue(account, "X")) == order
    after = ledger.extended([row("s", "sell", "2025-04-01", "60", "35", account=account)])
    assert {lot.lot_id: short(lot.quantity) for lot in after.open_lots()} == {order[1]: "40", order[2]: "50"}


def test_named_lots_are_sold_as_named() -> None:
    ledger = replay(
        *(row(lot, "buy", day, "50", price) for lot, day, price in THREE),
        row("s", "sell", "2025-04-01", "60", "35", lots=[("3", "20"), ("2", "40")]),
    )
    assert told(ledger.realized()) == [("s", "2", "40", "-200", "0"), ("s", "3", "20", "100", "0")]


def test_relief_works_inside_the_account_that_sells() -> None:
    ledger = replay(
        row("older", "buy", "2024-01-08", "10", "20"),
        row("b", "buy", "2024-07-01", "10", "40", account="spouse"),
        row("s", "sell", "2025-04-01", "10", "50", account="spouse"),
    )
    assert told(ledger.realized()) == [("s", "b", "10", "100", "0")]


# ------------------------------------------------------------------ one order is one lot

FILLS = (
    row("f1", "buy", "2025-06-02", "60", "10", order_id="o", at="10:00"),
    row("f2", "buy", "2025-06-02", "40", "10.10", order_id="o", at="10:05"),
)


def test_the_fills_of_one_order_are_one_lot_named_by_the_first() -> None:
    for fills in (FILLS, FILLS[::-1]):
        assert held(replay(*fills)) == [("f1", "2025-06-02", "100", "1004")]


def test_a_fill_that_arrives_later_joins_its_order() -> None:
    ledger = replay(FILLS[0])
    assert held(ledger) == [("f1", "2025-06-02", "60", "600")]
    assert held(ledger.extended([FILLS[1]])) == [("f1", "2025-06-02", "100", "1004")]


def test_selling_part_of_an_order_does_not_wash_against_the_rest_of_it() -> None:
    """Rev. Rul. 56-602: a lot is never replacement for itself, however many fills it came in."""
    ledger = replay(*FILLS, row("s", "sell", "2025-06-09", "50", "8"))
    assert told(ledger.realized()) == [("s", "f1", "50", "-102", "0")]


def test_two_orders_of_one_day_are_two_lots_and_do_wash() -> None:
    ledger = replay(
        row("f1", "buy", "2025-06-02", "60", "10", order_id="o1", at="10:00"),
        row("f2", "buy", "2025-06-02", "40", "10", order_id="o2", at="10:05"),
        row("s", "sell", "2025-06-09", "60", "8"),
    )
    assert told(ledger.realized()) == [("s", "f1", "60", "-120", "80")]


def test_a_sale_may_name_a_lot_by_any_of_its_fills() -> None:
    ledger = replay(
        row("first", "buy", "2025-01-02", "10", "5"),
        *FILLS,
        row("s", "sell", "2025-08-01", "50", "12", lots=[("f2", "50")]),
    )
    assert told(ledger.realized()) == [("s", "f1", "50", "98", "0")]


def test_an_order_id_belongs_to_its_account() -> None:
    ledger = replay(FILLS[0], row("g", "buy", "2025-06-02", "40", "10", order_id="o", account="spouse"))
    assert [lot.lot_id for lot in ledger.open_lots()] == ["f1", "g"]


# ------------------------------------------------------------------ chains and parts of lots


def test_a_loss_can_move_on_again_and_again_and_is_tested_on_the_adjusted_basis() -> None:
    """The second sale, at 49 after a purchase at 48, would be a gain of 100; with the 1,000 it carries it is a loss."""
    ledger = replay(
        OLD,
        LOSS,
        row("b", "buy", "2025-06-03", "100", "48"),
        row("s2", "sell", "2025-08-01", "100", "49"),
        row("c", "buy", "2025-08-15", "100", "47"),
    )
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "1000"), ("s2", "b", "100", "-900", "900")]
    assert held(ledger)[0][3] == "5600"


def test_thirds_of_a_dollar_add_up() -> None:
    """One lot of 3 for 100.00 sold share by share: the bases sum to 100 exactly."""
    ledger = replay(
        row("b", "buy", "2025-01-06", "3", "33", fees=Decimal(1)),
        *(row(f"s{day}", "sell", f"2025-06-0{day}", "1", "40") for day in (2, 3, 4)),
    )
    assert sum(each.basis for each in ledger.realized()) == 100
    assert ledger.open_lots() == ()


def test_two_sales_of_unknown_order_wash_the_lot_acquired_first() -> None:
    """Reg. §1.1091-1(b). With times, the sale of the newer lot at 10:00 is first and takes the replacement."""
    bought = (
        row("b1", "buy", "2025-01-06", "50", "40", account="specific"),
        row("b2", "buy", "2025-01-13", "50", "60", account="specific"),
    )
    replacement = row("b3", "buy", "2025-05-12", "50", "31", account="specific")

    def washed(first: str | None, second: str | None) -> list[str]:
        newer = row("s1", "sell", "2025-05-05", "50", "30", account="specific", lots=[("b2", "50")], at=first)
        older = row("s2", "sell", "2025-05-05", "50", "30", account="specific", lots=[("b1", "50")], at=second)
        together = replay(*bought, newer, older, replacement)
        one_by_one = replay(*bought).extended([newer]).extended([older]).extended([replacement])
        assert one_by_one.digest() == together.digest()
        return [each.lot_id for each in together.realized() if each.disallowed]

    assert washed(None, None) == ["b1"]
    assert washed("10:00", "10:00") == ["b1"]
    assert washed("10:00", "14:00") == ["b2"]


# ------------------------------------------------------------------ order of a day


def test_sells_come_before_buys_of_the_same_instant_and_ids_decide_the_rest() -> None:
    """On a last-in account the new lot would be sold if the purchase came first."""
    old = row("old", "buy", "2024-01-08", "10", "50", account="lifo")
    buy = row("a", "buy", "2025-06-02", "10", "40", account="lifo", at="10:00")
    sell = row("z", "sell", "2025-06-02", "10", "60", account="lifo", at="10:00")
    for rows in ((old, buy, sell), (sell, buy, old)):
        assert [lot.lot_id for lot in replay(*rows).open_lots()] == ["a"]
    assert replay(old, buy).extended([sell]).digest() == replay(old, buy, sell).digest()


def test_a_fill_of_this_morning_that_arrives_this_evening_takes_its_place() -> None:
    old = row("old", "buy", "2024-01-08", "10", "50", account="lifo")
    buy = row("b", "buy", "2025-06-02", "10", "40", account="lifo", at="15:00")
    sell = row("s", "sell", "2025-06-02", "10", "60", account="lifo", at="10:00")
    ledger = replay(old, buy).extended([sell])
    assert told(ledger.realized()) == [("s", "old", "10", "100", "0")]


def test_a_row_without_a_time_stays_where_it_was_given() -> None:
    rows = (
        row("old", "buy", "2024-01-08", "10", "50", account="lifo"),
        row("late", "buy", "2025-06-02", "10", "40", account="lifo", at="14:00"),
        row("s", "sell", "2025-06-02", "10", "60", account="lifo"),
        row("early", "buy", "2025-06-02", "10", "45", account="lifo", at="09:35"),
    )
    assert [each.lot_id for each in replay(*rows).realized()] == ["early"]


# ------------------------------------------------------------------ what is not a purchase


def test_a_transfer_moves_the_lot_with_its_date_and_is_no_purchase() -> None:
    ledger = replay(
        OLD,
        row("b", "buy", "2025-05-20", "30", "45", account="spouse"),
        row("t", "transfer", "2025-06-05", "30", account="spouse", to_account_id="mine"),
        row("loss", "sell", "2025-07-01", "100", "40"),
    )
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "0")]
    assert held(ledger, "mine") == [("b", "2025-05-20", "30", "1350")]
    assert ledger.positions("spouse") == {}


def test_a_transfer_into_an_ira_is_refused() -> None:
    with pytest.raises(UnsupportedTransactionError, match="contribution or a distribution"):
        replay(OLD, row("t", "transfer", "2025-06-05", "30", to_account_id="ira"))


def test_inherited_shares_are_long_term_at_once_and_replace_nothing() -> None:
    ledger = replay(
        OLD, LOSS, row("h", "inherit", "2025-06-10", "50", "41"), row("s", "sell", "2025-06-20", "50", "45")
    )
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "0"), ("s", "h", "50", "200", "0")]
    assert ledger.realized()[1].term is Term.LONG


def test_a_gift_leaves_without_gain_by_the_relief_method() -> None:
    ledger = replay(OLD, row("b", "buy", "2025-01-06", "100", "60"), row("g", "gift_out", "2025-03-03", "120"))
    assert ledger.realized() == ()
    assert held(ledger) == [("b", "2025-01-06", "80", "4800")]


def test_cash_rows_move_no_shares() -> None:
    cash = [
        row(kind, kind, "2025-06-02", symbol="X", amount=Decimal(5))
        for kind in ("cash_dividend", "deposit", "withdrawal", "interest", "fee")
    ]
    assert replay(OLD, *cash).digest() == replay(OLD).digest()


# ------------------------------------------------------------------ opening lots


def test_an_opening_lot_counts_from_its_own_date() -> None:
    """Imported on 20 July with its date of 10 June: it is a purchase inside the window of the sale of 2 June."""
    ledger = replay(OLD, LOSS)
    opening = row("o", "opening_lot", "2025-07-20", "100", "41", account="spouse", acquired=date(2025, 6, 10))
    later = ledger.extended([opening])
    assert told(later.realized()) == [("loss", "old", "100", "-1000", "1000")]
    assert later.digest() == replay(opening, OLD, LOSS).digest()
    assert [match.replacement_date for match in later.realized()[0].matches] == [date(2025, 6, 10)]


def test_an_opening_lot_may_arrive_long_after_its_window() -> None:
    """By the time it is imported, a purchase of August has been seen, for which the sale of June is long closed."""
    august = row("b", "buy", "2025-08-04", "1", "41")
    opening = row("o", "opening_lot", "2025-09-01", "100", "41", account="spouse", acquired=date(2025, 6, 10))
    expected = [("loss", "old", "100", "-1000", "1000")]
    assert told(replay(OLD, LOSS, august, opening).realized()) == expected
    assert told(replay(OLD, LOSS, august).extended([opening]).realized()) == expected


def test_an_old_opening_lot_is_sold_first_and_long_term() -> None:
    ledger = replay(
        row("b", "buy", "2025-01-06", "10", "40"),
        row("o", "opening_lot", "2025-03-03", "10", "20", acquired=date(2019, 1, 7)),
        row("s", "sell", "2025-04-01", "10", "50"),
    )
    assert told(ledger.realized()) == [("s", "o", "10", "300", "0")]
    assert ledger.realized()[0].term is Term.LONG


# ------------------------------------------------------------------ corrections


def test_a_row_repeated_is_the_same_row() -> None:
    ledger = replay(OLD, LOSS)
    assert ledger.extended([OLD, LOSS]) is ledger
    assert replay(OLD, LOSS, OLD).transactions == (OLD, LOSS)


def test_a_correction_replaces_the_row_it_names() -> None:
    corrected = row("old-2", "buy", "2024-01-08", "100", "45", supersedes="old")
    expected = [("loss", "old-2", "100", "-500", "0")]
    assert told(replay(OLD, LOSS, corrected).realized()) == expected
    assert told(replay(corrected, LOSS, OLD).realized()) == expected
    assert told(replay(OLD, LOSS).extended([corrected]).realized()) == expected
    assert told(replay(corrected, LOSS).extended([OLD]).realized()) == expected


def test_a_correction_of_no_shares_cancels() -> None:
    bust = row("bust", "sell", "2025-06-02", "0", "0", supersedes="loss")
    ledger = replay(OLD, LOSS).extended([bust])
    assert ledger.realized() == ()
    assert held(ledger) == [("old", "2024-01-08", "100", "5000")]


def test_a_correction_can_move_a_row_to_another_symbol() -> None:
    moved = row("new", "buy", "2024-01-08", "100", "50", symbol="Y", supersedes="old")
    ledger = replay(OLD).extended([moved])
    assert ledger.positions("mine") == {"Y": Decimal(100)}
    assert ledger.digest() == replay(OLD, moved).digest()


# ------------------------------------------------------------------ corporate actions


def split(transaction_id: str, day: str, new: str, old: str = "1", account: str = "mine") -> Transaction:
    return row(transaction_id, "split", day, account=account, ratio_new=Decimal(new), ratio_old=Decimal(old))


def test_a_split_between_sale_and_replacement_is_counted_in_new_shares() -> None:
    ledger = replay(OLD, LOSS, split("x", "2025-06-10", "2"), row("b", "buy", "2025-06-16", "150", "21"))
    assert told(ledger.realized()) == [("loss", "old", "100", "-1000", "750")]
    assert held(ledger) == [("b", "2024-01-22", "150", "3900")]


def test_one_split_reported_by_two_accounts_happens_once_and_to_every_account() -> None:
    bought = [row(f"b-{name}", "buy", "2025-01-06", "10", "30", account=name) for name in ("mine", "spouse", "ira")]
    reports = split("x", "2025-06-10", "3"), split("y", "2025-06-11", "3", account="spouse")
    ledger = replay(*bought, *reports)
    assert [ledger.position(name, "X") for name in ("mine", "spouse", "ira")] == [30, 30, 30]
    assert replay(*bought, reports[0]).extended([reports[1]]).digest() == ledger.digest()


def test_two_splits_of_one_account_are_two_splits() -> None:
    ledger = replay(OLD, split("x", "2025-06-10", "2"), split("y", "2025-06-12", "2"))
    assert ledger.position("mine", "X") == 400


def test_a_split_holds_before_the_trades_of_its_day() -> None:
    ledger = replay(OLD, row("s", "sell", "2025-06-10", "200", "26", at="09:30"), split("x", "2025-06-10", "2"))
    assert told(ledger.realized()) == [("s", "old", "200", "200", "0")]


def test_a_reverse_split_rounds_the_account_once_and_keeps_every_dollar() -> None:
    lots = [row(f"b{n}", "buy", f"2025-01-0{n}", "1", "10") for n in range(1, 8)]
    ledger = replay(*lots, split("x", "2025-06-10", "1", "3"))
    assert ledger.position("mine", "X") == Decimal("2.333333333")
    assert sum(lot.basis for lot in ledger.open_lots()) == 70


def test_return_of_capital_is_taken_share_by_share() -> None:
    """Lots of 10 at 2 and at 5; 3 a share comes back: the first gains 10 and has no basis left, the second keeps 20."""
    action = CorporateAction("r", CorporateActionKind.RETURN_OF_CAPITAL, "X", date(2025, 6, 2), per_share=Decimal(3))
    ledger = Ledger.replay(
        HOUSEHOLD,
        [row("a", "buy", "2024-01-08", "10", "2"), row("b", "buy", "2025-01-06", "10", "5")],
        corporate_actions=[action],
    )
    assert told(ledger.realized()) == [("r", "a", "10", "10", "0")]
    assert [lot[3] for lot in held(ledger)] == ["0", "20"]


def test_a_merged_symbol_belongs_to_the_ledger_of_both_names() -> None:
    action = CorporateAction(
        "m", CorporateActionKind.STOCK_MERGER, "X", date(2025, 2, 3), Decimal(1), Decimal(2), to_symbol="Y"
    )
    ledger = Ledger.replay(HOUSEHOLD, [OLD], corporate_actions=[action])
    assert ledger.positions("mine") == {"Y": Decimal(50)}
    assert ledger.position("mine", "X") == 0
    assert ledger.group_of("X") == {"X"}, "a successor is not thereby identical"
    after = ledger.extended([row("s", "sell", "2025-03-03", "50", "90", symbol="Y")])
    assert told(after.realized()) == [("s", "old", "50", "-500", "0")]


# ------------------------------------------------------------------ short sales, as far as they go

SHORT = row("sh", "sell_short", "2025-02-03", "100", "50")
COVER = row("c", "buy_to_cover", "2025-03-03", "100", "60")


def test_a_loss_on_a_short_sale_waits_thirty_days_for_another_short_sale() -> None:
    (loss,) = replay(SHORT, COVER).realized()
    assert (short(loss.gain_loss), loss.provisional_until, loss.term) == ("-1000", date(2025, 4, 2), Term.SHORT)
    ledger = replay(SHORT, COVER).extended([row("sh2", "sell_short", "2025-04-02", "40", "58")])
    assert told(ledger.realized()) == [("c", "c", "100", "-1000", "400")]
    assert told(replay(SHORT, COVER, row("sh2", "sell_short", "2025-04-03", "40", "58")).realized())[0][4] == "0"


def test_a_short_sale_entered_before_the_closing_takes_its_loss_too() -> None:
    second = row("sh2", "sell_short", "2025-02-20", "100", "58")
    closing = row("c2", "buy_to_cover", "2025-05-12", "100", "55")
    expected = [("c", "c", "100", "-1000", "1000"), ("c2", "c2", "100", "-700", "0")]
    assert told(replay(SHORT, second, COVER, closing).realized()) == expected


def test_a_short_sale_is_split_with_its_stock() -> None:
    ledger = replay(SHORT, split("x", "2025-02-10", "2"), row("c", "buy_to_cover", "2025-03-03", "200", "20"))
    assert told(ledger.realized()) == [("c", "c", "200", "1000", "0")]


@pytest.mark.parametrize(
    "rows",
    [
        (OLD, SHORT, COVER),  # identical stock held while bought back at a loss
        (SHORT, COVER, row("b", "buy", "2025-03-04", "9", "60"), row("s", "sell", "2025-03-05", "9", "61")),
        (row("i", "sell_short", "2025-02-03", "9", "50", account="ira"),),
    ],
)
def test_what_short_sales_need_beyond_this_is_refused(rows: tuple[Transaction, ...]) -> None:
    with pytest.raises(UnsupportedTransactionError, match="will not guess"):
        replay(*rows)


def test_more_cannot_be_covered_than_was_sold_short() -> None:
    with pytest.raises(OversoldError, match="sold short in account mine"):
        replay(SHORT, row("c", "buy_to_cover", "2025-03-03", "101", "60"))


# ------------------------------------------------------------------ holding periods


@pytest.mark.parametrize(
    ("acquired", "long_from"),
    [
        ("2023-03-01", "2024-03-02"),  # 366 days later is still short
        ("2023-02-28", "2024-03-01"),
        ("2024-02-28", "2025-03-01"),  # 29 Feb + 1 year is 1 March
        ("2024-02-29", "2025-03-01"),
        ("2024-06-03", "2025-06-04"),
        ("2023-12-31", "2025-01-01"),
    ],
)
def test_long_term_begins_the_day_after_a_year_of_months(acquired: str, long_from: str) -> None:
    start, first = date.fromisoformat(acquired), date.fromisoformat(long_from)
    assert long_term_from(start) == first
    assert term(start, first) is Term.LONG
    assert term(start, date.fromordinal(first.toordinal() - 1)) is Term.SHORT


# ------------------------------------------------------------------ reading and what-if


def test_realized_rows_can_be_asked_by_account_symbol_and_year() -> None:
    ledger = replay(
        OLD,
        row("y", "buy", "2024-01-08", "10", "5", symbol="Y", account="spouse"),
        row("s1", "sell", "2024-12-31", "10", "60"),
        row("s2", "sell", "2025-01-02", "10", "60"),
        row("s3", "sell", "2025-01-03", "10", "6", symbol="Y", account="spouse"),
    )
    assert [each.sale_id for each in ledger.realized()] == ["s1", "s2", "s3"]
    assert [each.sale_id for each in ledger.realized(year=2025)] == ["s2", "s3"]
    assert [each.sale_id for each in ledger.realized(account_id="mine", year=2025)] == ["s2"]
    assert [each.sale_id for each in ledger.realized(symbol="Y")] == ["s3"]


def test_the_digest_sees_values_not_spellings() -> None:
    assert replay(OLD).digest() == replay(row("old", "buy", "2024-01-08", "100.000", "50.0")).digest()
    assert replay(OLD).digest() != replay(row("old", "buy", "2024-01-08", "100", "50.01")).digest()


def test_a_what_if_tells_its_own_rows_and_what_it_does_to_earlier_sales() -> None:
    ledger = replay(OLD, LOSS)
    answer = what_if(ledger, [row("p", "buy", "2025-06-20", "40", "41", account="ira")])
    (change,) = answer.changed
    assert (short(change.before.disallowed), short(change.after.disallowed)) == ("0", "400")
    assert (answer.realized, short(answer.disallowed), short(change.disallowed)) == ((), "400", "400")
    assert short(ledger.realized()[0].disallowed) == "0"


def test_a_what_if_of_a_swap_back_and_forth_counts_both_sides() -> None:
    ledger = replay(OLD, row("recent", "buy", "2025-05-20", "10", "41"))
    answer = what_if(ledger, [row("p", "sell", "2025-06-02", "100", "40"), row("q", "buy", "2025-06-02", "20", "40")])
    assert told(answer.realized) == [("p", "old", "100", "-1000", "300")]
    assert short(answer.disallowed) == "300"


def test_a_harvest_clear_of_every_window_loses_nothing() -> None:
    answer = what_if(replay(OLD), [row("p", "sell", "2025-06-02", "100", "40")])
    assert told(answer.realized) == [("p", "old", "100", "-1000", "0")]
    assert answer.disallowed == 0
