"""Whether orders may leave: the daemon's state, worked out anew from each look at the broker.

| state       | when                                                                                                |
|-------------|-----------------------------------------------------------------------------------------------------|
| STARTING    | the process has begun, and has not looked yet                                                        |
| HALTED      | a person, or a contradiction, stopped trading; only `harvestd resume` lifts it                       |
| STALE       | the account is blocked, the two clocks disagree, or too many symbols have no quote to be trusted     |
| CLOSED      | the exchange is closed, by its calendar and by the broker                                            |
| RECONCILING | the first look is being made; or the stream of order updates is not listening, or came back after    |
|             | this look at the broker began                                                                        |
| OPEN        | none of these                                                                                       |

A stream tells nothing twice: what happened while it was away is learned by asking. Every look at the broker asks for
orders and history (cycle.py), so a look that began after the stream was listening has caught up.

Each change of state is one row in the database and one line in the log; one that keeps orders from leaving while the
market is open is one alert, and one more when it is over.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from daemon.alerts import raise_alert, recover
from daemon.errors import MustHalt
from daemon.gate import DaemonState, market_state
from daemon.halt import is_halted
from daemon.house import House
from daemon.market_calendar import SessionTimes
from state.reasons import Reason, ReasonCode, because
from state.records import Account, AlertLevel, BrokerAccount, BrokerClock
from state.store import StateRow

log = structlog.get_logger("state")

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
    bad_quotes: tuple[int, int],
) -> tuple[DaemonState, Reason | None]:
    """The state for one account, and why it is not OPEN; `bad_quotes` symbols have no quote to trust, of how many."""
    if house.stopped or is_halted(house.store.path):
        return DaemonState.HALTED, because(ReasonCode.STATE_HALTED)
    if figures.trading_blocked:
        why = "; ".join(figures.restrictions) or "blocked by the broker"
        return DaemonState.STALE, because(ReasonCode.STATE_NOT_OPEN, account=why)
    state, reason = market_state(session, clock, now)
    link = house.links.get(account.account_id)
    if state is DaemonState.OPEN and link is not None and not link.has_caught_up():
        return DaemonState.RECONCILING, because(ReasonCode.STATE_NOT_OPEN, order_updates=link.state)
    bad, of = bad_quotes
    most = house.settings.execution.bad_quotes_max_pct
    if state is DaemonState.OPEN and too_many_bad(house, bad, of):
        return DaemonState.STALE, because(ReasonCode.DATA_BAD_QUOTES, symbols=bad, of=of, most_pct=most)
    return state, reason


def too_many_bad(house: House, bad: int, of: int) -> bool:
    """True when so many symbols have no quote to trust that the rest is not to be trusted either; one alone is not."""
    return bad > 1 and bad * 100 > house.settings.execution.bad_quotes_max_pct * of


def expected_number(house: House, account: Account) -> str:
    """The account number that must be at the other end; empty while none is known."""
    return account.account_number or house.store.meta.get(bound_to(account)) or ""


def require_account(house: House, account: Account, figures: BrokerAccount) -> None:
    """Raises MustHalt when the keys open another account than before: nothing of it may get into the journal."""
    expected = expected_number(house, account)
    if expected and figures.account_number != expected:
        reason = because(ReasonCode.ACCOUNT_MISMATCH, expected=expected, broker=figures.account_number)
        raise MustHalt(f"{account.account_id}: {reason.code.meaning} {reason}. Check the keys, then `harvestd resume`.")


def enter_state(house: House, account: Account, state: DaemonState, reason: Reason | None, now: datetime) -> None:
    """Write a change of state down, and say it in the log; nothing while it stays."""
    if house.store.states.enter(StateRow(account.account_id, state.value, str(reason or ""), now)):
        log.info("state", account=account.account_id, state=state.value, reason=str(reason or ""))


def tell_state(house: House, account: Account, state: DaemonState, reason: Reason | None, now: datetime) -> None:
    """The state after a look, written where it changed.

    One alert while it keeps orders from leaving though the market is open, and one when that is over. A stream that is
    away for a moment is no incident.
    """
    enter_state(house, account, state, reason, now)
    key = f"state:{account.account_id}"
    away = {state.value} if state is DaemonState.RECONCILING else set[str]()
    if state is DaemonState.STALE or house.overdue(key, away, now):
        why = f"{reason.code.meaning} {reason}" if reason else ""
        text = f"No order leaves for {account.account_id} while it is {state.value}. {why}".strip()
        raise_alert(house.store, key, AlertLevel.ERROR, text, now)
    elif state is not DaemonState.RECONCILING and state is not DaemonState.HALTED:
        recover(house.store, key, f"{account.account_id}: nothing keeps orders from leaving any more", now)
