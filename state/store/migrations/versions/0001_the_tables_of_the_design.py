"""The tables of the design"""

import sqlalchemy as sa
from alembic import op

import state.store.types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("account_type", sa.Text(), nullable=False),
        sa.Column("relief_method", sa.Text(), nullable=False),
        sa.Column("broker", sa.Text(), nullable=False),
        sa.Column("account_number", sa.Text(), nullable=False),
        sa.Column("history_complete_since", sa.Date(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "agenda_done",
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("done_at", state.store.types.UtcInstant(), nullable=False),
        sa.PrimaryKeyConstraint("session", "task", "account_id", name=op.f("pk_agenda_done")),
    )
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("raised_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("recovered", sa.Boolean(), nullable=False),
        sa.Column("sent_at", state.store.types.UtcInstant(), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
    )
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alerts_key"), ["key"], unique=False)

    op.create_table(
        "benchmarks",
        sa.Column("benchmark_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rebalance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("benchmark_id", name=op.f("pk_benchmarks")),
    )
    op.create_table(
        "broker_cursors",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "stream", name=op.f("pk_broker_cursors")),
    )
    op.create_table(
        "commands",
        sa.Column("command_id", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("argument", sa.Text(), nullable=False),
        sa.Column("created_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("taken_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_commands")),
    )
    op.create_table(
        "corporate_actions",
        sa.Column("action_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ex_date", sa.Date(), nullable=False),
        sa.Column("ratio_new", state.store.types.ExactDecimal(), nullable=True),
        sa.Column("ratio_old", state.store.types.ExactDecimal(), nullable=True),
        sa.Column("per_share", state.store.types.ExactDecimal(), nullable=True),
        sa.PrimaryKeyConstraint("action_id", name=op.f("pk_corporate_actions")),
    )
    with op.batch_alter_table("corporate_actions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_corporate_actions_symbol"), ["symbol"], unique=False)

    op.create_table(
        "daily_performance",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("nav", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("cash", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("external_flow", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("benchmark_nav", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("tracking_error_bps", sa.Float(), nullable=True),
        sa.Column("tracking_error_note", sa.Text(), nullable=False),
        sa.Column("bought", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("sold", state.store.types.ExactDecimal(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "session", name=op.f("pk_daily_performance")),
    )
    op.create_table(
        "fills",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text(), nullable=True),
        sa.Column("broker_order_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("price", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("executed_at", state.store.types.UtcInstant(), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_fills")),
    )
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_fills_client_order_id"), ["client_order_id"], unique=False)

    op.create_table(
        "market_data",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("close", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("adjusted", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("volume", state.store.types.ExactDecimal(), nullable=True),
        sa.PrimaryKeyConstraint("symbol", "session", name=op.f("pk_market_data")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "realized_gains",
        sa.Column("row_id", sa.Integer(), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("acquired", sa.Date(), nullable=False),
        sa.Column("adjusted_acquired", sa.Date(), nullable=False),
        sa.Column("disposed", sa.Date(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("proceeds", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("basis", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("gain_loss", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("disallowed", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("permanently_disallowed", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("provisional_until", sa.Date(), nullable=True),
        sa.Column("matches", state.store.types.Json(), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_realized_gains")),
    )
    with op.batch_alter_table("realized_gains", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_realized_gains_disposed"), ["disposed"], unique=False)
        batch_op.create_index(batch_op.f("ix_realized_gains_symbol"), ["symbol"], unique=False)

    op.create_table(
        "securities",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cusip", sa.Text(), nullable=True),
        sa.Column("sector", sa.Text(), nullable=True),
        sa.Column("index_name", sa.Text(), nullable=True),
        sa.Column("tradable", sa.Boolean(), nullable=False),
        sa.Column("fractionable", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", name=op.f("pk_securities")),
    )
    op.create_table(
        "tax_profiles",
        sa.Column("effective_from", sa.Date(), nullable=False),
        sa.Column("short_term_rate_pct", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("long_term_rate_pct", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("has_short_term_gains", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("effective_from", name=op.f("pk_tax_profiles")),
    )
    op.create_table(
        "benchmark_constituents",
        sa.Column("benchmark_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("weight", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("sector", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["benchmark_id"], ["benchmarks.benchmark_id"], name=op.f("fk_benchmark_constituents_benchmark_id")
        ),
        sa.PrimaryKeyConstraint("benchmark_id", "symbol", name=op.f("pk_benchmark_constituents")),
    )
    op.create_table(
        "positions",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("as_of", state.store.types.UtcInstant(), nullable=False),
        sa.Column("lock_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_positions_account_id")),
        sa.PrimaryKeyConstraint("account_id", "symbol", name=op.f("pk_positions")),
    )
    op.create_table(
        "rebalancing_events",
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("updated_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("expires_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("triggers", state.store.types.Json(), nullable=False),
        sa.Column("reasons", state.store.types.Json(), nullable=False),
        sa.Column("notes", state.store.types.Json(), nullable=False),
        sa.Column("nav", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("tracking_error_before_bps", sa.Float(), nullable=True),
        sa.Column("tracking_error_after_bps", sa.Float(), nullable=True),
        sa.Column("certified_gap_bp", sa.Float(), nullable=True),
        sa.Column("weights_before", state.store.types.Json(), nullable=False),
        sa.Column("weights_planned", state.store.types.Json(), nullable=False),
        sa.Column("weights_after", state.store.types.Json(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_rebalancing_events_account_id")),
        sa.PrimaryKeyConstraint("plan_id", name=op.f("pk_rebalancing_events")),
        sa.UniqueConstraint("account_id", "session", "sequence", name=op.f("uq_rebalancing_events_account_id")),
    )
    with op.batch_alter_table("rebalancing_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rebalancing_events_session"), ["session"], unique=False)
        batch_op.create_index(batch_op.f("ix_rebalancing_events_state"), ["state"], unique=False)

    op.create_table(
        "tax_lots",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("queue_position", sa.Integer(), nullable=False),
        sa.Column("lot_id", sa.Text(), nullable=False),
        sa.Column("acquired", sa.Date(), nullable=False),
        sa.Column("adjusted_acquired", sa.Date(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("basis", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("wash_adjustment", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("basis_known", sa.Boolean(), nullable=False),
        sa.Column("covered", sa.Boolean(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_tax_lots_account_id")),
        sa.PrimaryKeyConstraint("account_id", "symbol", "queue_position", name=op.f("pk_tax_lots")),
    )
    op.create_table(
        "transactions",
        sa.Column("journal_sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("trade_date", sa.Date(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=True),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("price", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("fees", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("amount", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("executed_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("settle_date", sa.Date(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("client_order_id", sa.Text(), nullable=True),
        sa.Column("lots", state.store.types.Json(), nullable=False),
        sa.Column("ratio_new", state.store.types.ExactDecimal(), nullable=True),
        sa.Column("ratio_old", state.store.types.ExactDecimal(), nullable=True),
        sa.Column("to_account_id", sa.Text(), nullable=True),
        sa.Column("acquired", sa.Date(), nullable=True),
        sa.Column("supersedes", sa.Text(), nullable=True),
        sa.Column("recorded_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_transactions_account_id")),
        sa.PrimaryKeyConstraint("journal_sequence", name=op.f("pk_transactions")),
        sa.UniqueConstraint("transaction_id", name=op.f("uq_transactions_transaction_id")),
    )
    with op.batch_alter_table("transactions", schema=None) as batch_op:
        batch_op.create_index("ix_transactions_group", ["symbol", "trade_date"], unique=False)

    op.create_table(
        "approvals",
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("requested_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("expires_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("reasons", state.store.types.Json(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("decided_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("weights_before", state.store.types.Json(), nullable=False),
        sa.Column("weights_after", state.store.types.Json(), nullable=True),
        sa.ForeignKeyConstraint(["plan_id"], ["rebalancing_events.plan_id"], name=op.f("fk_approvals_plan_id")),
        sa.PrimaryKeyConstraint("plan_id", "revision", name=op.f("pk_approvals")),
    )
    op.create_table(
        "orders",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("slice_number", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("reference_price", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("tie", sa.Integer(), nullable=True),
        sa.Column("limit_price", state.store.types.ExactDecimal(), nullable=True),
        sa.Column("lots", state.store.types.Json(), nullable=False),
        sa.Column("broker_order_id", sa.Text(), nullable=True),
        sa.Column("submitted_quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("filled_quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("lookups", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("submitted_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("updated_at", state.store.types.UtcInstant(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"], name=op.f("fk_orders_account_id")),
        sa.ForeignKeyConstraint(["plan_id"], ["rebalancing_events.plan_id"], name=op.f("fk_orders_plan_id")),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_orders")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_orders_broker_order_id"), ["broker_order_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_orders_plan_id"), ["plan_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_orders_state"), ["state"], unique=False)

    op.create_table(
        "rebalancing_trades",
        sa.Column("plan_id", sa.Text(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("quantity", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("price", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("tie", sa.Integer(), nullable=True),
        sa.Column("lots", state.store.types.Json(), nullable=False),
        sa.Column("replacement", state.store.types.Json(), nullable=False),
        sa.Column("days_held", sa.Integer(), nullable=True),
        sa.Column("cost", state.store.types.ExactDecimal(), nullable=False),
        sa.Column("tracking_error_effect_bps", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["rebalancing_events.plan_id"], name=op.f("fk_rebalancing_trades_plan_id")
        ),
        sa.PrimaryKeyConstraint("plan_id", "leg", name=op.f("pk_rebalancing_trades")),
    )


def downgrade() -> None:
    op.drop_table("rebalancing_trades")
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_orders_state"))
        batch_op.drop_index(batch_op.f("ix_orders_plan_id"))
        batch_op.drop_index(batch_op.f("ix_orders_broker_order_id"))

    op.drop_table("orders")
    op.drop_table("approvals")
    with op.batch_alter_table("transactions", schema=None) as batch_op:
        batch_op.drop_index("ix_transactions_group")

    op.drop_table("transactions")
    op.drop_table("tax_lots")
    with op.batch_alter_table("rebalancing_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_rebalancing_events_state"))
        batch_op.drop_index(batch_op.f("ix_rebalancing_events_session"))

    op.drop_table("rebalancing_events")
    op.drop_table("positions")
    op.drop_table("benchmark_constituents")
    op.drop_table("tax_profiles")
    op.drop_table("securities")
    with op.batch_alter_table("realized_gains", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_realized_gains_symbol"))
        batch_op.drop_index(batch_op.f("ix_realized_gains_disposed"))

    op.drop_table("realized_gains")
    op.drop_table("meta")
    op.drop_table("market_data")
    with op.batch_alter_table("fills", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_fills_client_order_id"))

    op.drop_table("fills")
    op.drop_table("daily_performance")
    with op.batch_alter_table("corporate_actions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_corporate_actions_symbol"))

    op.drop_table("corporate_actions")
    op.drop_table("commands")
    op.drop_table("broker_cursors")
    op.drop_table("benchmarks")
    with op.batch_alter_table("alerts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_alerts_key"))

    op.drop_table("alerts")
    op.drop_table("agenda_done")
    op.drop_table("accounts")
