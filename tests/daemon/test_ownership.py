"""A command typed as root leaves nothing behind that the household's own user could not open, replace or remove."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Staged
from small_house import Stage

from daemon.backup import back_up
from daemon.errors import BackupFailed, ConfigurationRefused
from daemon.halt import halt
from daemon.opening import is_held, lease
from daemon.ownership import Reader, owner_of

NOW = datetime(2020, 11, 21, 22, 30, tzinfo=UTC)
ANN = 54_321  # a user that nobody else's test has


@pytest.fixture
def house(staged: Staged) -> Stage:
    return staged()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, house: Stage) -> set[str]:
    """We are root, and the database is Ann's: the names of what is given to her."""
    found: set[str] = set()
    whole = Path.stat

    def of_ann(path: Path, **options: bool) -> os.stat_result:
        seen = whole(path, **options)
        if path != house.path:
            return seen
        return os.stat_result((*seen[:4], ANN, ANN, *seen[6:10]))

    def takes(made: int | Path, uid: int, gid: int) -> None:
        assert (uid, gid) == (ANN, ANN)
        found.add(Path(os.readlink(f"/proc/self/fd/{made}") if isinstance(made, int) else made).name)

    monkeypatch.setattr("daemon.ownership.os.geteuid", lambda: 0)
    monkeypatch.setattr("daemon.ownership.os.fchown", takes)
    monkeypatch.setattr("daemon.ownership.os.lchown", takes)
    monkeypatch.setattr(Path, "stat", of_ann)
    return found


def test_lock_halt_and_backups_become_the_database_owners(house: Stage, given: set[str]) -> None:
    with lease(house.path):
        pass
    halt(house.path, "by hand", NOW)
    made = back_up(house.path, house.path.parent / "far" / "backups", NOW, keep=1)
    assert made.is_verified
    name, stem = house.path.name, house.path.stem
    assert given == {f"{name}.lock", f"{name}.halt", "far", "backups", f"{stem}.making"}


def test_who_is_not_root_gives_nothing_away(house: Stage, given: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.ownership.os.geteuid", lambda: 1000)
    halt(house.path, "by hand", NOW)
    assert given == set()


def test_a_lock_that_is_another_users_is_named_with_the_remedy(house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.open

    def denied(path: Path, *how: int) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return whole(path, *how)

    monkeypatch.setattr("daemon.opening.os.open", denied)
    remedy = f"sudo chown --reference={house.path} {house.path}.lock"
    with pytest.raises(ConfigurationRefused, match=remedy), lease(house.path):
        pytest.fail("the lock was not taken")


def test_a_link_in_the_locks_place_is_not_followed(house: Stage, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("of somebody's")
    house.path.with_name(f"{house.path.name}.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), lease(house.path):
        pytest.fail("the lock was not taken")
    assert (tmp_path / "elsewhere").read_text() == "of somebody's"


def test_a_backup_folder_that_is_another_users_is_named_with_the_remedy(
    house: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(source: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr("daemon.backup.copy_online", denied)
    folder = tmp_path / "backups"
    with pytest.raises(BackupFailed, match=f"sudo chown -R --reference={house.path} {folder}"):
        back_up(house.path, folder, NOW, keep=1)


def test_whether_a_household_is_held(house: Stage) -> None:
    assert not is_held(house.path)
    with lease(house.path):
        assert is_held(house.path)
    assert not is_held(house.path)


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "passes", "reads", "writes"),
    [
        (ANN, 0, 0o700, True, True, True),
        (ANN, 0, 0o077, False, False, False),
        (0, ANN, 0o070, True, True, True),
        (0, ANN, 0o750, True, True, False),
        (0, 0, 0o750, False, False, False),
        (0, 0, 0o751, True, False, False),
        (0, 0, 0o755, True, True, False),
        (0, 0, 0o777, True, True, True),
    ],
)
def test_what_a_user_may_do_is_said_by_owner_group_and_mode(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    gid: int,
    mode: int,
    passes: bool,
    reads: bool,
    writes: bool,
) -> None:
    whole, folder = Path.stat, tmp_path / "folder"
    folder.mkdir()

    def owned(path: Path, **options: bool) -> os.stat_result:
        seen = whole(path, **options)
        if path == folder:
            return os.stat_result((0o040000 | mode, *seen[1:4], uid, gid, *seen[6:10]))
        return os.stat_result((seen[0] | 0o755, *seen[1:10]))

    monkeypatch.setattr(Path, "stat", owned)
    ann = Reader(ANN, frozenset([ANN]))
    assert ann.barrier(folder) == (None if reads else folder)
    assert ann.barrier(folder / "inside" / "file") == (None if passes else folder)
    assert ann.may_write_in(folder) is writes


def test_an_owner_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert owner_of(tmp_path) == pwd.getpwuid(os.getuid()).pw_name

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert owner_of(tmp_path) == f"user {os.getuid()}"
