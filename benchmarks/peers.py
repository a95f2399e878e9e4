"""Our models beside other implementations, in one run on one machine.

    python -m benchmarks peers --peers_python=/path/to/venv/bin/python --output=peers.json

Peers are the same networks in PyTorch (`peer_scripts/torch_networks.py`; each run checks that they give the
same terms, loss and gradient from the same weights), the package dl4bi with its own settings, and, for
completion, OpenCV and scikit-image. `--peers_python` names a Python in which some of them are installed
(`pip install torch dl4bi jax`); it may be repeated. What is installed nowhere is left out by name.

All members of a family see the same images, contexts and targets, and use all cores of the process. They take
turns, A B A B, and each trains for some seconds in its turn.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import platform
import statistics
import tempfile

import jax
import numpy as np
from flax import traverse_util

from benchmarks.peer_processes import NEEDS, Peer, Worker, find_python
from ifanp_jax import benchmark, presets
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import tables
from ifanp_jax.models import parameters
from ifanp_jax.training import runs

logger = logging.getLogger(__name__)

LARGEST_DIFFERENCE = 1e-4  # of terms from the same weights, relative; float32 gives about 1e-6
SEED = 0


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long and how large the comparison is.

    Attributes:
      turns: of each member.
      seconds: of one turn.
      batch_size: images of a step.
      observed: share of the pixels that are context, in training.
      picture_size: of the picture that is completed, in pixels.
      picture_observed: share of its pixels that is observed.
      families: names of FAMILIES; () = all.
      model_fields: of all our models, by name; {} = as configured.
    """

    turns: int = 3
    seconds: float = 6.0
    batch_size: int = 16
    observed: float = 0.3
    picture_size: int = 256
    picture_observed: float = 0.4
    families: tuple[str, ...] = ()
    model_fields: dict = dataclasses.field(default_factory=dict)


FULL_EFFORT = Effort()


@dataclasses.dataclass(frozen=True)
class Family:
    """What is compared with what.

    Attributes:
      config: as --config takes it; "" = nothing of ours.
      torch: layouts in which the same network runs in PyTorch.
      shapes: cheaper ones of our network, by what they lack; and the fields that make them.
      others: kind and name of the other members.
    """

    config: str = ""
    torch: tuple[str, ...] = ()
    shapes: tuple[tuple[str, dict], ...] = ()
    others: tuple[tuple[str, str], ...] = ()


FAMILIES = {
    "IFANP": Family("celeba:image_np.IFANP", ("channels_last", "contiguous")),
    "MultiscaleNP": Family(
        "celeba_multiscale",
        ("channels_last", "contiguous"),
        shapes=(("a block less at the coarsest level", {"down_blocks": (1, 1, 2, 1)}),),
    ),
    "ANP": Family("celeba:point_np.ANP", ("contiguous",), others=(("dl4bi", "ANP"), ("dl4bi", "TNPD"))),
    "CNP": Family("celeba:point_np.CNP", others=(("dl4bi", "CNP"),)),
    "no training": Family(others=(("opencv", "telea"), ("classical", "biharmonic"))),
}
HEAD = (
    "family", "implementation", "parameters", "training, images/s", "ours is faster by", "one picture, ms",
    "peak memory, MiB", "start, s (again)", "difference",
)  # fmt: skip


def run(*, pythons: tuple[str, ...] = (), effort: Effort = FULL_EFFORT) -> dict:
    """Measures every family.

    Returns:
      What `--output` holds: facts of the machine, `rows` and what was `left_out`, with the reason.
    """
    found = {kind: find_python(kind, pythons) for kind in NEEDS}
    result = {
        "device": f"{benchmark.cpu_name()}, {len(os.sched_getaffinity(0))} of them used",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "effort": dataclasses.asdict(effort),
        "rows": [],
        "left_out": {
            NEEDS[kind]: "it is installed in none of the Pythons; pip install it and name that one by "
            "--peers_python"
            for kind, python in found.items()
            if python is None
        },
    }
    for name in effort.families or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows = _measure_family(name, pathlib.Path(folder), found, effort, result["left_out"])
        ours = next((row for row in rows if row["kind"] == "ifanp_jax"), {})
        for row in rows:
            if ours.get("images_per_second") and row.get("images_per_second"):
                row["time_ratio"] = ours["images_per_second"] / row["images_per_second"]
        result["rows"] += rows
        logger.info("%s: measured %d implementations.", name, len(rows))
    return result


