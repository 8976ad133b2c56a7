"""Alembic environment: runs on the connection that `state.store.database.migrate` hands over."""

from alembic import context

from state.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
context.run_migrations()
