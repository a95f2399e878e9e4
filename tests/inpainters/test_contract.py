"""What holds for every inpainter."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import models
from ifanp_jax.errors import UserError
from ifanp_jax.inpainters.networks import context_encoder, glcic, shift_net
from tests.inpainters import trainings
from tests.inpainters.table import (
    IMAGES,
    MASKS,
    MODELS,
    SIZE,
    abstract_variables,
    answer,
    make,
    variables_of,
)

every_inpainter = pytest.mark.parametrize("name", MODELS)


def test_every_inpainter_is_here_and_is_trained_against_critics():
    families = {name.partition(".")[0] for name, *_ in MODELS.values()}
    assert families == {name.partition(".")[0] for name in trainings.MODELS}
    for name in MODELS:
        assert make(name).step == "adversarial" and make(name).needs_known_pixels


@every_inpainter
def test_answers_and_hidden_pixels_are_never_read(name):
    found = answer(name)
    chex.assert_shape([found.prediction, found.raw], IMAGES.shape)
    chex.assert_type(jax.tree.leaves(found), jnp.float32)
    chex.assert_tree_all_finite(found)
    np.testing.assert_allclose(found.prediction, np.clip((found.raw + 1) / 2, 0, 1), atol=1e-6)
    assert found.raw.min() >= -1 and found.raw.max() <= 1
    assert np.ptp(found.prediction, axis=(1, 2)).min() > 0.05  # not saturated
    for hidden in (np.nan, 0.25):
        chex.assert_trees_all_equal(answer(name, np.where(MASKS, IMAGES, np.float32(hidden))), found)


@every_inpainter
def test_an_answer_depends_neither_on_the_batch_nor_on_the_place_in_it(name):
    expected = answer(name).prediction
    for images in ([0, 2, 4, 6], [1, 3, 5, 7]):
        image, mask = np.zeros_like(IMAGES), np.zeros_like(MASKS)
        places = [(index + 3) % 8 for index in images]
        image[places], mask[places] = IMAGES[images], MASKS[images]
        found = answer(name, image, mask).prediction
        np.testing.assert_allclose(found[places], expected[images], atol=1e-5)


def test_completions_repeat_the_prediction():
    name = "context_encoder"
    complete = jax.jit(functools.partial(make(name).apply, num_samples=2, method="complete"))
    completion = jax.device_get(complete(variables_of(name), IMAGES, MASKS))
    chex.assert_shape(completion.samples, (2, *IMAGES.shape))
    for sample in completion.samples:
        np.testing.assert_allclose(sample, answer(name).prediction, atol=1e-5)
    assert completion.scale is None


@pytest.mark.parametrize("name", ["deepfill_none", "glcic_one_stride", "context_encoder"])
def test_bfloat16(name):
    model = make(name, compute_dtype="bfloat16")
    chex.assert_type(jax.tree.leaves(abstract_variables(model, (SIZE, SIZE))), jnp.float32)
    apply = jax.jit(functools.partial(model.apply, train=False))
    found = jax.device_get(apply(variables_of(name), IMAGES, MASKS))
    chex.assert_type(jax.tree.leaves(found), jnp.float32)
    np.testing.assert_allclose(found.raw, answer(name).raw, atol=0.2)
    assert (found.raw != answer(name).raw).any()


@every_inpainter
def test_sizes(name):
    model = make(name)
    for size in MODELS[name][2]:
        problem = model.takes_size(size, (SIZE, SIZE))
        assert problem.count(".") == 1 and f"{size[0]}x{size[1]}" in problem
        with pytest.raises(UserError, match=f"{size[0]}x{size[1]}"):
            abstract_variables(model, size)
    assert model.takes_size((SIZE, SIZE), (SIZE, SIZE)) is None
    assert 0 < model.completion_bytes((SIZE, SIZE)) < 1e6
    # Convolutional ones take others than they were trained on.
    assert (model.takes_size((64, 32), (SIZE, SIZE)) is None) == name.startswith(("deepfill", "glcic"))
    if "shift" in name:
        assert f"{SIZE}x{SIZE}" in model.takes_size((32, 32), (SIZE, SIZE))
    with pytest.raises(AssertionError):  # a grey picture
        model.init(jax.random.key(0), IMAGES[..., :1], MASKS, train=False)


@pytest.mark.parametrize(
    ("name", "fields", "facts"),
    [
        ("deepfill", {"attention": "gca"}, ("gca", "contextual", "none")),
        ("deepfill", {"branches": "both"}, ("both", "code", "paper")),
        ("deepfill", {"validity": "some"}, ("some", "whole", "fraction")),
        ("deepfill", {"num_strided": 3}, ("3", "1", "2")),
        ("deepfill", {"width": 0}, ("0", "2")),
        ("deepfill", {"width": 7}, ("7", "even")),
        ("deepfill", {"dilations": (1, 2)}, ("1, 2", "four")),
        ("deepfill", {"dilations": (1, 2, 4, 0)}, ("0", "1")),
        ("deepfill", {"rate": 0}, ("0", "1")),
        ("shift_net", {"hole_rule": "most"}, ("most", "any", "share")),
        ("shift_net", {"shift_stride": 6}, ("6", "power of two")),
        ("shift_net", {"shift_stride": 1}, ("1", "2")),
        ("shift_net", {"se_reduction": 0}, ("0", "1")),
        ("glcic", {"num_strided": 3}, ("3", "1", "2")),
        ("glcic", {"width": 1}, ("1", "2")),
        ("context_encoder", {"region": "left"}, ("left", "image", "centre")),
        ("context_encoder", {"widths": (4,)}, ("4", "two")),
        ("context_encoder", {"bottleneck": 0}, ("0", "1")),
        *((name, {"compute_dtype": "int8"}, ("int8", "bfloat16")) for name in MODELS),
    ],
)
def test_wrong_fields_are_one_sentence(name, fields, facts):
    with pytest.raises(UserError) as raised:
        make(name, **fields)
    message = str(raised.value)
    assert all(fact in message for fact in (f"config.model.{next(iter(fields))}", *facts))


def test_fields_from_json_are_as_good_as_tuples():
    for name, (model, own, _) in MODELS.items():
        lists = {field: list(value) if isinstance(value, tuple) else value for field, value in own.items()}
        read = models.get({"name": model} | lists, channels=3)
        assert read == make(name) and hash(read) == hash(make(name))


HOLE_CHANNEL = 16 * 64  # 4x4 kernel, 64 channels
BLOCKS = 43_924 + 174_888 + 697_936 + 2 * 2_788_512  # of multi-scale squeeze-and-excitation
DEEPFILL_COUNT = 3_601_542
ENLARGING = 16 * 64 * 64 + 64
TRANSFORMER = 129 * 64 + 65 * 6
CENTRE = {"region": "centre"}
PUBLISHED_ENCODER = 71_118_691  # without batch normalisation


@pytest.mark.parametrize(
    ("name", "side", "fields", "expected"),
    [
        ("shift_net.ShiftNet", 256, {}, 54_933_891 + HOLE_CHANNEL),
        ("shift_net.ShiftNet", 64, shift_net.SMALL_FORMS[64], 7_445_187),
        ("shift_net.ShiftNet", 32, shift_net.SMALL_FORMS[32], 4_200_643),
        ("se_shift_net.SEShiftNet", 256, {}, 54_933_891 + HOLE_CHANNEL + BLOCKS),
        ("se_shift_net.SEShiftNet", 64, shift_net.SMALL_FORMS[64], 7_675_081),
        ("se_shift_net.SEShiftNet", 32, shift_net.SMALL_FORMS[32], 4_255_649),
        ("glcic.GLCIC", 256, {}, 6_072_131),
        ("glcic.GLCIC", 64, glcic.SMALL_FORMS[64], 1_522_083),
        ("glcic.GLCIC", 32, glcic.SMALL_FORMS[32], 1_522_083),
        ("context_encoder.ContextEncoder", 128, CENTRE, PUBLISHED_ENCODER),
        ("context_encoder.ContextEncoder", 128, {}, PUBLISHED_ENCODER + HOLE_CHANNEL + ENLARGING),
        ("context_encoder.ContextEncoder", 64, context_encoder.OTHER_FORMS[64], 9_577_659),
        ("context_encoder.ContextEncoder", 32, context_encoder.OTHER_FORMS[32], 4_431_547),
        ("deepfill.DeepFill", 256, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill64", 64, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill32", 32, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill", 256, {"branches": "paper"}, 3_767_558),
        ("deepfill.DeepFill", 256, {"attention": "none"}, 2 * 1_448_227),
        ("deepfill.DeepFill64", 64, {"attention": "appearance_flow"}, DEEPFILL_COUNT + 9 * 128 * 2 + 2),
        ("deepfill.DeepFill64", 64, {"attention": "spatial_transformer"}, DEEPFILL_COUNT + TRANSFORMER),
    ],
)
def test_parameter_counts(name, side, fields, expected):
    model = models.get({"name": name} | fields, channels=3)
    paths = jax.tree_util.tree_leaves_with_path(abstract_variables(model, (side, side))["params"])
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in paths}
    is_published = side == 128  # which has no normalisation
    assert sum(n for path, n in sizes.items() if not (is_published and "Norm" in path)) == expected
