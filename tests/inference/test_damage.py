"""Files that are damaged, foreign, or cannot be written."""

import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy

import ifanp_jax
from ifanp_jax.errors import UserError
from ifanp_jax.inference import export, store
from tests.inference.exports import export_all, make_trained


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The file of an exported model."""
    folder = export_all(tmp_path_factory.mktemp("exports"), ("point_np.CNP",)) / "point_np.CNP"
    return folder / store.FILE_NAME


def copy_with(exported, folder, *, tensors=lambda tensors: None, **fields):
    """An export with other tensors and fields of the header, whose checksum is right."""
    arrays, record = safetensors.numpy.load_file(exported), store.read_record(exported)
    tensors(arrays)
    record |= {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    record["sha256"] = store.hash_all(record, arrays)
    return copy_as(safetensors.numpy.save(arrays, metadata=record), folder)


def copy_as(content, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / store.FILE_NAME).write_bytes(content)
    return folder


def assert_refused(folder, *parts):
    with pytest.raises(UserError) as caught:
        ifanp_jax.load(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    for part in parts:
        assert part in message


def test_missing_files(exported, tmp_path):
    (tmp_path / store.PROGRAM_NAME).write_bytes(b"a program")
    assert_refused(tmp_path, "model.safetensors is missing")
    assert_refused(tmp_path / "nowhere", "holds no run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "2"}, "has format '2'"),
        ({"dtype": "int8"}, "has format"),
        ({"image_shape": [6, 8]}, "image_shape [6, 8]"),
        ({"image_shape": [6, 8, True]}, "image_shape [6, 8, True]"),
        ({"step": "seven"}, "cannot be read"),
        ({"step": 7.5}, "step 7.5"),
        ({"config": "{"}, "cannot be read"),
        ({"config": [1, 2]}, "a configuration"),
        ({"config": {}}, "describes no model"),
        ({"config": {"model": {"name": "point_np.None"}}}, "which is no model"),
        ({"config": {"model": {"name": "point_np.CNP", "nope": 1}}}, "config.model.nope is no field"),
        ({"config": {"model": {"name": "point_np.CNP", "width": "wide"}}}, "describes no model"),
        ({"config": {"model": {"name": "image_np.IFANP", "gca_heads": 0}}}, "describes no model"),
    ],
)
def test_other_headers(exported, tmp_path, fields, message):
    assert_refused(copy_with(exported, tmp_path, **fields), "model.safetensors", message)


def test_a_file_of_another_program(tmp_path):
    for number, metadata in enumerate((None, {"format": "pt"}, {"format": "1"})):
        content = safetensors.numpy.save({"x": np.zeros(2)}, metadata=metadata)
        assert_refused(copy_as(content, tmp_path / str(number)), "has format", "reads 1")


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
        folder = copy_with(exported, tmp_path / str(number), tensors=change)
        assert_refused(folder, "model.safetensors does not fit", message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(exported, tmp_path, value):
    name = "encoder/Dense_0/kernel"
    folder = copy_with(exported, tmp_path, tensors=lambda tensors: tensors[name].__setitem__((0, 0), value))
    assert_refused(folder, f"values of {name} that are not finite")


def test_the_parameters_of_another_model(exported, tmp_path):
    other = export_all(tmp_path, ("point_np.NP",)) / "point_np.NP" / store.FILE_NAME
    arrays = safetensors.numpy.load_file(other)
    folder = copy_with(exported, tmp_path, tensors=lambda tensors: tensors.update(arrays))
    assert_refused(folder, "does not fit", "not in the model")


def test_a_file_that_is_cut_off(exported, tmp_path):
    content = exported.read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        assert_refused(copy_as(content[:length], tmp_path / str(length)), "model.safetensors cannot be read")


def test_one_flipped_bit(exported, tmp_path):
    content = bytearray(exported.read_bytes())
    content[-10] ^= 1  # inside the values: names and shapes are as they were
    assert_refused(copy_as(content, tmp_path), "model.safetensors is damaged", "SHA-256")


@pytest.mark.parametrize("number", ["licence", "sha256"])
def test_a_changed_header(exported, tmp_path, number):
    arrays, record = safetensors.numpy.load_file(exported), store.read_record(exported)
    content = safetensors.numpy.save(arrays, metadata=record | {number: "another"})
    assert_refused(copy_as(content, tmp_path), "model.safetensors is damaged", "SHA-256")


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
