"""What must always hold between harvestd's database and the broker's own books, whatever went wrong before.

The venue is the other half of the truth: it keeps orders, executions, cash and shares by itself and shares no code with
the ledger. So the checker opens the daemon's database by itself, read only, and lays the two side by side.

    I1  one order an intent     each order at the venue that bears an id of ours is one intent, with its terms; each
                                intent that ended as sent has its order there
    I2  executions              those of the journal and of the fills are the venue's, each once, with its terms
    I3  lots and cash           stored lots, and lots replayed, sum to the venue's position, or the symbol is locked
                                with a reason; the journal's cash is the venue's, to the cent, where nothing is locked
    I4  nothing leaves unless   every order of ours left within a session, while the last state written was OPEN
        OPEN
    I5  looking twice           `check_reconciling_twice`: a second look at an unchanged broker writes nothing
    I6  reasons and alerts      what was refused, expired or blocked has a reason code; an incident is raised once and
                                recovers once; no secret is told
    I7  conservation            planned >= submitted >= filled, leg by leg, and a plan buys for no more than it said

What happened at the venue after the daemon's last look it cannot know. The checker proves that this is all that is
missing: what is not in the journal must be the end of the venue's history, without a hole, and then counts with it.
`settled` forbids even that, and any intent whose fate is open.

The loopback server tells the venue's ids in Alpaca's form; both forms are understood.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path

from loopback.wire import wire_id

from brokers.simulated import SimulatedVenue
from daemon.cycle import observed
from daemon.gate import DaemonState
from daemon.house import House
from daemon.lots_check import compare
from daemon.settings import Settings
from state.reasons import ReasonCode
from state.records import (
    CENT,
    ZERO,
    Activity,
    ActivityKind,
    BrokerOrder,
    Intent,
    IntentState,
    PlanState,
    Side,
    Transaction,
    TransactionKind,
)
from state.store import FillRow, Store

OUR_ID = "hv-"
NEVER_ARRIVED = "arrived=never"
CANARY = "canary"  # every secret of the tests has it in it
TRADES = (TransactionKind.BUY, TransactionKind.SELL)
_CODES = frozenset(code.value for code in ReasonCode)


def check_invariants(
    database: Path,
    venue: SimulatedVenue,
    *,
    account: str = "main",
    settled: bool = False,
    told_otherwise: Collection[str] = (),
    skew: timedelta = timedelta(0),
    settings: Settings | None = None,
) -> None:
    """Raises AssertionError that names every broken invariant; see `broken_invariants`."""
    broken = broken_invariants(
        database,
        venue,
        account=account,
        settled=settled,
        told_otherwise=told_otherwise,
        skew=skew,
        settings=settings,
    )
    assert not broken, "\n".join(["expected every invariant to hold, was:", *broken])


def broken_invariants(
    database: Path,
    venue: SimulatedVenue,
    *,
    account: str = "main",
    settled: bool = False,
    told_otherwise: Collection[str] = (),
    skew: timedelta = timedelta(0),
    settings: Settings | None = None,
) -> list[str]:
    """What does not hold between the database and the venue, a sentence each that begins with the invariant's number.

    `settled`: the day is over and quiet, everything must have been taken in and no fate be open. `told_otherwise`: the
    venue's ids of executions that the broker's history tells otherwise than the venue knows (busted, corrected).
    `skew`: by how much the daemon's clock may have been wrong when it wrote its states down. `settings`: when the lots
    were derived by other rules than the usual.
    """
    with closing(Store.open(database, read_only=True)) as store:
        found = broken_in(store, venue, account=account, settled=settled, told_otherwise=told_otherwise, skew=skew)
        found += _unsound(store)
        found += [f"I3: stored is not what the journal says: {each}" for each in compare(store, settings).differences]
    files = sorted(database.parent.glob(database.name + "*"))
    found += [f"I6: a secret is in {file.name}" for file in files if CANARY.encode() in file.read_bytes().lower()]
    return found


def broken_in(
    store: Store,
    venue: SimulatedVenue,
    *,
    account: str = "main",
    settled: bool = False,
    told_otherwise: Collection[str] = (),
    skew: timedelta = timedelta(0),
) -> list[str]:
    """The same on a store that is open, without replaying the journal: cheap enough to be asked after every step."""
    with venue.book.lock:
        books = _Books(store, venue, account, settled, frozenset(told_otherwise), skew)
        checks: tuple[Callable[[_Books], Iterator[str]], ...] = (
            _one_order_an_intent,
            _executions,
            _lots,
            _cash,
            _only_when_open,
            _reasons,
            _alerts,
            _conservation,
            _fates,
        )
        return [sentence for check in checks for sentence in check(books)]


def check_reconciling_twice(house: House) -> None:
    """I5: look at the broker, and look again: the second look changes not one row. Raises AssertionError."""
    for account in house.managed:
        observed(house, account)
    before = everything(house.store)
    for account in house.managed:
        observed(house, account)
    after = everything(house.store)
    gone = {name: set(rows - after[name]) for name, rows in before.items() if rows - after[name]}
    new = {name: set(rows - before[name]) for name, rows in after.items() if rows - before[name]}
    assert not gone | new, f"I5: expected a second look to change nothing, gone are {gone}, new are {new}"


def everything(store: Store) -> dict[str, Counter[tuple[object, ...]]]:
    """Every row of every table, by table."""
    raw = store.database._raw
    names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: Counter(map(tuple, raw.execute(f'SELECT * FROM "{name}"'))) for name in names}


# ------------------------------------------------------------------ the two books


@dataclass
class _Books:
    """The daemon's store beside the venue, and what both know of each other's ids."""

    store: Store
    venue: SimulatedVenue
    account: str
    settled: bool
    told_otherwise: frozenset[str]
    skew: timedelta

    @cached_property
    def intents(self) -> tuple[Intent, ...]:
        return self.store.orders.list(account_id=self.account)

    @cached_property
    def ours(self) -> tuple[BrokerOrder, ...]:
        """Orders at the venue under an id of harvestd's."""
        return tuple(order for order in self.venue.orders() if order.client_order_id.startswith(OUR_ID))

    @cached_property
    def fills(self) -> tuple[FillRow, ...]:
        return tuple(fill for fill in self.store.orders.fills() if fill.account_id == self.account)

    @cached_property
    def told(self) -> tuple[Transaction, ...]:
        """The broker's own lines in the journal, and their later versions."""
        [broker] = [one.broker for one in self.store.household.accounts() if one.account_id == self.account]
        rows = self.store.journal.all()
        return tuple(row for row in rows if (row.account_id, row.source) == (self.account, broker))

    @cached_property
    def journal(self) -> frozenset[str]:
        """The venue's ids of everything of it that is in the journal."""
        named = (self.activity_of(row.transaction_id) for row in self.told)
        return frozenset(activity.activity_id for activity in named if activity is not None)

    @cached_property
    def _names(self) -> dict[str, Activity]:
        names: dict[str, Activity] = {}
        for each in self.venue.book.activities:
            kind = "execution" if each.kind is ActivityKind.FILL else "activity"
            names[each.activity_id] = names[wire_id(kind, each.activity_id)] = each
        return names

    def activity_of(self, told_id: str) -> Activity | None:
        """The venue's activity that is known here by this id, or by a later version of it; None when there is none."""
        return self._names.get(told_id.rpartition("::")[2].partition("~")[0])

    @cached_property
    def not_taken(self) -> tuple[Activity, ...]:
        """What happened at the venue and is not in the journal, oldest first."""
        return tuple(
            each
            for each in self.venue.book.activities
            if each.activity_id not in self.journal and each.activity_id not in self.told_otherwise
        )

    @cached_property
    def locked(self) -> frozenset[str]:
        return frozenset(row.symbol for row in self.store.positions.list(self.account) if row.lock_reason)


