"""What has happened at the venue, in the order and at the instants Alpaca would tell it.

The venue logs reports of orders without their time, and executions as activities. Joined, they are Alpaca's events:
a report that shows more filled is a fill, and its execution has the time; one that ends an order with more filled is
a fill and then the end. What ended an order without an execution (a cancel, a rejection) has its time noted in the
venue's own file when it is first seen, so that it is the same after a restart. Expiry needs no note: it is the close.

Executions of one match tick share an instant at the venue. Here they are a microsecond apart, the last at the tick,
because no two real ones share one and readers sort by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from brokers.simulated import SimulatedVenue
from brokers.simulated.world import NEW_YORK
from loopback import wire
from loopback.wire import Json, OrderTimes, number, stamp, wire_id
from state.records import ZERO, Activity, ActivityKind, BrokerOrder, BrokerOrderStatus

_ENDED = "loopback:ended:"  # switch in the venue's file: when the report with this number ended its order
_ENDS = {  # event and status, and the field with its time
    BrokerOrderStatus.CANCELLED: ("canceled", "canceled_at"),
    BrokerOrderStatus.EXPIRED: ("expired", "expired_at"),
    BrokerOrderStatus.REJECTED: ("rejected", "failed_at"),
}
_CASH_TYPES = {ActivityKind.DEPOSIT: "CSD", ActivityKind.WITHDRAWAL: "CSW"}


@dataclass(frozen=True)
class Fill:
    """An execution as Alpaca tells it: `position` is the shares held after it, `cumulative` the order's so far."""

    activity: Activity
    at: datetime
    position: Decimal
    cumulative: Decimal
    leaves: Decimal

    @property
    def execution_id(self) -> str:
        """The uuid of the execution, which is also in its activity's id."""
        return wire_id("execution", self.activity.activity_id)


@dataclass(frozen=True)
class Change:
    """One event of one order, with the order as it was then."""

    event: str
    order: BrokerOrder
    status: str
    times: OrderTimes
    at: datetime
    fill: Fill | None = None


@dataclass(frozen=True)
class ActivityRow:
    """One row of the account's activities, with what it is filtered and sorted by."""

    at: datetime
    is_trade: bool
    body: Json


