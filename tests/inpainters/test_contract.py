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

SIZE = 16
DEEPFILL = {"width": 4, "dilations": (1, 2, 1, 2), "rate": 1}  # cells of 4 pixels
SHIFT = {"width": 4, "max_width": 8, "shift_stride": 4}
ENCODER = {"widths": (4, 8), "bottleneck": 8}
# Sizes that are no multiples, no squares or no powers of two.
UNEVEN, OTHER = [(18, 16), (16, 17)], [(24, 24), (16, 32), (4, 4)]
# Name, fields, and sizes that it refuses.
MODELS = {
    "deepfill": ("deepfill.DeepFill", DEEPFILL, UNEVEN),
    "deepfill_two": ("deepfill.DeepFill", DEEPFILL | {"rate": 2}, [(12, 16), (16, 20)]),
    "deepfill_one_stride": ("deepfill.DeepFill32", {"width": 4}, [(17, 16)]),
    "deepfill_fraction": ("deepfill.DeepFill64", {"width": 4, "validity": "fraction"}, UNEVEN),
    "deepfill_flow": ("deepfill.DeepFill", DEEPFILL | {"attention": "appearance_flow", "rate": 2}, UNEVEN),
    "deepfill_transformer": ("deepfill.DeepFill", DEEPFILL | {"attention": "spatial_transformer"}, UNEVEN),
    "deepfill_none": ("deepfill.DeepFill", DEEPFILL | {"attention": "none"}, UNEVEN),
    "shift_net": ("shift_net.ShiftNet", SHIFT, OTHER),
    "shift_net_share": ("shift_net.ShiftNet", SHIFT | {"hole_rule": "share"}, OTHER),
    "se_shift_net": ("se_shift_net.SEShiftNet", SHIFT, OTHER),
    "glcic": ("glcic.GLCIC", {"width": 4, "dilations": (1, 2)}, UNEVEN),
    "glcic_one_stride": ("glcic.GLCIC", {"width": 4, "num_strided": 1, "dilations": (1, 2)}, [(17, 16)]),
    "context_encoder": ("context_encoder.ContextEncoder", ENCODER, [(32, 32), (16, 8)]),
    "context_encoder_centre": ("context_encoder.ContextEncoder", ENCODER | {"region": "centre"}, [(8, 8)]),
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


def make(name, **fields):
    model, own, _ = MODELS[name]
    return models.get({"name": model} | own | fields, channels=3)


def abstract_variables(model, size):
    image, mask = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size, 1), bool)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image, mask)


@functools.cache
def variables_of(name):
    """Random variables, in NumPy: an `init` would be compiled."""
    generator = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            values = generator.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            values = generator.uniform(0.5, 1.5, leaf.shape) if path[-1].key in ("scale", "var") else 0.1
        return np.broadcast_to(np.float32(values), leaf.shape)

    return jax.tree_util.tree_map_with_path(draw, abstract_variables(make(name), (SIZE, SIZE)))


@functools.cache
def compiled(name):
    """(image, mask) -> answer."""
    model, variables = make(name), variables_of(name)
    return jax.jit(lambda image, mask: model.apply(variables, image, mask, train=False))


def test_every_inpainter_is_here_and_is_trained_against_critics():
    families = {name.partition(".")[0] for name, *_ in MODELS.values()}
    assert families == {name.partition(".")[0] for name in trainings.MODELS}
    for name in MODELS:
        assert make(name).step == "adversarial" and make(name).needs_known_pixels


@pytest.mark.parametrize("name", MODELS)
def test_answers_and_hidden_pixels_are_never_read(name):
    answer = compiled(name)(IMAGES, MASKS)
    chex.assert_shape([answer.prediction, answer.raw], IMAGES.shape)
    chex.assert_type(jax.tree.leaves(answer), jnp.float32)
    chex.assert_tree_all_finite(answer)
    np.testing.assert_allclose(answer.prediction, np.clip((answer.raw + 1) / 2, 0, 1), atol=1e-6)
    assert answer.raw.min() >= -1 and answer.raw.max() <= 1
    assert np.ptp(answer.prediction, axis=(1, 2)).min() > 0.05  # not saturated
    for hidden in (np.nan, 0.25):
        other = compiled(name)(np.where(MASKS, IMAGES, np.float32(hidden)), MASKS)
        chex.assert_trees_all_equal(other, answer)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_equals_calls_of_one_image_and_complete_repeats_the_prediction(name):
    answer = compiled(name)(IMAGES, MASKS)
    model, variables = make(name), variables_of(name)
    complete = jax.jit(
        lambda image, mask: model.apply(variables, image, mask, num_samples=2, method="complete")
    )
    for index in range(len(IMAGES)):
        completion = complete(IMAGES[index : index + 1], MASKS[index : index + 1])
        chex.assert_shape(completion.samples, (2, 1, SIZE, SIZE, 3))
        for sample in completion.samples:
            np.testing.assert_allclose(sample[0], answer.prediction[index], atol=1e-5)
    assert completion.scale is None


