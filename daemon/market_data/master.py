"""The security master: what the broker knows of the names, and which of them the benchmark can be followed with.

    the broker                       the name
    knows and trades it              is traded
    knows it, does not trade it      is listed, watched and valued; never bought or sold
    does not know it                 the same; where it has no price either, the benchmark is followed without it

Sectors and identity are the household's: what the broker leaves out does not erase them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from brokers.errors import BrokerUnavailable
from brokers.protocol import BrokerReader
from daemon.alerts import raise_alert, recover
from daemon.clock import NEW_YORK
from daemon.constituents import Constituents, other_spellings
from state.records import AlertLevel, Security
from state.store import FindingKind, MarketFinding, Store

KEY = "security:"  # of alerts about securities


@dataclass(frozen=True, slots=True)
class Known:
    """What the broker said of the names: those it does not know, and those it does not trade."""

    unknown: tuple[str, ...]
    untradable: tuple[str, ...]


def take_securities(
    store: Store, broker: BrokerReader, symbols: Iterable[str], sectors: Mapping[str, str], now: datetime
) -> Known:
    """Ask the broker about `symbols` and store what it knows; one alert for each name that cannot be bought.

    A name that it does not know (any more) is stored as not tradable. Raises BrokerUnavailable, also when it knows
    none at all: that is no answer about the names.
    """
    names = sorted(set(symbols))
    assets = broker.assets(names)
    if names and not assets:
        raise BrokerUnavailable(f"expected what the broker knows of {len(names)} securities, it knows none of them")
    before = store.household.securities()
    unknown = tuple(name for name in names if name not in assets)
    guesses = {name: other_spellings(name) for name in unknown}
    spelled = broker.assets([one for some in guesses.values() for one in some]) if any(guesses.values()) else {}
    rows = [_merged(assets[name], before.get(name), sectors.get(name)) for name in names if name in assets]
    rows += [replace(before.get(name, Security(name, sector=sectors.get(name))), tradable=False) for name in unknown]
    untradable = tuple(name for name in names if name in assets and not assets[name].tradable)
    with store.transaction():
        store.household.put_securities(row for row in rows if before.get(row.symbol) != row)
        _note_gone(store, [name for name in unknown if name in before and before[name].tradable], assets, now)
        texts = {name: _unknown_text(name, [one for one in guesses[name] if one in spelled]) for name in unknown}
        texts |= {
            name: f"{name}: the broker does not trade it. It is held and valued, never traded." for name in untradable
        }
        _tell(store, texts, now)
    return Known(unknown, untradable)


def _merged(told: Security, before: Security | None, sector: str | None) -> Security:
    kept = before or told
    return replace(
        told,
        sector=sector or told.sector or kept.sector,
        cusip=told.cusip or kept.cusip,
        index_name=told.index_name or kept.index_name,
    )


def _note_gone(store: Store, gone: Iterable[str], assets: Mapping[str, Security], now: datetime) -> None:
    """A finding for names that the broker knew before; it ends when the broker knows them again."""
    market, day = store.market, now.astimezone(NEW_YORK).date()
    detail = "the broker does not know it any more"
    market.put_findings(MarketFinding(name, day, FindingKind.GONE, detail, now) for name in gone)
    back = market.findings({FindingKind.GONE}, symbols=assets.keys(), only_open=True)
    market.resolve([one for one in back if one.detail == detail], "the broker knows it again", now)


def _unknown_text(name: str, spelled: Iterable[str]) -> str:
    instead = ", ".join(spelled)
    hint = f" It knows {instead}: write it so." if instead else " Look whether it was renamed or delisted."
    return f"{name}: the broker does not know this symbol of the benchmark; it is not bought.{hint}"


def _tell(store: Store, texts: Mapping[str, str], now: datetime) -> None:
    for name, text in texts.items():
        raise_alert(store, KEY + name, AlertLevel.WARNING, text, now)
    for key in store.alerts.open_keys(KEY):
        name = key.removeprefix(KEY)
        if name not in texts:
            recover(store, key, f"{name}: the broker trades it", now)


def followed(benchmark: Constituents, store: Store) -> Constituents:
    """The benchmark without the names whose prices were asked for and do not exist, weights scaled to sum to 1.

    A name without a price cannot be tracked, and must not keep the others from it. One that was never asked for stays:
    a load that was cut short must not leave a smaller benchmark behind.
    """
    asked = store.market.coverage()
    kept = [
        place
        for place, name in enumerate(benchmark.symbols)
        if name not in asked or store.market.first_bar(name) is not None
    ]
    if not kept or len(kept) == len(benchmark.symbols):
        return benchmark
    weights = [benchmark.weights[place] for place in kept]
    total = sum(weights)
    return replace(
        benchmark,
        symbols=tuple(benchmark.symbols[place] for place in kept),
        weights=tuple(weight / total for weight in weights),
    )
