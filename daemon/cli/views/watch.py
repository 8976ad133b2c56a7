"""`harvestd wash-calendar` and `harvestd alerts`: what is closed to trades and until when; what has been told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading
from daemon.cli.views.facts import (
    DAY,
    add,
    as_of,
    grid,
    say,
    settings_of,
    show,
)
from daemon.coverage import household
from state.records import Alert

if TYPE_CHECKING:
    from daemon.settings import Settings
    from daemon.wash_calendar_file import Known
    from state.lots import CalendarEntry, WashCalendar
    from state.store import Store

DayOption = Annotated[
    datetime | None,
    typer.Option(
        "--as-of", help="The day asked about. Default: the last session.", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD"
    ),
]
IcsOption = Annotated[
    Path | None,
    typer.Option(
        "--ics", help="Write an iCalendar file to import or subscribe to, - for standard output.", metavar="FILE"
    ),
]
STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True, slots=True)
class ClosedGroup:
    """Identical symbols closed to one kind of trade, and why. `free_from` is the first day that is not forbidden."""

    symbols: tuple[str, ...]
    until: date
    free_from: date
    account_id: str
    cause_id: str
    cause_date: date
    quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class CalendarView:
    """Both lists on one day."""

    as_of: date
    block_rebuy_after: str
    conventions: Mapping[str, str]  # those of wash_sales.conventions that are not at their default
    accounts: tuple[str, ...]
    all_clear: bool  # False: some account's history is not known to be complete
    coverage: str
    open_orders: int  # not in the lists until they fill
    do_not_buy: tuple[ClosedGroup, ...]
    do_not_sell_at_a_loss: tuple[ClosedGroup, ...]


def wash_calendar_command(
    asked: DayOption = None,
    ics: IcsOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What not to buy, and what not to sell at a loss, in any account of the household: until when and why."""
    if ics is not None and as_json:
        raise typer.BadParameter("expected --ics or --json, was both", param_hint="--ics")
    from daemon.wash_calendar_file import known_on

    with reading(db, config) as store:
        settings, day = settings_of(store, config), asked.date() if asked else as_of(store)
        known, calendar = known_on(store, day), calendar_on(store, settings, day)
        accounts = tuple(account.account_id for account in household(store))
    if ics is not None:
        _write_icalendar(ics, calendar, known)
        return
    found = CalendarView(
        as_of=day,
        block_rebuy_after=_rule(settings),
        conventions=_changed_conventions(settings),
        accounts=accounts,
        all_clear=known.all_clear,
        coverage=known.coverage,
        open_orders=known.open_orders,
        do_not_buy=tuple(_group(entry) for entry in calendar.do_not_buy),
        do_not_sell_at_a_loss=tuple(_group(entry) for entry in calendar.do_not_sell_at_a_loss),
    )
    if as_json:
        emit(found)
    else:
        _print_calendar(found)


def calendar_on(store: Store, settings: Settings | None, day: date) -> WashCalendar:
    """The calendar by a replay of the journal, under the user's own idea of what is identical.

    What was known by the end of `day`: later transactions are not in it.
    """
    from daemon.bookkeeping import replayed
    from daemon.house import ledger_policy
    from state.lots import LedgerPolicy, wash_calendar

    policy = ledger_policy(settings, store.household.securities()) if settings else LedgerPolicy()
    ledger = replayed(store, store.household.accounts(), policy, through=day)
    return wash_calendar(ledger, day, block_rebuy_after=_rule(settings))


def _rule(settings: Settings | None) -> Literal["loss_sale", "any_sale"]:
    return settings.wash_sales.block_rebuy_after.value if settings else "loss_sale"


def _changed_conventions(settings: Settings | None) -> Mapping[str, str]:
    """Conventions that are not at their default, by name."""
    if settings is None:
        return {}
    chosen = settings.wash_sales.conventions
    default = type(chosen)().model_dump(mode="json")
    return {name: value for name, value in chosen.model_dump(mode="json").items() if value != default[name]}


def _write_icalendar(path: Path, calendar: WashCalendar, known: Known) -> None:
    from daemon.clock import WallClock
    from daemon.wash_calendar_file import icalendar, write

    content = icalendar(calendar, known, WallClock().now())
    if path == STANDARD_OUTPUT:
        typer.echo(content, nl=False)
        return
    write(path, content)
    entries = len(calendar.do_not_buy) + len(calendar.do_not_sell_at_a_loss)
    say(f"Wrote {path}: {entries} entries as of {known.as_of}, {known.coverage}.")


def _group(entry: CalendarEntry) -> ClosedGroup:
    return ClosedGroup(
        symbols=tuple(sorted(entry.symbols)),
        until=entry.until,
        free_from=entry.until + DAY,
        account_id=entry.account_id,
        cause_id=entry.cause_id,
        cause_date=entry.cause_date,
        quantity=entry.quantity,
        reason=entry.reason,
    )


def _print_calendar(found: CalendarView) -> None:
    say(f"Wash-sale calendar as of {found.as_of}: 30 days before and after, {found.coverage}.", style="bold")
    if found.block_rebuy_after == "any_sale":
        say("Names are closed to purchases after any sale (wash_sales.block_rebuy_after: any_sale).")
    for name, value in found.conventions.items():
        say(f"Counted with wash_sales.conventions.{name}: {value}.")
    if found.open_orders:
        say(f"{found.open_orders} open orders are not in it until they fill.")
    _print_groups("Do not buy in any account: it would disallow a loss already taken", found.do_not_buy)
    _print_groups("Do not sell other lots at a loss: what was bought would disallow it", found.do_not_sell_at_a_loss)


def _print_groups(title: str, groups: Sequence[ClosedGroup]) -> None:
    """Group by group, the one that is free first on top. Beside its symbols stands the cause that lasts longest."""
    if not groups:
        say(f"\n{title}. Nothing is closed by what is known.")
        return
    causes: dict[tuple[str, ...], list[ClosedGroup]] = {}
    for one in sorted(groups, key=lambda one: (one.until, one.cause_date), reverse=True):
        causes.setdefault(one.symbols, []).append(one)
    rows = grid("symbols", "closed through", "account", "why")
    for symbols, of_group in sorted(causes.items(), key=lambda item: (item[1][0].until, item[0])):
        for place, one in enumerate(of_group):
            shown = "" if place else ", ".join(symbols)
            add(rows, shown, one.until.isoformat(), one.account_id, one.reason.partition(";")[0])
    show(rows, title)


# ------------------------------------------------------------------ alerts


def alerts(
    most: Annotated[int, typer.Option("--most", help="The newest so many.", min=1)] = 50,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the daemon has told: harvests, plans that wait or fail, differences with the broker, recoveries."""
    with reading(db, config) as store:
        day, found = as_of(store), store.alerts.list(most)
    if as_json:
        emit({"as_of": day, "alerts": found})
        return
    if not found:
        say(f"No alerts as of {day}.")
        return
    say(f"As of {day}: the newest {len(found)} alerts, newest last.")
    _print_alerts(found)


def _print_alerts(found: Sequence[Alert]) -> None:
    styles = {"info": None, "warning": "yellow", "error": "red", "halt": "bold red"}
    rows = grid("raised (UTC)", "level", "message")
    for one in found:
        level = "recovered" if one.recovered else one.level.value
        add(rows, f"{one.raised_at:%Y-%m-%d %H:%M}", level, one.message, style=styles[one.level.value])
    show(rows)
