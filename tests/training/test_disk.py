"""A full disk, and folders that cannot be written: one sentence, and the last checkpoint stays whole."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import chex
import pytest

from ifanp_jax.training import runs
from tests import helpers
from tests.training.short_run import fail, list_steps, snapshot, train


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, mounted for a process of its own and seen through it; it ends with it."""
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    place = tmp_path / "disk"
    place.mkdir()
    script = f"mount -t tmpfs -o size=1m none '{place}' && echo mounted && exec sleep 600"
    holder = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if holder.stdout.readline() != "mounted\n":
            pytest.skip("this machine does not let a test mount a file system")
        yield pathlib.Path(f"/proc/{holder.pid}/root{place}")
    finally:
        holder.kill()
        holder.communicate()


LATER = {"train.num_steps": 100}


def assert_intact(workdir, finished):
    assert list_steps(workdir) == {4, 6, 8}
    chex.assert_trees_all_equal(runs.load(workdir).state, finished[1].state)


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_with_room(small_disk, finished):
    workdir, filler = small_disk / "run", small_disk / "filler"
    shutil.copytree(finished[0], workdir)
    checkpoint = sum(path.stat().st_size for path in (workdir / "checkpoints/step_8").rglob("*"))
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - checkpoint // 2))
    message = fail(workdir, "--allow_config_change=train.num_steps", **LATER)
    assert re.search(rf"The checkpoint of step 1\d cannot be written to {workdir}", message)
    assert "(No space left on device); the last one on disk is step 8: make room" in message
    assert_intact(workdir, finished)
    filler.unlink()
    run = train(workdir, allowed_changes=["train.num_steps"], **{"train.num_steps": 10})
    assert run.num_steps_done == 10 and list_steps(workdir) == {6, 8, 10}


@pytest.mark.parametrize(
    ("what", "overrides"),
    [
        (r"The checkpoint of step 1\d cannot be written", {}),
        ("", {"train.checkpoint_every": 100}),
    ],
    ids=["checkpoint", "metrics"],
)
def test_files_that_may_not_grow_end_the_run_in_one_sentence(workdir, finished, what, overrides):
    limit = 8 * 1024  # bytes of one file
    prefix = (sys.executable, "-c", LIMITED, str(limit))
    options = {"prefix": prefix, "environ": NO_CACHE} | LATER | overrides
    message = fail(workdir, "--allow_config_change=train.num_steps", **options)
    assert re.search(what, message) and str(workdir) in message and "File too large" in message
    assert_intact(workdir, finished)


def test_tables_that_cannot_be_written_are_one_sentence_and_leave_the_old_ones(workdir):
    config, _ = runs.read(workdir)
    (workdir / "evaluation.npz").write_text("old")
    (workdir / "evaluation.json").write_text("old")
    before = snapshot(workdir)
    prefix = (sys.executable, "-c", LIMITED, "1024")
    fields = {"train.num_steps": config.train.num_steps}
    message = fail(workdir, "--mode=evaluate", prefix=prefix, environ=NO_CACHE, **fields)
    assert str(workdir / "evaluation.npz") in message and "File too large" in message
    assert snapshot(workdir) == before


NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # JAX would warn that it cannot write there either
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


LATE = """
import asyncio, sys, threading, tensorstore
from ifanp_jax import command_line

def command():
    promise, future = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()
    async def wait():
        await future
    task = loop.create_task(wait())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    promise.set_result(None)
    class Other:
        def __del__(self):
            raise ValueError("of another kind")
    Other()

command_line.run(command)
"""


def test_writes_that_end_after_a_failed_save_are_not_told():
    result = subprocess.run(
        [sys.executable, "-c", LATE],
        cwd=helpers.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "of another kind" in result.stderr and "Event loop is closed" not in result.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(workdir, finished):
    prefix = ()
    if os.geteuid() == 0:  # whom permissions do not bind
        prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
        if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("root cannot give up its rights here")
    folders = [workdir, *(path for path in workdir.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    before = snapshot(workdir)
    try:
        message = fail(workdir, "--allow_config_change=train.num_steps", prefix=prefix, **LATER)
        assert message.startswith(f"error: {workdir}/run.json cannot be written (Permission denied); make")
        message = fail(workdir / "new", prefix=prefix)
        assert message.startswith(f"error: {workdir}/new cannot be made (Permission denied); choose")
        assert snapshot(workdir) == before
        chex.assert_trees_all_equal(runs.load(workdir).state, finished[1].state)  # reading writes nothing
    finally:
        for path in folders:
            path.chmod(0o700)
