"""What may be traded, from Alpaca's list of assets.

For a few symbols each is looked up; for many the whole list is read once a day (the broker's day in New York): it has
no pages, and eleven thousand rows cost one call. Only shares of US exchanges count. CUSIPs are told to accounts that
asked for them, and are absent otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from urllib.parse import quote

from brokers.alpaca.answer import Answer, answer, rows
from brokers.alpaca.sessions import BrokerTime
from brokers.alpaca.transport import NotFound, Wire
from state.records import Security

FEW = 5  # so many symbols are looked up one by one


class Assets:
    """The broker's securities. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire, time: BrokerTime) -> None:
        self._wire, self._time = wire, time
        self._list: tuple[date, Mapping[str, Security]] | None = None

    def of(self, symbols: Iterable[str]) -> Mapping[str, Security]:
        """What Alpaca knows of the symbols; those it does not know are absent."""
        wanted = tuple(dict.fromkeys(symbols))
        if len(wanted) > FEW:
            known = self._all()
            return {symbol: known[symbol] for symbol in wanted if symbol in known}
        found = {symbol: self._one(symbol) for symbol in wanted}
        return {symbol: security for symbol, security in found.items() if security is not None}

    def _one(self, symbol: str) -> Security | None:
        try:
            said = answer(self._wire.read(f"/assets/{quote(symbol, safe='')}"), f"asset {symbol}")
        except NotFound:
            return None
        return _security(said) if said.text_or("class", "us_equity") == "us_equity" else None

    def _all(self) -> Mapping[str, Security]:
        today = self._time.today()
        if self._list is None or self._list[0] != today:
            said = self._wire.read("/assets", {"status": "active", "asset_class": "us_equity"})
            found = {row.text("symbol"): _security(row) for row in rows(said, "assets")}
            self._list = today, found
        return self._list[1]


def _security(row: Answer) -> Security:
    """Tradable when Alpaca says so and lists it as active; fractions only where it says so."""
    return Security(
        symbol=row.text("symbol"),
        name=row.text_or("name"),
        cusip=row.text_or("cusip") or None,
        tradable=row.flag_or("tradable", False) and row.text_or("status", "active") == "active",
        fractionable=row.flag_or("fractionable", False),
    )
