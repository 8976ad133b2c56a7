"""Plans, approvals, intents and fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import Intent, IntentState, Plan, PlannedTrade, PlanState, Side
from state.store import schema
from state.store.database import Database
from state.store.rows import decimals, intent_from, plan_from, row_of, trade_from

OPEN_PLANS = tuple(state.value for state in PlanState if not state.is_final)
OPEN_INTENTS = tuple(state.value for state in IntentState if not state.is_final)


@dataclass(frozen=True, slots=True)
class FillRow:
    """One execution, by the broker's own id."""

    execution_id: str
    account_id: str
    client_order_id: str | None
    broker_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    executed_at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """A question put to a person, and the answer. Weights before and after are kept for the history."""

    plan_id: str
    revision: int
    requested_at: datetime
    expires_at: datetime
    reasons: tuple[str, ...]
    decision: str | None = None
    decided_at: datetime | None = None
    decided_by: str | None = None
    weights_before: Mapping[str, Decimal] | None = None
    weights_after: Mapping[str, Decimal] | None = None


MOST_REMEMBERED = 64  # plans whose legs are kept in memory


def _where(**columns: object) -> tuple[str, list[object]]:
    """Conditions on the columns that have a value, each with its AND, and the values as SQLite knows them."""
    given = {name: value for name, value in columns.items() if value is not None}
    values = [value.isoformat() if isinstance(value, date) else value for value in given.values()]
    return "".join(f" AND {name} = ?" for name in given), values


