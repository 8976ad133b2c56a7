"""A paper account at the loopback Alpaca whose harvestd lives in the test's own process.

The household is opened from config.yaml as `harvestd run` does it, lease, streams and all, and talks to the server over
sockets with the real client; a restart closes it and opens the database anew. Four things only are not as installed:
the client waits a second at most for an answer, not twenty; its count of calls a minute goes by the simulated time;
and between two tries of a question, or of the stream to connect, hardly anybody sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stamina
from invariants import check_invariants
from loopback import Fault
from practice import Practice, practice

from brokers.alpaca import AlpacaReader, TradeUpdates
from brokers.simulated import SimulatedVenue
from daemon import household
from daemon.day import start
from daemon.halt import halt_file
from daemon.opening import target_of, working_house
from daemon.service import serve_household
from state.records import Alert, BrokerOrder, Intent
from state.store import Store

FIRST = date(2019, 6, 3)  # quiet months: nothing but the faults keeps orders from leaving
SENDS_WITHIN_S, READS_WITHIN_S = 0.3, 1.0
SUBMIT = {"method": "POST", "path": "/v2/orders$"}
TRADES_BY_ITSELF = {"plan_pct_nav": 200, "order_usd": 1_000_000, "gain_usd": 1_000_000}


@dataclass
class Account:
    """The account, its broker, and the daemon's database."""

    person: Practice

    @property
    def venue(self) -> SimulatedVenue:
        """The venue behind the server."""
        return self.person.venue

    # -------------------------------------------------------------- days

    def live(self, *faults: Fault, deposit: int = 0, sessions: int = 1) -> None:
        """A harvestd that begins, lives through so many sessions with these faults, and ends."""
        if deposit:
            with self.person.server.lock:
                self.venue.deposit(Decimal(deposit), reference=f"deposit-{self.venue.now.isoformat()}")
        self.person.server.clear_faults()
        self.person.server.clear_requests()
        self.person.server.script(*faults)
        environ = self.person.environment()
        with working_house(target_of(None, self.person.config, environ), environ) as house:
            [broker] = house.brokers.values()
            broker._sending._timeouts = (1.0, SENDS_WITHIN_S)  # type: ignore[attr-defined]
            broker._trading._timeouts = (1.0, READS_WITHIN_S)  # type: ignore[attr-defined]
            serve_household(house, sessions=sessions)

    def look(self) -> None:
        """A harvestd that begins, looks at the broker once, and ends."""
        environ = self.person.environment()
        with working_house(target_of(None, self.person.config, environ), environ) as house:
            start(house)

    def adds_up(self, *, settled: bool = True) -> None:
        """Every invariant holds, and once more after a restart."""
        check_invariants(self.person.database, self.venue, settled=settled)
        self.person.server.clear_faults()
        self.look()
        check_invariants(self.person.database, self.venue, settled=settled)

    def resume(self) -> None:
        """A person says that trading goes on."""
        halt_file(self.person.database).unlink()

    # -------------------------------------------------------------- what there is

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The daemon's database, to look at."""
        with closing(Store.open(self.person.database, read_only=True)) as opened:
            yield opened

    def intents(self, day: date | None = None) -> tuple[Intent, ...]:
        """Those of a day, the last one there are any of unless said."""
        with self.store() as store:
            found: Sequence[Intent] = store.orders.list()
        wanted = day or max(one.session for one in found)
        return tuple(one for one in found if one.session == wanted)

    def alerts(self, prefix: str) -> list[Alert]:
        """Those under keys that begin so, oldest first."""
        with self.store() as store:
            return [one for one in store.alerts.list(10_000) if one.key.startswith(prefix)]

    def orders(self) -> tuple[BrokerOrder, ...]:
        """At the venue."""
        return self.venue.orders()

    def posts(self) -> list[tuple[str, int | None]]:
        """(client order id, status) of each order that reached the server in the last days lived."""
        found = []
        for one in self.person.server.requests:
            if (one.method, one.path) == ("POST", "/v2/orders"):
                body: Any = one.body
                found.append((body["client_order_id"], one.status))
        return found


@contextmanager
def account(folder: Path, **settings: Any) -> Iterator[Account]:
    """A new account whose plans need no approval, worked once a minute of its own time."""
    with practice(folder, FIRST, partial_fill_probability=0.0) as person, pytest.MonkeyPatch.context() as patch:
        person.configure(
            **{
                "approvals": TRADES_BY_ITSELF,
                "execution": {"order_type": "market"},
                "history": {"load_years": 2},
                "schedule": {"work_every_s": 60},
                **settings,
            }
        )
        defaults = AlpacaReader.__init__.__kwdefaults__
        patch.setitem(defaults, "monotonic", lambda: person.venue.now.timestamp())
        patch.setitem(defaults, "sleep", person.server.advance)
        patch.setitem(TradeUpdates.__init__.__kwdefaults__, "backoff_s", (0.01, 0.05))
        patch.setattr(household, "STREAM_PATIENCE_S", 0.5)
        patch.chdir(person.folder)
        stamina.set_testing(True, attempts=3)
        try:
            yield Account(person)
        finally:
            stamina.set_testing(False)
