"""`harvestd run` at its broker when things are not as they should be: kills, outages, dead streams, wrong accounts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from loopback import Fault, FaultKind
from practice import NUMBER, Practice, practice

from daemon.lots_check import compare
from state.records import ZERO, PlanState
from state.store import Store

FIRST = date(2020, 2, 18)
NEARLY = timedelta(minutes=19)  # before the close
TRADES_BY_ITSELF = {"plan_pct_nav": 200, "order_usd": 1_000_000, "gain_usd": 1_000_000}


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Practice]:
    """A paper account whose plans need no approval, and whose orders fill."""
    with practice(tmp_path, FIRST, partial_fill_probability=0.0) as made:
        made.configure(approvals=TRADES_BY_ITSELF, execution={"order_type": "market"}, history={"load_years": 2})
        yield made


def everything_adds_up(person: Practice) -> None:
    """One order an intent, the broker's executions, lots that are the broker's positions, cash to the cent."""
    store = Store.open(person.database, read_only=True)
    try:
        sent = {one.client_order_id: one for one in store.orders.list() if one.submitted_quantity}
        orders = {order.client_order_id: order for order in person.venue.orders()}
        assert set(sent) == set(orders)
        for name, intent in sent.items():
            assert intent.filled_quantity == orders[name].filled_quantity
        assert len(store.orders.fills()) == len(person.venue.fills())
        held: dict[str, object] = {}
        for lot in person.venue.lots():
            held[lot.symbol] = held.get(lot.symbol, ZERO) + lot.quantity  # type: ignore[operator]
        ours: dict[str, object] = {}
        for row in store.lots.lots("main"):
            ours[row.symbol] = ours.get(row.symbol, ZERO) + row.quantity  # type: ignore[operator]
        assert ours == held
        assert store.journal.cash("main") == person.venue.cash
        assert compare(store).differences == ()
    finally:
        store.close()


def open_store(person: Practice) -> Store:
    return Store.open(person.database, read_only=True)


# ------------------------------------------------------------------ observe


def test_observing_asks_and_never_sends(person: Practice) -> None:
    person.configure(mode="observe")
    out = person.harvestd("run", "--sessions", 3)
    assert "it only looks: this process has no way to send" in out
    assert {request.method for request in person.server.requests} == {"GET"}
    assert person.venue.orders() == ()
    store = open_store(person)
    plans = [plan for plan in store.plans.list() if plan.trades]
    assert len(plans) == 3, "one a night"
    assert {plan.state for plan in plans} == {PlanState.BLOCKED}
    intents = store.orders.list()
    assert {one.reason.split(":")[0] for one in intents} <= {"MODE_OBSERVES", "ORDER_UNFUNDED"}
    assert not any(one.submitted_quantity for one in intents)
    store.close()
    assert "None of this was traded" in person.harvestd("report", "scorecard")


def test_the_code_that_sends_is_not_in_an_observing_process(person: Practice) -> None:
    """Nor is there a stream of order updates, nor a method that any code path could call."""
    person.configure(mode="observe")
    code = """
import os, sys
from pathlib import Path
from brokers.protocol import OrderDesk
from daemon.opening import target_of, working_house
with working_house(target_of(None, Path("config.yaml"), os.environ), os.environ) as house:
    [broker] = house.brokers.values()
    assert not isinstance(broker, OrderDesk)
    assert not [name for name in dir(broker) if "submit" in name or "cancel" in name]
    assert house.desk("main") is None
    assert house.links == {}
assert "brokers.alpaca.desk" not in sys.modules
assert "brokers.alpaca" in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=person.folder, env=person.environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_commands_that_look_do_not_send_either(person: Practice) -> None:
    person.configure(mode="observe")
    person.harvestd("run", "--sessions", 1)
    person.configure(mode="paper")
    person.server.clear_requests()
    for words in (("plan",), ("opportunities",), ("doctor",), ("status",)):
        person.harvestd(*words)
    assert {request.method for request in person.server.requests} == {"GET"}


# ------------------------------------------------------------------ interruptions


def test_killed_in_the_middle_of_anything_and_gone_on_with(person: Practice) -> None:
    """kill -9 at five moments of the first trading days; the same database, a new process each time."""
    for wait in (2.2, 0.9, 1.6, 1.2, 2.0):
        running = person.start("run", "--sessions", 30)
        time.sleep(wait)
        running.kill()
        running.communicate()
    person.harvestd("run", "--sessions", 2)
    assert person.venue.orders()
    everything_adds_up(person)


def test_a_polite_end_comes_between_two_looks(person: Practice) -> None:
    running = person.start("run")
    assert running.stdout is not None
    for line in running.stdout:
        if "session over" in line:
            break
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 0, out
    assert "Traceback" not in out
    person.harvestd("run", "--sessions", 1)
    everything_adds_up(person)


def test_a_broker_that_is_away_for_hours_is_one_incident(person: Practice) -> None:
    person.harvestd("run", "--sessions", 1)
    person.server.script(Fault(FaultKind.STATUS, path="/v2/account$", status=503, nth=4, times=12))
    out = person.harvestd("run", "--sessions", 1)
    assert "could not be done and is tried again" in out
    assert "the broker's records can be read again" in out
    store = open_store(person)
    told = [alert for alert in store.alerts.list(200) if alert.key == "broker:main"]
    assert [alert.recovered for alert in told] == [False, True]
    store.close()
    everything_adds_up(person)


