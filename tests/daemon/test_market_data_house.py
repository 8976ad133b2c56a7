"""What a household makes of prices: which names it keeps its hands off, and that the others go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from conftest import Staged
from price_source import DAYS, EveningClock, Source, calendar_of, quiet, rename_notice, weekdays
from small_house import HISTORY, NAMES, TIMES, Stage

from brokers.errors import BrokerUnavailable
from daemon.constituents import Constituents
from daemon.facts import is_ready
from daemon.market_data import (
    Known,
    before_open,
    data_locks,
    followed,
    fraction_bad,
    open_findings,
    ready_prices,
    short_histories,
    take_securities,
    take_session,
    tell,
    tracked,
)
from daemon.planning import Proposed, propose, scan
from daemon.sync import Snapshot
from daemon.triggers import find_triggers
from state.reasons import ReasonCode
from state.records import DailyBar, Security, Side
from state.store import FindingKind, MarketFinding, Store
from strategy.history import history_from_bars

D = Decimal


def without(stage: Stage, name: str, session: int) -> None:
    """The broker has no bar of a name in a session."""
    broker, day = stage.venue.broker(), stage.session(session).session

    def daily_bars(symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        found = broker.daily_bars(symbols, start, end)
        return tuple(bar for bar in found if (bar.symbol, bar.session) != (name, day))

    stage.alter(daily_bars=daily_bars)


def locked(stage: Stage) -> Snapshot:
    """What the daemon sees, with the names locked that prices lock."""
    snapshot = stage.look()
    return replace(snapshot, locks={**snapshot.locks, **data_locks(stage.house)})


def planned(stage: Stage) -> Proposed:
    """The plan that the daemon would make now."""
    snapshot = locked(stage)
    found = propose(stage.house, snapshot, find_triggers(stage.house, snapshot), scan(stage.house, snapshot))
    assert found is not None
    return found


# ------------------------------------------------------------------ one name out, the others go on


def test_a_name_without_a_close_is_out_and_the_others_are_harvested(staged: Staged) -> None:
    """BBB and CCC fall by a fifth on one day; the broker has lost BBB's close of that day."""
    stage = staged(changes=[("BBB", 1, "0.8"), ("CCC", 1, "0.8")])
    stage.invest(0)
    without(stage, "BBB", 1)
    stage.finish(1)
    take_session(stage.house)
    assert [(one.symbol, one.kind) for one in stage.house.store.market.findings()] == [("BBB", FindingKind.GAP)]
    assert data_locks(stage.house).keys() == {"BBB"}
    stage.venue.advance_to(stage.decision(2))
    snapshot = locked(stage)
    assert is_ready(stage.house, snapshot), "one name does not keep the others from a plan"
    verdicts = {item.symbol: item.verdict.code for item in scan(stage.house, snapshot)}
    assert verdicts["BBB"] is ReasonCode.SYMBOL_LOCKED
    assert verdicts["CCC"] is ReasonCode.HARVEST_TAKEN
    trades = planned(stage).proposal.trades
    assert {trade.symbol for trade in trades if trade.side is Side.SELL} == {"CCC"}
    assert "BBB" not in {trade.symbol for trade in trades}


def test_a_lock_ends_with_the_next_close(staged: Staged) -> None:
    stage = staged()
    stage.invest(0)
    without(stage, "BBB", 1)
    stage.finish(1)
    take_session(stage.house)
    without(stage, "nobody", 1)
    stage.finish(2)
    take_session(stage.house)
    stage.restart()
    assert data_locks(stage.house) == {}
    assert stage.house.store.market.findings(only_open=True) == (), "the bar came late"


def test_a_fall_that_nothing_explains_is_no_loss_to_harvest(staged: Staged) -> None:
    """A split of BBB that nobody tells: it looks like the deepest loss of all."""
    stage = staged(changes=[("BBB", 1, "0.5"), ("CCC", 1, "0.8")])
    stage.invest(0)
    stage.finish(1)
    take_session(stage.house)
    stage.restart()
    assert data_locks(stage.house).keys() == {"BBB"}
    volatility = stage.house.volatility()
    assert volatility["BBB"] < 0.02, "the fall is in no figure"
    stage.venue.advance_to(stage.decision(2))
    trades = planned(stage).proposal.trades
    assert "CCC" in {trade.symbol for trade in trades if trade.side is Side.SELL}
    assert "BBB" not in {trade.symbol for trade in trades}


def test_a_name_that_joined_last_week_is_listed_not_traded_and_stops_nobody(staged: Staged) -> None:
    stage = staged()
    store = stage.house.store
    young = store.market.series("JJJ", TIMES[HISTORY - 5].session)
    store.market.remove("JJJ")
    store.market.add(young)
    stage.venue.advance_to(stage.decision(0))
    assert stage.house.knows_risk()
    [(name, reason)] = data_locks(stage.house).items()
    assert name == "JJJ"
    assert reason.startswith("DATA_HISTORY_SHORT: symbol=JJJ returns=4 least=59")
    trades = planned(stage).proposal.trades
    assert {trade.symbol for trade in trades} == set(NAMES) - {"JJJ"}


