"""Transactions that come from files: accounts of the household that harvestd does not trade.

Nothing is imported twice; what an import changes in figures already reported is told as an alert of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from daemon.alerts import raise_alert
from daemon.house import House
from state.records import AlertLevel, RealizedRow, Transaction


def import_transactions(house: House, rows: Iterable[Transaction]) -> tuple[Transaction, ...]:
    """Add imported rows to the journal; returns the new ones. Raises state.store.JournalConflict."""
    before = house.ledger
    with house.store.transaction():
        added = house.learn(rows)
        for symbol in sorted({row.symbol for row in added if row.symbol}):
            known = {_key(row): row for row in before.realized(symbol=symbol)}
            for row in house.ledger.realized(symbol=symbol):
                old = known.get(_key(row))
                if old is not None and old.disallowed != row.disallowed:
                    _tell(house, old, row)
    return added


def _key(row: RealizedRow) -> tuple[str, str, str]:
    return row.sale_id, row.lot_id, row.adjusted_acquired.isoformat()


def _tell(house: House, old: RealizedRow, new: RealizedRow) -> None:
    causes = ", ".join(
        f"{match.quantity.normalize():f} shares bought {match.replacement_date} in {match.replacement_account_id}"
        + (" (lost for good)" if match.permanent else " (deferred into that lot)")
        for match in new.matches
    )
    text = (
        f"{new.symbol}, sold {new.disposed}: of the loss of {-new.gain_loss:,.2f} USD now {new.disallowed:,.2f} USD is "
        f"disallowed as a wash sale, was {old.disallowed:,.2f}. Cause: {causes}"
    )
    key = f"disallowed:{new.sale_id}:{new.lot_id}:{new.disallowed}"
    raise_alert(house.store, key, AlertLevel.WARNING, text, house.clock.now())
