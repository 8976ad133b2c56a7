"""Where requests may go, and the keys that open it.

Three places and no others: Alpaca's paper account, Alpaca's live account, and a stand-in for Alpaca on this machine.
An address that is none of these is refused when it is written down, before any key is near it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_DATA = "https://data.alpaca.markets"
_PAPER = ("https://paper-api.alpaca.markets", _DATA, "wss://paper-api.alpaca.markets/stream")
_LIVE = ("https://api.alpaca.markets", _DATA, "wss://api.alpaca.markets/stream")
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs without a trailing slash: `trading` and `data` for requests, `stream` for order updates.

    Raises ValueError when they are not those of the paper account, of the live account, or of this machine.
    """

    trading: str
    data: str
    stream: str

    def __post_init__(self) -> None:
        urls = (self.trading, self.data, self.stream)
        if urls not in (_PAPER, _LIVE) and urls != _loopback(self.trading):
            raise ValueError(f"Expected the addresses of one Alpaca account or of this machine, was {', '.join(urls)}")

    @classmethod
    def paper(cls) -> Endpoints:
        """Alpaca's paper trading: real prices, no money."""
        return cls(*_PAPER)

    @classmethod
    def live(cls) -> Endpoints:
        """The account with the money in it."""
        return cls(*_LIVE)

    @classmethod
    def loopback(cls, url: str) -> Endpoints:
        """A stand-in for Alpaca, as `http://127.0.0.1:PORT`, `http://[::1]:PORT` or `http://localhost:PORT`.

        Raises ValueError on any other address.
        """
        return cls(*_loopback(url.removesuffix("/")))

    @property
    def is_live(self) -> bool:
        """True when orders sent there are real."""
        return self.trading == _LIVE[0]


def _loopback(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    if host not in _LOOPBACK_HOSTS or parts.port is None or url != f"http://{bracketed}:{parts.port}":
        raise ValueError(
            "Expected the address of a stand-in for Alpaca on this machine, http://127.0.0.1:PORT, http://[::1]:PORT "
            f"or http://localhost:PORT, was {url!r}"
        )
    return url, url, f"ws://{bracketed}:{parts.port}/stream"


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """An API key and its secret. Printing them shows neither. Raises ValueError when one is empty."""

    key_id: str
    secret_key: str

    def __post_init__(self) -> None:
        if not self.key_id or not self.secret_key:
            raise ValueError("Expected an API key id and its secret key, one of them is empty")

    def __repr__(self) -> str:
        return "Keys(***)"

    def masked(self, text: str) -> str:
        """The text with both keys made unreadable: what a server says may repeat what it was sent."""
        return text.replace(self.secret_key, "***").replace(self.key_id, "***")
