"""What the simulated venue keeps: through a restart, through SIGKILL, and of every share and every cent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import suppress
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from killed_venue import run
from worlds import BEFORE, DAYS, D, at, buy, prices, sell, settings, told, venue

from brokers.errors import BrokerUnavailable, NotAuthorized, OrderRefused, OutcomeUnknown
from brokers.simulated import SimulatedVenue
from state.records import Activity, ActivityKind, Side

HERE = Path(__file__).parent


def everything(made: SimulatedVenue) -> tuple[object, ...]:
    """All that can be read of a venue."""
    broker = made.broker()
    return (
        made.now,
        made.settled_cash,
        broker.clock(),
        broker.account(),
        broker.positions(),
        broker.activities(),
        broker.order_events(),
        broker.open_orders(),
        broker.quotes(["AAA", "BBB", "FRC"]),
        broker.daily_bars(["AAA", "BBB", "FRC"], DAYS[0], DAYS[-1]),
        made.orders(),
        made.lots(),
        made.disposals(),
    )


def reopened(made: SimulatedVenue, path: Path, **changed: object) -> SimulatedVenue:
    made.close()
    return SimulatedVenue(path / "venue.db", prices(), settings(**changed), start=BEFORE)


def test_a_venue_reopened_in_the_middle_is_the_same_and_goes_on_the_same(tmp_path: Path) -> None:
    chances: dict[str, Any] = {"partial_fill_probability": 0.5, "lot_selection": True}

    def week(path: Path, *, restart: bool) -> SimulatedVenue:
        path.mkdir()
        made = venue(path, **chances)
        for step in range(40):
            made.advance_to(at(1 + step // 10, 15, step % 10, 30))
            order = buy(f"o{step}", "AAA", 5) if step % 4 else sell(f"o{step}", "AAA", 2)
            with suppress(OrderRefused):
                made.broker().submit(order)
            if step == 15:
                made.split("AAA", D(2), D(1))
                made.halt("AAA")
                made.fill_next("o17", D("0.4"), hold_rest=True)
            if step == 18:
                made.unhalt("AAA")
            if restart:
                before = everything(made)
                made = reopened(made, path, **chances)
                assert everything(made) == before
        return made

    through, with_restarts = week(tmp_path / "a", restart=False), week(tmp_path / "b", restart=True)
    assert everything(through) == everything(with_restarts)
    assert told(through.broker().activities().activities) == told(with_restarts.broker().activities().activities)
    assert through.disposals()


def test_commands_survive_a_restart(tmp_path: Path) -> None:
    made = venue(tmp_path)
    made.halt("AAA")
    made.reject_next("BBB")
    made.lose_next_answer("after")
    made = reopened(made, tmp_path)
    with pytest.raises(OutcomeUnknown):
        made.broker().submit(buy("a", "AAA", 1))
    with pytest.raises(OrderRefused):
        made.broker().submit(buy("b", "BBB", 1))
    made.advance_to(at(1, 16, 0))
    assert made.fills() == ()
    made.block_account()
    made = reopened(made, tmp_path)
    with pytest.raises(NotAuthorized):
        made.broker().submit(buy("c", "BBB", 1))
    made.set_unavailable(True)
    made = reopened(made, tmp_path)
    with pytest.raises(BrokerUnavailable):
        made.broker().account()


def test_a_failure_in_the_middle_of_an_event_undoes_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = venue(tmp_path)
    made.broker().submit(buy("a", "AAA", 10))
    made.broker().submit(buy("b", "BBB", 10))
    before = everything(made)
    with monkeypatch.context() as patch:
        patch.setattr(made.book, "add_disposal", lambda *_: 1 / 0)
        patch.setattr(type(made.book), "put_lot", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.advance_to(at(1, 15, 1))
    assert everything(made) == before
    made.advance_to(at(1, 15, 1))
    assert len(made.fills()) == 2


@pytest.mark.parametrize("row", [40, 301, 502, 777])
def test_killed_while_writing_it_goes_on_to_the_same_history(tmp_path: Path, row: int) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE)))}
    command = [sys.executable, str(HERE / "killed_venue.py"), str(killed), str(row)]
    finished = subprocess.run(command, env=environment, timeout=60, check=False)
    assert finished.returncode == -signal.SIGKILL
    (tmp_path / "whole").mkdir()
    whole, resumed = run(tmp_path / "whole"), run(killed)
    assert everything(whole) == everything(resumed)
    assert told(whole.broker().activities().activities) == told(resumed.broker().activities().activities)
    assert len(whole.fills()) > 100


# ------------------------------------------------------------------ conservation

SYMBOLS = st.sampled_from(["AAA", "BBB", "FRC"])
BUY = st.tuples(st.just("buy"), SYMBOLS, st.integers(1, 120))
SELL = st.tuples(st.just("sell"), SYMBOLS, st.integers(1, 100))  # percent of the shares held
WAIT = st.tuples(st.just("wait"), st.integers(1, 3))  # minutes
RARE = st.one_of(
    st.tuples(st.just("next session")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("split"), SYMBOLS, st.sampled_from([("2", "1"), ("3", "1"), ("1", "2")])),
    st.tuples(st.just("dividend"), SYMBOLS, st.sampled_from(["0.01", "0.3333", "2"])),
    st.tuples(st.just("halt"), SYMBOLS),
    st.tuples(st.just("unhalt"), SYMBOLS),
)
ROUND = st.tuples(BUY, BUY, WAIT, SELL, RARE, WAIT)


def obey(made: SimulatedVenue, number: int, command: tuple[object, ...]) -> None:
    """Carry out one drawn command; what the venue refuses is refused."""
    broker = made.broker()
    match command:
        case ("buy", str(symbol), int(quantity)):
            shares = D(quantity) + (D("0.123456789") if symbol == "FRC" else 0)
            with suppress(OrderRefused):
                broker.submit(buy(f"o{number}", symbol, shares))
        case ("sell", str(symbol), int(percent)):
            held = {position.symbol: position.quantity for position in broker.positions()}.get(symbol, D(0))
            unit = D("0.000000001") if symbol == "FRC" else D(1)
            shares = (held * percent / 100).quantize(unit, ROUND_DOWN) if percent < 100 else held
            with suppress(OrderRefused):
                broker.submit(sell(f"o{number}", symbol, shares))
        case ("wait", int(minutes)):
            made.advance_to(made.now + timedelta(minutes=minutes))
        case ("next session",):
            made.advance_to(broker.clock().next_open + timedelta(minutes=5))
        case ("cancel",):
            for order in broker.open_orders()[:1]:
                broker.cancel(order.broker_order_id)
        case ("split", str(symbol), (str(new), str(old))):
            made.split(symbol, D(new), D(old))
        case ("dividend", str(symbol), str(per_share)):
            made.pay_dividend(symbol, D(per_share))
        case ("halt", str(symbol)):
            made.halt(symbol)
        case ("unhalt", str(symbol)):
            made.unhalt(symbol)
        case _:
            raise AssertionError(command)


def replayed(activities: tuple[Activity, ...]) -> dict[str, Decimal]:
    """Shares by symbol, from the history alone. What the venue rounds away at a reverse split (nine decimals)
    is left out when nothing else is left."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    for each in activities:
        if each.kind is ActivityKind.FILL and each.symbol and each.side:
            held[each.symbol] += each.side.sign * each.quantity
            assert held[each.symbol] >= -D("0.0000001")
        elif each.kind is ActivityKind.SPLIT and each.symbol and each.ratio_new and each.ratio_old:
            held[each.symbol] *= each.ratio_new / each.ratio_old
    return {symbol: quantity for symbol, quantity in held.items() if quantity >= D("0.0000001")}


