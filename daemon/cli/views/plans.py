"""`harvestd plans`: the plans made, and one of them leg by leg, lot by lot, with what was asked, answered and done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, shares, usd
from daemon.cli.views.facts import add, as_of, grid, how_many, say, show, where
from daemon.cli.views.trades import MostOption, SessionOption
from daemon.errors import NotFound
from state.records import ZERO, Plan, PlannedTrade, PlanState, Side

if TYPE_CHECKING:
    from state.store import Approval, Store

plans_app = typer.Typer(
    help="Plans: list them, show one, approve or reject one that waits.", invoke_without_command=True
)

MOST = 25
OpenOption = Annotated[bool, typer.Option("--open", help="Only those that can still trade.")]


@dataclass(frozen=True, slots=True)
class PlanDetail:
    """One plan and its history. Gains and losses are estimates at the plan's prices; weights are fractions."""

    plan: Plan
    gross_value_usd: Decimal
    gain_loss_usd: Decimal
    disallowed_usd: Decimal
    cost_usd: Decimal
    filled: Mapping[int, Decimal]  # shares filled so far, by leg
    approvals: tuple[Approval, ...]
    weights_after: Mapping[str, Decimal]  # empty until the plan has ended


# ------------------------------------------------------------------ the list


@plans_app.callback()
def plans(
    context: typer.Context,
    session: SessionOption = None,
    only_open: OpenOption = False,
    most: MostOption = MOST,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plans: list them, show one, approve or reject one that waits."""
    if context.invoked_subcommand is not None:
        return
    with reading(db, config) as store:
        day = as_of(store)
        every = store.plans.list(session=session.date() if session else None, only_open=only_open)
    found = every[-most:] if most else every
    if as_json:
        emit({"as_of": day, "total": len(every), "plans": found})
        return
    which = ("open " if only_open else "") + "plans" + (f" of session {session:%Y-%m-%d}" if session else "")
    if not found:
        say(f"No {which} as of {day}.")
        return
    say(f"As of {day}: {how_many(found, every, which)}. Gain/loss: estimated when planned, before disallowance.")
    _print_list(found, where(db, config))


def _print_list(found: tuple[Plan, ...], options: str) -> None:
    rows = grid("plan", "state", ">legs", ">gross USD", ">gain/loss USD", ">TE bp before", ">after", "because")
    for plan in found:
        waits = plan.state is PlanState.AWAITING_APPROVAL
        add(
            rows,
            plan.plan_id,
            plan.state.value,
            str(len(plan.trades)),
            usd(plan.gross_value, 0),
            usd(sum((trade.gain_loss for trade in plan.trades), ZERO), 0),
            _bps(plan.tracking_error_before_bps),
            _bps(plan.tracking_error_after_bps),
            ", ".join(_short(reason) for reason in plan.triggers),
            style="bold" if waits else None,
        )
    show(rows)
    for plan in found:
        if plan.state is PlanState.AWAITING_APPROVAL:
            say(f"{plan.plan_id} waits for you: harvestd plans approve {plan.plan_id}{options}", style="bold")
    say(f"One of them in full: harvestd plans show {found[-1].plan_id}{options}")


def _short(reason: str) -> str:
    """A trigger without its figures: "TRIGGER_DRIFT: symbol=KO active_pct=-4.75" is "drift KO"."""
    code, _, details = reason.partition(": ")
    symbol = next((item.removeprefix("symbol=") for item in details.split() if item.startswith("symbol=")), "")
    return f"{code.removeprefix('TRIGGER_').lower().replace('_', ' ')} {symbol}".strip()


def _bps(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


# ------------------------------------------------------------------ one of them


@plans_app.command("show")
def plans_show(
    plan_id: Annotated[str, typer.Argument(help="The plan's id, as `harvestd plans` lists it.")],
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One plan: each trade with its lots in the order the broker sells them, answers, weights before and after."""
    with reading(db, config) as store:
        found = detail_of(store, plan_id, where(db, config))
    if as_json:
        emit(found)
    else:
        _print_detail(found, db, config)


def detail_of(store: Store, plan_id: str, options: str = "") -> PlanDetail:
    """A plan with what became of it. Raises NotFound."""
    plan = store.plans.get(plan_id)
    if plan is None:
        raise NotFound(f"No plan {plan_id}. `harvestd plans{options}` lists them.")
    filled: dict[int, Decimal] = defaultdict(lambda: ZERO)
    for intent in store.orders.list(plan_id=plan_id):
        filled[intent.leg] += intent.filled_quantity
    return PlanDetail(
        plan=plan,
        gross_value_usd=plan.gross_value,
        gain_loss_usd=sum((trade.gain_loss for trade in plan.trades), ZERO),
        disallowed_usd=sum((trade.disallowed for trade in plan.trades), ZERO),
        cost_usd=sum((trade.cost for trade in plan.trades), ZERO),
        filled=dict(filled),
        approvals=store.plans.approvals(plan_id),
        weights_after=store.plans.weights_after(plan_id),
    )


def _print_detail(found: PlanDetail, db: Path | None, config: Path | None) -> None:
    plan = found.plan
    say(f"Plan {plan.plan_id} is {plan.state.value}: account {plan.account_id}, session {plan.session}", style="bold")
    say(f"Priced {plan.created_at:%Y-%m-%d %H:%M} UTC, revision {plan.revision}; net asset value {usd(plan.nav)} USD.")
    for trigger in plan.triggers:
        say(f"Because: {trigger}")
    asked = {reason for approval in found.approvals for reason in approval.reasons}
    for reason in (*plan.notes, *plan.reasons):
        if reason not in asked:
            say(f"Noted: {reason}")
    if plan.tracking_error_before_bps is not None and plan.tracking_error_after_bps is not None:
        change = f"{plan.tracking_error_before_bps:.1f} -> {plan.tracking_error_after_bps:.1f} bp a year"
        say(f"Expected tracking error {change}.")
    say(
        f"{len(plan.trades)} trades worth {usd(found.gross_value_usd, 0)} USD; estimated gain or loss "
        f"{usd(found.gain_loss_usd)} before disallowance, disallowed {usd(found.disallowed_usd)}, "
        f"cost {usd(found.cost_usd)} USD."
    )
    _print_trades(found)
    _print_approvals(found.approvals)
    _print_weights(found)
    if plan.state is PlanState.AWAITING_APPROVAL:
        until = f" It expires {plan.expires_at:%Y-%m-%d %H:%M} UTC." if plan.expires_at else ""
        options = where(db, config)
        say(f"It waits for you:{until}", style="bold")
        say(f"  harvestd plans approve {plan.plan_id}{options}\n  harvestd plans reject {plan.plan_id}{options}")


def _print_trades(found: PlanDetail) -> None:
    columns = (
        "",
        "symbol",
        ">shares",
        ">filled",
        ">price",
        ">value USD",
        "term",
        ">gain/loss",
        ">disallowed",
        ">cost",
        ">TE bp",
    )
    rows = grid(*columns, "why")
    for trade in found.plan.trades:
        selling = trade.side is Side.SELL
        filled = found.filled.get(trade.leg)
        effect = trade.tracking_error_effect_bps
        add(
            rows,
            trade.side.value,
            trade.symbol,
            shares(trade.quantity),
            shares(filled) if filled is not None else "",
            usd(trade.price),
            usd(trade.notional, 0),
            "",
            usd(trade.gain_loss) if selling else "",
            usd(trade.disallowed) if selling else "",
            usd(trade.cost),
            f"{effect:+.1f}" if effect is not None else "",
            _why(trade),
            style="bold" if trade.lots else None,
        )
        for lot in trade.lots:
            lot_cells = ("", f" {lot.acquired}", shares(lot.quantity), "", "", "", lot.term.value)
            add(rows, *lot_cells, usd(lot.gain_loss), usd(lot.disallowed), "", "", "", style="dim")
    show(rows, "Trades, and of each sale its lots in the order the broker sells them")
    if any(trade.tracking_error_effect_bps is not None for trade in found.plan.trades):
        say("TE bp: what the trade adds to the plan's expected tracking error.")


def _why(trade: PlannedTrade) -> str:
    text = trade.reason.value
    if trade.replacement:
        text += f" {'->' if trade.side is Side.SELL else 'for'} {', '.join(trade.replacement)}"
    return f"{text}: {trade.explanation}" if trade.explanation else text


def _print_approvals(approvals: tuple[Approval, ...]) -> None:
    if not approvals:
        return
    rows = grid(">revision", "asked", "answer", "answered", "by", "asked because")
    for one in approvals:
        add(
            rows,
            str(one.revision),
            _minute(one.requested_at),
            one.decision or f"waits until {_minute(one.expires_at)}",
            _minute(one.decided_at) if one.decided_at else "",
            one.decided_by or "",
            "\n".join(one.reasons),
        )
    show(rows, "Approvals (UTC)")


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"


def _print_weights(found: PlanDetail) -> None:
    """Only the names whose weight the plan changes by a hundredth of a per cent or more."""
    before, planned, after = found.plan.weights_before, found.plan.weights_planned, found.weights_after
    changed = [
        symbol
        for symbol in sorted({*before, *planned})
        if abs(planned.get(symbol, ZERO) - before.get(symbol, ZERO)) >= Decimal("0.0001")
    ]
    if not changed:
        return
    rows = grid("symbol", ">before", ">planned", ">change", ">after")
    for symbol in changed:
        was, will = before.get(symbol, ZERO) * 100, planned.get(symbol, ZERO) * 100
        became = f"{after.get(symbol, ZERO) * 100:.2f}" if after else "not yet"
        add(rows, symbol, f"{was:.2f}", f"{will:.2f}", f"{will - was:+.2f}", became)
    show(rows, "Weights in % of net asset value, of the names that change")
