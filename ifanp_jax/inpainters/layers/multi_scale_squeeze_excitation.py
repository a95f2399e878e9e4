"""Multi-scale squeeze-and-excitation: a gate of the channels' means over convolutions of several reaches.

On X (B, g, g, N), with e = ELU and three branches of one, two and three 3x3 convolutions (3x3, 5x5, 7x7
seen), plain (R1..R3) and with dilation 2 (R4..R6):

  S = sigmoid(W2 e(W1 mean(X)))             (1), (2)
  R7 = S * project(concat(R1, ..., R6))     (3)
  X1 = reduce(concat(X, R7))                (4)

Open in the text and chosen here: the branches have N / 4 channels, entered by one 1x1 convolution; `project`
and `reduce` are 1x1 convolutions to N; ELU follows every convolution; dilated branches keep stride 1.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

BRANCH_DEPTHS = (1, 2, 3)  # 3x3 convolutions
DILATIONS = (1, 2)
BRANCH_DIVISOR = 4  # branches have N / 4 channels


class MultiScaleSqueezeExcitation(nn.Module):
    """One block; parameters: 43,924 for N = 64, 174,888 for 128, 697,936 for 256.

    Attributes:
      reduction: divisor of the gate's bottleneck.
      dtype: of the computation; parameters stay float32.
    """

    reduction: int = 16
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, h, w, N) to (B, h, w, N)."""
        chex.assert_rank(x, 4)
        n = x.shape[-1]
        width = max(1, n // BRANCH_DIVISOR)
        gate = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        gate = nn.elu(nn.Dense(max(1, n // self.reduction), dtype=self.dtype, name="squeeze")(gate))
        gate = nn.sigmoid(nn.Dense(n, dtype=self.dtype, name="excite")(gate))  # S, (B, 1, 1, N)
        entry = nn.elu(nn.Dense(width, dtype=self.dtype, name="enter")(x))
        branches = [self._branch(entry, depth, dilation) for dilation in DILATIONS for depth in BRANCH_DEPTHS]
        joined = nn.elu(nn.Dense(n, dtype=self.dtype, name="project")(jnp.concatenate(branches, axis=-1)))
        both = jnp.concatenate([x.astype(self.dtype), gate * joined], axis=-1)  # (B, h, w, 2N)
        return nn.elu(nn.Dense(n, dtype=self.dtype, name="reduce")(both))

    def _branch(self, x, depth, dilation):
        for index in range(depth):
            conv = nn.Conv(
                x.shape[-1],
                (3, 3),
                kernel_dilation=dilation,
                dtype=self.dtype,
                name=f"dilation{dilation}_depth{depth}_{index}",
            )
            x = nn.elu(conv(x))
        return x
