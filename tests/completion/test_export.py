"""Exported models: the files alone, read back, and the program without this package."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

import ifanp_jax
from configs import default, digits_ifanp
from ifanp_jax import models
from ifanp_jax.completion import export
from ifanp_jax.completion import model as completion_model
from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from ifanp_jax.modules import gca
from ifanp_jax.training import loop, parameters, runs

ROOT = pathlib.Path(__file__).parents[1]
SHAPE = (6, 8, 3)
NUM_SAMPLES = 3
SEED = 2**32 - 5  # needs all 32 bits
SMALL = {"width": 8, "latent_dim": 4}
SMALL_IMAGE = {**SMALL, "encoder_depth": 1, "decoder_depth": 1}
MODELS = {
    "IFNP": {"name": "image_np.IFNP", **SMALL_IMAGE},
    "IFANP_LPA": {"name": "image_np.IFANP_LPA", **SMALL_IMAGE, "lpa_learned_scale": True},
    "IFANP_SENet": {"name": "image_np.IFANP_SENet", **SMALL_IMAGE, "likelihood": "per_pixel"},
    "IFANP_GCA": {"name": "image_np.IFANP_GCA", **SMALL_IMAGE, "gca_blocks": 2, "gca_heads": 2},
    "IFANP": {"name": "image_np.IFANP", **SMALL_IMAGE, "likelihood": "learned"},
    "CNP": {"name": "point_np.CNP", **SMALL},
    "LNP": {"name": "point_np.LNP", **SMALL},
    "NP": {"name": "point_np.NP", **SMALL},
    "ANP": {"name": "point_np.ANP", **SMALL},
    "VAE": {"name": "vae.VAE", **SMALL},
}
BATCH_SIZES = (1, 8)
# Runs every program of the folders that follow on the images that lie there; nothing of this project helps.
READER = """
import pathlib, sys
sys.modules["ifanp_jax"] = sys.modules["flax"] = None  # an import of either fails
import jax, jax.export, numpy as np
for folder in map(pathlib.Path, sys.argv[1:]):
    program = jax.export.deserialize((folder / "completion.stablehlo").read_bytes())
    for path in sorted(folder.parent.glob("images_*.npz")):
        given = np.load(path)
        samples, scale = jax.jit(program.call)(given["seed"], given["image"], given["mask"])
        np.savez(folder.with_name(f"{folder.name}_{path.name}"), samples=samples, scale=scale)
"""


def make_run(family, *, image_shape=SHAPE, **fields):
    config = default.get_config()
    config.model = ConfigDict(MODELS[family] | fields)
    module = models.get(config.model, channels=image_shape[-1])
    shapes = jax.eval_shape(lambda key: parameters.init_params(key, module, image_shape), jax.random.key(0))

    def draw(seed):
        generator = np.random.default_rng(seed)  # NumPy: nothing to compile

        def draw_one(x):
            spread = min(0.5, 1 / np.sqrt(np.prod(x.shape[:-1])))  # by fan-in: answers of the order of 1
            return jnp.asarray(generator.normal(0, spread, x.shape), x.dtype)

        return jax.tree.map(draw_one, shapes)

    start = parameters.TrainState(step=jnp.int32(7), params=draw(0), opt_state=(), ema_params=draw(1))
    return runs.Run(config=config, image_shape=image_shape, model=module, state=start)


def model_of(run):
    return completion_model.CompletionModel(
        module=run.model,
        params=run.state.evaluation_params,
        config=run.config,
        step=7,
        image_shape=run.image_shape,
    )


def make_batch(size, image_shape=SHAPE):
    generator = np.random.default_rng(size)
    mask = generator.random((size, *image_shape[:2], 1)) < 0.5
    return np.where(mask, generator.random((size, *image_shape), np.float32), np.float32(0)), mask


def assert_same_answers(model, other, image, mask):
    answers = [one.complete(image, mask, num_samples=2, seed=3) for one in (model, other)]
    for field in dataclasses.fields(completion_model.CompletionResult):
        np.testing.assert_array_equal(*(getattr(answer, field.name) for answer in answers))
    predicted, scale = model._predict(image, mask, 2, 3)
    for found, expected in zip((predicted, scale), other._predict(image, mask, 2, 3), strict=True):
        np.testing.assert_array_equal(found, expected)  # not clipped
    assert np.ptp(predicted) > 0.1  # a difference would show


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with every model exported under its name."""
    parent = tmp_path_factory.mktemp("exports")
    for family in MODELS:
        export.write(make_run(family), parent / family, num_samples=NUM_SAMPLES)
    return parent


