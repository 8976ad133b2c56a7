"""The venue's books: orders, lots, cash, history. In memory, written through in transactions.

Whatever changes, changes inside `transaction()`, which either becomes durable as a whole or is undone in memory
as well by reading the file again. Reads cost a dictionary look-up or a cached tuple.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal

from brokers.simulated.storage import (
    Header,
    VenueFile,
    activity_from_row,
    activity_to_row,
    lots_from_text,
    lots_to_text,
    optional_decimal,
    text,
)
from brokers.simulated.world import NEW_YORK
from state.records import (
    CENT,
    ZERO,
    Activity,
    ActivityKind,
    BrokerOrder,
    BrokerOrderStatus,
    BrokerPosition,
    OrderRequest,
    OrderType,
    Side,
)


def cents(amount: Decimal) -> Decimal:
    """The amount in USD rounded to the cent, half up."""
    return amount.quantize(CENT, ROUND_HALF_UP)


def plain(quantity: Decimal) -> Decimal:
    """The same quantity without trailing zeros and without an exponent."""
    whole = quantity.to_integral_value()
    return whole.quantize(Decimal(1)) if quantity == whole else quantity.normalize()


@dataclass(slots=True)
class VenueOrder:
    """An order in the venue's book. `reserve_price` (USD per share) is what a buy sets aside of the cash."""

    sequence: int
    broker_order_id: str
    request: OrderRequest
    submitted_at: datetime
    reserve_price: Decimal
    status: BrokerOrderStatus = BrokerOrderStatus.WORKING
    filled_quantity: Decimal = ZERO
    filled_value: Decimal = ZERO  # sum of quantity * price, unrounded
    rounds: int = 0  # fills so far
    first_filled_at: datetime | None = None
    rest_held: bool = False  # what is left will never fill
    reason: str = ""

    @property
    def remaining(self) -> Decimal:
        """Shares not filled yet."""
        return self.request.quantity - self.filled_quantity

    def as_reported(self) -> BrokerOrder:
        """The order as the venue reports it."""
        return BrokerOrder(
            broker_order_id=self.broker_order_id,
            client_order_id=self.request.client_order_id,
            symbol=self.request.symbol,
            side=self.request.side,
            quantity=self.request.quantity,
            filled_quantity=self.filled_quantity,
            status=self.status,
            order_type=self.request.order_type,
            submitted_at=self.submitted_at,
            limit_price=self.request.limit_price,
            average_price=self.filled_value / self.filled_quantity if self.filled_quantity else None,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True)
class VenueLot:
    """Open shares of one purchase order. `cost` is the total in USD; `acquired` the New York date of the first fill."""

    broker_order_id: str
    symbol: str
    fill_ids: tuple[str, ...]  # activity ids of the purchase's fills
    acquired_at: datetime
    acquired: date
    quantity: Decimal
    cost: Decimal

    @property
    def lot_id(self) -> str:
        """The activity id of the purchase's first fill."""
        return self.fill_ids[0]


@dataclass(frozen=True, slots=True)
class Disposal:
    """Shares of one lot that left in one sale fill, with their cost and proceeds in USD."""

    sale_fill_id: str
    sale_order_id: str
    symbol: str
    purchase_order_id: str
    purchase_fill_ids: tuple[str, ...]
    acquired: date
    disposed: date
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal


@dataclass(frozen=True, slots=True)
class CommandSplit:
    """A split commanded by the owner; prices of session `session` and later are divided by it."""

    symbol: str
    session: int
    ratio_new: Decimal
    ratio_old: Decimal