def _measure_family(name, folder, found, effort, left_out) -> list[dict]:
    members = make_members(name, folder, effort)
    with contextlib.ExitStack() as stack:
        workers = {}
        for peer in members:
            if found[peer.kind] is None:
                continue
            try:
                workers[peer] = stack.enter_context(_start_twice(peer, found[peer.kind]))
            except UserError as error:
                if peer.kind == "ifanp_jax":
                    raise
                left_out[f"{name}, {peer.name}"] = str(error)
        rows = [_describe(name, peer, worker) for peer, worker in workers.items()]
        for _ in range(effort.turns):
            for row, worker in zip(rows, workers.values(), strict=True):
                turn = worker.ask("train", seconds=effort.seconds)
                if "left_out" not in turn:
                    row["rates"].append(turn["images"] / turn["seconds"])
                    row["peak_mib"] = turn["peak_mib"]
        for row, worker in zip(rows, workers.values(), strict=True):
            _finish(row, worker, effort)
    return rows


def _start_twice(peer, python) -> Worker:
    """A worker whose compiled programs were kept by one before it."""
    cache = peer.folder / f"cache_{peer.kind}"
    with Worker(peer, python, cache=cache) as first:
        cold = first.facts["start_seconds"]
    worker = Worker(peer, python, cache=cache)
    worker.facts["cold_seconds"] = cold
    return worker


def _describe(family, peer, worker):
    facts = worker.facts
    row = {
        "family": family,
        "name": peer.name,
        "kind": peer.kind,
        "version": facts["version"],
        "threads": facts["threads"],
        "num_parameters": facts["num_parameters"],
        "cold_seconds": facts["cold_seconds"],
        "warm_seconds": facts["start_seconds"],
        "rates": [],
    }
    if peer.kind == "torch":
        worker.ask("check")
        row["difference"] = largest_difference(peer.folder)
        if not row["difference"] < LARGEST_DIFFERENCE:
            raise UserError(
                f"The network {family} in PyTorch differs from ours by {row['difference']:.1e} of its terms; "
                "a comparison of their speed would mean nothing."
            )
    return row


def _finish(row, worker, effort):
    """Adds the median rate and the time of a picture."""
    if row["rates"]:
        row["images_per_second"] = statistics.median(row["rates"])
    completion = worker.ask("complete", seconds=effort.seconds / 2)
    if "left_out" in completion:
        row["no_picture"] = completion["left_out"]
        return
    row["picture_milliseconds"] = statistics.median(completion["milliseconds"])
    row["picture_peak_mib"] = completion["peak_mib"]
    row.setdefault("peak_mib", completion["peak_mib"])


def make_members(name: str, folder: pathlib.Path, effort: Effort) -> list[Peer]:
    """Writes the tasks of a family and lists who does them."""
    family, arrays, members = FAMILIES[name], make_arrays(effort), []
    if family.config:
        run = make_run(family, effort)
        weights = draw_weights(run)
        arrays["noise"], expected = expect(run, weights, arrays)
        record, ours = _make_task(run, weights)
        members.append(_write_task(folder / "ours", "this package", "ifanp_jax", record, arrays | ours))
        for layout in family.torch:
            task = record | {"layout": layout}
            label = f"PyTorch, {layout.replace('_', ' ')}" if len(family.torch) > 1 else "PyTorch"
            members.append(_write_task(folder / layout, label, "torch", task, arrays | ours))
            np.savez(folder / layout / "expected.npz", **expected)
        for number, (lack, fields) in enumerate(family.shapes):
            other = make_run(family, dataclasses.replace(effort, model_fields=effort.model_fields | fields))
            task, others = _make_task(other, draw_weights(other))
            place = folder / f"shape_{number}"
            members.append(_write_task(place, f"this package, {lack}", "ifanp_jax", task, arrays | others))
    for kind, model in family.others:
        label = f"{NEEDS[kind]} {model}"
        members.append(_write_task(folder / model, label, kind, {"model": model}, arrays))
    return members


def _make_task(run, weights) -> tuple[dict, dict]:
    """What a peer is told of a training, and its weights as arrays."""
    task = {"record": runs.make_record(run.config, run.image_shape), "model": run.config.model.name}
    task |= {"fields": run.config.model.to_dict(), "per_value": run.config.objective.per_value}
    flat = traverse_util.flatten_dict(weights, sep="/")
    return task, {f"weights/{path}": np.asarray(x) for path, x in flat.items()}


def _write_task(folder, name, kind, task, arrays) -> Peer:
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps(task | {"seed": SEED}))
    np.savez(folder / "task.npz", **arrays)
    return Peer(name, kind, folder)


def make_run(family: Family, effort: Effort) -> runs.Run:
    """The training of our member of a family with a configuration, by Adam."""
    config = presets.load(family.config)
    known = {field: value for field, value in effort.model_fields.items() if field in config.model}
    config.model.update(known)
    config.train.update(optimizer="adam", ema_decay=0.0, weight_decay=0.0, batch_size=effort.batch_size)
    return runs.make(benchmark.prepare(config), (32, 32, 3))


