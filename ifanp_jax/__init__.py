"""Image-faced (attentive) neural processes for image completion, in JAX and Flax.

`ifanp_jax.load("runs/digits").complete(image, mask, num_samples=8)` completes an image with a trained model.
"""

from ifanp_jax.errors import UserError
from ifanp_jax.version import __version__

__all__ = ["UserError", "__version__", "load"]


def load(path):
    """Loads the newest checkpoint of a training, or an exported model, as a `completion.CompletionModel`.

    Args:
      path: the `--workdir` of a training, or the `--output` of `--mode=export`.

    Raises:
      UserError: when neither can be read there.
    """
    import pathlib

    from ifanp_jax.completion import export
    from ifanp_jax.completion import model as completion_model
    from ifanp_jax.training import runs  # here, so that importing the package stays cheap

    path = pathlib.Path(path).expanduser()
    if export.is_export(path):
        return export.read(path)
    run = runs.load(path)
    return completion_model.CompletionModel(
        module=run.model,
        params=run.state.evaluation_params,
        config=run.config,
        step=int(run.state.step),
        image_shape=run.image_shape,
    )
