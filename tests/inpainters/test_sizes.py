"""Parameter counts of the inpainters, published and small."""

import functools

import jax
import jax.numpy as jnp
import pytest

from ifanp_jax.inpainters.networks import context_encoder, glcic, shift_net
from ifanp_jax.inpainters.networks.context_encoder import ContextEncoder
from ifanp_jax.inpainters.networks.glcic import GLCIC
from ifanp_jax.inpainters.networks.se_shift_net import SEShiftNet
from ifanp_jax.inpainters.networks.shift_net import ShiftNet


def count(model, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, size, size, 1), bool)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image, mask)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"])), variables


def count_norms(variables):
    paths = jax.tree_util.tree_leaves_with_path(variables["params"])
    return sum(leaf.size for path, leaf in paths if "BatchNorm" in jax.tree_util.keystr(path))


HOLE_CHANNEL = 16 * 64  # 4x4 kernel, 64 channels


def test_published_parameter_counts():
    assert count(ShiftNet(3), 256)[0] == 54_933_891 + HOLE_CHANNEL
    blocks = 43_924 + 174_888 + 697_936 + 2 * 2_788_512
    assert count(SEShiftNet(3), 256)[0] == 54_933_891 + HOLE_CHANNEL + blocks
    assert count(GLCIC(3), 256)[0] == 6_072_131
    total, variables = count(ContextEncoder(3, region="centre"), 128)
    assert total - count_norms(variables) == 71_118_691
    total, variables = count(ContextEncoder(3), 128)
    enlarging = 16 * 64 * 64 + 64
    assert total - count_norms(variables) == 71_118_691 + HOLE_CHANNEL + enlarging


@pytest.mark.parametrize(
    ("make", "forms", "size", "expected"),
    [
        (ShiftNet, shift_net.SMALL_FORMS, 64, 7_445_187),
        (ShiftNet, shift_net.SMALL_FORMS, 32, 4_200_643),
        (SEShiftNet, shift_net.SMALL_FORMS, 64, 7_675_081),
        (SEShiftNet, shift_net.SMALL_FORMS, 32, 4_255_649),
        (GLCIC, glcic.SMALL_FORMS, 64, 1_522_083),
        (GLCIC, glcic.SMALL_FORMS, 32, 1_522_083),
        (ContextEncoder, context_encoder.OTHER_FORMS, 64, 9_577_659),
        (ContextEncoder, context_encoder.OTHER_FORMS, 32, 4_431_547),
    ],
)
def test_small_parameter_counts(make, forms, size, expected):
    assert count(make(3, **forms[size]), size)[0] == expected
