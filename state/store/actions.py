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

What a source no longer tells is forgotten (`untold`, `remove`): it may have been a mistake, or come again under another
id. What a person has withdrawn stays known and does nothing, however often it is told. Two announced splits of one
symbol within a week are rarely two events; which of them is right nobody can say from here, so neither applies
(`contested`) until one of them is gone.

Which of them the stored lots were derived under is kept beside them: a process that ends between an announcement and
the replay it asks for finds, when it starts again, that the two differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import ROUND_UP, Decimal
from itertools import chain, pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import QUANTUM, ZERO, CorporateAction, CorporateActionKind, CorporateNotice
from state.store import schema
from state.store.database import Database
from state.store.journal import Journal
from state.store.types import Json

MOST_SYMBOLS = 500  # in one statement
PAID_WITHIN_DAYS = 60  # of the ex-date: a payment later than that is of another distribution
BOOKED_BEFORE_DAYS = 7  # brokers book one action on different days of a week
HALF_A_CENT = Decimal("0.005")
EXACT: Mapping[str, Decimal] = {}
_DERIVED = "activity:"
_APPLIED, _WITHDRAWN = "actions_applied", "actions_withdrawn"  # in the store's meta
_PAID = frozenset({CorporateActionKind.CASH_MERGER, CorporateActionKind.RETURN_OF_CAPITAL})
_MULTIPLYING = (CorporateActionKind.SPLIT, CorporateActionKind.SPINOFF)  # done twice, they do another thing


def derived_id(account_id: str, activity_id: str) -> str:
    """The id of an action that only a broker's activity tells, in one account."""
    return f"{_DERIVED}{account_id}:{activity_id}"


def is_announced(action_id: str) -> bool:
    """True for the id of something that was announced, False for what only a broker's activity tells."""
    return not action_id.startswith(_DERIVED)


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
            rest = f"WHERE action_id IN ({_marks(part)})"
            for row in self._db.read(schema.corporate_actions, rest, part):
                row.pop("seen_at")
                found[row["action_id"]] = row
        return found

    def untold(
        self, symbols: Iterable[str], start: date, end: date, told: Iterable[CorporateNotice]
    ) -> tuple[CorporateNotice, ...]:
        """What was announced once of these symbols for [start, end], and is not among what is told now. What a
        broker's activities tell is not the announcer's to take back."""
        ids = {notice.action_id for notice in told}
        known = self.notices(symbols, start, end)
        return tuple(one for one in known if one.action_id not in ids and is_announced(one.action_id))

    def remove(self, action_ids: Iterable[str]) -> None:
        """Forget what is no longer told."""
        self._db.delete(schema.corporate_actions, ("action_id",), ((action_id,) for action_id in action_ids))

    def withdrawn(self) -> frozenset[str]:
        """Ids that a person has withdrawn: they do nothing, told or not."""
        return frozenset(json.loads(self._fact(_WITHDRAWN) or "[]"))

    def withdraw(self, action_id: str, *, undo: bool = False) -> CorporateNotice:
        """A person's word that something announced does not happen; with `undo`, that it does. Raises KeyError for an
        id that is not known."""
        if not self._rows_of([action_id]):
            raise KeyError(action_id)
        ids = self.withdrawn() - {action_id} if undo else self.withdrawn() | {action_id}
        self._put_fact(_WITHDRAWN, json.dumps(sorted(ids)))
        return next(map(_notice, self._rows_of([action_id]).values()))

    def notices(
        self, symbols: Iterable[str] | None = None, start: date | None = None, end: date | None = None
    ) -> tuple[CorporateNotice, ...]:
        """Notices with an ex-date in [start, end], by ex-date, symbol and id; of these symbols, where given. Those that
        a person has withdrawn do nothing."""
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
        void = self.withdrawn()
        if void:
            found = [_without_effect(one) if one.action_id in void else one for one in found]
        return tuple(sorted(found, key=lambda notice: (notice.ex_date, notice.symbol, notice.action_id)))

    def actions(self) -> tuple[CorporateAction, ...]:
        """What the ledger applies when its day has come, each event once, by ex-date and id."""
        once = self._once("ledger_kind IS NOT NULL")
        doubtful = {action.action_id for some in _contested(once) for action in some}
        return tuple(action for action in once if action.action_id not in doubtful)

    def contested(self) -> tuple[tuple[CorporateAction, ...], ...]:
        """Announcements that cannot all be meant, group by group: none of them applies."""
        kinds = ", ".join(f"'{kind.value}'" for kind in _MULTIPLYING)
        rest = f"WHERE ledger_kind IN ({kinds})"
        told = sorted(self._db.select(schema.corporate_actions, ("symbol", "ledger_kind", "ex_date"), rest))
        near = sorted({one[0] for one, other in pairwise(told) if one[:2] == other[:2] and _is_near(one[2], other[2])})
        return _contested(self._once(f"ledger_kind IN ({kinds}) AND symbol IN ({_marks(near)})", near)) if near else ()

    def _once(self, where: str, values: Sequence[object] = ()) -> tuple[CorporateAction, ...]:
        """The actions that count, each event once, by ex-date and id."""
        void, rest = self.withdrawn(), f"WHERE {where} ORDER BY ex_date, action_id"
        rows = self._db.read(schema.corporate_actions, rest, values)
        told = (_notice(row).action for row in rows if row["action_id"] not in void)
        return self.once([action for action in told if action is not None])

    def once(self, actions: Sequence[CorporateAction]) -> tuple[CorporateAction, ...]:
        """The actions without those that tell an event again, by ex-date and id.

        Where a broker tells a return of capital as cash on so many shares, the amount a share is known to half a cent
        over the shares: two accounts paid the same distribution may give two amounts.
        """
        lines = {
            action.action_id.split(":", 2)[2]: action.action_id
            for action in actions
            if action.kind is CorporateActionKind.RETURN_OF_CAPITAL and _account_of(action)
        }
        versions = Journal(self._db).versions(lines) if lines else {}
        paid = {lines[line]: rows[-1] for line, rows in versions.items()}
        off = {name: HALF_A_CENT / row.quantity for name, row in paid.items() if not row.price and row.quantity > 0}
        return without_repeats(actions, {name: error.quantize(QUANTUM, ROUND_UP) for name, error in off.items()})

    def applied(self) -> tuple[CorporateAction, ...]:
        """The actions that the stored lots and realized rows were derived under, by ex-date and id."""
        text = self._fact(_APPLIED)
        return tuple(map(_action_from, json.loads(text))) if text else ()

    def put_applied(self, actions: Sequence[CorporateAction]) -> None:
        """Note the actions that the stored lots are derived under from now on."""
        self._put_fact(_APPLIED, Json.encode(list(actions)) or "[]")

    def needing_person(self) -> tuple[CorporateNotice, ...]:
        """Notices that change shares or basis in a way the ledger has no rule for, by ex-date and id."""
        rows = self._db.read(schema.corporate_actions, "WHERE needs_person ORDER BY ex_date, action_id")
        void = self.withdrawn()
        return tuple(_notice(row) for row in rows if row["action_id"] not in void)

    def _fact(self, key: str) -> str | None:
        table = schema.meta
        return self._db.execute(select(table.c.value).where(table.c.key == key)).scalar_one_or_none()

    def _put_fact(self, key: str, value: str) -> None:
        row = {"key": key, "value": value}
        statement = upsert(schema.meta).values(row)
        self._db.execute(statement.on_conflict_do_update(index_elements=["key"], set_=row))


