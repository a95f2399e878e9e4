import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import critics
from tests import helpers


def images(side, *, channels=3):
    return jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)


def variables_of(critic, *seen):
    return jax.eval_shape(lambda *x: critic.init(jax.random.key(0), *x, train=True), *seen)


def conv(side, taken, given):
    """Parameters of one convolution."""
    return side**2 * taken * given + given


WIDTHS = [3, 64, 128, 256, 512, 512]
LOCAL_TOWER = sum(conv(5, *pair) for pair in itertools.pairwise(WIDTHS)) + 2 * sum(WIDTHS[1:])
GLOBAL_TOWER = LOCAL_TOWER + conv(5, 512, 512) + 2 * 512


@pytest.mark.parametrize(
    ("critic", "seen", "expected"),
    [
        (critics.ConvCritic((64, 128, 256, 256)), (images(256),), 2_733_441),
        (critics.ConvCritic((64, 128, 256, 512)), (images(128),), 4_339_329),
        (critics.ConvCritic((64, 128, 256)), (images(32),), 1_033_345),
        (critics.ConvCritic((64, 128, 256)), (images(16),), 1_030_273),
        (critics.PatchCritic(), (images(64),), 2_764_737),
        (critics.RegionCritic(), (images(64),), 2_764_737 + 2 * (128 + 256 + 512)),
        (
            critics.GlobalLocalCritic(),
            (images(256), images(128)),
            LOCAL_TOWER + GLOBAL_TOWER + 2 * conv(4, 512, 1024) + 2 * 1024 + 1,
        ),
    ],
)
def test_parameter_counts(critic, seen, expected):
    variables = variables_of(critic, *seen)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == expected
    # WGAN-GP's penalty takes each image alone.
    has_statistics = isinstance(critic, (critics.RegionCritic, critics.GlobalLocalCritic))
    assert ("batch_stats" in variables) == has_statistics


@pytest.mark.parametrize(
    ("make", "sides", "expected"),
    [
        (lambda dtype: critics.ConvCritic((4, 8), dtype=dtype), (32,), (2,)),
        (lambda dtype: critics.PatchCritic(4, dtype=dtype), (32,), (2, 2, 2)),
        (lambda dtype: critics.RegionCritic(4, dtype=dtype), (32,), (2,)),
        (lambda dtype: critics.GlobalLocalCritic(4, dtype=dtype), (64, 32), (2,)),
    ],
)
def test_scores_are_float32(make, sides, expected):
    for critic in map(make, (jnp.float32, jnp.bfloat16)):
        scores, variables = jax.eval_shape(
            lambda *x, critic=critic: critic.init_with_output(jax.random.key(0), *x, train=True),
            *map(images, sides),
        )
        chex.assert_shape(scores, expected)
        chex.assert_type(jax.tree.leaves((scores, variables)), jnp.float32)


@pytest.mark.parametrize("critic", [critics.ConvCritic((4, 8), dtype=jnp.bfloat16), critics.PatchCritic(4)])
def test_without_statistics_an_image_alone_scores_as_in_a_batch(critic):
    x = np.random.default_rng(0).normal(size=(3, 32, 40, 2)).astype(np.float32)
    variables = helpers.draw_variables(variables_of(critic, x))
    score = jax.jit(lambda x: critic.apply(variables, x, train=True))
    other = np.zeros_like(x)
    other[2] = x[0]
    np.testing.assert_allclose(score(other)[2], score(x)[0], rtol=1e-5, atol=1e-6)


def test_sides_that_are_no_power_of_two_are_refused():
    for side in (4, 12, 48):
        with pytest.raises(UserError, match=str(side)):
            critics.count_halvings(images(side))
    assert [critics.count_halvings(images(side)) for side in (8, 64, 128, 256)] == [1, 4, 5, 6]
