"""Announcements that are corrected, taken back or told twice: the ledger follows what the source tells now, once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import harvestd
from conftest import Staged
from small_house import DAYS, HISTORY, Stage
from told_history import History

from brokers.errors import BrokerUnavailable
from daemon.adoption import CannotAdopt, adopt, adoption
from daemon.day import evening
from daemon.market_data import before_open, held_beside
from daemon.questions import open_questions
from state.records import (
    ActivityKind,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Side,
    Transaction,
    TransactionKind,
)
from state.store import Store

D = Decimal
KINDS = ActivityKind


@pytest.fixture
def history(staged: Staged) -> History:
    """Ten names held since session 0; it is the morning of session 1, and a look has been taken."""
    stage = staged()
    stage.invest(0)
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.at(1, 5))
    told = History(stage)
    stage.look()
    return told


def split(action_id: str, day: date, new: int = 2, old: int = 1, symbol: str = "AAA") -> CorporateNotice:
    action = CorporateAction(action_id, CorporateActionKind.SPLIT, symbol, day, D(new), D(old))
    return CorporateNotice(action_id, "forward_split", symbol, day, action)


def spin_off(day: date) -> CorporateNotice:
    action = CorporateAction(
        "spin", CorporateActionKind.SPINOFF, "AAA", day, D(1), D(10), to_symbol="KID", basis_fraction=D("0.25")
    )
    return CorporateNotice("spin", "spin_off", "AAA", day, action)


def held(stage: Stage, account: str = "main", symbol: str = "AAA") -> Decimal:
    return stage.house.ledger.position(account, symbol)


def known(stage: Stage) -> list[str]:
    return [one.action_id for one in stage.house.store.actions.notices()]


def night(history: History, session: int) -> None:
    """A session's evening, and the morning after it."""
    stage = history.stage
    stage.venue.advance_to(stage.evening(session))
    evening(stage.house, stage.account)
    stage.tick(stage.before_open(session + 1))


# ------------------------------------------------------------------ the ledger follows the source


