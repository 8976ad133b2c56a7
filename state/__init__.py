"""What is known: records and the tax-lot ledger (pure), and the store (database and migrations)."""
