"""A long run with everything going wrong: `harvestd run` for many sessions, at the loopback Alpaca, with random faults.

The real daemon in a process of its own, with the real client, sockets and streams; the loopback server (tests/loopback)
in another; and this one, which every session lets faults wait at the server, commands the venue, halts and resumes
trading, and kills the daemon or stops it and starts it again. In the last third the process is left alive, so that its
memory can be watched. After the last faults come two quiet sessions; then the books are laid side by side
(tests/invariants.py): nothing lost, nothing doubled, nothing sent that should not have been.

    python benchmarks/soak.py [--sessions 60] [--names 500] [--seed 1] [--short] [--json] [--keep FOLDER]

What is armed is drawn from the seed. What it hits depends on the moment, as it does in life; two runs differ.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

KEYS = ("PKSOAKCANARY00001", "soak-canary-secret-key")
NUMBER = "PA3SOAK00001"
COMMAND = "import sys; from daemon.cli.main import main; sys.argv = ['harvestd', *sys.argv[1:]]; main()"
BEFORE = 520  # sessions of prices before the first one
CONFIGURATION = 78  # the exit code of a daemon that must not be started again
QUIET = 2  # sessions at the end
POLL_S = 0.02
PATIENCE_S = 900.0  # in which a session must have passed
WARM_UP = 3  # sessions of a process before its memory counts
SLOPE_MAX_MB = 1.0  # a session, of a process that is warm: its own growth is the database's and the ledger's


# ------------------------------------------------------------------ the broker's process


def prices_of(names: int, sessions: int) -> Any:
    """Synthetic closes, from two years before the first session to some days after the last."""
    from loopback.worlds import synthetic_prices

    return synthetic_prices(names, BEFORE + sessions + QUIET + 10)


def venue_of(folder: Path, names: int, sessions: int) -> Any:
    """The venue in its file, made or opened again."""
    from loopback.worlds import open_venue

    from brokers.simulated import VenueSettings

    prices = prices_of(names, sessions)
    return open_venue(
        folder / "venue.db",
        prices,
        start=prices.sessions[BEFORE].session,
        cash=Decimal(names * 10_000),
        account_number=NUMBER,
        settings=VenueSettings(
            seed="soak", half_spread_bps=Decimal(2), partial_fill_probability=0.2, rejection_probability=0.01
        ),
    )


def serve(folder: Path, names: int, sessions: int, link: Connection) -> None:
    """Answer until told to end."""
    from loopback import LoopbackAlpaca

    venue = venue_of(folder, names, sessions)
    with (
        closing(venue),
        LoopbackAlpaca(venue, key_id=KEYS[0], secret_key=KEYS[1], account_number=NUMBER) as server,
    ):
        link.send((server.url, [(each.session, each.opens_at, each.closes_at) for each in venue.schedule.sessions]))
        while link.recv() != "end":
            server.clear_requests()


# ------------------------------------------------------------------ what can go wrong

Draw = Callable[[random.Random, Sequence[str]], dict[str, Any]]
READS = ("/v2/positions", "/v2/account$", "/v2/account/activities", "/v2/orders", "/v2/clock", "/v2/stocks")
ORDERS = {"method": "POST", "path": "/v2/orders$"}


def _read(chosen: random.Random) -> dict[str, Any]:
    return {"method": "GET", "path": chosen.choice(READS), "nth": chosen.randint(1, 12)}


def _order(chosen: random.Random) -> dict[str, Any]:
    return {**ORDERS, "nth": chosen.randint(1, 8), "when": chosen.choice(("before", "after"))}


FAULTS: dict[str, Draw] = {
    "delay": lambda one, _: {**_read(one), "kind": "delay", "seconds": 0.2},
    "read dropped": lambda one, _: {**_read(one), "kind": "drop", "times": one.randint(1, 4)},
    "read refused": lambda one, _: {**_read(one), "kind": "status", "status": one.choice((500, 502, 503, 504))},
    "storm of 429": lambda one, _: {**_read(one), "kind": "status", "status": 429, "seconds": 1, "times": 3},
    "gateway's page": lambda one, _: {**_read(one), "kind": "html"},
    "redirect": lambda one, _: {**_read(one), "kind": "redirect"},
    "read truncated": lambda one, _: {**_read(one), "kind": "truncated"},
    "wrong type": lambda one, _: {**_read(one), "kind": "wrong_type"},
    "empty page": lambda one, _: {**_read(one), "kind": "empty_page"},
    "field missing": lambda one, _: {**_read(one), "kind": "omit", "fields": [one.choice(("qty", "symbol", "side"))]},
    "field absurd": lambda one, _: {
        "kind": "set",
        "path": one.choice(("/v2/positions", "/v2/orders")),
        "fields": {one.choice(("qty", "filled_qty")): one.choice(("NaN", "", None, "1e400"))},
    },
    "order dropped": lambda one, _: {**_order(one), "kind": "drop"},
    "order unanswered": lambda one, _: {**_order(one), "kind": "status", "status": one.choice((500, 502, 504))},
    "order's page": lambda one, _: {**_order(one), "kind": "html"},
    "order truncated": lambda one, _: {**ORDERS, "kind": "truncated", "nth": one.randint(1, 8)},
    "order throttled": lambda one, _: {**_order(one), "kind": "status", "status": 429, "seconds": 1},
    "cancel refused": lambda _, __: {"method": "DELETE", "path": "/v2/orders", "kind": "status", "status": 500},
    "quotes of zero": lambda one, names: {"kind": "zero_quotes", "symbols": one.sample(names, 3), "times": 4},
    "quotes stale": lambda one, names: {
        "kind": "stale_quotes",
        "symbols": one.sample(names, 3),
        "seconds": 5_000,
        "times": 4,
    },
    "quotes missing": lambda one, names: {"kind": "missing_symbols", "symbols": one.sample(names, 3), "times": 4},
    "clock skewed": lambda _, __: {"kind": "skewed_clock", "path": "/v2/clock", "seconds": 40, "times": 3},
    "update twice": lambda one, _: {"kind": "duplicate", "path": "/stream", "nth": one.randint(1, 9), "times": 3},
    "update missing": lambda one, _: {"kind": "missing", "path": "/stream", "nth": one.randint(1, 9), "times": 2},
    "update late": lambda one, _: {"kind": "reorder", "path": "/stream", "nth": one.randint(1, 9)},
    "event unknown": lambda _, __: {"kind": "unknown_event", "path": "/stream", "text": "surprised"},
    "status unknown": lambda _, __: {"kind": "unknown_status", "path": "/stream", "text": "surprised"},
    "garbage": lambda _, __: {"kind": "garbage", "path": "/stream"},
    "stream mute": lambda _, __: {"kind": "mute", "path": "/stream"},
    "stream deaf": lambda _, __: {"kind": "deaf", "path": "/stream"},
    "stream closed": lambda one, _: {"kind": "close", "path": "/stream", "code": one.choice((1006, 1011))},
}
Command = Callable[[random.Random, Sequence[str], str], tuple[str, dict[str, Any]]]
COMMANDS: dict[str, Command] = {
    "name halted": lambda one, names, _: ("halt", {"symbol": one.choice(names)}),
    "order refused": lambda one, names, _: ("reject_next", {"symbol": one.choice(names)}),
    "answer lost": lambda one, _, __: ("lose_next_answer", {"when": one.choice(("before", "after"))}),
    "dividend": lambda one, names, _: ("pay_dividend", {"symbol": one.choice(names), "per_share": "0.25"}),
    "deposit": lambda _, names, today: ("deposit", {"amount": 500 * len(names), "reference": f"more-{today}"}),
}


# ------------------------------------------------------------------ the controller


@dataclass
class Daemon:
    """`harvestd run` in a process of its own, started again whenever it has ended."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """A new process on the same database."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
        environment = {**kept, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "run"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def end(self, number: signal.Signals) -> None:
        """End it, and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(120)
        expected = -number if number is signal.SIGKILL else 0
        self.ended[number.name if code == expected else f"{number.name}, exit code {code}"] += 1

    def keep_alive(self) -> None:
        """Start it again when it ended by itself, which is noted."""
        assert self.process is not None
        code = self.process.poll()
        if code == CONFIGURATION:
            raise RuntimeError(f"expected a daemon that runs, it ended at once: {self.folder / 'daemon.log'}")
        if code is not None:
            self.ended[f"by itself, exit code {code}"] += 1
            time.sleep(0.5)
            self.start()

    def memory_mb(self) -> float:
        """What the process holds now."""
        assert self.process is not None
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return float("nan")
        return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), float("nan"))


@dataclass
class Soak:
    """One run: the world, the daemon in it, and what was done to them."""

    folder: Path
    url: str
    days: list[tuple[date, datetime, datetime]]
    names: list[str]
    sessions: int
    seed: int
    daemon: Daemon
    armed: Counter[str] = field(default_factory=Counter)
    halted: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, float]] = field(default_factory=list)  # starts so far, MB; one a session
    slowest_s: float = 0.0
    _opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(urllib.request.ProxyHandler({}))
    )

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to the server's control paths."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/loopback/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with self._opener.open(request, timeout=600) as answer:
            return json.load(answer)

    def now(self) -> datetime:
        """The venue's instant."""
        return datetime.fromisoformat(self.ask("GET", "time")["now"])

    def live(self) -> None:
        """Every session, from the moment its day has come until the next one's has."""
        chosen = random.Random(self.seed)
        self.daemon.start()
        first = next(place for place, (_, _, closes) in enumerate(self.days) if closes > self.now())
        for number in range(self.sessions + QUIET):
            self.begin(chosen, number)
            self.await_close(chosen, self.days[first + number][2] + timedelta(hours=2), number)
            self.memory.append((self.daemon.starts, self.daemon.memory_mb()))
            note(f"{self.days[first + number][0]}  session {number + 1}: {self.memory[-1][1]:.0f} MB")
        self.daemon.end(signal.SIGTERM)

    def begin(self, chosen: random.Random, number: int) -> None:
        """Forget what is left of yesterday's faults; arm today's, unless it is to be a quiet day."""
        self.ask("DELETE", "fault")
        for name in self.halted_names:
            self.ask("POST", "venue/unhalt", {"symbol": name})
        self.halted_names.clear()
        self.resume()
        if number >= self.sessions:
            return
        for kind in chosen.sample(sorted(FAULTS), chosen.randint(3, 8)):
            self.ask("POST", "fault", FAULTS[kind](chosen, self.names))
            self.armed[kind] += 1
        for kind in chosen.sample(sorted(COMMANDS), chosen.randint(0, 3)):
            command, arguments = COMMANDS[kind](chosen, self.names, str(self.now().date()))
            self.ask("POST", f"venue/{command}", arguments)
            self.armed[kind] += 1
            if command == "halt":
                self.halted_names.append(arguments["symbol"])

    halted_names: list[str] = field(default_factory=list)

    def resume(self) -> None:
        """Lift a halt, ours or the daemon's own."""
        from daemon.halt import halt_file, halt_reason, is_halted

        database = self.folder / "harvestd.db"
        if is_halted(database):
            reason = halt_reason(database).partition(" ")[2]
            self.halted["by a person" if "soak" in reason else reason] += 1
            halt_file(database).unlink()

    def await_close(self, chosen: random.Random, until: datetime, number: int) -> None:
        """Wait until the venue's time has come to `until`; on the way, once, kill or stop the daemon, or halt it."""
        from daemon.halt import halt

        began = time.monotonic()
        restarts = number < self.sessions * 2 // 3
        event = chosen.choice(("SIGKILL", "SIGKILL", "SIGTERM", "halt", "away", "none", "none")) if restarts else "none"
        if number < self.sessions and not restarts and chosen.random() < 0.15:
            event = chosen.choice(("halt", "away"))
        strikes_at = began + chosen.uniform(0.0, 1.0 + 0.01 * len(self.names))
        while (now := self.now()) < until:
            if event != "none" and time.monotonic() >= strikes_at:
                if event == "halt":
                    halt(self.folder / "harvestd.db", "soak: a person halted", now)
                    self.armed["halt by a person"] += 1
                elif event == "away":
                    self.ask("POST", "venue/set_unavailable", {"unavailable": True})
                    time.sleep(0.5)
                    self.ask("POST", "venue/set_unavailable", {"unavailable": False})
                    self.armed["broker away"] += 1
                else:
                    self.daemon.end(signal.Signals[event])
                    self.daemon.start()
                event = "none"
            self.daemon.keep_alive()
            if time.monotonic() - began > PATIENCE_S:
                raise TimeoutError(f"Expected the session to pass within {PATIENCE_S:.0f} s, it is {now} still")
            time.sleep(POLL_S)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def configured(folder: Path, url: str, names: list[str]) -> None:
    """config.yaml and keys: everything by itself, and losses taken early."""
    from daemon.settings import EXAMPLE

    values: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    values["mode"] = "paper"
    values["benchmark"]["symbols"] = names
    values["alpaca"] |= {"loopback_url": url, "requests_per_minute": 10_000}
    values["history"]["load_years"] = 2
    values["optimizer"] |= {
        "name_weight_max_pct": 5 if len(names) > 50 else 20,
        "rebalance_at": "monthly",
        "cash_max_pct": 0.5,
        "cash_min_pct": 0.1,
    }
    values["harvest"] |= {"minimum_loss_usd": 20, "trigger_multiplier": 0.5}
    values["approvals"] |= {"plan_pct_nav": 200, "order_usd": 100_000_000, "gain_usd": 100_000_000}
    values["execution"] |= {
        "order_type": "market",
        "order_max_usd": 10_000_000,
        "daily_notional_max_usd": 100_000_000,
        "orders_max_per_minute": 1000,
    }
    values["credentials"]["directory"] = "keys"
    (folder / "keys").mkdir(mode=0o700)
    for name, secret in zip(("alpaca_paper_key_id", "alpaca_paper_secret_key"), KEYS, strict=True):
        (folder / "keys" / name).write_text(secret)
        (folder / "keys" / name).chmod(0o400)
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def looked_at_twice(folder: Path) -> list[str]:
    """I5: opened again, a second look at the broker changes nothing."""
    from invariants import check_reconciling_twice

    from daemon.opening import target_of, working_house

    before = Path.cwd()
    os.chdir(folder)
    try:
        with working_house(target_of(None, None, {}), {}) as house:
            check_reconciling_twice(house)
    except AssertionError as broken:
        return [str(broken)]
    finally:
        os.chdir(before)
    return []


def slope_mb(memory: Sequence[tuple[int, float]]) -> float:
    """MB a session that the last process grew by, once it was warm: a least-squares line. 0 with too few sessions."""
    last = [mb for starts, mb in memory if starts == memory[-1][0]][WARM_UP:]
    if len(last) < WARM_UP:
        return 0.0
    middle, mean = (len(last) - 1) / 2, sum(last) / len(last)
    squares = sum((place - middle) ** 2 for place in range(len(last)))
    return sum((place - middle) * (mb - mean) for place, mb in enumerate(last)) / squares


def figures_of(folder: Path, soak: Soak, wall_s: float, broken: list[str]) -> dict[str, Any]:
    """What came of it. The server is over, its venue's file is opened here."""
    from invariants import broken_invariants

    from state.store import Store

    database = folder / "home" / "harvestd.db"
    with closing(venue_of(folder, len(soak.names), soak.sessions)) as venue:
        broken += broken_invariants(database, venue, settled=True)
        orders = [one for one in venue.orders() if one.client_order_id.startswith("hv-")]
        with closing(Store.open(database, read_only=True)) as store:
            alerts = Counter(one.key.partition(":")[0] for one in store.alerts.list(1_000_000) if not one.recovered)
            return {
                "sessions": soak.sessions + QUIET,
                "names": len(soak.names),
                "seed": soak.seed,
                "orders": len(orders),
                "fills": len(venue.fills()),
                "orders_by_status": dict(sorted(Counter(one.status.value for one in orders).items())),
                "plans_by_state": dict(sorted(Counter(one.state.value for one in store.plans.list()).items())),
                "harvests": len(store.harvested()),
                "events_heard": int(store.database._raw.execute("SELECT count(*) FROM broker_events").fetchone()[0]),
                "faults": sum(soak.armed.values()),
                "faults_by_kind": dict(sorted(soak.armed.items())),
                "starts": soak.daemon.starts,
                "ends": dict(sorted(soak.daemon.ended.items())),
                "halts": dict(sorted(soak.halted.items())),
                "alerts": dict(sorted(alerts.items())),
                "memory_mb": [round(mb) for _, mb in soak.memory],
                "memory_slope_mb_a_session": round(slope_mb(soak.memory), 3),
                "slowest_session_s": round(soak.slowest_s, 1),
                "seconds": round(wall_s, 1),
                "tracebacks": tracebacks((folder / "home" / "daemon.log").read_text(errors="replace")),
                "broken": broken,
            }


def tracebacks(log: str) -> list[str]:
    """The ends of the tracebacks in the daemon's log: where each was raised, and what."""
    found = []
    for part in log.split("Traceback (most recent call last):")[1:]:
        lines = part.splitlines()[1:]
        end = next((place for place, line in enumerate(lines) if line and not line.startswith(" ")), len(lines) - 1)
        found.append(" / ".join(line.strip() for line in lines[max(0, end - 2) : end + 1]))
    return found


def run(folder: Path, sessions: int, names: int, seed: int) -> dict[str, Any]:
    """One soak in an empty folder."""
    home = folder / "home"
    home.mkdir()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(folder, names, sessions, theirs), daemon=True
    )
    note("making a market ...")
    server.start()
    url, days = ours.recv()
    symbols = list(prices_of(names, sessions).symbols)
    configured(home, url, symbols)
    began = time.monotonic()
    soak = Soak(home, url, days, symbols, sessions, seed, Daemon(home))
    try:
        soak.live()
        broken = looked_at_twice(home)
    finally:
        if soak.daemon.process is not None and soak.daemon.process.poll() is None:
            soak.daemon.process.kill()
        ours.send("end")
        server.join(60)
    return figures_of(folder, soak, time.monotonic() - began, broken)


