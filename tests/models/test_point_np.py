"""What only the models on points have: CNP without z, attention by position, and their parts."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from ifanp_jax import objectives
from ifanp_jax.errors import UserError
from ifanp_jax.models import parameters, point_np
from ifanp_jax.modules import grid
from tests import helpers
from tests.models.table import MODELS, SHAPE, build, build_training, make_model

B, (H, W, _) = 3, SHAPE


def images_and_masks():
    return helpers.images_and_masks(SHAPE)


def test_the_log_prob_of_a_cnp_is_exact_and_the_same_in_training_and_test():
    image, mask = images_and_masks()
    test_terms, completion = build("point_np.CNP")[1](image, mask, jax.random.key(5))
    _, terms = build_training("point_np.CNP")[1](image, mask, jax.random.key(6))
    exact = objectives.gaussian_log_prob(
        image, completion.samples[0], completion.scale[0], jnp.ones_like(mask)
    )
    np.testing.assert_allclose(terms.log_prob, exact, rtol=1e-5)
    np.testing.assert_allclose(test_terms.log_prob, exact, rtol=1e-5)
    np.testing.assert_array_equal(completion.scale[0], completion.scale[1])


def test_the_divergence_is_that_of_the_full_images_z_from_the_contexts():
    model = make_model("point_np.NP")
    variables, answer = build("point_np.NP")
    image, mask = images_and_masks()
    latent = jax.jit(functools.partial(model.apply, variables, method="latent"))
    full, context = latent(image, jnp.ones_like(mask)), latent(image, mask)
    terms, _ = answer(image, mask, jax.random.key(5))
    expected = objectives.gaussian_kl(*full, *context)
    np.testing.assert_allclose(terms.kl_per_dim, expected, rtol=1e-4, atol=1e-6)
    assert np.all((np.asarray(full[1]) > 0.1) & (np.asarray(full[1]) < 1))


def test_the_cross_attention_of_an_anp_weighs_by_position_alone():
    # Queries and keys pass through one encoder of x; intensities are in the values only.
    variables, _ = build("point_np.ANP")
    image, mask = images_and_masks()

    def weighed(module, image):
        pairs, observed = module.pairs(image, mask)
        values = module.encoder(pairs)
        values = values + module.self_attention(values, observed)
        positions = module.position_encoder(grid.coordinates(H, W).reshape(H * W, 2))
        return module.cross_attention(positions, values, observed)

    apply = functools.partial(make_model("point_np.ANP").apply, variables)
    result, expected = jax.jit(
        lambda image: (apply(image, mask, method="deterministic"), apply(image, method=weighed))
    )(image)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_an_anp_without_self_attention_is_smaller():
    model = make_model("point_np.ANP", has_self_attention=False)
    params = helpers.abstract_answers(model, *images_and_masks())[2]
    two_attentions = 2 * 264
    assert parameters.count_parameters(params) == MODELS["point_np.ANP"].num_parameters - two_attentions
    size = (256, 256)
    with_it = make_model("point_np.ANP", num_heads=4).completion_bytes(size)
    assert model.completion_bytes(size) < with_it < 0.3e9  # all pairs of pixels would take 69e9 bytes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 3}, r"num_heads is 3; it must divide config\.model\.width, which is 8"),
        ({"num_heads": 0}, "num_heads is 0; it must be at least 1"),
        ({"encoder_depth": 0}, "encoder_depth is 0; it must be at least 1"),
    ],
)
def test_an_impossible_attention_is_refused_where_there_is_one(fields, message):
    with pytest.raises(UserError, match=rf"config\.model\.{message}"):
        make_model("point_np.ANP", **fields)
    if fields != {"num_heads": 0}:
        helpers.abstract_answers(make_model("point_np.NP", **fields), *images_and_masks())


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
