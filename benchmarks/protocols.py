"""Log-likelihoods by the protocols of other papers, of a model that is trained, beside what they print.

    python -m benchmarks protocols --model=mnist28 --config=configs/mnist_multiscale.py \
        --config.protocol=npf --config.data.dir=TFDS_DIR --config.evaluate.num_images=200

| protocol | context of an image              | log-likelihood                                        |
|----------|----------------------------------|-------------------------------------------------------|
| npf      | 0 to 30 % of its pixels          | of its pixels and channels, a sum in nats per image   |
| tnp      | 3 to 197 pixels of 200           | of the rest of the 200, in nats per pixel             |

Both draw the number of pixels anew for each image, then the pixels, all by the seed. The model keeps the
likelihood that it was trained with. Rows with a floor raise its standard deviations to at least that, given
the channels before (`heads.raise_floor`): the notebooks of npf train with 0.01, the models that tnp compares
with 0.1, with 0.05 or with none.

One pass is the density of independent pixels; where there is a latent variable, the importance-weighted bound
with `evaluate.num_samples` samples from the context. By rounds (`models/rounds.py`) it is a joint density.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import configuration, metrics, objectives
from ifanp_jax.data import sampling
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import batches, tables
from ifanp_jax.evaluation.contexts import make_context
from ifanp_jax.inference import autoregressive, predict
from ifanp_jax.inference.model import Model
from ifanp_jax.models import heads

OWN = 0.0  # no floor but the model's own
NPF = configuration.PROTOCOLS["npf"]
NPF_FLOORS = (OWN, NPF["model.sigma_floor"])
TNP_POINTS, TNP_LEAST = 200, 3
TNP_FLOORS = (OWN, 0.01, 0.05, 0.1)
# By data: what the notebooks of the neural-process family print, nats per image, all pixels being target. Of
# their models with a latent variable only ConvLNP is without the target's pixels at test time.
NPF_PUBLISHED = {
    "celeb_a": {"CNP": 2560, "AttnCNP": 4828, "ConvCNP": 4768, "ConvLNP": 4859},
    "mnist": {"CNP": 2063, "AttnCNP": 2262, "ConvCNP": 2628, "ConvLNP": 2919},
}
DISTRIBUTIONS = {"normal": "Normal", "student_t": "Student's t"}


def run(trained: Model, dataset: Dataset, *, num_rounds: int) -> dict:
    """Measures a model by both protocols; by tnp only where the images have so many pixels.

    Args:
      trained: with its state, and the configuration of the evaluation.
      dataset: the first `config.evaluate.num_images` held-out images count.
      num_rounds: of the joint density.

    Returns:
      What `--output` holds.

    Raises:
      UserError: when the model has no scale.
    """
    config = trained.config
    images = dataset.evaluation[: config.evaluate.num_images or None]
    n, h, w, _ = images.shape
    seed = config.evaluate.seed
    result = {
        "model": config.model.name,
        "data": dataset.name,
        "eval_split": config.data.eval_split,
        "image_shape": list(images.shape[1:]),
        "num_images": n,
        "likelihood": config.model.get("likelihood"),
        "sigma": config.model.get("sigma"),
        "sigma_floor": config.model.get("sigma_floor"),
        "distribution": trained.module.distribution,
        "target": config.objective.target,
        "num_samples": config.evaluate.num_samples,
        "num_rounds": num_rounds,
        "seed": seed,
        "npf": measure_npf(trained, images, num_rounds=num_rounds),
        "npf_published": NPF_PUBLISHED.get(dataset.name, {}),
    }
    if h * w > TNP_POINTS:
        context, targets = draw_points(seed, (n, h, w))
        result["tnp"] = measure_tnp(trained, images, context, targets, num_rounds=num_rounds)
    return result


def draw_points(
    seed: int, shape: tuple[int, int, int], *, num_points: int = TNP_POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Draws context and targets of tnp: image i has the same ones whatever its batch.

    Args:
      seed: of all images.
      shape: (N, H, W).
      num_points: context and targets of an image together, each TNP_LEAST at least.

    Returns:
      Both bool (N, H, W, 1), without a pixel in common.
    """
    n, h, w = shape
    context, targets = np.zeros((2, n, h * w), bool)
    for index in range(n):
        generator = np.random.default_rng((seed, index))
        points = generator.permutation(h * w)[:num_points]
        count = generator.integers(TNP_LEAST, num_points - TNP_LEAST, endpoint=True)
        context[index, points[:count]] = True
        targets[index, points[count:]] = True
    return context.reshape(n, h, w, 1), targets.reshape(n, h, w, 1)


def measure_npf(trained: Model, images: np.ndarray, *, num_rounds: int) -> list[dict]:
    """The rows of npf, one for each floor: nats per image, with their 95 % intervals over images."""
    config = trained.config.evaluate
    fraction = NPF["evaluate.uniform_fraction"]
    context = make_context("uniform", images.shape[:3], fraction=fraction, seed=config.seed).masks
    floors = _above_own(trained, NPF_FLOORS)
    found = _measure(trained, images, context, ~context, floors, num_rounds)
    return _list_rows(found, floors, config.seed)


