"""Secrets: where they are looked for, and the care taken with them.

| order | place                               | taken when                                                    |
|-------|-------------------------------------|---------------------------------------------------------------|
| 1     | $CREDENTIALS_DIRECTORY/<name>       | systemd put it there (LoadCredential=); systemd guards it      |
| 2     | credentials.directory/<name>        | a regular file of ours with mode 0400 or 0600; else refused    |
| 3     | the keyring                         | it holds <name>; a machine without a keyring is no error       |
| 4     | $HARVESTD_SECRET_<NAME>             | last: other processes of the user can read the environment     |

Every secret read is registered with the redactor before anybody sees it. No message here contains one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from daemon.errors import ConfigurationRefused
from daemon.settings.environment import SECRET_PREFIX
from daemon.settings.models import Credentials
from daemon.settings.redaction import REDACTOR

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_LARGEST_SECRET_BYTES = 65_536
_OURS_ALONE = (0o400, 0o600)


class SecretUnavailable(ConfigurationRefused):
    """A secret is missing or not safely kept; the process ends with exit code 78 until a person supplies it."""


def read_secret(name: str, environ: Mapping[str, str], credentials: Credentials | None = None) -> SecretStr:
    """The secret of that name, registered for redaction. Raises SecretUnavailable, which never carries the value."""
    _, secret = _find(name, environ, credentials or Credentials())
    return SecretStr(secret)


def secret_source(name: str, environ: Mapping[str, str], credentials: Credentials | None = None) -> str:
    """Where `read_secret` finds it, in words, for `harvestd doctor`. Raises SecretUnavailable."""
    place, _ = _find(name, environ, credentials or Credentials())
    return place


def _find(name: str, environ: Mapping[str, str], credentials: Credentials) -> tuple[str, str]:
    if not _NAME.fullmatch(name):
        raise SecretUnavailable("A secret is named with small letters, digits and _, a letter first.")
    looked = []
    systemd = environ.get("CREDENTIALS_DIRECTORY")
    if systemd:
        place = Path(systemd) / name
        looked.append(str(place))
        if place.exists():
            return str(place), _accept(_read_file(place, guarded=True), str(place))
    if credentials.directory is not None:
        place = credentials.directory / name
        looked.append(str(place))
        if os.path.lexists(place):
            return str(place), _accept(_read_file(place, guarded=False), str(place))
    keyring_place = f"the keyring, service {credentials.keyring_service}"
    looked.append(keyring_place)
    kept = _from_keyring(credentials.keyring_service, name)
    if kept is not None:
        return keyring_place, _accept(kept, keyring_place)
    variable = SECRET_PREFIX + name.upper()
    looked.append(f"the environment variable {variable}")
    if variable in environ:
        return looked[-1], _accept(environ[variable], looked[-1])
    raise SecretUnavailable(f"No secret named {name}. Looked in: {'; '.join(looked)}. Put it into one of them.")


def _read_file(place: Path, *, guarded: bool) -> str:
    """The text of a secret's file. `guarded`: systemd answers for its owner and mode."""
    links = 0 if guarded else os.O_NOFOLLOW
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | links)
    except OSError as error:
        raise SecretUnavailable(f"{place} cannot be read: {error.strerror}. It must be a file, not a link.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SecretUnavailable(f"{place} is not a regular file.")
        if not guarded:
            _refuse_unless_ours_alone(place, status)
        raw = os.read(descriptor, _LARGEST_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > _LARGEST_SECRET_BYTES:
        raise SecretUnavailable(f"{place} is larger than {_LARGEST_SECRET_BYTES} bytes; it holds something else.")
    text = raw.decode("utf-8", errors="replace")
    if "\ufffd" in text:
        raise SecretUnavailable(f"{place} is not text in UTF-8; write the secret and nothing else.")
    return text


def _refuse_unless_ours_alone(place: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        raise SecretUnavailable(f"{place} belongs to user {status.st_uid}; it must belong to user {os.geteuid()}.")
    if mode not in _OURS_ALONE:
        raise SecretUnavailable(f"{place} has mode {mode:04o}; others may read it. Run `chmod 0400 {place}`.")


def _from_keyring(service: str, name: str) -> str | None:
    """The keyring's entry, or None. Servers have no keyring, and a locked or broken one holds nothing for us."""
    try:
        import keyring

        return keyring.get_password(service, name)
    except Exception:
        return None


def _accept(text: str, place: str) -> str:
    """The secret without its line end, registered; refused when it is empty or has several lines."""
    secret = text.rstrip("\r\n")
    if not secret.strip():
        raise SecretUnavailable(f"The secret in {place} is empty.")
    REDACTOR.register(secret)
    if secret != secret.strip() or any(not letter.isprintable() for letter in secret):
        raise SecretUnavailable(f"The secret in {place} has spaces around it, several lines or unprintable characters.")
    return secret
