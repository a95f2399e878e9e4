"""The figures of a study, from the runs of its first seed."""

import functools
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.classical import interpolation
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import evaluate, figures, panels
from ifanp_jax.evaluation.contexts import Context, Contexts, list_holes, make_context
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference.model import Model
from ifanp_jax.study import offset_wheel
from ifanp_jax.study.one_run import run_dir, short_name
from ifanp_jax.training import metrics_file, runs

NUM_PICTURES, PICTURES_PER_HOLE = 4, 2  # rows of each context
CLASSICAL = ("telea", "patch_match")  # columns beside the models
WHEEL_SIDE = 65  # pixels
CURVES = ("critic_loss", "adversarial_loss")

Models = dict[str, Model]  # by the names of their columns


def draw(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset, contexts: Contexts) -> None:
    """Writes the figures that the study asks for, and those of holes and of critics where there are any.

    `figure_a.png`: completions at the smallest fraction; `figure_b.png`: samples from the upper half, the
    last of each model joined to the true upper half; `figure_c.png`: training MSE; `figure_d.png`: variants
    and fractions. Over holes `figure_completions.png`: input, every method, truth; `figure_attention.png`:
    where the models that say so copy from, as colours. `figure_critics.png`: both sides of the game.

    Args:
      config: of the study.
      workdir: of the study, with its finished runs.
      dataset: the first held-out images are drawn.
      contexts: that all were tested in.
    """
    study, workdir, options = config.study, pathlib.Path(workdir), Options.of(config)
    images = np.asarray(dataset.evaluation[:NUM_PICTURES], np.float32) / 255
    directories = {name: run_dir(workdir, name, study.seeds[0]) for name in study.models}
    load = functools.cache(lambda name: runs.load(directories[name]).model)

    def select(field):
        return [name for name in study.get(field, ()) if name in directories]

    def load_all(names):
        return {short_name(name): load(name) for name in names}

    scattered = [
        context.first(len(images)) for context in contexts.values() if context.kind in ("random", "uniform")
    ]
    if names := select("figure_a"):
        smallest = min(scattered, key=lambda context: context.fraction)
        _draw_means(workdir / "figure_a.png", load_all(names), images, [smallest], options)
    if names := select("figure_b"):
        upper_half = make_context("top", images.shape[:3], seed=options.seed)
        _draw_samples(workdir / "figure_b.png", load_all(names), images, upper_half.masks, options)
    if names := select("variants"):
        _draw_training(workdir / "figure_c.png", {short_name(name): directories[name] for name in names})
        _draw_means(workdir / "figure_d.png", load_all(names), images, scattered, options)
    if holes := list_holes(contexts.values()):
        images = images[:PICTURES_PER_HOLE]
        holes = [context.first(len(images)) for context in holes]
        _draw_holes(workdir / "figure_completions.png", load_all(directories), images, holes, options)
        _draw_attention(workdir / "figure_attention.png", load_all(directories), images, holes)
    _draw_critics(
        workdir / "figure_critics.png", {short_name(name): path for name, path in directories.items()}
    )


def _draw_means(
    path: pathlib.Path, trained: Models, images: np.ndarray, contexts: list[Context], options: Options
) -> None:
    """Draws the mean completion of every model beside context and truth, context by context."""
    blocks = {}
    for context in contexts:
        blocks[f"{context.fraction:.0%}"] = {
            "context": _show_contexts(images, context.masks),
            **{
                name: panels.complete(model, images, context.masks, options).samples.mean(axis=0)
                for name, model in trained.items()
            },
            "truth": images,
        }
    _draw_blocks(path, blocks)


def _draw_samples(
    path: pathlib.Path, trained: Models, images: np.ndarray, masks: np.ndarray, options: Options
) -> None:
    """Draws samples of every model, the last one also with the observed pixels put back."""
    columns = [("context", _show_contexts(images, masks))]
    for name, model in trained.items():
        completion = panels.complete(model, images, masks, options)
        samples = panels.draw_samples(model, images, masks, options, completion)
        samples = samples[: figures.NUM_SAMPLES_SHOWN]
        columns += [(f"{name} {number}", sample) for number, sample in enumerate(samples, start=1)]
        columns.append(("joined", np.where(masks, images, samples[-1])))
    columns.append(("truth", images))
    rows = [[pictures[index] for _, pictures in columns] for index in range(len(images))]
    figures.draw_grid(path, rows, [name for name, _ in columns])


