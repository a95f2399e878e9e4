import importlib.util
import io
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from configs import default
from ifanp_jax.data import sources
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.data.sources import digits, folder, tfds
from ifanp_jax.errors import UserError

SHARED = pathlib.Path(__file__).parents[2].parent / "shared"
TFDS_DIR = SHARED / "data/tfds"
needs_mnist = pytest.mark.skipif(not (TFDS_DIR / "mnist").is_dir(), reason="the shared MNIST is not here")


def make_config(tmp_path, **fields):
    config = default.get_config().data
    config.cache_dir = str(tmp_path / "cache")
    config.update(
        {name: str(value) if isinstance(value, pathlib.Path) else value for name, value in fields.items()}
    )
    return config


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_pictures(root, num_pictures, *shape, suffix="png"):
    root.mkdir(parents=True, exist_ok=True)
    images = random_images(num_pictures, *shape)
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(root / f"{number:06d}.{suffix}")
    return images


# Common rules


def test_unknown_source_and_negative_limit(tmp_path):
    with pytest.raises(
        UserError, match=r"data\.source is 'web' but must be one of digits, tfds, folder, arrays"
    ):
        sources.get(make_config(tmp_path, source="web"))
    with pytest.raises(UserError, match=r"data\.max_eval_images is -1"):
        sources.get(make_config(tmp_path, max_eval_images=-1))


@pytest.mark.parametrize("source", ["tfds", "arrays"])
def test_equal_splits_are_refused(tmp_path, source):
    with pytest.raises(UserError, match="both 'train' but evaluation must be held out"):
        sources.get(make_config(tmp_path, source=source, eval_split="train"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": -1}, "image_size is -1"),
        ({"crop_size": -2}, "crop_size is -2"),
        ({"channels": 2}, "channels is 2"),
        ({"crop_box": (0, 0, 4)}, "must be .top, left, height, width."),
        ({"crop_box": (0, 0, 4, 4), "crop_size": 4}, "set only one"),
        ({"crop_size": 9}, "9x9 central crop does not fit"),
    ],
)
def test_bad_recipes(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        sources.get(make_config(tmp_path, **fields))


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        (
            np.zeros((2, 4, 4, 1), np.float32),
            np.zeros((2, 4, 4, 1), np.uint8),
            "train images of x are float32",
        ),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 4, 4), np.uint8), "evaluation images of x are uint8"),
        (np.zeros((0, 4, 4, 1), np.uint8), np.zeros((2, 4, 4, 1), np.uint8), "at least one image"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 5, 4, 1), np.uint8), "both must be equal"),
    ],
)
def test_check(train, evaluation, message):
    with pytest.raises(UserError, match=message):
        sources.check(Dataset(name="x", train=train, evaluation=evaluation))


# Digits


def test_digits_are_all_there_once(tmp_path):
    from sklearn.datasets import load_digits

    dataset = sources.get(make_config(tmp_path))
    assert dataset.train.shape == (1497, 8, 8, 1) and dataset.evaluation.shape == (300, 8, 8, 1)
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8).reshape(1797, 64)
    together = np.concatenate([dataset.train, dataset.evaluation]).reshape(1797, 64)
    np.testing.assert_array_equal(np.sort(together, axis=0), np.sort(expected, axis=0))
    assert sorted(map(bytes, together)) == sorted(map(bytes, expected))


def test_digits_split_never_changes():
    order = np.argsort(np.random.PCG64(digits.SPLIT_SEED).random_raw(1797), kind="stable")
    assert list(order[:5]) == [855, 921, 269, 1185, 11]


def test_digits_limits_and_recipe(tmp_path):
    config = make_config(tmp_path, max_train_images=10, max_eval_images=5, image_size=4, channels=3)
    dataset = sources.get(config)
    assert dataset.train.shape == (10, 4, 4, 3) and dataset.evaluation.shape == (5, 4, 4, 3)


# TFDS


@needs_mnist
def test_mnist_is_read_without_tensorflow(tmp_path, monkeypatch):
    config = make_config(
        tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, max_train_images=1030, max_eval_images=7
    )
    dataset = sources.get(config)
    assert dataset.train.shape == (1030, 28, 28, 1) and dataset.evaluation.shape == (7, 28, 28, 1)

    import tensorflow_datasets

    source = tensorflow_datasets.data_source("mnist", data_dir=str(TFDS_DIR), split="train")
    for index in (0, 1, 1023, 1024, 1029):
        np.testing.assert_array_equal(dataset.train[index], source[index]["image"])

    monkeypatch.setattr(tfds, "_read", None)
    again = sources.get(config)
    np.testing.assert_array_equal(again.train, dataset.train)


