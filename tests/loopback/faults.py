"""What can go wrong on the way between a client and Alpaca, as a script.

A fault waits until something matches it, lets `nth - 1` of those pass, then strikes `times` of them (0: until it is
cleared). Requests are matched by method and path (regular expressions, the method in full, the path anywhere in it);
messages and connections of the streams by the stream's path.

    kind                what happens
    ------------------  ----------------------------------------------------------------------------------------
    delay               the answer comes `seconds` later
    hang                no answer until the faults are cleared or the server stops; then the connection closes
    drop                the connection closes without an answer
    status              the answer is `status`, with `body` or what Alpaca says with it; with 429, the next minute
                        begins in `seconds`
    html                the answer is `status` (502 unless given) with a gateway's HTML page
    redirect            the answer is `status` (302 unless given) to another place
    truncated           the answer breaks off in the middle
    drip                the body comes one byte every `seconds`; with `text` "headers" they do, before it
    wrong_type          a list where an object was, an object where a list was (or `body`)
    empty_page          no rows, but the same page token
    set, omit           `fields` get another value, or are missing, in each row that has all of `where`
    zero_quotes         bid and ask of `symbols` (none named: all) are zero
    stale_quotes        quotes and trades of `symbols` are `seconds` older
    missing_symbols     `symbols` are not in the answer
    skewed_clock        the clock, and whatever else of the answer has a time, is `seconds` ahead (negative: behind)

    duplicate, missing  the next message of a stream comes twice, or never
    reorder             the next message comes after the one that follows it
    unknown_event       the next message has the event `text`
    unknown_status      the order in the next message has the status `text`
    spoil               the order in the next message has `fields` instead of its own
    garbage             a frame that is no message comes before the next one
    mute                the connection sends nothing more, but answers pings
    deaf                the connection answers no pings and sends nothing more
    close               the connection closes with `code`; 1006 cuts it without a word

The first six can strike `before` the request is carried out, or `after`; and the beginning of a websocket, if `path`
says so. Those up to skewed_clock strike the answer. The last three strike the connections there are, or when there is
none the next one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, cast

from loopback.wire import Json, stamp


class FaultKind(StrEnum):
    """What happens; the module's table says it in words."""

    DELAY = "delay"
    HANG = "hang"
    DROP = "drop"
    STATUS = "status"
    HTML = "html"
    REDIRECT = "redirect"
    TRUNCATED = "truncated"
    DRIP = "drip"
    WRONG_TYPE = "wrong_type"
    EMPTY_PAGE = "empty_page"
    SET = "set"
    OMIT = "omit"
    ZERO_QUOTES = "zero_quotes"
    STALE_QUOTES = "stale_quotes"
    MISSING_SYMBOLS = "missing_symbols"
    SKEWED_CLOCK = "skewed_clock"
    DUPLICATE = "duplicate"
    MISSING = "missing"
    REORDER = "reorder"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_STATUS = "unknown_status"
    SPOIL = "spoil"
    GARBAGE = "garbage"
    MUTE = "mute"
    DEAF = "deaf"
    CLOSE = "close"


_TIMES = frozenset({"timestamp", "t", "transaction_time"})
_CONNECTION = frozenset({FaultKind.MUTE, FaultKind.DEAF, FaultKind.CLOSE})
_MESSAGE = frozenset(
    {
        FaultKind.DUPLICATE,
        FaultKind.MISSING,
        FaultKind.REORDER,
        FaultKind.UNKNOWN_EVENT,
        FaultKind.UNKNOWN_STATUS,
        FaultKind.SPOIL,
        FaultKind.GARBAGE,
    }
)
_INSTEAD = frozenset(
    {
        FaultKind.DELAY,
        FaultKind.HANG,
        FaultKind.DROP,
        FaultKind.STATUS,
        FaultKind.HTML,
        FaultKind.REDIRECT,
    }
)


