import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import optax.contrib
import pytest

from ifanp_jax.training import optimizer
from tests.runtime import sharing_worker


def make_config(**fields):
    defaults = {
        "num_steps": 20,
        "learning_rate": 0.1,
        "warmup_steps": 4,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "optimizer": "adam",
        "adam_share": 0.3,
    }
    return ml_collections.ConfigDict(defaults | fields)


def updates(config, gradients, *, params=None):
    """The updates of successive gradients."""
    tx = optimizer.make_optimizer(config)
    params = {"w": jnp.zeros(2)} if params is None else params
    opt_state, made = tx.init(params), []
    for gradient in gradients:
        update, opt_state = tx.update({"w": jnp.asarray(gradient)}, opt_state, params)
        made.append(np.asarray(update["w"]))
    return made


def test_schedule_warms_up_linearly_and_ends_at_zero_on_a_cosine():
    schedule = optimizer.learning_rate_schedule(make_config())
    rates = np.array([schedule(step) for step in range(21)])
    np.testing.assert_allclose(rates[:5], [0, 0.025, 0.05, 0.075, 0.1], rtol=1e-6)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(17) / 16))
    np.testing.assert_allclose(rates[4:], cosine, atol=1e-7)


def test_short_trainings_still_reach_the_peak():
    for num_steps, warmup_steps in ((1, 100), (2, 100), (10, 0), (10, 8)):
        config = make_config(num_steps=num_steps, warmup_steps=warmup_steps)
        schedule = optimizer.learning_rate_schedule(config)
        assert max(float(schedule(step)) for step in range(num_steps)) == pytest.approx(0.1)
        assert float(schedule(max(num_steps, 2))) == pytest.approx(0.0, abs=1e-8)


def test_without_decay_it_is_adam():
    gradients = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    tx = optax.adam(optimizer.learning_rate_schedule(make_config()))
    opt_state = tx.init({"w": jnp.zeros(2)})
    for gradient, update in zip(gradients, updates(make_config(), gradients), strict=True):
        expected, opt_state = tx.update({"w": jnp.asarray(gradient)}, opt_state)
        np.testing.assert_allclose(update, expected["w"], rtol=1e-5)


