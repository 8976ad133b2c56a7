"""The tax-lot ledger's speed: full replay, what-if, one day's fills, a correction; with the memory it takes.

A household of two taxable accounts and an IRA trades 500 symbols for ten years: purchases, reinvested dividends, sales
of a part of what is held, now and then a split. 100,000 transactions, the same every time (seed 7).

    python benchmarks/ledger.py [--transactions 100000] [--symbols 500] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path

from daemon.bookkeeping import take_in
from state.lots import Ledger, LedgerPolicy, wash_calendar, what_if
from state.records import Account, AccountType, Transaction, TransactionKind
from state.store import Store

ACCOUNTS = (
    Account("main", AccountType.TAXABLE),
    Account("spouse", AccountType.SPOUSE_TAXABLE),
    Account("ira", AccountType.IRA),
)
FIRST_DAY, YEARS = date(2014, 1, 2), 10
TARGETS = {  # seconds, and megabytes for memory
    "full_replay": 5.0,
    "what_if_100_legs": 0.050,
    "append_200_fills": 0.100,
    "peak_memory_mb": 500.0,
}


def journal(transactions: int, symbols: int, seed: int = 7) -> list[Transaction]:
    """A household's trades in order of time; nothing is sold that is not held."""
    chance = random.Random(seed)
    names = [f"S{number:03d}" for number in range(symbols)]
    price = {name: chance.uniform(20, 300) for name in names}
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    sessions = [FIRST_DAY + timedelta(days=day) for day in range(int(365.25 * YEARS))]
    sessions = [day for day in sessions if day.weekday() < 5]
    rows: list[Transaction] = []
    for number in range(transactions):
        day = sessions[number * len(sessions) // transactions]
        name = chance.choice(names)
        account = chance.choices(("main", "spouse", "ira"), (8, 1, 1))[0]
        price[name] *= chance.lognormvariate(0, 0.03)
        have = held[account, name]
        draw = chance.random()
        quantity = chance.randint(1, 40)
        if have > 60 and draw < 0.45:
            kind, quantity = TransactionKind.SELL, min(have, quantity * 2)
        elif draw > 0.97:
            kind, quantity = TransactionKind.DRIP, 1
        else:
            kind = TransactionKind.BUY
        held[account, name] += -quantity if kind is TransactionKind.SELL else quantity
        rows.append(_row(f"t{number}", account, kind, day, name, quantity, price[name], number))
        if number % 4000 == 3999:
            rows.append(_split(f"split{number}", day + timedelta(days=1), name, account))
            for owner in ("main", "spouse", "ira"):
                held[owner, name] *= 2
            price[name] /= 2
    return rows


def _row(
    transaction_id: str, account: str, kind: TransactionKind, day: date, name: str, quantity: int, price: float,
    second: int,
) -> Transaction:  # fmt: skip
    at = datetime.combine(day, clock_time(14, 30), tzinfo=UTC) + timedelta(seconds=second % 20_000)
    return Transaction(
        transaction_id=transaction_id,
        account_id=account,
        kind=kind,
        trade_date=day,
        source="benchmark",
        symbol=name,
        quantity=Decimal(quantity),
        price=Decimal(repr(round(price, 2))),
        executed_at=at,
        order_id=f"order-{transaction_id}",
    )


def _split(transaction_id: str, day: date, name: str, account: str) -> Transaction:
    return Transaction(
        transaction_id=transaction_id,
        account_id=account,
        kind=TransactionKind.SPLIT,
        trade_date=day,
        source="benchmark",
        symbol=name,
        ratio_new=Decimal(2),
        ratio_old=Decimal(1),
    )


def next_day(ledger: Ledger, fills: int, prefix: str, number_of_day: int = 1) -> list[Transaction]:
    """The trades of a day after everything else: half sales of what is oldest, half purchases."""
    chance = random.Random(number_of_day)
    day = FIRST_DAY + timedelta(days=int(365.25 * YEARS) + 3 + number_of_day)
    positions = sorted(ledger.positions("main").items())
    chance.shuffle(positions)
    rows = []
    for number, (name, held) in enumerate(positions[:fills]):
        kind = TransactionKind.SELL if number % 2 == 0 else TransactionKind.BUY
        quantity = max(1, int(held) // 3) if kind is TransactionKind.SELL else chance.randint(1, 30)
        rows.append(_row(f"{prefix}{number}", "main", kind, day, name, quantity, chance.uniform(20, 300), number))
    return rows


def best_of(runs: int, work: Callable[[], object]) -> tuple[float, float]:
    """Least and median wall-clock seconds of several runs."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds), statistics.median(seconds)


def measure(transactions: int, symbols: int) -> dict[str, object]:
    """Every figure, in seconds and megabytes."""
    policy = LedgerPolicy(identical_groups=(frozenset({"S001", "S002"}), frozenset({"S010", "S011", "S012"})))
    rows = journal(transactions, symbols)
    note(f"{len(rows)} transactions; full replay")
    began = time.perf_counter()
    ledger = Ledger.replay(ACCOUNTS, rows, policy)
    figures: dict[str, object] = {
        "transactions": len(rows),
        "symbols": symbols,
        "open_lots": len(ledger.open_lots()),
        "realized_rows": len(ledger.realized()),
        "full_replay": round(time.perf_counter() - began, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    note("what-if")
    legs = next_day(ledger, 100, "planned-")
    figures["what_if_100_legs"] = round(best_of(9, lambda: what_if(ledger, legs))[1], 5)
    late = replace(rows[len(rows) * 3 // 4], price=Decimal("1.23"), transaction_id="correction",
                   supersedes=rows[len(rows) * 3 // 4].transaction_id)  # fmt: skip
    figures["one_correction"] = round(best_of(5, lambda: ledger.extended([late]))[1], 5)
    last = rows[-1].trade_date
    figures["calendar"] = round(best_of(5, lambda: wash_calendar(ledger, last))[1], 5)
    figures.update(_stored(ledger, rows, policy))
    figures["peak_memory_with_store_mb"] = round(peak_memory_mb(), 1)
    return figures


def _stored(ledger: Ledger, rows: list[Transaction], policy: LedgerPolicy) -> dict[str, object]:
    """The same on disk: journal, lots and realized rows, each commit waiting for the disk as it does live."""
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "benchmark.db", create=True)
        store.household.put_accounts(ACCOUNTS)
        at = datetime(2024, 6, 3, 21, tzinfo=UTC)
        note("writing the whole journal")
        began = time.perf_counter()
        ledger = take_in(store, Ledger.replay(ACCOUNTS, (), policy), rows, at).ledger
        figures["write_everything"] = round(time.perf_counter() - began, 3)
        seconds = []
        for day in range(5):
            fills = next_day(ledger, 200, f"day{day}-", day)
            began = time.perf_counter()
            ledger = take_in(store, ledger, fills, at).ledger
            seconds.append(time.perf_counter() - began)
        figures["append_200_fills"] = round(statistics.median(seconds), 4)
        note("reading the journal back")
        began = time.perf_counter()
        Ledger.replay(ACCOUNTS, store.journal.all(), policy)
        figures["start_from_disk"] = round(time.perf_counter() - began, 3)
        store.close()
    return figures


def peak_memory_mb() -> float:
    """Most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def note(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.transactions, options.symbols)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        limit = f"   (limit {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name:28} {value!s:>12}{limit}")


if __name__ == "__main__":
    main()
