"""How the daemon stands, in figures: taken by the cycle thread after a look, for whoever asks.

The figures are values. The metrics page, the health answer, systemd's status line and the sign of life are made from
the last ones taken; none of them reads the database, and none of them can hold the cycle thread up.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from daemon.backup import LAST
from daemon.clock import NEW_YORK
from daemon.gate import DaemonState
from daemon.halt import is_halted
from daemon.house import House
from state.records import ZERO, Account, IntentState
from state.store import Store

HEARTBEAT = "heartbeat"  # in the store's meta: when the cycle thread last wrote to the database
FAILED_LOOKS = ("broker:", "task:")  # incidents that are open while looks fail (day.py)
UNFIT = (DaemonState.STARTING, DaemonState.STALE, DaemonState.HALTED)  # in which a person may have something to do


@dataclass(frozen=True, slots=True)
class AccountVitals:
    """One managed account after a look. `notional_usd` is of today's orders, as they were sent."""

    account_id: str
    state: DaemonState
    open_intents: int
    unknown_intents: int
    locked_symbols: int
    orders_today: int
    notional_usd: Decimal
    is_stream_connected: bool | None  # None where there is no stream


@dataclass(frozen=True, slots=True)
class Vitals:
    """The daemon after a look at `at`. `looks_succeed`: no incident says that the broker, a task or the disk failed."""

    at: datetime
    next_at: datetime
    accounts: tuple[AccountVitals, ...]
    looks_succeed: bool
    open_alerts: int
    backed_up_at: datetime | None
    database_bytes: int

    @property
    def is_fit(self) -> bool:
        """True while looks succeed and no account waits for a person."""
        return self.looks_succeed and not any(one.state in UNFIT for one in self.accounts)

    @property
    def line(self) -> str:
        """For a person, in one line."""
        states = ", ".join(_in_words(one) for one in self.accounts)
        fault = "" if self.looks_succeed else "; the last look failed, see `harvestd alerts`"
        return f"{states}; next look {self.next_at.astimezone(NEW_YORK):%a %H:%M:%S} New York{fault}"


def _in_words(one: AccountVitals) -> str:
    counted = ((one.open_intents, "open"), (one.unknown_intents, "of unknown fate"), (one.locked_symbols, "locked"))
    more = ", ".join(f"{count} {what}" for count, what in counted if count)
    return f"{one.account_id} {one.state.value}" + (f" ({more})" if more else "")


def take_vitals(house: House, next_at: datetime) -> Vitals:
    """The figures of this instant, from the store and the streams."""
    store, now = house.store, house.clock.now()
    backed_up = store.meta.get(LAST)
    return Vitals(
        at=now,
        next_at=next_at,
        accounts=tuple(_account(house, account, now) for account in house.managed),
        looks_succeed=not house.storage_incident and not any(store.alerts.open_keys(prefix) for prefix in FAILED_LOOKS),
        open_alerts=len(store.alerts.open_keys("")),
        backed_up_at=datetime.fromisoformat(backed_up) if backed_up else None,
        database_bytes=store.path.stat().st_size,
    )


def _account(house: House, account: Account, now: datetime) -> AccountVitals:
    store, account_id = house.store, account.account_id
    last, link = store.states.last(account_id), house.links.get(account_id)
    state = DaemonState(last.state) if last else DaemonState.STARTING
    working = store.orders.list(account_id=account_id, only_open=True)
    today = store.orders.list(account_id=account_id, session=now.astimezone(NEW_YORK).date())
    sent = [one for one in today if one.submitted_at is not None]
    return AccountVitals(
        account_id=account_id,
        state=DaemonState.HALTED if house.stopped or is_halted(store.path) else state,
        open_intents=len(working),
        unknown_intents=sum(one.state is IntentState.UNKNOWN for one in working),
        locked_symbols=sum(row.lock_reason is not None for row in store.positions.list(account_id)),
        orders_today=len(sent),
        notional_usd=sum((one.submitted_quantity * one.reference_price for one in sent), ZERO),
        is_stream_connected=link.updates.is_listening if link else None,
    )


class DatabaseGone(OSError):  # noqa: N818
    """The database's name does not lead to the file that was opened: what is written now is lost with the process."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The database as it was opened: by name, and by device and inode."""

    path: Path
    file: tuple[int, int]

    @classmethod
    def at(cls, path: Path) -> Opened:
        """What is there now. Raises OSError."""
        return cls(path, _file_at(path))

    def require(self) -> None:
        """Raises DatabaseGone when the file was deleted, moved or replaced. SQLite would go on writing to it."""
        try:
            is_same = _file_at(self.path) == self.file
        except OSError:
            is_same = False
        if not is_same:
            raise DatabaseGone(
                errno.EIO,
                f"{self.path}: expected the file that was opened, it was deleted, moved or replaced meanwhile. "
                "Stop harvestd, put the right file there, look at what was sent meanwhile, and start it again",
            )


def _file_at(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def prove(store: Store, now: datetime) -> None:
    """A trivial write and the reading of it: raises whatever the database raises, OSError when it reads otherwise."""
    written = now.isoformat()
    store.meta.put(HEARTBEAT, written)
    if store.meta.get(HEARTBEAT) != written:
        raise OSError("the database does not read what was written to it")