@needs_mnist
def test_mnist_with_a_recipe_and_a_slice(tmp_path):
    config = make_config(tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, image_size=14, channels=3)
    config.update({"train_split": "train[:5]", "eval_split": "train[5:8]"})
    dataset = sources.get(config)
    assert dataset.train.shape == (5, 14, 14, 3) and dataset.evaluation.shape == (3, 14, 14, 3)


@needs_mnist
@pytest.mark.parametrize("split", ["validation", "train[:5", "train[:0]"])
def test_tfds_unknown_split(tmp_path, split):
    config = make_config(tmp_path, source="tfds", name="mnist", dir=TFDS_DIR, eval_split=split)
    with pytest.raises(UserError, match=r"no split .* but train, test|is empty"):
        sources.get(config)


@pytest.mark.parametrize("name", ["no_such_data", "", "../x", "mnist:9.9.9"])
def test_tfds_unknown_name(tmp_path, name):
    with pytest.raises(UserError, match="TFDS has no data set") as caught:
        sources.get(make_config(tmp_path, source="tfds", name=name, dir=tmp_path))
    assert len(str(caught.value)) < 300


def test_tfds_missing_folder(tmp_path):
    with pytest.raises(UserError, match="which is not a folder"):
        sources.get(make_config(tmp_path, source="tfds", name="mnist", dir=tmp_path / "none"))


def test_tfds_not_prepared_names_the_extra_and_the_command(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name)
    )
    with pytest.raises(
        UserError, match=r"pip install 'ifanp_jax\[prepare\]'.*download_and_prepare\(\)"
    ) as caught:
        sources.get(make_config(tmp_path, source="tfds", name="cifar10", dir=tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_tfds_prepares_with_tensorflow_and_reports_failure(tmp_path, monkeypatch):
    def fail():
        raise OSError("no network\nmore lines")

    builder = types.SimpleNamespace(download_and_prepare=fail)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=r"could not be prepared under somewhere \(no network\)"):
        tfds._prepare(builder, "cifar10", "somewhere")


def test_tfds_without_images():
    builder = types.SimpleNamespace(
        name="texts", info=types.SimpleNamespace(features={"text": None, "label": None})
    )
    with pytest.raises(UserError, match="'texts' has no image feature called 'image' but text, label"):
        tfds._check_has_image(builder)


class FakeSource:
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitems__(self, indices):
        examples = []
        for index in indices:
            buffer = io.BytesIO()
            Image.fromarray(self.images[index]).save(buffer, "PNG")
            examples.append({"image": buffer.getvalue()})
        return examples


def test_tfds_keeps_the_order_and_refuses_mixed_sizes():
    from ifanp_jax.data import pictures

    images = random_images(9, 4, 4, 3)
    read = tfds._read(FakeSource(list(images)), 0, pictures.Recipe(), "x")
    np.testing.assert_array_equal(read, images)
    with pytest.raises(UserError, match="pictures of x have different shapes"):
        tfds._read(FakeSource([images[0], images[1][:3]]), 0, pictures.Recipe(), "x")


# Folder


def test_folder_reads_recursively_in_order(tmp_path):
    root = tmp_path / "pictures"
    images = write_pictures(root, 12, 6, 8, 3)
    (root / "below").mkdir()
    Image.fromarray(images[0]).save(root / "below" / "X.PNG")
    (root / ".hidden.png").write_text("")
    (root / "notes.txt").write_text("")
    names = folder.list_pictures(root)
    assert names == [f"{number:06d}.png" for number in range(1, 13)] + ["below/X.PNG"]

    dataset = sources.get(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.3))
    train_names, eval_names = folder.split_by_hash(names, 0.3)
    assert dataset.train.shape == (len(train_names), 6, 6, 3)
    for name, image in zip(train_names + eval_names, [*dataset.train, *dataset.evaluation], strict=True):
        original = images[0] if name == "below/X.PNG" else images[int(name[:6]) - 1]
        np.testing.assert_array_equal(image, original[:, 1:7])
    assert dataset.skipped == ()


