"""Taking transactions in: journal, ledger, stored lots, and what of the figures told before is now another.

One database transaction does all of it: after a crash either the rows are there with everything they changed, or
nothing is. Only the units that the rows touch are replayed, and only what came out differently is written.

The ledger is the replay of the journal under the issuers' actions in effect: those announced (store.actions) of which
the day has come, on securities the household had traded by then. They are looked at each time, so that an action takes
effect on its day, and one announced late restates what was told.

A broker's history has happened, even where it cannot have: sales of shares that nobody bought, after a bust or a
transfer without its lots. Rows of that kind are journaled, their unit of symbols is set aside (state/lots/ledger.py),
and what was told of it before stays as it was told. When the row arrives that puts it right, the figures are compared
with those told, and what differs is restated. A person's own rows are refused instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from state.lots import Impossible, Ledger, LedgerPolicy, Unreadable, difference, in_effect
from state.lots.changes import Difference, in_order_told, restatements, rows_by_sale
from state.records import (
    ZERO,
    Account,
    AlertLevel,
    CorporateAction,
    Lot,
    RealizedRow,
    Restatement,
    Transaction,
    WashMatch,
)
from state.store import Store

MOST_NAMED = 5  # causes of one restatement that are named in its alert
MOST_TOLD = 20  # restatements that get an alert of their own; the rest of a large import are summed up in one
UNREADABLE = "unreadable:"  # incidents of units set aside


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking rows in."""

    ledger: Ledger  # with the rows
    added: tuple[Transaction, ...]  # those that were new
    corrects: bool  # True when something known before no longer counts, in figures, lots or cash


def take_in(
    store: Store,
    ledger: Ledger,
    transactions: Iterable[Transaction],
    at: datetime,
    *,
    impossible: Impossible = "refuse",
) -> Taken:
    """Add `transactions` to the journal and bring everything derived from it up to date, as of the New York day of
    `at`. With none, only the issuers' actions are looked at.

    `ledger` is the replay of the journal as it is. Joins a transaction that is open. Raises state.store.JournalConflict
    and state.lots.LedgerError; nothing is then written. With `impossible="set_aside"` rows that cannot have happened
    are journaled, and their symbols set aside.
    """
    rows, today = list(transactions), at.astimezone(NEW_YORK).date()
    announced = store.actions.actions()
    if not rows and in_effect(announced, ledger.first_days, today) == ledger.corporate_actions:
        return Taken(ledger, (), False)
    with store.transaction():
        added = store.journal.append(rows, at)
        after = ledger.extended(added, impossible=impossible) if added else ledger
        actions = in_effect(announced, after.first_days, today)
        if actions != after.corporate_actions:
            after = after.acting(actions, impossible=impossible)
            store.actions.put_applied(actions)
        if after is ledger:
            return Taken(ledger, (), False)
        _bring_up_to_date(store, ledger, after, added, at)
        corrects = any(row.supersedes is not None or row.transaction_id in ledger.superseded for row in added)
        return Taken(after, added, corrects)


def replayed(store: Store, accounts: Iterable[Account], policy: LedgerPolicy, through: date | None = None) -> Ledger:
    """A full replay of the stored journal, under the issuers' actions that the stored lots were derived under.

    With `through`, of what happened by the end of that day.
    """
    rows, actions = store.journal.all(), store.actions.applied()
    if through is not None:
        rows = tuple(row for row in rows if row.trade_date <= through)
        actions = tuple(action for action in actions if action.ex_date <= through)
    return Ledger.replay(accounts, rows, policy, actions, impossible="set_aside")


def _bring_up_to_date(store: Store, before: Ledger, after: Ledger, added: Sequence[Transaction], at: datetime) -> None:
    """Write what is told differently, and tell what was told otherwise."""
    changed = difference(before, after)
    again = _readable_again(store, before, after)
    store.lots.replace({**again.queues, **changed.queues}, {**again.sales, **changed.sales})
    actions = [action for action in after.corporate_actions if action not in before.corporate_actions]
    restated = in_order_told([*changed.restatements, *again.restatements])
    tell(
        store,
        [replace(each, learned_at=at, causes=_causes_of(each, after, added, actions)) for each in restated],
        at,
    )
    if before.unreadable or after.unreadable:
        tell_unreadable(store, after, at)


def _readable_again(store: Store, before: Ledger, after: Ledger) -> Difference:
    """Of symbols that were set aside and no longer are, what is stored against what they are now."""
    symbols = {symbol for aside in before.unreadable.values() for symbol in aside.symbols}
    symbols = {symbol for symbol in symbols if after.why_unreadable(symbol) is None}
    queues: dict[tuple[str, str], tuple[Lot, ...]] = {}
    told: list[RealizedRow] = []
    for symbol in sorted(symbols):
        queues.update({(lot.account_id, symbol): () for lot in store.lots.lots(symbol=symbol)})
        told += store.lots.realized(symbol=symbol)
    told_by_sale, now = rows_by_sale(told), rows_by_sale(row for each in symbols for row in after.realized(symbol=each))
    sales = {sale_id: tuple(now.get(sale_id, ())) for sale_id in told_by_sale}
    return Difference(queues, sales, tuple(restatements(told_by_sale, now, after)))


def _causes_of(
    restatement: Restatement, ledger: Ledger, learned: Sequence[Transaction], actions: Sequence[CorporateAction]
) -> tuple[str, ...]:
    """The purchases among the rows learned that now disallow it; where there are none, the rows and actions of its own
    group."""
    bought = {match.replacement_id for match in restatement.matches}
    group = ledger.group_of(restatement.symbol)
    causes = [row.transaction_id for row in learned if row.transaction_id in bought]
    return tuple(
        causes
        or [
            *(row.transaction_id for row in learned if row.symbol in group),
            *(action.action_id for action in actions if action.symbol in group or action.to_symbol in group),
        ]
    )


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


def tell_unreadable(store: Store, ledger: Ledger, at: datetime) -> None:
    """One alert for each unit that is set aside, and one when it can be read again."""
    for key, aside in ledger.unreadable.items():
        raise_alert(store, UNREADABLE + key, AlertLevel.ERROR, why_set_aside(aside), at)
    for key in store.alerts.open_keys(UNREADABLE):
        if key.removeprefix(UNREADABLE) not in ledger.unreadable:
            recover(store, key, f"{key.removeprefix(UNREADABLE)}: its history can be replayed again", at)


def why_set_aside(aside: Unreadable) -> str:
    """Why nothing is known of some symbols, and what to do, as sentences."""
    names = " and ".join(sorted(aside.symbols))
    return (
        f"{names}: the history cannot have happened as it is told, so the figures stay as they were told before and "
        f"nothing of it is traded. {aside.error} Then, with the daemon stopped: `harvestd ledger import FILE` with "
        f"what is missing, or `harvestd reconcile adopt {aside.error.symbol}`."
    )


def _purchase(match: WashMatch) -> str:
    kept = "lost for good" if match.permanent else "deferred into that lot"
    shares = f"{match.quantity.normalize():f} shares bought {match.replacement_date} in {match.replacement_account_id}"
    return f"{shares} ({kept})"
