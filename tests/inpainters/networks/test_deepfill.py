import copy
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.inpainters.networks import deepfill

B, SIDE, C = 6, 16, 2
# Cells of 4 pixels, a grid of 4x4: seven patches are whole beside a box in a corner.
TINY = {"channels": C, "width": 4, "dilations": (1, 2, 1, 2), "rate": 1}


@functools.cache
def tiny(**fields):
    """Random variables of a small model, all of them away from 0, and its jitted answer."""
    model = deepfill.DeepFill(**{**TINY, **fields})
    shapes = jax.eval_shape(
        lambda key: model.init(key, draw_image(), draw_masks(), train=True), jax.random.key(1)
    )
    draw = np.random.default_rng(0).standard_normal
    variables = jax.tree.map(
        lambda leaf: np.float32(draw(leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 4))), shapes
    )
    return variables, jax.jit(lambda v, i, m: model.apply(v, i, m, train=False))


def draw_image():
    return np.random.default_rng(1).random((B, SIDE, SIDE, C), np.float32)


def draw_masks():
    """A box in a corner, one pixel, empty, full, a thin line that vanishes in the cells, random pixels."""
    mask = np.ones((B, SIDE, SIDE, 1), bool)
    mask[0, 8:, 8:] = False
    mask[1, 5, 6] = False
    mask[2] = False
    mask[4, :, 7] = False
    mask[5] = np.random.default_rng(2).random((SIDE, SIDE, 1)) < 0.3
    return mask


def corner_masks():
    """A box of half the side in each corner."""
    mask = np.ones((4, SIDE, SIDE, 1), bool)
    for image, (top, left) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8)]):
        mask[image, top : top + 8, left : left + 8] = False
    return mask


def count_parameters(model, side):
    image, mask = jnp.ones((1, side, side, model.channels)), jnp.ones((1, side, side, 1), bool)
    variables = jax.eval_shape(lambda key: model.init(key, image, mask, train=True), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    ("variant", "side", "fields", "expected"),
    [
        (deepfill.DeepFill, 256, {}, 3_601_542),
        (deepfill.DeepFill, 128, {}, 3_601_542),
        (deepfill.DeepFill64, 64, {}, 3_601_542),
        (deepfill.DeepFill32, 32, {}, 3_601_542),
        (deepfill.DeepFill, 256, {"branches": "paper"}, 3_767_558),
        (deepfill.DeepFill, 256, {"attention": "none"}, 2 * 1_448_227),
        (deepfill.DeepFill64, 64, {"attention": "appearance_flow"}, 3_601_542 + 9 * 128 * 2 + 2),
        (deepfill.DeepFill64, 64, {"attention": "spatial_transformer"}, 3_601_542 + 129 * 64 + 65 * 6),
    ],
)
def test_parameter_counts(variant, side, fields, expected):
    assert count_parameters(variant(channels=3, **fields), side) == expected


@pytest.mark.parametrize(
    ("variant", "side", "cells"),
    [(deepfill.DeepFill, 256, 32), (deepfill.DeepFill64, 64, 16), (deepfill.DeepFill32, 32, 16)],
)
def test_answers_of_every_size(variant, side, cells):
    model = variant(channels=3)
    image, mask = jnp.ones((2, side, side, 3)), jnp.ones((2, side, side, 1), bool)
    out, _ = jax.eval_shape(
        lambda key: model.init_with_output(key, image, mask, train=True), jax.random.key(0)
    )
    chex.assert_shape([out.prediction, out.raw, out.coarse], (2, side, side, 3))
    chex.assert_shape(out.attention, (2, cells, cells, 2))
    chex.assert_type([out.prediction, out.raw, out.coarse, out.attention], jnp.float32)


@pytest.mark.parametrize("attention", deepfill.ATTENTIONS)
def test_hidden_pixels_are_never_read(attention):
    variables, call = tiny(attention=attention)
    image, mask = draw_image(), draw_masks()
    poisoned = np.where(mask, image, np.nan)
    chex.assert_trees_all_equal(call(variables, image, mask), call(variables, poisoned, mask))


def test_completion_is_the_prediction_every_time():
    variables, call = tiny()
    image, mask = draw_image(), draw_masks()
    model = deepfill.DeepFill(**TINY)
    complete = functools.partial(model.apply, num_samples=3, method="complete")
    completion = jax.jit(complete)(variables, np.where(mask, image, np.nan), mask)
    assert completion.scale is None
    prediction = call(variables, image, mask).prediction
    np.testing.assert_allclose(
        completion.samples, np.broadcast_to(prediction, (3, *prediction.shape)), atol=1e-6
    )


def test_values_are_in_range():
    variables, call = tiny()
    variables = jax.tree.map(lambda leaf: 5 * leaf, variables)  # far out of it without clipping
    out = call(variables, draw_image(), draw_masks())
    for raw in (out.raw, out.coarse):
        assert raw.min() == -1 and raw.max() == 1
    np.testing.assert_allclose(out.prediction, (out.raw + 1) / 2)