def test_folder_skips_and_names_what_it_cannot_read(tmp_path):
    root = tmp_path / "pictures"
    write_pictures(root, 10, 8, 8, 3)
    whole = (root / "000001.png").read_bytes()
    (root / "cut.png").write_bytes(whole[:100])
    Image.fromarray(random_images(3, 3, 3)).save(root / "small.png")
    config = make_config(tmp_path, source="folder", dir=root, crop_size=6, eval_fraction=0.4)
    for _ in range(2):  # decoded, then from the cache
        dataset = sources.get(config)
        assert len(dataset.train) + len(dataset.evaluation) == 10
        assert sorted(line.split(":")[0] for line in dataset.skipped) == ["cut.png", "small.png"]
        assert any("does not fit" in line for line in dataset.skipped)


def test_folder_cache_follows_the_files(tmp_path, monkeypatch):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 4, 3)
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4)
    sources.get(config)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "000001.png")
    dataset = sources.get(config)
    assert any((image == 0).all() for image in [*dataset.train, *dataset.evaluation])
    monkeypatch.setattr(folder, "_read_parts", None)
    sources.get(config)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_folder_channels(tmp_path, channels):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 4)
    config = make_config(tmp_path, source="folder", dir=root, channels=channels, eval_fraction=0.4)
    assert sources.get(config).train.shape[-1] == (channels or 1)
    Image.fromarray(random_images(4, 4, 4)).save(root / "colour.png")
    assert sources.get(config).train.shape[-1] == (channels or 3)


def test_folder_limits_count_only_good_pictures(tmp_path):
    root = tmp_path / "pictures"
    write_pictures(root, 20, 4, 4, 3)
    first = folder.split_by_hash(folder.list_pictures(root), 0.3)[0][0]
    (root / first).write_text("broken")
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.3, max_train_images=3)
    dataset = sources.get(config)
    assert len(dataset.train) == 3 and len(dataset.skipped) == 1


def test_folder_errors(tmp_path):
    root = tmp_path / "pictures"
    for missing in ("", str(tmp_path / "none")):
        with pytest.raises(UserError, match="must be a folder of pictures"):
            sources.get(make_config(tmp_path, source="folder", dir=missing))
    root.mkdir()
    with pytest.raises(UserError, match="no picture below"):
        sources.get(make_config(tmp_path, source="folder", dir=root))
    for name in ("a.png", "b.png"):
        (root / name).write_text("x")
    with pytest.raises(UserError, match="None of the 2 pictures below"):
        sources.get(make_config(tmp_path, source="folder", dir=root))
    for name in ("a.png", "b.png"):
        (root / name).unlink()
    write_pictures(root, 3, 4, 4, 3)
    Image.fromarray(random_images(5, 5, 3)).save(root / "larger.png")
    with pytest.raises(UserError, match=r"different sizes .* \(4, 4\) and \(5, 5\)"):
        sources.get(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.5))


def test_split_by_hash_is_stable_and_has_a_floor():
    names = [f"{number}.jpg" for number in range(2000)]
    train, held_out = folder.split_by_hash(names, 0.1)
    assert sorted(train + held_out) == sorted(names) and 150 < len(held_out) < 250
    fewer = folder.split_by_hash(names[::2], 0.1)
    assert set(fewer[0]) <= set(train) and set(fewer[1]) <= set(held_out)
    for fraction in (1e-9, 1 - 1e-9):
        assert min(map(len, folder.split_by_hash(names[:2], fraction))) == 1
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="must lie between 0 and 1"):
            folder.split_by_hash(names, fraction)
    with pytest.raises(UserError, match="only 1 picture"):
        folder.split_by_hash(names[:1], 0.1)