def test_clipping_bounds_the_global_norm_before_adam():
    # Adam forgets the scale of one gradient but not the ratio of two: 3000 then counts as much as 1.
    config = make_config(max_grad_norm=1.0, warmup_steps=0)
    clipped = updates(config, [[3000.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(
        clipped, updates(make_config(warmup_steps=0), [[1.0, 0.0], [1.0, 0.0]]), rtol=1e-5
    )
    unclipped = updates(make_config(warmup_steps=0), [[3000.0, 0.0], [1.0, 0.0]])
    assert abs(unclipped[1][0]) < 0.8 * abs(clipped[1][0])


def test_weight_decay_shrinks_parameters_without_gradient():
    config = make_config(weight_decay=0.5, warmup_steps=0)
    (update,) = updates(config, [[0.0, 0.0]], params={"w": jnp.array([2.0, -4.0])})
    np.testing.assert_allclose(update, [-0.1, 0.2], rtol=1e-6)


KERNELS = {
    "conv": {"kernel": jnp.ones((3, 3, 2, 4)), "bias": jnp.zeros(4)},
    "dense": {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5)},
    "scale": jnp.ones(()),
    "mean_head": {"kernel": jnp.ones((6, 5))},
}


def test_muon_takes_the_kernels_and_leaves_the_rest_to_adam():
    assert optimizer.is_kernel(KERNELS) == {
        "conv": {"kernel": True, "bias": False},
        "dense": {"kernel": True, "bias": False},
        "scale": False,
        "mean_head": {"kernel": False},
    }


def test_a_muon_update_is_orthogonal_and_the_rest_moves_by_its_share_of_the_rate():
    config = make_config(optimizer="muon", warmup_steps=0, num_steps=1000)
    tx = optimizer.make_optimizer(config)
    generator = np.random.default_rng(0)
    gradients = jax.tree.map(lambda x: jnp.asarray(generator.normal(size=x.shape), jnp.float32), KERNELS)
    update, _ = tx.update(gradients, tx.init(KERNELS), KERNELS)
    first_step = 0.3 * 0.1 * (0.9 * 0.1 / (1 - 0.9**2) + 1)  # of Adam with Nesterov's momentum
    for name, matrix_shape in (("conv", (18, 4)), ("dense", (6, 5))):
        singular = np.linalg.svd(np.asarray(update[name]["kernel"]).reshape(matrix_shape), compute_uv=False)
        assert 0.6 < singular.min() / singular.max() <= 1  # Newton and Schulz's five steps are rough
        np.testing.assert_allclose(np.abs(update[name]["bias"]), first_step, rtol=1e-3)
    np.testing.assert_allclose(np.abs(update["scale"]), first_step, rtol=1e-3)


def test_one_clipped_step_of_muon_by_hand():
    """The norm is that of all gradients together, and it is clipped before Muon and Adam see it."""
    config = make_config(optimizer="muon", warmup_steps=0, num_steps=1000, max_grad_norm=1.0)
    tx = optimizer.make_optimizer(config)
    params = {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5)}
    generator = np.random.default_rng(0)
    first, second = (jax.tree.map(lambda x: 30 * generator.normal(size=x.shape), params) for _ in range(2))
    first, second = (jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), one) for one in (first, second))
    second = jax.tree.map(lambda x: x / 1e4, second)  # below the bound, so it is left as it is
    _, state = tx.update(first, tx.init(params), params)
    update, _ = tx.update(second, state, params)
    # Adam's moments with Nesterov's momentum, of the bias at its share of the rate.
    norm = np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(first)))
    g1, g2 = np.asarray(first["bias"]) / norm, np.asarray(second["bias"])
    m = 0.9 * (0.1 * g1) + 0.1 * g2
    nesterov = 0.9 * m / (1 - 0.9**3) + 0.1 * g2 / (1 - 0.9**2)
    v = (0.99 * (0.01 * g1**2) + 0.01 * g2**2) / (1 - 0.99**2)
    rate = 0.3 * float(optimizer.learning_rate_schedule(config)(1))
    np.testing.assert_allclose(update["bias"], -rate * nesterov / (np.sqrt(v) + 1e-8), rtol=1e-4)


def test_weight_decay_of_muon_concerns_kernels_alone():
    config = make_config(optimizer="muon", warmup_steps=0, num_steps=1000, weight_decay=0.5)
    tx = optimizer.make_optimizer(config)
    update, _ = tx.update(jax.tree.map(jnp.zeros_like, KERNELS), tx.init(KERNELS), KERNELS)
    np.testing.assert_allclose(update["dense"]["kernel"], -0.1 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(update["scale"], 0, atol=1e-7)


def test_stacks_of_kernels_move_as_each_kernel_alone_does():
    config = make_config(optimizer="muon", warmup_steps=0, num_steps=1000, weight_decay=0.5)
    axes = jax.tree.map(
        lambda kernel, x: (
            optax.contrib.MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1) if kernel else None
        ),
        optimizer.is_kernel(sharing_worker.KERNELS),
        sharing_worker.KERNELS,
    )
    schedule = optimizer.learning_rate_schedule(config)
    alone = optax.contrib.muon(
        schedule,
        weight_decay=0.5,
        adam_b2=0.99,
        adam_learning_rate=lambda step: 0.3 * schedule(step),
        muon_weight_dimension_numbers=axes,
    )
    expected = sharing_worker.make_updates(alone)
    chex.assert_trees_all_close(
        sharing_worker.make_updates(optimizer.make_optimizer(config)), expected, rtol=1e-4, atol=1e-6
    )
