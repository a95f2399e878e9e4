"""What a training refuses, and how it ends when it cannot go on: one sentence, and nothing saved is lost.

Damaged checkpoints are in `test_checkpoint.py`; signals, kills and lost processes in `test_reliability.py`.
"""

import ast
import dataclasses
import io
import os
import pathlib
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import ifanp_jax
from configs import default, digits_ifanp
from ifanp_jax.completion import model as completion_model
from ifanp_jax.data import masks, pictures, sources
from ifanp_jax.errors import UserError
from ifanp_jax.training import loop, metrics_file, runs

ROOT = pathlib.Path(__file__).parents[1]
FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FIELDS = {  # compiled in no time
    "model.name": "image_np.IFNP",
    "model.width": 4,
    "model.latent_dim": 2,
    "model.encoder_depth": 0,
    "model.decoder_depth": 0,
    "mask.kind": "top",
    "train.num_steps": 8,
    "train.batch_size": 8,
    "train.log_every": 1,
    "train.validate_every": 0,
    "train.checkpoint_every": 2,
    "evaluate.num_images": 8,
}
LINES = re.compile(r"(\d\d:\d\d:\d\d .*\n)*error: .*\n")  # of the log, then one sentence


def small_config(**overrides):
    config = digits_ifanp.get_config()
    config.update_from_flattened_dict(FIELDS | overrides)
    return config