def test_partition_file(tmp_path):
    root = tmp_path / "pictures"
    images = write_pictures(root / "img_align_celeba", 5, 4, 4, 3)
    path = tmp_path / "list_eval_partition.txt"
    path.write_text("000001.jpg 0\n000001.png 0\n000002.png 0\n000003.png 1\n000004.png 2\n999999.png 0\n")
    for split, number in (("val", 3), ("validation", 3), ("test", 4)):
        config = make_config(tmp_path, source="folder", dir=root, partition_file=path, eval_split=split)
        dataset = sources.get(config)
        np.testing.assert_array_equal(dataset.train, images[:2])
        np.testing.assert_array_equal(dataset.evaluation, images[number - 1 : number])
        assert dataset.skipped == ("img_align_celeba/000005.png: not in the partition file",)
    with pytest.raises(UserError, match="must be one of val, validation, test"):
        sources.get(make_config(tmp_path, source="folder", dir=root, partition_file=path, eval_split="eval"))
    path.write_text("000001.png 0\n000002.png 0\n")
    with pytest.raises(UserError, match=r"gives 2 of 5 pictures to train \(0\) and 0 to test \(2\)"):
        sources.get(make_config(tmp_path, source="folder", dir=root, partition_file=path))
    path.write_text("000001.png 0\n000002.png 3\n")
    with pytest.raises(UserError, match=r"Line 2 of .* is '000002.png 3'"):
        sources.get(make_config(tmp_path, source="folder", dir=root, partition_file=path))
    with pytest.raises(UserError, match="which does not exist"):
        sources.get(make_config(tmp_path, source="folder", dir=root, partition_file=tmp_path / "none.txt"))


# Arrays


def test_arrays_from_npy_npz_and_one_archive(tmp_path):
    train, test = random_images(5, 6, 8, 3), random_images(3, 6, 8, 3, seed=1)
    layouts = [tmp_path / name for name in ("npy", "stems", "keys")]
    for layout in layouts:
        layout.mkdir()
    np.save(layouts[0] / "train.npy", train)
    np.save(layouts[0] / "test.npy", test)
    np.savez(layouts[1] / "train.npz", train)
    np.savez_compressed(layouts[1] / "test.npz", images=test)
    np.savez(layouts[2] / "all.npz", train=train, test=test)
    for place in (*layouts, layouts[2] / "all.npz"):
        dataset = sources.get(make_config(tmp_path, source="arrays", dir=place))
        np.testing.assert_array_equal(dataset.train, train)
        np.testing.assert_array_equal(dataset.evaluation, test)
    assert isinstance(sources.get(make_config(tmp_path, source="arrays", dir=layouts[0])).train, np.memmap)
    config = make_config(
        tmp_path, source="arrays", dir=layouts[0], image_size=3, channels=1, max_train_images=2
    )
    assert sources.get(config).train.shape == (2, 3, 3, 1)


def test_arrays_grey_without_channel_axis(tmp_path):
    np.savez(tmp_path / "a.npz", train=random_images(4, 5, 5), test=random_images(2, 5, 5))
    assert sources.get(make_config(tmp_path, source="arrays", dir=tmp_path / "a.npz")).train.shape == (
        4,
        5,
        5,
        1,
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 5, 1), np.float32), "has dtype float32 but must be uint8"),
        (np.zeros((4, 5), np.uint8), r"has shape \(4, 5\) but must be"),
        (np.zeros((4, 5, 5, 2), np.uint8), "1 .grey. or 3 .RGB. channels"),
        (np.zeros((0, 5, 5, 1), np.uint8), "at least one image"),
        (np.array([{}], dtype=object), "pickled objects"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_refused(tmp_path, array, message, suffix):
    place = tmp_path / f"train.{suffix}"
    np.save(place, array) if suffix == "npy" else np.savez(place, train=array)
    with pytest.raises(UserError, match=message) as caught:
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path))
    assert "train" in str(caught.value)


def test_arrays_missing_or_damaged(tmp_path):
    with pytest.raises(UserError, match=r"data\.dir is empty"):
        sources.get(make_config(tmp_path, source="arrays"))
    with pytest.raises(UserError, match="which does not exist"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path / "none"))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"must be a folder or an \.npz file"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path / "a.txt"))
    with pytest.raises(UserError, match="holds no array"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path))
    np.savez(tmp_path / "x.npz", one=np.zeros(1), two=np.zeros(1))
    with pytest.raises(UserError, match=r"no array 'train' in .* holds x\.npz \(one, two\)"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path))
    with pytest.raises(UserError, match=r"no array 'train' in .* holds one, two"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path / "x.npz"))
    for content in (b"", b"abc", b"\x93NUMPY\x01\x00"):
        (tmp_path / "train.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"train\.npy is damaged"):
            sources.get(make_config(tmp_path, source="arrays", dir=tmp_path))
    (tmp_path / "train.npy").unlink()
    np.savez(tmp_path / "train.npz", random_images(4, 5, 5))
    (tmp_path / "train.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"train\.npz is damaged"):
        sources.get(make_config(tmp_path, source="arrays", dir=tmp_path))
