"""Operations, bytes and bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks import roofline
from configs import digits_multiscale
from ifanp_jax import benchmark
from ifanp_jax.runtime import flops
from ifanp_jax.training import dispatch, runs
from tests import tiny


def make_multiscale():
    config = digits_multiscale.get_config()
    config.model.update(widths=(4, 8), down_blocks=(1, 1), up_blocks=(1,))
    config.train.update(batch_size=4)
    return config


def test_a_bound_is_the_larger_of_both_times():
    device = roofline.Device("device", flops_per_second=1e12, bytes_per_second=1e9)
    assert roofline.bound(2e9, 1e6, device) == {"milliseconds": 2.0, "reason": "products"}
    assert roofline.bound(2e9, 5e6, device) == {"milliseconds": 5.0, "reason": "memory"}


def test_a_product_reads_its_inputs_and_writes_its_result():
    left, right = jax.ShapeDtypeStruct((64, 32), jnp.float32), jax.ShapeDtypeStruct((32, 8), jnp.float32)
    row = roofline.count("product", flops.list_products(jnp.matmul, left, right))
    assert row["flops"] == 2 * 64 * 32 * 8
    assert row["bytes"] == 2 * (64 * 32 + 32 * 8 + 64 * 8)


def test_a_part_is_the_first_module_within_the_verb_of_the_model():
    assert roofline.part_of("/transpose(jvp(M))/M.decode/decoder/Conv_0/transpose()", "M") == "decoder"
    assert roofline.part_of("/vmap()", "M") == roofline.part_of("", "M") == roofline.REST


@pytest.mark.parametrize(
    ("config", "num_parts"), [(tiny.make_config(), 5), (make_multiscale(), 6)], ids=["IFANP", "multiscale"]
)
def test_the_parts_add_up_to_the_step(config, num_parts):
    result = roofline.run(benchmark.prepare(config), (8, 8, 1))
    *parts, whole = result["rows"]
    assert len(parts) == num_parts and whole["part"] == roofline.WHOLE
    assert sum(row["bytes"] for row in parts) == whole["bytes"]
    new = runs.make(config, (8, 8, 1))
    step_flops = dispatch.count_step_flops(dataclasses.replace(new, state=runs.abstract_state(new)))
    assert sum(row["flops"] for row in parts) == whole["flops"] == step_flops
    assert len(roofline.list_lines(result)) == 4 + len(result["rows"])
