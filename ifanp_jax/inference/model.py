"""A trained model: arrays in, answers out.

Everywhere True (in a mask picture: white; in an alpha channel: opaque) means observed. Observed pixels are
kept exactly, and what lies under unobserved ones is never read.

The option `size` says at which size the model runs:

- "own": the whole picture in one call. How large it may be depends on the model: on what it says that it
  takes, and on what it costs (`sizes`).
- "trained": image and mask are brought to the grid of the training by area (a pixel of it is observed where a
  tenth of it is, and takes the mean of that), and the answer is interpolated back under the observed pixels:
  fast at any size, too coarse for scattered pixels.
- "auto": for a model that says how far it looks (`tile_margin`), tile by tile where something is missing, and
  coarse to fine where a hole is deeper than any of the training (`tiling`, `pyramid`); the trained size in
  one call. For another model one of the two above (`sizes`).
"""

import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError
from ifanp_jax.inference import autoregressive, fill, inputs, predict, sizes, tiling
from ifanp_jax.inference.options import CompletionOptions
from ifanp_jax.inference.progress import Listener
from ifanp_jax.inference.result import CompletionResult
from ifanp_jax.inference.sizes import DEFAULT_LIMITS, Limits
from ifanp_jax.models import parameters

logger = logging.getLogger(__name__)

