"""Case files: trades in, lots out, in the format of the worked tax cases (`cases/README.md`).

Worked example. A case of one purchase at 100, one sale at 80 and a repurchase at 90 a fortnight later becomes three
transactions of one account; its answer is one sale with a row of loss 20, disallowed 20, and one open lot of basis 110.

The document arrives parsed; YAML's floats are read through their shortest decimal text, so 16.35 is 16.35. Every number
out is a decimal string, money rounded half-up to cents. Accounts that are not taxable have no open lots in the answer.

A case that is malformed, or needs what the ledger does not know, is refused by its id and never answered; the others
are. The other sections of such a file (netting, rates, dividends) are not the ledger's: see daemon/casefiles.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
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
    "gift_in": TransactionKind.GIFT_IN,
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


BOOT = {"cash", "boot", "cash_per_share", "per_share", "price"}  # keys that would say cash is paid besides shares


def replay_cases(document: Mapping[str, Any], conventions: Mapping[str, str] = {}) -> dict[str, Any]:
    """Replays every case of the section `cases` of a parsed document, all or none.

    `conventions` switches named conventions, for example {"tacking": "additive"}. Raises UnsupportedTransactionError
    naming the cases that need more than the ledger knows, UnknownConventionError, or any other LedgerError of a case.
    """
    policy = policy_of(conventions)
    answers, unsupported = [], []
    for place, case in enumerate(document.get("cases", ())):
        try:
            answers.append(replay_one(case, policy))
        except UnsupportedTransactionError as error:
            unsupported.append(f"\n  {case_name(case, place)}: {error}")
        except LedgerError as error:
            error.add_note(f"in case {case_name(case, place)}")
            raise
    if unsupported:
        raise UnsupportedTransactionError(f"Cases that need more than the ledger knows:{''.join(unsupported)}")
    return {"cases": answers}


def case_name(case: object, place: int) -> str:
    """The id of a case, or its place in its section, counted from 1, where it has none."""
    named = isinstance(case, Mapping) and case.get("id") is not None
    return str(case["id"]) if isinstance(case, Mapping) and named else f"number {place + 1}"


def replay_one(case: Any, policy: LedgerPolicy) -> dict[str, Any]:
    """`replay_case`; what a malformed case trips over is raised as InvalidTransactionError."""
    try:
        return replay_case(case, policy)
    except KeyError as error:
        raise InvalidTransactionError(f"Expected the key {error}, was without it.") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise InvalidTransactionError(f"Expected a case in the format of tests/cases: {error}.") from error


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
        rows = _with_multipliers([_given(row) for row in case.get("transactions") or ()])
        _refuse_unknown(rows)
        _refuse_ambiguous_delivery(rows)
        accounts = _accounts(case, rows)
        options = _given(case.get("options") or {})
        groups = tuple(frozenset(group) for group in options.pop("equivalence_groups", ()))
        own: dict[str, Any] = {name: str(value) for name, value in options.items() if name in conventions()}
        calls = {call.symbol: call for call in map(_call, rows) if call is not None}
        transactions = [_transaction(row, at) for row, at in zip(rows, _instants(rows), strict=True)]
        actions = []
        for number, item in enumerate(map(_given, case.get("corporate_actions") or ()), start=1):
            if item["type"] == "cash_in_lieu":
                transactions.append(_cash_in_lieu(item, f"action{number}", accounts))
            else:
                actions.append(_action(item, f"action{number}"))
        averaged = frozenset(row["symbol"] for row in rows if case.get("lot_method") == "AVG")
        policy = replace(
            policy, identical_groups=groups, call_options=tuple(calls.values()), average_basis=averaged, **own
        )
        ledger = Ledger.replay(accounts, transactions, policy, actions)
        taxable = {account.account_id for account in accounts if account.account_type.is_taxable}
        return {
            "id": str(case["id"]),
            "sales": _sales(ledger.realized()),
            "open_lots": [_open_lot(lot) for lot in _joined(ledger.open_lots()) if lot.account_id in taxable],
        }


# ------------------------------------------------------------------ in


def _given(item: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that have a value: an empty one says no more than an absent one."""
    return {key: value for key, value in item.items() if value is not None}


