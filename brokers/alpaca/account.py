"""The account: cash, restrictions, positions.

Cash is Alpaca's `cash`; buying power, four times the equity on a margin account, is not looked at. Below zero, `cash`
is a debt to the broker, and is told as a restriction.

Settled cash. The trading API has no figure for it (`cash_withdrawable` is another API's). So it is worked out: cash
less the proceeds of sales whose settlement date, by the broker's calendar, is after the broker's date, and never less
than zero. Deposits on their way are not counted as unsettled; cash_withdrawable, where it is sent, lowers the figure.

The account is blocked for trading when its status is not ACTIVE, or any of trading_blocked, account_blocked and
trade_suspended_by_user is set. A blocked transfer alone does not stop trading; it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from brokers.alpaca.answer import Answer, answer, rows
from brokers.alpaca.transport import Wire
from state.records import ZERO, BrokerAccount, BrokerPosition

_BLOCKS = {
    "account_blocked": "the account is blocked",
    "trading_blocked": "trading is blocked",
    "trade_suspended_by_user": "new orders are switched off in the account's own settings",
}
_SETTINGS = ("max_margin_multiplier", "no_shorting", "suspend_trade", "fractional_trading")


def read_account(wire: Wire, unsettled: Decimal) -> BrokerAccount:
    """The account's figures; `unsettled` are the proceeds of sales not settled yet, in USD."""
    said = answer(wire.read("/account"), "account")
    cash = said.decimal("cash")
    settled = max(ZERO, cash - unsettled)
    withdrawable = said.decimal_or_none("cash_withdrawable")
    blocks = _blocks(said)
    return BrokerAccount(
        account_number=said.text("account_number"),
        cash=cash,
        settled_cash=settled if withdrawable is None else min(settled, max(ZERO, withdrawable)),
        trading_blocked=bool(blocks),
        multiplier=said.decimal_or_none("multiplier") or Decimal(1),
        shorting_enabled=said.flag_or("shorting_enabled", False),
        equity=said.decimal_or_none("equity"),
        restrictions=(*blocks, *_warnings(said, cash)),
    )


def _blocks(said: Answer) -> list[str]:
    status = said.text("status")
    found = [words for name, words in _BLOCKS.items() if said.flag_or(name, False)]
    return found if status == "ACTIVE" else [f"the account's status is {status}", *found]


def _warnings(said: Answer, cash: Decimal) -> list[str]:
    found = []
    if said.flag_or("transfers_blocked", False):
        found.append("transfers are blocked")
    if cash < 0:
        found.append(f"the account owes the broker {-cash} USD on margin")
    return found


def read_positions(wire: Wire) -> tuple[BrokerPosition, ...]:
    """All positions with a quantity, sorted by symbol; a short one is negative, whichever way Alpaca signs it."""
    found = []
    for row in rows(wire.read("/positions"), "positions"):
        quantity = row.decimal("qty")
        if row.text_or("side", "long") == "short":
            quantity = -abs(quantity)
        if quantity:
            found.append(BrokerPosition(row.text("symbol"), quantity, row.decimal_or_none("cost_basis")))
    return tuple(sorted(found, key=lambda each: each.symbol))


def read_configurations(wire: Wire) -> Mapping[str, str | bool]:
    """The account's own settings that matter here, as Alpaca writes them; those it leaves out are absent."""
    said = answer(wire.read("/account/configurations"), "account configurations")
    return {name: value for name in _SETTINGS if isinstance(value := said.fields.get(name), str | bool)}
