"""Runs `harvestd WORDS` in this process, as the installed command does, and gives its exit code and what it printed."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import structlog

from daemon.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """Exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def harvestd(*words: object) -> Outcome:
    """One command, to its end."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", ["harvestd", *map(str, words)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            structlog.reset_defaults()  # a process of its own would have ended here
    return Outcome(code, out.getvalue(), err.getvalue())
