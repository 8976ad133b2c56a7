"""What systemd is told: that the daemon is ready, how it stands, that it still gets on, that it is stopping.

systemd starts the daemon, restarts it, and kills it when it hangs. It only knows what it is told, over a datagram
socket that it names in $NOTIFY_SOCKET (sd_notify(3)); where it names none, nothing is said.

| said               | when                                                                                           |
|--------------------|------------------------------------------------------------------------------------------------|
| EXTEND_TIMEOUT     | before it is ready: each time the first load got on, and while something is waited for          |
| READY              | once every managed account has been looked at and reconciled                                    |
| STATUS             | after every look, for `systemctl status`                                                        |
| WATCHDOG           | after a beat of the cycle thread, once the database was written to and read from                |
| WATCHDOG in a look | after an exchange with the broker, for as long as one look may take                             |
| STOPPING           | as soon as a signal asks for the end; then EXTEND_TIMEOUT while the look in flight gets on      |

WATCHDOG comes from the cycle thread alone. A thread of its own would go on telling that all is well while the one that
trades hangs. A look that sends hundreds of orders takes minutes at the pace the broker allows, and one question can be
many requests. So within a look every HTTP exchange counts as getting on, whatever came of it; each has a time limit of
its own, 75 seconds at most with what it waits for, and the look as a whole has LONGEST_LOOK_S, after which nothing it
does counts any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from daemon.errors import ConfigurationRefused

if TYPE_CHECKING:
    from daemon.household import Watcher

log = structlog.get_logger("systemd")

PATIENCE_S = 300.0  # how long systemd is asked to wait for the next step of the start or of the end
LONGEST_LOOK_S = 1800.0  # a look that takes longer hangs: 500 orders and their cancels take less than 10 minutes
LEAST_GAP_S = 5.0  # between two things said of exchanges; with it, 75 seconds of silence are less than 90
WITHIN = 3  # a third of the time that systemd grants passes between two pings


class Supervisor:
    """The service manager, or nobody. Methods may be called from any thread, those about the watchdog from the cycle
    thread alone. None of them raises: a service manager that does not listen keeps nothing from being done."""

    def __init__(
        self, address: str | None, watchdog_s: float | None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`address` as in $NOTIFY_SOCKET, None for nobody; `watchdog_s` seconds without a ping are too many."""
        self._address = address
        self._every_s = watchdog_s / WITHIN if watchdog_s else None
        self._monotonic = monotonic
        self._told_at: float | None = None  # that an exchange was over
        self._looking_since: float | None = None
        self._is_ready = self._is_stopping = self._is_deaf = False
        self.on_life: Callable[[], None] = lambda: None  # told within a look, when the supervisor would be

    @classmethod
    def of(cls, environ: Mapping[str, str], monotonic: Callable[[], float] = time.monotonic) -> Supervisor:
        """Whoever $NOTIFY_SOCKET and $WATCHDOG_USEC name. Raises ConfigurationRefused when they cannot be read."""
        address = environ.get("NOTIFY_SOCKET") or None
        if address is not None and address[0] not in "/@":
            raise ConfigurationRefused(f'NOTIFY_SOCKET: expected a path or a name after "@", was "{address}".')
        given, meant_for = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if not given or (meant_for and meant_for != str(os.getpid())):
            return cls(address, None, monotonic)
        if not given.isdecimal() or int(given) == 0:
            raise ConfigurationRefused(f'WATCHDOG_USEC: expected a number of microseconds, was "{given}".')
        return cls(address, int(given) / 1_000_000, monotonic)

    @property
    def is_there(self) -> bool:
        """True when there is somebody to tell."""
        return self._address is not None

    @property
    def ping_every_s(self) -> float | None:
        """Seconds from one ping to the next; None where nobody waits for pings."""
        return self._every_s if self.is_there else None

    # -------------------------------------------------------------- start and end

    def starting(self, status: str, patience_s: float = PATIENCE_S) -> None:
        """The start got on; wait so many seconds for the next step."""
        if not self._is_ready:
            self._say(EXTEND_TIMEOUT_USEC=int(patience_s * 1e6), STATUS=status)

    def ready(self) -> None:
        """Every account has been reconciled. Said once."""
        if not self._is_ready:
            self._is_ready = True
            self._say(READY=1)

    def status(self, text: str) -> None:
        """How things stand, in a line."""
        self._say(STATUS=text)

    def stopping(self) -> None:
        """The end was asked for. Said once."""
        if not self._is_stopping:
            self._is_stopping = True
            self._say(STOPPING=1, STATUS="stopping: the step in flight ends, nothing new begins")

    # -------------------------------------------------------------- the watchdog

    def alive(self) -> None:
        """A beat was done and the database answered."""
        if self._every_s is not None:
            self._say(WATCHDOG=1)

    @contextmanager
    def look(self) -> Iterator[None]:
        """A look at the broker takes as long as the block lasts."""
        self._looking_since = self._monotonic()
        try:
            yield
        finally:
            self._looking_since = None

    def answered(self) -> None:
        """An exchange with the broker is over. While the daemon starts, and within a look for as long as one may take,
        that is getting on."""
        now, since = self._monotonic(), self._looking_since
        gets_on = not self._is_ready if since is None else now - since <= LONGEST_LOOK_S
        if not gets_on or (self._told_at is not None and now - self._told_at < LEAST_GAP_S):
            return
        self._told_at = now
        if self._is_stopping or not self._is_ready:
            self._say(EXTEND_TIMEOUT_USEC=int(PATIENCE_S * 1e6))
        else:
            self.alive()
        if since is not None:
            self.on_life()

    # -------------------------------------------------------------- the socket

    def _say(self, **words: object) -> None:
        if self._address is None:
            return
        name = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        message = "\n".join(f"{key}={_one_line(value)}" for key, value in words.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)  # a full queue must not hold the cycle thread up
                sender.sendto(message.encode(), name)
        except OSError as error:
            if not self._is_deaf:
                log.warning("the service manager does not listen", error=error.strerror or type(error).__name__)
            self._is_deaf = True
        else:
            self._is_deaf = False


def _one_line(value: object) -> str:
    return " ".join(str(value).split())


# ------------------------------------------------------------------ who tells it what


class EndAsked(Exception):  # noqa: N818
    """The end was asked for while a household was being opened; what was loaded so far is kept."""


class Announced:
    """A watcher of the first load that tells the supervisor too; from then on, a listener to the broker's answers."""

    def __init__(self, watcher: Watcher, supervisor: Supervisor, is_ending: Callable[[], bool] = lambda: False) -> None:
        self._watcher, self._supervisor, self._is_ending = watcher, supervisor, is_ending

    def step(self, text: str) -> None:
        """Something begins. Raises EndAsked instead of letting it, when the end was asked for."""
        self._say(text)
        self._watcher.step(text)

    def progress(self, done: int, total: int, text: str) -> None:
        """Part of it is done. Raises EndAsked when the rest is not wanted any more."""
        self._say(f"{text}, {done} of {total}")
        self._watcher.progress(done, total, text)

    def answered(self) -> None:
        """An exchange with the broker is over."""
        self._supervisor.answered()

    def _say(self, text: str) -> None:
        if self._is_ending():
            raise EndAsked
        self._supervisor.starting(f"starting: {text}")
