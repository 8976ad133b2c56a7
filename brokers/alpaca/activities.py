"""Account history: what Alpaca's activity types are here, and a cursor that misses nothing that is booked late.

Trades and everything else are two lists, asked for apart: one call each when nothing happened.

| Alpaca's type                                           | here                                                     |
|---------------------------------------------------------|----------------------------------------------------------|
| FILL                                                    | FILL; `amount` is quantity times price, rounded to the   |
|                                                         | cent                                                     |
| DIV, DIVCGL, DIVCGS, DIVTXEX, CGD                       | CASH_DIVIDEND                                            |
| DIV of sub-type SDIV without cash                       | SPLIT: shares paid in shares                             |
| DIVROC                                                  | RETURN_OF_CAPITAL                                        |
| DIVNRA, DIVFT, DIVTW, DIVFEE, INTNRA, INTTW, WH         | FEE: withheld                                            |
| INT                                                     | INTEREST                                                 |
| CSD, CSW, CSR, TRANS, JNLC, ACATC, JNL without shares   | DEPOSIT or WITHDRAWAL, by the sign of the cash           |
| FEE, CFEE, PTC, PTR                                     | FEE                                                      |
| SPLIT                                                   | SPLIT; the ratio from the row, else from the             |
|                                                         | announcements, else none                                 |
| NC                                                      | SYMBOL_CHANGE; to the symbol of the row, else of the     |
|                                                         | announcement, else none                                  |
| SPIN, MA, REORG, VOF, CIL (cash in lieu of a fraction)  | REORGANIZATION                                           |
| ACATS, JNLS, FOPT, JNL with shares                      | SHARES_IN or SHARES_OUT, by the sign of the quantity     |
| OPASN, OPCA, OPCSH, OPEXC, OPEXP, OPTRD, MISC, others   | OTHER                                                    |

`note` is Alpaca's own type and sub-type. A status of canceled makes the line `cancelled`. Rows in another currency
than dollars, and fills of options, are OTHER without cash: what they did to the cash is not told here.

Legs. Alpaca may book a split or a change of symbol as two rows, old shares out and new shares in. Of two rows of one
type and day with quantities of opposite sign, the one that adds shares stands for the event, the other becomes OTHER
without symbol and cash. (No recorded sample shows how retail accounts get these rows; a pair and a single row both
come out as one event.)

Rows that cannot be read. A row without its amount, its side or its date, or with one that is no number, becomes OTHER
without cash, marked `unreadable`, with the row as it was sent in `note`: one bad row never keeps the rest of a history
out. It is dated by whatever it does say of a day. A fill without the id of its order is a fill all the same.

The cursor. Fills are stamped with their execution and listed at once: it remembers the newest, and asks again from a
quarter of an hour before. Everything else is filtered by when it was booked, mostly the night after, sometimes days
late and under an earlier date: the cursor remembers when it last asked, by the broker's clock, and asks again from
three days before. What was given already is known by the marks of its ids. Times are never read from ids: their
prefix is New York time, or midnight.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Protocol, TypeVar

from brokers.alpaca.answer import NEW_YORK, Answer, rows
from brokers.alpaca.sessions import BrokerTime, Calendar
from brokers.alpaca.transport import Wire
from brokers.errors import BrokerUnavailable
from brokers.protocol import ActivityPage
from state.records import CENT, ZERO, Activity, ActivityKind, Side

PAGE = 100  # the most activities Alpaca lists at once
_FILLS_OVERLAP = timedelta(minutes=15)
_BOOKED_OVERLAP = timedelta(days=3)
_DATED_AHEAD = timedelta(days=10)  # a line may be booked before the day it is dated
_UNSTAMPED = timedelta(days=40)  # lines that do not say when they were booked are remembered this long and more
_GRAIN = timedelta(seconds=1)  # a query's instants are whole seconds
_MOST_SHOWN = 600  # characters of a row that cannot be read
_OPTION = re.compile(r"[A-Z]{1,6}\d{6}[CP]\d{8}")

_CASH_KINDS = {
    **dict.fromkeys(("DIV", "DIVCGL", "DIVCGS", "DIVTXEX", "CGD"), ActivityKind.CASH_DIVIDEND),
    "DIVROC": ActivityKind.RETURN_OF_CAPITAL,
    **dict.fromkeys(("DIVNRA", "DIVFT", "DIVTW", "DIVFEE", "INTNRA", "INTTW", "WH"), ActivityKind.FEE),
    **dict.fromkeys(("FEE", "CFEE", "PTC", "PTR"), ActivityKind.FEE),
    "INT": ActivityKind.INTEREST,
}
_MONEY_MOVES = frozenset({"CSD", "CSW", "CSR", "TRANS", "JNLC", "ACATC"})
_SHARE_MOVES = frozenset({"ACATS", "JNLS", "FOPT"})
_REORGANIZATIONS = frozenset({"SPIN", "MA", "REORG", "VOF", "CIL"})
_WITHOUT_CASH = frozenset(
    {
        ActivityKind.SPLIT,
        ActivityKind.SYMBOL_CHANGE,
        ActivityKind.REORGANIZATION,
        ActivityKind.SHARES_IN,
        ActivityKind.SHARES_OUT,
        ActivityKind.OTHER,
    }
)  # such a row need not say an amount


_Field = TypeVar("_Field")


class Announcements(Protocol):
    """What issuers announced, to complete a line of the history that tells only half of it."""

    def split_ratio(self, symbol: str, day: date) -> tuple[Decimal, Decimal] | None:
        """(new, old) of the split of `symbol` around `day`; None when there is none, or more than one."""
        ...

    def new_symbol(self, symbol: str, day: date) -> tuple[str, str] | None:
        """(old, new) of the change of symbol around `day` of which `symbol` is either; None as above."""
        ...


Marks = Mapping[str, int]  # ids that were given, hashed, and the epoch second each row is stamped with


@dataclass(frozen=True, slots=True)
class _Cursor:
    """How far the history was given: the newest fill, when the rest was asked for, and what may be listed again."""

    filled: datetime | None = None
    asked: datetime | None = None
    fills: Marks = field(default_factory=dict)
    booked: Marks = field(default_factory=dict)

    def written(self) -> str:
        instants = {"filled": self.filled, "asked": self.asked}
        said = {name: at.isoformat() for name, at in instants.items() if at is not None}
        return json.dumps({**said, "fills": dict(self.fills), "booked": dict(self.booked)}, separators=(",", ":"))

    @classmethod
    def read(cls, cursor: str | None) -> _Cursor:
        """Raises ValueError on a cursor that is not from here."""
        if cursor is None:
            return cls()
        try:
            said = json.loads(cursor)
            instants = {name: datetime.fromisoformat(said[name]) for name in ("filled", "asked") if name in said}
            return cls(**instants, fills=dict(said["fills"]), booked=dict(said["booked"]))
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"Expected a cursor of Alpaca's activities, was {cursor!r}") from None


class History:
    """The account's activities. Reads raise BrokerUnavailable, NotAuthorized."""

    def __init__(self, wire: Wire, time: BrokerTime, calendar: Calendar, announcements: Announcements) -> None:
        self._wire, self._time, self._calendar, self._announcements = wire, time, calendar, announcements
        self._sales: dict[str, tuple[date, Decimal]] = {}  # not settled: when they will be, and USD; by activity id
        self._sales_read_to: datetime | None = None

    def after(self, cursor: str | None) -> ActivityPage:
        """What was not given before the cursor, oldest first, and the cursor to ask with next time."""
        before = _Cursor.read(cursor)
        asked = max([self._time.now(), *_known(before.asked)])
        fills = self._listed("trade_activity", before.filled and before.filled - _FILLS_OVERLAP)
        booked = self._listed("non_trade_activity", before.asked and before.asked - _BOOKED_OVERLAP)
        new = self._activities(fills, booked, frozenset({*before.fills, *before.booked}))
        stamps = (_stamp_of(row) for row in fills)
        filled = max([*(at for at in stamps if at is not None), *_known(before.filled)], default=None)
        filled_marks = _marks(before.fills, fills, self._listed_until, before.filled, filled, _FILLS_OVERLAP)
        booked_marks = _marks(before.booked, booked, self._listed_until, before.asked, asked, _BOOKED_OVERLAP)
        return ActivityPage(tuple(new), _Cursor(filled, asked, filled_marks, booked_marks).written())

    def since(self, day: date) -> tuple[Activity, ...]:
        """Everything with a trade date of `day` or later, oldest first, as Alpaca has it now."""
        midnight = _midnight(day)
        fills = self._listed("trade_activity", midnight - _GRAIN)
        booked = self._listed("non_trade_activity", midnight - _DATED_AHEAD)
        return tuple(each for each in self._activities(fills, booked) if each.trade_date >= day)

    def unsettled(self) -> Decimal:
        """Proceeds of sales that have not settled on the broker's date, in USD: one call while little happens."""
        today = self._time.today()
        earliest = _midnight(self._calendar.unsettled_from(today)) - _GRAIN
        after = max([earliest, *(at - _FILLS_OVERLAP for at in _known(self._sales_read_to))])
        for fill in self._activities(self._listed("trade_activity", after), ()):
            self._sales_read_to = fill.occurred_at
            if fill.kind is ActivityKind.FILL and fill.side is Side.SELL and fill.settle_date is not None:
                self._sales[fill.activity_id] = fill.settle_date, fill.amount
        self._sales = {each: sale for each, sale in self._sales.items() if sale[0] > today}
        return sum((amount for _, amount in self._sales.values()), ZERO)

    # -------------------------------------------------------------- pages

    def _listed(self, category: str, after: datetime | None) -> tuple[Answer, ...]:
        """All rows of a category booked after an instant, oldest first."""
        asked = {"category": category, "direction": "asc", "page_size": str(PAGE)}
        if after is not None:
            asked["after"] = after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found: dict[str, Answer] = {}
        while True:
            page = rows(self._wire.read("/account/activities", asked), f"activities ({category})")
            new = {_id(row): row for row in page if _id(row) not in found}
            found.update(new)
            if len(page) < PAGE:
                return tuple(found.values())
            if not new:
                raise BrokerUnavailable(f"Alpaca's {category}: expected a new page, was the one before")
            asked["page_token"] = page[-1].text("id")

    # -------------------------------------------------------------- rows to activities

    def _activities(
        self, fills: Sequence[Answer], booked: Sequence[Answer], given: frozenset[str] = frozenset()
    ) -> list[Activity]:
        """What was not given, oldest first; at one instant what was booked before what was traded, each as listed."""
        traded = [self._trade(row) for row in fills if _mark(_id(row)) not in given]
        days = [each.trade_date for each in traded if each.kind is ActivityKind.FILL]
        if days:
            self._calendar.load(min(days), max(days))
        mapped = [self._booked(row, booked) for row in booked if _mark(_id(row)) not in given]
        return sorted([*mapped, *map(self._settled, traded)], key=lambda each: each.occurred_at)

    def _trade(self, row: Answer) -> Activity:
        try:
            return _execution(row)
        except BrokerUnavailable as fault:
            return _unreadable(row, fault, self._time)

    def _settled(self, line: Activity) -> Activity:
        """A fill with the day it settles."""
        if line.kind is not ActivityKind.FILL:
            return line
        return replace(line, settle_date=self._calendar.settles(line.trade_date))

    def _booked(self, row: Answer, all_rows: Sequence[Answer]) -> Activity:
        """A row that is not a trade; of an event booked in two legs, one of them stands for both."""
        try:
            line = _event(row, [each for each in all_rows if _is_other_leg(row, each)])
        except BrokerUnavailable as fault:
            return _unreadable(row, fault, self._time)
        return self._completed(line)

    def _listed_until(self, row: Answer) -> datetime:
        """When a row was booked; where it does not say, so late that it is remembered for some weeks."""
        return _stamp_of(row) or _midnight(_day_of(row, self._time)) + _UNSTAMPED

    def _completed(self, line: Activity) -> Activity:
        """A split or a change of symbol that says only half of it, with what was announced."""
        symbol = line.symbol or ""
        if line.kind is ActivityKind.SPLIT and line.ratio_new is None:
            new, old = self._announcements.split_ratio(symbol, line.trade_date) or (None, None)
            return replace(line, ratio_new=new, ratio_old=old)
        if line.kind is ActivityKind.SYMBOL_CHANGE and line.to_symbol is None:
            pair = self._announcements.new_symbol(symbol, line.trade_date)
            return replace(line, symbol=pair[0], to_symbol=pair[1]) if pair else line
        return line


