"""What can be found out about an account at its broker before anything is traded. Reads only.

Each finding says what was seen and, where it matters, what to do. A check that cannot be made is a fault, never a pass.
The stream of order updates is not tried: the broker allows one connection an account, and the daemon may hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from brokers.errors import BrokerError
from brokers.protocol import BrokerReader
from daemon.clock import Clock
from daemon.constituents import constituents
from daemon.errors import HarvestdError
from daemon.market_calendar import MarketCalendar
from daemon.settings import AccountSettings, Settings
from state.store import StoreError

MOST_SKEW_S = 5.0
NOTED_SKEW_S = 1.0
SAMPLE = 5  # names whose quotes are looked at


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was seen, and what to do when it is a fault, or worth a note."""

    what: str
    ok: bool
    seen: str
    remedy: str
    note: bool = False  # no fault, and yet something to know

    @property
    def mark(self) -> str:
        """In one word."""
        return "FAULT" if not self.ok else "note" if self.note else "ok"


def tried(what: str, look: Callable[[], str | Finding], remedy: str) -> Finding:
    """What the look found; a fault when it could not be made."""
    try:
        found = look()
    except (HarvestdError, BrokerError, StoreError, OSError, ValueError) as error:
        return Finding(what, False, str(error), remedy)
    return found if isinstance(found, Finding) else Finding(what, True, found, remedy)


