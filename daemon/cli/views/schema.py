"""`harvestd schema NAME`: the JSON Schema of each promised format.

Money and quantities are decimal strings, dates ISO, rates and counts numbers. Gains are positive and losses negative,
except in fields named loss, losses or disallowed, which are positive amounts. A change here is a change of version.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from daemon.cli.common import emit
from state.reasons import ReasonCode
from state.records import PlanState, Side, Term, TradeReason

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LATER = ("snapshot", "backtest")  # promised by the design, not delivered by this version

DECIMAL: Schema = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
AMOUNT: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"}  # never negative
DAY: Schema = {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}
INSTANT: Schema = {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(\+00:00|Z)$"}
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
SWITCH: Schema = {"type": "boolean"}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": items}


def mapping(values: Schema) -> Schema:
    """An object with free keys."""
    return {"type": "object", "additionalProperties": values}


def one_of(words: type[StrEnum]) -> Schema:
    """A closed list of words."""
    return {"type": "string", "enum": [str(word.value) for word in words]}


def exactly(properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    """An object with these keys and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


# ------------------------------------------------------------------ plan

PLANNED_LOT = exactly(
    {
        "lot_id": TEXT,
        "acquired": DAY,
        "quantity": AMOUNT,
        "basis": AMOUNT,
        "term": one_of(Term),
        "gain_loss": DECIMAL,
        "disallowed": AMOUNT,
    }
)
PLANNED_TRADE = exactly(
    {
        "leg": COUNT,
        "symbol": TEXT,
        "side": one_of(Side),
        "quantity": AMOUNT,
        "price": AMOUNT,
        "reason": one_of(TradeReason),
        "explanation": TEXT,
        "tie": nullable(INTEGER),
        "lots": array(PLANNED_LOT),
        "replacement": array(TEXT),
        "days_held": nullable(COUNT),
        "cost": AMOUNT,
        "tracking_error_effect_bps": nullable(NUMBER),
    }
)
PLAN_RECORD = exactly(
    {
        "plan_id": TEXT,
        "account_id": TEXT,
        "session": DAY,
        "sequence": COUNT,
        "created_at": INSTANT,
        "state": one_of(PlanState),
        "trades": array(PLANNED_TRADE),
        "triggers": array(TEXT),
        "nav": DECIMAL,
        "tracking_error_before_bps": nullable(NUMBER),
        "tracking_error_after_bps": nullable(NUMBER),
        "weights_before": mapping(DECIMAL),
        "weights_planned": mapping(DECIMAL),
        "reasons": array(TEXT),
        "notes": array(TEXT),
        "certified_gap_bp": nullable(NUMBER),
        "expires_at": nullable(INSTANT),
        "revision": COUNT,
    }
)
LOT = exactly(
    {
        "lot_id": TEXT,
        "account_id": TEXT,
        "symbol": TEXT,
        "acquired": DAY,
        "adjusted_acquired": DAY,
        "quantity": AMOUNT,
        "basis": DECIMAL,
        "wash_adjustment": AMOUNT,
        "basis_known": SWITCH,
        "covered": SWITCH,
        "always_long": SWITCH,
        "loss_basis": nullable(AMOUNT),
        "source": TEXT,
    }
)
REASON = exactly({"code": one_of(ReasonCode), "details": array(array(TEXT))})
OPPORTUNITY = exactly(
    {
        "symbol": TEXT,
        "lots": array(LOT),
        "price": AMOUNT,
        "loss_usd": DECIMAL,
        "gross_loss_usd": AMOUNT,
        "loss_fraction": NUMBER,
        "trigger_fraction": NUMBER,
        "tax_value_usd": DECIMAL,
        "days_held": COUNT,
        "taken": SWITCH,
        "verdict": REASON,
        "replacements": array(TEXT),
        "reason": one_of(TradeReason),
    }
)
PLAN = exactly(
    {
        "as_of": INSTANT,
        "places_orders": {"type": "boolean", "const": False},
        "plan": nullable(PLAN_RECORD),
        "needs_approval": array(TEXT),
        "blocked_by": array(TEXT),
        "opportunities": array(OPPORTUNITY),
    }
)

