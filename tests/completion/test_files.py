"""Pictures and masks on disk in, completed pictures out."""

import itertools
import logging

import numpy as np
import pytest
from PIL import Image

from ifanp_jax.completion import files, methods
from ifanp_jax.errors import UserError
from ifanp_jax.inference.options import SIZES, CompletionOptions
from tests.helpers import left_half, random_image, random_mask


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def read(path):
    return np.asarray(Image.open(path))


def write_pair(tmp_path, image, mask):
    write(tmp_path / "in.png", image)
    write(tmp_path / "mask.png", mask * np.uint8(255))


def run_pair(model, tmp_path, **options):
    return run(model, tmp_path, "mask.png", source="in.png", **options)


def run(
    model,
    tmp_path,
    mask="",
    *,
    source="in",
    output="out",
    invert_mask=False,
    extend="",
    compared=None,
    mask_threshold=None,
    **options,
):
    return files.complete_files(
        model,
        input=tmp_path / source,
        mask=mask and tmp_path / mask,
        output=tmp_path / output,
        options=CompletionOptions(**{"num_samples": 2, **options}),
        invert_mask=invert_mask,
        extend=extend,
        compared=compared,
        mask_threshold=mask_threshold,
    )


def written(tmp_path):
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))


def answers_of(stem):
    names = ("completed", "mean", "preview", "sample_1", "sample_2", "uncertainty")
    return [f"{stem}_{name}.png" for name in names]


@pytest.mark.parametrize("size", SIZES)
def test_file_keeps_observed_pixels_bit_for_bit(colour_model, tmp_path, size):
    image, mask = random_image(11, 14, 3), random_mask(11, 14)
    write_pair(tmp_path, image, mask)
    assert run_pair(colour_model, tmp_path, size=size) == []
    assert written(tmp_path) == answers_of("in")
    for name in ("in_sample_1.png", "in_sample_2.png", "in_mean.png"):
        answer = read(tmp_path / "out" / name)
        assert answer.shape == image.shape
        np.testing.assert_array_equal(answer[mask], image[mask])
    uncertainty = read(tmp_path / "out/in_uncertainty.png")
    assert uncertainty.shape == (11, 14) and (uncertainty[mask] == 0).all() and (uncertainty[~mask] > 0).all()
    assert run_pair(colour_model, tmp_path, size=size, num_completed=2) == []
    assert sorted(set(written(tmp_path)) - set(answers_of("in"))) == ["in_completed_2.png"]
    np.testing.assert_array_equal(read(tmp_path / "out/in_completed_2.png")[mask], image[mask])
    result = colour_model.complete(image, mask, num_samples=2, size=size)
    np.testing.assert_array_equal(read(tmp_path / "out/in_mean.png"), np.floor(result.mean * 255 + 0.5))


@pytest.mark.parametrize("mask", ["", "mask.png"])
def test_an_extended_picture_is_completed_around_itself(colour_model, tmp_path, mask):
    image, observed = random_image(12, 16, 3), np.ones((12, 16), bool)
    write(tmp_path / "in.png", image)
    if mask:
        observed[2:5, 3:9] = False
        write(tmp_path / mask, observed * np.uint8(255))
    assert run(colour_model, tmp_path, mask, source="in.png", extend="4,0,25%,3") == []
    answer = read(tmp_path / "out/in_completed.png")
    assert answer.shape == (15, 24, 3)
    np.testing.assert_array_equal(answer[:12, 4:20][observed], image[observed])
    assert read(tmp_path / "out/in_uncertainty.png")[12:].all()


@pytest.mark.parametrize("invert_mask", [False, True])
def test_alpha_channel_is_the_mask(colour_model, tmp_path, invert_mask):
    image = random_image(8, 8, 4)
    image[..., 3] = np.where(left_half(8, 8), 128, 127)
    mask = left_half(8, 8) ^ invert_mask
    write(tmp_path / "in/a.png", image)
    write(tmp_path / "in/b.png", image[..., :3])
    failures = run(colour_model, tmp_path, invert_mask=invert_mask)
    assert [path for path, _ in failures] == [str(tmp_path / "in/b.png")]
    facts = ("no alpha channel", "no b_mask.png beside it", "--mask")
    assert all(fact in failures[0][1] for fact in facts)
    assert written(tmp_path) == answers_of("a")
    answer = read(tmp_path / "out/a_mean.png")
    np.testing.assert_array_equal(answer[mask], image[mask])
    assert (answer[~mask] != image[~mask])[:, :3].any() and (answer[~mask][:, 3] >= 128).all()


