"""Orders: Alpaca's words for their states, how they are listed, and what changed.

| Alpaca says                                                      | here                                         |
|------------------------------------------------------------------|----------------------------------------------|
| filled, or any word with everything filled                       | FILLED                                       |
| canceled, replaced                                               | CANCELLED                                    |
| expired                                                          | EXPIRED                                      |
| rejected                                                         | REJECTED                                     |
| new, accepted, pending_new, accepted_for_bidding, held, stopped, | WORKING, or PARTLY_FILLED once something is  |
| suspended, calculated, done_for_day, partially_filled,           | filled: it may still fill, so its symbol and |
| pending_cancel, pending_replace, pending_review                  | its cash stay taken                          |
| any other word                                                   | the same, with the word as the reason        |

`submitted_at` is Alpaca's created_at: its submitted_at moves while the order is on its way to the exchange.

Changes by REST. A list tells how orders are now, not how they came there. So each look at the list is compared with
what was seen before, and what is new is kept, in this process, in the order of `updated_at`. A cursor is an instant
and, for a quarter of an hour before it, the marks of what was already told; it survives a restart, after which the
states an order passed through unseen are not told any more, only the one it is in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from brokers.alpaca.answer import Answer, answer, rows
from brokers.alpaca.transport import NotFound, Wire
from brokers.errors import BrokerUnavailable
from brokers.protocol import OrderEvents
from state.records import ZERO, BrokerOrder, BrokerOrderStatus, OrderType, Side

PAGE = 500  # the most orders Alpaca lists at once
_FEW = 2  # so many orders are looked up one by one
_RECENT = timedelta(days=4)  # how far back a list is read for orders of ours: they are all for the day
_OVERLAP = timedelta(minutes=15)
_EMBRACE = timedelta(seconds=1)  # pages overlap by this much, so that orders of one instant are not split and lost

_FINAL = {
    "filled": BrokerOrderStatus.FILLED,
    "canceled": BrokerOrderStatus.CANCELLED,
    "replaced": BrokerOrderStatus.CANCELLED,
    "expired": BrokerOrderStatus.EXPIRED,
    "rejected": BrokerOrderStatus.REJECTED,
}
_OPEN = frozenset(
    {
        "new",
        "accepted",
        "pending_new",
        "accepted_for_bidding",
        "held",
        "stopped",
        "suspended",
        "calculated",
        "done_for_day",
        "partially_filled",
        "pending_cancel",
        "pending_replace",
        "pending_review",
    }
)


# ------------------------------------------------------------------ one order


def order_from(row: Answer) -> BrokerOrder:
    """An order as Alpaca reports it. Raises BrokerUnavailable on a field that is missing or mistyped.

    An order placed by amount of money (never ours) has no quantity; what is filled of it stands in.
    """
    filled = row.decimal_or_none("filled_qty") or ZERO
    quantity = row.decimal_or_none("qty")
    quantity = filled if quantity is None else quantity
    status, reason = _status(row.text("status"), quantity, filled)
    side = row.text("side")
    if side not in ("buy", "sell"):
        raise BrokerUnavailable(f"Alpaca's {row.where}, side: expected buy or sell, was {side!r}")
    return BrokerOrder(
        broker_order_id=row.text("id"),
        client_order_id=row.text("client_order_id"),
        symbol=row.text("symbol"),
        side=Side(side),
        quantity=quantity,
        filled_quantity=filled,
        status=status,
        order_type=_type(row),
        submitted_at=row.instant("created_at" if row.has("created_at") else "submitted_at"),
        limit_price=row.decimal_or_none("limit_price"),
        average_price=row.decimal_or_none("filled_avg_price"),
        reason=row.text_or("reject_reason", reason),
    )


def _status(word: str, quantity: Decimal, filled: Decimal) -> tuple[BrokerOrderStatus, str]:
    if filled and filled >= quantity:
        return BrokerOrderStatus.FILLED, ""
    if word in _FINAL:
        return _FINAL[word], "replaced by another order" if word == "replaced" else ""
    status = BrokerOrderStatus.PARTLY_FILLED if filled else BrokerOrderStatus.WORKING
    return status, "" if word in _OPEN else f"Alpaca says {word!r}"


def _type(row: Answer) -> OrderType:
    """How it is priced; the types that are never ours by what they become once triggered."""
    if row.has("limit_price"):
        return OrderType.LIMIT
    return OrderType.MARKET_ON_CLOSE if row.text_or("time_in_force") == "cls" else OrderType.MARKET


def _is_single(row: Answer) -> bool:
    """False for an order over several option legs, which has no symbol and no side of its own."""
    return row.text_or("order_class") != "mleg"


def order_of_event(body: str) -> BrokerOrder | None:
    """The order inside a raw message of the trade_updates stream; None when it tells of no order in one security.

    Raises ValueError on anything that is not such a message.
    """
    try:
        message = answer(json.loads(body, parse_float=Decimal), "trade_updates message")
        if message.text("stream") != "trade_updates":
            raise ValueError(f"Expected a message of trade_updates, was one of {message.text('stream')}")
        order = message.inner("data").inner_or_none("order")
        return order_from(order) if order is not None and _is_single(order) else None
    except BrokerUnavailable as fault:
        raise ValueError(str(fault)) from None


# ------------------------------------------------------------------ lists and look-ups


class OrderBook:
    """The account's orders. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._seen: dict[str, tuple[datetime, BrokerOrder]] = {}  # what each look saw that was new, by its mark

    def by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """One order by our id, or None when Alpaca says that there is none. May draw on the reserve."""
        try:
            said = self._wire.read("/orders:by_client_order_id", {"client_order_id": client_order_id}, reserved=True)
        except NotFound:
            return None
        order = order_from(answer(said, f"order {client_order_id}"))
        if order.client_order_id != client_order_id:
            raise BrokerUnavailable(
                f"Alpaca's order {client_order_id}: expected that id, was {order.client_order_id!r}"
            )
        return order

    def exists(self, broker_order_id: str) -> bool:
        """True when Alpaca has an order with this id of its own."""
        try:
            self._wire.read(f"/orders/{broker_order_id}", reserved=True)
        except NotFound:
            return False
        return True

    def by_client_ids(self, client_order_ids: Iterable[str]) -> Mapping[str, BrokerOrder]:
        """Orders by our ids, from the list of the last days where there are many; the rest looked up one by one."""
        wanted = tuple(dict.fromkeys(client_order_ids))
        listed: dict[str, BrokerOrder] = {}
        if len(wanted) > _FEW:
            listed = self._recent(frozenset(wanted))
        looked_up = {each: listed.get(each) or self.by_client_id(each) for each in wanted}
        return {each: order for each, order in looked_up.items() if order is not None}

    def _recent(self, wanted: frozenset[str]) -> dict[str, BrokerOrder]:
        found: dict[str, BrokerOrder] = {}
        newest: datetime | None = None
        for row in self._listed("all", newest_first=True):
            order = order_from(row)
            newest = newest or order.submitted_at
            if order.client_order_id in wanted:
                found[order.client_order_id] = order
            if len(found) == len(wanted) or order.submitted_at < newest - _RECENT:
                break
        return found

    def open(self) -> tuple[BrokerOrder, ...]:
        """Orders that can still fill, oldest first."""
        return tuple(order for order in map(order_from, self._listed("open")) if not order.status.is_final)

    def _listed(self, status: str, *, newest_first: bool = False, after: datetime | None = None) -> Iterator[Answer]:
        """Rows of /v2/orders, page by page, each order once."""
        bound, beyond = ("until", _EMBRACE) if newest_first else ("after", -_EMBRACE)
        asked = {"status": status, "limit": str(PAGE), "direction": "desc" if newest_first else "asc"}
        if after is not None:
            asked["after"] = stamp(after)
        given: set[str] = set()
        while True:
            page = rows(self._wire.read("/orders", asked, reserved=True), "orders")
            new = [row for row in page if row.text("id") not in given]
            given.update(row.text("id") for row in new)
            yield from (row for row in new if _is_single(row))
            if len(page) < PAGE:
                return
            if not new:
                raise BrokerUnavailable(f"Alpaca's orders: expected a new page beyond {asked[bound]}, was the same one")
            asked[bound] = stamp(page[-1].instant("submitted_at") + beyond)

    # -------------------------------------------------------------- what changed

    def events(self, after: str | None) -> OrderEvents:
        """Changes since a cursor; with None, every order there ever was, as it is now."""
        since, told = _read_cursor(after)
        for row in self._listed("all", after=None if since is None else since - _RECENT):
            order = order_from(row)
            changed_at = row.instant("updated_at" if row.has("updated_at") else "created_at")
            self._seen.setdefault(_mark(order), (changed_at, order))
        seen = sorted(((at, mark, order) for mark, (at, order) in self._seen.items()), key=lambda each: each[:2])
        new = [(at, order) for at, mark, order in seen if mark not in told and (not since or at > since - _OVERLAP)]
        newest = max([at for at, _ in new] + ([since] if since else []), default=None)
        if newest is None:
            return OrderEvents((), None)
        self._seen = {mark: kept for mark, kept in self._seen.items() if kept[0] > newest - _RECENT}
        marks = [mark for at, mark, _ in seen if at > newest - _OVERLAP]
        cursor = json.dumps({"at": newest.isoformat(), "told": marks}, separators=(",", ":"))
        return OrderEvents(tuple(order for _, order in new), cursor)


def stamp(instant: datetime) -> str:
    """An instant as Alpaca reads it in a query."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _mark(order: BrokerOrder) -> str:
    """What tells one state of one order from any other."""
    state = f"{order.broker_order_id}|{order.status}|{order.quantity}|{order.filled_quantity}|{order.average_price}"
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def _read_cursor(cursor: str | None) -> tuple[datetime | None, frozenset[str]]:
    """Raises ValueError on a cursor that is not from here."""
    if cursor is None:
        return None, frozenset()
    try:
        said = json.loads(cursor)
        return datetime.fromisoformat(said["at"]), frozenset(said["told"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"Expected a cursor of Alpaca's order changes, was {cursor!r}") from None
