"""The command line. Exit codes: 0 done, 1 failed, 2 usage, 78 configuration."""

from __future__ import annotations

import os
import sqlite3
import sys

import typer

from daemon.cli import backup, data, demo, ledger, reconcile, service, setup, trading, views

app = typer.Typer(
    name="harvestd",
    help="Looks after one household's brokerage accounts. Start with `harvestd demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (demo, setup, trading, service, views, ledger, reconcile, data, backup):
    module.register(app)


def main() -> None:
    """Entry point: runs a command and turns what it raises on purpose into a sentence and an exit code."""
    from brokers.errors import BrokerError
    from daemon.errors import HarvestdError
    from state.store.errors import SchemaMismatch, StoreError, storage_fault

    # Read by numpy when it is first imported, which no command has done yet. The matrices are small: a second thread
    # takes its processor's time and, where something else wants that processor, makes them wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except HarvestdError as error:
        print(f"harvestd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SchemaMismatch as error:
        print(f"harvestd: {error}", file=sys.stderr)
        sys.exit(78)
    except (BrokerError, StoreError) as error:
        print(f"harvestd: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"harvestd: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if storage_fault(error) is None and not isinstance(error, sqlite3.OperationalError):
            raise
        said = getattr(error, "orig", error)  # SQLAlchemy's wrapper would print the statement and its values
        print(f"harvestd: the database cannot be used: {said}. Is it a file, readable and not busy?", file=sys.stderr)
        sys.exit(1)
