"""Whether orders may leave: the daemon's state, worked out anew from each look at the broker.

| state       | when                                                                                                |
|-------------|-----------------------------------------------------------------------------------------------------|
| HALTED      | a person, or a contradiction, stopped trading; only `harvestd resume` lifts it                       |
| STALE       | another account number than the configured one, the account is blocked, or the two clocks disagree   |
| CLOSED      | the exchange is closed, by its calendar and by the broker                                            |
| RECONCILING | the stream of order updates is not listening, or came back after this look at the broker began       |
| OPEN        | none of these                                                                                       |

A stream tells nothing twice: what happened while it was away is learned by asking. Every look at the broker asks for
orders and history (cycle.py), so a look that began after the stream was listening has caught up.
"""

from __future__ import annotations

from datetime import datetime

from daemon.gate import DaemonState, market_state
from daemon.halt import is_halted
from daemon.house import House
from daemon.market_calendar import SessionTimes
from state.reasons import Reason, ReasonCode, because
from state.records import Account, BrokerAccount, BrokerClock

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
    expected = account.account_number or house.store.meta.get(bound_to(account))
    if expected and figures.account_number != expected:
        return DaemonState.STALE, because(ReasonCode.ACCOUNT_MISMATCH, expected=expected, broker=figures.account_number)
    if figures.trading_blocked:
        why = "; ".join(figures.restrictions) or "blocked by the broker"
        return DaemonState.STALE, because(ReasonCode.STATE_NOT_OPEN, account=why)
    state, reason = market_state(session, clock, now)
    link = house.links.get(account.account_id)
    if state is DaemonState.OPEN and link is not None and not link.has_caught_up():
        return DaemonState.RECONCILING, because(ReasonCode.STATE_NOT_OPEN, order_updates=link.state)
    return state, reason
