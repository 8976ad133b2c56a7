"""Runs a command under the unit's system-call filter: `python under_filter.py WORDS`, as root or anybody.

The filter is read from the unit itself (`SystemCallFilter=`, `SystemCallErrorNumber=`, `RestrictAddressFamilies=`), the
groups in it from `systemd-analyze syscall-filter`, and libseccomp loads it after NoNewPrivileges; it then holds for the
command, its threads and its children. What cannot be had here ends with code 77 and a sentence.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "harvestd.service"
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
EQUAL = 4  # SCMP_CMP_EQ
PR_SET_NO_NEW_PRIVS = 38
CANNOT = 77


class _Comparison(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def cannot(why: str) -> None:
    """End, with the reason."""
    print(why)
    sys.exit(CANNOT)


def groups(analyze: str) -> dict[str, set[str]]:
    """What each @group holds: calls and other groups."""
    listed = subprocess.run(
        [analyze, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, set[str]] = {}
    name = ""
    for line in re.sub(r"\x1b\[[0-9;]*m", "", listed).splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = word
            found[name] = set()
        elif word and not word.startswith("#") and name:
            found[name].add(word)
    return found


def calls(words: set[str], known: dict[str, set[str]]) -> set[str]:
    """The calls that names of calls and groups stand for."""
    return {one for word in words for one in (calls(known[word], known) if word.startswith("@") else {word})}


def allowed(known: dict[str, set[str]]) -> set[str]:
    """The calls that the unit lets pass."""
    left: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(encoding="utf-8"), re.M):
        words = calls(set(line.removeprefix("~").split()), known)
        left = left - words if line.startswith("~") else left | words
    return left


def load(names: set[str], library: ctypes.CDLL) -> None:
    """Let these calls pass from now on; sockets of the unit's families alone; all else fails as the unit says."""
    unit = UNIT.read_text(encoding="utf-8")
    [number] = re.findall(r"^SystemCallErrorNumber=(\w+)$", unit, re.M)
    [families] = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.M)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison)
    ]  # fmt: skip
    filter_ = library.seccomp_init(FAIL_WITH | getattr(errno, number))
    for name in sorted(names):
        place = library.seccomp_syscall_resolve_name(name.encode())
        comparisons = [(_Comparison * 0)()]
        if name == "socket":
            comparisons = [(_Comparison * 1)((0, EQUAL, getattr(socket, one), 0)) for one in families.split()]
        for one in comparisons:
            library.seccomp_rule_add_array(filter_, ALLOW, place, len(one), one)
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        cannot("this kernel takes no PR_SET_NO_NEW_PRIVS")
    if library.seccomp_load(ctypes.c_void_p(filter_)) != 0:
        cannot("this kernel takes no system-call filter")


def main() -> None:
    """Load, and become the command."""
    analyze, library = shutil.which("systemd-analyze"), ctypes.util.find_library("seccomp")
    if analyze is None or library is None:
        cannot("systemd-analyze and libseccomp are not both on this machine")
        return
    names = allowed(groups(analyze))
    os.umask(0o077)
    load(names | {"execve"}, ctypes.CDLL(library))
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
