"""Exported models: the files alone, read back, and the program without this package."""

import dataclasses
import functools
import hashlib
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import ifanp_jax
from configs import default
from ifanp_jax.inference import export, predict, store
from ifanp_jax.inference.result import CompletionResult
from ifanp_jax.models.base import Completion, ImageModel
from ifanp_jax.training import loop
from tests import helpers, tiny
from tests.inference.exports import MODELS, NUM_SAMPLES, SHAPE, export_all, make_trained

SEED = 2**32 - 5  # needs all 32 bits
# Runs every program of the folders that follow on the images that lie there; nothing of this project helps.
READER = """
import pathlib, sys
sys.modules["ifanp_jax"] = sys.modules["flax"] = None  # an import of either fails
import jax, jax.export, numpy as np
for folder in map(pathlib.Path, sys.argv[1:]):
    run = jax.jit(jax.export.deserialize((folder / "completion.stablehlo").read_bytes()).call)
    for path in sorted(folder.parent.glob("images_*.npz")):
        given = np.load(path)
        found = run(given["seed"], given["image"], given["mask"])
        np.savez(folder.with_name(f"{folder.name}_{path.name}"), **dict(zip(("samples", "scale"), found)))
"""


def make_batch(size, image_shape=SHAPE):
    generator = np.random.default_rng(size)
    mask = generator.random((size, *image_shape[:2], 1)) < 0.5
    return np.where(mask, generator.random((size, *image_shape), np.float32), np.float32(0)), mask


def answer(model, image, mask, seed):
    """Means and scales as the model predicts them, not clipped."""
    key = jax.random.fold_in(jax.random.key(seed), 0)
    found = predict.complete_batch(key, model.module, model.variables, image, mask, num_samples=NUM_SAMPLES)
    return [x for x in (found.samples, found.scale) if x is not None]


