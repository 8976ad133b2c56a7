"""Prices that are kept: daily bars, how far each name was asked for, what was found wrong, and the benchmark.

A bar under an open finding is stored but not used, because what is found wrong may turn out to be right:

    finding    what is not used of the name                             who ends it
    jump       every bar from its session on                            a corporate action, the source, a person
    past_jump  every bar before its session                             the same
    corrected  the bar of its session                                   the source, a person
    others     nothing: the bar is not there, or its value is not in doubt

So a move that nothing explains reaches neither the risk model nor a price, whichever side of it is asked for.
`daemon.market_data` says how findings come about and which of them keep a name from being traded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from state.records import DailyBar
from state.store import schema
from state.store.database import Database
from state.store.rows import bar_from, row_of
from state.store.types import UtcInstant

ACCEPTED = "accepted by "  # how the resolution of a finding begins that a person ended
EVERY_SYMBOL = "*"  # the symbol of a finding that is about a whole session


class FindingKind(StrEnum):
    """What can be wrong with prices."""

    GAP = "gap"  # sessions without a bar, inside the name's life or since its last one
    ZERO = "zero"  # the source's price was zero, negative or no number: not stored
    DISORDER = "disorder"  # several closes for one session, or a close on a day without one: not stored
    JUMP = "jump"  # a move that no corporate action explains
    PAST_JUMP = "past_jump"  # the same, so long ago that only what came after it is used
    SPLIT = "split"  # the source's total-return prices know a split that no corporate action tells of
    CORRECTED = "corrected"  # the source now tells another close than it did
    UNJOINED = "unjoined"  # newer bars that share no session with those stored: not stored
    RENAMED = "renamed"  # the issuer changed the symbol; the name goes on under another one
    GONE = "gone"  # merged away, or no longer known to the broker
    SESSION = "session"  # most names have no close in a session


@dataclass(frozen=True, slots=True)
class MarketFinding:
    """One thing found wrong, from `session` on; open until `resolved_at`."""

    symbol: str
    session: date
    kind: FindingKind
    detail: str
    found_at: datetime
    resolved_at: datetime | None = None
    resolution: str = ""

    @property
    def is_open(self) -> bool:
        """True while nothing and nobody has explained it."""
        return self.resolved_at is None

    @property
    def is_accepted(self) -> bool:
        """True when a person took what is stored for right."""
        return self.resolution.startswith(ACCEPTED)

    def spoils(self, session: date) -> bool:
        """True when the bar of `session` is not used while this is open."""
        if self.kind is FindingKind.JUMP:
            return session >= self.session
        if self.kind is FindingKind.PAST_JUMP:
            return session < self.session
        return self.kind is FindingKind.CORRECTED and session == self.session


SPOILING = frozenset({FindingKind.JUMP, FindingKind.PAST_JUMP, FindingKind.CORRECTED})


@dataclass(frozen=True, slots=True)
class Coverage:
    """The sessions of a name that its source was asked for: a session between them without a bar is a gap there."""

    symbol: str
    first_session: date
    last_session: date
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Extent:
    """What is stored of a name: its first and last bar and how many there are, used or not."""

    symbol: str
    first: date
    last: date
    count: int


class MarketData:
    """Daily bars, their coverage and findings, and the benchmark's constituents."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -------------------------------------------------------------- bars

    def add(self, bars: Iterable[DailyBar]) -> int:
        """Insert bars; known ones are left alone. Returns how many were new."""
        return self._db.insert_records(schema.market_data, bars, known="keep")

    def bars(self, start: date | None = None, *, every: bool = False) -> Iterator[DailyBar]:
        """Bars that may be used, from `start` on, by session then symbol, one at a time: ten years of 500 names are a
        million of them. With `every`, also those that are not used."""
        where = "WHERE session >= ? " if start else ""
        values = (start.isoformat(),) if start else ()
        rows = self._db.read(schema.market_data, f"{where}ORDER BY session, symbol", values)
        bars = map(bar_from, rows)
        yield from bars if every else self.usable(bars)

    def adjusted(self) -> Iterator[tuple[date, str, Decimal]]:
        """Session, name and total-return close of every bar that may be used, in no order: `bars` for those who read a
        million of them and want nothing else."""
        rows = self._db.select(schema.market_data, ("session", "symbol", "adjusted"))
        if not (spoiled := self._spoiled()):
            yield from rows
            return
        for session, symbol, adjusted in rows:
            if not any(finding.spoils(session) for finding in spoiled.get(symbol, ())):
                yield session, symbol, adjusted

    def series(self, symbol: str, start: date | None = None, *, every: bool = False) -> tuple[DailyBar, ...]:
        """Bars of one name from `start` on, by session; with `every`, also those that are not used."""
        rows = self._db.read(
            schema.market_data,
            "WHERE symbol = ? AND session >= ? ORDER BY session",
            (symbol, (start or date.min).isoformat()),
        )
        bars = map(bar_from, rows)
        return tuple(bars if every else self.usable(bars))

    def last_before(self, symbol: str, session: date | None = None) -> DailyBar | None:
        """The newest bar of a name before `session` (None: of all), used or not."""
        limit = (session or date.max).isoformat()
        rows = self._db.read(
            schema.market_data, "WHERE symbol = ? AND session < ? ORDER BY session DESC LIMIT 1", (symbol, limit)
        )
        return next(map(bar_from, rows), None)

    def first_bar(self, symbol: str) -> DailyBar | None:
        """The oldest bar of a name, used or not."""
        rows = self._db.read(schema.market_data, "WHERE symbol = ? ORDER BY session LIMIT 1", (symbol,))
        return next(map(bar_from, rows), None)

    def remove(self, symbol: str, start: date | None = None) -> None:
        """Delete the bars of a name from `start` on, to be taken from the source again."""
        table = schema.market_data
        self._db.execute(delete(table).where(table.c.symbol == symbol, table.c.session >= (start or date.min)))

    def last_session(self) -> date | None:
        """The newest session with a bar."""
        return self._db.execute(select(func.max(schema.market_data.c.session))).scalar()

    def newest_closes(self, symbols: Iterable[str]) -> dict[str, Decimal]:
        """The newest close of each symbol that may be used, of whatever session, in USD; symbols without any are
        absent."""
        found = {}
        spoiled = self._spoiled()
        for symbol in symbols:
            rows = self._db.read(schema.market_data, "WHERE symbol = ? ORDER BY session DESC", (symbol,))
            bar = next((one for one in map(bar_from, rows) if not _is_spoiled(one, spoiled)), None)
            if bar is not None:
                found[symbol] = bar.close
        return found

    def last_closes(self) -> dict[str, Decimal]:
        """Closing prices of the newest session, in USD, as far as they may be used."""
        newest = "WHERE session = (SELECT max(session) FROM market_data)"
        bars = map(bar_from, self._db.read(schema.market_data, newest))
        return {bar.symbol: bar.close for bar in self.usable(bars)}

    def extents(self) -> dict[str, Extent]:
        """What is stored of each name."""
        table = schema.market_data
        first, last = func.min(table.c.session).label("first"), func.max(table.c.session).label("last")
        statement = select(table.c.symbol, first, last, func.count().label("count")).group_by(table.c.symbol)
        return {row["symbol"]: Extent(**row) for row in self._db.execute(statement).mappings()}

    def symbols_in(self, session: date) -> frozenset[str]:
        """Names with a bar in a session, used or not."""
        table = schema.market_data
        return frozenset(self._db.execute(select(table.c.symbol).where(table.c.session == session)).scalars())

    def counts(self, sessions: Iterable[date]) -> dict[date, int]:
        """How many names have a bar in each of some sessions, used or not."""
        table = schema.market_data
        found = {}
        for session in sessions:
            statement = select(func.count()).where(table.c.session == session)
            found[session] = int(self._db.execute(statement).scalar_one())
        return found

    def usable(self, bars: Iterable[DailyBar]) -> Iterator[DailyBar]:
        """Those of `bars` that no open finding leaves out."""
        spoiled = self._spoiled()
        return (bar for bar in bars if not _is_spoiled(bar, spoiled)) if spoiled else iter(bars)

    def _spoiled(self) -> dict[str, list[MarketFinding]]:
        """Open findings that leave bars out, by symbol."""
        found: dict[str, list[MarketFinding]] = {}
        for finding in self.findings(SPOILING, only_open=True):
            found.setdefault(finding.symbol, []).append(finding)
        return found

    # -------------------------------------------------------------- coverage

    def coverage(self, symbols: Iterable[str] | None = None) -> dict[str, Coverage]:
        """How far names were asked for; names never asked for are absent. None: all of them."""
        rows = {row["symbol"]: Coverage(**row) for row in self._db.read(schema.market_coverage, "ORDER BY symbol")}
        return rows if symbols is None else {symbol: rows[symbol] for symbol in symbols if symbol in rows}

    def cover(self, symbols: Iterable[str], first: date, last: date, at: datetime) -> None:
        """Note that names were asked for from `first` to `last`, which joins what was asked for before."""
        known = self.coverage()
        rows = []
        for symbol in symbols:
            before = known.get(symbol)
            rows.append(
                Coverage(
                    symbol,
                    min(first, before.first_session) if before else first,
                    max(last, before.last_session) if before else last,
                    at,
                )
            )
        with self._db.transaction():
            self._db.delete(schema.market_coverage, ("symbol",), [(row.symbol,) for row in rows])
            self._db.insert_records(schema.market_coverage, rows)

    def uncover(self, symbol: str) -> None:
        """Forget that a name was asked for."""
        self._db.delete(schema.market_coverage, ("symbol",), [(symbol,)])

    # -------------------------------------------------------------- findings

    def findings(
        self,
        kinds: Collection[FindingKind] | None = None,
        *,
        symbols: Collection[str] | None = None,
        only_open: bool = False,
    ) -> tuple[MarketFinding, ...]:
        """Findings by symbol, session and kind."""
        where = "WHERE resolved_at IS NULL " if only_open else ""
        rows = self._db.read(schema.market_findings, f"{where}ORDER BY symbol, session, kind")
        found = (MarketFinding(**{**row, "kind": FindingKind(row["kind"])}) for row in rows)
        return tuple(
            one for one in found if (kinds is None or one.kind in kinds) and (symbols is None or one.symbol in symbols)
        )

    def put_findings(self, findings: Iterable[MarketFinding]) -> tuple[MarketFinding, ...]:
        """Write findings down, and return those that are open and news.

        One that a person accepted comes back only when it says something else, one that ended otherwise when it is
        found again; an open one takes the newer words.
        """
        told = list(findings)
        known = {(one.symbol, one.session, one.kind): one for one in self.findings()} if told else {}
        news = []
        with self._db.transaction():
            for finding in told:
                before = known.get((finding.symbol, finding.session, finding.kind))
                row = row_of(finding)
                if before is not None:
                    is_same = before.detail == finding.detail
                    if is_same and (before.is_accepted or before.is_open == finding.is_open):
                        continue
                    if before.is_open and finding.is_open:
                        row["found_at"] = before.found_at
                if finding.is_open and not (before is not None and before.is_open):
                    news.append(finding)
                statement = upsert(schema.market_findings).values(row)
                keys = ["symbol", "session", "kind"]
                self._db.execute(statement.on_conflict_do_update(index_elements=keys, set_=row))
        return tuple(news)

    def accept(self, findings: Iterable[MarketFinding], who: str, reason: str, at: datetime) -> None:
        """End findings by a person's word: what is stored is right."""
        self.resolve(findings, f"{ACCEPTED}{who}: {reason}", at)

    def resolve(self, findings: Iterable[MarketFinding], resolution: str, at: datetime) -> None:
        """End findings, with the reason in plain words."""
        table = schema.market_findings
        for one in findings:
            self._db.execute(
                update(table)
                .where(table.c.symbol == one.symbol, table.c.session == one.session, table.c.kind == one.kind.value)
                .where(table.c.resolved_at.is_(None))
                .values(resolved_at=at, resolution=resolution)
            )

    def resolved_since(self, instant: datetime) -> bool:
        """True when a finding was ended after `instant`: bars left out before may now be used."""
        return self._db.exists(schema.market_findings, "resolved_at > ?", (UtcInstant.encode(instant),))

    # -------------------------------------------------------------- the benchmark

    def constituent_weights(self) -> dict[str, Decimal]:
        """Weights of the benchmark's names at its last rebalancing, as fractions; empty when none is stored."""
        table = schema.benchmark_constituents
        return {row.symbol: row.weight for row in self._db.execute(select(table.c.symbol, table.c.weight))}

    def put_benchmark(
        self, benchmark_id: str, kind: str, rebalance: str, weights: Mapping[str, Decimal], sectors: Mapping[str, str]
    ) -> None:
        """Replace a benchmark and its constituents."""
        constituents = [
            {"benchmark_id": benchmark_id, "symbol": symbol, "weight": weight, "sector": sectors.get(symbol)}
            for symbol, weight in weights.items()
        ]
        with self._db.transaction():
            row = {"benchmark_id": benchmark_id, "kind": kind, "rebalance": rebalance}
            statement = upsert(schema.benchmarks).values(row)
            self._db.execute(statement.on_conflict_do_update(index_elements=["benchmark_id"], set_=row))
            table = schema.benchmark_constituents
            self._db.execute(delete(table).where(table.c.benchmark_id == benchmark_id))
            self._db.execute(insert(table), constituents)


def _is_spoiled(bar: DailyBar, spoiled: Mapping[str, Sequence[MarketFinding]]) -> bool:
    return any(finding.spoils(bar.session) for finding in spoiled.get(bar.symbol, ()))
