"""A household that lives through whatever comes, in any order: after each step the books agree.

hypothesis draws the steps: time passes, plans are made and sent, orders fill, fill in part, are cancelled or refused,
answers are lost before or after acceptance, fills are taken back and put back by the broker's history, order updates
come, come twice, late or not at all, the broker goes away and comes back, the daemon is started anew, somebody trades
by hand, issuers pay and split, trading is halted and resumed, this machine's clock jumps, another account's trades are
imported. The daemon must never raise, and every invariant holds after each step. In the end whatever was broken is
mended, a quiet day passes, and nothing at all may be open.

A run in CI is always the same. `--hypothesis-profile=long` draws other stories, and more of them.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from invariants import broken_in, check_invariants, check_reconciling_twice
from small_house import AHEAD, NAMES, make_stage

from brokers.protocol import ActivityPage
from brokers.simulated import VenueError
from daemon.clock import WorldClock
from daemon.halt import halt, halt_file, is_halted
from daemon.link import Link
from state.records import Activity, BrokerOrder, IntentState, Side
from state.store import JournalConflict, Store

EVERY_RUN = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
}
names = st.sampled_from(NAMES[:5])
FEW = timedelta(minutes=2)
SKEW = timedelta(seconds=5)  # of the clock, that the daemon trades with
HELD_TO = 6  # sessions a story may last


@contextmanager
def _empty_database() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        Store.open(path, create=True).close()
        yield path


class Stream:
    """The stream of order updates: an event is the number of a report in the venue's own log."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.connection = 1
        self.is_listening = True
        self.fault = ""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def suspect(self) -> None:
        """Connects again at once."""
        self.connection += 1


