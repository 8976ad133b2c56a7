"""What to hold instead of a name that was sold at a loss.

Where replacement lots can never be harvested themselves, a 5 % trigger falls from 145 to 43 bp a year
(docs/METHODS.md): each name needs at least two replacements that are not substantially identical to it or to one
another, so that the first can be sold at a loss in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from strategy.risk import RiskModel

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
    correlation = model.correlation().round(CORRELATION_DECIMALS)
    free = [name for name in model.names if name not in excluded]

    def chosen(name: str) -> tuple[str, ...]:
        if name not in place:
            return ()
        row = correlation[place[name]]
        sector = sectors.get(name)

        def rank(other: str) -> tuple[bool, float, str]:
            is_peer = sector is not None and sectors.get(other) == sector
            return (not is_peer, -float(row[place[other]]), other)

        found: list[str] = []
        for other in sorted(free, key=rank):
            if len(found) == count:
                break
            if other != name and not any(identical(other, each) for each in (name, *found)):
                found.append(other)
        return tuple(found)

    return {name: chosen(name) for name in names}