def _draw_training(path: pathlib.Path, directories: dict[str, pathlib.Path]) -> None:
    """Draws the MSE of the training batches against steps."""
    curves = {name: _read_curve(directory, "train/mse") for name, directory in directories.items()}
    figures.draw_curves(
        path, {name: points for name, points in curves.items() if points}, label="training MSE"
    )


def _draw_holes(
    path: pathlib.Path, trained: Models, images: np.ndarray, holes: list[Context], options: Options
) -> None:
    """Draws input, the answer of every model, of some classical methods, and the truth."""
    methods = [method for method in CLASSICAL if method in interpolation.hole_methods()[0]]
    blocks = {}
    for context in holes:
        filled = interpolation.complete_images(images, context.masks, methods=methods)
        blocks[context.kind] = {
            "input": _show_contexts(images, context.masks),
            **{
                name: evaluate.complete_images(model, images, context.masks, options)
                for name, model in trained.items()
            },
            **{short_name(method): answer for method, answer in filled.items()},
            "truth": images,
        }
    _draw_blocks(path, blocks)


def _draw_attention(path: pathlib.Path, trained: Models, images: np.ndarray, holes: list[Context]) -> None:
    """Draws holes, for each model with an attention map the offsets to what is copied, and the wheel."""
    wheel, blocks = np.asarray(offset_wheel.draw_wheel(WHEEL_SIDE)), {}
    for context in holes:
        maps = {name: _find_offsets(model, images, context.masks) for name, model in trained.items()}
        blocks[context.kind] = {
            "hole": context.masks.astype(np.float32),
            **{name: np.asarray(offset_wheel.colour_offsets(x)) for name, x in maps.items() if x is not None},
            "offset": [wheel] * len(images),
        }
        if len(blocks[context.kind]) == 2:
            return
    _draw_blocks(path, blocks)


def _find_offsets(model: Model, images: np.ndarray, masks: np.ndarray) -> np.ndarray | None:
    """Offsets (dy, dx) from each cell to what it copies most from, float32 (B, h, w, 2), or None."""
    call = functools.partial(_answer, model.module)
    if getattr(jax.eval_shape(call, model.variables, images, masks), "attention", None) is None:
        return None  # nothing is compiled
    return jax.device_get(call(model.variables, images, masks).attention)


@functools.partial(jax.jit, static_argnums=0)
def _answer(module, variables, images, masks):
    return module.apply(variables, images, masks, train=False, rngs={"sample": jax.random.key(0)})


def _draw_critics(path: pathlib.Path, directories: dict[str, pathlib.Path]) -> None:
    """Draws the losses of both sides of the game against steps, one panel for each training with critics."""
    shown = {}
    for name, directory in directories.items():
        curves = {curve.replace("_", " "): _read_curve(directory, f"train/{curve}") for curve in CURVES}
        if curves["critic loss"]:
            shown[name] = curves
    if shown:
        figures.draw_curve_panels(path, shown)


def _read_curve(directory: pathlib.Path, name: str) -> list[tuple[int, float]]:
    """Step and value of what a training logged."""
    return [(row["step"], row[name]) for row in metrics_file.read_metrics(directory) if name in row]


def _show_contexts(images: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
    """Images (B, H, W, C) with their unobserved pixels painted."""
    return [figures.show_context(*pair) for pair in zip(images, masks, strict=True)]


def _draw_blocks(path, blocks):
    """Blocks of rows by label, each with columns of B pictures by name."""
    rows, labels = [], []
    for name, columns in blocks.items():
        rows += [list(row) for row in zip(*columns.values(), strict=True)]
        labels += [name] * len(rows[len(labels) :])
    names = [column.replace(", ", "\n") for column in next(iter(blocks.values()))]
    figures.draw_grid(path, rows, names, labels=labels)
