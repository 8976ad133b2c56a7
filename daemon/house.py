"""One household at work: its settings, store, clock, calendar and brokers, and what is kept in memory of the store.

Everything in memory can be made again from the store and the settings; a restart in the middle of anything
leads to the same decisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import median

import numpy as np

from brokers.protocol import BrokerReader, OrderDesk
from daemon.agenda import Timetable
from daemon.alerts import LogNotifier, Notifier
from daemon.bookkeeping import replayed, take_in
from daemon.clock import NEW_YORK, Clock
from daemon.constituents import Constituents
from daemon.link import Link
from daemon.market_calendar import MarketCalendar
from daemon.settings import Settings
from state.lots import Impossible, Ledger, LedgerPolicy
from state.records import Account, CorporateActionKind, DailyBar, Plan, PlannedTrade, RealizedRow, Security, Transaction
from state.store import Store
from strategy.history import BenchmarkPath, benchmark_path, extended, history_from_closes, period_of, weights_today
from strategy.risk import HistoryTooShortError, RiskModel, estimate_risk_model, ewma_volatility
from strategy.types import FloatArray, HarvestPolicy, PriceHistory, TaxProfile

VOLUME_SESSIONS = 20  # from which a daily volume is taken
HISTORY_PATIENCE = timedelta(minutes=5)  # a fill that the history does not tell for this long is an incident


def ledger_policy(settings: Settings, securities: Mapping[str, Security]) -> LedgerPolicy:
    """The user's identity groups, funds of one index where the policy says so, and the user's conventions."""
    groups = [frozenset(group) for group in settings.wash_sales.groups]
    if settings.wash_sales.identical.value == "index":
        by_index: dict[str, set[str]] = {}
        for security in securities.values():
            if security.index_name:
                by_index.setdefault(security.index_name, set()).add(security.symbol)
        groups.extend(frozenset(symbols) for symbols in by_index.values() if len(symbols) > 1)
    conventions = settings.wash_sales.conventions
    return LedgerPolicy(
        identical_groups=tuple(groups),
        tacking=conventions.tacking.value,
        simultaneous=conventions.simultaneous.value,
        older_lots=conventions.older_lots.value,
        within_lot=conventions.within_lot.value,
        sublot_order=conventions.sublot_order.value,
    )


def tax_profile_of(settings: Settings) -> TaxProfile:
    """The marginal rates of the settings, as fractions."""
    profile = settings.tax_profile
    return TaxProfile(
        short_term_rate=profile.short_term_rate_pct / 100,
        long_term_rate=profile.long_term_rate_pct / 100,
        has_short_term_gains=profile.has_short_term_gains,
    )


@dataclass
class House:
    """The household's process-wide state.

    `brokers` by account id, for managed accounts only: those that are order desks too can be traded, the others only
    looked at. `links` are the streams of order updates, where there are any.
    """

    settings: Settings
    store: Store
    clock: Clock
    calendar: MarketCalendar
    brokers: Mapping[str, BrokerReader]
    constituents: Constituents
    notifier: Notifier = field(default_factory=LogNotifier)
    links: Mapping[str, Link] = field(default_factory=dict)
    _ledger: Ledger | None = None
    _history: PriceHistory | None = None
    _path: BenchmarkPath | None = None
    _risk: tuple[int, RiskModel] | None = None
    _volatility: tuple[int, Mapping[str, float]] | None = None
    _securities: Mapping[str, Security] | None = None
    _homes: dict[str, str | None] = field(default_factory=dict)  # lot -> the name it stands in for
    _homes_of: dict[str, tuple[Ledger, dict[str, str]]] = field(default_factory=dict)
    _cash: dict[str, Decimal] = field(default_factory=dict)
    _without_quotes: dict[str, frozenset[str]] = field(default_factory=dict)
    _waiting_since: dict[str, dict[str, datetime]] = field(default_factory=dict)  # by account: fills not told yet
    _agreed: dict[str, object] = field(default_factory=dict)
    _looked_at: dict[str, float] = field(default_factory=dict)  # orders of unknown fate: the last look, monotonic
    suspects: dict[str, float] = field(default_factory=dict)  # orders over here, open there: since when, monotonic
    ending: bool = False  # asked to end: what is in flight ends, nothing new is decided or sent
    has_begun: bool = False  # this process has said that it is starting
    storage_incident: str = ""  # what was told of the disk, in memory: nothing else could keep it
    stopped: str = ""  # why nothing may leave, where the halt file could not be written; empty: nothing of the kind
    _volumes: tuple[date | None, dict[str, Decimal | None]] = (None, {})
    _closes: tuple[tuple[date | None, date], Mapping[str, Decimal]] | None = None

    # -------------------------------------------------------------- who and when

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account of the household."""
        return tuple(item.as_account() for item in self.settings.household.accounts)

    @property
    def managed(self) -> tuple[Account, ...]:
        """The accounts that harvestd trades."""
        return tuple(account for account in self.accounts if account.is_managed)

    @property
    def timetable(self) -> Timetable:
        """The schedule's minutes as durations."""
        schedule, execution = self.settings.schedule, self.settings.execution
        return Timetable(
            preopen=timedelta(minutes=schedule.preopen_minutes),
            decide_before_close=timedelta(minutes=schedule.decide_before_close_minutes),
            stop_before_close=timedelta(minutes=execution.stop_before_close_minutes),
            evening_after_close=timedelta(minutes=schedule.evening_minutes),
        )

    def desk(self, account_id: str) -> OrderDesk | None:
        """The way to send orders for an account; None in a process that has none (observe mode, commands that look)."""
        broker = self.brokers[account_id]
        return broker if isinstance(broker, OrderDesk) else None

    # -------------------------------------------------------------- the ledger

    @property
    def ledger(self) -> Ledger:
        """The replay of the whole journal, kept up to date."""
        if self._ledger is None:
            self._ledger = self.replay()
        return self._ledger

    def replay(self) -> Ledger:
        """A full replay of the stored journal."""
        return replayed(self.store, self.accounts, ledger_policy(self.settings, self.securities()))

    def learn(
        self, transactions: Iterable[Transaction] = (), *, impossible: Impossible = "refuse"
    ) -> tuple[Transaction, ...]:
        """Add transactions to the journal and bring the derived lots up to date, issuers' actions of today included;
        returns the transactions that were new. What a broker says has happened: `impossible="set_aside"`.

        Raises state.store.JournalConflict. Joins a transaction that is open; in memory and on disk together.
        """
        taken = take_in(self.store, self.ledger, transactions, self.clock.now(), impossible=impossible)
        if taken.ledger is not self._ledger:
            self._closes = None  # a split that was learned changes what yesterday's close is worth today
        self._ledger = taken.ledger
        if taken.corrects:
            self._cash.clear()  # added up again from the journal, without the rows that no longer count
        for row in () if taken.corrects else taken.added:
            if row.account_id in self._cash:
                self._cash[row.account_id] += row.amount
        return taken.added

    def journal_cash(self, account_id: str) -> Decimal:
        """Cash of one account as the journal has it, in USD."""
        if account_id not in self._cash:
            self._cash[account_id] = self.store.journal.cash(account_id)
        return self._cash[account_id]

    def agreed_before(self, account_id: str, compared: object) -> bool:
        """True when exactly this comparison was already written; remembers it otherwise."""
        if self._agreed.get(account_id) == compared:
            return True
        self._agreed[account_id] = compared
        return False

    def overdue(self, account_id: str, waits: Iterable[str], now: datetime) -> frozenset[str]:
        """Of the symbols whose fills the broker's history has yet to tell: those that have waited too long for it."""
        since = self._waiting_since.get(account_id, {})
        self._waiting_since[account_id] = waiting = {symbol: since.get(symbol, now) for symbol in waits}
        return frozenset(symbol for symbol, first in waiting.items() if now - first >= HISTORY_PATIENCE)

    def quotes_were_missing(self, account_id: str, missing: frozenset[str]) -> bool:
        """True when there is something to compare with: quotes were missing before, or this is the first look."""
        before = self._without_quotes.get(account_id)
        self._without_quotes[account_id] = missing
        return before is None or bool(before)

    def may_look_again(self, client_order_id: str, last: datetime | None, gap: timedelta) -> bool:
        """True when a look for an order is at least `gap` after the one before; remembers it then.

        By monotonic time where this process made that look, else by the instant `last` that was written down.
        """
        before, now = self._looked_at.get(client_order_id), self.clock.monotonic()
        if before is not None:
            may = now - before >= gap.total_seconds()
        else:
            may = last is None or self.clock.now() - last >= gap
        if may or before is None:
            self._looked_at[client_order_id] = now
        return may

    def forget(self) -> None:
        """Drop what is in memory after a failed write; it is read again from the store."""
        self._ledger = None
        self._history = self._path = self._risk = self._volatility = self._closes = None
        self._cash.clear()
        self._homes.clear()
        self._homes_of.clear()
        self._agreed.clear()

    def securities(self) -> Mapping[str, Security]:
        """What the broker says of the benchmark's names, as stored."""
        if self._securities is None:
            self._securities = self.store.household.securities()
        return self._securities

    def take_securities(self) -> None:
        """Ask the broker about the benchmark's names and what is held beside them, and store what it knows."""
        from daemon.market_data import take_securities, tracked

        broker = self.brokers[self.managed[0].account_id]
        take_securities(self.store, broker, tracked(self), self.constituents.sectors, self.clock.now())
        self._securities = None

    def harvest_rows(self, plan: Plan, trade: PlannedTrade) -> tuple[RealizedRow, ...]:
        """What the ledger says that one leg of a plan realized."""
        executions = self.store.orders.executions(plan.plan_id, trade.leg)
        rows = self.ledger.realized(plan.account_id, trade.symbol)
        return tuple(row for row in rows if row.sale_id in executions)

    def homes(self, account_id: str) -> dict[str, str]:
        """Lots bought as replacements (by lot id) and the name each one stands in for."""
        ledger, found = self._homes_of.get(account_id, (None, {}))
        if ledger is not self.ledger:
            held = self.ledger.lot_ids(account_id)
            new = [lot_id for lot_id in held if lot_id not in self._homes]
            if new:
                self._homes.update(dict.fromkeys(new) | self.store.replaced_by(new))
            homes = ((lot_id, self._homes[lot_id]) for lot_id in held)
            found = dict(sorted((lot_id, home) for lot_id, home in homes if home is not None))
            self._homes_of[account_id] = self.ledger, found
        return found

    # -------------------------------------------------------------- prices, benchmark, risk

    @property
    def names(self) -> tuple[str, ...]:
        """The benchmark's names, in its own order: the axis of every array."""
        return self.constituents.symbols

    @property
    def history(self) -> PriceHistory:
        """Total-return closes of finished sessions."""
        if self._history is None:
            self._history = history_from_closes(self.store.market.adjusted(), self.names)
        return self._history

    @property
    def benchmark(self) -> BenchmarkPath:
        """Benchmark weights and level after each close of the history."""
        if self._path is None or len(self._path.level) < len(self.history.sessions):
            rebalance = self.settings.benchmark.rebalance.value
            self._path = benchmark_path(self.history, self._base_weights(), rebalance, self._path)
        return self._path

    def _base_weights(self) -> FloatArray:
        return np.array([float(weight) for weight in self.constituents.weights])

    def last_closes(self) -> Mapping[str, Decimal]:
        """Closes of the newest session in the store, USD a share of today: divided by the splits since."""
        newest = self.history.sessions[-1] if self.history.sessions else None
        today = self.clock.now().astimezone(NEW_YORK).date()
        if self._closes is None or self._closes[0] != (newest, today):
            closes = self.store.market.last_closes()
            if newest is not None:
                for symbol, (new, old) in self._splits_after(newest, today).items():
                    if symbol in closes:
                        closes[symbol] *= old / new
            self._closes = ((newest, today), closes)
        return self._closes[1]

    def _splits_after(self, day: date, today: date) -> dict[str, tuple[Decimal, Decimal]]:
        """New and old shares of what split after `day`: as its issuer announced it, else as an account was told."""
        announced = {
            action.symbol: (action.ratio_new, action.ratio_old)
            for action in self.store.actions.actions()
            if action.kind is CorporateActionKind.SPLIT and day < action.ex_date <= today
        }
        return {**self.store.journal.splits_after(day), **announced}

    def daily_volume(self, symbol: str) -> Decimal | None:
        """Median volume of the symbol's last sessions, shares a day; None where no volumes are known."""
        newest = self.history.sessions[-1] if self.history.sessions else None
        if self._volumes[0] != newest:
            self._volumes = (newest, {})
        known = self._volumes[1]
        if symbol not in known:
            start = self.history.sessions[-VOLUME_SESSIONS:][0] if newest else None
            volumes = [bar.volume for bar in self.store.market.series(symbol, start) if bar.volume]
            known[symbol] = median(volumes) if volumes else None
        return known[symbol]

    def slice_max(self, symbol: str) -> Decimal | None:
        """The largest order that the symbol's volume allows, in shares; None where no volumes are known."""
        volume = self.daily_volume(symbol)
        return None if volume is None else volume * self.settings.execution.volume_max_pct / 100

    def benchmark_weights(self, today: date) -> FloatArray:
        """Weights in `today`'s session as known before it opens, shape (n,)."""
        rebalance = self.settings.benchmark.rebalance.value
        return weights_today(self.benchmark, self._base_weights(), self.history.sessions[-1], today, rebalance)

    def benchmark_changes(self, today: date) -> bool:
        """True when the benchmark returned to its base weights between the newest close and `today`."""
        rebalance = self.settings.benchmark.rebalance.value
        return period_of(self.history.sessions[-1], rebalance) != period_of(today, rebalance)

    def risk(self) -> RiskModel:
        """The factor model, estimated anew every `reestimate_every_sessions` sessions of the history.

        The history it uses ends at a multiple of that number, so a restart finds the same model.
        """
        settings = self.settings.risk
        every = settings.reestimate_every_sessions
        upto = len(self.history.sessions) // every * every or len(self.history.sessions)
        if self._risk is None or self._risk[0] != upto:
            history = self.history
            past = PriceHistory(history.names, history.sessions[:upto], history.closes[:upto])
            model = estimate_risk_model(
                past,
                factors=min(settings.factors, len(self.names) - 1),
                window_sessions=settings.window_sessions,
                half_life_sessions=settings.half_life_sessions,
            )
            self._risk = (upto, model)
        return self._risk[1]

    def volatility(self) -> Mapping[str, float]:
        """Daily EWMA volatility by name, after the newest close."""
        sessions = len(self.history.sessions)
        if self._volatility is None or self._volatility[0] != sessions:
            values = ewma_volatility(self.history, decay=self.settings.harvest.ewma_lambda)
            self._volatility = (sessions, dict(zip(self.names, map(float, values), strict=True)))
        return self._volatility[1]

    def knows_risk(self) -> bool:
        """True when there is history enough for a risk model."""
        try:
            self.risk()
        except HistoryTooShortError:
            return False
        return True

    def know_prices(self, bars: Sequence[DailyBar], *, rewritten: bool) -> None:
        """New closes are in the store. `rewritten`: stored ones changed too; what was made of them is made again."""
        if rewritten:
            self._history = self._path = self._risk = self._volatility = self._closes = None
        elif self._history is not None and bars:
            self._history = extended(self._history, bars)

    # -------------------------------------------------------------- policies of the strategy

    @property
    def tax_profile(self) -> TaxProfile:
        """Marginal rates as fractions."""
        return tax_profile_of(self.settings)

    @property
    def harvest_policy(self) -> HarvestPolicy:
        """The trigger's settings."""
        harvest = self.settings.harvest
        return HarvestPolicy(
            multiplier=harvest.trigger_multiplier,
            round_trip_cost_bps=harvest.round_trip_cost_bps,
            ewma_lambda=harvest.ewma_lambda,
            long_term_trigger=harvest.long_term_trigger_pct / 100,
            minimum_loss_usd=harvest.minimum_loss_usd,
        )
