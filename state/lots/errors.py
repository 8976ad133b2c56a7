"""What the ledger refuses, named by what the daemon does about it.

Every message says which transaction, what was expected, what was seen and what to do next. The ledger never
guesses: a refused replay leaves the previous ledger as it was.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Stops the replay: nothing computed from this journal may be used until a person has looked.

    `transaction_id`, `account_id` and `symbol` say where, so that the daemon can lock the symbol.
    """

    def __init__(
        self, message: str, *, transaction_id: str = "", account_id: str = "", symbol: str | None = None
    ) -> None:
        super().__init__(message)
        self.transaction_id = transaction_id
        self.account_id = account_id
        self.symbol = symbol


class InvalidTransactionError(LedgerError):
    """Refused at the door: the row is malformed (a float, a missing symbol, a negative quantity). Needs a person."""


class ConflictingTransactionError(LedgerError):
    """Two different rows carry one transaction id. Needs a person: a correction is a new row that supersedes."""


class UnknownAccountError(LedgerError):
    """A transaction names an account the household does not have. Needs a person: add the account."""


class OversoldError(LedgerError):
    """Locks the symbol: more shares leave an account than the journal knows it holds."""


class UnknownLotError(LedgerError):
    """Locks the symbol: a sale names a lot that the account does not hold."""


class AmbiguousLotError(LedgerError):
    """Locks the symbol: the lots a sale names do not add up to the shares it sold."""


class UnsupportedTransactionError(LedgerError):
    """Needs a person: the ledger does not know the tax treatment of this row and will not guess it."""


class UnknownConventionError(LedgerError):
    """Refused at the door: no such convention, or no such value of it."""
