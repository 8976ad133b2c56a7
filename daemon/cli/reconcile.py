"""`harvestd reconcile`: our lots beside the broker's records, and a person's word where they stay different."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, console, emit, shares, table, target, usd
from daemon.errors import NotFound

if TYPE_CHECKING:
    from daemon.adoption import Adoption
    from daemon.house import House
    from daemon.reconcile import Difference, Standing
    from state.records import Account

AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account. Needed where harvestd trades several.")
]


def register(app: typer.Typer) -> None:
    """Mount the commands on the main command line."""
    group = typer.Typer(help="Our lots beside the broker's records.", invoke_without_command=True)
    group.callback()(show)
    group.command("adopt")(adopt)
    group.command("withdraw")(withdraw)
    app.add_typer(group, name="reconcile")


# ------------------------------------------------------------------ looking


def show(context: typer.Context, db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What differs between our lots and the broker's positions, why it probably does, and what to do. Exits 1 if
    anything differs or waits for a person."""
    if context.invoked_subcommand is not None:
        return
    from daemon.opening import looking_house
    from daemon.reconcile import standing
    from daemon.sync import sync

    with looking_house(target(db, config, looking=True), os.environ) as house:
        found = []
        for account in house.managed:
            sync(house, account)
            found.append(standing(house, account))
        now = house.clock.now()
    if as_json:
        emit({"as_of": now, "accounts": [_as_json(one) for one in found]})
    else:
        for one in found:
            _print_standing(one, now)
    if not all(one.is_clean for one in found):
        raise typer.Exit(1)


def _as_json(found: Standing) -> dict[str, object]:
    return {
        "account_id": found.account_id,
        "cash_usd": found.cash,
        "broker_cash_usd": found.broker_cash,
        "cash_difference_usd": found.cash_difference,
        "agreeing": found.agreeing,
        "differences": [
            {
                "symbol": one.symbol,
                "lots": one.ours,
                "broker": one.theirs,
                "cause": one.cause,
                "evidence": one.evidence,
                "advice": one.advice,
                "basis_usd": one.basis,
                "broker_basis_usd": one.their_basis,
            }
            for one in found.differences
        ],
        "questions": [{"symbol": one.symbol, "question": one.question_id, "text": one.text} for one in found.questions],
        "unreadable": found.unreadable,
    }


def _print_standing(found: Standing, now: datetime) -> None:
    out = console()
    cash = f"cash agrees, {usd(found.cash)} USD"
    if found.cash_difference:
        cash = f"cash differs: {usd(found.cash)} USD in the journal, {usd(found.broker_cash)} at the broker"
    out.print(
        f"{found.account_id} at {now:%Y-%m-%d %H:%M} UTC: {found.agreeing} symbols agree, {cash}.",
        markup=False,
        soft_wrap=True,
    )
    if found.differences:
        rows = table("", "symbol", ">lots", ">broker", ">difference", ">basis USD", ">broker's USD", "likely cause")
        for one in found.differences:
            rows.add_row(*_cells(one))
        out.print(rows)
    for one in found.differences:
        out.print(f"{one.symbol}: {one.evidence} {one.advice}", markup=False, soft_wrap=True)
    for symbol in found.unreadable:
        text = f"{symbol}: its history cannot have happened as it is told; `harvestd alerts` says why."
        out.print(text, markup=False, soft_wrap=True)
    for question in found.questions:
        out.print(question.text, markup=False, soft_wrap=True)


def _cells(one: Difference) -> tuple[str, ...]:
    return (
        one.symbol,
        shares(one.ours),
        shares(one.theirs),
        shares(one.theirs - one.ours),
        usd(one.basis) if one.basis is not None else "unknown",
        usd(one.their_basis) if one.their_basis is not None else "",
        one.cause.value.replace("_", " "),
    )


# ------------------------------------------------------------------ a person's word


def adopt(
    symbol: Annotated[str, typer.Argument(help="The symbol; `cash` for lines of cash that are gone.")],
    account: AccountOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    acquired: Annotated[
        datetime | None,
        typer.Option(
            "--acquired",
            help="When shares that are missing were acquired. Default: the day they came, else today.",
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
        ),
    ] = None,
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Make the lots of a symbol the broker's shares, and settle what is open about it. Shows what it writes and what
    that means for taxes, asks, and looks once more before it writes. Refused while an order is working in the symbol.
    The daemon must be stopped."""
    from daemon.adoption import adopt as write
    from daemon.adoption import adoption
    from daemon.opening import working_house
    from daemon.sync import sync

    with working_house(target(db, config), os.environ) as house:
        owner = _account(house, account, symbol)
        sync(house, owner)
        positions = house.brokers[owner.account_id].positions()
        found = adoption(house, owner, symbol, positions, acquired.date() if acquired else None)
        _print_adoption(found)
        if not yes and not typer.confirm("Write this?", default=False):
            console().print("Nothing was written.")
            raise typer.Exit(1)
        console().print("Looking at the broker's records once more, for up to half a minute, before it is written.")
        rows = write(house, found)
        left = sync(house, owner).locks.get(symbol)
    told = f" Still locked: {left}" if left else ""
    console().print(f"Adopted: {len(rows)} journal rows, {len(found.settles)} questions settled.{told}", markup=False)


def withdraw(
    action_id: Annotated[str, typer.Argument(help="The announcement's id, as the alert or `reconcile` names it.")],
    undo: Annotated[bool, typer.Option("--undo", help="It counts again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: DbOption = None,
    config: ConfigOption = None,
) -> None:
    """Let a corporate action that was announced wrongly count no more, in any account, however often it is announced.
    Figures told since its day are restated. The daemon must be stopped."""
    from daemon.opening import working_house
    from daemon.sync import sync

    with working_house(target(db, config), os.environ) as house:
        known = [one for one in house.store.actions.notices() if one.action_id == action_id]
        if not known:
            raise NotFound(f"Expected the id of a corporate action that is known, was {action_id}.")
        what = f"{known[0].symbol}: {known[0].kind.replace('_', ' ')} with ex-date {known[0].ex_date}"
        counts = "counts again" if undo else "will not count any more, in any account"
        console().print(f"{what} (id {action_id}) {counts}.", markup=False, soft_wrap=True)
        if not yes and not typer.confirm("Write this?", default=False):
            console().print("Nothing was written.")
            raise typer.Exit(1)
        house.store.actions.withdraw(action_id, undo=undo)
        left = {one.account_id: sync(house, one).locks.get(known[0].symbol) for one in house.managed}
    for account_id, lock in left.items():
        if lock:
            console().print(f"Still locked in {account_id}: {lock}", markup=False, soft_wrap=True)


def _account(house: House, account_id: str | None, symbol: str) -> Account:
    """The account that is meant. Raises NotFound where that is not plain."""
    managed = {one.account_id: one for one in house.managed}
    if account_id is not None and account_id not in managed:
        raise NotFound(f"--account: expected one of {', '.join(sorted(managed))}, was {account_id}.")
    if account_id is not None or len(managed) == 1:
        return managed[account_id or next(iter(managed))]
    raise NotFound(f"{symbol}: say in which account: --account {' or '.join(sorted(managed))}.")


def _print_adoption(found: Adoption) -> None:
    out = console()
    lots = "cannot be read" if found.ours is None else f"have {shares(found.ours)} shares"
    head = f"{found.symbol} in {found.account_id}: the lots {lots}, the broker has {shares(found.theirs)}."
    for text in (head, "This", *(f"  {line}" for line in found.lines), *found.means):
        out.print(text, markup=False, soft_wrap=True)
