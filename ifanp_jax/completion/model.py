"""Arrays in, answers out: a trained model completes images.

Everywhere True (in a mask picture: white; in an alpha channel: opaque) means observed. Observed pixels are
kept exactly, and what lies under unobserved ones is never read.
"""

import dataclasses
import functools
import logging
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.completion import arguments
from ifanp_jax.completion.limits import DEFAULT_LIMITS, Limits, check_own_size, count_at_once
from ifanp_jax.data import pictures
from ifanp_jax.models import answers
from ifanp_jax.training.runs import Run

logger = logging.getLogger(__name__)

MIN_OBSERVED_SHARE = 0.1  # of a pixel of the trained grid, to count as observed


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionResult:
    """Completions of an image (H, W, C), or of a batch, which then leads as (B, H, W, C).

    All are float32 NumPy arrays.

    Attributes:
      samples: (S, H, W, C) or (S, B, H, W, C) in [0, 1], one per draw of the latent variable, clipped;
        observed pixels kept.
      mean: (H, W, C) or (B, H, W, C) in [0, 1], the mean of `samples`.
      uncertainty: like `mean`, the standard deviation of the prediction per value,
        sqrt(variance over draws of the predicted mean + mean over draws of scale^2); 0 at observed pixels.
      raw_samples: like `samples`, but with observed pixels as the model predicts them.
    """

    samples: np.ndarray
    mean: np.ndarray
    uncertainty: np.ndarray
    raw_samples: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionModel:
    """A trained model, ready to complete images; `ifanp_jax.load` makes one of a training or of an export.

    Attributes:
      model: Flax module with the verbs `__call__` and `complete`.
      variables: its parameters and other collections.
      config: of the run.
      step: training steps behind `variables`.
      image_shape: (H, W, C) of the training images.
      limits: what completing may take.
    """

    model: nn.Module
    variables: Any = dataclasses.field(repr=False)
    config: ConfigDict = dataclasses.field(repr=False)
    step: int
    image_shape: tuple[int, int, int]
    limits: Limits = DEFAULT_LIMITS

    @classmethod
    def from_run(cls, run: Run) -> "CompletionModel":
        """The model of a training, with what that evaluates with.

        Args:
          run: with its state.
        """
        return cls(
            model=run.model,
            variables=run.variables,
            config=run.config,
            step=run.num_steps_done,
            image_shape=run.image_shape,
        )

    def complete(
        self, image, mask, *, num_samples: int = 8, seed: int = 0, size: str = "own"
    ) -> CompletionResult:
        """Completes one image or a batch; the same seed gives the same answer, alone or in any batch.

        At its own size the model sees every pixel, but its convolutions reach only as many pixels as in
        training. Large holes come out worse the more the size exceeds the trained one. How large it may be
        depends on the model: on what it says that it takes, and on what it costs (`limits`).

        At the trained size, image and mask are brought to the grid of the training by area (a pixel of it is
        observed where a tenth of it is, and takes the mean of that), and the answer is interpolated back
        under the observed pixels: fast at any size, good for large holes in large pictures, too coarse for
        scattered pixels.

        Args:
          image: uint8, or float in [0, 1] where observed; (H, W) for a model of one channel, (H, W, C) or
            (B, H, W, C).
          mask: bool, True = observed; (H, W) or (H, W, 1), for a batch then the same for all, or
            (B, H, W, 1).
          num_samples: S, at least 1.
          seed: of the draws, in [0, 2^32).
          size: "own" or "trained".

        Returns:
          The completions, with B where the input has it and always with C.

        Raises:
          UserError: an argument has another form, or the model does not take or afford the image's own size.
        """
        arguments.check_options(num_samples, seed, size)
        image, mask, is_batched = arguments.to_batch(image, mask, self.image_shape[-1])
        if size == "trained":
            samples, raw_samples, uncertainty = self._predict_at_trained_size(image, mask, num_samples, seed)
        else:
            own = image.shape[1:3]
            check_own_size(self.model, self.image_shape, own, self.limits)
            _advise_on_size(own, self.image_shape[:2])
            predicted, scale = self._predict(image, mask, num_samples, seed)
            samples = raw_samples = np.clip(predicted, 0, 1)
            uncertainty = answers.predictive_deviation(predicted, scale)
        result = CompletionResult(
            samples=np.where(mask, image, samples),
            mean=np.where(mask, image, samples.mean(axis=0)),
            uncertainty=np.where(mask, np.float32(0), uncertainty),
            raw_samples=raw_samples,
        )
        return result if is_batched else _without_batch(result)

    def _predict(
        self, image: np.ndarray, mask: np.ndarray, num_samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Predicted means and scales, float32 (S, B, H, W, C) each, in calls of bounded size."""
        samples_at_once, images_at_once = count_at_once(
            self.model, image.shape[1:3], num_samples, self.limits
        )
        parts = [slice(first, first + images_at_once) for first in range(0, len(image), images_at_once)]
        rows = []
        for first_sample in range(0, num_samples, samples_at_once):
            # The key depends on the sample alone: an image's answer must not depend on its neighbours.
            key = jax.random.fold_in(jax.random.key(seed), first_sample)
            count = min(samples_at_once, num_samples - first_sample)
            row = [self._predict_at_once(key, image[part], mask[part], count) for part in parts]
            rows.append(_concatenate(row, axis=1))
        return _concatenate(rows, axis=0)

    def _predict_at_once(self, key, image, mask, num_samples):
        completion = answers.complete_batch(
            key, self.model, self.variables, image, mask, num_samples=num_samples
        )
        return jax.device_get((completion.samples, completion.scale))

    def _predict_at_trained_size(
        self, image: np.ndarray, mask: np.ndarray, num_samples: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples with observed coarse pixels kept, raw samples, uncertainty; resized back from the grid."""
        height, width = image.shape[1:3]
        small_image, small_mask = _to_grid(image, mask, *self.image_shape[:2])
        if (mask.any(axis=(1, 2, 3)) & ~small_mask.any(axis=(1, 2, 3))).any():
            logger.warning(
                "No pixel of the trained %dx%d grid is observed to a tenth, so nothing of the image is "
                'used; size="own" (--size=own) uses scattered pixels.',
                *self.image_shape[:2],
            )
        predicted, scale = self._predict(small_image, small_mask, num_samples, seed)
        raw_samples = np.clip(predicted, 0, 1)
        # From observed coarse pixels the interpolation goes on into the hole without a seam.
        samples = np.where(small_mask, small_image, raw_samples)
        uncertainty = answers.predictive_deviation(predicted, scale)
        return tuple(
            pictures.resize_area(values, height, width) for values in (samples, raw_samples, uncertainty)
        )


@functools.cache  # once per size
def _advise_on_size(size: tuple[int, int], trained_size: tuple[int, int]) -> None:
    if max(size) > 2 * max(trained_size):
        logger.warning(
            "The model was trained at %dx%d and is now run at %dx%d: scattered pixels come out well, large "
            'holes better with size="trained" (--size=trained).',
            *trained_size,
            *size,
        )


def _concatenate(parts, *, axis):
    """Joins pairs of arrays one by one; None stays None."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def _without_batch(result: CompletionResult) -> CompletionResult:
    return CompletionResult(
        samples=result.samples[:, 0],
        mean=result.mean[0],
        uncertainty=result.uncertainty[0],
        raw_samples=result.raw_samples[:, 0],
    )


def _to_grid(image: np.ndarray, mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the observed pixels under each coarse one, and whether they make up enough of it.

    Args:
      image: float32 (B, H, W, C), 0 at unobserved pixels.
      mask: bool (B, H, W, 1).
      height: rows of the result.
      width: columns of the result.

    Returns:
      float32 (B, height, width, C) in [0, 1] and bool (B, height, width, 1).
    """
    share = pictures.resize_area(mask.astype(np.float32), height, width)
    total = pictures.resize_area(image, height, width)
    small_mask = share > MIN_OBSERVED_SHARE - 1e-6  # float32 sums of exactly that share may fall short of it
    small_image = np.clip(total / np.where(small_mask, share, 1), 0, 1)
    return np.where(small_mask, small_image, np.float32(0)), small_mask
