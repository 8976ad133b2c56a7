"""Lots beside the broker's positions: what differs, its likely cause with the evidence, and a person's word for it."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import Stage
from told_history import History

from daemon.adoption import Adoption, CannotAdopt, adopt, adoption
from daemon.lots_check import compare
from daemon.reconcile import Cause, Difference, differences, standing
from state.records import (
    ActivityKind,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Side,
    Transaction,
    TransactionKind,
)

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
KINDS = ActivityKind


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 8, with ten names held since session 0: no trade by hand is recent."""
    made = staged()
    made.invest(0)
    made.tick(made.before_open(8))
    made.venue.advance_to(made.at(8, 10))
    return made


@pytest.fixture
def history(stage: Stage) -> History:
    made = History(stage)
    stage.look()
    return made


def found(history: History) -> dict[str, Difference]:
    stage = history.stage
    stage.look()
    positions = stage.house.brokers["main"].positions()
    return {one.symbol: one for one in differences(stage.house, stage.account, positions)}


def only(history: History) -> Difference:
    (one,) = found(history).values()
    return one


def held(stage: Stage, symbol: str = "AAA") -> Decimal:
    return stage.house.ledger.position("main", symbol)


def tables(stage: Stage) -> list[str]:
    with sqlite3.connect(stage.path) as raw:
        return list(raw.iterdump())


# ------------------------------------------------------------------ causes


def test_nothing_differs(history: History) -> None:
    assert found(history) == {}
    assert standing(history.stage.house, history.stage.account).is_clean


def test_a_difference_has_both_bases_and_is_exact_to_nine_decimals(history: History) -> None:
    history.moves(AAA=D("0.000000001"))
    history.basis["AAA"] = D("12345.67")
    one = only(history)
    lots = history.stage.house.ledger.open_lots("main", "AAA")
    assert one.theirs - one.ours == D("0.000000001")
    assert (one.basis, one.their_basis) == (sum(lot.basis for lot in lots), D("12345.67"))


def test_what_nothing_explains_is_called_so(history: History) -> None:
    history.moves(AAA=-7)
    one = only(history)
    assert (one.cause, one.evidence) == (Cause.UNKNOWN, "Nothing in the broker's history explains it.")
    assert "harvestd reconcile adopt AAA" in one.advice
    assert one.lock in one.told


def test_a_round_quotient_nobody_announced_is_mentioned(history: History) -> None:
    history.moves(AAA=held(history.stage))
    one = only(history)
    assert one.cause is Cause.UNKNOWN
    assert "exactly 2:1" in one.evidence


@pytest.mark.parametrize(("kind", "sign"), [(KINDS.SHARES_IN, 1), (KINDS.SHARES_OUT, -1)])
def test_lines_of_shares_that_came_or_went_explain_just_their_shares(
    history: History, kind: ActivityKind, sign: int
) -> None:
    history.tell(kind, quantity=D(3))
    history.tell(kind, quantity=D(4))
    history.moves(AAA=7 * sign)
    one = only(history)
    assert one.cause is Cause.TRANSFER
    assert one.evidence.startswith("7 shares")
    history.moves(AAA=sign)
    assert only(history).cause is not Cause.TRANSFER


@pytest.mark.parametrize("ahead", [False, True], ids=["the broker has not booked it", "the broker has it already"])
def test_a_split_on_one_side_only(history: History, ahead: bool) -> None:
    stage = history.stage
    day = stage.session(8 + ahead).session
    action = CorporateAction("sp", CorporateActionKind.SPLIT, "AAA", day, D(3), D(2))
    history.announce(CorporateNotice("sp", "forward_split", "AAA", day, action))
    if ahead:
        history.moves(AAA=held(stage) / 2)
    one = only(history)
    assert one.cause is Cause.SPLIT
    assert "3:2" in one.evidence
    assert str(day) in one.evidence


def test_a_change_of_symbol_that_one_side_has_booked(history: History) -> None:
    stage, day = history.stage, history.stage.session(9).session
    action = CorporateAction("nc", CorporateActionKind.SYMBOL_CHANGE, "AAA", day, to_symbol="NEW")
    history.announce(CorporateNotice("nc", "name_change", "AAA", day, action))
    history.moves(AAA=-held(stage), NEW=held(stage))
    assert {symbol: one.cause for symbol, one in found(history).items()} == {
        "AAA": Cause.SYMBOL_CHANGE,
        "NEW": Cause.SYMBOL_CHANGE,
    }


