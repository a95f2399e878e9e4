"""Shipped models: what packing writes is what loading gives, and what a damaged file says."""

import dataclasses
import json
import re
import shutil

import chex
import jax
import numpy as np
import pytest
import safetensors
from PIL import Image

import ifanp_jax
from benchmarks.release import card, packing, rounding
from ifanp_jax import presets, shipped
from ifanp_jax.errors import UserError
from ifanp_jax.inference import export, store
from ifanp_jax.inference.model import Model
from ifanp_jax.training import init_from, loop, runs
from tests import documented_commands, helpers, tiny
from tests.shipped.conftest import REQUEST, write_card
from tests.training import short_run

IMAGE, MASK = helpers.random_image(8, 8, 1), helpers.random_mask(8, 8, 1)


def complete(model):
    return model.complete(IMAGE, MASK, num_samples=2).samples


def test_a_packed_model_is_the_run_up_to_float16(model, folder):
    loaded = ifanp_jax.from_pretrained(str(folder / "tiny.safetensors"))
    assert isinstance(loaded, Model) and loaded.module == model.module
    assert loaded.step == 2 and loaded.image_shape == (8, 8, 1)
    assert loaded.config.to_dict() == model.config.to_dict()  # digits lie in no folder
    for x, y in zip(*map(jax.tree.leaves, (model.variables, loaded.variables)), strict=True):
        assert y.dtype == np.float32
        np.testing.assert_array_equal(x.astype(np.float16).astype(np.float32), y)
    change = np.abs(complete(model) - complete(loaded)).max()
    assert 0 < change <= rounding.LARGEST_CHANGE
    np.testing.assert_array_equal(complete(loaded)[:, MASK], np.stack([IMAGE[MASK] / np.float32(255)] * 2))


def test_the_header_says_all_that_is_known(folder, evaluation):
    with safetensors.safe_open(folder / "tiny.safetensors", framework="numpy") as file:
        record = file.metadata()
    assert set(record) == {*store.FIELDS, *packing.FIELDS}
    assert record["name"] == "tiny" and record["licence"] == "CC0" and record["commit"] == "0123456"
    assert record["step"] == "2" and record["seed"] == "0" and record["range"] == "[0, 1]"
    assert json.loads(record["image_shape"]) == [8, 8, 1] and record["dtype"] == "float16"
    assert json.loads(record["rounding"])["num_images"] == rounding.NUM_IMAGES
    (cell,) = json.loads(record["validation"])
    expected = evaluation["cells"][0]["psnr_completed"]
    assert cell["num_images"] == 8 and cell["psnr_completed"] == pytest.approx(expected, rel=1e-5)


def test_the_command_trains_with_the_configuration_of_the_run(model, evaluation):
    config = model.config.copy_and_resolve_references()
    command = packing.make_command("tiny", REQUEST.recipe, config)
    assert "--config.model.width=8" in command and "--config.evaluate.fractions=(0.4,)" in command
    assert not documented_commands.find_errors(documented_commands.split(command))
    assert "init_from" not in command
    config.data.update(source="folder", dir="somewhere", cache_dir="elsewhere")
    config.train.init_from = "nowhere"
    command = packing.make_command("tiny", REQUEST.recipe, config)
    assert "--config.data.dir=PICTURES --config.train.init_from=TRAINED" in command and "where" not in command
    model = packing.without_places(dataclasses.replace(model, config=config))
    assert "where" not in model.config.to_json()
    described = packing.describe(model, evaluation)
    assert described["crop"] == "the largest central square"
    assert described["data"] == "digits: 1497 images of 'train', evaluated on 8 of 'test'"


def test_the_card_has_its_sections_and_its_numbers(folder):
    text = card.read(folder / "tiny.md", licence="CC0")
    assert text.count("Some words.") == len(card.HEADINGS)
    assert "| random 40% | 8 |" in text and "## Results" in text and "0123456" in text
    lines = text.splitlines()
    card.fill(folder / "tiny.md", packing.list_values(store.read_record(folder / "tiny.safetensors")))
    assert (folder / "tiny.md").read_text().splitlines() == lines