def _among(name: str, words: Iterable[str]) -> str:
    """A condition that a column holds one of our own words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return f" AND {name} IN ({listed})"


class Plans:
    """Plans and the approvals asked for them."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._remembered: dict[str, tuple[int, tuple[PlannedTrade, ...]]] = {}  # plan -> rollbacks then, its trades

    def record(self, plan: Plan, at: datetime) -> None:
        """Insert a plan with its trades; an id that exists raises sqlite3.IntegrityError."""
        row = row_of(plan, updated_at=at, weights_after=None)
        row.pop("trades")
        with self._db.transaction():
            self._db.insert(schema.rebalancing_events, row)
            self._put_trades(plan)

    def update(self, plan_id: str, at: datetime, **changes: Any) -> None:
        """Change columns of a plan: state, revision, reasons, expires_at, weights_after."""
        table = schema.rebalancing_events
        self._db.execute(update(table).where(table.c.plan_id == plan_id).values(updated_at=at, **changes))

    def reprice(self, plan: Plan, at: datetime) -> None:
        """Write a plan's state, revision, expiry, reasons and the fresh prices and lots of its trades."""
        with self._db.transaction():
            self.update(
                plan.plan_id,
                at,
                state=plan.state,
                revision=plan.revision,
                expires_at=plan.expires_at,
                reasons=plan.reasons,
            )
            self._remembered.pop(plan.plan_id, None)
            self._db.delete(schema.rebalancing_trades, ("plan_id",), [(plan.plan_id,)])
            self._put_trades(plan)

    def get(self, plan_id: str) -> Plan | None:
        """One plan with its trades."""
        table = schema.rebalancing_events
        row = self._db.execute(select(table).where(table.c.plan_id == plan_id)).mappings().first()
        return plan_from(row, self._trades(plan_id)) if row else None

    def _trades(self, plan_id: str) -> tuple[PlannedTrade, ...]:
        """The legs of a plan. They change only when it is repriced, so those read last are remembered."""
        rollbacks, trades = self._remembered.get(plan_id, (-1, ()))
        if rollbacks != self._db.rollbacks:
            rows = self._db.read(schema.rebalancing_trades, "WHERE plan_id = ? ORDER BY leg", (plan_id,))
            trades = tuple(map(trade_from, rows))
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[plan_id] = self._db.rollbacks, trades
        return trades

    def list(
        self, *, account_id: str | None = None, only_open: bool = False, session: date | None = None, most: int = 0
    ) -> tuple[Plan, ...]:
        """Plans, oldest first; with `most`, the newest `most` of them."""
        where, values = _where(account_id=account_id, session=session)
        where += _among("state", OPEN_PLANS) if only_open else ""
        limit = f" LIMIT {most:d}" if most else ""
        rest = f"WHERE 1{where} ORDER BY created_at DESC, plan_id DESC{limit}"
        rows = list(self._db.read(schema.rebalancing_events, rest, values))
        return tuple(plan_from(row, self._trades(row["plan_id"])) for row in reversed(rows))

    def _put_trades(self, plan: Plan) -> None:
        ids = [plan.plan_id] * len(plan.trades)
        self._db.insert_records(schema.rebalancing_trades, plan.trades, ids, beside="plan_id")

    def is_any_open(self, account_id: str) -> bool:
        """True while a plan of the account is not over."""
        where = f"account_id = ?{_among('state', OPEN_PLANS)}"
        return self._db.exists(schema.rebalancing_events, where, (account_id,))

    def is_any_moving(self, account_id: str) -> bool:
        """True while a plan of the account is on its way, and not waiting for a person."""
        moving = (PlanState.PROPOSED.value, PlanState.APPROVED.value, PlanState.EXECUTING.value)
        where = f"account_id = ?{_among('state', moving)}"
        return self._db.exists(schema.rebalancing_events, where, (account_id,))

    def ended_today(self, account_id: str) -> tuple[Plan, ...]:
        """Plans that executed and have ended, whose weights after are not yet written."""
        table = schema.rebalancing_events
        ended = (PlanState.DONE.value, PlanState.PARTLY_DONE.value, PlanState.FAILED.value)
        statement = select(table).where(
            table.c.account_id == account_id, table.c.weights_after.is_(None), table.c.state.in_(ended)
        )
        rows = list(self._db.execute(statement.order_by(table.c.plan_id)).mappings())
        return tuple(plan_from(row, self._trades(row["plan_id"])) for row in rows)

    def last_session(self, account_id: str, state: PlanState) -> date | None:
        """The newest session with a plan in `state`."""
        table = schema.rebalancing_events
        newest = select(func.max(table.c.session)).where(table.c.account_id == account_id, table.c.state == state.value)
        return self._db.execute(newest).scalar()

    def next_sequence(self, account_id: str, session: date) -> int:
        """1 for the session's first plan, then 2, ..."""
        table = schema.rebalancing_events
        newest = select(func.max(table.c.sequence)).where(table.c.account_id == account_id, table.c.session == session)
        return int(self._db.execute(newest).scalar() or 0) + 1

    def weights_after(self, plan_id: str) -> dict[str, Decimal]:
        """Weights when the plan ended; empty while it has not."""
        table = schema.rebalancing_events
        found = self._db.execute(select(table.c.weights_after).where(table.c.plan_id == plan_id)).scalar()
        return decimals(found)

    def put_approval(self, approval: Approval) -> None:
        """Insert or update an approval row."""
        row = row_of(approval)
        row["weights_before"] = dict(approval.weights_before or {})
        statement = upsert(schema.approvals).values(row)
        self._db.execute(statement.on_conflict_do_update(index_elements=["plan_id", "revision"], set_=row))

    def approvals(self, plan_id: str | None = None) -> tuple[Approval, ...]:
        """Approvals in the order they were asked for."""
        table = schema.approvals
        statement = select(table).order_by(table.c.requested_at, table.c.plan_id, table.c.revision)
        if plan_id:
            statement = statement.where(table.c.plan_id == plan_id)
        return tuple(
            Approval(
                **{
                    **row,
                    "reasons": tuple(row["reasons"]),
                    "weights_before": decimals(row["weights_before"]),
                    "weights_after": decimals(row["weights_after"]),
                }
            )
            for row in self._db.execute(statement).mappings()
        )


