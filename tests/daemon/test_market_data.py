"""Prices from a broker that adjusts backwards, forgets, corrects itself and goes away, into a store that never changes.

`price_source.py` says what the source of these stories does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from price_source import (
    DAYS,
    Returns,
    Shop,
    dividend_notice,
    open_shop,
    rename_notice,
    returns,
    spinoff_notice,
    split_notice,
)

from brokers.errors import BrokerUnavailable
from daemon.market_data import Progress, Update, load_history, take_notices, update_daily
from state.records import DailyBar
from state.store import FindingKind

D = Decimal
NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH", "III", "JJJ")
Opened = Callable[..., Shop]


@pytest.fixture
def shop(tmp_path: Path, empty_database: Path) -> Iterator[Opened]:
    made: list[Shop] = []

    def make(names: tuple[str, ...] = NAMES, session: int = 200, **policy: Any) -> Shop:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(open_shop(folder, empty_database, names, DAYS[session], **policy))
        return made[-1]

    yield make
    for each in made:
        each.store.close()


def loaded(shop: Shop) -> Shop:
    load_history(shop.feed, shop.source.closes, DAYS[0])
    return shop


def evening(shop: Shop, session: int) -> Update:
    return update_daily(shop.on(session).feed, shop.source.closes)


def at_once(shop: Shop, name: str) -> Returns:
    """The returns that the source tells of a name today, in one answer."""
    return returns({bar.session: bar for bar in shop.source.daily_bars([name], DAYS[0], shop.clock.day)})


# ------------------------------------------------------------------ the first load


def test_a_first_load_stores_every_bar_and_asks_for_nothing_twice(shop: Opened) -> None:
    the = shop()
    found = load_history(the.feed, NAMES, DAYS[0])
    assert (found.names, found.bars, found.news) == (10, 10 * 201, ())
    assert the.series("BBB")[DAYS[7]].close == the.source.closes["BBB"][DAYS[7]]
    assert {(one.first_session, one.last_session) for one in the.store.market.coverage().values()} == {
        (DAYS[0], DAYS[200])
    }
    questions = len(the.source.asked)
    again = load_history(the.feed, NAMES, DAYS[0])
    assert (again.names, again.bars) == (0, 0)
    assert len(the.source.asked) == questions


def test_a_load_tells_how_far_it_is(shop: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.market_data.loading.BARS_A_CALL", 500)
    seen: list[Progress] = []
    load_history(shop().feed, NAMES, DAYS[0], watcher=seen.append)
    assert [one.names_done for one in seen] == [2, 4, 6, 8, 10]
    assert {one.names_total for one in seen} == {10}
    assert [one.bars for one in seen] == [402, 804, 1206, 1608, 2010]
    assert seen[0].seconds_left > seen[3].seconds_left > seen[4].seconds_left == 0


def test_a_broker_that_goes_away_costs_nothing_that_was_stored(shop: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.market_data.loading.BARS_A_CALL", 500)
    the = shop()
    the.source.fails_after = 2
    with pytest.raises(BrokerUnavailable, match=r"after 4 of 10 names, at EEE: no answer in 30 s.*804 bars"):
        load_history(the.feed, NAMES, DAYS[0])
    assert sorted(the.store.market.coverage()) == ["AAA", "BBB", "CCC", "DDD"]
    the.source.fails_after = None
    assert load_history(the.feed, NAMES, DAYS[0]).names == 6
    assert [names for names, _, _ in the.source.asked] == [NAMES[place : place + 2] for place in range(0, 10, 2)]


def test_the_session_that_has_just_closed_is_left_to_the_evening(shop: Opened) -> None:
    """A load at ten past four: the source is not done with the day."""
    the = shop()
    at = the.feed.calendar.sessions[200].closes_at + timedelta(minutes=10)
    the.clock.now = lambda: at  # type: ignore[method-assign]
    load_history(the.feed, NAMES, DAYS[0])
    assert the.store.market.last_session() == DAYS[199]


def test_a_load_further_back_joins_what_is_there(shop: Opened) -> None:
    """Loaded from session 100 on, and twenty sessions and a split later back to the first one."""
    the = shop()
    load_history(the.feed, ["AAA"], DAYS[100])
    the.source.splits["AAA", DAYS[50]] = (3, 1)
    the.source.splits["AAA", DAYS[210]] = (2, 1)
    the.source.closes["AAA"] = {
        day: (close / (3 if day >= DAYS[50] else 1) / (2 if day >= DAYS[210] else 1)).quantize(D("0.0001"))
        for day, close in the.source.closes["AAA"].items()
    }
    the.store.market.remove("AAA")
    the.store.market.uncover("AAA")
    load_history(the.on(205).feed, ["AAA"], DAYS[100])
    kept = the.series("AAA")
    load_history(the.on(220).feed, ["AAA"], DAYS[0])
    joined = the.series("AAA")
    assert (min(joined), max(joined), len(joined)) == (DAYS[0], DAYS[220], 221)
    assert {day: joined[day] for day in kept} == kept, "what was stored has not changed"
    assert returns(joined) == at_once(the, "AAA")


def test_a_name_of_another_history_can_be_loaded_again(shop: Opened) -> None:
    the = loaded(shop())
    the.source.closes["AAA"] = {day: close + 1 for day, close in the.source.closes["AAA"].items()}
    load_history(the.feed, ["AAA"], DAYS[0], again=True)
    assert {day: bar.close for day, bar in the.series("AAA").items()} == {
        day: close for day, close in the.source.closes["AAA"].items() if day <= DAYS[200]
    }
    assert the.open() == []


def test_loading_again_forgives_nothing_that_is_still_there(shop: Opened) -> None:
    the = shop()
    move(the, "AAA", 150, "0.5")
    move(the, "BBB", 150, "0.5")
    loaded(the)
    accept_one = [one for one in the.store.market.findings() if one.symbol == "BBB"]
    the.store.market.accept(accept_one, "me", "I saw it happen", the.clock.now())
    the.source.others.append(rename_notice("CCC", DAYS[180], "XYZ"))
    the.source.closes["CCC"] = {day: close for day, close in the.source.closes["CCC"].items() if day < DAYS[180]}
    load_history(the.feed, ["CCC"], DAYS[0], again=True)
    before = the.open()
    load_history(the.feed, ["AAA", "BBB", "CCC"], DAYS[0], again=True)
    assert the.open() == before
    assert {(name, kind.value) for name, _, kind in before} == {("AAA", "jump"), ("CCC", "gap"), ("CCC", "renamed")}
    assert max(the.series("AAA")) == DAYS[149]
    assert max(the.series("BBB")) == DAYS[200]


# ------------------------------------------------------------------ every evening


def test_an_evening_adds_one_session_in_one_question(shop: Opened) -> None:
    the = loaded(shop())
    the.source.asked.clear()
    found = evening(the, 201)
    assert (found.session, found.is_complete, found.rewritten, found.news) == (DAYS[201], True, False, ())
    assert [(bar.session, bar.symbol) for bar in found.bars] == [(DAYS[201], name) for name in NAMES]
    assert [(names, start, end) for names, start, end in the.source.asked] == [(NAMES, DAYS[198], DAYS[201])]


def test_an_evening_twice_is_an_evening_once(shop: Opened) -> None:
    the = loaded(shop())
    evening(the, 201)
    before = tuple(the.store.market.bars())
    again = evening(the, 201)
    assert (again.bars, again.news, again.rewritten) == ((), (), False)
    assert tuple(the.store.market.bars()) == before


def test_days_without_the_daemon_are_made_up_for(shop: Opened) -> None:
    the = loaded(shop())
    assert len(evening(the, 230).bars) == 30 * len(NAMES)
    assert returns(the.series("CCC")) == at_once(the, "CCC")


def test_returns_are_those_of_one_answer_however_often_it_was_asked(shop: Opened) -> None:
    """Forty evenings, with a dividend, a 3 for 2 split and its own dividend on one day, and a reverse split."""
    the = shop()
    the.source.dividends = {("AAA", DAYS[150]): D("0.44"), ("AAA", DAYS[205]): D("0.47"), ("AAA", DAYS[212]): D("0.31")}
    the.source.splits = {("AAA", DAYS[212]): (3, 2), ("AAA", DAYS[225]): (1, 4)}
    the.source.closes["AAA"] = {
        day: (close * (D(2) / 3 if day >= DAYS[212] else 1) * (4 if day >= DAYS[225] else 1)).quantize(D("0.01"))
        for day, close in the.source.closes["AAA"].items()
    }
    loaded(the)
    stored = the.series("AAA")
    for session in range(201, 241):
        evening(the, session)
        now = the.series("AAA")
        assert {day: now[day] for day in stored} == stored, "the past never changes"
        stored = now
    assert returns(stored) == at_once(the, "AAA")
    assert the.open() == []
    assert [one.kind for one in the.store.actions.notices(["AAA"])] == [
        "cash_dividend", "cash_dividend", "cash_dividend", "forward_split", "reverse_split",
    ]  # fmt: skip


def test_a_dividend_that_the_prices_learn_of_a_day_late_is_not_lost(shop: Opened) -> None:
    the = loaded(shop())
    day = DAYS[201]
    the.source.dividends["AAA", day] = D("0.60")
    the.source.late["AAA", day] = DAYS[202]
    evening(the, 201)
    evening(the, 202)
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_split_that_the_prices_learn_of_a_day_late_is_no_jump(shop: Opened) -> None:
    the = loaded(shop())
    day = DAYS[201]
    the.source.splits["AAA", day] = (5, 1)
    the.source.late["AAA", day] = DAYS[203]
    the.source.closes["AAA"] = {
        at: (close / 5).quantize(D("0.0001")) if at >= day else close for at, close in the.source.closes["AAA"].items()
    }
    for session in (201, 202, 203):
        evening(the, session)
        assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_name_that_joins_is_loaded_back_as_far_as_the_others(shop: Opened) -> None:
    the = shop()
    load_history(the.feed, NAMES[:9], DAYS[0])
    found = evening(the, 201)
    assert found.rewritten, "the past has another name in it"
    assert len(the.series("JJJ")) == 202


def test_when_the_broker_goes_away_the_evening_has_not_happened(shop: Opened) -> None:
    the = loaded(shop())
    the.source.fails_after = 0
    with pytest.raises(BrokerUnavailable):
        evening(the, 201)
    assert the.store.market.last_session() == DAYS[200]
    the.source.fails_after = None
    assert len(evening(the, 201).bars) == 10


# ------------------------------------------------------------------ what is wrong with an evening


def move(the: Shop, name: str, session: int, factor: str) -> None:
    """From a session on, every close is another."""
    closes = the.source.closes[name]
    the.source.closes[name] = {
        day: (close * D(factor)).quantize(D("0.01")) if day >= DAYS[session] else close for day, close in closes.items()
    }


def accept(the: Shop, why: str) -> None:
    """A person takes everything that is open for right."""
    the.store.market.accept(the.store.market.findings(only_open=True), "me", why, the.clock.now())


def test_a_fall_that_nothing_explains_is_not_used_until_a_person_takes_it_for_right(shop: Opened) -> None:
    the = loaded(shop())
    move(the, "BBB", 201, "0.45")
    found = evening(the, 201)
    assert the.open() == [("BBB", DAYS[201], FindingKind.JUMP)]
    assert "BBB" not in {bar.symbol for bar in found.bars}
    assert not found.rewritten, "nothing that was used before is left out now"
    evening(the, 202)
    assert max(the.series("BBB")) == DAYS[200], "nor is anything that rests on it"
    assert "BBB" not in the.store.market.last_closes()
    assert the.store.market.newest_closes(["BBB"]) == {"BBB": the.source.closes["BBB"][DAYS[200]]}
    accept(the.on(203), "bankruptcy, in the papers")
    assert evening(the, 203).rewritten
    assert returns(the.series("BBB")) == at_once(the, "BBB")
    assert the.open() == [], "it is not found again"


def test_a_split_that_is_announced_after_the_jump_explains_it(shop: Opened) -> None:
    """Prices unadjusted, no notice; the day after there is a notice, and prices still are as they were."""
    the = loaded(shop())
    day = DAYS[201]
    move(the, "AAA", 201, "0.5")
    the.source.splits["AAA", day] = (2, 1)
    the.source.late["AAA", day] = DAYS[205]
    the.source.untold.add(("AAA", day))
    evening(the, 201)
    assert the.open() == [("AAA", day, FindingKind.JUMP)]
    the.source.untold.clear()
    assert evening(the, 202).rewritten
    assert the.open() == []
    evening(the, 205)
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_bad_print_is_put_right_when_the_source_puts_it_right(shop: Opened) -> None:
    the = loaded(shop())
    right = the.source.closes["AAA"][DAYS[201]]
    the.source.told["AAA", DAYS[201]] = DailyBar("AAA", DAYS[201], right * 10, right * 10)
    evening(the, 201)
    evening(the, 202)
    assert the.open() == [("AAA", DAYS[201], FindingKind.JUMP), ("AAA", DAYS[202], FindingKind.JUMP)]
    del the.source.told["AAA", DAYS[201]]
    assert evening(the, 203).rewritten
    assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")
    assert all("told anew" in one.resolution for one in the.store.market.findings({FindingKind.JUMP}))


def test_a_spin_off_explains_a_fall(shop: Opened) -> None:
    the = loaded(shop())
    move(the, "AAA", 201, "0.55")
    the.source.others.append(spinoff_notice("AAA", DAYS[201]))
    evening(the, 201)
    assert the.open() == []


def test_a_split_in_the_prices_that_no_notice_tells_of_is_found(shop: Opened) -> None:
    """The total return is right, but nobody has told how many shares there are."""
    the = loaded(shop())
    move(the, "AAA", 201, "0.25")
    the.source.splits["AAA", DAYS[201]] = (4, 1)
    the.source.untold.add(("AAA", DAYS[201]))
    evening(the, 201)
    assert the.open() == [("AAA", DAYS[201], FindingKind.SPLIT)]
    assert max(the.series("AAA")) == DAYS[201], "its value is not in doubt"
    the.source.untold.clear()
    evening(the, 202)
    assert the.open() == []


def test_a_notice_between_evenings_explains_as_well(shop: Opened) -> None:
    the = loaded(shop())
    move(the, "AAA", 201, "0.25")
    the.source.splits["AAA", DAYS[201]] = (4, 1)
    the.source.untold.add(("AAA", DAYS[201]))
    evening(the, 201)
    the.source.untold.clear()
    assert [one.symbol for one in take_notices(the.feed, NAMES).notices] == ["AAA"]
    assert the.open() == []


def test_a_close_corrected_by_a_cent_is_written_down_and_the_stored_one_kept(shop: Opened) -> None:
    the = loaded(shop())
    stored = the.series("AAA")[DAYS[200]]
    the.source.closes["AAA"][DAYS[200]] += D("0.01")
    assert evening(the, 201).news == ()
    assert the.series("AAA")[DAYS[200]] == stored
    [told] = the.store.market.findings({FindingKind.CORRECTED})
    assert (
        told.detail == f"the close of {stored.close} is now told as {stored.close + D('0.01')}; the stored one is kept"
    )
    assert told.resolved_at is not None


def test_a_close_corrected_by_five_per_cent_is_not_used(shop: Opened) -> None:
    the = loaded(shop())
    stored, right = the.series("AAA")[DAYS[199]], the.source.closes["AAA"][DAYS[199]]
    the.source.closes["AAA"][DAYS[199]] = (right * D("1.05")).quantize(D("0.01"))
    assert evening(the, 201).rewritten
    assert the.open() == [("AAA", DAYS[199], FindingKind.CORRECTED)]
    assert DAYS[199] not in the.series("AAA")
    assert the.store.market.series("AAA", DAYS[199], every=True)[0] == stored, "never overwritten"
    the.source.closes["AAA"][DAYS[199]] = right
    assert evening(the, 202).rewritten
    assert the.series("AAA")[DAYS[199]] == stored, "the source took its correction back"


@pytest.mark.parametrize(
    ("close", "adjusted"), [("0", "0"), ("-1", "50"), ("50", "0"), ("NaN", "50"), ("Infinity", "1")]
)
def test_a_price_that_is_none_is_not_stored(shop: Opened, close: str, adjusted: str) -> None:
    the = loaded(shop())
    the.source.told["AAA", DAYS[201]] = DailyBar("AAA", DAYS[201], D(close), D(adjusted))
    evening(the, 201)
    assert the.open() == [("AAA", DAYS[201], FindingKind.ZERO)]
    assert max(the.series("AAA")) == DAYS[200]
    del the.source.told["AAA", DAYS[201]]
    assert evening(the, 202).rewritten, "a bar came late"
    assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_two_closes_of_one_session_are_none_and_the_same_twice_is_one(shop: Opened) -> None:
    the = loaded(shop())
    a, b = (the.source.closes[name][DAYS[201]] for name in ("AAA", "BBB"))
    the.source.twice = [DailyBar("AAA", DAYS[201], a, a), DailyBar("BBB", DAYS[201], b + 1, b + 1)]
    evening(the, 201)
    assert the.open() == [("BBB", DAYS[201], FindingKind.DISORDER)]
    assert DAYS[201] in the.series("AAA")
    assert DAYS[201] not in the.series("BBB")


def test_a_close_on_a_holiday_is_not_stored(shop: Opened) -> None:
    the = loaded(shop())
    the.feed = replace(the.feed, calendar=type(the.feed.calendar)(
        tuple(item for item in the.feed.calendar.sessions if item.session != DAYS[201])
    ))  # fmt: skip
    found = evening(the, 202)
    assert {bar.session for bar in found.bars} == {DAYS[202]}
    assert the.open(FindingKind.GAP) == [], "a holiday is no gap"
    assert set(the.open()) == {(name, DAYS[201], FindingKind.DISORDER) for name in NAMES}


def test_a_name_without_a_bar_is_a_gap_and_the_others_go_on(shop: Opened) -> None:
    the = loaded(shop())
    the.source.told["AAA", DAYS[201]] = None
    found = evening(the, 201)
    assert found.is_complete
    assert {bar.symbol for bar in found.bars} == set(NAMES) - {"AAA"}
    assert the.open() == [("AAA", DAYS[201], FindingKind.GAP)]
    evening(the, 202)
    [gap] = the.store.market.findings({FindingKind.GAP})
    assert gap.detail == "no bar in this session"
    assert set(the.series("AAA")) == set(DAYS[:203]) - {DAYS[201]}


def test_a_delisting_is_one_finding_however_long_it_lasts(shop: Opened) -> None:
    the = loaded(shop())
    the.source.closes["AAA"] = {day: close for day, close in the.source.closes["AAA"].items() if day < DAYS[203]}
    for session in range(201, 215):
        evening(the, session)
    assert the.open() == [("AAA", DAYS[203], FindingKind.GAP)]
    [gap] = the.store.market.findings(only_open=True)
    assert gap.detail == f"no bar since {DAYS[203]}"


def test_a_halt_of_weeks_is_joined_again(shop: Opened) -> None:
    """The newest sessions that both have lie before what an evening asks for."""
    the = loaded(shop())
    halted = {("AAA", DAYS[session]): None for session in range(201, 215)}
    the.source.told.update(halted)
    the.source.dividends["AAA", DAYS[208]] = D("0.50")
    for session in range(201, 216):
        evening(the, session)
    assert set(the.series("AAA")) == {*DAYS[:201], DAYS[215]}
    [gap] = the.store.market.findings({FindingKind.GAP})
    assert gap.detail == f"no bar from {DAYS[201]} to {DAYS[214]}, 14 sessions"
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_symbol_that_was_given_to_somebody_else_is_not_joined(shop: Opened) -> None:
    the = loaded(shop())
    the.source.closes["AAA"] = {day: D("9.50") for day in DAYS if day >= DAYS[202]}
    for session in (201, 202, 203):
        evening(the, session)
    assert ("AAA", DAYS[200], FindingKind.UNJOINED) in the.open()
    assert max(the.series("AAA")) == DAYS[200]


def test_a_renamed_name_is_found_on_the_day(shop: Opened) -> None:
    the = loaded(shop())
    the.source.closes["AAA"] = {day: close for day, close in the.source.closes["AAA"].items() if day < DAYS[202]}
    the.source.others.append(rename_notice("AAA", DAYS[202], "XYZ"))
    evening(the, 201)
    assert the.open() == [], "it is announced, and has not happened"
    the.on(202)
    take_notices(the.feed, NAMES)
    [found] = the.store.market.findings(only_open=True)
    assert (found.kind, found.symbol) == (FindingKind.RENAMED, "AAA")
    assert found.detail.startswith(f"is XYZ since {DAYS[202]}")


def test_a_rename_of_the_symbols_owner_before_does_not_matter(shop: Opened) -> None:
    """META was another fund's until 2022: its rename is no rename of what has prices now."""
    the = shop()
    the.source.others.append(rename_notice("AAA", DAYS[20], "XYZ"))
    assert loaded(the).open() == []


