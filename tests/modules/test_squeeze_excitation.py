import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules.squeeze_excitation import SqueezeExcitation


@pytest.mark.parametrize(("h", "w", "features"), [(4, 4, 8), (3, 5, 6), (1, 7, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_and_dtype(h, w, features, dtype):
    x = jnp.ones((2, h, w, features), dtype)
    out, variables = jax.eval_shape(SqueezeExcitation(4, dtype=dtype).init_with_output, jax.random.key(0), x)
    chex.assert_equal_shape([x, out])
    chex.assert_type(out, dtype)
    params = variables["params"]
    chex.assert_type(jax.tree.leaves(params), jnp.float32)
    assert params["Dense_0"]["kernel"].shape == (features, max(1, features // 4))


def test_closed_form():
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 5, 8)))
    out, variables = jax.jit(SqueezeExcitation(4).init_with_output)(jax.random.key(1), x)
    squeeze, excite = (jax.tree.map(np.asarray, variables["params"][name]) for name in ("Dense_0", "Dense_1"))
    hidden = np.maximum(x.mean(axis=(1, 2)) @ squeeze["kernel"] + squeeze["bias"], 0)
    gate = 1 / (1 + np.exp(-(hidden @ excite["kernel"] + excite["bias"])))
    np.testing.assert_allclose(out, x * gate[:, None, None], atol=1e-5)