def test_streams_that_die_go_mute_or_talk_nonsense_lose_nothing(person: Practice) -> None:
    for fault in (
        Fault(FaultKind.CLOSE, path="/stream", code=1011),
        Fault(FaultKind.GARBAGE, path="/stream"),
        Fault(FaultKind.DUPLICATE, path="/stream", nth=3, times=4),
        Fault(FaultKind.MISSING, path="/stream", nth=9, times=5),
        Fault(FaultKind.UNKNOWN_EVENT, path="/stream", nth=15),
        Fault(FaultKind.UNKNOWN_STATUS, path="/stream", nth=17),
    ):
        person.server.script(fault)
    person.harvestd("run", "--sessions", 3)
    assert len(person.venue.fills()) > 15
    everything_adds_up(person)


@pytest.mark.parametrize("when", ["before", "after"])
def test_answers_to_orders_that_are_lost_are_looked_up_never_sent_twice(person: Practice, when: str) -> None:
    """504 for every third order, before or after the broker took it."""
    for number in range(1, 5):
        fault = Fault(FaultKind.STATUS, method="POST", path="/v2/orders", nth=3 * number, status=504, when=when)  # type: ignore[arg-type]
        person.server.script(fault)
    person.harvestd("run", "--sessions", 2)
    assert len(person.venue.orders()) >= 18
    everything_adds_up(person)


# ------------------------------------------------------------------ the wrong account


def test_another_account_is_refused_before_anything_is_done(person: Practice) -> None:
    text = person.config.read_text().replace("account_number: ''", "account_number: PA-SOMEBODY-ELSES")
    person.config.write_text(text)
    out = person.harvestd("run", "--sessions", 1, code=78)
    assert "expected account number PA-SOMEBODY-ELSES (config.yaml)" in out
    assert person.venue.orders() == ()


def test_a_database_stays_with_its_account(person: Practice) -> None:
    person.harvestd("run", "--sessions", 1)
    store = Store.open(person.database)
    assert store.meta.get("account_number:main") == NUMBER
    store.meta.put("account_number:main", "PA-THE-OLD-ONE")
    store.close()
    assert "expected account number PA-THE-OLD-ONE (the database" in person.harvestd("run", code=78)


def test_one_daemon_a_household(person: Practice) -> None:
    running = person.start("run")
    assert running.stdout is not None
    for line in running.stdout:
        if "harvestd runs in mode paper" in line:
            break
    assert "another harvestd works on this household" in person.harvestd("run", code=1)
    running.kill()
    running.communicate()


def test_keys_that_open_nothing_start_nothing(person: Practice) -> None:
    person.keys(secret="wrong-canary-secret")
    out = person.harvestd("run", code=1)
    assert "wrong-canary-secret" not in out
    assert "Traceback" not in out
    assert not json.loads(person.harvestd("plans", "--json"))["plans"]


# ------------------------------------------------------------------ the first load, and beginnings


def test_a_first_load_cut_short_leaves_no_smaller_benchmark_behind(person: Practice) -> None:
    """Killed after some of the names: the next start loads the others, and tracks all of them."""
    person.configure(mode="observe")
    code = """
import os, sys
import daemon.market_data.loading as loading
real, left = loading._load_part, iter([1, 1])
loading._cut = lambda names, size: iter([tuple(names[at:at + 4]) for at in range(0, len(names), 4)])
def part(*given, **named):
    if next(left, None) is None:
        os._exit(9)
    return real(*given, **named)
loading._load_part = part
from daemon.cli.main import main
sys.argv = ["harvestd", "run"]
main()
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=person.folder, env=person.environment(), timeout=120)
    assert killed.returncode == 9
    store = open_store(person)
    assert 0 < len(store.market.coverage()) < 20
    store.close()
    out = person.harvestd("run", "--sessions", 1)
    assert "names=20" in out
    store = open_store(person)
    assert len(store.market.coverage()) == len(store.market.constituent_weights()) == 20
    store.close()


def test_once_waits_for_the_stream_and_makes_the_plan(person: Practice) -> None:
    """A cycle by hand, twenty minutes before the close, in a process that has just begun."""
    person.configure(approvals={"plan_pct_nav": 5})
    person.server.advance_to(person.venue.schedule.closes[person.venue.schedule.upcoming(person.venue.now)] - NEARLY)
    assert "is awaiting_approval" in person.harvestd("once")


def test_an_account_under_another_id_is_not_begun_in_its_old_database(person: Practice) -> None:
    person.harvestd("run", "--sessions", 1)
    person.config.write_text(person.config.read_text().replace("id: main", "id: mine"))
    out = person.harvestd("run", "--sessions", 1, code=78)
    assert f"this database knows account {NUMBER} as main" in out


def test_a_second_folder_on_the_same_account_halts(person: Practice) -> None:
    """Same keys, another database and another id, while the first one's orders work: nothing is bought twice."""
    for symbol in person.venue.market.quotes(sorted(person.venue.market._symbols), person.venue.now):
        person.venue.halt(symbol)
    running = person.start("run")
    for _ in range(600):
        time.sleep(0.1)
        with person.server.lock:
            if len(person.venue.orders()) >= 20:
                break
    running.kill()
    running.communicate()
    working = len(person.venue.broker().open_orders())
    assert working >= 10
    person.configure(database={"path": "another.db"})
    person.config.write_text(person.config.read_text().replace("id: main", "id: mine"))
    before = len(person.venue.orders())
    out = person.harvestd("run", "--sessions", 1)
    assert "orders of a harvestd that this database knows nothing of" in out
    assert len(person.venue.orders()) == before