# ------------------------------------------------------------------ sessions that most names lack


def without(the: Shop, session: int, names: tuple[str, ...]) -> None:
    the.source.told.update({(name, DAYS[session]): None for name in names})


def test_an_evening_on_which_half_the_names_have_no_close_is_not_over(shop: Opened) -> None:
    the = loaded(shop())
    without(the, 201, NAMES[:5])
    found = evening(the, 201)
    assert found.incomplete == f"5 of 10 names have a close in the session of {DAYS[201]}"
    assert (found.bars, found.news) == ((), ())
    assert the.store.market.last_session() == DAYS[200]
    the.source.told.clear()
    found = evening(the, 201)
    assert found.is_complete
    assert len(found.bars) == 10
    assert the.open() == []


def test_a_session_that_half_the_names_never_get_is_one_finding(shop: Opened) -> None:
    the = loaded(shop())
    without(the, 201, NAMES[:5])
    evening(the, 201)
    found = evening(the, 202)
    assert found.is_complete
    assert the.open() == [("*", DAYS[201], FindingKind.SESSION)]
    assert DAYS[201] in the.series("JJJ")
    assert DAYS[201] not in the.series("AAA")
    the.source.told.clear()
    assert evening(the, 203).rewritten, "the source has found them after all"
    assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_day_on_which_the_exchange_stayed_closed_is_one_finding(shop: Opened) -> None:
    """A day of mourning that the calendar does not know."""
    the = loaded(shop())
    without(the, 201, NAMES)
    assert not evening(the, 201).is_complete
    for session in range(202, 210):
        assert evening(the, session).is_complete
        assert the.open() == [("*", DAYS[201], FindingKind.SESSION)]
    accept(the, "a day of mourning")
    evening(the, 210)
    load_history(the.feed, NAMES, DAYS[0], again=True)
    assert the.open() == []


