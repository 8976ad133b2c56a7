"""`harvestd go-live`: the one door to trading real money, a checklist and an account number typed by hand.

Asked in mode: observe on the live account, so that everything the checklist looks at is that account's own. Whoever
passes it has a record in the database, for this account number alone. The record is necessary, and not enough: in this
version mode: live is closed whatever the record says (settings/loading.py). Its execution has been through every fault
of docs/WHAT-HAPPENS-WHEN.md at a stand-in for the broker, and not yet through months at Alpaca's own paper account.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from daemon.agenda import Task
from daemon.broker_check import Finding
from daemon.doctor import examine
from daemon.errors import ConfigurationRefused
from daemon.readiness import BOUND_TO
from daemon.settings import AccountKind, AccountSettings, Mode, Settings
from state.records import AlertLevel
from state.store import Store

LEAST_SESSIONS = 5  # lived through on this account before real money is
RECORD = "live:"  # in the store's meta, with the account number


@dataclass(frozen=True, slots=True)
class Candidate:
    """The account that is to go live, and everything that was looked at."""

    account: AccountSettings
    number: str
    findings: tuple[Finding, ...]

    @property
    def may(self) -> bool:
        """True when nothing stands against it."""
        return all(one.ok for one in self.findings)


def candidate(settings: Settings, config: Path | None, environ: Mapping[str, str]) -> Candidate:
    """Everything there is to check. Raises ConfigurationRefused where the question itself is wrong."""
    if settings.mode is not Mode.OBSERVE or settings.alpaca.observe_account is not AccountKind.LIVE:
        raise ConfigurationRefused(
            "Expected mode: observe with alpaca.observe_account: live, so that the checklist looks at the live "
            f"account, was mode: {settings.mode.value} with {settings.alpaca.observe_account.value}. Let it observe "
            "there first."
        )
    database = settings.database.path
    if not database.exists():
        raise ConfigurationRefused(f"No database at {database}. `harvestd run` makes it; let it observe first.")
    account = settings.household.managed[0]
    store = Store.open(database, read_only=True)
    try:
        number = store.meta.get(f"{BOUND_TO}{account.id}") or ""
        own = tuple(_own(settings, account, number, store))
    finally:
        store.close()
    return Candidate(account, number, (*examine(None, config, environ), *own))


def _own(settings: Settings, account: AccountSettings, number: str, store: Store) -> Iterator[Finding]:
    """What matters for real money beyond what `doctor` looks at."""
    yield Finding(
        "a live account",
        settings.alpaca.loopback_url is None,
        f"account {number} at Alpaca" if settings.alpaca.loopback_url is None else "a stand-in on this machine",
        "Take alpaca.loopback_url out: a stand-in has no live account.",
    )
    yield Finding(
        "account number",
        bool(number) and account.account_number == number,
        f"{account.account_number or 'none'} in the configuration, {number or 'none'} at the broker",
        "Write household.accounts[].account_number into the configuration.",
    )
    seen = "confirmed" if account.relief_confirmed else "not confirmed"
    yield Finding(
        "relief method",
        account.relief_confirmed,
        f"{account.relief_method.value}, {seen}",
        "Ask the broker, or compare a sale with its tax documents; then relief_confirmed: true.",
    )
    lived = store.agenda.count(Task.EVENING.value, account.id)
    yield Finding(
        "observed",
        lived >= LEAST_SESSIONS,
        f"{lived} sessions to their end",
        f"Let it observe for {LEAST_SESSIONS} sessions, and read `harvestd report scorecard`.",
    )
    bad = [one for one in store.alerts.open_incidents("") if one.level in (AlertLevel.ERROR, AlertLevel.HALT)]
    yield Finding(
        "open incidents",
        not bad,
        "; ".join(one.message for one in bad[:3]) or "none",
        "`harvestd alerts` lists them; each has to end first.",
    )
    others = [one.id for one in settings.household.accounts if one.id != account.id]
    yield Finding(
        "household",
        True,
        f"besides {account.id}: {', '.join(others) or 'no other account is declared'}",
        "Every account of you and your spouse belongs in the configuration, IRAs included: a purchase in one that is "
        "not known can disallow a loss that is counted.",
        note=True,
    )
    if account.history_complete_since is None:
        yield Finding(
            "history",
            True,
            "not known to be complete; figures say so",
            "Import opening lots (`harvestd ledger import`), then set history_complete_since.",
            note=True,
        )


def record(database: Path, number: str, by: str, at: datetime) -> None:
    """Write down that a person typed this account number after the checklist."""
    store = Store.open(database)
    try:
        store.meta.put(f"{RECORD}{number}", json.dumps({"at": at.isoformat(), "by": by}))
    finally:
        store.close()
