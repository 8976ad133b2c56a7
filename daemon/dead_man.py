"""A sign of life for somebody outside, who raises the alarm when it stops coming.

A machine that has lost power, network or disk tells nobody. So a service elsewhere is asked for one page every few
minutes, and its owner is told by that service when it was not. The sign is given only for a span in which the cycle
thread said that its looks succeed: a daemon that runs and can no longer look gives none.

The page's address is a secret, because whoever knows it can give the sign instead. It comes from where the keys come
from, and appears in no setting, log, message or database. It is asked for over TLS (or at this machine, to rehearse),
without redirects, by a thread of its own; nothing that becomes of it reaches the cycle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr

from daemon.errors import ConfigurationRefused
from daemon.settings.redaction import REDACTOR, secret_parts

log = structlog.get_logger("heartbeat")

CONNECT_S, READ_S = 5.0, 10.0
_HERE = ("127.0.0.1", "localhost", "::1")


class DeadMan:
    """Asks for the page every `every_s` seconds, from `start` to `stop`, while `alive` is called."""

    def __init__(self, url: SecretStr, every_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigurationRefused for an address that is neither https nor at this machine; never shows it."""
        self._url, self._every_s, self._monotonic = _required(url), every_s, monotonic
        self._alive_at: float | None = None
        self._said = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._fails = False

    def start(self) -> None:
        """Begin; the first sign follows the first `alive`."""
        self._thread.start()

    def alive(self) -> None:
        """The cycle thread got on, and its last look succeeded."""
        self._alive_at = self._monotonic()
        self._said.set()

    def stop(self, patience_s: float = 1.0) -> None:
        """End, without waiting for an answer that does not come."""
        self._ending.set()
        self._said.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        self._said.wait()
        while not self._ending.is_set():
            if self.is_due():
                self._tell(self._ask())
            self._ending.wait(self._every_s)

    def is_due(self) -> bool:
        """True when the cycle thread was alive within the last interval."""
        return self._alive_at is not None and self._monotonic() - self._alive_at <= self._every_s

    def _ask(self) -> str:
        """What went wrong, in words that do not hold the address; empty when nothing did."""
        import urllib3

        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        try:
            with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
                answer = pool.request("GET", self._url.get_secret_value(), redirect=False, preload_content=False)
                status = answer.status
                answer.close()
        except Exception as error:  # whatever a library raises would name the address
            return type(error).__name__
        return "" if 200 <= status < 300 else f"status {status}"

    def _tell(self, fault: str) -> None:
        if fault and not self._fails:
            log.warning("the sign of life did not get through; it is tried again", fault=fault, after_s=self._every_s)
        elif self._fails and not fault:
            log.info("the sign of life gets through again")
        self._fails = bool(fault)


def _required(url: SecretStr) -> SecretStr:
    """The address, when it may be used; what of it could be told apart is masked in every log from now on."""
    text = url.get_secret_value()
    try:
        found = urlsplit(text)
        here = found.scheme == "http" and found.hostname in _HERE
        usable = (found.scheme == "https" or here) and bool(found.hostname) and "@" not in found.netloc
        usable = usable and found.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isascii():
        raise ConfigurationRefused(
            "notifications.heartbeat_url_name: expected the secret of that name to be an address that begins with "
            "https, was something else. Put the address that your monitoring service shows there. Nothing was started."
        )
    for part in secret_parts(text):
        REDACTOR.register(part)
    return url
