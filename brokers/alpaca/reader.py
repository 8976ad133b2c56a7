"""Alpaca as a broker to look at. It has no way to send: its connections let nothing but GET leave.

What each question costs, in calls of the account's minute: clock 1, account 2 (the figures, and the day's fills to tell
what is settled), positions 1, activities 2 when nothing happened, orders 1 for up to 500, a look-up 1; quotes and bars
are counted by the data service apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING

from brokers.alpaca.account import read_account, read_configurations, read_positions
from brokers.alpaca.activities import History
from brokers.alpaca.budget import RateBudget
from brokers.alpaca.corporate_actions import Announced
from brokers.alpaca.endpoints import Endpoints, Keys
from brokers.alpaca.market_data import MarketData, RawBar
from brokers.alpaca.orders import OrderBook
from brokers.alpaca.securities import Assets
from brokers.alpaca.sessions import BrokerTime, Calendar
from brokers.alpaca.transport import Wire
from brokers.protocol import ActivityPage, OrderEvents
from state.records import (
    Activity,
    BrokerAccount,
    BrokerCapabilities,
    BrokerClock,
    BrokerOrder,
    BrokerPosition,
    CorporateNotice,
    DailyBar,
    Quote,
    ReliefMethod,
    Security,
)

if TYPE_CHECKING:
    from alpaca.common.rest import RESTClient

DATA_CALLS_PER_MINUTE = 200  # of the free plan
WITHIN_S = 28.0  # a question is answered or given up: below a third of the minute and a half a watchdog allows
_LOAD_WITHIN_S = 75.0  # a load of history may have to wait for the next minute's calls

RELIEF_NOTE = (
    "Alpaca takes no lot with an order. As far as is known it sells the earliest lots first (FIFO), but no page of "
    "Alpaca's says how its tax forms are made: compare one of its confirmations, and confirm the method."
)


class AlpacaReader:
    """One Alpaca account, as a `brokers.protocol.BrokerReader`. For one thread.

    `feed` is where quotes come from (iex, or sip with a subscription); `requests_per_minute` are the account's trading
    calls; `timeouts` are the seconds for (connecting, a whole exchange); one request asks about `snapshot_chunk`
    symbols. `on_exchange`, when somebody sets it, is called after each exchange with Alpaca, whatever became of it: one
    question can take many.
    Nothing is asked, and alpaca-py is not loaded, before the first question.
    """

    relief_note = RELIEF_NOTE

    def __init__(
        self,
        keys: Keys,
        endpoints: Endpoints,
        *,
        feed: str = "iex",
        requests_per_minute: int = 200,
        data_requests_per_minute: int = DATA_CALLS_PER_MINUTE,
        timeouts: tuple[float, float] = (5.0, 20.0),
        snapshot_chunk: int = 200,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_exchange: Callable[[], None] | None = None
        self._keys, self._endpoints, self._timeouts, self._monotonic = keys, endpoints, timeouts, monotonic
        budget = RateBudget(requests_per_minute, sleep=sleep, monotonic=monotonic, name="trading")
        data_budget = RateBudget(data_requests_per_minute, sleep=sleep, monotonic=monotonic, name="market data")
        self._budget = budget
        self._trading = self._wire(self._trading_client, endpoints.trading, budget, WITHIN_S)
        stocks = self._wire(self._stock_client, endpoints.data, data_budget, _LOAD_WITHIN_S)
        issuers = self._wire(self._issuer_client, endpoints.data, data_budget, _LOAD_WITHIN_S)
        self._wires = [self._trading, stocks, issuers]
        self._time = BrokerTime(self._trading, monotonic)
        self._calendar = Calendar(self._trading)
        self._announced = Announced(issuers)
        self._history = History(self._trading, self._time, self._calendar, self._announced)
        self._orders = OrderBook(self._trading)
        self._assets = Assets(self._trading, self._time)
        self._market = MarketData(stocks, self._time, self._calendar, feed=feed, chunk=snapshot_chunk)
        self._capabilities = BrokerCapabilities(
            relief_methods=frozenset({ReliefMethod.FIFO}),
            fractional=True,
            lot_selection=False,
            market_on_close=True,
            lookups_before_resend=3,
        )

    def _wire(
        self,
        make: Callable[[], RESTClient],
        host: str,
        budget: RateBudget,
        within_s: float,
        methods: frozenset[str] = frozenset({"GET"}),
    ) -> Wire:
        return Wire(
            make,
            host,
            self._keys,
            budget,
            timeouts=self._timeouts,
            within_s=within_s,
            monotonic=self._monotonic,
            methods=methods,
            exchanged=self._exchanged,
        )

    def _exchanged(self) -> None:
        if self.on_exchange is not None:
            self.on_exchange()

    def _trading_client(self) -> RESTClient:
        from alpaca.trading.client import TradingClient

        return TradingClient(
            self._keys.key_id, self._keys.secret_key, raw_data=True, url_override=self._endpoints.trading
        )

    def _stock_client(self) -> RESTClient:
        from alpaca.data.historical.stock import StockHistoricalDataClient

        return StockHistoricalDataClient(
            self._keys.key_id, self._keys.secret_key, raw_data=True, url_override=self._endpoints.data
        )

    def _issuer_client(self) -> RESTClient:
        from alpaca.data.historical.corporate_actions import CorporateActionsClient

        return CorporateActionsClient(
            self._keys.key_id, self._keys.secret_key, raw_data=True, url_override=self._endpoints.data
        )

    def close(self) -> None:
        """Close the connections; a later question opens new ones."""
        for wire in self._wires:
            wire.close()

    @property
    def capabilities(self) -> BrokerCapabilities:
        """FIFO relief only (see `relief_note`), fractions of shares, closing auction."""
        return self._capabilities

    # -------------------------------------------------------------- the account

    def clock(self) -> BrokerClock:
        """Alpaca's time and market state."""
        return self._time.read()

    def account(self) -> BrokerAccount:
        """Cash, settled cash and restrictions, in USD (see `account.py` for what counts as settled)."""
        unsettled = self._history.unsettled()
        return read_account(self._trading, unsettled)

    def configurations(self) -> Mapping[str, str | bool]:
        """The account's own settings: max_margin_multiplier, no_shorting, suspend_trade, fractional_trading."""
        return read_configurations(self._trading)

    def positions(self) -> tuple[BrokerPosition, ...]:
        """Positions sorted by symbol; short ones negative. `cost_basis` follows a rule of Alpaca's own: advisory."""
        return read_positions(self._trading)

    def activities(self, after: str | None = None) -> ActivityPage:
        """What was not given before the cursor, oldest first. Raises ValueError on a cursor from elsewhere."""
        return self._history.after(after)

    def activities_since(self, day: date) -> tuple[Activity, ...]:
        """Everything with a trade date of `day` or later, as Alpaca has it now."""
        return self._history.since(day)

    # -------------------------------------------------------------- orders

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        """One order by our id, or None when Alpaca says that there is none."""
        return self._orders.by_client_id(client_order_id)

    def orders(self, client_order_ids: Iterable[str]) -> Mapping[str, BrokerOrder]:
        """Orders by our ids: listed where there are many, the rest looked up one by one."""
        return self._orders.by_client_ids(client_order_ids)

    def open_orders(self) -> tuple[BrokerOrder, ...]:
        """Orders that can still fill, oldest first, whoever placed them."""
        return self._orders.open()

    def order_events(self, after: str | None = None) -> OrderEvents:
        """Changes since a cursor, as far as successive looks can tell them. Raises ValueError on a foreign cursor."""
        return self._orders.events(after)

    # -------------------------------------------------------------- securities and prices

    def assets(self, symbols: Iterable[str]) -> Mapping[str, Security]:
        """What Alpaca knows of the symbols."""
        return self._assets.of(symbols)

    def quotes(self, symbols: Iterable[str]) -> Mapping[str, Quote]:
        """Latest quotes of the chosen feed."""
        return self._market.quotes(symbols)

    def daily_bars(self, symbols: Iterable[str], start: date, end: date) -> tuple[DailyBar, ...]:
        """Closes of finished sessions, by session then symbol; BrokerUnavailable while today's are not shown yet."""
        return self._market.daily_bars(symbols, start, end)

    def raw_bars(self, symbols: Iterable[str], start: date, end: date, *, adjustment: str) -> Iterator[RawBar]:
        """(symbol, session, close, volume) page by page, for a loader that shows progress and resumes.

        `adjustment` is raw, split, dividend, spin-off or all. Sessions whose close is not shown yet are left out.
        """
        return self._market.bars(symbols, start, end, adjustment=adjustment)

    def corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        """What issuers announced, with an ex-date in [start, end]."""
        return self._announced.notices(symbols, start, end)