# ------------------------------------------------------------------ one row


def _execution(row: Answer) -> Activity:
    """A trade, without the day it settles. Raises BrokerUnavailable where the row cannot be read."""
    symbol, word, kind = row.text("symbol"), row.text("side"), row.text_or("type", "fill")
    side, traded = _side(row), _traded_on(row)
    quantity, price = row.decimal("qty"), row.decimal("price")
    line = Activity(
        activity_id=_id(row),
        kind=ActivityKind.FILL,
        occurred_at=_executed_at(row),
        trade_date=traded,
        symbol=symbol,
        side=side,
        quantity=quantity,
        price=price,
        amount=-side.sign * (quantity * price).quantize(CENT, ROUND_HALF_UP),
        broker_order_id=row.text_or("order_id") or None,
        note="FILL" if word == side.value else f"FILL/{word}",
    )
    if kind in ("fill", "partial_fill") and not _OPTION.fullmatch(symbol):
        return line
    return replace(line, kind=ActivityKind.OTHER, amount=ZERO, note=f"{line.note}/{kind}")


def _event(row: Answer, legs: Sequence[Answer]) -> Activity:
    """A row that is not a trade, as far as it says itself what it is. Raises as above."""
    word = row.text("activity_type")
    if legs and _quantity(row) < 0:
        return replace(_line(row, ActivityKind.OTHER), symbol=None, amount=ZERO, note=f"{_note(row)}/leg")
    if word == "SPLIT" or (word == "DIV" and _pays_in_shares(row)):
        new, old = row.decimal_or_none("new_rate"), row.decimal_or_none("old_rate")
        told = (new, old) if new and old else (None, None)
        return replace(_line(row, ActivityKind.SPLIT), ratio_new=told[0], ratio_old=told[1])
    return _symbol_change(row, legs) if word == "NC" else _line(row, _kind(row))


