"""What two ledgers tell differently: what must be written anew, and which figures told before are now others.

The problem: a gain or loss is told the day it is realized, and may be another one later: a purchase within thirty days
disallows it, a bust takes it back, a purchase imported late washes a loss of March. The user was told the old figure,
may have filed a return on it, and must be told the new one, as a difference.

Worked example. On 15 December 100 X are sold at a loss of 1,000, provisional until 14 January. On 9 January 40 X are
bought in an IRA. The sale's figures are restated: short-term loss 1,000 before, 600 after; disallowed 400, for good.

A correction of a sale is a row of its own, with an id of its own. The figures told under the old id are compared with
those of the row that stands for it now: a price corrected by a cent is that, not a sale that never was.

The algorithm: a unit that nothing touched is the same object in both ledgers, and so is, in a unit that was touched,
every row before the change. Only what is left is compared, sale by sale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import localcontext

from state.lots.book import Parcel
from state.lots.journal import successors
from state.lots.ledger import Ledger
from state.lots.money import CONTEXT, cents
from state.lots.unit import Unit
from state.records import ZERO, Lot, RealizedRow, Restatement, SaleFigures, Term


@dataclass(frozen=True, slots=True)
class Difference:
    """All that two ledgers tell differently, as the later one tells it."""

    queues: Mapping[tuple[str, str], tuple[Lot, ...]]  # (account, symbol) -> lots in the order of disposal; may be none
    sales: Mapping[str, tuple[RealizedRow, ...]]  # sale id -> its rows; none where the sale is gone
    restatements: tuple[Restatement, ...]  # of sales the earlier ledger had, by a cent or more, oldest first


def difference(before: Ledger, after: Ledger) -> Difference:
    """What `after` tells differently from `before`, of which it is an extension, under the same corporate actions or
    others. Of units that `after` has set aside nothing is told: what was told of them stands until they can be read."""
    queues: dict[tuple[str, str], tuple[Lot, ...]] = {}
    sales: dict[str, tuple[RealizedRow, ...]] = {}
    restated: list[Restatement] = []
    with localcontext(CONTEXT):
        for old, new in _touched(before, after):
            queues.update(_changed_queues(old, new, after))
            differing = {sale_id: (was, now) for sale_id, was, now in _sales_that_differ(old, new, after)}
            sales.update({sale_id: now for sale_id, (_, now) in differing.items()})
            restated += restatements(
                {sale_id: was for sale_id, (was, _) in differing.items()},
                {sale_id: now for sale_id, (_, now) in differing.items()},
                after,
            )
    return Difference(queues, sales, in_order_told(restated))


def in_order_told(restated: Iterable[Restatement]) -> tuple[Restatement, ...]:
    """Restatements by the day of the sale."""
    return tuple(sorted(restated, key=lambda each: (each.disposed, each.account_id, each.sale_id)))


def restatements(
    was: Mapping[str, Sequence[RealizedRow]], now: Mapping[str, Sequence[RealizedRow]], after: Ledger
) -> list[Restatement]:
    """What became of the figures told of sales, from their rows by sale id, in the order of `was`.

    A sale without rows now is followed to the row of `after` that stands for it.
    """
    stands = successors(after.transactions) if any(rows and not now.get(each) for each, rows in was.items()) else {}
    found = (restatement(rows, now.get(each) or now.get(stands.get(each, each)) or ()) for each, rows in was.items())
    return [each for each in found if each is not None]


def restatement(was: Sequence[RealizedRow], now: Sequence[RealizedRow]) -> Restatement | None:
    """What became of the figures of one sale, from its rows; None where nothing was told before or nothing differs."""
    if not was:
        return None
    told, is_now = figures_of(was), figures_of(now)
    if told == is_now:
        return None
    sale = was[0]
    known = {match for row in was for match in row.matches}
    new = tuple(match for row in now for match in row.matches if match not in known)
    return Restatement(sale.sale_id, sale.account_id, sale.symbol, sale.disposed, told, is_now, new)


def figures_of(rows: Iterable[RealizedRow]) -> SaleFigures:
    """The figures of one sale as they are told, in cents."""
    proceeds = basis = disallowed = permanent = ZERO
    by_term = {Term.SHORT: ZERO, Term.LONG: ZERO}
    for row in rows:
        proceeds += row.proceeds
        basis += row.basis
        disallowed += row.disallowed
        permanent += row.permanently_disallowed
        by_term[row.term] += row.recognized
    amounts = proceeds, basis, by_term[Term.SHORT], by_term[Term.LONG], disallowed, permanent
    return SaleFigures(*(cents(amount) for amount in amounts))


def touched_units(before: Ledger, after: Ledger) -> Iterator[tuple[Unit | None, Unit]]:
    """Units of `after` that differ from those of `before`: an untouched unit is the very same object."""
    old = before.units_by_key
    for key, unit in after.units_by_key.items():
        was = old.get(key)
        if was is not unit:
            yield was, unit


def _touched(before: Ledger, after: Ledger) -> Iterator[tuple[Sequence[Unit], Sequence[Unit]]]:
    """Units that differ, before and after. Corporate actions join units and part them: under others, all at once."""
    if before.corporate_actions == after.corporate_actions:
        for was, unit in touched_units(before, after):
            yield ([was] if was is not None else []), [unit]
        return
    old, new = before.units_by_key.values(), after.units_by_key.values()
    same = set(map(id, old)) & set(map(id, new))
    yield [unit for unit in old if id(unit) not in same], [unit for unit in new if id(unit) not in same]


def _changed_queues(old: Sequence[Unit], new: Sequence[Unit], after: Ledger) -> dict[tuple[str, str], tuple[Lot, ...]]:
    """The queues that differ, in the order of disposal; none where a unit can no longer be read."""
    had = {key: queue for unit in old for key, queue in unit.book.queues.items()}
    has = {key: (unit, queue) for unit in new for key, queue in unit.book.queues.items()}
    changed = {
        key: unit.disposal_queue(*key) for key, (unit, queue) in has.items() if not _alike(had.get(key, ()), queue)
    }
    gone = ((key, queue) for key, queue in had.items() if key not in has)
    changed.update({key: () for key, queue in gone if queue and after.why_unreadable(key[1]) is None})
    return changed


def _alike(had: Sequence[Parcel], has: Sequence[Parcel]) -> bool:
    """True when two queues hold the same lots."""
    return len(had) == len(has) and all(
        one.quantity == other.quantity
        and one.basis == other.basis
        and one.adjusted == other.adjusted
        and one.wash == other.wash
        and one.loss_basis == other.loss_basis
        and one.origin.lot_id == other.origin.lot_id
        and one.origin.acquired == other.origin.acquired
        and one.origin.basis_known == other.origin.basis_known
        and one.origin.inherited == other.origin.inherited
        and one.origin.source == other.origin.source
        for one, other in zip(had, has, strict=True)
    )


def _sales_that_differ(
    old: Sequence[Unit], new: Sequence[Unit], after: Ledger
) -> Iterator[tuple[str, tuple[RealizedRow, ...], tuple[RealizedRow, ...]]]:
    """Sale id, its rows before, its rows after; for each sale that is not the same in both."""
    if len(old) <= 1 and len(new) == 1:
        was, now = _from_the_first_difference(old[0].book.rows if old else [], new[0].book.rows)
    else:
        was = [row for unit in old for row in unit.book.rows if after.why_unreadable(row.symbol) is None]
        now = [row for unit in new for row in unit.book.rows]
    rows_was, rows_now = rows_by_sale(was), rows_by_sale(now)
    sale_ids = rows_was.keys() | rows_now.keys()
    for sale_id in sorted(sale_ids):
        if rows_was[sale_id] != rows_now[sale_id]:
            yield sale_id, tuple(rows_was[sale_id]), tuple(rows_now[sale_id])


def _from_the_first_difference(
    was: Sequence[RealizedRow], now: Sequence[RealizedRow]
) -> tuple[Sequence[RealizedRow], Sequence[RealizedRow]]:
    """Two accounts of one unit without the days that both begin with."""
    start = _first_difference(was, now)
    if start and (start < len(was) or start < len(now)):  # the day's sales of one trade are realized lot by lot
        day = min(row.disposed for row in (*was[start : start + 1], *now[start : start + 1]))
        while start and was[start - 1].disposed >= day:
            start -= 1
    return was[start:], now[start:]


def _first_difference(was: Sequence[RealizedRow], now: Sequence[RealizedRow]) -> int:
    """How many rows the two begin with that are the same."""
    if was == now[: len(was)]:  # the rule: something was sold, and nothing before it changed
        return len(was)
    for place, (one, other) in enumerate(zip(was, now, strict=False)):
        if one is not other:
            return place
    return len(now)


def rows_by_sale(rows: Iterable[RealizedRow]) -> defaultdict[str, list[RealizedRow]]:
    """Realized rows by the id of their sale, in the order given."""
    sales: defaultdict[str, list[RealizedRow]] = defaultdict(list)
    for row in rows:
        sales[row.sale_id].append(row)
    return sales
