import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from ifanp_jax import objectives
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.evaluation import evaluate
from ifanp_jax.models import heads as likelihoods
from ifanp_jax.models import point_np
from ifanp_jax.modules import grid
from ifanp_jax.training import parameters
from ifanp_jax.training.steps import elbo

SMALL = {
    "channels": 1,
    "width": 8,
    "latent_dim": 4,
    "encoder_depth": 2,
    "decoder_depth": 2,
    "num_heads": 2,
    "likelihood": "per_pixel",
}
# With SMALL. An encoder 3-8-8: 32 + 72 = 104; r to z 8-8-8: 72 + 72 = 144. Decoder: x 2 * 8 + 8 = 24, hidden
# 72, out 8 * 2 + 2 = 18, so 114; r adds 8 * 8 = 64, z adds 4 * 8 = 32. An attention: 3 * 64 without biases
# and 72 = 264; the positions' encoder 2-8-8: 24 + 72 = 96.
PARAMETER_COUNTS = {
    "CNP": 104 + 114 + 64,
    "LNP": 104 + 144 + 114 + 32,
    "NP": 2 * 104 + 144 + 114 + 64 + 32,
    "ANP": 2 * 104 + 144 + 114 + 64 + 32 + 3 * 264 + 96,
}
LATENT_NAMES = ["LNP", "NP", "ANP"]
B, H, W = 3, 4, 5
NUM_SAMPLES = 2


def images_and_masks():
    image = jax.random.uniform(jax.random.key(1), (B, H, W, 1))
    return image, jax.random.bernoulli(jax.random.key(2), 0.5, (B, H, W, 1))


def make_model(name, **options):
    return getattr(point_np, name)(**SMALL | options)


def random_variables(model, image, mask):
    """Parameters from NumPy, biases included: no compilation."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(functools.partial(model.init, train=True), rngs, image, mask)
    generator = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, 0.4, leaf.shape), leaf.dtype), shapes)


@functools.cache
def build(name):
    """Returns the model's variables and its compiled answers (test-time terms, completion)."""
    model = make_model(name)
    variables = random_variables(model, *images_and_masks())

    @jax.jit
    def answer(variables, image, mask, key):
        apply = functools.partial(model.apply, variables, image, mask, rngs={"sample": key})
        return apply(train=False, num_samples=NUM_SAMPLES), apply(num_samples=NUM_SAMPLES, method="complete")

    return variables, functools.partial(answer, variables)


@functools.cache
def build_training(name, **options):
    """Returns the variables and the compiled gradient of the loss, with the terms beside it."""
    model = make_model(name, **options)

    @jax.jit
    def gradient_and_terms(variables, image, mask, key):
        def loss(variables):
            terms = model.apply(variables, image, mask, train=True, num_samples=2, rngs={"sample": key})
            return (terms.kl - terms.log_prob).mean(), terms

        return jax.grad(loss, has_aux=True)(variables)

    variables = random_variables(model, *images_and_masks())
    return variables, functools.partial(gradient_and_terms, variables)