@pytest.fixture(scope="module")
def answers(exported):
    """What the programs answer in a process without this package: `find(family, batch_size)`."""
    for size in BATCH_SIZES:
        image, mask = make_batch(size)
        np.savez(exported / f"images_{size}.npz", seed=np.uint32(SEED), image=image, mask=mask)
    subprocess.run(
        [sys.executable, "-c", READER, *(str(exported / family) for family in MODELS)],
        check=True,
        timeout=600,
        cwd=exported,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    return lambda family, size: np.load(exported / f"{family}_images_{size}.npz")


def test_every_model_is_listed():
    names = {fields["name"] for fields in MODELS.values()}
    files = [path.stem for path in (ROOT / "ifanp_jax" / "models").glob("*.py")]
    candidates = {
        f"{file}.{name}"
        for file in files
        if file != "__init__"
        for name in vars(__import__(f"ifanp_jax.models.{file}", fromlist=[file]))
    }
    found = {name for name in candidates if models._find(name)}
    assert found - {"image_np.ImageNeuralProcess", "point_np.PointNeuralProcess"} == names


@pytest.mark.parametrize("family", MODELS)
def test_what_is_read_back_is_what_was_written(exported, family):
    run = make_run(family)
    model = ifanp_jax.load(exported / family)
    assert model.module == run.model and model.step == 7 and model.image_shape == SHAPE
    assert model.config.to_dict() == run.config.to_dict()
    expected = run.state.ema_params
    assert jax.tree.structure(model.params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, model.params, expected)
    assert_same_answers(model, model_of(run), *make_batch(1))


@pytest.mark.parametrize("family", MODELS)
def test_the_program_alone_gives_the_numbers_of_the_model(answers, family):
    model = model_of(make_run(family))
    for size in BATCH_SIZES:
        expected = model._predict(*make_batch(size), NUM_SAMPLES, SEED)
        found = answers(family, size)
        assert found["samples"].shape == (NUM_SAMPLES, size, *SHAPE)
        for values, name in zip(expected, ("samples", "scale"), strict=True):
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], values, atol=1e-5)
        spread = np.ptp(found["samples"], axis=0).max()
        assert spread == 0 if family == "CNP" else spread > 0.01  # samples differ


def test_the_numbers_are_those_of_the_documented_key(answers):
    image, mask = make_batch(8)
    found = answers("IFANP", 8)["samples"]
    result = model_of(make_run("IFANP")).complete(image, mask, num_samples=NUM_SAMPLES, seed=SEED)
    np.testing.assert_allclose(np.where(mask, image, np.clip(found, 0, 1)), result.samples, atol=1e-5)
    other = model_of(make_run("IFANP")).complete(image, mask, num_samples=NUM_SAMPLES, seed=SEED - 1)
    assert np.abs(result.samples - other.samples).max() > 0.01


