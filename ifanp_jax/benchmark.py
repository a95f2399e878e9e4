"""Speed and memory of a configuration on this machine: the training step, and one picture completed.

    python -m ifanp_jax.benchmark --config=configs/celeba_ifanp.py --output=benchmark.json

Nothing is read but the configuration: the images are random bytes, the parameters those of a start. The step
is timed inside a real training, in turns: as the loop calls it, and alone. FLOPs are analytic
(`runtime.flops`). Their share is of the rate that one large matrix product reaches here.
"""

import dataclasses
import json
import logging
import os
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from ifanp_jax import command_line, configuration, files, memory, training
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.runtime import device_mesh
from ifanp_jax.training import dispatch, runs

MEBIBYTE = 2**20
SECTIONS = ("training", "picture")
KNOWN_SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1)}  # of data that a configuration names only
OBSERVED_SHARE = 0.4  # of the picture that is completed
DISPATCHES_PER_TURN = 2
GEMM_RUNS = 15


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long and how large the measurements are.

    Attributes:
      num_turns: of the training step, in the loop and alone.
      num_images: random training images.
      num_pictures: completions that are timed after the first, which compiles.
      gemm_size: rows of the matrix product; 0 = 2048 on a CPU, else 8192.
    """

    num_turns: int = 12
    num_images: int = 10_000
    num_pictures: int = 3
    gemm_size: int = 0


FULL_EFFORT = Effort()


def define_flags() -> dict[str, flags.FlagHolder]:
    """The flags by name, beside those of every command."""
    flags.adopt_module_key_flags(command_line)  # --help lists them too
    return {
        "image_size": flags.DEFINE_integer(
            "image_size", 0, "Side of the training images in pixels; 0 = as configured."
        ),
        "channels": flags.DEFINE_integer("channels", 0, "Of the images, 1 or 3; 0 = as configured."),
        "picture_size": flags.DEFINE_integer(
            "picture_size", 256, "Side in pixels of the picture that is completed.", lower_bound=1
        ),
        "only": flags.DEFINE_enum("only", None, SECTIONS, "Measure the training or the picture alone."),
        "output": flags.DEFINE_string("output", "", "File for all numbers, as JSON."),
    }


def main(given: dict[str, flags.FlagHolder]) -> None:
    """Measures what the flags of `define_flags` ask for, prints the table and writes the numbers."""
    config = command_line.get_config()
    if config is None:
        raise UserError("--config is missing; give a file such as configs/celeba_ifanp.py.")
    check_output(given["output"].value)
    config = prepare(config)
    image_shape = get_image_shape(
        config, image_size=given["image_size"].value, channels=given["channels"].value
    )
    command_line.start_jax()
    logging.getLogger("ifanp_jax").setLevel(logging.WARNING)  # progress means nothing here
    sections = (given["only"].value,) if given["only"].value else SECTIONS
    result = run(config, image_shape, sections=sections, picture_size=given["picture_size"].value)
    print("\n".join(list_lines(result)))
    write(given["output"].value, result)


def check_output(path: str) -> None:
    """Refuses an --output that lies in no folder, before anything is measured; "" = none is asked for."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise UserError(f"--output={path} lies in no folder that exists; make {folder} first.")


def write(path: str, result: dict) -> None:
    """Writes numbers as JSON, where a path is given."""
    if path:
        files.write_whole(pathlib.Path(path), json.dumps(result, indent=2) + "\n")


def prepare(config: ConfigDict) -> ConfigDict:
    """A copy of the configuration as it is trained: with the fields of its protocol, and checked.

    Raises:
      UserError: when a value cannot work.
    """
    config = config.copy_and_resolve_references()
    configuration.prepare(config)
    return config


def get_image_shape(config: ConfigDict, *, image_size: int = 0, channels: int = 0) -> tuple[int, int, int]:
    """(H, W, C) as given, else as configured, else by the name of the data.

    Raises:
      UserError: when none of these tells it.
    """
    known = KNOWN_SHAPES.get(config.data.name, (0, 0, 0))
    side = image_size or config.data.image_size or known[0]
    channels = channels or config.data.channels or known[2]
    if not side or channels not in (1, 3):
        raise UserError(
            f"The configuration does not tell the size of the images of {config.data.name!r}; give "
            "--image_size=PIXELS and --channels=1 or 3."
        )
    return side, side, channels


