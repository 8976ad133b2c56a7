"""The daemon's figures as Prometheus reads them, and whether it is well: from what the cycle thread told last.

The board holds the last figures; whoever asks gets those, and how old they are. Nothing here reads the database, the
broker or a setting, and nothing that asks can change anything.

Well (`/health`, 200) means: within FRESH_S seconds the cycle thread got on, by a beat with an answer of the database
or, in a look, by an exchange with the broker; the next look is not overdue by more than a look may take; the looks
succeed; and no account is STARTING, STALE or HALTED. Nights and weekends have beats, and few looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from daemon.gate import DaemonState
from daemon.supervision import LONGEST_LOOK_S
from daemon.vitals import AccountVitals, Vitals

FRESH_S = 300.0  # a beat is no older than half a minute while all is well


class Board:
    """What was told last. The cycle thread writes, others read; a reader sees one look's figures or another's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told: tuple[Vitals, float] | None = None
        self._beat_at: float | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def take(self, vitals: Vitals) -> None:
        """A look is over."""
        self._told = (vitals, self._monotonic())

    def beaten(self) -> None:
        """The cycle thread got on: a beat is over and the database answered, or a look goes on."""
        self._beat_at = self._monotonic()

    def page(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether the daemon is well, and why not if it is not."""
        beat_age = self._age(self._beat_at)
        told = self._told
        beats = beat_age is not None and beat_age <= FRESH_S
        well = told is not None and told[0].is_fit and beats and not self._is_overdue(*told)
        return well, {
            "well": well,
            "seconds_since_beat": None if beat_age is None else round(beat_age, 1),
            "seconds_since_look": None if told is None else round(self._monotonic() - told[1], 1),
            "looks_succeed": told is not None and told[0].looks_succeed,
            "states": {one.account_id: one.state.value for one in told[0].accounts} if told else {},
        }

    def _is_overdue(self, vitals: Vitals, looked_at: float) -> bool:
        due_after_s = max(0.0, (vitals.next_at - vitals.at).total_seconds())
        return self._monotonic() - looked_at > due_after_s + LONGEST_LOOK_S

    def _age(self, at: float | None) -> float | None:
        return None if at is None else self._monotonic() - at

    # -------------------------------------------------------------- prometheus_client's collector protocol

    def collect(self) -> Iterator[Metric]:
        """One family for each figure; none before the first look."""
        told, beat_age = self._told, self._age(self._beat_at)
        if beat_age is not None:
            yield _gauge("seconds_since_beat", "Since the cycle thread got on and the database answered.", beat_age)
        if told is None:
            return
        vitals, looked_at = told
        yield _gauge("seconds_since_look", "Since the last look at what is due.", self._monotonic() - looked_at)
        yield _gauge("looks_succeed", "1 while no incident says that a look failed.", vitals.looks_succeed)
        yield _gauge("alerts_open", "Incidents that have not recovered.", vitals.open_alerts)
        yield _gauge("database_bytes", "Size of the database file.", vitals.database_bytes)
        if vitals.backed_up_at is not None:
            when = vitals.backed_up_at.timestamp()
            yield _gauge("last_backup_timestamp_seconds", "When the last backup was verified.", when)
        yield _states(vitals.accounts)
        for name, meaning, of in _OF_AN_ACCOUNT:
            yield _by_account(name, meaning, ((one.account_id, of(one)) for one in vitals.accounts))
        streams = [(one.account_id, one.is_stream_connected) for one in vitals.accounts]
        connected = [(name, float(on)) for name, on in streams if on is not None]
        if connected:
            yield _by_account("stream_connected", "1 while the stream of order updates listens.", connected)


_OF_AN_ACCOUNT: tuple[tuple[str, str, Callable[[AccountVitals], float]], ...] = (
    ("intents_open", "Orders meant and not over.", lambda one: one.open_intents),
    ("intents_unknown", "Orders whose fate is unknown.", lambda one: one.unknown_intents),
    ("symbols_locked", "Symbols that nothing is traded in until they agree.", lambda one: one.locked_symbols),
    ("orders_today", "Orders sent in today's session.", lambda one: one.orders_today),
    ("notional_today_usd", "Value of the orders sent in today's session.", lambda one: float(one.notional_usd)),
)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"harvestd_{name}", meaning, value=float(value))


def _by_account(name: str, meaning: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"harvestd_{name}", meaning, labels=["account"])
    for account_id, value in values:
        family.add_metric([account_id], value)
    return family


def _states(accounts: Iterable[AccountVitals]) -> Metric:
    family = GaugeMetricFamily("harvestd_state", "1 for the state the account is in.", labels=["account", "state"])
    for one in accounts:
        for state in DaemonState:
            family.add_metric([one.account_id, state.value], float(one.state is state))
    return family
