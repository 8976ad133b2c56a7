"""What the broker says, taken in once and compared exactly: other people's trades, differences, and nothing twice."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from conftest import Staged
from small_house import DAYS, HISTORY, Stage

from brokers.protocol import ActivityPage
from daemon.planning import scan
from daemon.reconcile import Cause, Difference
from daemon.sync import _tell_differences
from state.records import ActivityKind, BrokerPosition, Side, Transaction, TransactionKind

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def stage(staged: Staged) -> Stage:
    """Ten minutes after the open of session 1, with ten names held since session 0."""
    made = staged()
    made.invest(0)
    made.tick(made.before_open(1))
    made.venue.advance_to(made.at(1, 10))
    return made


def held(stage: Stage, symbol: str) -> Decimal:
    return stage.house.ledger.position("main", symbol)


def contents(stage: Stage) -> dict[str, list[Any]]:
    """Every row of every table, but for the states, which follow the clock."""
    with sqlite3.connect(stage.path) as raw:
        tables = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        tables.remove("daemon_states")
        return {table: raw.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in tables}


def wrong(stage: Stage, symbol: str, more: int) -> Any:
    """Positions in which the broker has so many more shares of a symbol than its own history says."""
    broker = stage.venue.broker()

    def positions() -> tuple[BrokerPosition, ...]:
        told = {one.symbol: one for one in broker.positions()}
        have = told.pop(symbol).quantity if symbol in told else D(0)
        told[symbol] = BrokerPosition(symbol, have + more)
        return tuple(told[name] for name in sorted(told) if told[name].quantity)

    return positions


# ------------------------------------------------------------------ other people's trades


def test_someone_sells_at_the_venue_by_hand(stage: Stage) -> None:
    """It is in the journal under the broker's own id, with its gain or loss, and nothing is locked."""
    before = held(stage, "AAA")
    stage.outside(SELL, "AAA", 50)
    stage.venue.advance_to(stage.at(1, 12))
    snapshot = stage.look()
    assert held(stage, "AAA") == before - 50 == snapshot.positions["AAA"]
    row = stage.house.store.journal.all()[-1]
    fill = stage.venue.fills()[-1]
    assert (row.kind, row.transaction_id, row.client_order_id) == (TransactionKind.SELL, fill.activity_id, None)
    (realized,) = stage.house.store.lots.realized("main")
    assert (realized.sale_id, realized.quantity, realized.proceeds) == (fill.activity_id, D(50), fill.amount)
    assert snapshot.locks == {}
    assert stage.told == []


def test_dividends_splits_and_money_are_booked(stage: Stage) -> None:
    before = held(stage, "CCC")
    cash = stage.look().cash
    stage.venue.pay_dividend("BBB", D("0.50"))
    stage.venue.split("CCC", D(3), D(2))
    stage.venue.deposit(D("1000.01"), reference="gift")
    stage.venue.withdraw(D("2.02"), reference="coffee")
    snapshot = stage.look()
    assert snapshot.locks == {}
    assert held(stage, "CCC") == before * 3 / 2
    expected = cash + (held(stage, "BBB") * D("0.50")).quantize(D("0.01")) + D("1000.01") - D("2.02")
    assert stage.house.journal_cash("main") == snapshot.cash == expected
    assert stage.alerts("reconcile:") == []


def test_the_same_history_told_three_times_is_booked_once(stage: Stage) -> None:
    """F15: the broker forgets our cursor and tells everything from the beginning, again and again."""
    broker = stage.venue.broker()
    before = contents(stage)
    stage.alter(activities=lambda _=None: broker.activities(None))
    for _ in range(3):
        stage.look()
    stage.restart()
    stage.alter(activities=lambda _=None: broker.activities(None))
    stage.look()
    assert contents(stage) == before


def test_history_rewritten_by_the_broker_is_not_believed(stage: Stage) -> None:
    """A fill comes again under its id with another price: nothing of that page is booked, nothing sent, one alert."""
    broker = stage.venue.broker()

    def rewritten(after: str | None = None) -> ActivityPage:
        page = broker.activities(None)
        changed = tuple(
            replace(one, price=one.price + 1) if one.kind is ActivityKind.FILL else one for one in page.activities
        )
        return ActivityPage(changed, page.cursor)

    before = contents(stage)["transactions"]
    stage.alter(activities=rewritten)
    stage.venue.deposit(D(50_000), reference="more")
    for minutes in (0, 2, 4):
        stage.tick(stage.decision(1, minutes))
    assert contents(stage)["transactions"] == before
    assert stage.sent() == ()
    assert [alert.recovered for alert in stage.told] == [False]
    assert "came again with another content" in stage.told[0].message
    stage.alter()
    stage.tick(stage.decision(1, 6))
    assert [alert.recovered for alert in stage.told][:2] == [False, True]


