import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.layers.multi_scale_squeeze_excitation import MultiScaleSqueezeExcitation


@pytest.mark.parametrize(("width", "expected"), [(64, 43_924), (128, 174_888), (256, 697_936)])
def test_parameter_count(width, expected):
    variables = jax.eval_shape(
        MultiScaleSqueezeExcitation().init, jax.random.key(0), jnp.ones((1, 8, 8, width))
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def convolve(x, layer, dilation):
    h, w, _ = x.shape
    kernel = np.asarray(layer["kernel"], np.float64)
    padded = np.pad(x, ((dilation, dilation), (dilation, dilation), (0, 0)))
    taps = sum(
        padded[i * dilation : i * dilation + h, j * dilation : j * dilation + w] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    return elu(taps + np.asarray(layer["bias"]))


def test_equals_the_equations():
    module = MultiScaleSqueezeExcitation(reduction=4)
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 8))
    out, variables = module.init_with_output(jax.random.key(1), x)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])

    def dense(name, y):
        return y @ params[name]["kernel"] + params[name]["bias"]

    x = np.asarray(x[0], np.float64)
    gate = 1 / (1 + np.exp(-dense("excite", elu(dense("squeeze", x.mean(axis=(0, 1)))))))
    branches = []
    for dilation in (1, 2):
        for depth in (1, 2, 3):
            branch = elu(dense("enter", x))
            for index in range(depth):
                branch = convolve(branch, params[f"dilation{dilation}_depth{depth}_{index}"], dilation)
            branches.append(branch)
    scaled = gate * elu(dense("project", np.concatenate(branches, axis=-1)))
    expected = elu(dense("reduce", np.concatenate([x, scaled], axis=-1)))
    np.testing.assert_allclose(out[0], expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_and_dtypes(dtype):
    module = MultiScaleSqueezeExcitation(dtype=dtype)
    out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.ones((2, 3, 4, 16)))
    chex.assert_shape(out, (2, 3, 4, 16))
    chex.assert_type(out, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
