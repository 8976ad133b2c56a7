"""Broker -> journal -> ledger -> reconciled. The first line of every cycle.

What the broker reports is taken in once, by its own ids, in one database transaction with the cursor that says how
far it was read. Then our lots are compared with the broker's positions, exactly: a symbol that differs is locked,
and stays so until the two agree again. Cash is compared to the cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from brokers.protocol import BrokerReader
from daemon.alerts import raise_alert, recover
from daemon.gate import DaemonState
from daemon.house import House
from daemon.market_calendar import SessionTimes
from daemon.readiness import state_of
from state.lots import Ledger
from state.reasons import Reason, ReasonCode, because
from state.records import (
    CENT,
    ZERO,
    Account,
    Activity,
    ActivityKind,
    AlertLevel,
    BrokerAccount,
    BrokerPosition,
    Lot,
    Quote,
    Side,
    Transaction,
    TransactionKind,
)
from state.store import FillRow, PositionRow

ACTIVITIES = "activities"


@dataclass(frozen=True)  # no slots: what follows from the fields is computed once, when it is first asked for
class Snapshot:
    """What is known of one account at one instant. Prices in USD; `prices` are mids of fresh quotes."""

    account: Account
    now: datetime
    session: SessionTimes | None
    state: DaemonState
    state_reason: Reason | None
    cash: Decimal
    positions: Mapping[str, Decimal]
    quotes: Mapping[str, Quote]
    locks: Mapping[str, str]
    ledger: Ledger
    last_known: Mapping[str, Decimal]  # last close of symbols without a usable quote: for valuation, never to trade

    @cached_property
    def prices(self) -> Mapping[str, Decimal]:
        """Mid of each quote that can be used, in USD."""
        return {**self.last_known, **{one: quote.mid for one, quote in self.quotes.items() if quote.is_usable}}

    @cached_property
    def unpriced(self) -> tuple[str, ...]:
        """Positions for which there is neither a quote nor a close: the net asset value is unknown."""
        return tuple(sorted(symbol for symbol in self.positions if symbol not in self.prices))

    @cached_property
    def nav(self) -> Decimal:
        """Cash and positions at the quotes, in USD. Raises KeyError when a position has no quote."""
        prices = self.prices
        return self.cash + sum((quantity * prices[symbol] for symbol, quantity in self.positions.items()), ZERO)

    @cached_property
    def weights(self) -> Mapping[str, Decimal]:
        """Weight of each position in the net asset value, six decimals."""
        nav, prices = self.nav, self.prices
        if nav <= 0:
            return {}
        return {
            symbol: (quantity * prices[symbol] / nav).quantize(Decimal("0.000001"))
            for symbol, quantity in self.positions.items()
        }

    @cached_property
    def queues(self) -> Mapping[str, tuple[Lot, ...]]:
        """Open lots of the account by name, in the order the broker would dispose of them."""
        account_id = self.account.account_id
        held = self.ledger.positions(account_id)
        return {symbol: self.ledger.disposal_queue(account_id, symbol) for symbol in sorted(held)}


def sync(house: House, account: Account) -> Snapshot:
    """Take in what happened at the broker and compare. Raises brokers.errors.BrokerUnavailable, JournalConflict."""
    broker = house.brokers[account.account_id]
    now = house.clock.now()
    page = broker.activities(house.store.agenda.cursor(account.account_id, ACTIVITIES))
    figures, positions = broker.account(), broker.positions()
    if page.activities or not house.store.meta.get(_synced(account)):
        with house.store.transaction():
            _take_in(house, account, page.activities)
            if page.cursor is not None:
                house.store.agenda.set_cursor(account.account_id, ACTIVITIES, page.cursor)
            house.store.meta.put(_synced(account), "yes")
    locks = _reconcile(house, account, positions, figures, now)
    return _snapshot(house, account, broker, figures, positions, locks, now)


def _synced(account: Account) -> str:
    return f"synced:{account.account_id}"


def _snapshot(
    house: House,
    account: Account,
    broker: BrokerReader,
    figures: BrokerAccount,
    positions: tuple[BrokerPosition, ...],
    locks: Mapping[str, str],
    now: datetime,
) -> Snapshot:
    session = house.calendar.current(now)
    state, reason = state_of(house, account, session, broker.clock(), figures, now)
    held = {position.symbol: position.quantity for position in positions}
    watched = sorted({*house.names, *held})
    quotes = broker.quotes(watched)
    missing = [symbol for symbol in watched if symbol not in quotes or not quotes[symbol].is_usable]
    last_known = _without_quote(house, account, missing, now)
    known = {**locks, **{symbol: str(because(ReasonCode.QUOTE_MISSING, symbol=symbol)) for symbol in missing}}
    return Snapshot(account, now, session, state, reason, figures.cash, held, quotes, known, house.ledger, last_known)


def _without_quote(house: House, account: Account, missing: list[str], now: datetime) -> dict[str, Decimal]:
    """Last closes of symbols without a usable quote; one alert for each, and one when its quotes are back.

    They are locked: valued at that close, never traded on it.
    """
    key = f"quote:{account.account_id}:"
    closes = house.store.market.newest_closes(missing) if missing else {}
    for symbol in missing:
        valued = f"valued at its last close, {closes[symbol]} USD" if symbol in closes else "and no close either"
        text = (
            f"{symbol}: no usable quote, {valued}; it is not traded. {because(ReasonCode.QUOTE_MISSING, symbol=symbol)}"
        )
        raise_alert(house.store, key + symbol, AlertLevel.ERROR, text, now)
    if house.quotes_were_missing(account.account_id, frozenset(missing)):
        for open_key in house.store.alerts.open_keys(key):
            symbol = open_key.removeprefix(key)
            if symbol not in missing:
                recover(house.store, open_key, f"{symbol}: quotes are back", now)
    return closes


def _take_in(house: House, account: Account, activities: tuple[Activity, ...]) -> None:
    rows = []
    for activity in activities:
        intent = house.store.orders.by_broker_id(activity.broker_order_id) if activity.broker_order_id else None
        client_order_id = intent.client_order_id if intent else None
        rows.append(transaction_of(activity, account, client_order_id))
        if activity.kind is ActivityKind.FILL and activity.side and activity.symbol and activity.broker_order_id:
            house.store.orders.add_fill(
                FillRow(
                    execution_id=activity.activity_id,
                    account_id=account.account_id,
                    client_order_id=client_order_id,
                    broker_order_id=activity.broker_order_id,
                    symbol=activity.symbol,
                    side=activity.side,
                    quantity=activity.quantity,
                    price=activity.price,
                    executed_at=activity.occurred_at,
                )
            )
    house.learn(rows)


_KINDS = {
    ActivityKind.CASH_DIVIDEND: TransactionKind.CASH_DIVIDEND,
    ActivityKind.SPLIT: TransactionKind.SPLIT,
    ActivityKind.DEPOSIT: TransactionKind.DEPOSIT,
    ActivityKind.WITHDRAWAL: TransactionKind.WITHDRAWAL,
    ActivityKind.FEE: TransactionKind.FEE,
}


def transaction_of(activity: Activity, account: Account, client_order_id: str | None) -> Transaction:
    """The journal row of one broker activity, under the broker's own id."""
    if activity.kind is ActivityKind.FILL:
        kind = TransactionKind.BUY if activity.side is Side.BUY else TransactionKind.SELL
    else:
        kind = _KINDS[activity.kind]
    return Transaction(
        transaction_id=activity.activity_id,
        account_id=account.account_id,
        kind=kind,
        trade_date=activity.trade_date,
        source=account.broker,
        symbol=activity.symbol,
        quantity=activity.quantity if kind is not TransactionKind.SPLIT else ZERO,
        price=activity.price,
        fees=_beside_price(activity),
        amount=activity.amount,
        executed_at=activity.occurred_at,
        settle_date=activity.settle_date,
        order_id=activity.broker_order_id,
        client_order_id=client_order_id,
        lots=activity.lots,
        ratio_new=activity.ratio_new,
        ratio_old=activity.ratio_old,
    )


