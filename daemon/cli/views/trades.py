"""`harvestd orders`: every order we meant the broker to have, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, shares, usd
from daemon.cli.views.facts import add, as_of, grid, how_many, say, show
from state.records import ZERO, Intent, IntentState, OrderType, Side

if TYPE_CHECKING:
    from state.store import FillRow, Store

MOST = 40

SessionOption = Annotated[
    datetime | None, typer.Option("--session", help="One session only.", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD")
]
MostOption = Annotated[int, typer.Option("--most", help="The newest so many; 0 shows all.", min=0)]


@dataclass(frozen=True, slots=True)
class OrderView:
    """One intent: at most one order at the broker. Quantities in shares."""

    session: date
    client_order_id: str
    broker_order_id: str | None
    account_id: str
    plan_id: str
    leg: int
    side: Side
    symbol: str
    order_type: OrderType
    limit_price: Decimal | None
    state: IntentState
    planned: Decimal
    sent: Decimal
    filled: Decimal
    average_price: Decimal | None  # None: nothing filled
    reason: str
    submitted_at: datetime | None


def orders(
    session: SessionOption = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that can still fill.")] = False,
    most: MostOption = MOST,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Orders: planned, sent and filled quantities, average price, and why one was refused or ended early."""
    with reading(db, config) as store:
        day = as_of(store)
        every = orders_of(store, session.date() if session else None, only_open=only_open)
    found = every[-most:] if most else every
    if as_json:
        emit({"as_of": day, "total": len(every), "orders": found})
        return
    which = ("open " if only_open else "") + "orders" + (f" of session {session:%Y-%m-%d}" if session else "")
    if not found:
        say(f"No {which} as of {day}.")
        return
    say(f"As of {day}: {how_many(found, every, which)}. Shares planned, sent to the broker, filled.")
    _print(found)


def orders_of(store: Store, session: date | None, *, only_open: bool) -> tuple[OrderView, ...]:
    """Orders in the order they were worked."""
    intents = store.orders.list(session=session, only_open=only_open)
    prices = average_prices(store.orders.fills())
    return tuple(order_view(one, prices) for one in intents)


def order_view(intent: Intent, prices: Mapping[str, Decimal]) -> OrderView:
    """One order with its average fill price."""
    return OrderView(
        session=intent.session,
        client_order_id=intent.client_order_id,
        broker_order_id=intent.broker_order_id,
        account_id=intent.account_id,
        plan_id=intent.plan_id,
        leg=intent.leg,
        side=intent.side,
        symbol=intent.symbol,
        order_type=intent.order_type,
        limit_price=intent.limit_price,
        state=intent.state,
        planned=intent.quantity,
        sent=intent.submitted_quantity,
        filled=intent.filled_quantity,
        average_price=prices.get(intent.client_order_id),
        reason=intent.reason,
        submitted_at=intent.submitted_at,
    )


def average_prices(fills: Iterable[FillRow]) -> dict[str, Decimal]:
    """Average fill price of each order of ours, by client order id, to the hundredth of a cent, in USD."""
    shares_of: dict[str, Decimal] = defaultdict(lambda: ZERO)
    money_of: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for fill in fills:
        if fill.client_order_id is not None:
            shares_of[fill.client_order_id] += fill.quantity
            money_of[fill.client_order_id] += fill.quantity * fill.price
    return {name: (money_of[name] / quantity).quantize(Decimal("0.0001")) for name, quantity in shares_of.items()}


def _print(found: tuple[OrderView, ...]) -> None:
    rows = grid(
        "session", "plan", ">leg", "side", "symbol", "state", ">planned", ">sent", ">filled", ">average USD", "why"
    )
    previous = None
    for one in found:
        add(
            rows,
            one.session.isoformat() if one.session != previous else "",
            one.plan_id,
            str(one.leg),
            one.side.value,
            one.symbol,
            one.state.value,
            shares(one.planned),
            shares(one.sent),
            shares(one.filled),
            usd(one.average_price, 4) if one.average_price is not None else "",
            one.reason,
            style=_style(one.state),
        )
        previous = one.session
    show(rows)


def _style(state: IntentState) -> str | None:
    if state in (IntentState.UNKNOWN, IntentState.REFUSED):
        return "red"
    return None if state is IntentState.FILLED else "yellow"
