import itertools

import chex
import jax
import jax.numpy as jnp
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.inpainters import patch_critics

IMAGE = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
CROP = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


def count(critic, *images):
    variables = jax.eval_shape(lambda *x: critic.init(jax.random.key(0), *x, train=False), *images)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def conv(side, taken, given):
    return side**2 * taken * given + given


def test_parameter_counts():
    patch = sum(conv(4, *pair) for pair in ((3, 64), (64, 128), (128, 256), (256, 512), (512, 1)))
    assert count(patch_critics.PatchCritic(), IMAGE) == patch == 2_764_737
    norms = 2 * (128 + 256 + 512)
    assert count(patch_critics.RegionCritic(), IMAGE) == patch + norms


def test_parameter_count_of_the_published_pair():
    image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    crop = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    widths = [3, 64, 128, 256, 512, 512]
    local = sum(conv(5, *pair) for pair in itertools.pairwise(widths)) + 2 * sum(widths[1:])
    whole = local + conv(5, 512, 512) + 2 * 512
    expected = local + whole + 2 * conv(4, 512, 1024) + 2 * 1024 + 1
    assert count(patch_critics.GlobalLocalCritic(), image, crop) == expected


CRITICS = {
    "patch": (patch_critics.PatchCritic(width=4), (CROP,), (2, 2, 2)),
    "region": (patch_critics.RegionCritic(width=4, max_width=8), (CROP,), (2,)),
    "pair": (patch_critics.GlobalLocalCritic(width=4, max_width=8, vector=8), (IMAGE, CROP), (2,)),
}


@pytest.mark.parametrize("name", CRITICS)
def test_logits(name):
    critic, images, expected = CRITICS[name]
    logits, variables = jax.eval_shape(
        lambda *x: critic.init_with_output(jax.random.key(0), *x, train=True), *images
    )
    chex.assert_shape(logits, expected)
    chex.assert_type(jax.tree.leaves((logits, variables)), jnp.float32)
    assert ("batch_stats" in variables) == (name != "patch")


@pytest.mark.parametrize("size", [4, 12, 48])
def test_sides_that_are_no_power_of_two_are_refused(size):
    with pytest.raises(UserError, match=str(size)):
        patch_critics.num_halvings(size)


def test_halvings():
    assert [patch_critics.num_halvings(size) for size in (8, 64, 128, 256)] == [1, 4, 5, 6]
