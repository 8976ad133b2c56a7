"""Records to rows and back, field by field; nested records travel as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import RowMapping

from state.records import (
    Account,
    AccountType,
    Alert,
    AlertLevel,
    DailyBar,
    Intent,
    IntentState,
    Lot,
    LotSelection,
    OrderType,
    Plan,
    PlannedLot,
    PlannedTrade,
    PlanState,
    RealizedRow,
    ReliefMethod,
    Restatement,
    SaleFigures,
    Security,
    Side,
    Term,
    TradeReason,
    Transaction,
    TransactionKind,
    WashMatch,
)

Row = Mapping[str, Any] | RowMapping


def row_of(record: Any, **extra: Any) -> dict[str, Any]:
    """A record's fields as column values, and what stands beside them; the columns' types write them (types.py)."""
    row = {name: getattr(record, name) for name in record.__dataclass_fields__}
    row.update(extra)
    return row


def account_from(row: RowMapping) -> Account:
    """Account from a row of `accounts`."""
    return Account(
        **{
            **row,
            "account_type": AccountType(row["account_type"]),
            "relief_method": ReliefMethod(row["relief_method"]),
        }
    )


def security_from(row: RowMapping) -> Security:
    """Security from a row of `securities`."""
    return Security(**row)


def selections_from(items: Sequence[Mapping[str, str]]) -> tuple[LotSelection, ...]:
    """Lot selections from their JSON."""
    return tuple(LotSelection(item["lot_id"], Decimal(item["quantity"])) for item in items)


def transaction_from(row: Row) -> Transaction:
    """Transaction from a row of `transactions`."""
    values = dict(row)
    values.pop("journal_sequence")
    values["kind"] = TransactionKind(values["kind"])
    values["lots"] = selections_from(values["lots"])
    return Transaction(**values)


def lot_from(row: Row) -> Lot:
    """Lot from a row of `tax_lots`."""
    values = dict(row)
    values.pop("queue_position")
    return Lot(**values)


def realized_from(row: Row) -> RealizedRow:
    """Realized row from a row of `realized_gains`."""
    values = dict(row)
    values.pop("row_id")
    values["term"] = Term(values["term"])
    values["matches"] = matches_from(values["matches"])
    return RealizedRow(**values)


def matches_from(items: Sequence[Mapping[str, Any]]) -> tuple[WashMatch, ...]:
    """Wash-sale matches from their JSON."""
    return tuple(
        WashMatch(
            replacement_id=item["replacement_id"],
            replacement_account_id=item["replacement_account_id"],
            replacement_date=date.fromisoformat(item["replacement_date"]),
            quantity=Decimal(item["quantity"]),
            disallowed=Decimal(item["disallowed"]),
            permanent=item["permanent"],
        )
        for item in items
    )


def restatement_from(row: Row) -> Restatement:
    """Restatement from a row of `restatements`."""
    values = dict(row)
    values.pop("restatement_id")
    for key in ("before", "after"):
        values[key] = SaleFigures(**decimals(values[key]))
    values["matches"] = matches_from(values["matches"])
    values["causes"] = tuple(values["causes"])
    return Restatement(**values)


def planned_lot_from(item: Mapping[str, Any]) -> PlannedLot:
    """Planned lot from its JSON."""
    return PlannedLot(
        lot_id=item["lot_id"],
        acquired=date.fromisoformat(item["acquired"]),
        quantity=Decimal(item["quantity"]),
        basis=Decimal(item["basis"]),
        term=Term(item["term"]),
        gain_loss=Decimal(item["gain_loss"]),
        disallowed=Decimal(item["disallowed"]),
    )


def trade_from(row: Row) -> PlannedTrade:
    """Planned trade from a row of `rebalancing_trades`."""
    values = dict(row)
    values.pop("plan_id")
    values["side"] = Side(values["side"])
    values["reason"] = TradeReason(values["reason"])
    values["lots"] = tuple(planned_lot_from(item) for item in values["lots"])
    values["replacement"] = tuple(values["replacement"])
    return PlannedTrade(**values)


def plan_from(row: Row, trades: tuple[PlannedTrade, ...]) -> Plan:
    """Plan from a row of `rebalancing_events` and its trades."""
    values = dict(row)
    values.pop("updated_at")
    values.pop("weights_after")
    values["state"] = PlanState(values["state"])
    values["trades"] = trades
    for key in ("triggers", "reasons", "notes"):
        values[key] = tuple(values[key])
    for key in ("weights_before", "weights_planned"):
        values[key] = decimals(values[key])
    return Plan(**values)


def decimals(weights: Mapping[str, str] | None) -> dict[str, Decimal]:
    """A JSON mapping of decimal strings as decimals."""
    return {key: Decimal(value) for key, value in (weights or {}).items()}


def intent_from(row: Row) -> Intent:
    """Intent from a row of `orders`."""
    values = dict(row)
    values["side"] = Side(values["side"])
    values["state"] = IntentState(values["state"])
    values["order_type"] = OrderType(values["order_type"])
    values["lots"] = selections_from(values["lots"])
    return Intent(**values)


def bar_from(row: Row) -> DailyBar:
    """Daily bar from a row of `market_data`."""
    return DailyBar(**row)


def alert_from(row: Row) -> Alert:
    """Alert from a row of `alerts`."""
    values = dict(row)
    values.pop("alert_id")
    values["level"] = AlertLevel(values["level"])
    return Alert(**values)
