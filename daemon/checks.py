"""May the plan be done: compliance, and the rehearsal on the ledger."""

from __future__ import annotations

from decimal import Decimal

from daemon.facts import locked_symbols, today_of, untradable
from daemon.house import House
from daemon.planning import Proposed
from daemon.rehearsal import PLANNED, masks_for, rehearse, wash_conflicts
from daemon.sync import Snapshot
from state.lots import WhatIf
from state.reasons import Reason
from state.records import ZERO, Plan
from strategy.compliance import ComplianceFacts
from strategy.compliance import check as comply


def check(house: House, snapshot: Snapshot, proposed: Proposed | None) -> tuple[Reason, ...]:
    """Everything that forbids the plan; empty when it is clean."""
    if proposed is None:
        return ()
    return check_plan(house, snapshot, proposed.plan)


def check_plan(house: House, snapshot: Snapshot, plan: Plan) -> tuple[Reason, ...]:
    """Compliance and the replay on the ledger, for a new plan and again for an approved one at fresh prices."""
    if not plan.trades:
        return ()
    today = today_of(house, snapshot)
    rehearsal = rehearse(house, snapshot, plan.trades, today, without=plan.plan_id)
    conflicts = wash_conflicts(snapshot.ledger, plan.trades, rehearsal)
    return (*conflicts.values(), *comply(plan.trades, compliance_facts(house, snapshot, plan, rehearsal)))


def compliance_facts(house: House, snapshot: Snapshot, plan: Plan, rehearsal: WhatIf) -> ComplianceFacts:
    """What the rules look at."""
    today = today_of(house, snapshot)
    execution = house.settings.execution
    sent = house.store.orders.list(account_id=plan.account_id, session=today)
    ledger = snapshot.ledger
    return ComplianceFacts(
        relief_method=snapshot.account.relief_method,
        positions=snapshot.positions,
        queues=snapshot.queues,
        previous_closes=house.last_closes(),
        masks=masks_for(house, snapshot, today, without=plan.plan_id),
        disallowed_by_leg=_disallowed_by_leg(rehearsal),
        newly_disallowed={
            change.after.sale_id: change.after.disallowed - change.before.disallowed
            for change in rehearsal.changed
            if change.after.disallowed > change.before.disallowed
        },
        cash_usd=snapshot.cash,
        cash_reserve_usd=ZERO,
        order_max_usd=execution.order_max_usd,
        daily_max_usd=execution.daily_notional_max_usd,
        price_collar=execution.price_collar_pct / 100,
        turnover_max_usd=Decimal(repr(house.settings.optimizer.turnover_max_pct)) / 100 * snapshot.nav,
        submitted_today_usd=sum((one.submitted_quantity * one.reference_price for one in sent), ZERO),
        restricted=frozenset(execution.restricted_symbols),
        locked=locked_symbols(house, snapshot),
        untradable=untradable(house),
        minimum_buy_usd=Decimal(1),
        fractionable=frozenset(symbol for symbol, item in house.securities().items() if item.fractionable),
        identical_group={trade.symbol: min(ledger.group_of(trade.symbol)) for trade in plan.trades},
    )


def _disallowed_by_leg(rehearsal: WhatIf) -> dict[int, Decimal]:
    """Disallowed loss of each sell leg the rehearsal answers for; a leg that is absent is unknown."""
    found: dict[int, Decimal] = {}
    for row in rehearsal.realized:
        if row.sale_id.startswith(PLANNED):
            leg = int(row.sale_id.removeprefix(PLANNED))
            found[leg] = found.get(leg, ZERO) + row.disallowed
    return found
