"""What takes a while, shown on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

LINE_EVERY_S = 5.0


class ConsoleWatcher:
    """Shows steps and their progress."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._last = 0.0

    def step(self, text: str) -> None:
        """One line; ends the bar of the step before."""
        self._end()
        print(f"{text} ...", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int, text: str) -> None:
        """Move the bar; it goes when everything is done."""
        if sys.stderr.isatty():
            self._show(done, total, text)
        elif done >= total or time.monotonic() - self._last >= LINE_EVERY_S:
            self._last = time.monotonic()
            print(f"  {done} of {total}: {text}", file=sys.stderr, flush=True)
        if done >= total:
            self._end()

    def _show(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                BarColumn(),
                TextColumn("{task.completed} of {task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(text, total=total)
        self._bar.update(self._task, completed=done, total=total, description=text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
