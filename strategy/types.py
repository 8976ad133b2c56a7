"""What the strategy is told and what it answers. Arrays of float64 live only here and below.

Axes: n names (in `names` order), T sessions, k factors, L lots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from state.reasons import Reason
from state.records import Lot, TradeReason

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class PriceHistory:
    """Total-return closes of finished sessions only.

    `closes` has shape (T, n), USD, NaN where a name has no price; `sessions` has length T, ascending.
    """

    names: tuple[str, ...]
    sessions: tuple[date, ...]
    closes: FloatArray


@dataclass(frozen=True)
class TaxProfile:
    """Marginal rates as fractions: what one more dollar of gain costs, what one more dollar of loss saves."""

    short_term_rate: float
    long_term_rate: float
    has_short_term_gains: bool = True  # False: losses offset long-term gains only, so one rate and no age step


@dataclass(frozen=True)
class HarvestPolicy:
    """The trigger's settings (docs/METHODS.md)."""

    multiplier: float = 1.0
    round_trip_cost_bps: float = 10.0
    ewma_lambda: float = 0.97
    long_term_trigger: float = 0.006  # fraction
    minimum_loss_usd: Decimal = Decimal(100)


@dataclass(frozen=True)
class Opportunity:
    """A prefix of one name's disposal queue that is worth selling at a loss, or the reason why it is not.

    `lots` are the lots in the order the account's relief method disposes of them, from the head of the queue;
    `loss_usd` is the net loss of the whole prefix (positive), `gross_loss_usd` its loss rows alone.
    """

    symbol: str
    lots: tuple[Lot, ...]
    price: Decimal
    loss_usd: Decimal
    gross_loss_usd: Decimal
    loss_fraction: float  # net loss / basis of the prefix
    trigger_fraction: float  # the loss fraction that would have been enough
    tax_value_usd: Decimal  # at the profile's rates, before cost
    days_held: int  # of the oldest loss lot in the prefix
    taken: bool
    verdict: Reason
    replacements: tuple[str, ...] = ()
    reason: TradeReason = TradeReason.HARVEST

    def with_replacements(self, replacements: tuple[str, ...]) -> Opportunity:
        """The same answer where other names may be bought instead. Lots that go home need none, and keep theirs."""
        return self if self.reason is TradeReason.HOMECOMING else replace(self, replacements=replacements)


@dataclass(frozen=True)
class BlockedLoss:
    """Losses the relief method keeps out of reach in one name."""

    symbol: str
    loss_usd: Decimal  # positive: sum over loss lots that stand behind a gain lot
    gains_in_front_usd: Decimal


@dataclass(frozen=True)
class WashMasks:
    """What the wash-sale calendar forbids today, by symbol: the last forbidden date and the reason."""

    no_buy: Mapping[str, tuple[date, str]] = field(default_factory=dict)
    no_loss_sale: Mapping[str, tuple[date, str]] = field(default_factory=dict)