def test_one_call_of_attention_equals_the_blocks_of_a_cpu(monkeypatch):
    monkeypatch.setattr(gca, "CPU_VALUES", 1)
    shape = (4, 6, 1)  # another than elsewhere: nothing is compiled yet
    run = make_run("IFANP", image_shape=shape)
    params = run.state.ema_params
    key = jax.random.fold_in(jax.random.key(5), 0)
    apply = functools.partial(answers.complete_batch, key, run.model, params, num_samples=2)
    assert "scan" in str(jax.make_jaxpr(apply)(*make_batch(8, shape)))
    program = jax.export.deserialize(export.serialize_completion(run.model, params, shape, num_samples=2))
    for size in (1, 3, 8):
        image, mask = make_batch(size, shape)
        for found, expected in zip(program.call(np.uint32(5), image, mask), apply(image, mask), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_unobserved_values_are_never_read(exported):
    image, mask = make_batch(1)
    program = jax.export.deserialize((exported / "IFANP" / export.PROGRAM_FILE).read_bytes())
    answer = program.call(np.uint32(0), image, mask)
    hidden = program.call(np.uint32(0), np.where(mask, image, np.float32(np.nan)), mask)
    jax.tree.map(np.testing.assert_array_equal, hidden, answer)


def test_the_program_says_what_it_takes_and_where_it_runs(exported):
    program = jax.export.deserialize((exported / "ANP" / export.PROGRAM_FILE).read_bytes())
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert list(map(str, program.in_avals)) == ["uint32[]", "float32[b,6,8,3]", "bool[b,6,8,1]"]
    assert list(map(str, program.out_avals)) == ["float32[3,b,6,8,3]"] * 2


def test_the_files_speak_for_themselves(exported):
    folder = exported / "IFANP"
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "config.json",
        "completion.stablehlo",
    }
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    params = make_run("IFANP").state.ema_params
    assert len(tensors) == len(jax.tree.leaves(params))
    np.testing.assert_array_equal(tensors["encoder1/Conv_0/kernel"], params["encoder1"]["Conv_0"]["kernel"])
    np.testing.assert_array_equal(tensors["raw_sigma"], params["raw_sigma"])
    assert tensors["raw_sigma"].shape == () and tensors["raw_sigma"].dtype == np.float32
    record = json.loads((folder / "config.json").read_text())
    assert record["format"] == 1 and record["image_shape"] == [6, 8, 3] and record["step"] == 7
    assert record["completion"]["num_samples"] == NUM_SAMPLES
    assert record["completion"]["platforms"] == ["cpu", "cuda", "tpu"]
    # Also what the variant's name alone decides.
    assert (
        record["model"].items() >= {"name": "image_np.IFANP", "encoder_extra": "lpa", "channels": 3}.items()
    )
    assert record["config"]["train"]["batch_size"] == default.get_config().train.batch_size


def test_exports_are_made_to_be_shared(tmp_path):
    before = os.umask(0o022)
    try:
        export.write(make_run("CNP"), tmp_path / "deep" / "out", num_samples=1)
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "out").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "out").iterdir()} == {0o644}


def copy_with(exported, tmp_path, family="CNP", **contents):
    """A copy of an export, some files with other bytes or, for None, without them."""
    folder = tmp_path / family
    folder.mkdir()
    for name in (export.CONFIG_FILE, export.TENSORS_FILE):
        content = contents.get(name.split(".")[0], (exported / family / name).read_bytes())
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def change_json(exported, family="CNP", **fields):
    record = json.loads((exported / family / export.CONFIG_FILE).read_text())
    return json.dumps(record | fields).encode()


def change_tensors(exported, change, family="CNP"):
    tensors = safetensors.numpy.load_file(exported / family / export.TENSORS_FILE)
    change(tensors)
    return safetensors.numpy.save(tensors)


def assert_refused(folder, *parts):
    with pytest.raises(UserError) as caught:
        ifanp_jax.load(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    for part in parts:
        assert part in message


def test_missing_files(exported, tmp_path):
    assert_refused(copy_with(exported, tmp_path, "CNP", model=None), "model.safetensors is missing")
    assert_refused(copy_with(exported, tmp_path, "LNP", config=None), "config.json is missing")
    assert_refused(tmp_path / "nowhere", "holds no run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "has format 2"),
        ({"format": None}, "is not of this package"),
        ({"image_shape": [6, 8]}, "image_shape [6, 8]"),
        ({"image_shape": [6, 8, True]}, "image_shape [6, 8, True]"),
        ({"step": "seven"}, "step 'seven'"),
        ({"config": {}}, "describes no model"),
        ({"config": {"model": {"name": "point_np.None"}}}, "which is no model"),
        ({"config": {"model": {"name": "point_np.CNP", "nope": 1}}}, "config.model.nope is no field"),
        ({"config": {"model": {"name": "point_np.CNP", "width": "wide"}}}, "describes no model"),
        ({"config": {"model": {"name": "image_np.IFANP", "gca_heads": 0}}}, "describes no model"),
    ],
)
def test_other_configurations(exported, tmp_path, fields, message):
    folder = copy_with(exported, tmp_path, config=change_json(exported, **fields))
    assert_refused(folder, "config.json", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read"), (b"[1, 2]", "is not of this package"), (b"\xff\xfe", "cannot be read"),
     (b'{"architectures": ["BertModel"]}', "is not of this package"), (b"", "cannot be read")],
)  # fmt: skip
def test_foreign_configurations(exported, tmp_path, content, message):
    assert_refused(copy_with(exported, tmp_path, config=content), "config.json", message)


