import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import unet

SMALL = {"widths": (4, 6, 8), "down_blocks": (1, 2, 1), "up_blocks": (1, 1)}


def randomised(variables, key):
    """All parameters random, so that no kernel is zero."""
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))
    leaves = [0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def plain_conv(x, kernel, bias):
    """A 3x3 convolution with zero padding, one position at a time."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.zeros((h, w, kernel.shape[-1]))
    for i, j in np.ndindex(h, w):
        out[i, j] = np.einsum("abc,abcd->d", padded[i : i + 3, j : j + 3], kernel) + bias
    return out


def test_space_to_depth_gathers_blocks_and_depth_to_space_undoes_it():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    out = unet.space_to_depth(jnp.asarray(x))
    chex.assert_shape(out, (2, 2, 3, 12))
    for i, j in np.ndindex(2, 3):
        block = [x[:, 2 * i + a, 2 * j + b] for a in range(2) for b in range(2)]
        np.testing.assert_array_equal(out[:, i, j], np.concatenate(block, axis=-1))
    np.testing.assert_array_equal(unet.depth_to_space(out), x)


def test_residual_block_starts_as_the_identity_and_equals_a_plain_loop():
    x = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    block = unet.ResidualBlock()
    out, variables = block.init_with_output(jax.random.key(1), x)
    np.testing.assert_array_equal(out, x)
    variables = randomised(variables, jax.random.key(2))
    params = jax.tree.map(np.asarray, variables["params"])
    gelu = lambda y: np.asarray(jax.nn.gelu(jnp.asarray(y, jnp.float32)))  # noqa: E731
    for image, actual in zip(np.asarray(x), block.apply(variables, x), strict=True):
        hidden = plain_conv(gelu(image), **params["Conv_0"])
        expected = image + plain_conv(gelu(hidden), **params["Conv_1"])
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("activation", unet.ACTIVATIONS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_dtype_and_parameters(activation, dtype):
    network = unet.UNet(**SMALL, activation=activation, dtype=dtype)
    out, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.ones((2, 8, 12, 5)))
    chex.assert_shape(out, (2, 8, 12, 4))
    chex.assert_type(out, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    convolutions = sum(2 * (9 * d * d + d) * n for d, n in ((4, 2), (6, 3), (8, 1)))
    dense = (5 * 4 + 4) + (16 * 6 + 6) + (24 * 8 + 8) + (8 * 24 + 24) + (6 * 16 + 16)
    assert sum(x.size for x in jax.tree.leaves(variables)) == convolutions + dense


def test_a_picture_has_the_same_features_for_any_amount_of_padding():
    x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))
    network = unet.UNet(**SMALL)
    variables = randomised(network.init(jax.random.key(1), jnp.ones((1, 8, 8, 3))), jax.random.key(2))

    def pad(x, h, w):
        return jnp.pad(x, ((0, 0), (0, h - 5), (0, w - 7), (0, 0)))

    small, large = (
        network.apply(variables, pad(x, h, w), valid=pad(jnp.ones((1, 5, 7, 1)), h, w))
        for h, w in ((8, 8), (16, 12))
    )
    np.testing.assert_allclose(small[:, :5, :7], large[:, :5, :7], rtol=1e-4, atol=1e-3)
    assert jnp.all(large[:, 5:] == 0) and jnp.all(large[:, :, 7:] == 0)


def test_features_at_the_coarsest_level_can_be_changed_between_the_two_ways():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    network = unet.UNet(**SMALL)
    variables = randomised(network.init(jax.random.key(1), x), jax.random.key(2))
    features = network.apply(variables, x, method="down")
    chex.assert_shape(features, [(2, 8, 8, 4), (2, 4, 4, 6), (2, 2, 2, 8)])
    whole = network.apply(variables, x)
    np.testing.assert_allclose(network.apply(variables, features, method="up"), whole, rtol=1e-4, atol=1e-4)
    features[-1] += 1.0
    changed = network.apply(variables, features, method="up")
    assert jnp.max(jnp.abs(changed - whole)) > 1e-3


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(AssertionError):
        unet.UNet(**SMALL).init(jax.random.key(0), jnp.ones((1, 6, 8, 3)))
