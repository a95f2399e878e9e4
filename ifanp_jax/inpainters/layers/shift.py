"""The shift connection of Shift-Net (Yan et al., 2018, "Image inpainting via deep feature rearrangement").

In the decoder, every hole cell p gets the encoder's features at the known cell q* that its own features
resemble most:

  q*(p) = argmax over known q of <F_p, G_q> / (|F_p| |G_q| + 1e-8),   S_p = G_q*(p)

with F the decoder's map and G the encoder's on the same grid. S is 0 at known cells, and where no cell is
known. The gradient of S_p goes to G_q*(p); none goes through the argmax, and none to F.
"""

import chex
import jax
import jax.numpy as jnp

EPSILON = 1e-8
HOLE_RULES = ("any", "share")
HOLE_FRACTION = 5 / 16  # of the smoothed hole, above which the original takes a cell for a hole


def shift(decoder: jax.Array, encoder: jax.Array, hole: jax.Array) -> jax.Array:
    """S of the equation, of F and G (B, h, w, N) and the cells (B, h, w, 1) that are to be filled.

    The similarities of one image take (h w)^2 floats: 4 MB on a grid of 32x32.
    """
    chex.assert_equal_shape([decoder, encoder])
    chex.assert_type(hole, bool)
    chex.assert_shape(hole, (*encoder.shape[:3], 1))
    b, h, w, n = encoder.shape
    cells, copied = hole.reshape(b, h * w), encoder.reshape(b, h * w, n)
    # Cosines of all pairs of cells; a tie goes to the lowest index.
    flat = jax.lax.stop_gradient(decoder.reshape(b, h * w, n)).astype(jnp.float32)
    known = jax.lax.stop_gradient(copied).astype(jnp.float32)
    product = jnp.einsum("bpn,bqn->bpq", flat, known, precision=jax.lax.Precision.HIGHEST)
    lengths = jnp.linalg.norm(flat, axis=-1)[:, :, None] * jnp.linalg.norm(known, axis=-1)[:, None, :]
    cosine = jnp.where(cells[:, None, :], -jnp.inf, product / (lengths + EPSILON))
    nearest = jnp.argmax(cosine, axis=-1)
    shifted = jnp.take_along_axis(copied, nearest[:, :, None], axis=1)
    is_filled = cells & ~cells.all(axis=1, keepdims=True)
    return jnp.where(is_filled[:, :, None], shifted, 0).reshape(b, h, w, n)


def hole_cells(mask: jax.Array, stride: int, *, rule: str = "any") -> jax.Array:
    """Which cells of a feature grid count as hole.

    - any: a cell with any hidden pixel (ours; a hole of one pixel is not lost).
    - share: log2(stride) times the mean over 4x4 windows with stride 2 and zero padding, above 5/16
      (original).

    `stride` is pixels per cell, a power of two that divides H and W.
    """
    chex.assert_rank(mask, 4)
    chex.assert_type(mask, bool)
    b, h, w, _ = mask.shape
    if rule == "any":
        cells = (~mask).reshape(b, h // stride, stride, w // stride, stride, 1)
        return cells.any(axis=(2, 4))
    hole = (~mask).astype(jnp.float32)
    for _ in range(stride.bit_length() - 1):
        padding = ((0, 0), (1, 1), (1, 1), (0, 0))
        hole = jax.lax.reduce_window(hole, 0.0, jax.lax.add, (1, 4, 4, 1), (1, 2, 2, 1), padding) / 16
    return hole > HOLE_FRACTION
