"""The wash-sale calendar as an iCalendar file: what RFC 5545 asks, what a subscriber sees, what the evening does."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from conftest import Staged
from hypothesis import given
from hypothesis import strategies as st
from small_house import DAYS, HISTORY, Stage

from daemon import ics
from daemon.errors import HarvestdError
from daemon.wash_calendar_file import INCIDENT, Known, icalendar, write
from state.lots import CalendarEntry, WashCalendar
from state.records import Side

MADE = datetime(2026, 6, 30, 20, 10, tzinfo=UTC)
KNOWN = Known(date(2026, 6, 30), "over accounts main, ira; history complete since 2025-01-02", all_clear=True)
SOLD = CalendarEntry(
    symbols=frozenset({"PEP"}),
    until=date(2026, 7, 10),
    account_id="main",
    cause_id="20260610::9f1c-of-the-broker",
    cause_date=date(2026, 6, 10),
    reason="60 PEP sold on 2026-06-10 in account main at a loss; buying PEP until 2026-07-10 would disallow it.",
    quantity=Decimal(60),
)
BOUGHT = CalendarEntry(
    frozenset({"GOOG", "GOOGL"}), date(2026, 7, 20), "ira", "b7", date(2026, 6, 20), "5 GOOG are held.", Decimal(5)
)
BOTH = WashCalendar((SOLD,), (BOUGHT,))
NOTHING = WashCalendar((), ())


# ------------------------------------------------------------------ a reader of its own, by the RFC's grammar


@dataclass(frozen=True)
class Line:
    """One content line: its name, its parameters, its value as written."""

    name: str
    parameters: dict[str, str]
    value: str

    @property
    def text(self) -> str:
        """The value as TEXT (section 3.3.11): nothing but the four escapes may follow a backslash."""
        assert not re.search(r"(?<!\\)(?:\\\\)*[;,]", self.value), f"not escaped: {self.value}"
        parts = re.findall(r"\\.|[^\\]", self.value)
        assert all(part in (r"\\", r"\;", r"\,", r"\n", r"\N") for part in parts if part[0] == "\\")
        return "".join("\n" if part in (r"\n", r"\N") else part[-1] for part in parts)


def lines_of(content: bytes) -> list[Line]:
    """Unfolded content lines; fails on anything section 3.1 does not allow."""
    assert content.endswith(b"\r\n")
    raw = content[:-2].split(b"\r\n")
    for one in raw:
        assert len(one) <= 75
        assert b"\n" not in one
        assert b"\r" not in one
        one.decode("utf-8")  # no character is cut by a fold
    unfolded: list[bytes] = []
    for one in raw:
        if one.startswith(b" "):
            unfolded[-1] += one[1:]
        else:
            unfolded.append(one)
    found = []
    for one in unfolded:
        head, colon, value = one.decode("utf-8").partition(":")
        assert colon, one
        name, *parameters = head.split(";")
        assert re.fullmatch(r"[A-Z-]+", name)
        found.append(Line(name, dict(each.split("=", 1) for each in parameters), value))
    return found


@dataclass(frozen=True)
class Component:
    """An event, or the calendar without its events."""

    lines: list[Line]

    def one(self, name: str) -> Line:
        """The only line of that name."""
        (found,) = [line for line in self.lines if line.name == name]
        return found

    def day(self, name: str) -> date:
        """The value of a line that is a date."""
        line = self.one(name)
        assert line.parameters == {"VALUE": "DATE"}
        return datetime.strptime(line.value, "%Y%m%d").replace(tzinfo=UTC).date()

    @property
    def summary(self) -> str:
        return self.one("SUMMARY").text

    @property
    def description(self) -> str:
        return self.one("DESCRIPTION").text


def parsed(content: bytes) -> tuple[Component, list[Component]]:
    """The calendar's own lines and its events."""
    lines = lines_of(content)
    assert (lines[0].name, lines[0].value) == ("BEGIN", "VCALENDAR")
    assert (lines[-1].name, lines[-1].value) == ("END", "VCALENDAR")
    own: list[Line] = []
    events: list[Component] = []
    inside: list[Line] | None = None
    for line in lines[1:-1]:
        if line.name == "BEGIN":
            assert (line.value, inside) == ("VEVENT", None)
            inside = []
        elif line.name == "END":
            assert line.value == "VEVENT"
            assert inside is not None
            events.append(Component(inside))
            inside = None
        else:
            (own if inside is None else inside).append(line)
    assert inside is None
    assert events, "a calendar has at least one component (section 3.6)"
    for event in events:
        assert event.one("DTSTAMP").value.endswith("Z")
        assert event.one("UID").value
        assert event.day("DTEND") > event.day("DTSTART")
    assert len({event.one("UID").value for event in events}) == len(events)
    return Component(own), events


