"""Restatements and gifts"""

import sqlalchemy as sa
from alembic import op

import state.store.types

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restatements",
        sa.Column("restatement_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("learned_at", state.store.types.UtcInstant(), nullable=False),
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("disposed", sa.Date(), nullable=False),
        sa.Column("before", state.store.types.Json(), nullable=False),
        sa.Column("after", state.store.types.Json(), nullable=False),
        sa.Column("matches", state.store.types.Json(), nullable=False),
        sa.Column("causes", state.store.types.Json(), nullable=False),
        sa.PrimaryKeyConstraint("restatement_id", name=op.f("pk_restatements")),
    )
    with op.batch_alter_table("restatements") as batch_op:
        batch_op.create_index(batch_op.f("ix_restatements_disposed"), ["disposed"])

    with op.batch_alter_table("realized_gains") as batch_op:
        batch_op.create_index(batch_op.f("ix_realized_gains_sale_id"), ["sale_id"])

    with op.batch_alter_table("tax_lots") as batch_op:
        batch_op.add_column(sa.Column("always_long", sa.Boolean(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("loss_basis", state.store.types.ExactDecimal(), nullable=True))

    with op.batch_alter_table("transactions") as batch_op:
        batch_op.add_column(sa.Column("fair_value", state.store.types.ExactDecimal(), nullable=True))
        batch_op.create_index(batch_op.f("ix_transactions_supersedes"), ["supersedes"])
        batch_op.create_index(batch_op.f("ix_transactions_recorded_at"), ["recorded_at"])

    with op.batch_alter_table("market_data") as batch_op:
        batch_op.create_index(batch_op.f("ix_market_data_session"), ["session"])


def downgrade() -> None:
    with op.batch_alter_table("market_data") as batch_op:
        batch_op.drop_index(batch_op.f("ix_market_data_session"))

    with op.batch_alter_table("transactions") as batch_op:
        batch_op.drop_index(batch_op.f("ix_transactions_recorded_at"))
        batch_op.drop_index(batch_op.f("ix_transactions_supersedes"))
        batch_op.drop_column("fair_value")

    with op.batch_alter_table("tax_lots") as batch_op:
        batch_op.drop_column("loss_basis")
        batch_op.drop_column("always_long")

    with op.batch_alter_table("realized_gains") as batch_op:
        batch_op.drop_index(batch_op.f("ix_realized_gains_sale_id"))

    with op.batch_alter_table("restatements") as batch_op:
        batch_op.drop_index(batch_op.f("ix_restatements_disposed"))

    op.drop_table("restatements")
