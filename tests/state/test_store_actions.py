"""Corporate actions as they are announced: kept by their source's id, replaced when they change, each event once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

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
from state.store.actions import derived_id

D = Decimal
NOW = datetime(2026, 3, 2, 14, 30, tzinfo=UTC)
SPLIT, RENAME = CorporateActionKind.SPLIT, CorporateActionKind.SYMBOL_CHANGE
CAPITAL = CorporateActionKind.RETURN_OF_CAPITAL


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("actions") / "empty.db"
    Store.open(path, create=True).close()
    return path


@pytest.fixture
def store(empty: Path) -> Iterator[Store]:
    made = Store.private_copy(empty)
    yield made
    made.close()


def notice(kind: CorporateActionKind, symbol: str, day: str, action_id: str = "", **terms: object) -> CorporateNotice:
    """An announcement that the ledger has a rule for."""
    ex_date = date.fromisoformat(day)
    action = CorporateAction(action_id or f"{symbol}-{day}", kind, symbol, ex_date, **terms)  # type: ignore[arg-type]
    return CorporateNotice(action.action_id, kind.value, symbol, ex_date, action, per_share=action.per_share)


TWO_FOR_ONE = notice(SPLIT, "AAA", "2026-03-09", ratio_new=D(2), ratio_old=D(1))
DIVIDEND = CorporateNotice("d1", "cash_dividend", "BBB", date(2026, 3, 5), per_share=D("0.25"))
SPIN = CorporateNotice("s1", "spin_off", "CCC", date(2026, 3, 6), needs_person=True, note="0.1 of CHILD a share")


def test_what_was_announced_comes_back_as_it_was_told(store: Store) -> None:
    told = (
        DIVIDEND,
        SPIN,
        TWO_FOR_ONE,
        notice(RENAME, "OLD", "2026-03-10", to_symbol="NEW"),
        notice(CorporateActionKind.STOCK_MERGER, "TGT", "2026-03-11", to_symbol="BIG", ratio_new=D("0.125")),
        notice(CorporateActionKind.SPINOFF, "PAR", "2026-03-12", to_symbol="KID", ratio_new=D("0.1"),
               basis_fraction=D("0.0837")),
        notice(CorporateActionKind.CASH_MERGER, "CAS", "2026-03-13", per_share=D("41.50")),
        notice(CAPITAL, "ROC", "2026-03-14", per_share=D("0.40")),
    )  # fmt: skip
    assert store.actions.put(told, NOW) == told
    assert store.actions.notices() == told
    assert store.actions.actions() == tuple(one.action for one in told if one.action is not None)
    assert store.actions.needing_person() == (SPIN,)


def test_told_again_it_is_no_news_and_told_otherwise_it_replaces_what_was_told(store: Store) -> None:
    store.actions.put([TWO_FOR_ONE, DIVIDEND], NOW)
    assert store.actions.put([TWO_FOR_ONE, DIVIDEND], NOW) == ()
    later = date(2026, 3, 16)
    assert TWO_FOR_ONE.action is not None
    moved = replace(TWO_FOR_ONE, ex_date=later, action=replace(TWO_FOR_ONE.action, ex_date=later))
    dearer = replace(DIVIDEND, per_share=D("0.26"))
    assert store.actions.put([moved, DIVIDEND, dearer], NOW) == (moved, dearer)
    assert store.actions.notices() == (dearer, moved)
    assert store.actions.actions() == (moved.action,)


def test_one_that_no_longer_has_a_rule_stops_applying(store: Store) -> None:
    store.actions.put([TWO_FOR_ONE], NOW)
    unclear = replace(TWO_FOR_ONE, action=None, needs_person=True)
    assert store.actions.put([unclear], NOW) == (unclear,)
    assert store.actions.actions() == ()


def test_notices_are_found_by_symbol_and_day(store: Store) -> None:
    store.actions.put([DIVIDEND, SPIN, TWO_FOR_ONE], NOW)
    assert store.actions.notices(["AAA", "BBB"]) == (DIVIDEND, TWO_FOR_ONE)
    assert store.actions.notices(start=date(2026, 3, 6)) == (SPIN, TWO_FOR_ONE)
    assert store.actions.notices(["AAA", "BBB"], end=date(2026, 3, 8)) == (DIVIDEND,)
    assert store.actions.notices([]) == ()
    many = [f"S{number}" for number in range(1200)]
    assert store.actions.notices([*many, "AAA"]) == (TWO_FOR_ONE,)


def test_a_notice_whose_action_is_about_something_else_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="same id, symbol and day"):
        store.actions.put([replace(TWO_FOR_ONE, symbol="ZZZ")], NOW)
    assert store.actions.notices() == ()


# ------------------------------------------------------------------ one event told several times


def booked(account: str, activity: str, day: str, per_share: str) -> CorporateNotice:
    return notice(CAPITAL, "ROC", day, derived_id(account, activity), per_share=D(per_share))


def kept(store: Store) -> list[str]:
    return [action.action_id for action in store.actions.actions()]


def test_a_payment_in_every_account_is_the_one_distribution_that_was_announced(store: Store) -> None:
    announced = notice(CAPITAL, "ROC", "2026-03-03", "announced", per_share=D("0.40"))
    store.actions.put([booked("main", "a", "2026-03-20", "0.4"), booked("other", "b", "2026-03-21", "0.40")], NOW)
    assert len(kept(store)) == 1, "told by two accounts alone, it is one as well"
    store.actions.put([announced], NOW)
    assert kept(store) == ["announced"]


def test_a_monthly_payment_is_not_taken_for_that_of_last_month(store: Store) -> None:
    """0.40 in March and in April, the same 0.40; only March's is announced."""
    march = notice(CAPITAL, "ROC", "2026-03-03", "announced", per_share=D("0.40"))
    lines = [booked("main", "march", "2026-03-20", "0.40"), booked("main", "april", "2026-04-20", "0.40")]
    store.actions.put([march, *lines], NOW)
    assert kept(store) == ["announced", derived_id("main", "april")]