def test_where_every_name_is_young_there_is_no_lock_but_no_risk_model_either(staged: Staged) -> None:
    history = staged().house.history
    short = replace(history, sessions=history.sessions[-30:], closes=history.closes[-30:])
    assert short_histories(short, 504) == {}
    assert short_histories(history, 504) == {}


def test_while_nothing_is_stored_nothing_is_locked(staged: Staged) -> None:
    stage = staged()
    for name in NAMES:
        stage.house.store.market.remove(name)
    stage.restart()
    assert data_locks(stage.house) == {}


# ------------------------------------------------------------------ evening, start, morning


def test_an_evening_stores_what_is_closed_and_an_update_twice_changes_nothing(staged: Staged) -> None:
    stage = staged()
    stage.venue.advance_to(stage.evening(0))
    found = take_session(stage.house)
    assert (found.session, len(found.bars), found.news) == (stage.session(0).session, 10, ())
    assert take_session(stage.house).bars == ()
    bars = list(stage.house.store.market.bars())
    assert len(bars) == 10 * (HISTORY + 1)
    assert history_from_bars(bars, NAMES).sessions[-1] == stage.session(0).session


def test_what_is_held_beside_the_benchmark_is_watched_as_well(staged: Staged) -> None:
    stage = staged(benchmark={"symbols": list(NAMES[:8])})
    stage.tick(stage.before_open(0))
    stage.venue.advance_to(stage.at(0, 1))
    stage.outside(Side.BUY, "JJJ", 5)
    stage.tick(stage.evening(0))
    assert tracked(stage.house) == (*NAMES[:8], "JJJ")
    take_session(stage.house)
    assert "JJJ" in stage.house.store.market.extents()


class Shown:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, done: int, total: int, text: str) -> None:
        self.lines.append(f"{done} of {total}: {text}")


def test_prices_are_made_ready_before_the_first_step(staged: Staged) -> None:
    stage = staged(history={"load_years": 3})
    house = stage.house
    house.calendar = calendar_of(weekdays(date(2020, 1, 1), 1400))
    for name in NAMES:
        house.store.market.remove(name)
    shown = Shown()
    ready_prices(house, shown)
    assert shown.lines[0] == "prices of 10 names since 2021-03-01"
    assert shown.lines[-1] == f"10 of 10: {10 * HISTORY:,} closes"
    assert len(house.history.sessions) == HISTORY
    again = Shown()
    ready_prices(house, again)
    assert again.lines == ["prices of 10 names since 2021-03-01"], "nothing was missing"


def test_a_name_renamed_overnight_is_locked_before_the_open(staged: Staged) -> None:
    stage = staged()
    stage.venue.advance_to(stage.before_open(0))
    notice = rename_notice("AAA", stage.session(0).session, "XYZ")
    stage.alter(corporate_actions=lambda *_: (notice,))
    before_open(stage.house)
    assert "kind=renamed why=is XYZ since" in data_locks(stage.house)["AAA"]


# ------------------------------------------------------------------ told once


def test_a_locked_name_is_told_once_and_once_when_it_is_over(staged: Staged) -> None:
    stage = staged()
    store, now = stage.house.store, stage.venue.now
    jump = MarketFinding("AAA", TIMES[50].session, FindingKind.JUMP, "down 50 %", now)
    listed = MarketFinding("BBB", TIMES[50].session, FindingKind.GAP, "no bar in this session", now)
    thin = MarketFinding("*", TIMES[51].session, FindingKind.SESSION, "2 of 10 names have a close", now)
    store.market.put_findings([jump, listed, thin])
    locks = open_findings(store)
    assert locks.keys() == {"AAA"}, "a gap of the past locks nothing"
    for _ in range(2):
        tell(store, locks, now)
    assert stage.alerts("data:") == ["raised", "raised"]
    [alert] = [one for one in store.alerts.list() if one.key == "data:AAA"]
    assert "kind=jump why=down 50 %" in alert.message
    store.market.resolve([jump, thin], "explained", now)
    for _ in range(2):
        tell(store, open_findings(store), now)
    assert stage.alerts("data:AAA") == ["raised", "recovered"]
    assert stage.alerts("data:*") == ["raised", "recovered"]


def test_how_much_of_the_benchmark_is_bad() -> None:
    weights = {"AAA": D("0.5"), "BBB": D("0.3"), "CCC": D("0.2")}
    assert fraction_bad({"BBB", "XYZ"}, weights) == D("0.3")
    assert fraction_bad((), weights) == 0
    assert fraction_bad({"AAA"}, {}) == 0


