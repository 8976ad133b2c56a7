"""Every kind of line a broker's history has, and what becomes of lines it corrects, takes back, books late or drops."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from conftest import Staged
from small_house import Stage
from told_history import History

from daemon.activities import transaction_of
from daemon.lots_check import compare
from daemon.questions import open_questions
from daemon.rereading import look_for_vanished
from state.records import (
    Activity,
    ActivityKind,
    BrokerPosition,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    IntentState,
    Side,
    Transaction,
    TransactionKind,
)
from state.store import JournalConflict

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
KINDS = ActivityKind


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 1, with ten names held since session 0."""
    made = staged()
    made.invest(0)
    made.tick(made.before_open(1))
    made.venue.advance_to(made.at(1, 10))
    return made


@pytest.fixture
def history(stage: Stage) -> History:
    made = History(stage)
    stage.look()
    return made


def held(stage: Stage, symbol: str = "AAA") -> Decimal:
    return stage.house.ledger.position("main", symbol)


def basis(stage: Stage, symbol: str = "AAA") -> Decimal:
    return sum((lot.basis for lot in stage.house.ledger.open_lots("main", symbol)), D(0))


def last_row(stage: Stage) -> Transaction:
    return stage.house.store.journal.all()[-1]


def questions(stage: Stage) -> list[str]:
    return [one.question_id for one in open_questions(stage.house.store, "main")]


def tables(stage: Stage) -> list[str]:
    with sqlite3.connect(stage.path) as raw:
        return list(raw.iterdump())


def proved(stage: Stage) -> None:
    """What is stored is what a replay says, and cash is the journal's sum."""
    assert compare(stage.house.store, stage.house.settings).differences == ()
    assert stage.house.journal_cash("main") == stage.house.store.journal.cash("main")


# ------------------------------------------------------------------ one line, one row


@pytest.mark.parametrize("kind", list(ActivityKind))
def test_every_kind_of_line_has_a_row_whose_cash_is_the_broker_s(stage: Stage, kind: ActivityKind) -> None:
    line = Activity(
        "id-1", kind, stage.venue.now, date(2024, 3, 5), symbol="AAA", side=SELL, quantity=D(3), price=D("1.5"),
        amount=D("4.49"), note="the broker's words",
    )  # fmt: skip
    row = transaction_of(line, stage.account)
    assert (row.transaction_id, row.account_id, row.source) == ("id-1", "main", "simulated")
    assert (row.amount, row.symbol, row.note) == (D("4.49"), "AAA", "the broker's words")
    moves_lots = row.kind in (TransactionKind.BUY, TransactionKind.SELL, TransactionKind.SPLIT)
    assert moves_lots is (kind is KINDS.FILL), "a split without its ratio moves nothing"


def test_cash_agrees_to_the_cent_over_lines_of_all_kinds(history: History) -> None:
    stage = history.stage
    for kind, amount in (
        (KINDS.CASH_DIVIDEND, "12.34"),
        (KINDS.CASH_DIVIDEND, "-0.34"),
        (KINDS.INTEREST, "-1.07"),
        (KINDS.FEE, "-0.02"),
        (KINDS.REORGANIZATION, "100.01"),
        (KINDS.RETURN_OF_CAPITAL, "7.5"),
        (KINDS.OTHER, "-3.33"),
    ):
        history.tell(kind, amount=D(amount), quantity=D(1), price=D("0.01"))
    history.tell(KINDS.INTEREST, None, amount=D("0.11"))
    snapshot = history.look_at(1, 12)
    assert stage.house.journal_cash("main") == snapshot.cash
    assert stage.alerts("reconcile:main:cash") == []
    proved(stage)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (KINDS.FILL, {"side": BUY, "quantity": D(0), "price": D(10)}),
        (KINDS.FILL, {"side": SELL, "quantity": D(-1), "price": D(10), "amount": D(-10)}),
        (KINDS.FILL, {"side": BUY, "quantity": D(1), "price": D(-10), "amount": D(10)}),
        (KINDS.SPLIT, {"ratio_new": D(0), "ratio_old": D(1), "amount": D("0.07")}),
        (KINDS.SPLIT, {"ratio_new": D(-2), "ratio_old": D(1)}),
        (KINDS.OTHER, {"unreadable": True, "note": "net_amount: expected a number, was None"}),
    ],
)
def test_a_line_that_makes_no_sense_locks_its_symbol_and_keeps_no_other_out(
    history: History, kind: ActivityKind, fields: dict[str, Any]
) -> None:
    stage, before = history.stage, held(history.stage)
    line = history.tell(kind, **fields)
    history.tell(KINDS.INTEREST, None, amount=D("0.11"))
    locks = history.look_at(1, 12).locks
    assert list(locks) == ["AAA"]
    assert (held(stage), last_row(stage).amount) == (before, D("0.11"))
    (asked,) = open_questions(stage.house.store, "main")
    assert asked.question_id == line.activity_id
    assert "makes no sense" in asked.text
    assert "harvestd reconcile adopt AAA" in asked.text
    for _ in range(2):
        assert history.reread().corrected == ()
        history.look_at(1, 14)
    assert stage.alerts("question:") == ["raised"], "told once"
    assert stage.alerts("reconcile:main:cash") == (["raised"] if kind is KINDS.FILL and line.amount else [])
    proved(stage)