def test_grey_stays_grey_and_a_grey_model_says_that_colours_are_lost(model, colour_model, tmp_path, caplog):
    grey = write(tmp_path / "in.png", random_image(8, 8))
    mask = left_half(8, 8)
    write(tmp_path / "mask.png", mask * np.uint8(255))
    run_pair(colour_model, tmp_path)
    answer = read(tmp_path / "out/in_mean.png")
    np.testing.assert_array_equal(answer[mask], read(grey)[mask])
    write(tmp_path / "in.png", random_image(8, 8, 3))
    assert "do not keep" not in caplog.text
    run_pair(model, tmp_path)
    assert read(tmp_path / "out/in_mean.png").shape == (8, 8)
    assert "in.png: the answers do not keep colours" in caplog.text


def test_sixteen_bits_exif_and_profile_are_in_the_written_file(colour_model, tmp_path):
    image, mask = np.random.default_rng(0).integers(0, 2**16, (8, 8), np.uint16), left_half(8, 8)
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture = Image.fromarray(image)
    picture.save(tmp_path / "in.png", exif=exif, icc_profile=b"a profile", dpi=(300, 300))
    write(tmp_path / "mask.png", mask * np.uint8(255))
    run_pair(colour_model, tmp_path)
    with Image.open(tmp_path / "out/in_mean.png") as answer:
        assert answer.mode == "I;16" and answer.info["icc_profile"] == b"a profile"
        assert answer.getexif()[0x010E] == "a description"
        assert answer.info["dpi"] == pytest.approx((300, 300), rel=1e-3)
        values = np.asarray(answer)
    np.testing.assert_array_equal(values[mask], image[mask])
    assert len(set(values[~mask] % 257)) > 1  # the answer has 16 bits, too


def test_a_mask_may_be_inverted_and_the_log_says_what_is_strange_and_what_was_written(
    model, tmp_path, caplog
):
    image, mask = random_image(8, 8), np.arange(64).reshape(8, 8) < 5
    write_pair(tmp_path, image, mask)
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        run_pair(model, tmp_path)
    assert "92.2 % of in.png is to be completed: is the mask inverted? Then give --invert_mask" in caplog.text
    assert f"Wrote {', '.join(answers_of('in')[:2])}, " in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        run_pair(model, tmp_path, invert_mask=True)
    assert "7.8 % of in.png is to be completed." in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    answer = read(tmp_path / "out/in_mean.png")
    np.testing.assert_array_equal(answer[~mask], image[~mask])
    assert (answer[mask] != image[mask]).any()


def test_a_mask_beside_the_picture(model, tmp_path):
    images = {name: random_image(8, 8, seed=index) for index, name in enumerate(("a", "b"))}
    for name, image in images.items():
        write(tmp_path / f"in/{name}.png", image)
        write(tmp_path / f"in/{name}_mask.png", left_half(8, 8) * np.uint8(255))
    assert run(model, tmp_path) == []
    assert written(tmp_path) == [*answers_of("a"), *answers_of("b")]
    answer = read(tmp_path / "out/b_mean.png")
    np.testing.assert_array_equal(answer[:, :4], images["b"][:, :4])


def test_a_folder_goes_on_where_it_ended(model, tmp_path, caplog):
    caplog.set_level(logging.INFO, "ifanp_jax")
    for index, name in enumerate(("a", "b", "c")):
        write(tmp_path / f"in/{name}.png", random_image(8, 8, seed=index))
        write(tmp_path / f"masks/{name}.png", left_half(8, 8) * np.uint8(255))
    assert run(model, tmp_path, "masks") == []

    def again(**options):
        """Which answers were written anew."""
        caplog.clear()
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*_mean.png")}
        assert run(model, tmp_path, "masks", **options) == []
        return [path.name[0] for path in sorted(before) if path.stat().st_mtime_ns != before[path]]

    assert again() == [] and "3 of them were there from an earlier run" in caplog.text
    (tmp_path / "out/b_preview.png").unlink()  # as a run that ended in the midst of it
    assert again() == ["b"] and "2 of them" in caplog.text
    write(tmp_path / "masks/c.png", ~left_half(8, 8) * np.uint8(255))
    assert again() == ["c"]
    write(tmp_path / "in/a.png", random_image(8, 8, seed=9))
    assert again() == ["a"]
    assert again(seed=1) == ["a", "b", "c"] and "earlier run" not in caplog.text
    (tmp_path / "out/completed.json").write_text("{")
    assert again(seed=1) == ["a", "b", "c"]


