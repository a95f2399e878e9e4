"""Completion by a shipped model in tiles of several sides: what it takes, and how far the answers differ."""

import dataclasses
import json
import logging
import pathlib
import tempfile
import time

import numpy as np

from benchmarks import inputs, processes, timing
from ifanp_jax import shipped
from ifanp_jax.data import image_ops
from ifanp_jax.inference.limits import Limits
from ifanp_jax.inference.model import Model

logger = logging.getLogger(__name__)

MODEL = "photos"
SIDES = (512, 256, 128)  # the first one is the reference
SMALL, LARGE = (512, 512), (3000, 4000)
LARGE_SIDES = SIDES[:2]


def run(*, is_full: bool) -> list[dict]:
    """One row for each size of picture and side of tiles, each measured in a process of its own.

    Args:
      is_full: also LARGE.
    """
    rows = []
    for size, sides in ((SMALL, SIDES), *([(LARGE, LARGE_SIDES)] if is_full else [])):
        with tempfile.TemporaryDirectory() as folder:
            means = []
            for side in sides:
                path = pathlib.Path(folder) / f"{side}.npy"
                request = {"model": MODEL, "size": size, "side": side, "path": str(path)}
                found = processes.run_alone("tiles", "answer_probe", request)
                logger.info("%dx%d pixels in tiles of %d: measured.", *size, side)
                means.append(np.load(path, allow_pickle=False))
                found["largest_difference"] = float(np.abs(means[-1] - means[0]).max())
                rows.append({"model": MODEL, "size": size, "side": side} | found)
    return rows


def answer_probe(request: str) -> None:
    """Completes a photograph and prints seconds, tiles and peak memory as JSON; keeps the mean.

    Args:
      request: JSON: `model`, `size` (H, W) and `side` of the tiles in pixels; `path` of a new .npy file.
    """
    fields = json.loads(request)
    model = shipped.read(fields["model"])
    print(json.dumps(measure(model, tuple(fields["size"]), fields["side"], fields["path"])))


def measure(model: Model, size: tuple[int, int], side: int, path: str) -> dict:
    """Seconds of a completion, compilation included, its tiles, and the process's peak memory in MiB.

    Args:
      model: completes by tiles.
      size: (H, W) of the picture: scikit-image's astronaut, repeated, with random observed pixels.
      side: of the tiles, pixels.
      path: of a new .npy file for the mean.
    """
    image = _make_picture(size, model.image_shape[-1])
    mask = np.random.default_rng(0).random(size) < inputs.OBSERVED_SHARE
    model = dataclasses.replace(model, limits=Limits(tile_sides=(side,)))
    counts = []
    started = time.monotonic()
    result = model.complete(
        image, mask, num_samples=1, rounds=1, on_progress=lambda done, total, left: counts.append(total)
    )
    seconds = time.monotonic() - started
    np.save(path, result.mean)
    return {"seconds": seconds, "num_tiles": max(counts), "peak_mib": timing.peak_mib()}


def _make_picture(size, channels):
    from skimage import data

    photograph = image_ops.to_channels(data.astronaut(), channels)
    repeats = [-(-side // own) for side, own in zip(size, photograph.shape[:2], strict=True)]
    return np.tile(photograph, (*repeats, 1))[: size[0], : size[1]]


def list_lines(rows: list[dict]) -> list[str]:
    """The table of `run`."""
    share = f"{inputs.OBSERVED_SHARE:.0%}"
    lines = [
        f"Model {MODEL}, {share} of the pixels observed at random. The difference is the",
        f"largest one of any value of the mean, from 0 to 1, from tiles of {SIDES[0]}.",
        "",
        "picture    tiles            seconds  peak MiB  difference",
    ]
    for row in rows:
        h, w = row["size"]
        tiles = f"{row['num_tiles']} of {row['side']}x{row['side']}"
        numbers = f"{row['seconds']:7.1f}  {row['peak_mib']:8,.0f}  {row['largest_difference']:10.2g}"
        lines.append(f"{f'{h}x{w}':<9}  {tiles:<15}  {numbers}")
    return lines
