"""Shares received as a gift (IRC §§1015(a), 1223(2); Pub. 550): the donor's basis and dates, and for a loss the value
on the day of the gift. In each story an aunt bought at 80 in January 2023 and gives on 10 June 2024."""

from __future__ import annotations

from decimal import Decimal

import pytest
from lots_household import held, replay, row, told

from state.lots import InvalidTransactionError, Ledger, LedgerPolicy, UnsupportedTransactionError
from state.records import RealizedRow, Transaction


def gift(quantity: str = "10", value: str = "60", **others: object) -> Transaction:
    """The gift: 80 a share to the donor, `value` a share on the day."""
    details: dict[str, object] = {"acquired": DONOR_BOUGHT, "fair_value": Decimal(value), **others}
    return row("g", "gift_in", "2024-06-10", quantity, "80", **details)


DONOR_BOUGHT = row("d", "buy", "2023-01-10").trade_date


def sold(price: str, value: str = "60", day: str = "2024-09-03") -> RealizedRow:
    """The row of a sale of all of it."""
    (found,) = replay(gift(value=value), row("s", "sell", day, "10", price)).realized()
    return found


def test_sold_for_less_than_it_was_worth_the_loss_counts_from_that_value_and_is_held_since_the_gift() -> None:
    found = sold("50")
    assert (found.basis, found.gain_loss) == (Decimal(600), Decimal(-100))
    assert (str(found.adjusted_acquired), found.term.value) == ("2024-06-10", "ST")


def test_sold_for_more_than_the_donor_paid_the_gain_counts_from_the_donors_basis_and_dates() -> None:
    found = sold("90")
    assert (found.basis, found.gain_loss) == (Decimal(800), Decimal(100))
    assert (str(found.adjusted_acquired), found.term.value) == ("2023-01-10", "LT")


@pytest.mark.parametrize("price", ["60", "70", "80"])
def test_sold_between_the_two_there_is_neither_gain_nor_loss(price: str) -> None:
    found = sold(price)
    assert (found.gain_loss, found.provisional_until) == (Decimal(0), None)


@pytest.mark.parametrize("value", ["80", "95"])
def test_worth_what_it_cost_the_donor_or_more_there_is_one_basis(value: str) -> None:
    found = sold("70", value=value)
    assert (found.basis, found.gain_loss, found.term.value) == (Decimal(800), Decimal(-100), "LT")


def test_a_loss_on_a_gift_is_long_only_a_year_after_the_gift() -> None:
    assert sold("50", day="2025-06-10").term.value == "ST"
    assert sold("50", day="2025-06-11").term.value == "LT"


def test_a_gift_received_replaces_nothing_and_a_purchase_replaces_a_gift_sold() -> None:
    loss = [row("b", "buy", "2024-01-10", "10", "80"), row("s", "sell", "2024-06-03", "10", "60")]
    assert told(replay(*loss, gift(value="90")).realized()) == [("s", "b", "10", "-200", "0")]
    bought = row("n", "buy", "2024-09-10", "4", "52")
    ledger = replay(gift(), row("s", "sell", "2024-09-03", "10", "50"), bought)
    assert told(ledger.realized()) == [("s", "g", "10", "-100", "40")]
    assert held(ledger) == [("n", "2024-06-17", "4", "248")], "held for 85 days before: since the gift, not the donor"


def test_parts_of_a_gift_keep_both_bases_through_a_split() -> None:
    parts = replay(
        gift(),
        row("s1", "sell", "2024-08-01", "4", "50"),
        row("p", "split", "2024-08-05", ratio_new=Decimal(2), ratio_old=Decimal(1)),
        row("s2", "sell", "2024-10-01", "6", "25"),
        row("s3", "sell", "2024-12-02", "6", "45"),
    )
    assert told(parts.realized()) == [
        ("s1", "g", "4", "-40", "0"),
        ("s2", "g", "6", "-30", "0"),
        ("s3", "g", "6", "30", "0"),
    ]


def test_a_gift_without_its_value_or_the_donors_date_is_refused() -> None:
    with pytest.raises(InvalidTransactionError, match="fair_value: expected the market price a share"):
        replay(gift(fair_value=None))
    with pytest.raises(InvalidTransactionError, match="acquired: expected the lot's own date or the donor's"):
        replay(gift(acquired=None))


def test_a_gift_of_two_bases_among_averaged_shares_is_refused() -> None:
    with pytest.raises(UnsupportedTransactionError, match="averaged basis"):
        replay(gift(), row("b", "buy", "2024-07-01", "1", "50"), policy=LedgerPolicy(average_basis=frozenset({"X"})))


def test_an_inherited_lot_says_that_it_is_always_long() -> None:
    ledger: Ledger = replay(row("i", "inherit", "2024-06-10", "10", "80"), row("b", "buy", "2024-06-10", "1", "80"))
    assert {lot.lot_id: lot.always_long for lot in ledger.open_lots()} == {"i": True, "b": False}


@pytest.mark.parametrize(("price", "gain"), [("50", -100), ("60", 0), ("70", 0), ("80", 0), ("90", 100)])
def test_an_open_gift_shows_the_gain_or_loss_that_a_sale_would_have(price: str, gain: int) -> None:
    ledger = replay(gift())
    (lot,) = ledger.disposal_queue("mine", "X")
    assert lot.quantity * Decimal(price) - lot.basis_at(Decimal(price)) == gain
    assert sold(price).gain_loss == gain
