"""A person's first weeks with harvestd: the loopback Alpaca, a folder with config.yaml and keys, and the command line.

The server lives in the test's process on real past prices; `harvestd` runs in processes of its own, as it is installed,
and reaches it over real sockets with the real alpaca-py. Simulated time passes while the daemon sleeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from loopback import LoopbackAlpaca

from brokers.simulated import SimulatedVenue, VenueSettings
from daemon.demo.prices import demo_calendar, demo_prices
from state.records import ReliefMethod

KEY_ID = "PKLOOPBACKCANARY0001"
SECRET = "loopback-canary-secret-9b1f6f0c5d"
NUMBER = "PA3LOOPBACK01"
ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from daemon.cli.main import main; sys.argv = ['harvestd', *sys.argv[1:]]; main()"


EARLY = timedelta(hours=3)


@dataclass
class Practice:
    """One account at the loopback server, and a folder to work in."""

    folder: Path
    server: LoopbackAlpaca
    printed: list[str] = field(default_factory=list)  # everything every command said

    @property
    def venue(self) -> SimulatedVenue:
        """The venue behind the server."""
        return self.server.venue

    @property
    def database(self) -> Path:
        """The daemon's."""
        return self.folder / "harvestd.db"

    @property
    def config(self) -> Path:
        """The person's settings."""
        return self.folder / "config.yaml"

    def command(self, *words: object) -> list[str]:
        """The command line that runs harvestd."""
        return [sys.executable, "-c", COMMAND, *map(str, words)]

    def environment(self) -> dict[str, str]:
        """As a shell has it: nothing of harvestd's in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
        return {**kept, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "140"}

    def harvestd(self, *words: object, code: int = 0, typed: str = "") -> str:
        """Run one command in the folder to its end; what it printed."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        self.printed.append(done.stdout)
        assert done.returncode == code, f"{words}: expected exit code {code}, was {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, *words: object) -> subprocess.Popen[str]:
        """Run one command in the folder and let it go on."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def configure(self, **sections: Mapping[str, Any]) -> None:
        """Change keys of config.yaml, section by section."""
        values = yaml.safe_load(self.config.read_text())
        for section, changes in sections.items():
            if section == "mode":
                values["mode"] = changes
            else:
                values[section] |= changes
        self.config.write_text(yaml.safe_dump(values))

    def keys(self, key_id: str = KEY_ID, secret: str = SECRET) -> None:
        """Put keys where config.yaml says."""
        folder = self.folder / "keys"
        folder.mkdir(exist_ok=True)
        for name, text in (("alpaca_paper_key_id", key_id), ("alpaca_paper_secret_key", secret)):
            file = folder / name
            file.unlink(missing_ok=True)
            file.write_text(text + "\n")
            file.chmod(0o400)


@contextmanager
def practice(folder: Path, first: date, *, cash: int = 500_000, **venue: Any) -> Iterator[Practice]:
    """A new account in the early morning of `first`, on the demo's real prices, and `harvestd init` done for it."""
    calendar = demo_calendar()
    [session] = calendar.between(first, first)
    settings = VenueSettings(
        **{
            "seed": "practice",
            "half_spread_bps": Decimal(2),
            "partial_fill_probability": 0.1,
            "relief_method": ReliefMethod.FIFO,
            "fractional": True,
            **venue,
        }
    )
    made = SimulatedVenue(
        folder / "venue.db", demo_prices(calendar), settings, account_number=NUMBER, start=session.opens_at - EARLY
    )
    made.deposit(Decimal(cash), reference="opening")
    home = folder / "home"
    home.mkdir()
    server = LoopbackAlpaca(made, key_id=KEY_ID, secret_key=SECRET, account_number=NUMBER, validate=True)
    with server:
        person = Practice(home, server)
        person.harvestd("init", "--yes")
        person.keys()
        person.configure(
            alpaca={"loopback_url": server.url},
            credentials={"directory": "keys"},
            history={"load_years": 2},
            optimizer={"cash_min_pct": 0.1, "cash_max_pct": 0.8},
        )
        yield person
    made.close()
