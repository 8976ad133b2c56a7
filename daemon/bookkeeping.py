"""Taking transactions in: journal, ledger, stored lots, and what of the figures told before is now another.

One database transaction does all of it: after a crash either the rows are there with everything they changed, or
nothing is. Only the units that the rows touch are replayed, and only what came out differently is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from daemon.alerts import raise_alert
from state.lots import Ledger, difference
from state.records import ZERO, AlertLevel, Restatement, Transaction, WashMatch
from state.store import Store

MOST_NAMED = 5  # causes of one restatement that are named in its alert
MOST_TOLD = 20  # restatements that get an alert of their own; the rest of a large import are summed up in one


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking rows in."""

    ledger: Ledger  # with the rows
    added: tuple[Transaction, ...]  # those that were new
    corrects: bool  # True when something known before no longer counts, in figures, lots or cash


def take_in(store: Store, ledger: Ledger, transactions: Iterable[Transaction], at: datetime) -> Taken:
    """Add `transactions` to the journal and bring everything derived from it up to date.

    `ledger` is the replay of the journal as it is. Joins a transaction that is open. Raises state.store.JournalConflict
    and state.lots.LedgerError; nothing is then written.
    """
    with store.transaction():
        added = store.journal.append(transactions, at)
        if not added:
            return Taken(ledger, (), False)
        after = ledger.extended(added)
        changed = difference(ledger, after)
        store.lots.replace(changed.queues, changed.sales)
        restated = tuple(
            replace(each, learned_at=at, causes=_causes_of(each, after, added)) for each in changed.restatements
        )
        tell(store, restated, at)
        corrects = any(row.supersedes is not None or row.transaction_id in ledger.superseded for row in added)
        return Taken(after, added, corrects)


def _causes_of(restatement: Restatement, ledger: Ledger, learned: Sequence[Transaction]) -> tuple[str, ...]:
    """The purchases among the rows learned that now disallow it; where there are none, the rows of its own group."""
    bought = {match.replacement_id for match in restatement.matches}
    group = ledger.group_of(restatement.symbol)
    causes = [row.transaction_id for row in learned if row.transaction_id in bought]
    return tuple(causes or [row.transaction_id for row in learned if row.symbol in group])


# ------------------------------------------------------------------ what a person is told


def tell(store: Store, restated: Sequence[Restatement], at: datetime) -> None:
    """Keep restatements and raise an alert for each; many of one time are summed up."""
    store.lots.put_restatements(restated)
    for each in restated[:MOST_TOLD]:
        key = f"restated:{each.sale_id}:{store.lots.times_restated(each.sale_id)}"
        raise_alert(store, key, AlertLevel.WARNING, told(each), at)
    if len(restated) > MOST_TOLD:
        rest = restated[MOST_TOLD:]
        change = sum((each.after.recognized - each.before.recognized for each in rest), ZERO)
        text = (
            f"{len(rest)} more sales, disposed of {rest[0].disposed} to {rest[-1].disposed}, are restated: gains less "
            f"losses after disallowance change by {change:+,.2f} USD in all; `harvestd report performance` lists them"
        )
        raise_alert(store, f"restated:more:{at.isoformat()}", AlertLevel.WARNING, text, at)


def told(restatement: Restatement) -> str:
    """A restatement as a sentence: what was told, what it is now, and which purchases are the cause."""
    one, before, after = restatement, restatement.before, restatement.after
    differences = [
        f"{name} {old:,.2f} USD, is now {new:,.2f}"
        for name, old, new in (
            ("short-term gain or loss after disallowance was", before.short_term, after.short_term),
            ("long-term gain or loss after disallowance was", before.long_term, after.long_term),
            ("disallowed as a wash sale was", before.disallowed, after.disallowed),
            ("of that lost for good was", before.permanently_disallowed, after.permanently_disallowed),
            ("proceeds were", before.proceeds, after.proceeds),
            ("basis was", before.basis, after.basis),
        )
        if old != new
    ]
    causes = [_purchase(match) for match in one.matches] or list(one.causes[:MOST_NAMED])
    more = len(one.causes) - MOST_NAMED
    if not one.matches and more > 0:
        causes.append(f"{more} more")
    cause = f". Cause: {', '.join(causes)}" if causes else ""
    return f"Restated: {one.symbol} sold {one.disposed} in {one.account_id}: {'; '.join(differences)}{cause}"


def _purchase(match: WashMatch) -> str:
    kept = "lost for good" if match.permanent else "deferred into that lot"
    shares = f"{match.quantity.normalize():f} shares bought {match.replacement_date} in {match.replacement_account_id}"
    return f"{shares} ({kept})"