def abstract(model, image, mask, *, num_samples=1):
    """Shapes and dtypes of the training terms, the completion and the parameters."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}

    def run():
        terms, variables = model.init_with_output(rngs, image, mask, train=True, num_samples=num_samples)
        options = {"num_samples": num_samples + 1, "method": "complete", "rngs": {"sample": rngs["sample"]}}
        return terms, model.apply(variables, image, mask, **options), variables["params"]

    return jax.eval_shape(run)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_exact_parameter_count(name):
    image, mask = jnp.zeros((1, H, W, 1)), jnp.ones((1, H, W, 1), bool)
    params = abstract(make_model(name), image, mask)[2]
    assert parameters.count_parameters(params) == PARAMETER_COUNTS[name]


def test_every_public_model_is_listed():
    def is_variant(value):
        return isinstance(value, functools.partial) and issubclass(value.func, nn.Module)

    variants = {name for name, value in vars(point_np).items() if is_variant(value)}
    assert variants == set(PARAMETER_COUNTS)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 3, 3), (1, 6, 2)])
@pytest.mark.parametrize(("compute_dtype", "num_samples"), [("float32", 3), ("bfloat16", 1)])
def test_shapes_and_dtypes(name, shape, compute_dtype, num_samples):
    h, w, c = shape
    model = make_model(name, channels=c, compute_dtype=compute_dtype)
    image, mask = jnp.zeros((2, h, w, c)), jnp.ones((2, h, w, 1), bool)
    terms, completion, params = abstract(model, image, mask, num_samples=num_samples)
    chex.assert_shape([terms.log_prob, terms.kl], (2,))
    chex.assert_shape(terms.kl_per_dim, (2, SMALL["latent_dim"] if name in LATENT_NAMES else 0))
    chex.assert_shape([terms.prediction, terms.scale], (2, h, w, c))
    chex.assert_shape([completion.samples, completion.scale], (num_samples + 1, 2, h, w, c))
    chex.assert_type(jax.tree.leaves((terms, completion, params)), jnp.float32)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_answers_on_another_grid_than_initialised_with(name):
    variables, _ = build(name)
    image, mask = jnp.zeros((2, 7, 6, 1)), jnp.ones((2, 7, 6, 1), bool)
    options = {"num_samples": 1, "method": "complete", "rngs": {"sample": jax.random.key(0)}}
    completion = jax.eval_shape(lambda: make_model(name).apply(variables, image, mask, **options))
    chex.assert_shape(completion.samples, (1, 2, 7, 6, 1))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("CNP", {}),
        ("LNP", {"likelihood": "learned"}),
        ("NP", {"likelihood": "fixed"}),
        ("ANP", {}),
        ("ANP", {"compute_dtype": "bfloat16"}),
    ],
)
def test_every_parameter_has_a_finite_and_non_zero_gradient(name, options):
    _, gradient_and_terms = build_training(name, **options)
    image, mask = images_and_masks()
    mask = mask.at[0].set(False)  # an empty context among the others
    gradient, _ = gradient_and_terms(image, mask, jax.random.key(4))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_empty_and_full_contexts_have_finite_terms_and_gradients(name, observed):
    _, gradient_and_terms = build_training(name)
    image, mask = images_and_masks()
    mask = jnp.full_like(mask, observed)
    chex.assert_tree_all_finite(gradient_and_terms(image, mask, jax.random.key(4)))
    chex.assert_tree_all_finite(build(name)[1](image, mask, jax.random.key(5)))


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_only_a_full_context_has_no_divergence(name):
    image, mask = images_and_masks()
    kl = np.asarray(build(name)[1](image, mask.at[0].set(False).at[1].set(True), jax.random.key(5))[0].kl)
    assert abs(kl[1]) < 1e-6 < min(kl[0], kl[2])


@pytest.mark.parametrize("hidden", [0.123, np.nan])
@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_unobserved_pixels_never_leak_into_the_answer(name, hidden):
    _, answer = build(name)
    image, mask = images_and_masks()
    mask = mask.at[0].set(False)
    terms, completion = answer(image, mask, jax.random.key(5))
    other_terms, other_completion = answer(jnp.where(mask, image, hidden), mask, jax.random.key(5))
    chex.assert_tree_all_finite(completion)
    chex.assert_trees_all_equal(completion, other_completion)
    np.testing.assert_array_equal(terms.prediction, other_terms.prediction)
    np.testing.assert_array_equal(terms.scale, other_terms.scale)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_observed_pixels_do_change_the_answer(name):
    _, answer = build(name)
    image, mask = images_and_masks()
    samples = answer(image, mask, jax.random.key(5))[1].samples
    changed = answer(jnp.where(mask, 1 - image, image), mask, jax.random.key(5))[1].samples
    assert np.all(np.any(np.asarray(samples != changed), axis=(0, 2, 3, 4)))


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_answers_follow_from_the_key(name):
    _, answer = build(name)
    first, again, other = (answer(*images_and_masks(), jax.random.key(seed))[1].samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.any(np.asarray(first != other), axis=(2, 3, 4)))
    assert np.all(np.any(np.asarray(first[0] != first[1]), axis=(1, 2, 3)))


def test_all_samples_of_a_cnp_are_one_and_it_has_no_divergence():
    _, answer = build("CNP")
    image, mask = images_and_masks()
    terms, completion = answer(image, mask, jax.random.key(5))
    np.testing.assert_array_equal(completion.samples[0], completion.samples[1])
    np.testing.assert_array_equal(completion.scale[0], completion.scale[1])
    np.testing.assert_array_equal(completion.samples, answer(image, mask, jax.random.key(6))[1].samples)
    np.testing.assert_array_equal(terms.kl, np.zeros(B))
    assert terms.kl_per_dim.shape == (B, 0)


def test_the_log_prob_of_a_cnp_is_exact_and_the_same_in_training_and_test():
    image, mask = images_and_masks()
    test_terms, completion = build("CNP")[1](image, mask, jax.random.key(5))
    _, terms = build_training("CNP")[1](image, mask, jax.random.key(6))
    exact = objectives.gaussian_log_prob(
        image, completion.samples[0], completion.scale[0], jnp.ones_like(mask)
    )
    np.testing.assert_allclose(terms.log_prob, exact, rtol=1e-5)
    np.testing.assert_allclose(test_terms.log_prob, exact, rtol=1e-5)


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_training_gives_each_image_its_own_noise_and_a_test_shares_it(name):
    image, mask = images_and_masks()
    image, mask = (jnp.broadcast_to(x[:1], x.shape) for x in (image, mask))  # the same image three times
    _, terms = build_training(name)[1](image, mask, jax.random.key(5))
    independent = np.asarray(terms.prediction)
    assert all(np.any(one != other) for one, other in itertools.combinations(independent, 2))
    shared = np.asarray(build(name)[1](image, mask, jax.random.key(5))[0].prediction)
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-6)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_a_completion_depends_neither_on_the_batch_nor_on_the_place_in_it(name):
    _, answer = build(name)
    image, mask = images_and_masks()
    other_image = jnp.ones_like(image).at[2].set(image[0])
    other_mask = jnp.zeros_like(mask).at[2].set(mask[0])
    terms, completion = answer(image, mask, jax.random.key(5))
    other_terms, other_completion = answer(other_image, other_mask, jax.random.key(5))
    np.testing.assert_allclose(completion.samples[:, 0], other_completion.samples[:, 2], atol=1e-5)
    np.testing.assert_allclose(terms.prediction[0], other_terms.prediction[2], atol=1e-5)


def test_the_test_time_prediction_is_the_mean_completion():
    terms, completion = build("ANP")[1](*images_and_masks(), jax.random.key(5))
    np.testing.assert_allclose(terms.prediction, completion.samples.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(terms.scale, completion.scale.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_only_z_sees_the_full_image_in_training(name):
    # The deterministic path must not: it would hand the target to the decoder.
    _, gradient_and_terms = build_training(name)
    image, mask = images_and_masks()
    predict = functools.partial(gradient_and_terms, mask=mask, key=jax.random.key(5))
    prediction = predict(image=image)[1].prediction
    changed = predict(image=jnp.where(mask, image, 1 - image))[1].prediction
    assert bool(np.any(np.asarray(prediction != changed))) == (name in LATENT_NAMES)


def test_the_divergence_is_that_of_the_full_images_z_from_the_contexts():
    variables, gradient_and_terms = build_training("NP")
    image, mask = images_and_masks()
    latent = jax.jit(functools.partial(make_model("NP").apply, variables, method="latent"))
    full, context = latent(image, jnp.ones_like(mask)), latent(image, mask)
    expected = objectives.gaussian_kl(*full, *context)
    terms = gradient_and_terms(image, mask, jax.random.key(5))[1]
    np.testing.assert_allclose(terms.kl_per_dim, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(terms.kl, expected.sum(axis=1), rtol=1e-4)
    assert np.all((np.asarray(full[1]) > 0.1) & (np.asarray(full[1]) < 1))


def test_the_cross_attention_of_an_anp_weighs_by_position_alone():
    # Queries and keys pass through one encoder of x; intensities are in the values only.
    variables, _ = build("ANP")
    image, mask = images_and_masks()

    def weighed(module, image):
        pairs, observed = module._pairs(image, mask)
        values = module.encoder(pairs)
        values = values + module.self_attention(values, observed)
        positions = module.position_encoder(grid.coordinates(H, W).reshape(H * W, 2))
        return module.cross_attention(positions, values, observed)

    apply = functools.partial(make_model("ANP").apply, variables)
    result, expected = jax.jit(
        lambda image: (apply(image, mask, method="deterministic"), apply(image, method=weighed))
    )(image)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_an_anp_without_self_attention_has_less_parameters():
    image, mask = jnp.zeros((1, H, W, 1)), jnp.ones((1, H, W, 1), bool)
    params = abstract(make_model("ANP", has_self_attention=False), image, mask)[2]
    assert parameters.count_parameters(params) == PARAMETER_COUNTS["ANP"] - 2 * 264


@pytest.mark.parametrize(("likelihood", "target"), [("fixed", "all"), ("learned", "unobserved")])
def test_likelihood_and_target(likelihood, target):
    model = make_model("NP", likelihood=likelihood, sigma=0.2, sigma_floor=0.05)
    image, mask = images_and_masks()

    @jax.jit
    def run():
        rngs = {"params": jax.random.key(3), "sample": jax.random.key(4)}
        return model.init_with_output(rngs, image, mask, train=True, target=target)[0]

    terms = jax.tree.map(np.asarray, run())
    np.testing.assert_allclose(terms.scale, 0.2, rtol=1e-5)
    normal = -0.5 * ((image - terms.prediction) / 0.2) ** 2 - np.log(0.2 * np.sqrt(2 * np.pi))
    counted = np.ones_like(mask) if target == "all" else ~np.asarray(mask)
    np.testing.assert_allclose(terms.log_prob, (normal * counted).sum(axis=(1, 2, 3)), rtol=1e-4)


def test_bfloat16_is_close_to_float32():
    variables, answer = build("ANP")
    image, mask = images_and_masks()
    model = make_model("ANP", compute_dtype="bfloat16")
    run = jax.jit(functools.partial(model.apply, num_samples=NUM_SAMPLES, method="complete"))
    half = run(variables, image, mask, rngs={"sample": jax.random.key(5)})
    np.testing.assert_allclose(half.samples, answer(image, mask, jax.random.key(5))[1].samples, atol=0.1)


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
@pytest.mark.parametrize("name", ["CNP", "LNP"])  # one for each path's input
def test_wrong_inputs_are_refused(name, image, mask):
    with pytest.raises(AssertionError):
        abstract(make_model(name), image, mask)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_a_misspelt_likelihood_is_refused(name):
    with pytest.raises(UserError, match="likelihood is 'sparkling'; choose one of fixed, learned, per_pixel"):
        abstract(
            make_model(name, likelihood="sparkling"), jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1), bool)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads is 3; it must divide width, which is 8"),
        ({"num_heads": 0}, "num_heads is 0; it must divide width"),
        ({"encoder_depth": 0}, "encoder_depth is 0; with attention it must be at least 1"),
    ],
)
def test_an_impossible_attention_is_refused_where_there_is_one(options, message):
    image, mask = jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1), bool)
    with pytest.raises(UserError, match=message):
        abstract(make_model("ANP", **options), image, mask)
    abstract(make_model("NP", **options), image, mask)


@pytest.mark.parametrize("likelihood", likelihoods.LIKELIHOODS)
def test_every_likelihood_is_accepted(likelihood):
    image, mask = jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1), bool)
    params = abstract(make_model("CNP", likelihood=likelihood), image, mask)[2]
    assert ("raw_sigma" in params) == (likelihood == "learned")


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_two_steps(name):
    model, tx = make_model(name), optax.adam(1e-2)
    batch = sampling.Batch(*images_and_masks())
    params = random_variables(model, batch.image, batch.mask)["params"]
    before = parameters.TrainState(
        step=jnp.int32(0), params=params, opt_state=tx.init(params), ema_params=None
    )
    step = jax.jit(elbo.make_elbo_step(jax.random.key(3), model, tx))
    for _ in range(2):
        after, logged = step(before, batch)
        chex.assert_tree_all_finite((after, logged))
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
        is_changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.params, after.params)
        assert all(jax.tree.leaves(is_changed))
        np.testing.assert_allclose(logged["loss"], logged["kl"] - logged["log_prob"], rtol=1e-5)
        before = after


def test_a_cnp_is_evaluated_and_completes_without_z():
    variables, answer = build("CNP")
    image, mask = images_and_masks()
    image = jnp.round(255 * image) / 255
    call = {"key": jax.random.key(5), "params": variables["params"], "mask": mask, "num_samples": 4}
    values = evaluate.evaluate_batch(
        model=make_model("CNP"), images=jnp.uint8(jnp.round(255 * image)), target="unobserved", **call
    )
    chex.assert_tree_all_finite(values)
    assert values["kl_per_dim"].shape == (B, 0)
    np.testing.assert_array_equal(values["kl"], np.zeros(B))
    samples, scale = answers.complete_batch(module=make_model("CNP"), image=image, **call)
    assert samples.shape == scale.shape == (4, B, H, W, 1)
    one = answer(image, mask, jax.random.key(0))[1]
    np.testing.assert_allclose(samples, np.broadcast_to(one.samples[:1], samples.shape), atol=1e-5)
    exact = objectives.gaussian_log_prob(image, one.samples[0], one.scale[0], ~mask)
    per_value = exact / (~mask).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(values["log_prob"], per_value, rtol=1e-4)


# The parts, on points: through an image a pixel cannot change its place and keep its coordinates.
N, D, HEADS = 7, 6, 2


def random_points(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def some_observed():
    observed = np.random.default_rng(1).random((B, N)) < 0.5
    observed[:, 0], observed[:, 1] = True, False
    return observed


ATTENTIONS = {"content": point_np.MaskedAttention, "position": point_np.PositionAttention}


@functools.cache
def attention(kind):
    """Returns the parameters and `attend(features, observed)` or `attend(positions, values, observed)`."""
    module = ATTENTIONS[kind](D, HEADS)
    inputs = attention_inputs(kind)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs, some_observed())["params"]
    generator = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    return params, jax.jit(functools.partial(module.apply, {"params": params}))


def attention_inputs(kind):
    features = random_points(B, N, D, seed=3)
    return (random_points(N, D, seed=4), features) if kind == "position" else (features,)


def test_masked_mean_is_the_mean_of_the_context():
    features, observed = random_points(B, N, D), some_observed()
    result = point_np.masked_mean(jnp.where(observed[:, :, None], features, np.nan), jnp.asarray(observed))
    expected = [one[selected].mean(axis=0) for one, selected in zip(features, observed, strict=True)]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_masked_mean_of_an_empty_context_is_zero_with_zero_gradient():
    features, observed = random_points(1, N, D), jnp.zeros((1, N), bool)
    np.testing.assert_array_equal(point_np.masked_mean(features, observed), np.zeros((1, D)))
    gradient = jax.grad(lambda x: point_np.masked_mean(x, observed).sum())(features)
    np.testing.assert_array_equal(gradient, np.zeros_like(features))


def test_masked_mean_of_bfloat16_is_summed_in_float32():
    features = jnp.full((1, 4096, 1), 1.0078125, jnp.bfloat16)
    result = point_np.masked_mean(features, jnp.ones((1, 4096), bool))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, 1.0078125, rtol=1e-6)


def test_masked_mean_does_not_see_the_order_of_the_context():
    features, observed = random_points(B, N, D), some_observed()
    order = np.random.default_rng(6).permutation(N)
    result = point_np.masked_mean(features[:, order], jnp.asarray(observed[:, order]))
    expected = point_np.masked_mean(jnp.asarray(features), jnp.asarray(observed))
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_is_a_softmax_over_the_squeezed_context(kind):
    params, attend = attention(kind)
    *positions, features = attention_inputs(kind)
    observed = some_observed()
    result = attend(*positions, features, observed)

    def heads(name, x):
        return (x @ params[name]["kernel"]).reshape(len(x), HEADS, D // HEADS)

    for index, selected in enumerate(observed):
        at = positions[0] if positions else features[index]
        q, k, v = heads("query", at), heads("key", at[selected]), heads("value", features[index, selected])
        weights = special.softmax(np.einsum("ihd,jhd->hij", q, k) / np.sqrt(D // HEADS), axis=-1)
        attended = np.einsum("hij,jhd->ihd", weights, v).reshape(N, D)
        expected = attended @ params["out"]["kernel"] + params["out"]["bias"]
        np.testing.assert_allclose(result[index], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_moves_with_its_points(kind):
    # Context: another order of the points changes no answer; targets: the answers come in the same order.
    _, attend = attention(kind)
    observed, order = some_observed(), np.random.default_rng(6).permutation(N)
    inputs = attention_inputs(kind)
    result = attend(*(x[..., order, :] for x in inputs), observed[:, order])
    np.testing.assert_allclose(result, attend(*inputs, observed)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hidden", [100.0, np.nan])
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_never_reads_points_outside_the_context(kind, hidden):
    _, attend = attention(kind)
    *positions, features = attention_inputs(kind)
    observed = some_observed()
    spoiled = np.where(observed[:, :, None], features, np.float32(hidden))
    result = attend(*positions, spoiled, observed)
    expected = attend(*positions, features, observed)
    # A point that attends to itself outside the context has another query, not other keys or values.
    compared = observed if kind == "content" else np.ones_like(observed)
    chex.assert_tree_all_finite(result[compared])
    np.testing.assert_array_equal(result[compared], expected[compared])


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_to_an_empty_context_is_the_bias(kind):
    params, attend = attention(kind)
    result = attend(*attention_inputs(kind), np.zeros((B, N), bool))
    np.testing.assert_allclose(result, np.broadcast_to(params["out"]["bias"], (B, N, D)), atol=1e-6)


def decoder_and_inputs(*, num_points=N):
    """Returns `decode(x, r, z)` with random parameters, and x, r (B, `num_points`, D), z (2, B, 3)."""
    module = point_np.PointDecoder(D, 2, 2)
    inputs = (random_points(N, 2), random_points(B, num_points, D, seed=1), random_points(2, B, 3, seed=2))
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    generator = np.random.default_rng(3)
    variables = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape).astype(np.float32), shapes)
    return variables, functools.partial(module.apply, variables), inputs


def test_permuted_targets_have_permuted_answers_of_the_decoder():
    _, decode, (x, r, z) = decoder_and_inputs()
    order = np.random.default_rng(6).permutation(N)
    np.testing.assert_allclose(decode(x[order], r[:, order], z), decode(x, r, z)[:, :, order], atol=1e-4)


@pytest.mark.parametrize("num_points", [1, N])
def test_the_decoder_is_an_mlp_on_the_concatenation(num_points):
    variables, decode, (x, r, z) = decoder_and_inputs(num_points=num_points)
    params = variables["params"]
    shape = (2, B, N)
    parts = [
        np.broadcast_to(x, (*shape, 2)),
        np.broadcast_to(r, (*shape, D)),
        np.broadcast_to(z[:, :, None], (*shape, 3)),
    ]
    kernel = np.concatenate([params[name]["kernel"] for name in ("from_x", "from_r", "from_z")])
    hidden = np.concatenate(parts, axis=-1) @ kernel + params["from_x"]["bias"]
    for name in ("Dense_0", "Dense_1"):
        hidden = np.asarray(nn.gelu(hidden)) @ params[name]["kernel"] + params[name]["bias"]
    np.testing.assert_allclose(decode(x, r, z), hidden, rtol=1e-3, atol=1e-3)