def test_a_merger_that_was_announced_or_booked(history: History) -> None:
    stage, day = history.stage, history.stage.session(9).session
    action = CorporateAction("cm", CorporateActionKind.CASH_MERGER, "AAA", day, per_share=D(50))
    history.announce(CorporateNotice("cm", "cash_merger", "AAA", day, action, per_share=D(50)))
    history.tell(KINDS.REORGANIZATION, "BBB", note="WRM")
    history.moves(AAA=-held(stage), BBB=-1)
    causes = found(history)
    assert causes["AAA"].cause is causes["BBB"].cause is Cause.ISSUER_ACTION
    assert "Cash merger with ex-date" in causes["AAA"].evidence
    assert "WRM" in causes["BBB"].evidence


def test_somebody_trades_by_hand_and_the_newest_is_not_in_the_history_yet(history: History) -> None:
    history.stage.outside(SELL, "AAA", 5)
    history.stage.venue.advance_to(history.stage.at(8, 12))
    history.moves(AAA=-3)
    one = only(history)
    assert one.cause is Cause.MANUAL_TRADE
    assert "5 were sold" in one.evidence
    assert "Wait" not in one.advice
    assert "harvestd reconcile adopt AAA" in one.advice


def test_our_own_fill_that_the_history_does_not_tell_yet(history: History) -> None:
    """The order is filled and the shares are gone; the line comes some seconds later."""
    stage = history.stage
    stage.execute((SELL, "AAA", 50))
    stage.tick(stage.at(8, 12))
    stage.venue.advance_to(stage.at(8, 14))
    line = history.last_fill()
    assert line.side is SELL
    gone = history.drop(line.activity_id)
    one = only(history)
    assert one.cause is Cause.FILL_ON_ITS_WAY
    assert stage.only("AAA").client_order_id in one.evidence
    history.lines.update(gone)
    stage.house.store.agenda.set_cursor("main", "activities", "activity-0")
    assert found(history) == {}


def test_shares_from_before_the_history(history: History) -> None:
    history.moves(ZZZ=12)
    one = only(history)
    assert one.cause is Cause.BEFORE_HISTORY
    assert str(history.stage.house.store.journal.first_day("main")) in one.evidence
    assert one.basis is None


def test_what_cannot_be_read_is_no_difference_and_is_named(history: History) -> None:
    stage = history.stage
    history.tell(KINDS.FILL, quantity=D(10_000), price=D(1), side=SELL, broker_order_id="by-hand")
    history.tell(KINDS.OTHER, "BBB")
    history.moves(AAA=1)
    assert found(history) == {}
    seen = standing(stage.house, stage.account)
    assert seen.unreadable == ("AAA",)
    assert [one.symbol for one in seen.questions] == ["BBB"]
    assert seen.agreeing == 9
    assert not seen.is_clean


# ------------------------------------------------------------------ a person's word


def proposed(history: History, symbol: str = "AAA", acquired: date | None = None) -> Adoption:
    stage = history.stage
    stage.look()
    return adoption(stage.house, stage.account, symbol, stage.house.brokers["main"].positions(), acquired)


def adopted(history: History, symbol: str = "AAA", acquired: date | None = None) -> tuple[Transaction, ...]:
    return adopt(history.stage.house, proposed(history, symbol, acquired))


def test_to_propose_writes_nothing(history: History) -> None:
    history.moves(AAA=5)
    history.stage.look()
    before = tables(history.stage)
    proposed(history)
    assert tables(history.stage) == before


def test_missing_shares_become_a_lot_that_is_never_sold_for_its_loss(history: History) -> None:
    stage, before = history.stage, history.stage.house.ledger.open_lots("main", "AAA")
    history.moves(AAA=5)
    words = proposed(history)
    assert words.lines == (
        f"writes a lot of 5 AAA, held from {stage.session(8).session} on, acquired {stage.session(8).session}, "
        "basis unknown",
    )
    assert "counts as a loss for wash sales" in words.means[0]
    (row,) = adopt(stage.house, words)
    assert (row.kind, row.source, row.price) == (TransactionKind.OPENING_LOT, "adopt", 0)
    *others, made = stage.house.ledger.open_lots("main", "AAA")
    assert tuple(others) == before
    assert (made.quantity, made.basis_known) == (D(5), False)
    assert stage.look().locks == {}
    assert stage.alerts("reconcile:") == ["raised", "recovered"]
    assert compare(stage.house.store, stage.house.settings).differences == ()


