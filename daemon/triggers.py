"""Why trade at all: cash, drift, tracking error, the calendar. Losses are asked about in `planning.scan`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np

from daemon.facts import active_weights, is_ready, today_of
from daemon.house import House
from daemon.sync import Snapshot
from state.reasons import Reason, ReasonCode, because
from state.records import PlanState
from strategy.history import period_of

REBALANCE = "rebalance considered"  # an agenda row: the last session in which one was looked into
RECONSIDER_AFTER_SESSIONS = 10


def find_triggers(house: House, snapshot: Snapshot) -> tuple[Reason, ...]:
    """Cash, drift, tracking error and the calendar. Empty while nothing is known to trade on."""
    if not is_ready(house, snapshot):
        return ()
    optimizer, nav = house.settings.optimizer, snapshot.nav
    reasons: list[Reason] = []
    cash_pct = snapshot.cash / nav * 100
    if cash_pct > Decimal(repr(optimizer.cash_max_pct)):
        reasons.append(because(ReasonCode.TRIGGER_CASH, cash_pct=round(cash_pct, 2), most_pct=optimizer.cash_max_pct))
    active = active_weights(house, snapshot)
    largest = int(np.argmax(np.abs(active)))
    if abs(active[largest]) * 100 > optimizer.drift_max_pct and not _considered_lately(house, snapshot):
        details = {
            "symbol": house.names[largest],
            "active_pct": round(float(active[largest]) * 100, 2),
            "most_pct": optimizer.drift_max_pct,
        }
        reasons.append(because(ReasonCode.TRIGGER_DRIFT, **details))
    error_bps = house.risk().tracking_error(active) * 1e4
    if error_bps > optimizer.tracking_error_max_bps:
        reasons.append(
            because(
                ReasonCode.TRIGGER_TRACKING_ERROR, bps=round(error_bps, 1), most_bps=optimizer.tracking_error_max_bps
            )
        )
    if _rebalance_due(house, snapshot):
        reasons.append(because(ReasonCode.TRIGGER_SCHEDULE, every=optimizer.rebalance_at.value))
    return tuple(reasons)


def _considered_lately(house: House, snapshot: Snapshot) -> bool:
    """True for some sessions after a rebalance was last looked into: drift that was not worth mending, or that a
    person would not have mended, is not asked about again every day."""
    return _is_recent(house, house.store.agenda.last_session(REBALANCE, snapshot.account.account_id))


def rejected_lately(house: House, snapshot: Snapshot) -> bool:
    """True for some sessions after a person rejected a plan: the same gains are not asked for again every day."""
    return _is_recent(house, house.store.plans.last_session(snapshot.account.account_id, PlanState.REJECTED))


def _is_recent(house: House, session: date | None) -> bool:
    return session is not None and session in house.history.sessions[-RECONSIDER_AFTER_SESSIONS:]


def _rebalance_due(house: House, snapshot: Snapshot) -> bool:
    """First session of a new period, by the calendar alone."""
    every = house.settings.optimizer.rebalance_at.value
    return period_of(house.history.sessions[-1], every) != period_of(today_of(house, snapshot), every)