def make_arrays(effort: Effort) -> dict[str, np.ndarray]:
    """Random images and contexts, the same for all: `image`, `mask`, `picture` and `picture_mask`."""
    generator, side = np.random.default_rng(SEED), effort.picture_size

    def draw(shape, share):
        num_pixels = shape[1] * shape[2]
        ranks = generator.random((shape[0], num_pixels)).argsort(axis=1)
        mask = (ranks < round(share * num_pixels)).reshape(*shape[:3], 1)
        return generator.random(shape, np.float32), mask

    image, mask = draw((effort.batch_size, 32, 32, 3), effort.observed)
    picture, picture_mask = draw((1, side, side, 3), effort.picture_observed)
    return {"image": image, "mask": mask, "picture": picture, "picture_mask": picture_mask}


def draw_weights(run: runs.Run) -> dict:
    """Random parameters under which no layer is zero, as some are at the start."""
    shapes = parameters.abstract_variables(run.module, run.image_shape)["params"]
    generator = np.random.default_rng(SEED)

    def draw(x):
        spread = min(0.1, 1 / np.sqrt(np.prod(x.shape[:-1])))
        return generator.normal(0, spread, x.shape).astype(np.float32)

    return jax.tree.map(draw, shapes)


def expect(run: runs.Run, weights: dict, arrays: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The noise of the first step (B, Z), and our terms of it, its loss and the length of its gradient."""
    model, key = run.module, jax.random.key(SEED)
    image, mask = arrays["image"], arrays["mask"]
    rngs, latent_dim = {"sample": jax.random.fold_in(key, 0)}, run.config.model.get("latent_dim", 0)
    sample_key = model.apply({}, rngs=rngs, method=lambda module: module.make_rng("sample"))
    noise = jax.random.normal(sample_key, (1, len(image), latent_dim))[0]

    @jax.jit
    def compute(weights):
        target = run.config.objective.target
        terms = model.apply({"params": weights}, image, mask, train=True, target=target, rngs=rngs)
        state = run.step.init(key, run.image_shape).replace(params=weights)
        _, metrics = run.step.update(key, state, sampling.Batch(image=image[None], mask=mask[None]))
        return terms, metrics

    terms, metrics = jax.device_get(compute(weights))
    found = {
        "mean": terms.prediction, "scale": terms.scale, "reconstruction": terms.reconstruction,
        "kl": terms.kl, "loss": metrics["loss"], "grad_norm": metrics["grad_norm"],
    }  # fmt: skip
    return np.asarray(noise), {name: np.asarray(x) for name, x in found.items() if x is not None}


def largest_difference(folder: pathlib.Path) -> float:
    """The largest difference of the terms of a peer that was checked from ours, relative to the largest."""
    with (
        np.load(folder / "expected.npz", allow_pickle=False) as expected,
        np.load(folder / "answer.npz", allow_pickle=False) as answer,
    ):
        return max(
            float(np.abs(expected[name] - answer[name]).max() / max(1.0, np.abs(expected[name]).max()))
            for name in expected
        )


def list_lines(result: dict) -> list[str]:
    """The lines of caption and table, in Markdown, of a result of `run`."""
    effort = result["effort"]
    lines = [
        f"{result['device']}, jax {result['jax']}, Python {result['python']}: {effort['turns']} turns "
        f"each; batches of {effort['batch_size']} images 32x32x3, {effort['observed']:.0%} observed; a "
        f"picture of {effort['picture_size']} pixels a side, {effort['picture_observed']:.0%} observed.",
        "",
        *tables.markdown_table(HEAD, [_list_cells(row) for row in result["rows"]]),
    ]
    return lines + [f"Left out: {name}: {reason}" for name, reason in result["left_out"].items()]


def _list_cells(row):
    def show(name, form):
        return format(row[name], form) if name in row else ""

    rate = show("images_per_second", ",.1f")
    if rate:
        rate += f" ({min(row['rates']):,.1f} to {max(row['rates']):,.1f})"
    picture = show("picture_milliseconds", ",.0f") or row.get("no_picture", "")
    starts = f"{row['cold_seconds']:.1f} ({row['warm_seconds']:.1f})"
    parameters = f"{row['num_parameters']:,}" if row["num_parameters"] else ""
    ratio = show("time_ratio", ".2f") if row["kind"] != "ifanp_jax" else ""
    peak = show("peak_mib", ",.0f")
    difference = show("difference", ".0e")
    return [row["family"], row["name"], parameters, rate, ratio, picture, peak, starts, difference]
