"""Tables, named as the field names them. Money and quantities are exact; instants are UTC.

`transactions` is the journal: append-only, unique by the source's own id. `tax_lots` and `realized_gains` are
derived from it and can be rebuilt at any time. `orders` holds our intents, `rebalancing_events` the plans.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from state.store.types import ExactDecimal, Json, UtcInstant

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

accounts = Table(
    "accounts",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("account_type", Text, nullable=False),
    Column("relief_method", Text, nullable=False),
    Column("broker", Text, nullable=False),
    Column("account_number", Text, nullable=False),
    Column("history_complete_since", Date),
    Column("name", Text, nullable=False),
)

securities = Table(
    "securities",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("cusip", Text),
    Column("sector", Text),
    Column("index_name", Text),
    Column("tradable", Boolean, nullable=False),
    Column("fractionable", Boolean, nullable=False),
)

benchmarks = Table(
    "benchmarks",
    metadata,
    Column("benchmark_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("rebalance", Text, nullable=False),
)

benchmark_constituents = Table(
    "benchmark_constituents",
    metadata,
    Column("benchmark_id", Text, ForeignKey("benchmarks.benchmark_id"), primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("weight", ExactDecimal, nullable=False),  # at the last rebalancing of the benchmark
    Column("sector", Text),
)

positions = Table(
    "positions",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("quantity", ExactDecimal, nullable=False),  # as the broker last said
    Column("as_of", UtcInstant, nullable=False),  # since when it is so
    Column("lock_reason", Text),  # not null: ours and the broker's differ, nothing is traded in it
)

tax_lots = Table(
    "tax_lots",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.account_id"), primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("queue_position", Integer, primary_key=True),  # order of disposal under the account's relief method
    Column("lot_id", Text, nullable=False),
    Column("acquired", Date, nullable=False),
    Column("adjusted_acquired", Date, nullable=False),
    Column("quantity", ExactDecimal, nullable=False),
    Column("basis", ExactDecimal, nullable=False),
    Column("wash_adjustment", ExactDecimal, nullable=False),
    Column("basis_known", Boolean, nullable=False),
    Column("covered", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("always_long", Boolean, nullable=False, server_default="0"),
    Column("loss_basis", ExactDecimal),
)

realized_gains = Table(
    "realized_gains",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("sale_id", Text, nullable=False, index=True),
    Column("account_id", Text, nullable=False),
    Column("symbol", Text, nullable=False, index=True),
    Column("lot_id", Text, nullable=False),
    Column("acquired", Date, nullable=False),
    Column("adjusted_acquired", Date, nullable=False),
    Column("disposed", Date, nullable=False, index=True),
    Column("quantity", ExactDecimal, nullable=False),
    Column("proceeds", ExactDecimal, nullable=False),
    Column("basis", ExactDecimal, nullable=False),
    Column("gain_loss", ExactDecimal, nullable=False),
    Column("disallowed", ExactDecimal, nullable=False),
    Column("permanently_disallowed", ExactDecimal, nullable=False),
    Column("term", Text, nullable=False),
    Column("provisional_until", Date),
    Column("matches", Json, nullable=False),
)

restatements = Table(  # figures of a sale told before, and what they became; append-only
    "restatements",
    metadata,
    Column("restatement_id", Integer, primary_key=True, autoincrement=True),
    Column("learned_at", UtcInstant, nullable=False),
    Column("sale_id", Text, nullable=False),
    Column("account_id", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("disposed", Date, nullable=False, index=True),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
    Column("matches", Json, nullable=False),
    Column("causes", Json, nullable=False),
)

transactions = Table(
    "transactions",
    metadata,
    Column("journal_sequence", Integer, primary_key=True, autoincrement=True),
    Column("transaction_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("trade_date", Date, nullable=False),
    Column("symbol", Text),
    Column("quantity", ExactDecimal, nullable=False),
    Column("price", ExactDecimal, nullable=False),
    Column("fees", ExactDecimal, nullable=False),
    Column("amount", ExactDecimal, nullable=False),
    Column("executed_at", UtcInstant),
    Column("settle_date", Date),
    Column("order_id", Text),
    Column("client_order_id", Text),
    Column("lots", Json, nullable=False),
    Column("ratio_new", ExactDecimal),
    Column("ratio_old", ExactDecimal),
    Column("to_account_id", Text),
    Column("acquired", Date),
    Column("fair_value", ExactDecimal),
    Column("supersedes", Text, index=True),
    Column("recorded_at", UtcInstant, nullable=False, index=True),
    Column("note", Text, nullable=False),
    UniqueConstraint("transaction_id"),
)

market_data = Table(
    "market_data",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("session", Date, primary_key=True, index=True),
    Column("close", ExactDecimal, nullable=False),
    Column("adjusted", ExactDecimal, nullable=False),  # total return; for risk only
    Column("volume", ExactDecimal),
)

rebalancing_events = Table(
    "rebalancing_events",
    metadata,
    Column("plan_id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("session", Date, nullable=False, index=True),
    Column("sequence", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("created_at", UtcInstant, nullable=False),
    Column("updated_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant),
    Column("triggers", Json, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("notes", Json, nullable=False),
    Column("nav", ExactDecimal, nullable=False),
    Column("tracking_error_before_bps", Float),
    Column("tracking_error_after_bps", Float),
    Column("certified_gap_bp", Float),
    Column("weights_before", Json, nullable=False),
    Column("weights_planned", Json, nullable=False),
    Column("weights_after", Json),
    UniqueConstraint("account_id", "session", "sequence"),
)

rebalancing_trades = Table(
    "rebalancing_trades",
    metadata,
    Column("plan_id", Text, ForeignKey("rebalancing_events.plan_id"), primary_key=True),
    Column("leg", Integer, primary_key=True),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("quantity", ExactDecimal, nullable=False),
    Column("price", ExactDecimal, nullable=False),
    Column("reason", Text, nullable=False),
    Column("explanation", Text, nullable=False),
    Column("tie", Integer),
    Column("lots", Json, nullable=False),
    Column("replacement", Json, nullable=False),
    Column("days_held", Integer),
    Column("cost", ExactDecimal, nullable=False),
    Column("tracking_error_effect_bps", Float),
)

orders = Table(
    "orders",
    metadata,
    Column("client_order_id", Text, primary_key=True),
    Column("plan_id", Text, ForeignKey("rebalancing_events.plan_id"), nullable=False, index=True),
    Column("account_id", Text, ForeignKey("accounts.account_id"), nullable=False),
    Column("leg", Integer, nullable=False),
    Column("slice_number", Integer, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("quantity", ExactDecimal, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("session", Date, nullable=False),
    Column("order_type", Text, nullable=False),
    Column("reference_price", ExactDecimal, nullable=False),
    Column("tie", Integer),
    Column("limit_price", ExactDecimal),
    Column("lots", Json, nullable=False),
    Column("broker_order_id", Text, index=True),
    Column("submitted_quantity", ExactDecimal, nullable=False),
    Column("filled_quantity", ExactDecimal, nullable=False),
    Column("lookups", Integer, nullable=False),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False),
    Column("submitted_at", UtcInstant),
    Column("updated_at", UtcInstant),
)

fills = Table(
    "fills",
    metadata,
    Column("execution_id", Text, primary_key=True),  # the broker's
    Column("account_id", Text, nullable=False),
    Column("client_order_id", Text, index=True),
    Column("broker_order_id", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("quantity", ExactDecimal, nullable=False),
    Column("price", ExactDecimal, nullable=False),
    Column("executed_at", UtcInstant, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("plan_id", Text, ForeignKey("rebalancing_events.plan_id"), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("requested_at", UtcInstant, nullable=False),
    Column("expires_at", UtcInstant, nullable=False),
    Column("reasons", Json, nullable=False),
    Column("decision", Text),  # approved, rejected, expired
    Column("decided_at", UtcInstant),
    Column("decided_by", Text),
    Column("weights_before", Json, nullable=False),
    Column("weights_after", Json),
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Integer, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, index=True),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("raised_at", UtcInstant, nullable=False),
    Column("recovered", Boolean, nullable=False),
    Column("sent_at", UtcInstant),
)

tax_profiles = Table(
    "tax_profiles",
    metadata,
    Column("effective_from", Date, primary_key=True),
    Column("short_term_rate_pct", ExactDecimal, nullable=False),
    Column("long_term_rate_pct", ExactDecimal, nullable=False),
    Column("has_short_term_gains", Boolean, nullable=False),
)

corporate_actions = Table(
    "corporate_actions",
    metadata,
    Column("action_id", Text, primary_key=True),
    Column("symbol", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("ex_date", Date, nullable=False),
    Column("ratio_new", ExactDecimal),
    Column("ratio_old", ExactDecimal),
    Column("per_share", ExactDecimal),
    Column("to_symbol", Text),
    Column("basis_fraction", ExactDecimal),
    Column("ledger_kind", Text),  # what the ledger does about it; null: nothing, or nothing without a person
    Column("needs_person", Boolean, nullable=False, server_default="0"),
    Column("note", Text, nullable=False, server_default=""),
    Column("seen_at", UtcInstant),  # when harvestd first learned of it
)

market_coverage = Table(  # which sessions of a symbol were asked for: a gap inside is a gap at the source
    "market_coverage",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("first_session", Date, nullable=False),
    Column("last_session", Date, nullable=False),
    Column("as_of", UtcInstant, nullable=False),
)

market_findings = Table(  # bars that are not used until somebody or something explains them
    "market_findings",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("session", Date, primary_key=True),
    Column("kind", Text, primary_key=True),  # gap, zero, jump, renamed
    Column("detail", Text, nullable=False),
    Column("found_at", UtcInstant, nullable=False),
    Column("resolved_at", UtcInstant),
    Column("resolution", Text, nullable=False, server_default=""),
)

broker_events = Table(  # what a broker's stream said, as it came, before anything is made of it
    "broker_events",
    metadata,
    Column("event_id", Integer, primary_key=True, autoincrement=True),
    Column("account_id", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("received_at", UtcInstant, nullable=False),
    Column("body", Text, nullable=False),
    Column("taken_at", UtcInstant, index=True),
    Column("fault", Text, nullable=False, server_default=""),  # why nothing could be made of it
)

commands = Table(
    "commands",
    metadata,
    Column("command_id", Text, primary_key=True),
    Column("command", Text, nullable=False),  # approve, reject
    Column("argument", Text, nullable=False),
    Column("created_at", UtcInstant, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("taken_at", UtcInstant),
    Column("outcome", Text),
)

agenda_done = Table(
    "agenda_done",
    metadata,
    Column("session", Date, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("account_id", Text, primary_key=True),
    Column("done_at", UtcInstant, nullable=False),
)

broker_cursors = Table(
    "broker_cursors",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
)

daemon_states = Table(
    "daemon_states",
    metadata,
    Column("state_id", Integer, primary_key=True, autoincrement=True),
    Column("account_id", Text, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("since", UtcInstant, nullable=False),
)

daily_performance = Table(
    "daily_performance",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("session", Date, primary_key=True),
    Column("nav", ExactDecimal, nullable=False),
    Column("cash", ExactDecimal, nullable=False),
    Column("external_flow", ExactDecimal, nullable=False),  # deposits less withdrawals before this close
    Column("benchmark_nav", ExactDecimal, nullable=False),
    Column("tracking_error_bps", Float),  # ex-ante, at this close
    Column("tracking_error_note", Text, nullable=False),  # why it is above its limit, when it is
    Column("bought", ExactDecimal, nullable=False),
    Column("sold", ExactDecimal, nullable=False),
)

Index("ix_transactions_group", transactions.c.symbol, transactions.c.trade_date)
