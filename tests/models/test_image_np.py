import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.errors import UserError
from ifanp_jax.models import image_np
from ifanp_jax.training.parameters import count_parameters

SMALL = {
    "channels": 1,
    "width": 8,
    "latent_dim": 4,
    "encoder_depth": 1,
    "decoder_depth": 1,
    "likelihood": "per_pixel",
}
# With SMALL. Encoder 616, encoder 3 144, decoder 658; squeeze-and-excitation 42; the deterministic path adds
# encoder 2 616, theta 168 and the decoder's 64 weights of R_pred.
PARAMETER_COUNTS = {
    "IFNP": 1418,
    "IFANP_LPA": 1418,
    "IFANP_SENet": 1460,
    "IFANP_GCA": 2266,
    "IFANP": 2266,
}
B, H, W = 3, 4, 5
NUM_SAMPLES = 2


def images_and_masks():
    image = jax.random.uniform(jax.random.key(1), (B, H, W, 1))
    return image, jax.random.bernoulli(jax.random.key(2), 0.5, (B, H, W, 1))


def random_variables(model, image, mask):
    """Parameters from NumPy, biases included: no compilation."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(functools.partial(model.init, train=True), rngs, image, mask)
    generator = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: generator.normal(0, 0.2, leaf.shape).astype(leaf.dtype), shapes)


@functools.cache
def build(name):
    """Returns the model's variables and its compiled answers (test-time terms, completion)."""
    model = getattr(image_np, name)(**SMALL)
    image, mask = images_and_masks()
    variables = random_variables(model, image, mask)

    @jax.jit
    def answer(variables, image, mask, key):
        apply = functools.partial(model.apply, variables, image, mask, rngs={"sample": key})
        return apply(train=False, num_samples=NUM_SAMPLES), apply(num_samples=NUM_SAMPLES, method="complete")

    return variables, functools.partial(answer, variables)


