import numpy as np
import pytest

from ifanp_jax.data import sources
from ifanp_jax.errors import UserError
from tests.data.sources.data import make_config, random_images


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
        dataset = sources.load(make_config(tmp_path, source="arrays", dir=place))
        np.testing.assert_array_equal(dataset.train, train)
        np.testing.assert_array_equal(dataset.evaluation, test)
        assert dataset.name == place.stem  # and not digits
    assert isinstance(sources.load(make_config(tmp_path, source="arrays", dir=layouts[0])).train, np.memmap)
    config = make_config(
        tmp_path, source="arrays", dir=layouts[0], image_size=3, channels=1, max_train_images=2
    )
    assert sources.load(config).train.shape == (2, 3, 3, 1)


def test_arrays_grey_without_channel_axis(tmp_path):
    np.savez(tmp_path / "a.npz", train=random_images(4, 5, 5), test=random_images(2, 5, 5))
    assert sources.load(make_config(tmp_path, source="arrays", dir=tmp_path / "a.npz")).train.shape == (
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
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path))
    assert "train" in str(caught.value)


def test_arrays_missing_or_damaged(tmp_path):
    with pytest.raises(UserError, match=r"data\.dir is empty"):
        sources.load(make_config(tmp_path, source="arrays"))
    with pytest.raises(UserError, match="which does not exist"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path / "none"))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"must be a folder or an \.npz file"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path / "a.txt"))
    with pytest.raises(UserError, match="holds no array"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path))
    np.savez(tmp_path / "x.npz", one=np.zeros(1), two=np.zeros(1))
    with pytest.raises(UserError, match=r"no array 'train' in .* holds x\.npz \(one, two\)"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path))
    with pytest.raises(UserError, match=r"no array 'train' in .* holds one, two"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path / "x.npz"))
    for content in (b"", b"abc", b"\x93NUMPY\x01\x00"):
        (tmp_path / "train.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"train\.npy is damaged"):
            sources.load(make_config(tmp_path, source="arrays", dir=tmp_path))
    (tmp_path / "train.npy").unlink()
    np.savez(tmp_path / "train.npz", random_images(4, 5, 5))
    (tmp_path / "train.npz").write_bytes((tmp_path / "train.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"train\.npz is damaged"):
        sources.load(make_config(tmp_path, source="arrays", dir=tmp_path))
