"""The benchmark's names and weights, from the settings or from a constituents file (symbol, weight, sector)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from daemon.errors import ConfigurationRefused
from daemon.settings import Settings


@dataclass(frozen=True, slots=True)
class Constituents:
    """Names, base weights summing to 1, and sectors where known; all in the order of `symbols`."""

    symbols: tuple[str, ...]
    weights: tuple[Decimal, ...]
    sectors: dict[str, str]


def constituents(settings: Settings, folder: Path) -> Constituents:
    """What the settings ask for; a file's path is relative to `folder`. Raises ConfigurationRefused."""
    if settings.benchmark.constituents_file is not None:
        return read_constituents(folder / settings.benchmark.constituents_file)
    symbols = settings.benchmark.symbols
    return Constituents(symbols, (Decimal(1) / len(symbols),) * len(symbols), {})


def read_constituents(path: Path) -> Constituents:
    """A CSV with the columns symbol and weight, and sector if known; other columns are ignored.

    Weights may be fractions or per cent; they are scaled to sum to 1. A bad row refuses the whole file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationRefused(f"{path}: expected a readable CSV file of constituents: {error}") from error
    rows = csv.DictReader(text.splitlines())
    header = {name.strip().lower(): name for name in rows.fieldnames or ()}
    if not {"symbol", "weight"} <= set(header):
        raise ConfigurationRefused(f"{path} line 1: expected the columns symbol and weight, were {rows.fieldnames}")
    weights: dict[str, Decimal] = {}
    sectors: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        symbol = (row[header["symbol"]] or "").strip().upper()
        try:
            weight = Decimal((row[header["weight"]] or "").strip().rstrip("%"))
        except InvalidOperation:
            weight = Decimal("NaN")
        if not symbol or symbol in weights or not weight.is_finite() or weight <= 0:
            raise ConfigurationRefused(
                f"{path} line {line}: expected a symbol not yet listed and a positive weight, "
                f"were {symbol or 'nothing'!r} and {row[header['weight']]!r}"
            )
        weights[symbol] = weight
        sector = (row.get(header.get("sector", ""), "") or "").strip()
        if sector:
            sectors[symbol] = sector
    if len(weights) < 3:
        raise ConfigurationRefused(f"{path}: expected at least 3 constituents, were {len(weights)}")
    total = sum(weights.values())
    return Constituents(tuple(weights), tuple(weight / total for weight in weights.values()), sectors)
