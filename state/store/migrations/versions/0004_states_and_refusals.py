"""The daemon's states as they follow each other, and how often a broker refused an order"""

import sqlalchemy as sa
from alembic import op

import state.store.types

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "daemon_states",
        sa.Column("state_id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("since", state.store.types.UtcInstant(), nullable=False),
        sa.PrimaryKeyConstraint("state_id", name=op.f("pk_daemon_states")),
    )
    with op.batch_alter_table("daemon_states") as batch_op:
        batch_op.create_index(batch_op.f("ix_daemon_states_account_id"), ["account_id"])

    with op.batch_alter_table("orders") as batch_op:
        batch_op.add_column(sa.Column("refusals", sa.Integer(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("orders") as batch_op:
        batch_op.drop_column("refusals")

    with op.batch_alter_table("daemon_states") as batch_op:
        batch_op.drop_index(batch_op.f("ix_daemon_states_account_id"))
    op.drop_table("daemon_states")
