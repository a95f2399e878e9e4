"""Checkpoints: what is saved, kept, and found again after files were damaged."""

import errno
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ifanp_jax.errors import PassingError, UserError
from ifanp_jax.training import checkpoint, checksums
from ifanp_jax.training.steps.elbo import TrainState
from tests.training import short_run

DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def make_state(step, *, shape=(4, 3), dtype=jnp.float32, has_ema=True):
    """A state of every kind of array, another one at each step."""
    values = np.random.default_rng(step).normal(size=shape)
    params = {"decoder": {"kernel": jnp.asarray(values, dtype)}, "bias": jnp.ones(3)}
    ema_params = jax.tree.map(lambda x: x / 3, params) if has_ema else None
    return TrainState(jnp.int32(step), params, optax.adam(1e-3).init(params), ema_params)


def open_checkpoints(workdir, *, num_kept=3, is_writer=True, **options):
    return checkpoint.Checkpoints(workdir, num_kept=num_kept, is_writer=is_writer, **options)


def save(workdir, *steps, **options):
    with open_checkpoints(workdir, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"note": f"of step {step}"})


def restore(workdir, *, is_writer=True, **options):
    abstract_state = jax.eval_shape(lambda: make_state(0, **options))
    with open_checkpoints(workdir, is_writer=is_writer) as checkpoints:
        return checkpoints.restore(abstract_state, DEVICE)


def assert_restores(workdir, step, **options):
    state, record = restore(workdir, **options)
    chex.assert_trees_all_equal(state, make_state(step))
    assert record["step"] == step and record["note"] == f"of step {step}"


def list_names(workdir):
    return {path.name for path in (workdir / "checkpoints").iterdir()}


def list_files(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def write_checksums(step_folder):
    """As `sha256sum` would, after a file was changed on purpose."""
    files = {name: path for name, path in list_files(step_folder).items() if name != "SHA256SUMS"}
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in files.items()]
    (step_folder / "SHA256SUMS").write_text("".join(lines))


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("three")
    save(workdir, 1, 2, 3)
    return workdir


@pytest.fixture
def workdir(three_steps, tmp_path):
    """A copy to damage."""
    return shutil.copytree(three_steps, tmp_path / "run")


# What is saved


def test_the_newest_step_comes_back_bit_for_bit(three_steps):
    assert_restores(three_steps, 3, is_writer=False)


def test_nothing_saved_is_none(tmp_path):
    assert not checkpoint.exists(tmp_path)
    assert restore(tmp_path) is None
    assert not checkpoint.exists(tmp_path)
    save(tmp_path, 1)
    assert checkpoint.exists(tmp_path)


def test_a_save_is_not_changed_by_what_becomes_of_donated_arrays(tmp_path):
    shape = (1024, 1024)
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)

    def address(state):
        return state.params["decoder"]["kernel"].unsafe_buffer_pointer()

    state = overwrite(make_state(7, shape=shape))
    before = address(state)
    state = overwrite(state)
    assert address(state) == before  # so donated arrays are overwritten indeed
    expected = jax.tree.map(jnp.copy, state)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, {})
        for _ in range(100):
            state = overwrite(state)
        jax.block_until_ready(state)
    restored, _ = restore(tmp_path, shape=shape)
    chex.assert_trees_all_equal(restored, expected)


def test_the_newest_steps_and_every_nth_are_kept(tmp_path):
    save(tmp_path, *range(1, 9), num_kept=2, keep_every=3)
    assert list_names(tmp_path) == {"step_3", "step_6", "step_7", "step_8"}


def test_a_writer_removes_what_an_interrupted_save_left_and_a_reader_does_not(workdir):
    steps = {"step_1", "step_2", "step_3"}
    for name in ("unfinished_4", "unfinished_removal_0"):
        (workdir / "checkpoints" / name / "state").mkdir(parents=True)
        (workdir / "checkpoints" / name / "state/data").write_text("half")
    assert_restores(workdir, 3, is_writer=False)
    assert list_names(workdir) == steps | {"unfinished_4", "unfinished_removal_0"}
    assert_restores(workdir, 3)
    assert list_names(workdir) == steps


def test_only_the_owner_may_read(three_steps):
    folder = three_steps / "checkpoints"
    assert {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in list_files(folder).values()} == {0o600}


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_sha256sum_reads_the_checksums(workdir):
    folder = workdir / "checkpoints/step_3"
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(command, cwd=folder, check=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == len(list_files(folder)) - 1
    flip(-1, folder / "checkpoint.json")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1


# Damage


def flip(position, path):
    """Flips a bit of one byte; `position` as a share of the file, or -1 for the last."""
    content = bytearray(path.read_bytes())
    if content:
        content[-1 if position == -1 else int(position * len(content))] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "the last byte is gone": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "middle byte flipped": lambda path: flip(0.5, path),
    "last byte flipped": lambda path: flip(-1, path),
}


