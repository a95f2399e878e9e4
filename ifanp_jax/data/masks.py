"""Context masks: bool (B, H, W, 1), True = observed, made on the device.

Every fraction is the observed share of the pixels, in [0, 1].
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from ifanp_jax import errors
from ifanp_jax.data import inpainting_masks, mask_sheets, strokes
from ifanp_jax.errors import UserError

HALVES = ("top", "bottom", "left", "right")
KINDS = (
    "random", *HALVES, "box_center", "box_random", "mixed", "varied", "inpainting", "file", *mask_sheets.KINDS
)  # fmt: skip
FIRST_FOLD = 100  # of the keys of sheets and lattices: beyond those that `varied` splits its key into
STROKE_RADIUS = (0.025, 0.08)  # bounds of the brush's radius in "varied", as a share of the shorter side
HOLES = ("box", "strokes", "centre", "centre_overlap", "half", "pixels")  # of "inpainting"
HOLE_PIXEL_FRACTIONS = (0.1, 0.5)  # observed, of its "pixels"
MIXED_SHARES = {"random": 0.75, "half": 0.125, "box": 0.125}  # of the images, in expectation


def random(key: jax.Array, shape: tuple[int, int, int], num_observed: jax.Array | int) -> jax.Array:
    """Observes exactly `num_observed` pixels of each image, uniformly at random.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      num_observed: pixels in [0, H * W], one number or (B,); may be traced.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    num_pixels = h * w
    # The low bits hold the position, so no two scores tie and the count is exact after one sort.
    index_bits = max(1, (num_pixels - 1).bit_length())
    position = jnp.arange(num_pixels, dtype=jnp.uint32)[None]
    scores = (jax.random.bits(key, (b, num_pixels)) >> index_bits << index_bits) | position
    count = jnp.broadcast_to(num_observed, (b,))[:, None]
    threshold = jnp.take_along_axis(jnp.sort(scores, axis=1), jnp.maximum(count - 1, 0), axis=1)
    return ((scores <= threshold) & (count > 0)).reshape(b, h, w, 1)


def half(side: str, shape: tuple[int, int, int]) -> jax.Array:
    """Observes the `top`, `bottom`, `left` or `right` half; bool (B, H, W, 1)."""
    b, h, w = shape
    rows, columns = jnp.arange(h)[:, None], jnp.arange(w)[None, :]
    observed = {
        "top": rows < h // 2,
        "bottom": rows >= h - h // 2,
        "left": columns < w // 2,
        "right": columns >= w - w // 2,
    }[side]
    return jnp.broadcast_to(observed[None, :, :, None], (b, h, w, 1))


def box_center(shape: tuple[int, int, int], fraction: jax.Array | float) -> jax.Array:
    """Hides one box of the image's proportions at the centre and observes the rest.

    Args:
      shape: (B, H, W).
      fraction: observed share; the box's sides are `round(sqrt(1 - fraction) * side)` pixels.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    sides = _box_sides(fraction, h, w)
    sides = jnp.broadcast_to(sides[None], (b, 2))
    return inpainting_masks.outside_box(shape, (jnp.array([[h, w]]) - sides) // 2, sides)


def box_random(key: jax.Array, shape: tuple[int, int, int], fraction: jax.Array | float) -> jax.Array:
    """Hides the box of `box_center` at a uniformly random place of each image.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      fraction: observed share, as in `box_center`.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    return _outside_random_box(key, shape, jnp.broadcast_to(_box_sides(fraction, h, w)[None], (b, 2)))


def _box_sides(fraction: jax.Array | float, height: int, width: int) -> jax.Array:
    side_share = jnp.sqrt(1 - jnp.asarray(fraction, jnp.float32))
    return jnp.round(side_share * jnp.array([height, width])).astype(jnp.int32)


def _outside_random_box(key: jax.Array, shape: tuple[int, int, int], sides: jax.Array) -> jax.Array:
    b, h, w = shape
    return inpainting_masks.outside_box(
        shape, jax.random.randint(key, (b, 2), 0, jnp.array([[h, w]]) - sides + 1), sides
    )


