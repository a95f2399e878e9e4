"""Context masks: bool (B, H, W, 1), True = observed, made on the device.

Every fraction is the observed part of the pixels, in [0, 1].
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from ifanp_jax import errors
from ifanp_jax.data import mask_sheets, strokes
from ifanp_jax.errors import UserError

HALVES = ("top", "bottom", "left", "right")
KINDS = (
    "random", *HALVES, "box_center", "box_random", "mixed", "varied", "inpainting", "file", *mask_sheets.KINDS
)  # fmt: skip
MIXED_SHARES = {"random": 0.75, "half": 0.125, "box": 0.125}  # of the images, in expectation
STROKE_RADIUS = (0.025, 0.08)  # bounds of the brush's radius in "varied", in shorter sides
FIRST_FOLD = 100  # of the keys of sheets and lattices: beyond those that `varied` splits its key into
HOLES = ("box", "strokes", "centre", "centre_overlap", "half", "pixels")  # of "inpainting"
HOLE_PIXEL_FRACTIONS = (0.1, 0.5)  # observed, of its "pixels"
CENTRE_OVERLAP = 4 / 256  # of the side, by which Shift-Net's centre square is smaller on each side

Shape = tuple[int, int, int]
Draw = Callable[[jax.Array, Shape], jax.Array]


def random(key: jax.Array, shape: Shape, num_observed: jax.Array | int) -> jax.Array:
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


def count_pixels(fraction: jax.Array | float, height: int, width: int) -> jax.Array:
    """Pixels in a fraction of an image: `round(fraction * H * W)`, int32."""
    return jnp.round(fraction * height * width).astype(jnp.int32)


def half(side: str, shape: Shape) -> jax.Array:
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


def half_random(key: jax.Array, shape: Shape) -> jax.Array:
    """Observes a half of each image, any of the four with the same odds; bool (B, H, W, 1)."""
    halves = jnp.stack([half(side, shape) for side in HALVES])  # (4, B, H, W, 1)
    side = jax.random.randint(key, (shape[0],), 0, len(HALVES))
    return halves[side, jnp.arange(shape[0])]


def box(shape: Shape, sides: jax.Array, start: jax.Array) -> jax.Array:
    """Hides one box of each image and observes the rest.

    Args:
      shape: (B, H, W).
      sides: int32 (B or 1, 2), height and width of each box.
      start: int32 (B or 1, 2), its top and left.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    rows, columns = jnp.arange(h)[None, :], jnp.arange(w)[None, :]
    in_rows = (rows >= start[:, :1]) & (rows < start[:, :1] + sides[:, :1])
    in_columns = (columns >= start[:, 1:]) & (columns < start[:, 1:] + sides[:, 1:])
    hidden = in_rows[:, :, None] & in_columns[:, None, :]
    return jnp.broadcast_to(~hidden[..., None], (b, h, w, 1))