@dataclass(frozen=True)
class Fault:
    """One fault of a script. Times are in seconds; `status` and `code` are HTTP's and the websocket's."""

    kind: FaultKind | str
    method: str = ""
    path: str = ""
    nth: int = 1
    times: int = 1
    when: Literal["before", "after"] = "before"
    seconds: float = 0.0
    status: int = 0
    body: object = None
    code: int = 1011
    text: str = ""
    symbols: tuple[str, ...] = ()
    fields: Mapping[str, object] | tuple[str, ...] = field(default_factory=dict)
    where: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", FaultKind(self.kind))
        if self.nth < 1 or self.times < 0:
            raise ValueError(f"Expected nth >= 1 and times >= 0, was nth={self.nth} times={self.times}")
        if self.kind is FaultKind.STATUS and not self.status:
            raise ValueError("Expected a status for the fault of kind status, was none")
        if self.when not in ("before", "after"):
            raise ValueError(f"Expected when to be before or after, was {self.when!r}")

    @classmethod
    def from_json(cls, given: object) -> Fault:
        """A fault as it is posted to /loopback/fault. Raises ValueError on an unknown key or value."""
        if not isinstance(given, dict):
            raise ValueError(f"Expected a fault as a JSON object, was {given!r}")
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown or "kind" not in given:
            raise ValueError(f"Expected the keys {sorted(known)} with kind among them, was {sorted(given)}")
        lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list) and key != "body"}
        return cls(**{**given, **lists})

    def is_for_request(self, method: str, path: str) -> bool:
        """True when a request of this method and path is meant."""
        if self.kind in _CONNECTION or self.kind in _MESSAGE:
            return False
        return (not self.method or re.fullmatch(self.method, method) is not None) and self._matches(path)

    def is_for_message(self, path: str) -> bool:
        """True when a message of the stream at this path is meant."""
        return self.kind in _MESSAGE and self._matches(path)

    def is_for_connection(self, path: str) -> bool:
        """True when a connection of the stream at this path is meant."""
        return self.kind in _CONNECTION and self._matches(path)

    def strikes_instead(self, when: str) -> bool:
        """True when it replaces or holds up the answer, at this moment."""
        return self.kind in _INSTEAD and self.when == when

    def _matches(self, path: str) -> bool:
        return re.search(self.path, path) is not None


class Script:
    """The faults still to strike. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._released = threading.Event()

    def add(self, faults: Iterable[Fault]) -> None:
        """Let the faults wait for what they match."""
        with self._lock:
            self._waiting += [_Waiting(fault, fault.nth - 1, fault.times) for fault in faults]

    def clear(self) -> None:
        """Forget all faults, and let go of whatever hangs."""
        with self._lock:
            self._waiting.clear()
            self._released.set()
            self._released = threading.Event()

    def pending(self) -> tuple[Fault, ...]:
        """The faults that have not struck for the last time."""
        with self._lock:
            return tuple(waiting.fault for waiting in self._waiting)

    def hang(self) -> threading.Event:
        """Set when what hangs now is let go."""
        with self._lock:
            return self._released

    def for_request(self, method: str, path: str) -> tuple[Fault, ...]:
        """The faults that strike this request."""
        return self._take(lambda fault: fault.is_for_request(method, path))

    def for_handshake(self, path: str) -> tuple[Fault, ...]:
        """The faults that strike the beginning of a websocket: only those whose own path means it."""
        return self._take(lambda fault: fault.path != "" and fault.is_for_request("GET", path))

    def for_message(self, path: str) -> tuple[Fault, ...]:
        """The faults that strike this message of a stream."""
        return self._take(lambda fault: fault.is_for_message(path))

    def for_connection(self, path: str) -> tuple[Fault, ...]:
        """The faults that strike this connection of a stream."""
        return self._take(lambda fault: fault.is_for_connection(path))

    def _take(self, is_meant: Callable[[Fault], bool]) -> tuple[Fault, ...]:
        with self._lock:
            struck = [each for each in self._waiting if is_meant(each.fault) and each.strike()]
            self._waiting = [each for each in self._waiting if not each.is_over]
            return tuple(each.fault for each in struck)


@dataclass
class _Waiting:
    fault: Fault
    to_pass: int
    to_strike: int  # with times=0 it stays 0, and the fault strikes until it is cleared
    is_over: bool = False

    def strike(self) -> bool:
        """Count one that is meant: True when it is struck, False while the first are let pass."""
        if self.to_pass:
            self.to_pass -= 1
            return False
        if self.fault.times:
            self.to_strike -= 1
            self.is_over = self.to_strike == 0
        return True


# ------------------------------------------------------------------ what a fault does to an answer


def altered(fault: Fault, body: object) -> object:
    """The answer's body as the fault leaves it; kinds that do nothing to bodies leave it as it is."""
    alter = _ALTER.get(cast(FaultKind, fault.kind))
    return body if alter is None else alter(fault, body)


def _wrong_type(fault: Fault, body: object) -> object:
    if fault.body is not None:
        return fault.body
    return {} if isinstance(body, list) else []


def _empty_page(fault: Fault, body: object) -> object:
    if isinstance(body, list):
        return []
    if not isinstance(body, dict):
        return body
    return {key: type(value)() if isinstance(value, list | dict) else value for key, value in body.items()}