def note(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def table(figures: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines.append(name)
            lines += [f"    {key:<60}{count:>10}" for key, count in value.items()]
        elif name == "memory_mb":
            lines.append(f"{'memory_mb':<40}{value[0]} ... {value[-1]}, at most {max(value)}")
        elif name == "tracebacks":
            lines += [f"{name:<40}{len(value):>14}", *value]
        elif name != "broken":
            lines.append(f"{name:<40}{value!s:>14}")
    lines.append("")
    lines += figures["broken"] or ["Every invariant holds."]
    return "\n".join(lines)


def main() -> None:
    """Run, and print. Exit code 1 when an invariant is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=60, help="sessions with faults")
    parser.add_argument("--names", type=int, default=500, help="names in the benchmark, at least 10")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="6 sessions of 30 names, for CI")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave databases and the log in this new folder")
    options = parser.parse_args()
    sessions, names = (6, 30) if options.short else (options.sessions, options.names)
    if sessions < 1 or names < 10:
        parser.error(f"expected 1 session and 10 names or more, was {sessions} and {names}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=options.keep is None)
        figures = run(folder, sessions, names, options.seed)
    print(json.dumps(figures) if options.json else table(figures))
    sys.exit(1 if figures["broken"] else 0)


if __name__ == "__main__":
    main()
