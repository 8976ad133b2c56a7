"""Which moves of a price want an explanation, and which corporate actions explain them.

The cases are those known of real price data of S&P 500 names from 2006 to 2015 (a split missing or wrong; a spin-off
told as a dividend, on one day with a reverse split), with prices made up.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from price_source import dividend_notice, rename_notice, spinoff_notice, split_notice

from daemon.market_data.feed import QuarantinePolicy
from daemon.market_data.joining import joined
from daemon.market_data.quarantine import Judged, corrections, endings, gaps, moves, sifted
from state.records import CorporateAction, CorporateActionKind, CorporateNotice, DailyBar
from state.store import FindingKind

D = Decimal
NOW = datetime(2013, 10, 1, 22, tzinfo=UTC)
FRIDAY, MONDAY, TUESDAY = date(2013, 9, 27), date(2013, 9, 30), date(2013, 10, 1)
WEEK = (date(2013, 9, 25), date(2013, 9, 26), FRIDAY, MONDAY, TUESDAY)
LONG_AGO = date(2000, 1, 3)


def bar(day: date, close: str, adjusted: str | None = None) -> DailyBar:
    return DailyBar("AAA", day, D(close), D(adjusted or close))


def judged(before: DailyBar, *bars: DailyBar, notices: tuple[CorporateNotice, ...] = ()) -> Judged:
    return moves(before, bars, notices, QuarantinePolicy(), LONG_AGO, NOW)


def kinds(found: Judged) -> list[FindingKind]:
    return [one.kind for one in found.findings]


@pytest.mark.parametrize(
    ("close", "found"), [("60.01", []), ("59.99", ["jump"]), ("140", []), ("140.01", ["jump"]), ("100", [])]
)
def test_a_move_beyond_forty_per_cent_either_way_wants_an_explanation(close: str, found: list[str]) -> None:
    assert kinds(judged(bar(FRIDAY, "100"), bar(MONDAY, close))) == found


def test_a_jump_says_what_was_seen() -> None:
    [found] = judged(bar(FRIDAY, "100"), bar(MONDAY, "50")).findings
    assert (found.symbol, found.session) == ("AAA", MONDAY)
    assert found.detail == (
        "a total return of -50.0 % from 2013-09-27 (close 100 to 50, -50.0 %) that no corporate action explains"
    )


def test_a_missing_split_is_a_jump() -> None:
    """As ANTM 2005: the close halves, the total return as well, and there is no split."""
    assert kinds(judged(bar(FRIDAY, "90"), bar(MONDAY, "45.20"))) == ["jump"]


def test_a_split_taken_up_by_the_prices_is_none() -> None:
    found = judged(bar(FRIDAY, "90", "45"), bar(MONDAY, "45.20"), notices=(split_notice("AAA", MONDAY, 2, 1),))
    assert found.findings == ()
    assert found.bars == (bar(MONDAY, "45.20"),)


def test_a_split_not_yet_in_the_prices_is_taken_from_the_closes() -> None:
    found = judged(
        bar(FRIDAY, "90"), bar(MONDAY, "45.20"), bar(TUESDAY, "46"), notices=(split_notice("AAA", MONDAY, 2, 1),)
    )
    assert found.findings == ()
    assert [one.adjusted for one in found.bars] == [D("90.4"), D("92")], "and what comes after is joined to it"


def test_a_split_of_a_wrong_ratio_explains_nothing() -> None:
    """As GNRC 2010: the source of actions tells 0.3036 for one, and the closes know nothing of it."""
    wrong = split_notice("AAA", MONDAY, 3, 10)
    found = judged(bar(FRIDAY, "13"), bar(MONDAY, "12.90"), notices=(wrong,))
    assert kinds(found) == ["split"]
    assert "count 1 shares for one, but corporate actions say 0.3" in found.findings[0].detail
    assert found.bars == (bar(MONDAY, "12.90"),), "the prices are believed, not the notice"


def test_prices_that_count_other_shares_than_the_actions_say() -> None:
    told = split_notice("AAA", MONDAY, 2, 1)
    [found] = judged(bar(FRIDAY, "90", "30"), bar(MONDAY, "30.20"), notices=(told,)).findings
    assert found.kind is FindingKind.SPLIT
    assert "count 3 shares for one, but corporate actions say 2" in found.detail


def test_a_spin_off_told_as_a_dividend_with_a_reverse_split_on_its_day_is_no_jump() -> None:
    """As LDOS 2013-09-30: one for four, and 21.35 USD of the child on each new share."""
    notices = (split_notice("AAA", MONDAY, 1, 4), dividend_notice("AAA", MONDAY, D("21.3549")))
    found = judged(bar(FRIDAY, "15.50"), bar(MONDAY, "45.52"), notices=notices)
    assert found.findings == ()
    before = D("15.50") - D("21.3549") / 4
    assert abs(found.bars[0].adjusted / D("15.50") - D("45.52") / 4 / before) < D("1e-10")


def test_a_special_dividend_of_most_of_the_price_is_no_jump_once_it_is_known() -> None:
    """As JCI 2007-07-02, where the cash was more than half of what the share was worth."""
    cash = dividend_notice("AAA", MONDAY, D("88.53"))
    assert kinds(judged(bar(FRIDAY, "150"), bar(MONDAY, "62"))) == ["jump"]
    assert judged(bar(FRIDAY, "150"), bar(MONDAY, "62"), notices=(cash,)).findings == ()


def test_cash_of_more_than_the_price_is_no_explanation() -> None:
    cash = dividend_notice("AAA", MONDAY, D("160"))
    assert kinds(judged(bar(FRIDAY, "150"), bar(MONDAY, "62"), notices=(cash,))) == ["jump"]


def test_a_quarterly_dividend_does_not_hide_a_crash() -> None:
    cash = dividend_notice("AAA", MONDAY, D("0.30"))
    [found] = judged(bar(FRIDAY, "100"), bar(MONDAY, "40"), notices=(cash,)).findings
    assert found.detail.endswith("; known of that day: cash_dividend 0.3 USD")


def test_a_spin_off_that_a_person_has_to_book_explains_a_fall() -> None:
    assert judged(bar(FRIDAY, "100"), bar(MONDAY, "50"), notices=(spinoff_notice("AAA", MONDAY),)).findings == ()


@pytest.mark.parametrize("day", [FRIDAY, TUESDAY])
def test_an_action_of_another_day_explains_nothing(day: date) -> None:
    notices = (spinoff_notice("AAA", day),)
    assert kinds(judged(bar(FRIDAY, "100"), bar(MONDAY, "50"), notices=notices)) == ["jump"]


def test_an_ex_date_on_a_day_without_a_session_counts_for_the_next() -> None:
    sunday = spinoff_notice("AAA", date(2013, 9, 29))
    assert judged(bar(FRIDAY, "100"), bar(MONDAY, "50"), notices=(sunday,)).findings == ()


def test_adjusted_prices_that_know_of_a_split_nobody_told() -> None:
    [found] = judged(bar(FRIDAY, "100", "25"), bar(MONDAY, "25.30")).findings
    assert found.kind is FindingKind.SPLIT
    assert "from 100 on 2013-09-27 to 25.30" in found.detail
    assert "4 shares for one, but no corporate action says so" in found.detail


@pytest.mark.parametrize(("recent", "kind"), [(MONDAY, FindingKind.JUMP), (TUESDAY, FindingKind.PAST_JUMP)])
def test_what_is_long_ago_spoils_the_past_alone(recent: date, kind: FindingKind) -> None:
    found = moves(bar(FRIDAY, "100"), [bar(MONDAY, "50")], (), QuarantinePolicy(), recent, NOW)
    assert kinds(found) == [kind]


def test_a_split_nobody_told_long_ago_matters_to_nobody() -> None:
    found = moves(bar(FRIDAY, "100", "25"), [bar(MONDAY, "25.30")], (), QuarantinePolicy(), TUESDAY, NOW)
    assert found.findings == ()


def test_an_answer_is_sorted_and_rid_of_its_repeats() -> None:
    one, other = bar(FRIDAY, "1"), bar(MONDAY, "2")
    assert sifted([other, one, other], WEEK, NOW)["AAA"] == Judged((one, other), ())


def test_gaps_are_told_by_run() -> None:
    found = list(gaps("AAA", WEEK, {WEEK[0], WEEK[3]}, (), NOW, is_known=True))
    assert [(one.session, one.detail) for one in found] == [
        (WEEK[1], f"no bar from {WEEK[1]} to {WEEK[2]}, 2 sessions"),
        (WEEK[4], f"no bar since {WEEK[4]}"),
    ]


def test_a_session_that_is_excused_begins_no_gap_but_does_not_end_one() -> None:
    assert list(gaps("AAA", WEEK, {WEEK[0], *WEEK[2:]}, {WEEK[1]}, NOW, is_known=True)) == []
    [found] = gaps("AAA", WEEK, {WEEK[0]}, {WEEK[2]}, NOW, is_known=True)
    assert found.session == WEEK[1]


def test_corrections_are_judged_by_their_size() -> None:
    stored = {FRIDAY: bar(FRIDAY, "100"), MONDAY: bar(MONDAY, "100"), TUESDAY: bar(TUESDAY, "100")}
    told = {FRIDAY: bar(FRIDAY, "101"), MONDAY: bar(MONDAY, "101.01")}
    small, large = corrections(stored, told, QuarantinePolicy(), NOW)
    assert (small.session, small.resolved_at) == (FRIDAY, NOW)
    assert (large.session, large.resolved_at) == (MONDAY, None)


def test_a_name_that_was_merged_away_for_cash_traded_until_that_evening() -> None:
    action = CorporateAction("m", CorporateActionKind.CASH_MERGER, "AAA", MONDAY, per_share=D(30))
    notice = CorporateNotice("m", "cash_merger", "AAA", MONDAY, action)
    assert [one.kind for one in endings([notice], {"AAA": MONDAY}, TUESDAY, NOW)] == [FindingKind.GONE]
    assert list(endings([notice], {"AAA": TUESDAY}, TUESDAY, NOW)) == []
    assert list(endings([notice], {"AAA": FRIDAY}, FRIDAY, NOW)) == [], "announced"
    renamed = rename_notice("AAA", MONDAY, "BBB")
    assert list(endings([renamed], {"AAA": MONDAY}, TUESDAY, NOW)) == [], "it has a price under the old symbol"
    assert [one.kind for one in endings([renamed], {"AAA": FRIDAY}, TUESDAY, NOW)] == [FindingKind.RENAMED]


def test_the_worked_example_of_joining() -> None:
    monday, told_tuesday = bar(MONDAY, "101"), bar(MONDAY, "101", "100")
    [stored] = joined(monday, told_tuesday, [bar(TUESDAY, "102")])
    assert stored.adjusted == D("103.02")
    assert stored.close == 102
