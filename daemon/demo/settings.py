"""The settings of the demo: those of a careful user, with the demo's household and benchmark."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from daemon.demo.prices import SECTORS
from daemon.settings import Settings


def demo_settings(database: Path, start: date) -> Settings:
    """Nothing was traded in any account of this household before `start`.

    Equal-weighted 20 names rebalanced quarterly, FIFO, 400 bp of tracking error, approvals at their defaults."""
    known_since = (start - timedelta(days=60)).isoformat()
    return Settings.model_validate(
        {
            "mode": "demo",
            "database": {"path": str(database)},
            "household": {
                "accounts": [
                    {
                        "id": "main",
                        "type": "taxable",
                        "broker": "simulated",
                        "account_number": "SIM-DEMO",
                        "relief_method": "fifo",
                        "history_complete_since": known_since,
                        "name": "your account",
                    },
                    {
                        "id": "spouse",
                        "type": "spouse_taxable",
                        "broker": "import",
                        "history_complete_since": known_since,
                        "name": "spouse, by import",
                    },
                    {
                        "id": "ira",
                        "type": "ira",
                        "broker": "import",
                        "history_complete_since": known_since,
                        "name": "IRA, by import",
                    },
                ]
            },
            "benchmark": {"kind": "equal_weight", "symbols": sorted(SECTORS), "rebalance": "quarterly"},
            "optimizer": {"tracking_error_max_bps": 400, "cash_max_pct": 0.8, "cash_min_pct": 0.1},
            "execution": {
                "order_type": "market",
                "order_max_usd": "150000",
                "daily_notional_max_usd": "2000000",
                "unhedged_max_pct_nav": "6",
            },
        }
    )