@pytest.mark.parametrize(("day", "per_share"), [("2026-02-20", "0.40"), ("2026-05-20", "0.40"), ("2026-03-20", "0.41")])
def test_another_day_or_another_amount_is_another_distribution(store: Store, day: str, per_share: str) -> None:
    announced = notice(CAPITAL, "ROC", "2026-03-03", "announced", per_share=D("0.40"))
    store.actions.put([announced, booked("main", "x", day, per_share)], NOW)
    assert len(kept(store)) == 2


def test_a_rename_that_the_broker_books_two_days_late_is_the_announced_one(store: Store) -> None:
    announced = notice(RENAME, "OLD", "2026-03-10", "announced", to_symbol="NEW")
    late = notice(RENAME, "OLD", "2026-03-12", derived_id("main", "nc"), to_symbol="NEW")
    other = notice(RENAME, "OLD", "2026-03-12", derived_id("main", "nd"), to_symbol="ELSE")
    store.actions.put([late, announced, other], NOW)
    assert kept(store) == ["announced", derived_id("main", "nd")]


def test_one_split_announced_under_two_ids_is_one(store: Store) -> None:
    again = notice(SPLIT, "AAA", "2026-03-09", "other-id", ratio_new=D(4), ratio_old=D(2))
    store.actions.put([TWO_FOR_ONE, again], NOW)
    assert len(kept(store)) == 1


