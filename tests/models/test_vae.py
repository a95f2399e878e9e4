import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ifanp_jax import objectives
from ifanp_jax.data import sampling
from ifanp_jax.errors import UserError
from ifanp_jax.models import vae
from ifanp_jax.training import parameters
from ifanp_jax.training.steps import elbo

SMALL = {"channels": 1, "width": 4, "latent_dim": 3, "likelihood": "per_pixel"}
# With SMALL and F = ceil(H / 4) * ceil(W / 4) * 4 values before z. Encoder 40 + 2 * 148, to z 6 F + 6, from
# z 3 F + F, transposed 2 * 260, to the image 74: 936 + 10 F. Each further channel adds 9 * 4 weights at the
# input and 2 * (9 * 4 + 1) at the output: 110.
PARAMETER_COUNTS = {
    (8, 8, 1): 936 + 10 * 16,
    (28, 28, 1): 936 + 10 * 196,
    (7, 5, 1): 936 + 10 * 16,
    (8, 8, 3): 936 + 10 * 16 + 2 * 110,
}
B, H, W = 3, 7, 5


def images_and_masks():
    image = jax.random.uniform(jax.random.key(1), (B, H, W, 1))
    return image, jax.random.bernoulli(jax.random.key(2), 0.5, (B, H, W, 1))


def random_variables(model):
    """Parameters from NumPy, biases included: no compilation."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(functools.partial(model.init, train=True), rngs, *images_and_masks())
    generator = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, 0.2, leaf.shape), leaf.dtype), shapes)


@functools.cache
def build(**options):
    """Returns the variables and three compiled functions: training, test, completion."""
    model = vae.VAE(**SMALL | options)
    variables = random_variables(model)

    def compiled(**call):
        apply = jax.jit(functools.partial(model.apply, **call))

        def answer(image, mask, *, seed=5):
            return apply(variables, image, mask, rngs={"sample": jax.random.key(seed)})

        return answer

    options = {"num_samples": 2}
    return (
        variables,
        compiled(train=True, **options),
        compiled(train=False, **options),
        compiled(method="complete", **options),
    )


def latent(image, mask):
    return vae.VAE(**SMALL).apply(build()[0], image, mask, method="latent")


def abstract(model, image, mask, *, num_samples=1):
    """Shapes and dtypes of the training terms, the completion and the parameters."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}

    def run():
        terms, variables = model.init_with_output(rngs, image, mask, train=True, num_samples=num_samples)
        options = {"num_samples": num_samples + 1, "method": "complete", "rngs": {"sample": rngs["sample"]}}
        return terms, model.apply(variables, image, mask, **options), variables["params"]

    return jax.eval_shape(run)


@pytest.mark.parametrize("shape", PARAMETER_COUNTS)
def test_exact_parameter_count(shape):
    h, w, c = shape
    image, mask = jnp.zeros((1, h, w, c)), jnp.ones((1, h, w, 1), bool)
    params = abstract(vae.VAE(**SMALL | {"channels": c}), image, mask)[2]
    assert parameters.count_parameters(params) == PARAMETER_COUNTS[shape]


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (7, 5), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("compute_dtype", "num_samples"), [("float32", 3), ("bfloat16", 1)])
def test_shapes_and_dtypes(size, channels, compute_dtype, num_samples):
    model = vae.VAE(**SMALL | {"channels": channels, "compute_dtype": compute_dtype})
    image, mask = jnp.zeros((2, *size, channels)), jnp.ones((2, *size, 1), bool)
    terms, completion, params = abstract(model, image, mask, num_samples=num_samples)
    chex.assert_shape([terms.log_prob, terms.kl], (2,))
    chex.assert_shape(terms.kl_per_dim, (2, SMALL["latent_dim"]))
    chex.assert_shape([terms.prediction, terms.scale], (2, *size, channels))
    chex.assert_shape([completion.samples, completion.scale], (num_samples + 1, 2, *size, channels))
    chex.assert_type(jax.tree.leaves((terms, completion, params)), jnp.float32)


