"""harvestd in processes of its own that kill themselves at a crash point.

A process that dies at a named point is made from one that has imported everything and done nothing: this file, run as a
program, reads what is asked of it line by line and forks. A death then costs what the daemon did before it, and not
two seconds of imports. The child becomes `harvestd WORDS` in its folder, with a watcher at the crash points that writes
each one down and, at the one asked for, sends the process SIGKILL. Nothing is flushed, closed or rolled back.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
PRINTED, PASSED = "printed.txt", "passed.txt"
LOOK_TWICE = "look-twice"  # a word that is no command of harvestd's: open the household, and look twice (I5)
PATIENCE_S = 120.0
NEEDED = (
    "brokers.alpaca.desk",
    "clarabel",
    "daemon.cli.main",
    "daemon.cli.trading",
    "daemon.household",
    "daemon.market_data",
    "daemon.opening",
    "daemon.service",
    "exchange_calendars",
    "scipy.optimize",
)


@dataclass(frozen=True)
class Asked:
    """What a child is to do: the words after `harvestd`, in `folder`. It dies when it passes `point`, or when it has
    passed `most` points, whichever comes first; without a point it lives."""

    folder: str
    words: tuple[str, ...]
    point: str | None = None
    most: int = 0


@dataclass(frozen=True)
class Ended:
    """What became of a child: its exit code, negative for a signal; the points it passed; what it printed."""

    code: int
    passed: tuple[str, ...]
    printed: str

    @property
    def was_killed(self) -> bool:
        """True when it died as it was asked to."""
        return self.code == -signal.SIGKILL


class Launcher:
    """The process that forks; entered, it lives."""

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "daemon")))
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**kept, "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "140"},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def run(self, folder: Path, *words: object, point: str | None = None, most: int = 0) -> Ended:
        """`harvestd WORDS` in `folder`, to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        (folder / PASSED).write_text("")
        asked = Asked(str(folder), tuple(map(str, words)), point, most)
        self._process.stdin.write(json.dumps(asdict(asked)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        passed = tuple((folder / PASSED).read_text().split())
        return Ended(int(answer["code"]), passed, (folder / PRINTED).read_text())


# ------------------------------------------------------------------ the process that forks


def main() -> None:
    """One child after the other, as asked on standard input; what became of each, on standard output."""
    _import_everything()
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        asked = Asked(given["folder"], tuple(given["words"]), given["point"], given["most"])
        child = os.fork()
        if child == 0:
            _live(asked)
        print(json.dumps({"code": _awaited(child)}), flush=True)


def _import_everything() -> None:
    """What a day needs, so that it is not read from disk for every death."""
    for name in NEEDED:
        importlib.import_module(name)


def _awaited(child: int) -> int:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGABRT)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live(asked: Asked) -> None:
    """Become harvestd, and never return."""
    code = 70
    try:
        os.chdir(asked.folder)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        printed = os.open(PRINTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        code = _harvestd(asked)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _harvestd(asked: Asked) -> int:
    from daemon.cli.main import main as command
    from daemon.crash_points import CrashPoint, watched

    passed = os.open(PASSED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    count = 0

    def watcher(point: CrashPoint) -> None:
        nonlocal count
        count += 1
        os.write(passed, f"{point.value}\n".encode())
        if point == asked.point or count == asked.most:
            os.kill(os.getpid(), signal.SIGKILL)

    with watched(watcher):
        if asked.words == (LOOK_TWICE,):
            _look_twice()
        else:
            sys.argv = ["harvestd", *asked.words]
            command()
    return 0


def _look_twice() -> None:
    from invariants import check_reconciling_twice

    from daemon.opening import target_of, working_house

    with working_house(target_of(None, None, {}), {}) as house:
        check_reconciling_twice(house)


if __name__ == "__main__":
    main()
