"""What the ledger refuses, and what it says: which row, expected what, was what, what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from lots_household import HOUSEHOLD, replay, row

from state.lots import (
    AmbiguousLotError,
    ConflictingTransactionError,
    InvalidTransactionError,
    Ledger,
    LedgerError,
    LedgerPolicy,
    OversoldError,
    UnknownAccountError,
    UnknownConventionError,
    UnknownLotError,
    replay_cases,
)
from state.lots.money import apportion, plain

BOUGHT = row("b1", "buy", "2025-01-06", "100", "50")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": 100.0}, "quantity"),
        ({"price": 50.0}, "price"),
        ({"fees": 1.5}, "fees"),
        ({"price": Decimal("NaN")}, "price"),
        ({"quantity": Decimal("Infinity")}, "quantity"),
        ({"quantity": Decimal(-1)}, "quantity"),
        ({"quantity": Decimal(0)}, "quantity"),
        ({"price": Decimal(-1)}, "price"),
        ({"symbol": None}, "symbol"),
        ({"trade_date": datetime(2025, 1, 6, tzinfo=UTC)}, "trade_date"),
        ({"executed_at": datetime(2025, 1, 6, 10, 0)}, "executed_at"),  # noqa: DTZ001
    ],
)
def test_a_malformed_row_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTransactionError, match=rf"b1 .*field {field}: expected .* was ") as refusal:
        replay(replace(BOUGHT, **change))
    assert refusal.value.transaction_id == "b1"


@pytest.mark.parametrize(
    ("kind", "others", "field"),
    [
        ("opening_lot", {}, "acquired"),
        ("opening_lot", {"acquired": date(2025, 6, 3)}, "acquired"),
        ("transfer", {}, "to_account_id"),
        ("transfer", {"to_account_id": "nobody"}, "to_account_id"),
        ("split", {}, "ratio_new"),
        ("split", {"ratio_new": Decimal(2), "ratio_old": Decimal(0)}, "ratio_old"),
    ],
)
def test_each_kind_is_refused_without_what_it_needs(kind: str, others: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTransactionError, match=f"field {field}"):
        replay(BOUGHT, row("x", kind, "2025-06-02", "10", "5", **others))


def test_an_account_nobody_has_is_refused() -> None:
    with pytest.raises(UnknownAccountError, match=r"b1, account: expected one of .*mine.* was elsewhere"):
        replay(replace(BOUGHT, account_id="elsewhere"))


def test_one_id_with_two_contents_is_refused() -> None:
    with pytest.raises(ConflictingTransactionError, match="supersedes"):
        replay(BOUGHT).extended([replace(BOUGHT, price=Decimal(51))])


def test_when_a_row_was_recorded_is_not_its_content() -> None:
    again = replace(BOUGHT, recorded_at=datetime(2025, 1, 7, tzinfo=UTC))
    assert replay(BOUGHT).extended([again]).transactions == (BOUGHT,)


@pytest.mark.parametrize("kind", ["sell", "gift_out", "transfer"])
@pytest.mark.parametrize("account", ["mine", "ira"])
def test_more_cannot_leave_than_is_held(kind: str, account: str) -> None:
    other = "roth" if account == "ira" else "spouse"
    with pytest.raises(OversoldError, match=r"s1 .*takes 101 X .*Expected .*was 100\. Import") as refusal:
        Ledger.replay(
            [*HOUSEHOLD, replace(HOUSEHOLD[2], account_id="roth")],
            [
                replace(BOUGHT, account_id=account),
                row("s1", kind, "2025-06-02", "101", "5", account=account, to_account_id=other),
            ],
        )
    assert (refusal.value.account_id, refusal.value.symbol) == (account, "X")


def test_shares_bought_later_do_not_cover_a_sale() -> None:
    with pytest.raises(OversoldError, match="was 0"):
        replay(row("s1", "sell", "2025-01-03", "1", "5"), BOUGHT)


def test_a_lot_that_is_not_held_cannot_be_sold() -> None:
    with pytest.raises(UnknownLotError, match=r"lot b9 in account mine.*was 0"):
        replay(BOUGHT, row("s1", "sell", "2025-06-02", "10", "5", lots=[("b9", "10")]))


def test_a_lot_cannot_be_sold_twice_over() -> None:
    with pytest.raises(UnknownLotError, match="was 40"):
        replay(
            BOUGHT,
            row("b2", "buy", "2025-01-07", "100", "50"),
            row("s1", "sell", "2025-06-02", "60", "5", lots=[("b1", "60")]),
            row("s2", "sell", "2025-06-03", "60", "5", lots=[("b1", "60")]),
        )


def test_named_lots_must_add_up_to_the_sale() -> None:
    with pytest.raises(AmbiguousLotError, match="sells 10 X and names lots of 9"):
        replay(BOUGHT, row("s1", "sell", "2025-06-02", "10", "5", lots=[("b1", "9")]))


def test_a_refused_extension_leaves_the_ledger_as_it_was() -> None:
    ledger = replay(BOUGHT)
    digest = ledger.digest()
    with pytest.raises(LedgerError):
        ledger.extended([row("s1", "sell", "2025-06-02", "60", "5"), row("s2", "sell", "2025-06-03", "60", "5")])
    assert ledger.digest() == digest
    assert ledger.transactions == (BOUGHT,)
    assert ledger.position("mine", "X") == 100


# ------------------------------------------------------------------ conventions and case files


def test_a_convention_takes_only_its_values() -> None:
    with pytest.raises(
        UnknownConventionError, match="tacking: expected one of union, additive, holding_date, was 'sum'"
    ):
        LedgerPolicy(tacking="sum")  # type: ignore[arg-type]


def test_a_convention_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownConventionError, match=r"expected one of .*within_lot.*, was 'within'"):
        replay_cases({"cases": []}, {"within": "kept_first"})


def case(**changes: Any) -> dict[str, Any]:
    """A case of one purchase and one sale, as YAML would parse it."""
    common = {"account": "A", "account_type": "taxable", "symbol": "X", "fees": 0}
    bought = {"id": "b", "date": date(2025, 1, 6), "side": "buy", "quantity": 3.275, "price": 16.35, **common}
    sold = {"id": "s", "date": "2025-06-02", "side": "sell", "quantity": 3.275, "price": 20, **common}
    return {"id": "C", "lot_method": "FIFO", "transactions": [bought, sold], **changes}


def test_floats_of_a_case_file_are_read_by_their_text_and_written_as_decimals() -> None:
    (sale,) = replay_cases({"cases": [case()]})["cases"][0]["sales"]
    assert sale["lots"] == [
        {
            "lot": "b",
            "acquired": "2025-01-06",
            "adjusted_acquired": "2025-01-06",
            "quantity": "3.275",
            "proceeds": "65.50",
            "basis": "53.55",  # 53.54625, half up
            "gain_loss": "11.95",
            "disallowed": "0.00",
            "permanently_disallowed": "0.00",
            "term": "ST",
        }
    ]


def test_an_unquoted_ratio_is_the_number_yaml_made_of_it() -> None:
    """3:1 arrives as 181. A plain 3 says no ratio."""
    action = {"date": "2025-03-03", "type": "split", "symbol": "X", "ratio": 181}
    quoted = {**action, "ratio": "3:1"}
    unquoted = replay_cases({"cases": [case(corporate_actions=[action])]})
    assert unquoted == replay_cases({"cases": [case(corporate_actions=[quoted])]})
    action["ratio"] = 3
    with pytest.raises(InvalidTransactionError, match="in quotes") as refusal:
        replay_cases({"cases": [case(corporate_actions=[action])]})
    assert refusal.value.__notes__ == ["in case C"]


def test_an_unquoted_time_is_understood() -> None:
    """YAML reads 10:30 as 630. The purchase at 14:00 comes after the sale at 10:30, so the sale has nothing to sell."""
    timed = case()
    timed["transactions"][0].update(date="2025-06-02", time="14:00")
    timed["transactions"][1].update(time=630)
    with pytest.raises(OversoldError):
        replay_cases({"cases": [timed]})


def test_an_account_of_two_types_is_refused() -> None:
    mixed = case()
    mixed["transactions"][1]["account_type"] = "ira"
    with pytest.raises(InvalidTransactionError, match="account_type: expected taxable"):
        replay_cases({"cases": [mixed]})


# ------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize(
    ("number", "text"),
    [("0E-12", "0"), ("-0.00", "0"), ("100", "100"), ("1E+2", "100"), ("1.50", "1.5"), ("-0.10", "-0.1")],
)
def test_a_number_has_one_text(number: str, text: str) -> None:
    assert plain(Decimal(number)) == text


def test_a_part_is_rounded_once_and_the_rest_found_by_subtraction() -> None:
    third = apportion(Decimal(100), Decimal(1), Decimal(3))
    assert third == Decimal("33.333333333333")
    assert apportion(100 - third, Decimal(1), Decimal(2)) == Decimal("33.333333333334")
