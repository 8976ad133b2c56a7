"""Proving that what is stored is what the journal says, and making it again when it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from daemon.bookkeeping import replayed, tell, why_set_aside
from daemon.house import ledger_policy
from daemon.policy_check import FACT, in_words
from daemon.settings import Settings
from state.lots import Ledger, LedgerPolicy, difference
from state.lots.changes import restatement, rows_by_sale
from state.records import Lot, RealizedRow, Restatement
from state.store import Store
from state.store.types import decimal_text


@dataclass(frozen=True, slots=True)
class Comparison:
    """A full replay against the stored rows; `differences` is empty when they are equal."""

    transactions: int
    lots: int
    realized: int
    digest: str
    differences: tuple[str, ...]
    unreadable: tuple[str, ...] = ()  # why symbols are set aside: what is stored of them is what was told last


def compare(store: Store, settings: Settings | None = None) -> Comparison:
    """Replay the journal by the rules of the settings and compare every stored lot and realized row with it, and the
    order in which the lots are disposed of."""
    ledger = full_replay(store, settings)
    accounts = store.household.accounts()
    expected_lots = [lot for one in accounts for lot in _queues(ledger, one.account_id)]
    expected_rows = list(ledger.realized())
    stored_lots = [lot for lot in store.lots.lots() if ledger.why_unreadable(lot.symbol) is None]
    stored_rows = [row for row in store.lots.realized() if ledger.why_unreadable(row.symbol) is None]
    differences = [
        *_differences("lot", expected_lots, stored_lots),
        *_other_orders(expected_lots, stored_lots),
        *_differences("realized row", expected_rows, stored_rows),
    ]
    return Comparison(
        store.journal.count(),
        len(expected_lots),
        len(expected_rows),
        ledger.digest(),
        tuple(differences),
        tuple(map(why_set_aside, ledger.unreadable.values())),
    )


def rebuild(store: Store, settings: Settings | None, now: datetime) -> tuple[int, tuple[Restatement, ...]]:
    """Replace every derived row by what the journal says; returns the number of journal rows, and what is restated.

    Figures told before that come out differently (other conventions, another idea of identical, a damaged row) are
    restated and told, as after a correction. Of symbols that are set aside, what was told last stays.
    """
    ledger = full_replay(store, settings)
    everything = difference(
        Ledger.replay(store.household.accounts(), (), corporate_actions=ledger.corporate_actions), ledger
    )
    stored = store.lots.realized()
    told = rows_by_sale(row for row in stored if ledger.why_unreadable(row.symbol) is None)
    kept = rows_by_sale(row for row in stored if ledger.why_unreadable(row.symbol) is not None)
    queues = _by_queue(lot for lot in store.lots.lots() if ledger.why_unreadable(lot.symbol) is not None)
    with store.transaction():
        store.lots.replace_all({**everything.queues, **queues}, {**everything.sales, **kept})
        found = (restatement(rows, everything.sales.get(sale_id, ())) for sale_id, rows in told.items())
        restated = tuple(replace(each, learned_at=now, causes=("ledger rebuild",)) for each in found if each)
        tell(store, restated, now)
        store.meta.put(FACT, in_words(ledger.policy))
    return store.journal.count(), restated


def full_replay(store: Store, settings: Settings | None = None) -> Ledger:
    """The ledger of the whole journal, by the rules of the given settings, else of those the database was made with."""
    text = store.meta.get("settings")
    if settings is None and text:
        settings = Settings.model_validate_json(text)
    policy = ledger_policy(settings, store.household.securities()) if settings else LedgerPolicy()
    return replayed(store, store.household.accounts(), policy)


def _queues(ledger: Ledger, account_id: str) -> list[Lot]:
    symbols = sorted({lot.symbol for lot in ledger.open_lots(account_id)})
    return [lot for symbol in symbols for lot in ledger.disposal_queue(account_id, symbol)]


def _differences(what: str, expected: Iterable[Lot | RealizedRow], stored: Iterable[Lot | RealizedRow]) -> list[str]:
    """Rows that one side has and the other has not, or not as often."""
    wanted, seen = Counter(map(_text, expected)), Counter(map(_text, stored))
    missing = [f"{what} expected, not stored: {text}" for text in sorted((wanted - seen).elements())]
    extra = [f"{what} stored, not expected: {text}" for text in sorted((seen - wanted).elements())]
    return [*missing, *extra]


def _other_orders(expected: Sequence[Lot], stored: Sequence[Lot]) -> list[str]:
    """Queues that hold the same lots in another order: the next sale would take others than the law says."""
    seen = _by_queue(stored)
    found = []
    for (account_id, symbol), lots in _by_queue(expected).items():
        others = seen.get((account_id, symbol), [])
        in_order, as_stored = list(map(_text, lots)), list(map(_text, others))
        if in_order != as_stored and Counter(in_order) == Counter(as_stored):
            found.append(f"order of disposal of {symbol} in {account_id}: expected {_ids(lots)}, was {_ids(others)}")
    return found


def _by_queue(lots: Iterable[Lot]) -> dict[tuple[str, str], list[Lot]]:
    queues: dict[tuple[str, str], list[Lot]] = {}
    for lot in lots:
        queues.setdefault((lot.account_id, lot.symbol), []).append(lot)
    return queues


def _ids(lots: Iterable[Lot]) -> str:
    """Lots with their shares: parts of one purchase bear one id."""
    return ", ".join(f"{lot.lot_id} ({decimal_text(lot.quantity)})" for lot in lots)


def _text(record: Any) -> str:
    """One line with every field, nested ones too; decimals in their canonical form."""
    if isinstance(record, Decimal):
        return decimal_text(record)
    if isinstance(record, tuple):
        return "(" + ", ".join(_text(item) for item in record) + ")"
    if is_dataclass(record):
        return " ".join(f"{item.name}={_text(getattr(record, item.name))}" for item in fields(record))
    return str(record)
