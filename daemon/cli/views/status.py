"""`harvestd status`: one screen that answers in well under a second, from what the daemon has already worked out.

Nothing heavy is imported and nothing is replayed: the figures are the last session's, as stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from daemon.agenda import Task
from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, usd
from daemon.cli.views.facts import (
    DAY,
    as_of,
    described,
    is_demo,
    managed,
    mode_and_limit,
    next_weekday,
    provisional,
    today,
    where,
)
from daemon.coverage import WINDOW, coverage, household, incomplete
from state.records import ZERO, Account, IntentState, PlanState

if TYPE_CHECKING:
    from daemon.cli.views.facts import ModeAndLimit
    from state.store import Store

LABEL_WIDTH = 21
CONDITIONS = (
    "broker:",
    "question:",
    "reconcile:",
    "reconcile-many:",
    "state:",
    "stuck:",
    "task:",
    "tracking_error:",
    "unreadable:",
    "vanished:",
)  # incidents that last until they recover; the others are events


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One managed account at its last close. The benchmark had the same deposits on the same days."""

    account_id: str
    description: str
    state: str | None  # the daemon's, as it last wrote it; None before its first look
    state_reason: str
    state_since: datetime | None
    last_session: date | None  # None: no session has been done
    nav_usd: Decimal | None
    cash_usd: Decimal | None
    benchmark_nav_usd: Decimal | None
    tracking_error_bps: float | None  # ex-ante, a year
    tracking_error_limit_bps: float | None
    tracking_error_note: str


@dataclass(frozen=True, slots=True)
class LossStatus:
    """Losses realized this year in the managed taxable accounts, before tax; positive amounts. Gains are not netted."""

    year: int
    accounts: tuple[str, ...]
    losses_realized_usd: Decimal
    disallowed_usd: Decimal
    disallowed_for_good_usd: Decimal
    net_losses_usd: Decimal
    gains_realized_usd: Decimal
    provisional_losses_usd: Decimal  # the part of the net that a purchase can still disallow
    provisional_until: date | None
    all_clear: bool  # False: some account's history is not known to be complete
    coverage: str


@dataclass(frozen=True, slots=True)
class WaitingPlan:
    """A plan that waits for a person."""

    plan_id: str
    orders: int
    gross_value_usd: Decimal
    expires_at: datetime | None
    approve_with: str


@dataclass(frozen=True, slots=True)
class LockedSymbol:
    """A symbol in which nothing is traded."""

    account_id: str
    symbol: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """An incident that has not recovered."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Status:
    """Everything on the screen."""

    as_of: date
    database: Path
    demo: bool
    mode: str | None  # None: no configuration found
    halted: bool
    halt_reason: str | None
    accounts: tuple[AccountStatus, ...]
    losses: LossStatus
    plans_awaiting_approval: tuple[WaitingPlan, ...]
    orders_open: int
    orders_unknown: int
    locked: tuple[LockedSymbol, ...]
    alerts_open: tuple[OpenAlert, ...]
    next_session: date
    next_session_note: str


def status(db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Where things stand: mode, value, losses of the year, what waits for you, what is locked."""
    with reading(db, config) as store:
        found = status_of(store, mode_and_limit(store, config), where(db, config))
    if as_json:
        emit(found)
    else:
        _print(found)


# ------------------------------------------------------------------ finding out


def status_of(store: Store, known: ModeAndLimit, options: str = "") -> Status:
    """The status as the store has it. `options` lead a suggested command to the same database."""
    from daemon.halt import halt_reason, is_halted

    day, demo = as_of(store), is_demo(store)
    accounts = household(store)
    halted = is_halted(store.path)
    intents = store.orders.list(only_open=True)
    after = next_weekday(day) if demo else next_weekday(max(day, today() - DAY))
    return Status(
        as_of=day,
        database=store.path,
        demo=demo,
        mode=known.mode,
        halted=halted,
        halt_reason=halt_reason(store.path) if halted else None,
        accounts=tuple(_account(store, account, known) for account in managed(accounts)),
        losses=losses_of_year(store, accounts, day),
        plans_awaiting_approval=_waiting(store, options),
        orders_open=len(intents),
        orders_unknown=sum(1 for one in intents if one.state is IntentState.UNKNOWN),
        locked=_locked(store),
        alerts_open=_open_alerts(store),
        next_session=after,
        next_session_note="the next weekday, unless the exchange has a holiday",
    )


