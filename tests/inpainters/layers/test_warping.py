"""Bilinear sampling, and the two layers that move features with it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ifanp_jax.inpainters.layers import warping

B, H, W, D = 2, 5, 4, 3
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(B, H, W, D)).astype(np.float32)


def test_sampling_equals_scipy():
    places = GENERATOR.uniform(-2, 7, (B, 6, 7, 2)).astype(np.float32)
    out = jax.jit(warping.sample)(FEATURES, places)
    for image in range(B):
        for channel in range(D):
            expected = scipy.ndimage.map_coordinates(
                FEATURES[image, :, :, channel], np.moveaxis(places[image], -1, 0), order=1, mode="nearest"
            )
            np.testing.assert_allclose(out[image, :, :, channel], expected, atol=1e-5)


def test_gradient_by_the_places_is_the_slope():
    slope = jnp.array([2.0, -3.0])

    @jax.jit
    def compute():
        features = (warping.cell_places(H, W) @ slope)[None, :, :, None]
        places = warping.cell_places(H - 1, W - 1)[None] + 0.25
        return jax.grad(lambda p: warping.sample(features, p).sum())(places)

    np.testing.assert_allclose(compute(), np.broadcast_to(slope, (1, H - 1, W - 1, 2)), rtol=1e-5)


def build(layer):
    """Variables at the start, and the compiled answer with the gradient of a distance to moved features."""
    target = np.roll(FEATURES, 1, axis=2)

    @jax.jit
    def compute(variables):
        def loss(variables):
            out, offsets = layer().apply(variables, FEATURES)
            return jnp.sum(jnp.square(out - target)), (out, offsets)

        return jax.grad(loss, has_aux=True)(variables)

    return jax.jit(layer().init)(jax.random.key(2), FEATURES), compute


def check_start(variables, compute):
    """It is the identity, and learns."""
    gradients, (out, offsets) = compute(variables)
    np.testing.assert_array_equal(out, FEATURES)
    np.testing.assert_array_equal(offsets, np.zeros((B, H, W, 2)))
    chex.assert_tree_all_finite(gradients)
    assert any(np.any(gradient) for gradient in jax.tree.leaves(gradients))


def test_flow_starts_as_the_identity_and_takes_features_from_where_it_points():
    variables, compute = build(warping.AppearanceFlow)
    check_start(variables, compute)
    # Of the convolution, whose kernel begins at 0.
    variables = jax.tree.map(lambda x: jnp.array([1.0, -1.0]) if x.shape == (2,) else x, variables)
    _, (out, offsets) = compute(variables)
    np.testing.assert_allclose(out[:, :-1, 1:], FEATURES[:, 1:, :-1], atol=1e-6)
    np.testing.assert_array_equal(offsets[0, 2, 2], [1, -1])


def test_transformer_starts_as_the_identity_and_applies_one_affine_map():
    variables, compute = build(warping.SpatialTransformer)
    check_start(variables, compute)
    # Mirrors the columns and moves up by one row: two sides are 2 units long.
    change = jnp.array([0, 0, -2 / H, 0, -2, 0])
    variables = jax.tree.map(lambda x: change if x.shape == (6,) else x, variables)
    _, (out, _) = compute(variables)
    np.testing.assert_allclose(out[:, 1:], FEATURES[:, :-1, ::-1], atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_dtypes(dtype):
    for layer in (warping.AppearanceFlow, warping.SpatialTransformer):
        (out, offsets), variables = jax.eval_shape(
            layer(dtype=dtype).init_with_output, jax.random.key(0), jnp.ones((B, 1, 6, D), dtype)
        )
        chex.assert_shape([out, offsets], [(B, 1, 6, D), (B, 1, 6, 2)])
        chex.assert_type([out, offsets], [dtype, jnp.float32])
        chex.assert_type(jax.tree.leaves(variables), jnp.float32)
