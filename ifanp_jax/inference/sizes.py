"""At which size a model runs: what `size="auto"` chooses, what a picture may cost, and what is untrained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import memory
from ifanp_jax.errors import UserError
from ifanp_jax.inference import pyramid, tiles
from ifanp_jax.models import parameters
from ifanp_jax.models.base import ImageModel
from ifanp_jax.runtime import device_mesh, flops

MEMORY_SHARE = 0.5  # of the device, for what completes one picture
CPU_OPERATIONS, ACCELERATOR_OPERATIONS = 8e12, 8e14  # for one picture: a minute of two cores
# How deep in a hole a pixel may be, of the trained pictures' shorter side. In tiles, coarse to fine completes
# deeper ones better, also such as a training has; a model without tiles has only its trained size instead.
DEEP, DEEP_WITHOUT_TILES = 1 / 8, 1 / 2
SCATTERED_DEPTH = 6.0  # pixels: so deep are the gaps between scattered ones, which need no coarser level
MAX_SCATTERED_DEPTH = 8.0  # pixels; scattered contexts have hardly any pixel so far from an observed one
MAX_SIZE_RATIO = 2  # of a picture's longest side to the training's, without a word


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


def max_depth(image_shape: tuple[int, int, int]) -> float:
    """Pixels from a missing to the nearest observed one up to which tiles need no coarser level."""
    return max(SCATTERED_DEPTH, DEEP * min(image_shape[:2]))


def choose(
    model: ImageModel, image_shape: tuple[int, int, int], mask: np.ndarray, limits: Limits
) -> tuple[str, str]:
    """What `size="auto"` means here: "own", "trained" or "tiles"; and why, as a part of a sentence."""
    size, trained = mask.shape[1:3], image_shape[:2]
    shape = "x".join(str(side) for side in trained)
    if size == trained:
        return "own", f"the pictures of the training have this size, {shape}"
    if model.tile_margin() is not None:
        return "tiles", "the model takes any size"
    if model.takes_size(size, trained):
        return "trained", f"the model does not take {size[0]}x{size[1]} pixels"
    if cost := find_high_cost(model, image_shape, size, limits):
        return "trained", f"at its own size the picture would cost this model {cost}"
    allowed = DEEP_WITHOUT_TILES * min(trained)
    deepest = max(float(pyramid.measure_depth(x, beyond=allowed).max()) for x in mask[..., 0])
    if max(size) > max(trained) and deepest > allowed:
        depth = f"a missing pixel is {deepest:.0f} pixels from the nearest observed one"
        return "trained", f"{depth}, further than in the training, at {shape}"
    return "own", "the model takes this size, and the holes are small enough for it"


def count_at_once(
    model: ImageModel, size: tuple[int, int], num_samples: int, limits: Limits
) -> tuple[int, int]:
    """How many samples, and how many images, go into one call."""
    h, w = size
    samples = min(num_samples, max(1, limits.positions_at_once // (h * w)))
    images = limits.positions_at_once // (h * w * samples)
    fitting = find_num_bytes(limits) // (samples * model.completion_bytes(size))
    return samples, max(1, min(images, fitting))


def check_own_size(
    model: ImageModel, image_shape: tuple[int, int, int], size: tuple[int, int], limits: Limits
) -> None:
    """Raises a UserError, before anything is compiled, when a picture cannot be completed at its own size."""
    (h, w), trained = size, image_shape[:2]
    if problem := model.takes_size(size, trained):
        raise UserError(f'{problem} With size="trained" (--size=trained) it is done for you.')
    if cost := find_high_cost(model, image_shape, size, limits):
        raise UserError(
            f"The image has {h}x{w} pixels (rows x columns), which would cost this model {cost}: "
            'give size="trained" (--size=trained) or shrink it.'
        )


def find_high_cost(
    model: ImageModel, image_shape: tuple[int, int, int], size: tuple[int, int], limits: Limits
) -> str:
    """The cost of a picture that is above its limit, in words; "" where all is well."""
    if size[0] <= image_shape[0] and size[1] <= image_shape[1]:
        return ""
    needed, allowed = model.completion_bytes(size), find_num_bytes(limits)
    if needed > allowed:
        return f"{needed / 2**30:.1f} GiB of memory where {allowed / 2**30:.1f} may be used"
    default = CPU_OPERATIONS if jax.default_backend() == "cpu" else ACCELERATOR_OPERATIONS
    needed, allowed = count_operations(model, image_shape, size), limits.num_operations or default
    return f"{needed / 1e12:.1f} TFLOP where {allowed / 1e12:.1f} are allowed" if needed > allowed else ""


def find_num_bytes(limits: Limits) -> int:
    """Memory that one call may take, in bytes; on a CPU of all that its devices share."""
    device = jax.local_devices()[0]
    available = memory.machine_bytes() if device.platform == "cpu" else device_mesh.device_bytes(device)
    return limits.num_bytes or int(MEMORY_SHARE * available)


@functools.cache  # tracing takes a second
def count_operations(model: ImageModel, image_shape: tuple[int, int, int], size: tuple[int, int]) -> int:
    """Operations of completing one picture once; nothing is compiled."""
    return flops.count(*_trace_completion(model, image_shape, size))


def check_rounds(model: ImageModel, image_shape: tuple[int, int, int], rounds: int) -> None:
    """Raises a UserError, before anything is compiled, when a model cannot answer by so many rounds."""
    if rounds > 1 and not _has_scale(model, image_shape):
        raise UserError(
            f"rounds is {rounds} but {type(model).__name__} was trained without a scale, so there is nothing "
            "to draw from: give rounds=1 (--rounds=1) or leave it out."
        )


@functools.cache  # tracing takes a second
def _has_scale(model, image_shape):
    return jax.eval_shape(*_trace_completion(model, image_shape, image_shape[:2])).scale is not None


def _trace_completion(model, image_shape, size):
    """A function that completes one picture of `size` once, and the shapes of its arguments."""
    rngs, c = {"sample": jax.random.key(0)}, image_shape[-1]
    return (
        functools.partial(model.apply, num_samples=1, method="complete", rngs=rngs),
        parameters.abstract_variables(model, image_shape),
        jax.ShapeDtypeStruct((1, *size, c), jnp.float32),
        jax.ShapeDtypeStruct((1, *size, 1), bool),
    )


def list_untrained(
    config: ConfigDict | None, image_shape: tuple[int, int, int], masks: np.ndarray, how: str
) -> list[str]:
    """What a model never saw in its training, in sentences.

    Args:
      config: of its run; None where it is not known.
      masks: bool (B, H, W), True = observed; of a batch the picture farthest from the training counts.
    """
    notes, (h, w), (trained_h, trained_w) = [], masks.shape[1:], image_shape[:2]
    is_larger = max(h, w) > MAX_SIZE_RATIO * max(trained_h, trained_w)
    if how != "trained" and is_larger and not _is_of_crops(config):
        data = f" ({config.data.name})" if config is not None else ""
        notes.append(
            f"The model was trained on pictures of {trained_h}x{trained_w} pixels{data} and never on "
            f"{h}x{w}: bring the picture to that size, or take a model that was trained on crops, such as "
            '"photos".'
        )
    if config is None or "mask" not in config:
        return notes
    shares, least = masks.mean(axis=(1, 2)), np.min(config.mask.fraction)
    observed = float(np.min(shares, initial=1.0, where=shares > 0))
    if config.mask.kind in ("random", "varied", "mixed") and observed < least / 2:
        notes.append(
            f"{format_share(observed)} of the pixels are observed; in the training it was at least "
            f"{format_share(float(least))}."
        )
    if how != "trained" and _is_scattered(config.mask):
        depth = max(pyramid.measure_depth(mask, beyond=MAX_SCATTERED_DEPTH).max() for mask in masks)
        if depth > MAX_SCATTERED_DEPTH:
            notes.append(
                "The model was trained on scattered pixels alone, never on a hole like this one: a missing "
                f"pixel is {depth:.0f} pixels from the nearest observed one."
            )
    return notes


def format_share(share: float) -> str:
    """A share in [0, 1] in percent, with the digits that a small one needs."""
    if 0 < share < 0.001:
        return f"{100 * share:.1g} %"
    if 0.9995 <= share < 1:
        return f"{100 * share:.3f} %"
    return f"{100 * share:.1f} %"


def _is_of_crops(config):
    """Whether a training saw parts of pictures at their own size: those look alike in any picture."""
    data = {} if config is None else config.data
    return bool(data and not data.image_size and (data.random_crop or data.tile_size))


def _is_scattered(config):
    """Whether the contexts of a training are random pixels alone."""
    shares = config.get("shares", {})
    others = sum(share for kind, share in shares.items() if kind != "random")
    return config.kind == "random" or (config.kind == "varied" and others == 0)