def _symbol_change(row: Answer, legs: Sequence[Answer]) -> Activity:
    line = _line(row, ActivityKind.SYMBOL_CHANGE)
    if row.text_or("activity_sub_type") == "CNC":  # another CUSIP, the same symbol
        return replace(line, kind=ActivityKind.OTHER, symbol=None)
    if row.has("old_symbol") and row.has("new_symbol"):
        return replace(line, symbol=row.text("old_symbol"), to_symbol=row.text("new_symbol"))
    if legs and legs[0].text_or("symbol", line.symbol or "") != line.symbol:
        return replace(line, symbol=legs[0].text("symbol"), to_symbol=line.symbol)
    return line


def _unreadable(row: Answer, fault: BrokerUnavailable, time: BrokerTime) -> Activity:
    """A row that cannot be read: told as it was sent, without cash and shares."""
    symbol, sent = row.fields.get("symbol"), json.dumps(dict(row.items()), default=str)
    day = _day_of(row, time)
    return Activity(
        activity_id=_id(row),
        kind=ActivityKind.OTHER,
        occurred_at=_stamp_of(row) or _midnight(day).astimezone(UTC),
        trade_date=day,
        symbol=symbol if isinstance(symbol, str) and symbol else None,
        cancelled=row.fields.get("status") == "canceled",
        note=f"{fault}: {sent[:_MOST_SHOWN]}",
        unreadable=True,
    )


