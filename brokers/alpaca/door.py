"""The door between alpaca-py and the network: what may leave, how long is waited, and how answers are read.

It is a requests adapter, the last code before the socket, so nothing above it can go round it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, HTTPError, InvalidJSONError, ReadTimeout
from urllib3.exceptions import DecodeError, ReadTimeoutError
from urllib3.exceptions import HTTPError as BrokenOff
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from brokers.alpaca.budget import RateBudget
from brokers.alpaca.deadline import POOLS
from brokers.alpaca.endpoints import Keys

_PIECE = 1 << 16  # bytes read at once
_SHOWN = 16  # hexadecimal digits of a body's hash


class ForbiddenRequestError(Exception):
    """A request that this connection must never make was about to leave. A mistake in this program; nothing left."""


class ExactResponse(Response):
    """An answer whose JSON numbers are exact, whose redirects are errors, and that repeats no key it was sent."""

    secrets: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self._received = b""
        self._is_read = False

    @property
    def content(self) -> bytes:
        """The body with keys made unreadable, before anything is cut out of it. Raises ReadTimeout,
        ChunkedEncodingError, ContentDecodingError when it does not arrive whole."""
        if not self._is_read:
            self._is_read = self._content_consumed = True
            self._read()
        body = self._received
        for secret in self.secrets:
            body = body.replace(secret, b"***")
        return body

    def _read(self) -> None:
        """What came is kept also when the rest does not come: its hash tells two broken answers apart."""
        try:
            while piece := self.raw.read1(_PIECE):
                self._received += piece
        except ReadTimeoutError as fault:
            raise ReadTimeout(fault, response=self) from None
        except DecodeError as fault:
            raise ContentDecodingError(fault, response=self) from None
        except BrokenOff as fault:
            raise ChunkedEncodingError(fault, response=self) from None

    @property
    def mark(self) -> str:
        """How long the body is as far as it came, and the beginning of its SHA-256: the body itself is not told."""
        return f"{len(self._received)} bytes, sha256 {hashlib.sha256(self._received).hexdigest()[:_SHOWN]}"

    def json(self, **_unused: object) -> object:
        """The body, numbers with a decimal point as Decimal. Raises InvalidJSONError on anything that is not JSON."""
        try:
            return json.loads(self.content, parse_float=Decimal, parse_constant=_no_number)
        except ValueError as fault:
            begins = self.content[:60].decode("utf-8", "replace")
            raise InvalidJSONError(f"{fault}; it begins {begins!r}", response=self) from None

    def raise_for_status(self) -> None:
        """Raises HTTPError on 3xx too: Alpaca redirects nothing, so whoever does is not Alpaca."""
        if 300 <= self.status_code < 400:
            raise HTTPError(f"{self.status_code}: redirects are not followed", response=self)
        super().raise_for_status()


def next_minute_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until X-Ratelimit-Reset (an epoch second) by the server's own clock; None where it tells only one."""
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
        return int(headers.get("X-Ratelimit-Reset", "")) - now
    except ValueError:
        return None


def _whole(response: Response, header: str) -> int | None:
    said = response.headers.get(header, "")
    return int(said) if said.isdecimal() else None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


class Door(HTTPAdapter):
    """Lets `methods` to `host` through, never twice; `connect_s` to connect, `left` says the seconds of the whole.

    `exchanged` is called after each exchange, whatever became of it.
    """

    def __init__(
        self,
        host: str,
        methods: frozenset[str],
        connect_s: float,
        left: Callable[[], float],
        budget: RateBudget,
        keys: Keys,
        exchanged: Callable[[], None],
    ) -> None:
        super().__init__(max_retries=0)
        self._host, self._methods, self._connect_s, self._left, self._budget = host, methods, connect_s, left, budget
        self._exchanged = exchanged
        self._secrets = (keys.secret_key.encode(), keys.key_id.encode())
        self.mark = ""  # of the last answer's body; empty when none began

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        """Connections whose exchanges are over in time."""
        super().init_poolmanager(*sizes, **options)
        self.poolmanager.pool_classes_by_scheme = dict(POOLS)

    def send(self, request: PreparedRequest, **settings: Any) -> Response:  # type: ignore[override]
        """One request. Raises ForbiddenRequestError before anything leaves, else what requests raises."""
        if request.method not in self._methods or not (request.url or "").startswith(f"{self._host}/"):
            raise ForbiddenRequestError(
                f"Expected {' or '.join(sorted(self._methods))} to {self._host}, was {request.method} {request.url}"
            )
        self.mark = ""
        try:
            return self._exchange(request, settings)
        finally:
            self._exchanged()

    def _exchange(self, request: PreparedRequest, settings: Mapping[str, Any]) -> Response:
        seconds = self._left()
        timeout = Timeout(connect=min(self._connect_s, seconds), total=seconds)
        response = super().send(request, **{**settings, "timeout": timeout, "proxies": None})
        assert isinstance(response, ExactResponse)
        limit, left = (_whole(response, f"X-Ratelimit-{name}") for name in ("Limit", "Remaining"))
        self._budget.hear(limit, left, next_minute_s(response.headers))
        try:
            _ = response.content
        finally:
            self.mark = response.mark
        return response

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """The answer, to be read exactly. JSON is UTF-8, whatever the headers leave out."""
        resp.decode_content = True  # of gzip; requests has it done piece by piece instead
        response = super().build_response(req, resp)
        response.encoding = "utf-8"
        exact = ExactResponse()
        exact.__dict__.update(response.__dict__)
        exact.secrets = self._secrets
        return exact