def test_a_line_without_sense_and_symbol_is_told_and_asked_of_cash(history: History) -> None:
    stage = history.stage
    line = history.tell(KINDS.OTHER, None, unreadable=True, note="net_amount: expected a number, was None")
    history.cash -= D(5)
    assert history.look_at(1, 12).locks == {}
    assert [(one.symbol, one.question_id) for one in open_questions(stage.house.store, "main")] == [
        ("", line.activity_id)
    ]
    assert stage.alerts("question:") == stage.alerts("reconcile:main:cash") == ["raised"]


def test_a_line_that_makes_sense_once_it_is_corrected_is_taken_in(history: History) -> None:
    stage = history.stage
    line = history.tell(KINDS.FILL, side=BUY, quantity=D(0), price=D(10), broker_order_id="x")
    assert "AAA" in history.look_at(1, 12).locks
    history.rewrite(line.activity_id, quantity=D(5), amount=D(-50))
    history.cash -= D(50)
    history.moves(AAA=5)
    history.reread()
    assert history.look_at(1, 14).locks == {}
    assert questions(stage) == []
    assert stage.alerts("question:") == ["raised", "recovered"]
    proved(stage)


def test_a_trade_that_is_busted_by_another_type_leaves_the_executions(history: History) -> None:
    stage = history.stage
    stage.outside(SELL, "AAA", 100)
    history.look_at(1, 20)
    line = history.last_fill()
    assert line.activity_id in [fill.execution_id for fill in stage.house.store.orders.fills()]
    history.rewrite(line.activity_id, kind=KINDS.OTHER, amount=D(0), settle_date=None, note="FILL/trade_bust")
    history.moves(AAA=100)
    history.cash -= line.amount
    history.reread()
    assert line.activity_id not in [fill.execution_id for fill in stage.house.store.orders.fills()]
    proved(stage)


def test_a_correction_of_long_ago_is_found_while_cash_differs(history: History) -> None:
    """A dividend of March is put under another head in May: too long ago for an evening, not for a day's difference."""
    stage = history.stage
    line = history.tell(KINDS.CASH_DIVIDEND, amount=D(100))
    history.look_at(1, 20)
    history.look_at(50)
    history.rewrite(line.activity_id, cancelled=True)
    history.cash -= D(100)
    history.tell(KINDS.INTEREST, None, amount=D("0.5"))
    history.look_at(50, 20)
    assert history.reread().corrected == (), "not on the first evening"
    history.look_at(51, 30)
    (row,) = history.reread().corrected
    assert row.supersedes == line.activity_id
    history.look_at(51, 40)
    assert stage.alerts("reconcile:main:cash") == ["raised", "recovered"]
    proved(stage)


def test_what_is_told_of_a_difference_follows_its_figures(history: History) -> None:
    stage = history.stage
    said = []
    for minutes in (12, 14):
        history.cash += D(5)
        history.moves(BBB=3)
        history.look_at(1, minutes)
        said.append([one.message for one in stage.house.store.alerts.open_incidents("reconcile:main:")])
    before, after = said
    assert [len(before), len(after)] == [2, 2]
    assert set(before).isdisjoint(after)
    cash = stage.house.journal_cash("main")
    assert str(cash + 10) in "".join(after)
    assert stage.alerts("reconcile:") == ["raised", "raised"], "told once"


