"""The ledger: an immutable value, derived from the journal and from nothing else.

The problem: lots and gains are never stored as truth, only re-derived, and they are asked for all day long: after every
fill, and for every trade a plan considers. Replaying the household's whole history each time would be correct and
too slow.

Worked example 1. A household holds 500 names. A fill of AAPL touches AAPL's lots and those of whatever is identical
to it; nothing else. The journal falls apart into units, sets of symbols joined by identity or by a corporate action,
and `extended` replays one unit of 500.

Worked example 2. A correction of last March arrives. It names the row it supersedes, so the units of both are touched,
and no other. Each is replayed from a checkpoint before March, or continued where nothing earlier changes (unit.py).

Worked example 3. The purchase behind a sale is busted at the broker: AAPL now sells shares that nobody bought. What
imports a file refuses such a row (`impossible="refuse"`). What takes in a broker's history cannot, for it has happened:
the unit of AAPL is set aside with its rows and the reason, the other 499 are replayed as ever, and the row that puts
it right brings it back (`impossible="set_aside"`).

The algorithm: keep, for every unit, its rows in the order given, its finished book and some books on the way. To
extend, find the units touched and extend them; the others are the same objects as before. Property tests hold an
extended ledger and a full replay to the same digest.
"""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from itertools import zip_longest
from types import MappingProxyType
from typing import Literal, TypeVar

from state.lots.book import OpenLoss, Rules
from state.lots.errors import LedgerError
from state.lots.journal import SECURITY_KINDS, Event, admit, check_corrections
from state.lots.money import CONTEXT, plain
from state.lots.policy import Classes, LedgerPolicy
from state.lots.unit import Unit, Unreadable
from state.records import (
    ZERO,
    Account,
    CorporateAction,
    CorporateActionKind,
    Lot,
    RealizedRow,
    Transaction,
)

_Item = TypeVar("_Item", Lot, RealizedRow)


_Known = ChainMap[str, Transaction]
MOST_LAYERS = 8
Impossible = Literal["refuse", "set_aside"]  # what becomes of a unit whose history cannot have happened


