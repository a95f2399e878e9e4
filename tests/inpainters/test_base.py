import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.inpainters import base

B, H, W, C = 2, 3, 4, 2


def draw():
    image = jax.random.uniform(jax.random.key(0), (B, H, W, C))
    return image, jax.random.bernoulli(jax.random.key(1), 0.5, (B, H, W, 1))


def test_the_hole_is_0_inside_even_where_it_was_nan():
    image, mask = draw()
    inside = base.to_inside(jnp.where(mask, image, jnp.nan), mask)
    np.testing.assert_allclose(inside, np.where(mask, 2 * image - 1, 0), atol=1e-6)


def test_from_inside_undoes_to_inside_and_clips():
    image, _ = draw()
    inside = base.to_inside(image, jnp.ones((B, H, W, 1), bool))
    np.testing.assert_allclose(base.from_inside(inside), image, atol=1e-6)
    out = base.from_inside(jnp.array([-3.0, -1.0, 0.0, 1.0, 2.0], jnp.bfloat16))
    np.testing.assert_array_equal(out, np.array([0, 0, 0.5, 1, 1], np.float32))
    chex.assert_type(out, jnp.float32)


def test_composite_keeps_what_is_observed():
    image, mask = draw()
    prediction = jnp.full_like(image, 7.0)
    whole = base.composite(jnp.where(mask, image, jnp.nan), mask, prediction)
    np.testing.assert_array_equal(whole, np.where(mask, image, 7))


def test_mask_channels():
    image, mask = draw()
    x = base.mask_channels(image, mask)
    chex.assert_shape(x, (B, H, W, C + 2))
    np.testing.assert_array_equal(x[..., :C], image)
    np.testing.assert_array_equal(x[..., C], 1)
    np.testing.assert_array_equal(x[..., C + 1 :], ~mask)


def test_repeated_prediction():
    image, _ = draw()
    completion = base.repeat_prediction(image, 3)
    chex.assert_shape(completion.samples, (3, B, H, W, C))
    np.testing.assert_array_equal(completion.samples[2], image)
    assert completion.scale is None


def test_an_answer_may_be_jitted_without_its_optional_parts():
    image, _ = draw()
    answer = jax.jit(lambda x: base.Inpainting(prediction=x, raw=x))(image)
    assert answer.coarse is None and answer.attention is None and answer.features is None


@pytest.mark.parametrize("function", [base.to_inside, base.composite])
def test_a_mask_of_numbers_is_refused(function):
    image, mask = draw()
    arguments = (image, mask.astype(jnp.float32), image)
    with pytest.raises(AssertionError):
        function(*arguments[: 2 if function is base.to_inside else 3])
