import numpy as np
import pytest
from PIL import Image

from ifanp_jax.data import image_ops, sources
from ifanp_jax.data.sources import folder
from ifanp_jax.errors import UserError
from tests.data.sources.data import make_config, random_images, write_pictures


def test_folder_reads_recursively_in_order(tmp_path):
    root = tmp_path / "pictures"
    images = write_pictures(root, 12, 6, 8, 3)
    (root / "below").mkdir()
    Image.fromarray(images[0]).save(root / "below" / "X.PNG")
    (root / ".hidden.png").write_text("")
    (root / "notes.txt").write_text("")
    names = image_ops.list_pictures(root)
    assert names == [f"{number:06d}.png" for number in range(1, 13)] + ["below/X.PNG"]

    dataset = sources.load(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.3))
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
        dataset = sources.load(config)
        assert len(dataset.train) + len(dataset.evaluation) == 10
        assert sorted(line.split(":")[0] for line in dataset.skipped) == ["cut.png", "small.png"]
        assert any("does not fit" in line for line in dataset.skipped)


def test_folder_cache_follows_the_files(tmp_path, monkeypatch):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 4, 3)
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4)
    sources.load(config)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "000001.png")
    dataset = sources.load(config)
    assert any((image == 0).all() for image in [*dataset.train, *dataset.evaluation])
    monkeypatch.setattr(folder, "_read_parts", None)
    sources.load(config)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_folder_channels(tmp_path, channels):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 4)
    config = make_config(tmp_path, source="folder", dir=root, channels=channels, eval_fraction=0.4)
    assert sources.load(config).train.shape[-1] == (channels or 1)
    Image.fromarray(random_images(4, 4, 4)).save(root / "colour.png")
    assert sources.load(config).train.shape[-1] == (channels or 3)


def test_folder_limits_count_only_good_pictures(tmp_path):
    root = tmp_path / "pictures"
    write_pictures(root, 20, 4, 4, 3)
    first = folder.split_by_hash(image_ops.list_pictures(root), 0.3)[0][0]
    (root / first).write_text("broken")
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.3, max_train_images=3)
    dataset = sources.load(config)
    assert len(dataset.train) == 3 and len(dataset.skipped) == 1


def test_folder_errors(tmp_path):
    root = tmp_path / "pictures"
    for missing in ("", str(tmp_path / "none")):
        with pytest.raises(UserError, match="must be a folder of pictures"):
            sources.load(make_config(tmp_path, source="folder", dir=missing))
    root.mkdir()
    with pytest.raises(UserError, match="no picture below"):
        sources.load(make_config(tmp_path, source="folder", dir=root))
    for name in ("a.png", "b.png"):
        (root / name).write_text("x")
    with pytest.raises(UserError, match="None of the 2 pictures below"):
        sources.load(make_config(tmp_path, source="folder", dir=root))
    for name in ("a.png", "b.png"):
        (root / name).unlink()
    write_pictures(root, 3, 4, 4, 3)
    Image.fromarray(random_images(5, 5, 3)).save(root / "larger.png")
    with pytest.raises(UserError, match=r"different sizes .* \(4, 4\) and \(5, 5\)"):
        sources.load(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.5))


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
        dataset = sources.load(config)
        np.testing.assert_array_equal(dataset.train, images[:2])
        np.testing.assert_array_equal(dataset.evaluation, images[number - 1 : number])
        assert dataset.skipped == ("img_align_celeba/000005.png: not in the partition file",)
    with pytest.raises(UserError, match="must be one of val, validation, test"):
        sources.load(make_config(tmp_path, source="folder", dir=root, partition_file=path, eval_split="eval"))
    path.write_text("000001.png 0\n000002.png 0\n")
    with pytest.raises(UserError, match=r"gives 2 of 5 pictures to train \(0\) and 0 to test \(2\)"):
        sources.load(make_config(tmp_path, source="folder", dir=root, partition_file=path))
    path.write_text("000001.png 0\n000002.png 3\n")
    with pytest.raises(UserError, match=r"Line 2 of .* is '000002.png 3'"):
        sources.load(make_config(tmp_path, source="folder", dir=root, partition_file=path))
    with pytest.raises(UserError, match="which does not exist"):
        sources.load(make_config(tmp_path, source="folder", dir=root, partition_file=tmp_path / "none.txt"))


