"""What every model keeps, over the one table of all models."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import models, objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import heads, parameters
from tests import helpers
from tests.models.table import (
    INPAINTERS,
    MODELS,
    NUM_SAMPLES,
    ONE_PER_FAMILY,
    SHAPE,
    build,
    build_training,
    make_model,
)

H, W, C = SHAPE
LATENT = [name for name, row in MODELS.items() if row.latent_dim]
every_model = pytest.mark.parametrize("name", MODELS)
# The others compile the same parts in other compositions: their answers are looked at with the slow tests.
COMPILED = ("image_np.IFANP", "multiscale_np.MultiscaleNP", "point_np.ANP", "vae.MaskedVAE")


def compiled(names):
    return [name if name in COMPILED else pytest.param(name, marks=pytest.mark.slow) for name in names]


every_compiled_model = pytest.mark.parametrize("name", compiled(MODELS))
one_per_family = pytest.mark.parametrize("name", ONE_PER_FAMILY)


def answer(name, image, mask, *, seed=5):
    """Terms and completion at test time."""
    return build(name)[1](image, mask, jax.random.key(seed))


def images_and_masks():
    return helpers.images_and_masks(SHAPE)


def test_every_model_is_in_the_table():
    assert sorted([*MODELS, *INPAINTERS]) == sorted(models.list_models())
    assert {name.split(".")[0] for name in ONE_PER_FAMILY} == {name.split(".")[0] for name in MODELS}


@every_model
def test_exact_parameter_count(name):
    params = helpers.abstract_answers(make_model(name), *images_and_masks())[2]
    assert parameters.count_parameters(params) == MODELS[name].num_parameters


@every_model
@pytest.mark.parametrize(
    ("shape", "compute_dtype", "num_samples"),
    [((4, 4, 1), "float32", 3), ((5, 3, 3), "bfloat16", 1), ((1, 6, 2), "float32", 1)],
)
def test_shapes_and_dtypes(name, shape, compute_dtype, num_samples):
    h, w, c = shape
    model = make_model(name, channels=c, compute_dtype=compute_dtype)
    image, mask = jnp.zeros((2, h, w, c)), jnp.ones((2, h, w, 1), bool)
    terms, completion, params = helpers.abstract_answers(model, image, mask, num_samples=num_samples)
    chex.assert_type(jax.tree.leaves((terms, completion, params)), jnp.float32)
    chex.assert_shape([terms.reconstruction, terms.log_prob], (2,))
    chex.assert_shape([terms.prediction, terms.scale], (2, h, w, c))
    chex.assert_shape([completion.samples, completion.scale], (num_samples + 1, 2, h, w, c))
    assert completion.cholesky is None
    if name in LATENT:
        chex.assert_shape(terms.kl, (2,))
        chex.assert_shape(terms.kl_per_dim, (2, MODELS[name].latent_dim))
    else:
        assert terms.kl is None and terms.kl_per_dim is None


@one_per_family
@pytest.mark.parametrize("likelihood", heads.LIKELIHOODS)
def test_every_family_has_every_likelihood(name, likelihood):
    model = make_model(name, likelihood=likelihood)
    _, completion, params = helpers.abstract_answers(model, *images_and_masks())
    chex.assert_equal_shape([completion.samples, completion.scale])
    assert ("head" in params) == (likelihood == "learned")


@one_per_family
def test_every_family_may_correlate_channels_or_leave_the_scale_out(name):
    image, mask = helpers.images_and_masks((H, W, 3))
    model = make_model(name, likelihood="per_image", has_covariance=True, channels=3)
    terms, completion, _ = helpers.abstract_answers(model, image, mask)
    chex.assert_shape(completion.cholesky, (*completion.samples.shape, 3))
    chex.assert_shape(terms.log_prob, (3,))
    model = make_model(name, likelihood="per_image", scale_weight=0.0, channels=3)
    terms, completion, _ = helpers.abstract_answers(model, image, mask)
    assert completion.scale is None and terms.scale is None and terms.log_prob is None
    chex.assert_shape(terms.reconstruction, (3,))


@pytest.mark.parametrize("target", objectives.TARGETS)
@one_per_family
def test_the_log_likelihood_is_that_of_prediction_and_scale(name, target):
    model = make_model(name, likelihood="fixed", sigma=0.2)
    image, mask = images_and_masks()
    variables = helpers.random_variables(model, SHAPE)
    call = {"train": False, "target": target, "rngs": {"sample": jax.random.key(4)}}
    terms = jax.jit(functools.partial(model.apply, **call))(variables, image, mask)
    normal = -0.5 * ((image - terms.prediction) / 0.2) ** 2 - np.log(0.2 * np.sqrt(2 * np.pi))
    counted = np.ones_like(mask) if target == "all" else ~np.asarray(mask)
    np.testing.assert_allclose(terms.log_prob, (normal * counted).sum(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_array_equal(terms.reconstruction, terms.log_prob)
    if terms.kl is not None:
        np.testing.assert_allclose(terms.kl, terms.kl_per_dim.sum(axis=1), rtol=1e-6)


@every_model
def test_a_model_takes_another_size_or_says_why_not(name):
    model, other = make_model(name), (7, 6)
    assert model.takes_size((H, W), (H, W)) is None
    problem = model.takes_size(other, (H, W))
    if not MODELS[name].takes_any_size:
        assert "7x6" in problem and f"{H}x{W}" in problem and problem.endswith(".")
        return
    assert problem is None
    image, mask = helpers.images_and_masks((*other, C))
    call = {"num_samples": 1, "method": "complete", "rngs": {"sample": jax.random.key(0)}}
    completion = jax.eval_shape(functools.partial(model.apply, **call), build(name)[0], image, mask)
    chex.assert_shape(completion.samples, (1, 3, *other, C))


@every_model
def test_a_larger_picture_costs_more_memory(name):
    small, large = (make_model(name).completion_bytes(size) for size in ((8, 8), (16, 16)))
    assert isinstance(small, int) and 4 * 8 * 8 * C <= small and 4 * small <= large


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param(name, fields, marks=() if name in COMPILED else pytest.mark.slow)
        for name, row in MODELS.items()
        for fields in row.variants
    ],
)
def test_every_parameter_has_a_finite_and_non_zero_gradient(name, fields):
    image, mask = helpers.images_and_masks((H, W, fields.get("channels", C)))
    mask = mask.at[0].set(False)  # an empty context among the others
    gradient, _ = build_training(name, **fields)[1](image, mask, jax.random.key(4))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


@every_compiled_model
def test_empty_and_full_contexts_stay_finite(name):
    image, mask = images_and_masks()
    mask = mask.at[0].set(False).at[1].set(True)
    terms, completion = answer(name, image, mask)
    chex.assert_tree_all_finite((terms, completion))
    if name in LATENT:  # a full context leaves nothing to learn of z
        assert abs(terms.kl[1]) < 1e-6 < min(terms.kl[0], terms.kl[2])


@pytest.mark.parametrize("hidden", [0.123, np.nan])
@every_compiled_model
def test_unobserved_pixels_never_leak_into_the_answer(name, hidden):
    image, mask = images_and_masks()
    mask = mask.at[0].set(False)
    terms, completion = answer(name, image, mask)
    other_terms, other_completion = answer(name, jnp.where(mask, image, hidden), mask)
    chex.assert_tree_all_finite(completion)
    chex.assert_trees_all_equal(completion, other_completion)
    np.testing.assert_array_equal(terms.prediction, other_terms.prediction)
    np.testing.assert_array_equal(terms.scale, other_terms.scale)


@every_compiled_model
def test_observed_pixels_do_change_the_answer(name):
    image, mask = images_and_masks()
    samples = answer(name, image, mask)[1].samples
    changed = answer(name, jnp.where(mask, 1 - image, image), mask)[1].samples
    assert np.all(np.any(np.asarray(samples != changed), axis=(0, 2, 3, 4)))


@every_compiled_model
def test_in_training_hidden_pixels_reach_the_prediction_by_z_alone(name):
    # A deterministic path that saw them would hand the target to the decoder.
    fields = MODELS[name].variants[0]
    image, mask = helpers.images_and_masks((H, W, fields.get("channels", C)))
    _, gradient_and_terms = build_training(name, **fields)
    _, terms = gradient_and_terms(image, mask, jax.random.key(5))
    _, changed = gradient_and_terms(jnp.where(mask, image, 1 - image), mask, jax.random.key(5))
    is_different = bool(np.any(np.asarray(terms.prediction != changed.prediction)))
    assert is_different == MODELS[name].trains_on_hidden


@every_compiled_model
def test_answers_follow_from_the_key(name):
    first, again, other = (answer(name, *images_and_masks(), seed=seed)[1].samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    if name in LATENT:
        assert np.all(np.any(np.asarray(first != other), axis=(2, 3, 4)))
        assert np.all(np.any(np.asarray(first[0] != first[1]), axis=(1, 2, 3)))
    else:
        np.testing.assert_array_equal(first, other)
        np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.parametrize("name", compiled(LATENT))
def test_training_gives_each_image_its_own_noise_and_a_test_shares_it(name):
    fields = MODELS[name].variants[0]
    image, mask = helpers.images_and_masks((H, W, fields.get("channels", C)))
    image, mask = (jnp.broadcast_to(x[:1], x.shape) for x in (image, mask))  # the same image three times
    _, terms = build_training(name, **fields)[1](image, mask, jax.random.key(5))
    independent = np.asarray(terms.prediction)
    assert all(np.any(one != other) for one, other in itertools.combinations(independent, 2))
    shared = np.asarray(answer(name, image[..., :C], mask)[0].prediction)
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-6)


@every_compiled_model
def test_a_completion_depends_neither_on_the_batch_nor_on_the_place_in_it(name):
    image, mask = images_and_masks()
    other_image = jnp.ones_like(image).at[2].set(image[0])
    other_mask = jnp.zeros_like(mask).at[2].set(mask[0])
    terms, completion = answer(name, image, mask)
    other_terms, other_completion = answer(name, other_image, other_mask)
    np.testing.assert_allclose(completion.samples[:, 0], other_completion.samples[:, 2], atol=1e-5)
    np.testing.assert_allclose(terms.prediction[0], other_terms.prediction[2], atol=1e-5)


@every_compiled_model
def test_the_test_time_prediction_is_the_mean_completion(name):
    terms, completion = answer(name, *images_and_masks())
    assert completion.samples.shape[0] == NUM_SAMPLES
    np.testing.assert_allclose(terms.prediction, completion.samples.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(terms.scale, completion.scale.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("name", ["image_np.IFANP", "point_np.ANP", "vae.MaskedVAE"])
def test_bfloat16_is_close_to_float32(name):
    image, mask = images_and_masks()
    model = make_model(name, compute_dtype="bfloat16")
    complete = jax.jit(functools.partial(model.apply, num_samples=NUM_SAMPLES, method="complete"))
    half = complete(build(name)[0], image, mask, rngs={"sample": jax.random.key(5)})
    np.testing.assert_allclose(half.samples, answer(name, image, mask)[1].samples, atol=0.1)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((2, 4, 4, 3)), np.ones((2, 4, 4, 1), bool)),  # another number of channels
        (np.zeros((2, 4, 4, 1)), np.ones((2, 4, 5, 1), bool)),
        (np.zeros((2, 4, 4, 1)), np.ones((2, 4, 4, 2), bool)),  # a mask per channel
        (np.zeros((2, 4, 4, 1)), np.ones((2, 4, 4, 1))),  # a mask of numbers
        (np.zeros((2, 4, 4, 1), np.uint8), np.ones((2, 4, 4, 1), bool)),
        (np.zeros((4, 4, 1)), np.ones((4, 4, 1), bool)),
    ],
)
@every_model
def test_wrong_inputs_are_refused(name, image, mask):
    with pytest.raises(AssertionError):
        helpers.abstract_answers(make_model(name), image, mask)


@every_model
def test_the_defaults_build_the_model_and_wrong_values_are_told_by_their_name(name):
    defaults = models.default_fields(name)
    assert models.get(models.get_config(name), channels=3) == models.get({"name": name}, channels=3)
    wrong = {"likelihood": "sparkling", "compute_dtype": "float8", "width": 0, "latent_dim": -1, "sigma": 0.0}
    for field in set(wrong) & set(defaults):
        with pytest.raises(UserError, match=rf"config\.model\.{field} is {wrong[field]!r}; (choose|it must)"):
            models.get({"name": name, field: wrong[field]}, channels=1)
