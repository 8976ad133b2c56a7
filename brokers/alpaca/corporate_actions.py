"""What issuers did, as Alpaca's data service announces it.

| Alpaca's type                                  | what it does to lots                            | dated by        |
|------------------------------------------------|-------------------------------------------------|-----------------|
| forward_split, reverse_split                   | SPLIT new:old                                   | ex_date         |
| stock_dividend                                 | SPLIT 1+rate : 1                                | ex_date         |
| name_change                                    | SYMBOL_CHANGE; nothing where only the CUSIP     | process_date    |
|                                                | changed                                         |                 |
| cash_merger                                    | CASH_MERGER at rate USD a share                 | effective_date  |
| stock_merger                                   | STOCK_MERGER acquirer_rate : acquiree_rate      | effective_date  |
| cash_dividend                                  | nothing: `per_share` in cash                    | ex_date         |
| reverse_split into another symbol, unit_split, | a person has to say                             | ex_date, else   |
| spin_off, stock_and_cash_merger, redemption,   |                                                 | effective_date, |
| rights_distribution, worthless_removal,        |                                                 | else            |
| partial_call, reorganization, anything new     |                                                 | process_date    |

The list is asked for by process_date, when a clearing house acts: for a dividend that is the payable date, weeks after
the ex-date. So more is asked for than is wanted, and what is given is chosen by ex-date. A dividend paid more than a
hundred days after its ex-date is not found. Announcements come late now and then; Alpaca promises no time for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from brokers.alpaca.answer import Answer, answer
from brokers.alpaca.transport import Wire
from brokers.errors import BrokerUnavailable
from state.records import ZERO, CorporateAction, CorporateActionKind, CorporateNotice

PAGE = 1000  # the most announcements Alpaca lists at once
CHUNK = 200  # symbols a request
_BEFORE, _AFTER = timedelta(days=10), timedelta(days=100)  # a process date around the ex-date
_AROUND = timedelta(days=7)  # a broker books an event on another day than the issuer announced

_SYMBOLS = ("symbol", "old_symbol", "source_symbol", "acquiree_symbol")  # whose shares it changes, whichever is there
_DATES = ("ex_date", "effective_date", "process_date")

_FOR_A_PERSON = {
    "unit_split": "a unit is taken apart into {new_symbol} and {alternate_symbol}",
    "spin_off": "shares of {new_symbol} are added and take a part of the basis",
    "stock_and_cash_merger": "each {acquiree_rate} shares become {acquirer_rate} of {acquirer_symbol}, and cash",
    "redemption": "the issuer takes the shares back for {rate} USD a share",
    "rights_distribution": "rights {new_symbol} are handed out",
    "worthless_removal": "the shares were removed as worthless",
    "partial_call": "the issuer calls some of the shares",
    "reorganization": "the shares are exchanged for cash or for other securities",
    "reverse_split": "the shares are merged {old_rate} into {new_rate} under the symbol {new_symbol}",
}


class Announced:
    """Corporate actions. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def notices(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        """What is announced for `symbols` with an ex-date in [start, end], by ex-date, symbol and id."""
        wanted = tuple(dict.fromkeys(symbols))
        found: dict[str, CorporateNotice] = {}
        for first in range(0, len(wanted), CHUNK):
            chunk = wanted[first : first + CHUNK]
            for kind, row in self._listed(chunk, start - _BEFORE, end + _AFTER):
                notice = notice_from(kind, row)
                if notice is not None and notice.symbol in chunk and start <= notice.ex_date <= end:
                    found[notice.action_id] = notice
        return tuple(sorted(found.values(), key=lambda each: (each.ex_date, each.symbol, each.action_id)))

    def split_ratio(self, symbol: str, day: date) -> tuple[Decimal, Decimal] | None:
        """(new, old) of the one split of `symbol` nearest to `day`, within a week; None where that is not clear."""
        splits = [
            each.action
            for each in self.notices([symbol], day - _AROUND, day + _AROUND)
            if each.action is not None and each.action.kind is CorporateActionKind.SPLIT
        ]
        exact = [split for split in splits if split.ex_date == day] or splits
        return (exact[0].ratio_new, exact[0].ratio_old) if len(exact) == 1 else None

    def new_symbol(self, symbol: str, day: date) -> tuple[str, str] | None:
        """(old, new) of the one change of symbol within a week of `day` of which `symbol` is either side."""
        pairs = set()
        for kind, row in self._listed([symbol], day - _AROUND, day + _AROUND):
            notice = notice_from(kind, row)
            changed = notice.action if notice else None
            if changed is not None and changed.kind is CorporateActionKind.SYMBOL_CHANGE and changed.to_symbol:
                pairs.add((changed.symbol, changed.to_symbol))
        mine = [pair for pair in pairs if symbol in pair]
        return mine[0] if len(mine) == 1 else None

    def _listed(self, symbols: Iterable[str], start: date, end: date) -> Iterator[tuple[str, Answer]]:
        """(type, row) of everything processed in [start, end], page by page."""
        asked = {
            "symbols": ",".join(symbols),
            "start": start.isoformat(),
            "end": end.isoformat(),
            "limit": str(PAGE),
            "sort": "asc",
        }
        tokens: set[str] = set()
        while True:
            page = answer(self._wire.read("/corporate-actions", asked), "corporate actions")
            by_type = page.inner("corporate_actions")
            for types, _ in by_type.items():
                for row in by_type.rows(types) if by_type.has(types) else ():
                    yield types.removesuffix("s"), row
            token = page.text_or("next_page_token")
            if not token:
                return
            if token in tokens:
                raise BrokerUnavailable("Alpaca's corporate actions: expected a new page, was one from before")
            tokens.add(token)
            asked["page_token"] = token


def notice_from(kind: str, row: Answer) -> CorporateNotice | None:
    """One announcement; None when it names no security whose shares it would change."""
    symbol = next((row.text(name) for name in _SYMBOLS if row.has(name)), None)
    if symbol is None:
        return None
    day = row.day(next((name for name in _DATES if row.has(name)), "process_date"))
    notice = CorporateNotice(row.text("id"), kind, symbol, day)
    currency = row.text_or("currency", "USD")
    if kind == "cash_dividend":
        rate, words = row.decimal("rate"), row.text_or("sub_type").replace("_", " ")
        in_dollars = currency == "USD"
        note = words if in_dollars else f"{rate} {currency} a share"
        return replace(notice, per_share=rate if in_dollars else ZERO, note=note)
    action = _action(notice, row) if currency == "USD" else None
    if action is not None:
        return replace(notice, action=action)
    if kind == "name_change":
        return replace(notice, note="another CUSIP, the same symbol")
    return replace(notice, needs_person=True, note=_for_a_person(kind, row))


def _action(notice: CorporateNotice, row: Answer) -> CorporateAction | None:
    """What an announcement does to lots; None when the ledger has no rule for it, or nothing happens to them."""
    plain = CorporateAction(notice.action_id, CorporateActionKind.SPLIT, notice.symbol, notice.ex_date)
    match notice.kind:
        case "forward_split" | "reverse_split" if row.text_or("new_symbol", notice.symbol) == notice.symbol:
            return replace(plain, ratio_new=row.decimal("new_rate"), ratio_old=row.decimal("old_rate"))
        case "stock_dividend":
            return replace(plain, ratio_new=1 + row.decimal("rate"))
        case "name_change" if row.text("new_symbol") != notice.symbol:
            return replace(plain, kind=CorporateActionKind.SYMBOL_CHANGE, to_symbol=row.text("new_symbol"))
        case "cash_merger":
            return replace(plain, kind=CorporateActionKind.CASH_MERGER, per_share=row.decimal("rate"))
        case "stock_merger":
            return replace(
                plain,
                kind=CorporateActionKind.STOCK_MERGER,
                ratio_new=row.decimal("acquirer_rate"),
                ratio_old=row.decimal("acquiree_rate"),
                to_symbol=row.text("acquirer_symbol"),
            )
    return None


def _for_a_person(kind: str, row: Answer) -> str:
    """What happened, as far as Alpaca tells it, to somebody who has to look it up."""
    what = _FOR_A_PERSON.get(kind, f"Alpaca announces {kind.replace('_', ' ')}")
    said = {name: str(value) for name, value in row.items() if isinstance(value, str | int | Decimal)}
    return f"{what.format_map(_Unsaid(said))}. harvestd has no rule for it: see what the issuer says about the basis."


class _Unsaid(dict[str, str]):
    """Words for a sentence; what Alpaca left out reads as such."""

    def __missing__(self, name: str) -> str:
        return "?"
