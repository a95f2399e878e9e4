"""Samples by autoregressive rounds under the test protocol, and the joint log-likelihood by rounds.

Of every cell the first `options.rounds_images` images are completed `options.num_samples`
times by `options.rounds` rounds, at the model's own temperature. Order and noise follow from
`options.seed` and are the same for all images, cells and models.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ifanp_jax import metrics
from ifanp_jax.data import sampling
from ifanp_jax.evaluation import batches
from ifanp_jax.evaluation.options import Options
from ifanp_jax.inference import autoregressive, predict
from ifanp_jax.inference.model import Model
from ifanp_jax.metrics import calibration

PREFIX = "rounds_"  # of the names of what is measured


def describe(options: Options) -> dict[str, int] | None:
    """What `evaluation.json` says of the samples by rounds; None where they are left out."""
    if not options.rounds:
        return None
    return {name: getattr(options, name) for name in ("rounds", "rounds_images", "num_samples", "seed")}


def evaluate_samples(
    model: Model, images: np.ndarray, masks: np.ndarray, options: Options
) -> dict[str, np.ndarray]:
    """Draws samples by rounds and measures them; the model must have a scale.

    Args:
      model: trained.
      images: uint8 (N, H, W, C); the first `options.rounds_images` count.
      masks: bool (N, H, W, 1), True = observed.
      options: say how.

    Returns:
      float32, one value per image and name: what `measure_samples` answers, and in nats per unobserved value
      the joint log-likelihood by rounds, `rounds_log_prob`, and by one round, `rounds_log_prob_one`.
    """
    key = jax.random.fold_in(jax.random.key(options.seed), 2)
    draws = {"num_samples": options.num_samples}

    def measure(variables, image, mask):
        image = sampling.to_float(image)
        drawn = autoregressive.complete_by_rounds(
            key, model.module, variables, image, mask, rounds=options.rounds, **draws
        )
        direct = predict.complete_batch(key, model.module, variables, image, mask, **draws)
        predicted, scale = jax.device_get((direct.samples, direct.scale))
        prediction = np.clip(predicted.mean(axis=0), 0, 1)
        deviation = predict.predictive_deviation(predicted, scale)
        values = dict(measure_samples(drawn, prediction, deviation, image, mask))
        num_values = np.maximum((~mask).sum(axis=(1, 2, 3)), 1) * image.shape[-1]
        for name, count in (("log_prob", options.rounds), ("log_prob_one", 1)):
            log_probs = autoregressive.log_probs_by_rounds(
                key, model.module, variables, image, mask, rounds=count
            )
            values[name] = log_probs[0] / num_values
        return {PREFIX + name: value for name, value in values.items()}

    # An image's samples are so many rows of one call: no more rows than elsewhere.
    batch_size = max(1, options.batch_size // options.num_samples)
    count = options.rounds_images
    return batches.measure(measure, model.variables, images[:count], masks[:count], batch_size=batch_size)


@jax.jit
def measure_samples(
    samples: jax.Array, prediction: jax.Array, deviation: jax.Array, image: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Measures samples beside the direct prediction.

    Args:
      samples: float32 (S, B, H, W, C) in [0, 1], observed pixels kept.
      prediction: float32 (B, H, W, C) in [0, 1], the best estimate.
      deviation: float32 (B, H, W, C), standard deviation around it.
      image: float32 (B, H, W, C) in [0, 1], the truth.
      mask: bool (B, H, W, 1), True = observed.

    Returns:
      float32 (B,) each. PSNR in dB, observed pixels kept: `psnr_one` of a sample (mean over samples),
      `psnr_best` of the best of S, `psnr_mean` of their mean, `psnr_direct` of the prediction. Over the
      unobserved pixels: `energy_score`; `rank_correlation` of `deviation` with the prediction's error, and
      `rank_correlation_samples` of the samples' distance from it; `gradient_energy` of a sample (mean over
      samples), `gradient_energy_direct` of the prediction, `gradient_energy_truth`.
    """
    prediction = metrics.keep_observed(prediction, image, mask)
    psnr = jax.vmap(metrics.psnr, (0, None))(samples, image)  # (S, B)
    error = jnp.abs(image - prediction)
    spread = jnp.sqrt(jnp.square(samples - prediction[None]).mean(axis=0))
    energies = jax.vmap(metrics.gradient_energy, (0, None))(samples, ~mask)
    return {
        "psnr_one": psnr.mean(axis=0),
        "psnr_best": psnr.max(axis=0),
        "psnr_mean": metrics.psnr(samples.mean(axis=0), image),
        "psnr_direct": metrics.psnr(prediction, image),
        "energy_score": metrics.energy_score(samples, image, ~mask),
        "rank_correlation": calibration.rank_correlation(deviation, error, ~mask),
        "rank_correlation_samples": calibration.rank_correlation(spread, error, ~mask),
        "gradient_energy": energies.mean(axis=0),
        "gradient_energy_direct": metrics.gradient_energy(prediction, ~mask),
        "gradient_energy_truth": metrics.gradient_energy(image, ~mask),
    }
