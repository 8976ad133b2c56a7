"""A unit: symbols whose trades can touch each other's lots, replayed on their own; and what a correction replays again.

The problem: the journal is rewritten by its source now and then (a bust, a corrected fill, a purchase imported months
late), and everything after the change may come out differently: another lot sold, another loss washed, another term.
Replaying a unit from its first day is always right, and too slow for a fund traded every week for ten years.

Worked example 1. 2,000 events since 2016, and today's fill. Nothing before it changes: the finished book is copied and
continued, forty parcels instead of 2,000 events.

Worked example 2. On 20 November a purchase of 9 March turns up. The book as it stood before 2 March was kept. It knows
everything that happened until then, the losses still open included, and nothing since has touched it: it is copied,
and the events from 2 March on are run again, the late one among them. Nothing before March can come out differently.

The algorithm: keep books as they stood at the beginning of some days (checkpoints). A change replays from the last one
that no changed event reaches behind. An event reaches back to its own day; an opening lot to the day it was acquired,
for it can replace a loss of that time. What must be remembered across a checkpoint, the book carries: open losses,
the lots of orders, splits already reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from itertools import chain

from state.lots.book import Book, Rules
from state.lots.errors import LedgerError
from state.lots.journal import Event, corrected_in_place, counts, day_of, successors
from state.lots.money import CONTEXT
from state.lots.relief import disposal_order
from state.lots.replay import continues, run
from state.records import ZERO, CorporateAction, Lot, Transaction, TransactionKind

LEAST_APART = 64  # events between checkpoints; replaying fewer costs less than keeping another book
MOST_KEPT = 16
MOST_BATCHES = 32  # before they are joined into one


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A book as it stood before the first event of `day`. It is never changed, only copied."""

    day: date
    book: Book
    seen: int  # events it has replayed


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The rows of a unit whose history cannot have happened, and the first reason why, in the order of events.

    Nothing of it is in the ledger: a lot or a gain computed from half a history would be a guess. Its rows are facts
    all the same, and are replayed again with every row that joins them.
    """

    rows: tuple[Event, ...]
    error: LedgerError

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols its rows are about."""
        told = {row.symbol for row in self.rows if row.symbol}
        return frozenset(
            told | {row.to_symbol for row in self.rows if isinstance(row, CorporateAction) and row.to_symbol}
        )