def test_what_cannot_be_packed(model, evaluation, folder, tmp_path):
    shutil.copy(folder / "tiny.md", tmp_path)
    for change, message in (
        ({"name": "Tiny 1"}, "give small letters"),
        ({"licence": ""}, "--licence is missing"),
        ({"licence": "MIT"}, "does not name the licence 'MIT'"),
        ({"commit": ""}, "--commit is missing"),
        ({"name": "other"}, "other.md cannot be read"),
        ({"recipe": "digits_multiscale"}, "lacks fields of the run"),
        ({"recipe": "none"}, "is no file and no shipped configuration"),
    ):
        with pytest.raises(UserError, match=message):
            packing.pack(model, evaluation, IMAGE[None], tmp_path, dataclasses.replace(REQUEST, **change))
    assert not list(tmp_path.glob("*.safetensors"))


def test_float16_is_refused_where_it_changes_the_numbers(model, monkeypatch):
    images = tiny.digits().evaluation
    assert rounding.choose(model, images, dtype="auto")[0] == "float16"
    assert rounding.choose(model, images, dtype="float32") == ("float32", None)
    monkeypatch.setattr(rounding, "LARGEST_CHANGE", 1e-6)
    assert rounding.choose(model, images, dtype="auto")[0] == "float32"
    with pytest.raises(UserError, match=r"give --dtype=float32"):
        rounding.choose(model, images, dtype="float16")


def test_damaged_files_and_unknown_names(folder, tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    content = (folder / "tiny.safetensors").read_bytes()
    path.write_bytes(content.replace(b'"licence":"CC0"', b'"licence":"CC1"'))
    with pytest.raises(UserError, match="is damaged: its SHA-256"):
        ifanp_jax.from_pretrained(str(path))
    with pytest.raises(UserError, match=r"There is no model 'none'; .* ifanp_jax\.load") as caught:
        ifanp_jax.from_pretrained("none")
    assert all(name in str(caught.value) for name in ifanp_jax.list_pretrained())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^photos is no folder .*from_pretrained\('photos'\)"):
        ifanp_jax.load("photos")
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        ifanp_jax.load("photos")


def test_the_licence_is_said_once(folder, tmp_path, caplog):
    path, _ = (shutil.copy(folder / name, tmp_path) for name in ("tiny.safetensors", "tiny.md"))
    for _ in range(2):
        ifanp_jax.from_pretrained(path)
    (said,) = [record for record in caplog.records if "Licence of tiny" in record.message]
    assert said.levelname == "WARNING" and "tiny.md" in said.message
    assert said.message.startswith("For tests alone. ")


FEW = (
    "evaluate.fractions=(0.4,)", "evaluate.halves=False", "evaluate.num_images=8", "evaluate.num_samples=2",
)  # fmt: skip


@pytest.mark.slow
def test_the_command_line_completes_and_evaluates_with_a_model(folder, evaluation, tmp_path):
    model = f"--model={folder / 'tiny.safetensors'}"
    Image.fromarray(IMAGE[..., 0]).save(tmp_path / "a.png")
    Image.fromarray(np.where(MASK[..., 0], 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    options = (f"--input={tmp_path / 'a.png'}", f"--mask={tmp_path / 'mask.png'}", "--num_samples=1")
    result = helpers.run_main("complete", model, *options, f"--output={tmp_path / 'done'}")
    assert result.returncode == 0 and "For tests alone. Licence of tiny: CC0" in result.stderr, result.stderr
    assert (tmp_path / "done" / "a_mean.png").is_file()
    few = [f"--config.{field}" for field in (*FEW, "evaluate.classical_images=0")]
    result = helpers.run_main("evaluate", model, "--config=digits", *few, f"--output={tmp_path / 'tables'}")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "tables" / "evaluation.json").read_text())["cells"][0]["psnr_completed"]
    assert found == pytest.approx(evaluation["cells"][0]["psnr_completed"], abs=0.01)
    assert not (tmp_path / "tables" / "training.png").exists()


@pytest.mark.slow
def test_the_command_line_packs_a_training_with_its_own_evaluation(tmp_path):
    workdir, recipe = tmp_path / "run", "digits:point_np.CNP"
    few = [f"--config.{field}" for field in (*FEW, "train.num_steps=2", "evaluate.classical_images=4")]
    result = helpers.run_main(f"--config={recipe}", f"--workdir={workdir}", *few)
    assert result.returncode == 0, result.stderr
    write_card(tmp_path)
    words = ("--name=tiny", "--commit=0123456", "--licence=CC0", f"--recipe={recipe}", f"--output={tmp_path}")
    result = helpers.run_main(f"--workdir={workdir}", *words, module="benchmarks.release")
    assert result.returncode == 0 and "Stored in float16" in result.stderr, result.stderr
    assert ifanp_jax.from_pretrained(tmp_path / "tiny.safetensors").step == 2
    path = workdir / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"step": 1}))
    with pytest.raises(UserError, match="of step 1 but the newest checkpoint of step 2; run --mode=evaluate"):
        packing.load(workdir)
    path.unlink()
    with pytest.raises(UserError, match=r"evaluation\.json cannot be read"):
        packing.load(workdir)


