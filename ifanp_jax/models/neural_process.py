"""What the neural processes share: a likelihood with its fields."""

import jax

from ifanp_jax.models import heads
from ifanp_jax.models.base import ImageModel, Terms


class NeuralProcess(ImageModel, kw_only=True):
    """A model whose outputs become a likelihood by `self.head`, a `heads.GaussianHead`.

    A model without a latent variable writes `complete` and `completion_bytes` alone.

    Attributes:
      likelihood: of `heads.GaussianHead`. A fixed sigma keeps z in use, so that samples differ; with one per
        pixel the KL falls to 0 and samples are all alike.
      sigma: the fixed value, or where a learned one starts, in intensities [0, 1].
      sigma_floor: lower bound of a sigma that is not fixed; it caps the log-likelihood.
      scale_weight: weight of the scale's log-likelihood under "per_image".
      has_covariance: under "per_image", correlated channels of a pixel.
    """

    likelihood: str = "fixed"
    sigma: float = 0.1
    sigma_floor: float = 0.01
    scale_weight: float = 0.1
    has_covariance: bool = False

    def __post_init__(self):
        """Checks the fields."""
        heads.check_likelihood(self)
        super().__post_init__()

    def setup(self):
        """Builds the head; a model with a `setup` of its own calls this first."""
        self.head = heads.GaussianHead(
            channels=self.channels,
            likelihood=self.likelihood,
            sigma=self.sigma,
            sigma_floor=self.sigma_floor,
            scale_weight=self.scale_weight,
            has_covariance=self.has_covariance,
        )

    def __call__(
        self, image: jax.Array, mask: jax.Array, *, train: bool, num_samples: int = 1, target: str = "all"
    ) -> Terms:
        """Returns the terms of the log-likelihood of a completion: there is no latent variable."""
        del train
        completion = self.complete(image, mask, num_samples=num_samples)
        return self.head.terms(image, mask, completion, target=target)

    def sample_latent(self, gaussian: heads.Gaussian, *, train: bool, num_samples: int) -> jax.Array:
        """Draws z by `heads.sample_latent` from the rng stream `sample`; float32 (S, B, Z)."""
        return heads.sample_latent(self.make_rng("sample"), *gaussian, train=train, num_samples=num_samples)

    @property
    def distribution(self) -> str:
        """Of a pixel around the mean, see `Completion.distribution`."""
        return "student_t" if self.likelihood == "per_image" else "normal"

    @property
    def has_samples_by_rounds(self) -> bool:
        """Whether it was trained to know the scale at every pixel, and of colours the covariance too.

        Independent channels would make coloured noise.
        """
        is_trained = self.likelihood == "per_pixel" or (
            self.likelihood == "per_image" and self.scale_weight > 0
        )
        return is_trained and (self.has_covariance or self.channels == 1)
