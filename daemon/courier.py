"""Alerts on their way to a person, in a thread of their own: trading never waits for a notifier.

The cycle thread writes alerts into the outbox, in the transaction of what they tell about. The courier takes them out
over a connection of its own and hands them on. It marks an alert as sent once the notifier took it: a process that dies
in between tells it twice, and none is ever lost. A notifier that fails, or a database that is busy, is tried again;
one that hangs holds up nothing but the courier, and the end of the daemon waits for it END_S seconds at most.

What is told because the outbox cannot be written (storage.py) is handed over directly, and kept in memory until it got
through.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from daemon.alerts import LogNotifier, Notifier
from daemon.clock import Clock
from daemon.crash_points import CrashPoint, passing
from state.records import Alert
from state.store import Store, StoreError

log = structlog.get_logger("courier")

AGAIN_S = 60.0  # after a failure, and when nobody said that something waits
END_S = 5.0


class Courier:
    """Hands waiting alerts to one notifier from `start` to `stop`."""

    def __init__(self, database: Path, notifier: Notifier, clock: Clock, *, again_s: float = AGAIN_S) -> None:
        self._database, self._notifier, self._clock, self._again_s = database, notifier, clock, again_s
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._urgent: deque[Alert] = deque()
        self._fails = False

    def start(self) -> None:
        """Begin, with what is in the outbox already."""
        self._thread.start()

    def wake(self) -> None:
        """Something may be waiting."""
        self._wake.set()

    def send(self, alert: Alert) -> None:
        """Tell this one past the outbox. Returns at once. Whoever calls has told the log already."""
        if not isinstance(self._notifier, LogNotifier):
            self._urgent.append(alert)
            self._wake.set()

    def stop(self, patience_s: float = END_S) -> bool:
        """Deliver what waits and end. False when a notifier hangs: what it was handed stays in the outbox."""
        self._ending.set()
        self._wake.set()
        self._thread.join(patience_s)
        if self._thread.is_alive():
            log.warning("a notifier hangs; what waits is told at the next start", waited_s=patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            last_round = self._ending.is_set()
            self._wake.clear()
            self._deliver()
            if last_round:
                return
            if not self._ending.is_set():
                self._wake.wait(self._again_s)

    def _deliver(self) -> None:
        """Everything that waits, oldest first, up to the first failure. A failure is logged once, until it is over."""
        try:
            while self._urgent:
                self._notifier.send(self._urgent[0])
                self._urgent.popleft()
            store = Store.open(self._database)
            try:
                for alert_id, alert in store.alerts.unsent():
                    self._notifier.send(alert)
                    passing(CrashPoint.ALERT_SENT)
                    store.alerts.mark_sent(alert_id, self._clock.now())
            finally:
                store.close()
        except (StoreError, SQLAlchemyError, sqlite3.Error) as error:
            self._failed("the outbox cannot be read or written; alerts wait", error)
        except Exception as error:
            self._failed("notifier failed; alerts wait in the outbox", error)
        else:
            if self._fails:
                log.info("alerts are delivered again")
            self._fails = False

    def _failed(self, what: str, error: Exception) -> None:
        if not self._fails:
            log.error(what, error=type(error).__name__, tried_again_after_s=self._again_s)
        self._fails = True