def events_of(calendar: WashCalendar, known: Known = KNOWN, made: datetime = MADE) -> list[Component]:
    return parsed(icalendar(calendar, known, made))[1]


# ------------------------------------------------------------------ the text


@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_any_text_comes_back_as_it_was_but_for_control_characters(text: str) -> None:
    """Commas, semicolons, backslashes, line ends, letters of one to four octets, folded wherever they fall."""
    event = ics.Event("u", MADE.date(), MADE.date(), text, f"é{text}")
    _, (read,) = parsed(ics.calendar(text, text, [event], MADE))
    kept = re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", " ", text.replace("\r\n", "\n"))
    assert read.summary == kept
    assert read.description == f"é{kept}"


def test_a_line_is_folded_at_75_octets_and_not_before() -> None:
    text = "x" * 200
    content = ics.calendar("n", "d", [ics.Event("u", MADE.date(), MADE.date(), text, "")], MADE)
    start = content.index(b"SUMMARY:")
    folded = content[start : content.index(b"\r\nDESCRIPTION", start)].split(b"\r\n")
    assert [len(one) for one in folded] == [75, 75, len("SUMMARY:") + 200 + 2 - 150]
    assert all(one.startswith(b" ") for one in folded[1:])


def test_the_calendar_says_what_it_is_and_when_to_look_again() -> None:
    calendar, _ = parsed(icalendar(BOTH, KNOWN, MADE))
    assert calendar.one("VERSION").value == "2.0"
    assert calendar.one("METHOD").value == "PUBLISH"
    assert calendar.one("PRODID").value
    assert calendar.one("X-WR-CALNAME").text == calendar.one("NAME").text == "Wash sales"
    refresh = calendar.one("REFRESH-INTERVAL")
    assert refresh.parameters == {"VALUE": "DURATION"}
    assert re.fullmatch(r"PT\d+H", refresh.value)
    assert "As of 2026-06-30, over accounts main, ira; history complete" in calendar.description


# ------------------------------------------------------------------ the events


def test_an_entry_is_an_all_day_event_from_its_cause_through_its_last_day() -> None:
    buy, sell = events_of(BOTH)
    assert buy.summary == "Do not buy PEP (wash sale)"
    assert sell.summary == "Do not sell GOOG or GOOGL at a loss"
    assert (buy.day("DTSTART"), buy.day("DTEND")) == (date(2026, 6, 10), date(2026, 7, 11))
    assert buy.one("DTSTAMP").value == "20260630T201000Z"
    assert buy.one("TRANSP").value == "TRANSPARENT"
    reason, account, known = buy.description.split("\n")
    assert (reason, account) == (SOLD.reason, "Account: main")
    assert known == "As of 2026-06-30, over accounts main, ira; history complete since 2025-01-02."


def test_a_sale_that_is_only_planned_closes_the_days_before_it_too() -> None:
    planned = CalendarEntry(SOLD.symbols, date(2026, 8, 8), "main", "plan", date(2026, 7, 9), "to be sold", Decimal(60))
    (event,) = events_of(WashCalendar((planned,), ()))
    assert (event.day("DTSTART"), event.day("DTEND")) == (date(2026, 6, 30), date(2026, 8, 9))


