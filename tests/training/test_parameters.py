import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ifanp_jax.models import image_np
from ifanp_jax.training import parameters

MODEL = image_np.IFNP(channels=3, width=4, latent_dim=2, encoder_depth=1, decoder_depth=1)


def init(key, *, has_ema):
    return parameters.init_state(key, MODEL, optax.adam(1e-3), (4, 5, 3), has_ema=has_ema)


def test_starts_at_step_zero_with_the_average_at_the_parameters():
    start = jax.jit(init, static_argnames="has_ema")(jax.random.key(0), has_ema=True)
    assert start.step == 0 and start.step.dtype == jnp.int32 and not start.step.weak_type
    chex.assert_trees_all_equal(start.params, start.ema_params)
    other = jax.jit(init, static_argnames="has_ema")(jax.random.key(1), has_ema=True)
    kernel, other_kernel = (one.params["encoder1"]["Dense_0"]["kernel"] for one in (start, other))
    assert np.any(np.asarray(kernel != other_kernel))


def test_evaluation_params_are_the_average_where_there_is_one():
    both = parameters.TrainState(step=jnp.int32(0), params={"w": 1.0}, opt_state=(), ema_params={"w": 2.0})
    assert both.evaluation_params == {"w": 2.0}
    assert both.replace(ema_params=None).evaluation_params == {"w": 1.0}
    assert jax.eval_shape(lambda: init(jax.random.key(0), has_ema=False)).ema_params is None


def test_count_parameters():
    assert parameters.count_parameters({"a": np.zeros((2, 3)), "b": [np.zeros(()), np.zeros(4)]}) == 11