def test_shares_too_many_leave_the_books_without_gain_or_loss(history: History) -> None:
    stage = history.stage
    history.moves(AAA=-5)
    words = proposed(history)
    assert "off the books" in words.lines[0]
    assert "1099-B" in words.means[0]
    (row,) = adopt(stage.house, words)
    assert row.kind is TransactionKind.REMOVED
    assert stage.house.ledger.realized("main") == ()
    assert stage.look().locks == {}
    assert compare(stage.house.store, stage.house.settings).differences == ()


def test_doing_it_twice_changes_nothing_and_another_difference_is_another_row(history: History) -> None:
    stage = history.stage
    history.moves(AAA=5)
    words = proposed(history)
    adopt(stage.house, words)
    before = tables(stage)
    assert adopt(stage.house, words) == ()
    assert tables(stage) == before
    with pytest.raises(CannotAdopt, match="nothing to adopt"):
        proposed(history)
    history.moves(AAA=5)
    assert len(adopted(history)) == 1
    history.moves(AAA=-5)
    assert len(adopted(history)) == 1
    history.moves(AAA=5)
    assert len(adopted(history)) == 1, "the same step as before, from other shares"
    assert stage.look().locks == {}


def test_a_lot_that_came_is_acquired_on_the_day_it_came_or_the_day_a_person_says(history: History) -> None:
    stage = history.stage
    came = stage.session(5).session
    history.tell(KINDS.SHARES_IN, quantity=D(5), trade_date=came)
    history.moves(AAA=5)
    assert proposed(history).rows[0].acquired == came
    earlier = date(2019, 5, 6)
    (row,) = adopted(history, acquired=earlier)
    assert (row.acquired, row.trade_date) == (earlier, stage.session(8).session)
    with pytest.raises(CannotAdopt, match="expected a day up to"):
        proposed(history, "BBB", stage.session(9).session)


def test_a_history_that_sells_more_than_it_has_gets_the_lot_that_was_missing(history: History) -> None:
    """40 came without lots, 25 of them were sold, then a 2:1 split: 30 are left. So 40 were there before."""
    stage = history.stage
    history.tell(KINDS.SHARES_IN, "ZZZ", quantity=D(40))
    history.tell(KINDS.FILL, "ZZZ", quantity=D(25), price=D(10), side=SELL, amount=D(250), broker_order_id="x")
    stage.look()
    stage.venue.advance_to(stage.at(9, 5))
    history.tell(KINDS.SPLIT, "ZZZ", ratio_new=D(2), ratio_old=D(1))
    history.moves(ZZZ=30)
    words = proposed(history, "ZZZ")
    assert words.ours is None
    (row,) = adopt(stage.house, words)
    assert (row.quantity, row.trade_date) == (D(40), stage.session(8).session)
    assert held(stage, "ZZZ") == 30
    (sold,) = stage.house.store.lots.realized("main")
    assert (sold.quantity, sold.basis) == (D(25), D(0))
    assert stage.alerts("unreadable:") == ["raised", "recovered"]
    assert "UNREADABLE" not in "".join(stage.look().locks.values())


def test_what_a_lot_from_before_does_not_explain_is_refused(history: History) -> None:
    """Fewer are left than were bought since the sale: no lot from before makes that."""
    stage = history.stage
    history.tell(KINDS.FILL, "ZZZ", quantity=D(25), price=D(10), side=SELL, broker_order_id="x")
    stage.look()
    stage.venue.advance_to(stage.at(9, 5))
    history.tell(KINDS.FILL, "ZZZ", quantity=D(90), price=D(10), side=BUY, broker_order_id="y")
    history.moves(ZZZ=30)
    before = stage.house.store.journal.count()
    with pytest.raises(CannotAdopt, match="no lot of unknown basis"):
        proposed(history, "ZZZ")
    assert stage.house.store.journal.count() == before + 1, "what the broker told, and nothing else"


