"""What is wrong with the settings, in words a person can act on: where, which key, what stands there, what may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from daemon.errors import ConfigurationRefused


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. `seen` is never a secret: what might be one is `***`."""

    file: str  # path of the file, or "environment variable NAME"
    line: int | None  # counted from 1; None where the place has no lines
    key: str  # dotted, as in optimizer.cash_max_pct or household.accounts[0].id; "" for the whole file
    seen: str
    allowed: str
    hint: str = ""

    @property
    def place(self) -> str:
        """File and line, as editors understand them."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def __str__(self) -> str:
        head = f"{self.place}: {self.key}" if self.key else self.place
        hint = f" {self.hint}" if self.hint else ""
        return f"{head}: expected {self.allowed}, was {self.seen}.{hint}"

    def as_json(self) -> dict[str, str | int | None]:
        """The fields, for `--json`."""
        return asdict(self)


class ConfigurationError(ConfigurationRefused):
    """The settings are wrong in the ways listed; the process ends with exit code 78 and starts nothing."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(path: Iterable[str | int]) -> str:
    """('household', 'accounts', 0, 'id') as household.accounts[0].id."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