# ------------------------------------------------------------------ the security master

NOW = datetime(2024, 3, 4, 22, tzinfo=UTC)


@pytest.fixture
def source() -> Source:
    return Source(EveningClock(DAYS[50]), quiet(("AAA", "BBB", "CCC")))


@pytest.fixture
def store(tmp_path: Path, empty_database: Path) -> Store:
    path = tmp_path / "house.db"
    path.write_bytes(empty_database.read_bytes())
    return Store.open(path, durable=False)


def told(store: Store) -> list[str]:
    return [alert.message for alert in store.alerts.list()]


def test_what_the_broker_knows_is_stored_and_erases_nothing(source: Source, store: Store) -> None:
    store.household.put_securities([Security("AAA", sector="Energy", index_name="S&P 500", cusip="037833100")])
    assert take_securities(store, source, ("AAA", "BBB"), {"BBB": "Health"}, NOW) == Known((), ())
    known = store.household.securities()
    assert (known["AAA"].sector, known["AAA"].index_name, known["AAA"].cusip) == ("Energy", "S&P 500", "AAA000")
    assert (known["BBB"].name, known["BBB"].sector, known["BBB"].tradable) == ("BBB Inc.", "Health", True)
    assert told(store) == []


def test_a_name_that_is_unknown_or_not_traded_is_told_and_not_bought(source: Source, store: Store) -> None:
    source.untradable.add("BBB")
    for _ in range(2):
        assert take_securities(store, source, ("AAA", "BBB", "NOPE"), {}, NOW) == Known(("NOPE",), ("BBB",))
    known = store.household.securities()
    assert [name for name, one in known.items() if not one.tradable] == ["BBB", "NOPE"]
    assert told(store) == [
        "NOPE: the broker does not know this symbol of the benchmark; it is not bought. Look whether it was renamed or "
        "delisted.",
        "BBB: the broker does not trade it. It is held and valued, never traded.",
    ]
    source.untradable.clear()
    take_securities(store, source, ("AAA", "BBB", "NOPE"), {}, NOW)
    assert told(store)[-1] == "BBB: the broker trades it"
    assert len(told(store)) == 3


def test_a_class_of_shares_written_otherwise_is_suggested(source: Source, store: Store) -> None:
    source.closes["BRK.B"] = source.closes["AAA"]
    take_securities(store, source, ("AAA", "BRKB"), {}, NOW)
    assert told(store)[0].endswith("it is not bought. It knows BRK.B: write it so.")


def test_a_name_the_broker_knows_no_more_is_found_and_found_again(source: Source, store: Store) -> None:
    take_securities(store, source, ("AAA", "BBB"), {}, NOW)
    source.unknown.add("BBB")
    for day in range(2):
        take_securities(store, source, ("AAA", "BBB"), {}, NOW + timedelta(days=day))
    [found] = store.market.findings(only_open=True)
    assert (found.symbol, found.kind, found.session) == ("BBB", FindingKind.GONE, date(2024, 3, 4))
    assert open_findings(store).keys() == {"BBB"}
    source.unknown.clear()
    take_securities(store, source, ("AAA", "BBB"), {}, NOW + timedelta(days=2))
    assert store.market.findings(only_open=True) == ()
    assert store.household.securities()["BBB"].tradable


def test_a_broker_that_knows_nothing_at_all_says_nothing_about_the_names(source: Source, store: Store) -> None:
    take_securities(store, source, ("AAA", "BBB"), {}, NOW)
    source.unknown |= {"AAA", "BBB"}
    with pytest.raises(BrokerUnavailable, match="knows none of them"):
        take_securities(store, source, ("AAA", "BBB"), {}, NOW)
    assert store.household.securities()["AAA"].tradable


def test_the_benchmark_goes_on_without_a_name_that_has_no_price(store: Store) -> None:
    benchmark = Constituents(("AAA", "NOPE", "CCC"), (D("0.5"), D("0.2"), D("0.3")), {"AAA": "Energy"})
    assert followed(benchmark, store) is benchmark, "nothing is stored yet: that says nothing about a name"
    store.market.add([DailyBar(name, DAYS[0], D(10), D(10)) for name in ("AAA", "CCC")])
    store.market.cover(("AAA", "CCC"), DAYS[0], DAYS[0], NOW)
    assert followed(benchmark, store) is benchmark, "NOPE was never asked for: a load was cut short"
    store.market.cover(("NOPE",), DAYS[0], DAYS[0], NOW)
    found = followed(benchmark, store)
    assert found.symbols == ("AAA", "CCC")
    assert found.weights == (D("0.625"), D("0.375"))
    assert found.sectors == {"AAA": "Energy"}
