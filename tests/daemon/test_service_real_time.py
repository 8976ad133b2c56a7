"""`harvestd run` as systemd runs it: in real time, ready once it has reconciled, alive, and ended by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from loopback import Fault, FaultKind
from practice import COMMAND, Practice
from real_time import in_real_time
from service_manager import ServiceManager
from test_service_sign_of_life import CANARY, monitored

from state.store import Store

WATCHDOG_S = 1.5  # a ping each half second
PATIENCE_S = 40.0


@pytest.fixture
def manager() -> Iterator[ServiceManager]:
    with ServiceManager() as made:
        yield made


@contextmanager
def service(person: Practice, manager: ServiceManager, before: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """harvestd under the service manager, started by the words `before`; killed at the end if it still runs."""
    running = subprocess.Popen(
        [*before, *person.command("run")],
        cwd=person.folder,
        env=person.environment() | manager.environment(WATCHDOG_S),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def end(running: subprocess.Popen[str]) -> str:
    """SIGTERM, and what it had said when it ended; it must end well."""
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, out
    assert "Traceback" not in out
    return out


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.fault("F37")
def test_a_service_from_its_start_to_its_end(tmp_path: Path, manager: ServiceManager) -> None:
    """Ready after reconciliation; pings while it idles; none while another process holds the database; STOPPING."""
    port = free_port()
    sections = {
        "metrics": {"port": port},
        "notifications": {"heartbeat_url_name": "sign", "heartbeat_every_minutes": 1},
    }
    with in_real_time(tmp_path, **sections) as person, monitored() as monitor, ExitStack() as stack:
        (person.folder / "keys" / "sign").write_text(monitor.url)
        (person.folder / "keys" / "sign").chmod(0o400)
        running = stack.enter_context(service(person, manager))
        heard = manager.wait_for("READY=1", PATIENCE_S)
        assert any(one.startswith("STATUS=starting: ") for one in heard), "the first load was told"
        extended = [place for place, one in enumerate(heard) if one == "EXTEND_TIMEOUT_USEC=300000000"]
        assert any(not heard[place + 1].startswith("STATUS=") for place in extended), "the broker's answers were told"
        asked = {(request.method, request.path) for request in person.server.requests}
        assert {("GET", "/v2/account"), ("GET", "/v2/positions")} <= asked
        heard += manager.hear(0.3)
        status = next(one for one in heard[heard.index("READY=1") :] if one.startswith("STATUS="))
        assert status.startswith("STATUS=main ")
        assert "next look " in status

        for _ in range(3):
            manager.wait_for("WATCHDOG=1", PATIENCE_S)

        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert json.load(answer)["well"] is True
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert "harvestd_stream_connected" in answer.read().decode()

        store = Store.open(person.database, read_only=True)
        assert store.meta.get("heartbeat")
        store.close()
        other = sqlite3.connect(person.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        manager.hear(0.3)
        assert "WATCHDOG=1" not in manager.hear(1.5)
        other.execute("ROLLBACK")
        other.close()
        manager.wait_for("WATCHDOG=1", PATIENCE_S)

        out = end(running)
        heard = manager.hear()
        assert heard.count("STOPPING=1") == 1
        assert "WATCHDOG=1" not in heard[heard.index("STOPPING=1") :]
        assert set(monitor.asked) == {f"/{CANARY}"}, "a sign of life each minute"
        database = b"".join(path.read_bytes() for path in person.folder.glob("harvestd.db*"))
    assert "stopped between two steps" in out
    assert CANARY not in out
    assert CANARY.encode() not in database


@pytest.mark.slow
@pytest.mark.fault("F08")
def test_it_is_not_ready_while_the_account_cannot_be_reconciled(tmp_path: Path, manager: ServiceManager) -> None:
    """The positions cannot be read: it goes on trying, asks systemd for time, and says what it waits for."""
    with in_real_time(tmp_path) as person:
        person.server.script(Fault(FaultKind.STATUS, path="/v2/positions", status=503, times=0))
        with service(person, manager) as running:
            waiting = "STATUS=waiting: not every account could be reconciled yet; see `harvestd alerts`"
            heard = manager.wait_for(waiting, PATIENCE_S)
            heard += manager.hear(0.7)
            assert "READY=1" not in heard
            assert running.poll() is None
            person.server.clear_faults()
            person.harvestd("halt", "look again")
            heard = manager.wait_for("READY=1", PATIENCE_S) + manager.hear(0.3)
            assert any(one.startswith("STATUS=main HALTED") for one in heard)
            end(running)


@pytest.mark.slow
@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    ("status", "waiting"), [(503, "the broker cannot be reached"), (401, "the broker refuses the key")]
)
def test_a_broker_that_lets_nobody_in_at_the_start_is_waited_for_under_systemd_alone(
    tmp_path: Path, manager: ServiceManager, status: int, waiting: str
) -> None:
    """A person is told, and SIGTERM ends the waiting as it ends everything else."""
    with in_real_time(tmp_path) as person:
        person.server.script(Fault(FaultKind.STATUS, path="/v2/account$", status=status, times=0))
        with service(person, manager) as running:
            until, heard = time.monotonic() + PATIENCE_S, list[str]()
            while time.monotonic() < until and not any(f"STATUS=waiting: {waiting}" in one for one in heard):
                heard += manager.hear(0.05)
            assert any(f"STATUS=waiting: {waiting}" in one for one in heard)
            assert "READY=1" not in heard
            end(running)
            assert "STOPPING=1" in manager.hear()
        store = Store.open(person.database, read_only=True)
        assert store.alerts.open_keys("opening")
        store.close()
        person.harvestd("run", code=1)


def test_a_configuration_that_is_wrong_ends_with_78_before_anything_is_said(
    tmp_path: Path, manager: ServiceManager
) -> None:
    """RestartPreventExitStatus= has that number: another start would end the same way."""
    path = tmp_path / "config.yaml"
    path.write_text("mode: papre\n")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("HARVESTD_")}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run"],
        cwd=tmp_path,
        env=environ | manager.environment(WATCHDOG_S) | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert manager.hear() == []
