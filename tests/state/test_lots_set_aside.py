"""Histories that cannot have happened are set aside, unit by unit, and nothing else is touched; and issuers' actions
that come and go, late or on their day, leave the ledger that a replay with them makes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lots_household import HOUSEHOLD, held, replay, row, told
from test_lots_corrections import ACCOUNTS, POLICY, batches, history

from state.lots import (
    Ledger,
    OversoldError,
    UnknownLotError,
    difference,
    in_effect,
    unit,
    wash_calendar,
    what_if,
)
from state.records import CorporateAction, CorporateActionKind, Lot, RealizedRow, Transaction, TransactionKind

D = Decimal
PROFILE = settings(max_examples=120, deadline=None)
KINDS = CorporateActionKind


@pytest.fixture(autouse=True, scope="module")
def _checkpoints_everywhere() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit, "LEAST_APART", 1)
        patch.setattr(unit, "MOST_KEPT", 64)
        yield


def aside(*rows: Transaction) -> Ledger:
    return Ledger.replay(HOUSEHOLD, rows, impossible="set_aside")


def too_many(like: Transaction, number: int) -> Transaction:
    """A sale of more than anybody ever held."""
    return replace(
        like, transaction_id=f"x{number}", kind=TransactionKind.SELL, quantity=D(10_000), order_id=None, acquired=None,
        ratio_new=None, ratio_old=None, price=D(9),
    )  # fmt: skip


# ------------------------------------------------------------------ one unit and the others

BOUGHT = row("b", "buy", "2024-01-02", "100", "10")
OTHER = row("o", "buy", "2024-01-02", "7", "20", symbol="Y")
SOLD = row("s", "sell", "2024-03-04", "100", "8")
BUST = row("k", "buy", "2024-01-02", "0", "0", supersedes="b")


def test_the_bust_of_a_purchase_already_sold_sets_its_symbol_aside_and_no_other() -> None:
    ledger = replay(BOUGHT, OTHER, SOLD).extended([BUST], impossible="set_aside")
    error = ledger.why_unreadable("X")
    assert isinstance(error, OversoldError)
    assert (error.transaction_id, error.symbol) == ("s", "X")
    assert ledger.why_unreadable("Y") is None
    assert held(ledger) == [("o", "2024-01-02", "7", "140")]
    assert ledger.realized() == ()
    assert ledger.positions("mine") == {"Y": D(7)}
    assert ledger.digest() == aside(BOUGHT, OTHER, SOLD, BUST).digest()


def test_the_row_that_puts_it_right_brings_it_back() -> None:
    ledger = aside(BOUGHT, OTHER, SOLD, BUST)
    booked_again = row("c", "buy", "2024-01-02", "100", "11", supersedes="b")
    again = ledger.extended([booked_again])
    assert again.unreadable == {}
    assert told(again.realized()) == [("s", "c", "100", "-300", "0")]
    assert again.digest() == replay(BOUGHT, OTHER, SOLD, BUST, booked_again).digest()


def test_a_sale_that_names_a_lot_of_a_busted_fill_waits_for_its_correction() -> None:
    bought = row("b", "buy", "2024-01-02", "100", "10", account="specific")
    named = row("s", "sell", "2024-03-04", "50", "12", account="specific", lots=[("b", "50")])
    ledger = replay(bought, named).extended([replace(BUST, account_id="specific")], impossible="set_aside")
    assert isinstance(ledger.why_unreadable("X"), OversoldError)
    more = row("m", "buy", "2024-01-02", "100", "10", account="specific")
    named_wrong = ledger.extended([more], impossible="set_aside")
    assert isinstance(named_wrong.why_unreadable("X"), UnknownLotError)


def test_who_imports_is_refused_and_the_ledger_stays_as_it_was() -> None:
    ledger = replay(BOUGHT, OTHER)
    with pytest.raises(OversoldError):
        ledger.extended([row("s", "sell", "2024-03-04", "101", "8")])
    with pytest.raises(OversoldError):
        Ledger.replay(HOUSEHOLD, [SOLD])
    broken = aside(OTHER, SOLD)
    with pytest.raises(OversoldError):
        broken.extended([row("n", "buy", "2024-05-02", "1", "1")])
    assert broken.extended([row("n", "buy", "2024-05-02", "1", "1", symbol="Y")]).position("mine", "Y") == 8


def test_nothing_is_asked_of_what_is_not_known() -> None:
    """A what-if in the symbol is refused, never answered with "nothing disallowed"; the calendar calls no day free."""
    ledger = aside(OTHER, SOLD)
    with pytest.raises(OversoldError):
        what_if(ledger, [row("n", "buy", "2024-03-05", "1", "1")])
    assert what_if(ledger, [row("n", "sell", "2024-03-05", "7", "19", symbol="Y")]).realized[0].gain_loss == -7
    calendar = wash_calendar(ledger, date(2024, 3, 5))
    for entries in (calendar.do_not_buy, calendar.do_not_sell_at_a_loss):
        (entry,) = (one for one in entries if "X" in one.symbols)
        assert (entry.until, entry.account_id) == (date(2024, 4, 4), "mine")
        assert "cannot be replayed" in entry.reason


def test_what_is_identical_to_it_is_set_aside_with_it() -> None:
    """Whether a purchase of VOO replaces a loss on SPY nobody can say while SPY's sales are in doubt."""
    rows = [
        row("v", "buy", "2024-03-01", "5", "10", symbol="VOO", account="spouse"),
        row("s", "sell", "2024-03-04", "5", "9", symbol="SPY"),
        OTHER,
    ]
    ledger = Ledger.replay(HOUSEHOLD, rows, POLICY, impossible="set_aside")
    assert ledger.why_unreadable("VOO") is not None
    assert ledger.positions("spouse") == {}
    assert ledger.positions("mine") == {"Y": D(7)}