class Orders:
    """Intents (at most one broker order each) and the broker's executions."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def record(self, intents: Iterable[Intent]) -> None:
        """Insert intents; an id that exists raises sqlite3.IntegrityError."""
        self._db.insert_records(schema.orders, intents)

    def save(self, intent: Intent) -> None:
        """Write an intent's present state."""
        self._db.update(schema.orders, "client_order_id", intent.client_order_id, row_of(intent))

    def get(self, client_order_id: str) -> Intent | None:
        """One intent."""
        return next(
            map(intent_from, self._db.read(schema.orders, "WHERE client_order_id = ?", (client_order_id,))), None
        )

    def by_broker_id(self, broker_order_id: str) -> Intent | None:
        """The intent that became this broker order, or None for an order that is not ours."""
        return next(
            map(intent_from, self._db.read(schema.orders, "WHERE broker_order_id = ?", (broker_order_id,))), None
        )

    def list(
        self,
        *,
        account_id: str | None = None,
        plan_id: str | None = None,
        only_open: bool = False,
        session: date | None = None,
    ) -> tuple[Intent, ...]:
        """Intents in the order they are worked: by plan, tie, leg, slice."""
        where, values = _where(account_id=account_id, plan_id=plan_id, session=session)
        where += _among("state", OPEN_INTENTS) if only_open else ""
        rest = f"WHERE 1{where} ORDER BY session, plan_id, slice_number, tie, leg"
        return tuple(map(intent_from, self._db.read(schema.orders, rest, values)))

    def is_any_open(self, account_id: str) -> bool:
        """True while an intent of the account is not over."""
        return self._db.exists(schema.orders, f"account_id = ?{_among('state', OPEN_INTENTS)}", (account_id,))

    def executions(self, plan_id: str, leg: int) -> frozenset[str]:
        """Execution ids of one leg, over all its slices."""
        ours = select(schema.orders.c.client_order_id).where(
            schema.orders.c.plan_id == plan_id, schema.orders.c.leg == leg
        )
        table = schema.fills
        return frozenset(
            self._db.execute(select(table.c.execution_id).where(table.c.client_order_id.in_(ours))).scalars()
        )

    def is_fill_unclaimed(self, intent: Intent) -> bool:
        """True when an execution of the intent's account, symbol and side since it was sent is of no order we know."""
        if intent.submitted_at is None:
            return False
        where = "account_id = ? AND symbol = ? AND side = ? AND client_order_id IS NULL"
        since = [
            row["executed_at"]
            for row in self._db.read(
                schema.fills, f"WHERE {where}", (intent.account_id, intent.symbol, intent.side.value)
            )
        ]
        return any(at >= intent.submitted_at for at in since)

    def claim_fills(self, intent: Intent) -> None:
        """Executions that were told before anybody knew whose order it was are this intent's."""
        table, broker_order_id = schema.fills, intent.broker_order_id
        if not self._db.exists(table, "client_order_id IS NULL AND broker_order_id = ?", (broker_order_id,)):
            return
        unclaimed = table.c.client_order_id.is_(None) & (table.c.broker_order_id == broker_order_id)
        self._db.execute(update(table).where(unclaimed).values(client_order_id=intent.client_order_id))

    def told_filled(self, client_order_id: str) -> Decimal:
        """Shares of an order that its executions add up to."""
        rows = self._db.read(schema.fills, "WHERE client_order_id = ?", (client_order_id,))
        return sum((row["quantity"] for row in rows), Decimal(0))

    def add_fill(self, fill: FillRow) -> bool:
        """Record an execution once; False when its id was known."""
        return self._db.insert_records(schema.fills, [fill], known="keep") == 1

    def replace_fill(self, execution_id: str, fill: FillRow | None) -> None:
        """Put the broker's correction in the place of an execution; None: it never happened."""
        with self._db.transaction():
            self._db.delete(schema.fills, ("execution_id",), [(execution_id,)])
            if fill is not None:
                self._db.insert_records(schema.fills, [fill], known="keep")

    def fills(self, *, session_start: datetime | None = None) -> tuple[FillRow, ...]:
        """Executions, oldest first."""
        table = schema.fills
        statement = select(table).order_by(table.c.executed_at, table.c.execution_id)
        if session_start:
            statement = statement.where(table.c.executed_at >= session_start)
        return tuple(FillRow(**{**row, "side": Side(row["side"])}) for row in self._db.execute(statement).mappings())
