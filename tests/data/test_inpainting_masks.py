import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.data import inpainting_masks, masks, strokes

B, H, W = 64, 32, 48


@functools.partial(jax.jit, static_argnums=(0, 2))
def make(kind, key, shape):
    mask = masks.inpainting(key, shape, {kind: 1.0})
    return mask, inpainting_masks.crop_start(mask)


def bounds(mask):
    """First and last row and column of one image's hole."""
    rows, columns = np.nonzero(~np.asarray(mask)[..., 0])
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize("kind", masks.HOLES)
def test_every_kind_hides_something_in_every_image_and_repeats(kind):
    key = jax.random.key(0)
    mask, start = make(kind, key, (B, H, W))
    chex.assert_shape([mask, start], [(B, H, W, 1), (B, 2)])
    chex.assert_type([mask, start], [bool, jnp.int32])
    assert mask.any(axis=(1, 2, 3)).all() and (~mask).any(axis=(1, 2, 3)).all()
    assert (start >= 0).all() and (start <= jnp.array([[H // 2, W // 2]])).all()
    chex.assert_trees_all_equal(make(kind, key, (B, H, W)), (mask, start))
    is_fixed = kind.startswith("centre")
    assert bool((mask == mask[:1]).all()) == is_fixed  # one mask per image
    assert bool((make(kind, jax.random.key(1), (B, H, W))[0] == mask).all()) == is_fixed


def test_boxes_have_the_published_ranges():
    h, w, n = 32, 64, 4096
    mask = jax.jit(inpainting_masks.box, static_argnums=1)(jax.random.key(2), (n, h, w))
    start = np.asarray(inpainting_masks.crop_start(mask))  # of the box before the bands
    for axis, side in ((0, h), (1, w)):
        found = set(start[:, axis].tolist())
        assert found == set(range(side // 2 + 1))  # both ends included
    hole = ~np.asarray(mask)[..., 0]
    rows, columns = hole.any(axis=2), hole.any(axis=1)
    bands = (h // 2 - rows.sum(axis=1), w // 2 - columns.sum(axis=1))
    assert set(bands[0].tolist()) == {0, 2, 4}  # a rows at each end, a in 0..h / 16
    assert set(bands[1].tolist()) == {0, 2, 4, 6, 8}
    np.testing.assert_array_equal(rows.argmax(axis=1), start[:, 0] + bands[0] // 2)
    np.testing.assert_array_equal(columns.argmax(axis=1), start[:, 1] + bands[1] // 2)
    np.testing.assert_array_equal(hole.sum(axis=(1, 2)), rows.sum(axis=1) * columns.sum(axis=1))
    assert abs(start[:, 0].mean() - h / 4) < 0.3


def test_box_keeps_its_window_before_the_bands():
    mask, start = make("box", jax.random.key(3), (B, H, W))
    for image in range(B):
        top, bottom, left, right = bounds(mask[image])
        assert top - start[image, 0] == start[image, 0] + H // 2 - 1 - bottom
        assert left - start[image, 1] == start[image, 1] + W // 2 - 1 - right


def test_centre():
    assert bounds(inpainting_masks.centre((1, 64, 64))[0]) == (16, 47, 16, 47)
    assert bounds(inpainting_masks.centre((1, 64, 32), overlap=1)[0]) == (17, 46, 9, 22)
    mask, start = make("centre_overlap", jax.random.key(0), (2, 256, 256))
    assert bounds(mask[1]) == (68, 187, 68, 187)  # Shift-Net's
    np.testing.assert_array_equal(start, [[64, 64], [64, 64]])


@pytest.mark.parametrize("side", [8, 64])
def test_strokes_cover_a_moderate_share_everywhere(side):
    shape = (256, side, side)
    hidden = np.asarray(jax.jit(strokes.draw_free_form, static_argnums=1)(jax.random.key(4), shape))
    share = hidden.mean(axis=(1, 2, 3))
    assert share.min() > 0 and 0.1 < share.mean() < 0.5 and share.std() > 0.05
    by_half = [hidden[:, : side // 2], hidden[:, side // 2 :], hidden[:, :, : side // 2]]
    np.testing.assert_allclose([half.mean() for half in by_half], hidden.mean(), atol=0.04)


HOLES_AND_WINDOWS = [  # rows and columns of a hole, top and left of its window
    ((0, 2, 0, 2), (0, 0)),  # each corner, clamped
    ((0, 2, 46, 48), (0, 24)),
    ((30, 32, 0, 2), (16, 0)),
    ((30, 32, 46, 48), (16, 24)),
    ((13, 14, 20, 21), (5, 8)),  # one pixel
    ((8, 24, 12, 36), (8, 12)),  # exactly the window
    ((0, 32, 0, 48), (8, 12)),  # everything
    ((0, 0, 0, 0), (8, 12)),  # nothing
]


def test_the_window_is_centred_on_each_image_s_hole():
    mask = np.ones((len(HOLES_AND_WINDOWS), H, W, 1), bool)
    for image, ((top, bottom, left, right), _) in enumerate(HOLES_AND_WINDOWS):
        mask[image, top:bottom, left:right] = False
    found = jax.jit(inpainting_masks.crop_start)(mask)
    np.testing.assert_array_equal(found, [window for _, window in HOLES_AND_WINDOWS])


def test_mixture_follows_its_shares():
    shares = dict.fromkeys(masks.HOLES, 0.0) | {"centre": 3.0, "half": 1.0}  # they need not add up to 1
    mask = jax.jit(lambda key: masks.inpainting(key, (4000, 8, 8), shares))(jax.random.key(5))
    is_centre = np.asarray((~mask).sum(axis=(1, 2, 3)) == 16)
    assert abs(is_centre.mean() - 0.75) < 0.03
