"""What only IFANP and its variants have."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.modules import gca
from tests import helpers
from tests.models.table import SHAPE, build, make_model

VARIANTS = ["IFNP", "IFANP_LPA", "IFANP_SENet", "IFANP_GCA", "IFANP"]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_divergence_is_that_of_the_full_image_from_the_context(name):
    variables, answer = build(f"image_np.{name}")
    image, mask = helpers.images_and_masks(SHAPE)
    kl_per_dim = answer(image, mask, jax.random.key(5))[0].kl_per_dim
    model = make_model(f"image_np.{name}")
    latent = jax.jit(functools.partial(model.apply, variables, method="latent"))
    (mean, scale), (context_mean, context_scale) = latent(image, jnp.ones_like(mask)), latent(image, mask)
    # KL(N(m, s^2) || N(n, t^2)) = log(t / s) + (s^2 + (m - n)^2) / (2 t^2) - 1 / 2
    squares = np.square(scale) + np.square(mean - context_mean)
    expected = np.log(context_scale / scale) + squares / (2 * np.square(context_scale)) - 0.5
    np.testing.assert_allclose(kl_per_dim, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_deterministic_path_is_there_or_not(name):
    variables, _ = build(f"image_np.{name}")
    image, mask = helpers.images_and_masks(SHAPE)
    model = make_model(f"image_np.{name}")
    features = jax.eval_shape(functools.partial(model.apply, method="deterministic"), variables, image, mask)
    if name in ("IFANP_GCA", "IFANP"):
        assert features.shape == (3, *SHAPE[:2], 8)
    else:
        assert features is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gca_embedding": "sparkling"}, "gca_embedding is 'sparkling'; choose one of mlp, linear"),
        ({"gca_heads": 3}, r"gca_heads is 3; it must divide config\.model\.width, which is 8"),
        ({"gca_blocks": 0}, "gca_blocks is 0; it must be at least 1"),
        ({"se_reduction": 0}, "se_reduction is 0; it must be at least 1"),
        ({"encoder_depth": -1}, "encoder_depth is -1; it must be at least 0"),
        ({"decoder_depth": -1}, "decoder_depth is -1; it must be at least 0"),
    ],
)
def test_fields_that_cannot_work_are_told(fields, message):
    with pytest.raises(UserError, match=rf"config\.model\.{message}"):
        make_model("image_np.IFANP", **fields)


def test_attention_costs_its_similarity_matrices_up_to_a_block():
    without, one_head, two_heads = (
        make_model(f"image_np.{name}", gca_heads=num_heads).completion_bytes((32, 32))
        for name, num_heads in (("IFNP", 1), ("IFANP", 1), ("IFANP", 2))
    )
    assert one_head > without + 4 * 1024**2 and two_heads == one_head + 4 * 1024**2
    large = make_model("image_np.IFANP", gca_heads=2).completion_bytes((256, 256))
    assert large < 4 * (gca.MAX_ENTRIES + 256**2 * 10 * 8)  # made in blocks of targets
