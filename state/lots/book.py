"""The state of a replay: what is held, which losses are still open, which rows are realized.

The problem: a wash sale gives part of a lot another basis and another holding period than the rest of it, and a
later purchase can still change a sale of up to thirty days ago. So neither a lot nor a sale is a single value.

Worked example 1, a lot in parcels. 40 shares are sold at a loss of 200, then 100 are bought at 26. The purchase is
one lot of two parcels: 40 shares that replace (basis 1,040 + 200, older start) and 60 that do not (basis 1,560).
Both keep the lot's id and acquisition date; they are split again whenever a sale or a match takes part of one.

Worked example 2, an open loss. Of 100 shares sold at a loss of 500 on 1 April, 40 are replaced on 15 April. The row
shows 200 disallowed, and an open loss of 60 shares and 300 dollars stays in the book until 1 May, in case more
purchases come.

Parcels of one account and symbol form a queue in order of acquisition; inside a lot in the order of the convention
`sublot_order`. That is the first-in-first-out queue, and every other order is derived from it (relief.py).

A book is plain mutable data and copying it is cheap. A ledger keeps finished books and never changes them: it
copies one and continues, which is what makes a what-if a matter of microseconds instead of a replay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from state.lots.journal import SplitReports
from state.lots.money import apportion
from state.lots.policy import Classes, LedgerPolicy
from state.records import ZERO, Account, CorporateAction, Lot, RealizedRow, ReliefMethod, Transaction

ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a lot came to be; shared by all its parcels."""

    lot_id: str
    acquired: date
    sequence: int  # breaks ties of `acquired`: the order in which the replay met the acquisitions
    symbol: str  # as it was bought: a spun-off share was bought as its parent
    is_purchase: bool  # can replace shares sold at a loss (Reg. §1.1091-1(f))
    inherited: bool  # always long-term (IRC §1223(9))
    basis_known: bool
    source: str
    received: date | None = None  # the day of the gift, where the donor's dates are the lot's
    purchase_id: str = ""  # first fill of the day: an order filled over several days is one lot of several purchases


@dataclass(slots=True, eq=False)
class Sale:
    """A sale while its parcels are being disposed of; hands out proceeds so that the parts sum to the whole."""

    sale_id: str
    account_id: str
    symbol: str
    disposed: date
    price: Decimal
    fees: Decimal
    quantity: Decimal
    proceeds_left: Decimal
    quantity_left: Decimal
    entered: date | None = None  # of the short sale it closes by delivery

    def counted_on(self, parcel: Parcel) -> date:
        """The day the wash-sale window and the term count from: that of the short sale for shares owned then."""
        if self.entered is None or parcel.origin.acquired > self.entered:
            return self.disposed
        return self.entered

    def proceeds_of(self, quantity: Decimal) -> Decimal:
        """Proceeds of the next `quantity` shares, net of their share of the fees."""
        if quantity == self.quantity_left:
            part = self.proceeds_left
        else:
            part = quantity * self.price
            if self.fees:
                part -= apportion(self.fees, quantity, self.quantity)
        self.proceeds_left -= part
        self.quantity_left -= quantity
        return part


