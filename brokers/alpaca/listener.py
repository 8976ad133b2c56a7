"""alpaca-py's TradingStream, made to notice.

alpaca-py keeps its handshake, its reconnects and their backoff. What is done here instead of it: each wait has an end,
the text of a frame is kept as it came, "listening" is waited for, and whatever goes wrong becomes a dropped
connection, which is what alpaca-py recovers from. `stream.py` has the table.

alpaca-py logs the same failure again at each attempt, and websockets, at level DEBUG, writes down what it sends, the
secret key included. Both are silenced; `TradeUpdates.fault` says what is wrong.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Protocol

from alpaca.trading.stream import TradingStream
from websockets.exceptions import WebSocketException

from brokers.alpaca.endpoints import Keys

_CLOSES_WITHIN_S = 0.5
_STREAM = "trade_updates"

_quiet = logging.getLogger("brokers.alpaca.websocket")
_quiet.setLevel(logging.CRITICAL)
logging.getLogger("alpaca.trading.stream").setLevel(logging.CRITICAL)


class Ear(Protocol):
    """Who is told what the stream says."""

    def take(self, text: str) -> None:
        """A message of the stream. What it raises drops the connection."""
        ...

    def heard(self) -> None:
        """The other side lives."""
        ...

    def listens(self) -> None:
        """The subscription is confirmed."""
        ...

    def lost(self, words: str) -> None:
        """The connection is gone."""
        ...


class DroppedError(WebSocketException):
    """This connection is not to be used any longer."""


class Listener(TradingStream):
    """One connection after the other, until `end`. `listen` is the thread; `end` and `drop` are for others."""

    def __init__(self, keys: Keys, url: str, ear: Ear, *, stale_after_s: float, backoff_s: tuple[float, float]) -> None:
        super().__init__(
            keys.key_id,
            keys.secret_key,
            raw_data=True,
            url_override=url,
            websocket_params={
                "logger": _quiet,
                "open_timeout": stale_after_s,
                "ping_interval": None,  # pings are sent here, so that a pong counts as heard
                "close_timeout": _CLOSES_WITHIN_S,
            },
        )
        self._ear = ear
        self._stale_after_s = stale_after_s
        self._reconnect_min_backoff, self._reconnect_max_backoff = backoff_s
        self._is_confirmed = False
        self._confirmed_by = 0.0
        self._is_over = False
        self._task: asyncio.Task[None] | None = None
        self.subscribe_trade_updates(_unused)  # alpaca-py connects once somebody has subscribed

    # -------------------------------------------------------------- from outside

    def listen(self) -> None:
        """Listen until `end`. Never raises: a thread has nobody to raise to."""
        try:
            self.run()
        except asyncio.CancelledError:
            self._ear.lost("stopped")
        except BaseException as fault:
            self._ear.lost(f"the stream's thread ended: {_words(fault)}")

    def end(self) -> None:
        """Close the connection and let `listen` return."""
        self._is_over = True
        self._from_outside(self._end())

    def drop(self) -> None:
        """Close the connection; a new one follows."""
        self._from_outside(self._drop())

    def _from_outside(self, work: Coroutine[object, object, None]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            work.close()
            return
        asyncio.run_coroutine_threadsafe(work, loop)

    async def _end(self) -> None:
        await self.stop_ws()
        with suppress(Exception):
            await asyncio.wait_for(self._drop(), _CLOSES_WITHIN_S)
        if self._task is not None:
            self._task.cancel()

    async def _drop(self) -> None:
        if self._ws is not None:
            await self._ws.close()

    # -------------------------------------------------------------- in the thread

    async def _run_forever(self) -> None:
        self._task = asyncio.current_task()
        if not self._is_over:
            await super()._run_forever()  # type: ignore[no-untyped-call]

    async def _start_ws(self) -> None:
        self._is_confirmed = False
        self._confirmed_by = asyncio.get_running_loop().time() + self._stale_after_s
        try:
            await asyncio.wait_for(super()._start_ws(), self._stale_after_s)  # type: ignore[no-untyped-call]
        except Exception as fault:
            self._ear.lost(f"Alpaca's order updates cannot be subscribed to: {_words(fault)}")
            raise

    async def _consume(self) -> None:
        try:
            while not self._is_over:
                frame = await self._frame()
                if frame is not None:
                    self._take(frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))
                if not self._is_confirmed and asyncio.get_running_loop().time() > self._confirmed_by:
                    raise DroppedError("the subscription was not confirmed")
        except WebSocketException as fault:
            self._ear.lost(f"Alpaca's order updates broke off: {_words(fault)}")
            raise
        except Exception as fault:
            self._ear.lost(f"Alpaca's order updates were dropped: {_words(fault)}")
            raise DroppedError(str(fault)) from fault

    async def _frame(self) -> str | bytes | None:
        """The next message, or None after a pong instead. Raises TimeoutError when neither comes."""
        socket, half = self._ws, self._stale_after_s / 2
        if socket is None:
            raise DroppedError("closed")
        with suppress(TimeoutError):
            return await asyncio.wait_for(socket.recv(), half)
        await asyncio.wait_for(await socket.ping(), half)
        self._data_received = True  # this connection lasts: the next attempt starts with the shortest wait again
        self._ear.heard()
        return None

    def _take(self, text: str) -> None:
        stream, data = _content(text)
        if stream == "listening":
            streams = data.get("streams")
            if not isinstance(streams, list) or _STREAM not in streams:
                raise DroppedError("Alpaca does not let this key listen to order updates")
            self._is_confirmed = True
            self._ear.listens()
        elif stream == "authorization":
            if data.get("status") != "authorized":
                raise DroppedError("Alpaca does not authorize this key")
        else:
            self._data_received = True
            self._ear.take(text)


def _content(text: str) -> tuple[str, dict[str, object]]:
    """Which stream a message is of, and its data; nothing of one that cannot be read."""
    try:
        message = json.loads(text)
    except ValueError:
        return "", {}
    data = message.get("data") if isinstance(message, dict) else None
    return (str(message.get("stream")), data) if isinstance(data, dict) else ("", {})


def _words(fault: BaseException) -> str:
    return "no answer in time" if isinstance(fault, TimeoutError) else f"{type(fault).__name__} {fault}".strip()


async def _unused(_message: object) -> None:
    """alpaca-py wants a handler; messages are taken before it would be called."""
