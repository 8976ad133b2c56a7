"""Opening a house: to work in it (one process at a time), or to look (a private copy that cannot send)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from brokers.protocol import BrokerReader
from daemon.errors import ConfigurationRefused, LeaseHeld
from daemon.house import House
from state.store import Store

if TYPE_CHECKING:
    from daemon.demo.world import World


@contextmanager
def lease(database: Path) -> Iterator[None]:
    """Hold the household: one process works on a database at a time. Raises LeaseHeld.

    A lock on a file beside the database, released by the system when the process ends, however it ends.
    """
    path = database.with_name(database.name + ".lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(handle, 100, 0).decode(errors="replace").strip() or "unknown"
            raise LeaseHeld(f"{database}: another harvestd works on this household (process {holder}).") from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def working_world(database: Path) -> Iterator[World]:
    """A world whose house may send orders. Raises LeaseHeld, ConfigurationRefused, state.store.NotADatabase."""
    with lease(database):
        _require_simulated(database)
        from daemon.demo.world import open_world
        from daemon.policy_check import check_policy

        world = open_world(database)
        try:
            check_policy(world.house)
            yield world
        finally:
            world.close()


@contextmanager
def looking_house(database: Path) -> Iterator[House]:
    """A house on a private copy of the database, whose brokers have no way to send. Needs no lease."""
    _require_simulated(database)
    from daemon.demo.world import open_world

    world = open_world(database, private=True)
    house = world.house
    house.brokers = {name: ReadOnlyBroker(broker) for name, broker in house.brokers.items()}
    try:
        yield house
    finally:
        world.close()


def _require_simulated(database: Path) -> None:
    """Only the simulated venue can be worked with in this version; says so instead of pretending."""
    store = Store.open(database, read_only=True)
    try:
        kind = store.meta.get("kind")
    finally:
        store.close()
    if kind != "demo":
        raise ConfigurationRefused(
            f"{database}: this version trades at the simulated venue of `harvestd demo` only; "
            "the Alpaca adapter comes with a later one. Nothing was started."
        )


class ReadOnlyBroker:
    """A broker one can only look at: it has the protocol's reads, and neither submit nor cancel."""

    def __init__(self, broker: BrokerReader) -> None:
        self.capabilities = broker.capabilities
        self.clock = broker.clock
        self.account = broker.account
        self.positions = broker.positions
        self.activities = broker.activities
        self.activities_since = broker.activities_since
        self.assets = broker.assets
        self.quotes = broker.quotes
        self.daily_bars = broker.daily_bars
        self.corporate_actions = broker.corporate_actions
        self.order_by_client_id = broker.order_by_client_id
        self.orders = broker.orders
        self.open_orders = broker.open_orders
        self.order_events = broker.order_events
