"""Secrets never reach a log, a message or the database: names that hold them, and values that are them.

Two nets, because each has holes. By name: whatever stands under `api_key`, `password` and the like is masked unread.
By value: every secret that harvestd reads is registered, and masked wherever its text turns up, in the forms in which
libraries repeat it (JSON, URL, basic authorization). An address that is a secret is repeated in parts, of which those
are masked that look drawn by lot: a word of the address that is masked everywhere would make the log unreadable.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from threading import Lock
from urllib.parse import quote, urlsplit

MASK = "***"
SHORTEST_SECRET = 4  # masking every occurrence of shorter text would make logs unreadable

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SECRET_WORDS = frozenset(
    ("secret", "secrets", "password", "passwd", "passphrase", "pwd", "token", "tokens", "apikey")
).union(("authorization", "bearer", "cookie", "credential"))
_KEY_OWNERS = frozenset(["api", "access", "private", "secret", "encryption", "signing"])
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}")
_DRAWN = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+._~-]{6,}")
_LETTERS_DRAWN = re.compile(r"(?=.*[a-z])(?=.*[A-Z])[A-Za-z]{12,}")
_NUMBERED_WORDS = re.compile(r"[a-z]{2,}([-_.][a-z]{2,})*[-_.]?\d{1,3}")  # paper-2, us-east-1
_LOOKS_LIKE_KEY = re.compile(r"(?=[A-Za-z0-9+/=_-]*\d)(?=[A-Za-z0-9+/=_-]*[A-Za-z])[A-Za-z0-9+/=_-]{20,}")


def names_a_secret(key: str) -> bool:
    """True for names under which secrets are usually kept: api_key, APCA-API-SECRET-KEY, accessToken, password."""
    words = [word.lower() for word in _WORDS.findall(key)]
    return not _SECRET_WORDS.isdisjoint(words) or any(
        (one in _KEY_OWNERS and two == "key") or (one, two) == ("key", "id") for one, two in pairwise(words)
    )


def looks_like_a_secret(text: str) -> bool:
    """True for text such as a key pasted into the wrong place: 20 or more letters and digits without a space."""
    return _LOOKS_LIKE_KEY.fullmatch(text.strip()) is not None


def secret_parts(address: str) -> Iterator[str]:
    """The parts of a secret address that look drawn by lot: of its path, its query and the labels of its host.

    A UUID, 20 or more letters and digits, 6 or more with letters and digits mixed, 12 or more letters of both cases.
    Words are none (`harvestd`), nor are words with a short number (`paper-2`). Raises ValueError when it is no address.
    """
    found = urlsplit(address)
    parts = re.split(r"[/?&=#]+", f"{found.path}?{found.query}?{found.fragment}")
    yield from filter(_is_drawn, (*parts, *re.split(r"[.:]", found.netloc)))


def _is_drawn(part: str) -> bool:
    if _NUMBERED_WORDS.fullmatch(part):
        return False
    return any(one.fullmatch(part) for one in (_UUID, _LOOKS_LIKE_KEY, _DRAWN, _LETTERS_DRAWN))


class Redactor:
    """Masks the secrets registered with it wherever they appear in text."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._lock = Lock()

    def register(self, secret: str) -> None:
        """Mask this text from now on."""
        if len(secret) < SHORTEST_SECRET:
            return
        raw = secret.encode("utf-8", errors="surrogatepass")
        forms = {
            secret,
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            quote(secret, safe="", errors="replace"),
            base64.b64encode(raw).decode("ascii").rstrip("="),
        }
        with self._lock:
            self._secrets |= forms
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(form) for form in longest_first))

    def redact(self, text: str) -> str:
        """The text with every registered secret masked."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)


REDACTOR = Redactor()  # one a process: a secret read anywhere is masked everywhere
