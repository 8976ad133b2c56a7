"""Reason codes: why something was refused, blocked, skipped or done. `CATEGORY_CONDITION: key=value ...`.

Every member carries the sentence a user reads in `docs/REASONS.md`, which is generated from this enum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReasonCode(StrEnum):
    """Closed list of reason codes, each with its plain-English meaning."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> ReasonCode:
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    # why a plan trades at all
    TRIGGER_HARVEST = "TRIGGER_HARVEST", "A loss has become deep enough to be worth taking."
    TRIGGER_TRACKING_ERROR = "TRIGGER_TRACKING_ERROR", "Expected tracking error is above its limit."
    TRIGGER_DRIFT = "TRIGGER_DRIFT", "A weight has moved too far from the benchmark."
    TRIGGER_CASH = "TRIGGER_CASH", "There is more cash than the target allows."
    TRIGGER_SCHEDULE = "TRIGGER_SCHEDULE", "The scheduled rebalancing is due."

    # what becomes of a loss lot
    HARVEST_TAKEN = "HARVEST_TAKEN", "The loss is taken in this plan."
    HARVEST_BELOW_TRIGGER = "HARVEST_BELOW_TRIGGER", "The loss is not yet deep enough; waiting is worth more."
    HARVEST_TOO_SMALL = "HARVEST_TOO_SMALL", "The loss is smaller than the least amount worth an order."
    HARVEST_NOT_SELECTED = "HARVEST_NOT_SELECTED", "The optimizer left it out: tracking error or cost outweighs it."
    RELIEF_BEHIND_GAINS = (
        "RELIEF_BEHIND_GAINS",
        "The broker would sell gain lots first, and they cost more than the loss.",
    )
    HARVEST_BASIS_UNKNOWN = (
        "HARVEST_BASIS_UNKNOWN",
        "A lot whose basis is not known would be sold first; import its basis to reach the losses.",
    )
    REPLACEMENT_NONE_FREE = "REPLACEMENT_NONE_FREE", "No replacement is outside every wash-sale window."

    # wash sales
    WASH_PURCHASE_IN_WINDOW = (
        "WASH_PURCHASE_IN_WINDOW",
        "The household bought this security within 30 days; a loss sale now would be disallowed.",
    )
    WASH_LOSS_SALE_IN_WINDOW = (
        "WASH_LOSS_SALE_IN_WINDOW",
        "The household sold this security at a loss within 30 days; buying it now would disallow that loss.",
    )
    WASH_WHAT_IF_DISALLOWS = (
        "WASH_WHAT_IF_DISALLOWS",
        "Replaying the plan on the ledger shows a disallowed loss it did not declare.",
    )
    WASH_IN_FLIGHT = "WASH_IN_FLIGHT", "A conflicting trade of the household became known after the plan was made."

    # limits of a plan or an order
    LIMIT_ORDER_SIZE = "LIMIT_ORDER_SIZE", "The order is larger than the largest order allowed."
    LIMIT_DAILY_NOTIONAL = "LIMIT_DAILY_NOTIONAL", "The day's orders together are larger than allowed."
    LIMIT_PRICE_COLLAR = "LIMIT_PRICE_COLLAR", "The price is too far from the previous close."
    LIMIT_TRACKING_ERROR = "LIMIT_TRACKING_ERROR", "The plan's tracking error would be above its limit."
    LIMIT_CASH = "LIMIT_CASH", "The plan would spend more cash than there is."
    LIMIT_LONG_ONLY = "LIMIT_LONG_ONLY", "The plan would sell more shares than are held."
    LIMIT_CONSERVATION = "LIMIT_CONSERVATION", "More would be submitted than was planned."
    LIMIT_RELIEF_ORDER = "LIMIT_RELIEF_ORDER", "The plan promises lots that the broker would not sell."
    LIMIT_RESTRICTED = "LIMIT_RESTRICTED", "The symbol is on the restricted list."
    LIMIT_NOT_ALLOWED = (
        "LIMIT_NOT_ALLOWED",
        "The symbol is neither in the benchmark nor held, or not on your list.",
    )
    LIMIT_ORDER_RATE = "LIMIT_ORDER_RATE", "More orders left within a minute than allowed; the rest wait."
    LIMIT_REPEATS = "LIMIT_REPEATS", "As many orders of this symbol and side as a session may have were sent already."
    LIMIT_PACE = "LIMIT_PACE", "The order is large for the symbol's volume; its next slice waits a while."
    LIMIT_GOOD_FAITH = (
        "LIMIT_GOOD_FAITH",
        "In a cash account, shares bought with proceeds that have not settled are not sold before they have.",
    )
    LIMIT_CHECK_FAILED = "LIMIT_CHECK_FAILED", "A check could not be made; what cannot be checked does not pass."
    LIMIT_TURNOVER = "LIMIT_TURNOVER", "The plan trades more than the turnover limit allows."

    # approvals
    APPROVAL_ORDER_VALUE = "APPROVAL_ORDER_VALUE", "An order is worth more than approvals.order_usd."
    APPROVAL_PLAN_VALUE = "APPROVAL_PLAN_VALUE", "The plan's gross value exceeds approvals.plan_pct_nav."
    APPROVAL_GAIN = "APPROVAL_GAIN", "The plan realizes more gain than approvals.gain_usd."
    APPROVAL_CHANGED = "APPROVAL_CHANGED", "At fresh prices the approved plan differs materially; it asks again."
    APPROVAL_EXPIRED = "APPROVAL_EXPIRED", "Nobody answered before the approval expired."
    APPROVAL_REJECTED = "APPROVAL_REJECTED", "A person rejected the plan."
    APPROVAL_PREAPPROVED = "APPROVAL_PREAPPROVED", "The user has pre-approved this kind of trade below this size."

    # market, data and state
    MARKET_CLOSED = "MARKET_CLOSED", "The market is closed, or too near its close."
    MARKET_CLOCKS_DISAGREE = (
        "MARKET_CLOCKS_DISAGREE",
        "The exchange calendar and the broker disagree about the market being open.",
    )
    ACCOUNT_MISMATCH = "ACCOUNT_MISMATCH", "The broker's account is not the one that the configuration names."
    ACCOUNT_RESTRICTED = "ACCOUNT_RESTRICTED", "The broker has blocked or restricted the account."
    MODE_OBSERVES = "MODE_OBSERVES", "harvestd only observes: this process has no way to send an order."
    MARKET_HALTED = "MARKET_HALTED", "Trading in the symbol is halted."
    QUOTE_MISSING = "QUOTE_MISSING", "There is no usable quote."
    QUOTE_STALE = "QUOTE_STALE", "The quote is too old."
    QUOTE_WIDE = "QUOTE_WIDE", "The spread is too wide or crossed."
    DATA_BAD_QUOTES = (
        "DATA_BAD_QUOTES",
        "Too many symbols have no quote to trust; nothing is traded on the others.",
    )
    CLOCK_JUMPED = "CLOCK_JUMPED", "This machine's clock jumped; nothing is traded until it agrees with the broker's."
    DATA_HISTORY_SHORT = "DATA_HISTORY_SHORT", "There is not enough price history for a risk model."
    DATA_QUARANTINED = (
        "DATA_QUARANTINED",
        "Something is wrong with the security's prices, or what it is; `harvestd data findings` says what.",
    )
    STATE_NOT_OPEN = "STATE_NOT_OPEN", "The daemon's state does not allow orders."
    STATE_HALTED = "STATE_HALTED", "Trading is halted until `harvestd resume`."
    SYMBOL_LOCKED = (
        "SYMBOL_LOCKED",
        "Our lots and the broker's position differ, or an order's fate is unknown; the symbol is locked.",
    )
    SYMBOL_UNSETTLED = (
        "SYMBOL_UNSETTLED",
        "Something happened to the security that a person has to look at; the symbol is locked until it is settled.",
    )
    LEDGER_UNREADABLE = (
        "LEDGER_UNREADABLE",
        "The symbol's history cannot have happened as it is told; it is locked, and its figures stand as told before.",
    )
    SYMBOL_NOT_TRADABLE = "SYMBOL_NOT_TRADABLE", "The broker does not trade this symbol."
    SYMBOL_NOT_FRACTIONABLE = "SYMBOL_NOT_FRACTIONABLE", "The broker does not take fractions of this symbol."

    # the optimizer
    PLAN_INFEASIBLE = "PLAN_INFEASIBLE", "No set of trades meets every limit; the limits in conflict are named."
    PLAN_SOLVER_FAILED = "PLAN_SOLVER_FAILED", "The solver gave no usable answer."
    PLAN_NOTHING_TO_DO = "PLAN_NOTHING_TO_DO", "Nothing worth trading."
    PLAN_DUPLICATE = "PLAN_DUPLICATE", "This plan has already been recorded for this session."

    # orders at the broker
    ORDER_REJECTED = "ORDER_REJECTED", "The broker refused the order."
    ORDER_INSUFFICIENT_CASH = "ORDER_INSUFFICIENT_CASH", "The account has not enough cash."
    ORDER_INSUFFICIENT_SHARES = "ORDER_INSUFFICIENT_SHARES", "The account has not enough shares."
    ORDER_DUPLICATE_ID = "ORDER_DUPLICATE_ID", "The client order id was used before."
    ORDER_SELF_TRADE = (
        "ORDER_SELF_TRADE",
        "An open order of the account stands on the other side of the same symbol; the broker lets no account trade "
        "with itself (FINRA 5210, not the tax rule).",
    )
    ORDER_INVALID = "ORDER_INVALID", "The order is malformed or asks for something the venue cannot do."
    ORDER_CANCELLED = (
        "ORDER_CANCELLED",
        "The order was cancelled before it filled: at its time, by a halt, or by somebody.",
    )
    ORDER_EXPIRED = "ORDER_EXPIRED", "The broker ended the order before it filled."
    ORDER_CONTRADICTED = (
        "ORDER_CONTRADICTED",
        "The broker has another order under this order's id; its symbol is locked until its session is over.",
    )
    ORDER_DEADLINE = "ORDER_DEADLINE", "The order's deadline passed."
    ORDER_UNFUNDED = "ORDER_UNFUNDED", "The sells that were to fund this buy brought in too little."
    ORDER_OUTCOME_UNKNOWN = "ORDER_OUTCOME_UNKNOWN", "The broker's answer was lost; its records will settle it."
    ORDER_STUCK = "ORDER_STUCK", "The time of the order is over, and the order is not; its symbol stays locked."
    STORAGE_FAILED = "STORAGE_FAILED", "Nothing can be written to disk; what cannot be recorded is not sent."
    SCHEDULE_MISSED = "SCHEDULE_MISSED", "No decision was taken in the session's window."
    PLAN_ENDED = "PLAN_ENDED", "The plan this order belonged to has ended."


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason code with its details, printed as `CODE: key=value key=value`."""

    code: ReasonCode
    details: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.details:
            return self.code.value
        return f"{self.code.value}: " + " ".join(f"{key}={value}" for key, value in self.details)


def because(code: ReasonCode, **details: object) -> Reason:
    """A Reason with its details in the order given."""
    return Reason(code, tuple((key, str(value)) for key, value in details.items()))
