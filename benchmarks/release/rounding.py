"""What storing weights in float16 changes of the answers."""

import dataclasses

import jax
import numpy as np

from ifanp_jax import metrics
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation.contexts import make_context
from ifanp_jax.inference import store
from ifanp_jax.inference.model import Model

NUM_IMAGES = 8  # first held-out ones
FRACTION = 0.3  # of the pixels, observed at random
NUM_SAMPLES = 2
LARGEST_CHANGE = 0.5 / 255  # of a value in [0, 1]: a picture of 8 bits is the same up to its rounding
LARGEST_PSNR_CHANGE = 0.005  # dB: the tables have two decimals


@dataclasses.dataclass(frozen=True)
class Change:
    """How the completed means of some images differ after a change of storage.

    Attributes:
      dtype: of the storage.
      num_images: completed.
      largest: change of a value in [0, 1].
      psnr: dB, of the float32 weights, mean over the images.
      psnr_stored: dB, of the stored ones.
    """

    dtype: str
    num_images: int
    largest: float
    psnr: float
    psnr_stored: float

    @property
    def is_none(self) -> bool:
        """Whether the numbers are equal, as far as a picture of 8 bits or a table shows them."""
        is_same_psnr = abs(self.psnr - self.psnr_stored) <= LARGEST_PSNR_CHANGE
        return self.largest <= LARGEST_CHANGE and is_same_psnr


def measure(model: Model, images: np.ndarray, *, dtype: str) -> Change:
    """Completes images with the weights of a model, and with these after a round trip through `dtype`.

    Args:
      model: trained.
      images: uint8 (N, H, W, C); the first few are completed.
      dtype: of the storage.
    """
    images = np.asarray(images[:NUM_IMAGES], np.float32) / 255
    mask = make_context("random", images.shape[:3], fraction=FRACTION, seed=0).masks
    arrays = store.to_arrays(model.variables, dtype=dtype)
    stored = store.unflatten({name: _to_float32(x) for name, x in arrays.items()})
    means = [
        one.complete(images, mask, num_samples=NUM_SAMPLES, rounds=1, size="own").mean
        for one in (model, dataclasses.replace(model, variables=jax.device_put(stored)))
    ]
    psnr = [float(np.mean(metrics.psnr(mean, images))) for mean in means]
    largest = float(np.abs(means[0] - means[1]).max())
    return Change(dtype, len(images), largest, *psnr)


def choose(model: Model, images: np.ndarray, *, dtype: str) -> tuple[str, Change | None]:
    """The dtype of the storage, and what was measured of float16; None where that was not asked for.

    Args:
      model: trained.
      images: uint8 (N, H, W, C), held out.
      dtype: "float32", "float16", or "auto": float16 where the numbers are equal.

    Raises:
      UserError: float16 was asked for and the numbers are not equal.
    """
    if dtype == "float32":
        return dtype, None
    change = measure(model, images, dtype="float16")
    if change.is_none:
        return "float16", change
    if dtype == "auto":
        return "float32", change
    raise UserError(
        f"--dtype=float16 changes a completed value by {change.largest:.5f} (at most {LARGEST_CHANGE:.5f} is "
        f"allowed) and the PSNR from {change.psnr:.3f} to {change.psnr_stored:.3f} dB; give --dtype=float32."
    )


def _to_float32(x):
    return x.astype(np.float32) if x.dtype == np.float16 else x
