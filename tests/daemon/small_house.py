"""A small household to tell stories about: ten names, a few months of quiet prices, a venue of its own.

`main` is traded (FIFO, at the simulated venue); the spouse's account and the IRA are known by import. Prices wander
within about three per cent of where they started, so nothing happens unless a story makes it happen: `falls` and
`rises` change a name's closes from a session on. Sessions are weekdays, open from 14:30 to 21:00 UTC; session 0 is
Monday 2024-03-04, and a hundred sessions before it are history. All ten names weigh a tenth of the benchmark.

A stage is driven by hand: `tick(instant)` moves the world there and lets the daemon do what is due. As at the real
venue, decisions see the close before, orders fill at the session's own close.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from brokers.protocol import Broker
from brokers.simulated import SimulatedVenue, VenuePrices, VenueSession, VenueSettings
from daemon.agenda import Task
from daemon.clock import WorldClock
from daemon.constituents import Constituents
from daemon.cycle import observed
from daemon.day import tick
from daemon.decision import record_intents
from daemon.house import House
from daemon.market_calendar import MarketCalendar, SessionTimes
from daemon.settings import Settings
from daemon.sync import Snapshot
from state.records import (
    Account,
    Alert,
    Intent,
    OrderRequest,
    Plan,
    PlannedTrade,
    PlanState,
    ReliefMethod,
    Security,
    Side,
    TradeReason,
    Transaction,
    TransactionKind,
)
from state.store import Store

D = Decimal
NAMES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH", "III", "JJJ")
SECTORS = ("Energy", "Health", "Tech")
FIRST = date(2024, 3, 4)
HISTORY, AHEAD = 100, 60  # sessions before and from FIRST on
NO_APPROVALS = {"order_usd": "100000000", "plan_pct_nav": "200", "gain_usd": "100000000"}


def weekdays() -> tuple[date, ...]:
    """The stage's sessions: `HISTORY` weekdays before FIRST and `AHEAD` from it on."""
    around = (FIRST + timedelta(days=number) for number in range(-2 * HISTORY, 2 * AHEAD))
    days = [day for day in around if day.weekday() < 5]
    place = days.index(FIRST)
    return tuple(days[place - HISTORY : place + AHEAD])


DAYS = weekdays()
TIMES = tuple(
    SessionTimes(day, datetime.combine(day, time(14, 30), UTC), datetime.combine(day, time(21, 0), UTC)) for day in DAYS
)


@cache
def quiet_closes() -> dict[str, tuple[Decimal, ...]]:
    """Closes that wander around 40, 50, ... 130 USD and come back, the same in every run."""
    rng = np.random.default_rng(20240304)
    walk = np.zeros((len(DAYS), len(NAMES)))
    steps = 0.003 * rng.standard_normal((len(DAYS), 1)) + 0.005 * rng.standard_normal(walk.shape)
    for place in range(1, len(DAYS)):
        walk[place] = 0.9 * walk[place - 1] + steps[place]
    return {
        name: tuple(D(str(round(float((40 + 10 * column) * np.exp(value)), 2))) for value in walk[:, column])
        for column, name in enumerate(NAMES)
    }


Change = tuple[str, int, str]  # name, session, factor on every close from that session on


def stage_prices(changes: Iterable[Change] = ()) -> VenuePrices:
    """The quiet prices, changed."""
    closes = {name: list(series) for name, series in quiet_closes().items()}
    for name, session, factor in changes:
        for place in range(HISTORY + session, len(DAYS)):
            closes[name][place] = (closes[name][place] * D(factor)).quantize(D("0.01"))
    return VenuePrices(
        sessions=tuple(VenueSession(item.session, item.opens_at, item.closes_at) for item in TIMES),
        symbols=NAMES,
        closes={name: tuple(series) for name, series in closes.items()},
        securities={
            name: Security(name, sector=SECTORS[place % 3], fractionable=True) for place, name in enumerate(NAMES)
        },
    )


def stage_settings(path: Path, **sections: Mapping[str, Any]) -> Settings:
    """Settings of the small household: nothing waits for approval and orders are market orders, unless a story says
    otherwise. `sections` are laid over section by section."""
    base: dict[str, Any] = {
        "mode": "demo",
        "database": {"path": str(path)},
        "household": {
            "accounts": [
                {
                    "id": "main",
                    "type": "taxable",
                    "broker": "simulated",
                    "account_number": "SIM-1",
                    "relief_method": "fifo",
                    "history_complete_since": DAYS[0].isoformat(),
                },
                {"id": "spouse", "type": "spouse_taxable", "broker": "import"},
                {"id": "ira", "type": "ira", "broker": "import"},
            ]
        },
        "benchmark": {"kind": "equal_weight", "symbols": list(NAMES), "rebalance": "none"},
        "optimizer": {"rebalance_at": "never", "name_weight_max_pct": 25},
        "approvals": NO_APPROVALS,
        "execution": {"order_type": "market"},
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values}
    return Settings.model_validate(base)


