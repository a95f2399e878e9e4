"""What Shift-Net, its form with attention, GLCIC and Context Encoder have in common."""

import functools

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.inpainters.networks.context_encoder import ContextEncoder
from ifanp_jax.inpainters.networks.glcic import GLCIC
from ifanp_jax.inpainters.networks.se_shift_net import SEShiftNet
from ifanp_jax.inpainters.networks.shift_net import ShiftNet

SIZE = 16
MODELS = {
    "shift_net": ShiftNet(3, width=4, max_width=8, shift_stride=4),
    "shift_net_share": ShiftNet(3, width=4, max_width=8, shift_stride=4, hole_rule="share"),
    "se_shift_net": SEShiftNet(3, width=4, max_width=8, shift_stride=4),
    "glcic": GLCIC(3, width=4, dilations=(1, 2)),
    "glcic_one_stride": GLCIC(3, width=4, num_strided=1, dilations=(1, 2)),
    "context_encoder": ContextEncoder(3, widths=(4, 8), bottleneck=8),
    "context_encoder_centre": ContextEncoder(3, widths=(4, 8), bottleneck=8, region="centre"),
}


def make_masks():
    """Full, empty, a box in each corner, one hidden pixel, one hidden pixel in every cell."""
    masks = np.ones((8, SIZE, SIZE, 1), bool)
    masks[1] = False
    masks[2, :8, :8] = masks[3, :8, 8:] = masks[4, 8:, :8] = masks[5, 8:, 8:] = False
    masks[6, 5, 9] = False
    masks[7, ::4, ::4] = False
    return masks


MASKS = make_masks()
IMAGES = np.asarray(jax.random.uniform(jax.random.key(0), (8, SIZE, SIZE, 3)))


@functools.cache
def variables_of(name):
    """Random variables, in NumPy: an `init` would be compiled."""
    init = functools.partial(MODELS[name].init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(1), IMAGES[:1], MASKS[:1])
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = generator.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            values = generator.uniform(0.5, 1.5, leaf.shape) if path[-1].key in ("scale", "var") else 0.1
        return np.broadcast_to(np.float32(values), leaf.shape)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def compiled(name):
    model, variables = MODELS[name], variables_of(name)
    return jax.jit(lambda image, mask: model.apply(variables, image, mask, train=False))


@pytest.mark.parametrize("name", MODELS)
def test_answers_and_hidden_pixels_are_never_read(name):
    answer = compiled(name)(IMAGES, MASKS)
    chex.assert_shape([answer.prediction, answer.raw], IMAGES.shape)
    chex.assert_type([answer.prediction, answer.raw], jnp.float32)
    chex.assert_tree_all_finite(answer)
    assert answer.prediction.min() >= 0 and answer.prediction.max() <= 1
    assert np.ptp(answer.prediction, axis=(1, 2)).min() > 0.05  # not saturated
    for hidden in (np.nan, 0.25):
        other = compiled(name)(np.where(MASKS, IMAGES, np.float32(hidden)), MASKS)
        np.testing.assert_array_equal(other.prediction, answer.prediction)
        np.testing.assert_array_equal(other.raw, answer.raw)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_equals_calls_of_one_image_and_complete_repeats_the_prediction(name):
    answer = compiled(name)(IMAGES, MASKS)
    model, variables = MODELS[name], variables_of(name)
    complete = jax.jit(
        lambda image, mask: model.apply(variables, image, mask, num_samples=2, method="complete")
    )
    for index in range(len(IMAGES)):
        completion = complete(IMAGES[index : index + 1], MASKS[index : index + 1])
        chex.assert_shape(completion.samples, (2, 1, SIZE, SIZE, 3))
        for sample in completion.samples:
            np.testing.assert_allclose(sample[0], answer.prediction[index], atol=1e-5)
    assert completion.scale is None