class Unit:
    """The rows of a unit in the order given, batch by batch as they came, the book they end in, and checkpoints on the
    way, oldest first. Batches are shared with earlier units: extending one does not copy ten years of rows."""

    __slots__ = ("_lots", "_positions", "_queues", "batches", "book", "checkpoints", "count", "superseded")

    def __init__(
        self,
        batches: tuple[tuple[Event, ...], ...],
        superseded: frozenset[str],
        count: int,
        book: Book,
        checkpoints: tuple[Checkpoint, ...] = (),
    ) -> None:
        self.batches = batches
        self.superseded = superseded
        self.count = count  # of the rows that count
        self.book = book
        self.checkpoints = checkpoints
        self._lots: tuple[Lot, ...] | None = None
        self._positions: dict[tuple[str, str], Decimal] | None = None
        self._queues: dict[tuple[str, str], tuple[Lot, ...]] = {}

    @classmethod
    def replayed(cls, rows: Sequence[Event], superseded: frozenset[str], rules: Rules) -> Unit:
        """The unit from its rows, replayed from the first."""
        events = corrected_in_place(rows, superseded)
        return cls._run((tuple(rows),), superseded, events, events, Book(rules), ())

    @classmethod
    def _run(
        cls,
        batches: tuple[tuple[Event, ...], ...],
        superseded: frozenset[str],
        events: Sequence[Event],
        tail: Sequence[Event],
        book: Book,
        checkpoints: tuple[Checkpoint, ...],
    ) -> Unit:
        """Runs `tail`, the last of `events`, on `book`, keeping checkpoints on the way."""
        kept = list(checkpoints)
        before = len(events) - len(tail)
        apart = max(LEAST_APART, len(events) // MOST_KEPT)

        def keep(day: date, position: int) -> None:
            seen = before + position
            if seen - (kept[-1].seen if kept else 0) >= apart:
                kept.append(Checkpoint(day, book.copy(), seen))

        book.successors = successors(chain.from_iterable(batches))
        run(book, tail, keep)
        return cls(batches, superseded, len(events), book, _thinned(kept))

    @property
    def rows(self) -> Iterator[Event]:
        """The rows in the order given, those that do not count among them."""
        return chain.from_iterable(self.batches)

    def events(self) -> list[Event]:
        """The rows that count, corrections in the places of what they correct."""
        return corrected_in_place(self.rows, self.superseded)

    def extended(self, fresh: Sequence[Event], superseded: frozenset[str], *, corrected: bool) -> Unit:
        """The unit with more rows; equals a replay of all of them.

        `superseded` are the ids of all rows that are corrected. `corrected`: some of this unit's are so since now.
        """
        batches = (*self.batches, tuple(fresh))
        if len(batches) > MOST_BATCHES:
            batches = (tuple(chain.from_iterable(batches)),)
        if corrected or any(_is_correction(row, superseded) for row in fresh):
            before, after = self.events(), corrected_in_place(chain.from_iterable(batches), superseded)
            stay = set(map(id, before)) & set(map(id, after))
            changed = [event for event in (*after, *before) if id(event) not in stay]
            if changed:
                return self._again(batches, superseded, after, changed)
            return Unit(batches, superseded, self.count, self.book, self.checkpoints)
        added = [row for row in fresh if counts(row, superseded)]
        if not added:
            return Unit(batches, superseded, self.count, self.book, self.checkpoints)
        if not continues(self.book, added):
            return self._again(batches, superseded, [*self.events(), *added], added)
        book = self.book.copy()
        run(book, added)
        checkpoints = self._checkpoints_before(min(map(day_of, added)))
        return Unit(batches, superseded, self.count + len(added), book, checkpoints)

    def _checkpoints_before(self, day: date) -> tuple[Checkpoint, ...]:
        """The checkpoints that hold when something is added on `day`, with the finished book as one more where it is
        far enough from the last."""
        kept = [each for each in self.checkpoints if each.day <= day]
        last = kept[-1].seen if kept else 0
        if day > self.book.last_date and self.count - last >= LEAST_APART:
            kept.append(Checkpoint(day, self.book, self.count))
        return _thinned(kept)

    def _again(
        self,
        batches: tuple[tuple[Event, ...], ...],
        superseded: frozenset[str],
        events: Sequence[Event],
        changed: Sequence[Event],
    ) -> Unit:
        """The unit of `events`, replayed from the last checkpoint that `changed` does not reach behind."""
        earliest = min(map(_reaches, changed))
        for place in range(len(self.checkpoints) - 1, -1, -1):
            start = self.checkpoints[place]
            if start.day > earliest:
                continue
            tail = [event for event in events if day_of(event) >= start.day]
            if all(_reaches(event) >= start.day for event in tail):
                kept = self.checkpoints[: place + 1]
                return Unit._run(batches, superseded, events, tail, start.book.copy(), kept)
        return Unit._run(batches, superseded, events, events, Book(self.book.rules), ())

    def lots(self) -> tuple[Lot, ...]:
        """Open lots, by account, symbol and age."""
        if self._lots is None:
            queues = sorted(self.book.queues.items(), key=lambda item: item[0])
            self._lots = tuple(parcel.as_lot() for _, queue in queues for parcel in queue)
        return self._lots

    def positions(self) -> Mapping[tuple[str, str], Decimal]:
        """Shares held, by (account, symbol); what is not held is left out."""
        if self._positions is None:
            with localcontext(CONTEXT):
                self._positions = {
                    key: sum([parcel.quantity for parcel in queue], ZERO)
                    for key, queue in self.book.queues.items()
                    if queue
                }
        return self._positions

    def disposal_queue(self, account_id: str, symbol: str) -> tuple[Lot, ...]:
        """Open lots in the order the account's relief method disposes of them, the next one first."""
        key = account_id, symbol
        found = self._queues.get(key)
        if found is None:
            method = self.book.rules.relief(account_id)
            with localcontext(CONTEXT):
                found = tuple(parcel.as_lot() for parcel in disposal_order(self.book.queues.get(key, ()), method))
            self._queues[key] = found
        return found


def _thinned(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """At most MOST_KEPT of them: every second of the older half goes when there are more."""
    kept = list(checkpoints)
    while len(kept) > MOST_KEPT:
        half = max(len(kept) // 2, 2)
        kept = [*kept[:half:2], *kept[half:]]
    return tuple(kept)


def _is_correction(row: Event, superseded: frozenset[str]) -> bool:
    """True for a row that corrects another, or was corrected before it came."""
    return isinstance(row, Transaction) and (row.supersedes is not None or row.transaction_id in superseded)


def _reaches(event: Event) -> date:
    """The first day whose outcome an event can change by itself."""
    if isinstance(event, Transaction) and event.kind is TransactionKind.OPENING_LOT and event.acquired is not None:
        return min(event.acquired, event.trade_date)
    return day_of(event)