def test_an_infrared_picture_is_a_mask_with_a_threshold(model, tmp_path, caplog):
    image = random_image(8, 8)
    write(tmp_path / "in.png", image)
    infrared = np.full((8, 8), 90, np.uint8)
    infrared[2:4, 3:7] = 60  # dust
    write(tmp_path / "mask.png", infrared)
    assert run_pair(model, tmp_path, mask_threshold=0.3) == []
    answer = read(tmp_path / "out/in_mean.png")
    np.testing.assert_array_equal(answer[infrared == 90], image[infrared == 90])
    assert (answer[infrared == 60] != image[infrared == 60]).any() and "grey" not in caplog.text
    with pytest.raises(UserError, match="mask_threshold is 30 but must lie between 0 and 1"):
        run_pair(model, tmp_path, mask_threshold=30)


def test_a_classical_method_gives_the_same_files_and_may_stand_beside_a_model(colour_model, tmp_path):
    image, mask = random_image(8, 8, 3), random_mask(8, 8)
    write_pair(tmp_path, image, mask)
    nearest = methods.ClassicalMethod("nearest")
    assert run_pair(nearest, tmp_path) == []
    assert written(tmp_path) == ["in_completed.png", "in_mean.png", "in_preview.png", "in_sample_1.png"]
    alone = read(tmp_path / "out/in_mean.png")
    np.testing.assert_array_equal(alone[mask], image[mask])
    run_pair(colour_model, tmp_path, compared={"nearest": nearest})
    assert written(tmp_path) == sorted([*answers_of("in"), "in_nearest.png"])
    np.testing.assert_array_equal(read(tmp_path / "out/in_nearest.png"), alone)


def test_a_picture_of_a_size_that_the_model_does_not_take_is_named_and_the_others_are_done(
    make_model, tmp_path
):
    model = make_model("vae.VAE")
    for name, shape in (("a.png", (8, 8)), ("b.png", (11, 14)), ("c.png", (8, 8))):
        write(tmp_path / "in" / name, random_image(*shape))
        write(tmp_path / "masks" / name, left_half(*shape) * np.uint8(255))
    ((path, reason),) = run(model, tmp_path, "masks", size="own")
    assert path == str(tmp_path / "in/b.png")
    assert "11x14 pixels" in reason and "8x8" in reason and "--size=trained" in reason
    assert written(tmp_path) == [*answers_of("a"), *answers_of("c")]
    assert run(model, tmp_path, "masks") == []
    assert written(tmp_path) == [*answers_of("a"), *answers_of("b"), *answers_of("c")]


