"""What issuers announced, and what of it the ledger applies.

The problem: one event is told several times. A source announces a split, then corrects the day; the broker books it as
an activity of its own; a return of capital is announced for the ex-date and paid weeks later, in every account. Applied
twice, a split doubles a position that nobody doubled.

Worked example. A source tells a return of capital of 0.40 a share, ex-date 3 March. The broker pays it on 20 March, in
two accounts, and each payment was kept as an action of its own in case nobody announced it. All three are one: the
announced one, on its ex-date.

So a notice is kept by its source's id, and one that comes back changed replaces the old. Those derived from a broker's
activities bear ids of their own (`derived_id`); `actions` leaves out each of them that repeats an announcement, an
announcement answering for one line of each account.

Which of them the stored lots were derived under is kept beside them: a process that ends between an announcement and
the replay it asks for finds, when it starts again, that the two differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import ZERO, CorporateAction, CorporateActionKind, CorporateNotice
from state.store import schema
from state.store.database import Database
from state.store.types import Json

MOST_SYMBOLS = 500  # in one statement
PAID_WITHIN_DAYS = 60  # of the ex-date: a payment later than that is of another distribution
BOOKED_BEFORE_DAYS = 7  # brokers book one action on different days of a week
_DERIVED = "activity:"
_APPLIED = "actions_applied"  # in the store's meta
_PAID = frozenset({CorporateActionKind.CASH_MERGER, CorporateActionKind.RETURN_OF_CAPITAL})


def derived_id(account_id: str, activity_id: str) -> str:
    """The id of an action that only a broker's activity tells, in one account."""
    return f"{_DERIVED}{account_id}:{activity_id}"