def run(workdir, *arguments, prefix=(), environ=None, **overrides):
    """Runs the command line with `small_config`, to an error of one sentence, which it returns."""
    fields = [f"--config.{name}={value}" for name, value in (FIELDS | overrides).items()]
    command = [sys.executable, "-m", "ifanp_jax.main", "--config=configs/digits_ifanp.py", *fields]
    environ = {"JAX_PLATFORMS": "cpu"} | (environ or {})
    result = subprocess.run(
        [*prefix, *command, f"--workdir={workdir}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | environ,
    )
    assert result.returncode == 1, result.stderr
    assert LINES.fullmatch(result.stderr), result.stderr
    return result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def digits():
    return sources.get(digits_ifanp.get_config().data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits):
    """A run of 8 steps, with checkpoints of 4, 6 and 8."""
    workdir = tmp_path_factory.mktemp("guards") / "run"
    return workdir, loop.run(small_config(), workdir, digits)


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy to work on."""
    return shutil.copytree(finished[0], tmp_path / "run")


def list_steps(workdir):
    return {int(path.name.removeprefix("step_")) for path in (workdir / "checkpoints").glob("step_*")}


def snapshot(folder):
    """Content and time of everything below a folder."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1] + b"?")


# Another run in the working directory, or none that can be read


def test_the_log_tells_a_fresh_start_from_a_resumed_run(tmp_path, digits, caplog):
    with caplog.at_level("INFO", "ifanp_jax"):
        loop.run(small_config(**{"train.num_steps": 2}), tmp_path, digits)
        assert f"Fresh start in {tmp_path}." in caplog.text and "Resumed" not in caplog.text
        caplog.clear()
        config = small_config(**{"train.num_steps": 3})
        loop.run(config, tmp_path, digits, allowed_changes=["train.num_steps"])
        assert f"Resumed {tmp_path} at step 2." in caplog.text and "Fresh" not in caplog.text
        assert "Goes on with another loop.num_steps: 2 -> 3" in caplog.text


def test_a_run_goes_on_from_the_step_before_a_damaged_one_bit_for_bit(finished, workdir, digits, caplog):
    spoil(workdir / "checkpoints/step_8/checkpoint.json")
    with caplog.at_level("INFO", "ifanp_jax"):
        state = loop.run(small_config(), workdir, digits)
    assert "Step 8 is damaged" in caplog.text and f"Resumed {workdir} at step 6." in caplog.text
    chex.assert_trees_all_equal(state, finished[1])
    steps = [row["step"] for row in metrics_file.read_metrics(workdir)]
    assert steps == list(range(1, 9))


def test_checkpoints_that_cannot_be_read_are_never_a_fresh_start(workdir):
    for step in (4, 6, 8):
        spoil(workdir / f"checkpoints/step_{step}/checkpoint.json")
    before = snapshot(workdir)
    message = run(workdir)
    for step in (4, 6, 8):
        assert f"step_{step}/checkpoint.json does not match its checksum" in message
    assert snapshot(workdir) == before


def test_another_configuration_is_refused_with_its_fields_and_writes_nothing(workdir):
    before = snapshot(workdir)
    changes = {"seed": 1, "train.learning_rate": 0.001}
    message = run(workdir, **changes)
    assert "seed: 0 -> 1; loop.learning_rate: 0.006 -> 0.001" in message
    assert "--allow_config_change=seed,loop.learning_rate." in message
    message = run(workdir, "--allow_config_change=loop.learning_rate", **changes)
    assert "(seed: 0 -> 1)" in message
    assert snapshot(workdir) == before


def test_allowed_fields_may_differ_and_no_others(workdir, digits):
    config = small_config(**{"train.num_steps": 9, "train.learning_rate": 0.001})
    for allowed in ([], ["train.num_steps"], ["train.num_steps", "train.learning"], ["mask", "seed"]):
        with pytest.raises(UserError, match="holds a run of another configuration"):
            loop.run(config, workdir, digits, allowed_changes=allowed)
    runs.check_same_run(workdir, config, (8, 8, 1), allowed_changes=["train"])
    allowed = ["train.num_steps", "train.learning_rate"]
    assert int(loop.run(config, workdir, digits, allowed_changes=allowed).step) == 9


@pytest.mark.parametrize(
    ("overrides", "shape", "difference"),
    [
        ({"model.width": 8}, (8, 8, 1), r"model\.width: 4 -> 8"),
        ({"model.name": "image_np.IFANP"}, (8, 8, 1), r"model\.name: image_np.IFNP -> image_np.IFANP"),
        ({"train.ema_decay": 0.0}, (8, 8, 1), "ema: True -> False"),
        ({}, (8, 8, 3), r"image shape: \(8, 8, 1\) -> \(8, 8, 3\)"),
    ],
)
def test_another_model_is_never_allowed(finished, overrides, shape, difference):
    config, allowed = small_config(**overrides), ["model", *overrides, "train", "image shape"]
    with pytest.raises(UserError, match=f"holds a run of another model .*{difference}"):
        runs.check_same_run(finished[0], config, shape, allowed_changes=allowed)


def test_other_training_images_are_refused_wherever_they_lie(workdir, digits):
    others = dataclasses.replace(digits, train=digits.train[::-1])
    before = snapshot(workdir)
    with pytest.raises(UserError, match=r"on other training images \(1497 images -> 1497, or others of them"):
        loop.run(small_config(), workdir, others)
    assert snapshot(workdir) == before
    assert int(loop.run(small_config(), workdir, others, allowed_changes=["data"]).step) == 8


def test_a_run_is_loaded_from_below_the_home_folder(workdir, monkeypatch):
    monkeypatch.setenv("HOME", str(workdir.parent))
    assert ifanp_jax.load("~/run").step == 8


def test_a_run_without_its_configuration_is_refused(workdir):
    (workdir / "run.json").unlink()
    with pytest.raises(UserError, match=r"run whose run\.json is missing; put it back"):
        runs.check_same_run(workdir, small_config(), (8, 8, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 3}', r"run\.json has format 3, but this version reads up to 2: update the package"),
        ('{"format": 2', r"run\.json cannot be read \(.*\); restore it"),
        ("[]", r"run\.json cannot be read \(.*\); restore it"),
    ],
)
def test_a_configuration_of_a_newer_version_or_damaged_is_refused(workdir, text, message):
    (workdir / "run.json").write_text(text)
    with pytest.raises(UserError, match=message):
        runs.check_same_run(workdir, small_config(), (8, 8, 1))


def test_before_the_first_checkpoint_everything_may_change(tmp_path):
    runs.write(tmp_path, small_config(), (8, 8, 1))
    (tmp_path / "checkpoints/unfinished_2").mkdir(parents=True)
    other = small_config(**{"model.width": 8, "seed": 1})
    runs.check_same_run(tmp_path, other, (8, 8, 1))
    (tmp_path / "checkpoints/damaged_2").mkdir()
    with pytest.raises(UserError, match="holds a run of another model"):
        runs.check_same_run(tmp_path, other, (8, 8, 1))


# Numbers that are not finite


def poison(monkeypatch, change):
    """Makes every step end with `change(state, metrics)`."""
    make_elbo_step = loop.make_elbo_step

    def make_poisoned_step(*arguments):
        step = make_elbo_step(*arguments)
        return lambda state, batch: change(*step(state, batch))

    monkeypatch.setattr(train, "make_elbo_step", make_poisoned_step)


