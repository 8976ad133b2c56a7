"""A household at its broker: opened from config.yaml, for work or to look.

| who asks                         | database            | broker                        | order updates |
|----------------------------------|---------------------|-------------------------------|---------------|
| run, once, in mode paper         | the file, leased    | reads and sends               | yes           |
| run, once, in mode observe       | the file, leased    | reads; nothing in it can send | no            |
| plan, opportunities, doctor, ... | a copy in memory    | reads; nothing in it can send | no            |

A process that may not send never loads the code that sends (`brokers.alpaca.desk`), and its connection refuses every
request but GET. Keys are read at the last moment, go to the adapter, and are kept nowhere else. The first time, the
account number that the broker names is written down; from then on another account is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from brokers.protocol import BrokerReader
from daemon.clock import NEW_YORK, Clock, ServerClock, WallClock
from daemon.constituents import constituents
from daemon.crash_points import CrashPoint, passing
from daemon.errors import ConfigurationRefused
from daemon.house import House
from daemon.link import Link
from daemon.logs import configure
from daemon.market_calendar import MarketCalendar
from daemon.policy_check import check_policy
from daemon.readiness import BOUND_TO, bound_to
from daemon.settings import AccountKind, BrokerName, Mode, Settings, read_secret
from state.records import Account
from state.store import Store

if TYPE_CHECKING:
    from brokers.alpaca import Endpoints, Keys

KIND = "household"  # in the store's meta
AHEAD = timedelta(days=400)  # how far the calendar reaches
STREAM = "trade_updates"
STREAM_PATIENCE_S = 10.0
BENCHMARK = "benchmark"


class Watcher(Protocol):
    """Who is shown what takes a while."""

    def step(self, text: str) -> None:
        """Something begins."""
        ...

    def progress(self, done: int, total: int, text: str) -> None:
        """Part of it is done."""
        ...


@runtime_checkable
class Listener(Watcher, Protocol):
    """A watcher that is also told of each exchange with the broker, as long as the household is open."""

    def answered(self) -> None:
        """An exchange is over, whatever became of it."""
        ...


class Silent:
    """Shows nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def progress(self, done: int, total: int, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How a household reaches its broker."""

    endpoints: Endpoints
    keys: Keys
    clock: Clock


def connection_of(settings: Settings, environ: Mapping[str, str]) -> Connection:
    """Where the account is and what opens it. Raises SecretUnavailable; nothing is asked yet."""
    from brokers.alpaca import Endpoints, Keys

    if not structlog.is_configured():  # a command that only looks: what libraries log goes to stderr, secrets masked
        configure(settings.log.format.value, "error")
    names = settings.credentials
    keys = Keys(
        read_secret(names.alpaca_key_id_name, environ, names).get_secret_value(),
        read_secret(names.alpaca_secret_key_name, environ, names).get_secret_value(),
    )
    url = settings.alpaca.loopback_url
    if url is not None:
        return Connection(Endpoints.loopback(url), keys, ServerClock.at(url) or WallClock())
    live = settings.mode is Mode.OBSERVE and settings.alpaca.observe_account is AccountKind.LIVE
    return Connection(Endpoints.live() if live else Endpoints.paper(), keys, WallClock())


def calendar_of(settings: Settings, clock: Clock) -> MarketCalendar:
    """The exchange's sessions from before the first price that is kept to a year ahead."""
    today = clock.now().astimezone(NEW_YORK).date()
    return MarketCalendar.new_york(
        today.replace(year=today.year - settings.history.load_years - 1, day=1), today + AHEAD
    )


# ------------------------------------------------------------------ opening


@contextmanager
def working_household(
    database: Path, settings: Settings, environ: Mapping[str, str], watcher: Watcher | None
) -> Iterator[House]:
    """A household at work; the caller holds the lease. Made ready the first time: accounts, names, prices.

    Raises ConfigurationRefused (another account, a key that opens nothing, a database of something else).
    """
    if settings.mode not in (Mode.OBSERVE, Mode.PAPER):
        raise ConfigurationRefused(
            f"mode: {settings.mode.value} is not one to be run in this version; nothing was started."
        )
    connection = connection_of(settings, environ)
    store = Store.open(database, create=True)
    try:
        _require_kind(store)
        readers = _readers(settings, connection, sends=settings.mode is Mode.PAPER)
        if isinstance(watcher, Listener):
            for reader in readers.values():
                reader.on_exchange = watcher.answered
        house = _house(settings, store, connection, readers)
        links = _links(house, connection) if settings.mode is Mode.PAPER else {}
        try:
            prepare(house, watcher or Silent())
            check_policy(house)
            house.links = links
            for link in links.values():
                link.updates.start()
            _await(links.values())
            yield house
        finally:
            for link in links.values():
                link.updates.stop()
            for reader in readers.values():
                reader.close()
    finally:
        store.close()


@contextmanager
def looking_household(database: Path, settings: Settings, environ: Mapping[str, str]) -> Iterator[House]:
    """A household to look at: a copy of its database, and a broker that cannot send."""
    connection = connection_of(settings, environ)
    store = Store.private_copy(database)
    try:
        _require_kind(store)
        readers = _readers(settings, connection, sends=False)
        try:
            yield _house(settings, store, connection, readers)
        finally:
            for reader in readers.values():
                reader.close()
    finally:
        store.close()


class _Reader(BrokerReader, Protocol):
    on_exchange: Callable[[], None] | None

    def close(self) -> None: ...


def _readers(settings: Settings, connection: Connection, *, sends: bool) -> dict[str, _Reader]:
    """The adapter of each managed account, by account id."""
    feed, calls = settings.alpaca.feed.value, settings.alpaca.requests_per_minute
    keys, endpoints = connection.keys, connection.endpoints
    found: dict[str, _Reader] = {}
    for account in settings.household.managed:
        if account.broker is not BrokerName.ALPACA:
            raise ConfigurationRefused(f"{account.id}: expected an account at alpaca, was {account.broker.value}")
        if sends:
            from brokers.alpaca.desk import AlpacaBroker

            found[account.id] = AlpacaBroker(keys, endpoints, feed=feed, requests_per_minute=calls)
        else:
            from brokers.alpaca import AlpacaReader

            found[account.id] = AlpacaReader(keys, endpoints, feed=feed, requests_per_minute=calls)
    return found


def _house(settings: Settings, store: Store, connection: Connection, readers: Mapping[str, BrokerReader]) -> House:
    from daemon.market_data import followed

    benchmark = constituents(settings, Path())  # the path of its file is absolute by now
    return House(
        settings=settings,
        store=store,
        clock=connection.clock,
        calendar=calendar_of(settings, connection.clock),
        brokers=readers,
        constituents=followed(benchmark, store),
    )


def _links(house: House, connection: Connection) -> dict[str, Link]:
    """The stream of order updates of each account that can be traded. Its thread writes through a store of its own."""
    from brokers.alpaca import TradeUpdates, order_of_event

    found = {}
    for account in house.managed:
        found[account.account_id] = Link(
            TradeUpdates(connection.keys, connection.endpoints, _Inbox(house, account.account_id)), order_of_event
        )
    return found


def _await(links: Iterable[Link]) -> None:
    """Give the streams a moment to connect, so that the first look can already catch up with them."""
    until = time.monotonic() + STREAM_PATIENCE_S
    while time.monotonic() < until and not all(link.updates.is_listening for link in links):
        time.sleep(0.02)


class _Inbox:
    """Where the stream's thread puts what it hears: a connection of its own, opened when the first event comes."""

    def __init__(self, house: House, account_id: str) -> None:
        self._path, self._clock, self._account_id = house.store.path, house.clock, account_id
        self._store: Store | None = None

    def __call__(self, body: str) -> None:
        """Append one event; durable when this returns."""
        if self._store is None:
            self._store = Store.open(self._path)
        self._store.events.append(self._account_id, STREAM, self._clock.now(), body)


# ------------------------------------------------------------------ the first time


def _require_kind(store: Store) -> None:
    kind = store.meta.get("kind")
    if kind not in (None, KIND):
        raise ConfigurationRefused(
            f"{store.path}: expected the database of a household, was that of a {kind}. Choose another database.path."
        )


def prepare(house: House, watcher: Watcher) -> None:
    """Accounts, securities, benchmark, and as many prices as are missing. Doing it again changes nothing.

    Raises ConfigurationRefused when the broker's account is not the household's.
    """
    from daemon.market_data import ready_prices

    store = house.store
    for account in house.managed:
        watcher.step(f"asking Alpaca about account {account.account_id}")
        bind(house, account)
    passing(CrashPoint.ACCOUNT_BOUND)
    with store.transaction():
        store.meta.put("kind", KIND)
        store.meta.put("mode", house.settings.mode.value)
        store.household.put_accounts(house.accounts)
    watcher.step(f"asking about {len(house.names)} securities")
    house.take_securities()
    pairs = zip(house.names, house.constituents.weights, strict=True)
    benchmark = house.settings.benchmark
    store.market.put_benchmark(
        BENCHMARK, benchmark.kind.value, benchmark.rebalance.value, dict(pairs), house.constituents.sectors
    )
    ready_prices(house, watcher)
    passing(CrashPoint.PRICES_READY)


def bind(house: House, account: Account) -> None:
    """Hold the household to one account at the broker: that of the configuration, else the first one seen."""
    said = house.brokers[account.account_id].account()
    bound = house.store.meta.get(bound_to(account))
    for key, number in house.store.meta.starting(BOUND_TO).items():
        if number == said.account_number and key != bound_to(account):
            raise ConfigurationRefused(
                f"{account.account_id}: this database knows account {number} as {key.removeprefix(BOUND_TO)}. Expected "
                "the same id in config.yaml. Put the old id back, or begin another database. Nothing was started."
            )
    for expected, where in ((account.account_number, "config.yaml"), (bound, "the database, from an earlier start")):
        if expected and expected != said.account_number:
            raise ConfigurationRefused(
                f"{account.account_id}: expected account number {expected} ({where}), the broker's keys open another. "
                "Check the keys; for another account begin another database. Nothing was started."
            )
    if bound is None:
        house.store.meta.put(bound_to(account), said.account_number)
