"""Whether orders may leave: the daemon's state, worked out anew from each look at the broker.

| state       | when                                                                                                |
|-------------|-----------------------------------------------------------------------------------------------------|
| HALTED      | a person, or a contradiction, stopped trading; only `harvestd resume` lifts it                       |
| STALE       | the account is blocked, or the two clocks disagree                                                   |
| CLOSED      | the exchange is closed, by its calendar and by the broker                                            |
| RECONCILING | the stream of order updates is not listening, or came back after this look at the broker began       |
| OPEN        | none of these                                                                                       |

A stream tells nothing twice: what happened while it was away is learned by asking. Every look at the broker asks for
orders and history (cycle.py), so a look that began after the stream was listening has caught up.
"""

from __future__ import annotations

from datetime import datetime

from daemon.alerts import raise_alert, recover
from daemon.errors import MustHalt
from daemon.gate import DaemonState, market_state
from daemon.halt import is_halted
from daemon.house import House
from daemon.market_calendar import SessionTimes
from state.reasons import Reason, ReasonCode, because
from state.records import Account, AlertLevel, BrokerAccount, BrokerClock

BOUND_TO = "account_number:"  # in the store's meta: the number an account was first seen with


def bound_to(account: Account) -> str:
    """The key of that number."""
    return f"{BOUND_TO}{account.account_id}"


def state_of(
    house: House,
    account: Account,
    session: SessionTimes | None,
    clock: BrokerClock,
    figures: BrokerAccount,
    now: datetime,
) -> tuple[DaemonState, Reason | None]:
    """The state for one account, and why it is not OPEN."""
    if is_halted(house.store.path):
        return DaemonState.HALTED, because(ReasonCode.STATE_HALTED)
    if figures.trading_blocked:
        why = "; ".join(figures.restrictions) or "blocked by the broker"
        return DaemonState.STALE, because(ReasonCode.STATE_NOT_OPEN, account=why)
    state, reason = market_state(session, clock, now)
    link = house.links.get(account.account_id)
    if state is DaemonState.OPEN and link is not None and not link.has_caught_up():
        return DaemonState.RECONCILING, because(ReasonCode.STATE_NOT_OPEN, order_updates=link.state)
    return state, reason


def require_account(house: House, account: Account, figures: BrokerAccount) -> None:
    """Raises MustHalt when the keys open another account than before: nothing of it may get into the journal."""
    expected = account.account_number or house.store.meta.get(bound_to(account))
    if expected and figures.account_number != expected:
        reason = because(ReasonCode.ACCOUNT_MISMATCH, expected=expected, broker=figures.account_number)
        raise MustHalt(f"{account.account_id}: {reason.code.meaning} {reason}. Check the keys, then `harvestd resume`.")


def tell_state(house: House, account: Account, state: DaemonState, reason: Reason | None, now: datetime) -> None:
    """One alert while the state keeps orders from leaving though the market is open, and one when that is over.

    A stream that is away for a moment is no incident.
    """
    key = f"state:{account.account_id}"
    away = {state.value} if state is DaemonState.RECONCILING else set[str]()
    if state is DaemonState.STALE or house.overdue(key, away, now):
        why = f"{reason.code.meaning} {reason}" if reason else ""
        text = f"No order leaves for {account.account_id} while it is {state.value}. {why}".strip()
        raise_alert(house.store, key, AlertLevel.ERROR, text, now)
    elif state is not DaemonState.RECONCILING and state is not DaemonState.HALTED:
        recover(house.store, key, f"{account.account_id}: nothing keeps orders from leaving any more", now)
