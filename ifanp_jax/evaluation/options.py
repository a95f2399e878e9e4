"""How a model is evaluated."""

import dataclasses
from collections.abc import Sequence
from typing import Self

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Options:
    """`config.evaluate`, and what other groups of a configuration say of the tests.

    Attributes:
      seed: of contexts, latent samples and bootstrap.
      fractions: observed, of contexts of random pixels.
      uniform_fraction: largest one of contexts with a fraction drawn for each image; 0 = none.
      halves: whether the four halves are contexts.
      num_images: first held-out images; 0 = all.
      num_samples: latent samples of an image.
      rounds: by which samples are drawn and measured as well; 0 = none are.
      rounds_images: first images of those samples.
      batch_size: images at once, which changes no number.
      classical_images: first images that classical methods complete; 0 = none.
      figure_images: rows of `completions.png`.
      has_holes: whether holes are contexts: they are where the training draws holes.
      target: pixels of the log-likelihood, "all" or "unobserved".
      protocol: its name for the tables; "" = none.
    """

    seed: int
    fractions: Sequence[float]
    uniform_fraction: float
    halves: bool
    num_images: int
    num_samples: int
    rounds: int
    rounds_images: int
    batch_size: int
    classical_images: int
    figure_images: int
    has_holes: bool
    target: str
    protocol: str

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """What a whole configuration says."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(
            **{name: value for name, value in config.evaluate.items() if name in names},
            has_holes=config.mask.kind == "inpainting",
            target=config.objective.target,
            protocol=config.protocol,
        )