def test_sub_folders_are_the_splits(tmp_path):
    root = tmp_path / "pictures"
    train = write_pictures(root / "train", 3, 4, 4, 3)
    held_out = write_pictures(root / "val", 2, 4, 4, 3)
    Image.fromarray(train[0]).save(root / "loose.png")
    dataset = sources.load(make_config(tmp_path, source="folder", dir=root, eval_split="val"))
    np.testing.assert_array_equal(dataset.train, train)
    np.testing.assert_array_equal(dataset.evaluation, held_out)
    assert dataset.skipped == ("loose.png: neither in train nor in val",)
    # Without the folder of the other split they are pictures like all others.
    assert len(sources.load(make_config(tmp_path, source="folder", dir=root, eval_split="x")).train) < 6


def test_pictures_of_any_size_are_cut_into_tiles(tmp_path):
    root = tmp_path / "pictures"
    wide, tall = random_images(4, 9, 3), random_images(9, 4, 3)
    (root / "train").mkdir(parents=True)
    (root / "val").mkdir()
    for name, image in (("train/wide", wide), ("val/tall", tall), ("val/small", random_images(3, 9, 3))):
        Image.fromarray(image).save(root / f"{name}.png")
    config = make_config(tmp_path, source="folder", dir=root, eval_split="val", tile_size=4)
    for _ in range(2):  # decoded, then from the cache
        dataset = sources.load(config)
        np.testing.assert_array_equal(dataset.train, [wide[:, left : left + 4] for left in (2, 0, 5)])
        np.testing.assert_array_equal(dataset.evaluation, [tall[top : top + 4] for top in (2, 0, 5)])
        (reason,) = dataset.skipped
        assert "small.png" in reason and "3x9 pixels, which is less than data.tile_size, 4" in reason


@pytest.mark.parametrize("image_size", [0, 4])
def test_small_or_reduced_pictures_stay_whole(tmp_path, caplog, image_size):
    caplog.set_level("INFO")
    root = tmp_path / "pictures"
    images = write_pictures(root, 6, 8, 20, 3)
    size = {"image_size": image_size, "tile_size": 64, "eval_fraction": 0.4}
    dataset = sources.load(make_config(tmp_path, source="folder", dir=root, **size))
    side = image_size or 8
    expected = image_ops.resize_area(images, side, side * 5 // 2)
    found = np.concatenate([dataset.train, dataset.evaluation])
    assert found.shape == (18, side, side, 3)  # three squares of each, which overlap
    for image in expected:  # both ends of every picture are among them
        for end in (image[:, :side], image[:, -side:]):
            assert (found == end).all(axis=(1, 2, 3)).any()
    assert f"squares of {side}x{side} pixels" in caplog.text and "Cropped" not in caplog.text


def test_lost_transparency_and_16_bits_are_said(tmp_path, caplog):
    root = tmp_path / "pictures"
    write_pictures(root, 4, 4, 4, 4)
    for number in range(2):
        Image.fromarray(np.full((4, 4), 300 * number, np.uint16)).save(root / f"deep{number}.png")
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4)
    for _ in range(2):  # decoded, then from the cache
        sources.load(config)
        assert "transparency of 4 of 6 pictures" in caplog.text
        assert "2 of 6 pictures" in caplog.text and "from 16 bits to 8" in caplog.text
        caplog.clear()


def test_what_is_cropped_away_unasked_is_said(tmp_path, caplog):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 8, 3)
    config = make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4)
    for _ in range(2):  # decoded, then from the cache
        sources.load(config)
        assert "Cropped 6 of 6 pictures" in caplog.text and "up to 50 % of the pixels" in caplog.text
        caplog.clear()
    for asked in ({"crop_size": 4}, {"tile_size": 4}, {"crop_box": (0, 0, 4, 4)}):
        sources.load(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4, **asked))
    assert "Cropped" not in caplog.text


@pytest.mark.parametrize(("size", "said"), [({"image_size": 6}, "1.5"), ({"image_size": 4}, ""), ({}, "")])
def test_what_is_enlarged_is_said(tmp_path, caplog, size, said):
    root = tmp_path / "pictures"
    write_pictures(root, 6, 4, 8, 3)
    for tile in ({}, {"tile_size": 4}):
        sources.load(make_config(tmp_path, source="folder", dir=root, eval_fraction=0.4, **size, **tile))
        assert ("Enlarged 6 of 6 pictures" in caplog.text) == bool(said)
        assert f"by up to {said} times, to config.data.image_size=6;" in caplog.text or not said
        caplog.clear()


def test_data_are_called_by_their_name_or_by_the_folder(tmp_path):
    write_pictures(tmp_path / "holidays", 6, 4, 4, 3)
    config = make_config(tmp_path, source="folder", dir=tmp_path / "holidays", eval_fraction=0.4)
    assert sources.load(config).name == "holidays"
    config.name = "mine"
    assert sources.load(config).name == "mine"