def box_center(shape: Shape, sides: jax.Array) -> jax.Array:
    """Hides a box of `sides`, int32 (B or 1, 2), at the centre; bool (B, H, W, 1)."""
    return box(shape, sides, (jnp.array([shape[1:]]) - sides) // 2)


def box_random(key: jax.Array, shape: Shape, sides: jax.Array) -> jax.Array:
    """Hides a box of `sides`, int32 (B or 1, 2), at a uniformly random place; bool (B, H, W, 1)."""
    most = jnp.array([shape[1:]]) - sides
    return box(shape, sides, jax.random.randint(key, (shape[0], 2), 0, most + 1))


def box_sides(fraction: jax.Array | float, height: int, width: int) -> jax.Array:
    """Sides of a box of the image's proportions that leaves `fraction` observed: int32 (1, 2), rounded."""
    sides = jnp.sqrt(1 - jnp.asarray(fraction, jnp.float32)) * jnp.array([[height, width]])
    return jnp.round(sides).astype(jnp.int32)


def box_with_bands(key: jax.Array, shape: Shape) -> jax.Array:
    """DeepFill's rectangle: a box of half the side, then thin bands at its edges become observed again.

    The bands are a rows at top and bottom and a' columns at left and right, a and a' uniform in 0..H/16 and
    0..W/16; bool (B, H, W, 1).
    """
    b, h, w = shape
    start_key, band_key = jax.random.split(key)
    sides = jnp.array([[h // 2, w // 2]])
    start = jax.random.randint(start_key, (b, 2), 0, jnp.array([[h, w]]) - sides + 1)
    band = jax.random.randint(band_key, (b, 2), 0, jnp.array([[h // 16 + 1, w // 16 + 1]]))
    return box(shape, sides - 2 * band, start + band)


def centre(shape: Shape, *, overlap: int = 0) -> jax.Array:
    """Hides rows and columns H/4..3H/4 - 1, `overlap` pixels less on each side; bool (B, H, W, 1)."""
    _, h, w = shape
    sides = jnp.array([[h // 2 - 2 * overlap, w // 2 - 2 * overlap]])
    return box(shape, sides, jnp.array([[h // 4 + overlap, w // 4 + overlap]]))


def mix(key: jax.Array, candidates: Mapping[str, jax.Array], shares: Mapping[str, float]) -> jax.Array:
    """Each image takes the mask of one kind.

    Args:
      key: PRNG key of the choice.
      candidates: a mask for every image, bool (B, H, W, 1), by kind.
      shares: how many images take each kind, in expectation; they need not add up to 1.

    Returns:
      bool (B, H, W, 1).
    """
    masks = jnp.stack(list(candidates.values()))
    weights = jnp.array([shares[kind] for kind in candidates])
    kind = jax.random.choice(key, len(masks), masks.shape[1:2], p=weights / weights.sum())
    return masks[kind, jnp.arange(masks.shape[1])]


def mixed(key: jax.Array, shape: Shape, fraction: jax.Array | float) -> jax.Array:
    """Random pixels, a random half or a box at a random place, drawn per image with `MIXED_SHARES`.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      fraction: observed part, for random pixels and boxes.

    Returns:
      bool (B, H, W, 1).
    """
    _, h, w = shape
    random_key, box_key, side_key, kind_key = jax.random.split(key, 4)
    candidates = {
        "random": random(random_key, shape, count_pixels(fraction, h, w)),
        "half": half_random(side_key, shape),
        "box": box_random(box_key, shape, box_sides(fraction, h, w)),
    }
    return mix(kind_key, candidates, MIXED_SHARES)


def varied(
    key: jax.Array,
    shape: Shape,
    fractions: tuple[float, float],
    shares: Mapping[str, float],
    *,
    draws: Mapping[str, Draw] = MappingProxyType({}),
) -> jax.Array:
    """Each image has a context of its own kind and size: random pixels, a half, all but a box or but strokes.

    The draws of these four do not depend on the kinds of `draws`, which have keys of their own.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      fractions: bounds of the observed part of random pixels, uniformly at random for each image.
      shares: of the images, in expectation, by kind: "random", "half", "box" (sides of a quarter to three
        quarters of the image's) and "strokes", and by the names of `draws`; they need not add up to 1.
      draws: further kinds, `draw(key, shape)` by name, from `mask_sheets.make_draws`.

    Returns:
      bool (B, H, W, 1).
    """
    b, h, w = shape
    fraction_key, random_key, half_key, side_key, box_key, stroke_key, kind_key = jax.random.split(key, 7)
    fraction = jax.random.uniform(fraction_key, (b,), minval=fractions[0], maxval=fractions[1])
    quarter = jnp.array([[h, w]]) // 4
    sides = jax.random.randint(side_key, (b, 2), quarter, 3 * quarter + 1)
    radius = (STROKE_RADIUS[0] * min(h, w), STROKE_RADIUS[1] * min(h, w))
    candidates = {
        "random": random(random_key, shape, count_pixels(fraction, h, w)),
        "half": half_random(half_key, shape),
        "box": box_random(box_key, shape, sides),
        "strokes": ~strokes.draw_strokes(stroke_key, shape, radius=radius),
    }
    for name, draw in draws.items():
        candidates[name] = draw(jax.random.fold_in(key, FIRST_FOLD + mask_sheets.KINDS.index(name)), shape)
    return mix(kind_key, candidates, shares)


def inpainting(key: jax.Array, shape: Shape, shares: Mapping[str, float]) -> jax.Array:
    """The holes that inpainters are trained with, each image with one of its own.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      shares: of the images, in expectation, by kind of `HOLES`; they need not add up to 1.

    Returns:
      bool (B, H, W, 1).
    """
    kind_key, *keys = jax.random.split(key, 1 + len(HOLES))
    used = [kind for kind, share in shares.items() if share > 0]
    candidates = {kind: _hole(keys[HOLES.index(kind)], shape, kind) for kind in used}
    return mix(kind_key, candidates, shares)


def _hole(key: jax.Array, shape: Shape, kind: str) -> jax.Array:
    b, h, w = shape
    match kind:
        case "box":
            return box_with_bands(key, shape)
        case "strokes":
            return ~strokes.draw_free_form(key, shape)
        case "half":
            return half_random(key, shape)
        case "pixels":
            fraction_key, place_key = jax.random.split(key)
            low, high = HOLE_PIXEL_FRACTIONS
            fraction = jax.random.uniform(fraction_key, (b,), minval=low, maxval=high)
            return random(place_key, shape, count_pixels(fraction, h, w))
        case "centre_overlap":
            return centre(shape, overlap=round(CENTRE_OVERLAP * min(h, w)))
        case _:
            return centre(shape)


def check(config) -> None:
    """Raises a UserError when `config.mask` names an unknown kind or an impossible fraction or share."""
    errors.check_choice("config.mask.kind", config.kind, KINDS)
    fractions = tuple(config.fraction)
    is_number = all(isinstance(fraction, int | float) for fraction in fractions)
    if not is_number or len(fractions) not in (1, 2) or not 0 <= fractions[0] <= fractions[-1] <= 1:
        raise UserError(
            f"config.mask.fraction is {fractions}; give one observed fraction in [0, 1] or a rising pair."
        )
    for name in ("shares", "hole_shares"):
        shares = config[name].to_dict()
        if min(shares.values()) < 0 or sum(shares.values()) <= 0:
            raise UserError(
                f"config.mask.{name} is {shares}; give shares of at least 0, one of them above it."
            )
    if "film" in mask_sheets.list_used(config):
        mask_sheets.check_folder(config.folder)


def make_sampler(config) -> Draw:
    """Returns `sample(key, shape) -> mask` for `config.mask`.

    A range of fractions is drawn once per call, so that all images of a batch share one count.

    Args:
      config: the fields of `config.mask`.

    Raises:
      UserError: for an unknown kind, a fraction outside [0, 1], or a mask file or folder that cannot be used.
    """
    check(config)
    fractions = config.fraction[0], config.fraction[-1]
    fixed = load(config.file) if config.kind == "file" else None
    draws = mask_sheets.make_draws(config)

    def sample(key, shape):
        fraction_key, key = jax.random.split(key)
        fraction = jax.random.uniform(fraction_key, minval=fractions[0], maxval=fractions[1])
        b, h, w = shape
        match config.kind:
            case "random":
                return random(key, shape, count_pixels(fraction, h, w))
            case "mixed":
                return mixed(key, shape, fraction)
            case "varied":
                return varied(key, shape, fractions, config.shares.to_dict(), draws=draws)
            case "inpainting":
                return inpainting(key, shape, config.hole_shares.to_dict())
            case "box_center":
                return box_center(shape, box_sides(fraction, h, w))
            case "box_random":
                return box_random(key, shape, box_sides(fraction, h, w))
            case "file":
                if fixed.shape != (h, w):
                    raise UserError(
                        f"config.mask.file is {fixed.shape[0]}x{fixed.shape[1]} pixels but the images are "
                        f"{h}x{w}; give a mask of the images' size."
                    )
                return jnp.broadcast_to(fixed[None, :, :, None], (b, h, w, 1))
            case side if side in HALVES:
                return half(side, shape)
            case sheet:
                return draws[sheet](key, shape)

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
      picture: uint8 (H, W, C), C in 1..4; alpha does not count.
    """
    from ifanp_jax.data import image_ops

    return image_ops.to_channels(picture, 1)[..., 0] >= 128
