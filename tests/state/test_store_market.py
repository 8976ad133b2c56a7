"""Prices in the store: what is kept, what of it is used, and what was found wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from state.records import DailyBar
from state.store import Coverage, Extent, FindingKind, MarketFinding, Store

D = Decimal
NOW = datetime(2024, 3, 8, 22, tzinfo=UTC)
DAYS = tuple(date(2024, 3, day) for day in (4, 5, 6, 7, 8))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    Store.open(path, create=True).close()
    return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path, empty: bytes) -> Iterator[Store]:
    path = tmp_path / "house.db"
    path.write_bytes(empty)
    opened = Store.open(path)
    yield opened
    opened.close()


def bars(symbol: str, *closes: str) -> list[DailyBar]:
    return [DailyBar(symbol, day, D(close), D(close) / 2) for day, close in zip(DAYS, closes, strict=False)]


def finding(kind: FindingKind, session: date, symbol: str = "AAA", detail: str = "odd") -> MarketFinding:
    return MarketFinding(symbol, session, kind, detail, NOW)


def sessions(store: Store, symbol: str = "AAA") -> list[int]:
    return [bar.session.day for bar in store.market.bars() if bar.symbol == symbol]


def test_a_known_bar_is_not_rewritten(store: Store) -> None:
    told = bars("AAA", "10.01", "10.02")
    assert store.market.add(told) == 2
    assert store.market.add([replace(told[0], close=D(11)), *bars("BBB", "3")]) == 1
    assert store.market.series("AAA") == tuple(told)


def test_bars_are_read_by_session_and_by_name(store: Store) -> None:
    store.market.add([*bars("BBB", "1", "2", "3"), *bars("AAA", "4", "5")])
    assert [(bar.session.day, bar.symbol) for bar in store.market.bars(DAYS[1])] == [(5, "AAA"), (5, "BBB"), (6, "BBB")]
    assert [bar.session for bar in store.market.series("BBB", DAYS[1])] == [DAYS[1], DAYS[2]]
    first, last = store.market.first_bar("BBB"), store.market.last_before("BBB", DAYS[2])
    assert first is not None
    assert last is not None
    assert (first.session, last.session) == (DAYS[0], DAYS[1])
    assert store.market.last_before("BBB", DAYS[0]) is None
    assert store.market.extents() == {
        "AAA": Extent("AAA", DAYS[0], DAYS[1], 2),
        "BBB": Extent("BBB", DAYS[0], DAYS[2], 3),
    }
    assert store.market.symbols_in(DAYS[2]) == {"BBB"}
    assert store.market.counts([DAYS[0], DAYS[2], DAYS[4]]) == {DAYS[0]: 2, DAYS[2]: 1, DAYS[4]: 0}


def test_bars_that_are_taken_back_are_gone(store: Store) -> None:
    store.market.add([*bars("AAA", "1", "2", "3"), *bars("BBB", "1", "2", "3")])
    store.market.remove("AAA", DAYS[1])
    assert sessions(store) == [4]
    store.market.remove("AAA")
    assert sessions(store) == []
    assert len(sessions(store, "BBB")) == 3


@pytest.mark.parametrize(
    ("kind", "used"),
    [
        (FindingKind.JUMP, [4, 5]),
        (FindingKind.PAST_JUMP, [6, 7, 8]),
        (FindingKind.CORRECTED, [4, 5, 7, 8]),
        (FindingKind.GAP, [4, 5, 6, 7, 8]),
        (FindingKind.SPLIT, [4, 5, 6, 7, 8]),
        (FindingKind.RENAMED, [4, 5, 6, 7, 8]),
    ],
)
def test_what_an_open_finding_leaves_out(store: Store, kind: FindingKind, used: list[int]) -> None:
    store.market.add([*bars("AAA", "1", "2", "3", "4", "5"), *bars("BBB", "1", "2", "3", "4", "5")])
    found = finding(kind, DAYS[2])
    store.market.put_findings([found])
    assert sessions(store) == used
    assert [bar.session.day for bar in store.market.series("AAA")] == used
    assert len(store.market.series("AAA", every=True)) == 5
    assert sessions(store, "BBB") == [4, 5, 6, 7, 8], "the others are not touched"
    store.market.resolve([found], "it was so", NOW)
    assert sessions(store) == [4, 5, 6, 7, 8]


def test_closes_are_those_that_may_be_used(store: Store) -> None:
    store.market.add([*bars("AAA", "1", "2", "3"), *bars("BBB", "4", "5", "6")])
    store.market.put_findings([finding(FindingKind.JUMP, DAYS[1])])
    assert store.market.last_closes() == {"BBB": D(6)}
    assert store.market.newest_closes(["AAA", "BBB", "CCC"]) == {"AAA": D(1), "BBB": D(6)}


def test_coverage_grows_at_both_ends(store: Store) -> None:
    later = NOW + timedelta(days=1)
    store.market.cover(["AAA", "BBB"], DAYS[1], DAYS[2], NOW)
    store.market.cover(["AAA"], DAYS[2], DAYS[4], later)
    store.market.cover(["AAA"], DAYS[0], DAYS[1], later)
    assert store.market.coverage() == {
        "AAA": Coverage("AAA", DAYS[0], DAYS[4], later),
        "BBB": Coverage("BBB", DAYS[1], DAYS[2], NOW),
    }
    assert store.market.coverage(["BBB", "CCC"]).keys() == {"BBB"}
    store.market.uncover("AAA")
    assert store.market.coverage().keys() == {"BBB"}


def test_a_finding_is_news_once(store: Store) -> None:
    found = finding(FindingKind.JUMP, DAYS[1])
    assert store.market.put_findings([found]) == (found,)
    assert store.market.put_findings([replace(found, found_at=NOW + timedelta(days=1))]) == ()
    assert store.market.findings() == (found,)


def test_an_open_finding_takes_the_newer_words_and_keeps_the_day_it_was_found(store: Store) -> None:
    store.market.put_findings([finding(FindingKind.GAP, DAYS[1], detail="no bar since")])
    told = replace(finding(FindingKind.GAP, DAYS[1], detail="no bar in this session"), found_at=NOW + timedelta(days=1))
    assert store.market.put_findings([told]) == ()
    assert store.market.findings() == (replace(told, found_at=NOW),)


def test_what_a_person_accepted_comes_back_only_as_something_else(store: Store) -> None:
    found = finding(FindingKind.CORRECTED, DAYS[1], detail="10 is now 11")
    store.market.put_findings([found])
    store.market.accept([found], "me", "looked it up", NOW)
    assert store.market.put_findings([found]) == ()
    [kept] = store.market.findings()
    assert (kept.resolution, kept.resolved_at, kept.is_accepted) == ("accepted by me: looked it up", NOW, True)
    other = finding(FindingKind.CORRECTED, DAYS[1], detail="10 is now 12")
    assert store.market.put_findings([other]) == (other,)
    assert store.market.findings(only_open=True) == (other,)


def test_what_ended_by_itself_comes_back_when_it_is_found_again(store: Store) -> None:
    found = finding(FindingKind.JUMP, DAYS[1])
    store.market.put_findings([found])
    store.market.resolve([found], "told anew", NOW)
    assert store.market.put_findings([found]) == (found,)
    assert store.market.findings(only_open=True) == (found,)


def test_a_finding_that_ends_as_it_is_found_is_no_news(store: Store) -> None:
    small = replace(finding(FindingKind.CORRECTED, DAYS[1]), resolved_at=NOW, resolution="a cent")
    assert store.market.put_findings([small]) == ()
    assert store.market.put_findings([replace(small, found_at=NOW + timedelta(days=1))]) == ()
    assert store.market.findings() == (small,)


def test_a_finding_is_ended_once(store: Store) -> None:
    found = finding(FindingKind.JUMP, DAYS[1])
    store.market.put_findings([found])
    store.market.resolve([found], "first", NOW)
    store.market.resolve([found], "second", NOW + timedelta(days=1))
    assert store.market.findings()[0].resolution == "first"
    assert store.market.resolved_since(NOW - timedelta(seconds=1))
    assert not store.market.resolved_since(NOW)


def test_findings_by_kind_and_name(store: Store) -> None:
    jump, gap = finding(FindingKind.JUMP, DAYS[1]), finding(FindingKind.GAP, DAYS[0], "BBB")
    store.market.put_findings([gap, jump])
    assert store.market.findings() == (jump, gap), "by name"
    assert store.market.findings({FindingKind.GAP}) == (gap,)
    assert store.market.findings(symbols={"AAA"}) == (jump,)
