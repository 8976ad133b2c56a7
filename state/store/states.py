"""The daemon's states as they followed each other: one row a change, never one a look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from state.store import schema
from state.store.database import Database


@dataclass(frozen=True, slots=True)
class StateRow:
    """The state an account entered at an instant, and why where it lets no order leave."""

    account_id: str
    state: str
    reason: str
    since: datetime


class DaemonStates:
    """Every change of state, oldest first."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def enter(self, row: StateRow) -> bool:
        """Write a change down; False when the account is in that state already, whatever the reason now."""
        last = self.last(row.account_id)
        if last is not None and last.state == row.state:
            return False
        self._db.insert(
            schema.daemon_states,
            {"account_id": row.account_id, "state": row.state, "reason": row.reason, "since": row.since},
        )
        return True

    def last(self, account_id: str) -> StateRow | None:
        """The state the account is in, None before its first."""
        rows = self._db.read(schema.daemon_states, "WHERE account_id = ? ORDER BY state_id DESC LIMIT 1", (account_id,))
        return next(map(_row, rows), None)

    def list(self, account_id: str) -> tuple[StateRow, ...]:
        """All changes of an account, oldest first."""
        rows = self._db.read(schema.daemon_states, "WHERE account_id = ? ORDER BY state_id", (account_id,))
        return tuple(map(_row, rows))


def _row(row: dict[str, object]) -> StateRow:
    return StateRow(**{name: row[name] for name in StateRow.__dataclass_fields__})  # type: ignore[arg-type]
