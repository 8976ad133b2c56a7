"""Whose a file is, and what another user may do with it.

A household belongs to the user whose daemon looks after it. A person who types a command about it as root leaves files
that this user can neither open nor replace: the daemon could not take its own lock, the nightly backup not write into
its own folder. So what root makes for a household is given to the owner of its database.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import ConfigurationRefused


def give(made: int | Path, uid: int, gid: int) -> None:
    """Make that user the owner of a file or folder, by descriptor or path (a link is not followed). Of no effect for
    others than root, who can only make what is their own. Raises OSError."""
    if os.geteuid() != 0:
        return
    if isinstance(made, int):
        os.fchown(made, uid, gid)
    else:
        os.lchown(made, uid, gid)


def give_like(made: int | Path, like: Path) -> None:
    """Give a file or folder to the owner of another one; to nobody when that one is not there. Raises OSError."""
    if like.exists():
        owner = like.stat()
        give(made, owner.st_uid, owner.st_gid)


def make_folder(folder: Path, like: Path) -> None:
    """A folder for its owner alone, with those above it that are missing, given to the owner of `like`.

    Raises OSError.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in missing:
        give_like(path, like)


def owner_of(path: Path) -> str:
    """The owner's name, or `user 1234` where this machine has none for them. Raises OSError."""
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@dataclass(frozen=True, slots=True)
class Reader:
    """A user, and what owners and modes let them do. Access control lists are not looked at."""

    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, name: str) -> Reader:
        """By name. Raises ConfigurationRefused when there is no such user."""
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise ConfigurationRefused(f"expected a user of this machine, was {name}") from None
        return cls(found.pw_uid, frozenset(os.getgrouplist(name, found.pw_gid)))

    @classmethod
    def owning(cls, path: Path) -> Reader:
        """The owner of a file; of its group alone where this machine has no name for them. Raises OSError."""
        found = path.stat()
        try:
            return cls.of(pwd.getpwuid(found.st_uid).pw_name)
        except KeyError:
            return cls(found.st_uid, frozenset([found.st_gid]))

    def barrier(self, path: Path) -> Path | None:
        """The first folder on the way that they cannot pass, or the path itself when they cannot read it."""
        for folder in reversed(path.parents):
            if not self._may(folder, 0o1):
                return folder
        needed = 0o5 if path.is_dir() else 0o4
        return None if self._may(path, needed) else path

    def may_write_in(self, folder: Path) -> bool:
        """True when they can make files in it."""
        return self._may(folder, 0o7)

    def _may(self, path: Path, needed: int) -> bool:
        """`needed` as the three bits of a mode; what is not there, or cannot be looked at, keeps nobody out."""
        try:
            found = path.stat()
        except OSError:
            return True
        if self.uid == 0:
            return True
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return stat.S_IMODE(found.st_mode) >> shift & needed == needed
