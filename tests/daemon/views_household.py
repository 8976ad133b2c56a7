"""A small household on disk for the views to look at, every figure of it worked out by hand.

As of Tuesday 2026-06-30. `main` (FIFO, traded) bought 100 KO at 60 in 2025 and 50 at 80 in March 2026: at a close of
70 the first lot gains 1,000 and the second loses 500 behind it. It harvested 100 PEP on 10 June: bought at 150, sold at
120, a loss of 3,000; MRK stands in for it. On 20 June the IRA bought 40 PEP: 1,200 of that loss is lost for good, and
the other 1,800 can still be disallowed until 10 July.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from daemon.bookkeeping import take_in
from daemon.settings import Settings
from state.lots import Ledger
from state.records import (
    Account,
    AccountType,
    Alert,
    AlertLevel,
    DailyBar,
    Intent,
    IntentState,
    OrderType,
    Plan,
    PlannedLot,
    PlannedTrade,
    PlanState,
    Side,
    Term,
    TradeReason,
    Transaction,
    TransactionKind,
)
from state.store import Approval, FillRow, PerformanceRow, PositionRow, Store

AS_OF = date(2026, 6, 30)
NOW = datetime(2026, 6, 30, 20, 10, tzinfo=UTC)
SYMBOLS = ("KO", "MRK", "PEP")
CLOSES = {"KO": Decimal(70), "MRK": Decimal(119), "PEP": Decimal(125)}
HARVEST, WAITING, STUCK = "main-20260610-1", "main-20260630-1", "main-20260629-1"
LOCK = "SYMBOL_LOCKED: symbol=PEP lots=0 broker=5"
ABOVE = "TRIGGER_TRACKING_ERROR: bps=412.0 most_bps=400.0 why=prices moved after the decision"


def accounts(ira_since: date | None = date(2020, 1, 2)) -> tuple[Account, ...]:
    """main, spouse and IRA; `ira_since` None: the IRA's history is not known to be complete."""
    return (
        Account("main", AccountType.TAXABLE, broker="simulated", history_complete_since=date(2025, 1, 2)),
        Account("spouse", AccountType.SPOUSE_TAXABLE, history_complete_since=date(2020, 1, 2)),
        Account("ira", AccountType.IRA, history_complete_since=ira_since),
    )


def household(
    path: Path, *, ira_since: date | None = date(2020, 1, 2), groups: tuple[tuple[str, ...], ...] = ()
) -> Path:
    """The database, complete. Returns its path. `groups`: symbols that the user calls identical."""
    store = Store.open(path, create=True, durable=False)
    with store.transaction():
        store.meta.put("kind", "demo")
        store.meta.put("settings", settings(groups).model_dump_json())
        store.household.put_accounts(accounts(ira_since))
        store.market.put_benchmark(
            "benchmark", "equal_weight", "quarterly", {name: Decimal("0.25") for name in SYMBOLS}, {}
        )
        store.market.add(DailyBar(name, AS_OF, close, close) for name, close in CLOSES.items())
        _lots(store, accounts(ira_since))
        _performance(store)
        _plans(store)
        _positions(store)
        _alerts(store)
        store.agenda.mark(AS_OF, "evening", "main", NOW)
    store.close()
    return path


def settings(groups: tuple[tuple[str, ...], ...] = ()) -> Settings:
    """Settings of the household; a tracking-error limit of 400 bp."""
    return Settings.model_validate(
        {
            "mode": "demo",
            "household": {
                "accounts": [
                    {"id": "main", "type": "taxable", "broker": "simulated"},
                    {"id": "spouse", "type": "spouse_taxable", "broker": "import"},
                    {"id": "ira", "type": "ira", "broker": "import"},
                ]
            },
            "benchmark": {"kind": "equal_weight", "symbols": list(SYMBOLS)},
            "optimizer": {"name_weight_max_pct": 50},
            "risk": {"factors": 2},
            "wash_sales": {"groups": groups},
        }
    )


# ------------------------------------------------------------------ the journal


