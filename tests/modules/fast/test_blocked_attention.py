import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules.fast import blocked_attention
from tests import helpers

B, N, H, D = 3, 7, 2, 5


def make_inputs(*, dtype=jnp.float32):
    """Queries, keys, values and a gradient (B, N, H, D), and the observed points; none in the last image."""
    generator = np.random.default_rng(0)
    arrays = [jnp.asarray(generator.normal(size=(B, N, H, D)), dtype) for _ in range(4)]
    return *arrays, jnp.asarray(generator.random((B, N)) < 0.5).at[0, 0].set(True).at[-1].set(False)


def plain(queries, keys, values, observed):
    """The formula, with the whole matrix."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", queries, keys) / math.sqrt(D)
    weights = jax.nn.softmax(jnp.where(observed[:, None, None], logits, -1e30), axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, jnp.where(observed[:, :, None, None], values, 0))


def answer_and_gradients(attend):
    *inputs, gradient, observed = make_inputs()
    out, pullback = jax.vjp(functools.partial(attend, observed=observed), *inputs)
    return out, *pullback(gradient)


# All pairs at once, those of two heads, of one head, of 3 queries (the last block is padded), of one query.
@pytest.mark.parametrize("entries", [10**6, 2 * N * N, N * N, 3 * N, 1])
def test_blocks_change_neither_answers_nor_gradients(entries):
    attend = functools.partial(blocked_attention.attend, entries=entries)
    results = jax.jit(lambda: answer_and_gradients(attend))()
    chex.assert_trees_all_close(results, answer_and_gradients(plain), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(results[0][-1], np.zeros((N, H, D)))  # nothing was observed


def test_bfloat16_is_close_and_keeps_its_dtype():
    queries, keys, values, _, observed = make_inputs(dtype=jnp.bfloat16)
    result = blocked_attention.attend(queries, keys, values, observed)
    assert result.dtype == jnp.bfloat16
    exact = plain(*(x.astype(jnp.float32) for x in (queries, keys, values)), observed)
    np.testing.assert_allclose(result.astype(jnp.float32), exact, atol=0.03)


@pytest.mark.parametrize("num_points", [96, 2048])
def test_no_array_of_all_pairs_is_made(num_points):
    shape = jax.ShapeDtypeStruct((4, num_points, 2, 8), jnp.float32)
    observed = jax.ShapeDtypeStruct(shape.shape[:2], bool)

    def loss(queries, keys, values, observed):
        return blocked_attention.attend(queries, keys, values, observed, entries=2**13).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(shape, shape, shape, observed).as_text()
    largest = max(math.prod(shape) for shape in helpers.list_array_shapes(program))
    assert largest == max(math.prod(shape.shape), 2**13 // num_points * num_points)
