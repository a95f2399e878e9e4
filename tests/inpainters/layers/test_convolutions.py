import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import convolutions


def loop(x, kernel):
    """y[2i - 1 + k] += x[i] W[k] along both axes, W the reversed kernel."""
    b, h, w, _ = x.shape
    y = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
    for i in range(h):
        for j in range(w):
            for k in range(4):
                for m in range(4):
                    y[:, 2 * i + k, 2 * j + m] += x[:, i, j] @ kernel[3 - k, 3 - m]
    return y[:, 1:-1, 1:-1]


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 2, 3, 2), (2, 4, 2, 3)])
def test_equals_a_loop_and_the_library_in_values_and_gradients(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (4, 4, shape[-1], 5))

    def library(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def with_gradients(function):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, *pull_back(jnp.sin(y))

    ours = jax.jit(lambda: with_gradients(convolutions.upsample_by_product))()
    theirs = jax.jit(lambda: with_gradients(library))()
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[0], loop(np.asarray(x), np.asarray(kernel)), rtol=1e-4, atol=1e-4)


def test_module_has_the_parameters_of_the_library():
    x = jnp.ones((1, 2, 2, 3))
    ours = convolutions.TransposedConv(5).init(jax.random.key(0), x)
    theirs = nn.ConvTranspose(5, (4, 4), (2, 2)).init(jax.random.key(0), x)
    chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)


def test_unfold_is_a_transposed_convolution_of_one_cell():
    x = jax.random.normal(jax.random.key(0), (2, 3))
    y, variables = convolutions.Unfold(5).init_with_output(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["kernel"])
    np.testing.assert_allclose(y, np.einsum("bi,ihwo->bhwo", x, kernel), rtol=1e-5, atol=1e-6)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 3 * 16 * 5 + 5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes(dtype):
    y, variables = convolutions.TransposedConv(5, dtype=dtype).init_with_output(
        jax.random.key(0), jnp.ones((1, 2, 2, 3))
    )
    chex.assert_type(y, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