class Book:
    """Everything the venue knows. One writer at a time, held by `lock`."""

    def __init__(self, file: VenueFile, header: Header) -> None:
        self.lock = threading.RLock()
        self._file = file
        self._in_transaction = False
        self._load(header)

    # -------------------------------------------------------------- opening and transactions

    def _load(self, header: Header) -> None:
        self.account_number = header.account_number
        self.now = header.now
        self.cash = header.cash
        self._revision = header.revision
        self.orders: dict[str, VenueOrder] = {}
        self.working: dict[str, VenueOrder] = {}
        self.order_ids: dict[str, str] = {}  # by client order id
        self.reported: dict[str, BrokerOrder] = {}  # latest report by broker order id
        self.events: list[BrokerOrder] = []
        self.activities: list[Activity] = []
        self.lots: dict[str, dict[str, VenueLot]] = {}  # by symbol, then purchase order, in order of acquisition
        self.held: dict[str, Decimal] = {}
        self.disposals: list[Disposal] = []
        self.cash_movements = {key: Decimal(amount) for key, amount in self._file.rows("cash_movements")}
        self.switches = {row[0]: row[1] for row in self._file.rows("switches")}
        self.command_splits = [
            CommandSplit(symbol, int(session), Decimal(new), Decimal(old))
            for _, symbol, session, new, old in self._file.rows("command_splits")
        ]
        self._position_cache: dict[str, BrokerPosition] = {}
        self._positions: tuple[BrokerPosition, ...] | None = None
        self._open_orders: tuple[BrokerOrder, ...] | None = None
        self._unsettled: list[tuple[date, Decimal]] = []
        self._load_orders()
        self._load_history()

    def _load_orders(self) -> None:
        for row in self._file.rows("orders"):
            order = _order_from_row(row)
            self.orders[order.broker_order_id] = order
            self.order_ids[order.request.client_order_id] = order.broker_order_id
            self.reported[order.broker_order_id] = order.as_reported()
            if not order.status.is_final:
                self.working[order.broker_order_id] = order
        for _, broker_order_id, status, quantity, value, reason in self._file.rows("order_events"):
            order = self.orders[broker_order_id]
            self.events.append(
                VenueOrder(
                    order.sequence,
                    broker_order_id,
                    order.request,
                    order.submitted_at,
                    order.reserve_price,
                    BrokerOrderStatus(status),
                    Decimal(quantity),
                    Decimal(value),
                    reason=reason,
                ).as_reported()
            )

    def _load_history(self) -> None:
        for row in self._file.rows("activities"):
            activity = activity_from_row(row)
            self.activities.append(activity)
            self._note_unsettled(activity)
        for _, order_id, symbol, fills, acquired_at, acquired, quantity, cost in self._file.rows("lots"):
            lot = VenueLot(
                order_id,
                symbol,
                tuple(json.loads(fills)),
                datetime.fromisoformat(acquired_at),
                date.fromisoformat(acquired),
                Decimal(quantity),
                Decimal(cost),
            )
            self._place_lot(lot)
            self.held[symbol] = self.held.get(symbol, ZERO) + lot.quantity
        for _, sale, order, symbol, purchase, fills, acquired, disposed, quantity, cost, gross in self._file.rows(
            "disposals"
        ):
            days = date.fromisoformat(acquired), date.fromisoformat(disposed)
            figures = Decimal(quantity), Decimal(cost), Decimal(gross)
            self.disposals.append(Disposal(sale, order, symbol, purchase, tuple(json.loads(fills)), *days, *figures))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes inside durable together; on any exception undo them in the file and in memory."""
        if self._in_transaction:
            raise RuntimeError("A transaction of the book is already open")
        self._file.begin()
        self._in_transaction = True
        try:
            yield
            self._file.commit(self.now, self.cash, self._revision)
            self._revision += 1
        except BaseException:
            self._file.rollback()
            header = self._file.header()
            assert header is not None
            self._load(header)
            raise
        finally:
            self._in_transaction = False

    def identify(self, day: date, *parts: object) -> str:
        """A stable id hashed from the account and `parts`, led by the date."""
        content = "|".join((self.account_number, *map(str, parts)))
        return f"{day:%Y%m%d}-{hashlib.sha256(content.encode()).hexdigest()[:20]}"

    # -------------------------------------------------------------- changes

    def keep(self, order: VenueOrder) -> None:
        """Write an order's present state, of which nobody outside needs to hear."""
        self._file.replace("orders", _order_to_row(order))

    def report(self, order: VenueOrder) -> BrokerOrder:
        """Write an order's present state and log it as an event."""
        new = order.broker_order_id not in self.orders
        self.keep(order)
        reported = order.as_reported()
        self.events.append(reported)
        self._file.insert(
            "order_events",
            (
                len(self.events),
                order.broker_order_id,
                order.status.value,
                text(order.filled_quantity),
                text(order.filled_value),
                order.reason,
            ),
        )
        self.reported[order.broker_order_id] = reported
        self._open_orders = None
        if new:
            self.orders[order.broker_order_id] = self.working[order.broker_order_id] = order
            self.order_ids[order.request.client_order_id] = order.broker_order_id
        if order.status.is_final:
            del self.working[order.broker_order_id]
        return reported

    def finish(self, order: VenueOrder, status: BrokerOrderStatus, reason: str = "") -> None:
        """End an order in a final status."""
        order.status, order.reason = status, reason
        self.report(order)

    def add_activity(self, activity: Activity) -> None:
        """Append to the history and move the cash it names."""
        self.activities.append(activity)
        self.cash += activity.amount
        self._note_unsettled(activity)
        self._file.insert("activities", activity_to_row(len(self.activities), activity))

    def put_lot(self, lot: VenueLot) -> None:
        """Write a lot, new or changed; without shares left it is removed."""
        symbol, order_id = lot.symbol, lot.broker_order_id
        known = self.lots.get(symbol, {}).get(order_id)
        held = self.held.get(symbol, ZERO) - (known.quantity if known else ZERO) + lot.quantity
        sequence = self.orders[order_id].sequence
        if lot.quantity:
            self._place_lot(lot)
            self._file.replace("lots", _lot_to_row(sequence, lot))
        else:
            self.lots[symbol].pop(order_id)
            self._file.delete("lots", "sequence", sequence)
        if held:
            self.held[symbol] = held
        else:
            del self.held[symbol], self.lots[symbol]
        self._position_cache.pop(symbol, None)
        self._positions = None

    def _place_lot(self, lot: VenueLot) -> None:
        """Keep a symbol's lots in order of acquisition: time of the first fill, then order of acceptance."""
        lots = self.lots.setdefault(lot.symbol, {})
        new = lot.broker_order_id not in lots
        lots[lot.broker_order_id] = lot
        if new and len(lots) > 1:
            in_order = sorted(
                lots.values(), key=lambda each: (each.acquired_at, self.orders[each.broker_order_id].sequence)
            )
            self.lots[lot.symbol] = {each.broker_order_id: each for each in in_order}

    def add_disposal(self, disposal: Disposal) -> None:
        """Append to the list of shares sold."""
        self.disposals.append(disposal)
        self._file.insert(
            "disposals",
            (
                len(self.disposals),
                disposal.sale_fill_id,
                disposal.sale_order_id,
                disposal.symbol,
                disposal.purchase_order_id,
                json.dumps(disposal.purchase_fill_ids),
                text(disposal.acquired),
                text(disposal.disposed),
                text(disposal.quantity),
                text(disposal.cost),
                text(disposal.proceeds),
            ),
        )

    def add_cash_movement(self, reference: str, amount: Decimal) -> None:
        """Remember a deposit's or withdrawal's reference and signed amount."""
        self.cash_movements[reference] = amount
        self._file.insert("cash_movements", (reference, text(amount)))

    def add_command_split(self, split: CommandSplit) -> None:
        """Remember a commanded split, which scales later prices."""
        self.command_splits.append(split)
        row = (split.symbol, split.session, text(split.ratio_new), text(split.ratio_old))
        self._file.insert("command_splits", (len(self.command_splits), *row))

    def set_switch(self, name: str, value: str | None) -> None:
        """Set a durable switch, or clear it with None."""
        if value is None:
            self.switches.pop(name, None)
            self._file.delete("switches", "name", name)
        else:
            self.switches[name] = value
            self._file.replace("switches", (name, value))

    # -------------------------------------------------------------- reads

    def settled_cash(self) -> Decimal:
        """Cash in USD less sale proceeds not settled yet, never below zero."""
        if self._unsettled:
            today = self.now.astimezone(NEW_YORK).date()
            self._unsettled = [item for item in self._unsettled if item[0] > today]
        return max(ZERO, self.cash - sum((amount for _, amount in self._unsettled), ZERO))

    def positions(self) -> tuple[BrokerPosition, ...]:
        """All holdings, sorted by symbol."""
        if self._positions is None:
            for symbol, quantity in self.held.items():
                if symbol not in self._position_cache:
                    cost = sum((lot.cost for lot in self.lots[symbol].values()), ZERO)
                    self._position_cache[symbol] = BrokerPosition(symbol, quantity, cost)
            self._positions = tuple(self._position_cache[symbol] for symbol in sorted(self.held))
        return self._positions

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Orders that can still fill, oldest first."""
        if self._open_orders is None:
            self._open_orders = tuple(self.reported[order_id] for order_id in self.working)
        return self._open_orders

    def _note_unsettled(self, activity: Activity) -> None:
        if activity.kind is ActivityKind.FILL and activity.side is Side.SELL and activity.settle_date is not None:
            self._unsettled.append((activity.settle_date, activity.amount))


def _order_to_row(order: VenueOrder) -> tuple[object, ...]:
    request = order.request
    return (
        order.sequence,
        order.broker_order_id,
        request.client_order_id,
        request.symbol,
        request.side.value,
        text(request.quantity),
        request.order_type.value,
        text(request.limit_price),
        lots_to_text(request.lots),
        text(order.submitted_at),
        text(order.reserve_price),
        order.status.value,
        text(order.filled_quantity),
        text(order.filled_value),
        order.rounds,
        text(order.first_filled_at),
        int(order.rest_held),
        order.reason,
    )


def _order_from_row(row: tuple[str, ...]) -> VenueOrder:
    sequence, order_id, client_order_id, symbol, side, quantity, order_type, limit, lots, at, reserve, *state = row
    status, filled, value, rounds, first_filled_at, rest_held, reason = state
    request = OrderRequest(
        client_order_id,
        symbol,
        Side(side),
        Decimal(quantity),
        OrderType(order_type),
        optional_decimal(limit),
        lots_from_text(lots),
    )
    return VenueOrder(
        int(sequence),
        order_id,
        request,
        datetime.fromisoformat(at),
        Decimal(reserve),
        BrokerOrderStatus(status),
        Decimal(filled),
        Decimal(value),
        int(rounds),
        datetime.fromisoformat(first_filled_at) if first_filled_at else None,
        bool(int(rest_held)),
        reason,
    )


def _lot_to_row(sequence: int, lot: VenueLot) -> tuple[object, ...]:
    return (
        sequence,
        lot.broker_order_id,
        lot.symbol,
        json.dumps(lot.fill_ids),
        text(lot.acquired_at),
        text(lot.acquired),
        text(lot.quantity),
        text(lot.cost),
    )
