"""Commands that decide: plan (places nothing), once, run, halt, resume, and a person's answer to a plan."""

from __future__ import annotations

import getpass
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daemon.cli.common import (
    ConfigOption,
    DbOption,
    JsonOption,
    console,
    database_path,
    emit,
    shares,
    table,
    target,
    usd,
)
from daemon.cli.views import plans_app
from daemon.errors import ConfigurationRefused, NotFound

if TYPE_CHECKING:
    from daemon.house import House
    from daemon.opening import Target
    from daemon.planning import Proposed
    from daemon.settings import Settings
    from strategy.types import Opportunity


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    app.command("plan")(plan)
    app.command("opportunities")(opportunities)
    app.command("once")(once)
    app.command("run")(run)
    app.command("halt")(halt)
    app.command("resume")(resume)
    plans_app.command("approve")(approve)
    plans_app.command("reject")(reject)


# ------------------------------------------------------------------ looking


def plan(
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    rebalance: Annotated[
        bool, typer.Option("--rebalance", help="As if a rebalancing were due by the calendar.")
    ] = False,
) -> None:
    """What it would trade now, lot by lot, and why. Works on a private copy; places nothing."""
    from daemon.opening import looking_house

    with looking_house(target(db, config, looking=True), os.environ) as house:
        found = _proposed(house, rebalance=rebalance)
        if as_json:
            emit(_plan_json(house, *found))
        else:
            _print_plan(house, *found)