def _account(store: Store, account: Account, known: ModeAndLimit) -> AccountStatus:
    last, state = store.performance.last(account.account_id), store.states.last(account.account_id)
    return AccountStatus(
        account_id=account.account_id,
        description=described(account),
        state=state.state if state else None,
        state_reason=state.reason if state else "",
        state_since=state.since if state else None,
        last_session=store.agenda.last_session(Task.EVENING.value, account.account_id)
        or (last.session if last else None),
        nav_usd=last.nav if last else None,
        cash_usd=last.cash if last else None,
        benchmark_nav_usd=last.benchmark_nav if last else None,
        tracking_error_bps=round(last.tracking_error_bps, 1) if last and last.tracking_error_bps is not None else None,
        tracking_error_limit_bps=known.tracking_error_max_bps,
        tracking_error_note=last.tracking_error_note if last else "",
    )


def losses_of_year(store: Store, accounts: tuple[Account, ...], day: date) -> LossStatus:
    """Losses realized from 1 January to `day` in the managed taxable accounts; what is still open is open on `day`."""
    ours = tuple(account for account in managed(accounts) if account.account_type.is_taxable)
    rows = [
        row
        for account in ours
        for row in store.lots.realized(account.account_id, start=day.replace(month=1, day=1), end=day)
    ]
    sold_at_a_loss = [row for row in rows if row.gain_loss < 0]
    realized = -sum((row.gain_loss for row in sold_at_a_loss), ZERO)
    disallowed = sum((row.disallowed for row in sold_at_a_loss), ZERO)
    still = provisional(rows, day)
    first = min((row.disposed for row in sold_at_a_loss), default=day)
    return LossStatus(
        year=day.year,
        accounts=tuple(account.account_id for account in ours),
        losses_realized_usd=realized,
        disallowed_usd=disallowed,
        disallowed_for_good_usd=sum((row.permanently_disallowed for row in sold_at_a_loss), ZERO),
        net_losses_usd=realized - disallowed,
        gains_realized_usd=sum((row.gain_loss for row in rows if row.gain_loss > 0), ZERO),
        provisional_losses_usd=still.losses,
        provisional_until=still.until,
        all_clear=not incomplete(accounts, first - WINDOW),
        coverage=coverage(accounts, first - WINDOW),
    )


def _waiting(store: Store, options: str) -> tuple[WaitingPlan, ...]:
    return tuple(
        WaitingPlan(
            plan_id=plan.plan_id,
            orders=len(plan.trades),
            gross_value_usd=plan.gross_value,
            expires_at=plan.expires_at,
            approve_with=f"harvestd plans approve {plan.plan_id}{options}",
        )
        for plan in store.plans.list(only_open=True)
        if plan.state is PlanState.AWAITING_APPROVAL
    )


def _locked(store: Store) -> tuple[LockedSymbol, ...]:
    """Symbols whose shares differ from the broker's, and those with an order whose fate is unknown."""
    locked = [
        LockedSymbol(row.account_id, row.symbol, row.lock_reason) for row in store.positions.list() if row.lock_reason
    ]
    locked += [
        LockedSymbol(one.account_id, one.symbol, f"the fate of order {one.client_order_id} is unknown")
        for one in store.orders.list(only_open=True)
        if one.state is IntentState.UNKNOWN
    ]
    return tuple(locked)


def _open_alerts(store: Store) -> tuple[OpenAlert, ...]:
    found = [alert for prefix in CONDITIONS for alert in store.alerts.open_incidents(prefix)]
    return tuple(OpenAlert(alert.key, alert.message) for alert in found)


# ------------------------------------------------------------------ the screen


