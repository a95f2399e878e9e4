"""Context masks cut from sheets of damage: film dirt of a folder of mask pictures, and lines of text.

Sheets of any sizes lie on the device as one array of bits. Each image of a batch gets a part of a sheet
around a damaged pixel, drawn at random, at one of a few sizes, turned and mirrored.
"""

import dataclasses
import functools
import pathlib
import string
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.errors import UserError

KINDS = ("film", "text", "lattice")
# Of a mask picture's own size; fixed ones cost nothing per step, and a few already give damage of any width.
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)
# A reduced pixel is damaged from this share of its area on. A majority would lose every thin scratch; below a
# tenth a pixel hardly changes.
LEAST_SHARE = 0.1
MAX_PLACES = 2**16  # damaged pixels of one size that a part may be drawn around; evenly taken where more
MAX_PIXELS = 2**30  # of all sheets: positions are int32
FONT_SIZES = (9, 12, 16, 22, 30)  # pixels
TEXT_SIDE = 768  # of a sheet of text, pixels
LINE_SPACING = (1.1, 2.5)  # of the font size
STRIDES = (2, 4)  # of a lattice, pixels, both included


@dataclasses.dataclass(frozen=True, eq=False)
class Sheets:
    """Sheets of damage, level by level; a level holds those of one size.

    Attributes:
      bits: uint8 (ceil(P / 8),), the P pixels of all sheets row by row, 1 = damaged, highest bit first.
      starts: int32 (S,), first pixel of each sheet.
      sides: int32 (S, 2), height and width of each, in pixels.
      places: int32 (D,), damaged pixels, level by level.
      first_places: int32 (L + 1,), where the places of each level begin, and D.
    """

    bits: np.ndarray
    starts: np.ndarray
    sides: np.ndarray
    places: np.ndarray
    first_places: np.ndarray