@pytest.mark.parametrize("lost", ["all of it", "one line"])
def test_one_answer_that_lacks_lines_is_not_believed(history: History, lost: str) -> None:
    stage = history.stage
    whole = stage.house.brokers["main"].activities_since
    answers = [0]

    def once_short(day: date) -> tuple[Activity, ...]:
        answers[0] += 1
        told = whole(day)
        return told if answers[0] > 1 else () if lost == "all of it" else told[1:]

    stage.alter(activities_since=once_short)
    assert history.reread().vanished == {}
    assert questions(stage) == []
    assert answers == [2]


def test_lines_that_are_back_in_the_morning_free_their_symbols(history: History) -> None:
    stage = history.stage
    gone = history.drop(history.last_fill("AAA").activity_id, history.last_fill("BBB").activity_id)
    history.reread()
    assert len(questions(stage)) == 2
    history.lines.update(gone)
    look_for_vanished(stage.house, stage.account)
    assert questions(stage) == []
    stage.alter(activities_since=None)
    look_for_vanished(stage.house, stage.account)  # nothing is gone: nothing is asked


def test_shares_that_come_from_elsewhere_get_no_lot_and_lock_the_symbol(history: History) -> None:
    stage, before = history.stage, basis(history.stage)
    history.tell(KINDS.SHARES_IN, quantity=D(40))
    history.moves(AAA=40)
    locks = history.look_at(1, 12).locks
    assert locks["AAA"].endswith("cause=transfer")
    assert basis(stage) == before
    assert last_row(stage).kind is TransactionKind.SHARES_IN
    (told,) = stage.house.store.alerts.open_incidents("reconcile:main:AAA")
    assert "40 shares came from elsewhere" in told.message
    assert "Import their lots" in told.message


@pytest.mark.parametrize("on", ["price", "amount"])
def test_capital_returned_lowers_the_basis_once(history: History, on: str) -> None:
    """By the broker's line alone; and when the issuer's announcement comes, by that instead, on its ex-date."""
    stage = history.stage
    before, shares = basis(stage), held(stage)
    cash = {"price": D("0.40")} if on == "price" else {}
    history.tell(KINDS.RETURN_OF_CAPITAL, quantity=shares, amount=shares * D("0.40"), **cash)
    assert history.look_at(1, 12).locks == {}
    assert basis(stage) == before - shares * D("0.40")
    ex_date = stage.session(1).session
    action = CorporateAction("roc", CorporateActionKind.RETURN_OF_CAPITAL, "AAA", ex_date, per_share=D("0.40"))
    history.announce(CorporateNotice("roc", "return_of_capital", "AAA", ex_date, action, per_share=D("0.40")))
    history.look_at(1, 14)
    assert basis(stage) == before - shares * D("0.40")
    proved(stage)


def test_capital_returned_counts_from_the_ex_date_that_was_announced_for_that_amount(history: History) -> None:
    """Paid on Thursday, ex Wednesday: shares bought on Wednesday are not of those."""
    stage = history.stage
    ex_date = stage.session(2).session
    history.announce(CorporateNotice("div", "cash_dividend", "AAA", ex_date, per_share=D("0.40")))
    old = held(stage)
    stage.live(1)
    stage.tick(stage.before_open(2))
    stage.venue.advance_to(stage.at(2, 5))
    stage.outside(BUY, "AAA", 10)
    history.look_at(2, 7)
    fresh = stage.house.ledger.open_lots("main", "AAA")[-1].basis
    stage.venue.advance_to(stage.at(3, 5))
    history.tell(KINDS.RETURN_OF_CAPITAL, quantity=old, price=D("0.40"), amount=old * D("0.40"))
    before = basis(stage)
    history.look_at(3, 7)
    assert before - basis(stage) == old * D("0.40")
    assert stage.house.ledger.open_lots("main", "AAA")[-1].basis == fresh


def test_a_change_of_symbol_keeps_lots_basis_and_dates(history: History) -> None:
    stage, before, shares = history.stage, basis(history.stage), held(history.stage)
    history.tell(KINDS.SYMBOL_CHANGE, to_symbol="NEW", quantity=shares)
    history.moves(AAA=-shares, NEW=shares)
    locks = history.look_at(1, 12).locks
    assert "SYMBOL_LOCKED" not in "".join(locks.values())
    assert (held(stage), held(stage, "NEW"), basis(stage, "NEW")) == (0, shares, before)
    proved(stage)


