"""Where requests may go, and that printing keys shows nothing."""

from __future__ import annotations

import copy
import traceback

import pytest

from brokers.alpaca import Endpoints, Keys
from brokers.alpaca.desk import AlpacaBroker

KEYS = Keys("PKCANARY17", "canary-secret-17")


def test_paper_live_and_loopback_are_the_addresses_there_are() -> None:
    assert Endpoints.paper().trading == "https://paper-api.alpaca.markets"
    assert Endpoints.live().trading == "https://api.alpaca.markets"
    assert Endpoints.paper().data == Endpoints.live().data == "https://data.alpaca.markets"
    assert Endpoints.paper().stream == "wss://paper-api.alpaca.markets/stream"
    here = Endpoints.loopback("http://127.0.0.1:8765")
    assert (here.trading, here.data, here.stream) == (
        "http://127.0.0.1:8765",
        "http://127.0.0.1:8765",
        "ws://127.0.0.1:8765/stream",
    )
    assert [each.is_live for each in (Endpoints.paper(), Endpoints.live(), here)] == [False, True, False]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8765", "http://localhost:1", "http://[::1]:8765", "http://127.0.0.1:8765/"]
)
def test_a_stand_in_on_this_machine_is_taken(url: str) -> None:
    assert Endpoints.loopback(url).stream.startswith("ws://")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.alpaca.markets",
        "https://paper-api.alpaca.markets",
        "http://127.0.0.1",
        "https://127.0.0.1:8765",
        "http://192.168.1.1:8765",
        "http://0.0.0.0:8765",
        "http://127.0.0.1.evil.test:8765",
        "http://localhost.evil.test:8765",
        "http://localhost@evil.test:8765",
        "http://evil.test:8765#@localhost:1",
        "http://user:word@127.0.0.1:8765",
        "http://127.0.0.1:8765/path",
        "http://127.0.0.1:8765?to=evil.test",
        "http://127.0.0.1:8765//",
        "ftp://127.0.0.1:8765",
        "127.0.0.1:8765",
        "",
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="on this machine"):
        Endpoints.loopback(url)


def test_addresses_of_different_accounts_do_not_mix() -> None:
    paper, live = Endpoints.paper(), Endpoints.live()
    with pytest.raises(ValueError, match="Expected the address"):
        Endpoints(paper.trading, paper.data, live.stream)
    with pytest.raises(ValueError, match="Expected the address"):
        Endpoints("https://evil.test", paper.data, paper.stream)


def test_the_live_account_is_traded_only_when_that_is_said() -> None:
    with pytest.raises(ValueError, match="live"):
        AlpacaBroker(KEYS, Endpoints.live())
    AlpacaBroker(KEYS, Endpoints.live(), live=True).close()


def test_printing_keys_shows_neither() -> None:
    def fail(keys: Keys) -> None:
        raise RuntimeError(f"with {keys} {keys!r} {[keys]} {copy.copy(keys)}")

    try:
        fail(KEYS)
    except RuntimeError as fault:
        told = "".join(traceback.TracebackException.from_exception(fault, capture_locals=True).format())
    for secret in (KEYS.key_id, KEYS.secret_key):
        assert secret not in told
    assert KEYS.masked(f"{KEYS.key_id} and {KEYS.secret_key}") == "*** and ***"


def test_half_a_pair_of_keys_is_none() -> None:
    for pair in (("", "secret"), ("key", "")):
        with pytest.raises(ValueError, match="empty"):
            Keys(*pair)
