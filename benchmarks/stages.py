"""Where the time goes: the cycle's own functions, timed from outside, each second counted once.

The production code knows nothing of it. While `timed()` is open, the functions listed below are replaced in every
module that imported them by ones that tell a clock when they begin and end. The clock is a stack: what a stage calls
that is a stage of its own takes the time out of its caller, so stages never overlap, and together with "other" they
sum to the whole.

    stage     one line of the closing table. Writes to the store and answers of the venue are stages of their own,
              whoever asks for them; what is left of a stage is its own work and its reads of the store.
    part      a share of the stage that is running: "masks" of the scan and "masks" of the proposal are two parts.

Example. propose (10 s) calls rehearse (4 s), which asks the venue (1 s): the table shows propose 9 s, of which its
part "rehearsal" 3 s, and venue 1 s.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from time import perf_counter
from typing import Any

PACKAGES = ("brokers", "daemon", "state", "strategy")
OTHER, OWN = "other", "own work"

# What the closing table shows, in the order of a session. (module, function or Class.method)
STAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "settle": (("daemon.execution", "settle"),),
    "sync": (("daemon.sync", "sync"),),
    "advance": (("daemon.decision", "advance"),),
    "triggers": (("daemon.triggers", "find_triggers"),),
    "scan": (("daemon.planning", "scan"),),
    "propose": (("daemon.planning", "propose"),),
    "check": (("daemon.checks", "check"),),
    "decide": (("daemon.decision", "decide"),),
    "record": (("daemon.decision", "record"),),
    "work": (("daemon.execution", "work"),),
    "evening": (("daemon.day", "evening"),),
    "agenda": (("daemon.day", "tick"), ("daemon.day", "work_waiting")),
    "approvals": (("daemon.demo.world", "World._approve"),),
    "imports": (("large_household", "LargeWorld._household"),),
    "venue": (
        ("brokers.simulated.venue", "SimulatedVenue.advance_to"),
        ("brokers.simulated.venue", "SimulatedVenue.submit"),
        ("brokers.simulated.venue", "SimulatedVenue.cancel"),
        ("brokers.simulated.venue", "SimulatedVenue.deposit"),
        ("brokers.simulated.adapter", "SimulatedBroker.*"),
    ),
    "store writes": (
        ("sqlalchemy.engine", "Connection.exec_driver_sql"),  # BEGIN, COMMIT, ROLLBACK
    ),
}

PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "masks": (("daemon.rehearsal", "masks_for"),),
    "rehearsal": (("daemon.rehearsal", "rehearse"), ("daemon.rehearsal", "wash_conflicts")),
    "losses": (("strategy.scan", "scan"),),
    "replacements": (("strategy.replacements", "choose_replacements"),),
    "homes": (("daemon.house", "House.homes"),),
    "deposit names": (("strategy.deposits", "deposit_names"),),
    "risk model": (("daemon.house", "House.risk"), ("daemon.house", "House.volatility")),
    "price history": (("daemon.house", "House.history"),),
    "program": (("strategy.propose", "_holdings"), ("strategy.propose", "build_program")),
    "optimizer": (("strategy.rounding", "optimize_rounded"),),
    "solver": (("strategy.optimizer.conic", "Problem.__init__"), ("strategy.optimizer.conic", "Problem.solve")),
    "whole shares": (("strategy.rounding", "round_plan"),),
    "compliance": (("strategy.compliance", "check"),),
    "calendar file": (("daemon.wash_calendar_file", "keep_current"),),
    "store reads": (
        ("state.store", "Store.replaced_by"),
        ("state.store", "Store.is_work_waiting"),
        ("state.store", "Store.harvested"),
    ),
}
LEDGER = (("state.lots.ledger", "Ledger.extended"), ("state.lots.ledger", "Ledger.replay"))
LEDGER_WITHIN = frozenset({"sync", "imports"})  # elsewhere it is part of the masks and of the rehearsal

# The store's rooms: every class of these modules that is made of a database. Methods that begin with one of the words
# write, the others read.
ROOMS = ("state.store.journal", "state.store.operations", "state.store.trading")
WRITING = ("add", "append", "mark", "put", "record", "replace", "reprice", "save", "set", "take", "update")

COUNTED = {  # not timed
    "solves": ("strategy.optimizer.solve", "optimize"),
    "relaxations": ("strategy.optimizer.conic", "Problem.solve"),
}


@dataclass
class StageClock:
    """Seconds by stage and part; every moment belongs to exactly one of them."""

    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    counts: Counter[str] = field(default_factory=Counter)
    _running: list[tuple[str, str]] = field(default_factory=lambda: [(OTHER, OWN)])
    _since: float = field(default_factory=perf_counter)

    @property
    def stage(self) -> str:
        """The stage that is running."""
        return self._running[-1][0]

    def begin(self, stage: str, part: str) -> None:
        """What runs now is `part` of `stage`."""
        self._charge()
        self._running.append((stage, part))

    def end(self) -> None:
        """What ran before goes on."""
        self._charge()
        self._running.pop()

    def _charge(self) -> None:
        now = perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def report(self) -> dict[str, dict[str, Any]]:
        """Seconds and share of each stage in the order of `STAGES`, "other" last; parts where there are any."""
        self._charge()
        whole = sum(self.seconds.values()) or 1.0
        table = {}
        for stage in (*STAGES, OTHER):
            parts = {part: took for (of, part), took in self.seconds.items() if of == stage}
            took = sum(parts.values())
            row: dict[str, Any] = dict(_figures(took, whole))
            if set(parts) - {OWN}:
                ordered = sorted(parts, key=lambda one: -parts[one])
                row["parts"] = {part: _figures(parts[part], whole) for part in ordered}
            table[stage] = row
        return table


def _figures(seconds: float, whole: float) -> dict[str, float]:
    return {"seconds": round(seconds, 3), "share": round(seconds / whole, 4)}


@contextmanager
def timed() -> Iterator[StageClock]:
    """A running clock, told by every function listed above; they are as they were when this ends.

    Raises LookupError when a listed function is not there: the code has moved on, and this list must follow.
    """
    clock = StageClock()
    reads, writes = _rooms()
    undo: list[Callable[[], None]] = []
    taken: set[object] = set()
    try:
        for stage, places in STAGES.items():
            for place in (*places, *(writes if stage == "store writes" else ())):
                undo += _watch(place, functools.partial(_as_stage, clock, stage), taken)
        for place in LEDGER:
            undo += _watch(place, functools.partial(_as_part, clock, "ledger", LEDGER_WITHIN), taken)
        for part, places in PARTS.items():
            for place in (*places, *(reads if part == "store reads" else ())):
                undo += _watch(place, functools.partial(_as_part, clock, part, None), taken)
        for what, place in COUNTED.items():
            undo += _watch(place, functools.partial(_as_count, clock, what), set())
        clock._since = perf_counter()
        yield clock
    finally:
        for step in reversed(undo):
            step()


def _rooms() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Methods of the store's rooms: those that read, and those that write."""
    reads: list[tuple[str, str]] = []
    writes: list[tuple[str, str]] = []
    for module_name in ROOMS:
        for name, room in vars(importlib.import_module(module_name)).items():
            if isinstance(room, type) and room.__module__ == module_name and "database" in signature(room).parameters:
                for method in vars(room):
                    if not method.startswith("_"):
                        kind = writes if method.partition("_")[0] in WRITING else reads
                        kind.append((module_name, f"{name}.{method}"))
    return reads, writes


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _watch(place: tuple[str, str], wrap: Wrap, taken: set[object]) -> list[Callable[[], None]]:
    """Replace what `place` names, once; returns what puts it back. `Class.*` is every public method not yet taken."""
    module = importlib.import_module(place[0])
    owner_name, _, name = place[1].rpartition(".")
    if not owner_name:
        return _replace_function(getattr_or_fail(module, name), wrap, taken)
    owner = getattr_or_fail(module, owner_name)
    prefix = name.removesuffix("*")
    names = [name]
    if name.endswith("*"):
        names = [one for one in vars(owner) if one.startswith(prefix) and not one.startswith("_")]
    undo: list[Callable[[], None]] = []
    for one in names:
        getattr_or_fail(owner, one)
        if (owner, one) not in taken:
            taken.add((owner, one))
            undo += _replace_method(owner, one, wrap)
    return undo


