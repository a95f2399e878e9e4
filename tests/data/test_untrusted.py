"""Input that nobody vouches for: refused or handled by name, and nothing that is read can run code."""

import ast
import dataclasses
import io
import os
import pathlib
import pickle
import struct
import zipfile
import zlib

import jax
import numpy as np
import pytest
from PIL import Image

from configs import default
from ifanp_jax.completion.files import complete_files
from ifanp_jax.data import image_ops, masks, sources
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import CompletionOptions
from ifanp_jax.training import runs
from tests import helpers, tiny


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
    return sources.load(config)


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
    assert len(contents["bomb.png"]) < 20_000 and 9_000**2 > image_ops.MAX_PIXELS
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
    dataset = sources.load(config)
    images = np.concatenate([dataset.train, dataset.evaluation])[..., 0].astype(int)
    assert len(images) == 4
    assert sum((image == grey).all() for image in images) == 3  # grey, GIF and 16 bits, but for the JPEG
    assert all(np.abs(image - grey).mean() < 20 for image in images)
    skipped = dict(line.split(":", 1) for line in dataset.skipped)
    assert set(skipped) == set(reasons)
    assert all(reasons[name] in f"{name}:{reason}" for name, reason in skipped.items())


def test_odd_pictures_are_completed_or_fail_by_name(odd_pictures, tmp_path):
    folder, grey, reasons = odd_pictures
    run = runs.make(tiny.make_config(**{"model.name": "image_np.IFNP"}), (8, 8, 1))
    run = dataclasses.replace(run, state=run.step.init(jax.random.key(0), (8, 8, 1)))
    observed = np.eye(len(grey), dtype=bool)
    np.save(tmp_path / "mask.npy", observed)
    failures = complete_files(
        run.model,
        input=folder,
        mask=tmp_path / "mask.npy",
        output=tmp_path / "out",
        options=CompletionOptions(num_samples=1),
    )
    failed = {pathlib.Path(path).name: reason for path, reason in failures}
    assert set(failed) == set(reasons)
    assert all(reasons[name] in reason and "\n" not in reason for name, reason in failed.items())
    for stem, step in (("grey", 1), ("frames", 1), ("sixteen", 257)):  # 16 bits stay 16 bits
        mean = np.asarray(Image.open(tmp_path / f"out/{stem}_mean.png"))
        np.testing.assert_array_equal(mean[observed], step * grey[observed].astype(np.uint16))
    assert (tmp_path / "out/cmyk_mean.png").exists()


UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "yaml.load", "torch.load", "pandas.read_pickle", "pd.read_pickle"}
NUMPY_LOADS = {"np.load", "numpy.load", "jnp.load", "np.lib.format.read_array"}


ARRAYS_ONLY = {"metrics/lpips.py"}  # reads pickled arrays and nothing else: see tests/metrics/test_looks.py


def test_nothing_that_is_read_can_run_code():
    package, found = helpers.ROOT / "ifanp_jax", []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if _is_unsafe(node) and not (name in ARRAYS_ONLY and isinstance(node, ast.Import)):
                found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    assert not found


def _is_unsafe(node):
    if isinstance(node, ast.Import):
        return bool({alias.name.split(".")[0] for alias in node.names} & UNSAFE_MODULES)
    if isinstance(node, ast.ImportFrom):
        return node.module.split(".")[0] in UNSAFE_MODULES
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    given = [ast.unparse(word.value) for word in node.keywords if word.arg == "allow_pickle"]
    return name in UNSAFE_CALLS or given not in ([], ["False"]) or (not given and name in NUMPY_LOADS)