class Household(RuleBasedStateMachine):
    """The stage, what is wrong with it at the moment, and what may happen to it next."""

    empty: ClassVar[Path]  # a migrated database
    lived: ClassVar[Counter[str]]  # of all stories: steps, orders, fills, and how intents ended

    @initialize(partial=st.booleans())
    def begin(self, partial: bool) -> None:
        """An account with ten names, on the morning of session 1."""
        self.folder = Path(tempfile.mkdtemp())
        venue = {"fractional": True, "partial_fill_probability": 0.3 if partial else 0.0}
        self.stage = make_stage(self.folder, self.empty, venue=venue, optimizer={"rebalance_at": "never"})
        self.numbers = itertools.count(1)
        self.number = 1  # the session
        self.rewritten: dict[str, Activity] = {}  # lines of the broker's history, as it tells them now
        self.ever_rewritten: set[str] = set()
        self.heard = 0  # reports of orders that the stream told
        self.skew = timedelta(0)
        self.stream = Stream()
        self.stage.invest(0, 8_000)
        self.wire()
        self.stage.tick(self.stage.before_open(1))
        self.stage.tick(self.stage.at(1, 2))

    def wire(self) -> None:
        """Give the daemon's process what a process has: a clock that may be wrong, a stream, a broker's history."""
        house, venue = self.stage.house, self.stage.venue
        broker = venue.broker()
        house.clock = WorldClock(lambda: venue.now + self.skew)
        house.links = {"main": Link(self.stream, self.read)}
        self.stage.alter(
            capabilities=replace(broker.capabilities, amends_history=True),
            activities=lambda after=None: self.page(broker.activities(after)),
            activities_since=lambda day: self.as_told(broker.activities_since(day)),
        )

    def page(self, page: ActivityPage) -> ActivityPage:
        """What is new in the history."""
        return replace(page, activities=self.as_told(page.activities))

    def as_told(self, lines: Iterable[Activity]) -> tuple[Activity, ...]:
        """Lines of the venue's, as the broker tells them."""
        return tuple(self.rewritten.get(line.activity_id, line) for line in lines)

    def read(self, body: str) -> BrokerOrder | None:
        """What an event says."""
        if not body.isdecimal():
            raise ValueError(f"no event: {body}")
        return self.stage.venue.book.events[int(body)]

    @property
    def is_open(self) -> bool:
        """True while the exchange is."""
        return self.stage.venue.schedule.open_session(self.stage.venue.now) is not None

    # -------------------------------------------------------------- time

    def tick(self, instant: datetime) -> None:
        """Time passes, and the daemon does what is due."""
        self.stage.tick(instant)

    @rule(minutes=st.integers(0, 20))
    def some_minutes_pass(self, minutes: int) -> None:
        self.tick(self.stage.venue.now + timedelta(minutes=minutes))

    @rule()
    def two_minutes_pass(self) -> None:
        self.tick(self.stage.venue.now + FEW)

    @precondition(lambda self: self.number < HELD_TO and not self.skew)
    @rule()
    def the_day_ends_and_another_begins(self) -> None:
        for minutes in (0, 4, 8, 14, 18):
            at = self.stage.decision(self.number, minutes)
            if at > self.stage.venue.now:
                self.tick(at)
        self.tick(max(self.stage.evening(self.number), self.stage.venue.now))
        self.number += 1
        self.tick(self.stage.before_open(self.number))
        self.tick(self.stage.at(self.number, 2))

    # -------------------------------------------------------------- plans

    @precondition(lambda self: self.is_open and not self.stage.house.store.plans.list(only_open=True))
    @rule(symbol=names, other=names, shares=st.integers(1, 40), kind=st.sampled_from(("buy", "sell", "swap")))
    def a_plan_is_decided(self, symbol: str, other: str, shares: int, kind: str) -> None:
        assume(not self.is_away)
        assume(kind != "swap" or symbol != other)
        held = int(self.stage.house.ledger.position("main", symbol))
        legs = {
            "buy": [(Side.BUY, symbol, shares)],
            "sell": [(Side.SELL, symbol, min(shares, held))],
            "swap": [(Side.SELL, symbol, min(shares, held)), (Side.BUY, other, max(1, min(shares, held) // 2))],
        }[kind]
        assume(all(quantity > 0 for _, _, quantity in legs))
        self.stage.execute(*legs)

    @property
    def is_away(self) -> bool:
        """True while the broker answers nothing."""
        return "unavailable" in self.stage.venue.book.switches

    # -------------------------------------------------------------- what the venue does

    @rule(fraction=st.sampled_from(("0", "0.3", "0.5", "1")), hold=st.booleans(), which=st.integers(0, 3))
    def an_order_will_fill_in_part(self, fraction: str, hold: bool, which: int) -> None:
        open_ones = self.stage.house.store.orders.list(only_open=True)
        assume(len(open_ones) > which)
        self.stage.venue.fill_next(open_ones[which].client_order_id, Decimal(fraction), hold_rest=hold)

    @rule(which=st.integers(0, 3))
    def an_order_is_cancelled_at_the_venue(self, which: int) -> None:
        working = self.stage.venue.book.open_orders()
        assume(len(working) > which and not self.is_away)
        self.stage.venue.cancel(working[which].broker_order_id)

    @rule(symbol=names)
    def the_next_order_in_a_name_is_refused(self, symbol: str) -> None:
        self.stage.venue.reject_next(symbol)

    @rule(when=st.sampled_from(("before", "after")))
    def the_next_answer_is_lost(self, when: Any) -> None:
        self.stage.venue.lose_next_answer(when)

    @rule(away=st.booleans())
    def the_broker_goes_away_or_comes_back(self, away: bool) -> None:
        self.stage.venue.set_unavailable(away)

    @rule(blocked=st.booleans())
    def the_account_is_blocked_or_free(self, blocked: bool) -> None:
        self.stage.venue.block_account(blocked)

    @rule(symbol=names, halted=st.booleans())
    def a_name_is_halted_or_trades_again(self, symbol: str, halted: bool) -> None:
        (self.stage.venue.halt if halted else self.stage.venue.unhalt)(symbol)

    @rule(symbol=names, cents=st.integers(1, 90))
    def a_dividend_is_paid(self, symbol: str, cents: int) -> None:
        self.stage.venue.pay_dividend(symbol, Decimal(cents).scaleb(-2))

    @rule(symbol=names, ratio=st.sampled_from(((2, 1), (3, 2), (1, 2))))
    def a_name_splits(self, symbol: str, ratio: tuple[int, int]) -> None:
        self.stage.venue.split(symbol, Decimal(ratio[0]), Decimal(ratio[1]))

    @rule(dollars=st.integers(1, 20_000), into=st.booleans())
    def money_comes_or_goes(self, dollars: int, into: bool) -> None:
        move = self.stage.venue.deposit if into else self.stage.venue.withdraw
        try:
            move(Decimal(dollars), reference=f"cash-{next(self.numbers)}")
        except VenueError:
            assume(False)

    @rule(back=st.integers(1, 4), busted=st.booleans())
    def the_history_tells_a_fill_otherwise(self, back: int, busted: bool) -> None:
        fills = self.stage.venue.fills()
        assume(len(fills) >= back)
        fill = fills[-back]
        change: dict[str, Any] = {"cancelled": True}
        if not busted:
            paid = fill.quantity * Decimal("0.01") * -fill.side.sign if fill.side else Decimal(0)
            change = {"price": fill.price + Decimal("0.01"), "amount": fill.amount + paid}
        self.rewritten[fill.activity_id] = replace(fill, **change)
        self.ever_rewritten.add(fill.activity_id)

    @rule()
    def the_history_tells_all_fills_as_they_were(self) -> None:
        self.rewritten.clear()

    # -------------------------------------------------------------- what people do

    @precondition(lambda self: self.is_open)
    @rule(symbol=names, shares=st.integers(1, 20), side=st.sampled_from(Side))
    def somebody_trades_by_hand(self, symbol: str, shares: int, side: Side) -> None:
        held = self.stage.venue.book.held.get(symbol, Decimal(0))
        assume(not self.is_away and "blocked" not in self.stage.venue.book.switches)
        assume("lose_answer" not in self.stage.venue.book.switches)
        assume(f"refuse:{symbol}" not in self.stage.venue.book.switches)
        assume(side is Side.BUY or held >= shares + self.promised(symbol))
        assume(side is Side.SELL or self.stage.venue.cash > 10_000)
        self.stage.outside(side, symbol, shares)

    def promised(self, symbol: str) -> Decimal:
        """Shares that open sales may yet take."""
        working = self.stage.venue.book.working.values()
        sales = (one for one in working if one.request.symbol == symbol and one.request.side is Side.SELL)
        return sum((one.remaining for one in sales), Decimal(0))

    @rule(account=st.sampled_from(("spouse", "ira")), symbol=names, shares=st.integers(1, 30))
    def another_accounts_purchase_is_imported(self, account: str, symbol: str, shares: int) -> None:
        day = self.stage.session(self.number - 1).session
        try:
            self.stage.imported(account, Side.BUY, symbol, shares, day)
        except JournalConflict:
            assume(False)  # that row is there already

    @rule()
    def a_person_halts(self) -> None:
        halt(self.stage.path, "by hand", self.stage.venue.now)

    @rule()
    def a_person_resumes(self) -> None:
        halt_file(self.stage.path).unlink(missing_ok=True)

    # -------------------------------------------------------------- what this machine does

    @rule()
    def the_daemon_is_started_anew(self) -> None:
        self.stage.restart()
        self.wire()

    @rule(seconds=st.sampled_from((-3600, -7, 3, 7, 3600)))
    def the_clock_jumps(self, seconds: int) -> None:
        assume(not self.skew)
        self.skew = timedelta(seconds=seconds)

    @rule()
    def the_clock_is_right_again(self) -> None:
        self.skew = timedelta(0)

    # -------------------------------------------------------------- the stream

    @rule()
    def the_stream_tells_what_happened(self) -> None:
        assume(self.stream.is_listening)
        while self.heard < len(self.stage.venue.book.events):
            self.tell(str(self.heard))
            self.heard += 1

    @rule(back=st.integers(1, 6))
    def the_stream_tells_old_news_again(self, back: int) -> None:
        assume(self.heard >= back)
        self.tell(str(self.heard - back))

    @rule()
    def the_stream_skips_an_event(self) -> None:
        assume(self.heard < len(self.stage.venue.book.events))
        self.heard += 1

    @rule()
    def the_stream_talks_nonsense(self) -> None:
        self.tell("{")

    @rule(listening=st.booleans())
    def the_stream_goes_or_comes_back(self, listening: bool) -> None:
        if listening and not self.stream.is_listening:
            self.stream.connection += 1
        self.stream.is_listening = listening

    def tell(self, event: str) -> None:
        """The stream's thread appends an event."""
        self.stage.house.store.events.append("main", "trade_updates", self.stage.house.clock.now(), event)

    # -------------------------------------------------------------- what must hold

    @invariant()
    def the_books_agree(self) -> None:
        self.lived["steps"] += 1
        broken = broken_in(self.stage.house.store, self.stage.venue, skew=SKEW, told_otherwise=self.ever_rewritten)
        assert broken == []

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            self.everything_is_mended()
            self.a_quiet_day_passes()
            check_reconciling_twice(self.stage.house)
            check_invariants(self.stage.path, self.stage.venue, settled=True, skew=SKEW)
            self.lived.update(one.state.value for one in self.stage.intents())
            self.lived["orders"] += len(self.stage.sent())
        finally:
            self.stage.close()
            shutil.rmtree(self.folder)

    def everything_is_mended(self) -> None:
        """All that was broken on purpose."""
        self.skew = timedelta(0)
        self.rewritten.clear()
        self.stream.connection += 1
        self.stream.is_listening = True
        venue = self.stage.venue
        venue.set_unavailable(False)
        venue.block_account(False)
        for name in [name for name in venue.book.switches if name.startswith(("halted:", "refuse:", "lose_"))]:
            venue._set_switch(name, None)
        halt_file(self.stage.path).unlink(missing_ok=True)

    def a_quiet_day_passes(self) -> None:
        """The rest of this one, and the next, in a new process."""
        for minutes in (0, 8, 18):
            self.tick(max(self.stage.decision(self.number, minutes), self.stage.venue.now))
        self.tick(max(self.stage.evening(self.number), self.stage.venue.now))
        assert self.number + 1 < AHEAD
        self.stage.restart()
        self.wire()
        self.stage.live(self.number + 1)
        assert not is_halted(self.stage.path)
        open_ones = self.stage.house.store.orders.list(only_open=True)
        assert [one for one in open_ones if one.state is not IntentState.RECORDED] == []


def test_a_household_lives_through_whatever_comes(request: pytest.FixtureRequest) -> None:
    """Some 3,000 steps in CI; how many rules a step finds to draw from depends on where the story stands."""
    chosen = settings.get_profile(request.config.getoption("--hypothesis-profile") or "usual")
    with _empty_database() as path:
        Household.empty, Household.lived = path, Counter()
        run_state_machine_as_test(Household, settings=settings(chosen, **EVERY_RUN))
    lived = Household.lived
    assert lived["steps"] > 2_000
    assert lived["orders"] > 500, "the stories are about orders"
    assert min(lived["filled"], lived["cancelled"]) > 20, lived
