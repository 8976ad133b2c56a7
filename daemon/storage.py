"""When the disk fails: what cannot be written down is not done, and a person is told by a way that needs no disk.

| what                                            | what follows                                                |
|-------------------------------------------------|-------------------------------------------------------------|
| another process holds the write lock for long   | the step is taken back and done again at the next look      |
| disk full, read-only, failing, database damaged | trading halts, in memory until the halt file can be written |

Either way what was in memory of the store is dropped, and nothing leaves: each order is on disk before it leaves.
"""

from __future__ import annotations

import sqlite3

import structlog
from sqlalchemy.exc import SQLAlchemyError

from daemon.alerts import LogNotifier, raise_alert
from daemon.crash_points import CrashPoint, passing
from daemon.halt import halt, is_halted
from daemon.house import House
from state.reasons import ReasonCode, because
from state.records import Account, Alert, AlertLevel
from state.store import StorageFault, storage_fault

log = structlog.get_logger("storage")

STORAGE_ERRORS = (sqlite3.Error, SQLAlchemyError, OSError)
KEY = "storage"


def stop_trading(house: House, why: str) -> None:
    """Halt: by the file, and in memory for as long as that cannot be written."""
    try:
        halt(house.store.path, why, house.clock.now())
    except OSError as fault:
        house.stopped = house.stopped or why
        log.error("the halt could not be written; this process sends nothing all the same", fault=str(fault))
    passing(CrashPoint.HALT_WRITTEN)


def halt_trading(house: House, account: Account, why: str) -> None:
    """Halt because of a contradiction, and tell a person: once, until trading is resumed."""
    stop_trading(house, why)
    remedy = "" if "harvestd resume" in why else " Put it right, then `harvestd resume`."
    text = f"Trading halted: {why.rstrip()}{remedy}"
    raise_alert(house.store, halt_key(account), AlertLevel.HALT, text, house.clock.now())


def halt_key(account: Account) -> str:
    """The incident of a halt of ours."""
    return f"halt:{account.account_id}"


def keep_halt(house: House) -> None:
    """Write a halt down that is only in memory, as soon as that can be done."""
    if house.stopped and not is_halted(house.store.path):
        try:
            halt(house.store.path, house.stopped, house.clock.now())
        except OSError:
            return
    if house.stopped and is_halted(house.store.path):
        house.stopped = ""


def storage_failed(house: House, fault: BaseException) -> None:
    """What follows from a failed read or write. Raises the fault again when it is none of the disk's."""
    kind = storage_fault(fault)
    if kind is None:
        raise fault
    house.forget()
    if kind is StorageFault.UNWRITABLE:
        stop_trading(house, str(because(ReasonCode.STORAGE_FAILED, fault=str(getattr(fault, "orig", fault)))))
    if house.storage_incident != kind.value:
        house.storage_incident = kind.value
        words = "another process keeps the database locked; tried again at the next look"
        if kind is StorageFault.UNWRITABLE:
            words = "nothing can be written to disk. Trading is halted. Put the disk right, then `harvestd resume`"
        text = f"{ReasonCode.STORAGE_FAILED.meaning} Seen: {words} ({getattr(fault, 'orig', fault)})."
        level = AlertLevel.HALT if kind is StorageFault.UNWRITABLE else AlertLevel.ERROR
        _tell(house, Alert(KEY, level, text, house.clock.now()))


def storage_works(house: House) -> None:
    """A step was written whole."""
    if house.storage_incident:
        house.storage_incident = ""
        text = "the database can be written again"
        _tell(house, Alert(KEY, AlertLevel.INFO, text, house.clock.now(), recovered=True))


def _tell(house: House, alert: Alert) -> None:
    """At once, past the outbox. Whatever the notifier does, the log has it."""
    LogNotifier().send(alert)
    if house.notifier is not None and not isinstance(house.notifier, LogNotifier):
        try:
            house.notifier.send(alert)
        except Exception as error:
            log.error("the notifier failed", error=type(error).__name__)