class Ledger:
    """Open lots and realized rows of a household. Make one with `replay`, a later one with `extended`."""

    __slots__ = (
        "_accounts",
        "_actions",
        "_first_days",
        "_known",
        "_links",
        "_policy",
        "_positions",
        "_rules",
        "_superseded",
        "_transactions",
        "_units",
        "_unreadable",
    )

    _accounts: Mapping[str, Account]
    _policy: LedgerPolicy
    _actions: tuple[CorporateAction, ...]
    _transactions: tuple[Transaction, ...]
    _known: _Known  # the journal by id; a later ledger adds a layer instead of copying a hundred thousand rows
    _superseded: frozenset[str]
    _rules: Rules
    _links: Classes
    _units: dict[str, Unit]
    _unreadable: dict[str, Unreadable]  # units set aside, by the same keys
    _first_days: Mapping[str, date]  # of each symbol with a row, the earliest
    _positions: dict[str, dict[str, Decimal]]  # by account, as they were asked for

    def __init__(self) -> None:
        """An empty shell; make one with `replay`."""
        self._positions = {}

    # ------------------------------------------------------------------ making

    @classmethod
    def replay(
        cls,
        accounts: Iterable[Account],
        transactions: Iterable[Transaction],
        policy: LedgerPolicy = LedgerPolicy(),  # noqa: B008  (a frozen value)
        corporate_actions: Iterable[CorporateAction] = (),
        *,
        impossible: Impossible = "refuse",
    ) -> Ledger:
        """Replays a whole journal, given in any order.

        Raises a LedgerError (state/lots/errors.py) when a row is malformed or contradicts another, and, unless such
        units are to be set aside, when one cannot have happened: nothing is guessed.
        """
        ledger = cls()
        ledger._accounts = MappingProxyType({account.account_id: account for account in accounts})
        ledger._policy = policy
        ledger._actions = tuple(corporate_actions)
        ledger._known = _Known()
        with localcontext(CONTEXT):
            ledger._transactions = tuple(admit(ledger._known, transactions, ledger._accounts))
            ledger._superseded = _superseded(ledger._transactions)
            check_corrections(ledger._transactions, ledger._known, ledger._transactions, ledger._superseded)
            ledger._rules, ledger._links = _rules(ledger._accounts, policy, ledger._actions)
            ledger._first_days = _first_days({}, ledger._transactions)
            ledger._units, ledger._unreadable = {}, {}
            for key, rows in ledger._by_unit([*ledger._actions, *ledger._transactions]).items():
                ledger._replay_unit(key, rows, impossible)
        return ledger

    def extended(self, transactions: Iterable[Transaction], *, impossible: Impossible = "refuse") -> Ledger:
        """The ledger with more transactions. Replays only the units they touch; equals a replay of everything.

        Raises what `replay` raises, for the units it touches; this ledger is never changed.
        """
        known = _with_a_layer(self._known)
        with localcontext(CONTEXT):
            fresh = admit(known, transactions, self._accounts)
            if not fresh:
                return self
            later = Ledger()
            later._accounts, later._policy, later._actions = self._accounts, self._policy, self._actions
            later._rules, later._links, later._known = self._rules, self._links, known
            later._transactions = self._transactions + tuple(fresh)
            corrected = _superseded(fresh)
            later._superseded = self._superseded | corrected
            check_corrections(fresh, known, later._transactions, later._superseded)
            later._first_days = _first_days(self._first_days, fresh)
            later._units, later._unreadable = dict(self._units), dict(self._unreadable)
            touched = later._by_unit(fresh)
            units_corrected = later._by_unit(self._known[each] for each in corrected if each in self._known)
            for key in units_corrected:
                touched.setdefault(key, [])
            for key, rows in touched.items():
                unit = self._units.get(key)
                if unit is None:
                    before = self._unreadable[key].rows if key in self._unreadable else ()
                    later._replay_unit(key, (*before, *rows), impossible)
                    continue
                try:
                    later._units[key] = unit.extended(rows, later._superseded, corrected=key in units_corrected)
                except LedgerError:
                    if impossible == "refuse":
                        raise
                    later._replay_unit(key, (*unit.rows, *rows), impossible)
        return later

    def acting(self, corporate_actions: Iterable[CorporateAction], *, impossible: Impossible = "refuse") -> Ledger:
        """The ledger under these issuers' actions instead of its own; equals a replay of everything with them.

        Replays only the units whose actions differ. Raises what `replay` raises, for those.
        """
        later = Ledger()
        later._accounts, later._policy, later._actions = self._accounts, self._policy, tuple(corporate_actions)
        later._known, later._transactions, later._superseded = self._known, self._transactions, self._superseded
        later._first_days = self._first_days
        later._units, later._unreadable = {}, {}
        with localcontext(CONTEXT):
            later._rules, later._links = _rules(later._accounts, later._policy, later._actions)
            for key, rows in later._by_unit([*later._actions, *later._transactions]).items():
                unit, aside = self._units.get(key), self._unreadable.get(key)
                if unit is not None and _same(unit.rows, rows):
                    later._units[key] = unit
                elif aside is not None and _same(aside.rows, rows):
                    later._unreadable[key] = aside
                else:
                    later._replay_unit(key, rows, impossible)
        return later

    def _replay_unit(self, key: str, rows: Sequence[Event], impossible: Impossible) -> None:
        """Puts a unit where it belongs: among those that can be read, or aside."""
        self._units.pop(key, None)
        self._unreadable.pop(key, None)
        try:
            self._units[key] = Unit.replayed(rows, self._superseded, self._rules)
        except LedgerError as error:
            if impossible == "refuse":
                raise
            self._unreadable[key] = Unreadable(tuple(rows), error.with_traceback(None))

    def _by_unit(self, events: Iterable[Event]) -> dict[str, list[Event]]:
        """The events of securities, unit by unit, in the order given; those that do not count among them."""
        result: dict[str, list[Event]] = {}
        unit_of = self._links.of
        for event in events:
            if event.symbol is not None and (isinstance(event, CorporateAction) or event.kind in SECURITY_KINDS):
                result.setdefault(unit_of(event.symbol), []).append(event)
        return result

    # ------------------------------------------------------------------ reading

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The household's accounts by id."""
        return self._accounts

    @property
    def policy(self) -> LedgerPolicy:
        """The conventions and identical groups it was replayed with."""
        return self._policy

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """Every row of the journal, in the order given, repeated rows once."""
        return self._transactions

    @property
    def superseded(self) -> frozenset[str]:
        """Ids of the rows that another row corrects, known or not."""
        return self._superseded

    @property
    def corporate_actions(self) -> tuple[CorporateAction, ...]:
        """The issuers' actions it was replayed with."""
        return self._actions

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        """The units set aside, by the least symbol of each. Nothing that is read here has anything of them."""
        return self._unreadable

    def why_unreadable(self, symbol: str) -> LedgerError | None:
        """Why nothing is known of a symbol: its history, or that of one it is joined with, cannot have happened."""
        aside = self._unreadable.get(self._links.of(symbol)) if self._unreadable else None
        return aside.error if aside is not None else None

    @property
    def first_days(self) -> Mapping[str, date]:
        """The earliest trade date of each symbol that has a row."""
        return self._first_days

    def open_lots(self, account_id: str | None = None, symbol: str | None = None) -> tuple[Lot, ...]:
        """Open lots by account, symbol and age; parts of a lot with another basis or start are lots of the same id."""
        lots = self._chosen(lambda unit: unit.lots(), account_id, symbol)
        return tuple(sorted(lots, key=lambda lot: (lot.account_id, lot.symbol)))

    def realized(
        self, account_id: str | None = None, symbol: str | None = None, year: int | None = None
    ) -> tuple[RealizedRow, ...]:
        """Realized rows by date of sale, then in order of processing. `year` is the year of the trade date."""
        rows = self._chosen(lambda unit: unit.book.rows, account_id, symbol)
        return tuple(
            sorted((row for row in rows if year is None or row.disposed.year == year), key=lambda row: row.disposed)
        )

    def _chosen(
        self, of: Callable[[Unit], Sequence[_Item]], account_id: str | None, symbol: str | None
    ) -> Iterator[_Item]:
        """Items of the units that can hold `symbol`, filtered."""
        for unit in self.units(symbol):
            for item in of(unit):
                if (account_id is None or item.account_id == account_id) and (symbol is None or item.symbol == symbol):
                    yield item

    def position(self, account_id: str, symbol: str) -> Decimal:
        """Shares of `symbol` held in an account."""
        return sum((unit.positions().get((account_id, symbol), ZERO) for unit in self.units(symbol)), ZERO)

    def positions(self, account_id: str) -> dict[str, Decimal]:
        """Shares held in an account, by symbol; symbols with none are left out."""
        found = self._positions.get(account_id)
        if found is None:
            held = (item for unit in self._units.values() for item in unit.positions().items())
            found = dict(sorted((symbol, quantity) for (owner, symbol), quantity in held if owner == account_id))
            self._positions[account_id] = found
        return dict(found)

    def lot_ids(self, account_id: str) -> frozenset[str]:
        """Ids of the open lots of an account."""
        lots = (lot for unit in self._units.values() for lot in unit.lots())
        return frozenset(lot.lot_id for lot in lots if lot.account_id == account_id)

    def disposal_queue(self, account_id: str, symbol: str) -> tuple[Lot, ...]:
        """Open lots in the order the account's relief method disposes of them, the next one first."""
        return tuple(lot for unit in self.units(symbol) for lot in unit.disposal_queue(account_id, symbol))

    def group_of(self, symbol: str) -> frozenset[str]:
        """The symbols held to be substantially identical to `symbol`, itself included."""
        return self._rules.identity.members(symbol)

    @property
    def units_by_key(self) -> Mapping[str, Unit]:
        """The units by the least symbol of each; an untouched unit is the same object in the next ledger."""
        return self._units

    def open_losses(self) -> Iterator[tuple[RealizedRow, OpenLoss]]:
        """Sales at a loss (or of unknown basis) that a purchase could still disallow, some long out of their window."""
        for unit in self.units():
            for loss in unit.book.losses:
                if loss.quantity:
                    yield unit.book.rows[loss.row], loss

    def units(self, symbol: str | None = None) -> Iterable[Unit]:
        """All units in a fixed order, or the one `symbol` belongs to."""
        if symbol is None:
            return [self._units[key] for key in sorted(self._units)]
        unit = self._units.get(self._links.of(symbol))
        return () if unit is None else (unit,)

    @property
    def rules(self) -> Rules:
        """Accounts, conventions and identity, as the replay uses them."""
        return self._rules

    def digest(self) -> str:
        """SHA-256, in hex, over all open lots, realized rows and units set aside in canonical text and order."""
        lines = [_lot_line(lot) for unit in self.units() for lot in unit.lots()]
        lines += [_row_line(row) for unit in self.units() for row in unit.book.rows]
        lines += [f"unreadable|{key}|{aside.error.transaction_id}" for key, aside in self._unreadable.items()]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _with_a_layer(known: _Known) -> _Known:
    """The same rows, with room for more that the earlier ledger will not see."""
    if len(known.maps) < MOST_LAYERS:
        return _Known({}, *known.maps)
    merged: dict[str, Transaction] = {}
    for layer in reversed(known.maps):
        merged.update(layer)
    return _Known({}, merged)


