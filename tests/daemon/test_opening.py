"""Who may work on a household, and what looking can and cannot do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import harvestd

from daemon.errors import ConfigurationRefused, LeaseHeld
from daemon.halt import is_halted
from daemon.opening import Target, lease, looking_house, working_world
from state.store import NotADatabase, Store

HOLD = """
import sys
from pathlib import Path
from daemon.opening import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(demo_copy: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A demo's database, and another process that works on it."""
    root = Path(__file__).parents[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(demo_copy)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield demo_copy, holder
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize(
    "words", [("once",), ("run", "--sessions", "1"), ("ledger", "rebuild"), ("demo", "--resume")], ids=" ".join
)
def test_a_second_process_does_not_start(held: tuple[Path, subprocess.Popen[str]], words: tuple[str, ...]) -> None:
    database, holder = held
    outcome = harvestd(*words, "--db", database)
    assert (outcome.code, outcome.out) == (1, "")
    message = f"harvestd: {database}: another harvestd works on this household (process {holder.pid}).\n"
    assert outcome.err.endswith(message)


@pytest.mark.parametrize("words", [("status",), ("lots",), ("plan",), ("opportunities",), ("orders",)], ids=" ".join)
def test_looking_needs_no_lease(held: tuple[Path, subprocess.Popen[str]], words: tuple[str, ...]) -> None:
    database, _ = held
    outcome = harvestd(*words, "--db", database)
    assert (outcome.code, outcome.err) == (0, "")


def test_a_killed_process_leaves_no_lease_behind(held: tuple[Path, subprocess.Popen[str]]) -> None:
    database, holder = held
    with pytest.raises(LeaseHeld), lease(database):
        raise AssertionError("two processes held one household")
    holder.kill()
    holder.wait()
    with lease(database):
        pass


def test_another_name_for_the_file_is_no_other_household(demo_copy: Path) -> None:
    """Two daemons on one database would each send its orders; a halt beside a link would halt nothing."""
    link = demo_copy.with_name("link.db")
    link.symlink_to(demo_copy)
    with lease(demo_copy), pytest.raises(LeaseHeld), lease(link):
        raise AssertionError("two processes held one household")
    harvestd("halt", "by its other name", "--db", link)
    assert is_halted(demo_copy)
    assert not link.with_name("link.db.halt").exists()


def test_a_file_with_two_names_of_its_own_is_refused(demo_copy: Path) -> None:
    demo_copy.with_name("twin.db").hardlink_to(demo_copy)
    with pytest.raises(ConfigurationRefused, match="hard links"), lease(demo_copy):
        raise AssertionError("opened")


def test_within_one_process_too(demo_copy: Path) -> None:
    with working_world(demo_copy), pytest.raises(LeaseHeld), working_world(demo_copy):
        raise AssertionError("opened twice")
    with working_world(demo_copy):
        pass


def test_a_house_that_looks_cannot_send_nor_cancel(demo_copy: Path) -> None:
    with looking_house(Target(demo_copy), {}) as house:
        broker = house.brokers["main"]
        assert house.desk("main") is None
        assert not hasattr(broker, "submit")
        assert not hasattr(broker, "cancel")
        assert "_venue" not in vars(broker)


def test_what_a_looking_house_writes_stays_with_it(demo_copy: Path) -> None:
    with looking_house(Target(demo_copy), {}) as house:
        before = house.store.lots.lots()
        house.store.meta.put("kind", "changed")
        house.store.lots.replace_all({}, {})
        assert (house.store.meta.get("kind"), house.store.lots.lots()) == ("changed", ())
    store = Store.open(demo_copy, read_only=True)
    assert (store.meta.get("kind"), store.lots.lots()) == ("demo", before)
    assert before
    store.close()


def test_looking_goes_on_while_the_daemon_lives(demo_copy: Path) -> None:
    """The daemon runs in another process; `status` and `plan` answer all the while, and the daemon is not disturbed."""
    root = Path(__file__).parents[2]
    code = "import sys; from daemon.cli.main import main; sys.argv = ['harvestd', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "run", "--speed", "20", "--sessions", "6", "--db", str(demo_copy)]
    running = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    answered = 0
    while running.poll() is None:
        for words in (("status", "--json"), ("plan", "--json")):
            outcome = harvestd(*words, "--db", demo_copy)
            assert (outcome.code, outcome.err) == (0, "")
        answered += 1
        time.sleep(0.05)
    printed, _ = running.communicate()
    assert running.returncode == 0, printed
    assert answered > 0
    assert "Traceback" not in printed
    assert harvestd("ledger", "verify", "--db", demo_copy).code == 0


def test_a_household_that_cannot_be_traded_yet_is_refused_in_words(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "mine.db", create=True)
    store.close()
    with pytest.raises(ConfigurationRefused, match="Nothing was started"), working_world(tmp_path / "mine.db"):
        raise AssertionError("opened")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase), working_world(tmp_path / "gone.db"):
        raise AssertionError("opened")
    assert not (tmp_path / "gone.db").exists()
