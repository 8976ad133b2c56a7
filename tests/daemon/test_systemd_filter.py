"""The daemon under the system calls that its unit leaves it: the solver, the database, the broker and the threads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from practice import COMMAND, ROOT
from real_time import in_real_time
from service_manager import ServiceManager
from test_service_real_time import PATIENCE_S, end, service
from under_filter import CANNOT

FILTER = Path(__file__).with_name("under_filter.py")


def filtered(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command under the filter; skips where there can be none."""
    done = subprocess.run(
        [sys.executable, str(FILTER), *words],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stdout.strip())
    return done


def test_the_filter_filters(tmp_path: Path) -> None:
    """What the daemon has no use for fails; so this test would see a filter that lets everything pass."""
    code = """
import ctypes, errno, os, socket
try:
    os.sched_setaffinity(0, {0})
except PermissionError:
    print("no affinity")
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
except OSError as error:
    print("no netlink", errno.errorcode[error.errno])
try:
    os.chroot("/")
except PermissionError:
    print("no chroot")
socket.create_server(("127.0.0.1", 0)).close()
"""
    done = filtered(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["no affinity", "no netlink EPERM", "no chroot"]


@pytest.mark.slow
def test_weeks_of_plans_and_orders_pass_the_filter(tmp_path: Path) -> None:
    """The risk model, the solver, SQLite, all of it: two weeks of the demo."""
    words = ["demo", "--from", "2020-02-24", "--to", "2020-03-06", "--db", str(tmp_path / "demo.db"), "--json"]
    done = filtered(sys.executable, "-c", COMMAND, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["fills"] > 0
    assert figures["reconciliation_breaks"] == 0


@pytest.mark.slow
def test_the_service_itself_passes_the_filter(tmp_path: Path) -> None:
    """Real sockets, the stream of order updates, the courier, a page of metrics, and an end by SIGTERM."""
    filtered("true", cwd=tmp_path)
    filtering = (sys.executable, str(FILTER))
    with (
        ServiceManager() as manager,
        in_real_time(tmp_path) as person,
        service(person, manager, before=filtering) as running,
    ):
        manager.wait_for("READY=1", PATIENCE_S)
        manager.wait_for("WATCHDOG=1", 10)
        end(running)
