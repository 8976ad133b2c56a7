"""The daemon at Alpaca: first load, daily sync of a large account, and what it weighs when it has nothing to do.

The loopback server (tests/loopback) lives in a process of its own and stands in for Alpaca: requests, sockets and
alpaca-py are real, and the network is not in the figures. An account holds 500 names in 5,000 lots.

    python benchmarks/at_broker.py [--names 500] [--lots 10] [--years 10] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KEYS = ("PKBENCHMARK00001", "benchmark-secret-key")
TARGETS = {"daily_sync_s": 3.0, "idle_memory_mb": 250.0, "requests_a_minute": 200.0}


def serve(folder: Path, names: int, lots: int, years: int, link: Connection) -> None:
    """The broker's process: a market of `names`, an account that bought each of them in `lots` sessions."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    from decimal import Decimal

    from loopback import LoopbackAlpaca
    from loopback.worlds import buy_lots, open_venue, synthetic_prices

    prices = synthetic_prices(names, years * 252)
    begins = prices.sessions[-lots - 8].session
    venue = open_venue(folder / "venue.db", prices, start=begins, cash=Decimal(names * lots * 1_000))
    buy_lots(venue, lots)
    venue.advance_to(venue.schedule.clock(venue.now).next_open - timedelta(hours=3))
    with LoopbackAlpaca(venue, key_id=KEYS[0], secret_key=KEYS[1]) as server:
        link.send((server.url, list(prices.symbols)))
        while (asked := link.recv()) != "end":
            if asked == "requests":
                link.send(len(server.requests))
                server.clear_requests()
            elif asked == "trade":  # a day of somebody else's: twenty fills more
                from state.records import OrderRequest, Side

                server.advance_to(venue.schedule.clock(venue.now).next_open + timedelta(minutes=30))
                with server.lock:
                    for symbol in prices.symbols[:20]:
                        venue.submit(OrderRequest(f"today-{symbol}", symbol, Side.BUY, Decimal(1)))
                server.advance(600)
                link.send("done")


def configuration(folder: Path, url: str, names: list[str], years: int) -> Path:
    """config.yaml and keys, as a person has them."""
    from daemon.settings import EXAMPLE

    values: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    values["mode"] = "observe"
    values["benchmark"]["symbols"] = names
    values["alpaca"] |= {"loopback_url": url, "requests_per_minute": 10_000}
    values["history"]["load_years"] = years
    values["optimizer"] |= {"name_weight_max_pct": 5}
    values["credentials"]["directory"] = "keys"
    (folder / "keys").mkdir(mode=0o700)
    for name, secret in zip(("alpaca_paper_key_id", "alpaca_paper_secret_key"), KEYS, strict=True):
        (folder / "keys" / name).write_text(secret)
        (folder / "keys" / name).chmod(0o400)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@dataclass
class Watching:
    """Progress to standard error, and the requests of each step."""

    def step(self, text: str) -> None:
        print(f"{text} ...", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int, text: str) -> None:
        if done % 50 == 0 or done == total:
            print(f"  {done} of {total}: {text}", file=sys.stderr, flush=True)


def memory_mb() -> float:
    """What this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(folder: Path, url: str, names: list[str], years: int, link: Connection) -> dict[str, float]:
    """The daemon's part, in this process."""
    from daemon.cycle import observed
    from daemon.opening import target_of, working_house

    def requests() -> int:
        link.send("requests")
        return int(link.recv())

    path = configuration(folder, url, names, years)
    found: dict[str, float] = {}
    began = time.perf_counter()
    with working_house(target_of(None, path, os.environ), os.environ, Watching()) as house:
        found["first_load_s"] = time.perf_counter() - began
        found["first_load_requests"] = requests()
        [account] = house.managed
        began = time.perf_counter()
        snapshot = observed(house, account)
        found["first_sync_s"] = time.perf_counter() - began
        found["first_sync_requests"] = requests()
        assert not snapshot.locks, next(iter(snapshot.locks.values()))
        found["positions"] = len(snapshot.positions)
        found["lots"] = len(house.ledger.open_lots(account.account_id))
    link.send("trade")
    link.recv()
    requests()
    with working_house(target_of(None, path, os.environ), os.environ, Watching()) as house:
        [account] = house.managed
        began = time.perf_counter()
        assert house.knows_risk()
        found["prices_into_memory_s"] = time.perf_counter() - began
        requests()
        began = time.perf_counter()
        observed(house, account)
        found["daily_sync_s"] = time.perf_counter() - began
        found["daily_sync_requests"] = requests()
        began = time.perf_counter()
        for _ in range(5):
            observed(house, account)
        found["look_s"] = (time.perf_counter() - began) / 5
        found["look_requests"] = requests() / 5
        found["requests_a_minute"] = found["look_requests"] * 60 / house.settings.schedule.work_every_s
        found["idle_memory_mb"] = memory_mb()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--lots", type=int, default=10, help="lots of each name")
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = multiprocessing.Pipe()
        arguments = (folder, options.names, options.lots, options.years, theirs)
        broker = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        print("making a market and an account ...", file=sys.stderr, flush=True)
        broker.start()
        url, names = ours.recv()
        found = measure(folder, url, names, options.years, ours)
        ours.send("end")
        broker.join(10)
    if options.json:
        print(json.dumps({key: round(value, 3) for key, value in found.items()}, indent=2))
        return
    for key, value in found.items():
        target = f"   target {TARGETS[key]:g}" if key in TARGETS else ""
        print(f"{key:24} {value:10.2f}{target}")


if __name__ == "__main__":
    main()