@PROFILE
@given(chance=st.randoms(use_true_random=False))
def test_other_units_never_notice_and_what_comes_piece_by_piece_ends_as_a_replay(chance: random.Random) -> None:
    """Sales that cannot have happened, strewn into histories with corrections: only their own units are set aside."""
    ledger, known = Ledger.replay(ACCOUNTS, (), POLICY), []
    pieces = batches(chance)
    for number in range(chance.randint(1, 2)):
        place = chance.randrange(len(pieces))
        like = chance.choice([each for piece in pieces for each in piece])
        pieces.insert(place + 1, [too_many(replace(like, supersedes=None), number)])
    for piece in pieces:
        ledger = ledger.extended(piece, impossible="set_aside")
        known += piece
        full = Ledger.replay(ACCOUNTS, known, POLICY, impossible="set_aside")
        assert ledger.digest() == full.digest()
        assert ledger.unreadable.keys() == full.unreadable.keys()
    lost = {symbol for one in ledger.unreadable.values() for symbol in one.symbols}
    others = [each for each in known if each.symbol not in lost]
    untouched = Ledger.replay(ACCOUNTS, others, POLICY)
    assert ledger.open_lots() == untouched.open_lots()
    assert sorted(map(str, ledger.realized())) == sorted(map(str, untouched.realized()))


@PROFILE
@given(chance=st.randoms(use_true_random=False))
def test_taken_back_the_impossible_leaves_no_trace(chance: random.Random) -> None:
    rows = history(chance)
    wrong = too_many(chance.choice(rows), 0)
    ledger = Ledger.replay(ACCOUNTS, [*rows, wrong], POLICY, impossible="set_aside")
    assert ledger.why_unreadable(wrong.symbol or "") is not None
    undone = replace(wrong, transaction_id="undone", quantity=D(0), supersedes=wrong.transaction_id)
    assert ledger.extended([undone]).digest() == Ledger.replay(ACCOUNTS, rows, POLICY).digest()


# ------------------------------------------------------------------ issuers' actions


def action(kind: CorporateActionKind, symbol: str, day: str, **terms: object) -> CorporateAction:
    name = f"{kind.value}-{symbol}-{day}"
    return CorporateAction(name, kind, symbol, date.fromisoformat(day), **terms)  # type: ignore[arg-type]


TWO = {"ratio_new": D(2), "ratio_old": D(1)}


def test_an_action_counts_from_its_day_and_only_for_what_was_held_by_then() -> None:
    first_days = {"OLD": date(2024, 1, 2), "NEW": date(2025, 1, 2), "LATE": date(2025, 1, 2)}
    rename = action(KINDS.SYMBOL_CHANGE, "OLD", "2024-06-03", to_symbol="NEW")
    split = action(KINDS.SPLIT, "NEW", "2024-07-01", **TWO)
    late = action(KINDS.SPLIT, "LATE", "2024-06-03", **TWO)
    told = (split, late, rename)
    assert in_effect(told, first_days, date(2024, 6, 2)) == ()
    assert in_effect(told, first_days, date(2024, 6, 3)) == (rename,)
    assert in_effect(told, first_days, date(2024, 7, 1)) == (rename, split), "what OLD became is held since OLD was"
    assert in_effect((split,), first_days, date(2026, 1, 1)) == (), "NEW was bought after its split"


