import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers import convolutions
from tests import helpers


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


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (1, 2, 3, 2)])
def test_equals_a_loop_and_the_library_in_values_and_gradients(shape):
    generator = np.random.default_rng(0)
    x, kernel = (generator.normal(size=one).astype(np.float32) for one in (shape, (4, 4, shape[-1], 5)))

    def library(x, kernel):
        return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def with_gradients(function):
        y, pull_back = jax.vjp(function, x, kernel)
        return y, *pull_back(jnp.sin(y))

    ours, theirs = jax.jit(
        lambda: [with_gradients(one) for one in (convolutions.upsample_by_product, library)]
    )()
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[0], loop(x, kernel), rtol=1e-4, atol=1e-4)


def abstract(module, x):
    return jax.eval_shape(module.init_with_output, jax.random.key(0), x)


def test_modules_have_the_parameters_of_the_library_in_float32():
    x = jnp.ones((1, 2, 2, 3))
    _, theirs = abstract(nn.ConvTranspose(5, (4, 4), (2, 2)), x)
    for dtype in (jnp.float32, jnp.bfloat16):
        out, ours = abstract(convolutions.TransposedConv(5, dtype=dtype), x)
        chex.assert_type(out, dtype)
        chex.assert_trees_all_equal_shapes_and_dtypes(ours, theirs)
        out, variables = abstract(convolutions.Unfold(5, dtype=dtype), x[:, 0, 0])
        chex.assert_type([out, *jax.tree.leaves(variables)], [dtype, jnp.float32, jnp.float32])


def test_unfold_is_a_transposed_convolution_of_one_cell():
    x, module = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32), convolutions.Unfold(5)
    variables = helpers.draw_variables(abstract(module, x)[1])
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    assert kernel.shape == (3, 4, 4, 5) and bias.shape == (5,)
    found = jax.jit(module.apply)(variables, x)
    np.testing.assert_allclose(found, np.einsum("bi,ihwo->bhwo", x, kernel) + bias, rtol=1e-5, atol=1e-6)