def test_an_event_written_again_is_the_same_event() -> None:
    """A later export updates what a subscriber has: the UID stays, the stamp is later. The UID tells nothing."""
    later = CalendarEntry(
        SOLD.symbols, SOLD.until, SOLD.account_id, SOLD.cause_id, SOLD.cause_date, "now 40 PEP", Decimal(40)
    )
    before = {event.summary: event.one("UID").value for event in events_of(BOTH)}
    after = events_of(WashCalendar((later,), (BOUGHT,)), made=MADE + timedelta(days=1))
    assert {event.summary: event.one("UID").value for event in after} == before
    assert {event.one("DTSTAMP").value for event in after} == {"20260701T201000Z"}
    for uid in before.values():
        assert not any(part in uid for part in (SOLD.cause_id, "main", "ira", "PEP"))


def test_the_same_cause_on_both_lists_or_in_two_accounts_is_as_many_events() -> None:
    elsewhere = CalendarEntry(
        SOLD.symbols, SOLD.until, "spouse", SOLD.cause_id, SOLD.cause_date, SOLD.reason, SOLD.quantity
    )
    assert len(events_of(WashCalendar((SOLD, elsewhere), (SOLD,)))) == 3  # `parsed` checks that the UIDs differ


def test_where_a_history_has_gaps_no_day_reads_as_free() -> None:
    """I8: an empty day in a calendar looks like an all-clear, so every day ahead says that it is none."""
    gaps = Known(KNOWN.as_of, "over accounts main, ira; no all-clear: the history of ira is not known", all_clear=False)
    note, buy = events_of(WashCalendar((SOLD,), ()), gaps)
    assert note.summary == "Wash sales: no all-clear"
    assert (note.day("DTSTART"), note.day("DTEND")) == (date(2026, 6, 30), date(2026, 7, 31))
    assert "Days without an entry are not known to be free" in note.description
    assert "the history of ira is not known" in note.description
    assert "the history of ira is not known" in buy.description
    (alone,) = events_of(NOTHING, gaps)
    assert alone.summary == "Wash sales: no all-clear"


def test_an_empty_calendar_says_that_it_is_empty() -> None:
    (note,) = events_of(NOTHING)
    assert note.summary == "Wash sales: nothing is closed"
    assert (note.day("DTSTART"), note.day("DTEND")) == (date(2026, 6, 30), date(2026, 7, 1))
    waiting = Known(KNOWN.as_of, KNOWN.coverage, all_clear=True, open_orders=2)
    assert "2 open orders are not in it until they fill" in events_of(NOTHING, waiting)[0].description


# ------------------------------------------------------------------ the file

CONTENT = icalendar(BOTH, KNOWN, MADE)


def test_a_new_file_can_be_served_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "wash.ics"
    write(path, CONTENT)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (CONTENT, 0o644)
    path.chmod(0o600)
    other = icalendar(NOTHING, KNOWN, MADE)
    write(path, other)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (other, 0o600)
    assert os.listdir(tmp_path) == ["wash.ics"]


def test_an_empty_file_made_beforehand_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "wash.ics"
    path.touch(mode=0o640)
    write(path, CONTENT)
    assert path.read_bytes() == CONTENT


