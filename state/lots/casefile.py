"""Case files: trades in, lots out, in the format of the worked tax cases (`cases/README.md`).

Worked example. A case of one purchase at 100, one sale at 80 and a repurchase at 90 a fortnight later becomes three
transactions of one account; its answer is one sale with a row of loss 20, disallowed 20, and one open lot of basis 110.

The document arrives parsed; YAML's floats are read through their shortest decimal text, so 16.35 is 16.35. Every number
out is a decimal string, money rounded half-up to cents. Accounts that are not taxable have no open lots in the answer.

A case that needs what the ledger does not know is refused, never answered: one UnsupportedTransactionError names all
such cases and what each lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

from state.lots.errors import InvalidTransactionError, LedgerError, UnknownConventionError, UnsupportedTransactionError
from state.lots.ledger import Ledger
from state.lots.money import CONTEXT, cents, plain
from state.lots.policy import CallOption, LedgerPolicy, conventions
from state.records import (
    Account,
    AccountType,
    CorporateAction,
    CorporateActionKind,
    Lot,
    LotSelection,
    RealizedRow,
    ReliefMethod,
    Transaction,
    TransactionKind,
)

METHODS = {
    "FIFO": ReliefMethod.FIFO,
    "LIFO": ReliefMethod.LIFO,
    "HIFO": ReliefMethod.HIFO,
    "SPECID": ReliefMethod.SPECIFIC,
    "AVG": ReliefMethod.FIFO,  # averaged basis, holding periods first in, first out
}
SIDES = {
    "buy": TransactionKind.BUY,
    "sell": TransactionKind.SELL,
    "drip": TransactionKind.DRIP,
    "award": TransactionKind.AWARD,
    "inherit": TransactionKind.INHERIT,
    "gift_out": TransactionKind.GIFT_OUT,
    "transfer": TransactionKind.TRANSFER,
    "sell_short": TransactionKind.SELL_SHORT,
    "buy_to_cover": TransactionKind.BUY_TO_COVER,
    "deliver_to_cover": TransactionKind.DELIVER_TO_COVER,
}
ACTIONS = {
    "split": CorporateActionKind.SPLIT,
    "stock_dividend": CorporateActionKind.SPLIT,  # an identical one is a split by another name
    "spinoff": CorporateActionKind.SPINOFF,
    "stock_merger": CorporateActionKind.STOCK_MERGER,
    "cash_merger": CorporateActionKind.CASH_MERGER,
    "symbol_change": CorporateActionKind.SYMBOL_CHANGE,
    "return_of_capital": CorporateActionKind.RETURN_OF_CAPITAL,
}
LATER_SECTIONS = ("netting_cases", "rate_cases", "qualified_dividend_cases")


def replay_cases(document: Mapping[str, Any], conventions: Mapping[str, str] = {}) -> dict[str, Any]:
    """Replays every case of a parsed document; the promised JSON of `harvestd ledger replay`.

    `conventions` switches named conventions, for example {"tacking": "additive"}. Raises UnsupportedTransactionError
    naming the cases that need more than the ledger knows, UnknownConventionError, or any other LedgerError of a case.
    """
    policy = policy_of(conventions)
    later = [section for section in LATER_SECTIONS if document.get(section)]
    if later:
        raise UnsupportedTransactionError(
            f"Section {', '.join(later)}: expected only `cases`; netting, rates and qualified dividends come later. "
            "Remove the section from the file."
        )
    answers, refused = [], []
    for case in document.get("cases", ()):
        try:
            answers.append(replay_case(case, policy))
        except UnsupportedTransactionError as error:
            refused.append(f"{case.get('id')}: {error}")
        except LedgerError as error:
            error.add_note(f"in case {case.get('id')}")
            raise
    if refused:
        raise UnsupportedTransactionError("Cases that need more than the ledger knows:\n  " + "\n  ".join(refused))
    return {"cases": answers}


def policy_of(conventions_given: Mapping[str, str]) -> LedgerPolicy:
    """The policy with named conventions switched. Raises UnknownConventionError."""
    known = conventions()
    for name in conventions_given:
        if name not in known:
            raise UnknownConventionError(f"Convention: expected one of {', '.join(sorted(known))}, was {name!r}.")
    return LedgerPolicy(**conventions_given)  # type: ignore[arg-type]  # values are checked by the policy


def replay_case(case: Mapping[str, Any], policy: LedgerPolicy) -> dict[str, Any]:
    """One case: its sales and open lots."""
    with localcontext(CONTEXT):
        rows = list(case.get("transactions", ()))
        _refuse_ambiguous_delivery(rows)
        accounts = _accounts(case, rows)
        groups = tuple(frozenset(group) for group in case.get("options", {}).get("equivalence_groups", ()))
        calls = tuple({call.symbol: call for call in map(_call, rows) if call is not None}.values())
        transactions = [_transaction(row) for row in rows]
        actions = []
        for number, item in enumerate(case.get("corporate_actions", ()), start=1):
            if item["type"] == "cash_in_lieu":
                transactions.append(_cash_in_lieu(item, accounts))
            else:
                actions.append(_action(item, f"action{number}"))
        averaged = frozenset(row["symbol"] for row in rows if case.get("lot_method") == "AVG")
        policy = replace(policy, identical_groups=groups, call_options=calls, average_basis=averaged)
        ledger = Ledger.replay(accounts, transactions, policy, actions)
        taxable = {account.account_id for account in accounts if account.account_type.is_taxable}
        return {
            "id": case["id"],
            "sales": _sales(ledger.realized()),
            "open_lots": [_open_lot(lot) for lot in _joined(ledger.open_lots()) if lot.account_id in taxable],
        }


# ------------------------------------------------------------------ in


def _accounts(case: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Account]:
    """Every account a case mentions; one only named as the target of a transfer is like the one it comes from."""
    method = METHODS.get(case.get("lot_method", "FIFO"))
    if method is None:
        raise UnsupportedTransactionError(
            f"lot_method: expected one of {', '.join(METHODS)}, was {case['lot_method']}; no other method is known."
        )
    types: dict[str, AccountType] = {}
    for row in rows:
        kind = AccountType(row.get("account_type", "taxable"))
        if types.setdefault(row["account"], kind) is not kind:
            raise InvalidTransactionError(
                f"Transaction {row['id']}, account_type: expected {types[row['account']].value} as before in account "
                f"{row['account']}, was {kind.value}."
            )
    for row in rows:
        if row.get("to_account"):
            types.setdefault(row["to_account"], types[row["account"]])
    return [Account(account_id, kind, method) for account_id, kind in types.items()]


def _transaction(row: Mapping[str, Any]) -> Transaction:
    side, instrument = row["side"], row.get("instrument", "stock")
    if side not in SIDES:
        raise UnsupportedTransactionError(f"transaction {row['id']}: side {side} is not known.")
    if instrument not in ("stock", "call", "call_option"):
        raise UnsupportedTransactionError(f"transaction {row['id']}: instrument {instrument} is not known.")
    day = _date(row["date"])
    return Transaction(
        transaction_id=row["id"],
        account_id=row["account"],
        kind=SIDES[side],
        trade_date=day,
        source="case",
        symbol=row["symbol"],
        quantity=number(row["quantity"]),
        price=number(row.get("price", 0)) * number(row.get("multiplier", 1)),
        fees=number(row.get("fees", 0)),
        executed_at=_instant(day, row.get("time")),
        order_id=row.get("order_id"),
        lots=_lots(row),
        to_account_id=row.get("to_account"),
    )


def _lots(row: Mapping[str, Any]) -> tuple[LotSelection, ...]:
    """The lots sold or delivered; for a purchase that covers, the short sale it closes."""
    if row["side"] == "buy_to_cover" and "short_id" in row:
        return (LotSelection(row["short_id"], number(row["quantity"])),)
    named = row.get("lots") or row.get("deliver") or ()
    return tuple(LotSelection(each["lot"], number(each["quantity"])) for each in named)


def _refuse_ambiguous_delivery(rows: Sequence[Mapping[str, Any]]) -> None:
    """A delivery closes the earliest short sale; with several in one position the named one could be another."""
    shorts = [(row["account"], row["symbol"]) for row in rows if row["side"] == "sell_short"]
    for row in rows:
        if row["side"] == "deliver_to_cover" and shorts.count((row["account"], row["symbol"])) > 1:
            raise UnsupportedTransactionError(
                f"transaction {row['id']}: deliver_to_cover with several short sales of {row['symbol']} is not known."
            )


def _call(row: Mapping[str, Any]) -> CallOption | None:
    if row.get("instrument", "stock") == "stock" or "underlying" not in row:
        return None
    return CallOption(row["symbol"], row["underlying"], number(row.get("multiplier", 100)))


def _action(item: Mapping[str, Any], default_id: str) -> CorporateAction:
    kind = ACTIONS.get(item["type"])
    if kind is None:
        raise UnsupportedTransactionError(f"corporate action {item['type']} is not known.")
    new, old = _ratio(item.get("ratio", "1:1"))
    return CorporateAction(
        action_id=item.get("id", default_id),
        kind=kind,
        symbol=item["symbol"],
        ex_date=_date(item["date"]),
        ratio_new=new,
        ratio_old=old,
        per_share=number(item.get("per_share", item.get("price", 0))),
        to_symbol=item.get("into", item.get("child")),
        basis_fraction=_fraction(item.get("child_basis_fraction", 0)),
    )


def _cash_in_lieu(item: Mapping[str, Any], accounts: Iterable[Account]) -> Transaction:
    """A fraction paid in cash is a sale of that fraction (Pub. 550 p. 32)."""
    quantity = number(item["quantity"])
    return Transaction(
        transaction_id=item["id"],
        account_id=item.get("account") or next(iter(accounts)).account_id,
        kind=TransactionKind.SELL,
        trade_date=_date(item["date"]),
        source="case",
        symbol=item["symbol"],
        quantity=quantity,
        price=number(item["amount"]) / quantity,
    )


def number(value: object) -> Decimal:
    """A YAML number as an exact decimal: 16.35 read as a float is 16.35."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise InvalidTransactionError(f"Expected a number, was {value!r}.") from None


