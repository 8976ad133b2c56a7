"""Names that are not traded because of their prices.

    why                                                              reason code
    an open finding about what the name is, or was, worth            DATA_QUARANTINED
    no close in the newest session: nothing to hold a price to       DATA_QUARANTINED
    too few returns for a volatility and loadings of its own         DATA_HISTORY_SHORT

A name that is locked stays in the benchmark and in the net asset value; the others go on. Findings that leave nothing
of doubt in what is used (a gap years ago, a close corrected by a cent) are listed and lock nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal

import numpy as np

from daemon.alerts import raise_alert, recover
from state.reasons import ReasonCode, because
from state.records import ZERO, AlertLevel
from state.store import FindingKind, MarketFinding, Store
from state.store.market import EVERY_SYMBOL
from strategy.risk import MIN_SESSIONS, daily_returns
from strategy.types import PriceHistory

LOCKING = frozenset(
    {
        FindingKind.JUMP,
        FindingKind.SPLIT,
        FindingKind.CORRECTED,
        FindingKind.UNJOINED,
        FindingKind.RENAMED,
        FindingKind.GONE,
    }
)
KEY = "data:"  # of alerts about prices


def open_findings(store: Store, symbols: Collection[str] | None = None) -> dict[str, str]:
    """Names with an open finding that keeps them from being traded, and the reason text; of `symbols`, where given."""
    found: dict[str, str] = {}
    for one in store.market.findings(LOCKING, symbols=symbols, only_open=True):
        found.setdefault(one.symbol, reason_text(one))
    return found


def reason_text(finding: MarketFinding) -> str:
    """A finding as the reason that a user reads."""
    details = {"symbol": finding.symbol, "session": finding.session, "kind": finding.kind.value, "why": finding.detail}
    return str(because(ReasonCode.DATA_QUARANTINED, **details))


def without_newest_close(names: Iterable[str], closes: Mapping[str, Decimal]) -> dict[str, str]:
    """Names without a close in the newest session stored; none while nothing is stored."""
    if not closes:
        return {}
    missing = (name for name in names if name not in closes)
    why = "no close in the newest session"
    return {name: str(because(ReasonCode.DATA_QUARANTINED, symbol=name, kind="gap", why=why)) for name in missing}


def short_histories(history: PriceHistory, window_sessions: int) -> dict[str, str]:
    """Names with fewer returns in the risk model's window than it wants of each; none while all have too few."""
    least = MIN_SESSIONS - 1
    returns = daily_returns(history.closes[-(window_sessions + 1) :])
    if len(returns) < least:
        return {}
    have = np.isfinite(returns).sum(axis=0)
    return {
        name: str(because(ReasonCode.DATA_HISTORY_SHORT, symbol=name, returns=int(count), least=least))
        for name, count in zip(history.names, have, strict=True)
        if count < least
    }


def fraction_bad(locks: Collection[str], weights: Mapping[str, Decimal]) -> Decimal:
    """The part of the benchmark's weight that is in locked names, between 0 and 1."""
    total = sum(weights.values(), ZERO)
    return sum((weight for name, weight in weights.items() if name in locks), ZERO) / total if total else ZERO


def tell(store: Store, locks: Mapping[str, str], now: datetime) -> None:
    """One alert for each name locked, and for each session that most names lack; one more when it is over."""
    sessions = store.market.findings({FindingKind.SESSION}, symbols={EVERY_SYMBOL}, only_open=True)
    told = {**locks, **{f"{EVERY_SYMBOL}:{one.session}": one.detail for one in sessions}}
    for name, text in told.items():
        remedy = "`harvestd data findings` lists it; it is not traded meanwhile." if name in locks else ""
        raise_alert(store, KEY + name, AlertLevel.WARNING, f"Prices of {name}: {text}. {remedy}".strip(), now)
    for key in store.alerts.open_keys(KEY):
        name = key.removeprefix(KEY)
        if name not in told:
            recover(store, key, f"Prices of {name}: nothing is wrong any more", now)
