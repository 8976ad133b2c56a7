"""What issuers announced, as the source tells it now: taken in, and forgotten where it tells it no longer.

The problem: announcements are corrected, by another day under the same id, by another id, by silence. What was known
once and is applied for ever doubles a position that nobody doubled; and one answer that is cut short must not undo what
has happened.

    told                                         becomes
    -------------------------------------------  ------------------------------------------------------------------
    an announcement                              known, under its source's id; with another content, replaced
    nothing, of one known for these weeks        the symbol is asked for once more; untold again, it is forgotten,
                                                 with an alert where it would have changed lots
    nothing at all, where several were known     nothing: that is no answer about them, and an alert
    the same again                               nothing

Announcements matter to every lot of the household: symbols held in accounts that harvestd does not trade are asked for
beside those whose prices are kept, from the first day on that the household had them. They are a question of their own,
so that a symbol the source does not understand keeps nobody from the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from brokers.errors import BrokerUnavailable
from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from daemon.market_data.feed import Feed
from state.records import AlertLevel, CorporateNotice

ACTIONS_AROUND = timedelta(days=30)  # corporate actions are asked for again this far back, and ahead as announced
EDGE = timedelta(days=10)  # a source that lists by another day than the ex-date may leave some out at the beginning
MOST_UNTOLD = 3  # by an answer that tells nothing at all
SEEN, SEEN_BESIDE = "corporate actions seen", "corporate actions seen beside"  # in the store's meta
KEY = "announcements:"  # of alerts


@dataclass(frozen=True, slots=True)
class Told:
    """What the source said, before any of it is written."""

    notices: tuple[CorporateNotice, ...] = ()
    gone: tuple[CorporateNotice, ...] = ()  # known before, and no longer told
    beside: frozenset[str] = frozenset()  # symbols without prices that were asked for
    faults: Mapping[str, str] = field(default_factory=dict)  # alerts by key


def announced(feed: Feed, names: Iterable[str], beside: Mapping[str, date]) -> Told:
    """Ask what is announced for `names`, and for the symbols of `beside`, each from the day given there on if it was
    not asked for before. Raises BrokerUnavailable where `names` cannot be asked for."""
    since, until, faults = _seen(feed) - ACTIONS_AROUND, feed.today + ACTIONS_AROUND, {}
    asked = sorted(set(names))
    told = list(feed.broker.corporate_actions(asked, since, until)) if asked else []
    others: set[str] = set()
    try:
        for start, some in _spans(feed, beside, frozenset(asked)).items():
            told += feed.broker.corporate_actions(sorted(some), start, until)
            others |= some
    except BrokerUnavailable as error:
        faults["beside"] = f"What issuers announced of {', '.join(sorted(beside))} could not be asked for: {error}"
    gone = feed.store.actions.untold([*asked, *others], since + EDGE, until, told)
    if gone and not told and len(gone) > MOST_UNTOLD:
        faults["nothing"] = f"The source tells no corporate action at all; {len(gone)} were known, and stay as they are"
        gone = ()
    if gone:
        again = feed.broker.corporate_actions(sorted({one.symbol for one in gone}), since, until)
        told = list({one.action_id: one for one in (*told, *again)}.values())
        gone = feed.store.actions.untold({one.symbol for one in gone}, since + EDGE, until, told)
    return Told(tuple(told), gone, frozenset(others), faults)


def keep(feed: Feed, told: Told) -> tuple[CorporateNotice, ...]:
    """Write what was told; returns what is new or differs. Joins the caller's transaction."""
    store, now = feed.store, feed.clock.now()
    new = store.actions.put(told.notices, now)
    store.actions.remove(one.action_id for one in told.gone)
    store.meta.put(SEEN, feed.today.isoformat())
    if told.beside:
        seen = dict.fromkeys(sorted(told.beside), feed.today.isoformat())
        store.meta.put(SEEN_BESIDE, json.dumps({**_seen_beside(feed), **seen}))
    for one in told.gone:
        if one.action is not None or one.needs_person:
            text = (
                f"{one.symbol}: {one.kind.replace('_', ' ')} with ex-date {one.ex_date} is no longer announced "
                f"(id {one.action_id}), and does not count any more. If it had taken effect, lots are as without it."
            )
            raise_alert(store, f"{KEY}gone:{one.action_id}", AlertLevel.WARNING, text, now)
    for one in new:
        recover(store, f"{KEY}gone:{one.action_id}", f"{one.symbol}: {one.kind} is announced again", now)
    for fault in ("beside", "nothing"):
        if fault in told.faults:
            raise_alert(store, KEY + fault, AlertLevel.ERROR, told.faults[fault], now)
        else:
            recover(store, KEY + fault, "corporate actions are told again", now)
    return new


def changes_lots(told: Told) -> bool:
    """True when something that was known to change lots is gone."""
    return any(one.action is not None for one in told.gone)


def _seen(feed: Feed) -> date:
    """The day on which corporate actions were last asked for, or prices were first loaded."""
    told = feed.store.meta.get(SEEN)
    if told is not None:
        return date.fromisoformat(told)
    loaded = (one.as_of for one in feed.store.market.coverage().values())
    return min(loaded, default=feed.clock.now()).astimezone(NEW_YORK).date()


def _seen_beside(feed: Feed) -> dict[str, str]:
    found: dict[str, str] = json.loads(feed.store.meta.get(SEEN_BESIDE) or "{}")
    return found


def _spans(feed: Feed, beside: Mapping[str, date], but: frozenset[str]) -> dict[date, set[str]]:
    """From when on to ask for which symbols, `but` for those that are asked for anyway."""
    seen, spans = _seen_beside(feed), dict[date, set[str]]()
    for symbol, first in beside.items():
        if symbol not in but:
            last = date.fromisoformat(seen[symbol]) if symbol in seen else first
            spans.setdefault(min(last, feed.today) - ACTIONS_AROUND, set()).add(symbol)
    return spans