class History:
    """The venue's past, kept up with `catch_up`. Called with the venue locked."""

    def __init__(self, venue: SimulatedVenue) -> None:
        self._venue = venue
        self._book = venue.book
        self.rows: list[ActivityRow] = []
        self._events = 0
        self._activities = 0
        self._positions: dict[str, Decimal] = {}
        self._fills: dict[str, list[Fill]] = {}  # by venue order id
        self._told: dict[str, int] = {}  # fills told so far, by venue order id
        self._times: dict[str, OrderTimes] = {}
        self._by_wire_id: dict[str, str] = {}

    # -------------------------------------------------------------- reads

    def times(self, broker_order_id: str) -> OrderTimes:
        """When things happened to an order."""
        return self._times[broker_order_id]

    def find_order(self, name: str) -> BrokerOrder | None:
        """The order with this uuid, as it is now."""
        broker_order_id = self._by_wire_id.get(name)
        return None if broker_order_id is None else self._book.reported[broker_order_id]

    def order_json(self, order: BrokerOrder, status: str | None = None) -> Json:
        """An order on the wire, as it is now."""
        return wire.order(self._book.account_number, order, self._times[order.broker_order_id], status)

    # -------------------------------------------------------------- keeping up

    def catch_up(self) -> list[Change]:
        """Take in what has happened since the last call, and return the events of orders in it, oldest first."""
        self._take_activities()
        changes: list[Change] = []
        for number_, report in enumerate(self._book.events[self._events :], start=self._events + 1):
            changes.extend(self._take_report(number_, report))
        self._events = len(self._book.events)
        return changes

    def _take_activities(self) -> None:
        fresh = self._book.activities[self._activities :]
        self._activities += len(fresh)
        for activity, at in zip(fresh, _told_apart(fresh), strict=True):
            if activity.kind is ActivityKind.FILL:
                self._take_fill(activity, at)
            else:
                self.rows.append(ActivityRow(at, False, self._non_trade_row(activity)))

    def _take_fill(self, activity: Activity, at: datetime) -> None:
        assert activity.symbol is not None
        assert activity.side is not None
        assert activity.broker_order_id is not None
        fills = self._fills.setdefault(activity.broker_order_id, [])
        position = self._positions.get(activity.symbol, ZERO) + activity.side.sign * activity.quantity
        self._positions[activity.symbol] = position
        cumulative = (fills[-1].cumulative if fills else ZERO) + activity.quantity
        ordered = self._book.reported[activity.broker_order_id].quantity
        fill = Fill(activity, at, position, cumulative, ordered - cumulative)
        fills.append(fill)
        self.rows.append(ActivityRow(at, True, self._fill_row(fill)))

    def _take_report(self, number_: int, report: BrokerOrder) -> Iterator[Change]:
        name = report.broker_order_id
        if name not in self._times:
            close = self._close_after(report.submitted_at)
            self._times[name] = OrderTimes(report.submitted_at, report.submitted_at, close)
            self._told[name] = 0
            self._by_wire_id[wire.order_id(self._book.account_number, name)] = name
            yield Change("new", report, "new", self._times[name], report.submitted_at)
        fills = self._fills.get(name, [])
        if self._told[name] < len(fills) and fills[self._told[name]].cumulative <= report.filled_quantity:
            fill = fills[self._told[name]]
            self._told[name] += 1
            times = self._times[name] = replace(self._times[name], updated_at=fill.at, filled_at=fill.at)
            event, status = ("partial_fill", "partially_filled") if fill.leaves else ("fill", "filled")
            yield Change(event, report, status, times, fill.at, fill)
        if report.status in _ENDS:
            word, field = _ENDS[report.status]
            at = self._ended_at(number_, report)
            times = self._times[name] = replace(self._times[name], updated_at=at, **{field: at})
            yield Change(word, report, word, times, at)

    def _ended_at(self, number_: int, report: BrokerOrder) -> datetime:
        """When an order ended unfilled: the close, or what the note says, which is made now if there is none."""
        if report.status is BrokerOrderStatus.EXPIRED:
            return self._times[report.broker_order_id].expires_at
        switch = f"{_ENDED}{number_}"
        if switch not in self._book.switches:
            with self._book.transaction():
                self._book.set_switch(switch, self._book.now.isoformat())
        return datetime.fromisoformat(self._book.switches[switch])

    def _close_after(self, instant: datetime) -> datetime:
        return self._venue.schedule.closes[self._venue.schedule.upcoming(instant)]

    # -------------------------------------------------------------- activity rows

    def _fill_row(self, fill: Fill) -> Json:
        activity = fill.activity
        assert activity.side is not None
        assert activity.broker_order_id is not None
        local = fill.at.astimezone(NEW_YORK)
        return {
            "activity_type": "FILL",
            "cum_qty": number(fill.cumulative),
            "id": f"{local:%Y%m%d%H%M%S}{local.microsecond // 1000:03d}::{fill.execution_id}",
            "leaves_qty": number(fill.leaves),
            "order_id": wire.order_id(self._book.account_number, activity.broker_order_id),
            "order_status": "partially_filled" if fill.leaves else "filled",
            "price": number(activity.price),
            "qty": number(activity.quantity),
            "side": activity.side.value,
            "symbol": activity.symbol,
            "transaction_time": stamp(fill.at),
            "type": "partial_fill" if fill.leaves else "fill",
        }

    def _non_trade_row(self, activity: Activity) -> Json:
        name = wire_id("activity", activity.activity_id)
        row: Json = {
            "id": f"{activity.trade_date:%Y%m%d}000000000::{name}",
            "date": activity.trade_date.isoformat(),
            "created_at": stamp(activity.occurred_at),
            "net_amount": number(activity.amount),
            "status": "executed",
            "currency": "USD",
            "group_id": wire_id("group", activity.activity_id),
        }
        if activity.symbol is not None:
            row["symbol"] = activity.symbol
            security = self._venue.market.security(activity.symbol)
            if security is not None and security.cusip is not None:
                row["cusip"] = security.cusip
        return {**row, **self._what(activity)}

    def _what(self, activity: Activity) -> Json:
        """Type, sub-type and quantities of a non-trade activity."""
        if activity.kind is ActivityKind.CASH_DIVIDEND:
            quantities = {"qty": number(activity.quantity), "per_share_amount": number(activity.price)}
            return {"activity_type": "DIV", "activity_sub_type": "CDIV", **quantities}
        if activity.kind is ActivityKind.SPLIT:
            assert activity.symbol is not None
            assert activity.ratio_new is not None
            assert activity.ratio_old is not None
            added = activity.quantity - self._positions.get(activity.symbol, ZERO)
            self._positions[activity.symbol] = activity.quantity
            sub_type = "FSPLIT" if activity.ratio_new >= activity.ratio_old else "RSPLIT"
            return {"activity_type": "SPLIT", "activity_sub_type": sub_type, "qty": number(added)}
        return {"activity_type": _CASH_TYPES[activity.kind]}


def _told_apart(activities: list[Activity]) -> list[datetime]:
    """The instants of activities, those of executions sharing one a microsecond apart, the last at the instant."""
    told: list[datetime] = []
    for place, activity in enumerate(activities):
        after = 0
        if activity.kind is ActivityKind.FILL:
            while _same_tick(activities, place, place + after + 1):
                after += 1
        told.append(activity.occurred_at - timedelta(microseconds=after))
    return told


def _same_tick(activities: list[Activity], place: int, other: int) -> bool:
    return (
        other < len(activities)
        and activities[other].kind is ActivityKind.FILL
        and activities[other].occurred_at == activities[place].occurred_at
    )
