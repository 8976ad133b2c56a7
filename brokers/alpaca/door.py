"""The door between alpaca-py and the network: what may leave, how long is waited, and how answers are read.

It is a requests adapter, the last code before the socket, so nothing above it can go round it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import HTTPError, InvalidJSONError
from urllib3.response import BaseHTTPResponse

from brokers.alpaca.budget import RateBudget
from brokers.alpaca.endpoints import Keys


class ForbiddenRequestError(Exception):
    """A request that this connection must never make was about to leave. A mistake in this program; nothing left."""


class ExactResponse(Response):
    """An answer whose JSON numbers are exact, whose redirects are errors, and that repeats no key it was sent."""

    secrets: tuple[bytes, ...] = ()

    @property
    def content(self) -> bytes:
        """The body with keys made unreadable, before anything is cut out of it."""
        body = super().content or b""
        for secret in self.secrets:
            body = body.replace(secret, b"***")
        return body

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
    """Lets `methods` to `host` through, with (connect, read) time-outs in seconds, never twice."""

    def __init__(
        self, host: str, methods: frozenset[str], timeouts: tuple[float, float], budget: RateBudget, keys: Keys
    ) -> None:
        super().__init__(max_retries=0)
        self._host, self._methods, self._timeouts, self._budget = host, methods, timeouts, budget
        self._secrets = (keys.secret_key.encode(), keys.key_id.encode())

    def send(self, request: PreparedRequest, **settings: Any) -> Response:  # type: ignore[override]
        """One request. Raises ForbiddenRequestError before anything leaves, else what requests raises."""
        if request.method not in self._methods or not (request.url or "").startswith(f"{self._host}/"):
            raise ForbiddenRequestError(
                f"Expected {' or '.join(sorted(self._methods))} to {self._host}, was {request.method} {request.url}"
            )
        response = super().send(request, **{**settings, "timeout": self._timeouts, "proxies": None})
        limit, left = (_whole(response, f"X-Ratelimit-{name}") for name in ("Limit", "Remaining"))
        self._budget.hear(limit, left, next_minute_s(response.headers))
        return response

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """The answer, to be read exactly. JSON is UTF-8, whatever the headers leave out."""
        response = super().build_response(req, resp)
        response.encoding = "utf-8"
        exact = ExactResponse()
        exact.__dict__.update(response.__dict__)
        exact.secrets = self._secrets
        return exact
