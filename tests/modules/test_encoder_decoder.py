import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules import encoder_decoder, grid

GRIDS = [(4, 4), (3, 5), (1, 6)]


@pytest.mark.parametrize(("h", "w"), GRIDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_encoder_keeps_the_grid(h, w, dtype):
    encoder = encoder_decoder.ConvEncoder(6, 2, dtype=dtype)
    out, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(1), jnp.zeros((2, h, w, 5)))
    chex.assert_shape(out, (2, h, w, 6))
    chex.assert_type(out, dtype)
    chex.assert_type(jax.tree.leaves(variables), jnp.float32)


def test_encoder_sees_as_far_as_it_says():
    encoder = encoder_decoder.ConvEncoder(4, 2)
    x = jax.random.normal(jax.random.key(0), (1, 9, 9, 1))
    variables = jax.jit(encoder.init)(jax.random.key(1), x)
    apply = jax.jit(encoder.apply)
    out, changed = (np.asarray(apply(variables, one)) for one in (x, x.at[0, 4, 4, 0].add(1.0)))
    is_different = np.any(out != changed, axis=-1)[0]
    expected = np.zeros((9, 9), bool)
    expected[2:7, 2:7] = True  # 2 * depth + 1 = 5 pixels wide
    np.testing.assert_array_equal(is_different, expected)


@pytest.mark.parametrize(("h", "w"), GRIDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("has_features", [True, False])
def test_decoder_shape_and_dtype(h, w, dtype, has_features):
    features = jnp.zeros((2, h, w, 5)) if has_features else None
    decoder = encoder_decoder.DeconvDecoder(6, 1, 2, dtype=dtype)
    out, variables = jax.eval_shape(
        decoder.init_with_output, jax.random.key(1), jnp.zeros((3, 2, 4)), features, jnp.zeros((h, w, 2))
    )
    chex.assert_shape(out, (3, 2, h, w, 2))
    chex.assert_type([out, *jax.tree.leaves(variables)], jnp.float32)


def test_decoder_first_layer_is_the_pointwise_map_of_the_concatenation():
    z = jax.random.normal(jax.random.key(0), (2, 3, 4))
    features = jax.random.normal(jax.random.key(1), (3, 2, 5, 6))
    positions = grid.coordinates(2, 5)
    decoder = encoder_decoder.DeconvDecoder(7, 0, 1)
    out, variables = jax.jit(decoder.init_with_output)(jax.random.key(2), z, features, positions)
    params = jax.tree.map(np.asarray, variables["params"])
    kernel = np.concatenate(
        [params[name]["kernel"] for name in ("from_z", "from_features", "from_coordinates")]
    )
    parts = np.concatenate(
        [
            np.broadcast_to(np.asarray(z)[:, :, None, None], (2, 3, 2, 5, 4)),
            np.broadcast_to(np.asarray(features)[None], (2, 3, 2, 5, 6)),
            np.broadcast_to(np.asarray(positions)[None, None], (2, 3, 2, 5, 2)),
        ],
        axis=-1,
    )
    hidden = np.asarray(jax.nn.gelu(parts @ kernel + params["from_z"]["bias"]))
    expected = hidden @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def divided_mean(features, mask):
    """Mean over all pixels, then the division module."""
    return encoder_decoder.divide_by_observed(
        encoder_decoder.weighted_mean(features, jnp.ones((*features.shape[1:3], 1))), mask
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_division_module_gives_the_mean_over_observed_pixels(dtype):
    features = jax.random.normal(jax.random.key(0), (3, 4, 5, 2), dtype)
    mask = jax.random.bernoulli(jax.random.key(1), 0.4, (3, 4, 5, 1))
    pooled = divided_mean(jnp.where(mask, features, 0), mask)
    chex.assert_type(pooled, jnp.float32)
    for image, observed, mean in zip(features, mask[..., 0], pooled, strict=True):
        squeezed = np.asarray(image, np.float64)[np.asarray(observed)]
        np.testing.assert_allclose(mean, squeezed.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_the_division_module_sums_what_an_encoder_says_elsewhere():
    features = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    mask = jax.random.bernoulli(jax.random.key(1), 0.4, (2, 4, 5, 1))
    expected = np.sum(features, axis=(1, 2)) / np.sum(mask, axis=(1, 2))
    np.testing.assert_allclose(divided_mean(features, mask), expected, rtol=1e-5)


def test_the_division_module_divides_an_empty_context_by_one_pixel():
    features = jax.random.normal(jax.random.key(0), (1, 3, 4, 2))
    pooled = divided_mean(features, jnp.zeros((1, 3, 4, 1), bool))
    np.testing.assert_allclose(pooled, features.sum(axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("size", [(4, 5), (1, 3), (2, 1)])
def test_mean_taps_are_what_a_convolution_sees_on_average(size):
    x, shares = (
        jax.random.normal(jax.random.key(0), (2, *size, 3)),
        jax.random.uniform(jax.random.key(1), size),
    )
    padded, expected = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), np.zeros((2, 3, 3, 3))
    for row, column in np.ndindex(size):
        expected += float(shares[row, column]) * padded[:, row : row + 3, column : column + 3]
    np.testing.assert_allclose(encoder_decoder.mean_taps(x, shares), expected / shares.size, atol=1e-6)


@pytest.mark.parametrize(
    ("depth", "channels", "dtype"),
    [(2, 1, "float32"), (2, 4, "float32"), (0, 1, "float32"), (2, 1, "bfloat16")],
)
def test_the_mean_of_an_encoder_is_that_of_its_map(depth, channels, dtype):
    encoder = encoder_decoder.ConvEncoder(4, depth, dtype=jnp.dtype(dtype))
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    shares = jax.random.uniform(jax.random.key(1), (5, 6, channels))
    variables = encoder.init(jax.random.key(2), x, shares, method="mean")
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, encoder.init(jax.random.key(2), x))
    bias = jax.tree.map(lambda leaf: leaf + 0.3, variables)  # none of them 0

    def of_map(variables):
        return (encoder.apply(variables, x).astype(jnp.float32) * shares[None]).mean(axis=(1, 2))

    def directly(variables):
        return encoder.apply(variables, x, shares, method="mean")

    tolerance = 1e-5 if dtype == "float32" else 0.03
    found, expected = directly(bias), of_map(bias)
    chex.assert_type(found, jnp.float32)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    gradients = [jax.grad(lambda v, f=f: jnp.square(f(v)).sum())(bias) for f in (directly, of_map)]
    chex.assert_trees_all_close(*gradients, rtol=10 * tolerance, atol=10 * tolerance)
