"""The units under which systemd looks after harvestd, made for one installation: its program, its config, its folders.

The texts are `daemon/units/`; the copies in `systemd/` are made of them for a machine-wide installation, to be read.

| what                     | from                                                                               |
|--------------------------|------------------------------------------------------------------------------------|
| the program              | the `harvestd` beside the Python that runs this                                    |
| who it runs as           | whoever owns the configuration, or --user; never root                              |
| where it may write       | the database's folder, the backups', and that of the wash-sale calendar's file      |
| where its keys come from | credentials.directory, file by file; what is not there, from systemd's own store   |

systemd hands keys over in a folder that only this service sees ($CREDENTIALS_DIRECTORY); no unit holds one.

`systemd-analyze verify` does not notice a path that the service will not see: a Python that lies in a home, a link that
leads there, a folder that is closed to the service's user. So every path it uses is followed to its end here.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import ConfigurationRefused, HarvestdError
from daemon.ownership import Reader, give, owner_of
from daemon.settings import ConfigurationError, Settings, config_path, load_settings, unsupported

UNITS = Path(__file__).parent / "units"
NAMES = ("harvestd.service", "harvestd-backup.service", "harvestd-backup.timer")
SERVICES = tuple(name for name in NAMES if name.endswith(".service"))
SYSTEM_UNITS = Path("/etc/systemd/system")
STATE = Path("/var/lib/harvestd")  # what StateDirectory=harvestd makes
STORE = Path("/etc/credstore.encrypted")
EXPOSURE_MOST = 20  # tenths, as `systemd-analyze security --threshold` counts: 2.0 of 10
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # PrivateTmp= gives the service others
OLDEST_SYSTEMD = 250  # LoadCredentialEncrypted= and `security --offline` begin there
_RUNS_ON = re.compile(r"^ExecStart=.* --config (\S+)", re.M)
_READS_AS_IT_IS = re.compile(r"/[A-Za-z0-9/._@:+=,-]*")


class UnitsRefused(HarvestdError):  # noqa: N818
    """systemd's own check found fault with the units, so none was installed; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What one installation's units are made of. Paths are absolute. `credentials` by name; None: systemd's store.

    `reads` are files and folders that the service reads beside its program and configuration, `writes` the folders it
    writes to, of which `writable` are the outermost.
    """

    program: Path
    config: Path
    user: str
    folder: Path
    writable: tuple[Path, ...]
    credentials: tuple[tuple[str, Path | None], ...]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    database: str = ""  # its file's name

    def unit(self, name: str) -> str:
        """The text of a unit. Raises ConfigurationRefused for a path that systemd would read as something else."""
        return (
            (UNITS / name)
            .read_text(encoding="utf-8")
            .format(
                program=_as_read(self.program),
                config=_as_read(self.config),
                user=self.user,
                folder=_as_read(self.folder),
                writable=_lines("ReadWritePaths", map(self._writable, self.writable)),
                credentials="\n".join(_credential(one, place) for one, place in self.credentials),
                hardening=self._hardening,
            )
        )

    def _writable(self, path: Path) -> str:
        """Of the folders only the database's has to be there: a disk for backups may be away without the daemon."""
        return f"{'' if self.folder.is_relative_to(path) else '-'}{_as_read(path)}"

    @property
    def _used(self) -> tuple[Path, ...]:
        """Every path the service needs, as it is called and as what it is at the end of its links."""
        named = (self.program, self.config, self.folder, *self.writable, *self.writes, *self.reads)
        return tuple(dict.fromkeys(one for path in named for one in (path, path.resolve())))

    @property
    def _hardening(self) -> str:
        at_home = any(path.is_relative_to(home) for path in self._used for home in HOMES)
        text = (UNITS / "hardening.conf").read_text(encoding="utf-8")
        return text.format(home="read-only" if at_home else "yes").rstrip()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a person has to see to, besides starting it."""
        return tuple(dict.fromkeys((*self._hidden(), *self._closed(), *self._not_in_the_store())))

    def _hidden(self) -> Iterator[str]:
        for path in self._used:
            if any(path.is_relative_to(temporary) for temporary in TEMPORARY):
                yield f"{path} is in a temporary folder, which the service does not see. Move it elsewhere."

    def _closed(self) -> Iterator[str]:
        """What the service's user may not reach, read or write, by modes and owners."""
        reader = Reader.of(self.user)
        written = tuple(dict.fromkeys((self.folder, *self.writable, *self.writes)))
        for path in written:
            if path.exists() and owner_of(path) != self.user and not reader.may_write_in(path):
                yield f"{path} belongs to {owner_of(path)}: chown -R {self.user} {path}"
            yield from (
                f"{inside} belongs to {owner_of(inside)}: chown {self.user} {inside}"
                for inside in self._of_the_database(path)
                if owner_of(inside) != self.user
            )
        for path in self._used:
            barrier = reader.barrier(path)
            if barrier is not None and not (barrier in written and owner_of(barrier) != self.user):
                yield (
                    f"{self.user} cannot read {path}: {barrier} belongs to {owner_of(barrier)} and is closed to "
                    f"others. Open it to {self.user}, or move what is needed elsewhere."
                )

    def _of_the_database(self, folder: Path) -> tuple[Path, ...]:
        """The database and what lies beside it under its name: lock, halt, journal."""
        if folder != self.folder or not self.database or not folder.is_dir():
            return ()
        return tuple(sorted(path for path in folder.iterdir() if path.name.startswith(self.database)))

    def _not_in_the_store(self) -> Iterator[str]:
        for name, place in self.credentials:
            if place is None:
                yield (
                    f"The secret {name} is expected in systemd's store. If it is not there yet: "
                    f"sudo mkdir -p -m 0700 {STORE} && "
                    f"systemd-ask-password -n | sudo systemd-creds encrypt --name={name} - {STORE}/{name}"
                )


