"""Brush strokes."""

import jax
import numpy as np
from scipy import ndimage

from ifanp_jax.data import strokes


def distance(point, start, end):
    """From a point to a segment, by its definition."""
    along, offset = end - start, point - start
    share = np.clip(np.dot(offset, along) / max(np.dot(along, along), 1e-6), 0, 1)
    return np.hypot(*(offset - share * along))


def test_a_stroke_is_what_lies_within_its_radius_of_its_segments():
    key, shape = jax.random.key(3), (4, 7, 9)
    covered = np.asarray(strokes.draw_strokes(key, shape, max_segments=3, radius=(0.5, 2.0)))
    assert covered.shape == (4, 7, 9, 1) and covered.dtype == bool
    place_key, radius_key, count_key = jax.random.split(key, 3)
    vertices = np.asarray(jax.random.uniform(place_key, (4, 4, 2))) * [7, 9]
    radii = np.asarray(jax.random.uniform(radius_key, (4, 1, 1), minval=0.5, maxval=2.0)).ravel()
    counts = np.asarray(jax.random.randint(count_key, (4, 1, 1), 1, 4)).ravel()
    for image in range(4):
        segments = list(zip(vertices[image][:-1], vertices[image][1:], strict=True))[: counts[image]]
        for row in range(7):
            for column in range(9):
                point = np.array([row, column], float)
                nearest = min(distance(point, *segment) for segment in segments)
                if abs(nearest - radii[image]) > 1e-4:
                    assert covered[image, row, column, 0] == (nearest < radii[image])


def test_images_have_strokes_of_their_own_of_every_length():
    covered = np.asarray(strokes.draw_strokes(jax.random.key(0), (64, 32, 32)))
    assert len({one.tobytes() for one in covered}) == 64
    shares = covered.mean(axis=(1, 2, 3))
    assert 0 < shares.min() < 0.1 < shares.max() < 0.7


def test_a_straight_stroke_has_the_area_of_its_width_and_round_ends():
    radius = 6.5
    segment = np.array([[[20.0, 15.0]]]), np.array([[[20.0, 55.0]]])
    covered = strokes.brush((1, 41, 71), *segment, np.full((1, 1), radius), np.ones((1, 1), bool))
    covered = np.asarray(covered)[0, ..., 0]
    np.testing.assert_allclose(covered.sum(), 40 * 2 * radius + np.pi * radius**2, rtol=0.03)
    np.testing.assert_array_equal(covered, covered[::-1])  # about row 20 and column 35
    np.testing.assert_array_equal(covered, covered[:, ::-1])
    assert covered[:, 35].sum() == 2 * radius


def test_free_form_strokes_end_alike_at_opposite_borders():
    covered = np.asarray(jax.jit(strokes.draw_free_form, static_argnums=1)(jax.random.key(0), (4000, 8, 8)))
    top, bottom, left, right = (
        side.mean() for side in (covered[:, 0], covered[:, -1], covered[:, :, 0], covered[:, :, -1])
    )
    np.testing.assert_allclose([top, left], [bottom, right], atol=0.02)  # half a pixel off: by 0.1


def test_free_form_strokes_are_as_wide_as_published():
    covered = np.asarray(jax.jit(strokes.draw_free_form, static_argnums=1)(jax.random.key(0), (64, 256, 256)))
    # The largest disc in a mask is at least as large as its broadest stroke; crossings make it larger.
    depth = [ndimage.distance_transform_edt(one) for one in covered[..., 0]]
    depth = np.median([one.max() for one in depth])
    assert strokes.STROKE_WIDTH[0] / 2 < depth < 1.5 * strokes.STROKE_WIDTH[1] / 2, depth