# ------------------------------------------------------------------ replay

REPLAYED_LOT = exactly(
    {
        "lot": TEXT,
        "acquired": DAY,
        "adjusted_acquired": DAY,
        "quantity": AMOUNT,
        "proceeds": DECIMAL,
        "basis": DECIMAL,
        "gain_loss": DECIMAL,
        "disallowed": AMOUNT,
        "permanently_disallowed": AMOUNT,
        "term": one_of(Term),
    }
)
REPLAYED_OPEN_LOT = exactly(
    {
        "lot": TEXT,
        "account": TEXT,
        "symbol": TEXT,
        "acquired": DAY,
        "adjusted_acquired": DAY,
        "quantity": AMOUNT,
        "basis": DECIMAL,
    }
)
REPLAYED_CASE = exactly(
    {
        "id": TEXT,
        "sales": array(exactly({"sale_id": TEXT, "lots": array(REPLAYED_LOT)})),
        "open_lots": array(REPLAYED_OPEN_LOT),
    }
)
REPLAY = exactly(
    {
        "cases": array(REPLAYED_CASE),
        "netting_cases": array(exactly({"id": TEXT, "deduct": AMOUNT, "st_carry_out": AMOUNT, "lt_carry_out": AMOUNT})),
        "rate_cases": array(
            exactly(
                {"id": TEXT, "ordinary_tax": AMOUNT, "preferential_tax": AMOUNT, "niit": AMOUNT},
                optional=("ordinary_tax", "preferential_tax", "niit"),
            )
        ),
        "qualified_dividend_cases": array(exactly({"id": TEXT, "days_in_window": COUNT, "qualified": SWITCH})),
    },
    optional=("cases", "netting_cases", "rate_cases", "qualified_dividend_cases"),
)

# ------------------------------------------------------------------ demo

DEMO = {
    **exactly(
        {
            "from": DAY,
            "to": DAY,
            "sessions": COUNT,
            "orders": COUNT,
            "fills": COUNT,
            "rejects": COUNT,
            "harvests": COUNT,
            "losses_realized_usd": AMOUNT,
            "disallowed_usd": AMOUNT,
            "net_losses_usd": AMOUNT,
            "net_losses_by_year": mapping(AMOUNT),
            "fifo_blocked_losses_usd": AMOUNT,
            "tax_value_usd": DECIMAL,
            "liquidation_tax_usd": DECIMAL,
            "nav_usd": DECIMAL,
            "benchmark_nav_usd": DECIMAL,
            "tracking_error_realized_bps": nullable(NUMBER),
            "turnover_pct_per_year": nullable(NUMBER),
            "wash_sale_conflicts": COUNT,
            "reconciliation_breaks": COUNT,
            "seconds": NUMBER,
            "peak_memory_mb": NUMBER,
            "ledger_digest": TEXT,
        }
    ),
    "additionalProperties": True,  # what is promised; the demo prints some figures more
}

WRITTEN = {"plan": PLAN, "replay": REPLAY, "demo": DEMO}
TITLES = {
    "config": "config.yaml",
    "demo": "harvestd demo --json",
    "plan": "harvestd plan --json",
    "replay": "harvestd ledger replay FILE --json",
}


def schema_of(name: str) -> Schema:
    """The JSON Schema of one format. Raises KeyError for one that this version does not deliver."""
    if name == "config":
        from daemon.settings import Settings

        found: Schema = Settings.model_json_schema()
    else:
        found = WRITTEN[name]
    return {**found, "$schema": DIALECT, "title": TITLES[name]}


def schema(name: Annotated[str, typer.Argument(help="config, demo, plan or replay.")]) -> None:
    """The JSON Schema of a promised format: config, demo, plan or replay."""
    if name not in TITLES:
        later = " It comes with a later version." if name in LATER else ""
        raise typer.BadParameter(f"Expected one of {', '.join(sorted(TITLES))}, was {name}.{later}", param_hint="NAME")
    emit(schema_of(name))
