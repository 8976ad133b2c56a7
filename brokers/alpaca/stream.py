"""Order updates, stored raw before anything else is done with them.

The problem. Alpaca tells an update once; a connection that was away for a second has lost it for good. alpaca-py 0.44
reconnects, but it waits for ever on a server that accepts the connection and then says nothing, does not tell when it
has subscribed, and goes on over the same connection after its caller could not store what it was given. So:

| what happens                                            | what is done                                             |
|---------------------------------------------------------|----------------------------------------------------------|
| a message of the stream, readable or not                | its text goes to `store_raw`; then `wake` is set         |
| `store_raw` raises                                      | dropped: whoever looks after the reconnect learns by     |
|                                                         | REST what was not stored                                 |
| Alpaca confirms that it listens                         | `connection` counts one more, `wake` is set              |
| no answer to the handshake, no confirmation, no pong    | dropped after `stale_after_s`                            |
| somebody learned by REST what should have been told     | `suspect()`: dropped                                     |
| here                                                    |                                                          |
| dropped, refused, unreachable                           | connected again after a while, longer each time,         |
|                                                         | jittered                                                 |

A socket that answers pings and tells nothing looks healthy from here; only `suspect` finds it. Times are real time: a
socket does not live on a simulated clock. The thread touches nothing but `store_raw` and what is shown below.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from brokers.alpaca.endpoints import Endpoints, Keys

if TYPE_CHECKING:
    from brokers.alpaca.listener import Listener

_STOPS_WITHIN_S = 10.0


class TradeUpdates:
    """The stream of one account's order updates, in a thread of its own.

    `store_raw` is called in that thread with the text of each message, and must have made it durable when it returns.
    `backoff_s` is (shortest, longest) between two attempts to connect.
    """

    def __init__(
        self,
        keys: Keys,
        endpoints: Endpoints,
        store_raw: Callable[[str], None],
        *,
        stale_after_s: float = 30.0,
        backoff_s: tuple[float, float] = (1.0, 30.0),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wake = threading.Event()
        self.connection = 0
        self.fault = ""
        self.last_heard = monotonic()
        self.is_listening = False
        self._keys, self._endpoints, self._store_raw = keys, endpoints, store_raw
        self._stale_after_s, self._backoff_s, self._monotonic = stale_after_s, backoff_s, monotonic
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    # -------------------------------------------------------------- what the caller may do

    def start(self) -> None:
        """Begin to listen; returns at once. A second start changes nothing."""
        if self._thread is not None:
            return
        from brokers.alpaca.listener import Listener

        self._listener = Listener(
            self._keys, self._endpoints.stream, self, stale_after_s=self._stale_after_s, backoff_s=self._backoff_s
        )
        self._thread = threading.Thread(target=self._listener.listen, name="trade_updates", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread to end, ten seconds at most."""
        if self._listener is not None and self._thread is not None:
            self._listener.end()
            self._thread.join(_STOPS_WITHIN_S)
            self._listener = self._thread = None
        self.is_listening = False

    def suspect(self) -> None:
        """An order changed and this stream did not tell: connect again. Not listening from this moment on."""
        self.lost("an order changed that the stream did not tell of")
        if self._listener is not None:
            self._listener.drop()

    # -------------------------------------------------------------- what the stream's thread does

    def take(self, text: str) -> None:
        """Store one message. Raises what `store_raw` raises."""
        self.heard()
        self._store_raw(text)
        self.wake.set()

    def heard(self) -> None:
        """The other side lives."""
        self.last_heard = self._monotonic()

    def listens(self) -> None:
        """Alpaca has confirmed the subscription: from now on everything is told."""
        self.heard()
        self.connection += 1
        self.fault = ""
        self.is_listening = True
        self.wake.set()

    def lost(self, words: str) -> None:
        """The connection is gone, or must go."""
        self.is_listening = False
        self.fault = self._keys.masked(words)
