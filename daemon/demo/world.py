"""The demo's world: the venue and its clock, the money that arrives, the household, and the person who approves.

Time is the venue's own durable clock. At each instant of a session the world acts first and the daemon ticks after
it; both can be repeated at the same instant without changing anything. So a process killed anywhere is continued by
looking at the clock: everything before it is done, and the instant it shows is done once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from brokers.simulated import SimulatedVenue, VenuePrices, VenueSettings
from daemon.approvals import realized_gain
from daemon.clock import WorldClock
from daemon.constituents import constituents
from daemon.day import tick, work_waiting
from daemon.demo.household import SESSIONS_A_YEAR, FilledHarvest, purchases
from daemon.demo.prices import LAST_DAY, demo_calendar, demo_prices
from daemon.errors import HarvestdError
from daemon.house import House
from daemon.market_calendar import MarketCalendar, SessionTimes
from daemon.settings import Settings
from state.records import PlanState, ReliefMethod
from state.store import Command, Store

OPENING_DEPOSIT = Decimal(500_000)
MONTHLY_DEPOSIT = Decimal(5_000)
REJECTED_GAIN_USD = Decimal(40_000)
MAIN = "main"
MORNING_STEP = timedelta(minutes=30)
LATEST_EVENING = timedelta(hours=4)  # after this long past a close, the session is behind us

APPROVAL_RULE = (
    f"Approvals: a stand-in for you approves every plan that asks, two minutes later, unless it would realize more "
    f"than {REJECTED_GAIN_USD:,} USD of gains; such a plan is rejected."
)


def venue_path(database: Path) -> Path:
    """The venue's own database, beside the daemon's."""
    return database.with_name(database.name + ".venue")


def open_venue(database: Path, prices: VenuePrices, start: datetime) -> SimulatedVenue:
    """The demo's venue: FIFO, whole shares, two basis points of half spread, one order in ten filled in two parts."""
    settings = VenueSettings(
        seed="harvestd-demo",
        half_spread_bps=Decimal(2),
        partial_fill_probability=0.10,
        rejection_probability=0.01,
        relief_method=ReliefMethod.FIFO,
        fractional=False,
        lot_selection=False,
    )
    return SimulatedVenue(venue_path(database), prices, settings, account_number="SIM-DEMO", start=start)


def demo_house(store: Store, venue: SimulatedVenue, calendar: MarketCalendar) -> House:
    """A house at work in the demo's world, with the settings its database was made with."""
    text = store.meta.get("settings")
    if text is None:
        raise HarvestdError(f"{store.path}: expected a demo's database with its settings; run `harvestd demo`")
    settings = Settings.model_validate_json(text)
    return House(
        settings=settings,
        store=store,
        clock=WorldClock(lambda: venue.now),
        calendar=calendar,
        brokers={MAIN: venue.broker()},
        constituents=constituents(settings, store.path.parent),
    )


def open_world(path: Path, *, private: bool = False, approver: bool = False) -> World:
    """The world of an existing demo database, from its clock on to the end of its prices.

    `private` works on a copy of the daemon's database. Without `approver` plans wait for a person.
    """
    if not venue_path(path).exists():
        raise HarvestdError(
            f"{path}: expected the venue's file {venue_path(path)} beside it; `harvestd demo` starts anew"
        )
    calendar = demo_calendar()
    prices = demo_prices(calendar)
    store = Store.private_copy(path) if private else Store.open(path, durable=False)
    span = store.meta.get("span")
    if span is None:
        raise HarvestdError(f"{path}: expected a demo's database with the days it was made for; run `harvestd demo`")
    first = date.fromisoformat(json.loads(span)["from"])
    venue = open_venue(path, prices, prices.sessions[0].opens_at)
    ahead = tuple(one for one in calendar.between(first, LAST_DAY) if one.closes_at + LATEST_EVENING >= venue.now)
    return World(demo_house(store, venue, calendar), venue, prices, first, ahead, approver)


