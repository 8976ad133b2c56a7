"""A household that has saved for three years into several hundred names, and the world that it goes on living in.

    main    traded by harvestd at the simulated venue: FIFO, whole shares, small orders filled in parts or refused now
            and then, as in the demo
    ira     known by import. It buys a few shares of four names each month, and now and then a name that main has just
            sold at a loss: harvesting has to keep clear of the first, and the second is lost for good

Before the measured sessions: 5,000 USD of every name, then 500 USD of seven names in twelve each month, always others.
Somebody placed these orders at the venue without harvestd; it learns of them on the last evening, by the same sync
that takes in everything else. So there is one lot for each, and the daemon's lots and the venue's agree.

The measured sessions are lived as the demo lives its own: the same instants, and the same stand-in who approves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from market import HISTORY_FROM, Market

from brokers.errors import OrderRefused
from brokers.simulated import SimulatedVenue, VenueSettings
from daemon.day import tick
from daemon.demo.world import MAIN, World, demo_house, filled_harvests, venue_path
from daemon.house import House
from daemon.market_calendar import SessionTimes
from daemon.settings import Settings
from state.records import Alert, OrderRequest, ReliefMethod, Side, Transaction, TransactionKind
from state.store import Store

IRA = "ira"
ACCOUNT_NUMBER = "SIM-LARGE"
OPENING_USD, MONTHLY_USD = 5_000, 500  # for one name
CYCLE, BOUGHT = 12, 7  # of twelve names seven are bought each month
SLACK = Decimal("1.02")  # of each deposit: prices move between the order and the fill
IRA_NAMES, IRA_SHARES = 4, 10  # a month
REGRET_EVERY, REGRET_SHARES = 20, 20  # sessions; the IRA then buys what main has sold at a loss last


def settings_for(names: tuple[str, ...], database: Path) -> Settings:
    """What the owner of so many names writes into config.yaml; everything else is at its default.

    Five hundred names follow their index closely, so 200 bp of tracking error (below a hundred names the default of
    400); a name may weigh 2 %, or five times its share where there are few. A trade below 500 USD is not worth its
    order. A monthly deposit, some 2 % of the account, is invested at once, in a name in twenty. Limits of a day and of
    an order are those of an account of ten million.
    """
    return Settings.model_validate(
        {
            "mode": "demo",
            "database": {"path": str(database)},
            "household": {
                "accounts": [
                    {
                        "id": MAIN,
                        "type": "taxable",
                        "broker": "simulated",
                        "account_number": ACCOUNT_NUMBER,
                        "relief_method": "fifo",
                        "history_complete_since": HISTORY_FROM.isoformat(),
                    },
                    {
                        "id": IRA,
                        "type": "ira",
                        "broker": "import",
                        "history_complete_since": HISTORY_FROM.isoformat(),
                    },
                ]
            },
            "benchmark": {"kind": "equal_weight", "symbols": list(names), "rebalance": "quarterly"},
            "optimizer": {
                "tracking_error_max_bps": 200 if len(names) >= 100 else 400,
                "name_weight_max_pct": min(100.0, max(2.0, 500 / len(names))),
                "cash_min_pct": 0.1,
                "cash_max_pct": 0.8,
                "minimum_trade_usd": 500,
                "drift_max_pct": max(1.0, 50 / len(names)),
                "deposit_names_max": min(50, max(3, len(names) // 20)),
            },
            "execution": {
                "order_type": "market",
                "order_max_usd": 150_000,
                "daily_notional_max_usd": 10_000_000,
                "unhedged_max_pct_nav": 6,
            },
        }
    )


class Quiet:
    """A notifier that tells nobody: alerts are counted in the store."""

    def send(self, alert: Alert) -> None:
        """Nothing."""


@dataclass
class LargeWorld(World):
    """The demo's world with another household in it."""

    monthly: Decimal = Decimal(0)
    places: dict[date, int] = field(default_factory=dict)  # of each session in the prices

    def _deposit(self, session: SessionTimes) -> None:
        """On the first session of each month."""
        if self.house.calendar.between(session.session.replace(day=1), session.session)[0] == session:
            self.venue.deposit(self.monthly, reference=f"monthly-{session.session:%Y-%m}")

    def _household(self, session: SessionTimes) -> None:
        """What the IRA bought today, known this evening."""
        rows = self.ira_purchases(session)
        if (self.places[session.session] - self.places[self.first]) % REGRET_EVERY == REGRET_EVERY - 1:
            sold = filled_harvests(self.house)
            if sold:
                rows.append(self._ira_purchase(session, sold[-1].symbol, REGRET_SHARES))
        if rows:
            self.house.learn({row.transaction_id: row for row in rows}.values())

    def ira_purchases(self, session: SessionTimes) -> list[Transaction]:
        """By habit: on the first session of a month, names in turn."""
        day, names = session.session, self.prices.symbols
        if self.house.calendar.between(day.replace(day=1), day)[0] != session:
            return []
        turn = (day.year * 12 + day.month) * IRA_NAMES
        chosen = {names[(turn + number) * 7 % len(names)] for number in range(IRA_NAMES)}
        return [self._ira_purchase(session, symbol, IRA_SHARES) for symbol in sorted(chosen)]

    def _ira_purchase(self, session: SessionTimes, symbol: str, shares: int) -> Transaction:
        price = self.prices.closes[symbol][self.places[session.session]]
        assert price is not None
        return Transaction(
            transaction_id=f"{IRA}-{session.session:%Y%m%d}-{symbol}",
            account_id=IRA,
            kind=TransactionKind.BUY,
            trade_date=session.session,
            source="import:ira.csv",
            symbol=symbol,
            quantity=Decimal(shares),
            price=price,
            amount=-shares * price,
            executed_at=session.closes_at,
        )