def assert_same_answers(model, other, image, mask):
    found = [one.complete(image, mask, num_samples=NUM_SAMPLES, rounds=1, seed=3) for one in (model, other)]
    for field in dataclasses.fields(CompletionResult):
        np.testing.assert_array_equal(*(getattr(result, field.name) for result in found))
    predicted = [answer(one, image, mask, 3) for one in (model, other)]
    jax.tree.map(np.testing.assert_array_equal, *predicted)
    assert np.ptp(predicted[0][0]) > 0.1  # a difference would show


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with every model exported under its name."""
    return export_all(tmp_path_factory.mktemp("exports"), MODELS)


@pytest.fixture(scope="module")
def programs(exported):
    """What the programs answer in a process without this package: `find(name, batch)`."""
    image, mask = make_batch(2)
    batches = {"zero": image, "nan": np.where(mask, image, np.float32(np.nan))}  # where hidden
    for name, image in batches.items():
        np.savez(exported / f"images_{name}.npz", seed=np.uint32(SEED), image=image, mask=mask)
    folders = [str(exported / name) for name in MODELS]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", READER, *folders]
    subprocess.run(command, check=True, timeout=600, cwd=exported, env=environment)
    return lambda name, batch: np.load(exported / f"{name}_images_{batch}.npz")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_back_is_what_was_written(exported, name):
    run = make_trained(name)
    model = ifanp_jax.load(exported / name)
    assert model.module == run.module and model.step == 7 and model.image_shape == SHAPE
    assert model.config.to_dict() == run.config.to_dict()
    assert jax.tree.structure(model.variables) == jax.tree.structure(run.variables)
    jax.tree.map(np.testing.assert_array_equal, model.variables, run.variables)
    assert_same_answers(model, run, *make_batch(2))


@pytest.mark.parametrize("name", MODELS)
def test_the_program_alone_gives_the_numbers_of_the_model_and_reads_nothing_hidden(programs, name):
    model = make_trained(name)
    expected = answer(model, *make_batch(2), SEED)
    found = programs(name, "zero")
    assert found["samples"].shape == (NUM_SAMPLES, 2, *SHAPE) and len(found) == len(expected)
    for values, part in zip(expected, found, strict=True):
        assert found[part].dtype == np.float32
        np.testing.assert_allclose(found[part], values, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(programs(name, "nan")[part], found[part])
    spread = np.ptp(found["samples"], axis=0).max()
    assert spread == 0 if name == "point_np.CNP" else spread > 0.01  # samples differ


def test_the_numbers_are_those_of_the_documented_key(programs):
    image, mask = make_batch(2)
    found = programs("image_np.IFANP", "zero")["samples"]
    model = make_trained("image_np.IFANP")
    result = model.complete(image, mask, num_samples=NUM_SAMPLES, seed=SEED)
    np.testing.assert_allclose(np.where(mask, image, np.clip(found, 0, 1)), result.samples, atol=1e-5)
    other = model.complete(image, mask, num_samples=NUM_SAMPLES, seed=SEED - 1)
    assert np.abs(result.samples - other.samples).max() > 0.01


def test_one_call_of_attention_equals_the_blocks_of_a_cpu():
    shape, many = (32, 32, 1), 128  # of which a CPU attends to a few images at a time
    run = make_trained("image_np.IFANP", image_shape=shape)
    key = jax.random.fold_in(jax.random.key(5), 0)
    apply = functools.partial(predict.complete_batch, key, run.module, run.variables, num_samples=1)
    assert "scan" in str(jax.make_jaxpr(apply)(*make_batch(many, shape)))
    content = export.serialize_completion(run.module, run.variables, shape, num_samples=1)
    program = jax.export.deserialize(content)
    image, mask = make_batch(many, shape)
    expected = apply(image, mask)
    samples, scale = program.call(np.uint32(5), image, mask)
    np.testing.assert_allclose(samples, expected.samples, atol=1e-5)
    np.testing.assert_allclose(scale, expected.scale, atol=1e-5)


def test_the_program_says_what_it_takes_and_where_it_runs(exported):
    program = jax.export.deserialize((exported / "point_np.ANP" / store.PROGRAM_NAME).read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert list(map(str, program.in_avals)) == ["uint32[]", "float32[b,6,8,3]", "bool[b,6,8,1]"]
    assert list(map(str, program.out_avals)) == ["float32[2,b,6,8,3]"] * 2


def test_the_files_speak_for_themselves(exported):
    folder = exported / "image_np.IFANP"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "completion.stablehlo"}
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    params = make_trained("image_np.IFANP").variables["params"]
    assert len(tensors) == len(jax.tree.leaves(params))
    np.testing.assert_array_equal(tensors["encoder1/Conv_0/kernel"], params["encoder1"]["Conv_0"]["kernel"])
    np.testing.assert_array_equal(tensors["head/raw_sigma"], params["head"]["raw_sigma"])
    assert tensors["head/raw_sigma"].shape == () and tensors["head/raw_sigma"].dtype == np.float32
    with safetensors.safe_open(folder / "model.safetensors", framework="numpy") as file:
        record = file.metadata()
    assert set(record) == {*store.FIELDS, "model", "completion"} and record["format"] == "1"
    assert json.loads(record["image_shape"]) == [6, 8, 3] and record["step"] == "7"
    assert record["licence"] == record["notice"] == "" and record["dtype"] == "float32"
    program = json.loads(record["completion"])
    assert program["sha256"] == hashlib.sha256((folder / "completion.stablehlo").read_bytes()).hexdigest()
    assert program["num_samples"] == NUM_SAMPLES and program["platforms"] == ["cpu", "cuda", "tpu"]
    fields = json.loads(record["model"])
    assert fields.items() >= {"name": "image_np.IFANP", "encoder_extra": "lpa", "channels": 3}.items()
    assert json.loads(record["config"])["train"]["batch_size"] == default.get_config().train.batch_size


def test_a_file_alone_is_a_model_and_what_was_known_of_it_goes_along(tmp_path):
    known = {"licence": "CC0", "notice": "For tests.", "commit": "0123456"}
    model = dataclasses.replace(make_trained("point_np.CNP"), about=known)
    export.write(model, tmp_path / "out", num_samples=1)
    path = (tmp_path / "out" / "model.safetensors").rename(tmp_path / "alone.safetensors")
    for read in (ifanp_jax.load(path), ifanp_jax.from_pretrained(path)):
        assert read.about.items() >= known.items() and read.module == model.module
        assert_same_answers(read, model, *make_batch(2))


def test_exports_lie_where_they_are_wanted_and_are_made_to_be_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    before = os.umask(0o022)
    try:
        export.write(make_trained("point_np.CNP"), "~/deep/out", num_samples=NUM_SAMPLES)
    finally:
        os.umask(before)
    assert ifanp_jax.load("~/deep/out").step == 7
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "out").iterdir()} == {0o644}


class Normalised(ImageModel):
    """Deterministic, with a collection beside its parameters."""

    @nn.compact
    def __call__(self, image, mask, *, train):
        return nn.BatchNorm(use_running_average=not train)(jnp.where(mask, image, 0))

    def complete(self, image, mask, *, num_samples):
        answer = self(image, mask, train=False)
        return Completion(samples=jnp.broadcast_to(answer, (num_samples, *answer.shape)))


def test_a_deterministic_model_with_another_collection(tmp_path):
    module = Normalised(channels=SHAPE[-1])
    variables = helpers.random_variables(module, SHAPE)
    variables["batch_stats"] = jax.tree.map(jnp.ones_like, variables["batch_stats"])
    model = dataclasses.replace(make_trained("point_np.CNP"), module=module, variables=variables)
    export.write(model, tmp_path / "out", num_samples=2)
    tensors = safetensors.numpy.load_file(tmp_path / "out/model.safetensors")
    params, statistics = ("BatchNorm_0/scale", "BatchNorm_0/bias"), ("BatchNorm_0/mean", "BatchNorm_0/var")
    assert set(tensors) == {*params, *(f"batch_stats:{name}" for name in statistics)}
    program = jax.export.deserialize((tmp_path / "out/completion.stablehlo").read_bytes())
    image, mask = make_batch(2)
    (samples,) = program.call(np.uint32(0), image, mask)
    np.testing.assert_allclose(samples[1], module.apply(variables, image, mask, train=False), atol=1e-6)


@pytest.mark.slow
def test_a_trained_run_by_the_command_line(tmp_path):
    fields = {"train.num_steps": 2, "train.validate_every": 0, "train.ema_decay": 0.5}
    workdir, output = tmp_path / "run", tmp_path / "out"
    loop.run(tiny.make_config(**fields), workdir, tiny.digits())
    result = helpers.run_main(
        "--mode=export", f"--workdir={workdir}", f"--output={output}", "--num_samples=2"
    )
    assert result.returncode == 0, result.stderr
    trained, read = ifanp_jax.load(workdir), ifanp_jax.load(output)
    assert read.step == trained.step == 2 and read.image_shape == trained.image_shape == (8, 8, 1)
    assert read.config.to_dict() == trained.config.to_dict() and read.module == trained.module
    image, mask = make_batch(2, (8, 8, 1))
    assert_same_answers(read, trained, image, mask)
    program = jax.export.deserialize((output / store.PROGRAM_NAME).read_bytes())
    samples, _ = program.call(np.uint32(9), image, mask)
    np.testing.assert_allclose(samples, answer(trained, image, mask, 9)[0], atol=1e-5)