# ------------------------------------------------------------------ I1, I2


def _one_order_an_intent(books: _Books) -> Iterator[str]:
    intents = {intent.client_order_id: intent for intent in books.intents}
    for client_order_id, times in Counter(order.client_order_id for order in books.ours).items():
        if times > 1:
            yield f"I1: {client_order_id}: expected one order at the venue, was {times}"
    for order in books.ours:
        intent = intents.get(order.client_order_id)
        if intent is None:
            yield f"I1: {order.client_order_id}: the venue has this order, no intent of ours has its id"
        elif _terms(intent) != (order.symbol, order.side, order.quantity):
            has = (order.symbol, order.side.value, str(order.quantity))
            yield f"I1: {order.client_order_id}: expected {_terms(intent)} as submitted, the venue has {has}"
    there = {order.client_order_id for order in books.ours}
    for intent in books.intents:
        ended_as_sent = intent.state.is_final and intent.submitted_quantity > 0 and NEVER_ARRIVED not in intent.reason
        if ended_as_sent and intent.client_order_id not in there:
            yield f"I1: {intent.client_order_id} ended {intent.state.value} as sent, the venue never had it"


def _terms(intent: Intent) -> tuple[str, Side, Decimal]:
    return intent.symbol, intent.side, intent.submitted_quantity


