"""The losses of each family but the adversarial one, in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from ifanp_jax import models
from ifanp_jax.data.sampling import Batch
from ifanp_jax.inpainters import adversaries
from ifanp_jax.inpainters.base import Inpainting
from tests.inpainters import trainings

SIDE = 32
GENERATOR = np.random.default_rng(0)
IMAGE, RAW, COARSE = GENERATOR.random((3, 1, SIDE, SIDE, 3), np.float32)
MASK = np.ones((1, SIDE, SIDE, 1), bool)
MASK[:, 10:13, 20:23] = False  # its centre is two pixels from what is known, the others are one
X = 2 * IMAGE - 1


def list_losses(name, **changes):
    model = models.get({"name": name} | trainings.MODELS[name], channels=3)
    adversary = adversaries.get(model)
    maps = {"decoder": RAW[:, :4, :4], "truth": COARSE[:, :4, :4], "hole": np.ones((1, 4, 4, 1), np.float32)}
    answer = Inpainting(
        prediction=(RAW + 1) / 2, raw=jnp.asarray(RAW), coarse=jnp.asarray(COARSE), features=maps
    )
    batch = Batch(image=jnp.asarray(IMAGE), mask=jnp.asarray(MASK))
    found = adversary.list_losses(dict(adversary.fields) | changes, answer, batch)
    return {name: float(value[0]) for name, value in found.items()}


def in_hole(error):
    return error[np.broadcast_to(~MASK, error.shape)].mean()


def test_deepfill():
    weight = np.where(MASK, 1, 0.5).astype(np.float32)
    weight[:, 11, 21] = 0.25  # gamma^2
    found = list_losses("deepfill.DeepFill64", gamma=0.5, l1_weight=3.0)
    expected = 1.2 * (1.2 * in_hole(np.abs(X - COARSE) * weight) + 3 * in_hole(np.abs(X - RAW) * weight))
    assert found["l1"] == pytest.approx(expected, rel=1e-5)
    known = np.broadcast_to(MASK, X.shape)
    expected = 1.2 * (1.2 * np.abs(X - COARSE)[known].mean() + 3 * np.abs(X - RAW)[known].mean())
    assert found["autoencoder"] == pytest.approx(expected, rel=1e-5)


def test_context_encoder():
    square = np.square(X - RAW)
    ring = square[:, 9:14, 19:24]  # one pixel wide
    expected = (10 * ring.sum() - 9 * square[:, 10:13, 20:23].sum()) / ring.size
    found = list_losses("context_encoder.ContextEncoder", mse_weight=2.0)
    assert found == {"mse": pytest.approx(2 * expected, rel=1e-5)}


def test_glcic():
    expected = in_hole(np.square(IMAGE - (RAW + 1) / 2))
    assert list_losses("glcic.GLCIC", mse_weight=2.0) == {"mse": pytest.approx(2 * expected, rel=1e-5)}


@pytest.mark.parametrize("name", ["shift_net.ShiftNet", "se_shift_net.SEShiftNet"])
def test_shift_net(name):
    found = list_losses(name, l1_weight=2.0, guidance_weight=3.0)
    assert found["l1"] == pytest.approx(2 * np.abs(X - RAW).mean(), rel=1e-5)
    guidance = np.square(RAW - COARSE)[:, :4, :4].mean()
    assert found["guidance"] == pytest.approx(3 * guidance, rel=1e-5)
    has_style = name.startswith("se")
    assert set(found) == {"l1", "guidance"} | ({"style"} if has_style else set())
    if has_style:
        twice = list_losses(name, style_weight=20.0)["style"]
        assert found["style"] > 0 and twice == pytest.approx(2 * found["style"], rel=1e-5)
