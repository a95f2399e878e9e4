"""GCA, global cross attention over the observed positions.

r_i = sum_j softmax_j(theta(x_i)^T theta(x_j)) r_j, j over observed positions, x = coordinates.

The similarity depends on the coordinates alone, and all images of a batch share one grid. So one matrix
E = exp(theta theta^T) serves the whole batch, and the softmax over each image's context becomes
(E @ (mask * r)) / (E @ mask): two matrix products, no (B, N, N) array.

For that, exp must neither overflow nor vanish for any context, near or far. So theta is kept in a ball: all
logits then lie in [-MAX_LOGIT, MAX_LOGIT], and the quotient is the softmax for every mask.

Memory is linear in N: beyond MAX_ENTRIES the matrix is made in blocks of targets, and again in the backward
pass.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules import points
from ifanp_jax.modules.fast import blocks
from ifanp_jax.runtime import sharing

EMBEDDINGS = ("mlp", "linear")
# exp(30) times 2^16 positions, and gradients divided by exp(-30), are far inside float32 and bfloat16.
MAX_LOGIT = 30.0
# Entries of one similarity matrix: up to 64x64 positions it is made at once, beyond it in blocks of targets.
MAX_ENTRIES = 4096**2
# Values attended to at once on a CPU, where a few images at a time take a third of the memory and no longer;
# an accelerator wants one large product.
CPU_VALUES = 2**19


def to_ball(theta: jax.Array) -> jax.Array:
    """Scales embeddings back onto the ball |theta|^2 <= MAX_LOGIT; inside it they stay as they are.

    Args:
      theta: float32 (..., K).

    Returns:
      float32 (..., K).
    """
    square = jnp.sum(jnp.square(theta), axis=-1, keepdims=True)
    return theta * jax.lax.rsqrt(jnp.maximum(square / MAX_LOGIT, 1.0))


def num_entries(num_positions: int, num_heads: int) -> int:
    """Entries of the similarity matrices that an attention over so many positions holds at once."""
    entries = num_positions**2
    return num_heads * entries if entries <= MAX_ENTRIES else MAX_ENTRIES


def attend(
    theta: jax.Array,
    values: jax.Array,
    observed: jax.Array,
    *,
    targets: jax.Array | None = None,
    max_entries: int = MAX_ENTRIES,
) -> jax.Array:
    """Softmax attention from every position to each image's observed ones, logits theta_i^T theta_j.

    Args:
      theta: float32 (N, K), embedded positions, the same for all images; taken `to_ball` first.
      values: (B, N, D), any value at unobserved positions.
      observed: bool (B, N).
      targets: float32 (N, K), another embedding of the positions attended from; None = `theta`.
      max_entries: larger similarity matrices are made in blocks of targets, and again in the backward pass.

    Returns:
      (B, N, D) in the dtype of `values`; zeros for an image without any observed position.
    """
    chex.assert_rank([theta, values, observed], [2, 3, 2])
    chex.assert_type([theta, observed], [jnp.float32, bool])
    theta = to_ball(theta)
    targets = theta if targets is None else to_ball(targets)
    chex.assert_equal_shape([theta, targets])
    # Each device makes E for itself: the gradient of theta is far less to send than that of E.
    apart = functools.partial(_attend, max_entries=max_entries)
    return sharing.by_device(apart, (theta, targets), values, observed)


def _attend(embedded, values, observed, *, max_entries):
    theta, targets = embedded
    n, b, d = theta.shape[0], *values.shape[::2]

    def attend_from(targets):
        # Full precision: exp turns an absolute error of the logits into a relative one of the weights.
        weights = jnp.exp(jnp.matmul(targets, theta.T, precision=jax.lax.Precision.HIGHEST))
        return weighted_mean(weights, values, observed)

    block_size = max(1, max_entries // n)
    if n <= block_size:
        return attend_from(targets)
    num_blocks = -(-n // block_size)
    padded = jnp.pad(targets, ((0, num_blocks * block_size - n), (0, 0)))
    answered = jax.lax.map(jax.checkpoint(attend_from), padded.reshape(num_blocks, block_size, -1))
    return jnp.moveaxis(answered, 0, 1).reshape(b, num_blocks * block_size, d)[:, :n]


@jax.custom_jvp
def weighted_mean(weights: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """Mean over each image's observed positions: sum_j w_ij o_bj v_bj / sum_j w_ij o_bj.

    The products run in the dtype of `values` and are summed in float32. The derivative is written out because
    it then needs the mean, not the sums, and can be taken a few images at a time like the mean itself.

    Args:
      weights: float32 (T, N), positive, from T targets to N positions.
      values: (B, N, D), any value at unobserved positions.
      observed: bool (B, N).

    Returns:
      (B, T, D) in the dtype of `values`; zeros for an image without any observed position.
    """
    cast = weights.astype(values.dtype)

    def find_mean(images):
        values, observed, total = images
        mean = _product("tn,bnd->btd", cast, _squeeze(values, observed)) / total[:, :, None]
        return mean.astype(values.dtype)

    images = (values, observed, _sum_weights(cast, observed))
    return blocks.map_images(find_mean, images, _count_images(weights, values))


@weighted_mean.defjvp
def _weighted_mean_jvp(primals, tangents):
    weights, values, observed = primals
    weights_change, values_change, _ = tangents
    mean = weighted_mean(*primals)
    cast = weights.astype(values.dtype)

    def find_change(images):
        """((w dv + dw v) - mean (dw o)) / total; a transpose makes its products in the dtype of `values`."""
        values, values_change, observed, total, mean = images
        by_total = _product("tn,bn->bt", weights_change, observed.astype(jnp.float32))
        by_weights = jnp.einsum(
            "tn,bnd->btd", weights_change.astype(values.dtype), _squeeze(values, observed)
        )
        by_values = jnp.einsum("tn,bnd->btd", cast, _squeeze(values_change, observed))
        change = (by_weights + by_values).astype(jnp.float32) - by_total[:, :, None] * mean
        return (change / total[:, :, None]).astype(values.dtype)

    images = (values, values_change, observed, _sum_weights(cast, observed), mean)
    return mean, blocks.map_images(find_change, images, _count_images(weights, values))


def _sum_weights(weights, observed):
    """The sum of each target's weights of observed positions, (B, T); 1 for an image without any."""
    total = _product("tn,bn->bt", weights, observed.astype(weights.dtype))
    return jnp.where(observed.any(axis=1, keepdims=True), total, 1.0)


