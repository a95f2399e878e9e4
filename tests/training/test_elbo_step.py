import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ifanp_jax import metrics
from ifanp_jax.data import masks, sampling
from ifanp_jax.inference import predict
from ifanp_jax.models import image_np, parameters
from ifanp_jax.training.steps import elbo
from tests import tiny

SMALL = {"channels": 1, "width": 8, "latent_dim": 4, "encoder_depth": 1, "decoder_depth": 1}
VARIANTS = ["IFNP", "IFANP_LPA", "IFANP_SENet", "IFANP_GCA", "IFANP"]


def make_batch(*, size=4, side=6):
    image = jax.random.uniform(jax.random.key(1), (size, side, side, 1))
    return sampling.Batch(
        image=image, mask=jax.random.bernoulli(jax.random.key(2), 0.5, (size, side, side, 1))
    )


@functools.cache
def start_of(name):
    model, tx = getattr(image_np, name)(**SMALL), optax.adam(1e-2)
    shapes = jax.eval_shape(lambda: parameters.init_variables(jax.random.key(0), model, (6, 6, 1)))["params"]
    generator = np.random.default_rng(0)  # NumPy: nothing to compile
    params = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, 0.2, leaf.shape), leaf.dtype), shapes)
    return model, tx, elbo.TrainState(jnp.int32(0), params, tx.init(params), ema_params=None)


@functools.cache
def compiled_step(name, **options):
    model, tx, _ = start_of(name)
    update = elbo.make_update(model, tx, **options)
    return jax.jit(
        lambda state, batch: update(jax.random.key(3), state, jax.tree.map(lambda x: x[None], batch))
    )


def run(name, *, num_steps=2, has_ema=False, **options):
    """Returns the states, the first being the start, and the metrics of each step."""
    start = start_of(name)[2]
    states, logged = [start.replace(ema_params=start.params if has_ema else None)], []
    for _ in range(num_steps):
        after, values = compiled_step(name, **options)(states[-1], make_batch())
        states.append(after)
        logged.append(values)
    return states, logged


@pytest.mark.parametrize("name", VARIANTS)
def test_two_steps(name):
    states, logged = run(name)
    chex.assert_tree_all_finite((states, logged))
    assert [int(one.step) for one in states] == [0, 1, 2]
    for before, after in itertools.pairwise(states):
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
        is_changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.params, after.params)
        assert all(jax.tree.leaves(is_changed))
    for values in logged:
        np.testing.assert_allclose(values["loss"], values["kl"] - values["log_prob"], rtol=1e-5)


def test_a_repeat_is_identical_bit_for_bit():
    first, second = run("IFANP_SENet"), run("IFANP_SENet")
    chex.assert_trees_all_equal(first, second)


def test_the_latent_noise_follows_the_step():
    start = start_of("IFNP")[2]
    steps_done = (start.replace(step=jnp.int32(step)) for step in (0, 1, 2))
    assert len({float(compiled_step("IFNP")(one, make_batch())[1]["loss"]) for one in steps_done}) == 3


def test_the_options_reach_the_loss():
    options = {"num_samples": 3, "target": "unobserved"}
    _, (logged,) = run("IFNP", num_steps=1, kl_weight=0.25, **options)
    model, _, start = start_of("IFNP")
    batch, rngs = make_batch(), {"sample": jax.random.fold_in(jax.random.key(3), 0)}
    apply = jax.jit(functools.partial(model.apply, train=True, **options))
    terms = apply({"params": start.params}, batch.image, batch.mask, rngs=rngs)
    np.testing.assert_allclose(logged["loss"], (0.25 * terms.kl - terms.log_prob).mean(), rtol=1e-4)
    np.testing.assert_allclose(logged["mse"], np.square(terms.prediction - batch.image).mean(), rtol=1e-4)


def test_a_loss_per_value_counts_the_target_values_of_the_batch():
    per_image, per_value = (
        run("IFNP", num_steps=1, target="unobserved", per_value=chosen)[1][0]["loss"]
        for chosen in (False, True)
    )
    num_values = (~make_batch().mask).sum()
    np.testing.assert_allclose(per_value, per_image * len(make_batch().image) / num_values, rtol=1e-5)


def test_the_loss_of_held_out_images_is_that_of_the_training():
    values = {"reconstruction": np.array([3.0, 5.0]), "kl": np.array([1.0, 2.0])}
    num_values = np.array([4, 6])
    assert elbo.held_out_loss(values, num_values) == pytest.approx(-2.5)
    assert elbo.held_out_loss(values, num_values, kl_weight=0, per_value=True) == pytest.approx(-0.8)
    assert elbo.held_out_loss({"reconstruction": values["reconstruction"]}, num_values) == pytest.approx(-4)


def test_the_logged_gradient_norm_is_that_of_the_gradient():
    (_, after), (logged,) = run("IFNP", num_steps=1)
    first_moment = after.opt_state[0].mu  # 0.1 times the only gradient so far
    np.testing.assert_allclose(logged["grad_norm"], 10 * optax.tree.norm(first_moment), rtol=1e-4)


def test_moving_average_with_warm_up():
    states, _ = run("IFNP", num_steps=3, has_ema=True, ema_decay=0.15)
    expected = states[0].params
    for after, decay in zip(
        states[1:], [1 / 10, 0.15, 0.15], strict=True
    ):  # then 2 / 11 and 3 / 12 exceed it
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, expected, after.params)
        chex.assert_trees_all_close(after.ema_params, expected, atol=1e-6)
    chex.assert_trees_all_close(states[-1].params, run("IFNP", num_steps=3)[0][-1].params, atol=1e-6)


def test_a_short_overfit_reaches_13_db():
    # Eight digits, half of the pixels observed anew at every step; the mean of the eight gives 11.5 dB.
    images = sampling.to_float(jnp.asarray(tiny.digits().train[:8]))
    model = image_np.IFANP(**SMALL | {"width": 24, "decoder_depth": 2, "likelihood": "fixed"})
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(6e-3, 200)))
    update = elbo.make_update(model, tx)

    @jax.jit
    def init(key):
        params = parameters.init_variables(key, model, (8, 8, 1))["params"]
        return elbo.TrainState(jnp.int32(0), params, tx.init(params), ema_params=None)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state):
        mask = masks.random(jax.random.fold_in(jax.random.key(2), state.step), (8, 8, 8), 32)
        return update(jax.random.key(1), state, sampling.Batch(image=images[None], mask=mask[None]))[0]

    state = init(jax.random.key(0))
    for _ in range(200):
        state = step(state)
    mask = masks.random(jax.random.key(4), (8, 8, 8), 32)
    variables = elbo.evaluation_variables(state)
    answer = predict.complete_batch(jax.random.key(3), model, variables, images, mask, num_samples=4)
    assert metrics.psnr(answer.samples.mean(axis=0), images).mean() > 13


def test_the_average_is_what_is_evaluated_where_there_is_one():
    both = elbo.TrainState(step=jnp.int32(0), params={"w": 1.0}, opt_state=(), ema_params={"w": 2.0})
    assert elbo.evaluation_variables(both) == {"params": {"w": 2.0}}
    assert elbo.evaluation_variables(both.replace(ema_params=None)) == {"params": {"w": 1.0}}
