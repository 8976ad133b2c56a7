"""A household and short ways of writing its journal, for the tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from state.lots import Ledger, LedgerPolicy
from state.records import Account, AccountType, LotSelection, RealizedRow, ReliefMethod, Transaction, TransactionKind

HOUSEHOLD = (
    Account("mine", AccountType.TAXABLE),
    Account("spouse", AccountType.SPOUSE_TAXABLE),
    Account("ira", AccountType.IRA),
    Account("lifo", AccountType.TAXABLE, ReliefMethod.LIFO),
    Account("hifo", AccountType.TAXABLE, ReliefMethod.HIFO),
    Account("specific", AccountType.TAXABLE, ReliefMethod.SPECIFIC),
)


def row(
    transaction_id: str,
    kind: str,
    day: str,
    quantity: str = "0",
    price: str = "0",
    *,
    account: str = "mine",
    symbol: str = "X",
    at: str | None = None,
    lots: Iterable[tuple[str, str]] = (),
    **others: Any,
) -> Transaction:
    """One journal row. `at` is "HH:MM", `lots` pairs of lot id and quantity."""
    trade_date = date.fromisoformat(day)
    return Transaction(
        transaction_id=transaction_id,
        account_id=account,
        kind=TransactionKind(kind),
        trade_date=trade_date,
        source="test",
        symbol=symbol,
        quantity=Decimal(quantity),
        price=Decimal(price),
        executed_at=None if at is None else datetime.combine(trade_date, time.fromisoformat(at), tzinfo=UTC),
        lots=tuple(LotSelection(lot_id, Decimal(shares)) for lot_id, shares in lots),
        **others,
    )


def replay(*rows: Transaction, policy: LedgerPolicy = LedgerPolicy()) -> Ledger:  # noqa: B008
    """The household's ledger."""
    return Ledger.replay(HOUSEHOLD, rows, policy)


def told(rows: Iterable[RealizedRow]) -> list[tuple[str, str, str, str, str]]:
    """(sale, lot, quantity, gain or loss, disallowed) of each row, in plain decimals."""
    return [
        (each.sale_id, each.lot_id, short(each.quantity), short(each.gain_loss), short(each.disallowed))
        for each in rows
    ]


def held(ledger: Ledger, account: str | None = None) -> list[tuple[str, str, str, str]]:
    """(lot, adjusted start, quantity, basis) of each open lot."""
    return [
        (lot.lot_id, str(lot.adjusted_acquired), short(lot.quantity), short(lot.basis))
        for lot in ledger.open_lots(account)
    ]


def short(number: Decimal) -> str:
    """A decimal without trailing zeros or exponent."""
    return format(number.normalize() + 0, "f")