def _count_images(weights, values):
    """How many images to attend to at once."""
    b, n, d = values.shape
    if not blocks.are_faster(values):
        return b
    # Each block goes through all weights, so it must not be much smaller than they are.
    limit = max(1, max(CPU_VALUES, weights.size // 2) // (n * d))
    return max(size for size in range(1, min(b, limit) + 1) if b % size == 0)


def _product(subscripts, x, y):
    return jnp.einsum(subscripts, x, y, preferred_element_type=jnp.float32)


def _squeeze(values, observed):
    return jnp.where(observed[:, :, None], values, 0)


class GlobalCrossAttention(nn.Module):
    """One GCA block.

    Attributes:
      width: D, channels of the values.
      num_heads: heads; each has its own similarity and its own D / num_heads channels of the values.
      embedding: theta: "mlp", a pointwise encoder and then W_theta, or "linear", W_theta alone (the paper's
        equation, whose similarity is a bilinear form of two coordinates and cannot prefer what is near).
      dtype: of the attention's products; the similarity is float32.
    """

    width: int
    num_heads: int = 1
    embedding: str = "mlp"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, values: jax.Array, mask: jax.Array, coordinates: jax.Array) -> jax.Array:
        """Attends from every position to the observed ones.

        Args:
          values: R_M+, (B, H, W, D).
          mask: bool (B, H, W, 1), True = observed.
          coordinates: float32 (H, W, 2).

        Returns:
          R_pred, (B, H, W, D).
        """
        chex.assert_rank([values, mask, coordinates], [4, 4, 3])
        b, h, w, d = values.shape
        chex.assert_shape([values, mask, coordinates], [(b, h, w, self.width), (b, h, w, 1), (h, w, 2)])
        chex.assert_type(mask, bool)
        hidden = (self.width, self.width) if self.embedding == "mlp" else ()
        encoder = points.PointwiseEncoder((*hidden, self.width), use_bias=bool(hidden), name="theta")
        theta = encoder(coordinates.reshape(h * w, 2))
        theta = theta.reshape(h * w, self.num_heads, -1)
        values = values.astype(self.dtype).reshape(
            b, h * w, d
        )  # in two steps: an explicit mesh takes no other
        values = values.reshape(b, h * w, self.num_heads, -1)
        observed = mask.reshape(b, h * w)
        heads = [attend(theta[:, head], values[:, :, head], observed) for head in range(self.num_heads)]
        return jnp.concatenate(heads, axis=-1).reshape(b, h, w, d)