MIN_OBSERVED_SHARE = 0.1  # of a pixel of the trained grid, to count as observed


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model, wherever it comes from: a training, an export or the package.

    Attributes:
      module: Flax module with the verbs `__call__` and `complete`.
      variables: its parameters and other collections.
      config: of its training.
      image_shape: (H, W, C) of the training images.
      step: optimiser steps behind `variables`.
      about: what its file says of it, see `store.FIELDS`; empty for a training.
      limits: what completing may take.
    """

    module: nn.Module
    variables: Any = dataclasses.field(repr=False)
    config: ConfigDict = dataclasses.field(repr=False)
    image_shape: tuple[int, int, int]
    step: int
    about: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    limits: Limits = DEFAULT_LIMITS

    @property
    def num_parameters(self) -> int:
        """Values in `params`."""
        return parameters.count_parameters(self.variables["params"])

    @property
    def montage_depth(self) -> float | None:
        """Pixels from what is known above which parts of the picture fill a hole better, if known."""
        depth = self.about.get("montage_depth", "")
        return float(depth) if depth else None

    def complete(
        self,
        image,
        mask,
        *,
        options: CompletionOptions | None = None,
        on_progress: Listener | None = None,
        **changes: Any,
    ) -> CompletionResult:
        """Completes one image or a batch; the same seed gives the same answer, alone or in any batch.

        Args:
          image: uint8, or float in [0, 1] where observed; (H, W) for a model of one channel, (H, W, C) or
            (B, H, W, C).
          mask: bool, True = observed; (H, W), also for a whole batch, or (B, H, W); an axis of 1 may follow.
          on_progress: called after each tile with the tiles that are done, all of them, and the seconds left
            or None; what it raises ends the completion.
          **changes: fields of `options` by name: num_samples, seed, size, rounds, ...

        Returns:
          The completions, with B where the input has it and always with C.

        Raises:
          UserError: an argument has another form, the model does not take or afford the image's own size, or
            has no scale for more than one round.
        """
        asked = dataclasses.replace(options or CompletionOptions(), **changes)
        options = self.with_rounds(asked)
        has_8_bits = np.asarray(image).dtype == np.uint8
        image, mask, is_batched = inputs.to_batch(image, mask, self.image_shape[-1])
        inputs.check_known(self.module, mask)
        # Choose the size, and say what the training never saw of it.
        how = options.size
        if how == "auto":
            how, reason = sizes.choose(self.module, self.image_shape, mask, self.limits)
            if how != "tiles":
                logger.info('Size "auto" is "%s" here: %s.', how, reason)
        untrained = tuple(sizes.list_untrained(self.config, self.image_shape, mask[..., 0], how))
        for note in untrained:
            _warn_once(note)
        # Complete.
        if how == "tiles":
            free = asked.rounds is None
            result = tiling.complete(self, image, mask, options, may_lower_rounds=free, listener=on_progress)
        else:
            result = self._complete_whole(image, mask, options, how)
        known = {"distribution": self.module.distribution, "untrained": untrained}
        result = dataclasses.replace(result, **known)
        result = self._finish(result, mask[..., 0], options, has_8_bits=has_8_bits)
        return result if is_batched else result.without_batch()

    def with_rounds(self, options: CompletionOptions) -> CompletionOptions:
        """The options with rounds: those that suit the model, where they name none, or a UserError."""
        if options.rounds is None:
            return dataclasses.replace(options, rounds=autoregressive.default_rounds(self.module))
        sizes.check_rounds(self.module, self.image_shape, options.rounds)
        return options

    def check_takes(self, image_shape: tuple[int, int, int]) -> None:
        """Raises a UserError for images (H, W, C) of a data set that the model does not take."""
        h, w, c = image_shape
        if c != self.image_shape[-1]:
            raise UserError(
                f"The images have {c} channels but the model was trained with {self.image_shape[-1]}; set "
                f"config.data.channels={self.image_shape[-1]}."
            )
        if problem := self.module.takes_size((h, w), self.image_shape[:2]):
            raise UserError(f"{problem} Set config.data.image_size={self.image_shape[0]}.")

    def _finish(self, result, known, options, *, has_8_bits):
        """The result with what a person wants to see: `completed`, and notes on it."""
        montage_depth = self.montage_depth
        depth = {"auto": montage_depth, "model": None, "montage": 0.0}[options.fill]
        with_grain = options.grain
        if with_grain is None:
            with_grain = has_8_bits and montage_depth is not None
        if depth is None and not with_grain:
            equal = np.broadcast_to(result.mean, (options.num_completed - 1, *result.mean.shape))
            return dataclasses.replace(result, alternatives=equal)
        how = {"depth": depth, "with_grain": with_grain, "seed": options.seed}
        parts = zip(result.mean, known, result.uncertainty, strict=True)
        filled = [
            fill.complete(*part, guides=_find_guides(result, index, options), **how)
            for index, part in enumerate(parts)
        ]
        several = {"completed": np.stack([one.image for one in filled])}
        if options.num_completed > 1:
            several["alternatives"] = np.stack([np.stack(one.alternatives) for one in filled], axis=1)
        notes = tuple(note for one in filled for note in one.notes)
        return dataclasses.replace(result, notes=notes, **several)

    def _complete_whole(self, image, mask, options, how):
        """Answers in calls with whole pictures, at the size that `how` names."""
        if how == "trained":
            answer = self._answer_at_trained_size(image, mask, options)
        else:
            sizes.check_own_size(self.module, self.image_shape, image.shape[1:3], self.limits)
            answer = self._answer(image, mask, options)
        return CompletionResult(
            samples=np.where(mask, image, answer.samples),
            mean=np.where(mask, image, answer.mean),
            uncertainty=np.where(mask, np.float32(0), answer.uncertainty),
            raw_samples=answer.raw_samples,
            rounds=options.rounds,
        )

    def _answer(self, image, mask, options) -> CompletionResult:
        """Answers at the image's own size; observed pixels are kept in `samples` and `mean` alone."""
        # One round: the predicted means, and their deviation.
        predicted, scale = self._in_calls(_predict, image, mask, options)
        raw_samples = np.clip(predicted, 0, 1)
        samples = np.where(mask, image, raw_samples)
        mean = np.where(mask, image, raw_samples.mean(axis=0))
        uncertainty = predict.predictive_deviation(predicted, scale)
        # Several rounds: other samples around the same mean.
        if options.rounds > 1:
            how = {"rounds": options.rounds, "temperature": options.temperature}
            samples = self._in_calls(autoregressive.complete_by_rounds, image, mask, options, **how)
            raw_samples = np.where(mask, raw_samples, samples)
            if options.uncertainty == "samples":
                uncertainty = np.sqrt(np.square(samples - mean).mean(axis=0))
        return CompletionResult(samples, mean, uncertainty, raw_samples)

    def _in_calls(self, ask, image, mask, options, **how):
        """What `ask(key, module, variables, image, mask)` answers, (S, B, ...), in calls of bounded size."""
        samples_at_once, images_at_once = sizes.count_at_once(
            self.module, image.shape[1:3], options.num_samples, self.limits
        )
        parts = [slice(first, first + images_at_once) for first in range(0, len(image), images_at_once)]
        rows = []
        for first_sample in range(0, options.num_samples, samples_at_once):
            # The key depends on the sample alone: an image's answer must not depend on its neighbours.
            key = jax.random.fold_in(jax.random.key(options.seed), first_sample)
            how["num_samples"] = min(samples_at_once, options.num_samples - first_sample)
            model = (key, self.module, self.variables)
            row = [jax.device_get(ask(*model, image[part], mask[part], **how)) for part in parts]
            rows.append(_concatenate(row, axis=1))
        return _concatenate(rows, axis=0)

    def _answer_at_trained_size(self, image, mask, options) -> CompletionResult:
        """Answers on the grid of the training, resized back."""
        height, width = image.shape[1:3]
        small_image, small_mask = _to_grid(image, mask, *self.image_shape[:2])
        if (mask.any(axis=(1, 2, 3)) & ~small_mask.any(axis=(1, 2, 3))).any():
            logger.warning(
                "No pixel of the trained %dx%d grid is observed to a tenth, so nothing of the image is "
                'used; size="own" (--size=own) uses scattered pixels.',
                *self.image_shape[:2],
            )
        # With observed coarse pixels kept, the interpolation goes on into the hole without a seam.
        answer = self._answer(small_image, small_mask, options)
        names = ("samples", "mean", "uncertainty", "raw_samples")
        return CompletionResult(
            **{name: image_ops.resize_area(getattr(answer, name), height, width) for name in names}
        )


def _find_guides(result, index, options):
    """Yields what the parts of each further completed picture of an image follow."""
    for number in range(1, options.num_completed):
        if result.rounds > 1:
            yield result.samples[number - 1, index]
        else:
            yield fill.draw_guide(result.mean[index], result.uncertainty[index], (options.seed, number))


@functools.cache  # a loop over many pictures says it once
def _warn_once(note: str) -> None:
    logger.warning(note)


def _predict(*model_and_context, num_samples):
    """Predicted means and scales of one round, float32 (S, B, H, W, C) each; None without a scale."""
    completion = predict.complete_batch(*model_and_context, num_samples=num_samples)
    return completion.samples, completion.scale


def _concatenate(parts, *, axis):
    """Joins arrays, or pairs of them one by one; None stays None."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def _to_grid(image: np.ndarray, mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the observed pixels under each coarse one, and whether they make up enough of it."""
    share = image_ops.resize_area(mask.astype(np.float32), height, width)
    total = image_ops.resize_area(image, height, width)
    small_mask = share > MIN_OBSERVED_SHARE - 1e-6  # float32 sums of exactly that share may fall short of it
    small_image = np.clip(total / np.where(small_mask, share, 1), 0, 1)
    return np.where(small_mask, small_image, np.float32(0)), small_mask