def machine_wide() -> Installation:
    """The installation that the copies in `systemd/` are made for."""
    names = ("alpaca_paper_key_id", "alpaca_paper_secret_key")
    return Installation(
        program=Path("/opt/harvestd/bin/harvestd"),
        config=Path("/etc/harvestd/config.yaml"),
        user="harvestd",
        folder=STATE,
        writable=(),
        credentials=tuple((name, None) for name in names),
    )


def installation(config: Path | None, user: str | None, environ: dict[str, str]) -> Installation:
    """Of a configuration. Raises daemon.settings.ConfigurationError with all that is wrong with it, and
    ConfigurationRefused where the service could not run as it should."""
    path = config_path(config, environ).absolute()
    settings = load_settings(path, environ)
    problems = unsupported(settings)
    if problems:
        raise ConfigurationError(tuple(problems))
    overriding = sorted(name for name in environ if name.startswith("HARVESTD_") and name != "HARVESTD_CONFIG")
    if overriding:
        raise ConfigurationRefused(
            f"{', '.join(overriding)}: set here, and not for the service. Write such settings into {path}, and keys "
            "where its section `credentials` says. Nothing was installed."
        )
    database = settings.database.path.resolve()
    writes = _writes(settings)
    return Installation(
        program=_program(),
        config=path,
        user=_user(user or _owner(path)),
        folder=database.parent,
        writable=_outermost(writes),
        credentials=tuple(_credentials(settings)),
        reads=_reads(settings),
        writes=writes,
        database=database.name,
    )


def _owner(config: Path) -> str:
    """Whoever owns the configuration. Raises ConfigurationRefused when this machine has no name for them."""
    try:
        return config.owner()
    except KeyError:
        raise ConfigurationRefused(
            f"{config} belongs to user {config.stat().st_uid}, for whom this machine has no name. Say who the service "
            "runs as with --user NAME. Nothing was installed."
        ) from None


def _reads(settings: Settings) -> tuple[Path, ...]:
    """The Python and the code that run, wherever an environment leads to, and the files that the settings name."""
    files = (settings.benchmark.constituents_file, settings.tax_profile.tables_file)
    code = Path(__file__).resolve().parents[1]
    return (Path(sys.executable), Path(sys.prefix), Path(sys.base_prefix), code, *filter(None, files))


def _program() -> Path:
    program = Path(sys.executable).absolute().with_name("harvestd")
    if not os.access(program, os.X_OK):
        raise ConfigurationRefused(f"Expected the command harvestd at {program}, where it is installed; found none.")
    return program


def _user(name: str) -> str:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationRefused(
            f"--user: expected a user of this machine, was {name}. `useradd --system {name}` makes one."
        ) from None
    if found.pw_uid == 0:
        raise ConfigurationRefused(
            "harvestd does not run as root, and root owns the configuration. Make a user for it (`useradd --system "
            "harvestd`), give it the configuration and the database's folder, and name it with --user harvestd."
        )
    return name


def _writes(settings: Settings) -> tuple[Path, ...]:
    calendar = settings.wash_sales.calendar_file
    files = (settings.database.path, *([calendar] if calendar else []))
    return tuple(sorted({settings.database.backup_directory.resolve(), *(path.resolve().parent for path in files)}))


