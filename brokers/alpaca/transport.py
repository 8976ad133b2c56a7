"""One alpaca-py client made safe.

What alpaca-py does by itself, and what is done about it here and in `door.py`:

| alpaca-py 0.44                                        | here                                                    |
|-------------------------------------------------------|---------------------------------------------------------|
| sends a POST again after 429 and 504, three times     | its retries are off; `read` tries reads again           |
| no time-out: a stalled server blocks for ever         | each exchange has an end, and so has a whole question   |
| proxies, .netrc and certificates from the environment | not looked at: keys go to one host                      |
| a 3xx answer counts as success                        | an error, not followed                                  |
| JSON numbers become floats                            | become Decimal                                          |
| any verb to any URL                                   | the named verbs to one host leave; anything else raises |

What a failed read becomes: BrokerUnavailable, after three tries with jitter where the connection broke, timed out, or
answered 429 or 5xx; NotAuthorized for a refused key. A cancel is tried again like a read, for cancelling twice is
cancelling once. A POST leaves exactly once. Of an answer that cannot be read, length and hash are told.

How long a caller can be kept, in seconds; what reads page after page asks one such question for each:

| what                                     | at most                                                                |
|------------------------------------------|------------------------------------------------------------------------|
| one exchange, `timeouts[1]`              | 20, whether the server hangs, drips, or never reads                    |
| a question or cancel, with all its tries | `within_s`: 28 of the trading service, 75 of market data, where a load |
| and its waits for a place in the budget  | of history waits for the next minute's calls                           |
| an order                                 | 20, and a question before it when the broker's clock was not asked for |
|                                          | a minute                                                               |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

from brokers.alpaca.budget import RateBudget
from brokers.alpaca.endpoints import Keys
from brokers.errors import BrokerUnavailable, NotAuthorized

if TYPE_CHECKING:
    from alpaca.common.exceptions import APIError
    from alpaca.common.rest import RESTClient

    from brokers.alpaca.door import Door

Json = object

ATTEMPTS = 3  # of a read
_FIRST_WAIT_S, _JITTER_S, _LONGEST_WAIT_S = 0.2, 0.5, 2.0
_LEAST_EXCHANGE_S = 3.0  # with less left of a question, it is not asked once more
_UNSAID_PAUSE_S = 5.0  # after a 429 that does not say until when


class NotFound(BrokerUnavailable):
    """Alpaca says that it has no such thing. Whoever asked for one thing takes it as the answer."""


class BadRequest(BrokerUnavailable):
    """Alpaca cannot read the question (400). Whoever asked about many symbols leaves out the one it names."""


class Unprocessable(BrokerUnavailable):
    """Alpaca understood and will not do it (422). Whoever cancels looks the order up."""


class _Passing(BrokerUnavailable):
    """A read failed in a way that may pass within seconds."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 2xx: its status, and its body where that is a JSON object, else that body's `mark`."""

    status: int
    body: Mapping[str, object] | None
    mark: str = ""

    @property
    def message(self) -> str:
        """The words of the body; empty without any."""
        said = (self.body or {}).get("message")
        return said if isinstance(said, str) else ""

    def __str__(self) -> str:
        if self.message or not self.mark:
            return f"{self.status} {self.message or 'without words'}"
        return f"{self.status} without words ({self.mark})"


