"""TFDS as a source; a fake stands in for its builder where a data set would have to be downloaded."""

import importlib.util
import io
import types

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image
from tensorflow_datasets.core import features

from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from tests.data.sources.data import make_config, random_images
from tests.helpers import ROOT

TFDS_DIR = ROOT.parent / "shared/data/tfds"
needs_mnist = pytest.mark.skipif(not (TFDS_DIR / "mnist").is_dir(), reason="the shared MNIST is not here")


@needs_mnist
def test_mnist_is_read_without_tensorflow(tmp_path, monkeypatch):
    config = make_config(
        tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, max_train_images=1030, max_eval_images=7
    )
    dataset = sources.load(config)
    assert dataset.train.shape == (1030, 28, 28, 1) and dataset.evaluation.shape == (7, 28, 28, 1)
    source = tensorflow_datasets.data_source("mnist", data_dir=str(TFDS_DIR), split="train")
    for index in (0, 1, 1023, 1024, 1029):
        np.testing.assert_array_equal(dataset.train[index], source[index]["image"])


@needs_mnist
def test_mnist_with_a_recipe_and_a_slice(tmp_path):
    config = make_config(tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, image_size=14, channels=3)
    config.update({"train_split": "train[:5]", "eval_split": "train[5:8]"})
    dataset = sources.load(config)
    assert dataset.train.shape == (5, 14, 14, 3) and dataset.evaluation.shape == (3, 14, 14, 3)


@needs_mnist
@pytest.mark.parametrize("split", ["validation", "train[:5", "train[:0]"])
def test_unknown_split(tmp_path, split):
    config = make_config(tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, eval_split=split)
    with pytest.raises(UserError, match=r"no split .* but train, test|is empty"):
        sources.load(config)


@pytest.mark.parametrize("name", ["no_such_data", "", "../x", "mnist:9.9.9", "mnist/other"])
def test_unknown_name(tmp_path, name):
    with pytest.raises(UserError, match="TFDS has no data set") as caught:
        sources.load(make_config(tmp_path, source="tfds", name=name, dir=tmp_path))
    assert len(str(caught.value)) < 400


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="which is not a folder"):
        sources.load(make_config(tmp_path, source="tfds", name="mnist", dir=tmp_path / "none"))


def encode(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class FakeBuilder:
    """What a `DatasetBuilder` does for a source: one list of images for every split."""

    name = "fake"
    url_infos = None

    def __init__(self, root, images, *, is_prepared=True, file_format="array_record"):
        self.data_dir_root, self.data_path = root, root / "fake" / "1.0.0"
        self.images, self.file_format, self.prepared = images, file_format, is_prepared
        if is_prepared:
            self.data_path.mkdir(parents=True)
        splits = {name: types.SimpleNamespace(num_examples=len(images)) for name in ("train", "test")}
        self.info = types.SimpleNamespace(
            features={"image": features.Image()},
            splits=splits,
            file_format=types.SimpleNamespace(value=file_format),
        )

    def is_prepared(self):
        return self.prepared

    def as_data_source(self, split, decoders):
        if self.file_format != "array_record":
            raise NotImplementedError("no random access")
        return self

    def __getitems__(self, indices):
        return [{"image": encode(self.images[index])} for index in indices]


@pytest.fixture
def load_fake(tmp_path, monkeypatch):
    """Loads images from a fake builder, which is told what `FakeBuilder` is."""

    def load(images, *, has_tensorflow=False, change=lambda builder: None, **arguments):
        builder = FakeBuilder(tmp_path / "root", images, **arguments)
        change(builder)
        monkeypatch.setattr(tensorflow_datasets, "builder", lambda *_, **__: builder)
        find_spec = importlib.util.find_spec
        known = {"tensorflow": object() if has_tensorflow else None}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: known.get(name, find_spec(name)))
        (tmp_path / "root").mkdir(exist_ok=True)
        return sources.load(make_config(tmp_path, source="tfds", name="fake", dir=tmp_path / "root"))

    return load