@pytest.mark.parametrize("name", ["glcic", "context_encoder"])
def test_bfloat16(name):
    model = MODELS[name].clone(compute_dtype="bfloat16")
    answer = jax.jit(functools.partial(model.apply, train=False))(variables_of(name), IMAGES, MASKS)
    chex.assert_type([answer.prediction, answer.raw], jnp.float32)
    np.testing.assert_allclose(answer.prediction, compiled(name)(IMAGES, MASKS).prediction, atol=0.1)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("shift_net", [(24, 24), (16, 32), (4, 4)]),
        ("glcic", [(18, 16), (16, 17)]),
        ("context_encoder", [(32, 32), (16, 8)]),
    ],
)
def test_wrong_sizes_are_one_sentence(name, sizes):
    model = MODELS[name]
    for size in sizes:
        problem = model.takes_size(size, (SIZE, SIZE))
        assert problem.count(".") == 1 and f"{size[0]}x{size[1]}" in problem
        with pytest.raises(UserError, match=f"{size[0]}x{size[1]}"):
            jax.eval_shape(
                functools.partial(model.init, train=False),
                jax.random.key(0),
                jnp.zeros((1, *size, 3)),
                jnp.zeros((1, *size, 1), bool),
            )
    assert model.takes_size((SIZE, SIZE), (SIZE, SIZE)) is None
    assert 0 < model.completion_bytes((SIZE, SIZE)) < 1e6


def test_only_glcic_takes_other_sizes_than_it_was_trained_on():
    assert MODELS["glcic"].takes_size((32, 48), (SIZE, SIZE)) is None
    assert "trained on 16x16" in MODELS["shift_net"].takes_size((32, 32), (SIZE, SIZE))


@pytest.mark.parametrize(
    ("make", "fields", "word"),
    [
        (ShiftNet, {"hole_rule": "most"}, "hole_rule"),
        (ShiftNet, {"shift_stride": 6}, "shift_stride"),
        (GLCIC, {"num_strided": 3}, "num_strided"),
        (ContextEncoder, {"region": "left"}, "region"),
        (ContextEncoder, {"widths": (4,)}, "widths"),
    ],
)
def test_wrong_fields_are_one_sentence(make, fields, word):
    with pytest.raises(UserError, match=word):
        make(3, **fields)


def test_a_grey_picture_for_a_model_of_three_channels_is_refused():
    with pytest.raises(AssertionError):
        MODELS["glcic"].init(jax.random.key(0), IMAGES[..., :1], MASKS, train=False)


def test_guidance_features_compare_the_decoder_with_the_whole_image():
    model, variables = MODELS["shift_net"], variables_of("shift_net")
    features = compiled("shift_net")(IMAGES, MASKS).features
    chex.assert_equal_shape([features["decoder"], features["truth"]])
    chex.assert_shape(features["hole"], (8, 4, 4, 1))
    np.testing.assert_array_equal(features["hole"].sum(axis=(1, 2, 3)), [0, 16, 4, 4, 4, 4, 1, 16])

    def truth_sum(params):
        answer = model.apply({"params": params}, IMAGES, MASKS, train=True)
        return answer.features["truth"].sum()

    gradients = jax.jit(jax.grad(truth_sum))(variables["params"])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_the_centre_form_fills_nothing_but_the_centre():
    answer = compiled("context_encoder_centre")(IMAGES, MASKS)
    inside = np.where(MASKS, 2 * IMAGES - 1, 0)
    outside = np.ones((SIZE, SIZE), bool)
    outside[4:12, 4:12] = False
    np.testing.assert_array_equal(answer.raw[:, outside], inside[:, outside])


def test_fields_from_json_are_as_good_as_tuples():
    assert GLCIC(3, dilations=[1, 2]) == GLCIC(3, dilations=(1, 2))
    assert hash(ContextEncoder(3, widths=[4, 8])) == hash(ContextEncoder(3, widths=(4, 8)))


@pytest.mark.parametrize("name", ["shift_net.ShiftNet", "se_shift_net.SEShiftNet", "glcic.GLCIC"])
def test_models_are_found_by_name(name):
    model = models.get(ml_collections.ConfigDict({"name": name, "width": 8}), channels=1)
    assert (model.channels, model.width, model.step) == (1, 8, "adversarial")