@pytest.mark.parametrize(
    ("damage", "is_writer"), [*((damage, True) for damage in DAMAGES), ("last byte flipped", False)]
)
def test_damage_to_any_file_is_found_and_the_step_before_is_taken(
    three_steps, tmp_path, caplog, damage, is_writer
):
    names = list_files(three_steps / "checkpoints/step_3")
    kinds = {"checkpoint.json", "SHA256SUMS", "state/state/_METADATA", "state/state/manifest.ocdbt"}
    assert kinds < set(names)
    for number, name in enumerate(names):
        if damage != "deleted" and not names[name].read_bytes():
            continue  # Orbax leaves a mark without content, which nothing else can happen to
        workdir = shutil.copytree(three_steps, tmp_path / str(number))
        DAMAGES[damage](workdir / "checkpoints/step_3" / name)
        damaged = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        caplog.clear()
        assert_restores(workdir, 2, is_writer=is_writer)
        (message,) = (record.getMessage() for record in caplog.records)
        assert message.startswith("Step 3 is damaged: ") and pathlib.PurePath(name).name in message
        assert "\n" not in message
        if is_writer:
            assert "damaged_3" in message
            assert list_names(workdir) == {"step_1", "step_2", "damaged_3"}
            assert set(list_files(workdir / "checkpoints/damaged_3")) >= set(names) - {name}
        else:
            assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == damaged


def test_a_file_too_many_is_damage(workdir, caplog):
    for step, name in ((3, "state/state/d/more"), (2, "note.txt")):
        (workdir / f"checkpoints/step_{step}" / name).write_text("")
        assert_restores(workdir, step - 1)
        assert name in caplog.text and "is not in" in caplog.text


def test_a_step_without_anything_in_it_is_damage(workdir, caplog):
    for step, reason in ((3, "SHA256SUMS is missing"), (2, "is cut off")):
        shutil.rmtree(workdir / f"checkpoints/step_{step}")
        (workdir / f"checkpoints/step_{step}").mkdir()
        if step == 2:
            (workdir / "checkpoints/step_2/SHA256SUMS").touch()
        assert_restores(workdir, step - 1)
        assert reason in caplog.text


def test_several_damaged_steps_are_set_aside_each(workdir, caplog):
    (workdir / "checkpoints/damaged_2").mkdir()  # of an earlier time
    for step in (2, 3):
        flip(0.5, workdir / f"checkpoints/step_{step}/checkpoint.json")
    assert_restores(workdir, 1)
    assert len(caplog.records) == 2
    assert list_names(workdir) == {"step_1", "damaged_2", "damaged_2_2", "damaged_3"}
    save(workdir, 2)  # the run does them again
    assert_restores(workdir, 2)


def test_damaged_steps_only_are_an_error_that_names_each_and_moves_nothing(workdir):
    (workdir / "checkpoints/step_1/checkpoint.json").unlink()
    (workdir / "checkpoints/step_2/SHA256SUMS").write_bytes(b"")
    flip(0, workdir / "checkpoints/step_3/state/state/manifest.ocdbt")
    for is_writer in (True, False):
        with pytest.raises(UserError) as caught:
            restore(workdir, is_writer=is_writer)
        for step, name in ((1, "checkpoint.json"), (2, "SHA256SUMS"), (3, "manifest.ocdbt")):
            assert all(part in str(caught.value) for part in (f"step {step}: ", f"step_{step}/", name))
        assert list_names(workdir) == {"step_1", "step_2", "step_3"}
    # Those that were set aside are never a fresh start.
    for step in (1, 2, 3):
        (workdir / f"checkpoints/step_{step}").rename(workdir / f"checkpoints/damaged_{step}")
    for is_writer in (True, False):
        with pytest.raises(UserError, match="holds damaged checkpoints only"):
            restore(workdir, is_writer=is_writer)


def test_a_file_that_the_disk_cannot_read_is_damage_and_a_network_that_fails_is_none(
    three_steps, monkeypatch
):
    folder = three_steps / "checkpoints/step_3"
    assert checksums.find_damage(folder) is None
    for code in (errno.EIO, errno.EUCLEAN, errno.ESTALE):

        def fail(path, code=code):
            raise OSError(code, os.strerror(code))  # as `read` does, without a name

        monkeypatch.setattr(checksums, "hash_file", fail)
        if code == errno.ESTALE:
            with pytest.raises(OSError, match="Stale file handle"):
                checksums.find_damage(folder)
        else:
            assert checksums.find_damage(folder) == f"{folder} cannot be read ({os.strerror(code)})"


