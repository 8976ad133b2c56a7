"""The plain frozen types every room speaks.

Money and quantities are `Decimal`; instants are timezone-aware UTC `datetime`s; trading dates are New York
`date`s. Quantities are always positive: the side or kind says the direction. Identifiers are strings and, for
anything that came from outside, the source's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)
CENT = Decimal("0.01")
QUANTUM = Decimal("0.000000001")  # nine decimals: the finest share quantity any venue accepts


# ------------------------------------------------------------------ accounts and securities


class AccountType(StrEnum):
    """Whose account it is and how the law treats it."""

    TAXABLE = "taxable"  # the taxpayer's own
    SPOUSE_TAXABLE = "spouse_taxable"  # treated as the taxpayer's own for wash sales
    IRA = "ira"  # purchases lose the loss for good (Rev. Rul. 2008-5)
    ROTH_IRA = "roth_ira"  # as ira
    SPOUSE_IRA = "spouse_ira"  # as ira, by convention
    PLAN_401K = "401k"  # as ira, by convention
    HSA = "hsa"  # as ira, by convention

    @property
    def is_taxable(self) -> bool:
        """True where sales are reported and basis can carry a disallowed loss."""
        return self in (AccountType.TAXABLE, AccountType.SPOUSE_TAXABLE)


class ReliefMethod(StrEnum):
    """Which lots a sale disposes of (Reg. §1.1012-1(c))."""

    FIFO = "fifo"  # earliest acquired first; the default of the law and of Alpaca
    LIFO = "lifo"  # latest acquired first, by standing order
    HIFO = "hifo"  # highest basis per share first, by standing order
    SPECIFIC = "specific"  # the sale names its lots

    @property
    def is_ordered(self) -> bool:
        """True when the method itself says which lots go first."""
        return self is not ReliefMethod.SPECIFIC


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the household."""

    account_id: str
    account_type: AccountType
    relief_method: ReliefMethod = ReliefMethod.FIFO
    broker: str = "import"  # "simulated", "alpaca"; "import" for accounts known only by imported files
    account_number: str = ""
    history_complete_since: date | None = None  # None: the journal is not known to be complete (I8)
    name: str = ""

    @property
    def is_managed(self) -> bool:
        """True when harvestd trades it; an imported account is only known about."""
        return self.broker != "import"


@dataclass(frozen=True, slots=True)
class Security:
    """A security as the broker knows it. `index_name` groups funds that declare the same index."""

    symbol: str
    name: str = ""
    cusip: str | None = None
    sector: str | None = None
    index_name: str | None = None
    tradable: bool = True
    fractionable: bool = False


# ------------------------------------------------------------------ the journal


class TransactionKind(StrEnum):
    """What a journal row records."""

    BUY = "buy"  # purchase for cash
    SELL = "sell"  # sale for cash
    DRIP = "drip"  # reinvested dividend: a purchase of its own
    AWARD = "award"  # shares taxed as pay: an acquisition
    INHERIT = "inherit"  # received by inheritance: not a purchase, always long-term
    GIFT_OUT = "gift_out"  # given away: no gain or loss
    GIFT_IN = "gift_in"  # received as a gift: not a purchase; the donor's basis and dates, for a loss the fair value
    TRANSFER = "transfer"  # between accounts of the household: not a purchase
    SELL_SHORT = "sell_short"  # opens a short position; only ever imported
    BUY_TO_COVER = "buy_to_cover"  # closes a short position by purchase; `lots` may name the short sale
    DELIVER_TO_COVER = "deliver_to_cover"  # closes a short position with shares held; `lots` may name them
    OPENING_LOT = "opening_lot"  # a lot that existed before the journal began, with its own acquisition date
    SPLIT = "split"  # ratio new:old on all lots of the symbol
    CASH_DIVIDEND = "cash_dividend"  # cash only
    DEPOSIT = "deposit"  # cash in from outside
    WITHDRAWAL = "withdrawal"  # cash out
    INTEREST = "interest"  # cash in
    FEE = "fee"  # cash out, not part of a trade
    RETURN_OF_CAPITAL = "return_of_capital"  # cash only; the corporate action lowers the basis
    ISSUER_ACTION = "issuer_action"  # a broker's line of a merger, rename or the like: cash only, the action moves lots
    SHARES_IN = "shares_in"  # shares that came without a basis: no lot until it is imported or adopted
    SHARES_OUT = "shares_out"  # shares that went elsewhere: no lot leaves until a person says which
    OTHER_CASH = "other_cash"  # cash of a kind harvestd has no rule for
    REMOVED = "removed"  # shares taken off the books at a person's word: no gain or loss, nothing known of where to


