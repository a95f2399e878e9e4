import os
import pathlib
import stat

import numpy as np
import pytest

from ifanp_jax.data import cache

KEY = {"source": "test", "recipe": {"image_size": 4}}


class Builder:
    def __init__(self, value=7):
        self.calls = 0
        self.value = value

    def __call__(self):
        self.calls += 1
        arrays = {
            "train": np.full((3, 4, 4, 1), self.value, np.uint8),
            "evaluation": np.zeros((2, 4, 4, 1), np.uint8),
        }
        return arrays, ("bad.png: truncated",)


def run(builder, directory, *, key=None, state="a"):
    return cache.cached("my data/x", key or KEY, state, builder, cache_dir=str(directory))


def test_second_call_loads_what_the_first_built(tmp_path):
    builder = Builder()
    first, second = run(builder, tmp_path / "c"), run(builder, tmp_path / "c")
    assert builder.calls == 1
    assert first[1] == second[1] == ("bad.png: truncated",)
    for name in ("train", "evaluation"):
        np.testing.assert_array_equal(first[0][name], second[0][name])
        assert second[0][name].dtype == np.uint8
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    (file,) = (tmp_path / "c").iterdir()
    assert file.name.startswith("my_data_x-")


def test_another_key_is_another_file_and_a_stale_file_is_replaced(tmp_path):
    builder = Builder()
    run(builder, tmp_path)
    run(builder, tmp_path, key={"source": "other"})
    assert builder.calls == 2 and len(list(tmp_path.iterdir())) == 2
    changed = Builder(9)
    assert run(changed, tmp_path, state="b")[0]["train"].max() == 9
    assert changed.calls == 1 and len(list(tmp_path.iterdir())) == 2


def flip_pixel(data):
    position = data.index(bytes([7] * 48))
    return data[:position] + b"\x08" + data[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        flip_pixel,
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"no zip",
        lambda data: data[:-5],
    ],
    ids=["flipped", "half", "empty", "garbage", "end"],
)
def test_damaged_files_are_built_again(tmp_path, damage):
    builder = Builder()
    run(builder, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    arrays, _ = run(builder, tmp_path)
    assert builder.calls == 2 and (arrays["train"] == 7).all()
    run(builder, tmp_path)
    assert builder.calls == 2


def test_files_with_pickles_are_built_again(tmp_path):
    builder = Builder()
    run(builder, tmp_path)
    (file,) = tmp_path.iterdir()
    np.savez(file, record=np.array([{}], dtype=object))
    run(builder, tmp_path)
    assert builder.calls == 2


def test_directory_that_cannot_be_written_is_only_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    builder = Builder()
    arrays, _ = run(builder, tmp_path / "file" / "below")
    assert builder.calls == 1 and (arrays["train"] == 7).all()


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    run(Builder(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_follows_name_size_and_time(tmp_path):
    (tmp_path / "a").write_text("x")
    first = cache.fingerprint(tmp_path, ["a"])
    assert first == cache.fingerprint(tmp_path, ["a"])
    os.utime(tmp_path / "a", ns=(1, 1))
    second = cache.fingerprint(tmp_path, ["a"])
    (tmp_path / "a").write_text("xy")
    os.utime(tmp_path / "a", ns=(1, 1))
    assert len({first, second, cache.fingerprint(tmp_path, ["a"])}) == 3


def test_default_dir(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.default_dir() == pathlib.Path("/somewhere/ifanp_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.default_dir() == pathlib.Path.home() / ".cache" / "ifanp_jax"