def record_launches(monkeypatch):
    """The last step of every dispatch, from now on."""
    launched, with_memory_check = [], loop.with_memory_check

    def make_recorded_steps(*arguments):
        checked_steps = with_memory_check(*arguments)

        def recorded_steps(state, images, num_steps):
            launched.append(int(state.step) + num_steps)
            return checked_steps(state, images, num_steps)

        return recorded_steps

    monkeypatch.setattr(train, "with_memory_check", make_recorded_steps)
    return launched


@pytest.mark.parametrize(
    ("first_bad", "steps_per_dispatch"),
    [
        (5, 1),  # found when step 6 is under way
        (6, 1),  # found before the checkpoint that is due, and before the next dispatch
        (5, 2),  # 5 and 6 are one dispatch, which a checkpoint ends
    ],
)
def test_a_loss_that_is_not_finite_stops_within_a_dispatch(
    workdir, tmp_path, digits, monkeypatch, first_bad, steps_per_dispatch
):
    def fail(state, metrics):
        value = jnp.where(state.step >= first_bad, jnp.nan, 0.0)
        params = jax.tree.map(lambda x: x + value, state.params)
        return state.replace(params=params), metrics | {"loss": metrics["loss"] + value}

    poison(monkeypatch, fail)
    launched = record_launches(monkeypatch)
    config = small_config(**{"train.steps_per_dispatch": steps_per_dispatch})
    with pytest.raises(UserError, match=rf"loss is nan at step {first_bad} \(loss nan, seed 0\)"):
        loop.run(config, tmp_path / "bad", digits)
    assert launched[-1] == 6
    assert list_steps(tmp_path / "bad") == {2, 4}
    for step in (6, 8):
        shutil.rmtree(workdir / f"checkpoints/step_{step}")
    chex.assert_trees_all_equal(runs.load(tmp_path / "bad").state, runs.load(workdir).state)


@pytest.mark.parametrize("part", ["params", "ema_params"])
def test_a_state_that_is_not_finite_is_never_saved(tmp_path, digits, monkeypatch, part):
    def fail(state, metrics):  # the loss of this step was computed before, that of the next comes too late
        value = jnp.where(state.step == 4, jnp.inf, 0.0)
        return state.replace(**{part: jax.tree.map(lambda x: x + value, getattr(state, part))}), metrics

    poison(monkeypatch, fail)
    with pytest.raises(UserError, match=r"not finite after step 4 \(seed 0\), so they are not saved"):
        loop.run(small_config(), tmp_path, digits)
    assert list_steps(tmp_path) == {2}
    state = runs.load(tmp_path).state
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_a_diverging_run_ends_in_one_sentence(tmp_path):
    overrides = {"train.learning_rate": 1e30, "train.max_grad_norm": 0.0, "train.num_steps": 50}
    message = run(tmp_path / "run", **overrides)
    assert re.search(r"The (loss|grad_norm) is (nan|inf) at step \d+ \(loss .*, seed 0\)", message)
    assert "lower config.train.learning_rate" in message


# A full disk, and folders that cannot be written


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
    chex.assert_trees_all_equal(runs.load(workdir).state, finished[1])


def test_a_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_with_room(small_disk, finished, digits):
    workdir, filler = small_disk / "run", small_disk / "filler"
    shutil.copytree(finished[0], workdir)
    checkpoint = sum(path.stat().st_size for path in (workdir / "checkpoints/step_8").rglob("*"))
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - checkpoint // 2))
    message = run(workdir, "--allow_config_change=loop.num_steps", **LATER)
    assert re.search(rf"The checkpoint of step 1\d cannot be written to {workdir}", message)
    assert "(No space left on device); the last one on disk is step 8: make room" in message
    assert_intact(workdir, finished)
    filler.unlink()
    config = small_config(**{"train.num_steps": 10})
    state = loop.run(config, workdir, digits, allowed_changes=["train.num_steps"])
    assert int(state.step) == 10 and list_steps(workdir) == {6, 8, 10}


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
    message = run(workdir, "--allow_config_change=loop.num_steps", **options)
    assert re.search(what, message) and str(workdir) in message and "File too large" in message
    assert_intact(workdir, finished)


