"""How large a picture a model completes at the picture's own size: what it takes, and what it costs."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ifanp_jax import memory
from ifanp_jax.errors import UserError
from ifanp_jax.inference import tiles
from ifanp_jax.models import parameters
from ifanp_jax.runtime import device_mesh, flops

MEMORY_SHARE = 0.5  # of the device, for what completes one picture
CPU_OPERATIONS, ACCELERATOR_OPERATIONS = 8e12, 8e14  # for one picture: a minute of two cores


@dataclasses.dataclass(frozen=True)
class Limits:
    """What completing may take.

    Attributes:
      positions_at_once: samples * images * pixels in one call; a map of 64 channels then takes 256 MiB.
      tile_sides: of the tiles that a large picture is cut into, pixels, the smallest first.
      draws_at_once: samples * rounds * pixels up to which samples come by rounds where nobody says how many.
      num_bytes: memory of one call; 0 = half of the device's.
      num_operations: of products and convolutions, for one picture; 0 = 8e12 on a CPU, else 8e14.
    """

    positions_at_once: int = 2**20
    tile_sides: tuple[int, ...] = tiles.SIDES
    draws_at_once: int = 2**20
    num_bytes: int = 0
    num_operations: float = 0


DEFAULT_LIMITS = Limits()


def count_at_once(
    model: nn.Module, size: tuple[int, int], num_samples: int, limits: Limits
) -> tuple[int, int]:
    """How many samples, and how many images, go into one call.

    Args:
      model: says what a picture costs by `completion_bytes`.
      size: (H, W) of the images.
      num_samples: wanted in all.
      limits: of positions and memory.
    """
    h, w = size
    samples = min(num_samples, max(1, limits.positions_at_once // (h * w)))
    images = limits.positions_at_once // (h * w * samples)
    fitting = find_num_bytes(limits) // (samples * model.completion_bytes(size))
    return samples, max(1, min(images, fitting))


def check_own_size(
    model: nn.Module, image_shape: tuple[int, int, int], size: tuple[int, int], limits: Limits
) -> None:
    """Raises a UserError, before anything is compiled, when a picture cannot be completed at its own size.

    Args:
      model: says what it takes and costs by `takes_size` and `completion_bytes`.
      image_shape: (H, W, C) of the training.
      size: (H, W) of the picture.
      limits: of memory and operations.
    """
    (h, w), trained = size, image_shape[:2]
    if problem := model.takes_size(size, trained):
        raise UserError(f'{problem} With size="trained" (--size=trained) it is done for you.')
    if cost := find_high_cost(model, image_shape, size, limits):
        raise UserError(
            f"The image has {h}x{w} pixels (rows x columns), which would cost this model {cost}: "
            'give size="trained" (--size=trained) or shrink it.'
        )


def find_high_cost(
    model: nn.Module, image_shape: tuple[int, int, int], size: tuple[int, int], limits: Limits
) -> str:
    """The cost of a picture that is above its limit, in words; "" where all is well.

    Args:
      model: as of `check_own_size`, like the rest.
      image_shape: (H, W, C) of the training, which is never too large.
      size: (H, W) of the picture.
      limits: of memory and operations.
    """
    if size[0] <= image_shape[0] and size[1] <= image_shape[1]:
        return ""
    needed, allowed = model.completion_bytes(size), find_num_bytes(limits)
    if needed > allowed:
        return f"{needed / 2**30:.1f} GiB of memory where {allowed / 2**30:.1f} may be used"
    needed, allowed = count_operations(model, image_shape, size), _find_num_operations(limits)
    return f"{needed / 1e12:.1f} TFLOP where {allowed / 1e12:.1f} are allowed" if needed > allowed else ""


def find_num_bytes(limits: Limits) -> int:
    """Memory that one call may take, in bytes; on a CPU of all that its devices share."""
    device = jax.local_devices()[0]
    available = memory.machine_bytes() if device.platform == "cpu" else device_mesh.device_bytes(device)
    return limits.num_bytes or int(MEMORY_SHARE * available)


def _find_num_operations(limits):
    default = CPU_OPERATIONS if jax.default_backend() == "cpu" else ACCELERATOR_OPERATIONS
    return limits.num_operations or default


@functools.cache  # tracing takes a second
def count_operations(model: nn.Module, image_shape: tuple[int, int, int], size: tuple[int, int]) -> int:
    """Operations of completing one picture once; nothing is compiled.

    Args:
      model: Flax module with the verb `complete`.
      image_shape: (H, W, C) of the training.
      size: (H, W) of the picture.
    """
    return flops.count(*_trace_completion(model, image_shape, size))


def check_rounds(model: nn.Module, image_shape: tuple[int, int, int], rounds: int) -> None:
    """Raises a UserError, before anything is compiled, when a model cannot answer by so many rounds.

    Args:
      model: Flax module with the verb `complete`.
      image_shape: (H, W, C) of the training.
      rounds: wanted.
    """
    if rounds > 1 and not _has_scale(model, image_shape):
        raise UserError(
            f"rounds is {rounds} but {type(model).__name__} was trained without a scale, so there is nothing "
            "to draw from: give rounds=1 (--rounds=1) or leave it out."
        )


@functools.cache  # tracing takes a second
def _has_scale(model, image_shape):
    function, *arguments = _trace_completion(model, image_shape, image_shape[:2])
    return jax.eval_shape(function, *arguments).scale is not None


def _trace_completion(model, image_shape, size):
    """A function that completes one picture of `size` once, and the shapes of its arguments."""
    key, (h, w), c = jax.random.key(0), size, image_shape[-1]

    def complete(variables, image, mask):
        return model.apply(variables, image, mask, num_samples=1, method="complete", rngs={"sample": key})

    return (
        complete,
        parameters.abstract_variables(model, image_shape),
        jax.ShapeDtypeStruct((1, h, w, c), jnp.float32),
        jax.ShapeDtypeStruct((1, h, w, 1), bool),
    )