def _first_days(known: Mapping[str, date], rows: Iterable[Transaction]) -> Mapping[str, date]:
    """`known` with the days of `rows` taken in; the same object where they bring none earlier."""
    earlier: dict[str, date] = {}
    for row in rows:
        symbol = row.symbol
        if symbol is not None and row.kind in SECURITY_KINDS:
            first = earlier.get(symbol) or known.get(symbol)
            if first is None or row.trade_date < first:
                earlier[symbol] = row.trade_date
    return {**known, **earlier} if earlier else known


def _same(one: Iterable[Event], other: Iterable[Event]) -> bool:
    """True when two sequences hold the same rows: the very objects, or corporate actions that are equal."""
    return all(a is b or a == b for a, b in zip_longest(one, other))


def _superseded(rows: Iterable[Transaction]) -> frozenset[str]:
    return frozenset(row.supersedes for row in rows if row.supersedes is not None)


def _rules(
    accounts: Mapping[str, Account], policy: LedgerPolicy, actions: Sequence[CorporateAction]
) -> tuple[Rules, Classes]:
    """Identity (groups and symbol changes), and the wider links that make units (mergers, spin-offs, calls)."""
    renamed = [
        (action.symbol, action.to_symbol)
        for action in actions
        if action.to_symbol is not None and action.kind is CorporateActionKind.SYMBOL_CHANGE
    ]
    identity = Classes([*policy.identical_groups, *renamed])
    derived = [(action.symbol, action.to_symbol) for action in actions if action.to_symbol is not None]
    calls = [(call.symbol, call.underlying) for call in policy.call_options]
    links = Classes([*policy.identical_groups, *derived, *calls])
    return (
        Rules(
            accounts=accounts,
            taxable={account_id: account.account_type.is_taxable for account_id, account in accounts.items()},
            policy=policy,
            identity=identity,
            calls={call.symbol: (identity.of(call.underlying), call.multiplier) for call in policy.call_options},
        ),
        links,
    )


def _lot_line(lot: Lot) -> str:
    amounts = (lot.quantity, lot.basis, lot.wash_adjustment)
    words = ("lot", lot.account_id, lot.symbol, lot.lot_id, lot.acquired, lot.adjusted_acquired, lot.basis_known)
    return "|".join([*map(str, words), *map(plain, amounts)])


def _row_line(row: RealizedRow) -> str:
    words = (
        "row",
        row.account_id,
        row.symbol,
        row.sale_id,
        row.lot_id,
        row.acquired,
        row.adjusted_acquired,
        row.disposed,
    )
    amounts = (row.quantity, row.proceeds, row.basis, row.gain_loss, row.disallowed, row.permanently_disallowed)
    matches = (
        f"{match.replacement_id}:{match.replacement_account_id}:{plain(match.quantity)}:{plain(match.disallowed)}"
        for match in row.matches
    )
    return "|".join([*map(str, words), row.term.value, str(row.provisional_until), *map(plain, amounts), *matches])