def test_a_file_in_the_place_of_a_step_is_damage(workdir, caplog):
    shutil.rmtree(workdir / "checkpoints/step_3")
    (workdir / "checkpoints/step_3").write_text("not a folder")
    assert_restores(workdir, 2)
    assert list_names(workdir) == {"step_1", "step_2", "damaged_3"}
    assert "step_3" in caplog.text


# Saves that fail, and two trainings in one folder


def fail_to_save(monkeypatch, *steps, code):
    """Has the saves of these steps fail in the background."""
    write = checksums.write

    def fail(folder):
        if folder.name in {f"unfinished_{step}" for step in steps}:
            raise OSError(code, os.strerror(code))
        return write(folder)

    monkeypatch.setattr(checksums, "write", fail)


def test_a_save_that_fails_is_told_and_made_good_by_the_next(tmp_path, caplog, monkeypatch):
    fail_to_save(monkeypatch, 2, 4, code=errno.ENOSPC)
    with open_checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3, 4, 5):
            checkpoints.save(step, make_state(step), {"note": f"of step {step}"})
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(" cannot")[0] for message in messages] == [
        "The checkpoint of step 2",
        "The checkpoint of step 4",
    ]
    assert "(No space left on device); the last one on disk is step 1: make room" in messages[0]
    assert list_names(tmp_path) == {"step_1", "step_3", "step_5"}
    assert_restores(tmp_path, 5)


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, UserError), (errno.ESTALE, PassingError)])
def test_two_saves_that_fail_or_the_last_are_an_error(tmp_path, monkeypatch, code, kind):
    fail_to_save(monkeypatch, 2, 3, code=code)
    with open_checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(1), {})
        checkpoints.save(2, make_state(2), {})
        with pytest.raises(UserError, match="checkpoint of step 2 cannot be written") as caught:
            checkpoints.wait()
        assert type(caught.value) is kind
        checkpoints.save(2, make_state(2), {})
        checkpoints.save(3, make_state(3), {})
        with pytest.raises(UserError, match="checkpoint of step 3 cannot be written"):
            checkpoints.save(4, make_state(4), {})
    assert list_names(tmp_path) == {"step_1"}


def test_a_training_saves_again_as_soon_as_a_save_has_failed(tmp_path, caplog, monkeypatch):
    def wait_for_saves(train_steps):  # a save takes as long as many of these steps
        def waiting(*arguments):
            while any(tmp_path.glob("checkpoints/unfinished_*")):
                time.sleep(0.01)
            return train_steps(*arguments)

        return waiting

    fail_to_save(monkeypatch, 4, code=errno.EDQUOT)
    overrides = {"train.num_steps": 12, "train.checkpoint_every": 4, "train.log_every": 4}
    short_run.train(tmp_path, wrap_steps=wait_for_saves, **overrides)
    assert "The checkpoint of step 4 cannot be written" in caplog.text
    names = list_names(tmp_path)
    assert {"step_8", "step_12"} < names and "step_4" not in names
    assert names & {"step_5", "step_6", "step_7"}


def test_two_trainings_never_write_to_one_folder(workdir):
    with open_checkpoints(workdir) as first:
        with pytest.raises(PassingError, match=f"Another training writes to {workdir}; wait until it ends"):
            open_checkpoints(workdir)
        assert_restores(workdir, 3, is_writer=False)
        first.save(4, make_state(4), {"note": "of step 4"})
    assert_restores(workdir, 4)


def test_steps_that_are_kept_are_saved_between_the_other_checkpoints(tmp_path):
    names = {"num_steps": 11, "checkpoint_every": 3, "keep_every": 5, "num_checkpoints": 1}
    short_run.train(tmp_path, **{f"train.{name}": value for name, value in names.items()})
    assert list_names(tmp_path) == {"step_5", "step_10", "step_11"}


# Another model, another version


def test_other_arrays_than_the_models_are_refused_old_to_new(workdir):
    for options, difference in (
        ({"dtype": jnp.bfloat16}, r"params/decoder/kernel: float32\[4,3\] -> bfloat16\[4,3\]"),
        ({"shape": (4, 5)}, r"params/decoder/kernel: float32\[4,3\] -> float32\[4,5\]"),
        ({"has_ema": False}, r"ema_params/bias: float32\[3\] -> absent"),
    ):
        with pytest.raises(UserError, match=difference):
            restore(workdir, **options)
    assert list_names(workdir) == {"step_1", "step_2", "step_3"}  # that is no damage


def test_another_format_is_one_sentence(workdir):
    folder = workdir / "checkpoints/step_3"
    record = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(record | {"format": checkpoint.FORMAT + 1}))
    write_checksums(folder)
    with pytest.raises(
        UserError, match=r"step_3 has format 2, .* reads 1: take the version of the package that wrote it\.$"
    ):
        restore(workdir)
    assert list_names(workdir) == {"step_1", "step_2", "step_3"}