def without_repeats(
    actions: Sequence[CorporateAction], inexact: Mapping[str, Decimal] = EXACT
) -> tuple[CorporateAction, ...]:
    """The actions without those that tell an event again, by ex-date and id. `inexact` says by how much the amount a
    share of an action may be off, USD: of tellings of one distribution the most exact amount counts."""
    kept: dict[tuple[object, ...], list[CorporateAction]] = {}
    answered: set[tuple[str, str]] = set()  # (action, account): one announcement answers for one line of an account
    off = dict(inexact)
    for action in sorted(actions, key=lambda each: (each.action_id.startswith(_DERIVED), each.ex_date, each.action_id)):
        account_id, alike = _account_of(action), kept.setdefault(_terms(action), [])
        error = off.get(action.action_id, ZERO)
        for place, one in enumerate(alike):
            apart, known = abs(one.per_share - action.per_share), off.get(one.action_id, ZERO)
            if apart <= known + error and _is_same(one, action) and (one.action_id, account_id) not in answered:
                if error < known:
                    alike[place], off[one.action_id] = replace(one, per_share=action.per_share), error
                found = one
                break
        else:
            alike.append(action)
            found = action
        if account_id:
            answered.add((found.action_id, account_id))
    return tuple(sorted(chain.from_iterable(kept.values()), key=lambda each: (each.ex_date, each.action_id)))


def _contested(actions: Sequence[CorporateAction]) -> tuple[tuple[CorporateAction, ...], ...]:
    """Of actions told once each, by ex-date: groups of announced ones that are too close to be different events."""
    groups: list[list[CorporateAction]] = []
    last: dict[tuple[object, ...], list[CorporateAction]] = {}
    for action in actions:
        if action.kind not in _MULTIPLYING or _account_of(action):
            continue
        event = action.kind, action.symbol, action.to_symbol
        near = last.get(event)
        if near is not None and _is_near(near[-1].ex_date, action.ex_date):
            near.append(action)
        else:
            last[event] = [action]
            groups.append(last[event])
    return tuple(tuple(group) for group in groups if len(group) > 1)


def _without_effect(notice: CorporateNotice) -> CorporateNotice:
    note = "; ".join(part for part in (notice.note, "withdrawn by a person") if part)
    return replace(notice, action=None, per_share=ZERO, needs_person=False, note=note)


def _is_near(earlier: date, later: date) -> bool:
    return (later - earlier).days <= BOOKED_BEFORE_DAYS


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


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
    return action.kind, action.symbol, action.to_symbol, ratio, action.basis_fraction


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