@dataclass(frozen=True, slots=True)
class LotSelection:
    """A lot named by a sale: the id of the acquiring lot and the quantity taken from it."""

    lot_id: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Transaction:
    """One row of the append-only journal.

    `transaction_id` is the source's own and unique; a correction is a new row whose `supersedes` names the old.
    `order_id` joins the partial fills of one order into one lot. `fees` raise the basis of a purchase and lower
    the proceeds of a sale. `amount` is the signed effect on cash (0 where no cash moves).
    """

    transaction_id: str
    account_id: str
    kind: TransactionKind
    trade_date: date
    source: str
    symbol: str | None = None
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    fees: Decimal = ZERO
    amount: Decimal = ZERO
    executed_at: datetime | None = None
    settle_date: date | None = None
    order_id: str | None = None
    client_order_id: str | None = None
    lots: tuple[LotSelection, ...] = ()
    ratio_new: Decimal | None = None  # a 3-for-1 split is ratio_new=3, ratio_old=1
    ratio_old: Decimal | None = None
    to_account_id: str | None = None
    acquired: date | None = None  # OPENING_LOT, GIFT_IN: when the lot's holding began, here or with the donor
    fair_value: Decimal | None = None  # GIFT_IN: market price a share on the day of the gift; `price` is the donor's
    supersedes: str | None = None
    recorded_at: datetime | None = None  # when harvestd learned of it; what was known at an instant
    note: str = ""


class CorporateActionKind(StrEnum):
    """What an issuer did to every share of a security, in every account at once."""

    SPLIT = "split"  # ratio new:old, also identical stock dividends; basis and dates unchanged
    SYMBOL_CHANGE = "symbol_change"  # the same security under another symbol
    STOCK_MERGER = "stock_merger"  # shares become ratio shares of another security; basis and dates carry over
    CASH_MERGER = "cash_merger"  # every share is sold at per_share
    SPINOFF = "spinoff"  # ratio shares of a child are added and take basis_fraction of the basis
    RETURN_OF_CAPITAL = "return_of_capital"  # per_share lowers the basis; what exceeds it is gain


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """One corporate action, a fact about a security. It takes effect before the market opens on `ex_date`, a cash
    merger after it closes."""

    action_id: str
    kind: CorporateActionKind
    symbol: str
    ex_date: date
    ratio_new: Decimal = Decimal(1)
    ratio_old: Decimal = Decimal(1)
    per_share: Decimal = ZERO  # USD a share
    to_symbol: str | None = None  # the new symbol, the acquirer or the child
    basis_fraction: Decimal = ZERO  # the child's part of the basis, by relative market value (Form 8937)


@dataclass(frozen=True, slots=True)
class CorporateNotice:
    """One corporate action as a source announces it, whether or not the ledger has a rule for it.

    `kind` is the source's own word (forward_split, cash_dividend, stock_and_cash_merger ...). `action` is what it does
    to lots; None where it does nothing to them (a cash dividend), or nothing that could be done without a person.
    """

    action_id: str
    kind: str
    symbol: str
    ex_date: date
    action: CorporateAction | None = None
    per_share: Decimal = ZERO  # cash in USD a share
    needs_person: bool = False  # shares or basis change in a way the ledger has no rule for
    note: str = ""