def test_the_order_is_kept(load_fake):
    images = random_images(9, 4, 4, 3)
    np.testing.assert_array_equal(load_fake(images).train, images)


def test_what_pictures_lose_is_said(load_fake, caplog):
    assert load_fake(random_images(6, 4, 8, 4)).train.shape[1:] == (4, 4, 3)
    assert "Cropped 12 of 12 pictures" in caplog.text and "transparency of 12 of 12 pictures" in caplog.text


def test_pictures_of_several_sizes_are_refused(load_fake):
    images = random_images(2, 4, 4, 3)
    with pytest.raises(UserError, match="pictures of fake have different shapes"):
        load_fake([images[0], images[1][:3]])


def test_a_data_set_without_images_is_refused(load_fake):
    def change(builder):
        builder.info.features = {"text": None, "label": None}

    with pytest.raises(UserError, match="'fake' has no image feature called 'image' but text, label"):
        load_fake(random_images(2, 4, 4, 3), change=change)


def test_a_format_that_needs_tensorflow_says_so(load_fake):
    with pytest.raises(UserError, match=r"as tfrecord, which only TensorFlow reads: run `pip install"):
        load_fake(random_images(2, 4, 4, 3), file_format="tfrecord")


def test_not_prepared_names_the_extra_and_the_command(load_fake, tmp_path):
    with pytest.raises(
        UserError, match=r"pip install 'ifanp_jax\[prepare\]'.*download_and_prepare\(\)"
    ) as caught:
        load_fake([], is_prepared=False)
    assert str(tmp_path) in str(caught.value)


def test_preparing_that_fails_is_told_and_leaves_nothing_unfinished(load_fake, tmp_path):
    def change(builder):
        def prepare():
            (root / "downloads" / "part.tmp.1").mkdir(parents=True)
            (root / "downloads" / "part.tmp.1" / "half").write_text("")
            (root / "downloads" / "whole").write_text("")
            (builder.data_path.parent / "1.0.0.incompleteX").mkdir(parents=True)
            raise OSError("the disk is full\nmore lines")

        builder.download_and_prepare = prepare

    root = tmp_path / "root"
    (root / "downloads" / "other.tmp.2").mkdir(parents=True)  # of another process
    with pytest.raises(UserError, match=r"could not be prepared under .* \(the disk is full\)"):
        load_fake([], is_prepared=False, has_tensorflow=True, change=change)
    left = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert left == {"downloads", "downloads/whole", "downloads/other.tmp.2"}


def test_preparing_without_network_fails_at_once(load_fake, tmp_path):
    def change(builder):
        builder.url_infos = {"https://name.invalid/file": None}
        builder.download_and_prepare = None  # not even tried

    with pytest.raises(UserError, match=r"\(name\.invalid cannot be reached"):
        load_fake([], is_prepared=False, has_tensorflow=True, change=change)
    assert not list((tmp_path / "root").iterdir())


def test_what_tensorflow_reads_is_what_is_read_without_it(tmp_path):
    pytest.importorskip("tensorflow")
    images = random_images(40, 4, 4, 3)

    class SomePictures(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(
                features=features.FeaturesDict({"image": features.Image(shape=(4, 4, 3))})
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0), "test": self._generate_examples(20)}

        def _generate_examples(self, first):
            for index in range(first, first + 20):
                yield index, {"image": images[index]}

    loaded = []
    for file_format in ("tfrecord", "array_record"):
        root = tmp_path / file_format
        root.mkdir()
        builder = tensorflow_datasets.builder("some_pictures", data_dir=root, file_format=file_format)
        builder.download_and_prepare()
        loaded.append(sources.load(make_config(tmp_path, source="tfds", name="some_pictures", dir=root)))
    np.testing.assert_array_equal(loaded[0].train, loaded[1].train)
    np.testing.assert_array_equal(loaded[0].evaluation, loaded[1].evaluation)
    np.testing.assert_array_equal(np.sort(loaded[0].train, axis=0), np.sort(images[:20], axis=0))