def _executions(books: _Books) -> Iterator[str]:
    of_fills, of_journal = [], []
    for fill in books.fills:
        activity = books.activity_of(fill.execution_id)
        if activity is None:
            yield f"I2: execution {fill.execution_id} of {fill.symbol} is in the fills, the venue knows nothing of it"
            continue
        of_fills.append(activity.activity_id)
        if activity.activity_id not in books.told_otherwise:
            yield from _same_execution(books, fill, activity)
    for row in books.told:
        if row.kind in TRADES and row.supersedes is None:
            activity = books.activity_of(row.transaction_id)
            if activity is None:
                yield f"I2: execution {row.transaction_id} of {row.symbol} is in the journal, the venue never told it"
            else:
                of_journal.append(activity.activity_id)
    for what, ids in (("fills", of_fills), ("journal", of_journal)):
        for name, times in Counter(ids).items():
            if times > 1:
                yield f"I2: execution {name}: expected once in the {what}, was {times} times"
    for name in (set(of_fills) ^ set(of_journal)) - books.told_otherwise:
        yield f"I2: execution {name} is in one of journal and fills, and not in the other"
    yield from _holes(books)


def _same_execution(books: _Books, fill: FillRow, activity: Activity) -> Iterator[str]:
    ours = (fill.symbol, fill.side, fill.quantity, fill.price)
    theirs = (activity.symbol, activity.side, activity.quantity, activity.price)
    if ours != theirs:
        yield f"I2: execution {fill.execution_id}: expected {theirs} as at the venue, was {ours}"
    order = books.venue.book.reported[activity.broker_order_id or ""]
    known = order.client_order_id if order.client_order_id.startswith(OUR_ID) else None
    if known is not None and fill.client_order_id != known:
        yield f"I2: execution {fill.execution_id}: expected it under {known}, was {fill.client_order_id}"


def _holes(books: _Books) -> Iterator[str]:
    """What the journal lacks is the end of the venue's history; when all is settled it lacks nothing."""
    missing = {each.activity_id for each in books.not_taken}
    history = [each for each in books.venue.book.activities if each.activity_id not in books.told_otherwise]
    allowed = set() if books.settled else {each.activity_id for each in history[len(history) - len(missing) :]}
    for each in books.not_taken:
        if each.activity_id not in allowed:
            what = f"{each.kind.value} {each.symbol or ''} of {each.occurred_at:%Y-%m-%d %H:%M}"
            yield f"I2: {each.activity_id} ({what}) happened at the venue and is not in the journal"


# ------------------------------------------------------------------ I3


def _lots(books: _Books) -> Iterator[str]:
    ours: dict[str, Decimal] = defaultdict(Decimal)
    for lot in books.store.lots.lots(books.account):
        ours[lot.symbol] += lot.quantity
    theirs = {position.symbol: position.quantity for position in books.venue.book.positions()}
    to_come: dict[str, Decimal] = defaultdict(Decimal)
    multiplied = set()
    for each in books.not_taken:
        if each.kind is ActivityKind.FILL and each.side is not None:
            to_come[each.symbol or ""] += each.side.sign * each.quantity
        elif each.kind is ActivityKind.SPLIT:
            multiplied.add(each.symbol)
    for symbol in sorted({*ours, *theirs} - books.locked - multiplied):
        has, expected = ours.get(symbol, ZERO), theirs.get(symbol, ZERO) - to_come[symbol]
        if has != expected:
            yield f"I3: {symbol}: expected lots of {expected} shares as at the venue, was {has}, and it is not locked"


def _cash(books: _Books) -> Iterator[str]:
    if books.locked or books.told_otherwise:
        return
    expected = books.venue.cash - sum((each.amount for each in books.not_taken), ZERO)
    cash = books.store.journal.cash(books.account)
    if abs(cash - expected) >= CENT:
        yield f"I3: cash: expected {expected} USD as at the venue, the journal has {cash}"


# ------------------------------------------------------------------ I4


