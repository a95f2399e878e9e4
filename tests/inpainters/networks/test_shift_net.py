import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters.networks.shift_net import MultiScaleSqueezeExcitation
from tests import helpers
from tests.inpainters.table import IMAGES, MASKS, answer, make, variables_of


def test_a_training_gets_the_features_of_the_masked_and_of_the_whole_image():
    model, variables = make("shift_net"), variables_of("shift_net")
    assert answer("shift_net").features is None

    @jax.jit
    def compute(params, image):
        def truth_sum(params):
            found = model.apply({"params": params}, image, MASKS, train=True)
            return found.features["truth"].sum(), found

        return jax.grad(truth_sum, has_aux=True)(params)

    gradients, found = compute(variables["params"], IMAGES)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(found.prediction, answer("shift_net").prediction, atol=1e-5)
    features = found.features
    chex.assert_equal_shape([features["decoder"], features["truth"]])
    chex.assert_shape(features["hole"], (8, 4, 4, 1))
    np.testing.assert_array_equal(features["hole"].sum(axis=(1, 2, 3)), [0, 16, 4, 4, 4, 4, 1, 16])
    _, other = compute(variables["params"], np.where(MASKS, IMAGES, 0.25))
    np.testing.assert_array_equal(other.features["decoder"], features["decoder"])
    is_other = (other.features["truth"] != features["truth"]).any(axis=(1, 2, 3))
    assert is_other.tolist() == [False] + [True] * 7  # hidden pixels are in it


@pytest.mark.parametrize(("width", "expected"), [(64, 43_924), (128, 174_888), (256, 697_936)])
def test_parameter_count_of_squeeze_and_excitation(width, expected):
    for dtype in (jnp.float32, jnp.bfloat16):
        module, x = MultiScaleSqueezeExcitation(dtype=dtype), jnp.ones((1, 3, 4, width))
        out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
        assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected
        chex.assert_shape(out, x.shape)
        chex.assert_type(out, dtype)
        chex.assert_type(jax.tree.leaves(variables), jnp.float32)


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


def test_squeeze_and_excitation_equals_the_equations():
    module = MultiScaleSqueezeExcitation(reduction=4)
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 8))
    shapes = jax.eval_shape(module.init, jax.random.key(1), x)
    variables = helpers.draw_variables(shapes)
    out = jax.jit(module.apply)(variables, x)
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
