import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import points


@pytest.mark.parametrize("leading", [(), (5,), (2, 3, 4), (2, 1, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shape_and_dtype(leading, dtype):
    encoder = points.PointwiseEncoder((7, 4), dtype=dtype)
    out, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(1), jnp.zeros((*leading, 3)))
    chex.assert_shape(out, (*leading, 4))
    chex.assert_type(out, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)


def test_every_position_is_mapped_alone_and_the_last_layer_is_linear():
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 3, 3)))
    out, variables = jax.jit(points.PointwiseEncoder((7, 4)).init_with_output)(jax.random.key(1), x)
    params = jax.tree.map(np.asarray, variables["params"])
    first, second = params["Dense_0"], params["Dense_1"]
    for index in np.ndindex(2, 3):
        hidden = np.asarray(jax.nn.gelu(x[index] @ first["kernel"] + first["bias"]))
        np.testing.assert_allclose(out[index], hidden @ second["kernel"] + second["bias"], atol=1e-5)