def test_a_link_into_a_served_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    link = tmp_path / "wash.ics"
    link.symlink_to(tmp_path / "www" / "feed.ics")
    write(link, CONTENT)
    assert link.is_symlink()
    assert (tmp_path / "www" / "feed.ics").read_bytes() == CONTENT


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle: the old calendar stays, whole, and nothing is left lying about."""
    path = tmp_path / "wash.ics"
    write(path, CONTENT)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daemon.wash_calendar_file.os.fsync", full)
    with pytest.raises(HarvestdError, match=r"wash\.ics: .*No space left on device"):
        write(path, icalendar(NOTHING, KNOWN, MADE))
    assert path.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["wash.ics"]


def test_nothing_but_a_calendar_is_replaced(tmp_path: Path) -> None:
    database = tmp_path / "house.db"
    database.write_bytes(b"SQLite format 3\0...")
    with pytest.raises(HarvestdError, match="expected an iCalendar file to replace"):
        write(database, CONTENT)
    assert database.read_bytes() == b"SQLite format 3\0..."
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(HarvestdError, match="was a folder or device"):
            write(place, CONTENT)
    with pytest.raises(HarvestdError, match="cannot be written there: No such file"):
        write(tmp_path / "nowhere" / "wash.ics", CONTENT)


# ------------------------------------------------------------------ the evening


def invested(staged: Staged, calendar_file: Path | None) -> Stage:
    """The small household with a loss taken: AAA was bought before, fell, and the spouse sold it in session 1."""
    stage = staged(
        changes=[("AAA", 0, "0.8")],
        wash_sales={"calendar_file": None if calendar_file is None else str(calendar_file)},
    )
    stage.live(0)
    stage.imported("spouse", Side.BUY, "AAA", 50, DAYS[HISTORY - 40])
    stage.imported("spouse", Side.SELL, "AAA", 50, DAYS[HISTORY + 1])
    return stage


def of_aaa(path: Path) -> list[Component]:
    _, events = parsed(path.read_bytes())
    return [
        event for event in events if event.summary == "Do not buy AAA (wash sale)" and "spouse" in event.description
    ]


def test_each_evening_writes_the_calendar_of_that_evening(staged: Staged, tmp_path: Path) -> None:
    path = tmp_path / "feed.ics"
    stage = invested(staged, path)
    stage.live(1)
    (first,) = of_aaa(path)
    assert first.day("DTSTART") == DAYS[HISTORY + 1]
    assert first.day("DTEND") == DAYS[HISTORY + 1] + timedelta(days=31)
    assert f"As of {DAYS[HISTORY + 1]}" in first.description
    assert "the history of ira, spouse is not known to be complete" in first.description
    stage.live(2)
    (second,) = of_aaa(path)
    assert f"As of {DAYS[HISTORY + 2]}" in second.description
    assert second.one("UID") == first.one("UID")
    assert second.one("DTSTAMP").value > first.one("DTSTAMP").value
    stage.imported("ira", Side.BUY, "AAA", 50, DAYS[HISTORY + 3])
    stage.live(3)
    assert of_aaa(path) == [], "a loss that is matched in full closes nothing more"


def test_without_the_setting_nothing_is_written(staged: Staged, tmp_path: Path) -> None:
    stage = invested(staged, None)
    stage.live(1)
    assert not list(tmp_path.rglob("*.ics"))
    assert stage.alerts(INCIDENT) == []


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nothing(staged: Staged, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    stage = invested(staged, folder / "feed.ics")
    for number in (1, 2):
        stage.live(number)
        assert stage.house.store.performance.last("main").session == DAYS[HISTORY + number]  # type: ignore[union-attr]
    assert stage.alerts(INCIDENT) == ["raised"]
    folder.mkdir()
    stage.live(3)
    assert stage.alerts(INCIDENT) == ["raised", "recovered"]
    assert of_aaa(folder / "feed.ics")


def test_no_longer_wanting_the_file_ends_the_incident(staged: Staged, tmp_path: Path) -> None:
    stage = invested(staged, tmp_path / "nowhere" / "feed.ics")
    stage.live(1)
    wash_sales = stage.house.settings.wash_sales.model_copy(update={"calendar_file": None})
    stage.house.settings = stage.house.settings.model_copy(update={"wash_sales": wash_sales})
    stage.live(2, 3)
    assert stage.alerts(INCIDENT) == ["raised", "recovered"]
