"""Softmax attention whose queries and keys each image has for itself, in blocks of bounded memory.

o_i = sum_j softmax_j(q_i^T k_j / sqrt(D)) v_j, j over observed points (Vaswani et al., 2017).

The matrix of all pairs is made block by block and never kept: the forward pass keeps the outputs and the
logarithm of each row's sum, and the backward pass makes every block again from these (Dao et al., 2022).

On a CPU a block is some queries of one head of one image, small enough for the processor's cache. An
accelerator wants large products, so there it is some queries of all images.
"""

import functools

import chex
import jax
import jax.export
import jax.numpy as jnp

from ifanp_jax.modules.fast import blocks

HIDDEN_LOGIT = -1e30  # finite, so that an empty context weighs all points alike
# Entries of one block of the matrix of all pairs; a backward pass holds about four such blocks.
CPU_ENTRIES, ACCELERATOR_ENTRIES = 2**19, 2**27
MIN_QUERIES = 64  # in a block: with fewer, reading the keys again takes longer than the products


def _default_entries():
    return CPU_ENTRIES if jax.default_backend() == "cpu" else ACCELERATOR_ENTRIES


def num_entries(num_points: int, num_heads: int) -> int:
    """Entries of the matrices of all pairs of one image that are held at once, on this process's platform."""
    return min(num_heads * num_points**2, max(_default_entries(), MIN_QUERIES * num_points))


def attend(
    queries: jax.Array, keys: jax.Array, values: jax.Array, observed: jax.Array, *, entries: int | None = None
) -> jax.Array:
    """Attends from every point of each image, in each head, to the image's observed points.

    Products run in the dtype of `values` and are summed in float32; the softmax is float32.

    Args:
      queries: (B, N, H, D).
      keys: (B, N, H, D), any value at unobserved points.
      values: (B, N, H, D), any value at unobserved points.
      observed: bool (B, N).
      entries: of one block of the matrix of all pairs; None = what suits the platform.

    Returns:
      (B, N, H, D) in the dtype of `values`; zeros for an image without any observed point.
    """
    chex.assert_rank([queries, keys, values, observed], [4, 4, 4, 2])
    chex.assert_equal_shape([queries, keys, values])
    chex.assert_type(observed, bool)
    b, n, h, d = queries.shape
    least = MIN_QUERIES if entries is None else 1
    entries = entries or _default_entries()
    values = jnp.where(observed[:, :, None, None], values, 0)

    def by_head(x):
        return jnp.moveaxis(x, 2, 1)  # (B, H, N, D), and back

    arrays = [*map(by_head, (queries, keys, values)), jnp.broadcast_to(~observed[:, None], (b, h, n))]
    # A program for any B has no number of images to loop over, and may run on another platform than this one.
    is_any = jax.export.is_symbolic_dim(b)
    if is_any or jax.default_backend() != "cpu":
        return by_head(_attend(*arrays, max(least, entries // (n * h * (1 if is_any else b)))))
    pairs, devices = b * h, jax.device_count()
    most = max(1, entries // n**2) * devices
    at_once = max(k for k in range(1, min(pairs, most) + 1) if pairs % k == 0)
    dealt = [blocks.deal(x.reshape(pairs, *x.shape[2:]), at_once) for x in arrays]
    block_size = max(least, devices * entries // (n * at_once))
    out = jax.lax.map(lambda block: _attend(*block, block_size), dealt)
    return by_head(blocks.gather(out).reshape(b, h, n, d))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(queries, keys, values, hidden, block_size):
    """Attention (..., N, D) from `block_size` points at a time; bool `hidden` (..., N)."""
    return _attend_forward(queries, keys, values, hidden, block_size)[0]


def _attend_forward(queries, keys, values, hidden, block_size):
    # A column of ones beside the values, so that the product also sums the weights.
    counted = jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)

    def attend_from(queries):
        logits = _logits(queries, keys, hidden)
        largest = logits.max(axis=-1, keepdims=True)
        sums = _product("...qk,...kd->...qd", jnp.exp(logits - largest).astype(values.dtype), counted)
        total = sums[..., -1:]
        return (sums[..., :-1] / total).astype(values.dtype), largest + jnp.log(total)

    blocks = jax.lax.map(attend_from, _cut(queries, block_size))
    out, log_total = (_join(x, queries.shape[-2]) for x in blocks)
    return out, (queries, keys, values, hidden, out, log_total)


def _attend_backward(block_size, residuals, gradient):
    queries, keys, values, hidden, out, log_total = residuals
    along = jnp.sum(gradient * out, axis=-1, keepdims=True, dtype=jnp.float32)

    def backward(sums, block):
        queries, gradient, along, log_total = block
        weights = jnp.exp(_logits(queries, keys, hidden) - log_total)
        change = weights * (_product("...qd,...kd->...qk", gradient, values) - along)
        change, weights = change.astype(values.dtype), weights.astype(values.dtype)
        key_sum = sums[0] + _product("...qd,...qk->...dk", queries, change)
        values_sum = sums[1] + _product("...qd,...qk->...dk", gradient, weights)
        return (key_sum, values_sum), _product("...qk,...kd->...qd", change, keys)

    # Sums of the shape (D, N): with (N, D), XLA on a CPU takes 10 times as long for the product.
    zeros = jnp.zeros(keys.shape, jnp.float32).swapaxes(-2, -1)
    blocks = [_cut(x, block_size) for x in (queries, gradient, along, log_total)]
    (key_sum, values_sum), queries_sum = jax.lax.scan(backward, (zeros, zeros), blocks)
    scale = queries.shape[-1] ** -0.5
    return (
        (scale * _join(queries_sum, queries.shape[-2])).astype(queries.dtype),
        (scale * key_sum).swapaxes(-2, -1).astype(keys.dtype),
        values_sum.swapaxes(-2, -1).astype(values.dtype),
        None,
    )


_attend.defvjp(_attend_forward, _attend_backward)


def _logits(queries, keys, hidden):
    logits = queries.shape[-1] ** -0.5 * _product("...qd,...kd->...qk", queries, keys)
    return jnp.where(hidden[..., None, :], HIDDEN_LOGIT, logits)


def _product(subscripts, x, y):
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _cut(x, block_size):
    """(..., N, D) in blocks of rows, (blocks, ..., rows, D); the last one is filled up with zeros."""
    *leading, n, d = x.shape
    size = min(n, block_size)
    count = -(-n // size)
    padding = [(0, 0)] * len(leading) + [(0, count * size - n), (0, 0)]
    return jnp.moveaxis(jnp.pad(x, padding).reshape(*leading, count, size, d), -3, 0)


def _join(blocks, num_rows):
    """The inverse of `_cut`."""
    x = jnp.moveaxis(blocks, 0, -3)
    *leading, count, size, d = x.shape
    return x.reshape(*leading, count * size, d)[..., :num_rows, :]
