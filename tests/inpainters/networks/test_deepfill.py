"""What is DeepFill's alone, on the small model of the table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import models
from ifanp_jax.inpainters.layers import contextual_attention
from ifanp_jax.inpainters.networks import deepfill
from tests.inpainters.table import IMAGES, MASKS, SIZE, abstract_variables, answer, make, variables_of

FULL, EMPTY = 0, 1  # of MASKS


@pytest.mark.parametrize(
    ("name", "side", "cells", "fields"),
    [
        ("deepfill.DeepFill", 256, 32, (2, (2, 4, 8, 16), 2)),
        ("deepfill.DeepFill64", 64, 16, (2, (1, 2, 4, 8), 1)),
        ("deepfill.DeepFill32", 32, 16, (1, (1, 2, 4, 8), 1)),
    ],
)
def test_forms_are_found_by_name_and_differ_in_their_defaults(name, side, cells, fields):
    model = models.get({"name": name}, channels=3)
    assert name in models.list_models() and (model.num_strided, model.dilations, model.rate) == fields
    image, mask = jnp.ones((2, side, side, 3)), jnp.ones((2, side, side, 1), bool)
    out, _ = jax.eval_shape(
        lambda key: model.init_with_output(key, image, mask, train=True), jax.random.key(0)
    )
    chex.assert_shape([out.prediction, out.raw, out.coarse], (2, side, side, 3))
    chex.assert_shape(out.attention, (2, cells, cells, 2))


def test_both_stages_are_clipped():
    variables = jax.tree.map(lambda leaf: np.float32(5) * leaf, variables_of("deepfill"))  # far out of range
    out = answer("deepfill", variables=variables)
    for raw in (out.raw, out.coarse):
        assert raw.min() == -1 and raw.max() == 1


def test_every_mask_gives_finite_gradients_to_all_parameters():
    model = make("deepfill")

    def loss(variables, image, mask):
        out = model.apply(variables, image, mask, train=True)
        target = 2 * jnp.where(mask, image, 0.5) - 1
        return jnp.abs(out.raw - target).mean() + jnp.abs(out.coarse - target).mean()

    gradients = jax.device_get(jax.jit(jax.grad(loss))(variables_of("deepfill"), IMAGES, MASKS))
    chex.assert_tree_all_finite(gradients)
    assert all(np.any(gradient) for gradient in jax.tree.leaves(gradients))


def test_the_refinement_sees_the_coarse_output_in_the_hole_alone():
    def shift(path, leaf):  # the last bias of the coarse network
        is_last = "coarse_decoder" in jax.tree_util.keystr(path) and leaf.shape == (3,)
        return leaf + np.float32(0.5) if is_last else leaf

    moved = jax.tree_util.tree_map_with_path(shift, variables_of("deepfill"))
    before, after = answer("deepfill"), answer("deepfill", variables=moved)
    assert (before.coarse != after.coarse).any(axis=(1, 2, 3)).all()
    assert (before.raw != after.raw).any(axis=(1, 2, 3)).tolist() == [image != FULL for image in range(8)]
    assert not before.attention[EMPTY].any()  # no patch can be copied


def test_attention_gets_its_options(monkeypatch):
    given = []

    def attend(features, known, **options):
        given.append((known.shape, options))
        return features, jnp.zeros((*features.shape[:3], 2))

    monkeypatch.setattr(contextual_attention, "attend", attend)
    model = make("deepfill", attention_scale=3.0, validity="fraction", rate=1)
    abstract_variables(model, (SIZE, SIZE))
    assert given == [((1, 4, 4, 1), {"rate": 1, "scale": 3.0, "validity": "fraction"})]


def test_mask_channels():
    x = jnp.arange(2 * SIZE**2, dtype=jnp.bfloat16).reshape(2, SIZE, SIZE, 1)
    channels = deepfill.add_mask_channels(x, MASKS[1:3])
    chex.assert_type(channels, jnp.bfloat16)
    np.testing.assert_array_equal(channels, np.concatenate([x, np.ones_like(x), ~MASKS[1:3]], axis=-1))


def test_a_large_picture_costs_more_memory_by_its_attention():
    whole, plain = (
        models.get({"name": "deepfill.DeepFill", "attention": attention}, channels=3)
        for attention in ("contextual", "none")
    )
    assert whole.completion_bytes((512, 512)) > 3 * whole.completion_bytes((256, 256))
    assert whole.completion_bytes((256, 256)) > plain.completion_bytes((256, 256))
