"""One picture from disk to uint8 pixels: read, crop, resize, change the number of channels."""

import dataclasses
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np

from ifanp_jax.errors import UserError, first_line

MAX_PIXELS = 64_000_000
OPAQUE = 128  # least alpha of a pixel that counts as seen, of 255
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")  # of picture files
# By content, whatever the name says. Pillow knows more, and hands PostScript to another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

# Pillow's modes of grey pictures with 16 bits.
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = {"PA": "RGBA", "RGBa": "RGBA", "RGBA": "RGBA", "La": "LA", "LA": "LA"}


class TooLargeError(UserError):
    """A picture, or what is asked of it, has more pixels than are allowed."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every picture of a data source is cropped, resized and coloured.

    Attributes:
      image_size: side of the square result in pixels; 0 = the size after the crop.
      channels: 1 = grey, 3 = RGB, 0 = as the picture is, without alpha.
      crop_size: side of the central crop in pixels; 0 = largest central square.
      crop_box: or a fixed crop (top, left, height, width) in pixels; () = central.
    """

    image_size: int = 0
    channels: int = 0
    crop_size: int = 0
    crop_box: tuple[int, ...] = ()

    @property
    def has_geometry(self) -> bool:
        """Whether a size or a crop is asked for."""
        return bool(self.image_size or self.crop_size or self.crop_box)


def make_recipe(config_data) -> Recipe:
    """Reads the recipe from `config.data`.

    Raises:
      UserError: a value is out of its range.
    """
    recipe = Recipe(
        image_size=int(config_data.image_size),
        channels=int(config_data.channels),
        crop_size=int(config_data.crop_size),
        crop_box=tuple(config_data.crop_box),
    )
    for name in ("image_size", "crop_size"):
        if getattr(recipe, name) < 0:
            raise UserError(f"data.{name} is {getattr(recipe, name)} but must be 0 or a number of pixels.")
    if recipe.channels not in (0, 1, 3):
        raise UserError(
            f"data.channels is {recipe.channels} but must be 1 (grey), 3 (RGB) or 0 (as they are)."
        )
    if recipe.crop_box and recipe.crop_size:
        raise UserError(
            f"data.crop_size is {recipe.crop_size} and data.crop_box is {recipe.crop_box}: set only one of "
            "them."
        )
    if recipe.crop_box and not _is_box(recipe.crop_box):
        raise UserError(
            f"data.crop_box is {recipe.crop_box} but must be (top, left, height, width) in pixels, with top "
            "and left at least 0 and height and width at least 1."
        )
    return recipe


def _is_box(box) -> bool:
    return len(box) == 4 and all(isinstance(x, int) for x in box) and min(box[:2]) >= 0 and min(box[2:]) >= 1


def list_pictures(root: str | pathlib.Path) -> list[str]:
    """Lists the pictures below a folder, by suffix in any case; names that start with a dot are left out.

    Args:
      root: the folder.

    Returns:
      Sorted paths relative to it, with "/" on every system.
    """
    found = []
    for directory, folders, files in os.walk(root):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                found.append((pathlib.Path(directory) / file).relative_to(root).as_posix())
    return sorted(found)


def read_picture(path: str | pathlib.Path) -> np.ndarray:
    """Reads a picture in any format that Pillow knows; of several frames the first.

    The EXIF orientation is applied. Palette pictures become RGB, CMYK and other colour spaces become RGB,
    transparency is kept as a last channel, 1-bit becomes 0 and 255, and 16-bit grey is divided by 257 and
    rounded. 32-bit integer and float pictures have no agreed range and are refused.

    Args:
      path: the file.

    Returns:
      uint8 (H, W, C) in [0, 255]; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises:
      UserError: the file is missing, truncated, not a picture, larger than MAX_PIXELS, or of a refused kind.
    """
    return read_with(path, lambda picture: to_array(turn(picture), str(path)))


def read_with(path: str | pathlib.Path, convert: Callable):
    """Opens a picture as `read_picture` does, with its checks and messages, and returns what `convert` makes.

    Args:
      path: the file.
      convert: takes the opened `PIL.Image.Image`, not yet decoded and not turned by its EXIF orientation.

    Raises:
      UserError: as in `read_picture`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"There is no picture file {path}: check the path.")
    return _decode(path, str(path), MAX_PIXELS, convert)


def decode_picture(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes the bytes of a picture file, like `read_picture`.

    Args:
      data: the content of a PNG, JPEG, ... file.
      name: what error messages call it.
      max_pixels: of the largest picture allowed; a larger one is told by its header.

    Returns:
      uint8 (H, W, C) in [0, 255], C in 1..4.

    Raises:
      UserError: as in `read_picture`; a TooLargeError for a picture of too many pixels.
    """
    return decode_with(data, lambda picture: to_array(turn(picture), name), name=name, max_pixels=max_pixels)