def opportunities(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Each loss, what taking it now would be worth, and why it is or is not taken."""
    from daemon.opening import looking_house

    with looking_house(target(db, config, looking=True), os.environ) as house:
        _, found, _ = _proposed(house)
        if as_json:
            emit(found)
        else:
            _print_opportunities(found)


Found = tuple["Proposed | None", "tuple[Opportunity, ...]", tuple[str, ...]]


def _proposed(house: House, *, rebalance: bool = False) -> Found:
    """The cycle of the first managed account up to its decision: plan, opportunities, and what the checks say."""
    from daemon.checks import check
    from daemon.cycle import observed
    from daemon.planning import propose, scan
    from daemon.triggers import find_triggers
    from state.reasons import ReasonCode, because

    snapshot = observed(house, house.managed[0])
    seen = scan(house, snapshot)
    triggers = find_triggers(house, snapshot)
    if rebalance:
        triggers = (*triggers, because(ReasonCode.TRIGGER_SCHEDULE, every="asked for with --rebalance"))
    proposed = propose(house, snapshot, triggers, seen)
    verdict = tuple(str(reason) for reason in check(house, snapshot, proposed))
    return proposed, proposed.proposal.opportunities if proposed else seen, verdict


def _plan_json(
    house: House, proposed: Proposed | None, found: tuple[Opportunity, ...], verdict: tuple[str, ...]
) -> Any:
    from daemon.approvals import needs_approval

    return {
        "as_of": house.clock.now(),
        "places_orders": False,
        "plan": proposed.plan if proposed else None,
        "needs_approval": [str(reason) for reason in needs_approval(proposed.plan, house.settings)] if proposed else [],
        "blocked_by": list(verdict),
        "opportunities": found,
    }


def _print_plan(
    house: House, proposed: Proposed | None, found: tuple[Opportunity, ...], verdict: tuple[str, ...]
) -> None:
    from daemon.approvals import needs_approval

    out = console()
    account = house.managed[0]
    profile = house.settings.tax_profile
    out.print(
        f"[bold]Plan for {account.account_id}[/bold] as of {house.clock.now():%Y-%m-%d %H:%M} UTC. Nothing is placed.\n"
        f"Gains and losses are estimates at the last prices; disallowed is what wash sales would take, over accounts "
        f"{', '.join(one.account_id for one in house.accounts)}. Rates: {profile.short_term_rate_pct:g} % short-term, "
        f"{profile.long_term_rate_pct:g} % long-term. Lots in the order the broker sells them "
        f"({account.relief_method.value})."
    )
    if proposed is None:
        out.print("No reason to trade: no loss past its trigger, cash and weights within their limits.")
    else:
        _print_trades(house, proposed)
        for reason in verdict:
            out.print(f"[red]Blocked:[/red] {reason}")
        for needed in needs_approval(proposed.plan, house.settings):
            out.print(f"Would wait for approval: {needed}")
    _print_opportunities(found)


def _print_trades(house: House, proposed: Proposed) -> None:
    out, made = console(), proposed.plan
    out.print("Because: " + "; ".join(made.triggers))
    out.print(
        f"Tracking error {made.tracking_error_before_bps:.0f} -> {made.tracking_error_after_bps:.0f} bp "
        f"(limit {house.settings.optimizer.tracking_error_max_bps:.0f}); "
        f"gap to the best possible plan at most {made.certified_gap_bp or 0:.2f} bp"
    )
    for line in (*made.reasons, *made.notes):
        out.print(line)
    if not made.trades:
        return
    rows = table(
        "Trades", "", "symbol", ">shares", ">price", ">value USD", ">gain/loss", ">disallowed", ">TE bp", ">cost", "why"
    )
    for trade in made.trades:
        gain = usd(trade.gain_loss) if trade.lots else ""
        instead = f" -> {', '.join(trade.replacement)}" if trade.lots and trade.replacement else ""
        rows.add_row(
            trade.side.value,
            trade.symbol,
            shares(trade.quantity),
            usd(trade.price),
            usd(trade.notional, 0),
            gain,
            usd(trade.disallowed) if trade.lots else "",
            f"{trade.tracking_error_effect_bps or 0:+.1f}",
            usd(trade.cost),
            f"{trade.reason.value}{instead}: {trade.explanation}",
        )
        for lot in trade.lots:
            rows.add_row(
                "",
                f"  {lot.acquired}",
                shares(lot.quantity),
                "",
                "",
                usd(lot.gain_loss),
                usd(lot.disallowed),
                lot.term.value,
            )
    out.print(rows)


def _print_opportunities(found: tuple[Opportunity, ...]) -> None:
    if not found:
        console().print("No lot stands at a loss.")
        return
    rows = table("Losses", "symbol", ">loss USD", ">depth", ">trigger", ">worth USD", ">days", "taken", "why")
    for item in sorted(found, key=lambda one: -one.gross_loss_usd):
        rows.add_row(
            item.symbol,
            usd(item.gross_loss_usd, 0),
            f"{item.loss_fraction:.1%}" if item.loss_fraction > 0 else "in front: gains",
            f"{item.trigger_fraction:.1%}",
            usd(item.tax_value_usd, 0) if item.loss_fraction > 0 else "",
            str(item.days_held),
            "yes" if item.taken else "no",
            str(item.verdict),
        )
    console().print(rows)


# ------------------------------------------------------------------ doing


def once(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One cycle: sync, plan, check, decide, record; then one pass of work."""
    from daemon.cli.progress import ConsoleWatcher
    from daemon.cycle import run_cycle, work_cycle
    from daemon.opening import working_house

    found = target(db, config)
    _log_as(found)
    with working_house(found, os.environ, ConsoleWatcher()) as house:
        made = {}
        for account in house.managed:
            made[account.account_id] = run_cycle(house, account)
            work_cycle(house, account)
        if as_json:
            emit(made)
            return
        for account_id, plan in made.items():
            text = f"plan {plan.plan_id} is {plan.state.value}" if plan else "nothing to do, or the market is closed"
            console().print(f"{account_id}: {text}")


def run(
    db: DbOption = None,
    config: ConfigOption = None,
    speed: Annotated[float, typer.Option("--speed", help="Demo's world only: sessions a second.", min=0.01)] = 1.0,
    sessions: Annotated[int, typer.Option("--sessions", help="Stop after so many sessions; 0 never.", min=0)] = 0,
) -> None:
    """The daemon in the foreground, until stopped. The first time it loads prices before anything else."""
    from daemon.cli.progress import ConsoleWatcher
    from daemon.opening import working_world
    from daemon.service import run_household, serve

    found = target(db, config)
    _log_as(found)
    if found.settings is None:
        with working_world(found.database) as world:
            _configure(world.house.settings)
            serve(world, speed=speed, sessions=sessions)
    else:
        run_household(found, os.environ, ConsoleWatcher(), sessions=sessions)


def _log_as(found: Target) -> None:
    """Log as the configuration says, before a secret is read: from then on secrets are masked."""
    if found.settings is not None:
        _configure(found.settings)


def _configure(settings: Settings) -> None:
    from daemon.logs import configure

    configure(settings.log.format.value, settings.log.level.value)


def halt(
    reason: Annotated[str, typer.Argument(help="Why, for the record.")] = "by hand",
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Stop all orders at once. Works with the database locked and the network down; only `resume` lifts it."""
    from daemon.clock import WallClock
    from daemon.halt import halt as stop_orders
    from daemon.halt import halt_file, halt_reason

    try:
        path = database_path(db, config)
    except ConfigurationRefused as fault:
        path = _database_as_written(config, fault)
    if not path.exists():
        raise NotFound(f"No database at {path}; nothing to halt.")
    stop_orders(path, reason, WallClock().now())
    console().print(f"Halted: {halt_reason(path)}. No order leaves until `harvestd resume`. {halt_file(path)}")


def _database_as_written(config: Path | None, fault: ConfigurationRefused) -> Path:
    """The database that a configuration names, whatever else is wrong with it: a halt must not wait for that.

    Raises ConfigurationRefused when it cannot be read at all.
    """
    import yaml

    from daemon.settings import config_path

    file = config_path(config, os.environ)
    try:
        written = yaml.safe_load(file.read_text(encoding="utf-8"))
        section = written.get("database") or {}
        named = os.environ.get("HARVESTD_DATABASE__PATH") or str(section.get("path", "harvestd.db"))
        path = file.parent / named
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        raise ConfigurationRefused(
            f"Nothing was halted: {file} does not say which database is meant. Name it: `harvestd halt --db FILE`. "
            f"{fault}"
        ) from fault
    if not path.exists():
        raise fault
    return path


def resume(db: DbOption = None, config: ConfigOption = None) -> None:
    """Lift a halt."""
    from daemon.halt import halt_file, halt_reason, is_halted

    path = database_path(db, config)
    if not is_halted(path):
        console().print("Not halted.")
        return
    reason = halt_reason(path)
    halt_file(path).unlink()
    console().print(f"Resumed. It was halted: {reason}")


def approve(plan_id: str, db: DbOption = None, config: ConfigOption = None) -> None:
    """Say yes to a waiting plan; it is priced and checked afresh before it executes."""
    _answer("approve", plan_id, database_path(db, config))


def reject(plan_id: str, db: DbOption = None, config: ConfigOption = None) -> None:
    """Say no to a waiting plan."""
    _answer("reject", plan_id, database_path(db, config))


def _answer(answer: str, plan_id: str, path: Path) -> None:
    """A row in the inbox, which the cycle thread takes."""
    from daemon.clock import WallClock
    from state.records import PlanState
    from state.store import Command, Store

    store = Store.open(path)
    try:
        found = store.plans.get(plan_id)
        if found is None:
            raise NotFound(f"No plan {plan_id}. `harvestd plans` lists them.")
        if found.state is not PlanState.AWAITING_APPROVAL:
            raise NotFound(f"Plan {plan_id} is {found.state.value}; only a plan awaiting_approval can be answered.")
        now: datetime = WallClock().now()
        command_id = f"{answer}-{plan_id}-{found.revision}"
        fresh = store.commands.put(Command(command_id, answer, plan_id, now, getpass.getuser()))
    finally:
        store.close()
    taken = "It is taken at the daemon's next step." if fresh else "That answer was already given."
    console().print(f"{answer} {plan_id} (revision {found.revision}). {taken}")