@dataclass(slots=True, eq=False)
class Parcel:
    """Shares of one lot that are taxed alike. `basis` is the total, with `wash` of disallowed loss in it."""

    origin: Origin
    account_id: str
    symbol: str
    quantity: Decimal
    basis: Decimal
    adjusted: date
    wash: Decimal = ZERO
    replaces: bool = False  # already used as replacement: each share once (Reg. §1.1091-1(e))
    sale: Sale | None = None  # being sold in the trade now processed
    loss_basis: Decimal | None = None  # of a gift worth less than the donor's basis: what a loss is measured from

    def measured(self, proceeds: Decimal) -> tuple[Decimal, date]:
        """Basis and start of the holding period for a sale at `proceeds`.

        A gift worth less than it cost the donor has two bases: a loss counts from its value on the day of the gift
        and is held since then; a gain from the donor's; between the two there is neither (IRC §1015(a); Pub. 550).
        """
        if self.loss_basis is None or proceeds > self.basis:
            return self.basis, self.adjusted
        if proceeds >= self.loss_basis:
            return proceeds, self.adjusted
        return self.loss_basis, self.origin.received or self.adjusted

    def take(self, quantity: Decimal) -> Parcel:
        """Splits `quantity` shares off into a parcel of their own; the parts' basis sums to the whole."""
        basis = apportion(self.basis, quantity, self.quantity)
        wash = apportion(self.wash, quantity, self.quantity) if self.wash else ZERO
        lower = None if self.loss_basis is None else apportion(self.loss_basis, quantity, self.quantity)
        part = Parcel(
            self.origin, self.account_id, self.symbol, quantity, basis, self.adjusted, wash, self.replaces, self.sale,
            lower,
        )  # fmt: skip
        if self.loss_basis is not None and lower is not None:
            self.loss_basis -= lower
        self.quantity -= quantity
        self.basis -= basis
        self.wash -= wash
        return part

    def copy(self) -> Parcel:
        """The same parcel, free to change."""
        return Parcel(
            self.origin,
            self.account_id,
            self.symbol,
            self.quantity,
            self.basis,
            self.adjusted,
            self.wash,
            self.replaces,
            loss_basis=self.loss_basis,
        )

    def as_lot(self) -> Lot:
        """The parcel as the record others see."""
        origin = self.origin
        return Lot(
            lot_id=origin.lot_id,
            account_id=self.account_id,
            symbol=self.symbol,
            acquired=origin.acquired,
            adjusted_acquired=self.adjusted,
            quantity=self.quantity,
            basis=self.basis,
            wash_adjustment=self.wash,
            basis_known=origin.basis_known,
            source=origin.source,
            always_long=origin.inherited,
            loss_basis=self.loss_basis,
        )