def measure_tnp(
    trained: Model, images: np.ndarray, context: np.ndarray, targets: np.ndarray, *, num_rounds: int
) -> list[dict]:
    """The rows of tnp, one for each floor: nats per target pixel, with their 95 % intervals over images.

    Args:
      trained: with its state.
      images: uint8 (N, H, W, C).
      context: bool (N, H, W, 1), True = observed.
      targets: bool (N, H, W, 1), no pixel of the context.
      num_rounds: of the joint density.
    """
    floors = _above_own(trained, TNP_FLOORS)
    found = _measure(trained, images, context, targets, floors, num_rounds)
    count = targets.sum(axis=(1, 2, 3))[:, None]
    found = {name: found[name] / count for name in ("one_pass", "by_rounds")}
    return _list_rows(found, floors, trained.config.evaluate.seed)


def _above_own(trained, floors):
    """The model's own floor, and those above it."""
    own = trained.config.model.get("sigma_floor", 0)
    return tuple(floor for floor in floors if floor == OWN or floor > own)


def _list_rows(found, floors, seed):
    """Means over images of values (N, F) by name, one row per floor."""
    rows = []
    for index, floor in enumerate(floors):
        row = {"floor": floor}
        for name, value in found.items():
            interval = metrics.bootstrap_interval(value[:, index], seed=seed)
            row |= {name: float(value[:, index].mean()), f"{name}_interval": list(interval)}
        rows.append(row)
    return rows


def _measure(trained, images, context, targets, floors, num_rounds) -> dict[str, np.ndarray]:
    """Log-likelihoods (N, F): `one_pass` and `by_rounds` of the targets, and `..._all` with the context."""
    config, model = trained.config.evaluate, trained.module
    pass_key, rounds_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 3))

    def measure(variables, image, masks):
        image, mask, wanted = sampling.to_float(image), masks[..., :1], masks[..., 1:]
        completion = predict.complete_batch(
            pass_key, model, variables, image, mask, num_samples=config.num_samples
        )
        if completion.scale is None:
            raise UserError(f"{trained.config.model.name} has no scale, so it has no log-likelihood.")
        joint = autoregressive.log_probs_by_rounds(
            rounds_key, model, variables, image, mask, rounds=num_rounds, targets=wanted, floors=floors
        )
        one_pass, with_context, context = (
            _one_pass(image, completion, counted, floors=floors) for counted in (wanted, wanted | mask, mask)
        )
        return {
            "one_pass": one_pass.T,
            "by_rounds": joint.T,
            "one_pass_all": with_context.T,
            "by_rounds_all": (context + joint).T,
        }

    masks = np.concatenate([context, targets], axis=-1)
    return batches.measure(measure, trained.variables, images, masks, batch_size=config.batch_size)


@functools.partial(jax.jit, static_argnames="floors")
def _one_pass(image, completion, targets, *, floors):
    """The importance-weighted bound of the targets under each floor, float32 (F, B)."""
    raised = [heads.raise_floor(completion, floor) for floor in floors]
    log_probs = [heads.completion_log_prob(image, answer, targets) for answer in raised]
    return jnp.stack([objectives.importance_weighted_bound(log_prob) for log_prob in log_probs])


def list_lines(result: dict) -> list[str]:
    """The lines of caption and tables, in Markdown, of a result of `run`."""
    by_rounds = f"{result['num_rounds']} rounds"
    lines = [caption(result), "", "npf, nats per image:", ""]
    head = ["", "floor", "unobserved pixels, one pass", by_rounds, "all pixels, one pass", by_rounds]
    names = ("one_pass", "by_rounds", "one_pass_all", "by_rounds_all")
    rows = [
        ["this model", _show_floor(row), *(_show(row, name, ",.0f") for name in names)]
        for row in result["npf"]
    ]
    rows += [
        [name, f"{NPF_FLOORS[-1]:g}", "", "", f"{value:,}", ""]
        for name, value in result["npf_published"].items()
    ]
    lines += tables.markdown_table(head, rows)
    if "tnp" not in result:
        return [*lines, "", f"tnp is left out: the images have no more than its {TNP_POINTS} pixels."]
    rows = [
        [_show_floor(row), _show(row, "one_pass", ".2f"), _show(row, "by_rounds", ".2f")]
        for row in result["tnp"]
    ]
    lines += ["", "tnp, nats per target pixel:", ""]
    return lines + tables.markdown_table(["floor", "one pass", by_rounds], rows)


def caption(result: dict) -> str:
    """What the numbers are, in sentences on one line."""
    return (
        f"{result['model']} on {result['data']} {tables.show_shape(result)}, {result['num_images']} held-out "
        f"images (split {result['eval_split']}); likelihood {tables.show_likelihood(result)}, "
        f"{DISTRIBUTIONS[result['distribution']]}; trained with the target {result['target']}. Contexts, "
        f"order and draws come from seed {result['seed']}. One pass with a latent variable is a bound by "
        f"{result['num_samples']} samples. In brackets: 95 % intervals over images."
    )


def _show_floor(row):
    return "its own" if row["floor"] == OWN else f"{row['floor']:g}"


def _show(row, name, form):
    low, high = row[f"{name}_interval"]
    return f"{row[name]:{form}} ({low:{form}} to {high:{form}})"
