"""Damage of several kinds in photographs, completed by the model and by others, beside each other.

    python -m benchmarks holes --pictures=FOLDER --masks=FOLDER --num_pictures=8 --answers=FOLDER

Each method runs in a process of its own, so that its memory is its own. Methods that need OpenCV, or its
contributed modules, are left out where those are missing.
"""

import concurrent.futures
import functools
import importlib.util
import multiprocessing
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import ifanp_jax
from ifanp_jax import errors
from ifanp_jax.classical import opencv
from ifanp_jax.completion import picture_file, preview
from ifanp_jax.completion.methods import ClassicalMethod
from ifanp_jax.data import image_ops, mask_sheets
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.inference import tiles
from ifanp_jax.metrics import image, lpips, texture

MAX_SIDE = 480  # pixels of the pictures, to which larger ones are reduced
MARGIN = 16  # pixels around a hole, for LPIPS
CELL = 32  # LPIPS takes sides of whole multiples, so that few programs are compiled
# Of the table: digits of each value.
DIGITS = {"PSNR": 2, "LPIPS": 3, "texture": 2, "gradients": 2, "seconds": 1, "MiB": 0}
MEAN, COMPLETED = "model, mean", "model, completed"
PEERS = ("patch_match", "biharmonic", *opencv.METHODS)
# G'MIC's commands (Debian's gmic), and PyPI's pypatchmatch; where they are installed.
GMIC = {
    "gmic inpaint": "inpaint[0] [1],7,16,0.1,1,20",
    "gmic inpaint_matchpatch": "inpaint_matchpatch[0] [1]",
}
PYPATCHMATCH = "pypatchmatch"
OTHERS = (*GMIC, PYPATCHMATCH)
FILM = "film dust"
LARGE = ("boxes", "objects", "torn corners", "a border to extend")
NEAR = 1.1  # times the LPIPS of the best peer, up to which a hole counts as well filled


class Case(NamedTuple):
    """One hole, or many, in one photograph."""

    picture: np.ndarray  # uint8 (H, W, 3)
    known: np.ndarray  # bool (H, W)
    name: str  # of the photograph and the damage
    damage: str


class Answer(NamedTuple):
    """What a method gives for a case."""

    values: np.ndarray  # float32 (H, W, 3) in [0, 1]
    seconds: float
    mebibytes: float  # most that the process held meanwhile


