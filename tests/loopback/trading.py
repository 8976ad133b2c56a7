"""The trading API: account, activities, positions, assets, clock, calendar, orders.

Every answer is made from the venue's books at this instant. What the account may do is the user's configuration, kept
in the venue's own file; the margin figures follow Alpaca's formulas for an account without short positions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

from brokers.simulated import SimulatedVenue, switches
from brokers.simulated.world import NEW_YORK
from loopback import errors, orders, wire
from loopback.history import ActivityRow, History
from loopback.requests import Parameters, Request
from loopback.routing import Answer, Route
from loopback.wire import Holding, Json, number, rounded, stamp
from state.records import CENT, ZERO, ActivityKind, BrokerOrder

_CONFIGURATIONS = "loopback:configurations"  # switch in the venue's file
_DEFAULTS: Json = {
    "disable_overnight_trading": False,
    "fractional_trading": True,
    "max_margin_multiplier": "4",
    "max_options_trading_level": 0,
    "no_shorting": False,
    "ptp_no_exception_entry": False,
    "suspend_trade": False,
    "trade_confirm_email": "all",
}
_INITIAL_MARGIN, _MAINTENANCE_MARGIN = Decimal("0.5"), Decimal("0.3")
_LARGEST_ACTIVITY_PAGE = 100
_DEFAULT_ORDERS, _MOST_ORDERS = 50, 500


class TradingApi:
    """Answers /v2/... of the trading host. Called with the venue locked and the history caught up."""

    def __init__(
        self, venue: SimulatedVenue, history: History, account_number: str, settle: Callable[[], None]
    ) -> None:
        self._venue = venue
        self._book = venue.book
        self._history = history
        self._account_number = account_number
        self._settle = settle  # tells the streams what has happened
        self.extra_rows: list[ActivityRow] = []
        self.amended: dict[str, Json] = {}  # fields of rows by id, told otherwise than they happened

    def routes(self) -> tuple[Route, ...]:
        """The paths answered here."""
        return (
            Route("GET", "/v2/account", self.account),
            Route("GET", "/v2/account/configurations", self.configurations),
            Route("PATCH", "/v2/account/configurations", self.configure),
            Route("GET", "/v2/account/activities", self.activities),
            Route("GET", "/v2/account/activities/{activity_type}", self.activities),
            Route("GET", "/v2/positions", self.positions),
            Route("GET", "/v2/positions/{symbol_or_asset_id}", self.position),
            Route("GET", "/v2/assets", self.assets),
            Route("GET", "/v2/assets/{symbol_or_asset_id}", self.asset),
            Route("GET", "/v2/clock", self.clock),
            Route("GET", "/v2/calendar", self.calendar),
            Route("POST", "/v2/orders", self.submit),
            Route("GET", "/v2/orders", self.orders),
            Route("DELETE", "/v2/orders", self.cancel_all),
            Route("GET", "/v2/orders/{order_id}", self.order),
            Route("DELETE", "/v2/orders/{order_id}", self.cancel),
            Route("GET", "/v2/orders:by_client_order_id", self.order_by_client_id),
        )

    # -------------------------------------------------------------- account

    def account(self, request: Request) -> Answer:
        """GET /v2/account."""
        configured = self._configured()
        blocked = switches.BLOCKED in self._book.switches
        shares = sum((each.quantity * each.price for each in self._holdings()), ZERO)
        cash, equity = self._book.cash, self._book.cash + shares
        promised = orders.promised_cash(self._venue)
        multiplier = Decimal(str(configured["max_margin_multiplier"]))
        initial, maintenance = shares * _INITIAL_MARGIN, shares * _MAINTENANCE_MARGIN
        settled = _cents(self._book.settled_cash() - promised)
        power = _cents(cash - promised if multiplier == 1 else multiplier * (equity - maintenance - promised))
        regulation_t = _cents(cash - promised if multiplier == 1 else 2 * (equity - initial - promised))
        return Answer(
            200,
            {
                "id": wire.wire_id("account", self._account_number),
                "account_number": self._account_number,
                "status": "ACTIVE",
                "crypto_status": "ACTIVE",
                "crypto_tier": 1,
                "currency": "USD",
                "cash": number(cash),
                "equity": rounded(equity),
                "portfolio_value": rounded(equity),
                "last_equity": rounded(self._last_equity()),
                "long_market_value": rounded(shares),
                "position_market_value": rounded(shares),
                "short_market_value": "0",
                "multiplier": number(multiplier),
                "buying_power": number(power),
                "effective_buying_power": number(power),
                "regt_buying_power": number(regulation_t),
                "non_marginable_buying_power": number(settled),
                "options_buying_power": number(settled),
                "initial_margin": rounded(initial),
                "maintenance_margin": rounded(maintenance),
                "last_maintenance_margin": rounded(maintenance),
                "sma": rounded(equity),
                "accrued_fees": "0",
                "pending_reg_taf_fees": "0",
                "intraday_adjustments": "0",
                "balance_asof": self._day_before().isoformat(),
                "created_at": stamp(self._venue.schedule.opens[0], of=self._account_number),
                "options_approved_level": 0,
                "options_trading_level": 0,
                "shorting_enabled": not configured["no_shorting"],
                "account_blocked": False,
                "trading_blocked": blocked,
                "transfers_blocked": False,
                "trade_suspended_by_user": configured["suspend_trade"],
                "admin_configurations": {},
                "user_configurations": None,
            },
        )

    def _last_closed(self, *, before_today: bool) -> int | None:
        """Index of the newest finished session, with `before_today` of the newest dated before the venue's day."""
        newest = self._venue.schedule.upcoming(self._venue.now) - 1
        today = self._venue.schedule.trade_date(self._venue.now)
        if newest >= 0 and before_today and self._venue.schedule.sessions[newest].session >= today:
            newest -= 1
        return newest if newest >= 0 else None

    def _day_before(self) -> date:
        index = self._last_closed(before_today=True)
        return self._venue.schedule.sessions[0 if index is None else index].session

    def _last_equity(self) -> Decimal:
        """Equity at the last close before today: the history replayed to then, at that close."""
        index = self._last_closed(before_today=True)
        if index is None:
            return ZERO
        close = self._venue.schedule.closes[index]
        cash, held = ZERO, dict[str, Decimal]()
        for activity in self._book.activities:
            if activity.occurred_at > close:
                break
            cash += activity.amount
            if activity.symbol is None:
                continue
            if activity.kind is ActivityKind.FILL and activity.side is not None:
                held[activity.symbol] = held.get(activity.symbol, ZERO) + activity.side.sign * activity.quantity
            elif activity.kind is ActivityKind.SPLIT:
                held[activity.symbol] = activity.quantity
        prices = self._closes(held, index)
        return cash + sum((quantity * prices.get(symbol, ZERO) for symbol, quantity in held.items()), ZERO)

    def _closes(self, symbols: dict[str, Decimal], index: int) -> dict[str, Decimal]:
        day = self._venue.schedule.sessions[index].session
        bars = self._venue.market.daily_bars(symbols, day, day, self._venue.now)
        return {bar.symbol: bar.close for bar in bars}

    def _configured(self) -> Json:
        stored = self._book.switches.get(_CONFIGURATIONS)
        return {**_DEFAULTS, **(json.loads(stored) if stored else {})}

    def configurations(self, request: Request) -> Answer:
        """GET /v2/account/configurations."""
        return Answer(200, self._configured())

    def configure(self, request: Request) -> Answer:
        """PATCH /v2/account/configurations."""
        changes = request.json()
        unknown = sorted(set(changes) - set(_DEFAULTS))
        if unknown:
            raise errors.invalid(f"unknown configuration {', '.join(unknown)}")
        if str(changes.get("max_margin_multiplier", "1")) not in ("1", "2", "4"):
            raise errors.invalid("invalid max_margin_multiplier")
        configured = {**self._configured(), **changes}
        with self._book.transaction():
            self._book.set_switch(_CONFIGURATIONS, json.dumps(configured, default=str))
        return Answer(200, configured)

    # -------------------------------------------------------------- activities

    def activities(self, request: Request, activity_type: str | None = None) -> Answer:
        """GET /v2/account/activities, of all types or of one."""
        query = Parameters(request.query)
        rows = self._chosen(query, (activity_type,) if activity_type else query.words("activity_types"))
        size = query.whole("page_size", _LARGEST_ACTIVITY_PAGE, 1, _LARGEST_ACTIVITY_PAGE)
        if query.choice("direction", "desc", ("asc", "desc")) == "desc":
            rows.reverse()
        if query.text("date") is not None and query.text("page_size") is None:
            size = len(rows)
        bodies = [self.as_told(row) for row in rows]
        token = query.text("page_token")
        if token is not None:
            places = [place for place, body in enumerate(bodies) if body["id"] == token]
            if not places:
                raise errors.invalid("invalid page_token")
            bodies = bodies[places[0] + 1 :]
        return Answer(200, bodies[:size])

    def _chosen(self, query: Parameters, types: tuple[str, ...]) -> list[ActivityRow]:
        category = query.text("category")
        if category is not None and types:
            raise errors.invalid("activity_types and category are mutually exclusive")
        if category is not None:
            is_trade = query.choice("category", "", ("trade_activity", "non_trade_activity")) == "trade_activity"
        day = query.text("date") and query.day("date", date.min)
        after, until = query.instant("after"), query.instant("until")

        def is_meant(row: ActivityRow) -> bool:
            return (
                (not types or row.body["activity_type"] in types)
                and (category is None or row.is_trade == is_trade)
                and (not day or row.at.date() == day)
                and (after is None or row.at > after)
                and (until is None or row.at < until)
            )

        return [row for row in self.rows() if is_meant(row)]

    def rows(self) -> list[ActivityRow]:
        """All activities, oldest first."""
        return sorted([*self._history.rows, *self.extra_rows], key=lambda row: row.at)

    def as_told(self, row: ActivityRow) -> Json:
        """A row as it is told now."""
        return {**row.body, **self.amended.get(str(row.body["id"]), {})}

    # -------------------------------------------------------------- positions

    def _holdings(self) -> list[Holding]:
        held = self._book.held
        quotes = self._venue.market.quotes(held, self._venue.now)
        index = self._last_closed(before_today=True)
        lastday = {} if index is None else self._closes(held, index)
        promised = orders.promised_shares(self._venue)
        found: list[Holding] = []
        for each in self._book.positions():
            assert each.cost_basis is not None
            last = quotes[each.symbol].last if each.symbol in quotes else lastday[each.symbol]
            free = each.quantity - promised.get(each.symbol, ZERO)
            before = lastday.get(each.symbol, last)
            found.append(Holding(each.symbol, each.quantity, free, each.cost_basis, last, before))
        return found

    def positions(self, request: Request) -> Answer:
        """GET /v2/positions."""
        return Answer(200, [wire.position(each) for each in self._holdings()])

    def position(self, request: Request, name: str) -> Answer:
        """GET /v2/positions/{symbol_or_asset_id}."""
        for each in self._holdings():
            if name in (each.symbol, wire.asset_id(each.symbol)):
                return Answer(200, wire.position(each))
        raise errors.not_found("position does not exist")

    # -------------------------------------------------------------- assets

    def assets(self, request: Request) -> Answer:
        """GET /v2/assets: all of them, there are no pages."""
        query = Parameters(request.query)
        if query.text("status") == "inactive" or query.text("asset_class") not in (None, "us_equity"):
            return Answer(200, [])
        found = [self._asset(symbol) for symbol in symbols(self._venue)]
        listed = query.text("exchange")
        wanted = set(query.words("attributes"))
        return Answer(
            200,
            [
                row
                for row in found
                if row is not None
                and (listed is None or row["exchange"] == listed)
                and wanted.issubset(row["attributes"])  # type: ignore[arg-type]
            ],
        )

    def asset(self, request: Request, name: str) -> Answer:
        """GET /v2/assets/{symbol_or_asset_id}."""
        found = self._asset(name)
        if found is None:
            for symbol in symbols(self._venue):
                if wire.asset_id(symbol) == name:
                    found = self._asset(symbol)
        if found is None:
            raise errors.not_found(f"asset not found for {name}")
        return Answer(200, found)

    def _asset(self, symbol: str) -> Json | None:
        security = self._venue.market.security(symbol)
        return None if security is None else wire.asset(security)

    # -------------------------------------------------------------- clock and calendar

    def clock(self, request: Request) -> Answer:
        """GET /v2/clock."""
        told = self._venue.schedule.clock(self._venue.now)
        return Answer(
            200,
            {
                "timestamp": wire.new_york(told.at),
                "is_open": told.is_open,
                "next_open": wire.new_york(told.next_open),
                "next_close": wire.new_york(told.next_close),
            },
        )

    def calendar(self, request: Request) -> Answer:
        """GET /v2/calendar: the sessions of the venue's history, and no others."""
        query = Parameters(request.query)
        start, end = query.day("start", date.min), query.day("end", date.max)
        rows = []
        for index, session in enumerate(self._venue.schedule.sessions):
            if start <= session.session <= end:
                opens, closes = (instant.astimezone(NEW_YORK) for instant in (session.opens_at, session.closes_at))
                rows.append(
                    {
                        "date": session.session.isoformat(),
                        "open": f"{opens:%H:%M}",
                        "close": f"{closes:%H:%M}",
                        "session_open": "0400",
                        "session_close": "2000",
                        "settlement_date": self._venue.schedule.settle_date(index).isoformat(),
                    }
                )
        return Answer(200, rows)

    # -------------------------------------------------------------- orders

    def submit(self, request: Request) -> Answer:
        """POST /v2/orders."""
        configured = self._configured()
        accepted = orders.submit(
            self._venue,
            request.json(),
            suspended=bool(configured["suspend_trade"]),
            may_short=not configured["no_shorting"],
        )
        self._settle()
        return Answer(200, self._history.order_json(accepted, "pending_new"))

    def orders(self, request: Request) -> Answer:
        """GET /v2/orders."""
        query = Parameters(request.query)
        status = query.choice("status", "open", ("open", "closed", "all"))
        limit = query.whole("limit", _DEFAULT_ORDERS, 1, _MOST_ORDERS)
        named = query.words("symbols")
        side = query.text("side")
        chosen = [
            order
            for order in self._submitted(query)
            if (status == "all" or order.status.is_final == (status == "closed"))
            and (not named or order.symbol in named)
            and (side is None or order.side.value == side)
        ]
        if query.choice("direction", "desc", ("asc", "desc")) == "desc":
            chosen.reverse()
        return Answer(200, [self._history.order_json(order) for order in chosen[:limit]])

    def _submitted(self, query: Parameters) -> list[BrokerOrder]:
        """Orders in the order of submission, within the bounds of time or of an order's place."""
        found = [self._book.reported[name] for name in self._book.orders]
        after, until = query.instant("after"), query.instant("until")
        bounds: tuple[tuple[str, Callable[[int], slice]], ...] = (
            ("after_order_id", lambda place: slice(place + 1, None)),
            ("before_order_id", lambda place: slice(0, place)),
        )
        for name, part in bounds:
            bound = query.text(name)
            if bound is not None:
                order = self._history.find_order(bound)
                if order is None:
                    raise errors.not_found(f"order not found for {bound}")
                found = found[part(found.index(order))]
        return [order for order in found if _is_between(order.submitted_at, after, until)]

    def order(self, request: Request, name: str) -> Answer:
        """GET /v2/orders/{order_id}."""
        return Answer(200, self._history.order_json(self._known(name)))

    def order_by_client_id(self, request: Request) -> Answer:
        """GET /v2/orders:by_client_order_id."""
        client_order_id = Parameters(request.query).text("client_order_id")
        if client_order_id is None:
            raise errors.invalid("client_order_id is required")
        name = self._book.order_ids.get(client_order_id)
        if name is None:
            raise errors.not_found(f"order not found for {client_order_id}")
        return Answer(200, self._history.order_json(self._book.reported[name]))

    def cancel(self, request: Request, name: str) -> Answer:
        """DELETE /v2/orders/{order_id}."""
        order = self._known(name)
        if order.status.is_final:
            raise errors.unprocessable(f'order is already in "{wire.STATUS_WORDS[order.status]}" state')
        self._venue.cancel(order.broker_order_id)
        return Answer(204)

    def cancel_all(self, request: Request) -> Answer:
        """DELETE /v2/orders."""
        cancelled = []
        for order in self._book.open_orders():
            self._venue.cancel(order.broker_order_id)
            cancelled.append({"id": wire.order_id(self._book.account_number, order.broker_order_id), "status": 200})
        return Answer(207, cancelled)

    def _known(self, name: str) -> BrokerOrder:
        order = self._history.find_order(name)
        if order is None:
            raise errors.not_found(f"order not found for {name}")
        return order


def symbols(venue: SimulatedVenue) -> list[str]:
    """All symbols of the venue's price history, sorted."""
    return sorted(venue.market._symbols)


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(CENT)


def _is_between(instant: datetime, after: datetime | None, until: datetime | None) -> bool:
    return (after is None or instant > after) and (until is None or instant < until)
