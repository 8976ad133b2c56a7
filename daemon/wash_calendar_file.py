"""The wash-sale calendar as a file that a calendar program subscribes to, and the evening task that keeps it current.

What a person relies on when only looking at a phone:

1. An entry is the same event for as long as it lasts. Its UID is made of its list, account and cause, so the file
   written tomorrow updates the event and never doubles it; a closed entry is simply no longer in the file.
2. No entry must not read as "free to trade". Where an account's history is not known to be complete, an event that
   spans the next thirty days says so, beside the same words in every entry (I8).
3. A reader never sees half a file. It is written beside the old one and takes its place at once, and takes the place of
   a calendar only: a path that leads to the database by mistake is refused.
4. A file that cannot be written is told once, and never keeps the evening from being done.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID, uuid5

from daemon import ics
from daemon.alerts import raise_alert, recover
from daemon.coverage import WINDOW, coverage, household, incomplete
from daemon.errors import HarvestdError
from state.lots import WashCalendar, wash_calendar
from state.records import AlertLevel

if TYPE_CHECKING:
    from daemon.house import House
    from state.lots import CalendarEntry
    from state.store import Store

NAME = "Wash sales"
INCIDENT = "task:wash_calendar_file"
MODE = 0o644  # of a new file: another program serves it; the mode of a file that is there already is kept
_OF_ENTRIES = UUID("0652caf4-8f01-4dd7-a079-b541ed28b963")  # drawn once; UIDs change if it does
_Kind = Literal["buy", "sell"]


@dataclass(frozen=True, slots=True)
class Known:
    """What a calendar rests on."""

    as_of: date
    coverage: str  # over which accounts, and where it is no all-clear
    all_clear: bool  # False: some account's history is not known to be complete
    open_orders: int = 0  # not in it until they fill

    def __str__(self) -> str:
        waiting = f" {self.open_orders} open orders are not in it until they fill." if self.open_orders else ""
        return f"As of {self.as_of}, {self.coverage}.{waiting}"


def known_on(store: Store, day: date) -> Known:
    """What the calendar of that day rests on: the household's accounts, their histories, the orders still open."""
    accounts, since = household(store), day - WINDOW
    return Known(
        as_of=day,
        coverage=coverage(accounts, since),
        all_clear=not incomplete(accounts, since),
        open_orders=len(store.orders.list(only_open=True)),
    )


def icalendar(calendar: WashCalendar, known: Known, made_at: datetime) -> bytes:
    """The calendar as an iCalendar file (RFC 5545): one all-day event an entry, from its cause through its last day.

    `made_at` is an aware instant. Account ids are told, account numbers and the broker's ids are not.
    """
    events = [
        *(_event("buy", entry, known) for entry in calendar.do_not_buy),
        *(_event("sell", entry, known) for entry in calendar.do_not_sell_at_a_loss),
    ]
    return ics.calendar(NAME, str(known), [*_note(known, bool(events)), *events], made_at)


def _event(kind: _Kind, entry: CalendarEntry, known: Known) -> ics.Event:
    symbols = " or ".join(sorted(entry.symbols))
    return ics.Event(
        uid=_uid(kind, entry.account_id, entry.cause_id),
        first=min(entry.cause_date, known.as_of),  # a sale that is only planned closes the days before it too
        last=entry.until,
        summary=f"Do not buy {symbols} (wash sale)" if kind == "buy" else f"Do not sell {symbols} at a loss",
        description=f"{entry.reason}\nAccount: {entry.account_id}\n{known}",
    )


def _note(known: Known, has_events: bool) -> Iterator[ics.Event]:
    """What days without an entry mean, where that is not plain: the history has gaps, or there is no entry at all."""
    if not known.all_clear:
        text = f"Days without an entry are not known to be free.\n{known}"
        yield ics.Event(_uid("note"), known.as_of, known.as_of + WINDOW, "Wash sales: no all-clear", text)
    elif not has_events:
        yield ics.Event(_uid("note"), known.as_of, known.as_of, "Wash sales: nothing is closed", str(known))


def _uid(*parts: str) -> str:
    """The same for the same parts, on every machine; the parts cannot be read from it (RFC 7986 section 5.3)."""
    return str(uuid5(_OF_ENTRIES, "\n".join(parts)))


# ------------------------------------------------------------------ the file


def write(path: Path, content: bytes) -> None:
    """Put `content` in the place of the calendar at `path`, whole. A symbolic link stays one.

    Raises HarvestdError, with the path and what to do, when it cannot be done or something else is there.
    """
    try:
        target = Path(os.path.realpath(path))
        mode = _mode_of(target)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".making")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise HarvestdError(f"{path}: the calendar cannot be written there: {error.strerror or error}.") from error


def _mode_of(target: Path) -> int:
    """The mode the file is to have. Raises HarvestdError where something other than a calendar would be lost."""
    try:
        found = target.stat()
    except FileNotFoundError:
        return MODE
    if not stat.S_ISREG(found.st_mode):
        raise HarvestdError(f"{target}: expected a file, or none yet, was a folder or device. Choose another path.")
    first_line = ics.START.strip()
    with target.open("rb") as file:
        if found.st_size and file.read(len(first_line)) != first_line:
            raise HarvestdError(f"{target}: expected an iCalendar file to replace, was another one. It stays as it is.")
    return stat.S_IMODE(found.st_mode)


# ------------------------------------------------------------------ the evening


def keep_current(house: House, day: date) -> None:
    """Write `wash_sales.calendar_file` anew as of `day`, where it is set. A failure is an alert, never an exception."""
    path, now = house.settings.wash_sales.calendar_file, house.clock.now()
    if path is None:
        recover(house.store, INCIDENT, "wash_sales.calendar_file is no longer set", now)
        return
    try:
        write(path, _of_house(house, day, now))
    except HarvestdError as error:
        text = f"{error} Who subscribes to it sees an older one. It is tried again every evening."
        raise_alert(house.store, INCIDENT, AlertLevel.WARNING, text, now)
    else:
        recover(house.store, INCIDENT, f"{path}: the wash-sale calendar is current again", now)


def _of_house(house: House, day: date, now: datetime) -> bytes:
    rule = house.settings.wash_sales.block_rebuy_after
    calendar = wash_calendar(house.ledger, day, block_rebuy_after=rule.value)
    return icalendar(calendar, known_on(house.store, day), now)
