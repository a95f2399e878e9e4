"""Contextual attention (Yu et al., 2018): fills a hole with patches of known features.

s[p, l] = <F_p, P_l> / (max(|F_p|, 1e-4) max(|P_l|, 1e-4)), F and P the 3x3 patches around cells p and l of a
grid with every r-th feature; propagation s'[p, l] = sum over the 3x3 shifts i of s[p + i, l + i]; A = softmax
over the valid l of lambda s'; the answer is the mean of the patches of size 2r (r = 1: 3) that A pastes.

All of these sums run along diagonals of a matrix over pairs of cells: <F_p, P_l> is the diagonal 3x3 sum of
the cells' products, and pasting overlapping patches is the diagonal sum of A times the features cut into
r x r blocks. So no patch is ever gathered, and the products are 9 and 4 (r = 1: 9) times smaller.

Memory is linear in the cells: beyond MAX_ENTRIES the matrix is made in parts of target rows, and again in the
backward pass. A part sees all background cells, so that its softmax is whole.
"""

import chex
import jax
import jax.numpy as jnp

VALIDITIES = ("whole", "fraction")
MAX_ENTRIES = 2**19  # of one part of an image's matrix, 4 bytes each
EXCLUDED = -1e9  # a logit; not -inf, whose softmax over nothing is NaN
MIN_NORM = 1e-4  # of a patch
MIN_SHARE = 1e-6  # of the patches pasted at a pixel
HALO = 3  # rows of a part beside its own and `taps`: neighbours of the patches that reach into it, twice