def _fraction(value: object) -> Decimal:
    """A fraction, as "1/4" or as a number."""
    top, _, bottom = str(value).partition("/")
    return number(top) / number(bottom or "1")


def _ratio(value: object) -> tuple[Decimal, Decimal]:
    """A ratio new:old, as "3:1". Unquoted in YAML, 3:1 would be the number 181, so a number is refused."""
    new, colon, old = str(value).partition(":")
    if not colon:
        raise InvalidTransactionError(f'ratio: expected "new:old" in quotes, was {value!r}.')
    return number(new), number(old)


def _date(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _instant(day: date, clock: object) -> datetime | None:
    """The instant of a trade. Only the order of a day matters, so New York time is kept as it is written."""
    if clock is None:
        return None
    if isinstance(clock, int):  # YAML reads an unquoted 10:30 as 630 minutes
        clock = f"{clock // 60:02d}:{clock % 60:02d}"
    return datetime.combine(day, time.fromisoformat(str(clock)), tzinfo=UTC)


# ------------------------------------------------------------------ out


def _sales(rows: Sequence[RealizedRow]) -> list[dict[str, Any]]:
    """Rows by sale, in order of disposition."""
    sales: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        sales.setdefault(row.sale_id, []).append(_row(row))
    return [{"sale_id": sale_id, "lots": lots} for sale_id, lots in sales.items()]


def _row(row: RealizedRow) -> dict[str, Any]:
    return {
        "lot": row.lot_id,
        "acquired": row.acquired.isoformat(),
        "adjusted_acquired": row.adjusted_acquired.isoformat(),
        "quantity": plain(row.quantity),
        "proceeds": str(cents(row.proceeds)),
        "basis": str(cents(row.basis)),
        "gain_loss": str(cents(row.gain_loss)),
        "disallowed": str(cents(row.disallowed)),
        "permanently_disallowed": str(cents(row.permanently_disallowed)),
        "term": row.term.value,
    }


def _open_lot(lot: Lot) -> dict[str, Any]:
    return {
        "lot": lot.lot_id,
        "account": lot.account_id,
        "symbol": lot.symbol,
        "acquired": lot.acquired.isoformat(),
        "adjusted_acquired": lot.adjusted_acquired.isoformat(),
        "quantity": plain(lot.quantity),
        "basis": str(cents(lot.basis)),
    }


def _joined(lots: Iterable[Lot]) -> list[Lot]:
    """Parts of a lot that look alike (same start, same basis a share) as one; the replay keeps them apart."""
    result: list[Lot] = []
    for lot in lots:
        last = result[-1] if result else None
        if last is not None and _alike(last, lot):
            result[-1] = replace(last, quantity=last.quantity + lot.quantity, basis=last.basis + lot.basis)
        else:
            result.append(lot)
    return result


def _alike(one: Lot, other: Lot) -> bool:
    same = (one.lot_id, one.account_id, one.symbol, one.adjusted_acquired) == (
        other.lot_id,
        other.account_id,
        other.symbol,
        other.adjusted_acquired,
    )
    return same and abs(one.basis * other.quantity - other.basis * one.quantity) <= Decimal("1E-9")
