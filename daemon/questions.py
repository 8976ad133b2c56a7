"""What a person has to settle before a symbol is traded again, though its shares may agree to the last one.

The problem: some of what brokers and issuers tell changes basis or shares in a way no rule covers: a spin-off whose
share of the basis nobody announced, a line of an unknown kind, a line that the broker no longer tells. The count of
shares can agree and the basis be wrong, and a loss counted from it would be one that nobody has.

So a question is asked once, with an alert, and its symbol stays locked until it is settled: by what becomes known
later, or by a person (`harvestd reconcile adopt`). A settled one is never asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from daemon.house import House
from state.reasons import ReasonCode, because
from state.records import Account, AlertLevel, CorporateActionKind
from state.store import Store
from state.store.actions import BOOKED_BEFORE_DAYS

SPLIT, REORGANIZATION, ACTION, VANISHED = "split:", "reorganization:", "action:", "vanished:"  # ids of questions
WHAT_TO_DO = (
    "Until then {symbol} is not traded. If its lots are wrong, import them corrected (`harvestd ledger import`); "
    "`harvestd reconcile adopt {symbol}` then settles it."
)
_PREFIX = "question:"  # in the store's meta, and of the incidents


@dataclass(frozen=True, slots=True)
class Question:
    """One open question about a symbol in an account, or about its cash (symbol ""). `text` is what a person reads."""

    account_id: str
    symbol: str
    question_id: str
    text: str

    @property
    def lock(self) -> str:
        """Why the symbol is locked, as a reason code."""
        return str(because(ReasonCode.SYMBOL_UNSETTLED, symbol=self.symbol, question=self.question_id))


def ask(store: Store, question: Question, now: datetime, *, tell: bool = True, again: bool = False) -> None:
    """Ask, unless it was asked before; with `again`, also what was settled: it has happened anew. Without `tell` no
    alert is raised for it."""
    key = _key(question)
    if store.meta.get(key) is None or again:
        store.meta.put(key, _text(question, settled=""))
        if tell:
            raise_alert(store, key, AlertLevel.ERROR, f"{question.text} {question.lock}", now)


def settle(store: Store, question: Question, how: str, now: datetime) -> None:
    """Note that a question is settled, and how; ends its incident."""
    key = _key(question)
    store.meta.put(key, _text(question, settled=how))
    recover(store, key, f"{question.symbol}: {how}", now)


def open_questions(store: Store, account_id: str) -> tuple[Question, ...]:
    """What is still open in an account, by symbol and id."""
    found = []
    for text in store.meta.starting(f"{_PREFIX}{account_id}:").values():
        item = json.loads(text)
        if not item.pop("settled"):
            found.append(Question(account_id, **item))
    return tuple(found)


def _key(question: Question) -> str:
    return f"{_PREFIX}{question.account_id}:{question.symbol}:{question.question_id}"


def _text(question: Question, settled: str) -> str:
    told = {"symbol": question.symbol, "question_id": question.question_id, "text": question.text}
    return json.dumps({**told, "settled": settled})


# ------------------------------------------------------------------ what is asked


def is_answered(house: House, symbol: str, question_id: str) -> bool:
    """True when what was announced answers a split without ratio, or a reorganization, of that day."""
    word, _, day = question_id.partition(":")
    if f"{word}:" not in (SPLIT, REORGANIZATION):
        return False
    booked, around = date.fromisoformat(day), timedelta(days=BOOKED_BEFORE_DAYS)
    told = house.store.actions.notices([symbol], booked - around, booked + around)
    return any(
        each.action is not None and (f"{word}:" != SPLIT or each.action.kind is CorporateActionKind.SPLIT)
        for each in told
    )


def keep_questions(house: House, account: Account, held: Iterable[str]) -> tuple[Question, ...]:
    """Ask about issuers' actions that need a person, on symbols the account holds; settle what is answered since.
    Returns what is open."""
    store, now = house.store, house.clock.now()
    today, first_days, mine = now.astimezone(NEW_YORK).date(), house.ledger.first_days, frozenset(held)
    needing = {each.action_id: each for each in store.actions.needing_person()}
    for notice in needing.values():
        first = first_days.get(notice.symbol, date.max)
        if notice.symbol in mine and first <= notice.ex_date <= today:
            words = f": {notice.note}" if notice.note else ""
            text = (
                f"{notice.symbol}: {notice.kind.replace('_', ' ')} with ex-date {notice.ex_date}{words}. It changes "
                f"shares or basis, and harvestd has no rule for it. {WHAT_TO_DO.format(symbol=notice.symbol)}"
            )
            ask(store, Question(account.account_id, notice.symbol, f"{ACTION}{notice.action_id}", text), now)
    still_open = []
    for question in open_questions(store, account.account_id):
        action_id = question.question_id.removeprefix(ACTION)
        was_action = question.question_id.startswith(ACTION)
        if (was_action and action_id not in needing) or is_answered(house, question.symbol, question.question_id):
            settle(store, question, "what it does is announced now", now)
        else:
            still_open.append(question)
    return tuple(still_open)