def _print(found: Status) -> None:
    """Lines of label and text. Without rich: loading it would cost a tenth of the time allowed."""
    what = "a demo; " if found.demo else ""
    typer.secho(f"harvestd as of the close of {found.as_of} ({what}{found.database})", bold=True)
    _line("mode", found.mode or "unknown: no config.yaml here")
    if found.halted:
        _line("trading", f"HALTED: {found.halt_reason}. `harvestd resume` lifts it.", color="red")
    else:
        _line("trading", "not halted")
    for account in found.accounts:
        for label, text in _account_lines(account):
            _line(label, text)
    for label, text in (*_loss_lines(found.losses), *_waiting_lines(found)):
        _line(label, text)
    _line("next session", f"{found.next_session}, {found.next_session_note}")


def _line(label: str, text: str, color: str | None = None) -> None:
    typer.secho(f"{label:<{LABEL_WIDTH}}{text}", fg=color, bold=color is not None)


def _account_lines(account: AccountStatus) -> list[tuple[str, str]]:
    lines = [("account", account.description)]
    if account.state is not None and account.state_since is not None:
        why = f", {account.state_reason}" if account.state_reason else ""
        lines.append(("  state last seen", f"{account.state} since {account.state_since:%Y-%m-%d %H:%M} UTC{why}"))
    lines.append(("  last session done", str(account.last_session or "none yet")))
    if account.nav_usd is None or account.cash_usd is None or account.benchmark_nav_usd is None:
        return [*lines, ("  net asset value", "no close has been recorded yet")]
    lines.append(("  net asset value", f"{usd(account.nav_usd)} USD, of it {usd(account.cash_usd)} in cash"))
    ahead = account.nav_usd - account.benchmark_nav_usd
    compared = f"the account is {usd(abs(ahead))} {'ahead' if ahead >= 0 else 'behind'}"
    lines.append(
        (
            "  benchmark",
            f"{usd(account.benchmark_nav_usd)} USD with the same deposits, before tax and costs; {compared}",
        )
    )
    lines.append(("  tracking error", _tracking(account)))
    return lines


def _tracking(account: AccountStatus) -> str:
    if account.tracking_error_bps is None:
        return "not known at this close"
    limit = account.tracking_error_limit_bps
    text = f"{account.tracking_error_bps:.0f} bp a year expected"
    text += f", limit {limit:.0f}" if limit is not None else ""
    return f"{text}: ABOVE ITS LIMIT, {account.tracking_error_note}" if account.tracking_error_note else text


def _loss_lines(losses: LossStatus) -> list[tuple[str, str]]:
    lines = [
        (f"losses of {losses.year}", f"before tax, in {', '.join(losses.accounts)}; gains are not netted against them"),
        ("  realized", f"{usd(losses.losses_realized_usd)} USD"),
        (
            "  disallowed",
            f"{usd(losses.disallowed_usd)} USD by wash sales, of it {usd(losses.disallowed_for_good_usd)} for good",
        ),
        ("  net", f"{usd(losses.net_losses_usd)} USD"),
    ]
    if losses.provisional_until:
        text = f"{usd(losses.provisional_losses_usd)} USD of the net"
        lines.append(("  provisional", f"{text}; a purchase until {losses.provisional_until} can still disallow it"))
    lines.append(("  wash sales", losses.coverage))
    lines.append(("  gains beside them", f"{usd(losses.gains_realized_usd)} USD realized"))
    return lines


def _waiting_lines(found: Status) -> list[tuple[str, str]]:
    lines = []
    for plan in found.plans_awaiting_approval:
        until = f" until {plan.expires_at:%Y-%m-%d %H:%M} UTC" if plan.expires_at else ""
        lines.append(
            ("waits for you", f"{plan.orders} orders, {usd(plan.gross_value_usd, 0)} USD{until}: {plan.approve_with}")
        )
    if not lines:
        lines.append(("waits for you", "no plan"))
    unknown = f", {found.orders_unknown} of them of unknown fate" if found.orders_unknown else ""
    lines.append(("open orders", f"{found.orders_open}{unknown}"))
    lines += [("locked", f"{one.symbol} in {one.account_id}: {one.reason}") for one in found.locked] or [
        ("locked", "no symbol")
    ]
    lines.append(("open alerts", str(len(found.alerts_open))))
    lines += [("", alert.message) for alert in found.alerts_open]
    return lines
