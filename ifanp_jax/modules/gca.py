"""GCA, global cross attention over the observed positions.

r_i = sum_j softmax_j(theta(x_i)^T theta(x_j)) r_j, j over observed positions, x = coordinates.

The similarity depends on the coordinates alone, and all images of a batch share one grid. So one matrix
E = exp(S - rowmax S) serves the whole batch, and the softmax over each image's context becomes
(E @ (mask * r)) / (E @ mask): two matrix products, no (B, N, N) array.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax.modules import points

EMBEDDINGS = ("mlp", "linear")
# Below this share of the row's maximum the softmax is taken per image: the quotient's gradient squares it, and
# the square must stay a normal float32.
MIN_DENOMINATOR = 1e-18
# Targets per similarity matrix: up to 64x64 pixels one dense product, beyond it memory grows with H * W only.
BLOCK_SIZE = 4096


def attend(similarity: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """Softmax attention over each image's observed positions with one similarity matrix for all images.

    Exact for every mask: where some image observes nothing near some target (its shared sum falls under
    `MIN_DENOMINATOR`), the batch takes the per-image softmax instead, which cannot underflow.

    Args:
      similarity: float32 (N, M), logits of target positions against source positions.
      values: (B, M, D), any value at unobserved positions.
      observed: bool (B, M).

    Returns:
      (B, N, D) in the dtype of `values`; zeros for an image without any observed position.
    """
    chex.assert_rank([similarity, values, observed], [2, 3, 2])
    chex.assert_type(observed, bool)
    values = jnp.where(observed[:, :, None], values, 0)
    row_max = jax.lax.stop_gradient(similarity.max(axis=1, keepdims=True))  # softmax does not depend on it
    weights = jnp.exp(similarity - row_max).astype(values.dtype)
    denominator = jnp.einsum(
        "nm,bm->bn", weights, observed.astype(values.dtype), preferred_element_type=jnp.float32
    )
    is_empty = ~observed.any(axis=1)
    denominator = jnp.where(is_empty[:, None], 1.0, denominator)

    def shared_softmax(similarity, weights, denominator, values):
        del similarity
        numerator = jnp.einsum("nm,bmd->bnd", weights, values, preferred_element_type=jnp.float32)
        # The inner maximum keeps the branch that is not taken free of division by zero.
        return numerator / jnp.maximum(denominator, MIN_DENOMINATOR)[:, :, None]

    def softmax_per_image(similarity, weights, denominator, values):
        del weights, denominator
        return _masked_softmax(similarity, values, observed)

    out = jax.lax.cond(
        jnp.all(denominator > MIN_DENOMINATOR),
        shared_softmax,
        softmax_per_image,
        *(similarity, weights, denominator, values),
    )
    return out.astype(values.dtype)


@jax.checkpoint
def _masked_softmax(similarity: jax.Array, values: jax.Array, observed: jax.Array) -> jax.Array:
    """The plain form, target by target so that no (B, N, M) array lives at once; float32 (B, N, D)."""

    @jax.checkpoint
    def one_target(logits):
        masked = jnp.where(observed, logits[None, :], jnp.finfo(jnp.float32).min)
        attention = jax.nn.softmax(masked, axis=1).astype(values.dtype)
        return jnp.einsum("bm,bmd->bd", attention, values, preferred_element_type=jnp.float32)

    return jnp.moveaxis(jax.lax.map(one_target, similarity), 0, 1)


def attend_in_blocks(
    theta: jax.Array, values: jax.Array, observed: jax.Array, *, block_size: int = BLOCK_SIZE
) -> jax.Array:
    """`attend` with the similarity theta theta^T, made by blocks of targets, again in the backward pass.

    Args:
      theta: float32 (N, K), embedded positions.
      values: (B, N, D).
      observed: bool (B, N).
      block_size: targets per block; N positions take a (block_size, N) matrix.

    Returns:
      (B, N, D).
    """
    chex.assert_rank([theta, values, observed], [2, 3, 2])

    def attend_from(targets):
        # Full precision: exp turns an absolute error of the logits into a relative one of the weights.
        similarity = jnp.matmul(targets, theta.T, precision=jax.lax.Precision.HIGHEST)
        return attend(similarity, values, observed)

    n = theta.shape[0]
    if n <= block_size:
        return attend_from(theta)
    num_blocks = -(-n // block_size)
    padded = jnp.pad(theta, ((0, num_blocks * block_size - n), (0, 0)))
    blocks = jax.lax.map(jax.checkpoint(attend_from), padded.reshape(num_blocks, block_size, -1))
    b, _, d = values.shape
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
        theta = points.PointwiseEncoder((*hidden, self.width), name="theta")(coordinates.reshape(h * w, 2))
        theta = theta.reshape(h * w, self.num_heads, -1)
        values = values.astype(self.dtype).reshape(b, h * w, self.num_heads, -1)
        observed = mask.reshape(b, h * w)
        heads = [
            attend_in_blocks(theta[:, head], values[:, :, head], observed) for head in range(self.num_heads)
        ]
        return jnp.concatenate(heads, axis=-1).reshape(b, h, w, d)
