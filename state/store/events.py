"""What a broker's stream said, as it came: appended by the stream's thread, taken by the cycle thread."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from state.store import schema
from state.store.database import Database
from state.store.types import UtcInstant


@dataclass(frozen=True, slots=True)
class RawEvent:
    """One event: the text of its JSON, unread."""

    event_id: int
    account_id: str
    stream: str
    received_at: datetime
    body: str
    taken_at: datetime | None = None
    fault: str = ""


class BrokerEvents:
    """The inbox of raw events."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def append(self, account_id: str, stream: str, received_at: datetime, body: str) -> None:
        """Keep an event, durably, before anything is made of it."""
        row = {"account_id": account_id, "stream": stream, "received_at": received_at, "body": body}
        self._db.insert(schema.broker_events, {**row, "fault": ""})

    def waiting(self, account_id: str) -> tuple[RawEvent, ...]:
        """Events of an account that nobody has taken, in the order they came."""
        where = "WHERE taken_at IS NULL AND account_id = ? ORDER BY event_id"
        return tuple(RawEvent(**row) for row in self._db.read(schema.broker_events, where, (account_id,)))

    def is_any_waiting(self, account_id: str) -> bool:
        """True while an event has not been taken."""
        return self._db.exists(schema.broker_events, "taken_at IS NULL AND account_id = ?", (account_id,))

    def take(self, event_id: int, at: datetime, fault: str = "") -> None:
        """Note that something was made of an event, or why nothing could be."""
        self._db.update(schema.broker_events, "event_id", event_id, {"taken_at": at, "fault": fault})

    def set_aside(self) -> tuple[RawEvent, ...]:
        """Events that nothing could be made of, oldest first."""
        return tuple(
            RawEvent(**row) for row in self._db.read(schema.broker_events, "WHERE fault != '' ORDER BY event_id")
        )

    def forget_before(self, instant: datetime) -> int:
        """Delete events taken before `instant`, except those set aside; returns how many."""
        where = "taken_at < ? AND fault = ''"
        return self._db.delete_where(schema.broker_events, where, (UtcInstant.encode(instant),))
