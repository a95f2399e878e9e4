"""The convolution with a gradient in blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax.modules.fast import conv3x3

OPTIONS = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def make_arrays(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = jax.random.normal(keys[0], (7, 6, 5, 3)), jax.random.normal(keys[1], (3, 3, 3, 4))
    return x.astype(dtype), kernel.astype(dtype)


def gradients(convolve, x, kernel, strides, padding):
    apply = functools.partial(convolve, window_strides=strides, padding=padding, **OPTIONS)
    out, back = jax.vjp(apply, x, kernel)
    return out, *back(jnp.cos(jnp.arange(out.size)).reshape(out.shape).astype(out.dtype))


@pytest.mark.parametrize(
    ("strides", "padding", "block_bytes"),  # blocks of 1, 2 or all images
    [
        ((1, 1), "SAME", 1),
        ((1, 1), "SAME", 4 * 6 * 5 * 4 * 2),
        ((2, 1), [(0, 1), (2, 0)], 4 * 3 * 5 * 4 * 2),
        ((1, 1), "SAME", 2**19),
    ],
)
def test_answers_and_gradients_are_those_of_lax(strides, padding, block_bytes, monkeypatch):
    monkeypatch.setattr(conv3x3, "BLOCK_BYTES", block_bytes)
    arrays = make_arrays()
    ours = gradients(conv3x3.convolve, *arrays, strides, padding)
    theirs = gradients(jax.lax.conv_general_dilated, *arrays, strides, padding)
    for value, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-4)


def test_blocks_are_added_up_in_float32(monkeypatch):
    monkeypatch.setattr(conv3x3, "BLOCK_BYTES", 1)
    arrays = make_arrays(jnp.bfloat16)
    exact = gradients(jax.lax.conv_general_dilated, *(x.astype(jnp.float32) for x in arrays), (1, 1), "SAME")
    found = gradients(conv3x3.convolve, *arrays, (1, 1), "SAME")
    assert found[2].dtype == jnp.bfloat16
    np.testing.assert_allclose(found[2].astype(jnp.float32), exact[2], rtol=2e-2, atol=0.2)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((32, 32, 32, 32), 4),
        ((16, 16, 16, 96), 4),
        ((32, 8, 8, 128), 16),
        ((4, 512, 512, 32), 1),
        ((128, 32, 32, 32), 16),
    ],
)
def test_a_block_fits_the_cache_and_there_are_few(shape, count):
    assert conv3x3.count_images(shape) == count


@pytest.mark.parametrize(("platform", "count"), [("cpu", 2 + 7), ("cuda", 3), ("tpu", 3)])
def test_only_a_cpu_computes_blocks(platform, count, monkeypatch):
    monkeypatch.setattr(conv3x3, "BLOCK_BYTES", 1)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    traced = jax.jit(lambda *x: gradients(conv3x3.convolve, *x, (1, 1), "SAME")).trace(*make_arrays())
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution(") == count
