"""What-if: the pre-trade check is the ledger itself, replayed on a copy with the proposed trades.

Worked example. X was sold at a loss of 500 on 3 March. A plan of 20 March buys 100 X in the spouse's account. The
what-if has no rows of its own (nothing is sold) and one change: the row of 3 March, disallowed 0 before, 500 after.

There is no second, approximate rule anywhere: what is disallowed here is what the ledger would show after the trades.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext

from state.lots.changes import touched_units
from state.lots.ledger import Ledger
from state.lots.money import CONTEXT
from state.records import ZERO, RealizedRow, Transaction


@dataclass(frozen=True, slots=True)
class RealizedChange:
    """One row of an earlier sale, as it is and as it would be. A part that one side lacks is a row of zeros there."""

    before: RealizedRow
    after: RealizedRow

    @property
    def disallowed(self) -> Decimal:
        """Loss of the earlier sale newly disallowed."""
        return self.after.disallowed - self.before.disallowed


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What proposed trades would do."""

    realized: tuple[RealizedRow, ...]  # rows of the proposed sales
    changed: tuple[RealizedChange, ...]  # rows of earlier sales whose disallowance they change
    disallowed: Decimal  # newly disallowed, of the proposed sales and of earlier ones
    ledger: Ledger  # the ledger after the trades


def what_if(ledger: Ledger, proposed: Sequence[Transaction]) -> WhatIf:
    """Replays `proposed` on a copy of `ledger`, in the order given where instants do not decide.

    Raises what `Ledger.extended` raises, for example OversoldError. `ledger` is not changed.
    """
    after = ledger.extended(proposed)
    own = {row.transaction_id for row in proposed}
    realized: list[RealizedRow] = []
    changed: list[RealizedChange] = []
    with localcontext(CONTEXT):
        for old, new in touched_units(ledger, after):
            past = old.book.rows if old is not None else []
            now = new.book.rows
            if now[: len(past)] != past:
                changed += _changes(past, [row for row in now if row.sale_id not in own])
            realized += [row for row in now if row.sale_id in own]
        disallowed = sum([row.disallowed for row in realized], ZERO)
        disallowed += sum([change.disallowed for change in changed], ZERO)
    return WhatIf(tuple(realized), tuple(changed), disallowed, after)


def _changes(past: Sequence[RealizedRow], now: Sequence[RealizedRow]) -> list[RealizedChange]:
    """Pairs the rows of earlier sales, part by part, and keeps those whose disallowance differs."""
    remaining: defaultdict[tuple[str, str], list[RealizedRow]] = defaultdict(list)
    for row in now:
        remaining[row.sale_id, row.lot_id].append(row)
    changes = []
    for row in past:
        same_part = remaining[row.sale_id, row.lot_id]
        changes.append(RealizedChange(row, same_part.pop(0) if same_part else _nothing_of(row)))
    for rows in remaining.values():
        changes += [RealizedChange(_nothing_of(row), row) for row in rows]
    return [change for change in changes if change.before.disallowed != change.after.disallowed]


def _nothing_of(row: RealizedRow) -> RealizedRow:
    """A row of no shares, standing for a part that does not exist."""
    return replace(
        row,
        quantity=ZERO,
        proceeds=ZERO,
        basis=ZERO,
        gain_loss=ZERO,
        disallowed=ZERO,
        permanently_disallowed=ZERO,
        provisional_until=None,
        matches=(),
    )