@pytest.mark.parametrize("kind", [KINDS.SPLIT, KINDS.REORGANIZATION])
def test_a_line_without_its_terms_locks_until_they_are_announced(history: History, kind: ActivityKind) -> None:
    """The broker doubles the shares and does not say by what; the announcement comes the next day."""
    stage, shares = history.stage, held(history.stage)
    history.tell(kind)
    history.moves(AAA=shares)
    for minute in (12, 14):
        locks = history.look_at(1, minute).locks
    assert "AAA" in locks
    assert held(stage) == shares
    assert stage.alerts("question:") == ["raised"]
    day = stage.session(1).session
    action = CorporateAction("sp", CorporateActionKind.SPLIT, "AAA", day, D(2), D(1))
    history.announce(CorporateNotice("sp", "forward_split", "AAA", day, action))
    assert history.look_at(1, 16).locks == {}
    assert held(stage) == shares * 2
    assert stage.alerts("question:") == ["raised", "recovered"]
    assert stage.alerts("reconcile:") == ["raised", "recovered"]


def test_a_line_of_unknown_kind_books_its_cash_and_locks_its_symbol(history: History) -> None:
    stage = history.stage
    history.tell(KINDS.OTHER, amount=D("-2.50"), note="MISC")
    for _ in range(2):
        locks = history.look_at(1, 12).locks
        assert locks == {"AAA": "SYMBOL_UNSETTLED: symbol=AAA question=" + last_row(stage).transaction_id}
    (row,) = (one for one in stage.house.store.positions.list("main") if one.symbol == "AAA")
    assert row.lock_reason == locks["AAA"], "`harvestd positions` shows it"
    assert stage.alerts("question:") == ["raised"]
    stage.restart()
    history.attach()
    assert "AAA" in stage.look().locks


