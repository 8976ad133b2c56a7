"""The main path, from broker to report. Demo, backtest, observe, paper and live run these same lines."""

from __future__ import annotations

from daemon import execution
from daemon.checks import check
from daemon.crash_points import CrashPoint, passing
from daemon.decision import advance, decide, record
from daemon.house import House
from daemon.planning import propose, scan
from daemon.sync import Snapshot, sync
from daemon.triggers import find_triggers
from daemon.updates import settle, take_updates
from state.records import Account, Plan


def run_cycle(house: House, account: Account) -> Plan | None:
    """Sync, scan, plan, check, decide, record. Returns the plan recorded, or None when nothing was worth one.

    Everything decided is on disk when this returns; nothing has been sent yet (`work_cycle` does that).
    """
    snapshot = observed(house, account)
    advance(house, snapshot)  # plans approved, expired or half done; intents working or unknown
    execution.close_ended(house, snapshot)  # and those whose last order is over: the next plan need not wait for them
    triggers = find_triggers(house, snapshot)  # why trade at all: drift, tracking error, schedule, cash
    opportunities = scan(house, snapshot)  # loss lots worth taking now, each with its replacements
    plan = propose(house, snapshot, triggers, opportunities)  # the optimizer, whole shares, lot-level trades
    verdict = check(house, snapshot, plan)  # wash sales, limits, restrictions, market state: reason codes
    decision = decide(house, snapshot, plan, verdict)  # execute, ask for approval, or refuse
    return record(house, snapshot, opportunities, plan, decision)  # history; intents on disk; alerts into the outbox


def work_cycle(house: House, account: Account) -> None:
    """Take answers in, settle what is at the broker, send what may leave. Never waits for anything."""
    snapshot = observed(house, account)
    advance(house, snapshot)
    execution.work(house, snapshot)


def observed(house: House, account: Account) -> Snapshot:
    """What the broker says of our orders, then of everything else: an order's fate before its fills.

    What the stream said comes first, so that asking the broker covers whatever it missed.
    """
    take_updates(house, account)
    settle(house, account)
    passing(CrashPoint.ORDERS_SETTLED)
    return sync(house, account)
