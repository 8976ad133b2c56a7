"""Orders at the broker that this database did not place.

One that bears an id like ours means another harvestd, or another database, on the same account: trading halts. So does
one of ours that is over in our books and open in the broker's. Anybody else's keep their symbols, and the cash that
their buys may yet take.

Orders that ended before anybody looked are found by the broker's own list of what changed, from where it was last read:
a database restored from last week reads on from there, meets the orders of the week, and halts (F40). Their fills come
with the account's history like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from daemon.alerts import raise_alert, recover
from daemon.errors import MustHalt
from daemon.house import House
from daemon.outcomes import save, take_update
from daemon.storage import stop_trading
from state.records import ZERO, Account, AlertLevel, BrokerOrder, Intent, IntentState, Side

OUR_ID = "hv-"  # every client order id of harvestd's begins so
LAG = timedelta(minutes=1)  # by which the broker's lists may be behind
ORDERS = "orders"  # the cursor of the broker's list of changed orders


def foreign_orders(house: House, account: Account) -> tuple[BrokerOrder, ...]:
    """Open orders at the broker that are nobody's we know; one alert while there are any.

    Raises MustHalt when one of them bears an id like ours, or is one of ours that has ended.
    """
    broker = house.brokers[account.account_id]
    strangers: list[BrokerOrder] = []
    like_ours: list[BrokerOrder] = []
    ended: list[BrokerOrder] = []
    for order in broker.open_orders():
        intent = house.store.orders.get(order.client_order_id)
        if intent is None:
            (like_ours if order.client_order_id.startswith(OUR_ID) else strangers).append(order)
        elif intent.state.is_final:
            ended.append(order)
    if like_ours:
        raise MustHalt(
            f"The broker has open orders of a harvestd that this database knows nothing of, "
            f"{like_ours[0].client_order_id} and {len(like_ours) - 1} more. Another one works on the same account, or "
            "the database was replaced. Stop the other, let the orders end or cancel them at the broker, then "
            "`harvestd resume`."
        )
    for order in ended:
        strangers.append(order)  # its symbol stays locked meanwhile
        if _is_still_open(house, account, order):
            raise MustHalt(
                f"Order {order.client_order_id} is over in harvestd's books and open at the broker. Let it end or "
                "cancel it there, then `harvestd resume`."
            )
    house.suspects = {name: at for name, at in house.suspects.items() if name in {one.client_order_id for one in ended}}
    _tell(house, account, strangers)
    return tuple(strangers)


def _is_still_open(house: House, account: Account, order: BrokerOrder) -> bool:
    """True when an order that is over was open at an earlier look too, some time ago, and itself says so. What the
    broker lists lags behind what its stream and its answers say."""
    first = house.suspects.setdefault(order.client_order_id, house.clock.monotonic())
    if house.clock.monotonic() - first < LAG.total_seconds():
        return False
    itself = house.brokers[account.account_id].order_by_client_id(order.client_order_id)
    return itself is not None and not itself.status.is_final


def _tell(house: House, account: Account, strangers: list[BrokerOrder]) -> None:
    key, now = f"foreign:{account.account_id}", house.clock.now()
    if strangers:
        names = ", ".join(sorted({f"{one.side} {one.quantity.normalize():f} {one.symbol}" for one in strangers}))
        text = f"Open orders at the broker that are not harvestd's: {names}. Their symbols and cash are left alone."
        raise_alert(house.store, key, AlertLevel.WARNING, text, now)
    else:
        recover(house.store, key, "no open orders but harvestd's own", now)


def promised(orders: Iterable[BrokerOrder], prices: Mapping[str, Decimal]) -> Decimal:
    """Cash in USD that other people's open buys may yet take. Raises KeyError where nobody knows their price."""
    total = ZERO
    for order in orders:
        if order.side is Side.BUY:
            price = order.limit_price or prices[order.symbol]
            total += (order.quantity - order.filled_quantity) * price
    return total


def read_changed_orders(house: House, account: Account) -> None:
    """Read on in the broker's list of changed orders: ours of open fate are adopted from it.

    Raises MustHalt when it tells of orders like ours that this database never recorded: once, for what was read is not
    read again. The halt is on disk before that is.
    """
    cursor = house.store.agenda.cursor(account.account_id, ORDERS)
    page = house.brokers[account.account_id].order_events(cursor)
    unknown, now = set(), house.clock.now()
    for order in page.orders:
        if order.client_order_id.startswith(OUR_ID):
            intent = house.store.orders.get(order.client_order_id)
            if intent is None:
                unknown.add(order.client_order_id)
            else:
                _take_in(house, account, intent, order)
    why = ""
    if unknown and cursor is None:  # the first reading of a new database: what was before it is history
        text = f"The account has {len(unknown)} orders of an earlier harvestd's; this database begins after them."
        raise_alert(house.store, f"earlier:{account.account_id}", AlertLevel.WARNING, text, now)
    elif unknown:
        why = (
            f"The broker knows {len(unknown)} orders of harvestd's that this database does not, {min(unknown)} the "
            "first: it was restored from a backup, or another harvestd worked on the account. Their fills are taken "
            "from the account's history. Compare with `harvestd positions`, then `harvestd resume`."
        )
        stop_trading(house, why)
    if page.cursor is not None:
        house.store.agenda.set_cursor(account.account_id, ORDERS, page.cursor)
    if why:
        raise MustHalt(why)


def _take_in(house: House, account: Account, intent: Intent, order: BrokerOrder) -> None:
    """What the list says of an order of ours. One that never arrived, as far as anybody knew, and has filled all the
    same, is that order: with the terms it has there."""
    told_before = intent.state.is_final and order.filled_quantity <= intent.filled_quantity
    if intent.account_id != account.account_id or told_before:
        return
    if intent.submitted_quantity:
        take_update(house, account, order)
    elif order.filled_quantity and intent.state.is_final:
        meant = (intent.symbol, intent.side)
        if (order.symbol, order.side) != meant or order.quantity > intent.quantity:
            raise MustHalt(
                f"Order {order.client_order_id} never left as {intent.side} {intent.quantity} {intent.symbol}, and the "
                f"broker has filled {order.side} {order.filled_quantity} {order.symbol} under that id."
            )
        state = IntentState.FILLED if order.filled_quantity == order.quantity else IntentState.EXPIRED
        found = replace(
            intent,
            state=state,
            submitted_quantity=order.quantity,
            filled_quantity=order.filled_quantity,
            broker_order_id=order.broker_order_id,
            submitted_at=intent.submitted_at or order.submitted_at,
        )
        save(house, found)
        text = f"Order {order.client_order_id} counted as never arrived, and has filled {order.filled_quantity} shares."
        key = f"late:{order.client_order_id}"
        raise_alert(house.store, key, AlertLevel.WARNING, text, house.clock.now())