@pytest.mark.parametrize(("quantity", "amount", "count"), [("33", "13.33", 1), ("1", "0.40", 1), ("33", "13.31", 2)])
def test_two_accounts_paid_without_an_amount_a_share_tell_one_distribution(
    store: Store, quantity: str, amount: str, count: int
) -> None:
    """0.404 on 1000 shares and on 33, in cents; the amount a share is the one of more shares."""
    store.household.put_accounts([Account(name, AccountType.TAXABLE) for name in ("main", "a-small-one")])
    for account, shares, cash in (("main", "1000", "404.00"), ("a-small-one", quantity, amount)):
        kind = TransactionKind.RETURN_OF_CAPITAL
        row = Transaction(f"of-{account}", account, kind, date(2026, 3, 20), "broker", "ROC", D(shares), amount=D(cash))
        store.journal.append([row], NOW)
        store.actions.put([booked(account, f"of-{account}", "2026-03-20", str(round(D(cash) / D(shares), 9)))], NOW)
    found = store.actions.actions()
    assert len(found) == count
    assert D("0.404") in [action.per_share for action in found]


# ------------------------------------------------------------------ announcements that are gone, or cannot all be meant


def test_what_is_untold_is_of_these_symbols_and_days_and_not_the_brokers(store: Store) -> None:
    store.actions.put([TWO_FOR_ONE, DIVIDEND, SPIN, booked("main", "a", "2026-03-06", "0.4")], NOW)
    start, end = date(2026, 3, 1), date(2026, 3, 8)
    assert store.actions.untold(["AAA", "BBB", "ROC"], start, end, []) == (DIVIDEND,)
    assert store.actions.untold(["AAA", "BBB", "CCC"], start, end, [DIVIDEND]) == (SPIN,)
    store.actions.remove([SPIN.action_id])
    assert store.actions.needing_person() == ()
    assert len(store.actions.notices()) == 3


@pytest.mark.parametrize(("day", "new", "is_doubtful"), [
    ("2026-03-16", 2, True), ("2026-03-09", 3, True), ("2026-03-17", 2, False), ("2026-03-09", 4, True),
])  # fmt: skip
def test_two_splits_within_a_week_are_in_doubt(store: Store, day: str, new: int, is_doubtful: bool) -> None:
    other = notice(SPLIT, "AAA", day, "other", ratio_new=D(new), ratio_old=D(1))
    elsewhere = notice(SPLIT, "ZZZ", day, "elsewhere", ratio_new=D(new), ratio_old=D(1))
    store.actions.put([TWO_FOR_ONE, other, elsewhere], NOW)
    assert [len(group) for group in store.actions.contested()] == ([2] if is_doubtful else [])
    assert ("other" in kept(store)) is not is_doubtful
    assert "elsewhere" in kept(store)


def test_what_a_person_withdrew_does_nothing_however_often_it_is_told(store: Store) -> None:
    told = [TWO_FOR_ONE, SPIN, notice(SPLIT, "AAA", "2026-03-10", "other", ratio_new=D(3), ratio_old=D(1))]
    store.actions.put(told, NOW)
    for one in (TWO_FOR_ONE, SPIN):
        store.actions.withdraw(one.action_id)
    store.actions.put(told, NOW)
    assert (kept(store), store.actions.contested(), store.actions.needing_person()) == (["other"], (), ())
    assert [one.action for one in store.actions.notices(["AAA"])] == [None, told[2].action]
    store.actions.withdraw(TWO_FOR_ONE.action_id, undo=True)
    assert kept(store) == []
    with pytest.raises(KeyError):
        store.actions.withdraw("unknown")


# ------------------------------------------------------------------ what the stored lots know


def test_what_the_lots_were_derived_under_is_kept_beside_them(store: Store) -> None:
    assert store.actions.applied() == ()
    store.actions.put([TWO_FOR_ONE], NOW)
    assert store.actions.applied() == (), "announcing is not applying"
    actions = (*store.actions.actions(), notice(RENAME, "OLD", "2026-03-10", to_symbol="NEW").action)
    store.actions.put_applied([one for one in actions if one is not None])
    assert store.actions.applied() == actions
    store.actions.put_applied([])
    assert store.actions.applied() == ()
