"""A broker that tells more than its venue did: lines of every kind, lines corrected, taken back, late and gone.

`History(stage)` stands in the place of the stage's broker. A line told with `tell` changes the broker's cash by its
amount; which shares the broker has then, the story says with `moves`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from small_house import Stage

from brokers.protocol import ActivityPage
from daemon.rereading import Reread, reread
from state.records import Activity, ActivityKind, BrokerAccount, BrokerPosition, CorporateNotice, Quote

D = Decimal


class History:
    """The venue's broker with a history that can be written on."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.lines: dict[str, Activity | None] = {}  # in the order booked; None: no longer told
        self.moved: dict[str, Decimal] = {}  # shares beside the venue's own
        self.cash = D(0)
        self.basis: dict[str, Decimal] = {}
        self.announced: dict[str, CorporateNotice] = {}
        self.attach()

    def attach(self) -> None:
        """Take the place of the broker, again after a restart."""
        self._broker = self.stage.venue.broker()
        self.stage.alter(
            activities=self._activities,
            activities_since=self._activities_since,
            positions=self._positions,
            account=self._account,
            corporate_actions=self._corporate_actions,
            quotes=self._quotes,
        )

    # -------------------------------------------------------------- what the daemon asks

    def _all(self) -> list[Activity | None]:
        for line in self._broker.activities(None).activities:
            self.lines.setdefault(line.activity_id, line)
        return list(self.lines.values())

    def _quotes(self, symbols: Iterable[str]) -> dict[str, Quote]:
        """At the last close as the daemon reckons it: what is written into the history moves no price by itself."""
        closes = self.stage.house.last_closes()
        found = self._broker.quotes(symbols)
        return {
            symbol: replace(quote, bid=closes.get(symbol, quote.bid), ask=closes.get(symbol, quote.ask))
            for symbol, quote in found.items()
        }

    def _activities(self, after: str | None = None) -> ActivityPage:
        lines, start = self._all(), int(after.rpartition("-")[2]) if after else 0
        told = tuple(line for line in lines[start:] if line is not None)
        return ActivityPage(told, f"activity-{len(lines)}")

    def _activities_since(self, day: date) -> tuple[Activity, ...]:
        return tuple(line for line in self._all() if line is not None and line.trade_date >= day)

    def _positions(self) -> tuple[BrokerPosition, ...]:
        held = {one.symbol: one.quantity for one in self._broker.positions()}
        for symbol, more in self.moved.items():
            held[symbol] = held.get(symbol, D(0)) + more
        return tuple(
            BrokerPosition(symbol, quantity, self.basis.get(symbol))
            for symbol, quantity in sorted(held.items())
            if quantity
        )

    def _account(self) -> BrokerAccount:
        figures = self._broker.account()
        return replace(figures, cash=figures.cash + self.cash)

    def _corporate_actions(self, symbols: Iterable[str], start: date, end: date) -> tuple[CorporateNotice, ...]:
        names = frozenset(symbols)
        mine = (one for one in self.announced.values() if one.symbol in names and start <= one.ex_date <= end)
        return (*self._broker.corporate_actions(names, start, end), *mine)

    # -------------------------------------------------------------- what the broker writes

    def tell(self, kind: ActivityKind, symbol: str | None = "AAA", **others: Any) -> Activity:
        """A new line of today."""
        self._all()
        now = self.stage.venue.now
        filled = {
            "activity_id": f"line-{len(self.lines)}",
            "occurred_at": now,
            "trade_date": now.date(),
            **others,
        }
        line = Activity(kind=kind, symbol=symbol, **filled)
        self.lines[line.activity_id] = line
        self.cash += line.amount
        return line

    def moves(self, **shares: int | Decimal) -> None:
        """The broker has so many more shares."""
        for symbol, more in shares.items():
            self.moved[symbol] = self.moved.get(symbol, D(0)) + D(more)

    def rewrite(self, activity_id: str, **changes: Any) -> Activity:
        """A line as the broker tells it from now on."""
        self._all()
        line = self.lines[activity_id]
        assert line is not None
        changed = self.lines[activity_id] = replace(line, **changes)
        return changed

    def drop(self, *ids: str) -> dict[str, Activity | None]:
        """Lines that the broker no longer tells; `history.lines.update` with what is returned brings them back."""
        self._all()
        gone = {each: self.lines[each] for each in ids}
        self.lines.update(dict.fromkeys(ids))
        return gone

    def last_fill(self, symbol: str = "AAA") -> Activity:
        """The newest execution of a symbol."""
        lines = (line for line in self._all() if line is not None)
        return [line for line in lines if line.kind is ActivityKind.FILL and line.symbol == symbol][-1]

    # -------------------------------------------------------------- the daemon's side

    def reread(self) -> Reread:
        """The evening's second reading."""
        return reread(self.stage.house, self.stage.account)

    def announce(self, *notices: CorporateNotice) -> None:
        """What the source of corporate actions tells from now on, and the daemon has just been told."""
        self.announced.update({notice.action_id: notice for notice in notices})
        self.stage.house.store.actions.put(notices, self.stage.venue.now)

    def retract(self, *action_ids: str) -> None:
        """Announcements that the source no longer tells."""
        for action_id in action_ids:
            del self.announced[action_id]

    def look_at(self, session: int, minutes: float = 10) -> Any:
        """Some time later, a look."""
        self.stage.venue.advance_to(self.stage.at(session, minutes))
        return self.stage.look()