def test_a_first_load_tells_such_a_day_once_as_well(shop: Opened) -> None:
    the = shop()
    without(the, 120, NAMES)
    without(the, 130, ("AAA",))
    found = load_history(the.feed, NAMES, DAYS[0])
    assert the.open() == [("*", DAYS[120], FindingKind.SESSION), ("AAA", DAYS[130], FindingKind.GAP)]
    assert len(found.news) == 1


# ------------------------------------------------------------------ long ago


def test_a_jump_before_the_risk_models_window_spoils_only_what_was_before_it(shop: Opened) -> None:
    """Nobody has to explain a crash of years ago before a name can be used: its series begins there."""
    the = shop(recent_sessions=100)
    move(the, "AAA", 40, "0.5")
    move(the, "BBB", 150, "0.5")
    loaded(the)
    assert the.open() == [("AAA", DAYS[40], FindingKind.PAST_JUMP), ("BBB", DAYS[150], FindingKind.JUMP)]
    assert min(the.series("AAA")) == DAYS[40]
    assert max(the.series("BBB")) == DAYS[149]


def test_a_name_younger_than_the_load_has_no_gap_before_it(shop: Opened) -> None:
    the = shop()
    the.source.closes["AAA"] = {day: close for day, close in the.source.closes["AAA"].items() if day >= DAYS[90]}
    loaded(the)
    assert the.open() == []
    assert the.store.market.coverage()["AAA"].first_session == DAYS[0], "it was asked for"


