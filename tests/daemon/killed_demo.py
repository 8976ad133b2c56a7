"""The demo, killed in the middle of a statement: `killed_demo.py DATABASE FROM TO N`.

At the N-th statement that either database is given the process kills itself with SIGKILL, before or after the
statement has been carried out, turn by turn; N = 0 lets it live. Started again it resumes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from brokers.simulated.storage import VenueFile
from daemon.demo.run import DemoOptions, run_demo
from state.store.database import Database


def die_at_statement(count: int) -> None:
    """Let the process be killed at its `count`-th statement, whichever database it is for."""
    seen = 0

    def counting(owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def statement(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == count and count % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = original(*arguments, **named)
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        setattr(owner, name, statement)

    counting(Database, "execute")
    for name in ("insert", "replace", "delete", "commit"):
        counting(VenueFile, name)


class Nobody:
    """Watches nothing."""

    def begins(self, sessions: int) -> None: ...

    def alert(self, session: Any, alert: Any) -> None: ...

    def session_over(self, session: Any) -> None: ...


if __name__ == "__main__":
    database, start, end, number = sys.argv[1:]
    die_at_statement(int(number))
    run_demo(DemoOptions(date.fromisoformat(start), date.fromisoformat(end), 0, Path(database), True), Nobody())
