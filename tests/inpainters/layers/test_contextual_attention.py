import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import contextual_attention
from tests.oracles.contextual_attention import RATE, SCALE, by_convolutions

B, D = 3, 2
attend = jax.jit(contextual_attention.attend, static_argnames=("rate", "validity", "max_entries"))
ONE, MANY = contextual_attention.MAX_ENTRIES, 1  # as max_entries: one part, or one for each row


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
    """One image by loops over patches: float64 (h, w, D), and offsets (h / r, w / r, 2)."""
    h, w, d = features.shape
    known = known[..., 0].reshape(h // rate, rate, w // rate, rate).mean(axis=(1, 3))
    offsets = np.zeros((*known.shape, 2))
    small = patches(features[::rate, ::rate], 3, 1, 1)
    norm = {p: max(np.linalg.norm(patch), 1e-4) for p, patch in small.items()}
    scores = fused({(p, q): np.sum(small[p] * small[q]) / (norm[q] * norm[p]) for p in small for q in small})
    weights = {q: weight_of(known, q, validity) for q in small}
    valid = [q for q in small if weights[q] > 0]
    if not valid:
        return np.asarray(features, np.float64), offsets
    size, low = (3, 1) if rate == 1 else (2 * rate, rate // 2)
    raw = patches(features, size, rate, low)
    ones = patches(np.ones((h, w, 1)), size, rate, low)
    num, den = np.zeros((h + 4 * rate, w + 4 * rate, d)), np.zeros((h + 4 * rate, w + 4 * rate, 1))
    for y, x in small:
        logits = np.array([scale * scores[(y, x), q] + np.log(weights[q]) for q in valid])
        attention = np.exp(logits - logits.max())
        offsets[y, x] = np.subtract(valid[int(np.argmax(attention))], (y, x))
        for a, q in zip(attention / attention.sum(), valid, strict=True):
            num[y * rate : y * rate + size, x * rate : x * rate + size] += a * raw[q]
            den[y * rate : y * rate + size, x * rate : x * rate + size] += a * ones[q]
    return (num / np.maximum(den, 1e-6))[low : low + h, low : low + w], offsets


def attend_by_loops(features, known, *, rate, scale=10.0, validity="whole"):
    images = zip(np.asarray(features), np.asarray(known), strict=True)
    found = [attend_to_one(f, k, rate, scale, validity) for f, k in images]
    return tuple(np.stack(one) for one in zip(*found, strict=True))


def draw_features(h, w):
    return jax.random.normal(jax.random.key(0), (B, h, w, D))


def draw_known(h, w):
    """A corner hole, a fully hidden image and one of three cells, two of them partly known."""
    known = np.ones((B, h, w, 1), np.float32)
    known[0, :2, :2] = 0
    known[1] = 0
    known[2, 2, 1], known[2, 3, 1], known[2, 2, 2] = 0.25, 0, 0.75
    return jnp.asarray(known)


# At a scale of 10 a known cell attends to itself alone; at 0.1 the weights of the patches decide.
@pytest.mark.parametrize("scale", [10.0, 0.1])
@pytest.mark.parametrize(
    ("rate", "h", "w", "validity", "max_entries"),
    [
        (1, 5, 4, "whole", ONE),
        (1, 5, 4, "fraction", MANY),
        (2, 6, 8, "whole", MANY),
        (2, 6, 8, "fraction", ONE),
        (4, 12, 16, "whole", ONE),
    ],
)
def test_equals_loops_over_patches(rate, h, w, validity, max_entries, scale):
    features, known = draw_features(h, w), draw_known(h, w)
    if validity == "fraction":  # no patch of the second image is whole, most know a little
        known = known.at[1, ::2, ::2].set(0.3)
    found = attend(features, known, rate=rate, scale=scale, validity=validity, max_entries=max_entries)
    expected = attend_by_loops(features, known, rate=rate, scale=scale, validity=validity)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


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


@functools.partial(jax.jit, static_argnames="rate")
def pull_back(features, known, cotangent, *, rate):
    """The answer, and the gradient of its product with `cotangent`."""
    out, vjp = jax.vjp(lambda features: attend(features, known, rate=rate, max_entries=MANY)[0], features)
    return out, vjp(cotangent)[0]


@pytest.mark.parametrize(("rate", "h", "w"), [(1, 5, 4), (2, 6, 8)])
def test_gradients_equal_finite_differences(rate, h, w):
    features, known = draw_features(h, w), draw_known(h, w)
    direction, cotangent = np.random.default_rng(1).normal(size=(2, *features.shape))
    _, gradient = pull_back(features, known, np.float32(cotangent), rate=rate)
    features, step = np.asarray(features, np.float64), 1e-5  # so that rounding does not decide
    for image in range(B):  # one image at a time: a gradient that leaks into another would show
        moved = np.zeros_like(features)
        moved[image] = direction[image]
        up, down = (attend_by_loops(features + sign * step * moved, known, rate=rate)[0] for sign in (1, -1))
        slope = np.sum(cotangent * (up - down)) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * moved), slope, rtol=2e-4, atol=2e-4)


def test_no_valid_patch_returns_the_features_with_finite_gradients():
    features = np.zeros((B, 5, 4, D), np.float32)
    features[1] = 1e-9  # norms below their floor too
    for known in (np.zeros((B, 5, 4, 1), np.float32), np.ones((B, 5, 4, 1), np.float32)):
        out, gradient = pull_back(features, known, np.ones_like(features), rate=1)
        np.testing.assert_allclose(out, features, rtol=1e-6)
        chex.assert_tree_all_finite(gradient)


def test_bfloat16_keeps_its_dtype_and_float32_weights():
    features, known = draw_features(6, 8).astype(jnp.bfloat16), draw_known(6, 8)
    out, offsets = attend(features, known, rate=2)
    chex.assert_type([out, offsets], [jnp.bfloat16, jnp.float32])
    expected, _ = attend_by_loops(features.astype(jnp.float32), known, rate=2)
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
    mask = np.ones((1, 4, 6, 1), bool)
    mask[0, 3, 0] = mask[0, :2, 4:] = False
    whole = [np.ones((1, 2 * cell, cell, 1), bool) for cell in (3, 5, 7, 11, 13)]

    @jax.jit
    def compute(mask, whole):
        fractions = contextual_attention.cell_fractions
        return fractions(mask, (2, 3)), [fractions(one, (2, 1)) for one in whole]

    found, of_whole = compute(mask, whole)
    np.testing.assert_array_equal(found[0, :, :, 0], [[1, 1, 0], [0.75, 1, 1]])
    for one in of_whole:  # exactly, whatever the size of a cell
        np.testing.assert_array_equal(one, 1)


def test_a_thin_hole_is_not_lost():
    mask = np.ones((1, 64, 64, 1), bool)
    mask[0, :, 33] = False

    @jax.jit
    def compute(mask):
        known = contextual_attention.cell_fractions(mask, (16, 16))
        return contextual_attention.patch_weights(known, "whole")

    assert int(compute(mask).sum()) == 16 * 13


def test_a_wrong_shape_raises():
    for shape, known, rate in (((1, 4, 4, 2), (1, 4, 5, 1), 1), ((1, 3, 4, 2), (1, 3, 4, 1), 2)):
        with pytest.raises(AssertionError):
            contextual_attention.attend(np.ones(shape), np.ones(known), rate=rate)
