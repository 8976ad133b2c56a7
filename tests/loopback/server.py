"""The server: it owns the lock, the clock's hand, the script of faults and the record of requests.

A request goes this way: faults that strike before; keys; rate limit; the route, with the venue locked; what came of it
to the streams; conformance, if asked for; faults that strike the answer; faults that strike after. Whatever the venue
refuses to do while it is unavailable ends as a closed connection.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Self

from brokers.simulated import SimulatedVenue, switches
from brokers.simulated.world import as_utc
from loopback import errors, wire
from loopback.conformance import Conformance
from loopback.control import ControlApi
from loopback.data import DataApi
from loopback.errors import NoAnswer, WireError
from loopback.faults import Fault, FaultKind, Script, altered
from loopback.history import ActivityRow, History
from loopback.limits import RateLimit
from loopback.replies import as_text, broken_off, dripping, encoded, instead
from loopback.requests import RecordedRequest, Request, read_instant
from loopback.routing import Answer, Router
from loopback.streams import TRADE_PATH, DataStream, TradeStream
from loopback.trading import TradingApi, symbols
from loopback.transport import SILENCE, HttpServer, Reply
from loopback.websocket import WebSocket
from loopback.wire import Json

_CONTROL = "/loopback/"
_DATA_PATHS = ("/v2/stocks/", "/v1/corporate-actions")
_IEX_PATH, _SIP_PATH = "/v2/iex", "/v2/sip"
_HANG_AT_MOST_S = 600.0


class LoopbackAlpaca:
    """Alpaca on 127.0.0.1 over a SimulatedVenue, for as long as it is entered (or between `start` and `stop`).

    `account_number` is the one told, by default the venue's. `loopback_clock=False` takes the control paths away.
    `real_time_sip`: the account pays for the consolidated feed. `enforce_rate_limit` counts `rate_limit` requests a
    minute of `rate_clock` (seconds) for each of the two APIs. `validate` checks every answer against Alpaca's OpenAPI
    documents and collects what does not conform in `violations`. The venue is closed by whoever made it.
    """

    def __init__(
        self,
        venue: SimulatedVenue,
        *,
        key_id: str,
        secret_key: str,
        account_number: str | None = None,
        loopback_clock: bool = True,
        port: int = 0,
        real_time_sip: bool = False,
        rate_limit: int = 200,
        enforce_rate_limit: bool = False,
        rate_clock: Callable[[], float] = time.monotonic,
        validate: bool = False,
    ) -> None:
        self.venue = venue
        self.lock = threading.RLock()
        self.requests: list[RecordedRequest] = []
        self.violations: list[str] = []
        self._keys = (key_id, secret_key)
        self._has_control = loopback_clock
        self._conformance = Conformance() if validate else None
        self._faults = Script()
        self._history = History(venue)
        self._limits = {name: RateLimit(rate_limit, enforce_rate_limit, rate_clock) for name in ("trading", "data")}
        self._trading = TradingApi(venue, self._history, account_number or venue.book.account_number, self.settle)
        data = DataApi(venue, symbols(venue), real_time_sip=real_time_sip)
        self._router = Router((*self._trading.routes(), *data.routes()))
        self._control = Router(ControlApi(self).routes())
        self._trade_stream = TradeStream(self._faults, self._is_known, self.lock, venue.book.account_number)
        self._data_streams = [
            DataStream(path, self._faults, self._is_known, self.lock, venue, allowed=allowed)
            for path, allowed in ((_IEX_PATH, True), (_SIP_PATH, real_time_sip))
        ]
        self._streams = {each.path: each for each in (self._trade_stream, *self._data_streams)}
        self._http = HttpServer(self, port)
        self._thread: threading.Thread | None = None
        with self.lock:
            self._history.catch_up()

    # -------------------------------------------------------------- life

    def start(self) -> None:
        """Begin to answer. The port is taken since the server was made."""
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True, name="loopback")
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and end all connections; whatever hangs is let go."""
        self._faults.clear()
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
            self._thread = None
        self._http.cut_connections()
        self._http.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """Where the REST clients go, trading and data."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        """Where TradingStream goes."""
        return f"ws://127.0.0.1:{self.port}{TRADE_PATH}"

    @property
    def data_stream_url(self) -> str:
        """Where StockDataStream goes, on the free plan."""
        return f"ws://127.0.0.1:{self.port}{_IEX_PATH}"

    # -------------------------------------------------------------- time

    def advance(self, seconds: float) -> None:
        """Let time pass at the venue; returns when what happened has been written to the streams."""
        with self.lock:
            self.advance_to(self.venue.now + timedelta(seconds=seconds))

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until `instant`, tick by tick while orders work, so that everything has its time."""
        target = as_utc(instant)
        with self.lock:
            self.settle()
            while self.venue.book.working:
                session = self.venue.schedule.upcoming(self.venue.now)
                tick = self.venue.schedule.next_tick(session, self.venue.now)
                if tick > target:
                    break
                self.venue.advance_to(tick)
                self.settle()
            self.venue.advance_to(target)
            self.settle()

    def settle(self) -> None:
        """Tell the streams what has happened at the venue since the last time."""
        with self.lock:
            changes = self._history.catch_up()
            if switches.UNAVAILABLE in self.venue.book.switches:
                for stream in self._streams.values():
                    stream.cut_all()
                return
            self._trade_stream.publish(self._history, changes)
            for data_stream in self._data_streams:
                data_stream.publish()

    def wait_for_listeners(self, count: int = 1, path: str = TRADE_PATH, timeout_s: float = 5.0) -> None:
        """Wait until `count` clients hear a stream. Raises TimeoutError when they do not within `timeout_s` seconds."""
        stream = self._streams[path]
        if not stream.wait_for(count, timeout_s):
            found = len(stream.listeners())
            raise TimeoutError(f"Expected {count} listeners at {path} within {timeout_s} s, was {found}")

    # -------------------------------------------------------------- faults, and history told otherwise

    def script(self, *faults: Fault) -> None:
        """Let faults wait for what they match; those meant for a connection strike the ones there are."""
        self._faults.add(faults)
        with self.lock:
            for stream in self._streams.values():
                stream.strike()

    def clear_faults(self) -> None:
        """Forget all faults and let go of whatever hangs."""
        self._faults.clear()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults that have not struck for the last time."""
        return self._faults.pending()

    def add_activity(self, body: Json) -> None:
        """Tell of an activity the venue knows nothing of: `body` is the row, complete. It is not kept in the file."""
        at = str(body.get("created_at") or body["transaction_time"])
        with self.lock:
            is_trade = body["activity_type"] == "FILL"
            self._trading.extra_rows.append(ActivityRow(read_instant(at), is_trade, dict(body)))

    def amend_activity(self, activity_id: str, **changes: object) -> None:
        """From now on tell the row with this wire id otherwise (`status="canceled"`). It is not kept in the file."""
        with self.lock:
            self._trading.amended.setdefault(activity_id, {}).update(changes)

    def activities(self) -> list[Json]:
        """All rows of /v2/account/activities as they are told now, oldest first."""
        with self.lock:
            self.settle()
            return [self._trading.as_told(row) for row in self._trading.rows()]

    def clear_requests(self) -> None:
        """Forget the requests recorded so far."""
        self.requests.clear()

    # -------------------------------------------------------------- requests

    def reply(self, request: Request) -> Reply:
        """Answer a request."""
        if request.path.startswith(_CONTROL):
            return self._controlled(request)
        faults = self._faults.for_request(request.method, request.path)
        reply = self._struck(faults, request, "before") or self._answered(request, faults)
        if reply is not SILENCE:
            reply = self._struck(faults, request, "after") or reply
        self.requests.append(RecordedRequest.of(request, reply.status, self.venue.now))
        return reply

    def _controlled(self, request: Request) -> Reply:
        found = self._control.find(request) if self._has_control else None
        if found is None:
            return encoded(Answer(404, {"message": f"no control path {request.path}"}), {})
        route, arguments = found
        with self.lock:
            try:
                return encoded(route.handler(request, *arguments), {})
            except WireError as refusal:
                return encoded(Answer(refusal.status, refusal.body), {})

    def _answered(self, request: Request, faults: tuple[Fault, ...]) -> Reply:
        with self.lock:
            self.settle()
            try:
                answer = self._routed(request)
            except WireError as refusal:
                answer = Answer(refusal.status, refusal.body)
            except NoAnswer:
                return SILENCE
            finally:
                self.settle()
            headers = self._headers(request)
        body = answer.body
        for fault in faults:
            body = altered(fault, body)
        reply = encoded(Answer(answer.status, body), headers)
        for fault in faults:
            if fault.kind is FaultKind.TRUNCATED:
                reply = broken_off(reply)
            elif fault.kind is FaultKind.DRIP:
                reply = dripping(fault, reply)
        return reply

    def _routed(self, request: Request) -> Answer:
        if switches.UNAVAILABLE in self.venue.book.switches:
            raise NoAnswer
        headers = request.headers
        if not self._is_known(headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")):
            raise errors.unauthorized()
        if not self._limit(request).take():
            raise errors.rate_limited(trading=not _is_data(request))
        found = self._router.find(request)
        if found is None:
            raise errors.not_found("endpoint not found")
        route, arguments = found
        answer = route.handler(request, *arguments)
        if self._conformance is not None:
            told = json.loads(as_text(answer.body))
            self.violations += self._conformance.check(route.method, route.path, answer.status, told)
        return answer

    def _limit(self, request: Request) -> RateLimit:
        return self._limits["data" if _is_data(request) else "trading"]

    def _headers(self, request: Request) -> dict[str, str]:
        request_id = wire.wire_id("request", str(len(self.requests))).replace("-", "")
        own = {"Date": self._date(), "X-Request-ID": request_id}
        return {**own, **self._limit(request).headers(self.venue.now)}

    def _date(self) -> str:
        return format_datetime(self.venue.now, usegmt=True)

    def _is_known(self, key_id: object, secret_key: object) -> bool:
        return (key_id, secret_key) == self._keys

    def _struck(self, faults: tuple[Fault, ...], request: Request, when: str) -> Reply | None:
        """What the faults of this moment answer instead; None where they leave the answer alone."""
        for fault in faults:
            if not fault.strikes_instead(when):
                continue
            if fault.kind is FaultKind.DELAY:
                time.sleep(fault.seconds)
            elif fault.kind is FaultKind.HANG:
                self._faults.hang().wait(_HANG_AT_MOST_S)
                return SILENCE
            elif fault.kind is FaultKind.DROP:
                return SILENCE
            else:
                headers = self._headers(request)
                if fault.status == 429:
                    headers |= self._limit(request).exhausted(self.venue.now, fault.seconds)
                return instead(fault, headers, is_data=_is_data(request))
        return None

    # -------------------------------------------------------------- streams

    def handshake(self, request: Request) -> Reply | None:
        """What answers the beginning of a websocket instead of one; None where it may begin."""
        struck = self._struck(self._faults.for_handshake(request.path), request, "before")
        if struck is not None:
            return struck
        if switches.UNAVAILABLE in self.venue.book.switches:
            return SILENCE
        return None if request.path in self._streams else encoded(Answer(404, {"message": "not found"}), {})

    def serve_stream(self, request: Request, connection: socket.socket, raw_request: bytes) -> None:
        """Stay with a websocket until it ends."""
        self._streams[request.path].serve(WebSocket(connection, raw_request, self._date()))


def _is_data(request: Request) -> bool:
    return request.path.startswith(_DATA_PATHS)