def test_tensors_that_do_not_fit(exported, tmp_path):
    name = "encoder/Dense_0/kernel"  # (5, 8)

    def change(**options):
        return change_tensors(exported, **options)

    cases = {
        f"{name} is missing, not float32[5, 8]": lambda tensors: tensors.pop(name),
        "stray is float32[2], not in the model": lambda tensors: tensors.update(
            stray=np.zeros(2, np.float32)
        ),
        f"{name} is float32[8, 5], not float32[5, 8]": lambda tensors: tensors.update(
            {name: np.ascontiguousarray(tensors[name].T)}
        ),
        f"{name} is float16[5, 8], not float32[5, 8]": lambda tensors: tensors.update(
            {name: tensors[name].astype(np.float16)}
        ),
        "and": lambda tensors: tensors.clear(),
    }
    for number, (message, change) in enumerate(cases.items()):
        (tmp_path / str(number)).mkdir()
        content = change_tensors(exported, change)
        folder = copy_with(exported, tmp_path / str(number), model=content)
        assert_refused(folder, "model.safetensors does not fit", message)


def test_the_parameters_of_another_model(exported, tmp_path):
    content = (exported / "NP" / export.TENSORS_FILE).read_bytes()
    assert_refused(copy_with(exported, tmp_path, model=content), "does not fit", "not in the model")


def test_cut_off_tensors(exported, tmp_path):
    content = (exported / "CNP" / export.TENSORS_FILE).read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        (tmp_path / str(length)).mkdir()
        folder = copy_with(exported, tmp_path / str(length), model=content[:length])
        assert_refused(folder, "model.safetensors cannot be read")


def test_a_used_output_is_left_as_it_is(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (("full", "is not empty"), ("file", "cannot be used"), ("file/in", "cannot be")):
        with pytest.raises(UserError, match=f"{tmp_path / name}.*{message}"):
            export.write(make_run("CNP"), tmp_path / name, num_samples=1)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file"}
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]


def test_an_empty_output_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    export.write(make_run("CNP"), tmp_path / "out", num_samples=1)
    assert ifanp_jax.load(tmp_path / "out").step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def write_bytes(path, content):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.touch()

    monkeypatch.setattr(pathlib.Path, "write_bytes", write_bytes)
    with pytest.raises(UserError, match="No space left on device"):
        export.write(make_run("CNP"), tmp_path / "out", num_samples=1)
    assert written and not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_samples", [0, 2**20 // 48 + 1])
def test_numbers_of_samples_that_no_program_draws(tmp_path, num_samples):
    with pytest.raises(UserError, match=f"num_samples is {num_samples}; .* from 1 to {2**20 // 48}"):
        export.write(make_run("CNP"), tmp_path / "out", num_samples=num_samples)
    assert not list(tmp_path.iterdir())


def run_main(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ifanp_jax.main", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


def test_a_trained_run_by_the_command_line(tmp_path):
    config = digits_ifanp.get_config()
    fields = {f"model.{name}": value for name, value in SMALL_IMAGE.items()}
    fields |= {"train.num_steps": 2, "train.batch_size": 8, "train.log_every": 2, "train.ema_decay": 0.5}
    fields |= {"train.validate_every": 0, "evaluate.num_images": 8}
    config.update_from_flattened_dict(fields)
    workdir, output = tmp_path / "run", tmp_path / "out"
    loop.run(config, workdir, sources.get(config.data))
    result = run_main("--mode=export", f"--workdir={workdir}", f"--output={output}", "--num_samples=2")
    assert result.returncode == 0, result.stderr
    trained, read = ifanp_jax.load(workdir), ifanp_jax.load(output)
    assert read.step == trained.step == 2 and read.image_shape == trained.image_shape == (8, 8, 1)
    assert read.config.to_dict() == trained.config.to_dict() and read.module == trained.module
    image, mask = make_batch(2, (8, 8, 1))
    assert_same_answers(read, trained, image, mask)
    program = jax.export.deserialize((output / export.PROGRAM_FILE).read_bytes())
    samples, _ = program.call(np.uint32(9), image, mask)
    np.testing.assert_allclose(samples, trained._predict(image, mask, 2, 9)[0], atol=1e-5)
    again = run_main("--mode=export", f"--workdir={workdir}", f"--output={output}")
    assert again.returncode == 1 and len(again.stderr.strip().splitlines()) == 1
    assert again.stderr.startswith(f"error: The output {output} is not empty")
