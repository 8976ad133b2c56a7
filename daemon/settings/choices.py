"""The closed lists that settings choose from. What the other packages need too is in `state.records`."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How far harvestd may go."""

    DEMO = "demo"  # real past prices and the built-in broker; set by `harvestd demo` alone
    OBSERVE = "observe"  # reads a real account, plans every night, cannot send
    PAPER = "paper"  # trades a paper account
    LIVE = "live"  # trades real money; needs `harvestd go-live`


class BrokerName(StrEnum):
    """Where an account is held."""

    ALPACA = "alpaca"  # alpaca.markets
    SIMULATED = "simulated"  # the built-in venue
    IMPORT = "import"  # known only by imported files; never traded


class QuoteFeed(StrEnum):
    """Where Alpaca's quotes come from."""

    IEX = "iex"  # one exchange, about 3 % of the volume; free
    SIP = "sip"  # all exchanges; a paid subscription


class AccountKind(StrEnum):
    """Which of a person's accounts at the broker."""

    PAPER = "paper"  # the broker's own simulation
    LIVE = "live"  # real money


class BenchmarkKind(StrEnum):
    """Where the benchmark's weights come from."""

    EQUAL_WEIGHT = "equal_weight"  # every symbol of the list weighs the same
    CONSTITUENTS_FILE = "constituents_file"  # a file of symbols and weights


class BenchmarkRebalance(StrEnum):
    """How often an equal-weighted benchmark returns to equal weights."""

    QUARTERLY = "quarterly"  # the first session of January, April, July and October
    MONTHLY = "monthly"  # the first session of the month
    NONE = "none"  # never: weights drift with prices


class IdenticalPolicy(StrEnum):
    """What counts as substantially identical."""

    SYMBOL = "symbol"  # same CUSIP or symbol
    INDEX = "index"  # as symbol, and funds that declare the same index, and classes of one fund


class BlockRebuyAfter(StrEnum):
    """Which sales close a name to purchases for 30 days."""

    LOSS_SALE = "loss_sale"  # the rule of the law
    ANY_SALE = "any_sale"  # stricter, as some rebalancers do


# The conventions of the ledger, with its own names and values (state/lots/policy.py): a test holds the two together.


class Tacking(StrEnum):
    """How the time that the sold shares were held passes on to the shares that replace them."""

    UNION = "union"  # no day counts twice, and none between sale and purchase
    ADDITIVE = "additive"  # days on which both were held count twice, as at several brokers
    HOLDING_DATE = "holding_date"  # from the sold shares' start, days between sale and purchase included


class Simultaneous(StrEnum):
    """Whether lots sold in one trade can replace each other."""

    SEQUENTIAL = "sequential"  # they can: one after the other, and a lot not yet reached still counts as held
    ECONOMIC = "economic"  # they cannot


class OlderLots(StrEnum):
    """Whether a purchase of the window that is older than the lot sold can replace it."""

    INCLUDE = "include"  # it can: the law read literally, and the safer reading
    EXCLUDE = "exclude"  # it cannot


class WithinLot(StrEnum):
    """Which shares of a lot that is sold in part replace first."""

    KEPT_FIRST = "kept_first"  # those that stay
    SOLD_FIRST = "sold_first"  # those sold in the same trade, as public calculators do


class SublotOrder(StrEnum):
    """Which part of a lot is sold first when a wash sale gave its parts different holding periods."""

    ADJUSTED_FIRST = "adjusted_first"  # the part with the longer holding period
    UNADJUSTED_FIRST = "unadjusted_first"  # the part with the shorter one


class RebalanceAt(StrEnum):
    """When a plan is due by the calendar alone."""

    QUARTERLY = "quarterly"  # the first session of the quarter
    MONTHLY = "monthly"  # the first session of the month
    NEVER = "never"  # only drift, tracking error, cash and harvests lead to a plan


class PreapprovedKind(StrEnum):
    """Trades that the user can approve beforehand."""

    HARVEST = "harvest"  # a harvest with its replacement
    HOMECOMING = "homecoming"  # a replacement sold to go back to the name
    REBALANCE = "rebalance"  # towards the benchmark
    DEPOSIT = "deposit"  # new cash invested
    RAISE_CASH = "raise_cash"  # sold to fund a withdrawal


class NotifierKind(StrEnum):
    """Where alerts go."""

    LOG = "log"  # the log of the daemon


class LogFormat(StrEnum):
    """How log lines look."""

    CONSOLE = "console"  # for people
    JSON = "json"  # for machines: one object a line


class LogLevel(StrEnum):
    """The least important line that is logged."""

    DEBUG = "debug"  # every step
    INFO = "info"  # what was done
    WARNING = "warning"  # what did not go as planned
    ERROR = "error"  # what a person should look at