def _outermost(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Without those inside another one, and without what systemd makes by itself."""
    outside = (path for path in folders if not path.is_relative_to(STATE))
    return tuple(path for path in outside if not any(path != one and path.is_relative_to(one) for one in folders))


def _credentials(settings: Settings) -> Iterable[tuple[str, Path | None]]:
    """Each secret the settings name, and the file of it in credentials.directory, if it is there."""
    named, folder = settings.credentials, settings.credentials.directory
    heartbeat = settings.notifications.heartbeat_url_name
    for name in (named.alpaca_key_id_name, named.alpaca_secret_key_name, *([heartbeat] if heartbeat else [])):
        place = folder / name if folder is not None else None
        yield name, place if place is not None and place.is_file() else None


def _credential(name: str, place: Path | None) -> str:
    return f"LoadCredentialEncrypted={name}" if place is None else f"LoadCredential={name}:{_as_read(place)}"


def _lines(key: str, values: Iterable[str]) -> str:
    return "".join(f"{key}={value}\n" for value in values)


def _as_read(path: Path) -> str:
    """The path as a unit has it: spaces, quotes, % and $ mean something else there."""
    if not _READS_AS_IT_IS.fullmatch(str(path)):
        raise ConfigurationRefused(
            f"{path}: expected a path of letters, digits and ._@:+=,- for systemd, which reads others as something "
            "else. Move it to a folder of another name. Nothing was installed."
        )
    return str(path)


# ------------------------------------------------------------------ asking systemd, and writing


@dataclass(frozen=True, slots=True)
class Judged:
    """What `systemd-analyze` says of units: its complaints, and the exposure level of each service in its words."""

    complaints: tuple[str, ...]
    exposure: tuple[str, ...]


def judge(folder: Path) -> Judged | None:
    """Verify the units in a folder, and weigh the services' exposure. None where there is no systemd-analyze."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return None
    version = _run(analyze, "--version").stdout.split()
    if len(version) > 1 and version[1].isdigit() and int(version[1]) < OLDEST_SYSTEMD:
        return Judged((f"expected systemd {OLDEST_SYSTEMD} or later on this machine, was {version[1]}",), ())
    complaints, exposure = [], []
    done = _run(analyze, "verify", "--recursive-errors=no", "--man=no", *(str(folder / name) for name in NAMES))
    of_ours = [line for line in done.stderr.splitlines() if "harvestd" in line]  # others have faults of their own
    if done.returncode != 0 or of_ours:
        complaints.append("\n".join(of_ours) or done.stderr.strip())
    for name in SERVICES:
        done = _run(analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MOST}", str(folder / name))
        level = done.stdout.strip().splitlines()[-1].lstrip("→ ") if done.stdout.strip() else done.stderr.strip()
        exposure.append(level)
        if done.returncode != 0:
            complaints.append(f"{name}: expected an exposure of at most {EXPOSURE_MOST / 10}, was: {level}")
    return Judged(tuple(complaints), tuple(exposure))


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(words, capture_output=True, text=True, env=environ, timeout=60, check=False)


def install(made: Installation, folder: Path, *, replace: bool = False) -> tuple[Path, ...]:
    """Write the units, each whole or not at all, mode 0644; one that differed is kept beside it as .old. Folders that
    the service writes to are made where they are missing.

    Returns the units written anew. Raises ConfigurationRefused when those there are of another configuration and
    `replace` does not say that they may go, or such a folder cannot be made; OSError when the units cannot be written.
    """
    if not replace:
        _refuse_those_of_another(made, folder)
    for path in made.writable:
        _make(path, made.user)
    written = []
    for name in NAMES:
        text, place = made.unit(name), folder / name
        if place.exists():
            if place.read_text(encoding="utf-8") == text:
                continue
            shutil.copy2(place, place.with_name(f"{name}.old"))
        making = place.with_name(f".{name}.new")
        making.unlink(missing_ok=True)
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        making.replace(place)
        written.append(place)
    return tuple(written)


def _make(path: Path, user: str) -> None:
    """A folder that the service writes to and that is not there becomes its user's own: systemd makes none."""
    if path.exists():
        return
    try:
        path.mkdir(parents=True, mode=0o700)
        owner = pwd.getpwnam(user)
        give(path, owner.pw_uid, owner.pw_gid)
    except OSError as error:
        raise ConfigurationRefused(
            f"{path}: expected a folder that {user} can write to, it is missing and cannot be made: {error.strerror}. "
            "Make it, or name another one in the configuration. Nothing was installed."
        ) from error


def _refuse_those_of_another(made: Installation, folder: Path) -> None:
    for place in (folder / name for name in SERVICES):
        found = _RUNS_ON.search(place.read_text(encoding="utf-8")) if place.exists() else None
        if found and Path(found[1]).resolve() != made.config.resolve():
            raise ConfigurationRefused(
                f"{place} runs another household, that of {found[1]}, which would no longer be looked after. With "
                "--replace it gives way to this one. Nothing was installed."
            )