def test_tables_that_cannot_be_written_are_one_sentence_and_leave_the_old_ones(workdir):
    config, _ = runs.read(workdir)
    (workdir / "evaluation.npz").write_text("old")
    (workdir / "evaluation.json").write_text("old")
    before = snapshot(workdir)
    prefix = (sys.executable, "-c", LIMITED, "1024")
    fields = {"train.num_steps": config.train.num_steps}
    message = run(workdir, "--mode=evaluate", prefix=prefix, environ=NO_CACHE, **fields)
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
        [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
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
        message = run(workdir, "--allow_config_change=loop.num_steps", prefix=prefix, **LATER)
        assert message.startswith(f"error: {workdir}/run.json cannot be written (Permission denied); make")
        message = run(workdir / "new", prefix=prefix)
        assert message.startswith(f"error: {workdir}/new cannot be made (Permission denied); choose")
        assert snapshot(workdir) == before
        chex.assert_trees_all_equal(runs.load(workdir).state, finished[1])  # reading writes nothing
    finally:
        for path in folders:
            path.chmod(0o700)


# Batches that do not fit


def test_a_batch_that_two_devices_cannot_share_ends_before_the_run(tmp_path):
    environ = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    message = run(tmp_path / "run", environ=environ, **{"train.batch_size": 9})
    assert "config.train.batch_size is 9 but 2 devices share a batch equally; choose 8 or 10." in message
    assert not (tmp_path / "run").exists()


def test_a_batch_beyond_the_memory_ends_before_its_first_step_and_the_suggested_one_fits(
    tmp_path, digits, monkeypatch
):
    monkeypatch.setattr(sharding, "device_bytes", lambda device: 4 * 2**20)
    launched = record_launches(monkeypatch)
    with pytest.raises(UserError, match=r"batch_size=4096 needs about .* GiB .* should fit") as caught:
        loop.run(small_config(**{"train.batch_size": 4096}), tmp_path, digits)
    assert launched == [1] and not list_steps(tmp_path)  # asked for, but ended when it was compiled
    assert not metrics_file.read_metrics(tmp_path)
    fitting = int(re.search(r"config.train.batch_size=(\d+) should fit", str(caught.value)).group(1))
    assert 8 < fitting < 4096
    config = small_config(**{"train.batch_size": fitting, "train.num_steps": 1})
    assert int(loop.run(config, tmp_path, digits).step) == 1


# Input that nobody vouches for


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def npy_header(shape):
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def read_arrays(path):
    config = default.get_config().data
    config.source, config.dir = "arrays", str(path.parent)
    return sources.get(config)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("read", [read_arrays, lambda path: masks.load(str(path))], ids=["images", "mask"])
def test_pickled_objects_are_refused_and_never_run(tmp_path, read, suffix):
    proof = tmp_path / "proof"
    array = np.empty((1, 1), object)
    array[0, 0] = Malicious(proof)
    path = tmp_path / f"train{suffix}"
    np.save(path, array) if suffix == ".npy" else np.savez(path, train=array)
    with pytest.raises(UserError, match=rf"train\{suffix} ") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(pickle.dumps(Malicious(proof)))  # without any wrapping
    with pytest.raises(UserError, match=rf"train\{suffix} "):
        read(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())
    assert proof.exists()  # it would have shown


@pytest.mark.parametrize("read", [read_arrays, lambda path: masks.load(str(path))], ids=["images", "mask"])
def test_an_array_that_promises_more_than_the_memory_is_refused(tmp_path, read):
    content = npy_header((2**50, 8)) + bytes(64)
    for suffix in (".npy", ".npz"):
        path = tmp_path / f"train{suffix}"
        path.write_bytes(content)
        if suffix == ".npz":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("train.npy", content)
        with pytest.raises(UserError, match=rf"train\{suffix} "):
            read(path)
        path.unlink()


@pytest.mark.parametrize("read", [read_arrays, lambda path: masks.load(str(path))], ids=["images", "mask"])
def test_an_array_whose_header_is_damaged_is_refused(tmp_path, read):
    path = tmp_path / "train.npy"
    np.save(path, np.zeros((8, 8), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"}", b"|", 1))  # the flip of a bit or two
    with pytest.raises(UserError, match=r"train\.npy ") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def png_chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def bomb(side):
    """A whole picture of `side` x `side` black pixels in some kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def encode(array, name, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, name, **options)
    return buffer.getvalue()


@pytest.fixture
def odd_pictures(tmp_path):
    """A folder of pictures, good and bad, and what is said of the bad ones."""
    side = 8
    grey = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    cmyk = io.BytesIO()
    Image.fromarray(colour).convert("CMYK").save(cmyk, "JPEG", quality=95)
    jpeg = encode(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    contents = {
        "grey.png": encode(grey, "PNG"),
        "frames.gif": encode(grey, "GIF", save_all=True, append_images=[Image.new("L", (side, side))]),
        "sixteen.png": encode(grey.astype(np.uint16) * 257, "PNG"),
        "cmyk.jpg": cmyk.getvalue(),
        "bomb.png": bomb(9_000),
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "text.png": b"no picture",
        "nothing.png": b"",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
        "float.tif": encode(grey.astype(np.float32), "TIFF"),
        "notes.txt": b"left alone",
    }
    assert len(contents["bomb.png"]) < 20_000 and 9_000**2 > pictures.MAX_PIXELS
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    reasons = {
        "bomb.png": "more than 64,000,000 pixels",
        "cut.jpg": "cut.jpg",
        "text.png": "is not a picture of the formats",
        "nothing.png": "is not a picture of the formats",
        "postscript.png": "is not a picture of the formats",  # Pillow would start another program
        "float.tif": "is a float picture",
    }
    return folder, grey, reasons


def test_odd_training_pictures_are_read_or_left_out_by_name(odd_pictures, tmp_path):
    folder, grey, reasons = odd_pictures
    config = default.get_config().data
    config.update(
        {
            "source": "folder",
            "dir": str(folder),
            "channels": 1,
            "eval_fraction": 0.5,
            "cache_dir": str(tmp_path / "cache"),
        }
    )
    dataset = sources.get(config)
    images = np.concatenate([dataset.train, dataset.evaluation])[..., 0].astype(int)
    assert len(images) == 4
    assert sum((image == grey).all() for image in images) == 3  # grey, GIF and 16 bits, but for the JPEG
    assert all(np.abs(image - grey).mean() < 20 for image in images)
    skipped = dict(line.split(":", 1) for line in dataset.skipped)
    assert set(skipped) == set(reasons)
    assert all(reasons[name] in f"{name}:{reason}" for name, reason in skipped.items())


def test_odd_pictures_are_completed_or_fail_by_name(odd_pictures, tmp_path):
    folder, grey, reasons = odd_pictures
    observed = np.eye(len(grey), dtype=bool)
    np.save(tmp_path / "mask.npy", observed)
    failures = completion_model.complete_files(
        ifanp_jax.load(FIXTURES / "run_format_2"),
        input=folder,
        mask=tmp_path / "mask.npy",
        output=tmp_path / "out",
        num_samples=1,
    )
    failed = {pathlib.Path(path).name: reason for path, reason in failures}
    assert set(failed) == set(reasons)
    assert all(reasons[name] in reason and "\n" not in reason for name, reason in failed.items())
    for stem in ("grey", "frames", "sixteen"):
        mean = np.asarray(Image.open(tmp_path / f"out/{stem}_mean.png"))
        np.testing.assert_array_equal(mean[observed], grey[observed])
    assert (tmp_path / "out/cmyk_mean.png").exists()


def test_a_training_mask_of_another_size_is_told_before_anything_is_written(tmp_path, digits):
    np.save(tmp_path / "mask.npy", np.ones((8, 9), bool))
    config = small_config(**{"mask.kind": "file", "mask.file": str(tmp_path / "mask.npy")})
    with pytest.raises(UserError, match="8x9 pixels but the images are 8x8"):
        loop.run(config, tmp_path / "run", digits)
    assert not (tmp_path / "run").exists()


UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "torch.load", "pandas.read_pickle", "pd.read_pickle"}
NUMPY_LOADS = {"np.load", "numpy.load", "jnp.load", "np.lib.format.read_array"}


@pytest.mark.parametrize("path", sorted((ROOT / "ifanp_jax").rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_that_is_read_can_run_code(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] not in UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in UNSAFE_CALLS
            given = [ast.unparse(word.value) for word in node.keywords if word.arg == "allow_pickle"]
            assert given == ["False"] or (not given and name not in NUMPY_LOADS), f"line {node.lineno}"