def journal() -> tuple[Transaction, ...]:
    """What happened, in order."""
    deposit = Transaction("dep", "main", TransactionKind.DEPOSIT, date(2025, 6, 2), "simulated", amount=Decimal(50_000))
    return (
        deposit,
        _trade("b1", "main", "buy", date(2025, 6, 2), "KO", 100, 60),
        _trade("b2", "main", "buy", date(2026, 1, 15), "PEP", 100, 150),
        _trade("s0", "spouse", "buy", date(2026, 2, 2), "KO", 10, 70),
        _trade("b3", "main", "buy", date(2026, 3, 2), "KO", 50, 80),
        _trade("s1", "main", "sell", date(2026, 6, 10), "PEP", 100, 120),
        _trade("b4", "main", "buy", date(2026, 6, 10), "MRK", 100, 118),
        _trade("i1", "ira", "buy", date(2026, 6, 20), "PEP", 40, 122),
    )


def _trade(name: str, account: str, kind: str, day: date, symbol: str, quantity: int, price: int) -> Transaction:
    return Transaction(
        transaction_id=name,
        account_id=account,
        kind=TransactionKind(kind),
        trade_date=day,
        source="test",
        symbol=symbol,
        quantity=Decimal(quantity),
        price=Decimal(price),
        amount=Decimal(quantity * price * (1 if kind == "sell" else -1)) if account == "main" else Decimal(0),
        executed_at=datetime(day.year, day.month, day.day, 20, tzinfo=UTC),
    )


def _lots(store: Store, who: tuple[Account, ...]) -> None:
    take_in(store, Ledger.replay(who, ()), journal(), NOW)


def _positions(store: Store) -> None:
    held = {"KO": (150, None), "MRK": (100, None), "PEP": (5, LOCK)}
    rows = [PositionRow("main", name, Decimal(count), NOW, lock) for name, (count, lock) in held.items()]
    store.positions.replace("main", rows)


# ------------------------------------------------------------------ figures


def sessions() -> Iterator[date]:
    """Weekdays from the end of 2025 on."""
    day = date(2025, 12, 29)
    while day <= AS_OF:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def _performance(store: Store) -> None:
    """The account doubles in 2025 and gains 10 % in 2026; the benchmark stands still, then gains 4 %."""
    days = list(sessions())
    for place, day in enumerate(days):
        first, last_of_2025 = place == 0, day.year == 2025
        nav = Decimal(25_000) if first else Decimal(50_000) if last_of_2025 else Decimal(55_000)
        benchmark = Decimal(25_000) if last_of_2025 else Decimal(26_000)
        above = day == date(2026, 6, 29)
        store.performance.put(
            PerformanceRow(
                account_id="main",
                session=day,
                nav=nav,
                cash=Decimal("1234.50"),
                external_flow=Decimal(25_000) if first else Decimal(0),
                benchmark_nav=benchmark,
                tracking_error_bps=412.0 if above else 183.4,
                tracking_error_note=ABOVE if above else "",
                bought=Decimal(100),
                sold=Decimal(100),
            )
        )


# ------------------------------------------------------------------ plans, orders, alerts


