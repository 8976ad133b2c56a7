"""What to hold instead of a name that was sold at a loss.

Where replacement lots can never be harvested themselves, a 5 % trigger falls from 145 to 43 bp a year
(docs/METHODS.md): each name needs at least two replacements that are not substantially identical to it or to one
another, so that the first can be sold at a loss in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache

import numpy as np

from strategy.risk import RiskModel
from strategy.types import IntArray

CORRELATION_DECIMALS = 9  # correlations that agree to here are equal, and the name decides, on every platform


def choose_replacements(
    *,
    names: Iterable[str],
    model: RiskModel,
    sectors: Mapping[str, str],
    excluded: AbstractSet[str],
    identical: Callable[[str, str], bool],
    count: int = 2,
) -> Mapping[str, tuple[str, ...]]:
    """For each of `names` up to `count` other names of the model, best first; fewer, or none, where none is free.

    Names of the same sector come first, then the rest, each by falling correlation under `model`, ties by name.
    A name of unknown sector has no peers and goes by correlation alone. Never one that is `excluded` (inside a
    wash-sale window, locked, not tradable), nor `identical` to the name or to a replacement already chosen for it.
    A name outside the model gets none: nothing is known of what it moves with.

    Raises ValueError unless `count` is positive.
    """
    if count < 1:
        raise ValueError(f"Expected a count of 1 or more, was {count}")
    place = {name: i for i, name in enumerate(model.names)}
    ranking = _ranking(model, tuple(sectors.get(name) for name in model.names))
    free = np.array([name not in excluded for name in model.names], dtype=bool)

    def chosen(name: str) -> tuple[str, ...]:
        if name not in place:
            return ()
        found: list[str] = []
        ranked = ranking[place[name]]
        for other in ranked[free[ranked]]:
            candidate = model.names[other]
            if candidate == name or identical(candidate, name):
                continue
            if not found or not any(identical(candidate, each) for each in found):
                found.append(candidate)
            if len(found) == count:
                break
        return tuple(found)

    return {name: chosen(name) for name in names}


@lru_cache(maxsize=1)  # the same from one estimate of the model to the next; who may be bought changes with every trade
def _ranking(model: RiskModel, sectors: tuple[str | None, ...]) -> IntArray:
    """Row i, shape (n, n): places of the model's names in the order in which they would replace name i, itself among
    them."""
    correlation = model.correlation().round(CORRELATION_DECIMALS)
    by_name = {name: rank for rank, name in enumerate(sorted(model.names))}
    name_rank = np.array([by_name[name] for name in model.names], dtype=np.int64)
    known = {sector: number for number, sector in enumerate(dict.fromkeys(sectors))}
    sector = np.array([known[each] for each in sectors], dtype=np.int64)
    ranking = np.empty(correlation.shape, dtype=np.int64)
    for i, row in enumerate(correlation):
        stranger = (sector != sector[i]) | (sectors[i] is None)
        ranking[i] = np.lexsort((name_rank, -row, stranger))
    return ranking
