"""What the strategy is told of one account: today, queues, locks, volatility, active weights."""

from __future__ import annotations

from datetime import date

import numpy as np

from daemon.house import House
from daemon.sync import Snapshot
from state.records import ZERO, IntentState
from strategy.scan import blocked_losses
from strategy.types import BlockedLoss, FloatArray


def today_of(house: House, snapshot: Snapshot) -> date:
    """The New York date the plan would trade on: this session's, or the next one's when it is over."""
    return house.calendar.upcoming(snapshot.now).session


def is_ready(house: House, snapshot: Snapshot) -> bool:
    """True when there is a price for everything and a history to judge risk by; else nothing is decided (I10)."""
    prices = snapshot.prices
    return (
        bool(house.history.sessions)
        and all(name in prices for name in (*house.names, *snapshot.positions))
        and snapshot.nav > 0
        and house.knows_risk()
    )


def locked_symbols(house: House, snapshot: Snapshot) -> frozenset[str]:
    """Names that nothing is planned in: locked, of unknown fate, restricted, or not traded by the broker."""
    unknown = (
        intent.symbol
        for intent in house.store.orders.list(account_id=snapshot.account.account_id, only_open=True)
        if intent.state in (IntentState.UNKNOWN, IntentState.SUBMITTING)
    )
    restricted = house.settings.execution.restricted_symbols
    return frozenset({*snapshot.locks, *unknown, *restricted, *untradable(house)})


def untradable(house: House) -> frozenset[str]:
    """Names that the broker does not trade."""
    return frozenset(symbol for symbol, item in house.securities().items() if not item.tradable)


def sectors_of(house: House) -> dict[str, str]:
    """Sectors where known."""
    known = {symbol: item.sector for symbol, item in house.securities().items() if item.sector}
    return {**known, **house.constituents.sectors}


def active_weights(house: House, snapshot: Snapshot) -> FloatArray:
    """Held less benchmark weights, shape (n,), at the snapshot's quotes."""
    weights = snapshot.weights
    held = np.array([float(weights.get(name, ZERO)) for name in house.names])
    return np.asarray(held - house.benchmark_weights(today_of(house, snapshot)))


def fifo_blocked(snapshot: Snapshot) -> tuple[BlockedLoss, ...]:
    """Losses that the account's relief method keeps behind gains."""
    return blocked_losses(snapshot.queues, snapshot.prices)