def mixed(key: jax.Array, shape: tuple[int, int, int], fraction: jax.Array | float) -> jax.Array:
    """Random pixels, a random half or a box at a random place, drawn per image with `MIXED_SHARES`.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      fraction: observed share for random pixels and boxes.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    random_key, box_key, side_key, kind_key = jax.random.split(key, 4)
    halves = jnp.stack([half(side, shape) for side in HALVES])  # (4, B, H, W, 1)
    side = jax.random.randint(side_key, (b,), 0, len(HALVES))
    candidates = jnp.stack(
        [
            random(random_key, shape, count_pixels(fraction, h, w)),
            halves[side, jnp.arange(b)],
            box_random(box_key, shape, fraction),
        ]
    )
    kind = jax.random.choice(kind_key, len(MIXED_SHARES), (b,), p=jnp.array(list(MIXED_SHARES.values())))
    return candidates[kind, jnp.arange(b)]


def varied(
    key: jax.Array,
    shape: tuple[int, int, int],
    fractions: tuple[float, float],
    shares: dict[str, float],
    *,
    draws: Mapping[str, Callable] = MappingProxyType({}),
) -> jax.Array:
    """Each image has a context of its own kind and size: random pixels, a half, all but a box or but strokes.

    The draws of these four do not depend on the kinds of `draws`, which have keys of their own.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      fractions: bounds of the observed share of random pixels, uniformly at random for each image.
      shares: of the images, in expectation, by kind: "random", "half", "box" (sides of a quarter to three
        quarters of the image's) and "strokes", and by the names of `draws`; they need not add up to 1.
      draws: further kinds, `draw(key, shape)` by name, from `mask_sheets.make_draws`.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    names = ("fraction", "random", "half", "side", "box", "strokes", "kind")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    fraction = jax.random.uniform(keys["fraction"], (b,), minval=fractions[0], maxval=fractions[1])
    halves = jnp.stack([half(side, shape) for side in HALVES])  # (4, B, H, W, 1)
    low = jnp.array([h, w]) // 4
    sides = jax.random.randint(keys["side"], (b, 2), low[None], 3 * low[None] + 1)
    radius = (STROKE_RADIUS[0] * min(h, w), STROKE_RADIUS[1] * min(h, w))
    candidates = {
        "random": random(keys["random"], shape, count_pixels(fraction, h, w)),
        "half": halves[jax.random.randint(keys["half"], (b,), 0, len(HALVES)), jnp.arange(b)],
        "box": _outside_random_box(keys["box"], shape, sides),
        "strokes": ~strokes.draw_strokes(keys["strokes"], shape, radius=radius),
    }
    for name, draw in draws.items():
        candidates[name] = draw(jax.random.fold_in(key, FIRST_FOLD + mask_sheets.KINDS.index(name)), shape)
    weights = jnp.array([shares[kind] for kind in candidates])
    kind = jax.random.choice(keys["kind"], len(candidates), (b,), p=weights / weights.sum())
    return jnp.stack(list(candidates.values()))[kind, jnp.arange(b)]


def inpainting(key: jax.Array, shape: tuple[int, int, int], shares: dict[str, float]) -> jax.Array:
    """The holes that inpainters are trained with, each image with one of its own.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      shares: of the images, in expectation, by kind of `HOLES`; they need not add up to 1.

    Returns:
      bool (B, H, W, 1).
    """
    kind_key, *keys = jax.random.split(key, 1 + len(HOLES))
    shares = {kind: share for kind, share in shares.items() if share > 0}
    drawn = jnp.stack([_hole(keys[HOLES.index(kind)], shape, kind) for kind in shares])
    weights = jnp.array(list(shares.values()))
    kind = jax.random.choice(kind_key, len(drawn), (shape[0],), p=weights / weights.sum())
    return drawn[kind, jnp.arange(shape[0])]


def _hole(key: jax.Array, shape: tuple[int, int, int], kind: str) -> jax.Array:
    b, h, w = shape
    match kind:
        case "box":
            return inpainting_masks.box(key, shape)
        case "strokes":
            return ~strokes.draw_free_form(key, shape)
        case "half":
            side = jax.random.randint(key, (b,), 0, len(HALVES))
            return jnp.stack([half(side, shape) for side in HALVES])[side, jnp.arange(b)]
        case "pixels":
            fraction_key, place_key = jax.random.split(key)
            low, high = HOLE_PIXEL_FRACTIONS
            fraction = jax.random.uniform(fraction_key, (b,), minval=low, maxval=high)
            return random(place_key, shape, count_pixels(fraction, h, w))
        case "centre_overlap":
            return inpainting_masks.centre(shape, overlap=round(inpainting_masks.CENTRE_OVERLAP * min(h, w)))
        case _:
            return inpainting_masks.centre(shape)


def count_pixels(fraction: jax.Array | float, height: int, width: int) -> jax.Array:
    """Pixels in a share of an image: `round(fraction * H * W)`, int32."""
    return jnp.round(fraction * height * width).astype(jnp.int32)


def check(config) -> None:
    """Raises a UserError when `config.mask` names an unknown kind or an impossible share."""
    errors.check_choice("config.mask.kind", config.kind, KINDS)
    fractions = tuple(config.fraction)
    is_number = all(isinstance(fraction, int | float) for fraction in fractions)
    if not is_number or len(fractions) not in (1, 2) or not 0 <= fractions[0] <= fractions[-1] <= 1:
        raise UserError(
            f"config.mask.fraction is {fractions}; give one observed share in [0, 1] or a rising pair."
        )
    for name in ("shares", "hole_shares"):
        shares = config[name].to_dict()
        if min(shares.values()) < 0 or sum(shares.values()) <= 0:
            raise UserError(
                f"config.mask.{name} is {shares}; give shares of at least 0, one of them above it."
            )
    if "film" in mask_sheets.list_used(config):
        mask_sheets.check_folder(config.folder)


def make_sampler(config) -> Callable[[jax.Array, tuple[int, int, int]], jax.Array]:
    """Returns `sample(key, shape) -> mask` for `config.mask`.

    A range of fractions is drawn once per call, so that all images of a batch share one count.

    Args:
      config: the fields of `config.mask`.

    Raises:
      UserError: for an unknown kind, a fraction outside [0, 1], or a mask file or folder that cannot be used.
    """
    check(config)
    fractions = tuple(config.fraction)
    fixed = load(config.file) if config.kind == "file" else None
    draws = mask_sheets.make_draws(config)

    def sample(key, shape):
        fraction_key, place_key = jax.random.split(key)
        fraction = jax.random.uniform(fraction_key, minval=fractions[0], maxval=fractions[-1])
        b, h, w = shape
        match config.kind:
            case "random":
                return random(place_key, shape, count_pixels(fraction, h, w))
            case "mixed":
                return mixed(place_key, shape, fraction)
            case "varied":
                shares = config.shares.to_dict()
                return varied(place_key, shape, (fractions[0], fractions[-1]), shares, draws=draws)
            case "film" | "text" | "lattice":
                return draws[config.kind](place_key, shape)
            case "inpainting":
                return inpainting(place_key, shape, config.hole_shares.to_dict())
            case "box_center":
                return box_center(shape, fraction)
            case "box_random":
                return box_random(place_key, shape, fraction)
            case "file":
                if fixed.shape != (h, w):
                    raise UserError(
                        f"config.mask.file is {fixed.shape[0]}x{fixed.shape[1]} pixels but the images are "
                        f"{h}x{w}; give a mask of the images' size."
                    )
                return jnp.broadcast_to(fixed[None, :, :, None], (b, h, w, 1))
            case side:
                return half(side, shape)

    return sample


def load(path: str):
    """Reads a mask file: bool (H, W) NumPy array, True = observed.

    Args:
      path: a .npy file (bool, or numbers where non-zero = observed) or a picture (luma of at least 128 =
        observed).

    Raises:
      UserError: when the file is missing, pickled or not of rank 2.
    """
    import numpy as np

    from ifanp_jax import files
    from ifanp_jax.data import image_ops

    if not path.lower().endswith(".npy"):
        return from_picture(image_ops.read_picture(path))
    try:
        array = np.load(path, allow_pickle=False)
    except files.DAMAGED as error:
        raise UserError(
            f"mask {path} cannot be read ({error}); give a picture or a .npy array (H, W)."
        ) from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"mask {path} is an archive of arrays; give a picture or one .npy array (H, W).")
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise UserError(
            f"mask {path} holds {array.dtype} of shape {array.shape}; give numbers or booleans (H, W)."
        )
    return array != 0


def from_picture(picture):
    """The mask that a picture shows: bool (H, W) NumPy array, True where its luma is at least 128.

    Args:
      picture: uint8 (H, W, C), C in 1..4; alpha is not used.
    """
    from ifanp_jax.data import image_ops

    return image_ops.to_channels(picture, 1)[..., 0] >= 128
