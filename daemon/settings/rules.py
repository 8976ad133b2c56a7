"""Rules that join several settings. A model that breaks some raises one `RuleBroken` that names them all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from daemon.settings.models import Settings

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Breach:
    """One broken rule. `keys` are those it joins, dotted from the model that raises it; the first is to blame."""

    keys: tuple[str, ...]
    allowed: str
    seen: str | None = None  # None: the value that stands in the file
    hint: str = ""

    def __str__(self) -> str:
        seen = f", was {self.seen}" if self.seen else ""
        return f"{self.keys[0]}: expected {self.allowed}{seen}"


class RuleBroken(ValueError):  # noqa: N818
    """Settings that contradict each other; pydantic turns it into an error of the model that raised it."""

    def __init__(self, breaches: tuple[Breach, ...]) -> None:
        super().__init__("; ".join(str(breach) for breach in breaches))
        self.breaches = breaches

    @classmethod
    def raise_if_any(cls, breaches: Iterable[Breach]) -> None:
        """Raise when there is at least one."""
        found = tuple(breaches)
        if found:
            raise cls(found)


def duplicates(values: Iterable[T]) -> Iterator[tuple[int, T]]:
    """Position and value of everything that has been there before."""
    seen: set[T] = set()
    for position, value in enumerate(values):
        if value in seen:
            yield position, value
        seen.add(value)


def breaches_between_sections(settings: Settings) -> Iterator[Breach]:
    """The rules between different sections that do not hold."""
    names = len(settings.benchmark.symbols)  # 0 where they come from a file
    optimizer = settings.optimizer
    invested_most = names * optimizer.name_weight_max_pct
    if names and invested_most < 100 - optimizer.cash_max_pct:
        yield Breach(
            ("optimizer.name_weight_max_pct", "benchmark.symbols", "optimizer.cash_max_pct"),
            allowed=f"at least {(100 - optimizer.cash_max_pct) / names:.4g} percent for a benchmark of {names} names",
            seen=f"{optimizer.name_weight_max_pct:g}",
            hint=f"{names} names of at most {optimizer.name_weight_max_pct:g} % each hold only {invested_most:g} %.",
        )
    if names and settings.risk.factors >= names:
        yield Breach(
            ("risk.factors", "benchmark.symbols"),
            allowed=f"fewer factors than the benchmark has names ({names})",
            seen=str(settings.risk.factors),
        )
    decide, stop = settings.schedule.decide_before_close_minutes, settings.execution.stop_before_close_minutes
    if decide <= stop:
        yield Breach(
            ("schedule.decide_before_close_minutes", "execution.stop_before_close_minutes"),
            allowed=f"more than execution.stop_before_close_minutes ({stop})",
            seen=str(decide),
            hint="A plan made after the last moment to send could never be executed.",
        )
