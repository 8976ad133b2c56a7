"""The simulated venue passes the contract every broker adapter passes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from contract import BrokerContract
from worlds import venue

from brokers.protocol import Broker
from brokers.simulated import SimulatedVenue


class CommandedVenue:
    """The contract's commands, given to a SimulatedVenue."""

    symbol = "AAA"
    other = "BBB"

    def __init__(self, venue: SimulatedVenue) -> None:
        self.venue = venue
        self.halt, self.unhalt = venue.halt, venue.unhalt
        self.pay_dividend, self.split = venue.pay_dividend, venue.split
        self.set_unavailable, self.block_account = venue.set_unavailable, venue.block_account

    def advance(self, seconds: int) -> None:
        self.venue.advance_to(self.venue.now + timedelta(seconds=seconds))

    def close_market(self) -> None:
        self.venue.advance_to(self.venue.broker().clock().next_close + timedelta(minutes=5))

    def open_next_session(self) -> None:
        self.venue.advance_to(self.venue.broker().clock().next_open + timedelta(minutes=5))

    def fill_part(self, client_order_id: str, fraction: Decimal) -> None:
        self.venue.fill_next(client_order_id, fraction, hold_rest=True)

    def refuse_next(self, symbol: str) -> None:
        self.venue.reject_next(symbol)

    def lose_next_answer(self, when: Literal["before", "after"]) -> None:
        self.venue.lose_next_answer(when)


@pytest.fixture
def venue_command(tmp_path: Path) -> Iterator[CommandedVenue]:
    made = venue(tmp_path)
    yield CommandedVenue(made)
    made.close()


@pytest.fixture
def broker(venue_command: CommandedVenue) -> Broker:
    return venue_command.venue.broker()


class TestSimulatedVenueContract(BrokerContract):
    """All of it."""