def test_how_far_it_was_read_is_written_with_what_was_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two, the page is read again; so they must be one."""
    stage.outside(SELL, "AAA", 50)
    stage.venue.advance_to(stage.at(1, 12))
    before = contents(stage)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(stage.house.store.agenda, "set_cursor", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.look()
    assert contents(stage) == before
    stage.restart()
    stage.look()
    assert stage.house.store.journal.all()[-1].quantity == 50


# ------------------------------------------------------------------ differences


def test_a_difference_locks_the_symbol_and_is_told_once_until_it_is_gone(stage: Stage) -> None:
    stage.alter(positions=wrong(stage, "AAA", 5))
    for minute in (12, 14, 16):
        snapshot = stage.look()
        assert snapshot.locks == {
            "AAA": f"SYMBOL_LOCKED: symbol=AAA lots={held(stage, 'AAA')} broker={held(stage, 'AAA') + 5} "
            "cause=manual_trade"
        }
        stage.tick(stage.at(1, minute))
    stage.restart()
    stage.alter(positions=wrong(stage, "AAA", 5))
    stage.look()
    assert stage.alerts("reconcile:") == ["raised"]
    (row,) = (one for one in stage.house.store.positions.list("main") if one.symbol == "AAA")
    assert (row.lock_reason or "").startswith("SYMBOL_LOCKED"), "`harvestd positions` shows it"
    stage.alter()
    for _ in range(3):
        assert stage.look().locks == {}
    assert stage.alerts("reconcile:") == ["raised", "recovered"]
    assert all(one.lock_reason is None for one in stage.house.store.positions.list("main"))


def test_a_locked_symbol_is_neither_bought_nor_sold_and_the_others_are(staged: Staged) -> None:
    """BBB has fallen and would be harvested; it is locked. A deposit is invested in other names."""
    stage = staged(changes=[("BBB", 1, "0.8")])
    stage.invest(0)
    stage.live(1)
    stage.venue.deposit(D(10_000), reference="more")
    stage.alter(positions=wrong(stage, "BBB", 1))
    stage.live(2)
    verdicts = {item.symbol: str(item.verdict) for item in scan(stage.house, stage.look())}
    assert verdicts["BBB"].startswith("SYMBOL_LOCKED")
    assert stage.sent() != ()
    assert stage.intents("BBB") == ()


def test_shares_the_broker_no_longer_has_are_locked_too(stage: Stage) -> None:
    """F24: an empty page of positions is not a flat account: everything is locked and nothing traded."""
    stage.venue.deposit(D(20_000), reference="more")
    stage.alter(positions=lambda: ())
    stage.finish(1)
    assert len(stage.look().locks) == 10
    assert stage.sent() == ()
    assert stage.alerts("reconcile:") == ["raised"] * 10


def test_a_position_nobody_knows_and_nobody_quotes(stage: Stage) -> None:
    """A spin-off, say. It is locked and told; no plan is made on a worth that is not known, and the day still ends."""
    stage.venue.deposit(D(20_000), reference="more")
    stage.alter(positions=wrong(stage, "ZZZ", 7))
    stage.finish(1)
    assert set(stage.look().locks) == {"ZZZ"}
    assert stage.sent() == ()
    assert "evening" in stage.house.store.agenda.done(stage.session(1).session, "main")
    assert stage.alerts("reconcile:") == ["raised"]
    last = stage.house.store.performance.last("main")
    assert last is not None
    assert last.session == stage.session(0).session, "a figure that is not known is not written"
    stage.alter()
    stage.live(2)
    after = stage.house.store.performance.last("main")
    assert after is not None
    assert after.session == stage.session(2).session
    assert after.external_flow == 20_000, "what came on the day without figures is not lost"


@pytest.mark.parametrize(("off", "alerts"), [("0.01", ["raised"]), ("-0.01", ["raised"]), ("0.009", [])])
def test_cash_is_compared_to_the_cent(stage: Stage, off: str, alerts: list[str]) -> None:
    broker = stage.venue.broker()
    stage.alter(account=lambda: replace(broker.account(), cash=broker.account().cash + D(off)))
    for _ in range(3):
        stage.look()
    assert stage.alerts("reconcile:main:cash") == alerts
    stage.alter()
    for _ in range(3):
        stage.look()
    assert stage.alerts("reconcile:main:cash") == [*alerts, *(["recovered"] if alerts else [])]


# ------------------------------------------------------------------ nothing twice


def test_reconciling_twice_changes_nothing_and_a_restart_reads_the_same(stage: Stage) -> None:
    """I5, in the middle of a day with orders at the broker."""
    stage.execute((SELL, "AAA", 50), (BUY, "BBB", 30))
    stage.venue.halt("AAA")
    stage.tick(stage.at(1, 12))
    first = stage.look()
    before = contents(stage)
    second = stage.look()
    after = contents(stage)
    stage.restart()
    third = stage.look()
    for rows in (before, after, again := contents(stage)):
        rows["orders"] = [[value for value in row if value != stage.venue.now] for row in rows["orders"]]
    assert before == after == again
    assert first == replace(second, ledger=first.ledger) == replace(third, ledger=first.ledger)
    assert first.ledger.digest() == second.ledger.digest() == third.ledger.digest()


def test_the_lots_on_disk_are_those_of_the_ledger(stage: Stage) -> None:
    from daemon.lots_check import compare

    stage.outside(SELL, "AAA", 50)
    stage.outside(BUY, "AAA", 5)
    stage.venue.advance_to(stage.at(1, 12))
    stage.look()
    assert compare(stage.house.store).differences == ()


@pytest.mark.parametrize("bid", ["NaN", "0", "none at all"])
def test_a_quote_that_is_no_number_stops_the_symbol_and_not_the_daemon(staged: Staged, bid: str) -> None:
    """F26: not a number is not a price. BBB has fallen far enough to be harvested; it is not traded on such a quote,
    and the day ends as other days do. When the quote is back it is."""
    stage = staged(changes=[("BBB", 24, "0.8")])
    stage.invest(0)
    stage.live(24)
    broker = stage.venue.broker()

    def quotes(symbols: Any) -> Any:
        found = dict(broker.quotes(symbols))
        one = found.pop("BBB")
        return found if bid == "none at all" else {**found, "BBB": replace(one, bid=D(bid))}

    stage.alter(quotes=quotes)
    stage.live(25)
    assert stage.intents("BBB") == ()
    assert "evening" in stage.house.store.agenda.done(stage.session(25).session, "main")
    assert stage.alerts("quote:main:BBB") == ["raised"]
    stage.alter()
    stage.live(26)
    assert stage.intents("BBB") != ()
    assert stage.alerts("quote:main:BBB") == ["raised", "recovered"]


def test_what_follows_from_a_snapshot_follows_from_that_one_alone(stage: Stage) -> None:
    """Prices, value, weights and queues are computed once; another snapshot has its own."""
    before = stage.look()
    value, held_before, queue = before.nav, before.weights["AAA"], before.queues["AAA"]
    quote = before.quotes["AAA"]
    dearer = replace(before, quotes={**before.quotes, "AAA": replace(quote, bid=quote.bid * 2, ask=quote.ask * 2)})
    assert dearer.prices["AAA"] == before.prices["AAA"] * 2
    assert dearer.nav == value + before.positions["AAA"] * before.prices["AAA"]
    assert dearer.weights["AAA"] > held_before
    stage.outside(BUY, "AAA", 7)
    stage.venue.advance_to(stage.at(1, 20))
    after = stage.look()
    assert after.positions["AAA"] == before.positions["AAA"] + 7
    assert len(after.queues["AAA"]) == len(queue) + 1
    assert (before.nav, before.weights["AAA"], before.queues["AAA"]) == (value, held_before, queue)


# ------------------------------------------------------------------ cash and corrections


@pytest.mark.parametrize(
    ("ids", "cash"),
    [
        ([("d", None, 100), ("c", "d", 110)], 110),
        ([("c", "d", 110), ("d", None, 100)], 110),
        ([("d", None, 100), ("k", "d", 0)], 0),
        ([("d", None, 100), ("k", "d", 0), ("r", "d", 90)], 90),
        ([("d", None, 100), ("c", "d", 110), ("e", "c", 120)], 120),
    ],
    ids=["corrected", "the correction came first", "cancelled", "cancelled and rebooked", "corrected twice"],
)
def test_a_correction_takes_back_the_cash_of_what_it_corrects(
    stage: Stage, ids: list[tuple[str, str | None, int]], cash: int
) -> None:
    """Row by row, what is remembered of the cash is what the journal adds up to."""
    before = stage.house.journal_cash("main")
    for name, supersedes, amount in ids:
        row = Transaction(
            name, "main", TransactionKind.DEPOSIT, DAYS[HISTORY], "test", amount=Decimal(amount), supersedes=supersedes
        )
        stage.house.learn([row])
        assert stage.house.journal_cash("main") == stage.house.store.journal.cash("main")
    assert stage.house.journal_cash("main") - before == cash


def test_a_list_in_which_most_positions_are_wrong_is_one_incident(staged: Staged) -> None:
    """Twelve of twelve differ: every symbol is locked, and a person is told once."""
    stage = staged()
    found = [Difference("main", f"S{n}", D(1), D(2), Cause.UNKNOWN, "", None, None) for n in range(12)]
    held = {one.symbol for one in found}
    _tell_differences(stage.house, stage.account, found, held, stage.venue.now)
    assert stage.house.store.alerts.open_keys("reconcile") == ("reconcile-many:main",)
    _tell_differences(stage.house, stage.account, found[:1], held, stage.venue.now)
    assert stage.house.store.alerts.open_keys("reconcile") == ("reconcile:main:S0",)