@dataclass(slots=True, eq=False)
class OpenLoss:
    """Shares sold at a loss that no purchase has replaced yet. `loss` is positive."""

    row: int  # position in Book.rows
    sold: date
    symbol: str
    lot_id: str
    start: date  # adjusted acquisition date of the shares sold
    quantity: Decimal
    loss: Decimal
    amount_known: bool = True  # False: basis unknown, so there may be a loss, of no known amount

    def copy(self) -> OpenLoss:
        """The same open loss, free to change."""
        return OpenLoss(
            self.row, self.sold, self.symbol, self.lot_id, self.start, self.quantity, self.loss, self.amount_known
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What a replay needs to know besides its transactions."""

    accounts: Mapping[str, Account]
    taxable: Mapping[str, bool]
    policy: LedgerPolicy
    identity: Classes  # groups and symbol changes
    calls: Mapping[str, tuple[str, Decimal]]  # call symbol -> (class of the underlying, multiplier)

    def relief(self, account_id: str) -> ReliefMethod:
        """The account's relief method."""
        return self.accounts[account_id].relief_method

    def shares_replaced(self, bought: str, sold: str) -> Decimal | None:
        """How many sold shares one unit of `bought` replaces; None when the two are not identical."""
        if bought == sold:
            return ONE
        bought_class, sold_class = self.identity.of(bought), self.identity.of(sold)
        if bought_class == sold_class:
            return ONE
        call = self.calls.get(bought)
        return call[1] if call is not None and call[0] == sold_class else None


Queue = list[Parcel]


@dataclass(slots=True, eq=False)
class Book:
    """Replay state of one unit: symbols whose trades can touch each other's lots."""

    rules: Rules
    queues: dict[tuple[str, str], Queue] = field(default_factory=dict)  # (account, symbol) -> parcels
    losses: list[OpenLoss] = field(default_factory=list)  # in order of disposition
    first_loss: int = 0  # losses before it are out of every later purchase's window
    rows: list[RealizedRow] = field(default_factory=list)
    shorts: Queue = field(default_factory=list)  # open short sales, their proceeds in `basis` (shorts.py)
    short_losses: list[OpenLoss] = field(default_factory=list)
    sequence: int = 0
    orders: dict[tuple[str, str, str], tuple[str, date]] = field(default_factory=dict)  # (account, symbol, order) of
    # each purchase so far -> its lot, and the last day on which it was filled
    purchase_of_fill: dict[str, str] = field(default_factory=dict)  # later fills of a day -> the first of their order
    successors: dict[str, str] = field(default_factory=dict)  # rows corrected -> the rows that stand for them
    splits: SplitReports = field(default_factory=dict)  # already applied or reported again
    selling: Queue = field(default_factory=list)  # parcels of the trade now processed, in the order of processing
    last_date: date = date.min  # of the last event
    last_at: datetime | None = None  # latest known instant on last_date
    last_event: Transaction | CorporateAction | None = None
    last_trade: Transaction | None = None  # first of the sales that last_event is one trade with

    def copy(self) -> Book:
        """A book that can go on without touching this one. Losses out of every window are left behind."""
        return Book(
            rules=self.rules,
            queues={key: [parcel.copy() for parcel in queue] for key, queue in self.queues.items() if queue},
            losses=[loss.copy() for loss in self.losses[self.first_loss :] if loss.quantity],
            rows=list(self.rows),
            shorts=[short.copy() for short in self.shorts],
            short_losses=[loss.copy() for loss in self.short_losses],
            sequence=self.sequence,
            orders=dict(self.orders),
            purchase_of_fill=dict(self.purchase_of_fill),
            successors=self.successors,
            splits=dict(self.splits),
            last_date=self.last_date,
            last_at=self.last_at,
            last_event=self.last_event,
            last_trade=self.last_trade,
        )

    def queue(self, account_id: str, symbol: str) -> Queue:
        """The parcels held in an account, created when absent."""
        key = (account_id, symbol)
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = []
        return queue

    def order_key(self, parcel: Parcel) -> tuple[date, int, int, bool]:
        """Place of a parcel in its queue: acquisition first, then the convention `sublot_order`.

        Parcels of one lot with one start stay in the order in which they became replacement.
        """
        origin = parcel.origin
        start = parcel.adjusted.toordinal()
        if self.rules.policy.sublot_order == "adjusted_first":
            return origin.acquired, origin.sequence, start, not parcel.replaces
        return origin.acquired, origin.sequence, -start, parcel.replaces

    def insert(self, parcel: Parcel) -> None:
        """Puts a parcel at its place in the queue of its account and symbol."""
        queue = self.queue(parcel.account_id, parcel.symbol)
        if not queue or self.order_key(queue[-1]) <= self.order_key(parcel):
            queue.append(parcel)
        else:
            queue.insert(bisect_right(queue, self.order_key(parcel), key=self.order_key), parcel)

    def remove(self, parcel: Parcel) -> None:
        """Takes a parcel out of its queue."""
        self.queues[parcel.account_id, parcel.symbol].remove(parcel)

    def split(self, parcel: Parcel, quantity: Decimal) -> Parcel:
        """Splits `quantity` shares off a held parcel; the part is held, and being sold if the parcel is."""
        part = parcel.take(quantity)
        queue = self.queues[parcel.account_id, parcel.symbol]
        queue.insert(queue.index(parcel) + 1, part)
        if part.sale is not None:
            self.selling.insert(self.selling.index(parcel), part)
        return part

    def held(self, symbol: str) -> Iterator[Queue]:
        """Queues of `symbol`, account by account."""
        for (_, held_symbol), queue in sorted(self.queues.items(), key=lambda item: item[0]):
            if held_symbol == symbol and queue:
                yield queue
