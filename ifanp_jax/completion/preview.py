"""From a completion to pictures: those that are written, and one sheet that shows all of them."""

import numpy as np

from ifanp_jax.completion.picture_file import Original
from ifanp_jax.data import image_ops
from ifanp_jax.inference import tiles
from ifanp_jax.inference.result import CompletionResult

# Standard deviation drawn white, in units of the picture's values from 0 to 1: a grey value of v is one of
# v / 4 grey levels of 8 bits. Uniform values, of which nothing is known, have one of 0.29.
WHITE_UNCERTAINTY = 0.25

MISSING = (214, 93, 177)  # the colour of what is missing, one that photographs hardly have
PAPER, INK = (255, 255, 255), (32, 32, 32)
PANEL, SMALLEST = 360, 240  # longest sides of a panel: of a large picture, and of a small one after enlarging
GAP, LABEL, BAR, SCALE_WIDTH = 12, 20, 14, 560  # pixels
COLUMNS, MAX_ANSWERS = 4, 4
MARGIN = 0.5  # around the missing pixels, of their extent, where they fill a small part of the picture
SMALL_PART = 0.5  # of the picture's sides


def to_pictures(result: CompletionResult, original: Original, mask: np.ndarray) -> dict[str, np.ndarray]:
    """The answers as they are written: `completed`, `completed_2`, `mean`, `sample_1`, `uncertainty`, ...

    Args:
      mask: bool (H, W), True = observed; there the original's pixels are kept.

    Returns:
      Arrays like the original's by name; uint8 (H, W, 1) for `uncertainty`, if the result has one.
    """
    mean = original.fill(result.mean, mask)
    is_mean = result.completed is result.mean
    drawn = {"completed": mean if is_mean else original.fill(result.completed, mask)}
    for number, other in enumerate(result.alternatives, start=2):
        drawn[f"completed_{number}"] = original.fill(other, mask)
    drawn["mean"] = mean
    for number, answer in enumerate(result.samples, start=1):
        is_equal = np.shares_memory(answer, result.mean)  # of one round without a latent variable
        drawn[f"sample_{number}"] = mean if is_equal else original.fill(answer, mask)
    if result.uncertainty is None:
        return drawn
    deviation = np.sqrt(np.square(result.uncertainty).mean(axis=-1, keepdims=True))
    drawn["uncertainty"] = to_uint8(np.minimum(deviation / WHITE_UNCERTAINTY, 1))
    return drawn


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounds float values in [0, 1] to 0, ..., 255."""
    return np.floor(values * 255 + 0.5).astype(np.uint8)


def draw(drawn: dict[str, np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Draws the sheet: the context, the answers, the uncertainty with its scale.

    Args:
      drawn: pictures by label, uint8 or uint16 (H, W, 1 to 4); of "uncertainty" uint8 (H, W, 1), white =
        WHITE_UNCERTAINTY. Answers that are equal to the mean, and those beyond MAX_ANSWERS, are left out.
      mask: bool (H, W), True = observed.

    Returns:
      uint8 (H', W', 3).
    """
    from PIL import Image, ImageDraw

    rows, columns = _find_part(mask)
    chosen = _choose(drawn, mask).items()
    panels = {label: _to_panel(_to_rgb(values[rows, columns])) for label, values in chosen}
    # Measure the sheet.
    height, width = next(iter(panels.values())).shape[:2]
    rows_needed = -(-len(panels) // COLUMNS)
    across = -(-len(panels) // rows_needed)
    bottom = GAP + -(-len(panels) // across) * (LABEL + height + GAP)
    size = (max(GAP + across * (width + GAP), SCALE_WIDTH), bottom + BAR + LABEL + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    # Draw the panels, and what explains them below.
    for number, (label, panel) in enumerate(panels.items()):
        x = GAP + number % across * (width + GAP)
        y = GAP + number // across * (LABEL + height + GAP)
        _write(pen, (x, y), label)
        sheet.paste(Image.fromarray(panel), (x, y + LABEL))
    if "uncertainty" in drawn:
        _draw_scale(sheet, pen, bottom)
    if (rows.stop - rows.start, columns.stop - columns.start) != mask.shape:
        text = f"shown: rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop}"
        _write(pen, (2 * GAP + 256, bottom + BAR + 2), text)
    return np.asarray(sheet)


def _choose(drawn, mask):
    """The panels in their order."""
    mean = drawn["mean"]
    context = np.where(mask[..., None], _to_rgb(mean), np.uint8(MISSING))
    panels, differing = {"context": context}, {}
    if not np.array_equal(drawn.get("completed", mean), mean):
        panels |= {name.replace("_", " "): x for name, x in drawn.items() if name.startswith("completed")}
    panels["mean"] = mean
    for name, x in drawn.items():
        if name.startswith("sample_"):
            if len(differing) < MAX_ANSWERS and x is not mean and not np.array_equal(x, mean):
                differing[name.replace("_", " ")] = x
        elif not name.startswith("completed"):
            panels.setdefault(name, x)
    uncertainty = {name: panels.pop(name) for name in ("uncertainty",) if name in panels}
    return panels | differing | uncertainty


def _find_part(mask):
    """Rows and columns to show: around what is missing where that is a small part of the picture."""
    parts = []
    for part, length in zip(tiles.find_box(~mask), mask.shape, strict=True):
        margin = max(16, int(MARGIN * (part.stop - part.start)))
        parts.append(slice(max(0, part.start - margin), min(length, part.stop + margin)))
    lengths = zip(parts, mask.shape, strict=True)
    is_small = not mask.all() and all(part.stop - part.start <= SMALL_PART * side for part, side in lengths)
    return tuple(parts) if is_small else tuple(slice(0, side) for side in mask.shape)


def _to_rgb(values):
    """uint8 (H, W, 3) of uint8 or uint16 (H, W, 1 to 4), alpha left out."""
    return image_ops.to_channels(image_ops.to_eight_bits(values), 3)


def _to_panel(values):
    """Brings uint8 (H, W, 3) to the size of a panel: by area, or by whole factors."""
    longest = max(values.shape[:2])
    if longest <= PANEL:
        factor = max(1, SMALLEST // longest)
        return values.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(side * PANEL / longest)) for side in values.shape[:2])
    return image_ops.resize_area(values, height, width)


def _draw_scale(sheet, pen, y):
    """A bar from black to white with the standard deviations that they mean."""
    from PIL import Image

    length = 256
    bar = np.repeat(to_uint8(np.linspace(0, 1, length))[None], BAR, axis=0)
    sheet.paste(Image.fromarray(bar), (GAP, y))
    pen.rectangle((GAP - 1, y - 1, GAP + length, y + BAR), outline=INK)
    for share, anchor in ((0, "la"), (0.4, "ma"), (0.8, "ma")):
        _write(pen, (GAP + share * length, y + BAR + 2), f"{share * WHITE_UNCERTAINTY:.2g}", anchor)
    _write(pen, (GAP + length + GAP, y), "standard deviation, of values from 0 to 1")


def _write(pen, place, text, anchor="la"):
    from PIL import ImageFont

    pen.text(place, text, fill=INK, font=ImageFont.load_default(13), anchor=anchor)
