"""Alerts on their way to a person, in a thread of their own: trading never waits for a notifier.

The cycle thread writes alerts into the outbox, in the transaction of what they tell about. The courier takes them out
over a connection of its own and hands them on. It marks an alert as sent once the notifier took it: a process that dies
in between tells it twice, and none is ever lost.

| what fails                        | what follows                                                                   |
|-----------------------------------|--------------------------------------------------------------------------------|
| the notifier refuses an alert     | that one, and later ones about the same, wait ever longer; others are told      |
| the database, once it is told     | it is not told again; only the writing down is tried again                     |
| the database cannot be read       | it is tried again                                                              |
| the notifier hangs                | the courier alone waits; the end of the daemon waits END_S seconds at most      |

What is told because the outbox cannot be written (storage.py) is handed over directly, and kept in memory until it got
through.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from daemon.alerts import LogNotifier, Notifier
from daemon.clock import Clock
from daemon.crash_points import CrashPoint, passing
from state.records import Alert
from state.store import Store

log = structlog.get_logger("courier")

AGAIN_S = 60.0  # after a failure, and when nobody said that something waits
LONGEST_S = 900.0  # between two tries of an alert that was refused
END_S = 5.0


OUTBOX = "the outbox cannot be read or written; alerts wait"
NOTIFIER = "notifier failed; alerts wait in the outbox"


@dataclass(frozen=True, slots=True)
class _Refused:
    """An alert that the notifier did not take: how long it waits after the last try, and until when."""

    wait_s: float
    until: float


class Courier:
    """Hands waiting alerts to one notifier from `start` to `stop`."""

    def __init__(
        self,
        database: Path,
        notifier: Notifier,
        clock: Clock,
        *,
        again_s: float = AGAIN_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._notifier, self._clock, self._again_s = database, notifier, clock, again_s
        self._monotonic = monotonic
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._urgent: deque[Alert] = deque()
        self._told: set[int] = set()  # by row id: taken by the notifier, and not yet marked as sent
        self._refused: dict[int, _Refused] = {}
        self._faults: set[str] = set()  # of the last round

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
        """Everything that waits, oldest first. What fails is logged once, until it is over."""
        faults: dict[str, str] = {}
        for _ in range(len(self._urgent)):
            alert = self._urgent.popleft()
            if not self._hand_over(alert, faults):
                self._urgent.append(alert)
        try:
            store = Store.open(self._database)
            try:
                self._empty_outbox(store, faults)
            finally:
                store.close()
        except Exception as error:  # whatever it is, the next round finds the alerts where they are
            faults[OUTBOX] = type(error).__name__
        self._say(faults)

    def _empty_outbox(self, store: Store, faults: dict[str, str]) -> None:
        held: set[str] = set()  # a recovery is not told before what it recovers from
        for alert_id, alert in store.alerts.unsent():
            if alert_id not in self._told:
                if alert.key in held or not self._is_due(alert_id):
                    held.add(alert.key)
                    faults.setdefault(NOTIFIER, "")
                    continue
                if not self._hand_over(alert, faults):
                    held.add(alert.key)
                    self._put_off(alert_id)
                    continue
                self._refused.pop(alert_id, None)
                self._told.add(alert_id)
                passing(CrashPoint.ALERT_SENT)
            store.alerts.mark_sent(alert_id, self._clock.now())
            self._told.discard(alert_id)

    def _hand_over(self, alert: Alert, faults: dict[str, str]) -> bool:
        """True once the notifier took it. What it raises may hold its address, and is not shown."""
        try:
            self._notifier.send(alert)
        except Exception as error:
            faults[NOTIFIER] = type(error).__name__
            return False
        return True

    def _is_due(self, alert_id: int) -> bool:
        refused = self._refused.get(alert_id)
        return refused is None or self._ending.is_set() or self._monotonic() >= refused.until

    def _put_off(self, alert_id: int) -> None:
        before = self._refused.get(alert_id)
        wait_s = min(2 * before.wait_s, max(LONGEST_S, self._again_s)) if before else self._again_s
        self._refused[alert_id] = _Refused(wait_s, self._monotonic() + wait_s)

    def _say(self, faults: dict[str, str]) -> None:
        for what in faults.keys() - self._faults:
            log.error(what, error=faults[what], tried_again_after_s=self._again_s)
        if self._faults and not faults:
            log.info("alerts are delivered again")
        self._faults = set(faults)