def _line(row: Answer, kind: ActivityKind) -> Activity:
    """A row that is not a trade. Where it moves cash, it must say how much."""
    moves_cash = kind not in _WITHOUT_CASH
    line = Activity(
        activity_id=_id(row),
        kind=kind,
        occurred_at=row.instant("created_at") if row.has("created_at") else _midnight(row.day("date")).astimezone(UTC),
        trade_date=row.day("date"),
        symbol=row.text_or("symbol") or None,
        quantity=abs(_quantity(row)),
        price=row.decimal_or_none("per_share_amount") or ZERO,
        amount=row.decimal("net_amount") if moves_cash else row.decimal_or_none("net_amount") or ZERO,
        cancelled=row.text_or("status") == "canceled",
        note=_note(row),
    )
    currency = row.text_or("currency", "USD")
    if currency == "USD":
        return line
    return replace(line, kind=ActivityKind.OTHER, amount=ZERO, note=f"{line.note} in {currency}")


def _kind(row: Answer) -> ActivityKind:
    """What a row is that is neither a trade nor an event in legs."""
    word = row.text("activity_type")
    if word in _CASH_KINDS:
        return _CASH_KINDS[word]
    if word in _SHARE_MOVES or (word == "JNL" and row.has("symbol") and _quantity(row)):
        return ActivityKind.SHARES_IN if row.decimal("qty") > 0 else ActivityKind.SHARES_OUT
    if word in _MONEY_MOVES or word == "JNL":
        return ActivityKind.DEPOSIT if row.decimal("net_amount") >= 0 else ActivityKind.WITHDRAWAL
    return ActivityKind.REORGANIZATION if word in _REORGANIZATIONS else ActivityKind.OTHER