def test_an_action_leaves_other_units_the_very_same_objects() -> None:
    ledger = replay(BOUGHT, OTHER)
    acted = ledger.acting([action(KINDS.SPLIT, "X", "2024-02-01", **TWO)])
    assert held(acted) == [("b", "2024-01-02", "200", "1000"), ("o", "2024-01-02", "7", "140")]
    assert next(iter(acted.units("Y"))) is next(iter(ledger.units("Y")))
    assert next(iter(acted.units("X"))) is not next(iter(ledger.units("X")))
    assert held(ledger) == [("b", "2024-01-02", "100", "1000"), ("o", "2024-01-02", "7", "140")]


def test_a_split_told_by_the_broker_and_announced_is_one() -> None:
    split = row("sp", "split", "2024-02-02", ratio_new=D(2), ratio_old=D(1))
    ledger = replay(BOUGHT, split).acting([action(KINDS.SPLIT, "X", "2024-02-01", **TWO)])
    assert held(ledger) == [("b", "2024-01-02", "200", "1000")]


def test_an_action_that_makes_a_history_impossible_sets_it_aside() -> None:
    """A reverse split announced late: the shares sold since then were not there."""
    reverse = action(KINDS.SPLIT, "X", "2024-02-01", ratio_new=D(1), ratio_old=D(10))
    ledger = replay(BOUGHT, OTHER, SOLD)
    with pytest.raises(OversoldError):
        ledger.acting([reverse])
    acted = ledger.acting([reverse], impossible="set_aside")
    assert acted.why_unreadable("X") is not None
    assert acted.acting([], impossible="set_aside").digest() == ledger.digest()


def some_actions(chance: random.Random) -> list[CorporateAction]:
    found = []
    for number in range(chance.randint(0, 3)):
        day = str(date(2024, 1, 2) + timedelta(days=chance.randint(5, 400)))
        later = str(date(2025, 12, 1) + timedelta(days=number))  # after every trade: nothing is sold under an old name
        symbol = chance.choice(["SPY", "VOO", "QQQ"])
        draw = chance.random()
        if draw < 0.4:
            found.append(action(KINDS.SPLIT, symbol, day, ratio_new=D(3), ratio_old=D(1)))
        elif draw < 0.6:
            found.append(action(KINDS.RETURN_OF_CAPITAL, symbol, day, per_share=D("0.5")))
        elif draw < 0.8:
            found.append(action(KINDS.STOCK_MERGER, "QQQ", later, to_symbol="SPY", ratio_new=D("0.5")))
        else:
            found.append(action(KINDS.SYMBOL_CHANGE, symbol, later, to_symbol=f"R{number}"))
    return sorted(found, key=lambda each: (each.ex_date, each.action_id))


def _place(row: RealizedRow) -> tuple[str, str, Decimal, Decimal, Decimal]:
    """An order of rows by their values: 4 and 4.000000000 shares are the same."""
    return row.sale_id, row.lot_id, row.quantity, row.proceeds, row.basis


@PROFILE
@given(chance=st.randoms(use_true_random=False))
def test_actions_that_come_and_go_leave_the_ledger_of_a_replay_and_all_differences_are_told(
    chance: random.Random,
) -> None:
    """Rows and actions in any order: the ledger is that of a replay, and what is stored difference by difference is
    what the ledger holds, renames and mergers that join units included."""
    ledger, known = Ledger.replay(ACCOUNTS, (), POLICY), []
    queues: dict[tuple[str, str], tuple[Lot, ...]] = {}
    sales: dict[str, tuple[RealizedRow, ...]] = {}
    pieces: list[Sequence[Transaction] | tuple[CorporateAction, ...]] = [*batches(chance)]
    for _ in range(3):
        pieces.insert(chance.randint(1, len(pieces)), tuple(some_actions(chance)))
    for piece in pieces:
        before = ledger
        if piece and isinstance(piece[0], Transaction):
            ledger = ledger.extended(piece, impossible="set_aside")  # type: ignore[arg-type]
            known += piece
        else:
            ledger = ledger.acting(piece, impossible="set_aside")  # type: ignore[arg-type]
        full = Ledger.replay(ACCOUNTS, known, POLICY, ledger.corporate_actions, impossible="set_aside")
        assert ledger.digest() == full.digest()
        found = difference(before, ledger)
        if before.unreadable or ledger.unreadable:
            return  # what was told stands then; tests/daemon/test_bookkeeping.py
        queues.update(found.queues)
        sales.update(found.sales)
    held_now = {(lot.account_id, lot.symbol) for lot in ledger.open_lots()}
    assert {key for key, queue in queues.items() if queue} == held_now
    assert all(queues[key] == ledger.disposal_queue(*key) for key in held_now)
    stored = [each for rows in sales.values() for each in rows]
    assert sorted(stored, key=_place) == sorted(ledger.realized(), key=_place)