class Wire:
    """The connection to one host. `make` builds the alpaca-py client when the first request is made.

    `methods` are the verbs that may leave; `timeouts` are the seconds for (connecting, the whole exchange); a question
    is given up after `within_s`, its tries and its waits for a place in the budget included. `exchanged` is called
    after each exchange, whatever became of it.
    """

    def __init__(
        self,
        make: Callable[[], RESTClient],
        host: str,
        keys: Keys,
        budget: RateBudget,
        *,
        timeouts: tuple[float, float],
        within_s: float,
        monotonic: Callable[[], float],
        methods: frozenset[str] = frozenset({"GET"}),
        exchanged: Callable[[], None] = lambda: None,
    ) -> None:
        self._make, self._host, self._keys, self.budget = make, host, keys, budget
        self._monotonic = monotonic
        self.asked_at = monotonic()  # when the last question left, after whatever it had to wait for
        self._timeouts, self._within_s, self._methods = timeouts, within_s, methods
        self._exchanged = exchanged
        self._ends_at = 0.0  # when the question that is being asked is given up
        self._made: RESTClient | None = None
        self._door: Door | None = None

    @property
    def client(self) -> RESTClient:
        """The alpaca-py client, made safe."""
        if self._made is None:
            self._made = self._made_safe(self._make())
        return self._made

    def _made_safe(self, client: RESTClient) -> RESTClient:
        from brokers.alpaca.door import Door

        client._retry = 0
        client._retry_codes = []
        session = client._session
        session.trust_env = False
        session.adapters.clear()
        self._door = Door(
            self._host, self._methods, self._timeouts[0], self._left, self.budget, self._keys, self._exchanged
        )
        session.mount(f"{self._host}/", self._door)
        return client

    def _left(self) -> float:
        """Seconds that the exchange which begins now may take."""
        return min(self._timeouts[1], self._ends_at - self._monotonic())

    @property
    def mark(self) -> str:
        """Length and hash of the last answer's body, as far as it came; empty when none began."""
        return "" if self._door is None else self._door.mark

    def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        if self._made is not None:
            self._made._session.close()
            self._made = None

    # -------------------------------------------------------------- what may be asked twice

    def read(self, path: str, params: Mapping[str, str] | None = None, *, reserved: bool = False) -> Json:
        """The JSON of a GET. Raises BrokerUnavailable, NotFound, NotAuthorized."""
        return self._asked(lambda client: client.get(path, dict(params or {})), path, reserved=reserved)

    def delete(self, path: str) -> Json:
        """The JSON of a DELETE, None without any. Raises as `read` does, and Unprocessable; draws on the reserve."""
        return self._asked(lambda client: client.delete(path), path, reserved=True)

    def _asked(self, ask: Callable[[RESTClient], Json], path: str, *, reserved: bool) -> Json:
        import stamina

        self._ends_at = self._monotonic() + self._within_s
        for attempt in stamina.retry_context(
            on=_Passing,
            attempts=ATTEMPTS,
            timeout=None,
            wait_initial=_FIRST_WAIT_S,
            wait_jitter=_JITTER_S,
            wait_max=_LONGEST_WAIT_S,
        ):
            with attempt:
                self.budget.take(patience_s=self._ahead(), reserved=reserved)
                return self._asked_once(ask, path)
        raise AssertionError("stamina raises what the last attempt raised")

    def _asked_once(self, ask: Callable[[RESTClient], Json], path: str) -> Json:
        from alpaca.common.exceptions import APIError
        from requests.exceptions import InvalidJSONError, RequestException

        client = self.client
        self.asked_at = self._monotonic()
        try:
            return ask(client)
        except InvalidJSONError as fault:
            words = self._keys.masked(str(fault))
            raise BrokerUnavailable(f"Alpaca's answer to {path} is not JSON ({self.mark}): {words}") from None
        except RequestException as fault:
            raise self._may_pass(f"Alpaca did not answer {path}: {self.in_words(fault)}") from None
        except APIError as fault:
            self._refused(self.refusal(fault), path)

    def _ahead(self) -> float:
        """Seconds until it is too late to ask once more."""
        return self._ends_at - _LEAST_EXCHANGE_S - self._monotonic()

    def _may_pass(self, words: str) -> BrokerUnavailable:
        return _Passing(words) if self._ahead() > 0 else BrokerUnavailable(words)

    def _refused(self, refusal: Refusal, path: str) -> NoReturn:
        if refusal.status == 429 or refusal.status >= 500:
            raise self._may_pass(f"Alpaca could not answer {path}: {refusal}") from None
        if refusal.status == 404 and refusal.message:
            raise NotFound(f"Alpaca has nothing at {path}: {refusal}") from None
        if refusal.status == 400:
            raise BadRequest(f"Alpaca cannot read what {path} was asked: {refusal}") from None
        if refusal.status == 422:
            raise Unprocessable(f"Alpaca will not do {path}: {refusal}") from None
        if "subscription" in refusal.message:
            raise BrokerUnavailable(
                f"Alpaca refused {path}: {refusal}. The market data plan does not include it; choose another feed."
            ) from None
        if refusal.status == 401 or (refusal.status == 403 and refusal.message):
            raise NotAuthorized(f"Alpaca refused {path}: {refusal}. Check the API key and its secret.") from None
        raise BrokerUnavailable(f"Alpaca refused {path}: {refusal}") from None

    # -------------------------------------------------------------- what leaves once

    def post(self, path: str, data: Mapping[str, str]) -> Json:
        """The JSON of a POST that leaves exactly once. Draws nothing from the budget.

        Raises whatever alpaca-py and requests raise: only the caller knows what each means for what was sent.
        """
        client = self.client
        self._ends_at = self._monotonic() + self._timeouts[1]
        return client.post(path, dict(data))

    def refusal(self, fault: APIError) -> Refusal:
        """What an error answer says, keys masked. A 429 closes the budget until it is over."""
        response = fault.response
        if response.status_code == 429:
            self.budget.close(_pause_s(response.headers))
        try:
            body = json.loads(self._keys.masked(response.text), parse_float=Decimal)
        except ValueError:
            body = None
        return Refusal(response.status_code, body if isinstance(body, dict) else None, self.mark)

    def in_words(self, fault: Exception) -> str:
        """What became of a request that got no answer, or none that can be read."""
        return f"{_in_words(fault)} ({self.mark})" if self.mark else _in_words(fault)


def _in_words(fault: Exception) -> str:
    from requests.exceptions import ChunkedEncodingError, ConnectTimeout, InvalidJSONError, ReadTimeout

    if isinstance(fault, InvalidJSONError):
        return "the answer is not JSON"
    if isinstance(fault, ConnectTimeout):
        return "no connection in time"
    if isinstance(fault, ReadTimeout):
        return "no answer in time"
    if isinstance(fault, ChunkedEncodingError):
        return "the answer broke off"
    return f"the connection failed ({type(fault).__name__})"


def _pause_s(headers: Mapping[str, str]) -> float:
    """Seconds until a 429 is over, as far as it says."""
    from brokers.alpaca.door import next_minute_s

    retry_after = headers.get("Retry-After", "")
    if retry_after.isdecimal():
        return float(retry_after)
    until_reset = next_minute_s(headers)
    return _UNSAID_PAUSE_S if until_reset is None else until_reset
