"""Huge pages for the arrays of a CPU: a training then spends no fifth of its time on page faults.

XLA takes the memory of each call anew from malloc. Most Linux systems give huge pages only where they are
asked for, and malloc asks where GLIBC_TUNABLES said so before the process began: so the process begins again.
"""

import os
import pathlib
import platform
import sys

TUNABLE = "glibc.malloc.hugetlb"
PACKAGE = pathlib.Path(__file__).resolve().parents[1]
SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ask_for_them() -> None:
    """Starts a command of this package anew, once, where that makes malloc ask; it keeps its process number.

    Does nothing in another program; where huge pages are given without asking, or never; without glibc; and
    where GLIBC_TUNABLES already says it.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables or not _is_command() or not _are_given_on_request():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _are_given_on_request():
    is_glibc = platform.libc_ver()[0] == "glibc"
    return is_glibc and SETTING.is_file() and "[madvise]" in SETTING.read_text()


def _is_command():
    path = pathlib.Path(sys.argv[0])
    return bool(sys.executable) and (path.stem == "ifanp-jax" or PACKAGE in path.resolve().parents)
