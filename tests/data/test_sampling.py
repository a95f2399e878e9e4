import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.data import masks, sampling
from ifanp_jax.errors import UserError
from ifanp_jax.training import loop
from tests import tiny

SIZES = [1, 2, 3, 4, 5, 16, 17, 1000, 60_000]


@pytest.mark.parametrize("size", SIZES)
def test_permute_is_a_bijection(size):
    index = jnp.arange(size, dtype=jnp.uint32)
    permuted = np.asarray(sampling.permute(jax.random.key(0), index, size))
    assert permuted.dtype == np.uint32
    np.testing.assert_array_equal(np.sort(permuted), np.arange(size))


@pytest.mark.parametrize("size", [17, 1000])
def test_permutations_differ_by_key_and_have_no_visible_order(size):
    index = jnp.arange(size, dtype=jnp.uint32)
    permute = jax.jit(sampling.permute, static_argnums=2)
    first, second = (np.asarray(permute(jax.random.key(seed), index, size), np.int64) for seed in (0, 1))
    for a, b in ((first, second), (first, np.arange(size)), (second, np.arange(size))):
        assert np.mean(a == b) < 0.3
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(size)


def test_every_position_of_a_permutation_reaches_every_place():
    keys = jax.random.split(jax.random.key(0), 2000)
    permuted = jax.jit(jax.vmap(lambda key: sampling.permute(key, jnp.arange(10, dtype=jnp.uint32), 10)))(
        keys
    )
    for position in range(10):
        counts = np.bincount(np.asarray(permuted)[:, position], minlength=10)
        assert np.all(np.abs(counts - 200) < 5 * np.sqrt(180))


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 5), (10, 4), (10, 3), (3, 7), (1, 4), (5, 5)])
def test_every_image_comes_once_per_epoch(num_images, batch_size):
    num_epochs = 6
    indices = jax.jit(
        lambda step: sampling.batch_indices(
            jax.random.key(0), step, num_images=num_images, batch_size=batch_size
        )
    )
    num_steps = -(-num_epochs * num_images // batch_size)
    stream = np.concatenate([indices(jnp.int32(step)) for step in range(num_steps)])
    epochs = stream[: num_epochs * num_images].reshape(num_epochs, num_images)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(num_images), (num_epochs, 1)))
    if num_images >= 5:
        assert len(np.unique(epochs, axis=0)) > 1


def test_the_last_batch_that_may_be_asked_for_is_right_and_one_more_is_refused():
    num_steps, batch_size, num_images = 2**26, 64, 10
    config = tiny.make_config(**{"train.batch_size": batch_size, "train.num_steps": num_steps})
    loop.check_length(config, 1)
    for longer, num_batches in ((num_steps + 1, 1), (num_steps, 2)):
        config.train.num_steps = longer
        allowed = num_steps // num_batches
        with pytest.raises(UserError, match=rf"at most config\.train\.num_steps={allowed}\.$"):
            loop.check_length(config, num_batches)
    config.train.update(batch_size=1, num_steps=2**32)  # each position of 32 bits once
    loop.check_length(config, 1)
    config.train.num_steps += 1
    with pytest.raises(UserError, match=rf"num_steps={2**32}\.$"):
        loop.check_length(config, 1)
    indices = sampling.batch_indices(
        jax.random.key(0), num_steps - 1, num_images=num_images, batch_size=batch_size
    )
    epoch = (np.arange(batch_size) + (num_steps - 1) * batch_size) // num_images
    for number in np.unique(epoch)[1:-1]:  # the whole ones
        np.testing.assert_array_equal(np.sort(indices[epoch == number]), np.arange(num_images))


def test_to_float_maps_bytes_to_the_unit_interval():
    values = sampling.to_float(jnp.arange(256, dtype=jnp.uint8))
    chex.assert_type(values, jnp.float32)
    np.testing.assert_allclose(values, np.arange(256) / 255, rtol=1e-6)
    assert values[0] == 0 and values[-1] == 1


@pytest.fixture(scope="module")
def sampler():
    order_key, mask_key, augmentation_key = jax.random.split(jax.random.key(0), 3)
    make_batch = sampling.make_sampler(
        mask_key, augmentation_key, masks.make_sampler(tiny.make_config().mask), flips="none"
    )

    def sample(images, step):
        indices = sampling.batch_indices(order_key, step, num_images=len(images), batch_size=4)
        return make_batch(jnp.asarray(images)[indices], step)

    return sample


IMAGES = np.random.default_rng(0).integers(0, 256, (9, 6, 8, 1), np.uint8)


def test_batch_holds_images_as_floats_with_masks(sampler):
    batch = jax.jit(sampler)(IMAGES, jnp.int32(2))
    chex.assert_shape(batch.image, (4, 6, 8, 1))
    chex.assert_shape(batch.mask, (4, 6, 8, 1))
    chex.assert_type([batch.image, batch.mask], [jnp.float32, bool])
    for image in np.asarray(batch.image):
        assert np.any(np.all(np.round(image * 255) == IMAGES, axis=(1, 2, 3)))


def test_batch_is_a_function_of_key_and_step(sampler):
    compiled = jax.jit(sampler)
    at_two = compiled(IMAGES, jnp.int32(2))
    chex.assert_trees_all_equal(at_two, compiled(IMAGES, jnp.int32(2)))
    chex.assert_trees_all_close(at_two, sampler(IMAGES, jnp.int32(2)), atol=1e-6)
    at_three = compiled(IMAGES, jnp.int32(3))
    assert np.any(at_two.image != at_three.image) and np.any(at_two.mask != at_three.mask)
    counts = {int(compiled(IMAGES, jnp.int32(step)).mask[0].sum()) for step in range(12)}
    assert len(counts) > 3
