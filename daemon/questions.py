"""What a person has to settle before a symbol is traded again, though its shares may agree to the last one.

The problem: some of what brokers and issuers tell changes basis or shares in a way no rule covers: a spin-off whose
share of the basis nobody announced, a line of an unknown kind, a line that the broker no longer tells, a split
announced in two ways. The count of shares can agree and the basis be wrong, and a loss counted from it would be one
that nobody has.

So a question is asked once, with an alert, and its symbol stays locked until it is settled: by what becomes known
later, or by a person (`harvestd reconcile adopt`). A settled one is never asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from daemon.house import House
from state.reasons import ReasonCode, because
from state.records import (
    QUANTUM,
    Account,
    AlertLevel,
    CorporateAction,
    CorporateActionKind,
    CorporateNotice,
    Transaction,
    TransactionKind,
)
from state.store import Store
from state.store.actions import BOOKED_BEFORE_DAYS, is_announced

SPLIT, REORGANIZATION, ACTION, VANISHED = "split:", "reorganization:", "action:", "vanished:"  # ids of questions
CONTESTED, TWICE = "contested:", "twice:"
_SPLITS = frozenset({CorporateActionKind.SPLIT})
_MERGERS = frozenset({CorporateActionKind.STOCK_MERGER, CorporateActionKind.CASH_MERGER})
_RESHAPING = _SPLITS | _MERGERS | {CorporateActionKind.SPINOFF, CorporateActionKind.SYMBOL_CHANGE}
_ANSWERS = {  # a broker's word for what it booked -> the announcements that say what it does to lots
    "SPIN": frozenset({CorporateActionKind.SPINOFF}),
    "MA": _MERGERS,
    "CIL": _SPLITS | _MERGERS,
}
WHAT_TO_DO = (
    "Until then {symbol} is not traded. If its lots are wrong, import them corrected (`harvestd ledger import`); "
    "`harvestd reconcile adopt {symbol}` then settles it."
)
LATELY = timedelta(days=30)
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


def booked_id(prefix: str, day: date, words: str, activity_id: str) -> str:
    """The id of a question about what a broker booked: the day, the broker's word for it, and the line."""
    word = words.replace("/", " ").split(" ", 1)[0]
    return f"{prefix}{day}:{word if word in _ANSWERS else ''}:{activity_id}"


def is_answered(house: House, symbol: str, question_id: str) -> bool:
    """True when what issuers announced answers a split without ratio, or a reorganization (`booked_id`)."""
    prefix, _, rest = question_id.partition(":")
    if f"{prefix}:" not in (SPLIT, REORGANIZATION):
        return False
    day, word, *_ = *rest.split(":", 2), ""
    kinds = _SPLITS if f"{prefix}:" == SPLIT else _ANSWERS.get(word, _RESHAPING)
    booked, around = date.fromisoformat(day), timedelta(days=BOOKED_BEFORE_DAYS)
    told = house.store.actions.notices([symbol], booked - around, booked + around)
    answers = {each.action_id for each in told if each.action is not None and each.action.kind in kinds}
    answers = {action_id for action_id in answers if is_announced(action_id)}
    return bool(answers - {each.action_id for group in house.store.actions.contested() for each in group})


def keep_questions(house: House, account: Account, held: Iterable[str]) -> tuple[Question, ...]:
    """Ask about issuers' actions that need a person, on symbols the account holds, and about announcements that
    contradict each other, on symbols the household has had; settle what is answered since. Returns what is open."""
    store, now = house.store, house.clock.now()
    needing = store.actions.needing_person()
    questions = (*_needing_person(house, account, needing, frozenset(held)), *_contradicting(house, account))
    asked = {question.question_id: question for question in questions}
    for question in asked.values():
        ask(store, question, now)
    needed = {f"{ACTION}{each.action_id}" for each in needing}
    still_open = []
    for question in open_questions(store, account.account_id):
        question_id = question.question_id
        if question_id.startswith(ACTION) and question_id not in needed:
            settle(store, question, "what it does is announced now, or it no longer is", now)
        elif question_id.startswith(CONTESTED) and question_id not in asked:
            settle(store, question, "what is announced no longer contradicts itself", now)
        elif question_id.startswith(TWICE) and question_id not in _booked_twice(house, account, question.symbol):
            settle(store, question, "one of the two lines is gone, or it is announced as one split", now)
        elif is_answered(house, question.symbol, question_id):
            settle(store, question, "what it does is announced now", now)
        else:
            still_open.append(question)
    return tuple(still_open)