def _plans(store: Store) -> None:
    harvest = (
        PlannedTrade(
            leg=1,
            symbol="PEP",
            side=Side.SELL,
            quantity=Decimal(100),
            price=Decimal(120),
            reason=TradeReason.HARVEST,
            explanation="loss 20 % of basis, trigger 9 %",
            tie=0,
            lots=(
                PlannedLot(
                    "b2", date(2026, 1, 15), Decimal(100), Decimal(15_000), Term.SHORT, Decimal(-3000), Decimal(0)
                ),
            ),
            replacement=("MRK",),
            days_held=146,
            cost=Decimal("1.20"),
            tracking_error_effect_bps=38.5,
        ),
        PlannedTrade(
            2,
            "MRK",
            Side.BUY,
            Decimal(101),
            Decimal(118),
            TradeReason.REPLACEMENT,
            "stands in [for] PEP",
            0,
            (),
            ("PEP",),
        ),
    )
    store.plans.record(_plan(HARVEST, PlanState.DONE, harvest), NOW)
    store.plans.put_approval(
        Approval(
            plan_id=HARVEST,
            revision=0,
            requested_at=datetime(2026, 6, 10, 19, 40, tzinfo=UTC),
            expires_at=datetime(2026, 6, 11, 15, 40, tzinfo=UTC),
            reasons=("APPROVAL_ORDER_VALUE: leg=1 symbol=PEP usd=12000.00 above=10000",),
            decision="approved",
            decided_at=datetime(2026, 6, 10, 19, 42, tzinfo=UTC),
            decided_by="ann",
        )
    )
    store.plans.update(HARVEST, NOW, weights_after={"PEP": Decimal(0), "MRK": Decimal("0.214")})
    single = (
        PlannedTrade(1, "KO", Side.SELL, Decimal(20), Decimal(70), TradeReason.REBALANCE, "brings the weight back"),
    )
    store.plans.record(_plan(STUCK, PlanState.EXECUTING, single), NOW)
    store.plans.record(_plan(WAITING, PlanState.AWAITING_APPROVAL, single), NOW)
    sold = intent(HARVEST, 1, "PEP", Side.SELL, 100, IntentState.FILLED, filled=100)
    bought = intent(
        HARVEST, 2, "MRK", Side.BUY, 101, IntentState.CANCELLED, filled=100, reason="ORDER_DEADLINE: session=2026-06-10"
    )
    stuck = intent(STUCK, 1, "KO", Side.SELL, 20, IntentState.UNKNOWN)
    store.orders.record((sold, bought, stuck))
    for name, quantity, price in (("e1", 40, "119"), ("e2", 60, "121")):
        store.orders.add_fill(
            FillRow(name, "main", sold.client_order_id, "B1", "PEP", Side.SELL, Decimal(quantity), Decimal(price), NOW)
        )


def _plan(plan_id: str, state: PlanState, trades: tuple[PlannedTrade, ...]) -> Plan:
    day = datetime.strptime(plan_id.split("-")[1], "%Y%m%d").replace(hour=19, minute=40, tzinfo=UTC)
    return Plan(
        plan_id=plan_id,
        account_id="main",
        session=day.date(),
        sequence=1,
        created_at=day,
        state=state,
        trades=trades,
        triggers=("TRIGGER_HARVEST: symbol=PEP loss_usd=3000",),
        nav=Decimal(55_000),
        tracking_error_before_bps=140.2,
        tracking_error_after_bps=183.4,
        weights_before={"KO": Decimal("0.25"), "PEP": Decimal("0.218"), "MRK": Decimal(0)},
        weights_planned={"KO": Decimal("0.25"), "PEP": Decimal(0), "MRK": Decimal("0.216")},
        expires_at=day + timedelta(hours=20),
    )


def intent(
    plan_id: str,
    leg: int,
    symbol: str,
    side: Side,
    quantity: int,
    state: IntentState,
    filled: int = 0,
    reason: str = "",
) -> Intent:
    """An intent of one leg."""
    day = datetime.strptime(plan_id.split("-")[1], "%Y%m%d").replace(tzinfo=UTC).date()
    return Intent(
        client_order_id=f"hv-{plan_id}-{leg}-0",
        plan_id=plan_id,
        account_id="main",
        leg=leg,
        slice_number=0,
        symbol=symbol,
        side=side,
        quantity=Decimal(quantity),
        state=state,
        session=day,
        order_type=OrderType.LIMIT,
        reference_price=Decimal(120),
        submitted_quantity=Decimal(quantity),
        filled_quantity=Decimal(filled),
        reason=reason,
        submitted_at=NOW,
    )


def _alerts(store: Store) -> None:
    for key, level, text, recovered in (
        ("harvest:main-20260610-1:1", AlertLevel.INFO, "PEP: sold 100 shares [at a loss]", False),
        ("task:main:decide", AlertLevel.ERROR, "decide of main could not be done", False),
        ("task:main:decide", AlertLevel.INFO, "decide of main works again", True),
        ("reconcile:main:PEP", AlertLevel.ERROR, LOCK, False),
    ):
        store.alerts.put(Alert(key, level, text, NOW, recovered))