def pack(levels: Sequence[Sequence[np.ndarray]]) -> Sheets:
    """Lays sheets into one array of bits.

    Args:
      levels: bool (H, W) sheets of each level, True = damaged; every level has a damaged pixel.
    """
    sheets = [sheet for level in levels for sheet in level]
    starts = np.cumsum([0, *(sheet.size for sheet in sheets)])
    places, number = [], 0
    for level in levels:
        found = np.concatenate(
            [starts[number + index] + np.flatnonzero(sheet) for index, sheet in enumerate(level)]
        )
        places.append(found[:: -(-len(found) // MAX_PLACES)])
        number += len(level)
    return Sheets(
        bits=np.packbits(np.concatenate([sheet.ravel() for sheet in sheets])),
        starts=starts[:-1].astype(np.int32),
        sides=np.array([sheet.shape for sheet in sheets], np.int32),
        places=np.concatenate(places).astype(np.int32),
        first_places=np.cumsum([0, *map(len, places)]).astype(np.int32),
    )


def draw(key: jax.Array, shape: tuple[int, int, int], sheets: Sheets) -> jax.Array:
    """Observes all but a part of a sheet, each image another, with a damaged pixel in it.

    The level is drawn uniformly, then one of its damaged pixels, where in the image that one comes to lie,
    and one of the eight symmetries of a square. Beyond the edge of a sheet nothing is damaged.

    Args:
      key: PRNG key.
      shape: (B, H, W).
      sheets: of damage.

    Returns:
      bool (B, H, W, 1), True = observed.
    """
    b, h, w = shape
    level_key, place_key, shift_key, turn_key = jax.random.split(key, 4)
    bits, starts, sides, places, first_places = (
        jnp.asarray(getattr(sheets, field.name)) for field in dataclasses.fields(sheets)
    )
    level = jax.random.randint(level_key, (b,), 0, len(first_places) - 1)
    place = places[jax.random.randint(place_key, (b,), first_places[level], first_places[level + 1])]
    sheet = jnp.searchsorted(starts, place, side="right") - 1
    start, height, width = (x[sheet][:, None, None] for x in (starts, sides[:, 0], sides[:, 1]))
    row, column = jnp.divmod(place[:, None, None] - start, width)
    shift = jax.random.randint(shift_key, (b, 2), 0, jnp.array([[h, w]]))[:, :, None, None]
    down = jnp.broadcast_to(jnp.arange(h)[None, :, None] - shift[:, 0], shape)
    right = jnp.broadcast_to(jnp.arange(w)[None, None, :] - shift[:, 1], shape)
    is_turned, is_down, is_right = jax.random.bernoulli(turn_key, 0.5, (3, b, 1, 1))
    down, right = jnp.where(is_turned, right, down), jnp.where(is_turned, down, right)
    row = row + jnp.where(is_down, down, -down)
    column = column + jnp.where(is_right, right, -right)
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    position = jnp.where(is_inside, start + row * width + column, 0)
    bit = (bits[position >> 3] >> (7 - (position & 7)).astype(jnp.uint8)) & 1
    return ~(is_inside & (bit == 1))[..., None]


def lattice(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Observes every second, third or fourth pixel of both axes, as for a picture to be enlarged.

    Args:
      key: PRNG key.
      shape: (B, H, W).

    Returns:
      bool (B, H, W, 1), the stride and where it begins uniformly at random for each image.
    """
    b, h, w = shape
    stride_key, phase_key = jax.random.split(key)
    stride = jax.random.randint(stride_key, (b, 1), STRIDES[0], STRIDES[1] + 1)
    phase = jax.random.randint(phase_key, (b, 2), 0, stride)
    rows = (jnp.arange(h)[None, :] + phase[:, :1]) % stride == 0
    columns = (jnp.arange(w)[None, :] + phase[:, 1:]) % stride == 0
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def read_film(folder: str) -> Sheets:
    """Reads a folder of mask pictures, each at the sizes of `SCALES`.

    Args:
      folder: with pictures of any sizes, luma of at least 128 = intact.

    Raises:
      UserError: there is no such folder, no picture in it, one that cannot be read or shows no damage, or too
        many pixels.
    """
    from ifanp_jax.data import image_ops

    check_folder(folder)
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise UserError(
            f"config.mask.folder is {folder!r} but must be a folder of mask pictures, white = intact: name "
            "one that exists."
        )
    names = image_ops.list_pictures(root)
    if not names:
        raise UserError(
            f"config.mask.folder is {folder!r}, which holds no picture (allowed are "
            f"{', '.join(image_ops.SUFFIXES)}): name a folder of mask pictures."
        )
    sheets, num_pixels = [], 0
    for name in names:
        damaged = image_ops.to_channels(image_ops.read_picture(root / name), 1)[..., 0] < 128
        if damaged.all() or not damaged.any():
            raise UserError(
                f"The mask picture {root / name} is {'black' if damaged.all() else 'white'} all over, but "
                "must show damage in black on white: repair it or take it out of the folder."
            )
        num_pixels += sum(round(scale**2 * damaged.size) for scale in SCALES)
        if num_pixels > MAX_PIXELS:
            raise UserError(
                f"The mask pictures below {root} have more than {MAX_PIXELS} pixels in all sizes together: "
                "take some of them out of the folder, or reduce them."
            )
        sheets.append(damaged)
    return pack([[reduce(sheet, scale) for sheet in sheets] for scale in SCALES])


def check_folder(folder: str) -> None:
    """Raises a UserError where no folder is named."""
    if not isinstance(folder, str) or not folder:
        raise UserError(
            f"config.mask.folder is {folder!r} but the contexts of 'film' are cut from mask pictures: name "
            "the folder that holds them, white = intact, or set config.mask.shares.film=0."
        )


def reduce(damaged: np.ndarray, scale: float) -> np.ndarray:
    """A sheet at another size, in which a pixel is damaged where `LEAST_SHARE` of its area is.

    Args:
      damaged: bool (H, W).
      scale: in (0, 1].

    Returns:
      bool (round(scale * H), round(scale * W)), at least one pixel each.
    """
    from ifanp_jax.data import image_ops

    if scale == 1:
        return damaged
    h, w = (max(1, round(scale * side)) for side in damaged.shape)
    share = image_ops.resize_area(damaged[..., None] * np.uint8(255), h, w)[..., 0]
    return share >= round(LEAST_SHARE * 255)


@functools.cache
def write_text() -> Sheets:
    """Sheets of lines of text, one for each of `FONT_SIZES`, in the font that comes with Pillow.

    The letters are the same in every process; another version of Pillow may draw them a little differently.
    """
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(0)
    letters = list(string.ascii_letters + string.digits)
    levels = []
    for size in FONT_SIZES:
        picture = Image.new("L", (TEXT_SIDE, TEXT_SIDE))
        font, top = ImageFont.load_default(size=size), 0.0
        while top < TEXT_SIDE:
            words = ["".join(rng.choice(letters, rng.integers(1, 10))) for _ in range(TEXT_SIDE // size)]
            left = -size * rng.random()
            ImageDraw.Draw(picture).text((left, top), " ".join(words), fill=255, font=font)
            top += size * rng.uniform(*LINE_SPACING)
        levels.append([np.asarray(picture) >= round(LEAST_SHARE * 255)])
    return pack(levels)


def make_draws(config) -> dict[str, Callable[[jax.Array, tuple[int, int, int]], jax.Array]]:
    """The kinds that `config.mask` asks for: `draw(key, shape) -> mask` by name, in the order of `KINDS`.

    Args:
      config: the fields of `config.mask`.

    Raises:
      UserError: see `read_film`.
    """
    draws = {}
    for kind in list_used(config):
        match kind:
            case "film":
                draws[kind] = functools.partial(draw, sheets=read_film(config.folder))
            case "text":
                draws[kind] = functools.partial(draw, sheets=write_text())
            case _:
                draws[kind] = lattice
    return draws


def list_used(config) -> list[str]:
    """The kinds of `KINDS` that `config.mask` asks for, alone or with a share of "varied"."""
    if config.kind != "varied":
        return [kind for kind in KINDS if kind == config.kind]
    return [kind for kind in KINDS if config.shares.get(kind, 0) > 0]