def _with_multipliers(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every row of an option with the multiplier that any row of it gives, else 100."""
    known = {row["symbol"]: row["multiplier"] for row in rows if "multiplier" in row}
    return [
        {**row, "multiplier": known.get(row["symbol"], 100)} if row.get("instrument", "stock") != "stock" else row
        for row in rows
    ]


def _instants(rows: Sequence[Mapping[str, Any]]) -> list[datetime | None]:
    """When each row was traded, where the case says so. Only the order of a day matters, so New York time is kept.

    The format knows minutes: within one, purchases come in the order of the file, and sales before or after them as the
    file has it. Sales with no purchase between them stay of one instant: nobody can tell their order.
    """
    bought: dict[datetime, int] = {}
    found: list[datetime | None] = []
    for row in rows:
        minute = _minute(_date(row["date"]), row.get("time"))
        if minute is None:
            found.append(None)
            continue
        found.append(minute + timedelta(microseconds=bought.get(minute, 0)))
        if row["side"] in ("buy", "drip", "award"):
            bought[minute] = bought.get(minute, 0) + 1
    return found


def _accounts(case: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Account]:
    """Every account a case mentions; one only named as the target of a transfer is like the one it comes from."""
    method = METHODS.get(case.get("lot_method", "FIFO"))
    if method is None:
        raise UnsupportedTransactionError(
            f"lot_method: expected one of {', '.join(METHODS)}, was {case['lot_method']}; no other method is known."
        )
    types: dict[str, AccountType] = {}
    for row in sorted(rows, key=lambda row: "account_type" not in row):  # those that say so, first
        kind = AccountType(row.get("account_type", types.get(row["account"], "taxable")))
        if types.setdefault(row["account"], kind) is not kind:
            raise InvalidTransactionError(
                f"Transaction {row['id']}, account_type: expected {types[row['account']].value} as before in account "
                f"{row['account']}, was {kind.value}."
            )
    for row in rows:
        if row.get("to_account"):
            types.setdefault(row["to_account"], types[row["account"]])
    in_order = dict.fromkeys([*(row["account"] for row in rows), *types])
    return [Account(account_id, types[account_id], method) for account_id in in_order]


def _transaction(row: Mapping[str, Any], at: datetime | None) -> Transaction:
    day = _date(row["date"])
    return Transaction(
        transaction_id=row["id"],
        account_id=row["account"],
        kind=SIDES[row["side"]],
        trade_date=day,
        source="case",
        symbol=row["symbol"],
        quantity=number(row["quantity"]),
        price=number(row.get("price", 0)) * number(row.get("multiplier", 1)),
        fees=number(row.get("fees", 0)),
        executed_at=at,
        order_id=row.get("order_id"),
        lots=_lots(row),
        to_account_id=row.get("to_account"),
        acquired=_date(row["acquired"]) if "acquired" in row else None,
        fair_value=number(row["fair_value"]) if "fair_value" in row else None,
    )


def _lots(row: Mapping[str, Any]) -> tuple[LotSelection, ...]:
    """The lots sold or delivered; for a purchase that covers, the short sale it closes."""
    if row["side"] == "buy_to_cover" and "short_id" in row:
        return (LotSelection(row["short_id"], number(row["quantity"])),)
    named = row.get("lots") or row.get("deliver") or ()
    return tuple(LotSelection(each["lot"], number(each["quantity"])) for each in named)


def _refuse_unknown(rows: Sequence[Mapping[str, Any]]) -> None:
    """Sides and instruments whose tax treatment the ledger does not know."""
    for row in rows:
        side, instrument = row["side"], row.get("instrument", "stock")
        if side not in SIDES:
            raise UnsupportedTransactionError(f"transaction {row['id']}: side {side} is not known.")
        if instrument not in ("stock", "call", "call_option"):
            raise UnsupportedTransactionError(f"transaction {row['id']}: instrument {instrument} is not known.")


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
    if kind is CorporateActionKind.STOCK_MERGER and BOOT & item.keys():
        raise UnsupportedTransactionError("a stock merger that pays cash besides (IRC §356) is not known.")
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


def _cash_in_lieu(item: Mapping[str, Any], default_id: str, accounts: Iterable[Account]) -> Transaction:
    """A fraction paid in cash is a sale of that fraction (Pub. 550 p. 32)."""
    quantity = _fraction(item["quantity"])
    return Transaction(
        transaction_id=item.get("id", default_id),
        account_id=item.get("account") or next(iter(accounts)).account_id,
        kind=TransactionKind.SELL,
        trade_date=_date(item["date"]),
        source="case",
        symbol=item["symbol"],
        quantity=quantity,
        price=number(item["amount"]) / quantity,
        lots=_lots({"side": "sell", **item}),
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
    """A ratio new:old, as "3:1". YAML reads an unquoted 3:1 as the number 181, three times sixty and one."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 60 and value % 60:
        return Decimal(value // 60), Decimal(value % 60)
    new, colon, old = str(value).partition(":")
    if not colon:
        raise InvalidTransactionError(f'ratio: expected "new:old" in quotes, was {value!r}.')
    return number(new), number(old)


def _date(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


def _minute(day: date, clock: object) -> datetime | None:
    """The instant of a time of day. YAML reads an unquoted 10:30 as 630 minutes, and 10:30:15 as 37,815 seconds."""
    if clock is None:
        return None
    if isinstance(clock, int):
        seconds = clock if clock >= 24 * 60 else clock * 60
        return datetime.combine(day, time(), tzinfo=UTC) + timedelta(seconds=seconds)
    return datetime.combine(day, time.fromisoformat(str(clock).zfill(5)), tzinfo=UTC)


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
