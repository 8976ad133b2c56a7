"""Opening a house: to work in it (one process at a time), or to look (a private copy that cannot send)."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brokers.protocol import BrokerReader
from daemon.demo import DEMO_DATABASE
from daemon.errors import ConfigurationRefused, LeaseHeld, NotFound
from daemon.house import House
from daemon.ownership import give_like
from daemon.settings import ConfigurationError, Settings, config_path, load_settings, unsupported
from state.store import NotADatabase, Store
from state.store.database import revision_of
from state.store.revisions import is_older

if TYPE_CHECKING:
    from daemon.demo.world import World
    from daemon.household import Watcher


def one_name(database: Path) -> Path:
    """The one name of a database, whatever link it is called by: lock and halt lie beside it.

    Raises ConfigurationRefused for a file with several names of its own (hard links): nobody could tell which.
    """
    path = database.resolve()
    if path.exists() and path.stat().st_nlink > 1:
        raise ConfigurationRefused(
            f"{path}: expected a database under one name, it has {path.stat().st_nlink} (hard links). Keep one of them."
        )
    return path


@contextmanager
def lease(database: Path) -> Iterator[None]:
    """Hold the household: one process works on a database at a time. Raises LeaseHeld.

    A lock on a file beside the database, released by the system when the process ends, however it ends. Raises
    ConfigurationRefused where that file is another user's.
    """
    path = one_name(database)
    handle = _lock_file(path.with_name(path.name + ".lock"), path)
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


def is_held(database: Path) -> bool:
    """True while a process works on the household. Raises OSError where that cannot be found out."""
    path = one_name(database)
    try:
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_file(path: Path, database: Path) -> int:
    """Opened; the database's owner's, also when root was the first to work on it."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise ConfigurationRefused(
            f"{path} cannot be opened: {error.strerror}. Was a command typed as another user? It has to belong to the "
            f"one who runs harvestd: sudo chown --reference={database} {path}"
        ) from error
    if os.fstat(handle).st_nlink == 1:
        give_like(handle, database)
    return handle


@dataclass(frozen=True, slots=True)
class Target:
    """What a command works on. Without settings it is the demo's world, which keeps its own."""

    database: Path
    settings: Settings | None = None


def target_of(db: Path | None, config: Path | None, environ: Mapping[str, str], *, looking: bool = False) -> Target:
    """The household of --config, $HARVESTD_CONFIG or ./config.yaml; with --db a demo's, or that file of the household.

    A configuration that is there is meant, and the demo's database in the same folder is left alone. Only a command
    that just looks takes the demo's while the household has none of its own yet. Raises ConfigurationRefused,
    daemon.settings.ConfigurationError with every problem, NotFound when there is neither.
    """
    if db is not None and _kind(db) == "demo":
        return Target(db)
    path = config_path(config, environ)
    if path.exists() or config is not None:
        settings = load_settings(path, environ)
        found = Target(db or settings.database.path, settings)
        if not (looking and config is None and not found.database.exists() and DEMO_DATABASE.exists()):
            problems = unsupported(settings)
            if problems:
                raise ConfigurationError(problems)
            return found
    if db is None and _kind(DEMO_DATABASE) == "demo":
        print(f"(the demo's database, {DEMO_DATABASE})", file=sys.stderr)
        return Target(DEMO_DATABASE)
    missing = (
        f"{db} is not the database of a demo, and there is no configuration at {path}"
        if db
        else (f"no configuration at {path}")
    )
    raise NotFound(
        f"Nothing was started: {missing}. `harvestd init` writes one; `harvestd demo` makes a world to look around in."
    )


def _kind(database: Path) -> str | None:
    """What the database says it is; None when there is none. Raises NotADatabase, SchemaMismatch."""
    if not database.exists():
        return None
    store = Store.open(database, read_only=True)
    try:
        return store.meta.get("kind")
    finally:
        store.close()


@contextmanager
def working_world(database: Path) -> Iterator[World]:
    """The demo's world, whose house may send orders. Raises LeaseHeld, ConfigurationRefused, NotADatabase."""
    with lease(database):
        _require_demo(database)
        from daemon.demo.world import open_world
        from daemon.policy_check import check_policy

        world = open_world(database)
        try:
            check_policy(world.house)
            yield world
        finally:
            world.close()


@contextmanager
def working_house(target: Target, environ: Mapping[str, str], watcher: Watcher | None = None) -> Iterator[House]:
    """A house at work, of whatever kind, by its lease. Raises LeaseHeld, ConfigurationRefused, BrokerError."""
    if target.settings is None:
        with working_world(target.database) as world:
            yield world.house
        return
    from daemon.household import working_household

    with lease(target.database):
        _bring_up(target.database, target.settings)
        with working_household(target.database, target.settings, environ, watcher) as house:
            yield house


def _bring_up(database: Path, settings: Settings) -> None:
    """The database of an older version is upgraded before anything works on it. Raises BackupFailed, SchemaMismatch."""
    if not database.exists() or not is_older(revision_of(database)):
        return
    from daemon.clock import WallClock
    from daemon.upgrade import upgrade_if_older

    upgrade_if_older(database, settings, WallClock().now())


@contextmanager
def looking_house(target: Target, environ: Mapping[str, str]) -> Iterator[House]:
    """A house on a private copy of the database, whose brokers have no way to send. Needs no lease."""
    if target.settings is not None:
        if not target.database.exists():
            raise NotFound(f"No database at {target.database} yet: `harvestd run` makes it, and loads prices.")
        from daemon.household import looking_household

        with looking_household(target.database, target.settings, environ) as house:
            yield house
        return
    _require_demo(target.database)
    from daemon.demo.world import open_world

    world = open_world(target.database, private=True)
    world.house.brokers = {name: ReadOnlyBroker(broker) for name, broker in world.house.brokers.items()}
    try:
        yield world.house
    finally:
        world.close()


def _require_demo(database: Path) -> None:
    if not database.exists():
        raise NotADatabase(f"Expected a demo's database at {database}, found none. `harvestd demo` makes one.")
    if _kind(database) != "demo":
        raise ConfigurationRefused(
            f"{database}: expected a demo's database, was that of a household. Give its --config. Nothing was started."
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
