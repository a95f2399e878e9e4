"""Completion without learning as a peer: OpenCV's Telea and scikit-image's biharmonic inpainting."""

from ifanp_jax.classical import interpolation, opencv


class Peer:
    """One method."""

    is_compiled = True

    def __init__(self, task, arrays):
        """Takes what `peers.write_task` wrote."""
        self.method = task["model"]
        self.picture, self.mask = arrays["picture"][0], arrays["picture_mask"][0]
        self.facts = {"num_parameters": 0, "version": ""}

    def train_step(self):
        """There is nothing to train."""
        raise NotImplementedError("nothing to train")

    def complete(self):
        """Completes the picture once."""
        module = opencv if self.method in opencv.METHODS else interpolation
        module.complete(self.method, self.picture, self.mask)

    def terms(self):
        """There are none."""
        raise NotImplementedError("no terms")