@pytest.mark.parametrize("name", ["deepfill", "glcic", "context_encoder"])
def test_bfloat16(name):
    model = make(name, compute_dtype="bfloat16")
    chex.assert_type(jax.tree.leaves(abstract_variables(model, (SIZE, SIZE))), jnp.float32)
    answer = jax.jit(functools.partial(model.apply, train=False))(variables_of(name), IMAGES, MASKS)
    chex.assert_type(jax.tree.leaves(answer), jnp.float32)
    # Of DeepFill the first stage: in the second another patch may be copied.
    first, expected = (
        one.raw if one.coarse is None else one.coarse for one in (answer, compiled(name)(IMAGES, MASKS))
    )
    np.testing.assert_allclose(first, expected, atol=0.2)


@pytest.mark.parametrize("name", MODELS)
def test_wrong_sizes_are_one_sentence(name):
    model = make(name)
    for size in MODELS[name][2]:
        problem = model.takes_size(size, (SIZE, SIZE))
        assert problem.count(".") == 1 and f"{size[0]}x{size[1]}" in problem
        with pytest.raises(UserError, match=f"{size[0]}x{size[1]}"):
            abstract_variables(model, size)
    assert model.takes_size((SIZE, SIZE), (SIZE, SIZE)) is None
    assert 0 < model.completion_bytes((SIZE, SIZE)) < 1e6


@pytest.mark.parametrize("name", MODELS)
def test_convolutional_ones_take_other_sizes_than_they_were_trained_on(name):
    assert (make(name).takes_size((64, 32), (SIZE, SIZE)) is None) == name.startswith(("deepfill", "glcic"))
    if "shift" in name:
        assert f"{SIZE}x{SIZE}" in make(name).takes_size((32, 32), (SIZE, SIZE))


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


@pytest.mark.parametrize("name", MODELS)
def test_a_grey_picture_for_a_model_of_three_channels_is_refused(name):
    with pytest.raises(AssertionError):
        make(name).init(jax.random.key(0), IMAGES[..., :1], MASKS, train=False)


@pytest.mark.parametrize("name", [name for name in MODELS if "shift" not in name])
def test_fields_from_json_are_as_good_as_tuples(name):
    model, own, _ = MODELS[name]
    lists = {field: list(value) if isinstance(value, tuple) else value for field, value in own.items()}
    read = models.get({"name": model} | lists, channels=3)
    assert read == make(name) and hash(read) == hash(make(name))


def count(name, side, **fields):
    """Number of parameters, and of those of batch normalisation."""
    model = models.get({"name": name} | fields, channels=3)
    paths = jax.tree_util.tree_leaves_with_path(abstract_variables(model, (side, side))["params"])
    sizes = {jax.tree_util.keystr(path): leaf.size for path, leaf in paths}
    return sum(sizes.values()), sum(size for path, size in sizes.items() if "BatchNorm" in path)


HOLE_CHANNEL = 16 * 64  # 4x4 kernel, 64 channels
BLOCKS = 43_924 + 174_888 + 697_936 + 2 * 2_788_512  # of multi-scale squeeze-and-excitation
DEEPFILL_COUNT = 3_601_542
ENLARGING = 16 * 64 * 64 + 64


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
        ("context_encoder.ContextEncoder", 64, context_encoder.OTHER_FORMS[64], 9_577_659),
        ("context_encoder.ContextEncoder", 32, context_encoder.OTHER_FORMS[32], 4_431_547),
        ("deepfill.DeepFill", 256, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill64", 64, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill32", 32, {}, DEEPFILL_COUNT),
        ("deepfill.DeepFill", 256, {"branches": "paper"}, 3_767_558),
        ("deepfill.DeepFill", 256, {"attention": "none"}, 2 * 1_448_227),
        ("deepfill.DeepFill64", 64, {"attention": "appearance_flow"}, DEEPFILL_COUNT + 9 * 128 * 2 + 2),
        (
            "deepfill.DeepFill64",
            64,
            {"attention": "spatial_transformer"},
            DEEPFILL_COUNT + 129 * 64 + 65 * 6,
        ),
    ],
)
def test_parameter_counts(name, side, fields, expected):
    assert count(name, side, **fields)[0] == expected


@pytest.mark.parametrize(("region", "more"), [("centre", 0), ("image", HOLE_CHANNEL + ENLARGING)])
def test_the_published_context_encoder_is_counted_without_normalisation(region, more):
    total, norms = count("context_encoder.ContextEncoder", 128, region=region)
    assert total - norms == 71_118_691 + more
