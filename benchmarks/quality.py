"""Time to quality: minutes of training until the best interpolation is passed, in each random cell.

    python -m benchmarks quality --config=configs/celeba_multiscale.py --minutes=5 \
        --config.data.source=arrays --config.data.dir=ARRAYS --config.evaluate.num_images=500

The training is the one of the configuration, with as many steps as fit in the minutes, so that its learning
rate falls to 0 within them. The clock runs during steps alone: compiling, looking at the held-out images and
the interpolations are told apart.
"""

import pathlib
import tempfile
import time

from ml_collections import ConfigDict

from ifanp_jax import benchmark, training
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import baselines, evaluate, scores, tables
from ifanp_jax.evaluation.contexts import load_contexts
from ifanp_jax.evaluation.options import Options
from ifanp_jax.study import equal_time

NUM_LOOKS = 12  # at the held-out images
HEAD = ("observed", "best interpolation, dB", "passed after, minutes", "at the end, dB")


def run(config: ConfigDict, dataset: Dataset, *, minutes: float, num_steps: int = 0) -> dict:
    """Trains once and looks at the held-out images while it does.

    Args:
      config: from `benchmark.prepare`.
      dataset: `config.evaluate.num_images` of its held-out images are completed.
      minutes: of training.
      num_steps: to do; 0 = what fits in the minutes, by a short measurement.

    Returns:
      What `--output` holds: facts of the machine, and per random cell the curve and when it passed.
    """
    config = config.copy_and_resolve_references()
    if minutes <= 0:
        raise UserError(f"--minutes={minutes:g} is no time to train; give a positive number such as 5.")
    num_images = config.evaluate.num_images or len(dataset.evaluation)
    config.evaluate.update(halves=False, uniform_fraction=0.0, classical_images=num_images)
    if not num_steps:
        num_steps = equal_time.count_steps(config, dataset, minutes=minutes, read_clock=time.monotonic)
    config.train.update(num_steps=num_steps, validate_every=max(1, num_steps // NUM_LOOKS))
    config.train.update(checkpoint_every=num_steps, checkpoint_minutes=0.0, keep_every=0)
    options = Options.of(config)
    contexts = load_contexts(options, dataset.evaluation[: options.num_images or None].shape[:3])
    classical, _ = baselines.evaluate_classical(options, dataset, contexts)
    clock, looks = equal_time.StepClock(), []

    def look(run):
        found = _measure_cells(run, dataset, options, contexts)
        looks.append({"minutes": sum(clock.seconds[1:]) / 60, "step": run.model.step, "psnr": found})
        return {f"val/psnr_completed_{fraction:g}": psnr for fraction, psnr in found.items()}

    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        done = training.run(config, workdir, dataset, validate=look, wrap_steps=clock.wrap)
        facts = benchmark.describe(done) | {"num_parameters": done.model.num_parameters}
    return {
        **facts,
        "data": dataset.name,
        "num_images": min(num_images, len(dataset.evaluation)),
        "num_steps": num_steps,
        "minutes": sum(clock.seconds[1:]) / 60,
        "first_seconds": clock.seconds[0],
        "cells": [_summarise(classical, fraction, looks) for fraction in config.evaluate.fractions],
    }


def _measure_cells(run, dataset, options, contexts) -> dict[float, float]:
    """Mean PSNR in dB, observed pixels kept, in each random cell."""
    images, found = dataset.evaluation[: options.num_images or None], {}
    for context in contexts.values():
        values = evaluate.evaluate_images(run.model, images, context.masks, options)
        found[context.fraction] = float(values["psnr_completed"].mean())
    return found


def _summarise(classical, fraction, looks):
    """A cell: the interpolation to pass, the curve, and when it passed."""
    best = scores.best_classical(classical, {"mask": "random", "fraction": fraction})
    curve = [(look["minutes"], look["psnr"][fraction]) for look in looks]
    return {
        "fraction": fraction,
        "method": best["method"],
        "interpolation_psnr": best["psnr_completed"],
        "passed_minutes": find_passing(curve, best["psnr_completed"]),
        "psnr": curve[-1][1],
        "curve": curve,
    }


def find_passing(curve: list[tuple[float, float]], level: float) -> float | None:
    """The first time at which a curve of (minutes, dB) reaches a level, by straight lines; None if never."""
    before = None
    for minutes, psnr in curve:
        if psnr >= level:
            if before is None:
                return minutes
            share = (level - before[1]) / (psnr - before[1])
            return before[0] + share * (minutes - before[0])
        before = minutes, psnr
    return None


def list_lines(result: dict) -> list[str]:
    """The lines of caption and table, in Markdown, of a result of `run`."""
    shape = "x".join(map(str, result["image_shape"]))
    caption = (
        f"{result['model']}, {result['num_parameters']:,} parameters, {result['data']} {shape}, "
        f"{result['num_steps']:,} steps of {result['batch_size']} in {result['minutes']:.1f} minutes on "
        f"{result['num_devices']} x {result['device']}; {result['num_images']} held-out images; first step "
        f"{result['first_seconds']:.0f} s more."
    )
    rows = [
        (
            f"{cell['fraction']:.0%}",
            f"{cell['interpolation_psnr']:.2f} ({cell['method']})",
            "not passed" if cell["passed_minutes"] is None else f"{cell['passed_minutes']:.1f}",
            f"{cell['psnr']:.2f}",
        )
        for cell in result["cells"]
    ]
    return [caption, "", *tables.markdown_table(HEAD, rows)]
