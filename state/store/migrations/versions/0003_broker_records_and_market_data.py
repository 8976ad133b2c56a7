"""What a broker's stream said, coverage and findings of market data, corporate actions in full"""

import sqlalchemy as sa
from alembic import op

import state.store.types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "market_coverage",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("first_session", sa.Date(), nullable=False),
        sa.Column("last_session", sa.Date(), nullable=False),
        sa.Column("as_of", state.store.types.UtcInstant(), nullable=False),
        sa.PrimaryKeyConstraint("symbol", name=op.f("pk_market_coverage")),
    )
    op.create_table(
        "market_findings",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("session", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("found_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("resolved_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("resolution", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("symbol", "session", "kind", name=op.f("pk_market_findings")),
    )
    op.create_table(
        "broker_events",
        sa.Column("event_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("received_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("taken_at", state.store.types.UtcInstant(), nullable=True),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_broker_events")),
    )
    with op.batch_alter_table("broker_events") as batch_op:
        batch_op.create_index(batch_op.f("ix_broker_events_taken_at"), ["taken_at"])

    with op.batch_alter_table("corporate_actions") as batch_op:
        batch_op.add_column(sa.Column("to_symbol", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("basis_fraction", state.store.types.ExactDecimal(), nullable=True))
        batch_op.add_column(sa.Column("ledger_kind", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("needs_person", sa.Boolean(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("note", sa.Text(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("seen_at", state.store.types.UtcInstant(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("corporate_actions") as batch_op:
        for name in ("seen_at", "note", "needs_person", "ledger_kind", "basis_fraction", "to_symbol"):
            batch_op.drop_column(name)

    with op.batch_alter_table("broker_events") as batch_op:
        batch_op.drop_index(batch_op.f("ix_broker_events_taken_at"))
    op.drop_table("broker_events")
    op.drop_table("market_findings")
    op.drop_table("market_coverage")
