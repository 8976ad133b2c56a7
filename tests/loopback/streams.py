"""The two streams: trade updates (binary frames of JSON) and market data (MessagePack).

A client must say who it is before it hears anything, may have one connection, and is sent what happens from then on:
nothing is repeated for one that was away. Messages pass the script of faults on their way out.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import cast

import msgpack

from brokers.simulated import SimulatedVenue
from loopback import wire
from loopback.faults import Fault, FaultKind, Mangler, Script
from loopback.history import Change, History
from loopback.websocket import WebSocket
from loopback.wire import Json, number
from state.records import DailyBar

TRADE_PATH = "/stream"
_FREE_SYMBOLS = 30
_CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "corrections", "cancelErrors")
_LIMIT_EXCEEDED, _NOT_UNDERSTOOD = 1008, 1003  # close codes
_HALTED = {"sc": "H", "sm": "Trading Halt", "rc": "T12", "rm": "Trading Halted; For Information Requested by the Venue"}
_RESUMED = {"sc": "T", "sm": "Trading Resumption", "rc": "", "rm": ""}

IsKnown = Callable[[object, object], bool]


class Stream(ABC):
    """The connections of one stream that have said who they are, and the faults that strike them."""

    def __init__(self, path: str, script: Script, is_known: IsKnown, lock: threading.RLock) -> None:
        self.path = path
        self._changed = threading.Condition(lock)
        self._script = script
        self._mangler = Mangler(script, path)
        self._is_known = is_known
        self.connections: list[WebSocket] = []

    @abstractmethod
    def encode(self, message: object) -> bytes:
        """A message as the bytes of a frame."""

    @abstractmethod
    def hear(self, connection: WebSocket, message: bytes) -> None:
        """Answer what a client says. Raises ValueError, TypeError or AttributeError on what is no message."""

    @abstractmethod
    def listeners(self) -> Sequence[WebSocket]:
        """The connections that hear what happens."""

    def greet(self, connection: WebSocket) -> None:  # noqa: B027
        """Whatever is said before the client says anything: by most, nothing."""

    def serve(self, connection: WebSocket) -> None:
        """Stay with a connection until it ends."""
        self.greet(connection)
        try:
            for message in connection.messages():
                with self._changed:
                    self._hear(connection, message)
        finally:
            with self._changed:
                self.forget(connection)
            connection.cut()

    def _hear(self, connection: WebSocket, message: bytes) -> None:
        try:
            self.hear(connection, message)
        except (ValueError, AttributeError, TypeError):
            connection.close(_NOT_UNDERSTOOD, "invalid syntax")

    def admit(self, connection: WebSocket) -> None:
        """Count a connection in, and let the faults strike that were waiting for one."""
        self.connections.append(connection)
        self.strike()
        self._changed.notify_all()

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` connections hear what happens; False when they do not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.listeners()) == count, timeout_s)

    def forget(self, connection: WebSocket) -> None:
        """Count a connection out."""
        if connection in self.connections:
            self.connections.remove(connection)
        self._changed.notify_all()

    def strike(self) -> None:
        """Let the faults that are meant for a connection strike those there are."""
        for connection in tuple(self.connections):
            for fault in self._script.for_connection(self.path):
                self._strike(connection, fault)

    def _strike(self, connection: WebSocket, fault: Fault) -> None:
        if fault.kind is FaultKind.MUTE:
            connection.mute = True
        elif fault.kind is FaultKind.DEAF:
            connection.deaf = True
        else:
            self.forget(connection)
            connection.close(fault.code, fault.text)

    def send(self, connection: WebSocket, message: object) -> None:
        """Send one message to one client."""
        connection.send(message if isinstance(message, bytes) else self.encode(message))

    def cut_all(self) -> None:
        """End all connections without a word."""
        for connection in tuple(self.connections):
            self.forget(connection)
            connection.cut()


class TradeStream(Stream):
    """Trade updates of the account, to the one connection that listens."""

    def __init__(self, script: Script, is_known: IsKnown, lock: threading.RLock, account_number: str) -> None:
        super().__init__(TRADE_PATH, script, is_known, lock)
        self._account_number = account_number
        self._listening: list[WebSocket] = []

    def encode(self, message: object) -> bytes:
        """JSON, which Alpaca sends in binary frames."""
        return json.dumps(message).encode()

    def hear(self, connection: WebSocket, message: bytes) -> None:
        """`authenticate` and `listen`; a second connection is closed when it has said who it is."""
        said = json.loads(message)
        data = said.get("data") or {}
        if said.get("action") == "authenticate":
            is_known = self._is_known(data.get("key_id"), data.get("secret_key"))
            status = "authorized" if is_known else "unauthorized"
            answer = {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
            if is_known and self.connections:
                connection.close(_LIMIT_EXCEEDED, "connection limit exceeded")
                return
            self.send(connection, answer)
            if is_known:
                self.admit(connection)
        elif said.get("action") == "listen" and connection in self.connections:
            streams = data.get("streams", [])
            if "trade_updates" in streams:
                self._listening.append(connection)
                self._changed.notify_all()
            self.send(connection, {"stream": "listening", "data": {"streams": streams}})

    def listeners(self) -> Sequence[WebSocket]:
        """The connections that hear what happens."""
        return self._listening

    def forget(self, connection: WebSocket) -> None:
        """Count a connection out."""
        if connection in self._listening:
            self._listening.remove(connection)
        super().forget(connection)

    def publish(self, history: History, changes: Iterable[Change]) -> None:
        """Tell what has happened to orders."""
        for change in changes:
            for connection in tuple(self._listening):
                for message in self._mangler.outgoing(self._update(history, change)):
                    self.send(connection, message)

    def _update(self, history: History, change: Change) -> Json:
        payload = wire.order(self._account_number, change.order, change.times, change.status)
        extra: Json = {"execution_id": wire.wire_id("event", change.order.broker_order_id, change.event)}
        if change.fill is not None:
            activity = change.fill.activity
            extra = {
                "execution_id": change.fill.execution_id,
                "price": number(activity.price),
                "qty": number(activity.quantity),
                "position_qty": number(change.fill.position),
            }
        return wire.trade_update(change.event, payload, change.at, extra)


class DataStream(Stream):
    """Market data of the symbols a client has subscribed to. The free plan allows thirty, on one connection."""

    def __init__(
        self,
        path: str,
        script: Script,
        is_known: IsKnown,
        lock: threading.RLock,
        venue: SimulatedVenue,
        *,
        allowed: bool,
    ) -> None:
        super().__init__(path, script, is_known, lock)
        self._venue = venue
        self._allowed = allowed
        self._wanted: dict[WebSocket, dict[str, list[str]]] = {}
        self._told_at = venue.now
        self._halted = self._halts()

    def encode(self, message: object) -> bytes:
        """MessagePack of a list of messages."""
        return cast(bytes, msgpack.packb([message]))

    def greet(self, connection: WebSocket) -> None:
        """The first word is the server's."""
        self.send(connection, {"T": "success", "msg": "connected"})

    def hear(self, connection: WebSocket, message: bytes) -> None:
        """`auth`, `subscribe`, `unsubscribe`."""
        said = msgpack.unpackb(message)
        action = said.get("action")
        if action == "auth":
            self._authenticate(connection, said)
        elif connection not in self.connections:
            self._error(connection, 401, "not authenticated")
        elif action in ("subscribe", "unsubscribe"):
            self._subscribe(connection, said, subscribe=action == "subscribe")
        else:
            self._error(connection, 400, "invalid syntax")

    def _authenticate(self, connection: WebSocket, said: Json) -> None:
        if connection in self.connections:
            self._error(connection, 403, "already authenticated")
        elif not self._is_known(said.get("key"), said.get("secret")):
            self._error(connection, 402, "auth failed")
        elif not self._allowed:
            self._error(connection, 409, "insufficient subscription")
        elif self.connections:
            self._error(connection, 406, "connection limit exceeded")
        else:
            self._wanted[connection] = {channel: [] for channel in _CHANNELS}
            self.send(connection, {"T": "success", "msg": "authenticated"})
            self.admit(connection)

    def _subscribe(self, connection: WebSocket, said: Json, *, subscribe: bool) -> None:
        wanted = {channel: list(symbols) for channel, symbols in self._wanted[connection].items()}
        for channel in _CHANNELS:
            for symbol in cast(list[str], said.get(channel) or []):
                if subscribe and symbol not in wanted[channel]:
                    wanted[channel].append(symbol)
                elif not subscribe and symbol in wanted[channel]:
                    wanted[channel].remove(symbol)
        if len({*wanted["trades"], *wanted["quotes"]}) > _FREE_SYMBOLS:
            self._error(connection, 405, "symbol limit exceeded")
            return
        self._wanted[connection] = wanted
        self._changed.notify_all()
        self.send(connection, {"T": "subscription", **wanted})

    def _error(self, connection: WebSocket, code: int, message: str) -> None:
        self.send(connection, {"T": "error", "code": code, "msg": message})

    def listeners(self) -> Sequence[WebSocket]:
        """The connections that have subscribed to something."""
        return [connection for connection, wanted in self._wanted.items() if any(wanted.values())]

    def forget(self, connection: WebSocket) -> None:
        """Count a connection out."""
        self._wanted.pop(connection, None)
        super().forget(connection)

    # -------------------------------------------------------------- what moves

    def publish(self) -> None:
        """Send what has moved since the last time: halts and resumptions, finished bars, and with time the quotes."""
        now, before = self._venue.now, self._told_at
        halted, were_halted = self._halts(), self._halted
        self._halted, self._told_at = halted, now
        if not self._wanted:
            return
        for symbol in sorted(halted ^ were_halted):
            words = _HALTED if symbol in halted else _RESUMED
            self._tell("statuses", symbol, {"T": "s", "S": symbol, **words, "t": _timestamp(now), "z": "B"})
        if now == before:
            return
        for bar in self._finished(before):
            row = wire.bar("", float(bar.close), float(bar.close))
            stamped = {"T": "d", "S": bar.symbol, **row, "t": _timestamp(wire.midnight(bar.session))}
            self._tell("dailyBars", bar.symbol, stamped)
        for symbol, quote in sorted(self._venue.market.quotes(self._symbols("quotes", "trades"), now).items()):
            row = wire.quote(quote.bid, quote.ask, _timestamp(now))
            self._tell("quotes", symbol, {"T": "q", "S": symbol, **row})
            self._tell("trades", symbol, {"T": "t", "S": symbol, **wire.trade(quote.last, _timestamp(now))})

    def _finished(self, before: datetime) -> Sequence[DailyBar]:
        """Bars of the sessions that have ended since."""
        schedule = self._venue.schedule
        ended = schedule.sessions[schedule.upcoming(before) : schedule.upcoming(self._venue.now)]
        if not ended:
            return ()
        days = ended[0].session, ended[-1].session
        return self._venue.market.daily_bars(self._symbols("dailyBars"), *days, self._venue.now)

    def _symbols(self, *channels: str) -> set[str]:
        return {symbol for wanted in self._wanted.values() for channel in channels for symbol in wanted[channel]}

    def _tell(self, channel: str, symbol: str, message: Json) -> None:
        for connection, wanted in tuple(self._wanted.items()):
            if symbol in wanted[channel]:
                for outgoing in self._mangler.outgoing(message):
                    self.send(connection, outgoing)

    def _halts(self) -> frozenset[str]:
        return frozenset(
            name.removeprefix("halted:") for name in self._venue.book.switches if name.startswith("halted:")
        )


def _timestamp(instant: datetime) -> msgpack.Timestamp:
    return msgpack.Timestamp.from_datetime(instant)
