"""Bilinear sampling, and the two layers that move features with it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from ifanp_jax.inpainters.layers import warping

B, H, W, D = 2, 5, 4, 3
LAYERS = [warping.AppearanceFlow, warping.SpatialTransformer]


def draw_features():
    return jax.random.normal(jax.random.key(0), (B, H, W, D))


def test_sampling_equals_scipy():
    features = draw_features()
    places = jax.random.uniform(jax.random.key(1), (B, 6, 7, 2), minval=-2.0, maxval=7.0)
    out = jax.jit(warping.sample)(features, places)
    for image in range(B):
        for channel in range(D):
            expected = scipy.ndimage.map_coordinates(
                np.asarray(features)[image, :, :, channel],
                np.moveaxis(np.asarray(places)[image], -1, 0),
                order=1,
                mode="nearest",
            )
            np.testing.assert_allclose(out[image, :, :, channel], expected, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_gradient_by_the_places_is_the_slope(axis):
    slope = jnp.array([2.0, -3.0])
    features = (warping.cell_places(H, W) @ slope)[None, :, :, None]
    places = warping.cell_places(H - 1, W - 1)[None] + 0.25
    gradient = jax.jit(jax.grad(lambda p: warping.sample(features, p).sum()))(places)
    np.testing.assert_allclose(gradient[..., axis], slope[axis], rtol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_start_is_the_identity_and_learns(layer):
    features = draw_features()
    (out, offsets), variables = jax.jit(layer().init_with_output)(jax.random.key(2), features)
    np.testing.assert_array_equal(out, features)
    np.testing.assert_array_equal(offsets, np.zeros((B, H, W, 2)))
    target = jnp.roll(features, 1, axis=2)
    loss = jax.grad(lambda v: jnp.sum(jnp.square(layer().apply(v, features)[0] - target)))
    gradients = jax.jit(loss)(variables)
    chex.assert_tree_all_finite(gradients)
    moved = jax.tree.leaves(jax.tree.map(lambda g: bool(jnp.any(g != 0)), gradients))
    assert any(moved)


def test_flow_takes_features_from_where_it_points():
    features = draw_features()
    layer = warping.AppearanceFlow()
    variables = jax.jit(layer.init)(jax.random.key(2), features)
    # Of the convolution, whose kernel begins at 0.
    variables = jax.tree.map(lambda x: jnp.array([1.0, -1.0]) if x.shape == (2,) else x, variables)
    out, offsets = jax.jit(layer.apply)(variables, features)
    np.testing.assert_allclose(out[:, :-1, 1:], features[:, 1:, :-1], atol=1e-6)
    np.testing.assert_array_equal(offsets[0, 2, 2], [1, -1])


def test_transformer_applies_one_affine_map():
    features = draw_features()
    layer = warping.SpatialTransformer()
    variables = jax.jit(layer.init)(jax.random.key(2), features)
    # Mirrors the columns and moves up by one row: two sides are 2 units long.
    change = jnp.array([[0, 0, -2 / H], [0, -2, 0]])
    variables = jax.tree.map(lambda x: change.reshape(6) if x.shape == (6,) else x, variables)
    out, _ = jax.jit(layer.apply)(variables, features)
    np.testing.assert_allclose(out[:, 1:], features[:, :-1, ::-1], atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_dtypes(layer, dtype):
    features = jnp.ones((B, 1, 6, D), dtype)
    (out, offsets), variables = jax.eval_shape(
        layer(dtype=dtype).init_with_output, jax.random.key(0), features
    )
    chex.assert_shape([out, offsets], [(B, 1, 6, D), (B, 1, 6, 2)])
    chex.assert_type([out, offsets], [dtype, jnp.float32])
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
