"""Taking in what the stream of order updates said, and what it should have said.

Events lie in the store as they came. Each is taken once: what it says of an order of ours moves the intent on; what
cannot be read is set aside with the reason, told once, and never stops the rest.
"""

from __future__ import annotations

import structlog

from daemon import outcomes
from daemon.alerts import raise_alert, recover
from daemon.crash_points import CrashPoint, passing
from daemon.house import House
from state.records import Account, AlertLevel

log = structlog.get_logger("updates")


def take_updates(house: House, account: Account) -> None:
    """Move intents on by the events that wait. A look at the broker begins with it."""
    link = house.links.get(account.account_id)
    if link is None:
        return
    link.begin()
    for event in house.store.events.waiting(account.account_id):
        fault = ""
        with house.store.transaction():
            try:
                order = link.read(event.body)
                if order is not None:
                    outcomes.take_update(house, account, order)
            except (ValueError, LookupError, TypeError, ArithmeticError) as error:
                fault = f"{type(error).__name__}: {error}"
            house.store.events.take(event.event_id, house.clock.now(), fault)
            passing(CrashPoint.UPDATE_READ)
            if fault:
                text = (
                    f"An order update of {account.account_id} could not be read and was set aside (event "
                    f"{event.event_id}): {fault}. The order's fate is taken from the broker's records instead."
                )
                raise_alert(house.store, f"update:{event.event_id}", AlertLevel.WARNING, text, house.clock.now())


def settle(house: House, account: Account) -> None:
    """Bring open intents up to the broker's records, and make sure that the stream told the same."""
    told = outcomes.settle(house, account)
    link = house.links.get(account.account_id)
    if link is None:
        return
    key = f"updates:{account.account_id}"
    missed = link.missed(told)
    if missed:
        text = f"The stream of order updates did not tell of {', '.join(sorted(missed))}; it connects again."
        raise_alert(house.store, key, AlertLevel.WARNING, text, house.clock.now())
    elif link.has_caught_up():
        recover(house.store, key, "the stream of order updates is listening", house.clock.now())