def cell_fractions(known: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Known fraction, float32 (B, *size, 1), of each cell of a grid that divides (H, W).

    `known`, (B, H, W, 1), are known pixels, or known fractions of finer cells.
    """
    chex.assert_rank(known, 4)
    b, height, width, _ = known.shape
    h, w = size
    chex.assert_is_divisible(height, h)
    chex.assert_is_divisible(width, w)
    cells = known.astype(jnp.float32).reshape(b, h, height // h, w, width // w, 1)
    # Exactly 1 where all of a cell is known: a rounded mean may not be.
    is_whole = jnp.min(cells, axis=(2, 4)) >= 1
    return jnp.where(is_whole, 1.0, jnp.mean(cells, axis=(2, 4)))


def patch_weights(known: jax.Array, validity: str) -> jax.Array:
    """How far the 3x3 patch around each cell may be copied; cells outside the grid do not count.

    "whole": 1 for a patch without hidden pixels, 0 for another; "fraction": its known share.
    """
    known = known[..., 0]
    if validity == "whole":
        return (_window_sum((known < 1).astype(jnp.float32)) == 0).astype(jnp.float32)
    return _window_sum(known) / _window_sum(jnp.ones_like(known))


def attend(
    features: jax.Array,
    known: jax.Array,
    *,
    rate: int = 1,
    scale: float = 10.0,
    validity: str = "whole",
    max_entries: int = MAX_ENTRIES,
) -> tuple[jax.Array, jax.Array]:
    """Replaces the features of every cell by a mean of known patches that look like its own.

    Args:
      features: float (B, h, w, D); sides are multiples of `rate`.
      known: float32 (B, h, w, 1), known fraction of each cell, as `cell_fractions` returns.
      rate: r, patches are matched on every r-th cell and pasted with r times that stride.
      scale: lambda, the softmax's inverse temperature.
      validity: "whole" or "fraction", as in `patch_weights`; the logarithm of a fraction is added to a logit.
      max_entries: a larger matrix of one image is made in parts, and again in the backward pass.

    Returns:
      (B, h, w, D) in the dtype of `features`, equal to them in an image without a valid patch; and float32
      (B, h / r, w / r, 2), the offset (dy, dx) in matched cells to the patch of the largest weight.
    """
    chex.assert_rank([features, known], 4)
    chex.assert_shape(known, (*features.shape[:3], 1))
    _, h, w, _ = features.shape
    chex.assert_is_divisible(h, rate)
    chex.assert_is_divisible(w, rate)
    rows, columns = h // rate, w // rate
    taps = 3 if rate == 1 else 2  # pasted patches that meet in a block of r x r pixels, along one side
    weights = patch_weights(cell_fractions(known, (rows, columns)), validity)
    background = features[:, ::rate, ::rate].astype(jnp.float32)
    squares = _window_sum(jnp.sum(jnp.square(background), axis=-1))
    scales = 1 / jnp.sqrt(jnp.maximum(squares, MIN_NORM**2))  # of the patches; the root never meets 0
    blocks = _to_blocks(features, rate, taps)
    out, offsets = _attend_in_parts(background, scales, weights, blocks, scale=scale, max_entries=max_entries)
    out = _from_blocks(out, rate, (h, w)).astype(features.dtype)
    can_copy = jnp.any(weights > 0, axis=(1, 2))[:, None, None, None]
    return jnp.where(can_copy, out, features), jnp.where(can_copy, offsets, 0)


def _attend_in_parts(background, scales, weights, blocks, *, scale, max_entries):
    """The mean of what is pasted at each block, (B, h + taps - 1, w + taps - 1, r * r * D), and offsets."""
    _, rows, columns, _ = background.shape
    pasted_rows = blocks.shape[1]
    taps = pasted_rows - rows + 1
    halo = taps + HALO
    num_parts, part_rows = _split_rows(rows, columns, taps, max_entries)
    margins = ((0, 0), (taps + 1, num_parts * part_rows - rows + 2), (0, 0))
    targets = jnp.pad(background, (*margins, (0, 0)))
    # A scale of 0 outside the grid: no patch lies there, though one would overlap the grid.
    target_scales = jnp.pad(scales, margins)

    def paste_part(start):
        part = jax.lax.dynamic_slice_in_dim(targets, start, part_rows + halo, axis=1)
        part_scales = jax.lax.dynamic_slice_in_dim(target_scales, start + 1, part_rows + halo - 2, axis=1)
        logits = scale * _match(part, background, part_scales, scales)
        row = start - (taps - 1) + jnp.arange(part_rows + taps - 1)
        attention = _masked_softmax(logits, weights, (row >= 0) & (row < rows))
        return _paste(attention, blocks, taps), _offsets(attention[:, taps - 1 :], row[taps - 1 :])

    out, offsets = _map_parts(paste_part, num_parts, part_rows)
    return out[:, :pasted_rows], offsets[:, :rows]


def _split_rows(rows, columns, taps, max_entries):
    """Number of parts of a matrix between all cells, and the pasted rows of each."""
    pasted_rows = rows + taps - 1
    num_parts = -(-pasted_rows // max(max_entries // (rows * columns**2) - taps - HALO, 1))
    return num_parts, -(-pasted_rows // num_parts)


def part_entries(rows: int, columns: int) -> int:
    """Entries of one part of an image's matrix between all of its matched cells (rows, columns)."""
    _, part_rows = _split_rows(rows, columns, 3, MAX_ENTRIES)
    return (part_rows + 3 + HALO) * rows * columns**2


def _map_parts(function, num_parts, part_rows):
    """Joins what `function` returns for each part's first row, (B, part_rows, ...), along axis 1."""
    if num_parts == 1:
        return function(0)
    parts = jax.lax.map(jax.checkpoint(function), part_rows * jnp.arange(num_parts))

    def join(x):  # (parts, B, part_rows, ...)
        return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], num_parts * part_rows, *x.shape[3:])

    return jax.tree.map(join, parts)


def _match(targets, background, target_scales, background_scales):
    """Propagated similarity s', (B, Y, w, h, w), of Y target rows and two more above and below them."""
    # Full precision: exp turns an absolute error of the logits into a relative one of the weights.
    scores = jnp.einsum("byxd,bvud->byxvu", targets, background, precision=jax.lax.Precision.HIGHEST)
    scores = _diagonal_sum(_diagonal_sum(scores, 2, pad=1, taps=3), 1, pad=1, taps=3, has_halo=True)
    scores *= target_scales[:, :, :, None, None] * background_scales[:, None, None]
    return _diagonal_sum(_diagonal_sum(scores, 2, pad=1, taps=3), 1, pad=1, taps=3, has_halo=True)


