"""The tax-lot ledger: a pure replay of the journal, the what-if on it, and the wash-sale calendar.

No I/O, no clock, no database. Start with `Ledger.replay`; read `wash.py` for the rule the package exists for.
"""

from state.lots.actions import in_effect
from state.lots.casefile import replay_cases
from state.lots.changes import Difference, difference
from state.lots.errors import (
    AmbiguousLotError,
    ConflictingTransactionError,
    InvalidTransactionError,
    LedgerError,
    OversoldError,
    UnknownAccountError,
    UnknownConventionError,
    UnknownLotError,
    UnsupportedTransactionError,
)
from state.lots.holding import WINDOW_DAYS, long_term_from, lot_term, term
from state.lots.ledger import Impossible, Ledger
from state.lots.policy import CallOption, LedgerPolicy, conventions
from state.lots.unit import Unreadable
from state.lots.wash_calendar import CalendarEntry, WashCalendar, wash_calendar
from state.lots.whatif import RealizedChange, WhatIf, what_if

__all__ = [
    "WINDOW_DAYS",
    "AmbiguousLotError",
    "CalendarEntry",
    "CallOption",
    "ConflictingTransactionError",
    "Difference",
    "Impossible",
    "InvalidTransactionError",
    "Ledger",
    "LedgerError",
    "LedgerPolicy",
    "OversoldError",
    "RealizedChange",
    "UnknownAccountError",
    "UnknownConventionError",
    "UnknownLotError",
    "Unreadable",
    "UnsupportedTransactionError",
    "WashCalendar",
    "WhatIf",
    "conventions",
    "difference",
    "in_effect",
    "long_term_from",
    "lot_term",
    "replay_cases",
    "term",
    "wash_calendar",
    "what_if",
]
