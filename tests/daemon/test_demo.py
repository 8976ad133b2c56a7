"""The demo, over seven weeks of 2020: what it leaves behind is checked against the venue's own books, share by share
and cent by cent, without the ledger; against a run killed again and again; and against a world with another future.

One run of the command serves all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from command_line import harvestd
from conftest import FROM, TO, copy_of, span
from killed_demo import Nobody

import daemon.demo.run
from brokers.simulated import SimulatedVenue, VenuePrices
from daemon.demo.prices import demo_calendar, demo_prices
from daemon.demo.run import DemoOptions, run_demo
from daemon.demo.world import open_venue, venue_path
from daemon.lots_check import compare
from state.lots import Ledger
from state.records import ActivityKind, Intent, IntentState, Plan, Side, TransactionKind
from state.store import Store

pytestmark = pytest.mark.slow

D = Decimal
ZERO, CENT = D(0), D("0.01")
EXACT = D("0.00001")  # what dividing an amount over shares may leave
HERE = Path(__file__).parent
KILLS = 9

PROMISED = {  # the format the project promises
    "from": date,
    "to": date,
    "sessions": int,
    "orders": int,
    "fills": int,
    "rejects": int,
    "harvests": int,
    "losses_realized_usd": D,
    "disallowed_usd": D,
    "net_losses_usd": D,
    "net_losses_by_year": dict,
    "fifo_blocked_losses_usd": D,
    "tax_value_usd": D,
    "liquidation_tax_usd": D,
    "nav_usd": D,
    "benchmark_nav_usd": D,
    "tracking_error_realized_bps": float,
    "turnover_pct_per_year": float,
    "wash_sale_conflicts": int,
    "reconciliation_breaks": int,
    "seconds": float,
    "peak_memory_mb": float,
    "ledger_digest": str,
}


@dataclass(frozen=True)
class Finished:
    """A demo that has ended: its database, what it printed, its store, and its venue, reopened."""

    database: Path
    printed: dict[str, Any]
    store: Store
    venue: SimulatedVenue

    def ledger(self) -> Ledger:
        """A full replay of the journal it left."""
        return Ledger.replay(self.store.household.accounts(), self.store.journal.all())


@contextmanager
def opened(database: Path, printed: str) -> Iterator[Finished]:
    store = Store.open(database, read_only=True)
    prices = demo_prices(demo_calendar())
    venue = open_venue(database, prices, prices.sessions[0].opens_at)
    yield Finished(database, json.loads(printed), store, venue)
    store.close()
    venue.close()


@pytest.fixture(scope="module")
def demo(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    database = copy_of(demo_run, tmp_path_factory.mktemp("finished"))
    with opened(database, (demo_run / "printed.json").read_text(encoding="utf-8")) as found:
        yield found


# ------------------------------------------------------------------ what it prints


def test_json_has_every_promised_key_with_its_promised_type(demo: Finished) -> None:
    printed = demo.printed
    for key, kind in PROMISED.items():
        value = printed[key]
        if kind is D:
            assert isinstance(value, str), key
            assert D(value).is_finite(), key
        elif kind is date:
            assert date.fromisoformat(value), key
        elif kind is float:
            assert isinstance(value, float | int), key
            assert not isinstance(value, bool), key
        else:
            assert type(value) is kind, key
    assert all(
        len(year) == 4 and isinstance(loss, str) and D(loss) >= 0
        for year, loss in printed["net_losses_by_year"].items()
    )


def test_its_figures_agree_with_one_another_and_with_the_venue(demo: Finished) -> None:
    printed, amount = demo.printed, {key: D(demo.printed[key]) for key, kind in PROMISED.items() if kind is D}
    assert (printed["from"], printed["to"], printed["sessions"]) == ("2020-02-03", "2020-03-20", 34)
    assert amount["net_losses_usd"] == amount["losses_realized_usd"] - amount["disallowed_usd"]
    assert sum(map(D, printed["net_losses_by_year"].values())) == amount["net_losses_usd"]
    assert printed["fills"] == len(demo.venue.fills())
    sent = [one for one in demo.store.orders.list() if one.submitted_at is not None]
    assert printed["orders"] == len(sent) >= len(demo.venue.orders())
    assert printed["harvests"] > 0
    assert amount["net_losses_usd"] > 0
    assert printed["reconciliation_breaks"] == printed["wash_sale_conflicts"] == 0
    quotes = demo.venue.broker().quotes(demo.store.household.securities())
    held = sum((one.quantity * quotes[one.symbol].mid for one in demo.venue.broker().positions()), ZERO)
    assert abs(amount["nav_usd"] - held - demo.venue.cash) <= CENT


# ------------------------------------------------------------------ done-line 8: nothing is lost on the way


def test_shares_are_conserved(demo: Finished) -> None:
    """Bought less sold, by the venue's fills: that is the journal's, the lots' and the broker's position."""
    by_fills: dict[str, Decimal] = defaultdict(Decimal)
    by_journal: dict[str, Decimal] = defaultdict(Decimal)
    by_lots: dict[str, Decimal] = defaultdict(Decimal)
    for fill in demo.venue.fills():
        assert fill.side is not None
        by_fills[str(fill.symbol)] += fill.side.sign * fill.quantity
    for row in demo.store.journal.all():
        if row.account_id == "main" and row.kind in (TransactionKind.BUY, TransactionKind.SELL):
            by_journal[str(row.symbol)] += row.quantity if row.kind is TransactionKind.BUY else -row.quantity
    for lot in demo.store.lots.lots("main"):
        by_lots[lot.symbol] += lot.quantity
    held = {one.symbol: one.quantity for one in demo.venue.broker().positions()}
    assert len(held) > 5
    assert held == nonzero(by_fills) == nonzero(by_journal) == dict(by_lots)


def nonzero(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {key: amount for key, amount in amounts.items() if amount}


def test_every_execution_is_in_the_journal_once_as_the_venue_has_it(demo: Finished) -> None:
    """I2."""
    ours = {row.transaction_id: row for row in demo.store.journal.all() if row.account_id == "main"}
    trades = [key for key, row in ours.items() if row.kind in (TransactionKind.BUY, TransactionKind.SELL)]
    assert sorted(trades) == sorted(fill.activity_id for fill in demo.venue.fills())
    for fill in demo.venue.fills():
        row = ours[fill.activity_id]
        assert (row.symbol, row.quantity, row.price, row.amount) == (
            fill.symbol,
            fill.quantity,
            fill.price,
            fill.amount,
        )
        assert (row.trade_date, row.order_id) == (fill.trade_date, fill.broker_order_id)


def test_cash_is_conserved_to_the_cent(demo: Finished) -> None:
    """Money put in, less what purchases cost, plus what sales brought, each rounded as the venue rounds."""
    history = demo.venue.broker().activities().activities
    put_in = sum((one.amount for one in history if one.kind is ActivityKind.DEPOSIT), ZERO)
    assert put_in == 500_000 + 5_000, "the opening deposit and March's"
    cash = put_in
    for fill in demo.venue.fills():
        assert fill.side is not None
        cash -= fill.side.sign * (fill.quantity * fill.price).quantize(CENT, "ROUND_HALF_UP")
    last = demo.store.performance.last("main")
    assert last is not None
    assert cash == demo.venue.cash == demo.store.journal.cash("main") == last.cash


def test_realized_results_are_conserved_to_the_cent(demo: Finished) -> None:
    """The venue keeps its own lots, of whole orders, and its own list of what left. For each sale and purchase:
    shares and proceeds are the same, and our basis is the cost plus the disallowed losses carried into those shares."""
    theirs: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO, ZERO])
    ours: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO, ZERO])
    for gone in demo.venue.disposals():
        found = theirs[gone.sale_fill_id, gone.purchase_fill_ids[0]]
        for place, amount in enumerate((gone.quantity, gone.proceeds, gone.cost)):
            found[place] += amount
    rows = demo.store.lots.realized("main")
    for row in rows:
        found = ours[row.sale_id, row.lot_id]
        for place, amount in enumerate((row.quantity, row.proceeds, row.basis)):
            found[place] += amount
    assert set(ours) == set(theirs)
    assert len(ours) > 8
    carried_out = ZERO
    for key, (quantity, proceeds, cost) in theirs.items():
        mine = ours[key]
        assert mine[0] == quantity
        assert abs(mine[1] - proceeds) < CENT, "of one fill's parts; the fill as a whole is exact, see below"
        assert mine[2] > cost - CENT, "a wash sale raises a basis, nothing lowers it"
        carried_out += mine[2] - cost if mine[2] - cost >= CENT else ZERO
    carried_in = sum(
        (match.disallowed for row in demo.store.lots.realized() for match in row.matches if is_ours(match)), ZERO
    )
    still_in = sum((lot.wash_adjustment for lot in demo.store.lots.lots("main")), ZERO)
    assert abs(carried_in - carried_out - still_in) < CENT * len(ours)


def is_ours(match: Any) -> bool:
    return match.replacement_account_id == "main" and not match.permanent


def test_what_the_venue_paid_for_shares_is_in_its_sales_and_in_what_is_left(demo: Finished) -> None:
    """Cost of all purchases = cost of shares sold + of shares held; ours differs by wash adjustments only."""
    paid = -sum((fill.amount for fill in demo.venue.fills() if fill.side is Side.BUY), ZERO)
    sold = sum((gone.cost for gone in demo.venue.disposals()), ZERO)
    held = sum((lot.cost for lot in demo.venue.lots()), ZERO)
    assert paid == sold + held
    basis = sum((lot.basis - lot.wash_adjustment for lot in demo.store.lots.lots("main")), ZERO)
    # The venue rounds what is left of a lot to the cent at each sale, the ledger does not.
    assert abs(basis - held) <= CENT / 2 * len(demo.venue.disposals())
    proceeds = sum((fill.amount for fill in demo.venue.fills() if fill.side is Side.SELL), ZERO)
    assert sum((gone.proceeds for gone in demo.venue.disposals()), ZERO) == proceeds
    received: dict[str, Decimal] = defaultdict(Decimal)
    for row in demo.store.lots.realized("main"):
        received[row.sale_id] += row.proceeds
    for fill in demo.venue.fills():
        if fill.side is Side.SELL:
            assert abs(received[fill.activity_id] - fill.amount) < EXACT


def test_lots_on_disk_equal_a_replay_of_the_journal(demo: Finished) -> None:
    found = compare(demo.store)
    assert found.differences == ()
    assert found.digest == demo.printed["ledger_digest"] == demo.ledger().digest()


# ------------------------------------------------------------------ wash sales


def test_every_disallowed_dollar_is_explained_by_a_named_purchase(demo: Finished) -> None:
    journal = {row.transaction_id: row for row in demo.store.journal.all()}
    rows = [row for row in demo.store.lots.realized("main") if row.disallowed]
    assert rows, "the spouse's purchase of CVX follows a harvest of it"
    used: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        assert row.gain_loss < 0
        assert row.disallowed == sum(match.disallowed for match in row.matches) <= -row.gain_loss
        assert row.permanently_disallowed == sum(match.disallowed for match in row.matches if match.permanent)
        for match in row.matches:
            purchase = journal[match.replacement_id]
            assert purchase.kind is TransactionKind.BUY
            assert (purchase.account_id, purchase.symbol) == (match.replacement_account_id, row.symbol)
            assert purchase.trade_date == match.replacement_date
            assert abs(purchase.trade_date - row.disposed) <= timedelta(days=30)
            assert match.permanent == (purchase.account_id == "ira")
            used[match.replacement_id] += match.quantity
    whole: dict[str, Decimal] = defaultdict(Decimal)
    for item in journal.values():
        whole[item.order_id or item.transaction_id] += item.quantity
    assert all(quantity <= whole[journal[key].order_id or key] for key, quantity in used.items())
    assert D(demo.printed["disallowed_usd"]) == sum((row.disallowed for row in rows), ZERO).quantize(CENT)


def test_what_became_disallowed_later_was_told(demo: Finished) -> None:
    told = [one for one in demo.store.alerts.list(most=10_000) if one.key.startswith("restated:")]
    assert told
    assert all("bought 20" in one.message and ("spouse" in one.message or "ira" in one.message) for one in told)


# ------------------------------------------------------------------ orders, plans, approvals


def test_no_order_without_its_plan_and_never_more_than_planned(demo: Finished) -> None:
    """I1, I7: each broker order is one intent's; planned >= submitted >= filled for every leg."""
    intents = {one.client_order_id: one for one in demo.store.orders.list()}
    orders = demo.venue.orders()
    assert len({one.client_order_id for one in orders}) == len(orders)
    assert {one.client_order_id for one in orders} <= set(intents)
    legs: dict[tuple[str, int], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    filled_at_venue: dict[str, Decimal] = {one.client_order_id: one.filled_quantity for one in orders}
    for one in intents.values():
        assert one.state.is_final
        assert (
            one.quantity
            >= one.submitted_quantity
            >= one.filled_quantity
            == filled_at_venue.get(one.client_order_id, ZERO)
        )
        legs[one.plan_id, one.leg][0] += one.submitted_quantity
        legs[one.plan_id, one.leg][1] += one.filled_quantity
    for plan in demo.store.plans.list():
        for trade in plan.trades:
            sent, filled = legs[plan.plan_id, trade.leg]
            assert trade.quantity >= sent >= filled


def test_each_answered_question_has_weights_before_and_after(demo: Finished) -> None:
    ended = [one for one in demo.store.plans.approvals() if one.decision is not None]
    assert ended
    for one in ended:
        assert one.weights_before is not None
        assert one.weights_after, one.plan_id
        assert one.decided_by in ("the demo's rule", "time")


def test_a_sale_takes_the_lots_its_plan_named(demo: Finished) -> None:
    """FIFO: for each leg that sold, the venue's own disposals are a prefix of the lots of the plan."""
    orders = {one.broker_order_id: one.client_order_id for one in demo.venue.orders()}
    intents = {one.client_order_id: one for one in demo.store.orders.list()}
    gone: dict[tuple[str, int], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for disposal in demo.venue.disposals():
        intent = intents[orders[disposal.sale_order_id]]
        gone[intent.plan_id, intent.leg][disposal.purchase_fill_ids[0]] += disposal.quantity
    plans = {plan.plan_id: plan for plan in demo.store.plans.list()}
    assert gone
    for (plan_id, number), took in gone.items():
        leg = next(trade for trade in plans[plan_id].trades if trade.leg == number)
        left, promised = sum(took.values(), ZERO), defaultdict(Decimal)
        for lot in leg.lots:
            if left > 0:
                promised[lot.lot_id] += min(left, lot.quantity)
            left -= min(left, lot.quantity)
        assert dict(took) == dict(promised), f"{plan_id} leg {number}"


# ------------------------------------------------------------------ done-line 3: the same again, however often killed


def everything(store: Store) -> dict[str, object]:
    """All that was decided and done."""
    return {
        "journal": store.journal.all(),
        "plans": store.plans.list(),
        "orders": store.orders.list(),
        "fills": store.orders.fills(),
        "lots": store.lots.lots(),
        "realized": store.lots.realized(),
        "performance": store.performance.rows("main"),
        "approvals": store.plans.approvals(),
        "alerts": [replace(one, sent_at=None) for one in store.alerts.list(most=10_000)],
    }


def test_killed_nine_times_and_resumed_it_ends_the_same(demo: Finished, tmp_path: Path) -> None:
    database = tmp_path / "demo.db"
    chance = random.Random(20200316)
    moments = [3, 40, *(chance.randint(100, 480) for _ in range(KILLS - 2))]
    killed = []
    for moment in [*moments, 0]:
        command = [sys.executable, str(HERE / "killed_demo.py"), str(database), str(FROM), str(TO), str(moment)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1], env=here())
        killed.append(ended.returncode)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    assert killed.count(-signal.SIGKILL) >= 8
    assert killed[-1] == 0
    with opened(database, "{}") as again:
        assert again.ledger().digest() == demo.printed["ledger_digest"]
        names = [one.client_order_id for one in again.venue.orders()]
        assert len(names) == len(set(names))
        assert names == [one.client_order_id for one in demo.venue.orders()]
        assert again.venue.broker().activities() == demo.venue.broker().activities()
        expected, found = everything(demo.store), everything(again.store)
        assert [key for key in expected if expected[key] != found[key]] == []


def here() -> dict[str, str]:
    """The environment, with this tree first on Python's path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}


# ------------------------------------------------------------------ no look ahead


D_DAY = date(2020, 3, 2)


def other_future(prices: VenuePrices, day: date) -> VenuePrices:
    """The same prices up to the session before `day`; from `day` on every name goes its own way, wildly."""
    chance = random.Random(7)
    place = next(i for i, item in enumerate(prices.sessions) if item.session == day)
    closes = {}
    for name, series in prices.closes.items():
        factor = D(str(round(chance.uniform(0.7, 1.4), 3)))
        closes[name] = (
            *series[:place],
            *((close * factor).quantize(CENT) if close else close for close in series[place:]),
        )
    return replace(prices, closes=closes)


def decided(plans: tuple[Plan, ...], day: date) -> list[tuple[object, ...]]:
    """What was decided up to and including `day`, without what became of it."""
    return [
        (
            plan.plan_id,
            plan.created_at,
            plan.triggers,
            plan.nav,
            plan.weights_before,
            plan.weights_planned,
            plan.tracking_error_before_bps,
            plan.trades,
        )
        for plan in plans
        if plan.session <= day
    ]


def recorded(intents: tuple[Intent, ...], day: date) -> list[tuple[object, ...]]:
    return [
        (one.client_order_id, one.symbol, one.side, one.quantity, one.reference_price, one.tie)
        for one in intents
        if one.session <= day
    ]


def test_no_decision_has_seen_the_close_it_trades_at(
    demo: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the close of 2 March on the world is another. All decisions up to that afternoon, its own included, are
    the same to the last digit; what they were filled at, and every decision after it, is not."""
    monkeypatch.setattr(daemon.demo.run, "demo_prices", lambda calendar: other_future(demo_prices(calendar), D_DAY))
    database = tmp_path / "demo.db"
    run_demo(DemoOptions(FROM, D_DAY + timedelta(days=1), 0, database, False), Nobody())
    store = Store.open(database, read_only=True)
    ours, theirs = demo.store.plans.list(), store.plans.list()
    assert decided(ours, D_DAY) == decided(theirs, D_DAY)
    assert any(plan.session == D_DAY for plan in ours), "there was something to decide that day"
    assert recorded(demo.store.orders.list(), D_DAY) == recorded(store.orders.list(), D_DAY)
    before = [one for one in demo.store.orders.fills() if one.executed_at.date() < D_DAY]
    assert before == [one for one in store.orders.fills() if one.executed_at.date() < D_DAY]
    on_the_day = [one.price for one in demo.store.orders.fills() if one.executed_at.date() == D_DAY]
    assert on_the_day
    assert on_the_day != [one.price for one in store.orders.fills() if one.executed_at.date() == D_DAY]
    store.close()


# ------------------------------------------------------------------ looking at what it left


def digests(database: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (database, venue_path(database))}


EVE = date(2020, 2, 27)  # the crash has begun; the next session harvests


@pytest.fixture(scope="module")
def eve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a demo that ended on the eve of some harvests."""
    database = tmp_path_factory.mktemp("eve") / "demo.db"
    run_demo(DemoOptions(FROM, EVE, 0, database, False), Nobody())
    return database


def test_plan_says_what_it_would_do_lot_by_lot_and_does_nothing(eve: Path) -> None:
    """Done-line 4."""
    before, orders = digests(eve), _orders_at(eve)
    printed = json.loads(harvestd("plan", "--json", "--db", eve).out)
    assert printed["places_orders"] is False
    trades = printed["plan"]["trades"]
    sells = [one for one in trades if one["side"] == "sell"]
    assert sells
    store = Store.open(eve, read_only=True)
    for trade in sells:
        queue = store.lots.lots("main", trade["symbol"])
        named = [(lot["lot_id"], D(lot["quantity"])) for lot in trade["lots"]]
        assert [one[0] for one in named] == [lot.lot_id for lot in queue][: len(named)], "in the order of disposal"
        assert sum(quantity for _, quantity in named) == D(trade["quantity"])
        for lot in trade["lots"]:
            assert lot["term"] in ("ST", "LT")
            gain = D(lot["quantity"]) * D(trade["price"]) - D(lot["basis"])
            assert abs(D(lot["gain_loss"]) - gain) <= CENT
            assert D(lot["disallowed"]) >= 0
    store.close()
    harvests = [one for one in sells if one["reason"] == "harvest"]
    assert harvests
    bought = {one["symbol"] for one in trades if one["side"] == "buy"}
    assert all(one["replacement"] and set(one["replacement"]) <= bought for one in harvests)
    for trade in trades:
        assert trade["explanation"]
        assert isinstance(trade["tracking_error_effect_bps"], float)
        assert D(trade["cost"]) > 0
    text = harvestd("plan", "--db", eve).out
    assert "Nothing is placed." in text
    rows = [line.split() for line in text.splitlines()]
    for trade in trades:
        (row,) = (row for row in rows if row[:2] == [trade["side"], trade["symbol"]])
        assert row[2] == trade["quantity"]
    lots = [row for row in rows if row and row[0].startswith("20") and row[-1] in ("ST", "LT")]
    assert len(lots) == sum(len(trade["lots"]) for trade in sells)
    assert "TRIGGER_HARVEST" in text
    assert digests(eve) == before
    assert _orders_at(eve) == orders


def test_what_plan_says_in_the_evening_is_what_is_decided_the_next_day(eve: Path, demo: Finished) -> None:
    """One engine: the preview is the decision, for the prices have not moved in between."""
    printed = json.loads(harvestd("plan", "--json", "--db", eve).out)["plan"]
    (plan,) = demo.store.plans.list(session=date.fromisoformat(printed["session"]))
    assert plan.session == EVE + timedelta(days=1)
    said = [(one["side"], one["symbol"], D(one["quantity"]), D(one["price"])) for one in printed["trades"]]
    assert said == [(one.side.value, one.symbol, one.quantity, one.price) for one in plan.trades]
    assert tuple(printed["triggers"]) == plan.triggers


def _orders_at(database: Path) -> int:
    with opened(database, "{}") as found:
        return len(found.venue.orders())


@pytest.mark.parametrize(
    "words",
    [("status",), ("positions",), ("lots",), ("orders",), ("plans",), ("wash-calendar",), ("opportunities",),
     ("report", "performance"), ("ledger", "verify"), ("alerts",)],
    ids=" ".join,
)  # fmt: skip
def test_its_database_answers_the_other_commands_and_none_changes_it(
    demo_run: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    database = copy_of(demo_run, tmp_path / "looked-at")
    before = digests(database)
    outcome = harvestd(*words, "--db", database)
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out) > 100
    assert json.loads(harvestd(*words, "--db", database, "--json").out)
    assert digests(database) == before


# ------------------------------------------------------------------ what it leaves alone


def test_it_never_overwrites_another_households_database(tmp_path: Path) -> None:
    database = tmp_path / "mine.db"
    store = Store.open(database, create=True)
    store.meta.put("kind", "household")
    store.close()
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    outcome = harvestd(*span(database))
    assert outcome.code == 2
    assert "is a real household's database; the demo leaves it alone. Choose another --db." in outcome.err
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before


def of_another_version(database: Path, revision: str) -> None:
    with sqlite3.connect(database) as raw:
        assert raw.execute("UPDATE alembic_version SET version_num = ?", (revision,)).rowcount == 1
        raw.execute("DROP TABLE restatements")  # other tables, too
    raw.close()


@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_it_replaces_its_own_database_whatever_version_wrote_it(demo_copy: Path, revision: str) -> None:
    of_another_version(demo_copy, revision)
    refused = harvestd(*span(demo_copy, end=FROM), "--resume")
    assert (refused.code, refused.out) == (2, "")
    assert "is the demo of another version of harvestd; start anew without --resume" in refused.err
    outcome = harvestd(*span(demo_copy, end=FROM), "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["sessions"] == 1
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0


@pytest.mark.parametrize("revision", ["0001", "9999"])
@pytest.mark.parametrize("words", [(), ("--resume",)], ids=["anew", "resume"])
def test_nor_that_of_another_version(tmp_path: Path, revision: str, words: tuple[str, ...]) -> None:
    database = tmp_path / "mine.db"
    store = Store.open(database, create=True)
    store.meta.put("kind", "household")
    store.close()
    of_another_version(database, revision)
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    outcome = harvestd(*span(database), *words)
    assert outcome.code == 2
    assert "is a real household's database; the demo leaves it alone. Choose another --db." in outcome.err
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("lost", ["meta", "alembic_version"])
def test_nor_one_that_does_not_say_whose_it_is(demo_copy: Path, lost: str) -> None:
    with sqlite3.connect(demo_copy) as raw:
        raw.execute(f"DROP TABLE {lost}")
    raw.close()
    before = digests(demo_copy)
    outcome = harvestd(*span(demo_copy))
    assert (outcome.code, outcome.out) == (2, "")
    assert f"was one that cannot be read (no such table: {lost}). Choose another --db" in outcome.err
    assert digests(demo_copy) == before


def test_nor_any_other_file(tmp_path: Path) -> None:
    letters = tmp_path / "letters.db"
    letters.write_text("Dear aunt,\n" * 500, encoding="utf-8")
    outcome = harvestd(*span(letters))
    assert outcome.code == 2
    assert "Choose another --db; the demo replaces only its own database." in outcome.err
    assert letters.read_text(encoding="utf-8") == "Dear aunt,\n" * 500


def test_a_demo_is_resumed_for_its_own_days_only(demo_run: Path, tmp_path: Path) -> None:
    database = copy_of(demo_run, tmp_path / "resumed")
    before = digests(database)
    outcome = harvestd(*span(database, end=date(2020, 4, 30)), "--resume")
    assert outcome.code == 2
    assert "resume it with the same --from and --to" in outcome.err
    assert digests(database) == before


def test_resuming_a_finished_demo_prints_its_figures_again(demo_run: Path, demo: Finished, tmp_path: Path) -> None:
    database = copy_of(demo_run, tmp_path / "resumed")
    printed = json.loads(harvestd(*span(database), "--resume", "--json").out)
    for key in ("seconds", "peak_memory_mb"):
        del printed[key]
    assert printed == {key: value for key, value in demo.printed.items() if key in printed}
    assert printed["ledger_digest"] == demo.printed["ledger_digest"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2017-12-29", "2018-02-01"),
        ("2020-03-01", "2020-02-01"),
        ("2022-12-01", "2022-12-29"),
        ("2020-02-01", "2020-02-02"),
    ],
)
def test_days_without_prices_or_sessions_are_refused_before_anything_is_made(
    tmp_path: Path, start: str, end: str
) -> None:
    outcome = harvestd("demo", "--from", start, "--to", end, "--db", tmp_path / "new.db")
    assert (outcome.code, outcome.out) == (2, "")
    assert "Expected" in outcome.err
    assert not (tmp_path / "new.db").exists()


def test_the_states_of_a_finished_demo_are_final(demo: Finished) -> None:
    assert all(plan.state.is_final or plan.session == TO for plan in demo.store.plans.list())
    assert all(one.state is not IntentState.UNKNOWN for one in demo.store.orders.list())