class CorporateActions:
    """Corporate actions by their source's own id."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, notices: Iterable[CorporateNotice], at: datetime) -> tuple[CorporateNotice, ...]:
        """Keep what was announced; returns the notices that are new, or differ from what was known under their id.

        Raises ValueError for a notice whose action is about another id, symbol or day than itself.
        """
        told = list(notices)
        news: dict[str, CorporateNotice] = {}
        with self._db.transaction():
            known = self._rows_of(notice.action_id for notice in told)
            for notice in told:
                row = _row(notice)
                before = known.get(notice.action_id)
                if before is None:
                    self._db.insert(schema.corporate_actions, {**row, "seen_at": at})
                elif before != row:
                    self._db.update(schema.corporate_actions, "action_id", notice.action_id, row)
                else:
                    continue
                known[notice.action_id] = row
                news[notice.action_id] = notice
        return tuple(news.values())

    def _rows_of(self, action_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What is known under these ids, but for when it was first seen."""
        wanted, found = list(action_ids), {}
        for start in range(0, len(wanted), MOST_SYMBOLS):
            part = wanted[start : start + MOST_SYMBOLS]
            rest = f"WHERE action_id IN ({', '.join('?' * len(part))})"
            for row in self._db.read(schema.corporate_actions, rest, part):
                row.pop("seen_at")
                found[row["action_id"]] = row
        return found

    def notices(
        self, symbols: Iterable[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[CorporateNotice, ...]:
        """Notices with an ex-date in [start, end], by ex-date, symbol and id; of these symbols, where given."""
        table = schema.corporate_actions
        statement = select(table)
        if start is not None:
            statement = statement.where(table.c.ex_date >= start)
        if end is not None:
            statement = statement.where(table.c.ex_date <= end)
        found: list[CorporateNotice] = []
        if symbols is None:
            found += map(_notice, self._db.execute(statement).mappings())
        else:
            wanted = sorted(set(symbols))
            for first in range(0, len(wanted), MOST_SYMBOLS):
                part = statement.where(table.c.symbol.in_(wanted[first : first + MOST_SYMBOLS]))
                found += map(_notice, self._db.execute(part).mappings())
        return tuple(sorted(found, key=lambda notice: (notice.ex_date, notice.symbol, notice.action_id)))

    def actions(self) -> tuple[CorporateAction, ...]:
        """What the ledger applies when its day has come, each event once, by ex-date and id."""
        rest = "WHERE ledger_kind IS NOT NULL ORDER BY ex_date, action_id"
        told = (_notice(row).action for row in self._db.read(schema.corporate_actions, rest))
        return without_repeats([action for action in told if action is not None])

    def applied(self) -> tuple[CorporateAction, ...]:
        """The actions that the stored lots and realized rows were derived under, by ex-date and id."""
        table = schema.meta
        text = self._db.execute(select(table.c.value).where(table.c.key == _APPLIED)).scalar_one_or_none()
        return tuple(map(_action_from, json.loads(text))) if text else ()

    def put_applied(self, actions: Sequence[CorporateAction]) -> None:
        """Note the actions that the stored lots are derived under from now on."""
        row = {"key": _APPLIED, "value": Json.encode(list(actions))}
        statement = upsert(schema.meta).values(row)
        self._db.execute(statement.on_conflict_do_update(index_elements=["key"], set_=row))

    def needing_person(self) -> tuple[CorporateNotice, ...]:
        """Notices that change shares or basis in a way the ledger has no rule for, by ex-date and id."""
        rest = "WHERE needs_person ORDER BY ex_date, action_id"
        return tuple(map(_notice, self._db.read(schema.corporate_actions, rest)))


def without_repeats(actions: Sequence[CorporateAction]) -> tuple[CorporateAction, ...]:
    """The actions without those that tell an event again, by ex-date and id."""
    kept: dict[tuple[object, ...], list[CorporateAction]] = {}
    answered: set[tuple[str, str]] = set()  # (action, account): one announcement answers for one line of an account
    for action in sorted(actions, key=lambda each: (each.action_id.startswith(_DERIVED), each.ex_date, each.action_id)):
        account_id, alike = _account_of(action), kept.setdefault(_terms(action), [])
        same = (one for one in alike if _is_same(one, action) and (one.action_id, account_id) not in answered)
        found = next(same, None)
        if found is None:
            alike.append(action)
            found = action
        if account_id:
            answered.add((found.action_id, account_id))
    return tuple(sorted(chain.from_iterable(kept.values()), key=lambda each: (each.ex_date, each.action_id)))


def _account_of(action: CorporateAction) -> str:
    """The account whose activity an action was derived from; empty for what was announced."""
    return action.action_id.split(":", 2)[1] if action.action_id.startswith(_DERIVED) else ""


def _is_same(told: CorporateAction, again: CorporateAction) -> bool:
    """True when `again`, of the same terms, tells the event that `told` does."""
    if not _account_of(again):
        return told.ex_date == again.ex_date
    late = (again.ex_date - told.ex_date).days
    return -BOOKED_BEFORE_DAYS <= late <= (PAID_WITHIN_DAYS if again.kind in _PAID else BOOKED_BEFORE_DAYS)


def _terms(action: CorporateAction) -> tuple[object, ...]:
    ratio = action.ratio_new / action.ratio_old
    return action.kind, action.symbol, action.to_symbol, ratio, action.per_share, action.basis_fraction


def _action_from(item: Mapping[str, Any]) -> CorporateAction:
    amounts = ("ratio_new", "ratio_old", "per_share", "basis_fraction")
    return CorporateAction(
        **{
            **item,
            **{name: Decimal(item[name]) for name in amounts},
            "kind": CorporateActionKind(item["kind"]),
            "ex_date": date.fromisoformat(item["ex_date"]),
        }
    )


def _row(notice: CorporateNotice) -> dict[str, Any]:
    action = notice.action
    about = (notice.action_id, notice.symbol, notice.ex_date)
    if action is not None and (action.action_id, action.symbol, action.ex_date) != about:
        raise ValueError(f"Notice {about}: expected an action of the same id, symbol and day, was {action}")
    return {
        "action_id": notice.action_id,
        "symbol": notice.symbol,
        "kind": notice.kind,
        "ex_date": notice.ex_date,
        "ratio_new": action.ratio_new if action else None,
        "ratio_old": action.ratio_old if action else None,
        "per_share": notice.per_share or (action.per_share if action else ZERO),
        "to_symbol": action.to_symbol if action else None,
        "basis_fraction": action.basis_fraction if action else None,
        "ledger_kind": action.kind.value if action else None,
        "needs_person": notice.needs_person,
        "note": notice.note,
    }


def _notice(row: Any) -> CorporateNotice:
    action = None
    if row["ledger_kind"] is not None:
        kind = CorporateActionKind(row["ledger_kind"])
        action = CorporateAction(
            action_id=row["action_id"],
            kind=kind,
            symbol=row["symbol"],
            ex_date=row["ex_date"],
            ratio_new=row["ratio_new"],
            ratio_old=row["ratio_old"],
            per_share=row["per_share"] if kind in _PAID else ZERO,
            to_symbol=row["to_symbol"],
            basis_fraction=row["basis_fraction"],
        )
    return CorporateNotice(
        action_id=row["action_id"],
        kind=row["kind"],
        symbol=row["symbol"],
        ex_date=row["ex_date"],
        action=action,
        per_share=row["per_share"] or ZERO,
        needs_person=row["needs_person"],
        note=row["note"],
    )
