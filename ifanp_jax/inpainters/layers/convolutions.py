"""What the networks and critics are built of: transposed convolutions, their initial values, and norms."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL = 4  # taps along each axis
NORMAL = nn.initializers.normal(0.02)  # N(0, 0.02^2), usual for these networks
# Of each channel over its image; no parameters, so that an answer does not depend on the rest of the batch.
InstanceNorm = functools.partial(
    nn.InstanceNorm, epsilon=1e-5, use_bias=False, use_scale=False, use_fast_variance=False
)


def batch_norm(dtype: jnp.dtype, *, train: bool, name: str | None = None) -> nn.BatchNorm:
    """Batch normalisation whose running statistics move by a tenth at each step."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)


def upsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 transposed convolution, stride 2, padding 1: y[2i - 1 + k] += x[i] W[k] along both axes.

    Args:
      x: (B, h, w, I).
      kernel: (4, 4, I, O) as `flax.linen.ConvTranspose` stores it: the tap k of W lies at 3 - k.

    Returns:
      (B, 2h, 2w, O) in the dtype of `x`.
    """
    chex.assert_rank([x, kernel], 4)
    chex.assert_shape(kernel, (KERNEL, KERNEL, x.shape[-1], None))
    if jax.default_backend() == "cpu":
        return upsample_by_product(x, kernel)
    return jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def upsample_by_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`upsample` as one product of every cell with all 16 taps and a sum of shifted slices.

    XLA on a CPU runs a strided transposed convolution 6 to 20 times slower.
    """
    b, h, w, i = x.shape
    o = kernel.shape[-1]
    # Tap 2t + a along an axis: output phase a (even or odd) sees the cell at t - 1 + a from its own.
    taps = kernel.reshape(2, 2, 2, 2, i, o).transpose(4, 1, 3, 0, 2, 5).reshape(i, 16 * o)
    parts = (x.reshape(b * h * w, i) @ taps).reshape(b, h, w, 2, 2, 2, 2, o)  # (..., a, a', t, t', O)
    parts = jnp.pad(parts, ((0, 0), (1, 1), (1, 1), *((0, 0),) * 5))
    rows = []
    for a in range(2):
        phases = [
            sum(
                parts[:, a + t : a + t + h, c + u : c + u + w, a, c, t, u] for t in range(2) for u in range(2)
            )
            for c in range(2)
        ]
        rows.append(jnp.stack(phases, axis=3))  # (B, h, w, 2, O)
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, o)


class TransposedConv(nn.Module):
    """4x4 transposed convolution with bias, stride 2, padding 1.

    Attributes:
      features: O, channels of the output.
      dtype: of the computation; parameters stay float32.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, I) to (B, 2h, 2w, O)."""
        chex.assert_rank(x, 4)
        kernel = self.param("kernel", NORMAL, (KERNEL, KERNEL, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = upsample(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + bias.astype(self.dtype)[None, None, None, :]


class Unfold(nn.Module):
    """4x4 transposed convolution with bias of a map of one cell, no padding: a vector becomes a 4x4 map.

    Attributes:
      features: O, channels of the output.
      dtype: of the computation; parameters stay float32.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, I) to (B, 4, 4, O)."""
        chex.assert_rank(x, 2)
        b, i = x.shape
        kernel = self.param("kernel", NORMAL, (i, KERNEL, KERNEL, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype).reshape(i, -1)
        return y.reshape(b, KERNEL, KERNEL, -1) + bias.astype(self.dtype)[None, None, None, :]
