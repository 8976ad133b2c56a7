"""Broker -> journal -> ledger -> reconciled. The first line of every cycle.

What the broker reports is taken in once, by its own ids, in one database transaction with the cursor that says how
far it was read; issuers' actions take effect on their day. Then our lots are compared with the broker's positions,
exactly: a symbol that differs is locked, with the likely cause (reconcile.py), and stays so until the two agree again.
So is one whose history cannot be read, or about which a person has something to settle. Cash is compared to the cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

from brokers.errors import BrokerUnavailable
from brokers.protocol import BrokerReader
from daemon.activities import take_activities
from daemon.alerts import keep_alert, raise_alert, recover
from daemon.crash_points import CrashPoint, passing
from daemon.gate import DaemonState, beyond_collar
from daemon.house import House
from daemon.market_calendar import SessionTimes
from daemon.market_data import data_locks
from daemon.outcomes import take_late_fills
from daemon.questions import keep_questions
from daemon.readiness import require_account, state_of, tell_state, too_many_bad
from daemon.reconcile import Cause, Difference, differences
from state.lots import Ledger
from state.reasons import Reason, ReasonCode, because
from state.records import (
    CENT,
    ZERO,
    Account,
    AlertLevel,
    BrokerAccount,
    BrokerPosition,
    Lot,
    Quote,
)
from state.store import PositionRow

ACTIVITIES = "activities"
FEW_DIFFERENCES = 10  # symbols; more of them at once, and a fifth of what is held, have one cause
WORTHLESS = (ReasonCode.QUOTE_MISSING, ReasonCode.LIMIT_PRICE_COLLAR)  # a quote that not even values a position


@dataclass(frozen=True)  # no slots: what follows from the fields is computed once, when it is first asked for
class Snapshot:
    """What is known of one account at one instant. Prices in USD; `prices` are mids of fresh quotes."""

    account: Account
    now: datetime
    session: SessionTimes | None
    state: DaemonState
    state_reason: Reason | None
    figures: BrokerAccount
    positions: Mapping[str, Decimal]
    quotes: Mapping[str, Quote]
    locks: Mapping[str, str]
    ledger: Ledger
    last_known: Mapping[str, Decimal]  # last close of symbols without a usable quote: for valuation, never to trade
    began: float  # when the look began, monotonic seconds

    @property
    def cash(self) -> Decimal:
        """In USD, as the broker says."""
        return self.figures.cash

    @cached_property
    def prices(self) -> Mapping[str, Decimal]:
        """Mid of each quote that can be used, in USD."""
        return {**self.last_known, **{one: quote.mid for one, quote in self.quotes.items() if quote.is_usable}}

    @cached_property
    def unpriced(self) -> tuple[str, ...]:
        """Positions for which there is neither a quote nor a close: the net asset value is unknown."""
        return tuple(sorted(symbol for symbol in self.positions if symbol not in self.prices))

    @cached_property
    def nav(self) -> Decimal:
        """Cash and positions at the quotes, in USD. Raises KeyError when a position has no quote."""
        prices = self.prices
        return self.cash + sum((quantity * prices[symbol] for symbol, quantity in self.positions.items()), ZERO)

    @cached_property
    def weights(self) -> Mapping[str, Decimal]:
        """Weight of each position in the net asset value, six decimals."""
        nav, prices = self.nav, self.prices
        if nav <= 0:
            return {}
        return {
            symbol: (quantity * prices[symbol] / nav).quantize(Decimal("0.000001"))
            for symbol, quantity in self.positions.items()
        }

    @cached_property
    def queues(self) -> Mapping[str, tuple[Lot, ...]]:
        """Open lots of the account by name, in the order the broker would dispose of them."""
        account_id = self.account.account_id
        held = self.ledger.positions(account_id)
        return {symbol: self.ledger.disposal_queue(account_id, symbol) for symbol in sorted(held)}


def sync(house: House, account: Account) -> Snapshot:
    """Take in what happened at the broker and compare. Raises brokers.errors.BrokerUnavailable, JournalConflict."""
    broker = house.brokers[account.account_id]
    now, began = house.clock.now(), house.clock.monotonic()
    figures = broker.account()
    require_account(house, account, figures)
    page = broker.activities(house.store.agenda.cursor(account.account_id, ACTIVITIES))
    positions = broker.positions()
    _require_whole(house, account, figures, positions)
    if page.activities or not house.store.meta.get(_synced(account)):
        with house.store.transaction():
            take_activities(house, account, page.activities)
            take_late_fills(house, account, page.activities)
            if page.cursor is not None:
                house.store.agenda.set_cursor(account.account_id, ACTIVITIES, page.cursor)
            house.store.meta.put(_synced(account), "yes")
            passing(CrashPoint.HISTORY_READ)
        passing(CrashPoint.HISTORY_TAKEN)
    house.learn(impossible="set_aside")  # issuers' actions whose day has come, or that were announced since
    locks = _reconcile(house, account, positions, figures, now)
    return _snapshot(house, account, broker, figures, positions, locks, now, began)


def _require_whole(
    house: House, account: Account, figures: BrokerAccount, positions: tuple[BrokerPosition, ...]
) -> None:
    """An empty or a short list of positions is no empty account. Raises BrokerUnavailable where the broker's own
    figures say that it holds more than it lists: nearer to what we know of than to the list.

    A few shares less than ours are a difference like any other, and lock their symbol.
    """
    if figures.equity is None:
        return
    theirs = {position.symbol: position.quantity for position in positions}
    short = {
        symbol: quantity - theirs.get(symbol, ZERO)
        for symbol, quantity in house.ledger.positions(account.account_id).items()
        if quantity > theirs.get(symbol, ZERO)
    }
    if not short:
        return
    held = figures.equity - figures.cash
    closes = house.store.market.newest_closes({*short, *theirs})
    missing = sum((shares * closes.get(symbol, ZERO) for symbol, shares in short.items()), ZERO)
    listed = sum((shares * closes.get(symbol, ZERO) for symbol, shares in theirs.items()), ZERO)
    much_is_short = missing > held / 10 and held > listed + missing / 2
    says_more = much_is_short if positions else held > figures.equity / 100
    if says_more:
        raise BrokerUnavailable(
            f"{account.account_id}: the broker lists {len(positions) or 'no'} positions, and says that the account is "
            f"worth {figures.equity} USD of which {figures.cash} are cash; {len(short)} positions that harvestd knows "
            "are missing or short. Nothing is concluded from that list."
        )


def _synced(account: Account) -> str:
    return f"synced:{account.account_id}"


def _snapshot(
    house: House,
    account: Account,
    broker: BrokerReader,
    figures: BrokerAccount,
    positions: tuple[BrokerPosition, ...],
    locks: Mapping[str, str],
    now: datetime,
    began: float,
) -> Snapshot:
    session = house.calendar.current(now)
    asked = house.clock.now()
    said = broker.clock()
    heard_at = asked + (house.clock.now() - asked) / 2
    held = {position.symbol: position.quantity for position in positions}
    watched = sorted({*house.names, *held})
    quotes = dict(broker.quotes(watched))
    bad = _bad_quotes(house, session, quotes, watched)
    state, reason = state_of(house, account, session, said, figures, heard_at, (len(bad), len(watched)))
    tell_state(house, account, state, reason, now)
    missing = {symbol: why for symbol, why in bad.items() if why.code in WORTHLESS}
    is_common = too_many_bad(house, len(missing), len(watched))  # then the state says so, once
    last_known = _without_quote(house, account, {} if is_common else missing, now)
    if is_common:
        last_known = dict(house.store.market.newest_closes(missing))
    for symbol in missing:
        quotes.pop(symbol, None)
    known = {**{symbol: str(why) for symbol, why in missing.items()}, **data_locks(house), **locks}
    return Snapshot(account, now, session, state, reason, figures, held, quotes, known, house.ledger, last_known, began)


def _bad_quotes(
    house: House, session: SessionTimes | None, quotes: Mapping[str, Quote], watched: Iterable[str]
) -> dict[str, Reason]:
    """Symbols whose quote says nothing that could be traded on, and why: none, one far from the last close, which
    nothing known explains; while the market is open also an old one, and a crossed one."""
    limits, closes, now = house.settings.execution, house.last_closes(), house.clock.now()
    is_open = session is not None and session.opens_at <= now < session.closes_at
    bad = {}
    for symbol in watched:
        quote, close = quotes.get(symbol), closes.get(symbol)
        if quote is None or not quote.is_usable:
            bad[symbol] = because(ReasonCode.QUOTE_MISSING, symbol=symbol)
            continue
        if is_open and quote.ask < quote.bid:
            bad[symbol] = because(ReasonCode.QUOTE_WIDE, symbol=symbol, bid=quote.bid, ask=quote.ask)
            continue
        far = beyond_collar(symbol, quote.mid, close, limits.price_collar_pct) if close else None
        age = (now - quote.at).total_seconds()
        if far is not None:
            bad[symbol] = far
        elif is_open and age > limits.quote_age_max_s:
            bad[symbol] = because(ReasonCode.QUOTE_STALE, symbol=symbol, age_s=int(age))
    return bad


def _without_quote(house: House, account: Account, missing: Mapping[str, Reason], now: datetime) -> dict[str, Decimal]:
    """Last closes of symbols without a usable quote; one alert for each, and one when its quotes are back.

    They are locked: valued at that close, never traded on it.
    """
    key = f"quote:{account.account_id}:"
    closes = house.store.market.newest_closes(missing) if missing else {}
    for symbol, why in missing.items():
        valued = f"valued at its last close, {closes[symbol]} USD" if symbol in closes else "and no close either"
        text = f"{symbol}: no usable quote, {valued}; it is not traded. {why}"
        raise_alert(house.store, key + symbol, AlertLevel.ERROR, text, now)
    if house.quotes_were_missing(account.account_id, frozenset(missing)):
        for open_key in house.store.alerts.open_keys(key):
            symbol = open_key.removeprefix(key)
            if symbol not in missing:
                recover(house.store, open_key, f"{symbol}: quotes are back", now)
    return closes


def _reconcile(
    house: House, account: Account, positions: tuple[BrokerPosition, ...], figures: BrokerAccount, now: datetime
) -> dict[str, str]:
    """Locks by symbol, with the reason a user sees; alerts once per difference and once when it is gone."""
    theirs = {position.symbol: position.quantity for position in positions}
    ours = house.ledger.positions(account.account_id)
    differing = {one.symbol: one for one in differences(house, account, positions)}
    locks = {symbol: one.lock for symbol, one in differing.items()}
    for question in keep_questions(house, account, (*theirs, *ours)):
        if question.symbol:
            locks.setdefault(question.symbol, question.lock)
    for symbol in {*house.names, *theirs} if house.ledger.unreadable else ():
        if house.ledger.why_unreadable(symbol) is not None:
            locks[symbol] = str(because(ReasonCode.LEDGER_UNREADABLE, symbol=symbol))
    cash = house.journal_cash(account.account_id)
    waits = {symbol for symbol, one in differing.items() if one.cause is Cause.FILL_ON_ITS_WAY}
    overdue = house.overdue(account.account_id, waits, now)
    if house.agreed_before(account.account_id, (theirs, ours, figures.cash, cash, locks, overdue)):
        return locks  # reconciling twice changes nothing
    _tell_differences(
        house, account, [one for one in differing.values() if one.symbol not in waits - overdue], {*theirs, *ours}, now
    )
    for key in house.store.alerts.open_keys(_break_key(account, "")):
        symbol = key.rsplit(":", 1)[-1]
        if symbol not in differing and symbol != "cash" and house.ledger.why_unreadable(symbol) is None:
            recover(house.store, key, f"{symbol}: lots and the broker's position agree again", now)
    if not waits - overdue:  # the cash of a fill is on its way with it
        _compare_cash(house, account, cash, figures, now)
    rows = [PositionRow(account.account_id, symbol, theirs[symbol], now, locks.get(symbol)) for symbol in theirs]
    rows += [
        PositionRow(account.account_id, symbol, ZERO, now, locks[symbol])
        for symbol in locks
        if symbol not in theirs and (symbol in ours or symbol in differing)
    ]
    house.store.positions.replace(account.account_id, rows)
    return locks


def _tell_differences(
    house: House, account: Account, differing: list[Difference], held: set[str], now: datetime
) -> None:
    """One incident for each symbol that differs; one for all where so many do that they have one cause."""
    key = f"reconcile-many:{account.account_id}"
    if len(differing) > FEW_DIFFERENCES and len(differing) * 5 > len(held):
        first = "; ".join(one.told for one in differing[:3])
        text = f"{len(differing)} of {len(held)} positions differ from the lots, all are locked. {first}"
        keep_alert(house.store, key, AlertLevel.ERROR, f"{text} ... `harvestd reconcile` lists them.", now)
        return
    recover(house.store, key, f"{account.account_id}: most lots and positions agree again", now)
    for one in differing:
        keep_alert(house.store, _break_key(account, one.symbol), AlertLevel.ERROR, one.told, now)


def _break_key(account: Account, what: str) -> str:
    return f"reconcile:{account.account_id}:{what}"


def _compare_cash(house: House, account: Account, ours: Decimal, figures: BrokerAccount, now: datetime) -> None:
    key = _break_key(account, "cash")
    if abs(ours - figures.cash) >= CENT:
        message = f"Cash differs: expected {ours} USD from the journal, the broker says {figures.cash} USD"
        keep_alert(house.store, key, AlertLevel.ERROR, message, now)
    else:
        recover(house.store, key, "cash agrees again", now)