def test_lines_that_are_gone_are_taken_back_at_a_person_s_word(history: History) -> None:
    stage = history.stage
    line = history.last_fill()
    dividend = history.tell(KINDS.CASH_DIVIDEND, None, amount=D(5))
    stage.look()
    history.drop(line.activity_id, dividend.activity_id)
    history.moves(AAA=-line.quantity)
    history.cash -= line.amount + D(5)
    history.reread()
    assert "AAA" in stage.look().locks
    rows = adopted(history)
    assert [row.supersedes for row in rows] == [line.activity_id]
    assert [row.supersedes for row in adopted(history, "cash")] == [dividend.activity_id]
    snapshot = stage.look()
    assert snapshot.locks == {}
    assert stage.house.journal_cash("main") == snapshot.cash
    assert history.reread().vanished == {}
    assert stage.alerts("vanished:main:AAA") == ["raised", "recovered"]


def test_a_trade_that_is_in_the_positions_before_the_history_is_not_adopted(history: History) -> None:
    """Sold between the look at the history and that at the positions: adopted, it would leave the books twice."""
    stage = history.stage
    stage.look()
    stage.outside(SELL, "AAA", 7)
    stage.venue.advance_to(stage.at(8, 12))
    words = adoption(stage.house, stage.account, "AAA", stage.house.brokers["main"].positions())
    assert "7 AAA off the books" in words.lines[0]
    with pytest.raises(CannotAdopt, match="not what was shown any more"):
        adopt(stage.house, words)
    assert stage.look().locks == {}
    assert all(row.source != "adopt" for row in stage.house.store.journal.all())


def test_what_is_another_difference_by_the_time_of_the_word_is_not_written(history: History) -> None:
    stage = history.stage
    history.moves(AAA=30)
    words = proposed(history)
    history.moves(AAA=-10)
    with pytest.raises(CannotAdopt, match="expected 280 shares there and 250 here, are 270 and 250"):
        adopt(stage.house, words)
    history.moves(AAA=-20)
    with pytest.raises(CannotAdopt, match="Nothing was written"):
        adopt(stage.house, words)
    assert all(row.source != "adopt" for row in stage.house.store.journal.all())


