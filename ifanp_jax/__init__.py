"""Image-faced (attentive) neural processes for image completion, in JAX and Flax.

`ifanp_jax.load("runs/digits").complete(image, mask, num_samples=8)` completes an image with a trained model.
"""

from ifanp_jax.errors import UserError
from ifanp_jax.version import __version__

__all__ = ["UserError", "__version__", "load"]


def load(workdir):
    """Loads the newest checkpoint of a training as a `complete.CompletionModel`.

    Args:
      workdir: the `--workdir` of a training.

    Raises:
      UserError: when there is no readable run.
    """
    from ifanp_jax import complete, runs  # here, so that importing the package stays cheap

    run = runs.load(workdir)
    return complete.CompletionModel(
        module=run.model,
        params=run.state.evaluation_params,
        config=run.config,
        step=int(run.state.step),
        image_shape=run.image_shape,
    )
