"""Damage of several kinds in photographs, completed by the model and by others, beside each other.

    python -m benchmarks holes --pictures=FOLDER --num_pictures=8 --answers=FOLDER

Methods that need OpenCV's contributed modules (shift_map, fsr) are left out where those are missing.
"""

import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import ifanp_jax
from ifanp_jax.classical import interpolation, opencv
from ifanp_jax.completion import picture_file, preview
from ifanp_jax.completion.methods import ClassicalMethod
from ifanp_jax.data import image_ops
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.inference import tiles
from ifanp_jax.inference.model import Model
from ifanp_jax.metrics import image, lpips, texture

MAX_SIDE = 480  # pixels of the pictures, to which larger ones are reduced
MARGIN = 16  # pixels around a hole, for LPIPS
CELL = 32  # LPIPS takes sides of whole multiples, so that few programs are compiled
DIGITS = {"PSNR": 2, "LPIPS": 3, "texture": 2, "gradients": 2, "seconds": 1}  # of the table


def run(
    pictures: str | pathlib.Path,
    *,
    model: str = "photos",
    num_pictures: int = 8,
    answers: str | pathlib.Path = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Measures every method on every kind of damage, one of each in every picture.

    Args:
      pictures: folder.
      model: a shipped one.
      answers: folder for a picture of every answer; "" = none is written.

    Returns:
      `num_pictures`, and `cells`: means by damage, method and value.
    """
    root = pathlib.Path(pictures).expanduser()
    names = image_ops.list_pictures(root)
    if not names:
        raise UserError(f"There is no picture below {pictures}: name a folder of photographs.")
    generator = np.random.default_rng(seed)
    names = [names[i] for i in generator.permutation(len(names))[:num_pictures]]
    trained, rows = ifanp_jax.from_pretrained(model), {}
    for number, name in enumerate(names):
        picture = _reduce(image_ops.to_channels(image_ops.read_picture(root / name), 3))
        for damage, draw in DAMAGES.items():
            known = draw(generator, picture.shape[:2])
            for method, complete in list_methods(trained).items():
                started = time.monotonic()
                answer = complete(picture, known)
                seconds = time.monotonic() - started
                found = measure(picture / np.float32(255), answer, known) | {"seconds": seconds}
                rows.setdefault(damage, {}).setdefault(method, []).append(found)
                if answers:
                    _write(answers, f"{number:02} {damage} {method}", answer)
            if answers:
                _write(answers, f"{number:02} {damage}", np.where(known[..., None], picture / 255, 1))
    means = {
        damage: {
            method: {value: float(np.mean([row[value] for row in found])) for value in found[0]}
            for method, found in methods.items()
        }
        for damage, methods in rows.items()
    }
    return {"num_pictures": len(names), "cells": means}


def measure(truth: np.ndarray, answer: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """PSNR and gradient energy of the missing pixels; LPIPS and texture distance of the box around them.

    Args:
      truth: float32 (H, W, 3) in [0, 1].
      answer: likewise.
      known: bool (H, W).
    """
    box = tiles.find_box(~known)
    looks = [_cut_for_lpips(values, box) for values in (truth, answer)]
    energy = [_gradient_energy(values, known) for values in (answer, truth)]
    return {
        "PSNR": float(image.psnr_unobserved(answer[None], truth[None], known[None, ..., None])[0]),
        "LPIPS": float(lpips.lpips(looks[0], looks[1])[0]),
        "texture": texture.texture_distance(truth[box], answer[box]),
        "gradients": energy[0] / energy[1],
    }


def _cut_for_lpips(values, box):
    part = []
    for side, length in zip(box, values.shape, strict=False):
        size = min(-(-(side.stop - side.start + 2 * MARGIN) // CELL) * CELL, length)
        start = min(max(0, side.start - MARGIN), length - size)
        part.append(slice(start, start + size))
    return values[tuple(part)][None].astype(np.float32)


def _gradient_energy(values, known):
    across = np.square(np.diff(values, axis=1))[~known[:, 1:] & ~known[:, :-1]].sum()
    return float(across + np.square(np.diff(values, axis=0))[~known[1:] & ~known[:-1]].sum())


def list_methods(model: Model) -> dict[str, Callable]:
    """Functions of uint8 (H, W, 3) and bool (H, W) that answer float32 (H, W, 3), by name."""
    methods = {
        "model, mean": lambda picture, known: (
            model.complete(picture, known, num_samples=1, fill="model", grain=False).mean
        ),
        "model, completed": lambda picture, known: model.complete(picture, known, num_samples=1).completed,
    }
    available, missing = interpolation.hole_methods()
    for name in ("patch_match", "biharmonic", *opencv.METHODS):
        if name not in available:
            continue
        method = ClassicalMethod(name)
        methods[name] = lambda picture, known, method=method: method.complete(picture, known).mean
    if missing:  # they need OpenCV
        return methods
    import cv2

    if hasattr(cv2, "xphoto"):
        methods["shift_map"] = lambda *a: _xphoto(cv2, cv2.xphoto.INPAINT_SHIFTMAP, *a)
        methods["fsr_fast"] = lambda *a: _xphoto(cv2, cv2.xphoto.INPAINT_FSR_FAST, *a)
    return methods


def _xphoto(cv2, flag, picture, known):
    box, values = tiles.find_box(~known, margin=128), picture / np.float32(255)
    part = np.ascontiguousarray(picture[box])
    mask = np.where(known[box], 255, 0).astype(np.uint8)
    answer = part.copy()
    if flag == cv2.xphoto.INPAINT_SHIFTMAP:
        part = cv2.cvtColor(part, cv2.COLOR_RGB2Lab)
    cv2.xphoto.inpaint(part, mask, answer, flag)
    if flag == cv2.xphoto.INPAINT_SHIFTMAP:
        answer = cv2.cvtColor(answer, cv2.COLOR_Lab2RGB)
    values[box] = np.where(known[box][..., None], picture[box], answer) / np.float32(255)
    return values


def _draw_lines(generator, size):
    from PIL import Image, ImageDraw

    canvas = Image.new("1", size[::-1])
    for _ in range(6):
        ends = [tuple(generator.uniform(0, side) for side in size[::-1]) for _ in range(2)]
        ImageDraw.Draw(canvas).line(ends, fill=1, width=int(generator.integers(3, 8)))
    return ~np.asarray(canvas)


def _draw_box(generator, size):
    known, sides = np.ones(size, bool), generator.integers(50, 121, 2)
    top, left = (generator.integers(8, length - side - 8) for side, length in zip(sides, size, strict=True))
    known[top : top + sides[0], left : left + sides[1]] = False
    return known


def _draw_object(generator, size):
    known = np.ones(size, bool)
    rows, columns = np.mgrid[: size[0], : size[1]]
    middle = [generator.uniform(0.3, 0.7) * side for side in size]
    for _ in range(3):  # three discs that meet
        row, column = (place + generator.uniform(-30, 30) for place in middle)
        known &= (rows - row) ** 2 + (columns - column) ** 2 > generator.uniform(25, 50) ** 2
    return known


def _draw_corner(generator, size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    edge = generator.uniform(90, 150) + 4 * np.sin(rows / 7)
    return rows + columns > edge


def _draw_border(generator, size):
    known = np.ones(size, bool)
    known[:, size[1] - int(generator.integers(40, 70)) :] = False
    return known


DAMAGES = {
    "thin marks": _draw_lines,
    "scattered, 20 % observed": lambda generator, size: generator.uniform(size=size) < 0.2,
    "boxes": _draw_box,
    "objects": _draw_object,
    "torn corners": _draw_corner,
    "a border to extend": _draw_border,
}


def list_lines(result: dict[str, Any]) -> list[str]:
    """The table, a row for each damage and method."""
    rows = [
        [damage, method, *(f"{row[name]:.{DIGITS[name]}f}" for name in DIGITS)]
        for damage, methods in result["cells"].items()
        for method, row in methods.items()
    ]
    return tables.markdown_table(["damage", "method", *DIGITS], rows)


def _reduce(picture):
    height, width = picture.shape[:2]
    factor = min(1, MAX_SIDE / max(height, width))
    return image_ops.resize_area(picture, round(height * factor), round(width * factor))


def _write(folder, name, values):
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{re.sub(r'[^a-z0-9]+', '_', name)}.png").open("wb") as file:
        picture_file.write(file, preview.to_uint8(np.clip(values, 0, 1)))
