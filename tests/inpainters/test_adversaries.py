"""The losses of each family but the adversarial one, in closed form."""

import functools

import chex
import jax
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


@functools.cache
def compiled(name):
    adversary = adversaries.get(models.get({"name": name} | trainings.MODELS[name], channels=3))

    @jax.jit
    def compute(answer, image, mask, changes):
        return adversary.list_losses(adversary.fields | changes, answer, Batch(image=image, mask=mask))

    return compute


def list_losses(name, **changes):
    maps = {"decoder": RAW[:, :4, :4], "truth": COARSE[:, :4, :4], "hole": np.ones((1, 4, 4, 1), np.float32)}
    answer = Inpainting(prediction=(RAW + 1) / 2, raw=RAW, coarse=COARSE, features=maps)
    return {loss: float(value[0]) for loss, value in compiled(name)(answer, IMAGE, MASK, changes).items()}


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


def test_shift_nets():
    changes = {"l1_weight": 2.0, "guidance_weight": 3.0}
    found = list_losses("shift_net.ShiftNet", **changes)
    assert found == {
        "l1": pytest.approx(2 * np.abs(X - RAW).mean(), rel=1e-5),
        "guidance": pytest.approx(3 * np.square(RAW - COARSE)[:, :4, :4].mean(), rel=1e-5),
    }
    with_style, twice = (
        list_losses("se_shift_net.SEShiftNet", style_weight=weight, **changes) for weight in (10.0, 20.0)
    )
    style = with_style.pop("style")
    assert with_style == pytest.approx(found) and style > 0
    assert twice["style"] == pytest.approx(2 * style, rel=1e-5)


@pytest.mark.parametrize("name", trainings.MODELS)
def test_critics_see_the_image_the_window_of_the_hole_or_the_centre_in_the_model_s_precision(name):
    x, start = jnp.arange(64.0).reshape(1, 8, 8, 1), jnp.array([[1, 3]])
    window, centre = x[:, 1:5, 3:7], x[:, 2:6, 2:6]
    expected = {
        "deepfill.DeepFill64": {"global": [x], "local": [window]},
        "glcic.GLCIC": {"both": [x, window]},
        "context_encoder.ContextEncoder": {"region": [x]},
        "shift_net.ShiftNet": {"patches": [x]},
        "se_shift_net.SEShiftNet": {"whole": [x]},
    }[name]
    fields = trainings.MODELS[name] | {"compute_dtype": "bfloat16"}
    forms = [({}, expected)]
    if name.startswith("context"):
        forms.append(({"region": "centre"}, {"region": [centre]}))
    for form, expected in forms:
        model = models.get({"name": name} | fields | form, channels=3)
        adversary = adversaries.get(model)
        made = adversary.make_critics(model, adversary.fields, 64)
        for critic in made.values():
            assert critic.network.dtype == jnp.bfloat16
        chex.assert_trees_all_equal({key: [*critic.look(x, start)] for key, critic in made.items()}, expected)


def test_deepfill_s_critics_stride_less_over_small_images():
    model = models.get({"name": "deepfill.DeepFill32"}, channels=3)
    adversary = adversaries.get(model)
    for side, last in ((32, (256, 256)), (64, (256, 512))):
        made = adversary.make_critics(model, adversary.fields, side)
        widths = [made[name].network.widths for name in ("global", "local")]
        assert [len(one) for one in widths] == [3 if side == 32 else 4] * 2
        assert tuple(one[-1] for one in widths) == last
