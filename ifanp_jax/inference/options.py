"""The options of a completion and of an export: written down once, for all who ask for one."""

import dataclasses
import math
import numbers

from ifanp_jax.errors import UserError

SIZES = ("auto", "own", "trained")
UNCERTAINTIES = ("heads", "samples")
FILLS = ("auto", "model", "montage")
# Of an export, and of the parameters that a file stores; all compute with float32.
FORMATS, DTYPES = ("stablehlo", "onnx"), ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class CompletionOptions:
    """How a picture is completed; a bad value raises a UserError.

    Attributes:
      num_samples: answers S, at least 1.
      seed: of the draws, in [0, 2^32).
      size: of SIZES: at which the model runs, see `inference.model`.
      rounds: of the samples, at least 1; each costs S passes of the model. None = those that suit the model,
        but one round where tiles would take too many draws. One round is enough for the mean.
      temperature: factor of the noise with several rounds, at least 0; times the model's own.
      uncertainty: of UNCERTAINTIES: "heads", what the model predicts, or with several rounds "samples", their
        distance from the mean.
      fill: of FILLS: what `completed` shows in holes: parts of the picture itself where they are deeper than
        what the model fills well ("auto"), the model's mean everywhere, or parts everywhere they can be had.
      grain: whether `completed` gets the grain of its surroundings where it shows the mean. None = for a
        picture of 8 bits and a model that knows such depth, as those of photographs do.
      num_completed: pictures that a person may choose from, 1 to num_samples + 1: `completed`, and further
        ones in `alternatives`, whose parts in deep holes follow a sample each and not the mean. They are
        equal where nothing is copied.
    """

    num_samples: int = 8
    seed: int = 0
    size: str = "auto"
    rounds: int | None = None
    temperature: float = 1.0
    uncertainty: str = "heads"
    fill: str = "auto"
    grain: bool | None = None
    num_completed: int = 1

    def __post_init__(self):
        """Checks the values."""
        counts = {"num_samples": self.num_samples, "num_completed": self.num_completed}
        counts |= {} if self.rounds is None else {"rounds": self.rounds}
        for name, value in counts.items():
            if not _is_integer(value) or value < 1:
                raise UserError(f"{name} is {value!r} but must be a whole number of at least 1.")
        if self.num_completed > self.num_samples + 1:
            raise UserError(
                f"num_completed is {self.num_completed} but each picture after the first follows a sample of "
                f"its own: ask for at least num_samples={self.num_completed - 1}."
            )
        if not _is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed!r} but must be a whole number from 0 to {2**32 - 1}.")
        if not (isinstance(self.temperature, int | float) and 0 <= self.temperature < math.inf):
            raise UserError(f"temperature is {self.temperature!r} but must be a number of at least 0.")
        if self.grain not in (None, True, False):
            raise UserError(f"grain is {self.grain!r} but must be True, False or None.")
        for name, allowed in (("size", SIZES), ("uncertainty", UNCERTAINTIES), ("fill", FILLS)):
            if getattr(self, name) not in allowed:
                choices = " or ".join(f'"{choice}"' for choice in allowed)
                raise UserError(f"{name} is {getattr(self, name)!r} but must be {choices}.")

    def describe_one_round(self) -> str:
        """A sentence: what one round gives in tiles, and what `rounds`, where they are more, would change."""
        is_one = self.num_samples == 1
        line = "In one round the "
        line += "answer is the best estimate" if is_one else f"{self.num_samples} answers are equal"
        if self.rounds > 1:
            line += f"; rounds={self.rounds} would {'draw it' if is_one else 'let them differ'} and take "
            line += f"{self.num_samples * self.rounds} times as long"
        return f"{line}."


def _is_integer(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
