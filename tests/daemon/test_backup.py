"""Backups of a household in use, what a backup that is none looks like, and the way there and back between versions."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from command_line import Outcome, harvestd
from conftest import Staged
from small_house import Stage
from storage import code_of, contents, die, disk_full_beyond, in_child, made_older, was_killed

from daemon import backup
from daemon.backup import LAST, Backup, back_up, backup_overdue
from daemon.errors import BackupFailed, LeaseHeld
from daemon.halt import halt
from daemon.opening import Target, lease, working_house
from daemon.settings import Settings
from state.store import SchemaMismatch, Store
from state.store.database import revision_of
from state.store.revisions import HEAD_REVISION

NOW = datetime(2020, 11, 21, 22, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
NAMED = r"house-\d{8}T\d{6}Z"


@pytest.fixture
def house(staged: Staged) -> Stage:
    """A household that holds shares, and whose daemon is at work."""
    stage = staged()
    stage.invest(0)
    return stage


@pytest.fixture
def folder(house: Stage) -> Path:
    """Where its backups go."""
    return house.path.parent / "backups"


def made(house: Stage, days: int = 0, **how: Any) -> Backup:
    """A backup so many days after the first."""
    return back_up(house.path, house.path.parent / "backups", NOW + timedelta(days=days), **{"keep": 30, **how})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def with_a_wrong_lot(house: Stage) -> None:
    """What is stored of a lot is no longer what the journal says."""
    with closing(sqlite3.connect(house.path)) as raw, raw:
        raw.execute("UPDATE tax_lots SET basis = '1' WHERE symbol = 'AAA'")


# ------------------------------------------------------------------ made and verified


def test_a_backup_beside_a_daemon_at_work_is_the_household_of_that_instant(house: Stage, folder: Path) -> None:
    halt(house.path, "and halted", NOW)
    with lease(house.path):
        outcome = harvestd("backup", "--db", house.path)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Verified by restoring it: " in outcome.out
    [name] = names(folder)
    assert re.fullmatch(NAMED + r"\.db", name)
    copy = folder / name
    assert (copy.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    ours, theirs = contents(house.path), contents(copy)
    assert {table for table in ours if ours[table] != theirs[table]} == {"meta"}  # that it was made, in ours only
    assert harvestd("ledger", "verify", "--db", copy).code == 0


def test_what_it_says_to_programs(house: Stage, folder: Path) -> None:
    said = json.loads(harvestd("backup", "--db", house.path, "--to", folder / "other", "--json").out)
    assert said["verified"] is True
    assert (said["differences"], said["removed"], said["kept"], said["not_noted"]) == ([], [], 1, "")
    assert said["schema_revision"] == HEAD_REVISION
    assert said["lots"] == len(house.house.store.lots.lots())
    assert said["transactions"] == said["rows"]["transactions"] == house.house.store.journal.count()
    assert Path(said["file"]).parent == folder / "other"
    assert Path(said["file"]).stat().st_size == said["size_bytes"]
    assert house.house.store.meta.get(LAST) == said["made_at"]


def test_a_link_to_the_database_is_no_other_one(house: Stage, folder: Path) -> None:
    link = house.path.with_name("link.db")
    link.symlink_to(house.path)
    assert back_up(link, folder, NOW, keep=1).file.name == "house-20201121T223000Z.db"


def test_lots_that_are_not_the_journals_are_copied_and_not_counted(house: Stage, folder: Path) -> None:
    good = made(house)
    with_a_wrong_lot(house)
    outcome = harvestd("backup", "--db", house.path, "--keep", 1)
    assert outcome.code == 1
    assert "NOT verified, and not counted" in outcome.out
    assert "`harvestd ledger verify` lists them." in outcome.out
    assert house.house.store.meta.get(LAST) == good.made_at.isoformat()
    [kept, unverified] = names(folder)
    assert kept == good.file.name, "a backup that is good is not let go for one that is not"
    assert unverified.endswith("Z.unverified.db")
    again = made(house, 40000)
    assert names(folder) == [good.file.name, again.file.name], "of the others the newest is enough"


def test_a_row_that_cannot_be_read_is_no_verified_backup(house: Stage) -> None:
    with closing(sqlite3.connect(house.path)) as raw, raw:
        raw.execute("UPDATE transactions SET quantity = 'many' WHERE symbol = 'AAA'")
    found = made(house)
    assert not found.is_verified
    assert found.file.name.endswith(".unverified.db")


def test_the_demos_database_is_refused(demo_copy: Path) -> None:
    outcome = harvestd("backup", "--db", demo_copy)
    assert (outcome.code, outcome.out) == (78, "")
    assert "whose venue has a file of its own that would be missing" in outcome.err
    assert not (demo_copy.parent / "backups").exists()


def test_there_is_nothing_to_back_up_before_the_first_run(tmp_path: Path) -> None:
    outcome = harvestd("backup", "--db", tmp_path / "none.db")
    assert outcome.code == 1
    assert "`harvestd run` makes it" in outcome.err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ which ones stay


def test_the_oldest_are_let_go_and_no_other_file(house: Stage, folder: Path) -> None:
    folder.mkdir()
    others = ["house.db", "house-20200101T000000Z.db.txt", "my house-20200101T000000Z.db", "house-1Z.db", "letter"]
    upgrades = ["house-20200101T000000Z-before-0004.db", "house-20200102T000000Z-before-0004.db"]
    for name in (*others, *upgrades):
        (folder / name).write_text("of somebody's")
    for day in range(5):
        found = made(house, day, keep=3)
    assert found.kept == 3
    assert [path.name for path in found.removed] == ["house-20201122T223000Z.db"]
    ours = [f"house-202011{day}T223000Z.db" for day in (23, 24, 25)]
    assert names(folder) == sorted([*others, *upgrades, *ours])


def test_the_new_one_stays_even_when_the_clock_was_set_back(house: Stage, folder: Path) -> None:
    later = made(house, 10, keep=1)
    now = made(house, 0, keep=1)
    assert names(folder) == [now.file.name]
    assert now.removed == (later.file,)


def test_households_in_one_folder_let_go_only_their_own(
    house: Stage, staged: Staged, folder: Path, tmp_path: Path
) -> None:
    other = staged()
    neighbour = tmp_path / "neighbour" / house.path.name
    neighbour.parent.mkdir()
    other.close()
    shutil.copyfile(other.path, neighbour)
    theirs = [back_up(neighbour, folder, NOW - timedelta(days=day), keep=30).file.name for day in (3, 2)]
    ours = [made(house, day, keep=1).file.name for day in range(3)]
    assert names(folder) == sorted([*theirs, ours[-1]])


def test_nothing_is_let_go_while_it_is_not_known_whose_it_is(house: Stage, folder: Path) -> None:
    with patch.object(backup, "NOTE_WAIT_MS", 20), house.house.store.transaction():
        nobodys = [made(house, day, keep=1).file.name for day in range(2)]
    ours = [made(house, day, keep=1).file.name for day in (2, 3)]
    assert names(folder) == sorted([*nobodys, ours[-1]])


def test_a_restored_household_goes_on_letting_its_backups_go(house: Stage, folder: Path, tmp_path: Path) -> None:
    first = made(house)
    restored = tmp_path / "restored" / house.path.name
    restored.parent.mkdir()
    shutil.copyfile(first.file, restored)
    assert back_up(restored, folder, NOW + timedelta(days=1), keep=1).removed == (first.file,)


def test_a_folder_with_a_backups_name_stays_and_is_no_trouble(house: Stage, folder: Path) -> None:
    (folder / "house-20200101T000000Z.db").mkdir(parents=True)
    found = made(house, keep=1)
    assert (found.is_verified, found.troubles, found.kept) == (True, (), 1)
    assert len(names(folder)) == 2


def test_one_that_cannot_be_let_go_is_told_and_the_backup_counts(house: Stage, folder: Path) -> None:
    old = made(house)
    whole = Path.unlink

    def kept(path: Path, missing_ok: bool = False) -> None:
        if path == old.file:
            raise PermissionError(1, "Operation not permitted")
        whole(path, missing_ok)

    with patch.object(Path, "unlink", kept):
        found = made(house, 1, keep=1)
    assert (found.is_verified, found.removed, found.kept) == (True, (), 2)
    assert found.troubles == (f"{old.file} could not be removed (Operation not permitted)",)
    assert house.house.store.meta.get(LAST) == found.made_at.isoformat()


@pytest.mark.fault("F38")
def test_one_whose_name_may_not_be_on_disk_is_there_is_not_counted_and_lets_none_go(house: Stage, folder: Path) -> None:
    old = made(house)
    failing = patch.object(backup, "synced", side_effect=OSError(5, "Input/output error"))
    with failing:
        outcome = harvestd("backup", "--db", house.path, "--keep", 1)
    assert outcome.err == ""
    assert "The backup is there, but the disk did not confirm its name" in outcome.out
    assert len(names(folder)) == 2
    assert house.house.store.meta.get(LAST) == old.made_at.isoformat()


def test_keeping_none_is_no_choice(house: Stage, folder: Path) -> None:
    assert harvestd("backup", "--db", house.path, "--keep", 0).code == 2
    assert not folder.exists()


# ------------------------------------------------------------------ when it cannot be made


def refused(house: Stage, folder: Path, *words: object) -> Outcome:
    """A backup that fails leaves older ones as they are, and nothing of itself."""
    before = contents(house.path), names(folder) if folder.exists() else []
    outcome = harvestd("backup", "--db", house.path, "--keep", 1, *words)
    assert (outcome.code, outcome.out) == (1, "")
    assert (contents(house.path), names(folder) if folder.exists() else []) == before
    return outcome


def test_it_does_not_fill_the_disk_that_the_daemon_needs(house: Stage, folder: Path) -> None:
    made(house)
    size = house.path.stat().st_size
    with patch.object(shutil, "disk_usage", return_value=shutil._ntuple_diskusage(10**12, 0, size + 60 * 1024**2)):
        assert "Make room, or give another folder with --to." in refused(house, folder).err


@pytest.mark.fault("F38")
def test_on_a_full_disk_nothing_is_left_of_it_and_the_daemon_goes_on(house: Stage, folder: Path) -> None:
    made(house)
    before = names(folder)

    def on_a_full_disk() -> None:
        disk_full_beyond(20 * 4096)
        with pytest.raises(BackupFailed, match=r"nothing is left of it.*Is the disk full"):
            made(house, 1)

    assert in_child(on_a_full_disk) == 0
    assert names(folder) == before
    house.live(1)
    assert house.house.store.performance.last("main") is not None


def test_a_folder_that_cannot_be_made_is_named(house: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = refused(house, tmp_path / "none", "--to", tmp_path / "file" / "backups")
    assert f"No backup was made in {tmp_path / 'file' / 'backups'}" in outcome.err
    assert "give another one with --to" in outcome.err


def test_two_at_once_in_one_folder_do_not_meet(house: Stage, folder: Path) -> None:
    made(house)
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another process is making a backup here" in refused(house, folder).err
    os.close(handle)
    with pytest.raises(BackupFailed, match="a backup of this second is there already"):
        made(house)


def test_a_damaged_copy_is_no_backup(house: Stage, folder: Path) -> None:
    made(house)
    whole = backup.copy_online

    def damaged(source: Path, target: Path) -> Any:
        found = whole(source, target)
        with closing(sqlite3.connect(target)) as raw, raw:
            raw.execute("DELETE FROM transactions WHERE journal_sequence = 3")
        return found

    with patch.object(backup, "copy_online", damaged):
        outcome = refused(house, folder)
    assert "No backup was made, older ones are as they were." in outcome.err
    assert "transactions has" in outcome.err


@pytest.mark.parametrize("after", ["copy_online", "check_copy", "_restored", "_name"])
def test_killed_in_the_midst_it_leaves_nothing_that_counts(house: Stage, folder: Path, after: str) -> None:
    old = made(house)
    step = getattr(backup, after)

    def and_die(*arguments: Any, **options: Any) -> None:
        step(*arguments, **options)
        die()

    def killed() -> None:
        with patch.object(backup, after, and_die):
            made(house, 1)

    assert was_killed(in_child(killed))
    assert [name for name in names(folder) if name.endswith(".db")] == [old.file.name]
    new = made(house, 2)
    assert names(folder) == [old.file.name, new.file.name], "what the killed one left is gone"


@pytest.mark.fault("F37")
def test_while_the_database_is_locked_it_is_made_and_only_not_noted(house: Stage) -> None:
    with patch.object(backup, "NOTE_WAIT_MS", 20), house.house.store.transaction():
        found = made(house)
    assert found.is_verified
    assert "could not be written to just now (database is locked)" in found.not_noted
    assert house.house.store.meta.get(LAST) is None


# ------------------------------------------------------------------ when none is made any more


def test_a_last_backup_that_is_old_is_told(house: Stage, tmp_path: Path) -> None:
    made(house)
    store, none = house.house.store, tmp_path / "none"
    assert backup_overdue(store, NOW + timedelta(days=3), none) is None
    words = backup_overdue(store, NOW + timedelta(days=3, seconds=1), none)
    assert words is not None
    assert words.startswith("Expected a verified backup within 3 days, the last one is of 2020-11-21 22:30 UTC.")


def test_where_none_was_ever_made_the_enabled_timer_counts(house: Stage, tmp_path: Path) -> None:
    store, timer = house.house.store, tmp_path / "timer"
    assert backup_overdue(store, NOW + timedelta(days=400), timer) is None
    timer.symlink_to("harvestd-backup.timer")
    os.utime(timer, (NOW.timestamp(), NOW.timestamp()), follow_symlinks=False)
    assert backup_overdue(store, NOW + timedelta(days=3), timer) is None
    assert "none was made since the timer was enabled" in str(backup_overdue(store, NOW + timedelta(days=4), timer))
    store.meta.put("kind", "demo")
    assert backup_overdue(store, NOW + timedelta(days=4), timer) is None


# ------------------------------------------------------------------ there and back between versions


@pytest.fixture
def older(house: Stage, tmp_path: Path) -> Path:
    """The same household, as the version before this one left it; no daemon runs."""
    (tmp_path / "older").mkdir()
    return made_older(house.path, tmp_path / "older" / "house.db", "0003")


def test_the_database_of_an_older_version_can_be_backed_up_as_it_is(older: Path) -> None:
    outcome = harvestd("backup", "--db", older)
    assert outcome.code == 0, outcome.err
    assert "of an older version, which stays as it is" in outcome.out
    [name] = names(older.parent / "backups")
    assert revision_of(older.parent / "backups" / name) == revision_of(older) == "0003"


@pytest.mark.fault("F40")
def test_an_upgrade_begins_with_a_backup_that_leads_back(older: Path) -> None:
    before = contents(older)
    outcome = harvestd("upgrade", "--db", older)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Upgraded from schema revision 0003 to 0004." in outcome.out
    [name] = names(older.parent / "backups")
    assert re.fullmatch(NAMED + r"-before-0004\.db", name)
    assert contents(older.parent / "backups" / name) == before
    assert revision_of(older) == HEAD_REVISION
    assert harvestd("ledger", "verify", "--db", older).code == 0
    again = harvestd("upgrade", "--db", older)
    assert "this version's. Nothing was done." in again.out
    assert names(older.parent / "backups") == [name]

    shutil.copyfile(older.parent / "backups" / name, older)  # the way back: no process has it open
    with code_of("0003"):
        assert harvestd("ledger", "verify", "--db", older).code == 0
        Store.open(older).close()


@pytest.mark.fault("F40")
def test_older_code_ends_with_78_on_a_newer_database_and_does_not_touch_it(house: Stage) -> None:
    house.close()
    before = house.path.read_bytes()
    with code_of("0003"):
        for words in (("status",), ("ledger", "rebuild"), ("upgrade",), ("backup",), ("plans", "approve", "x")):
            outcome = harvestd(*words, "--db", house.path)
            assert (outcome.code, outcome.out) == (78, ""), words
            assert "expected schema revision 0003, was 0004: a newer harvestd wrote it" in outcome.err
    assert house.path.read_bytes() == before
    assert not (house.path.parent / "backups").exists()


def test_commands_that_only_look_work_on_an_older_one_and_leave_it(older: Path) -> None:
    before = older.read_bytes()
    for words in (("status",), ("lots",), ("orders",), ("ledger", "verify")):
        outcome = harvestd(*words, "--db", older)
        assert (outcome.code, outcome.err) == (0, ""), words
    for words in (("ledger", "rebuild"), ("plans", "approve", "x")):
        outcome = harvestd(*words, "--db", older)
        assert outcome.code == 78, words
        assert "`harvestd upgrade` brings it up, after a backup" in outcome.err
    assert older.read_bytes() == before


def test_without_a_backup_there_is_no_upgrade(older: Path) -> None:
    before = older.read_bytes()
    (older.parent / "backups").write_text("in the way")
    outcome = harvestd("upgrade", "--db", older)
    assert outcome.code == 1
    assert "No backup was made in" in outcome.err
    assert older.read_bytes() == before


def test_nor_while_another_process_works_on_it(older: Path) -> None:
    before = older.read_bytes()
    with lease(older):
        outcome = harvestd("upgrade", "--db", older)
    assert outcome.code == 1
    assert "another harvestd works on this household" in outcome.err
    assert older.read_bytes() == before


def test_what_differs_before_an_upgrade_differs_after_it_and_does_not_stop_it(house: Stage, tmp_path: Path) -> None:
    with_a_wrong_lot(house)
    path = made_older(house.path, tmp_path / "house.db", "0003")
    assert harvestd("upgrade", "--db", path).code == 0
    [name] = names(tmp_path / "backups")
    assert name.endswith("-before-0004.unverified.db")
    assert harvestd("ledger", "verify", "--db", path).code == 1


@pytest.mark.fault("F40")
def test_the_daemon_upgrades_before_it_works_and_holds_the_household_meanwhile(older: Path) -> None:
    seen = []

    @contextmanager
    def at_work(database: Path, settings: Settings, environ: Mapping[str, str], watcher: object) -> Iterator[None]:
        seen.append(revision_of(database))
        with pytest.raises(LeaseHeld), lease(database):
            pytest.fail("anybody could have it")
        yield

    with closing(Store.open(older, read_only=True)) as store:
        settings = Settings.model_validate_json(store.meta.get("settings") or "")
    with patch("daemon.household.working_household", at_work), working_house(Target(older, settings), {}):
        pass
    assert seen == [HEAD_REVISION]
    with code_of("0003"), pytest.raises(SchemaMismatch):
        Store.open(older)


# ------------------------------------------------------------------ the commands of docs/OPERATIONS.md


def blocks(heading: str) -> list[str]:
    """The shell commands of a section."""
    page = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page, flags=re.M)
    [text] = [one for one in section if one.startswith(f"{heading}\n")]
    return re.findall(r"```sh\n(.*?)```", text, re.S)


@pytest.fixture
def home(house: Stage, tmp_path: Path) -> Path:
    """A folder with config.yaml and the database as a person has it, and a shell that finds harvestd and systemctl."""
    home = tmp_path / "home"
    home.mkdir()
    house.close()
    shutil.copyfile(house.path, home / "harvestd.db")
    assert harvestd("init", "--yes", "--path", home / "config.yaml").code == 0
    programs = tmp_path / "bin"
    programs.mkdir()
    main = "import sys; from daemon.cli.main import main; sys.argv = ['harvestd', *sys.argv[1:]]; main()"
    for name, does in (("harvestd", f'exec {sys.executable} -c "{main}" "$@"'), ("systemctl", 'echo "$@" >> told')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    return home


def typed(home: Path, *commands: str) -> str:
    """Commands in a shell that stops at the first that fails; what they printed."""
    path = f"{home.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=home,
        env={**kept, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.fault("F40")
def test_restoring_by_the_documents_commands_gives_the_backup_and_nothing_of_what_was_set_aside(home: Path) -> None:
    assert "Verified by restoring it" in typed(home, *blocks("Backup"))
    [copy] = (home / "backups").iterdir()
    before = contents(copy)

    def goes_on() -> None:
        store = Store.open(home / "harvestd.db")
        store.meta.put("later", "and killed, its WAL left behind")
        die()

    assert was_killed(in_child(goes_on))
    assert (home / "harvestd.db-wal").exists()
    restore, again = blocks("Restore")
    printed = typed(home, restore)
    assert "The stored lots equal the replay." in printed
    assert contents(home / "harvestd.db") == before
    assert (home / "harvestd.db").stat().st_mode & 0o777 == 0o600
    assert len(list(home.glob("set-aside-*/harvestd.db-wal"))) == 1
    assert (home / "harvestd.db.halt").exists(), "nothing starts trading in between"
    assert "restoring a backup" in typed(home, again)
    assert (home / "told").read_text().splitlines() == ["stop harvestd", "start harvestd"]

    typed(home, restore.replace("set-aside-", "second-"))
    assert contents(home / "harvestd.db") == before
    assert len(list(home.glob("set-aside-*/harvestd.db"))) == 1, "what was set aside first is still there"


@pytest.mark.fault("F40")
def test_rolling_back_by_the_documents_commands_gives_the_old_version_its_database(home: Path) -> None:
    database = home / "harvestd.db"
    old = made_older(database, home / "old.db", "0003")
    old.replace(database)
    before = contents(database)
    stop, go_on = blocks("Upgrade")
    assert "Upgraded from schema revision 0003 to 0004." in typed(home, stop, go_on.replace("systemctl start", "true"))
    [choose] = blocks("Roll back")
    restore = blocks("Restore")[0]
    chosen = re.sub(r"^backup=.*\n", choose, restore, flags=re.M)
    assert chosen != restore
    typed(home, chosen)
    assert contents(database) == before
    with code_of("0003"):
        Store.open(database).close()