def test_a_name_that_never_had_a_price_is_listed(shop: Opened) -> None:
    the = shop()
    the.source.closes["AAA"] = {}
    loaded(the)
    evening(the, 201)
    [found] = the.store.market.findings(only_open=True)
    assert (found.symbol, found.kind, found.detail) == ("AAA", FindingKind.GAP, f"no bar at all since {DAYS[0]}")


def test_an_action_announced_and_booked_counts_once(shop: Opened) -> None:
    """The source announces a split; the broker's account tells it again under an id of its own."""
    the = loaded(shop())
    day = DAYS[201]
    move(the, "AAA", 201, "0.5")
    the.source.splits["AAA", day] = (2, 1)
    the.source.late["AAA", day] = DAYS[202]
    booked = split_notice("AAA", day, 2, 1)
    assert booked.action is not None
    key = "activity:main:20241008"
    the.store.actions.put(
        [replace(booked, action_id=key, action=replace(booked.action, action_id=key))], the.clock.now()
    )
    evening(the, 201)
    evening(the, 202)
    assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")


def test_a_dividend_told_under_two_ids_is_paid_once(shop: Opened) -> None:
    """The prices learn of it a day late, so that the return is made from what was announced."""
    the = loaded(shop())
    day = DAYS[201]
    the.source.dividends["AAA", day] = D("2.00")
    the.source.late["AAA", day] = DAYS[202]
    the.source.others.append(replace(dividend_notice("AAA", day, D("2.00")), action_id="again"))
    evening(the, 201)
    evening(the, 202)
    assert the.open() == []
    assert returns(the.series("AAA")) == at_once(the, "AAA")


@pytest.mark.parametrize(("note", "found"), [("", [FindingKind.SPLIT]), ("special", [])])
def test_two_amounts_for_one_day_are_believed_only_where_the_source_tells_them_apart(
    shop: Opened, note: str, found: list[FindingKind]
) -> None:
    """2.00 corrected to 0.20 under another id, and the first is still told; or a special dividend beside the other."""
    the = loaded(shop())
    day = DAYS[201]
    the.source.dividends["AAA", day] = D("2.00")
    the.source.late["AAA", day] = DAYS[205]
    the.source.others.append(replace(dividend_notice("AAA", day, D("0.20")), action_id="other", note=note))
    before = the.series("AAA")[DAYS[200]]
    evening(the, 201)
    bar = the.series("AAA")[day]
    assert [kind for _, _, kind in the.open()] == found
    cash = D(0) if found else D("2.20")
    assert float(bar.adjusted / before.adjusted) == pytest.approx(float(bar.close / (before.close - cash)))
