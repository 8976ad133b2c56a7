"""The units: complete, hardened, the shipped copies equal to what `harvestd install-service` makes of them."""

from __future__ import annotations

import configparser
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import harvestd

from daemon.install_service import (
    EXPOSURE_MOST,
    NAMES,
    SERVICES,
    Installation,
    install,
    installation,
    judge,
    machine_wide,
)
from daemon.settings import EXAMPLE, Settings, load_settings
from daemon.supervision import LONGEST_LOOK_S, PATIENCE_S

ROOT = Path(__file__).parents[2]
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on this machine")
SOMEBODY = next(one.pw_name for one in pwd.getpwall() if one.pw_uid not in (0, 65_534))  # no root, and not "nobody"


def values(text: str) -> dict[str, list[str]]:
    """Every key of a unit with its values, sections aside."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the example configuration and keys, as `harvestd init` and `harvestd keys` leave it."""
    (tmp_path / "keys").mkdir()
    for name in ("alpaca_paper_key_id", "alpaca_paper_secret_key"):
        (tmp_path / "keys" / name).write_text("canary-of-the-keys\n")
    text = EXAMPLE.read_text(encoding="utf-8").replace("  directory: null", "  directory: keys")
    (tmp_path / "config.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the household's."""
    return tmp_path_factory.mktemp("elsewhere")


def made_of(home: Path) -> Installation:
    return installation(home / "config.yaml", SOMEBODY, {})


def change(home: Path, old: str, new: str) -> None:
    path = home / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ------------------------------------------------------------------ the texts


@pytest.mark.parametrize("name", NAMES)
def test_the_copies_at_the_root_are_what_is_installed(name: str) -> None:
    assert (ROOT / "systemd" / name).read_text(encoding="utf-8") == machine_wide().unit(name)
    assert {path.name for path in (ROOT / "systemd").iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_has_nothing_left_to_fill_in_and_reads_as_sections(name: str) -> None:
    text = machine_wide().unit(name)
    assert not re.search(r"[{}]", text)
    configparser.RawConfigParser(strict=False, delimiters=("=",)).read_string(text)


def test_the_service_is_told_what_the_daemon_tells() -> None:
    unit = values(machine_wide().unit("harvestd.service"))
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert unit["WatchdogSec"] == ["90"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["KillSignal"] == ["SIGTERM"]
    assert {"78", "2"} <= set(unit["RestartPreventExitStatus"][0].split())
    assert set(unit["Wants"][0].split()) == {"network-online.target", "time-sync.target"}
    assert unit["After"] == [*unit["Wants"], "multi-user.target"], "a boot does not wait for a broker"
    assert "ExecStartPre" not in unit


def test_systemd_waits_longer_for_the_end_than_any_call_may_take() -> None:
    """A call of the broker has a time limit; the look asks for more time with each answer."""
    unit = values(machine_wide().unit("harvestd.service"))
    assert unit["TimeoutStopSec"] == ["5min"]
    assert PATIENCE_S >= 300
    assert LONGEST_LOOK_S > PATIENCE_S


def test_the_settings_names_of_the_keys_are_the_units() -> None:
    names = Settings.from_mapping(
        {
            "household": {"accounts": [{"id": "a", "type": "taxable", "broker": "alpaca"}]},
            "benchmark": {"symbols": ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]},
        }
    ).credentials
    unit = values((ROOT / "systemd" / "harvestd.service").read_text(encoding="utf-8"))
    assert unit["LoadCredentialEncrypted"] == [names.alpaca_key_id_name, names.alpaca_secret_key_name]


def test_the_backup_runs_the_command_each_day_and_makes_up_for_days_off() -> None:
    service = values(machine_wide().unit("harvestd-backup.service"))
    timer = values(machine_wide().unit("harvestd-backup.timer"))
    assert service["ExecStart"] == ["/opt/harvestd/bin/harvestd backup --config /etc/harvestd/config.yaml"]
    assert service["PrivateNetwork"] == ["yes"]
    assert "LoadCredentialEncrypted" not in service, "a backup needs no key"
    assert timer["Persistent"] == ["true"]
    assert timer["RandomizedDelaySec"] == ["15min"]


# ------------------------------------------------------------------ what systemd says of them


@needs_systemd
def test_the_units_are_right_and_score_two_or_better(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    install(made_of(home), folder)
    found = judge(folder)
    assert found is not None
    assert found.complaints == ()
    for level in found.exposure:
        assert float(re.search(r": ([0-9.]+) ", level)[1]) <= EXPOSURE_MOST / 10  # type: ignore[index]


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_the_shipped_services_score_two_or_better(name: str) -> None:
    words = [str(ANALYZE), "security", "--offline=true", "--threshold=20", str(ROOT / "systemd" / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


@needs_systemd
def test_what_systemd_finds_fault_with_is_not_installed(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    made = made_of(home)
    for name in NAMES:
        text = made.unit(name).replace("ProtectSystem=strict", "").replace("CapabilityBoundingSet=\n", "")
        (folder / name).write_text(text.replace("SystemCallFilter=", "#").replace("[Timer]", "[Timber]"))
    found = judge(folder)
    assert found is not None
    assert len(found.complaints) >= 2


# ------------------------------------------------------------------ of one installation


def test_a_persons_own_folder(home: Path) -> None:
    made = made_of(home)
    unit = values(made.unit("harvestd.service"))
    assert unit["User"] == [SOMEBODY]
    assert unit["ExecStart"] == [f"{Path(sys.executable).with_name('harvestd')} run --config {home / 'config.yaml'}"]
    assert unit["ReadWritePaths"] == [str(home)]
    assert unit["WorkingDirectory"] == [str(home)]
    assert unit["LoadCredential"] == [
        f"alpaca_paper_key_id:{home / 'keys' / 'alpaca_paper_key_id'}",
        f"alpaca_paper_secret_key:{home / 'keys' / 'alpaca_paper_secret_key'}",
    ]
    assert "canary" not in str(unit)


def test_folders_of_backups_and_of_the_calendar_may_be_written_too(home: Path) -> None:
    change(home, "  calendar_file: null", "  calendar_file: ../shared/wash.ics")
    assert [str(path) for path in made_of(home).writable] == sorted([str(home), str(home.parent / "shared")])


def test_a_key_that_is_in_no_file_is_asked_of_systemds_store(home: Path) -> None:
    (home / "keys" / "alpaca_paper_secret_key").unlink()
    change(home, "  heartbeat_url_name: null", "  heartbeat_url_name: heartbeat_url")
    made = made_of(home)
    unit = values(made.unit("harvestd.service"))
    assert unit["LoadCredentialEncrypted"] == ["alpaca_paper_secret_key", "heartbeat_url"]
    assert any("systemd-creds encrypt --name=heartbeat_url " in one for one in made.cautions)


@pytest.mark.parametrize(("path", "seen"), [("/home/ann/h.db", "read-only"), ("/srv/h/h.db", "yes")])
def test_homes_are_hidden_unless_the_household_is_in_one(path: str, seen: str) -> None:
    made = Installation(Path("/srv/bin/harvestd"), Path("/srv/h/c.yaml"), "ann", Path(path).parent, (), ())
    assert values(made.unit("harvestd.service"))["ProtectHome"] == [seen]


@pytest.mark.parametrize("mode", ["demo", "live"])
def test_a_demo_and_live_trading_are_refused(home: Path, mode: str) -> None:
    change(home, "mode: paper", f"mode: {mode}")
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--to", home)
    assert outcome.code == 78
    assert not list(home.glob("*.service"))


def test_a_configuration_that_is_wrong_is_refused_with_all_that_is_wrong(home: Path) -> None:
    change(home, "mode: paper", "mode: papre")
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--to", home)
    assert outcome.code == 78
    assert "papre" in outcome.err
    assert not list(home.glob("*.service"))


@pytest.mark.parametrize(
    ("user", "said"), [("root", "does not run as root"), ("nobody-of-this-name", "expected a user of this machine")]
)
def test_it_runs_as_a_user_there_is_and_never_as_root(home: Path, user: str, said: str) -> None:
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", user, "--to", home)
    assert outcome.code == 78
    assert said in outcome.err


def test_a_path_that_systemd_would_read_otherwise_is_refused(home: Path, tmp_path: Path) -> None:
    spaced = tmp_path / "my house 100%"
    shutil.copytree(home, spaced, ignore=shutil.ignore_patterns("my house*"))
    outcome = harvestd("install-service", "--config", spaced / "config.yaml", "--user", SOMEBODY, "--to", home)
    assert outcome.code == 78
    assert "systemd" in outcome.err
    assert not list(home.glob("*.service"))


def test_what_only_this_shell_knows_is_refused(home: Path) -> None:
    """A setting or a key in the environment would not be there when systemd starts the daemon."""
    from daemon.errors import ConfigurationRefused

    environ = {"HARVESTD_MODE": "observe", "HARVESTD_SECRET_ALPACA_PAPER_KEY_ID": "canary"}
    with pytest.raises(ConfigurationRefused, match="HARVESTD_MODE, HARVESTD_SECRET_ALPACA_PAPER_KEY_ID") as refused:
        installation(home / "config.yaml", SOMEBODY, environ)
    assert "canary" not in str(refused.value)


# ------------------------------------------------------------------ what the service can see and reach


@pytest.mark.parametrize(
    "name", ["base_prefix", "executable", "prefix"], ids=["the Python it was made of", "its own", "the environment"]
)
def test_a_python_in_a_home_is_seen(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("daemon.install_service.HOMES", (tmp_path / "homes",))
    assert values(made_of(home).unit("harvestd.service"))["ProtectHome"] == ["yes"]
    monkeypatch.setattr("daemon.install_service._program", lambda: Path("/opt/harvestd/bin/harvestd"))
    monkeypatch.setattr(sys, name, str(tmp_path / "homes" / "ann" / ".pyenv" / "python"))
    assert values(made_of(home).unit("harvestd.service"))["ProtectHome"] == ["read-only"]


@pytest.mark.parametrize("key", ["  constituents_file: null", "  tables_file: null"])
def test_a_file_that_the_settings_name_and_that_is_in_a_home_is_seen(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    file = tmp_path / "homes" / "ann" / "file.csv"
    file.parent.mkdir(parents=True)
    file.write_text("symbol,weight\n")
    settings = load_settings(home / "config.yaml", {})
    section = "benchmark" if "constituents" in key else "tax_profile"
    changed = getattr(settings, section).model_copy(update={key.split(":")[0].strip(): file})
    monkeypatch.setattr("daemon.install_service.HOMES", (tmp_path / "homes",))
    monkeypatch.setattr(
        "daemon.install_service.load_settings", lambda *_: settings.model_copy(update={section: changed})
    )
    made = made_of(home)
    assert values(made.unit("harvestd.service"))["ProtectHome"] == ["read-only"]
    (tmp_path / "homes" / "ann").chmod(0o700)
    assert any(f"{SOMEBODY} cannot read {file}" in one for one in made.cautions)


def test_a_link_that_leads_into_a_home_is_followed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = tmp_path / "homes" / "ann"
    away.mkdir(parents=True)
    (home / "data").symlink_to(away)
    change(home, "  path: harvestd.db", "  path: data/harvestd.db")
    monkeypatch.setattr("daemon.install_service.HOMES", (tmp_path / "homes",))
    unit = values(made_of(home).unit("harvestd.service"))
    assert unit["ProtectHome"] == ["read-only"]
    assert unit["ReadWritePaths"] == [str(away)]


def test_a_backup_folder_that_is_not_there_is_made_and_may_go_missing_without_the_daemon(
    home: Path, tmp_path: Path, elsewhere: Path
) -> None:
    away, folder = elsewhere / "disk" / "copies", tmp_path / "units"
    folder.mkdir()
    change(home, "  backup_directory: backups", f"  backup_directory: {away}")
    made = made_of(home)
    assert f"-{away}" in values(made.unit("harvestd.service"))["ReadWritePaths"]
    assert not away.exists()
    install(made, folder)
    assert stat.S_IMODE(away.stat().st_mode) == 0o700
    if os.geteuid() == 0:
        assert away.owner() == SOMEBODY


def test_a_folder_that_cannot_be_made_is_refused_and_nothing_is_installed(
    home: Path, tmp_path: Path, elsewhere: Path
) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    (elsewhere / "file").write_text("in the way")
    change(home, "  backup_directory: backups", f"  backup_directory: {elsewhere / 'file' / 'copies'}")
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--to", folder)
    assert outcome.code == 78
    assert "is missing and cannot be made" in outcome.err
    assert list(folder.iterdir()) == []


def test_a_configuration_that_the_services_user_cannot_get_to_is_told(home: Path, elsewhere: Path) -> None:
    elsewhere.chmod(0o700)
    shutil.copytree(home, elsewhere / "house")
    said = made_of(elsewhere / "house").cautions
    assert any(one.startswith(f"{SOMEBODY} cannot read {elsewhere / 'house' / 'config.yaml'}: ") for one in said)
    assert all(" is closed to others. " in one for one in said if " cannot read " in one)


def test_a_backup_folder_that_somebody_else_made_is_told(home: Path) -> None:
    (home / "backups").mkdir(mode=0o700)
    owner = home.owner()
    assert owner != SOMEBODY
    assert f"{home / 'backups'} belongs to {owner}: chown -R {SOMEBODY} {home / 'backups'}" in made_of(home).cautions


def test_what_lies_beside_the_database_and_is_another_users_is_told(home: Path) -> None:
    for name in ("harvestd.db", "harvestd.db.lock"):
        (home / name).write_text("")
    said = made_of(home).cautions
    owner = home.owner()
    assert owner != SOMEBODY
    assert f"{home / 'harvestd.db.lock'} belongs to {owner}: chown {SOMEBODY} {home / 'harvestd.db.lock'}" in said


def test_whatever_is_used_and_lies_in_a_temporary_folder_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.install_service.TEMPORARY", (tmp_path / "temporary",))
    monkeypatch.setattr("daemon.install_service._program", lambda: tmp_path / "temporary" / "bin" / "harvestd")
    change(home, "  backup_directory: backups", f"  backup_directory: {tmp_path / 'temporary' / 'copies'}")
    said = [one for one in made_of(home).cautions if "in a temporary folder" in one]
    assert [one.split(" is in ")[0] for one in said] == [
        str(tmp_path / "temporary" / "bin" / "harvestd"),
        str(tmp_path / "temporary" / "copies"),
    ]


def test_an_owner_without_a_name_is_no_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(_: Path) -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(Path, "owner", nameless)
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--dry-run")
    assert outcome.code == 78
    assert "Say who the service runs as with --user NAME" in outcome.err
    monkeypatch.setattr(pwd, "getpwuid", nameless)
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert f"belongs to user {home.stat().st_uid}" in outcome.out


def test_another_households_units_stay_unless_they_are_to_go(home: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "units", tmp_path / "other"
    folder.mkdir()
    shutil.copytree(home, other, ignore=shutil.ignore_patterns("units", "other"))
    install(made_of(home), folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    words = ("install-service", "--config", other / "config.yaml", "--user", SOMEBODY, "--to", folder)
    outcome = harvestd(*words)
    assert outcome.code == 78
    assert f"runs another household, that of {home / 'config.yaml'}" in outcome.err
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert harvestd(*words, "--replace").code == 0
    assert str(other / "config.yaml") in (folder / "harvestd.service").read_text()
    assert str(home / "config.yaml") in (folder / "harvestd.service.old").read_text()


def test_a_systemd_that_is_too_old_is_said_to_be(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "systemd-analyze"
    old.write_text("#!/bin/sh\necho 'systemd 247 (247.3-7)'\n")
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(old))
    found = judge(tmp_path)
    assert found is not None
    assert found.complaints == ("expected systemd 250 or later on this machine, was 247",)


# ------------------------------------------------------------------ writing


def test_units_are_written_whole_readable_and_a_changed_one_is_kept(home: Path, tmp_path: Path) -> None:
    folder, made = tmp_path / "units", made_of(home)
    folder.mkdir()
    old_mask = os.umask(0o077)
    try:
        assert [path.name for path in install(made, folder)] == list(NAMES)
    finally:
        os.umask(old_mask)
    for name in NAMES:
        assert (folder / name).read_text() == made.unit(name)
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o644
    assert install(made, folder) == ()
    (folder / NAMES[0]).write_text("[Service]\nExecStart=/bin/true\n")
    assert install(made, folder) == (folder / NAMES[0],)
    assert (folder / f"{NAMES[0]}.old").read_text() == "[Service]\nExecStart=/bin/true\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, f"{NAMES[0]}.old"])


def test_the_command_says_what_to_type_next_and_starts_nothing(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    outcome = harvestd("install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--to", folder)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert "systemctl daemon-reload" in outcome.out
    assert "systemctl --no-block enable --now harvestd.service harvestd-backup.timer" in outcome.out
    owner = pwd.getpwuid(home.stat().st_uid).pw_name
    if owner != SOMEBODY:
        assert "To do first: " in outcome.out
    assert "canary" not in outcome.out + outcome.err


def test_a_dry_run_prints_the_units_and_writes_nothing(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    outcome = harvestd(
        "install-service", "--config", home / "config.yaml", "--user", SOMEBODY, "--to", folder, "--dry-run"
    )
    assert outcome.code == 0, outcome.err
    assert list(folder.iterdir()) == []
    made = made_of(home)
    for name in NAMES:
        assert f"# {folder / name}\n{made.unit(name)}" in outcome.out


def test_the_example_configuration_can_be_installed_as_it_is(tmp_path: Path) -> None:
    """Machine-wide, the way the shipped copies are: nothing in them that the settings do not lead to."""
    settings = load_settings(EXAMPLE, {})
    assert settings.notifications.heartbeat_url_name is None
    assert {name for name, _ in machine_wide().credentials} == {
        settings.credentials.alpaca_key_id_name,
        settings.credentials.alpaca_secret_key_name,
    }