def _note(row: Answer) -> str:
    """Alpaca's own words for what a row is, such as DIV/SPD."""
    words = (row.text("activity_type"), row.text_or("activity_sub_type"), row.text_or("description"))
    corrected = "correct" if row.text_or("status") == "correct" else ""
    return "/".join(word for word in (*words, corrected) if word)


def _is_other_leg(row: Answer, other: Answer) -> bool:
    """True when two rows of one day are the old and the new shares of one event; a row that cannot be read is none."""
    if row.fields.get("activity_type") not in ("SPLIT", "NC"):
        return False
    same = ("activity_type", "group_id") if row.has("group_id") else ("activity_type", "group_id", "symbol")
    try:
        return _are_legs(row, other, same)
    except BrokerUnavailable:
        return False


def _are_legs(row: Answer, other: Answer, same: Sequence[str]) -> bool:
    return (
        _quantity(row) * _quantity(other) < 0
        and row.day("date") == other.day("date")
        and all(row.text_or(name) == other.text_or(name) for name in same)
    )


def _pays_in_shares(row: Answer) -> bool:
    return row.text_or("activity_sub_type") == "SDIV" and not row.decimal_or_none("net_amount")


def _quantity(row: Answer) -> Decimal:
    """Signed; 0 where a row has none."""
    return row.decimal_or_none("qty") or ZERO


def _side(row: Answer) -> Side:
    """Alpaca also knows sell_short and the like: still a sale."""
    word = row.text("side")
    if word.startswith("buy"):
        return Side.BUY
    if word.startswith("sell"):
        return Side.SELL
    raise BrokerUnavailable(f"Alpaca's {row.where}, side: expected buy or sell, was {word!r}")


def _executed_at(row: Answer) -> datetime:
    return row.instant("transaction_time")


def _traded_on(row: Answer) -> date:
    return _executed_at(row).astimezone(NEW_YORK).date()


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)


def _stamp_of(row: Answer) -> datetime | None:
    """When a row was executed or booked, None where it does not say."""
    return _read(row.instant, "transaction_time") or _read(row.instant, "created_at")


def _day_of(row: Answer, time: BrokerTime) -> date:
    """The day a row is of, by the first of all that it says; the broker's today where it says nothing."""
    stamped = _stamp_of(row)
    if row.fields.get("activity_type") == "FILL" and stamped:
        return stamped.astimezone(NEW_YORK).date()
    said = _read(row.day, "date") or (stamped and stamped.astimezone(NEW_YORK).date())
    return said or _day_of_id(_id(row)) or time.today()


def _day_of_id(activity_id: str) -> date | None:
    """The day an id begins with, in New York."""
    try:
        return date.fromisoformat(activity_id[:8])
    except ValueError:
        return None


def _read(field: Callable[[str], _Field], name: str) -> _Field | None:
    """A field of a row that may be bad; None where it cannot be read."""
    try:
        return field(name)
    except BrokerUnavailable:
        return None


def _id(row: Answer) -> str:
    """Alpaca's id of a row; of one without, the hash of what it says."""
    said = row.fields.get("id")
    if isinstance(said, str) and said:
        return said
    return f"unnamed-{_mark(json.dumps(dict(row.items()), sort_keys=True, default=str))}"


def _marks(
    before: Marks,
    listed: Sequence[Answer],
    stamp_of: Callable[[Answer], datetime],
    since: datetime | None,
    newest: datetime | None,
    overlap: timedelta,
) -> Marks:
    """Marks of what was given and may be listed again: what is stamped after `newest` less the overlap.

    A row that turned up late counts as stamped when it did (`since`): who knows by which instant Alpaca lists it.
    """
    if newest is None:
        return {}
    stamps = {_mark(_id(row)): max([stamp_of(row), *_known(since)]) for row in listed}
    known = {mark: int(at.timestamp()) for mark, at in stamps.items()} | dict(before)
    oldest = int((newest - overlap - _GRAIN).timestamp())
    return {mark: at for mark, at in known.items() if at >= oldest}


def _known(instant: datetime | None) -> tuple[datetime, ...]:
    return () if instant is None else (instant,)


def _mark(activity_id: str) -> str:
    """An id, short enough to remember a few hundred of them in a cursor."""
    return hashlib.sha256(activity_id.encode()).hexdigest()[:12]
