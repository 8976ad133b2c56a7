"""The broker's history read once more, as it is now: corrections, lines taken back, lines late and lines gone.

The problem: reading on from a cursor sees each line once, as it was then. What the broker rewrites behind the cursor,
books late or drops is never seen, and positions and cash drift from the journal without a line to say why.

So in the evening the last weeks are read again and compared line by line (activities.py has the table). A correction
is taken in and told, with the restatements that follow from it. A line that is gone is not taken out: brokers drop
lines by mistake as well, so it counts, and its symbol is locked, until it is told again, told as cancelled, or a person
says that it never happened (adoption.py).

Brokers correct further back, too: dividends of the year are put under another head in January and February. While cash
has differed for a day, the whole year is read again, until March the year before with it.

One answer that lacks lines is not believed: it is asked for again at once, and a line that one of the two tells is
there. What is gone all the same is looked for again before the next session (`look_for_vanished`), for a lock of a day
is dear where a minute's fault of the broker made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from daemon.activities import CASH, Line, is_taken_back, lines_of, newest_version, take
from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from daemon.house import House
from daemon.questions import VANISHED, Question, ask, open_questions, settle
from state.records import Account, AlertLevel, Transaction

REREAD_DAYS = 45  # how far back a broker's history is read again: longer than any bust or cancelled dividend took
CASH_PATIENCE = timedelta(days=1)  # after which cash that differs is looked for further back
RECLASSIFIED_UNTIL = 3  # the month through which brokers rewrite the year before
MOST_NAMED = 5
MOST_TOLD = 5  # symbols with an alert of their own when a history loses lines; more are one incident


@dataclass(frozen=True, slots=True)
class Reread:
    """What reading the history again brought."""

    late: tuple[Transaction, ...]  # lines that the cursor had passed
    corrected: tuple[Transaction, ...]  # rows that supersede others
    vanished: Mapping[str, tuple[str, ...]]  # symbol ("" for cash) -> ids that the broker no longer tells


def reread(house: House, account: Account, days: int = REREAD_DAYS) -> Reread:
    """Compare the broker's history of the last `days` with the journal, and take in what it tells differently; what it
    no longer tells locks its symbol. Doing it twice changes nothing.

    For the evening, after our orders are settled (execution.settle) and before anything else is read: a corrected line
    would keep the rest of the history out (`take_activities`). Raises BrokerUnavailable.
    """
    now = house.clock.now()
    start = _start(house, account, now, days)
    broker = house.brokers[account.account_id]
    activities = broker.activities_since(start)
    if _vanished(house, account, start, {each.activity_id for each in activities}):
        again = {each.activity_id: each for each in broker.activities_since(start)}
        activities = tuple(({each.activity_id: each for each in activities} | again).values())
    with house.store.transaction():
        lines = lines_of(house, account, activities)
        rows = take(house, account, lines)
        for line in lines:
            if line.is_changed:
                _tell_correction(house, account, line)
        told = {line.row.transaction_id for line in lines}
        vanished = _vanished(house, account, start, told)
        _keep_vanished(house, account, told, vanished, now)
    late = tuple(row for row in rows if row.supersedes is None)
    return Reread(late, tuple(row for row in rows if row.supersedes is not None), vanished)


def look_for_vanished(house: House, account: Account) -> None:
    """Read the history again where it has lost lines: they may be back. For before a session, and when a process
    starts. Raises BrokerUnavailable."""
    if _asked_vanished(house, account):
        reread(house, account)


def _start(house: House, account: Account, now: datetime, days: int) -> date:
    """From which day on the history is read again: further back while cash differs."""
    today = now.astimezone(NEW_YORK).date()
    start = today - timedelta(days=days)
    differs = house.store.alerts.open_incidents(f"reconcile:{account.account_id}:{CASH}")
    if not any(now - each.raised_at >= CASH_PATIENCE for each in differs):
        return start
    return min(start, date(today.year - (today.month <= RECLASSIFIED_UNTIL), 1, 1))


def _tell_correction(house: House, account: Account, line: Line) -> None:
    row, was = line.correction(), line.standing
    assert was is not None
    what = f"{was.symbol or 'cash'} of {was.trade_date} in {account.account_id}"
    if line.activity.cancelled:
        text = f"The broker took back a line of its history: {what}, {was.kind.value}, {_amounts(was)}."
    else:
        text = f"The broker corrected its history: {what}, {was.kind.value}: was {_amounts(was)}, is {_amounts(row)}."
    text += f" Its id there: {line.row.transaction_id}"
    raise_alert(house.store, f"corrected:{row.transaction_id}", AlertLevel.WARNING, text, house.clock.now())


def _amounts(row: Transaction) -> str:
    shares = f"{row.quantity.normalize():f} shares at {row.price.normalize():f} USD, " if row.quantity else ""
    return f"{shares}{row.amount:,.2f} USD of cash"


def _vanished(house: House, account: Account, start: date, told: set[str]) -> dict[str, tuple[str, ...]]:
    """Lines in the journal, traded after `start`, that the broker no longer tells, by symbol."""
    journal = house.store.journal
    rows = journal.told_by(account.account_id, account.broker, start + timedelta(days=1))
    missing = [row for row in rows if row.supersedes is None and row.transaction_id not in told]
    versions = journal.versions(row.transaction_id for row in missing)
    found: dict[str, tuple[str, ...]] = {}
    for row in missing:
        latest, _ = newest_version(row.transaction_id, versions[row.transaction_id])
        if not is_taken_back(latest):
            found[row.symbol or ""] = (*found.get(row.symbol or "", ()), row.transaction_id)
    return found


def _keep_vanished(
    house: House, account: Account, told: set[str], vanished: Mapping[str, tuple[str, ...]], now: datetime
) -> None:
    """Ask about lines that are gone, symbol by symbol; settle what was asked about those that are told again."""
    store, asked = house.store, _asked_vanished(house, account)
    for activity_id in sorted(asked.keys() & told):
        settle(store, asked.pop(activity_id), "the broker tells it again", now)
    for symbol, ids in vanished.items():
        text = _gone(account, symbol, ids)
        for activity_id in sorted(set(ids) - asked.keys()):
            question = Question(account.account_id, symbol, f"{VANISHED}{activity_id}", text)
            ask(store, question, now, tell=False, again=True)
    key = f"{VANISHED}{account.account_id}:"
    if len(vanished) > MOST_TOLD:
        lines = sum(map(len, vanished.values()))
        text = (
            f"{account.account_id}: the broker no longer tells {lines} lines of its history, about {len(vanished)} "
            "symbols. They count, and those symbols are locked, until it tells them again."
        )
        raise_alert(store, f"{key}many", AlertLevel.ERROR, text, now)
    for symbol, ids in vanished.items() if len(vanished) <= MOST_TOLD else ():
        raise_alert(store, f"{key}{symbol or CASH}", AlertLevel.ERROR, _gone(account, symbol, ids), now)
    still = {question.symbol or CASH for question in _asked_vanished(house, account).values()}
    for open_key in store.alerts.open_keys(key):
        symbol = open_key.removeprefix(key)
        if symbol not in still and not (symbol == "many" and still):
            recover(store, open_key, f"{account.account_id}: the lines that were gone are settled", now)


def _asked_vanished(house: House, account: Account) -> dict[str, Question]:
    """Open questions about lines that are gone, by the lines' ids."""
    asked = open_questions(house.store, account.account_id)
    return {each.question_id.removeprefix(VANISHED): each for each in asked if each.question_id.startswith(VANISHED)}


def _gone(account: Account, symbol: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return (
        f"{symbol or 'Cash'} in {account.account_id}: the broker no longer tells {len(ids)} lines of its history: "
        f"{', '.join(ids[:MOST_NAMED])}{more}. They count until it tells them as cancelled, or a person takes them "
        f"back: `harvestd reconcile adopt {symbol or CASH}`."
    )