def run(
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    *,
    sections: Sequence[str] = SECTIONS,
    picture_size: int = 256,
    effort: Effort = FULL_EFFORT,
) -> dict:
    """Measures a configuration.

    Args:
      config: from `prepare`.
      image_shape: (H, W, C) of the training images.
      sections: of SECTIONS.
      picture_size: side of the picture in pixels.
      effort: how long and how large.

    Returns:
      What `--output` holds: facts of the machine, `gemm`, and an entry for each section.
    """
    if jax.process_count() > 1:
        raise UserError("The benchmark measures one process; start it on one machine alone.")
    new = runs.make(config, image_shape)
    result = describe(new) | {"gemm": measure_gemm(get_dtype(config), effort)}
    if "picture" in sections:  # first: the peak of memory is that of the process so far
        result["picture"] = measure_picture(new, picture_size, num_later=effort.num_pictures)
    if "training" in sections:
        result["training"] = measure_training(config, image_shape, effort)
        rate = result["training"]["gflops_per_second"] / result["gemm"]["gflops_per_second"]
        # The devices of a CPU share its cores, which the matrix product has to itself.
        result["training"]["gemm_share"] = rate / (
            1 if jax.default_backend() == "cpu" else jax.device_count()
        )
    return result


def describe(run: runs.Run) -> dict:
    """What every figure must be read with: device, dtype, batch, versions."""
    config, device = run.config, jax.devices()[0]
    return {
        "device": cpu_name() if device.platform == "cpu" else device.device_kind,
        "num_devices": jax.device_count(),
        "dtype": get_dtype(config),
        "model": config.model.name,
        "image_shape": list(run.image_shape),
        "batch_size": config.train.batch_size,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def get_dtype(config: ConfigDict) -> str:
    """Of the products of a model."""
    return config.model.get("compute_dtype", "float32")


def cpu_name() -> str:
    """What the processor is called, and its cores."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or 'CPU'}, {os.cpu_count()} cores"


def measure_gemm(dtype: str, effort: Effort) -> dict:
    """GFLOP/s of one large square matrix product: what the device's best is taken to be."""
    size = effort.gemm_size or (2048 if jax.default_backend() == "cpu" else 8192)
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    multiply = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    seconds = []
    for _ in range(1 + GEMM_RUNS):
        started = time.monotonic()
        jax.block_until_ready(multiply(matrix, matrix))
        seconds.append(time.monotonic() - started)
    return {"size": size, "gflops_per_second": 2 * size**3 / statistics.median(seconds[1:]) / 1e9}


class StepMeter:
    """Takes the place of the steps of a training, and times them in turns: in its loop, and alone.

    The loop costs a small part of a step, and the speed of a machine drifts: so turns are compared in pairs.
    """

    def __init__(self, train_steps: Callable):
        """Takes the steps of `dispatch.make_train_steps`."""
        self.in_loop, self.alone = [], []  # milliseconds per step, turn by turn
        self.compile_seconds = self.temporary_mib = float("nan")
        self._train_steps, self._program = train_steps, None
        self._num_calls, self._started = 0, 0.0

    def __call__(self, state, images, num_steps):
        """Does the steps, as `train_steps` does."""
        if self._program is None:
            self._compile(state, images, num_steps)
        turn, is_within = divmod(self._num_calls, DISPATCHES_PER_TURN)
        if not is_within:
            jax.block_until_ready(state)
            if turn > 1:  # the first turn warms up
                self.in_loop.append(self._since_start(num_steps))
                self.alone.append(self._time_alone(state, images, num_steps))
            self._started = time.monotonic()
        self._num_calls += 1
        return self._program(state, images)

    def _compile(self, state, images, num_steps):
        started = time.monotonic()
        self._program = self._train_steps.lower(state, images, num_steps).compile()
        self.compile_seconds = time.monotonic() - started
        if analysis := self._program.memory_analysis():
            self.temporary_mib = analysis.temp_size_in_bytes / MEBIBYTE

    def _time_alone(self, state, images, num_steps):
        state = jax.block_until_ready(jax.tree.map(jnp.copy, state))  # the loop needs its own
        self._started = time.monotonic()
        for _ in range(DISPATCHES_PER_TURN):
            state, _ = self._program(state, images)
        jax.block_until_ready(state)
        return self._since_start(num_steps)

    def _since_start(self, num_steps):
        return 1e3 * (time.monotonic() - self._started) / DISPATCHES_PER_TURN / num_steps


def measure_training(config: ConfigDict, image_shape: tuple[int, int, int], effort: Effort) -> dict:
    """Times, rates, compilation and memory of the training step, and what the loop costs beside it."""
    new = runs.make(config, image_shape)
    new = dataclasses.replace(new, state=runs.abstract_state(new))
    num_flops, batch_size = dispatch.count_step_flops(new), config.train.batch_size
    steps_per_dispatch = dispatch.choose_steps_per_dispatch(new, ())
    num_steps = steps_per_dispatch * (DISPATCHES_PER_TURN * (1 + effort.num_turns) + 1)
    config = config.copy_and_resolve_references()
    config.train.update(
        steps_per_dispatch=steps_per_dispatch, num_steps=num_steps, log_every=steps_per_dispatch,
        validate_every=0, checkpoint_every=num_steps, checkpoint_minutes=0.0, keep_every=0, init_from="",
    )  # fmt: skip
    images = random_images(effort.num_images, image_shape)
    meter = StepMeter(_make_steps(config, image_shape, images))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Dataset("random bytes", images, images)
        training.run(config, pathlib.Path(folder) / "run", dataset, wrap_steps=lambda _: meter)
    alone, overheads = meter.alone, [a / b - 1 for a, b in zip(meter.in_loop, meter.alone, strict=True)]
    seconds = statistics.median(alone) / 1e3
    return {
        "milliseconds": statistics.median(alone),
        "milliseconds_range": [min(alone), max(alone)],
        "images_per_second": batch_size / seconds,
        "steps_per_dispatch": steps_per_dispatch,
        "mflops_per_image": num_flops / batch_size / 1e6,
        "gflops_per_second": num_flops / seconds / 1e9,
        "loop_overhead": statistics.median(overheads),
        "compile_seconds": meter.compile_seconds,
        "temporary_mib": meter.temporary_mib,
        "peak_mib": peak_mib(),
    }


def _make_steps(config, image_shape, images):
    """The steps to compile, as the loop of the training makes them."""
    streams, new = dispatch.make_streams(config.seed), runs.make(config, image_shape)
    mesh = device_mesh.make_mesh(batch_size=config.train.batch_size)
    is_streamed = dispatch.must_stream(config, images, mesh)
    return dispatch.make_train_steps(streams, new, mesh=mesh, num_images=len(images), is_streamed=is_streamed)


def random_images(num_images: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Random bytes, uint8 (N, H, W, C)."""
    return np.random.default_rng(0).integers(0, 256, (num_images, *image_shape), np.uint8)


def measure_picture(new: runs.Run, size: int, *, num_later: int = 3) -> dict:
    """Seconds of the first completion of a square picture, which compiles, and of later ones; peak memory.

    One answer of one round: the best estimate.
    """
    init = jax.jit(lambda key: new.step.init(key, new.image_shape))
    model = dataclasses.replace(new, state=init(jax.random.key(new.config.seed))).model
    generator = np.random.default_rng(0)
    image = generator.random((size, size, new.image_shape[-1]), np.float32)
    mask = generator.random((size, size, 1)) < OBSERVED_SHARE
    seconds = []
    for _ in range(1 + num_later):
        started = time.monotonic()
        model.complete(image, mask, num_samples=1, rounds=1)
        seconds.append(time.monotonic() - started)
    later = statistics.median(seconds[1:])
    return {"size": size, "first_seconds": seconds[0], "seconds": later, "peak_mib": peak_mib()}


def peak_mib() -> float:
    """Most memory used so far, in MiB: of the device, or on a CPU of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", memory.process_peak_bytes()) / MEBIBYTE


def list_lines(result: dict) -> list[str]:
    """The rows of a result as lines for a terminal."""
    rows = list_rows(result)
    width = max(len(what) for what, _ in rows)
    return [f"{what:<{width}}  {value}" for what, value in rows]


def list_rows(result: dict) -> list[tuple[str, str]]:
    """Pairs of what was measured and its value, of a result of `run`."""
    shape = "x".join(map(str, result["image_shape"]))
    rows = [
        ("model", f"{result['model']}, {shape}, batch {result['batch_size']}"),
        ("dtype", result["dtype"]),
        ("matrix product", f"{result['gemm']['gflops_per_second']:,.0f} GFLOP/s"),
    ]
    if entry := result.get("training"):
        low, high = entry["milliseconds_range"]
        rows += [
            ("training, images/s", f"{entry['images_per_second']:,.1f}"),
            ("step, ms", f"{entry['milliseconds']:.2f} ({low:.2f} to {high:.2f})"),
            ("GFLOP/s", f"{entry['gflops_per_second']:,.0f} ({entry['gemm_share']:.0%} of the product's)"),
            ("loop against step", f"{entry['loop_overhead']:+.1%}"),
            ("compiling, s", f"{entry['compile_seconds']:.1f}"),
            ("temporary, MiB", f"{entry['temporary_mib']:,.0f}"),
            ("peak of training, MiB", f"{entry['peak_mib']:,.0f}"),
        ]
    if entry := result.get("picture"):
        size = entry["size"]
        rows += [
            (f"picture {size}x{size}, s", f"{entry['seconds']:.3f} (first {entry['first_seconds']:.2f})"),
            ("peak of the picture, MiB", f"{entry['peak_mib']:,.0f}"),
        ]
    device = f"{result['num_devices']} x {result['device']}"
    return [*rows, ("machine", f"{device}, jax {result['jax']}, Python {result['python']}")]


if __name__ == "__main__":
    GIVEN = define_flags()
    command_line.run(lambda: main(GIVEN))
