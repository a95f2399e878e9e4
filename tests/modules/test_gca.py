import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import gca, grid
from tests.oracles import attention

B, H, W, D = 3, 4, 5, 6
N = H * W


def squeezed_attention(similarity, values, observed):
    """The paper's form in float64: gather each image's context, take a softmax over it."""
    out = np.zeros((values.shape[0], similarity.shape[0], values.shape[2]))
    for image, kept in enumerate(observed):
        if kept.any():
            logits = similarity[:, kept].astype(np.float64)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[image] = weights @ values[image, kept].astype(np.float64)
    return out


def squeezed_gradients(similarity, values, observed, cotangent):
    """Gradients of <cotangent, squeezed_attention> by the softmax's closed form."""
    by_similarity, by_values = np.zeros(similarity.shape), np.zeros(values.shape)
    for image, kept in enumerate(observed):
        if kept.any():
            logits = similarity[:, kept].astype(np.float64)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            by_values[image, kept] = weights.T @ cotangent[image]
            by_weights = cotangent[image] @ values[image, kept].T.astype(np.float64)
            mean = (weights * by_weights).sum(axis=1, keepdims=True)
            by_similarity[:, kept] += weights * (by_weights - mean)
    return by_similarity, by_values


def half_mask():
    return np.broadcast_to(np.arange(N)[None] < N // 2, (B, N))


def last_pixel():
    return np.broadcast_to(np.arange(N)[None] == N - 1, (B, N))


def two_last_pixels():
    return np.broadcast_to(np.arange(N)[None] >= N - 2, (B, N))


def mixed_batch():
    return np.stack([np.zeros(N, bool), last_pixel()[0], np.ones(N, bool)])


MASKS = {
    "random": lambda: np.asarray(jax.random.bernoulli(jax.random.key(9), 0.4, (B, N))),
    "half": half_mask,
    "one_far_pixel": last_pixel,
    "two_far_pixels": two_last_pixels,
    "empty": lambda: np.zeros((B, N), bool),
    "full": lambda: np.ones((B, N), bool),
    "empty_far_and_full": mixed_batch,
}
# Squared length of theta; the far end of the half circle lies twice it below a position's own logit. The
# last two leave the ball and come back to MAX_LOGIT: far contexts then lie 60 nats down.
SQUARES = [0.5, 0.99 * gca.MAX_LOGIT, 1e4, 1e12]


def half_circle(square):
    angle = np.linspace(0, np.pi, N)
    return (np.sqrt(square) * np.stack([np.cos(angle), np.sin(angle)], axis=1)).astype(np.float32)


def expected_attention(theta, values, observed, cotangent):
    """Values, and gradients by theta and values, of the plain form."""
    inside, pullback = jax.vjp(gca.to_ball, theta)
    inside = np.asarray(inside, np.float64)
    similarity = inside @ inside.T
    by_similarity, by_values = squeezed_gradients(similarity, values, observed, cotangent)
    by_inside = (by_similarity + by_similarity.T) @ inside
    (by_theta,) = pullback(by_inside.astype(np.float32))
    return squeezed_attention(similarity, values, observed), by_theta, by_values


@pytest.fixture(scope="module")
def attend_and_gradients():
    def run(theta, values, observed, cotangent, max_entries):
        out, pullback = jax.vjp(
            lambda t, v: gca.attend(t, v, observed, max_entries=max_entries), theta, values
        )
        return out, *pullback(cotangent.astype(out.dtype))

    return jax.jit(run, static_argnums=4)


@pytest.mark.parametrize("max_entries", [gca.MAX_ENTRIES, 7 * N, 1])  # 7 targets do not divide 20
@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("kind", MASKS)
def test_values_and_gradients_equal_the_softmax_over_squeezed_context(
    attend_and_gradients, kind, square, max_entries
):
    observed, theta = MASKS[kind](), half_circle(square)
    values, cotangent = np.asarray(jax.random.normal(jax.random.key(0), (2, B, N, D)))
    out, by_theta, by_values = attend_and_gradients(theta, values, observed, cotangent, max_entries)
    expected = expected_attention(theta, values, observed, cotangent)
    np.testing.assert_allclose(out, expected[0], atol=1e-5)
    np.testing.assert_allclose(by_theta, expected[1], atol=5e-4)
    np.testing.assert_allclose(by_values, expected[2], atol=5e-5)


@pytest.mark.parametrize("oracle", [attention.by_softmax, attention.by_jax])
def test_it_is_the_attention_of_every_image_by_itself(attend_and_gradients, oracle):
    keys = jax.random.split(jax.random.key(0), 3)
    theta = gca.to_ball(jax.random.normal(keys[0], (N, D)))
    values, cotangent = jax.random.normal(keys[1], (2, B, N, D))
    observed = jax.random.bernoulli(keys[2], 0.4, (B, N)).at[:, 0].set(True)
    out, pullback = jax.vjp(lambda theta, values: oracle(theta, values, observed), theta, values)
    found = attend_and_gradients(theta, values, observed, cotangent, gca.MAX_ENTRIES)
    chex.assert_trees_all_close(found, (out, *pullback(cotangent)), atol=1e-4)


@pytest.mark.parametrize("square", [0.5, 1e4])
@pytest.mark.parametrize("kind", MASKS)
def test_bfloat16(attend_and_gradients, kind, square):
    observed, theta = MASKS[kind](), half_circle(square)
    values, cotangent = jax.random.normal(jax.random.key(0), (2, B, N, D)).astype(jnp.bfloat16)
    out, by_theta, by_values = attend_and_gradients(theta, values, observed, cotangent, gca.MAX_ENTRIES)
    chex.assert_type([out, by_values], jnp.bfloat16)
    chex.assert_type(by_theta, jnp.float32)
    values, cotangent = np.asarray(values, np.float32), np.asarray(cotangent, np.float32)
    expected = expected_attention(theta, values, observed, cotangent)
    np.testing.assert_allclose(out.astype(jnp.float32), expected[0], atol=0.03)
    chex.assert_tree_all_finite((by_theta, by_values.astype(jnp.float32)))


def count_scans(attend, *arrays):
    """Lengths of all scans of a function, in order."""
    text = str(jax.make_jaxpr(attend)(*arrays))
    return [int(length) for length in re.findall(r"\blength=(\d+)", text)]


# 7 has no divisor up to 3 but 1, so its images are attended to one by one.
@pytest.mark.parametrize(("b", "limit", "num_blocks"), [(6, 2, 3), (6, 4, 2), (6, 1, 6), (7, 3, 7)])
@pytest.mark.parametrize("max_entries", [gca.MAX_ENTRIES, 7 * N])
def test_a_few_images_at_a_time_equal_all_at_once(monkeypatch, b, limit, num_blocks, max_entries):
    observed = np.array(jax.random.bernoulli(jax.random.key(9), 0.4, (b, N)))
    observed[0], observed[-1] = False, True
    values, cotangent = np.asarray(jax.random.normal(jax.random.key(0), (2, b, N, D)))
    theta = half_circle(3.0)

    def run():
        # Functions of their own: a compiled one would keep the number of images it was traced with.
        def attend(theta, values):
            return gca.attend(theta, values, observed, max_entries=max_entries)

        def attend_and_gradients(theta, values):
            out, pullback = jax.vjp(attend, theta, values)
            return out, *pullback(cotangent)

        return count_scans(attend, theta, values), jax.jit(attend_and_gradients)(theta, values)

    outer = [] if max_entries == gca.MAX_ENTRIES else [3]  # blocks of targets
    lengths, expected = run()
    assert lengths == outer
    monkeypatch.setattr(gca, "CPU_VALUES", limit * N * D)
    lengths, blocked = run()
    assert sorted(lengths) == sorted([*outer, num_blocks])
    for actual, desired in zip(blocked, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-5)


def test_gradient_survives_the_largest_sum():
    # exp(MAX_LOGIT) from every one of many positions: the square of their sum must not overflow.
    theta = jnp.full((4096, 1), jnp.sqrt(gca.MAX_LOGIT))
    values = jnp.linspace(0, 1, 4096).reshape(1, 4096, 1)
    observed = jnp.ones((1, 4096), bool)
    gradient = jax.grad(lambda v: gca.attend(theta, v, observed)[0, 0, 0])(values)
    np.testing.assert_allclose(gradient, 1 / 4096, rtol=1e-4)


def test_ball_keeps_what_is_inside_and_shortens_the_rest():
    theta = jnp.array([[3.0, 4.0], [0.0, 0.0], [30.0, 40.0]])
    inside = gca.to_ball(theta)
    np.testing.assert_array_equal(inside[:2], theta[:2])
    np.testing.assert_allclose(inside[2], np.sqrt(gca.MAX_LOGIT) * np.array([0.6, 0.8]), rtol=1e-6)


def test_unobserved_values_are_never_read():
    observed = MASKS["random"]()
    values = np.asarray(jax.random.normal(jax.random.key(0), (B, N, D)))
    poisoned = np.where(observed[:, :, None], values, np.nan)
    theta = half_circle(3.0)
    attend = jax.jit(gca.attend)
    np.testing.assert_array_equal(attend(theta, poisoned, observed), attend(theta, values, observed))


@pytest.mark.parametrize("embedding", gca.EMBEDDINGS)
@pytest.mark.parametrize("num_heads", [1, 3])
def test_module_attends_with_each_head_over_its_own_channels(embedding, num_heads):
    features = jax.random.normal(jax.random.key(0), (B, H, W, D))
    mask = jax.random.bernoulli(jax.random.key(1), 0.3, (B, H, W, 1))
    positions = grid.coordinates(H, W)
    module = gca.GlobalCrossAttention(D, num_heads, embedding)
    out, variables = jax.jit(module.init_with_output)(jax.random.key(2), features, mask, positions)
    params = jax.tree.map(np.asarray, variables["params"]["theta"])
    assert len(params) == (3 if embedding == "mlp" else 1)
    theta = np.asarray(positions).reshape(N, 2)
    for index in range(len(params)):
        layer = params[f"Dense_{index}"]
        theta = (theta if index == 0 else np.asarray(jax.nn.gelu(theta))) @ layer["kernel"] + layer.get(
            "bias", 0
        )
    width = D // num_heads
    for head in range(num_heads):
        channels = slice(head * width, (head + 1) * width)
        embedded = np.asarray(gca.to_ball(theta[:, channels]))
        expected = squeezed_attention(
            embedded @ embedded.T,
            np.asarray(features).reshape(B, N, D)[:, :, channels],
            np.asarray(mask).reshape(B, N),
        )
        np.testing.assert_allclose(out.reshape(B, N, D)[:, :, channels], expected, atol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 7), (1, 6)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_module_shape_and_dtype(h, w, dtype):
    features, mask = jnp.ones((2, h, w, D)), jnp.ones((2, h, w, 1), bool)
    module = gca.GlobalCrossAttention(D, dtype=dtype)
    out, variables = jax.eval_shape(
        module.init_with_output, jax.random.key(0), features, mask, grid.coordinates(h, w)
    )
    chex.assert_shape(out, (2, h, w, D))
    chex.assert_type(out, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(AssertionError):
        gca.attend(jnp.zeros((2, 2)), jnp.zeros((1, 2, 1)), jnp.ones((1, 2)))
