import os
import sys

import pytest

from ifanp_jax.runtime import huge_pages
from tests import helpers

COMMAND = str(huge_pages.PACKAGE / "main.py")
SHOW = """
import os, sys
from ifanp_jax.runtime import huge_pages
sys.argv[0] = os.environ["COMMAND"]
huge_pages.ask_for_them()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


@pytest.fixture
def restarts(monkeypatch, tmp_path):
    """Commands in place of the restart, on a system that gives huge pages on request."""
    asked = []
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
    monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(os, "execv", lambda program, arguments: asked.append(arguments))
    monkeypatch.setattr(sys, "argv", [COMMAND, "--mode=train"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "ifanp_jax.main", "--mode=train"])
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    return asked


def test_a_command_begins_again_with_its_arguments_and_once(restarts):
    huge_pages.ask_for_them()
    assert restarts == [[sys.executable, "-m", "ifanp_jax.main", "--mode=train"]]
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    huge_pages.ask_for_them()
    assert len(restarts) == 1


def test_other_tunables_are_kept(restarts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    huge_pages.ask_for_them()
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


def test_nothing_happens_where_it_would_change_nothing(restarts):
    for setting in ("[always] madvise never", "always madvise [never]"):
        huge_pages.SETTING.write_text(setting)
        huge_pages.ask_for_them()
    huge_pages.SETTING.unlink()
    huge_pages.ask_for_them()
    assert not restarts


def test_what_the_user_says_counts_and_another_program_never_begins_again(restarts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    huge_pages.ask_for_them()
    monkeypatch.delenv("GLIBC_TUNABLES")
    for program in ("/usr/lib/pytest/__main__.py", "own_script.py", "-c", ""):
        monkeypatch.setattr(sys, "argv", [program])
        huge_pages.ask_for_them()
    assert not restarts


def test_a_real_process_goes_on_as_itself():
    environ = {"COMMAND": COMMAND, "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    result = helpers.run_python("-c", SHOW, "--a=b c", **environ)
    assert result.returncode == 0, result.stderr
    expected = "glibc.malloc.arena_max=2"
    if huge_pages.SETTING.is_file() and "[madvise]" in huge_pages.SETTING.read_text():
        expected += ":glibc.malloc.hugetlb=1"
    assert result.stdout == f"{expected} ['--a=b c']\n"