def run(
    pictures: str | pathlib.Path,
    *,
    masks: str | pathlib.Path = "",
    model: str = "photos",
    num_pictures: int = 8,
    answers: str | pathlib.Path = "",
    methods: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Measures every method on every kind of damage, one of each in every picture.

    Args:
      pictures: folder.
      masks: folder of masks of film damage, as `data.mask_sheets.read_film` reads it; "" = none.
      model: a shipped one.
      answers: folder for a picture of every answer; "" = none is written.
      methods: of `list_methods`; none = all of them.

    Returns:
      `num_pictures`; `cells`: by damage, method and value the mean over the pictures, of seconds the median;
      and `rows`: the values of each picture, by damage and method.
    """
    cases = make_cases(pictures, masks=masks, num_pictures=num_pictures, seed=seed)
    if answers:
        for case in cases:
            _write(answers, case.name, np.where(case.known[..., None], case.picture / 255, 1))
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    for method in choose_methods(methods):
        for case, answer in zip(cases, ask(method, model, cases), strict=True):
            found = measure(case.picture / np.float32(255), answer.values, case.known)
            found |= {"seconds": answer.seconds, "MiB": answer.mebibytes}
            rows.setdefault(case.damage, {}).setdefault(method, []).append(found)
            if answers:
                _write(answers, f"{case.name} {method}", answer.values)
    cells = {
        damage: {method: _summarise(found) for method, found in methods.items()}
        for damage, methods in rows.items()
    }
    return {"num_pictures": len({case.name.split()[0] for case in cases}), "cells": cells, "rows": rows}


def make_cases(pictures, *, masks="", num_pictures: int, seed: int = 0) -> list[Case]:
    """One of each damage in each of the first pictures of a random order."""
    root = pathlib.Path(pictures).expanduser()
    names = image_ops.list_pictures(root)
    if not names:
        raise UserError(f"There is no picture below {pictures}: name a folder of photographs.")
    generator = np.random.default_rng(seed)
    names = [names[i] for i in generator.permutation(len(names))[:num_pictures]]
    damages = dict(DAMAGES)
    if masks:
        damages[FILM] = functools.partial(_draw_film, mask_sheets.read_film(str(masks)))
    cases = []
    for number, name in enumerate(names):
        picture = _reduce(image_ops.to_channels(image_ops.read_picture(root / name), 3))
        for damage, draw in damages.items():
            cases.append(Case(picture, draw(generator, picture.shape[:2]), f"{number:02} {damage}", damage))
    return cases


def list_methods() -> list[str]:
    """What can run here."""
    missing = [*opencv.missing_methods(), *(() if shutil.which("gmic") else GMIC)]
    if importlib.util.find_spec("patchmatch") is None:
        missing.append(PYPATCHMATCH)
    return [MEAN, COMPLETED, *(name for name in (*PEERS, *OTHERS) if name not in missing)]


def choose_methods(names: Sequence[str]) -> list[str]:
    """Those of `list_methods` that are asked for, or all.

    Raises:
      UserError: for one that cannot run here.
    """
    available = list_methods()
    for name in names:
        errors.check_choice("--method", name, available)
    return list(names) or available


def ask(method: str, model: str, cases: list[Case]) -> list[Answer]:
    """The answers of a method, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
        return [process.submit(_answer, method, model, case).result() for case in cases]


def _answer(method, model, case):
    complete = _load(method, model)
    _forget_peak()
    started = time.monotonic()
    values = complete(case.picture, case.known)
    return Answer(values, time.monotonic() - started, _read_peak())


@functools.cache
def _load(method, model):
    """A function of uint8 (H, W, 3) and bool (H, W) that answers float32 (H, W, 3) in [0, 1]."""
    if method in GMIC:
        return functools.partial(_run_gmic, GMIC[method])
    if method == PYPATCHMATCH:
        return _run_pypatchmatch
    if method in PEERS:
        classical = ClassicalMethod(method)
        return lambda picture, known: classical.complete(picture, known).mean
    trained = ifanp_jax.from_pretrained(model)
    if method == COMPLETED:
        return lambda picture, known: trained.complete(picture, known, num_samples=1).completed
    how = {"num_samples": 1, "fill": "model", "grain": False}
    return lambda picture, known: trained.complete(picture, known, **how).mean


def _run_gmic(command, picture, known):
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        names = [str(pathlib.Path(folder, name)) for name in ("picture.png", "mask.png", "answer.png")]
        Image.fromarray(picture).save(names[0])
        Image.fromarray(np.where(known, 0, 255).astype(np.uint8)).save(names[1])
        words = ["gmic", *names[:2], *command.split(), "-output[0]", names[2]]
        subprocess.run(words, check=True, capture_output=True)
        answer = np.asarray(Image.open(names[2]).convert("RGB"))
    return np.where(known[..., None], picture, answer) / np.float32(255)


def _run_pypatchmatch(picture, known):
    from patchmatch import patch_match

    hole = np.where(known, 0, 255).astype(np.uint8)
    return patch_match.inpaint(picture, hole, patch_size=5) / np.float32(255)


def _forget_peak():
    if (path := pathlib.Path("/proc/self/clear_refs")).exists():  # Linux alone can
        path.write_text("5")


def _read_peak():
    """MiB, the most that this process held since the peak was forgotten; 0 where the system does not say."""
    if not (path := pathlib.Path("/proc/self/status")).exists():
        return 0.0
    return int(re.search(r"VmHWM:\s+(\d+) kB", path.read_text())[1]) / 1024


def _summarise(found):
    summary = {value: float(np.mean([row[value] for row in found])) for value in found[0]}
    return summary | {"seconds": float(np.median([row["seconds"] for row in found]))}


def measure(truth: np.ndarray, answer: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """PSNR, gradient energy and texture distance of the missing pixels; LPIPS of the box around them.

    Args:
      truth: float32 (H, W, 3) in [0, 1].
      answer: likewise.
      known: bool (H, W).
    """
    part = _find_part(known)
    looks = [values[part][None].astype(np.float32) for values in (truth, answer)]
    energy = [_gradient_energy(values, known) for values in (answer, truth)]
    return {
        "PSNR": float(image.psnr_unobserved(answer[None], truth[None], known[None, ..., None])[0]),
        "LPIPS": float(lpips.lpips(looks[0], looks[1])[0]),
        "texture": texture.texture_distance(truth[part], answer[part], ~known[part]),
        "gradients": energy[0] / energy[1],
    }


def _find_part(known):
    """Rows and columns around what is missing."""
    part = []
    for side, length in zip(tiles.find_box(~known), known.shape, strict=True):
        size = min(-(-(side.stop - side.start + 2 * MARGIN) // CELL) * CELL, length)
        start = min(max(0, side.start - MARGIN), length - size)
        part.append(slice(start, start + size))
    return tuple(part)


def _gradient_energy(values, known):
    across = np.square(np.diff(values, axis=1))[~known[:, 1:] & ~known[:, :-1]].sum()
    return float(across + np.square(np.diff(values, axis=0))[~known[1:] & ~known[:-1]].sum())


def _draw_lines(generator, size):
    from PIL import Image, ImageDraw

    canvas = Image.new("1", size[::-1])
    for _ in range(6):
        ends = [tuple(generator.uniform(0, side) for side in size[::-1]) for _ in range(2)]
        ImageDraw.Draw(canvas).line(ends, fill=1, width=int(generator.integers(3, 8)))
    return ~np.asarray(canvas)


def _draw_box(generator, size):
    known = np.ones(size, bool)
    sides = [int(generator.integers(50, min(161, length - 16))) for length in size]
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


def _draw_film(sheets, generator, size):
    key = jax.random.key(int(generator.integers(2**31)))
    return np.asarray(mask_sheets.draw(key, (1, *size), sheets))[0, ..., 0]


DAMAGES = {
    "thin marks": _draw_lines,
    "scattered, 20 % observed": lambda generator, size: generator.uniform(size=size) < 0.2,
    "boxes": _draw_box,
    "objects": _draw_object,
    "torn corners": _draw_corner,
    "a border to extend": _draw_border,
}


def list_lines(result: dict[str, Any]) -> list[str]:
    """A row for each damage and method; then LARGE holes in one table, and what `compare` finds."""
    lines = _tabulate(result["cells"])
    found = compare(result["rows"])
    if found is None:
        return lines
    pooled = {method: _summarise(rows) for method, rows in _pool(result["rows"]).items()}
    return [
        *lines,
        "",
        *_tabulate({f"large holes, {found['count']}": pooled}),
        "",
        f"Large holes: LPIPS {found['LPIPS']:.2f} and texture distance {found['texture']:.2f} times the "
        f"mean's, PSNR {found['PSNR']:+.2f} dB; at most {NEAR} times the LPIPS of the best peer in "
        f"{found['near']:.0%} of the holes, and in {found['near_pictures']:.0%} of the pictures, a picture's "
        "holes together.",
    ]


def _tabulate(cells):
    rows = [
        [damage, method, *(f"{row[name]:.{DIGITS[name]}f}" for name in DIGITS)]
        for damage, methods in cells.items()
        for method, row in methods.items()
    ]
    return tables.markdown_table(["damage", "method", *DIGITS], rows)


def _pool(rows):
    """The rows of LARGE holes by method, damage after damage, each in the order of the pictures."""
    large = [rows[damage] for damage in LARGE if damage in rows]
    return {method: [row for methods in large for row in methods[method]] for method in (large or [{}])[0]}


def compare(rows) -> dict[str, float] | None:
    """The completed picture in LARGE holes, beside the model's mean and the best of the peers in each."""
    pooled = _pool(rows)
    if not {MEAN, COMPLETED} <= pooled.keys():
        return None
    pictures = np.concatenate([np.arange(len(rows[damage][MEAN])) for damage in LARGE if damage in rows])

    def collect(method, value):
        return np.array([row[value] for row in pooled[method]])

    def share_near(reduce):
        best = np.min([reduce(collect(name, "LPIPS")) for name in peers], axis=0)
        return float((reduce(collect(COMPLETED, "LPIPS")) <= NEAR * best).mean())

    def per_picture(values):
        return np.bincount(pictures, values) / np.bincount(pictures)

    peers = [name for name in (*PEERS, *OTHERS) if name in pooled]
    return {
        "count": len(pooled[MEAN]),
        "LPIPS": float(collect(COMPLETED, "LPIPS").mean() / collect(MEAN, "LPIPS").mean()),
        "texture": float(collect(COMPLETED, "texture").mean() / collect(MEAN, "texture").mean()),
        "PSNR": float((collect(COMPLETED, "PSNR") - collect(MEAN, "PSNR")).mean()),
        "near": share_near(np.asarray) if peers else 1.0,
        "near_pictures": share_near(per_picture) if peers else 1.0,
    }


def _reduce(picture):
    height, width = picture.shape[:2]
    factor = min(1, MAX_SIDE / max(height, width))
    return image_ops.resize_area(picture, round(height * factor), round(width * factor))


def _write(folder, name, values):
    folder = pathlib.Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{re.sub(r'[^a-z0-9]+', '_', name)}.png").open("wb") as file:
        picture_file.write(file, preview.to_uint8(np.clip(values, 0, 1)))
