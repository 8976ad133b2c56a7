"""What the demo says at its end: the promised JSON, and the closing page."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from daemon.cycle import observed
from daemon.demo.prices import WHAT_THESE_PRICES_ARE
from daemon.demo.world import APPROVAL_RULE, World
from daemon.facts import fifo_blocked
from daemon.figures import (
    CENT,
    Losses,
    disallowances,
    gains_tax,
    liquidation_tax,
    loss_value,
    losses,
    losses_by_year,
    order_counts,
    time_weighted_return,
    tracking_error_realized_bps,
    turnover_pct_per_year,
)
from state.records import ZERO
from state.store.types import decimal_text


@dataclass(frozen=True)
class DemoResult:
    """Everything the closing page and the JSON show."""

    figures: dict[str, Any]
    by_year: dict[int, Losses]
    total: Losses
    notes: tuple[str, ...]


def demo_result(world: World, seconds: float) -> DemoResult:
    """Compute the figures from the store as it stands."""
    house = world.house
    account = house.managed[0]
    snapshot = observed(house, account)
    rows = house.ledger.realized(account.account_id)
    performance = house.store.performance.rows(account.account_id)
    total, by_year = losses(rows), losses_by_year(rows)
    washes = disallowances(house)
    last = performance[-1] if performance else None
    blocked = sum((item.loss_usd for item in fifo_blocked(snapshot)), ZERO)
    on = world.sessions[-1].session
    value, on_gains = loss_value(rows, house.tax_profile), gains_tax(rows, house.tax_profile)
    owed = liquidation_tax(house, account, snapshot.prices, on)
    figures = {
        "from": world.sessions[0].session.isoformat(),
        "to": on.isoformat(),
        "sessions": len(world.sessions),
        **order_counts(house, account),
        "harvests": len(house.store.harvested()),
        "losses_realized_usd": money(total.realized),
        "disallowed_usd": money(total.disallowed),
        "net_losses_usd": money(total.net),
        "net_losses_by_year": {str(year): money(item.net) for year, item in by_year.items()},
        "gains_realized_usd": money(total.gains),
        "disallowed_for_good_usd": money(total.lost_for_good),
        "fifo_blocked_losses_usd": money(blocked),
        "tax_value_usd": money(value),
        "tax_on_gains_realized_usd": money(on_gains),
        "liquidation_tax_usd": money(owed),
        "nav_after_taxes_and_liquidation_usd": money((last.nav if last else ZERO) + value - on_gains - owed),
        "nav_usd": money(last.nav if last else ZERO),
        "benchmark_nav_usd": money(last.benchmark_nav if last else ZERO),
        "tracking_error_realized_bps": _rounded(tracking_error_realized_bps(performance), 1),
        "tracking_error_limit_bps": house.settings.optimizer.tracking_error_max_bps,
        "sessions_above_tracking_error_limit": sum(1 for row in performance if row.tracking_error_note),
        "turnover_pct_per_year": _rounded(turnover_pct_per_year(performance), 1),
        "approvals": _approval_counts(house),
        "wash_sale_conflicts": sum(1 for item in washes if item.is_conflict),
        "reconciliation_breaks": house.store.alerts.count("reconcile:"),
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "ledger_digest": house.ledger.digest(),
    }
    return DemoResult(figures, by_year, total, _notes(world, washes, performance))


def _approval_counts(house: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in house.store.plans.approvals():
        key = item.decision or "waiting"
        counts[key] = counts.get(key, 0) + 1
    return counts


def _notes(world: World, washes: Any, performance: Any) -> tuple[str, ...]:
    lines = [WHAT_THESE_PRICES_ARE, APPROVAL_RULE]
    for item in washes:
        fate = "lost for good" if item.permanent else "deferred into the basis of that lot"
        lines.append(
            f"Disallowed: {item.disallowed.quantize(CENT):,} USD of {item.symbol} sold {item.sold} in "
            f"{item.account_id}, because {item.replacement_account_id} bought it {item.bought} "
            f"({item.replacement_id}); {fate}." + (" It was a gain at the plan's price." if item.turned_by_fill else "")
        )
    above = [row for row in performance if row.tracking_error_note]
    if above:
        lines.append(
            f"Expected tracking error was above its limit at {len(above)} closes; `report performance` says why."
        )
    ours = time_weighted_return(performance, "nav")
    theirs = time_weighted_return(performance, "benchmark_nav")
    if ours is not None and theirs is not None:
        lines.append(
            f"Time-weighted return before tax: {ours:.1%}, benchmark {theirs:.1%} (the benchmark pays no spreads)."
        )
    profile = world.house.tax_profile
    lines.append(
        f"Tax value: at {profile.short_term_rate:.1%} short-term and {profile.long_term_rate:.1%} long-term, flat, as "
        "if there were gains elsewhere to offset; losses after disallowance, of your account alone. The benchmark is "
        "before tax, although rebalancing it every quarter would realize gains too."
    )
    return tuple(lines)


def money(value: Decimal) -> str:
    """Cents, as a decimal string."""
    return decimal_text(value.quantize(CENT))


def _rounded(value: float | None, places: int) -> float | None:
    return None if value is None else round(value, places)