def test_a_split_told_by_line_and_announcement_and_again_is_one(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    day = stage.session(1).session
    action = CorporateAction("sp", CorporateActionKind.SPLIT, "CCC", day, D(3), D(2))
    history.announce(CorporateNotice("sp", "forward_split", "CCC", day, action))
    before = held(stage, "CCC")
    locks = history.look_at(1, 12).locks
    assert locks["CCC"].endswith("cause=split"), "announced, and not booked by the broker yet"
    stage.venue.split("CCC", D(3), D(2))
    assert history.look_at(1, 14).locks == {}
    assert held(stage, "CCC") == before * 3 / 2
    assert held(stage) == shares


# ------------------------------------------------------------------ issuers' actions that need a person


def spin_off(stage: Stage, symbol: str, day: date, **changes: Any) -> CorporateNotice:
    made = CorporateNotice("spin", "spin_off", symbol, day, needs_person=True, note="0.1 KID a share")
    return replace(made, **changes)


def test_an_action_that_needs_a_person_locks_what_is_held_from_its_day_on(history: History) -> None:
    stage = history.stage
    history.announce(spin_off(stage, "AAA", stage.session(2).session), spin_off(stage, "ZZZ", stage.session(1).session))
    history.announce(replace(spin_off(stage, "AAA", stage.session(2).session), action_id="ahead"))
    assert history.look_at(1, 12).locks == {}
    stage.finish(1)
    locks = history.look_at(2, 5).locks
    assert list(locks) == ["AAA"]
    assert stage.alerts("question:") == ["raised"]
    (question,) = open_questions(stage.house.store, "main")
    assert "Spin" not in question.text
    assert "spin off with ex-date" in question.text
    assert "harvestd reconcile adopt AAA" in question.text


def test_an_action_that_no_longer_needs_a_person_applies(history: History) -> None:
    stage, day = history.stage, history.stage.session(1).session
    history.announce(spin_off(stage, "AAA", day))
    before = basis(stage)
    assert list(history.look_at(1, 12).locks) == ["AAA"]
    terms = CorporateAction(
        "spin", CorporateActionKind.SPINOFF, "AAA", day, D(1), D(10), to_symbol="KID", basis_fraction=D("0.25")
    )
    history.announce(spin_off(stage, "AAA", day, action=terms, needs_person=False))
    history.moves(KID=held(stage) / 10)
    locks = history.look_at(1, 14).locks
    assert "AAA" not in locks
    assert (basis(stage), basis(stage, "KID")) == (before * D("0.75"), before * D("0.25"))
    assert stage.alerts("question:") == ["raised", "recovered"]


# ------------------------------------------------------------------ read again in the evening


def test_reading_twice_what_did_not_change_changes_nothing(history: History) -> None:
    history.tell(KINDS.CASH_DIVIDEND, amount=D("1.23"))
    history.tell(KINDS.OTHER, amount=D("1.23"))
    history.look_at(1, 12)
    before = tables(history.stage)
    for _ in range(2):
        found = history.reread()
        assert (found.late, found.corrected, found.vanished) == ((), (), {})
    history.look_at(1, 12)
    assert tables(history.stage) == before


def test_a_price_put_right_supersedes_the_fill(history: History) -> None:
    """The sale's proceeds, the cash and the fills are the corrected ones; the old figure is restated."""
    stage = history.stage
    stage.outside(SELL, "AAA", 50)
    history.look_at(1, 12)
    fill = history.last_fill()
    history.rewrite(fill.activity_id, price=fill.price + 1, amount=fill.amount + 50)
    history.cash += 50
    (row,) = history.reread().corrected
    assert (row.transaction_id, row.supersedes) == (f"{fill.activity_id}~2", fill.activity_id)
    assert row.price == fill.price + 1
    before = tables(stage)
    assert history.reread().corrected == ()
    assert tables(stage) == before
    snapshot = history.look_at(1, 14)
    assert snapshot.locks == {}
    assert stage.house.journal_cash("main") == snapshot.cash
    (sold,) = stage.house.store.lots.realized("main")
    assert (sold.sale_id, sold.proceeds) == (row.transaction_id, fill.amount + 50)
    assert stage.alerts("corrected:") == ["raised"]
    assert stage.alerts("restated:") == ["raised"]
    fills = [one for one in stage.house.store.orders.fills() if one.side is SELL]
    assert [(one.execution_id, one.price) for one in fills] == [(row.transaction_id, row.price)]
    proved(stage)


def test_corrected_twice_taken_back_and_told_again(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    fill = history.last_fill()
    for price in (1, 2):
        history.rewrite(fill.activity_id, price=fill.price + price, amount=fill.amount - price * fill.quantity)
        assert len(history.reread().corrected) == 1
    assert basis(stage) == (fill.price + 2) * fill.quantity
    history.rewrite(fill.activity_id, cancelled=True)
    assert len(history.reread().corrected) == 1
    assert held(stage) == 0
    history.rewrite(fill.activity_id, cancelled=False, price=fill.price, amount=fill.amount)
    (row,) = history.reread().corrected
    assert row.transaction_id == f"{fill.activity_id}~5"
    assert (held(stage), basis(stage)) == (shares, fill.price * fill.quantity)
    assert history.reread().corrected == ()
    proved(stage)


def test_a_bust_of_our_own_fill_leaves_the_order_as_the_broker_tells_it(history: History) -> None:
    stage = history.stage
    stage.execute((SELL, "AAA", 50))
    stage.tick(stage.at(1, 12))
    stage.tick(stage.at(1, 14))
    assert stage.only("AAA").state is IntentState.FILLED
    fill, before = history.last_fill(), held(stage)
    history.rewrite(fill.activity_id, cancelled=True)
    history.moves(AAA=50)
    history.cash -= fill.amount
    history.reread()
    assert history.look_at(1, 16).locks == {}
    assert held(stage) == before + 50
    assert [one for one in stage.house.store.orders.fills() if one.side is SELL] == []
    intent = stage.only("AAA")
    assert (intent.state, intent.filled_quantity) == (IntentState.FILLED, D(50)), "its order says so"
    proved(stage)


def test_a_dividend_taken_back_leaves_cash_and_journal_agreeing(history: History) -> None:
    stage = history.stage
    line = history.tell(KINDS.CASH_DIVIDEND, amount=D("12.34"))
    history.look_at(1, 12)
    history.rewrite(line.activity_id, cancelled=True)
    history.cash -= line.amount
    (row,) = history.reread().corrected
    assert (row.amount, row.supersedes) == (0, line.activity_id)
    assert stage.house.journal_cash("main") == history.look_at(1, 14).cash
    proved(stage)


def test_a_split_and_a_return_of_capital_taken_back_never_were(history: History) -> None:
    stage, shares, cost = history.stage, held(history.stage), basis(history.stage)
    lines = [
        history.tell(KINDS.RETURN_OF_CAPITAL, quantity=shares, price=D("0.1"), amount=shares * D("0.1")),
        history.tell(KINDS.SPLIT, ratio_new=D(2), ratio_old=D(1)),
    ]
    history.moves(AAA=shares)
    assert history.look_at(1, 12).locks == {}
    assert (held(stage), basis(stage)) == (shares * 2, cost - shares * D("0.1"))
    for line in lines:
        history.rewrite(line.activity_id, cancelled=True)
    history.moves(AAA=-shares)
    history.cash -= lines[0].amount
    history.reread()
    assert history.look_at(1, 14).locks == {}
    assert (held(stage), basis(stage)) == (shares, cost)
    proved(stage)


def test_what_the_cursor_has_passed_is_found_in_the_evening_and_not_booked_twice(history: History) -> None:
    """The broker books a line of yesterday behind everything already read; a week later it forgets our cursor."""
    stage = history.stage
    late = history.tell(KINDS.CASH_DIVIDEND, amount=D("3.21"), trade_date=stage.session(0).session)
    stage.house.store.agenda.set_cursor("main", "activities", f"activity-{len(history.lines)}")
    history.look_at(1, 12)
    assert stage.alerts("reconcile:main:cash") == ["raised"]
    assert [row.transaction_id for row in history.reread().late] == [late.activity_id]
    stage.house.store.agenda.set_cursor("main", "activities", "activity-0")
    history.look_at(1, 14)
    assert stage.alerts("reconcile:main:cash") == ["raised", "recovered"]
    proved(stage)


def test_a_history_told_anew_after_corrections_is_known(history: History) -> None:
    """The cursor is lost after a correction: the first version is not told again, and nothing conflicts."""
    stage, fill = history.stage, history.last_fill()
    history.rewrite(fill.activity_id, price=fill.price + 1)
    history.reread()
    before = tables(stage)
    stage.house.store.agenda.set_cursor("main", "activities", "activity-0")
    history.look_at(1, 12)
    stage.house.store.agenda.set_cursor("main", "activities", f"activity-{len(history.lines)}")
    assert [line for line in tables(stage) if "cursor" not in line] == [line for line in before if "cursor" not in line]


def test_a_changed_line_is_not_believed_on_the_way_and_is_a_correction_in_the_evening(history: History) -> None:
    """Until then nothing of the page is read; the evening reads again before anything else, and all goes on."""
    stage, fill = history.stage, history.last_fill()
    history.rewrite(fill.activity_id, price=fill.price + 1)
    history.tell(KINDS.INTEREST, None, amount=D("0.01"))
    stage.house.store.agenda.set_cursor("main", "activities", "activity-0")
    with pytest.raises(JournalConflict, match="came again with another content"):
        history.look_at(1, 12)
    assert last_row(stage).kind is not TransactionKind.INTEREST
    history.reread()
    history.look_at(1, 14)
    assert {row.kind for row in stage.house.store.journal.all()} >= {TransactionKind.INTEREST}


def test_a_line_taken_back_before_it_was_ever_read_leaves_no_row(history: History) -> None:
    rows = history.stage.house.store.journal.count()
    history.tell(KINDS.FILL, quantity=D(5), price=D(40), side=BUY, broker_order_id="gone", cancelled=True)
    history.look_at(1, 12)
    history.reread()
    assert history.stage.house.store.journal.count() == rows


def test_words_and_settlement_days_that_change_are_no_correction(history: History) -> None:
    fill = history.last_fill()
    history.rewrite(fill.activity_id, note="other words", settle_date=fill.trade_date + timedelta(days=1))
    assert history.reread().corrected == ()


def test_a_person_s_correction_stands_until_the_broker_corrects_the_line_itself(history: History) -> None:
    stage, fill = history.stage, history.last_fill()
    own = replace(
        transaction_of(fill, stage.account), transaction_id="import:main:fixed", source="import", price=D(1),
        supersedes=fill.activity_id, fees=D(0),
    )  # fmt: skip
    stage.house.learn([own])
    assert basis(stage) == fill.quantity
    assert history.reread().corrected == ()
    history.rewrite(fill.activity_id, price=D(2))
    (row,) = history.reread().corrected
    assert row.supersedes == "import:main:fixed"
    assert history.reread().corrected == ()
    proved(stage)


# ------------------------------------------------------------------ lines that are gone


def test_a_line_that_is_gone_counts_and_locks_until_it_is_told_again(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    fill = history.last_fill()
    gone = history.drop(fill.activity_id)
    for _ in range(2):
        assert history.reread().vanished == {"AAA": (fill.activity_id,)}
        assert list(history.look_at(1, 12).locks) == ["AAA"]
    assert held(stage) == shares
    assert stage.alerts("vanished:") == ["raised"]
    history.lines.update(gone)
    assert history.reread().vanished == {}
    assert history.look_at(1, 14).locks == {}
    assert stage.alerts("vanished:") == ["raised", "recovered"]


def test_a_line_that_is_gone_stays_asked_about_when_it_leaves_the_days_that_are_read_again(history: History) -> None:
    from daemon.rereading import reread

    stage, fill = history.stage, history.last_fill()
    history.drop(fill.activity_id)
    history.reread()
    reread(stage.house, stage.account, days=0)
    assert list(history.look_at(1, 12).locks) == ["AAA"]
    assert stage.alerts("vanished:") == ["raised"]


def test_a_history_that_comes_back_empty_is_one_incident_and_locks_everything(history: History) -> None:
    stage = history.stage
    gone = history.drop(*[line.activity_id for line in history._all() if line is not None])
    history.reread()
    assert len(history.look_at(1, 12).locks) == 10
    assert stage.alerts("vanished:") == ["raised"]
    history.lines.update(gone)
    history.reread()
    assert history.look_at(1, 14).locks == {}
    assert stage.alerts("vanished:") == ["raised", "recovered"]


# ------------------------------------------------------------------ a history that cannot have happened


def test_a_bust_of_what_was_sold_since_locks_that_symbol_and_the_day_goes_on(staged: Staged) -> None:
    """AAA was bought and sold; its purchase is busted. Every other name is traded as ever, and every task is done."""
    stage = staged()
    stage.invest(0)
    history = History(stage)
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.at(1, 5))
    stage.outside(SELL, "AAA", 50)
    stage.venue.deposit(D(20_000), reference="more")
    stage.finish(1)
    bought = next(line for line in history._all() if line and line.symbol == "AAA" and line.side is BUY)
    history.rewrite(bought.activity_id, cancelled=True)
    history.moves(AAA=-bought.quantity)
    history.reread()
    assert stage.alerts("unreadable:") == ["raised"]
    assert stage.alerts("restated:") == [], "nobody knows what the sale is now"
    stage.venue.deposit(D(20_000), reference="still more")
    stage.live(2)
    snapshot = stage.look()
    assert snapshot.locks == {"AAA": "LEDGER_UNREADABLE: symbol=AAA"}
    assert stage.sent() != ()
    assert stage.intents("AAA") == () or all(one.session < stage.session(2).session for one in stage.intents("AAA"))
    assert {"decide", "evening"} <= stage.house.store.agenda.done(stage.session(2).session, "main")
    assert stage.alerts("task:") == []
    history.rewrite(bought.activity_id, cancelled=False)
    history.moves(AAA=bought.quantity)
    history.reread()
    assert history.look_at(3, 5).locks == {}
    assert stage.alerts("unreadable:") == ["raised", "recovered"]
    proved(stage)


def test_a_sale_of_shares_that_came_without_lots_does_not_stop_the_account(history: History) -> None:
    stage = history.stage
    history.tell(KINDS.SHARES_IN, "ZZZ", quantity=D(40))
    history.tell(KINDS.FILL, "ZZZ", quantity=D(15), price=D(10), side=SELL, amount=D(150), broker_order_id="by-hand")
    history.moves(ZZZ=25)
    snapshot = history.look_at(1, 12)
    assert "ZZZ" in snapshot.locks
    assert stage.house.ledger.why_unreadable("ZZZ") is not None
    assert stage.house.journal_cash("main") == snapshot.cash
    assert stage.alerts("unreadable:") == ["raised"]
    assert stage.alerts("reconcile:main:ZZZ") == [], "one incident, one alert"


def test_positions_unknown_to_the_ledger_do_not_hide_behind_it(history: History) -> None:
    """The broker says nothing of the shares any more: locked all the same."""
    stage = history.stage
    history.tell(KINDS.FILL, "BBB", quantity=D(100_000), price=D(10), side=SELL, broker_order_id="by-hand")
    positions = tuple(one for one in stage.venue.broker().positions() if one.symbol != "BBB")
    stage.alter(activities=history._activities, account=history._account, positions=lambda: positions)
    assert all(isinstance(one, BrokerPosition) for one in positions)
    assert stage.look().locks["BBB"] == "LEDGER_UNREADABLE: symbol=BBB"