def _rows(body: object) -> list[Json]:
    """The objects a client reads as rows: the list's, or the one there is, and those grouped inside it."""
    if isinstance(body, list):
        return [row for each in body for row in _rows(each)]
    if not isinstance(body, dict):
        return []
    return [body, *(row for value in body.values() for row in _rows(value))]


def _meant(fault: Fault, body: object) -> list[Json]:
    where = fault.where.items()
    return [row for row in _rows(body) if all(key in row and row[key] == value for key, value in where)]


def _set(fault: Fault, body: object) -> object:
    assert isinstance(fault.fields, Mapping)
    for row in _meant(fault, body):
        row.update({key: value for key, value in fault.fields.items() if key in row or fault.where})
    return body


def _omit(fault: Fault, body: object) -> object:
    for row in _meant(fault, body):
        for key in fault.fields:
            row.pop(key, None)
    return body


def _named(fault: Fault, body: object) -> list[tuple[Json, str]]:
    """The objects keyed by symbol in a data answer, each with a symbol the fault means."""
    groups = [value for value in (body, *body.values()) if isinstance(value, dict)] if isinstance(body, dict) else []
    return [(group, symbol) for group in groups for symbol in tuple(group) if symbol in fault.symbols]


def _prices(fault: Fault, body: object) -> list[Json]:
    """Quotes and trades of the symbols meant, also those inside snapshots."""
    found = [group[symbol] for group, symbol in _named(fault, body)] if fault.symbols else [body]
    return [row for value in found for row in _rows(value) if "bp" in row or "p" in row]


def _zero_quotes(fault: Fault, body: object) -> object:
    for row in _prices(fault, body):
        if "bp" in row:
            row.update(bp=0, bs=0, ap=0)
            row["as"] = 0
    return body


def _stale_quotes(fault: Fault, body: object) -> object:
    for row in _prices(fault, body):
        at = datetime.fromisoformat(str(row["t"]))
        row["t"] = stamp(at - timedelta(seconds=fault.seconds))
    return body


def _missing_symbols(fault: Fault, body: object) -> object:
    for group, symbol in _named(fault, body):
        del group[symbol]
    if isinstance(body, list):
        return [row for row in body if not (isinstance(row, dict) and row.get("symbol") in fault.symbols)]
    return body


def _skewed_clock(fault: Fault, body: object) -> object:
    for row in _rows(body):
        for key, value in row.items():
            if isinstance(value, str) and (key in _TIMES or key.endswith("_at")):
                at = datetime.fromisoformat(value) + timedelta(seconds=fault.seconds)
                row[key] = at.isoformat() if key == "timestamp" else stamp(at)
    return body


_ALTER: Mapping[FaultKind, Callable[[Fault, object], object]] = {
    FaultKind.WRONG_TYPE: _wrong_type,
    FaultKind.EMPTY_PAGE: _empty_page,
    FaultKind.SET: _set,
    FaultKind.OMIT: _omit,
    FaultKind.ZERO_QUOTES: _zero_quotes,
    FaultKind.STALE_QUOTES: _stale_quotes,
    FaultKind.MISSING_SYMBOLS: _missing_symbols,
    FaultKind.SKEWED_CLOCK: _skewed_clock,
}


# ------------------------------------------------------------------ what a fault does to a message


@dataclass
class Mangler:
    """One stream's messages on their way out, with the one that is held back to come too late."""

    script: Script
    path: str
    held: object = None

    def outgoing(self, message: Json) -> list[object]:
        """What is sent instead of a message: messages, and bytes that are none."""
        out: list[object] = [message]
        hold = False
        for fault in self.script.for_message(self.path):
            if fault.kind is FaultKind.MISSING:
                out = []
            elif fault.kind is FaultKind.DUPLICATE:
                out = out * 2
            elif fault.kind is FaultKind.GARBAGE:
                out = [b"\x00\xff no message", *out]
            elif fault.kind is FaultKind.REORDER:
                hold = True
            elif "data" in message:
                out = [_changed(fault, message)]
        if hold and self.held is None:
            self.held = out
            return []
        if self.held is not None:
            out, self.held = [*out, *cast(list[object], self.held)], None
        return out


def _changed(fault: Fault, message: Json) -> Json:
    """A trade update with an event or an order status nobody knows, or with other fields of the order."""
    data = dict(cast(Json, message["data"]))
    if fault.kind is FaultKind.UNKNOWN_EVENT:
        data["event"] = fault.text or "quantum_fill"
    elif fault.kind is FaultKind.SPOIL:
        data["order"] = {**cast(Json, data["order"]), **cast(Json, fault.fields)}
    else:
        data["order"] = {**cast(Json, data["order"]), "status": fault.text or "quantum"}
    return {**message, "data": data}
