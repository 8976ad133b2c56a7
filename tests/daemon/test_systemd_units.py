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
    assert {"network-online.target", "time-sync.target"} <= set(unit["After"][0].split())
    assert unit["After"] == unit["Wants"]
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
    assert "systemctl enable --now harvestd.service harvestd-backup.timer" in outcome.out
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