def test_every_mask_gives_finite_values_and_gradients():
    variables, call = tiny()

    def loss(variables, image, mask):
        out = call(variables, image, mask)
        target = 2 * jnp.where(mask, image, 0.5) - 1
        return jnp.abs(out.raw - target).mean() + jnp.abs(out.coarse - target).mean()

    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    corners = np.concatenate([corner_masks(), draw_masks()[:2]])  # the same shape as the others
    for mask in (draw_masks(), corners):
        value, gradients = value_and_gradient(variables, draw_image(), mask)
        chex.assert_tree_all_finite((value, gradients))
    assert all(np.any(gradient) for gradient in jax.tree.leaves(gradients))


@pytest.mark.parametrize("attention", ["contextual", "spatial_transformer"])
def test_an_image_alone_is_answered_as_in_a_batch(attention):
    variables, call = tiny(attention=attention)
    image, mask = draw_image(), draw_masks()
    together = call(variables, image, mask)
    for one in range(B):
        alone = call(variables, image[one : one + 1], mask[one : one + 1])
        chex.assert_trees_all_close(alone, jax.tree.map(lambda x, i=one: x[i : i + 1], together), atol=1e-5)


def test_refinement_sees_the_composite_of_the_coarse_output():
    # The coarse output may change the refined one through the hole alone.
    variables, call = tiny()
    image, mask = draw_image(), draw_masks()
    changed = copy.deepcopy(variables)
    last = changed["params"]["coarse_decoder_6"]["Conv_0"]
    last["bias"] = last["bias"] + 0.5
    before, after = call(variables, image, mask), call(changed, image, mask)
    assert bool((before.coarse[3] != after.coarse[3]).any())
    np.testing.assert_array_equal(before.raw[3], after.raw[3])  # full mask
    assert bool((before.raw[2] != after.raw[2]).any())  # empty mask


def test_without_a_valid_patch_attention_changes_nothing():
    variables, call = tiny()
    _, hot = tiny(attention_scale=0.1)
    image, mask = draw_image(), draw_masks()
    out, other = call(variables, image, mask), hot(variables, image, mask)
    np.testing.assert_array_equal(out.raw[2], other.raw[2])  # empty mask: any temperature is the same
    assert not out.attention[2].any()
    for one in (0, 3):  # a box and a full mask
        assert bool((out.raw[one] != other.raw[one]).any())


def test_bfloat16_answers_in_float32():
    variables, call = tiny(compute_dtype="bfloat16")
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)
    out = call(variables, draw_image(), draw_masks())
    chex.assert_type([out.raw, out.coarse, out.prediction], jnp.float32)
    expected = tiny()[1](variables, draw_image(), draw_masks())
    np.testing.assert_allclose(out.coarse, expected.coarse, atol=0.1)


def test_sizes():
    model = deepfill.DeepFill(channels=3)
    assert model.takes_size((256, 128), (64, 64)) is None
    assert "multiples of 8" in model.takes_size((256, 100), (64, 64))
    assert deepfill.DeepFill64(channels=3).takes_size((100, 64), (64, 64)) is None
    assert deepfill.DeepFill32(channels=3).takes_size((30, 32), (32, 32)) is None
    assert deepfill.DeepFill(channels=3, attention="none").takes_size((100, 64), (64, 64)) is None
    assert model.completion_bytes((512, 512)) > 3 * model.completion_bytes((256, 256))
    with pytest.raises(UserError, match="multiples of 8"):
        count_parameters(model, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention": "gca"}, "attention is 'gca'.*contextual"),
        ({"branches": "both"}, "branches is 'both'"),
        ({"validity": "some"}, "validity is 'some'"),
        ({"compute_dtype": "int8"}, "compute_dtype is 'int8'"),
        ({"num_strided": 3}, "num_strided is 3.*between 1 and 2"),
        ({"width": 0}, "width is 0"),
        ({"width": 7}, "width is 7.*even"),
        ({"dilations": (1, 2)}, "four numbers"),
        ({"rate": 0}, "rate is 0"),
    ],
)
def test_a_bad_field_is_one_sentence(fields, message):
    with pytest.raises(UserError, match=message):
        deepfill.DeepFill(channels=3, **fields)


def test_variants_are_found_by_name_and_a_list_of_dilations_is_a_tuple():
    listed = [name for name in models.list_models() if name.startswith("deepfill.")]
    assert listed == ["deepfill.DeepFill", "deepfill.DeepFill64", "deepfill.DeepFill32"]
    model = models.get({"name": "deepfill.DeepFill", "dilations": [1, 2, 4, 8], "rate": 1}, channels=3)
    assert model == deepfill.DeepFill64(channels=3) and hash(model) == hash(deepfill.DeepFill64(channels=3))