@dataclass
class World:
    """Everything outside the daemon, and the daemon in it."""

    house: House
    venue: SimulatedVenue
    prices: VenuePrices
    first: date  # the day of the opening deposit
    sessions: tuple[SessionTimes, ...]  # those to live through
    approver: bool = True  # whether the stand-in answers plans that ask

    def close(self) -> None:
        """Release both databases."""
        self.house.store.close()
        self.venue.close()

    def beats(self) -> Iterator[tuple[SessionTimes, bool]]:
        """Live through the sessions from wherever the clock stands, an instant at a time.

        Yields after each instant the session, and whether it is over.
        """
        for session in self.sessions:
            evening = self._evening(session)
            if self.venue.now > evening:
                yield session, True
                continue
            for instant in self._instants(session):
                if instant >= self.venue.now:
                    self._at(session, instant)
                    yield session, instant == evening

    def _evening(self, session: SessionTimes) -> datetime:
        return session.closes_at + self.house.timetable.evening_after_close

    def _instants(self, session: SessionTimes) -> Iterator[datetime]:
        """The instants at which something can be due. While nothing waits, working instants are passed over."""
        timetable = self.house.timetable
        decide = session.closes_at - timetable.decide_before_close
        yield session.opens_at - timetable.preopen
        instant = session.opens_at
        while instant < decide:  # an answer given overnight is acted on in the morning
            if instant == self.venue.now or any(work_waiting(self.house, one) for one in self.house.managed):
                yield instant
            instant += MORNING_STEP
        yield decide
        instant = decide
        step = timedelta(seconds=self.house.settings.schedule.work_every_s)
        while (instant := instant + step) < session.closes_at:
            if instant == self.venue.now or any(work_waiting(self.house, one) for one in self.house.managed):
                yield instant
        yield self._evening(session)

    def _at(self, session: SessionTimes, instant: datetime) -> None:
        self.venue.advance_to(instant)
        if instant < session.opens_at:
            self._deposit(session)
        if self.approver:
            self._approve(instant)
        tick(self.house)
        if instant == self._evening(session):
            self._household(session)

    def _deposit(self, session: SessionTimes) -> None:
        """The opening deposit on the first day, the monthly one on the first session of each later month."""
        day = session.session
        if day == self.first:
            self.venue.deposit(OPENING_DEPOSIT, reference="opening")
        elif self.house.calendar.between(day.replace(day=1), day)[0].session == day:
            self.venue.deposit(MONTHLY_DEPOSIT, reference=f"monthly-{day:%Y-%m}")

    def _approve(self, instant: datetime) -> None:
        """The stand-in's rule, as commands in the inbox: the path a person's answer takes."""
        for plan in self.house.store.plans.list(only_open=True):
            if plan.state is PlanState.AWAITING_APPROVAL and plan.created_at < instant:
                answer = "reject" if realized_gain(plan.trades) > REJECTED_GAIN_USD else "approve"
                self.house.store.commands.put(
                    Command(
                        command_id=f"{answer}-{plan.plan_id}-{plan.revision}",
                        command=answer,
                        argument=plan.plan_id,
                        created_at=instant,
                        created_by="the demo's rule",
                    )
                )

    def _household(self, session: SessionTimes) -> None:
        days = [item.session for item in self.house.calendar.between(self.first, session.session)]
        place = next(i for i, item in enumerate(self.prices.sessions) if item.session == session.session)
        fills = self.house.store.orders.fills(session_start=session.opens_at - timedelta(days=31))
        rows = purchases(
            session.session,
            days,
            self._closes(place),
            self._closes(place - SESSIONS_A_YEAR),
            frozenset(fill.symbol for fill in fills),
            filled_harvests(self.house),
            session.closes_at,
        )
        if rows:
            self.house.learn(rows)

    def _closes(self, place: int) -> dict[str, Decimal]:
        """Closes of the session at `place` of the history; names without one are left out."""
        found = {symbol: column[place] for symbol, column in self.prices.closes.items()}
        return {symbol: price for symbol, price in found.items() if price is not None}


def filled_harvests(house: House) -> tuple[FilledHarvest, ...]:
    """Harvests of the main account that sold something, oldest first."""
    return tuple(FilledHarvest(day, symbol) for day, symbol in house.store.harvested())