def abstract(model, image, mask, **options):
    """Shapes and dtypes of the training terms, the completion and the parameters."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}

    def run():
        terms, variables = model.init_with_output(rngs, image, mask, train=True, **options)
        num_samples = options.get("num_samples", 1)
        completion = model.apply(
            variables,
            image,
            mask,
            num_samples=num_samples,
            method="complete",
            rngs={"sample": rngs["sample"]},
        )
        return terms, completion, variables["params"]

    return jax.eval_shape(run)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_exact_parameter_count(name):
    image, mask = jnp.zeros((1, H, W, 1)), jnp.ones((1, H, W, 1), bool)
    params = abstract(getattr(image_np, name)(**SMALL), image, mask)[2]
    assert count_parameters(params) == PARAMETER_COUNTS[name]


def test_every_public_model_is_listed():
    def is_variant(value):
        return isinstance(value, functools.partial) and issubclass(value.func, nn.Module)

    variants = {name for name, value in vars(image_np).items() if is_variant(value)}
    assert variants == set(PARAMETER_COUNTS)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 3, 3), (1, 6, 2)])
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_shapes_and_dtypes(name, shape, compute_dtype):
    h, w, c = shape
    model = getattr(image_np, name)(**SMALL | {"channels": c, "compute_dtype": compute_dtype})
    image, mask = jnp.zeros((2, h, w, c)), jnp.ones((2, h, w, 1), bool)
    terms, completion, params = abstract(model, image, mask, num_samples=3)
    chex.assert_shape([terms.log_prob, terms.kl], (2,))
    chex.assert_shape(terms.kl_per_dim, (2, SMALL["latent_dim"]))
    chex.assert_shape([terms.prediction, terms.scale], (2, h, w, c))
    chex.assert_shape([completion.samples, completion.scale], (3, 2, h, w, c))
    chex.assert_type(jax.tree.leaves((terms, completion, params)), jnp.float32)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_answers_on_another_grid_than_initialised_with(name):
    variables, _ = build(name)
    image, mask = jnp.zeros((2, 7, 6, 1)), jnp.ones((2, 7, 6, 1), bool)
    completion = jax.eval_shape(
        lambda: getattr(image_np, name)(**SMALL).apply(
            variables, image, mask, num_samples=1, method="complete", rngs={"sample": jax.random.key(0)}
        )
    )
    chex.assert_shape(completion.samples, (1, 2, 7, 6, 1))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("IFNP", {"likelihood": "learned"}),
        ("IFANP_LPA", {"lpa_learned_scale": True}),
        ("IFANP_SENet", {"likelihood": "fixed"}),
        ("IFANP_GCA", {"gca_heads": 2, "gca_blocks": 2, "gca_embedding": "linear"}),
        ("IFANP", {"compute_dtype": "bfloat16"}),
    ],
)
def test_every_parameter_has_a_finite_and_non_zero_gradient(name, options):
    model = getattr(image_np, name)(**SMALL | options)
    image, mask = images_and_masks()
    mask = mask.at[0].set(False)  # an empty context among the others

    def loss(variables):
        rngs = {"sample": jax.random.key(4)}
        terms = model.apply(variables, image, mask, train=True, num_samples=2, rngs=rngs)
        return (terms.kl - terms.log_prob).mean()

    gradient = jax.jit(jax.grad(loss))(random_variables(model, image, mask))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize("hidden", [0.123, np.nan])
@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_unobserved_pixels_never_leak_into_the_answer(name, hidden):
    _, answer = build(name)
    image, mask = images_and_masks()
    terms, completion = answer(image, mask, jax.random.key(5))
    other_terms, other_completion = answer(jnp.where(mask, image, hidden), mask, jax.random.key(5))
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


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_empty_and_full_masks_stay_finite_and_a_full_context_has_no_divergence(name):
    _, answer = build(name)
    image, mask = images_and_masks()
    mask = mask.at[0].set(False).at[1].set(True)
    terms, completion = answer(image, mask, jax.random.key(5))
    chex.assert_tree_all_finite((terms, completion))
    kl = np.asarray(terms.kl)
    assert kl[1] < 1e-6 < min(kl[0], kl[2])


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_the_divergence_is_that_of_the_full_image_from_the_context(name):
    variables, answer = build(name)
    image, mask = images_and_masks()
    kl_per_dim = answer(image, mask, jax.random.key(5))[0].kl_per_dim
    latent = functools.partial(getattr(image_np, name)(**SMALL).apply, variables, image, method="latent")
    (mean, scale), (context_mean, context_scale) = latent(jnp.ones_like(mask)), latent(mask)
    # KL(N(m, s^2) || N(n, t^2)) = log(t / s) + (s^2 + (m - n)^2) / (2 t^2) - 1 / 2
    squares = np.square(scale) + np.square(mean - context_mean)
    expected = np.log(context_scale / scale) + squares / (2 * np.square(context_scale)) - 0.5
    np.testing.assert_allclose(kl_per_dim, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_answers_follow_from_the_key(name):
    _, answer = build(name)
    image, mask = images_and_masks()
    first, again, other = (answer(image, mask, jax.random.key(seed))[1].samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.any(np.asarray(first != other), axis=(2, 3, 4)))
    assert np.any(np.asarray(first[0] != first[1]))


@pytest.mark.parametrize("name", PARAMETER_COUNTS)
def test_a_completion_depends_neither_on_the_batch_nor_on_the_place_in_it(name):
    _, answer = build(name)
    image, mask = images_and_masks()
    other_image, other_mask = (
        jnp.ones_like(image).at[2].set(image[0]),
        jnp.zeros_like(mask).at[2].set(mask[0]),
    )
    terms, completion = answer(image, mask, jax.random.key(5))
    other_terms, other_completion = answer(other_image, other_mask, jax.random.key(5))
    np.testing.assert_allclose(completion.samples[:, 0], other_completion.samples[:, 2], atol=1e-5)
    np.testing.assert_allclose(terms.prediction[0], other_terms.prediction[2], atol=1e-5)


def test_the_test_time_prediction_is_the_mean_completion():
    _, answer = build("IFANP")
    terms, completion = answer(*images_and_masks(), jax.random.key(5))
    np.testing.assert_allclose(terms.prediction, completion.samples.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(terms.scale, completion.scale.mean(axis=0), atol=1e-6)


def test_training_noise_is_drawn_per_image():
    mean, scale = jnp.zeros((4, 3)), jnp.ones((4, 3))

    def draw(train):
        return image_np.IFNP(**SMALL).apply(
            {},
            mean,
            scale,
            train=train,
            num_samples=2,
            method="sample_latent",
            rngs={"sample": jax.random.key(0)},
        )

    independent, shared = np.asarray(draw(True)), np.asarray(draw(False))
    assert independent.shape == shared.shape == (2, 4, 3)
    assert len(np.unique(independent)) == 24
    assert len(np.unique(shared)) == 6
    np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :1], shared.shape))


def test_a_test_draws_from_the_context_and_a_training_from_the_full_image():
    # With the decoder's view of z alone (IFNP) and no unobserved difference, only the source of z can matter.
    variables, _ = build("IFNP")
    model = image_np.IFNP(**SMALL)
    image, mask = images_and_masks()

    @functools.partial(jax.jit, static_argnames="train")
    def predict(image, train):
        return model.apply(variables, image, mask, train=train, rngs={"sample": jax.random.key(0)}).prediction

    hidden_changed = jnp.where(mask, image, 1 - image)
    assert np.any(np.asarray(predict(image, True) != predict(hidden_changed, True)))
    np.testing.assert_array_equal(predict(image, False), predict(hidden_changed, False))


@pytest.mark.parametrize(
    ("likelihood", "target"),
    [("fixed", "all"), ("fixed", "unobserved"), ("learned", "unobserved"), ("per_pixel", "all")],
)
def test_likelihood_and_target(likelihood, target):
    model = image_np.IFNP(**SMALL | {"likelihood": likelihood, "sigma": 0.2, "sigma_floor": 0.05})
    image, mask = images_and_masks()

    @jax.jit
    def run():
        rngs = {"params": jax.random.key(3), "sample": jax.random.key(4)}
        return model.init_with_output(rngs, image, mask, train=True, target=target)[0]

    terms = jax.tree.map(np.asarray, run())
    if likelihood == "per_pixel":
        assert terms.scale.min() > 0.05 and terms.scale.std() > 1e-4
    else:
        np.testing.assert_allclose(terms.scale, 0.2, rtol=1e-5)
    normal = -0.5 * ((image - terms.prediction) / terms.scale) ** 2 - np.log(terms.scale * np.sqrt(2 * np.pi))
    counted = np.ones_like(mask) if target == "all" else ~np.asarray(mask)
    np.testing.assert_allclose(terms.log_prob, (normal * counted).sum(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(terms.kl, terms.kl_per_dim.sum(axis=1), rtol=1e-6)


def test_bfloat16_is_close_to_float32():
    variables, answer = build("IFANP")
    image, mask = images_and_masks()
    model = image_np.IFANP(**SMALL, compute_dtype="bfloat16")
    complete = jax.jit(functools.partial(model.apply, num_samples=NUM_SAMPLES, method="complete"))
    half = complete(variables, image, mask, rngs={"sample": jax.random.key(5)})
    np.testing.assert_allclose(half.samples, answer(image, mask, jax.random.key(5))[1].samples, atol=0.1)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((2, 4, 4, 3)), np.ones((2, 4, 4, 1), bool)),  # another number of channels
        (np.zeros((2, 4, 4, 1)), np.ones((2, 4, 5, 1), bool)),
        (np.zeros((2, 4, 4, 1)), np.ones((2, 4, 4, 1))),  # a mask of numbers
        (np.zeros((2, 4, 4, 1), np.uint8), np.ones((2, 4, 4, 1), bool)),
        (np.zeros((4, 4, 1)), np.ones((4, 4, 1), bool)),
    ],
)
def test_wrong_inputs_are_refused(image, mask):
    with pytest.raises(AssertionError):
        abstract(image_np.IFNP(**SMALL), image, mask)


@pytest.mark.parametrize("field", ["encoder_extra", "gca_embedding", "likelihood"])
def test_a_misspelt_choice_is_refused(field):
    model = image_np.ImageNeuralProcess(**SMALL | {field: "sparkling"})
    with pytest.raises(UserError, match=f"{field} is 'sparkling'; choose one of"):
        abstract(model, jnp.zeros((1, 4, 4, 1)), jnp.ones((1, 4, 4, 1), bool))
