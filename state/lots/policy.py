"""The switches of the ledger, one for each place where the law is silent, and what counts as identical.

Names and values are those of `meta.conventions` in the worked cases; each default is the choice argued in
TAX_RULES section 7. "Substantially identical" (IRC §1091(a)) is facts and circumstances, so it is configuration:
the caller resolves its policy (same symbol, same index, the user's groups) to groups of symbols.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

from state.lots.errors import UnknownConventionError
from state.lots.holding import Tacking


@dataclass(frozen=True, slots=True)
class CallOption:
    """A call counts as `multiplier` shares of its underlying when bought, and only as itself when sold."""

    symbol: str
    underlying: str
    multiplier: Decimal = Decimal(100)


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """What is identical, an option, or averaged; then the named conventions of the worked cases."""

    identical_groups: tuple[frozenset[str], ...] = ()  # substantially identical symbols; overlapping groups merge
    call_options: tuple[CallOption, ...] = ()  # calls that can replace their underlying (IRC §1091(a))
    average_basis: frozenset[str] = (
        frozenset()
    )  # funds whose holder elected it (Reg. §1.1012-1(e)); any relief but hifo
    tacking: Tacking = "union"  # see state/lots/holding.py
    simultaneous: Literal["sequential", "economic"] = "sequential"  # economic: lots of one trade never replace another
    older_lots: Literal["include", "exclude"] = "include"  # may a purchase older than the lot sold replace it?
    held_after: Literal["required"] = "required"  # a purchase already disposed of replaces nothing
    within_lot: Literal["kept_first", "sold_first"] = "kept_first"  # which shares of a partly sold lot replace first
    sublot_order: Literal["adjusted_first", "unadjusted_first"] = "adjusted_first"  # which part of a lot sells first

    def __post_init__(self) -> None:
        """Refuses a value that no convention has."""
        for name, allowed in conventions().items():
            value = getattr(self, name)
            if value not in allowed:
                raise UnknownConventionError(f"Convention {name}: expected one of {', '.join(allowed)}, was {value!r}.")


@cache
def conventions() -> dict[str, tuple[str, ...]]:
    """The named conventions and the values each can take."""
    hints = get_type_hints(LedgerPolicy)
    return {
        each.name: get_args(hints[each.name])
        for each in fields(LedgerPolicy)
        if get_origin(hints[each.name]) is Literal
    }


class Classes:
    """Disjoint sets of symbols; a symbol never joined is alone. Representatives are the least symbol of each set."""

    __slots__ = ("_members", "_root")

    def __init__(self, groups: Iterable[Iterable[str]] = ()) -> None:
        self._root: dict[str, str] = {}
        self._members: dict[str, frozenset[str]] = {}
        for group in groups:
            self.join(group)

    def join(self, symbols: Iterable[str]) -> None:
        """All of `symbols`, and whatever they were already joined with, become one set."""
        merged: frozenset[str] = frozenset()
        for symbol in symbols:
            merged |= self._members.pop(self._root.get(symbol, symbol), frozenset((symbol,)))
        if len(merged) < 2:
            return
        least = min(merged)
        self._members[least] = merged
        for symbol in merged:
            self._root[symbol] = least

    def of(self, symbol: str) -> str:
        """The representative of the set `symbol` is in."""
        return self._root.get(symbol, symbol)

    def members(self, symbol: str) -> frozenset[str]:
        """Everything in one set with `symbol`, itself included."""
        found = self._members.get(self._root.get(symbol, symbol))
        if found is None:
            found = self._members[symbol] = frozenset((symbol,))
        return found
