"""The training loop: state, compiled step, hooks. It names no model."""

import logging
import math
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from ifanp_jax import checkpoint, evaluate, optimizer, runs, state, steps, writers
from ifanp_jax.data import masks, sampling
from ifanp_jax.data.dataset import Dataset
from ifanp_jax.errors import UserError

logger = logging.getLogger(__name__)

VALIDATION_IMAGES = 256
VALIDATION_FRACTION = 0.4


def make_train_step(key: jax.Array, config: ConfigDict, model, tx) -> Callable:
    """Returns the compiled `step(state, images) -> (state, metrics)`: it makes its batch, donates the state.

    Args:
      key: PRNG key of the run.
      config: the whole configuration.
      model: Flax module.
      tx: the optimiser.
    """
    data_key, noise_key = jax.random.split(key)
    sample = sampling.make_sampler(
        data_key, masks.make_sampler(config.mask), batch_size=config.train.batch_size
    )
    elbo_step = steps.make_elbo_step(
        noise_key,
        model,
        tx,
        num_samples=config.objective.num_samples,
        target=config.objective.target,
        kl_weight=config.objective.kl_weight,
        ema_decay=config.train.ema_decay,
    )

    def step(state, images):
        return elbo_step(state, sample(images, state.step))

    return jax.jit(step, donate_argnums=0)


def run(config: ConfigDict, workdir: str | pathlib.Path, dataset: Dataset) -> state.TrainState:
    """Trains to `config.train.num_steps`, from the newest checkpoint of `workdir` or from the start.

    Args:
      config: as in `configs/default.py`, already checked.
      workdir: of this run; made where missing.
      dataset: images in host memory; the training part moves to the device as uint8.

    Returns:
      The final state.

    Raises:
      UserError: when the directory holds another model, or the loss is not finite.
    """
    workdir = pathlib.Path(workdir)
    image_shape = dataset.train.shape[1:]
    runs.check_same_model(workdir, config, image_shape)
    runs.warn_of_changes(workdir, config)
    _check_masks(config, image_shape)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{workdir} cannot be made ({error.strerror}); choose another --workdir.") from None
    runs.write(workdir, config, image_shape)

    init_key, step_key = jax.random.split(jax.random.key(config.seed))
    model, tx, init = runs.make_model(config, image_shape)
    train_step = make_train_step(step_key, config, model, tx)
    schedule = optimizer.learning_rate_schedule(config.train)

    with checkpoint.Checkpoints(
        workdir, num_kept=config.train.num_checkpoints, is_writer=True
    ) as checkpoints:
        if checkpoints.latest_step is None:
            train_state = jax.jit(init)(init_key)  # op by op it takes seconds
            logger.info("Fresh start in %s.", workdir)
        else:
            train_state = checkpoints.restore(jax.eval_shape(init, init_key))
            logger.info("Resumed %s at step %d.", workdir, train_state.step)
        logger.info(
            "%s on %s: %s parameters, %d training images %s, %s.",
            config.model.name,
            dataset.name,
            f"{state.count_parameters(train_state.params):,}",
            len(dataset.train),
            "x".join(map(str, image_shape)),
            jax.devices()[0].device_kind,
        )
        start = int(train_state.step)
        if start >= config.train.num_steps:
            logger.info("Nothing to train: step %d of %d is done.", start, config.train.num_steps)
        images = jax.device_put(dataset.train)
        validate = make_validation(config, model, dataset.evaluation[:VALIDATION_IMAGES])
        writer = writers.MetricWriter(workdir, step=start)
        progress = writers.Progress(config.train.num_steps, step=start)
        window, num_timed, timed_from = [], 0, time.monotonic()
        try:
            for step in range(start + 1, config.train.num_steps + 1):
                is_last = step == config.train.num_steps
                is_checkpoint = step % config.train.checkpoint_every == 0 or is_last
                train_state, metrics = train_step(train_state, images)
                window.append(metrics)
                num_timed += 1
                progress.advance()
                if step == start + 1:
                    jax.block_until_ready(metrics)
                    logger.info("Compiled and first step in %.1f s.", time.monotonic() - timed_from)
                    num_timed, timed_from = 0, time.monotonic()
                # Also at every checkpoint, so that a resumed run averages over the same steps.
                if step % config.train.log_every == 0 or is_checkpoint:
                    averages = _average(window)
                    _check_finite(step, averages, config.seed)
                    row = {f"train/{name}": value for name, value in averages.items()}
                    row["train/learning_rate"] = float(schedule(step - 1))
                    if num_timed:
                        steps_per_second = num_timed / (time.monotonic() - timed_from)
                        row["train/steps_per_second"] = steps_per_second
                        row["train/images_per_second"] = steps_per_second * config.train.batch_size
                    writer.write(step, row)
                    progress.show(step, row)
                    window = []
                if config.train.validate_every and (step % config.train.validate_every == 0 or is_last):
                    writer.write(step, validate(train_state))
                if is_checkpoint:
                    checkpoints.save(train_state)
                if not window:
                    num_timed, timed_from = 0, time.monotonic()
        finally:
            progress.close()
            writer.close()
    return train_state


def make_validation(config: ConfigDict, model, images: np.ndarray) -> Callable[[state.TrainState], dict]:
    """Returns `validate(state) -> {"val/psnr": ...}` on a few held-out images at one context fraction."""
    evaluate_images = evaluate.make_evaluation(config, model)
    contexts = evaluate.contexts(config.evaluate.seed, "random", VALIDATION_FRACTION, images.shape[:3])

    def validate(train_state):
        values = evaluate_images(train_state.evaluation_params, images, contexts)
        names = ("psnr", "psnr_completed", "psnr_unobserved", "mse", "kl", "log_prob")
        return {f"val/{name}": float(values[name].mean()) for name in names}

    return validate


def _average(window: list[dict[str, jax.Array]]) -> dict[str, float]:
    rows = jax.device_get(window)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _check_masks(config: ConfigDict, image_shape: tuple[int, int, int]) -> None:
    """Draws masks in the abstract: a mask file of another size is told before anything is written."""
    sample_mask = masks.make_sampler(config.mask)
    shape = (config.train.batch_size, *image_shape[:2])
    jax.eval_shape(lambda key: sample_mask(key, shape), jax.random.key(0))


def _check_finite(step: int, averages: dict[str, float], seed: int) -> None:
    for name in ("loss", "grad_norm"):
        if not math.isfinite(averages[name]):
            raise UserError(
                f"The {name} is {averages[name]} at step {step} (seed {seed}); lower "
                "config.train.learning_rate or clip with config.train.max_grad_norm=1, and go on from the "
                "last checkpoint in --workdir."
            )