def check_conservation(made: SimulatedVenue) -> None:
    """Cash is the sum of what moved it; shares, cost and proceeds are all accounted for."""
    history, fills = made.broker().activities().activities, made.fills()
    assert made.cash == sum(each.amount for each in history) >= 0
    assert 0 <= made.settled_cash <= made.cash
    positions = {position.symbol: position.quantity for position in made.broker().positions()}
    assert positions.keys() == replayed(history).keys()
    for symbol, quantity in replayed(history).items():
        assert abs(positions[symbol] - quantity) < D("0.0000001")  # nine decimals at each reverse split
        assert positions[symbol] == sum(lot.quantity for lot in made.lots() if lot.symbol == symbol)
    bought = -sum(fill.amount for fill in fills if fill.side is Side.BUY)
    assert bought == sum(lot.cost for lot in made.lots()) + sum(each.cost for each in made.disposals())
    assert sum(f.amount for f in fills if f.side is Side.SELL) == sum(each.proceeds for each in made.disposals())
    for order in made.orders():
        filled = sum(fill.quantity for fill in fills if fill.broker_order_id == order.broker_order_id)
        assert filled == order.filled_quantity <= order.quantity


@given(rounds=st.lists(ROUND, min_size=4, max_size=12))
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_share_and_no_cent_is_made_or_lost(rounds: list[tuple[tuple[object, ...], ...]]) -> None:
    chances: dict[str, Any] = {
        "partial_fill_probability": 0.5,
        "rejection_probability": 0.1,
        "half_spread_bps": D(5),
        "fractional": True,
    }
    with tempfile.TemporaryDirectory() as directory:
        made = venue(Path(directory), cash="30000.00", **chances)
        for number, command in enumerate(chain.from_iterable(rounds)):
            obey(made, number, command)
            check_conservation(made)
        before = everything(made)
        made = reopened(made, Path(directory), **chances)
        assert everything(made) == before
        made.close()
