"""iCalendar text (RFC 5545): all-day events as the bytes of a file that calendar programs import or subscribe to.

The problem is not the grammar, it is what readers do with a file that breaks it: they drop the event, or the calendar.
Three rules are easy to get wrong.

1. Lines end in CRLF and hold at most 75 octets. Octets, not characters: a line is folded between two characters, so
   that no UTF-8 sequence is cut, and the space that starts a continued line counts towards its 75.
2. In TEXT a backslash, a semicolon, a comma and a line end are escaped; the backslash first.
3. The end of an all-day event is the first day after it: the 3rd to the 5th is DTSTART 3, DTEND 6.

A calendar without any component is not valid (RFC 5545 section 3.6), so whoever makes one has at least one event.
An event that is written again under the same UID replaces the one a reader has, by its later DTSTAMP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

LINE_OCTETS = 75  # without CRLF (RFC 5545 section 3.1)
START = b"BEGIN:VCALENDAR\r\n"
PRODUCT = "-//harvestd//wash-sale calendar//EN"
REFRESH = "PT6H"  # how often a reader that subscribes is asked to look again (RFC 7986 section 5.7)
_CONTROLS = dict.fromkeys((*range(10), *range(11, 32), 127), " ")


@dataclass(frozen=True, slots=True)
class Event:
    """Whole days, from `first` through `last`, that block no time."""

    uid: str
    first: date
    last: date  # inclusive
    summary: str
    description: str


def calendar(name: str, description: str, events: Iterable[Event], made_at: datetime) -> bytes:
    """The file. `made_at` is an aware instant; readers take the event with the later one. At least one event."""
    return START + b"".join(_folded(line) for line in _lines(name, description, events, made_at))


def _lines(name: str, description: str, events: Iterable[Event], made_at: datetime) -> Iterator[str]:
    """Everything after the first line, unfolded."""
    yield "VERSION:2.0"
    yield f"PRODID:{PRODUCT}"
    yield "CALSCALE:GREGORIAN"
    yield "METHOD:PUBLISH"
    yield f"NAME:{_text(name)}"
    yield f"X-WR-CALNAME:{_text(name)}"
    yield f"DESCRIPTION:{_text(description)}"
    yield f"X-WR-CALDESC:{_text(description)}"
    yield f"REFRESH-INTERVAL;VALUE=DURATION:{REFRESH}"
    yield f"X-PUBLISHED-TTL:{REFRESH}"
    for event in events:
        yield "BEGIN:VEVENT"
        yield f"UID:{_text(event.uid)}"
        yield f"DTSTAMP:{made_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        yield f"DTSTART;VALUE=DATE:{event.first:%Y%m%d}"
        yield f"DTEND;VALUE=DATE:{event.last + timedelta(days=1):%Y%m%d}"
        yield f"SUMMARY:{_text(event.summary)}"
        yield f"DESCRIPTION:{_text(event.description)}"
        yield "TRANSP:TRANSPARENT"
        yield "END:VEVENT"
    yield "END:VCALENDAR"


def _text(value: str) -> str:
    """A TEXT value (RFC 5545 section 3.3.11). Control characters, which no TEXT may hold, become spaces."""
    plain = value.replace("\r\n", "\n").translate(_CONTROLS)
    return plain.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """One content line in UTF-8 with its line ends, folded (RFC 5545 section 3.1)."""
    left, room, parts = line.encode(), LINE_OCTETS, []
    while len(left) > room:
        cut = room
        while left[cut] & 0xC0 == 0x80:  # the middle of a character
            cut -= 1
        parts.append(left[:cut])
        left, room = left[cut:], LINE_OCTETS - 1
    return b"\r\n ".join([*parts, left]) + b"\r\n"
