"""Which accounts a wash-sale figure reaches over, and where it is no all-clear (I8).

A loss is disallowed by purchases in any account of the household. A figure over accounts whose history is not known to
be complete since the first day it needs says so, wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

from state.records import Account

if TYPE_CHECKING:
    from state.store import Store

WINDOW = timedelta(days=30)  # how far a purchase reaches to disallow a loss (IRC §1091(a))


def names(accounts: Iterable[Account]) -> str:
    """Account ids with commas."""
    return ", ".join(account.account_id for account in accounts)


def incomplete(accounts: Sequence[Account], since: date) -> tuple[Account, ...]:
    """Accounts whose purchases and sales from `since` on are not all known (I8)."""
    return tuple(
        account
        for account in accounts
        if account.history_complete_since is None or account.history_complete_since > since
    )


def coverage(accounts: Sequence[Account], since: date) -> str:
    """Which accounts a wash-sale figure reaches over, and where it is no all-clear. `since`: the first day it needs."""
    said = f"over accounts {names(accounts)}"
    missing = incomplete(accounts, since)
    if not missing:
        days = [account.history_complete_since for account in accounts if account.history_complete_since]
        return f"{said}; history complete since {max(days)}" if days else said
    never = [account for account in missing if account.history_complete_since is None]
    late = [account for account in missing if account.history_complete_since is not None]
    gaps = [f"the history of {names(never)} is not known to be complete"] if never else []
    for day in sorted({account.history_complete_since for account in late if account.history_complete_since}):
        known = names(account for account in late if account.history_complete_since == day)
        gaps.append(f"the history of {known} is known only since {day}, and this needs it from {since}")
    return f"{said}; no all-clear: {'; '.join(gaps)}"


def household(store: Store) -> tuple[Account, ...]:
    """Every account, those that harvestd trades first."""
    return tuple(sorted(store.household.accounts(), key=lambda account: (not account.is_managed, account.account_id)))
