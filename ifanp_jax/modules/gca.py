"""GCA, global cross attention over the observed positions.

r_i = sum_j softmax_j(theta(x_i)^T theta(x_j)) r_j, j over observed positions, x = coordinates.

The similarity depends on the coordinates alone, and all images of a batch share one grid. So one matrix
E = exp(theta theta^T) serves the whole batch, and the softmax over each image's context becomes
(E @ (mask * r)) / (E @ mask): two matrix products, no (B, N, N) array.

For that, exp must neither overflow nor vanish for any context, near or far. So theta is kept in a ball: all
logits then lie in [-MAX_LOGIT, MAX_LOGIT], and the quotient is the softmax for every mask.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules import points

EMBEDDINGS = ("mlp", "linear")
# The gradient squares the sums: exp(30) times 2^16 positions and exp(-30), squared, are still normal float32.
MAX_LOGIT = 30.0
# Entries of one similarity matrix: up to 64x64 positions it is made at once, beyond it in blocks of targets.
MAX_ENTRIES = 4096**2


def to_ball(theta: jax.Array) -> jax.Array:
    """Scales embeddings back onto the ball |theta|^2 <= MAX_LOGIT; inside it they stay as they are.

    Args:
      theta: float32 (..., K).

    Returns:
      float32 (..., K).
    """
    square = jnp.sum(jnp.square(theta), axis=-1, keepdims=True)
    return theta * jax.lax.rsqrt(jnp.maximum(square / MAX_LOGIT, 1.0))


def attend(
    theta: jax.Array, values: jax.Array, observed: jax.Array, *, max_entries: int = MAX_ENTRIES
) -> jax.Array:
    """Softmax attention from every position to each image's observed ones, logits theta_i^T theta_j.

    Args:
      theta: float32 (N, K), embedded positions, the same for all images; taken `to_ball` first.
      values: (B, N, D), any value at unobserved positions.
      observed: bool (B, N).
      max_entries: larger similarity matrices are made in blocks of targets, and again in the backward pass.

    Returns:
      (B, N, D) in the dtype of `values`; zeros for an image without any observed position.
    """
    chex.assert_rank([theta, values, observed], [2, 3, 2])
    chex.assert_type([theta, observed], [jnp.float32, bool])
    n, b, d = theta.shape[0], *values.shape[::2]
    theta = to_ball(theta)
    values = jnp.where(observed[:, :, None], values, 0)
    is_empty = ~observed.any(axis=1)

    def attend_from(targets):
        # Full precision: exp turns an absolute error of the logits into a relative one of the weights.
        weights = jnp.exp(jnp.matmul(targets, theta.T, precision=jax.lax.Precision.HIGHEST)).astype(
            values.dtype
        )

        def weighted_sum(subscripts, x):
            return jnp.einsum(subscripts, weights, x, preferred_element_type=jnp.float32)

        total = weighted_sum("nm,bm->bn", observed.astype(values.dtype))
        total = jnp.where(is_empty[:, None], 1.0, total)
        return (weighted_sum("nm,bmd->bnd", values) / total[:, :, None]).astype(values.dtype)

    block_size = max(1, max_entries // n)
    if n <= block_size:
        return attend_from(theta)
    num_blocks = -(-n // block_size)
    padded = jnp.pad(theta, ((0, num_blocks * block_size - n), (0, 0)))
    blocks = jax.lax.map(jax.checkpoint(attend_from), padded.reshape(num_blocks, block_size, -1))
    return jnp.moveaxis(blocks, 0, 1).reshape(b, num_blocks * block_size, d)[:, :n]


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
        hidden = (self.width, self.width) if self.embedding == "mlp" else ()
        encoder = points.PointwiseEncoder((*hidden, self.width), use_bias=bool(hidden), name="theta")
        theta = encoder(coordinates.reshape(h * w, 2))
        theta = theta.reshape(h * w, self.num_heads, -1)
        values = values.astype(self.dtype).reshape(b, h * w, self.num_heads, -1)
        observed = mask.reshape(b, h * w)
        heads = [attend(theta[:, head], values[:, :, head], observed) for head in range(self.num_heads)]
        return jnp.concatenate(heads, axis=-1).reshape(b, h, w, d)
