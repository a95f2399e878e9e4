import functools

import chex
import jax
import numpy as np
import pytest

from ifanp_jax.data import masks, strokes

B, H, W = 64, 32, 48


@functools.partial(jax.jit, static_argnums=(0, 2))
def make(kind, key, shape):
    return masks.inpainting(key, shape, {kind: 1.0})


def bounds(mask):
    """First and last row and column of one image's hole."""
    rows, columns = np.nonzero(~np.asarray(mask)[..., 0])
    return rows.min(), rows.max(), columns.min(), columns.max()


@pytest.mark.parametrize("kind", masks.HOLES)
def test_every_kind_hides_something_in_every_image_and_repeats(kind):
    key = jax.random.key(0)
    mask = make(kind, key, (B, H, W))
    chex.assert_shape(mask, (B, H, W, 1))
    chex.assert_type(mask, bool)
    assert mask.any(axis=(1, 2, 3)).all() and (~mask).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(make(kind, key, (B, H, W)), mask)
    is_fixed = kind.startswith("centre")
    assert bool((mask == mask[:1]).all()) == is_fixed  # one mask per image
    assert bool((make(kind, jax.random.key(1), (B, H, W)) == mask).all()) == is_fixed


def test_boxes_have_the_published_ranges():
    h, w, n = 32, 64, 4096
    mask = jax.jit(masks.box_with_bands, static_argnums=1)(jax.random.key(2), (n, h, w))
    hole = ~np.asarray(mask)[..., 0]
    rows, columns = hole.any(axis=2), hole.any(axis=1)
    bands = (h // 2 - rows.sum(axis=1), w // 2 - columns.sum(axis=1))
    assert set(bands[0].tolist()) == {0, 2, 4}  # a rows at each end, a in 0..h / 16
    assert set(bands[1].tolist()) == {0, 2, 4, 6, 8}
    for lines, band, side in ((rows, bands[0], h), (columns, bands[1], w)):
        start = lines.argmax(axis=1) - band // 2  # of the box before the bands
        assert set(start.tolist()) == set(range(side // 2 + 1))  # both ends included
        assert abs(start.mean() - side / 4) < 0.5
    np.testing.assert_array_equal(hole.sum(axis=(1, 2)), rows.sum(axis=1) * columns.sum(axis=1))


def test_centre():
    assert bounds(masks.centre((1, 64, 64))[0]) == (16, 47, 16, 47)
    assert bounds(masks.centre((1, 64, 32), overlap=1)[0]) == (17, 46, 9, 22)
    mask = make("centre_overlap", jax.random.key(0), (2, 256, 256))
    assert bounds(mask[1]) == (68, 187, 68, 187)  # Shift-Net's


@pytest.mark.parametrize("side", [8, 64])
def test_strokes_cover_a_moderate_share_everywhere(side):
    shape = (256, side, side)
    hidden = np.asarray(jax.jit(strokes.draw_free_form, static_argnums=1)(jax.random.key(4), shape))
    share = hidden.mean(axis=(1, 2, 3))
    assert share.min() > 0 and 0.1 < share.mean() < 0.5 and share.std() > 0.05
    by_half = [hidden[:, : side // 2], hidden[:, side // 2 :], hidden[:, :, : side // 2]]
    np.testing.assert_allclose([half.mean() for half in by_half], hidden.mean(), atol=0.04)


def test_mixture_follows_its_shares():
    shares = dict.fromkeys(masks.HOLES, 0.0) | {"centre": 3.0, "half": 1.0}  # they need not add up to 1
    mask = jax.jit(lambda key: masks.inpainting(key, (4000, 8, 8), shares))(jax.random.key(5))
    is_centre = np.asarray((~mask).sum(axis=(1, 2, 3)) == 16)
    assert abs(is_centre.mean() - 0.75) < 0.03
