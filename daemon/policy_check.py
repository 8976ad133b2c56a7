"""The rules that the stored lots were derived by, against those of the settings: a change is told, never silent.

The problem: identical groups and conventions (`wash_sales`) reach back to the first trade. The daemon replays the
journal by the settings it starts with, but what is stored, and what was reported from it, was derived by the settings
of an earlier start, and only the symbols traded since are written anew. Left alone, one figure would be told by two
rules.

So the store keeps the rules in words. At each opening for work:

    the same rules                       nothing to do
    other rules, nothing stored differs  the new ones are noted (a first start, a rebuild, a change without effect)
    other rules, something differs       an alert, until `harvestd ledger rebuild` or the old settings are back

The daemon does not rebuild by itself: figures already reported would change without a person having asked for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import fields

from daemon.alerts import raise_alert, recover
from daemon.house import House, ledger_policy
from state.lots import Ledger, LedgerError, LedgerPolicy
from state.records import AlertLevel, Lot, RealizedRow

FACT = "ledger_policy"  # in the store's meta
INCIDENT = "task:ledger_policy"


def check_policy(house: House) -> None:
    """Compare the store's rules with those of the settings, once for each opening; tells a difference that matters."""
    store, now = house.store, house.clock.now()
    rules, before = in_words(ledger_policy(house.settings, house.securities())), store.meta.get(FACT)
    if rules == before and not store.alerts.open_keys(INCIDENT):
        return
    try:
        ledger = house.ledger
        lots = _differing(ledger.open_lots(), (one for one in store.lots.lots() if _is_read(ledger, one)))
        rows = _differing(ledger.realized(), (one for one in store.lots.realized() if _is_read(ledger, one)))
    except LedgerError:
        return  # every task of the day meets it, and tells it
    if not lots and not rows:
        with store.transaction():
            store.meta.put(FACT, rules)
            recover(store, INCIDENT, "stored lots and gains are by the rules of the settings again", now)
        return
    text = (
        "The wash-sale rules of the settings are not those that the stored figures were derived by"
        f"{_changes(before, rules)}: {rows} realized rows and {lots} open lots would differ, reported ones among them. "
        "`harvestd ledger verify` lists them; `harvestd ledger rebuild`, with the daemon stopped, makes them again; or "
        "put the old settings back."
    )
    raise_alert(store, INCIDENT, AlertLevel.ERROR, text, now)


def _is_read(ledger: Ledger, record: Lot | RealizedRow) -> bool:
    """False for what stands as it was told while its symbol is set aside."""
    return ledger.why_unreadable(record.symbol) is None


def _differing(derived: Iterable[Hashable], stored: Iterable[Hashable]) -> int:
    """How many records are not the same on both sides."""
    ours, theirs = Counter(derived), Counter(stored)
    return max((ours - theirs).total(), (theirs - ours).total())


def in_words(policy: LedgerPolicy) -> str:
    """A policy as JSON that is the same for the same rules, whatever order groups and symbols are given in."""
    return json.dumps({each.name: _plain(getattr(policy, each.name)) for each in fields(policy)}, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return sorted((_plain(item) for item in value), key=str)
    return value if isinstance(value, str) else str(value)


def _changes(before: str | None, rules: str) -> str:
    """Which rules changed, in brackets, with a leading space; nothing where the earlier ones were not noted."""
    if before is None:
        return ""
    was, are = json.loads(before), json.loads(rules)
    named = (f"{name} was {was.get(name)}, is {value}" for name, value in are.items() if was.get(name) != value)
    changed = "; ".join(named)
    return f" ({changed})" if changed else ""
