"""The log: structlog, coloured lines for people or one JSON object a line for machines, secrets masked in both.

Redaction happens twice. Before rendering, whatever stands under a secret's name is masked unread, at any depth. After
rendering, every registered secret is masked in the finished line, tracebacks included: nothing that gets into a line
by another way (the repr of an object, the message of an exception) gets past it. Lines of libraries that log through
`logging`, and exceptions that nobody caught, go the same way.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.settings.redaction import MASK, REDACTOR, names_a_secret

_HANDLER_NAME = "harvestd"
_DEEPEST = 20  # structures nested deeper are masked whole: nobody reads them, and they may be endless


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what stands under a secret's name, and registered secrets in every text of the event."""
    return {key: MASK if names_a_secret(str(key)) else _redacted(value, 0) for key, value in event.items()}


def _redacted(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return MASK
    if isinstance(value, str):
        return REDACTOR.redact(value)
    if isinstance(value, bytes):
        return REDACTOR.redact(value.decode("utf-8", errors="replace"))
    if isinstance(value, Mapping):
        return {
            _redacted(key, depth + 1): MASK if names_a_secret(str(key)) else _redacted(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(item, depth + 1) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return REDACTOR.redact(_in_words(value))


def _in_words(value: Any) -> str:
    """Amounts and instants as they are written, anything else as its repr; a line is never lost to a broken repr."""
    try:
        return str(value) if isinstance(value, (Decimal, date, time, Path, UUID)) else repr(value)
    except Exception:
        return f"<{type(value).__name__}, which cannot be shown>"


class RedactedRenderer:
    """Renders with another renderer and masks registered secrets in the finished line."""

    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:
        """The line."""
        return REDACTOR.redact(str(self._renderer(logger, method, event)))


def configure(format: str = "console", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up logging for the process; may be called again. `stream` is stderr unless given.

    format: "console" or "json". level: "debug", "info", "warning" or "error".
    """
    if format not in ("console", "json"):
        raise ValueError(f'expected log format "console" or "json", was "{format}"')
    least = logging.getLevelNamesMapping()[level.upper()]
    out = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    renderer = RedactedRenderer(_json() if format == "json" else _console(out))
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _take_over_standard_logging(shared, renderer, out, least)
    _take_over_uncaught_exceptions()


def _json() -> Processor:
    return structlog.processors.JSONRenderer(default=str, sort_keys=False)


def _console(out: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=out.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # rich's shows the local variables, secrets among them
    )


def _take_over_standard_logging(shared: list[Processor], renderer: Processor, out: TextIO, level: int) -> None:
    """Libraries' own lines (urllib3, sqlalchemy, alembic): the same processors, warnings and worse only."""
    handler = logging.StreamHandler(out)
    handler.set_name(_HANDLER_NAME)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared[:-1]],  # redacted below
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, shared[-1], renderer],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if each.get_name() == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))


def _take_over_uncaught_exceptions() -> None:
    """An exception that ends the process or a thread is a log line too, not a traceback past the redaction."""

    def log_uncaught(
        kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None, where: str
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        found = (kind, error, traceback)
        structlog.get_logger().critical("uncaught exception", where=where, exc_info=found)

    sys.excepthook = lambda kind, error, traceback: log_uncaught(kind, error, traceback, "main")

    def thread_hook(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_type is not SystemExit:
            name = failed.thread.name if failed.thread else "thread"
            log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback, name)

    threading.excepthook = thread_hook
