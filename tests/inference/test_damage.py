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

KERNEL = "encoder/Dense_0/kernel"  # (5, 8)
CNP = {"name": "point_np.CNP"}


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
    assert "\n" not in message
    assert all(part in message for part in (str(folder), *parts)), (message, parts)


def test_missing_files(tmp_path):
    (tmp_path / store.PROGRAM_NAME).write_bytes(b"a program")
    assert_refused(tmp_path, "model.safetensors is missing")
    assert_refused(tmp_path / "nowhere", "holds no run")


def test_other_headers(exported, tmp_path):
    cases = [
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
        ({"config": {"model": CNP | {"nope": 1}}}, "config.model.nope is no field"),
        ({"config": {"model": CNP | {"width": "wide"}}}, "describes no model"),
        ({"config": {"model": {"name": "image_np.IFANP", "gca_heads": 0}}}, "describes no model"),
    ]
    for number, (fields, message) in enumerate(cases):
        assert_refused(copy_with(exported, tmp_path / str(number), **fields), "model.safetensors", message)
    for number, metadata in enumerate((None, {"format": "pt"}, {"format": "1"})):  # of other programs
        content = safetensors.numpy.save({"x": np.zeros(2)}, metadata=metadata)
        assert_refused(copy_as(content, tmp_path / f"other{number}"), "has format", "reads 1")


def test_what_an_older_header_does_not_say_of_a_variant_is_not_missed(exported, tmp_path):
    folder = copy_with(exported, tmp_path, model=CNP)
    assert ifanp_jax.load(folder).module == make_trained("point_np.CNP").module


def test_tensors_that_do_not_fit(exported, tmp_path):
    other = export_all(tmp_path, ("point_np.NP",)) / "point_np.NP" / store.FILE_NAME
    cases = {
        f"{KERNEL} is missing, not float32[5, 8]": lambda x: x.pop(KERNEL),
        "stray is float32[2], not in the model": lambda x: x.update(stray=np.zeros(2, np.float32)),
        f"{KERNEL} is float32[8, 5], not float32[5, 8]": lambda x: x.update(
            {KERNEL: x[KERNEL].reshape(8, 5)}
        ),
        f"{KERNEL} is float16[5, 8], not float32": lambda x: x.update({KERNEL: x[KERNEL].astype(np.float16)}),
        "and": lambda x: x.clear(),
        "not in the model": lambda x: x.update(safetensors.numpy.load_file(other)),
    }
    for number, (message, change) in enumerate(cases.items()):
        folder = copy_with(exported, tmp_path / str(number), tensors=change)
        assert_refused(folder, "model.safetensors does not fit", message)
    for value in (np.nan, np.inf):
        change = lambda x, value=value: x[KERNEL].__setitem__((0, 0), value)  # noqa: E731
        folder = copy_with(exported, tmp_path / str(value), tensors=change)
        assert_refused(folder, f"values of {KERNEL} that are not finite")


def test_a_file_that_is_cut_off_or_changed(exported, tmp_path):
    content = exported.read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        assert_refused(copy_as(content[:length], tmp_path / str(length)), "model.safetensors cannot be read")
    flipped = bytearray(content)
    flipped[-10] ^= 1  # inside the values: names and shapes are as they were
    arrays, record = safetensors.numpy.load_file(exported), store.read_record(exported)
    changed = [
        safetensors.numpy.save(arrays, metadata=record | {x: "another"}) for x in ("licence", "sha256")
    ]
    for number, damaged in enumerate((flipped, *changed)):
        folder = copy_as(damaged, tmp_path / f"damaged{number}")
        assert_refused(folder, "model.safetensors is damaged", "SHA-256")


def test_a_used_output_is_left_as_it_is_and_an_empty_one_is_used(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    model = make_trained("point_np.CNP")
    for name, message in (("full", "is not empty"), ("file", "cannot be used"), ("file/in", "cannot be")):
        with pytest.raises(UserError, match=f"{tmp_path / name}.*{message}"):
            export.write(model, tmp_path / name, num_samples=1)
    for num_samples in (0, 2**20 // 48 + 1):  # no program draws so many
        with pytest.raises(UserError, match=f"num_samples is {num_samples}; .* from 1 to {2**20 // 48}"):
            export.write(model, tmp_path / "out", num_samples=num_samples)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file"}
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]
    (tmp_path / "out").mkdir()
    export.write(model, tmp_path / "out", num_samples=1)
    assert ifanp_jax.load(tmp_path / "out").step == 7
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "out"}


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