def _beside_price(activity: Activity) -> Decimal:
    """What a fill's cash differs from price times quantity: fees, and the broker's rounding to the cent. Basis and
    proceeds are what was paid and received."""
    if activity.kind is not ActivityKind.FILL or not activity.amount:
        return ZERO
    value = activity.quantity * activity.price
    return -activity.amount - value if activity.side is Side.BUY else value - activity.amount


def _reconcile(
    house: House, account: Account, positions: tuple[BrokerPosition, ...], figures: BrokerAccount, now: datetime
) -> dict[str, str]:
    """Locks by symbol, with the reason a user sees; alerts once per difference and once when it is gone."""
    theirs = {position.symbol: position.quantity for position in positions}
    ours = house.ledger.positions(account.account_id)
    locks: dict[str, str] = {}
    for symbol in sorted({*theirs, *ours}):
        mine, seen = ours.get(symbol, ZERO), theirs.get(symbol, ZERO)
        if mine != seen:
            locks[symbol] = str(because(ReasonCode.SYMBOL_LOCKED, symbol=symbol, lots=mine, broker=seen))
    cash = house.journal_cash(account.account_id)
    if house.agreed_before(account.account_id, (theirs, ours, figures.cash, cash)):
        return locks  # reconciling twice changes nothing
    for symbol, reason in locks.items():
        raise_alert(house.store, _break_key(account, symbol), AlertLevel.ERROR, reason, now)
    for key in house.store.alerts.open_keys(_break_key(account, "")):
        if key.rsplit(":", 1)[-1] not in locks and not key.endswith(":cash"):
            recover(house.store, key, f"{key.rsplit(':', 1)[-1]}: lots and the broker's position agree again", now)
    _compare_cash(house, account, cash, figures, now)
    rows = [PositionRow(account.account_id, symbol, theirs[symbol], now, locks.get(symbol)) for symbol in theirs]
    rows += [
        PositionRow(account.account_id, symbol, ZERO, now, locks[symbol]) for symbol in locks if symbol not in theirs
    ]
    house.store.positions.replace(account.account_id, rows)
    return locks


def _break_key(account: Account, what: str) -> str:
    return f"reconcile:{account.account_id}:{what}"


def _compare_cash(house: House, account: Account, ours: Decimal, figures: BrokerAccount, now: datetime) -> None:
    key = _break_key(account, "cash")
    if abs(ours - figures.cash) >= CENT:
        message = f"Cash differs: expected {ours} USD from the journal, the broker says {figures.cash} USD"
        raise_alert(house.store, key, AlertLevel.ERROR, message, now)
    else:
        recover(house.store, key, "cash agrees again", now)