def test_the_two_looks_are_some_time_apart(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds after the first look the history tells the trade that the positions had already."""
    stage = history.stage
    stage.outside(SELL, "AAA", 7)
    stage.venue.advance_to(stage.at(8, 12))
    gone = history.drop(history.last_fill().activity_id)
    words = proposed(history)

    def later(seconds: float) -> None:
        assert seconds > 0
        history.lines.update(gone)
        stage.house.store.agenda.set_cursor("main", "activities", "activity-0")

    monkeypatch.setattr(stage.house.clock, "sleep", later)
    with pytest.raises(CannotAdopt, match="not what was shown any more"):
        adopt(stage.house, words)


def test_nothing_is_adopted_while_an_order_of_ours_is_working(history: History) -> None:
    stage = history.stage
    stage.execute((SELL, "AAA", 50))
    stage.tick(stage.at(8, 12))
    history.moves(AAA=5)
    with pytest.raises(CannotAdopt, match=f"expected no order working, was {stage.only('AAA').client_order_id}"):
        proposed(history)


def test_nothing_is_adopted_while_anybody_s_order_is_working(history: History) -> None:
    stage = history.stage
    history.moves(AAA=5)
    words = proposed(history)
    stage.outside(SELL, "BBB", 50)
    stage.outside(SELL, "AAA", 50)
    with pytest.raises(CannotAdopt, match="expected no order working"):
        proposed(history)
    with pytest.raises(CannotAdopt, match="expected no order working"):
        adopt(stage.house, words)


def test_nothing_is_adopted_while_a_fill_of_ours_is_on_its_way(history: History) -> None:
    stage = history.stage
    stage.execute((SELL, "AAA", 50))
    stage.tick(stage.at(8, 12))
    stage.venue.advance_to(stage.at(8, 14))
    history.drop(history.last_fill().activity_id)
    with pytest.raises(CannotAdopt, match="filled by 50 shares more than the history tells yet"):
        proposed(history)


def test_to_adopt_what_a_split_explains_is_warned_of(history: History) -> None:
    stage, day = history.stage, history.stage.session(8).session
    history.tell(KINDS.SPLIT, trade_date=day)
    history.moves(AAA=held(stage))
    assert proposed(history).means[0].startswith("CAREFUL")


def test_a_wrong_import_beside_trades_by_hand_is_looked_for_not_waited_for(history: History) -> None:
    stage = history.stage
    stage.outside(SELL, "AAA", 5)
    stage.venue.advance_to(stage.at(8, 12))
    stage.look()
    day = stage.session(5).session
    lot = Transaction("l", "main", TransactionKind.OPENING_LOT, day, "import", "AAA", D(9), D(40), acquired=day)
    stage.house.learn([lot])
    one = only(history)
    assert one.cause is Cause.MANUAL_TRADE
    assert "what was imported" in one.advice
    assert "Wait" not in one.advice


def test_cash_that_differs_is_not_adopted_and_the_refusal_says_what_happens(history: History) -> None:
    history.cash += D(5)
    with pytest.raises(CannotAdopt, match="read further back each evening"):
        proposed(history, "cash")


def test_open_questions_are_settled_and_lots_stay_as_they_are(history: History) -> None:
    stage, lots = history.stage, history.stage.house.ledger.open_lots("main", "AAA")
    day = stage.session(8).session
    history.announce(CorporateNotice("spin", "spin_off", "AAA", day, needs_person=True))
    history.tell(KINDS.OTHER, note="MISC")
    words = proposed(history)
    assert words.rows == ()
    assert len(words.settles) == 2
    assert "too high" in words.means[0]
    adopt(stage.house, words)
    assert stage.house.ledger.open_lots("main", "AAA") == lots
    for _ in range(2):
        assert stage.look().locks == {}
    assert stage.alerts("question:") == ["raised", "raised", "recovered", "recovered"]


def test_a_fault_of_another_account_is_not_adopted_away(history: History) -> None:
    """The spouse's import of AAA is superseded wrongly; nothing in `main` puts that right."""
    stage = history.stage
    sold = Transaction(
        "spouse-sold", "spouse", TransactionKind.SELL, stage.session(8).session, "import", "AAA", D(5), D(40)
    )
    stage.house.learn([sold], impossible="set_aside")
    with pytest.raises(CannotAdopt):
        proposed(history)


# ------------------------------------------------------------------ the commands


def told_too_much(database: Path, symbol: str) -> None:
    """The journal has seven shares of which the demo's broker knows nothing."""
    file = database.with_name("seven.csv")
    file.write_text(f"account,symbol,acquired,quantity,price\nmain,{symbol},2015-03-02,7,10\n")
    outcome = harvestd("ledger", "import", file, "--db", database)
    assert outcome.code == 0, outcome.err


def test_the_command_shows_that_all_agrees(demo_copy: Path) -> None:
    outcome = harvestd("reconcile", "--db", demo_copy)
    assert (outcome.code, outcome.err) == (0, "")
    assert "symbols agree, cash agrees" in outcome.out
    told = json.loads(harvestd("reconcile", "--db", demo_copy, "--json").out)
    (account,) = told["accounts"]
    assert (account["differences"], account["questions"], account["unreadable"]) == ([], [], [])
    assert account["cash_usd"] == account["broker_cash_usd"]
    assert account["agreeing"] > 5


def test_the_commands_show_a_difference_and_adopt_it_after_a_yes(
    demo_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_too_much(demo_copy, "ZZZ")
    outcome = harvestd("reconcile", "--db", demo_copy)
    assert outcome.code == 1
    assert "ZZZ" in outcome.out
    (account,) = json.loads(harvestd("reconcile", "--db", demo_copy, "--json").out)["accounts"]
    (difference,) = account["differences"]
    assert (difference["lots"], difference["broker"], difference["basis_usd"]) == ("7", "0", "70")
    for answer, code in (("n\n", 1), ("", 1), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        outcome = harvestd("reconcile", "adopt", "ZZZ", "--db", demo_copy)
        assert outcome.code == code, outcome.err
        assert "takes 7 ZZZ off the books" in outcome.out
    assert "Adopted: 1 journal rows" in outcome.out
    assert harvestd("reconcile", "--db", demo_copy).code == 0
    again = harvestd("reconcile", "adopt", "ZZZ", "--yes", "--db", demo_copy)
    assert again.code == 1
    assert "nothing to adopt" in again.err
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0


def test_to_adopt_needs_the_daemon_stopped(demo_copy: Path) -> None:
    from daemon.opening import lease

    with lease(demo_copy):
        outcome = harvestd("reconcile", "adopt", "AAPL", "--yes", "--db", demo_copy)
    assert outcome.code == 1
    assert "another harvestd works on this household" in outcome.err


def test_an_account_that_is_not_traded_is_named(demo_copy: Path) -> None:
    outcome = harvestd("reconcile", "adopt", "AAPL", "--account", "spouse", "--db", demo_copy)
    assert outcome.code == 1
    assert "expected one of main, was spouse" in outcome.err
