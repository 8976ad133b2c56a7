"""The control paths of other processes: time, faults, the venue's own commands, and the books to compare with.

They belong to the test, not to Alpaca: they need no keys, are not recorded, and no fault strikes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Protocol

from brokers.simulated import SimulatedVenue, VenueError
from loopback.errors import WireError
from loopback.faults import Fault
from loopback.requests import Request, read_instant
from loopback.routing import Answer, Route
from loopback.wire import Json
from state.reasons import ReasonCode
from state.records import ActivityKind


def _decimal(value: object) -> Decimal:
    return Decimal(str(value))


_COMMANDS: Mapping[str, Mapping[str, Callable[..., object]]] = {
    "deposit": {"amount": _decimal, "reference": str},
    "withdraw": {"amount": _decimal, "reference": str},
    "halt": {"symbol": str},
    "unhalt": {"symbol": str},
    "fill_next": {"client_order_id": str, "fraction": _decimal, "hold_rest": bool},
    "reject_next": {"symbol": str, "reason": ReasonCode},
    "pay_dividend": {"symbol": str, "per_share": _decimal},
    "split": {"symbol": str, "new": _decimal, "old": _decimal},
    "set_unavailable": {"unavailable": bool},
    "block_account": {"blocked": bool},
    "lose_next_answer": {"when": str},
}


class Controlled(Protocol):
    """What the control paths need of the server."""

    venue: SimulatedVenue

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until then."""

    def script(self, *faults: Fault) -> None:
        """Let faults wait."""

    def clear_faults(self) -> None:
        """Forget them."""

    def settle(self) -> None:
        """Tell the streams what has happened."""


class ControlApi:
    """Answers /loopback/... Called with the venue locked."""

    def __init__(self, server: Controlled) -> None:
        self._server = server

    def routes(self) -> tuple[Route, ...]:
        """The paths answered here."""
        return (
            Route("GET", "/loopback/time", self.time),
            Route("POST", "/loopback/advance", self.advance),
            Route("POST", "/loopback/fault", self.fault),
            Route("DELETE", "/loopback/fault", self.clear),
            Route("GET", "/loopback/audit", self.audit),
            Route("POST", "/loopback/venue/{command}", self.command),
        )

    def time(self, request: Request) -> Answer:
        """GET /loopback/time."""
        return Answer(200, {"now": self._server.venue.now.isoformat()})

    def advance(self, request: Request) -> Answer:
        """POST /loopback/advance with {"seconds": n} or {"to": instant}."""
        asked = _object(request)
        with _explained():
            if set(asked) == {"seconds"}:
                self._server.advance(float(str(asked["seconds"])))
            elif set(asked) == {"to"}:
                self._server.advance_to(read_instant(str(asked["to"])))
            else:
                raise ValueError(f"Expected either seconds or to, was {sorted(asked)}")
        return self.time(request)

    def fault(self, request: Request) -> Answer:
        """POST /loopback/fault with a fault as JSON."""
        with _explained():
            self._server.script(Fault.from_json(_object(request)))
        return Answer(200, {})

    def clear(self, request: Request) -> Answer:
        """DELETE /loopback/fault: forget them all."""
        self._server.clear_faults()
        return Answer(200, {})

    def command(self, request: Request, name: str) -> Answer:
        """POST /loopback/venue/{command} with the command's arguments as JSON."""
        arguments = _COMMANDS.get(name)
        if arguments is None:
            raise _refused(f"Expected a command among {', '.join(_COMMANDS)}, was {name}")
        given = _object(request)
        with _explained():
            unknown = sorted(set(given) - set(arguments))
            if unknown:
                raise ValueError(f"Expected the arguments {', '.join(arguments)}, was {', '.join(unknown)}")
            getattr(self._server.venue, name)(**{key: arguments[key](value) for key, value in given.items()})
        self._server.settle()
        return self.time(request)

    def audit(self, request: Request) -> Answer:
        """GET /loopback/audit: the venue's own books, for comparison. Decimals are strings."""
        venue = self._server.venue
        movements = [each for each in venue.book.activities if each.kind is not ActivityKind.FILL]
        return Answer(
            200,
            {
                "now": venue.now.isoformat(),
                "account_number": venue.book.account_number,
                "cash": str(venue.cash),
                "settled_cash": str(venue.settled_cash),
                "positions": _plain(venue.book.positions()),
                "lots": _plain(venue.lots()),
                "disposals": _plain(venue.disposals()),
                "fills": _plain(venue.fills()),
                "other_activities": _plain(movements),
                "orders": _plain(venue.orders()),
            },
        )


def _refused(message: str) -> WireError:
    return WireError(400, {"message": message})


@contextmanager
def _explained() -> Iterator[None]:
    """Turns what a command cannot be carried out for into an answer that says so."""
    try:
        yield
    except (ValueError, TypeError, InvalidOperation, VenueError) as error:
        raise _refused(str(error)) from error


def _object(request: Request) -> Json:
    try:
        parsed = json.loads(request.body or b"{}")
    except ValueError as error:
        raise _refused("Expected a JSON object in the body, was something else") from error
    if not isinstance(parsed, dict):
        raise _refused(f"Expected a JSON object in the body, was {parsed!r}")
    return parsed


def _plain(value: object) -> object:
    """A value of the books as JSON: records as objects, decimals as strings."""
    if is_dataclass(value):
        shown = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        return shown | ({"lot_id": value.lot_id} if hasattr(value, "lot_id") else {})
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
