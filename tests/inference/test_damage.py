"""Exports that are damaged, foreign, or cannot be written."""

import hashlib
import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.inference import export
from tests.inference.exports import export_all, make_trained


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported model."""
    return export_all(tmp_path_factory.mktemp("exports"), ("point_np.CNP",)) / "point_np.CNP"


def copy_with(exported, folder, **contents):
    """A copy of an export, some files with other bytes or, for None, without them."""
    folder.mkdir(exist_ok=True)
    for name in (export.CONFIG_FILE, export.TENSORS_FILE):
        content = contents.get(name.split(".")[0], (exported / name).read_bytes())
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def copy_with_tensors(exported, folder, content):
    """A copy with other tensors, whose checksum is right."""
    sums = {export.TENSORS_FILE: hashlib.sha256(content).hexdigest()}
    return copy_with(exported, folder, model=content, config=change_json(exported, sha256=sums))


def change_json(exported, **fields):
    record = json.loads((exported / export.CONFIG_FILE).read_text())
    return json.dumps(record | fields).encode()


def change_tensors(exported, change):
    tensors = safetensors.numpy.load_file(exported / export.TENSORS_FILE)
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
    assert_refused(copy_with(exported, tmp_path / "a", model=None), "model.safetensors is missing")
    assert_refused(copy_with(exported, tmp_path / "b", config=None), "config.json is missing")
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
    folder = copy_with(exported, tmp_path / "copy", config=change_json(exported, **fields))
    assert_refused(folder, "config.json", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read"), (b"[1, 2]", "is not of this package"), (b"\xff\xfe", "cannot be read"),
     (b'{"architectures": ["BertModel"]}', "is not of this package"), (b"", "cannot be read")],
)  # fmt: skip
def test_foreign_configurations(exported, tmp_path, content, message):
    assert_refused(copy_with(exported, tmp_path / "copy", config=content), "config.json", message)


def test_tensors_that_do_not_fit(exported, tmp_path):
    name = "encoder/Dense_0/kernel"  # (5, 8)

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
        folder = copy_with_tensors(exported, tmp_path / str(number), change_tensors(exported, change))
        assert_refused(folder, "model.safetensors does not fit", message)


def test_the_parameters_of_another_model(exported, tmp_path):
    other = export_all(tmp_path, ("point_np.NP",)) / "point_np.NP" / export.TENSORS_FILE
    folder = copy_with_tensors(exported, tmp_path / "copy", other.read_bytes())
    assert_refused(folder, "does not fit", "not in the model")


def test_cut_off_tensors(exported, tmp_path):
    content = (exported / export.TENSORS_FILE).read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        folder = copy_with(exported, tmp_path / str(length), model=content[:length])
        assert_refused(folder, "model.safetensors is damaged")
        folder = copy_with_tensors(exported, tmp_path / str(length), content[:length])
        assert_refused(folder, "model.safetensors cannot be read")


def test_one_flipped_bit(exported, tmp_path):
    content = bytearray((exported / export.TENSORS_FILE).read_bytes())
    content[-10] ^= 1  # inside the values: names and shapes are as they were
    folder = copy_with(exported, tmp_path / "copy", model=bytes(content))
    assert_refused(folder, "model.safetensors is damaged", "SHA-256", "export the run again")


@pytest.mark.parametrize("sums", [{}, [], "", {export.TENSORS_FILE: None}])
def test_without_a_checksum(exported, tmp_path, sums):
    folder = copy_with(exported, tmp_path / "copy", config=change_json(exported, sha256=sums))
    assert_refused(folder, "model.safetensors is damaged")


def test_a_used_output_is_left_as_it_is(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (("full", "is not empty"), ("file", "cannot be used"), ("file/in", "cannot be")):
        with pytest.raises(UserError, match=f"{tmp_path / name}.*{message}"):
            export.write(make_trained("point_np.CNP"), tmp_path / name, num_samples=1)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file"}
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]


def test_an_empty_output_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    export.write(make_trained("point_np.CNP"), tmp_path / "out", num_samples=1)
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
        export.write(make_trained("point_np.CNP"), tmp_path / "out", num_samples=1)
    assert written and not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_samples", [0, 2**20 // 48 + 1])
def test_numbers_of_samples_that_no_program_draws(tmp_path, num_samples):
    with pytest.raises(UserError, match=f"num_samples is {num_samples}; .* from 1 to {2**20 // 48}"):
        export.write(make_trained("point_np.CNP"), tmp_path / "out", num_samples=num_samples)
    assert not list(tmp_path.iterdir())
