"""The Alpaca adapter passes the contract every broker adapter passes: the real alpaca-py, real sockets, and behind them
a stand-in for Alpaca over the simulated venue. Every answer it gives is checked against Alpaca's OpenAPI documents."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
import stamina
from contract import BrokerContract
from loopback import LoopbackAlpaca
from worlds import venue

from brokers.alpaca import Endpoints, Keys
from brokers.alpaca.desk import AlpacaBroker
from brokers.protocol import Broker

KEYS = Keys("PKCONTRACT", "contract-secret")


class CommandedServer:
    """The contract's commands, given to the venue behind the server; the streams hear of it."""

    symbol = "AAA"
    other = "BBB"

    def __init__(self, server: LoopbackAlpaca) -> None:
        self.server, self.venue = server, server.venue
        self.halt, self.unhalt = self.venue.halt, self.venue.unhalt
        self.set_unavailable, self.block_account = self.venue.set_unavailable, self.venue.block_account

    def advance(self, seconds: int) -> None:
        self.server.advance(seconds)

    def close_market(self) -> None:
        """Twenty minutes past the close: before that, Alpaca shows the day's consolidated closes to nobody who has
        not paid for them."""
        self.server.advance_to(self.venue.schedule.clock(self.venue.now).next_close)
        self.server.advance(20 * 60)

    def open_next_session(self) -> None:
        self.server.advance_to(self.venue.schedule.clock(self.venue.now).next_open)
        self.server.advance(5 * 60)

    def fill_part(self, client_order_id: str, fraction: Decimal) -> None:
        self.venue.fill_next(client_order_id, fraction, hold_rest=True)

    def refuse_next(self, symbol: str) -> None:
        self.venue.reject_next(symbol)

    def lose_next_answer(self, when: Literal["before", "after"]) -> None:
        self.venue.lose_next_answer(when)

    def pay_dividend(self, symbol: str, per_share: Decimal) -> None:
        self.venue.pay_dividend(symbol, per_share)

    def split(self, symbol: str, new: Decimal, old: Decimal) -> None:
        self.venue.split(symbol, new, old)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Reads are tried as often as ever, without the pauses in between."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def venue_command(tmp_path: Path) -> Iterator[CommandedServer]:
    made = venue(tmp_path)
    with LoopbackAlpaca(made, key_id=KEYS.key_id, secret_key=KEYS.secret_key, validate=True) as server:
        yield CommandedServer(server)
        assert server.violations == []
    made.close()


@pytest.fixture
def broker(venue_command: CommandedServer) -> Iterator[Broker]:
    made = AlpacaBroker(
        KEYS,
        Endpoints.loopback(venue_command.server.url),
        requests_per_minute=10_000,
        monotonic=lambda: venue_command.venue.now.timestamp(),
    )
    yield made
    made.close()


class TestAlpacaContract(BrokerContract):
    """All of it."""
