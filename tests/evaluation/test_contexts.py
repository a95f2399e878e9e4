"""Contexts that are the same for every method, and holes that are kept."""

import hashlib

import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import contexts
from ifanp_jax.evaluation.contexts import load_contexts, make_context
from ifanp_jax.evaluation.options import Options
from tests import tiny

HALVES = ["top 0.5", "bottom 0.5", "left 0.5", "right 0.5"]
HOLES = {"mask.kind": "inpainting", "evaluate.fractions": (), "evaluate.halves": False}
SHAPE = (6, 16, 16)


def options(**overrides):
    return Options.of(tiny.make_config(**overrides))


def draw(kind, shape, *, seed=0, fraction=None):
    return make_context(kind, shape, seed=seed, fraction=fraction).masks


def test_contexts_are_those_of_the_configuration():
    fields = {"evaluate.fractions": (0.2, 0.6), "evaluate.uniform_fraction": 0.3}
    found = load_contexts(options(**fields), (2, 8, 8))
    assert list(found) == ["random 0.2", "random 0.6", "uniform 0.3", *HALVES]
    assert [context.fraction for context in found.values()] == [0.2, 0.6, 0.3, *4 * [0.5]]
    assert not any(context.is_hole for context in found.values())
    few = options(**fields | {"evaluate.halves": False, "evaluate.uniform_fraction": 0.0})
    assert list(load_contexts(few, (2, 8, 8))) == ["random 0.2", "random 0.6"]
    both = load_contexts(options(**fields | {"mask.kind": "inpainting"}), (2, 16, 16))
    assert list(both) == [*found, *contexts.HOLE_KINDS]


def test_random_contexts_do_not_depend_on_the_number_of_images():
    few = draw("random", (3, 8, 8), fraction=0.4)
    many = draw("random", (7, 8, 8), fraction=0.4)
    np.testing.assert_array_equal(few, many[:3])
    assert (many.sum(axis=(1, 2, 3)) == round(0.4 * 64)).all()
    assert (draw("random", (3, 8, 8), fraction=0.4, seed=1) != few).any()
    assert (many[0] != many[1]).any()


def test_every_image_of_a_uniform_context_has_a_share_of_its_own():
    counts = draw("uniform", (400, 8, 8), fraction=0.3).sum(axis=(1, 2, 3))
    assert counts.min() == 0 and counts.max() == 19  # round(0.3 * 64)
    assert abs(counts.mean() - 9.5) < 1


def test_half_a_picture_is_observed():
    top, left = (draw(side, (2, 8, 6))[..., 0] for side in ("top", "left"))
    assert top[:, :4].all() and not top[:, 4:].any()
    assert left[:, :, :3].all() and not left[:, :, 3:].any()


def test_an_image_has_the_same_hole_among_any_others():
    for kind in contexts.HOLE_KINDS:
        few, many = (draw(kind, (count, 16, 16), seed=3) for count in (3, 70))
        np.testing.assert_array_equal(few, many[:3])
        assert few.shape == (3, 16, 16, 1) and few.dtype == bool
        shares = (~many).mean(axis=(1, 2, 3))
        assert (shares > 0).all() and (shares < 1).all()
    np.testing.assert_array_equal(draw("centre", (1, 16, 16))[0, 4:12, 4:12], False)
    strokes = draw("strokes", (2, 16, 16))
    assert (strokes[0] != strokes[1]).any()
    assert (strokes != draw("strokes", (2, 16, 16), seed=1)).any()
    assert make_context("strokes", (2, 16, 16), seed=0).fraction == strokes.mean()


def test_holes_are_drawn_once_and_read_again(tmp_path):
    drawn = load_contexts(options(**HOLES), SHAPE)
    contexts.keep_holes(drawn, tmp_path)
    other = options(**HOLES | {"evaluate.seed": 5})  # what is kept counts
    kept = load_contexts(other, SHAPE, folder=tmp_path)
    assert [one.sha256 for one in kept.values()] == [one.sha256 for one in drawn.values()]
    contexts.keep_holes(load_contexts(other, SHAPE), tmp_path)
    fewer = load_contexts(other, (2, 16, 16), folder=tmp_path)
    np.testing.assert_array_equal(fewer["box"].masks, drawn["box"].masks[:2])
    assert list(load_contexts(options(), SHAPE, folder=tmp_path))[-4:] == HALVES


def test_without_holes_nothing_is_kept(tmp_path):
    contexts.keep_holes(load_contexts(options(), SHAPE), tmp_path)
    assert not list(tmp_path.iterdir())


def test_holes_of_another_project_are_taken(tmp_path):
    path = tmp_path / contexts.FILE_NAME
    stripes = np.broadcast_to(np.arange(16) % 4, SHAPE).astype(np.uint8)
    np.savez(path, stripes=stripes)
    found = load_contexts(options(**HOLES), SHAPE, folder=tmp_path)
    assert list(found) == ["stripes"] and found["stripes"].is_hole and found["stripes"].fraction == 0.75
    np.testing.assert_array_equal(found["stripes"].masks[..., 0], stripes != 0)
    for wrong, message in (
        ({"a": stripes[:2]}, "a in .* 2 masks of 16x16 .* 6 images of 16x16"),
        ({"a": stripes[:, :8]}, "6 masks of 8x16"),
        ({"a": stripes[0]}, r"uint8 of shape \(16, 16\)"),
        ({"a": np.full(SHAPE, "x")}, "numbers or booleans"),
        ({"top": stripes}, "top"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(UserError, match=message):
            load_contexts(options(**HOLES), SHAPE, folder=tmp_path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=f"{contexts.FILE_NAME} .*remove it"):
        load_contexts(options(**HOLES), SHAPE, folder=tmp_path)


def test_masks_are_named_by_shape_and_bits():
    masks = np.random.default_rng(0).random((2, 3, 5, 1)) < 0.5
    one = contexts.Context("box", 0.5, masks)
    expected = hashlib.sha256(np.array([2, 3, 5, 1], "<i8").tobytes() + np.packbits(masks.ravel()).tobytes())
    assert one.sha256 == expected.hexdigest()
    changed = masks.copy()
    changed[1, 2, 4] = ~changed[1, 2, 4]
    names = {contexts.Context("box", 0.5, other).sha256 for other in (changed, masks.reshape(2, 5, 3, 1))}
    assert len(names | {one.sha256}) == 3
    assert one.first(1).sha256 == contexts.Context("random", 0.1, masks[:1]).sha256