@dataclass
class Stage:
    """One household, its venue, and the hand that moves both."""

    path: Path
    house: House
    venue: SimulatedVenue
    prices: VenuePrices
    told: list[Alert] = field(default_factory=list)  # what the notifier was handed, in order

    # -------------------------------------------------------------- time

    def session(self, number: int) -> SessionTimes:
        """The stage's session of that number."""
        return TIMES[HISTORY + number]

    def before_open(self, number: int) -> datetime:
        """When PREOPEN becomes due."""
        return self.session(number).opens_at - self.house.timetable.preopen

    def decision(self, number: int, minutes: float = 0) -> datetime:
        """When DECIDE becomes due, or so many minutes later."""
        return self.session(number).closes_at - self.house.timetable.decide_before_close + timedelta(minutes=minutes)

    def evening(self, number: int) -> datetime:
        """When EVENING becomes due."""
        return self.session(number).closes_at + self.house.timetable.evening_after_close

    def at(self, number: int, minutes: float) -> datetime:
        """So many minutes after a session's open."""
        return self.session(number).opens_at + timedelta(minutes=minutes)

    def tick(self, instant: datetime) -> tuple[Task, ...]:
        """Move the world to `instant`; the daemon does what is due."""
        self.venue.advance_to(instant)
        return tick(self.house)

    def live(self, first: int, last: int | None = None) -> None:
        """Whole sessions, as the demo lives them: before the open, the decision, every two minutes, the evening."""
        for number in range(first, (first if last is None else last) + 1):
            self.tick(self.before_open(number))
            self.finish(number)

    def finish(self, number: int) -> None:
        """The rest of a session from its decision on."""
        for minutes in range(0, 20, 2):
            self.tick(self.decision(number, minutes))
        self.tick(self.evening(number))

    def alter(self, **answers: Any) -> None:
        """Replace some of the broker's answers, and put back those replaced before."""
        self.house.brokers = (
            {"main": Altered(self.venue.broker(), **answers)} if answers else {"main": self.venue.broker()}
        )

    def restart(self) -> None:
        """The daemon's process ends and another one opens the same database; the venue goes on."""
        self.house.store.close()
        self.house = _house(Store.open(self.path, durable=False), self.venue, self.house.settings, self.told)

    def close(self) -> None:
        """Release both files."""
        self.house.store.close()
        self.venue.close()

    # -------------------------------------------------------------- what other people do

    def outside(self, side: Side, symbol: str, quantity: object) -> str:
        """Someone trades at the venue without asking harvestd; it fills at the next minute. Returns the order's id."""
        client_order_id = f"by-hand-{len(self.venue.orders())}"
        self.venue.broker().submit(OrderRequest(client_order_id, symbol, side, D(str(quantity))))
        return client_order_id

    def invest(self, number: int = 0, dollars_a_name: int = 10_000, **but: int) -> None:
        """Session `number`, by hand: the same dollars of every name (`but` says otherwise), journaled that evening.

        harvestd decides nothing that day.
        """
        self.tick(self.before_open(number))
        self.house.store.agenda.mark(self.session(number).session, Task.DECIDE.value, "main", self.house.clock.now())
        self.venue.advance_to(self.session(number).opens_at + timedelta(minutes=1))
        for name in NAMES:
            dollars = but.get(name, dollars_a_name)
            if dollars:
                self.outside(Side.BUY, name, int(dollars / self.close_of(name, number)))
        self.tick(self.evening(number))

    def imported(self, account: str, side: Side, symbol: str, quantity: int, day: date) -> tuple[Transaction, ...]:
        """A trade of another account of the household arrives by import, at that day's close."""
        price = self.prices.closes[symbol][DAYS.index(day)]
        assert price is not None
        kind = TransactionKind.BUY if side is Side.BUY else TransactionKind.SELL
        row = Transaction(
            transaction_id=f"{account}-{kind.value}-{symbol}-{day}",
            account_id=account,
            kind=kind,
            trade_date=day,
            source="import:statement.csv",
            symbol=symbol,
            quantity=D(quantity),
            price=price,
            amount=-side.sign * quantity * price,
            executed_at=datetime.combine(day, time(19, 0), UTC),
        )
        return self.house.learn([row])

    # -------------------------------------------------------------- plans made by hand

    def execute(self, *legs: tuple[Side, str, int], nav: int = 100_000) -> Plan:
        """A plan that is decided and executing, of these legs at today's quotes; its intents are recorded."""
        now, day = self.venue.now, self.house.calendar.upcoming(self.venue.now).session
        quotes = self.house.brokers["main"].quotes(self.house.names)
        trades = tuple(
            PlannedTrade(place, symbol, side, D(quantity), quotes[symbol].mid, TradeReason.REBALANCE, "by hand")
            for place, (side, symbol, quantity) in enumerate(legs, start=1)
        )
        number = self.house.store.plans.next_sequence("main", day)
        plan_id = f"main-{day:%Y%m%d}-{number}"
        plan = Plan(plan_id, "main", day, number, now, PlanState.EXECUTING, trades, ("by hand",), D(nav))
        with self.house.store.transaction():
            self.house.store.plans.record(plan, now)
            record_intents(self.house, plan, day)
        return plan

    # -------------------------------------------------------------- looking

    @property
    def account(self) -> Account:
        """The managed account."""
        return self.house.managed[0]

    def look(self) -> Snapshot:
        """What the daemon sees now."""
        return observed(self.house, self.account)

    def close_of(self, name: str, number: int) -> Decimal:
        """A name's close in a session."""
        close = self.prices.closes[name][HISTORY + number]
        assert close is not None
        return close

    def plans(self) -> tuple[Plan, ...]:
        """All plans, oldest first."""
        return self.house.store.plans.list()

    def only(self, symbol: str) -> Intent:
        """The one intent of a symbol."""
        (intent,) = self.intents(symbol)
        return intent

    def intents(self, symbol: str | None = None) -> tuple[Intent, ...]:
        """All intents, or those of a symbol."""
        found = self.house.store.orders.list()
        return tuple(one for one in found if symbol is None or one.symbol == symbol)

    def sent(self) -> tuple[str, ...]:
        """Client order ids of harvestd's own orders at the venue, oldest first."""
        return tuple(one.client_order_id for one in self.venue.orders() if one.client_order_id.startswith("hv-"))

    def alerts(self, prefix: str) -> list[str]:
        """Incidents told under keys that start so, as raised or recovered, oldest first."""
        found = self.house.store.alerts.list(most=10_000)
        return ["recovered" if one.recovered else "raised" for one in found if one.key.startswith(prefix)]