def test_one_mask_for_a_folder_and_failures_do_not_stop_it(model, tmp_path, caplog):
    mask = left_half(8, 8)
    write(tmp_path / "mask.png", mask * np.uint8(255))
    images = {name: random_image(8, 8, seed=ord(name[-5])) for name in ("a.png", "sub/b.png", "sub/c.png")}
    for name, image in images.items():
        write(tmp_path / "in" / name, image)
    write(tmp_path / "in/wide.png", random_image(8, 9))
    (tmp_path / "in/broken.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:40])
    with caplog.at_level(logging.INFO, "ifanp_jax"):
        failures = dict(run(model, tmp_path, "mask.png", num_samples=2))
    assert set(failures) == {str(tmp_path / "in" / name) for name in ("wide.png", "broken.png")}
    assert "mask has 8x8 pixels" in failures[str(tmp_path / "in/wide.png")]
    assert "is not a picture" in failures[str(tmp_path / "in/broken.png")]
    assert "Completed 3 of 5 pictures" in caplog.text
    assert caplog.text.count(str(tmp_path / "in/wide.png")) == 1
    assert caplog.text.count(str(tmp_path / "in/broken.png")) == 1
    assert written(tmp_path) == sorted(itertools.chain(*map(answers_of, ("a", "sub/b", "sub/c"))))
    for name, image in images.items():
        answer = read(tmp_path / "out" / name.replace(".png", "_sample_1.png"))
        np.testing.assert_array_equal(answer[mask], image[mask])


def test_folder_of_masks(model, tmp_path):
    names = {"a.bmp": "a.png", "sub/b.png": "sub/b.npy", "alone.png": None, "two.png": "two.png"}
    images = {name: random_image(8, 8, seed=index) for index, name in enumerate(names)}
    masks = {name: random_mask(8, 8, seed=index) for index, name in enumerate(names)}
    for name, mask_name in names.items():
        write(tmp_path / "in" / name, images[name])
        if mask_name and mask_name.endswith(".png"):
            write(tmp_path / "masks" / mask_name, masks[name] * np.uint8(255))
    (tmp_path / "masks/sub").mkdir()
    np.save(tmp_path / "masks/sub/b.npy", masks["sub/b.png"])
    np.save(tmp_path / "masks/two.npy", masks["two.png"])
    failures = dict(run(model, tmp_path, "masks"))
    assert "no mask for it" in failures.pop(str(tmp_path / "in/alone.png"))
    assert "2 masks (two.png, two.npy)" in failures.pop(str(tmp_path / "in/two.png"))
    assert not failures
    for name, stem in (("a.bmp", "a"), ("sub/b.png", "sub/b")):
        mask = masks[name]
        np.testing.assert_array_equal(read(tmp_path / f"out/{stem}_mean.png")[mask], images[name][mask])


def test_masks_and_output_below_the_input_are_no_pictures(model, tmp_path):
    write(tmp_path / "in/a.png", random_image(8, 8))
    write(tmp_path / "in/masks/a.png", left_half(8, 8) * np.uint8(255))
    for _ in range(2):
        assert run(model, tmp_path, "in/masks", output="in/out") == []
    assert len(list((tmp_path / "in").rglob("*.png"))) == 2 + 6


def test_names_that_clash_keep_their_suffix(model, tmp_path):
    write(tmp_path / "mask.png", left_half(8, 8) * np.uint8(255))
    for name in ("a.png", "A.bmp", "sub/a.png"):
        write(tmp_path / "in" / name, random_image(8, 8))
    assert run(model, tmp_path, "mask.png", num_samples=2) == []
    stems = ("a.png", "A.bmp", "sub/a")
    assert written(tmp_path) == sorted(itertools.chain(*map(answers_of, stems)))


def test_answers_that_cannot_be_written_are_failures(model, tmp_path):
    write_pair(tmp_path, random_image(8, 8), left_half(8, 8))
    (tmp_path / "out/in_mean.png").mkdir(parents=True)
    ((path, reason),) = run_pair(model, tmp_path)
    assert path == str(tmp_path / "in.png") and "cannot be written" in reason
    for place in ("out/in_mean.png/file", "in.png"):  # below a file, and a file
        (tmp_path / "out/in_mean.png/file").touch()
        with pytest.raises(UserError, match="output"):
            run_pair(model, tmp_path, output=place)


def test_what_cannot_be_used_for_any_picture(model, tmp_path):
    write(tmp_path / "in/a.png", random_image(8, 8))
    write(tmp_path / "out/a.png", random_image(8, 8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("hello")
    for options, message in (
        ({"source": "nothing"}, "There is no input .*nothing"),
        ({"source": "empty"}, "There is no picture to complete below"),
        ({"source": "out"}, "output .* is the input folder itself"),
        ({"mask": "in"}, "mask .* is the input folder itself"),
        ({"mask": "nothing.png"}, "There is no mask .*nothing"),
        ({"mask": "empty"}, "There is no mask below"),
        ({"mask": "text.png"}, "is not a picture"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"size": "small"}, "size is 'small'"),
    ):
        with pytest.raises(UserError, match=message):
            run(model, tmp_path, **options)
