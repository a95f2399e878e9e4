"""What a completion answers."""

import dataclasses

import numpy as np

from ifanp_jax.errors import UserError
from ifanp_jax.objectives import student_t


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionResult:
    """Completions of an image (H, W, C), or of a batch, which then leads as (B, H, W, C).

    All are float32 NumPy arrays.

    Attributes:
      samples: (S, H, W, C) or (S, B, H, W, C) in [0, 1], observed pixels kept. With one round, the predicted
        mean for each draw of the latent variable, clipped; with more, drawn by `autoregressive`.
      mean: (H, W, C) or (B, H, W, C) in [0, 1], the best estimate: the mean over the draws of the latent
        variable of what one round predicts, clipped, whatever the rounds of `samples`.
      uncertainty: like `mean`, the standard deviation around it per value; 0 at observed pixels. By default,
        from the model's heads: sqrt(variance over draws of the predicted mean + mean over draws of scale^2).
        From samples by rounds, where asked for: their root mean square distance from `mean`. Evaluation
        reports the rank correlation of both with the true error. None where a method knows none.
      raw_samples: like `samples`, but with observed pixels as one round predicts them; in tiles, which are
        computed only where something is missing, `samples` itself.
      rounds: of the samples; of a batch, the most that an image took.
      distribution: of a value around `mean`, with `uncertainty` as standard deviation: "normal" or
        "student_t" (4 degrees of freedom).
      untrained: what the model never saw in its training, in sentences.
      completed: like `mean`, the picture that a person wants: parts of the picture in deep holes, elsewhere
        the mean with grain, see `inference.fill`; where neither is asked for, the mean itself.
      alternatives: (N, H, W, C) or (N, B, H, W, C), further ones, whose deep holes follow samples; N =
        `num_completed` - 1.
      notes: on what is doubtful in `completed`, in sentences.

    Answers that are equal may share their memory, and are read-only then.
    """

    samples: np.ndarray
    mean: np.ndarray
    uncertainty: np.ndarray | None
    raw_samples: np.ndarray
    rounds: int = 1
    distribution: str = "normal"
    untrained: tuple[str, ...] = ()
    completed: np.ndarray | None = None
    alternatives: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        """Without anything better, the mean is what a person gets."""
        if self.completed is None:
            object.__setattr__(self, "completed", self.mean)
        if self.alternatives is None:
            object.__setattr__(self, "alternatives", np.zeros((0, *self.mean.shape), np.float32))

    def interval(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Central interval of each value: it should hold the true one with probability `level`.

        Args:
          level: in (0, 1), as 0.9.

        Returns:
          Lower and upper end, float32 like `mean`, clipped to [0, 1].

        Raises:
          UserError: for another level, or where the method knows no uncertainty.
        """
        if not 0 < level < 1:
            raise UserError(f"level is {level!r} but must lie between 0 and 1, as 0.9.")
        if self.uncertainty is None:
            raise UserError("This method knows no uncertainty, so it has no intervals: take a trained model.")
        from scipy import stats

        probability = 0.5 + level / 2
        half = stats.norm.ppf(probability)
        if self.distribution == "student_t":
            half = stats.t.ppf(probability, student_t.DEGREES_OF_FREEDOM) * student_t.SHAPE_SCALE
        half = np.float32(half) * self.uncertainty
        return np.clip(self.mean - half, 0, 1), np.clip(self.mean + half, 0, 1)

    def without_batch(self) -> "CompletionResult":
        """Of a batch of one, its image's."""
        names = ("samples", "raw_samples", "alternatives")
        draws = {name: getattr(self, name)[:, 0] for name in names}
        mean = self.mean[0]
        draws["completed"] = mean if self.completed is self.mean else self.completed[0]
        return dataclasses.replace(self, mean=mean, uncertainty=self.uncertainty[0], **draws)