def _needing_person(
    house: House, account: Account, needing: Iterable[CorporateNotice], held: frozenset[str]
) -> Iterator[Question]:
    today, first_days = house.clock.now().astimezone(NEW_YORK).date(), house.ledger.first_days
    for notice in needing:
        first = first_days.get(notice.symbol, date.max)
        if notice.symbol in held and first <= notice.ex_date <= today:
            words = f": {notice.note}" if notice.note else ""
            text = (
                f"{notice.symbol}: {notice.kind.replace('_', ' ')} with ex-date {notice.ex_date}{words}. It changes "
                f"shares or basis, and harvestd has no rule for it. {WHAT_TO_DO.format(symbol=notice.symbol)}"
            )
            yield Question(account.account_id, notice.symbol, f"{ACTION}{notice.action_id}", text)


def _contradicting(house: House, account: Account) -> Iterator[Question]:
    """What of the household's symbols is announced in several ways, from the first of the days on. An account that
    does not hold them must not trade them either: another one's lots are counted wrongly."""
    today, first_days = house.clock.now().astimezone(NEW_YORK).date(), house.ledger.first_days
    for group in house.store.actions.contested():
        symbol = group[0].symbol
        if not first_days.get(symbol, date.max) <= group[-1].ex_date or group[0].ex_date > today:
            continue
        ways = " and ".join(
            f"{each.ratio_new.normalize():f}:{each.ratio_old.normalize():f} with ex-date {each.ex_date} "
            f"(id {each.action_id})"
            for each in group
        )
        text = (
            f"{symbol}: its {group[0].kind.value} is announced as {ways}. Which is right is not known, so none applies "
            f"and {symbol} is not traded, in no account. It ends when the source tells one of them only, or with "
            "`harvestd reconcile withdraw ID`."
        )
        yield Question(account.account_id, symbol, CONTESTED + "+".join(each.action_id for each in group), text)


def split_on_one_side(house: House, symbol: str, ours: Decimal, theirs: Decimal) -> CorporateAction | None:
    """The announced split of these weeks by which just our lots and the broker's shares differ, if there is one."""
    today = house.clock.now().astimezone(NEW_YORK).date()
    for each in house.store.actions.notices([symbol], today - LATELY, today + LATELY):
        split = each.action
        if split is not None and split.kind is CorporateActionKind.SPLIT and ours and theirs:
            times = split.ratio_new / split.ratio_old
            if theirs in ((ours * times).quantize(QUANTUM), (ours / times).quantize(QUANTUM)):
                return split
    return None


def ask_of_splits(house: House, account: Account, rows: Iterable[Transaction]) -> None:
    """Ask about splits just journaled that the broker seems to have booked twice: both count."""
    for symbol in sorted({row.symbol or "" for row in rows if row.kind is TransactionKind.SPLIT}):
        for question_id, (one, other) in _booked_twice(house, account, symbol).items():
            text = (
                f"{symbol}: the broker booked the split {one.ratio_new}:{one.ratio_old} on {one.trade_date} and again "
                f"on {other.trade_date} ({one.transaction_id}, {other.transaction_id}). Both count, unless one split "
                f"is announced. {WHAT_TO_DO.format(symbol=symbol)}"
            )
            ask(house.store, Question(account.account_id, symbol, question_id, text), house.clock.now())


def _booked_twice(house: House, account: Account, symbol: str) -> dict[str, tuple[Transaction, Transaction]]:
    """Equal splits of one account within a week that no announcement says to be one, by the question about them."""
    around = timedelta(days=BOOKED_BEFORE_DAYS)
    void, journal = house.ledger.superseded, house.store.journal
    rows = [
        row
        for row in journal.about(account.account_id, symbol)
        if row.kind is TransactionKind.SPLIT and row.transaction_id not in void
    ]
    found = {}
    for one, other in pairwise(rows):
        if other.trade_date - one.trade_date > around or _ratio(one) != _ratio(other):
            continue
        told = house.store.actions.notices([symbol], one.trade_date - around, one.trade_date + around)
        if not any(each.action is not None and each.action.kind is CorporateActionKind.SPLIT for each in told):
            found[f"{TWICE}{one.transaction_id}+{other.transaction_id}"] = one, other
    return found


def _ratio(row: Transaction) -> Decimal:
    assert row.ratio_new is not None
    assert row.ratio_old is not None
    return row.ratio_new / row.ratio_old
