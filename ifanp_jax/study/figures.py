"""The paper's figures, from the runs of a study's first seed."""

import functools
import pathlib

import numpy as np
from ml_collections import ConfigDict

from ifanp_jax.data.dataset import Dataset
from ifanp_jax.evaluation import figures, panels
from ifanp_jax.evaluation.cells import draw_contexts
from ifanp_jax.inference.model import Model
from ifanp_jax.study.one_run import run_dir, short_name
from ifanp_jax.training import metrics_file, runs

NUM_PICTURES = 4  # rows of each figure


def draw(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset) -> None:
    """Writes the paper's figures.

    `figure_a.png`: completions at the smallest fraction; `figure_b.png`: samples from the upper half, the
    last of each model joined to the true upper half; `figure_c.png`: training MSE; `figure_d.png`: variants
    and fractions.

    Args:
      config: of the study.
      workdir: of the study, with its finished runs.
      dataset: the first held-out images are drawn.
    """
    study, workdir = config.study, pathlib.Path(workdir)
    images = np.asarray(dataset.evaluation[:NUM_PICTURES], np.float32) / 255

    def trained(names):
        return [name for name in names if name in study.models]

    def directory_of(name):
        return run_dir(workdir, name, study.seeds[0])

    @functools.cache
    def load(name):
        return runs.load(directory_of(name)).model

    def load_all(names):
        return {short_name(name): load(name) for name in trained(names)}

    contexts = {
        fraction: draw_contexts(config.evaluate.seed, "random", fraction, images.shape[:3])
        for fraction in config.evaluate.fractions or (config.evaluate.uniform_fraction,)
    }
    smallest = min(contexts)
    draw_means(workdir / "figure_a.png", load_all(study.figure_a), images, {smallest: contexts[smallest]})
    upper_half = draw_contexts(config.evaluate.seed, "top", 0.5, images.shape[:3])
    draw_samples(workdir / "figure_b.png", load_all(study.figure_b), images, upper_half)
    directories = {short_name(name): directory_of(name) for name in trained(study.variants)}
    draw_training(workdir / "figure_c.png", directories)
    draw_means(workdir / "figure_d.png", load_all(study.variants), images, contexts)


def draw_means(
    path: pathlib.Path, trained: dict[str, Model], images: np.ndarray, contexts: dict[float, np.ndarray]
) -> None:
    """Draws the mean completion of every model beside context and truth.

    Args:
      path: of the PNG.
      trained: models by the names of their columns.
      images: float32 (B, H, W, C) in [0, 1].
      contexts: bool (B, H, W, 1), True = observed, by their observed share; one block of rows each.
    """
    rows, labels = [], []
    for fraction, mask in contexts.items():
        means = [panels.complete(model, images, mask).samples.mean(axis=0) for model in trained.values()]
        for index, image in enumerate(images):
            context = figures.show_context(image, mask[index])
            rows.append([context, *(mean[index] for mean in means), image])
            labels.append(f"{fraction:.0%}")
    figures.draw_grid(path, rows, ["context", *trained, "truth"], labels=labels)


def draw_samples(path: pathlib.Path, trained: dict[str, Model], images: np.ndarray, mask: np.ndarray) -> None:
    """Draws samples of every model, the last one also with the observed pixels put back.

    Args:
      path: of the PNG.
      trained: models by their names.
      images: float32 (B, H, W, C) in [0, 1].
      mask: bool (B, H, W, 1), True = observed.
    """
    contexts = [figures.show_context(*pair) for pair in zip(images, mask, strict=True)]
    columns = [("context", contexts)]
    for name, model in trained.items():
        completion = panels.complete(model, images, mask)
        samples = panels.draw_samples(model, images, mask, completion)[: figures.NUM_SAMPLES_SHOWN]
        columns += [(f"{name} {number}", sample) for number, sample in enumerate(samples, start=1)]
        columns.append(("joined", np.where(mask, images, samples[-1])))
    columns.append(("truth", images))
    rows = [[pictures[index] for _, pictures in columns] for index in range(len(images))]
    figures.draw_grid(path, rows, [name for name, _ in columns])


def draw_training(path: pathlib.Path, directories: dict[str, pathlib.Path]) -> None:
    """Draws the MSE of the training batches against steps.

    Args:
      path: of the PNG.
      directories: of the runs, by the names of their lines.
    """
    curves = {}
    for name, directory in directories.items():
        rows = metrics_file.read_metrics(directory)
        curves[name] = [(row["step"], row["train/mse"]) for row in rows if "train/mse" in row]
    curves = {name: points for name, points in curves.items() if points}
    figures.draw_curves(path, curves, label="training MSE")