# ------------------------------------------------------------------ lots and realized rows


@dataclass(frozen=True, slots=True)
class Lot:
    """An open lot, as the replay derives it. `basis` is the adjusted total, not per share.

    `acquired` is the trade date of the purchase; `adjusted_acquired` is moved back by tacked wash-sale days and
    decides the term. `order_id` identifies the purchase ("one order is one lot").
    """

    lot_id: str
    account_id: str
    symbol: str
    acquired: date
    adjusted_acquired: date
    quantity: Decimal
    basis: Decimal
    wash_adjustment: Decimal = ZERO  # the part of basis that is disallowed loss carried in
    basis_known: bool = True
    covered: bool = True
    source: str = ""
    always_long: bool = False  # inherited: long-term from the first day (IRC §1223(9))
    loss_basis: Decimal | None = None  # total; of a gift worth less than the donor's basis, what a loss counts from

    @property
    def basis_per_share(self) -> Decimal:
        """Adjusted basis per share, in USD."""
        return self.basis / self.quantity

    def basis_at(self, price: Decimal) -> Decimal:
        """Total basis that a sale of all of it at `price` a share is measured from, in USD.

        It is `basis`, but for a gift worth less than it cost the donor: below that worth a loss counts from it, and
        between the two there is neither gain nor loss (IRC §1015(a)).
        """
        if self.loss_basis is None:
            return self.basis
        return min(self.basis, max(self.loss_basis, self.quantity * price))


class Term(StrEnum):
    """Character of a realized row."""

    SHORT = "ST"  # held one year or less
    LONG = "LT"  # held more than one year


@dataclass(frozen=True, slots=True)
class WashMatch:
    """Shares of one replacement purchase that disallow part of one loss."""

    replacement_id: str  # transaction id of the purchase (its order's first fill)
    replacement_account_id: str
    replacement_date: date
    quantity: Decimal
    disallowed: Decimal
    permanent: bool  # True where the replacement lies in an IRA or the like: no basis is adjusted


@dataclass(frozen=True, slots=True)
class RealizedRow:
    """One lot's part of one sale. `gain_loss` is before, `recognized` after disallowance (gain +, loss -)."""

    sale_id: str
    account_id: str
    symbol: str
    lot_id: str
    acquired: date
    adjusted_acquired: date
    disposed: date
    quantity: Decimal
    proceeds: Decimal
    basis: Decimal
    gain_loss: Decimal
    disallowed: Decimal
    permanently_disallowed: Decimal
    term: Term
    provisional_until: date | None  # a purchase up to this date can still disallow it; None for gains
    matches: tuple[WashMatch, ...] = ()

    @property
    def recognized(self) -> Decimal:
        """Gain or loss that counts, after disallowance."""
        return self.gain_loss + self.disallowed


@dataclass(frozen=True, slots=True)
class SaleFigures:
    """What a sale is told to have realized, in USD and cents. Terms are after disallowance (gain +, loss -)."""

    proceeds: Decimal
    basis: Decimal
    short_term: Decimal
    long_term: Decimal
    disallowed: Decimal
    permanently_disallowed: Decimal

    @property
    def recognized(self) -> Decimal:
        """Gain or loss that counts, of both terms."""
        return self.short_term + self.long_term


@dataclass(frozen=True, slots=True)
class Restatement:
    """Figures of a sale already told, and what they are now."""

    sale_id: str
    account_id: str
    symbol: str
    disposed: date
    before: SaleFigures
    after: SaleFigures
    matches: tuple[WashMatch, ...] = ()  # the purchases that newly disallow part of it
    causes: tuple[str, ...] = ()  # ids of the journal rows that were learned
    learned_at: datetime | None = None


# ------------------------------------------------------------------ the broker's records


