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
    if not blocks.are_faster(queries):
        images = 1 if jax.export.is_symbolic_dim(b) else b
        return by_head(_attend(*arrays, max(least, entries // (n * h * images)))[0])
    pairs, devices = b * h, jax.device_count()
    most = max(1, entries // n**2) * devices
    at_once = max(k for k in range(1, min(pairs, most) + 1) if pairs % k == 0)
    arrays = [x.reshape(pairs, *x.shape[2:]) for x in arrays]
    block_size = max(least, devices * entries // (n * at_once))
    out = blocks.map_images(lambda some: _attend(*some, block_size)[0], arrays, at_once)
    return by_head(out.reshape(b, h, n, d))


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _attend(queries, keys, values, hidden, block_size):
    """Attention (..., N, D) from `block_size` points at a time, bool `hidden` (..., N).

    And the logarithm of each row's sum, (..., N, 1).
    """
    # A column of ones beside the values, so that the product also sums the weights.
    counted = jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)

    def attend_from(queries):
        logits = _logits(queries, keys, hidden)
        largest = logits.max(axis=-1, keepdims=True)
        sums = _product("...qk,...kd->...qd", jnp.exp(logits - largest).astype(values.dtype), counted)
        total = sums[..., -1:]
        return (sums[..., :-1] / total).astype(values.dtype), largest + jnp.log(total)

    parts = jax.lax.map(attend_from, _cut(queries, block_size))
    return tuple(_join(x, queries.shape[-2]) for x in parts)


@_attend.defjvp
def _attend_jvp(block_size, primals, tangents):
    """With P the softmax and S the logits: dlog_total = sum P dS, dout = P dv + (P dS) v - out dlog_total."""
    out, log_total = _attend(*primals, block_size)
    change = functools.partial(_change, block_size)
    return (out, log_total), jax.checkpoint(change, prevent_cse=False)(primals, tangents, out, log_total)


def _change(block_size, primals, tangents, out, log_total):
    queries, keys, values, hidden = primals
    dtype, scale = values.dtype, queries.shape[-1] ** -0.5
    by_queries, by_keys, by_values = (x.astype(jnp.float32) for x in tangents[:3])
    # Of the shape (D, N): in a transpose with (N, D), XLA on a CPU takes 10 times as long for the product.
    by_keys, by_values = ((f * x).swapaxes(-2, -1) for f, x in ((scale, by_keys), (1, by_values)))

    def change_from(_, block):
        """Makes the weights again, so that no pair is kept."""
        queries, by_queries, log_total = block
        weights = jnp.exp(_logits(queries, keys, hidden) - log_total)
        by_logits = jnp.einsum("...qd,...kd->...qk", by_queries.astype(dtype), keys)
        by_logits += jnp.einsum("...qd,...dk->...qk", queries, by_keys.astype(dtype))
        by_weights = weights * by_logits.astype(jnp.float32)
        change = jnp.einsum("...qk,...dk->...qd", weights.astype(dtype), by_values.astype(dtype))
        change += jnp.einsum("...qk,...kd->...qd", by_weights.astype(dtype), values)
        return None, (change, jnp.sum(by_weights, axis=-1, keepdims=True))

    # Backwards, so that a transpose, which goes the other way, adds up from the first block on.
    parts = [_cut(x, block_size) for x in (queries, scale * by_queries, log_total)]
    _, parts = jax.lax.scan(jax.checkpoint(change_from, prevent_cse=False), None, parts, reverse=True)
    change, by_total = (_join(x, queries.shape[-2]) for x in parts)
    return (change.astype(jnp.float32) - out * by_total).astype(dtype), by_total


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
