"""The venue itself: its clock, the events on the way to an instant, and the commands of its owner."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from brokers.errors import BrokerUnavailable, NotAuthorized, OrderRefused, OutcomeUnknown, UnknownOrder
from brokers.simulated import switches
from brokers.simulated.actions import book_cash, book_dividend, book_split, dividend_notice, split_notice
from brokers.simulated.adapter import SimulatedBroker
from brokers.simulated.admission import check_order
from brokers.simulated.book import Book, CommandSplit, Disposal, VenueLot, VenueOrder
from brokers.simulated.errors import VenueError, VenueMismatch
from brokers.simulated.market import Market
from brokers.simulated.matching import Matcher
from brokers.simulated.storage import Header, VenueFile
from brokers.simulated.world import Schedule, VenuePrices, VenueSettings, as_utc
from state.reasons import ReasonCode
from state.records import (
    CENT,
    ZERO,
    Activity,
    ActivityKind,
    BrokerOrder,
    BrokerOrderStatus,
    CorporateNotice,
    OrderRequest,
)


class SimulatedVenue:
    """One brokerage account at a venue that lives on past prices, in a file of its own.

    `path` is created, or reopened with everything in it (`start` then counts for nothing). Raises VenueMismatch
    when the file was made with another account number, other settings (the seed among them) or other prices.
    """

    def __init__(
        self,
        path: Path | str,
        prices: VenuePrices,
        settings: VenueSettings,
        *,
        account_number: str = "SIM-1",
        start: datetime,
    ) -> None:
        self.settings = settings
        self._file = VenueFile(path)
        new = Header(account_number, settings.fingerprint(), prices.fingerprint(), as_utc(start), ZERO, 0)
        header = self._file.header()
        if header is None:
            self._file.create(new)
        else:
            for name in ("account_number", "settings", "prices"):
                kept, given = getattr(header, name), getattr(new, name)
                if kept != given:
                    self._file.close()
                    raise VenueMismatch(f"{path}: expected the {name} it was made with, {kept}, was {given}")
        self.schedule = Schedule(prices, settings)
        self.book = Book(self._file, header or new)
        self.market = Market(prices, settings, self.schedule, self.book)
        self._matcher = Matcher(self.book, self.market, self.schedule, settings)

    def close(self) -> None:
        """Close the file. The venue can be opened again."""
        self._file.close()

    def broker(self) -> SimulatedBroker:
        """The adapter through which the daemon sees this venue."""
        return SimulatedBroker(self)

    # -------------------------------------------------------------- time

    @property
    def now(self) -> datetime:
        """The venue's own clock, UTC. It survives a restart."""
        return self.book.now

    def advance_to(self, instant: datetime) -> None:
        """Let everything happen that is due up to and including `instant`, in order, each event a transaction.

        An instant not after `now` changes nothing. Raises ValueError on a naive instant, VenueError when another
        process has the file.
        """
        target = as_utc(instant)
        with self.book.lock:
            while self._next_event(target):
                pass
            if target > self.book.now:
                with self.book.transaction():
                    self.book.now = target

    def _next_event(self, target: datetime) -> bool:
        """Carry out the earliest event in (now, target]; False when there is none."""
        now = self.book.now
        if self.book.working:
            session = self.schedule.upcoming(now)
            close = self.schedule.closes[session]
            at = self.schedule.next_tick(session, now) if self._matcher.has_work(session) else close
            if at > target:
                return False
            with self.book.transaction():
                self.book.now = at
                self._matcher.match(session, at, closing=at == close)
            return True
        following = self.schedule.next_actions(now)
        if following is None or following[0] > target:
            return False
        with self.book.transaction():
            self.book.now = following[0]
            self._corporate_actions(following[1])
        return True

    def _corporate_actions(self, session: int) -> None:
        day = self.schedule.sessions[session].session
        for number, (symbol, per_share) in enumerate(self.schedule.dividends.get(session, ())):
            book_dividend(self.book, symbol, per_share, day, "scheduled", number)
        for number, (symbol, (new, old)) in enumerate(self.schedule.splits.get(session, ())):
            book_split(self.book, symbol, new, old, day, "scheduled", number)

    def notices(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        """Splits and dividends of `symbols` with an ex-date in [start, end] and not after the venue's own day.

        Those of the price history are known on the morning of their day; those commanded, from the command on.
        """
        wanted, last = set(symbols), min(end, self.schedule.trade_date(self.now))
        days = [session.session for session in self.schedule.sessions]

        def asked(index: int, symbol: str) -> bool:
            return symbol in wanted and start <= days[min(index, len(days) - 1)] <= last

        splits = [(index, symbol, *ratio) for index, items in self.schedule.splits.items() for symbol, ratio in items]
        splits += [(each.session, each.symbol, each.ratio_new, each.ratio_old) for each in self.book.command_splits]
        found = []
        for index, symbol, new, old in splits:
            if asked(index, symbol):
                day = days[min(index, len(days) - 1)]
                found.append(split_notice(self.book.identify(day, "notice", symbol, new, old), symbol, day, new, old))
        for index, items in self.schedule.dividends.items():
            for symbol, amount in items:
                if asked(index, symbol):
                    name = self.book.identify(days[index], "notice", symbol, amount)
                    found.append(dividend_notice(name, symbol, days[index], amount))
        return tuple(sorted(found, key=lambda each: (each.ex_date, each.symbol, each.action_id)))

    # -------------------------------------------------------------- orders

    def submit(self, request: OrderRequest) -> BrokerOrder:
        """Take one order. Raises as `Broker.submit` does."""
        with self.book.lock:
            if switches.UNAVAILABLE in self.book.switches:
                raise OutcomeUnknown(f"{request.client_order_id}: no answer")
            if switches.BLOCKED in self.book.switches:
                raise NotAuthorized("the account is blocked from trading")
            lost = self._take_switch(switches.LOSE_ANSWER)
            if lost == "before":
                raise OutcomeUnknown(f"{request.client_order_id}: no answer")
            try:
                accepted = self._accept(request)
            except OrderRefused as refusal:
                if lost is None:
                    raise
                raise OutcomeUnknown(f"{request.client_order_id}: no answer") from refusal
            if lost is not None:
                raise OutcomeUnknown(f"{request.client_order_id}: no answer")
            return accepted

    def _accept(self, request: OrderRequest) -> BrokerOrder:
        reserve_price = check_order(request, self.book, self.market, self.schedule, self.settings)
        refusal = self._take_switch(switches.refuse_next(request.symbol))
        if refusal is not None:
            raise OrderRefused(refusal, f"the next order in {request.symbol} was to be refused")
        day = self.schedule.sessions[self.schedule.upcoming(self.now)].session
        order = VenueOrder(
            sequence=len(self.book.orders) + 1,
            broker_order_id=self.book.identify(day, "order", request.client_order_id),
            request=request,
            submitted_at=self.now,
            reserve_price=reserve_price,
        )
        with self.book.transaction():
            return self.book.report(order)

    def cancel(self, broker_order_id: str) -> None:
        """Cancel an order at once; a final one is left as it is. Raises UnknownOrder, BrokerUnavailable."""
        with self.book.lock:
            self.check_available()
            if broker_order_id not in self.book.orders:
                raise UnknownOrder(f"No order {broker_order_id} at this venue")
            order = self.book.working.get(broker_order_id)
            if order is not None:
                with self.book.transaction():
                    self.book.finish(order, BrokerOrderStatus.CANCELLED)

    def check_available(self) -> None:
        """Raise BrokerUnavailable while the venue is commanded to be unavailable."""
        if switches.UNAVAILABLE in self.book.switches:
            raise BrokerUnavailable("the simulated venue is unavailable")

    # -------------------------------------------------------------- cash from and to outside

    def deposit(self, amount: Decimal, *, reference: str) -> None:
        """Credit `amount` USD, once per reference. Raises ValueError on a bad amount or a reference used otherwise."""
        self._move_cash(ActivityKind.DEPOSIT, amount, amount, reference)

    def withdraw(self, amount: Decimal, *, reference: str) -> None:
        """Pay out `amount` USD, once per reference.

        Raises ValueError as `deposit` does, VenueError when it is more than the settled cash not set aside for
        working buys.
        """
        self._move_cash(ActivityKind.WITHDRAWAL, amount, -amount, reference)

    def _move_cash(self, kind: ActivityKind, amount: Decimal, signed: Decimal, reference: str) -> None:
        if amount <= 0 or amount % CENT:
            raise ValueError(f"Expected a positive amount in whole cents, was {amount}")
        with self.book.lock:
            done = self.book.cash_movements.get(reference)
            if done is not None:
                if done != signed:
                    raise ValueError(f"Expected {reference} to be the movement of {done} USD it was, was {signed}")
                return
            if signed < 0:
                reserved = sum((each.remaining * each.reserve_price for each in self.book.working.values()), ZERO)
                if amount > self.book.settled_cash() - reserved:
                    raise VenueError(f"Expected at most {self.book.settled_cash() - reserved} USD, was {amount}")
            with self.book.transaction():
                book_cash(self.book, kind, signed, reference, self.schedule.trade_date(self.now))

    # -------------------------------------------------------------- commands

    def halt(self, symbol: str) -> None:
        """Halt trading in a symbol: orders are accepted and wait; quotes stay as they are."""
        self._set_switch(switches.halted(symbol), "halted")

    def unhalt(self, symbol: str) -> None:
        """Let the symbol trade again, from the next match tick."""
        self._set_switch(switches.halted(symbol), None)

    def fill_next(self, client_order_id: str, fraction: Decimal, *, hold_rest: bool = False) -> None:
        """At its next match, let the order (sent or yet to be sent) fill `fraction` of what is left of it.

        Whole shares are rounded down. The rest fills one tick later, or with `hold_rest` never.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"Expected a fraction in [0, 1], was {fraction}")
        self._set_switch(switches.next_fill(client_order_id), f"{fraction} {'hold' if hold_rest else 'go'}")

    def reject_next(self, symbol: str, reason: ReasonCode = ReasonCode.ORDER_REJECTED) -> None:
        """Refuse the next order in the symbol that would otherwise be accepted."""
        self._set_switch(switches.refuse_next(symbol), reason.value)

    def lose_next_answer(self, when: Literal["before", "after"]) -> None:
        """Lose the answer to the next submit: before the order arrives, or after it has been dealt with."""
        self._set_switch(switches.LOSE_ANSWER, when)

    def set_unavailable(self, unavailable: bool) -> None:
        """Stop answering (reads raise BrokerUnavailable, submit raises OutcomeUnknown), or answer again."""
        self._set_switch(switches.UNAVAILABLE, "yes" if unavailable else None)

    def block_account(self, blocked: bool = True) -> None:
        """Block the account from trading (submit raises NotAuthorized), or unblock it."""
        self._set_switch(switches.BLOCKED, "yes" if blocked else None)

    def pay_dividend(self, symbol: str, per_share: Decimal) -> None:
        """Credit a dividend now, in USD per share held."""
        with self.book.lock, self.book.transaction():
            day = self.schedule.trade_date(self.now)
            book_dividend(self.book, symbol, per_share, day, "command", len(self.book.activities))

    def split(self, symbol: str, new: Decimal, old: Decimal) -> None:
        """Split a symbol now: its orders are cancelled, its shares multiplied, its later prices divided by new/old."""
        if new <= 0 or old <= 0:
            raise ValueError(f"Expected a positive ratio, was {new}:{old}")
        with self.book.lock, self.book.transaction():
            day = self.schedule.trade_date(self.now)
            book_split(self.book, symbol, new, old, day, "command", len(self.book.activities))
            self.book.add_command_split(CommandSplit(symbol, self.schedule.upcoming(self.now), new, old))

    def _set_switch(self, name: str, value: str | None) -> None:
        with self.book.lock, self.book.transaction():
            self.book.set_switch(name, value)

    def _take_switch(self, name: str) -> str | None:
        value = self.book.switches.get(name)
        if value is not None:
            self._set_switch(name, None)
        return value

    # -------------------------------------------------------------- audit

    @property
    def cash(self) -> Decimal:
        """Cash in USD, sale proceeds included as soon as they are filled."""
        return self.book.cash

    @property
    def settled_cash(self) -> Decimal:
        """Cash in USD less sale proceeds that have not settled, never below zero."""
        with self.book.lock:
            return self.book.settled_cash()

    def fills(self) -> tuple[Activity, ...]:
        """Every execution, oldest first."""
        return tuple(activity for activity in self.book.activities if activity.kind is ActivityKind.FILL)

    def orders(self) -> tuple[BrokerOrder, ...]:
        """Every order ever accepted, oldest first."""
        return tuple(self.book.reported[order_id] for order_id in self.book.orders)

    def lots(self) -> tuple[VenueLot, ...]:
        """The venue's own open lots, by symbol, then in order of acquisition."""
        return tuple(lot for symbol in sorted(self.book.lots) for lot in self.book.lots[symbol].values())

    def disposals(self) -> tuple[Disposal, ...]:
        """The venue's own record of shares sold, lot by lot, oldest first."""
        return tuple(self.book.disposals)
