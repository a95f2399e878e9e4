"""Completion without learning, by the same calls as a trained model: for comparison, and where none fits."""

import dataclasses
from typing import Any

from ifanp_jax.classical import interpolation, opencv, patch_match
from ifanp_jax.errors import UserError
from ifanp_jax.inference import inputs, tiles
from ifanp_jax.inference.options import CompletionOptions
from ifanp_jax.inference.result import CompletionResult
from ifanp_jax.runtime import extras

NAMES = (*interpolation.METHODS, *opencv.METHODS, "patch_match")
MARGIN = 64  # pixels around what is missing that a method sees; patch_match looks for patches everywhere


@dataclasses.dataclass(frozen=True)
class ClassicalMethod:
    """A method as `completion.files.complete_files` takes it; one answer, no uncertainty.

    Attributes:
      name: of NAMES.
      image_shape: of which the last, 3 channels, counts; grey ones give grey.
    """

    name: str
    image_shape: tuple[int, int, int] = (0, 0, 3)

    def __post_init__(self):
        """Checks the name."""
        if self.name not in NAMES:
            raise UserError(f"Unknown method {self.name!r}: choose one of {', '.join(NAMES)}.")
        if self.name in interpolation.METHODS:
            extras.require("classical", f"--method={self.name}")
        elif self.name in opencv.METHODS:
            opencv.check(self.name)

    def with_rounds(self, options: CompletionOptions) -> CompletionOptions:
        """The options with one round where they name none.

        Raises:
          UserError: for parts of the picture or grain, which are put into a model's estimate alone.
        """
        asked = "--fill=montage" if options.fill == "montage" else "--grain" if options.grain else ""
        asked = asked or ("--num_completed" if options.num_completed > 1 else "")
        if asked:
            raise UserError(f"{asked} works with a model: leave out --method={self.name}, or {asked}.")
        return dataclasses.replace(options, rounds=options.rounds or 1)

    def complete(
        self, image, mask, *, options: CompletionOptions | None = None, **changes: Any
    ) -> CompletionResult:
        """Completes one image (H, W, 3), as `Model.complete`: one sample, which is the mean."""
        options = dataclasses.replace(options or CompletionOptions(), **changes)
        images, masks, _ = inputs.to_batch(image, mask, self.image_shape[-1])
        mean, known = images[0].copy(), masks[0]
        part = tiles.find_box(~known[..., 0], margin=MARGIN)
        if self.name == "patch_match":
            mean = patch_match.complete(mean, known)
        elif not known.all():
            complete = opencv.complete if self.name in opencv.METHODS else interpolation.complete
            mean[part] = complete(self.name, mean[part], known[part])
        return CompletionResult(samples=mean[None], mean=mean, uncertainty=None, raw_samples=mean[None])