ANSWERS = {  # three missing values of the mean, the mean of the others, and that of the uncertainty
    "photos": (0.525967, 0.718926, 0.669612, 0.486463, 0.007583),
    "mnist28": (0.506753, 0.644532, 0.474412, 0.587748, 0.208762),
    "celeba32_faces": (0.542086, 0.742548, 0.552189, 0.491283, 0.027527),
}


@pytest.mark.parametrize("name", shipped.list_names())
def test_a_shipped_model_names_its_licence_and_what_it_answers_stays_as_it_is(name):
    model = ifanp_jax.from_pretrained(name)
    record = model.about
    assert record["name"] == name and record["licence"]
    text = card.read(shipped.FOLDER / f"{name}.md", licence=record["licence"])
    assert record["sha256"] in text and "## Results" in text
    assert not any(record["config"].count(place) for place in ("/root", "/work", "/home", "/tmp"))
    (h, w), c = (min(side, 40) for side in model.image_shape[:2]), model.image_shape[-1]
    y, x = np.mgrid[:h, :w] / 8
    waves = [0.5 + 0.3 * np.sin(y + (channel + 1) * x / 2) for channel in range(c)]
    image, mask = np.stack(waves, axis=-1), (np.arange(h * w) * 7919 % 101 < 40).reshape(h, w)
    result = model.complete(image.astype(np.float32), mask, num_samples=2, rounds=1)
    np.testing.assert_array_equal(result.mean[mask], image[mask].astype(np.float32))
    missing = np.argwhere(~mask)[[0, 100, 300]]
    found = [result.mean[row, column, 0] for row, column in missing]
    found += [result.mean[~mask].mean(), result.uncertainty[~mask].mean()]
    np.testing.assert_allclose(found, ANSWERS[name], atol=1e-5)
    # It fits the configuration that its card names.
    config = presets.load(re.search(r"--config=(\w+)", record["command"])[1])
    config.train.init_from = name
    new = runs.make(config, model.image_shape)
    taken = init_from.take_variables(jax.random.key(0), new, init_from.read_source(name))
    assert {leaf.dtype for leaf in jax.tree.leaves(taken)} == {np.dtype("float32")}


def test_a_training_starts_from_a_shipped_model_a_training_or_an_export(model, folder, tmp_path):
    stored = init_from.read_source(str(folder / "tiny.safetensors"))
    assert stored.step == 2
    for x, y in zip(*map(jax.tree.leaves, (model.variables, stored.variables)), strict=True):
        assert y.dtype == np.float32  # stored as float16
        np.testing.assert_array_equal(x.astype(np.float16).astype(np.float32), y)
    export.write(model, tmp_path / "exported", num_samples=1)
    chex.assert_trees_all_equal(init_from.read_source(f"{tmp_path}/exported").variables, model.variables)
    config = tiny.make_config(**short_run.FIELDS | {"train.num_steps": 1})
    trained = loop.run(config, tmp_path / "run", tiny.digits())
    chex.assert_trees_all_equal(init_from.read_source(f"{tmp_path}/run").variables, trained.variables)
    with pytest.raises(UserError, match=r"init_from is 'nothing'; choose a shipped model \(.*photos.*\), or"):
        init_from.read_source("nothing")
    with pytest.raises(UserError, match=r"holds no run"):
        init_from.read_source(str(tmp_path))
