"""What ticks the daemon: beats never overlap an end, faults are never swallowed, signals only ask."""

from __future__ import annotations

import datetime as instants
import os
import signal
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from daemon import service
from daemon.service import _Ending, _tick


def test_a_signal_in_the_middle_of_writing_a_line_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that a signal interrupts may be holding the log's own lock: a handler that logged would wait for it
    for ever."""
    writing = threading.Lock()

    class Log:
        def info(self, *_: Any, **__: Any) -> None:
            assert writing.acquire(timeout=1), "logged while the interrupted line was being written"
            writing.release()

    monkeypatch.setattr(service, "log", Log())
    ending = _Ending()
    with ending.on_signals(), writing:
        os.kill(os.getpid(), signal.SIGTERM)
        assert ending.is_asked
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_end_waits_for_the_beat_that_is_going_on() -> None:
    begun, ended = threading.Event(), []

    def beat() -> bool:
        begun.set()
        time.sleep(0.3)
        ended.append(len(ended))
        return True

    def ask() -> None:
        begun.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask).start()
    _tick(beat, 0.01)
    beats = len(ended)
    assert beats >= 1
    time.sleep(0.4)
    assert len(ended) == beats, "a beat began after the end"


@pytest.mark.fault("F34")
def test_a_wall_clock_set_back_delays_neither_a_beat_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = [0.0]
    real = instants.datetime

    class SetBack(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: instants.tzinfo | None = None) -> instants.datetime:
            return real.now(tz) - instants.timedelta(seconds=behind[0])

    monkeypatch.setattr(instants, "datetime", SetBack)
    beats: list[float] = []

    def beat() -> bool:
        beats.append(time.monotonic())
        if len(beats) == 3:
            behind[0] = 3600.0
        if len(beats) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return len(beats) < 500

    _tick(beat, 0.02)
    assert 8 <= len(beats) < 60, "SIGTERM was heeded within a second"
    assert max(after - before for before, after in pairwise(beats)) < 1


def test_a_beat_that_says_no_is_the_last() -> None:
    left = iter([True, True, False])
    done = []
    _tick(lambda: done.append(1) or next(left), 0.01)
    assert len(done) == 3


def test_what_a_beat_raises_ends_the_daemon() -> None:
    def beat() -> bool:
        raise ZeroDivisionError("a fault nobody expected")

    with pytest.raises(ZeroDivisionError, match="nobody expected"):
        _tick(beat, 0.01)