@dataclass(frozen=True, slots=True)
class Quote:
    """Bid and ask with the instant they were made. `last` is the last trade or previous close."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal
    at: datetime

    @property
    def is_usable(self) -> bool:
        """True when bid and ask are finite and positive. (A NaN compares with nothing: it raises.)"""
        return self.bid.is_finite() and self.ask.is_finite() and self.bid > 0 and self.ask > 0

    @property
    def mid(self) -> Decimal:
        """Midpoint of bid and ask, in USD."""
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True)
class DailyBar:
    """One session's closing price. `adjusted` is the total-return series used for risk, never for lots."""

    symbol: str
    session: date
    close: Decimal
    adjusted: Decimal
    volume: Decimal | None = None


class Side(StrEnum):
    """Direction of a trade."""

    BUY = "buy"  # acquires shares
    SELL = "sell"  # disposes of shares

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    """How an order asks to be priced."""

    MARKET = "market"  # at the best price now
    LIMIT = "limit"  # at limit_price or better
    MARKET_ON_CLOSE = "market_on_close"  # in the closing auction


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What is sent to a broker. All orders are for the day."""

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None
    lots: tuple[LotSelection, ...] = ()  # only where the broker's capabilities allow


class BrokerOrderStatus(StrEnum):
    """What the broker says of an order."""

    WORKING = "working"  # accepted, nothing filled yet
    PARTLY_FILLED = "partly_filled"  # some filled, still working
    FILLED = "filled"  # all filled
    CANCELLED = "cancelled"  # ended by a cancel; may be partly filled
    EXPIRED = "expired"  # ended by the close; may be partly filled
    REJECTED = "rejected"  # refused after acceptance

    @property
    def is_final(self) -> bool:
        """True when the order can never fill again."""
        return self not in (BrokerOrderStatus.WORKING, BrokerOrderStatus.PARTLY_FILLED)


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker reports it."""

    broker_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    status: BrokerOrderStatus
    order_type: OrderType
    submitted_at: datetime
    limit_price: Decimal | None = None
    average_price: Decimal | None = None
    reason: str = ""


class ActivityKind(StrEnum):
    """What happened in a broker's account."""

    FILL = "fill"  # an execution
    CASH_DIVIDEND = "cash_dividend"  # cash paid on shares held; negative where a payment is taken back
    RETURN_OF_CAPITAL = "return_of_capital"  # cash that lowers the basis of the shares; `price` is USD a share
    SPLIT = "split"  # shares multiplied by ratio; the ratio is None where the broker's records do not tell it
    SYMBOL_CHANGE = "symbol_change"  # the same shares under `to_symbol`
    REORGANIZATION = "reorganization"  # merger, spin-off, tender, redemption: shares or cash of an issuer's action
    SHARES_IN = "shares_in"  # shares that came from elsewhere, without basis
    SHARES_OUT = "shares_out"  # shares that went elsewhere
    DEPOSIT = "deposit"  # cash in
    WITHDRAWAL = "withdrawal"  # cash out
    INTEREST = "interest"  # interest received (positive) or paid
    FEE = "fee"  # charge outside a trade, tax withheld at source among them
    OTHER = "other"  # nothing harvestd has a rule for: its cash is booked, and its symbol, if any, is locked


@dataclass(frozen=True, slots=True)
class Activity:
    """One line of the broker's account history, with the broker's own stable id."""

    activity_id: str
    kind: ActivityKind
    occurred_at: datetime
    trade_date: date
    symbol: str | None = None
    side: Side | None = None
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    amount: Decimal = ZERO  # signed effect on cash
    broker_order_id: str | None = None
    settle_date: date | None = None
    ratio_new: Decimal | None = None
    ratio_old: Decimal | None = None
    lots: tuple[LotSelection, ...] = ()  # lots the broker disposed of, where it says so
    to_symbol: str | None = None
    cancelled: bool = False  # the broker has taken this line back: it never happened
    unreadable: bool = False  # of kind OTHER: what the broker sent makes no sense; as sent in `note`
    note: str = ""  # the broker's own words for what it is, such as "DIV/SPD"


