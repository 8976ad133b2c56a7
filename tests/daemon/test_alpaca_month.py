"""A month with a paper account: `harvestd run` through the real alpaca-py, over sockets, against the loopback Alpaca.

Sync, scan, plan, approval, orders, fills by stream and by catch-up, reconciliation; and at the end the ledger equals
the venue's own disposal of shares, lot by lot. The two share no code.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from practice import KEY_ID, NUMBER, SECRET, Practice, practice

from daemon.lots_check import compare
from state.records import CENT, ZERO, IntentState, PlanState, Side
from state.store import Store

SESSIONS = 21
FIRST = date(2020, 2, 18)  # the weeks in which prices fell

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    """The month, lived through: the first plan approved by hand, a dividend and a split on the way."""
    with practice(tmp_path_factory.mktemp("month"), FIRST) as person:
        person.configure(
            approvals={"plan_pct_nav": 60, "order_usd": 60_000, "gain_usd": 20_000, "reprice_tolerance_pct": 20},
            execution={"order_type": "market"},  # the venue quotes the close before: limits would not be met in 2020
        )
        person.harvestd("run", "--sessions", 1)
        [waiting] = json.loads(person.harvestd("plans", "--open", "--json"))["plans"]
        person.harvestd("plans", "approve", waiting["plan_id"])
        person.harvestd("run", "--sessions", 4)
        with person.server.lock:
            person.venue.pay_dividend("KO", Decimal("0.41"))
            person.venue.split("AAPL", Decimal(4), Decimal(1))
        person.harvestd("run", "--sessions", SESSIONS - 5)
        yield person


@pytest.fixture(scope="module")
def store(month: Practice) -> Iterator[Store]:
    opened = Store.open(month.database, read_only=True)
    yield opened
    opened.close()


def test_it_traded_and_harvested(month: Practice, store: Store) -> None:
    assert store.agenda.count("evening", "main") == SESSIONS
    assert len(store.orders.fills()) > 25
    assert store.harvested(), "these weeks had losses to take"
    plans = store.plans.list()
    assert {plan.state for plan in plans} <= {
        PlanState.DONE,
        PlanState.PARTLY_DONE,
        PlanState.EXPIRED,
        PlanState.BLOCKED,
    }
    assert [one.decision for one in store.plans.approvals()].count("approved") >= 1


def test_positions_cash_and_executions_are_the_brokers(month: Practice, store: Store) -> None:
    held = {lot.symbol: ZERO for lot in month.venue.lots()}
    for lot in month.venue.lots():
        held[lot.symbol] += lot.quantity
    ours: dict[str, Decimal] = defaultdict(Decimal)
    for lot in store.lots.lots("main"):
        ours[lot.symbol] += lot.quantity
    assert dict(ours) == held
    assert store.journal.cash("main") == month.venue.cash
    assert all(row.lock_reason is None for row in store.positions.list("main"))
    assert len(store.orders.fills()) == len(month.venue.fills())
    given = {fill["id"] for fill in month.server.activities() if fill["activity_type"] == "FILL"}
    assert {fill.execution_id for fill in store.orders.fills()} == given


def test_each_intent_is_one_order(month: Practice, store: Store) -> None:
    intents = store.orders.list()
    sent = [one for one in intents if one.submitted_quantity]
    orders = {order.client_order_id: order for order in month.venue.orders()}
    assert set(orders) == {one.client_order_id for one in sent}
    for intent in sent:
        order = orders[intent.client_order_id]
        assert intent.state.is_final
        assert (intent.symbol, intent.side, intent.filled_quantity) == (order.symbol, order.side, order.filled_quantity)
    assert all(one.state is not IntentState.UNKNOWN for one in intents)


def test_the_ledger_is_the_venues_own_disposal_lot_by_lot(month: Practice, store: Store) -> None:
    """By the orders that sold and bought: the same shares, proceeds and cost, but for disallowed losses carried in."""
    names = {order.broker_order_id: order.client_order_id for order in month.venue.orders()}
    of_execution = {fill.execution_id: fill.client_order_id for fill in store.orders.fills()}
    theirs: dict[tuple[str | None, ...], list[Decimal]] = defaultdict(lambda: [ZERO] * 3)
    ours: dict[tuple[str | None, ...], list[Decimal]] = defaultdict(lambda: [ZERO] * 3)
    for gone in month.venue.disposals():
        found = theirs[names[gone.sale_order_id], names[gone.purchase_order_id]]
        found[:] = [a + b for a, b in zip(found, (gone.quantity, gone.proceeds, gone.cost), strict=True)]
    carried = ZERO
    for row in store.lots.realized("main"):
        found = ours[of_execution[row.sale_id], of_execution[row.lot_id]]
        found[:] = [a + b for a, b in zip(found, (row.quantity, row.proceeds, row.basis), strict=True)]
        carried += row.disallowed
    assert set(ours) == set(theirs)
    assert theirs
    for key, (quantity, proceeds, cost) in theirs.items():
        assert ours[key][0] == quantity, key
        assert abs(ours[key][1] - proceeds) < CENT, key
        assert cost - CENT < ours[key][2] <= cost + carried + CENT, key
    open_theirs = {names[lot.broker_order_id]: lot for lot in month.venue.lots()}
    open_ours: dict[str | None, list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    for lot in store.lots.lots("main"):
        open_ours[of_execution[lot.lot_id]][0] += lot.quantity
        open_ours[of_execution[lot.lot_id]][1] += lot.basis - lot.wash_adjustment
    assert set(open_ours) == set(open_theirs)
    for name, lot in open_theirs.items():
        assert open_ours[name][0] == lot.quantity
        assert abs(open_ours[name][1] - lot.cost) < CENT * 5, name
        assert lot.acquired >= FIRST
    assert compare(store).differences == ()


def test_fills_came_by_the_stream_and_what_it_missed_by_asking(month: Practice, store: Store) -> None:
    rows = list(store.database.read(__import__("state.store.schema", fromlist=["x"]).broker_events))
    assert rows
    assert not [row for row in rows if row["fault"]]
    told = {json.loads(row["body"])["data"]["event"] for row in rows}
    assert {"new", "fill"} <= told
    assert not store.events.waiting("main")


def test_nothing_was_asked_of_the_broker_that_it_does_not_know(month: Practice) -> None:
    assert month.server.violations == []
    strange = [
        one for one in month.server.requests if (one.status or 599) >= 400 and "by_client_order_id" not in one.path
    ]
    assert not strange, strange[:3]


def test_dividend_and_split_are_in_the_books(month: Practice, store: Store) -> None:
    kinds = [row.kind.value for row in store.journal.all() if row.account_id == "main"]
    assert "cash_dividend" in kinds or not any(lot.symbol == "KO" for lot in month.venue.lots())
    assert not [row.lock_reason for row in store.positions.list("main") if row.lock_reason]


def test_alerts_are_about_what_happened(month: Practice, store: Store) -> None:
    assert store.alerts.open_incidents("reconcile:") == ()
    assert store.alerts.open_incidents("broker:") == ()
    assert any(alert.key.startswith("harvest:") for alert in store.alerts.list(500))


def test_no_secret_is_anywhere(month: Practice) -> None:
    """Done-line 6, for a month: files, output, requests' addresses."""
    for secret in (KEY_ID, SECRET):
        assert not [text for text in month.printed if secret in text]
        for file in month.folder.rglob("*"):
            if file.is_file() and file.parent.name != "keys":
                assert secret.encode() not in file.read_bytes(), file
        assert not [one for one in month.server.requests if secret in f"{one.path}{one.query}{one.body}"]


def test_the_person_can_look_at_all_of_it(month: Practice) -> None:
    for words in (("status",), ("positions",), ("lots",), ("orders",), ("plans",), ("alerts",), ("wash-calendar",)):
        assert month.harvestd(*words)
    assert "FAULT" not in month.harvestd("doctor")
    assert NUMBER in month.printed[-1]
    assert month.harvestd("plan")
    assert month.harvestd("ledger", "verify")
    sides = {order.side for order in month.venue.orders()}
    assert sides == {Side.BUY, Side.SELL}