class Altered:
    """A broker with some of its answers replaced by the test's: `Altered(broker, account=raises)`."""

    def __init__(self, broker: Broker, **answers: Any) -> None:
        self._broker = broker
        for name, answer in answers.items():
            setattr(self, name, answer)

    def orders(self, client_order_ids: Iterable[str]) -> dict[str, Any]:
        """One lookup each, so that a test that alters the lookup of one order alters this too."""
        found = {each: self.order_by_client_id(each) for each in client_order_ids}
        return {each: order for each, order in found.items() if order is not None}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)


class _Hearer:
    """A notifier that only remembers."""

    def __init__(self, told: list[Alert]) -> None:
        self._told = told

    def send(self, alert: Alert) -> None:
        self._told.append(alert)


def _house(store: Store, venue: SimulatedVenue, settings: Settings, told: list[Alert]) -> House:
    brokers: dict[str, Broker] = {"main": venue.broker()}
    names = settings.benchmark.symbols
    return House(
        settings=settings,
        store=store,
        clock=WorldClock(lambda: venue.now),
        calendar=MarketCalendar(TIMES),
        brokers=brokers,
        constituents=Constituents(names, (D(1) / len(names),) * len(names), {}),
        notifier=_Hearer(told),
    )


def make_stage(
    folder: Path,
    empty_database: Path,
    *,
    changes: Iterable[Change] = (),
    cash: str = "100000.00",
    venue: Mapping[str, Any] | None = None,
    **sections: Mapping[str, Any],
) -> Stage:
    """A stage in `folder`, on the evening before session 0, with `cash` in the account and a hundred closes known.

    `changes` to the prices, `venue` settings (by default no chance at all), other `sections` of the settings.
    `empty_database` is a migrated database to start from, which saves the migration.
    """
    path = folder / "house.db"
    shutil.copyfile(empty_database, path)
    prices = stage_prices(changes)
    settings = stage_settings(path, **sections)
    ways = VenueSettings(
        **{"seed": "stage", "half_spread_bps": D(2), "relief_method": ReliefMethod.FIFO, **(venue or {})}
    )
    start = TIMES[HISTORY - 1].closes_at + timedelta(hours=3)
    made = SimulatedVenue(folder / "house.db.venue", prices, ways, account_number="SIM-1", start=start)
    made.deposit(D(cash), reference="opening")
    told: list[Alert] = []
    store = Store.open(path, durable=False)
    house = _house(store, made, settings, told)
    with store.transaction():
        store.meta.put("kind", "stage")
        store.meta.put("settings", settings.model_dump_json())
        store.household.put_accounts(house.accounts)
        house.take_securities()
        store.market.add(house.brokers["main"].daily_bars(house.names, DAYS[0], TIMES[HISTORY - 1].session))
    return Stage(path, house, made, prices, told)


def taken_up(folder: Path, *, changes: Iterable[Change] = ()) -> Stage:
    """A stage that was made in a folder like this one, with the usual venue and the same `changes`, and closed."""
    path = folder / "house.db"
    prices = stage_prices(changes)
    store = Store.open(path, durable=False)
    settings = Settings.model_validate_json(store.meta.get("settings") or "")
    ways = VenueSettings(seed="stage", half_spread_bps=D(2), relief_method=ReliefMethod.FIFO)
    venue = SimulatedVenue(folder / "house.db.venue", prices, ways, account_number="SIM-1", start=TIMES[0].opens_at)
    told: list[Alert] = []
    return Stage(path, _house(store, venue, settings, told), venue, prices, told)