def _only_when_open(books: _Books) -> Iterator[str]:
    rows = books.store.states.list(books.account)
    for order in books.ours:
        if books.venue.schedule.open_session(order.submitted_at) is None:
            yield f"I4: {order.client_order_id} was submitted at {order.submitted_at:%Y-%m-%d %H:%M}, no session's hour"
        first, last = order.submitted_at - books.skew, order.submitted_at + books.skew
        before = [row for row in rows if row.since < first]
        then = {row.state for row in (*before[-1:], *(row for row in rows if first <= row.since <= last))}
        if DaemonState.OPEN.value not in then:
            was = " or ".join(sorted(then)) or "never written"
            at = f"{order.submitted_at:%Y-%m-%d %H:%M:%S}"
            yield f"I4: {order.client_order_id} was submitted at {at}, expected the state OPEN, was {was}"


# ------------------------------------------------------------------ I6


def _reasons(books: _Books) -> Iterator[str]:
    for intent in books.intents:
        if intent.state in (IntentState.REFUSED, IntentState.EXPIRED) and not _has_code(intent.reason):
            yield f"I6: {intent.client_order_id} {intent.state.value}: expected a reason code, was {intent.reason!r}"
    for plan in books.store.plans.list(account_id=books.account):
        if plan.state is PlanState.BLOCKED and not any(map(_has_code, plan.reasons)):
            yield f"I6: plan {plan.plan_id} blocked: expected a reason code, was {plan.reasons!r}"


def _has_code(reason: str) -> bool:
    return reason.partition(":")[0] in _CODES


def _alerts(books: _Books) -> Iterator[str]:
    is_open: dict[str, bool] = {}
    for alert in books.store.alerts.list(most=1_000_000):
        if is_open.get(alert.key, False) != alert.recovered:
            what = "recovered, and was not open" if alert.recovered else "raised, and was open already"
            yield f"I6: incident {alert.key} {what}, at {alert.raised_at:%Y-%m-%d %H:%M:%S}"
        is_open[alert.key] = not alert.recovered
        if CANARY in alert.message.lower():
            yield f"I6: the alert of {alert.key} tells a secret"


# ------------------------------------------------------------------ I7, and what a sound database is


def _conservation(books: _Books) -> Iterator[str]:
    filled_there: dict[str, Decimal] = {order.client_order_id: order.filled_quantity for order in books.ours}
    for plan in books.store.plans.list(account_id=books.account):
        intents = [intent for intent in books.intents if intent.plan_id == plan.plan_id]
        for leg in plan.trades:
            mine = [intent for intent in intents if intent.leg == leg.leg]
            submitted = sum((intent.submitted_quantity for intent in mine), ZERO)
            filled = sum((intent.filled_quantity for intent in mine), ZERO)
            there = sum((filled_there.get(intent.client_order_id, ZERO) for intent in mine), ZERO)
            if not leg.quantity >= submitted >= max(filled, there):
                yield (
                    f"I7: plan {plan.plan_id} leg {leg.leg} {leg.symbol}: expected planned >= submitted >= filled, was "
                    f"{leg.quantity}, {submitted}, {filled} (at the venue {there})"
                )
        planned = sum((leg.notional for leg in plan.trades if leg.side is Side.BUY), ZERO)
        buys = (intent for intent in intents if intent.side is Side.BUY)
        bought = sum((intent.filled_quantity * intent.reference_price for intent in buys), ZERO)
        if bought > planned:
            yield f"I7: plan {plan.plan_id}: expected to buy for {planned} USD at most, was {bought}"
    for intent in books.intents:
        if not intent.quantity >= intent.submitted_quantity >= intent.filled_quantity:
            yield (
                f"I7: {intent.client_order_id}: expected planned >= submitted >= filled, was {intent.quantity}, "
                f"{intent.submitted_quantity}, {intent.filled_quantity}"
            )


def _fates(books: _Books) -> Iterator[str]:
    """At the end of a quiet day every fate is known, and is the venue's."""
    if not books.settled:
        return
    there = {order.client_order_id: order for order in books.ours}
    for intent in books.intents:
        order = there.get(intent.client_order_id)
        if intent.state in (IntentState.SUBMITTING, IntentState.UNKNOWN):
            yield f"I1: {intent.client_order_id} is still {intent.state.value}"
        elif order is not None and intent.filled_quantity != order.filled_quantity:
            filled = intent.filled_quantity
            yield f"I2: {intent.client_order_id}: expected {order.filled_quantity} filled as at the venue, was {filled}"


def _unsound(store: Store) -> list[str]:
    raw = store.database._raw
    said = [row[0] for row in raw.execute("PRAGMA integrity_check")]
    found = [] if said == ["ok"] else [f"database: {each}" for each in said]
    return found + [f"database: a row of {row[0]} points nowhere" for row in raw.execute("PRAGMA foreign_key_check")]
