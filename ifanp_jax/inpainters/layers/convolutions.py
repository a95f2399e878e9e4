"""What the networks and critics are built of: convolutions, their initial values, and norms."""

import functools
import itertools

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
# 4x4, to half the side.
Halving = functools.partial(nn.Conv, kernel_size=(4, 4), strides=2, padding=1, kernel_init=NORMAL)


def batch_norm(dtype: jnp.dtype, *, train: bool, name: str | None = None) -> nn.BatchNorm:
    """Batch normalisation whose running statistics move by a tenth at each step."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, name=name)


def upsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 transposed convolution, stride 2, padding 1: y[2i - 1 + k] += x[i] W[k] along both axes.

    Maps (B, h, w, I) to (B, 2h, 2w, O). The kernel (4, 4, I, O) lies as in `flax.linen.ConvTranspose`: the
    tap k of W at 3 - k.
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
        phases = []
        for c in range(2):
            taps = itertools.product(range(2), range(2))
            phases.append(sum(parts[:, a + t : a + t + h, c + u : c + u + w, a, c, t, u] for t, u in taps))
        rows.append(jnp.stack(phases, axis=3))  # (B, h, w, 2, O)
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, o)


class TransposedConv(nn.Module):
    """4x4 transposed convolution with bias, stride 2, padding 1.

    Attributes:
      features: channels of the output.
      dtype: of the computation; parameters stay float32.
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, I) to (B, 2h, 2w, features)."""
        chex.assert_rank(x, 4)
        kernel, bias = self._make_parameters(KERNEL, KERNEL, x.shape[-1])
        return upsample(x.astype(self.dtype), kernel) + bias

    def _make_parameters(self, *kernel_shape):
        kernel = self.param("kernel", NORMAL, (*kernel_shape, self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return kernel, bias[None, None, None, :]


class Unfold(TransposedConv):
    """The same without padding on one cell: a vector becomes a 4x4 map."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, I) to (B, 4, 4, features)."""
        chex.assert_rank(x, 2)
        b, i = x.shape
        kernel, bias = self._make_parameters(i, KERNEL, KERNEL)
        return (x.astype(self.dtype) @ kernel.reshape(i, -1)).reshape(b, KERNEL, KERNEL, -1) + bias