@dataclass(frozen=True, slots=True)
class BrokerAccount:
    """Account figures at the broker, in USD. Size on `cash`, never on buying power."""

    account_number: str
    cash: Decimal
    settled_cash: Decimal
    trading_blocked: bool = False
    multiplier: Decimal = Decimal(1)  # more than 1: the account could borrow; harvestd never does
    shorting_enabled: bool = False
    equity: Decimal | None = None  # what the broker says all of it is worth; advisory
    restrictions: tuple[str, ...] = ()  # in words: what the broker has blocked or flagged


@dataclass(frozen=True, slots=True)
class BrokerPosition:
    """Shares held at the broker. `cost_basis` is advisory: never used to overwrite the ledger."""

    symbol: str
    quantity: Decimal
    cost_basis: Decimal | None = None


@dataclass(frozen=True, slots=True)
class BrokerClock:
    """What the broker says of the time and the market."""

    at: datetime
    is_open: bool
    next_open: datetime
    next_close: datetime


@dataclass(frozen=True, slots=True)
class BrokerCapabilities:
    """What an adapter can do."""

    relief_methods: frozenset[ReliefMethod]  # methods the broker can dispose by
    fractional: bool
    lot_selection: bool  # an order may name its lots
    market_on_close: bool
    amends_history: bool = True  # lines of its history may later be told otherwise, or taken back
    lookups_before_resend: int = 3  # spaced lookups that must all miss before an order counts as never arrived


# ------------------------------------------------------------------ plans and intents


class PlanState(StrEnum):
    """Life of a plan."""

    PROPOSED = "proposed"  # computed, not yet decided
    BLOCKED = "blocked"  # a check refused it
    AWAITING_APPROVAL = "awaiting_approval"  # above a threshold
    APPROVED = "approved"  # a person or a pre-approval said yes
    REJECTED = "rejected"  # a person said no
    EXPIRED = "expired"  # nobody answered in time
    EXECUTING = "executing"  # its intents are being worked
    DONE = "done"  # every leg filled
    PARTLY_DONE = "partly_done"  # ended with some of it filled
    FAILED = "failed"  # ended with nothing filled

    @property
    def is_final(self) -> bool:
        """True when nothing more will happen to the plan."""
        return self not in (
            PlanState.PROPOSED,
            PlanState.AWAITING_APPROVAL,
            PlanState.APPROVED,
            PlanState.EXECUTING,
        )


class IntentState(StrEnum):
    """Life of an intent: one leg (or slice of a leg) meant to become exactly one broker order."""

    RECORDED = "recorded"  # on disk, never sent
    SUBMITTING = "submitting"  # about to be sent; after a crash its fate is looked up
    UNKNOWN = "unknown"  # sent, answer not understood; only the broker's records settle it
    WORKING = "working"  # the broker has it
    PARTLY_FILLED = "partly_filled"  # the broker has it and some is filled
    FILLED = "filled"  # all filled
    CANCELLED = "cancelled"  # ended by cancel; may be partly filled
    EXPIRED = "expired"  # ended by time, sent or not; may be partly filled
    REFUSED = "refused"  # our gate or the broker said no; nothing filled

    @property
    def is_final(self) -> bool:
        """True when the intent can never fill again."""
        return self in (
            IntentState.FILLED,
            IntentState.CANCELLED,
            IntentState.EXPIRED,
            IntentState.REFUSED,
        )


class TradeReason(StrEnum):
    """Why a leg is in a plan."""

    HARVEST = "harvest"  # sells at a loss on purpose
    REPLACEMENT = "replacement"  # bought with the proceeds of a harvest
    HOMECOMING = "homecoming"  # a replacement sold to go back to the unlocked name
    REBALANCE = "rebalance"  # brings weights back towards the benchmark
    DEPOSIT = "deposit"  # invests new cash
    RAISE_CASH = "raise_cash"  # sells to fund a withdrawal

    @property
    def is_harvest(self) -> bool:
        """True when a loss is taken on purpose."""
        return self in (TradeReason.HARVEST, TradeReason.HOMECOMING)


