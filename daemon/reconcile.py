"""Our lots against the broker's positions: what differs, why it probably does, and what a person can do about it.

The problem: a difference is a fact, its cause is a guess, and the two must not be mixed up. A transfer that arrived
without its lots, a split booked on one side only, a trade somebody made by hand an hour ago look alike in the count of
shares, and ask for different things: lots to import, patience, a person's word.

So a difference is exact (nine decimals) and its cause named only with its evidence, the first of this list that fits:

    cause               evidence                                                                      then
    ------------------  ----------------------------------------------------------------------------  ------------------
    fill_on_its_way     our own order is filled further than the history tells, by just these shares  wait
    transfer            lines of shares that came or went without basis, by just these shares         import the lots
    split               the quotient is exactly n:m, of a split announced, or booked without ratio    wait
    symbol_change       the shares of one symbol are missing and another has as many more             wait
    issuer_action       a merger, spin-off or the like was booked in the last weeks                   wait, or import
    before_history      the history, as far as it reaches, knows no such share                        import the lots
    manual_trade        somebody trades the symbol by hand: the newest may not be in the history yet  look, or adopt
    unknown             nothing of it                                                                 look, or adopt

A person can also decide that the broker is right and the lots are not (adoption.py). The broker's cost basis is shown
beside ours and never used: it is an average over days, and moves by other rules than the law's (docs/METHODS.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

from daemon.clock import NEW_YORK
from daemon.house import House
from daemon.questions import SPLIT, Question, open_questions
from state.lots import Ledger
from state.reasons import ReasonCode, because
from state.records import (
    CENT,
    QUANTUM,
    ZERO,
    Account,
    BrokerPosition,
    CorporateActionKind,
    CorporateNotice,
    Transaction,
    TransactionKind,
)
from state.store.types import decimal_text as _shares

RECENT = timedelta(days=7)  # of trades by hand, whose successors may not be in the history yet
BOOKED_WITHIN = timedelta(days=30)  # of an issuer's action
LIKELY_RATIOS = frozenset(
    {Fraction(n) for n in range(2, 51)} | {Fraction(1, n) for n in range(2, 51)} | {Fraction(3, 2), Fraction(5, 4)}
)


class Cause(StrEnum):
    """Why lots and position probably differ."""

    FILL_ON_ITS_WAY = "fill_on_its_way"  # our order filled; the line of the history is not there yet
    TRANSFER = "transfer"  # shares came or went without basis
    SPLIT = "split"  # booked on one side only
    SYMBOL_CHANGE = "symbol_change"  # the shares are there under another symbol
    ISSUER_ACTION = "issuer_action"  # a merger, spin-off or the like
    BEFORE_HISTORY = "before_history"  # the history begins after the shares were there
    MANUAL_TRADE = "manual_trade"  # somebody trades by hand, and nothing else explains it
    UNKNOWN = "unknown"  # nothing explains it


_ADVICE = {
    Cause.FILL_ON_ITS_WAY: "Wait: it agrees when the broker's history tells the fill.",
    Cause.TRANSFER: "Import their lots from the other broker's statement: `harvestd ledger import FILE`.",
    Cause.SPLIT: "Wait: it agrees when both sides have booked it.",
    Cause.SYMBOL_CHANGE: "Wait for the announcement; it keeps basis and dates.",
    Cause.ISSUER_ACTION: "Wait some days for the announcement; else import the corrected lots.",
    Cause.BEFORE_HISTORY: "Import their lots: `harvestd ledger import FILE`.",
    Cause.MANUAL_TRADE: (
        "If the newest trade is minutes old, it agrees when the broker's history tells it. If not, look at the "
        "account's history at the broker, and at what was imported."
    ),
    Cause.UNKNOWN: "Look at the account's history at the broker.",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One symbol of which our lots and the broker's position are not the same shares."""

    account_id: str
    symbol: str
    ours: Decimal
    theirs: Decimal
    cause: Cause
    evidence: str  # a sentence
    basis: Decimal | None  # of our open lots, USD; None where there are none, or one is of unknown basis
    their_basis: Decimal | None  # what the broker says they cost, USD; advisory

    @property
    def lock(self) -> str:
        """Why the symbol is locked, as a reason code."""
        reason = because(
            ReasonCode.SYMBOL_LOCKED, symbol=self.symbol, lots=self.ours, broker=self.theirs, cause=self.cause.value
        )
        return str(reason)

    @property
    def advice(self) -> str:
        """What a person can do."""
        adopt = (
            f" `harvestd reconcile adopt {self.symbol}` takes the broker's word for it; it shows what that means first."
        )
        return _ADVICE[self.cause] + ("" if self.cause is Cause.FILL_ON_ITS_WAY else adopt)

    @property
    def told(self) -> str:
        """The whole of it, for an alert."""
        return (
            f"{self.symbol} in {self.account_id}: expected {_shares(self.ours)} shares from the lots, the broker has "
            f"{_shares(self.theirs)}. {self.evidence} {self.advice} {self.lock}"
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """One account beside the broker's records, at one instant. Cash in USD."""

    account_id: str
    cash: Decimal  # of the journal
    broker_cash: Decimal
    agreeing: int  # symbols of which lots and position are the same shares
    differences: tuple[Difference, ...]
    questions: tuple[Question, ...]  # open: their symbols are locked, whatever the count of shares
    unreadable: tuple[str, ...]  # symbols held whose history cannot have happened as it is told

    @property
    def is_clean(self) -> bool:
        """True when nothing differs and nothing is open."""
        return not (self.differences or self.questions or self.unreadable) and not self.cash_difference

    @property
    def cash_difference(self) -> Decimal:
        """The broker's cash less the journal's; 0 below a cent."""
        off = self.broker_cash - self.cash
        return off if abs(off) >= CENT else ZERO


def standing(house: House, account: Account) -> Standing:
    """How an account stands, from the journal as it is and the broker's answer now. Raises BrokerUnavailable."""
    broker = house.brokers[account.account_id]
    figures, positions = broker.account(), broker.positions()
    found = differences(house, account, positions)
    held = {*house.ledger.positions(account.account_id), *(one.symbol for one in positions)}
    unreadable = tuple(sorted(symbol for symbol in held if house.ledger.why_unreadable(symbol) is not None))
    return Standing(
        account_id=account.account_id,
        cash=house.journal_cash(account.account_id),
        broker_cash=figures.cash,
        agreeing=len(held) - len(found) - len(unreadable),
        differences=found,
        questions=open_questions(house.store, account.account_id),
        unreadable=unreadable,
    )


# ------------------------------------------------------------------ what differs, and why


def differences(house: House, account: Account, positions: Iterable[BrokerPosition]) -> tuple[Difference, ...]:
    """Symbols of which the lots are not the broker's shares, by symbol. Those whose history cannot be read are left
    out: nothing is known that could differ (`Ledger.why_unreadable`)."""
    theirs = {position.symbol: position for position in positions}
    ours = house.ledger.positions(account.account_id)
    off = {
        symbol: (theirs[symbol].quantity if symbol in theirs else ZERO) - ours.get(symbol, ZERO)
        for symbol in {*theirs, *ours}
        if house.ledger.why_unreadable(symbol) is None
    }
    off = {symbol: off[symbol] for symbol in sorted(off) if off[symbol]}
    facts, found = _Facts(house, account, off), []
    for symbol in off:
        position = theirs.get(symbol)
        has = position.quantity if position else ZERO
        cause, evidence = _Case(facts, symbol, ours.get(symbol, ZERO), has).cause()
        found.append(
            Difference(
                account_id=account.account_id,
                symbol=symbol,
                ours=ours.get(symbol, ZERO),
                theirs=has,
                cause=cause,
                evidence=evidence,
                basis=_basis(house.ledger, account, symbol),
                their_basis=position.cost_basis if position else None,
            )
        )
    return tuple(found)


def _basis(ledger: Ledger, account: Account, symbol: str) -> Decimal | None:
    lots = ledger.open_lots(account.account_id, symbol)
    if not lots or not all(lot.basis_known for lot in lots):
        return None
    return sum((lot.basis for lot in lots), ZERO)


class _Facts:
    """What is known of an account around its differences; looked up when the first of them asks."""

    def __init__(self, house: House, account: Account, off: Mapping[str, Decimal]) -> None:
        self.house, self.account = house, account
        self.off = off  # the broker's shares less ours, of the symbols that differ
        self.today = house.clock.now().astimezone(NEW_YORK).date()

    @cached_property
    def coming(self) -> Mapping[str, tuple[Decimal, tuple[str, ...]]]:
        """By symbol, shares that our orders of today have filled (sold ones negative) and the history does not tell
        yet, and those orders."""
        orders = self.house.store.orders
        told: dict[str | None, Decimal] = {}
        for fill in orders.fills(session_start=self.house.clock.now() - RECENT):
            told[fill.client_order_id] = told.get(fill.client_order_id, ZERO) + fill.quantity
        coming: dict[str, tuple[Decimal, tuple[str, ...]]] = {}
        for intent in orders.list(account_id=self.account.account_id, session=self.today):
            rest = intent.filled_quantity - told.get(intent.client_order_id, ZERO)
            if rest > 0:
                shares, ids = coming.get(intent.symbol, (ZERO, ()))
                coming[intent.symbol] = shares + intent.side.sign * rest, (*ids, intent.client_order_id)
        return coming

    @cached_property
    def split_without_ratio(self) -> frozenset[str]:
        """Symbols of which a split was booked without its ratio."""
        asked = open_questions(self.house.store, self.account.account_id)
        return frozenset(each.symbol for each in asked if each.question_id.startswith(SPLIT))

    def told_of(self, symbols: Iterable[str]) -> tuple[CorporateNotice, ...]:
        """What issuers announced of these symbols for these weeks."""
        return self.house.store.actions.notices(symbols, self.today - BOOKED_WITHIN, self.today + BOOKED_WITHIN)


class _Case:
    """One difference."""

    def __init__(self, facts: _Facts, symbol: str, ours: Decimal, theirs: Decimal) -> None:
        self.facts, self.account, self.symbol = facts, facts.account, symbol
        self.ours, self.theirs, self.missing = ours, theirs, theirs - ours
        self.rows = facts.house.store.journal.about(self.account.account_id, symbol)
        self.notices = facts.told_of([symbol])

    def cause(self) -> tuple[Cause, str]:
        """The first cause with evidence, and the evidence."""
        for cause, evidence in (
            (Cause.FILL_ON_ITS_WAY, self._fill_on_its_way),
            (Cause.TRANSFER, self._transfer),
            (Cause.SPLIT, self._split),
            (Cause.SYMBOL_CHANGE, self._symbol_change),
            (Cause.ISSUER_ACTION, self._issuer_action),
            (Cause.BEFORE_HISTORY, self._before_history),
            (Cause.MANUAL_TRADE, self._manual_trade),
        ):
            found = evidence()
            if found:
                return cause, found
        return Cause.UNKNOWN, self._ratio_nobody_announced() or "Nothing in the broker's history explains it."

    def _fill_on_its_way(self) -> str:
        coming, orders = self.facts.coming.get(self.symbol, (ZERO, ()))
        if not coming or coming != self.missing:
            return ""
        shares = _shares(abs(coming))
        return f"Our order {', '.join(orders)} is filled by {shares} shares more than the history tells yet."

    def _transfer(self) -> str:
        moved = ZERO
        signs = {TransactionKind.SHARES_IN: 1, TransactionKind.SHARES_OUT: -1}
        lines = [row for row in self.rows if row.kind in signs and self._counts(row)]
        for row in reversed(lines):
            moved += signs[row.kind] * row.quantity
            if moved == self.missing:
                came = "came from elsewhere" if moved > 0 else "went elsewhere"
                return f"{_shares(abs(moved))} shares {came} since {row.trade_date}, and the broker told no basis."
        return ""

    def _counts(self, row: Transaction) -> bool:
        return row.transaction_id not in self.facts.house.ledger.superseded

    def _split(self) -> str:
        ratios = {
            (each.action.ratio_new, each.action.ratio_old): each.ex_date
            for each in self.notices
            if each.action is not None and each.action.kind is CorporateActionKind.SPLIT
        }
        for (new, old), ex_date in ratios.items():
            if self._explained_by(new, old):
                ratio = f"{_shares(new)}:{_shares(old)}"
                return f"The quotient is that of the split {ratio} with ex-date {ex_date}, booked on one side only."
        quotient = self._quotient()
        if self.symbol in self.facts.split_without_ratio and quotient is not None:
            ratio = f"{quotient.numerator}:{quotient.denominator}"
            return f"The broker booked a split without its ratio; {ratio} explains the quotient exactly."
        return ""

    def _explained_by(self, new: Decimal, old: Decimal) -> bool:
        """True when one side has applied a split that the other has not."""
        pairs = ((self.ours, self.theirs), (self.theirs, self.ours))
        return any(before and (before * new / old).quantize(QUANTUM) == after for before, after in pairs)

    def _quotient(self) -> Fraction | None:
        if self.ours <= 0 or self.theirs <= 0:
            return None
        return Fraction(self.theirs) / Fraction(self.ours)

    def _ratio_nobody_announced(self) -> str:
        quotient = self._quotient()
        if quotient not in LIKELY_RATIOS or quotient is None:
            return ""
        ratio = f"{quotient.numerator}:{quotient.denominator}"
        return f"Nothing in the broker's history explains it; the quotient is exactly {ratio}, as after a split."

    def _symbol_change(self) -> str:
        for other, off in self.facts.off.items():
            if other == self.symbol or off != -self.missing:
                continue
            for each in self.facts.told_of([self.symbol, other]):
                pair = {each.symbol, each.action.to_symbol if each.action else None}
                if pair == {self.symbol, other}:
                    return (
                        f"{' and '.join(sorted((self.symbol, other)))} differ by as many shares, and {each.symbol} has "
                        f"another symbol from {each.ex_date} on."
                    )
        return ""

    def _issuer_action(self) -> str:
        told = [each for each in self.notices if each.needs_person or self._moves_shares(each)]
        if told:
            return f"{told[-1].kind.replace('_', ' ').capitalize()} with ex-date {told[-1].ex_date} was announced."
        booked = self._recent(TransactionKind.ISSUER_ACTION)
        if booked:
            words = f" ({booked[-1].note})" if booked[-1].note else ""
            return f"The broker booked an issuer's action on {booked[-1].trade_date}{words}."
        return ""

    def _moves_shares(self, notice: CorporateNotice) -> bool:
        kinds = (CorporateActionKind.STOCK_MERGER, CorporateActionKind.CASH_MERGER, CorporateActionKind.SPINOFF)
        return notice.action is not None and notice.action.kind in kinds

    def _manual_trade(self) -> str:
        traded = (TransactionKind.BUY, TransactionKind.SELL)
        by_hand = [
            row
            for row in self.rows
            if row.kind in traded
            and row.source == self.account.broker
            and row.client_order_id is None
            and row.trade_date > self.facts.today - RECENT
            and self._counts(row)
        ]
        if not by_hand:
            return ""
        last = by_hand[-1]
        did = "bought" if last.kind is TransactionKind.BUY else "sold"
        return (
            f"Somebody trades it by hand: {_shares(last.quantity)} were {did} on {last.trade_date} by an order that is "
            f"not harvestd's ({last.order_id or last.transaction_id}), and the newest may not be in the history yet."
        )

    def _before_history(self) -> str:
        if self.missing < 0 or any(self._counts(row) and row.quantity for row in self.rows):
            return ""
        begins = self.facts.house.store.journal.first_day(self.account.account_id)
        since = f" since {begins}" if begins else ""
        return f"The broker's history, as far as it reaches{since}, does not tell where the shares come from."

    def _recent(self, kind: TransactionKind) -> list[Transaction]:
        since = self.facts.today - BOOKED_WITHIN
        return [row for row in self.rows if row.kind is kind and row.trade_date > since and self._counts(row)]
