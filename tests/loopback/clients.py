"""The real alpaca-py on a loopback server: without its own retries, with quick reconnects, its streams collected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.live import StockDataStream
from alpaca.trading.client import TradingClient
from alpaca.trading.stream import TradingStream

from brokers.simulated import SimulatedVenue
from loopback.server import LoopbackAlpaca

KEY_ID, SECRET_KEY = "PKTEST", "test-secret"


@contextmanager
def serving(venue: SimulatedVenue, **options: Any) -> Iterator[LoopbackAlpaca]:
    """A server over the venue, whose answers must all conform; the venue is closed at the end."""
    with LoopbackAlpaca(venue, key_id=KEY_ID, secret_key=SECRET_KEY, validate=True, **options) as server:
        yield server
    venue.close()
    assert server.violations == []


def trading_client(server: LoopbackAlpaca, *, raw: bool = True) -> TradingClient:
    """TradingClient, which by itself would send an order again after a 429 or a 504."""
    client = TradingClient(KEY_ID, SECRET_KEY, url_override=server.url, raw_data=raw)
    client._retry = 0
    return client


def data_client(server: LoopbackAlpaca, *, raw: bool = True) -> StockHistoricalDataClient:
    """StockHistoricalDataClient, without retries."""
    client = StockHistoricalDataClient(KEY_ID, SECRET_KEY, url_override=server.url, raw_data=raw)
    client._retry = 0
    return client


def actions_client(server: LoopbackAlpaca, *, raw: bool = True) -> CorporateActionsClient:
    """CorporateActionsClient, without retries."""
    client = CorporateActionsClient(KEY_ID, SECRET_KEY, url_override=server.url, raw_data=raw)
    client._retry = 0
    return client


class Listener:
    """A stream of alpaca-py in a thread of its own, and what it has handed over so far."""

    def __init__(self, stream: TradingStream | StockDataStream) -> None:
        self.stream = stream
        self.messages: list[Any] = []
        self._changed = threading.Condition()
        stream._reconnect_min_backoff = stream._reconnect_max_backoff = 0.02

    async def take(self, message: Any) -> None:
        """The handler given to alpaca-py."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait(self, is_enough: Callable[[list[Any]], bool], timeout_s: float = 5.0) -> list[Any]:
        """The messages, once they are enough. Raises TimeoutError when they do not become so."""
        with self._changed:
            if not self._changed.wait_for(lambda: is_enough(self.messages), timeout_s):
                raise TimeoutError(f"Expected more messages within {timeout_s} s, was {self.messages}")
            return list(self.messages)

    def __enter__(self) -> Self:
        threading.Thread(target=self.stream.run, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask the stream to end; it does when its connection next says something or ends."""
        self.stream._should_run = False


def trade_listener(server: LoopbackAlpaca, *, raw: bool = True, **websocket_params: float) -> Listener:
    """TradingStream subscribed to trade updates."""
    stream = TradingStream(
        KEY_ID, SECRET_KEY, url_override=server.stream_url, raw_data=raw, websocket_params=websocket_params or None
    )
    listener = Listener(stream)
    stream.subscribe_trade_updates(listener.take)
    return listener


def data_listener(server: LoopbackAlpaca, *symbols: str, raw: bool = True) -> Listener:
    """StockDataStream subscribed to the symbols' quotes, daily bars and trading statuses."""
    stream = StockDataStream(KEY_ID, SECRET_KEY, raw_data=raw, url_override=server.data_stream_url)
    listener = Listener(stream)
    for subscribe in (stream.subscribe_quotes, stream.subscribe_daily_bars, stream.subscribe_trading_statuses):
        subscribe(listener.take, *symbols)
    return listener