def getattr_or_fail(owner: Any, name: str) -> Any:
    """The attribute; LookupError when there is none."""
    found = getattr(owner, name, None)
    if found is None:
        raise LookupError(f"benchmarks/stages.py: expected {name} in {owner!r}, it is not there; follow the code")
    return found


def _replace_method(owner: Any, name: str, wrap: Wrap) -> list[Callable[[], None]]:
    kept = vars(owner)[name]
    made: Any
    if isinstance(kept, property) and kept.fget is not None:
        made = property(wrap(kept.fget), kept.fset, kept.fdel, kept.__doc__)
    elif isinstance(kept, classmethod):
        made = classmethod(wrap(kept.__func__))
    elif callable(kept):
        made = wrap(kept)
    else:
        return []
    setattr(owner, name, made)
    return [functools.partial(setattr, owner, name, kept)]


def _replace_function(function: Any, wrap: Wrap, taken: set[object]) -> list[Callable[[], None]]:
    """In its own module, and under whatever name another one has imported it."""
    if function in taken:
        return []
    taken.add(function)
    watched = wrap(function)
    undo: list[Callable[[], None]] = []
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in PACKAGES:
            for name, value in list(vars(module).items()):
                if value is function:
                    setattr(module, name, watched)
                    undo.append(functools.partial(setattr, module, name, function))
    return undo


def _as_stage(clock: StageClock, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if clock.stage == stage:
            return function(*args, **kwargs)
        clock.begin(stage, OWN)
        try:
            return function(*args, **kwargs)
        finally:
            clock.end()

    return watched


def _as_part(
    clock: StageClock, part: str, within: frozenset[str] | None, function: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        stage = clock.stage
        if stage == "store writes" or (within is not None and stage not in within):
            return function(*args, **kwargs)
        clock.begin(stage, part)
        try:
            return function(*args, **kwargs)
        finally:
            clock.end()

    return watched


def _as_count(clock: StageClock, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        clock.counts[what] += 1
        return function(*args, **kwargs)

    return watched
