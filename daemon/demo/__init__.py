"""The demo: the whole daemon on real past prices, a simulated venue, and a household around it."""

from __future__ import annotations

from pathlib import Path

DEMO_DATABASE = Path("harvestd-demo.db")  # in the folder where the command is given