@dataclass(frozen=True)
class AtBroker:
    """One account at its broker, and what it is compared with."""

    account: AccountSettings
    settings: Settings
    reader: BrokerReader
    clock: Clock
    calendar: MarketCalendar
    bound: str | None  # the account number the database was made with

    def findings(self) -> Iterator[Finding]:
        """Every check, in order."""
        name = self.account.id
        yield tried(f"{name}: account number", self._number, "Check the keys, and account_number in the configuration.")
        yield tried(
            f"{name}: account status", self._status, "See the broker's own pages; nothing is traded until then."
        )
        yield tried(
            f"{name}: borrowing", self._borrowing, "Bring the cash above zero; harvestd buys nothing until then."
        )
        yield self._relief()
        yield tried(f"{name}: clocks", self._clocks, "Let the machine keep time (systemd-timesyncd, chrony).")
        yield tried(
            f"{name}: sessions", self._sessions, "Update exchange_calendars; while they disagree nothing trades."
        )
        yield tried(
            f"{name}: quotes", self._quotes, "See alpaca.feed in the configuration, and what the plan includes."
        )
        yield tried(
            f"{name}: names", self._names, "Take the names out of the benchmark, or accept that they are left out."
        )

    def _number(self) -> str:
        said = self.reader.account().account_number
        for expected, where in ((self.account.account_number, "the configuration"), (self.bound, "the database")):
            if expected and expected != said:
                raise ValueError(f"expected {expected} ({where}), the broker says {said}")
        return said if self.account.account_number else f"{said}, not written in the configuration"

    def _status(self) -> str:
        figures = self.reader.account()
        if figures.trading_blocked:
            raise ValueError("; ".join(figures.restrictions) or "blocked from trading")
        return "; ".join(figures.restrictions) or "open for trading"

    def _borrowing(self) -> Finding:
        figures = self.reader.account()
        what = f"{self.account.id}: borrowing"
        if figures.cash < 0:
            raise ValueError(f"cash is {figures.cash} USD: the account borrows")
        able = []
        if figures.multiplier > 1:
            able.append(f"could borrow up to {figures.multiplier.normalize():f} times its value")
        if figures.shorting_enabled:
            able.append("could sell short")
        seen = f"cash {figures.cash:,} USD, settled {figures.settled_cash:,} USD"
        if not able:
            return Finding(what, True, f"{seen}; it can neither borrow nor sell short", "")
        remedy = (
            "harvestd does neither: it spends cash, and sells what is held. At the broker: max_margin_multiplier 1."
        )
        return Finding(what, True, f"{seen}; the account {' and '.join(able)}", remedy, note=True)

    def _relief(self) -> Finding:
        what, method = f"{self.account.id}: relief method", self.account.relief_method
        if method not in self.reader.capabilities.relief_methods:
            able = ", ".join(sorted(self.reader.capabilities.relief_methods))
            return Finding(what, False, f"{method.value}, the broker sells by {able}", "Set relief_method to that.")
        if self.account.relief_confirmed:
            return Finding(what, True, f"{method.value}, confirmed by you", "")
        seen = f"{method.value}, as the broker is understood to sell; not confirmed by you"
        remedy = "Ask the broker, or compare a sale with its tax documents; then relief_confirmed: true."
        return Finding(what, True, seen, remedy, note=True)

    def _clocks(self) -> Finding:
        what = f"{self.account.id}: clocks"
        before = self.clock.now()
        said = self.reader.clock().at
        after = self.clock.now()
        middle = before + (after - before) / 2
        skew = (said - middle).total_seconds()
        answer_s = (after - before).total_seconds()
        seen = f"the broker's is {skew:+.1f} s from ours; an answer takes {answer_s:.1f} s"
        if abs(skew) > MOST_SKEW_S + answer_s / 2:
            raise ValueError(f"{seen}; at most {MOST_SKEW_S:g} s are tolerated")
        return Finding(what, True, seen, "Keep the machine's time.", note=abs(skew) > NOTED_SKEW_S + answer_s / 2)

    def _sessions(self) -> str:
        said, now = self.reader.clock(), self.clock.now()
        ours = self.calendar.upcoming(now)
        expected = ours.closes_at if said.is_open else ours.opens_at
        theirs = said.next_close if said.is_open else said.next_open
        if said.is_open != (ours.opens_at <= now < ours.closes_at) or theirs != expected:
            event = "to close" if said.is_open else "to open"
            raise ValueError(
                f"expected the market {event} at {expected.isoformat()}, the broker says {theirs.isoformat()} "
                f"(open now: {said.is_open})"
            )
        return f"agree; the market is {'open' if said.is_open else 'closed'}, next {ours.session}"

    def _quotes(self) -> Finding:
        what, feed = f"{self.account.id}: quotes", self.settings.alpaca.feed.value
        names = self._benchmark()[:SAMPLE]
        quotes, clock = self.reader.quotes(names), self.reader.clock()
        usable = {name: quote for name, quote in quotes.items() if quote.is_usable}
        if not usable:
            raise ValueError(f"no usable quote of {', '.join(names)} from the feed {feed}")
        widest = max((quote.ask - quote.bid) / quote.mid * 10_000 for quote in usable.values())
        oldest = max((clock.at - quote.at).total_seconds() for quote in usable.values())
        seen = (
            f"feed {feed}: {len(usable)} of {len(names)} asked for; widest {widest.quantize(Decimal('0.1'))} bp, "
            f"oldest {oldest:.0f} s; at most {self.settings.alpaca.requests_per_minute} trading calls a minute"
        )
        if feed != "iex":
            return Finding(what, True, seen, "")
        remedy = "One exchange of many: quotes can be wide or old, and then nothing is traded at them."
        return Finding(what, True, seen, remedy, note=True)

    def _names(self) -> Finding:
        what, names = f"{self.account.id}: names", self._benchmark()
        known = self.reader.assets(names)
        gone = sorted(set(names) - set(known))
        closed = sorted(name for name, security in known.items() if not security.tradable)
        if not gone and not closed:
            return Finding(what, True, f"all {len(names)} are traded", "")
        parts = [f"not known: {', '.join(gone)}"] if gone else []
        parts += [f"not traded: {', '.join(closed)}"] if closed else []
        return Finding(
            what, True, "; ".join(parts), "They are never bought. Take them out of the benchmark.", note=True
        )

    def _benchmark(self) -> tuple[str, ...]:
        return constituents(self.settings, Path()).symbols
