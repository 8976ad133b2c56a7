"""The household's prices: made ready at the start, taken every evening, looked over before the open."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from daemon.constituents import SYMBOL
from daemon.market_data.evening import Update, take_notices, update_daily
from daemon.market_data.feed import Feed, QuarantinePolicy
from daemon.market_data.loading import Progress, load_history
from daemon.market_data.locks import open_findings, short_histories, without_newest_close
from daemon.market_data.master import followed

if TYPE_CHECKING:
    from daemon.house import House
    from daemon.household import Watcher

LOSS_OPEN = timedelta(days=60)  # a sale's window, and as long again for what is announced late


def feed_of(house: House) -> Feed:
    """The prices of the first managed account's broker, into the household's store."""
    policy = QuarantinePolicy(recent_sessions=house.settings.risk.window_sessions)
    return Feed(house.store, house.brokers[house.managed[0].account_id], house.calendar, house.clock, policy)


def tracked(house: House) -> tuple[str, ...]:
    """Names whose prices are kept: the benchmark's, and what is held beside them."""
    held = (row.symbol for row in house.store.positions.list() if row.quantity)
    return tuple(sorted({*house.names, *held}))


def held_beside(house: House) -> dict[str, date]:
    """Symbols without prices of which an account of the household has a lot, or a loss that a purchase could still
    disallow; each with the first day of a trade in it. What issuers do to them changes our figures as well."""
    ledger, today = house.ledger, feed_of(house).today
    held = {symbol for account in house.accounts for symbol in ledger.positions(account.account_id)}
    held |= {row.symbol for row, _ in ledger.open_losses() if row.disposed >= today - LOSS_OPEN}
    held |= {symbol for aside in ledger.unreadable.values() for symbol in aside.symbols}
    named = {symbol for symbol in held - {*tracked(house)} if SYMBOL.fullmatch(symbol)}
    return {symbol: ledger.first_days.get(symbol, today) for symbol in sorted(named)}


def history_start(house: House) -> date:
    """How far back the settings want prices; not before the calendar begins."""
    today = feed_of(house).today
    wanted = today.replace(year=today.year - house.settings.history.load_years, day=min(today.day, 28))
    return max(wanted, house.calendar.sessions[0].session)


def ready_prices(house: House, watcher: Watcher) -> None:
    """As many prices as are missing, before the daemon's first step. The benchmark goes on without names that lack any.

    Raises BrokerUnavailable with the place where it stopped; started again, it goes on from there.
    """
    names, start = tracked(house), history_start(house)
    watcher.step(f"prices of {len(names)} names since {start}")
    load_history(feed_of(house), names, start, watcher=lambda now: watcher.progress(*shown(now)))
    house.constituents = followed(house.constituents, house.store)


def shown(now: Progress) -> tuple[int, int, str]:
    """A load's progress for a watcher: names done, names in all, and the rest in words."""
    text = f"{now.bars:,} closes"
    if now.names_done < now.names_total:
        minutes = now.seconds_left / 60
        text += f", about {minutes:.0f} minutes left" if minutes >= 1 else ", less than a minute left"
    return now.names_done, now.names_total, text


def take_session(house: House) -> Update:
    """The evening's closes and corporate actions. Raises BrokerUnavailable."""
    is_new = house.store.market.last_session() is None
    return update_daily(feed_of(house), tracked(house), history_start(house) if is_new else None, held_beside(house))


def before_open(house: House) -> None:
    """What issuers do today, so that renamed and merged names are known of before anything is planned.

    Raises BrokerUnavailable.
    """
    update = take_notices(feed_of(house), tracked(house), held_beside(house))
    house.know_prices((), rewritten=update.rewritten)


def data_locks(house: House) -> dict[str, str]:
    """Names of the household that their prices keep from being traded, each with its reason."""
    return {
        **without_newest_close(house.names, house.last_closes()),
        **short_histories(house.history, house.settings.risk.window_sessions),
        **open_findings(house.store),
    }