def decode_with(data: bytes, convert: Callable, *, name: str, max_pixels: int):
    """As `read_with`, for the bytes of a picture file.

    Args:
      data: the content of the file.
      convert: as of `read_with`.
      name: what error messages call it.
      max_pixels: of the largest picture allowed.

    Raises:
      UserError: as in `decode_picture`.
    """
    return _decode(io.BytesIO(data), name, min(max_pixels, MAX_PIXELS), convert)


def turn(picture):
    """Applies the EXIF orientation of a `PIL.Image.Image`."""
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _decode(source, name: str, max_pixels: int, convert: Callable):
    import PIL
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    too_large = f"{name} has more than {max_pixels:,} pixels, the largest picture allowed: make it smaller."
    try:
        with Image.open(source, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise TooLargeError(too_large)
            _check_planes(picture, name)
            return convert(picture)
    except UserError:
        raise
    except bombs as error:
        raise TooLargeError(too_large) from error
    except PIL.UnidentifiedImageError as error:
        raise UserError(
            f"{name} is not a picture of the formats {', '.join(FORMATS)}: convert it to PNG or JPEG."
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UserError(
            f"{name} cannot be read ({first_line(error)}): replace or repair the file."
        ) from error


def _check_planes(picture, name):
    """Refuses what Pillow would read wrongly: a TIFF whose values of 16 bits lie in one plane per colour."""
    bits = getattr(picture, "tag_v2", {}).get(258, ())  # BitsPerSample
    if picture.mode in ("RGB", "RGBA") and 16 in tuple(bits) and ";16" not in str(picture.tile):
        raise UserError(f"{name} is a TIFF of 16 bits with a plane per colour: save it with one for all.")


def has_sixteen_bits(picture) -> bool:
    """Whether a `PIL.Image.Image` that is not decoded yet has 16 bits, which Pillow gives for grey alone."""
    return picture.mode in SIXTEEN_BIT or ";16" in str(picture.tile)


def to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Rounds uint16 in [0, 65535] to uint8 in [0, 255]; uint8 stays as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_array(picture, name: str) -> np.ndarray:
    """The pixels of a picture as `read_picture` returns them.

    Args:
      picture: `PIL.Image.Image`.
      name: what error messages call it.

    Raises:
      UserError: for a picture of a refused kind.
    """
    mode = picture.mode
    if mode in SIXTEEN_BIT:
        return to_eight_bits(np.asarray(picture).astype(np.uint16))[..., None]
    if mode in ("I", "F"):
        kind = "32-bit integer" if mode == "I" else "float"
        raise UserError(f"{name} is a {kind} picture, whose range is not defined: save it with 8 or 16 bits.")
    if mode in _WITH_ALPHA:
        target = _WITH_ALPHA[mode]
    elif "transparency" in picture.info and mode in ("L", "RGB", "P"):
        target = "LA" if mode == "L" else "RGBA"
    else:
        target = "L" if mode in ("1", "L") else "RGB"
    values = np.asarray(picture if mode == target else picture.convert(target), np.uint8)
    return values[..., None] if values.ndim == 2 else values


def crop(image: np.ndarray, *, size: int = 0, box: tuple[int, ...] = ()) -> np.ndarray:
    """Cuts out the part of the image that is used.

    An odd margin leaves its extra row or column below or to the right.

    Args:
      image: any dtype, (..., H, W, C).
      size: side of the central square in pixels; 0 = the largest square.
      box: or (top, left, height, width) in pixels, which then decides alone.

    Returns:
      A view (..., height, width, C).

    Raises:
      UserError: the crop does not fit into the image.
    """
    height, width = image.shape[-3:-1]
    if box:
        top, left, crop_height, crop_width = box
        what = f"The crop (top, left, height, width) = {tuple(box)}"
    else:
        crop_height = crop_width = size or min(height, width)
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        what = f"The {size}x{size} central crop"
    if min(top, left) < 0 or top + crop_height > height or left + crop_width > width:
        raise UserError(
            f"{what} does not fit into an image of {height}x{width} pixels: choose a smaller crop or leave "
            "the image out."
        )
    return image[..., top : top + crop_height, left : left + crop_width, :]


def resize_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes with Pillow: an axis that shrinks by its BOX filter (area mean), one that grows by BILINEAR.

    Every channel is resized on its own, so a last channel of alpha does not weight the others.

    Args:
      image: uint8 or float, (..., H, W, C).
      height: rows of the result, at least 1.
      width: columns of the result, at least 1.

    Returns:
      (..., height, width, C): uint8, rounded, from uint8; else float32 in the input's range.

    Raises:
      UserError: the requested size is not positive.
    """
    if height < 1 or width < 1:
        raise UserError(f"The requested size is {height}x{width} but both sides must be at least 1 pixel.")
    image = image if image.dtype == np.uint8 else image.astype(np.float32)
    old_height, old_width = image.shape[-3:-1]
    if (old_height, old_width) == (height, width):
        return image
    planes = np.moveaxis(image, -1, -3)  # (..., C, H, W)
    flat = np.ascontiguousarray(planes).reshape(-1, old_height, old_width)
    resized = np.empty((len(flat), height, width), image.dtype)
    for index, plane in enumerate(flat):
        resized[index] = _resize_plane(plane, height, width)
    return np.moveaxis(resized.reshape(*planes.shape[:-2], height, width), -3, -1)


def _resize_plane(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes uint8 or float32 (H, W); Pillow does the columns first, so a mixed case keeps that order."""
    from PIL import Image

    box, bilinear = Image.Resampling.BOX, Image.Resampling.BILINEAR
    old_height, old_width = plane.shape
    rows = box if height <= old_height else bilinear
    columns = box if width <= old_width else bilinear
    picture = Image.fromarray(plane)  # mode "L" or "F"
    if rows == columns:
        return np.asarray(picture.resize((width, height), rows))
    return np.asarray(picture.resize((width, old_height), columns).resize((width, height), rows))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Changes the number of channels and drops alpha.

    Grey is ITU-R BT.601 luma, (299 R + 587 G + 114 B) / 1000, rounded half up; RGB from grey repeats it.

    Args:
      image: uint8 or uint16 (..., H, W, C), C = 1, 2 (grey and alpha), 3 or 4 (RGB and alpha).
      channels: 1 = grey, 3 = RGB, 0 = what the image has, without alpha.

    Returns:
      (..., H, W, 1 or 3), of the image's dtype.

    Raises:
      UserError: `channels` or the image's number of channels is not one of these.
    """
    if channels not in (0, 1, 3):
        raise UserError(f"{channels} channels were asked for, but only 1 (grey), 3 (RGB) or 0 (as is) exist.")
    if image.shape[-1] not in (1, 2, 3, 4):
        raise UserError(
            f"The image has {image.shape[-1]} channels but must have 1 to 4: select some of them."
        )
    image = image[..., : 3 if image.shape[-1] >= 3 else 1]
    if channels in (0, image.shape[-1]):
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=-1)
    luma = np.matmul(image.astype(np.uint32), np.array([299, 587, 114], np.uint32))
    return ((luma + 500) // 1000).astype(image.dtype)[..., None]


def apply_recipe(image: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Crops, resizes and colours an image or a batch of equal size.

    Args:
      image: uint8 (..., H, W, C), C in 1..4.
      recipe: what to do.

    Returns:
      uint8 (..., S, S, 1 or 3), S = `recipe.image_size` or the size of the crop.

    Raises:
      UserError: the crop does not fit.
    """
    image = crop(image, size=recipe.crop_size, box=recipe.crop_box)
    image = to_channels(image, recipe.channels)
    if recipe.image_size:
        image = resize_area(image, recipe.image_size, recipe.image_size)
    return image


def apply_recipe_in_chunks(images: np.ndarray, recipe: Recipe, *, chunk_size: int = 1024) -> np.ndarray:
    """Applies a recipe to a large array without a float copy of all of it.

    Args:
      images: uint8 (N, H, W, C), C in 1..4, N at least 1.
      recipe: what to do; without a size or a crop only the channels change.
      chunk_size: images at a time.

    Returns:
      uint8 (N, S, S, 1 or 3); the input itself where nothing changes.

    Raises:
      UserError: the crop does not fit.
    """
    if not recipe.has_geometry:
        return to_channels(images, recipe.channels)
    starts = range(0, len(images), chunk_size)
    return np.concatenate([apply_recipe(images[start : start + chunk_size], recipe) for start in starts])