def _diagonal_sum(scores, axis, *, pad, taps, has_halo=False):
    """out[.., a, .., c, ..] = sum_i x[.., a + i - pad, .., c + i - pad, ..] of (B, y, x, y', x'), 0 outside.

    `axis` is that of a, 1 or 2, and c is 2 axes later. The sum has `taps` terms, so that pad = taps - 1 makes
    both axes that much longer. With `has_halo`, x has what is outside along `axis` already.
    """
    widths = [(0, 0)] * 5
    widths[axis + 2] = (pad, pad)
    widths[axis] = (0, 0) if has_halo else (pad, pad)
    scores = jnp.pad(scores, widths)
    size, other_size = scores.shape[axis] - taps + 1, scores.shape[axis + 2] - taps + 1

    def shifted(i):
        along = jax.lax.slice_in_dim(scores, i, i + size, axis=axis)
        return jax.lax.slice_in_dim(along, i, i + other_size, axis=axis + 2)

    return sum(shifted(i) for i in range(taps))


def _masked_softmax(logits, weights, is_inside):
    """Softmax over the last two axes of logits (B, Y, w, h, w), times `weights` (B, h, w) of the patches.

    All zero for target rows that are not inside, bool (Y,), and where no patch has a weight.
    """
    weights = weights[:, None, None]  # (B, 1, 1, h, w)
    is_valid = weights > 0
    logits = jnp.where(is_valid, logits + jnp.log(jnp.where(is_valid, weights, 1)), EXCLUDED)
    keep = is_valid & is_inside[None, :, None, None, None]
    return jnp.where(keep, jax.nn.softmax(logits, axis=(-2, -1)), 0)


def _paste(attention, blocks, taps):
    """Weighted mean of the pasted patches, (B, Y - taps + 1, w + taps - 1, r * r, D).

    `attention`, (B, Y, w, h, w), also has the `taps - 1` rows above.
    """
    # Block c is part i of patch c - i; so the patches that cover block a paste it with the sum over i.
    pasted = _diagonal_sum(attention, 1, pad=taps - 1, taps=taps, has_halo=True)
    pasted = _diagonal_sum(pasted, 2, pad=taps - 1, taps=taps).astype(blocks.dtype)
    out = jnp.einsum("byxvu,bvupd->byxpd", pasted, blocks, preferred_element_type=jnp.float32)
    return out[..., :-1] / jnp.maximum(out[..., -1:], MIN_SHARE)


def _to_blocks(features, rate, taps):
    """Features with the SAME padding of the patches and a channel that counts, cut into r x r blocks.

    A patch starts at a multiple of r and is `taps` blocks long: (B, h / r + taps - 1, ..., r * r, D + 1).
    """
    low = max(rate // 2, 1)
    high = taps * rate - rate - low
    counted = jnp.concatenate([features, jnp.ones_like(features[..., :1])], axis=-1)
    padded = jnp.pad(counted, ((0, 0), (low, high), (low, high), (0, 0)))
    b, h, w, d = padded.shape
    cut = padded.reshape(b, h // rate, rate, w // rate, rate, d)
    return cut.swapaxes(2, 3).reshape(b, h // rate, w // rate, rate * rate, d)


def _from_blocks(blocks, rate, size):
    """Undoes the cut and the padding of `_to_blocks`; (B, H, W, D)."""
    b, rows, columns, _, d = blocks.shape
    whole = blocks.reshape(b, rows, columns, rate, rate, d).swapaxes(2, 3)
    low = max(rate // 2, 1)
    whole = whole.reshape(b, rows * rate, columns * rate, d)
    return whole[:, low : low + size[0], low : low + size[1]]


def _offsets(attention, row):
    """(dy, dx) from each target to the patch of its largest weight; (B, Y, w, 2), no gradient."""
    b, num_rows, columns, h, w = attention.shape
    nearest = jnp.argmax(attention.reshape(b, num_rows, columns, h * w), axis=-1)
    down = nearest // w - row[None, :, None]
    right = nearest % w - jnp.arange(columns)[None, None]
    return jnp.stack([down, right], axis=-1).astype(jnp.float32)


def _window_sum(x):
    """Sum over the 3x3 window around each cell of (B, h, w), zero outside."""
    _, h, w = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    rows = sum(padded[:, i : i + h] for i in range(3))
    return sum(rows[:, :, i : i + w] for i in range(3))