def test_a_split_that_is_announced_no_more_does_not_happen(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    history.announce(split("x1", stage.session(4).session))
    night(history, 1)
    history.retract("x1")
    for session in (2, 3, 4):
        night(history, session)
    assert known(stage) == []
    assert held(stage) == shares
    assert "AAA" not in history.look_at(5).locks
    assert stage.alerts("announcements:gone:x1") == ["raised"]


def test_a_split_under_a_new_id_with_a_later_day_happens_once_in_every_account(history: History) -> None:
    """The source takes back the first announcement on the evening of its own ex-date; the IRA is known by import."""
    stage, shares = history.stage, held(history.stage)
    stage.imported("ira", Side.BUY, "AAA", 100, DAYS[HISTORY])
    history.announce(split("x1", stage.session(2).session))
    night(history, 1)
    assert held(stage, "ira") == 200
    history.retract("x1")
    history.announce(split("x2", stage.session(3).session))
    night(history, 2)
    history.moves(AAA=shares)
    assert "AAA" not in history.look_at(3).locks
    for _ in range(2):
        assert (held(stage), held(stage, "ira")) == (2 * shares, 200)
        stage.restart()
        history.attach()
        stage.look()
    assert known(stage) == ["x2"]


def test_a_ratio_corrected_under_a_new_id_is_the_new_ratio(history: History) -> None:
    stage = history.stage
    stage.imported("ira", Side.BUY, "AAA", 100, DAYS[HISTORY])
    history.announce(split("x1", stage.session(2).session, 2))
    night(history, 1)
    history.retract("x1")
    history.announce(split("x2", stage.session(2).session, 3))
    night(history, 2)
    history.look_at(3)
    assert held(stage, "ira") == 300


def test_an_announcement_that_comes_back_counts_again(history: History) -> None:
    stage = history.stage
    stage.imported("ira", Side.BUY, "AAA", 100, DAYS[HISTORY])
    told = split("x1", stage.session(2).session)
    history.announce(told)
    night(history, 1)
    history.retract("x1")
    night(history, 2)
    history.look_at(3)
    assert held(stage, "ira") == 100
    history.announced["x1"] = told
    night(history, 3)
    history.look_at(4)
    assert held(stage, "ira") == 200
    assert stage.alerts("announcements:gone:x1") == ["raised", "recovered"]


def test_one_answer_cut_short_takes_nothing_back(history: History) -> None:
    """The source leaves a split out once, and tells it when it is asked for that symbol."""
    stage = history.stage
    history.announce(split("x1", stage.session(4).session))
    told, asked = history._corporate_actions, []

    def forgetful(symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        asked.append(sorted(symbols))
        return told(asked[-1], start, end) if len(asked) > 1 else ()

    stage.alter(corporate_actions=forgetful)
    before_open(stage.house)
    assert asked[1] == ["AAA"]
    assert known(stage) == ["x1"]


def test_a_source_that_tells_nothing_at_all_is_not_believed(history: History) -> None:
    stage, day = history.stage, history.stage.session(4).session
    history.announce(*(split(f"x-{name}", day, symbol=name) for name in ("AAA", "BBB", "CCC", "DDD")))
    stage.alter(corporate_actions=lambda *_: ())
    for _ in range(2):
        before_open(stage.house)
    assert len(known(stage)) == 4
    assert stage.alerts("announcements:nothing") == ["raised"]
    history.attach()
    before_open(stage.house)
    assert stage.alerts("announcements:nothing") == ["raised", "recovered"]


def test_what_the_broker_booked_and_what_is_long_past_is_not_the_sources_to_take_back(history: History) -> None:
    stage = history.stage
    history.tell(KINDS.SYMBOL_CHANGE, "BBB", to_symbol="NEW")
    history.announce(split("old", stage.session(1).session - timedelta(days=25)))
    history.retract("old")
    stage.look()
    before_open(stage.house)
    assert {one.kind for one in stage.house.store.actions.notices()} == {"symbol_change", "forward_split"}


# ------------------------------------------------------------------ announcements that contradict each other


@pytest.mark.parametrize(("later", "ratio"), [(1, 2), (0, 3), (5, 4)])
def test_two_splits_announced_within_a_week_are_a_question_and_neither_happens(
    history: History, later: int, ratio: int
) -> None:
    stage, shares = history.stage, held(history.stage)
    stage.imported("ira", Side.BUY, "AAA", 100, DAYS[HISTORY])
    first, second = stage.session(2).session, stage.session(2 + later).session
    history.announce(split("x1", first), split("x2", second, ratio))
    assert history.look_at(1, 20).locks == {}, "nothing has happened yet"
    locks = history.look_at(7).locks
    assert (held(stage), held(stage, "ira")) == (shares, 100)
    assert "AAA" in locks
    (question,) = open_questions(stage.house.store, "main")
    assert "id x1" in question.text
    assert f"{ratio}:1 with ex-date {second} (id x2)" in question.text
    history.retract("x1")
    before_open(stage.house)
    history.moves(AAA=shares * (ratio - 1))
    assert history.look_at(7, 20).locks == {}
    assert held(stage, "ira") == 100 * ratio
    assert stage.alerts("question:") == ["raised", "recovered"]


def test_a_name_only_the_ira_has_is_not_bought_elsewhere_while_its_split_is_in_doubt(history: History) -> None:
    stage = history.stage
    stage.house.learn([imported("ira", "ZZZ", DAYS[HISTORY])])
    day = stage.session(1).session
    history.announce(split("x1", day, 2, symbol="ZZZ"), split("x2", day, 3, symbol="ZZZ"))
    assert "question=contested:x1+x2" in history.look_at(1, 20).locks["ZZZ"]


def imported(account: str, symbol: str, day: date, quantity: int = 100) -> Transaction:
    return Transaction(
        f"{account}-{symbol}-{day}",
        account,
        TransactionKind.BUY,
        day,
        "import:statement.csv",
        symbol=symbol,
        quantity=D(quantity),
        price=D(50),
    )


def test_a_person_withdraws_one_and_it_stays_withdrawn_however_often_it_is_told(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    day = stage.session(2).session
    history.announce(split("x1", day, 2), split("x2", day, 3))
    assert "AAA" in history.look_at(2).locks
    stage.house.store.actions.withdraw("x1")
    history.moves(AAA=2 * shares)
    assert history.look_at(2, 20).locks == {}
    night(history, 2)
    stage.restart()
    history.attach()
    stage.look()
    assert held(stage) == 3 * shares
    stage.house.store.actions.withdraw("x1", undo=True)
    assert "AAA" in stage.look().locks


def test_a_difference_that_is_an_announced_split_is_not_adopted(history: History) -> None:
    """Half of the shares taken off the books would leave half of the basis."""
    stage, shares = history.stage, held(history.stage)
    lots = stage.house.ledger.open_lots("main", "AAA")
    history.announce(split("x1", stage.session(1).session))
    assert history.look_at(1, 20).locks["AAA"].endswith("cause=split")
    with pytest.raises(CannotAdopt, match="withdraw x1"):
        adoption(stage.house, stage.account, "AAA", history._positions())
    stage.house.store.actions.withdraw("x1")
    assert history.look_at(1, 30).locks == {}
    assert held(stage) == shares
    assert stage.house.ledger.open_lots("main", "AAA") == lots


def test_the_command_withdraws_after_a_yes(demo_copy: Path) -> None:
    store = Store.open(demo_copy, durable=False)
    store.actions.put([split("x1", date(2030, 1, 2))], datetime(2026, 1, 2, tzinfo=UTC))
    store.close()
    assert harvestd("reconcile", "withdraw", "nothing-like-it", "--yes", "--db", demo_copy).code == 1
    outcome = harvestd("reconcile", "withdraw", "x1", "--yes", "--db", demo_copy)
    assert outcome.code == 0, outcome.err
    assert "will not count any more" in outcome.out
    store = Store.open(demo_copy, durable=False)
    assert store.actions.withdrawn() == {"x1"}
    store.close()


# ------------------------------------------------------------------ what answers a question


@pytest.mark.parametrize(
    ("word", "announced", "answered"),
    [
        ("SPIN", split("a", date(2024, 3, 6)), False),
        ("SPIN", spin_off(date(2024, 3, 5)), True),
        ("MA", split("a", date(2024, 3, 5)), False),
        ("CIL", split("a", date(2024, 3, 5)), True),
        ("CIL/cash for a fraction", split("a", date(2024, 3, 5)), True),
        ("REORG", split("a", date(2024, 3, 5)), True),
    ],
)
def test_a_reorganization_is_answered_only_by_what_it_can_have_been(
    history: History, word: str, announced: CorporateNotice, answered: bool
) -> None:
    stage = history.stage
    history.announce(announced)
    history.tell(KINDS.REORGANIZATION, note=word)
    history.look_at(1, 12)
    asked = [one for one in open_questions(stage.house.store, "main") if one.question_id.startswith("reorganization:")]
    assert bool(asked) is not answered


def test_a_return_of_capital_of_the_week_does_not_answer_a_spin_off(history: History) -> None:
    shares = held(history.stage)
    history.tell(KINDS.RETURN_OF_CAPITAL, quantity=shares, price=D("0.1"), amount=shares / 10)
    history.tell(KINDS.REORGANIZATION, note="SPIN")
    assert "AAA" in history.look_at(1, 12).locks


def test_a_second_reorganization_of_a_day_is_a_question_of_its_own(history: History) -> None:
    stage = history.stage
    history.tell(KINDS.REORGANIZATION, note="SPIN")
    assert "AAA" in history.look_at(1, 12).locks
    adopt(stage.house, adoption(stage.house, stage.account, "AAA", history._positions()))
    assert history.look_at(1, 14).locks == {}
    history.tell(KINDS.REORGANIZATION, note="MA")
    assert "AAA" in history.look_at(1, 16).locks


# ------------------------------------------------------------------ booked late, booked twice


def test_a_split_booked_two_weeks_after_its_announced_day_is_that_split(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    history.announce(split("x1", stage.session(2).session))
    history.moves(AAA=shares)
    assert history.look_at(2).locks == {}
    stage.venue.advance_to(stage.at(12, 10))
    history.tell(KINDS.SPLIT, quantity=shares, ratio_new=D(2), ratio_old=D(1))
    history.look_at(12, 20)
    assert held(stage) == 2 * shares


def test_two_equal_splits_booked_within_days_are_a_question(history: History) -> None:
    stage, shares = history.stage, held(history.stage)
    for minute in (12, 14):
        history.tell(KINDS.SPLIT, quantity=shares, ratio_new=D(2), ratio_old=D(1))
        history.look_at(1, minute)
    (question,) = open_questions(stage.house.store, "main")
    assert "2:1" in question.text
    assert question.symbol == "AAA"


# ------------------------------------------------------------------ symbols of other accounts


def test_issuers_actions_of_a_stock_only_another_account_holds_are_asked_for(history: History) -> None:
    """The spouse bought KO years ago; it has no place in the benchmark, and no price is kept of it."""
    stage = history.stage
    stage.house.learn([imported("spouse", "KO", DAYS[5])])
    history.announced["ko"] = split("ko", DAYS[40], symbol="KO")
    night(history, 1)
    history.look_at(2)
    assert held(stage, "spouse", "KO") == 200
    assert "KO" not in stage.house.store.market.coverage()
    history.retract("ko")
    night(history, 2)
    history.look_at(3)
    assert held(stage, "spouse", "KO") == 200, "so long past it is not looked up again"


def test_a_name_sold_out_of_is_asked_for_while_its_loss_can_be_washed(history: History) -> None:
    stage = history.stage
    sold = Transaction(
        "gone", "spouse", TransactionKind.SELL, DAYS[HISTORY], "import:s.csv", symbol="ZZZ", quantity=D(100), price=D(4)
    )
    stage.house.learn([imported("spouse", "ZZZ", DAYS[5]), sold])
    assert held_beside(stage.house) == {"ZZZ": DAYS[5]}
    stage.venue.advance_to(stage.at(50, 1))
    assert held_beside(stage.house) == {}


def test_a_symbol_the_source_cannot_read_keeps_nobody_from_the_others(history: History) -> None:
    stage = history.stage
    stage.house.learn([imported("spouse", "KO", DAYS[5]), imported("spouse", "SPAXX**", DAYS[5])])
    told = history._corporate_actions

    def picky(symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        names = list(symbols)
        assert "SPAXX**" not in names
        if "KO" in names:
            raise BrokerUnavailable("422: invalid symbol KO")
        return told(names, start, end)

    history.announced["x1"] = split("x1", stage.session(4).session)
    stage.alter(corporate_actions=picky)
    before_open(stage.house)
    assert known(stage) == ["x1"]
    assert stage.alerts("announcements:beside") == ["raised"]
    history.attach()
    before_open(stage.house)
    assert stage.alerts("announcements:beside") == ["raised", "recovered"]
