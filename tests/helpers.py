"""What several tests do."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax.models import parameters
from ifanp_jax.training import metrics_file, runs

ROOT = pathlib.Path(__file__).parents[1]
CLOCKED = ("train/seconds", "train/steps_per_second", "train/images_per_second")


def read_rows(workdir):
    """Rows of metrics.jsonl less what a clock decides."""
    rows = metrics_file.read_metrics(workdir)
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in rows]


def make_run(config, image_shape, *, seed=0):
    """An untrained run with its state."""
    run = runs.make(config, image_shape)
    state = jax.jit(lambda key: run.step.init(key, run.image_shape))(jax.random.key(seed))
    return dataclasses.replace(run, state=state)


def make_model(config, image_shape, *, seed=0):
    """An untrained model."""
    return make_run(config, image_shape, seed=seed).model


def run_python(*arguments, cwd=ROOT, **environment):
    """Runs Python in a process of its own, with its output as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_main(*arguments, module="ifanp_jax.main", cwd=ROOT, **environment):
    """Runs a command line of the package, as `run_python`."""
    return run_python("-m", module, *arguments, cwd=cwd, **environment)


def run_many_mains(command_lines):
    """Runs many command lines that need no devices, as `run_main` but from one process."""
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"  # else a command starts its process anew
    result = subprocess.run(
        [sys.executable, "-m", "tests.forked"],
        cwd=ROOT,
        env=os.environ | environment,
        input=json.dumps([list(map(str, arguments)) for arguments in command_lines]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    found = zip(command_lines, json.loads(result.stdout), strict=True)
    return [subprocess.CompletedProcess(arguments, *answer) for arguments, answer in found]


def random_variables(model, image_shape, seed=0, spread=0.5):
    """Variables of a model by NumPy, so that nothing is compiled; what it answers is of the order of 1.

    `spread` is the largest standard deviation, that of what has no inputs.
    """
    shapes = jax.eval_shape(lambda key: parameters.init_variables(key, model, image_shape), jax.random.key(0))
    return draw_variables(shapes, seed=seed, spread=spread)


def draw_variables(shapes, *, seed=0, spread=0.5):
    """Arrays of the shapes and dtypes of a tree, as `random_variables`."""
    generator = np.random.default_rng(seed)

    def draw(x):
        by_fan_in = 1 / np.sqrt(np.prod(x.shape[:-1]))
        return jnp.asarray(generator.normal(0, min(spread, by_fan_in), x.shape), x.dtype)

    return jax.tree.map(draw, shapes)


def random_image(*shape, seed=0):
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def random_mask(*shape, seed=1):
    """Half of the pixels, observed."""
    return np.random.default_rng(seed).random(shape) < 0.5


def left_half(height, width):
    """A mask whose left half is observed."""
    return np.broadcast_to(np.arange(width) < width // 2, (height, width))


def images_and_masks(shape, *, num_images=3):
    """Random images (B, H, W, C) and masks of about one half."""
    image = jax.random.uniform(jax.random.key(1), (num_images, *shape))
    return image, jax.random.bernoulli(jax.random.key(2), 0.5, (*image.shape[:3], 1))


def abstract_answers(model, image, mask, *, num_samples=1):
    """Shapes and dtypes of the terms of a training, a completion of one sample more, and the parameters."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}

    def run():
        terms, variables = model.init_with_output(rngs, image, mask, train=True, num_samples=num_samples)
        call = {"num_samples": num_samples + 1, "method": "complete", "rngs": {"sample": rngs["sample"]}}
        return terms, model.apply(variables, image, mask, **call), variables["params"]

    return jax.eval_shape(run)


def list_array_shapes(program):
    """The shapes of all arrays in a StableHLO program, as text."""
    found = set(re.findall(r"tensor<((?:\d+x)+)\w+>", program))
    return {tuple(map(int, text.rstrip("x").split("x"))) for text in found}