def new_world(folder: Path, market: Market) -> LargeWorld:
    """The household's databases in `folder`, with accounts, securities and benchmark, and nothing bought yet."""
    database = folder / "large.db"
    settings = settings_for(market.symbols, database)
    store = Store.open(database, create=True, durable=False)
    store.meta.put("settings", settings.model_dump_json())
    ways = VenueSettings(
        seed="harvestd-benchmark",
        half_spread_bps=Decimal(2),
        partial_fill_probability=0.10,
        rejection_probability=0.01,
        relief_method=ReliefMethod.FIFO,
    )
    start = market.prices.sessions[0].opens_at - timedelta(hours=12)
    venue = SimulatedVenue(venue_path(database), market.prices, ways, account_number=ACCOUNT_NUMBER, start=start)
    house = demo_house(store, venue, market.calendar)
    house.notifier = Quiet()
    bought = sum(len(names_of(market.symbols, number)) for number in range(CYCLE)) / CYCLE
    world = LargeWorld(
        house=house,
        venue=venue,
        prices=market.prices,
        first=market.measured[0].session,
        sessions=market.measured,
        monthly=(int(bought * MONTHLY_USD) * SLACK).quantize(Decimal(1)),
        places={item.session: place for place, item in enumerate(market.prices.sessions)},
    )
    with store.transaction():
        store.household.put_accounts(house.accounts)
        house.take_securities()
        sectors = {symbol: item.sector or "" for symbol, item in house.securities().items()}
        benchmark = settings.benchmark
        weights = dict(zip(house.constituents.symbols, house.constituents.weights, strict=True))
        store.market.put_benchmark("benchmark", benchmark.kind.value, benchmark.rebalance.value, weights, sectors)
    return world


def names_of(symbols: tuple[str, ...], month: int) -> tuple[str, ...]:
    """The names that somebody buys in the `month`-th month: all in month 0, then seven in twelve, in turn."""
    if month == 0:
        return symbols
    return tuple(symbol for place, symbol in enumerate(symbols) if (place + BOUGHT * month) % CYCLE < BOUGHT)


def save_for_three_years(world: LargeWorld, market: Market) -> None:
    """Deposits and purchases month by month at the venue; the last evening, the daemon learns of everything."""
    for month, session in enumerate(market.deposit_days):
        names = names_of(market.symbols, month)
        dollars = OPENING_USD if month == 0 else MONTHLY_USD
        world.venue.advance_to(session.opens_at - timedelta(minutes=30))
        world.venue.deposit((len(names) * dollars * SLACK).quantize(Decimal(1)), reference=f"saved-{month}")
        world.venue.advance_to(session.opens_at + timedelta(minutes=1))
        _buy(world.venue, names, dollars, month)
    last = next(item for item in reversed(market.calendar.sessions) if item.session < market.measured[0].session)
    world.venue.advance_to(last.closes_at + world.house.timetable.evening_after_close)
    _take_history(world.house, last)
    world.house.learn(_ira_history(world, market))
    tick(world.house)


def _buy(venue: SimulatedVenue, names: tuple[str, ...], dollars: int, month: int) -> None:
    broker = venue.broker()
    quotes = broker.quotes(names)
    for name in names:
        shares = max(1, round(dollars / quotes[name].mid))
        try:
            broker.submit(OrderRequest(f"saved-{month}-{name}", name, Side.BUY, Decimal(shares)))
        except OrderRefused:  # one in two hundred, by chance
            continue


def _take_history(house: House, last: SessionTimes) -> None:
    """All closes before the last evening's own, a year at a time."""
    for year in range(HISTORY_FROM.year, last.session.year + 1):
        first, end = date(year, 1, 1), min(date(year, 12, 31), last.session - timedelta(days=1))
        house.store.market.add(house.brokers[house.managed[0].account_id].daily_bars(house.names, first, end))


def _ira_history(world: LargeWorld, market: Market) -> Iterable[Transaction]:
    for session in market.deposit_days:
        yield from world.ira_purchases(session)