@dataclass(frozen=True, slots=True)
class PlannedLot:
    """One lot's part in a planned sale, in the order the broker will sell. `gain_loss` is an estimate at the
    plan's prices; `disallowed` is what the what-if says a wash sale would take of it."""

    lot_id: str
    acquired: date
    quantity: Decimal
    basis: Decimal
    term: Term
    gain_loss: Decimal
    disallowed: Decimal


@dataclass(frozen=True, slots=True)
class PlannedTrade:
    """One leg of a plan. `tie` joins the legs of one swap: a buy with a tie is funded by the sells of the same tie."""

    leg: int
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal  # the price the plan was made with: previous close or quote mid
    reason: TradeReason
    explanation: str
    tie: int | None = None
    lots: tuple[PlannedLot, ...] = ()
    replacement: tuple[str, ...] = ()  # for a harvest: what is bought instead
    days_held: int | None = None
    cost: Decimal = ZERO  # half spread, estimated, USD
    tracking_error_effect_bps: float | None = None  # ex-ante change of the whole plan if this leg were left out

    @property
    def notional(self) -> Decimal:
        """Value at the plan's price, in USD."""
        return self.quantity * self.price

    @property
    def gain_loss(self) -> Decimal:
        """Estimated gain (+) or loss (-) before disallowance."""
        return sum((lot.gain_loss for lot in self.lots), ZERO)

    @property
    def disallowed(self) -> Decimal:
        """Estimated disallowed loss, a positive amount."""
        return sum((lot.disallowed for lot in self.lots), ZERO)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one cycle wants to trade in one account, and why."""

    plan_id: str
    account_id: str
    session: date
    sequence: int
    created_at: datetime
    state: PlanState
    trades: tuple[PlannedTrade, ...]
    triggers: tuple[str, ...]  # reason codes with details
    nav: Decimal
    tracking_error_before_bps: float | None = None
    tracking_error_after_bps: float | None = None
    weights_before: Mapping[str, Decimal] = field(default_factory=dict)
    weights_planned: Mapping[str, Decimal] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()  # reason codes of the verdict
    notes: tuple[str, ...] = ()  # sentences: which limit could not be met, and why
    certified_gap_bp: float | None = None
    expires_at: datetime | None = None
    revision: int = 0  # raised when an approved plan is re-priced

    @property
    def gross_value(self) -> Decimal:
        """Sum of the legs' values, in USD."""
        return sum((trade.notional for trade in self.trades), ZERO)


@dataclass(frozen=True, slots=True)
class Intent:
    """One order we mean the broker to have exactly once. Table `orders`."""

    client_order_id: str
    plan_id: str
    account_id: str
    leg: int
    slice_number: int
    symbol: str
    side: Side
    quantity: Decimal
    state: IntentState
    session: date
    order_type: OrderType
    reference_price: Decimal
    tie: int | None = None
    limit_price: Decimal | None = None
    lots: tuple[LotSelection, ...] = ()
    broker_order_id: str | None = None
    submitted_quantity: Decimal = ZERO  # may be less than planned: proceeds shrink a buy, never grow it
    filled_quantity: Decimal = ZERO
    lookups: int = 0  # how often the broker was asked for it and did not know it
    refusals: int = 0  # how often the broker refused it for a reason that may pass
    reason: str = ""
    submitted_at: datetime | None = None
    updated_at: datetime | None = None


class AlertLevel(StrEnum):
    """How loud an alert is."""

    INFO = "info"  # worth knowing: a harvest done
    WARNING = "warning"  # something did not go as planned
    ERROR = "error"  # a person should look
    HALT = "halt"  # trading stopped


@dataclass(frozen=True, slots=True)
class Alert:
    """One incident, told once. `key` identifies the incident; `recovered` ends it."""

    key: str
    level: AlertLevel
    message: str
    raised_at: datetime
    recovered: bool = False
    sent_at: datetime | None = None
