"""The outbox and who takes from it. Trading never waits for a notifier."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

import structlog

from daemon.crash_points import CrashPoint, passing
from daemon.settings.redaction import REDACTOR
from state.records import Alert, AlertLevel
from state.store import Store


class Notifier(Protocol):
    """Something that can tell a person."""

    def send(self, alert: Alert) -> None:
        """Deliver one alert; raises when it could not, and it is tried again later."""
        ...


@runtime_checkable
class Carrier(Notifier, Protocol):
    """A notifier that takes from the outbox by itself, in a thread of its own (courier.py)."""

    def wake(self) -> None:
        """Something may be waiting. Returns at once."""
        ...


class LogNotifier:
    """Tells the log."""

    def send(self, alert: Alert) -> None:
        log = structlog.get_logger("alert")
        text = f"recovered: {alert.message}" if alert.recovered else alert.message
        method = {AlertLevel.INFO: log.info, AlertLevel.WARNING: log.warning}.get(alert.level, log.error)
        method(text, key=alert.key, level_of_alert=alert.level.value)


def raise_alert(store: Store, key: str, level: AlertLevel, message: str, now: datetime) -> bool:
    """Open an incident once; False when it is already open. Secrets in what others said are masked first."""
    return store.alerts.put(Alert(key, level, REDACTOR.redact(message), now))


def keep_alert(store: Store, key: str, level: AlertLevel, message: str, now: datetime) -> bool:
    """The same of an incident whose figures change while it is open: told once, and its text follows them."""
    opened = raise_alert(store, key, level, message, now)
    if not opened:
        store.alerts.reword(key, REDACTOR.redact(message))
    return opened


def recover(store: Store, key: str, message: str, now: datetime) -> bool:
    """Close an incident once; False when none is open."""
    return store.alerts.put(Alert(key, AlertLevel.INFO, message, now, recovered=True))


def drain(store: Store, notifier: Notifier, now: datetime) -> None:
    """Hand waiting alerts to the notifier; what fails stays in the outbox. A carrier is only woken."""
    if isinstance(notifier, Carrier):
        notifier.wake()
        return
    for alert_id, alert in store.alerts.unsent():
        try:
            notifier.send(alert)
        except Exception as error:
            structlog.get_logger("alert").error("notifier failed; kept in the outbox", error=type(error).__name__)
            return
        passing(CrashPoint.ALERT_SENT)
        store.alerts.mark_sent(alert_id, now)
