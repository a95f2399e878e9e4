import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import contextual_attention
from tests.oracles.contextual_attention import RATE, SCALE, by_convolutions

B, D = 3, 2
attend = jax.jit(
    contextual_attention.attend,
    static_argnames=("rate", "scale", "validity", "max_entries"),
)
SHAPES = [(1, 5, 4), (2, 6, 8)]  # rate, h, w


def patches(features, size, stride, low):
    """Zero-padded patches of one image (h, w, D) in float64, {(row, column of patch): (size, size, D)}."""
    h, w, _ = features.shape
    padded = np.pad(np.asarray(features, np.float64), ((low, size), (low, size), (0, 0)))
    return {
        (y, x): padded[y * stride : y * stride + size, x * stride : x * stride + size]
        for y, x in itertools.product(range(h // stride), range(w // stride))
    }


def fused(scores):
    """The 3x3 diagonal sum, rows then columns, by four indices; scores are {(p, l): s}."""

    def along(scores, step):
        return {
            (p, q): sum(
                scores.get(
                    ((p[0] + i * step[0], p[1] + i * step[1]), (q[0] + i * step[0], q[1] + i * step[1])), 0
                )
                for i in (-1, 0, 1)
            )
            for p, q in scores
        }

    return along(along(scores, (0, 1)), (1, 0))


def weight_of(known, cell, validity):
    """Known share of the cells around `cell` that are inside; or 1 if it is whole and 0 if not."""
    y, x = cell
    window = known[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    return float(window.min() == 1) if validity == "whole" else float(window.mean())


def attend_to_one(features, known, rate, scale, validity):
    """One image by loops over patches: float64 (h, w, D)."""
    h, w, d = features.shape
    known = known[..., 0].reshape(h // rate, rate, w // rate, rate).mean(axis=(1, 3))
    small = patches(features[::rate, ::rate], 3, 1, 1)
    norm = {p: max(np.linalg.norm(patch), 1e-4) for p, patch in small.items()}
    scores = fused({(p, q): np.sum(small[p] * small[q]) / (norm[q] * norm[p]) for p in small for q in small})
    weights = {q: weight_of(known, q, validity) for q in small}
    valid = [q for q in small if weights[q] > 0]
    if not valid:
        return np.asarray(features, np.float64)
    size, low = (3, 1) if rate == 1 else (2 * rate, rate // 2)
    raw = patches(features, size, rate, low)
    ones = patches(np.ones((h, w, 1)), size, rate, low)
    num, den = np.zeros((h + 4 * rate, w + 4 * rate, d)), np.zeros((h + 4 * rate, w + 4 * rate, 1))
    for y, x in small:
        logits = np.array([scale * scores[(y, x), q] + np.log(weights[q]) for q in valid])
        attention = np.exp(logits - logits.max())
        for a, q in zip(attention / attention.sum(), valid, strict=True):
            num[y * rate : y * rate + size, x * rate : x * rate + size] += a * raw[q]
            den[y * rate : y * rate + size, x * rate : x * rate + size] += a * ones[q]
    return (num / np.maximum(den, 1e-6))[low : low + h, low : low + w]


def attend_by_loops(features, known, *, rate, scale=10.0, validity="whole"):
    images = zip(np.asarray(features), np.asarray(known), strict=True)
    return np.stack([attend_to_one(f, k, rate, scale, validity) for f, k in images])


def draw_features(h, w):
    return jax.random.normal(jax.random.key(0), (B, h, w, D))


def draw_known(h, w):
    """A corner hole, a fully hidden image and one of three cells, two of them partly known."""
    known = np.ones((B, h, w, 1), np.float32)
    known[0, :2, :2] = 0
    known[1] = 0
    known[2, 2, 1], known[2, 3, 1], known[2, 2, 2] = 0.25, 0, 0.75
    return jnp.asarray(known)


@pytest.mark.parametrize("max_entries", [contextual_attention.MAX_ENTRIES, 1])
@pytest.mark.parametrize(("rate", "h", "w"), SHAPES)
def test_equals_loops_over_patches(rate, h, w, max_entries):
    features, known = draw_features(h, w), draw_known(h, w)
    out, _ = attend(features, known, rate=rate, max_entries=max_entries)
    np.testing.assert_allclose(out, attend_by_loops(features, known, rate=rate), atol=1e-5)


# At a scale of 10 a known cell attends to itself alone; at 0.1 the weights of the patches decide.
@pytest.mark.parametrize(
    "options", [{"validity": "fraction"}, {"validity": "fraction", "scale": 0.1}, {"scale": 0.1}]
)
@pytest.mark.parametrize(("rate", "h", "w"), SHAPES)
def test_options_equal_loops_over_patches(rate, h, w, options):
    features, known = draw_features(h, w), draw_known(h, w)
    if "validity" in options:  # no patch of the second image is whole, most know a little
        known = known.at[1, ::2, ::2].set(0.3)
    out, _ = attend(features, known, rate=rate, **options)
    np.testing.assert_allclose(out, attend_by_loops(features, known, rate=rate, **options), atol=1e-5)


def test_values_and_gradients_equal_the_published_convolutions():
    features = jax.random.normal(jax.random.key(0), (2, 12, 16, 4))
    known = np.ones((2, 12, 16, 1), np.float32)
    known[0, 4:8, 6:10] = 0
    known[1, 5, 11] = 0.5

    def both(function):
        def loss(features):
            out = function(features, jnp.asarray(known))
            return jnp.sum(jnp.sin(out)), out

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(features)

    (_, expected), gradient = both(by_convolutions)
    (_, found), found_gradient = both(lambda x, known: attend(x, known, rate=RATE, scale=SCALE)[0])
    chex.assert_trees_all_close(found, expected, atol=1e-5)
    chex.assert_trees_all_close(found_gradient, gradient, atol=1e-4)


@pytest.mark.parametrize(("rate", "h", "w"), SHAPES)
def test_gradients_equal_finite_differences(rate, h, w):
    features, known = draw_features(h, w), draw_known(h, w)
    cotangent, direction = jax.random.normal(jax.random.key(1), (2, *features.shape))

    def project(features):
        return jnp.vdot(cotangent, attend(features, known, rate=rate, max_entries=1)[0])

    gradient = jax.jit(jax.grad(project))(features)
    step = 1e-5  # in float64, so that rounding does not decide
    features, direction, cotangent = (np.asarray(x, np.float64) for x in (features, direction, cotangent))
    for image in range(B):  # one image at a time: a gradient that leaks into another would show
        moved = np.zeros_like(features)
        moved[image] = direction[image]
        up, down = (attend_by_loops(features + sign * step * moved, known, rate=rate) for sign in (1, -1))
        slope = np.sum(cotangent * (up - down)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * moved), slope, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("rate", "h", "w"), [(1, 4, 6), (2, 6, 4), (4, 8, 8)])
def test_a_constant_map_stays_as_it_is(rate, h, w):
    features = jnp.broadcast_to(jnp.array([2.0, -1.0, 0.5])[None, None, None], (1, h, w, 3))
    known = jnp.ones((1, h, w, 1)).at[0, -1, -1].set(0)
    out, _ = attend(features, known, rate=rate)
    np.testing.assert_allclose(out, features, rtol=1e-5)


@pytest.mark.parametrize("rate", [1, 2])
def test_a_known_cell_attends_to_itself(rate):
    features, known = jax.random.normal(jax.random.key(0), (2, 8, 12, 16)), jnp.ones((2, 8, 12, 1))
    out, offsets = attend(features, known, rate=rate, scale=100.0)
    chex.assert_shape(offsets, (2, 8 // rate, 12 // rate, 2))
    assert not offsets.any()
    if rate == 1:
        np.testing.assert_allclose(out, features, atol=1e-3)


def test_offsets_point_to_the_copy():
    # The right half repeats the left half, 6 columns away; its middle is hidden.
    half = jax.random.normal(jax.random.key(0), (1, 7, 6, 16))
    known = jnp.ones((1, 7, 12, 1)).at[0, 3, 8].set(0)
    features = jnp.concatenate([half, half], axis=2)
    out, offsets = attend(features, known, scale=100.0)
    np.testing.assert_array_equal(offsets[0, 3, 8], [0, -6])
    np.testing.assert_allclose(out[0, 3, 8], features[0, 3, 2], atol=1e-3)


def test_no_valid_patch_returns_the_features_with_finite_gradients():
    features = np.zeros((2, 5, 4, D), np.float32)
    features[1] = 1e-9  # norms below their floor too
    gradient_of_sum = jax.jit(jax.grad(lambda f, k: attend(f, k)[0].sum()))
    for known in (np.zeros((2, 5, 4, 1), np.float32), np.ones((2, 5, 4, 1), np.float32)):
        out, offsets = attend(features, known)
        np.testing.assert_allclose(out, features, rtol=1e-6)
        assert known.any() or not offsets.any()
        chex.assert_tree_all_finite(gradient_of_sum(features, known))


def test_bfloat16_keeps_its_dtype_and_float32_weights():
    features, known = draw_features(6, 8).astype(jnp.bfloat16), draw_known(6, 8)
    out, offsets = attend(features, known, rate=2)
    chex.assert_type([out, offsets], [jnp.bfloat16, jnp.float32])
    expected = attend_by_loops(features.astype(jnp.float32), known, rate=2)
    np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=0.03)


@pytest.mark.slow
def test_memory_grows_linearly_with_the_cells():
    def temporary_bytes(side):
        known = jnp.ones((1, side, side, 1))
        step = jax.jit(jax.grad(lambda f: attend(f, known, max_entries=1)[0].sum()))
        return step.lower(jnp.ones((1, side, side, 8))).compile().memory_analysis().temp_size_in_bytes

    # A row of targets needs side^3 entries; the whole matrix would need side^4, 16 times more.
    assert temporary_bytes(16) < 10 * temporary_bytes(8)


def test_cells_are_known_where_all_of_their_pixels_are():
    mask = jnp.ones((1, 4, 6, 1), bool).at[0, 3, 0].set(False).at[0, :2, 4:].set(False)
    fractions = contextual_attention.cell_fractions(mask, (2, 3))
    np.testing.assert_array_equal(fractions[0, :, :, 0], [[1, 1, 0], [0.75, 1, 1]])


@pytest.mark.parametrize("cell", [3, 5, 7, 11, 13])
def test_a_whole_cell_of_any_size_is_exactly_known(cell):
    mask = jnp.ones((1, 2 * cell, cell, 1), bool)
    fractions = jax.jit(contextual_attention.cell_fractions, static_argnums=1)(mask, (2, 1))
    np.testing.assert_array_equal(fractions, 1)


def test_a_thin_hole_is_not_lost():
    mask = jnp.ones((1, 64, 64, 1), bool).at[0, :, 33].set(False)
    known = contextual_attention.cell_fractions(mask, (16, 16))
    weights = contextual_attention.patch_weights(known, "whole")
    assert int(weights.sum()) == 16 * 13


@pytest.mark.parametrize(
    ("features", "known", "rate"),
    [((1, 4, 4, 2), (1, 4, 5, 1), 1), ((1, 5, 4, 2), (1, 5, 4, 1), 2), ((4, 4, 2), (4, 4, 1), 1)],
)
def test_a_wrong_shape_raises(features, known, rate):
    with pytest.raises(AssertionError):
        contextual_attention.attend(jnp.ones(features), jnp.ones(known), rate=rate)


def test_an_unknown_validity_raises():
    with pytest.raises(ValueError, match="whole"):
        attend(jnp.ones((1, 4, 4, 2)), jnp.ones((1, 4, 4, 1)), validity="half")