@pytest.mark.parametrize("num_halvings", [0, 1, 3])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (9, 1)])
def test_any_number_of_halvings_fits_any_size(num_halvings, size):
    model = vae.VAE(**SMALL | {"num_halvings": num_halvings})
    image, mask = jnp.zeros((2, *size, 1)), jnp.ones((2, *size, 1), bool)
    terms, completion, params = abstract(model, image, mask)
    chex.assert_shape(terms.prediction, (2, *size, 1))
    chex.assert_shape(completion.samples, (2, 2, *size, 1))
    num_small = np.prod([-(-side // 2**num_halvings) for side in size])
    count = 40 + num_halvings * (148 + 260) + 6 + 74 + 10 * 4 * num_small
    assert parameters.count_parameters(params) == count


@pytest.mark.parametrize("options", [{}, {"likelihood": "learned"}, {"compute_dtype": "bfloat16"}])
def test_every_parameter_has_a_finite_and_non_zero_gradient(options):
    model = vae.VAE(**SMALL | options)
    image, mask = images_and_masks()

    def loss(variables):
        rngs = {"sample": jax.random.key(4)}
        terms = model.apply(variables, image, mask, train=True, num_samples=2, rngs=rngs)
        return (terms.kl - terms.log_prob).mean()

    gradient = jax.jit(jax.grad(loss))(random_variables(model))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(np.asarray(leaf) != 0), jax.tree_util.keystr(path)


def test_in_training_the_divergence_is_that_from_a_standard_normal():
    image, mask = images_and_masks()
    terms = build()[1](image, mask)
    mean, scale = (np.float64(x) for x in latent(image, jnp.ones_like(mask)))
    expected = 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale))
    np.testing.assert_allclose(terms.kl_per_dim, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(terms.kl, expected.sum(axis=1), rtol=1e-4)


def test_training_does_not_see_the_mask():
    image, mask = images_and_masks()
    terms = build()[1](image, mask)
    for other in (~mask, jnp.zeros_like(mask), jnp.ones_like(mask)):
        chex.assert_trees_all_equal(build()[1](image, other), terms)


def test_in_a_test_the_divergence_is_between_the_full_and_the_masked_image():
    image, mask = images_and_masks()
    mask = mask.at[1].set(True)
    expected = objectives.gaussian_kl(*latent(image, jnp.ones_like(mask)), *latent(image, mask)).sum(axis=1)
    kl = np.asarray(build()[2](image, mask).kl)
    np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-6)
    assert abs(kl[1]) < 1e-6 < min(kl[0], kl[2])


@pytest.mark.parametrize("hidden", [0.123, np.nan])
def test_unobserved_pixels_never_leak_into_the_answer(hidden):
    _, _, test, complete = build()
    image, mask = images_and_masks()
    spoiled = jnp.where(mask, image, hidden)
    completion = complete(image, mask)
    chex.assert_tree_all_finite(completion)
    chex.assert_trees_all_equal(complete(spoiled, mask), completion)
    terms, other_terms = test(image, mask), test(spoiled, mask)
    np.testing.assert_array_equal(other_terms.prediction, terms.prediction)
    np.testing.assert_array_equal(other_terms.scale, terms.scale)


def test_unobserved_pixels_are_seen_as_black():
    # All that a VAE is told of a context: it cannot tell a hidden pixel from a black one.
    complete = build()[3]
    image, mask = images_and_masks()
    as_black = complete(jnp.where(mask, image, 0), jnp.ones_like(mask))
    chex.assert_trees_all_equal(complete(image, mask), as_black)


def test_observed_pixels_do_change_the_answer():
    complete = build()[3]
    image, mask = images_and_masks()
    samples, changed = complete(image, mask).samples, complete(1 - image, mask).samples
    assert np.all(np.any(np.asarray(samples != changed), axis=(0, 2, 3, 4)))


def test_empty_and_full_masks_stay_finite():
    image, mask = images_and_masks()
    mask = mask.at[0].set(False).at[1].set(True)
    chex.assert_tree_all_finite([answer(image, mask) for answer in build()[1:]])


def test_the_test_time_prediction_is_the_mean_completion():
    _, _, test, complete = build()
    terms, completion = test(*images_and_masks()), complete(*images_and_masks())
    np.testing.assert_allclose(terms.prediction, completion.samples.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(terms.scale, completion.scale.mean(axis=0), atol=1e-5)


def test_answers_follow_from_the_key():
    complete = build()[3]
    first, again, other = (complete(*images_and_masks(), seed=seed).samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.all(np.any(np.asarray(first != other), axis=(2, 3, 4)))
    assert np.any(np.asarray(first[0] != first[1]))


def test_training_gives_each_image_its_own_noise_and_a_test_shares_it():
    image, mask = images_and_masks()
    image, mask = (jnp.broadcast_to(x[:1], x.shape) for x in (image, mask))
    independent, shared = (np.asarray(build()[index](image, mask).prediction) for index in (1, 2))
    assert np.any(independent[0] != independent[1]) and np.any(independent[1] != independent[2])
    np.testing.assert_allclose(shared, np.broadcast_to(shared[:1], shared.shape), atol=1e-6)


def test_a_completion_depends_neither_on_the_batch_nor_on_the_place_in_it():
    complete = build()[3]
    image, mask = images_and_masks()
    other_image = jnp.ones_like(image).at[2].set(image[0])
    other_mask = jnp.zeros_like(mask).at[2].set(mask[0])
    samples, others = complete(image, mask).samples, complete(other_image, other_mask).samples
    np.testing.assert_allclose(samples[:, 0], others[:, 2], atol=1e-5)


def test_a_step_changes_every_parameter_and_stays_finite():
    model, tx = vae.VAE(**SMALL), optax.adam(1e-2)
    params = random_variables(model)["params"]
    before = parameters.TrainState(
        step=jnp.int32(0), params=params, opt_state=tx.init(params), ema_params=None
    )
    step = jax.jit(elbo.make_elbo_step(jax.random.key(3), model, tx))
    after, logged = step(before, sampling.Batch(*images_and_masks()))
    chex.assert_tree_all_finite((after, logged))
    is_changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before.params, after.params)
    assert all(jax.tree.leaves(is_changed))


def test_bfloat16_is_close_to_float32():
    image, mask = images_and_masks()
    half = build(compute_dtype="bfloat16")[3](image, mask).samples
    np.testing.assert_allclose(half, build()[3](image, mask).samples, atol=0.1)


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
        abstract(vae.VAE(**SMALL), image, mask)


def test_a_mask_per_channel_is_refused():
    model = vae.VAE(**SMALL | {"channels": 3})
    image, mask = jnp.zeros((2, 8, 8, 3)), jnp.ones((2, 8, 8, 1), bool)
    variables = {"params": abstract(model, image, mask)[2]}
    per_channel, rngs = jnp.ones((2, 8, 8, 3), bool), {"sample": jax.random.key(0)}
    complete = functools.partial(model.apply, num_samples=1, method="complete", rngs=rngs)
    with pytest.raises(AssertionError):
        jax.eval_shape(complete, variables, image, per_channel)


def test_a_misspelt_likelihood_is_refused():
    with pytest.raises(UserError, match="likelihood is 'sparkling'; choose one of fixed, learned, per_pixel"):
        abstract(
            vae.VAE(**SMALL | {"likelihood": "sparkling"}),
            jnp.zeros((1, 4, 4, 1)),
            jnp.ones((1, 4, 4, 1), bool),
        )
