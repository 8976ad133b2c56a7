"""The rest of the demo's household: a spouse's taxable account and an IRA, known only by import.

They buy a few shares now and then, as people do, without asking harvestd:

- by the calendar: a few shares of a name on the first session of some months;
- once shortly before a harvest that the prices are about to ask for, which harvestd must then leave alone (buying
  the dip);
- once shortly after a harvest: the spouse (deferred into her lot), and the IRA (lost for good).

A pure function of the session, the prices, and the harvests filled so far: a restart finds the same purchases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from state.records import Transaction, TransactionKind

SPOUSE, IRA = "spouse", "ira"

# (account, months, names in turn, shares): bought on the first session of the month.
HABITS = (
    (SPOUSE, (2, 8), ("KO", "PG", "JNJ"), 15),
    (IRA, (5, 11), ("MSFT", "PEP", "HD"), 5),
)
# On this day, days before a harvest, somebody buys the dip: the name that fell most in a year, among those that the
# main account has not traded for a month.
BUYS_THE_DIP = ((SPOUSE, date(2020, 3, 5), 40),)
SESSIONS_A_YEAR = 252
# The first harvest on or after the day: bought back so many sessions later.
AFTER_A_HARVEST = ((SPOUSE, date(2019, 7, 1), 9, 30), (IRA, date(2020, 3, 1), 6, 60))


@dataclass(frozen=True, slots=True)
class FilledHarvest:
    """A harvest of the main account that was filled."""

    session: date
    symbol: str


def purchases(
    session: date,
    sessions: Sequence[date],
    closes: Mapping[str, Decimal],
    year_ago: Mapping[str, Decimal],
    traded_lately: frozenset[str],
    harvests: Sequence[FilledHarvest],
    closes_at: datetime,
) -> tuple[Transaction, ...]:
    """What the spouse and the IRA bought in `session`, at its close. `sessions` ascending, up to this one.

    `closes` and `year_ago` are closes of this session and of 252 sessions before; `traded_lately` the names that the
    main account bought or sold in the 31 days up to it.
    """
    place = sessions.index(session)
    bought: list[tuple[str, str, int]] = []
    if place == 0 or sessions[place - 1].month != session.month:
        for account, months, names, shares in HABITS:
            if session.month in months:
                turn = session.year * 2 + (session.month > 6)
                bought.append((account, names[turn % len(names)], shares))
    for account, day, shares in BUYS_THE_DIP:
        fallen = sorted((closes[name] / year_ago[name], name) for name in year_ago if name not in traded_lately)
        if day == session and fallen:
            bought.append((account, fallen[0][1], shares))
    for account, since, later, shares in AFTER_A_HARVEST:
        first = next((item for item in harvests if item.session >= since and item.session in sessions), None)
        if first is not None and place == sessions.index(first.session) + later:
            bought.append((account, first.symbol, shares))
    return tuple(
        _purchase(account, symbol, shares, session, closes[symbol], closes_at) for account, symbol, shares in bought
    )


def _purchase(
    account: str, symbol: str, shares: int, session: date, price: Decimal, closes_at: datetime
) -> Transaction:
    return Transaction(
        transaction_id=f"{account}-{session:%Y%m%d}-{symbol}",
        account_id=account,
        kind=TransactionKind.BUY,
        trade_date=session,
        source="import:demo household",
        symbol=symbol,
        quantity=Decimal(shares),
        price=price,
        amount=-shares * price,
        executed_at=closes_at,
    )
