"""The cycle's speed: the whole daemon over 480 names and 250 sessions, after three years of monthly deposits.

Nothing is left out and nothing stands in for anything: the daemon's own ticks and agenda, its store and the venue's
file on disk, the ledger of both accounts, the scan, the what-if, the optimizer, approvals, intents, orders, fills and
the evening's figures. It is the demo's world with a larger household (large_household.py) and market (market.py).

    python benchmarks/cycle.py [--names 480] [--sessions 250] [--prices auto] [--json]

`seconds` is the wall clock of the measured sessions (`cpu_seconds` what of it was spent computing, on a machine that
others use too); making the three years before them is told apart. The same command gives the same `ledger_digest`.
Targets, for 480 names and 250 sessions: 90 s, 1,024 MB.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `harvestd` does, before numpy is there

from large_household import LargeWorld, new_world, save_for_three_years
from market import Listing, Market, make_market, market_sessions
from real_prices import NoRealPrices, listings, why_none
from stages import OWN, timed

from daemon import logs
from daemon.figures import disallowances, losses, order_counts
from state.records import AlertLevel
from state.store.types import decimal_text

SECONDS, MEMORY_MB = 90, 1024
TELL_EVERY = 10  # sessions


def measure(names: int, sessions: int, prices: str, folder: Path, profile: Path | None = None) -> dict[str, Any]:
    """Make the household in `folder`, live through the sessions, and say what it took and what came of it."""
    began = perf_counter()
    market = market_of(names, sessions, prices)
    note(f"{len(market.symbols)} names, {market.real_names} of them with real prices; three years of deposits")
    world = new_world(folder, market)
    try:
        save_for_three_years(world, market)
        before = counts(world)
        seeding = perf_counter() - began
        note(f"{before['open_lots']} open lots after {seeding:.0f} s; {sessions} sessions")
        with timed() as clock, profiled(profile):
            began, busy = perf_counter(), process_time()
            live(world)
            seconds, busy = perf_counter() - began, process_time() - busy
        return {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(busy, 2),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "stages": clock.report(),
            "seeding_seconds": round(seeding, 2),
            "names": len(market.symbols),
            "sessions": sessions,
            "from": market.measured[0].session.isoformat(),
            "to": market.measured[-1].session.isoformat(),
            "prices": "real" if market.real_names else "synthetic",
            "names_with_real_prices": market.real_names,
            **outcome(world, before),
            **{what: clock.counts[what] for what in ("solves", "relaxations")},
        }
    finally:
        world.close()


def market_of(names: int, sessions: int, prices: str) -> Market:
    """The market to measure in. Raises NoRealPrices when they are asked for and not there."""
    _, span = market_sessions(sessions)
    real: list[Listing] = []
    if prices != "synthetic":
        reason = why_none(span[-1].session)
        if reason is None:
            real = listings(span)
        elif prices == "real":
            raise NoRealPrices(reason)
        else:
            note(f"synthetic prices: {reason}")
    return make_market(names, sessions, real)


def live(world: LargeWorld) -> None:
    """Every session, an instant at a time."""
    began, lived = perf_counter(), 0
    for session, is_over in world.beats():
        if is_over:
            lived += 1
            if lived % TELL_EVERY == 0 or lived == len(world.sessions):
                note(f"{session.session}  session {lived}/{len(world.sessions)}  {perf_counter() - began:.1f} s")


@contextmanager
def profiled(into: Path | None) -> Iterator[None]:
    """A cProfile of what runs inside, written to a file; nothing when none is asked for."""
    if into is None:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(into)


def counts(world: LargeWorld) -> dict[str, int]:
    """What grows: open lots and rows of the journal over all accounts, executions."""
    house = world.house
    return {
        "open_lots": len(house.ledger.open_lots()),
        "transactions": house.store.journal.count(),
        "fills": len(house.store.orders.fills()),
    }


def outcome(world: LargeWorld, before: dict[str, int]) -> dict[str, Any]:
    """What came of it; a fast cycle that does nothing would be no achievement."""
    house, after = world.house, counts(world)
    account = house.managed[0]
    plans, orders = house.store.plans.list(), order_counts(house, account)
    realized, performance = losses(house.ledger.realized(account.account_id)), house.store.performance.rows("main")
    alerts = house.store.alerts.list(most=1_000_000)
    return {
        "open_lots": {"start": before["open_lots"], "end": after["open_lots"]},
        "transactions": after["transactions"],
        "transactions_at_start": before["transactions"],
        "plans": len(plans),
        "plans_by_state": dict(sorted(Counter(plan.state.value for plan in plans).items())),
        "orders": orders["orders"],
        "rejects": orders["rejects"],
        "fills": after["fills"] - before["fills"],
        "harvests": len(house.store.harvested()),
        "losses_realized_usd": decimal_text(realized.realized.quantize(1)),
        "disallowed_usd": decimal_text(realized.disallowed.quantize(1)),
        "nav_usd": decimal_text(performance[-1].nav),
        "sessions_above_tracking_error_limit": sum(1 for row in performance if row.tracking_error_note),
        "errors": sum(1 for one in alerts if one.level in (AlertLevel.ERROR, AlertLevel.HALT)),
        "wash_sale_conflicts": sum(1 for item in disallowances(house) if item.is_conflict),
        "reconciliation_breaks": house.store.alerts.count("reconcile:"),
        "ledger_digest": house.ledger.digest(),
    }


def note(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def table(figures: dict[str, Any]) -> str:
    """The figures for a person."""
    lines = [f"{'stage':<28}{'seconds':>10}{'share':>9}"]
    for stage, row in figures["stages"].items():
        lines.append(f"{stage:<28}{row['seconds']:>10.2f}{row['share']:>9.1%}")
        for part, own in row.get("parts", {}).items():
            if own["share"] >= 0.001:
                label = part if part != OWN else "its own work"
                lines.append(f"    {label:<24}{own['seconds']:>10.2f}{own['share']:>9.1%}")
    lines.append("")
    lines += [f"{name:<40}{value!s:>20}" for name, value in figures.items() if name != "stages"]
    lines.append("")
    within = "within" if figures["seconds"] <= SECONDS else "above"
    fits = "within" if figures["peak_memory_mb"] <= MEMORY_MB else "above"
    lines.append(
        f"{figures['seconds']:.1f} s, {figures['peak_memory_mb']:.0f} MB. For 480 names and 250 sessions the targets "
        f"are {SECONDS} s ({within}) and {MEMORY_MB} MB ({fits})."
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=480, help="names in the benchmark, at least 6")
    parser.add_argument("--sessions", type=int, default=250, help="sessions to measure")
    parser.add_argument(
        "--prices",
        choices=("auto", "synthetic", "real"),
        default="auto",
        help="auto: the real ones for as many names as there are, where ../shared/data and pyarrow are",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave both databases in this new folder")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="also write a cProfile of the measured sessions")
    options = parser.parse_args()
    if options.names < 6 or options.sessions < 1:
        parser.error(f"expected 6 names and 1 session or more, was {options.names} and {options.sessions}")
    logs.configure(level="error")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=options.keep is None)
        try:
            figures = measure(options.names, options.sessions, options.prices, folder, options.profile)
        except NoRealPrices as reason:
            parser.error(f"--prices real: {reason}")
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
