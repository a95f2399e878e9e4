"""The figures of a study over holes, from the runs of its first seed."""

import functools
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.classical import interpolation
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import figures, hole_values, holes
from ifanp_jax.inference.model import Model
from ifanp_jax.inpainters.layers import offset_wheel
from ifanp_jax.study.one_run import run_dir, short_name
from ifanp_jax.training import metrics_file, runs

IMAGES_PER_KIND = 2  # rows of each kind of hole
CLASSICAL = ("telea", "patch_match")  # columns beside the models
WHEEL_SIDE = 65  # pixels
CURVES = ("critic_loss", "adversarial_loss")


def draw(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset, masks: holes.Holes) -> None:
    """Writes the figures.

    `figure_completions.png`: input, every method, truth. `figure_attention.png`: where the models that say so
    copy from, as colours, without a picture of the data. `figure_critics.png`: training curves of those with
    critics. A figure of which no model has anything is left out.

    Args:
      config: of the study.
      workdir: of the study, with its finished runs.
      dataset: the first held-out images are drawn.
      masks: that all were tested with.
    """
    workdir = pathlib.Path(workdir)
    directories = {name: run_dir(workdir, name, config.study.seeds[0]) for name in config.study.models}
    load = functools.cache(lambda name: runs.load(directories[name]).model)
    images = np.asarray(dataset.evaluation[:IMAGES_PER_KIND], np.float32) / 255
    masks = {kind: mask[: len(images)] for kind, mask in masks.items()}
    trained = {short_name(name): load(name) for name in directories}
    draw_completions(workdir / "figure_completions.png", trained, images, masks)
    draw_attention(workdir / "figure_attention.png", trained, images, masks)
    draw_critics(
        workdir / "figure_critics.png", {short_name(name): path for name, path in directories.items()}
    )


def draw_completions(
    path: pathlib.Path, trained: dict[str, Model], images: np.ndarray, masks: holes.Holes
) -> None:
    """Draws input, the answer of every model, of some classical methods, and the truth.

    Args:
      path: of the PNG.
      trained: models by the names of their columns.
      images: float32 (B, H, W, C) in [0, 1].
      masks: bool (B, H, W, 1), True = observed, by kind; one block of rows each.
    """
    methods = [method for method in CLASSICAL if method in interpolation.hole_methods()[0]]
    rows, labels = [], []
    for kind, mask in masks.items():
        answers = [hole_values.complete_images(model, images, mask) for model in trained.values()]
        answers += interpolation.complete_images(images, mask, methods=methods).values()
        for index, image in enumerate(images):
            shown = figures.show_context(image, mask[index])
            rows.append([shown, *(answer[index] for answer in answers), image])
            labels.append(kind)
    columns = ["input", *trained, *(short_name(method) for method in methods), "truth"]
    figures.draw_grid(path, rows, [name.replace(", ", "\n") for name in columns], labels=labels)


def draw_attention(
    path: pathlib.Path, trained: dict[str, Model], images: np.ndarray, masks: holes.Holes
) -> None:
    """Draws the hole, and for each model with an attention map the offsets to what is copied, and the wheel.

    Args:
      path: of the PNG; not written where no model has such a map.
      trained: models by the names of their columns.
      images: float32 (B, H, W, C) in [0, 1].
      masks: bool (B, H, W, 1), True = observed, by kind; one block of rows each.
    """
    wheel, rows, labels = np.asarray(offset_wheel.draw_wheel(WHEEL_SIDE)), [], []
    for kind, mask in masks.items():
        maps = {name: find_offsets(model, images, mask) for name, model in trained.items()}
        maps = {name: np.asarray(offset_wheel.colour_offsets(x)) for name, x in maps.items() if x is not None}
        for index in range(len(images) if maps else 0):
            hole = np.where(mask[index], np.float32(1), np.float32(0))
            rows.append([hole, *(of_model[index] for of_model in maps.values()), wheel])
            labels.append(kind)
    if rows:
        columns = ["hole", *maps, "offset"]
        figures.draw_grid(path, rows, [name.replace(", ", "\n") for name in columns], labels=labels)


def find_offsets(model: Model, images: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """The offset (dy, dx) from each cell to the one that it copies most from, float32 (B, h, w, 2), or None.

    Args:
      model: trained.
      images: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    call = functools.partial(_answer, model.module)
    if getattr(jax.eval_shape(call, model.variables, images, mask), "attention", None) is None:
        return None  # nothing is compiled
    return jax.device_get(call(model.variables, images, mask).attention)


@functools.partial(jax.jit, static_argnums=0)
def _answer(model, variables, images, mask):
    return model.apply(variables, images, mask, train=False, rngs={"sample": jax.random.key(0)})


def draw_critics(path: pathlib.Path, directories: dict[str, pathlib.Path]) -> None:
    """Draws the losses of both sides of the game against steps, one panel for each training with critics.

    Args:
      path: of the PNG; not written where there is none.
      directories: of the runs, by the titles of their panels.
    """
    panels = {}
    for name, directory in directories.items():
        rows = metrics_file.read_metrics(directory)
        curves = {
            curve.replace("_", " "): [
                (row["step"], row[f"train/{curve}"]) for row in rows if f"train/{curve}" in row
            ]
            for curve in CURVES
        }
        if curves["critic loss"]:
            panels[name] = curves
    if panels:
        figures.draw_curve_panels(path, panels)
