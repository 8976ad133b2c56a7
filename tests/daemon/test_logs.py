"""The log masks secrets by name and by value, in both formats, in tracebacks, and in lines of other libraries."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
import structlog
from pydantic import SecretStr

from daemon import logs
from daemon.settings import REDACTOR, Mode

CANARY = "canary-7Q2X\"'\\key"
FORMATS = ["console", "json"]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    REDACTOR.register(CANARY)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), sys.excepthook, threading.excepthook)
    yield
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    sys.excepthook, threading.excepthook = before[2], before[3]


def logged(format: str, write: Callable[[structlog.typing.FilteringBoundLogger], None], level: str = "debug") -> str:
    """What one piece of code logs."""
    stream = io.StringIO()
    logs.configure(format, level, stream)
    write(structlog.get_logger())
    return stream.getvalue()


@dataclass
class Holder:
    """Something whose repr shows a secret."""

    value: str


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.info(f"sent {CANARY}"),
        lambda log: log.info("sent", header=CANARY),
        lambda log: log.info("sent", body={"a": [{"b": CANARY}], CANARY: 1}),
        lambda log: log.info("sent", raw=CANARY.encode()),
        lambda log: log.info("sent", holder=Holder(CANARY)),
        lambda log: log.info("sent", holders=(Holder(CANARY), {CANARY})),
        lambda log: log.bind(context=CANARY).warning("sent"),
        lambda log: log.info("sent", password="canary-unregistered"),
        lambda log: log.info("sent", headers={"APCA-API-SECRET-KEY": "canary-unregistered", "Host": "x"}),
        lambda log: log.info("sent", api_key=SecretStr("canary-unregistered")),
        lambda _: logging.getLogger("urllib3").error("sent %s", CANARY),
        lambda _: logging.getLogger("urllib3").error("sent", extra={"token": CANARY}),
    ],
)
def test_no_secret_in_a_line(format: str, write: Callable[[structlog.typing.FilteringBoundLogger], None]) -> None:
    line = logged(format, write)
    assert "sent" in line
    assert "canary" not in line


@pytest.mark.parametrize("format", FORMATS)
def test_no_secret_in_a_traceback(format: str) -> None:
    def fail(log: structlog.typing.FilteringBoundLogger) -> None:
        header = CANARY
        try:
            try:
                raise ValueError(f"refused {header}")
            except ValueError as error:
                error.add_note(f"while sending {header}")
                raise RuntimeError("wrapped") from error
        except RuntimeError:
            log.exception("failed")
            logging.getLogger("alembic").exception("job failed")

    text = logged(format, fail)
    assert text.count("ValueError: refused ***") == 2
    assert "while sending ***" in text
    assert "canary" not in text


@pytest.mark.parametrize("format", FORMATS)
def test_uncaught_exceptions_are_log_lines(format: str) -> None:
    def fail(_log: structlog.typing.FilteringBoundLogger) -> None:
        error = RuntimeError(CANARY)
        sys.excepthook(RuntimeError, error, None)
        thread = threading.Thread(target=lambda: [][CANARY], name="stream")  # type: ignore[call-overload]
        thread.start()
        thread.join()

    text = logged(format, fail)
    assert text.count("uncaught exception") == 2
    assert "stream" in text
    assert "canary" not in text


def test_json_is_one_object_a_line() -> None:
    lines = logged("json", lambda log: (log.info("plan made", plan_id="main-1", trades=3), log.error("lost"))[0])
    first, second = [json.loads(line) for line in lines.splitlines()]
    assert (first["event"], first["level"], first["plan_id"], first["trades"]) == ("plan made", "info", "main-1", 3)
    assert first["timestamp"].endswith("Z")
    assert second["level"] == "error"


def test_what_is_not_secret_stays() -> None:
    line = logged("json", lambda log: log.info("harvest", key="harvest-AAPL", client_order_id="main-1-2", loss="12.50"))
    found = json.loads(line)
    assert (found["key"], found["client_order_id"], found["loss"]) == ("harvest-AAPL", "main-1-2", "12.50")


def test_console_has_no_colours_in_a_file() -> None:
    assert "\x1b" not in logged("console", lambda log: log.info("x", a=1))


def test_level() -> None:
    text = logged("json", lambda log: (log.info("quiet"), log.warning("loud"))[0], level="warning")
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["loud"]


def test_configured_twice_logs_once() -> None:
    logs.configure("json", "info", io.StringIO())
    text = logged("json", lambda _: logging.getLogger("x").error("once"))
    assert len(text.splitlines()) == 1


def test_amounts_and_instants_are_readable() -> None:
    at = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
    found = json.loads(logged("json", lambda log: log.info("x", loss=Decimal("12.50"), at=at, mode=Mode.PAPER)))
    assert (found["loss"], found["at"], found["mode"]) == ("12.50", "2026-11-20 15:30:00+00:00", "paper")


def test_a_broken_repr_costs_no_line() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "<Broken, which cannot be shown>" in logged("json", lambda log: log.info("x", value=Broken()))


def test_endless_structures_end() -> None:
    endless: dict[str, object] = {}
    endless["itself"] = endless
    assert "endless" in logged("console", lambda log: log.info("endless", value=endless))


@pytest.mark.parametrize(("format", "level"), [("xml", "info"), ("json", "loud")])
def test_unknown_format_or_level(format: str, level: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        logs.configure(format, level, io.StringIO())
